//! Where a lab keeps its things, and removing them.

use std::fs;
use std::path::{Path, PathBuf};

use super::tool;
use crate::error::{Error, Result};

/// Images and downloaded packages; they outlive labs.
pub fn cache() -> PathBuf {
    from_env("WINDLASS_LAB_CACHE", "/var/cache/windlass/lab")
}

/// One directory for each lab that is up.
pub fn state() -> PathBuf {
    from_env("WINDLASS_LAB_STATE", "/var/lib/windlass/lab")
}

/// The state directory of one lab.
pub fn lab(name: &str) -> PathBuf {
    state().join(name)
}

fn from_env(variable: &str, otherwise: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) if !path.is_empty() => std::path::absolute(&path).unwrap_or_else(|_| path.into()),
        _ => otherwise.into(),
    }
}

/// A lab's name becomes part of host names, paths and rules, so it is kept plain.
pub fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name.is_empty() || name.len() > 30 || !plain || name.starts_with('-') || name.ends_with('-') {
        return Err(Error::input(format!("\"{name}\" cannot be a lab's name"))
            .hint("up to 30 of a-z, 0-9 and -, with no - at either end"));
    }
    Ok(())
}

/// Unmounts everything mounted at or below a directory, deepest first.
pub fn unmount_below(directory: &Path) -> Result<()> {
    for at in mounts_below(directory)?.iter().rev() {
        if tool::run(tool::command("umount").arg(at)).is_err() {
            tool::run(tool::command("umount").arg("--lazy").arg(at))?;
        }
    }
    Ok(())
}

/// What is mounted at or below a directory, in mount order.
fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(tool::at("read", table))?;
    let at = text.lines().filter_map(|line| line.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p)));
    Ok(at.filter(|p| p.starts_with(directory)).collect())
}

/// The kernel writes space, tab, newline and backslash in mount tables as octal.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Removes a directory tree; refuses while anything is mounted in it. Fine if it does not exist.
pub fn remove_tree(directory: &Path) -> Result<()> {
    if let Some(at) = mounts_below(directory)?.first() {
        return Err(Error::environment(format!("cannot remove {}: still mounted", at.display()))
            .hint(format!("umount {}", at.display())));
    }
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(tool::at("remove", directory)(e)),
        _ => Ok(()),
    }
}

/// Removes a directory if it is empty; anything else is left as it is.
pub fn remove_empty(directory: &Path) {
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["lab", "a", "ci-2", "0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a b", "ü", &"x".repeat(31)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mount_table_escapes() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
    }
}
