//! The check before the first byte: every step is looked at as a run would, with what is known beforehand.

use super::prepare::{Place, Refusal, examine, render_text};
use super::{Dynamic, Program, sets};
use crate::source::Diagnostics;
use serde_json::Map;
use std::collections::{HashMap, HashSet};

/// What a check found out besides mistakes.
#[derive(Debug, Default)]
pub struct Checked {
    /// Some task asks for facts.
    pub wants_facts: bool,
}

/// Looks at every step and collects what is wrong. What depends on results of a run is left to the run.
pub fn check(program: &Program, found: &mut Diagnostics) -> Checked {
    let mut checked = Checked::default();
    let dynamic = Dynamic::default();
    let promises = Promises::of(program);
    let mut pending: HashMap<usize, HashSet<String>> = HashMap::new();
    for node in program.graph.node_weights() {
        let super::Node::Step { task: index, host } = *node else { continue };
        let task = &program.tasks[index];
        // Set somewhere before it in the run: to be waited for, whatever a lower layer says.
        let pending = pending.entry(index).or_insert_with(|| promises.before(index));
        let place = Place { program, host, task, dynamic: &dynamic, pending };
        if !task.task.broken {
            checked.wants_facts |= examine(place, found);
        }
        let scope = place.scope(Map::new());
        let name = task.task.name.iter().filter(|_| task.task.loop_.is_none());
        for text in task.task.notify.iter().chain(name) {
            if let Err(Refusal::Wrong(d)) = render_text(text, &scope) {
                d.into_iter().for_each(|d| found.push(d));
            }
        }
        checked.wants_facts |= scope.wants_facts();
    }
    checked
}

/// Which task sets which variable first.
struct Promises<'a> {
    program: &'a Program,
    first: HashMap<String, usize>,
    /// Phases in which tasks have `needs`: there, file order says little.
    reordered: HashSet<usize>,
}

impl<'a> Promises<'a> {
    fn of(program: &'a Program) -> Self {
        let mut first = HashMap::new();
        let mut reordered = HashSet::new();
        for (i, t) in program.tasks.iter().enumerate() {
            for name in sets(&t.task) {
                first.entry(name).or_insert(i);
            }
            if t.task.needs.is_some() {
                reordered.insert(t.phase);
            }
        }
        Promises { program, first, reordered }
    }

    /// The names that can have been set when a task begins, and those it sets itself.
    fn before(&self, task: usize) -> HashSet<String> {
        let t = &self.program.tasks[task];
        let all = t.handler || self.reordered.contains(&t.phase);
        let can = |i: usize| all || i <= task || self.program.tasks[i].phase < t.phase;
        self.first.iter().filter(|(_, i)| can(**i)).map(|(n, _)| n.clone()).collect()
    }
}
