//! `slurp`: a file of the host as a value. It changes nothing.

use super::args::Text;
use super::copy::absolute;
use super::place::{may_not_look, tidy};
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{CONTENT_LIMIT, Content, EntryKind, Observed, Probe};
use base64::Engine as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Reads a file of at most 1 MiB on the host: what is registered has `content` (base64), `encoding` and `source`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slurp {
    /// The file on the host. Also `path`.
    #[serde(alias = "path")]
    #[schemars(extend("x-aliases" = ["path"]))]
    src: Text,
}

impl Module for Slurp {
    const NAME: &'static str = "slurp";
    const RETURNS: &'static [(&'static str, &'static str)] =
        &[("content", "The file's content, in base64."), ("encoding", "`base64`."), ("source", "The path.")];
    const EXAMPLE: &'static str = r#"- slurp: {src: /var/lib/app/token}
  register: token
  no_log: true
- debug: {msg: "{{b64decode token.content}}"}"#;
    const HARMLESS: bool = true;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("src", &self.src)?;
        self.src.0 = tidy(&self.src);
        Ok(())
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Content(self.src.0.clone())]
    }
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let bytes = match seen.content(&self.src)? {
            Content::Bytes(b) => b,
            Content::Absent => return Err(Stop::fail(format!("{} does not exist on the host", &*self.src))),
            Content::Denied => return Err(may_not_look(ctx, &self.src)),
            // Why it could not be read, the path itself tells.
            Content::Unavailable => {
                return Err(match seen.path(&self.src)?.followed() {
                    Some(e) if e.kind == EntryKind::Directory => Stop::fail(format!("{} is a folder", &*self.src)),
                    Some(e) if e.kind == EntryKind::File && e.size > CONTENT_LIMIT => Stop::fail_hint(
                        format!("{} has {} bytes; `slurp` takes at most {CONTENT_LIMIT}", &*self.src, e.size),
                        "`fetch` brings large files here",
                    ),
                    _ => Stop::fail(format!("{} cannot be read", &*self.src)),
                });
            }
        };
        let mut r = Map::new();
        r.insert("content".into(), json!(base64::engine::general_purpose::STANDARD.encode(bytes)));
        r.insert("encoding".into(), json!("base64"));
        r.insert("source".into(), json!(&*self.src));
        Ok(Decision::satisfied(r))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::Answer;

    fn content(c: Content) -> (Probe, Answer) {
        (Probe::Content("/f".into()), Answer::Content(c))
    }

    #[test]
    fn what_is_there_and_what_is_not() {
        let m: Slurp = bind("{path: /f}");
        let r = satisfied(m.decide(&seen([content(Content::Bytes(b"a\0\n".to_vec()))]), &ctx())).result;
        assert_eq!((&r["content"], &r["encoding"], &r["source"]), (&json!("YQAK"), &json!("base64"), &json!("/f")));
        let fails = |o: &Observed| match m.decide(o, &ctx()) {
            Err(Stop::Fail(f)) => f,
            other => panic!("{other:?}"),
        };
        assert!(fails(&seen([content(Content::Absent)])).message.contains("does not exist"));
        let f = fails(&seen([content(Content::Denied)]));
        assert!(f.message == "root may not look at /f" && f.hint.is_some());
        let big = crate::probe::Entry { size: CONTENT_LIMIT + 1, ..entry(EntryKind::File, 0o644) };
        let f = fails(&seen([content(Content::Unavailable), at("/f", Some(big))]));
        assert!(f.message.contains("1048577") && f.hint.unwrap().contains("fetch"));
        let f = fails(&seen([content(Content::Unavailable), at("/f", Some(entry(EntryKind::Directory, 0o755)))]));
        assert!(f.message.contains("folder"));
        assert!(try_bind::<Slurp>("{src: f}").is_err());
    }
}
