//! Values between here and the engine, and how Python would write them.

use crate::template::{OMIT, limits};
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State};
use serde_json::{Map, Number};
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Values within values that are more than this deep are refused.
const DEEPEST: usize = 100;

pub fn to_engine(v: &serde_json::Value) -> minijinja::Value {
    use serde_json::Value as J;
    match v {
        J::Null => ().into(),
        J::Bool(b) => (*b).into(),
        J::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => i.into(),
            (None, Some(u)) => u.into(),
            _ => n.as_f64().unwrap_or(0.0).into(),
        },
        J::String(s) => s.as_str().into(),
        J::Array(a) => minijinja::Value::from(a.iter().map(to_engine).collect::<Vec<_>>()),
        J::Object(o) => {
            let all = minijinja::Value::from_pairs(o.iter().map(|(k, v)| (k.as_str(), to_engine(v))));
            match o.keys().any(|k| k.parse::<i64>().is_ok()) {
                true => minijinja::Value::from_object(Numbered(all)),
                false => all,
            }
        }
    }
}

/// A mapping of variables with keys that are numbers. They are text here, and are found by their number as well.
#[derive(Debug)]
struct Numbered(minijinja::Value);

impl Object for Numbered {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let found = |key: &minijinja::Value| self.0.get_item(key).ok().filter(|v| !v.is_undefined());
        found(key).or_else(|| found(&key.as_i64().filter(|_| key.is_integer())?.to_string().into()))
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.try_iter().into_iter().flatten().collect())
    }
}

/// The value as it is everywhere else. Undefined values are no part of any.
pub fn from_engine(v: &minijinja::Value) -> Result<serde_json::Value, Error> {
    down(v, 0)
}

