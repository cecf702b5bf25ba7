//! Ansible's INI inventories: `[group]`, `[group:children]`, `[group:vars]`, a host a line.

use super::build::Builder;
use super::literal;
use super::words;
use crate::source::{Diagnostic, Source, Span, nearest};
use crate::vars::{Var, Vars, is_name};
use std::sync::Arc;

enum Section {
    Hosts(String),
    Children(String),
    Vars(String),
    /// Behind a broken header: what follows cannot be judged.
    Broken,
}

/// Reads a file into the builder, line by line.
pub fn read(source: &Arc<Source>, b: &mut Builder) {
    let mut section = Section::Hosts("ungrouped".into());
    let mut start = 0;
    for raw in source.text.split_inclusive('\n') {
        let line = raw.trim_start_matches('\u{feff}').trim();
        let at = start + raw.find(line).unwrap_or(0);
        start += raw.len();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let l = Line { source, text: line, at };
        if let Some(next) = header(&l, b) {
            section = next;
            continue;
        }
        match &section {
            Section::Hosts(group) => host_line(&l, group, b),
            Section::Children(group) => child_line(&l, group, b),
            Section::Vars(group) => var_line(&l, group, b),
            Section::Broken => {}
        }
    }
    // Another file may still declare them.
    for (parent, child, span) in std::mem::take(&mut b.children_to_come) {
        b.add_child(&parent, &child, &span);
    }
}

/// One trimmed line and where it starts in the file.
struct Line<'a> {
    source: &'a Arc<Source>,
    text: &'a str,
    at: usize,
}

impl Line<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span::new(self.source, self.at + range.start..self.at + range.end)
    }
    fn whole(&self) -> Span {
        self.span(0..self.text.len())
    }
}

/// The section a header opens; `None` for a line that isn't one (a host line may start with `[` too).
fn header(l: &Line, b: &mut Builder) -> Option<Section> {
    let inner = l.text.strip_prefix('[')?;
    let Some(close) = inner.find(']') else {
        b.found.push(Diagnostic::error("the section's `[` is not closed").at(&l.whole()).hint("write [group]"));
        return Some(Section::Broken);
    };
    let (inner, after) = (&inner[..close], &inner[close + 1..]);
    let rest = after.trim_start();
    if !rest.is_empty() && !rest.starts_with(['#', ';']) {
        if rest.len() == after.len() {
            return None;
        }
        let from = l.text.len() - rest.len();
        b.found.push(
            Diagnostic::error("text behind a section's `]`")
                .at(&l.span(from..l.text.len()))
                .hint("hosts and variables stand on lines of their own"),
        );
    }
    let place = l.span(1..1 + inner.len());
    let (name, kind) = inner.split_once(':').map_or((inner, None), |(n, k)| (n, Some(k)));
    if inner.trim() != inner || name.trim() != name || kind.is_some_and(|k| k.trim() != k) {
        b.found.push(
            Diagnostic::error(format!("spaces in the section `[{inner}]`"))
                .at(&place)
                .hint(format!("write [{}]", inner.split(':').map(str::trim).collect::<Vec<_>>().join(":"))),
        );
        return Some(Section::Broken);
    }
    match kind {
        None => b.declare_group(name, &place).then(|| Section::Hosts(name.into())),
        Some("children") => b.declare_group(name, &place).then(|| Section::Children(name.into())),
        Some("vars") => b.await_group(name, &place, "these are variables of").then(|| Section::Vars(name.into())),
        Some(other) => {
            b.declare_group(name, &place);
            b.found.push(
                Diagnostic::error(format!("unknown kind of section `{other}`"))
                    .at(&l.span(2 + name.len()..1 + inner.len()))
                    .hint(match nearest(other, ["children", "vars"]) {
                        Some(n) => format!("did you mean `{n}`?"),
                        None => format!("write [{name}], [{name}:children] or [{name}:vars]"),
                    }),
            );
            None
        }
    }
    .or(Some(Section::Broken))
}

