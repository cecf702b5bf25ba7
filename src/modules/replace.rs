//! `replace`: every place of a file that a pattern matches.

use super::args::{Bool, Mode, Text, Validate};
use super::copy::absolute;
use super::edit::{Edit, utf8};
use super::lineinfile::check_groups;
use super::place::tidy;
use super::regex::text_regex;
use super::{ArgError, Ctx, Decision, Local, Module, Stop, python_groups};
use crate::probe::{Observed, Probe};
use fancy_regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

/// Replaces all that a regular expression matches in a file.
///
/// Registers `msg`; `backup_file` where one was kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The file on the host. Also `dest`, `destfile`, `name`.
    #[serde(alias = "dest", alias = "destfile", alias = "name")]
    #[schemars(extend("x-aliases" = ["dest", "destfile", "name"]))]
    path: Text,
    /// The regular expression. `^` and `$` match at every line, `.` never matches a line's end.
    regexp: Text,
    /// What comes in its place; `\1` and `\g<name>` are its groups. Without it, what matches is removed.
    #[serde(default)]
    replace: Text,
    /// Only what comes after this regular expression. `.` in it matches lines' ends.
    after: Option<Text>,
    /// Only what comes before this regular expression. `.` in it matches lines' ends.
    before: Option<Text>,
    /// Keep the old file beside the new one.
    #[serde(default)]
    backup: Bool,
    /// The mode: `"0644"`, or `u=rw,g=r`; without it, as it is, or as the umask makes it.
    mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
    /// A command that must accept the new file before it is moved into place; `%s` is its path. It is run without a shell.
    validate: Option<Validate>,
    #[serde(skip)]
    #[schemars(skip)]
    regexes: Option<Regexes>,
}

#[derive(Debug)]
struct Regexes {
    what: Regex,
    section: Option<Regex>,
}

impl Module for Replace {
    const NAME: &'static str = "replace";
    const EXAMPLE: &'static str = r##"- replace:
    path: /etc/app.conf
    regexp: "^host = .*$"
    replace: host = 192.0.2.10"##;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("path", &self.path)?;
        self.path.0 = tidy(&self.path);
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        let what = text_regex("regexp", "m", &self.regexp)?;
        check_groups("replace", &what, &self.replace)?;
        let (after, before) = (self.after.as_deref(), self.before.as_deref());
        let section = match (after, before) {
            (None, None) => None,
            (Some(a), None) => Some(("after", format!("{a}(?P<subsection>.*)"))),
            (None, Some(b)) => Some(("before", format!("(?P<subsection>.*){b}"))),
            (Some(a), Some(b)) => Some(("after", format!("{a}(?P<subsection>.*?){b}"))),
        };
        let section = section.map(|(name, p)| text_regex(name, "s", &p)).transpose()?;
        self.regexes = Some(Regexes { what, section });
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.file().probes()
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let file = self.file();
        let Some(old) = file.old(seen)? else {
            return Err(Stop::Fail(super::edit::failure(257, format!("{} does not exist", self.path.0))));
        };
        let old = utf8(&self.path, old)?;
        let (new, msg) = self.edited(old)?;
        file.decide(seen, ctx, new.into_bytes(), &msg, Map::new())
    }
}

fn too_costly(e: fancy_regex::Error) -> Stop {
    Stop::fail(format!("a regular expression takes too long on the file: {e}"))
}

