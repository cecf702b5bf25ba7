//! What the tests are written with: a lab for all of them, nodes to take, playbooks to run, words to expect.
//!
//! ```ignore
//! let c = Case::new("copy").tasks("- copy: {content: hello, dest: /etc/x}");
//! c.converges(1);                       // plan, apply, apply again, plan again
//! c.on_node("cat /etc/x").prints("hello");
//! c.repairs("rm /etc/x", 1);            // noticed by plan, put right by exactly what plan said
//! ```

use crate::runner::output_within;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use windlass::lab;

/// Nodes of the lab, and tests that run side by side.
pub const NODES: usize = 3;

// ---------------------------------------------------------------------------------------------------------- the lab

/// The lab of this process.
struct Lab {
    name: String,
    inventory: PathBuf,
    nodes: Vec<(String, Ipv4Addr)>,
    project: TempDir,
}

static LAB: OnceLock<Lab> = OnceLock::new();
/// Set when the lab is to be gone: nobody brings it up again.
static OVER: RwLock<bool> = RwLock::new(false);

fn name() -> String {
    format!("t{}", std::process::id())
}

fn the_lab() -> &'static Lab {
    LAB.get_or_init(|| {
        let _going_on = going_on();
        sweep();
        let project = tempfile::tempdir().expect("a folder for the lab's inventory");
        let options = lab::Options::new(project.path());
        let status = lab::up(&name(), NODES, &options, &mut |line| eprintln!("lab: {line}")).expect("a lab");
        Lab {
            name: status.name,
            inventory: status.inventory,
            nodes: status.nodes.into_iter().map(|n| (n.name, n.address)).collect(),
            project,
        }
    })
}

/// While this is held, the lab is not taken down.
fn going_on() -> RwLockReadGuard<'static, bool> {
    let over = OVER.read().unwrap_or_else(|e| e.into_inner());
    assert!(!*over, "the tests are being stopped");
    over
}

/// Takes down labs of test processes that were killed.
fn sweep() {
    for lab in lab::names().unwrap_or_default() {
        let pid = lab.strip_prefix('t').and_then(|p| p.parse::<u32>().ok());
        if pid.is_some_and(|p| !Path::new(&format!("/proc/{p}")).exists()) {
            let _ = lab::down(&lab, &mut |line| eprintln!("lab: {line}"));
        }
    }
}

/// Takes the lab down, if there is one.
pub fn tear_down() -> Result<(), String> {
    let mut over = OVER.write().unwrap_or_else(|e| e.into_inner());
    *over = true;
    // A signal to the whole process group may end what `down` itself has started: once more, then.
    let gone = || match lab::names().unwrap_or_default().contains(&name()) {
        true => lab::down(&name(), &mut |_| {}).map(drop),
        false => Ok(()),
    };
    gone().or_else(|_| gone()).map_err(|e| e.to_string())?;
    if let Some(l) = LAB.get() {
        let _ = fs::remove_dir_all(l.project.path());
    }
    Ok(())
}

/// Which nodes are free, and whether a test has been on them.
struct Pool {
    state: Mutex<[NodeState; NODES]>,
    freed: Condvar,
}

#[derive(Clone, Copy, PartialEq)]
enum NodeState {
    Pristine,
    Used,
    Taken,
}

static POOL: Pool = Pool { state: Mutex::new([NodeState::Pristine; NODES]), freed: Condvar::new() };

fn pool() -> MutexGuard<'static, [NodeState; NODES]> {
    POOL.state.lock().unwrap_or_else(|e| e.into_inner())
}

/// A node that is nobody else's until this is dropped.
struct Taken(usize);

/// Takes `count` nodes, all at once.
fn take(count: usize, pristine: bool) -> Vec<Taken> {
    let lab = the_lab();
    let mut state = pool();
    let mut free: Vec<usize>;
    loop {
        free = (0..NODES).filter(|i| state[*i] != NodeState::Taken).collect();
        if free.len() >= count {
            break;
        }
        state = POOL.freed.wait(state).unwrap_or_else(|e| e.into_inner());
    }
    let better = if pristine { NodeState::Pristine } else { NodeState::Used };
    free.sort_by_key(|i| state[*i] != better);
    free.truncate(count);
    free.sort();
    let resets: Vec<bool> = free.iter().map(|i| pristine && state[*i] == NodeState::Used).collect();
    free.iter().for_each(|i| state[*i] = NodeState::Taken);
    drop(state);
    let taken: Vec<Taken> = free.into_iter().map(Taken).collect();
    for (t, reset) in taken.iter().zip(resets) {
        if reset {
            let _going_on = going_on();
            lab::reset(&lab.name, &lab.nodes[t.0].0, &mut |_| {}).expect("a reset node");
        }
    }
    taken
}

