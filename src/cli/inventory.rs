//! `windlass inventory`: hosts, groups and variables as they were read.

use super::{Exit, HostArgs, project};
use crate::error::{Error, Result};
use crate::inventory;
use clap::Args;

#[derive(Args)]
pub struct Inventory {
    #[command(flatten)]
    hosts: HostArgs,
    /// Everything as JSON, in the shape of Ansible's dynamic inventories.
    #[arg(long)]
    list: bool,
    /// Groups and hosts as a tree (the default).
    #[arg(long, conflicts_with_all = ["list", "host"])]
    graph: bool,
    /// One host's variables as JSON.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// With the tree: variables too.
    #[arg(long)]
    vars: bool,
}

impl Inventory {
    pub fn run(&self) -> Result<Exit> {
        let root = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
        let paths = project::inventories(&self.hosts.inventory, &root)?;
        let opener = project::Opener::new(&self.hosts.identity, &root);
        let (inv, mut found) = inventory::Inventory::load(&paths, &opener, &[], &[]);
        found.sort();
        project::print(&found, &opener.redactor);
        if found.has_errors() {
            return Ok(Exit::Input);
        }
        if let Some(l) = &self.hosts.limit {
            for h in inventory::select_limit(&inv, l)? {
                say!("{h}");
            }
            return Ok(Exit::Done);
        }
        // A password is no more to be shown here than anywhere.
        project::hide_passwords(&inv, &opener);
        let mut json = match (&self.host, self.list) {
            (Some(h), _) if !inv.hosts.contains_key(h) => {
                return Err(Error::input(format!("there is no host `{h}` in the inventory")));
            }
            (Some(h), _) => inv.host_json(h),
            (None, true) => inv.to_json(),
            (None, false) => {
                say_on!("{}", opener.redactor.redact(&inv.graph(self.vars)));
                return Ok(Exit::Done);
            }
        };
        // What reads it reads JSON.
        opener.redactor.redact_json(&mut json);
        say!("{}", serde_json::to_string_pretty(&json).unwrap_or_default());
        Ok(Exit::Done)
    }
}
