//! The table of helpers seen from Jinja: filters, tests, `lookup` and what else a template can call, by Ansible's names
//! and with Ansible's order of arguments.

use super::values::{Group, counted, from_engine, ordering, python, to_engine, too_much};
use super::world;
use crate::template::helpers::{self, Args, Fail};
use crate::template::limits;
use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::{Value as Json, json};

/// Filters whose arguments have other names or another order here than in Ansible.
const SIGNATURES: &[(&str, &str)] = &[
    ("b64decode", "string encoding urlsafe"),
    ("b64encode", "string encoding urlsafe"),
    ("batch", "value linecount fill_with"),
    ("d", "value default_value boolean"),
    ("default", "value default_value boolean"),
    ("dict2items", "mylist key_name value_name"),
    ("groupby", "value attribute default case_sensitive"),
    ("human_readable", "size isbits unit"),
    ("human_to_bytes", "size default_unit isbits"),
    ("items2dict", "mylist key_name value_name"),
    ("join", "value d attribute"),
    ("match", "value pattern ignorecase multiline"),
    ("password_hash", "password hashtype salt salt_size rounds"),
    ("regex", "value pattern ignorecase multiline match_type"),
    ("regex_findall", "value regex multiline ignorecase"),
    ("regex_replace", "value pattern replacement ignorecase multiline count mandatory_count"),
    ("search", "value pattern ignorecase multiline"),
    ("slice", "value slices fill_with"),
    ("sort", "value reverse case_sensitive attribute"),
    ("subelements", "obj subelements skip_missing"),
    ("sum", "iterable attribute start"),
    ("ternary", "value true_val false_val none_val"),
    ("to_json", "a indent sort_keys"),
    ("to_nice_json", "a indent sort_keys"),
    ("to_nice_yaml", "a indent sort_keys"),
    ("to_yaml", "a default_flow_style"),
    ("unique", "a case_sensitive attribute"),
    ("urlsplit", "value query"),
    ("version", "value version operator strict version_type"),
];

/// What an argument is where Ansible's own default is another than the helper's.
const OTHERWISE: &[(&str, &str, &str)] =
    &[("int", "default", "0"), ("float", "default", "0.0"), ("unique", "case_sensitive", "false")];

/// Other names of the same thing.
const ALIASES: &[(&str, &str)] = &[("version_compare", "version")];

/// Helpers that are operators, tests or lookups in Jinja.
const NO_FILTERS: &[&str] = &[
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "not",
    "and",
    "or",
    "in",
    "undefined",
    "env",
    "file",
    "template",
    "first_found",
    "password",
    "vars",
    "range",
    "concat",
    "repeat",
    "sublist",
    "add",
    "sub",
    "mul",
    "div",
    "truediv",
    "mod",
    "now",
    "get",
];

/// Filters of the engine itself that the table lacks.
const OF_ENGINE: &[&str] = &["safe", "escape", "e", "attr", "tojson"];

/// Tests beside those that are helpers by their own name.
const TESTS: &[&str] = &[
    "defined",
    "undefined",
    "equalto",
    "eq",
    "==",
    "sameas",
    "ne",
    "gt",
    "greaterthan",
    "ge",
    "gte",
    "lt",
    "lessthan",
    "le",
    "lte",
    "string",
    "number",
    "integer",
    "float",
    "boolean",
    "mapping",
    "sequence",
    "iterable",
    "list",
    "none",
    "true",
    "false",
    "truthy",
    "falsy",
    "success",
    "succeeded",
    "successful",
    "failed",
    "failure",
    "changed",
    "change",
    "skipped",
    "skip",
    "version",
    "version_compare",
    "match",
    "search",
    "regex",
    "subset",
    "issubset",
    "superset",
    "issuperset",
    "contains",
    "in",
    "all",
    "any",
    "even",
    "odd",
    "divisibleby",
    "lower",
    "upper",
    "abs",
    "finished",
    "started",
    "unreachable",
    "reachable",
    "nan",
    "callable",
    "filter",
    "test",
    "in_network",
    "network_in_network",
    "network_in_usable",
    "ip",
    "ipv4",
    "ipv6",
    "ipv4_address",
    "ipv6_address",
    "ip_address",
    "uri",
    "url",
];

/// Filters that give pairs, or lists of them.
const PAIRS: &[&str] =
    &["items", "dictsort", "zip", "zip_longest", "product", "permutations", "combinations", "subelements", "groupby"];

/// Filters that go through the keys of a mapping.
const OVER_KEYS: &[&str] = &[
    "map",
    "select",
    "reject",
    "first",
    "last",
    "join",
    "unique",
    "min",
    "max",
    "zip",
    "difference",
    "intersect",
    "union",
    "symmetric_difference",
    "reverse",
    "batch",
    "slice",
    "flatten",
    "shuffle",
];

