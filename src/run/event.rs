//! Everything a run says. Screens, log files and reports are readers of this one stream.

use crate::modules::Diff;
use crate::vault::Redactor;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// One thing a run says.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Started(Started),
    /// A host was connected to, in so much time.
    Connected {
        host: String,
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// A host could not be reached, or was lost.
    Unreachable {
        host: String,
        /// The task it was lost at, `role : name`, and where that is written, `path:line`.
        task: String,
        place: String,
        message: String,
        hint: Option<String>,
    },
    StepStarted {
        host: String,
        phase: String,
        task: String,
    },
    StepEnded(Box<StepEnded>),
    /// Worth knowing, not wrong.
    Note {
        host: Option<String>,
        message: String,
    },
    /// Somebody is asked, and nothing else should be written until the answer is there.
    Asked {
        host: String,
        text: String,
        diff: Vec<Diff>,
    },
    Answered {
        host: String,
    },
    Ended(Recap),
}

#[derive(Debug, Clone, Serialize)]
pub struct Started {
    pub run: String,
    pub playbook: String,
    pub hosts: Vec<String>,
    /// Steps in all.
    pub steps: usize,
    pub check_mode: bool,
    /// The command that started the run.
    pub command: Again,
}

/// The command that started a run, from which the one that goes on is made.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Again {
    /// As it was given.
    pub given: String,
    /// Without what narrows it to hosts.
    pub bare: String,
    /// The hosts it can be narrowed to: not such as the run makes.
    #[serde(skip)]
    pub hosts: Arc<HashSet<String>>,
}

