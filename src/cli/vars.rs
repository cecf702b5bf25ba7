//! `windlass vars`: what a variable is on a host, where it is written, and what it stands in front of.

use super::apply::Format;
use super::why::{Book, find_task};
use super::{Exit, HostArgs};
use crate::error::{Error, Result};
use crate::graph::{Dynamic, Layer, Program, Scope, TaskUse};
use crate::source::nearest;
use crate::template::{Found, Lookup as _, text};
use crate::vars::Var;
use crate::vault::Redactor;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct VarsOf {
    /// The host.
    host: String,
    /// One variable, with all it stands in front of; without it, all of them.
    name: Option<String>,
    /// As the tasks of this playbook see it: with its phases' and roles' variables.
    #[arg(short, long, value_name = "PLAYBOOK")]
    playbook: Option<PathBuf>,
    /// As this task of the playbook sees it.
    #[arg(long, value_name = "TASK", requires = "playbook")]
    task: Option<String>,
    #[command(flatten)]
    hosts: HostArgs,
    /// Text for people, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// A variable as it is shown.
struct Shown {
    name: String,
    value: Value,
    /// As it is written, where that is something else.
    written: Option<Value>,
    place: String,
    layer: String,
    shadows: Vec<(String, String, Value)>,
}

impl VarsOf {
    pub fn run(&self) -> Result<Exit> {
        let book = match &self.playbook {
            Some(p) => Book::read(p, &self.hosts, Default::default())?,
            None => Book::of_inventory(&self.hosts, &self.host)?,
        };
        let p = &book.program;
        let host = book.host(&self.host)?;
        let nothing = Default::default();
        let dynamic = Dynamic::default();
        let tasks = match &self.task {
            Some(t) => find_task(p, t)?.into_iter().take(1).map(Some).collect(),
            None => places(p, host),
        };
        let scopes: Vec<Scope<'_>> =
            tasks.iter().map(|t| Scope::new(p, host, t.map(|t| &p.tasks[t]), &dynamic, &nothing)).collect();
        let all = match &self.name {
            Some(n) => vec![self.one(&scopes, &book, n)?],
            None => {
                let mut all: Vec<Shown> = vec![];
                for (scope, n) in scopes.iter().flat_map(|s| s.written().into_iter().map(move |n| (s, n))) {
                    if !all.iter().any(|s| s.name == n) {
                        all.extend(self.shown(scope, &book, n));
                    }
                }
                all.sort_by(|a, b| a.name.cmp(&b.name));
                all
            }
        };
        let out = match self.format {
            Format::Json => {
                let list: Vec<Value> = all.iter().map(as_json).collect();
                let out = if self.name.is_some() { list.into_iter().next().unwrap_or_default() } else { json!(list) };
                serde_json::to_string_pretty(&out).unwrap_or_default() + "\n"
            }
            Format::Text if self.name.is_some() => all.iter().map(page).collect(),
            Format::Text => table(&all, &book.redactor),
        };
        say_on!("{}", book.redactor.redact(&out));
        book.note_errors();
        Ok(Exit::Done)
    }

    fn shown(&self, scope: &Scope<'_>, book: &Book, name: &str) -> Option<Shown> {
        let origins = scope.origins(name);
        let ((layer, var), rest) = origins.split_first()?;
        let written = book.program.inventory.shown(var);
        let value = match scope.get(name, &[]) {
            _ if hidden(var) => written.clone(),
            Found::Value(v) => v,
            Found::Unknown(why) => json!(format!("(known only when run: {why})")),
            Found::Broken(e) => json!(format!("(cannot be rendered: {})", e.message)),
            Found::Undefined => Value::Null,
        };
        let shadow = |(l, v): &(Layer<'_>, &Var)| (v.span.line(), l.to_string(), book.program.inventory.shown(v));
        // A role's own layer is there twice: as the task's, and as one of the phase's.
        let mut shadows: Vec<(String, String, Value)> = vec![];
        let mut seen: Vec<*const Var> = vec![*var];
        for other in rest {
            if !seen.contains(&(other.1 as *const Var)) {
                seen.push(other.1);
                shadows.push(shadow(other));
            }
        }
        Some(Shown {
            name: name.to_string(),
            written: Some(written).filter(|w| *w != value),
            value,
            place: var.span.line(),
            layer: layer.to_string(),
            shadows,
        })
    }

    fn one(&self, scopes: &[Scope<'_>], book: &Book, name: &str) -> Result<Shown> {
        if let Some(s) = scopes.iter().find_map(|s| self.shown(s, book, name)) {
            return Ok(s);
        }
        let Some(scope) = scopes.first() else { return Err(Error::internal("no place to look from")) };
        let by_windlass = |value, layer: &str| Shown {
            name: name.to_string(),
            value,
            written: None,
            place: String::new(),
            layer: layer.to_string(),
            shadows: vec![],
        };
        let setter = book.program.tasks.iter().find(|t| t.task.sets().iter().any(|n| n == name));
        if let Some(t) = setter {
            let s = by_windlass(json!("(known only when run)"), &format!("set by the task `{}`", t.title()));
            return Ok(Shown { place: t.span().line(), ..s });
        }
        match scope.get(name, &[]) {
            Found::Value(v) => Ok(by_windlass(v, "set by Windlass")),
            Found::Unknown(why) => {
                Ok(by_windlass(json!(format!("(known only when run: {why})")), "gathered or set in a run"))
            }
            _ => {
                let e = Error::input(format!("`{}` has no variable `{name}`", self.host));
                Err(match nearest(name, scope.known().iter().map(String::as_str)) {
                    Some(n) => e.hint(format!("did you mean `{n}`?")),
                    None if self.playbook.is_none() => e.hint("a playbook's own are seen with -p PLAYBOOK"),
                    None => e.hint(format!("`windlass vars {}` lists them all", self.host)),
                })
            }
        }
    }
}

/// A task of each phase a host takes part in, with no variables of its own; the inventory alone where there is none.
fn places(p: &Program, host: usize) -> Vec<Option<usize>> {
    let of = |phase: usize| {
        let here = p.batches[phase].iter().flatten().any(|h| *h == host);
        let plain = |t: &TaskUse| t.phase == phase && t.task.vars.is_empty() && t.within.is_empty();
        p.tasks.iter().position(|t| here && plain(t)).or_else(|| p.tasks.iter().position(|t| here && t.phase == phase))
    };
    let all: Vec<Option<usize>> = (0..p.batches.len()).filter_map(of).map(Some).collect();
    if all.is_empty() { vec![None] } else { all }
}

fn hidden(var: &Var) -> bool {
    var.span.source.secret
}

fn as_json(s: &Shown) -> Value {
    let place = |p: &str| match p.rsplit_once(':') {
        Some((f, l)) => (json!(f), l.parse::<u64>().map_or(Value::Null, |l| json!(l))),
        None => (Value::Null, Value::Null),
    };
    let (file, line) = place(&s.place);
    let shadows: Vec<Value> = s
        .shadows
        .iter()
        .map(|(p, layer, v)| {
            let (file, line) = place(p);
            json!({"value": v, "file": file, "line": line, "layer": layer})
        })
        .collect();
    json!({
        "name": s.name, "value": s.value, "written": s.written, "file": file, "line": line, "layer": s.layer,
        "shadows": shadows,
    })
}

/// A value in one line, cut where it is long; without its secrets, of which a part would not be known for one.
fn short(v: &Value, redactor: &Redactor) -> String {
    const MOST: usize = 60;
    let all = match v {
        Value::String(s) if !s.contains('\n') && !s.is_empty() => s.clone(),
        other => other.to_string(),
    };
    super::cut(&redactor.redact(&all), MOST)
}

fn table(all: &[Shown], redactor: &Redactor) -> String {
    let values: Vec<String> = all.iter().map(|s| short(&s.value, redactor)).collect();
    let width = |of: &mut dyn Iterator<Item = usize>| of.max().unwrap_or(0);
    let (n, v) = (
        width(&mut all.iter().map(|s| s.name.len())).min(34),
        width(&mut values.iter().map(|v| v.chars().count())).min(44),
    );
    let mut out = String::new();
    for (s, value) in all.iter().zip(&values) {
        let more = match s.shadows.len() {
            0 => String::new(),
            k => format!(", shadows {k}"),
        };
        out.push_str(&format!("{:n$}  {value:v$}  {} ({}{more})\n", s.name, s.place, s.layer));
    }
    out
}

/// A value as YAML, below what it belongs to.
fn block(v: &Value, indent: &str) -> String {
    match v {
        Value::Array(a) if !a.is_empty() => yaml_below(v, indent),
        Value::Object(o) if !o.is_empty() => yaml_below(v, indent),
        Value::String(s) if s.contains('\n') => {
            let lines: String = s.lines().map(|l| format!("\n{indent}{l}")).collect();
            format!(" |{lines}")
        }
        Value::String(s) => format!(" {s}"),
        other => format!(" {}", text(other)),
    }
}

fn yaml_below(v: &Value, indent: &str) -> String {
    let y = serde_yaml::to_string(v).unwrap_or_default();
    y.trim_end().lines().map(|l| format!("\n{indent}{l}")).collect()
}

fn page(s: &Shown) -> String {
    let at = |place: &str, layer: &str| if place.is_empty() { layer.to_string() } else { format!("{place} ({layer})") };
    let mut out = format!("{}:{}\n  from {}\n", s.name, block(&s.value, "  "), at(&s.place, &s.layer));
    if let Some(w) = &s.written {
        out.push_str(&format!("  written as{}\n", block(w, "    ")));
    }
    for (place, layer, v) in &s.shadows {
        out.push_str(&format!("  shadows {}:{}\n", at(place, layer), block(v, "    ")));
    }
    out
}