fn helper(name: &str) -> &str {
    ALIASES.iter().find(|(a, _)| *a == name).map_or(name, |(_, h)| *h)
}

/// The names of all filters.
pub fn filters() -> impl Iterator<Item = &'static str> {
    helpers::all()
        .filter(|d| d.arity().1 > 0 && !NO_FILTERS.contains(&d.name()) && !d.name().starts_with("is_"))
        .map(|d| d.name())
        .chain(ALIASES.iter().map(|(a, _)| *a).filter(|a| !helpers::exists(a)))
        .chain(OF_ENGINE.iter().copied())
}

pub fn is_filter(name: &str) -> bool {
    filters().any(|f| f == name)
}

/// The names of all tests.
pub fn tests() -> impl Iterator<Item = &'static str> {
    TESTS.iter().copied()
}

pub fn is_test(name: &str) -> bool {
    TESTS.contains(&name)
}

/// Puts all of it into the engine.
pub fn register(env: &mut Environment<'static>) {
    let made: Vec<&'static str> = filters().filter(|n| !["safe", "attr"].contains(n)).collect();
    for name in made.into_iter().chain(["__percent"]) {
        match name {
            // The engine's own values, not what they are elsewhere.
            "list" => env.add_filter("list", |v: Value| {
                gone_over("list", &v)?;
                v.try_iter().map(|i| Value::from(i.collect::<Vec<_>>()))
            }),
            "tojson" => env.add_filter("tojson", tojson),
            "__percent" => env.add_filter("__percent", percent),
            "default" | "d" => env.add_filter(name, move |args: Rest<ValueOrKwargs>| {
                let mut args = args;
                let plain = args.0.iter().filter(|a| !a.is_kwargs()).count();
                if plain == 1
                    && !args
                        .0
                        .iter()
                        .any(|a| a.is_kwargs() && matches!(a.get_attr("default_value"), Ok(v) if !v.is_undefined()))
                {
                    args.0.insert(1, Value::from("").into());
                }
                filter("default", args)
            }),
            "escape" | "e" => env.add_filter(name, |v: Value| {
                if v.is_safe() {
                    return Ok(v);
                }
                let signs = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")];
                python(&v)
                    .map(|s| signs.iter().fold(s, |s, (c, with)| s.replace(*c, with)))
                    .map(Value::from_safe_string)
            }),
            "string" => env.add_filter("string", |v: Value| python(&v)),
            _ => env.add_filter(name, move |args: Rest<ValueOrKwargs>| filter(name, args)),
        }
    }
    for name in tests().filter(|n| !["defined", "undefined", "callable", "filter", "test"].contains(n)) {
        env.add_test(name, move |args: Rest<ValueOrKwargs>| test(name, args));
    }
    env.add_function("lookup", |args: Rest<ValueOrKwargs>| lookup(args, false));
    env.add_function("query", |args: Rest<ValueOrKwargs>| lookup(args, true));
    env.add_function("q", |args: Rest<ValueOrKwargs>| lookup(args, true));
    env.add_function("now", now);
    env.add_function("undef", |_: Rest<ValueOrKwargs>| Value::UNDEFINED);
    env.add_function("dict", |args: Rest<ValueOrKwargs>| filter("dict", args));
    env.add_function("__get", |args: Rest<ValueOrKwargs>| get(&into_values(args)));
    env.add_function("__own", super::values::Own::of);
    env.add_function("__item", |args: Rest<ValueOrKwargs>| {
        one(args, |v| {
            world(|w| w.items.push(matches!(v.kind(), ValueKind::String | ValueKind::Undefined)));
            Ok(())
        })
    });
    env.add_function("__within", |args: Rest<ValueOrKwargs>| {
        one(args, |v| match world(|w| w.items.pop()) {
            Some(false) if v.kind() == ValueKind::String => {
                Err(wrong("`in` looks for text in text, and for nothing else; `| string` makes text of it"))
            }
            _ => limits::charge(size(v)).map_err(too_much),
        })
    });
    env.add_function("__each", |args: Rest<ValueOrKwargs>| one(args, |v| gone_over("for", v)));
    env.add_function("__ordered", |args: Rest<ValueOrKwargs>| ordered(&into_values(args)));
    env.add_function("__keep", |args: Rest<ValueOrKwargs>| one(args, counted));
    env.add_function("__sized", |args: Rest<ValueOrKwargs>| one(args, |v| limits::charge(size(v)).map_err(too_much)));
    env.add_function("__text", |args: Rest<ValueOrKwargs>| {
        let v = into_values(args).pop().unwrap_or_default();
        match v.kind() {
            ValueKind::String => limits::charge(size(&v)).map_err(too_much).map(|()| v),
            ValueKind::Undefined => Ok(v),
            _ => python(&v).map(Value::from),
        }
    });
    env.add_function("__times", |args: Rest<ValueOrKwargs>| {
        one(args, |v| {
            let factor = Factor::of(v);
            world(|w| w.factors.push(factor));
            Ok(())
        })
    });
    env.add_function("__factor", |args: Rest<ValueOrKwargs>| {
        one(args, |v| match (world(|w| w.factors.pop()), Factor::of(v)) {
            (Some(Factor::Size(s)), Factor::Number(n)) | (Some(Factor::Number(n)), Factor::Size(s)) => {
                limits::room(s.saturating_mul(usize::try_from(n).unwrap_or(0))).map_err(wrong)
            }
            _ => Ok(()),
        })
    });
    env.set_unknown_method_callback(method);
}

