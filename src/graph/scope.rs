//! The variables one task sees on one host: layer over layer, rendered only when asked for.

pub mod shapes;

use super::{HostPlan, Program, TaskUse, Turns, Within, others};
use crate::inventory::Level;
use crate::playbook::{Condition, RoleUse};
use crate::probe::ansible_names;
use crate::source::{Span, nearest};
use crate::template::{EVERY_NAME, Found, Lookup, Settings, Shape, TemplateError, Trouble};
use crate::vars::{Var, Vars};
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a host has learned during a run.
#[derive(Debug, Clone, Default)]
pub struct Dynamic {
    /// Registered results and set facts.
    pub vars: Arc<Map<String, Value>>,
    /// Those of them that `set_fact` and `register` gave: a file that is read later does not change them, as in Ansible.
    pub fixed: Arc<HashSet<String>>,
    pub facts: Option<Arc<Value>>,
    /// The same of other hosts, as far as they are done.
    pub others: Arc<Learned>,
    /// By block: the variables of the turn that is being done.
    pub turns: Arc<HashMap<usize, Arc<Map<String, Value>>>>,
    /// Nothing was done yet: what tasks are going to give is known only as far as it is certain.
    pub before: bool,
}

impl Dynamic {
    /// Before anything is done.
    pub fn beforehand() -> Self {
        Dynamic { before: true, ..Default::default() }
    }
}

/// What hosts have learned. Every host at work holds one of these: what is in it is shared, not copied.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    /// Registered results and set facts.
    pub vars: HashMap<String, Arc<Map<String, Value>>>,
    /// The facts they told for others to read; `None`: of a host that is out of reach.
    pub facts: HashMap<String, Option<Arc<Value>>>,
    /// Names that a plan knows no value of, on one of them or more.
    pub later: HashSet<String>,
    /// Hosts on which something failed, or that were lost.
    pub failed: HashSet<String>,
}

/// Looks up variables for one task on one host.
pub struct Scope<'a> {
    program: &'a Program,
    host: &'a HostPlan,
    task: Option<&'a TaskUse>,
    /// Loop variables, highest of all.
    locals: Map<String, Value>,
    /// What is known of loop variables that exist only later.
    shapes: HashMap<String, Shape>,
    /// The file of variables that is being read.
    file: Option<&'a Vars>,
    dynamic: &'a Dynamic,
    /// Names that steps before this one will set: not to be taken from a lower layer.
    pending: &'a HashSet<String>,
    memo: RefCell<HashMap<String, Found>>,
    /// What `hostvars` came to, by the words it was asked with.
    others: RefCell<HashMap<Vec<String>, Found>>,
    /// Made once: they are asked for with every name.
    layers: Vec<(Layer<'a>, &'a Vars)>,
    /// So many of them stand above what tasks set.
    above: usize,
    /// Variables being rendered right now, to see one that needs itself.
    active: RefCell<Vec<String>>,
    facts_asked: Cell<bool>,
}

thread_local! {
    /// The variables of other hosts that are being rendered for somebody's `hostvars`: the host, the name, and whether
    /// it is one of all.
    static READING: RefCell<Vec<(String, String, bool)>> = const { RefCell::new(vec![]) };
}

/// A variable of another host is being rendered, which may itself read others'.
struct Reading;

impl Reading {
    /// So many hosts may read each other in a row: rendering goes as deep.
    const DEEPEST: usize = 8;

    /// Not where it is being rendered already: it would never end.
    fn enter(host: &str, name: &str, every: bool) -> Option<Reading> {
        READING.with_borrow_mut(|all| {
            if all.len() >= Reading::DEEPEST || all.iter().any(|(h, n, _)| h == host && n == name) {
                return None;
            }
            all.push((host.to_string(), name.to_string(), every));
            Some(Reading)
        })
    }
    fn every() -> bool {
        READING.with_borrow(|all| all.iter().any(|(.., every)| *every))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.with_borrow_mut(|all| all.pop());
    }
}

/// How many variables may be made of each other in a row: rendering goes as deep.
const DEEPEST: usize = 50;

