//! Broken inventories: what is said, and about which place.

use super::tests::read;
use crate::source::Severity;

/// File, text, a part of the message, the place, a part of the hint.
const CASES: &[(&str, &str, &str, &str, &str)] = &[
    ("h.yml", "- a\n- b\n", "a mapping of groups, not a list", "1:1", "start with `all:`"),
    ("h.yml", "", "is empty", "1:1", ""),
    ("h.yml", "all:\n  hosts: [a\n", "not valid YAML", "", ""),
    ("h.yml", "all:\n  host:\n    a:\n", "`host` is not a key of a group", "2:3", "did you mean `hosts`?"),
    ("h.yml", "all:\n  hsots:\n    a:\n", "`hsots` is not a key", "2:3", "did you mean `hosts`?"),
    ("h.yml", "web:\n  node1:\n", "`node1` is not a key of a group", "2:3", "under `hosts:` of `web`"),
    (
        "h.yml",
        "web:\n  ansible_user: pi\n  hosts: {a: }\n",
        "`ansible_user` is not a key",
        "2:3",
        "under `vars:` of `web`",
    ),
    (
        "h.yml",
        "web:\n  hosts:\n  - a\n",
        "`hosts` of `web` must be a mapping, not a list",
        "3:5",
        "write each host as a key",
    ),
    ("h.yml", "web:\n  children: [a]\n", "`children` of `web` must be a mapping", "2:13", "write each group as a key"),
    ("h.yml", "web:\n  vars: [a]\n", "`vars` of the group `web` must be a mapping", "2:9", ""),
    ("h.yml", "web:\n  vars: {a-b: 1}\n", "`a-b` cannot be a variable's name", "2:10", "letters, digits"),
    ("h.yml", "web: [a]\n", "the group `web` must be a mapping", "1:6", "`hosts:`"),
    ("h.yml", "web:\n  hosts:\n    a: 10.0.0.1\n", "the host `a` must be a mapping", "3:8", "{ansible_host: 10.0.0.1}"),
    ("h.yml", "hosts:\n  a:\n", "`hosts` stands where a group's name", "1:1", "put it under a group"),
    (
        "h.yml",
        "a:\n  children:\n    b:\n      children:\n        a:\n",
        "in a circle: a > b > a",
        "5:9",
        "take `a` out",
    ),
    ("h.yml", "a:\n  children:\n    a:\n", "cannot be its own child", "3:5", ""),
    ("h.yml", "a:\n  children:\n    all:\n", "`all` cannot be a child", "3:5", ""),
    ("h.yml", "a b:\n  hosts:\n", "`a b` cannot be a group's name", "1:1", "letters, digits"),
    ("h.yml", "all:\n  hosts:\n    n[3:1]:\n", "goes backwards", "3:6", "write [1:3]"),
    ("h.yml", "all:\n  hosts:\n    \"n[1:\":\n", "not closed", "3:7", "[1:7]"),
    ("h.yml", "plugin: aws_ec2\n", "plugins are not supported", "1:1", "YAML or INI"),
    ("h.json", "{\"_meta\": {\"hostvars\": []}}", "`hostvars` must be a mapping", "1:24", "HOST"),
    ("h.json", "{\"format_version\": \"1.0\"}", "no resource `ansible_host`", "1:1", "terraform: {state"),
    ("h.yml", "format_version: \"1.0\"\n", "this is a Terraform state", "1:1", ".tfstate"),
    ("h.yml", "all:\n  hosts:\n    a: {pw: !vault x}\n", "unknown YAML tag `!vault`", "3:13", "vault import"),
    ("h.yml", "all:\n  hosts:\n    a: {ansible_hots: x}\n", "`ansible_hots` is no setting", "3:23", "`ansible_host`"),
    ("h.yml", "web:\n  hosts: {web: }\n", "name of a host and of a group", "2:11", "another name"),
    ("h.yml", "web:\n  vars: {ansible_group_priority: high}\n", "must be a whole number", "2:34", ""),
    ("h.ini", "[web\na\n", "`[` is not closed", "1:1", "[group]"),
    ("h.ini", "[ web ]\na\n", "spaces in the section", "1:2", "write [web]"),
    ("h.ini", "[web:child]\na\n", "unknown kind of section `child`", "1:6", ""),
    ("h.ini", "[web:childern]\na\n", "unknown kind of section `childern`", "1:6", "did you mean `children`?"),
    ("h.ini", "[web] a\n", "text behind a section's `]`", "1:7", "lines of their own"),
    ("h.ini", "[]\n", "a group needs a name", "1:2", ""),
    (
        "h.ini",
        "[web]\na\n[wbe:vars]\nx=1\n",
        "variables of the group `wbe`, which is not defined",
        "3:2",
        "did you mean `web`?",
    ),
    ("h.ini", "[k3s:children]\nserver\n", "names as a child the group `server`", "2:1", "add a section [server]"),
    (
        "h.ini",
        "[a:children]\nb\n[b:children]\nc\n[c:children]\na\n",
        "in a circle",
        "6:1",
        "take `a` out of the children of `c`",
    ),
    ("h.ini", "[a:children]\nb x=1\n[b]\n", "`b x=1` is not a group's name", "2:1", "one group a line"),
    ("h.ini", "[web]\na b=1 c\n", "`c` is not key=value", "2:7", "one host a line"),
    ("h.ini", "[web]\na b = 1\n", "spaces round a `=`", "2:3", "key=value"),
    ("h.ini", "[web]\na 1b=1\n", "`1b` cannot be a variable's name", "2:3", "letters, digits"),
    ("h.ini", "[web]\na b='x\n", "the quote is not closed", "2:5", "close it"),
    ("h.ini", "[web]\na b=x#y\n", "`#` starts a comment", "2:6", "put quotes"),
    ("h.ini", "[web]\nansible_user=pi\n", "the variable `ansible_user` stands where a host", "2:1", "[web:vars]"),
    ("h.ini", "[web]\npi@node\n", "`pi@node` cannot be a host's name", "2:1", "ansible_user: pi"),
    ("h.ini", "[web]\nnode[1:x]\n", "not a range", "2:5", "numbers"),
    ("h.ini", "[web]\nnode:99999\n", "`99999` is not a port", "2:5", "1 to 65535"),
    ("h.ini", "[web]\na\n[web:vars]\nx: 1\n", "`x: 1` is not key=value", "4:1", "write x=1"),
    ("h.ini", "[web]\na\n[web:vars]\nx-y=1\n", "`x-y` cannot be a variable's name", "4:1", "letters"),
    ("h.ini", "[web]\na\n[web:vars]\nx=y # z\n", "`#` is part of the value", "4:5", "lines of their own"),
    ("h.ini", "[web]\na\n[web:vars]\nversion=1.30\n", "read as the number 1.3", "4:9", "\"1.30\""),
    ("h.ini", "[web]\na version=1.30\n", "read as the number 1.3", "2:11", "'\"1.30\"'"),
    ("h.ini", "---\nall:\n", "`---` is not a host", "1:1", ".yml"),
];

