//! The scheduler: hands each host the steps that are free to go, as many in a row as depend on nobody else, and makes
//! of what the hosts tell what is free next. One task owns all of the graph's state; nothing is shared, nothing locked.

use super::event::{Counts, Event, Outcome, Recap, StepEnded};
use super::executor::{Shared, Told, Worker};
use crate::graph::{Edge, Ends, Learned, Node, Section, StepIndex, Turn, Turns};
use petgraph::Direction;
use petgraph::visit::EdgeRef;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Steps handed to a host at once.
const WINDOW: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Handed,
    Done,
}

/// How a node ended, for what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ok,
    Failed,
    /// It was never begun.
    Blocked,
}

struct Scheduler {
    shared: Arc<Shared>,
    state: Vec<State>,
    ended: Vec<Option<End>>,
    /// Edges whose other end is not done.
    open: Vec<u32>,
    /// Something it needs failed.
    doomed: Vec<bool>,
    /// Of what is done once: those who stand by need not wait any more, and how it ended on the host that did it.
    settled_before: Vec<bool>,
    taken: Vec<Option<End>>,
    /// Part of a rescue nobody needs.
    uncalled: Vec<bool>,
    /// Gates whose batch had too many failures.
    exceeded: Vec<bool>,
    /// Gates behind one of a phase that ended for all: what waits for them is not begun either.
    over: Vec<bool>,
    /// The hosts that failed in a phase.
    failed_in: HashMap<usize, BTreeSet<usize>>,
    /// Longest way to the end, in steps: what is far from it goes first.
    rank: Vec<u32>,
    /// Steps free to go, by host.
    free: Vec<BTreeSet<StepIndex>>,
    busy: Vec<bool>,
    /// Out of reach from here on.
    lost: Vec<bool>,
    counts: Vec<Counts>,
    learned: Arc<Learned>,
    /// By host: names that have no value in this plan, set by a step another host did for it.
    later: Vec<Vec<String>>,
    /// The same, of all hosts and stages.
    unknown: HashMap<String, Vec<String>>,
    /// Hosts that failed in a stage before this one.
    failed_hosts: Vec<bool>,
    /// Phases of stages before this one that failed, and such as ended for all.
    failed_before: BTreeSet<usize>,
    over_before: BTreeSet<usize>,
    /// By block and host: the turns in which something is taken in.
    turns: HashMap<(usize, usize), Turning>,
    remaining: usize,
}

/// What a looking step has found, and how far it is done.
struct Turning {
    all: Vec<Turn>,
    at: usize,
}

/// What one stage of a run hands on to the next (see [`crate::playbook::Playbook::stages`]).
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// What hosts have learned.
    pub learned: Learned,
    /// By host: names that have no value in this plan.
    later: HashMap<String, Vec<String>>,
    counts: HashMap<String, Counts>,
    /// Phases that failed, and such as ended for all.
    failed: BTreeSet<usize>,
    over: BTreeSet<usize>,
    took: Duration,
}

