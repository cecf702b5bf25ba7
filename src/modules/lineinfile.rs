//! `lineinfile`: one line of a file.

use super::args::{Bool, Mode, Text, Validate};
use super::copy::absolute;
use super::place::tidy;
use super::regex::ended_line_regex as line_regex;
use super::{ArgError, Ctx, Decision, Local, Module, Stop, edit, python_groups};
use crate::probe::{Observed, Probe};
use fancy_regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use std::borrow::Cow;

/// Sees to it that a line is in a file, or is not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineInFile {
    /// The file on the host. Also `dest`, `destfile`, `name`.
    #[serde(alias = "dest", alias = "destfile", alias = "name")]
    #[schemars(extend("x-aliases" = ["dest", "destfile", "name"]))]
    path: Text,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// The line. Also `value`.
    #[serde(alias = "value")]
    #[schemars(extend("x-aliases" = ["value"]))]
    line: Option<Text>,
    /// A regular expression for the line to replace (the last that matches) or to remove (every one that matches).
    /// Also `regex`.
    #[serde(alias = "regex")]
    #[schemars(extend("x-aliases" = ["regex"]))]
    regexp: Option<Text>,
    /// As `regexp`, but a text that the line holds.
    search_string: Option<Text>,
    /// Groups of `regexp` (`\1`, `\g<name>`) are put into `line`; where nothing matches, the file is left alone.
    #[serde(default)]
    backrefs: Bool,
    /// Where a new line goes: after the last line that this regular expression matches, or `EOF`, the default.
    insertafter: Option<Text>,
    /// Where a new line goes: before the last line that this regular expression matches, or `BOF`.
    insertbefore: Option<Text>,
    /// The first line that matches counts, not the last.
    #[serde(default)]
    firstmatch: Bool,
    /// Make the file (and its folder) if there is none.
    #[serde(default)]
    create: Bool,
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
    regexes: Regexes,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

#[derive(Debug, Default)]
struct Regexes {
    line: Option<Regex>,
    place: Option<Regex>,
}

/// What became of the lines.
struct Edit {
    body: Vec<u8>,
    msg: String,
    found: usize,
}

impl Module for LineInFile {
    const NAME: &'static str = "lineinfile";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("msg", "What was done."),
        ("found", "With `state: absent`: how many lines there were."),
        ("backup", "The old file's copy, where one was kept."),
    ];
    const EXAMPLE: &'static str = r##"- name: No root over SSH
  lineinfile:
    path: /etc/ssh/sshd_config
    regexp: "^#?PermitRootLogin"
    line: PermitRootLogin no
  notify: restart it"##;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("path", &self.path)?;
        self.path.0 = tidy(&self.path);
        let exclude = |a: bool, b: bool, name: &str, words: &str| {
            if a && b { Err(ArgError::new(name, format!("{words} exclude each other"))) } else { Ok(()) }
        };
        let (re, search) = (self.regexp.is_some(), self.search_string.is_some());
        exclude(re, search, "search_string", "`regexp` and `search_string`")?;
        exclude(self.backrefs.0, search, "search_string", "`backrefs` and `search_string`")?;
        let (after, before) = (self.insertafter.is_some(), self.insertbefore.is_some());
        exclude(after, before, "insertbefore", "`insertafter` and `insertbefore`")?;
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        // Its end is the file's matter: `line: |` brings one.
        if let Some(l) = &mut self.line
            && let Some(bare) = l.0.strip_suffix('\n')
        {
            l.0 = bare.to_string();
        }
        match self.state {
            State::Present => {
                let Some(line) = &self.line else {
                    return Err(ArgError::new("line", "`lineinfile` needs `line`"));
                };
                if self.backrefs.0 && !re {
                    return Err(ArgError::new("regexp", "`backrefs` needs `regexp`"));
                }
                if line.0.contains('\0') {
                    return Err(ArgError::new("line", "a line cannot hold a NUL character"));
                }
            }
            State::Absent if !re && !search && self.line.is_none() => {
                return Err(ArgError::new("", "`state: absent` needs `line`, `regexp` or `search_string`"));
            }
            State::Absent => {}
        }
        self.regexes.line = self.regexp.as_deref().map(|p| line_regex("regexp", p)).transpose()?;
        let place = match (&self.insertafter, &self.insertbefore) {
            (Some(p), _) if !matches!(&**p, "EOF" | "BOF") => Some(("insertafter", p)),
            (_, Some(p)) if &**p != "BOF" => Some(("insertbefore", p)),
            _ => None,
        };
        self.regexes.place = place.map(|(name, p)| line_regex(name, p)).transpose()?;
        if self.backrefs.0
            && let (Some(re), Some(line)) = (&self.regexes.line, &self.line)
        {
            check_groups("line", re, line)?;
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.file().probes()
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let mut result = Map::new();
        result.insert("backup".into(), json!(""));
        let file = self.file();
        let edit = match (self.state, file.old(seen)?) {
            (State::Absent, None) => {
                result.insert("msg".into(), json!("file not present"));
                result.insert("found".into(), json!(0));
                return Ok(Decision::satisfied(result));
            }
            (State::Present, _) => self.present(file.old_or_new(seen)?.unwrap_or_default())?,
            (State::Absent, Some(old)) => self.absent(old)?,
        };
        if self.state == State::Absent {
            result.insert("found".into(), json!(edit.found));
        }
        let mut decision = file.decide(seen, ctx, edit.body, &edit.msg, result)?;
        if let Decision::Change(c) = &mut decision
            && let Some(b) = c.result.remove("backup_file")
        {
            c.result.insert("backup".into(), b);
        }
        Ok(decision)
    }
}

