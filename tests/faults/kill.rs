//! An apply, or the node it works on, killed at random moments.

use crate::kit::{DONE, FAILED, Node, Project, Ran, Running, UNREACHABLE, take};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

tests!(at_random_moments, of_the_node);

const KILLS: usize = 20;
/// Rounds that end by themselves before they are killed are not counted; this many in all are enough.
const ROUNDS: u32 = 40;
const FILES: usize = 6;

/// Every run has a version of its own, and nearly everything depends on it.
fn project(node: &Node, user: bool) -> Project {
    let mut t = String::from("tasks:\n- file: {path: /opt/kill, state: directory, mode: '0750'}\n");
    for i in 0..FILES {
        t += &format!("- copy: {{src: big{i}, dest: /opt/kill/big{i}, mode: '0640', owner: daemon}}\n");
        t += if i == 2 { "  notify: publish\n" } else { "" };
    }
    t += "- lineinfile: {path: /opt/kill/env, regexp: '^V=', line: 'V={{version}}', create: true, mode: '0644'}\n";
    t += if user { "- user: {name: 'k{{version}}', shell: /bin/bash}\n" } else { "" };
    t += "\
- copy:
    dest: /etc/systemd/system/kill.service
    content: |
      [Service]
      Environment=V={{version}}
      ExecStart=/bin/sleep infinity
      [Install]
      WantedBy=multi-user.target
  notify: restart kill
- systemd: {name: kill, state: started, enabled: true, daemon_reload: true}
- command: {cmd: 'touch /opt/kill/done{{version}}', creates: '/opt/kill/done{{version}}'}
handlers:
- name: publish
  shell: sha256sum </opt/kill/big2 >/opt/kill/published
- name: restart kill
  systemd: {name: kill, state: restarted, daemon_reload: true}
";
    Project::new(&node.host(""), &t)
}

/// The files that must be whole at any moment, each with its content in a version.
fn files(version: u32) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = (0..FILES)
        .map(|i| {
            let text = (0..3000).map(|n| format!("line {n} of {i}, version {version}\n")).collect();
            (format!("opt/kill/big{i}"), text)
        })
        .collect();
    all.insert("opt/kill/env".into(), format!("V={version}\n"));
    let unit = format!(
        "[Service]\nEnvironment=V={version}\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
    );
    all.insert("etc/systemd/system/kill.service".into(), unit);
    all
}

