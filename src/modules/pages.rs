//! What `windlass modules` prints, out of the modules' own types.

use super::{MODULES, ModuleDef, find, names};
use crate::source::nearest;
use serde_json::{Map, Value};

/// A parameter as its page and the editor's schema tell of it.
#[derive(Debug, PartialEq)]
pub struct Param {
    pub name: String,
    pub aliases: Vec<String>,
    pub description: String,
    /// `list`, `text`, …
    pub kind: String,
    pub required: bool,
    pub default: Option<Value>,
    pub choices: Vec<Value>,
}

/// The column at which lines of a page are broken.
const WIDTH: usize = 100;

/// All modules, a line each.
pub fn list() -> String {
    let mut all: Vec<&ModuleDef> = MODULES.iter().collect();
    all.sort_by_key(|m| m.name);
    let width = all.iter().map(|m| m.name.len()).max().unwrap_or(0);
    let mut out =
        String::from("Modules: `windlass modules NAME` has parameters, defaults, results and an example.\n\n");
    for m in all {
        let text = first_sentence(&description(m));
        let also = if m.aliases.is_empty() { String::new() } else { format!(" (also {})", m.aliases.join(", ")) };
        out.push_str(&format!("  {:width$}  {text}{also}\n", m.name));
    }
    out
}

/// One module's page; the error names the one that may be meant.
pub fn page(name: &str) -> Result<String, String> {
    match find(name) {
        Some(m) => Ok(describe(m)),
        None => Err(match nearest(name, names()) {
            Some(n) => format!("did you mean `{n}`?"),
            None => "`windlass modules` lists them all".into(),
        }),
    }
}

fn describe(m: &ModuleDef) -> String {
    let mut out = m.name.to_string();
    if !m.aliases.is_empty() {
        out.push_str(&format!(" (also {})", m.aliases.join(", ")));
    }
    out.push_str("\n\n");
    let text = description(m);
    let (registers, about): (Vec<&str>, Vec<&str>) =
        text.split("\n\n").partition(|p| p.starts_with("Registers") && m.returns.is_empty());
    for p in &about {
        wrap(p, 2, &mut out);
        out.push('\n');
    }
    let params = params(m);
    out.push_str("Parameters\n");
    if params.is_empty() {
        out.push_str(if m.takes_any_name() { "  Any names.\n" } else { "  None.\n" });
    }
    for p in &params {
        let also = if p.aliases.is_empty() { String::new() } else { format!(", also {}", p.aliases.join(", ")) };
        let must = if p.required { ", required" } else { "" };
        out.push_str(&format!("  {} ({}{must}{also})\n", p.name, p.kind));
        let mut text = without_also(&p.description);
        if !p.choices.is_empty() {
            text.push_str(&format!(" One of: {}.", words(&p.choices)));
        }
        if let Some(d) = p.default.as_ref().filter(|d| !is_nothing(d)) {
            text.push_str(&format!(" Default: {}.", word(d)));
        }
        wrap(text.trim(), 6, &mut out);
    }
    if let Some(f) = m.free_form {
        out.push_str(&format!("\n  `{}: some text` stands for `{f}`.\n", m.name));
    }
    out.push_str("\nRegisters\n");
    for p in &registers {
        let p = p.strip_prefix("Registers ").unwrap_or(p);
        let mut first = p.chars();
        let capital = first.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
        wrap(&(capital + first.as_str()), 2, &mut out);
    }
    if !m.returns.is_empty() {
        let width = m.returns.iter().map(|(n, _)| n.len()).max().unwrap_or(0);
        for (name, doc) in m.returns {
            let mut text = String::new();
            wrap(doc, width + 4, &mut text);
            out.push_str(&format!("  {name:width$}  {}", text.trim_start()));
        }
    }
    out.push_str("  Besides: changed, failed, skipped; msg where there is something to say.\n");
    if !m.example.is_empty() {
        out.push_str("\nExample\n");
        for l in m.example.lines() {
            out.push_str(format!("  {l}").trim_end());
            out.push('\n');
        }
    }
    out
}

