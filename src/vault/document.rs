//! A YAML file with secrets in it, as text: values are read, put in and taken over where they stand; comments, order and
//! everything else stay as they are.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::keypath::{KeyPath, Step, child, steps};
use crate::error::{Error, Result};
use crate::source::{Diagnostic, Kind, Node, Source, yaml};

/// A tagged value as it stands in a document.
#[derive(Debug, Clone)]
pub struct Tagged {
    /// The keys that lead to it.
    pub path: KeyPath,
    /// Its tag: `!age` or `!vault`.
    pub tag: String,
    /// The text behind the tag; nothing when it is not text.
    pub text: Option<String>,
    /// The line it stands on, counted from 1.
    pub line: usize,
    /// The name others repeat it by.
    pub(super) anchor: Option<String>,
    /// Where its node begins: at the tag, or at an anchor before it.
    at: usize,
    /// From the tag to the end of the text. An anchor before the tag is outside, one behind it inside.
    pub(super) range: Range<usize>,
    pub(super) slot: Slot,
}

impl Tagged {
    /// An armored value in its place.
    pub(super) fn armored(&self, text: &str) -> String {
        self.anchored(armored(text, self.slot))
    }

    /// A plain value in its place, with its tag.
    pub(super) fn plain(&self, text: &str) -> Zeroizing<String> {
        Zeroizing::new(self.anchored(plain(text, self.slot).to_string()))
    }

    /// With the anchor behind the tag, where one was.
    fn anchored(&self, mut new: String) -> String {
        if self.at == self.range.start
            && let (Some(name), Some(i)) = (&self.anchor, new.find(' '))
        {
            new.insert_str(i, &format!(" &{name}"));
        }
        new
    }
}

/// Which of these values stands at a node, or is repeated there by an alias.
pub(super) fn which<'a>(values: &'a [Tagged], node: &Node) -> Option<&'a Tagged> {
    let start = node.span.range.start;
    match node.span.text().strip_prefix('*') {
        Some(name) => values.iter().rev().find(|v| v.at < start && v.anchor.as_deref() == Some(name.trim_end())),
        None => values.iter().find(|v| (v.at..=v.range.end).contains(&start)),
    }
}

/// The tags of encrypted values: ours, and Ansible's two.
pub(super) const SEALED: [&str; 3] = ["!age", "!vault", "!vault-encrypted"];

/// What stands before a value: its tag and its anchor.
#[derive(Default)]
struct Before {
    tag: Option<Range<usize>>,
    anchor: Option<Range<usize>>,
}

/// How a value must be written where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The column its lines are indented to.
    pub indent: usize,
    /// Within `{…}` or `[…]`, where no block can stand.
    pub flow: bool,
}

/// A parsed file.
pub struct Document {
    pub(super) source: Arc<Source>,
    pub(super) root: Node,
}

