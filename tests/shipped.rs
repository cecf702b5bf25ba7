//! What lies in the repository holds together: playbooks, roles, the example inventory, the throw-away key.

use std::process::{Command, Output, Stdio};

fn windlass(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_windlass"));
    c.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    c.env_remove("WINDLASS_IDENTITY").env_remove("WINDLASS_IDENTITY_FILE").env("XDG_CONFIG_HOME", "/nonexistent");
    c
}

fn text(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

const EXAMPLE: &[&str] = &["playbooks/demo.yml", "-i", "inventories/example"];
const KEY: &[&str] = &["--identity", "secrets/throw-away.txt"];

#[test]
fn the_demo_passes_its_check_on_the_example_inventory() {
    let out = windlass(&[&["check"], EXAMPLE, KEY].concat()).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out));
    assert!(text(&out).contains("fine (3 hosts"), "{}", text(&out));
}

#[test]
fn secrets_of_the_example_are_not_shown() {
    let all = windlass(&[&["inventory", "-i", "inventories/example", "--list"], KEY].concat()).output().unwrap();
    assert!(all.status.success() && text(&all).contains("[redacted]"), "{}", text(&all));
    assert!(!text(&all).contains("example-of-a"), "{}", text(&all));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = windlass(&[&["inventory", "-i", "inventories/example", "--list"], KEY].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out));
}
