//! `windlass ping`: can we get in, become root, and how long does it take?

use super::apply::Apply;
use super::{Common, Exit, HostArgs, project};
use crate::error::{Error, Result};
use crate::report::Reader;
use crate::run::{Event, Outcome};
use clap::Args;
use console::style;
use std::collections::HashMap;
use std::time::Duration;

#[derive(Args)]
pub struct Ping {
    /// The hosts.
    #[arg(default_value = "all")]
    pattern: String,
    #[command(flatten)]
    hosts: HostArgs,
}

impl Ping {
    pub fn run(&self, common: &Common) -> Result<Exit> {
        let here = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
        let mut hosts = self.hosts.clone();
        hosts.inventory = project::inventories(&hosts.inventory, &here)?;
        hosts.limit = match (&hosts.limit, self.pattern.as_str()) {
            (l, "all") => l.clone(),
            (None, p) => Some(p.to_string()),
            (Some(l), p) => Some(format!("{l}:&{p}")),
        };
        // A playbook of one read-only question: what works for it works for an apply.
        let dir = tempfile::tempdir().map_err(|e| Error::environment("cannot make a temporary folder").because(e))?;
        let path = dir.path().join("ping.yml");
        std::fs::write(&path, "- phase: ping\n  hosts: all\n  tasks:\n    - stat: {path: /}\n")
            .map_err(|e| Error::environment("cannot write a temporary file").because(e))?;
        let apply = Apply { playbook: path, hosts, nobodys: true, ..Default::default() };
        match apply.execute_for(common, true, Box::<Lines>::default(), false)? {
            Ok(recap) => Ok(Exit::of_run(&recap)),
            Err(exit) => Ok(exit),
        }
    }
}

/// A line a host: reached, or why not.
#[derive(Default)]
struct Lines {
    connected: HashMap<String, Duration>,
}

impl Reader for Lines {
    fn event(&mut self, event: &Event) {
        match &event.clone().printable() {
            Event::Connected { host, took } => {
                self.connected.insert(host.clone(), *took);
            }
            Event::StepEnded(e) if e.outcome == Outcome::Satisfied => {
                let ms = self.connected.get(&e.host).map_or(0, Duration::as_millis);
                say!("{}  reached in {ms} ms", style(&e.host).bold());
            }
            Event::StepEnded(e) if e.outcome == Outcome::Failed => {
                let why = e.parts.iter().find_map(|p| p.failure.as_ref()).map_or("failed", |f| f.message.as_str());
                say!("{}  {} {why}", style(&e.host).bold(), style("no:").red());
            }
            Event::Unreachable { host, message, hint, .. } => {
                say!("{}  {} {message}", style(host).bold(), style("no:").red());
                hint.iter().for_each(|h| say!("  {} {h}", style("help").dim()));
            }
            _ => {}
        }
    }
}
