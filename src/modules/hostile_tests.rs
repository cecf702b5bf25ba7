//! Text that would break out of careless shell, in every text parameter of every module: what a module asks and does is
//! run in a place where nothing but a break-out can leave a mark.

use super::kit::*;
use super::*;
use crate::host::Request;
use crate::probe::{Content, EntryKind, GroupState, PackageState, PathState, SysctlState, UnitState, UserState};
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

/// Every module that speaks to a host, with all its text parameters set.
pub(crate) fn table() -> Vec<(&'static str, Value)> {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFialEnvO0r1vq0OFJ+UmdYAUxlaO1lEmUYmML+eQyEV me";
    vec![
        ("apt", json!({"name": ["redis", "curl=1.2"], "default_release": "stable", "update_cache": true})),
        ("apt", json!({"name": "redis", "state": "absent", "purge": true, "autoremove": true})),
        ("apt", json!({"deb": "/srv/x.deb"})),
        (
            "authorized_key",
            json!({"user": "deploy", "key": key, "comment": "c", "key_options": "no-pty", "path": "/srv/keys"}),
        ),
        ("authorized_key", json!({"user": "deploy", "key": key, "state": "absent"})),
        ("command", json!({"cmd": "echo x", "chdir": "/srv", "creates": "/srv/c", "removes": "/srv/r", "stdin": "in"})),
        ("command", json!({"argv": ["echo", "x"], "expand_argument_vars": false})),
        ("command", json!({"argv": ["echo", "x"]})),
        (
            "copy",
            json!({"content": "x", "dest": "/srv/f", "owner": "deploy", "group": "deploy", "mode": "0600", "backup": true}),
        ),
        ("copy", json!({"src": "/srv/from", "remote_src": true, "dest": "/srv/f", "owner": "deploy"})),
        ("template", json!({"src": "t", "dest": "/srv/f", "owner": "deploy", "group": "deploy"})),
        (
            "file",
            json!({"path": "/srv/d", "state": "directory", "owner": "deploy", "group": "deploy", "recurse": true}),
        ),
        ("file", json!({"path": "/srv/l", "state": "link", "src": "/srv/to", "force": true})),
        ("file", json!({"path": "/srv/l", "state": "hard", "src": "/srv/to"})),
        ("file", json!({"path": "/srv/l", "state": "touch", "modification_time": "now", "mode": "u+x"})),
        ("file", json!({"path": "/srv/l", "state": "absent"})),
        ("group", json!({"name": "web", "system": true})),
        ("group", json!({"name": "web", "state": "absent"})),
        (
            "get_url",
            json!({
                "url": "https://host/tool", "dest": "/srv/t", "checksum": "sha512:".to_string() + &"ab".repeat(64), "owner": "deploy",
                "group": "deploy", "mode": "0755", "headers": {"X-Token": "t"}, "url_username": "me", "url_password": "pw",
                "http_agent": "agent", "via": "host", "backup": true,
            }),
        ),
        ("get_url", json!({"url": "https://host/tool", "dest": "/srv/t", "owner": "deploy", "force": true})),
        (
            "unarchive",
            json!({
                "src": "/srv/x.tgz", "dest": "/srv/d", "remote_src": true, "owner": "deploy", "group": "deploy", "mode": "u=rwX",
                "extra_opts": ["--strip-components=1"], "include": ["a"], "exclude": ["b"],
            }),
        ),
        ("unarchive", json!({"src": "https://host/x.zip", "dest": "/srv/d", "include": ["a"], "exclude": ["b"]})),
        (
            "archive",
            json!({"path": ["/srv/a*", "/srv/b"], "dest": "/opt/x.tgz", "exclude_path": ["/srv/b/c"], "exclusion_patterns": ["*.log"], "owner": "deploy"}),
        ),
        ("archive", json!({"path": ["/srv/b"], "dest": "/opt/x.tgz", "remove": true})),
        ("fetch", json!({"src": "/srv/f", "dest": "got", "flat": true})),
        ("slurp", json!({"src": "/srv/f"})),
        ("tempfile", json!({"path": "/srv", "prefix": "p", "suffix": "s"})),
        ("hostname", json!({"name": "node-1"})),
        (
            "lineinfile",
            json!({"path": "/srv/c", "line": "a", "regexp": "^a", "owner": "deploy", "create": true, "backup": true}),
        ),
        (
            "blockinfile",
            json!({"path": "/srv/c", "block": "a", "marker": "# {mark} m", "owner": "deploy", "create": true, "backup": true}),
        ),
        ("replace", json!({"path": "/srv/c", "regexp": "old", "replace": "new", "after": "o", "group": "deploy"})),
        ("ini_file", json!({"path": "/srv/c", "section": "s", "option": "o", "value": "v", "owner": "deploy"})),
        (
            "apk",
            json!({"name": ["curl=1", "bash"], "state": "latest", "repository": ["http://r"], "update_cache": true}),
        ),
        ("apk", json!({"name": ["curl=1", "bash"], "state": "absent"})),
        ("apt_repository", json!({"repo": "deb [a=b] http://a.b/c d main", "filename": "mine"})),
        ("apt_repository", json!({"repo": "deb http://a.b/c d main", "state": "absent"})),
        (
            "deb822_repository",
            json!({"name": "x", "uris": ["http://a"], "suites": ["s"], "components": ["main"], "signed_by": "https://h/k"}),
        ),
        ("deb822_repository", json!({"name": "x", "state": "absent"})),
        (
            "dnf",
            json!({"name": ["a", "/srv/b.rpm"], "state": "latest", "enablerepo": ["r"], "exclude": ["e"], "conf_file": "/c", "releasever": "9"}),
        ),
        ("dnf", json!({"name": ["a"], "state": "absent"})),
        ("firewalld", json!({"state": "enabled", "permanent": true, "zone": "public", "rich_rule": "rule accept"})),
        ("firewalld", json!({"state": "enabled", "interface": "eth0", "zone": "public", "immediate": true})),
        ("firewalld", json!({"state": "present", "zone": "mine", "permanent": true})),
        (
            "git",
            json!({
                "repo": "https://h/r.git", "dest": "/srv/r", "version": "main", "remote": "origin", "refspec": "a:b", "reference": "/srv/ref",
                "key_file": "/srv/k", "ssh_opts": "-p 22", "executable": "/usr/bin/git", "force": true, "verify_commit": true, "depth": 1,
            }),
        ),
        ("git", json!({"repo": "https://h/r.git", "clone": false})),
        (
            "iptables",
            json!({
                "chain": "INPUT", "protocol": "tcp", "source": "1.2.3.4", "in_interface": "eth0", "match": ["state"], "jump": "LOG",
                "log_prefix": "p", "comment": "c", "destination_ports": ["80"], "chain_management": true, "uid_owner": "root",
            }),
        ),
        ("iptables", json!({"chain": "INPUT", "policy": "DROP"})),
        ("known_hosts", json!({"name": "h", "key": format!("h {}", key.trim_end_matches(" me")), "path": "/srv/kh"})),
        ("locale_gen", json!({"name": ["de_DE.UTF-8"]})),
        (
            "pacman",
            json!({"name": ["a"], "state": "latest", "extra_args": "--x", "update_cache": true, "executable": "pacman"}),
        ),
        ("pacman", json!({"name": ["a"], "state": "absent", "extra_args": "--x"})),
        (
            "script",
            json!({"cmd": "s.sh a", "chdir": "/srv", "creates": "/srv/c", "removes": "/srv/r", "executable": "perl -w"}),
        ),
        ("seboolean", json!({"name": "x", "state": true, "persistent": true})),
        ("selinux", json!({"state": "permissive", "policy": "targeted", "configfile": "/srv/c"})),
        (
            "ufw",
            json!({"rule": "allow", "direction": "in", "interface": "eth0", "from_ip": "10.0.0.1", "to_port": "22", "name": "app", "comment": "c"}),
        ),
        ("zypper", json!({"name": ["a"], "extra_args": "--x", "extra_args_precommand": "--y", "update_cache": true})),
        ("modprobe", json!({"name": "overlay", "params": "a=1", "persistent": "present"})),
        ("modprobe", json!({"name": "overlay", "state": "absent", "persistent": "absent"})),
        ("alternatives", json!({"name": "n", "path": "/srv/a", "link": "/srv/l", "priority": 5})),
        ("cron", json!({"name": "n", "job": "j", "user": "deploy", "backup": true})),
        ("cron", json!({"name": "n", "job": "j", "user": "deploy", "cron_file": "/srv/cron"})),
        ("find", json!({"paths": ["/srv/a"], "patterns": ["*.log"], "contains": "x", "recurse": true})),
        (
            "mount",
            json!({"path": "/srv/m", "src": "/srv/s", "fstype": "ext4", "opts": "ro", "state": "mounted", "fstab": "/srv/fstab"}),
        ),
        ("mount", json!({"path": "/srv/m", "state": "absent", "fstab": "/srv/fstab"})),
        ("mount", json!({"path": "/srv/m", "src": "/srv/s", "fstype": "none", "opts": "bind", "state": "ephemeral"})),
        ("getent", json!({"database": "passwd", "key": "root", "service": "files", "split": ":"})),
        ("package", json!({"name": ["redis", "curl=1.2"], "state": "present"})),
        ("package_facts", json!({})),
        ("service_facts", json!({})),
        ("service", json!({"name": "cron", "state": "restarted", "enabled": true})),
        ("service", json!({"name": "cron", "state": "started", "use": "openrc", "runlevel": "boot", "sleep": 1})),
        (
            "systemd",
            json!({"name": "cron.service", "state": "started", "enabled": true, "masked": false, "daemon_reload": true}),
        ),
        ("systemd", json!({"name": "cron.service", "state": "stopped", "enabled": false})),
        ("stat", json!({"path": "/srv/s", "checksum_algorithm": "sha256"})),
        (
            "sysctl",
            json!({"name": "net.ipv4.ip_forward", "value": "1", "sysctl_file": "/etc/sysctl.d/x.conf", "sysctl_set": true}),
        ),
        ("timezone", json!({"name": "Europe/Berlin", "hwclock": "UTC"})),
        (
            "uri",
            json!({
                "url": "http://h/x", "body": {"a": "b"}, "body_format": "json", "headers": {"A": "b"}, "user": "u", "password": "p",
                "ca_path": "/srv/ca", "client_cert": "/srv/c", "client_key": "/srv/k", "unix_socket": "/srv/s", "http_agent": "w",
                "creates": "/srv/cr", "dest": "/srv/d", "owner": "deploy", "group": "deploy",
            }),
        ),
        (
            "user",
            json!({
                "name": "ann", "comment": "Ann", "home": "/srv/ann", "shell": "/bin/sh", "group": "web", "groups": ["sudo"],
                "skeleton": "/etc/skel", "password": "$6$salt$hashhashhashhash", "generate_ssh_key": true, "ssh_key_file": ".ssh/k",
                "ssh_key_comment": "c", "ssh_key_type": "ed25519",
            }),
        ),
        ("user", json!({"name": "ann", "state": "absent", "remove": true, "force": true})),
        ("wait_for", json!({"path": "/srv/w", "search_regex": "ready"})),
        ("wait_for", json!({"host": "127.0.0.1", "port": 80, "timeout": 1})),
    ]
}

