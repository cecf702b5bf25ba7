//! Why a step failed: evidence gathered on the host, and the known causes it points to.

use super::event::FailureReport;
use super::executor::{Did, GivenUp, Worker};
use crate::graph::{self, Part, Scope};
use crate::playbook::Diagnosis;
use crate::probe::Probe;
use crate::source::{Diagnostic, Diagnostics};
use serde_json::Value;

impl Worker {
    /// Adds to a failure what its task says explains it.
    pub(super) async fn explain(&mut self, task: usize, part: &Part, did: &mut Did) -> Result<(), GivenUp> {
        let shared = self.shared.clone();
        let used = &shared.program.tasks[task];
        let scripts = match used.evidence() {
            Some(n) => graph::render_node(n, &self.place(task).scope(part.locals.clone())).ok(),
            None => None,
        };
        if scripts.is_none() && used.diagnosis().next().is_none() {
            return Ok(());
        }
        let mut failure = did.failure.take().unwrap_or_default();
        let user = match part.item.as_ref().ok().and_then(|i| i.become_user.as_deref()) {
            None => None,
            user => self.user_key(user).await?,
        };
        self.gather_evidence(&user, scripts, &mut failure).await?;
        let mut locals = part.locals.clone();
        locals.insert("result".into(), did.result.clone());
        diagnose(used.diagnosis(), &self.place(task).scope(locals), &mut failure);
        did.failure = Some(failure);
        Ok(())
    }

    /// Runs scripts, a mapping by title, and keeps what they say.
    pub(super) async fn gather_evidence(
        &mut self,
        user: &Option<String>,
        scripts: Option<Value>,
        failure: &mut FailureReport,
    ) -> Result<(), GivenUp> {
        let Some(Value::Object(scripts)) = scripts else { return Ok(()) };
        for (title, script) in scripts {
            // Evidence that cannot be had is no second failure.
            let Ok(o) = self.ask_now(user, &Probe::Script(crate::template::text(&script))).await else { return Ok(()) };
            let text = if o.stdout.trim().is_empty() { o.stderr.trim() } else { o.stdout.trim() };
            if !text.is_empty() {
                failure.evidence.push((title, text.to_string()));
            }
        }
        Ok(())
    }
}

/// Puts the first known cause that the evidence (or the failure's own words) points to into the failure's hint.
pub(super) fn diagnose<'a>(known: impl Iterator<Item = &'a Diagnosis>, scope: &Scope<'_>, failure: &mut FailureReport) {
    let said: Vec<(&str, &str)> = failure
        .evidence
        .iter()
        .map(|(t, e)| (t.as_str(), e.as_str()))
        .chain([("stderr", &*failure.stderr), ("stdout", &*failure.stdout), ("message", &*failure.message)])
        .collect();
    let mut causes: Vec<String> = vec![];
    for d in known {
        let within = |title: &str| d.within.as_ref().is_none_or(|w| w == title);
        if said.iter().any(|(t, e)| within(t) && d.pattern.is_match(e).unwrap_or(false)) {
            let say =
                graph::render_text(&d.say, scope).map_or_else(|_| d.say.text.clone(), |v| crate::template::text(&v));
            causes.push(say);
        }
    }
    if !causes.is_empty() {
        failure.hint = Some(causes.join("\n"));
    }
}

/// Mistakes found only now, as a failure.
pub(super) fn wrong(found: Vec<Diagnostic>) -> FailureReport {
    let message = found.first().map(|d| d.message.clone()).unwrap_or_default();
    let mut all = Diagnostics::default();
    found.into_iter().for_each(|d| all.push(d));
    FailureReport { message, source: Some(all.render(false).trim_end().to_string()), ..Default::default() }
}
