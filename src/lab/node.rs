//! One node: its disk, starting and stopping it, and whether it answers.
//!
//! In a node's directory: `root` (the mounted overlay), `upper` and `work` (its own part of it), `varlib` (its `/var/lib`, on
//! a real file system because container runtimes refuse an overlay below theirs), `run` (the script that keeps nspawn
//! running), `log` (what the node's console said). The node's identity (machine id, host key) is in `NODE.id` beside it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::image::Image;
use super::lock::Locked;
use super::state::{Node, State};
use super::{cgroup, debs, handout, network, paths, process, tool};
use crate::error::{Error, Result};

/// What nspawn does not say about itself: without these, container runtimes and a kubelet do not run in a node.
const ENVIRONMENT: &[(&str, &str)] = &[("SYSTEMD_SECCOMP", "0"), ("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1")];

/// nspawn's exit status for "the node rebooted, start me again".
const REBOOT: u32 = 133;

/// Users the lab's key opens, with their ids and homes in the image.
const USERS: &[(&str, u32)] = &[("root", 0), ("home/deploy", 1000), ("home/sudoer", 1001)];

/// Where a node's downloaded packages are, seen from this machine.
pub fn archives(node: &Path) -> PathBuf {
    node.join("upper/var/cache/apt/archives")
}

/// The names of a lab's nodes by everything there is of them: directories and cgroups.
pub fn all(lab: &str) -> Result<Vec<String>> {
    let directory = paths::lab(lab);
    let mut names: BTreeSet<String> = cgroup::children(&cgroup::lab(lab)).into_iter().collect();
    match fs::read_dir(&directory) {
        Ok(entries) => names.extend(
            entries
                .flatten()
                .filter(|e| e.path().is_dir())
                .filter_map(|e| e.file_name().into_string().ok())
                .map(|name| name.split('.').next().unwrap_or(&name).to_string()),
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(tool::at("read", &directory)(e)),
    }
    Ok(names.into_iter().collect())
}

/// Makes a node's disk, whole or not at all; one that is there stays.
pub fn create(state: &State, lock: &Locked, node: &Node, image: &Image, key: &handout::Key) -> Result<()> {
    let lab = &paths::lab(&state.name);
    let directory = lab.join(&node.name);
    if directory.is_dir() {
        return Ok(());
    }
    let fresh = lab.join(format!("{}.new", node.name));
    paths::remove_tree(&fresh)?;
    let upper = fresh.join("upper");
    for at in [fresh.join("root"), fresh.join("work"), fresh.join("varlib"), archives(&fresh)] {
        fs::create_dir_all(&at).map_err(tool::at("create", &at))?;
    }
    let copy = |from: PathBuf, to: PathBuf| {
        let mut source = from.into_os_string();
        source.push("/.");
        let mut command = tool::command("cp");
        lock.hold(&mut command)?;
        tool::run(command.args(["-a", "--reflink=auto"]).arg(source).arg(to)).map(drop)
    };
    copy(image.root().join("var/lib"), fresh.join("varlib"))?;
    if let Some((apt, _)) = image.apt() {
        copy(apt.join("lists"), fresh.join("varlib/apt/lists"))?;
        // apt replaces these as a whole, never in place, so all nodes can share them.
        for cache in ["pkgcache.bin", "srcpkgcache.bin"] {
            let (from, to) = (apt.join("cache").join(cache), upper.join("var/cache/apt").join(cache));
            if from.exists() && fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).map_err(tool::at("copy", &from))?;
            }
        }
    }
    debs::seed(&archives(&fresh));

    let identity = identity(lab, &node.name)?;
    let put = |path: &str, content: &str, mode| tool::write(&upper.join(path), content, mode);
    put("etc/hostname", &format!("{}\n", node.name), 0o644)?;
    put("etc/hosts", &hosts_file(node), 0o644)?;
    put("etc/resolv.conf", &network::resolv_conf(), 0o644)?;
    put("etc/machine-id", &identity.machine_id, 0o444)?;
    put("etc/ssh/ssh_host_ed25519_key", &identity.host_key, 0o600)?;
    put("etc/ssh/ssh_host_ed25519_key.pub", &identity.host_key_public, 0o644)?;
    let address = format!("ADDRESS={}/24\nGATEWAY={}\nMTU={}\n", node.address, state.subnet.gateway(), network::mtu());
    put("etc/windlass-lab/address", &address, 0o644)?;
    for (home, id) in USERS {
        let keys = upper.join(home).join(".ssh/authorized_keys");
        tool::write(&keys, &key.public, 0o600)?;
        let ssh = upper.join(home).join(".ssh");
        for (path, mode) in [(upper.join(home), 0o700), (ssh, 0o700), (keys, 0o600)] {
            chown(&path, Some(*id), Some(*id)).map_err(tool::at("chown", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(tool::at("chmod", &path))?;
        }
    }
    // Directories made above hide the image's, so they get its modes and owners.
    for made in ["", "etc", "etc/ssh", "home", "var", "var/cache", "var/cache/apt", "var/cache/apt/archives"] {
        let (from, to) = (image.root().join(made), upper.join(made));
        let reference = |to: &str| format!("--reference={to}");
        let from = from.to_string_lossy().into_owned();
        tool::run(tool::command("chown").arg(reference(&from)).arg(&to))?;
        tool::run(tool::command("chmod").arg(reference(&from)).arg(&to))?;
    }
    fs::rename(&fresh, &directory).map_err(tool::at("rename", &fresh))
}

/// Removes a node's disk; its identity stays.
pub fn wipe(directory: &Path) -> Result<()> {
    paths::remove_tree(directory)
}

fn hosts_file(node: &Node) -> String {
    format!(
        "127.0.0.1 localhost\n{} {}\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
        node.address, node.name
    )
}

/// What makes a node itself, also after a reset.
pub struct Identity {
    machine_id: String,
    host_key: String,
    pub host_key_public: String,
}

/// A node's identity, made at the first call.
pub fn identity(lab: &Path, node: &str) -> Result<Identity> {
    let directory = lab.join(format!("{node}.id"));
    if !directory.is_dir() {
        let fresh = lab.join(format!("{node}.newid"));
        paths::remove_tree(&fresh)?;
        fs::create_dir_all(&fresh).map_err(tool::at("create", &fresh))?;
        handout::generate_key(&fresh.join("host_key"), &format!("root@{node}"))?;
        let mut random = [0u8; 16];
        let source = Path::new("/dev/urandom");
        fs::File::open(source).and_then(|mut f| f.read_exact(&mut random)).map_err(tool::at("read", source))?;
        let id: String = random.iter().map(|b| format!("{b:02x}")).collect();
        tool::write(&fresh.join("machine-id"), &format!("{id}\n"), 0o444)?;
        fs::rename(&fresh, &directory).map_err(tool::at("rename", &fresh))?;
    }
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).map_err(tool::at("read", &path))
    };
    Ok(Identity {
        machine_id: read("machine-id")?,
        host_key: read("host_key")?,
        host_key_public: read("host_key.pub")?,
    })
}

