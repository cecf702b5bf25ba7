//! One task on one host, made ready: conditions evaluated, loop unrolled, parameters rendered and typed.
//! The check before a run and the run itself go through here alike.

use super::scope::{Dynamic, OMIT, shapes};
use super::{Program, Scope, TaskUse};
use crate::modules::args::Bool;
use crate::modules::{ArgError, Bound, FileKind, Local, ModuleDef};
use crate::playbook::{Become, Condition, Loop, Said, Text, argument_diagnostic};
use crate::source::{Diagnostic, Diagnostics, Kind, Node, Source, Span, nearest};
use crate::template::{Settings, Shape, TemplateError, Trouble, truthy};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is to be done for a task on a host.
pub enum Prepared {
    /// `when` says no.
    Skipped {
        why: String,
        /// The variables of the items that are skipped, where they are known and somebody may ask.
        items: Option<Vec<Map<String, Value>>>,
    },
    Parts {
        parts: Vec<Part>,
        looped: bool,
        /// Between two items.
        pause: Duration,
    },
}

/// One loop item, or the whole of a task without a loop.
pub struct Part {
    /// How the item is called.
    pub label: Option<String>,
    /// The loop variables.
    pub locals: Map<String, Value>,
    /// `Err`: `when` says no for this item, by this condition.
    pub item: Result<Item, String>,
}

/// Something to be asked of a host.
pub struct Item {
    pub bound: Box<dyn Bound>,
    /// The user to act as; `None`: whoever logs in.
    pub become_user: Option<String>,
    pub environment: Vec<(String, String)>,
    /// The host it is done on, where that is another than the task's own.
    pub delegate: Option<String>,
    /// Who logs in, where the inventory does not say.
    pub login: Option<String>,
    pub ignore_errors: bool,
    pub no_log: bool,
    /// `false`: act even in a plan; `true`: only look, even in an apply.
    pub check_mode: Option<bool>,
    /// For the whole of it.
    pub timeout: Option<Duration>,
    /// In the background: for how long at most, and the time between two looks (zero: nobody waits for it).
    pub background: Option<(Duration, Duration)>,
    /// Further tries.
    pub retries: u64,
    /// Between two tries.
    pub delay: Duration,
}

/// Further tries, and seconds between them, where the task does not say.
const RETRIES: u64 = 3;
const DELAY: u64 = 5;

/// Why a task could not be made ready.
#[derive(Debug)]
pub enum Refusal {
    /// Something it needs exists only later.
    Unknown { why: String, facts: bool },
    /// It is wrong.
    Wrong(Vec<Diagnostic>),
}

/// Where a task stands: the program, the host, what the host knows, what earlier steps will still set.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub program: &'a Program,
    pub host: usize,
    pub task: &'a TaskUse,
    pub dynamic: &'a Dynamic,
    pub pending: &'a HashSet<String>,
}

impl<'a> Place<'a> {
    pub fn scope(&self, locals: Map<String, Value>) -> Scope<'a> {
        Scope::new(self.program, self.host, Some(self.task), self.dynamic, self.pending).with_locals(locals)
    }
}

/// Makes a task ready.
pub fn prepare(place: Place<'_>) -> Result<Prepared, Refusal> {
    let task = &place.task.task;
    let plain = place.scope(Map::new());
    let conditions = || place.task.outer_when.iter().chain(&task.when);
    let Some(l) = &task.loop_ else {
        if let Some(c) = unmet(conditions(), &plain)? {
            return Ok(Prepared::Skipped { why: c.text.clone(), items: None });
        }
        let item = item(place, &plain)?;
        return Ok(Prepared::Parts {
            parts: vec![Part { label: None, locals: Map::new(), item: Ok(item) }],
            looped: false,
            pause: Duration::ZERO,
        });
    };
    // A condition that does not look at the item settles the matter before the list is even looked at.
    for c in conditions().filter(|c| !asks_for_item(c, l)) {
        if matches!(evaluate(c, &plain), Ok(false)) {
            // The list may be one that only the condition makes sure of.
            let list = task.register.as_ref().and_then(|_| render_node(&l.over, &plain).ok());
            let items = list.as_ref().and_then(Value::as_array);
            let items = items.map(|all| (0..all.len()).map(|i| locals(l, i, all)).collect());
            return Ok(Prepared::Skipped { why: c.text.clone(), items });
        }
    }
    let over = render_node(&l.over, &plain)?;
    let items = match over {
        Value::Array(a) => a,
        other => {
            return Err(Refusal::Wrong(vec![no_list(&other, &l.over)]));
        }
    };
    let mut parts = vec![];
    let mut set: Option<Dynamic> = None;
    for (i, value) in items.iter().enumerate() {
        let locals = locals(l, i, &items);
        let place = Place { dynamic: set.as_ref().unwrap_or(place.dynamic), ..place };
        let scope = place.scope(locals.clone());
        let label = match &l.label {
            Some(t) => crate::template::text(&render_text(t, &scope)?),
            None => label_of(value),
        };
        let item = match unmet(conditions(), &scope)? {
            Some(c) => Err(c.text.clone()),
            None => Ok(item(place, &scope)?),
        };
        // What one item sets the next one sees: that is how lists are put together.
        if task.module.name == "set_fact"
            && item.is_ok()
            && let Value::Object(more) = arguments(task.module, &task.args, &scope)?
        {
            let mut next = place.dynamic.clone();
            std::sync::Arc::make_mut(&mut next.vars).extend(more.into_iter().filter(|(k, _)| k != "cacheable"));
            drop(scope);
            set = Some(next);
        }
        parts.push(Part { label: Some(label), locals, item });
    }
    let pause = l.pause.as_ref().map_or(Ok(Duration::ZERO), |n| pause(n, &plain))?;
    Ok(Prepared::Parts { parts, looped: true, pause })
}

