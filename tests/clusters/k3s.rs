//! K3s from bare machines to the end of its days. Where `WINDLASS_TEST_K3S` names a real binary (and, for the upgrade,
//! `WINDLASS_TEST_K3S_NEXT` another one), it is what runs; otherwise a stand-in, built here, which is not K3s.

use super::kit::{CHANGES, FAILED, Lab, REFUSED, Ran};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

tests!(from_bare_machines_to_the_end, a_single_server, killed_in_the_middle);

/// What stands before the version at the end of the stand-in's file.
const MARK: &str = "\nSTAND-IN VERSION ";

// ------------------------------------------------------------------------------------------------ what is installed

/// A program that is installed as K3s.
struct Binary {
    path: PathBuf,
    version: String,
}

/// The real binary a variable names, and the version it says it is.
fn real(variable: &str) -> Option<Binary> {
    let path = PathBuf::from(std::env::var_os(variable).filter(|v| !v.is_empty())?);
    let said = Command::new(&path).arg("--version").output().expect("the binary runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let is_version = |w: &&str| w.starts_with('v') && w[1..].starts_with(|c: char| c.is_ascii_digit());
    let version = said.split_whitespace().find(is_version).expect("its version").to_string();
    Some(Binary { path, version })
}

fn is_real() -> bool {
    real("WINDLASS_TEST_K3S").is_some()
}

/// The stand-in as a version, linked statically: a node may have an older C library than this machine.
fn stand_in(version: &str) -> Binary {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (dir, built) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder for the stand-in");
        let out = dir.path().join("stand-in");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in/k3s.rs");
        let rustc = std::env::var_os("CARGO").map_or("rustc".into(), |c| Path::new(&c).with_file_name("rustc"));
        let rustc = if rustc.is_file() { rustc } else { "rustc".into() };
        let done = Command::new(rustc)
            .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
            .args([&out, &source])
            .output()
            .expect("rustc");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        (dir, out)
    });
    let path = dir.path().join(format!("k3s-{version}"));
    if !path.exists() {
        let mut bytes = fs::read(built).expect("the stand-in");
        bytes.extend_from_slice(format!("{MARK}{version}\n").as_bytes());
        fs::write(&path, bytes).expect("a version of it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    Binary { path, version: version.to_string() }
}

fn first_version() -> Binary {
    real("WINDLASS_TEST_K3S").unwrap_or_else(|| stand_in("v1.35.4+k3s1"))
}

fn next_version() -> Option<Binary> {
    match is_real() {
        true => real("WINDLASS_TEST_K3S_NEXT"),
        false => Some(stand_in("v1.36.2+k3s1")),
    }
}

// ------------------------------------------------------------------------------------------------------ the cluster

struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn new(kind: &str, servers: &[&str], agents: &[&str]) -> Self {
        let c = Cluster { lab: Lab::new(kind, servers.len() + agents.len()) };
        println!("{}", if is_real() { "a real binary, named by WINDLASS_TEST_K3S" } else { "a stand-in, not K3s" });
        c.groups(servers, agents);
        let more = match is_real() {
            // No image can be pulled, so nothing that needs one is asked for.
            true => {
                "k3s_ready_timeout: 600\n\
                 k3s_server_config: {disable: [coredns, traefik, metrics-server, local-storage, servicelb]}\n"
            }
            false => "k3s_ready_timeout: 120\n",
        };
        let first = first_version();
        c.lab.write(
            "group_vars/all/main.yml",
            &format!(
                "k3s_airgap_dir: {}\n{more}base_timezone: ''\npreflight_ignore: [cgroup_v1]\n",
                c.lab.path().join("release").display()
            ),
        );
        c.release(&first);
        c
    }

    fn groups(&self, servers: &[&str], agents: &[&str]) {
        let hosts = |names: &[&str]| names.iter().map(|n| format!("{n}: , ")).collect::<String>();
        self.lab.write(
            "groups.yml",
            &format!(
                "all:\n  children:\n    k3s_server: {{hosts: {{{}}}}}\n    k3s_agent: {{hosts: {{{}}}}}\n    \
                 k3s_cluster: {{children: {{k3s_server: , k3s_agent: }}}}\n",
                hosts(servers),
                hosts(agents)
            ),
        );
    }

    /// What is to be installed from now on.
    fn release(&self, binary: &Binary) {
        let dir = self.lab.path().join("release");
        fs::create_dir_all(&dir).expect("a folder");
        fs::copy(&binary.path, dir.join("k3s")).expect("the binary");
        let sum = Command::new("sha256sum").arg("k3s").current_dir(&dir).output().expect("sha256sum");
        for architecture in ["amd64", "arm64"] {
            fs::write(dir.join(format!("sha256sum-{architecture}.txt")), &sum.stdout).expect("the sums");
        }
        self.lab.write("group_vars/all/version.yml", &format!("k3s_version: {}\n", binary.version));
    }

    fn apply(&self, playbook: &str, args: &[&str]) -> Ran {
        self.lab.apply(&format!("playbooks/{playbook}.yml"), args)
    }

    /// Nothing is to be done, and nothing was: neither by an apply nor, by its word, by a plan. No service began anew.
    #[track_caller]
    fn is_converged(&self) {
        let before = self.services();
        self.apply("k3s", &[]).done().changes(&[]);
        self.lab.plan("playbooks/k3s.yml", &[]).done();
        assert_eq!(self.services(), before, "a service was started anew");
    }

    /// Each node's main process.
    fn services(&self) -> Vec<String> {
        let show = "systemctl show -P MainPID k3s; systemctl show -P MainPID k3s-agent";
        self.lab.nodes().map(|n| format!("{}: {}", n.name, n.run(show).replace('\n', " "))).collect()
    }

    /// Name, status and version of all nodes, as a server says them.
    fn nodes(&self, server: &str) -> Vec<String> {
        let all = self.lab.node(server).run("k3s kubectl get nodes --no-headers");
        let mut all: Vec<String> = all
            .lines()
            .map(|l| {
                let w: Vec<&str> = l.split_whitespace().collect();
                format!("{} {} {}", w[0], w[1], w[4])
            })
            .collect();
        all.sort();
        all
    }

    #[track_caller]
    fn has(&self, server: &str, nodes: &[&str], version: &str) {
        let wanted: Vec<String> = nodes.iter().map(|n| format!("{n} Ready {version}")).collect();
        assert_eq!(self.nodes(server), wanted);
    }

    /// A client that asks the API all the while, at least five times a second where the answer is quick. It stays with the
    /// server that answered last and else tries the next, as whoever stands behind a balancer with checks does. (An agent's own
    /// way to the API ends when the agent is started anew: that would be its gap, not the API's.)
    fn poll<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let servers: Vec<String> = SERVERS.iter().map(|n| self.lab.node(n).address.to_string()).collect();
        let ask = format!(
            "a=/var/lib/rancher/k3s/agent; last=/run/windlass-test-asked; \
             for s in $(cat $last 2>/dev/null) {}; do \
               timeout 2 k3s kubectl --kubeconfig /dev/null --server https://$s:6443 --request-timeout=1s \
                 --certificate-authority $a/server-ca.crt --client-certificate $a/client-kubelet.crt \
                 --client-key $a/client-kubelet.key get --raw /readyz | grep -q ok && echo $s >$last && exit 0; \
             done; exit 1",
            servers.join(" ")
        );
        let began = Instant::now();
        let client = self.lab.node("node4").writer(&ask);
        let done = work();
        let asked = client.stop();
        let (n, gap) = (asked.numbers.len(), asked.longest_gap);
        let rate = n as f64 / began.elapsed().as_secs_f64();
        println!("{what}: the API answered {n} times ({rate:.1} a second), longest gap {:.1} s", gap.as_secs_f64());
        // A leader's election: etcd takes 5 s of silence for the leader's end as K3s sets it, the stand-in 1.2 s.
        let most = Duration::from_secs(if is_real() { 15 } else { 3 });
        assert!(gap < most, "{what}: no answer for {gap:?}");
        assert!(is_real() || rate >= 5.0, "{what}: only {rate:.1} answers a second");
        done
    }

    /// Nothing of K3s is left on a node.
    #[track_caller]
    fn nothing_left(&self, node: &str) {
        let left = self.lab.node(node).run(
            "ls -d /etc/rancher /var/lib/rancher /var/lib/kubelet /var/lib/cni /run/k3s /run/flannel /run/k3s* \
               /usr/local/bin/k3s* /usr/local/bin/kubectl /usr/local/bin/crictl /usr/local/bin/ctr \
               /etc/systemd/system/*k3s* /etc/systemd/system/*/*k3s* 2>/dev/null
             systemctl list-units --all --plain --no-legend 'k3s*'
             pgrep -l 'k3s|containerd' 2>/dev/null || ps -e -o comm= | grep -E '^(k3s|containerd)'
             grep -E ' (/run/k3s|/var/lib/kubelet|/var/lib/rancher)' /proc/self/mounts
             ip -br link | grep -E 'cni0|flannel'; :",
        );
        assert!(left.is_empty(), "left on {node}:\n{left}");
    }

    fn secrets(&self) {
        let key = self.lab.windlass(&["vault", "keygen", "backup.key"]);
        let public = String::from_utf8(key.stdout).expect("a public key");
        let text = fs::read_to_string(self.lab.path().join("backup.key")).expect("the key");
        let identity = text.lines().find(|l| l.starts_with("AGE-SECRET-KEY-")).expect("an identity");
        self.lab.write("group_vars/all/backup.yml", &format!("k3s_backup_recipients: [{}]\n", public.trim()));
        self.lab.secrets(&format!("k3s_backup_identity: {identity}\n"));
    }

    fn newest_backup(&self) -> String {
        let dir = self.lab.path().join("backups/k3s");
        let mut all: Vec<PathBuf> = fs::read_dir(dir).expect("backups").flatten().map(|e| e.path()).collect();
        all.sort();
        all.pop().expect("a backup").display().to_string()
    }
}

