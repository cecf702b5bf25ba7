//! Inventories read from text and from disk.

use super::*;
use crate::source::{Diagnostics, Source};
use crate::vars::NoSecrets;
use serde_json::{Value, json};

pub(super) fn read(name: &str, text: &str) -> (Inventory, Diagnostics) {
    Inventory::parse(&Source::new(name, text), &NoSecrets)
}

fn good(name: &str, text: &str) -> Inventory {
    let (i, found) = read(name, text);
    assert!(found.is_empty(), "{}", found.render(false));
    i
}

pub(super) fn vars_of(i: &Inventory, host: &str) -> Value {
    let mut map = serde_json::Map::new();
    for (_, layer) in i.host_layers(host) {
        map.extend(layer.iter().map(|(k, v)| (k.clone(), v.value.clone())));
    }
    Value::Object(map)
}

const YAML: &str = "
all:
  vars: {dns: 10.0.0.1, who: all}
  hosts:
    lone:
  children:
    k3s:
      vars: {who: k3s}
      children:
        server:
          hosts:
            s[1:2]: {ansible_user: pi, n: 1}
          vars: {who: server}
        agent:
          hosts:
            a1: {who: me}
            s2:
";

#[test]
fn yaml_groups_hosts_and_vars() {
    let i = good("hosts.yml", YAML);
    assert_eq!(i.hosts.keys().collect::<Vec<_>>(), ["lone", "s1", "s2", "a1"]);
    assert_eq!(i.group_hosts("k3s"), ["s1", "s2", "a1"]);
    assert_eq!(i.groups_of("s2"), ["agent", "k3s", "server"]);
    assert_eq!(i.groups_of("lone"), ["ungrouped"]);
    assert_eq!(i.groups["server"].depth, 2);
    assert_eq!(vars_of(&i, "s1"), json!({"dns": "10.0.0.1", "who": "server", "ansible_user": "pi", "n": 1}));
    assert_eq!(vars_of(&i, "a1"), json!({"dns": "10.0.0.1", "who": "me"}));
    let names: Vec<Level> = i.host_layers("s2").into_iter().map(|(n, _)| n).collect();
    let groups = ["all", "k3s", "agent", "server"].map(Level::Group);
    assert_eq!(names, [&groups[..], &[Level::Host("s2")]].concat());
    assert_eq!(i.groups_map()["server"], ["s1", "s2"]);
}

const INI: &str = "
# lone hosts first
lone:2222 note=\"two words\" list=\"[1, 'a']\"   # comment
; another comment
[server]
s[1:2] ansible_user=pi n=1 flag=True s='\"5\"' mode=0644 q=\"5\"

[k3s:vars]
who=k3s
pw=\"quo#ted\"
n = 2
[agent]
a1 who=me
[k3s:children]
server
agent   # the rest
[all:vars]
dns=10.0.0.1
";

#[test]
fn ini_groups_hosts_and_vars() {
    let i = good("hosts.ini", INI);
    assert_eq!(i.hosts.keys().collect::<Vec<_>>(), ["lone", "s1", "s2", "a1"]);
    assert_eq!(i.group_hosts("k3s"), ["s1", "s2", "a1"]);
    assert_eq!(
        vars_of(&i, "s1"),
        json!({"dns": "10.0.0.1", "who": "k3s", "pw": "quo#ted", "n": 1, "ansible_user": "pi", "flag": true, "s": "5", "mode": "0644", "q": 5})
    );
    assert_eq!(
        vars_of(&i, "lone"),
        json!({"dns": "10.0.0.1", "ansible_port": 2222, "note": "two words", "list": [1, "a"]})
    );
    assert_eq!(i.hosts["s1"].vars["n"].span.place(), "hosts.ini:6:26");
}

