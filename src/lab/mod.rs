//! Throw-away Debian nodes on this machine, for demos and tests.
//!
//! A lab is a handful of systemd-nspawn machines on a bridge of their own. Each node is an overlay on one cached
//! image, boots systemd as its PID 1, answers SSH and can run a real K3s. [`up`] writes an inventory, a key and a
//! `known_hosts` into the project; [`down`] removes everything again, also what a killed `up` or a reboot left.
//!
//! Nothing about running nodes is remembered in files: processes are found by their command line and cgroup, rules by
//! their comment, so cleaning works without trust in what an earlier command managed to write.

mod cgroup;
mod debs;
mod handout;
mod image;
mod lock;
mod network;
mod node;
mod paths;
mod process;
mod recipe;
mod require;
mod state;
mod sysctl;
mod tool;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use lock::Locked;
use state::{Node, State};

pub use handout::{DEMO_VAULT, directory as inventory_directory};
pub use require::{can_run, get_ready, provide};
pub use state::Subnet;

/// The lab's name when none is given; its inventory is `inventories/lab`.
pub const DEFAULT_NAME: &str = "lab";

/// The password of the user `sudoer` for sudo. `deploy` needs none, and no user can log in with a password.
pub const SUDO_PASSWORD: &str = "lab-sudo";

/// How long a node may take from start to an answering sshd.
const BOOT_TIME: Duration = Duration::from_secs(90);

/// Where progress goes: one short line per stage.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// What `up` can be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project's directory; the inventory goes to `inventories/…` below it.
    pub project: PathBuf,
    /// Install Debian packages this machine lacks (debootstrap, systemd-container, …) instead of refusing.
    pub install: bool,
}

impl Options {
    /// Options for a project directory, with installing allowed.
    pub fn new(project: impl Into<PathBuf>) -> Self {
        Options { project: project.into(), install: true }
    }
}

/// A lab as it is now.
#[derive(Debug, Clone)]
pub struct Status {
    pub name: String,
    pub subnet: Subnet,
    pub bridge: String,
    /// The directory with `hosts.yml`, `id_ed25519` and `known_hosts`.
    pub inventory: PathBuf,
    pub nodes: Vec<NodeStatus>,
}

/// One node as it is now.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    pub name: String,
    pub address: Ipv4Addr,
    /// The node's PID 1 as this machine numbers it; none while the node is off.
    pub pid: Option<u32>,
    /// Whether sshd answers.
    pub ssh: bool,
}

/// Brings lab `name` up with `nodes` nodes (`node1`…) and waits until all answer SSH.
///
/// Safe to repeat: an existing lab gets its missing nodes, stopped nodes are started, and what a killed `up` or a reboot
/// left half done is completed. The first call on a machine builds the image, which takes about a minute.
///
/// Fails with kind `Input` for a bad name, count or inventory directory, and `Environment` where this machine cannot
/// run a lab.
pub fn up(name: &str, nodes: usize, options: &Options, progress: Progress) -> Result<Status> {
    paths::check_name(name)?;
    if nodes == 0 || nodes > Subnet::NODES {
        return Err(Error::input(format!("a lab has 1 to {} nodes, not {nodes}", Subnet::NODES)));
    }
    if options.install {
        get_ready(progress)?;
    } else {
        can_run()?;
    }
    let project = std::fs::canonicalize(&options.project).map_err(tool::at("find", &options.project))?;
    let inventory = handout::directory(&project, name);

    let lab = paths::lab(name);
    let lock = Locked::directory(&lab, || progress(&format!("waiting for another command on lab {name}")))?;
    // A refused lab leaves no trace; one that has begun stays for a look at its logs and for `down`.
    up_locked(name, nodes, &lock, inventory, progress).inspect_err(|_| paths::remove_empty(&lab))
}

