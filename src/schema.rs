//! JSON Schema of a project's files, for editors: made of the loader's own table of keys and the modules' own types.

use crate::inventory::setting_names;
use crate::modules::{MODULES, ModuleDef};
use crate::playbook::vocabulary::{self, Shape, Word};
use crate::source::nearest;
use serde_json::{Map, Value, json};

/// The kinds of files there are schemas of, each with what it is.
pub const KINDS: &[(&str, &str)] = &[
    ("playbook", "a playbook"),
    ("tasks", "a file of tasks or handlers of a role"),
    ("role-meta", "meta/main.yml of a role"),
    ("argument-specs", "meta/argument_specs.yml of a role"),
    ("inventory", "an inventory in YAML"),
];

/// The schema of a kind of file.
pub fn of(kind: &str) -> Option<Value> {
    let (_, what) = KINDS.iter().find(|(k, _)| *k == kind)?;
    let root = match kind {
        "playbook" => {
            json!({"type": "array", "minItems": 1, "items": {"anyOf": [reference("phase"), reference("import")]}})
        }
        "tasks" => reference("tasks"),
        "role-meta" => reference("meta_file"),
        "argument-specs" => {
            json!({"type": "object", "additionalProperties": false, "properties": {"argument_specs": map_of("argument_spec")}})
        }
        _ => return Some(inventory()),
    };
    let mut out = Map::new();
    out.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    out.insert("title".into(), json!(format!("Windlass: {what}")));
    out.extend(root.as_object().cloned().unwrap_or_default());
    out.insert("$defs".into(), Value::Object(definitions()));
    Some(Value::Object(out))
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn map_of(name: &str) -> Value {
    json!({"type": ["object", "null"], "additionalProperties": reference(name)})
}

const TEMPLATE: &str = "\\{\\{";
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

fn scalar() -> Value {
    json!({"type": ["string", "number"]})
}

fn shape(s: Shape) -> Value {
    let digits = json!({"type": "string", "pattern": "^[0-9]+$"});
    let whole = json!({"type": "integer", "minimum": 0});
    let template = json!({"type": "string", "pattern": TEMPLATE});
    match s {
        Shape::Text => scalar(),
        Shape::Bool => json!({"enum": [true, false, "yes", "no", "on", "off"]}),
        Shape::BoolOrTemplate => json!({"anyOf": [shape(Shape::Bool), template]}),
        Shape::NumberOrTemplate => {
            json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "^[0-9.]+$"}, template]})
        }
        Shape::Whole => json!({"anyOf": [whole, digits]}),
        Shape::WholeOrTemplate => json!({"anyOf": [whole, digits, template]}),
        Shape::Expression => {
            let one = json!({"type": ["string", "number", "boolean"]});
            json!({"anyOf": [one, {"type": "array", "items": one}]})
        }
        Shape::Words => json!({"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": scalar()}]}),
        Shape::OneOrMore => json!({"anyOf": [scalar(), {"type": "array", "items": scalar()}]}),
        Shape::Name => json!({"type": "string", "pattern": NAME}),
        Shape::Vars => json!({"type": ["object", "null"], "propertyNames": {"pattern": NAME}}),
        Shape::Mapping => json!({"anyOf": [{"type": ["object", "null"]}, template]}),
        Shape::Any => json!({}),
        Shape::OneOf(words) => json!({"enum": words}),
        Shape::Ref(name) => reference(name),
        Shape::List(name) => json!({"type": ["array", "null"], "items": reference(name)}),
        Shape::Map(name) => map_of(name),
    }
}

fn word(w: &Word) -> Value {
    let mut s = shape(w.shape);
    s["description"] = json!(w.doc);
    s
}

fn properties<'a>(words: impl IntoIterator<Item = &'a Word>) -> Map<String, Value> {
    words.into_iter().map(|w| (w.name.to_string(), word(w))).collect()
}

