//! What is known of variables that exist only later: facts, what tasks register and set.

use super::{Program, Scope, TaskUse, ansible_names, told_facts};
use crate::graph::Section;
use crate::modules::results;
use crate::playbook::{Condition, Task};
use crate::probe::facts;
use crate::source::{Kind, Node};
use crate::template::Shape;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static FACTS: LazyLock<Shape> = LazyLock::new(facts::shape);
static ANSIBLE: LazyLock<Shape> = LazyLock::new(ansible_names::shape);

/// How far a variable that stands for another one is followed.
const FAR: usize = 8;

/// What can be in a variable.
pub fn of_variable(scope: &Scope<'_>, name: &str) -> Shape {
    follow(scope, name, FAR)
}

/// What can be in a value, as it is written.
pub fn of_node(scope: &Scope<'_>, node: &Node) -> Shape {
    written(scope, node, FAR)
}

fn follow(scope: &Scope<'_>, name: &str, far: usize) -> Shape {
    if let Some(s) = scope.shapes.get(name) {
        return s.clone();
    }
    if far == 0 || scope.program.extra.contains_key(name) || scope.file.is_some() {
        return Shape::Any;
    }
    if name == "hostvars" {
        return scope.program.of_hostvars.get_or_init(|| hostvars(scope.program)).clone();
    }
    let set = set_by_tasks(scope, name, far);
    match (set, scope.raw(name)) {
        (Some(set), None) => set,
        (None, Some(var)) => match var.value.as_str() {
            Some(text) => of_text(scope, text, far),
            None => Shape::Any,
        },
        (Some(_), Some(_)) => Shape::Any,
        (None, None) => match name {
            "facts" => FACTS.clone(),
            "ansible_facts" => told(scope.program, &ANSIBLE),
            "failed_task" | "ansible_failed_task" => Shape::names(["action", "name"]),
            "failed_result" | "ansible_failed_result" => failed(scope),
            _ => match name.strip_prefix("ansible_").filter(|_| ansible_names::is_fact(name)) {
                Some(bare) => ANSIBLE.at(bare).unwrap_or(Shape::Any),
                None => Shape::Any,
            },
        },
    }
}

/// `ansible_facts` with what modules gather, and with interfaces.
fn told(p: &Program, all: &Shape) -> Shape {
    let told = told_facts(p.setters.keys()).map(|n| (n.to_string(), Shape::Any));
    all.clone().or(Shape::fields(told))
}

/// What tasks make of a variable; `None`: none sets it.
fn set_by_tasks(scope: &Scope<'_>, name: &str, far: usize) -> Option<Shape> {
    let setters = scope.program.setters.get(name)?;
    setters.iter().map(|t| set_by(scope, *t, name, far)).reduce(Shape::or)
}

fn set_by(scope: &Scope<'_>, index: usize, name: &str, far: usize) -> Shape {
    let task = &*scope.program.tasks[index].task;
    if task.broken {
        return Shape::Any;
    }
    if task.register.as_deref() == Some(name) {
        // Who asks whether it was skipped is not told that it will be.
        let asked = |t: &TaskUse| {
            let of_result = t.task.until.iter().chain(&t.task.changed_when).chain(&t.task.failed_when);
            let mut conditions = t.outer_when.iter().chain(&t.task.when).chain(of_result);
            let looped = t.task.loop_.as_ref();
            let asks =
                |c: &Condition| c.compiled.roots().iter().any(|r| r == name || looped.is_some_and(|l| *r == l.var));
            conditions.any(asks)
        };
        let whatever = !scope.dynamic.before || scope.task.is_none_or(|t| !t.is_in_the_row() || asked(t));
        if !whatever && scope.program.is_skipped(index, &scope.host.name) {
            let one = skipped(&results::of(task.module));
            return if task.loop_.is_some() { results::of_loop(one.or(of_items(task))) } else { one };
        }
        let own = scope.task.is_some_and(|t| std::ptr::eq(&*t.task, task));
        return registered(task, own);
    }
    match task.args.get(name) {
        // What it is made of may be the variable itself.
        Some(node) if task.module.name == "set_fact" => written(scope, node, far - 1),
        _ => Shape::Any,
    }
}

/// What a result has whose task was skipped.
const SKIPPED: [&str; 5] = ["changed", "failed", "false_condition", "skip_reason", "skipped"];

/// That of a task that is never done on a host.
fn skipped(done: &Shape) -> Shape {
    const HINT: &str =
        "that task is skipped on this host, as its `when` says: ask `not (skipped …)` of its result first";
    let mut all: BTreeMap<String, Shape> = BTreeMap::new();
    if let Shape::Fields { fields, .. } = done {
        all.extend(fields.keys().map(|n| (n.clone(), Shape::Never(HINT))));
    }
    all.extend(SKIPPED.map(|n| (n.to_string(), Shape::Any)));
    Shape::fields(all)
}

