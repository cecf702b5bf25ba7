//! Lists: picking, ordering, mixing.

use super::args::{as_list, as_text, as_whole, at_path, equal, is_full, kind_of, nth, order, shown};
use super::logic::{field, test};
use super::{Args, Def, Fail, def};
use crate::template::limits;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

pub const ALL: &[Def] = &[
    def(
        "list",
        "[…]",
        "A list of its arguments. One argument that is a list stays as it is.",
        (r#"{{list 1 "a"}}"#, r#"[1,"a"]"#),
        |a| {
            Ok(match (a.len(), &a[0]) {
                (1, Value::Array(_)) => a[0].clone(),
                _ => a.values.iter().copied().cloned().collect(),
            })
        },
    ),
    def("first", "list", "The first element (or character); undefined when there is none.", ("{{first (list 1 2)}}", "1"), |a| end(a, true)),
    def("last", "list", "The last element (or character); undefined when there is none.", ("{{last (list 1 2)}}", "2"), |a| end(a, false)),
    def(
        "get",
        "where key [otherwise]",
        "An element by its number or a field by its name or path; `otherwise` where there is none.",
        (r#"{{get (dict a=1) "b" 0}}"#, "0"),
        |a| {
            let found = match (&a[0], &a[1]) {
                (Value::Array(l), k) if k.is_number() => at(l, as_whole(k)?),
                (v, k) => at_path(v, as_text(k).as_ref()),
            };
            match (found, a.get(2)) {
                (Some(v), _) | (None, Some(v)) => Ok(v.clone()),
                (None, None) => Err(Fail::Undefined(format!("there is no {}", shown(&a[1])))),
            }
        },
    ),
    def(
        "extract",
        "key where [more]",
        "The field of a mapping or the element of a list; further keys lead deeper. For `map list \"extract\" hostvars \"ansible_host\"`.",
        (r#"{{extract "a" (dict a=1)}}"#, "1"),
        |a| {
            let mut keys = vec![&a[0]];
            match a.either(2, "morekeys") {
                Some(Value::Array(l)) => keys.extend(l),
                Some(Value::Null) | None => {}
                Some(one) => keys.push(one),
            }
            let mut v = &a[1];
            for k in keys {
                v = match (v, k) {
                    (Value::Array(_), Value::String(_)) if super::args::is_python() => None,
                    (Value::Array(l), k) => as_whole(k).ok().and_then(|i| at(l, i)),
                    (v, k) => v.get(as_text(k).as_ref()),
                }
                .ok_or_else(|| Fail::Undefined(format!("there is no {}", shown(k))))?;
            }
            Ok(v.clone())
        },
    )
    .named(&["morekeys"]),
    def("range", "[from] to [step]", "The whole numbers from one to before another.", ("{{range 1 4}}", "[1,2,3]"), |a| {
        let (from, to) = if a.len() == 1 { (0, a.whole(0)?) } else { (a.whole(0)?, a.whole(1)?) };
        let step = a.get(2).map_or(Ok(1), as_whole)?;
        if step == 0 {
            return Err("its step cannot be 0".into());
        }
        let count = if step > 0 { to.saturating_sub(from) } else { from.saturating_sub(to) };
        if count / step.saturating_abs() > 1_000_000 {
            return Err("it makes a million numbers at most".into());
        }
        let mut out = vec![];
        let mut n = from;
        while (step > 0 && n < to) || (step < 0 && n > to) {
            out.push(n);
            n = n.saturating_add(step);
        }
        Ok(json!(out))
    }),
    def(
        "map",
        "list [helper] […]",
        "Every element through a helper, or a field of each: attribute=\"a.b\", with default= where it is missing.",
        (r#"{{map (list (dict a=1) (dict a=2)) attribute="a"}}"#, "[1,2]"),
        map,
    )
    .named(&["*"]),
    def("select", "list [test] […]", "The elements that a test finds true: `select list \"match\" \"^a\"`.", (r#"{{select (list 1 2 3) "gt" 1}}"#, "[2,3]"), |a| {
        chosen(a, true)
    }),
    def("reject", "list [test] […]", "The elements that a test finds false.", (r#"{{reject (list 1 2 3) "gt" 1}}"#, "[1]"), |a| chosen(a, false)),
    def(
        "selectattr",
        "list field [test] […]",
        "The elements with a field that a test finds true: `selectattr users \"state\" \"eq\" \"present\"`; without a test: whose field is true.",
        (r#"{{selectattr (list (dict a=1) (dict a=2)) "a" "eq" 2}}"#, r#"[{"a":2}]"#),
        |a| chosen_by(a, true),
    ),
    def(
        "rejectattr",
        "list field [test] […]",
        "The elements with a field that a test finds false.",
        (r#"{{rejectattr (list (dict a=1) (dict a=2)) "a" "eq" 2}}"#, r#"[{"a":1}]"#),
        |a| chosen_by(a, false),
    ),
    def("unique", "list", "Every element once, the first of the same kept; attribute= compares a field.", ("{{unique (list 1 2 1)}}", "[1,2]"), |a| {
        let sensitive = a.flag("case_sensitive", true)?;
        let mut seen = HashSet::new();
        let mut out = vec![];
        for v in a.list(0)? {
            let by = by_field(v, a)?;
            let by = if sensitive { by.clone() } else { folded(by) };
            if seen.insert(sameness(&by)) {
                out.push(v.clone());
            }
        }
        Ok(Value::Array(out))
    })
    .named(&["attribute", "case_sensitive"]),
    def("difference", "list other", "The elements that the other list lacks.", ("{{difference (list 1 2 3) (list 2)}}", "[1,3]"), |a| {
        let other = all_of(a.list(1)?);
        once(a.list(0)?.iter().filter(|v| !other.contains(&sameness(v))))
    }),
    def("intersect", "list other", "The elements that both lists have.", ("{{intersect (list 1 2 3) (list 2 4)}}", "[2]"), |a| {
        let other = all_of(a.list(1)?);
        once(a.list(0)?.iter().filter(|v| other.contains(&sameness(v))))
    }),
    def("union", "list other", "The elements of both lists, each once.", ("{{union (list 1 2) (list 2 3)}}", "[1,2,3]"), |a| {
        once(a.list(0)?.iter().chain(a.list(1)?))
    }),
    def(
        "symmetric_difference",
        "list other",
        "The elements that only one of both lists has.",
        ("{{symmetric_difference (list 1 2) (list 2 3)}}", "[1,3]"),
        |a| {
            let (l, r) = (a.list(0)?, a.list(1)?);
            let (in_l, in_r) = (all_of(l), all_of(r));
            let lacks = |all: &HashSet<String>, v: &Value| !all.contains(&sameness(v));
            once(l.iter().filter(|v| lacks(&in_r, v)).chain(r.iter().filter(|v| lacks(&in_l, v))))
        },
    ),
    def("append", "list […]", "The list with further elements at its end.", ("{{append (list 1) 2}}", "[1,2]"), |a| {
        Ok(a.list(0)?.iter().chain(a.rest(1)).cloned().collect())
    }),
    def("flatten", "list [levels]", "Lists within the list dissolved, all of them or so many levels; null is left out unless skip_nulls=false.", ("{{flatten (list 1 (list 2 (list 3)))}}", "[1,2,3]"), |a| {
        let levels = a.either(1, "levels").map_or(Ok(-1), as_whole)?;
        let skip = a.flag("skip_nulls", true)?;
        let mut out = vec![];
        flatten(a.list(0)?, levels, skip, &mut out);
        Ok(Value::Array(out))
    })
    .named(&["levels", "skip_nulls"]),
    def("sort", "list", "In order; attribute= sorts by fields (several with commas), reverse=true turns it round, case_sensitive=true puts capitals first.", ("{{sort (list 3 1 2)}}", "[1,2,3]"), sort)
        .named(&["attribute", "reverse", "case_sensitive"]),
    def("reverse", "list", "From the last to the first, text too.", ("{{reverse (list 1 2)}}", "[2,1]"), |a| match &a[0] {
        Value::String(s) => Ok(json!(s.chars().rev().collect::<String>())),
        _ => Ok(a.list(0)?.iter().rev().cloned().collect()),
    }),
    def("zip", "list […]", "Lists of the first elements, of the second ones, and so on, as long as the shortest has some.", (r#"{{zip (list 1 2) (list "a" "b")}}"#, r#"[[1,"a"],[2,"b"]]"#), |a| {
        let all = lists(a)?;
        let n = all.iter().map(|l| l.len()).min().unwrap_or(0);
        Ok((0..n).map(|i| all.iter().map(|l| l[i].clone()).collect::<Value>()).collect())
    }),
    def("zip_longest", "list […]", "As `zip`, as long as the longest has some; fillvalue= stands in for what is missing.", ("{{zip_longest (list 1 2) (list 3) fillvalue=0}}", "[[1,3],[2,0]]"), |a| {
        let all = lists(a)?;
        let n = all.iter().map(|l| l.len()).max().unwrap_or(0);
        let fill = a.named("fillvalue").cloned().unwrap_or_default();
        Ok((0..n).map(|i| all.iter().map(|l| l.get(i).unwrap_or(&fill).clone()).collect::<Value>()).collect())
    })
    .named(&["fillvalue"]),
    def("product", "list […]", "Every element of one with every element of the others.", (r#"{{product (list 1 2) (list "a")}}"#, r#"[[1,"a"],[2,"a"]]"#), |a| {
        let mut rows: Vec<Vec<Value>> = vec![vec![]];
        for l in lists(a)? {
            bounded(rows.len().saturating_mul(l.len()))?;
            for v in l {
                limits::copies(v, rows.len())?;
            }
            for r in rows.iter().flatten() {
                limits::copies(r, l.len())?;
            }
            rows = rows.iter().flat_map(|r| l.iter().map(|v| r.iter().cloned().chain([v.clone()]).collect())).collect();
        }
        Ok(json!(rows))
    }),
    def("permutations", "list [size]", "Every order of so many of the elements.", ("{{permutations (list 1 2)}}", "[[1,2],[2,1]]"), |a| picks(a, true)),
    def("combinations", "list size", "Every choice of so many of the elements.", ("{{combinations (list 1 2 3) 2}}", "[[1,2],[1,3],[2,3]]"), |a| picks(a, false)),
    def("batch", "list size [fill]", "Lists of so many elements each; `fill` completes the last.", ("{{batch (list 1 2 3) 2}}", "[[1,2],[3]]"), |a| {
        let n = size(a, 1)?;
        bounded(n)?;
        Ok(a.list(0)?
            .chunks(n)
            .map(|c| {
                let mut c = c.to_vec();
                if let Some(f) = a.get(2).filter(|f| !f.is_null()) {
                    c.resize(n, f.clone());
                }
                Value::Array(c)
            })
            .collect())
    }),
    def("slice", "list parts [fill]", "So many lists of nearly the same length.", ("{{slice (list 1 2 3) 2}}", "[[1,2],[3]]"), |a| {
        let l = a.list(0)?;
        let n = size(a, 1)?;
        bounded(n)?;
        let (each, more) = (l.len() / n, l.len() % n);
        let mut from = 0;
        Ok((0..n)
            .map(|i| {
                let to = from + each + usize::from(i < more);
                let mut part = l[from..to].to_vec();
                from = to;
                if let Some(f) = a.get(2).filter(|f| !f.is_null() && i >= more && more > 0) {
                    part.push(f.clone());
                }
                Value::Array(part)
            })
            .collect())
    }),
    def("sublist", "list from [to]", "The elements from one place to before another, counted from 0; negative: from the end.", ("{{sublist (list 1 2 3) 1}}", "[2,3]"), |a| {
        let l = a.list(0)?;
        let place = |i: i64| if i < 0 { l.len().saturating_sub(i.unsigned_abs() as usize) } else { l.len().min(i as usize) };
        let (from, to) = (place(a.whole(1)?), a.get(2).map_or(Ok(l.len()), |v| as_whole(v).map(place))?);
        Ok(json!(l.get(from..to).unwrap_or_default()))
    }),
    def("index_of", "list item", "The item's place, counted from 0; -1 if it is not there.", (r#"{{index_of (list "a" "b") "b"}}"#, "1"), |a| {
        Ok(json!(a.list(0)?.iter().position(|v| equal(v, &a[1])).map_or(-1, |i| i as i64)))
    }),
    def("groupby", "list field", "Pairs of a field's value and the elements that have it, in the values' order.", (r#"{{groupby (list (dict a=1)) "a"}}"#, r#"[[1,[{"a":1}]]]"#), |a| {
        let path = a.either(1, "attribute").unwrap_or(&Value::Null);
        let sensitive = a.flag("case_sensitive", false)?;
        let caseless = super::args::is_python() && !sensitive;
        let mut groups: Vec<(Value, Vec<Value>)> = vec![];
        let mut places: HashMap<String, usize> = HashMap::new();
        for (i, v) in a.list(0)?.iter().enumerate() {
            let key = field(v, path)
                .or(a.named("default"))
                .ok_or_else(|| format!("element {i} has no {}; default= stands in for it", shown(path)))?;
            // Ansible does not tell capitals from small letters there.
            let same = if caseless { sameness(&folded(key)) } else { sameness(key) };
            match places.entry(same) {
                Entry::Occupied(e) => groups[*e.get()].1.push(v.clone()),
                Entry::Vacant(e) => {
                    e.insert(groups.len());
                    groups.push((key.clone(), vec![v.clone()]));
                }
            }
        }
        sort_by(&mut groups, |x, y| {
            if sensitive { order(&x.0, &y.0) } else { order(&folded(&x.0), &folded(&y.0)) }
        })?;
        Ok(groups.into_iter().map(|(k, m)| json!([k, m])).collect())
    })
    .named(&["attribute", "default", "case_sensitive"]),
    def(
        "subelements",
        "list field",
        "Pairs of each element and one of the list in its field; skip_missing=true passes over elements without it.",
        (r#"{{subelements (list (dict n=1 k=(list 2 3))) "k"}}"#, r#"[[{"n":1,"k":[2,3]},2],[{"n":1,"k":[2,3]},3]]"#),
        |a| {
            let skip = a.either(2, "skip_missing").map_or(Ok(false), super::args::as_truth)?;
            let path = &a[1];
            let elements: Vec<&Value> = match &a[0] {
                Value::Object(o) => o.values().collect(),
                _ => a.list(0)?.iter().collect(),
            };
            let mut out = vec![];
            for (i, v) in elements.into_iter().enumerate() {
                match field(v, path) {
                    Some(Value::Array(subs)) => {
                        limits::copies(v, subs.len())?;
                        out.extend(subs.iter().map(|s| json!([v, s])));
                    }
                    None if skip => {}
                    None => return Err(Fail::Wrong(format!("element {i} has no {}; skip_missing=true passes over it", shown(path)))),
                    Some(other) => {
                        return Err(Fail::Wrong(format!("{} of element {i} must be a list, not {}", shown(path), kind_of(other))));
                    }
                }
            }
            Ok(Value::Array(out))
        },
    )
    .named(&["skip_missing"]),
];

fn at(l: &[Value], i: i64) -> Option<&Value> {
    let n = if i < 0 { l.len().checked_sub(i.unsigned_abs() as usize)? } else { i as usize };
    l.get(n)
}

fn end(a: &Args, first: bool) -> Result<Value, Fail> {
    let none = |what: &str| Fail::Undefined(format!("{what} is empty"));
    match &a[0] {
        Value::String(s) => {
            let c = if first { s.chars().next() } else { s.chars().next_back() };
            c.map(|c| json!(c.to_string())).ok_or_else(|| none("the text"))
        }
        _ => {
            let l = a.list(0)?;
            if first { l.first() } else { l.last() }.cloned().ok_or_else(|| none("the list"))
        }
    }
}

fn lists<'a>(a: &Args<'a>) -> Result<Vec<&'a [Value]>, Fail> {
    (0..a.len()).map(|i| a.list(i)).collect()
}

/// The same text for values that are equal, and for no others: a list is not searched for every element of another.
fn sameness(v: &Value) -> String {
    fn write(v: &Value, out: &mut String) {
        match v {
            // Numbers are equal by their value.
            Value::Number(n) => out.push_str(&format!("{:?},", n.as_f64().unwrap_or(0.0) + 0.0)),
            Value::Array(a) => {
                out.push('[');
                a.iter().for_each(|v| write(v, out));
                out.push(']');
            }
            Value::Object(o) => {
                let mut all: Vec<_> = o.iter().collect();
                all.sort_by_key(|(k, _)| *k);
                out.push('{');
                for (k, v) in all {
                    out.push_str(&format!("{k:?}:"));
                    write(v, out);
                }
                out.push('}');
            }
            Value::Bool(b) if super::args::is_python() => out.push_str(&format!("{:?},", f64::from(u8::from(*b)))),
            Value::String(s) => out.push_str(&format!("{s:?},")),
            other => out.push_str(&format!("{other},")),
        }
    }
    let mut out = String::new();
    write(v, &mut out);
    out
}

fn all_of(l: &[Value]) -> HashSet<String> {
    l.iter().map(sameness).collect()
}

fn once<'v>(all: impl Iterator<Item = &'v Value>) -> Result<Value, Fail> {
    let mut seen = HashSet::new();
    Ok(all.filter(|v| seen.insert(sameness(v))).cloned().collect())
}

fn by_field<'v>(v: &'v Value, a: &Args<'v>) -> Result<&'v Value, Fail> {
    match a.named("attribute") {
        None => Ok(v),
        Some(p) => field(v, p).ok_or_else(|| Fail::Wrong(format!("an element has no {}", shown(p)))),
    }
}

fn flatten(l: &[Value], levels: i64, skip: bool, out: &mut Vec<Value>) {
    for v in l {
        match v {
            Value::Null if skip => {}
            Value::Array(inner) if levels != 0 => flatten(inner, levels.saturating_sub(1), skip, out),
            other => out.push(other.clone()),
        }
    }
}

fn bounded(n: usize) -> Result<(), Fail> {
    if n > 100_000 { Err("the result would have more than 100000 elements".into()) } else { Ok(()) }
}

fn size(a: &Args, i: usize) -> Result<usize, Fail> {
    match usize::try_from(a.whole(i)?) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(Fail::Wrong(format!("its {} argument must be 1 or more", nth(i)))),
    }
}

fn map(a: &Args) -> Result<Value, Fail> {
    let l = a.list(0)?;
    if let Some(p) = a.named("attribute") {
        let otherwise = a.named("default");
        return l
            .iter()
            .enumerate()
            .map(|(i, v)| {
                field(v, p)
                    .or(otherwise)
                    .cloned()
                    .ok_or_else(|| Fail::Wrong(format!("element {i} has no {}; default= stands in for it", shown(p))))
            })
            .collect();
    }
    let Some(helper) = a.get(1) else {
        return Err("it takes a helper's name, or attribute=\"…\" for a field of every element".into());
    };
    let helper = as_text(helper);
    l.iter()
        .map(|v| {
            limits::one(0)?;
            super::call(&helper, std::iter::once(v).chain(a.rest(2)).collect(), a.named.clone(), a)
        })
        .collect()
}

fn chosen(a: &Args, wanted: bool) -> Result<Value, Fail> {
    let name = a.get(1).map(as_text);
    let with = a.rest(2);
    let mut out = vec![];
    for v in a.list(0)? {
        let yes = match &name {
            None => is_full(v),
            Some(n) => test(n, Some(v), &with, a)?,
        };
        if yes == wanted {
            out.push(v.clone());
        }
    }
    Ok(Value::Array(out))
}

fn chosen_by(a: &Args, wanted: bool) -> Result<Value, Fail> {
    let name = a.get(2).map_or("truthy".into(), as_text);
    let with = a.rest(3);
    let mut out = vec![];
    for (i, v) in a.list(0)?.iter().enumerate() {
        let value = field(v, &a[1]);
        if value.is_none() && !matches!(name.as_ref(), "defined" | "undefined") {
            return Err(Fail::Wrong(format!(
                "element {i} has no {0}; choose those that have it first: (selectattr list {1} \"defined\")",
                shown(&a[1]),
                json!(a.text(1))
            )));
        }
        if test(&name, value, &with, a)? == wanted {
            out.push(v.clone());
        }
    }
    Ok(Value::Array(out))
}

/// Text as it is compared where capitals do not count.
fn folded(v: &Value) -> Value {
    v.as_str().map_or_else(|| v.clone(), |s| json!(s.to_lowercase()))
}

/// Sorts with an order that may fail.
fn sort_by<T>(l: &mut [T], by: impl Fn(&T, &T) -> Result<Ordering, Fail>) -> Result<(), Fail> {
    let mut wrong = None;
    l.sort_by(|x, y| {
        by(x, y).unwrap_or_else(|e| {
            wrong.get_or_insert(e);
            Ordering::Equal
        })
    });
    wrong.map_or(Ok(()), Err)
}

fn sort(a: &Args) -> Result<Value, Fail> {
    let reverse = a.flag("reverse", false)?;
    let sensitive = a.flag("case_sensitive", false)?;
    let paths: Vec<String> =
        a.named_text("attribute").map(|p| p.split(',').map(|s| s.trim().to_string()).collect()).unwrap_or_default();
    let l: Vec<Value> = match &a[0] {
        Value::Object(o) => o.keys().map(|k| json!(k)).collect(),
        v => as_list(v, 0)?.to_vec(),
    };
    let mut keyed = vec![];
    for v in l {
        let mut key = vec![];
        for p in &paths {
            key.push(at_path(&v, p).ok_or_else(|| format!("an element has no `{p}`"))?.clone());
        }
        if paths.is_empty() {
            key.push(v.clone());
        }
        keyed.push((if sensitive { key } else { key.iter().map(folded).collect() }, v));
    }
    sort_by(&mut keyed, |x, y| {
        for (x, y) in x.0.iter().zip(&y.0) {
            let o = match (x, y) {
                // As text, not as the numbers it may look like.
                (Value::String(x), Value::String(y)) => x.cmp(y),
                (x, y) => order(x, y)?,
            };
            if o != Ordering::Equal {
                return Ok(if reverse { o.reverse() } else { o });
            }
        }
        Ok(Ordering::Equal)
    })?;
    Ok(keyed.into_iter().map(|(_, v)| v).collect())
}

fn picks(a: &Args, ordered: bool) -> Result<Value, Fail> {
    let l = a.list(0)?;
    let n = a.get(1).map_or(Ok(l.len() as i64), as_whole)?;
    let n = usize::try_from(n).map_err(|_| "its size is 0 or more")?;
    let mut rows: Vec<Vec<usize>> = vec![vec![]];
    if n > l.len() {
        rows.clear();
    }
    for _ in 0..n {
        if rows.is_empty() {
            break;
        }
        bounded(rows.len().saturating_mul(l.len()))?;
        rows = rows
            .iter()
            .flat_map(|r| {
                let from = if ordered { 0 } else { r.last().map_or(0, |i| i + 1) };
                (from..l.len()).filter(|i| !r.contains(i)).map(|i| r.iter().copied().chain([i]).collect())
            })
            .collect();
    }
    for i in rows.iter().flatten() {
        limits::copies(&l[*i], 1)?;
    }
    Ok(rows.iter().map(|r| r.iter().map(|i| l[*i].clone()).collect::<Value>()).collect())
}
