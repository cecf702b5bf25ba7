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
        _ if is_flow(v, style) => flow(v, style, out),
        Value::Object(o) => {
            for (k, v) in entries(o, style) {
                begin(out);
                out.push_str(&scalar(k, false, 0, style));
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
    match v {
        Value::String(s) => out.push_str(&scalar(s, false, at, style)),
        Value::Array(_) | Value::Object(_) => flow(v, style, out),
        Value::Null => out.push_str("null"),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

fn flow(v: &Value, style: &Style, out: &mut String) {
    match v {
        Value::Array(a) => {
            out.push('[');
            for (i, v) in a.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                flow(v, style, out);
            }
            out.push(']');
        }
        Value::Object(o) => {
            out.push('{');
            for (i, (k, v)) in entries(o, style).into_iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                out.push_str(&scalar(k, true, 0, style));
                out.push_str(": ");
                flow(v, style, out);
            }
            out.push('}');
        }
        Value::String(s) => out.push_str(&scalar(s, true, 0, style)),
        Value::Null => out.push_str("null"),
        other => out.push_str(&other.to_string()),
    }
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
    if is_plain(s, in_flow) { s.to_string() } else { format!("'{}'", s.replace('\'', "''")) }
}

/// Whether a block can hold the lines as they are.
fn fits_block(s: &str) -> bool {
    let first = s.split('\n').find(|l| !l.is_empty());
    first.is_some_and(|l| !l.starts_with(' ')) && !s.split('\n').any(|l| l.ends_with(' '))
}

fn is_plain(s: &str, in_flow: bool) -> bool {
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
    !NOT_TEXT.as_ref().is_some_and(|r| r.is_match(s).unwrap_or(true))
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
        fn what_is_written_is_read_back(v in value(), indent in 2usize..6, flow in any::<Option<bool>>()) {
            let text = dump(&v, &Style { indent, sort_keys: true, flow, explicit_start: false });
            let back: Value = serde_yaml::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(back, v, "{}", text);
        }
    }
}