impl LineInFile {
    fn file(&self) -> edit::Edit<'_> {
        edit::Edit {
            path: &self.path,
            create: self.create.0 && self.state == State::Present,
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: self.validate.as_deref(),
            backup: self.backup.0,
        }
    }

    fn matches(&self, line: &str) -> Result<bool, Stop> {
        match (&self.regexes.line, &self.search_string) {
            (Some(re), _) => search(re, line),
            (_, Some(s)) => Ok(line.contains(&s.0)),
            _ => Ok(false),
        }
    }

    fn present(&self, old: &[u8]) -> Result<Edit, Stop> {
        let line = self.line.as_deref().unwrap_or_default();
        let mut lines: Vec<Vec<u8>> = split(old);
        let mut at = None;
        for (n, l) in lines.iter().enumerate() {
            if self.matches(&text(l))? {
                at = Some(n);
                if self.firstmatch.0 {
                    break;
                }
            }
        }
        let matched = at.is_some();
        let mut place = None;
        if !matched {
            for (n, l) in lines.iter().enumerate() {
                if trimmed(l) == line.as_bytes() {
                    at = Some(n);
                } else if let Some(re) = &self.regexes.place
                    && !(self.firstmatch.0 && place.is_some())
                    && search(re, &text(l))?
                {
                    place = Some(if self.insertafter.is_some() { n + 1 } else { n });
                }
            }
        }
        let ended = |l: &str| if l.ends_with('\n') { l.to_string() } else { format!("{l}\n") };
        let new = ended(line).into_bytes();
        let mut msg = "";
        let before_all = [&self.insertbefore, &self.insertafter].iter().any(|p| p.as_deref() == Some("BOF"));
        match (at, place) {
            (Some(n), _) => {
                let new = match (&self.regexes.line, self.backrefs.0 && matched) {
                    (Some(re), true) => ended(&self.expanded(re, &lines[n], line)?).into_bytes(),
                    _ => new,
                };
                if lines[n] != new {
                    lines[n] = new;
                    msg = "line replaced";
                }
            }
            (None, _) if self.backrefs.0 => {}
            (None, _) if before_all => {
                lines.insert(0, new);
                msg = "line added";
            }
            (None, Some(n)) if n < lines.len() => {
                lines.insert(n, new);
                msg = "line added";
            }
            (None, _) => {
                if let Some(last) = lines.last_mut()
                    && !last.ends_with(b"\n")
                    && !last.ends_with(b"\r")
                {
                    last.push(b'\n');
                }
                lines.push(new);
                msg = "line added";
            }
        }
        Ok(Edit { body: lines.concat(), msg: msg.into(), found: usize::from(matched) })
    }

    /// `line` with the groups of the match in it.
    fn expanded(&self, re: &Regex, of: &[u8], line: &str) -> Result<String, Stop> {
        let Ok(of) = std::str::from_utf8(of) else {
            return Err(Stop::fail("`backrefs` needs UTF-8 text, and the line that matches is none"));
        };
        let found = re.captures(of).map_err(too_costly)?;
        let mut out = String::new();
        if let Some(c) = found {
            c.expand(&python_groups(line).map_err(Stop::fail)?, &mut out);
        }
        Ok(out)
    }

    fn absent(&self, old: &[u8]) -> Result<Edit, Stop> {
        let by_line = self.regexp.is_none() && self.search_string.is_none();
        let line = self.line.as_deref().unwrap_or_default().as_bytes();
        let (mut body, mut found) = (Vec::with_capacity(old.len()), 0);
        for l in split(old) {
            if if by_line { trimmed(&l) == line } else { self.matches(&text(&l))? } {
                found += 1;
            } else {
                body.extend(l);
            }
        }
        let msg = match found {
            0 => String::new(),
            1 => "1 line removed".into(),
            n => format!("{n} lines removed"),
        };
        Ok(Edit { body, msg, found })
    }
}

