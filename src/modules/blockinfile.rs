//! `blockinfile`: lines of a file between two marks of ours.

use super::args::{Bool, Mode, Text, Validate};
use super::copy::absolute;
use super::edit::{Edit, utf8};
use super::place::tidy;
use super::regex::line_regex;
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{Observed, Probe};
use fancy_regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Keeps a block of lines in a file, between a line before and a line after it that mark it.
///
/// Registers `msg`; `backup_file` where one was kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockInFile {
    /// The file on the host. Also `dest`, `destfile`, `name`.
    #[serde(alias = "dest", alias = "destfile", alias = "name")]
    #[schemars(extend("x-aliases" = ["dest", "destfile", "name"]))]
    path: Text,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// The lines; none: the block is taken away. Also `content`.
    #[serde(default, alias = "content")]
    #[schemars(extend("x-aliases" = ["content"]))]
    block: Text,
    /// The marking lines; `{mark}` in it becomes `marker_begin` and `marker_end`. Several blocks in one file need
    /// different ones.
    #[serde(default = "marker")]
    marker: Text,
    /// What stands for `{mark}` in the first marker.
    #[serde(default = "begin")]
    marker_begin: Text,
    /// What stands for `{mark}` in the last marker.
    #[serde(default = "end")]
    marker_end: Text,
    /// Where a new block goes: after the last line that this regular expression matches, or `EOF`, the default.
    insertafter: Option<Text>,
    /// Where a new block goes: before the last line that this regular expression matches, or `BOF`.
    insertbefore: Option<Text>,
    /// An empty line after the block.
    #[serde(default)]
    append_newline: Bool,
    /// An empty line before the block.
    #[serde(default)]
    prepend_newline: Bool,
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
    place: Option<Regex>,
}

fn marker() -> Text {
    "# {mark} ANSIBLE MANAGED BLOCK".into()
}
fn begin() -> Text {
    "BEGIN".into()
}
fn end() -> Text {
    "END".into()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

impl Module for BlockInFile {
    const NAME: &'static str = "blockinfile";
    const EXAMPLE: &'static str = r##"- name: The cluster's names
  blockinfile:
    path: /etc/hosts
    marker: "# {mark} cluster"
    block: |
      192.0.2.11 node1
      192.0.2.12 node2"##;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("path", &self.path)?;
        self.path.0 = tidy(&self.path);
        if self.insertafter.is_some() && self.insertbefore.is_some() {
            return Err(ArgError::new("insertbefore", "`insertafter` and `insertbefore` exclude each other"));
        }
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        let (first, last) = self.marks();
        if first == last {
            return Err(ArgError::new("marker", "the lines before and after the block are the same")
                .hint("`marker` needs `{mark}`, and `marker_begin` must differ from `marker_end`"));
        }
        if [&first, &last].iter().any(|m| m.contains('\n')) {
            return Err(ArgError::new("marker", "a mark is one line"));
        }
        if self.block.lines().any(|l| l == first || l == last) {
            return Err(ArgError::new("block", "the block holds a line that is one of its marks"));
        }
        let place = match (&self.insertafter, &self.insertbefore) {
            (Some(p), _) if &**p != "EOF" => Some(("insertafter", p)),
            (_, Some(p)) if &**p != "BOF" => Some(("insertbefore", p)),
            _ => None,
        };
        self.place = place.map(|(name, p)| line_regex(name, p)).transpose()?;
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.file().probes()
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let file = self.file();
        let old = match (file.old(seen)?, self.state) {
            (None, State::Absent) => {
                let mut result = Map::new();
                result.insert("msg".into(), json!(format!("File {} not present", self.path.0)));
                return Ok(Decision::satisfied(result));
            }
            _ => file.old_or_new(seen)?,
        };
        let text = utf8(&self.path, old.unwrap_or_default())?;
        let new = self.edited(text)?;
        let msg = match old {
            _ if new == text && old.is_some() => "",
            None => "File created",
            Some(_) if self.is_gone() => "Block removed",
            Some(_) => "Block inserted",
        };
        file.decide(seen, ctx, new.into_bytes(), msg, Map::new())
    }
}