impl Drop for Taken {
    fn drop(&mut self) {
        pool()[self.0] = NodeState::Used;
        POOL.freed.notify_all();
    }
}

// -------------------------------------------------------------------------------------------------------- the case

/// A project folder and one or more nodes for it.
pub struct Case {
    dir: TempDir,
    hosts: Vec<Taken>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Option<String>,
}

impl Case {
    /// One node as it comes from the image.
    pub fn new(title: &str) -> Self {
        Case::with(title, take(1, true))
    }
    /// One node that may have been used by other tests.
    pub fn anywhere(title: &str) -> Self {
        Case::with(title, take(1, false))
    }
    /// Some nodes that may have been used by other tests: `node1`, `node2`, ... as this case calls them.
    pub fn nodes(count: usize, title: &str) -> Self {
        Case::with(title, take(count, false))
    }

    fn with(title: &str, hosts: Vec<Taken>) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("{title}-")).tempdir().expect("a project folder");
        let c = Case { dir, hosts, args: vec![], env: vec![], stdin: None };
        c.inventory("")
    }

    /// Writes the inventory; `vars` are lines of `name: value` for all hosts.
    pub fn inventory(self, vars: &str) -> Self {
        let lab = the_lab();
        let quoted = |name: &str| Value::from(lab.inventory.join(name).to_string_lossy()).to_string();
        let user = if vars.contains("ansible_user:") { "" } else { "    ansible_user: root\n" };
        let mut text = format!(
            "all:\n  vars:\n{user}    ansible_ssh_private_key_file: {}\n    windlass_known_hosts: {}\n",
            quoted("id_ed25519"),
            quoted("known_hosts")
        );
        vars.lines().map(str::trim).filter(|l| !l.is_empty()).for_each(|l| text += &format!("    {l}\n"));
        text += "  hosts:\n";
        for i in 0..self.hosts.len() {
            text += &format!("    node{}: {{ansible_host: {}}}\n", i + 1, self.address(i + 1));
        }
        self.file("hosts.yml", text)
    }

    /// Tasks for all hosts.
    pub fn tasks(self, yaml: &str) -> Self {
        let mut text = String::from("- phase: main\n  hosts: all\n  tasks:\n");
        dedent(yaml).lines().for_each(|l| text += &format!("    {l}\n"));
        self.playbook(&text)
    }
    /// A whole playbook.
    pub fn playbook(self, yaml: &str) -> Self {
        self.file("site.yml", dedent(yaml))
    }
    /// A file of the project.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of the project");
        fs::write(path, content).expect("a file of the project");
        self
    }
    /// Arguments for every plan and apply.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|a| a.to_string()).collect();
        self
    }
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
    /// What every plan and apply reads from standard input.
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.into());
        self
    }
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
    /// The address of the case's node of this number, from 1.
    pub fn address(&self, number: usize) -> Ipv4Addr {
        the_lab().nodes[self.hosts[number - 1].0].1
    }
    /// The private key that every node lets in.
    pub fn key(&self) -> PathBuf {
        the_lab().inventory.join("id_ed25519")
    }
    pub fn known_hosts(&self) -> PathBuf {
        the_lab().inventory.join("known_hosts")
    }

    // -- running

    pub fn plan(&self) -> Ran {
        self.run("plan", &[])
    }
    pub fn apply(&self) -> Ran {
        self.run("apply", &[])
    }
    pub fn plan_with(&self, more: &[&str]) -> Ran {
        self.run("plan", more)
    }
    pub fn apply_with(&self, more: &[&str]) -> Ran {
        self.run("apply", more)
    }
    /// `windlass` with any arguments, in the project.
    pub fn windlass(&self, args: &[&str]) -> Ran {
        let mut cmd = self.command();
        cmd.args(args);
        Ran::of(self.wait(cmd.spawn().expect("windlass")), args.join(" "))
    }

    fn run(&self, verb: &str, more: &[&str]) -> Ran {
        let child = self.spawn(verb, more);
        Ran::of(self.wait(child), verb.to_string())
    }
    /// Starts a plan or an apply and does not wait for it.
    pub fn spawn(&self, verb: &str, more: &[&str]) -> Child {
        let mut cmd = self.command();
        cmd.args([verb, "site.yml", "-i", "hosts.yml", "--format", "json"]).args(&self.args).args(more);
        cmd.arg("--diff");
        cmd.spawn().expect("windlass")
    }
    fn command(&self) -> Command {
        let mut cmd = Command::new(env!("CARGO_BIN_EXE_windlass"));
        cmd.current_dir(self.path()).envs(self.env.iter().map(|(k, v)| (k, v)));
        for unwanted in ["WINDLASS_INVENTORY", "WINDLASS_LOG", "SSH_AUTH_SOCK"] {
            cmd.env_remove(unwanted);
        }
        cmd.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        cmd.stdout(Stdio::piped()).stderr(Stdio::piped());
        cmd
    }
    pub fn wait(&self, mut child: Child) -> Output {
        if let (Some(text), Some(mut stdin)) = (&self.stdin, child.stdin.take()) {
            let _ = stdin.write_all(text.as_bytes());
        }
        output_within(Duration::from_secs(150), child)
    }

    // -- what most tests say

    /// On a host that is not there yet: plan says `n` changes, apply does exactly these, a second apply none, and then
    /// plan has nothing to say.
    #[track_caller]
    pub fn converges(&self, n: usize) -> Ran {
        let planned = self.plan().changes(n);
        let applied = self.apply().changed(n);
        planned.is_what(&applied);
        self.is_satisfied();
        applied
    }
    /// An apply and a plan find nothing to do.
    #[track_caller]
    pub fn is_satisfied(&self) {
        self.apply().changed(0);
        self.plan().changes(0);
    }
    /// Something is changed on the node by hand: plan sees `n` things to put right, apply puts right exactly these.
    #[track_caller]
    pub fn repairs(&self, disturbance: &str, n: usize) -> Ran {
        self.on_node(disturbance).succeeds();
        let planned = self.plan().changes(n);
        let applied = self.apply().changed(n);
        planned.is_what(&applied);
        self.plan().changes(0);
        applied
    }
    /// The same where plan cannot say everything: what it says, apply does, and apply changes `n` things in all.
    #[track_caller]
    pub fn mends(&self, disturbance: &str, n: usize) -> Ran {
        self.on_node(disturbance).succeeds();
        let planned = self.plan().exits(2);
        let applied = self.apply().changed(n);
        planned.is_part_of(&applied);
        self.plan().changes(0);
        applied
    }
    /// Something is changed on the node by hand that is none of the playbook's business.
    #[track_caller]
    pub fn ignores(&self, disturbance: &str) {
        self.on_node(disturbance).succeeds();
        self.plan().changes(0);
    }

    // -- the node itself, not by SSH and not by Windlass

    /// Runs a command on the case's first node, as root.
    pub fn on_node(&self, command: &str) -> Said {
        self.on(1, command)
    }
    /// Runs a command on the case's node of this number, as root.
    pub fn on(&self, number: usize, command: &str) -> Said {
        let lab = the_lab();
        let node = &lab.nodes[self.hosts[number - 1].0].0;
        let status = lab::status(&lab.name).expect("the lab's status").expect("the lab");
        let pid = status.nodes.iter().find(|n| n.name == *node).and_then(|n| n.pid).expect("a node that is on");
        // Into files, not pipes: what a command leaves in the background may keep its output open.
        let file = || tempfile::tempfile().expect("a file for output");
        let (mut stdout, mut stderr) = (file(), file());
        let status = Command::new("timeout")
            .args([
                "120",
                "nsenter",
                "-t",
                &pid.to_string(),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "-r",
                "-w",
                "--",
                "env",
                "-i",
            ])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "sh", "-c", command])
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().expect("a file"))
            .stderr(stderr.try_clone().expect("a file"))
            .status()
            .expect("nsenter");
        let read = |f: &mut fs::File| {
            let mut all = vec![];
            f.rewind().and_then(|()| f.read_to_end(&mut all)).expect("output");
            all
        };
        let out = Output { status, stdout: read(&mut stdout), stderr: read(&mut stderr) };
        Said { command: command.into(), out }
    }
    /// Waits until a command succeeds on the first node.
    #[track_caller]
    pub fn until(&self, command: &str) {
        let began = Instant::now();
        while !self.on_node(command).out.status.success() {
            assert!(began.elapsed() < Duration::from_secs(30), "on the node, in vain: {command}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    /// Cuts the first node's power and switches it on again.
    pub fn power_cycle(&self) {
        let lab = the_lab();
        let node = &lab.nodes[self.hosts[0].0].0;
        lab::kill_node(&lab.name, node).expect("a node without power");
        lab::start_node(&lab.name, node).expect("a node that is on again");
    }
    /// Everything Windlass left in the project's folder: log files, what is due.
    pub fn traces(&self) -> String {
        let mut all = String::new();
        for folder in ["logs", ".windlass"] {
            read_all(&self.path().join(folder), &mut all);
        }
        all
    }
}

fn read_all(at: &Path, to: &mut String) {
    for e in fs::read_dir(at).into_iter().flatten().flatten() {
        if e.path().is_dir() {
            read_all(&e.path(), to);
        } else {
            to.push_str(&String::from_utf8_lossy(&fs::read(e.path()).unwrap_or_default()));
        }
    }
}

/// Takes away the indentation of a text's first line from all its lines.
fn dedent(text: &str) -> String {
    let text = text.trim_start_matches('\n');
    let by = text.len() - text.trim_start_matches(' ').len();
    text.lines().map(|l| format!("{}\n", l.get(by..).unwrap_or(l.trim_start()))).collect()
}

// ------------------------------------------------------------------------------------------- what a command has said

/// What a command on a node has said.
pub struct Said {
    command: String,
    out: Output,
}

impl Said {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.out.stdout).trim_end_matches('\n').to_string()
    }
    #[track_caller]
    pub fn succeeds(self) -> Self {
        let err = String::from_utf8_lossy(&self.out.stderr);
        assert!(self.out.status.success(), "on the node: {}\n{}\n{err}", self.command, self.stdout());
        self
    }
    /// Its output is exactly this, but for a newline at the end.
    #[track_caller]
    pub fn prints(self, expected: &str) -> Self {
        let err = String::from_utf8_lossy(&self.out.stderr);
        assert_eq!(self.stdout(), expected, "on the node: {}\n{err}", self.command);
        self
    }
    #[track_caller]
    pub fn mentions(self, part: &str) -> Self {
        let out = self.stdout();
        assert!(out.contains(part), "on the node: {}\nno `{part}` in:\n{out}", self.command);
        self
    }
}

