//! `copy` and `template`: a file with a body that lies here.

use super::args::{Bool, Mode, Text};
use super::place::Wanted;
use super::{ArgError, Ctx, Decision, FileKind, Local, Module, Stop};
use crate::probe::{Observed, Probe};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Puts a file on the host, from a file here or from text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The file here, looked for in the role's files/ and beside the playbook.
    src: Option<Text>,
    /// The file's text, instead of `src`.
    #[schemars(with = "Option<String>")]
    content: Option<Value>,
    /// Where the file goes; with a trailing slash, the folder it goes into.
    dest: Text,
    mode: Option<Mode>,
    owner: Option<Text>,
    group: Option<Text>,
    /// Keep the old file beside the new one.
    #[serde(default)]
    backup: Bool,
    /// `false`: only if there is no file yet.
    #[serde(default = "yes")]
    force: Bool,
    /// A command that must accept the new file before it is moved into place; `%s` is its path.
    validate: Option<Text>,
    #[serde(skip)]
    #[schemars(skip)]
    body: Arc<[u8]>,
}

fn yes() -> Bool {
    Bool(true)
}

impl Module for Copy {
    const NAME: &'static str = "copy";

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        match (&self.src, &self.content) {
            (Some(_), Some(_)) => return Err(ArgError::new("content", "`src` and `content` exclude each other")),
            (None, None) => return Err(ArgError::new("", "`copy` needs `src` or `content`")),
            (None, Some(v)) => {
                if self.dest.ends_with('/') {
                    return Err(ArgError::new("dest", "with `content`, `dest` must name a file, not a folder"));
                }
                let text = match v {
                    Value::String(s) => s.clone(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                self.body = text.into_bytes().into();
            }
            (Some(src), None) => {
                let path = local.find(FileKind::File, src)?;
                if path.is_dir() {
                    return Err(ArgError::new("src", format!("{} is a folder", path.display()))
                        .hint("copy takes one file; loop over the files of a folder"));
                }
                self.body = local.read(&path)?.into();
                if self.mode == Some(Mode::Preserve) {
                    use std::os::unix::fs::PermissionsExt;
                    let bits = std::fs::metadata(&path).map(|m| m.permissions().mode() & 0o7777);
                    self.mode = bits.ok().map(Mode::Bits);
                }
                into_folder(&mut self.dest, src);
            }
        }
        absolute("dest", &self.dest)
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.wanted().probes()
    }
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        decide(&self.wanted(), self.force, seen, ctx)
    }
}

impl Copy {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            path: &self.dest,
            body: self.body.clone(),
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: self.validate.as_deref(),
            backup: self.backup.0,
        }
    }
}

/// Puts a file on the host, rendered from a template here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The template here (`.hbs`), looked for in the role's templates/ and beside the playbook.
    src: Text,
    /// Where the file goes; with a trailing slash, the folder it goes into.
    dest: Text,
    mode: Option<Mode>,
    owner: Option<Text>,
    group: Option<Text>,
    /// Keep the old file beside the new one.
    #[serde(default)]
    backup: Bool,
    /// `false`: only if there is no file yet.
    #[serde(default = "yes")]
    force: Bool,
    /// A command that must accept the new file before it is moved into place; `%s` is its path.
    validate: Option<Text>,
    #[serde(skip)]
    #[schemars(skip)]
    body: Arc<[u8]>,
}

impl Module for Template {
    const NAME: &'static str = "template";

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        let path = local.find(FileKind::Template, &self.src)?;
        if path.extension().is_some_and(|e| e == "j2") {
            return Err(ArgError::new("src", "Jinja2 templates (.j2) are not supported yet")
                .hint("write it as a Handlebars template, `.hbs`"));
        }
        let text = String::from_utf8(local.read(&path)?)
            .map_err(|_| ArgError::new("src", format!("{} is not UTF-8 text", path.display())))?;
        self.body = local.render(&path, &text)?.into_bytes().into();
        into_folder(&mut self.dest, &self.src.strip_suffix(".hbs").unwrap_or(&self.src).into());
        absolute("dest", &self.dest)
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.wanted().probes()
    }
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        decide(&self.wanted(), self.force, seen, ctx)
    }
}

impl Template {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            path: &self.dest,
            body: self.body.clone(),
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: self.validate.as_deref(),
            backup: self.backup.0,
        }
    }
}

