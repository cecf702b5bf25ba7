//! `windlass schema`: what editors need to complete and check a project's files.

use super::Exit;
use crate::error::{Error, Result};
use crate::schema;
use crate::source::nearest;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Schema {
    /// What kind of file: playbook, tasks, role-meta, argument-specs, inventory.
    #[arg(default_value = "playbook")]
    kind: String,
    /// Write all of them into this folder, as KIND.json.
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Schema {
    pub fn run(&self) -> Result<Exit> {
        let text = |kind: &str| schema::of(kind).map(|s| serde_json::to_string_pretty(&s).unwrap_or_default());
        if let Some(dir) = &self.output {
            let wrong = |e| Error::environment(format!("cannot write into {}", dir.display())).because(e);
            std::fs::create_dir_all(dir).map_err(wrong)?;
            for (kind, _) in schema::KINDS {
                let file = dir.join(format!("{kind}.json"));
                std::fs::write(&file, text(kind).unwrap_or_default() + "\n").map_err(wrong)?;
                say!("{}", file.display());
            }
            return Ok(Exit::Done);
        }
        let kinds = || schema::KINDS.iter().map(|(k, _)| *k);
        let Some(text) = text(&self.kind) else {
            let e = Error::input(format!("there is no schema `{}`", self.kind));
            return Err(match nearest(&self.kind, kinds()) {
                Some(n) => e.hint(format!("did you mean `{n}`?")),
                None => e.hint(format!("it is one of: {}", kinds().collect::<Vec<_>>().join(", "))),
            });
        };
        say!("{text}");
        Ok(Exit::Done)
    }
}
