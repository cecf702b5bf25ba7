//! Parameter types that take what Ansible takes: `yes` for true, `a,b` for a list, a mode as octal text.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

/// True or false; also `yes`, `no`, `on`, `off`, `1`, `0` and their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Bool(pub bool);

impl<'de> Deserialize<'de> for Bool {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let v = Value::deserialize(d)?;
        let b = match &v {
            Value::Bool(b) => Some(*b),
            Value::Number(n) => match n.as_i64() {
                Some(1) => Some(true),
                Some(0) => Some(false),
                _ => None,
            },
            Value::String(s) => match s.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" | "y" | "t" => Some(true),
                "false" | "no" | "off" | "0" | "n" | "f" => Some(false),
                _ => None,
            },
            _ => None,
        };
        b.map(Bool).ok_or_else(|| de::Error::custom(format!("expected true or false, found {}", shown(&v))))
    }
}

impl JsonSchema for Bool {
    fn schema_name() -> Cow<'static, str> {
        "Bool".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["boolean", "string"]})
    }
}

/// Text; numbers and booleans are taken as their text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Text(pub String);

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(s: &str) -> Self {
        Text(s.to_string())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Value::deserialize(d)? {
            Value::String(s) => Ok(Text(s)),
            v @ (Value::Number(_) | Value::Bool(_)) => Ok(Text(v.to_string())),
            v => Err(de::Error::custom(format!("expected text, found {}", shown(&v)))),
        }
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}

/// A list of texts; one text is split at commas.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct List(pub Vec<String>);

impl std::ops::Deref for List {
    type Target = [String];
    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let v = Value::deserialize(d)?;
        let one = |v: &Value| match v {
            Value::String(s) => Ok(s.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(v.to_string()),
            other => Err(de::Error::custom(format!("expected text in the list, found {}", shown(other)))),
        };
        match &v {
            Value::Null => Ok(List(vec![])),
            Value::String(s) => {
                Ok(List(s.split(',').map(|p| p.trim().to_string()).filter(|p| !p.is_empty()).collect()))
            }
            Value::Array(a) => Ok(List(a.iter().map(one).collect::<Result<_, _>>()?)),
            other => Ok(List(vec![one(other)?])),
        }
    }
}

impl JsonSchema for List {
    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["array", "string"], "items": {"type": ["string", "number", "boolean"]}})
    }
}

/// A command that looks at a new file before it is put in place, as words; `%s` is the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validate(Vec<String>);

impl std::ops::Deref for Validate {
    type Target = [String];
    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Validate {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let words = super::command::split(&Text::deserialize(d)?).map_err(de::Error::custom)?;
        match words.iter().skip(1).any(|w| w.contains("%s")) {
            true => Ok(Validate(words)),
            false => Err(de::Error::custom(
                "`validate` must hold `%s`, which stands for the new file; write it where the command takes the file's path",
            )),
        }
    }
}

impl JsonSchema for Validate {
    fn schema_name() -> Cow<'static, str> {
        "Validate".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

/// Permission bits: octal text (`"0644"`) or symbolic (`u=rw,g=r,o=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Bits(u32),
    Symbolic(Vec<Clause>),
    /// As it is (`preserve`): the source file's.
    Preserve,
}

/// One step of a symbolic mode: `u+rw-x` has two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    who: u32,
    /// Somebody is named: `u`, `g`, `o` or `a`.
    named: bool,
    op: char,
    bits: Vec<char>,
}

impl Mode {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "preserve" {
            return Ok(Mode::Preserve);
        }
        let digits = text.strip_prefix("0o").unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return match u32::from_str_radix(digits, 8) {
                Ok(m) if m <= 0o7777 => Ok(Mode::Bits(m)),
                _ => Err(format!("`{text}` is not an octal mode")),
            };
        }
        text.split(',')
            .map(clauses)
            .collect::<Option<Vec<_>>>()
            .map(|c| Mode::Symbolic(c.concat()))
            .ok_or_else(|| format!("`{text}` is not a mode; write it octal (\"0644\") or symbolic (\"u=rw,g=r,o=\")"))
    }

    /// The bits of a file that has `now` (for symbolic modes) or of a new one.
    pub fn apply(&self, now: u32, is_dir: bool) -> u32 {
        match self {
            Mode::Bits(b) => *b,
            Mode::Preserve => now,
            Mode::Symbolic(clauses) => clauses.iter().fold(now, |m, c| c.apply(m, is_dir)),
        }
    }
}

impl Clause {
    fn apply(&self, now: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        // Where nobody is named, the umask of the session has a say in what everybody gets.
        let all = |bits: u32| if self.named { bits } else { bits & !0o022 };
        for b in &self.bits {
            bits |= match b {
                'r' => all(0o444),
                'w' => all(0o222),
                'x' => all(0o111),
                'X' if is_dir || now & 0o111 != 0 => all(0o111),
                's' => 0o6000,
                't' => 0o1000,
                'u' => spread(now >> 6),
                'g' => spread(now >> 3),
                'o' => spread(now),
                _ => 0,
            };
        }
        let bits = bits & self.who;
        match self.op {
            '+' => now | bits,
            '-' => now & !bits,
            _ => now & !self.who | bits,
        }
    }
}

fn spread(three: u32) -> u32 {
    let b = three & 7;
    b << 6 | b << 3 | b
}

