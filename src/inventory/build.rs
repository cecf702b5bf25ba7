//! Puts hosts, groups and variables of all sources together and checks what only the whole can show.

use super::connection;
use super::range;
use super::{Group, Host, Inventory};
use crate::error;
use crate::source::{Diagnostic, Diagnostics, Node, Span, nearest};
use crate::vars::{SecretOpener, Var, Vars};
use indexmap::IndexSet;
use serde_json::Value;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

/// Passes on to the real opener and remembers what it learned.
pub(super) struct Listening<'o> {
    inner: &'o dyn SecretOpener,
    heard: Mutex<Vec<String>>,
}

impl<'o> Listening<'o> {
    pub fn new(inner: &'o dyn SecretOpener) -> Self {
        Listening { inner, heard: Mutex::new(vec![]) }
    }
    pub fn heard(self) -> Vec<String> {
        self.heard.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(s) if !s.trim().is_empty() => into.push(s.clone()),
        Value::Array(items) => items.iter().for_each(|v| texts(v, into)),
        Value::Object(map) => map.values().for_each(|v| texts(v, into)),
        _ => {}
    }
}

impl SecretOpener for Listening<'_> {
    fn open_file(&self, path: &Path, bytes: &[u8]) -> error::Result<String> {
        self.inner.open_file(path, bytes)
    }
    fn open_value(&self, armored: &str) -> error::Result<String> {
        self.inner.open_value(armored)
    }
    fn open_value_at(&self, node: &Node, armored: &str) -> error::Result<String> {
        self.inner.open_value_at(node, armored)
    }
    fn learn(&self, at: &str, value: &Value) {
        if let Ok(mut heard) = self.heard.lock() {
            texts(value, &mut heard);
        }
        self.inner.learn(at, value);
    }
}

/// More hosts than this no inventory has.
const MOST_HOSTS: usize = 100_000;

/// The inventory while its sources are read.
pub(super) struct Builder<'o> {
    pub inventory: Inventory,
    pub found: Diagnostics,
    pub opener: &'o dyn SecretOpener,
    /// Groups named only as a child or for their variables: someone else must declare them.
    awaited: Vec<(String, Span, &'static str)>,
    /// Parents with children that are not declared yet.
    pub children_to_come: Vec<(String, String, Span)>,
    /// Groups that were declared by a section, a key or a host.
    declared: IndexSet<String>,
    /// It has more hosts than there may be.
    too_many: bool,
}

impl<'o> Builder<'o> {
    pub fn new(opener: &'o dyn SecretOpener) -> Self {
        let declared = ["all", "ungrouped"].map(String::from).into();
        Builder {
            inventory: Inventory::default(),
            found: Diagnostics::default(),
            opener,
            awaited: vec![],
            children_to_come: vec![],
            declared,
            too_many: false,
        }
    }

