//! Packages downloaded by one node, for all later ones.
//!
//! Nodes cannot share one directory: apt locks it, so two nodes installing at once would fail. Each node has its own,
//! given every known package by hard link when the node is made, and its new ones are taken when it goes. apt never writes
//! into a package file that is there (it downloads beside and renames), so links are safe.

use std::fs;
use std::path::{Path, PathBuf};

use super::{node, paths};

fn pool() -> PathBuf {
    paths::cache().join("debs")
}

/// Gives a node's disk every known package. Not having them only costs a download, so nothing here is an error.
pub fn seed(archives: &Path) {
    copy_new(&pool(), archives);
}

/// Takes the packages a node has downloaded.
pub fn harvest(node: &Path) {
    let archives = node::archives(node);
    if archives.is_dir() {
        copy_new(&archives, &pool());
    }
}

fn copy_new(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else { return };
    let _ = fs::create_dir_all(to);
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let package = path.extension().is_some_and(|e| e == "deb") && entry.file_type().is_ok_and(|t| t.is_file());
        // apt makes a file whole elsewhere and renames it here; an empty one is somebody's placeholder.
        if !package || target.exists() || entry.metadata().map_or(true, |m| m.len() == 0) {
            continue;
        }
        if fs::hard_link(&path, &target).is_err() && !target.exists() {
            let fresh = to.join(format!(".{}.{}", entry.file_name().to_string_lossy(), std::process::id()));
            if fs::copy(&path, &fresh).is_err() || fs::rename(&fresh, &target).is_err() {
                let _ = fs::remove_file(&fresh);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_packages_and_none_twice() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("a_1_all.deb"), "a").unwrap();
        fs::write(from.path().join("b_1_all.deb"), "new b").unwrap();
        fs::write(from.path().join("c_1_all.deb"), "").unwrap();
        fs::write(from.path().join("lock"), "x").unwrap();
        fs::create_dir(from.path().join("partial")).unwrap();
        fs::write(to.path().join("b_1_all.deb"), "old b").unwrap();
        copy_new(from.path(), to.path());
        let mut names: Vec<_> =
            fs::read_dir(to.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["a_1_all.deb", "b_1_all.deb"]);
        assert_eq!(fs::read_to_string(to.path().join("b_1_all.deb")).unwrap(), "old b");
    }
}