fn up_locked(name: &str, nodes: usize, lock: &Locked, inventory: PathBuf, progress: Progress) -> Result<Status> {
    let lab = &paths::lab(name);
    let known = State::load(lab)?;
    if let Some(known) = &known {
        if known.inventory != inventory {
            return Err(Error::input(format!("lab {name} is up already, for {}", known.inventory.display()))
                .hint(format!("give this one another name, or take that one down: {}", command("down", name))));
        }
        if known.nodes.len() > nodes {
            return Err(Error::input(format!("lab {name} has {} nodes already", known.nodes.len()))
                .hint(format!("for fewer: {}, then up again", command("down", name))));
        }
    } else {
        handout::check_free(&inventory)?;
        remove_nodes(name, progress)?;
    }

    let image = match &known {
        Some(known) if known.image.is_dir() => image::Image::at(&known.image, progress)?,
        Some(known) if !known.nodes.is_empty() => {
            return Err(Error::environment(format!("the image of lab {name} is gone: {}", known.image.display()))
                .hint(format!("{}, then up again", command("down", name))));
        }
        _ => image::ready(progress)?,
    };

    let mut state = {
        let _lock = Locked::directory(&paths::state(), || progress("waiting for another lab's command"))?;
        sysctl::save()?;
        sysctl::make_room()?;
        let mut state = match known {
            Some(known) => known,
            None => {
                let subnet = network::choose_subnet(name)?;
                let bridge = network::choose_bridge(name)?;
                State { name: name.into(), image: image.path.clone(), bridge, subnet, inventory, nodes: Vec::new() }
            }
        };
        state.image = image.path.clone();
        state.save(lab)?;
        network::ensure(&state)?;
        state
    };
    while state.nodes.len() < nodes {
        let number = state.nodes.len() + 1;
        state.nodes.push(Node { name: format!("node{number}"), address: state.subnet.node(number) });
    }
    let key = handout::key(lab, name)?;
    // The state names every node before anything of it exists.
    state.save(lab)?;

    progress(&format!("starting {} on {}", count(nodes, "node"), state.subnet));
    let began = Instant::now();
    {
        let _lock = image.shared()?;
        each(&state.nodes, |one| node::create(&state, lock, one, &image, &key))?;
    }
    each(&state.nodes, |one| node::start(&state, lab, one))?;
    each(&state.nodes, |one| node::wait_ready(lab, one, BOOT_TIME))?;
    handout::write(&state, lab)?;
    progress(&format!(
        "{} up after {:.1} s, inventory: {}",
        count(nodes, "node"),
        began.elapsed().as_secs_f64(),
        state.inventory.display()
    ));
    Ok(status_of(&state))
}

/// Takes lab `name` down and removes everything of it: processes, mounts, links, rules, cgroups, state and inventory.
/// The last lab to go also puts this machine's sysctls back. Returns whether there was anything to remove.
pub fn down(name: &str, progress: Progress) -> Result<bool> {
    paths::check_name(name)?;
    require::root()?;
    let lab = paths::lab(name);
    let mut found = false;
    if lab.is_dir() {
        found = true;
        let _lock = Locked::directory(&lab, || progress(&format!("waiting for another command on lab {name}")))?;
        // A state file nobody can read must not keep the rest from being removed.
        let state = State::load(&lab).ok().flatten();
        progress(&format!("stopping lab {name}"));
        remove_nodes(name, progress)?;
        network::remove(name)?;
        if let Some(state) = &state {
            handout::remove(&state.inventory, progress)?;
        }
        paths::remove_tree(&lab)?;
    } else {
        found |= remove_nodes(name, progress)?;
        found |= network::remove(name)?;
    }
    if paths::state().is_dir() {
        let _lock = Locked::directory(&paths::state(), || progress("waiting for another lab's command"))?;
        if names()?.is_empty() {
            sysctl::restore()?;
            paths::remove_empty(&paths::state());
            if let Some(parent) = paths::state().parent() {
                paths::remove_empty(parent);
            }
        }
    }
    if found {
        progress(&format!("lab {name} is down, nothing left"));
    }
    Ok(found)
}

/// Lab `name` as it is now; `None` if there is no such lab. Needs no root, but then cannot see the nodes' processes.
pub fn status(name: &str) -> Result<Option<Status>> {
    paths::check_name(name)?;
    let lab = paths::lab(name);
    Ok(State::load(&lab)?.map(|state| status_of(&state)))
}

/// The names of all labs on this machine, sorted.
pub fn names() -> Result<Vec<String>> {
    let state = paths::state();
    let mut names: Vec<String> = match std::fs::read_dir(&state) {
        Ok(entries) => {
            entries.flatten().filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect()
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(tool::at("read", &state)(e)),
    };
    names.sort();
    Ok(names)
}

/// Becomes `ssh` into a node; returns only if that fails. `node` is `node1` or `user@node1` (root without a user).
/// `arguments` are the remote command; none of them means a login shell.
pub fn ssh(name: &str, node: &str, arguments: &[String]) -> Result<Infallible> {
    let mut command = ssh_command(name, node)?;
    Err(Error::environment("cannot run ssh").because(command.args(arguments).exec()))
}

/// The `ssh` command that [`ssh`] runs, without a remote command: the lab's key and known hosts, no other configuration.
pub fn ssh_command(name: &str, node: &str) -> Result<Command> {
    let (lab, state) = existing(name)?;
    let (user, node) = node.split_once('@').unwrap_or(("root", node));
    let node = find(&state, node)?;
    let Some(ssh) = tool::find("ssh") else {
        return Err(Error::environment("there is no ssh on this machine").hint(format!(
            "apt-get install openssh-client, or connect otherwise: {user}@{} with the key {}",
            node.address,
            state.inventory.join("id_ed25519").display()
        )));
    };
    let mut command = Command::new(ssh);
    command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]);
    command.args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o"]);
    command.arg(format!("UserKnownHostsFile=\"{}\"", lab.join("known_hosts").display()));
    command.arg("-i").arg(lab.join("id_ed25519")).arg(format!("{user}@{}", node.address));
    Ok(command)
}