const SERVERS: [&str; 3] = ["node1", "node2", "node3"];
const ALL: [&str; 5] = ["node1", "node2", "node3", "node4", "node5"];

fn from_bare_machines_to_the_end() {
    let c = Cluster::new("k3s", &SERVERS, &["node4", "node5"]);
    // The fifth machine is not of it yet.
    c.groups(&SERVERS, &["node4"]);
    let first = first_version().version;
    c.secrets();

    let up = c.apply("site", &[]).done();
    println!("3 servers and 1 agent from bare machines: {:.1} s", up.took.as_secs_f64());
    c.has("node2", &ALL[..4], &first);
    c.is_converged();
    for node in &ALL[..4] {
        let open = c.lab.node(node).run("find /etc/rancher/k3s -type f -perm /077");
        assert_eq!(open, "", "open to others on {node}");
    }
    assert_eq!(c.lab.node("node1").run("k3s-check.sh members | grep -c voter"), "3");

    // What somebody changed by hand is put right, and nothing else. The service runs with what is right: no restart.
    let before = c.services();
    c.lab.node("node2").run("echo 'debug: true' >> /etc/rancher/k3s/config.yaml");
    c.lab.node("node4").run("rm /usr/local/bin/kubectl");
    assert_eq!(c.lab.plan("playbooks/k3s.yml", &[]).code, CHANGES);
    c.apply("k3s", &[]).done().changes(&["node2: k3s_node : Settings", "node4: k3s_node : Its other names"]);
    assert_eq!(c.services(), before);
    // A setting that is new restarts the servers, one by one; agents have no part in it.
    c.poll("a setting changed on all servers", || {
        c.apply("k3s", &["-e", "{\"k3s_tls_san\": [\"api.lan\"]}"]).done();
    });
    for (was, is) in before.iter().zip(c.services()) {
        assert_eq!(*was == is, was.starts_with("node4") || was.starts_with("node5"), "{was} / {is}");
    }
    c.apply("k3s", &[]).done();

    // One more agent: the others' K3s is left alone.
    let before = c.services();
    c.groups(&SERVERS, &["node4", "node5"]);
    let scaled = c.apply("scale", &[]).done();
    println!("one more agent: {:.1} s", scaled.took.as_secs_f64());
    for line in scaled.changed().iter().filter(|l| !l.starts_with("node5")) {
        assert!(!line.contains("k3s_"), "{line}");
    }
    c.has("node1", &ALL, &first);
    assert_eq!(c.services()[..4], before[..4]);
    c.apply("verify", &[]).done();
    c.apply("status", &[]).done().says("node5");

    let restarted = c.poll("a rolling restart", || c.apply("restart", &[]).done());
    println!("rolling restart of 5 nodes: {:.1} s", restarted.took.as_secs_f64());
    for (was, is) in before.iter().zip(c.services()) {
        assert_ne!(*was, is, "not started anew");
    }

    // A new token: the old one opens nothing any more.
    let old = c.lab.node("node1").run("cat /etc/rancher/k3s/token");
    if !is_real() {
        c.apply("rotate_token", &[]).done();
        assert_ne!(c.lab.node("node3").run("cat /var/lib/rancher/k3s/server/token"), old);
        c.is_converged();
    }

    // An upgrade, which first fails on the first server, and leaves it as it was.
    if let Some(next) = next_version() {
        if !is_real() {
            c.apply("upgrade", &["-e", "k3s_version=v1.38.0+k3s1"]).exits(FAILED).says("skips a minor version");
            c.release(&stand_in("v1.36.2+broken"));
            c.apply("upgrade", &[]).exits(FAILED).says("this version of the stand-in never starts");
            c.has("node1", &ALL, &first);
        }
        c.release(&next);
        c.apply("k3s", &[]).exits(FAILED).says("playbooks/upgrade.yml");
        let upgraded = c.poll("an upgrade", || c.apply("upgrade", &[]).done());
        println!("upgrade of 5 nodes: {:.1} s", upgraded.took.as_secs_f64());
        c.has("node1", &ALL, &next.version);
        c.apply("upgrade", &[]).done().changes(&[]);
        c.is_converged();
    }
    let version = next_version().map_or(first, |n| n.version);

    // A backup, and what was there when it was made, on machines that are new.
    c.lab.node("node1").run("k3s kubectl create namespace before-backup");
    c.apply("backup", &[]).done();
    c.lab.node("node1").run("k3s kubectl create namespace after-backup");
    let backup = c.newest_backup();
    let bytes = fs::read(&backup).expect("the backup");
    assert!(bytes.starts_with(b"age-encryption.org/v1"));
    let restore = format!("k3s_restore={backup}");
    let restored = c.apply("restore", &["-e", &restore, "-e", "confirm=k3s"]).done();
    println!("restore of 3 servers in place: {:.1} s", restored.took.as_secs_f64());
    let namespaces = c.lab.node("node3").run("k3s kubectl get namespaces");
    assert!(namespaces.contains("before-backup") && !namespaces.contains("after-backup"), "{namespaces}");
    c.has("node3", &ALL, &version);
    c.is_converged();

    // One server and one agent leave.
    c.apply("remove_node", &["-e", "{\"k3s_remove\": [\"node3\", \"node5\"]}", "-e", "confirm=no"]).exits(REFUSED);
    let removed =
        c.apply("remove_node", &["-e", "{\"k3s_remove\": [\"node3\", \"node5\"]}", "-e", "confirm=node3,node5"]).done();
    println!("a server and an agent removed: {:.1} s", removed.took.as_secs_f64());
    c.has("node1", &["node1", "node2", "node4"], &version);
    assert_eq!(c.lab.node("node2").run("k3s-check.sh members | wc -l"), "2");
    c.nothing_left("node3");
    c.nothing_left("node5");
    // And come back.
    c.apply("k3s", &[]).done();
    c.has("node3", &ALL, &version);

    // The first server's machine is replaced by a new one: it joins the others, and begins nothing of its own.
    if !is_real() {
        c.apply(
            "remove_node",
            &["-e", "{\"k3s_remove\": [\"node1\"]}", "-e", "confirm=node1", "-e", "k3s_control=node2"],
        )
        .done();
        c.apply("k3s", &["-e", "k3s_control=node2"]).done();
        c.has("node2", &ALL, &version);
        assert_eq!(c.lab.node("node1").run("k3s-check.sh members | grep -c voter"), "3");
        c.is_converged();
    }

    c.apply("reset", &["-e", "confirm=other"]).exits(REFUSED).says("is not the name of this cluster");
    c.has("node2", &ALL, &version);
    c.apply("reset", &["-e", "confirm=k3s"]).done();
    ALL.iter().for_each(|n| c.nothing_left(n));
    c.apply("reset", &["-e", "confirm=k3s"]).done().changes(&[]);
}