/// The first of these that does not hold.
fn unmet<'c>(
    conditions: impl Iterator<Item = &'c Condition>,
    scope: &Scope<'_>,
) -> Result<Option<&'c Condition>, Refusal> {
    for c in conditions {
        if !evaluate(c, scope)? {
            return Ok(Some(c));
        }
    }
    Ok(None)
}

fn item(place: Place<'_>, scope: &Scope<'_>) -> Result<Item, Refusal> {
    let task = &place.task.task;
    let args = arguments(task.module, &task.args, scope)?;
    let files = Files { place, scope };
    let bound = (task.module.bind)(args, &files).map_err(|e| wrong_argument(&e, task.module, &task.args, scope))?;
    let item = Item {
        bound,
        become_user: become_user(place, scope)?,
        environment: environment(place, scope)?,
        delegate: delegate(place, scope)?,
        login: login(place, scope)?,
        ignore_errors: ignores(place, scope)?,
        no_log: hides(place.task.no_log(), scope)?,
        check_mode: optional(place.task.said(|k| k.check_mode.as_ref()), |s| flag(s, "check_mode", scope))?,
        timeout: optional(task.timeout.as_ref(), |n| number(n, "timeout", scope))?
            .filter(|n| *n > 0)
            .map(Duration::from_secs),
        background: background(place, scope)?,
        retries: match (&task.retries, task.until.is_empty()) {
            (Some(n), _) => whole_number(n, "retries", scope)?,
            (None, true) => 0,
            (None, false) => RETRIES,
        },
        delay: Duration::from_secs(match &task.delay {
            Some(n) => whole_number(n, "delay", scope)?,
            None => DELAY,
        }),
    };
    no_secret_shown(place, item.bound.arguments(), &item.environment)?;
    Ok(item)
}

fn optional<A, B>(said: Option<A>, read: impl Fn(A) -> Result<B, Refusal>) -> Result<Option<B>, Refusal> {
    said.map(read).transpose()
}

/// True or false, written or rendered.
pub fn flag(said: &Said<bool>, key: &str, scope: &Scope<'_>) -> Result<bool, Refusal> {
    let text = match said {
        Said::Plain(b) => return Ok(*b),
        Said::Template(t) => t,
    };
    let v = render_text(text, scope)?;
    serde_json::from_value::<Bool>(v.clone()).map(|b| b.0).map_err(|_| {
        let message = format!("`{key}` must be true or false, not {}", shown(&v));
        Refusal::Wrong(vec![Diagnostic::error(message).at(&text.span).hint("let it come to true or false")])
    })
}

/// A whole number, written or rendered.
pub fn number(said: &Said<u64>, key: &str, scope: &Scope<'_>) -> Result<u64, Refusal> {
    match said {
        Said::Plain(n) => Ok(*n),
        Said::Template(t) => whole(&render_text(t, scope)?, key, &t.span),
    }
}

/// Whether a failure is not to stop the host.
pub fn ignores(place: Place<'_>, scope: &Scope<'_>) -> Result<bool, Refusal> {
    let said = place.task.said(|k| k.ignore_errors.as_ref());
    Ok(optional(said, |s| flag(s, "ignore_errors", scope))?.unwrap_or(false))
}

/// Whether one of these says that nothing is to be shown.
pub fn hides<'s>(said: impl Iterator<Item = &'s Said<bool>>, scope: &Scope<'_>) -> Result<bool, Refusal> {
    let mut hides = false;
    for s in said {
        hides |= flag(s, "no_log", scope)?;
    }
    Ok(hides)
}

