//! `timezone`: the zone of a host's clock.

use super::args::Text;
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Content, Observed, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Sets the host's time zone, and what its hardware clock keeps.
///
/// Registers `name` and `hwclock`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timezone {
    /// The zone (`Europe/Berlin`, `UTC`).
    name: Option<Text>,
    /// Whether the hardware clock keeps UTC or local time.
    #[serde(alias = "rtc")]
    #[schemars(extend("x-aliases" = ["rtc"]))]
    hwclock: Option<Clock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum Clock {
    #[serde(rename = "UTC")]
    Utc,
    #[serde(rename = "local")]
    Local,
}

const FOLDER: &str = "/usr/share/zoneinfo/";
const NAMED: &str = "/etc/timezone";
const ADJUST: &str = "/etc/adjtime";

impl Module for Timezone {
    const NAME: &'static str = "timezone";
    const EXAMPLE: &'static str = r#"- timezone: {name: Europe/Berlin}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let Some(name) = &self.name else {
            return match self.hwclock {
                None => Err(ArgError::new("", "`timezone` needs `name` or `hwclock`")),
                Some(_) => Ok(()),
            };
        };
        let part = |p: &str| {
            !p.is_empty()
                && p.starts_with(|c: char| c.is_ascii_alphanumeric())
                && p.chars().all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
        };
        if !name.split('/').all(part) {
            return Err(ArgError::new("name", format!("`{}` is not a time zone", name.0))
                .hint("zones are named like Europe/Berlin or UTC"));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![];
        if let Some(n) = &self.name {
            p.extend([Probe::Timezone, Probe::Path(format!("{FOLDER}{}", n.0)), Probe::Content(NAMED.into())]);
        }
        if self.hwclock.is_some() {
            p.push(Probe::Content(ADJUST.into()));
        }
        p
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let (mut says, mut script, mut diff, mut after) = (vec![], vec!["export LC_ALL=C".to_string()], vec![], vec![]);
        let mut touches = Touches::default();
        let mut result = Map::new();
        if let Some(name) = &self.name {
            let name = &**name;
            result.insert("name".into(), json!(name));
            let zone = format!("{FOLDER}{name}");
            let now = seen.timezone()?;
            let named = seen.content(NAMED)?;
            if seen.path(&zone)?.followed().is_none_or(|e| e.kind != crate::probe::EntryKind::File) {
                return Err(Stop::fail_hint(
                    format!("this host knows no time zone {name}: there is no {zone}"),
                    "is the name spelt right? The zones come with the package tzdata",
                ));
            }
            if now != Some(name) {
                script.push(LINK.replace("@ZONE@", &shell_quote(&zone)));
                says.push(format!("zone {} -> {name}", now.unwrap_or("(none)")));
                diff.push(Diff {
                    what: "time zone".into(),
                    before: now.map(|n| format!("{n}\n")),
                    after: Some(format!("{name}\n")),
                });
                touches = touches.and(Touches::path("/etc/localtime"));
                after.push((Probe::Timezone, Answer::Timezone(Some(name.to_string()))));
            }
            // Debian's own record of the name; where there is none, none is missed.
            if let Content::Bytes(b) = named
                && String::from_utf8_lossy(b).trim() != name
            {
                script.push(RECORD.replace("@NAME@", &shell_quote(name)));
                says.push(format!("{NAMED} {} -> {name}", String::from_utf8_lossy(b).trim()));
                diff.push(Diff {
                    what: NAMED.into(),
                    before: Some(String::from_utf8_lossy(b).into_owned()),
                    after: Some(format!("{name}\n")),
                });
                touches = touches.and(Touches::path(NAMED));
                after.push((
                    Probe::Content(NAMED.into()),
                    Answer::Content(Content::Bytes(format!("{name}\n").into_bytes())),
                ));
            }
        }
        if let Some(want) = self.hwclock {
            result.insert("hwclock".into(), json!(clock_name(want)));
            let now = match seen.content(ADJUST)? {
                Content::Bytes(b) if String::from_utf8_lossy(b).lines().nth(2).map(str::trim) == Some("LOCAL") => {
                    Clock::Local
                }
                _ => Clock::Utc,
            };
            if now != want {
                let (rtc, word, flag) = match want {
                    Clock::Local => ("1", "LOCAL", "--localtime"),
                    Clock::Utc => ("0", "UTC", "--utc"),
                };
                script.push(CLOCK.replace("@RTC@", rtc).replace("@WORD@", word).replace("@FLAG@", flag));
                says.push(format!("hardware clock {} -> {}", clock_name(now), clock_name(want)));
                diff.push(Diff {
                    what: "hardware clock".into(),
                    before: Some(format!("{}\n", clock_name(now))),
                    after: Some(format!("{}\n", clock_name(want))),
                });
                touches = touches.and(Touches::path(ADJUST));
                let text = format!("0.0 0 0.0\n0\n{word}\n").into_bytes();
                after.push((Probe::Content(ADJUST.into()), Answer::Content(Content::Bytes(text))));
            }
        }
        if says.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script.join("\n"))],
            touches,
            after,
            diff,
            summary: says.join(", "),
            result,
            ..Default::default()
        }))
    }
}