#[test]
fn every_mistake_has_a_message_a_place_and_a_hint() {
    for (file, text, message, place, hint) in CASES {
        let (_, found) = read(file, text);
        let d = found
            .iter()
            .find(|d| d.message.contains(message))
            .unwrap_or_else(|| panic!("{text:?} lacks {message:?}: {}", found.render(false)));
        let span = d.span.as_ref().unwrap_or_else(|| panic!("{text:?}: no place"));
        if !place.is_empty() {
            assert_eq!(span.place(), format!("{file}:{place}"), "{text:?}");
        }
        let said = d.hint.as_deref().unwrap_or("");
        assert!(said.contains(hint), "{text:?}: {said:?} lacks {hint:?}");
    }
}

#[test]
fn one_mistake_is_said_once() {
    for (file, text, message, _, _) in CASES {
        let (_, found) = read(file, text);
        let errors = found.iter().filter(|d| d.severity == Severity::Error).count();
        let allowed = if text.starts_with("---") { 2 } else { 1 };
        assert!(errors <= allowed, "{text:?} ({message}): {}", found.render(false));
    }
}

#[test]
fn all_mistakes_are_said_at_once_in_file_order() {
    let (i, found) = read("h.ini", "[web]\nn[2:1]\nok x\n[b:vrs]\n[web:vars]\nq\n[good]\nlast\n");
    let places: Vec<String> = found.iter().filter_map(|d| d.span.as_ref().map(|s| s.place())).collect();
    assert_eq!(places, ["h.ini:2:2", "h.ini:3:4", "h.ini:4:4", "h.ini:6:1"], "{}", found.render(false));
    assert!(i.hosts.contains_key("last"));
}
