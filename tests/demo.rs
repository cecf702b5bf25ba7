//! The demo as a user runs it: the real binary, in a copy of the project, on a lab of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WINDLASS: &str = env!("CARGO_BIN_EXE_windlass");
const VAULT: &str = "group_vars/redis/demo_vault.yml.age";

/// A project of its own: the playbooks and roles, and nothing of this user's.
struct Project {
    dir: tempfile::TempDir,
    /// The lab to take down whatever happens.
    lab: Option<String>,
}

impl Project {
    fn new(lab: Option<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["playbooks", "roles"] {
            copy(&source.join(part), &dir.path().join(part));
        }
        Project { dir, lab }
    }

    fn windlass(&self, args: &[&str]) -> Output {
        let mut command = Command::new(WINDLASS);
        command.args(args).current_dir(self.dir.path()).env("HOME", self.dir.path()).env("RUST_BACKTRACE", "0");
        for name in ["WINDLASS_IDENTITY", "WINDLASS_IDENTITY_FILE", "WINDLASS_INVENTORY", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Some(lab) = &self.lab {
            self.windlass(&["lab", "down", "--name", lab]);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Whether a lab can be made here. Where it must be (CI), not being able to is a failure.
fn lab_possible() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let why = match (cfg!(target_os = "linux"), root) {
        (true, true) => return true,
        (false, _) => "a lab needs Linux",
        (_, false) => "a lab needs root",
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must run this: {why}");
    println!("skipped: {why}");
    false
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "expected `{line}` in:\n{text}");
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn the_demo_holds_and_leaves_nothing() {
    if !lab_possible() {
        return;
    }
    let lab = format!("t{}d", std::process::id());
    let project = Project::new(Some(lab.clone()));
    let inventory = project.dir.path().join(format!("inventories/lab-{lab}"));

    let first = project.windlass(&["demo", "--lab", &lab]);
    let said = text(&first);
    assert_eq!(code(&first), 0, "{said}");
    has(
        &said,
        &[
            "made a key for secrets",
            "made passwords",
            "exit code 0: the nodes are as the playbook says",
            "is the new primary, ",
            "still nothing may change",
            "everything was as it should be",
            "Try next",
        ],
    );

    let vault = inventory.join(VAULT);
    let viewed = project.windlass(&["vault", "view", vault.to_str().unwrap()]);
    let passwords: Vec<String> =
        text(&viewed).lines().filter_map(|l| Some(l.split_once(": ")?.1.to_string())).collect();
    assert_eq!(passwords.len(), 2, "{}", text(&viewed).len());
    let encrypted = fs::read(&vault).unwrap();

    // Again on the lab as it is.
    let status = project.windlass(&["lab", "status", "--name", &lab]);
    has(&text(&status), &["node3"]);
    let second = project.windlass(&["demo", "--lab", &lab, "--down"]);
    let said_again = text(&second);
    assert_eq!(code(&second), 0, "{said_again}");
    assert!(!said_again.contains("made passwords"), "a second demo has its passwords already:\n{said_again}");

    for password in &passwords {
        assert!(!said.contains(password) && !said_again.contains(password), "a password was shown");
        for file in files_below(project.dir.path()) {
            let bytes = fs::read(&file).unwrap();
            let held = bytes.windows(password.len()).any(|w| w == password.as_bytes());
            assert!(!held, "a password stands in {}", file.display());
        }
    }
    assert!(!encrypted.is_empty() && files_below(&project.dir.path().join("logs")).len() >= 8);

    assert!(!inventory.exists(), "left: {:?}", files_below(&inventory));
    let status = project.windlass(&["lab", "status", "--name", &lab]);
    has(&text(&status), &["there is no lab"]);
    assert!(!Path::new("/var/lib/windlass/lab").join(&lab).exists());
}

#[test]
fn passwords_without_their_key_are_told_of() {
    let project = Project::new(None);
    let inventory = project.dir.path().join("inventories/lab");
    fs::create_dir_all(inventory.join(VAULT).parent().unwrap()).unwrap();
    let hosts = "all: {children: {redis: {hosts: {node1: {ansible_host: 127.0.0.1}}}}}\n";
    fs::write(inventory.join("hosts.yml"), hosts).unwrap();
    let key = project.dir.path().join("lost.txt");
    let public = project.windlass(&["vault", "keygen", key.to_str().unwrap()]);
    let plain = inventory.join(VAULT.strip_suffix(".age").unwrap());
    fs::write(&plain, "redis_ha_password: lost1\nredis_ha_sentinel_password: lost2\n").unwrap();
    let recipient = String::from_utf8(public.stdout).unwrap();
    let made = project.windlass(&["vault", "encrypt", "-r", recipient.trim(), plain.to_str().unwrap()]);
    assert_eq!(code(&made), 0, "{}", text(&made));
    fs::remove_file(&key).unwrap();

    let demo = project.windlass(&["demo"]);
    let said = text(&demo);
    assert_eq!(code(&demo), 3, "{said}");
    has(&said, &["the demo's passwords in inventories/lab/", ".windlass/identity.txt", "windlass lab down"]);
    assert!(
        !project.dir.path().join(".windlass/identity.txt").exists(),
        "a new key would hide that the old one is lost"
    );

    let plan = project.windlass(&["plan", "playbooks/demo.yml", "-i", "inventories/lab"]);
    let said = text(&plan);
    assert_eq!(code(&plan), 3, "{said}");
    has(&said, &["cannot decrypt the vault file", "demo_vault.yml.age"]);
}

#[test]
fn the_playbook_is_fine() {
    let project = Project::new(None);
    let hosts = "all:\n  vars: {lab_public_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJLqnKSW7vUFVjs/mkveT5YEs4GJVDzXNWkDhFqsbHb a]}\n  \
                 children: {redis: {hosts: {a: {ansible_host: 10.0.0.1}, b: {ansible_host: 10.0.0.2}},\n    \
                 vars: {redis_ha_password: p, redis_ha_sentinel_password: s}}}\n";
    fs::write(project.dir.path().join("hosts.yml"), hosts).unwrap();
    let check = project.windlass(&["check", "playbooks/demo.yml", "-i", "hosts.yml"]);
    assert_eq!(code(&check), 0, "{}", text(&check));
    has(&text(&check), &["fine (2 hosts"]);
}

#[test]
fn the_demo_needs_its_playbook() {
    let empty = tempfile::tempdir().unwrap();
    let demo = Command::new(WINDLASS).arg("demo").current_dir(empty.path()).output().unwrap();
    assert_eq!(code(&demo), 3, "{}", text(&demo));
    has(&text(&demo), &["there is no playbooks/demo.yml here"]);
}
