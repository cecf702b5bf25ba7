//! `windlass check`: everything that can be known without a host.

use super::apply::Format;
use super::{Exit, HostArgs, project};
use crate::error::{Error, Result};
use crate::graph;
use crate::report::words::count;
use crate::source::Diagnostics;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Check {
    /// The playbooks; without any, all of the folder `playbooks/`.
    playbooks: Vec<PathBuf>,
    #[command(flatten)]
    hosts: HostArgs,
    /// Text for people, or one JSON object with all findings.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// What a check of one playbook finds, for programs that have no command line.
///
/// # Errors
/// Nothing could be looked at.
pub fn findings(playbook: &Path, inventory: &Path) -> Result<Diagnostics> {
    let hosts = HostArgs { inventory: vec![inventory.to_path_buf()], ..HostArgs::default() };
    let options = graph::Options { check_mode: true, checks_only: true, ..Default::default() };
    let opener = project::Opener::new(&[], &project::root_of(playbook));
    project::load_with(playbook, &hosts, options, &opener).map(|(_, found)| found)
}

impl Check {
    pub fn run(&self) -> Result<Exit> {
        let playbooks = if self.playbooks.is_empty() { all_playbooks()? } else { self.playbooks.clone() };
        // One for all: a passphrase is asked for once, and no secret is shown.
        let root = playbooks.first().map(|p| project::root_of(p)).unwrap_or_default();
        let opener = project::Opener::new(&self.hosts.identity, &root);
        let mut all = Diagnostics::default();
        let mut looked: Vec<(&Path, Option<[usize; 3]>)> = vec![];
        for p in &playbooks {
            let options = graph::Options { check_mode: true, checks_only: true, ..Default::default() };
            let (loaded, found) = project::load_with(p, &self.hosts, options, &opener)?;
            looked.push((
                p,
                loaded.map(|l| l.project.program).map(|p| [p.hosts.len(), p.tasks.len(), p.graph.node_count()]),
            ));
            all.extend_read_again(found);
        }
        all.sort();
        let fine = looked.iter().all(|(_, l)| l.is_some());
        let redactor = &opener.redactor;
        match self.format {
            Format::Json => {
                let (errors, warnings) = all.counts();
                let findings: Vec<Value> = all.iter().map(|d| d.to_json()).collect();
                let playbooks: Vec<Value> = looked.iter().map(|(p, l)| summary(p, l.as_ref())).collect();
                let out = json!({
                    "errors": errors, "warnings": warnings, "findings": findings, "playbooks": playbooks,
                });
                say!("{}", redactor.redact(&serde_json::to_string_pretty(&out).unwrap_or_default()));
            }
            Format::Text => {
                project::print(&all, redactor);
                for (p, l) in &looked {
                    if let Some([hosts, tasks, steps]) = l {
                        say!(
                            "{}: fine ({}, {}, {})",
                            p.display(),
                            count(*hosts, "host"),
                            count(*tasks, "task"),
                            count(*steps, "step")
                        );
                    }
                }
            }
        }
        Ok(if fine { Exit::Done } else { Exit::Input })
    }
}

fn summary(playbook: &Path, counts: Option<&[usize; 3]>) -> Value {
    let mut out = json!({"playbook": playbook.display().to_string(), "fine": counts.is_some()});
    if let Some([hosts, tasks, steps]) = counts {
        out["hosts"] = json!(hosts);
        out["tasks"] = json!(tasks);
        out["steps"] = json!(steps);
    }
    out
}

/// Every playbook of the project we are in.
fn all_playbooks() -> Result<Vec<PathBuf>> {
    let dir = Path::new("playbooks");
    let yaml = |p: &PathBuf| p.is_file() && p.extension().is_some_and(|e| e == "yml" || e == "yaml");
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).filter(yaml).collect();
    all.sort();
    if all.is_empty() {
        return Err(Error::input("there is no playbook in playbooks/").hint("name one: windlass check PLAYBOOK"));
    }
    Ok(all)
}
