//! The graph's nodes and edges.

use super::{Edge, Node, Program, Section, StepGraph, StepIndex, Turns, others};
use crate::inventory;
use crate::source::{Diagnostic, Diagnostics, Span, nearest};
use petgraph::visit::EdgeRef;
use std::collections::{HashMap, HashSet};

/// A phase's share of the graph: indices of hosts and tasks.
pub struct PhasePlan {
    pub hosts: Vec<usize>,
    /// The same hosts, as `serial` cuts them.
    pub batches: Vec<Vec<usize>>,
    pub tasks: Vec<usize>,
    pub handlers: Vec<usize>,
}

pub fn build(program: &Program, plan: &[PhasePlan], found: &mut Diagnostics) -> StepGraph {
    let mut b = Builder {
        program,
        graph: StepGraph::default(),
        steps: HashMap::new(),
        ids: HashMap::new(),
        joins: HashMap::new(),
        last: HashMap::new(),
        once: HashMap::new(),
        ends: vec![],
        reads: Reads::of(program, plan),
    };
    b.ids(found);
    for (index, phase) in plan.iter().enumerate() {
        b.phase(index, phase, plan, found);
    }
    b.task_needs(plan, found);
    b.hostvars(plan);
    b.waits_in_holds(found);
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
    /// By block and host: the end of what is taken in as often as a step finds.
    joins: HashMap<(usize, usize), StepIndex>,
    /// Per phase and host: the nodes after which the host is done with the phase.
    last: HashMap<(usize, usize), Vec<StepIndex>>,
    /// Of the batch at hand, by task and round: the first and the last host's node of what is done once.
    once: HashMap<(usize, usize), (StepIndex, StepIndex)>,
    /// Per phase: its gate.
    ends: Vec<StepIndex>,
    reads: Reads,
}

/// What hosts read of each other.
struct Reads {
    /// By task: the names it takes out of `hostvars`.
    by_task: HashMap<usize, HashSet<String>>,
    /// The first phase in which facts of other hosts are read.
    first: Option<usize>,
    /// Where a host tells its own.
    told: HashMap<usize, StepIndex>,
    /// In the row that is being laid, they can be told.
    in_row: bool,
}

impl Reads {
    fn of(program: &Program, plan: &[PhasePlan]) -> Self {
        let all = others::Others::of(program);
        let mut by_task = HashMap::new();
        let done: HashSet<usize> = plan
            .iter()
            .filter(|p| !p.hosts.is_empty())
            .flat_map(|p| p.tasks.iter().chain(&p.handlers))
            .copied()
            .collect();
        for (i, t) in program.tasks.iter().enumerate().filter(|(i, _)| done.contains(i)) {
            let words = all.read_by(t);
            if !words.is_empty() {
                by_task.insert(i, words);
            }
        }
        let of_facts = |i: &&usize| by_task[*i].iter().any(|w| others::is_fact(w));
        // On one host alone, there is nobody else to read of.
        let reading = by_task.keys().filter(of_facts).filter(|_| program.hosts.len() > 1);
        let first = reading.map(|i| program.tasks[*i].phase).min();
        Reads { by_task, first, told: HashMap::new(), in_row: false }
    }
}

