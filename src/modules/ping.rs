//! `ping`: whether a host can be worked on. It changes nothing.

use super::args::Text;
use super::{Ctx, Decision, Module, Stop};
use crate::probe::{Observed, Probe};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Logs in, becomes the user it is to become, and runs something there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// What is given back.
    #[serde(default = "pong")]
    data: Text,
}

fn pong() -> Text {
    Text("pong".into())
}

impl Module for Ping {
    const NAME: &'static str = "ping";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("ping", "`data`.")];
    const EXAMPLE: &'static str = "- ping: {}";
    const HARMLESS: bool = true;
    const ANEW: bool = true;

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script("echo".into())]
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script("echo")?;
        if out.rc != 0 {
            return Err(Stop::fail(format!("the host runs nothing: exit code {}, {}", out.rc, out.stderr.trim())));
        }
        Ok(Decision::satisfied(Map::from_iter([("ping".into(), json!(self.data.0))])))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Answer, Output};

    #[test]
    fn an_answer() {
        let m: Ping = bind("{}");
        assert_eq!(m.probes(&ctx()).len(), 1);
        let answer = |rc| seen([(Probe::Script("echo".into()), Answer::Script(Output { rc, ..Default::default() }))]);
        assert_eq!(satisfied(m.decide(&answer(0), &ctx())).result["ping"], "pong");
        assert!(matches!(m.decide(&answer(126), &ctx()), Err(Stop::Fail(_))));
        assert!(matches!(m.decide(&seen([]), &ctx()), Err(Stop::Need(_))));
    }
}