pub use crate::template::OMIT;

impl<'a> Scope<'a> {
    pub fn new(
        program: &'a Program,
        host: usize,
        task: Option<&'a TaskUse>,
        dynamic: &'a Dynamic,
        pending: &'a HashSet<String>,
    ) -> Self {
        let host = &program.hosts[host];
        let (layers, above) = read_layers(program, host, task);
        Scope { task, layers, above, ..Scope::bare(program, host, dynamic, pending) }
    }

    /// What a host knows outside any task.
    pub fn of_host(
        program: &'a Program,
        host: &'a HostPlan,
        dynamic: &'a Dynamic,
        pending: &'a HashSet<String>,
    ) -> Self {
        let (layers, above) = read_layers(program, host, None);
        Scope { layers, above, ..Scope::bare(program, host, dynamic, pending) }
    }

    fn bare(program: &'a Program, host: &'a HostPlan, dynamic: &'a Dynamic, pending: &'a HashSet<String>) -> Self {
        Scope {
            program,
            host,
            task: None,
            locals: Map::new(),
            shapes: HashMap::new(),
            file: None,
            dynamic,
            pending,
            memo: RefCell::default(),
            others: RefCell::default(),
            layers: vec![],
            above: 0,
            active: RefCell::default(),
            facts_asked: Cell::new(false),
        }
    }

