//! What expressions can call. One table: name, how many arguments, what it does.

use base64::Engine as _;
use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, RenderErrorReason, ScopedJson};
use serde_json::{Map, Value, json};
use sha2::Digest as _;
use std::cmp::Ordering;

/// A helper's work: its arguments and its named arguments to a value.
type Work = fn(&[Value], &Map<String, Value>) -> Result<Value, String>;

struct Def {
    name: &'static str,
    /// Fewest and most arguments.
    arity: (usize, usize),
    /// Arguments may be undefined (they arrive as null).
    lenient: bool,
    work: Work,
}

const MANY: usize = usize::MAX;

const fn def(name: &'static str, arity: (usize, usize), work: Work) -> Def {
    Def { name, arity, lenient: false, work }
}

const TABLE: &[Def] = &[
    Def {
        name: "default",
        arity: (2, 2),
        lenient: true,
        work: |a, _| Ok(if a[0].is_null() { a[1].clone() } else { a[0].clone() }),
    },
    def("eq", (2, 2), |a, _| Ok(json!(equal(&a[0], &a[1])))),
    def("ne", (2, 2), |a, _| Ok(json!(!equal(&a[0], &a[1])))),
    def("gt", (2, 2), |a, _| Ok(json!(order(a)? == Ordering::Greater))),
    def("gte", (2, 2), |a, _| Ok(json!(order(a)? != Ordering::Less))),
    def("lt", (2, 2), |a, _| Ok(json!(order(a)? == Ordering::Less))),
    def("lte", (2, 2), |a, _| Ok(json!(order(a)? != Ordering::Greater))),
    def("not", (1, 1), |a, _| Ok(json!(!truth(&a[0])?))),
    def("and", (1, MANY), |a, _| {
        a.iter().map(truth).collect::<Result<Vec<_>, _>>().map(|v| json!(v.iter().all(|b| *b)))
    }),
    def("or", (1, MANY), |a, _| {
        a.iter().map(truth).collect::<Result<Vec<_>, _>>().map(|v| json!(v.iter().any(|b| *b)))
    }),
    def("in", (2, 2), |a, _| match &a[1] {
        Value::Array(l) => Ok(json!(l.iter().any(|x| equal(x, &a[0])))),
        Value::Object(o) => Ok(json!(o.contains_key(&text(&a[0])))),
        Value::String(s) => Ok(json!(s.contains(&text(&a[0])))),
        _ => Err("`in` looks into a list, a mapping or text".into()),
    }),
    def("ternary", (3, 3), |a, _| Ok(if truth(&a[0])? { a[1].clone() } else { a[2].clone() })),
    def("concat", (1, MANY), |a, _| {
        if a.iter().all(Value::is_array) {
            Ok(Value::Array(a.iter().filter_map(Value::as_array).flatten().cloned().collect()))
        } else {
            Ok(json!(a.iter().map(text).collect::<String>()))
        }
    }),
    def("join", (1, 2), |a, _| {
        let sep = a.get(1).map(text).unwrap_or_default();
        Ok(json!(list(&a[0])?.iter().map(text).collect::<Vec<_>>().join(&sep)))
    }),
    def("split", (2, 2), |a, _| Ok(json!(text(&a[0]).split(&text(&a[1])).collect::<Vec<_>>()))),
    def("upper", (1, 1), |a, _| Ok(json!(text(&a[0]).to_uppercase()))),
    def("lower", (1, 1), |a, _| Ok(json!(text(&a[0]).to_lowercase()))),
    def("trim", (1, 1), |a, _| Ok(json!(text(&a[0]).trim()))),
    def("replace", (3, 3), |a, _| Ok(json!(text(&a[0]).replace(&text(&a[1]), &text(&a[2]))))),
    def("regex_replace", (3, 3), |a, _| {
        let re = fancy_regex::Regex::new(&text(&a[1])).map_err(|e| format!("not a regular expression: {e}"))?;
        let with = crate::modules::python_groups(&text(&a[2]));
        Ok(json!(re.replace_all(&text(&a[0]), with.as_str())))
    }),
    def("regex_search", (2, 2), |a, _| {
        let re = fancy_regex::Regex::new(&text(&a[1])).map_err(|e| format!("not a regular expression: {e}"))?;
        let s = text(&a[0]);
        Ok(re.find(&s).map_err(|e| e.to_string())?.map_or(Value::Null, |m| json!(m.as_str())))
    }),
    def("length", (1, 1), |a, _| {
        Ok(json!(match &a[0] {
            Value::Array(l) => l.len(),
            Value::Object(o) => o.len(),
            other => text(other).chars().count(),
        }))
    }),
    def("first", (1, 1), |a, _| list(&a[0])?.first().cloned().ok_or_else(|| "the list is empty".to_string())),
    def("last", (1, 1), |a, _| list(&a[0])?.last().cloned().ok_or_else(|| "the list is empty".to_string())),
    def("range", (2, 2), |a, _| Ok(json!((whole(&a[0])?..whole(&a[1])?).collect::<Vec<_>>()))),
    def("unique", (1, 1), |a, _| {
        let mut out: Vec<Value> = vec![];
        for v in list(&a[0])? {
            if !out.contains(v) {
                out.push(v.clone());
            }
        }
        Ok(Value::Array(out))
    }),
    def("difference", (2, 2), |a, _| {
        let without = list(&a[1])?;
        Ok(Value::Array(list(&a[0])?.iter().filter(|v| !without.contains(v)).cloned().collect()))
    }),
    def("keys", (1, 1), |a, _| match &a[0] {
        Value::Object(o) => Ok(json!(o.keys().collect::<Vec<_>>())),
        _ => Err("`keys` takes a mapping".into()),
    }),
    def("values", (1, 1), |a, _| match &a[0] {
        Value::Object(o) => Ok(json!(o.values().collect::<Vec<_>>())),
        _ => Err("`values` takes a mapping".into()),
    }),
    def("dict2items", (1, 1), |a, _| match &a[0] {
        Value::Object(o) => Ok(Value::Array(o.iter().map(|(k, v)| json!({"key": k, "value": v})).collect())),
        _ => Err("`dict2items` takes a mapping".into()),
    }),
    def("map", (2, 2), |a, _| {
        let key = text(&a[1]);
        list(&a[0])?.iter().map(|v| v.get(&key).cloned().ok_or_else(|| format!("an element has no `{key}`"))).collect()
    }),
    def("add", (2, 2), |a, _| Ok(json!(whole(&a[0])? + whole(&a[1])?))),
    def("sub", (2, 2), |a, _| Ok(json!(whole(&a[0])? - whole(&a[1])?))),
    def("int", (1, 1), |a, _| Ok(json!(whole(&a[0])?))),
    def("bool", (1, 1), |a, _| Ok(json!(truth(&a[0])?))),
    def("string", (1, 1), |a, _| Ok(json!(text(&a[0])))),
    def("json", (1, 1), |a, _| serde_json::to_string(&a[0]).map(Value::String).map_err(|e| e.to_string())),
    def("yaml", (1, 1), |a, _| {
        serde_yaml::to_string(&a[0]).map(|s| json!(s.trim_end_matches('\n'))).map_err(|e| e.to_string())
    }),
    def("from_json", (1, 1), |a, _| serde_json::from_str(&text(&a[0])).map_err(|e| format!("not JSON: {e}"))),
    def("from_yaml", (1, 1), |a, _| serde_yaml::from_str(&text(&a[0])).map_err(|e| format!("not YAML: {e}"))),
    def("indent", (2, 2), |a, _| {
        let pad = " ".repeat(usize::try_from(whole(&a[1])?).map_err(|_| "cannot indent by less than nothing")?);
        Ok(json!(text(&a[0]).replace('\n', &format!("\n{pad}"))))
    }),
    def("quote", (1, 1), |a, _| Ok(json!(crate::quote::shell_quote(&text(&a[0]))))),
    def("basename", (1, 1), |a, _| Ok(json!(text(&a[0]).rsplit('/').next().unwrap_or_default()))),
    def("dirname", (1, 1), |a, _| Ok(json!(text(&a[0]).rsplit_once('/').map_or("", |(d, _)| d)))),
    def("b64encode", (1, 1), |a, _| Ok(json!(base64::engine::general_purpose::STANDARD.encode(text(&a[0]))))),
    def("b64decode", (1, 1), |a, _| {
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(text(&a[0])).map_err(|e| format!("not base64: {e}"))?;
        String::from_utf8(bytes).map(Value::String).map_err(|_| "the decoded bytes are not UTF-8 text".to_string())
    }),
    def("sha256", (1, 1), |a, _| Ok(json!(crate::modules::hex(&sha2::Sha256::digest(text(&a[0])))))),
];