/// The value with each of its texts replaced in turn. What stands at the front of a path stays there.
pub(crate) fn with(value: &Value, bad: &str) -> Vec<Value> {
    match value {
        Value::String(s) if s.starts_with('/') => vec![json!(format!("{s}/{bad}")), json!(format!("{s}{bad}"))],
        Value::String(s) => vec![json!(bad), json!(format!("{s}{bad}"))],
        Value::Array(items) => {
            let each = |(i, v): (usize, &Value)| {
                let put = move |new| {
                    let mut all = items.clone();
                    all[i] = new;
                    Value::Array(all)
                };
                with(v, bad).into_iter().map(put).collect::<Vec<_>>()
            };
            items.iter().enumerate().flat_map(each).collect()
        }
        Value::Object(map) => {
            let each = |(k, v): (&String, &Value)| {
                let put = |new| {
                    let mut all = map.clone();
                    all.insert(k.clone(), new);
                    Value::Object(all)
                };
                with(v, bad).into_iter().map(put).collect::<Vec<_>>()
            };
            map.iter().flat_map(each).collect()
        }
        _ => vec![],
    }
}

/// An archive's list, as `tar` prints it.
const LISTING: &str = "-rw-r--r-- 0/0 3 2024-01-02 03:04:05 \"f\"\n";

