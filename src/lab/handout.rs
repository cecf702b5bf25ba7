//! What a lab hands to the project: inventory, key and known hosts.

use std::fs;
use std::path::{Path, PathBuf};

use super::node::identity;
use super::state::State;
use super::{DEFAULT_NAME, Progress, paths, tool};
use crate::error::{Error, Result};

/// The first line of a lab's inventory, by which it is known as one.
const MARK: &str = "# Written by windlass lab up, removed by windlass lab down.";

/// The files in a lab's inventory directory.
const FILES: [&str; 4] = ["hosts.yml", "id_ed25519", "id_ed25519.pub", "known_hosts"];

/// Where `windlass demo` keeps the passwords of what it makes on a lab, below the inventory directory. They are worth
/// nothing without the lab, so they go with it.
pub const DEMO_VAULT: &str = "group_vars/redis/demo_vault.yml.age";

/// `inventories/lab` for the lab named `lab`, `inventories/lab-NAME` for others.
pub fn directory(project: &Path, name: &str) -> PathBuf {
    let inventories = project.join("inventories");
    if name == DEFAULT_NAME { inventories.join(DEFAULT_NAME) } else { inventories.join(format!("lab-{name}")) }
}

/// Refuses a directory whose inventory somebody else wrote.
pub fn check_free(directory: &Path) -> Result<()> {
    let foreign = match fs::read_to_string(directory.join("hosts.yml")) {
        Ok(text) => !text.starts_with(MARK),
        Err(_) => FILES.iter().any(|name| directory.join(name).exists()),
    };
    if foreign {
        return Err(Error::input(format!("{} is not a lab's inventory and would be overwritten", directory.display()))
            .hint("move it away, or give the lab another name"));
    }
    Ok(())
}

/// The lab's key pair for all users of all nodes.
pub struct Key {
    pub private: String,
    pub public: String,
}

/// Reads the lab's key, made at the first call.
pub fn key(lab: &Path, name: &str) -> Result<Key> {
    let path = lab.join("id_ed25519");
    let public = lab.join("id_ed25519.pub");
    if !path.exists() || !public.exists() {
        let _ = fs::remove_file(&path);
        generate_key(&path, &format!("windlass-lab-{name}"))?;
    }
    Ok(Key {
        private: fs::read_to_string(&path).map_err(tool::at("read", &path))?,
        public: fs::read_to_string(&public).map_err(tool::at("read", &public))?,
    })
}

