//! The check before the first byte: every step is looked at as a run would, with what is known beforehand.

use super::prepare::{Place, Refusal, examine, locals, render_node, render_text};
use super::{Dynamic, Program, TaskUse};
use crate::playbook::{Size, Text};
use crate::source::{Diagnostic, Diagnostics};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// What a check found out besides mistakes.
#[derive(Debug, Default)]
pub struct Checked {
    /// Some task asks for facts.
    pub wants_facts: bool,
}

/// From so many steps on, more than one thread looks at them.
const MANY: usize = 100;
/// Of a thread's stack, in bytes: as much as the main thread has.
const STACK: usize = 8 << 20;

/// Looks at every step and collects what is wrong. What depends on results of a run is left to the run.
pub fn check(program: &Program, found: &mut Diagnostics) -> Checked {
    let steps: Vec<(usize, usize)> = program
        .graph
        .node_indices()
        .filter(|n| !program.stands_by(*n))
        .filter_map(|n| match program.graph[n] {
            super::Node::Step { task, host } => Some((task, host)),
            _ => None,
        })
        .collect();
    let threads = match steps.len() {
        n if n < MANY => 1,
        _ => std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
    };
    let mut checked = Checked::default();
    let mut done = vec![];
    std::thread::scope(|s| {
        let all = &steps;
        // A task is looked at by one thread, for all its hosts.
        let share = move |i: usize| steps_of(program, all.iter().copied().filter(|(task, _)| task % threads == i));
        let others: Vec<_> = (1..threads)
            .map(|i| (i, std::thread::Builder::new().stack_size(STACK).spawn_scoped(s, move || share(i))))
            .collect();
        done.push(share(0));
        for (i, other) in others {
            // Where there is no thread to be had, this one does its share.
            done.push(other.ok().and_then(|t| t.join().ok()).unwrap_or_else(|| share(i)));
        }
    });
    for (here, wants_facts) in done {
        found.extend(here);
        checked.wants_facts |= wants_facts;
    }
    super::extra::check(program, found);
    super::arguments::check(program, found);
    for (i, b) in program.budgets.iter().enumerate() {
        let used =
            |t: &super::TaskUse| t.holds(0).iter().any(|(_, h)| h.budgets.iter().any(|(n, _)| *n == b.budget.name));
        let host = program.batches[b.place.phase].first().and_then(|h| h.first());
        let first = program.budgets[..i].iter().all(|o| !std::sync::Arc::ptr_eq(&o.budget, &b.budget));
        if let (Some(&host), true, true) = (host, program.tasks.iter().any(used), first) {
            budget(program, b, host, &program.set_at_all(), found);
        }
    }
    checked
}

/// Looks at some steps: what is wrong with them, and whether one asks for facts.
fn steps_of(program: &Program, steps: impl Iterator<Item = (usize, usize)>) -> (Diagnostics, bool) {
    let mut found = Diagnostics::default();
    let mut wants_facts = false;
    let dynamic = Dynamic::beforehand();
    for (index, host) in steps {
        let task = &program.tasks[index];
        // Set somewhere before it in the run: to be waited for, whatever a lower layer says.
        let pending = program.set_before(index);
        let place = Place { program, host, task, dynamic: &dynamic, pending: &pending };
        if !task.task.broken {
            let ahead = program.set_ahead(index);
            wants_facts |= examine(Place { pending: &ahead, ..place }, &mut found);
        }
        let scope = place.scope(Map::new());
        let of_item = |n: &Text| {
            let mut variables = task.task.loop_.iter().flat_map(|l| l.variables());
            program.templates.compile(&n.text).is_ok_and(|c| variables.any(|v| c.roots().contains(&v)))
        };
        let name = task.task.name.iter().filter(|_| task.task.loop_.is_none());
        for n in task.task.notify.iter().filter(|n| of_item(n)) {
            notified_by_items(program, place, n, &mut found);
        }
        let notified: Vec<&Text> = task.task.notify.iter().filter(|n| !of_item(n)).collect();
        for (i, text) in notified.iter().copied().chain(name).enumerate() {
            match render_text(text, &scope) {
                Err(Refusal::Wrong(d)) => d.into_iter().for_each(|d| found.push(d)),
                // Of handlers with templates in their names nothing can be said here.
                Ok(v) if i < notified.len() && text.text.contains("{{") => {
                    check_names(program, task, &v, text, &mut found)
                }
                _ => {}
            }
        }
        wants_facts |= scope.wants_facts();
    }
    (found, wants_facts)
}

/// A handler's name that is made of a loop's items, as far as these are known.
fn notified_by_items(program: &Program, place: Place<'_>, text: &Text, found: &mut Diagnostics) {
    let Some(l) = &place.task.task.loop_ else { return };
    let Ok(Value::Array(items)) = render_node(&l.over, &place.scope(Map::new())) else { return };
    for i in 0..items.len() {
        match render_text(text, &place.scope(locals(l, i, &items))) {
            Err(Refusal::Wrong(d)) => d.into_iter().for_each(|d| found.push(d)),
            Ok(v) => check_names(program, place.task, &v, text, found),
            Err(Refusal::Unknown { .. }) => {}
        }
    }
}

/// Of handlers with templates in their names nothing can be said before the run.
fn check_names(program: &Program, task: &TaskUse, names: &Value, text: &Text, found: &mut Diagnostics) {
    let mut handlers = program.tasks.iter().filter(|h| h.handler && h.phase == task.phase);
    if !handlers.any(|h| h.task.title().contains("{{")) {
        notified(names).iter().for_each(|n| super::compile::check_notify(program, task, n, &text.span, found));
    }
}

/// The names a `notify` has come to: a template can stand for a list of them.
pub fn notified(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().flat_map(notified).collect(),
        one => vec![crate::template::text(one)],
    }
}

/// Everything in a budget that is rendered when it is taken.
fn budget(program: &Program, b: &super::BudgetUse, host: usize, pending: &HashSet<String>, found: &mut Diagnostics) {
    let dynamic = Dynamic::beforehand();
    let scope = Place { program, host, task: &b.place, dynamic: &dynamic, pending }.scope(Map::new());
    let nodes =
        [Some(&b.budget.hosts), b.budget.size.as_ref(), b.budget.environment.as_ref(), b.budget.evidence.as_ref()];
    let of_nodes = nodes.into_iter().flatten().map(|n| render_node(n, &scope));
    // What is plainly written was looked at when it was read.
    if let Some(node) = b.budget.size.as_ref().filter(|n| n.as_str().is_some_and(|s| s.contains("{{")))
        && let Ok(v) = render_node(node, &scope)
        && Size::read(&v).is_none()
    {
        let message = format!("{}, not {}", Size::NONE, super::prepare::shown(&v));
        found.push(Diagnostic::error(message).at(&node.span).hint("size: 1, size: \"25%\", size: quorum"));
    }
    let texts = b.budget.before.iter().chain(&b.budget.after).chain(b.budget.diagnosis.iter().map(|d| &d.say));
    for r in of_nodes.chain(texts.map(|t| render_text(t, &scope))) {
        if let Err(Refusal::Wrong(d)) = r {
            d.into_iter().for_each(|d| found.push(d));
        }
    }
}
