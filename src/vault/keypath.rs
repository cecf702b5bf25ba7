//! The path of keys to a value in a YAML document: `db.users[name=anna].password`.

use std::fmt;

use crate::error::{Error, Result};
use crate::source::{Kind, Node};

/// Keys that tell items of a list apart, so that their order does not matter.
const NAMES: [&str; 3] = ["phase", "name", "id"];

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of a key.
    Key(String),
    /// An item of a list, counted from 0.
    Item(usize),
    /// The item of a list that has this value under this key.
    Named(String, String),
}

/// A path from the top of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPath(pub Vec<Step>);

impl KeyPath {
    /// Reads a path: keys with dots between them, `[0]` or `[name=anna]` for an item of a list; a key with other signs
    /// than letters, digits, `_` and `-` in it may stand in quotes: `"a.b"`.
    ///
    /// # Errors
    /// The text is no path.
    pub fn parse(text: &str) -> Result<KeyPath> {
        let wrong = |why: &str| {
            Error::input(format!("`{text}` is not a path to a value: {why}"))
                .hint("Write it as db.password, users[0].password, users[name=anna].password or \"a.b\".c.")
        };
        let mut steps = vec![];
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong("it is empty"));
        }
        loop {
            if let Some(after) = rest.strip_prefix('[') {
                let (inner, after) = match after.find("=\"") {
                    Some(i) if !after[..i].contains([']', '=']) => {
                        let key = after[..i].to_string();
                        let (value, end) = quoted(&after[i + 1..]).ok_or_else(|| wrong("a quote is not closed"))?;
                        let after = after[i + 1 + end..].strip_prefix(']').ok_or_else(|| wrong("a `]` is missing"))?;
                        (Step::Named(key, value), after)
                    }
                    _ => {
                        let (inner, after) = after.split_once(']').ok_or_else(|| wrong("a `]` is missing"))?;
                        let step = match inner.split_once('=') {
                            Some((k, v)) => Step::Named(k.to_string(), v.to_string()),
                            None => Step::Item(inner.parse().map_err(|_| wrong("an item is a number or key=value"))?),
                        };
                        (step, after)
                    }
                };
                steps.push(inner);
                rest = after;
            } else if rest.starts_with('"') {
                let (key, end) = quoted(rest).ok_or_else(|| wrong("a quote is not closed"))?;
                steps.push(Step::Key(key));
                rest = &rest[end..];
            } else {
                let end = rest.find(['.', '[', '"']).unwrap_or(rest.len());
                if end == 0 {
                    return Err(wrong("a key is missing"));
                }
                steps.push(Step::Key(rest[..end].to_string()));
                rest = &rest[end..];
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => return Ok(KeyPath(steps)),
                None if rest.starts_with('[') => {}
                None => return Err(wrong("a dot is missing")),
            }
            if rest.is_empty() {
                return Err(wrong("it ends in a dot"));
            }
        }
    }

    pub(super) fn with(&self, step: Step) -> KeyPath {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }

    /// The node this leads to.
    pub fn find<'a>(&self, root: &'a Node) -> Option<&'a Node> {
        self.0.iter().try_fold(root, |node, step| child(node, step))
    }
}

/// The text within quotes at the start, and where it ends.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((serde_json::from_str(&text[..=i]).ok()?, i + 1)),
            _ => {}
        }
    }
    None
}

/// The node one step below.
pub(super) fn child<'a>(node: &'a Node, step: &Step) -> Option<&'a Node> {
    match step {
        Step::Key(k) => node.get(k),
        Step::Item(i) => node.as_seq()?.get(*i),
        Step::Named(k, v) => node.as_seq()?.iter().find(|n| n.get(k).and_then(Node::as_str) == Some(v)),
    }
}

