//! Questions to a host. A small closed set, each kind answered for many targets by one remote command.

pub mod ansible_names;
mod ask;
pub(crate) mod facts;
mod observed;

pub use ask::{Asked, ask, unescaped};
pub use observed::{Observed, Touches};

use crate::fetch::{Download, FetchError, Fetched};
use serde_json::Value;
use std::path::PathBuf;

/// One read-only question to a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// What is at a path (the link itself and what it leads to).
    Path(String),
    /// SHA-256 of a regular file, links followed.
    Sha256(String),
    /// The content of a regular file of at most [`CONTENT_LIMIT`] bytes, links followed.
    Content(String),
    /// A Debian package, `name` or `name:arch`.
    Package(String),
    /// A systemd unit of the system manager, with its suffix (`cron.service`).
    Unit(String),
    /// A user of the host's name service.
    User(String),
    /// A user's entry in the shadow database (root only).
    Shadow(String),
    /// All groups with their members.
    Groups,
    /// The running value of a sysctl, dotted name.
    Sysctl(String),
    /// A module of the kernel: whether it is loaded, and what is to load it at each start.
    KernelModule(String),
    /// What is mounted.
    Mounts,
    /// The running and the stored host name.
    Hostname,
    /// The time zone: where /etc/localtime leads.
    Timezone,
    /// What a host is: system, architecture, memory, addresses.
    Facts,
    /// A read-only script for `sh`; its exit code and output are the answer.
    Script(String),
    /// A small text that is fetched on this side, as a list of checksums.
    Text(Download),
    /// A file that is fetched on this side. In a plan only what is here already is known.
    Fetched(Download),
    /// The names of what is in an archive on this side.
    Archive(Listing),
    /// What is at a path of this side.
    Here(PathBuf),
}

/// How an archive is listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listing {
    pub of: Download,
    /// The script that lists it; `$1` is the archive's path.
    pub script: String,
}

impl Probe {
    /// It is this side that answers, not the host.
    pub fn is_ours(&self) -> bool {
        matches!(self, Probe::Text(_) | Probe::Fetched(_) | Probe::Archive(_) | Probe::Here(_))
    }
    /// It is about a file of this side, which a task may change on its way by another host.
    pub fn is_of_our_files(&self) -> bool {
        match self {
            Probe::Text(d) | Probe::Fetched(d) => d.local().is_some(),
            Probe::Archive(l) => l.of.local().is_some(),
            Probe::Here(_) => true,
            _ => false,
        }
    }
}

/// Content larger than this is not brought over (bytes).
pub const CONTENT_LIMIT: u64 = 1 << 20;

/// A host's answer to a [`Probe`] of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Path(PathState),
    Sha256(Option<String>),
    Content(Content),
    Package(PackageState),
    Unit(UnitState),
    User(Option<UserState>),
    /// The password field of the shadow entry.
    Shadow(Option<String>),
    Groups(Vec<GroupState>),
    Sysctl(SysctlState),
    KernelModule(KernelModuleState),
    Mounts(Vec<MountState>),
    Hostname {
        running: String,
        stored: Option<String>,
    },
    /// The zone's name, if /etc/localtime is a link into the zone database.
    Timezone(Option<String>),
    Facts(Value),
    Script(Output),
    Text(Result<String, FetchError>),
    Fetched(Result<Fetched, FetchError>),
    Archive(Result<String, FetchError>),
    Here(HereState),
}

/// What is at a path of this side, links followed.
#[derive(Debug, Clone, PartialEq)]
pub enum HereState {
    Absent,
    Folder,
    File {
        sha256: String,
        mode: u32,
    },
    /// It cannot be looked at: why.
    Unknown(String),
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PathState {
    /// What the path itself is, a link not followed; nothing there: `None`.
    pub entry: Option<Entry>,
    /// For a link: what it leads to in the end; a dangling link: `None`.
    pub target: Option<Entry>,
    /// For a link: the text of the link.
    pub link: Option<String>,
    /// The path with every link in it followed.
    pub canonical: String,
    /// The user may not look into the folder it is in: what is there is not known.
    pub denied: bool,
}

impl PathState {
    /// What is there with links followed.
    pub fn followed(&self) -> Option<&Entry> {
        match &self.entry {
            Some(e) if e.kind == EntryKind::Link => self.target.as_ref(),
            e => e.as_ref(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
    Link,
    Other,
}

/// One entry of a file system.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub owner: String,
    pub group: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// When it was last read, and when anything of it last changed, in the same seconds; foreseen: not known.
    pub times: Option<Box<(i64, i64)>>,
    pub links: u64,
    /// Device and inode, `dev:inode`.
    pub inode: String,
}

/// A file's content as far as it may be brought over.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Absent,
    Bytes(Vec<u8>),
    /// Larger than [`CONTENT_LIMIT`], not a regular file, or not readable.
    Unavailable,
    /// The user may not look into the folder it is in.
    Denied,
}

/// A setting of the running kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum SysctlState {
    Absent,
    /// It is there, and cannot be read.
    Unreadable,
    Value(String),
}

/// A Debian package's state.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PackageState {
    pub installed: bool,
    /// Removed, but its configuration files are still there.
    pub config_files: bool,
    pub held: bool,
    pub version: String,
}

/// A systemd unit's state, the properties as systemd names them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `masked`, … or empty.
    pub file: String,
    pub needs_reload: bool,
    pub main_pid: u32,
    /// The unit's description and fragment path, as they are.
    pub fragment: String,
}

/// A module of the kernel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelModuleState {
    pub loaded: bool,
    pub built_in: bool,
    /// File and line: where a start is told to load it.
    pub loads: Vec<(String, String)>,
    /// File and line: where its parameters are.
    pub options: Vec<(String, String)>,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MountState {
    pub source: String,
    /// What of the file system is mounted; `/` but for bind mounts and the like.
    pub root: String,
    pub path: String,
    pub fstype: String,
    /// Those of the mount and those of the file system.
    pub options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct UserState {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub comment: String,
    pub home: String,
    pub shell: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupState {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// What a command gave back.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Output {
    pub rc: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Of what a command prints no more is brought over (bytes).
pub const OUTPUT_LIMIT: usize = 8 << 20;

impl Output {
    /// What came over; of more than [`OUTPUT_LIMIT`] it says that it was cut.
    pub fn new(rc: i32, stdout: &[u8], stderr: &[u8]) -> Self {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut o = Output { rc, stdout: text(&stdout[..stdout.len().min(OUTPUT_LIMIT)]), stderr: text(stderr) };
        if stdout.len() > OUTPUT_LIMIT {
            if !o.stderr.is_empty() && !o.stderr.ends_with('\n') {
                o.stderr.push('\n');
            }
            o.stderr.push_str("windlass: the output is longer than 8 MiB; the rest is cut off\n");
        }
        o
    }
}
