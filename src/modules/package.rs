//! `package`: packages, by whatever package manager the host has.

use super::apt::Apt;
use super::args::{List, Text};
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{Observed, Probe};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Installs and removes packages with the host's own package manager. For now that is apt; on a host with another it fails
/// and says so. What only one manager can do is in that manager's module.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The packages.
    name: List,
    /// `present`, `absent` or `latest`.
    state: Text,
    /// The package manager: `auto`, `apt`.
    #[serde(default = "auto", rename = "use")]
    manager: Text,
    #[serde(skip)]
    #[schemars(skip)]
    apt: Option<Apt>,
}

fn auto() -> Text {
    "auto".into()
}

const APT: &str = "/usr/bin/apt-get";
/// Managers that are known of, and cannot be used yet.
const OTHERS: [(&str, &str); 5] = [
    ("dnf", "/usr/bin/dnf"),
    ("yum", "/usr/bin/yum"),
    ("zypper", "/usr/bin/zypper"),
    ("pacman", "/usr/bin/pacman"),
    ("apk", "/sbin/apk"),
];

impl Module for Package {
    const NAME: &'static str = "package";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("stdout, stderr", "What the package manager printed.")];
    const EXAMPLE: &'static str = r#"- package: {name: [tmux, htop], state: present}"#;

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        if !matches!(&*self.manager, "auto" | "apt") {
            return Err(ArgError::new("use", format!("`{}` cannot be used yet", self.manager.0)).hint("there is apt"));
        }
        let mut apt: Apt = serde_json::from_value(json!({"name": self.name.0, "state": self.state.0}))
            .map_err(|e| ArgError::new("state", e.to_string()))?;
        apt.prepare(local)?;
        self.apt = Some(apt);
        Ok(())
    }

    fn probes(&self, ctx: &Ctx) -> Vec<Probe> {
        let mut p = self.apt.as_ref().map_or(vec![], |a| a.probes(ctx));
        if *self.manager == *"auto" {
            p.push(Probe::Path(APT.into()));
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        if *self.manager == *"auto" && seen.path(APT)?.followed().is_none() {
            for (name, at) in OTHERS {
                if seen.path(at)?.followed().is_some() {
                    return Err(Stop::fail_hint(
                        format!("the host's package manager is {name}, which is not supported yet"),
                        "use `command` with a `creates` or a `when` of your own",
                    ));
                }
            }
            return Err(Stop::fail("no package manager that is known of is on the host"));
        }
        match &self.apt {
            Some(a) => a.decide(seen, ctx),
            None => Err(Stop::fail("`package` was not prepared")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, EntryKind, PackageState};

    #[test]
    fn apt_does_it() {
        let m: Package = bind("{name: [curl], state: present}");
        let state = PackageState { installed: true, version: "1".into(), ..Default::default() };
        let o = seen([
            at(APT, Some(entry(EntryKind::File, 0o755))),
            (Probe::Package("curl".into()), Answer::Package(state)),
        ]);
        satisfied(m.decide(&o, &ctx()));
        assert!(m.probes(&ctx()).contains(&Probe::Package("curl".into())));
    }

    #[test]
    fn another_manager_is_refused() {
        let m: Package = bind("{name: curl, state: present}");
        let others = OTHERS.iter().map(|(n, p)| at(p, (*n == "dnf").then(|| entry(EntryKind::File, 0o755))));
        let o = seen(others.chain([at(APT, None)]));
        let Err(Stop::Fail(f)) = m.decide(&o, &ctx()) else { panic!() };
        assert!(f.message.contains("dnf"), "{}", f.message);
        assert!(try_bind::<Package>("{name: curl, state: present, use: dnf}").is_err());
        assert!(try_bind::<Package>("{name: curl, state: there}").is_err());
    }
}
