//! Events for programs: one JSON object a line, named by its field `event`.

use super::Reader;
use crate::run::Event;
use std::io::Write;

/// Writes every event as it comes. Times are seconds.
pub struct Json {
    out: Box<dyn Write>,
}

impl Json {
    pub fn new(out: Box<dyn Write>) -> Self {
        Json { out }
    }
}

impl Reader for Json {
    fn event(&mut self, event: &Event) {
        // A reader that went away is no reason to stop the run.
        if let Ok(line) = serde_json::to_string(event) {
            let _ = writeln!(self.out, "{line}");
            let _ = self.out.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::modules::Diff;
    use crate::run::event::{Counts, Event, Outcome, PartEnded, Recap, StepEnded};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn shape() {
        let part = PartEnded {
            outcome: Some(Outcome::Changed),
            summary: "mode 0644 -> 0600".into(),
            diff: vec![Diff { what: "/x".into(), before: None, after: Some("a\n".into()) }],
            attempts: 1,
            ..Default::default()
        };
        let step = StepEnded {
            host: "n1".into(),
            phase: "p".into(),
            task: "t".into(),
            place: "site.yml:3".into(),
            module: "file",
            handler: false,
            outcome: Outcome::KnownAfterApply,
            why: None,
            took: Duration::from_millis(1500),
            parts: vec![part],
        };
        assert_eq!(
            serde_json::to_value(Event::StepEnded(Box::new(step))).unwrap(),
            json!({
                "event": "step_ended", "host": "n1", "phase": "p", "task": "t", "place": "site.yml:3", "module": "file",
                "handler": false, "outcome": "known_after_apply", "took": 1.5,
                "parts": [{
                    "outcome": "changed", "summary": "mode 0644 -> 0600",
                    "diff": [{"what": "/x", "before": null, "after": "a\n"}], "attempts": 1,
                }],
            })
        );
        let counts = Counts { changed: 2, ..Default::default() };
        let recap = Recap { run: "r".into(), hosts: vec![("n1".into(), counts)], ..Default::default() };
        let v = serde_json::to_value(Event::Ended(recap)).unwrap();
        assert_eq!((&v["event"], &v["hosts"]["n1"]["changed"], &v["took"]), (&json!("ended"), &json!(2), &json!(0.0)));
    }
}
