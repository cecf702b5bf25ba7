//! The user's ssh_config, and what it says of a few hosts. A line `%%` ends it; behind it stands a known_hosts file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;
use windlass::ssh::config::{Given, Hop};
use windlass::ssh::known_hosts::HostKeys;
use windlass::ssh::{HostKeyPolicy, SshConfig};

/// Where `Include config` finds the file itself.
fn home() -> &'static PathBuf {
    static HOME: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &HOME
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let ssh = dir.path().join(".ssh");
            std::fs::create_dir(&ssh).unwrap();
            // One thread runs all inputs, and nothing has read the environment before.
            unsafe { std::env::set_var("HOME", dir.path()) };
            (dir, ssh)
        })
        .1
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (body, known) = text.split_once("\n%%\n").unwrap_or((&text, ""));
    let (config, known_hosts) = (home().join("config"), home().join("known_hosts"));
    std::fs::write(&config, body).unwrap();
    if let Ok(config) = SshConfig::load(std::slice::from_ref(&config)) {
        for name in ["web1", "db.example.org", "192.168.1.10", "fe80::1", "a%h*?"] {
            let _ = config.resolve(name, None);
            let _ = config.resolve(name, Some("root"));
            let _ = config.resolve_given(name, Given { user: Some("root"), port: Some(2222) });
        }
    }
    if let Some(line) = body.lines().next() {
        let _ = Hop::parse(line);
    }
    if !known.is_empty() {
        std::fs::write(&known_hosts, known).unwrap();
        for (host, port) in [("web1", 22), ("web1", 2222), ("fe80::1", 22)] {
            HostKeys::new(host, port, vec![known_hosts.clone()], vec![], HostKeyPolicy::Strict).preferred(&[]);
        }
    }
});