/// The names of all helpers, the engine's own blocks included.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|d| d.name).chain(["defined", "if", "unless", "each", "with", "lookup"])
}

/// What is wrong with the number of arguments a helper is given.
pub fn arity_error(name: &str, given: usize) -> Option<String> {
    let Def { arity, .. } = TABLE.iter().find(|d| d.name == name)?;
    if (arity.0..=arity.1).contains(&given) {
        return None;
    }
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let takes = match *arity {
        (a, b) if a == b => format!("{a} argument{}", s(a)),
        (a, MANY) => format!("{a} argument{} or more", s(a)),
        (a, b) => format!("{a} to {b} arguments"),
    };
    Some(format!("`{name}` takes {takes}, not {given}"))
}

/// How a helper is called.
pub fn usage(name: &str) -> String {
    let Some(d) = TABLE.iter().find(|d| d.name == name) else { return format!("write `{name} argument`") };
    let letters: Vec<&str> = ["a", "b", "c"].into_iter().take(d.arity.0).collect();
    let more = if d.arity.1 == MANY { " …" } else { "" };
    format!("write `{name} {}{more}`; an argument that is a call itself stands in parentheses", letters.join(" "))
}

pub fn register(engine: &mut Handlebars<'static>) {
    for d in TABLE {
        engine.register_helper(d.name, Box::new(Call(d)));
    }
    engine.register_helper("defined", Box::new(Defined));
}

