//! YAML inventories: groups with `hosts`, `children` and `vars`.

use super::build::Builder;
use super::{dynamic, terraform};
use crate::source::{Diagnostic, Entry, Kind, Node, Span, nearest};
use crate::vars::{self, Vars};

const KEYS: [&str; 3] = ["hosts", "children", "vars"];

/// Reads the groups of a document into the builder.
pub fn read(root: &Node, b: &mut Builder) {
    let entries = match &root.kind {
        Kind::Null => {
            b.found.push(Diagnostic::warning("the inventory file is empty").at(&root.span));
            return;
        }
        Kind::Map(m) => m,
        _ => {
            b.found.push(
                Diagnostic::error(format!("an inventory is a mapping of groups, not {}", root.what()))
                    .at(&root.span)
                    .hint("start with `all:`, and under it `hosts:` and `children:`"),
            );
            return;
        }
    };
    if let Some(e) = root.entry("plugin") {
        b.found.push(unsupported(e, "inventory plugins are not supported"));
        return;
    }
    let printed = root.span.source.path.extension().is_some_and(|e| e == "json") && dynamic::is_printed(root);
    if printed || root.entry("_meta").is_some() {
        return dynamic::groups(root, b);
    }
    if let Some(e) = root.entry("terraform_version").or_else(|| root.entry("format_version")) {
        b.found.push(
            Diagnostic::error("this is a Terraform state")
                .at(&e.key_span)
                .hint("let its name end in .json or .tfstate"),
        );
        return;
    }
    for e in entries {
        if terraform::is_mapping(e) {
            terraform::mapped(e, b);
            continue;
        }
        if KEYS.contains(&e.key.as_str()) && !looks_like_group(&e.value) {
            b.found.push(
                Diagnostic::error(format!("`{}` stands where a group's name is expected", e.key))
                    .at(&e.key_span)
                    .hint(format!("put it under a group: `all:`, then `{}:` indented", e.key)),
            );
            continue;
        }
        group(&e.key, &e.key_span, &e.value, b);
    }
}

fn unsupported(e: &Entry, what: &str) -> Diagnostic {
    Diagnostic::error(what).at(&e.key_span).hint("write its hosts into a YAML or INI inventory")
}

fn looks_like_group(node: &Node) -> bool {
    node.as_map().is_some_and(|m| !m.is_empty() && m.iter().all(|e| KEYS.contains(&e.key.as_str())))
}

fn group(name: &str, name_span: &Span, node: &Node, b: &mut Builder) {
    if !b.declare_group(name, name_span) {
        return;
    }
    let entries = match &node.kind {
        Kind::Null => return,
        Kind::Map(m) => m,
        _ => {
            b.found.push(
                Diagnostic::error(format!("the group `{name}` must be a mapping, not {}", node.what()))
                    .at(&node.span)
                    .hint("a group has `hosts:`, `children:` and `vars:`"),
            );
            return;
        }
    };
    for e in entries {
        match e.key.as_str() {
            "hosts" => hosts(name, &e.value, b),
            "children" => children(name, &e.value, b),
            "vars" => {
                let vars = vars::from_node(&e.value, &format!("`vars` of the group `{name}`"), b.opener, &mut b.found);
                b.set_group_vars(name, vars);
            }
            other => {
                let d = Diagnostic::error(format!("`{other}` is not a key of a group")).at(&e.key_span);
                b.found.push(match nearest(other, KEYS) {
                    Some(n) => d.hint(format!("did you mean `{n}`?")),
                    None if matches!(e.value.kind, Kind::Null) || e.value.as_map().is_some() => d.hint(format!(
                        "a host goes under `hosts:` of `{name}`, a group under `children:`, a variable under `vars:`"
                    )),
                    None => d.hint(format!("a variable goes under `vars:` of `{name}`")),
                });
            }
        }
    }
}

fn children(parent: &str, node: &Node, b: &mut Builder) {
    match &node.kind {
        Kind::Null => {}
        Kind::Map(entries) => {
            for e in entries {
                // The edge comes first, so that a circle is found where it closes.
                if b.declare_group(&e.key, &e.key_span) {
                    b.add_child(parent, &e.key, &e.key_span);
                    group(&e.key, &e.key_span, &e.value, b);
                }
            }
        }
        Kind::Str(child) => {
            if b.declare_group(child, &node.span) {
                b.add_child(parent, child, &node.span);
            }
        }
        _ => b.found.push(
            Diagnostic::error(format!("`children` of `{parent}` must be a mapping, not {}", node.what()))
                .at(&node.span)
                .hint("write each group as a key: `web:`, not `- web`"),
        ),
    }
}

fn hosts(group: &str, node: &Node, b: &mut Builder) {
    match &node.kind {
        Kind::Null => {}
        Kind::Map(entries) => {
            for e in entries {
                let vars = host_vars(e, b);
                b.add_hosts(group, &e.key, &e.key_span, vars);
            }
        }
        Kind::Str(entry) => b.add_hosts(group, entry, &node.span, Vars::new()),
        _ => b.found.push(
            Diagnostic::error(format!("`hosts` of `{group}` must be a mapping, not {}", node.what()))
                .at(&node.span)
                .hint("write each host as a key: `node1:`, not `- node1`"),
        ),
    }
}

fn host_vars(e: &Entry, b: &mut Builder) -> Vars {
    match &e.value.kind {
        Kind::Null | Kind::Map(_) => {
            vars::from_node(&e.value, &format!("the host `{}`", e.key), b.opener, &mut b.found)
        }
        _ => {
            let d = Diagnostic::error(format!(
                "the host `{}` must be a mapping of variables, not {}",
                e.key,
                e.value.what()
            ))
            .at(&e.value.span);
            b.found.push(match e.value.as_str() {
                Some(address) => d.hint(format!("for its address, write `{}: {{ansible_host: {address}}}`", e.key)),
                None => d.hint("write its variables as keys below it"),
            });
            Vars::new()
        }
    }
}
