//! `kill -9` of an apply at random moments.

use crate::kit::{DONE, Node, Project, take};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

tests!(at_random_moments);

const KILLS: usize = 20;
/// Rounds that end by themselves before they are killed are not counted; this many in all are enough.
const ROUNDS: u32 = 40;
const FILES: usize = 6;

/// Every run has a version of its own, and nearly everything depends on it.
fn project(node: &Node) -> Project {
    let mut t = String::from("tasks:\n- file: {path: /opt/kill, state: directory, mode: '0750'}\n");
    for i in 0..FILES {
        t += &format!("- template: {{src: big.hbs, dest: /opt/kill/big{i}, mode: '0640', owner: daemon}}\n");
        t += &format!("  vars: {{number: {i}}}\n");
        t += if i == 2 { "  notify: publish\n" } else { "" };
    }
    t += "\
- lineinfile: {path: /opt/kill/env, regexp: '^V=', line: 'V={{version}}', create: true, mode: '0644'}
- user: {name: 'k{{version}}', shell: /bin/bash}
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
    let p = Project::new(&node.host(""), &t);
    let lines: String = (0..3000).map(|n| format!("line {n} of {{{{number}}}}, version {{{{version}}}}\n")).collect();
    p.write("templates/big.hbs", &lines);
    p
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

fn at_random_moments() {
    let [node, other] = take();
    let (p, undisturbed) = (project(&node), project(&other));
    let seed = std::env::var("WINDLASS_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 | 1)
    });
    eprintln!("kill: WINDLASS_TEST_SEED={seed}");
    let mut random = Random(seed.max(1));
    let run = |p: &Project, version: u32| p.apply(&["-e", &format!("version={version}")]);

    run(&undisturbed, 0).exits(DONE);
    run(&p, 0).exits(DONE);
    let whole = run(&p, 1).exits(DONE).took;
    run(&undisturbed, 1).exits(DONE);
    assert_eq!(state(&node), state(&other));

    let (mut kills, mut version, mut looks, mut unfinished) = (0, 1, 0, 0);
    while kills < KILLS {
        version += 1;
        assert!(version < ROUNDS, "{kills} of {version} applies could be killed before they ended");
        let root = node.root();
        let watch = Watch::start(root, files(version));
        let running = p.spawn(&["-e", &format!("version={version}")]);
        let moment = whole.mul_f64(0.1 + random.next() * 0.9);
        std::thread::sleep(moment);
        let killed = running.kill();
        kills += usize::from(killed);

        // Every other time the next apply does not wait for the node to notice.
        if version % 2 == 0 {
            let began = Instant::now();
            while node.attempt("pgrep -f 'sshd: root@[n]otty'").status.success() {
                assert!(began.elapsed() < Duration::from_secs(15), "the session outlives its connection");
                std::thread::sleep(Duration::from_millis(20));
            }
            for f in left_behind(&node) {
                let name = f.rsplit('/').next().unwrap_or_default();
                assert!(name.starts_with('.') && name.ends_with(".windlass~"), "left behind, seed {seed}: {f}");
                unfinished += 1;
            }
        }
        let (again, straight) = std::thread::scope(|s| {
            let a = s.spawn(|| run(&p, version));
            (a.join().expect("an apply"), run(&undisturbed, version))
        });
        again.exits(DONE);
        straight.exits(DONE);
        looks += watch.end();
        let (is, should) = (state(&node), state(&other));
        assert_eq!(is, should, "after a kill at {moment:?} of {whole:?}, version {version}, seed {seed}");
        assert!(is.ends_with("published\n"), "{is}");
        let left = left_behind(&node);
        assert!(left.is_empty(), "left behind, seed {seed}: {left:?}");
    }
    eprintln!(
        "kill: {kills} kills in {} applies of {whole:?}, {looks} looks at files, {unfinished} unfinished",
        version - 1
    );
    run(&p, version).exits(DONE).counts(node.name(), [FILES + 6, 0, 0, 0, 0]);
}