fn write(dir: &std::path::Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn load(paths: &[std::path::PathBuf], playbook: Option<&std::path::Path>) -> (Inventory, Diagnostics) {
    let dirs: Vec<PathBuf> = playbook.iter().map(|d| d.to_path_buf()).collect();
    Inventory::load(paths, &NoSecrets, &dirs, &[])
}

#[test]
fn a_directory_with_variables_beside_it_and_beside_the_playbook() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(
        d,
        &[
            ("inv/10-hosts.ini", "[web]\nw1\n[web:vars]\na=file\nb=file\nc=file\n[all:vars]\nz=1\n"),
            ("inv/20-more", "db:\n  hosts:\n    d1:\n    w1:\n"),
            ("inv/group_vars/web.yml", "b: beside\nc: beside\n"),
            ("inv/group_vars/all/main.yml", "z: 2\n"),
            ("inv/host_vars/w1.yml", "h: beside\ni: beside\n"),
            ("inv/known_hosts", "node ssh-ed25519 AAAA\n"),
            ("inv/id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
            ("inv/id_ed25519.pub", "ssh-ed25519 AAAA\n"),
            ("inv/README", "read me\n"),
            ("inv/hosts.ini~", "[broken\n"),
            ("inv/hosts.bak", "[broken\n"),
            ("inv/ansible.cfg", "[defaults]\nx y z\n"),
            ("inv/.hidden", "[broken\n"),
            ("play/group_vars/web/x.yml", "c: play\n"),
            ("play/host_vars/w1.yml", "i: play\n"),
        ],
    );
    let (i, found) = load(&[d.join("inv")], Some(&d.join("play")));
    assert!(found.is_empty(), "{}", found.render(false));
    assert_eq!(i.hosts.keys().collect::<Vec<_>>(), ["w1", "d1"]);
    assert_eq!(vars_of(&i, "w1"), json!({"z": 2, "a": "file", "b": "beside", "c": "play", "h": "beside", "i": "play"}));
    assert_eq!(i.groups_of("w1"), ["db", "web"]);
}

#[test]
fn files_for_groups_stand_above_all_that_inventories_say_of_groups() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let hosts = "[web]\nh1 hv=inline_host\n[web:vars]\nv1=inline_web\nv2=inline_web\nv3=inline_web\nhv=inline_web\n\
                 hg=inline_web\n[parent:children]\nweb\n[parent:vars]\nv1=inline_parent\n[all:vars]\nv0=inline_all\n";
    write(
        d,
        &[
            ("inv/hosts.ini", hosts),
            ("inv/group_vars/all.yml", "v0: file_all\nv1: file_all\nv2: file_all\nhv: file_all\n"),
            ("inv/group_vars/parent.yml", "v2: file_parent\nhg: file_parent\nhv: file_parent\n"),
            ("inv/group_vars/web.yml", "play: child_beside_hosts\n"),
            ("inv/host_vars/h1.yml", "hg: file_host\n"),
            ("play/group_vars/parent.yml", "play: parent_beside_playbook\n"),
        ],
    );
    let (i, found) = load(&[d.join("inv/hosts.ini")], Some(&d.join("play")));
    assert!(found.is_empty(), "{}", found.render(false));
    let expected = json!({
        "v0": "file_all", "v1": "file_all", "v2": "file_parent", "v3": "inline_web", "hv": "inline_host",
        "hg": "file_host", "play": "parent_beside_playbook",
    });
    assert_eq!(vars_of(&i, "h1"), expected);
}

#[test]
fn a_folder_for_a_name_stands_for_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(
        d,
        &[("h.ini", "[db]\nh\n"), ("group_vars/db/a.yml", "f: folder\n"), ("group_vars/db.yml", "f: file\ng: 1\n")],
    );
    let (i, found) = load(&[d.join("h.ini")], None);
    assert_eq!(vars_of(&i, "h"), json!({"f": "folder"}));
    let said: Vec<&str> = found.iter().map(|d| d.message.as_str()).collect();
    assert!(
        matches!(said[..], [m] if m.contains("db.yml is not read: ") && m.ends_with("db/ stands for that name")),
        "{said:?}"
    );
}

#[test]
fn files_beside_a_playbook_that_is_taken_in_are_for_its_phases() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let files = [("h.ini", "h\n"), ("group_vars/all.yml", "v: top\n"), ("sub/group_vars/all.yml", "v: sub\n")];
    write(d, &files);
    write(d, &[("sub/host_vars/h.yml", "of: host\n")]);
    let dirs = [d.to_path_buf(), d.join("sub")];
    let (i, _) = Inventory::load(&[d.join("h.ini")], &NoSecrets, &dirs, &[]);
    assert_eq!(vars_of(&i, "h"), json!({"v": "top", "of": "host"}));
    let seen = |from: &std::path::Path| {
        let mut all = serde_json::Map::new();
        for (_, layer) in i.layers("h", &i.group_order("h"), Some(from)) {
            all.extend(layer.iter().map(|(k, v)| (k.clone(), v.value.clone())));
        }
        Value::Object(all)
    };
    assert_eq!(seen(d), json!({"v": "top"}));
    assert_eq!(seen(&d.join("sub")), json!({"v": "sub", "of": "host"}));
}

#[test]
fn children_of_an_ini_group_come_as_they_are_declared() {
    let ini = "[top:children]\nalpha\nzeta\n[zeta]\nz2\nz1\n[alpha]\na1\nz1\n[late]\nl1\n";
    let i = good("hosts.ini", ini);
    // Ansible 2.19 says the same.
    assert_eq!(i.group_hosts("top"), ["z2", "z1", "a1"]);
    assert_eq!(i.group_hosts("all"), ["l1", "z2", "z1", "a1"]);
}

