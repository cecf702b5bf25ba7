//! Hosts, groups and their variables: read from YAML, INI and directories, chosen by patterns.

mod build;
pub mod connection;
mod dynamic;
mod ini;
mod literal;
mod load;
mod made;
pub mod pattern;
mod query;
pub mod range;
mod show;
mod terraform;
mod var_files;
mod words;
mod yaml;

#[cfg(test)]
mod broken_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

pub use connection::{Connection, PASSWORDS, setting_names};
pub use made::Made;
pub use pattern::{PatternError, select, select_limit};
pub use query::Level;

use crate::source::Span;
use crate::vars::Vars;
use indexmap::{IndexMap, IndexSet};
use std::path::PathBuf;

/// The names that stand for this machine; each may be used without being in the inventory.
pub const LOCALHOST: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Every host and group, in the order in which they were first named. `all` and `ungrouped` are always there.
#[derive(Debug, Clone)]
pub struct Inventory {
    pub hosts: IndexMap<String, Host>,
    pub groups: IndexMap<String, Group>,
    /// Hosts or groups could not be read: what seems to be missing may be there.
    pub partial_hosts: bool,
    /// The same for variables.
    pub partial_vars: bool,
    /// The folders that `group_vars/` and `host_vars/` were read from, the last one counting most; with one of them, whose
    /// it is.
    var_dirs: Vec<VarDir>,
    /// Variables of groups that only the run makes, by folder.
    spare: IndexMap<String, Vec<Vars>>,
    /// Text that came out of encrypted files and values while loading; it is never shown.
    secrets: Vec<String>,
}

/// A folder that may have `group_vars/` and `host_vars/` in it.
#[derive(Debug, Clone)]
pub struct VarDir {
    pub path: PathBuf,
    /// That of a playbook which another one takes in: only for its own phases.
    pub of_phases: bool,
}

/// One machine to work on.
#[derive(Debug, Clone)]
pub struct Host {
    pub name: String,
    /// The host's own variables, as inventories have them.
    pub vars: Vars,
    /// Those of `host_vars/`, by the inventory's folders of variables.
    pub files: Vec<Vars>,
    /// The groups that name this host themselves.
    pub groups: IndexSet<String>,
    /// A task makes it: what variables it has shows only in the run.
    pub to_be_made: bool,
    /// Where the host is first named.
    pub span: Option<Span>,
}

/// A named set of hosts and groups.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    /// The group's variables, as inventories have them.
    pub vars: Vars,
    /// Those of `group_vars/`, by the inventory's folders of variables. Of whichever group, they stand above `vars`.
    pub files: Vec<Vars>,
    /// The hosts named by the group itself, in order.
    pub hosts: IndexSet<String>,
    pub children: IndexSet<String>,
    pub parents: IndexSet<String>,
    /// `ansible_group_priority`: among groups of one depth, the higher one wins. 1 where it isn't set.
    pub priority: i64,
    /// Longest way down from `all`.
    pub depth: usize,
    /// Where the group is first named; `all` and `ungrouped` need no place.
    pub span: Option<Span>,
}

impl Group {
    fn new(name: &str, span: Option<Span>) -> Self {
        Group {
            name: name.to_string(),
            vars: Vars::new(),
            files: vec![],
            hosts: IndexSet::new(),
            children: IndexSet::new(),
            parents: IndexSet::new(),
            priority: 1,
            depth: 0,
            span,
        }
    }
}

impl Default for Inventory {
    /// An inventory of no hosts, with the groups that are always there.
    fn default() -> Self {
        let mut all = Group::new("all", None);
        let mut ungrouped = Group::new("ungrouped", None);
        all.children.insert("ungrouped".into());
        ungrouped.parents.insert("all".into());
        ungrouped.depth = 1;
        Inventory {
            hosts: IndexMap::new(),
            groups: [all, ungrouped].into_iter().map(|g| (g.name.clone(), g)).collect(),
            partial_hosts: false,
            partial_vars: false,
            var_dirs: vec![],
            spare: IndexMap::new(),
            secrets: vec![],
        }
    }
}
