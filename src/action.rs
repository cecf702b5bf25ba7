//! Changes to a host. A small closed set; [`crate::host`] turns them into shell.

use std::sync::Arc;

/// One change to a host.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Puts a file in place at once: written beside its destination, synced, renamed. It is never seen half-written.
    Put(Put),
    /// A script of ours for `sh`. A non-zero exit code fails the step.
    Script(String),
    /// A command of the user's; its exit code and output are the step's result.
    Command(Command),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    pub path: String,
    pub body: Arc<[u8]>,
    /// Permission bits of the new file.
    pub mode: u32,
    /// Name or number; `None` leaves it with whoever writes.
    pub owner: Option<String>,
    pub group: Option<String>,
    /// A command that must succeed before the file is moved into place; `%s` is the new file.
    pub validate: Option<String>,
    /// Keep the old file beside it, named with the time.
    pub backup: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Command {
    pub what: CommandLine,
    pub chdir: Option<String>,
    pub environment: Vec<(String, String)>,
    pub stdin: Option<String>,
    /// Seconds until the command and its children are ended.
    pub timeout: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum CommandLine {
    /// Words, no shell in between; `$NAME` and `~` in them are expanded where `expand` says so.
    Words { words: Vec<String>, expand: bool },
    /// Text for a shell; it is handed over on a descriptor, never in an argument.
    Shell { script: String, shell: String },
}

impl Default for CommandLine {
    fn default() -> Self {
        CommandLine::Words { words: vec![], expand: false }
    }
}