/// Mounts a node's disk and starts it, unless it runs already. Does not wait for it.
pub fn start(state: &State, lab: &Path, node: &Node) -> Result<()> {
    let directory = lab.join(&node.name);
    if running(&directory) {
        return Ok(());
    }
    // Whatever an earlier start left half dead.
    stop(&state.name, &node.name)?;
    mount(&state.image.join("root"), &directory)?;

    let nspawn = nspawn(state, &directory, node);
    let log = directory.join("log");
    let out = fs::File::create(&log).map_err(tool::at("create", &log))?;
    let run = directory.join("run");
    let mut command;
    if cgroup::systemd() {
        tool::write(&run, &format!("exec {nspawn}\n"), 0o755)?;
        command = tool::command("systemd-run");
        command.arg(format!("--unit={}", cgroup::unit(&state.name, &node.name))).arg("--slice=machine.slice");
        command.args(["--quiet", "--collect", "--property=Delegate=yes", "--property=KillMode=mixed"]);
        command.args(["--property=TasksMax=infinity", &format!("--property=RestartForceExitStatus={REBOOT}")]);
        command.arg(format!("--property=SuccessExitStatus={REBOOT}"));
        command.arg(format!("--property=StandardOutput=append:{}", log.display()));
        command.arg(format!("--property=StandardError=append:{}", log.display()));
        tool::run(command.arg("sh").arg(&run))?;
    } else {
        let cgroups = cgroup::make(&cgroup::node(&state.name, &node.name))?;
        let enter: String = cgroups
            .iter()
            .map(|c| format!("echo 0 >{}\n", tool::quote(&c.join("cgroup.procs").to_string_lossy())))
            .collect();
        // nspawn leaves its cgroup for a child of it, so it enters the node's anew at each start.
        let script = format!(
            "trap '' HUP\nwhile :; do\n(\nset -e\n{enter}exec {nspawn}\n)\n[ $? -eq {REBOOT} ] || exit\ndone\n"
        );
        tool::write(&run, &script, 0o755)?;
        command = tool::command("setsid");
        command.arg("sh").arg(&run).current_dir("/").stdin(Stdio::null());
        let err = out.try_clone().map_err(tool::at("open", &log))?;
        command.stdout(out).stderr(err);
        command.spawn().map_err(|e| Error::environment("cannot run setsid").because(e))?;
    }
    Ok(())
}

