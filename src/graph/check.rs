//! The check before the first byte: every step is made ready as a run would, with what is known beforehand.

use super::prepare::{Place, Refusal, prepare, render_text};
use super::{Dynamic, Program};
use crate::source::{Diagnostic, Diagnostics, Severity};

/// What a check found out besides mistakes.
#[derive(Debug, Default)]
pub struct Checked {
    /// Some task asks for facts.
    pub wants_facts: bool,
}

/// Makes every step ready and collects what is wrong. What depends on results of a run is left to the run.
pub fn check(program: &Program, found: &mut Diagnostics) -> Checked {
    let mut checked = Checked::default();
    let dynamic = Dynamic::default();
    for node in program.graph.node_weights() {
        let super::Node::Step { task, host } = *node else { continue };
        let task = &program.tasks[task];
        // Set somewhere in the run: to be waited for, whatever a lower layer says.
        let place = Place { program, host, task, dynamic: &dynamic, pending: &program.promised };
        let scope = place.scope(Default::default());
        match prepare(place) {
            Ok(_) => {}
            Err(Refusal::Unknown { facts, .. }) => checked.wants_facts |= facts,
            Err(Refusal::Wrong(d)) => d.into_iter().for_each(|d| found.push(d)),
        }
        checked.wants_facts |= scope.wants_facts();
        for n in &task.task.notify {
            if let Err(Refusal::Wrong(d)) = render_text(n, &scope) {
                d.into_iter().for_each(|d| found.push(d));
            }
        }
        if let Some(name) = &task.task.name
            && task.task.loop_.is_none()
            && let Err(Refusal::Wrong(d)) = render_text(name, &scope)
        {
            // A name that cannot be rendered is shown as it is written: worth a word, not worth stopping for.
            d.into_iter().for_each(|d| found.push(Diagnostic { severity: Severity::Warning, ..d }));
        }
    }
    checked
}
