//! From files to a graph of steps: who does what, and what waits for what. No host is contacted here.

mod arguments;
mod beforehand;
mod check;
mod compile;
mod edges;
mod extra;
mod others;
mod phase_keys;
mod prepare;
mod scope;
mod settled;
mod turns;

pub use check::{Checked, check, notified};
pub use compile::{Options, compile, hears, is_called, selected};
pub use phase_keys::settle;
pub use prepare::{
    Item, Part, Place, Prepared, Refusal, evaluate, hides, ignores, login, number, prepare, render_node, render_text,
};

pub use scope::{Dynamic, Layer, Learned, Scope};
pub use turns::turn;

use crate::inventory::Inventory;
use crate::playbook::{Block, Condition, Diagnosis, Hold, Playbook, RoleUse, Said, Shared, Task, Text};
use crate::source::Span;
use crate::template::Templates;
use crate::vars::Vars;
use crate::vault::Redactor;
use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// Everything a run needs to know before it contacts a host.
pub struct Program {
    pub playbook: Arc<Playbook>,
    pub inventory: Inventory,
    pub templates: Arc<Templates>,
    /// `-e`, above all else.
    pub extra: Vars,
    /// `--become` and `--become-user`, below all else.
    pub become_default: (bool, Option<String>),
    pub inventory_dir: Option<String>,
    /// `--limit`.
    pub limit: Option<String>,
    /// `--tags`, `--skip-tags`.
    pub tags: [Vec<String>; 2],
    pub hosts: Vec<HostPlan>,
    pub tasks: Vec<TaskUse>,
    pub graph: StepGraph,
    /// The blocks at their places; [`Within::id`] and [`Node`]s point here.
    pub blocks: Vec<BlockUse>,
    pub budgets: Vec<BudgetUse>,
    /// The roles that say what they take, at their places.
    pub roles: Vec<RoleAt>,
    /// Per phase: the hosts of each batch, indices into `hosts`.
    pub batches: Vec<Vec<Vec<usize>>>,
    /// Variables a person is asked for, and was not yet.
    pub asked_later: Vec<String>,
    /// What tasks register or set, on whichever host: known as names before they have values.
    pub promised: HashSet<String>,
    /// The tasks of the run that register or set a variable.
    pub setters: HashMap<String, Vec<usize>>,
    pub beforehand: beforehand::Beforehand,
    /// What `hostvars` can have, once somebody has asked.
    of_hostvars: OnceLock<crate::template::Shape>,
    /// Some task reads facts of other hosts than its own.
    pub shares_facts: bool,
    /// The playbook makes hosts or groups: who takes part in a phase is not known for all of them.
    pub makes_hosts: bool,
    /// Variables could not be read, and that has been said: what is undefined may be in there.
    pub partial: bool,
    /// Nothing is to be run, now or after this: `windlass check` and its like.
    pub checks_only: bool,
    /// `plan` or `--check`: nothing is to be changed.
    pub check_mode: bool,
    /// Knows the secrets.
    pub redactor: Redactor,
    /// What `groups` holds, made once.
    pub groups: Value,
}

/// A host that takes part.
#[derive(Debug)]
pub struct HostPlan {
    pub name: String,
    /// This machine, unless the inventory says otherwise.
    pub local: bool,
    pub group_names: Vec<String>,
    /// All its groups as their variables count, the last one most: indices of the inventory's.
    pub groups: Vec<usize>,
}

impl HostPlan {
    pub fn new(name: &str, local: bool, inventory: &Inventory) -> Self {
        HostPlan {
            name: name.to_string(),
            local,
            group_names: inventory.groups_of(name).into_iter().map(str::to_string).collect(),
            groups: inventory.group_order(name),
        }
    }
}

