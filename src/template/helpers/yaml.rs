//! YAML as Ansible writes it, so that files do not change when a template moves here. Long lines are not folded, and
//! text of several lines stands as a block.

use fancy_regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

pub struct Style {
    pub indent: usize,
    pub sort_keys: bool,
    /// Collections on one line: all, none, or those that hold plain values only.
    pub flow: Option<bool>,
    pub explicit_start: bool,
    /// Exactly as Ansible writes text that does not stand plain on one line: in quotes, folded at this width.
    pub python: Option<usize>,
}

pub fn dump(v: &Value, style: &Style) -> String {
    let mut out = String::new();
    if style.explicit_start {
        out.push_str("---\n");
    }
    node(v, style, 0, false, &mut out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn is_flow(v: &Value, style: &Style) -> bool {
    let leaf = |v: &Value| match v {
        Value::Array(_) | Value::Object(_) => false,
        Value::String(s) => !s.contains('\n'),
        _ => true,
    };
    match v {
        Value::Array(a) if a.is_empty() => true,
        Value::Object(o) if o.is_empty() => true,
        Value::Array(a) => style.flow.unwrap_or_else(|| a.iter().all(leaf)),
        Value::Object(o) => style.flow.unwrap_or_else(|| o.values().all(leaf)),
        _ => false,
    }
}

fn entries<'v>(o: &'v serde_json::Map<String, Value>, style: &Style) -> Vec<(&'v String, &'v Value)> {
    let mut all: Vec<_> = o.iter().collect();
    if style.sort_keys {
        all.sort_by(|x, y| x.0.cmp(y.0));
    }
    all
}

/// Writes a value at an indentation. `open`: the line has begun (after `- `), the first entry goes on it.
fn node(v: &Value, style: &Style, at: usize, open: bool, out: &mut String) {
    let mut open = open;
    let mut begin = |out: &mut String| {
        if !std::mem::take(&mut open) {
            out.push_str(&" ".repeat(at));
        }
    };
    match v {
        _ if is_flow(v, style) => flow(v, style, at + style.indent, out),
        Value::Object(o) => {
            for (k, v) in entries(o, style) {
                begin(out);
                key(k, false, style, out);
                out.push(':');
                match v {
                    // A list in a mapping stands as far left as its key.
                    Value::Array(_) if !is_flow(v, style) => {
                        out.push('\n');
                        node(v, style, at, false, out);
                    }
                    Value::Object(_) if !is_flow(v, style) => {
                        out.push('\n');
                        node(v, style, at + style.indent, false, out);
                    }
                    _ => {
                        out.push(' ');
                        leaf(v, style, at + style.indent, out);
                    }
                }
            }
        }
        Value::Array(a) => {
            for v in a {
                begin(out);
                out.push('-');
                match v {
                    Value::Array(_) | Value::Object(_) if !is_flow(v, style) => {
                        out.push_str(&" ".repeat(style.indent.saturating_sub(1).max(1)));
                        node(v, style, at + style.indent.max(2), true, out);
                    }
                    _ => {
                        out.push(' ');
                        leaf(v, style, at + style.indent, out);
                    }
                }
            }
        }
        _ => leaf(v, style, at + style.indent, out),
    }
}

fn leaf(v: &Value, style: &Style, at: usize, out: &mut String) {
    match (v, style.python) {
        (Value::String(s), Some(width)) => folded(s, false, Some(width), at, out),
        (Value::String(s), None) => out.push_str(&scalar(s, false, at, style)),
        (Value::Array(_) | Value::Object(_), _) => flow(v, style, at, out),
        _ => out.push_str(&bare(v, style)),
    }
    out.push('\n');
}

fn key(k: &str, in_flow: bool, style: &Style, out: &mut String) {
    match style.python {
        Some(_) => folded(k, in_flow, None, 0, out),
        None => out.push_str(&scalar(k, in_flow, 0, style)),
    }
}

/// What is neither text nor a collection.
fn bare(v: &Value, style: &Style) -> String {
    match v {
        Value::Null => "null".into(),
        Value::Number(n) if n.is_f64() && style.python.is_some() => {
            let s = crate::template::jinja::python_text(v);
            if s.contains('.') { s } else { s.replacen('e', ".0e", 1) }
        }
        other => other.to_string(),
    }
}

fn flow(v: &Value, style: &Style, at: usize, out: &mut String) {
    let part = |i: usize, out: &mut String| {
        if i == 0 {
            return;
        }
        out.push(',');
        match style.python {
            Some(width) if column(out) > width => {
                out.push('\n');
                out.push_str(&" ".repeat(at));
            }
            _ => out.push(' '),
        }
    };
    match v {
        Value::Array(a) => {
            out.push('[');
            for (i, v) in a.iter().enumerate() {
                part(i, out);
                flow(v, style, at + style.indent, out);
            }
            out.push(']');
        }
        Value::Object(o) => {
            out.push('{');
            for (i, (k, v)) in entries(o, style).into_iter().enumerate() {
                part(i, out);
                key(k, true, style, out);
                out.push_str(": ");
                flow(v, style, at + style.indent, out);
            }
            out.push('}');
        }
        Value::String(s) => match style.python {
            Some(width) => folded(s, true, Some(width), at, out),
            None => out.push_str(&scalar(s, true, 0, style)),
        },
        _ => out.push_str(&bare(v, style)),
    }
}

/// How many characters the line has that is being written.
fn column(out: &str) -> usize {
    out[out.rfind('\n').map_or(0, |i| i + 1)..].chars().count()
}

/// Text as Ansible writes it: plain, or in single quotes, or in double ones where those cannot hold it. Lines that are
/// longer than the width (a key has none) go on in the next one, moved to the right by `at`.
fn folded(s: &str, in_flow: bool, width: Option<usize>, at: usize, out: &mut String) {
    let odd = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{10000}'..)
    };
    let double = s.chars().any(odd) || s.contains(" \n") || s.contains("\n ") || width.is_none() && s.contains('\n');
    let plain = !s.is_empty() && !double && !s.contains('\n') && is_plain(s, in_flow, &PYTHON_NOT_TEXT);
    let chars: Vec<char> = s.chars().collect();
    let quote = match (plain, double) {
        (true, _) => "",
        (_, true) => "\"",
        _ => "'",
    };
    let line = |out: &mut String| {
        out.push('\n');
        out.push_str(&" ".repeat(at));
    };
    out.push_str(quote);
    let (mut spaces, mut breaks) = (false, false);
    for (i, c) in chars.iter().enumerate() {
        let next_is_space = chars.get(i + 1) == Some(&' ');
        let inside = plain || i > 0 && i + 1 < chars.len();
        match c {
            ' ' => {
                let fold = width.is_some_and(|w| column(out) > w) && !spaces && inside && (double || !next_is_space);
                if fold {
                    line(out);
                    if double && next_is_space {
                        out.push('\\');
                    }
                } else {
                    out.push(' ');
                }
                spaces = true;
                continue;
            }
            '\n' if !double => {
                if !breaks {
                    out.push('\n');
                }
                out.push('\n');
                breaks = true;
                continue;
            }
            _ if breaks => out.push_str(&" ".repeat(at)),
            _ => {}
        }
        (spaces, breaks) = (false, false);
        match c {
            '\'' if quote == "'" => out.push_str("''"),
            c if double => escaped(*c, out),
            c => out.push(*c),
        }
    }
    if breaks {
        out.push_str(&" ".repeat(at));
    }
    out.push_str(quote);
}