impl BlockInFile {
    fn file(&self) -> Edit<'_> {
        Edit {
            path: &self.path,
            create: self.create.0 && self.state == State::Present,
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: self.validate.as_deref(),
            backup: self.backup.0,
        }
    }

    fn marks(&self) -> (String, String) {
        (self.marker.replace("{mark}", &self.marker_begin), self.marker.replace("{mark}", &self.marker_end))
    }

    fn is_gone(&self) -> bool {
        self.state == State::Absent || self.block.is_empty()
    }

    fn edited(&self, old: &str) -> Result<String, Stop> {
        let (first, last) = self.marks();
        let mut lines: Vec<String> = old.split_inclusive('\n').map(str::to_string).collect();
        let bare = |l: &str| l.strip_suffix('\n').unwrap_or(l).to_string();
        let (mut begins, mut ends) = (None, None);
        for (n, l) in lines.iter().enumerate() {
            let l = bare(l);
            if l == first {
                begins = Some(n);
            }
            if l == last {
                ends = Some(n);
            }
        }
        let mut at = match (begins, ends) {
            (Some(a), Some(b)) => {
                lines.drain(a.min(b)..=a.max(b));
                a.min(b)
            }
            _ => match &self.place {
                Some(re) => {
                    let mut found = None;
                    for (n, l) in lines.iter().enumerate() {
                        let hit =
                            re.is_match(&bare(l)).map_err(|e| Stop::fail(format!("a regular expression: {e}")))?;
                        if hit {
                            found = Some(if self.insertafter.is_some() { n + 1 } else { n });
                        }
                    }
                    found.unwrap_or(lines.len())
                }
                None if self.insertbefore.is_some() => 0,
                None => lines.len(),
            },
        };
        if self.is_gone() {
            return Ok(lines.concat());
        }
        if at > 0
            && let Some(before) = lines.get_mut(at - 1)
            && !before.ends_with('\n')
        {
            before.push('\n');
        }
        if self.prepend_newline.0 && at > 0 && lines[at - 1] != "\n" {
            lines.insert(at, "\n".into());
            at += 1;
        }
        let newline = if self.block.ends_with('\n') { "" } else { "\n" };
        lines.insert(at, format!("{first}\n{}{newline}{last}\n", self.block.0));
        if self.append_newline.0 && lines.get(at + 1).is_some_and(|l| l != "\n") {
            lines.insert(at + 1, "\n".into());
        }
        Ok(lines.concat())
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
    fn module(params: &str) -> BlockInFile {
        bind(&format!("{{path: {P}, {params}}}"))
    }
    /// The new text; what a change foresees must be satisfied.
    fn new(params: &str, old: &str) -> String {
        let m = module(params);
        match m.decide(&with(old), &ctx()).unwrap() {
            Decision::Change(c) => {
                satisfied(m.decide(&then(with(old), &c), &ctx()));
                match c.actions.last() {
                    Some(Action::Put(p)) => String::from_utf8(p.body.to_vec()).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            _ => "(same)".into(),
        }
    }
    const B: &str = "# BEGIN ANSIBLE MANAGED BLOCK\n";
    const E: &str = "# END ANSIBLE MANAGED BLOCK\n";

    #[test]
    fn a_block_comes_and_changes_and_goes() {
        assert_eq!(new("block: \"x\\ny\"", "a\nb"), format!("a\nb\n{B}x\ny\n{E}"));
        assert_eq!(new("block: \"x\\ny\\n\"", &format!("{B}x\ny\n{E}b\n")), "(same)");
        assert_eq!(new("block: z", &format!("a\n{B}x\ny\n{E}b\n")), format!("a\n{B}z\n{E}b\n"));
        assert_eq!(new("block: z, state: absent", &format!("a\n{B}x\n{E}b\n")), "a\nb\n");
        assert_eq!(new("block: ''", &format!("a\n{B}x\n{E}b")), "a\nb");
        assert_eq!(new("state: absent", "a\n"), "(same)");
        // Marks in the wrong order are a block too.
        assert_eq!(new("block: z", &format!("a\n{E}x\n{B}b\n")), format!("a\n{B}z\n{E}b\n"));
    }

    #[test]
    fn places() {
        let f = "a\n[s]\nb\n[s]\nc\n";
        assert_eq!(new("block: z, insertafter: '^\\[s\\]'", f), format!("a\n[s]\nb\n[s]\n{B}z\n{E}c\n"));
        assert_eq!(new("block: z, insertbefore: '^\\[s\\]'", f), format!("a\n[s]\nb\n{B}z\n{E}[s]\nc\n"));
        assert_eq!(new("block: z, insertbefore: BOF", f), format!("{B}z\n{E}{f}"));
        assert_eq!(new("block: z, insertafter: nowhere", f), format!("{f}{B}z\n{E}"));
        let m = "marker: '// {mark} of mine', marker_begin: A, marker_end: Z";
        assert_eq!(new(&format!("block: z, {m}"), ""), "// A of mine\nz\n// Z of mine\n");
    }

    #[test]
    fn empty_lines_around_it() {
        let both = "block: z, append_newline: true, prepend_newline: true, insertafter: a";
        assert_eq!(new(both, "a\nb\n"), format!("a\n\n{B}z\n{E}\nb\n"));
        assert_eq!(new(both, &format!("a\n\n{B}z\n{E}\nb\n")), "(same)");
        assert_eq!(new("block: z, append_newline: true, prepend_newline: true", ""), format!("{B}z\n{E}"));
    }

    #[test]
    fn a_missing_file() {
        let no = || {
            let content = (Probe::Content(P.into()), Answer::Content(Content::Absent));
            seen([at(P, None), at("/etc", Some(entry(EntryKind::Directory, 0o755))), content])
        };
        let Err(Stop::Fail(f)) = module("block: a").decide(&no(), &ctx()) else { panic!() };
        assert_eq!(f.result["rc"], 257);
        let m = module("block: a, create: true, mode: '0600'");
        let c = change(m.decide(&no(), &ctx()));
        assert_eq!(c.result["msg"], "File created");
        satisfied(m.decide(&then(no(), &c), &ctx()));
        satisfied(module("state: absent").decide(&no(), &ctx()));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<BlockInFile>(y).unwrap_err().message;
        assert!(err("{path: /x, marker: same}").contains("same"));
        assert!(err("{path: /x, insertafter: a, insertbefore: b}").contains("exclude"));
        assert!(err("{path: /x, insertafter: 'a('}").contains("`a(`"));
        assert!(err("{path: /x, validate: visudo}").contains("%s"));
        assert!(err("{path: /x, block: '# END ANSIBLE MANAGED BLOCK'}").contains("marks"));
    }
}
