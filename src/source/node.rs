//! A YAML value that remembers where it stands.

use super::Span;
use serde_json::{Map, Number, Value};

/// One YAML value with its place and, where it had one, its `!tag`.
#[derive(Debug, Clone)]
pub struct Node {
    pub span: Span,
    pub tag: Option<String>,
    pub kind: Kind,
}

/// One `key: value` of a mapping.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Str(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

impl Node {
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(s) => Some(s),
            _ => None,
        }
    }
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Map(m) => Some(m),
            _ => None,
        }
    }
    pub fn as_seq(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Seq(s) => Some(s),
            _ => None,
        }
    }
    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }
    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|e| e.key == key)
    }
    /// What this is, in a reader's words: "a mapping", "a list", …
    pub fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "empty",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Str(_) => "text",
            Kind::Seq(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
    /// The value without its places.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(b) => Value::Bool(*b),
            Kind::Number(n) => Value::Number(n.clone()),
            Kind::Str(s) => Value::String(s.clone()),
            Kind::Seq(s) => Value::Array(s.iter().map(Node::to_value).collect()),
            Kind::Map(m) => Value::Object(m.iter().map(|e| (e.key.clone(), e.value.to_value())).collect::<Map<_, _>>()),
        }
    }
    /// The place of what a path of keys and indices leads to, as far as the path can be followed.
    pub fn at_path<'a>(&'a self, path: impl IntoIterator<Item = &'a str>) -> &'a Node {
        let mut node = self;
        for step in path {
            let next = match &node.kind {
                Kind::Map(_) => node.get(step),
                Kind::Seq(s) => step.parse::<usize>().ok().and_then(|i| s.get(i)),
                _ => None,
            };
            match next {
                Some(n) => node = n,
                None => break,
            }
        }
        node
    }
    /// Calls `f` for this node and every node below it.
    pub fn walk<'a>(&'a self, f: &mut dyn FnMut(&'a Node)) {
        f(self);
        match &self.kind {
            Kind::Seq(s) => s.iter().for_each(|n| n.walk(f)),
            Kind::Map(m) => m.iter().for_each(|e| e.value.walk(f)),
            _ => {}
        }
    }
}