/// Every `\1` and `\g<name>` of a parameter must name a group that there is.
pub(super) fn check_groups(param: &str, re: &Regex, line: &str) -> Result<(), ArgError> {
    match super::unknown_group(re, line) {
        Err(e) => Err(ArgError::new(param, e)),
        Ok(Some(name)) => Err(ArgError::new(param, format!("`regexp` has no group `{name}`"))),
        Ok(None) => Ok(()),
    }
}

/// The lines, each with its end.
fn split(body: &[u8]) -> Vec<Vec<u8>> {
    body.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

/// A line without its end.
fn trimmed(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| *b != b'\n' && *b != b'\r').map_or(0, |n| n + 1);
    &line[..end]
}

fn text(line: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(line)
}

/// Looks for a pattern in a line with its end.
fn search(re: &Regex, line: &str) -> Result<bool, Stop> {
    re.is_match(line).map_err(too_costly)
}

fn too_costly(e: fancy_regex::Error) -> Stop {
    Stop::fail(format!("a regular expression takes too long on a line: {e}"))
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::modules::Change;
    use crate::probe::{Answer, Content, EntryKind};

    const P: &str = "/etc/x.conf";

    fn with(body: &str) -> Observed {
        seen([
            at(P, Some(entry(EntryKind::File, 0o640))),
            (Probe::Content(P.into()), Answer::Content(Content::Bytes(body.into()))),
        ])
    }
    fn module(params: &str) -> LineInFile {
        bind(&format!("{{path: {P}, {params}}}"))
    }
    fn body(c: &Change) -> String {
        match c.actions.last() {
            Some(Action::Put(p)) => String::from_utf8(p.body.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    /// The new body and the message; nothing where nothing changes. What a change foresees must be satisfied.
    fn edit(params: &str, old: &str) -> Option<(String, String)> {
        let m = module(params);
        match m.decide(&with(old), &ctx()).unwrap() {
            Decision::Satisfied(_) => None,
            Decision::Change(c) => {
                satisfied(m.decide(&then(with(old), &c), &ctx()));
                Some((body(&c), c.summary.clone()))
            }
            _ => panic!(),
        }
    }
    fn new(params: &str, old: &str) -> String {
        edit(params, old).map_or_else(|| "(same)".into(), |e| e.0)
    }

    #[test]
    fn a_line_is_added_at_the_end_once() {
        assert_eq!(edit("line: c", "a\nb\n"), Some(("a\nb\nc\n".into(), "line added".into())));
        assert_eq!(new("line: c", "a\nb"), "a\nb\nc\n");
        assert_eq!(new("line: c", ""), "c\n");
        assert_eq!(new("line: b", "a\nb\n"), "(same)");
        assert_eq!(new("line: b", "a\nb"), "a\nb\n");
        assert_eq!(new("line: \"b\\n\"", "a\nb\n"), "(same)");
        assert_eq!(new("line: \"c\\n\"", "a\nb\n"), "a\nb\nc\n");
        assert_eq!(new("line: \"b\\n\", state: absent", "a\nb\n"), "a\n");
    }

    #[test]
    fn the_last_match_is_replaced_or_the_first() {
        assert_eq!(new("regexp: '^k=', line: k=9", "k=1\nx\nk=2\n"), "k=1\nx\nk=9\n");
        assert_eq!(new("regexp: '^k=', line: k=9, firstmatch: true", "k=1\nx\nk=2\n"), "k=9\nx\nk=2\n");
        assert_eq!(new("search_string: 'k=', line: k=9", "k=1\nx\n"), "k=9\nx\n");
        assert_eq!(new("regexp: '^k=1$', line: k=9", "k=1\nk=11\n"), "k=9\nk=11\n");
        assert_eq!(new("regexp: '^k=', line: k=9", "x\nk=9\n"), "(same)");
    }

    #[test]
    fn a_pattern_sees_the_line_s_end() {
        assert_eq!(new("regexp: '^foo\\s', line: bar", "foo\nfood\n"), "bar\nfood\n");
        assert_eq!(new("regexp: '^[^#]', state: absent", "# a\n\nb\n"), "# a\n");
        assert_eq!(new("regexp: '^$', state: absent", "a\n\nb\n"), "a\nb\n");
        assert_eq!(new("regexp: '^(a|b)$', state: absent", "a\nab\nb"), "ab\n");
        assert_eq!(new("regexp: 'a[$]$|\\$b', state: absent", "a$\nc\n$b\na\n"), "c\na\n");
        assert_eq!(new("regexp: 'a\\Z', state: absent", "a\na"), "a\n");
        assert_eq!(new("line: x, insertafter: '^a\\n'", "a\nab\n"), "a\nx\nab\n");
    }

    #[test]
    fn a_line_that_is_there_is_not_added_when_the_pattern_matches_nothing() {
        assert_eq!(new("regexp: '^#k', line: k=9", "k=9\nx\n"), "(same)");
        assert_eq!(new("regexp: '^#k', line: k=9", "x\n"), "x\nk=9\n");
        assert_eq!(new("insertafter: '^x', firstmatch: true, line: k", "x\ny\nk\n"), "(same)");
    }

    #[test]
    fn places() {
        let f = "a\n[s]\nb\n[s]\nc\n";
        assert_eq!(new("line: z, insertafter: '^\\[s\\]'", f), "a\n[s]\nb\n[s]\nz\nc\n");
        assert_eq!(new("line: z, insertafter: '^\\[s', firstmatch: true", f), "a\n[s]\nz\nb\n[s]\nc\n");
        assert_eq!(new("line: z, insertbefore: '^\\[s'", f), "a\n[s]\nb\nz\n[s]\nc\n");
        assert_eq!(new("line: z, insertbefore: BOF", f), format!("z\n{f}"));
        assert_eq!(new("line: z, insertafter: EOF", f), format!("{f}z\n"));
        assert_eq!(new("line: z, insertafter: nowhere", f), format!("{f}z\n"));
        assert_eq!(new("line: z, insertbefore: nowhere", f), format!("{f}z\n"));
        assert_eq!(new("line: z, insertafter: '^c'", "a\nc"), "a\nc\nz\n");
    }

    #[test]
    fn backrefs() {
        let p = "regexp: '^(?P<k>\\w+)=(.*)$', line: '\\g<k> = \\2 $1', backrefs: true";
        let c = change(module(p).decide(&with("a=b\n"), &ctx()));
        assert_eq!(body(&c), "a = b $1\n");
        assert_eq!(new("regexp: '^q(.)', line: '\\1', backrefs: true", "a\n"), "(same)");
        let e = try_bind::<LineInFile>("{path: /x, regexp: '(a)', line: '\\2', backrefs: true}").unwrap_err();
        assert!(e.message.contains("no group `2`"), "{}", e.message);
    }

    #[test]
    fn absent_removes_every_match() {
        assert_eq!(edit("regexp: '^k', state: absent", "k1\na\nk2"), Some(("a\n".into(), "2 lines removed".into())));
        assert_eq!(new("line: k, state: absent", "k\nkk\r\nk\r\n"), "kk\r\n");
        assert_eq!(new("line: k, state: absent", "a\n"), "(same)");
        satisfied(module("line: k, state: absent").decide(&seen([at(P, None)]), &ctx()));
    }

    #[test]
    fn a_missing_file_is_an_error_or_is_made() {
        let Err(Stop::Fail(f)) = module("line: a").decide(&seen([at(P, None)]), &ctx()) else { panic!() };
        assert_eq!(f.result["rc"], 257);
        let m = module("line: a, create: true, mode: '0600'");
        let no = || {
            seen([
                at(P, None),
                at("/etc", Some(entry(EntryKind::Directory, 0o755))),
                (Probe::Content(P.into()), Answer::Content(Content::Absent)),
            ])
        };
        let c = change(m.decide(&no(), &ctx()));
        assert_eq!((body(&c).as_str(), c.actions.len()), ("a\n", 1));
        satisfied(m.decide(&then(no(), &c), &ctx()));
    }

    #[test]
    fn the_folder_is_made_with_the_file() {
        let t = tempfile::tempdir().unwrap();
        let p = t.path().join("-a b/c'd/f");
        let m: LineInFile = bind(&json!({"path": p, "line": "x", "create": true}).to_string());
        let before = look(m.probes(&ctx()));
        let c = change(m.decide(&before, &ctx()));
        satisfied(m.decide(&then(before, &c), &ctx()));
        run(&c);
        assert_eq!(std::fs::read_to_string(&p).unwrap(), "x\n");
    }

    #[test]
    fn several_tasks_in_a_row_need_no_new_look() {
        let first = module("line: one");
        let c = change(first.decide(&with("zero\n"), &ctx()));
        let after = then(with("zero\n"), &c);
        let c = change(module("line: two").decide(&after, &ctx()));
        assert_eq!(body(&c), "zero\none\ntwo\n");
        assert_eq!(c.diff[0].before.as_deref(), Some("zero\none\n"));
        let m = module("line: two, mode: '0600'");
        let after = then(after, &c);
        let c = change(m.decide(&after, &ctx()));
        assert_eq!(c.summary, "mode 0640 -> 0600");
        satisfied(m.decide(&then(after, &c), &ctx()));
    }

    #[test]
    fn a_link_stays_and_its_file_changes() {
        let t = tempfile::tempdir().unwrap();
        std::fs::write(t.path().join("f"), "a\n").unwrap();
        std::os::unix::fs::symlink("f", t.path().join("l")).unwrap();
        let m: LineInFile = bind(&json!({"path": t.path().join("l"), "line": "b"}).to_string());
        let before = look(m.probes(&ctx()));
        let c = change(m.decide(&before, &ctx()));
        satisfied(m.decide(&then(before, &c), &ctx()));
        run(&c);
        assert_eq!(std::fs::read_to_string(t.path().join("f")).unwrap(), "a\nb\n");
        assert!(t.path().join("l").is_symlink());
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<LineInFile>(y).unwrap_err().message;
        assert!(err("{path: /x}").contains("needs `line`"));
        assert!(err("{path: /x, line: a, regexp: 'a('}").contains("`a(`"));
        assert!(err("{path: /x, line: a, regexp: b, search_string: c}").contains("exclude"));
        assert!(err("{path: /x, line: a, insertafter: b, insertbefore: c}").contains("exclude"));
        assert!(err("{path: /x, line: a, backrefs: true}").contains("needs `regexp`"));
        assert!(err("{path: /x, state: absent}").contains("needs"));
        assert!(err("{path: /x, line: a, validate: visudo}").contains("%s"));
    }
}