fn clock_name(c: Clock) -> &'static str {
    match c {
        Clock::Utc => "UTC",
        Clock::Local => "local",
    }
}

/// A link cannot be changed in place without a moment in which it is gone: a new one is renamed over it.
const LINK: &str = "\
t=/etc/.localtime.windlass~
rm -f \"$t\" && ln -s @ZONE@ \"$t\" && mv -f \"$t\" /etc/localtime || { rm -f \"$t\"; exit 1; }";

const RECORD: &str = "\
t=/etc/.timezone.windlass~
printf '%s\\n' @NAME@ >\"$t\" && chmod 644 \"$t\" && sync \"$t\" && mv -f \"$t\" /etc/timezone || { rm -f \"$t\"; exit 1; }";

const CLOCK: &str = r#"if [ -d /run/systemd/system ] && command -v timedatectl >/dev/null 2>&1; then
  timedatectl --no-ask-password set-local-rtc @RTC@ </dev/null || exit
else
  t=/etc/.adjtime.windlass~
  { [ -s /etc/adjtime ] && head -n 2 /etc/adjtime || printf '0.0 0 0.0\n0\n'; echo @WORD@; } >"$t" && chmod 644 "$t" && sync "$t" && mv -f "$t" /etc/adjtime || { rm -f "$t"; exit 1; }
  if [ -e /dev/rtc ] || [ -e /dev/rtc0 ]; then hwclock --systohc @FLAG@ || exit; fi
fi"#;

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::EntryKind;

    fn is(zone: Option<&str>, named: Option<&str>, adjust: Option<&str>) -> Observed {
        let content = |t: Option<&str>| Answer::Content(t.map_or(Content::Absent, |t| Content::Bytes(t.into())));
        seen([
            (Probe::Timezone, Answer::Timezone(zone.map(str::to_string))),
            at("/usr/share/zoneinfo/Europe/Berlin", Some(entry(EntryKind::File, 0o644))),
            at("/usr/share/zoneinfo/Europe/Berlim", None),
            (Probe::Content(NAMED.into()), content(named)),
            (Probe::Content(ADJUST.into()), content(adjust)),
        ])
    }
    fn with(mut o: Observed, c: &Change) -> Observed {
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        sh_accepts(s);
        c.after.iter().cloned().for_each(|(p, a)| o.insert(p, a));
        o
    }

    #[test]
    fn each_part_is_put_right_by_itself() {
        let m: Timezone = bind("{name: Europe/Berlin, hwclock: UTC}");
        assert_eq!(m.probes(&ctx()).len(), 4);
        satisfied(m.decide(&is(Some("Europe/Berlin"), Some("Europe/Berlin\n"), None), &ctx()));
        satisfied(m.decide(&is(Some("Europe/Berlin"), None, Some("0.0 0 0\n0\nUTC\n")), &ctx()));
        let c = change(m.decide(&is(Some("Etc/UTC"), Some("Europe/Berlin\n"), None), &ctx()));
        assert_eq!(c.summary, "zone Etc/UTC -> Europe/Berlin");
        assert_eq!(c.touches.paths, ["/etc/localtime"]);
        let c = change(m.decide(&is(Some("Europe/Berlin"), Some("Etc/UTC\n"), None), &ctx()));
        assert_eq!(c.summary, "/etc/timezone Etc/UTC -> Europe/Berlin");
        let all = || is(None, Some("Etc/UTC\n"), Some("0.0 0 0\n0\nLOCAL\n"));
        let c = change(m.decide(&all(), &ctx()));
        assert_eq!(c.diff.len(), 3);
        satisfied(m.decide(&with(all(), &c), &ctx()));
        let m: Timezone = bind("{rtc: local}");
        let c = change(m.decide(&is(None, None, None), &ctx()));
        assert_eq!(c.summary, "hardware clock UTC -> local");
        satisfied(m.decide(&with(is(None, None, None), &c), &ctx()));
    }

    #[test]
    fn a_zone_the_host_does_not_know_fails() {
        let m: Timezone = bind("{name: Europe/Berlim}");
        let Err(Stop::Fail(f)) = m.decide(&is(None, None, None), &ctx()) else { panic!() };
        assert!(f.message.contains("Europe/Berlim") && f.hint.unwrap().contains("tzdata"));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Timezone>(y).unwrap_err().message;
        assert!(err("{}").contains("needs `name`"));
        for bad in ["../etc/passwd", "/UTC", "'a b'"] {
            assert!(err(&format!("{{name: {bad}}}")).contains("not a time zone"), "{bad}");
        }
        assert!(err("{hwclock: utc}").contains("unknown variant"));
    }
}