fn escaped(c: char, out: &mut String) {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if c.is_control() => {
            out.push_str(&format!("\\x{:02X}", c as u32));
            return;
        }
        '\u{10000}'.. => {
            out.push_str(&format!("\\U{:08X}", c as u32));
            return;
        }
        '\u{feff}' => {
            out.push_str("\\uFEFF");
            return;
        }
        c => {
            out.push(c);
            return;
        }
    };
    out.push('\\');
    out.push(short);
}

/// What a reader of YAML 1.1 or 1.2 takes for something else than text.
static NOT_TEXT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?x)\A(?: ~ | null | Null | NULL | = | <<",
        r"| yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        r"| [-+]?0b[01_]+ | [-+]?0o?[0-7_]+ | [-+]?(?:0|[1-9][0-9_]*) | [-+]?0x[0-9a-fA-F_]+",
        r"| [-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?",
        r"| [-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)? | [-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?",
        r"| [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)",
        r"| [0-9]{4}-[0-9]{2}-[0-9]{2} | [0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[\ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}.*",
        r")\z"
    ))
    .ok()
});

/// The same for readers of YAML 1.1 alone, as Python's is one.
static PYTHON_NOT_TEXT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?x)\A(?: ~ | null | Null | NULL | = | <<",
        r"| yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        r"| [-+]?0b[01_]+ | [-+]?0[0-7_]+ | [-+]?(?:0|[1-9][0-9_]*) | [-+]?0x[0-9a-fA-F_]+",
        r"| [-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+ | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*",
        r"| [-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)? | \.[0-9][0-9_]*(?:[eE][-+][0-9]+)?",
        r"| [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)",
        r"| [0-9]{4}-[0-9]{2}-[0-9]{2} | [0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[\ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}",
        r"(?:\.[0-9]*)?(?:[\ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?",
        r")\z"
    ))
    .ok()
});

