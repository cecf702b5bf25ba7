//! The graph's nodes and edges.

use super::compile::sets;
use super::{Edge, Node, Program, StepGraph, StepIndex, TaskUse};
use crate::inventory;
use crate::source::{Diagnostic, Diagnostics, Span, nearest};
use petgraph::visit::EdgeRef;
use std::collections::{HashMap, HashSet};

/// A phase's share of the graph: indices of hosts and tasks.
pub struct PhasePlan {
    pub hosts: Vec<usize>,
    pub tasks: Vec<usize>,
    pub handlers: Vec<usize>,
}

pub fn build(program: &Program, plan: &[PhasePlan], found: &mut Diagnostics) -> StepGraph {
    let mut b = Builder {
        program,
        graph: StepGraph::default(),
        steps: HashMap::new(),
        ids: HashMap::new(),
        last: HashMap::new(),
        ends: vec![],
    };
    b.ids(found);
    for (index, phase) in plan.iter().enumerate() {
        b.phase(index, phase, plan, found);
    }
    b.task_needs(plan, found);
    b.hostvars(plan);
    if let Some(d) = b.cycle() {
        found.push(d);
    }
    b.graph
}

struct Builder<'p> {
    program: &'p Program,
    graph: StepGraph,
    steps: HashMap<(usize, usize), StepIndex>,
    /// Tasks by their id.
    ids: HashMap<String, usize>,
    /// Per phase and host: the nodes after which the host is done with the phase.
    last: HashMap<(usize, usize), Vec<StepIndex>>,
    /// Per phase: its gate.
    ends: Vec<StepIndex>,
}