/// A mapping with these keys and no others.
fn closed(properties: Map<String, Value>, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The keys a block has, and all that is taken in.
fn of_block(own: Map<String, Value>, required: &[&str]) -> Value {
    let shared = vocabulary::TASK.iter().filter(|w| crate::playbook::BLOCK_KEYS.contains(&w.name));
    let mut all = own;
    all.extend(properties(shared));
    closed(all, required)
}

fn definitions() -> Map<String, Value> {
    use vocabulary::*;
    let mut defs = Map::new();
    let mut add = |name: &str, schema: Value| defs.insert(name.to_string(), schema);
    add("phase", closed(properties(PHASE), &["hosts"]));
    add("import", closed(properties(IMPORT), &["import_playbook"]));
    let items = ["task", "block", "task_file", "inner_role"].map(reference);
    add("tasks", json!({"type": ["array", "null"], "items": {"anyOf": items}}));
    add("handlers", json!({"type": ["array", "null"], "items": reference("task")}));
    add("task", task());
    add("block", of_block(properties(BLOCK), &["block"]));
    let apply = json!({"type": ["object", "null"], "description": "Keys of a block for its tasks."});
    let of_file = Map::from_iter([("file".into(), json!({"type": "string"})), ("apply".into(), apply)]);
    let file = json!({
        "description": "A file of tasks, from this file's folder.",
        "anyOf": [{"type": "string"}, closed(of_file, &["file"])],
    });
    add("task_file", taken_in(&["include_tasks", "import_tasks"], &file));
    let mut role = closed(properties(INNER_ROLE), &[]);
    role["description"] = json!("A role in the middle of the tasks.");
    role["anyOf"] = json!([{"required": ["name"]}, {"required": ["role"]}]);
    add("inner_role", taken_in(&["include_role", "import_role"], &role));
    let used = properties(ROLE_USE);
    add(
        "role_use",
        json!({"anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": used,
                // Other keys are the role's parameters, but for slips.
                "propertyNames": {"not": {"enum": slips(ROLE_USE_KEYS)}},
                "anyOf": [{"required": ["role"]}, {"required": ["name"]}],
            },
        ]}),
    );
    add("meta_file", closed(properties(META), &[]));
    let mut own = properties(ARGUMENT);
    own.remove("name");
    add("argument", json!({"type": ["object", "null"], "properties": own, "additionalProperties": false}));
    let named = closed(properties(ARGUMENT), &["name"]);
    add("arguments", json!({"anyOf": [{"type": ["array", "null"], "items": named}, map_of("argument")]}));
    add("argument_spec", closed(properties(SPEC), &[]));
    add("budget", closed(properties(BUDGET), &["hosts"]));
    add("prompt", closed(properties(PROMPT), &["name"]));
    add("loop_control", closed(properties(LOOP_CONTROL), &[]));
    add("diagnosis", closed(properties(DIAGNOSIS), &["match", "say"]));
    add("loop", json!({"anyOf": [{"type": "array"}, {"type": "string", "pattern": TEMPLATE}]}));
    add("args", json!({"type": "object"}));
    add("list", json!({"type": ["array", "null"]}));
    add("text_or_list", json!({"anyOf": [scalar(), {"type": "array", "items": scalar()}]}));
    let template = json!({"type": "string", "pattern": TEMPLATE});
    let share =
        json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "^[0-9.]+%?$"}, template]});
    add("share", share);
    let digits = json!({"type": "string", "pattern": "^[0-9.]*[1-9][0-9.]*%?$"});
    let size = json!({"anyOf": [{"type": "integer", "minimum": 1}, digits, template]});
    add("serial", json!({"anyOf": [size, {"type": "array", "items": size}]}));
    let one = |key: &str, second: &str, kind: Value| {
        let both = Map::from_iter([(key.to_string(), scalar()), (second.to_string(), kind)]);
        json!({"anyOf": [scalar(), closed(both, &[key])]})
    };
    let rows = |one: Value| json!({"anyOf": [one, {"type": ["array", "null"], "items": one}]});
    add("phase_needs", rows(one("phase", "scope", json!({"enum": ["host", "all"]}))));
    add("task_needs", rows(one("task", "hosts", scalar())));
    for m in MODULES {
        add(&format!("module_{}", m.name), module(m));
    }
    defs
}