/// Puts a node back to the pristine image, with the same address, machine id and host keys, and waits for its sshd.
pub fn reset(name: &str, node: &str, progress: Progress) -> Result<()> {
    require::root()?;
    let (lab, state) = existing(name)?;
    let lock = Locked::directory(&lab, || progress(&format!("waiting for another command on lab {name}")))?;
    let node = find(&state, node)?;
    let image = image::Image::at(&state.image, progress)?;
    progress(&format!("resetting {}", node.name));
    node::stop(name, &node.name)?;
    debs::harvest(&lab.join(&node.name));
    node::unmount(&lab.join(&node.name))?;
    let key = handout::key(&lab, name)?;
    {
        let _lock = image.shared()?;
        node::wipe(&lab.join(&node.name))?;
        node::create(&state, &lock, node, &image, &key)?;
    }
    node::start(&state, &lab, node)?;
    node::wait_ready(&lab, node, BOOT_TIME)
}

/// Cuts a node's power: everything in it dies at once. Its disk stays as it was. Fine on a node that is off.
pub fn kill_node(name: &str, node: &str) -> Result<()> {
    require::root()?;
    let (_, state) = existing(name)?;
    node::stop(name, &find(&state, node)?.name)
}

/// Switches a node on and waits until its sshd answers. Fine on a node that is on.
pub fn start_node(name: &str, node: &str) -> Result<()> {
    require::root()?;
    let (lab, state) = existing(name)?;
    let node = find(&state, node)?;
    node::start(&state, &lab, node)?;
    node::wait_ready(&lab, node, BOOT_TIME)
}

/// The command line of a verb for a lab.
fn command(verb: &str, name: &str) -> String {
    if name == DEFAULT_NAME { format!("windlass lab {verb}") } else { format!("windlass lab {verb} --name {name}") }
}

fn existing(name: &str) -> Result<(PathBuf, State)> {
    paths::check_name(name)?;
    let lab = paths::lab(name);
    match State::load(&lab)? {
        Some(state) => Ok((lab, state)),
        None => Err(Error::input(format!("there is no lab {name}")).hint(command("up", name))),
    }
}

fn find<'a>(state: &'a State, node: &str) -> Result<&'a Node> {
    state.nodes.iter().find(|n| n.name == node).ok_or_else(|| {
        let all: Vec<_> = state.nodes.iter().map(|n| n.name.as_str()).collect();
        Error::input(format!("lab {} has no node {node}", state.name)).hint(format!("its nodes: {}", all.join(" ")))
    })
}

fn status_of(state: &State) -> Status {
    let nodes = state.nodes.iter().map(|one| NodeStatus {
        name: one.name.clone(),
        address: one.address,
        pid: node::pid(&state.name, &one.name),
        ssh: node::answers(one.address),
    });
    Status {
        name: state.name.clone(),
        subnet: state.subnet,
        bridge: state.bridge.clone(),
        inventory: state.inventory.clone(),
        nodes: nodes.collect(),
    }
}

/// Stops and unmounts every node of a lab, known to its state or not. Returns whether there was one.
fn remove_nodes(name: &str, progress: Progress) -> Result<bool> {
    let lab = paths::lab(name);
    let nodes = node::all(name)?;
    std::thread::scope(|scope| {
        let running: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node::stop(name, node))).collect();
        running.into_iter().try_for_each(join)
    })?;
    for node in &nodes {
        debs::harvest(&lab.join(node));
    }
    paths::unmount_below(&lab)?;
    for node in &nodes {
        paths::remove_tree(&lab.join(node))?;
    }
    cgroup::remove(&cgroup::lab(name));
    if !nodes.is_empty() {
        progress(&format!("removed {}", count(nodes.len(), "node")));
    }
    Ok(!nodes.is_empty())
}

/// Does one thing for all nodes at once; the first error wins.
fn each(nodes: &[Node], work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = nodes.iter().map(|node| scope.spawn(move || work(node))).collect();
        running.into_iter().try_for_each(join)
    })
}

fn join(handle: std::thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    handle.join().unwrap_or_else(|_| Err(Error::internal("a lab thread panicked")))
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn the_commands_that_hints_name_exist() {
        let hint = existing("there-is-none-of-this-name").map(|_| ()).unwrap_err().hint.unwrap();
        for line in [hint, command("down", "a"), command("up", DEFAULT_NAME)] {
            assert!(crate::cli::Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(crate::cli::Cli::try_parse_from(["windlass", "lab", "down", "a"]).is_err());
    }
}
