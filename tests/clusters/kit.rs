//! What the cluster tests are written with: a lab of their own, the shipped roles and playbooks, a client that writes.
//!
//! ```ignore
//! let lab = Lab::new("redis", 3);
//! lab.write("groups.yml", "all: {children: {redis: {hosts: {node1: , node2: , node3: }}}}\n");
//! lab.secrets("redis_ha_password: a-long-one\n");
//! lab.apply("playbooks/redis.yml", &[]).done();
//! lab.apply("playbooks/redis.yml", &[]).done().changes(&[]);
//! let writer = lab.node("node3").writer("redis-cli -h 10.0.0.9 set k$n $n | grep -q OK");
//! lab.node("node1").die();
//! let written = writer.stop();
//! println!("longest gap {:?}", written.longest_gap);
//! ```

// Each test file uses a part of it.
#![allow(dead_code)]

use crate::runner::output_within;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use windlass::lab;

/// Exit codes, as `windlass --help` lists them.
pub const DONE: i32 = 0;
pub const FAILED: i32 = 1;
pub const CHANGES: i32 = 2;
/// Before any host was contacted.
pub const REFUSED: i32 = 3;

// ---------------------------------------------------------------------------------------------------------- the lab

/// The labs of this process, for the end of it.
static LABS: Mutex<Labs> = Mutex::new(Labs { names: vec![], over: false });

struct Labs {
    names: Vec<String>,
    /// The tests are being stopped: nobody brings another one up.
    over: bool,
}

fn labs() -> MutexGuard<'static, Labs> {
    LABS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Takes down what labs of this process there still are.
pub fn tear_down() -> Result<(), String> {
    let mut labs = labs();
    labs.over = true;
    let mut left = Ok(());
    for name in labs.names.drain(..) {
        // A signal to the whole process group may end what `down` itself has started: once more, then.
        let gone = || lab::down(&name, &mut |_| {});
        if let Err(e) = gone().or_else(|_| gone()) {
            left = Err(e.to_string());
        }
    }
    left
}

/// Takes down labs of test processes that were killed.
fn sweep() {
    for lab in lab::names().unwrap_or_default() {
        let pid = lab.strip_prefix('t').and_then(|p| p.split_once('c')?.0.parse::<u32>().ok());
        if pid.is_some_and(|p| !Path::new(&format!("/proc/{p}")).exists()) {
            let _ = lab::down(&lab, &mut |line| eprintln!("lab: {line}"));
        }
    }
}

/// Nodes, and a project folder with the playbooks and roles of this repository. Gone when dropped.
pub struct Lab {
    name: String,
    nodes: Vec<(String, Ipv4Addr)>,
    subnet: String,
    project: TempDir,
}

impl Lab {
    /// `kind` is a short word that keeps labs of one process apart. The nodes are `node1`, `node2`, …
    pub fn new(kind: &str, nodes: usize) -> Self {
        sweep();
        let name = format!("t{}c{kind}", std::process::id());
        let project = tempfile::tempdir().expect("a project folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["playbooks", "roles", "inventories"] {
            copy(&source.join(part), &project.path().join(part));
        }
        {
            let mut labs = labs();
            assert!(!labs.over, "the tests are being stopped");
            labs.names.push(name.clone());
        }
        let options = lab::Options::new(project.path());
        let status = lab::up(&name, nodes, &options, &mut |line| eprintln!("lab: {line}"));
        let subnet = status.as_ref().map(|s| s.subnet.to_string()).unwrap_or_default();
        let nodes = status.as_ref().map(|s| s.nodes.iter().map(|n| (n.name.clone(), n.address)).collect());
        let lab = Lab { name, nodes: nodes.unwrap_or_default(), subnet, project };
        status.expect("a lab");
        lab
    }

    /// The name of the lab's inventory.
    pub fn inventory(&self) -> String {
        format!("lab-{}", self.name)
    }

