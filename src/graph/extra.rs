//! Variables of the command line that nothing asks for: most likely a typing error.

use super::{Program, others};
use crate::playbook::RoleUse;
use crate::source::{Diagnostic, Diagnostics, Source, nearest};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Warns of names given with `-e` that stand nowhere in the project and are nearly the name of a variable that does.
pub fn check(program: &Program, found: &mut Diagnostics) {
    let given: Vec<&String> = program.extra.keys().filter(|n| !n.starts_with("ansible_")).collect();
    if given.is_empty() || program.partial || program.playbook.partial {
        return;
    }
    let mut written: HashSet<&str> = HashSet::new();
    others::each_file(program, &mut |vars| {
        if !std::ptr::eq(vars, &program.extra) {
            written.extend(vars.keys().map(String::as_str));
        }
    });
    written.extend(
        roles(program).flat_map(|r| &r.role.arguments).flat_map(|(_, a)| a.options.iter().map(|o| o.name.as_str())),
    );
    for name in given.into_iter().filter(|n| !written.contains(n.as_str())) {
        let near = nearest(name, written.iter().copied());
        if let Some(near) = near.filter(|_| !is_mentioned(program, name)) {
            let d = Diagnostic::warning(format!("-e {name}: nothing in this playbook asks for it"));
            found.push(d.hint(format!("did you mean `{near}`?")));
        }
    }
}

/// The roles in use.
fn roles(program: &Program) -> impl Iterator<Item = &Arc<RoleUse>> {
    program.tasks.iter().flat_map(|t| t.role.iter().chain(&t.around))
}

/// Whether a name stands in a file of the project: with tasks or variables, or a template.
fn is_mentioned(program: &Program, name: &str) -> bool {
    let mut sources: HashSet<*const Source> = HashSet::new();
    let mut mentioned = |s: &Arc<Source>| sources.insert(Arc::as_ptr(s)) && has_word(&s.text, name);
    let spans = program.playbook.phases.iter().map(|p| &p.span).chain(program.tasks.iter().map(|t| &t.task.span));
    if spans.map(|s| &s.source).any(&mut mentioned) {
        return true;
    }
    let mut in_variables = false;
    others::each_file(program, &mut |vars| {
        in_variables |= !std::ptr::eq(vars, &program.extra) && vars.values().any(|v| mentioned(&v.span.source));
    });
    let mut dirs: HashSet<PathBuf> = roles(program).map(|r| r.role.dir.clone()).collect();
    dirs.insert(program.playbook.dir.clone());
    in_variables || dirs.into_iter().any(|d| in_files(&d.join("templates"), name, 0))
}

/// How deep folders of templates are looked through.
const DEEPEST: usize = 8;

fn in_files(dir: &Path, name: &str, depth: usize) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.path()).any(|p| match p.is_dir() {
        true => depth < DEEPEST && in_files(&p, name, depth + 1),
        false => std::fs::read_to_string(&p).is_ok_and(|text| has_word(&text, name)),
    })
}

fn has_word(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + name.len()..].chars().next())
    })
}