fn background(place: Place<'_>, scope: &Scope<'_>) -> Result<Option<(Duration, Duration)>, Refusal> {
    let Some((limit, poll)) = &place.task.task.background else { return Ok(None) };
    let (limit, poll) = (number(limit, "async", scope)?, number(poll, "poll", scope)?);
    Ok((limit > 0).then(|| (Duration::from_secs(limit), Duration::from_secs(poll))))
}

fn pause(node: &Node, scope: &Scope<'_>) -> Result<Duration, Refusal> {
    let v = render_node(node, scope)?;
    crate::playbook::seconds(&v).ok_or_else(|| {
        let message = format!("`pause` must be a number of seconds, not {}", shown(&v));
        Refusal::Wrong(vec![Diagnostic::error(message).at(&node.span).hint("write a number, 0 or more, or a template")])
    })
}

/// A whole number, written or rendered.
fn whole_number(node: &Node, key: &str, scope: &Scope<'_>) -> Result<u64, Refusal> {
    whole(&render_node(node, scope)?, key, &node.span)
}

fn whole(v: &Value, key: &str, span: &Span) -> Result<u64, Refusal> {
    v.as_u64().or_else(|| v.as_str().and_then(|s| s.trim().parse().ok())).ok_or_else(|| {
        let message = format!("`{key}` must be a whole number, 0 or more, not {}", shown(v));
        Refusal::Wrong(vec![Diagnostic::error(message).at(span).hint("write digits, or a template")])
    })
}

/// The other host a task is done on.
fn delegate(place: Place<'_>, scope: &Scope<'_>) -> Result<Option<String>, Refusal> {
    let Some(to) = place.task.delegate_to() else { return Ok(None) };
    let name = crate::template::text(&render_text(to, scope)?);
    let program = place.program;
    let known = &program.inventory.hosts;
    if !known.contains_key(&name) && !program.inventory.is_implicit_localhost(&name) {
        let d = Diagnostic::error(format!("`delegate_to`: there is no host `{name}`")).at(&to.span);
        return Err(Refusal::Wrong(vec![match nearest(&name, known.keys().map(String::as_str)) {
            Some(n) => d.hint(format!("did you mean `{n}`?")),
            None => d.hint("name a host of the inventory, or localhost"),
        }]));
    }
    Ok(Some(name).filter(|n| *n != program.hosts[place.host].name))
}

/// Refuses a secret in a process's arguments.
fn no_secret_shown(
    place: Place<'_>,
    (words, expanded): (&[String], bool),
    environment: &[(String, String)],
) -> Result<(), Refusal> {
    let secret = |text: &str| place.program.redactor.contains_secret(text);
    let brought = |name: &str| environment.iter().any(|(k, v)| k == name && secret(v));
    let hint = if words.iter().any(|w| secret(w)) {
        "hand it over by `environment:` or `stdin:`, or use `shell`, whose script is in no argument"
    } else if expanded && crate::host::expanded_names(words).any(brought) {
        "`expand_argument_vars: false` leaves the variable to the command itself"
    } else {
        return Ok(());
    };
    let d = Diagnostic::error("a secret stands in the command's arguments, where every user of the host can read it");
    Err(Refusal::Wrong(vec![d.at(&place.task.task.args.span).hint(hint)]))
}

/// Whether an expression holds.
pub fn evaluate(c: &Condition, scope: &Scope<'_>) -> Result<bool, Refusal> {
    let v = value_of(c, scope)?;
    truthy(&v).ok_or_else(|| {
        let d = Diagnostic::error(format!("`{}` is {}, neither true nor false", c.text, kind_of(&v))).at(&c.span);
        Refusal::Wrong(vec![d.hint("compare it: eq a \"x\"; or turn it round: not (eq a \"\")")])
    })
}

fn value_of(c: &Condition, scope: &Scope<'_>) -> Result<Value, Refusal> {
    scope.evaluate(c).map_err(|t| refusal(t, &c.span, None, scope))
}

/// What is said of users, the innermost first.
fn users<'p>(place: Place<'p>) -> Vec<&'p Become> {
    let phase = &place.program.playbook.phases[place.task.phase];
    let mut levels: Vec<&Become> = vec![&place.task.task.become_];
    levels.extend(place.task.inherits().iter().rev().map(|w| &w.block.become_));
    // Of a role for those it depends on and takes in, too.
    levels.extend(place.task.role.iter().chain(&place.task.around).map(|r| &r.become_));
    levels.push(&phase.become_);
    levels
}

/// Who logs in, by the innermost `remote_user`.
pub fn login(place: Place<'_>, scope: &Scope<'_>) -> Result<Option<String>, Refusal> {
    let said = users(place).into_iter().find_map(|b| b.login.as_ref());
    let name = optional(said, |t| render_text(t, scope))?.map(|v| crate::template::text(&v));
    Ok(name.filter(|n| !n.is_empty() && n != OMIT))
}

