//! What is taken in, in which turns: found out before the run where it can be.

use super::{Dynamic, Place, Prepared, Program, Refusal, TaskUse, Turn, prepare};
use crate::modules::{Ctx, Decision, Stop};
use crate::probe::Observed;
use crate::source::Diagnostic;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// The turn that a looking step's answer stands for.
pub fn turn(answer: &Map<String, Value>, variables: &Map<String, Value>) -> Option<Turn> {
    let name = answer.get("include")?.as_str()?.to_string();
    Some(Turn { name, variables: Arc::new(variables.clone()) })
}

/// The turns on a host, as far as they are known without it. `set` are the names that the run will set.
pub(super) fn known(
    program: &Program,
    host: usize,
    look: &TaskUse,
    set: &HashSet<String>,
) -> Result<Vec<Turn>, Refusal> {
    let dynamic = Dynamic::default();
    let place = Place { program, host, task: look, dynamic: &dynamic, pending: set };
    let Prepared::Parts { parts, .. } = prepare(place)? else { return Ok(vec![]) };
    let mut turns = vec![];
    for part in parts {
        let Ok(item) = part.item else { continue };
        match item.bound.decide(&Observed::default(), &Ctx::default()) {
            Ok(Decision::Satisfied(report)) => turns.extend(turn(&report.result, &part.locals)),
            Err(Stop::Fail(f)) => {
                let d = Diagnostic::error(f.message).at(&look.task.args.span);
                return Err(Refusal::Wrong(vec![match f.hint {
                    Some(h) => d.hint(h),
                    None => d,
                }]));
            }
            _ => {}
        }
    }
    Ok(turns)
}