impl Again {
    /// The command that does it again on these hosts, of `all` that took part.
    pub fn on(&self, hosts: &[&str], all: usize) -> String {
        if hosts.len() == all || !hosts.iter().all(|h| self.hosts.contains(*h)) {
            self.given.clone()
        } else {
            format!("{} --limit {}", self.bare, crate::quote::shell_quote(&hosts.join(",")))
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Satisfied,
    Changed,
    Failed,
    /// Failed, and the task says to go on.
    Ignored,
    /// Failed, and a block's `rescue` takes over.
    Rescued,
    /// Something it needs failed.
    Blocked,
    /// Its `when` is false.
    Skipped,
    /// In a plan: it depends on what an earlier change brings.
    KnownAfterApply,
    /// A handler nobody notified: nothing to speak of.
    Silent,
}

/// The end of a step.
#[derive(Debug, Clone, Serialize)]
pub struct StepEnded {
    pub host: String,
    pub phase: String,
    /// `role : name`.
    pub task: String,
    /// `path:line`.
    pub place: String,
    pub module: &'static str,
    pub handler: bool,
    pub outcome: Outcome,
    /// Why it was skipped, blocked or is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
    pub parts: Vec<PartEnded>,
}

/// The end of one loop item, or of the whole of a task without a loop.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PartEnded {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What was (or would be) done, in a line.
    pub summary: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<Diff>,
    /// Words for the reader (`debug`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub say: Option<String>,
    /// From which `-v` on a screen shows them.
    #[serde(skip)]
    pub say_from: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// Something was done, or asked of others.
    #[serde(skip)]
    pub acted: bool,
    /// A command's output, for `-v`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<crate::probe::Output>,
    /// Tries it took, where it was tried again.
    pub attempts: u32,
}

/// What is to be known of a failure.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FailureReport {
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rc: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// What was gathered to explain it, each with a title.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<(String, String)>,
    /// Findings with source lines, rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Counts of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub satisfied: usize,
    pub changed: usize,
    pub failed: usize,
    pub blocked: usize,
    pub skipped: usize,
    pub rescued: usize,
    /// Failed, and the task says to go on.
    pub ignored: usize,
    pub unknown: usize,
    pub unreachable: bool,
    /// Requests answered after authentication.
    pub round_trips: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Recap {
    pub run: String,
    pub check_mode: bool,
    pub interrupted: bool,
    /// What was at work was ended.
    pub left: bool,
    #[serde(serialize_with = "by_host")]
    pub hosts: Vec<(String, Counts)>,
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
    /// The command that goes on from the failure.
    pub again: Option<String>,
    /// Handlers that are due and did not run, `host: handler`.
    pub due: Vec<String>,
}

fn seconds<S: Serializer>(d: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(d.as_secs_f64())
}

fn by_host<S: Serializer>(hosts: &[(String, Counts)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(hosts.iter().map(|(h, c)| (h, c)))
}

impl Counts {
    pub fn add(&mut self, o: Outcome) {
        match o {
            Outcome::Satisfied => self.satisfied += 1,
            Outcome::Changed => self.changed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Ignored => self.ignored += 1,
            Outcome::Rescued => self.rescued += 1,
            Outcome::Blocked => self.blocked += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::KnownAfterApply => self.unknown += 1,
            Outcome::Silent => {}
        }
    }
}

impl Recap {
    pub fn any(&self, f: impl Fn(&Counts) -> bool) -> bool {
        self.hosts.iter().any(|(_, c)| f(c))
    }
}

impl Event {
    /// The event without any secret in it.
    pub fn redacted(self, r: &Redactor) -> Self {
        let clean = |s: &mut String| {
            if let Cow::Owned(clean) = r.redact(s) {
                *s = clean;
            }
        };
        self.with_texts(clean, clean)
    }

    /// The event as it may be written to a terminal: what a host prints must not move the cursor, hide lines or set a
    /// title. Control characters but line ends and tabs stand as `^[`; colours are left out. How a line ends tells in a
    /// diff alone.
    pub fn printable(self) -> Self {
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        let in_diff = |s: &mut String| {
            if !s.contains(control) {
                return;
            }
            let plain = console::strip_ansi_codes(s);
            *s = plain.chars().fold(String::with_capacity(plain.len()), |mut out, c| {
                match c {
                    c if !control(c) => out.push(c),
                    c if c.is_ascii() => out.extend(['^', char::from((c as u8) ^ 0x40)]),
                    _ => out.push(char::REPLACEMENT_CHARACTER),
                }
                out
            });
        };
        let in_text = |s: &mut String| {
            if s.contains("\r\n") {
                *s = s.replace("\r\n", "\n");
            }
            in_diff(s);
        };
        self.with_texts(in_text, in_diff)
    }

    /// `in_diff` is for what stands in files.
    fn with_texts(mut self, fix: impl Fn(&mut String), in_diff: impl Fn(&mut String)) -> Self {
        let fix = &fix;
        let in_file = |s: &mut Option<String>| s.iter_mut().for_each(&in_diff);
        let fix_opt = |s: &mut Option<String>| s.iter_mut().for_each(fix);
        match &mut self {
            Event::Connected { .. } => {}
            Event::Started(s) => {
                // A secret in `-e` makes the command line one.
                fix(&mut s.command.given);
                fix(&mut s.command.bare);
            }
            Event::Ended(r) => {
                fix_opt(&mut r.again);
                r.due.iter_mut().for_each(fix);
            }
            Event::Unreachable { task, message, hint, .. } => {
                fix(task);
                fix(message);
                fix_opt(hint);
            }
            Event::StepStarted { task, .. } => fix(task),
            Event::Note { message, .. } => fix(message),
            Event::Answered { .. } => {}
            Event::Asked { text, diff, .. } => {
                fix(text);
                for d in diff {
                    fix(&mut d.what);
                    in_file(&mut d.before);
                    in_file(&mut d.after);
                }
            }
            Event::StepEnded(e) => {
                fix(&mut e.task);
                fix_opt(&mut e.why);
                for p in &mut e.parts {
                    fix_opt(&mut p.label);
                    fix(&mut p.summary);
                    fix_opt(&mut p.say);
                    for d in &mut p.diff {
                        fix(&mut d.what);
                        in_file(&mut d.before);
                        in_file(&mut d.after);
                    }
                    if let Some(o) = &mut p.output {
                        fix(&mut o.stdout);
                        fix(&mut o.stderr);
                    }
                    if let Some(f) = &mut p.failure {
                        fix(&mut f.message);
                        fix_opt(&mut f.hint);
                        fix_opt(&mut f.command);
                        fix(&mut f.stdout);
                        fix(&mut f.stderr);
                        fix_opt(&mut f.source);
                        for (a, b) in &mut f.evidence {
                            fix(a);
                            fix(b);
                        }
                    }
                }
            }
        }
        self
    }
}

/// Where a run's events go: redacted, then to whoever reads.
#[derive(Clone)]
pub struct Emit {
    redactor: Redactor,
    to: tokio::sync::mpsc::UnboundedSender<Event>,
}

impl Emit {
    pub fn new(redactor: Redactor, to: tokio::sync::mpsc::UnboundedSender<Event>) -> Self {
        Emit { redactor, to }
    }
    pub fn send(&self, event: Event) {
        // A reader that is gone is no reason to stop working on hosts.
        let _ = self.to.send(event.redacted(&self.redactor));
    }
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Secrets;

    #[test]
    fn a_host_does_not_draw_on_the_terminal() {
        let shown = |text: &str| match (Event::Note { host: None, message: text.into() }).printable() {
            Event::Note { message, .. } => message,
            e => panic!("{e:?}"),
        };
        assert_eq!(shown("a\tb\r\nc grün"), "a\tb\nc grün");
        assert_eq!(shown("\x1b[31mred\x1b[0m"), "red");
        assert_eq!(shown("done\rFAILED\x08\x7f"), "done^MFAILED^H^?");
        let title = shown("\x1b]0;title\x07x\x1b[2J\u{9b}1A");
        assert_eq!(title, "x");
        let diff = Diff { what: "f".into(), before: Some("a\r\n".into()), after: Some("a\n".into()) };
        match (Event::Asked { host: "h".into(), text: "t".into(), diff: vec![diff] }).printable() {
            Event::Asked { diff, .. } => assert_eq!(diff[0].before.as_deref(), Some("a^M\n")),
            e => panic!("{e:?}"),
        }
    }

    #[test]
    fn a_host_that_the_run_made_cannot_be_named_before_it() {
        let hosts = Arc::new(["a", "b"].map(str::to_string).into());
        let again = Again { given: "w -l x".into(), bare: "w".into(), hosts };
        assert_eq!(again.on(&["a"], 3), "w --limit a");
        assert_eq!(again.on(&["a", "made"], 3), "w -l x");
    }

    #[test]
    fn no_word_of_an_event_shows_a_secret() {
        let mut secrets = Secrets::new();
        secrets.add("x", "hunter2-xyzzy");
        let r = Redactor::new();
        r.add(&secrets);
        let text = || "a hunter2-xyzzy b".to_string();
        let again = Again { given: text(), bare: text(), ..Default::default() };
        let failure = FailureReport {
            message: text(),
            hint: Some(text()),
            command: Some(text()),
            rc: None,
            stdout: text(),
            stderr: text(),
            evidence: vec![(text(), text())],
            source: Some(text()),
        };
        let part = PartEnded {
            label: Some(text()),
            summary: text(),
            diff: vec![Diff { what: text(), before: Some(text()), after: Some(text()) }],
            say: Some(text()),
            failure: Some(failure),
            output: Some(crate::probe::Output { rc: 0, stdout: text(), stderr: text() }),
            ..Default::default()
        };
        let step = StepEnded {
            host: "n1".into(),
            phase: "p".into(),
            task: text(),
            place: "p:1".into(),
            module: "shell",
            handler: false,
            outcome: Outcome::Failed,
            why: Some(text()),
            took: Duration::ZERO,
            parts: vec![part],
        };
        let host = || "n1".to_string();
        let all = [
            Event::Started(Started {
                run: "r".into(),
                playbook: "p".into(),
                hosts: vec![],
                steps: 0,
                check_mode: false,
                command: again,
            }),
            Event::Unreachable { host: host(), task: text(), place: host(), message: text(), hint: Some(text()) },
            Event::StepStarted { host: host(), phase: host(), task: text() },
            Event::StepEnded(Box::new(step)),
            Event::Note { host: None, message: text() },
            Event::Asked {
                host: "n1".into(),
                text: text(),
                diff: vec![Diff { what: text(), before: Some(text()), after: Some(text()) }],
            },
            Event::Ended(Recap { again: Some(text()), due: vec![text()], ..Default::default() }),
        ];
        for event in all {
            let shown = serde_json::to_string(&event.redacted(&r)).unwrap();
            assert!(!shown.contains("hunter2") && shown.contains("[redacted]"), "{shown}");
        }
    }
}
