//! `pause`: lets time pass.

use super::args::{Bool, Text};
use super::whole::Whole;
use super::{ArgError, Ctx, Decision, Local, Module, Report, Stop, Wait};
use crate::probe::Observed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use std::time::Duration;

/// Waits for some time. A plan does not.
///
/// Registers `delta` (seconds), `stdout` and `user_input` (empty).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// How long, in seconds.
    seconds: Option<Whole>,
    /// How long, in minutes.
    minutes: Option<Whole>,
    /// What is shown. Without a time it asks a question, and a run waits for nobody: `vars_prompt` on the phase asks.
    prompt: Option<Text>,
    /// Show what is typed; it has no effect.
    #[serde(default = "yes")]
    echo: Bool,
}

fn yes() -> Bool {
    Bool(true)
}

impl Module for Pause {
    const NAME: &'static str = "pause";
    const EXAMPLE: &'static str = r#"- pause: {seconds: 10}"#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        match (&self.seconds, &self.minutes) {
            (Some(_), Some(_)) => Err(ArgError::new("minutes", "`seconds` and `minutes` exclude each other")),
            (None, None) => Err(ArgError::new(
                "prompt",
                "`pause` without a time waits for somebody to answer, and a run waits for nobody",
            )
            .hint(
                "ask with `vars_prompt` on the phase: `-e name=value` answers it without a terminal; or give `seconds`",
            )),
            _ => Ok(()),
        }
    }

    fn decide(&self, _: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let seconds = match (&self.seconds, &self.minutes) {
            (Some(s), _) => s.0,
            (None, Some(m)) => m.0.saturating_mul(60),
            (None, None) => 0,
        };
        let long = Duration::from_secs(seconds);
        if ctx.waited < long {
            return Ok(Decision::Wait(Wait {
                delay: long,
                every: Duration::from_secs(1),
                limit: long.saturating_add(Duration::from_secs(60)),
                message: format!("{seconds} s"),
                evidence: vec![],
            }));
        }
        let mut result = Map::new();
        result.insert("delta".into(), json!(ctx.waited.as_secs()));
        result.insert("stdout".into(), json!(format!("Paused for {seconds} seconds")));
        result.insert("user_input".into(), json!(""));
        result.insert("echo".into(), json!(self.echo.0));
        Ok(Decision::Satisfied(Report { result, say: self.prompt.as_ref().map(|p| p.0.clone()), ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    #[test]
    fn time_passes() {
        let m: Pause = bind("{minutes: 1, prompt: a moment}");
        let Ok(Decision::Wait(w)) = m.decide(&seen([]), &ctx()) else { panic!() };
        assert_eq!(w.delay, Duration::from_secs(60));
        let r = satisfied(m.decide(&seen([]), &Ctx { waited: Duration::from_secs(60), ..ctx() }));
        assert_eq!((&r.result["delta"], r.say.as_deref()), (&json!(60), Some("a moment")));
        satisfied(bind::<Pause>("{seconds: 0}").decide(&seen([]), &ctx()));
    }

    #[test]
    fn nobody_is_asked() {
        let e = try_bind::<Pause>("{prompt: go on?}").unwrap_err();
        assert!(e.hint.unwrap().contains("vars_prompt"));
        assert!(try_bind::<Pause>("{seconds: 1, minutes: 1}").is_err());
    }
}