impl Document {
    /// Parses a file's text.
    ///
    /// # Errors
    /// It is not valid YAML, or more than one document; an encrypted value is in it whose tag cannot be found.
    pub fn parse(shown: &Path, text: &str, secret: bool) -> Result<Document> {
        let source = if secret { Source::secret(shown, text) } else { Source::new(shown, text) };
        let root = yaml::parse(&source).map_err(said)?;
        let document = Document { source, root };
        // One that is not seen would be passed over by whatever is done with all of them.
        let mut lost = None;
        document.root.walk(&mut |n| {
            let tag = n.tag.as_deref().filter(|t| SEALED.contains(t));
            if tag.is_some_and(|t| document.tagged_range(n, t).is_none()) && !n.span.text().starts_with('*') {
                lost = lost.or(Some(n.span.range.start));
            }
        });
        match lost {
            None => Ok(document),
            Some(at) => {
                let line = document.source.line_column(at).0;
                Err(Error::input(format!("{}:{line}: where this value's tag stands cannot be told", shown.display()))
                    .hint("Write it as `KEY: !age |`, with the block below."))
            }
        }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// The values with a tag, in the order in which they stand; what an alias repeats is there once.
    pub fn tagged(&self) -> Vec<Tagged> {
        let mut found = vec![];
        self.collect(&self.root, &KeyPath::default(), &mut found);
        found.sort_by_key(|t: &Tagged| t.range.start);
        found.dedup_by_key(|t| t.range.start);
        found
    }

    /// The `!age` values.
    pub fn values(&self) -> Vec<Tagged> {
        self.tagged().into_iter().filter(|t| t.tag == "!age").collect()
    }

    fn collect(&self, node: &Node, path: &KeyPath, found: &mut Vec<Tagged>) {
        if let Some(tag) = &node.tag
            && let Some(range) = self.tagged_range(node, tag)
        {
            found.push(Tagged {
                path: path.clone(),
                tag: tag.clone(),
                text: node.as_str().map(str::to_string),
                line: self.source.line_column(range.start).0,
                anchor: self.before(node.span.range.start).anchor.and_then(|r| self.text().get(r)).map(str::to_string),
                at: node.span.range.start.min(range.start),
                slot: self.slot(range.start),
                range,
            });
            return;
        }
        for (step, below) in steps(node) {
            self.collect(below, &path.with(step), found);
        }
    }

    /// From the tag to the end of the value's text.
    fn tagged_range(&self, node: &Node, tag: &str) -> Option<Range<usize>> {
        let text = self.text();
        let span = &node.span.range;
        let own = self.before(span.start).tag?;
        let written = text.get(own.clone())?;
        if written != tag && written.strip_prefix("!<").and_then(|t| t.strip_suffix('>')) != Some(tag) {
            return None;
        }
        let start = own.start;
        let end = start + text.get(start..span.end.max(start))?.trim_end().len();
        Some(start..end)
    }

    /// The tag and the anchor of a node that begins at `at`, in whatever order.
    fn before(&self, at: usize) -> Before {
        let mut found = Before::default();
        let mut at = at;
        loop {
            let rest = self.text().get(at..).unwrap_or_default();
            let end =
                |ends: &[char]| at + rest.find(|c: char| c.is_whitespace() || ends.contains(&c)).unwrap_or(rest.len());
            match rest.chars().next() {
                Some(c) if c.is_whitespace() => at += c.len_utf8(),
                Some('#') => at += rest.find('\n').unwrap_or(rest.len()),
                Some('&') if found.anchor.is_none() => {
                    let end = end(&[',', '[', ']', '{', '}']);
                    found.anchor = Some(at + 1..end);
                    at = end;
                }
                Some('!') if found.tag.is_none() => {
                    let end = end(&[',', '[', ']', '{', '}']);
                    found.tag = Some(at..end);
                    at = end;
                }
                _ => return found,
            }
        }
    }

    /// SOPS's encrypted comments, in the clear. Which mapping a comment belongs to is tried out.
    pub(super) fn comments(&self, key: &[u8]) -> Vec<(Range<usize>, String)> {
        let mut places: Vec<Vec<String>> = vec![vec![]];
        fn gather(node: &Node, at: &[String], into: &mut Vec<Vec<String>>) {
            for (step, below) in steps(node) {
                let mut keys = at.to_vec();
                if let Step::Key(k) = step {
                    keys.push(k);
                }
                if !into.contains(&keys) {
                    into.push(keys.clone());
                }
                gather(below, &keys, into);
            }
        }
        let mut found = vec![];
        let mut at = 0;
        for line in self.text().split_inclusive('\n') {
            if let Some(i) = line.find("#ENC[").filter(|i| line.get(..*i).is_some_and(|b| b.trim().is_empty())) {
                if places.len() == 1 {
                    gather(&self.root, &[], &mut places);
                }
                let sealed = line.get(i + 1..).unwrap_or_default().trim_end();
                let plain = places.iter().find_map(|keys| {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    super::sops::open(sealed, key, &keys)
                });
                if let Some((plain, _)) = plain {
                    found.push((at + i + 1..at + i + 1 + sealed.len(), plain.to_string()));
                }
            }
            at += line.len();
        }
        found
    }

    /// The lines of a key at the top, with its value.
    pub(super) fn entry_range(&self, key: &str) -> Option<Range<usize>> {
        let entry = self.root.entry(key)?;
        let end = self.end_of(&entry.value).max(entry.key_span.range.end);
        Some(entry.key_span.range.start..self.end_of_line(end))
    }

    /// How a value that starts at `at` is to be written.
    pub(super) fn slot(&self, at: usize) -> Slot {
        let flow = within_flow(&self.root, at);
        let text = self.text();
        // The key or the dash before it.
        let before = text.get(..at).unwrap_or_default().trim_end();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = before.get(line_start..).unwrap_or_default();
        let column = if line.ends_with(':') {
            let dashes = line.len() - line.trim_start_matches([' ', '-']).len();
            line.get(..dashes).map_or(0, |d| d.chars().count())
        } else if line.ends_with('-') {
            line.chars().count() - 1
        } else {
            line.len() - line.trim_start().len()
        };
        Slot { indent: column + 2, flow }
    }

    /// The text with these parts replaced.
    pub fn replaced(&self, mut parts: Vec<(Range<usize>, String)>) -> Zeroizing<String> {
        parts.sort_by_key(|(r, _)| r.start);
        let mut out =
            Zeroizing::new(String::with_capacity(self.text().len() + parts.iter().map(|p| p.1.len()).sum::<usize>()));
        let mut at = 0;
        let crlf = self.text().contains("\r\n");
        for (range, text) in &parts {
            out.push_str(self.text().get(at..range.start).unwrap_or_default());
            // New lines end as the others do.
            match text.contains('\n') && crlf {
                true => out.push_str(&Zeroizing::new(text.replace("\r\n", "\n").replace('\n', "\r\n"))),
                false => out.push_str(text),
            }
            at = range.end;
        }
        out.push_str(self.text().get(at..).unwrap_or_default());
        out
    }

    /// The text with the text of values replaced, ready to be written: nothing else is different in it.
    ///
    /// # Errors
    /// It would not be the same document any more.
    pub(super) fn with_values(&self, parts: Vec<(Range<usize>, String)>) -> Result<Zeroizing<String>> {
        let text = self.replaced(parts);
        let after = Document::parse(&self.source.path, &text, true);
        let shape = |d: &Document| d.tagged().into_iter().map(|t| (t.path, t.anchor)).collect::<Vec<_>>();
        match after {
            Ok(after) if shape(&after) == shape(self) => Ok(text),
            _ => Err(Error::input(format!("{}: a value in it has an unusual form", self.source.path.display()))
                .hint("Write it as `KEY: !age |`, with the block below.")),
        }
    }

    /// The text with the value at `path` put in or replaced; `write` makes it for its place. The parents that are missing
    /// are made.
    ///
    /// # Errors
    /// Something else stands there (a mapping, a list), or the place cannot be reached.
    pub fn set(&self, path: &KeyPath, write: &dyn Fn(Slot) -> String) -> Result<Zeroizing<String>> {
        let tagged = Cell::new(false);
        let noting = |slot: Slot| {
            let new = write(slot);
            tagged.set(new.starts_with('!'));
            new
        };
        let text = self.place(path, &noting)?;
        // What was meant is in, and nothing else is different.
        let wrong = || {
            Error::input(format!("{}: there is no simple place for `{path}`", self.source.path.display()))
                .hint("Write `KEY: x` there by hand (windlass vault edit), then set it.")
        };
        let after = Document::parse(&self.source.path, &text, self.source.secret).map_err(|_| wrong())?;
        let (mut old, mut new) = (self.root.to_value(), after.root.to_value());
        if path.find(&after.root).is_none_or(|n| tagged.get() && n.tag.is_none()) {
            return Err(wrong());
        }
        let numbered = after.numbered(path).ok_or_else(wrong)?;
        without(&mut old, &numbered);
        without(&mut new, &numbered);
        if old != new { Err(wrong()) } else { Ok(text) }
    }

    fn place(&self, path: &KeyPath, write: &dyn Fn(Slot) -> String) -> Result<Zeroizing<String>> {
        let shown = self.source.path.display();
        let (mut node, mut entry_end, mut done) = (&self.root, 0, 0);
        for step in &path.0 {
            let Some(next) = child(node, step) else { break };
            entry_end = match (step, node.as_map()) {
                (Step::Key(k), Some(m)) => m.iter().find(|e| e.key == *k).map_or(0, |e| e.key_span.range.end),
                _ => next.span.range.start,
            };
            (node, done) = (next, done + 1);
        }
        let rest = path.0.get(done..).unwrap_or_default();
        let so_far = || KeyPath(path.0.get(..done).unwrap_or_default().to_vec());
        if rest.is_empty() {
            if node.tag.is_none() && matches!(node.kind, Kind::Map(_) | Kind::Seq(_)) {
                return Err(Error::input(format!("{shown}: `{path}` is {}, not a value", node.what()))
                    .hint("Name a key below it."));
            }
            let range = self.value_range(node, entry_end);
            let anchored = node.tag.is_some() && self.before(node.span.range.start).anchor.is_some();
            if anchored || self.text().get(range.clone()).is_some_and(|t| t.starts_with(['&', '*'])) {
                return Err(Error::input(format!("{shown}: `{path}` is an anchor or an alias"))
                    .hint("Others take their value from it; write it by hand with windlass vault edit."));
            }
            let before = self.text().get(..range.start).unwrap_or_default();
            let space = if before.is_empty() || before.ends_with([' ', '\n']) { "" } else { " " };
            let new = format!("{space}{}", write(self.slot(range.start)));
            return Ok(self.replaced(vec![(range, new)]));
        }
        let keys: Option<Vec<&str>> =
            rest.iter().map(|s| if let Step::Key(k) = s { Some(k.as_str()) } else { None }).collect();
        let Some(keys) = keys.filter(|k| !k.is_empty()) else {
            return Err(Error::input(format!("{shown}: there is no `{path}`"))
                .hint("A new item of a list is written by hand, with windlass vault edit."));
        };
        match &node.kind {
            Kind::Map(entries) if node.tag.is_none() => {
                let flow = node.span.text().starts_with('{');
                if flow {
                    let close = node.span.range.end.saturating_sub(1);
                    let comma = if entries.is_empty() { "" } else { ", " };
                    let at = self.text().get(..close).map_or(close, |t| t.trim_end().len());
                    let new = format!("{comma}{}", nested(&keys, Slot { indent: 0, flow: true }, write));
                    return Ok(self.replaced(vec![(at..at, new)]));
                }
                let first = entries.iter().map(|e| e.key_span.range.start).min().unwrap_or(0);
                let column = self.source.line_column(first).1 - 1;
                let at = self.end_of_line(self.end_of(node));
                Ok(self.replaced(vec![(at..at, self.lines(at, &keys, column, write))]))
            }
            Kind::Null if done == 0 => {
                let at = self.text().len();
                Ok(self.replaced(vec![(at..at, self.lines(at, &keys, 0, write))]))
            }
            Kind::Null => {
                let range = self.value_range(node, entry_end);
                let slot = self.slot(range.start);
                if slot.flow {
                    let new = format!(" {{{}}}", nested(&keys, slot, write));
                    return Ok(self.replaced(vec![(range, new)]));
                }
                let at = self.end_of_line(range.start);
                let mut parts = vec![(at..at, self.lines(at, &keys, slot.indent, write))];
                if !range.is_empty() {
                    parts.push((range, String::new()));
                }
                Ok(self.replaced(parts))
            }
            _ => {
                Err(Error::input(format!("{shown}: `{}` is {}, so nothing can stand below it", so_far(), node.what()))
                    .hint("Choose another path, or take that value out first."))
            }
        }
    }

    /// Where an untagged or tagged scalar stands; `from` is the end of its key.
    fn value_range(&self, node: &Node, from: usize) -> Range<usize> {
        if let Some(range) = node.tag.as_deref().and_then(|t| self.tagged_range(node, t)) {
            return range;
        }
        let text = self.text();
        let (start, end) = (node.span.range.start, node.span.range.end);
        let value = text.get(start..end).unwrap_or_default();
        let after = text.get(from..).unwrap_or_default();
        // Behind `key:`, where a block's sign stands too.
        let colon = if after.starts_with(':') { from + 1 } else { from };
        let own = text.get(colon..).unwrap_or_default();
        let line = own.split('\n').next().unwrap_or_default();
        let lead = line.len() - line.trim_start().len();
        if value.trim().is_empty() || (node.is_null() && start >= colon + line.len()) {
            return colon..colon;
        }
        if line.trim_start().starts_with(['|', '>']) && start > colon + lead {
            return colon + lead..start + value.trim_end().len();
        }
        if let Some(sign) = self.sign_above(start) {
            return sign..start + value.trim_end().len();
        }
        start..start + value.trim_end().len()
    }

    /// Where the sign of a block (`|`, `>-`) stands whose text begins at `start`.
    fn sign_above(&self, start: usize) -> Option<usize> {
        let text = self.text();
        let head = text.get(..start)?.trim_end();
        if !text.get(head.len()..)?.trim_start_matches([' ', '\t', '\r']).starts_with('\n') {
            return None;
        }
        let line = head.rfind('\n').map_or(0, |i| i + 1);
        let shown = head.get(line..)?;
        let shown = shown.find(" #").map_or(shown, |i| &shown[..i]).trim_end();
        let sign = shown.trim_end_matches(|c: char| "+-0123456789".contains(c));
        let before = sign.strip_suffix(['|', '>'])?;
        before.ends_with([' ', '\t']).then_some(line + before.len())
    }

    /// Where the last value of a mapping ends.
    fn end_of(&self, node: &Node) -> usize {
        let mut end = node.span.range.start;
        let keys = |n: &Node, end: &mut usize| {
            n.as_map().unwrap_or_default().iter().for_each(|e| *end = (*end).max(e.key_span.range.end));
        };
        node.walk(&mut |n| {
            let is_flow = n.span.text().starts_with(['{', '[']);
            let range = match n.tag.as_deref().and_then(|t| self.tagged_range(n, t)) {
                Some(r) => r,
                // Up to the next key: with the comments before it.
                None if (n.as_map().is_some() || n.as_seq().is_some()) && !is_flow => return keys(n, &mut end),
                None => n.span.range.clone(),
            };
            let inside = self.text().get(range.clone()).unwrap_or_default();
            end = end.max(range.start + inside.trim_end().len());
        });
        end
    }

    fn end_of_line(&self, at: usize) -> usize {
        self.text().get(at..).and_then(|t| t.find('\n')).map_or(self.text().len(), |i| at + i + 1)
    }

    /// New lines at a line's start (or at the end of a text whose last line is not ended).
    fn lines(&self, at: usize, keys: &[&str], column: usize, write: &dyn Fn(Slot) -> String) -> String {
        let before = self.text().get(..at).unwrap_or_default();
        let mut out = if before.is_empty() || before.ends_with('\n') { String::new() } else { "\n".to_string() };
        let last = keys.len().saturating_sub(1);
        for (i, key) in keys.iter().enumerate() {
            let indent = column + 2 * i;
            out.push_str(&format!("{:indent$}{}:", "", quoted(key)));
            if i == last {
                out.push_str(&format!(" {}", write(Slot { indent: indent + 2, flow: false })));
            }
            if !out.ends_with('\n') {
                out.push('\n');
            }
        }
        out
    }

    /// A path with keys and numbers only, as this document has it.
    fn numbered(&self, path: &KeyPath) -> Option<Vec<Result<String, usize>>> {
        let mut node = &self.root;
        let mut out = vec![];
        for step in &path.0 {
            let next = child(node, step)?;
            out.push(match step {
                Step::Key(k) => Ok(k.clone()),
                _ => Err(node.as_seq()?.iter().position(|n| std::ptr::eq(n, next))?),
            });
            node = next;
        }
        Some(out)
    }
}

/// `key: {key: value}` within a flow mapping.
fn nested(keys: &[&str], slot: Slot, write: &dyn Fn(Slot) -> String) -> String {
    match keys {
        [] => write(slot),
        [key] => format!("{}: {}", quoted(key), write(slot)),
        [key, rest @ ..] => format!("{}: {{{}}}", quoted(key), nested(rest, slot, write)),
    }
}

fn quoted(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&key.to_ascii_lowercase().as_str());
    if plain { key.to_string() } else { serde_json::Value::from(key).to_string() }
}

