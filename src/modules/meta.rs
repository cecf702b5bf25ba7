//! `meta`: steers the run itself.

use super::{Ctx, Decision, Module, Refresh, Report, Stop};
use crate::probe::Observed;
use schemars::JsonSchema;
use serde::Deserialize;

/// Steers the run: runs handlers now, ends a phase early, looks at a host anew.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// What is to be done.
    free_form: Kind,
}

/// What `meta` can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Runs the handlers that are due. It takes no other keys.
    FlushHandlers,
    /// Nothing.
    Noop,
    /// The host has done its part of this phase, handlers and all; it has not failed.
    EndHost,
    /// The same for all hosts of this batch (`serial`). The first host's condition decides.
    EndBatch,
    /// The same for all hosts of the phase.
    EndPlay,
    /// Facts are asked for anew when they are needed next.
    ClearFacts,
    /// The host is logged in to anew, as new group memberships want it.
    ResetConnection,
}

impl Module for Meta {
    const NAME: &'static str = "meta";
    const EXAMPLE: &'static str = r#"- meta: flush_handlers
- meta: end_host
  when: eq facts.os.id "alpine""#;
    const FREE_FORM: Option<&'static str> = Some("free_form");
    const HARMLESS: bool = true;

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let refresh = match self.free_form {
            Kind::ClearFacts => Some(Refresh::Facts),
            Kind::ResetConnection => Some(Refresh::Connection),
            _ => None,
        };
        Ok(Decision::Satisfied(Report { refresh, ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    #[test]
    fn what_is_looked_at_anew() {
        for (kind, refresh) in
            [("clear_facts", Some(Refresh::Facts)), ("reset_connection", Some(Refresh::Connection)), ("end_host", None)]
        {
            let m: Meta = bind(&format!("{{free_form: {kind}}}"));
            assert_eq!(satisfied(m.decide(&seen([]), &ctx())).refresh, refresh);
        }
    }
}
