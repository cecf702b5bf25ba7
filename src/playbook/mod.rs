//! Playbooks and roles as typed data, every part with its place.

mod arguments;
mod block;
mod budget;
mod files;
mod keys;
mod load;
mod role;
mod task;
pub mod vocabulary;

pub use arguments::{Argument, Arguments, Misfit, Rule, Type};
pub use block::KEYS as BLOCK_KEYS;
pub use budget::{Budget, Size};

pub use files::pattern;
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

/// What a task can make for the phases behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// A group that any host may come to be in.
    GroupOfAll,
    Group,
    Host,
}

/// A limit in per cent.
pub struct Share;

impl Share {
    /// `25`, `33.3` or `25%`.
    pub fn of(text: &str) -> Option<f64> {
        let text = text.trim();
        let digits = text.strip_suffix('%').unwrap_or(text).trim();
        let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        digits.parse().ok().filter(|n| plain && Self::is_one(n))
    }
    pub fn is_one(n: &f64) -> bool {
        n.is_finite() && *n >= 0.0
    }
}

/// A playbook's unit: roles and tasks for a set of hosts.
#[derive(Debug)]
pub struct Phase {
    pub name: String,
    /// It is called so in the playbook; else after its hosts.
    pub named: bool,
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
    pub max_fail: Option<f64>,
    /// What was notified is done also where a task behind it failed.
    pub force_handlers: bool,
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
    /// Keys with templates, which have no value yet.
    pub later: Vec<(PhaseKey, Node)>,
    pub pre_tasks: Vec<TaskItem>,
    pub roles: Vec<Arc<RoleUse>>,
    /// Roles in the middle of the tasks whose variables the whole phase sees.
    pub public: Vec<Arc<RoleUse>>,
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

/// A phase's keys in which templates are rendered once, before anything is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseKey {
    Hosts,
    Serial,
    MaxFail,
    AnyErrorsFatal,
    ForceHandlers,
}

impl PhaseKey {
    /// How they are written.
    pub const NAMES: &[&str] = &["serial", "max_fail_percentage", "any_errors_fatal", "force_handlers"];

    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "hosts" => PhaseKey::Hosts,
            "serial" => PhaseKey::Serial,
            "max_fail_percentage" => PhaseKey::MaxFail,
            "any_errors_fatal" => PhaseKey::AnyErrorsFatal,
            "force_handlers" => PhaseKey::ForceHandlers,
            _ => return None,
        })
    }
}

impl Batch {
    /// What is said of a value that is none, and what to write.
    pub const NONE: &str = "`serial` is a number of hosts or a share of them";
    pub const HINT: &str = "serial: 1, serial: \"25%\", serial: [1, 5, \"50%\"]";

    /// As in Ansible, 0 stands for all.
    fn of(hosts: usize) -> Self {
        if hosts == 0 { Batch::Percent(100.0) } else { Batch::Hosts(hosts) }
    }

    /// `2`, `"25%"`.
    pub fn read(value: &serde_json::Value) -> Option<Self> {
        use serde_json::Value;
        match value {
            Value::Number(n) => n.as_u64().map(|n| Batch::of(n as usize)),
            Value::String(s) => match s.trim().parse::<usize>() {
                Ok(n) => Some(Batch::of(n)),
                Err(_) => budget::percent(s.trim()).filter(|p| *p > 0.0).map(Batch::Percent),
            },
            _ => None,
        }
    }
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
    Include(Arc<Include>),
}

/// Tasks that are taken in as often as a list says, from a file or role that a template may name, or only if a condition
/// holds that they themselves could change.
#[derive(Debug)]
pub struct Include {
    /// What its keys say of all that is taken in. It has no tasks of its own.
    pub block: Arc<Block>,
    /// The step that finds out what is taken in, where that is known only in the run.
    pub look: Arc<Task>,
    /// All that can be taken in, by name.
    pub candidates: Vec<(String, Vec<TaskItem>)>,
    /// The same as a block whose tasks ask the condition themselves: for where none of them can change the answer.
    pub settled: Option<Arc<Block>>,
}

