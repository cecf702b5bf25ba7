//! `include_tasks` and `include_role`, where what they take in is known only when the run comes to them.

use super::{Ctx, Decision, Failure, Module, Report, Stop};
use crate::probe::Observed;
use crate::source::nearest;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Takes the tasks of another file in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncludeTasks {
    /// The file, seen from the folder of the file that names it. It may hold templates.
    file: String,
    /// What there is to be taken in.
    #[serde(default)]
    #[schemars(skip)]
    among: Vec<String>,
}

impl Module for IncludeTasks {
    const NAME: &'static str = "include_tasks";
    const HARMLESS: bool = true;
    const FREE_FORM: Option<&'static str> = Some("file");

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let file = self.file.trim_start_matches("./");
        if !self.among.iter().any(|n| n == file) {
            let hint = match nearest(file, self.among.iter().map(String::as_str)) {
                Some(n) => format!("did you mean `{n}`?"),
                None if self.among.is_empty() => "nothing there has a name like this".into(),
                None => format!("there is: {}", self.among.join(", ")),
            };
            let message = format!("there is no `{file}` to take in");
            return Err(Stop::Fail(Failure { message, hint: Some(hint), result: Map::new() }));
        }
        let mut result = Map::new();
        result.insert("include".into(), json!(file));
        Ok(Decision::Satisfied(Report { result, ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    #[test]
    fn one_of_those_there_are() {
        let m: IncludeTasks = bind("{file: ./debian.yml, among: [debian.yml, redhat.yml]}");
        assert_eq!(satisfied(m.decide(&seen([]), &ctx())).result["include"], json!("debian.yml"));
        let m: IncludeTasks = bind("{file: debain.yml, among: [debian.yml, redhat.yml]}");
        let Err(Stop::Fail(f)) = m.decide(&seen([]), &ctx()) else { panic!() };
        assert_eq!(f.message, "there is no `debain.yml` to take in");
        assert_eq!(f.hint.as_deref(), Some("did you mean `debian.yml`?"));
    }
}
