//! Keys of phases with templates in them: rendered once, before anything is laid out, from what holds whatever the host.

use super::compile::Options;
use super::prepare::kind_of;
use crate::inventory::Inventory;
use crate::modules::args::Bool;
use crate::playbook::{Batch, Phase, PhaseKey, Playbook, Share, template_diagnostic};
use crate::source::{Diagnostic, Diagnostics, Kind, Node, nearest};
use crate::template::{Found, Lookup, TemplateError, Templates, Trouble};
use crate::vars::{Var, Vars};
use serde_json::{Map, Value, json};
use std::cell::RefCell;

/// Nobody: a phase that nothing is known of.
const NOBODY: &str = "all:!all";
/// How many variables may be made of each other in a row.
const DEEPEST: usize = 50;
const FROM: &str = "a phase's keys know what -e, the group `all` and the phase's own `vars` say, and nothing of a host";

/// Puts values in the place of templates in phases' keys.
pub fn settle(
    book: &mut Playbook,
    inventory: &Inventory,
    templates: &Templates,
    options: &Options,
    found: &mut Diagnostics,
) {
    let dir = book.dir.display().to_string();
    let groups = serde_json::to_value(inventory.groups_map()).unwrap_or_default();
    let all: Vec<usize> = inventory.groups.get_index_of("all").into_iter().collect();
    for i in 0..book.phases.len() {
        let later = std::mem::take(&mut book.phases[i].later);
        for (key, node) in later {
            let ground = Ground {
                phase: &book.phases[i],
                all: inventory.layers("", &all, Some(&book.phases[i].dir)).into_iter().rev().map(|(_, v)| v).collect(),
                templates,
                options,
                dir: &dir,
                groups: &groups,
                active: RefCell::default(),
            };
            let rendered = ground.render(&node);
            put(&mut book.phases[i], key, &node, rendered, found);
        }
        name(book, i);
    }
}

/// A phase nobody named is called after its hosts.
fn name(book: &mut Playbook, i: usize) {
    let p = &book.phases[i];
    if p.named || !p.name.contains("{{") {
        return;
    }
    let plain = p.hosts.text.clone();
    let taken = |n: &str| book.phases.iter().any(|p| p.name == n);
    let free = std::iter::once(plain.clone()).chain((2..).map(|n| format!("{plain} ({n})"))).find(|n| !taken(n));
    book.phases[i].name = free.unwrap_or(plain);
}

fn put(phase: &mut Phase, key: PhaseKey, node: &Node, rendered: Result<Value, Trouble>, found: &mut Diagnostics) {
    let value = match rendered {
        Ok(v) => v,
        Err(t) => {
            match t {
                Trouble::Error(e) => found.push(template_diagnostic(&e, &of_text(node))),
                Trouble::Unknown(why) if key == PhaseKey::Hosts => {
                    let d =
                        Diagnostic::warning("whose this phase is, is known only in the run: nothing of it is checked");
                    found.push(d.at(&node.span).label(why).hint("give it with -e NAME=VALUE"));
                }
                Trouble::Unknown(_) => {}
            }
            if key == PhaseKey::Hosts {
                phase.hosts.text = NOBODY.into();
                phase.partial = true;
            }
            return;
        }
    };
    let mut wrong = |what: &str, hint: &str| {
        let is = match &value {
            Value::String(s) => format!("`{s}`"),
            v => kind_of(v),
        };
        found.push(Diagnostic::error(format!("{what}, not {is}")).at(&node.span).hint(hint));
    };
    let flag = || serde_json::from_value::<Bool>(value.clone()).ok().map(|b| b.0);
    match key {
        PhaseKey::Hosts => match pattern(&value) {
            Some(p) => phase.hosts.text = p,
            None => {
                wrong(
                    "`hosts` is a pattern or a list of them",
                    "let it come to the name of a group, of a host, or `all`",
                );
                phase.hosts.text = NOBODY.into();
                phase.partial = true;
            }
        },
        PhaseKey::Serial => {
            let all = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
            match all.iter().map(Batch::read).collect::<Option<Vec<_>>>() {
                Some(sizes) => phase.serial = sizes,
                None => wrong(Batch::NONE, Batch::HINT),
            }
        }
        PhaseKey::MaxFail => match share(&value) {
            // No failure at all may have been said to be enough.
            Some(n) if phase.max_fail != Some(0.0) => phase.max_fail = Some(n),
            Some(_) => {}
            None => wrong("`max_fail_percentage` must be a number, 0 or more", "max_fail_percentage: 25"),
        },
        PhaseKey::AnyErrorsFatal => match flag() {
            Some(true) => phase.max_fail = Some(0.0),
            Some(false) => {}
            None => wrong("`any_errors_fatal` must be true or false", "let it come to true or false"),
        },
        PhaseKey::ForceHandlers => match flag() {
            Some(on) => phase.force_handlers |= on,
            None => wrong("`force_handlers` must be true or false", "let it come to true or false"),
        },
    }
}

