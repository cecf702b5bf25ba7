//! `windlass why`: why a task would be done on a host, be skipped, or wait. No host is contacted.

use super::apply::Format;
use super::{Exit, HostArgs, project};
use crate::error::{Error, Result};
use crate::graph::{self, Dynamic, Edge, Layer, Node, Place, Program, Refusal, Section, TaskUse, hears};
use crate::inventory;
use crate::playbook::{Condition, Said};
use crate::source::{Diagnostics, nearest};
use crate::vault::Redactor;
use clap::Args;
use petgraph::Direction;
use petgraph::visit::EdgeRef as _;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Why {
    /// The host.
    host: String,
    /// The task: its name, `role : name`, its id, or FILE:LINE.
    task: String,
    /// The playbook; not needed where `playbooks/` has only one.
    #[arg(short, long, value_name = "PLAYBOOK")]
    playbook: Option<PathBuf>,
    #[command(flatten)]
    hosts: HostArgs,
    /// As with these tags.
    #[arg(short, long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,
    /// As without these tags.
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    skip_tags: Vec<String>,
    /// As with only these phases.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    phase: Vec<String>,
    /// Text for people, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// A playbook that is looked at, errors or not.
pub struct Book {
    pub program: Program,
    pub redactor: Redactor,
    found: Diagnostics,
    playbook: String,
}

impl Book {
    pub fn read(playbook: &Path, hosts: &HostArgs, options: graph::Options) -> Result<Book> {
        let opener = project::Opener::new(&hosts.identity, &project::root_of(playbook));
        let (project, found) =
            project::look(playbook, hosts, graph::Options { check_mode: true, checks_only: true, ..options }, &opener)?;
        match project {
            Some(p) => Ok(Book {
                program: p.project.program,
                redactor: opener.redactor,
                found,
                playbook: playbook.display().to_string(),
            }),
            None => {
                project::print(&found, &opener.redactor);
                Err(Error::input(format!("{} cannot be read", playbook.display())))
            }
        }
    }

    /// The inventory alone, by a playbook that does nothing.
    pub fn of_inventory(hosts: &HostArgs, host: &str) -> Result<Book> {
        let here = std::env::current_dir().map_err(|e| Error::environment("where are we?").because(e))?;
        let mut hosts = hosts.clone();
        hosts.inventory = project::inventories(&hosts.inventory, &here)?;
        let dir = tempfile::tempdir().map_err(|e| Error::environment("cannot make a temporary folder").because(e))?;
        let path = dir.path().join("look.yml");
        let pattern = if inventory::LOCALHOST.contains(&host) { host } else { "all" };
        std::fs::write(&path, format!("- hosts: \"{pattern}\"\n"))
            .map_err(|e| Error::environment("cannot write a temporary file").because(e))?;
        Book::read(&path, &hosts, Default::default())
    }

    /// A host that takes part in the playbook.
    pub fn host(&self, name: &str) -> Result<usize> {
        let p = &self.program;
        if let Some(i) = p.host_index(name) {
            return Ok(i);
        }
        if p.inventory.hosts.contains_key(name) {
            return Err(Error::input(format!("no phase of the playbook is for `{name}`"))
                .hint("see `hosts:` of its phases, and --limit"));
        }
        let e = Error::input(format!("there is no host `{name}` in the inventory"));
        Err(match nearest(name, p.inventory.hosts.keys().map(String::as_str)) {
            Some(n) => e.hint(format!("did you mean `{n}`?")),
            None => e.hint("`windlass inventory` shows them"),
        })
    }

    /// What is shown may be incomplete where there are mistakes.
    pub fn note_errors(&self) {
        let (errors, _) = self.found.counts();
        if errors > 0 {
            let s = if errors == 1 { "" } else { "s" };
            eprintln!("note: the check has {errors} error{s} (windlass check {})", self.playbook);
        }
    }
}

/// The tasks a text means: those with this name or id, or at this place.
pub fn find_task(p: &Program, wanted: &str) -> Result<Vec<usize>> {
    let exact = |t: &TaskUse| graph::is_called(t, wanted);
    let lower = wanted.to_lowercase();
    let part = |t: &TaskUse| t.title().to_lowercase().contains(&lower);
    let pick = |is: &dyn Fn(&TaskUse) -> bool| -> Vec<usize> {
        let all = p.tasks.iter().enumerate();
        all.filter(|(_, t)| t.stands_for.is_none() && is(t)).map(|(i, _)| i).collect()
    };
    let found = Some(pick(&exact)).filter(|f| !f.is_empty()).unwrap_or_else(|| pick(&part));
    if !found.is_empty() {
        return Ok(found);
    }
    let titles: Vec<String> = p.tasks.iter().flat_map(|t| [t.title(), t.task.title().to_string()]).collect();
    let e = Error::input(format!("there is no task `{wanted}`"));
    Err(match nearest(wanted, titles.iter().map(String::as_str)) {
        Some(n) => e.hint(format!("did you mean `{n}`?")),
        None => e.hint("give its name, `role : name`, its id, or FILE:LINE"),
    })
}

/// What comes of a task on a host, as far as it can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Runs,
    /// A condition is known only when run.
    Depends,
    Skipped,
    /// It is not among the tasks of this host at all.
    NotMeant,
    /// A handler, or a part of a block that is done only after a failure.
    OnlyIf,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Runs => "runs",
            Verdict::Depends => "depends",
            Verdict::Skipped => "skipped",
            Verdict::NotMeant => "not_meant",
            Verdict::OnlyIf => "only_if",
        }
    }
}

