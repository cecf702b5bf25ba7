//! `windlass helpers`: what templates and expressions can call.

use super::Exit;
use crate::error::{Error, Result};
use crate::template;
use clap::Args;

#[derive(Args)]
pub struct Helpers {
    /// One helper's page; without it the list of all.
    name: Option<String>,
}

impl Helpers {
    pub fn run(&self) -> Result<Exit> {
        let page = match &self.name {
            None => template::helper_list(),
            Some(n) => {
                template::helper_page(n).map_err(|hint| Error::input(format!("there is no helper `{n}`")).hint(hint))?
            }
        };
        say_on!("{page}");
        Ok(Exit::Done)
    }
}