/// A task's user: the innermost `become_user` where `become` is on.
fn become_user(place: Place<'_>, scope: &Scope<'_>) -> Result<Option<String>, Refusal> {
    let levels = users(place);
    let var = |name: &str| scope.value(name);
    let said = levels.iter().find_map(|b| b.on.as_ref());
    let on = optional(said, |s| flag(s, "become", scope))?
        .or_else(|| place.program.become_default.0.then_some(true))
        .or_else(|| var("ansible_become").as_ref().and_then(truthy))
        .unwrap_or(false);
    if !on {
        return Ok(None);
    }
    if let Some(t) = levels.iter().find_map(|b| b.user.as_ref()) {
        return Ok(Some(crate::template::text(&render_text(t, scope)?)));
    }
    let given = place.program.become_default.1.clone();
    Ok(Some(
        given
            .or_else(|| var("ansible_become_user").map(|v| crate::template::text(&v)))
            .unwrap_or_else(|| "root".into()),
    ))
}

fn environment(place: Place<'_>, scope: &Scope<'_>) -> Result<Vec<(String, String)>, Refusal> {
    let phase = &place.program.playbook.phases[place.task.phase];
    let mut all: Map<String, Value> = Map::new();
    let blocks = place.task.inherits().iter().filter_map(|w| w.block.environment.as_ref());
    let of_role = place.task.role_block().and_then(|b| b.environment.as_ref());
    for node in phase.environment.iter().chain(of_role).chain(blocks).chain(&place.task.task.environment) {
        match render_node(node, scope)? {
            Value::Object(o) => all.extend(o),
            Value::Null => {}
            other => {
                let d =
                    Diagnostic::error(format!("`environment` takes a mapping, not {}", kind_of(&other))).at(&node.span);
                return Err(Refusal::Wrong(vec![d.hint("write it as `environment: {NAME: value}`")]));
            }
        }
        if let Some(bad) = all.keys().find(|k| !crate::vars::is_name(k)) {
            let at = node.entry(bad).map_or(&node.span, |e| &e.key_span);
            let d = Diagnostic::error(format!("`{bad}` cannot be an environment variable's name")).at(at);
            return Err(Refusal::Wrong(vec![d.hint("a name has letters, digits and underscores")]));
        }
    }
    Ok(all.into_iter().map(|(k, v)| (k, crate::template::text(&v))).collect())
}

/// A module's parameters, rendered. Everything wrong in them is found at once.
fn arguments(module: &ModuleDef, args: &Node, scope: &Scope<'_>) -> Result<Value, Refusal> {
    let Arguments { known, wrong, unknown } = each_argument(module, args, scope);
    match (wrong.is_empty(), unknown) {
        (false, _) => Err(Refusal::Wrong(wrong)),
        (true, Some(r)) => Err(r),
        (true, None) => Ok(Value::Object(known)),
    }
}

/// Parameters, as far as they could be rendered.
struct Arguments {
    known: Map<String, Value>,
    wrong: Vec<Diagnostic>,
    /// Why some exist only later.
    unknown: Option<Refusal>,
}

fn each_argument(module: &ModuleDef, args: &Node, scope: &Scope<'_>) -> Arguments {
    let mut out = Map::new();
    let (mut wrong, mut unknown) = (vec![], None);
    for e in args.as_map().unwrap_or_default() {
        let rendered = if module.expressions.contains(&e.key.as_str()) {
            expressions(&e.value, scope)
        } else {
            render_node(&e.value, scope)
        };
        match rendered {
            Ok(Value::String(s)) if s == OMIT => {}
            Ok(v) => {
                out.insert(e.key.clone(), v);
            }
            Err(Refusal::Wrong(d)) => wrong.extend(d),
            Err(r) => unknown = Some(r),
        }
    }
    Arguments { known: out, wrong, unknown }
}

