//! What package managers other than apt have in common: which packages are there, which have something newer, and what
//! is done about it.

use super::args::List;
use super::{ArgError, Change, Decision, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_join;
use serde_json::{Map, json};

/// What is to become of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Present,
    Absent,
    Latest,
}

/// How one package manager is asked and told. All commands are shell.
pub trait Manager {
    /// The program, and what it is called.
    fn program(&self) -> &str;
    /// Prints which of the packages are there. Read by [`Manager::read`].
    fn look(&self, names: &[String]) -> String;
    /// Prints, after [`NEWER`], what has something newer: of these packages, or of all. Exits when that cannot be told.
    fn look_newer(&self, names: &[String]) -> String;
    fn read(&self, said: &str, names: &[String]) -> Seen;
    /// What the look prints when all the packages are there, or none.
    fn said(&self, names: &[String], there: bool) -> String;
    /// Prints all packages with their versions: what tells whether something was changed.
    fn list(&self) -> String;
    /// Prints which of the packages are not there, once they were installed.
    fn lacking(&self, _names: &[String]) -> Option<String> {
        None
    }
    fn refresh(&self) -> Option<String>;
    fn refresh_counts(&self) -> Refresh;
    fn install(&self, names: &[String], upgrade: bool) -> String;
    fn remove(&self, names: &[String]) -> String;
    fn upgrade_all(&self) -> String;
}

/// Whether fetching the package lists, and nothing besides, is a change: as Ansible has it for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    Always,
    /// When [`Manager::list`] prints something else afterwards.
    Compared,
    Never,
}

/// Parts what was said of packages from what was said of newer versions.
pub const NEWER: &str = "== newer";

/// What a host says of packages.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    pub missing: Vec<String>,
    /// Package and version, of these or of all.
    pub newer: Vec<(String, String)>,
}

/// Packages and what is to become of them.
#[derive(Debug)]
pub struct Job<'a> {
    pub names: &'a [String],
    pub wish: Wish,
    /// Refresh the package lists first.
    pub refresh: bool,
    /// Upgrade all packages.
    pub all: bool,
    /// Install nothing that is not there.
    pub upgrade_only: bool,
}

/// Names that a package manager may be given.
pub fn check_names(names: &List) -> Result<(), ArgError> {
    let odd = |n: &&String| {
        n.is_empty()
            || n.starts_with('-')
            || n.contains(|c: char| c.is_whitespace() || c.is_control() || "'\"`$;|&".contains(c))
    };
    match names.iter().find(odd) {
        Some(n) => Err(ArgError::new("name", format!("`{n}` is not a package's name"))),
        None => Ok(()),
    }
}

