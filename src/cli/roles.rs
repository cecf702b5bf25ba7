//! `windlass roles`: the roles of the project, and what each takes.

use super::{Exit, project};
use crate::error::{Error, Result};
use crate::modules::pages::wrap;
use crate::playbook::{self, Argument, Role};
use crate::source::nearest;
use crate::template::{Templates, text};
use crate::vault::Redactor;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Roles {
    /// One role's page; without it the list of all.
    name: Option<String>,
    /// An age or SSH key that opens secrets. Can be repeated.
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

impl Roles {
    pub fn run(&self) -> Result<Exit> {
        let here = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
        // As a playbook of the project would find them.
        let playbooks = here.join("playbooks");
        let from = if playbooks.is_dir() { playbooks } else { here.clone() };
        let names = playbook::role_names(&from);
        let Some(name) = &self.name else {
            let width = names.iter().map(String::len).max().unwrap_or(0);
            for (n, dir) in names.iter().filter_map(|n| Some((n, playbook::role_dir(&from, n)?))) {
                say!("{}", format!("{n:width$}  {}", about(&dir)).trim_end());
            }
            return Ok(Exit::Done);
        };
        let opener = project::Opener::new(&self.identity, &here);
        if !names.contains(name) {
            let e = Error::input(format!("there is no role `{name}`"));
            return Err(match nearest(name, names.iter().map(String::as_str)) {
                Some(n) => e.hint(format!("did you mean `{n}`?")),
                None => e.hint("`windlass roles` lists them all"),
            });
        }
        let (role, found) = playbook::load_role(&from, name, &Templates::new(), &opener);
        project::print(&found, &opener.redactor);
        let Some(role) = role else { return Ok(Exit::Input) };
        say_on!("{}", opener.redactor.redact(&page(&role, &opener.redactor)));
        Ok(Exit::Done)
    }
}

/// What its README says first, or its spec.
fn about(dir: &Path) -> String {
    let readme = std::fs::read_to_string(dir.join("README.md")).unwrap_or_default();
    let first = readme.split("\n\n").find(|p| !p.trim().is_empty() && !p.trim_start().starts_with('#'));
    let words = first.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let end = words.find(". ").map_or(words.len(), |i| i);
    words[..end].trim_end_matches('.').to_string()
}

fn page(role: &Role, redactor: &Redactor) -> String {
    let mut out = format!("{}\n\n", role.name);
    let readme = about(&role.dir);
    if !readme.is_empty() {
        wrap(&format!("{readme}."), 2, &mut out);
        out.push('\n');
    }
    for (entry, a) in &role.arguments {
        let of = if entry == "main" { String::new() } else { format!(" of tasks/{entry}.yml") };
        out.push_str(&format!("Arguments{of}\n"));
        if !a.description.is_empty() {
            wrap(&a.description, 2, &mut out);
        }
        a.options.iter().for_each(|o| argument(o, 2, redactor, &mut out));
        out.push('\n');
    }
    let told = |n: &str| role.arguments.iter().any(|(_, a)| a.options.iter().any(|o| o.name == n));
    let others: Vec<_> = role.defaults.iter().filter(|(n, _)| !told(n)).collect();
    if !others.is_empty() {
        out.push_str("Defaults\n");
        for (n, v) in others {
            let value = if v.span.source.secret { "[redacted]".into() } else { v.value.to_string() };
            // A part of a secret is not known for one.
            out.push_str(&format!("  {n}: {}\n", super::cut(&redactor.redact(&value), 70)));
        }
        out.push('\n');
    }
    let needs: Vec<&str> = role.dependencies.iter().map(|d| d.role.name.as_str()).collect();
    if !needs.is_empty() {
        out.push_str(&format!("Depends on {}\n", needs.join(", ")));
    }
    out
}

fn argument(a: &Argument, indent: usize, redactor: &Redactor, out: &mut String) {
    let mut kind = a.kind.map_or("any", |k| k.name()).to_string();
    if let Some(e) = a.elements {
        kind.push_str(&format!(" of {}", e.name()));
    }
    let must = if a.required { ", required" } else { "" };
    out.push_str(&format!("{}{} ({kind}{must})\n", " ".repeat(indent), a.name));
    let mut words = a.description.clone();
    if !a.choices.is_empty() {
        words.push_str(&format!(" One of: {}.", a.choices.iter().map(text).collect::<Vec<_>>().join(", ")));
    }
    if let Some((d, _)) = &a.default {
        words.push_str(&format!(" Default: {}.", text(d)));
    }
    // Before a line ends within a secret.
    wrap(&redactor.redact(words.trim()), indent + 4, out);
    a.inner.options.iter().for_each(|o| argument(o, indent + 4, redactor, out));
}
