//! `windlass lab`: throw-away nodes.

use super::Exit;
use crate::error::{Error, Result};
use crate::lab;
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct Lab {
    #[command(subcommand)]
    verb: Verb,
    /// Which lab; several can be up at once.
    #[arg(long, global = true, default_value = lab::DEFAULT_NAME)]
    name: String,
}

#[derive(Subcommand)]
enum Verb {
    /// Start nodes, and write an inventory for them.
    Up {
        /// How many.
        #[arg(long, default_value_t = 3)]
        nodes: usize,
    },
    /// End the lab and remove all of it.
    Down,
    /// Show the nodes.
    Status,
    /// Log in to a node (`node1`, or `deploy@node1`), or run a command there.
    Ssh {
        node: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Make a node new, under the same address and host key.
    Reset { node: String },
}

impl Lab {
    pub fn run(&self) -> Result<Exit> {
        let mut say = |line: &str| eprintln!("{line}");
        match &self.verb {
            Verb::Up { nodes } => {
                let here = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
                let s = lab::up(&self.name, *nodes, &lab::Options::new(here), &mut say)?;
                show(&s);
            }
            Verb::Down => {
                if !lab::down(&self.name, &mut say)? {
                    say!("there is no lab `{}`", self.name);
                }
            }
            Verb::Status => match lab::status(&self.name)? {
                Some(s) => show(&s),
                None => say!("there is no lab `{}`; `windlass lab up` makes one", self.name),
            },
            Verb::Ssh { node, command } => {
                lab::ssh(&self.name, node, command)?;
            }
            Verb::Reset { node } => lab::reset(&self.name, node, &mut say)?,
        }
        Ok(Exit::Done)
    }
}

fn show(s: &lab::Status) {
    for n in &s.nodes {
        let state = match (n.pid, n.ssh) {
            (_, true) => "up",
            (Some(_), false) => "starting",
            (None, false) => "off",
        };
        say!("{:<8} {:<15} {state}", n.name, n.address);
    }
    say!("inventory: {}", crate::source::display_path(&s.inventory).display());
}
