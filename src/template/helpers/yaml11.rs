//! YAML 1.1 as Python reads it, for templates of Ansible: `yes` is true, `017` is octal, `12:30` is 750.

use super::Fail;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// How deep lists and mappings may stand in each other.
const DEEPEST: usize = 100;
/// How many values aliases may stand for: beyond it, it is a bomb rather than a text.
const MOST: usize = 100_000;

/// The values of all documents.
pub fn read(text: &str) -> Result<Vec<Value>, Fail> {
    let mut all = vec![];
    let mut open: Vec<Open> = vec![];
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    let mut aliased = 0;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| Fail::Wrong(format!("not YAML: {e}")))?;
        let (anchor, value) = match event {
            Event::DocumentStart(_) => {
                anchors.clear();
                continue;
            }
            Event::SequenceStart(anchor, tag) => {
                known(tag.as_deref())?;
                open.push(Open { anchor, what: What::List(vec![]) });
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                known(tag.as_deref())?;
                open.push(Open { anchor, what: What::Map { entries: vec![], key: None } });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open { anchor, what: What::List(l) }) => (anchor, Value::Array(l)),
                Some(Open { anchor, what: What::Map { entries, .. } }) => (anchor, merged(entries)?),
                None => continue,
            },
            Event::Scalar(s, style, anchor, tag) => (anchor, scalar(&s, style, tag.as_deref())?),
            Event::Alias(anchor) => {
                let v = anchors.get(&anchor).cloned().ok_or("not YAML: an alias stands for nothing")?;
                aliased += count(&v);
                if aliased > MOST {
                    return Err("not YAML: its aliases stand for too much".into());
                }
                (0, v)
            }
            _ => continue,
        };
        if open.len() > DEEPEST {
            return Err("not YAML: lists and mappings stand more than 100 deep in each other".into());
        }
        if anchor > 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut().map(|o| &mut o.what) {
            None => all.push(value),
            Some(What::List(l)) => l.push(value),
            Some(What::Map { entries, key }) => match key.take() {
                None => *key = Some(value),
                Some(k) => entries.push((k, value)),
            },
        }
    }
    Ok(all)
}

/// A list or a mapping that is not at its end.
struct Open {
    anchor: usize,
    what: What,
}

enum What {
    List(Vec<Value>),
    Map { entries: Vec<(Value, Value)>, key: Option<Value> },
}

fn count(v: &Value) -> usize {
    1 + match v {
        Value::Array(a) => a.iter().map(count).sum(),
        Value::Object(o) => o.values().map(count).sum(),
        _ => 0,
    }
}

/// What `<<` takes in stands before the mapping's own entries, which count.
fn merged(entries: Vec<(Value, Value)>) -> Result<Value, Fail> {
    let mut out = Map::new();
    let (merges, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(k, _)| *k == Value::String(MERGE.into()));
    for (_, v) in merges {
        let maps = match v {
            Value::Array(a) => a,
            one => vec![one],
        };
        // Of several the first counts.
        for m in maps.into_iter().rev() {
            let Value::Object(o) = m else { return Err("not YAML: `<<` takes in mappings only".into()) };
            out.extend(o);
        }
    }
    for (k, v) in own {
        let key = match &k {
            Value::Array(_) | Value::Object(_) => return Err("a key is text or a number, no list or mapping".into()),
            k => super::args::as_text(k).into_owned(),
        };
        out.insert(key, v);
    }
    Ok(Value::Object(out))
}

/// A plain `<<`: no text can be it.
const MERGE: &str = "\u{0}<<";

fn known(tag: Option<&Tag>) -> Result<(), Fail> {
    match tag {
        None => Ok(()),
        Some(t) if t.is_yaml_core_schema() && ["map", "seq"].contains(&t.suffix.as_str()) => Ok(()),
        Some(t) => Err(Fail::Wrong(format!("`from_yaml` does not know the tag `{t}`"))),
    }
}

