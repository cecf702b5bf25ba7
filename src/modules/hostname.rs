//! `hostname`: the name a host has for itself.

use super::args::Text;
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Sets the host's name, the running one and the one it starts with.
///
/// Registers `name`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hostname {
    /// The name.
    name: Text,
    /// How it is set. Whatever is chosen, hostnamectl is used where systemd runs, `hostname` and /etc/hostname elsewhere.
    #[serde(rename = "use")]
    #[allow(dead_code)]
    strategy: Option<Strategy>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    Alpine,
    Debian,
    Freebsd,
    Generic,
    Macos,
    Macosx,
    Darwin,
    Openbsd,
    Openrc,
    Redhat,
    Sles,
    Solaris,
    Systemd,
}

impl Module for Hostname {
    const NAME: &'static str = "hostname";
    const EXAMPLE: &'static str = r#"- hostname: {name: "{{inventory_hostname}}"}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if self.name.len() > 64 || !self.name.split('.').all(label) {
            return Err(ArgError::new("name", format!("`{}` cannot be a host's name", self.name.0))
                .hint("letters, digits and dashes, parted by dots, at most 64 of them"));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Hostname]
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let (running, stored) = seen.hostname()?;
        let stored = stored.map(str::trim);
        let name = &*self.name;
        let mut result = Map::new();
        result.insert("name".into(), json!(name));
        if running == name && stored == Some(name) {
            return Ok(Decision::satisfied(result));
        }
        let mut says = vec![];
        if running != name {
            says.push(format!("running name {running} -> {name}"));
        }
        if stored != Some(name) {
            says.push(format!("stored name {} -> {name}", stored.unwrap_or("(none)")));
        }
        let shown = |running: &str, stored: &str| format!("running: {running}\nstored: {stored}\n");
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(SCRIPT.replace("@NAME@", &shell_quote(name)))],
            touches: Touches {
                sysctls: true,
                ..Touches::path("/etc/hostname").and(Touches::path("/etc/machine-info"))
            },
            after: vec![(
                Probe::Hostname,
                Answer::Hostname { running: name.to_string(), stored: Some(name.to_string()) },
            )],
            diff: vec![Diff {
                what: "host name".into(),
                before: Some(shown(running, stored.unwrap_or(""))),
                after: Some(shown(name, name)),
            }],
            summary: says.join(", "),
            result,
            ..Default::default()
        }))
    }
}

/// A container's /etc/hostname may be mounted and cannot be replaced, only written.
const SCRIPT: &str = r#"export LC_ALL=C
n=@NAME@
if [ -d /run/systemd/system ] && command -v hostnamectl >/dev/null 2>&1 &&
  hostnamectl --no-ask-password set-hostname "$n" </dev/null 2>/dev/null &&
  [ "$(cat /etc/hostname 2>/dev/null)" = "$n" ] && [ "$(uname -n)" = "$n" ]; then
  exit 0
fi
t=/etc/.hostname.windlass~
printf '%s\n' "$n" >"$t" && chmod 644 "$t" && sync "$t" || { rm -f "$t"; exit 1; }
mv -f "$t" /etc/hostname 2>/dev/null || { cat "$t" >/etc/hostname || { rm -f "$t"; exit 1; }; rm -f "$t"; }
if command -v hostname >/dev/null 2>&1; then hostname "$n"; else printf '%s\n' "$n" >/proc/sys/kernel/hostname; fi"#;

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn is(running: &str, stored: Option<&str>) -> Observed {
        seen([(Probe::Hostname, Answer::Hostname { running: running.into(), stored: stored.map(str::to_string) })])
    }

    #[test]
    fn both_names_must_agree() {
        let m: Hostname = bind("{name: n1, use: systemd}");
        assert_eq!(m.probes(&ctx()), [Probe::Hostname]);
        satisfied(m.decide(&is("n1", Some("n1\n")), &ctx()));
        assert_eq!(change(m.decide(&is("n1", None), &ctx())).summary, "stored name (none) -> n1");
        assert_eq!(change(m.decide(&is("x", Some("n1")), &ctx())).summary, "running name x -> n1");
        let c = change(m.decide(&is("x", Some("y")), &ctx()));
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        sh_accepts(s);
        satisfied(m.decide(&seen(c.after), &ctx()));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Hostname>(y).unwrap_err().message;
        for bad in ["'a b'", "-a", "a..b", "''", "'$(x)'"] {
            assert!(err(&format!("{{name: {bad}}}")).contains("cannot be a host's name"), "{bad}");
        }
        assert!(err("{name: a, use: windows}").contains("unknown variant"));
        assert!(err("{nam: a}").contains("unknown field"));
    }
}