/// One reason, under a heading.
struct Reason {
    about: &'static str,
    text: String,
    /// `true`, `false`, or unknown.
    holds: Option<bool>,
    place: Option<String>,
}

struct Answer {
    title: String,
    place: String,
    phase: String,
    verdict: Verdict,
    summary: String,
    reasons: Vec<Reason>,
}

impl Why {
    pub fn run(&self) -> Result<Exit> {
        let playbook = match &self.playbook {
            Some(p) => p.clone(),
            None => only_playbook()?,
        };
        let options = graph::Options {
            tags: self.tags.clone(),
            skip_tags: self.skip_tags.clone(),
            phases: self.phase.clone(),
            ..Default::default()
        };
        let book = Book::read(&playbook, &self.hosts, options.clone())?;
        let p = &book.program;
        if !p.inventory.hosts.contains_key(&self.host) && p.host_index(&self.host).is_none() {
            book.host(&self.host)?;
        }
        let answers: Vec<Answer> =
            find_task(p, &self.task)?.into_iter().map(|t| answer(p, t, &self.host, &options)).collect();
        let out = match self.format {
            Format::Json => {
                let all: Vec<Value> = answers.iter().map(|a| as_json(a, &self.host)).collect();
                serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
            }
            Format::Text => answers.iter().map(|a| page(a, &self.host)).collect::<Vec<_>>().join("\n"),
        };
        say_on!("{}", book.redactor.redact(&out));
        book.note_errors();
        Ok(Exit::Done)
    }
}

fn only_playbook() -> Result<PathBuf> {
    let all: Vec<PathBuf> = std::fs::read_dir("playbooks")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "yml" || e == "yaml"))
        .collect();
    match all.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(Error::input("no playbook is given").hint("name it with -p PLAYBOOK")),
    }
}

