//! `group_vars/` and `host_vars/` beside the inventory and beside the playbook.

use super::VarDir;
use super::build::{Builder, put};
use crate::source::{Diagnostic, display_path, nearest};
use crate::vars::{self, Vars};
use fancy_regex::Regex;
use std::path::{Path, PathBuf};

/// Reads the variables of every group and host from the directories, later ones winning.
/// `makes` are the names of groups that a run may make: their variables are kept for then.
pub fn read(dirs: Vec<VarDir>, makes: &[Regex], b: &mut Builder) {
    let groups: Vec<String> = b.inventory.groups.keys().cloned().collect();
    let hosts: Vec<String> = b.inventory.hosts.keys().cloned().collect();
    b.inventory.var_dirs = in_order(dirs);
    for (i, dir) in b.inventory.var_dirs.clone().iter().map(|d| &d.path).enumerate() {
        let of_groups = dir.join("group_vars");
        if of_groups.is_dir() {
            for g in &groups {
                let vars = of_name(&of_groups, g, b);
                b.set_group_file(g, i, vars);
            }
            let made = names_in(&of_groups);
            for g in made.iter().filter(|g| !groups.contains(g) && makes.iter().any(|m| m.is_match(g).unwrap_or(false)))
            {
                let vars = of_name(&of_groups, g, b);
                put(b.inventory.spare.entry(g.clone()).or_default(), i, vars);
            }
            misspelt(&of_groups, "group", &groups, b);
        }
        let of_hosts = dir.join("host_vars");
        if of_hosts.is_dir() {
            for h in &hosts {
                let vars = of_name(&of_hosts, h, b);
                b.set_host_file(h, i, vars);
            }
            misspelt(&of_hosts, "host", &hosts, b);
        }
    }
}

/// The groups or hosts that a folder of variables has files for.
fn names_in(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            let bare = name.strip_suffix(".age").unwrap_or(&name);
            let bare = [".yml", ".yaml", ".json"].iter().find_map(|e| bare.strip_suffix(e)).unwrap_or(bare);
            (!bare.is_empty()).then(|| bare.to_string())
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// A directory named twice counts where it stands last; one that is for all is not for some phases only.
fn in_order(dirs: Vec<VarDir>) -> Vec<VarDir> {
    let real = |d: &VarDir| std::fs::canonicalize(&d.path).unwrap_or_else(|_| d.path.clone());
    let for_all: Vec<PathBuf> = dirs.iter().filter(|d| !d.of_phases).map(real).collect();
    let mut seen = vec![];
    let mut kept = vec![];
    for d in dirs.into_iter().rev() {
        let r = real(&d);
        let elsewhere = d.of_phases && for_all.contains(&r);
        if !elsewhere && !seen.contains(&r) {
            seen.push(r);
            kept.push(d);
        }
    }
    kept.reverse();
    kept
}

fn of_name(dir: &Path, name: &str, b: &mut Builder) -> Vars {
    let mut all = Vars::new();
    if name.contains('/') {
        return all;
    }
    for file in vars::files_for(dir, name) {
        all.extend(vars::load_file(&file, b.opener, &mut b.found));
    }
    vars::passed_over(dir, name, &mut b.found);
    all
}

/// A file for no group or host of this inventory is fine (another inventory may have it) unless its name is nearly one.
fn misspelt(dir: &Path, what: &str, known: &[String], b: &mut Builder) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let Some(file) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let bare = file.strip_suffix(".age").unwrap_or(file);
        let bare = [".yml", ".yaml", ".json"].iter().find_map(|e| bare.strip_suffix(e)).unwrap_or(bare);
        // Of short names, everything is nearly something.
        if bare.len() < 4 || bare.starts_with('.') || known.iter().any(|k| k == bare || k == file) {
            continue;
        }
        let letters = |s: &str| s.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        if let Some(near) = nearest(bare, known.iter().map(String::as_str))
            && letters(near) != letters(bare)
        {
            b.found.push(
                Diagnostic::warning(format!(
                    "{} belongs to no {what} of this inventory",
                    display_path(&path).display()
                ))
                .hint(format!("did you mean `{near}`?")),
            );
        }
    }
}
