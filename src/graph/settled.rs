//! Whether the condition under which tasks are taken in stays what it is while they are done.

use super::others::{each_file, each_text, names, of_role};
use super::{Program, Within};
use crate::playbook::{Include, RoleUse, each_task};
use crate::vars::Vars;
use std::collections::HashSet;
use std::sync::Arc;

/// Whether tasks that are taken in can change the answer to the condition they are taken in by: it asks for what they set,
/// if only through variables. `around` and `within` are the roles and blocks it stands in.
pub fn can_change(program: &Program, include: &Include, around: &[Arc<RoleUse>], within: &[Within]) -> bool {
    let mut set: HashSet<String> = HashSet::new();
    include.candidates.iter().for_each(|(_, tasks)| each_task(tasks, &mut |t| set.extend(t.sets())));
    let mut row: Vec<String> = include.look.when.iter().flat_map(|c| c.compiled.roots().iter().cloned()).collect();
    let mut seen: HashSet<String> = row.iter().cloned().collect();
    while let Some(name) = row.pop() {
        if set.contains(&name) {
            return true;
        }
        let mut look = |vars: &Vars| {
            let Some(var) = vars.get(&name) else { return };
            each_text(&var.value, &mut |text| {
                let new = names(text).filter(|_| text.contains("{{") || text.contains("{%"));
                row.extend(new.filter(|w| seen.insert(w.to_string())).map(str::to_string));
            });
        };
        each_file(program, &mut look);
        look(&include.look.vars);
        within.iter().for_each(|w| look(&w.block.vars));
        let public = program.playbook.phases.iter().flat_map(|p| &p.public);
        public.chain(around).for_each(|r| of_role(r, &mut look));
    }
    false
}
