//! What an image is made of. Its hash names the image, so a changed recipe makes a new image.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::tool;
use crate::error::{Error, Result};

/// To be raised when the code that builds images changes what comes out.
const VERSION: &str = "1";

pub const SUITE: &str = "bookworm";

/// What a bare cloud image has, as far as it means anything in a container; no Python, cron or curl.
pub const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "openssh-server",
    "sudo",
    "iproute2",
    "ca-certificates",
    "procps",
    "kmod",
    "netbase",
    "iputils-ping",
    "less",
    "nano",
    "psmisc",
    "xz-utils",
    "tzdata",
];

/// The script that runs inside the new image, last.
pub const SETUP: &str = include_str!("recipe/setup.sh");

/// Files put into the image before the script runs: path, content.
pub const FILES: &[(&str, &str)] = &[
    ("usr/local/lib/windlass-lab/boot", include_str!("recipe/boot.sh")),
    ("etc/systemd/system/windlass-lab-node.service", include_str!("recipe/node.service")),
    ("etc/systemd/system/ssh.service.d/windlass-lab.conf", include_str!("recipe/ssh.service.conf")),
    ("etc/systemd/journald.conf.d/windlass-lab.conf", include_str!("recipe/journald.conf")),
    ("etc/ssh/sshd_config.d/windlass-lab.conf", include_str!("recipe/sshd.conf")),
    // A node is thrown away, so dpkg need not make sure of each file.
    ("etc/dpkg/dpkg.cfg.d/windlass-lab", "force-unsafe-io\n"),
];

/// A recipe, complete with what comes from this machine.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// Where Debian comes from; empty for debootstrap's own choice.
    pub mirror: String,
    /// `sources.list` for nodes; empty to keep debootstrap's.
    pub sources: String,
    /// `apt.conf` for nodes.
    pub apt_conf: String,
    /// Files of this machine that nodes get at the same path: keyrings and CA certificates.
    pub copies: Vec<PathBuf>,
}

impl Recipe {
    /// The recipe as this machine's apt configuration has it.
    pub fn of_this_machine() -> Result<Recipe> {
        let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)|$(ORIGIN)";
        let targets = match tool::find("apt-get") {
            Some(_) => {
                tool::run(tool::command("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?
            }
            None => String::new(),
        };
        let codename = release_codename(&fs::read_to_string("/etc/os-release").unwrap_or_default());
        let mut recipe = Recipe::default();
        let keyrings = recipe.take_sources(&targets, &codename);
        recipe.copies.extend(keyrings);
        if !recipe.sources.contains("[signed-by=") {
            recipe.copies.extend(files_in("/etc/apt/trusted.gpg.d"));
        }
        recipe.copies.extend(files_in("/usr/local/share/ca-certificates"));
        let dump = match tool::find("apt-config") {
            Some(_) => tool::run(tool::command("apt-config").arg("dump"))?,
            None => String::new(),
        };
        recipe.apt_conf = format!("{}{}", include_str!("recipe/apt.conf"), transport_settings(&dump));
        Ok(recipe)
    }

    /// Takes Debian's own repositories from `apt-get indextargets`, for the image's release instead of the machine's.
    /// Returns the keyrings they name.
    fn take_sources(&mut self, targets: &str, codename: &str) -> Vec<PathBuf> {
        let mut keyrings = Vec::new();
        for line in targets.lines() {
            let words: Vec<&str> = line.split('|').collect();
            let [uri, release, "main", signed_by, "Debian" | "" | "$(ORIGIN)"] = words[..] else { continue };
            let Some(pocket @ ("" | "-updates" | "-security" | "-backports")) = release.strip_prefix(codename) else {
                continue;
            };
            if pocket.is_empty() && self.mirror.is_empty() {
                self.mirror = uri.trim_end_matches('/').into();
            }
            let mut options = String::new();
            if signed_by.starts_with('/') && Path::new(signed_by).is_file() {
                options = format!("[signed-by={signed_by}] ");
                keyrings.push(signed_by.into());
            }
            let entry = format!("deb {options}{uri} {SUITE}{pocket} main\n");
            if !self.sources.contains(&entry) {
                self.sources.push_str(&entry);
            }
        }
        keyrings.sort();
        keyrings.dedup();
        keyrings
    }

    /// The hash that names the image: 16 hex digits over everything that goes into it.
    pub fn hash(&self) -> Result<String> {
        let mut hash = Sha256::new();
        // Each part with its length, so that no two recipes run together to the same bytes.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        for part in [VERSION, SUITE, std::env::consts::ARCH, SETUP, &self.mirror, &self.sources, &self.apt_conf] {
            add(part.as_bytes());
        }
        for package in PACKAGES {
            add(package.as_bytes());
        }
        for (path, content) in FILES {
            add(path.as_bytes());
            add(content.as_bytes());
        }
        for path in &self.copies {
            add(path.as_os_str().as_encoded_bytes());
            add(&fs::read(path).map_err(tool::at("read", path))?);
        }
        Ok(hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect())
    }