fn answer(p: &Program, task: usize, host: &str, options: &graph::Options) -> Answer {
    let t = &p.tasks[task];
    let phase = &p.playbook.phases[t.phase];
    let mut a = Answer {
        title: t.title(),
        place: t.span().line(),
        phase: phase.name.clone(),
        verdict: Verdict::Runs,
        summary: String::new(),
        reasons: vec![],
    };
    let mut say = |about, text: String, holds, place| a.reasons.push(Reason { about, text, holds, place });
    let host_place = phase.hosts.span.line();

    // Whether it is among the host's tasks.
    let matches = inventory::select(&p.inventory, &phase.hosts.text).is_ok_and(|h| h.contains(&host));
    let index = p.host_index(host).filter(|h| p.batches[t.phase].iter().flatten().any(|x| x == h));
    say("hosts", format!("`{}`", phase.hosts.text), Some(matches), Some(host_place));
    if !matches {
        return Answer { verdict: Verdict::NotMeant, summary: "its phase is not for this host".into(), ..a };
    }
    let Some(index) = index else {
        let why =
            if options.phases.is_empty() { "--limit leaves this host out" } else { "--phase leaves its phase out" };
        return Answer { verdict: Verdict::NotMeant, summary: why.into(), ..a };
    };
    if let Some((n, batch)) = p.batch_of(t.phase, index).filter(|_| p.batches[t.phase].len() > 1) {
        let others: Vec<&str> = batch.iter().map(|h| p.hosts[*h].name.as_str()).collect();
        say("serial", format!("batch {} of {}: {}", n + 1, p.batches[t.phase].len(), others.join(", ")), None, None);
    }
    if !t.handler {
        let through = graph::selected(&t.tags, options);
        let tags = if t.tags.is_empty() { "none".to_string() } else { t.tags.join(", ") };
        if !t.tags.is_empty() || !options.tags.is_empty() || !options.skip_tags.is_empty() {
            say("tags", tags, Some(through), None);
        }
        if !through {
            let summary = match t.tags.iter().any(|t| t == "never") && options.tags.is_empty() {
                true => "it has the tag `never`, and no --tags names it",
                false => "--tags or --skip-tags leave it out",
            };
            return Answer { verdict: Verdict::NotMeant, summary: summary.into(), ..a };
        }
    }

    // What must hold.
    let pending: HashSet<String> = p.tasks.iter().flat_map(|t| t.task.sets()).collect();
    let dynamic = Dynamic::default();
    let place = Place { program: p, host: index, task: t, dynamic: &dynamic, pending: &pending };
    let (mut no, mut unknown) = (None, None);
    for c in t.outer_when.iter().chain(&t.task.when) {
        let (holds, text) = condition(c, place);
        if holds == Some(false) && no.is_none() {
            no = Some(c.text.clone());
        }
        if holds.is_none() && unknown.is_none() {
            unknown = Some(c.text.clone());
        }
        say("when", text, holds, Some(c.span.line()));
    }

    // What it waits for.
    let node = p.graph.node_indices().find(|n| p.graph[*n] == Node::Step { task, host: index });
    let mut only_if = None;
    for w in &t.within {
        let (name, at) = (p.blocks[w.id].title(), p.blocks[w.id].block.span.line());
        match w.section {
            Section::Rescue => {
                only_if = Some(format!("something in the block `{name}` fails"));
                say("block", format!("in the rescue of `{name}`: done if something in it fails"), None, Some(at));
            }
            Section::Always => {
                say("block", format!("in the always of `{name}`: done whatever comes of it"), None, Some(at))
            }
            Section::Main => {}
        }
    }
    if t.handler {
        let mut any = false;
        for n in &p.tasks {
            let hears_it = |text: &str| text.contains("{{") || hears(t, text);
            if n.phase == t.phase && n.stands_for.is_none() && n.task.notify.iter().any(|x| hears_it(&x.text)) {
                any = true;
                say("notified by", n.title(), None, Some(n.span().line()));
            }
        }
        only_if = Some(match any {
            true => "one of those that notify it changes something".into(),
            false => "something notified it, and nothing does".into(),
        });
    }
    if t.run_once() {
        let first = p.batch_of(t.phase, index).and_then(|(_, b)| b.first());
        let name = first.map_or("", |h| p.hosts[*h].name.as_str());
        let here = first == Some(&index);
        say("run_once", format!("done on {name}, known to all"), Some(here), None);
        if !here && no.is_none() {
            no = Some(format!("run_once: {name} does it"));
        }
    }
    if let Some(to) = t.delegate_to() {
        say("delegate_to", to.text.clone(), None, Some(to.span.line()));
    }
    for (text, at) in node.map(|n| waits(p, n)).unwrap_or_default() {
        say("after", text, None, at);
    }
    for (_, hold) in t.holds(task) {
        for l in &hold.locks {
            say("lock", format!("`{l}`, taken when it is about to change something"), None, None);
        }
        match &hold.throttle {
            Some(Said::Plain(n)) => say("throttle", format!("{n} hosts at a time"), None, None),
            Some(Said::Template(t)) => {
                say("throttle", format!("`{}` hosts at a time", t.text), None, Some(t.span.line()))
            }
            None => {}
        }
        for (name, span) in &hold.budgets {
            let b = p.budget(t.phase, name).map(|b| &b.budget);
            let size = b.and_then(|b| b.size.as_ref()).map_or("1".into(), |n| crate::template::text(&n.to_value()));
            let text = format!("`{name}`, {size} away at once: taken before the first change");
            say("budget", text, None, Some(b.map_or(span, |b| &b.span).line()));
        }
    }
    let (verdict, summary) = match (no, unknown, only_if) {
        (Some(c), _, _) => (Verdict::Skipped, format!("`{c}` does not hold")),
        (None, _, Some(c)) => (Verdict::OnlyIf, format!("only if {c}")),
        (None, Some(c), None) => (Verdict::Depends, format!("`{c}` is known only when run")),
        (None, None, None) => (Verdict::Runs, "nothing keeps it from being done".into()),
    };
    Answer { verdict, summary, ..a }
}

