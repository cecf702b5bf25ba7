//! What the person at the terminal is asked while a run goes on: one question at a time, whatever host it comes from.

use super::event::Event;
use super::executor::Shared;
use crate::modules::{Diff, Question};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Reads answers.
pub trait Person: Send + Sync {
    /// A line, without its end; `None` where nobody is there. `hidden`: what is typed is not shown.
    fn line(&self, hidden: bool) -> Option<String>;
}

/// Asks, one question at a time.
pub struct Asker {
    person: Arc<dyn Person>,
    /// Nothing is changed that was not asked for (`--step`), until somebody says to go on.
    every_step: bool,
    gone_on: tokio::sync::Mutex<bool>,
}

/// Tries to say something that is understood.
const TRIES: usize = 5;
const CHOICES: &str = "do it? [y]es, [N]o, [c]ontinue without asking, [q]uit";

impl Asker {
    pub fn new(person: Arc<dyn Person>, every_step: bool) -> Self {
        Asker { person, every_step, gone_on: tokio::sync::Mutex::new(false) }
    }

    /// The answer to a question; `None`: there is nobody, or the run is stopped.
    pub async fn ask(&self, shared: &Shared, host: &str, question: &Question) -> Option<String> {
        let _turn = self.gone_on.lock().await;
        self.question(shared, host, &question.text, vec![], question.hidden).await
    }

    /// Whether a change is to be made: yes, unless every step is asked for.
    pub async fn wants(&self, shared: &Shared, host: &str, change: &str, diff: &[Diff]) -> bool {
        if !self.every_step {
            return true;
        }
        let mut gone_on = self.gone_on.lock().await;
        for attempt in 0..TRIES {
            if *gone_on {
                return true;
            }
            let diff = if attempt == 0 { diff.to_vec() } else { vec![] };
            let answer = self.question(shared, host, &format!("{change}: {CHOICES}"), diff, false).await;
            match answer.map(|a| a.trim().to_ascii_lowercase()).as_deref() {
                Some("y" | "yes") => return true,
                Some("" | "n" | "no") => return false,
                Some("c" | "continue") => *gone_on = true,
                Some("q" | "quit") | None => break,
                Some(_) => {}
            }
        }
        shared.stop.store(true, Ordering::Relaxed);
        false
    }

    async fn question(&self, shared: &Shared, host: &str, text: &str, diff: Vec<Diff>, hidden: bool) -> Option<String> {
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        shared.emit.send(Event::Asked { host: host.to_string(), text: text.to_string(), diff });
        let person = self.person.clone();
        let mut answer = tokio::task::spawn_blocking(move || person.line(hidden));
        let line = loop {
            tokio::select! {
                line = &mut answer => break line.ok().flatten(),
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    if shared.stop.load(Ordering::Relaxed) {
                        break None;
                    }
                }
            }
        };
        shared.emit.send(Event::Answered { host: host.to_string() });
        line
    }
}

#[cfg(test)]
pub(super) mod kit {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// Gives these answers, one after the other.
    pub struct Script(pub Mutex<VecDeque<&'static str>>);

    impl Person for Script {
        fn line(&self, _: bool) -> Option<String> {
            self.0.lock().unwrap().pop_front().map(str::to_string)
        }
    }

    pub fn asker(answers: &[&'static str], every_step: bool) -> Arc<Asker> {
        Arc::new(Asker::new(Arc::new(Script(Mutex::new(answers.iter().copied().collect()))), every_step))
    }
}
