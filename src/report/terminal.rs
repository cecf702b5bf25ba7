//! What a person sees: plain lines, and on a terminal a few lines below them that say what goes on right now.

use super::{Reader, words};
use crate::run::event::{Event, StepEnded};
use crate::run::{Again, Outcome};
use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

/// Hosts that get a line of their own while a run goes on.
const LIVE_HOSTS: usize = 12;

/// How much is shown.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// 0: what changed or failed. 1: every step and commands' output. 2 and up: more of it.
    pub verbose: u8,
    pub diff: bool,
    /// A live display, where standard error is a terminal.
    pub live: bool,
}

/// The terminal's reader. Results go to standard output, live progress to standard error.
pub struct Terminal {
    view: View,
    live: Option<Live>,
    check_mode: bool,
    out: Box<dyn Write>,
    hosts: usize,
    again: Again,
    /// A question is open: what happens meanwhile is shown behind its answer.
    asking: bool,
    held_back: Vec<Event>,
}

struct Live {
    bars: MultiProgress,
    total: ProgressBar,
    hosts: HashMap<String, ProgressBar>,
}

fn draw_target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(10)
}

impl Terminal {
    pub fn new(view: View, out: Box<dyn Write>) -> Self {
        let live = view.live.then(|| {
            let bars = MultiProgress::with_draw_target(draw_target());
            let total = bars.add(ProgressBar::new(0));
            if let Ok(s) = ProgressStyle::with_template("{bar:24} {pos}/{len} steps  {elapsed}") {
                total.set_style(s);
            }
            Live { bars, total, hosts: HashMap::new() }
        });
        Terminal {
            view,
            live,
            check_mode: false,
            out,
            hosts: 0,
            again: Again::default(),
            asking: false,
            held_back: vec![],
        }
    }

    fn line(&mut self, text: &str) {
        let out = &mut self.out;
        let mut write = || {
            // A reader that went away (`| head`) is no reason to stop the run.
            let _ = writeln!(out, "{text}");
            let _ = out.flush();
        };
        match &self.live {
            Some(l) => l.bars.suspend(write),
            None => write(),
        }
    }

    fn step(&mut self, e: &StepEnded) {
        let loud = matches!(
            e.outcome,
            Outcome::Changed | Outcome::Failed | Outcome::Ignored | Outcome::Rescued | Outcome::KnownAfterApply
        );
        let says = e.parts.iter().any(|p| p.say.is_some() && self.view.verbose >= p.say_from);
        if !(loud || says || self.view.verbose > 0) || e.outcome == Outcome::Silent {
            return;
        }
        // A run of blocked steps is one fact; it is in the recap.
        if e.outcome == Outcome::Blocked && self.view.verbose == 0 {
            return;
        }
        self.line(&words::step(e, self.check_mode));
        for l in words::items(e) {
            self.line(&l);
        }
        for p in &e.parts {
            let said = p.say.as_deref().filter(|_| self.view.verbose >= p.say_from).unwrap_or_default();
            for s in said.lines() {
                self.line(&format!("            {s}"));
            }
            if self.view.diff {
                p.diff.iter().for_each(|d| self.line(words::diff(d).trim_end_matches('\n')));
            }
            if self.view.verbose > 0
                && e.outcome != Outcome::Failed
                && let Some(o) = &p.output
            {
                for l in o.stdout.lines().chain(o.stderr.lines()) {
                    self.line(&format!("            {}", style(l).dim()));
                }
            }
            if let Some(f) = &p.failure {
                let text = words::failure(e, p, f, &self.again.on(&[&e.host], self.hosts));
                self.line(text.trim_end_matches('\n'));
            }
        }
    }
}