/// Text as YAML. `at` is where the lines of a block begin; 0 forbids one.
fn scalar(s: &str, in_flow: bool, at: usize, style: &Style) -> String {
    if s.is_empty() {
        return "''".into();
    }
    let odd = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    let several = s.contains('\n');
    if s.chars().any(odd) || (several && !(at > 0 && fits_block(s))) {
        return Value::String(s.to_string()).to_string();
    }
    if several {
        let keep = match (s.ends_with("\n\n") || s == "\n", s.ends_with('\n')) {
            (true, _) => "|+",
            (_, true) => "|",
            _ => "|-",
        };
        let pad = " ".repeat(at.max(style.indent));
        let mut out = keep.to_string();
        for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                out.push_str(&pad);
                out.push_str(line);
            }
        }
        return out;
    }
    if is_plain(s, in_flow, &NOT_TEXT) { s.to_string() } else { format!("'{}'", s.replace('\'', "''")) }
}

/// Whether a block can hold the lines as they are.
fn fits_block(s: &str) -> bool {
    let first = s.split('\n').find(|l| !l.is_empty());
    first.is_some_and(|l| !l.starts_with(' ')) && !s.split('\n').any(|l| l.ends_with(' '))
}

fn is_plain(s: &str, in_flow: bool, not_text: &LazyLock<Option<Regex>>) -> bool {
    let next_is_space = |i: usize| s[i..].chars().nth(1).is_none_or(char::is_whitespace);
    if s.starts_with(' ') || s.ends_with(' ') || s.starts_with("---") || s.starts_with("...") {
        return false;
    }
    let mut before = ' ';
    for (i, c) in s.char_indices() {
        let indicator = if i == 0 {
            "#,[]{}&*!|>'\"%@`".contains(c)
                || (c == '?' || c == ':') && (in_flow || next_is_space(i))
                || c == '-' && next_is_space(i)
        } else {
            in_flow && ",?[]{}:".contains(c) || c == ':' && next_is_space(i) || c == '#' && before.is_whitespace()
        };
        if indicator {
            return false;
        }
        before = c;
    }
    !not_text.as_ref().is_some_and(|r| r.is_match(s).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(|i| serde_json::json!(i)),
            "[ -~\n]{0,12}".prop_map(Value::String),
            "(yes|1e3|0x1f|~|2001-01-01|a: b|- a|#c|a #b|é)".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map("[a-z: #-]{1,6}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            v in value(),
            indent in 2usize..6,
            flow in any::<Option<bool>>(),
            python in prop_oneof![Just(None), Just(None), Just(Some(10))],
        ) {
            // What only readers of YAML 1.2 take for a number is no text to ours.
            prop_assume!(python.is_none() || !v.to_string().contains("1e3"));
            let text = dump(&v, &Style { indent, sort_keys: true, flow, explicit_start: false, python });
            let back: Value = serde_yaml::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(back, v, "{}", text);
        }
    }
}
