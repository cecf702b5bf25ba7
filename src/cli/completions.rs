//! `windlass completions` and `windlass man`: for the shell, out of the command line's own description.

use super::{Cli, Exit};
use crate::error::{Error, Result};
use clap::{Args, CommandFactory as _};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(&self) -> Result<Exit> {
        let mut text = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "windlass", &mut text);
        say_on!("{}", String::from_utf8_lossy(&text));
        Ok(Exit::Done)
    }
}

#[derive(Args)]
pub struct Man {
    /// Write a page of each verb into this folder, as windlass-VERB.1.
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Man {
    pub fn run(&self) -> Result<Exit> {
        let Some(dir) = &self.output else {
            say_on!("{}", String::from_utf8_lossy(&page(Cli::command())?));
            return Ok(Exit::Done);
        };
        std::fs::create_dir_all(dir).map_err(|e| cannot_write(dir, e))?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(|e| cannot_write(dir, e))?;
        let pages = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let written = pages.filter(|e| e.path().extension().is_some_and(|x| x == "1")).count();
        say!("{written} pages in {}", dir.display());
        Ok(Exit::Done)
    }
}

fn cannot_write(path: &Path, e: std::io::Error) -> Error {
    Error::environment(format!("cannot write {}", path.display())).because(e)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut text = vec![];
    let made = clap_mangen::Man::new(command).render(&mut text);
    made.map_err(|e| Error::internal("cannot make the manual's page").because(e))?;
    Ok(text)
}
