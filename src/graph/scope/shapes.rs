//! What is known of variables that exist only later: facts, what tasks register and set.

use super::{Scope, ansible_names, told_facts};
use crate::modules::results;
use crate::playbook::Task;
use crate::probe::facts;
use crate::source::{Kind, Node};
use crate::template::Shape;
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
        return hostvars(scope, far);
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
            "ansible_facts" => told(scope, &ANSIBLE),
            "failed_task" | "ansible_failed_task" => Shape::names(["action", "name"]),
            _ => match name.strip_prefix("ansible_").filter(|_| ansible_names::is_fact(name)) {
                Some(bare) => ANSIBLE.at(bare).unwrap_or(Shape::Any),
                None => Shape::Any,
            },
        },
    }
}

/// `ansible_facts` with what modules gather, and with interfaces.
fn told(scope: &Scope<'_>, all: &Shape) -> Shape {
    let told = told_facts(scope.program.setters.keys()).map(|n| (n.to_string(), Shape::Any));
    all.clone().or(Shape::fields(told))
}

/// What tasks make of a variable; `None`: none sets it.
fn set_by_tasks(scope: &Scope<'_>, name: &str, far: usize) -> Option<Shape> {
    let tasks = scope.program.setters.get(name)?.iter().map(|t| &*scope.program.tasks[*t].task);
    tasks.map(|t| set_by(scope, t, name, far)).reduce(Shape::or)
}

fn set_by(scope: &Scope<'_>, task: &Task, name: &str, far: usize) -> Shape {
    if task.broken {
        return Shape::Any;
    }
    if task.register.as_deref() == Some(name) {
        return registered(scope, task);
    }
    match task.args.get(name) {
        // What it is made of may be the variable itself.
        Some(node) if task.module.name == "set_fact" => written(scope, node, far - 1),
        _ => Shape::Any,
    }
}

fn registered(scope: &Scope<'_>, task: &Task) -> Shape {
    let one = results::of(task.module);
    let Some(l) = &task.loop_ else { return one };
    let index = l.variables().map(|n| (n, Shape::Any));
    let one = one.or(Shape::fields(index));
    // In its own conditions it is the result of one item.
    let own = scope.task.is_some_and(|t| std::ptr::eq(&*t.task, task));
    if own { one.clone().or(results::of_loop(one)) } else { results::of_loop(one) }
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

/// Other hosts, and of their variables those that tasks register.
fn hostvars(scope: &Scope<'_>, far: usize) -> Shape {
    let p = scope.program;
    let registers: Vec<&String> = p.tasks.iter().filter_map(|t| t.task.register.as_ref()).collect();
    let fields: Vec<(String, Shape)> = registers
        .into_iter()
        .filter(|n| scope.raw(n).is_none())
        .filter_map(|n| Some((n.clone(), set_by_tasks(scope, n, far)?)))
        .collect();
    let one = Shape::open(fields);
    let hosts = p.inventory.hosts.keys().map(|h| (h.clone(), one.clone()));
    let more = p.inventory.partial_hosts || p.tasks.iter().any(|t| t.task.module.name == "add_host");
    let localhost = ["localhost".to_string()].map(|l| (l, one.clone()));
    let all = hosts.chain(localhost);
    if more { Shape::open(all) } else { Shape::fields(all) }
}