    /// Declares a group; a name that cannot be one is a finding.
    pub fn declare_group(&mut self, name: &str, span: &Span) -> bool {
        if !self.note_group(name, span) {
            return false;
        }
        self.declared.insert(name.to_string());
        let all = std::mem::take(&mut self.children_to_come);
        let (now, later) = all.into_iter().partition(|(_, child, _)| child == name);
        self.children_to_come = later;
        let now: Vec<(String, String, Span)> = now;
        now.iter().for_each(|(parent, child, span)| self.add_child(parent, child, span));
        true
    }

    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.contains(name)
    }

    /// Names a group that must be declared elsewhere.
    pub fn await_group(&mut self, name: &str, span: &Span, why: &'static str) -> bool {
        if !self.note_group(name, span) {
            return false;
        }
        self.awaited.push((name.to_string(), span.clone(), why));
        true
    }

    fn note_group(&mut self, name: &str, span: &Span) -> bool {
        if let Some(c) = name.chars().find(|c| c.is_whitespace() || ":[],&!*?~@{}\"'=#".contains(*c)) {
            self.found.push(
                Diagnostic::error(format!("`{name}` cannot be a group's name: it has `{c}` in it"))
                    .at(span)
                    .hint("a group's name has letters, digits, `_`, `-` and `.`"),
            );
            return false;
        }
        if name.is_empty() {
            self.found.push(Diagnostic::error("a group needs a name").at(span));
            return false;
        }
        if !self.inventory.groups.contains_key(name) {
            self.inventory.groups.insert(name.to_string(), Group::new(name, Some(span.clone())));
        }
        true
    }

    /// Makes one group the child of another; what would close a circle is a finding.
    pub fn add_child(&mut self, parent: &str, child: &str, span: &Span) {
        if self.inventory.groups.get(parent).is_some_and(|g| g.children.contains(child)) {
            return;
        }
        if parent == child {
            self.found.push(Diagnostic::error(format!("the group `{child}` cannot be its own child")).at(span));
            return;
        }
        if child == "all" {
            self.found.push(
                Diagnostic::error("`all` cannot be a child").at(span).hint("every group belongs to `all` by itself"),
            );
            return;
        }
        if let Some(mut way) = self.way_down(child, parent) {
            way.push(child.to_string());
            self.found.push(
                Diagnostic::error(format!("the groups go round in a circle: {}", way.join(" > ")))
                    .at(span)
                    .hint(format!("take `{child}` out of the children of `{parent}`")),
            );
            return;
        }
        if let Some(g) = self.inventory.groups.get_mut(parent) {
            g.children.insert(child.to_string());
        }
        if let Some(g) = self.inventory.groups.get_mut(child) {
            g.parents.insert(parent.to_string());
        }
    }

    /// The groups from one down to another through `children`, both ends included.
    fn way_down(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut before: HashMap<&str, &str> = HashMap::new();
        let mut open = vec![self.inventory.groups.get(from)?.name.as_str()];
        let start = open[0];
        while let Some(at) = open.pop() {
            if at == to {
                let mut way = vec![at.to_string()];
                let mut step = at;
                while let Some(b) = before.get(step).filter(|_| step != start) {
                    way.push((*b).to_string());
                    step = b;
                }
                way.reverse();
                return Some(way);
            }
            let children = self.inventory.groups.get(at).map(|g| &g.children);
            for c in children.into_iter().flatten().map(String::as_str) {
                if c != start && !before.contains_key(c) {
                    before.insert(c, at);
                    open.push(c);
                }
            }
        }
        None
    }

    /// Adds the hosts of an entry (a name, a range, with or without a port) to a group.
    pub fn add_hosts(&mut self, group: &str, entry: &str, span: &Span, vars: Vars) {
        if self.too_many {
            return;
        }
        let expanded = match range::expand(entry) {
            Ok(e) => e,
            Err(b) => {
                let mut d = Diagnostic::error(b.message).at(&inside(span, entry, &b.at));
                if let Some(h) = b.hint {
                    d = d.hint(h);
                }
                self.found.push(d);
                return;
            }
        };
        if self.inventory.hosts.len() + expanded.names.len() > MOST_HOSTS {
            if !self.too_many {
                let d = Diagnostic::error(format!("the inventory has more than {MOST_HOSTS} hosts")).at(span);
                self.found.push(d.hint("make several inventories of it"));
            }
            self.too_many = true;
            return;
        }
        for name in &expanded.names {
            let host = self.inventory.hosts.entry(name.clone()).or_insert_with(|| Host {
                name: name.clone(),
                vars: Vars::new(),
                files: vec![],
                groups: Default::default(),
                span: Some(span.clone()),
                to_be_made: false,
            });
            host.groups.insert(group.to_string());
            if let Some(p) = expanded.port {
                host.vars.insert("ansible_port".into(), Var { value: Value::from(p), span: span.clone() });
            }
            host.vars.extend(vars.clone());
            if let Some(g) = self.inventory.groups.get_mut(group) {
                g.hosts.insert(name.clone());
            }
        }
    }

    pub fn set_group_vars(&mut self, group: &str, vars: Vars) {
        if let Some(g) = self.inventory.groups.get_mut(group) {
            g.vars.extend(vars);
        }
    }

    pub fn set_host_vars(&mut self, host: &str, vars: Vars) {
        if let Some(h) = self.inventory.hosts.get_mut(host) {
            h.vars.extend(vars);
        }
    }

    /// What a file of variables gives a group; `dir` is the folder's place among those of the inventory.
    pub fn set_group_file(&mut self, group: &str, dir: usize, vars: Vars) {
        if let Some(g) = self.inventory.groups.get_mut(group) {
            put(&mut g.files, dir, vars);
        }
    }

    pub fn set_host_file(&mut self, host: &str, dir: usize, vars: Vars) {
        if let Some(h) = self.inventory.hosts.get_mut(host) {
            put(&mut h.files, dir, vars);
        }
    }

    /// Brings groups and hosts into order once every file is read; before `group_vars/` is.
    pub fn settle_groups(&mut self) {
        let known: Vec<&str> = self.declared.iter().map(String::as_str).collect();
        let mut undeclared = vec![];
        for (name, span, why) in &self.awaited {
            if !self.declared.contains(name) {
                self.found.push(
                    Diagnostic::error(format!("{why} the group `{name}`, which is not defined anywhere"))
                        .at(span)
                        .hint(match nearest(name, known.iter().copied()) {
                            Some(n) => format!("did you mean `{n}`?"),
                            None => format!("add a section [{name}]"),
                        }),
                );
                undeclared.push(name.clone());
            }
        }
        for name in undeclared {
            self.inventory.groups.shift_remove(&name);
            for g in self.inventory.groups.values_mut() {
                g.children.shift_remove(&name);
                g.parents.shift_remove(&name);
            }
        }
        let inventory = &mut self.inventory;
        // A group without a parent belongs to `all`; a host without a group to `ungrouped`.
        let orphans: Vec<String> = inventory
            .groups
            .values()
            .filter(|g| g.name != "all" && g.parents.is_empty())
            .map(|g| g.name.clone())
            .collect();
        for name in orphans {
            if let Some(g) = inventory.groups.get_mut(&name) {
                g.parents.insert("all".into());
            }
            if let Some(all) = inventory.groups.get_mut("all") {
                all.children.insert(name);
            }
        }
        for host in inventory.hosts.values_mut() {
            let grouped = host.groups.iter().any(|g| g != "all" && g != "ungrouped");
            let Some(ungrouped) = inventory.groups.get_mut("ungrouped") else { continue };
            if grouped {
                host.groups.shift_remove("ungrouped");
                ungrouped.hosts.shift_remove(&host.name);
            } else {
                host.groups.insert("ungrouped".into());
                ungrouped.hosts.insert(host.name.clone());
            }
        }
        set_depths(inventory);
        for (name, host) in &inventory.hosts {
            if let Some(group) = inventory.groups.get(name) {
                let mut d = Diagnostic::warning(format!("`{name}` is the name of a host and of a group"))
                    .hint("a pattern naming it means the host; give one of them another name");
                if let Some(s) = &host.span {
                    d = d.at(s);
                }
                if let Some(s) = &group.span {
                    d = d.also(s, "the group");
                }
                self.found.push(d);
            }
        }
    }

    /// The last look, with every variable in its place.
    pub fn finish(mut self) -> (Inventory, Diagnostics) {
        for group in self.inventory.groups.values_mut() {
            let layers = group.files.iter_mut().rev().chain([&mut group.vars]);
            let said: Vec<Var> = layers.filter_map(|l| l.shift_remove("ansible_group_priority")).collect();
            let Some(var) = said.first() else { continue };
            match var.value.as_i64().or_else(|| var.value.as_str().and_then(|s| s.trim().parse().ok())) {
                Some(p) => group.priority = p,
                None => {
                    self.found.push(Diagnostic::error("ansible_group_priority must be a whole number").at(&var.span))
                }
            }
        }
        for vars in self.inventory.all_vars() {
            for (name, var) in vars {
                if let Some(near) = connection::near_miss(name) {
                    self.found.push(
                        Diagnostic::warning(format!("`{name}` is no setting Windlass knows"))
                            .at(&var.span)
                            .hint(format!("did you mean `{near}`?")),
                    );
                }
            }
        }
        self.found.sort();
        (self.inventory, self.found)
    }
}

