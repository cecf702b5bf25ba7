//! Events as lines of text, for the terminal and the log file alike.

use crate::modules::Diff;
use crate::run::event::{FailureReport, PartEnded, Recap, StepEnded};
use crate::run::{Counts, Outcome};
use console::{Style, style};
use similar::{ChangeTag, TextDiff};
use std::fmt::Write as _;
use std::time::Duration;

/// Lines of a failed command's output that are shown.
const OUTPUT_LINES: usize = 25;

pub fn word(o: Outcome) -> &'static str {
    match o {
        Outcome::Satisfied => "satisfied",
        Outcome::Changed => "changed",
        Outcome::Failed => "FAILED",
        Outcome::Ignored => "ignored",
        Outcome::Rescued => "rescued",
        Outcome::Blocked => "blocked",
        Outcome::Skipped => "skipped",
        Outcome::KnownAfterApply => "later",
        Outcome::Silent => "",
    }
}

pub fn colour(o: Outcome) -> Style {
    match o {
        Outcome::Satisfied => Style::new().green(),
        Outcome::Changed => Style::new().yellow(),
        Outcome::Failed => Style::new().red().bold(),
        Outcome::Ignored | Outcome::Rescued | Outcome::Blocked => Style::new().magenta(),
        Outcome::Skipped | Outcome::Silent => Style::new().dim(),
        Outcome::KnownAfterApply => Style::new().cyan(),
    }
}

/// `1 host`, `3 hosts`.
pub fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `1.2 s`, `340 ms`, `3 min 5 s`.
pub fn time(d: Duration) -> String {
    match d.as_millis() {
        0..1000 => format!("{} ms", d.as_millis()),
        1000..60_000 => format!("{:.1} s", d.as_secs_f64()),
        _ => format!("{} min {} s", d.as_secs() / 60, d.as_secs() % 60),
    }
}

/// The line that says how a step ended.
pub fn step(e: &StepEnded, check_mode: bool) -> String {
    let o = e.outcome;
    let said = match (o, check_mode) {
        (Outcome::Changed, true) => "change",
        _ => word(o),
    };
    let mut line = format!("{} {}  {}", colour(o).apply_to(format!("{said:<9}")), style(&e.host).bold(), e.task);
    let shown: Vec<&PartEnded> = e.parts.iter().filter(|p| p.outcome == Some(o) || e.parts.len() == 1).collect();
    if let Some(w) = &e.why {
        let _ = write!(line, " {}", style(format!("({w})")).dim());
    } else if let ([one], [PartEnded { label: None, .. }]) = (shown.as_slice(), e.parts.as_slice()) {
        if !one.summary.is_empty() && o != Outcome::Failed {
            let _ = write!(line, " {}", style(format!("- {}", one_line(&one.summary))).dim());
        }
    } else if e.parts.len() > 1 {
        let _ = write!(line, " {}", style(format!("({} of {} items)", shown.len(), e.parts.len())).dim());
    }
    if e.took >= Duration::from_secs(1) {
        let _ = write!(line, " {}", style(time(e.took)).dim());
    }
    line
}

/// What was done for each item, a line each.
pub fn items(e: &StepEnded) -> Vec<String> {
    if e.parts.len() < 2 && e.parts.first().is_none_or(|p| p.label.is_none()) {
        return vec![];
    }
    let shown = |p: &&PartEnded| p.outcome.is_some_and(|o| o != Outcome::Satisfied && o != Outcome::Skipped);
    e.parts
        .iter()
        .filter(shown)
        .map(|p| {
            let o = p.outcome.unwrap_or(Outcome::Satisfied);
            let what = if p.summary.is_empty() { String::new() } else { format!(" - {}", one_line(&p.summary)) };
            format!(
                "            {} {}",
                colour(o).apply_to(one_line(p.label.as_deref().unwrap_or("item"))),
                style(what).dim()
            )
        })
        .collect()
}

fn one_line(text: &str) -> String {
    let mut line = text.lines().next().unwrap_or_default().to_string();
    if line.chars().count() > 100 {
        line = line.chars().take(97).chain("...".chars()).collect();
    }
    line
}

/// All there is to say about a step that failed.
pub fn failure(e: &StepEnded, part: &PartEnded, f: &FailureReport, again: &str) -> String {
    let mut t = String::new();
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(t, "  {} {text}", style(format!("{name:<9}")).dim());
    };
    row("task", &format!("{} ({}, {})", e.task, e.module, e.place));
    if let Some(l) = &part.label {
        row("item", &one_line(l));
    }
    row("what", &f.message);
    if let Some(c) = &f.command {
        row("command", &one_line(c));
    }
    if let Some(rc) = f.rc {
        row("exit code", &rc.to_string());
    }
    for (name, text) in [("stdout", &f.stdout), ("stderr", &f.stderr)] {
        let mut lines = tail(text).into_iter();
        if let Some(first) = lines.next() {
            row(name, &first);
            lines.for_each(|l| row("", &l));
        }
    }
    for (title, text) in &f.evidence {
        row("found", &style(title).bold().to_string());
        tail(text).iter().for_each(|l| row("", l));
    }
    if let Some(h) = &f.hint {
        row("help", h);
    }
    row("again", again);
    if let Some(s) = &f.source {
        let _ = writeln!(t, "{s}");
    }
    t
}

