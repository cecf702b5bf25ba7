//! One host's part of a run: takes windows of steps, asks the host about all of them at once, lets the modules decide,
//! acts. This is the only place where decisions become requests, for a plan and for an apply alike.

use super::ask::Asker;
use super::background::{self, Background};
use super::budget::{Held, Taken};
use super::due::Due;
use super::event::{Emit, Event, FailureReport, Outcome, PartEnded, StepEnded};
use super::explain::wrong;
use super::holds::Holds;
use super::link::{Link, LinkError, LinkOptions};
use super::schedule::Window;
use super::{here, result};
use crate::action::Action;
use crate::error::Error;
use crate::graph::{self, Dynamic, Node, Part, Place, Prepared, Program, Refusal, Scoped, StepIndex, TaskUse, Turn};
use crate::host::{Reply, Request};
use crate::inventory::Connection as Settings;
use crate::inventory::connection::Via;
use crate::modules::{Change, Ctx, Decision, Failure, Refresh, Stop, Wait};
use crate::probe::{Observed, Output, Probe, Touches};
use crate::ssh::{Connector, SshConfig};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Steps looked ahead at in one window.
const LOOKAHEAD: usize = 400;
/// Probes of coming steps that ride with one request, at most; and at most with a change, and after one that may have
/// touched everything: the next may do the same, and all that was asked would have been in vain.
const FAR: usize = 10_000;
const NEAR: usize = 256;
/// A request that should take no time at all; beyond it the host is taken for lost.
const PROBE_LIMIT: Duration = Duration::from_secs(120);
/// Fields of a result that say where and what, not what is in it.
const NO_SECRETS: &[&str] = &[
    "dest",
    "path",
    "src",
    "source",
    "url",
    "backup_file",
    "owner",
    "group",
    "mode",
    "state",
    "name",
    "checksum",
    "action",
];
/// Tries to go on after a lost connection, a step.
const RECONNECTS: u32 = 2;

/// What all hosts of a run share.
pub struct Shared {
    pub program: Program,
    pub settings: Vec<Settings>,
    /// How hosts are reached that take no part themselves, but have work delegated to them.
    pub delegates: HashMap<String, Settings>,
    pub options: LinkOptions,
    pub ssh_config: SshConfig,
    pub connector: Arc<Connector>,
    pub emit: Emit,
    pub due: Arc<Due>,
    /// Show what changes.
    pub diff: bool,
    pub wants_facts: bool,
    /// Set when no new step is to be started.
    pub stop: Arc<AtomicBool>,
    /// Set when nothing is to be waited for any more: what is at work on hosts is ended.
    pub leave: Arc<tokio::sync::watch::Sender<bool>>,
    /// As `stop`, for the steps of one phase.
    pub fatal: Vec<AtomicBool>,
    pub holds: Arc<Holds>,
    /// Handlers that another host has done for all.
    pub stood_down: Mutex<HashSet<StepIndex>>,
    /// The person at the terminal.
    pub asker: Arc<Asker>,
    /// The command that starts this run, for "rerun from here".
    pub again: super::event::Again,
}

impl Shared {
    /// Waits for so long, or until no new step is to be begun.
    pub(super) async fn sleep(&self, time: Duration) {
        let end = Instant::now().checked_add(time);
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.map_or(Duration::MAX, |e| e.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(Duration::from_millis(200))).await;
        }
    }

    /// Ends when nothing is to be waited for any more.
    pub(super) async fn left(&self) {
        let _ = self.leave.subscribe().wait_for(|l| *l).await;
    }

    pub(super) fn is_left(&self) -> bool {
        *self.leave.borrow()
    }

    /// How a host is reached.
    fn reached(&self, host: &str) -> Option<&Settings> {
        self.program.host_index(host).map(|h| &self.settings[h]).or_else(|| self.delegates.get(host))
    }
}

/// What a host's worker tells the scheduler.
#[derive(Debug)]
pub enum Told {
    Step {
        node: StepIndex,
        outcome: Outcome,
        sets: Map<String, Value>,
        /// Names that have no value in this plan.
        unknown: Vec<String>,
        /// What is taken in, by a step that looks for it.
        turns: Vec<Turn>,
        /// The host's facts, where others read them and they are new.
        facts: Option<Arc<Value>>,
    },
    /// The window is done with; these steps of it were not begun, or not ended: at `unreachable` the host was lost.
    Window { host: usize, left: Vec<StepIndex>, unreachable: Option<StepIndex>, round_trips: u64 },
}

/// The worker of one host.
pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) host: usize,
    /// Where it acts: its own host, or another that work is delegated to.
    pub(super) site: Site,
    /// The other places it was at, its own host among them.
    away: HashMap<At, Site>,
    pub(super) dynamic: Dynamic,
    /// What is held at the moment.
    pub(super) held: HashMap<Scoped, Vec<Held>>,
    /// Names that will have no value in this plan.
    pub(super) later: HashSet<String>,
    /// Facts that nobody else was told yet.
    news: Option<Arc<Value>>,
    /// Handlers that were notified, by index of their task.
    notified: HashSet<usize>,
    /// Handlers the step at hand has put on the list of what is due.
    announced: Vec<String>,
    /// The loop variables of the item at hand.
    item: Map<String, Value>,
    closed_round_trips: u64,
}

/// Where something is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct At {
    /// Another host than the worker's own.
    pub host: Option<String>,
    /// Who logs in there, where that is another than usual.
    pub login: Option<String>,
}

/// A host as one worker knows it.
pub(super) struct Site {
    pub name: String,
    pub at: At,
    pub link: Option<Link>,
    /// What is known of the host, as each user sees it.
    pub seen: HashMap<Option<String>, Observed>,
    /// In a plan: what the changes so far would have touched.
    fog: Fog,
    /// How many probes of coming steps are worth asking now: few after a change, more with every request that finds none.
    reach: usize,
}

impl Site {
    fn new(name: &str, at: At) -> Self {
        Site { name: name.to_string(), at, link: None, seen: HashMap::new(), fog: Fog::default(), reach: FAR }
    }
    fn forget(&mut self, t: &Touches) {
        for (user, seen) in &mut self.seen {
            let certain: Vec<_> = self
                .fog
                .certain
                .iter()
                .filter(|(u, _)| u == user)
                .filter_map(|(_, p)| Some((p.clone(), seen.get(p)?.clone())))
                .collect();
            seen.forget(t);
            certain.into_iter().for_each(|(p, a)| seen.insert(p, a));
        }
    }
}

/// What a plan cannot know any more, because a change before it is only planned.
#[derive(Default)]
struct Fog {
    touched: Option<Touches>,
    unknowable: HashSet<(Option<String>, Probe)>,
    /// Answers a planned change makes certain.
    certain: HashSet<(Option<String>, Probe)>,
    /// The host as it is, without the planned changes: nothing is decided from it, but it can be told.
    now: HashMap<Option<String>, Observed>,
}

/// A node of the graph made ready.
struct Ready {
    node: StepIndex,
    what: Work,
}

enum Work {
    Step(Step),
    /// What a block holds is given back.
    Release(usize),
    /// The host's facts are to be known; `early`: if it is there.
    Facts {
        early: bool,
    },
}

struct Step {
    task: usize,
    prepared: Result<Prepared, Refusal>,
    sets: Vec<String>,
}

/// What comes after the item at hand: the rest of its loop, and the steps made ready behind it.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    rest: &'a [Part],
    ready: &'a VecDeque<Ready>,
}

/// Why a host is given up.
pub struct GivenUp(pub Error);