fn clauses(text: &str) -> Option<Vec<Clause>> {
    let op_at = text.find(['=', '+', '-'])?;
    let (who, rest) = text.split_at(op_at);
    let mut mask = 0;
    for w in who.chars() {
        mask |= match w {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mut steps: Vec<Clause> = vec![];
    for c in rest.chars() {
        match steps.last_mut() {
            _ if "=+-".contains(c) => {
                let who = if mask == 0 { 0o7777 } else { mask };
                steps.push(Clause { who, named: mask != 0, op: c, bits: vec![] });
            }
            Some(step) if "rwxXstugo".contains(c) => step.bits.push(c),
            _ => return None,
        }
    }
    Some(steps)
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Value::deserialize(d)? {
            Value::String(s) => Mode::parse(&s).map_err(de::Error::custom),
            v @ Value::Number(_) => {
                Err(de::Error::custom(format!("`{v}` is a number: put quotes round a mode, as in \"0{v}\"")))
            }
            v => Err(de::Error::custom(format!("expected a mode like \"0644\", found {}", shown(&v)))),
        }
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Windlass takes `0644` for the text it looks like; whoever reads a schema takes it for a number.
        json_schema!({"type": "string", "x-octal": true})
    }
}

fn shown(v: &Value) -> String {
    match v {
        Value::Null => "nothing".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn modes() {
        assert_eq!(Mode::parse("0644"), Ok(Mode::Bits(0o644)));
        assert_eq!(Mode::parse("u=rw,g=r,o=").unwrap().apply(0o777, false), 0o640);
        assert_eq!(Mode::parse("a+x").unwrap().apply(0o644, false), 0o755);
        assert_eq!(Mode::parse("go-w").unwrap().apply(0o666, false), 0o644);
        assert_eq!(Mode::parse("u+rwX,g=u").unwrap().apply(0o600, true), 0o770);
        assert_eq!(Mode::parse("+t").unwrap().apply(0o755, true), 0o1755);
        assert!(Mode::parse("0999").is_err() && Mode::parse("rw").is_err());
        assert!(serde_json::from_value::<Mode>(json!(644)).unwrap_err().to_string().contains("\"0644\""));
    }

    /// Each as Ansible sets it, of a file and of a folder, under the umask 022.
    #[test]
    fn symbolic_modes_come_to_what_they_do_in_ansible() {
        for (now, mode, file, folder) in [
            (0o644, "+w", 0o644, 0o644),
            (0o644, "+x", 0o755, 0o755),
            (0o666, "-w", 0o466, 0o466),
            (0o777, "=rw", 0o644, 0o644),
            (0o2775, "g=rwx", 0o775, 0o775),
            (0o1777, "o=rx", 0o775, 0o775),
            (0o644, "u+rw-x", 0o644, 0o644),
            (0o777, "u+rw-x", 0o677, 0o677),
            (0o6755, "a=rx", 0o555, 0o555),
            (0o6755, "=rx", 0o555, 0o555),
            (0o6755, "u=rwx", 0o2755, 0o2755),
            (0o1777, "a=rwx", 0o777, 0o777),
            (0o755, "+t", 0o1755, 0o1755),
            (0o755, "+s", 0o6755, 0o6755),
            (0o755, "u+s", 0o4755, 0o4755),
            (0o755, "o+t", 0o1755, 0o1755),
            (0o755, "u+t", 0o755, 0o755),
            (0o755, "o+s", 0o755, 0o755),
            (0o2755, "g-s", 0o755, 0o755),
            (0o640, "g=u,o=g", 0o666, 0o666),
            (0o640, "+X", 0o640, 0o751),
            (0o744, "+X", 0o755, 0o755),
            (0o700, "g+X", 0o710, 0o710),
            (0o600, "u=rwX", 0o600, 0o700),
            (0o777, "=", 0o0, 0o0),
            (0o777, "o=", 0o770, 0o770),
            (0o644, "g+w+x", 0o674, 0o674),
            (0o755, "=u", 0o777, 0o777),
            (0o755, "+u", 0o777, 0o777),
            (0o700, "g=u-w", 0o750, 0o750),
            (0o7777, "u=g", 0o3777, 0o3777),
            (0o777, "a-t", 0o777, 0o777),
            (0o1777, "-t", 0o777, 0o777),
            (0o1777, "o-t", 0o777, 0o777),
            (0o6777, "-s", 0o777, 0o777),
            (0o644, "ug=rw+x,o=", 0o770, 0o770),
            (0o644, "u=rw,g=,o=r+x", 0o605, 0o605),
            (0o2644, "g=x", 0o614, 0o614),
            (0o2644, "g=s", 0o2604, 0o2604),
            (0o644, "g=rs", 0o2644, 0o2644),
            (0o2775, "g+w", 0o2775, 0o2775),
            (0o4711, "u+w", 0o4711, 0o4711),
            (0o1755, "=t", 0o1000, 0o1000),
            (0o644, "u=", 0o44, 0o44),
            (0o400, "+rw", 0o644, 0o644),
            (0o0, "a+t", 0o1000, 0o1000),
        ] {
            let m = Mode::parse(mode).unwrap();
            let (f, d) = (m.apply(now, false), m.apply(now, true));
            assert_eq!((f, d), (file, folder), "{now:o} {mode}: {f:o} {d:o}");
        }
    }

    #[test]
    fn lists_and_booleans() {
        assert_eq!(serde_json::from_value::<List>(json!("a, b")).unwrap().0, ["a", "b"]);
        assert_eq!(serde_json::from_value::<List>(json!(["a", 1])).unwrap().0, ["a", "1"]);
        assert_eq!(serde_json::from_value::<Bool>(json!("yes")).unwrap(), Bool(true));
        assert!(serde_json::from_value::<Bool>(json!("maybe")).is_err());
    }
}