    pub fn with_locals(mut self, locals: Map<String, Value>) -> Self {
        self.locals = locals;
        self
    }
    pub fn with_shapes(mut self, shapes: HashMap<String, Shape>) -> Self {
        self.shapes = shapes;
        self
    }
    /// The variables of a file, rendered; they see each other.
    pub fn of_file(&self, vars: &Vars) -> Result<Map<String, Value>, Trouble> {
        let inside = Scope {
            program: self.program,
            host: self.host,
            task: self.task,
            locals: self.locals.clone(),
            shapes: self.shapes.clone(),
            file: Some(vars),
            dynamic: self.dynamic,
            pending: self.pending,
            memo: RefCell::default(),
            others: RefCell::default(),
            layers: self.layers.clone(),
            above: self.above,
            active: RefCell::default(),
            facts_asked: Cell::new(false),
        };
        let mut all = Map::new();
        for (name, var) in vars {
            let found = inside.rendered(name, var);
            self.facts_asked.set(self.facts_asked.get() | inside.wants_facts());
            match found {
                Found::Value(v) => drop(all.insert(name.clone(), v)),
                Found::Unknown(why) => return Err(Trouble::Unknown(why)),
                Found::Broken(e) => return Err(Trouble::Error(e)),
                Found::Undefined => {}
            }
        }
        Ok(all)
    }
    /// Whether facts were asked for and not at hand.
    pub fn wants_facts(&self) -> bool {
        self.facts_asked.get()
    }
    /// The text with its templates rendered.
    pub fn render(&self, text: &str) -> Result<Value, Trouble> {
        let c = self.program.templates.compile(text).map_err(Trouble::Error)?;
        self.program.templates.value(&c, self)
    }
    /// A template file's text, rendered.
    pub fn render_file(&self, path: &std::path::Path, text: &str, settings: &Settings) -> Result<String, Trouble> {
        self.program.templates.render_file(path, text, settings, self)
    }
    /// What an expression comes to.
    pub fn evaluate(&self, c: &Condition) -> Result<Value, Trouble> {
        self.program.templates.value(&c.compiled, self)
    }
    /// The same for an expression in text.
    pub fn expression(&self, text: &str) -> Result<Value, Trouble> {
        let c = self.program.templates.compile_expression(text).map_err(Trouble::Error)?;
        self.program.templates.value(&c, self)
    }
    /// A variable's value, if it has one now.
    pub fn value(&self, name: &str) -> Option<Value> {
        match self.get(name, &[]) {
            Found::Value(v) => Some(v),
            _ => None,
        }
    }
    /// The variable as it is written, before rendering.
    pub fn raw(&self, name: &str) -> Option<&'a Var> {
        self.layers().find_map(|l| l.get(name))
    }

    /// The layers of written variables, highest first.
    fn layers(&self) -> impl Iterator<Item = &'a Vars> {
        self.layers.iter().map(|(_, v)| *v)
    }

    /// Where a variable is written: every layer that has it, the one that counts first.
    pub fn origins(&self, name: &str) -> Vec<(Layer<'a>, &'a Var)> {
        self.layers.iter().filter_map(|(l, v)| Some((l.clone(), v.get(name)?))).collect()
    }

    /// The names that are written somewhere for this host, sorted.
    pub fn written(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.layers().flat_map(|l| l.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn magic(&self, name: &str, words: &[String]) -> Option<Found> {
        let p = self.program;
        let text = |s: &str| Some(Found::Value(json!(s)));
        match name {
            "inventory_hostname" => text(&self.host.name),
            "inventory_hostname_short" => text(self.host.name.split('.').next().unwrap_or_default()),
            "group_names" => Some(Found::Value(json!(self.host.group_names))),
            "groups" => Some(Found::Value(p.groups.clone())),
            "playbook_dir" => {
                let of_phase = self.task.map(|t| &p.playbook.phases[t.phase].dir);
                text(&of_phase.unwrap_or(&p.playbook.dir).display().to_string())
            }
            "inventory_dir" => p.inventory_dir.as_deref().and_then(text),
            "omit" => text(OMIT),
            "ansible_check_mode" if self.dynamic.before => {
                Some(Found::Unknown("a plan and an apply differ in it".into()))
            }
            "ansible_check_mode" => Some(Found::Value(json!(p.check_mode))),
            "role_path" => self.task?.role.as_ref().and_then(|r| text(&r.role.dir.display().to_string())),
            "role_name" | "ansible_role_name" => self.task?.role.as_ref().and_then(|r| text(&r.role.name)),
            "inventory_file" => {
                let source = &p.inventory.hosts.get(&self.host.name)?.span.as_ref()?.source;
                let path = std::path::absolute(&source.path).ok().filter(|p| p.is_file())?;
                text(&path.display().to_string())
            }
            "ansible_limit" => p.limit.as_deref().and_then(text),
            "ansible_run_tags" if p.tags[0].is_empty() => Some(Found::Value(json!(["all"]))),
            "ansible_run_tags" => Some(Found::Value(json!(p.tags[0]))),
            "ansible_skip_tags" => Some(Found::Value(json!(p.tags[1]))),
            "ansible_play_role_names" => {
                let roles = &p.playbook.phases[self.task?.phase].roles;
                let names: Vec<&str> = roles.iter().map(|r| r.role.name.as_str()).collect();
                Some(Found::Value(json!(names)))
            }
            "ansible_play_batch" => {
                let (_, hosts) = p.batch_of(self.task?.phase, p.host_index(&self.host.name)?)?;
                let names: Vec<&str> = hosts.iter().map(|h| p.hosts[*h].name.as_str()).collect();
                Some(Found::Value(json!(names)))
            }
            "phase_name" | "ansible_play_name" => text(&p.playbook.phases[self.task?.phase].name),
            "play_hosts" | "ansible_play_hosts" if self.dynamic.before => {
                Some(Found::Unknown("who is left in the phase shows in the run".into()))
            }
            "play_hosts" | "ansible_play_hosts" | "ansible_play_hosts_all" => {
                let pattern = &p.playbook.phases[self.task?.phase].hosts.text;
                let hosts = crate::inventory::select(&p.inventory, pattern).unwrap_or_default();
                // Of those that are still in it, unless all are asked for.
                let left = |h: &str| name.ends_with("_all") || !self.dynamic.others.failed.contains(h);
                let here: Vec<&str> = hosts.into_iter().filter(|h| p.host_index(h).is_some() && left(h)).collect();
                Some(Found::Value(json!(here)))
            }
            "hostvars" => Some(self.hostvars(words)),
            _ => None,
        }
    }

    /// A variable of a loop over what is taken in, the innermost first.
    fn turn(&self, name: &str) -> Option<Found> {
        self.task?.inherits().iter().rev().find_map(|w| match &*w.turns {
            Turns::Known(hosts) => hosts.get(&self.host.name)?.get(name).cloned().map(Found::Value),
            Turns::Later { variables, .. } => match self.dynamic.turns.get(&w.id) {
                Some(turn) => turn.get(name).cloned().map(Found::Value),
                None => {
                    let of_loop = variables.iter().any(|v| v == name);
                    of_loop.then(|| Found::Unknown(format!("`{name}` is known only in the run")))
                }
            },
            _ => None,
        })
    }

    /// `hostvars`, cut down to the names the asking template can pick.
    fn hostvars(&self, words: &[String]) -> Found {
        let p = self.program;
        if let Some(w) = words.iter().find(|w| self.pending.contains(*w)) {
            return Found::Unknown(format!("`{w}` is set by a task that has not run yet"));
        }
        let later = |w: &&String| self.dynamic.others.later.contains(*w);
        if let Some(w) = words.iter().find(later) {
            return Found::Unknown(format!("`{w}` is set by a task that an apply does"));
        }
        if let Some(h) = p.inventory.hosts.values().find(|h| h.to_be_made) {
            return Found::Unknown(format!("the host {} is made only in the run", h.name));
        }
        // Once: what is gone through may go through it again.
        let every = words.iter().any(|w| w == EVERY_NAME) && !Reading::every();
        if every && !(self.pending.is_empty() && self.dynamic.others.later.is_empty()) {
            return Found::Unknown("which variable of another host is meant is known only in the run".into());
        }
        let reads_facts = words.iter().any(|w| others::is_fact(w));
        let mut all = Map::new();
        let empty = HashSet::new();
        for name in p.inventory.hosts.keys() {
            let mut vars = Map::new();
            let own = *name == self.host.name;
            let learned = if own { Some(&self.dynamic.vars) } else { self.dynamic.others.vars.get(name) };
            let facts = match self.dynamic.others.facts.get(name) {
                _ if !reads_facts => None,
                _ if own => self.dynamic.facts.clone(),
                Some(told) => told.clone(),
                None if p.host_index(name).is_none() => None,
                None => return Found::Unknown(format!("the facts of {name} are not known yet")),
            };
            if own && reads_facts && facts.is_none() {
                self.facts_asked.set(true);
                return Found::Unknown("facts are not gathered yet".into());
            }
            let other: HostPlan;
            let plan = match p.host_index(name) {
                Some(i) => &p.hosts[i],
                None => {
                    other = HostPlan::new(name, false, &p.inventory);
                    &other
                }
            };
            let dynamic = Dynamic { vars: learned.cloned().unwrap_or_default(), facts, ..Default::default() };
            let scope = Scope::of_host(p, plan, &dynamic, &empty);
            let mut names: Vec<&str> = words.iter().map(String::as_str).collect();
            if every {
                names.extend(scope.written());
                names.extend(p.extra.keys().map(String::as_str));
                names.extend(dynamic.vars.keys().map(String::as_str));
                names.extend(["inventory_hostname", "inventory_hostname_short", "group_names", "groups"]);
                names.sort_unstable();
                names.dedup();
            }
            // `groups` is the same for each of them, and large: whoever goes through it here goes through their own.
            let left_out = |w: &&str| matches!(*w, "hostvars" | EVERY_NAME) || *w == "groups" && !every;
            for w in names.into_iter().filter(|w| !left_out(w)) {
                if let Some(v) = Reading::enter(name, w, every).and_then(|_within| scope.value(w)) {
                    vars.insert(w.to_string(), v);
                }
            }
            all.insert(name.clone(), Value::Object(vars));
        }
        Found::Value(Value::Object(all))
    }

    fn look_up(&self, name: &str, words: &[String]) -> Found {
        if let Some(v) = self.locals.get(name) {
            return Found::Value(v.clone());
        }
        if let Some(f) = self.turn(name).or_else(|| self.magic(name, words)) {
            return f;
        }
        if let Some(v) = self.program.extra.get(name) {
            return self.rendered(name, v);
        }
        if let Some(v) = self.file.and_then(|f| f.get(name)) {
            return self.rendered(name, v);
        }
        if let Some(v) = self.layers[..self.above].iter().find_map(|(_, l)| l.get(name)) {
            return self.rendered(name, v);
        }
        if self.pending.contains(name) && self.may_be_set(name) {
            let asking = self.task.filter(|_| self.dynamic.before);
            if let Some(v) = asking.and_then(|t| self.program.set_for_sure(name, t, &self.host.name)) {
                return Found::Value(v);
            }
            return Found::Unknown(format!("`{name}` is set by a task that has not run yet"));
        }
        if let Some(v) = self.dynamic.vars.get(name) {
            return Found::Value(v.clone());
        }
        if let Some(v) = self.raw(name) {
            return self.rendered(name, v);
        }
        match name {
            "ansible_facts" if told_facts(self.pending.iter()).next().is_some() => {
                Found::Unknown("facts are set by a task that has not run yet".into())
            }
            "facts" | "ansible_facts" => match &self.dynamic.facts {
                Some(f) if name == "ansible_facts" => {
                    let mut f = ansible_names::ansible_facts(f);
                    for k in told_facts(self.dynamic.vars.keys()) {
                        f[k] = self.dynamic.vars[k].clone();
                    }
                    Found::Value(f)
                }
                Some(f) => Found::Value((**f).clone()),
                None => {
                    self.facts_asked.set(true);
                    Found::Unknown("facts are not gathered yet".into())
                }
            },
            _ if ansible_names::is_fact(name) => match &self.dynamic.facts {
                Some(f) => {
                    let all = ansible_names::ansible_facts(f);
                    name.strip_prefix("ansible_")
                        .and_then(|n| all.get(n))
                        .cloned()
                        .map_or(Found::Undefined, Found::Value)
                }
                None => {
                    self.facts_asked.set(true);
                    Found::Unknown("facts are not gathered yet".into())
                }
            },
            _ if self.program.asked_later.iter().any(|n| n == name) => {
                Found::Unknown("a person is asked for it when the run begins".into())
            }
            "failed_task" | "failed_result" | "ansible_failed_task" | "ansible_failed_result" if self.in_rescue() => {
                Found::Unknown("what failed is known only then".into())
            }
            // Where nothing else is said, a host is reached under its name.
            "ansible_host" => Found::Value(json!(self.host.name)),
            _ if self.program.inventory.hosts.get(&self.host.name).is_some_and(|h| h.to_be_made) => {
                Found::Unknown(format!("`{name}` may be given to the host where it is made"))
            }
            _ if self.may_not_be_meant() => Found::Unknown(format!("`{name}` may be there where this is taken in")),
            // What cannot be found may be in what could not be read, unless it is nearly the name of something else.
            _ if self.partial() && nearest(name, self.known().iter().map(String::as_str)).is_none() => {
                Found::Unknown(format!("`{name}` may be in a file that could not be read"))
            }
            _ => Found::Undefined,
        }
    }

    /// Whether a task can have given the host this variable.
    fn may_be_set(&self, name: &str) -> bool {
        let (p, host) = (self.program, &self.host.name);
        let Some(asking) = self.task else { return true };
        p.can_be_set(name, host) && !(self.dynamic.before && asking.is_in_the_row() && p.is_never_set(name, host))
    }

    fn rendered(&self, name: &str, var: &Var) -> Found {
        if self.active.borrow().iter().any(|n| n == name) {
            let mut chain = self.active.borrow().clone();
            chain.push(name.to_string());
            let begin = chain.iter().position(|n| n == name).unwrap_or(0);
            let mut e = TemplateError::new(format!("the variable needs itself: {}", chain[begin..].join(" -> ")));
            e.span = Some(var.span.clone());
            return Found::Broken(e.hint("give one of them another name: a variable cannot be made of itself"));
        }
        if self.active.borrow().len() >= DEEPEST {
            let mut e =
                TemplateError::new(format!("`{name}` stands at the end of {DEEPEST} variables made of each other"));
            e.span = Some(var.span.clone());
            return Found::Broken(e.hint("make them of fewer others: `set_fact` can take a part of the way"));
        }
        if !self.compiles(&var.value) {
            return Found::Unknown(format!("the template of `{name}` is broken"));
        }
        self.active.borrow_mut().push(name.to_string());
        let result = self.program.templates.render_deep(&var.value, self);
        self.active.borrow_mut().pop();
        match result {
            Ok(v) => Found::Value(v),
            Err(Trouble::Unknown(why)) => Found::Unknown(why),
            Err(Trouble::Error(e)) if e.span.is_some() => Found::Broken(e),
            Err(Trouble::Error(e)) => Found::Broken(TemplateError {
                message: format!("{} (in the variable `{name}`)", e.message),
                span: Some(match (e.at, var.value.as_str()) {
                    (Some(at), Some(text)) => match crate::playbook::place_in(&var.span, text, at) {
                        Some(start) => {
                            let rest = &var.span.source.text[start..var.span.range.end];
                            let end = rest.find("}}").map_or(var.span.range.end, |i| start + i + 2);
                            Span::new(&var.span.source, start..end)
                        }
                        None => var.span.clone(),
                    },
                    _ => var.span.clone(),
                }),
                at: None,
                len: None,
                hint: e.hint,
            }),
        }
    }

    fn in_rescue(&self) -> bool {
        self.task.is_some_and(|t| t.within.iter().any(|w| w.section != super::Section::Main))
    }

    /// The task is of a file that a template could name, and none has yet: perhaps it is for others.
    fn may_not_be_meant(&self) -> bool {
        let within = self.task.map_or(&[][..], |t| t.inherits());
        let unknown =
            |w: &&super::Within| matches!(*w.turns, Turns::Later { .. }) && !self.dynamic.turns.contains_key(&w.id);
        within.iter().find(unknown).is_some_and(|w| {
            let mut inside = within.iter().skip_while(|x| x.id != w.id).skip(1);
            matches!(inside.next().map(|c| &*c.turns), Some(Turns::Candidate { sure: false, .. }))
        })
    }

    /// Some variables of this task could not be read.
    fn partial(&self) -> bool {
        self.program.partial || self.task.is_some_and(|t| self.program.playbook.phases[t.phase].partial)
    }

    /// Whether every template in a value can be read; what is wrong with one that cannot was said when it was loaded.
    fn compiles(&self, value: &Value) -> bool {
        match value {
            Value::String(s) => self.program.templates.compile(s).is_ok(),
            Value::Array(a) => a.iter().all(|v| self.compiles(v)),
            Value::Object(o) => o.values().all(|v| self.compiles(v)),
            _ => true,
        }
    }
}

/// The layers of written variables, highest first, and how many of them stand above what tasks set.
fn read_layers<'a>(
    program: &'a Program,
    host: &'a HostPlan,
    task: Option<&'a TaskUse>,
) -> (Vec<(Layer<'a>, &'a Vars)>, usize) {
    let mut all: Vec<(Layer, &Vars)> = vec![(Layer::CommandLine, &program.extra)];
    let mut dir = None;
    if let Some(t) = task {
        add_given(program, t, &mut all);
    }
    let above = all.len();
    if let Some(t) = task {
        let phase = &program.playbook.phases[t.phase];
        dir = Some(phase.dir.as_path());
        all.push((Layer::Task, &t.task.vars));
        all.extend(t.inherits().iter().rev().filter(|w| !w.block.included).map(|w| (Layer::Block, &w.block.vars)));
        // A role sees the variables of the roles it depends on, and of those that took it in.
        for r in t.role.iter().chain(&t.around) {
            all.push((Layer::RoleUse(&r.role.name), &r.params));
            add_vars(r, &mut all);
        }
        // The vars of the phase's other roles are seen by all, as in Ansible.
        for r in phase.roles.iter().chain(&phase.public).rev() {
            add_vars(r, &mut all);
        }
        all.extend(phase.vars_files.iter().rev().map(|(_, v)| (Layer::VarsFile, v)));
        all.push((Layer::Phase(&phase.name), &phase.vars));
    }
    let written = program.inventory.layers(&host.name, &host.groups, dir);
    all.extend(written.into_iter().rev().map(|(level, vars)| match level {
        Level::Host(h) => (Layer::Host(h), vars),
        Level::Group(g) => (Layer::Group(g), vars),
    }));
    if let Some(t) = task {
        t.role.iter().chain(&t.around).for_each(|r| add_defaults(r, &mut all));
        // A role's own come first; the other roles' of the phase are seen by all, as in Ansible.
        let phase = &program.playbook.phases[t.phase];
        for r in phase.roles.iter().chain(&phase.public).rev() {
            add_defaults(r, &mut all);
        }
    }
    (all, above)
}

