//! A lab for all tests, nodes to take, projects to run on them.

use crate::runner::output_within;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use windlass::lab;

/// Nodes of the lab, and tests that run side by side.
pub const NODES: usize = 3;

/// Exit codes, as `windlass --help` lists them.
pub const DONE: i32 = 0;
pub const FAILED: i32 = 1;
pub const UNREACHABLE: i32 = 4;

// ---------------------------------------------------------------------------------------------------------- the lab

struct Lab {
    inventory: PathBuf,
    nodes: Vec<(String, Ipv4Addr)>,
    project: TempDir,
}

static LAB: OnceLock<Lab> = OnceLock::new();
/// Set when the lab is to be gone: nobody brings it up again.
static OVER: Mutex<bool> = Mutex::new(false);

fn name() -> String {
    format!("t{}f", std::process::id())
}

fn the_lab() -> &'static Lab {
    LAB.get_or_init(|| {
        let over = OVER.lock().unwrap_or_else(|e| e.into_inner());
        assert!(!*over, "the tests are being stopped");
        sweep();
        let project = tempfile::tempdir().expect("a folder for the lab's inventory");
        let options = lab::Options::new(project.path());
        let status = lab::up(&name(), NODES, &options, &mut |line| eprintln!("lab: {line}")).expect("a lab");
        let nodes = status.nodes.into_iter().map(|n| (n.name, n.address)).collect();
        Lab { inventory: status.inventory, nodes, project }
    })
}

/// Takes down labs of test processes that were killed.
fn sweep() {
    for lab in lab::names().unwrap_or_default() {
        let pid = lab.strip_prefix('t').and_then(|p| p.strip_suffix('f')?.parse::<u32>().ok());
        if pid.is_some_and(|p| !Path::new(&format!("/proc/{p}")).exists()) {
            let _ = lab::down(&lab, &mut |line| eprintln!("lab: {line}"));
        }
    }
}

/// Takes the lab down, if there is one.
pub fn tear_down() -> Result<(), String> {
    let mut over = OVER.lock().unwrap_or_else(|e| e.into_inner());
    *over = true;
    if lab::names().unwrap_or_default().contains(&name()) {
        lab::down(&name(), &mut |_| {}).map_err(|e| e.to_string())?;
    }
    if let Some(l) = LAB.get() {
        let _ = fs::remove_dir_all(l.project.path());
    }
    Ok(())
}

static TAKEN: Mutex<[bool; NODES]> = Mutex::new([false; NODES]);
static FREED: Condvar = Condvar::new();

fn taken() -> MutexGuard<'static, [bool; NODES]> {
    TAKEN.lock().unwrap_or_else(|e| e.into_inner())
}

/// A node that is nobody else's until this is dropped.
pub struct Node {
    index: usize,
}

/// Takes some nodes, all at once.
pub fn take<const N: usize>() -> [Node; N] {
    the_lab();
    let mut state = taken();
    loop {
        let free: Vec<usize> = (0..NODES).filter(|i| !state[*i]).take(N).collect();
        if free.len() == N {
            free.iter().for_each(|i| state[*i] = true);
            return std::array::from_fn(|i| Node { index: free[i] });
        }
        state = FREED.wait(state).unwrap_or_else(|e| e.into_inner());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        taken()[self.index] = false;
        FREED.notify_all();
    }
}

