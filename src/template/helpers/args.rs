//! A helper's arguments, and how values are read as the kind that is asked for.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::Index;

/// Why a helper gave no value.
#[derive(Debug)]
pub enum Fail {
    /// The arguments are wrong.
    Wrong(String),
    /// There is none, which `default` may mend.
    Undefined(String),
    /// It needs something from outside first.
    Outside(super::Ask),
}

impl From<String> for Fail {
    fn from(s: String) -> Self {
        Fail::Wrong(s)
    }
}

impl From<&str> for Fail {
    fn from(s: &str) -> Self {
        Fail::Wrong(s.into())
    }
}

/// The name under which the engine puts what helpers need from outside. No variable can have it.
pub const OUTSIDE: &str = "@outside";

pub struct Args<'a> {
    pub values: Vec<&'a Value>,
    pub named: Vec<(&'a str, &'a Value)>,
    /// A bit for every undefined argument.
    pub missing: u64,
    pub outside: Option<&'a Value>,
}

impl Index<usize> for Args<'_> {
    type Output = Value;
    fn index(&self, i: usize) -> &Value {
        self.values.get(i).copied().unwrap_or(&Value::Null)
    }
}

impl<'a> Args<'a> {
    pub fn len(&self) -> usize {
        self.values.len()
    }
    pub fn get(&self, i: usize) -> Option<&'a Value> {
        self.values.get(i).copied()
    }
    pub fn is_missing(&self, i: usize) -> bool {
        self.missing >> i.min(63) & 1 == 1
    }
    pub fn text(&self, i: usize) -> Cow<'a, str> {
        self.get(i).map(as_text).unwrap_or_default()
    }
    /// The argument must be a list.
    pub fn list(&self, i: usize) -> Result<&'a [Value], Fail> {
        as_list(self.get(i).unwrap_or(&Value::Null), i)
    }
    pub fn mapping(&self, i: usize) -> Result<&'a Map<String, Value>, Fail> {
        match self.get(i) {
            Some(Value::Object(o)) => Ok(o),
            other => Err(Fail::Wrong(format!(
                "its {} argument must be a mapping, not {}",
                nth(i),
                kind_of(other.unwrap_or(&Value::Null))
            ))),
        }
    }
    pub fn whole(&self, i: usize) -> Result<i64, Fail> {
        as_whole(&self[i])
    }
    pub fn truth(&self, i: usize) -> Result<bool, Fail> {
        as_truth(&self[i])
    }
    pub fn named(&self, name: &str) -> Option<&'a Value> {
        self.named.iter().find(|(k, _)| *k == name).map(|(_, v)| *v)
    }
    pub fn named_text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.named(name).map(as_text)
    }
    /// A named argument that is true or false.
    pub fn flag(&self, name: &str, otherwise: bool) -> Result<bool, Fail> {
        self.named(name).map_or(Ok(otherwise), as_truth)
    }
    /// An argument that can stand in its place or be named.
    pub fn either(&self, i: usize, name: &str) -> Option<&'a Value> {
        self.get(i).or_else(|| self.named(name))
    }
    /// The values from one place on.
    pub fn rest(&self, from: usize) -> Vec<&'a Value> {
        self.values.iter().skip(from).copied().collect()
    }
}

pub fn nth(i: usize) -> String {
    match i {
        0 => "first".into(),
        1 => "second".into(),
        2 => "third".into(),
        n => format!("{}th", n + 1),
    }
}

/// What kind of value it is, with an article.
pub fn kind_of(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// A value as text: text as it is, everything else as JSON.
pub fn text(v: &Value) -> String {
    as_text(v).into_owned()
}

thread_local! {
    /// Whether values become text as in Python. Jinja's filters are these same helpers.
    static PYTHON: Cell<bool> = const { Cell::new(false) };
}

/// Whether values become text as in Python.
pub fn is_python() -> bool {
    PYTHON.get()
}

/// Runs a helper whose values become text as in Python: `True`, `['a', 'b']`.
pub fn as_python<T>(run: impl FnOnce() -> T) -> T {
    let before = PYTHON.replace(true);
    let result = run();
    PYTHON.set(before);
    result
}

pub fn as_text(v: &Value) -> Cow<'_, str> {
    match v {
        Value::String(s) => Cow::Borrowed(s),
        other if is_python() => Cow::Owned(crate::template::jinja::python_text(other)),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

/// A value for an error message: a long one by its kind and size alone, since the beginning of a secret is not known for one.
pub fn shown(v: &Value) -> String {
    const MOST: usize = 60;
    let t = text(v);
    let length = t.chars().count();
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match v {
        _ if length <= MOST => format!("`{t}`"),
        Value::Array(a) => format!("a list of {}", count(a.len(), "item")),
        Value::Object(o) => format!("a mapping of {}", count(o.len(), "key")),
        _ => format!("text of {length} characters"),
    }
}

pub fn as_list(v: &Value, i: usize) -> Result<&[Value], Fail> {
    match v {
        Value::Array(l) => Ok(l),
        other => {
            let hint = match other {
                Value::Object(_) => "; `dict2items`, `keys` or `values` makes one of it",
                Value::String(_) => "; `split` makes one of it",
                _ => "",
            };
            Err(Fail::Wrong(format!("its {} argument must be a list, not {}{hint}", nth(i), kind_of(other))))
        }
    }
}

pub fn as_truth(v: &Value) -> Result<bool, Fail> {
    super::super::truthy(v).ok_or_else(|| Fail::Wrong(format!("{} is neither true nor false", shown(v))))
}

/// Whether Python takes the value for true: what is not empty and not nought.
pub fn is_full(v: &Value) -> bool {
    match v {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// Equality; numbers by their value.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| equal(v, w)))
        }
        _ => a == b,
    }
}

/// Equality of what is written: 5 and 5.0 differ.
#[cfg(test)]
pub fn exactly(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x.is_f64() == y.is_f64() && equal(a, b),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| exactly(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| exactly(v, w)))
        }
        _ => a == b,
    }
}

