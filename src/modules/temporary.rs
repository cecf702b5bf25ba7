//! `tempfile`: a new file or folder under a name nobody has.

use super::args::Text;
use super::copy::absolute;
use super::place::{new_entry, tidy, unchanged_folders};
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, EntryKind, Observed, PathState, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Makes a temporary file or folder that only its owner can use. Each run makes a new one; who makes it takes it away.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tempfile {
    /// `file` or `directory`.
    #[serde(default)]
    state: State,
    /// The folder it is made in; /tmp without it.
    path: Option<Text>,
    /// How its name begins.
    #[serde(default = "prefix")]
    prefix: Text,
    /// How its name ends.
    #[serde(default)]
    suffix: Text,
    #[serde(skip)]
    #[schemars(skip)]
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    File,
    Directory,
}

fn prefix() -> Text {
    "windlass.".into()
}

impl Module for Tempfile {
    const NAME: &'static str = "tempfile";
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("path", "What was made."), ("state", "`file` or `directory`."), ("mode", "Its mode.")];
    const EXAMPLE: &'static str = r#"- tempfile: {state: directory, suffix: .build}
  register: work
- debug: {msg: "{{work.path}}"}"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let folder = self.path.as_deref().unwrap_or("/tmp");
        absolute("path", folder)?;
        for (param, part) in [("prefix", &self.prefix), ("suffix", &self.suffix)] {
            if part.contains('/') {
                return Err(ArgError::new(param, "it is a part of a name: no slash"));
            }
        }
        let random = &crate::host::nonce()[..12];
        self.name = tidy(&format!("{folder}/{}{random}{}", &*self.prefix, &*self.suffix));
        Ok(())
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Path(self.name.clone())]
    }
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let state = seen.path(&self.name)?;
        let folder = self.state == State::Directory;
        let mut result = Map::new();
        result.insert("path".into(), json!(self.name));
        result.insert("state".into(), json!(if folder { "directory" } else { "file" }));
        result.insert("mode".into(), json!(if folder { "0700" } else { "0600" }));
        // Nobody else comes upon this name: it was made, and only the answer was lost.
        if state.entry.is_some() {
            return Ok(Decision::satisfied(result));
        }
        let q = shell_quote(&self.name);
        let (script, entry) = match folder {
            true => (format!("mkdir -m 0700 -- {q}"), new_entry(EntryKind::Directory, 0o700, 4096, (None, None), ctx)),
            false => (format!("umask 077; set -C; : >{q}"), new_entry(EntryKind::File, 0o600, 0, (None, None), ctx)),
        };
        let new = PathState { entry: Some(entry), canonical: state.canonical.clone(), ..Default::default() };
        let mut after = unchanged_folders(&self.name, seen);
        after.push((Probe::Path(self.name.clone()), Answer::Path(new)));
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches: Touches::entry(&self.name),
            after,
            summary: if folder { "new temporary folder" } else { "new temporary file" }.into(),
            result,
            ..Default::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_name_each_time() {
        let t = tempfile::tempdir().unwrap();
        let yaml =
            |state: &str| format!("{{state: {state}, path: {}, prefix: \"a'\", suffix: .x}}", t.path().display());
        for (state, mode) in [("file", 0o600), ("directory", 0o700)] {
            let (a, b): (Tempfile, Tempfile) = (bind(&yaml(state)), bind(&yaml(state)));
            assert_ne!(a.name, b.name);
            let before = look(a.probes(&ctx()));
            let c = change(a.decide(&before, &ctx()));
            run(&c);
            let path = c.result["path"].as_str().unwrap();
            let start = format!("{}/a'", t.path().display());
            assert!(path.starts_with(&start) && path.ends_with(".x"), "{path}");
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
            satisfied(a.decide(&look(a.probes(&ctx())), &ctx()));
        }
        assert!(try_bind::<Tempfile>("{suffix: /x}").is_err());
    }
}
