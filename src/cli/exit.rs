//! Exit codes, the same for every verb.

use crate::error::Kind;
use crate::run::Recap;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is done, or there is nothing to do.
    Done = 0,
    /// A task failed on a host.
    Failed = 1,
    /// `plan`: there are changes to make.
    Changes = 2,
    /// The project's files or variables are wrong; no host was contacted.
    Input = 3,
    /// A host could not be reached, and no task failed.
    Unreachable = 4,
    /// The command line is wrong.
    Usage = 64,
    /// This machine lacks something that is needed.
    Environment = 69,
    /// A defect of Windlass.
    Internal = 70,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

/// The table `--help` ends with.
pub const TABLE: &str = "\
Exit codes:
    0  done, or nothing to do
    1  a task failed on a host
    2  plan: there are changes to make
    3  the project's files or variables are wrong; no host was contacted
    4  a host could not be reached, and no task failed
   64  the command line is wrong
   69  this machine lacks something that is needed
   70  a defect of Windlass
  130  stopped by Ctrl-C";

impl Exit {
    pub fn of(kind: Kind) -> Exit {
        match kind {
            Kind::Input => Exit::Input,
            Kind::Unreachable => Exit::Unreachable,
            Kind::Failed => Exit::Failed,
            Kind::Environment => Exit::Environment,
            Kind::Internal => Exit::Internal,
        }
    }

    pub fn of_run(r: &Recap) -> Exit {
        if r.interrupted {
            Exit::Interrupted
        } else if r.any(|c| c.failed > 0) {
            Exit::Failed
        } else if r.any(|c| c.unreachable) {
            Exit::Unreachable
        } else if r.check_mode && r.any(|c| c.changed + c.unknown > 0) {
            Exit::Changes
        } else {
            Exit::Done
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(e: Exit) -> Self {
        std::process::ExitCode::from(e as u8)
    }
}
