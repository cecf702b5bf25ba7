//! Groups and hosts that a run makes (`group_by`, `add_host`).

use super::{Group, Host, Inventory};
use crate::source::Span;
use crate::vars::{Var, Vars};
use indexmap::IndexSet;
use serde_json::{Map, Value, json};

/// Something a task has made. It travels as one of the facts its host has learned, under a name no variable can have.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// The host that learned it is in this group.
    Group {
        name: String,
        parents: Vec<String>,
    },
    Host {
        name: String,
        groups: Vec<String>,
        vars: Map<String, Value>,
    },
}

const GROUP: &str = "made group ";
const HOST: &str = "made host ";

impl Made {
    pub fn as_fact(&self) -> Map<String, Value> {
        let (key, value) = match self {
            Made::Group { name, parents } => (format!("{GROUP}{name}"), json!(parents)),
            Made::Host { name, groups, vars } => (format!("{HOST}{name}"), json!({"groups": groups, "vars": vars})),
        };
        Map::from_iter([(key, value)])
    }

    /// What is among the things a host has learned.
    pub fn from_facts(facts: &Map<String, Value>) -> Vec<Made> {
        let words = |v: &Value| -> Vec<String> {
            v.as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_string)).collect()
        };
        let made = |(key, value): (&String, &Value)| {
            if let Some(name) = key.strip_prefix(GROUP) {
                return Some(Made::Group { name: name.into(), parents: words(value) });
            }
            let name = key.strip_prefix(HOST)?.to_string();
            let vars = value["vars"].as_object().cloned().unwrap_or_default();
            Some(Made::Host { name, groups: words(&value["groups"]), vars })
        };
        facts.iter().filter_map(made).collect()
    }
}

impl Inventory {
    /// A group, made now unless it is there.
    pub fn make_group(&mut self, name: &str, parents: &[String], span: Option<&Span>) {
        if !self.groups.contains_key(name) {
            let mut group = Group::new(name, span.cloned());
            group.files = self.spare.shift_remove(name).unwrap_or_default();
            group.depth = 1;
            self.groups.insert(name.to_string(), group);
        }
        let above = if parents.is_empty() { vec!["all".to_string()] } else { parents.to_vec() };
        for parent in above.iter().filter(|p| *p != name) {
            if parent != "all" {
                self.make_group(parent, &[], span);
            }
            let depth = self.groups.get(parent).map_or(0, |p| p.depth) + 1;
            if let Some(p) = self.groups.get_mut(parent) {
                p.children.insert(name.to_string());
            }
            if let Some(g) = self.groups.get_mut(name) {
                g.parents.insert(parent.clone());
                g.depth = g.depth.max(depth);
            }
        }
    }

    pub fn join_group(&mut self, host: &str, group: &str) {
        if let (Some(h), Some(g)) = (self.hosts.get_mut(host), self.groups.get_mut(group)) {
            h.groups.insert(group.to_string());
            g.hosts.insert(host.to_string());
            if group != "ungrouped" {
                h.groups.shift_remove("ungrouped");
                if let Some(g) = self.groups.get_mut("ungrouped") {
                    g.hosts.shift_remove(host);
                }
            }
        }
    }

    /// Takes in what tasks on a host have made. `span` is the place that is said to be theirs.
    pub fn take_in(&mut self, host: &str, made: Vec<Made>, span: &Span) {
        for m in made {
            match m {
                Made::Group { name, parents } => {
                    self.make_group(&name, &parents, Some(span));
                    self.join_group(host, &name);
                }
                Made::Host { name, groups, vars } => {
                    let known = self.hosts.entry(name.clone()).or_insert_with(|| Host {
                        name: name.clone(),
                        vars: Vars::new(),
                        files: vec![],
                        groups: IndexSet::new(),
                        to_be_made: false,
                        span: Some(span.clone()),
                    });
                    known.to_be_made = false;
                    let var = |value: Value| Var { value, span: span.clone() };
                    known.vars.extend(vars.into_iter().map(|(k, v)| (k, var(v))));
                    let above = if groups.is_empty() { vec!["ungrouped".to_string()] } else { groups };
                    for g in &above {
                        self.make_group(g, &[], Some(span));
                        self.join_group(&name, g);
                    }
                }
            }
        }
    }
}
