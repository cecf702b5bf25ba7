//! `windlass check`: everything that can be known without a host.

use super::{Exit, HostArgs, project};
use crate::error::Result;
use crate::graph;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Check {
    /// The playbooks.
    #[arg(required = true)]
    playbooks: Vec<PathBuf>,
    #[command(flatten)]
    hosts: HostArgs,
}

impl Check {
    pub fn run(&self) -> Result<Exit> {
        let mut exit = Exit::Done;
        for p in &self.playbooks {
            let (loaded, found, redactor) = project::load(
                p,
                &self.hosts,
                graph::Options { check_mode: true, checks_only: true, ..Default::default() },
            )?;
            project::print(&found, &redactor);
            match loaded {
                Some(l) => {
                    let program = &l.project.program;
                    let (hosts, steps) = (program.hosts.len(), program.graph.node_count());
                    say!("{}: fine ({hosts} hosts, {} tasks, {steps} steps)", p.display(), program.tasks.len());
                }
                None => exit = Exit::Input,
            }
        }
        Ok(exit)
    }
}