/// A condition, with its value or why there is none.
fn condition(c: &Condition, place: Place<'_>) -> (Option<bool>, String) {
    let looped = place.task.task.loop_.as_ref().filter(|l| c.compiled.roots().contains(&l.var));
    if let Some(l) = looped {
        return (None, format!("{}  (asked for each `{}` of the loop)", c.text, l.var));
    }
    let scope = place.scope(Map::new());
    let mut used: Vec<String> = vec![];
    for name in c.compiled.roots() {
        let Some((layer, var)) = scope.origins(name).into_iter().next() else { continue };
        let of = if matches!(layer, Layer::CommandLine) { "-e".into() } else { var.span.line() };
        let value = match scope.value(name) {
            Some(v) if !var.span.source.secret => v,
            _ => place.program.inventory.shown(var),
        };
        used.push(format!("{name} is {} ({of})", short(&value, &place.program.redactor)));
    }
    let with = if used.is_empty() { String::new() } else { format!("  [{}]", used.join("; ")) };
    match graph::evaluate(c, &scope) {
        Ok(b) => (Some(b), format!("{}{with}", c.text)),
        Err(Refusal::Unknown { why, .. }) => (None, format!("{}  ({why}){with}", c.text)),
        Err(Refusal::Wrong(d)) => {
            let what = d.first().map_or("", |d| d.message.as_str());
            (None, format!("{}  (wrong: {what})", c.text))
        }
    }
}

/// A value in one line, cut where it is long: after its secrets are out, since a part of one is not known for one.
fn short(v: &Value, redactor: &Redactor) -> String {
    super::cut(&redactor.redact(&v.to_string()), 40)
}

/// What a step waits for, each with its place.
fn waits(p: &Program, node: graph::StepIndex) -> Vec<(String, Option<String>)> {
    let mut all = vec![];
    for e in p.graph.edges_directed(node, Direction::Incoming) {
        let how = match e.weight() {
            Edge::After | Edge::Always => " (whatever comes of it)",
            Edge::Loop => " (it says how often)",
            Edge::Rescue => " (if it fails)",
            Edge::Standby => " (which does it for all, unless it is out)",
            Edge::Needs | Edge::Batch => "",
        };
        let Node::Step { host: own, .. } = p.graph[node] else { continue };
        let on = |h: usize| if h == own { String::new() } else { format!(" on {}", p.hosts[h].name) };
        all.push(match p.graph[e.source()] {
            Node::Step { task, host } => {
                let t = &p.tasks[task];
                (format!("{}{}{how}", t.title(), on(host)), Some(t.span().line()))
            }
            Node::Join { block, host, part } => {
                let part = match part {
                    Section::Main => "the tasks",
                    Section::Rescue => "the rescue",
                    Section::Always => "the always",
                };
                let b = &p.blocks[block];
                (format!("{part} of the block `{}`{}{how}", b.title(), on(host)), Some(b.block.span.line()))
            }
            Node::Release { block, host } => {
                let b = &p.blocks[block];
                (format!("what the block `{}` holds is given back{}", b.title(), on(host)), Some(b.block.span.line()))
            }
            Node::Gate { phase, batch } => {
                let ph = &p.playbook.phases[phase];
                let last = batch + 1 == p.batches[phase].len();
                let what = if last { String::new() } else { format!("batch {} of ", batch + 1) };
                (format!("{what}the phase `{}` on all its hosts{how}", ph.name), Some(ph.span.line()))
            }
            Node::Facts { host, .. } => (format!("the facts of {}", p.hosts[host].name), None),
            Node::AllFacts => ("the facts of all hosts".into(), None),
        });
    }
    all.reverse();
    all
}

fn as_json(a: &Answer, host: &str) -> Value {
    let reasons: Vec<Value> = a
        .reasons
        .iter()
        .map(|r| json!({"about": r.about, "text": r.text, "holds": r.holds, "place": r.place}))
        .collect();
    json!({
        "task": a.title, "place": a.place, "phase": a.phase, "host": host,
        "verdict": a.verdict.word(), "summary": a.summary, "reasons": reasons,
    })
}

fn page(a: &Answer, host: &str) -> String {
    let verdict = match a.verdict {
        Verdict::Runs => "It is done",
        Verdict::Depends => "It depends",
        Verdict::Skipped => "It is skipped",
        Verdict::NotMeant => "It is not done here",
        Verdict::OnlyIf => "It is done at times",
    };
    let mut out =
        format!("{}\n  {} in the phase `{}`, on {host}\n\n{verdict}: {}.\n\n", a.title, a.place, a.phase, a.summary);
    let width = a.reasons.iter().map(|r| r.about.len()).max().unwrap_or(0);
    let mut before = "";
    for r in &a.reasons {
        let about = if r.about == before { "" } else { r.about };
        before = r.about;
        let holds = match (r.about, r.holds) {
            (_, Some(true)) => "yes  ",
            (_, Some(false)) => "no   ",
            ("when", None) => "?    ",
            _ => "",
        };
        let at = r.place.as_ref().map(|p| format!("  {p}")).unwrap_or_default();
        out.push_str(&format!("  {about:width$}  {holds}{}{at}\n", r.text));
    }
    out
}