fn host_line(l: &Line, group: &str, b: &mut Builder) {
    let line = match words::split(l.text, true) {
        Ok(line) => line,
        Err(words::Unclosed(at)) => {
            b.found.push(
                Diagnostic::error("the quote is not closed")
                    .at(&l.span(at..l.text.len()))
                    .hint("close it, or put a backslash before a quote that is meant as such"),
            );
            return;
        }
    };
    if let Some(cut) = line.cut {
        b.found.push(
            Diagnostic::warning("`#` starts a comment here, in the middle of a word")
                .at(&l.span(cut..l.text.len()))
                .hint("put quotes round a value with `#` in it"),
        );
    }
    let Some((host, pairs)) = line.words.split_first() else { return };
    let mut vars = Vars::new();
    if let Some((key, _)) = host.text.split_once('=').filter(|(k, _)| is_name(k)) {
        b.found.push(
            Diagnostic::error(format!("the variable `{key}` stands where a host is expected"))
                .at(&l.span(host.at.clone()))
                .hint(format!("variables of a group go into a section [{group}:vars]")),
        );
        return;
    }
    if let Some(i) = pairs.iter().position(|w| w.text.starts_with('=')) {
        let from = pairs[i.saturating_sub(1)].at.start;
        b.found.push(
            Diagnostic::error("spaces round a `=`")
                .at(&l.span(from..pairs[i].at.end))
                .hint("write key=value; put quotes round a value with spaces in it"),
        );
        b.add_hosts(group, &host.text, &l.span(host.at.clone()), vars);
        return;
    }
    for word in pairs {
        let span = l.span(word.at.clone());
        let Some((key, text)) = word.text.split_once('=') else {
            b.found.push(
                Diagnostic::error(format!("`{}` is not key=value", word.text))
                    .at(&span)
                    .hint("one host a line; put quotes round a value with spaces in it"),
            );
            continue;
        };
        if !is_name(key) {
            b.found.push(bad_name(key).at(&span));
            continue;
        }
        let from = span.text().find('=').map_or(0, |i| i + 1);
        let span = Span::new(&span.source, span.range.start + from..span.range.end);
        vars.insert(key.into(), typed(text, span, b, "'\"…\"'"));
    }
    b.add_hosts(group, &host.text, &l.span(host.at.clone()), vars);
}

fn bad_name(key: &str) -> Diagnostic {
    Diagnostic::error(format!("`{key}` cannot be a variable's name"))
        .hint("a name has letters, digits and underscores, and does not start with a digit")
}

/// A value with its type; a number that loses digits is worth a word.
fn typed(text: &str, span: Span, b: &mut Builder, quotes: &str) -> Var {
    let value = literal::value(text);
    if literal::loses_digits(text) {
        b.found.push(
            Diagnostic::warning(format!("`{}` is read as the number {value}", text.trim()))
                .at(&span)
                .hint(format!("if text is meant (a version), write {}", quotes.replace('…', text.trim()))),
        );
    }
    if span.source.secret {
        b.opener.learn(&span.line(), &value);
    }
    Var { value, span }
}

fn child_line(l: &Line, group: &str, b: &mut Builder) {
    let text = l.text.split('#').next().unwrap_or("").trim_end();
    let span = l.span(0..text.len());
    if text.contains(char::is_whitespace) || text.contains('=') {
        b.found.push(
            Diagnostic::error(format!("`{text}` is not a group's name"))
                .at(&span)
                .hint(format!("below [{group}:children] stands one group a line, without variables")),
        );
        return;
    }
    if b.is_declared(text) {
        return b.add_child(group, text, &span);
    }
    // As in Ansible, children come in the order in which they are declared.
    if b.await_group(text, &span, "this names as a child") {
        b.children_to_come.push((group.to_string(), text.to_string(), span));
    }
}

fn var_line(l: &Line, group: &str, b: &mut Builder) {
    let Some((key, text)) = l.text.split_once('=') else {
        let d = Diagnostic::error(format!("`{}` is not key=value", l.text)).at(&l.whole());
        b.found.push(match l.text.split_once(':') {
            Some((k, v)) if is_name(k.trim()) => d.hint(format!("write {}={}", k.trim(), v.trim())),
            _ => d.hint(format!("below [{group}:vars] stands one key=value a line")),
        });
        return;
    };
    let from = key.len() + 1 + (text.len() - text.trim_start().len());
    let (key, text) = (key.trim(), text.trim());
    if !is_name(key) {
        b.found.push(bad_name(key).at(&l.span(0..key.len().max(1))));
        return;
    }
    let span = l.span(from..from + text.len());
    let var = typed(text, span, b, "\"…\"");
    if let Some(s) = var.value.as_str()
        && s == text
        && let Some(i) = text.find(" #")
    {
        b.found.push(
            Diagnostic::warning("this `#` is part of the value, not a comment")
                .at(&l.span(from + i + 1..l.text.len()))
                .hint("in a section of variables, comments stand on lines of their own; quotes round the value say it is meant"),
        );
    }
    b.set_group_vars(group, [(key.to_string(), var)].into_iter().collect());
}