/// Tasks that share keys, and what is done when one of them fails.
#[derive(Debug, Clone)]
pub struct Block {
    pub name: Option<Text>,
    pub span: Span,
    pub when: Vec<Condition>,
    pub tags: Vec<String>,
    /// The tags of an `include_…`: they say whether it is taken in, and nothing of the tasks inside.
    pub entry_tags: Vec<String>,
    pub become_: Become,
    pub vars: Vars,
    pub environment: Option<Node>,
    pub keys: Shared,
    pub tasks: Vec<TaskItem>,
    pub rescue: Option<Vec<TaskItem>>,
    pub always: Option<Vec<TaskItem>>,
    /// It stands for an `include_tasks`: its variables are above all but `-e`, as in Ansible.
    pub included: bool,
}

/// The keys that tasks take from the blocks around them, the innermost first.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    pub ignore_errors: Option<Said<bool>>,
    pub no_log: Option<Said<bool>>,
    /// `false`: act even in a plan; `true`: only look, even in an apply.
    pub check_mode: Option<Said<bool>>,
    /// A template here is settled before the run: what is done once is one step.
    pub run_once: Option<Said<bool>>,
    /// The host it is done on, in place of its own.
    pub delegate_to: Option<Text>,
    /// What is taken before the first change, and given back at the end.
    pub hold: Hold,
    /// Scripts that explain a failure, by title.
    pub evidence: Option<Node>,
    pub diagnosis: Vec<Diagnosis>,
}

/// What a task or block takes for as long as it is at work.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    pub locks: Vec<String>,
    /// So many hosts at a time; 0: all.
    pub throttle: Option<Said<u64>>,
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

/// The value of a key: as it is written, or a template that comes to it when the step is looked at.
#[derive(Debug, Clone)]
pub enum Said<T> {
    Plain(T),
    Template(Text),
}

/// Whether and as whom to act; `None` leaves it to what is further out.
#[derive(Debug, Clone, Default)]
pub struct Become {
    pub on: Option<Said<bool>>,
    pub user: Option<Text>,
    /// Who logs in (`remote_user`), where the inventory does not say.
    pub login: Option<Text>,
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
    /// Its `vars`, below those of tasks.
    pub params: Vars,
    /// What stands beside the role's name, and what an `include_role` gives: above all but `-e`, as in Ansible.
    pub given: Vars,
    pub when: Vec<Condition>,
    pub tags: Vec<String>,
    pub become_: Become,
    /// What else is said of all its tasks.
    pub block: Option<Arc<Block>>,
    /// The whole phase sees its variables, as those of the phase's own `roles`.
    pub public: bool,
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
    /// How many tasks it comes to, those of the roles it takes in among them.
    pub size: usize,
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
    /// The files of variables it can read, by name (`include_vars`).
    pub brings: Vec<(String, Arc<Vars>)>,
    pub notify: Vec<Text>,
    /// For a handler: other names it hears.
    pub listen: Vec<String>,
    pub tags: Vec<String>,
    pub become_: Become,
    pub vars: Vars,
    pub environment: Option<Node>,
    /// Seconds for the whole task; 0: as long as it takes.
    pub timeout: Option<Said<u64>>,
    /// In the background: for how many seconds at most (0: not at all), and how many between two looks (0: nobody waits
    /// for it).
    pub background: Option<(Said<u64>, Said<u64>)>,
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
    /// Seconds between two items: a number, or a template that comes to one.
    pub pause: Option<Node>,
    /// The items know where in the loop they are (`ansible_loop`).
    pub extended: bool,
    /// They know all the others, too.
    pub all_items: bool,
}

impl Loop {
    /// The names of the variables an item has.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let index = self.index_var.iter().flat_map(|v| [v.clone(), "ansible_index_var".into()]);
        let extended = self.extended.then(|| "ansible_loop".to_string());
        [self.var.clone(), "ansible_loop_var".into()].into_iter().chain(index).chain(extended)
    }
}

/// A length of time as people write it: seconds, parts of one too.
pub fn seconds(value: &serde_json::Value) -> Option<std::time::Duration> {
    let n = value.as_f64().or_else(|| value.as_str().and_then(|s| s.trim().parse().ok()))?;
    std::time::Duration::try_from_secs_f64(n).ok()
}

impl Block {
    /// Tasks together that share nothing.
    pub fn plain(span: &Span) -> Self {
        Block {
            name: None,
            span: span.clone(),
            when: vec![],
            tags: vec![],
            entry_tags: vec![],
            become_: Become::default(),
            vars: Vars::new(),
            environment: None,
            keys: Shared::default(),
            tasks: vec![],
            rescue: None,
            always: None,
            included: false,
        }
    }
}