impl Node {
    pub fn name(&self) -> &'static str {
        &the_lab().nodes[self.index].0
    }
    pub fn address(&self) -> Ipv4Addr {
        the_lab().nodes[self.index].1
    }
    /// Cuts the node's power.
    pub fn die(&self) {
        lab::kill_node(&name(), self.name()).expect("a node that dies");
    }
    pub fn start(&self) {
        lab::start_node(&name(), self.name()).expect("a node that starts");
    }
    /// Runs a command in the node as root, not by SSH. What it printed; it must succeed.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        let out = self.attempt(command);
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "on {}: {command}\n{stdout}{stderr}", self.name());
        stdout.into_owned()
    }
    pub fn attempt(&self, command: &str) -> Output {
        let status = lab::status(&name()).expect("the lab's status").expect("the lab");
        let pid = status.nodes.iter().find(|n| n.name == self.name()).and_then(|n| n.pid).expect("a node that is on");
        Command::new("nsenter")
            .args(["-t", &pid.to_string(), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", "env", "-i"])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "sh", "-c", command])
            .output()
            .expect("nsenter")
    }
    /// The node's file system, as this machine sees it while the node is on.
    pub fn root(&self) -> String {
        let status = lab::status(&name()).expect("the lab's status").expect("the lab");
        let pid = status.nodes.iter().find(|n| n.name == self.name()).and_then(|n| n.pid).expect("a node that is on");
        format!("/proc/{pid}/root")
    }
    /// Waits until a command succeeds in the node.
    #[track_caller]
    pub fn until(&self, command: &str) {
        let began = Instant::now();
        while !self.attempt(command).status.success() {
            assert!(began.elapsed() < Duration::from_secs(20), "on {}, in vain: {command}", self.name());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    /// The node's line of an inventory, with more variables behind.
    pub fn host(&self, more: &str) -> String {
        format!("{} ansible_host={} {more}\n", self.name(), self.address())
    }
}

// ------------------------------------------------------------------------------------------------------- the project

/// A project folder.
pub struct Project {
    dir: TempDir,
}

impl Project {
    /// `hosts` are lines of an INI inventory, `tasks` those of one phase for all of them.
    pub fn new(hosts: &str, tasks: &str) -> Self {
        let p = Project { dir: tempfile::tempdir().expect("a project folder") };
        let lab = &the_lab().inventory;
        p.write(
            "hosts.ini",
            &format!(
                "{hosts}[all:vars]\nansible_user=root\nansible_ssh_private_key_file={}\nwindlass_known_hosts={}\n",
                lab.join("id_ed25519").display(),
                lab.join("known_hosts").display()
            ),
        );
        let mut text = String::from("- phase: main\n  hosts: all\n");
        tasks.lines().for_each(|l| text += &format!("  {l}\n"));
        p.write("site.yml", &text);
        p
    }
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of the project");
        fs::write(path, text).expect("a file of the project");
    }
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
    /// The keys of the lab's nodes, as `known_hosts` has them.
    pub fn lab_known_hosts(&self) -> String {
        fs::read_to_string(the_lab().inventory.join("known_hosts")).expect("known_hosts")
    }
    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_windlass"));
        c.current_dir(self.path()).args(["apply", "site.yml", "-i", "hosts.ini"]).args(args);
        for unwanted in ["WINDLASS_INVENTORY", "WINDLASS_LOG", "SSH_AUTH_SOCK"] {
            c.env_remove(unwanted);
        }
        // Nothing of whoever runs the tests: no ssh_config, no known_hosts.
        c.env("HOME", self.path());
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        c
    }
    pub fn spawn(&self, args: &[&str]) -> Running {
        let child = self.command(args).spawn().expect("windlass");
        Running { child, began: Instant::now() }
    }
    /// Runs an apply to its end.
    pub fn apply(&self, args: &[&str]) -> Ran {
        self.spawn(args).wait()
    }
}

/// An apply at work.
pub struct Running {
    child: Child,
    began: Instant,
}

impl Running {
    pub fn wait(self) -> Ran {
        let out = output_within(Duration::from_secs(300), self.child);
        Ran {
            code: out.status.code().unwrap_or(-1),
            took: self.began.elapsed(),
            text: format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
        }
    }
    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "it has ended");
    }
    /// `kill -9`; whether it was still running.
    pub fn kill(mut self) -> bool {
        let _ = self.child.kill();
        self.child.wait().is_ok_and(|s| s.code().is_none())
    }
}

/// An apply that has ended.
pub struct Ran {
    pub code: i32,
    pub took: Duration,
    pub text: String,
}

impl Ran {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n{}", self.text);
        self
    }
    /// All of these are in what it printed.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for p in parts {
            assert!(self.text.contains(p), "nothing of `{p}` in\n{}", self.text);
        }
        self
    }
    #[track_caller]
    pub fn lacks(self, part: &str) -> Self {
        assert!(!self.text.contains(part), "`{part}` in\n{}", self.text);
        self
    }
    #[track_caller]
    pub fn within(self, seconds: u64) -> Self {
        assert!(self.took < Duration::from_secs(seconds), "it took {:?}\n{}", self.took, self.text);
        self
    }
    /// The recap's line of a host: satisfied, changed, failed, blocked, skipped, and what else it has.
    #[track_caller]
    pub fn counts<const N: usize>(self, host: &str, counts: [usize; N]) -> Self {
        let row = self.text.lines().rev().find(|l| l.split_whitespace().next() == Some(host));
        let row = row.unwrap_or_else(|| panic!("no recap of {host} in\n{}", self.text));
        let found: Vec<usize> = row.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        assert_eq!(found, counts, "{host}: satisfied, changed, failed, blocked, skipped\n{}", self.text);
        self
    }
}