/// An entry that takes something in, under either of two keys.
fn taken_in(keys: &[&str], what: &Value) -> Value {
    let bare = keys.iter().map(|k| k.to_string());
    let full = keys.iter().map(|k| format!("ansible.builtin.{k}"));
    let names: Vec<String> = bare.chain(full).collect();
    let looped = vocabulary::TASK.iter().filter(|w| ["loop", "loop_control"].contains(&w.name));
    let mut own = properties(looped);
    own.extend(names.iter().map(|k| (k.clone(), what.clone())));
    let mut out = of_block(own, &[]);
    out["anyOf"] = names.iter().map(|k| json!({"required": [k]})).collect();
    out
}

/// What a hasty hand makes of these keys, as far as the loader sees it for one of them: a letter left out, doubled, or in
/// its neighbour's place.
fn slips(keys: &[&str]) -> Vec<String> {
    let mut all = vec![];
    for key in keys {
        let letters: Vec<char> = key.chars().collect();
        for (i, c) in letters.iter().enumerate() {
            let (mut without, mut doubled, mut swapped) = (letters.clone(), letters.clone(), letters.clone());
            without.remove(i);
            doubled.insert(i, *c);
            if i > 0 {
                swapped.swap(i - 1, i);
            }
            all.extend([without, doubled, swapped].map(String::from_iter));
        }
    }
    all.retain(|slip| !keys.contains(&slip.as_str()) && nearest(slip, keys.iter().copied()).is_some());
    all.sort();
    all.dedup();
    all
}

fn task() -> Value {
    let mut all = properties(vocabulary::TASK);
    let mut patterns = Map::new();
    let mut names: Vec<String> = vec![];
    for m in MODULES {
        let target = reference(&format!("module_{}", m.name));
        for name in std::iter::once(&m.name).chain(m.aliases) {
            all.insert(name.to_string(), target.clone());
            names.extend([name.to_string(), format!("ansible.builtin.{name}")]);
            patterns
                .insert(format!("^(ansible\\.(builtin|posix|legacy)|community\\.general)\\.{name}$"), target.clone());
        }
    }
    // One of them, or one under the name of another collection.
    let mut one: Vec<Value> = names.iter().map(|n| json!({"required": [n]})).collect();
    one.push(json!({"propertyNames": {"not": {"enum": names}}}));
    json!({
        "type": "object",
        "oneOf": one,
        "properties": all,
        "patternProperties": patterns,
        "additionalProperties": false,
        // What is no key of a task is a module: there must be one.
        "not": {"propertyNames": {"enum": vocabulary::TASK_KEYS}},
    })
}

/// What stands behind a module's name.
fn module(m: &ModuleDef) -> Value {
    let schema = (m.schema)();
    let about = schema["description"].clone();
    if m.takes_any_name() {
        return json!({"type": "object", "description": about});
    }
    let mut all = Map::new();
    for (name, p) in schema["properties"].as_object().into_iter().flatten() {
        let loose = with_templates(inlined(p, &schema, 0), m.expressions.contains(&name.as_str()));
        for alias in p["x-aliases"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut other = loose.clone();
            other["description"] = json!(format!("The same as `{name}`."));
            all.insert(alias.to_string(), other);
        }
        all.insert(name.clone(), loose);
    }
    let names = |r: &str| {
        let aliases = schema["properties"][r]["x-aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
        std::iter::once(r).chain(aliases).map(|n| json!({"required": [n]})).collect::<Vec<_>>()
    };
    let required: Vec<Value> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|r| json!({"anyOf": names(r)}))
        .collect();
    let mut mapping = closed(all, &[]);
    let optional = required.is_empty();
    if !optional {
        mapping["allOf"] = Value::Array(required);
    }
    let mut ways = vec![];
    // In its short form a parameter with choices has them as well.
    ways.extend(m.free_form.map(|f| match &mapping["properties"][f] {
        p if p["anyOf"][0]["oneOf"].is_array() => p.clone(),
        _ => json!({"type": ["string", "number"]}),
    }));
    ways.insert(0, mapping);
    if optional {
        ways.push(json!({"type": "null"}));
    }
    json!({"description": about, "anyOf": ways})
}