impl Replace {
    fn file(&self) -> Edit<'_> {
        Edit {
            path: &self.path,
            create: false,
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: self.validate.as_deref(),
            backup: self.backup.0,
        }
    }

    /// The new text, and what was done.
    fn edited(&self, old: &str) -> Result<(String, String), Stop> {
        let Some(re) = &self.regexes else { return Ok((old.to_string(), String::new())) };
        let part = match &re.section {
            None => 0..old.len(),
            Some(s) => match s.captures(old).map_err(too_costly)?.and_then(|c| c.name("subsection")) {
                Some(m) => m.range(),
                None => {
                    let msg = "Pattern for before/after params did not match the given file";
                    return Ok((old.to_string(), msg.to_string()));
                }
            },
        };
        let section = &old[part.clone()];
        let with = python_groups(&self.replace).map_err(Stop::fail)?;
        let (mut new, mut from, mut count) = (old[..part.start].to_string(), 0, 0);
        for c in super::regex::matches(&re.what, section) {
            let c = c.map_err(too_costly)?;
            let Some(m) = c.get(0) else { continue };
            new.push_str(&section[from..m.start()]);
            c.expand(&with, &mut new);
            from = m.end();
            count += 1;
        }
        new.push_str(&section[from..]);
        new.push_str(&old[part.end..]);
        let msg = if new == old { String::new() } else { format!("{count} replacements made") };
        Ok((new, msg))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::probe::{Answer, Content, EntryKind};

    const P: &str = "/etc/x.conf";

    fn with(body: &str) -> Observed {
        seen([
            at(P, Some(entry(EntryKind::File, 0o640))),
            (Probe::Content(P.into()), Answer::Content(Content::Bytes(body.into()))),
        ])
    }
    fn edit(params: &str, old: &str) -> (String, String) {
        let m: Replace = bind(&format!("{{path: {P}, {params}}}"));
        match m.decide(&with(old), &ctx()).unwrap() {
            Decision::Change(c) => match c.actions.last() {
                Some(Action::Put(p)) => {
                    (String::from_utf8(p.body.to_vec()).unwrap(), c.result["msg"].as_str().unwrap().to_string())
                }
                other => panic!("{other:?}"),
            },
            Decision::Satisfied(r) => ("(same)".into(), r.result["msg"].as_str().unwrap().to_string()),
            other => panic!("{other:?}"),
        }
    }
    fn new(params: &str, old: &str) -> String {
        edit(params, old).0
    }

    #[test]
    fn all_that_matches_is_replaced() {
        assert_eq!(edit("regexp: a, replace: b", "a\nca\n"), ("b\ncb\n".into(), "2 replacements made".into()));
        assert_eq!(edit("regexp: a, replace: b", "b\n"), ("(same)".into(), String::new()));
        assert_eq!(edit("regexp: b, replace: b", "b\n").0, "(same)");
        assert_eq!(new("regexp: '^(\\w+)=(?P<v>.*)$', replace: '\\g<v>: \\1 $1'", "a=1\nb=2"), "1: a $1\n2: b $1");
        assert_eq!(new("regexp: '^#.*\\n'", "#a\nb\n#c\n"), "b\n");
        assert_eq!(new("regexp: '(?<!x)a(?!b)', replace: z", "xa ab ac"), "xa ab zc");
        assert_eq!(new("regexp: '$', replace: ';'", "a\nb"), "a;\nb;");
        assert_eq!(new("regexp: 'ü', replace: 'ö'", "ü"), "ö");
    }

    #[test]
    fn only_a_section() {
        let f = "[a]\nk=1\n[b]\nk=1\n[c]\nk=1\n";
        assert_eq!(new("regexp: 'k=1', replace: 'k=2', after: '\\[b\\]'", f), "[a]\nk=1\n[b]\nk=2\n[c]\nk=2\n");
        assert_eq!(new("regexp: 'k=1', replace: 'k=2', before: '\\[c\\]'", f), "[a]\nk=2\n[b]\nk=2\n[c]\nk=1\n");
        let both = "after: '\\[b\\]', before: '\\[c\\]'";
        assert_eq!(new(&format!("regexp: 'k=1', replace: 'k=2', {both}"), f), "[a]\nk=1\n[b]\nk=2\n[c]\nk=1\n");
        let (same, msg) = edit("regexp: 'k=1', replace: 'k=2', after: nowhere", f);
        assert_eq!(same, "(same)");
        assert!(msg.contains("did not match"), "{msg}");
    }

    #[test]
    fn what_is_foreseen_holds() {
        let m: Replace = bind(&format!("{{path: {P}, regexp: '^a$', replace: b, mode: '0600'}}"));
        let c = change(m.decide(&with("a\n"), &ctx()));
        satisfied(m.decide(&then(with("a\n"), &c), &ctx()));
        let Err(Stop::Fail(f)) = m.decide(&seen([at(P, None)]), &ctx()) else { panic!() };
        assert_eq!(f.result["rc"], 257);
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Replace>(y).unwrap_err().message;
        assert!(err("{path: /x, regexp: 'a('}").contains("`a(`"));
        assert!(err("{path: /x, regexp: '(a)', replace: '\\2'}").contains("no group `2`"));
        assert!(err("{path: /x}").contains("regexp"));
    }
}
