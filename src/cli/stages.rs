//! A playbook that makes groups or hosts is laid out in stages: what comes behind these, when they are known.

use super::project::{self, Project};
use crate::graph::{self, Learned};
use crate::inventory::{Inventory, Made};
use crate::playbook::{Making, Playbook, pattern};
use crate::source::{Diagnostics, Source, Span};
use crate::template::Templates;
use fancy_regex::Regex;
use std::ops::Range;
use std::sync::Arc;

/// What is needed to lay out the stages that are to come.
#[derive(Clone)]
pub struct Stages {
    pub playbook: Arc<Playbook>,
    pub inventory: Inventory,
    pub templates: Arc<Templates>,
    pub options: graph::Options,
    /// The stages that are not laid out yet, in order.
    pub left: Vec<Range<usize>>,
}

impl Stages {
    /// The next stage, with what hosts have made so far; `None`: there is none.
    pub fn next(&mut self, learned: &Learned, found: &mut Diagnostics) -> Option<Project> {
        if self.left.is_empty() {
            return None;
        }
        let stage = self.left.remove(0);
        // A group that nobody came to be in is one without hosts.
        add_made(&self.playbook, &mut self.inventory, false);
        let source = Source::new("what the run has made", "");
        let span = Span::new(&source, 0..0);
        let mut hosts: Vec<_> = learned.vars.iter().collect();
        hosts.sort_by_key(|(h, _)| h.as_str());
        for (host, facts) in hosts {
            self.inventory.take_in(host, Made::from_facts(facts), &span);
        }
        if self.options.check_mode {
            add_not_made(&self.playbook, &mut self.inventory);
        }
        if let Some(limit) = &mut self.options.limit {
            // What is new was not there to be named.
            let new = self.inventory.hosts.values().filter(|h| h.span.as_ref().is_some_and(|s| *s == span));
            new.for_each(|h| limit.extend([":", &h.name]));
        }
        let options = graph::Options { stage: Some(stage), ..self.options.clone() };
        let program =
            graph::compile(self.playbook.clone(), self.inventory.clone(), self.templates.clone(), &options, found);
        Some(project::laid_out(program, found))
    }
}

/// The names of groups that tasks of a playbook make.
pub fn groups_made(playbook: &Playbook) -> Vec<Regex> {
    let names = playbook.makes().into_iter().filter(|(what, ..)| *what != Making::Host);
    names.filter_map(|(_, name, _)| as_pattern(&name)).collect()
}

fn as_pattern(name: &str) -> Option<Regex> {
    pattern(name).or_else(|| Regex::new(&format!("^{}$", fancy_regex::escape(&name.replace(' ', "-")))).ok())
}

/// The inventory as it may be when all is made: for the check, every host is in every group it could come to be in.
pub fn as_if_made(playbook: &Playbook, inventory: &Inventory) -> Inventory {
    let mut all = inventory.clone();
    add_made(playbook, &mut all, true);
    all
}

/// Hosts with plain names that a plan could not make, since what they get shows only in an apply.
fn add_not_made(playbook: &Playbook, all: &mut Inventory) {
    for (what, name, span) in playbook.makes() {
        if what == Making::Host && !name.contains("{{") && !all.hosts.contains_key(&name) {
            all.take_in("", vec![Made::Host { name: name.clone(), groups: vec![], vars: Default::default() }], &span);
            all.hosts.get_mut(&name).into_iter().for_each(|h| h.to_be_made = true);
        }
    }
}

/// Adds the groups that a playbook makes and names: `full`, with the hosts that could come to be in them.
fn add_made(playbook: &Playbook, all: &mut Inventory, full: bool) {
    let hosts: Vec<String> = all.hosts.keys().filter(|_| full).cloned().collect();
    let texts = playbook.phases.iter().map(|p| p.hosts.text.as_str());
    let named: Vec<&str> =
        texts.flat_map(|t| t.split([':', ',', '&', '!', '[', ' '])).filter(|w| !w.is_empty()).collect();
    for (what, name, span) in playbook.makes() {
        let plain = (!name.contains("{{")).then(|| name.replace(' ', "-"));
        let is = as_pattern(&name);
        let meant = named.iter().filter(|w| is.as_ref().is_some_and(|p| p.is_match(w).unwrap_or(false)));
        let names: Vec<String> = meant.map(|w| w.to_string()).chain(plain).collect();
        for n in names {
            let known = all.groups.contains_key(&n) || all.hosts.contains_key(&n);
            match what {
                Making::Host if full && !known => {
                    let made = Made::Host { name: n.clone(), groups: vec![], vars: Default::default() };
                    all.take_in("", vec![made], &span);
                    all.hosts.get_mut(&n).into_iter().for_each(|h| h.to_be_made = true);
                }
                Making::Host => {}
                Making::Group => all.make_group(&n, &[], Some(&span)),
                Making::GroupOfAll => {
                    all.make_group(&n, &[], Some(&span));
                    hosts.iter().for_each(|h| all.join_group(h, &n));
                }
            }
        }
    }
}