/// A schema with what it refers to in its place.
fn inlined(s: &Value, root: &Value, depth: usize) -> Value {
    match s {
        Value::Object(o) => {
            let target = o.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')));
            let mut out = match target {
                Some(t) if depth < 16 => inlined(t, root, depth + 1).as_object().cloned().unwrap_or_default(),
                _ => Map::new(),
            };
            let own =
                o.iter().filter(|(k, _)| !matches!(k.as_str(), "$ref" | "format" | "x-aliases" | "x-octal" | "x-any"));
            out.extend(own.map(|(k, v)| (k.clone(), inlined(v, root, depth))));
            if o.contains_key("x-any") {
                out.remove("type");
            }
            if o.contains_key("x-octal") {
                let mut types = match out.remove("type") {
                    Some(Value::Array(a)) => a,
                    other => other.into_iter().collect(),
                };
                types.push(json!("integer"));
                out.insert("type".into(), Value::Array(types));
            }
            Value::Object(out)
        }
        Value::Array(a) => a.iter().map(|v| inlined(v, root, depth)).collect(),
        other => other.clone(),
    }
}

/// A parameter may be a template in place of a value of its type.
fn with_templates(mut s: Value, expression: bool) -> Value {
    let Some(o) = s.as_object_mut() else { return s };
    let about = o.remove("description");
    let default = o.remove("default");
    let mut ways = vec![s, json!({"type": "string", "pattern": TEMPLATE})];
    if expression {
        ways.push(shape(Shape::Expression));
    }
    let mut out = json!({"anyOf": ways});
    for (key, v) in [("description", about), ("default", default)] {
        if let Some(v) = v {
            out[key] = v;
        }
    }
    out
}

fn inventory() -> Value {
    let known: Map<String, Value> = setting_names().map(|n| (n.to_string(), json!({}))).collect();
    let vars = json!({
        "type": ["object", "null"],
        "properties": known,
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    });
    let hosts = json!({
        "description": "Hosts by name (`node[1:3]` is three), each with its variables.",
        "anyOf": [{"type": ["object", "null"], "additionalProperties": reference("vars")}, {"type": "string"}],
    });
    let children = json!({
        "description": "Groups inside this one.",
        "anyOf": [{"type": ["object", "null"], "additionalProperties": reference("group")}, {"type": "string"}],
    });
    let group = json!({
        "type": ["object", "null"],
        "properties": {"hosts": hosts, "children": children, "vars": reference("vars")},
        "additionalProperties": false,
    });
    let path = |about: &str| json!({"type": "string", "description": format!("{about}: an attribute, as `name` or `network.0.ip`.")});
    let names = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]});
    let rule = json!({
        "type": "object",
        "properties": {
            "type": {"type": "string", "description": "The type of the resources that are hosts."},
            "where": {"type": "object", "description": "Only those whose attributes have these values."},
            "name": path("The host's name; without it, the attribute `name`"),
            "address": path("What becomes `ansible_host`"),
            "groups": names,
            "group_by": names,
            "vars": {"type": "object", "additionalProperties": path("The variable's value")},
        },
        "required": ["type", "address"],
        "additionalProperties": false,
    });
    let terraform = json!({
        "type": "object",
        "description": "Hosts out of a Terraform state.",
        "properties": {
            "state": {"type": "string", "description": "A *.tfstate, or what `terraform show -json` prints."},
            "hosts": {"type": "array", "items": rule},
        },
        "required": ["state"],
        "additionalProperties": false,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Windlass: an inventory in YAML",
        "type": ["object", "null"],
        "properties": {"terraform": {"anyOf": [reference("terraform"), reference("group")]}},
        "additionalProperties": reference("group"),
        "$defs": {"group": group, "vars": vars, "terraform": terraform},
    })
}