    /// An address of the lab's network that no node has; `last` is its last part, 200 to 250.
    pub fn free_address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.nodes[0].1.octets();
        Ipv4Addr::new(a, b, c, last)
    }

    /// The lab's network, as `10.1.2.0/24`.
    pub fn subnet(&self) -> &str {
        &self.subnet
    }

    pub fn path(&self) -> &Path {
        self.project.path()
    }

    /// A file of the project. `groups.yml` is an inventory beside the lab's own, which has the hosts.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of the project");
        fs::write(path, text).expect("a file of the project");
    }

    /// Secret variables of all hosts, encrypted for a key of this project.
    pub fn secrets(&self, yaml: &str) {
        let key = ".windlass/identity.txt";
        fs::create_dir_all(self.path().join(".windlass")).expect("a folder for the key");
        let made = self.windlass(&["vault", "keygen", key]);
        assert!(made.status.success(), "{}", text(&made));
        let public = String::from_utf8(made.stdout).expect("a key");
        self.write("group_vars/all/vault.yml", yaml);
        let done = self.windlass(&["vault", "encrypt", "-r", public.trim(), "group_vars/all/vault.yml"]);
        assert!(done.status.success(), "{}", text(&done));
    }

    /// A node, by name.
    #[track_caller]
    pub fn node(&self, name: &str) -> Node<'_> {
        let found = self.nodes.iter().find(|n| n.0 == name);
        let (name, address) = found.unwrap_or_else(|| panic!("the lab has no {name}"));
        Node { lab: &self.name, name, address: *address }
    }

    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.nodes.iter().map(|(name, address)| Node { lab: &self.name, name, address: *address })
    }

    /// Windlass as a user would run it in the project, with nothing of whoever runs the tests.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_windlass"));
        c.args(args).current_dir(self.path()).env("HOME", self.path()).env("RUST_BACKTRACE", "0");
        for name in ["WINDLASS_IDENTITY", "WINDLASS_IDENTITY_FILE", "WINDLASS_INVENTORY", "WINDLASS_LOG"] {
            c.env_remove(name);
        }
        c.env_remove("XDG_CONFIG_HOME").env_remove("SSH_AUTH_SOCK");
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        c
    }

    pub fn windlass(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("windlass")
    }

    /// Starts a verb (`apply`, `plan`) on a playbook with the lab's inventory, and `groups.yml` where there is one.
    pub fn start(&self, verb: &str, playbook: &str, args: &[&str]) -> Running {
        let lab = format!("inventories/lab-{}", self.name);
        let mut all = vec![verb, playbook, "--format", "json", "-i", &lab];
        if self.path().join("groups.yml").exists() {
            all.extend(["-i", "groups.yml"]);
        }
        all.extend(args);
        let what = format!("{verb} {playbook} {}", args.join(" "));
        Running { child: self.command(&all).spawn().expect("windlass"), what, began: Instant::now() }
    }

    pub fn apply(&self, playbook: &str, args: &[&str]) -> Ran {
        self.start("apply", playbook, args).wait()
    }

    pub fn plan(&self, playbook: &str, args: &[&str]) -> Ran {
        self.start("plan", playbook, args).wait()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut labs = labs();
        if let Some(i) = labs.names.iter().position(|n| *n == self.name) {
            labs.names.swap_remove(i);
            drop(labs);
            let began = Instant::now();
            if let Err(e) = lab::down(&self.name, &mut |_| {}) {
                eprintln!("lab {} could not be taken down: {e}", self.name);
            }
            eprintln!("lab {}: down after {:.1} s", self.name, began.elapsed().as_secs_f64());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder of the project");
    for entry in fs::read_dir(from).expect("a folder of this repository").map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a file of this repository")),
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

// ------------------------------------------------------------------------------------------------------------ a node

/// A node of a lab.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    lab: &'a str,
    pub name: &'a str,
    pub address: Ipv4Addr,
}

impl Node<'_> {
    /// Cuts the node's power.
    pub fn die(&self) {
        lab::kill_node(self.lab, self.name).expect("a node that dies");
    }

    /// Switches it on and waits for its sshd.
    pub fn start(&self) {
        lab::start_node(self.lab, self.name).expect("a node that starts");
    }

    /// Runs a command in the node as root, not by SSH. What it printed, without the last line's end; it must succeed.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        let out = self.attempt(command);
        assert!(out.status.success(), "on {}: {command}\n{}", self.name, text(&out));
        String::from_utf8_lossy(&out.stdout).trim_end().to_string()
    }

    /// The same, also where it fails. It is ended after five minutes.
    pub fn attempt(&self, command: &str) -> Output {
        self.inside(&["timeout", "-k", "5", "300", "sh", "-c", command]).output().expect("nsenter")
    }

    fn inside(&self, command: &[&str]) -> Command {
        let status = lab::status(self.lab).expect("the lab's status").expect("the lab");
        let pid = status.nodes.iter().find(|n| n.name == self.name).and_then(|n| n.pid).expect("a node that is on");
        let mut c = Command::new("nsenter");
        c.args(["-t", &pid.to_string(), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", "env", "-i"])
            .args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"])
            .args(command)
            .stdin(Stdio::null());
        c
    }

    /// Waits until a command succeeds in the node; how long that took.
    #[track_caller]
    pub fn until(&self, seconds: u64, command: &str) -> Duration {
        let began = Instant::now();
        loop {
            let out = self.attempt(command);
            if out.status.success() {
                return began.elapsed();
            }
            let late = began.elapsed() > Duration::from_secs(seconds);
            assert!(!late, "on {}, in vain for {seconds} s: {command}\n{}", self.name, text(&out));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A client on this node that writes all the while: `write` is shell, run again and again with the write's number
    /// in `$n`; where it succeeds, that write counts as acknowledged. It should give up by itself (`timeout 5 …`).
    pub fn writer(&self, write: &str) -> Writer {
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut n = NUMBER.lock().unwrap_or_else(|e| e.into_inner());
            *n += 1;
            *n
        };
        let stop = format!("/run/windlass-test-writer-{number}");
        let script = format!(
            "n=0; while [ ! -e {stop} ]; do n=$((n+1)); if ( {write} ) >/dev/null 2>&1; then echo $n; fi; sleep 0.05; done"
        );
        let mut child =
            self.inside(&["sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a client");
        let lines = BufReader::new(child.stdout.take().expect("the client's output")).lines();
        let read = std::thread::spawn(move || {
            lines.map_while(Result::ok).filter_map(|l| Some((l.parse().ok()?, Instant::now()))).collect()
        });
        Writer { child, read: Some(read), lab: self.lab.into(), node: self.name.into(), address: self.address, stop }
    }
}

/// A client at work.
pub struct Writer {
    child: Child,
    read: Option<JoinHandle<Vec<(u64, Instant)>>>,
    lab: String,
    node: String,
    address: Ipv4Addr,
    stop: String,
}

impl Writer {
    /// Tells the client to end, and waits for the write it is at.
    #[track_caller]
    pub fn stop(mut self) -> Written {
        let node = Node { lab: &self.lab, name: &self.node, address: self.address };
        let stopped = Instant::now();
        node.attempt(&format!("touch {}", self.stop));
        let acknowledged = self.read.take().map(|r| r.join().expect("the client's reader")).unwrap_or_default();
        let _ = self.child.wait();
        let longest = acknowledged.windows(2).map(|w| w[1].1 - w[0].1).max().unwrap_or_default();
        // A client that could not write any more until it was stopped has had no gap but an end.
        let silent = acknowledged.last().map_or(Duration::MAX, |l| stopped.saturating_duration_since(l.1));
        Written { numbers: acknowledged.into_iter().map(|a| a.0).collect(), longest_gap: longest.max(silent) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client could write.
pub struct Written {
    /// The numbers of the acknowledged writes, in order.
    pub numbers: Vec<u64>,
    /// The longest time from one acknowledged write to the next.
    pub longest_gap: Duration,
}

impl Written {
    /// The acknowledged writes that are not among those found afterwards (one number a line).
    pub fn lost(&self, found: &str) -> Vec<u64> {
        let found: std::collections::HashSet<u64> = found.lines().filter_map(|l| l.trim().parse().ok()).collect();
        self.numbers.iter().copied().filter(|n| !found.contains(n)).collect()
    }
}

// ------------------------------------------------------------------------------------------------------------- a run

/// Windlass at work.
pub struct Running {
    child: Child,
    what: String,
    began: Instant,
}

impl Running {
    pub fn wait(self) -> Ran {
        let out = output_within(Duration::from_secs(900), self.child);
        let took = self.began.elapsed();
        let events: Vec<Value> =
            String::from_utf8_lossy(&out.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        eprintln!("{}: exit code {:?} after {:.1} s", self.what, out.status.code(), took.as_secs_f64());
        Ran { what: self.what, code: out.status.code().unwrap_or(-1), took, events, stderr }
    }

    /// `kill -9` after so long; whether it was still at work then.
    pub fn kill_after(mut self, time: Duration) -> bool {
        std::thread::sleep(time.saturating_sub(self.began.elapsed()));
        let _ = self.child.kill();
        // Read to the end: what it had started may hold the pipes.
        self.child.wait_with_output().is_ok_and(|o| o.status.code().is_none())
    }
}

/// A run that has ended.
pub struct Ran {
    what: String,
    pub code: i32,
    pub took: Duration,
    /// Its events, as `--format json` prints them.
    pub events: Vec<Value>,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {}", self.report());
        self
    }

    #[track_caller]
    pub fn done(self) -> Self {
        self.exits(DONE)
    }

    /// A host's line of the recap: `changed`, `failed`, …
    #[track_caller]
    pub fn count(&self, host: &str, what: &str) -> u64 {
        let ended = self.events.iter().rev().find(|e| e["event"] == "ended");
        let n = ended.and_then(|e| e["hosts"][host][what].as_u64());
        n.unwrap_or_else(|| panic!("no {what} of {host} in {}", self.report()))
    }

    /// What was changed, `host: task` each, handlers included; nothing else was.
    #[track_caller]
    pub fn changes(self, expected: &[&str]) -> Self {
        let mut expected: Vec<String> = expected.iter().map(|e| e.to_string()).collect();
        expected.sort();
        assert_eq!(self.changed(), expected, "changes of {}", self.report());
        self
    }

    pub fn changed(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.steps("changed").map(|e| format!("{}: {}", word(&e["host"]), word(&e["task"]))).collect();
        all.sort();
        all
    }

    /// This is somewhere in what was said of failures, in notes or on standard error.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        let said = self.events.iter().any(|e| e.to_string().contains(part)) || self.stderr.contains(part);
        assert!(said, "nothing of `{part}` in {}", self.report());
        self
    }

    fn steps<'a>(&'a self, outcome: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |e| e["event"] == "step_ended" && e["outcome"] == outcome)
    }

    /// What went wrong, and what changed: for a person who looks at a failed test.
    fn report(&self) -> String {
        let mut text = format!("{} ({:.1} s)\n{}", self.what, self.took.as_secs_f64(), self.stderr);
        let mut seen = BTreeMap::new();
        for e in &self.events {
            *seen.entry(word(&e["outcome"]).to_string()).or_insert(0) += 1;
        }
        text += &format!("{seen:?}\n");
        for e in self.steps("failed").chain(self.steps("ignored")) {
            text += &format!(
                "{} {}: {}\n",
                word(&e["host"]),
                word(&e["task"]),
                serde_json::to_string_pretty(&e["parts"]).unwrap_or_default()
            );
        }
        for e in self.events.iter().filter(|e| e["event"] == "unreachable" || e["event"] == "note") {
            text += &format!("{e}\n");
        }
        let ended = |step: &Value| {
            let same =
                |e: &&Value| e["event"] == "step_ended" && e["host"] == step["host"] && e["task"] == step["task"];
            self.events.iter().any(|e| same(&e))
        };
        for e in self.events.iter().filter(|e| e["event"] == "step_started" && !ended(e)) {
            text += &format!("at work on {}: {}\n", word(&e["host"]), word(&e["task"]));
        }
        for e in self.steps("changed") {
            text += &format!("changed on {}: {} ({})\n", word(&e["host"]), word(&e["task"]), word(&e["place"]));
        }
        text
    }
}

fn word(v: &Value) -> &str {
    v.as_str().unwrap_or("?")
}