/// A task at one place of the playbook.
#[derive(Debug)]
pub struct TaskUse {
    pub task: Arc<Task>,
    /// Index into the playbook's phases.
    pub phase: usize,
    pub role: Option<Arc<RoleUse>>,
    /// The roles that took that role in, the innermost first.
    pub around: Vec<Arc<RoleUse>>,
    /// The blocks it stands in, the outermost first.
    pub within: Vec<Within>,
    /// Conditions of what is around it; its own come after them.
    pub outer_when: Vec<Condition>,
    pub tags: Vec<String>,
    pub handler: bool,
    /// It is not done in this run: by its tags, or as it stands above the first one.
    pub left_out: bool,
    /// What a template in its `run_once` has come to.
    pub once: bool,
    /// It looks for what is taken in: the block of that, in [`Program::blocks`].
    pub begins: Option<usize>,
    /// Where handlers are flushed: the handler that this is.
    pub stands_for: Option<usize>,
    /// For a handler: which of its names another of the phase has in its place.
    pub taken: Taken,
}

/// As in Ansible, a name means one handler of a phase. What it listens to reaches each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Taken {
    #[default]
    Nothing,
    /// The name alone; it still hears `role : name`.
    Bare,
    Both,
}

/// A block around a task.
#[derive(Debug, Clone)]
pub struct Within {
    pub block: Arc<Block>,
    /// Index into [`Program::blocks`]: a block of a role that is used twice is two.
    pub id: usize,
    pub section: Section,
    /// There is something in its `rescue`, also with these tags.
    pub rescued: bool,
    pub turns: Arc<Turns>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Main,
    Rescue,
    Always,
}

/// A block at one place of the playbook.
#[derive(Debug)]
pub struct BlockUse {
    pub block: Arc<Block>,
    pub phase: usize,
    pub role: Option<Arc<RoleUse>>,
    /// The blocks around it, the outermost first.
    pub within: Vec<Within>,
    /// There is something in its `rescue`, also with these tags.
    pub rescued: bool,
    pub turns: Arc<Turns>,
}

/// How often, and for which hosts, the tasks of a block are there.
#[derive(Debug, Default)]
pub enum Turns {
    /// Once, on all hosts.
    #[default]
    One,
    /// On these hosts, each with its variables of one turn of a loop.
    Known(HashMap<String, Arc<Map<String, Value>>>),
    /// As often as the task `look` finds on a host; it gives these variables.
    Later { look: usize, variables: Vec<String> },
    /// In the turns in which what is taken in has this name.
    Candidate {
        name: String,
        /// It is all there is to be taken in.
        sure: bool,
    },
}

/// One turn of what is taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The candidate's name.
    pub name: String,
    /// The loop's variables.
    pub variables: Arc<Map<String, Value>>,
}

/// A budget as the tasks of one phase see it.
#[derive(Debug)]
pub struct BudgetUse {
    pub budget: Arc<crate::playbook::Budget>,
    /// Something to render its texts with: the phase, and the role that defines it.
    pub place: TaskUse,
}

/// A role that says what it takes, at one place of the playbook.
#[derive(Debug)]
pub struct RoleAt {
    pub used: Arc<RoleUse>,
    /// Something to look its variables up with.
    pub place: TaskUse,
    /// The task it begins with, an index into the program's.
    pub first: usize,
}

/// What is held together: by a block, or by a task alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scoped {
    Block(usize),
    Task(usize),
}

/// Whose part of a phase is over early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    Host,
    Batch,
    Phase,
}

/// A node of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// One task on one host. Its loop items are parts of it.
    Step { task: usize, host: usize },
    /// A part of a block is over on a host.
    Join { block: usize, host: usize, part: Section },
    /// What a block holds on a host is given back.
    Release { block: usize, host: usize },
    /// The end of a batch of a phase on all its hosts; the last batch's is the phase's.
    Gate { phase: usize, batch: usize },
    /// A host tells its facts, for others to read; `early`: before its own part begins, when it may not be there yet.
    Facts { host: usize, early: bool },
    /// All hosts have told their facts, but those that were lost.
    AllFacts,
}

impl Node {
    /// The host it belongs to.
    pub fn host(&self) -> Option<usize> {
        match *self {
            Node::Step { host, .. }
            | Node::Join { host, .. }
            | Node::Release { host, .. }
            | Node::Facts { host, .. } => Some(host),
            Node::Gate { .. } | Node::AllFacts => None,
        }
    }
}

