//! `package_facts`: the packages a host has. It changes nothing.

use super::args::{List, Text};
use super::{ArgError, Ctx, Decision, Local, Module, Report, Stop};
use crate::probe::{Observed, Probe};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Tells which packages are installed.
///
/// Sets the variable `packages`: a mapping from each package's name to a list (of one, mostly) of `name`, `version`, `arch`
/// and `source` (`apt`, `rpm`, `pacman` or `apk`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageFacts {
    /// Which package managers to ask (the first that has packages answers): `auto`, `apt`, `rpm`, `pacman`, `apk`.
    #[serde(default = "auto")]
    manager: List,
    /// Has no effect: one answers.
    #[serde(default)]
    #[allow(dead_code)]
    strategy: Option<Text>,
}

fn auto() -> List {
    List(vec!["auto".into()])
}

/// For each: its name, a condition that it has packages, and what prints them. Other managers than a system's own may
/// be installed, and know of nothing.
const SOURCES: [(&str, &str, &str); 4] = [
    (
        "apt",
        "command -v dpkg-query >/dev/null 2>&1 && [ -s /var/lib/dpkg/status ]",
        "dpkg-query -W -f '${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\t${Section}\\n'",
    ),
    (
        "rpm",
        "command -v rpm >/dev/null 2>&1 && rpm -qa | grep . >/dev/null",
        "rpm -qa --qf 'installed\\t%{NAME}\\t%{VERSION}\\t%{ARCH}\\t%{RELEASE}\\t%{EPOCH}\\n'",
    ),
    (
        "pacman",
        "command -v pacman >/dev/null 2>&1 && pacman -Qq 2>/dev/null | grep . >/dev/null",
        "pacman -Q | while read -r w_n w_v; do printf 'installed\\t%s\\t%s\\n' \"$w_n\" \"$w_v\"; done",
    ),
    (
        "apk",
        "command -v apk >/dev/null 2>&1",
        "apk info -v 2>/dev/null | while read -r w_n; do printf 'installed\\t%s\\t%s-%s\\n' \"${w_n%-*-*}\" \
         \"$(w_v=${w_n%-*}; echo \"${w_v##*-}\")\" \"${w_n##*-}\"; done",
    ),
];

impl PackageFacts {
    fn look(&self) -> String {
        let of = |name: &str| {
            self.manager.iter().any(|m| match m.as_str() {
                "auto" => true,
                "dnf" | "dnf5" | "yum" | "zypper" => name == "rpm",
                m => m == name,
            })
        };
        let ask = |(name, has, list): &(&str, &str, &str)| format!("if {has}; then echo {name}; {list}; exit 0; fi\n");
        SOURCES.iter().filter(|s| of(s.0)).map(ask).collect::<String>() + "echo none"
    }
}

impl Module for PackageFacts {
    const NAME: &'static str = "package_facts";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("ansible_facts", "The variable.")];
    const EXAMPLE: &'static str = r#"- package_facts: {}
- debug: {msg: "{{packages.openssh-server}}"}
  when: defined packages.openssh-server"#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        match self.manager.iter().find(|m| {
            !matches!(m.as_str(), "auto" | "apt" | "rpm" | "dnf" | "dnf5" | "yum" | "zypper" | "pacman" | "apk")
        }) {
            Some(m) => Err(ArgError::new("manager", format!("`{m}` cannot be asked"))
                .hint("there are auto, apt, rpm, pacman and apk")),
            None => Ok(()),
        }
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(self.look())]
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let out = &seen.script(&self.look())?.stdout;
        let (manager, lines) = out.split_once('\n').unwrap_or((out, ""));
        if !SOURCES.iter().any(|s| s.0 == manager) {
            return Err(Stop::fail("the host has no package manager that tells what is installed"));
        }
        let mut packages: Map<String, Value> = Map::new();
        for l in lines.lines() {
            let f: Vec<&str> = l.split('\t').collect();
            let ["installed", name, version, more @ ..] = f.as_slice() else { continue };
            let mut p = json!({"name": name, "version": version, "source": manager});
            if let [arch, ..] = more {
                p["arch"] = json!(arch);
            }
            match (manager, more) {
                ("apt", [_, category, ..]) => p["category"] = json!(category),
                ("rpm", [_, release, epoch, ..]) => {
                    p["release"] = json!(release);
                    p["epoch"] = epoch.parse::<u64>().map_or(Value::Null, |e| json!(e));
                }
                _ => {}
            }
            if let Value::Array(all) = packages.entry(name.to_string()).or_insert_with(|| json!([])) {
                all.push(p);
            }
        }
        let facts = Map::from_iter([("packages".to_string(), Value::Object(packages))]);
        let mut result = Map::new();
        result.insert("ansible_facts".into(), Value::Object(facts.clone()));
        Ok(Decision::Satisfied(Report { result, facts, ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, Output};

    fn decide(stdout: &str) -> Result<Decision, Stop> {
        let m: PackageFacts = bind("{}");
        let out = Output { stdout: stdout.into(), ..Default::default() };
        m.decide(&seen([(Probe::Script(m.look()), Answer::Script(out))]), &ctx())
    }

    #[test]
    fn packages_by_name() {
        sh_accepts(&bind::<PackageFacts>("{}").look());
        let r = satisfied(decide(
            "apt\ninstalled\tcurl\t7.88\tamd64\tweb\nconfig-files\told\t1\tamd64\tx\ninstalled\tcurl\t7.88\ti386\tweb\n",
        ));
        let p = &r.facts["packages"];
        assert_eq!(
            p["curl"][0],
            json!({"name": "curl", "version": "7.88", "arch": "amd64", "source": "apt", "category": "web"})
        );
        assert_eq!((p["curl"][1]["arch"].as_str(), p.get("old")), (Some("i386"), None));
        let r = satisfied(decide("rpm\ninstalled\tbash\t5.2\tx86_64\t1.fc40\t(none)\n"));
        assert_eq!(
            (&r.facts["packages"]["bash"][0]["release"], &r.facts["packages"]["bash"][0]["epoch"]),
            (&json!("1.fc40"), &Value::Null)
        );
        let r = satisfied(decide("pacman\ninstalled\tbash\t5.2-1\n"));
        assert_eq!(r.facts["packages"]["bash"][0], json!({"name": "bash", "version": "5.2-1", "source": "pacman"}));
        let rpm = bind::<PackageFacts>("{manager: [dnf]}").look();
        assert!(rpm.contains("rpm -qa") && !rpm.contains("dpkg"), "{rpm}");
    }

    #[test]
    fn mistakes() {
        let Err(Stop::Fail(_)) = decide("none\n") else { panic!() };
        assert!(try_bind::<PackageFacts>("{manager: pkgng}").is_err());
    }
}
