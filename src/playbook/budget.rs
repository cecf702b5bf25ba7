//! Budgets: how many members of something may be away at once, and how one knows that they are back.

use super::keys::Reader;
use super::vocabulary::BUDGET_KEYS as KEYS;
use super::{Diagnosis, Text};
use crate::source::{Node, Span};
use serde_json::Value;

/// A disruption budget. Whoever stops, restarts, drains or reboots a member takes a place in it first.
#[derive(Debug)]
pub struct Budget {
    pub name: String,
    pub span: Span,
    /// Its members: a list of hosts, or a pattern.
    pub hosts: Node,
    /// What [`Size::read`] takes, or a template that comes to it; `None`: 1.
    pub size: Option<Node>,
    /// Run on the host that is about to go away: exit code 0 says that the others can do without it.
    pub before: Option<Text>,
    /// Run on that host when its work is done: exit code 0 says that it is back and all is well.
    pub after: Option<Text>,
    pub environment: Option<Node>,
    /// Seconds for each of the two to come true.
    pub timeout: u64,
    /// Seconds between two looks.
    pub every: u64,
    pub evidence: Option<Node>,
    pub diagnosis: Vec<Diagnosis>,
}

/// How many members may be away at once; never fewer than one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    Count(usize),
    Percent(f64),
    /// A majority stays: `(n - 1) / 2`.
    Quorum,
}

impl Size {
    /// What is said of a value that is none.
    pub const NONE: &str = "`size` is a number of hosts, a share or `quorum`";

    /// `2`, `"25%"`, `quorum`.
    pub fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Number(n) => n.as_u64().filter(|n| *n > 0).map(|n| Size::Count(n as usize)),
            Value::String(s) if s == "quorum" => Some(Size::Quorum),
            Value::String(s) => match percent(s) {
                Some(p) => Some(Size::Percent(p)),
                None => s.parse().ok().filter(|n| *n > 0).map(Size::Count),
            },
            _ => None,
        }
    }

    /// Places among so many members.
    pub fn of(self, members: usize) -> usize {
        let n = match self {
            Size::Count(n) => n,
            Size::Percent(p) => (members as f64 * p / 100.0).floor() as usize,
            Size::Quorum => members.saturating_sub(1) / 2,
        };
        n.max(1)
    }
}

impl Reader<'_> {
    /// `budgets:`, a mapping of names.
    pub fn budgets(&mut self, node: &Node) -> Vec<Budget> {
        let mut all = vec![];
        for e in self.mapping(node, "`budgets`").unwrap_or_default() {
            let what = format!("the budget `{}`", e.key);
            let Some(entries) = self.mapping(&e.value, &what) else { continue };
            self.unknown_keys(entries, KEYS, &[], "a budget");
            let get = |k: &str| e.value.get(k);
            let Some(hosts) = get("hosts") else {
                self.partial = true;
                self.error_hint(&e.key_span, format!("{what} does not say whose members"), "hosts: GROUP");
                continue;
            };
            for n in [Some(hosts), get("environment")].into_iter().flatten() {
                self.templates_in(n);
            }
            all.push(Budget {
                name: e.key.clone(),
                span: e.key_span.clone(),
                hosts: hosts.clone(),
                size: get("size").inspect(|n| self.size(n)).cloned(),
                before: get("before").and_then(|n| self.text(n, "`before`")),
                after: get("after").and_then(|n| self.text(n, "`after`")),
                environment: get("environment").cloned(),
                timeout: get("timeout").and_then(|n| self.whole(n, "`timeout`")).unwrap_or(300),
                every: get("every").and_then(|n| self.whole(n, "`every`")).unwrap_or(2).max(1),
                evidence: get("evidence").and_then(|n| self.evidence(n)),
                diagnosis: get("diagnosis").map(|n| self.diagnosis(n)).unwrap_or_default(),
            });
        }
        all
    }

    fn size(&mut self, node: &Node) {
        if node.as_str().is_some_and(|s| s.contains("{{")) {
            self.templates_in(node);
        } else if Size::read(&node.to_value()).is_none() {
            self.error_hint(&node.span, Size::NONE, "size: 1, size: \"25%\"");
        }
    }
}

/// `"25%"`.
pub fn percent(text: &str) -> Option<f64> {
    text.strip_suffix('%').and_then(|p| p.trim().parse().ok()).filter(|p| (0.0..=100.0).contains(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_stays_whatever_the_size() {
        let away = |n| Size::Quorum.of(n);
        assert_eq!([1, 2, 3, 4, 5, 7].map(away), [1, 1, 1, 1, 2, 3]);
        assert_eq!([1, 3, 8, 100].map(|n| Size::Percent(25.0).of(n)), [1, 1, 2, 25]);
        assert_eq!(percent("25 %"), Some(25.0));
        assert_eq!(percent("140%"), None);
    }
}