/// A host with nothing on it, or with something wherever one looks.
fn answer(probe: &Probe, full: bool, kind: EntryKind) -> Answer {
    let some = full.then_some(());
    match probe {
        Probe::Text(_) => Answer::Text(Ok("ab".repeat(32))),
        Probe::Fetched(_) => Answer::Fetched(Ok(crate::fetch::Fetched {
            path: "/srv/cache".into(),
            size: 3,
            sha256: "cd".repeat(32),
            status: None,
        })),
        Probe::Archive(_) => Answer::Archive(Ok(LISTING.into())),
        Probe::Here(_) => Answer::Here(crate::probe::HereState::Absent),
        Probe::Path(p) => Answer::Path(PathState {
            entry: some.map(|()| entry(kind, 0o644)),
            target: some.filter(|()| kind == EntryKind::Link).map(|()| entry(EntryKind::File, 0o644)),
            link: some.filter(|()| kind == EntryKind::Link).map(|()| "/elsewhere".into()),
            canonical: p.clone(),
            denied: false,
        }),
        Probe::Sha256(_) => Answer::Sha256(some.map(|()| "ab".repeat(32))),
        Probe::Content(_) => Answer::Content(some.map_or(Content::Absent, |()| Content::Bytes(b"old\n".to_vec()))),
        Probe::Package(_) => {
            Answer::Package(PackageState { installed: full, version: "1".into(), ..Default::default() })
        }
        Probe::Unit(_) => Answer::Unit(UnitState {
            load: "loaded".into(),
            active: if full { "active" } else { "inactive" }.into(),
            file: if full { "enabled" } else { "disabled" }.into(),
            ..Default::default()
        }),
        Probe::User(n) => Answer::User(some.map(|()| UserState {
            name: n.clone(),
            uid: 1000,
            gid: 1000,
            home: format!("/home/{n}"),
            shell: "/bin/false".into(),
            ..Default::default()
        })),
        Probe::Shadow(_) => Answer::Shadow(some.map(|()| "!".into())),
        Probe::Groups => Answer::Groups(
            ["web", "sudo", "deploy"]
                .map(|n| GroupState { name: n.into(), gid: 1000, members: vec![] })
                .into_iter()
                .collect(),
        ),
        Probe::Sysctl(_) => Answer::Sysctl(some.map_or(SysctlState::Absent, |()| SysctlState::Value("0".into()))),
        Probe::KernelModule(_) => Answer::KernelModule(Default::default()),
        Probe::Mounts => Answer::Mounts(vec![]),
        Probe::Hostname => Answer::Hostname { running: "old".into(), stored: Some("old".into()) },
        Probe::Timezone => Answer::Timezone(Some("UTC".into())),
        Probe::Facts => Answer::Facts(json!({})),
        Probe::Script(_) => Answer::Script(Output { rc: i32::from(!full), ..Default::default() }),
    }
}

