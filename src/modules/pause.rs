//! `pause`: lets time pass.

use super::args::{Bool, Text};
use super::whole::Whole;
use super::{ArgError, Ctx, Decision, Local, Module, Question, Report, Stop, Wait};
use crate::probe::Observed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use std::time::Duration;

/// Waits for some time, or for somebody's answer. A plan does neither.
///
/// Without `seconds` and `minutes` the person at the terminal is asked, once for all hosts. Where there is no terminal, `answer`
/// answers; without it the task fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// How long, in seconds.
    seconds: Option<Whole>,
    /// How long, in minutes.
    minutes: Option<Whole>,
    /// What is shown or asked.
    prompt: Option<Text>,
    /// Show what is typed.
    #[serde(default = "yes")]
    echo: Bool,
    /// If it is not empty, it is taken for the answer and nobody is asked: `"{{default go_on ''}}"` with `-e go_on=yes`.
    answer: Option<Text>,
}

fn yes() -> Bool {
    Bool(true)
}

impl Module for Pause {
    const NAME: &'static str = "pause";
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("delta", "Seconds it took."), ("user_input", "What was typed."), ("stdout", "The same in words.")];
    const EXAMPLE: &'static str = r#"- pause: {seconds: 10}
- pause:
    prompt: "Type the cluster's name to go on"
    answer: "{{default confirm ''}}"
  register: typed"#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        match (&self.seconds, &self.minutes, &self.answer) {
            (Some(_), Some(_), _) => Err(ArgError::new("minutes", "`seconds` and `minutes` exclude each other")),
            (None, None, _) | (_, _, None) => Ok(()),
            _ => Err(ArgError::new("answer", "with a time nobody is asked").hint("take `answer` or the time out")),
        }
    }

    fn decide(&self, _: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        if self.seconds.is_none() && self.minutes.is_none() {
            let given = self.answer.as_ref().map(|a| a.0.clone()).filter(|a| !a.is_empty());
            let Some(answer) = given.or_else(|| ctx.answer.clone()) else {
                let text = self.prompt.as_ref().map_or("press Enter to go on".into(), |p| p.0.clone());
                return Ok(Decision::Ask(Question { text, hidden: !self.echo.0 }));
            };
            let result = json!({"delta": 0, "stdout": "Paused until it was answered", "user_input": answer, "echo": self.echo.0});
            return Ok(Decision::satisfied(result.as_object().cloned().unwrap_or_default()));
        }
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
    fn an_answer_is_waited_for() {
        let m: Pause = bind("{prompt: go on?, echo: false}");
        let Ok(Decision::Ask(q)) = m.decide(&seen([]), &ctx()) else { panic!() };
        assert_eq!(q, Question { text: "go on?".into(), hidden: true });
        let typed = Ctx { answer: Some("yes".into()), ..ctx() };
        assert_eq!(satisfied(m.decide(&seen([]), &typed)).result["user_input"], "yes");
        // Enter is an answer, an empty parameter is none.
        assert_eq!(
            satisfied(m.decide(&seen([]), &Ctx { answer: Some(String::new()), ..ctx() })).result["user_input"],
            ""
        );
        assert!(matches!(bind::<Pause>("{answer: ''}").decide(&seen([]), &ctx()), Ok(Decision::Ask(_))));
        assert_eq!(satisfied(bind::<Pause>("{answer: 'no'}").decide(&seen([]), &typed)).result["user_input"], "no");
    }

    #[test]
    fn a_time_or_an_answer() {
        assert!(try_bind::<Pause>("{seconds: 1, minutes: 1}").is_err());
        assert_eq!(try_bind::<Pause>("{seconds: 1, answer: x}").unwrap_err().param, ["answer"]);
    }
}