/// The nspawn command line, as words of `sh`.
fn nspawn(state: &State, directory: &Path, node: &Node) -> String {
    let mut words = vec!["systemd-nspawn".to_string(), "--quiet".into(), "--boot".into()];
    words.push(format!("--directory={}", directory.join("root").display()));
    words.push(format!("--machine={}", machine(&state.name, &node.name)));
    words.push(format!("--hostname={}", node.name));
    words.push(format!("--network-bridge={}", state.bridge));
    words.push(format!("--bind={}:/var/lib", escape(&directory.join("varlib"))));
    let fixed = [
        "--register=no",
        "--keep-unit",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--settings=no",
        "--console=read-only",
        "--private-users=no",
        "--capability=all",
        "--kill-signal=SIGRTMIN+3",
    ];
    words.extend(fixed.map(String::from));
    // What is built into the kernel; nspawn shows only some of /sys.
    if Path::new("/sys/module").exists() {
        words.push("--bind-ro=/sys/module".into());
    }
    if Path::new("/dev/kmsg").exists() {
        words.push("--bind=/dev/kmsg".into());
    }
    let environment: String = ENVIRONMENT.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    format!("env {environment}{}", words.iter().map(|w| tool::quote(w)).collect::<Vec<_>>().join(" "))
}

/// A path in nspawn's `--bind`, where `:` separates.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:")
}

fn mount(image: &Path, directory: &Path) -> Result<()> {
    let root = directory.join("root");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if mounts.lines().any(|l| l.split(' ').nth(1).is_some_and(|at| Path::new(at) == root)) {
        return Ok(());
    }
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    // Left by a machine that went down while the node was mounted without syncing.
    let _ = fs::remove_dir_all(work.join("work"));
    let options = format!("lowerdir={},upperdir={},workdir={}", image.display(), upper.display(), work.display());
    let try_mount = |options: &str| {
        let mut command = tool::command("mount");
        tool::run(command.args(["-t", "overlay", "windlass-lab", "-o", options]).arg(&root))
    };
    // A node need not survive this machine's crash, so its disk need not be synced; old kernels know no such option.
    try_mount(&format!("{options},volatile")).or_else(|_| try_mount(&options)).map(drop).map_err(|e| {
        e.hint(format!(
            "{} must be on a disk file system such as ext4, and have no comma or colon in its path; \
             WINDLASS_LAB_STATE and WINDLASS_LAB_CACHE move it",
            directory.display()
        ))
    })
}

/// Unmounts a node's disk.
pub fn unmount(directory: &Path) -> Result<()> {
    paths::unmount_below(directory)
}

