//! One task on one host, made ready: conditions evaluated, loop unrolled, parameters rendered and typed.
//! The check before a run and the run itself go through here alike.

use super::scope::{Dynamic, OMIT};
use super::{Program, Scope, TaskUse};
use crate::modules::{ArgError, Bound, FileKind, Local, ModuleDef};
use crate::playbook::{Become, Condition, Text};
use crate::source::{Diagnostic, Kind, Node, Source, Span, nearest};
use crate::template::{TemplateError, Trouble, truthy};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What is to be done for a task on a host.
pub enum Prepared {
    /// `when` says no.
    Skipped {
        why: String,
    },
    Parts {
        parts: Vec<Part>,
        looped: bool,
    },
}

/// One loop item, or the whole of a task without a loop.
pub struct Part {
    /// How the item is called.
    pub label: Option<String>,
    /// The loop variables.
    pub locals: Map<String, Value>,
    /// `None`: `when` says no for this item.
    pub item: Option<Item>,
}

/// Something to be asked of a host.
pub struct Item {
    pub bound: Box<dyn Bound>,
    /// The user to act as; `None`: whoever logs in.
    pub become_user: Option<String>,
    pub environment: Vec<(String, String)>,
}

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
        for c in conditions() {
            if !evaluate(c, &plain)? {
                return Ok(Prepared::Skipped { why: c.text.clone() });
            }
        }
        let item = item(place, &plain)?;
        return Ok(Prepared::Parts {
            parts: vec![Part { label: None, locals: Map::new(), item: Some(item) }],
            looped: false,
        });
    };
    // A condition that does not look at the item settles the matter before the list is even looked at.
    for c in conditions().filter(|c| !c.compiled.roots().contains(&l.var)) {
        if matches!(evaluate(c, &plain), Ok(false)) {
            return Ok(Prepared::Skipped { why: c.text.clone() });
        }
    }
    let over = render_node(&l.over, &plain)?;
    let items = match over {
        Value::Array(a) => a,
        other => {
            let d = Diagnostic::error(format!("`loop` takes a list, not {}", kind_of(&other))).at(&l.over.span);
            return Err(Refusal::Wrong(vec![if other.is_object() {
                d.hint("for a mapping: loop: \"{{dict2items name}}\"")
            } else {
                d
            }]));
        }
    };
    let mut parts = vec![];
    for (i, value) in items.into_iter().enumerate() {
        let mut locals = Map::new();
        if let Some(v) = &l.index_var {
            locals.insert(v.clone(), json!(i));
        }
        let default_label = label_of(&value);
        locals.insert(l.var.clone(), value);
        locals.insert("ansible_loop_var".into(), json!(l.var));
        let scope = place.scope(locals.clone());
        let label = match &l.label {
            Some(t) => crate::template::text(&render_text(t, &scope)?),
            None => default_label,
        };
        let mut wanted = true;
        for c in conditions() {
            wanted = wanted && evaluate(c, &scope)?;
        }
        let item = if wanted { Some(item(place, &scope)?) } else { None };
        parts.push(Part { label: Some(label), locals, item });
    }
    Ok(Prepared::Parts { parts, looped: true })
}

