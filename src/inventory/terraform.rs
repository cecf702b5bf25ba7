//! Hosts out of a Terraform state: the resources of its `ansible` provider, and others as a mapping says.

use super::build::Builder;
use crate::source::{Diagnostic, Entry, Kind, Node, Source, Span, nearest};
use crate::vars::{Var, Vars, is_name};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// A resource of a state.
struct Resource {
    address: String,
    kind: String,
    attributes: Map<String, Value>,
    /// Attributes the state calls sensitive.
    sensitive: Vec<String>,
}

/// Whether a document is a state, or what `terraform show -json` prints.
pub fn is_state(root: &Value) -> bool {
    let has = |k: &str| root.get(k).is_some();
    has("format_version") || has("terraform_version") && (has("resources") || has("version"))
}

/// Reads the hosts and groups that the `ansible` provider made.
pub fn read(source: &Arc<Source>, root: &Value, b: &mut Builder) {
    let Some(all) = resources(source, root, b) else { return };
    let made = of_provider(&all, source, b);
    if made == 0 {
        let d =
            Diagnostic::error("no host in this state: it has no resource `ansible_host`").at(&Span::new(source, 0..0));
        b.found.push(d.hint("say in a YAML inventory which resources are hosts: terraform: {state: FILE, hosts: [{type: TYPE, address: ATTRIBUTE}]}"));
    }
}

fn resources(source: &Arc<Source>, root: &Value, b: &mut Builder) -> Option<Vec<Resource>> {
    let mut all = vec![];
    if root.get("format_version").is_some() {
        module(&root["values"]["root_module"], &mut all);
    } else if root["version"] == 4 {
        for r in root["resources"].as_array().into_iter().flatten().filter(|r| r["mode"] != "data") {
            let text = |k: &str| r[k].as_str().unwrap_or_default().to_string();
            for i in r["instances"].as_array().into_iter().flatten() {
                let index = match &i["index_key"] {
                    Value::Null => String::new(),
                    k => format!("[{k}]"),
                };
                let sensitive = i["sensitive_attributes"].as_array().into_iter().flatten();
                all.push(Resource {
                    address: format!("{}.{}{index}", text("type"), text("name")),
                    kind: text("type"),
                    attributes: i["attributes"].as_object().cloned().unwrap_or_default(),
                    sensitive: sensitive.filter_map(|p| Some(p[0]["value"].as_str()?.to_string())).collect(),
                });
            }
        }
    } else {
        let d =
            Diagnostic::error(format!("a Terraform state of version {}", root["version"])).at(&Span::new(source, 0..0));
        b.found.push(d.hint("version 4 is known, and what `terraform show -json` prints"));
        return None;
    }
    Some(all)
}

fn module(m: &Value, all: &mut Vec<Resource>) {
    for r in m["resources"].as_array().into_iter().flatten().filter(|r| r["mode"] != "data") {
        let text = |k: &str| r[k].as_str().unwrap_or_default().to_string();
        let sensitive = r["sensitive_values"].as_object().into_iter().flatten();
        all.push(Resource {
            address: text("address"),
            kind: text("type"),
            attributes: r["values"].as_object().cloned().unwrap_or_default(),
            sensitive: sensitive.filter(|(_, v)| **v == true).map(|(k, _)| k.clone()).collect(),
        });
    }
    m["child_modules"].as_array().into_iter().flatten().for_each(|c| module(c, all));
}

/// `ansible_host` and `ansible_group`; how many hosts there were.
fn of_provider(all: &[Resource], source: &Arc<Source>, b: &mut Builder) -> usize {
    let words = |v: Option<&Value>| -> Vec<String> {
        v.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
    };
    let mut hosts = 0;
    for r in all {
        let Some(name) = r.attributes.get("name").and_then(Value::as_str) else { continue };
        let span = place(source, name);
        let of = |name: &str| r.attributes.get(name);
        let vars: Vars = of("variables")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(k, _)| is_name(k))
            .map(|(k, v)| (k.clone(), Var { value: v.clone(), span: span.clone() }))
            .collect();
        match r.kind.as_str() {
            "ansible_host" => {
                hosts += 1;
                let groups = words(of("groups"));
                for g in &groups {
                    if b.declare_group(g, &span) {
                        b.add_hosts(g, name, &span, Vars::new());
                    }
                }
                b.add_hosts(groups.first().map_or("ungrouped", String::as_str), name, &span, vars);
            }
            "ansible_group" if b.declare_group(name, &span) => {
                for c in words(of("children")) {
                    if b.declare_group(&c, &span) {
                        b.add_child(name, &c, &span);
                    }
                }
                b.set_group_vars(name, vars);
            }
            _ => {}
        }
    }
    hosts
}

