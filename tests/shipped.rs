//! What lies in the repository holds together: playbooks, roles, inventories, the throw-away key.

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

/// A command with the throw-away key, as its owner alone may read it: a checkout cannot keep that.
fn with_key(args: &[&[&str]]) -> (Command, tempfile::NamedTempFile) {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/secrets/throw-away.txt"), key.path()).unwrap();
    std::fs::set_permissions(key.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut c = windlass(&args.concat());
    c.arg("--identity").arg(key.path());
    (c, key)
}

#[test]
fn the_demo_passes_its_check_on_the_example_inventory() {
    let (mut check, _key) = with_key(&[&["check"], EXAMPLE]);
    let out = check.output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out));
    assert!(text(&out).contains("fine (3 hosts"), "{}", text(&out));
}

#[test]
fn playbooks_of_postgres_pass_their_check_on_the_example_inventory() {
    for (playbook, answer) in [
        ("postgres", None),
        ("postgres_backup", None),
        ("postgres_failback", Some("demote=db1")),
        ("postgres_failover", Some("promote=db2")),
        ("postgres_remove_member", Some("member=db3")),
        ("postgres_restart", None),
        ("postgres_restore", Some("confirm=main")),
        ("postgres_verify", None),
    ] {
        let playbook = format!("playbooks/{playbook}.yml");
        let answer: Vec<&str> = answer.iter().flat_map(|a| ["-e", a]).collect();
        let (mut check, _key) = with_key(&[&["check", &playbook, "-i", "inventories/example"], &answer]);
        let out = check.output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{playbook}: {}", text(&out));
        assert!(text(&out).contains("fine (3 hosts"), "{playbook}: {}", text(&out));
    }
}

#[test]
fn secrets_of_the_example_are_not_shown() {
    let (mut list, _key) = with_key(&[&["inventory", "-i", "inventories/example", "--list"]]);
    let all = list.output().unwrap();
    assert!(all.status.success() && text(&all).contains("[redacted]"), "{}", text(&all));
    assert!(!text(&all).contains("example-of-a"), "{}", text(&all));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (mut list, _key) = with_key(&[&["inventory", "-i", "inventories/example", "--list"]]);
    let mut child = list.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out));
}

/// Clusters that K3s goes onto, and machines for data services.
const CLUSTERS: &[&str] = &["single", "homelab", "shared_cluster", "lab_groups/single.yml", "lab_groups/k3s.yml"];
const DATA: &[&str] = &["shared_cluster", "lab_groups/data.yml"];

/// The inventories that a playbook is meant for.
fn inventories_for(playbook: &str) -> &'static [&'static str] {
    let data =
        ["postgres", "redis", "rabbitmq", "etcd", "data", "failover", "failback", "chaos", "patroni", "pgbouncer"];
    match playbook {
        "demo" => &["example"],
        "loadbalancer" => &["shared_cluster"],
        name if data.iter().any(|d| name.starts_with(d)) => DATA,
        _ => CLUSTERS,
    }
}

/// What some playbooks must be told on the command line.
const TOLD: &str = concat!(
    r#"{"k3s_remove": ["x"], "k3s_backup_identity": "x", "confirm": "x", "k3s_restore": ""#,
    env!("CARGO_MANIFEST_DIR"),
    r#"/Cargo.toml"}"#
);

#[track_caller]
fn passes(playbook: &str, inventory: &str) {
    let inventory = format!("inventories/{inventory}");
    let (mut check, _key) = with_key(&[&["check", playbook, "-i", &inventory, "-e", TOLD]]);
    let out = check.output().unwrap();
    assert!(out.status.success() && text(&out).contains(": fine ("), "{playbook} on {inventory}:\n{}", text(&out));
}

#[test]
fn every_playbook_passes_its_check_on_the_inventories_it_is_meant_for() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/playbooks")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yml") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            for inventory in inventories_for(&name) {
                passes(&format!("playbooks/{name}.yml"), inventory);
            }
        }
    }
}

#[test]
fn a_data_service_that_is_not_wanted_has_an_empty_group() {
    let inventory = tempfile::NamedTempFile::with_suffix(".ini").unwrap();
    let groups =
        "[rabbitmq]\na ansible_host=192.0.2.1\nb ansible_host=192.0.2.2\nc ansible_host=192.0.2.3\n\n[redis]\n\n";
    std::fs::write(inventory.path(), format!("{groups}[etcd]\n\n[postgres]\n\n[loadbalancers]\n\n[pgbouncer]\n"))
        .unwrap();
    let inventory = inventory.path().to_str().unwrap();
    let check = |more: &[&str]| {
        let args = [&["check", "playbooks/data.yml", "-i", inventory], more].concat();
        text(&windlass(&args).output().unwrap())
    };
    let fine = check(&["-e", "rabbitmq_cookie=x"]);
    assert!(fine.contains("playbooks/data.yml: fine (3 hosts"), "{fine}");
    assert!(check(&[]).contains("rabbitmq_cookie"), "the one that is wanted needs its variables");
}

#[test]
fn what_readies_a_node_passes_its_check_on_every_cluster() {
    let playbook = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/roles"), playbook.path().join("roles")).unwrap();
    let path = playbook.path().join("ready.yml");
    let roles = "[preflight, {role: base, vars: {base_cluster_node: true}}, raspberry_pi, firewall, k3s_hardening]";
    std::fs::write(&path, format!("- phase: ready\n  hosts: k3s_cluster\n  become: true\n  roles: {roles}\n")).unwrap();
    for inventory in CLUSTERS {
        passes(path.to_str().unwrap(), inventory);
    }
}

#[test]
fn every_inventory_is_checked() {
    let lab = |name: &str| name == "lab" || name.starts_with("lab-");
    let mut there: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/inventories"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| !lab(name) && name != "README.md")
        .collect();
    there.sort();
    let mut checked: Vec<&str> = CLUSTERS.iter().chain(DATA).map(|i| i.split('/').next().unwrap_or(i)).collect();
    checked.push("example");
    checked.sort();
    checked.dedup();
    assert_eq!(there, checked);
}