/// Looks at all parts of a task on a host, also at those behind something that exists only later, and collects what is
/// wrong with them. `true`: some part asks for facts.
pub fn examine(place: Place<'_>, found: &mut Diagnostics) -> bool {
    let task = &place.task.task;
    let mut look = Look { place, found, facts: false, unsure: HashSet::new(), shapes: HashMap::new(), sure: true };
    let plain = place.scope(Map::new());
    let conditions: Vec<&Condition> = place.task.outer_when.iter().chain(&task.when).collect();
    let of_item = |c: &Condition| task.loop_.as_ref().is_some_and(|l| asks_for_item(c, l));
    let whole: Vec<&Condition> = conditions.iter().copied().filter(|c| !of_item(c)).collect();
    if !look.wanted(&whole, &plain) {
        return look.facts;
    }
    if let Some(n) = task.loop_.as_ref().and_then(|l| l.pause.as_ref()) {
        look.take(pause(n, &plain));
    }
    match &task.loop_ {
        None => look.part(&Map::new()),
        Some(l) => match look.take(render_node(&l.over, &plain)) {
            Some(Value::Array(items)) => {
                for i in 0..items.len() {
                    let locals = locals(l, i, &items);
                    let scope = place.scope(locals.clone());
                    if let Some(label) = &l.label {
                        look.take(render_text(label, &scope));
                    }
                    if look.wanted(&conditions, &scope) {
                        look.part(&locals);
                    }
                }
            }
            Some(other) => look.found.push(no_list(&other, &l.over)),
            None => {
                look.unsure.extend(l.variables());
                let list = shapes::of_node(&plain, &l.over);
                look.shapes.extend(list.at("0").map(|one| (l.var.clone(), one)));
                // Of each element as much is known as of the first.
                let pending: HashSet<String> = place.pending.union(&look.unsure).cloned().collect();
                let one = Place { pending: &pending, ..place }.scope(Map::new()).with_shapes(look.shapes.clone());
                if let Some(label) = &l.label {
                    look.take(render_text(label, &one));
                }
                look.wanted(&conditions, &one);
                look.part(&Map::new());
            }
        },
    }
    look.facts
}

struct Look<'a> {
    place: Place<'a>,
    found: &'a mut Diagnostics,
    facts: bool,
    /// More names that nothing can be said of.
    unsure: HashSet<String>,
    /// But this of some of them.
    shapes: HashMap<String, Shape>,
    /// Its conditions hold in any case.
    sure: bool,
}

impl Look<'_> {
    fn take<T>(&mut self, r: Result<T, Refusal>) -> Option<T> {
        match r {
            Ok(v) => Some(v),
            Err(Refusal::Unknown { facts, .. }) => {
                self.facts |= facts;
                None
            }
            Err(Refusal::Wrong(d)) => {
                d.into_iter().for_each(|d| self.found.push(d));
                None
            }
        }
    }

    /// Whether conditions let a task through, as far as is known; what they ask for may be what they make sure of.
    fn wanted(&mut self, conditions: &[&Condition], scope: &Scope<'_>) -> bool {
        for c in conditions {
            match self.take(evaluate(c, scope)) {
                Some(false) => return false,
                Some(true) => {}
                None => {
                    self.sure = false;
                    self.unsure.extend(c.compiled.roots().iter().cloned());
                }
            }
        }
        true
    }

    /// The parameters and what stands beside them, for one item.
    fn part(&mut self, locals: &Map<String, Value>) {
        let all: HashSet<String>;
        let mut place = self.place;
        if !self.unsure.is_empty() {
            all = place.pending.union(&self.unsure).cloned().collect();
            place.pending = &all;
        }
        let task = &place.task.task;
        let scope = place.scope(locals.clone()).with_shapes(self.shapes.clone());
        let Arguments { known, wrong, unknown } = each_argument(task.module, &task.args, &scope);
        let whole = wrong.is_empty() && unknown.is_none() && !task.unbound;
        let files = Files { place, scope: &scope };
        if whole {
            let bound = (task.module.bind)(Value::Object(known), &files);
            let bound = bound.map_err(|e| wrong_argument(&e, task.module, &task.args, &scope));
            if let (Some(b), Ok(e)) = (self.take(bound), environment(place, &scope)) {
                self.take(no_secret_shown(place, b.arguments(), &e));
                if self.sure && self.unsure.is_empty() {
                    self.take(fails_in_any_case(place, &scope, &*b));
                }
            }
        } else {
            // A value can be wrong whatever the others come to.
            for (param, value) in &known {
                if !task.module.expressions.contains(&param.as_str())
                    && let Err(e) = (task.module.typed)(param, value.clone())
                {
                    self.found.push(argument_diagnostic(&e, task.module, &task.args));
                }
            }
            let template = Some(&known).filter(|_| task.module.name == "template").and_then(|k| k.get("src")?.as_str());
            if let Some(src) = template {
                let text = files.find(FileKind::Template, src).and_then(|p| {
                    let text = String::from_utf8_lossy(&files.read(&p)?).into_owned();
                    files.render(&p, &text, &crate::modules::template_settings(&known))
                });
                self.take(text.map_err(|e| wrong_argument(&e, task.module, &task.args, &scope)));
            }
        }
        self.take(match unknown {
            Some(r) => Err(r),
            None if wrong.is_empty() => Ok(()),
            None => Err(Refusal::Wrong(wrong)),
        });
        self.take(become_user(place, &scope));
        self.take(environment(place, &scope));
        self.take(delegate(place, &scope));
        self.take(login(place, &scope));
        self.take(ignores(place, &scope));
        self.take(hides(place.task.no_log(), &scope));
        self.take(optional(place.task.said(|k| k.check_mode.as_ref()), |s| flag(s, "check_mode", &scope)));
        self.take(optional(task.timeout.as_ref(), |n| number(n, "timeout", &scope)));
        self.take(background(place, &scope));
        for (_, hold) in place.task.holds(0) {
            self.take(optional(hold.throttle.as_ref(), |n| number(n, "throttle", &scope)));
        }
        for (key, node) in [("retries", &task.retries), ("delay", &task.delay)] {
            if let Some(n) = node {
                self.take(whole_number(n, key, &scope));
            }
        }
        if let Some(n) = place.task.evidence() {
            self.take(render_node(n, &scope));
        }
        for d in place.task.diagnosis() {
            self.take(render_text(&d.say, &scope));
        }
        let of_result = || task.until.iter().chain(&task.changed_when).chain(&task.failed_when);
        if of_result().next().is_some() {
            // The result is at hand whether it has a name or not, and so is what the task gives.
            let mut pending = place.pending.clone();
            pending.extend(task.sets());
            pending.insert("result".into());
            let mut shapes = self.shapes.clone();
            shapes.insert("result".into(), crate::modules::results::of(task.module));
            let with_result = Place { pending: &pending, ..place }.scope(locals.clone()).with_shapes(shapes);
            for c in of_result() {
                self.take(evaluate(c, &with_result));
            }
        }
        self.facts |= scope.wants_facts();
    }
}

