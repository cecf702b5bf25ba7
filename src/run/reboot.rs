//! What a run does while a host restarts: takes it down, lets go of it, and tries until it is another start of the same
//! machine.

use super::budget::Taken;
use super::event::{FailureReport, Outcome};
use super::executor::{Did, GivenUp, Worker, last_line, was_left};
use super::link::LinkError;
use crate::action::{Action, Command, CommandLine};
use crate::graph;
use crate::modules::Failure;
use crate::modules::reboot::{Away, Down};
use crate::probe::{Answer, Output, Probe, Touches};
use serde_json::{Map, json};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Beyond it no clock goes.
const A_YEAR: Duration = Duration::from_secs(31_536_000);

/// One question to a host that may be going down; longer, and it is taken for gone.
const ANSWER: Duration = Duration::from_secs(15);
/// The pause between two tries grows up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a wait for a host came to.
enum Seen {
    Yes,
    /// What was seen last.
    No(String),
    Stopped,
}

impl Worker {
    /// A step during which the host is away.
    pub(super) async fn away(
        &mut self,
        task: usize,
        user: &Option<String>,
        item: &graph::Item,
        away: Away,
        plan_only: bool,
    ) -> Result<Did, GivenUp> {
        if away.down.is_some() && self.is_here() {
            return Ok(itself());
        }
        if plan_only {
            return Ok(match away.down {
                Some(_) => {
                    self.add_fog(Touches::everything());
                    Did {
                        summary: "restarts the host".into(),
                        result: json!({"rebooted": true, "elapsed": 0}),
                        acted: true,
                        ..Did::new(Outcome::Changed)
                    }
                }
                None => Did {
                    summary: "only an apply waits for the connection".into(),
                    known: false,
                    ..Did::new(Outcome::Skipped)
                },
            });
        }
        let mut before = None;
        let begun = match &away.down {
            None => Instant::now(),
            Some(down) => {
                let identity = match self.identity(user, &down.identity).await? {
                    Ok(i) => i,
                    Err(did) => return Ok(*did),
                };
                // It goes away when its turn has come.
                if let Taken::Refused(f) = self.take_holds(task, user).await? {
                    return Ok(Did { failure: Some(*f), ..Did::new(Outcome::Failed) });
                }
                if !self.shared.program.tasks[task].task.notify.is_empty() {
                    self.announce(task)?;
                }
                if !self.nap(down.delay).await {
                    return Ok(stopped());
                }
                let begun = Instant::now();
                if let Some(refused) = self.take_down(user, down).await? {
                    return Ok(refused);
                }
                before = Some((identity, down.identity.as_str()));
                begun
            }
        };
        self.drop_link().await;
        if !self.nap(away.delay).await {
            return Ok(stopped());
        }
        let what = |last: String| match before.is_some() {
            true => format!("the host did not restart within {} s; last: {last}", away.limit.as_secs()),
            false => format!("the host could not be reached within {} s; last: {last}", away.limit.as_secs()),
        };
        match self.until_back(user, &away, before.as_ref()).await {
            Seen::Yes => {}
            Seen::No(last) => return Ok(in_vain(what(last), begun)),
            Seen::Stopped => return Ok(stopped()),
        }
        if let Some(test) = &away.test {
            match self.until_passes(user, item, &away, test).await {
                Seen::Yes => {}
                Seen::No(last) => {
                    let message = format!(
                        "the host is back, but `{test}` did not succeed within {} s; last: {last}",
                        away.limit.as_secs()
                    );
                    return Ok(in_vain(message, begun));
                }
                Seen::Stopped => return Ok(stopped()),
            }
        }
        self.new_start();
        let elapsed = begun.elapsed().as_secs();
        Ok(match before {
            Some(_) => Did {
                summary: format!("restarted, back after {elapsed} s"),
                result: json!({"rebooted": true, "elapsed": elapsed}),
                acted: true,
                ..Did::new(Outcome::Changed)
            },
            None => Did { result: json!({"elapsed": elapsed}), ..Did::new(Outcome::Satisfied) },
        })
    }