/// What the task that is rescued has come to: it is one of its block.
fn failed(scope: &Scope<'_>) -> Shape {
    let Some(asking) = scope.task else { return Shape::Any };
    let Some(block) = asking.within.iter().rev().find(|w| w.section != Section::Main) else { return Shape::Any };
    let inside = |t: &&TaskUse| t.within.iter().any(|w| w.id == block.id && w.section == Section::Main);
    // Also those of blocks inside it.
    let tasks = scope.program.tasks.iter().filter(inside).map(|t| &*t.task);
    tasks.map(|t| if t.broken { Shape::Any } else { registered(t, false) }).reduce(Shape::or).unwrap_or(Shape::Any)
}

fn registered(task: &Task, own: bool) -> Shape {
    let one = results::of(task.module);
    if task.loop_.is_none() {
        return one;
    }
    let one = one.or(of_items(task));
    // In its own conditions it is the result of one item.
    if own { one.clone().or(results::of_loop(one)) } else { results::of_loop(one) }
}

/// What the results of a loop have of its items.
fn of_items(task: &Task) -> Shape {
    Shape::fields(task.loop_.iter().flat_map(|l| l.variables()).map(|n| (n, Shape::Any)))
}

fn written(scope: &Scope<'_>, node: &Node, far: usize) -> Shape {
    match &node.kind {
        Kind::Str(text) if text.contains("{{") => of_text(scope, text, far),
        Kind::Map(entries) if node.tag.is_none() => {
            Shape::fields(entries.iter().map(|e| (e.key.clone(), written(scope, &e.value, far))))
        }
        _ => Shape::Any,
    }
}

/// Of a text that is one variable, or a field of one.
fn of_text(scope: &Scope<'_>, text: &str, far: usize) -> Shape {
    let Ok(compiled) = scope.program.templates.compile(text) else { return Shape::Any };
    let Some((root, keys)) = compiled.path().and_then(|p| p.split_first()) else { return Shape::Any };
    follow(scope, root, far.saturating_sub(1)).walk(keys).unwrap_or(Shape::Any)
}

/// What to do where facts of a host are wanted that has no part in the run.
const NO_PART: &str = "the host has no part in this run, so nobody asks for its facts: name it in `hosts:` of a phase or in \
                       `--limit`, or write the value into the inventory";

/// The same of a variable.
const NOT_SET: &str = "no task of this run sets it on that host";

/// Other hosts, and of their variables those that tasks register, and facts.
fn hostvars(p: &Program) -> Shape {
    let set = p.setters.keys().map(|n| {
        let tasks = p.setters[n].iter().map(|t| &*p.tasks[*t].task);
        let shapes = tasks.map(|t| match t.register.as_deref() == Some(n) && !t.broken {
            true => registered(t, false),
            false => Shape::Any,
        });
        (n, shapes.reduce(Shape::or).unwrap_or(Shape::Any))
    });
    let set: Vec<(&String, Shape)> = set.collect();
    let facts = [("facts", FACTS.clone()), ("ansible_facts", told(p, &ANSIBLE))];
    let of_facts = facts.into_iter().map(|(n, s)| (n.to_string(), s));
    let named = ansible_names::NAMES.iter().filter_map(|n| Some((format!("ansible_{n}"), ANSIBLE.at(n)?)));
    let facts: Vec<(String, Shape)> = of_facts.chain(named).collect();
    let host = |h: &String| {
        let layers = p.inventory.host_layers(h);
        let written = |n: &str| p.extra.contains_key(n) || layers.iter().any(|(_, v)| v.contains_key(n));
        let part = p.host_index(h).is_some() || p.makes_hosts;
        let facts = facts.iter().filter(|(n, _)| !written(n));
        let facts = facts.map(|(n, s)| (n.clone(), if part { s.clone() } else { Shape::Never(NO_PART) }));
        let set = set.iter().filter(|(n, _)| !written(n)).map(|(n, s)| {
            let can = part && p.can_be_set(n, h);
            ((*n).clone(), if can { s.clone() } else { Shape::Never(NOT_SET) })
        });
        (h.clone(), Shape::open(facts.chain(set)))
    };
    let more = p.inventory.partial_hosts || p.tasks.iter().any(|t| t.task.module.name == "add_host");
    let all = p.inventory.hosts.keys().map(host).chain([("localhost".to_string(), Shape::Any)]);
    if more { Shape::open(all) } else { Shape::fields(all) }
}