/// What an `assert` or a `fail` is going to say, where all that it looks at is known beforehand and nobody makes good
/// or overlooks that it fails. One that looks at nothing is meant to fail.
fn fails_in_any_case(place: Place<'_>, scope: &Scope<'_>, bound: &dyn crate::modules::Bound) -> Result<(), Refusal> {
    let (used, p) = (place.task, place.program);
    let task = &used.task;
    let looks = match task.module.name {
        "assert" => {
            let that = task.args.get("that");
            let mut texts = that.into_iter().flat_map(|n| n.as_seq().unwrap_or(std::slice::from_ref(n)));
            texts.any(|n| {
                let text = crate::template::text(&n.to_value());
                p.templates.compile_expression(&text).is_ok_and(|c| !c.roots().is_empty())
            })
        }
        "fail" => used.outer_when.iter().chain(&task.when).any(|c| !c.compiled.roots().is_empty()),
        _ => false,
    };
    let plain = |w: &super::Within| w.section == super::Section::Main && matches!(*w.turns, super::Turns::One);
    let minded = ignores(place, scope).is_ok_and(|i| !i)
        && !used.is_rescued()
        && task.failed_when.is_empty()
        && task.until.is_empty();
    let ends = || p.tasks.iter().any(|t| t.phase == used.phase && t.ends().is_some());
    if !looks || !minded || used.handler || p.makes_hosts || !used.within.iter().all(plain) || ends() {
        return Ok(());
    }
    let ctx = crate::modules::Ctx {
        diff: false,
        check: true,
        user: "root".into(),
        now: 0,
        waited: Duration::ZERO,
        answer: None,
    };
    match bound.decide(&crate::probe::Observed::default(), &ctx) {
        Err(crate::modules::Stop::Fail(f)) => {
            let message = match hides(used.no_log(), scope) {
                Ok(false) => p.redactor.redact(&f.message),
                _ => "this task is going to fail; what it says is not shown (no_log)".into(),
            };
            // Where nothing is run, it may be waiting for what is said when something is, as `-e confirm=yes`.
            let d = match p.checks_only {
                true => Diagnostic::warning(message),
                false => Diagnostic::error(message),
            };
            let host = &p.hosts[place.host].name;
            let hint = format!("this task would fail on {host}: all it looks at is known already");
            Err(Refusal::Wrong(vec![d.at(&task.span).hint(hint)]))
        }
        _ => Ok(()),
    }
}

fn no_list(value: &Value, over: &Node) -> Diagnostic {
    let d = Diagnostic::error(format!("`loop` takes a list, not {}", kind_of(value))).at(&over.span);
    match (value, over.as_str()) {
        (Value::Object(_), _) => d.hint("for a mapping: loop: \"{{dict2items name}}\""),
        (Value::String(_), Some(s)) if !s.contains("{{") && crate::vars::is_name(s) => {
            d.hint(format!("for the variable of that name: loop: \"{{{{{s}}}}}\""))
        }
        (Value::String(_), _) => d.hint("write it as a list, or split it: loop: \"{{split name ','}}\""),
        (Value::Number(_), _) => d.hint("for numbers: loop: \"{{range 0 3}}\""),
        _ => d.hint("write it as a list: loop: [a, b]"),
    }
}