/// A number, or text that is one.
pub fn as_number(v: &Value) -> Option<f64> {
    if let (Value::Bool(b), true) = (v, is_python()) {
        return Some(f64::from(u8::from(*b)));
    }
    v.as_f64().or_else(|| v.as_str().and_then(|s| s.trim().parse().ok()))
}

/// The order of two values: numbers, or text that is one, by value; text by its characters; lists element by element.
/// In Python text is never a number, and true and false are.
pub fn order(a: &Value, b: &Value) -> Result<Ordering, Fail> {
    let no = || Fail::Wrong(format!("{} and {} cannot be compared", shown(a), shown(b)));
    if is_python() {
        let whole = |v: &Value| if let Value::Bool(b) = v { Some(i64::from(*b)) } else { v.as_i64() };
        return match (a, b) {
            (Value::String(x), Value::String(y)) => Ok(x.cmp(y)),
            (Value::Array(x), Value::Array(y)) => match x.iter().zip(y).find(|(x, y)| !equal(x, y)) {
                Some((x, y)) => order(x, y),
                None => Ok(x.len().cmp(&y.len())),
            },
            (Value::Bool(_) | Value::Number(_), Value::Bool(_) | Value::Number(_)) => match (whole(a), whole(b)) {
                (Some(x), Some(y)) => Ok(x.cmp(&y)),
                _ => as_number(a).zip(as_number(b)).and_then(|(x, y)| x.partial_cmp(&y)).ok_or_else(no),
            },
            _ => Err(no()),
        };
    }
    match (a, b) {
        (Value::String(x), Value::String(y)) => match (as_number(a), as_number(b)) {
            (Some(x), Some(y)) => x.partial_cmp(&y).ok_or_else(no),
            _ => Ok(x.cmp(y)),
        },
        (Value::Bool(x), Value::Bool(y)) => Ok(x.cmp(y)),
        (Value::Array(x), Value::Array(y)) => {
            for (x, y) in x.iter().zip(y) {
                match order(x, y)? {
                    Ordering::Equal => {}
                    other => return Ok(other),
                }
            }
            Ok(x.len().cmp(&y.len()))
        }
        _ => match (as_number(a), as_number(b)) {
            (Some(x), Some(y)) => x.partial_cmp(&y).ok_or_else(no),
            _ => Err(no()),
        },
    }
}

/// A whole number: what stands behind the point is cut off.
pub fn as_whole(v: &Value) -> Result<i64, Fail> {
    let float = |f: f64| (f.is_finite() && f.abs() < 9.2e18).then_some(f as i64);
    match v {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().and_then(float)),
        Value::Bool(b) => Some(i64::from(*b)),
        Value::String(s) => {
            let s = s.trim();
            let s = if is_python() { without_underscores(s) } else { Cow::Borrowed(s) };
            s.parse().ok().or_else(|| s.parse().ok().and_then(float))
        }
        _ => None,
    }
    .ok_or_else(|| Fail::Wrong(format!("{} is not a whole number", shown(v))))
}

/// A number as Python reads it may have single underscores between its digits.
pub fn without_underscores(s: &str) -> Cow<'_, str> {
    let b = s.as_bytes();
    let between =
        |i: usize| i > 0 && b[i - 1].is_ascii_alphanumeric() && b.get(i + 1).is_some_and(u8::is_ascii_alphanumeric);
    match b.iter().enumerate().all(|(i, c)| *c != b'_' || between(i)) {
        true if s.contains('_') => Cow::Owned(s.replace('_', "")),
        _ => Cow::Borrowed(s),
    }
}

/// What a path such as `spec.nodes.0.name` leads to.
pub fn at_path<'v>(v: &'v Value, path: &str) -> Option<&'v Value> {
    if let Some(v) = v.get(path) {
        return Some(v);
    }
    path.split('.').try_fold(v, |v, part| match v {
        Value::Array(a) => part.parse::<usize>().ok().and_then(|i| a.get(i)),
        other => other.get(part),
    })
}
