//! `windlass apply` and `windlass plan`: one way through the code, with and without acting.

use super::project::{self, Loaded, Project};
use super::{Common, Exit, HostArgs, Selection};
use crate::error::{Error, Result};
use crate::graph;
use crate::quote::shell_join;
use crate::report::{Json, LogFile, Reader, Terminal, View};
use crate::run::due::{self, Due};
use crate::run::event::Started;
use crate::run::{self, Again, Carried, Emit, Event, Recap, Shared};
use crate::source::Diagnostics;
use crate::ssh::{Connector, SshConfig};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[derive(Args, Clone, Default)]
pub struct Apply {
    /// The playbook.
    pub playbook: PathBuf,
    #[command(flatten)]
    pub hosts: HostArgs,
    #[command(flatten)]
    pub selection: Selection,
    /// Change nothing, as `plan` does.
    #[arg(short = 'C', long)]
    pub check: bool,
    /// Show what changes in files.
    #[arg(short = 'D', long)]
    pub diff: bool,
    /// What standard output gets: text for people, or the run's events, a JSON object a line.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// Stop everything at the first failure.
    #[arg(long)]
    pub fail_fast: bool,
    /// Ask before each change, with what it would be.
    #[arg(long)]
    pub step: bool,
    /// Run the handlers that are due also on hosts where a task failed, as `force_handlers` of a phase says.
    #[arg(long)]
    pub force_handlers: bool,
    /// The command that starts this run, where it is not this process's own.
    #[arg(skip)]
    pub again: Option<String>,
    /// Nobody wrote the playbook: no mistake has a place in it.
    #[arg(skip)]
    pub nobodys: bool,
}

