//! Mappings.

use super::args::{as_list, as_text, equal, kind_of, shown};
use super::{Args, Def, Fail, def};
use serde_json::{Map, Value, json};

pub const ALL: &[Def] = &[
    def(
        "dict",
        "[…]",
        "A mapping: of named arguments (`dict a=1`), of keys and values in turn (`dict \"a\" 1`), or of a list of pairs.",
        (r#"{{dict "x-y" 1 a=2}}"#, r#"{"x-y":1,"a":2}"#),
        dict,
    )
    .named(&["*"]),
    def(
        "combine",
        "mapping […]",
        "One mapping of several; later ones win. recursive=true merges mappings inside; list_merge= is replace, keep, append, prepend, append_rp or prepend_rp.",
        ("{{combine (dict a=1 b=2) (dict b=3)}}", r#"{"a":1,"b":3}"#),
        combine,
    )
    .named(&["recursive", "list_merge"]),
    def("keys", "mapping", "Its keys.", ("{{keys (dict a=1)}}", r#"["a"]"#), |a| Ok(json!(a.mapping(0)?.keys().collect::<Vec<_>>()))),
    def("values", "mapping", "Its values.", ("{{values (dict a=1)}}", "[1]"), |a| Ok(a.mapping(0)?.values().cloned().collect())),
    def("items", "mapping", "Pairs of key and value.", ("{{items (dict a=1)}}", r#"[["a",1]]"#), |a| {
        Ok(a.mapping(0)?.iter().map(|(k, v)| json!([k, v])).collect())
    }),
    def("dictsort", "mapping [case_sensitive] [by]", "Pairs of key and value in the keys' order; by=\"value\" in the values'.", ("{{dictsort (dict b=1 a=2)}}", r#"[["a",2],["b",1]]"#), |a| {
        let sensitive = a.either(1, "case_sensitive").map_or(Ok(false), super::args::as_truth)?;
        let place = json!(match a.either(2, "by").map(as_text).as_deref() {
            None | Some("key") => "0",
            Some("value") => "1",
            Some(other) => return Err(Fail::Wrong(format!("it sorts by key or value, not by `{other}`"))),
        });
        let pairs: Value = a.mapping(0)?.iter().map(|(k, v)| json!([k, v])).collect();
        let (sensitive, reverse) = (json!(sensitive), json!(a.flag("reverse", false)?));
        super::call("sort", vec![&pairs], vec![("attribute", &place), ("case_sensitive", &sensitive), ("reverse", &reverse)], a)
    })
    .named(&["case_sensitive", "by", "reverse"]),
    def("dict2items", "mapping", "A list of mappings with `key` and `value`; key_name= and value_name= name them otherwise.", ("{{dict2items (dict a=1)}}", r#"[{"key":"a","value":1}]"#), |a| {
        let key = a.named_text("key_name").unwrap_or("key".into());
        let value = a.named_text("value_name").unwrap_or("value".into());
        Ok(a.mapping(0)?.iter().map(|(k, v)| json!({ key.as_ref(): k, value.as_ref(): v })).collect())
    })
    .named(&["key_name", "value_name"]),
    def("items2dict", "list", "A mapping of a list of mappings with `key` and `value`; key_name= and value_name= name them otherwise.", (r#"{{items2dict (list (dict key="a" value=1))}}"#, r#"{"a":1}"#), |a| {
        let key = a.named_text("key_name").unwrap_or("key".into());
        let value = a.named_text("value_name").unwrap_or("value".into());
        let mut out = Map::new();
        for (i, v) in a.list(0)?.iter().enumerate() {
            let part = |n: &str| v.get(n).ok_or_else(|| format!("element {i} has no `{n}`; key_name= and value_name= say what it is called"));
            out.insert(super::text(part(&key)?), part(&value)?.clone());
        }
        Ok(Value::Object(out))
    })
    .named(&["key_name", "value_name"]),
    def("pick", "mapping keys […]", "The mapping with these keys only; a list of keys or keys one by one.", (r#"{{pick (dict a=1 b=2) "a"}}"#, r#"{"a":1}"#), |a| only(a, true)),
    def("drop", "mapping keys […]", "The mapping without these keys.", (r#"{{drop (dict a=1 b=2) "a"}}"#, r#"{"b":2}"#), |a| only(a, false)),
];

fn dict(a: &Args) -> Result<Value, Fail> {
    let mut out = Map::new();
    match (a.len(), &a[0]) {
        (0, _) => {}
        (1, Value::Object(o)) => out.clone_from(o),
        (1, pairs) => {
            for (i, p) in as_list(pairs, 0)?.iter().enumerate() {
                match p.as_array().map(Vec::as_slice) {
                    Some([k, v]) => out.insert(super::text(k), v.clone()),
                    _ => return Err(Fail::Wrong(format!("element {i} is no pair of key and value: {}", shown(p)))),
                };
            }
        }
        (n, _) if n % 2 == 1 => return Err("keys and values stand in turn, and the last key has no value".into()),
        _ => {
            for kv in a.values.chunks(2) {
                if matches!(kv[0], Value::Array(_) | Value::Object(_)) {
                    return Err(Fail::Wrong(format!("{} cannot be a key", kind_of(kv[0]))));
                }
                out.insert(super::text(kv[0]), kv[1].clone());
            }
        }
    }
    out.extend(a.named.iter().map(|(k, v)| (k.to_string(), (*v).clone())));
    Ok(Value::Object(out))
}

#[derive(Clone, Copy, PartialEq)]
enum Lists {
    Replace,
    Keep,
    Append,
    Prepend,
    AppendNew,
    PrependNew,
}

fn combine(a: &Args) -> Result<Value, Fail> {
    let recursive = a.flag("recursive", false)?;
    let lists = match a.named_text("list_merge").as_deref() {
        None | Some("replace") => Lists::Replace,
        Some("keep") => Lists::Keep,
        Some("append") => Lists::Append,
        Some("prepend") => Lists::Prepend,
        Some("append_rp") => Lists::AppendNew,
        Some("prepend_rp") => Lists::PrependNew,
        Some(other) => {
            return Err(Fail::Wrong(format!(
                "its list_merge is replace, keep, append, prepend, append_rp or prepend_rp, not `{other}`"
            )));
        }
    };
    let mut out = Map::new();
    let mut all = vec![];
    for (i, v) in a.values.iter().enumerate() {
        gather(v, i, &mut all)?;
    }
    for m in all {
        merge(&mut out, m, recursive, lists);
    }
    Ok(Value::Object(out))
}

/// The mappings of an argument, lists of them dissolved.
fn gather<'v>(v: &'v Value, i: usize, all: &mut Vec<&'v Map<String, Value>>) -> Result<(), Fail> {
    match v {
        Value::Object(o) => all.push(o),
        Value::Array(l) => l.iter().try_for_each(|v| gather(v, i, all))?,
        other => {
            let hint = if other.is_string() { "; `from_yaml` reads one out of text" } else { "" };
            return Err(Fail::Wrong(format!(
                "its {} argument must be a mapping, not {}{hint}",
                super::args::nth(i),
                kind_of(other)
            )));
        }
    }
    Ok(())
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>, recursive: bool, lists: Lists) {
    for (k, new) in from {
        match (into.get_mut(k), new) {
            (Some(Value::Object(old)), Value::Object(new)) if recursive => merge(old, new, true, lists),
            (Some(Value::Array(old)), Value::Array(new)) if lists != Lists::Replace => {
                let lacks = |l: &[Value], v: &Value| !l.iter().any(|x| equal(x, v));
                *old = match lists {
                    Lists::Replace | Lists::Keep => std::mem::take(old),
                    Lists::Append => old.iter().chain(new).cloned().collect(),
                    Lists::Prepend => new.iter().chain(old.iter()).cloned().collect(),
                    Lists::AppendNew => old.iter().filter(|v| lacks(new, v)).chain(new).cloned().collect(),
                    Lists::PrependNew => new.iter().chain(old.iter().filter(|v| lacks(new, v))).cloned().collect(),
                };
            }
            _ => {
                into.insert(k.clone(), new.clone());
            }
        }
    }
}

fn only(a: &Args, wanted: bool) -> Result<Value, Fail> {
    let mut keys = vec![];
    for v in a.rest(1) {
        match v {
            Value::Array(l) => keys.extend(l.iter().map(as_text)),
            one => keys.push(as_text(one)),
        }
    }
    let keep = a.mapping(0)?.iter().filter(|(k, _)| keys.iter().any(|n| *n == **k) == wanted);
    Ok(Value::Object(keep.map(|(k, v)| (k.clone(), v.clone())).collect()))
}
