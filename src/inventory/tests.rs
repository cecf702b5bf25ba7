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
    let names: Vec<String> = i.host_layers("s2").into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["group `all`", "group `k3s`", "group `agent`", "group `server`", "host `s2`"]);
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