/// Kills everything of a node at once and removes its cgroups. Its disk stays as it is.
pub fn stop(lab: &str, node: &str) -> Result<()> {
    let directory = paths::lab(lab).join(node);
    let cgroup = cgroup::node(lab, node);
    if cgroup::systemd() {
        let unit = cgroup::unit(lab, node);
        // Fails where there is no such unit, which is as good.
        let _ = tool::run(tool::command("systemctl").args(["kill", "--kill-who=all", "--signal=KILL", &unit]));
        let _ = tool::run(tool::command("systemctl").args(["stop", &unit]));
        let _ = tool::run(tool::command("systemctl").args(["reset-failed", &unit]));
    }
    for _ in 0..10 {
        // First the script that would start it again; then the node's PID 1, with which the kernel kills all the rest;
        // nspawn then ends by itself and cleans up.
        let scripts = process::with_argument(&directory.join("run"));
        process::kill(&scripts);
        let spawners = spawners(&directory);
        let inside = cgroup::processes(&cgroup);
        let inits: Vec<u32> = inside.iter().copied().filter(|pid| process::is_init(*pid)).collect();
        process::kill(&inits);
        if !inits.is_empty() {
            process::gone(&spawners, Duration::from_secs(3));
        }
        process::kill(&spawners);
        process::kill(&inside);
        let all: Vec<u32> = [scripts, spawners, inside].concat();
        let gone = process::gone(&all, Duration::from_secs(5));
        if gone && (all.is_empty() || none_left(&directory, &cgroup)) {
            if !cgroup::systemd() {
                cgroup::remove(&cgroup);
            }
            remove_nspawn_traces(lab, node, &directory);
            return Ok(());
        }
    }
    Err(Error::environment(format!("cannot stop {node} of lab {lab}: its processes do not die"))
        .hint(format!("see them with: ps -ef | grep {}", directory.display())))
}

/// What an nspawn that was killed leaves in `/run`; one that ended by itself has removed it.
fn remove_nspawn_traces(lab: &str, node: &str, directory: &Path) {
    let run = Path::new("/run/systemd/nspawn");
    paths::remove_empty(&run.join("propagate").join(machine(lab, node)));
    if let Ok(root) = fs::metadata(directory.join("root")) {
        let _ = fs::remove_file(run.join("locks").join(format!("inode-{}:{}", root.dev(), root.ino())));
    }
}

/// nspawn's name for a node.
fn machine(lab: &str, node: &str) -> String {
    format!("wl-{lab}-{node}")
}

fn spawners(directory: &Path) -> Vec<u32> {
    let mut word = std::ffi::OsString::from("--directory=");
    word.push(directory.join("root"));
    process::with_argument(Path::new(&word))
}

/// Whether nspawn, or the script that starts it again, runs for a node.
fn running(directory: &Path) -> bool {
    !process::with_argument(&directory.join("run")).is_empty() || !spawners(directory).is_empty()
}

fn none_left(directory: &Path, cgroup: &Path) -> bool {
    !running(directory) && !cgroup::processes(cgroup).iter().any(|pid| process::alive(*pid))
}

/// A running node's PID 1 by this machine's numbers.
pub fn pid(lab: &str, node: &str) -> Option<u32> {
    let mut inside = cgroup::processes(&cgroup::node(lab, node)).into_iter();
    inside.find(|pid| process::is_init(*pid) && process::alive(*pid))
}

/// Whether a node's sshd answers with its greeting.
pub fn answers(address: Ipv4Addr) -> bool {
    let mut greeting = [0u8; 4];
    TcpStream::connect_timeout(&SocketAddr::from((address, 22)), Duration::from_millis(300))
        .and_then(|mut s| {
            s.set_read_timeout(Some(Duration::from_secs(2)))?;
            s.read_exact(&mut greeting)
        })
        .is_ok_and(|()| &greeting == b"SSH-")
}

/// Waits until a node's sshd answers; fails at once if the node ends instead.
pub fn wait_ready(lab: &Path, node: &Node, patience: Duration) -> Result<()> {
    let directory = lab.join(&node.name);
    let log = directory.join("log");
    let failed = |what: &str| {
        let said = fs::read(&log).unwrap_or_default();
        let said = tool::tail(&String::from_utf8_lossy(&said), 8);
        Error::environment(format!("{} {what}; its console said:\n{said}", node.name))
            .hint(format!("{}", log.display()))
    };
    let began = Instant::now();
    while !answers(node.address) {
        // On a systemd machine the unit may take a moment to appear.
        if !running(&directory) && began.elapsed() > Duration::from_secs(2) {
            return Err(failed("ended while booting"));
        }
        if began.elapsed() > patience {
            return Err(failed(&format!("does not answer SSH after {} s", patience.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
