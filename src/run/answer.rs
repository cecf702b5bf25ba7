//! Results that a module reads from what its actions printed.

use super::event::Outcome;
use super::executor::Did;
use crate::action::Action;
use crate::modules::{Change, Reader};
use crate::probe::Output;
use serde_json::{Value, json};

impl Did {
    /// A question that a plan does not ask.
    pub(super) fn left_out(c: &Change) -> Did {
        Did { known: false, summary: format!("only an apply does: {}", c.summary), ..Did::new(Outcome::Skipped) }
    }

    /// Of a step that only looks: what it would have changed. A command is not begun, as in Ansible.
    pub(super) fn only_looked(c: Change) -> Did {
        if c.reader.is_some() || c.actions.iter().any(|a| matches!(a, Action::Command(_))) {
            return Did::not_done(&c.summary);
        }
        let outcome = if c.uncounted { Outcome::Satisfied } else { Outcome::Changed };
        Did {
            summary: format!("would change: {}", c.summary),
            diff: c.diff,
            result: Value::Object(c.result),
            ..Did::new(outcome)
        }
    }

    /// Of a step that only looks, and whose module can only act.
    pub(super) fn not_done(summary: &str) -> Did {
        let msg = format!("not done, as the task says `check_mode: true`: {summary}");
        let result = json!({"skipped": true, "msg": msg, "skip_reason": "check_mode: true"});
        Did { result, summary: msg, ..Did::new(Outcome::Skipped) }
    }

    /// What the module makes of the outputs.
    pub(super) fn read(reader: &Reader, outputs: &[Output], c: Change) -> Did {
        match (reader.0)(outputs) {
            Ok(r) => {
                let outcome = if r.changed { Outcome::Changed } else { Outcome::Satisfied };
                let mut result = c.result;
                result.extend(r.result);
                Did {
                    summary: c.summary,
                    diff: c.diff,
                    say: r.say,
                    facts: r.facts,
                    result: Value::Object(result),
                    acted: r.changed,
                    ..Did::new(outcome)
                }
            }
            Err(f) => Did { summary: c.summary, ..Did::refused(f) },
        }
    }
}
