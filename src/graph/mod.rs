//! From files to a graph of steps: who does what, and what waits for what. No host is contacted here.

mod check;
mod compile;
mod edges;
mod prepare;
mod scope;

pub use check::{Checked, check};
pub use compile::{Options, compile, hears, sets};
pub use prepare::{Item, Part, Place, Prepared, Refusal, evaluate, prepare, render_text};

pub use scope::{Dynamic, Learned, Scope};

use crate::inventory::Inventory;
use crate::playbook::{Condition, Playbook, RoleUse, Task};
use crate::source::Span;
use crate::template::Templates;
use crate::vars::Vars;
use crate::vault::Redactor;
use petgraph::graph::{DiGraph, NodeIndex};
use std::collections::HashSet;
use std::sync::Arc;

/// Everything a run needs to know before it contacts a host.
pub struct Program {
    pub playbook: Playbook,
    pub inventory: Inventory,
    pub templates: Templates,
    /// `-e`, above all else.
    pub extra: Vars,
    /// `--become` and `--become-user`, below all else.
    pub become_default: (bool, Option<String>),
    pub inventory_dir: Option<String>,
    pub hosts: Vec<HostPlan>,
    pub tasks: Vec<TaskUse>,
    pub graph: StepGraph,
    /// What tasks register or set, on whichever host: known as names before they have values.
    pub promised: HashSet<String>,
    /// Variables could not be read, and that has been said: what is undefined may be in there.
    pub partial: bool,
    /// `plan` or `--check`: nothing is to be changed.
    pub check_mode: bool,
    /// Knows the secrets.
    pub redactor: Redactor,
    /// What `groups` holds, made once.
    pub groups: serde_json::Value,
}

/// A host that takes part.
#[derive(Debug)]
pub struct HostPlan {
    pub name: String,
    /// This machine, unless the inventory says otherwise.
    pub local: bool,
    pub group_names: Vec<String>,
}

/// A task at one place of the playbook.
#[derive(Debug)]
pub struct TaskUse {
    pub task: Arc<Task>,
    /// Index into the playbook's phases.
    pub phase: usize,
    pub role: Option<Arc<RoleUse>>,
    /// Conditions of the role around it; its own come after them.
    pub outer_when: Vec<Condition>,
    pub tags: Vec<String>,
    pub handler: bool,
}

/// A node of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// One task on one host. Its loop items are parts of it.
    Step { task: usize, host: usize },
    /// The end of a phase on all its hosts.
    Gate { phase: usize },
}

/// What an edge says when the node before it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// What comes after cannot be done.
    Needs,
    /// What comes after only waits for the end, whatever it is.
    After,
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
}

impl Program {
    /// How a handler is known across runs: it must be the same as long as nobody renames it.
    pub fn handler_key(&self, task: &TaskUse) -> String {
        let key = format!("{} / {}", self.playbook.phases[task.phase].name, task.title());
        // A role that is used twice has two of each.
        let twins = self.tasks.iter().take_while(|t| !std::ptr::eq(*t, task));
        let before = twins.filter(|t| t.handler && t.phase == task.phase && t.title() == task.title()).count();
        if before == 0 { key } else { format!("{key} #{}", before + 1) }
    }
    pub fn host_index(&self, name: &str) -> Option<usize> {
        self.hosts.iter().position(|h| h.name == name)
    }
}
