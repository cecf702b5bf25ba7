//! Whole connections, against a server in this process and against a real sshd.

mod fake;
mod in_process;
mod sshd;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use super::*;

fn new_key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), algorithm).unwrap()
}

fn write_key(dir: &Path, name: &str, key: &PrivateKey) -> PathBuf {
    let path = dir.join(name);
    key.write_openssh_file(&path, LineEnding::LF).unwrap();
    path
}

/// A target on this machine that uses nothing of the person who runs the tests.
fn local(port: u16, dir: &Path) -> Target {
    let mut target = Target::new("127.0.0.1", port, "root");
    target.credentials.agent = AgentSocket::None;
    target.known_hosts = vec![dir.join("known_hosts")];
    target.host_key_policy = HostKeyPolicy::AcceptNew;
    target.connect_timeout = Duration::from_secs(5);
    target
}

async fn dial(target: &Target) -> crate::error::Result<Connection> {
    connect(target, Arc::new(NoPrompts)).await
}