/// Takes what a path leads to out, and the parents that are empty then.
fn without(value: &mut serde_json::Value, path: &[Result<String, usize>]) {
    use serde_json::Value;
    let Some((step, rest)) = path.split_first() else {
        *value = Value::Null;
        return;
    };
    match (step, &mut *value) {
        (Ok(key), Value::Object(map)) => {
            if let Some(below) = map.get_mut(key) {
                without(below, rest);
                if below.is_null() {
                    map.shift_remove(key);
                }
            }
            if map.is_empty() {
                *value = Value::Null;
            }
        }
        (Err(i), Value::Array(list)) => {
            if let Some(below) = list.get_mut(*i) {
                without(below, rest);
            }
        }
        _ => {}
    }
}

/// Whether a place lies within `{…}` or `[…]`.
fn within_flow(node: &Node, at: usize) -> bool {
    let mut found = false;
    node.walk(&mut |n| {
        let is_flow = n.span.text().starts_with(['{', '[']) && (n.as_map().is_some() || n.as_seq().is_some());
        found |= is_flow && n.span.range.start < at && at < n.span.range.end;
    });
    found
}

/// An armored value for its place: `!age |` and the block, or one line within braces.
pub fn armored(armored: &str, slot: Slot) -> String {
    if slot.flow {
        return format!("!age {}", serde_json::Value::from(armored));
    }
    let mut out = String::from("!age |");
    for line in armored.lines() {
        out.push_str(&format!("\n{:indent$}{line}", "", indent = slot.indent));
    }
    out
}

