//! Reading a mapping key by key: the types of values, and what is to be said of keys nobody asked for.

use super::{Become, Condition, Said, Text};
use crate::modules::{ArgError, ModuleDef};
use crate::source::{Diagnostic, Diagnostics, Entry, Kind, Node, Span, nearest};
use crate::template::{TemplateError, Templates};
use crate::vars::SecretOpener;

/// What reading needs besides the nodes, and where findings go.
pub struct Reader<'a> {
    pub templates: &'a Templates,
    pub opener: &'a dyn SecretOpener,
    pub found: Diagnostics,
    /// Some file or part could not be read: names that seem to be missing may be in it.
    pub partial: bool,
    pub roles: super::role::Roles,
    /// The folder of the playbook being read.
    pub dir: std::path::PathBuf,
    /// The files being read right now, to see one that takes itself in.
    pub including: Vec<std::path::PathBuf>,
    /// How many files were taken in.
    pub taken_in: usize,
}

/// In seconds: nobody waits for longer.
const A_YEAR: u64 = 31_536_000;

/// How many files may be taken in: where files take in several that take in several, they are soon without number.
const MOST_FILES: usize = 10_000;

impl Reader<'_> {
    /// Counts a file that is taken in; one too many is a finding.
    pub fn may_take_in(&mut self, at: &Span) -> bool {
        self.taken_in += 1;
        if self.taken_in == MOST_FILES + 1 {
            let message = format!("more than {MOST_FILES} files are taken in");
            self.error_hint(
                at,
                message,
                "take some out: files that take in several, which take in several themselves, are soon without number",
            );
        }
        self.partial |= self.taken_in > MOST_FILES;
        self.taken_in <= MOST_FILES
    }

    pub fn error_hint(&mut self, at: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Diagnostic::error(message).at(at).hint(hint));
    }

    /// The entries of a mapping; anything else is a finding.
    pub fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        let m = node.as_map();
        if m.is_none() {
            let hint = match what {
                "a phase" => "write `- phase: NAME`, and below it `hosts:` and `tasks:` or `roles:`",
                "a task" if node.is_null() => "take the `-` out, or write a module behind it",
                "a task" => "write a module and its parameters: `- copy: {src: a, dest: /a}`",
                "a role's meta" => "write `dependencies:` and the roles below it",
                _ => "write it as `key: value`",
            };
            self.error_hint(&node.span, format!("{what} must be a mapping, not {}", node.what()), hint);
        }
        m
    }
    /// The items of a list; nothing at all is an empty list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            Kind::Seq(s) => s,
            Kind::Null => &[],
            _ => {
                self.partial = true;
                let hint = match &node.kind {
                    Kind::Str(s) if !s.contains(char::is_whitespace) => format!("write it as `[{s}]`"),
                    Kind::Map(m) if what.starts_with("a file of") && m.len() == 1 && m[0].value.as_seq().is_some() => {
                        format!("the file is the list itself: take `{}:` away", m[0].key)
                    }
                    _ => "begin each item with `- `".into(),
                };
                self.error_hint(&node.span, format!("{what} must be a list, not {}", node.what()), hint);
                &[]
            }
        }
    }
    pub fn string(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.kind {
            Kind::Str(s) => Some(s.clone()),
            Kind::Number(n) => Some(n.to_string()),
            _ => {
                let hint = match what {
                    _ if matches!(node.kind, Kind::Bool(_)) => "put quotes round it",
                    "`hosts`" => "name a group, a host or a pattern: hosts: all",
                    _ => "write one value",
                };
                self.error_hint(&node.span, format!("{what} must be text, not {}", node.what()), hint);
                None
            }
        }
    }
    pub fn text(&mut self, node: &Node, what: &str) -> Option<Text> {
        let text = self.string(node, what)?;
        self.templates_in(node);
        Some(Text { text, span: node.span.clone() })
    }
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.kind {
            Kind::Bool(b) => Some(*b),
            Kind::Str(s) if matches!(s.as_str(), "yes" | "on") => Some(true),
            Kind::Str(s) if matches!(s.as_str(), "no" | "off") => Some(false),
            _ => {
                let hint = match (what, &node.kind) {
                    ("`become`", Kind::Str(user)) => format!("write `become: true` and `become_user: {user}`"),
                    _ => "write true or false".into(),
                };
                self.error_hint(&node.span, format!("{what} must be true or false, not {}", node.what()), hint);
                None
            }
        }
    }
    pub fn whole(&mut self, node: &Node, what: &str) -> Option<u64> {
        let n = match &node.kind {
            Kind::Number(n) => n.as_u64(),
            Kind::Str(s) => s.parse().ok(),
            _ => None,
        };
        if n.is_none() {
            let not = match &node.kind {
                Kind::Number(n) => n.to_string(),
                _ => node.what().to_string(),
            };
            self.error_hint(
                &node.span,
                format!("{what} must be a whole number, 0 or more, not {not}"),
                match what {
                    "`retries`" | "`delay`" | "`timeout`" | "`async`" | "`poll`" | "`throttle`" => {
                        "write digits, or a template"
                    }
                    _ => "write digits only; no template can stand here",
                },
            );
        }
        let time = matches!(what, "`timeout`" | "`async`" | "`poll`" | "`delay`");
        if time && n.is_some_and(|n| n > A_YEAR) {
            self.error_hint(&node.span, format!("{what} is longer than a year"), "it counts seconds: 3600 is an hour");
            return None;
        }
        n
    }
    /// Words in a list, or one text with commas.
    pub fn words(&mut self, node: &Node, what: &str) -> Vec<String> {
        match &node.kind {
            Kind::Str(s) => s.split(',').map(|t| t.trim().to_string()).filter(|t| !t.is_empty()).collect(),
            Kind::Seq(s) => s.iter().filter_map(|n| self.string(n, what)).collect(),
            Kind::Null => vec![],
            _ => {
                let message = format!("{what} must be a list of words, not {}", node.what());
                self.error_hint(&node.span, message, "write it as `[one, two]`");
                vec![]
            }
        }
    }
    /// Bare expressions: one, or a list of which all must hold.
    pub fn conditions(&mut self, node: &Node, what: &str) -> Vec<Condition> {
        match &node.kind {
            Kind::Seq(s) => s.iter().filter_map(|n| self.condition(n, what)).collect(),
            _ => self.condition(node, what).into_iter().collect(),
        }
    }
    pub fn condition(&mut self, node: &Node, what: &str) -> Option<Condition> {
        let text = match &node.kind {
            Kind::Bool(b) => b.to_string(),
            Kind::Str(s) => s.clone(),
            Kind::Number(n) => n.to_string(),
            _ => {
                self.error_hint(
                    &node.span,
                    format!("{what} takes an expression, not {}", node.what()),
                    "write a variable or a helper with its arguments: eq a \"x\"",
                );
                return None;
            }
        };
        match self.templates.compile_expression(&text) {
            Ok(compiled) => Some(Condition { text, span: node.span.clone(), compiled }),
            Err(e) => {
                self.found.push(template_diagnostic(&e, node));
                None
            }
        }
    }
    /// Checks the syntax of every template in a node.
    pub fn templates_in(&mut self, node: &Node) {
        let mut wrong = vec![];
        node.walk(&mut |n| {
            if let Some(s) = n.as_str()
                && let Err(e) = self.templates.compile(s)
            {
                wrong.push(template_diagnostic(&e, n));
            }
        });
        wrong.into_iter().for_each(|d| self.found.push(d));
    }
    /// `become`, `become_user` and `remote_user`.
    pub fn become_<'n>(&mut self, get: &impl Fn(&str) -> Option<&'n Node>) -> Become {
        Become {
            on: get("become").and_then(|n| self.flag(n, "`become`")),
            user: get("become_user").and_then(|n| self.text(n, "`become_user`")),
            login: get("remote_user").and_then(|n| self.text(n, "`remote_user`")),
        }
    }
    /// True or false, or a template that comes to it.
    pub fn flag(&mut self, node: &Node, what: &str) -> Option<Said<bool>> {
        match is_template(node) {
            true => self.text(node, what).map(Said::Template),
            false => self.boolean(node, what).map(Said::Plain),
        }
    }
    /// A whole number, or a template that comes to one.
    pub fn number(&mut self, node: &Node, what: &str) -> Option<Said<u64>> {
        match is_template(node) {
            true => self.text(node, what).map(Said::Template),
            false => self.whole(node, what).map(Said::Plain),
        }
    }
    /// Findings for keys that mean nothing here, or nothing yet.
    pub fn unknown_keys(&mut self, entries: &[Entry], known: &[&str], later: &[&str], what: &str) {
        for e in entries {
            let key = e.key.as_str();
            if known.contains(&key) {
                continue;
            }
            let d = if later.contains(&key) {
                Diagnostic::error(format!("`{key}` is not supported yet")).at(&e.key_span).hint(instead_of(key))
            } else {
                unknown_key(e, known, what)
            };
            self.found.push(d);
        }
    }
}