fn down(v: &minijinja::Value, depth: usize) -> Result<serde_json::Value, Error> {
    use serde_json::Value as J;
    if depth > DEEPEST {
        return Err(too_deep());
    }
    limits::one(v.as_str().map_or(0, str::len)).map_err(too_much)?;
    Ok(match v.kind() {
        ValueKind::None => J::Null,
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::Bool => J::Bool(v.is_true()),
        ValueKind::Number => number(v),
        ValueKind::String => J::String(v.as_str().unwrap_or_default().to_string()),
        ValueKind::Seq | ValueKind::Iterable => {
            J::Array(v.try_iter()?.map(|x| down(&x, depth + 1)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut out = Map::new();
            for k in v.try_iter()? {
                let key = match k.as_str() {
                    Some(s) => s.to_string(),
                    None => python(&k)?,
                };
                out.insert(key, down(&v.get_item(&k)?, depth + 1)?);
            }
            J::Object(out)
        }
        _ => J::String(python(v)?),
    })
}

/// A rendering takes too much.
pub fn too_much(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Counts a value with all that is in it; what stands too deep is refused.
pub fn counted(v: &minijinja::Value) -> Result<(), Error> {
    fn walk(v: &minijinja::Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        limits::one(v.as_str().map_or(0, str::len)).map_err(too_much)?;
        match v.kind() {
            ValueKind::Seq | ValueKind::Iterable => v.try_iter()?.try_for_each(|x| walk(&x, depth + 1)),
            ValueKind::Map => v.try_iter()?.try_for_each(|k| walk(&v.get_item(&k)?, depth + 1)),
            _ => Ok(()),
        }
    }
    walk(v, 0)
}

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a value holds values too deep within each other")
}

fn number(v: &minijinja::Value) -> serde_json::Value {
    if v.is_integer() {
        return match (v.as_i64(), u64::try_from(v.clone())) {
            (Some(i), _) => i.into(),
            (None, Ok(u)) => u.into(),
            _ => float(v).into(),
        };
    }
    Number::from_f64(float(v)).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

fn float(v: &minijinja::Value) -> f64 {
    f64::try_from(v.clone()).unwrap_or(0.0)
}

/// Which of two values is the lesser, as far as Python has an order for them.
pub fn ordering(sign: &str, a: &minijinja::Value, b: &minijinja::Value) -> Result<std::cmp::Ordering, Error> {
    /// True and false are numbers.
    fn plain(v: &minijinja::Value) -> minijinja::Value {
        if v.kind() == ValueKind::Bool { i64::from(v.is_true()).into() } else { v.clone() }
    }
    fn kind(v: &minijinja::Value) -> &'static str {
        match v.kind() {
            ValueKind::Number => "a number",
            ValueKind::String => "text",
            ValueKind::Seq if v.is_tuple() => "a tuple",
            ValueKind::Seq | ValueKind::Iterable => "a list",
            ValueKind::Map => "a mapping",
            ValueKind::None => "nothing (None)",
            _ => "this",
        }
    }
    fn compare(
        sign: &str,
        a: &minijinja::Value,
        b: &minijinja::Value,
        depth: usize,
    ) -> Result<std::cmp::Ordering, Error> {
        let (a, b) = (plain(a), plain(b));
        match (a.kind(), b.kind()) {
            _ if depth > DEEPEST => Err(too_deep()),
            (ValueKind::Number, ValueKind::Number) | (ValueKind::String, ValueKind::String) => Ok(a.cmp(&b)),
            (ValueKind::Seq | ValueKind::Iterable, ValueKind::Seq | ValueKind::Iterable)
                if a.is_tuple() == b.is_tuple() =>
            {
                let (mut x, mut y) = (a.try_iter()?, b.try_iter()?);
                loop {
                    limits::one(0).map_err(too_much)?;
                    match (x.next(), y.next()) {
                        (Some(x), Some(y)) if plain(&x) == plain(&y) => {}
                        (Some(x), Some(y)) => return compare(sign, &x, &y, depth + 1),
                        (x, y) => return Ok(x.is_some().cmp(&y.is_some())),
                    }
                }
            }
            _ => {
                let hint = match (a.kind(), b.kind()) {
                    (ValueKind::String, ValueKind::Number) | (ValueKind::Number, ValueKind::String) => {
                        "`| int` makes a number of text"
                    }
                    _ => "make one kind of both",
                };
                let said = format!("`{sign}` does not compare {} with {}; {hint}", kind(&a), kind(&b));
                Err(Error::new(ErrorKind::InvalidOperation, said))
            }
        }
    }
    compare(sign, a, b, 0)
}

/// The value as Python's `str` writes it.
pub fn python(v: &minijinja::Value) -> Result<String, Error> {
    let mut out = String::new();
    write(v, false, Tuples::Kept, 0, &mut out)?;
    Ok(out)
}

/// The value as it stands in a template's result: as Ansible hands it on, nothing for None, tuples as lists.
pub fn shown(v: &minijinja::Value) -> Result<String, Error> {
    let mut out = String::new();
    if !v.is_none() {
        write(v, false, Tuples::Lists, 0, &mut out)?;
    }
    Ok(out)
}

#[derive(Clone, Copy, PartialEq)]
enum Tuples {
    Kept,
    Lists,
}

fn write(v: &minijinja::Value, inside: bool, tuples: Tuples, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    limits::one(v.as_str().map_or(0, str::len)).map_err(too_much)?;
    match v.kind() {
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if v.is_true() { "True" } else { "False" }),
        ValueKind::Number if !v.is_integer() => out.push_str(&float_text(float(v))),
        ValueKind::String if inside => quoted(v.as_str().unwrap_or_default(), out),
        ValueKind::String => out.push_str(v.as_str().unwrap_or_default()),
        ValueKind::Iterable if tuples == Tuples::Kept => {
            let said = "what is gone through one by one has no text; `| list` makes a list of it";
            return Err(Error::new(ErrorKind::InvalidOperation, said));
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = tuples == Tuples::Kept && v.is_tuple();
            let (open, close) = if tuple { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut n = 0;
            for x in v.try_iter()? {
                if tuples == Tuples::Lists && x.as_str() == Some(OMIT) {
                    continue;
                }
                if n > 0 {
                    out.push_str(", ");
                }
                write(&x, true, tuples, depth + 1, out)?;
                n += 1;
            }
            if n == 1 && tuple {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            let mut n = 0;
            for k in v.try_iter()? {
                let of = v.get_item(&k)?;
                if tuples == Tuples::Lists && of.as_str() == Some(OMIT) {
                    continue;
                }
                if n > 0 {
                    out.push_str(", ");
                }
                write(&k, true, tuples, depth + 1, out)?;
                out.push_str(": ");
                write(&of, true, tuples, depth + 1, out)?;
                n += 1;
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{v}");
        }
    }
    Ok(())
}

/// A value as Python's `str` writes it.
pub fn text(v: &serde_json::Value) -> String {
    let mut out = String::new();
    json(v, false, &mut out);
    out
}

fn json(v: &serde_json::Value, inside: bool, out: &mut String) {
    use serde_json::Value as J;
    match v {
        J::Null => out.push_str("None"),
        J::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
        J::Number(n) if n.is_f64() => out.push_str(&float_text(n.as_f64().unwrap_or(0.0))),
        J::Number(n) => out.push_str(&n.to_string()),
        J::String(s) if inside => quoted(s, out),
        J::String(s) => out.push_str(s),
        J::Array(a) => {
            out.push('[');
            for (i, x) in a.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                json(x, true, out);
            }
            out.push(']');
        }
        J::Object(o) => {
            out.push('{');
            for (i, (k, x)) in o.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                quoted(k, out);
                out.push_str(": ");
                json(x, true, out);
            }
            out.push('}');
        }
    }
}

/// Text in quotes as Python's `repr` puts them.
fn quoted(s: &str, out: &mut String) {
    let q = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(q);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == q => {
                out.push('\\');
                out.push(c);
            }
            '\u{200b}'..='\u{200f}'
            | '\u{2000}'..='\u{200a}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{1680}'
            | '\u{3000}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(q);
}

/// A pair that `groupby` gives: a tuple whose parts have names as well.
#[derive(Debug)]
pub struct Group(pub minijinja::Value, pub minijinja::Value);

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        match (key.as_str(), key.as_usize()) {
            (Some("grouper"), _) | (_, Some(0)) => Some(self.0.clone()),
            (Some("list"), _) | (_, Some(1)) => Some(self.1.clone()),
            _ => None,
        }
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// A float as Python writes it: the fewest digits that give it back, with an exponent below 0.0001 and from 1e16 on.
pub fn float_text(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf" } else { "-inf" }.into();
    }
    let e = format!("{f:e}");
    let (digits, exponent) = e.split_once('e').unwrap_or((&e, "0"));
    let n: i32 = exponent.parse().unwrap_or(0);
    if f == 0.0 || (-4..16).contains(&n) {
        return format!("{f:?}");
    }
    format!("{digits}e{}{:02}", if n < 0 { '-' } else { '+' }, n.abs())
}

/// A list or mapping that the template itself makes and changes in place.
#[derive(Debug)]
pub enum Own {
    List(Mutex<Vec<minijinja::Value>>),
    Map(Mutex<Vec<(minijinja::Value, minijinja::Value)>>),
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More elements than this no list grows to.
const LONGEST: usize = 1_000_000;

impl Own {
    /// A list or a mapping that can be changed.
    pub fn of(v: minijinja::Value) -> Result<minijinja::Value, Error> {
        Ok(match v.kind() {
            ValueKind::Map => {
                let all = v.try_iter()?.map(|k| Ok((k.clone(), v.get_item(&k)?))).collect::<Result<_, Error>>()?;
                minijinja::Value::from_object(Own::Map(Mutex::new(all)))
            }
            ValueKind::Seq => minijinja::Value::from_object(Own::List(Mutex::new(v.try_iter()?.collect()))),
            _ => v,
        })
    }
}

/// What it holds must not lead back to it.
fn plain(v: &minijinja::Value) -> Result<minijinja::Value, Error> {
    match v.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => Ok(to_engine(&from_engine(v)?)),
        ValueKind::Plain => Err(Error::new(ErrorKind::InvalidOperation, "only plain values can be put into a list")),
        _ => Ok(v.clone()),
    }
}

impl Object for Own {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match **self {
            Own::List(_) => ObjectRepr::Seq,
            Own::Map(_) => ObjectRepr::Map,
        }
    }
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        match &**self {
            Own::List(l) => lock(l).get(key.as_usize()?).cloned(),
            Own::Map(m) => searched(&lock(m)).iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()),
        }
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match &**self {
            Own::List(l) => Enumerator::Seq(lock(l).len()),
            Own::Map(m) => Enumerator::Values(lock(m).iter().map(|(k, _)| k.clone()).collect()),
        }
    }
    fn custom_cmp(self: &Arc<Self>, _: &DynObject) -> Option<std::cmp::Ordering> {
        None
    }
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python(&minijinja::Value::from_dyn_object(self.clone())).unwrap_or_default())
    }
    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        args: &[minijinja::Value],
    ) -> Result<minijinja::Value, Error> {
        let none = || Ok(minijinja::Value::from(()));
        let wrong = |what: &str| Err(Error::new(ErrorKind::InvalidOperation, format!("`{method}` {what}")));
        let full = || Err(Error::new(ErrorKind::InvalidOperation, "a list grows beyond a million elements"));
        match (&**self, method, args) {
            (Own::List(l), "append", [v]) => {
                let v = plain(v)?;
                let mut l = lock(l);
                if l.len() >= LONGEST {
                    return full();
                }
                l.push(v);
                none()
            }
            (Own::List(l), "extend", [v]) => {
                let more = v.try_iter()?.map(|x| plain(&x)).collect::<Result<Vec<_>, _>>()?;
                let mut l = lock(l);
                if l.len() + more.len() >= LONGEST {
                    return full();
                }
                l.extend(more);
                none()
            }
            (Own::List(l), "insert", [i, v]) => {
                let v = plain(v)?;
                let mut l = lock(l);
                if l.len() >= LONGEST {
                    return full();
                }
                let (n, i) = (l.len() as i64, i.as_i64().unwrap_or(0));
                l.insert(if i < 0 { (n + i).max(0) } else { i.min(n) } as usize, v);
                none()
            }
            (Own::List(l), "pop", _) => {
                let mut l = lock(l);
                let n = l.len() as i64;
                let i = args.first().and_then(minijinja::Value::as_i64).unwrap_or(-1);
                match usize::try_from(if i < 0 { n + i } else { i }) {
                    Ok(i) if i < l.len() => Ok(l.remove(i)),
                    _ => wrong("finds no such element"),
                }
            }
            (Own::List(l), "remove", [v]) => {
                let mut l = lock(l);
                match l.iter().position(|x| x == v) {
                    Some(i) => drop(l.remove(i)),
                    None => return wrong("finds no such element"),
                }
                none()
            }
            (Own::List(l), "clear", []) => {
                lock(l).clear();
                none()
            }
            (Own::Map(m), "update", args) => {
                for a in args {
                    for k in a.try_iter()? {
                        put(&mut lock(m), k.clone(), plain(&a.get_item(&k)?)?);
                    }
                }
                none()
            }
            (Own::Map(m), "setdefault", [k, rest @ ..]) => {
                if let Some(v) = self.get_value(k) {
                    return Ok(v);
                }
                let v = rest.first().map_or(Ok(().into()), plain)?;
                put(&mut lock(m), k.clone(), v.clone());
                Ok(v)
            }
            (Own::Map(m), "pop", [k, rest @ ..]) => {
                let mut m = lock(m);
                match (m.iter().position(|(x, _)| x == k), rest) {
                    (Some(i), _) => Ok(m.remove(i).1),
                    (None, [otherwise, ..]) => Ok(otherwise.clone()),
                    (None, []) => wrong("finds no such key"),
                }
            }
            (Own::Map(m), "clear", []) => {
                lock(m).clear();
                none()
            }
            _ => super::door::method(state, &plain(&minijinja::Value::from_dyn_object(self.clone()))?, method, args),
        }
    }
}

/// It is gone through from its beginning: that is counted, and too much of it is said at the next value.
fn searched<T>(all: &[T]) -> &[T] {
    let _ = limits::charge(all.len() * 8);
    all
}

fn put(m: &mut Vec<(minijinja::Value, minijinja::Value)>, k: minijinja::Value, v: minijinja::Value) {
    searched(m);
    match m.iter_mut().find(|(x, _)| *x == k) {
        Some((_, old)) => *old = v,
        None => m.push((k, v)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_in_python() {
        for (f, s) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0.0"),
            (1.5e-7, "1.5e-07"),
        ] {
            assert_eq!(float_text(f), s);
        }
    }

    #[test]
    fn text_within_values_is_quoted_as_in_python() {
        let v = serde_json::json!(["a", "it's", "\"'", "\n\\", true, null, {"k": 1.0}]);
        assert_eq!(text(&v), r#"['a', "it's", '"\'', '\n\\', True, None, {'k': 1.0}]"#);
        assert_eq!(python(&to_engine(&v)).unwrap(), text(&v));
    }
}
