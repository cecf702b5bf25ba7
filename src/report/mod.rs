//! Readers of a run's events: the terminal, the log file, JSON for programs. They know nothing of each other.

mod json;
mod logfile;
mod terminal;
#[cfg(test)]
mod tests;
pub(crate) mod words;

pub use json::Json;
pub use logfile::LogFile;
pub use terminal::{Terminal, View};

use crate::run::Event;

/// Something that reads a run's events.
pub trait Reader {
    fn event(&mut self, event: &Event);
}