/// Where a name stands first; the file's beginning where it does not.
fn place(source: &Arc<Source>, name: &str) -> Span {
    let quoted = format!("\"{name}\"");
    let at = source.text.find(&quoted).map_or(0..0, |i| i..i + quoted.len());
    Span::new(source, at)
}

const KEYS: &[&str] = &["state", "hosts"];
const HOST_KEYS: &[&str] = &["type", "where", "name", "address", "groups", "group_by", "vars"];

/// `terraform:` of an inventory in YAML.
pub fn mapped(e: &Entry, b: &mut Builder) {
    let wrong = |at: &Span, message: String, hint: &str| Diagnostic::error(message).at(at).hint(hint);
    let shape = "terraform: {state: terraform.tfstate, hosts: [{type: TYPE, address: ATTRIBUTE}]}";
    let Some(entries) = e.value.as_map() else {
        return b.found.push(wrong(&e.value.span, format!("`terraform` is a mapping, not {}", e.value.what()), shape));
    };
    unknown(entries, KEYS, "`terraform`", b);
    let Some(file) = e.value.get("state") else {
        return b.found.push(wrong(&e.key_span, "`terraform` names no state".into(), shape));
    };
    let Some(name) = file.as_str() else {
        return b.found.push(wrong(&file.span, format!("`state` is a file's name, not {}", file.what()), shape));
    };
    let here = e.key_span.source.path.parent().unwrap_or(Path::new("."));
    let read = Source::read(&here.join(name)).and_then(|s| match serde_json::from_str::<Value>(&s.text) {
        Ok(v) => Ok((s, v)),
        Err(e) => {
            let at = s.offset(e.line().max(1), e.column().max(1));
            Err(Diagnostic::error("this is no JSON")
                .at(&Span::new(&s, at..at))
                .hint("name a *.tfstate, or what `terraform show -json` prints"))
        }
    });
    let (source, root) = match read {
        Ok(r) => r,
        Err(d) => {
            // What is said of a file that is not there is about the folder we are in.
            let d = match d.span {
                Some(_) => d,
                None => d.at(&file.span).hint("the path is taken from the folder of this inventory"),
            };
            return b.found.push(d);
        }
    };
    let Some(all) = resources(&source, &root, b) else { return };
    of_provider(&all, &source, b);
    let Some(items) = e.value.get("hosts") else { return };
    let Some(items) = items.as_seq() else {
        return b.found.push(wrong(&items.span, format!("`hosts` is a list, not {}", items.what()), shape));
    };
    for n in items {
        rule(n, &all, b);
    }
}

fn unknown(entries: &[Entry], known: &[&str], what: &str, b: &mut Builder) {
    for e in entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
        let d = Diagnostic::error(format!("unknown key `{}` in {what}", e.key)).at(&e.key_span);
        b.found.push(match nearest(&e.key, known.iter().copied()) {
            Some(n) => d.hint(format!("did you mean `{n}`?")),
            None => d.hint(format!("it has: {}", known.join(", "))),
        });
    }
}

