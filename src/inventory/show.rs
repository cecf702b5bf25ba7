//! Inventories as JSON and as a tree, without secret values.

use super::{Group, Inventory};
use crate::vars::{Var, Vars};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

/// What stands where a secret value would.
const REDACTED: &str = "[redacted]";

/// How large a tree is shown, in bytes: groups that share groups, and so on, make it grow without end.
const LARGEST: usize = 16 << 20;

impl Inventory {
    /// The inventory in the shape of `ansible-inventory --list`; values out of encrypted files are `[redacted]`.
    pub fn to_json(&self) -> Value {
        let mut hostvars = Map::new();
        for host in self.hosts.keys() {
            let vars = self.host_json(host);
            if vars.as_object().is_some_and(|v| !v.is_empty()) {
                hostvars.insert(host.clone(), vars);
            }
        }
        let mut out = Map::new();
        out.insert("_meta".into(), json!({"hostvars": hostvars}));
        for group in self.groups.values() {
            let mut shown = Map::new();
            let children: Vec<&String> = group.children.iter().collect();
            // As Ansible has it: what is directly in `all` is shown in `ungrouped`.
            let hosts: Vec<&String> = group.hosts.iter().filter(|_| group.name != "all").collect();
            if !children.is_empty() {
                shown.insert("children".into(), json!(children));
            }
            if !hosts.is_empty() {
                shown.insert("hosts".into(), json!(hosts));
            }
            if !shown.is_empty() {
                out.insert(group.name.clone(), Value::Object(shown));
            }
        }
        Value::Object(out)
    }

    /// The variables that reach a host as one mapping, with secrets redacted (`ansible-inventory --host`).
    pub fn host_json(&self, host: &str) -> Value {
        let mut merged = Map::new();
        for (_, layer) in self.host_layers(host) {
            for (name, var) in layer {
                merged.insert(name.clone(), self.shown_as(name, var));
            }
        }
        Value::Object(merged)
    }

    /// A variable's value as it may be shown under its name: a password not at all, however short it is.
    fn shown_as(&self, name: &str, var: &Var) -> Value {
        let is_template = || crate::template::text(&var.value).contains("{{");
        if super::PASSWORDS.contains(&name) && !is_template() { Value::from(REDACTED) } else { self.shown(var) }
    }

    /// A variable's value as it may be shown.
    pub fn shown(&self, var: &Var) -> Value {
        if var.span.source.secret { Value::from(REDACTED) } else { self.redacted(&var.value) }
    }

    fn redacted(&self, value: &Value) -> Value {
        match value {
            Value::String(s) if self.secrets.iter().any(|x| x == s) => Value::from(REDACTED),
            Value::String(s) => {
                let mut s = s.clone();
                for secret in self.secrets.iter().filter(|x| x.len() > 3) {
                    if s.contains(secret.as_str()) {
                        s = s.replace(secret.as_str(), REDACTED);
                    }
                }
                Value::String(s)
            }
            Value::Array(items) => Value::Array(items.iter().map(|v| self.redacted(v)).collect()),
            Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), self.redacted(v))).collect()),
            other => other.clone(),
        }
    }

    /// The groups and hosts as a tree, in the shape of `ansible-inventory --graph`; with `vars`, their variables too.
    pub fn graph(&self, vars: bool) -> String {
        let mut out = String::from("@all:\n");
        if let Some(all) = self.groups.get("all") {
            self.branch(all, "  ", vars, &mut out);
        }
        if out.len() > LARGEST {
            out.push_str("  (and more: it is too large to be shown whole)\n");
        }
        out
    }

    fn branch(&self, group: &Group, indent: &str, vars: bool, out: &mut String) {
        let deeper = format!("{indent}|  ");
        if out.len() > LARGEST {
            return;
        }
        for child in group.children.iter().filter_map(|c| self.groups.get(c)) {
            out.push_str(&format!("{indent}|--@{}:\n", child.name));
            self.branch(child, &deeper, vars, out);
        }
        if group.name != "all" {
            for host in &group.hosts {
                out.push_str(&format!("{indent}|--{host}\n"));
                if let Some(h) = self.hosts.get(host).filter(|_| vars) {
                    self.leaves(std::iter::once(&h.vars).chain(&h.files), &deeper, out);
                }
            }
        }
        if vars {
            self.leaves(group.layers(), indent, out);
        }
    }

    fn leaves<'v>(&self, layers: impl Iterator<Item = &'v Vars>, indent: &str, out: &mut String) {
        let mut all: IndexMap<&str, &Var> = IndexMap::new();
        all.extend(layers.flatten().map(|(name, var)| (name.as_str(), var)));
        for (name, var) in all {
            out.push_str(&format!("{indent}|--{{{name} = {}}}\n", self.shown_as(name, var)));
        }
    }
}
