//! `reboot` and `wait_for_connection`: the host goes away and comes back. What is done over that time, the run does.

use super::args::{List, Text};
use super::copy::absolute;
use super::whole::Whole;
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::Observed;
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// A host that is to go away and come back, or is only waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Away {
    /// What takes it down; `None`: it is away, or was.
    pub down: Option<Down>,
    /// Before the first try to reach it.
    pub delay: Duration,
    /// Between two tries.
    pub every: Duration,
    /// Until it answers; and again as long until `test` passes.
    pub limit: Duration,
    /// For one try to connect; `None`: as for any connection.
    pub connect: Option<Duration>,
    /// A shell command that must succeed there.
    pub test: Option<String>,
}

/// How a host is taken down.
#[derive(Debug, Clone, PartialEq)]
pub struct Down {
    /// Before it.
    pub delay: Duration,
    /// A script that starts it and does not wait for it.
    pub script: String,
    /// Prints something that is another after it.
    pub identity: String,
}

/// Restarts the host, waits until it is back, and until a command succeeds there. This machine itself is never restarted.
///
/// Registers `rebooted` and `elapsed`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// Seconds to wait before it.
    #[serde(default)]
    pre_reboot_delay: Whole,
    /// Seconds to wait after it, before the first try to reach the host.
    #[serde(default)]
    post_reboot_delay: Whole,
    /// Seconds until the host must have restarted; and again until `test_command` must have succeeded.
    #[serde(default = "ten_minutes")]
    reboot_timeout: Whole,
    /// Seconds one try to connect may take.
    connect_timeout: Option<Whole>,
    /// The shell command that must succeed before the host counts as back.
    #[serde(default = "whoami")]
    test_command: Text,
    /// What users who are logged in are told.
    #[serde(default = "message")]
    msg: Text,
    /// Where `shutdown` is looked for.
    #[serde(default = "paths")]
    search_paths: List,
    /// The shell command that prints something which is another after a restart.
    #[serde(default = "boot_id")]
    boot_time_command: Text,
    /// The shell command that restarts the host; without it, `shutdown -r` with `msg`.
    reboot_command: Option<Text>,
}

fn ten_minutes() -> Whole {
    Whole(600)
}
fn whoami() -> Text {
    "whoami".into()
}
fn message() -> Text {
    "Reboot initiated by Windlass".into()
}
fn paths() -> List {
    List(["/sbin", "/bin", "/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(String::from).to_vec())
}
fn boot_id() -> Text {
    "cat /proc/sys/kernel/random/boot_id".into()
}

/// Not sooner: a host that is on its way down may still answer.
const EVERY: Duration = Duration::from_secs(1);

impl Module for Reboot {
    const NAME: &'static str = "reboot";
    const EXAMPLE: &'static str = r#"- name: A new kernel
  reboot: {reboot_timeout: 600, test_command: systemctl is-system-running --wait}
  budget: nodes"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        for p in self.search_paths.iter() {
            absolute("search_paths", p)?;
        }
        let commands = [
            ("test_command", Some(&self.test_command)),
            ("boot_time_command", Some(&self.boot_time_command)),
            ("reboot_command", self.reboot_command.as_ref()),
        ];
        match commands.iter().find(|(_, c)| c.is_some_and(|c| c.trim().is_empty())) {
            Some((name, _)) => Err(ArgError::new(name, format!("`{name}` is empty"))),
            None => Ok(()),
        }
    }

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let down = Down {
            delay: Duration::from_secs(self.pre_reboot_delay.0),
            script: self.script(),
            identity: self.boot_time_command.0.clone(),
        };
        Ok(Decision::Away(Away {
            down: Some(down),
            delay: Duration::from_secs(self.post_reboot_delay.0),
            every: EVERY,
            limit: Duration::from_secs(self.reboot_timeout.0),
            connect: self.connect_timeout.map(|c| Duration::from_secs(c.0)),
            test: Some(self.test_command.0.clone()),
        }))
    }
}