/// Who standard output is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl Apply {
    pub fn run(&self, common: &Common, plan: bool) -> Result<Exit> {
        match self.execute(common, plan)? {
            Ok(recap) => Ok(Exit::of_run(&recap)),
            Err(exit) => Ok(exit),
        }
    }

    /// Runs the playbook and gives back the recap, or how it ended before a host was contacted.
    pub fn execute(&self, common: &Common, plan: bool) -> Result<std::result::Result<Recap, Exit>> {
        let live = console::user_attended_stderr() && console::user_attended() && common.verbose < 3;
        let view = View { verbose: common.verbose, diff: self.diff || (plan && common.verbose > 0), live };
        let out = Box::new(std::io::stdout());
        let screen: Box<dyn Reader> = match self.format {
            Format::Text => Box::new(Terminal::new(view, out)),
            Format::Json => Box::new(Json::new(out)),
        };
        self.execute_for(common, plan, screen, true)
    }

    /// The same for another reader than the usual ones; `log`: with a log file.
    pub fn execute_for(
        &self,
        common: &Common,
        plan: bool,
        screen: Box<dyn Reader>,
        log: bool,
    ) -> Result<std::result::Result<Recap, Exit>> {
        let check_mode = plan || self.check;
        if self.step && !check_mode && !project::Asks::can() {
            return Err(Error::input("--step asks at the terminal, and there is none")
                .hint("`windlass plan` says what would be done, and asks nobody"));
        }
        let options =
            graph::Options { check_mode, asks: true, force_handlers: self.force_handlers, ..self.selection.options() };
        let (loaded, mut found, redactor) = project::load(&self.playbook, &self.hosts, options)?;
        if self.nobodys {
            found.without_places_in(&self.playbook);
        }
        project::print(&found, &redactor);
        let Some(Loaded { project, mut stages, redactor, inventories, root }) = loaded else {
            return Ok(Err(Exit::Input));
        };
        super::trace(common.verbose, &redactor);
        let ssh_config = SshConfig::load_default()?;
        let hosts = Arc::new(project.program.inventory.hosts.keys().cloned().collect());
        let again =
            self.again.clone().map_or_else(again, |a| Again { given: a.clone(), bare: a, ..Default::default() });
        let again = Again { hosts, ..again };
        let run_id = run_id();
        let link_options = project::link_options(&self.hosts, (!check_mode).then(|| run_id.clone()), &redactor)?;
        let due_path = due::path_for(&root, &self.playbook, &inventories);
        let due =
            Due::open(due_path).map_err(|e| Error::environment("cannot read which handlers are due").because(e))?;

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(4)))
            .enable_all()
            .build()
            .map_err(|e| Error::environment("cannot start the runtime").because(e))?;
        let mut readers = vec![screen];
        let mut log_note = None;
        if log {
            match LogFile::create(&root.join("logs"), &run_id) {
                Ok(l) => readers.push(Box::new(l)),
                Err(e) => log_note = Some(format!("no log file for this run: {e}")),
            }
        }

        let (to, mut events) = tokio::sync::mpsc::unbounded_channel();
        let emit = Emit::new(redactor.clone(), to);
        let p = &project;
        let steps = p
            .program
            .graph
            .node_indices()
            .filter(|n| matches!(p.program.graph[*n], graph::Node::Step { task, .. } if !p.program.tasks[task].handler))
            .filter(|n| !p.program.stands_by(*n))
            .count();
        emit.send(Event::Started(Started {
            run: run_id.clone(),
            playbook: self.playbook.display().to_string(),
            hosts: p.program.hosts.iter().map(|h| h.name.clone()).collect(),
            steps,
            check_mode,
            command: again.clone(),
        }));
        log_note.into_iter().for_each(|m| emit.send(Event::Note { host: None, message: m }));
        for (host, handler) in due.all() {
            if !p.program.tasks.iter().any(|t| t.handler && p.program.handler_key(t) == handler) {
                let _ = due.set(&host, &handler, false);
                let message = format!("was due from a run before and is no longer in the playbook: handler {handler}");
                emit.send(Event::Note { host: Some(host), message });
                continue;
            }
            emit.send(Event::Note { host: Some(host), message: format!("due from a run before: handler {handler}") });
        }
        let share = {
            let (emit, diff) = (emit.clone(), self.diff || self.step || (plan && common.verbose > 0));
            let asker = Arc::new(run::Asker::new(Arc::new(project::Asks), self.step));
            let leave = Arc::new(tokio::sync::watch::Sender::new(false));
            let (stop, due, connector) =
                (Arc::default(), Arc::new(due), Arc::new(Connector::new(Arc::new(project::Asks))));
            // A place in a budget that is lost in one stage is so in those behind it.
            let holds: Arc<run::holds::Holds> = Arc::default();
            move |p: Project| {
                Arc::new(Shared {
                    fatal: p.program.playbook.phases.iter().map(|_| AtomicBool::new(false)).collect(),
                    program: p.program,
                    holds: holds.clone(),
                    stood_down: Default::default(),
                    asker: asker.clone(),
                    settings: p.settings,
                    delegates: p.delegates,
                    options: link_options.clone(),
                    ssh_config: ssh_config.clone(),
                    connector: connector.clone(),
                    emit: emit.clone(),
                    due: due.clone(),
                    diff,
                    wants_facts: p.checked.wants_facts,
                    stop: Arc::clone(&stop),
                    leave: Arc::clone(&leave),
                    again: again.clone(),
                })
            }
        };
        let shared = share(project);
        let (forks, fail_fast) = (self.hosts.forks.max(1), self.fail_fast);
        let recap = runtime.block_on(async {
            let mut s = shared.clone();
            let work = tokio::spawn(async move {
                let mut carried = Carried::default();
                loop {
                    let (recap, next) = run::run(s.clone(), run_id.clone(), forks, fail_fast, carried).await;
                    carried = next;
                    let mut found = Diagnostics::default();
                    let stopped = s.stop.load(Ordering::Relaxed);
                    match stages.next(&carried.learned, &mut found).filter(|_| !stopped && !found.has_errors()) {
                        Some(p) => s = share(p),
                        None => {
                            s.emit.send(Event::Ended(recap.clone()));
                            return (recap, found);
                        }
                    }
                }
            });
            let mut stops = Stops::listen();
            let mut interrupts = 0;
            let mut leave_by: Option<tokio::time::Instant> = None;
            let mut ended = false;
            while !ended {
                tokio::select! {
                    e = events.recv() => match e {
                        Some(e) => {
                            ended = matches!(e, Event::Ended(_));
                            readers.iter_mut().for_each(|r| r.event(&e));
                        }
                        None => ended = true,
                    },
                    () = stops.asked() => {
                        interrupts += 1;
                        let message = match interrupts {
                            1 => {
                                shared.stop.store(true, Ordering::Relaxed);
                                "stopping: what has begun is finished first; Ctrl-C again ends it"
                            }
                            2 => {
                                shared.leave.send_replace(true);
                                leave_by = Some(tokio::time::Instant::now() + WIND_UP);
                                "leaving: what is at work on the hosts is ended; Ctrl-C again to wait for nothing"
                            }
                            _ => return None,
                        };
                        shared.emit.send(Event::Note { host: None, message: message.into() });
                    }
                    () = async { tokio::time::sleep_until(leave_by.unwrap_or_else(tokio::time::Instant::now)).await }, if leave_by.is_some() => {
                        return None;
                    }
                    // The work ending without its last event means it panicked.
                    _ = async { while !work.is_finished() { tokio::time::sleep(std::time::Duration::from_millis(200)).await } } => {
                        while let Ok(e) = events.try_recv() {
                            readers.iter_mut().for_each(|r| r.event(&e));
                        }
                        ended = true;
                    }
                }
            }
            work.await.ok()
        });
        runtime.shutdown_timeout(std::time::Duration::from_millis(100));
        match recap {
            Some((recap, found)) => {
                shared.due.tidy();
                if found.has_errors() {
                    eprint!("{}", project::without_secrets(&found, &redactor));
                    eprintln!("the phases behind what the run has made were not begun");
                    return Ok(Err(Exit::Input));
                }
                Ok(Ok(recap))
            }
            None if shared.stop.load(Ordering::Relaxed) => Ok(Err(Exit::Interrupted)),
            None => Err(Error::internal("the run ended without a result")
                .hint("this is a defect of Windlass; the log has what was done")),
        }
    }
}

