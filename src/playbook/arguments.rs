//! What a role takes: the names, types and choices of its variables (`arguments:` of its meta, or Ansible's argument specs).

use super::keys::Reader;
use super::vocabulary::{ARGUMENT_KEYS as ARGUMENT, SPEC_KEYS as ENTRY};
use crate::source::{Diagnostic, Kind, Node, Span, nearest};
use crate::template::{text, truthy};
use serde_json::Value;

/// The arguments of a role, or of one of its files of tasks.
#[derive(Debug, Default)]
pub struct Arguments {
    /// From `arguments:`, not from an Ansible spec: its defaults count.
    pub own: bool,
    pub description: String,
    pub options: Vec<Argument>,
    pub rules: Vec<Rule>,
}

/// One variable a role takes, or one key of such a variable's value.
#[derive(Debug)]
pub struct Argument {
    pub name: String,
    pub span: Span,
    /// `None`: anything.
    pub kind: Option<Type>,
    pub elements: Option<Type>,
    pub required: bool,
    pub default: Option<(Value, Span)>,
    pub choices: Vec<Value>,
    pub description: String,
    /// The keys of a mapping, or of the mappings of a list.
    pub inner: Arguments,
}

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Text,
    Whole,
    Number,
    Bool,
    List,
    Mapping,
    Json,
    Any,
}

/// What must hold between arguments.
#[derive(Debug)]
pub enum Rule {
    /// Not more than one of them.
    Exclusive(Vec<String>),
    /// All of them or none.
    Together(Vec<String>),
    /// One of them at least.
    OneOf(Vec<String>),
    /// If a name has a value, others are needed; with `any`, one of them.
    If { name: String, value: Value, needs: Vec<String>, any: bool },
    /// If a name is there, others are needed.
    By { name: String, needs: Vec<String> },
}

/// A value that does not fit.
#[derive(Debug, PartialEq)]
pub struct Misfit {
    /// The variable it is about; nothing where it is about several.
    pub name: Option<String>,
    pub message: String,
    pub hint: String,
}

impl Type {
    /// The names of types: those of Ansible first.
    pub const NAMES: &[(&str, Type)] = &[
        ("str", Type::Text),
        ("int", Type::Whole),
        ("float", Type::Number),
        ("bool", Type::Bool),
        ("list", Type::List),
        ("dict", Type::Mapping),
        ("path", Type::Text),
        ("raw", Type::Any),
        ("json", Type::Json),
        ("jsonarg", Type::Json),
        ("bytes", Type::Text),
        ("bits", Type::Text),
        ("string", Type::Text),
        ("text", Type::Text),
        ("integer", Type::Whole),
        ("number", Type::Number),
        ("boolean", Type::Bool),
        ("mapping", Type::Mapping),
        ("any", Type::Any),
    ];

    fn read(name: &str) -> Option<Type> {
        Type::NAMES.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }

    /// Its name as Ansible has it.
    pub fn name(self) -> &'static str {
        Type::NAMES.iter().find(|(_, t)| *t == self).map_or("raw", |(n, _)| n)
    }

    fn words(self) -> &'static str {
        match self {
            Type::Text => "text",
            Type::Whole => "a whole number",
            Type::Number => "a number",
            Type::Bool => "true or false",
            Type::List => "a list",
            Type::Mapping => "a mapping",
            Type::Json => "a mapping, a list or JSON text",
            Type::Any => "anything",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Type::Text => "write one value",
            Type::Whole => "write digits only",
            Type::Number => "write a number",
            Type::Bool => "write true or false",
            Type::List => "write it as a list: [one, two]",
            Type::Mapping => "write it as a mapping: {name: value}",
            Type::Json | Type::Any => "write a mapping or a list",
        }
    }

    /// Whether a value is of the type. Text stands for numbers and the like, as `-e` gives them; a list or a mapping
    /// must be one, for nothing turns text into one later.
    fn takes(self, v: &Value) -> bool {
        match self {
            Type::Any => true,
            Type::Text => !v.is_array() && !v.is_object(),
            Type::Whole => match v {
                Value::Number(n) => n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|f| f.fract() == 0.0),
                Value::String(s) => s.trim().parse::<i64>().is_ok(),
                _ => false,
            },
            Type::Number => v.is_number() || v.as_str().is_some_and(|s| s.trim().parse::<f64>().is_ok()),
            Type::Bool => match v {
                Value::Bool(_) => true,
                Value::Number(n) => matches!(n.as_f64(), Some(0.0 | 1.0)),
                Value::String(s) => !s.is_empty() && truthy(v).is_some(),
                _ => false,
            },
            Type::List => v.is_array(),
            Type::Mapping => v.is_object(),
            Type::Json => v.is_array() || v.is_object() || v.is_string(),
        }
    }
}