// ------------------------------------------------------------------------------------------------- what a run has said

/// A plan or an apply that has ended.
pub struct Ran {
    verb: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub events: Vec<Value>,
}

/// What a run does to one item of one task on one host.
#[derive(Debug, PartialEq, Clone)]
struct Deed {
    outcome: String,
    summary: String,
    diff: Value,
}

impl Ran {
    pub fn of(out: Output, verb: String) -> Self {
        let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
        Ran {
            verb,
            code: out.status.code().unwrap_or(-1),
            events: stdout.lines().filter_map(|l| serde_json::from_str(l).ok()).collect(),
            stdout,
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }
    /// All of it, for a message.
    pub fn text(&self) -> String {
        let mut t = format!("--- {} ended with {}\n", self.verb, self.code);
        for e in &self.events {
            if e["event"] == "step_ended" && e["outcome"] != "silent" {
                t += &format!("{} {}: {}", e["host"], e["task"], e["outcome"]);
                e.get("why").into_iter().for_each(|w| t += &format!(" ({w})"));
                for p in e["parts"].as_array().into_iter().flatten() {
                    t += &format!("\n    {p}");
                }
                t += "\n";
            } else if matches!(e["event"].as_str(), Some("unreachable" | "note")) {
                t += &format!("{e}\n");
            }
        }
        if self.events.is_empty() {
            t += &self.stdout;
        }
        t + &self.stderr
    }
    fn count(&self, what: &str) -> usize {
        let Some(end) = self.events.iter().find(|e| e["event"] == "ended") else { return 0 };
        let hosts = end["hosts"].as_object().into_iter().flatten();
        hosts.map(|(_, c)| c[what].as_u64().unwrap_or(0) as usize).sum()
    }

    /// A plan that could say everything, and it is `n` changes.
    #[track_caller]
    pub fn changes(self, n: usize) -> Self {
        assert_eq!(self.code, if n > 0 { 2 } else { 0 }, "exit code\n{}", self.text());
        assert_eq!(self.count("changed"), n, "changes planned\n{}", self.text());
        assert_eq!(self.count("unknown"), 0, "known after apply\n{}", self.text());
        self
    }
    /// An apply in which nothing failed and `n` steps changed something.
    #[track_caller]
    pub fn changed(self, n: usize) -> Self {
        assert_eq!(self.code, 0, "exit code\n{}", self.text());
        assert_eq!(self.count("changed"), n, "steps changed\n{}", self.text());
        self
    }
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n{}", self.text());
        self
    }
    /// Steps that ended in this way: `satisfied`, `changed`, `failed`, `blocked`, `skipped`, `unknown`.
    #[track_caller]
    pub fn has(self, n: usize, what: &str) -> Self {
        assert_eq!(self.count(what), n, "{what}\n{}", self.text());
        self
    }
    /// Some text anywhere in what it printed.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        let json = Value::from(part).to_string();
        let found = self.stdout.contains(json.trim_matches('"')) || self.stderr.contains(part);
        assert!(found || self.stdout.contains(part), "nothing of `{part}` in\n{}", self.text());
        self
    }
    #[track_caller]
    pub fn lacks(self, part: &str) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(!all.contains(part), "`{part}` in\n{all}");
        self
    }
    /// The ends of all steps of this name (`*`: of all), in the order in which they came.
    pub fn steps(&self, task: &str) -> Vec<&Value> {
        self.events.iter().filter(|e| e["event"] == "step_ended" && (task == "*" || e["task"] == task)).collect()
    }
    /// The end of the one step of this name.
    #[track_caller]
    pub fn step(&self, task: &str) -> &Value {
        match self.steps(task).as_slice() {
            [one] => one,
            other => panic!("{} steps are called {task}\n{}", other.len(), self.text()),
        }
    }
    /// The one step of this name ended so.
    #[track_caller]
    pub fn ended(self, task: &str, outcome: &str) -> Self {
        assert_eq!(self.step(task)["outcome"], outcome, "{task}\n{}", self.text());
        self
    }
    /// What a `debug` has said.
    #[track_caller]
    pub fn said(self, task: &str, text: &str) -> Self {
        let said = self.step(task)["parts"][0]["say"].as_str().unwrap_or_default().to_string();
        assert_eq!(said.trim_end(), text, "{task}\n{}", self.text());
        self
    }
    /// The names of the steps that ended so, in order.
    pub fn order(&self, outcome: &str) -> Vec<String> {
        let of = |e: &&Value| e["outcome"] == outcome;
        self.steps("*").into_iter().filter(of).map(|e| e["task"].as_str().unwrap_or_default().to_string()).collect()
    }

    fn deeds(&self) -> BTreeMap<String, Deed> {
        let mut all = BTreeMap::new();
        for e in self.steps("*") {
            for (i, p) in e["parts"].as_array().into_iter().flatten().enumerate() {
                if p["outcome"] != "changed" {
                    continue;
                }
                let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
                let key = format!("{} {} {i} {}", text(&e["host"]), text(&e["task"]), text(&p["label"]));
                let deed = Deed { outcome: text(&p["outcome"]), summary: text(&p["summary"]), diff: p["diff"].clone() };
                all.insert(key, deed);
            }
        }
        all
    }
    /// What this plan has said, that apply has done, and perhaps more that was only known after it.
    #[track_caller]
    pub fn is_part_of(&self, applied: &Ran) {
        let done = applied.deeds();
        for (item, said) in self.deeds() {
            assert_eq!(Some(&said), done.get(&item), "{item}\n{}", applied.text());
        }
    }
    /// This plan has said exactly what that apply has done, to the last line of the diffs.
    #[track_caller]
    pub fn is_what(&self, applied: &Ran) {
        let (said, done) = (self.deeds(), applied.deeds());
        if said != done {
            panic!("planned: {said:#?}\ndone: {done:#?}");
        }
    }
}

impl Ran {
    /// Exactly one line, with its `+` or `-`, differs in the diff of this task in this direction.
    #[track_caller]
    pub fn diff_has(self, task: &str, line: &str) -> Self {
        let diff = &self.step(task)["parts"][0]["diff"][0];
        let lines =
            |key: &str| -> Vec<String> { diff[key].as_str().unwrap_or_default().lines().map(str::to_string).collect() };
        let (before, after) = (lines("before"), lines("after"));
        let (here, there, sign) = if line.starts_with('+') { (after, before, '+') } else { (before, after, '-') };
        let only: Vec<String> = here.iter().filter(|l| !there.contains(l)).map(|l| format!("{sign}{l}")).collect();
        assert_eq!(only, [line], "{task}\n{}", self.text());
        self
    }
}