impl Reader for Terminal {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Answered { .. } | Event::Ended(_)) && std::mem::take(&mut self.asking) {
            if let Some(l) = &self.live {
                l.bars.set_draw_target(draw_target());
            }
            std::mem::take(&mut self.held_back).iter().for_each(|e| self.event(e));
        }
        if self.asking {
            self.held_back.push(event.clone());
            return;
        }
        match &event.clone().printable() {
            Event::Started(s) => {
                self.check_mode = s.check_mode;
                self.hosts = s.hosts.len();
                self.again = s.command.clone();
                let verb = if s.check_mode { "plan" } else { "apply" };
                let (hosts, steps) = (words::count(s.hosts.len(), "host"), words::count(s.steps, "step"));
                self.line(&format!(
                    "{} {} on {hosts}, {steps} {}",
                    style(verb).bold(),
                    s.playbook,
                    style(format!("(run {})", s.run)).dim()
                ));
                if let Some(l) = &self.live {
                    l.total.set_length(s.steps as u64);
                    l.total.enable_steady_tick(Duration::from_millis(200));
                }
            }
            Event::Connected { host, took } => {
                if self.view.verbose > 1 {
                    self.line(&format!(
                        "{} {}  {}",
                        style("connected").dim(),
                        style(host).bold(),
                        style(words::time(*took)).dim()
                    ));
                }
            }
            Event::Unreachable { host, task, place, message, hint } => {
                let o = Outcome::Failed;
                self.line(&format!("{} {}  {message}", words::colour(o).apply_to("UNREACHED"), style(host).bold()));
                // Facts that others read are asked for by no task.
                if !task.is_empty() {
                    self.line(&format!("  {} {task} ({place})", style("task     ").dim()));
                }
                if let Some(h) = hint {
                    self.line(&format!("  {} {h}", style("help     ").dim()));
                }
                let again = self.again.on(&[host], self.hosts);
                self.line(&format!("  {} {again}", style("again    ").dim()));
            }
            Event::StepStarted { host, task, .. } => {
                if let Some(l) = &mut self.live {
                    let room = l.hosts.len() < LIVE_HOSTS;
                    if let Some(b) = l.hosts.get(host) {
                        b.set_message(task.clone());
                    } else if room {
                        let b = l.bars.add(ProgressBar::new_spinner());
                        if let Ok(s) = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}") {
                            b.set_style(s);
                        }
                        b.set_prefix(host.clone());
                        b.set_message(task.clone());
                        b.enable_steady_tick(Duration::from_millis(150));
                        l.hosts.insert(host.clone(), b);
                    }
                }
            }
            Event::StepEnded(e) => {
                if let Some(l) = &self.live {
                    l.total.inc(1);
                }
                self.step(e);
            }
            Event::Note { host, message } => {
                let host = host.as_ref().map(|h| format!("{}  ", style(h).bold())).unwrap_or_default();
                self.line(&format!("{} {host}{message}", style("note     ").dim()));
            }
            Event::Asked { host, text, diff } => {
                if let Some(l) = &self.live {
                    l.bars.set_draw_target(ProgressDrawTarget::hidden());
                }
                diff.iter().for_each(|d| self.line(words::diff(d).trim_end_matches('\n')));
                self.line(&format!("{} {}  {text}", style("asks     ").bold(), style(host).bold()));
                self.asking = true;
            }
            Event::Answered { .. } => {}
            Event::Ended(r) => {
                if let Some(l) = self.live.take() {
                    l.hosts.values().for_each(ProgressBar::finish_and_clear);
                    l.total.finish_and_clear();
                    let _ = l.bars.clear();
                }
                self.line("");
                if r.interrupted {
                    let begun = if r.left { "ended in the middle" } else { "finished" };
                    self.line(&format!("interrupted: what had begun was {begun}, the rest was not begun"));
                }
                self.line(words::recap(r).trim_end_matches('\n'));
                if !r.due.is_empty() {
                    self.line(&format!("handlers still due, the next apply runs them: {}", r.due.join("; ")));
                }
                if let Some(a) = &r.again {
                    self.line(&format!("to go on: {a}"));
                }
            }
        }
    }
}
