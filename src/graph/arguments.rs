//! The arguments of roles, checked for every host before one is contacted.

use super::prepare::{Place, Refusal, evaluate};
use super::{Dynamic, Program, RoleAt, Scope};
use crate::playbook::Misfit;
use crate::source::{Diagnostic, Diagnostics, Span};
use crate::template::{Found, Lookup as _};
use indexmap::IndexMap;
use serde_json::Map;
use std::collections::HashSet;

/// Looks at the arguments of every role where it is used. Of names that can have been set when it begins nothing is said.
pub fn check(program: &Program, found: &mut Diagnostics) {
    for at in &program.roles {
        let hosts: Vec<usize> = program.batches[at.place.phase].concat();
        let pending = program.set_before(at.first);
        // One mistake on many hosts is one finding, which says where it is not on all.
        let mut wrong: IndexMap<String, (Diagnostic, Vec<usize>)> = IndexMap::new();
        for &host in &hosts {
            for d in of_host(program, at, host, &pending) {
                wrong.entry(d.message.clone()).or_insert_with(|| (d, vec![])).1.push(host);
            }
        }
        for (_, (d, on)) in wrong {
            let names: Vec<&str> = on.iter().take(3).map(|h| program.hosts[*h].name.as_str()).collect();
            let more = if on.len() > names.len() { ", …" } else { "" };
            found.push(if on.len() < hosts.len() { d.label(format!("on {}{more}", names.join(", "))) } else { d });
        }
    }
}

fn of_host(program: &Program, at: &RoleAt, host: usize, pending: &HashSet<String>) -> Vec<Diagnostic> {
    let dynamic = Dynamic::beforehand();
    let scope = Place { program, host, task: &at.place, dynamic: &dynamic, pending }.scope(Map::new());
    let mut unsure: HashSet<&String> = HashSet::new();
    for c in &at.place.outer_when {
        match evaluate(c, &scope) {
            Ok(false) => return vec![],
            Ok(true) => {}
            // What a condition asks for may be what it makes sure of.
            Err(Refusal::Unknown { .. }) => unsure.extend(c.compiled.roots()),
            // Its tasks have the same condition, and say so.
            Err(Refusal::Wrong(_)) => return vec![],
        }
    }
    let (used, role) = (&at.used, &at.used.role.name);
    let Some(arguments) = used.arguments() else { return vec![] };
    let mut wrong = vec![];
    for a in arguments.options.iter().filter(|a| !unsure.contains(&a.name)) {
        match scope.get(&a.name, &[]) {
            Found::Undefined if a.required => {
                let near = used.values().any(|(k, _)| crate::source::nearest(k, [a.name.as_str()]).is_some());
                // A name that is nearly right is said where it stands.
                if !near {
                    let message = format!("the role `{role}` needs `{}`", a.name);
                    let what = if a.description.is_empty() { "asked for here" } else { &a.description };
                    let d = Diagnostic::error(message).at(&used.span).also(&a.span, what);
                    wrong.push(d.hint(format!("add it to the inventory, or here: vars: {{{}: …}}", a.name)));
                }
            }
            Found::Undefined | Found::Unknown(_) => {}
            Found::Broken(e) => {
                let d = Diagnostic::error(&e.message).at(e.span.as_ref().unwrap_or(&used.span));
                wrong.push(match e.hint {
                    Some(h) => d.hint(h),
                    None => d,
                });
            }
            Found::Value(v) => {
                let mut misfits = vec![];
                a.misfits(&v, &a.name, &mut misfits);
                wrong.extend(misfits.into_iter().map(|m| misfit(m, at, &scope, Some(&a.span))));
            }
        }
    }
    let get = |name: &str| match scope.get(name, &[]) {
        _ if unsure.iter().any(|u| *u == name) => None,
        Found::Value(v) => Some(Some(v)),
        Found::Undefined => Some(None),
        Found::Unknown(_) | Found::Broken(_) => None,
    };
    wrong.extend(arguments.broken_rules(&get).into_iter().map(|m| misfit(m, at, &scope, None)));
    wrong
}

/// Shown where the role is used, or at the value where that is part of it.
fn misfit(m: Misfit, at: &RoleAt, scope: &Scope<'_>, asked: Option<&Span>) -> Diagnostic {
    let used = &at.used.span;
    let value = m.name.as_ref().and_then(|n| scope.raw(n)).map(|v| &v.span);
    let inside = |s: &&Span| {
        std::sync::Arc::ptr_eq(&s.source, &used.source)
            && used.range.start <= s.range.start
            && s.range.end <= used.range.end
    };
    let d = Diagnostic::error(format!("the role `{}`: {}", at.used.role.name, m.message)).hint(m.hint);
    let d = match value {
        Some(v) if inside(&v) => d.at(v),
        Some(v) => d.at(used).also(v, "the value"),
        None => d.at(used),
    };
    match asked {
        Some(a) => d.also(a, "asked for here"),
        None => d,
    }
}
