//! A cgroup of its own for each node, in every hierarchy of a machine that systemd does not run. Otherwise nodes would
//! share the cgroups that kubelets make by fixed names. Where systemd runs, each node is a transient unit instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tool;
use crate::error::Result;

/// Whether systemd runs this machine.
pub fn systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The systemd unit of a node, on a machine systemd runs.
pub fn unit(lab: &str, node: &str) -> String {
    format!("windlass-lab-{lab}-{node}.service")
}

/// A lab's cgroup below each hierarchy.
pub fn lab(lab: &str) -> PathBuf {
    Path::new("windlass-lab").join(lab)
}

/// A node's cgroup below each hierarchy.
pub fn node(lab: &str, node: &str) -> PathBuf {
    if systemd() { Path::new("machine.slice").join(unit(lab, node)) } else { self::lab(lab).join(node) }
}

struct Hierarchy {
    root: PathBuf,
    v2: bool,
}

/// Where cgroup hierarchies are mounted; each once.
fn hierarchies() -> Vec<Hierarchy> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut all: Vec<Hierarchy> = Vec::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, at, kind @ ("cgroup" | "cgroup2"), ..] = words[..] else { continue };
        let root = PathBuf::from(at);
        if root.starts_with("/sys/fs/cgroup") && !all.iter().any(|h| h.root == root) {
            all.push(Hierarchy { root, v2: kind == "cgroup2" });
        }
    }
    all
}

/// Makes a cgroup in every hierarchy and returns their directories.
pub fn make(cgroup: &Path) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for hierarchy in hierarchies() {
        let mut at = hierarchy.root.clone();
        for part in cgroup.components() {
            if hierarchy.v2 {
                hand_down_controllers(&at);
            }
            let parent = at.clone();
            at.push(part);
            if !at.is_dir() {
                fs::create_dir(&at)
                    .or_else(|e| if at.is_dir() { Ok(()) } else { Err(e) })
                    .map_err(tool::at("create", &at))?;
            }
            // A new cpuset is empty, and nothing can run in an empty one.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if !hierarchy.v2 && fs::read_to_string(at.join(file)).is_ok_and(|v| v.trim().is_empty()) {
                    let value = fs::read_to_string(parent.join(file)).map_err(tool::at("read", &parent))?;
                    fs::write(at.join(file), value).map_err(tool::at("write", &at))?;
                }
            }
        }
        made.push(at);
    }
    Ok(made)
}

/// cgroup v2 gives a child only the controllers its parent hands down. What cannot be handed down stays away.
fn hand_down_controllers(at: &Path) {
    for controller in fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default().split_whitespace() {
        let _ = fs::write(at.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// All processes in a cgroup and below it, in any hierarchy.
pub fn processes(cgroup: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies() {
        walk(&hierarchy.root.join(cgroup), &mut |directory| {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|pid| *pid != 0));
        });
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The names of the cgroups directly below one, over all hierarchies.
pub fn children(cgroup: &Path) -> Vec<String> {
    let directories = hierarchies().into_iter().filter_map(|h| fs::read_dir(h.root.join(cgroup)).ok());
    let entries = directories.flat_map(|d| d.flatten()).filter(|e| e.path().is_dir());
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names.dedup();
    names
}

/// Removes a cgroup and all below it from every hierarchy, and the room they are all in once it is empty. Nothing may run
/// in it any more; the kernel can take a moment to agree.
pub fn remove(cgroup: &Path) {
    for _ in 0..100 {
        let mut left = false;
        for hierarchy in hierarchies() {
            let top = hierarchy.root.join(cgroup);
            walk(&top, &mut |directory| {
                let _ = fs::remove_dir(directory);
            });
            left |= top.is_dir();
            if let Some(parent) = cgroup.parent().filter(|p| *p == Path::new("windlass-lab")) {
                let _ = fs::remove_dir(hierarchy.root.join(parent));
            }
        }
        if !left {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Visits a directory's tree, deepest first.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(directory);
}
