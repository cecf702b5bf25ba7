//! What `-i` names: files, directories and host lists, read and merged in order.

use super::build::{Builder, Listening};
use super::{Inventory, VarDir, dynamic, ini, terraform, var_files, yaml};
use crate::source::{self, Diagnostic, Diagnostics, Source, Span};
use crate::vars::{self, SecretOpener, Vars};
use fancy_regex::Regex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Endings of files in an inventory directory that are never inventories.
const IGNORED_ENDINGS: [&str; 28] = [
    "~", ".pyc", ".pyo", ".swp", ".bak", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry", ".pub", ".age",
    ".pem", ".key", ".crt", ".tf", ".tfvars", ".hcl", ".tfstate", ".backup", ".j2", ".hbs", ".tpl", ".tmpl", ".lock",
    ".log",
];

impl Inventory {
    /// Reads and merges inventories; every mistake in them is a finding.
    ///
    /// `paths` are files, directories or host lists with a comma (`a,b,`). `group_vars/` and `host_vars/` are taken
    /// from beside each inventory and, winning over these, from `playbook_dirs`: the first is the playbook's, the others
    /// are those of playbooks that it takes in.
    pub fn load(
        paths: &[PathBuf],
        opener: &dyn SecretOpener,
        playbook_dirs: &[PathBuf],
        makes: &[Regex],
    ) -> (Inventory, Diagnostics) {
        let listening = Listening::new(opener);
        let mut b = Builder::new(&listening);
        let mut var_dirs = vec![];
        for path in paths {
            let text = path.to_string_lossy();
            if text.contains(',') && !path.exists() {
                host_list(&text, &mut b);
            } else if path.is_dir() {
                directory(path, &mut b, 0);
                var_dirs.push(path.clone());
            } else {
                file(path, &mut b);
                let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                var_dirs.push(dir.to_path_buf());
            }
        }
        let mut var_dirs: Vec<VarDir> = var_dirs.into_iter().map(|path| VarDir { path, of_phases: false }).collect();
        let of_books = playbook_dirs.iter().enumerate();
        var_dirs.extend(of_books.map(|(i, path)| VarDir { path: path.clone(), of_phases: i > 0 }));
        b.settle_groups();
        b.inventory.partial_hosts = b.found.has_errors();
        var_files::read(var_dirs, makes, &mut b);
        b.inventory.partial_vars = b.found.has_errors();
        if !paths.is_empty() && b.inventory.hosts.is_empty() && !b.found.has_errors() {
            b.found.push(Diagnostic::warning("the inventory has no hosts"));
        }
        let (mut inventory, found) = b.finish();
        inventory.secrets = listening.heard();
        (inventory, found)
    }

    /// Reads one inventory from text, as a file of that name would be read; without `group_vars/` and `host_vars/`.
    pub fn parse(source: &Arc<Source>, opener: &dyn SecretOpener) -> (Inventory, Diagnostics) {
        let listening = Listening::new(opener);
        let mut b = Builder::new(&listening);
        content(source, &mut b);
        b.settle_groups();
        let (mut inventory, found) = b.finish();
        inventory.secrets = listening.heard();
        (inventory, found)
    }
}

/// `-i 'a,b,'`: hosts named on the command line.
fn host_list(text: &str, b: &mut Builder) {
    let source = Source::new("--inventory", text);
    let mut at = 0;
    for piece in text.split(',') {
        let entry = piece.trim();
        let start = at + (piece.len() - piece.trim_start().len());
        at += piece.len() + 1;
        if !entry.is_empty() {
            b.add_hosts("ungrouped", entry, &Span::new(&source, start..start + entry.len()), Vars::new());
        }
    }
}

fn directory(dir: &Path, b: &mut Builder, depth: usize) {
    let entries = match std::fs::read_dir(dir) {
        Ok(e) => e,
        Err(e) => {
            b.found.push(Diagnostic::error(format!("cannot read {}: {e}", source::display_path(dir).display())));
            return;
        }
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if ignored(&name) {
            continue;
        }
        if path.is_dir() {
            if depth < 8 {
                directory(&path, b, depth + 1);
            }
        } else if path.is_file() {
            file(&path, b);
        }
    }
}

/// Whether a name in an inventory directory is passed over.
fn ignored(name: &str) -> bool {
    name.starts_with('.')
        || name.starts_with("id_")
        || name.starts_with("README")
        || ["group_vars", "host_vars", "vars_plugins"].contains(&name)
        || name.starts_with("known_hosts")
        || IGNORED_ENDINGS.iter().any(|e| name.ends_with(e))
}

fn file(path: &Path, b: &mut Builder) {
    let shown = source::display_path(path);
    if !path.exists() {
        let d = source::unreadable(&shown, &std::io::ErrorKind::NotFound.into());
        let d = Diagnostic { message: format!("the inventory {} does not exist", shown.display()), ..d };
        let lone = !path.to_string_lossy().contains(['/', '.']);
        b.found.push(if lone {
            d.hint(format!("for a host of that name, write a comma behind it: -i {},", shown.display()))
        } else {
            d
        });
        return;
    }
    if is_program(path) {
        return dynamic::read(path, b);
    }
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    if ending.as_deref() == Some("toml") {
        let d = Diagnostic::error(format!("{}: TOML inventories are not supported", shown.display()));
        b.found.push(d.hint("write it as YAML or INI"));
        return;
    }
    let source =
        if ending.as_deref() == Some("age") { vars::read_encrypted(path, b.opener) } else { Source::read(path) };
    match source {
        Ok(s) => content(&s, b),
        Err(d) => b.found.push(d),
    }
}

/// A script or a program, to be run rather than read.
fn is_program(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0u8; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read(&mut head)).unwrap_or(0);
    head[..read].starts_with(b"#!") || head[..read].starts_with(b"\x7fELF")
}

/// Reads a source as YAML or INI, whichever it is.
fn content(source: &Arc<Source>, b: &mut Builder) {
    if let Some(root) = state(source) {
        return terraform::read(source, &root, b);
    }
    if source.path.extension().is_some_and(|e| e == "tfstate") {
        let d = Diagnostic::error("this is no Terraform state").at(&Span::new(source, 0..0));
        return b.found.push(d.hint("name a state of version 4, or what `terraform show -json` prints"));
    }
    if is_yaml(source) {
        match crate::source::yaml::parse(source) {
            Ok(root) => yaml::read(&root, b),
            Err(d) => b.found.push(d),
        }
    } else {
        ini::read(source, b);
    }
}

/// A Terraform state.
fn state(source: &Source) -> Option<serde_json::Value> {
    let ending = source.path.extension().and_then(|e| e.to_str());
    if !matches!(ending, Some("json" | "tfstate")) {
        return None;
    }
    serde_json::from_str(&source.text).ok().filter(terraform::is_state)
}

/// By the file's ending, and where that says nothing by its first line.
fn is_yaml(source: &Source) -> bool {
    let path = if source.path.extension().is_some_and(|e| e == "age") {
        source.path.with_extension("")
    } else {
        source.path.clone()
    };
    match path.extension().and_then(|e| e.to_str()) {
        Some("yml" | "yaml" | "json") => return true,
        Some("ini") => return false,
        _ => {}
    }
    let text = source.text.trim_start_matches('\u{feff}');
    let first = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with(['#', ';'])).unwrap_or("");
    let bare = first.split(" #").next().unwrap_or("").trim_end();
    bare == "---"
        || bare.starts_with('{')
        || bare.ends_with(':')
        || bare.split_once(": ").is_some_and(|(k, _)| !k.contains(char::is_whitespace) && !k.contains('='))
}
