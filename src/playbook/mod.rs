//! Playbooks and roles as typed data, every part with its place.

mod keys;
mod load;
mod role;
mod task;

pub use keys::{argument_diagnostic, place_in, template_diagnostic};
pub use load::{load, templates_in_vars};

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
    /// A role, a task list or variables could not be read: what seems undefined may be in there.
    pub partial: bool,
}

/// A playbook's unit: roles and tasks for a set of hosts.
#[derive(Debug)]
pub struct Phase {
    pub name: String,
    pub span: Span,
    pub hosts: Text,
    /// `None`: the phase above; `Some([])`: nothing.
    pub needs: Option<Vec<PhaseNeed>>,
    pub become_: Become,
    /// `connection: local`, with its place.
    pub local: Option<(bool, Span)>,
    pub vars: Vars,
    pub vars_files: Vec<(PathBuf, Vars)>,
    pub tags: Vec<String>,
    pub environment: Option<Node>,
    pub pre_tasks: Vec<Arc<Task>>,
    pub roles: Vec<Arc<RoleUse>>,
    pub tasks: Vec<Arc<Task>>,
    pub post_tasks: Vec<Arc<Task>>,
    pub handlers: Vec<Arc<Task>>,
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
    pub tasks: Vec<Arc<Task>>,
    pub handlers: Vec<Arc<Task>>,
    pub dependencies: Vec<Arc<RoleUse>>,
    pub allow_duplicates: bool,
}

/// One task as it is written.
#[derive(Debug)]
pub struct Task {
    /// As written; it may hold templates.
    pub name: Option<Text>,
    pub span: Span,
    pub id: Option<String>,
    /// `None`: the task above; `Some([])`: nothing.
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
    pub ignore_errors: bool,
    pub changed_when: Vec<Condition>,
    pub failed_when: Vec<Condition>,
    pub no_log: bool,
    /// `false`: act even where nothing is to be changed (`plan`).
    pub check_mode: Option<bool>,
    pub until: Vec<Condition>,
    pub retries: u32,
    /// Seconds between tries.
    pub delay: u64,
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

impl Task {
    /// The name as written, or the module where there is none.
    pub fn title(&self) -> &str {
        self.name.as_ref().map_or(self.module.name, |n| &n.text)
    }
}