    /// The proxy apt uses for plain HTTP, for debootstrap, which does not read apt's configuration.
    pub fn proxy(&self) -> Option<&str> {
        let line = self.apt_conf.lines().find_map(|l| l.strip_prefix("Acquire::http::Proxy "))?;
        let proxy = line.trim_end_matches(';').trim_matches('"');
        (!proxy.is_empty() && proxy != "DIRECT").then_some(proxy)
    }

    /// Puts the files into the image's root. Only what comes from this machine can be missing.
    pub fn put_files(&self, root: &Path) -> Result<()> {
        for path in &self.copies {
            let relative = path.strip_prefix("/").map_err(|e| Error::internal("a relative path").because(e))?;
            let target = root.join(relative);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(tool::at("create", parent))?;
            }
            fs::copy(path, &target).map_err(tool::at("copy", path))?;
        }
        for (path, content) in FILES {
            tool::write(&root.join(path), content, 0o644)?;
        }
        if !self.sources.is_empty() {
            tool::write(&root.join("etc/apt/sources.list"), &self.sources, 0o644)?;
        }
        tool::write(&root.join("etc/apt/apt.conf.d/80windlass-lab"), &self.apt_conf, 0o644)
    }
}

fn release_codename(os_release: &str) -> String {
    let name = os_release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or(SUITE).trim_matches('"').to_string()
}

/// From `apt-config dump`: how packages are fetched on this machine's network.
fn transport_settings(dump: &str) -> String {
    let keys = [
        "Acquire::http::Proxy ",
        "Acquire::https::Proxy ",
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
        "Acquire::ForceIPv4 ",
        "Acquire::ForceIPv6 ",
        "Acquire::Retries ",
    ];
    dump.lines().filter(|l| keys.iter().any(|k| l.starts_with(k))).map(|l| format!("{l}\n")).collect()
}

fn files_in(directory: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(targets: &str, codename: &str) -> Recipe {
        let mut recipe = Recipe::default();
        recipe.take_sources(targets, codename);
        recipe
    }

    #[test]
    fn only_debians_sources() {
        let recipe = taken(
            "http://mirror.test/debian/|bookworm|main|$(SIGNED_BY)|Debian\n\
             http://mirror.test/debian/|bookworm-updates|main||\n\
             http://mirror.test/debian/|bookworm|contrib||Debian\n\
             http://vendor.test/|bookworm|stable||Vendor\n\
             http://vendor.test/|bookworm-pgdg|main||Vendor\n\
             http://vendor.test/|nodistro|main||\n",
            "bookworm",
        );
        assert_eq!(recipe.mirror, "http://mirror.test/debian");
        assert_eq!(
            recipe.sources,
            "deb http://mirror.test/debian/ bookworm main\ndeb http://mirror.test/debian/ bookworm-updates main\n"
        );
    }

    #[test]
    fn another_releases_machine_still_makes_this_image() {
        let recipe = taken("http://m.test/debian/|trixie-security|main||Debian\n", "trixie");
        assert_eq!(recipe.sources, "deb http://m.test/debian/ bookworm-security main\n");
    }

    #[test]
    fn the_hash_depends_on_everything() {
        let base = Recipe::default();
        let hash = base.hash().unwrap();
        assert_eq!(hash.len(), 16);
        assert_eq!(hash, base.clone().hash().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        let changed = [
            Recipe { mirror: "x".into(), ..base.clone() },
            Recipe { sources: "x".into(), ..base.clone() },
            Recipe { apt_conf: "x".into(), ..base.clone() },
            Recipe { copies: vec![file.path().into()], ..base.clone() },
        ];
        let mut hashes: Vec<_> = changed.iter().map(|r| r.hash().unwrap()).collect();
        hashes.push(hash);
        fs::write(file.path(), "content").unwrap();
        hashes.push(changed[3].hash().unwrap());
        let count = hashes.len();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }

    #[test]
    fn transport_only() {
        let dump = "APT \"\";\nAcquire::http::Proxy \"http://p.test:3128\";\nAcquire::Languages:: \"none\";\n";
        let kept = transport_settings(dump);
        assert_eq!(kept, "Acquire::http::Proxy \"http://p.test:3128\";\n");
        let recipe = Recipe { apt_conf: kept, ..Recipe::default() };
        assert_eq!(recipe.proxy(), Some("http://p.test:3128"));
    }
}
