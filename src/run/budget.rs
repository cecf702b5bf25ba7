//! Taking and giving back what a change holds: locks, throttles, and budgets with the probes at their two ends.

use super::event::{Event, FailureReport, Outcome, PartEnded, StepEnded};
use super::executor::{At, Done, GivenUp, Worker, conceal};
use super::holds::{BUDGET, Refused};
use crate::graph::{self, BudgetUse, Place, Refusal, Scoped};
use crate::playbook::{Size, Text};
use crate::probe::Probe;
use crate::quote::shell_quote;
use serde_json::{Map, Value};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Of one look at a budget's probe: below the time after which a host is taken for lost.
const LONGEST_LOOK: Duration = Duration::from_secs(500);

/// Something held, and where it was taken.
pub struct Held {
    key: String,
    /// For a budget: its index in the program.
    budget: Option<usize>,
    /// Where the work is done, and the user there.
    site: At,
    user: Option<String>,
}

pub enum Taken {
    AtHand,
    /// Time has passed since the host was looked at.
    Waited,
    Refused(Box<FailureReport>),
}

impl Worker {
    /// Takes what a task and the blocks around it want held while they change something.
    pub async fn take_holds(&mut self, task: usize, user: &Option<String>) -> Result<Taken, GivenUp> {
        let shared = self.shared.clone();
        let p = &shared.program;
        let used = &p.tasks[task];
        let mut waited = false;
        let stops: &[&AtomicBool] = match used.tidies_up() {
            true => &[&*shared.stop],
            false => &[&*shared.stop, &shared.fatal[used.phase]],
        };
        // A loop that goes from host to host has one of them away at a time.
        let at = self.site.at.clone();
        let own = Scoped::Task(task);
        if self.held.get(&own).is_some_and(|h| h.iter().any(|h| h.budget.is_some() && h.site.host != at.host)) {
            let failure = self.give_back(own).await?;
            self.go_to(&at);
            if let Some(f) = failure {
                return Ok(Taken::Refused(Box::new(f)));
            }
        }
        // The blocks around what is looked at.
        let mut outer: Vec<Scoped> = vec![];
        for (scope, hold) in used.holds(task) {
            outer.push(scope);
            let mut wanted: Vec<(String, usize, Option<usize>)> =
                hold.locks.iter().map(|l| (format!("lock {l}"), 1, None)).collect();
            if let Some(said) = &hold.throttle {
                let place = self.place(task);
                match graph::number(said, "throttle", &place.scope(Map::new())) {
                    Ok(0) => {}
                    Ok(n) => wanted.push((format!("throttle of {scope:?}"), n as usize, None)),
                    Err(r) => return Ok(Taken::Refused(Box::new(unrendered(r)))),
                }
            }
            for (name, _) in &hold.budgets {
                let Some(index) = p.budgets.iter().position(|b| b.place.phase == used.phase && b.budget.name == *name)
                else {
                    continue;
                };
                match self.size_of(&p.budgets[index]) {
                    Ok(size) => wanted.push((format!("{BUDGET}{name}"), size, Some(index))),
                    Err(f) => return Ok(Taken::Refused(f)),
                }
            }
            for (key, size, budget) in wanted {
                // What a block around it has already is not asked for again: the host may be away by now.
                if outer.iter().filter_map(|s| self.held.get(s)).flatten().any(|h| h.key == key) {
                    continue;
                }
                match shared.holds.take(&key, size, self.host, stops).await {
                    Ok(w) => waited |= w,
                    Err(e) => return Ok(Taken::Refused(Box::new(refused(&key, e)))),
                }
                if let Some(b) = budget {
                    waited = true;
                    let budget = &p.budgets[b];
                    if let Some(script) = &budget.budget.before
                        && let Some(mut f) = self.gate(budget, script, user).await?
                    {
                        shared.holds.give_back(&key, self.host);
                        f.message = format!("{key}: this host cannot go away now: {}", f.message);
                        return Ok(Taken::Refused(Box::new(f)));
                    }
                }
                let site = self.site.at.clone();
                self.held.entry(scope).or_default().push(Held { key, budget, site, user: user.clone() });
            }
        }
        Ok(if waited { Taken::Waited } else { Taken::AtHand })
    }

