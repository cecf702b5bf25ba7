//! Results that a module reads from what its actions printed.

use super::event::Outcome;
use super::executor::Did;
use crate::modules::{Change, Reader};
use crate::probe::Output;
use serde_json::Value;

impl Did {
    /// A question that a plan does not ask.
    pub(super) fn left_out(c: &Change) -> Did {
        Did { known: false, summary: format!("only an apply does: {}", c.summary), ..Did::new(Outcome::Skipped) }
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