fn scalar(s: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Fail> {
    match tag {
        None if style == ScalarStyle::Plain => plain(s),
        None => Ok(Value::String(s.into())),
        Some(t) if t.is_yaml_core_schema() && t.suffix == "str" => Ok(Value::String(s.into())),
        Some(t) if t.is_yaml_core_schema() && ["int", "float", "bool", "null"].contains(&t.suffix.as_str()) => plain(s),
        Some(t) => Err(Fail::Wrong(format!("`from_yaml` does not know the tag `{t}`"))),
    }
}

/// What stands without quotes.
fn plain(s: &str) -> Result<Value, Fail> {
    let text = || Ok(Value::String(s.into()));
    match s {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Ok(Value::Bool(true)),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Ok(Value::Bool(false)),
        "<<" => return Ok(Value::String(MERGE.into())),
        _ => {}
    }
    let (minus, bare) = match s.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, s.strip_prefix('+').unwrap_or(s)),
    };
    if matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(s, ".nan" | ".NaN" | ".NAN") {
        return Err(Fail::Wrong(format!("`{s}` is a number that has no place in values here; write it in quotes")));
    }
    let only = |t: &str, digits: &str| !t.is_empty() && t.chars().all(|c| digits.contains(c));
    let clean = bare.replace('_', "");
    let whole = |radix: u32, digits: &str| match i128::from_str_radix(digits, radix) {
        Ok(n) => number(if minus { -n } else { n }, s),
        Err(_) => Err(Fail::Wrong(format!("`{s}` is too large"))),
    };
    const DECIMAL: &str = "0123456789_";
    let begins = |t: &str| t.starts_with(|c: char| c.is_ascii_digit());
    if let Some(t) = bare.strip_prefix("0b").filter(|t| only(t, "01_")) {
        return if t.contains(['0', '1']) { whole(2, &clean[2..]) } else { text() };
    }
    if let Some(t) = bare.strip_prefix("0x").filter(|t| only(t, "0123456789abcdefABCDEF_")) {
        return if t != "_" { whole(16, &clean[2..]) } else { text() };
    }
    if bare == "0" || begins(bare) && !bare.starts_with('0') && only(bare, DECIMAL) {
        return whole(10, &clean);
    }
    if bare.starts_with('0') && only(bare, "01234567_") {
        return whole(8, &clean);
    }
    // To the base of sixty, as hours and minutes are written.
    let parts: Vec<&str> = bare.split(':').collect();
    if parts.len() > 1 && begins(bare) {
        let (last, fraction) = match parts[parts.len() - 1].split_once('.') {
            Some((l, f)) => (l, Some(f)),
            None => (parts[parts.len() - 1], None),
        };
        let minute = |p: &str| p.len() <= 2 && only(p, "0123456789") && p.parse::<u8>().is_ok_and(|n| n < 60);
        let inner = &parts[1..parts.len() - 1];
        let leads = only(parts[0], DECIMAL) && (fraction.is_some() || !parts[0].starts_with('0'));
        if leads
            && inner.iter().all(|p| minute(p))
            && minute(last)
            && fraction.is_none_or(|f| f.is_empty() || only(f, DECIMAL))
        {
            let digits = std::iter::once(parts[0]).chain(inner.iter().copied()).chain([last]);
            let n = digits
                .map(|p| p.replace('_', "").parse::<i128>().unwrap_or(0))
                .try_fold(0i128, |n, d| n.checked_mul(60)?.checked_add(d));
            let n = n.ok_or_else(|| Fail::Wrong(format!("`{s}` is too large")))?;
            return match fraction {
                None => number(if minus { -n } else { n }, s),
                Some(f) => {
                    let part: f64 = format!("0.{}", f.replace('_', "")).parse().unwrap_or(0.0);
                    float((n as f64 + part) * if minus { -1.0 } else { 1.0 }, s)
                }
            };
        }
    }
    // A number with a point; its exponent has a sign.
    if let Some((before, rest)) = bare.split_once('.') {
        let (after, exponent) = match rest.find(['e', 'E']) {
            Some(i) => (&rest[..i], Some(&rest[i + 1..])),
            None => (rest, None),
        };
        let exponent_fits = exponent.is_none_or(|e| e.starts_with(['-', '+']) && only(&e[1..], "0123456789"));
        let digits = match before {
            "" => bare == s && begins(after) && only(after, DECIMAL),
            b => begins(b) && only(b, DECIMAL) && (after.is_empty() || only(after, DECIMAL)),
        };
        if digits && exponent_fits {
            let n: f64 = clean.parse().map_err(|_| Fail::Wrong(format!("`{s}` is no number")))?;
            return float(if minus { -n } else { n }, s);
        }
    }
    // A day stays the text it is written as; a time of day Python writes otherwise.
    let date = s.get(..10).unwrap_or_default();
    let is_date = date.char_indices().all(|(i, c)| if i == 4 || i == 7 { c == '-' } else { c.is_ascii_digit() });
    if date.len() == 10 && is_date && s[10..].starts_with(['T', 't', ' ', '\t']) && s[11..].contains(':') {
        return Err(Fail::Wrong(format!("`{s}` is a time, which Python writes in another way; write it in quotes")));
    }
    text()
}

fn number(n: i128, s: &str) -> Result<Value, Fail> {
    let too_large = |_| Fail::Wrong(format!("`{s}` is too large"));
    match i64::try_from(n) {
        Ok(n) => Ok(n.into()),
        Err(_) => u64::try_from(n).map(Value::from).map_err(too_large),
    }
}

fn float(f: f64, s: &str) -> Result<Value, Fail> {
    Number::from_f64(f).map(Value::Number).ok_or_else(|| Fail::Wrong(format!("`{s}` is too large")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_words_are_what_they_are_to_python() {
        let v = |s: &str| plain(s).unwrap();
        for (s, want) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("017", json!(15)),
            ("0o17", json!("0o17")),
            ("1_000", json!(1000)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("12:30", json!(750)),
            ("12:30:45", json!(45045)),
            ("1:60", json!("1:60")),
            ("01:30", json!("01:30")),
            ("1e3", json!("1e3")),
            ("1.5e+3", json!(1500.0)),
            ("1.5e3", json!("1.5e3")),
            (".5", json!(0.5)),
            ("-.5", json!("-.5")),
            ("1.", json!(1.0)),
            ("-12", json!(-12)),
            ("089", json!("089")),
            ("2024-01-01", json!("2024-01-01")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("a:b", json!("a:b")),
            ("", json!(null)),
        ] {
            assert_eq!(v(s), want, "{s}");
        }
        assert!(plain(".inf").is_err() && plain("-.Inf").is_err() && plain(".NaN").is_err());
        assert!(plain("2024-01-01 10:00:00").is_err() && plain("99999999999999999999").is_err());
    }

    #[test]
    fn mappings_take_in_others() {
        let v = read("a: &x {q: 1, r: 1}\nb: *x\nc: {<<: *x, r: 2}\n'<<': 3\n").unwrap();
        assert_eq!(v, [json!({"a": {"q": 1, "r": 1}, "b": {"q": 1, "r": 1}, "c": {"q": 1, "r": 2}, "<<": 3})]);
        assert_eq!(read("--- 1\n--- \"yes\"\n").unwrap(), [json!(1), json!("yes")]);
        assert!(read("!x 1").is_err() && read("[1").is_err());
    }
}
