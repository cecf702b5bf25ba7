//! `ini_file`: options in sections.

use super::args::{Bool, Mode, Text};
use super::copy::absolute;
use super::edit::{Edit, utf8};
use super::place::tidy;
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{Observed, Probe};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

/// Keeps an option in a section of a file.
///
/// Registers `path` and `msg`; `backup_file` where one was kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IniFile {
    /// The file on the host. Also `dest`.
    #[serde(alias = "dest")]
    #[schemars(extend("x-aliases" = ["dest"]))]
    path: Text,
    /// The section; without it, the lines before the first one.
    section: Option<Text>,
    /// The option; without it, the section as a whole.
    option: Option<Text>,
    /// Its value.
    value: Option<Text>,
    /// Its values, a line each.
    values: Option<Vec<Text>>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// No other lines with this option are left in the section. With `absent`: whatever its value is.
    #[serde(default = "yes")]
    exclusive: Bool,
    /// `a=b`, not `a = b`.
    #[serde(default)]
    no_extra_spaces: Bool,
    /// A line that differs in blanks only is left alone.
    #[serde(default)]
    ignore_spaces: Bool,
    /// The option may stand without a value.
    #[serde(default)]
    allow_no_value: Bool,
    /// A comment that holds the option becomes the option.
    #[serde(default = "yes")]
    modify_inactive_option: Bool,
    /// Make the file (and its folder) if there is none.
    #[serde(default = "yes")]
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
}

