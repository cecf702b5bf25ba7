//! `debug`, `assert`, `fail` and `set_fact`: nothing on the host.

use super::args::{Bool, Text};
use super::{ArgError, Ctx, Decision, Failure, Local, Module, Report, Stop};
use crate::probe::Observed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Shows a message or a variable.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Debug {
    /// The message.
    msg: Option<Value>,
    /// An expression whose value is shown.
    var: Option<Value>,
    /// Show it only from this `-v` on.
    #[serde(default)]
    verbosity: super::whole::Whole,
}

impl Module for Debug {
    const NAME: &'static str = "debug";
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("msg", "The message."), ("NAME", "With `var`: the variable's value.")];
    const EXAMPLE: &'static str = r#"- debug: {msg: "{{inventory_hostname}} is in {{join group_names ', '}}"}
- debug: {var: groups}"#;
    const HARMLESS: bool = true;
    const FREE_FORM: Option<&'static str> = Some("msg");
    const EXPRESSIONS: &'static [&'static str] = &["var"];

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let shown = match (&self.msg, &self.var) {
            (Some(v), _) => v.clone(),
            (None, Some(v)) => v.get("value").cloned().unwrap_or(Value::Null),
            (None, None) => json!("Hello world!"),
        };
        let say = match &shown {
            Value::String(s) => s.clone(),
            other => serde_json::to_string_pretty(other).unwrap_or_default(),
        };
        let mut result = Map::new();
        if let (None, Some(name)) = (&self.msg, self.var.as_ref().and_then(|v| v.get("expression")?.as_str())) {
            result.insert(name.into(), shown.clone());
        }
        result.insert("msg".into(), shown);
        Ok(Decision::Satisfied(Report {
            result,
            say: Some(say),
            say_from: u8::try_from(self.verbosity.0).unwrap_or(u8::MAX),
            ..Default::default()
        }))
    }
}

/// Fails unless every condition holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assert {
    /// Expressions that must all be true.
    that: Value,
    /// What to say when one is not.
    fail_msg: Option<Text>,
    /// Another name for `fail_msg`.
    msg: Option<Text>,
    /// What to say when all are true.
    success_msg: Option<Text>,
    /// Say nothing when all are true.
    #[serde(default)]
    quiet: Bool,
}

impl Module for Assert {
    const NAME: &'static str = "assert";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("msg", "What was said."),
        ("assertion", "The condition that does not hold."),
        ("evaluated_to", "What it came to."),
    ];
    const EXAMPLE: &'static str = r#"- name: An odd number of servers
  assert:
    that: [eq (mod (len groups.all) 2) 1]
    fail_msg: a quorum needs an odd number of servers"#;
    const HARMLESS: bool = true;
    const EXPRESSIONS: &'static [&'static str] = &["that"];

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let holds: Vec<&Value> = match &self.that {
            Value::Array(a) => a.iter().collect(),
            one => vec![one],
        };
        for v in holds {
            // Each condition arrives as {"expression": its text, "value": what it came to}.
            let value = v.get("value").unwrap_or(v);
            if crate::template::truthy(value) != Some(true) {
                let text = v.get("expression").and_then(Value::as_str).unwrap_or("an assertion").to_string();
                let message = self
                    .fail_msg
                    .as_ref()
                    .or(self.msg.as_ref())
                    .map_or("an assertion failed".to_string(), |m| m.0.clone());
                let mut result = Map::new();
                result.insert("assertion".into(), json!(text));
                result.insert("evaluated_to".into(), value.clone());
                result.insert("msg".into(), json!(message));
                return Err(Stop::Fail(Failure {
                    message: format!("{message}: `{text}` is not true"),
                    hint: None,
                    result,
                }));
            }
        }
        let say = self.success_msg.as_ref().filter(|_| !self.quiet.0).map(|m| m.0.clone());
        let mut result = Map::new();
        result.insert("msg".into(), json!(say.as_deref().unwrap_or("All assertions passed")));
        Ok(Decision::Satisfied(Report { result, say, ..Default::default() }))
    }
}

/// Fails, with a message; mostly behind a `when`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// The message.
    #[serde(default = "as_requested")]
    msg: Text,
}

fn as_requested() -> Text {
    "Failed as requested from task".into()
}

impl Module for Fail {
    const NAME: &'static str = "fail";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("msg", "The message.")];
    const EXAMPLE: &'static str = r#"- name: Not on this system
  fail: {msg: only Debian is known here}
  when: ne facts.os.family "Debian""#;
    const HARMLESS: bool = true;
    const FREE_FORM: Option<&'static str> = Some("msg");

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let mut result = Map::new();
        result.insert("msg".into(), json!(self.msg.0));
        Err(Stop::Fail(Failure { message: self.msg.0.clone(), hint: None, result }))
    }
}

/// Sets variables for the host, for the rest of the run.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(transparent)]
pub struct SetFact(#[schemars(with = "std::collections::BTreeMap<String, Value>")] Map<String, Value>);

impl Module for SetFact {
    const NAME: &'static str = "set_fact";
    const RETURNS: &'static [(&'static str, &'static str)] = &[("ansible_facts", "The variables.")];
    const EXAMPLE: &'static str = r#"- set_fact:
    first_server: "{{first groups.all}}""#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        self.0.remove("cacheable");
        match self.0.keys().find(|k| !crate::vars::is_name(k)) {
            Some(k) => Err(ArgError::new(k, format!("`{k}` cannot be a variable's name"))),
            None => Ok(()),
        }
    }
    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let mut result = Map::new();
        result.insert("ansible_facts".into(), Value::Object(self.0.clone()));
        Ok(Decision::Satisfied(Report { result, facts: self.0.clone(), ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    #[test]
    fn debug_says() {
        let m: Debug = bind("{msg: hello}");
        assert_eq!(satisfied(m.decide(&seen([]), &ctx())).say.as_deref(), Some("hello"));
        let m: Debug = bind("{msg: hello, verbosity: 2}");
        assert_eq!(satisfied(m.decide(&seen([]), &ctx())).say_from, 2);
        let m: Debug = bind("{var: {expression: groups.all, value: [a]}, verbosity: '1'}");
        let r = satisfied(m.decide(&seen([]), &ctx()));
        assert_eq!((&r.result["groups.all"], r.say_from), (&json!(["a"]), 1));
    }

    #[test]
    fn assert_fails_with_the_expression() {
        let m: Assert =
            bind("{that: [{expression: 'gt a 1', value: true}, {expression: 'eq b 2', value: false}], fail_msg: 'no'}");
        let Err(Stop::Fail(f)) = m.decide(&seen([]), &ctx()) else { panic!() };
        assert_eq!(f.message, "no: `eq b 2` is not true");
        let m: Assert = bind("{that: {expression: x, value: true}}");
        satisfied(m.decide(&seen([]), &ctx()));
    }

    #[test]
    fn fail_fails() {
        let Err(Stop::Fail(f)) = bind::<Fail>("{msg: 'no'}").decide(&seen([]), &ctx()) else { panic!() };
        assert_eq!((f.message.as_str(), &f.result["msg"]), ("no", &json!("no")));
        let Err(Stop::Fail(f)) = bind::<Fail>("{}").decide(&seen([]), &ctx()) else { panic!() };
        assert_eq!(f.message, "Failed as requested from task");
    }

    #[test]
    fn set_fact_sets() {
        let m: SetFact = bind("{a: 1, b: [x]}");
        assert_eq!(satisfied(m.decide(&seen([]), &ctx())).facts["b"], json!(["x"]));
        assert!(try_bind::<SetFact>("{'a-b': 1}").is_err());
    }
}
