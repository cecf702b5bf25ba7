//! What a lab needs of this machine.

use super::{Progress, tool};
use crate::error::{Error, Result};

/// Programs (or files, with a slash) a lab uses, and the Debian package each comes in.
const NEEDS: &[(&str, &str)] = &[
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("ssh-keygen", "openssh-client"),
    ("ssh", "openssh-client"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

/// Whether this machine can run a lab: Linux, root, and all programs there. The error (kind `Environment`) says in its
/// hint what would do.
pub fn can_run() -> Result<()> {
    root()?;
    let missing = missing(NEEDS);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::environment("this machine lacks what a lab needs")
        .hint(format!("apt-get install --no-install-recommends {}", missing.join(" "))))
}

/// Linux and root.
pub fn root() -> Result<()> {
    if !cfg!(target_os = "linux") {
        return Err(Error::environment("a lab needs Linux").hint("run it on a Debian machine, as root"));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::environment("a lab needs root: it makes mounts, links and cgroups")
            .hint("run the same command with sudo"));
    }
    Ok(())
}

/// As [`can_run`], after installing the Debian packages a lab misses and saying which.
pub fn get_ready(progress: Progress) -> Result<()> {
    root()?;
    provide(NEEDS, progress)?;
    can_run()
}

/// Installs the Debian packages of programs this machine lacks, and says which.
pub fn provide(needs: &[(&str, &str)], progress: Progress) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() || tool::find("apt-get").is_none() {
        return Ok(());
    }
    progress(&format!("installing {}", missing.join(" ")));
    let install = || {
        let mut command = tool::command("apt-get");
        tool::run(command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&missing))
    };
    if install().is_err() {
        tool::run(tool::command("apt-get").args(["update", "--quiet"]))?;
        install()?;
    }
    Ok(())
}

fn missing<'a>(needs: &[(&str, &'a str)]) -> Vec<&'a str> {
    let lacks = |need: &str| match need.starts_with('/') {
        true => !std::path::Path::new(need).exists(),
        false => tool::find(need).is_none(),
    };
    let mut packages: Vec<_> = needs.iter().filter(|(need, _)| lacks(need)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}