/// The end of an output: its last lines, and how many were left out.
fn tail(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let left_out = lines.len().saturating_sub(OUTPUT_LINES);
    let mut out = vec![];
    if left_out > 0 {
        out.push(format!("... {left_out} lines before"));
    }
    out.extend(lines[left_out..].iter().map(|l| l.to_string()));
    out
}

/// A change of text, as `diff -u` shows it.
pub fn diff(d: &Diff) -> String {
    let (before, after) = (d.before.as_deref().unwrap_or(""), d.after.as_deref().unwrap_or(""));
    let mut t = String::new();
    let _ =
        writeln!(t, "    {}", style(format!("--- {}", if d.before.is_some() { &d.what } else { "/dev/null" })).bold());
    let _ =
        writeln!(t, "    {}", style(format!("+++ {}", if d.after.is_some() { &d.what } else { "/dev/null" })).bold());
    let text = TextDiff::from_lines(before, after);
    for group in text.grouped_ops(3) {
        if let (Some(first), Some(last)) = (group.first(), group.last()) {
            let (o, n) = (first.old_range().start..last.old_range().end, first.new_range().start..last.new_range().end);
            let head = format!("@@ -{},{} +{},{} @@", o.start + 1, o.len(), n.start + 1, n.len());
            let _ = writeln!(t, "    {}", style(head).cyan());
        }
        for change in group.iter().flat_map(|op| text.iter_changes(op)) {
            let line = change.value().trim_end_matches('\n');
            let line = match change.tag() {
                ChangeTag::Delete => style(format!("-{line}")).red(),
                ChangeTag::Insert => style(format!("+{line}")).green(),
                ChangeTag::Equal => style(format!(" {line}")),
            };
            let _ = writeln!(t, "    {line}");
            if change.missing_newline() {
                let _ = writeln!(t, "    \\ No newline at end of file");
            }
        }
    }
    t
}

/// The table at the end.
pub fn recap(r: &Recap) -> String {
    let name = r.hosts.iter().map(|(h, _)| h.chars().count()).max().unwrap_or(4).max(4);
    type Column = (&'static str, fn(&Counts) -> usize, Outcome);
    let columns: [Column; 5] = [
        ("satisfied", |c| c.satisfied, Outcome::Satisfied),
        ("changed", |c| c.changed, Outcome::Changed),
        ("failed", |c| c.failed, Outcome::Failed),
        ("blocked", |c| c.blocked, Outcome::Blocked),
        ("skipped", |c| c.skipped, Outcome::Skipped),
    ];
    let later = r.any(|c| c.unknown > 0);
    let mut t = format!("{:<name$}", "host");
    for (title, _, o) in &columns {
        let title = if r.check_mode && *o == Outcome::Changed { "to change" } else { title };
        let _ = write!(t, "  {title:>9}");
    }
    // Most runs have nothing of these.
    let rare: [Column; 2] =
        [("rescued", |c| c.rescued, Outcome::Rescued), ("ignored", |c| c.ignored, Outcome::Ignored)];
    let rare: Vec<&Column> = rare.iter().filter(|(_, count, _)| r.any(|c| count(c) > 0)).collect();
    for (title, ..) in &rare {
        let _ = write!(t, "  {title:>9}");
    }
    if later {
        t.push_str("  known after apply");
    }
    t.push('\n');
    for (host, c) in &r.hosts {
        let _ = write!(t, "{}", style(format!("{host:<name$}")).bold());
        for (_, count, o) in &columns {
            let n = count(c);
            let cell = format!("{n:>9}");
            let _ =
                write!(t, "  {}", if n > 0 { colour(*o).apply_to(cell) } else { Style::new().dim().apply_to(cell) });
        }
        for (_, count, _) in &rare {
            let _ = write!(t, "  {:>9}", count(c));
        }
        if later {
            let _ = write!(t, "  {:>17}", c.unknown);
        }
        if c.unreachable {
            let _ = write!(t, "  {}", colour(Outcome::Failed).apply_to("unreachable"));
        }
        t.push('\n');
    }
    let hosts = count(r.hosts.len(), "host");
    let trips = r.hosts.iter().map(|(_, c)| c.round_trips).max().unwrap_or(0);
    let _ = writeln!(
        t,
        "{hosts}, {}, at most {trips} round trip{} a host",
        time(r.took),
        if trips == 1 { "" } else { "s" }
    );
    t
}