/// Variables at a place that may not be there yet.
pub(super) fn put(files: &mut Vec<Vars>, dir: usize, vars: Vars) {
    if files.len() <= dir {
        files.resize_with(dir + 1, Vars::new);
    }
    files[dir].extend(vars);
}

/// The part of a span that a part of the text in it covers; the whole where quotes or escapes stand between.
fn inside(span: &Span, text: &str, part: &Range<usize>) -> Span {
    let shown = span.text();
    match shown.find(text).filter(|_| !text.is_empty()) {
        Some(i) => Span::new(&span.source, span.range.start + i + part.start..span.range.start + i + part.end),
        None => span.clone(),
    }
}

/// The longest way from `all` to each group. There are no circles by now.
fn set_depths(inventory: &mut Inventory) {
    let mut waiting: HashMap<String, usize> =
        inventory.groups.values().map(|g| (g.name.clone(), g.parents.len())).collect();
    let mut ready: Vec<String> = waiting.iter().filter(|(_, n)| **n == 0).map(|(g, _)| g.clone()).collect();
    while let Some(name) = ready.pop() {
        let Some((depth, children)) = inventory.groups.get(&name).map(|g| (g.depth, g.children.clone())) else {
            continue;
        };
        for child in children {
            if let Some(c) = inventory.groups.get_mut(&child) {
                c.depth = c.depth.max(depth + 1);
            }
            if let Some(n) = waiting.get_mut(&child) {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    ready.push(child);
                }
            }
        }
    }
}