/// Whether a template stands in a value.
pub fn is_template(node: &Node) -> bool {
    node.as_str().is_some_and(|s| s.contains("{{"))
}

/// The same for a value or anything in it.
pub fn has_template(node: &Node) -> bool {
    let mut has = false;
    node.walk(&mut |n| has |= is_template(n));
    has
}

/// A key nobody asked for, with the one that was meant or all there are.
pub fn unknown_key(e: &Entry, known: &[&str], what: &str) -> Diagnostic {
    let d = Diagnostic::error(format!("unknown key `{}` in {what}", e.key)).at(&e.key_span);
    match nearest(&e.key, known.iter().copied()) {
        Some(n) => d.hint(format!("did you mean `{n}`?")),
        None => d.hint(format!("it has: {}", known.join(", "))),
    }
}

/// What to do in place of a key that is not supported yet.
pub fn instead_of(key: &str) -> &'static str {
    match key {
        "local_action" => "write the module's name as the key, and `delegate_to: localhost`",
        "action" => "write the module's name as the key: `command: ls`",
        "become_method" => "Windlass becomes another user through sudo only: take it out",
        "connection" => "set `ansible_connection` in the inventory",
        "remote_user" => "set `ansible_user` in the inventory",
        "port" => "set `ansible_port` in the inventory",
        "strategy" | "order" => {
            "take it out: hosts never wait for each other, unless a task says `needs: [{task: ID, hosts: all}]`"
        }
        "module_defaults" => "write the parameters at the tasks that use the module",
        "collections" => "modules need no collection: take it out",
        _ => "take it out",
    }
}