/// Everything a module would send: what it asks, and what it does on a bare host and on a full one.
fn scripts(module: &dyn Bound) -> Vec<String> {
    let mut all = vec![];
    let hosts =
        [(false, EntryKind::File), (true, EntryKind::File), (true, EntryKind::Directory), (true, EntryKind::Link)];
    for (full, kind) in hosts {
        let mut seen = Observed::new();
        let mut wanted = module.probes(&ctx());
        let mut actions = vec![];
        for _ in 0..12 {
            all.push(Request { probes: &wanted, ..Default::default() }.script("0nonce", 1).0);
            for p in std::mem::take(&mut wanted) {
                let a = answer(&p, full, kind);
                seen.insert(p, a);
            }
            match module.decide(&seen, &ctx()) {
                Err(Stop::Need(more)) if more.iter().any(|p| !seen.has(p)) => wanted = more,
                Ok(Decision::Change(c)) => {
                    actions = c.actions;
                    break;
                }
                Ok(Decision::Wait(w)) => {
                    wanted = w.evidence.into_iter().map(|(_, s)| Probe::Script(s)).collect();
                    all.push(Request { probes: &wanted, ..Default::default() }.script("0nonce", 1).0);
                    break;
                }
                _ => break,
            }
        }
        if !actions.is_empty() {
            all.push(Request { actions: &actions, ..Default::default() }.script("0nonce", 1).0);
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Runs a request where no program can be found and, for root, as nobody: all it can do is what the shell itself does.
fn run(script: &str, dir: &Path) -> String {
    let prelude = include_str!("../host/prelude.sh");
    let functions = prelude.split_once("w_m()").unwrap().1;
    let text = format!("w_nonce=0nonce; w_dir={}; PATH=/nowhere; w_m(){functions}\n{script}", dir.display());
    let mut sh = std::process::Command::new("/bin/sh");
    sh.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if rustix::process::geteuid().is_root() {
        sh.uid(65534).gid(65534);
    }
    let mut child = sh.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()
}

#[test]
fn no_parameter_breaks_out_of_its_quotes() {
    use std::os::unix::fs::PermissionsExt;
    // Everyone may pass and write here: the requests are run as nobody.
    let dir = tempfile::Builder::new()
        .prefix("wl")
        .permissions(std::fs::Permissions::from_mode(0o777))
        .tempdir_in("/tmp")
        .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mark = dir.path().join("escaped");
    let m = mark.display();
    let bad = [
        format!("$(>{m})"),
        format!("`>{m}`"),
        format!("'$(>{m})'"),
        format!("\"$(>{m})\""),
        format!("'\"';>{m};'\"'"),
        format!(";>{m};"),
        format!("|>{m}&"),
        format!("\n>{m}\n"),
        format!("\\\n>{m}\n"),
        format!("\nwindlass-end\n>{m}\n"),
        format!("-x>{m}"),
        format!("\r>{m}\r"),
        format!("${{x:=$(>{m})}}"),
        "* ? [a-z] ~ # ! \\ {a,b}".to_string(),
    ];
    run(&format!("echo {}", bad[0]), dir.path());
    assert!(mark.exists(), "a break-out leaves its mark");
    std::fs::remove_file(&mark).unwrap();
    let end = dir.path().join("end");
    let mut tried = 0;
    for (name, base) in table() {
        let bind = |args: &Value| (find(name).unwrap().bind)(args.clone(), &NoFiles);
        if let Err(e) = bind(&base) {
            panic!("{name} {base}: {e:?}");
        }
        // One shell for all requests of a module and a text: in each a break-out would leave its mark.
        for b in &bad {
            let mut all: Vec<(Value, String)> = vec![];
            for args in with(&base, b) {
                // A shell command is the user's own; what it is told to do is no break-out.
                if name == "command" && args.get("cmd").is_some_and(|c| c != &base["cmd"]) {
                    continue;
                }
                if let Ok(module) = bind(&args) {
                    all.extend(scripts(module.as_ref()).into_iter().map(|s| (args.clone(), s)));
                }
            }
            tried += all.len();
            let together: String = all.iter().map(|(_, s)| format!("{s}\n")).collect();
            let said = run(&format!("{together}\n>{}", end.display()), dir.path());
            let culprit = || {
                all.iter().find(|(_, s)| {
                    let _ = std::fs::remove_file(&mark);
                    let said = run(s, dir.path());
                    mark.exists() || said.contains("yntax error")
                })
            };
            assert!(!mark.exists() && !said.contains("yntax error"), "{name}: {b:?}: {said} {:?}", culprit());
        }
        assert!(std::fs::remove_file(&end).is_ok(), "{name}: the requests were not run to their end");
    }
    assert!(tried > 2000, "{tried} requests");
}
