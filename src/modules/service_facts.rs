//! `service_facts`: the services a host has. It changes nothing.

use super::{Ctx, Decision, Module, Report, Stop};
use crate::probe::{Observed, Probe};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Tells which services there are and how they are.
///
/// Sets the variable `services`: a mapping from each unit's name (`ssh.service`) to its `name`, `state` (`running`, `stopped`,
/// `inactive`), `status` (`enabled`, `disabled`, `static`, `masked`, `failed`, `not-found`, …) and `source` (`systemd`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceFacts {}

const LOOK: &str = "command -v systemctl >/dev/null 2>&1 || { echo none; exit 0; }\n\
    systemctl list-units --type service --all --plain --no-legend --no-pager; echo --\n\
    systemctl list-unit-files --type service --all --plain --no-legend --no-pager; echo --\n\
    systemctl show --no-pager -p Names,ActiveState -- '*.service'";

impl Module for ServiceFacts {
    const NAME: &'static str = "service_facts";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("ansible_facts", "The variable.")];
    const EXAMPLE: &'static str = r#"- service_facts: {}
- debug: {msg: "{{lookup services 'ssh.service'}}"}"#;
    const HARMLESS: bool = true;

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(LOOK.into())]
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let out = &seen.script(LOOK)?.stdout;
        // A line for itself: a description may end in anything.
        let out = format!("\n{out}");
        let mut parts = out.split("\n--\n");
        let (Some(units), Some(files)) = (parts.next(), parts.next()) else {
            return Err(Stop::fail("the host has no systemd that tells of its services"));
        };
        let mut other_names: std::collections::HashMap<&str, &str> = Default::default();
        for block in parts.next().unwrap_or_default().split("\n\n") {
            let get = |key: &str| block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            if let (Some(names), Some(active)) = (get("Names"), get("ActiveState")) {
                other_names.extend(names.split(' ').map(|n| (n, active)));
            }
        }
        let mut services: Map<String, Value> = Map::new();
        let mut put = |name: &str, state: &str, status: &str| {
            services
                .insert(name.to_string(), json!({"name": name, "state": state, "status": status, "source": "systemd"}));
        };
        for l in units.lines() {
            let f: Vec<&str> = l.split_whitespace().filter(|w| *w != "●").collect();
            let [name, load, active, sub, ..] = f.as_slice() else { continue };
            let status = match (*load, *active) {
                ("not-found" | "masked", _) => load,
                (_, "failed") => active,
                _ => active,
            };
            put(name, if *sub == "running" { "running" } else { "stopped" }, status);
        }
        for l in files.lines() {
            let f: Vec<&str> = l.split_whitespace().collect();
            let [name, status, ..] = f.as_slice() else { continue };
            match services.get_mut(*name) {
                Some(s) if matches!(s["status"].as_str(), Some("not-found" | "masked" | "failed")) => {}
                Some(s) => s["status"] = json!(status),
                None => {
                    let state = other_names.get(name).copied().unwrap_or("inactive");
                    let s = json!({"name": name, "state": state, "status": status, "source": "systemd"});
                    services.insert(name.to_string(), s);
                }
            }
        }
        let facts = Map::from_iter([("services".to_string(), Value::Object(services))]);
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
        let m: ServiceFacts = bind("{}");
        let out = Output { stdout: stdout.into(), ..Default::default() };
        m.decide(&seen([(Probe::Script(LOOK.into()), Answer::Script(out))]), &ctx())
    }

    #[test]
    fn services_by_name() {
        sh_accepts(LOOK);
        let r = satisfied(decide(
            "ssh.service loaded active running OpenBSD --\nx.service not-found inactive dead x\n● y.service loaded failed failed y\n--\n\
             ssh.service enabled enabled\ny.service enabled enabled\nz.service disabled enabled\nsshd.service alias -\n--\n\
             Names=ssh.service sshd.service\nActiveState=active\n\nNames=x.service\nActiveState=inactive\n",
        ));
        let s = &r.facts["services"];
        assert_eq!(
            s["ssh.service"],
            json!({"name": "ssh.service", "state": "running", "status": "enabled", "source": "systemd"})
        );
        assert_eq!((&s["x.service"]["status"], &s["y.service"]["status"]), (&json!("not-found"), &json!("failed")));
        assert_eq!((&s["z.service"]["state"], &s["z.service"]["status"]), (&json!("inactive"), &json!("disabled")));
        assert_eq!(
            s["sshd.service"],
            json!({"name": "sshd.service", "state": "active", "status": "alias", "source": "systemd"})
        );
        let Err(Stop::Fail(_)) = decide("none\n") else { panic!() };
    }
}
