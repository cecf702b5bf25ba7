//! The cached image that nodes are overlays on: built once, whole or not at all.
//!
//! `image-HASH/root` never changes. `image-HASH/apt-TIME` holds apt's package lists and caches; a new one is made
//! when the newest is a day old, so that nodes can install without `apt-get update`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::recipe::{PACKAGES, Recipe, SETUP, SUITE};
use super::{Progress, paths, tool};
use crate::error::{Error, Result};

/// How old package lists may get.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Runs a command in the image with a mount namespace of its own, so that a killed run leaves no mount behind.
/// Arguments: root, lists, cache, command.
const IN_IMAGE: &str = r#"
set -eu
root=$1 lists=$2 cache=$3
shift 3
mount --bind "$lists" "$root/var/lib/apt/lists"
mount --bind "$cache" "$root/var/cache/apt"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    chroot "$root" "$@"
"#;

/// A finished image.
pub struct Image {
    pub path: PathBuf,
}

/// The image for this machine, built if need be.
pub fn ready(progress: Progress) -> Result<Image> {
    let recipe = Recipe::of_this_machine()?;
    let path = paths::cache().join(format!("image-{}", recipe.hash()?));
    if !path.is_dir() {
        let lock = lock(progress)?;
        if !path.is_dir() {
            remove_unfinished()?;
            build(&recipe, &path, &lock, progress)?;
        }
    }
    Image::at(&path, progress)
}

impl Image {
    /// An image that is there, its package lists made fresh if they can be.
    pub fn at(path: &Path, progress: Progress) -> Result<Image> {
        let image = Image { path: path.into() };
        let fresh = || image.apt().is_some_and(|(_, age)| age < FRESH);
        if !fresh() {
            let lock = lock(progress)?;
            if !fresh() {
                progress("refreshing the package lists");
                if let Err(e) = image.refresh(&lock) {
                    progress(&format!("kept the old package lists: {e}"));
                }
            }
        }
        Ok(image)
    }

    /// The file system below the nodes.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Held while something is copied out of the image.
    pub fn shared(&self) -> Result<File> {
        let file = lock_file()?;
        file.lock_shared().map_err(tool::at("lock", &paths::cache()))?;
        Ok(file)
    }

    /// The newest package lists and their age.
    pub fn apt(&self) -> Option<(PathBuf, Duration)> {
        let (time, path) = apt_directories(&self.path).pop()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some((path, Duration::from_secs(now.saturating_sub(time))))
    }

    fn refresh(&self, lock: &File) -> Result<()> {
        let fresh = self.path.join("unfinished-apt");
        paths::remove_tree(&fresh)?;
        if let Some((newest, _)) = self.apt() {
            tool::run(tool::command("cp").arg("-a").arg(&newest).arg(&fresh))?;
        }
        update(&self.root(), &fresh, lock)?;
        let old = apt_directories(&self.path);
        fs::rename(&fresh, self.path.join(apt_name())).map_err(tool::at("rename", &fresh))?;
        for (_, path) in old {
            paths::remove_tree(&path)?;
        }
        Ok(())
    }
}

