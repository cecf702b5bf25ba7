//! Playbooks and roles as typed data, every part with its place.

mod arguments;
mod block;
mod budget;
mod keys;
mod load;
mod role;
mod task;
pub mod vocabulary;

pub use arguments::{Argument, Arguments, Misfit, Rule, Type};
pub use block::KEYS as BLOCK_KEYS;
pub use budget::{Budget, Size};

pub use keys::{argument_diagnostic, place_in, template_diagnostic};
pub use load::{load, templates_in_vars};
pub use role::{load_role, role_dir, role_names};

use crate::modules::ModuleDef;
use crate::source::{Node, Span};
use crate::template::Compiled;
use crate::vars::Vars;
use std::path::PathBuf;
use std::sync::Arc;

/// A playbook: its phases in file order.
#[derive(Debug)]
pub struct Playbook {
    pub path: PathBuf,
    /// The folder it lies in.
    pub dir: PathBuf,
    pub phases: Vec<Phase>,
    /// Some of it could not be read.
    pub partial: bool,
}

/// A playbook's unit: roles and tasks for a set of hosts.
#[derive(Debug)]
pub struct Phase {
    pub name: String,
    pub span: Span,
    pub hosts: Text,
    /// The folder of its playbook: where its files and templates are looked for.
    pub dir: PathBuf,
    /// `None`: the phase above; `Some([])`: nothing.
    pub needs: Option<Vec<PhaseNeed>>,
    /// Conditions for all its tasks.
    pub when: Vec<Condition>,
    /// Its hosts are done in batches of these sizes, the last one repeated.
    pub serial: Vec<Batch>,
    /// More failed hosts of a batch than this (per cent) end the phase; `None`: all of them.
    pub max_fail: Option<u64>,
    /// What a person is asked before anything is done.
    pub prompts: Vec<VarPrompt>,
    pub budgets: Vec<Arc<Budget>>,
    pub become_: Become,
    /// `connection: local`, with its place.
    pub local: Option<(bool, Span)>,
    pub vars: Vars,
    pub vars_files: Vec<(PathBuf, Vars)>,
    pub tags: Vec<String>,
    pub environment: Option<Node>,
    pub pre_tasks: Vec<TaskItem>,
    pub roles: Vec<Arc<RoleUse>>,
    pub tasks: Vec<TaskItem>,
    pub post_tasks: Vec<TaskItem>,
    pub handlers: Vec<Arc<Task>>,
    /// A role, a task list or variables of it could not be read: what seems undefined may be in there.
    pub partial: bool,
}

/// How many hosts of a phase are done at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Batch {
    Hosts(usize),
    Percent(f64),
}

/// A variable a person is asked for (`vars_prompt`).
#[derive(Debug, Clone)]
pub struct VarPrompt {
    pub name: String,
    pub question: String,
    /// What is typed is not shown, and is a secret.
    pub private: bool,
    /// For an empty answer.
    pub default: Option<String>,
    pub span: Span,
}

/// One entry of a list of tasks.
#[derive(Debug, Clone)]
pub enum TaskItem {
    Task(Arc<Task>),
    Block(Arc<Block>),
    /// A role in the middle of the tasks (`include_role`, `import_role`).
    Role(Arc<RoleUse>),
    /// `meta: flush_handlers`.
    Flush(Span),
}

/// Tasks that share keys, and what is done when one of them fails.
#[derive(Debug)]
pub struct Block {
    pub name: Option<Text>,
    pub span: Span,
    pub when: Vec<Condition>,
    pub tags: Vec<String>,
    pub become_: Become,
    pub vars: Vars,
    pub environment: Option<Node>,
    pub keys: Shared,
    pub tasks: Vec<TaskItem>,
    pub rescue: Option<Vec<TaskItem>>,
    pub always: Option<Vec<TaskItem>>,
}

/// The keys that tasks take from the blocks around them, the innermost first.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    pub ignore_errors: Option<bool>,
    pub no_log: Option<bool>,
    /// `false`: act even where nothing is to be changed (`plan`).
    pub check_mode: Option<bool>,
    pub run_once: Option<bool>,
    /// The host it is done on, in place of its own.
    pub delegate_to: Option<Text>,
    /// What is taken before the first change, and given back at the end.
    pub hold: Hold,
    /// Scripts that explain a failure, by title.
    pub evidence: Option<Node>,
    pub diagnosis: Vec<Diagnosis>,
}

/// What a task or block takes for as long as it is at work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hold {
    pub locks: Vec<String>,
    /// So many hosts at a time.
    pub throttle: Option<usize>,
    pub budgets: Vec<(String, Span)>,
}

impl Hold {
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty() && self.throttle.is_none() && self.budgets.is_empty()
    }
}