/// What is given to the roles and files that a task is taken in with, the innermost first.
fn add_given<'a>(program: &'a Program, task: &'a TaskUse, all: &mut Vec<(Layer<'a>, &'a Vars)>) {
    let of = |w: &Within, r: &Arc<RoleUse>| {
        program.blocks.get(w.id).and_then(|b| b.role.as_ref()).is_some_and(|of| Arc::ptr_eq(of, r))
    };
    let mut blocks: Vec<&Within> = task.inherits().iter().rev().filter(|w| w.block.included).collect();
    for r in task.role.iter().chain(&task.around) {
        let (inside, outside) = blocks.into_iter().partition(|w| of(w, r));
        blocks = outside;
        let inside: Vec<&Within> = inside;
        all.extend(inside.into_iter().map(|w| (Layer::Block, &w.block.vars)));
        all.push((Layer::RoleUse(&r.role.name), &r.given));
    }
    all.extend(blocks.into_iter().map(|w| (Layer::Block, &w.block.vars)));
}

/// Where variables are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer<'a> {
    CommandLine,
    Task,
    Block,
    /// Where a role is used.
    RoleUse(&'a str),
    RoleVars(&'a str),
    VarsFile,
    Phase(&'a str),
    Host(&'a str),
    Group(&'a str),
    RoleDefaults(&'a str),
}

impl std::fmt::Display for Layer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Layer::CommandLine => write!(f, "command line"),
            Layer::Task => write!(f, "the task"),
            Layer::Block => write!(f, "a block around the task"),
            Layer::RoleUse(r) => write!(f, "given to the role `{r}`"),
            Layer::RoleVars(r) => write!(f, "vars of the role `{r}`"),
            Layer::VarsFile => write!(f, "vars_files"),
            Layer::Phase(p) => write!(f, "vars of the phase `{p}`"),
            Layer::Host(h) => write!(f, "host `{h}`"),
            Layer::Group(g) => write!(f, "group `{g}`"),
            Layer::RoleDefaults(r) => write!(f, "defaults of the role `{r}`"),
        }
    }
}

fn add_vars<'a>(r: &'a crate::playbook::RoleUse, all: &mut Vec<(Layer<'a>, &'a Vars)>) {
    all.push((Layer::RoleVars(&r.role.name), &r.role.vars));
    r.role.dependencies.iter().for_each(|d| add_vars(d, all));
}

fn add_defaults<'a>(r: &'a crate::playbook::RoleUse, all: &mut Vec<(Layer<'a>, &'a Vars)>) {
    all.push((Layer::RoleDefaults(&r.role.name), &r.role.defaults));
    r.role.dependencies.iter().for_each(|d| add_defaults(d, all));
}