/// Makes an ed25519 key pair without a passphrase: `path` and `path.pub`.
pub fn generate_key(path: &Path, comment: &str) -> Result<()> {
    let mut command = tool::command("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    tool::run(&mut command).map(drop)
}

/// Writes inventory, key and known hosts.
pub fn write(state: &State, lab: &Path) -> Result<()> {
    let key = key(lab, &state.name)?;
    let mut known_hosts = String::new();
    for node in &state.nodes {
        let host_key = identity(lab, &node.name)?.host_key_public;
        let words: Vec<&str> = host_key.split_whitespace().take(2).collect();
        known_hosts.push_str(&format!("{},{} {}\n", node.address, node.name, words.join(" ")));
    }
    // For `lab ssh`, which must work without the project too.
    tool::write(&lab.join("known_hosts"), &known_hosts, 0o644)?;
    let directory = &state.inventory;
    tool::write(&directory.join("id_ed25519"), &key.private, 0o600)?;
    tool::write(&directory.join("id_ed25519.pub"), &key.public, 0o644)?;
    tool::write(&directory.join("known_hosts"), &known_hosts, 0o644)?;
    tool::write(&directory.join("hosts.yml"), &inventory(state, &key.public), 0o644)
}

/// The inventory's text.
fn inventory(state: &State, public_key: &str) -> String {
    let path = |name: &str| serde_json::Value::from(state.inventory.join(name).to_string_lossy()).to_string();
    let mut text = format!("{MARK}\nall:\n  vars:\n    ansible_user: root\n");
    text.push_str(&format!("    ansible_ssh_private_key_file: {}\n", path("id_ed25519")));
    text.push_str(&format!("    windlass_known_hosts: {}\n", path("known_hosts")));
    text.push_str("    # Who may log in to the nodes.\n    lab_public_keys:\n");
    text.push_str(&format!("      - {}\n  hosts:\n", serde_json::Value::from(public_key.trim())));
    for node in &state.nodes {
        text.push_str(&format!("    {}: {{ansible_host: {}}}\n", node.name, node.address));
    }
    text.push_str("  children:\n    redis:\n      hosts:\n");
    for node in &state.nodes {
        text.push_str(&format!("        {}:\n", node.name));
    }
    text
}

/// Removes what [`write`] wrote. Other files stay, and then the directory does too.
pub fn remove(directory: &Path, progress: Progress) -> Result<()> {
    if check_free(directory).is_err() {
        progress(&format!("left {}: it is not this lab's", directory.display()));
        return Ok(());
    }
    // The marked inventory goes last, so that a second try knows the rest as ours.
    for name in [DEMO_VAULT].iter().chain(FILES.iter().rev()) {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(tool::at("remove", &path)(e)),
            _ => {}
        }
    }
    for folder in Path::new(DEMO_VAULT).ancestors().skip(1) {
        paths::remove_empty(&directory.join(folder));
    }
    if directory.exists() {
        progress(&format!("left {}: it holds files of yours", directory.display()));
    }
    if let Some(inventories) = directory.parent() {
        paths::remove_empty(inventories);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::state::{Node, Subnet};
    use super::*;

    fn state(inventory: PathBuf) -> State {
        let subnet = Subnet::new(10, 213, 7);
        let node = |n: usize| Node { name: format!("node{n}"), address: subnet.node(n) };
        State {
            name: "lab".into(),
            image: "/image".into(),
            bridge: "wl-1".into(),
            subnet,
            inventory,
            nodes: vec![node(1), node(2)],
        }
    }

    #[test]
    fn inventory_text() {
        let expected = "\
# Written by windlass lab up, removed by windlass lab down.
all:
  vars:
    ansible_user: root
    ansible_ssh_private_key_file: \"/p q/inventories/lab/id_ed25519\"
    windlass_known_hosts: \"/p q/inventories/lab/known_hosts\"
    # Who may log in to the nodes.
    lab_public_keys:
      - \"ssh-ed25519 AAAA windlass-lab\"
  hosts:
    node1: {ansible_host: 10.213.7.11}
    node2: {ansible_host: 10.213.7.12}
  children:
    redis:
      hosts:
        node1:
        node2:
";
        assert_eq!(inventory(&state(directory(Path::new("/p q"), "lab")), "ssh-ed25519 AAAA windlass-lab\n"), expected);
        assert_eq!(directory(Path::new("/p"), "ci"), Path::new("/p/inventories/lab-ci"));
    }

    #[test]
    fn others_files_are_kept() {
        let project = tempfile::tempdir().unwrap();
        let at = directory(project.path(), "lab");
        check_free(&at).unwrap();
        fs::create_dir_all(&at).unwrap();
        check_free(&at).unwrap();
        fs::write(at.join("hosts.yml"), "all: {}\n").unwrap();
        assert!(check_free(&at).is_err());
        remove(&at, &mut |_| {}).unwrap();
        assert!(at.join("hosts.yml").exists());

        fs::write(at.join("hosts.yml"), inventory(&state(at.clone()), "key")).unwrap();
        fs::write(at.join("mine.yml"), "").unwrap();
        fs::create_dir_all(at.join(DEMO_VAULT).parent().unwrap()).unwrap();
        fs::write(at.join(DEMO_VAULT), "").unwrap();
        remove(&at, &mut |_| {}).unwrap();
        assert!(!at.join("hosts.yml").exists() && at.join("mine.yml").exists());
        assert!(!at.join("group_vars").exists());
        fs::remove_file(at.join("mine.yml")).unwrap();
        remove(&at, &mut |_| {}).unwrap();
        assert!(!at.parent().unwrap().exists());
    }
}
