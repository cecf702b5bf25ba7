//! `windlass modules`: what tasks can ask for.

use super::Exit;
use crate::error::{Error, Result};
use crate::modules::pages;
use clap::Args;

#[derive(Args)]
pub struct Modules {
    /// One module's page; without it the list of all.
    name: Option<String>,
}

impl Modules {
    pub fn run(&self) -> Result<Exit> {
        let page = match &self.name {
            None => pages::list(),
            Some(n) => pages::page(n).map_err(|hint| Error::input(format!("there is no module `{n}`")).hint(hint))?,
        };
        say_on!("{page}");
        Ok(Exit::Done)
    }
}