/// One kind of resource that is a host.
fn rule(n: &Node, all: &[Resource], b: &mut Builder) {
    let shape = "write {type: TYPE, address: ATTRIBUTE, groups: [GROUP]}";
    let Some(entries) = n.as_map() else {
        let d = Diagnostic::error(format!("an entry of `hosts` is a mapping, not {}", n.what())).at(&n.span);
        return b.found.push(d.hint(shape));
    };
    unknown(entries, HOST_KEYS, "an entry of `hosts`", b);
    let (Some(kind), Some(address)) = (n.get("type"), n.get("address")) else {
        let d = Diagnostic::error(
            "an entry of `hosts` says which `type` of resource, and which attribute is its `address`",
        );
        return b.found.push(d.at(&n.span).hint(shape));
    };
    let of_kind: Vec<&Resource> = all.iter().filter(|r| Some(r.kind.as_str()) == kind.as_str()).collect();
    if of_kind.is_empty() {
        let wanted = kind.as_str().unwrap_or_default();
        let d = Diagnostic::warning(format!("the state has no resource of the type `{wanted}`")).at(&kind.span);
        return b.found.push(match nearest(wanted, all.iter().map(|r| r.kind.as_str())) {
            Some(near) => d.hint(format!("did you mean `{near}`?")),
            None => d.hint("`terraform state list` shows what there is"),
        });
    }
    let list = |key: &str| -> Vec<&Node> {
        n.get(key).map(|v| v.as_seq().map_or_else(|| vec![v], |s| s.iter().collect())).unwrap_or_default()
    };
    'each: for r in of_kind {
        for w in n.get("where").and_then(Node::as_map).unwrap_or_default() {
            let is = follow(&r.attributes, &w.key).map(crate::template::text);
            if is != Some(crate::template::text(&w.value.to_value())) {
                continue 'each;
            }
        }
        let name = match n.get("name") {
            Some(a) => attribute(r, a, b),
            None => Some(r.attributes.get("name").cloned().unwrap_or_else(|| Value::from(r.address.clone()))),
        };
        let (Some(name), Some(at)) = (name, attribute(r, address, b)) else { return };
        let name = crate::template::text(&name);
        let mut vars = Vars::new();
        vars.insert(
            "ansible_host".into(),
            Var { value: Value::String(crate::template::text(&at)), span: address.span.clone() },
        );
        for v in n.get("vars").and_then(Node::as_map).unwrap_or_default() {
            let Some(value) = attribute(r, &v.value, b) else { return };
            let path = v.value.as_str().unwrap_or_default();
            if r.sensitive.iter().any(|s| path == s || path.starts_with(&format!("{s}."))) {
                b.opener.learn(&format!("{}: {}", v.value.span.line(), v.key), &value);
            }
            vars.insert(v.key.clone(), Var { value, span: v.value.span.clone() });
        }
        let mut groups: Vec<(String, Span)> =
            list("groups").iter().filter_map(|g| Some((g.as_str()?.to_string(), g.span.clone()))).collect();
        for g in list("group_by") {
            let Some(value) = attribute(r, g, b) else { return };
            let many = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            groups.extend(many.iter().map(|v| (crate::template::text(v), g.span.clone())));
        }
        for (g, span) in &groups {
            if b.declare_group(g, span) {
                b.add_hosts(g, &name, span, Vars::new());
            }
        }
        b.add_hosts(groups.first().map_or("ungrouped", |(g, _)| g.as_str()), &name, &n.span, vars);
    }
}

/// The value at a path of an attribute (`network.0.ip`).
fn attribute(r: &Resource, node: &Node, b: &mut Builder) -> Option<Value> {
    let path = node.as_str().unwrap_or_default();
    let found = follow(&r.attributes, path).filter(|v| !v.is_null());
    if found.is_none() {
        let d = Diagnostic::error(format!("{} has no attribute `{path}`", r.address)).at(&node.span);
        let first = path.split('.').next().unwrap_or_default();
        b.found.push(match nearest(first, r.attributes.keys().map(String::as_str)) {
            Some(n) => d.hint(format!("did you mean `{n}`?")),
            None => d.hint(format!("`terraform state show '{}'` has them all", r.address)),
        });
    }
    found.cloned()
}

fn follow<'v>(attributes: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    let mut parts = path.split('.');
    let mut at = attributes.get(parts.next()?)?;
    for p in parts {
        at = match at {
            Value::Array(a) => a.get(p.parse::<usize>().ok()?)?,
            other => other.get(p)?,
        };
    }
    Some(at)
}

/// Whether a YAML node is the mapping of an inventory, and no group of that name.
pub fn is_mapping(e: &Entry) -> bool {
    e.key == "terraform" && matches!(&e.value.kind, Kind::Map(m) if m.iter().any(|x| x.key == "state"))
}