/// `a:b`, or a list of such.
fn pattern(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.trim().to_string()).filter(|s| !s.is_empty()),
        Value::Array(a) => {
            let words: Option<Vec<&str>> = a.iter().map(Value::as_str).collect();
            words.map(|w| w.join(",")).filter(|s| !s.is_empty())
        }
        _ => None,
    }
}

/// `25`, `33.3`, `"25%"`.
fn share(value: &Value) -> Option<f64> {
    match value {
        Value::String(s) => Share::of(s),
        _ => value.as_f64().filter(Share::is_one),
    }
}

/// The part of a value that has a template, where there is but one.
fn of_text(node: &Node) -> Node {
    match node.as_seq() {
        Some([one]) => one.clone(),
        _ => node.clone(),
    }
}

/// What is known whatever the host.
struct Ground<'a> {
    phase: &'a Phase,
    /// Variables of the group `all`, highest first.
    all: Vec<&'a Vars>,
    templates: &'a Templates,
    options: &'a Options,
    dir: &'a str,
    groups: &'a Value,
    /// Variables being rendered right now, to see one that needs itself.
    active: RefCell<Vec<String>>,
}

impl Ground<'_> {
    fn layers(&self) -> impl Iterator<Item = &Vars> {
        let files = self.phase.vars_files.iter().rev().map(|(_, v)| v);
        std::iter::once(&self.options.extra).chain(files).chain([&self.phase.vars]).chain(self.all.iter().copied())
    }

    fn render(&self, node: &Node) -> Result<Value, Trouble> {
        match &node.kind {
            Kind::Seq(items) => items.iter().map(|n| self.render(n)).collect::<Result<_, _>>().map(Value::Array),
            Kind::Str(s) if s.contains("{{") => {
                let compiled = self.templates.compile(s).map_err(Trouble::Error)?;
                self.templates.value(&compiled, self)
            }
            _ => Ok(node.to_value()),
        }
    }

    fn rendered(&self, name: &str, var: &Var) -> Found {
        let broken = |message: String, hint: &str| {
            let mut e = TemplateError::new(message).hint(hint);
            e.span = Some(var.span.clone());
            Found::Broken(e)
        };
        let deep = self.active.borrow().len() >= DEEPEST;
        if deep || self.active.borrow().iter().any(|n| n == name) {
            return broken(format!("the variable `{name}` needs itself"), "a variable cannot be made of itself");
        }
        self.active.borrow_mut().push(name.to_string());
        let result = self.templates.render_deep(&var.value, self);
        self.active.borrow_mut().pop();
        match result {
            Ok(v) => Found::Value(v),
            Err(Trouble::Unknown(why)) => Found::Unknown(why),
            Err(Trouble::Error(e)) if e.span.is_some() => Found::Broken(e),
            Err(Trouble::Error(e)) => broken(format!("{} (in the variable `{name}`)", e.message), FROM),
        }
    }
}

impl Lookup for Ground<'_> {
    fn get(&self, name: &str, _: &[String]) -> Found {
        if let Some(v) = self.layers().find_map(|l| l.get(name)) {
            return self.rendered(name, v);
        }
        match name {
            "groups" => Found::Value(self.groups.clone()),
            "playbook_dir" => Found::Value(json!(self.dir)),
            "inventory_dir" => self.options.inventory_dir.as_ref().map_or(Found::Undefined, |d| Found::Value(json!(d))),
            "ansible_check_mode" => Found::Value(json!(self.options.check_mode)),
            // There are no hosts yet that could have any.
            "hostvars" => Found::Value(Value::Object(Map::new())),
            _ if self.options.asked_later.iter().any(|n| n == name) => {
                Found::Unknown(format!("a person is asked for `{name}` when the run begins"))
            }
            _ if self.options.partial || self.phase.partial => {
                Found::Unknown(format!("`{name}` may be in a file that could not be read"))
            }
            _ => Found::Undefined,
        }
    }

    fn known(&self) -> Vec<String> {
        self.layers().flat_map(|l| l.keys().cloned()).collect()
    }

    fn advice(&self, name: &str) -> Option<String> {
        let near = nearest(name, self.known().iter().map(String::as_str)).is_some();
        (!near).then(|| format!("give it with -e {name}=VALUE: {FROM}"))
    }
}
