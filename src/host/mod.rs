//! A host as the run sees it: one shell a user, through which requests go and answers come.

mod frames;
mod script;
pub use script::{ending, expanded_names, validating, word, words};
mod shell;

pub use frames::Frame;
pub use script::{Request, Staged};
pub use shell::{Reply, Shell, ShellError, Streams, nonce};
