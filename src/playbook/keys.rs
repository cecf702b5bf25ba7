//! Reading a mapping key by key: the types of values, and what is to be said of keys nobody asked for.

use super::{Become, Condition, Text};
use crate::source::{Diagnostic, Diagnostics, Entry, Kind, Node, Span};
use crate::template::{TemplateError, Templates};
use crate::vars::SecretOpener;

/// What reading needs besides the nodes, and where findings go.
pub struct Reader<'a> {
    pub templates: &'a Templates,
    pub opener: &'a dyn SecretOpener,
    pub found: Diagnostics,
}

impl Reader<'_> {
    pub fn error(&mut self, at: &Span, message: impl Into<String>) {
        self.found.push(Diagnostic::error(message).at(at));
    }
    pub fn error_hint(&mut self, at: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Diagnostic::error(message).at(at).hint(hint));
    }

    /// The entries of a mapping; anything else is a finding.
    pub fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        let m = node.as_map();
        if m.is_none() {
            self.error(&node.span, format!("{what} must be a mapping, not {}", node.what()));
        }
        m
    }
    /// The items of a list; nothing at all is an empty list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            Kind::Seq(s) => s,
            Kind::Null => &[],
            _ => {
                self.error(&node.span, format!("{what} must be a list, not {}", node.what()));
                &[]
            }
        }
    }
    pub fn string(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.kind {
            Kind::Str(s) => Some(s.clone()),
            Kind::Number(n) => Some(n.to_string()),
            _ => {
                self.error(&node.span, format!("{what} must be text, not {}", node.what()));
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
                self.error(&node.span, format!("{what} must be true or false, not {}", node.what()));
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
            self.error(&node.span, format!("{what} must be a whole number, not {}", node.what()));
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
                self.error(&node.span, format!("{what} must be a list of words, not {}", node.what()));
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
                self.error(&node.span, format!("{what} takes an expression, not {}", node.what()));
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
    pub fn become_(&mut self, become_: Option<&Node>, user: Option<&Node>) -> Become {
        Become {
            on: become_.and_then(|n| self.boolean(n, "`become`")),
            user: user.and_then(|n| self.text(n, "`become_user`")),
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
                Diagnostic::error(format!("`{key}` is not supported yet")).at(&e.key_span)
            } else {
                Diagnostic::error(format!("unknown key `{key}` in {what}"))
                    .at(&e.key_span)
                    .suggest(key, known.iter().copied())
            };
            self.found.push(d);
        }
    }
}

/// A template's mistake at its place in a value. The place is exact where the value stands on one line as it is.
pub fn template_diagnostic(e: &TemplateError, node: &Node) -> Diagnostic {
    let mut span = node.span.clone();
    if let (Some((1, column)), Some(value)) = (e.at, node.as_str())
        && let Some(at) = span.text().find(value)
        && !value.contains('\n')
    {
        let skip = value.char_indices().nth(column.saturating_sub(1)).map_or(0, |(i, _)| i);
        span.range.start += at + skip;
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