struct Call(&'static Def);

impl HelperDef for Call {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let Def { name, lenient, work, .. } = self.0;
        if let Some(e) = arity_error(name, h.params().len()) {
            return Err(RenderErrorReason::Other(e).into());
        }
        if let Some(p) = h.params().iter().find(|p| p.is_value_missing() && !lenient) {
            return Err(RenderErrorReason::MissingVariable(p.relative_path().cloned()).into());
        }
        let args: Vec<Value> = h.params().iter().map(|p| p.value().clone()).collect();
        let named = h.hash().iter().map(|(k, v)| (k.to_string(), v.value().clone())).collect();
        work(&args, &named)
            .map(ScopedJson::Derived)
            .map_err(|e| RenderErrorReason::Other(format!("`{name}`: {e}")).into())
    }
}

struct Defined;

impl HelperDef for Defined {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        Ok(ScopedJson::Derived(json!(h.params().iter().all(|p| !p.is_value_missing()))))
    }
}

/// A value as text: text as it is, everything else as JSON.
pub fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn truth(v: &Value) -> Result<bool, String> {
    super::truthy(v).ok_or_else(|| format!("`{}` is neither true nor false", text(v)))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) => x == y,
        _ => a == b,
    }
}

fn number(v: &Value) -> Option<f64> {
    v.as_f64().or_else(|| v.as_str().and_then(|s| s.trim().parse().ok()))
}

fn order(a: &[Value]) -> Result<Ordering, String> {
    match (number(&a[0]), number(&a[1])) {
        (Some(x), Some(y)) => x.partial_cmp(&y).ok_or_else(|| "not comparable".into()),
        _ => match (&a[0], &a[1]) {
            (Value::String(x), Value::String(y)) => Ok(x.cmp(y)),
            _ => Err(format!("`{}` and `{}` cannot be compared", text(&a[0]), text(&a[1]))),
        },
    }
}

fn list(v: &Value) -> Result<&Vec<Value>, String> {
    v.as_array().ok_or_else(|| format!("`{}` is not a list", text(v)))
}

fn whole(v: &Value) -> Result<i64, String> {
    v.as_i64()
        .or_else(|| v.as_str().and_then(|s| s.trim().parse().ok()))
        .or_else(|| v.as_f64().map(|f| f as i64))
        .ok_or_else(|| format!("`{}` is not a whole number", text(v)))
}
