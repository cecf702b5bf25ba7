//! Values in INI inventories: a Python literal where the text is one, plain text where it isn't.

use serde_json::{Map, Number, Value};

/// The value a text stands for.
pub fn value(text: &str) -> Value {
    literal(text).unwrap_or_else(|| Value::String(text.to_string()))
}

/// A number that is not shown as it was written (`1.30` is 1.3): likely meant as text.
pub fn loses_digits(text: &str) -> bool {
    let t = text.trim();
    t.contains('.')
        && t.ends_with('0')
        && !t.ends_with(".0")
        && t.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && matches!(literal(t), Some(Value::Number(_)))
}

fn literal(text: &str) -> Option<Value> {
    let mut p = Parser { rest: text.trim_start_matches([' ', '\t']), depth: 0 };
    let first = p.item()?;
    p.space();
    let value = if p.rest.starts_with(',') { p.tuple_rest(first, None)? } else { first };
    p.space();
    (p.rest.is_empty() || p.rest.starts_with('#')).then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\u{c}']);
    }
    fn eat(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(r) => {
                self.rest = r;
                true
            }
            None => false,
        }
    }

    fn item(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > 64 {
            return None;
        }
        let value = self.item_inside();
        self.depth -= 1;
        value
    }

    fn item_inside(&mut self) -> Option<Value> {
        self.space();
        match self.rest.chars().next()? {
            '[' => {
                self.eat("[");
                self.items(']').map(Value::Array)
            }
            '(' => {
                self.eat("(");
                self.space();
                if self.eat(")") {
                    return Some(Value::Array(vec![]));
                }
                let first = self.item()?;
                self.space();
                if self.eat(")") { Some(first) } else { self.tuple_rest(first, Some(')')) }
            }
            '{' => {
                self.eat("{");
                self.braces()
            }
            '-' | '+' => {
                let negative = self.rest.starts_with('-');
                self.rest = &self.rest[1..];
                self.space();
                self.number(negative)
            }
            c if c.is_ascii_digit() || c == '.' => {
                if self.eat("...") {
                    return Some(Value::String("...".into()));
                }
                self.number(false)
            }
            _ => self.name_or_text(),
        }
    }

    /// `, b, c` behind a first value; `close` ends it, or the end of the text.
    fn tuple_rest(&mut self, first: Value, close: Option<char>) -> Option<Value> {
        let mut items = vec![first];
        loop {
            self.space();
            if self.ends(close) {
                return Some(Value::Array(items));
            }
            if !self.eat(",") {
                return None;
            }
            self.space();
            if self.ends(close) {
                return Some(Value::Array(items));
            }
            items.push(self.item()?);
        }
    }
    fn ends(&mut self, close: Option<char>) -> bool {
        match close {
            Some(c) => self.eat(c.encode_utf8(&mut [0; 4])),
            None => self.rest.is_empty() || self.rest.starts_with('#'),
        }
    }

    fn items(&mut self, close: char) -> Option<Vec<Value>> {
        let mut items = vec![];
        loop {
            self.space();
            if self.ends(Some(close)) {
                return Some(items);
            }
            if !items.is_empty() {
                if !self.eat(",") {
                    return None;
                }
                self.space();
                if self.ends(Some(close)) {
                    return Some(items);
                }
            }
            items.push(self.item()?);
        }
    }

    fn braces(&mut self) -> Option<Value> {
        self.space();
        if self.eat("}") {
            return Some(Value::Object(Map::new()));
        }
        let first = self.item()?;
        self.space();
        if !self.eat(":") {
            // A set: its values once each.
            return match self.tuple_rest(first, Some('}'))? {
                Value::Array(items) => {
                    let mut once: Vec<Value> = vec![];
                    for i in items {
                        if !once.contains(&i) {
                            once.push(i);
                        }
                    }
                    Some(Value::Array(once))
                }
                other => Some(other),
            };
        }
        let mut map = Map::new();
        let mut key = key_text(first)?;
        loop {
            map.insert(key, self.item()?);
            self.space();
            if self.eat("}") {
                return Some(Value::Object(map));
            }
            if !self.eat(",") {
                return None;
            }
            self.space();
            if self.eat("}") {
                return Some(Value::Object(map));
            }
            key = key_text(self.item()?)?;
            self.space();
            if !self.eat(":") {
                return None;
            }
        }
    }

    fn name_or_text(&mut self) -> Option<Value> {
        for (word, value) in [("True", Value::Bool(true)), ("False", Value::Bool(false)), ("None", Value::Null)] {
            if let Some(r) = self.rest.strip_prefix(word)
                && !r.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\'' || c == '"')
            {
                self.rest = r;
                return Some(value);
            }
        }
        if self.eat("set()") {
            return Some(Value::Array(vec![]));
        }
        let mut out = self.string()?;
        loop {
            self.space();
            match self.string() {
                Some(more) => out.push_str(&more),
                None => return Some(Value::String(out)),
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let quote_at = self.rest.find(['\'', '"'])?;
        let prefix = self.rest[..quote_at].to_ascii_lowercase();
        let raw = match prefix.as_str() {
            "" | "u" | "b" => false,
            "r" | "rb" | "br" => true,
            _ => return None,
        };
        let body = &self.rest[quote_at..];
        let quote = &body[..1];
        let triple = quote.repeat(3);
        let close = if body.starts_with(&triple) { triple.as_str() } else { quote };
        let inner = &body[close.len()..];
        let mut out = String::new();
        let mut chars = inner.char_indices();
        while let Some((i, c)) = chars.next() {
            if inner[i..].starts_with(close) {
                self.rest = &inner[i + close.len()..];
                return Some(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let (_, e) = chars.next()?;
            if raw {
                out.push('\\');
                out.push(e);
                continue;
            }
            let hex = |chars: &mut std::str::CharIndices, n: usize| {
                let digits: String = chars.by_ref().take(n).map(|(_, c)| c).collect();
                (digits.len() == n && digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .then(|| u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32))
                    .flatten()
            };
            match e {
                '\\' | '\'' | '"' => out.push(e),
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'a' => out.push('\u{7}'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'v' => out.push('\u{b}'),
                'x' => out.push(hex(&mut chars, 2)?),
                'u' => out.push(hex(&mut chars, 4)?),
                'U' => out.push(hex(&mut chars, 8)?),
                '0'..='7' => {
                    let mut n = e.to_digit(8)?;
                    for _ in 0..2 {
                        let mut ahead = chars.clone();
                        match ahead.next().and_then(|(_, c)| c.to_digit(8)) {
                            Some(d) => {
                                n = n * 8 + d;
                                chars = ahead;
                            }
                            None => break,
                        }
                    }
                    out.push(char::from_u32(n)?);
                }
                'N' => return None,
                other => {
                    out.push('\\');
                    out.push(other);
                }
            }
        }
        None
    }

    fn number(&mut self, negative: bool) -> Option<Value> {
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(b) = bytes.get(end) {
            let sign = matches!(b, b'+' | b'-')
                && end > 0
                && matches!(bytes[end - 1], b'e' | b'E')
                && !self.rest[..end].starts_with("0x")
                && !self.rest[..end].starts_with("0X");
            if !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_') || sign) {
                break;
            }
            end += 1;
        }
        let written = &self.rest[..end];
        if self.rest[end..].starts_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let number = number(written, negative)?;
        self.rest = &self.rest[end..];
        Some(Value::Number(number))
    }
}

/// A Python number: no leading zeros, single underscores between digits.
fn number(written: &str, negative: bool) -> Option<Number> {
    let lower = written.to_ascii_lowercase();
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)].iter().find_map(|(p, r)| lower.strip_prefix(p).map(|d| (d, *r)));
    let body = prefixed.map_or(lower.as_str(), |(d, _)| d.strip_prefix('_').unwrap_or(d));
    if body.is_empty() || body.starts_with('_') || body.ends_with('_') || body.contains("__") {
        return None;
    }
    if ["_.", "._", "_e", "e_"].iter().any(|s| body.contains(s)) && prefixed.is_none_or(|(_, r)| r != 16) {
        return None;
    }
    let digits = body.replace('_', "");
    let integer = |n: u64| {
        if negative { i64::try_from(-i128::from(n)).ok().map(Number::from) } else { Some(Number::from(n)) }
    };
    if let Some((_, radix)) = prefixed {
        return u64::from_str_radix(&digits, radix).ok().filter(|_| !digits.starts_with('+')).and_then(integer);
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        if digits.len() > 1 && digits.starts_with('0') && digits.bytes().any(|b| b != b'0') {
            return None;
        }
        return digits.parse::<u64>().ok().and_then(integer);
    }
    let float_like = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'))
        && digits.bytes().any(|b| b.is_ascii_digit());
    if !float_like {
        return None;
    }
    let f: f64 = digits.parse().ok()?;
    Number::from_f64(if negative { -f } else { f })
}

