//! `package`: packages, by whatever package manager the host has.

use super::apt::Apt;
use super::args::{List, Text};
use super::dnf::{Dnf, Zypper};
use super::pacman::{Apk, Pacman};
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::facts::own_manager;
use crate::probe::{Content, Observed, Probe};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// Installs and removes packages with the host's own package manager: apt, dnf (yum), zypper, pacman or apk. What only
/// one of them can do is in the module of its name.
///
/// Where several are installed, it is the one the system comes with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The packages.
    name: List,
    /// `present`, `absent` or `latest`.
    state: Text,
    /// The package manager: `auto`, `apt`, `dnf`, `yum`, `zypper`, `pacman`, `apk`.
    #[serde(default = "auto", rename = "use")]
    manager: Text,
    #[serde(skip)]
    #[schemars(skip)]
    with: Vec<With>,
}

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Package").field("name", &self.name).field("state", &self.state).finish()
    }
}

/// A package manager that may do it.
struct With {
    name: &'static str,
    at: &'static str,
    module: Box<dyn super::Bound>,
}

fn auto() -> Text {
    "auto".into()
}

/// Name and program. Where the system is not known, the first that a host has is its own.
const MANAGERS: [(&str, &str); 5] = [
    ("apt", "/usr/bin/apt-get"),
    ("dnf", "/usr/bin/dnf"),
    ("zypper", "/usr/bin/zypper"),
    ("pacman", "/usr/bin/pacman"),
    ("apk", "/sbin/apk"),
];

const OS: &str = "/etc/os-release";

/// The program of the package manager that a system with this os-release comes with.
fn own(text: &str) -> &'static str {
    let get = |key: &str| {
        let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches(['"', '\'']).to_string()
    };
    own_manager(&get("ID"), &get("ID_LIKE"))
}

fn module(name: &str, args: Value, local: &dyn Local) -> Result<Box<dyn super::Bound>, ArgError> {
    fn made<M: Module>(args: Value, local: &dyn Local) -> Result<Box<dyn super::Bound>, ArgError> {
        let mut m: M = serde_json::from_value(args).map_err(|e| ArgError::new("state", e.to_string()))?;
        m.prepare(local)?;
        Ok(Box::new(m))
    }
    match name {
        "apt" => made::<Apt>(args, local),
        "dnf" => made::<Dnf>(args, local),
        "zypper" => made::<Zypper>(args, local),
        "pacman" => made::<Pacman>(args, local),
        _ => made::<Apk>(args, local),
    }
}

