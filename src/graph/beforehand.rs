//! What can be said before a run about the tasks that give variables: which come before which, whether one is done on a
//! host, and what it sets there.

use super::prepare::{asks_for_item, evaluate, render_node};
use super::{Dynamic, Program, Scope, Section, TaskUse, Turns};
use crate::playbook::Condition;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// The order of what tasks set, and answers that were found.
#[derive(Debug, Default)]
pub struct Beforehand {
    /// Names, each with the task that sets it first, in the order of these.
    first: Vec<(usize, String)>,
    /// By how many of them come before.
    sets: Mutex<HashMap<usize, Arc<HashSet<String>>>>,
    /// Phases in which tasks have `needs`: there, file order says little.
    reordered: HashSet<usize>,
    /// By task and host.
    done: Mutex<HashMap<(usize, usize), Answer>>,
}

/// Whether a task is done on a host.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// `None`: that shows only in the run.
    is: Option<bool>,
    /// It is the same whoever asks: nothing was left out on the way to it.
    whole: bool,
}

thread_local! {
    /// What is being asked right now, the outermost first: program, task, host.
    static ASKED: RefCell<Vec<(usize, usize, usize)>> = const { RefCell::new(vec![]) };
    /// How often a question was left out because it is being asked.
    static CUT: Cell<usize> = const { Cell::new(0) };
}

impl Beforehand {
    pub fn of(tasks: &[TaskUse]) -> Self {
        let mut all = Beforehand::default();
        let mut known: HashSet<String> = HashSet::new();
        for (i, t) in tasks.iter().enumerate() {
            let names = t.task.sets().into_iter().filter(|_| !t.left_out);
            all.first.extend(names.filter(|n| known.insert(n.clone())).map(|n| (i, n)));
            if t.task.needs.is_some() {
                all.reordered.insert(t.phase);
            }
        }
        all
    }
}

impl Program {
    /// All names that tasks of the run set.
    pub fn set_at_all(&self) -> HashSet<String> {
        self.beforehand.first.iter().map(|(_, n)| n.clone()).collect()
    }

    /// The names that can have been set when a task begins, and those it sets itself.
    pub fn set_before(&self, task: usize) -> Arc<HashSet<String>> {
        let t = &self.tasks[task];
        let b = &self.beforehand;
        let all = t.handler || b.reordered.contains(&t.phase);
        // Tasks stand phase after phase.
        let can = |i: usize| i <= task || all && self.tasks[i].phase <= t.phase;
        let count = b.first.partition_point(|(i, _)| can(*i));
        let made = || Arc::new(b.first[..count].iter().map(|(_, n)| n.clone()).collect());
        match b.sets.lock() {
            Ok(mut sets) => sets.entry(count).or_insert_with(made).clone(),
            Err(_) => made(),
        }
    }

    /// The names that can have been set when a task's own arguments are looked at: what its `set_fact` gives is not there
    /// yet, unless the task is done more than once.
    pub fn set_ahead(&self, task: usize) -> Arc<HashSet<String>> {
        let t = &self.tasks[task];
        let before = self.set_before(task);
        let plain = |w: &super::Within| matches!(*w.turns, Turns::One);
        let again = t.handler || t.task.loop_.is_some() || !t.within.iter().all(plain);
        if t.task.module.name != "set_fact" || again || self.beforehand.reordered.contains(&t.phase) {
            return before;
        }
        let all = &self.beforehand.first;
        let of_task = &all[all.partition_point(|(i, _)| *i < task)..all.partition_point(|(i, _)| *i <= task)];
        let register = t.task.register.as_ref();
        let own: Vec<&String> = of_task.iter().map(|(_, n)| n).filter(|n| register != Some(n)).collect();
        if own.is_empty() {
            return before;
        }
        Arc::new(before.iter().filter(|n| !own.contains(n)).cloned().collect())
    }

