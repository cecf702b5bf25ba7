//! Changes to a host. A small closed set; [`crate::host`] turns them into shell.

use crate::fetch::Download;
use std::path::PathBuf;
use std::sync::Arc;

/// One change to a host.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Puts a file in place at once: written beside its destination, synced, renamed. It is never seen half-written.
    Put(Put),
    /// Brings a file of the host to this side. The host stays as it is.
    Fetch(Fetch),
    /// A script of ours for `sh`. A non-zero exit code fails the step.
    Script(String),
    /// A command of the user's; its exit code and output are the step's result.
    Command(Command),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    pub path: String,
    pub body: Body,
    /// Permission bits of the new file.
    pub mode: u32,
    /// Name or number; `None` leaves it with whoever writes.
    pub owner: Option<String>,
    pub group: Option<String>,
    /// The old file's `owner:group`, where the task names none: it is tried, as not every user may.
    pub keeps: Option<String>,
    /// A command, word by word, that must succeed before the file is moved into place; `%s` is the new file.
    pub validate: Option<Vec<String>>,
    /// Keep the old file under this path.
    pub backup: Option<String>,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// At hand.
    Bytes(Arc<[u8]>),
    /// In a file of this side, or still to be fetched: it goes over in pieces and is never held as a whole.
    Download(Box<Download>),
}

impl Body {
    /// The bytes at hand; a download has none.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::Bytes(b) => b,
            Body::Download(_) => &[],
        }
    }
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes().to_vec()
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(b: Arc<[u8]>) -> Self {
        Body::Bytes(b)
    }
}

impl From<Vec<u8>> for Body {
    fn from(b: Vec<u8>) -> Self {
        Body::Bytes(b.into())
    }
}

impl From<&[u8]> for Body {
    fn from(b: &[u8]) -> Self {
        Body::Bytes(b.into())
    }
}

impl From<Download> for Body {
    fn from(d: Download) -> Self {
        Body::Download(Box::new(d))
    }
}

/// A file of the host that comes to this side.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetch {
    /// The file on the host.
    pub path: String,
    pub size: u64,
    /// What it held when it was looked at: what comes must be the same.
    pub sha256: String,
    /// Where it goes on this side, put in place at once.
    pub to: PathBuf,
    pub mode: u32,
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
