//! What the members of the stand-in's cluster agree on: themselves, and names with values.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub index: u64,
    pub node: String,
    pub name: String,
    pub address: String,
    pub voter: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub revision: u64,
    pub next: u64,
    pub members: Vec<Member>,
    pub values: BTreeMap<String, String>,
}

/// A change to the state; one a line, words with tabs between them.
#[derive(Debug, Clone)]
pub enum Op {
    Set(String, String),
    Delete(String),
    /// Node, member's name, address.
    Add(String, String, String),
    Promote(u64),
    Remove(u64),
}

impl Op {
    pub fn line(&self) -> String {
        match self {
            Op::Set(k, v) => format!("set\t{k}\t{v}\n"),
            Op::Delete(k) => format!("delete\t{k}\n"),
            Op::Add(node, name, address) => format!("add\t{node}\t{name}\t{address}\n"),
            Op::Promote(i) => format!("promote\t{i}\n"),
            Op::Remove(i) => format!("remove\t{i}\n"),
        }
    }
    pub fn parse(line: &str) -> Option<Op> {
        let words: Vec<&str> = line.split('\t').collect();
        Some(match words[..] {
            ["set", k, v] => Op::Set(k.into(), v.into()),
            ["delete", k] => Op::Delete(k.into()),
            ["add", node, name, address] => Op::Add(node.into(), name.into(), address.into()),
            ["promote", i] => Op::Promote(i.parse().ok()?),
            ["remove", i] => Op::Remove(i.parse().ok()?),
            _ => return None,
        })
    }
}

impl State {
    pub fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.voter)
    }
    /// How many voters must agree.
    pub fn majority(&self) -> usize {
        self.voters().count() / 2 + 1
    }
    pub fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Set(k, v) => drop(self.values.insert(k.clone(), v.clone())),
            Op::Delete(k) => {
                let below = format!("{k}/");
                self.values.retain(|n, _| n != k && !n.starts_with(&below));
            }
            Op::Add(node, name, address) => {
                if self.members.iter().any(|m| m.name == *name) {
                    return Ok(());
                }
                if self.members.iter().any(|m| m.node == *node) {
                    return Err("duplicate node name found, please use a unique name for this node".into());
                }
                if self.members.iter().any(|m| !m.voter) {
                    return Err("etcdserver: too many learner members in cluster".into());
                }
                let voter = self.members.is_empty();
                self.next += 1;
                let (index, node, name, address) = (self.next, node.clone(), name.clone(), address.clone());
                self.members.push(Member { index, node, name, address, voter });
            }
            Op::Promote(i) => self.members.iter_mut().filter(|m| m.index == *i).for_each(|m| m.voter = true),
            Op::Remove(i) => self.members.retain(|m| m.index != *i),
        }
        self.revision += 1;
        Ok(())
    }
    pub fn text(&self) -> String {
        let mut t = format!("revision\t{}\nnext\t{}\n", self.revision, self.next);
        for m in &self.members {
            let _ = writeln!(t, "member\t{}\t{}\t{}\t{}\t{}", m.index, m.node, m.name, m.address, m.voter);
        }
        for (k, v) in &self.values {
            let _ = writeln!(t, "value\t{k}\t{v}");
        }
        t + "end\n"
    }
    /// Nothing where the text is not a whole state.
    pub fn parse(text: &str) -> Option<State> {
        let mut s = State::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split('\t').collect();
            match words[..] {
                ["revision", n] => s.revision = n.parse().ok()?,
                ["next", n] => s.next = n.parse().ok()?,
                ["member", index, node, name, address, voter] => s.members.push(Member {
                    index: index.parse().ok()?,
                    node: node.into(),
                    name: name.into(),
                    address: address.into(),
                    voter: voter == "true",
                }),
                ["value", k, v] => drop(s.values.insert(k.into(), v.into())),
                ["end"] => return Some(s),
                _ => return None,
            }
        }
        None
    }
    pub fn load(path: &Path) -> Option<State> {
        State::parse(&std::fs::read_to_string(path).ok()?)
    }
    pub fn save(&self, path: &Path) {
        let fresh = path.with_extension("new");
        let saved = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&fresh, self.text()))
            .and_then(|()| std::fs::rename(&fresh, path));
        if let Err(e) = saved {
            crate::fatal(&format!("{}: {e}", path.display()));
        }
    }
}
