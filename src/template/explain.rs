//! What both engines say of what is missing.

use super::{Lookup, Miss, TemplateError};
use crate::source::nearest;
use serde_json::Value;

pub fn undefined_variable(name: &str, lookup: &dyn Lookup) -> TemplateError {
    let t = TemplateError::new(format!("undefined variable `{name}`"));
    if name.starts_with('@') {
        return t.hint(format!("`{name}` exists inside `{{{{#each list}}}}…{{{{/each}}}}` only"));
    }
    if let Some(advice) = lookup.advice(name) {
        return t.hint(advice);
    }
    match nearest(name, lookup.known().iter().map(String::as_str)) {
        Some(n) => t.hint(format!("did you mean `{n}`?")),
        None => t.hint("set it in `vars:`, in group_vars, in a role's defaults or with -e"),
    }
}

/// Line and column of a byte of a text.
pub fn place_of(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().map_or(1, |l| l.chars().count() + 1))
}

/// What could be meant by a name that is not there.
fn instead(part: &str, names: &[&str]) -> String {
    match nearest(part, names.iter().copied()) {
        Some(n) => format!("did you mean `{n}`?"),
        None if names.is_empty() => "there is nothing in it".into(),
        None => {
            let some: Vec<&str> = names.iter().take(12).copied().collect();
            format!("there is: {}{}", some.join(", "), if names.len() > 12 { ", …" } else { "" })
        }
    }
}

/// The same of a value that exists only later.
pub fn missing_in_shape(path: &str, miss: Miss) -> TemplateError {
    let names: Vec<&str> = miss.names.iter().map(String::as_str).collect();
    TemplateError::new(format!("`{path}`: there is no `{}`", miss.key)).hint(match miss.hint {
        Some(h) => h,
        None => instead(&miss.key, &names),
    })
}

/// Says which part of a path is missing and what is there instead.
pub fn missing_field<'a>(path: &str, value: &Value, parts: impl Iterator<Item = &'a str>) -> TemplateError {
    let mut at = value;
    for part in parts {
        match at.get(part).or_else(|| part.parse::<usize>().ok().and_then(|i| at.get(i))) {
            Some(v) => at = v,
            None => {
                let t = TemplateError::new(format!("`{path}`: there is no `{part}`"));
                // `hostvars` holds only what is asked for: what else a host has is not known here.
                if let Some((host, _)) = path.strip_prefix("hostvars.").and_then(|r| r.split_once('.'))
                    && host != part
                {
                    if matches!(part, "facts" | "ansible_facts") || crate::probe::ansible_names::is_fact(part) {
                        return t.hint(
"nobody has told them: the host was out of reach, or has no part in this run (`hosts:` of the phases, \
                             `--limit`)",
                        );
                    }
                    return t.hint(format!("the host `{host}` has no such variable"));
                }
                let o = match at {
                    Value::Object(o) => o,
                    Value::Array(a) => {
                        return t.hint(match a.len() {
                            0 => "the list is empty".to_string(),
                            n => format!("the list has {n} element{}, counted from 0", if n == 1 { "" } else { "s" }),
                        });
                    }
                    Value::Null => return t.hint("the value before it is empty"),
                    _ => return t.hint("the value before it is no mapping: it has no fields"),
                };
                let names: Vec<&str> = o.keys().map(String::as_str).collect();
                return match (names.iter().any(|n| nearest(part, [*n]).is_some()), o.get("skipped")) {
                    (false, Some(Value::Bool(true))) => {
                        let before = path.strip_suffix(&format!(".{part}")).unwrap_or("it");
                        t.hint(format!(
                            "that task was skipped: ask `not (skipped {before})` first, or write `default {path} \"\"`"
                        ))
                    }
                    (false, _) if part == "skipped" && o.contains_key("changed") => {
                        t.hint("what was not skipped does not say so: ask `skipped …` or `not (skipped …)`")
                    }
                    _ => t.hint(instead(part, &names)),
                };
            }
        }
    }
    let what = match at {
        Value::Null => "empty",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
        _ => "one value",
    };
    TemplateError::new(format!("`{path}` is {what}, and cannot be used like this"))
        .hint("`{{#each}}` takes a list or a mapping, and the other blocks and helpers what their names say")
}

/// Whether a value has no such field.
pub fn lacks(value: &Value, keys: &[String]) -> bool {
    let mut at = value;
    keys.iter().any(|k| match at.get(k).or_else(|| k.parse::<usize>().ok().and_then(|i| at.get(i))) {
        Some(v) => {
            at = v;
            false
        }
        None => true,
    })
}