#[test]
fn several_inventories_merge_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(d, &[("a.ini", "[web]\nx v=1 w=1\n"), ("b.yml", "web:\n  hosts:\n    x: {v: 2}\n    y:\n")]);
    let (i, found) = load(&[d.join("a.ini"), d.join("b.yml"), "z,n[1:2],".into()], None);
    assert!(found.is_empty(), "{}", found.render(false));
    assert_eq!(vars_of(&i, "x"), json!({"v": 2, "w": 1}));
    assert_eq!(i.group_hosts("web"), ["x", "y"]);
    assert_eq!(i.group_hosts("ungrouped"), ["z", "n1", "n2"]);
}

#[test]
fn what_cannot_be_an_inventory_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(
        d,
        &[
            ("inv.py", "#!/usr/bin/env python3\n"),
            ("x.tfstate", "{}"),
            ("h.toml", "[web]\n"),
            ("empty.ini", "# none\n"),
        ],
    );
    for (path, part) in [
        ("inv.py", "is a program, and may not be executed"),
        ("x.tfstate", "no Terraform state"),
        ("h.toml", "TOML inventories"),
        ("gone.ini", "does not exist"),
        ("empty.ini", "has no hosts"),
    ] {
        let (_, found) = load(&[d.join(path)], None);
        assert!(found.iter().any(|f| f.message.contains(part)), "{path}: {}", found.render(false));
    }
    let (_, found) = load(&["node1".into()], None);
    assert!(found.iter().any(|f| f.hint.as_deref().is_some_and(|h| h.ends_with("-i node1,"))));
    let (_, found) = load(&["a,n[2:1],".into()], None);
    assert_eq!(found.iter().next().unwrap().span.as_ref().unwrap().place(), "--inventory:1:4");
}

#[test]
fn a_misspelt_file_of_variables_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(
        d,
        &[
            ("h.ini", "[server]\nn1\n"),
            ("group_vars/servers.yml", "a: 1\n"),
            ("group_vars/other.yml", "a: 1\n"),
            ("host_vars/n2.yml", "a: 1\n"),
        ],
    );
    let (_, found) = load(&[d.join("h.ini")], None);
    assert_eq!(found.counts(), (0, 1), "{}", found.render(false));
    assert!(found.iter().next().unwrap().message.contains("servers.yml belongs to no group"));
}

/// "Decrypts" by taking off a mark, and remembers what must not be shown.
#[derive(Default)]
struct Marked(std::cell::RefCell<Vec<(String, Value)>>);
impl crate::vars::SecretOpener for Marked {
    fn open_file(&self, _: &std::path::Path, bytes: &[u8]) -> crate::error::Result<String> {
        Ok(String::from_utf8_lossy(bytes).replace("SEALED ", ""))
    }
    fn open_value(&self, armored: &str) -> crate::error::Result<String> {
        Ok(armored.trim().replace("SEALED ", ""))
    }
    fn learn(&self, at: &str, value: &Value) {
        self.0.borrow_mut().push((at.to_string(), value.clone()));
    }
}

#[test]
fn everything_in_an_encrypted_inventory_is_secret() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("a/h.yml.age", "SEALED all:\n  vars: {g: group-secret}\n  hosts:\n    n1: {t: [host-secret]}\n"),
            ("b/h.ini.age", "SEALED [all]\nn2 t=line-secret\n"),
        ],
    );
    let opener = Marked::default();
    let (_, found) =
        Inventory::load(&[dir.path().join("a/h.yml.age"), dir.path().join("b/h.ini.age")], &opener, &[], &[]);
    assert!(found.is_empty(), "{}", found.render(false));
    let learned = format!("{:?}", opener.0.borrow());
    for secret in ["group-secret", "host-secret", "line-secret"] {
        assert!(learned.contains(secret), "{secret}: {learned}");
    }
    assert!(opener.0.borrow().iter().any(|(at, _)| at.ends_with("h.yml.age: t")), "{learned}");
}