impl Module for Package {
    const NAME: &'static str = "package";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("stdout, stderr", "What the package manager printed.")];
    const EXAMPLE: &'static str = r#"- package: {name: [tmux, htop], state: present}"#;

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        let wanted = match &*self.manager {
            "yum" | "dnf5" => "dnf",
            other => other,
        };
        if wanted != "auto" && !MANAGERS.iter().any(|(n, _)| *n == wanted) {
            return Err(ArgError::new("use", format!("`{}` is no package manager that is known here", self.manager.0))
                .hint("there are apt, dnf, yum, zypper, pacman and apk"));
        }
        if !matches!(&*self.state, "present" | "installed" | "absent" | "removed" | "latest") {
            return Err(
                ArgError::new("state", format!("`{}` is not a state", self.state.0)).hint("present, absent or latest")
            );
        }
        let args = json!({"name": self.name.0, "state": self.state.0});
        for (name, at) in MANAGERS {
            if wanted == name {
                self.with = vec![With { name, at, module: module(name, args, local)? }];
                break;
            }
            // A name that only another manager would take is no mistake: which one it is, the host tells.
            match module(name, args.clone(), local) {
                Ok(module) if wanted == "auto" => self.with.push(With { name, at, module }),
                Err(e) if name == "apt" && wanted == "auto" => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn probes(&self, ctx: &Ctx) -> Vec<Probe> {
        let mut p: Vec<Probe> = match self.with.len() {
            1 => vec![],
            _ => {
                MANAGERS.iter().map(|(_, at)| Probe::Path(at.to_string())).chain([Probe::Content(OS.into())]).collect()
            }
        };
        // The first is the one most hosts have: it is asked along.
        p.extend(self.with.first().map_or(vec![], |w| w.module.probes(ctx)));
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        if let [only] = self.with.as_slice() {
            return only.module.decide(seen, ctx);
        }
        let own = match seen.content(OS)? {
            Content::Bytes(text) => own(&String::from_utf8_lossy(text)),
            _ => "",
        };
        let (first, then): (Vec<_>, Vec<_>) =
            MANAGERS.into_iter().partition(|(_, at)| at.ends_with(own) && !own.is_empty());
        for (name, at) in first.into_iter().chain(then) {
            if seen.path(at)?.followed().is_none() {
                continue;
            }
            let Some(w) = self.with.iter().find(|w| w.name == name && w.at == at) else {
                return Err(Stop::fail(format!("{name}, the host's package manager, takes no such names")));
            };
            return w.module.decide(seen, ctx);
        }
        Err(Stop::fail("no package manager that is known of is on the host"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::probe::{Answer, EntryKind, Output, PackageState};

    fn host(has: &str) -> Observed {
        system(&[has], "")
    }
    fn system(has: &[&str], os: &str) -> Observed {
        let there = |n: &str, p: &str| at(p, has.contains(&n).then(|| entry(EntryKind::File, 0o755)));
        let os = (Probe::Content(OS.into()), Answer::Content(Content::Bytes(os.into())));
        seen(MANAGERS.iter().map(|(n, p)| there(n, p)).chain([os]))
    }

    #[test]
    fn where_there_are_several() {
        let m: Package = bind("{name: curl, state: present}");
        for (os, word) in [
            ("ID=debian\n", "Package"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "command -v dnf"),
            ("ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n", "command -v zypper"),
            ("ID=arch\n", "command -v pacman"),
            ("ID=else\n", "Package"),
        ] {
            let all: Vec<&str> = MANAGERS.iter().map(|(n, _)| *n).collect();
            let Err(Stop::Need(more)) = m.decide(&system(&all, os), &ctx()) else { panic!("{os}") };
            assert!(format!("{more:?}").contains(word), "{os}: {more:?}");
        }
    }

    #[test]
    fn apt_does_it() {
        let m: Package = bind("{name: [curl], state: present}");
        let state = PackageState { installed: true, version: "1".into(), ..Default::default() };
        let mut o = host("apt");
        o.insert(Probe::Package("curl".into()), Answer::Package(state));
        satisfied(m.decide(&o, &ctx()));
        assert!(m.probes(&ctx()).contains(&Probe::Package("curl".into())));
    }

    #[test]
    fn the_hosts_own_manager_does_it() {
        let m: Package = bind("{name: curl, state: present}");
        for (has, said, word) in [
            ("dnf", "package curl is not installed\nno package provides curl\n", "dnf -y install -- curl"),
            ("zypper", "package curl is not installed\nno package provides curl\n", "--no-recommends -- curl"),
            ("pacman", "curl\n", "-S -- curl"),
            ("apk", "", "apk add curl"),
        ] {
            let mut o = host(has);
            let Err(Stop::Need(more)) = m.decide(&o, &ctx()) else { panic!("{has}") };
            let [look] = more.as_slice() else { panic!() };
            o.insert(look.clone(), Answer::Script(Output { stdout: said.into(), ..Default::default() }));
            let c = change(m.decide(&o, &ctx()));
            let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
            assert!(s.contains(word), "{s}");
        }
        let Err(Stop::Fail(f)) = m.decide(&host("none"), &ctx()) else { panic!() };
        assert!(f.message.contains("no package manager"), "{}", f.message);
    }

    #[test]
    fn one_may_be_named() {
        let m: Package = bind("{name: curl, state: latest, use: yum}");
        let [Probe::Script(s)] = &m.probes(&ctx())[..] else { panic!() };
        assert!(s.contains("command -v dnf"));
        assert!(
            try_bind::<Package>("{name: curl, state: present, use: portage}").unwrap_err().message.contains("portage")
        );
        assert!(try_bind::<Package>("{name: curl, state: there}").is_err());
    }
}