/// Everything the playbook manages, as text.
fn state(node: &Node) -> String {
    node.run(
        "cd /opt/kill
         find /opt/kill /etc/systemd/system/kill.service /etc/systemd/system/multi-user.target.wants/kill.service \
           -printf '%p %y %m %U %G %s %l\\n' | sort
         sha256sum $(find . -type f | sort) /etc/systemd/system/kill.service
         getent passwd | grep '^k[0-9]'; getent group | grep '^k[0-9]'
         ls -ld /home/k* | cut -d' ' -f1,3,4
         systemctl show -p ActiveState,UnitFileState,NeedDaemonReload kill
         tr '\\0' '\\n' </proc/$(systemctl show -P MainPID kill)/environ | grep '^V='
         [ \"$(cat published)\" = \"$(sha256sum <big2)\" ] && echo published",
    )
}

/// Files of ours that are on the node now, the lock not counted.
fn left_behind(node: &Node) -> Vec<String> {
    let found = node.run(
        "find /opt /etc /home /root /run /dev/shm /tmp /var/tmp -name '*windlass*' \
         ! -path /run/windlass.lock ! -path '/run/systemd/*' ! -path '/etc/systemd/*-lab-*' 2>/dev/null || :",
    );
    let lab = |l: &&str| !l.contains("windlass-lab");
    found.lines().filter(lab).map(str::to_string).collect()
}

/// Reads the files again and again: each must be what it was or what it is to be.
struct Watch {
    over: Arc<AtomicBool>,
    wrong: Arc<Mutex<Vec<String>>>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn start(root: String, new: HashMap<String, String>) -> Self {
        let read = move |f: &str| std::fs::read(format!("{root}/{f}")).ok();
        let old: HashMap<String, Option<Vec<u8>>> = new.keys().map(|f| (f.clone(), read(f))).collect();
        let (over, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
        let (stop, found) = (over.clone(), wrong.clone());
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            loop {
                let last = stop.load(Ordering::Relaxed);
                for (f, text) in &new {
                    let now = read(f);
                    if now != old[f] && now.as_deref() != Some(text.as_bytes()) {
                        let size = now.as_ref().map(Vec::len);
                        found.lock().unwrap().push(format!("/{f} is neither old nor new: {size:?} bytes"));
                    }
                    looks += 1;
                }
                if last {
                    return looks;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Watch { over, wrong, thread }
    }

    #[track_caller]
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let looks = self.thread.join().expect("the watching thread");
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "half-written files: {wrong:#?}");
        looks
    }
}

/// Good enough to choose moments (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A seed, told so that a run can be repeated.
fn random() -> (Random, u64) {
    let seed = std::env::var("WINDLASS_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64)
    });
    eprintln!("kill: WINDLASS_TEST_SEED={seed}");
    (Random(seed.max(1)), seed)
}

/// A node to be disturbed and one that is not, both at version 1, and how long an apply takes.
struct Pair {
    project: Project,
    undisturbed: Project,
    /// An apply that has nothing to do: before its end, nothing is changed.
    idle: Duration,
    whole: Duration,
}

fn start(p: &Project, version: u32) -> Running {
    for (path, text) in files(version) {
        if let Some(name) = path.strip_prefix("opt/kill/big") {
            p.write(&format!("files/big{name}"), &text);
        }
    }
    p.spawn(&["-T", "2", "-e", &format!("version={version}")])
}

fn run(p: &Project, version: u32) -> Ran {
    start(p, version).wait()
}

impl Pair {
    fn new(node: &Node, other: &Node, user: bool) -> Self {
        node.run(CLEAN);
        other.run(CLEAN);
        let (project, undisturbed) = (project(node, user), project(other, user));
        run(&undisturbed, 0).exits(DONE);
        run(&project, 0).exits(DONE);
        let whole = run(&project, 1).exits(DONE).took;
        let idle = run(&project, 1).exits(DONE).took.min(whole);
        run(&undisturbed, 1).exits(DONE);
        assert_eq!(state(node), state(other));
        Pair { project, undisturbed, idle, whole }
    }

    /// A moment of an apply, most likely one in which it changes something.
    fn moment(&self, random: &mut Random) -> Duration {
        let begun = self.idle.mul_f64(0.7);
        begun + (self.whole - begun).mul_f64(random.next())
    }

    /// The next apply comes where an undisturbed one comes to, and leaves nothing else.
    #[track_caller]
    fn recovers(&self, node: &Node, other: &Node, version: u32, what: &str) {
        let (again, straight) = std::thread::scope(|s| {
            let a = s.spawn(|| run(&self.project, version));
            let straight = run(&self.undisturbed, version);
            (a.join().expect("an apply"), straight)
        });
        again.exits(DONE);
        straight.exits(DONE);
        let (is, should) = (state(node), state(other));
        assert_eq!(is, should, "{what}");
        assert!(is.ends_with("published\n"), "{is}");
        let left = left_behind(node);
        assert!(left.is_empty(), "left behind, {what}: {left:?}");
    }

    /// Whether the apply that was killed has left a handler to be run.
    fn is_due(&self) -> bool {
        std::fs::read_dir(self.project.path().join(".windlass/due")).is_ok_and(|d| d.count() > 0)
    }
}

/// What tests before this one have made.
const CLEAN: &str = "systemctl disable -q --now kill 2>/dev/null
for u in $(getent passwd | grep '^k[0-9]' | cut -d: -f1); do userdel -r $u 2>/dev/null; done
rm -rf /opt/kill /etc/systemd/system/kill.service; systemctl daemon-reload";

/// Of files of ours only unfinished ones are there, which the next apply replaces. How many.
#[track_caller]
fn only_unfinished(node: &Node, what: &str) -> usize {
    let left = left_behind(node);
    for f in &left {
        let name = f.rsplit('/').next().unwrap_or_default();
        assert!(name.starts_with('.') && name.ends_with(".windlass~"), "left behind, {what}: {f}");
    }
    left.len()
}

fn at_random_moments() {
    let [node, other] = take();
    let (mut random, seed) = random();
    let pair = Pair::new(&node, &other, true);
    let (mut kills, mut version, mut looks, mut due) = (0, 1, 0, 0);
    while kills < KILLS {
        version += 1;
        assert!(version < ROUNDS, "{kills} of {version} applies could be killed before they ended");
        let watch = Watch::start(node.root(), files(version));
        let running = start(&pair.project, version);
        let moment = pair.moment(&mut random);
        std::thread::sleep(moment);
        kills += usize::from(running.kill());
        due += usize::from(pair.is_due());
        let what = format!("after a kill at {moment:?} of {:?}, version {version}, seed {seed}", pair.whole);
        // Every other time the next apply does not wait for the node to be through.
        if version % 2 == 0 {
            // The session's shell holds the lock to its end, which is after sshd's.
            node.until("flock -n /run/windlass.lock true");
            only_unfinished(&node, &what);
        }
        pair.recovers(&node, &other, version, &what);
        looks += watch.end();
    }
    eprintln!(
        "kill: {kills} kills in {} applies of {:?}, {due} with a handler due, {looks} looks at files",
        version - 1,
        pair.whole
    );
    run(&pair.project, version).exits(DONE).counts(node.name(), [FILES + 6, 0, 0, 0, 0]);
}

/// The node dies, everything at work on it at once; it comes back, and the next apply puts all right.
fn of_the_node() {
    let [node, other] = take();
    let (mut random, seed) = random();
    let pair = Pair::new(&node, &other, false);
    pair.project.write(".ssh/config", "ServerAliveInterval 1\nServerAliveCountMax 2\n");
    let mut unfinished = 0;
    for version in 2..5 {
        let (old, new) = (files(version - 1), files(version));
        let running = start(&pair.project, version);
        let moment = pair.moment(&mut random);
        std::thread::sleep(moment);
        node.die();
        let what = format!("after a death at {moment:?} of {:?}, version {version}, seed {seed}", pair.whole);
        let ran = running.wait().within(30);
        // Of all that dies, a service that a command talks to may be first: then the command has failed.
        assert!([DONE, FAILED, UNREACHABLE].contains(&ran.code), "{what}: {}", ran.text);
        node.start();
        let root = node.root();
        for (f, text) in &new {
            let is = std::fs::read_to_string(format!("{root}/{f}")).unwrap_or_default();
            assert!(is == *text || is == old[f], "{what}: /{f} is neither old nor new: {} bytes", is.len());
        }
        unfinished += only_unfinished(&node, &what);
        pair.recovers(&node, &other, version, &what);
    }
    eprintln!("kill: 3 deaths of a node, {unfinished} unfinished files, all replaced");
}
