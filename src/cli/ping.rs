//! `windlass ping`: can we get in, become root, and how long does it take?

use super::apply::Apply;
use super::{Common, Exit, HostArgs};
use crate::error::{Error, Result};
use clap::Args;

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
        // A playbook of one read-only question: what works for it works for an apply.
        let dir = tempfile::tempdir().map_err(|e| Error::environment("cannot make a temporary folder").because(e))?;
        let path = dir.path().join("ping.yml");
        let pattern = serde_json::to_string(&self.pattern).unwrap_or_default();
        let text = format!("- phase: ping\n  hosts: {pattern}\n  tasks:\n    - name: pong\n      stat: {{path: /}}\n");
        std::fs::write(&path, text).map_err(|e| Error::environment("cannot write a temporary file").because(e))?;
        let mut hosts = self.hosts.clone();
        if hosts.inventory.is_empty() {
            let here = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
            hosts.inventory = super::project::inventories(&[], &here)?;
        }
        let apply = Apply { playbook: path, hosts, ..Default::default() };
        let common = Common { verbose: common.verbose.max(2) };
        apply.run(&common, true)
    }
}
