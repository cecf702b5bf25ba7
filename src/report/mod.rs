//! Readers of a run's events: the terminal and the log file. They know nothing of each other.

mod logfile;
mod terminal;
mod words;

pub use logfile::LogFile;
pub use terminal::{Terminal, View};

use crate::run::Event;

/// Something that reads a run's events.
pub trait Reader {
    fn event(&mut self, event: &Event);
}
