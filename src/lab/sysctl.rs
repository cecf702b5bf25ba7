//! Host-wide kernel settings that nodes change (they are not namespaced), and putting them back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{paths, tool};
use crate::error::{Error, Result};

/// What a kubelet, systemd-sysctl in a booting node, a container runtime, or the lab itself (forwarding) may write.
const WATCHED: &[&str] = &[
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "vm/max_map_count",
    "vm/swappiness",
    "vm/dirty_ratio",
    "vm/dirty_background_ratio",
    "vm/nr_hugepages",
    "vm/mmap_min_addr",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "kernel/pid_max",
    "kernel/threads-max",
    "kernel/core_pattern",
    "kernel/core_uses_pid",
    "kernel/core_pipe_limit",
    "kernel/sysrq",
    "kernel/printk",
    "kernel/dmesg_restrict",
    "kernel/kptr_restrict",
    "kernel/unprivileged_userns_clone",
    "fs/file-max",
    "fs/nr_open",
    "fs/aio-max-nr",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "fs/inotify/max_queued_events",
    "fs/protected_fifos",
    "fs/protected_hardlinks",
    "fs/protected_regular",
    "fs/protected_symlinks",
    "fs/suid_dumpable",
];

#[derive(Serialize, Deserialize)]
struct Saved {
    /// Values from before a reboot are worth nothing.
    boot: String,
    values: BTreeMap<String, String>,
}

fn file() -> PathBuf {
    paths::state().join("sysctl.json")
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

fn value(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|v| v.trim_end().to_string())
}

fn load() -> Option<Saved> {
    let saved: Saved = serde_json::from_str(&fs::read_to_string(file()).ok()?).ok()?;
    (saved.boot == boot()).then_some(saved)
}

/// Remembers the values as they are, unless an earlier lab that is still up has done so.
pub fn save() -> Result<()> {
    if load().is_some() {
        return Ok(());
    }
    let values = WATCHED.iter().filter_map(|name| Some((name.to_string(), value(name)?))).collect();
    let text = serde_json::to_string_pretty(&Saved { boot: boot(), values })
        .map_err(|e| Error::internal("sysctl values").because(e))?;
    tool::write(&file(), &(text + "\n"), 0o644)
}

/// Every node's systemd, and what runs in it, watches files; all nodes are one user to the kernel, whose usual limits are
/// used up by four nodes. A container runtime alone wants as much again.
const ROOM: &[(&str, u64)] = &[("fs/inotify/max_user_instances", 8192), ("fs/inotify/max_user_watches", 1 << 20)];

/// Raises limits that nodes share. To be called after [`save`]; [`restore`] puts them back.
pub fn make_room() -> Result<()> {
    for (name, least) in ROOM {
        if value(name).and_then(|v| v.parse::<u64>().ok()).is_some_and(|now| now < *least) {
            let path = Path::new("/proc/sys").join(name);
            fs::write(&path, format!("{least}\n")).map_err(tool::at("write", &path))?;
        }
    }
    Ok(())
}

/// Puts back what differs and forgets the remembered values.
pub fn restore() -> Result<()> {
    for (name, before) in load().map(|saved| saved.values).unwrap_or_default() {
        if value(&name).is_some_and(|now| now != before) {
            let path = Path::new("/proc/sys").join(&name);
            fs::write(&path, format!("{before}\n")).map_err(tool::at("write", &path))?;
        }
    }
    match fs::remove_file(file()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(tool::at("remove", &file())(e)),
        _ => Ok(()),
    }
}