/// The way through a phase on one host, as far as it is laid.
#[derive(Default)]
struct Chain {
    /// What the next node waits for.
    previous: Vec<(StepIndex, Edge)>,
    /// Nodes with nothing of this phase before them on this host.
    first: Vec<StepIndex>,
    /// Nodes with nothing behind them yet.
    open: Vec<StepIndex>,
    /// A node of this host is in it.
    begun: bool,
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
        let mut starts = self.before(index, found);
        let tells = self.reads.first.is_some_and(|first| index <= first);
        if tells {
            // A later batch is begun only when this one is through, which may read their facts.
            self.tell_beside(phase.batches.iter().skip(1).flatten().copied(), &starts);
        }
        if self.reads.first == Some(index) {
            self.tell_beside((0..self.program.hosts.len()).filter(|h| !phase.hosts.contains(h)), &starts);
        }
        let rounds = self.rounds(&phase.handlers);
        for (batch, hosts) in phase.batches.iter().enumerate() {
            let gate = self.graph.add_node(Node::Gate { phase: index, batch });
            self.once.clear();
            for &host in hosts {
                let mut chain = Chain::default();
                self.reads.in_row = tells;
                self.row(&phase.tasks, 0, host, hosts, &mut chain);
                self.tell_before(None, host, &mut chain);
                self.reads.in_row = false;
                chain.previous.clear();
                // Where they are run whatever became of the tasks, they say nothing of these.
                let force = self.program.playbook.phases[index].force_handlers && !phase.handlers.is_empty();
                let tasks = if force { chain.open.clone() } else { vec![] };
                let mut kind = if force { Edge::After } else { Edge::Needs };
                for round in 0..rounds {
                    for &task in &phase.handlers {
                        chain.previous = std::mem::take(&mut chain.open).into_iter().map(|o| (o, kind)).collect();
                        let node = match round {
                            0 => self.step(task, host),
                            _ => self.graph.add_node(Node::Step { task, host }),
                        };
                        self.lay(node, &mut chain);
                        self.stand_by(task, round, node);
                        kind = Edge::Needs;
                    }
                }
                chain.open.extend(tasks);
                for &f in &chain.first {
                    for (before, kind) in &starts {
                        self.edge(*before, f, *kind);
                    }
                    for p in self.earlier(index, host, plan) {
                        self.edge(p, f, Edge::Needs);
                    }
                }
                for &o in &chain.open {
                    self.edge(o, gate, Edge::Needs);
                }
                let open = if chain.open.is_empty() { self.earlier(index, host, plan) } else { chain.open };
                self.last.insert((index, host), open);
            }
            for (before, kind) in starts {
                self.edge(before, gate, kind);
            }
            starts = vec![(gate, Edge::Batch)];
        }
        self.ends.extend(starts.first().map(|(gate, _)| *gate));
    }

    /// How often the row of handlers is to be gone through: a handler that notifies one above it has that done in the
    /// next round.
    fn rounds(&self, handlers: &[usize]) -> usize {
        let tasks = &self.program.tasks;
        let calls_up = |(at, h): &(usize, &usize)| {
            let mut names = tasks[**h].task.notify.iter();
            names.any(|n| n.text.contains("{{") || handlers[..*at].iter().any(|o| super::hears(&tasks[*o], &n.text)))
        };
        1 + handlers.iter().enumerate().filter(calls_up).count()
    }

    /// A list of tasks at one depth of blocks, for one host. `batch` are the hosts that have it; the first does what is to be
    /// done once.
    fn row(&mut self, tasks: &[usize], depth: usize, host: usize, batch: &[usize], chain: &mut Chain) {
        let program = self.program;
        let mut at = 0;
        while at < tasks.len() {
            if depth == 0 {
                self.tell_before(Some(tasks[at]), host, chain);
            }
            let Some(block) = program.tasks[tasks[at]].within.get(depth).map(|w| w.id) else {
                self.task(tasks[at], host, batch, chain);
                at += 1;
                continue;
            };
            let inside = |t: &&usize| program.tasks[**t].within.get(depth).is_some_and(|w| w.id == block);
            let end = at + tasks[at..].iter().take_while(inside).count();
            let (tasks, from) = (&tasks[at..end], &program.hosts);
            at = end;
            let fewer: Vec<usize>;
            let mut batch = batch;
            if let Turns::Known(hosts) = &*program.blocks[block].turns {
                fewer = batch.iter().copied().filter(|h| hosts.contains_key(&from[*h].name)).collect();
                batch = &fewer;
                if !batch.contains(&host) {
                    continue;
                }
            }
            if program.blocks[block].has_parts() {
                self.block(block, tasks, depth, host, batch, chain);
            } else {
                self.row(tasks, depth + 1, host, batch, chain);
            }
        }
    }

    fn task(&mut self, task: usize, host: usize, batch: &[usize], chain: &mut Chain) {
        let used = &self.program.tasks[task];
        let leader = batch[0];
        if used.run_once() && self.is_led(task) && host != leader {
            // It is the leader's; this host waits for it as for its own.
            if let Some(&node) = self.steps.get(&(task, leader)) {
                self.steps.insert((task, host), node);
                chain.previous.push((node, Edge::Needs));
                chain.open.push(node);
            }
            return;
        }
        let node = self.step(task, host);
        if used.task.leaves_the_row() {
            // Its edges come with all the other `needs`, when every step exists.
            chain.first.push(node);
            chain.begun = true;
            chain.open.push(node);
            chain.previous = vec![(node, Edge::Needs)];
        } else {
            self.lay(node, chain);
        }
        self.stand_by(task, 0, node);
    }

    /// What is done once is done by the first host that comes to it: the others stand by, each for those before it.
    fn stand_by(&mut self, task: usize, round: usize, node: StepIndex) {
        if !self.program.tasks[task].run_once() || self.is_led(task) {
            return;
        }
        let (first, before) = self.once.get(&(task, round)).copied().unwrap_or((node, node));
        self.once.insert((task, round), (first, node));
        if before == node {
            return;
        }
        if self.program.tasks[task].handler {
            // It is done for what all of them have notified.
            let to_come: Vec<StepIndex> = self.graph.neighbors_directed(node, petgraph::Direction::Incoming).collect();
            to_come.into_iter().for_each(|n| self.edge(n, first, Edge::After));
        }
        self.graph.add_edge(before, node, Edge::Standby);
    }

    /// What is taken in as often as is known only in the run, and done once, is all the first host's.
    fn is_led(&self, task: usize) -> bool {
        self.program.tasks[task].is_led()
    }

    /// Puts a node behind what is there.
    fn lay(&mut self, node: StepIndex, chain: &mut Chain) {
        if !chain.begun {
            chain.first.push(node);
            chain.begun = true;
        }
        for (p, kind) in std::mem::take(&mut chain.previous) {
            self.edge(p, node, kind);
            chain.open.retain(|o| *o != p);
        }
        chain.open.push(node);
        chain.previous = vec![(node, Edge::Needs)];
    }

    /// A block whose parts are told apart: the tasks, what is done if they fail, what is done in any case, and the giving
    /// back of what it holds. Between them stand joins that know how the part before them ended.
    fn block(&mut self, block: usize, tasks: &[usize], depth: usize, host: usize, batch: &[usize], chain: &mut Chain) {
        let program = self.program;
        let look = match *program.blocks[block].turns {
            Turns::Later { look, .. } => Some(look),
            _ => None,
        };
        if look.is_some_and(|l| program.tasks[l].run_once())
            && host != batch[0]
            && let Some(&join) = self.joins.get(&(block, batch[0]))
        {
            // All of it is the leader's.
            chain.previous.push((join, Edge::Needs));
            chain.open.push(join);
            return;
        }
        let mark = self.graph.node_count();
        let of = |section: Section| -> Vec<usize> {
            let is = |t: &&usize| program.tasks[**t].within[depth].section == section;
            tasks.iter().filter(is).copied().collect()
        };
        let parts = &program.blocks[block].block;
        let mut end = self.part(block, Section::Main, &of(Section::Main), None, depth, host, batch, chain);
        if let Some(&look) = look.and_then(|l| self.steps.get(&(l, host))) {
            for n in mark..self.graph.node_count() {
                self.graph.add_edge(look, StepIndex::new(n), Edge::Loop);
            }
            self.joins.insert((block, host), end);
        }
        if program.blocks[block].rescued {
            let entry = Some((end, Edge::Rescue));
            end = self.part(block, Section::Rescue, &of(Section::Rescue), entry, depth, host, batch, chain);
        }
        if parts.always.is_none() && parts.keys.hold.is_empty() {
            return;
        }
        let entry = Some((end, Edge::Always));
        let last = self.part(block, Section::Always, &of(Section::Always), entry, depth, host, batch, chain);
        if !parts.keys.hold.is_empty() {
            let release = self.graph.add_node(Node::Release { block, host });
            self.edge(end, release, Edge::Always);
            let before: Vec<StepIndex> =
                self.graph.neighbors_directed(last, petgraph::Direction::Incoming).filter(|n| *n != end).collect();
            before.into_iter().for_each(|n| self.edge(n, release, Edge::After));
            self.edge(release, last, Edge::After);
        }
    }

    /// One part of a block, and the join behind it. `entry` is the join of the part before.
    #[allow(clippy::too_many_arguments)]
    fn part(
        &mut self,
        block: usize,
        part: Section,
        tasks: &[usize],
        entry: Option<(StepIndex, Edge)>,
        depth: usize,
        host: usize,
        batch: &[usize],
        chain: &mut Chain,
    ) -> StepIndex {
        let leader = batch[0];
        if let Some(entry) = entry {
            chain.previous = vec![entry];
        }
        let mark = self.graph.node_count();
        self.row(tasks, depth + 1, host, batch, chain);
        let inside: Vec<StepIndex> = (mark..self.graph.node_count()).map(StepIndex::new).collect();
        let join = self.graph.add_node(Node::Join { block, host, part });
        // Every step of the part speaks for how it ended, those of blocks inside through their last join.
        let direct =
            |within: &[super::Within]| !within.iter().skip(depth + 1).any(|w| self.program.blocks[w.id].has_parts());
        let own = |n: &StepIndex| match self.graph[*n] {
            Node::Step { task, .. } => direct(&self.program.tasks[task].within),
            Node::Join { block: b, part, .. } => part == self.last_part(b) && direct(&self.program.blocks[b].within),
            Node::Release { .. } | Node::Gate { .. } | Node::Facts { .. } | Node::AllFacts => false,
        };
        let own: Vec<StepIndex> = inside.iter().filter(|n| own(n)).copied().collect();
        if let Some((before, kind)) = entry {
            if kind == Edge::Rescue {
                for n in &inside {
                    self.edge(before, *n, Edge::Rescue);
                }
            }
            self.edge(before, join, Edge::After);
        }
        // With no step of this host's own: as if the join stood in the row.
        // What another host does once for all is part of it on every host.
        let program = self.program;
        let led = |t: usize| program.tasks[t].run_once() && program.tasks[t].is_led();
        for &t in tasks.iter().filter(|t| led(**t) && host != leader) {
            if direct(&program.tasks[t].within)
                && let Some(&node) = self.steps.get(&(t, leader))
            {
                self.edge(node, join, Edge::After);
                chain.previous.retain(|(p, _)| *p != node);
                chain.open.retain(|o| *o != node);
            }
        }
        if own.is_empty() {
            self.lay(join, chain);
        }
        for n in own {
            self.edge(n, join, Edge::After);
        }
        for (p, _) in std::mem::take(&mut chain.previous) {
            self.edge(p, join, Edge::After);
        }
        chain.open.retain(|o| !inside.contains(o) && *o != join && Some(*o) != entry.map(|e| e.0));
        chain.open.push(join);
        chain.previous = vec![(join, Edge::Needs)];
        join
    }

    /// The part whose join says how the whole block ended.
    fn last_part(&self, block: usize) -> Section {
        let b = &self.program.blocks[block].block;
        if b.always.is_some() || !b.keys.hold.is_empty() {
            Section::Always
        } else if self.program.blocks[block].rescued {
            Section::Rescue
        } else {
            Section::Main
        }
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
                            edges.push((self.seen_from(from, to), to));
                        }
                    }
                }
            }
        }
        edges.into_iter().for_each(|(a, b)| self.edge(a, b, Edge::Needs));
    }

    /// A template that reads what another host registers waits for that host.
    /// Who reads what other hosts set waits until they have, and for the facts they tell.
    fn hostvars(&mut self, plan: &[PhasePlan]) {
        let all = self.reads.first.map(|_| self.graph.add_node(Node::AllFacts));
        let mut edges: Vec<(StepIndex, StepIndex)> = vec![];
        edges.extend(all.into_iter().flat_map(|all| self.reads.told.values().map(move |n| (*n, all))));
        for (i, t) in self.program.tasks.iter().enumerate() {
            let Some(words) = self.reads.by_task.get(&i) else { continue };
            let facts = words.iter().any(|w| others::is_fact(w));
            let readers = plan[t.phase].hosts.iter().filter_map(|h| Some((*h, *self.steps.get(&(i, *h))?)));
            let readers: Vec<(usize, StepIndex)> = readers.collect();
            if let Some(all) = all.filter(|_| facts) {
                edges.extend(readers.iter().map(|(_, to)| (all, *to)));
            }
            for (j, other) in self.program.tasks[..i].iter().enumerate() {
                let anew = facts && other.task.module.name == "setup";
                if !anew && !other.task.sets().iter().any(|n| words.contains(n)) {
                    continue;
                }
                for &(host, to) in &readers {
                    // A later batch of the phase is not begun before this one is through.
                    let batch = |h: usize| self.program.batch_of(t.phase, h).map_or(0, |(b, _)| b);
                    let can = |o: usize| other.phase != t.phase || batch(o) <= batch(host);
                    for &o in plan[other.phase].hosts.iter().filter(|o| **o != host && can(**o)) {
                        if let Some(&from) = self.steps.get(&(j, o)) {
                            edges.push((self.seen_from(from, to), to));
                        }
                    }
                }
            }
        }
        edges.into_iter().for_each(|(a, b)| self.edge(a, b, Edge::After));
    }

    /// Hosts that have not told their facts when the first phase begins that reads them, or can be asked only out of
    /// their row: what is before that phase is all they wait for.
    fn tell_beside(&mut self, hosts: impl Iterator<Item = usize>, starts: &[(StepIndex, Edge)]) {
        for host in hosts {
            if self.reads.told.contains_key(&host) {
                continue;
            }
            let node = self.graph.add_node(Node::Facts { host, early: true });
            self.reads.told.insert(host, node);
            starts.iter().for_each(|(before, _)| self.edge(*before, node, Edge::After));
        }
    }

    /// A host tells its facts before its first task, but not before it can be reached.
    fn tell_before(&mut self, task: Option<usize>, host: usize, chain: &mut Chain) {
        let waits = |t: usize| {
            let used = &self.program.tasks[t];
            let other = used.delegate_to().is_some() || matches!(used.task.module.name, "pause" | "wait_for");
            (other || used.task.module.name == "wait_for_connection") && !self.reads.by_task.contains_key(&t)
        };
        if !self.reads.in_row || self.reads.told.contains_key(&host) || task.is_some_and(waits) {
            return;
        }
        let node = self.graph.add_node(Node::Facts { host, early: false });
        self.reads.told.insert(host, node);
        self.lay(node, chain);
    }

    /// Inside what one host at a time may hold, nobody can wait for another host to come to the same place.
    fn waits_in_holds(&self, found: &mut Diagnostics) {
        let mut said: Vec<&Span> = vec![];
        for e in self.graph.edge_indices() {
            let Some((from, to)) = self.graph.edge_endpoints(e) else { continue };
            let (Node::Step { task: a, host: x }, Node::Step { task: b, host: y }) = (self.graph[from], self.graph[to])
            else {
                continue;
            };
            let (on, waiting) = (&self.program.tasks[a], &self.program.tasks[b]);
            let shared = on.within.iter().find(|w| {
                let hold = &w.block.keys.hold;
                waiting.within.iter().any(|v| v.id == w.id) && !hold.is_empty()
            });
            if x != y
                && let Some(w) = shared
                && !waiting.run_once()
                && !on.run_once()
                && !said.contains(&waiting.span())
            {
                said.push(waiting.span());
                let message = "this task waits for other hosts inside what they take one after the other";
                let d = Diagnostic::error(message).at(waiting.span()).also(&w.block.span, "the block that holds it");
                found.push(d.hint("take the task out of the block, or the `needs` away"));
            }
        }
    }

    /// Who waits for a step that is done in many turns, and is not of them, waits for the last.
    fn seen_from(&self, from: StepIndex, to: StepIndex) -> StepIndex {
        let (Node::Step { task, host }, Node::Step { task: waiting, host: there }) = (self.graph[from], self.graph[to])
        else {
            return from;
        };
        let tasks = &self.program.tasks;
        let together = |id: usize| host == there && tasks[waiting].within.iter().any(|w| w.id == id);
        let ends = tasks[task].within.iter().filter(|w| !together(w.id)).find_map(|w| self.joins.get(&(w.id, host)));
        ends.copied().unwrap_or(from)
    }

    /// A cycle, as the path of steps that leads round it.
    fn cycle(&self) -> Option<Diagnostic> {
        // Of the two ways, the one that does not go as deep as the tasks are many.
        let ring = petgraph::algo::kosaraju_scc(&self.graph).into_iter().find(|c| c.len() > 1)?;
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
            Node::Gate { phase, .. } => {
                (format!("the end of phase {}", self.program.playbook.phases[phase].name), None)
            }
            Node::Facts { host, .. } => (format!("the facts of {}", self.program.hosts[host].name), None),
            Node::AllFacts => ("the facts of all hosts".into(), None),
            Node::Join { block, host, .. } | Node::Release { block, host } => {
                let b = &self.program.blocks[block];
                (format!("the end of {} on {}", b.title(), self.program.hosts[host].name), Some(b.block.span.clone()))
            }
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