impl Reboot {
    /// Starts the restart in a session of its own, so that the end of ours is not its end, and stays for a moment to hear
    /// whether it is refused.
    fn script(&self) -> String {
        let command = match &self.reboot_command {
            Some(c) => c.0.clone(),
            None => format!(
                "PATH={}:$PATH\nif command -v shutdown >/dev/null 2>&1; then shutdown -r now {}\n\
                 elif command -v systemctl >/dev/null 2>&1; then systemctl reboot\nelse reboot\nfi",
                shell_quote(&self.search_paths.join(":")),
                shell_quote(&self.msg)
            ),
        };
        // Its last words go to a file of the session's folder; the folder goes with the session.
        format!(
            r#"s=; command -v setsid >/dev/null 2>&1 && s=setsid
(trap '' HUP; exec $s sh -c {}) </dev/null >"$w_dir/reboot" 2>&1 &
p=$!
n=0
while kill -0 $p 2>/dev/null && [ $n -lt 30 ]; do n=$((n + 1)); sleep 0.1; done
kill -0 $p 2>/dev/null && exit 0
wait $p || {{ r=$?; cat "$w_dir/reboot" >&2; exit $r; }}"#,
            shell_quote(&command)
        )
    }
}

/// Waits until the host can be reached and takes commands.
///
/// Registers `elapsed`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForConnection {
    /// Seconds one try to connect may take.
    #[serde(default = "five")]
    connect_timeout: Whole,
    /// Seconds to wait before the first try.
    #[serde(default)]
    delay: Whole,
    /// Seconds between two tries.
    #[serde(default = "one")]
    sleep: Whole,
    /// Seconds to wait in all, after `delay`.
    #[serde(default = "ten_minutes")]
    timeout: Whole,
}

fn five() -> Whole {
    Whole(5)
}
fn one() -> Whole {
    Whole(1)
}

impl Module for WaitForConnection {
    const NAME: &'static str = "wait_for_connection";
    const EXAMPLE: &'static str = r#"- wait_for_connection: {timeout: 300}"#;
    const HARMLESS: bool = true;

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        Ok(Decision::Away(Away {
            down: None,
            delay: Duration::from_secs(self.delay.0),
            every: Duration::from_secs(self.sleep.0.max(1)),
            limit: Duration::from_secs(self.timeout.0),
            connect: Some(Duration::from_secs(self.connect_timeout.0.max(1))),
            test: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn away<M: Module>(params: &str) -> Away {
        match bind::<M>(params).decide(&seen([]), &ctx()) {
            Ok(Decision::Away(a)) => a,
            other => panic!("{other:?}"),
        }
    }
    /// What the script that takes a host down says here, with a command of the test's own.
    fn start(command: &str) -> std::process::Output {
        let m: Reboot = bind(&serde_json::json!({ "reboot_command": command }).to_string());
        let t = tempfile::tempdir().unwrap();
        let script = format!("w_dir={}\n({})", t.path().display(), m.script());
        std::process::Command::new("sh").args(["-c", &script]).output().unwrap()
    }

    #[test]
    fn defaults_are_ansibles() {
        let a = away::<Reboot>("{}");
        let down = a.down.unwrap();
        assert_eq!((a.limit, a.delay, a.connect), (Duration::from_secs(600), Duration::ZERO, None));
        assert_eq!(a.test.as_deref(), Some("whoami"));
        assert!(down.script.contains("shutdown -r now") && down.identity.contains("boot_id"));
        sh_accepts(&down.script);
        let a = away::<WaitForConnection>("{delay: 3, timeout: 60}");
        assert_eq!((a.delay, a.limit, a.every), (Duration::from_secs(3), Duration::from_secs(60), EVERY));
        assert!(a.down.is_none() && a.test.is_none());
    }

    #[test]
    fn a_refused_restart_says_so_and_one_that_takes_its_time_is_left_alone() {
        let out = start("echo no such luck >&2; exit 3");
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).trim()), (Some(3), "no such luck"));
        assert!(start("true").status.success());
        let begun = std::time::Instant::now();
        assert!(start("sleep 7").status.success());
        assert!(begun.elapsed() < Duration::from_secs(6));
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Reboot>("{reboot_command: ' '}").is_err());
        assert!(try_bind::<Reboot>("{search_paths: [sbin]}").is_err());
    }

    #[test]
    fn what_it_is_told_counts() {
        let a = away::<Reboot>(
            "{post_reboot_delay: 3, reboot_timeout: 90, connect_timeout: 7, test_command: 'true', msg: off we go, \
             pre_reboot_delay: 120, boot_time_command: 'cat /id'}",
        );
        let down = a.down.unwrap();
        assert_eq!((a.delay, a.limit), (Duration::from_secs(3), Duration::from_secs(90)));
        assert_eq!((a.connect, a.test.as_deref()), (Some(Duration::from_secs(7)), Some("true")));
        assert!(down.script.contains("'off we go'") && down.identity.contains("cat /id"), "{}", down.script);
        assert_eq!(down.delay, Duration::from_secs(120));
        sh_accepts(&down.script);
    }
}