/// Whether a condition can differ from item to item of a loop.
pub(super) fn asks_for_item(c: &Condition, l: &Loop) -> bool {
    l.variables().any(|v| c.compiled.roots().contains(&v))
}

/// The variables of one turn of a loop.
pub(super) fn locals(l: &Loop, i: usize, items: &[Value]) -> Map<String, Value> {
    let mut locals = Map::new();
    if let Some(v) = &l.index_var {
        locals.insert(v.clone(), json!(i));
        locals.insert("ansible_index_var".into(), json!(v));
    }
    locals.insert(l.var.clone(), items[i].clone());
    locals.insert("ansible_loop_var".into(), json!(l.var));
    if l.extended {
        let left = items.len() - i;
        let mut all = json!({
            "index": i + 1,
            "index0": i,
            "first": i == 0,
            "last": left == 1,
            "length": items.len(),
            "revindex": left,
            "revindex0": left - 1,
        });
        let before = i.checked_sub(1).and_then(|b| items.get(b));
        for (key, item) in [("previtem", before), ("nextitem", items.get(i + 1))] {
            if let Some(v) = item {
                all[key] = v.clone();
            }
        }
        if l.all_items {
            all["allitems"] = json!(items);
        }
        locals.insert("ansible_loop".into(), all);
    }
    locals
}

/// A parameter that is an expression (or a list of them): what is written and what it comes to.
fn expressions(node: &Node, scope: &Scope<'_>) -> Result<Value, Refusal> {
    if let Some(items) = node.as_seq() {
        return all_of(items.iter().map(|n| expressions(n, scope))).map(Value::Array);
    }
    let text = crate::template::text(&node.to_value());
    let value = scope.expression(&text).map_err(|t| refusal(t, &node.span, None, scope))?;
    Ok(json!({"expression": text, "value": value}))
}

/// All values; where some are wrong all that is wrong, also behind one that exists only later.
fn all_of(values: impl Iterator<Item = Result<Value, Refusal>>) -> Result<Vec<Value>, Refusal> {
    let (mut out, mut wrong, mut unknown) = (vec![], vec![], None);
    for value in values {
        match value {
            Ok(v) => out.push(v),
            Err(Refusal::Wrong(d)) => wrong.extend(d),
            Err(r) => unknown = unknown.or(Some(r)),
        }
    }
    match unknown {
        _ if !wrong.is_empty() => Err(Refusal::Wrong(wrong)),
        Some(r) => Err(r),
        None => Ok(out),
    }
}

/// A node's value with every template in it rendered.
pub fn render_node(node: &Node, scope: &Scope<'_>) -> Result<Value, Refusal> {
    match &node.kind {
        Kind::Str(s) if s.contains("{{") => scope.render(s).map_err(|t| refusal(t, &node.span, Some(node), scope)),
        Kind::Seq(items) => all_of(items.iter().map(|n| render_node(n, scope))).map(Value::Array),
        Kind::Map(entries) => {
            let values = all_of(entries.iter().map(|e| render_node(&e.value, scope)))?;
            let keys = entries.iter().map(|e| e.key.clone());
            Ok(Value::Object(keys.zip(values).filter(|(_, v)| *v != Value::String(OMIT.into())).collect()))
        }
        _ => Ok(node.to_value()),
    }
}

pub fn render_text(t: &Text, scope: &Scope<'_>) -> Result<Value, Refusal> {
    let node = || Node { span: t.span.clone(), tag: None, kind: Kind::Str(t.text.clone()) };
    scope.render(&t.text).map_err(|e| refusal(e, &t.span, Some(&node()), scope))
}

fn refusal(t: Trouble, span: &Span, node: Option<&Node>, scope: &Scope<'_>) -> Refusal {
    match t {
        Trouble::Unknown(why) => Refusal::Unknown { why, facts: scope.wants_facts() },
        Trouble::Error(e) => {
            let here = Node { span: span.clone(), tag: None, kind: Kind::Null };
            Refusal::Wrong(vec![crate::playbook::template_diagnostic(&e, node.unwrap_or(&here))])
        }
    }
}

/// A parameter's mistake, at its place.
fn wrong_argument(e: &ArgError, module: &ModuleDef, args: &Node, scope: &Scope<'_>) -> Refusal {
    if e.unknown {
        return Refusal::Unknown { why: e.message.clone(), facts: scope.wants_facts() };
    }
    let mut d = argument_diagnostic(e, module, args);
    if d.hint.is_none() {
        d.hint = Some(format!("`windlass modules {}` says what it takes", module.name));
    }
    Refusal::Wrong(vec![d])
}