/// The step to each child of a node: items of a list by name where they have one of their own.
pub(super) fn steps(node: &Node) -> Vec<(Step, &Node)> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().map(|e| (Step::Key(e.key.clone()), &e.value)).collect(),
        Kind::Seq(items) => {
            let name = |n: &Node| {
                NAMES.iter().find_map(|k| {
                    let value = n.get(k).filter(|v| v.tag.is_none())?.as_str()?;
                    Some((k.to_string(), value.to_string()))
                })
            };
            let names: Vec<_> = items.iter().map(name).collect();
            let step = |i: usize| match &names[i] {
                Some((k, v)) if names.iter().filter(|n| **n == names[i]).count() == 1 => {
                    Step::Named(k.clone(), v.clone())
                }
                _ => Step::Item(i),
            };
            items.iter().enumerate().map(|(i, n)| (step(i), n)).collect()
        }
        _ => vec![],
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain =
            |k: &str| !k.is_empty() && k.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | ':'));
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(k) => {
                    let dot = if i > 0 { "." } else { "" };
                    if plain(k) {
                        write!(f, "{dot}{k}")?
                    } else {
                        write!(f, "{dot}{}", serde_json::Value::from(k.as_str()))?
                    }
                }
                Step::Item(n) => write!(f, "[{n}]")?,
                Step::Named(k, v) if plain(v) => write!(f, "[{k}={v}]")?,
                Step::Named(k, v) => write!(f, "[{k}={}]", serde_json::Value::from(v.as_str()))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, yaml};
    use proptest::prelude::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in [
            "a",
            "db.users[0].password",
            "users[name=anna].pw",
            "\"a.b\".c",
            "[0].vars.pw",
            "a[0][1].b",
            "[phase=\"a b\"].vars.x",
            "\"\".x",
            "x[name=\"a]\\\"b\"]",
        ] {
            assert_eq!(KeyPath::parse(text).unwrap().to_string(), text);
        }
        for text in ["", " ", ".a", "a.", "a..b", "a[", "a[x]", "\"a", "a[0]b", "a\"b\""] {
            let e = KeyPath::parse(text).unwrap_err();
            assert!(e.message.contains("not a path") && e.hint.is_some(), "{text}");
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            "\\PC{0,12}".prop_map(Step::Key),
            "[a-z\"\\\\.=\\[\\]]{1,8}".prop_map(Step::Key),
            (0..9usize).prop_map(Step::Item),
            "[a-z \"\\\\.=\\]]{0,8}".prop_map(|v| Step::Named("name".into(), v)),
        ]
    }

    /// Found by the fuzzer.
    #[test]
    fn a_quote_behind_a_second_sign_is_of_the_value() {
        let path = KeyPath::parse("[name=sw=\"G-\"].a").unwrap();
        assert_eq!(path.to_string(), "[name=\"sw=\\\"G-\\\"\"].a");
        assert_eq!(KeyPath::parse(&path.to_string()).unwrap(), path);
    }

    proptest! {
        #[test]
        fn any_path_is_read_as_it_is_written(steps in prop::collection::vec(step(), 1..6)) {
            let path = KeyPath(steps);
            let text = path.to_string();
            prop_assert_eq!(KeyPath::parse(&text).ok(), Some(path), "{}", text);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,40}|[a-z.\"\\[\\]=\\\\]{0,20}") {
            let _ = KeyPath::parse(&text);
        }
    }

    #[test]
    fn items_go_by_their_names_where_they_are_their_own() {
        let yaml = "- {name: a, pw: 1}\n- {name: b, pw: 2}\n- {name: b, pw: 3}\n- [4]\n";
        let root = yaml::parse(&Source::new("t.yml", yaml)).unwrap();
        let said: Vec<String> = steps(&root).into_iter().map(|(s, _)| KeyPath(vec![s]).to_string()).collect();
        assert_eq!(said, ["[name=a]", "[1]", "[2]", "[3]"]);
        let find = |p: &str| KeyPath::parse(p).unwrap().find(&root).map(|n| n.span.text().to_string());
        assert_eq!((find("[name=a].pw"), find("[3][0]"), find("[7]")), (Some("1".into()), Some("4".into()), None));
    }
}