fn decide(wanted: &Wanted<'_>, force: Bool, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
    if !force.0 && seen.path(wanted.path)?.entry.is_some() {
        return Ok(Decision::satisfied(Default::default()));
    }
    wanted.decide(seen, ctx)
}

/// A `dest` that ends in a slash is a folder: the file keeps its name in it.
fn into_folder(dest: &mut Text, src: &Text) {
    if dest.ends_with('/') {
        let name = src.rsplit('/').next().unwrap_or_default().to_string();
        dest.0.push_str(&name);
    }
}

/// Refuses a path on the host that depends on where we happen to be.
pub fn absolute(param: &str, path: &str) -> Result<(), ArgError> {
    if path.starts_with('/') { Ok(()) } else { Err(ArgError::new(param, format!("`{path}` is not an absolute path"))) }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::modules::hex;
    use crate::probe::{Answer, Content, EntryKind};
    use sha2::{Digest, Sha256};

    const P: &str = "/etc/x.conf";

    fn file(body: &str, mode: u32) -> Vec<(Probe, Answer)> {
        vec![
            at(P, Some(entry(EntryKind::File, mode))),
            (Probe::Sha256(P.into()), Answer::Sha256(Some(hex(&Sha256::digest(body))))),
            (Probe::Content(P.into()), Answer::Content(Content::Bytes(body.into()))),
        ]
    }

    #[test]
    fn a_missing_file_is_put_there() {
        let m: Copy = bind("{content: \"a\\n\", dest: /etc/x.conf}");
        let c = change(m.decide(&seen([at(P, None)]), &ctx()));
        let [Action::Put(p)] = c.actions.as_slice() else { panic!("{c:?}") };
        assert_eq!((p.mode, &p.body[..], p.owner.as_deref()), (0o644, b"a\n".as_slice(), None));
        assert_eq!(c.diff[0].before, None);
    }

    #[test]
    fn the_same_body_and_mode_is_satisfied() {
        let m: Copy = bind("{content: \"a\\n\", dest: /etc/x.conf, mode: '0600', owner: root}");
        satisfied(m.decide(&seen(file("a\n", 0o600)), &ctx()));
    }

    #[test]
    fn a_wrong_mode_alone_is_put_right_without_sending_the_file() {
        let m: Copy = bind("{content: \"a\\n\", dest: /etc/x.conf, mode: '0600'}");
        let c = change(m.decide(&seen(file("a\n", 0o644)), &ctx()));
        assert_eq!(c.actions, [Action::Script("chmod -- 0600 /etc/x.conf".into())]);
        assert_eq!(c.summary, "mode 0644 -> 0600");
    }

    #[test]
    fn an_existing_file_keeps_its_mode_when_none_is_given() {
        let m: Copy = bind("{content: \"b\\n\", dest: /etc/x.conf}");
        let c = change(m.decide(&seen(file("a\n", 0o640)), &ctx()));
        let [Action::Put(p)] = c.actions.as_slice() else { panic!("{c:?}") };
        assert_eq!((p.mode, p.owner.as_deref()), (0o640, Some("root")));
        assert_eq!(c.diff[0].before.as_deref(), Some("a\n"));
    }

    #[test]
    fn what_a_plan_says_holds_afterwards() {
        let m: Copy = bind("{content: \"b\\n\", dest: /etc/x.conf, mode: '0600'}");
        let c = change(m.decide(&seen(file("a\n", 0o644)), &ctx()));
        satisfied(m.decide(&seen(c.after), &ctx()));
    }

    #[test]
    fn force_false_leaves_an_existing_file() {
        let m: Copy = bind("{content: \"b\\n\", dest: /etc/x.conf, force: false}");
        satisfied(m.decide(&seen(file("a\n", 0o644)), &ctx()));
    }

    #[test]
    fn a_dest_folder_takes_the_file_under_its_name() {
        let m: Template = bind("{src: sub/motd.hbs, dest: /etc/}");
        assert_eq!(&*m.dest, "/etc/motd");
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Copy>(y).unwrap_err().message;
        assert!(err("{dest: /x}").contains("needs `src` or `content`"));
        assert!(err("{dest: /x, src: a, content: b}").contains("exclude"));
        assert!(err("{dest: x, content: b}").contains("absolute"));
        assert!(err("{dest: /x, content: b, mode: 644}").contains("\"0644\""));
    }
}
