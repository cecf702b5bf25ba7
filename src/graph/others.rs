//! What tasks read of other hosts: the names they take out of `hostvars`, in their own texts or through variables.

use super::{Program, TaskUse};
use crate::probe::ansible_names;
use crate::source::Node;
use crate::vars::Vars;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What a program's tasks read of other hosts.
pub struct Others<'p> {
    program: &'p Program,
    /// By variable: what is taken out of `hostvars` where it is rendered, however far behind it.
    through: HashMap<String, HashSet<String>>,
}

/// Whether a name in `hostvars` is a fact's.
pub fn is_fact(name: &str) -> bool {
    matches!(name, "facts" | "ansible_facts") || ansible_names::is_fact(name)
}

/// The names in a text; what is in quotes counts, as it can be a key.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

impl<'p> Others<'p> {
    pub fn of(program: &'p Program) -> Self {
        let mut made_of: HashMap<&str, HashSet<&str>> = HashMap::new();
        let mut through: HashMap<String, HashSet<String>> = HashMap::new();
        each_file(program, &mut |vars| {
            for (name, var) in vars {
                each_text(&var.value, &mut |text| {
                    if !text.contains("{{") && !text.contains("{%") {
                        return;
                    }
                    if text.contains("hostvars") {
                        through.entry(name.clone()).or_default().extend(names(text).map(str::to_string));
                    }
                    made_of.entry(name).or_default().extend(names(text));
                });
            }
        });
        // Each turn carries what is read one variable further; there are no more turns than variables.
        while !through.is_empty() {
            let mut more: Vec<(&str, HashSet<String>)> = vec![];
            for (name, of) in &made_of {
                let behind = of.iter().filter_map(|n| through.get(*n)).flatten();
                let known = through.get(*name);
                let new: HashSet<String> = behind.filter(|w| known.is_none_or(|k| !k.contains(*w))).cloned().collect();
                if !new.is_empty() {
                    more.push((name, new));
                }
            }
            if more.is_empty() {
                break;
            }
            more.into_iter().for_each(|(name, new)| through.entry(name.to_string()).or_default().extend(new));
        }
        Others { program, through }
    }

    /// What a task can take out of `hostvars`, and perhaps more.
    pub fn read_by(&self, task: &TaskUse) -> HashSet<String> {
        let mut read = HashSet::new();
        let mut note = |text: &str| {
            if text.contains("hostvars") {
                read.extend(names(text).map(str::to_string));
            }
            if !self.through.is_empty() {
                read.extend(names(text).filter_map(|n| self.through.get(n)).flatten().cloned());
            }
        };
        let t = &task.task;
        let nodes = [Some(&t.args), t.loop_.as_ref().map(|l| &l.over), t.environment.as_ref(), task.evidence()];
        nodes.into_iter().flatten().for_each(|n| n.walk(&mut |n| n.as_str().into_iter().for_each(&mut note)));
        let conditions = [&t.when, &task.outer_when, &t.until, &t.failed_when, &t.changed_when];
        conditions.into_iter().flatten().for_each(|c| note(&c.text));
        t.vars.values().for_each(|v| each_text(&v.value, &mut note));
        let texts = [t.name.as_ref(), task.delegate_to(), t.loop_.as_ref().and_then(|l| l.label.as_ref())];
        texts.into_iter().flatten().chain(&t.notify).for_each(|x| note(&x.text));
        if t.module.name == "template" {
            self.templates_of(task).iter().for_each(|text| note(text));
        }
        read
    }

    /// The text of the template a task writes; where its name is made only in the run, of all that it could be.
    fn templates_of(&self, task: &TaskUse) -> Vec<String> {
        let Some(src) = task.task.args.get("src").and_then(Node::as_str) else { return vec![] };
        if !src.contains("{{") {
            let path = super::prepare::find_file(self.program, task, crate::modules::FileKind::Template, src);
            return path.ok().and_then(|p| std::fs::read_to_string(p).ok()).into_iter().collect();
        }
        let role = task.role.as_ref().map(|r| r.role.dir.join("templates"));
        let dirs = role.into_iter().chain([self.program.playbook.dir.join("templates")]);
        let files = dirs.flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten());
        files.filter_map(|f| std::fs::read_to_string(f.path()).ok()).collect()
    }
}

/// Calls for every text in a value.
fn each_text<'v>(value: &'v Value, call: &mut impl FnMut(&'v str)) {
    let mut row = vec![value];
    while let Some(v) = row.pop() {
        match v {
            Value::String(s) => call(s),
            Value::Array(a) => row.extend(a),
            Value::Object(o) => row.extend(o.values()),
            _ => {}
        }
    }
}

/// Calls for everything that holds variables.
pub fn each_file<'p>(program: &'p Program, call: &mut impl FnMut(&'p Vars)) {
    call(&program.extra);
    program.inventory.hosts.values().for_each(|h| call(&h.vars));
    program.inventory.groups.values().for_each(|g| call(&g.vars));
    for phase in &program.playbook.phases {
        call(&phase.vars);
        phase.vars_files.iter().for_each(|(_, v)| call(v));
        phase.roles.iter().for_each(|r| of_role(r, call));
    }
    let mut seen: HashSet<*const crate::playbook::RoleUse> = HashSet::new();
    for t in &program.tasks {
        t.within.iter().for_each(|w| call(&w.block.vars));
        t.task.brings.iter().for_each(|(_, v)| call(v));
        for r in t.role.iter().chain(&t.around).filter(|r| seen.insert(std::sync::Arc::as_ptr(r))) {
            of_role(r, call);
        }
    }
}

fn of_role<'p>(used: &'p crate::playbook::RoleUse, call: &mut impl FnMut(&'p Vars)) {
    [&used.params, &used.role.vars, &used.role.defaults].into_iter().for_each(&mut *call);
    used.role.dependencies.iter().for_each(|d| of_role(d, call));
}