/// How long hosts may take to end what is at work on them.
const WIND_UP: std::time::Duration = std::time::Duration::from_secs(15);

/// What asks a run to stop: Ctrl-C, or the system.
struct Stops(Vec<tokio::signal::unix::Signal>);

impl Stops {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Stops([SignalKind::interrupt(), SignalKind::terminate()].into_iter().filter_map(|k| signal(k).ok()).collect())
    }
    async fn asked(&mut self) {
        std::future::poll_fn(|cx| match self.0.iter_mut().any(|s| s.poll_recv(cx).is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
    }
}

/// The command as it was given, and without what narrows it to hosts.
fn again() -> Again {
    let given: Vec<String> = std::iter::once("windlass".to_string()).chain(std::env::args().skip(1)).collect();
    Again { bare: shell_join(without_limit(&given)), given: shell_join(given), ..Default::default() }
}

/// A command line without `--limit`, however that is written.
fn without_limit(given: &[String]) -> Vec<String> {
    let command = <super::Cli as clap::CommandFactory>::command();
    let args = |c: &clap::Command| c.get_arguments().cloned().collect::<Vec<_>>();
    let all: Vec<clap::Arg> =
        args(&command).into_iter().chain(command.find_subcommand("apply").map(args).unwrap_or_default()).collect();
    let has_value = |c: char| all.iter().any(|a| a.get_short() == Some(c) && a.get_action().takes_values());
    let mut bare = vec![];
    let mut words = given.iter();
    while let Some(w) = words.next() {
        if w == "--limit" {
            words.next();
            continue;
        }
        if w.starts_with("--limit=") {
            continue;
        }
        // `-l hosts`, `-lhosts` and `-Dl hosts`; in `-ulisa` it is part of a value.
        let flags = w.strip_prefix('-').filter(|f| !f.starts_with('-')).unwrap_or_default();
        match flags.char_indices().find(|(_, c)| *c == 'l' || has_value(*c)) {
            Some((at, 'l')) => {
                if at + 1 == flags.len() {
                    words.next();
                }
                if at > 0 {
                    bare.push(format!("-{}", &flags[..at]));
                }
            }
            // Its value is the next word, whatever that looks like.
            Some((at, c)) if at + c.len_utf8() == flags.len() => {
                bare.push(w.clone());
                bare.extend(words.next().cloned());
            }
            _ => bare.push(w.clone()),
        }
    }
    bare
}

/// A name for a run that sorts by time; the runs of one process differ too.
fn run_id() -> String {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let now = chrono::Utc::now().format("%Y%m%d-%H%M%S");
    let process = std::process::id() & 0xffff;
    match RUNS.fetch_add(1, Ordering::Relaxed) {
        0 => format!("{now}-{process:04x}"),
        n => format!("{now}-{process:04x}-{n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_taken_out_however_it_is_written() {
        let bare = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_string).collect();
            without_limit(&words).join(" ")
        };
        for limit in ["-l a,b", "-la,b", "-l=a,b", "--limit a,b", "--limit=a,b"] {
            assert_eq!(bare(&format!("windlass apply s.yml {limit} -D")), "windlass apply s.yml -D", "{limit}");
        }
        assert_eq!(bare("windlass apply -DCla,b s.yml"), "windlass apply -DC s.yml");
        assert_eq!(bare("windlass apply -Dl a,b s.yml"), "windlass apply -D s.yml");
        for other in ["-ulisa", "-u -l", "-e x=l", "-ilab", "--list", "-bvvv"] {
            let line = format!("windlass apply {other} s.yml");
            assert_eq!(bare(&line), line);
        }
    }
}