fn a_single_server() {
    let c = Cluster::new("one", &["node1"], &["node2"]);
    let version = first_version().version;
    c.secrets();
    let up = c.apply("k3s", &[]).done();
    println!("a single server and an agent: {:.1} s", up.took.as_secs_f64());
    c.has("node1", &["node1", "node2"], &version);
    c.lab.node("node1").run("test -e /var/lib/rancher/k3s/server/db/state.db");
    c.is_converged();

    // Its state is a file: that is what is kept, and what comes back on a new machine.
    c.lab.node("node1").run("k3s kubectl create namespace kept");
    c.apply("backup", &[]).done();
    let restore = format!("k3s_restore={}", c.newest_backup());
    c.apply("reset", &["-e", "confirm=k3s"]).done();
    c.nothing_left("node1");
    c.apply("restore", &["-e", &restore, "-e", "confirm=k3s"]).done();
    c.lab.node("node1").run("k3s kubectl get namespace kept");
    c.has("node1", &["node1", "node2"], &version);
    c.is_converged();

    if is_real() {
        return;
    }
    // What goes wrong is said with what is known of it.
    c.lab.node("node2").run("echo wrong > /etc/rancher/k3s/token.other; systemctl stop k3s-agent");
    c.lab
        .node("node2")
        .run("sed -i s,^token-file:.*,token-file:\\ /etc/rancher/k3s/token.other, /etc/rancher/k3s/config.yaml");
    let wrong =
        ["-e", "{\"k3s_agent_config\": {\"token-file\": \"/etc/rancher/k3s/token.other\"}}", "--limit", "node2"];
    c.apply("k3s", &wrong).exits(FAILED).says("The token is wrong: the servers refuse it");
    c.apply("k3s", &["--limit", "node2"]).done();

    c.apply("reset", &["-e", "confirm=k3s"]).done();
    c.lab.node("node1").run("systemd-run -q --unit=squatter /usr/sbin/sshd -D -p 6443 -o PidFile=none");
    c.lab.node("node1").until(10, "ss -Hltn 'sport = :6443' | grep -q .");
    c.apply("k3s", &["--limit", "node1"]).exits(FAILED).says("Another program has a port that K3s needs");
    c.lab.node("node1").run("systemctl stop squatter");
    c.apply("k3s", &[]).done();
    c.has("node1", &["node1", "node2"], &version);
}