impl Lookup for Scope<'_> {
    fn get(&self, name: &str, words: &[String]) -> Found {
        if words.is_empty()
            && let Some(f) = self.memo.borrow().get(name)
        {
            return f.clone();
        }
        // Other hosts' variables are looked at as if nothing were being rendered here.
        let of_others = name == "hostvars" && !self.locals.contains_key(name);
        if of_others && let Some(f) = self.others.borrow().get(words) {
            return f.clone();
        }
        let found = self.look_up(name, words);
        if of_others {
            self.others.borrow_mut().insert(words.to_vec(), found.clone());
        } else if words.is_empty() && self.active.borrow().is_empty() {
            self.memo.borrow_mut().insert(name.to_string(), found.clone());
        }
        found
    }

    fn learn(&self, at: &str, secret: &str) {
        let mut secrets = crate::vault::Secrets::new();
        secrets.add(at, secret);
        self.program.redactor.add(&secrets);
    }

    fn shape(&self, name: &str) -> Shape {
        shapes::of_variable(self, name)
    }

    fn guarded(&self, path: &[String]) -> bool {
        // An interface, by its name with `_` for `-`.
        let by_name =
            |n: &String| !ansible_names::NAMES.contains(&n.as_str()) && ansible_names::is_fact(&format!("ansible_{n}"));
        if path.first().is_some_and(|p| p == "ansible_facts") && path.get(1).is_some_and(by_name) {
            return true;
        }
        let Some(t) = self.task else { return false };
        let conditions = t.outer_when.iter().chain(&t.task.when);
        conditions.flat_map(|c| c.compiled.guards()).any(|g| path.starts_with(g))
    }

    fn advice(&self, name: &str) -> Option<String> {
        let looped = self.task.and_then(|t| t.task.loop_.as_ref());
        if name == "item" {
            return Some(match looped {
                None => "`item` is the variable of a `loop:`, and this task has none".into(),
                Some(l) => format!("the variable of this loop is `{}`", l.var),
            });
        }
        if name == "ansible_version" {
            return Some("this is not Ansible, and no version of it: take the question out".into());
        }
        if name == "ansible_loop" && looped.is_some() {
            return Some("the items of a loop have it with `loop_control: {extended: true}`".into());
        }
        if let Some(setter) = self.program.tasks.iter().find(|t| t.task.sets().iter().any(|n| n == name)) {
            let place = setter.span().line();
            if setter.left_out {
                return Some(format!("the task that sets it, at {place}, is left out of this run"));
            }
            if self.program.is_never_set(name, &self.host.name) {
                return Some(format!("the task that sets it, at {place}, is skipped on {}", self.host.name));
            }
            if !self.program.can_be_set(name, &self.host.name) {
                return Some(format!(
                    "only other hosts have it, from {place}: take it from one, as hostvars.NAME.{name}"
                ));
            }
            if self.task.is_some_and(|t| std::ptr::eq(t, setter)) {
                return Some("only this task sets it: give it a first value with `default`, or in a variable".into());
            }
            return Some(format!("it is set only later, at {place}"));
        }
        let hosts: Vec<&str> = self.program.hosts.iter().map(|h| h.name.as_str()).collect();
        let has = |h: &&&str| self.program.inventory.host_layers(h).iter().any(|(_, v)| v.contains_key(name));
        let having: Vec<&str> = hosts.iter().filter(has).copied().collect();
        if !having.is_empty() {
            let some = having.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let more = if having.len() > 3 { ", …" } else { "" };
            return Some(format!("only some of the hosts have it: {some}{more}"));
        }
        None
    }

    fn known(&self) -> Vec<String> {
        let mut names: Vec<String> = self.layers().flat_map(|l| l.keys().cloned()).collect();
        names.extend(self.locals.keys().cloned());
        names.extend(self.dynamic.vars.keys().cloned());
        names.extend(self.program.promised.iter().cloned());
        names.extend(
            ["inventory_hostname", "groups", "group_names", "hostvars", "facts", "playbook_dir", "role_path"]
                .map(str::to_string),
        );
        names.extend(ansible_names::NAMES.iter().map(|n| format!("ansible_{n}")));
        names.sort();
        names.dedup();
        names
    }
}

/// Of these names, those that modules gather: in `ansible_facts` as well.
fn told_facts<'a>(names: impl Iterator<Item = &'a String>) -> impl Iterator<Item = &'a str> {
    names.map(String::as_str).filter(|n| matches!(*n, "packages" | "services") || n.starts_with("getent_"))
}
