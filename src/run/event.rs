//! Everything a run says. Screens, log files and reports are readers of this one stream.

use crate::modules::Diff;
use crate::vault::Redactor;
use std::borrow::Cow;
use std::time::Duration;

/// One thing a run says.
#[derive(Debug, Clone)]
pub enum Event {
    Started(Started),
    /// A host was connected to, in so much time.
    Connected {
        host: String,
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
    Ended(Recap),
}

#[derive(Debug, Clone)]
pub struct Started {
    pub run: String,
    pub playbook: String,
    pub hosts: Vec<String>,
    /// Steps in all.
    pub steps: usize,
    pub check_mode: bool,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Satisfied,
    Changed,
    Failed,
    /// Failed, and the task says to go on.
    Ignored,
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
#[derive(Debug, Clone)]
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
    pub why: Option<String>,
    pub took: Duration,
    pub parts: Vec<PartEnded>,
}

/// The end of one loop item, or of the whole of a task without a loop.
#[derive(Debug, Clone, Default)]
pub struct PartEnded {
    pub label: Option<String>,
    pub outcome: Option<Outcome>,
    /// What was (or would be) done, in a line.
    pub summary: String,
    pub diff: Vec<Diff>,
    /// Words for the reader (`debug`).
    pub say: Option<String>,
    pub failure: Option<FailureReport>,
    /// A command's output, for `-v`.
    pub output: Option<crate::probe::Output>,
    /// Tries it took, where it was tried again.
    pub attempts: u32,
}

/// What is to be known of a failure.
#[derive(Debug, Clone, Default)]
pub struct FailureReport {
    pub message: String,
    pub hint: Option<String>,
    pub command: Option<String>,
    pub rc: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// What was gathered to explain it, each with a title.
    pub evidence: Vec<(String, String)>,
    /// Findings with source lines, rendered.
    pub source: Option<String>,
}

/// Counts of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub satisfied: usize,
    pub changed: usize,
    pub failed: usize,
    pub blocked: usize,
    pub skipped: usize,
    pub unknown: usize,
    pub unreachable: bool,
    /// Requests answered after authentication.
    pub round_trips: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub struct Recap {
    pub run: String,
    pub check_mode: bool,
    pub interrupted: bool,
    pub hosts: Vec<(String, Counts)>,
    pub took: Duration,
    /// The command that goes on from the failure.
    pub again: Option<String>,
    /// Handlers that are due and did not run, `host: handler`.
    pub due: Vec<String>,
}

impl Counts {
    pub fn add(&mut self, o: Outcome) {
        match o {
            Outcome::Satisfied => self.satisfied += 1,
            Outcome::Changed => self.changed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Ignored => self.satisfied += 1,
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
    pub fn redacted(mut self, r: &Redactor) -> Self {
        let fix = |s: &mut String| {
            if let Cow::Owned(clean) = r.redact(s) {
                *s = clean;
            }
        };
        let fix_opt = |s: &mut Option<String>| s.iter_mut().for_each(fix);
        match &mut self {
            Event::Started(_) | Event::Connected { .. } | Event::Ended(_) => {}
            Event::Unreachable { message, hint, .. } => {
                fix(message);
                fix_opt(hint);
            }
            Event::StepStarted { task, .. } => fix(task),
            Event::Note { message, .. } => fix(message),
            Event::StepEnded(e) => {
                fix(&mut e.task);
                fix_opt(&mut e.why);
                for p in &mut e.parts {
                    fix_opt(&mut p.label);
                    fix(&mut p.summary);
                    fix_opt(&mut p.say);
                    for d in &mut p.diff {
                        fix(&mut d.what);
                        fix_opt(&mut d.before);
                        fix_opt(&mut d.after);
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