#[test]
fn secrets_are_opened_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(
        d,
        &[
            ("h.yml", "web:\n  hosts:\n    w1: {token: !age SEALED hunter2, uses: ['Bearer hunter2', plain]}\n"),
            ("group_vars/web/vault.yml.age", "SEALED pin: 1234\npw: opensesame\n"),
            ("group_vars/web/plain.yml", "copy: opensesame\n"),
        ],
    );
    let (i, found) = Inventory::load(&[d.join("h.yml")], &Marked::default(), &[], &[]);
    assert!(found.is_empty(), "{}", found.render(false));
    assert_eq!(vars_of(&i, "w1")["pin"], json!(1234));
    assert_eq!(vars_of(&i, "w1")["token"], json!("hunter2"));
    let shown = i.to_json().to_string() + &i.graph(true);
    for secret in ["hunter2", "opensesame", "1234"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert_eq!(i.host_json("w1")["uses"], json!(["Bearer [redacted]", "plain"]));
}

#[test]
fn priority_decides_among_groups_of_one_depth() {
    let i = good("h.ini", "[a]\nx\n[b]\nx\n[a:vars]\nv=a\nansible_group_priority=10\n[b:vars]\nv=b\n");
    assert_eq!(vars_of(&i, "x"), json!({"v": "a"}));
    assert_eq!(i.groups["a"].priority, 10);
}

#[test]
fn json_and_graph() {
    let i = good("hosts.yml", YAML);
    assert_eq!(
        i.to_json(),
        json!({
            "_meta": {"hostvars": {
                "lone": {"dns": "10.0.0.1", "who": "all"},
                "s1": {"dns": "10.0.0.1", "who": "server", "ansible_user": "pi", "n": 1},
                "s2": {"dns": "10.0.0.1", "who": "server", "ansible_user": "pi", "n": 1},
                "a1": {"dns": "10.0.0.1", "who": "me"},
            }},
            "all": {"children": ["ungrouped", "k3s"]},
            "ungrouped": {"hosts": ["lone"]},
            "k3s": {"children": ["server", "agent"]},
            "server": {"hosts": ["s1", "s2"]},
            "agent": {"hosts": ["a1", "s2"]},
        })
    );
    assert_eq!(
        i.graph(false),
        "@all:\n  |--@ungrouped:\n  |  |--lone\n  |--@k3s:\n  |  |--@server:\n  |  |  |--s1\n  |  |  |--s2\n  |  |--@agent:\n  |  |  |--a1\n  |  |  |--s2\n"
    );
}

#[test]
fn a_tree_of_groups_that_share_groups_ends() {
    let line = |i: usize| format!("[g{i}:children]\ng{0}\nh{0}\n[h{i}:children]\ng{0}\nh{0}\n", i + 1);
    let text: String = (0..40).map(line).collect();
    let i = good("h.ini", &format!("{text}[g40]\nx\n[h40]\nx\n"));
    let shown = i.graph(false);
    assert!(shown.len() < 17 << 20 && shown.ends_with("too large to be shown whole)\n"));
}

#[test]
fn implicit_localhost_gets_the_variables_of_all() {
    let i = good("h.ini", "a\n[all:vars]\nx=1\n");
    assert!(i.is_implicit_localhost("localhost") && !i.is_implicit_localhost("a"));
    assert_eq!(vars_of(&i, "localhost"), json!({"x": 1}));
    assert!(!good("h.ini", "localhost\n").is_implicit_localhost("localhost"));
}

#[test]
fn files_without_an_ending_are_told_apart() {
    for (text, hosts) in [
        ("a\nb:22\n", 2),
        ("[web]\na\n", 1),
        ("---\nall:\n  hosts:\n    a:\n", 1),
        ("# x\nall:   # y\n  hosts:\n    a:\n", 1),
        ("{\"all\": {\"hosts\": {\"a\": {}}}}", 1),
        ("all: {hosts: {a: }}\n", 1),
        ("a x='y: z'\n", 1),
        ("\u{feff}[web]\r\na x=1\r\n", 1),
    ] {
        assert_eq!(good("hosts", text).hosts.len(), hosts, "{text}");
    }
}

#[test]
fn a_thousand_hosts_and_nested_directories() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(d, &[("inv/a/b/hosts.ini", "[many]\nn[0001:2000]\n"), ("inv/c.yaml", "top: {children: {many: }}\n")]);
    let (i, found) = load(&[d.join("inv")], None);
    assert!(found.is_empty(), "{}", found.render(false));
    assert_eq!(select(&i, "top[-1]").unwrap(), ["n2000"]);
    assert_eq!(select(&i, "top:!many[0:1998]").unwrap(), ["n2000"]);
}

#[test]
fn an_ansible_vault_file_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(d, &[("h.ini", "[web]\na\n"), ("group_vars/web.yml", "$ANSIBLE_VAULT;1.1;AES256\n6161\n")]);
    let (_, found) = load(&[d.join("h.ini")], None);
    assert_eq!(found.counts(), (1, 0));
    assert!(found.iter().next().unwrap().message.contains("Ansible Vault"), "{}", found.render(false));
}