/// Where in the file a place of a value (line and column) is: exact where the value stands there as it is, a block of text
/// included; nothing where quotes, folds or escapes make it uncertain.
pub fn place_in(span: &Span, value: &str, (line, column): (usize, usize)) -> Option<usize> {
    let wanted = value.lines().nth(line.checked_sub(1)?)?;
    let skip = wanted.char_indices().nth(column.saturating_sub(1)).map_or(wanted.len(), |(i, _)| i);
    let text = span.text();
    if !value.trim_end_matches('\n').contains('\n') && !text.starts_with(['|', '>']) {
        return Some(span.range.start + text.find(value)? + skip);
    }
    // A block: the same line, behind its indentation. Blank lines and folds would move it, so it must be the only one.
    let mut at = span.range.start;
    let mut found = None;
    for l in text.split_inclusive('\n') {
        if l.trim() == wanted.trim() && !wanted.trim().is_empty() {
            if found.is_some() {
                return None;
            }
            found = l.find(wanted).map(|i| at + i + skip);
        }
        at += l.len();
    }
    found
}

/// A template's mistake at its place in a value.
pub fn template_diagnostic(e: &TemplateError, node: &Node) -> Diagnostic {
    let mut span = node.span.clone();
    if let (Some(at), Some(value)) = (e.at, node.as_str())
        && let Some(start) = place_in(&span, value, at)
    {
        span.range.start = start;
        if let Some(len) = e.len {
            span.range.end = (start + len).min(span.range.end);
        }
    }
    let mut d = Diagnostic::error(&e.message).at(e.span.as_ref().unwrap_or(&span));
    if e.span.as_ref().is_some_and(|s| *s != span) {
        d = d.also(&span, "used here");
    }
    match &e.hint {
        Some(h) => d.hint(h),
        None => d,
    }
}