fn apt_name() -> String {
    format!("apt-{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// The `apt-TIME` directories of an image, oldest first.
fn apt_directories(image: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(image) else { return Vec::new() };
    let time = |name: String| name.strip_prefix("apt-")?.parse::<u64>().ok();
    let mut all: Vec<_> =
        entries.flatten().filter_map(|e| Some((time(e.file_name().into_string().ok()?)?, e.path()))).collect();
    all.sort();
    all
}

fn lock_file() -> Result<File> {
    let cache = paths::cache();
    fs::create_dir_all(&cache).map_err(tool::at("create", &cache))?;
    let path = cache.join("lock");
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).open(&path).map_err(tool::at("open", &path))
}

/// The cache's lock. Builders get it as their stdin, so that it is held until the last of them is gone, even when the
/// process that started them was killed.
fn lock(progress: Progress) -> Result<File> {
    let file = lock_file()?;
    if file.try_lock().is_err() {
        progress("waiting for another lab's image build");
        file.lock().map_err(tool::at("lock", &paths::cache()))?;
    }
    Ok(file)
}

/// Removes what killed builds left.
fn remove_unfinished() -> Result<()> {
    let cache = paths::cache();
    for entry in fs::read_dir(&cache).map_err(tool::at("read", &cache))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("unfinished-") {
            paths::unmount_below(&entry.path())?;
            paths::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn build(recipe: &Recipe, path: &Path, lock: &File, progress: Progress) -> Result<()> {
    progress(&format!("building the Debian {SUITE} image (once, about a minute)"));
    let unfinished = paths::cache().join("unfinished-image");
    let root = unfinished.join("root");
    let packages = paths::cache().join("debootstrap");
    for directory in [&root, &packages] {
        fs::create_dir_all(directory).map_err(tool::at("create", directory))?;
    }

    let mut debootstrap = tool::command("debootstrap");
    debootstrap.arg("--variant=minbase").arg(format!("--include={}", PACKAGES.join(",")));
    debootstrap.arg(format!("--cache-dir={}", packages.display())).arg(SUITE).arg(&root);
    if !recipe.mirror.is_empty() {
        debootstrap.arg(&recipe.mirror);
    }
    if let Some(proxy) = recipe.proxy().filter(|_| std::env::var_os("http_proxy").is_none()) {
        debootstrap.env("http_proxy", proxy);
    }
    run_holding(lock, &mut debootstrap)?;

    // The packages are installed, and the lists live beside the root.
    for leftover in ["var/cache/apt/archives", "var/lib/apt/lists"] {
        paths::remove_tree(&root.join(leftover))?;
        let empty = root.join(leftover);
        fs::create_dir_all(&empty).map_err(tool::at("create", &empty))?;
    }
    progress("setting up the image");
    recipe.put_files(&root)?;
    let apt = unfinished.join(apt_name());
    in_image(&root, &apt, lock, &["sh", "-c", SETUP])?;
    update(&root, &apt, lock)?;
    // A power cut after the rename must not leave an image with holes.
    tool::run(tool::command("sync").arg("-f").arg(&root))?;
    fs::rename(&unfinished, path).map_err(tool::at("rename", &unfinished))
}

/// Fetches the package lists into an `apt-…` directory and prepares apt's caches, which spares every install a second.
fn update(root: &Path, apt: &Path, lock: &File) -> Result<()> {
    let resolv_conf = root.join("etc/resolv.conf");
    fs::copy("/etc/resolv.conf", &resolv_conf).map_err(tool::at("copy", Path::new("/etc/resolv.conf")))?;
    let updated = in_image(
        root,
        apt,
        lock,
        &["sh", "-c", "apt-get -qq -o APT::Update::Error-Mode=any update && apt-cache -q gencaches"],
    );
    fs::remove_file(&resolv_conf).map_err(tool::at("remove", &resolv_conf))?;
    updated
}

fn in_image(root: &Path, apt: &Path, lock: &File, words: &[&str]) -> Result<()> {
    let (lists, cache) = (apt.join("lists"), apt.join("cache"));
    for directory in [lists.join("partial"), cache.join("archives/partial")] {
        fs::create_dir_all(&directory).map_err(tool::at("create", &directory))?;
    }
    let mut command = tool::command("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", IN_IMAGE, "sh"]);
    run_holding(lock, command.arg(root).arg(lists).arg(cache).args(words))
}

/// Runs a command that holds the lock as long as it or a child of it lives.
fn run_holding(lock: &File, command: &mut Command) -> Result<()> {
    let held = lock.try_clone().map_err(|e| Error::environment("cannot pass the lock on").because(e))?;
    tool::run(command.stdin(held)).map(drop).map_err(|e| e.hint("what was built so far is removed at the next try"))
}