    /// Gives back what was held here; a budget only once its probe says that all is well again. What is wrong, if not.
    pub async fn give_back(&mut self, scope: Scoped) -> Result<Option<FailureReport>, GivenUp> {
        let shared = self.shared.clone();
        let mut failure = None;
        let mut held = self.held.remove(&scope).unwrap_or_default();
        while let Some(h) = held.pop() {
            let budget = h.budget.map(|b| &shared.program.budgets[b]);
            if let Some(budget) = budget
                && let Some(script) = &budget.budget.after
            {
                self.go_to(&h.site);
                match self.gate(budget, script, &h.user).await {
                    Ok(None) => {}
                    Ok(Some(mut f)) => {
                        f.message = format!("{}: this host is not back: {}", h.key, f.message);
                        shared.holds.lose(&h.key, self.host, self.name(), "is not back");
                        failure = Some(f);
                        continue;
                    }
                    Err(e) => {
                        shared.holds.lose(&h.key, self.host, self.name(), "is out of reach");
                        // The rest is given back where the host is given up.
                        self.held.insert(scope, held);
                        return Err(e);
                    }
                }
            }
            shared.holds.give_back(&h.key, self.host);
        }
        Ok(failure)
    }

    /// The host is given up: its places in budgets are not given on, its locks are.
    pub fn abandon(&mut self) {
        let shared = self.shared.clone();
        for h in std::mem::take(&mut self.held).into_values().flatten() {
            match h.budget {
                Some(_) => shared.holds.lose(&h.key, self.host, self.name(), "is out of reach"),
                None => shared.holds.give_back(&h.key, self.host),
            }
        }
    }

    /// The end of a block that holds something.
    pub async fn release(&mut self, block: usize) -> Result<Done, GivenUp> {
        let scope = Scoped::Block(block);
        let Some(held) = self.held.get(&scope) else { return Ok(Done::of(Outcome::Silent)) };
        let budgets: Vec<&str> = held.iter().filter(|h| h.budget.is_some()).map(|h| h.key.as_str()).collect();
        let title = budgets.join(", ");
        let begun = Instant::now();
        let failure = self.give_back(scope).await?;
        if title.is_empty() {
            return Ok(Done::of(Outcome::Silent));
        }
        let p = &self.shared.program;
        let used = &p.blocks[block];
        let inside = p.tasks.iter().position(|t| t.within.iter().any(|w| w.id == block));
        let hides = |t: usize| graph::hides(used.no_log(), &self.place(t).scope(Map::new())).ok();
        let hidden = inside.and_then(hides).unwrap_or(true);
        let outcome = if failure.is_some() { Outcome::Failed } else { Outcome::Satisfied };
        let mut ended = StepEnded {
            host: self.name().to_string(),
            phase: p.playbook.phases[used.phase].name.clone(),
            task: format!("{}: {title} given back", used.title()),
            place: used.block.span.line(),
            module: "budget",
            handler: false,
            outcome,
            why: None,
            took: begun.elapsed(),
            parts: vec![PartEnded { outcome: Some(outcome), failure, ..Default::default() }],
        };
        if hidden {
            conceal(&mut ended);
        }
        self.shared.emit.send(Event::StepEnded(Box::new(ended)));
        Ok(Done::of(outcome))
    }

    /// How many places a budget has.
    fn size_of(&self, budget: &BudgetUse) -> Result<usize, Box<FailureReport>> {
        let p = &self.shared.program;
        let scope = self.place_of(budget).scope(Map::new());
        let members = match graph::render_node(&budget.budget.hosts, &scope) {
            Ok(Value::Array(a)) => a.len(),
            Ok(v) => {
                let pattern = crate::template::text(&v);
                crate::inventory::select(&p.inventory, &pattern).map(|h| h.len()).map_err(|e| {
                    let message = format!("the budget `{}`: {e}", budget.budget.name);
                    Box::new(FailureReport { message, hint: e.hint, ..Default::default() })
                })?
            }
            Err(r) => return Err(Box::new(unrendered(r))),
        };
        let Some(node) = &budget.budget.size else { return Ok(Size::Count(1).of(members)) };
        let size = graph::render_node(node, &scope).map_err(|r| Box::new(unrendered(r)))?;
        Size::read(&size).map(|s| s.of(members)).ok_or_else(|| {
            let message =
                format!("the budget `{}`: {}, not `{}`", budget.budget.name, Size::NONE, crate::template::text(&size));
            Box::new(FailureReport { message, ..Default::default() })
        })
    }