/// A plain value for its place, with its tag: what an editor shows.
pub fn plain(value: &str, slot: Slot) -> Zeroizing<String> {
    let is_block = !slot.flow
        && value.trim_end_matches('\n').contains('\n')
        && !value.ends_with("\n\n")
        && !value.starts_with([' ', '\n', '\t'])
        && value.lines().all(|l| l.is_empty() || !l.trim().is_empty())
        && !value
            .chars()
            .any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{feff}' | '\u{85}' | '\u{2028}' | '\u{2029}'));
    if !is_block {
        return Zeroizing::new(format!("!age {}", serde_json::Value::from(value)));
    }
    let mut out = Zeroizing::new(format!("!age |{}", if value.ends_with('\n') { "" } else { "-" }));
    for line in value.lines() {
        let indent = if line.is_empty() { 0 } else { slot.indent };
        out.push_str(&format!("\n{:indent$}{line}", ""));
    }
    out
}

/// A finding as an error of one line.
pub(super) fn said(d: Diagnostic) -> Error {
    let place = d.span.as_ref().map(|s| format!("{}: ", s.place())).unwrap_or_default();
    let e = Error::input(format!("{place}{}", d.message));
    match d.hint {
        Some(h) => e.hint(h),
        None => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(Path::new("t.yml"), text, false).unwrap()
    }

    fn set(text: &str, path: &str) -> Result<String> {
        let written = |slot: Slot| armored("A\nB\n", slot);
        document(text).set(&KeyPath::parse(path).unwrap(), &written).map(|t| t.to_string())
    }

    #[test]
    fn tagged_values_are_found_where_they_stand() {
        let text = "# top\na: !age |\n  X\n  Y\n# between\nb:\n  - c: !age |\n      Z\n\n  - !vault |\n    V\n  - !age 'one'\nf: {g: !age \"two\"}\nh: !age\n  three\n";
        let found: Vec<String> = document(text)
            .tagged()
            .into_iter()
            .map(|t| format!("{} {} {:?} {:?} {}", t.path, t.line, &text[t.range.clone()], t.slot.indent, t.slot.flow))
            .collect();
        assert_eq!(
            found,
            [
                "a 2 \"!age |\\n  X\\n  Y\" 2 false",
                "b[0].c 7 \"!age |\\n      Z\" 6 false",
                "b[1] 10 \"!vault |\\n    V\" 4 false",
                "b[2] 12 \"!age 'one'\" 4 false",
                "f.g 13 \"!age \\\"two\\\"\" 2 true",
                "h 14 \"!age\\n  three\" 2 false"
            ]
        );
    }

    #[test]
    fn a_block_in_a_list_is_replaced_with_its_sign() {
        for (text, path, after) in [
            ("l:\n- a\n- |\n  b\n  c\n- d\n", "l[1]", "l:\n- a\n- !age |\n  A\n  B\n- d\n"),
            ("l:\n- a\n- >-  # why\n\n  b\n- d\n", "l[1]", "l:\n- a\n- !age |\n  A\n  B\n- d\n"),
            ("- - |2\n    b\n", "[0][0]", "- - !age |\n    A\n    B\n"),
        ] {
            assert_eq!(set(text, path).unwrap(), after, "{text}");
        }
        // Nothing is written where it would be the text of a block.
        assert!(set("- |\n\n- b\n", "[0]").is_err());
    }

    #[test]
    fn a_value_with_an_anchor_is_found_and_keeps_it() {
        for (text, anchored) in [
            ("pw: &a !age |\n  X\n  Y\nb: *a\n", "pw: &a !age |\n  A\n  B\nb: *a\n"),
            ("pw: !age &a |\n  X\n  Y\nb: *a\n", "pw: !age &a |\n  A\n  B\nb: *a\n"),
            ("pw: &a # c\n  !age |\n  X\nb: *a\n", "pw: &a # c\n  !age |\n  A\n  B\nb: *a\n"),
            ("pw: !<!age> &a x\nb: *a\n", "pw: !age &a |\n  A\n  B\nb: *a\n"),
            ("l: [&a !age \"x\", *a]\n", "l: [&a !age \"A\\nB\\n\", *a]\n"),
            ("l: [!age &a \"x\", *a]\n", "l: [!age &a \"A\\nB\\n\", *a]\n"),
            ("- &a !age >-\n  x\n- *a\n", "- &a !age |\n  A\n  B\n- *a\n"),
        ] {
            let d = document(text);
            let values = d.values();
            assert_eq!(values.iter().map(|v| v.anchor.as_deref()).collect::<Vec<_>>(), [Some("a")], "{text}");
            let parts = values.iter().map(|v| (v.range.clone(), v.armored("A\nB\n"))).collect();
            assert_eq!(*d.with_values(parts).unwrap(), anchored, "{text}");
            // The alias leads to it.
            let mut at = 0;
            d.root.walk(&mut |n| at += usize::from(n.tag.is_some() && which(&values, n).is_some()));
            assert_eq!(at, 2, "{text}");
            for shown in ["x", "x\ny\n"] {
                let parts = values.iter().map(|v| (v.range.clone(), v.plain(shown).to_string())).collect();
                let open = d.with_values(parts).unwrap();
                assert_eq!(document(&open).values()[0].text.as_deref(), Some(shown), "{open:?}");
            }
        }
        // The last one of a name counts.
        let d = document("a: &x !age \"1\"\nb: *x\nc: &x !age \"2\"\nd: *x\n");
        let values = d.values();
        let path = |key: &str| which(&values, d.root.get(key).unwrap()).unwrap().path.to_string();
        assert_eq!((path("b"), path("d")), ("a".into(), "c".into()));
    }

    #[test]
    fn a_value_that_cannot_be_found_is_not_passed_over() {
        let text = "%TAG !e! !ag\n---\na: !e!e x\n";
        let e = Document::parse(Path::new("t.yml"), text, false).map(|d| d.values().len()).unwrap_err();
        assert!(e.message.starts_with("t.yml:3: where this value's tag stands"), "{e}");
    }

    #[test]
    fn lines_end_as_the_others_do() {
        let text = "a: 1\r\nb: !age |\r\n  X\r\nc:\r\n  d: 2\r\n";
        for path in ["a", "b", "c.d", "c.e.f", "g"] {
            let new = set(text, path).unwrap();
            assert_eq!(new.matches('\n').count(), new.matches("\r\n").count(), "{path}: {new:?}");
            assert!(new.contains("A\r\n"), "{new:?}");
        }
    }

    #[test]
    fn an_alias_is_no_second_value() {
        let text = "a: &x {p: !age \"1\"}\nb: *x\nc: {<<: *x, q: 2}\n";
        assert_eq!(document(text).values().len(), 1);
    }

    #[test]
    fn a_value_is_put_in_its_place_and_the_rest_stays() {
        let age = |indent: usize| format!("!age |\n{0}A\n{0}B", " ".repeat(indent));
        for (text, path, expected) in [
            ("", "a", format!("a: {}\n", age(2))),
            ("# only\n", "a.b", format!("# only\na:\n  b: {}\n", age(4))),
            ("---\n", "a", format!("---\na: {}\n", age(2))),
            ("a: 1 # one\nb: 2\n", "a", format!("a: {} # one\nb: 2\n", age(2))),
            ("a: 'x y'\nb: 2\n", "a", format!("a: {}\nb: 2\n", age(2))),
            ("a: |\n  x\n  y\nb: 2\n", "a", format!("a: {}\nb: 2\n", age(2))),
            ("a:\nb: 2\n", "a", format!("a: {}\nb: 2\n", age(2))),
            ("a: ~\n", "a", format!("a: {}\n", age(2))),
            ("a: !age |\n  OLD\n  OLD\n\n# c\nb: 2\n", "a", format!("a: {}\n\n# c\nb: 2\n", age(2))),
            ("a: 1", "b", format!("a: 1\nb: {}\n", age(2))),
            ("a: 1 # x\n\n# end\n", "b", format!("a: 1 # x\nb: {}\n\n# end\n", age(2))),
            ("db:\n    user: x\n\nz: 1\n", "db.pw", format!("db:\n    user: x\n    pw: {}\n\nz: 1\n", age(6))),
            ("db:\n  pw: !age |\n    X\nz: 1\n", "db.q", format!("db:\n  pw: !age |\n    X\n  q: {}\nz: 1\n", age(4))),
            (
                "db:\n  pw: |\n    X\n    Y\nz: 1\n",
                "db.q",
                format!("db:\n  pw: |\n    X\n    Y\n  q: {}\nz: 1\n", age(4)),
            ),
            ("db:\nz: 1\n", "db.pw", format!("db:\n  pw: {}\nz: 1\n", age(4))),
            ("db: {}\n", "db.pw", "db: {pw: !age \"A\\nB\\n\"}\n".to_string()),
            ("db: {u: x}\n", "db.a.pw", "db: {u: x, a: {pw: !age \"A\\nB\\n\"}}\n".to_string()),
            ("db: {u: x}\n", "db.u", "db: {u: !age \"A\\nB\\n\"}\n".to_string()),
            (
                "u:\n- name: a\n  pw: 1\n- name: b\n",
                "u[name=b].pw",
                format!("u:\n- name: a\n  pw: 1\n- name: b\n  pw: {}\n", age(4)),
            ),
            ("u: [a, b]\n", "u[1]", "u: [a, !age \"A\\nB\\n\"]\n".to_string()),
            ("u:\n  - a\n  - b\n", "u[0]", format!("u:\n  - {}\n  - b\n", age(4))),
            ("\"a.b\": 1\n", "\"a.b\"", format!("\"a.b\": {}\n", age(2))),
            ("a: grün\nb: 1\n", "b", format!("a: grün\nb: {}\n", age(2))),
        ] {
            assert_eq!(set(text, path).map_err(|e| e.to_string()).as_deref(), Ok(expected.as_str()), "{text:?} {path}");
        }
    }

    #[test]
    fn what_cannot_be_set_says_why() {
        for (text, path, expected) in [
            ("a: {b: 1}\n", "a", "is a mapping, not a value"),
            ("a: [1]\n", "a", "is a list, not a value"),
            ("a: 1\n", "a.b", "`a` is a number, so nothing can stand below it"),
            ("a: [1]\n", "a[3]", "there is no `a[3]`"),
            ("a: &x 1\nb: *x\n", "a", "an anchor or an alias"),
        ] {
            let e = set(text, path).unwrap_err();
            assert!(e.message.contains(expected) && e.hint.is_some(), "{text} {path}: {e}");
        }
    }

    #[test]
    fn a_plain_value_is_shown_so_that_it_can_be_read_back() {
        for value in [
            "x",
            "",
            "a\nb",
            "a\nb\n",
            "a\n\n  b\n",
            " a\nb",
            "a\nb\n\n",
            "'\"\\",
            "\u{7}",
            "a\n \nb",
            "#no: {x}",
            "ü€😀",
        ] {
            for (text, indent, flow) in [("a: ", 2, false), ("a: {b: ", 0, true)] {
                let close = if flow { "}" } else { "" };
                let yaml = format!("{text}{}{close}\nz: 1\n", *plain(value, Slot { indent, flow }));
                let values = document(&yaml).values();
                assert_eq!(values.first().and_then(|v| v.text.as_deref()), Some(value), "{yaml}");
            }
        }
    }
}