fn item(place: Place<'_>, scope: &Scope<'_>) -> Result<Item, Refusal> {
    let task = &place.task.task;
    let args = arguments(task.module, &task.args, scope)?;
    let files = Files { place, scope };
    let bound = (task.module.bind)(args, &files).map_err(|e| wrong_argument(e, task.module, &task.args, scope))?;
    Ok(Item { bound, become_user: become_user(place, scope)?, environment: environment(place, scope)? })
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

/// A task's user: the innermost `become_user` where `become` is on.
fn become_user(place: Place<'_>, scope: &Scope<'_>) -> Result<Option<String>, Refusal> {
    let phase = &place.program.playbook.phases[place.task.phase];
    let mut levels: Vec<&Become> = vec![&place.task.task.become_];
    levels.extend(place.task.role.as_ref().map(|r| &r.become_));
    levels.push(&phase.become_);
    let var = |name: &str| scope.value(name);
    let on = levels
        .iter()
        .find_map(|b| b.on)
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
    for node in phase.environment.iter().chain(&place.task.task.environment) {
        match render_node(node, scope)? {
            Value::Object(o) => all.extend(o),
            Value::Null => {}
            other => {
                let d =
                    Diagnostic::error(format!("`environment` takes a mapping, not {}", kind_of(&other))).at(&node.span);
                return Err(Refusal::Wrong(vec![d]));
            }
        }
        if let Some(bad) = all.keys().find(|k| !crate::vars::is_name(k)) {
            let d = Diagnostic::error(format!("`{bad}` cannot be an environment variable's name")).at(&node.span);
            return Err(Refusal::Wrong(vec![d]));
        }
    }
    Ok(all.into_iter().map(|(k, v)| (k, crate::template::text(&v))).collect())
}

/// A module's parameters, rendered. Everything wrong in them is found at once.
fn arguments(module: &ModuleDef, args: &Node, scope: &Scope<'_>) -> Result<Value, Refusal> {
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
    match (wrong.is_empty(), unknown) {
        (false, _) => Err(Refusal::Wrong(wrong)),
        (true, Some(r)) => Err(r),
        (true, None) => Ok(Value::Object(out)),
    }
}

/// A parameter that is an expression (or a list of them): what is written and what it comes to.
fn expressions(node: &Node, scope: &Scope<'_>) -> Result<Value, Refusal> {
    if let Some(items) = node.as_seq() {
        return items.iter().map(|n| expressions(n, scope)).collect::<Result<_, _>>().map(Value::Array);
    }
    let text = crate::template::text(&node.to_value());
    let value = scope.expression(&text).map_err(|t| refusal(t, &node.span, None, scope))?;
    Ok(json!({"expression": text, "value": value}))
}

/// A node's value with every template in it rendered.
pub fn render_node(node: &Node, scope: &Scope<'_>) -> Result<Value, Refusal> {
    match &node.kind {
        Kind::Str(s) if s.contains("{{") => scope.render(s).map_err(|t| refusal(t, &node.span, Some(node), scope)),
        Kind::Seq(items) => {
            let mut out = vec![];
            for n in items {
                out.push(render_node(n, scope)?);
            }
            Ok(Value::Array(out))
        }
        Kind::Map(entries) => {
            let mut out = Map::new();
            for e in entries {
                let v = render_node(&e.value, scope)?;
                if v != Value::String(OMIT.into()) {
                    out.insert(e.key.clone(), v);
                }
            }
            Ok(Value::Object(out))
        }
        _ => Ok(node.to_value()),
    }
}

pub fn render_text(t: &Text, scope: &Scope<'_>) -> Result<Value, Refusal> {
    scope.render(&t.text).map_err(|e| refusal(e, &t.span, None, scope))
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
fn wrong_argument(e: ArgError, module: &ModuleDef, args: &Node, scope: &Scope<'_>) -> Refusal {
    if e.unknown {
        return Refusal::Unknown { why: e.message, facts: scope.wants_facts() };
    }
    let node = args.at_path(e.param.iter().map(String::as_str));
    let quoted = |prefix: &str| e.message.strip_prefix(prefix).and_then(|r| r.split('`').next()).map(str::to_string);
    let mut message = e.message.clone();
    let mut hint = e.hint.clone();
    if let Some(field) = quoted("missing field `") {
        message = format!("`{}` needs `{field}`", module.name);
    } else if let Some(variant) = quoted("unknown variant `") {
        let known: Vec<&str> = e.message.split('`').skip(3).step_by(2).collect();
        message = format!("`{variant}` is not a choice of `{}`", e.param.last().map_or(module.name, String::as_str));
        hint = Some(match nearest(&variant, known.iter().copied()) {
            Some(n) => format!("did you mean `{n}`?"),
            None => format!("it is one of: {}", known.join(", ")),
        });
    } else if let Some(rest) = message.strip_prefix("invalid type: ") {
        message = format!("`{}` of `{}`: {rest}", e.param.join("."), module.name);
    }
    let d = Diagnostic::error(message).at(e.span.as_ref().unwrap_or(&node.span));
    let d = if e.span.is_some() { d.also(&node.span, "used here") } else { d };
    Refusal::Wrong(vec![match hint {
        Some(h) => d.hint(h),
        None => d,
    }])
}

fn kind_of(v: &Value) -> String {
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
        std::fs::read(path).map_err(|e| ArgError::new("src", format!("cannot read {}: {e}", shown.display())))
    }

    fn render(&self, path: &Path, text: &str) -> Result<String, ArgError> {
        let at_place = |e: TemplateError| {
            let source = Source::new(crate::source::display_path(path), text);
            let span = e.span.clone().unwrap_or_else(|| {
                let (l, c) = e.at.unwrap_or((1, 1));
                let at = source.offset(l, c);
                Span::new(&source, at..at)
            });
            ArgError { span: Some(span), hint: e.hint, ..ArgError::new("src", e.message) }
        };
        match self.scope.render(text) {
            Ok(v) => Ok(crate::template::text(&v)),
            Err(Trouble::Unknown(why)) => Err(ArgError { unknown: true, ..ArgError::new("src", why) }),
            Err(Trouble::Error(e)) => Err(at_place(e)),
        }
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
        tried.extend([program.playbook.dir.join(sub).join(name), program.playbook.dir.join(name)]);
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