impl Playbook {
    /// The folder it lies in, and those of the playbooks it takes in.
    pub fn dirs(&self) -> Vec<PathBuf> {
        let mut all = vec![self.dir.clone()];
        for p in &self.phases {
            if !all.contains(&p.dir) {
                all.push(p.dir.clone());
            }
        }
        all
    }
}

impl Role {
    /// Calls for each of the role's tasks, and for those of the roles it depends on.
    fn each_task(&self, call: &mut dyn FnMut(&Task)) {
        self.dependencies.iter().for_each(|d| d.role.each_task(call));
        each_task(&self.tasks, call);
        self.handlers.iter().for_each(|h| call(h));
    }
}

/// How many tasks a list comes to, whatever they stand in. What is taken in several times counts as often.
pub fn count(items: &[TaskItem]) -> usize {
    let all = items.iter().map(|i| match i {
        TaskItem::Block(b) => {
            let rest = [&b.rescue, &b.always].into_iter().flatten();
            rest.fold(count(&b.tasks), |n, l| n.saturating_add(count(l)))
        }
        TaskItem::Role(r) => r.role.size.saturating_add(r.entry.as_ref().map_or(0, |e| count(e))),
        TaskItem::Include(i) => i.candidates.iter().fold(1, |n: usize, (_, l)| n.saturating_add(count(l))),
        _ => 1,
    });
    all.fold(0, usize::saturating_add)
}

/// The roles in a list whose variables the whole phase sees, whatever they stand in.
pub fn public_roles(items: &[TaskItem]) -> Vec<Arc<RoleUse>> {
    let lists = |i: &TaskItem| -> Vec<Arc<RoleUse>> {
        match i {
            TaskItem::Block(b) => {
                let all = [Some(&b.tasks), b.rescue.as_ref(), b.always.as_ref()];
                all.into_iter().flatten().flat_map(|l| public_roles(l)).collect()
            }
            TaskItem::Role(r) => {
                let inside = public_roles(r.entry.as_ref().map_or(&r.role.tasks, |e| e));
                Some(r.clone()).filter(|r| r.public).into_iter().chain(inside).collect()
            }
            TaskItem::Include(i) => i.candidates.iter().flat_map(|(_, l)| public_roles(l)).collect(),
            TaskItem::Task(_) | TaskItem::Flush(_) => vec![],
        }
    };
    items.iter().flat_map(lists).collect()
}

/// Calls for each task in a list, whatever it stands in.
pub fn each_task(items: &[TaskItem], call: &mut dyn FnMut(&Task)) {
    for i in items {
        match i {
            TaskItem::Task(t) => call(t),
            TaskItem::Block(b) => {
                each_task(&b.tasks, call);
                [&b.rescue, &b.always].into_iter().flatten().for_each(|l| each_task(l, call));
            }
            TaskItem::Role(r) => {
                r.role.each_task(call);
                r.entry.iter().for_each(|e| each_task(e, call));
            }
            TaskItem::Include(i) => i.candidates.iter().for_each(|(_, tasks)| each_task(tasks, call)),
            TaskItem::Flush(_) => {}
        }
    }
}

impl Phase {
    fn each_task(&self, call: &mut dyn FnMut(&Task)) {
        [&self.pre_tasks, &self.tasks, &self.post_tasks].into_iter().for_each(|l| each_task(l, call));
        self.roles.iter().for_each(|r| r.role.each_task(call));
        self.handlers.iter().for_each(|h| call(h));
    }
}