/// A value in a message: short text as it is.
pub(super) fn shown(v: &Value) -> String {
    match v {
        Value::String(s) if s.chars().count() <= 40 && !s.contains('\n') => format!("`{s}`"),
        v => kind_of(v),
    }
}

pub(super) fn kind_of(v: &Value) -> String {
    match v {
        Value::Null => "nothing".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(_) => "text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
    }
}

/// What an item is called when nobody says: itself, or the value a person would look for in it.
fn label_of(v: &Value) -> String {
    match v {
        Value::Object(o) => ["name", "key", "path", "dest", "host"]
            .iter()
            .find_map(|k| o.get(*k).filter(|v| v.is_string()))
            .map_or_else(|| v.to_string(), crate::template::text),
        other => crate::template::text(other),
    }
}

/// The files a task may use: its role's folders, then `templates/` and `files/` beside the playbook, then its folder.
struct Files<'a> {
    place: Place<'a>,
    scope: &'a Scope<'a>,
}

impl Local for Files<'_> {
    fn find(&self, kind: FileKind, name: &str) -> Result<PathBuf, ArgError> {
        find_file(self.place.program, self.place.task, kind, name)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, ArgError> {
        let shown = crate::source::display_path(path);
        crate::source::read_regular(path).map_err(|e| {
            let d = crate::source::unreadable(&shown, &e);
            ArgError { hint: d.hint, ..ArgError::new("src", d.message) }
        })
    }

    fn render(&self, path: &Path, text: &str, settings: &Settings) -> Result<String, ArgError> {
        let at_place = |e: TemplateError| {
            let source = Source::new(crate::source::display_path(path), text);
            let span = e.span.clone().unwrap_or_else(|| {
                let (l, c) = e.at.unwrap_or((1, 1));
                let at = source.offset(l, c);
                // As far as the braces go.
                let end = text[at..].find("}}").map_or(at, |i| at + i + 2);
                Span::new(&source, at..e.len.map_or(end, |n| at + n))
            });
            ArgError { span: Some(span), hint: e.hint, ..ArgError::new("src", e.message) }
        };
        match self.scope.render_file(path, text, settings) {
            Ok(s) => Ok(s),
            Err(Trouble::Unknown(why)) => Err(ArgError { unknown: true, ..ArgError::new("src", why) }),
            Err(Trouble::Error(e)) => Err(at_place(e)),
        }
    }

    fn files_of_variables(&self) -> Vec<String> {
        self.place.task.task.brings.iter().map(|(n, _)| n.clone()).collect()
    }

    fn variables(&self, name: &str) -> Result<Map<String, Value>, ArgError> {
        let files = &self.place.task.task.brings;
        let Some((_, vars)) = files.iter().find(|(n, _)| n == name) else { return Ok(Map::new()) };
        match self.scope.of_file(vars) {
            Ok(v) => Ok(v),
            Err(Trouble::Unknown(why)) => Err(ArgError { unknown: true, ..ArgError::new("file", why) }),
            Err(Trouble::Error(e)) => Err(ArgError { span: e.span, hint: e.hint, ..ArgError::new("file", e.message) }),
        }
    }

    fn host(&self) -> &str {
        &self.place.program.hosts[self.place.host].name
    }

    fn folder(&self) -> PathBuf {
        self.place.program.playbook.dir.clone()
    }
}

/// Looks a source file up as Ansible does.
pub fn find_file(program: &Program, task: &TaskUse, kind: FileKind, name: &str) -> Result<PathBuf, ArgError> {
    let sub = match kind {
        FileKind::File => "files",
        FileKind::Template => "templates",
    };
    let mut tried = vec![];
    if Path::new(name).is_absolute() {
        tried.push(PathBuf::from(name));
    } else {
        if let Some(r) = &task.role {
            tried.extend([r.role.dir.join(sub).join(name), r.role.dir.join(name)]);
        }
        for r in &task.around {
            tried.push(r.role.dir.join(sub).join(name));
        }
        let dir = &program.playbook.phases[task.phase].dir;
        tried.extend([dir.join(sub).join(name), dir.join(name)]);
    }
    if let Some(p) = tried.iter().find(|p| p.exists()) {
        return Ok(p.clone());
    }
    let shown: Vec<String> = tried.iter().map(|p| crate::source::display_path(p).display().to_string()).collect();
    let here: Vec<String> = tried
        .iter()
        .filter_map(|p| std::fs::read_dir(p.parent()?).ok())
        .flat_map(|d| d.flatten().map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect();
    let e = ArgError::new("src", format!("there is no file `{name}`"));
    Err(match nearest(name, here.iter().map(String::as_str)) {
        Some(n) => e.hint(format!("did you mean `{n}`?")),
        None => e.hint(format!("looked for {}", shown.join(", "))),
    })
}