/// What an edge says when the node before it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// What comes after cannot be done.
    Needs,
    /// What comes after only waits for the end, whatever it is.
    After,
    /// What comes after is done only if what is before failed.
    Rescue,
    /// What comes after is done unless what is before was never begun.
    Always,
    /// What comes after is part of what is taken in, in no turn or in many.
    Loop,
    /// The next batch is begun unless too many hosts of this one failed.
    Batch,
    /// The same task, done once: what comes after is done only if nobody before it has come to do it.
    Standby,
}

pub type StepGraph = DiGraph<Node, Edge, u32>;
pub type StepIndex = NodeIndex<u32>;

impl TaskUse {
    /// What a person calls it: `role : name` or `name`, templates in it not rendered.
    pub fn title(&self) -> String {
        match &self.role {
            Some(r) => format!("{} : {}", r.role.name, self.task.title()),
            None => self.task.title().to_string(),
        }
    }
    pub fn span(&self) -> &Span {
        &self.task.span
    }
    /// The blocks whose keys hold for it, the outermost first. A handler is itself wherever it is flushed.
    pub fn inherits(&self) -> &[Within] {
        if self.handler { &[] } else { &self.within }
    }
    /// For a handler, which stands in no block: what its role's entry says of all its tasks.
    pub fn role_block(&self) -> Option<&crate::playbook::Block> {
        self.role.as_ref().filter(|_| self.handler)?.block.as_deref()
    }
    /// Its shared keys, then those of the blocks around it, the innermost first.
    fn keys(&self) -> impl Iterator<Item = &Shared> {
        let blocks = self.inherits().iter().rev().map(|w| &*w.block);
        std::iter::once(&self.task.keys).chain(blocks.chain(self.role_block()).map(|b| &b.keys))
    }
    /// What its own key says, or else that of a block around it.
    pub fn said<T>(&self, key: impl Fn(&Shared) -> Option<&Said<T>>) -> Option<&Said<T>> {
        self.keys().find_map(key)
    }
    /// What it and the blocks around it say of `no_log`: once said, it holds for all inside.
    pub fn no_log(&self) -> impl Iterator<Item = &Said<bool>> {
        self.keys().filter_map(|k| k.no_log.as_ref())
    }
    pub fn run_once(&self) -> bool {
        let said = || match self.said(|k| k.run_once.as_ref()) {
            Some(Said::Plain(once)) => *once,
            Some(Said::Template(_)) => self.once,
            None => false,
        };
        self.task.is_of_all() || said()
    }
    /// Where it is done once, it is the first host's alone: it is part of what is taken in as often as is known only in
    /// the run, or looks for that.
    pub fn is_led(&self) -> bool {
        self.begins.is_some() || self.within.iter().any(|w| matches!(*w.turns, Turns::Later { .. }))
    }
    pub fn delegate_to(&self) -> Option<&Text> {
        self.keys().find_map(|k| k.delegate_to.as_ref())
    }
    pub fn evidence(&self) -> Option<&crate::source::Node> {
        self.keys().find_map(|k| k.evidence.as_ref())
    }
    pub fn diagnosis(&self) -> impl Iterator<Item = &Diagnosis> {
        self.keys().flat_map(|k| &k.diagnosis)
    }
    /// A failure of it is caught by the `rescue` of a block.
    pub fn is_rescued(&self) -> bool {
        self.within.iter().any(|w| w.section == Section::Main && w.rescued)
    }
    /// It is done where it stands if its conditions hold: nobody has to call for it, as for handlers and what makes good.
    pub fn is_in_the_row(&self) -> bool {
        !self.handler && self.stands_for.is_none() && self.within.iter().all(|w| w.section == Section::Main)
    }
    /// It tidies up after what went before: it is done also when nothing new is to be begun in its phase.
    pub fn tidies_up(&self) -> bool {
        self.within.iter().any(|w| w.section != Section::Main)
    }
    /// Whose part of the phase ends with it.
    pub fn ends(&self) -> Option<Ends> {
        let kind = self.task.args.get("free_form").filter(|_| self.task.module.name == "meta")?;
        match kind.as_str()? {
            "end_host" => Some(Ends::Host),
            "end_batch" => Some(Ends::Batch),
            "end_play" => Some(Ends::Phase),
            _ => None,
        }
    }
    /// What it takes before it changes something, the outermost first. `index` is its own in the program.
    pub fn holds(&self, index: usize) -> Vec<(Scoped, &Hold)> {
        let blocks = self.within.iter().map(|w| (Scoped::Block(w.id), &w.block.keys.hold));
        blocks.chain([(Scoped::Task(index), &self.task.keys.hold)]).filter(|(_, h)| !h.is_empty()).collect()
    }
}

