//! `windlass facts`: what hosts are.

use super::apply::Apply;
use super::{Common, Exit, HostArgs, project};
use crate::error::{Error, Result};
use crate::report::Reader;
use crate::run::{Event, Outcome};
use crate::source::nearest;
use clap::Args;
use console::style;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};

#[derive(Args)]
pub struct Facts {
    /// The hosts: names, groups, patterns.
    #[arg(required = true, value_name = "HOST")]
    patterns: Vec<String>,
    #[command(flatten)]
    hosts: HostArgs,
    /// Only these of the facts: `os,memory`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Under the names Ansible has for them, too (`ansible_facts`).
    #[arg(long)]
    ansible: bool,
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// How facts are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Json,
}

impl Facts {
    pub fn run(&self, common: &Common) -> Result<Exit> {
        let here = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
        let mut hosts = self.hosts.clone();
        hosts.inventory = project::inventories(&hosts.inventory, &here)?;
        // A playbook that says what it was told: what works for it works for an apply.
        let dir = tempfile::tempdir().map_err(|e| Error::environment("cannot make a temporary folder").because(e))?;
        let path = dir.path().join("facts.yml");
        let pattern = serde_json::to_string(&self.patterns.join(",")).unwrap_or_default();
        let name = if self.ansible { "ansible_facts" } else { "facts" };
        let text =
            format!("- phase: facts\n  hosts: {pattern}\n  tasks:\n    - debug: {{msg: \"{{{{to_json {name}}}}}\"}}\n");
        std::fs::write(&path, text).map_err(|e| Error::environment("cannot write a temporary file").because(e))?;
        let told = Arc::new(Mutex::new(Map::new()));
        let apply = Apply { playbook: path, hosts, nobodys: true, ..Default::default() };
        let ended = apply.execute_for(common, true, Box::new(Told(told.clone())), false)?;
        let told = std::mem::take(&mut *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let out = self.chosen(told)?;
        if !out.is_empty() {
            match self.format {
                Format::Json => say!("{}", serde_json::to_string_pretty(&out).unwrap_or_default()),
                Format::Yaml => say_on!("{}", serde_yaml::to_string(&out).unwrap_or_default()),
            }
        }
        Ok(match ended {
            Ok(recap) => Exit::of_run(&recap),
            Err(exit) => exit,
        })
    }

    /// The facts that were asked for, by host.
    fn chosen(&self, told: Map<String, Value>) -> Result<Map<String, Value>> {
        if self.only.is_empty() {
            return Ok(told);
        }
        let known: Vec<String> = told.values().filter_map(Value::as_object).flat_map(|f| f.keys().cloned()).collect();
        if let Some(no) = self.only.iter().find(|n| !known.is_empty() && !known.contains(n)) {
            let e = Error::input(format!("there is no fact `{no}`"));
            return Err(match nearest(no, known.iter().map(String::as_str)) {
                Some(n) => e.hint(format!("did you mean `{n}`?")),
                None => e.hint("without --only all of them are shown"),
            });
        }
        let keep = |f: Value| match f {
            Value::Object(o) => Value::Object(o.into_iter().filter(|(k, _)| self.only.contains(k)).collect()),
            other => other,
        };
        Ok(told.into_iter().map(|(h, f)| (h, keep(f))).collect())
    }
}

/// Keeps what hosts tell; says who cannot be reached.
struct Told(Arc<Mutex<Map<String, Value>>>);

impl Reader for Told {
    fn event(&mut self, event: &Event) {
        match &event.clone().printable() {
            Event::StepEnded(e) if e.outcome == Outcome::Satisfied => {
                let said = e.parts.iter().find_map(|p| p.say.as_deref()).and_then(|s| serde_json::from_str(s).ok());
                if let (Some(facts), Ok(mut all)) = (said, self.0.lock()) {
                    all.insert(e.host.clone(), facts);
                }
            }
            Event::StepEnded(e) if e.outcome == Outcome::Failed => {
                let why = e.parts.iter().find_map(|p| p.failure.as_ref()).map_or("failed", |f| f.message.as_str());
                eprintln!("{}  {} {why}", style(&e.host).bold(), style("no:").red());
            }
            Event::Unreachable { host, message, hint, .. } => {
                eprintln!("{}  {} {message}", style(host).bold(), style("no:").red());
                hint.iter().for_each(|h| eprintln!("  {} {h}", style("help").dim()));
            }
            _ => {}
        }
    }
}