/// Whatever is going on when the controller dies: the same again comes to the same end.
fn killed_in_the_middle() {
    let c = Cluster::new("kill", &SERVERS, &["node4", "node5"]);
    c.secrets();
    let mut version = first_version().version;
    let mut moments = Moments::new();
    let killed = |moments: &mut Moments, playbook: &str, args: &[&str], about: f64| {
        let after = moments.within(about * if is_real() { 10.0 } else { 1.0 });
        let path = format!("playbooks/{playbook}.yml");
        let killed = c.lab.start("apply", &path, args).kill_after(after);
        println!("{playbook}: {} after {:.1} s", if killed { "killed" } else { "done" }, after.as_secs_f64());
        // What a killed run had begun on a node ends by itself; until then the node is its.
        let began = Instant::now();
        loop {
            let again = c.apply(playbook, args);
            let busy = again.code == 4 && began.elapsed() < Duration::from_secs(if is_real() { 400 } else { 60 });
            if !busy {
                break again.done();
            }
        }
    };

    killed(&mut moments, "k3s", &[], 5.0);
    c.has("node1", &ALL, &version);
    c.is_converged();
    killed(&mut moments, "restart", &[], 5.0);
    c.has("node1", &ALL, &version);
    if !is_real() {
        killed(&mut moments, "rotate_token", &[], 6.0);
        c.is_converged();
    }
    if let Some(next) = next_version() {
        c.release(&next);
        version = next.version;
        killed(&mut moments, "upgrade", &[], 7.0);
        c.has("node2", &ALL, &version);
        c.is_converged();
    }
    c.lab.node("node1").run("k3s kubectl create namespace kept");
    c.apply("backup", &[]).done();
    let restore = format!("k3s_restore={}", c.newest_backup());
    killed(&mut moments, "restore", &["-e", &restore, "-e", "confirm=k3s"], 5.0);
    c.lab.node("node2").run("k3s kubectl get namespace kept");
    c.has("node2", &ALL, &version);
    c.is_converged();
    killed(&mut moments, "remove_node", &["-e", "{\"k3s_remove\": [\"node3\"]}", "-e", "confirm=node3"], 1.5);
    c.has("node1", &["node1", "node2", "node4", "node5"], &version);
    c.nothing_left("node3");
    killed(&mut moments, "reset", &["-e", "confirm=k3s"], 1.5);
    ALL.iter().for_each(|n| c.nothing_left(n));
}

/// Moments by chance; the seed is told, so that a run can be repeated (xorshift).
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let given = std::env::var("WINDLASS_TEST_SEED").ok().and_then(|s| s.parse().ok());
        let now =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        let seed: u64 = given.unwrap_or_else(now).max(1);
        println!("WINDLASS_TEST_SEED={seed}");
        Moments(seed)
    }
    fn within(&mut self, seconds: f64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_secs_f64(seconds * ((self.0 >> 11) as f64 / (1u64 << 53) as f64))
    }
}