/// A parameter's mistake, at its place.
pub fn argument_diagnostic(e: &ArgError, module: &ModuleDef, args: &Node) -> Diagnostic {
    let node = args.at_path(e.param.iter().map(String::as_str));
    let quoted = |prefix: &str| e.message.strip_prefix(prefix).and_then(|r| r.split('`').next()).map(str::to_string);
    let param = e.param.last().map_or(module.name, String::as_str);
    let mut message = e.message.clone();
    let mut hint = e.hint.clone();
    if let Some(field) = quoted("missing field `") {
        message = format!("`{}` needs `{field}`", module.name);
        hint = hint.or_else(|| Some(format!("add `{field}:`")));
    } else if let Some(field) = quoted("duplicate field `") {
        message = format!("the parameter `{field}` of `{}` is given twice, under two of its names", module.name);
        hint = Some("take one of them out".into());
    } else if let Some(variant) = quoted("unknown variant `") {
        let known: Vec<&str> = e.message.split('`').skip(3).step_by(2).collect();
        // `meta: x` names no parameter.
        let param = if param == "free_form" { module.name } else { param };
        message = format!("`{variant}` is not a choice of `{param}`");
        hint = Some(match nearest(&variant, known.iter().copied()) {
            Some(n) => format!("did you mean `{n}`?"),
            None => format!("it is one of: {}", known.join(", ")),
        });
    } else if let Some((found, wanted)) =
        message.strip_prefix("invalid type: ").and_then(|m| m.split_once(", expected "))
    {
        (message, hint) =
            (format!("`{param}` of `{}` cannot be {}", module.name, plain(found)), Some(wanted_is(wanted)));
    } else if let Some((found, wanted)) =
        message.strip_prefix("invalid value: ").and_then(|m| m.split_once(", expected "))
    {
        (message, hint) =
            (format!("`{param}` of `{}` cannot be {}", module.name, plain(found)), Some(wanted_is(wanted)));
    } else if let Some((wanted, found)) = message.strip_prefix("expected ").and_then(|m| m.split_once(", found ")) {
        (message, hint) = (format!("`{param}` of `{}` cannot be {found}", module.name), Some(wanted_is(wanted)));
    } else if let Some((first, rest)) = message.clone().split_once(": put quotes ").filter(|_| hint.is_none()) {
        (message, hint) = (first.to_string(), Some(format!("put quotes {rest}")));
    } else if let Some((first, rest)) = message.clone().split_once("; write it ").filter(|_| hint.is_none()) {
        (message, hint) = (first.to_string(), Some(format!("write it {rest}")));
    }
    let hint = hint.or_else(|| known_hint(&message, param));
    // What is wrong with a name is shown at the name.
    let key = e.param.first().filter(|p| message.starts_with(&format!("`{p}` cannot be"))).and_then(|p| args.entry(p));
    let at = e.span.as_ref().or(key.map(|e| &e.key_span)).unwrap_or(&node.span);
    let d = Diagnostic::error(message).at(at);
    let d = if e.span.is_some() { d.also(&node.span, "used here") } else { d };
    match hint {
        Some(h) => d.hint(h),
        None => d,
    }
}

/// What to do about mistakes whose message says only what is wrong.
fn known_hint(message: &str, param: &str) -> Option<String> {
    let has = |t: &str| message.contains(t);
    Some(if has("is not an absolute path") {
        format!("`{param}` is a path on the host, from `/` on")
    } else if has("is not an octal mode") {
        "a mode has the digits 0 to 7, four of them: \"0644\"".into()
    } else if has("exclude each other") {
        "take one of them out".into()
    } else if has("is not a regular expression") {
        "close what is open, and put `\\` before a sign that stands for itself".into()
    } else if has("quote is not closed") {
        "close the quote, or put `\\` before one that stands for itself".into()
    } else if has("is not supported yet") {
        "take it out".into()
    } else if has("is not UTF-8 text") {
        "copy it as it is with the module `copy`".into()
    } else if has("cannot be a variable's name") {
        "a name has letters, digits and underscores".into()
    } else if has("is not a package's name") {
        "write several as a list: [one, two]".into()
    } else if has("is not a port") {
        "a port is a number from 1 to 65535".into()
    } else if has("has wildcards") {
        "give each unit a task of its own, or a `loop`".into()
    } else if has(" goes with ") {
        format!("take `{param}` out")
    } else if has(" needs ") {
        "add what is missing".into()
    } else {
        return None;
    })
}

fn plain(found: &str) -> String {
    match found.split(' ').next().unwrap_or_default() {
        "string" => found.strip_prefix("string ").unwrap_or(found).into(),
        "sequence" => "a list".into(),
        "map" => "a mapping".into(),
        "null" | "unit" => "empty".into(),
        _ => found.replace("integer ", "").replace("boolean ", "").replace("floating point ", ""),
    }
}

fn wanted_is(wanted: &str) -> String {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "write a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "write a whole number".into(),
        "true or false" => "write true or false".into(),
        "text" | "a string" => "write one value".into(),
        "a sequence" => "write a list: [one, two]".into(),
        "a map" => "write a mapping: {name: value}".into(),
        other => format!("write {other}"),
    }
}
