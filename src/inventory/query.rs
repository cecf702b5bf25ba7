//! Questions to an inventory: who is in a group, and which variables reach a host.

use super::{Group, Inventory, LOCALHOST};
use crate::vars::Vars;
use indexmap::{IndexMap, IndexSet};

impl Inventory {
    /// Whether a name is this machine without being in the inventory: it is reached locally.
    pub fn is_implicit_localhost(&self, name: &str) -> bool {
        LOCALHOST.contains(&name) && !self.hosts.contains_key(name)
    }

    /// Every group a host is in, `all` included: by depth, then priority, then name, so that the last one wins. Indices of
    /// `groups`.
    pub fn group_order(&self, host: &str) -> Vec<usize> {
        self.groups_in_order(host).iter().filter_map(|g| self.groups.get_index_of(&g.name)).collect()
    }

    fn groups_in_order(&self, host: &str) -> Vec<&Group> {
        let mut names: IndexSet<&str> = IndexSet::from(["all"]);
        let direct = self.hosts.get(host).map(|h| &h.groups);
        let mut open: Vec<&str> = direct.into_iter().flatten().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if names.insert(name) {
                open.extend(self.groups.get(name).into_iter().flat_map(|g| &g.parents).map(String::as_str));
            }
        }
        let mut groups: Vec<&Group> = names.iter().filter_map(|n| self.groups.get(*n)).collect();
        groups.sort_by(|a, b| (a.depth, a.priority, &a.name).cmp(&(b.depth, b.priority, &b.name)));
        groups
    }

    /// The variables that reach a host, layer by layer, low to high: `all`, parent groups, child groups, the host.
    pub fn host_layers(&self, host: &str) -> Vec<(String, &Vars)> {
        let mut layers: Vec<_> =
            self.groups_in_order(host).into_iter().map(|g| (format!("group `{}`", g.name), &g.vars)).collect();
        if let Some(h) = self.hosts.get(host) {
            layers.push((format!("host `{}`", h.name), &h.vars));
        }
        layers
    }

    /// The hosts of a group and of the groups below it, each once: its own first, then its children's, level by level.
    pub fn group_hosts(&self, name: &str) -> Vec<&str> {
        let mut hosts: IndexSet<&str> = IndexSet::new();
        let mut groups: IndexSet<&str> = self.groups.get(name).map(|g| g.name.as_str()).into_iter().collect();
        let mut next = 0;
        while let Some(group) = groups.get_index(next).and_then(|n| self.groups.get(*n)) {
            hosts.extend(group.hosts.iter().map(String::as_str));
            groups.extend(group.children.iter().map(String::as_str));
            next += 1;
        }
        hosts.into_iter().collect()
    }

    /// The groups of a host and their parents, without `all`, sorted by name (the magic variable `group_names`).
    pub fn groups_of(&self, host: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self.groups_in_order(host).iter().map(|g| g.name.as_str()).collect();
        names.retain(|n| *n != "all");
        names.sort_unstable();
        names
    }

    /// Every group with its hosts (the magic variable `groups`).
    pub fn groups_map(&self) -> IndexMap<&str, Vec<&str>> {
        self.groups.keys().map(|n| (n.as_str(), self.group_hosts(n))).collect()
    }
}