/// A dictionary's key as text.
fn key_text(key: Value) -> Option<String> {
    match key {
        Value::String(s) => Some(s),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(if b { "True" } else { "False" }.into()),
        Value::Null => Some("None".into()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_are_typed_and_everything_else_is_text() {
        for (text, expected) in [
            ("5", json!(5)),
            ("-5", json!(-5)),
            ("1_000", json!(1000)),
            ("0x1f", json!(31)),
            ("0o17", json!(15)),
            ("00", json!(0)),
            ("0644", json!("0644")),
            ("1.5", json!(1.5)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("1-2", json!("1-2")),
            ("2j", json!("2j")),
            ("True", json!(true)),
            ("False", json!(false)),
            ("None", json!(null)),
            ("true", json!("true")),
            ("yes", json!("yes")),
            ("Truely", json!("Truely")),
            ("\"5\"", json!("5")),
            ("'a' 'b'", json!("ab")),
            ("'it\\'s\\n'", json!("it's\n")),
            ("r'\\d'", json!("\\d")),
            ("'\\x41\\u00e4\\101'", json!("AäA")),
            ("'open", json!("'open")),
            ("[1, 'a', True, None,]", json!([1, "a", true, null])),
            ("[a, b]", json!("[a, b]")),
            ("(1)", json!(1)),
            ("(1,)", json!([1])),
            ("()", json!([])),
            ("1,2", json!([1, 2])),
            ("a,b", json!("a,b")),
            ("{'a': {'b': [1]}}", json!({"a": {"b": [1]}})),
            ("{1: 2}", json!({"1": 2})),
            ("{1, 2, 1}", json!([1, 2])),
            ("{}", json!({})),
            ("{{ x }}", json!("{{ x }}")),
            ("5 # comment", json!(5)),
            ("foo # bar", json!("foo # bar")),
            ("...", json!("...")),
            ("99999999999999999999", json!("99999999999999999999")),
            ("", json!("")),
            ("  7", json!(7)),
            ("5 6", json!("5 6")),
            ("0xfe+1", json!("0xfe+1")),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        assert!(loses_digits("1.30") && !loses_digits("1.3") && !loses_digits("2.0") && !loses_digits("1.2.30"));
        assert_eq!(value(&"[".repeat(10_000)), json!("[".repeat(10_000)));
    }
}
