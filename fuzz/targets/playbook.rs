//! A small project: `--- PATH` begins a file, what stands before the first is the playbook. It is checked as
//! `windlass check` does, and all findings are shown in both forms.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

const INVENTORY: &str = "all:\n  vars: {greeting: hello, ports: [80, 443]}\n  children:\n    \
                         web: {hosts: {web1: {size: 3}, 'web[2:3]': {}}}\n    db: {hosts: {db1: {ansible_port: 2222}}}\n";

/// One folder for the whole run: what an input writes is removed behind it.
fn folder() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

fn inside(name: &str) -> Option<PathBuf> {
    let plain = |c: Component| matches!(c, Component::Normal(n) if n.len() < 40 && !n.is_empty());
    let path = Path::new(name);
    let fine = !name.contains('\0') && path.components().count() < 8 && path.components().all(plain);
    (fine && path.components().next().is_some() && !name.ends_with('/')).then(|| folder().join(path))
}

fuzz_target!(|text: &str| -> Corpus {
    let mut files: Vec<(PathBuf, String)> = vec![(folder().join("hosts.yml"), INVENTORY.into())];
    files.push((folder().join("site.yml"), String::new()));
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("--- ") {
            let Some(path) = inside(name.trim_end()) else { return Corpus::Reject };
            files.push((path, String::new()));
        } else if let Some((_, body)) = files.last_mut() {
            body.push_str(line);
        }
    }
    for (path, body) in &files {
        let made = path.parent().is_some_and(|p| std::fs::create_dir_all(p).is_ok());
        if !made || std::fs::write(path, body).is_err() {
            // A file where a folder is wanted, or the other way round.
            break;
        }
    }
    if let Ok(found) = windlass::cli::findings(&folder().join("site.yml"), &folder().join("hosts.yml")) {
        let shown = found.render(false);
        assert!(found.is_empty() || !shown.is_empty());
        found.iter().for_each(|d| assert!(d.to_json().is_object()));
    }
    for entry in std::fs::read_dir(folder()).into_iter().flatten().flatten() {
        let _ = if entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path())
        } else {
            std::fs::remove_file(entry.path())
        };
    }
    Corpus::Keep
});
