//! `windlass check`: everything that can be known without a host.

use super::apply::Format;
use super::{Exit, HostArgs, Selection, project};
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
    #[command(flatten)]
    selection: Selection,
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
            let options = graph::Options { check_mode: true, checks_only: true, ..self.selection.options() };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(files: &[(&str, String)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("hosts.yml"), "all: {hosts: {a: {}}}\n").unwrap();
        findings(&dir.path().join("site.yml"), &dir.path().join("hosts.yml")).unwrap().render(false)
    }

    fn playbook(vars: &str) -> Vec<(&'static str, String)> {
        let text = format!("- phase: p\n  hosts: all\n  vars:\n{vars}  tasks:\n    - debug: {{msg: '{{{{a0}}}}'}}\n");
        vec![("site.yml", text)]
    }

    #[test]
    fn variables_made_of_each_other_have_an_end() {
        let row = |n: usize, one: &dyn Fn(usize) -> String| {
            let vars: String = (0..n).map(|i| format!("    a{i}: \"{}\"\n", one(i + 1))).collect();
            said(&playbook(&format!("{vars}    a{n}: x\n")))
        };
        let once = |i: usize| format!("{{{{a{i}}}}}");
        assert_eq!(row(45, &once), "");
        let long = row(5000, &once);
        assert!(long.contains("50 variables made of each other") && long.contains("set_fact"), "{long}");
        let large = row(40, &|i| format!("{{{{a{i}}}}}{{{{a{i}}}}}"));
        assert!(large.contains("more than 64 MiB"), "{large}");
    }

    #[test]
    fn files_that_take_in_ever_more_have_an_end() {
        let mut files =
            vec![("site.yml", "- phase: p\n  hosts: all\n  tasks:\n    - import_tasks: a.yml\n".to_string())];
        for (name, next) in [("a.yml", "b"), ("b.yml", "c"), ("c.yml", "d"), ("d.yml", "e")] {
            files.push((name, format!("- import_tasks: {next}.yml\n").repeat(15)));
        }
        files.push(("e.yml", "- debug: {msg: x}\n".into()));
        let said = said(&files);
        assert_eq!(said.matches("more than 10000 files are taken in").count(), 1, "{said}");
    }
}