impl Playbook {
    /// The phases in rows that can be laid out together: behind one that makes groups or hosts, the rest has to wait.
    pub fn stages(&self) -> Vec<std::ops::Range<usize>> {
        let mut all = vec![];
        let mut begin = 0;
        for (i, p) in self.phases.iter().enumerate() {
            let mut makes = false;
            p.each_task(&mut |t| makes |= matches!(t.module.name, "group_by" | "add_host"));
            if makes || i + 1 == self.phases.len() {
                all.push(begin..i + 1);
                begin = i + 1;
            }
        }
        all
    }
    /// What tasks can make: groups of all that come by, groups of hosts that are new, and these hosts. Each is a name as it
    /// is written, with its task's place.
    pub fn makes(&self) -> Vec<(Making, String, Span)> {
        let mut all = vec![];
        let mut note = |t: &Task| {
            let words = |keys: &[&str]| -> Vec<String> {
                let nodes = keys
                    .iter()
                    .filter_map(|k| t.args.get(k))
                    .flat_map(|n| n.as_seq().unwrap_or(std::slice::from_ref(n)));
                let texts: Vec<&str> = nodes.filter_map(Node::as_str).collect();
                texts.iter().flat_map(|s| s.split(',')).map(|w| w.trim().to_string()).collect()
            };
            let (groups, hosts) = match t.module.name {
                "group_by" => {
                    (vec![(Making::GroupOfAll, words(&["key"])), (Making::Group, words(&["parents"]))], vec![])
                }
                "add_host" => (
                    vec![(Making::Group, words(&["groups", "group", "groupname"]))],
                    words(&["name", "host", "hostname"]),
                ),
                _ => return,
            };
            for (what, names) in groups.into_iter().chain([(Making::Host, hosts)]) {
                all.extend(names.into_iter().map(|n| (what, n, t.span.clone())));
            }
        };
        self.phases.iter().for_each(|p| p.each_task(&mut note));
        all
    }
    /// The names that tasks of it register or set, on whichever host.
    pub fn sets(&self) -> std::collections::HashSet<String> {
        let mut names = std::collections::HashSet::new();
        let mut note = |t: &Task| names.extend(t.sets());
        self.phases.iter().for_each(|p| p.each_task(&mut note));
        names
    }
}

impl RoleUse {
    /// All it is given where it is used like this.
    pub fn values(&self) -> impl Iterator<Item = (&String, &crate::vars::Var)> {
        self.params.iter().chain(&self.given)
    }
    /// What the role takes where it is used like this.
    pub fn arguments(&self) -> Option<&Arguments> {
        let entry = self.entry_name.as_deref().unwrap_or("main");
        self.role.arguments.iter().find(|(n, _)| n == entry).map(|(_, a)| a)
    }
}

impl Task {
    /// A task with a module and nothing else.
    pub fn new(span: &Span, module: &'static ModuleDef) -> Self {
        Task {
            name: None,
            span: span.clone(),
            id: None,
            needs: None,
            module,
            args: Node { span: span.clone(), tag: None, kind: crate::source::Kind::Map(vec![]) },
            when: vec![],
            loop_: None,
            register: None,
            brings: vec![],
            notify: vec![],
            listen: vec![],
            tags: vec![],
            become_: Become::default(),
            vars: Vars::new(),
            environment: None,
            timeout: None,
            background: None,
            changed_when: vec![],
            failed_when: vec![],
            keys: Shared::default(),
            until: vec![],
            retries: None,
            delay: None,
            broken: false,
            unbound: false,
        }
    }
    /// The variables it gives its host.
    pub fn sets(&self) -> Vec<String> {
        let mut names: Vec<String> = self.register.iter().cloned().collect();
        match self.module.name {
            "set_fact" => names.extend(self.args.as_map().unwrap_or_default().iter().map(|e| e.key.clone())),
            "include_vars" => match self.args.get("name").and_then(Node::as_str) {
                Some(name) => names.push(name.to_string()),
                None => names.extend(self.brings.iter().flat_map(|(_, vars)| vars.keys().cloned())),
            },
            "package_facts" => names.push("packages".into()),
            "service_facts" => names.push("services".into()),
            "getent" => {
                let database = self.args.get("database").and_then(|n| n.to_value().as_str().map(str::to_string));
                names.extend(database.map(|d| format!("getent_{d}")));
            }
            _ => {}
        }
        names
    }
    /// Its `needs` stand in place of the task above it: they name tasks of the same host, or none at all. A wait for other
    /// hosts alone comes on top of it.
    pub fn leaves_the_row(&self) -> bool {
        self.needs.as_ref().is_some_and(|n| n.is_empty() || n.iter().any(|n| n.hosts.is_none()))
    }
    /// It is done once for all hosts by its nature: it ends their work, or asks a person.
    pub fn is_of_all(&self) -> bool {
        let given = |key: &str| self.args.get(key).is_some();
        match self.module.name {
            "meta" => matches!(self.args.get("free_form").and_then(Node::as_str), Some("end_play" | "end_batch")),
            "pause" => !given("seconds") && !given("minutes"),
            _ => false,
        }
    }
    /// The name as written, or the module where there is none.
    pub fn title(&self) -> &str {
        self.name.as_ref().map_or(self.module.name, |n| &n.text)
    }
}