impl Builder<'_> {
    fn edge(&mut self, from: StepIndex, to: StepIndex, kind: Edge) {
        if from == to {
            return;
        }
        match self.graph.find_edge(from, to) {
            // Of two reasons to wait the stronger holds.
            Some(e) if kind == Edge::Needs => self.graph[e] = kind,
            Some(_) => {}
            None => {
                self.graph.add_edge(from, to, kind);
            }
        }
    }

    fn ids(&mut self, found: &mut Diagnostics) {
        let all = self.program.tasks.iter().enumerate().filter(|(_, t)| !t.handler);
        for (i, t) in all {
            let Some(id) = &t.task.id else { continue };
            if let Some(&twin) = self.ids.get(id) {
                // The same task reached through a role that is used twice is one id, not two.
                if !std::ptr::eq(&*self.program.tasks[twin].task, &*t.task) {
                    let d = Diagnostic::error(format!("two tasks have the id `{id}`")).at(t.span());
                    found
                        .push(d.also(self.program.tasks[twin].span(), "the first").hint("give one of them another id"));
                }
                continue;
            }
            self.ids.insert(id.clone(), i);
        }
    }

    fn phase(&mut self, index: usize, phase: &PhasePlan, plan: &[PhasePlan], found: &mut Diagnostics) {
        let gate = self.graph.add_node(Node::Gate { phase: index });
        let starts = self.before(index, found);
        for &host in &phase.hosts {
            let mut previous: Option<StepIndex> = None;
            // Nothing behind them yet: what the handlers wait for.
            let mut open: Vec<StepIndex> = vec![];
            let mut first: Vec<StepIndex> = vec![];
            for &task in &phase.tasks {
                let node = self.step(task, host);
                match &self.program.tasks[task].task.needs {
                    None => match previous {
                        Some(p) => {
                            self.edge(p, node, Edge::Needs);
                            open.retain(|o| *o != p);
                        }
                        None => first.push(node),
                    },
                    // Its edges come with all the other `needs`, when every step exists.
                    Some(_) => first.push(node),
                }
                open.push(node);
                previous = Some(node);
            }
            for &task in &phase.handlers {
                let node = self.step(task, host);
                if open.is_empty() {
                    first.push(node);
                }
                for o in std::mem::take(&mut open) {
                    self.edge(o, node, Edge::Needs);
                }
                open.push(node);
            }
            for &f in &first {
                for (before, kind) in &starts {
                    self.edge(*before, f, *kind);
                }
                for p in self.earlier(index, host, plan) {
                    self.edge(p, f, Edge::Needs);
                }
            }
            for &o in &open {
                self.edge(o, gate, Edge::Needs);
            }
            if open.is_empty() {
                open = self.earlier(index, host, plan);
            }
            self.last.insert((index, host), open);
        }
        for (before, kind) in starts {
            self.edge(before, gate, kind);
        }
        self.ends.push(gate);
    }

    /// The gates a phase waits for.
    fn before(&self, index: usize, found: &mut Diagnostics) -> Vec<(StepIndex, Edge)> {
        let phases = &self.program.playbook.phases;
        let Some(needs) = &phases[index].needs else {
            // The phase above: its hosts must all be through, but one that failed there does not keep the others back.
            return self.ends.last().map(|g| (*g, Edge::After)).into_iter().collect();
        };
        let mut gates = vec![];
        for n in needs {
            match phases.iter().position(|p| p.name == n.phase) {
                Some(i) if i < index => {
                    if !n.same_host {
                        gates.push((self.ends[i], Edge::Needs));
                    }
                }
                Some(i) if i == index => found.push(
                    Diagnostic::error(format!("the phase `{}` needs itself", n.phase))
                        .at(&n.span)
                        .hint("take it out; `needs: []` lets a phase begin at once"),
                ),
                Some(i) => found.push(
                    Diagnostic::error(format!(
                        "the phase `{}` comes later: a phase can only need those above it",
                        n.phase
                    ))
                    .at(&n.span)
                    .also(&phases[i].span, "it stands here")
                    .hint(format!("move `{}` above this phase", n.phase)),
                ),
                None if self.program.playbook.partial => {}
                None => {
                    let d = Diagnostic::error(format!("there is no phase `{}`", n.phase)).at(&n.span);
                    let others: Vec<&str> = phases[..index].iter().map(|p| p.name.as_str()).collect();
                    found.push(match nearest(&n.phase, phases.iter().map(|p| p.name.as_str())) {
                        Some(near) => d.hint(format!("did you mean `{near}`?")),
                        None if others.is_empty() => d.hint("no phase stands above this one"),
                        None => d.hint(format!("above it there is: {}", others.join(", "))),
                    });
                }
            }
        }
        gates
    }

    /// On the same host: the last steps of the phases this one comes after.
    fn earlier(&self, index: usize, host: usize, plan: &[PhasePlan]) -> Vec<StepIndex> {
        let phases = &self.program.playbook.phases;
        let named: Vec<usize> = match &phases[index].needs {
            None => (0..index).rev().find(|i| plan[*i].hosts.contains(&host)).into_iter().collect(),
            Some(needs) => {
                needs.iter().filter_map(|n| phases[..index].iter().position(|p| p.name == n.phase)).collect()
            }
        };
        named.iter().flat_map(|i| self.last.get(&(*i, host)).cloned().unwrap_or_default()).collect()
    }

    fn step(&mut self, task: usize, host: usize) -> StepIndex {
        let node = self.graph.add_node(Node::Step { task, host });
        self.steps.insert((task, host), node);
        node
    }

    fn task_needs(&mut self, plan: &[PhasePlan], found: &mut Diagnostics) {
        let mut edges = vec![];
        for (i, t) in self.program.tasks.iter().enumerate() {
            for n in t.task.needs.iter().flatten() {
                let Some(&on) = self.ids.get(&n.id) else {
                    if self.program.playbook.partial {
                        continue;
                    }
                    let d = Diagnostic::error(format!("no task has the id `{}`", n.id)).at(&n.span);
                    let mut ids: Vec<&str> = self.ids.keys().map(String::as_str).collect();
                    ids.sort_unstable();
                    let phase = self.program.playbook.phases.iter().any(|p| p.name == n.id);
                    found.push(match nearest(&n.id, ids.iter().copied()) {
                        _ if phase => d.hint("this is a phase: put the `needs` on the phase, not on a task"),
                        Some(near) => d.hint(format!("did you mean `{near}`?")),
                        None if ids.is_empty() => d.hint("no task has an `id:`; give the one that is meant its own"),
                        None => d.hint(format!("there is: {}", ids.join(", "))),
                    });
                    continue;
                };
                let on_hosts: Option<HashSet<usize>> = match &n.hosts {
                    None => None,
                    Some(p) => match inventory::select(&self.program.inventory, p) {
                        Ok(h) => Some(h.into_iter().filter_map(|h| self.program.host_index(h)).collect()),
                        Err(_) if self.program.inventory.partial_hosts => continue,
                        Err(e) => {
                            found.push(e.diagnostic(&n.span));
                            continue;
                        }
                    },
                };
                for &host in &plan[t.phase].hosts {
                    let Some(&to) = self.steps.get(&(i, host)) else { continue };
                    for &other in &plan[self.program.tasks[on].phase].hosts {
                        let meant = on_hosts.as_ref().map_or(other == host, |s| s.contains(&other));
                        if meant && let Some(&from) = self.steps.get(&(on, other)) {
                            if from == to {
                                found.push(
                                    Diagnostic::error(format!("the task `{}` needs itself", n.id))
                                        .at(&n.span)
                                        .hint("take it out; `needs: []` lets a task begin at once"),
                                );
                            }
                            edges.push((from, to));
                        }
                    }
                }
            }
        }
        edges.into_iter().for_each(|(a, b)| self.edge(a, b, Edge::Needs));
    }

    /// A template that reads what another host registers waits for that host.
    fn hostvars(&mut self, plan: &[PhasePlan]) {
        let mut edges = vec![];
        for (i, t) in self.program.tasks.iter().enumerate() {
            let words = self.hostvars_words(t);
            if words.is_empty() {
                continue;
            }
            for (j, other) in self.program.tasks[..i].iter().enumerate() {
                if !sets(&other.task).iter().any(|n| words.contains(n)) {
                    continue;
                }
                for &host in &plan[t.phase].hosts {
                    let Some(&to) = self.steps.get(&(i, host)) else { continue };
                    for &o in plan[other.phase].hosts.iter().filter(|o| **o != host) {
                        if let Some(&from) = self.steps.get(&(j, o)) {
                            edges.push((from, to));
                        }
                    }
                }
            }
        }
        edges.into_iter().for_each(|(a, b)| self.edge(a, b, Edge::After));
    }

    fn hostvars_words(&self, t: &TaskUse) -> HashSet<String> {
        let mut words = HashSet::new();
        let mut note = |text: &str| {
            if text.contains("hostvars") {
                words.extend(text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_string));
            }
        };
        t.task.args.walk(&mut |n| n.as_str().into_iter().for_each(&mut note));
        let conditions = [&t.task.when, &t.outer_when, &t.task.until, &t.task.failed_when, &t.task.changed_when];
        conditions.into_iter().flatten().for_each(|c| note(&c.text));
        t.task.vars.values().for_each(|v| note(&v.value.to_string()));
        if let Some(r) = &t.role {
            r.params
                .values()
                .chain(r.role.vars.values())
                .chain(r.role.defaults.values())
                .for_each(|v| note(&v.value.to_string()));
        }
        if t.task.module.name == "template"
            && let Some(src) = t.task.args.get("src").and_then(|n| n.as_str())
            && let Ok(path) = super::prepare::find_file(self.program, t, crate::modules::FileKind::Template, src)
            && let Ok(text) = std::fs::read_to_string(path)
        {
            note(&text);
        }
        words
    }

    /// A cycle, as the path of steps that leads round it.
    fn cycle(&self) -> Option<Diagnostic> {
        let ring = petgraph::algo::tarjan_scc(&self.graph).into_iter().find(|c| c.len() > 1)?;
        let inside: HashSet<StepIndex> = ring.iter().copied().collect();
        // A walk that stays inside a strongly connected part comes back to a node it has seen.
        let mut path = vec![*ring.iter().min()?];
        loop {
            let at = *path.last()?;
            let next = self.graph.edges(at).map(|e| e.target()).filter(|n| inside.contains(n)).min()?;
            if let Some(i) = path.iter().position(|n| *n == next) {
                path.drain(..i);
                path.push(next);
                break;
            }
            path.push(next);
        }
        let describe = |n: &StepIndex| match self.graph[*n] {
            Node::Step { task, host } => {
                let t = &self.program.tasks[task];
                let name = t.task.id.clone().unwrap_or_else(|| t.title());
                (format!("{name} on {}", self.program.hosts[host].name), Some(t.span().clone()))
            }
            Node::Gate { phase } => (format!("the end of phase {}", self.program.playbook.phases[phase].name), None),
        };
        let words: Vec<String> = path.iter().map(|n| describe(n).0).collect();
        let spans: Vec<Span> = path.iter().filter_map(|n| describe(n).1).collect();
        let mut d = Diagnostic::error(format!("tasks wait for each other: {}", words.join(" -> ")));
        if let Some(first) = spans.first() {
            d = d.at(first);
        }
        for (i, s) in spans.iter().enumerate().skip(1) {
            if !spans[..i].contains(s) {
                d = d.also(s, "in the circle");
            }
        }
        Some(d.hint("take one of these `needs` away"))
    }
}