    fn place_of<'a>(&'a self, budget: &'a BudgetUse) -> Place<'a> {
        Place {
            program: &self.shared.program,
            host: self.host,
            task: &budget.place,
            dynamic: &self.dynamic,
            pending: &self.later,
        }
    }

    /// Runs a script until its exit code is 0. `Some`: it never was.
    async fn gate(
        &mut self,
        budget: &BudgetUse,
        script: &Text,
        user: &Option<String>,
    ) -> Result<Option<FailureReport>, GivenUp> {
        let b = &budget.budget;
        let text = match self.script_of(budget, script) {
            Ok(t) => t,
            Err(r) => return Ok(Some(unrendered(r))),
        };
        let begun = Instant::now();
        let limit = Duration::from_secs(b.timeout);
        loop {
            // One look that hangs must not outlast them all, nor be taken for a host that does not answer.
            let left = limit.saturating_sub(begun.elapsed()).min(LONGEST_LOOK).as_secs().max(1);
            let probe = Probe::Script(within(left, &text));
            let output = self.ask_now(user, &probe).await?;
            if output.rc == 0 {
                return Ok(None);
            }
            let every = Duration::from_secs(b.every);
            let stopped = self.shared.stop.load(std::sync::atomic::Ordering::Relaxed);
            if begun.elapsed() + every > limit || stopped {
                let scope = self.place_of(budget).scope(Map::new());
                let scripts = b.evidence.as_ref().and_then(|n| graph::render_node(n, &scope).ok());
                let mut f = FailureReport {
                    message: match stopped {
                        true => format!("the run was stopped after {} s", begun.elapsed().as_secs()),
                        false => format!("not within {} s: `{}`", b.timeout, one_line(&script.text)),
                    },
                    rc: Some(output.rc),
                    stdout: output.stdout,
                    stderr: output.stderr,
                    ..Default::default()
                };
                self.gather_evidence(user, scripts, &mut f).await?;
                let scope = self.place_of(budget).scope(Map::new());
                super::explain::diagnose(b.diagnosis.iter(), &scope, &mut f);
                return Ok(Some(f));
            }
            self.shared.clone().sleep(every).await;
        }
    }

    /// The script with its templates rendered and its environment before it.
    fn script_of(&self, budget: &BudgetUse, script: &Text) -> Result<String, Refusal> {
        let scope = self.place_of(budget).scope(Map::new());
        let mut text = String::new();
        if let Some(node) = &budget.budget.environment
            && let Value::Object(o) = graph::render_node(node, &scope)?
        {
            for (k, v) in o.iter().filter(|(k, _)| crate::vars::is_name(k)) {
                text.push_str(&format!("export {k}={}\n", shell_quote(&crate::template::text(v))));
            }
        }
        text.push_str(&crate::template::text(&graph::render_text(script, &scope)?));
        Ok(text)
    }
}

/// A script that ends after so many seconds, whatever it does. It is read from a descriptor: in an argument, every user
/// of the host could read it.
fn within(seconds: u64, script: &str) -> String {
    let mark = crate::host::nonce();
    format!("timeout -k 5 {seconds} sh /dev/fd/3 3<<'{mark}'\n{script}\n{mark}")
}

fn one_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

fn refused(key: &str, why: Refused) -> FailureReport {
    let (message, hint) = match why {
        Refused::Lost(why) => {
            (format!("{key} is used up: {why}"), "look at that host first; nothing was done on this one")
        }
        Refused::Circle => (
            format!("{key}: who has it waits for something this host has"),
            "take several locks in the same order everywhere, or all of them in one block",
        ),
        Refused::Stopped => {
            (format!("{key}: the run, or its phase, was ended while this host waited for it"), "run again to go on")
        }
    };
    FailureReport { message, hint: Some(hint.into()), ..Default::default() }
}

fn unrendered(r: Refusal) -> FailureReport {
    match r {
        Refusal::Unknown { why, .. } => FailureReport { message: why, ..Default::default() },
        Refusal::Wrong(found) => super::explain::wrong(found),
    }
}