impl Job<'_> {
    /// The read-only script that a decision needs.
    pub fn look(&self, m: &dyn Manager) -> String {
        let mut s = format!("command -v {} >/dev/null 2>&1 || exit 127\nexport LC_ALL=C\n", shell_join([m.program()]));
        if !self.names.is_empty() {
            s += &m.look(self.names);
        }
        if self.all || (self.wish == Wish::Latest && !self.names.is_empty()) {
            s += &format!("echo '{NEWER}'\n{}", m.look_newer(if self.all { &[] } else { self.names }));
        }
        s + "exit 0"
    }

    pub fn probes(&self, m: &dyn Manager) -> Vec<Probe> {
        vec![Probe::Script(self.look(m))]
    }

    pub fn decide(&self, m: &dyn Manager, seen: &Observed) -> Result<Decision, Stop> {
        let look = self.look(m);
        let out = seen.script(&look)?;
        if out.rc == 127 {
            return Err(Stop::fail_hint(
                format!("there is no {} on the host", m.program()),
                "`package` takes whatever package manager a host has",
            ));
        }
        let refresh = self.refresh && self.wish != Wish::Absent;
        // After a refresh the answer would be another.
        if out.rc != 0 && !refresh {
            let why = out.stderr.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it says nothing more");
            return Err(Stop::fail_hint(
                format!("{} cannot tell what there is: {}", m.program(), why.trim()),
                "see to the host's repositories; `update_cache: true` fetches their lists",
            ));
        }
        let now = m.read(&out.stdout, self.names);
        let missing = |n: &&String| now.missing.contains(n);
        let names: Vec<String> = match self.wish {
            Wish::Absent => self.names.iter().filter(|n| !missing(n)).cloned().collect(),
            _ if self.upgrade_only => vec![],
            _ => self.names.iter().filter(missing).cloned().collect(),
        };
        let there: Vec<String> = self.names.iter().filter(|n| !missing(n)).cloned().collect();
        // After a refresh anything may be newer.
        let newer: Vec<String> = match self.wish {
            Wish::Latest if refresh && !self.all => there,
            Wish::Latest if !self.all => now.newer.iter().map(|(n, _)| n.clone()).collect(),
            _ => vec![],
        };
        let all = self.all && (refresh || !now.newer.is_empty());
        let alone = self.names.is_empty() && !self.all;
        let (mut lines, mut says, mut lacking) = (vec![], vec![], None);
        if refresh && (alone || all || !names.is_empty() || !newer.is_empty()) {
            lines.extend(m.refresh());
            says.push("refreshes the package lists".to_string());
        }
        if !names.is_empty() && self.wish == Wish::Absent {
            lines.push(m.remove(&names));
            says.push(format!("removes {}", listed(names.iter().cloned())));
        } else if !names.is_empty() {
            lines.push(m.install(&names, false));
            lacking = m.lacking(&names);
            says.push(format!("installs {}", listed(names.iter().cloned())));
        }
        if !newer.is_empty() {
            let to = |n: &String| match now.newer.iter().find(|(x, _)| x == n).filter(|_| !refresh) {
                Some((_, v)) => format!("{n} -> {v}"),
                None => n.clone(),
            };
            lines.push(m.install(&newer, true));
            let maybe = if refresh { " as far as there is something newer" } else { "" };
            says.push(format!("upgrades {}{maybe}", listed(newer.iter().map(to))));
        }
        if all {
            lines.push(m.upgrade_all());
            says.push(match refresh {
                _ if self.wish == Wish::Absent => {
                    format!("removes {}", listed(now.newer.iter().map(|(n, _)| n.clone())))
                }
                true => "upgrades all packages".into(),
                false => format!("upgrades {}", listed(now.newer.iter().map(|(n, v)| format!("{n} -> {v}")))),
            });
        }
        let mut result = Map::new();
        let touched: Vec<&String> = names.iter().chain(&newer).collect();
        result.insert("packages".into(), json!(touched));
        if lines.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let said = m.said(self.names, self.wish != Wish::Absent) + NEWER + "\n";
        let lacking = lacking.map(|look| {
            let says = format!("{} says it is done, but this is not there:", m.program());
            format!("left=$({look})\n[ -z \"$left\" ] || {{ echo '{says}' $left >&2; exit 1; }}\n")
        });
        let script = format!(
            "export LC_ALL=C\nlist() {{\n{}\n}}\nbefore=$(list)\n{}{}[ \"$before\" = \"$(list)\" ] || echo '{CHANGED}'",
            m.list(),
            lines.iter().map(|l| format!("{l} </dev/null || exit\n")).collect::<String>(),
            lacking.unwrap_or_default(),
        );
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches: Touches::everything(),
            after: vec![(Probe::Script(look), Answer::Script(Output { stdout: said, ..Default::default() }))],
            summary: says.join(", "),
            result,
            verdict: (!alone || m.refresh_counts() != Refresh::Always).then_some(something_done),
            uncounted: alone && m.refresh_counts() == Refresh::Never,
            ..Default::default()
        }))
    }
}

const CHANGED: &str = "windlass: packages changed";

fn something_done(outputs: &[Output]) -> bool {
    outputs.iter().any(|o| o.stdout.lines().any(|l| l == CHANGED))
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.len() {
        0..=8 => names.join(", "),
        n => format!("{} and {} more", names[..8].join(", "), n - 8),
    }
}