    /// Whether a task is done on a host, by its conditions; `None`: that shows only in the run.
    fn is_done(&self, task: usize, host: usize) -> Option<bool> {
        let t = &self.tasks[task];
        if t.left_out {
            return Some(false);
        }
        let plain = |w: &super::Within| w.section == Section::Main && matches!(*w.turns, Turns::One);
        if t.handler || t.run_once() || !t.within.iter().all(plain) {
            return None;
        }
        let key = (task, host);
        let own = (std::ptr::from_ref(self) as usize, task, host);
        // What is asked in the course of another question may have to leave something out that this one could answer.
        let alone = ASKED.with_borrow(Vec::is_empty);
        let whole = |a: &&Answer| alone || a.whole;
        if let Some(a) = self.beforehand.done.lock().ok()?.get(&key).filter(whole) {
            return a.is;
        }
        // A condition can ask for what the task itself gives: then nothing is known.
        if ASKED.with_borrow(|asked| asked.contains(&own)) {
            CUT.set(CUT.get() + 1);
            return None;
        }
        ASKED.with_borrow_mut(|asked| asked.push(own));
        let cuts = CUT.get();
        let is = self.wanted(task, host);
        let whole = CUT.get() == cuts;
        ASKED.with_borrow_mut(Vec::pop);
        if whole || alone {
            self.beforehand.done.lock().ok()?.insert(key, Answer { is, whole });
        }
        is
    }

    fn wanted(&self, task: usize, host: usize) -> Option<bool> {
        let t = &self.tasks[task];
        let (dynamic, pending) = (Dynamic::beforehand(), self.set_before(task));
        let scope = Scope::new(self, host, Some(t), &dynamic, &pending);
        let of_item = |c: &Condition| t.task.loop_.as_ref().is_some_and(|l| asks_for_item(c, l));
        let mut sure = Some(true);
        for c in t.outer_when.iter().chain(&t.task.when) {
            match if of_item(c) { Ok(None) } else { evaluate(c, &scope).map(Some) } {
                Ok(Some(false)) => return Some(false),
                Ok(Some(true)) => {}
                Ok(None) | Err(_) => sure = None,
            }
        }
        sure
    }

    /// No task gives the host this variable, whatever happens: their conditions do not hold there.
    pub fn is_never_set(&self, name: &str, host: &str) -> bool {
        let (Some(tasks), Some(host)) = (self.setters.get(name), self.host_index(host)) else { return false };
        let gives = |t: &usize| self.tasks[*t].task.register.as_deref() == Some(name);
        !tasks.iter().any(|t| gives(t) || self.is_done(*t, host) != Some(false))
    }

    /// The task that gives a host's registered result is never done there: the result says that it was skipped.
    pub fn is_skipped(&self, task: usize, host: &str) -> bool {
        self.host_index(host).is_some_and(|h| self.is_done(task, h) == Some(false))
    }

    /// What a variable is when a task begins, where one `set_fact` before it gives it for sure.
    pub fn set_for_sure(&self, name: &str, asking: &TaskUse, host: &str) -> Option<Value> {
        let [setter] = self.setters.get(name)?[..] else { return None };
        let t = &self.tasks[setter];
        let own = t.task.register.as_deref() == Some(name) || t.task.loop_.is_some() || t.delegate_to().is_some();
        let needs = self.playbook.phases.iter().any(|p| p.needs.is_some());
        let b = &self.beforehand;
        if t.task.module.name != "set_fact" || own || needs || asking.handler || b.reordered.contains(&t.phase) {
            return None;
        }
        let before = self.tasks[setter + 1..].iter().any(|a| std::ptr::eq(a, asking)) && t.phase <= asking.phase;
        // What fails in a block before it, and is made good, leaves it out.
        let reached = |w: &super::Within| match asking.within.iter().find(|a| a.id == w.id) {
            Some(a) => a.section == w.section,
            None => !w.rescued,
        };
        let host = self.host_index(host)?;
        let meant = self.batches[t.phase].iter().flatten().any(|h| *h == host);
        if !meant || !before || !t.within.iter().all(reached) || self.is_done(setter, host) != Some(true) {
            return None;
        }
        let dynamic = Dynamic::beforehand();
        let mut pending = (*self.set_before(setter)).clone();
        let own = t.task.sets();
        pending.retain(|n| !own.contains(n));
        render_node(t.task.args.get(name)?, &Scope::new(self, host, Some(t), &dynamic, &pending)).ok()
    }
}
