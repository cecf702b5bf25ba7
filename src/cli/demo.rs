//! `windlass demo`: the whole way through, on nodes made for it.

use super::{Common, Exit};
use crate::error::Result;
use clap::Args;

#[derive(Args)]
pub struct Demo {}

impl Demo {
    pub fn run(&self, _: &Common) -> Result<Exit> {
        Ok(Exit::Done)
    }
}