/// The names of the fields that a module says it registers.
pub fn registers(m: &ModuleDef) -> Vec<String> {
    if !m.returns.is_empty() {
        return m.returns.iter().flat_map(|(n, _)| n.split(", ")).map(str::to_string).collect();
    }
    let text = description(m);
    let Some(at) = text.find("Registers ") else { return vec![] };
    // Every second piece stands between backticks.
    text[at..].split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// The module's own description.
pub fn description(m: &ModuleDef) -> String {
    (m.schema)()["description"].as_str().unwrap_or_default().to_string()
}

/// The parameters, in the order in which the module has them.
pub fn params(m: &ModuleDef) -> Vec<Param> {
    let schema = (m.schema)();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(properties) = schema["properties"].as_object() else { return vec![] };
    let one = |(name, p): (&String, &Value)| {
        let of = resolved(p, &schema);
        let text = p["description"].as_str().or(of.get("description").and_then(Value::as_str)).unwrap_or_default();
        Param {
            name: name.clone(),
            aliases: p["x-aliases"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
            description: text.split_whitespace().collect::<Vec<_>>().join(" "),
            kind: kind(&of),
            required: required.contains(&name.as_str()),
            default: p.get("default").cloned(),
            choices: choices(&of),
        }
    };
    properties.iter().map(one).collect()
}

/// A parameter's schema with what it refers to, and without the null that stands for "not given".
fn resolved(p: &Value, root: &Value) -> Map<String, Value> {
    let mut own = p.as_object().cloned().unwrap_or_default();
    if let Some(target) = own.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')))
    {
        let mut all = target.as_object().cloned().unwrap_or_default();
        own.remove("$ref");
        all.extend(own);
        return all;
    }
    if let Some(Value::Array(any)) = own.get("anyOf").cloned() {
        let real: Vec<&Value> = any.iter().filter(|a| a["type"] != "null").collect();
        if let [one] = real.as_slice() {
            own.remove("anyOf");
            let mut all = resolved(one, root);
            all.extend(own);
            return all;
        }
    }
    own
}

fn choices(of: &Map<String, Value>) -> Vec<Value> {
    if let Some(Value::Array(e)) = of.get("enum") {
        return e.iter().filter(|v| !v.is_null()).cloned().collect();
    }
    let consts = of.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    consts
        .flat_map(|c| match c.get("enum").and_then(Value::as_array) {
            Some(e) => e.clone(),
            None => c.get("const").cloned().into_iter().collect(),
        })
        .collect()
}

/// The type in a reader's words.
fn kind(of: &Map<String, Value>) -> String {
    let types: Vec<&str> = match of.get("type") {
        Some(Value::String(s)) => vec![s],
        Some(Value::Array(a)) => a.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => vec![],
    };
    let has = |t: &str| types.contains(&t);
    if has("array") {
        "list"
    } else if has("object") {
        "mapping"
    } else if has("boolean") && !has("number") {
        "bool"
    } else if has("integer") {
        "whole number"
    } else if has("number") && !has("string") {
        "number"
    } else if has("string") || !choices(of).is_empty() {
        "text"
    } else {
        "any"
    }
    .into()
}

fn word(v: &Value) -> String {
    match v {
        Value::String(s) if s.is_empty() => "\"\"".into(),
        Value::Array(a) => words(a),
        other => crate::template::text(other).replace("True", "true").replace("False", "false"),
    }
}

fn words(all: &[Value]) -> String {
    all.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn is_nothing(v: &Value) -> bool {
    v.is_null() || v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(Map::is_empty)
}

/// Other names stand beside the name already.
fn without_also(text: &str) -> String {
    match text.rfind("Also `") {
        Some(i) if i > 0 && !text[i..].contains(". ") => text[..i].trim_end().to_string(),
        _ => text.to_string(),
    }
}

fn first_sentence(text: &str) -> String {
    let text = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let end = text.match_indices(". ").map(|(i, _)| i).find(|i| text[i + 2..].starts_with(char::is_uppercase));
    let sentence = end.map_or(text.as_str(), |i| &text[..i]);
    // What comes behind a colon in a long one is for the page.
    let sentence = match sentence.find(": ") {
        Some(i) if sentence.len() > 90 => &sentence[..i],
        _ => sentence,
    };
    sentence.trim_end_matches('.').to_string()
}

/// Text in lines of a page's width, indented.
pub fn wrap(text: &str, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    let mut line = String::new();
    for w in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + w.chars().count() > WIDTH {
            out.push_str(&format!("{margin}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(w);
    }
    if !line.is_empty() {
        out.push_str(&format!("{margin}{line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_and_every_parameter_says_what_it_is() {
        let mut missing = vec![];
        for m in MODULES {
            if description(m).is_empty() {
                missing.push(m.name.to_string());
            }
            let without = params(m).into_iter().filter(|p| p.description.is_empty());
            missing.extend(without.map(|p| format!("{}: {}", m.name, p.name)));
        }
        assert!(missing.is_empty(), "no doc comment:\n{}", missing.join("\n"));
    }

    /// The words of other names in a description are those the schema knows, so that the editor knows them too.
    #[test]
    fn other_names_are_all_known() {
        for m in MODULES {
            for p in params(m) {
                for alias in &p.aliases {
                    assert!(m.refuses(alias).is_none(), "{}: {alias}", m.name);
                }
            }
        }
    }

    #[test]
    fn examples_are_playbooks_that_pass_the_check() {
        let mut wrong = vec![];
        for m in MODULES.iter().filter(|m| !m.example.is_empty()) {
            let dir = tempfile::tempdir().unwrap();
            let tasks: String = m.example.lines().map(|l| format!("    {l}\n")).collect();
            let path = dir.path().join("site.yml");
            let handlers = "  handlers:\n    - {name: restart it, debug: {msg: x}}\n";
            std::fs::write(&path, format!("- hosts: all\n  tasks:\n{tasks}{handlers}")).unwrap();
            let templates = crate::template::Templates::new();
            let (book, found) = crate::playbook::load(&path, &templates, &crate::vars::NoSecrets);
            if found.has_errors() {
                wrong.push(format!("{}\n{}", m.name, found.render(false)));
            }
            let uses = |t: &crate::playbook::TaskItem| matches!(t, crate::playbook::TaskItem::Task(t) if t.module.name == m.name);
            if !book.is_some_and(|b| b.phases[0].tasks.iter().any(uses)) {
                wrong.push(format!("{}: its example does not use it", m.name));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_a_page_says_of_a_parameter() {
        let of =
            |module: &str, param: &str| params(find(module).unwrap()).into_iter().find(|p| p.name == param).unwrap();
        let state = of("apt", "state");
        assert!(state.choices.contains(&"latest".into()), "{state:?}");
        assert_eq!(state.default, Some("present".into()), "{state:?}");
        assert_eq!(of("apt", "name").aliases, ["pkg", "package"]);
        assert_eq!((of("apt", "name").kind, of("apt", "purge").kind), ("list".into(), "bool".into()));
        assert!(of("stat", "path").required && !of("stat", "follow").required);
        assert_eq!(of("cron", "minute").default, Some("*".into()));
    }
}
