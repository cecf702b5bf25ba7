//! `async_status`: what has become of a command that was started with `async`.

use super::args::Text;
use super::{ArgError, Change, Ctx, Decision, Failure, Local, Module, Report, Stop};
use crate::action::Action;
use crate::probe::{Observed, Output, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Where jobs keep what they print, below the home of the user they run as.
pub const FOLDER: &str = ".windlass_async";

/// Asks for a command that was started with `async` and `poll: 0`; mostly with `until: job.finished`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsyncStatus {
    /// The job: `ansible_job_id` of the result of the task that started it.
    jid: Text,
    /// `status` asks; `cleanup` removes what the job has left on the host.
    #[serde(default)]
    mode: Mode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Status,
    Cleanup,
}

/// How a job is.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    Running,
    Ended(Output),
    /// It did not end within its time.
    Stopped(Output),
    /// It was started, is not there any more, and left no exit code: it was killed, or its host restarted.
    Lost,
    Unknown,
}

/// The script that asks for a job.
pub fn question(id: &str) -> String {
    let id = shell_quote(id);
    format!(
        "d=$HOME/{FOLDER}/{id}; [ -d \"$d\" ] || {{ echo none; exit; }}
if [ ! -e \"$d/rc\" ] && kill -0 \"$(cat \"$d/pid\")\" 2>/dev/null; then echo running; exit; fi
[ -e \"$d/rc\" ] || {{ echo lost; exit; }}
echo \"rc $(cat \"$d/rc\")\"; cat \"$d/out\"; cat \"$d/err\" >&2"
    )
}

/// What the answer to [`question`] says.
pub fn answer(o: &Output) -> Job {
    let (first, rest) = o.stdout.split_once('\n').unwrap_or((&o.stdout, ""));
    match first.split_once(' ') {
        Some(("rc", said)) => {
            let (rc, stopped) = match said.trim().strip_suffix(" stopped") {
                Some(rc) => (rc, true),
                None => (said.trim(), false),
            };
            let output = |rc| Output { rc, stdout: rest.to_string(), stderr: o.stderr.clone() };
            match (rc.parse(), stopped) {
                (Ok(rc), false) => Job::Ended(output(rc)),
                (Ok(rc), true) => Job::Stopped(output(rc)),
                (Err(_), _) => Job::Lost,
            }
        }
        _ if first == "running" => Job::Running,
        _ if first == "lost" => Job::Lost,
        _ => Job::Unknown,
    }
}

impl Module for AsyncStatus {
    const NAME: &'static str = "async_status";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("ansible_job_id", "The job."),
        ("started, finished", "1 where it has, else 0."),
        ("rc, stdout, stdout_lines, stderr, stderr_lines", "As of the command, once it has ended."),
    ];
    const EXAMPLE: &'static str = r#"- name: The long one
  shell: make world
  async: 3600
  poll: 0
  register: job
- name: It is done
  async_status: {jid: "{{job.ansible_job_id}}"}
  register: result
  until: eq result.finished 1
  retries: 360
  delay: 10"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        match self.jid.0.contains('/') || self.jid.0.starts_with('.') || self.jid.0.is_empty() {
            true => Err(ArgError::new("jid", format!("`{}` is no job's id", self.jid.0))
                .hint("it is `ansible_job_id` of the result of the task that started it")),
            false => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(question(&self.jid.0))]
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let job = answer(seen.script(&question(&self.jid.0))?);
        let mut result = Map::new();
        result.insert("ansible_job_id".into(), json!(self.jid.0));
        if self.mode == Mode::Cleanup {
            if job == Job::Unknown {
                return Ok(Decision::Satisfied(Report { result, ..Default::default() }));
            }
            let script = format!("rm -rf -- \"$HOME/{FOLDER}\"/{}", shell_quote(&self.jid.0));
            return Ok(Decision::Change(Change {
                actions: vec![Action::Script(script)],
                touches: Touches::everything(),
                summary: "removes what the job has left".into(),
                result,
                ..Default::default()
            }));
        }
        let mut tell = |finished: u8| {
            result.insert("started".into(), json!(1));
            result.insert("finished".into(), json!(finished));
        };
        match job {
            Job::Running => tell(0),
            Job::Ended(ref o) | Job::Stopped(ref o) => {
                tell(1);
                let mut value = Value::Object(result);
                crate::run::add_output(&mut value, o);
                let result = value.as_object().cloned().unwrap_or_default();
                return match o.rc {
                    0 => Ok(Decision::Satisfied(Report { result, ..Default::default() })),
                    rc => Err(Stop::Fail(Failure {
                        message: match job {
                            Job::Stopped(_) => "the job did not end within its time and was stopped".into(),
                            _ => format!("the job ended with exit code {rc}"),
                        },
                        hint: o.stderr.trim().lines().last().map(|l| format!("it said: {l}")),
                        result,
                    })),
                };
            }
            Job::Lost => {
                tell(1);
                let message = "the job is gone and left no exit code".to_string();
                let hint = Some("it was killed, or its host was restarted".to_string());
                return Err(Stop::Fail(Failure { message, hint, result }));
            }
            Job::Unknown => {
                let message = format!("the host knows no job {}", self.jid.0);
                let hint = Some("jobs belong to the user they run as: is `become` the same?".to_string());
                return Err(Stop::Fail(Failure { message, hint, result }));
            }
        }
        Ok(Decision::Satisfied(Report { result, ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn says(stdout: &str) -> Result<Decision, Stop> {
        let m: AsyncStatus = bind("{jid: '12.3'}");
        let o = Output { rc: 0, stdout: stdout.into(), stderr: "oh".into() };
        m.decide(&seen([(Probe::Script(question("12.3")), crate::probe::Answer::Script(o))]), &ctx())
    }

    #[test]
    fn a_job_runs_and_ends_well_or_not() {
        assert_eq!(satisfied(says("running\n")).result["finished"], json!(0));
        let r = satisfied(says("rc 0\nline\n"));
        assert_eq!((&r.result["finished"], &r.result["stdout"]), (&json!(1), &json!("line")));
        for (said, message) in [
            ("rc 3\n", "the job ended with exit code 3"),
            ("rc 124\n", "the job ended with exit code 124"),
            ("rc 124 stopped\n", "the job did not end within its time and was stopped"),
            ("lost\n", "the job is gone and left no exit code"),
            ("none\n", "the host knows no job 12.3"),
        ] {
            let Err(Stop::Fail(f)) = says(said) else { panic!("{said}") };
            assert_eq!(f.message, message);
        }
        assert!(try_bind::<AsyncStatus>("{jid: ../x}").is_err());
    }
}