/// A known cause: what is found in the evidence, and what it means.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    pub pattern: Arc<fancy_regex::Regex>,
    /// The evidence's title; `None`: any.
    pub within: Option<String>,
    pub say: Text,
}

/// What a phase waits for.
#[derive(Debug, Clone)]
pub struct PhaseNeed {
    pub phase: String,
    /// Only on the same host.
    pub same_host: bool,
    pub span: Span,
}

/// Text that may hold templates, and where it stands.
#[derive(Debug, Clone)]
pub struct Text {
    pub text: String,
    pub span: Span,
}

/// Whether and as whom to act; `None` leaves it to what is further out.
#[derive(Debug, Clone, Default)]
pub struct Become {
    pub on: Option<bool>,
    pub user: Option<Text>,
}

/// A bare expression.
#[derive(Clone)]
pub struct Condition {
    pub text: String,
    pub span: Span,
    pub compiled: Arc<Compiled>,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A role where it is used: with what parameters, when, under which tags.
#[derive(Debug)]
pub struct RoleUse {
    pub role: Arc<Role>,
    /// Tasks of another file than `tasks/main.yml` (`tasks_from`).
    pub entry: Option<Arc<Vec<TaskItem>>>,
    /// That file's name, without its ending.
    pub entry_name: Option<String>,
    pub span: Span,
    pub params: Vars,
    pub when: Vec<Condition>,
    pub tags: Vec<String>,
    pub become_: Become,
}

/// A role as its folder holds it.
#[derive(Debug)]
pub struct Role {
    pub name: String,
    pub dir: PathBuf,
    pub defaults: Vars,
    pub vars: Vars,
    pub tasks: Vec<TaskItem>,
    pub handlers: Vec<Arc<Task>>,
    pub dependencies: Vec<Arc<RoleUse>>,
    pub budgets: Vec<Arc<Budget>>,
    /// What it takes, by the file of tasks (`main`).
    pub arguments: Vec<(String, Arguments)>,
    pub allow_duplicates: bool,
    /// Some of it could not be read.
    pub partial: bool,
}

/// One task as it is written.
#[derive(Debug)]
pub struct Task {
    /// As written; it may hold templates.
    pub name: Option<Text>,
    pub span: Span,
    pub id: Option<String>,
    /// `None`: the task above; `Some([])`: nothing. See [`Task::leaves_the_row`].
    pub needs: Option<Vec<TaskNeed>>,
    pub module: &'static ModuleDef,
    /// The module's parameters.
    pub args: Node,
    pub when: Vec<Condition>,
    pub loop_: Option<Loop>,
    pub register: Option<String>,
    pub notify: Vec<Text>,
    /// For a handler: other names it hears.
    pub listen: Vec<String>,
    pub tags: Vec<String>,
    pub become_: Become,
    pub vars: Vars,
    pub environment: Option<Node>,
    /// Seconds for the whole task.
    pub timeout: Option<u64>,
    pub changed_when: Vec<Condition>,
    pub failed_when: Vec<Condition>,
    pub keys: Shared,
    pub until: Vec<Condition>,
    /// Further tries: a whole number, or a template that comes to one.
    pub retries: Option<Node>,
    /// Seconds between tries, likewise.
    pub delay: Option<Node>,
    /// What is wrong with it has been said: there is no sense in looking at its parts. It is never run.
    pub broken: bool,
    /// Some parameters were refused: the others are checked one by one, not as a whole.
    pub unbound: bool,
}

/// What a task waits for besides, or instead of, the one above it.
#[derive(Debug, Clone)]
pub struct TaskNeed {
    pub id: String,
    /// `None`: on the same host. Else a pattern of hosts (`all`).
    pub hosts: Option<String>,
    pub span: Span,
}

#[derive(Debug)]
pub struct Loop {
    pub over: Node,
    pub var: String,
    pub index_var: Option<String>,
    pub label: Option<Text>,
}

impl RoleUse {
    /// What the role takes where it is used like this.
    pub fn arguments(&self) -> Option<&Arguments> {
        let entry = self.entry_name.as_deref().unwrap_or("main");
        self.role.arguments.iter().find(|(n, _)| n == entry).map(|(_, a)| a)
    }
}

impl Task {
    /// Its `needs` stand in place of the task above it: they name tasks of the same host, or none at all. A wait for other
    /// hosts alone comes on top of it.
    pub fn leaves_the_row(&self) -> bool {
        self.needs.as_ref().is_some_and(|n| n.is_empty() || n.iter().any(|n| n.hosts.is_none()))
    }
    /// The name as written, or the module where there is none.
    pub fn title(&self) -> &str {
        self.name.as_ref().map_or(self.module.name, |n| &n.text)
    }
}