/// Runs the program. At most `forks` hosts are worked on at a time. Gives back the recap, and what a next stage begins with.
pub async fn run(
    shared: Arc<Shared>,
    run_id: String,
    forks: usize,
    fail_fast: bool,
    mut from: Carried,
) -> (Recap, Carried) {
    let begun = Instant::now();
    let g = &shared.program.graph;
    let hosts = shared.program.hosts.len();
    let names = || shared.program.hosts.iter().map(|h| &h.name);
    let mut s = Scheduler {
        state: vec![State::Waiting; g.node_count()],
        open: g.node_indices().map(|n| g.edges_directed(n, Direction::Incoming).count() as u32).collect(),
        ended: vec![None; g.node_count()],
        doomed: vec![false; g.node_count()],
        settled_before: vec![false; g.node_count()],
        taken: vec![None; g.node_count()],
        uncalled: vec![false; g.node_count()],
        exceeded: vec![false; g.node_count()],
        over: vec![false; g.node_count()],
        failed_in: HashMap::new(),
        later: shared.program.hosts.iter().map(|h| from.later.get(&h.name).cloned().unwrap_or_default()).collect(),
        unknown: from.later,
        failed_before: from.failed,
        over_before: from.over,
        turns: HashMap::new(),
        rank: ranks(g),
        free: vec![BTreeSet::new(); hosts],
        busy: vec![false; hosts],
        failed_hosts: names().map(|h| from.counts.get(h).is_some_and(|c| c.failed + c.blocked > 0)).collect(),
        lost: names().map(|h| from.counts.get(h).is_some_and(|c| c.unreachable)).collect(),
        counts: names().map(|h| from.counts.remove(h).unwrap_or_default()).collect(),
        learned: Arc::new(from.learned),
        remaining: g.node_count(),
        shared: shared.clone(),
    };
    let trips_before: Vec<u64> = s.counts.iter().map(|c| c.round_trips).collect();
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut windows: Vec<Option<mpsc::UnboundedSender<Window>>> = (0..hosts).map(|_| None).collect();
    let mut workers = tokio::task::JoinSet::new();
    let mut host_of = HashMap::new();
    // A failure has stopped the run, and nobody before it.
    let mut failed_fast = false;

    let start: Vec<StepIndex> = g.node_indices().filter(|n| s.open[n.index()] == 0).collect();
    start.into_iter().for_each(|n| s.freed(n));
    // A worker's last word, with its count of round trips, is waited for too.
    while s.remaining > 0 || s.busy.contains(&true) {
        if shared.stop.load(Ordering::Relaxed) && !s.busy.contains(&true) {
            s.block_rest("the run was stopped");
            break;
        }
        if !shared.stop.load(Ordering::Relaxed) {
            // Whoever waits for a lock does no work: the one that has it must find room.
            let at_work = s.busy.iter().filter(|b| **b).count().saturating_sub(shared.holds.waiting());
            let mut slots = forks.saturating_sub(at_work);
            for host in s.by_urgency() {
                if slots == 0 {
                    break;
                }
                let nodes = s.window(host);
                if nodes.is_empty() {
                    continue;
                }
                slots -= 1;
                s.busy[host] = true;
                let to = windows[host].get_or_insert_with(|| {
                    let (tx, rx) = mpsc::unbounded_channel();
                    let worker = workers.spawn(work(Worker::new(shared.clone(), host), rx, tell.clone()));
                    host_of.insert(worker.id(), host);
                    tx
                });
                let later = std::mem::take(&mut s.later[host]);
                let _ = to.send(Window { nodes, others: s.learned.clone(), later, turns: s.turns_on(host) });
            }
        }
        if !s.busy.contains(&true) && s.remaining > 0 && s.free.iter().all(BTreeSet::is_empty) {
            // Cannot happen in a graph without cycles; better said than hung.
            s.block_rest("nothing can free it: a defect of Windlass");
            break;
        }
        // Who waits for a place does nothing else meanwhile, whatever it could do.
        if (0..hosts).all(|h| s.busy[h] || s.free[h].is_empty()) {
            let busy: Vec<usize> = (0..hosts).filter(|h| s.busy[*h]).collect();
            shared.holds.give_up_if_stuck(&busy, || told.is_empty());
        }
        let t = tokio::select! {
            biased;
            t = told.recv() => t,
            () = shared.holds.someone_waits() => continue,
            // A worker ends when there are no more windows, not before.
            Some(ended) = workers.join_next() => {
                if let Some(host) = ended.err().and_then(|e| host_of.get(&e.id())) {
                    s.broke_down(*host);
                }
                continue;
            }
        };
        let Some(t) = t else { break };
        match t {
            Told::Step { node, outcome, sets, unknown, turns, facts } => {
                s.found(node, turns);
                s.told(node, facts);
                s.step_done(node, outcome, sets, unknown);
                if outcome == Outcome::Failed && fail_fast {
                    failed_fast |= !shared.stop.swap(true, Ordering::Relaxed);
                }
            }
            Told::Window { host, left, unreachable, round_trips } => {
                s.busy[host] = false;
                s.counts[host].round_trips = trips_before[host] + round_trips;
                for n in left {
                    s.state[n.index()] = State::Waiting;
                    if s.open[n.index()] == 0 {
                        s.freed(n);
                    }
                }
                if let Some(at) = unreachable {
                    s.done_once(at, End::Failed).into_iter().for_each(|n| s.freed(n));
                    s.lose(host);
                    if fail_fast {
                        failed_fast |= !shared.stop.swap(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }
    drop(windows);
    while workers.join_next().await.is_some() {}
    while let Ok(t) = told.try_recv() {
        if let Told::Window { host, round_trips, .. } = t {
            s.counts[host].round_trips = trips_before[host] + round_trips;
        }
    }

    let (failed, over) = s.phases_that_failed();
    let counts: Vec<(String, Counts)> = names().cloned().zip(s.counts).collect();
    // Hosts of stages before this one that have no part in it.
    let mut gone: Vec<(String, Counts)> = from.counts.into_iter().collect();
    gone.sort_by(|a, b| a.0.cmp(&b.0));
    let carried = Carried {
        learned: Arc::unwrap_or_clone(s.learned),
        later: s.unknown,
        counts: counts.iter().chain(&gone).cloned().collect(),
        failed,
        over,
        took: from.took + begun.elapsed(),
    };
    let recap = Recap {
        run: run_id,
        check_mode: shared.program.check_mode,
        interrupted: shared.stop.load(Ordering::Relaxed) && !failed_fast,
        left: *shared.leave.borrow(),
        hosts: gone.into_iter().chain(counts).collect(),
        took: carried.took,
        again: None,
        due: if shared.program.check_mode {
            vec![]
        } else {
            shared.due.all().into_iter().map(|(h, n)| format!("{h}: {n}")).collect()
        },
    };
    let again = again(&recap, &shared.again);
    (Recap { again, ..recap }, carried)
}

/// What a host is given to do, and what it must know for that.
pub struct Window {
    pub nodes: Vec<StepIndex>,
    /// What other hosts have learned.
    pub others: Arc<Learned>,
    pub later: Vec<String>,
    pub turns: Arc<HashMap<usize, Arc<Map<String, Value>>>>,
}

async fn work(mut worker: Worker, mut windows: mpsc::UnboundedReceiver<Window>, tell: mpsc::UnboundedSender<Told>) {
    while let Some(w) = windows.recv().await {
        worker.window(w, &tell).await;
    }
    worker.close().await;
}

impl Scheduler {
    /// A node whose predecessors are all done: free to go, or settled at once.
    fn freed(&mut self, node: StepIndex) {
        // A row of gates and blocked steps is walked here, not recursed into: it can be as long as the playbook.
        let mut row = vec![node];
        while let Some(n) = row.pop() {
            if self.state[n.index()] != State::Waiting {
                continue;
            }
            let doomed = self.doomed[n.index()];
            let end = match self.shared.program.graph[n] {
                _ if self.uncalled[n.index()] => Some(End::Ok),
                Node::Gate { phase, batch } => {
                    self.exceeded[n.index()] |= self.has_too_many_failures(phase, batch);
                    Some(if doomed || self.failed_before.contains(&phase) { End::Failed } else { End::Ok })
                }
                Node::Join { block, part, .. } => Some(self.part_ended(n, block, part)),
                Node::Release { host, block } if doomed || self.lost[host] => {
                    if self.lost[host] {
                        self.note_failure(self.shared.program.blocks[block].phase, host);
                    }
                    Some(End::Blocked)
                }
                Node::Release { host, .. } => {
                    self.free[host].insert(n);
                    None
                }
                Node::AllFacts => Some(End::Ok),
                Node::Facts { host, .. } if doomed || self.lost[host] || self.failed_hosts[host] => {
                    let facts = &mut Arc::make_mut(&mut self.learned).facts;
                    facts.entry(self.shared.program.hosts[host].name.clone()).or_insert(None);
                    Some(End::Blocked)
                }
                Node::Facts { host, .. } => {
                    self.free[host].insert(n);
                    None
                }
                Node::Step { task, host } => {
                    let used = &self.shared.program.tasks[task];
                    let forced = used.handler && self.shared.program.playbook.phases[used.phase].force_handlers;
                    let fatal = !used.tidies_up() && !forced && self.shared.fatal[used.phase].load(Ordering::Relaxed);
                    let out = doomed || fatal || self.lost[host] || self.failed_hosts[host];
                    if let Some(end) = self.taken[n.index()].filter(|_| !used.handler) {
                        Some(if out { End::Blocked } else { end })
                    } else if out {
                        self.blocked(n, task, host, fatal);
                        Some(End::Blocked)
                    } else {
                        self.free[host].insert(n);
                        None
                    }
                }
            };
            match end {
                Some(End::Ok) if self.has_more_turns(n) => row.extend(self.next_turn(n)),
                Some(end) => row.extend(self.settle(n, end)),
                None => {}
            }
        }
    }

    /// The phases that failed so far, and those that ended for all.
    fn phases_that_failed(&self) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let g = &self.shared.program.graph;
        let (mut failed, mut over) = (self.failed_before.clone(), self.over_before.clone());
        for n in g.node_indices() {
            let Node::Gate { phase, .. } = g[n] else { continue };
            if self.ended[n.index()] != Some(End::Ok) || self.exceeded[n.index()] {
                failed.insert(phase);
            }
            if self.over[n.index()] || self.shared.fatal[phase].load(Ordering::Relaxed) {
                over.insert(phase);
            }
        }
        (failed, over)
    }

    /// A looking step says what is taken in on its host.
    fn found(&mut self, node: StepIndex, turns: Vec<Turn>) {
        let p = &self.shared.program;
        if let Node::Step { task, host } = p.graph[node]
            && let Some(block) = p.tasks[task].begins
        {
            self.turns.insert((block, host), Turning { all: turns, at: 0 });
        }
    }

    /// The variables of the turns a host is in, by block.
    fn turns_on(&self, host: usize) -> Arc<HashMap<usize, Arc<Map<String, Value>>>> {
        let here = self.turns.iter().filter(|((_, h), _)| *h == host);
        Arc::new(here.filter_map(|((b, _), t)| Some((*b, t.all.get(t.at)?.variables.clone()))).collect())
    }

    /// Whether a node that is taken in has a part in the turn at hand: it may be of another file.
    fn is_called(&self, n: StepIndex, block: usize) -> bool {
        let p = &self.shared.program;
        let Some(host) = p.graph[n].host() else { return false };
        let Some(turn) = self.turns.get(&(block, host)).and_then(|t| t.all.get(t.at)) else { return false };
        let within = match p.graph[n] {
            Node::Step { task, .. } => p.tasks[task].within.iter().map(|w| (w.id, &w.turns)).collect(),
            Node::Join { block: b, .. } | Node::Release { block: b, .. } => {
                let used = &p.blocks[b];
                used.within.iter().map(|w| (w.id, &w.turns)).chain([(b, &used.turns)]).collect()
            }
            Node::Gate { .. } | Node::Facts { .. } | Node::AllFacts => vec![],
        };
        let mut inside = within.iter().skip_while(|(id, _)| *id != block).skip(1);
        !matches!(inside.next(), Some((_, t)) if matches!(&***t, Turns::Candidate { name, .. } if *name != turn.name))
    }

    /// A node is the end of one turn, and there is another.
    fn has_more_turns(&self, n: StepIndex) -> bool {
        let p = &self.shared.program;
        let Node::Join { block, host, part: Section::Main } = p.graph[n] else { return false };
        !self.uncalled[n.index()] && self.turns.get(&(block, host)).is_some_and(|t| t.at + 1 < t.all.len())
    }

    /// All that is taken in is to be done once more. Gives back what is free to go.
    fn next_turn(&mut self, end: StepIndex) -> Vec<StepIndex> {
        let shared = self.shared.clone();
        let g = &shared.program.graph;
        let Node::Join { block, host, .. } = g[end] else { return vec![] };
        if let Some(t) = self.turns.get_mut(&(block, host)) {
            t.at += 1;
        }
        let mut looks = g.edges_directed(end, Direction::Incoming).filter(|e| *e.weight() == Edge::Loop);
        let of_block = |n: &StepIndex| matches!(g[*n], Node::Step { task, .. } if shared.program.tasks[task].begins == Some(block));
        let Some(look) = looks.find(|e| of_block(&e.source())).map(|e| e.source()) else { return vec![] };
        let inside: std::collections::HashSet<StepIndex> = g
            .edges_directed(look, Direction::Outgoing)
            .filter(|e| *e.weight() == Edge::Loop)
            .map(|e| e.target())
            .collect();
        let mut free = vec![];
        // What is taken in inside is looked for anew.
        for n in &inside {
            if let Node::Step { task, .. } = g[*n]
                && let Some(b) = shared.program.tasks[task].begins
            {
                self.turns.remove(&(b, host));
            }
        }
        for &n in &inside {
            let i = n.index();
            if self.state[i] == State::Done {
                self.remaining += 1;
            }
            self.state[i] = State::Waiting;
            self.ended[i] = None;
            self.doomed[i] = false;
            self.uncalled[i] = !self.is_called(n, block);
            self.open[i] = g.neighbors_directed(n, Direction::Incoming).filter(|m| inside.contains(m)).count() as u32;
            if self.open[i] == 0 {
                free.push(n);
            }
        }
        free
    }

    /// Says that a step is not done, and why.
    fn blocked(&mut self, n: StepIndex, task: usize, host: usize, fatal: bool) {
        let used = &self.shared.program.tasks[task];
        let (phase, rescued) = (used.phase, used.is_rescued());
        if self.lost[host] {
            self.note_failure(phase, host);
        }
        // A handler nobody notified is not worth a line, blocked or not.
        if self.shared.program.tasks[task].handler {
            return;
        }
        if rescued && !self.lost[host] && !fatal {
            // What fails in the block is made good by its `rescue`; what is left of it is not missed.
            self.counts[host].add(Outcome::Skipped);
            return;
        }
        self.counts[host].add(Outcome::Blocked);
        let why = if self.lost[host] {
            "the host is out of reach"
        } else if fatal {
            "too many hosts of the phase failed"
        } else {
            "something it needs failed"
        };
        self.tell_blocked(n, why);
    }

    /// How a part of a block ended, by its steps and the part before it.
    fn part_ended(&self, n: StepIndex, block: usize, part: Section) -> End {
        let g = &self.shared.program.graph;
        let base = |m: &StepIndex| matches!(g[*m], Node::Join { block: b, .. } if b == block);
        let entry = g.neighbors_directed(n, Direction::Incoming).find(base).and_then(|m| self.ended[m.index()]);
        // What stands before the block, or only says whether a rescue around it is called, is no part of it.
        let own = g.edges_directed(n, Direction::Incoming).filter(|e| *e.weight() == Edge::After);
        let own = own.map(|e| e.source()).filter(|m| !base(m));
        let ends = |want: End| own.clone().any(|m| self.ended[m.index()] == Some(want));
        match (part, entry) {
            (Section::Main, _) => match (ends(End::Failed), ends(End::Blocked), ends(End::Ok)) {
                (true, _, _) | (_, true, true) => End::Failed,
                (_, true, _) => End::Blocked,
                _ if self.doomed[n.index()] => End::Blocked,
                _ => End::Ok,
            },
            (_, Some(End::Blocked)) => End::Blocked,
            (Section::Rescue, Some(End::Ok)) => End::Ok,
            (Section::Always, Some(End::Failed)) => End::Failed,
            _ if ends(End::Failed) || ends(End::Blocked) => End::Failed,
            _ => End::Ok,
        }
    }

    /// A step or a host failed: too many of these end a phase that sets a limit.
    fn note_failure(&mut self, phase: usize, host: usize) {
        self.failed_in.entry(phase).or_default().insert(host);
        let p = &self.shared.program;
        let name = &p.hosts[host].name;
        if !self.learned.failed.contains(name) {
            Arc::make_mut(&mut self.learned).failed.insert(name.clone());
        }
        if p.playbook.phases[phase].max_fail.is_some()
            && let Some((batch, _)) = p.batch_of(phase, host)
            && self.has_too_many_failures(phase, batch)
        {
            self.shared.fatal[phase].store(true, Ordering::Relaxed);
        }
    }

    fn has_too_many_failures(&self, phase: usize, batch: usize) -> bool {
        let p = &self.shared.program;
        let hosts = p.batches[phase].get(batch).map_or(&[][..], Vec::as_slice);
        let failed = self.failed_in.get(&phase).map_or(0, |f| hosts.iter().filter(|h| f.contains(h)).count());
        match p.playbook.phases[phase].max_fail {
            Some(limit) => (failed * 100) as f64 > hosts.len() as f64 * limit,
            None => failed > 0 && failed == hosts.len(),
        }
    }

    /// A node is done: takes its edges away, and gives back the nodes that have none left.
    fn settle(&mut self, node: StepIndex, end: End) -> Vec<StepIndex> {
        self.state[node.index()] = State::Done;
        self.ended[node.index()] = Some(end);
        self.remaining -= 1;
        let shared = self.shared.clone();
        let g = &shared.program.graph;
        let over = match g[node] {
            Node::Gate { phase, .. } => {
                self.over[node.index()]
                    || self.over_before.contains(&phase)
                    || shared.fatal[phase].load(Ordering::Relaxed)
            }
            _ => false,
        };
        let mut freed = vec![];
        for e in g.edges_directed(node, Direction::Outgoing) {
            let to = e.target().index();
            if *e.weight() == Edge::Standby && std::mem::replace(&mut self.settled_before[to], true) {
                continue;
            }
            let to_gate = matches!(g[e.target()], Node::Gate { .. });
            self.over[to] |= over && to_gate;
            match (e.weight(), end) {
                (Edge::Needs, End::Failed | End::Blocked) => self.doomed[to] = true,
                (Edge::Needs, End::Ok) => {}
                (Edge::After, _) => self.doomed[to] |= over,
                (Edge::Rescue, End::Ok) => self.uncalled[to] = true,
                (Edge::Loop, End::Ok) => {
                    let block = match g[node] {
                        Node::Step { task, .. } => shared.program.tasks[task].begins,
                        _ => None,
                    };
                    self.uncalled[to] |= !block.is_some_and(|b| self.is_called(e.target(), b));
                }
                (Edge::Loop, End::Failed | End::Blocked) => self.doomed[to] = true,
                (Edge::Rescue | Edge::Always, End::Blocked) => self.doomed[to] = true,
                (Edge::Rescue | Edge::Always | Edge::Standby, _) => {}
                // A phase has failed where one of its batches has, though the next was begun.
                (Edge::Batch, _) => {
                    self.doomed[to] |= over || self.exceeded[node.index()] || (to_gate && end != End::Ok);
                    // A batch that is held back holds back those behind it.
                    self.exceeded[to] |= to_gate && self.exceeded[node.index()];
                }
            }
            self.open[to] -= 1;
            if self.open[to] == 0 {
                freed.push(e.target());
            }
        }
        freed
    }

    /// A host's facts, for others to read.
    fn told(&mut self, node: StepIndex, facts: Option<Arc<Value>>) {
        let p = &self.shared.program;
        let Some(host) = p.graph[node].host() else { return };
        let tells = matches!(p.graph[node], Node::Facts { .. });
        if tells || facts.is_some() {
            let all = &mut Arc::make_mut(&mut self.learned).facts;
            let known = all.entry(p.hosts[host].name.clone()).or_default();
            *known = facts.or(known.take());
        }
    }

    fn step_done(&mut self, node: StepIndex, outcome: Outcome, sets: Map<String, Value>, unknown: Vec<String>) {
        let shared = self.shared.clone();
        let p = &shared.program;
        let Some(host) = p.graph[node].host() else { return };
        self.counts[host].add(outcome);
        if let Node::Step { task, .. } = p.graph[node] {
            let used = &p.tasks[task];
            // What is done once is done for all hosts of the batch.
            let once = used.run_once();
            let batch = p.batch_of(used.phase, host).filter(|_| once).map_or(&[][..], |(_, b)| b);
            for h in batch.iter().filter(|h| **h != host).chain([&host]) {
                if !sets.is_empty() {
                    let learned = Arc::make_mut(&mut self.learned).vars.entry(p.hosts[*h].name.clone()).or_default();
                    Arc::make_mut(learned).extend(sets.clone());
                }
                if *h != host {
                    self.later[*h].extend(unknown.iter().cloned());
                }
                if !unknown.is_empty() {
                    Arc::make_mut(&mut self.learned).later.extend(unknown.iter().cloned());
                    self.unknown.entry(p.hosts[*h].name.clone()).or_default().extend(unknown.iter().cloned());
                }
            }
            if outcome == Outcome::Failed {
                self.note_failure(used.phase, host);
            }
        }
        self.ends_early(node, outcome);
        let end = match outcome {
            Outcome::Failed | Outcome::Rescued => End::Failed,
            _ => self.taken[node.index()].unwrap_or(End::Ok),
        };
        let mut freed = if outcome == Outcome::Silent { vec![] } else { self.done_once(node, end) };
        freed.extend(self.settle(node, end));
        for n in freed {
            self.freed(n);
        }
    }

    /// What is done once was done, or begun: nobody else does it. Gives back those who stand by and waited for that alone.
    fn done_once(&mut self, node: StepIndex, end: End) -> Vec<StepIndex> {
        let shared = self.shared.clone();
        let g = &shared.program.graph;
        let behind = |n: StepIndex| {
            let mut edges = g.edges_directed(n, Direction::Outgoing);
            edges.find(|e| *e.weight() == Edge::Standby).map(|e| e.target())
        };
        let (mut free, mut at) = (vec![], node);
        while let Some(next) = behind(at) {
            let i = next.index();
            self.taken[i] = Some(end);
            if matches!(g[next], Node::Step { task, .. } if shared.program.tasks[task].handler)
                && let Ok(mut all) = shared.stood_down.lock()
            {
                all.insert(next);
            }
            if !std::mem::replace(&mut self.settled_before[i], true) {
                self.open[i] -= 1;
                if self.open[i] == 0 {
                    free.push(next);
                }
            }
            at = next;
        }
        free
    }

    /// After `meta: end_host` and its like: what comes behind it in the phase is not called for any more. What holds are
    /// left is given back, and what a host does once for all it does for the others.
    fn ends_early(&mut self, node: StepIndex, outcome: Outcome) {
        let shared = self.shared.clone();
        let p = &shared.program;
        let Node::Step { task, host } = p.graph[node] else { return };
        let used = &p.tasks[task];
        let Some(ends) = used.ends().filter(|_| outcome == Outcome::Satisfied) else { return };
        let batch = p.batch_of(used.phase, host).map_or(0, |(b, _)| b);
        let batch_of = |h: usize| p.batch_of(used.phase, h).map_or(0, |(b, _)| b);
        let reaches = |h: usize| match ends {
            Ends::Host => h == host,
            Ends::Batch => batch_of(h) == batch,
            Ends::Phase => true,
        };
        for n in p.graph.node_indices() {
            let Node::Step { task: t, host: h } = p.graph[n] else { continue };
            let other = &p.tasks[t];
            let behind = match batch_of(h) == batch {
                true => t > task || other.handler,
                false => batch_of(h) > batch,
            };
            let of_all = ends == Ends::Host && other.run_once() && other.is_led();
            if other.phase == used.phase && reaches(h) && behind && !of_all {
                self.uncalled[n.index()] = true;
            }
        }
        for ((block, h), t) in &mut self.turns {
            if p.blocks[*block].phase == used.phase && reaches(*h) {
                t.all.truncate(t.at + 1);
            }
        }
    }

    /// Takes from a host's free steps a row: the most urgent, and what follows on the same host without waiting for
    /// anybody else, as long as all goes well.
    fn window(&mut self, host: usize) -> Vec<StepIndex> {
        let g = &self.shared.program.graph;
        let mut row: Vec<StepIndex> = std::mem::take(&mut self.free[host]).into_iter().collect();
        row.sort_by_key(|n| (std::cmp::Reverse(self.rank[n.index()]), n.index()));
        let mut open: HashMap<StepIndex, u32> = HashMap::new();
        // When all goes well, no rescue is called, and a join is there at once.
        let passes = |n: StepIndex| {
            let handler = matches!(g[n], Node::Step { task, .. } if self.shared.program.tasks[task].handler);
            matches!(g[n], Node::Join { .. })
                || self.uncalled[n.index()]
                || (self.taken[n.index()].is_some() && !handler)
                || g.edges_directed(n, Direction::Incoming).any(|e| *e.weight() == Edge::Rescue)
        };
        let going_well = |n: StepIndex| {
            let before = g.neighbors_directed(n, Direction::Incoming);
            !matches!(g[n], Node::Join { .. })
                || before.into_iter().all(|m| matches!(self.ended[m.index()], None | Some(End::Ok)))
        };
        let failed_before = |n: StepIndex| self.taken[n.index()].is_some_and(|end| end != End::Ok);
        // How often something is done must be known before it is begun, and what comes after it has to wait.
        let in_turns = |n: StepIndex| {
            let mut looks = g.edges_directed(n, Direction::Incoming).filter(|e| *e.weight() == Edge::Loop);
            looks.any(|e| self.ended[e.source().index()].is_none()) || self.has_more_turns(n)
        };
        let mut next = 0;
        while next < row.len() && row.len() < WINDOW {
            let at = row[next];
            let mut follow: Vec<StepIndex> = vec![];
            if let Node::Step { task, .. } = g[at]
                && (self.shared.program.tasks[task].ends().is_some() || failed_before(at))
            {
                next += 1;
                continue;
            }
            for e in g.edges_directed(at, Direction::Outgoing).filter(|e| *e.weight() != Edge::Standby) {
                let to = e.target();
                let left = open.entry(to).or_insert(self.open[to.index()]);
                *left -= 1;
                if *left == 0
                    && g[to].host() == Some(host)
                    && !self.doomed[to.index()]
                    && going_well(to)
                    && !failed_before(to)
                    && !in_turns(to)
                {
                    follow.push(to);
                }
            }
            follow.sort_by_key(|n| (std::cmp::Reverse(self.rank[n.index()]), n.index()));
            row.extend(follow);
            next += 1;
        }
        row.retain(|n| !passes(*n) || self.open[n.index()] == 0);
        row.iter().for_each(|n| self.state[n.index()] = State::Handed);
        row
    }

    /// Idle hosts with something to do, the furthest from the end first.
    fn by_urgency(&self) -> Vec<usize> {
        let mut hosts: Vec<usize> =
            (0..self.free.len()).filter(|h| !self.busy[*h] && !self.free[*h].is_empty()).collect();
        hosts.sort_by_key(|h| std::cmp::Reverse(self.free[*h].iter().map(|n| self.rank[n.index()]).max()));
        hosts
    }

    /// A host is out of reach: what it still had to do is blocked.
    fn lose(&mut self, host: usize) {
        self.lost[host] = true;
        self.counts[host].unreachable = true;
        let free: Vec<StepIndex> = std::mem::take(&mut self.free[host]).into_iter().collect();
        free.into_iter().for_each(|n| self.freed(n));
    }

    /// A worker has come to a bad end: what it had in hand is not known to be done.
    fn broke_down(&mut self, host: usize) {
        let p = &self.shared.program;
        let here = |n: &StepIndex| p.graph[*n].host() == Some(host);
        let handed: Vec<StepIndex> =
            p.graph.node_indices().filter(|n| self.state[n.index()] == State::Handed && here(n)).collect();
        let at = handed.first().and_then(|n| match p.graph[*n] {
            Node::Step { task, .. } => Some(&p.tasks[task]),
            _ => None,
        });
        self.shared.emit.send(Event::Unreachable {
            host: p.hosts[host].name.clone(),
            task: at.map(|t| t.title()).unwrap_or_default(),
            place: at.map(|t| t.span().line()).unwrap_or_default(),
            message: "the work on this host broke off: a defect of Windlass".into(),
            hint: Some("what was under way there may still be running; look at the host, then run again".into()),
        });
        self.busy[host] = false;
        // Whether it was begun is not known: nobody else does it.
        self.shared.holds.abandon(host, &p.hosts[host].name);
        for n in &handed {
            self.done_once(*n, End::Failed).into_iter().for_each(|n| self.freed(n));
        }
        self.lose(host);
        handed.iter().for_each(|n| self.state[n.index()] = State::Waiting);
        let free: Vec<StepIndex> = handed.into_iter().filter(|n| self.open[n.index()] == 0).collect();
        free.into_iter().for_each(|n| self.freed(n));
    }

    fn block_rest(&mut self, why: &str) {
        for n in self.shared.program.graph.node_indices().collect::<Vec<_>>() {
            if self.state[n.index()] == State::Done {
                continue;
            }
            self.state[n.index()] = State::Done;
            self.ended[n.index()] = Some(End::Blocked);
            self.remaining -= 1;
            if let Node::Step { task, host } = self.shared.program.graph[n]
                && !self.shared.program.tasks[task].handler
            {
                self.counts[host].add(Outcome::Blocked);
                self.tell_blocked(n, why);
            }
        }
    }

    fn tell_blocked(&self, n: StepIndex, why: &str) {
        let Node::Step { task, host } = self.shared.program.graph[n] else { return };
        let used = &self.shared.program.tasks[task];
        self.shared.emit.send(Event::StepEnded(Box::new(StepEnded {
            host: self.shared.program.hosts[host].name.clone(),
            phase: self.shared.program.playbook.phases[used.phase].name.clone(),
            task: used.title(),
            place: used.span().line(),
            module: used.task.module.name,
            handler: used.handler,
            outcome: Outcome::Blocked,
            why: Some(why.to_string()),
            took: Duration::ZERO,
            parts: vec![],
        })));
    }
}

/// For each node the longest way from it to an end, in steps.
fn ranks(g: &crate::graph::StepGraph) -> Vec<u32> {
    let mut rank = vec![0; g.node_count()];
    if let Ok(order) = petgraph::algo::toposort(g, None) {
        for n in order.into_iter().rev() {
            let longest = g.edges_directed(n, Direction::Outgoing).map(|e| rank[e.target().index()] + 1).max();
            rank[n.index()] = longest.unwrap_or(0);
        }
    }
    rank
}

/// The command that does what is left: the same, on the hosts that are not through.
fn again(recap: &Recap, command: &super::event::Again) -> Option<String> {
    let open = |c: &Counts| c.failed + c.blocked > 0 || c.unreachable;
    let hosts: Vec<&str> = recap.hosts.iter().filter(|(_, c)| open(c)).map(|(h, _)| h.as_str()).collect();
    (!hosts.is_empty()).then(|| command.on(&hosts, recap.hosts.len()))
}
