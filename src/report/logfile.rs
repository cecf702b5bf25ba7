//! The log of a run: every event, with the time, whatever the terminal shows.

use super::{Reader, words};
use crate::run::Event;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log file, readable for its owner alone.
pub struct LogFile {
    out: BufWriter<File>,
    pub path: PathBuf,
    again: crate::run::Again,
    hosts: usize,
    check_mode: bool,
}

impl LogFile {
    /// Makes `DIR/NAME.log`.
    pub fn create(dir: &Path, name: &str) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("{name}.log"));
        let file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        Ok(LogFile { out: BufWriter::new(file), path, again: Default::default(), hosts: 0, check_mode: false })
    }

    fn line(&mut self, text: &str) {
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ");
        let plain = console::strip_ansi_codes(text);
        for l in plain.lines() {
            // A full disk here must not keep the run from going on.
            let _ = writeln!(self.out, "{now} {l}");
        }
    }
}

impl Reader for LogFile {
    fn event(&mut self, event: &Event) {
        match &event.clone().printable() {
            Event::Started(s) => {
                self.check_mode = s.check_mode;
                self.again = s.command.clone();
                self.hosts = s.hosts.len();
                let verb = if s.check_mode { "plan" } else { "apply" };
                self.line(&format!(
                    "{verb} {} run {} hosts {} steps {}",
                    s.playbook,
                    s.run,
                    s.hosts.join(","),
                    s.steps
                ));
            }
            Event::Connected { host, took } => self.line(&format!("connected {host} in {}", words::time(*took))),
            Event::Unreachable { host, task, place, message, hint } => {
                self.line(&format!("UNREACHED {host} {message}"));
                if !task.is_empty() {
                    self.line(&format!("task {task} {place}"));
                }
                hint.iter().for_each(|h| self.line(&format!("help {h}")));
            }
            Event::StepStarted { host, task, phase } => self.line(&format!("start     {host} {phase} / {task}")),
            Event::StepEnded(e) => {
                if e.outcome == crate::run::Outcome::Silent {
                    return;
                }
                self.line(&format!("{} {}", words::step(e, self.check_mode), e.place));
                words::items(e).iter().for_each(|l| self.line(l));
                for p in &e.parts {
                    p.diff.iter().for_each(|d| self.line(&words::diff(d)));
                    p.say.iter().for_each(|s| self.line(s));
                    if let Some(o) = &p.output {
                        o.stdout.lines().for_each(|l| self.line(&format!("  out {l}")));
                        o.stderr.lines().for_each(|l| self.line(&format!("  err {l}")));
                    }
                    if let Some(f) = &p.failure {
                        let again = self.again.on(&[&e.host], self.hosts);
                        self.line(&words::failure(e, p, f, &again));
                    }
                }
            }
            Event::Note { host, message } => self.line(&format!("note {} {message}", host.as_deref().unwrap_or("-"))),
            Event::Asked { host, text, diff } => {
                self.line(&format!("asked     {host} {text}"));
                diff.iter().for_each(|d| self.line(&words::diff(d)));
            }
            Event::Answered { host } => self.line(&format!("answered  {host}")),
            Event::Ended(r) => {
                self.line(&words::recap(r));
                r.due.iter().for_each(|d| self.line(&format!("due {d}")));
            }
        }
        let _ = self.out.flush();
    }
}