fn what(v: &Value) -> &'static str {
    match v {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(s) if s.is_empty() => "empty text",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

impl Argument {
    /// What is wrong with its value. `at` is how the value is called.
    pub fn misfits(&self, value: &Value, at: &str, out: &mut Vec<Misfit>) {
        let root = at.split(['[', '.']).next().unwrap_or(at);
        let mut wrong =
            |message: String, hint: String| out.push(Misfit { name: Some(root.to_string()), message, hint });
        if value.is_null() {
            if self.required {
                wrong(format!("`{at}` is empty"), "give it a value".into());
            }
            return;
        }
        if let Some(k) = self.kind.filter(|k| !k.takes(value)) {
            return wrong(format!("`{at}` must be {}, not {}", k.words(), what(value)), k.hint().into());
        }
        if !self.choices.is_empty() {
            let many = value.as_array().filter(|_| self.kind == Some(Type::List));
            let values: Vec<&Value> = many.map_or_else(|| vec![value], |a| a.iter().collect());
            let known: Vec<String> = self.choices.iter().map(text).collect();
            for v in values {
                let t = text(v);
                let same = |c: &Value| c == v || text(c) == t || (c.is_boolean() && truthy(v) == c.as_bool());
                if !self.choices.iter().any(same) {
                    let hint = match nearest(&t, known.iter().map(String::as_str)) {
                        Some(n) => format!("did you mean `{n}`?"),
                        None => format!("it is one of: {}", known.join(", ")),
                    };
                    wrong(format!("`{t}` is not a choice of `{at}`"), hint);
                }
            }
        }
        let items: Vec<(String, &Value)> = match value {
            Value::Array(a) => a.iter().enumerate().map(|(i, v)| (format!("{at}[{i}]"), v)).collect(),
            other => vec![(at.to_string(), other)],
        };
        for (at, v) in &items {
            if value.is_array()
                && let Some(k) = self.elements.filter(|k| !k.takes(v))
            {
                out.push(Misfit {
                    name: Some(root.to_string()),
                    message: format!("`{at}` must be {}, not {}", k.words(), what(v)),
                    hint: k.hint().into(),
                });
                continue;
            }
            if !self.inner.options.is_empty() {
                self.inner.keys_of(v, at, root, out);
            }
        }
    }
}

impl Arguments {
    /// The keys of a mapping that is a value, or part of one.
    fn keys_of(&self, value: &Value, at: &str, root: &str, out: &mut Vec<Misfit>) {
        let name = || Some(root.to_string());
        let Some(map) = value.as_object() else {
            let message = format!("`{at}` must be a mapping, not {}", what(value));
            return out.push(Misfit { name: name(), message, hint: Type::Mapping.hint().into() });
        };
        for key in map.keys().filter(|k| !self.options.iter().any(|o| o.name == **k)) {
            let known: Vec<&str> = self.options.iter().map(|o| o.name.as_str()).collect();
            let hint = match nearest(key, known.iter().copied()) {
                Some(n) => format!("did you mean `{n}`?"),
                None => format!("it has: {}", known.join(", ")),
            };
            out.push(Misfit { name: name(), message: format!("`{at}` has no key `{key}`"), hint });
        }
        for o in &self.options {
            match map.get(&o.name) {
                Some(v) => o.misfits(v, &format!("{at}.{}", o.name), out),
                None if o.required => {
                    let meant = map.keys().any(|k| nearest(k, [o.name.as_str()]).is_some());
                    if !meant {
                        let message = format!("`{at}` lacks `{}`", o.name);
                        out.push(Misfit { name: name(), message, hint: format!("add `{}:`", o.name) });
                    }
                }
                None => {}
            }
        }
        let get = |n: &str| Some(map.get(n).cloned());
        out.extend(self.broken_rules(&get).into_iter().map(|m| Misfit {
            name: name(),
            message: format!("{} in `{at}`", m.message),
            ..m
        }));
    }

    /// The rules that do not hold. `get` gives a value, or nothing where it is not known yet.
    pub fn broken_rules(&self, get: &dyn Fn(&str) -> Option<Option<Value>>) -> Vec<Misfit> {
        let mut out = vec![];
        let mut wrong = |message, hint: &str| out.push(Misfit { name: None, message, hint: hint.into() });
        let has = |n: &str| get(n).map(|v| v.is_some_and(|v| !v.is_null()));
        let all = |names: &[String]| names.iter().map(|n| has(n)).collect::<Option<Vec<bool>>>();
        for rule in &self.rules {
            match rule {
                Rule::Exclusive(n) => {
                    if all(n).is_some_and(|h| h.iter().filter(|h| **h).count() > 1) {
                        wrong(format!("{} exclude each other", quoted(n)), "keep one of them");
                    }
                }
                Rule::Together(n) => {
                    if all(n).is_some_and(|h| h.contains(&true) && h.contains(&false)) {
                        wrong(format!("{} go together", quoted(n)), "give all of them, or none");
                    }
                }
                Rule::OneOf(n) => {
                    if all(n).is_some_and(|h| !h.contains(&true)) {
                        wrong(format!("one of {} is needed", quoted(n)), "give one of them");
                    }
                }
                Rule::If { name, value, needs, any } => {
                    let Some(Some(v)) = get(name) else { continue };
                    if v != *value && text(&v) != text(value) {
                        continue;
                    }
                    let Some(there) = all(needs) else { continue };
                    let fine = if *any { there.contains(&true) } else { !there.contains(&false) };
                    if !fine {
                        let which = if *any { "one of " } else { "" };
                        let message = format!("`{name}: {}` needs {which}{}", text(value), quoted(needs));
                        wrong(message, "give what is missing");
                    }
                }
                Rule::By { name, needs } => {
                    if has(name) == Some(true) && all(needs).is_some_and(|h| h.contains(&false)) {
                        wrong(format!("`{name}` needs {}", quoted(needs)), "give what is missing");
                    }
                }
            }
        }
        out
    }
}

impl Reader<'_> {
    /// `arguments:` of a role's meta: a list of arguments with names, or a mapping by name.
    pub fn arguments(&mut self, node: &Node) -> Arguments {
        let options = match &node.kind {
            Kind::Map(entries) => entries.iter().filter_map(|e| self.argument(&e.key, &e.key_span, &e.value)).collect(),
            Kind::Null => vec![],
            _ => {
                let mut all = vec![];
                for n in self.list(node, "`arguments`") {
                    if self.mapping(n, "an argument").is_none() {
                        continue;
                    }
                    let Some(name) = n.get("name") else {
                        self.error_hint(&n.span, "an argument has no `name`", "write {name: VARIABLE, type: str}");
                        continue;
                    };
                    let span = name.span.clone();
                    all.extend(self.name(name, "`name`").and_then(|name| self.argument(&name, &span, n)));
                }
                all
            }
        };
        for (i, o) in options.iter().enumerate() {
            if let Some(twin) = options[..i].iter().find(|t: &&Argument| t.name == o.name) {
                let d = Diagnostic::error(format!("the argument `{}` is given twice", o.name)).at(&o.span);
                self.found.push(d.also(&twin.span, "first here").hint("take one of them out"));
            }
            if o.required
                && let Some((_, span)) = &o.default
            {
                let message = format!("the argument `{}` is required and has a default", o.name);
                self.error_hint(span, message, "take one of the two out: what has a default is never missing");
            }
        }
        Arguments { own: true, options, ..Default::default() }
    }

    /// Ansible's `argument_specs`: arguments by the file of tasks they are for (`main`).
    pub fn argument_specs(&mut self, node: &Node) -> Vec<(String, Arguments)> {
        let mut all = vec![];
        for e in self.mapping(node, "`argument_specs`").unwrap_or_default() {
            let what = format!("the argument spec `{}`", e.key);
            let Some(entries) = self.mapping(&e.value, &what) else { continue };
            self.unknown_keys(entries, ENTRY, &[], "an argument spec");
            let mut of_entry = self.inner_arguments(&e.value);
            of_entry.description = e
                .value
                .get("short_description")
                .or_else(|| e.value.get("description"))
                .map(sentence)
                .unwrap_or_default();
            let name = e.key.strip_suffix(".yml").unwrap_or(&e.key);
            all.push((name.to_string(), of_entry));
        }
        all
    }

    /// `options:` and the rules beside it.
    fn inner_arguments(&mut self, node: &Node) -> Arguments {
        let mut inner = Arguments::default();
        if let Some(o) = node.get("options") {
            for e in self.mapping(o, "`options`").unwrap_or_default() {
                inner.options.extend(self.argument(&e.key, &e.key_span, &e.value));
            }
        }
        inner.rules = self.rules(node, &inner.options);
        inner
    }

    fn argument(&mut self, name: &str, span: &Span, node: &Node) -> Option<Argument> {
        let mut a = Argument {
            name: name.to_string(),
            span: span.clone(),
            kind: None,
            elements: None,
            required: false,
            default: None,
            choices: vec![],
            description: String::new(),
            inner: Arguments::default(),
        };
        if node.is_null() {
            return Some(a);
        }
        let entries = self.mapping(node, &format!("the argument `{name}`"))?;
        self.unknown_keys(entries, ARGUMENT, &[], "an argument");
        a.kind = node.get("type").and_then(|n| self.type_(n, "`type`"));
        a.elements = node.get("elements").and_then(|n| self.type_(n, "`elements`"));
        a.required = node.get("required").and_then(|n| self.boolean(n, "`required`")).unwrap_or(false);
        a.default = node.get("default").filter(|n| !n.is_null()).map(|n| (n.to_value(), n.span.clone()));
        if let Some(n) = node.get("choices") {
            a.choices = self.list(n, "`choices`").iter().map(Node::to_value).collect();
        }
        a.description = node.get("description").map(sentence).unwrap_or_default();
        a.inner = self.inner_arguments(node);
        if let Some(e) = node.entry("elements")
            && a.kind.is_some_and(|k| k != Type::List)
        {
            let message =
                format!("`elements` goes with `type: list`, and `{name}` is {}", a.kind.map_or("", Type::words));
            self.error_hint(&e.key_span, message, "write `type: list`, or take `elements` out");
        }
        let templated = |v: &Value| v.to_string().contains("{{");
        if let Some((value, span)) = a.default.as_ref().filter(|(v, _)| !templated(v)) {
            let mut misfits = vec![];
            a.misfits(value, name, &mut misfits);
            for m in misfits {
                self.error_hint(span, format!("the default does not fit: {}", m.message), m.hint);
            }
        }
        Some(a)
    }

    fn type_(&mut self, node: &Node, what: &str) -> Option<Type> {
        let name = self.string(node, what)?;
        let found = Type::read(&name);
        if found.is_none() {
            let names: Vec<&str> = Type::NAMES.iter().map(|(n, _)| *n).collect();
            let hint = match nearest(&name, names.iter().copied()) {
                Some(n) => format!("did you mean `{n}`?"),
                None => format!("it is one of: {}", names[..9].join(", ")),
            };
            self.error_hint(&node.span, format!("`{name}` is no type of an argument"), hint);
        }
        found
    }

    /// The rules between arguments, whose names must be those of arguments.
    fn rules(&mut self, node: &Node, options: &[Argument]) -> Vec<Rule> {
        let mut rules = vec![];
        type Make = fn(Vec<String>) -> Rule;
        let makers: [(&str, Make); 3] = [
            ("mutually_exclusive", Rule::Exclusive),
            ("required_together", Rule::Together),
            ("required_one_of", Rule::OneOf),
        ];
        for (key, make) in makers {
            let Some(n) = node.get(key) else { continue };
            let items = self.list(n, &format!("`{key}`"));
            // One row of names, or several.
            let rows: Vec<&Node> =
                if items.iter().all(|i| i.as_str().is_some()) { vec![n] } else { items.iter().collect() };
            for row in rows {
                rules.push(make(self.known_names(row, key, options)));
            }
        }
        if let Some(n) = node.get("required_if") {
            for row in self.list(n, "`required_if`") {
                let parts = row.as_seq().unwrap_or_default();
                let ([name, value, needs] | [name, value, needs, _]) = parts else {
                    let hint = "write [NAME, VALUE, [NAMES]], and true behind it where one of them is enough";
                    self.error_hint(&row.span, "an entry of `required_if` has a name, a value and names", hint);
                    continue;
                };
                let Some(name) = self.string(name, "a name") else { continue };
                rules.push(Rule::If {
                    name,
                    value: value.to_value(),
                    needs: self.known_names(needs, "required_if", options),
                    any: parts.get(3).is_some_and(|n| matches!(n.kind, Kind::Bool(true))),
                });
            }
        }
        if let Some(n) = node.get("required_by") {
            for e in self.mapping(n, "`required_by`").unwrap_or_default() {
                let needs = self.known_names(&e.value, "required_by", options);
                rules.push(Rule::By { name: e.key.clone(), needs });
            }
        }
        rules
    }

    fn known_names(&mut self, node: &Node, key: &str, options: &[Argument]) -> Vec<String> {
        let names = self.one_or_more(node, &format!("`{key}`"));
        for n in names.iter().filter(|n| !options.iter().any(|o| o.name == **n)) {
            let d = Diagnostic::error(format!("`{key}` names `{n}`, which is no argument")).at(&node.span);
            self.found.push(match nearest(n, options.iter().map(|o| o.name.as_str())) {
                Some(near) => d.hint(format!("did you mean `{near}`?")),
                None => d.hint("name what stands under `options:`"),
            });
        }
        names
    }
}

/// A description: text, or paragraphs in a list.
fn sentence(node: &Node) -> String {
    let one = |n: &Node| text(&n.to_value()).split_whitespace().collect::<Vec<_>>().join(" ");
    match node.as_seq() {
        Some(s) => s.iter().map(one).collect::<Vec<_>>().join(" "),
        None => one(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_fit_their_types() {
        for (t, good, bad) in [
            (Type::Whole, json!([1, "1", -3, 2.0]), json!(["x", 1.5, true, [1], {}])),
            (Type::Number, json!([1, "1.5", 2.5]), json!(["x", true, []])),
            (Type::Bool, json!([true, "yes", "off", 1, 0]), json!(["maybe", 2, "", []])),
            (Type::Text, json!(["x", 1, true]), json!([[], {}])),
            (Type::List, json!([[], [1]]), json!(["a,b", 1, {}])),
            (Type::Mapping, json!([{}]), json!(["{}", []])),
        ] {
            for v in good.as_array().unwrap() {
                assert!(t.takes(v), "{t:?} {v}");
            }
            for v in bad.as_array().unwrap() {
                assert!(!t.takes(v), "{t:?} {v}");
            }
        }
    }
}