    /// What tells this start of the host from the next; a refusal where there is nothing, or where it is this machine.
    async fn identity(&mut self, user: &Option<String>, command: &str) -> Result<Result<String, Box<Did>>, GivenUp> {
        let boot = format!("cat {BOOT_ID} 2>/dev/null");
        let probes = vec![Probe::Script(boot.clone()), Probe::Script(command.to_string())];
        self.site.seen.entry(user.clone()).or_default().forget(&Touches::everything());
        self.ask(user, probes).await?;
        let seen = self.site.seen.entry(user.clone()).or_default();
        let said = |script: &str| seen.script(script).cloned().unwrap_or_default();
        let (boot, identity) = (said(&boot), said(command));
        let here = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        if !here.trim().is_empty() && here.trim() == boot.stdout.trim() {
            return Ok(Err(Box::new(itself())));
        }
        let text = identity.stdout.trim().to_string();
        if identity.rc != 0 || text.is_empty() {
            let did = Did::refused(Failure {
                message: format!(
                    "`{command}` does not tell one start of the host from another: it ended with exit code {} and said `{}`",
                    identity.rc,
                    last_line(&identity.stderr).unwrap_or(&text)
                ),
                hint: Some("`boot_time_command` must print what is another after a restart".into()),
                ..Default::default()
            });
            return Ok(Err(Box::new(did)));
        }
        Ok(Ok(text))
    }

    /// Starts the restart. A connection that is lost meanwhile is what was asked for.
    async fn take_down(&mut self, user: &Option<String>, down: &Down) -> Result<Option<Did>, GivenUp> {
        let action = Action::Script(down.script.clone());
        match self.send(user, &[action], &[], Some(ANSWER)).await {
            Ok(reply) => {
                let Some(out) = reply.outputs.first().filter(|o| o.rc != 0) else { return Ok(None) };
                let mut did = Did::new(Outcome::Failed);
                did.result = json!({"rebooted": false, "rc": out.rc});
                did.failure = Some(FailureReport {
                    message: format!(
                        "the host refuses to restart: {}",
                        last_line(&out.stderr).unwrap_or("its command failed")
                    ),
                    hint: Some("it needs `become: true`, or a `reboot_command` of its own".into()),
                    rc: Some(out.rc),
                    stdout: out.stdout.clone(),
                    stderr: out.stderr.clone(),
                    ..Default::default()
                });
                Ok(Some(did))
            }
            Err(LinkError::Lost(_) | LinkError::TimedOut(_)) => Ok(None),
            Err(LinkError::Left) => Err(GivenUp(was_left())),
            Err(LinkError::Refused(e)) => Err(GivenUp(e)),
        }
    }

    /// Tries until the host answers, and answers as another start than `before`.
    async fn until_back(&mut self, user: &Option<String>, away: &Away, before: Option<&(String, &str)>) -> Seen {
        let end = Instant::now() + away.limit.min(A_YEAR);
        let mut pause = away.every;
        loop {
            let command = before.map_or("echo", |(_, c)| c);
            let last = match self.try_once(user, away, Action::Script(command.to_string()), end).await {
                Ok(out) => match before {
                    None => return Seen::Yes,
                    Some((old, _)) if out.rc == 0 && !out.stdout.trim().is_empty() && out.stdout.trim() != old => {
                        return Seen::Yes;
                    }
                    Some((old, _)) if out.stdout.trim() == old => "it answers and has not gone down".to_string(),
                    Some((_, c)) => format!("`{c}` ended with exit code {}", out.rc),
                },
                Err(message) => message,
            };
            // As long as it has not gone down, a session of ours must not be what it waits for.
            self.drop_link().await;
            if Instant::now() + pause.min(A_YEAR) > end {
                return Seen::No(last);
            }
            if !self.nap(pause).await {
                return Seen::Stopped;
            }
            pause = (pause * 3 / 2).min(LONGEST_PAUSE.max(away.every));
        }
    }