fn yes() -> Bool {
    Bool(true)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

impl Module for IniFile {
    const NAME: &'static str = "ini_file";
    const EXAMPLE: &'static str = r#"- name: A setting
  ini_file:
    path: /etc/app.ini
    section: log
    option: level
    value: info
    mode: "0644""#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("path", &self.path)?;
        self.path.0 = tidy(&self.path);
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        if self.value.is_some() && self.values.is_some() {
            return Err(ArgError::new("values", "`value` and `values` exclude each other"));
        }
        let one_line = |name: &str, t: &Text| match t.contains('\n') {
            true => Err(ArgError::new(name, format!("`{name}` has more than one line"))),
            false => Ok(()),
        };
        let values = self.values.iter().flatten().map(|v| ("values", v));
        let all = [("section", &self.section), ("option", &self.option), ("value", &self.value)];
        for (name, t) in all.into_iter().filter_map(|(n, t)| Some((n, t.as_ref()?))).chain(values) {
            one_line(name, t)?;
        }
        if self.option.as_deref().is_some_and(|o| o.trim().is_empty()) {
            return Err(ArgError::new("option", "the option's name is empty"));
        }
        let none = self.wanted().is_empty();
        if self.state == State::Present && self.option.is_some() && none && !self.allow_no_value.0 {
            return Err(ArgError::new("value", "`ini_file` needs a `value` (or `values`) for an option")
                .hint("`allow_no_value: true` for one without"));
        }
        if self.state == State::Present && self.option.is_none() && (self.section.is_none() || !none) {
            return Err(ArgError::new("option", "`ini_file` needs an `option`, or a `section` alone"));
        }
        if self.state == State::Absent && self.option.is_none() && self.section.is_none() {
            return Err(ArgError::new("section", "`state: absent` needs a `section` or an `option`"));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.file().probes()
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let file = self.file();
        let mut result = Map::new();
        result.insert("path".into(), self.path.0.clone().into());
        let old = match (file.old(seen)?, self.state) {
            (None, State::Absent) => {
                result.insert("msg".into(), "OK".into());
                return Ok(Decision::satisfied(result));
            }
            _ => file.old_or_new(seen)?,
        };
        let text = utf8(&self.path, old.unwrap_or_default())?;
        let (new, msg) = self.edited(text);
        file.decide(seen, ctx, new.into_bytes(), msg, result)
    }
}

/// A line that is about the option.
struct Hit {
    /// It is a comment.
    inactive: bool,
    value: String,
}

impl IniFile {
    fn file(&self) -> Edit<'_> {
        Edit {
            path: &self.path,
            create: self.create.0 && self.state == State::Present,
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: None,
            backup: self.backup.0,
        }
    }

    fn wanted(&self) -> Vec<String> {
        self.value.iter().chain(self.values.iter().flatten()).map(|v| v.0.clone()).collect()
    }

    fn line(&self, option: &str, value: &str) -> String {
        match self.no_extra_spaces.0 {
            true => format!("{option}={value}\n"),
            false => format!("{option} = {value}\n"),
        }
    }

    /// The option in a line: blanks, perhaps the sign of a comment, its name, and a value or the line's end.
    fn hit(option: &str, line: &str) -> Option<Hit> {
        let blank = [' ', '\t'];
        let line = line.trim_end_matches('\n').trim_start_matches(blank);
        let bare = line.strip_prefix(['#', ';']);
        let rest = bare.unwrap_or(line).trim_start_matches(blank).strip_prefix(option)?.trim_start_matches(blank);
        let value = match rest.strip_prefix('=') {
            Some(v) => v.trim_start_matches(blank),
            None if rest.is_empty() => "",
            None => return None,
        };
        Some(Hit { inactive: bare.is_some(), value: value.to_string() })
    }

    /// The new text, and what was done.
    fn edited(&self, old: &str) -> (String, &'static str) {
        // The mark some editors begin a file with is no part of its first line.
        if let Some(bare) = old.strip_prefix('\u{feff}') {
            let (new, msg) = self.edited(bare);
            return (format!("\u{feff}{new}"), msg);
        }
        let mut lines: Vec<String> = old.split_inclusive('\n').map(str::to_string).collect();
        if let Some(last) = lines.last_mut()
            && !last.ends_with('\n')
        {
            last.push('\n');
        }
        let is_head = |l: &str| l.starts_with('[');
        let (start, end) = match self.section.as_deref().map(str::trim).filter(|s| !s.is_empty()) {
            None => (Some(0), lines.iter().position(|l| is_head(l)).unwrap_or(lines.len())),
            Some(name) => {
                let named = |l: &str| {
                    let inner = l.strip_prefix('[').and_then(|l| l.trim_start().strip_prefix(name));
                    inner.is_some_and(|rest| rest.trim_start().starts_with(']'))
                };
                let start = lines.iter().position(|l| named(l));
                let after = start.map_or(lines.len(), |s| s + 1);
                let end = lines[after..].iter().position(|l| is_head(l)).map_or(lines.len(), |n| after + n);
                (start, end)
            }
        };
        let Some(start) = start else {
            if self.state == State::Absent {
                return (old.to_string(), "OK");
            }
            lines.push(format!("[{}]\n", self.section.as_deref().unwrap_or_default().trim()));
            let mut msg = "only section added";
            if let Some(o) = &self.option {
                msg = "section and option added";
                let values = self.wanted();
                lines.extend(values.iter().map(|v| self.line(o, v)));
                if values.is_empty() {
                    lines.push(format!("{}\n", o.0));
                }
            }
            return (lines.concat(), msg);
        };
        let tail = lines.split_off(end);
        let section = lines.split_off(start);
        let (section, msg) = match (self.state, &self.option) {
            (State::Present, None) => (section, "OK"),
            (State::Present, Some(o)) => self.with(o, section),
            (State::Absent, Some(o)) => self.without(o, section),
            (State::Absent, None) => (vec![], "section removed"),
        };
        let new = [lines, section, tail].concat().concat();
        // A last line without an end is no reason to write the file.
        let same = new == old || new.strip_suffix('\n') == Some(old);
        if same { (old.to_string(), "OK") } else { (new, msg) }
    }

    /// The section's lines with the option as it should be.
    fn with(&self, option: &str, mut lines: Vec<String>) -> (Vec<String>, &'static str) {
        let mut wanted = self.wanted();
        let mut msg = "OK";
        // Lines that are as they should be by now.
        let mut done = vec![false; lines.len()];
        let usable = |l: &str| Self::hit(option, l).filter(|h| self.modify_inactive_option.0 || !h.inactive);
        let mut put = |line: &mut String, new: String| {
            let alike = self.ignore_spaces.0
                && matches!((Self::hit(option, line), Self::hit(option, &new)),
                    (Some(a), Some(b)) if !a.inactive && a.value == b.value);
            if !alike && *line != new {
                *line = new;
                msg = "option changed";
            }
        };
        let bare = wanted.is_empty();
        let mut bare_done = false;
        // An active line comes before a comment that says the same.
        for inactive in [false, true] {
            for (n, line) in lines.iter_mut().enumerate() {
                let Some(h) = usable(line).filter(|h| h.inactive == inactive && !done[n]) else { continue };
                if bare {
                    if !bare_done {
                        put(line, format!("{option}\n"));
                        (done[n], bare_done) = (true, true);
                    }
                } else if let Some(at) = wanted.iter().position(|w| *w == h.value) {
                    let value = wanted.remove(at);
                    let new = if value.is_empty() && self.allow_no_value.0 {
                        format!("{option}\n")
                    } else {
                        self.line(option, &value)
                    };
                    put(line, new);
                    done[n] = true;
                }
            }
        }
        if self.exclusive.0 {
            for inactive in [false, true] {
                for (n, line) in lines.iter_mut().enumerate() {
                    if wanted.is_empty() {
                        break;
                    }
                    if !done[n] && usable(line).is_some_and(|h| h.inactive == inactive) {
                        put(line, self.line(option, &wanted.remove(0)));
                        done[n] = true;
                    }
                }
            }
            let mut kept = done.iter();
            let before = lines.len();
            lines.retain(|l| {
                let done = kept.next().is_some_and(|d| *d);
                done || Self::hit(option, l).is_none_or(|h| h.inactive)
            });
            if lines.len() != before {
                msg = "option changed";
            }
        }
        let mut new: Vec<String> = wanted.iter().map(|v| self.line(option, v)).collect();
        if bare && !bare_done {
            new.push(format!("{option}\n"));
        }
        if !new.is_empty() {
            // Behind the last line that says something; what comes after belongs to what follows.
            let says = |l: &String| {
                let t = l.trim();
                !t.is_empty() && !t.starts_with(['#', ';'])
            };
            let at = lines.iter().rposition(says).map_or(0, |n| n + 1);
            lines.splice(at..at, new);
            msg = "option added";
        }
        (lines, msg)
    }

    /// The section's lines without the option; with `exclusive: false`, without these values of it.
    fn without(&self, option: &str, mut lines: Vec<String>) -> (Vec<String>, &'static str) {
        let wanted = self.wanted();
        lines.retain(|l| match Self::hit(option, l) {
            Some(h) if !h.inactive => !self.exclusive.0 && !wanted.contains(&h.value),
            _ => true,
        });
        (lines, "option changed")
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::probe::{Answer, Content, EntryKind};

    const P: &str = "/etc/x.ini";

    fn with(body: &str) -> Observed {
        seen([
            at(P, Some(entry(EntryKind::File, 0o640))),
            (Probe::Content(P.into()), Answer::Content(Content::Bytes(body.into()))),
        ])
    }
    fn module(params: &str) -> IniFile {
        bind(&format!("{{path: {P}, {params}}}"))
    }
    /// The new text and the message; what a change foresees must be satisfied.
    fn edit(params: &str, old: &str) -> (String, String) {
        let m = module(params);
        match m.decide(&with(old), &ctx()).unwrap() {
            Decision::Change(c) => {
                satisfied(m.decide(&then(with(old), &c), &ctx()));
                match c.actions.last() {
                    Some(Action::Put(p)) => (String::from_utf8(p.body.to_vec()).unwrap(), c.summary),
                    other => panic!("{other:?}"),
                }
            }
            _ => ("(same)".into(), String::new()),
        }
    }
    fn new(params: &str, old: &str) -> String {
        edit(params, old).0
    }

    const F: &str = "top = 1\n\n[a]\nk = 1\n# note\n\n[ b ]\nk=1\n;x = 2\n";

    #[test]
    fn an_option_is_changed_or_added() {
        assert_eq!(edit("section: a, option: k, value: 2", F).1, "option changed");
        assert_eq!(new("section: a, option: k, value: 2", F), F.replace("k = 1", "k = 2"));
        assert_eq!(new("section: b, option: k, value: 2, no_extra_spaces: true", F), F.replace("k=1", "k=2"));
        assert_eq!(new("section: a, option: k, value: 1", F), "(same)");
        assert_eq!(new("section: b, option: k, value: 1", F), F.replace("k=1", "k = 1"));
        assert_eq!(new("section: b, option: k, value: 1, ignore_spaces: true", F), "(same)");
        assert_eq!(
            edit("section: a, option: n, value: 2", F),
            (F.replace("k = 1\n#", "k = 1\nn = 2\n#"), "option added".into())
        );
        assert_eq!(new("option: top, value: 2", F), F.replace("top = 1", "top = 2"));
        assert_eq!(new("option: second, value: 2", F), F.replace("top = 1", "top = 1\nsecond = 2"));
        assert_eq!(new("option: k, value: 2", "[a]\n"), "k = 2\n[a]\n");
    }

    #[test]
    fn a_comment_becomes_the_option() {
        assert_eq!(new("section: b, option: x, value: 3", F), F.replace(";x = 2", "x = 3"));
        assert_eq!(
            new("section: b, option: x, value: 3, modify_inactive_option: false", F),
            F.replace("k=1\n", "k=1\nx = 3\n")
        );
        assert_eq!(new("section: s, option: k, value: 1", "[s]\n#k = 1\nk = 2\n"), "[s]\nk = 1\n");
    }

    #[test]
    fn a_section_is_added() {
        assert_eq!(
            edit("section: c, option: k, value: 1", "x"),
            ("x\n[c]\nk = 1\n".into(), "section and option added".into())
        );
        assert_eq!(edit("section: c", "").1, "only section added");
        assert_eq!(new("section: a", F), "(same)");
        let f = "[x[0]y]\nk = 1\n[ z ]\nk = 1\n";
        assert_eq!(new("section: 'x[0]y', option: k, value: 2", f), f.replacen('1', "2", 1));
        assert_eq!(new("section: 'x[0]y', option: k, value: 1", f), "(same)");
        assert_eq!(new("section: z, option: k, value: 1", f), "(same)");
        let bom = "\u{feff}[a]\nk = 1\n";
        assert_eq!(new("section: a, option: k, value: 1", bom), "(same)");
        assert_eq!(new("section: a, option: k, value: 2", bom), "\u{feff}[a]\nk = 2\n");
        assert_eq!(new("section: c, option: k, allow_no_value: true", ""), "[c]\nk\n");
    }

    #[test]
    fn several_values() {
        let f = "[s]\nk = 1\nk = 2\nk = 3\n";
        assert_eq!(new("section: s, option: k, values: [1, 4]", f), "[s]\nk = 1\nk = 4\n");
        assert_eq!(new("section: s, option: k, values: [1, 4], exclusive: false", f), format!("{f}k = 4\n"));
        assert_eq!(new("section: s, option: k, values: [3, 1, 2]", f), "(same)");
        assert_eq!(new("section: s, option: k, value: 2", f), "[s]\nk = 2\n");
    }

    #[test]
    fn no_value() {
        assert_eq!(new("section: s, option: k, allow_no_value: true", "[s]\nk = 1\n"), "[s]\nk\n");
        assert_eq!(new("section: s, option: k, allow_no_value: true", "[s]\nk\n"), "(same)");
        assert_eq!(new("section: s, option: k, value: 1", "[s]\nk\n"), "[s]\nk = 1\n");
        assert_eq!(new("section: s, option: skip-x, allow_no_value: true", "[s]\nskip-xy\n"), "[s]\nskip-xy\nskip-x\n");
    }

    #[test]
    fn what_is_not_wanted_goes() {
        assert_eq!(new("section: a, option: k, state: absent", F), F.replace("k = 1\n", ""));
        assert_eq!(new("section: b, option: x, state: absent", F), "(same)");
        assert_eq!(new("section: b, state: absent", F), "top = 1\n\n[a]\nk = 1\n# note\n\n");
        assert_eq!(new("section: c, state: absent", F), "(same)");
        let f = "[s]\nk = 1\nk = 2\n";
        assert_eq!(new("section: s, option: k, value: 2, state: absent, exclusive: false", f), "[s]\nk = 1\n");
        satisfied(module("section: b, state: absent").decide(&seen([at(P, None)]), &ctx()));
    }

    #[test]
    fn a_file_is_made() {
        let no = || {
            let content = (Probe::Content(P.into()), Answer::Content(Content::Absent));
            seen([at(P, None), at("/etc", Some(entry(EntryKind::Directory, 0o755))), content])
        };
        let m = module("section: s, option: k, value: 1, mode: '0600'");
        let c = change(m.decide(&no(), &ctx()));
        satisfied(m.decide(&then(no(), &c), &ctx()));
        let Err(Stop::Fail(f)) = module("section: s, create: false").decide(&no(), &ctx()) else { panic!() };
        assert_eq!(f.result["rc"], 257);
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<IniFile>(y).unwrap_err().message;
        assert!(err("{path: /x, section: a, option: k}").contains("value"));
        assert!(err("{path: /x, value: a}").contains("option"));
        assert!(err("{path: /x, section: a, option: k, value: \"a\\nb\"}").contains("line"));
        assert!(err("{path: /x, section: a, option: k, value: a, values: [b]}").contains("exclude"));
        assert!(err("{path: /x, state: absent}").contains("section"));
    }
}
