//! Whether the condition under which tasks are taken in stays what it is while they are done.

use super::Program;
use crate::playbook::{Include, RoleUse, each_task};
use crate::vars::Vars;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// The names in a text, and more.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// Calls for the names in all templates of a value.
fn each_word(value: &Value, call: &mut impl FnMut(&str)) {
    match value {
        Value::String(s) if s.contains("{{") || s.contains("{%") => words(s).for_each(call),
        Value::Array(a) => a.iter().for_each(|v| each_word(v, call)),
        Value::Object(o) => o.values().for_each(|v| each_word(v, call)),
        _ => {}
    }
}

/// Whether tasks that are taken in can change the answer to the condition they are taken in by: it asks for what they set,
/// if only through variables.
pub fn can_change(program: &Program, include: &Include, around: &[Arc<RoleUse>]) -> bool {
    let mut set: HashSet<String> = HashSet::new();
    include.candidates.iter().for_each(|(_, tasks)| each_task(tasks, &mut |t| set.extend(t.sets())));
    let mut row: Vec<String> = include.look.when.iter().flat_map(|c| c.compiled.roots().iter().cloned()).collect();
    let mut seen: HashSet<String> = row.iter().cloned().collect();
    while let Some(name) = row.pop() {
        if set.contains(&name) {
            return true;
        }
        each_of_name(program, include, around, &name, &mut |value| {
            each_word(value, &mut |w| {
                if seen.insert(w.to_string()) {
                    row.push(w.to_string());
                }
            });
        });
    }
    false
}

/// Calls for what a variable is, wherever it is written.
fn each_of_name(
    program: &Program,
    include: &Include,
    around: &[Arc<RoleUse>],
    name: &str,
    call: &mut impl FnMut(&Value),
) {
    let mut look = |vars: &Vars| vars.get(name).into_iter().for_each(|v| call(&v.value));
    look(&include.look.vars);
    look(&program.extra);
    program.inventory.all_vars().for_each(&mut look);
    for phase in &program.playbook.phases {
        look(&phase.vars);
        phase.vars_files.iter().for_each(|(_, v)| look(v));
        phase.roles.iter().chain(&phase.public).for_each(|r| of_role(r, &mut look));
    }
    around.iter().for_each(|r| of_role(r, &mut look));
}

fn of_role(used: &RoleUse, look: &mut impl FnMut(&Vars)) {
    [&used.params, &used.given, &used.role.vars, &used.role.defaults].into_iter().for_each(&mut *look);
    used.role.dependencies.iter().for_each(|d| of_role(d, look));
}