/// One side of a multiplication, as far as its result may be large.
pub enum Factor {
    Size(usize),
    Number(i64),
    Other,
}

impl Factor {
    fn of(v: &Value) -> Factor {
        match (v.kind(), v.as_i64()) {
            (ValueKind::String, _) => Factor::Size(size(v)),
            (ValueKind::Seq | ValueKind::Iterable, _) => Factor::Size(size(v).saturating_mul(8)),
            (_, Some(n)) => Factor::Number(n),
            _ => Factor::Other,
        }
    }
}

/// What it costs to go through a value, without what is in its elements.
fn size(v: &Value) -> usize {
    v.as_str().map_or_else(|| v.len().unwrap_or(0).saturating_mul(8), str::len)
}

/// The first argument as it is, looked at.
fn one(args: Rest<ValueOrKwargs>, look: impl Fn(&Value) -> Result<(), Error>) -> Result<Value, Error> {
    let v = into_values(args).into_iter().next().unwrap_or_default();
    look(&v).map(|()| v)
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn into_values(args: Rest<ValueOrKwargs>) -> Vec<Value> {
    args.0.into_iter().map(ValueOrKwargs::into_value).collect()
}

/// What is no collection has no elements: the engine takes it for an empty one.
fn gone_over(by: &str, v: &Value) -> Result<(), Error> {
    let kind = match v.kind() {
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => "nothing (None)",
        ValueKind::Bool => "true or false",
        ValueKind::Number => "a number",
        _ => return Ok(()),
    };
    Err(wrong(format!("`{by}` goes over a list, a mapping or text, not over {kind}")))
}

/// Values with signs between them, as in `a < b <= c`.
fn ordered(args: &[Value]) -> Result<bool, Error> {
    for part in args.windows(3).step_by(2) {
        let (a, sign, b) = (&part[0], part[1].as_str().unwrap_or_default(), &part[2]);
        if a.is_undefined() || b.is_undefined() {
            return Err(ErrorKind::UndefinedError.into());
        }
        let holds = match sign {
            "==" => a == b,
            "!=" => a != b,
            _ => {
                let o = ordering(sign, a, b)?;
                match sign {
                    "<" => o.is_lt(),
                    ">" => o.is_gt(),
                    "<=" => o.is_le(),
                    _ => o.is_ge(),
                }
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// JSON that can stand in HTML, keys in order.
fn tojson(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let (values, missing, mut named) = split(args, false)?;
    if let Some((k, _)) = named.iter().find(|(k, _)| k != "indent") {
        return Err(wrong(format!("`tojson` has no named argument `{k}`: it takes `indent=`")));
    }
    named.push(("sort_keys".into(), json!(true)));
    let text = answer("tojson", invoke("to_json", (values, missing, named)))?.unwrap_or_default();
    let signs = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\'', "\\u0027")];
    Ok(signs.iter().fold(helpers::text(&text), |s, (c, with)| s.replace(*c, with)).into())
}

/// A path whose every step may lead nowhere.
fn get(args: &[Value]) -> Result<Value, Error> {
    let [root, keys @ ..] = args else { return Ok(Value::UNDEFINED) };
    let mut v = root.clone();
    for k in keys {
        if v.is_undefined() || k.is_undefined() || v.is_none() {
            return Ok(Value::UNDEFINED);
        }
        v = v.get_item(k)?;
    }
    Ok(v)
}

/// Positional arguments, a bit for every undefined one, and the named ones.
type Given = (Vec<Json>, u64, Vec<(String, Json)>);

fn split(args: Rest<ValueOrKwargs>, lenient: bool) -> Result<Given, Error> {
    let (mut values, mut missing, mut named) = (vec![], 0, vec![]);
    for v in into_values(args) {
        if v.is_kwargs() {
            for k in v.try_iter()? {
                named.push((k.to_string(), from_engine(&v.get_item(&k)?)?));
            }
        } else if v.is_undefined() && lenient {
            missing |= 1u64.checked_shl(values.len() as u32).unwrap_or(0);
            values.push(Json::Null);
        } else {
            values.push(from_engine(&v)?);
        }
    }
    Ok((values, missing, named))
}

/// Calls a helper with arguments as Ansible orders and names them.
fn invoke(name: &str, (mut values, missing, named): Given) -> Result<Json, Fail> {
    let def = helpers::find(name).ok_or_else(|| format!("there is no filter `{name}`"))?;
    let own: Vec<&str> = def.positions().collect();
    let signature: Vec<&str> = match SIGNATURES.iter().find(|(n, _)| *n == name) {
        Some((_, s)) => s.split(' ').collect(),
        None => {
            let more = def.names().iter().copied().filter(|n| !own.contains(n) && *n != "*");
            own.iter().copied().chain(more).collect()
        }
    };
    let most = def.arity().1;
    let mut by_name: Vec<(String, Json)> = vec![];
    if values.len() > most && signature.len() > most {
        let rest: Vec<Json> = values.drain(most..).collect();
        for (key, v) in signature[most..].iter().zip(rest) {
            by_name.push((key.to_string(), v));
        }
    }
    for (key, v) in named {
        match signature.iter().position(|s| *s == key) {
            Some(i) if !def.names().contains(&key.as_str()) && i < most => {
                if values.len() <= i {
                    values.resize(i + 1, Json::Null);
                }
                values[i] = v;
            }
            _ => by_name.push((key, v)),
        }
    }
    for (_, key, v) in OTHERWISE.iter().filter(|(n, ..)| *n == name) {
        let stands = signature.iter().position(|s| s == key).is_some_and(|i| i < values.len());
        if !stands && !by_name.iter().any(|(k, _)| k == key) {
            by_name.push((key.to_string(), serde_json::from_str(v).unwrap_or_default()));
        }
    }
    // There is one encoding of text here.
    if signature.contains(&"encoding")
        && let Some(i) = by_name.iter().position(|(k, _)| k == "encoding")
    {
        let encoding = helpers::text(&by_name.remove(i).1);
        let is_utf8 = ["utf8", "utf-8", "utf_8"].contains(&encoding.to_lowercase().as_str());
        if !(is_utf8 || name == "b64encode" && encoding.eq_ignore_ascii_case("utf-16-le")) {
            return Err(Fail::Wrong(format!("`{name}` knows the encoding utf-8, not `{encoding}`")));
        }
        if !is_utf8 {
            by_name.push(("utf16".into(), json!(true)));
        }
    }
    if let Some(e) = helpers::arity_error(name, values.len()) {
        return Err(Fail::Wrong(e));
    }
    if let Some((e, hint)) = by_name.iter().find_map(|(k, _)| helpers::named_error(name, k)) {
        return Err(Fail::Wrong(format!("{e}: {hint}")));
    }
    let outside = world(|w| w.outside.clone());
    let args = Args {
        values: values.iter().collect(),
        named: by_name.iter().map(|(k, v)| (k.as_str(), v)).collect(),
        missing,
        outside: Some(&outside),
    };
    let made = helpers::as_python(|| def.run(&args))?;
    limits::made(&made)?;
    Ok(made)
}

fn filter(name: &'static str, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let def = helper(name);
    // What is not chosen may be undefined.
    let lenient = helpers::is_lenient(def) || name == "ternary";
    let mut given = split(args, lenient)?;
    let missing = given.1;
    let values = &mut given.0;
    match name {
        // True and false are Python's.
        "ternary" => {
            if missing & 1 == 1 {
                return Ok(Value::UNDEFINED);
            }
            if let Some(v) = values.first_mut().filter(|v| !v.is_null()) {
                *v = json!(helpers::is_full(v));
            } else if values.len() < 4
                && given.2.iter().all(|(k, _)| k != "none_val")
                && let Some(v) = values.first_mut()
            {
                *v = json!(false);
            }
        }
        // What they name may have its collection before it.
        "map" | "select" | "reject" => plain_name(values.get_mut(1)),
        "selectattr" | "rejectattr" => plain_name(values.get_mut(2)),
        _ => {}
    }
    if OVER_KEYS.contains(&name)
        && let Some(first) = values.first_mut()
    {
        match first {
            Json::Object(o) => *first = o.keys().map(|k| json!(k)).collect(),
            Json::String(s) if ["map", "select", "reject", "join", "unique"].contains(&name) => {
                *first = s.chars().map(|c| json!(c.to_string())).collect();
            }
            _ => {}
        }
    }
    let v = answer(name, invoke(def, given))?;
    Ok(match v {
        None => Value::UNDEFINED,
        Some(Json::Array(rows)) if name == "groupby" => {
            let part = |r: &Json, i: usize| r.get(i).map_or(Value::UNDEFINED, to_engine);
            Value::from(rows.iter().map(|r| Value::from_object(Group(part(r, 0), part(r, 1)))).collect::<Vec<_>>())
        }
        Some(Json::Array(rows)) if PAIRS.contains(&name) => Value::from(rows.iter().map(tuple).collect::<Vec<_>>()),
        Some(v) => to_engine(&v),
    })
}

fn plain_name(v: Option<&mut Json>) {
    if let Some(Json::String(s)) = v {
        let last = s.rsplit('.').next().unwrap_or_default();
        if is_filter(last) || is_test(last) {
            *s = helper(last).to_string();
        }
    }
}

fn tuple(v: &Json) -> Value {
    match v {
        Json::Array(a) => Value::from(Tuple::from(a.iter().map(to_engine).collect::<Vec<_>>())),
        other => to_engine(other),
    }
}

/// What a helper came to; none where it came to nothing.
fn answer(name: &str, got: Result<Json, Fail>) -> Result<Option<Json>, Error> {
    match got {
        Ok(v) => Ok(Some(v)),
        Err(Fail::Undefined(why)) => {
            world(|w| w.why = Some(format!("`{name}`: {why}")));
            Ok(None)
        }
        Err(Fail::Wrong(e)) if e.starts_with(&format!("`{name}`")) => Err(wrong(e)),
        Err(Fail::Wrong(e)) => Err(wrong(format!("`{name}`: {e}"))),
        Err(Fail::Outside(ask)) => {
            world(|w| w.ask(super::Question::Outside(ask)));
            Err(wrong("something is asked for"))
        }
    }
}

fn test(name: &'static str, args: Rest<ValueOrKwargs>) -> Result<bool, Error> {
    let first = args.0.first().cloned().map_or(Value::UNDEFINED, ValueOrKwargs::into_value);
    if first.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    match name {
        "iterable" | "sequence" => {
            let all = matches!(first.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Iterable);
            return Ok(all);
        }
        "number" => return Ok(first.is_number() || first.kind() == ValueKind::Bool),
        "integer" => return Ok(first.is_integer() && first.kind() != ValueKind::Bool),
        _ => {}
    }
    let given = split(args, false)?;
    let truth = |key: &str| given.0.first().and_then(|v| v.get(key)).is_some_and(helpers::is_full);
    let text = || given.0.first().and_then(Json::as_str).unwrap_or_default();
    let helper = match name {
        "lower" => return Ok(!text().chars().any(char::is_uppercase) && text().chars().any(char::is_lowercase)),
        "upper" => return Ok(!text().chars().any(char::is_lowercase) && text().chars().any(char::is_uppercase)),
        "abs" => return Ok(text().starts_with('/')),
        "nan" => return Ok(false),
        "finished" | "started" => {
            return Ok(truth(name) || given.0.first().and_then(|v| v.get(name)) == Some(&json!(1)));
        }
        "unreachable" => return Ok(truth(name)),
        "reachable" => return Ok(!truth("unreachable")),
        "uri" | "url" => return Ok(text().split_once("://").is_some_and(|(s, r)| !s.is_empty() && !r.is_empty())),
        "success" | "successful" => "succeeded",
        "failure" => "failed",
        "change" => "changed",
        "skip" => "skipped",
        "ip" | "ipv4_address" | "ipv6_address" | "ip_address" => &format!("is_{name}"),
        "ipv4" | "ipv6" => {
            let v = answer(name, invoke(name, given))?;
            return Ok(v.is_some_and(|v| helpers::is_full(&v)));
        }
        other => helper(other),
    };
    let got = match given.0.split_first() {
        // As `select` knows it: a filter may have the same name.
        Some((first, with)) if given.2.is_empty() => {
            let outside = world(|w| w.outside.clone());
            let with: Vec<&Json> = with.iter().collect();
            let with = with.as_slice();
            match SIGNATURES.iter().any(|(n, _)| *n == helper) {
                true => invoke(helper, given),
                false => helpers::as_python(|| helpers::test(helper, first, with, &outside)).map(Json::Bool),
            }
        }
        _ => invoke(helper, given),
    };
    Ok(answer(name, got)?.is_some_and(|v| helpers::is_full(&v)))
}

/// Python's `%` on text.
fn percent(pattern: Value, with: Value) -> Result<Value, Error> {
    let Some(p) = pattern.as_str() else { return Err(wrong("`%` on the left of which text stands takes values")) };
    let mut values = vec![json!(p)];
    if with.is_tuple() {
        for v in with.try_iter()? {
            values.push(from_engine(&v)?);
        }
    } else {
        values.push(from_engine(&with)?);
    }
    Ok(answer("%", invoke("format", (values, 0, vec![])))?.map_or(Value::UNDEFINED, |v| to_engine(&v)))
}

fn now(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let (values, missing, mut named) = split(args, false)?;
    named.retain(|(_, v)| !v.is_null());
    if values.is_empty() && !named.iter().any(|(k, _)| k == "fmt") {
        named.push(("fmt".into(), json!("%Y-%m-%d %H:%M:%S%.6f")));
    }
    let given = match values.as_slice() {
        [Json::Bool(utc), rest @ ..] => {
            named.push(("utc".into(), json!(utc)));
            (rest.to_vec(), missing, named)
        }
        _ => (values, missing, named),
    };
    Ok(answer("now", invoke("now", given))?.map_or(Value::UNDEFINED, |v| to_engine(&v)))
}

/// `lookup('name', term, …)`, and `query`, which gives a list.
fn lookup(args: Rest<ValueOrKwargs>, list: bool) -> Result<Value, Error> {
    let (mut terms, _, mut named) = split(args, false)?;
    if terms.is_empty() {
        return Err(wrong("`lookup` takes the name of what looks up, then what it is to look for"));
    }
    let first = terms.remove(0);
    let name = first.as_str().unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    let mut take = |key: &str| named.iter().position(|(k, _)| k == key).map(|i| named.remove(i).1);
    let list = take("wantlist").map_or(list, |v| helpers::is_full(&v));
    let lenient = take("errors").is_some_and(|v| v != json!("strict"));
    let flat = |terms: Vec<Json>| -> Vec<Json> {
        terms.into_iter().flat_map(|t| if let Json::Array(a) = t { a } else { vec![t] }).collect()
    };
    let one = |name: &str, values: Vec<Json>, named: &[(String, Json)]| match invoke(name, (values, 0, named.to_vec()))
    {
        Err(Fail::Undefined(_)) if lenient => Ok(None),
        other => answer(&format!("lookup('{name}')"), other),
    };
    let mut out = vec![];
    match name {
        "env" | "file" | "template" | "vars" | "password" => {
            for t in flat(terms) {
                let mut named = named.clone();
                let mut t = t;
                match name {
                    "env" if named.is_empty() => named.push(("default".into(), json!(""))),
                    "password" => t = password(&t, &mut named)?,
                    _ => {}
                }
                match one(name, vec![t], &named)? {
                    Some(v) => out.push(v),
                    None if lenient => {}
                    None => return Ok(Value::UNDEFINED),
                }
            }
        }
        "fileglob" => {
            for t in flat(terms) {
                if let Some(Json::Array(a)) = one(name, vec![t], &[])? {
                    out.extend(a);
                }
            }
        }
        "first_found" => {
            let mut files = vec![];
            let mut skip = take("skip").is_some_and(|v| helpers::is_full(&v));
            for t in flat(terms).into_iter().chain(take("files")) {
                let Json::Object(o) = &t else {
                    files.extend(flat(vec![t]));
                    continue;
                };
                let all = |k: &str| flat(o.get(k).cloned().into_iter().collect());
                skip |= o.get("skip").is_some_and(helpers::is_full);
                for f in all("files") {
                    match all("paths") {
                        p if p.is_empty() => files.push(f),
                        p => files.extend(p.iter().map(|p| {
                            json!(format!("{}/{}", helpers::text(p).trim_end_matches('/'), helpers::text(&f)))
                        })),
                    }
                }
            }
            match one(name, vec![Json::Array(files)], &[("skip".into(), json!(skip))])? {
                Some(v) if v == json!("") => return Ok(Value::from(Vec::<Value>::new())),
                Some(v) => out.push(v),
                None => return Ok(Value::UNDEFINED),
            }
        }
        "items" => out = flat(terms),
        "flattened" => {
            if let Some(Json::Array(a)) =
                one("flatten", vec![Json::Array(terms)], &[("skip_nulls".into(), json!(false))])?
            {
                out = a;
            }
        }
        "list" => out = terms,
        "dict" => {
            for t in terms {
                if let Some(Json::Array(a)) = one("dict2items", vec![t], &[])? {
                    out.extend(a);
                }
            }
        }
        "indexed_items" => out = flat(terms).into_iter().enumerate().map(|(i, v)| json!([i, v])).collect(),
        "together" | "nested" | "cartesian" => {
            let how = if name == "together" { "zip_longest" } else { "product" };
            if let Some(Json::Array(a)) = one(how, terms, &[])? {
                out = a;
            }
        }
        "pipe" | "lines" | "url" | "script" => {
            return Err(wrong(format!(
                "`lookup('{name}')`: a template runs nothing and fetches nothing; let a task do it, and `register` what it says"
            )));
        }
        _ => {
            let known = [
                "env",
                "file",
                "template",
                "vars",
                "password",
                "fileglob",
                "first_found",
                "items",
                "list",
                "dict",
                "indexed_items",
                "together",
                "nested",
                "flattened",
            ];
            return Err(wrong(match crate::source::nearest(name, known) {
                Some(n) => format!("there is no lookup `{name}`: did you mean `{n}`?"),
                None => format!("there is no lookup `{name}`; there is {}", known.join(", ")),
            }));
        }
    }
    if list {
        return Ok(to_engine(&Json::Array(out)));
    }
    Ok(match (out.len(), name) {
        (1, _) => to_engine(&out[0]),
        (0, "vars") => Value::UNDEFINED,
        (0, _) => Value::from(""),
        _ if out.iter().all(Json::is_string) => {
            Value::from(out.iter().map(helpers::text).collect::<Vec<_>>().join(","))
        }
        _ => to_engine(&Json::Array(out)),
    })
}

/// Ansible writes a password's settings behind its path: `path length=12 chars=ascii_letters,digits`.
fn password(term: &Json, named: &mut Vec<(String, Json)>) -> Result<Json, Error> {
    let text = helpers::text(term);
    let mut words = text.split(' ').peekable();
    let mut path = vec![];
    const SETTINGS: [&str; 5] = ["length", "chars", "encrypt", "seed", "ident"];
    let set = |w: &str| w.split_once('=').filter(|(k, _)| SETTINGS.contains(k)).map(|(k, v)| (k.to_string(), json!(v)));
    while let Some(w) = words.next_if(|w| set(w).is_none()) {
        path.push(w);
    }
    for w in words.filter(|w| !w.is_empty()) {
        let Some((key, v)) = set(w) else {
            return Err(wrong(format!(
                "`lookup('password')`: `{w}` is no setting; it knows length=, chars=, encrypt= and seed="
            )));
        };
        named.retain(|(k, _)| *k != key);
        named.push((key, v));
    }
    named.retain(|(k, v)| !(v.is_null() && ["encrypt", "seed", "ident"].contains(&k.as_str())));
    // What a seed gives depends on what there is to choose from.
    if named.iter().any(|(k, _)| k == "seed") && named.iter().all(|(k, _)| k != "chars") {
        named.push(("chars".into(), json!(["ascii_letters", "digits", ".,:-_"])));
    }
    for (_, v) in named.iter_mut().filter(|(k, _)| k == "chars") {
        let sets: Vec<String> = match &*v {
            Json::Array(a) => a.iter().map(helpers::text).collect(),
            // A comma itself is written as two.
            v => {
                let text = helpers::text(v);
                let comma = text.contains(",,").then(|| ",".to_string());
                let sets = text.replace(",,", ",");
                comma.into_iter().chain(sets.split(',').filter(|s| !s.is_empty()).map(str::to_string)).collect()
            }
        };
        let letters = |from: char, to: char| (from..=to).collect::<String>();
        *v = json!(
            sets.iter()
                .map(|s| match s.as_str() {
                    "ascii_letters" => letters('a', 'z') + &letters('A', 'Z'),
                    "ascii_lowercase" => letters('a', 'z'),
                    "ascii_uppercase" => letters('A', 'Z'),
                    "digits" => letters('0', '9'),
                    "hexdigits" => "0123456789abcdefABCDEF".into(),
                    "punctuation" => r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##.into(),
                    other => other.to_string(),
                })
                .collect::<String>()
                .replace(['"', '\''], "")
        );
    }
    Ok(json!(path.join(" ")))
}

/// Python's methods. What is not here the engine's own collection of them may have.
pub fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let made = called(state, value, name, args)?;
    limits::charge(size(value).saturating_add(size(&made))).map_err(too_much)?;
    Ok(made)
}

fn called(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let whole = |i: usize| args.get(i).and_then(Value::as_i64);
    let arg = |i: usize| args.get(i).and_then(Value::as_str);
    if let Some(s) = value.as_str() {
        let pad = |left: usize, right: usize| {
            let c = arg(1).unwrap_or(" ");
            Value::from(format!("{}{s}{}", c.repeat(left), c.repeat(right)))
        };
        let gap = || {
            let wide = helpers::width(whole(0).unwrap_or(0)).map_err(|e| wrong(format!("`{name}`: {e}")))?;
            Ok::<_, Error>(wide.saturating_sub(s.chars().count()))
        };
        let place = |at: Option<usize>| at.map_or(-1, |i| s[..i].chars().count() as i64);
        match (name, args.len()) {
            ("find", 1) => return Ok(place(s.find(arg(0).unwrap_or_default())).into()),
            ("rfind", 1) => return Ok(place(s.rfind(arg(0).unwrap_or_default())).into()),
            ("index" | "rindex", 1) => {
                let what = arg(0).unwrap_or_default();
                return match if name == "index" { s.find(what) } else { s.rfind(what) } {
                    None => Err(wrong(format!("`{name}`: `{what}` is not in it"))),
                    at => Ok(place(at).into()),
                };
            }
            ("removeprefix", 1) => return Ok(s.strip_prefix(arg(0).unwrap_or_default()).unwrap_or(s).into()),
            ("removesuffix", 1) => return Ok(s.strip_suffix(arg(0).unwrap_or_default()).unwrap_or(s).into()),
            ("ljust", 1 | 2) => return Ok(pad(0, gap()?)),
            ("rjust", 1 | 2) => return Ok(pad(gap()?, 0)),
            ("center", 1 | 2) => {
                let gap = gap()?;
                let left = gap / 2 + (gap & whole(0).unwrap_or(0) as usize & 1);
                return Ok(pad(left, gap - left));
            }
            ("zfill", 1) => {
                let (sign, digits) = s.strip_prefix(['-', '+']).map_or(("", s), |d| (&s[..1], d));
                return Ok(format!("{sign}{}{digits}", "0".repeat(gap()?)).into());
            }
            ("casefold", 0) => return Ok(s.to_lowercase().into()),
            ("swapcase", 0) => {
                let swap = |c: char| -> String {
                    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
                };
                return Ok(s.chars().map(swap).collect::<String>().into());
            }
            ("isdecimal", 0) => return Ok((!s.is_empty() && s.chars().all(|c| c.is_ascii_digit())).into()),
            ("encode" | "decode", _) => return Ok(value.clone()),
            ("title", 0) => {
                let mut before = false;
                let mut out = String::new();
                for c in s.chars() {
                    if before {
                        out.extend(c.to_lowercase())
                    } else {
                        out.extend(c.to_uppercase())
                    }
                    before = c.is_alphabetic();
                }
                return Ok(out.into());
            }
            ("partition" | "rpartition", 1) => {
                let sep = arg(0)
                    .filter(|s| !s.is_empty())
                    .ok_or_else(|| wrong(format!("`{name}`: the separator is empty")))?;
                let parts = match if name == "partition" { s.split_once(sep) } else { s.rsplit_once(sep) } {
                    Some((a, b)) => [a, sep, b],
                    None if name == "partition" => [s, "", ""],
                    None => ["", "", s],
                };
                return Ok(Value::from(Tuple::from(parts.map(Value::from))));
            }
            ("replace", 2 | 3) => return filtered("replace", value, args),
            ("split" | "rsplit", _) => {
                let plain = name == "split" || arg(0).is_none();
                return filtered(if plain { "split" } else { "rsplit" }, value, args);
            }
            ("join", 1) => {
                let part = |v: Value| match v.as_str() {
                    Some(s) => Ok(s.to_string()),
                    None => {
                        Err(wrong("`join` puts text together, and nothing else; `| map('string')` makes text of it"))
                    }
                };
                let parts = args[0].try_iter()?.map(part).collect::<Result<Vec<_>, _>>()?;
                let all = parts.iter().map(|p| p.len() + s.len()).sum();
                limits::room(all).map_err(|e| wrong(format!("`join`: {e}")))?;
                return Ok(parts.join(s).into());
            }
            ("strftime", _) => return Err(wrong("`strftime`: give `now` the form itself: now(fmt='%Y-%m-%d')")),
            _ => {}
        }
    }
    match (value.kind(), name, args) {
        (_, "copy", []) => return Ok(value.clone()),
        (ValueKind::Seq, "index", [v]) => {
            return match value.try_iter()?.position(|x| x == *v) {
                Some(i) => Ok(i.into()),
                None => Err(wrong("`index`: the list has no such element")),
            };
        }
        (ValueKind::Seq | ValueKind::Map, "append" | "extend" | "insert" | "update" | "remove" | "setdefault", _) => {
            return Err(wrong(format!(
                "`{name}`: only a list or mapping that the template itself sets can be changed; write `{{% set x = x + [y] %}}`"
            )));
        }
        _ => {}
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args).map_err(|e| match e.kind() {
        ErrorKind::UnknownMethod => {
            let kind = match value.kind() {
                ValueKind::String => "text",
                ValueKind::Map => "a mapping",
                ValueKind::Seq => "a list",
                ValueKind::Number => "a number",
                ValueKind::None => "nothing (None)",
                _ => "this",
            };
            // The engine still looks whether there is a field of this name that can be called.
            Error::new(ErrorKind::UnknownMethod, format!("{kind} has no method `{name}`"))
        }
        _ => e,
    })
}

/// A filter as a method.
fn filtered(name: &'static str, value: &Value, args: &[Value]) -> Result<Value, Error> {
    let all = std::iter::once(value.clone()).chain(args.iter().cloned());
    filter(name, Rest(all.map(ValueOrKwargs::from).collect()))
}