impl BlockUse {
    pub fn title(&self) -> String {
        let name = self.block.name.as_ref().map_or("a block", |n| &n.text);
        match &self.role {
            Some(r) => format!("{} : {name}", r.role.name),
            None => name.to_string(),
        }
    }
    /// What it and the blocks around it say of `no_log`.
    pub fn no_log(&self) -> impl Iterator<Item = &Said<bool>> {
        let around = self.within.iter().map(|w| &w.block);
        around.chain([&self.block]).filter_map(|b| b.keys.no_log.as_ref())
    }
    /// Whether its parts are told apart in the graph.
    pub fn has_parts(&self) -> bool {
        self.rescued
            || self.block.always.is_some()
            || !self.block.keys.hold.is_empty()
            || matches!(*self.turns, Turns::Later { .. })
    }
}

impl Program {
    /// Notes which variables are set by which tasks.
    fn note_setters(&mut self) {
        let mut setters: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, t) in self.tasks.iter().enumerate().filter(|(_, t)| !t.left_out) {
            for name in t.task.sets() {
                setters.entry(name).or_default().push(i);
            }
        }
        self.setters = setters;
        self.beforehand = beforehand::Beforehand::of(&self.tasks);
    }
    /// Whether a host can come to have a variable by a task: it takes part in a phase that has one for it.
    pub fn can_be_set(&self, name: &str, host: &str) -> bool {
        let (Some(tasks), Some(host)) = (self.setters.get(name), self.host_index(host)) else { return true };
        self.makes_hosts
            || tasks.iter().any(|t| self.batches[self.tasks[*t].phase].iter().flatten().any(|h| *h == host))
    }
    /// How a handler is known across runs: it must be the same as long as nobody renames it.
    pub fn handler_key(&self, task: &TaskUse) -> String {
        let task = task.stands_for.map_or(task, |i| &self.tasks[i]);
        let key = format!("{} / {}", self.playbook.phases[task.phase].name, task.title());
        // A role that is used twice can have two of each.
        let twins = self.tasks.iter().take_while(|t| !std::ptr::eq(*t, task));
        let twin =
            |t: &&TaskUse| t.handler && t.stands_for.is_none() && t.phase == task.phase && t.title() == task.title();
        let before = twins.filter(twin).count();
        if before == 0 { key } else { format!("{key} #{}", before + 1) }
    }
    /// The batch of a phase a host is in.
    pub fn batch_of(&self, phase: usize, host: usize) -> Option<(usize, &[usize])> {
        let batches = self.batches[phase].iter().enumerate();
        batches.map(|(i, b)| (i, b.as_slice())).find(|(_, b)| b.contains(&host))
    }
    /// A step that is done only if a host before this one does not come to do it.
    pub fn stands_by(&self, node: StepIndex) -> bool {
        self.graph.edges_directed(node, petgraph::Direction::Incoming).any(|e| *e.weight() == Edge::Standby)
    }
    /// The budget of a name, as the tasks of a phase see it.
    pub fn budget(&self, phase: usize, name: &str) -> Option<&BudgetUse> {
        self.budgets.iter().find(|b| b.place.phase == phase && b.budget.name == name)
    }
    pub fn host_index(&self, name: &str) -> Option<usize> {
        self.hosts.iter().position(|h| h.name == name)
    }
}