    async fn until_passes(&mut self, user: &Option<String>, item: &graph::Item, away: &Away, test: &str) -> Seen {
        let end = Instant::now() + away.limit.min(A_YEAR);
        loop {
            let command = Command {
                what: CommandLine::Shell { script: test.to_string(), shell: "/bin/sh".into() },
                environment: item.environment.clone(),
                timeout: Some(end.saturating_duration_since(Instant::now()).as_secs().max(1)),
                ..Default::default()
            };
            let last = match self.try_once(user, away, Action::Command(command), end).await {
                Ok(out) if out.rc == 0 => return Seen::Yes,
                Ok(out) => match last_line(&out.stderr) {
                    Some(l) => format!("exit code {}, {l}", out.rc),
                    None => format!("exit code {}", out.rc),
                },
                Err(message) => {
                    self.drop_link().await;
                    message
                }
            };
            if Instant::now() + away.every.min(A_YEAR) > end {
                return Seen::No(last);
            }
            if !self.nap(away.every).await {
                return Seen::Stopped;
            }
        }
    }

    /// Connects where there is no connection, and has one action done.
    async fn try_once(
        &mut self,
        user: &Option<String>,
        away: &Away,
        action: Action,
        end: Instant,
    ) -> Result<Output, String> {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        if self.site.link.is_none() {
            let patience = away.connect.or(self.shared.options.connect_timeout).unwrap_or(ANSWER).min(left);
            self.site.link = Some(self.open(Some(patience)).await.map_err(|e| e.to_string())?);
        }
        let limit = match action {
            Action::Command(_) => left + Duration::from_secs(10),
            _ => ANSWER,
        };
        match self.send(user, &[action], &[], Some(limit)).await {
            Ok(r) => r.outputs.first().cloned().ok_or_else(|| "it gave no answer".to_string()),
            Err(LinkError::Lost(m)) => Err(format!("the connection was lost: {m}")),
            Err(LinkError::TimedOut(d)) => Err(format!("no answer within {} s", d.as_secs())),
            Err(LinkError::Refused(e)) => Err(e.to_string()),
            Err(LinkError::Left) => Err(was_left().to_string()),
        }
    }

    /// Nothing that was known is known any more, the facts included: another kernel may run.
    fn new_start(&mut self) {
        self.forget(&Touches::everything());
        for seen in self.site.seen.values_mut() {
            let stale: Vec<Probe> =
                seen.iter().filter(|(_, a)| matches!(a, Answer::Facts(_))).map(|(p, _)| p.clone()).collect();
            stale.iter().for_each(|p| seen.remove(p));
        }
        if self.is_home() {
            self.dynamic.facts = None;
        }
    }

    /// Waits; false if the run is to stop.
    async fn nap(&mut self, how_long: Duration) -> bool {
        let end = Instant::now() + how_long.min(A_YEAR);
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            tokio::time::sleep(left.min(Duration::from_millis(250))).await;
        }
    }
}

fn itself() -> Did {
    Did::refused(Failure {
        message: "this is the machine that Windlass runs on: it will not restart itself".into(),
        hint: Some("restart it by hand when the run is over, or run Windlass from another machine".into()),
        ..Default::default()
    })
}

fn stopped() -> Did {
    Did::refused(Failure {
        message: "the run was stopped while the host was away".into(),
        hint: Some("the next apply begins with this task".into()),
        ..Default::default()
    })
}

fn in_vain(message: String, begun: Instant) -> Did {
    let mut result = Map::new();
    result.insert("rebooted".into(), json!(false));
    result.insert("elapsed".into(), json!(begun.elapsed().as_secs()));
    Did::refused(Failure {
        message,
        hint: Some("look at the host's console; `reboot_timeout` (or `timeout`) gives it more time".into()),
        result,
    })
}
