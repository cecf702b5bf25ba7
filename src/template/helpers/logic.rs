//! Comparisons, choices, and what kind of thing a value is.

use super::args::{as_list, as_text, as_truth, at_path, equal, is_full, is_python, kind_of, order, shown};
use super::{Args, Def, Fail, def};
use serde_json::{Value, json};
use std::cmp::Ordering;

pub const ALL: &[Def] = &[
    def(
        "default",
        "value fallback [bool]",
        "The value, or the fallback where it is undefined; with bool=true also where it is empty, null, 0 or false. `{{default x omit}}` leaves the parameter out.",
        (r#"{{default nowhere "x"}}"#, r#""x""#),
        default,
    )
    .named(&["bool", "boolean"])
    .lenient(),
    def("d", "value fallback [bool]", "Short for `default`.", (r#"{{d nowhere 1}}"#, "1"), default)
    .named(&["bool", "boolean"])
    .lenient(),
    def(
        "mandatory",
        "value [message]",
        "The value; where it is undefined an error with the message.",
        (r#"{{mandatory "x"}}"#, r#""x""#),
        |a| {
            if a.is_missing(0) {
                let m = a.either(1, "msg").map(as_text).unwrap_or("this variable must be set".into());
                return Err(Fail::Wrong(m.into_owned()));
            }
            Ok(a[0].clone())
        },
    )
    .named(&["msg"])
    .lenient(),
    def(
        "undefined",
        "value",
        "Whether a variable or a path has no value; `defined` is the opposite.",
        ("{{undefined nowhere}}", "true"),
        |a| Ok(json!(a.is_missing(0))),
    )
    .lenient(),
    def("eq", "a b", "Whether both are equal.", ("{{eq 1 1.0}}", "true"), |a| Ok(json!(equal(&a[0], &a[1])))),
    def("ne", "a b", "Whether they differ.", (r#"{{ne "a" "b"}}"#, "true"), |a| Ok(json!(!equal(&a[0], &a[1])))),
    def("gt", "a b", "Whether a is greater than b.", ("{{gt 10 9}}", "true"), |a| {
        Ok(json!(order(&a[0], &a[1])? == Ordering::Greater))
    }),
    def("gte", "a b", "Whether a is greater than b or equal.", ("{{gte 9 9}}", "true"), |a| {
        Ok(json!(order(&a[0], &a[1])? != Ordering::Less))
    }),
    def("lt", "a b", "Whether a is less than b.", ("{{lt 10 9}}", "false"), |a| {
        Ok(json!(order(&a[0], &a[1])? == Ordering::Less))
    }),
    def("lte", "a b", "Whether a is less than b or equal.", ("{{lte 9 9}}", "true"), |a| {
        Ok(json!(order(&a[0], &a[1])? != Ordering::Greater))
    }),
    def("not", "a", "The opposite of true and false.", ("{{not true}}", "false"), |a| Ok(json!(!a.truth(0)?))),
    def("and", "a […]", "Whether all are true. What stands behind the first false may be undefined.", ("{{and true 1 false}}", "false"), |a| {
        first_that_is(a, false).map(|found| json!(!found))
    })
    .lazy(),
    def("or", "a […]", "Whether one is true. What stands behind the first true may be undefined.", ("{{or false 1}}", "true"), |a| {
        first_that_is(a, true).map(|found| json!(found))
    })
    .lazy(),
    def("in", "item where", "Whether a list, a mapping's keys or text has it.", (r#"{{in 2 (list 1 2)}}"#, "true"), |a| {
        has(&a[1], &a[0]).map(Value::Bool)
    }),
    def(
        "contains",
        "where item",
        "Whether a list, a mapping's keys or text has the item.",
        (r#"{{contains "abc" "b"}}"#, "true"),
        |a| has(&a[0], &a[1]).map(Value::Bool),
    ),
    def(
        "ternary",
        "condition yes no [null]",
        "`yes` if the condition is true, else `no`; `null`, where given, if it is null.",
        (r#"{{ternary true "a" "b"}}"#, r#""a""#),
        |a| {
            // Text such as "no" counts as what it says; other text counts as true if there is some.
            let i = match a.get(3) {
                Some(_) if a[0].is_null() => 3,
                _ if crate::template::truthy(&a[0]).unwrap_or(true) => 1,
                _ => 2,
            };
            if a.is_missing(0) || a.is_missing(i) { Err(Fail::Undefined(String::new())) } else { Ok(a[i].clone()) }
        },
    )
    .lazy(),
    def("bool", "value", "True or false of `yes`, `on`, `1`, `true` and their opposites.", (r#"{{bool "yes"}}"#, "true"), |a| {
        if is_python() {
            let known = as_text(&a[0]).to_lowercase();
            let known = ["yes", "on", "true", "1"].contains(&known.as_str()) && (a[0].is_string() || a[0].is_i64());
            return Ok(json!(known || a[0] == json!(true) || a[0].as_f64() == Some(1.0)));
        }
        Ok(json!(a.truth(0)?))
    }),
    def("type_debug", "value", "The kind of value, by Python's name: str, int, float, bool, list, dict, NoneType.", (r#"{{type_debug "x"}}"#, r#""str""#), |a| {
        Ok(json!(match &a[0] {
            Value::Null => "NoneType",
            Value::Bool(_) => "bool",
            Value::Number(n) if n.is_f64() => "float",
            Value::Number(_) => "int",
            Value::String(_) => "str",
            Value::Array(_) => "list",
            Value::Object(_) => "dict",
        }))
    }),
    def("is_string", "value", "Whether it is text.", (r#"{{is_string "1"}}"#, "true"), |a| Ok(json!(a[0].is_string()))),
    def("is_number", "value", "Whether it is a number (true and false are numbers to Ansible, not here).", (r#"{{is_number 1}}"#, "true"), |a| {
        Ok(json!(a[0].is_number()))
    }),
    def("is_integer", "value", "Whether it is a whole number.", ("{{is_integer 1.5}}", "false"), |a| {
        Ok(json!(a[0].is_i64() || a[0].is_u64()))
    }),
    def("is_float", "value", "Whether it is a number with a point.", ("{{is_float 1.5}}", "true"), |a| Ok(json!(a[0].is_f64()))),
    def("is_boolean", "value", "Whether it is true or false itself, not text that says so.", (r#"{{is_boolean "yes"}}"#, "false"), |a| {
        Ok(json!(a[0].is_boolean()))
    }),
    def("is_mapping", "value", "Whether it is a mapping.", ("{{is_mapping (dict a=1)}}", "true"), |a| Ok(json!(a[0].is_object()))),
    def("is_list", "value", "Whether it is a list.", ("{{is_list (list 1)}}", "true"), |a| Ok(json!(a[0].is_array()))),
    def("is_none", "value", "Whether it is null.", ("{{is_none null}}", "true"), |a| Ok(json!(a[0].is_null()))),
    def("is_empty", "value", "Whether it is empty: text, list, mapping or null.", (r#"{{is_empty ""}}"#, "true"), |a| {
        Ok(json!(match &a[0] {
            Value::Number(_) | Value::Bool(_) => false,
            other => !is_full(other),
        }))
    }),
    def("subset", "some all", "Whether the second list has all of the first.", ("{{subset (list 1) (list 1 2)}}", "true"), |a| {
        within(a, 0, 1)
    }),
    def("superset", "all some", "Whether the first list has all of the second.", ("{{superset (list 1 2) (list 1)}}", "true"), |a| {
        within(a, 1, 0)
    }),
    def("divisibleby", "number by", "Whether it divides without a rest.", ("{{divisibleby 6 3}}", "true"), |a| {
        match a.whole(1)? {
            0 => Err("nothing divides by 0".into()),
            n => Ok(json!(a.whole(0)?.wrapping_rem(n) == 0)),
        }
    }),
    def("even", "number", "Whether it is even.", ("{{even 4}}", "true"), |a| Ok(json!(a.whole(0)? & 1 == 0))),
    def("odd", "number", "Whether it is odd.", ("{{odd 4}}", "false"), |a| Ok(json!(a.whole(0)? & 1 == 1))),
    def("all", "list", "Whether every element is true.", ("{{all (list true true)}}", "true"), |a| {
        Ok(json!(a.list(0)?.iter().all(is_full)))
    }),
    def("any", "list", "Whether one element is true.", ("{{any (list false true)}}", "true"), |a| {
        Ok(json!(a.list(0)?.iter().any(is_full)))
    }),
    def("failed", "result", "Whether a registered result is a failure.", ("{{failed (dict failed=true)}}", "true"), |a| {
        state(a, "failed").map(Value::Bool)
    }),
    def("succeeded", "result", "Whether a registered result is no failure.", ("{{succeeded (dict rc=0)}}", "true"), |a| {
        Ok(json!(!state(a, "failed")?))
    }),
    def("changed", "result", "Whether a registered result changed something.", ("{{changed (dict changed=true)}}", "true"), |a| {
        state(a, "changed").map(Value::Bool)
    }),
    def("skipped", "result", "Whether a registered result was skipped.", ("{{skipped (dict skipped=true)}}", "true"), |a| {
        state(a, "skipped").map(Value::Bool)
    }),
];

fn default(a: &Args) -> Result<Value, Fail> {
    let also_empty = a.either(2, "bool").or(a.named("boolean")).map_or(Ok(false), as_truth)?;
    let keep = !a.is_missing(0) && (!also_empty || is_full(&a[0]));
    if !keep && a.is_missing(1) {
        return Err(Fail::Undefined("the fallback is undefined as well".into()));
    }
    Ok(if keep { a[0].clone() } else { a[1].clone() })
}

/// Whether one of the arguments is this. What stands behind it is not looked at: it may be undefined, or of another kind.
fn first_that_is(a: &Args, wanted: bool) -> Result<bool, Fail> {
    let mut found = false;
    for (i, v) in a.values.iter().enumerate() {
        if a.is_missing(i) {
            if found {
                continue;
            }
            return Err(Fail::Undefined(String::new()));
        }
        // All must be true or false, those behind it as well.
        found |= as_truth(v)? == wanted;
    }
    Ok(found)
}

fn has(place: &Value, item: &Value) -> Result<bool, Fail> {
    match place {
        Value::Array(l) => Ok(l.iter().any(|x| equal(x, item))),
        Value::Object(o) => Ok(o.contains_key(as_text(item).as_ref())),
        Value::String(s) => Ok(s.contains(as_text(item).as_ref())),
        other => Err(Fail::Wrong(format!("it looks into a list, a mapping or text, not into {}", kind_of(other)))),
    }
}

fn within(a: &Args, some: usize, all: usize) -> Result<Value, Fail> {
    let all = as_list(&a[all], all)?;
    Ok(json!(as_list(&a[some], some)?.iter().all(|x| all.iter().any(|y| equal(x, y)))))
}

fn state(a: &Args, field: &str) -> Result<bool, Fail> {
    let Value::Object(o) = &a[0] else {
        return Err(Fail::Wrong(format!("it takes a registered result, not {}", kind_of(&a[0]))));
    };
    o.get(field).map_or(Ok(false), as_truth)
}

/// A test on one value, as `select` and `selectattr` name them. A missing field is passed as none.
pub fn test(name: &str, value: Option<&Value>, with: &[&Value], outer: &Args) -> Result<bool, Fail> {
    let helper = match name {
        "defined" => return Ok(value.is_some()),
        "undefined" => return Ok(value.is_none()),
        "equalto" | "==" | "sameas" => "eq",
        "!=" => "ne",
        ">" | "greaterthan" => "gt",
        ">=" | "ge" => "gte",
        "<" | "lessthan" => "lt",
        "<=" | "le" => "lte",
        "string" => "is_string",
        "number" => "is_number",
        "integer" => "is_integer",
        "float" => "is_float",
        "boolean" => "is_boolean",
        "mapping" => "is_mapping",
        "sequence" | "iterable" if is_python() => {
            return Ok(matches!(value, Some(Value::String(_) | Value::Array(_) | Value::Object(_))));
        }
        "sequence" | "iterable" | "list" => "is_list",
        "none" => "is_none",
        "success" => "succeeded",
        "version_compare" => "version",
        "issubset" => "subset",
        "issuperset" => "superset",
        "truthy" => return Ok(value.is_some_and(is_full)),
        "falsy" => return Ok(!value.is_some_and(is_full)),
        "true" => return Ok(value == Some(&Value::Bool(true))),
        "false" => return Ok(value == Some(&Value::Bool(false))),
        other => other,
    };
    let Some(value) = value else {
        return Err("a field is missing in one of the elements; choose those that have it first with (selectattr list \"field\" \"defined\")".into());
    };
    let values = std::iter::once(value).chain(with.iter().copied()).collect();
    match super::call(helper, values, vec![], outer)? {
        Value::Bool(b) => Ok(b),
        other => Err(Fail::Wrong(format!("`{name}` is no test: it gives {} and not true or false", shown(&other)))),
    }
}

/// The value of a field; none where it is not there.
pub fn field<'v>(element: &'v Value, path: &Value) -> Option<&'v Value> {
    at_path(element, as_text(path).as_ref())
}
