//! Questions to an inventory: who is in a group, and which variables reach a host.

use super::{Group, Inventory, LOCALHOST, VarDir};
use crate::vars::Vars;
use indexmap::{IndexMap, IndexSet};
use std::path::Path;

/// Whose variables they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level<'a> {
    Group(&'a str),
    Host(&'a str),
}

impl Group {
    /// What inventories say of it, then files of variables, low to high.
    pub fn layers(&self) -> impl Iterator<Item = &Vars> {
        std::iter::once(&self.vars).chain(&self.files)
    }
}

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

    /// The variables that reach a host, layer by layer, low to high.
    pub fn host_layers(&self, host: &str) -> Vec<(Level<'_>, &Vars)> {
        self.layers(host, &self.group_order(host), None)
    }

    /// The same with the host's groups as [`Inventory::group_order`] has them. What inventories say of groups (`all`,
    /// parents, children) comes first, then the files for `all`, then those for other groups, then the host. `dir` is the
    /// folder of the playbook that asks. `None`: nobody's; what is only for some phases counts where nothing else is said.
    pub fn layers(&self, host: &str, groups: &[usize], dir: Option<&Path>) -> Vec<(Level<'_>, &Vars)> {
        let groups: Vec<&Group> = groups.iter().filter_map(|g| self.groups.get_index(*g)).map(|(_, g)| g).collect();
        let seen = |d: &VarDir| !d.of_phases || dir.is_some_and(|dir| dir == d.path);
        let (dirs, others): (Vec<usize>, Vec<usize>) = (0..self.var_dirs.len()).partition(|i| seen(&self.var_dirs[*i]));
        let named = self.hosts.get(host);
        let mut layers: Vec<(Level, &Vars)> = vec![];
        for d in others.into_iter().filter(|_| dir.is_none()) {
            layers.extend(groups.iter().filter_map(|g| Some((Level::Group(g.name.as_str()), g.files.get(d)?))));
            layers.extend(named.and_then(|h| Some((Level::Host(h.name.as_str()), h.files.get(d)?))));
        }
        layers.extend(groups.iter().map(|g| (Level::Group(g.name.as_str()), &g.vars)));
        for all in [true, false] {
            for d in &dirs {
                let of = groups.iter().filter(|g| (g.name == "all") == all);
                layers.extend(of.filter_map(|g| Some((Level::Group(&g.name), g.files.get(*d)?))));
            }
        }
        if let Some(h) = named {
            layers.push((Level::Host(&h.name), &h.vars));
            layers.extend(dirs.iter().filter_map(|d| Some((Level::Host(&h.name), h.files.get(*d)?))));
        }
        layers
    }

    /// Everything that holds variables.
    pub fn all_vars(&self) -> impl Iterator<Item = &Vars> {
        let hosts = self.hosts.values().flat_map(|h| std::iter::once(&h.vars).chain(&h.files));
        self.groups.values().flat_map(Group::layers).chain(hosts)
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