impl Worker {
    pub fn new(shared: Arc<Shared>, host: usize) -> Self {
        Worker {
            site: Site::new(&shared.program.hosts[host].name, At::default()),
            shared,
            host,
            away: HashMap::new(),
            dynamic: Dynamic::default(),
            held: HashMap::new(),
            later: HashSet::new(),
            news: None,
            notified: HashSet::new(),
            announced: vec![],
            item: Map::new(),
            closed_round_trips: 0,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.program.hosts[self.host].name
    }
    /// Where it acts is this machine.
    pub(super) fn is_here(&self) -> bool {
        self.shared.reached(&self.site.name).is_some_and(|s| matches!(s.via, Via::Local))
    }
    pub(super) fn check(&self) -> bool {
        self.shared.program.check_mode
    }
    pub fn round_trips(&self) -> u64 {
        let sites = std::iter::once(&self.site).chain(self.away.values());
        self.closed_round_trips + sites.filter_map(|s| s.link.as_ref()).map(Link::round_trips).sum::<u64>()
    }
    pub async fn close(&mut self) {
        for site in std::iter::once(&mut self.site).chain(self.away.values_mut()) {
            if let Some(l) = site.link.take() {
                self.closed_round_trips += l.round_trips();
                l.close().await;
            }
        }
    }
    /// From here on it acts there.
    pub(super) fn go_to(&mut self, to: &At) {
        if self.site.at != *to {
            let name = to.host.clone().unwrap_or_else(|| self.name().to_string());
            let site = self.away.remove(to).unwrap_or_else(|| Site::new(&name, to.clone()));
            let left = std::mem::replace(&mut self.site, site);
            self.away.insert(left.at.clone(), left);
        }
    }
    /// Where something is done that may be delegated, and may want a login of its own. What the inventory or the command
    /// line says of the login comes first.
    fn at(&self, delegate: Option<&str>, login: Option<&str>) -> At {
        let host = delegate.filter(|d| *d != self.name());
        let settled = |s: &Settings| s.user.is_some() || matches!(s.via, Via::Local);
        let shared = &self.shared;
        let counts = |_: &&str| {
            shared.options.user.is_none() && !shared.reached(host.unwrap_or(self.name())).is_some_and(settled)
        };
        At { host: host.map(str::to_string), login: login.filter(counts).map(str::to_string) }
    }
    pub(super) fn is_home(&self) -> bool {
        self.site.at.host.is_none()
    }

    /// Does a window of steps, in order, up to the first that fails. `others` is what other hosts have learned.
    pub async fn window(&mut self, window: Window, tell: &tokio::sync::mpsc::UnboundedSender<Told>) {
        let Window { nodes, others, later, turns } = window;
        // What was done once for all hosts is among what this one has learned.
        if let Some(mine) = others.vars.get(self.name()).filter(|m| ***m != *self.dynamic.vars) {
            Arc::make_mut(&mut self.dynamic.vars).extend(mine.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        self.dynamic.others = others;
        self.dynamic.turns = turns;
        self.later.extend(later);
        // While this host waited, others may have changed what it looked at: by a shared folder, or from outside.
        if !self.check() {
            self.away.values_mut().for_each(|s| s.forget(&Touches::everything()));
            self.forget(&Touches::everything());
        }
        let mut coming: VecDeque<StepIndex> = nodes.into();
        let mut ready: VecDeque<Ready> = VecDeque::new();
        let mut unreachable = None;
        loop {
            self.look_ahead(&mut coming, &mut ready);
            let Some(step) = ready.pop_front() else {
                if coming.is_empty() {
                    break;
                }
                continue;
            };
            let p = &self.shared.program;
            let (phase, at) = match &step.what {
                Work::Step(s) => (Some(p.tasks[s.task].phase), Some(s.task)),
                Work::Release(b) => (Some(p.blocks[*b].phase), None),
                Work::Facts { .. } => (None, None),
            };
            // What is held is given back also when no new step is begun.
            let goes_on = |t: usize| {
                let used = &p.tasks[t];
                used.tidies_up() || used.handler && p.playbook.phases[used.phase].force_handlers
            };
            let fatal = phase.is_some_and(|p| self.shared.fatal[p].load(Ordering::Relaxed)) && !at.is_some_and(goes_on);
            let no_more = self.shared.stop.load(Ordering::Relaxed) || fatal;
            if no_more && !matches!(step.what, Work::Release(_)) {
                ready.push_front(step);
                break;
            }
            let node = step.node;
            let done = match step.what {
                Work::Step(s) if self.stands_down(node) => {
                    self.handler_done(s.task, Outcome::Silent);
                    Ok(Done::of(Outcome::Silent))
                }
                Work::Step(s) => self.step(s, &ready).await,
                Work::Release(block) => self.release(block).await,
                Work::Facts { early } => match self.facts(&ready).await {
                    Err(_) if early => Ok(Done::of(Outcome::Silent)),
                    done => done,
                },
            };
            match done {
                Ok(Done { outcome, sets, unknown, turns }) => {
                    let facts = self.news.take().filter(|_| self.shared.program.shares_facts);
                    let _ = tell.send(Told::Step { node, outcome, sets, unknown, turns, facts });
                    if matches!(outcome, Outcome::Failed | Outcome::Rescued) {
                        break;
                    }
                }
                Err(GivenUp(e)) => {
                    let p = &self.shared.program;
                    let away = if self.is_home() { String::new() } else { format!("{}: ", self.site.name) };
                    self.shared.emit.send(Event::Unreachable {
                        host: self.name().to_string(),
                        task: at.map_or_else(String::new, |t| self.title(t)),
                        place: at.map_or_else(String::new, |t| p.tasks[t].span().line()),
                        message: format!("{away}{e}"),
                        hint: e.hint,
                    });
                    self.abandon();
                    unreachable = Some(node);
                    break;
                }
            }
        }
        // It is out of date by the next window.
        self.dynamic.others = Arc::default();
        let left = unreachable.into_iter().chain(ready.into_iter().map(|r| r.node)).chain(coming).collect();
        let _ = tell.send(Told::Window { host: self.host, left, unreachable, round_trips: self.round_trips() });
    }

    /// Makes as many coming steps ready as can be: up to one that needs a result of a step before it.
    fn look_ahead(&mut self, coming: &mut VecDeque<StepIndex>, ready: &mut VecDeque<Ready>) {
        while ready.len() < LOOKAHEAD
            && let Some(&node) = coming.front()
        {
            let task = match self.shared.program.graph[node] {
                Node::Step { task, .. } => task,
                Node::Release { block, .. } => {
                    coming.pop_front();
                    ready.push_back(Ready { node, what: Work::Release(block) });
                    continue;
                }
                Node::Facts { early, .. } => {
                    coming.pop_front();
                    ready.push_back(Ready { node, what: Work::Facts { early } });
                    continue;
                }
                Node::Gate { .. } | Node::Join { .. } | Node::AllFacts => {
                    coming.pop_front();
                    continue;
                }
            };
            let used = &self.shared.program.tasks[task];
            if used.handler && !ready.is_empty() && !self.is_notified(task) {
                // Whether it is to run is known only when the steps before it are done.
                break;
            }
            if used.handler && !self.is_notified(task) {
                coming.pop_front();
                let prepared = Ok(Prepared::Skipped { why: String::new(), items: None });
                ready.push_back(Ready { node, what: Work::Step(Step { task, prepared, sets: vec![] }) });
                break;
            }
            let home_is_here = matches!(self.shared.settings[self.host].via, Via::Local);
            if !ready.is_empty() && home_is_here && reads_here(&used.task) {
                // A step before it may yet make the file that it reads.
                break;
            }
            let sets = |r: &Ready| match &r.what {
                Work::Step(s) => s.sets.clone(),
                Work::Release(_) | Work::Facts { .. } => vec![],
            };
            let mut pending: HashSet<String> = ready.iter().flat_map(sets).collect();
            pending.extend(self.later.iter().cloned());
            let place = Place {
                program: &self.shared.program,
                host: self.host,
                task: used,
                dynamic: &self.dynamic,
                pending: &pending,
            };
            let prepared = graph::prepare(place);
            if prepared.is_err() && !ready.is_empty() {
                break;
            }
            coming.pop_front();
            let sets = used.task.sets();
            ready.push_back(Ready { node, what: Work::Step(Step { task, prepared, sets }) });
        }
    }

    /// Another host has done it for all.
    fn stands_down(&self, node: StepIndex) -> bool {
        self.shared.stood_down.lock().is_ok_and(|all| all.contains(&node))
    }

    fn is_notified(&self, task: usize) -> bool {
        let p = &self.shared.program;
        self.notified.contains(&p.tasks[task].stands_for.unwrap_or(task))
            || self.shared.due.is_due(self.name(), &p.handler_key(&p.tasks[task]))
    }

    async fn step(&mut self, step: Step, ahead: &VecDeque<Ready>) -> Result<Done, GivenUp> {
        let shared = self.shared.clone();
        let p = &shared.program;
        let used = &p.tasks[step.task];
        let started = Instant::now();
        if used.handler && !self.is_notified(step.task) {
            return Ok(Done::of(Outcome::Silent));
        }
        let title = self.title(step.task);
        let phase = p.playbook.phases[used.phase].name.clone();
        let mut ended = StepEnded {
            host: self.name().to_string(),
            phase: phase.clone(),
            task: title.clone(),
            place: used.span().line(),
            module: used.task.module.name,
            handler: used.handler,
            outcome: Outcome::Satisfied,
            why: None,
            took: Duration::ZERO,
            parts: vec![],
        };
        let mut prepared = step.prepared;
        if matches!(prepared, Err(Refusal::Unknown { facts: true, .. })) && self.dynamic.facts.is_none() {
            let login = graph::login(self.place(step.task), &self.place(step.task).scope(Map::new())).ok().flatten();
            self.go_to(&self.at(None, login.as_deref()));
            self.ask(&None, vec![Probe::Facts]).await?;
            let pending = self.later.clone();
            prepared = graph::prepare(Place {
                program: p,
                host: self.host,
                task: used,
                dynamic: &self.dynamic,
                pending: &pending,
            });
        }
        let mut registered: Option<Value> = None;
        let mut facts = Map::new();
        let mut unknown: Vec<String> = vec![];
        let mut turns = vec![];
        let mut changed = vec![];
        // Of what is not even begun.
        let plain = self.place(step.task).scope(Map::new());
        let mut hidden = graph::hides(used.no_log(), &plain).unwrap_or(true);
        let ignores = graph::ignores(self.place(step.task), &plain).unwrap_or(false);
        drop(plain);
        let mut ignored = ignores || matches!(prepared, Ok(Prepared::Parts { .. }));
        match prepared {
            Ok(Prepared::Skipped { why, items }) => {
                ended.outcome = Outcome::Skipped;
                ended.why = Some(format!("when: {why}"));
                let of_item = |locals| {
                    let mut r = result::skipped(&why);
                    result::add_item(&mut r, &locals);
                    r
                };
                registered = Some(match items {
                    Some(items) => result::of_loop(items.into_iter().map(of_item).collect()),
                    None => result::skipped(&why),
                });
            }
            Ok(Prepared::Parts { parts, looped, pause }) => {
                shared.emit.send(Event::StepStarted { host: ended.host.clone(), phase, task: title });
                let mut results = vec![];
                let mut known = true;
                hidden = parts.iter().any(|p| self.is_hidden(step.task, p));
                let mut acted = false;
                for (i, part) in parts.iter().enumerate() {
                    if acted && part.item.is_ok() && !self.check() {
                        shared.sleep(pause).await;
                        acted = false;
                    }
                    let ahead = Ahead { rest: &parts[i + 1..], ready: ahead };
                    self.item = part.locals.clone();
                    let announced = self.announced.len();
                    let done = self.part(step.task, part, ahead).await;
                    self.item.clear();
                    let (end, value, part_facts) = done?;
                    match end.outcome {
                        Some(Outcome::Changed) => changed.push(part.locals.clone()),
                        Some(Outcome::Satisfied | Outcome::Skipped) => self.not_due(announced),
                        Some(Outcome::Failed) if changed_nothing(&end) => self.not_due(announced),
                        _ => {}
                    }
                    facts.extend(part_facts);
                    acted |= end.acted;
                    ignored &=
                        end.outcome != Some(Outcome::Failed) || part.item.as_ref().is_ok_and(|i| i.ignore_errors);
                    match value {
                        Some(v) => {
                            if used.begins.is_some() {
                                turns.extend(v.as_object().and_then(|v| graph::turn(v, &part.locals)));
                            }
                            results.push(v);
                        }
                        None => known = false,
                    }
                    ended.parts.push(end);
                }
                ended.outcome = overall(&ended.parts);
                if ended.outcome == Outcome::Skipped {
                    ended.why = Some(if parts.is_empty() { "the loop is empty".into() } else { "when".into() });
                }
                registered = match (known, looped) {
                    (false, _) => None,
                    (true, true) => Some(result::of_loop(results)),
                    (true, false) => results.pop(),
                };
                if !known {
                    unknown = used.task.sets();
                }
            }
            Err(Refusal::Unknown { why, .. }) if self.check() => {
                ended.outcome = Outcome::KnownAfterApply;
                ended.why = Some(why);
                if used.task.module.harmless && used.begins.is_none() {
                    ended.outcome = Outcome::Skipped;
                } else {
                    self.add_fog(Touches::everything());
                }
                unknown = used.task.sets();
            }
            Err(Refusal::Unknown { why, .. }) => {
                ended.outcome = Outcome::Failed;
                let failure =
                    FailureReport { message: format!("it needs what no step has given: {why}"), ..Default::default() };
                ended.parts.push(PartEnded {
                    outcome: Some(Outcome::Failed),
                    failure: Some(failure),
                    ..Default::default()
                });
            }
            Err(Refusal::Wrong(found)) => {
                ended.outcome = Outcome::Failed;
                let failure = wrong(found);
                ended.parts.push(PartEnded {
                    outcome: Some(Outcome::Failed),
                    failure: Some(failure),
                    ..Default::default()
                });
            }
        }
        if let Some(failure) = self.give_back(Scoped::Task(step.task)).await? {
            ended.outcome = Outcome::Failed;
            ignored &= ignores;
            ended.parts.push(PartEnded {
                outcome: Some(Outcome::Failed),
                failure: Some(failure),
                ..Default::default()
            });
        }
        let mut sets = facts;
        if ended.outcome == Outcome::Failed {
            let failed = registered.get_or_insert_with(|| json!({"changed": false, "failed": true})).clone();
            if ignored {
                ended.outcome = Outcome::Ignored;
            } else if used.is_rescued() {
                ended.outcome = Outcome::Rescued;
                let task = json!({"name": title_of(&ended), "action": used.task.module.name});
                for (name, value) in [("failed_task", task), ("failed_result", failed)] {
                    sets.insert(format!("ansible_{name}"), value.clone());
                    sets.insert(name.into(), value);
                }
            }
        }
        self.announced.clear();
        if hidden {
            registered.iter().chain(sets.values()).for_each(|v| self.keep_secret(v));
            conceal(&mut ended);
        }
        if let (Some(name), Some(v)) = (&used.task.register, registered) {
            sets.insert(name.clone(), v);
        }
        // What tasks set stands above files of variables, whichever comes first.
        match used.task.module.name {
            "include_vars" => {
                sets.retain(|k, _| !self.dynamic.fixed.contains(k) || used.task.register.as_ref() == Some(k))
            }
            "set_fact" => Arc::make_mut(&mut self.dynamic.fixed).extend(sets.keys().cloned()),
            _ => {}
        }
        if let Some(name) = used.task.register.as_ref().filter(|n| sets.contains_key(*n)) {
            Arc::make_mut(&mut self.dynamic.fixed).insert(name.clone());
        }
        for (k, v) in &sets {
            self.later.remove(k);
            Arc::make_mut(&mut self.dynamic.vars).insert(k.clone(), v.clone());
        }
        self.later.extend(unknown.iter().cloned());
        if used.run_once() && !(sets.is_empty() && unknown.is_empty()) {
            self.gave_all(used.phase, &sets, &unknown);
        }
        if ended.outcome == Outcome::Changed {
            self.notify(step.task, changed);
        }
        if used.handler {
            self.handler_done(step.task, ended.outcome);
        }
        ended.took = started.elapsed();
        let outcome = ended.outcome;
        shared.emit.send(Event::StepEnded(Box::new(ended)));
        Ok(Done { outcome, sets, unknown, turns })
    }

    /// Whether nothing of an item is to be shown; where that cannot be said, nothing is.
    fn is_hidden(&self, task: usize, part: &Part) -> bool {
        let no_log = self.shared.program.tasks[task].no_log();
        match &part.item {
            Ok(item) => item.no_log,
            Err(_) => graph::hides(no_log, &self.place(task).scope(part.locals.clone())).unwrap_or(true),
        }
    }

    /// What a task keeps to itself is not shown by others either.
    fn keep_secret(&self, value: &Value) {
        let mut secrets = crate::vault::Secrets::new();
        // Of a command line only long words are kept: `echo` is no secret.
        let mut row = vec![(value, false)];
        while let Some((v, is_command)) = row.pop() {
            match v {
                Value::String(s) if is_command && s.chars().count() < crate::vault::redact::MIN_TOLD_CHARS => {}
                Value::String(s) => {
                    secrets.add_told(s);
                    // What `slurp` brings is in base64.
                    use base64::Engine as _;
                    if let Some(text) =
                        base64::engine::general_purpose::STANDARD.decode(s).ok().and_then(|b| String::from_utf8(b).ok())
                        && !text.contains(|c: char| c.is_control() && !c.is_whitespace())
                    {
                        secrets.add_told(&text);
                    }
                }
                Value::Array(a) => row.extend(a.iter().map(|v| (v, is_command))),
                Value::Object(o) => {
                    let told = o.iter().filter(|(k, _)| !NO_SECRETS.contains(&k.as_str()));
                    row.extend(told.map(|(k, v)| (v, is_command || k == "cmd")));
                }
                _ => {}
            }
        }
        self.shared.emit.redactor().add(&secrets);
    }

    /// The task's name on this host, as far as it can be rendered.
    fn title(&self, task: usize) -> String {
        let p = &self.shared.program;
        let used = &p.tasks[task];
        let Some(name) = used.task.name.as_ref().filter(|n| n.text.contains("{{")) else { return used.title() };
        let place = Place { program: p, host: self.host, task: used, dynamic: &self.dynamic, pending: &self.later };
        match graph::render_text(name, &place.scope(Map::new())) {
            Ok(v) => match &used.role {
                Some(r) => format!("{} : {}", r.role.name, crate::template::text(&v)),
                None => crate::template::text(&v),
            },
            Err(_) => used.title(),
        }
    }

    /// Handlers this task notifies, by index.
    fn handlers_of(&self, task: usize) -> Vec<usize> {
        let p = &self.shared.program;
        let used = &p.tasks[task];
        let place = Place { program: p, host: self.host, task: used, dynamic: &self.dynamic, pending: &self.later };
        let scope = place.scope(self.item.clone());
        let names = used.task.notify.iter().flat_map(|n| match graph::render_text(n, &scope) {
            Ok(v) => graph::notified(&v),
            Err(_) => vec![n.text.clone()],
        });
        let names: Vec<String> = names.collect();
        let own = |h: &TaskUse| h.handler && h.stands_for.is_none() && h.phase == used.phase;
        let of_phase = p.tasks.iter().enumerate().filter(|(_, h)| own(h));
        // A handler does not call for itself: it would never be done.
        let own = used.handler.then(|| used.stands_for.unwrap_or(task));
        let heard = of_phase.filter(|(_, h)| names.iter().any(|n| graph::hears(h, n)));
        heard.map(|(i, _)| i).filter(|i| Some(*i) != own).collect()
    }

    /// Of a loop each item that changed something notifies on its own: the handler's name can be made of it.
    fn notify(&mut self, task: usize, changed: Vec<Map<String, Value>>) {
        let by_item = self.shared.program.tasks[task].task.notify.iter().any(|n| n.text.contains("{{"));
        for item in changed.into_iter().take(if by_item { usize::MAX } else { 1 }) {
            self.item = item;
            self.notified.extend(self.handlers_of(task));
        }
        self.item.clear();
    }

    /// Before a change: its handlers are due from now on, whatever becomes of this process.
    pub(super) fn announce(&mut self, task: usize) -> Result<(), GivenUp> {
        let shared = self.shared.clone();
        let p = &shared.program;
        if self.check() {
            return Ok(());
        }
        for h in self.handlers_of(task) {
            let key = p.handler_key(&p.tasks[h]);
            if shared.due.is_due(self.name(), &key) {
                continue;
            }
            self.announced.push(key.clone());
            shared.due.set(self.name(), &key, true).map_err(|e| {
                GivenUp(
                    Error::environment("cannot write down which handlers are due")
                        .because(e)
                        .hint("is the project's folder writable?"),
                )
            })?;
        }
        Ok(())
    }

    /// What is done once gives all hosts of the batch what it gives this one: the next step can ask for theirs.
    fn gave_all(&mut self, phase: usize, sets: &Map<String, Value>, unknown: &[String]) {
        let shared = self.shared.clone();
        let p = &shared.program;
        let others = Arc::make_mut(&mut self.dynamic.others);
        others.later.extend(unknown.iter().cloned());
        let batch = p.batch_of(phase, self.host).map_or(&[][..], |(_, b)| b);
        for h in batch.iter().filter(|h| **h != self.host) {
            let learned = others.vars.entry(p.hosts[*h].name.clone()).or_default();
            Arc::make_mut(learned).extend(sets.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
    }

    /// Takes back what was announced, from one on.
    fn not_due(&mut self, from: usize) {
        for key in self.announced.split_off(from) {
            let _ = self.shared.due.set(self.name(), &key, false);
        }
    }

    fn handler_done(&mut self, task: usize, outcome: Outcome) {
        let p = &self.shared.program;
        self.notified.remove(&p.tasks[task].stands_for.unwrap_or(task));
        if !self.check() && !matches!(outcome, Outcome::Failed | Outcome::KnownAfterApply) {
            let _ = self.shared.due.set(self.name(), &p.handler_key(&p.tasks[task]), false);
        }
    }

    /// One item: asked, decided, done, judged; again as long as `until` wants it.
    async fn part(
        &mut self,
        task: usize,
        part: &Part,
        ahead: Ahead<'_>,
    ) -> Result<(PartEnded, Option<Value>, Map<String, Value>), GivenUp> {
        let shared = self.shared.clone();
        let used = &shared.program.tasks[task];
        let mut end = PartEnded { label: part.label.clone(), ..Default::default() };
        let item = match &part.item {
            Ok(item) => item,
            Err(why) => {
                end.outcome = Some(Outcome::Skipped);
                let mut r = result::skipped(why);
                result::add_item(&mut r, &part.locals);
                return Ok((end, Some(r), Map::new()));
            }
        };
        let retries = item.retries;
        self.go_to(&self.at(item.delegate.as_deref(), item.login.as_deref()));
        let mut reconnects = 0;
        let mut lost = false;
        loop {
            end.attempts += 1;
            let mut did = match self.once(task, item, ahead, &mut reconnects).await? {
                Some(d) => d,
                // The connection was lost before anything was sent that cannot be repeated.
                None => {
                    end.attempts -= 1;
                    lost = true;
                    continue;
                }
            };
            // It was not as wanted before the connection was lost, and is now: the change was done, only its answer was lost.
            if std::mem::take(&mut lost) && did.outcome == Outcome::Satisfied {
                did.outcome = Outcome::Changed;
                did.acted = true;
                did.summary = "done before the connection was lost".into();
            }
            if did.outcome == Outcome::KnownAfterApply {
                end.outcome = Some(did.outcome);
                end.summary = did.summary;
                return Ok((end, None, Map::new()));
            }
            result::add_item(&mut did.result, &part.locals);
            let judged = self.judge(task, part, &mut did);
            if let Err(found) = judged {
                did.outcome = Outcome::Failed;
                did.failure = Some(wrong(found));
            }
            let again = match self.holds(task, part, &did, &used.task.until) {
                _ if retries == 0 || item.check_mode.unwrap_or(self.check()) => false,
                // Tries without an `until` are for what may fail.
                _ if used.task.until.is_empty() => did.outcome == Outcome::Failed,
                Ok(done) => !done,
                Err(found) => {
                    did.outcome = Outcome::Failed;
                    did.failure = Some(wrong(found));
                    false
                }
            };
            if again && u64::from(end.attempts) <= retries && !shared.stop.load(Ordering::Relaxed) {
                shared.sleep(item.delay).await;
                self.forget(&Touches::everything());
                continue;
            }
            if again {
                did.outcome = Outcome::Failed;
                let conditions: Vec<&str> = used.task.until.iter().map(|c| c.text.as_str()).collect();
                let failure = did.failure.get_or_insert_default();
                failure.message = match conditions.as_slice() {
                    [] => format!("{}, {} times", failure.message, end.attempts),
                    all => format!("still not `{}` after {} tries", all.join(" and "), end.attempts),
                };
            }
            let failed = did.outcome == Outcome::Failed;
            if failed && !self.check() {
                self.explain(task, part, &mut did).await?;
            }
            if let Some(o) = did.result.as_object_mut() {
                o.insert("changed".into(), json!(did.outcome == Outcome::Changed));
                o.insert("failed".into(), json!(failed));
                if end.attempts > 1 || retries > 0 {
                    // As Ansible counts them: once all are used up, the tries that were made again.
                    let used_up = again && u64::from(end.attempts) > retries;
                    o.insert("attempts".into(), json!(end.attempts - u32::from(used_up)));
                }
                if let (true, Some(f)) = (failed, &did.failure) {
                    o.entry("msg").or_insert_with(|| json!(f.message));
                }
            }
            end.outcome = Some(did.outcome);
            end.acted = did.acted;
            end.summary = did.summary;
            end.diff = did.diff;
            end.say = did.say;
            end.say_from = did.say_from;
            end.output = did.output;
            end.failure = did.failure.filter(|_| failed);
            return Ok((end, did.known.then_some(did.result), did.facts));
        }
    }

    /// `changed_when` and `failed_when` have the last word.
    fn judge(&self, task: usize, part: &Part, did: &mut Did) -> Result<(), Vec<crate::source::Diagnostic>> {
        let t = &self.shared.program.tasks[task].task;
        if !did.known {
            // Planned and not run: only what does not ask for its result can be said.
            if t.changed_when.iter().any(|c| c.text == "false") {
                did.outcome = Outcome::Skipped;
                did.summary = format!("only an apply {}", did.summary);
            }
            return Ok(());
        }
        if !t.failed_when.is_empty() {
            let failed = self.holds(task, part, did, &t.failed_when)?;
            if failed && did.outcome != Outcome::Failed {
                did.outcome = Outcome::Failed;
                let conditions: Vec<&str> = t.failed_when.iter().map(|c| c.text.as_str()).collect();
                let output = did.output.clone().unwrap_or_default();
                did.failure = Some(FailureReport {
                    message: format!("failed_when: `{}`", conditions.join("` and `")),
                    rc: did.output.as_ref().map(|o| o.rc),
                    command: Some(did.summary.clone()),
                    stdout: output.stdout,
                    stderr: output.stderr,
                    ..Default::default()
                });
            } else if !failed && did.outcome == Outcome::Failed {
                did.outcome = if did.acted { Outcome::Changed } else { Outcome::Satisfied };
                did.failure = None;
            }
        }
        if !t.changed_when.is_empty() && did.outcome != Outcome::Failed {
            let changed = self.holds(task, part, did, &t.changed_when)?;
            did.outcome = if changed { Outcome::Changed } else { Outcome::Satisfied };
        }
        Ok(())
    }

    /// Whether all of these hold, the step's result being known under its name.
    fn holds(
        &self,
        task: usize,
        part: &Part,
        did: &Did,
        conditions: &[crate::playbook::Condition],
    ) -> Result<bool, Vec<crate::source::Diagnostic>> {
        let p = &self.shared.program;
        let used = &p.tasks[task];
        let mut locals = part.locals.clone();
        let mut result = did.result.clone();
        if let Some(r) = result.as_object_mut() {
            r.insert("changed".into(), json!(did.outcome == Outcome::Changed));
            r.insert("failed".into(), json!(did.outcome == Outcome::Failed));
        }
        if let Some(name) = &used.task.register {
            locals.insert(name.clone(), result.clone());
        }
        // The result's own fields are at hand as well, as `result.rc`.
        locals.entry("result").or_insert(result);
        let place = Place { program: p, host: self.host, task: used, dynamic: &self.dynamic, pending: &self.later };
        let scope = place.scope(locals);
        for c in conditions {
            match graph::evaluate(c, &scope) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(Refusal::Wrong(d)) => return Err(d),
                Err(Refusal::Unknown { why, .. }) => {
                    return Err(vec![crate::source::Diagnostic::error(why).at(&c.span)]);
                }
            }
        }
        Ok(true)
    }

    /// What modules are told besides what was seen.
    fn ctx(&self, user: Option<String>, check: bool) -> Ctx {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ctx {
            waited: Duration::ZERO,
            diff: self.shared.diff,
            check,
            user: user.unwrap_or_else(|| self.site.link.as_ref().map_or("root".into(), |l| l.login.clone())),
            answer: None,
            now: now.map_or(0, |d| d.as_secs() as i64),
        }
    }

    /// Asks, decides and acts once. `None`: the connection was lost, and it is safe to start over.
    async fn once(
        &mut self,
        task: usize,
        item: &graph::Item,
        ahead: Ahead<'_>,
        reconnects: &mut u32,
    ) -> Result<Option<Did>, GivenUp> {
        let shared = self.shared.clone();
        let t = &shared.program.tasks[task].task;
        // A host that is waited for cannot be asked who logs in there.
        let user = match t.module.name {
            "wait_for_connection" => None,
            _ => self.user_key(item.become_user.as_deref()).await?,
        };
        let plan_only = item.check_mode.unwrap_or(self.check());
        let mut ctx = self.ctx(item.become_user.clone(), plan_only);
        let begun = Instant::now();
        let mut asked: HashSet<Probe> = HashSet::new();
        let mut waited = false;
        let mut agreed = false;
        let probes = item.bound.probes(&ctx);
        let seen = self.site.seen.entry(user.clone()).or_default();
        // In a plan they are as they are, but for what was planned.
        if !shared.program.check_mode {
            seen.forget_our_files();
        }
        if t.module.anew {
            probes.iter().for_each(|p| seen.remove(p));
        }
        self.gather(&user, probes, ahead, &ctx).await?;
        // Before its first question a host's login is not known.
        if let (None, Some(l)) = (&item.become_user, &self.site.link) {
            ctx.user = l.login.clone();
        }
        loop {
            let decision = item.bound.decide(self.site.seen.entry(user.clone()).or_default(), &ctx);
            match decision {
                Ok(Decision::Satisfied(r)) => {
                    match r.refresh {
                        Some(Refresh::Facts) if self.is_home() => self.forget_facts(),
                        Some(Refresh::Connection) => self.drop_link().await,
                        _ => {}
                    }
                    let mut result = r.result;
                    if waited {
                        result.insert("elapsed".into(), json!(begun.elapsed().as_secs()));
                    }
                    return Ok(Some(Did {
                        result: Value::Object(result),
                        say: r.say,
                        say_from: r.say_from,
                        facts: r.facts,
                        ..Did::new(Outcome::Satisfied)
                    }));
                }
                // By its own word (`check_mode: true`) it only looks, in the middle of a run that acts.
                Ok(Decision::Change(c)) if plan_only && !self.check() => return Ok(Some(Did::only_looked(c))),
                Ok(Decision::Wait(w)) if plan_only && !self.check() => {
                    return Ok(Some(Did::not_done(&format!("would wait: {}", w.message))));
                }
                Ok(Decision::Change(c)) if plan_only && c.reader.is_some() => {
                    self.add_fog(c.touches.clone());
                    return Ok(Some(Did::left_out(&c)));
                }
                Ok(Decision::Change(mut c)) if plan_only => {
                    // By its own word it changes nothing; all that was seen before it holds after it.
                    if asks_only(t, &c) {
                        c.touches = Touches::default();
                    }
                    return Ok(Some(self.imagine(&user, c)));
                }
                // A question asked in a plan, after changes that are only planned: the answer would be of another day.
                Ok(Decision::Change(c)) if self.check() && self.site.fog.touched.is_some() && asks_only(t, &c) => {
                    let mut d = Did::new(Outcome::KnownAfterApply);
                    d.summary = format!("only an apply {}", c.summary);
                    d.known = false;
                    return Ok(Some(d));
                }
                Ok(Decision::Change(c)) => {
                    if !self.check() && !asks_only(t, &c) && !c.actions.is_empty() {
                        if !agreed && !self.is_wanted(task, item, &c.summary, &c.diff).await {
                            return Ok(Some(Did::unwanted(&c.summary)));
                        }
                        agreed = true;
                        match self.take_holds(task, &user).await? {
                            Taken::AtHand => {}
                            // What was seen before is of another day.
                            Taken::Waited => {
                                self.forget(&Touches::everything());
                                asked.clear();
                                self.gather(&user, item.bound.probes(&ctx), ahead, &ctx).await?;
                                continue;
                            }
                            Taken::Refused(f) => {
                                let did = Did { failure: Some(*f), ..Did::new(Outcome::Failed) };
                                return Ok(Some(did));
                            }
                        }
                    }
                    let commands = c.actions.iter().any(|a| matches!(a, Action::Command(_)));
                    match self.act(task, &user, item, c, ahead, &ctx).await? {
                        Acted::Did(d) => return Ok(Some(*d)),
                        Acted::Lost(message) => {
                            *reconnects += 1;
                            if commands || *reconnects > RECONNECTS {
                                let message = format!("the connection was lost while the command ran: {message}");
                                let hint = "whether it ran to its end is not known; look at the host, then run again";
                                return Err(GivenUp(Error::unreachable(message).hint(hint)));
                            }
                            return Ok(None);
                        }
                    }
                }
                Ok(Decision::Ask(q)) if self.check() => {
                    let mut d = Did::new(Outcome::Skipped);
                    d.known = false;
                    d.summary = format!("only an apply asks: {}", q.text);
                    return Ok(Some(d));
                }
                Ok(Decision::Ask(q)) => {
                    match shared.asker.ask(&shared, &shared.program.hosts[self.host].name, &q).await {
                        Some(line) => ctx.answer = Some(line),
                        None => {
                            return Ok(Some(Did::refused(Failure {
                            message: format!("nobody is there to answer: {}", q.text),
                            hint: Some("run it at a terminal, or let `answer` have a value: answer: \"{{default go_on ''}}\" takes it from -e go_on=yes".into()),
                            ..Default::default()
                        })));
                        }
                    }
                }
                // No plan takes a host down, whatever its task says of check mode.
                Ok(Decision::Away(a)) => {
                    let plan_only = plan_only || self.check();
                    let summary = if a.down.is_some() { "restarts the host" } else { "" };
                    if !plan_only && a.down.is_some() && !self.is_wanted(task, item, summary, &[]).await {
                        return Ok(Some(Did::unwanted(summary)));
                    }
                    return self.away(task, &user, item, a, plan_only).await.map(Some);
                }
                Ok(Decision::Wait(w)) if plan_only => {
                    let mut d = Did::new(Outcome::Skipped);
                    d.known = false;
                    d.summary = format!("only an apply waits: {}", w.message);
                    return Ok(Some(d));
                }
                Ok(Decision::Wait(w)) => {
                    let pause = if waited { w.every } else { w.delay.max(w.every) };
                    let elapsed = begun.elapsed();
                    // The task's own limit is one of all its time. The last look is when time is up.
                    let own = item.timeout.filter(|t| *t < w.limit);
                    let left = own.unwrap_or(w.limit).saturating_sub(elapsed);
                    let why = match own {
                        _ if shared.stop.load(Ordering::Relaxed) => {
                            Some(format!("the run was stopped after {} s", elapsed.as_secs()))
                        }
                        Some(limit) if left.is_zero() => Some(format!("did not end within {} s", limit.as_secs())),
                        _ if left.is_zero() => Some(w.message.clone()),
                        _ => None,
                    };
                    if let Some(why) = why {
                        return Ok(Some(self.waited_in_vain(&user, w, why, elapsed).await?));
                    }
                    waited = true;
                    shared.sleep(pause.min(left)).await;
                    ctx.waited = begun.elapsed();
                    self.forget(&Touches::everything());
                    asked.clear();
                    self.ask(&user, item.bound.probes(&ctx)).await?;
                }
                Err(Stop::Need(probes)) => {
                    let unknowable =
                        probes.iter().find(|p| self.site.fog.unknowable.contains(&(user.clone(), (*p).clone())));
                    if let Some(unknowable) = unknowable {
                        let harmless = t.module.harmless;
                        let mut d = Did::new(if harmless { Outcome::Skipped } else { Outcome::KnownAfterApply });
                        (d.summary, d.diff) = match here::why_later(unknowable) {
                            Some(why) => (why, vec![]),
                            None => self.as_it_is(&user, item, &ctx).await?,
                        };
                        d.known = false;
                        if !harmless {
                            self.add_fog(Touches::everything());
                        }
                        return Ok(Some(d));
                    }
                    if probes.iter().all(|p| asked.contains(p)) {
                        return Err(GivenUp(Error::internal(format!(
                            "`{}` asks the same again: {probes:?}",
                            t.module.name
                        ))));
                    }
                    asked.extend(probes.iter().cloned());
                    self.gather(&user, probes, ahead, &ctx).await?;
                }
                Err(Stop::Fail(f)) => return Ok(Some(Did::refused(f))),
            }
        }
    }

    /// Whether the person at the terminal wants this change, where every step is asked for.
    async fn is_wanted(
        &mut self,
        task: usize,
        item: &graph::Item,
        summary: &str,
        diff: &[crate::modules::Diff],
    ) -> bool {
        let shared = self.shared.clone();
        let (host, title) = (self.name().to_string(), self.title(task));
        match item.no_log {
            true => shared.asker.wants(&shared, &host, &format!("{title} (no_log)"), &[]).await,
            false => shared.asker.wants(&shared, &host, &format!("{title}, {summary}"), diff).await,
        }
    }

    /// What a step would do on the host as it is: worth telling where a plan cannot know what it will be.
    async fn as_it_is(
        &mut self,
        user: &Option<String>,
        item: &graph::Item,
        ctx: &Ctx,
    ) -> Result<(String, Vec<crate::modules::Diff>), GivenUp> {
        for _ in 0..4 {
            match item.bound.decide(self.site.fog.now.entry(user.clone()).or_default(), ctx) {
                Ok(Decision::Change(c)) => return Ok((format!("as it is now: {}", c.summary), c.diff)),
                Ok(Decision::Satisfied(_)) => return Ok(("as it is now: satisfied".into(), vec![])),
                Err(Stop::Need(probes)) if !self.missing(user, probes.clone()).is_empty() => {
                    self.ask(user, probes).await?
                }
                _ => break,
            }
        }
        Ok(("it depends on what an earlier change brings".into(), vec![]))
    }

    /// In a plan: what the change would leave behind.
    fn imagine(&mut self, user: &Option<String>, c: Change) -> Did {
        self.add_fog(c.touches);
        let seen = self.site.seen.entry(user.clone()).or_default();
        for (p, a) in c.after {
            self.site.fog.certain.insert((user.clone(), p.clone()));
            self.site.fog.unknowable.remove(&(user.clone(), p.clone()));
            seen.insert(p, a);
        }
        let runs = c.actions.iter().any(|a| matches!(a, Action::Command(_)));
        Did {
            summary: c.summary,
            diff: c.diff,
            result: Value::Object(c.result),
            known: !runs && c.adds.is_none(),
            acted: true,
            ..Did::new(if c.uncounted { Outcome::Satisfied } else { Outcome::Changed })
        }
    }

    pub(super) fn add_fog(&mut self, touches: Touches) {
        self.site.seen.values_mut().for_each(|s| s.forget(&touches));
        for (user, seen) in &self.site.seen {
            self.site.fog.certain.retain(|(u, p)| u != user || seen.has(p));
        }
        let before = self.site.fog.touched.take().unwrap_or_default();
        self.site.fog.touched = Some(before.and(touches));
    }

    /// Sends a change together with the probes of what comes next, and judges what came back.
    #[allow(clippy::too_many_arguments)]
    async fn act(
        &mut self,
        task: usize,
        user: &Option<String>,
        item: &graph::Item,
        mut c: Change,
        ahead: Ahead<'_>,
        ctx: &Ctx,
    ) -> Result<Acted, GivenUp> {
        let t = self.shared.program.tasks[task].task.clone();
        let job = background::id();
        let within = |limit: Duration| item.timeout.map_or(limit, |t| t.min(limit));
        let background = item.background.map(|(limit, poll)| Background { limit: within(limit), poll });
        let seconds = item.timeout.map(|t| t.as_secs());
        for a in &mut c.actions {
            if let Action::Command(cmd) = a {
                cmd.environment = item.environment.clone();
                cmd.timeout = seconds.or(cmd.timeout);
                if let Some(b) = background {
                    *cmd = background::start(std::mem::take(cmd), &job, b.limit);
                }
            }
        }
        // What changes nothing, by its own word, notifies nobody.
        if !t.notify.is_empty() && !t.changed_when.iter().any(|c| c.text == "false") {
            self.announce(task)?;
        }
        self.forget(&c.touches);
        if c.touches.everything {
            self.site.reach = NEAR;
        }
        // What the step itself looked at is not looked at again, unless another step does.
        let probes = self.probes_ahead(user, ahead, ctx, NEAR);
        let probes = self.missing(user, probes);
        // A command has its limit on the host as well; its end by that limit is given time to come back.
        let commands = c.actions.iter().any(|a| matches!(a, Action::Command(_)));
        let limit = item.timeout.map(|t| t.saturating_add(Duration::from_secs(if commands { 30 } else { 0 })));
        let actions = std::mem::take(&mut c.actions);
        if c.touches.users
            && let Some(l) = &mut self.site.link
        {
            l.log_out_others(user).await;
        }
        let (began, clock) = (chrono::Utc::now(), Instant::now());
        let reply = match self.send(user, &actions, &probes, limit).await {
            Ok(r) => r,
            Err(LinkError::Lost(m)) => {
                self.drop_link().await;
                return Ok(Acted::Lost(m));
            }
            Err(LinkError::Refused(e)) => return Err(GivenUp(e)),
            Err(LinkError::Left) => {
                let e = was_left();
                let failure = Failure { message: e.to_string(), hint: e.hint, ..Default::default() };
                return Ok(Acted::Did(Box::new(Did::refused(failure))));
            }
            Err(LinkError::TimedOut(d)) => {
                self.drop_link().await;
                return Ok(Acted::Did(Box::new(Did::refused(Failure {
                    message: format!("did not end within {} s", d.as_secs()),
                    hint: Some("what was started on the host may still be running".into()),
                    ..Default::default()
                }))));
            }
        };
        let took = clock.elapsed();
        let Reply { outputs, answers } = reply;
        self.learn(user, answers);
        if let Some(reader) = c.reader.take() {
            return Ok(Acted::Did(Box::new(Did::read(&reader, &outputs, c))));
        }
        let last = outputs.last().cloned().unwrap_or_default();
        let failed = outputs.len() < actions.len() || outputs.iter().any(|o| o.rc != 0);
        let is_command = matches!(actions.get(outputs.len().saturating_sub(1)), Some(Action::Command(_)));
        if let Some(adds) = c.adds.filter(|_| !failed) {
            for (field, value) in adds(&outputs) {
                c.result.entry(field).or_insert(value);
            }
        }
        let mut result = Value::Object(c.result);
        if is_command {
            result::add_output(&mut result, &last);
            result::add_times(&mut result, began, took);
        }
        let changed = !failed && !c.uncounted && c.verdict.is_none_or(|v| v(&outputs));
        let mut did = Did {
            summary: c.summary,
            diff: c.diff,
            result,
            acted: true,
            output: is_command.then(|| last.clone()),
            ..Did::new(if failed {
                Outcome::Failed
            } else if changed {
                Outcome::Changed
            } else {
                Outcome::Satisfied
            })
        };
        if failed {
            // Something may have been done before it failed: what was known is no longer.
            self.forget(&Touches::everything());
            // A command that ends so sooner has said it itself.
            let over = seconds.is_some_and(|s| took.as_secs() >= s);
            let timed_out = is_command && over && matches!(last.rc, 124 | 137);
            let put = match actions.get(outputs.len().saturating_sub(1)) {
                Some(Action::Put(p)) => Some(p.path.as_str()),
                _ => None,
            };
            did.failure = Some(FailureReport {
                hint: put.and_then(|p| no_room(p, &last.stderr)),
                message: match (timed_out, is_command) {
                    (true, _) => format!("did not end within {} s and was stopped", seconds.unwrap_or_default()),
                    (_, true) => format!("the command ended with exit code {}", last.rc),
                    _ => {
                        let said = last_line(&last.stderr)
                            .map_or_else(|| format!("failed with exit code {}", last.rc), str::to_string);
                        put.map_or(said.clone(), |p| format!("cannot put {p} in place: {said}"))
                    }
                },
                command: is_command.then(|| did.summary.strip_prefix("runs ").unwrap_or(&did.summary).to_string()),
                rc: Some(last.rc),
                stdout: last.stdout.clone(),
                stderr: last.stderr.clone(),
                ..Default::default()
            });
        }
        if let (Some(b), false) = (background, failed) {
            did = self.started(user, &job, b, did).await?;
        }
        Ok(Acted::Did(Box::new(did)))
    }

    async fn waited_in_vain(
        &mut self,
        user: &Option<String>,
        w: Wait,
        message: String,
        elapsed: Duration,
    ) -> Result<Did, GivenUp> {
        let probes: Vec<Probe> = w.evidence.iter().map(|(_, s)| Probe::Script(s.clone())).collect();
        self.ask(user, probes).await?;
        let seen = self.site.seen.entry(user.clone()).or_default();
        let evidence = w
            .evidence
            .iter()
            .filter_map(|(title, script)| {
                let o = seen.script(script).ok()?;
                let text = if o.stdout.trim().is_empty() { o.stderr.trim() } else { o.stdout.trim() };
                (!text.is_empty()).then(|| (title.clone(), text.to_string()))
            })
            .collect();
        let mut d = Did::new(Outcome::Failed);
        d.result = json!({"elapsed": elapsed.as_secs()});
        d.failure = Some(FailureReport { message, evidence, ..Default::default() });
        Ok(d)
    }

    /// Asks for these probes and, in the same request, for those of the steps ahead; only for what is not known.
    async fn gather(
        &mut self,
        user: &Option<String>,
        mut probes: Vec<Probe>,
        ahead: Ahead<'_>,
        ctx: &Ctx,
    ) -> Result<(), GivenUp> {
        if self.missing(user, probes.clone()).is_empty() {
            return Ok(());
        }
        probes.extend(self.probes_ahead(user, ahead, ctx, self.site.reach));
        self.site.reach = (self.site.reach * 2).min(FAR);
        self.ask(user, probes).await
    }

    /// What comes next will ask as this user, up to about so many probes.
    fn probes_ahead(&self, user: &Option<String>, ahead: Ahead<'_>, ctx: &Ctx, most: usize) -> Vec<Probe> {
        let mut probes = vec![];
        let ready = ahead.ready.iter().filter_map(|r| match &r.what {
            Work::Step(Step { prepared: Ok(Prepared::Parts { parts, .. }), .. }) => Some(parts.as_slice()),
            _ => None,
        });
        let here = |i: &graph::Item| self.at(i.delegate.as_deref(), i.login.as_deref()) == self.site.at;
        for parts in std::iter::once(ahead.rest).chain(ready) {
            for item in parts.iter().filter_map(|p| p.item.as_ref().ok()).filter(|i| here(i)) {
                if probes.len() >= most {
                    break;
                }
                let login = self.site.link.as_ref().map(|l| l.user_key(item.become_user.as_deref()));
                if login.is_none_or(|k| k == *user) {
                    probes.extend(item.bound.probes(ctx).into_iter().filter(|p| !p.is_ours()));
                }
            }
        }
        if self.shared.wants_facts && self.dynamic.facts.is_none() && self.is_home() {
            probes.push(Probe::Facts);
        }
        probes
    }

    fn missing(&self, user: &Option<String>, probes: Vec<Probe>) -> Vec<Probe> {
        let seen = self.site.seen.get(user);
        let mut once = HashSet::new();
        probes
            .into_iter()
            .filter(|p| {
                !seen.is_some_and(|s| s.has(p))
                    && !self.site.fog.unknowable.contains(&(user.clone(), p.clone()))
                    && once.insert(p.clone())
            })
            .collect()
    }

    /// Where a task of this host stands.
    pub(super) fn place(&self, task: usize) -> Place<'_> {
        Place {
            program: &self.shared.program,
            host: self.host,
            task: &self.shared.program.tasks[task],
            dynamic: &self.dynamic,
            pending: &self.later,
        }
    }

    /// Asks for one script's output, whatever was known before.
    pub(super) async fn ask_now(&mut self, user: &Option<String>, probe: &Probe) -> Result<Output, GivenUp> {
        let seen = self.site.seen.entry(user.clone()).or_default();
        seen.remove(probe);
        self.ask(user, vec![probe.clone()]).await?;
        let Probe::Script(text) = probe else { return Err(GivenUp(Error::internal("not a script"))) };
        let seen = self.site.seen.entry(user.clone()).or_default();
        let output = seen.script(text).cloned().map_err(|_| GivenUp(Error::internal("no answer to a question")));
        seen.remove(probe);
        output
    }

    pub(super) async fn ask(&mut self, user: &Option<String>, probes: Vec<Probe>) -> Result<(), GivenUp> {
        let probes = self.missing(user, probes);
        let (ours, probes): (Vec<_>, Vec<_>) = probes.into_iter().partition(Probe::is_ours);
        if !ours.is_empty() {
            let answers = here::answer(&self.shared.options.downloads, ours, self.check()).await;
            self.learn(user, answers.known);
            self.site.fog.unknowable.extend(answers.later.into_iter().map(|p| (user.clone(), p)));
        }
        if probes.is_empty() {
            return Ok(());
        }
        let slow = probes.iter().any(|p| matches!(p, Probe::Script(_)));
        let limit = if slow { PROBE_LIMIT * 5 } else { PROBE_LIMIT };
        for attempt in 0..=RECONNECTS {
            match self.send(user, &[], &probes, Some(limit)).await {
                Ok(reply) => {
                    self.learn(user, reply.answers);
                    return Ok(());
                }
                Err(LinkError::Lost(m)) => {
                    self.drop_link().await;
                    if attempt == RECONNECTS {
                        return Err(GivenUp(Error::unreachable(format!("the connection was lost: {m}"))));
                    }
                }
                Err(LinkError::Refused(e)) => return Err(GivenUp(e)),
                Err(LinkError::Left) => return Err(GivenUp(was_left())),
                Err(LinkError::TimedOut(d)) => {
                    self.drop_link().await;
                    return Err(GivenUp(Error::unreachable(format!("no answer within {} s", d.as_secs()))));
                }
            }
        }
        Ok(())
    }

    fn learn(&mut self, user: &Option<String>, answers: Vec<(Probe, crate::probe::Answer)>) {
        let home = self.is_home();
        if self.check() {
            let now = self.site.fog.now.entry(user.clone()).or_default();
            answers.iter().cloned().for_each(|(p, a)| now.insert(p, a));
        }
        let seen = self.site.seen.entry(user.clone()).or_default();
        let fresh: Vec<Probe> = answers.iter().map(|(p, _)| p.clone()).collect();
        for (p, a) in answers {
            if let crate::probe::Answer::Facts(f) = &a
                && home
            {
                let facts = Arc::new(f.clone());
                self.news = Some(facts.clone());
                self.dynamic.facts = Some(facts);
            }
            seen.insert(p, a);
        }
        // In a plan: what an earlier planned change would have touched is not as it was just seen.
        if let Some(t) = &self.site.fog.touched {
            for p in fresh {
                let key = (user.clone(), p);
                if !self.site.fog.certain.contains(&key) && seen.is_touched(&key.1, t) {
                    seen.remove(&key.1);
                    self.site.fog.unknowable.insert(key);
                }
            }
        }
    }

    /// After something was really done. What only a planned change makes certain stays: nothing on the host can tell.
    pub(super) fn forget(&mut self, t: &Touches) {
        self.site.forget(t);
    }

    pub(super) async fn user_key(&mut self, become_user: Option<&str>) -> Result<Option<String>, GivenUp> {
        if become_user.is_none() {
            return Ok(None);
        }
        Ok(self.link().await.map_err(GivenUp)?.user_key(become_user))
    }

    async fn link(&mut self) -> Result<&mut Link, Error> {
        if self.site.link.is_none() {
            let begun = Instant::now();
            let shared = self.shared.clone();
            let link = tokio::select! {
                l = self.open(None) => l?,
                () = shared.left() => return Err(was_left()),
            };
            if self.is_home() {
                self.shared.emit.send(Event::Connected { host: self.site.name.clone(), took: begun.elapsed() });
            }
            self.site.link = Some(link);
        }
        self.site.link.as_mut().ok_or_else(|| Error::internal("no link"))
    }

    /// Connects to where it acts.
    pub(super) async fn open(&mut self, patience: Option<Duration>) -> Result<Link, Error> {
        let s = self.shared.clone();
        let to = &self.site.name;
        let mut options = s.options.clone();
        options.connect_timeout = patience.or(options.connect_timeout);
        if self.site.at == At::default() {
            return Link::open(&s.settings[self.host], &options, &s.ssh_config, &s.connector).await;
        }
        let settings = s.reached(to).ok_or_else(|| Error::internal(format!("nobody knows how {to} is reached")))?;
        // Its lock is shared with the host's own session in this run. This machine works for many runs at once.
        if matches!(settings.via, Via::Local) {
            options.lock = None;
        }
        let mut settings = settings.clone();
        if let Some(login) = &self.site.at.login {
            settings.name = format!("{}-as-{login}", settings.name);
            settings.user = Some(login.clone());
        }
        if !self.is_home() {
            settings.name = format!("{}-for-{}", settings.name, self.name());
        }
        Link::open(&settings, &options, &s.ssh_config, &s.connector).await
    }

    pub(super) async fn send(
        &mut self,
        user: &Option<String>,
        actions: &[Action],
        probes: &[Probe],
        limit: Option<Duration>,
    ) -> Result<Reply, LinkError> {
        let shared = self.shared.clone();
        if shared.is_left() {
            return Err(LinkError::Left);
        }
        let link = self.link().await.map_err(LinkError::Refused)?;
        tracing::debug!(actions = actions.len(), probes = probes.len(), "request");
        let exchange = async {
            let staged = link.stage(user, actions).await?;
            link.request(user, &Request { actions, probes, staged }, limit).await
        };
        tokio::select! {
            biased;
            r = exchange => r,
            () = shared.left() => {
                link.end(user).await;
                Err(LinkError::Left)
            }
        }
    }

    /// Sees to it that the host's facts are known.
    async fn facts(&mut self, ready: &VecDeque<Ready>) -> Result<Done, GivenUp> {
        if self.dynamic.facts.is_none() {
            let p = &self.shared.program;
            // It is logged in as for the first task.
            let here = |t: &graph::TaskUse| p.batches[t.phase].iter().flatten().any(|h| *h == self.host);
            let first = p.tasks.iter().position(|t| !t.left_out && here(t)).map(|t| self.place(t));
            let login = first.and_then(|p| graph::login(p, &p.scope(Map::new())).ok().flatten());
            self.go_to(&self.at(None, login.as_deref()));
            let user = self.user_key(None).await?;
            self.link().await.map_err(GivenUp)?;
            let ctx = self.ctx(None, self.check());
            self.gather(&user, vec![Probe::Facts], Ahead { rest: &[], ready }, &ctx).await?;
        }
        Ok(Done::of(Outcome::Silent))
    }

    /// Facts are asked for when they are needed next.
    fn forget_facts(&mut self) {
        self.dynamic.facts = None;
        self.site.seen.values_mut().for_each(|s| s.remove(&Probe::Facts));
    }

    pub(super) async fn drop_link(&mut self) {
        self.forget(&Touches::everything());
        if let Some(l) = self.site.link.take() {
            self.closed_round_trips += l.round_trips();
            let _ = tokio::time::timeout(Duration::from_secs(3), l.close()).await;
        }
    }
}

/// Why a host is left in the middle of its work.
pub(super) fn was_left() -> Error {
    Error::unreachable("the run was left: what was at work here was ended")
        .hint("some of it may have been done: look at the host, or run again")
}

/// The end of a step.
pub struct Done {
    outcome: Outcome,
    sets: Map<String, Value>,
    /// Names that have no value in this plan.
    unknown: Vec<String>,
    turns: Vec<Turn>,
}

impl Done {
    pub fn of(outcome: Outcome) -> Self {
        Done { outcome, sets: Map::new(), unknown: vec![], turns: vec![] }
    }
}

enum Acted {
    Did(Box<Did>),
    Lost(String),
}

/// What became of one item.
pub(super) struct Did {
    pub outcome: Outcome,
    pub summary: String,
    pub diff: Vec<crate::modules::Diff>,
    pub say: Option<String>,
    pub say_from: u8,
    pub facts: Map<String, Value>,
    pub result: Value,
    pub output: Option<Output>,
    pub failure: Option<FailureReport>,
    /// The result is that of a run, not of a plan that does not know it.
    pub known: bool,
    /// Something was (or would be) done.
    pub acted: bool,
}

impl Did {
    pub fn new(outcome: Outcome) -> Self {
        Did {
            outcome,
            summary: String::new(),
            diff: vec![],
            say: None,
            say_from: 0,
            facts: Map::new(),
            result: json!({}),
            output: None,
            failure: None,
            known: true,
            acted: false,
        }
    }
    fn unwanted(summary: &str) -> Self {
        let result = json!({"skipped": true, "skip_reason": "not wanted"});
        Did { result, summary: format!("not wanted: {summary}"), ..Did::new(Outcome::Skipped) }
    }
    pub fn refused(f: Failure) -> Self {
        let report = FailureReport { message: f.message, hint: f.hint, ..Default::default() };
        Did { result: Value::Object(f.result), failure: Some(report), ..Did::new(Outcome::Failed) }
    }
}

/// A command that by its task's (or its module's) own word changes nothing.
fn asks_only(task: &crate::playbook::Task, c: &Change) -> bool {
    let by_word = task.changed_when.iter().any(|c| c.text == "false");
    (by_word || (c.reader.is_some() && c.touches == Touches::default()))
        && c.actions.iter().any(|a| matches!(a, Action::Command(_)))
}

/// A command that failed by itself has changed nothing, by Ansible's word. Of one that was killed, and of all else that
/// failed, some may have been done.
fn changed_nothing(failed: &PartEnded) -> bool {
    let by_itself = |rc: i32| !matches!(rc, 124 | 129..=192);
    failed.output.as_ref().is_some_and(|o| by_itself(o.rc))
}

/// A step's outcome from those of its parts.
fn overall(parts: &[PartEnded]) -> Outcome {
    let has = |o: Outcome| parts.iter().any(|p| p.outcome == Some(o));
    if has(Outcome::Failed) {
        Outcome::Failed
    } else if has(Outcome::Changed) {
        Outcome::Changed
    } else if has(Outcome::KnownAfterApply) {
        Outcome::KnownAfterApply
    } else if parts.iter().all(|p| p.outcome == Some(Outcome::Skipped)) {
        Outcome::Skipped
    } else {
        Outcome::Satisfied
    }
}

/// A step's title without its role.
fn title_of(e: &StepEnded) -> &str {
    e.task.rsplit_once(" : ").map_or(&e.task, |(_, t)| t)
}

/// Whether a task takes a file of this side.
fn reads_here(task: &crate::playbook::Task) -> bool {
    matches!(task.module.name, "copy" | "template" | "unarchive" | "synchronize") && task.args.get("src").is_some()
}

/// `no_log`: nothing of what was done or said is shown.
pub(super) fn conceal(e: &mut StepEnded) {
    for p in &mut e.parts {
        p.label = p.label.as_ref().map(|_| "(no_log)".to_string());
        p.summary = "(no_log)".into();
        p.diff.clear();
        p.say = None;
        p.output = None;
        if let Some(f) = &mut p.failure {
            *f = FailureReport {
                message: "failed; the task is no_log, so nothing is shown".into(),
                rc: f.rc,
                ..Default::default()
            };
        }
    }
}

/// What to do where a file system takes no file.
fn no_room(path: &str, stderr: &str) -> Option<String> {
    let dir = path.rsplit_once('/').map_or("/", |(d, _)| if d.is_empty() { "/" } else { d });
    let dir = crate::quote::shell_quote(dir);
    if stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded") {
        Some(format!("make room there: `df -h {dir}; df -i {dir}` shows what is used"))
    } else if stderr.contains("Read-only file system") {
        Some(format!("`findmnt -T {dir}` shows how it is mounted; after a disk error `dmesg` says why"))
    } else {
        None
    }
}

pub(super) fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().find(|l| !l.trim().is_empty())
}
