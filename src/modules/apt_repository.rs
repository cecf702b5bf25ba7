//! `apt_repository`: a line among apt's sources.

use super::apt::Apt;
use super::args::{Bool, Mode, Text};
use super::edit::{Edit, utf8};
use super::place::nothing_at;
use super::whole::Whole;
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::shell_quote;
use base64::Engine as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Keeps a source of packages in a `.list` file of apt, and refreshes the package lists when it is new.
///
/// If apt cannot use it, the source is taken back and the step fails. For sources with a key of their own, see
/// `deb822_repository`. Registers `repo`, `sources_added` and `sources_removed` (files).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AptRepository {
    /// The line: `deb [signed-by=/etc/apt/keyrings/x.asc] https://host/debian bookworm main`.
    repo: Text,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
    /// The file in `/etc/apt/sources.list.d`, without `.list`; without it, one named after the address.
    filename: Option<Text>,
    /// Permissions of a new file.
    mode: Option<Mode>,
    /// Refresh the package lists after a change.
    #[serde(default = "yes", alias = "update-cache")]
    #[schemars(extend("x-aliases" = ["update-cache"]))]
    update_cache: Bool,
    /// How often a failed refresh is tried again.
    #[serde(default = "five")]
    update_cache_retries: Whole,
    /// The longest pause between two tries, in seconds.
    #[serde(default = "twelve")]
    update_cache_retry_max_delay: Whole,
    /// Has no effect: nothing needs to be installed for this module.
    #[serde(default)]
    #[allow(dead_code)]
    install_python_apt: Bool,
    #[serde(skip)]
    #[schemars(skip)]
    source: String,
    #[serde(skip)]
    #[schemars(skip)]
    file: String,
    #[serde(skip)]
    #[schemars(skip)]
    refresh: Option<Apt>,
}

fn yes() -> Bool {
    Bool(true)
}
fn five() -> Whole {
    Whole(5)
}
fn twelve() -> Whole {
    Whole(12)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

/// A read-only script: all lines of all sources, each behind its file's name.
const LOOK: &str = "grep -asH '' /etc/apt/sources.list /etc/apt/sources.list.d/*.list\nexit 0";

/// A line that is a source, with its blanks and comments aside; and whether it counts.
fn source(line: &str) -> Option<(String, bool)> {
    let line = line.trim();
    let bare = line.trim_start_matches(|c: char| c == '#' || c.is_whitespace());
    let enabled = bare.len() == line.len();
    let bare = bare.split('#').next().unwrap_or_default();
    let text = bare.replace('[', " [ ").replace(']', " ] ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let (kind, rest) = words.split_first()?;
    if !matches!(*kind, "deb" | "deb-src") {
        return None;
    }
    let (options, place) = match rest.first() {
        Some(&"[") => {
            let end = rest.iter().position(|w| *w == "]")?;
            (&rest[1..end], &rest[end + 1..])
        }
        _ => (&rest[..0], rest),
    };
    // An address, a suite; a suite that is no path has components.
    if place.len() < 2 || !place[0].contains(':') || (place.len() == 2 && !place[1].ends_with('/')) {
        return None;
    }
    let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
    Some((format!("{kind} {options}{}", place.join(" ")), enabled))
}

/// The file's name that an address gives.
fn named_after(source: &str) -> String {
    let address = source.split_whitespace().find(|w| w.contains(':') && !w.contains(['[', '='])).unwrap_or("source");
    let bare = address.split_once("://").map_or(address, |(_, r)| r);
    let bare = bare.split_once('@').map_or(bare, |(_, r)| r);
    let plain: String = bare.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join("_")
}

impl Module for AptRepository {
    const NAME: &'static str = "apt_repository";

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        if self.repo.starts_with("ppa:") {
            return Err(ArgError::new("repo", "a `ppa:` must be looked up at Launchpad, which is not done here")
                .hint("give the line itself: `deb [signed-by=…] https://ppa.launchpadcontent.net/OWNER/NAME/ubuntu SUITE main`"));
        }
        if self.repo.contains(['\n', '\r']) {
            return Err(ArgError::new("repo", "a source is one line"));
        }
        self.source = match source(&self.repo) {
            Some((s, true)) => s,
            _ => {
                return Err(ArgError::new("repo", format!("`{}` is not a source of apt", self.repo.0))
                    .hint("it goes `deb [OPTIONS] URI SUITE COMPONENT…`"));
            }
        };
        let name = self.filename.as_deref().map(|f| f.strip_suffix(".list").unwrap_or(f));
        let name = name.map_or_else(|| named_after(&self.source), str::to_string);
        // Others are passed over by apt.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
            return Err(ArgError::new("filename", format!("apt reads no file called `{name}`"))
                .hint("letters, digits, `_`, `-` and `.`"));
        }
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        self.file = format!("/etc/apt/sources.list.d/{name}.list");
        if self.update_cache.0 {
            let mut apt: Apt = serde_json::from_value(json!({
                "update_cache": true,
                "update_cache_retries": self.update_cache_retries.0,
                "update_cache_retry_max_delay": self.update_cache_retry_max_delay.0,
            }))
            .map_err(|e| ArgError::new("update_cache", e.to_string()))?;
            apt.prepare(local)?;
            self.refresh = Some(apt);
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::Script(LOOK.into())];
        if self.state == State::Present {
            p.extend(self.edit(&self.file, true).probes());
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let said = &seen.script(LOOK)?.stdout;
        let lines = said.lines().filter_map(|l| {
            let at = l.find(".list:")? + ".list".len();
            Some((&l[..at], &l[at + 1..]))
        });
        let ours = |l: &str| source(l).filter(|(s, _)| *s == self.source).map(|(_, enabled)| enabled);
        let found: Vec<(&str, bool)> = lines.filter_map(|(f, l)| Some((f, ours(l)?))).collect();
        let wrong = |enabled: bool| enabled == (self.state == State::Absent);
        let mut files: Vec<&str> = found.iter().filter(|(_, e)| wrong(*e)).map(|(f, _)| *f).collect();
        files.dedup();
        if self.state == State::Present && found.iter().any(|(_, e)| *e) {
            files.clear();
        } else if self.state == State::Present && files.is_empty() {
            files.push(&self.file);
        }
        let (mut added, mut removed) = (vec![], vec![]);
        let mut all = Change::default();
        let (mut revert, mut needs, mut then) = (String::new(), vec![], said.clone());
        for file in &files {
            let edit = self.edit(file, self.state == State::Present);
            let old = match edit.old(seen) {
                Ok(o) => o.map(|b| utf8(file, b)).transpose()?,
                Err(Stop::Need(p)) => {
                    needs.extend(p);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let new = self.text(old.unwrap_or_default(), &ours);
            let q = shell_quote(file);
            then = then.lines().filter(|l| !l.starts_with(&format!("{file}:"))).map(|l| format!("{l}\n")).collect();
            new.lines().for_each(|l| then += &format!("{file}:{l}\n"));
            revert += &match old {
                None => format!("rm -f -- {q}\n"),
                Some(t) => {
                    let b = base64::engine::general_purpose::STANDARD.encode(t);
                    format!("printf %s {b} | base64 -d >{q}\n")
                }
            };
            if new.trim().is_empty() {
                removed.push(*file);
                all.actions.push(Action::Script(format!("rm -f -- {q}")));
                all.touches = all.touches.and(Touches::entry(file));
                all.after.extend(nothing_at(file, file));
                if ctx.diff {
                    all.diff.push(Diff { what: file.to_string(), before: old.map(str::to_string), after: None });
                }
                continue;
            }
            let edit = match old {
                None => Edit { mode: self.mode.as_ref(), ..edit },
                Some(_) => edit,
            };
            if old.is_none() {
                added.push(*file);
            }
            match edit.decide(seen, ctx, new.into_bytes(), "", Map::new())? {
                Decision::Change(c) => {
                    all.actions.extend(c.actions);
                    all.touches = all.touches.and(c.touches);
                    all.after.extend(c.after);
                    all.diff.extend(c.diff);
                }
                _ => continue,
            }
        }
        if !needs.is_empty() {
            return Err(Stop::Need(needs));
        }
        let mut result = Map::new();
        result.insert("repo".into(), json!(self.repo.0));
        result.insert("state".into(), json!(if self.state == State::Present { "present" } else { "absent" }));
        result.insert("sources_added".into(), json!(added));
        result.insert("sources_removed".into(), json!(removed));
        if all.actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let where_ = files.join(", ");
        all.summary = match self.state {
            State::Present => format!("source added to {where_}"),
            State::Absent => format!("source removed from {where_}"),
        };
        if let Some(apt) = &self.refresh
            && let Decision::Change(c) = apt.decide(seen, ctx)?
        {
            let scripts = c.actions.into_iter().filter_map(|a| match a {
                Action::Script(s) => Some(s),
                _ => None,
            });
            let refresh: String = scripts.collect();
            all.summary += ", package lists refreshed";
            all.actions.push(Action::Script(format!(
                "(\n{refresh}\n) && exit 0\nrc=$?\n{revert}echo 'the source was taken back: apt cannot use it' >&2\nexit $rc"
            )));
            all.touches = all.touches.and(c.touches);
            all.after.extend(c.after);
        }
        // Sources that another step looks at are told as they will be.
        all.after.push((Probe::Script(LOOK.into()), Answer::Script(Output { stdout: then, ..Default::default() })));
        all.result = result;
        Ok(Decision::Change(all))
    }
}

impl AptRepository {
    fn edit<'a>(&'a self, path: &'a str, create: bool) -> Edit<'a> {
        Edit { path, create, mode: None, owner: None, group: None, validate: None, backup: false }
    }

    /// A file's text with the source in it, or without.
    fn text(&self, old: &str, ours: &dyn Fn(&str) -> Option<bool>) -> String {
        let mut out = String::new();
        let mut there = false;
        for l in old.lines() {
            match (ours(l), self.state) {
                (Some(true), State::Absent) => continue,
                (Some(false), State::Present) if !there => {
                    there = true;
                    out += l.trim_start_matches(|c: char| c == '#' || c.is_whitespace());
                }
                _ => out += l,
            }
            out.push('\n');
        }
        if self.state == State::Present && !there {
            out += &format!("{}\n", self.repo.trim());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Content, EntryKind};

    const D: &str = "/etc/apt/sources.list.d";

    fn host(files: &[(&str, &str)]) -> Observed {
        let said: String = files.iter().flat_map(|(f, t)| t.lines().map(move |l| format!("{f}:{l}\n"))).collect();
        let mut o = seen([(Probe::Script(LOOK.into()), Answer::Script(Output { stdout: said, ..Default::default() }))]);
        for d in [D, "/etc/apt", "/etc"] {
            let (p, a) = at(d, Some(entry(EntryKind::Directory, 0o755)));
            o.insert(p, a);
        }
        for (f, t) in files {
            let (p, a) = at(f, Some(entry(EntryKind::File, 0o644)));
            o.insert(p, a);
            o.insert(Probe::Content(f.to_string()), Answer::Content(Content::Bytes(t.as_bytes().to_vec())));
        }
        o
    }
    fn nothing(o: &mut Observed, file: &str) {
        nothing_at(file, file).into_iter().for_each(|(p, a)| o.insert(p, a));
    }

    #[test]
    fn a_source_is_known_by_its_words() {
        let s = |t: &str| source(t);
        assert_eq!(s("deb  http://a/b  c main # x"), Some(("deb http://a/b c main".into(), true)));
        assert_eq!(
            s("# deb [ arch=amd64  a=b ] http://a c/"),
            Some(("deb [arch=amd64 a=b] http://a c/".into(), false))
        );
        assert_eq!(s("# a deb comment"), None);
        assert_eq!(s("deb http://a c"), None);
        assert_eq!(
            named_after("deb https://me:pw@artifacts.elastic.co/packages/6.x/apt stable main"),
            "artifacts_elastic_co_packages_6_x_apt"
        );
        assert_eq!(named_after("deb [signed-by=/x:y] http://a.b c d"), "a_b");
    }

    #[test]
    fn a_new_source_gets_a_file_and_the_lists_are_refreshed() {
        let m: AptRepository = bind("{repo: 'deb http://a.b/x c main'}");
        let f = format!("{D}/a_b_x.list");
        let mut o = host(&[("/etc/apt/sources.list", "deb http://d s main\n")]);
        nothing(&mut o, &f);
        let c = change(m.decide(&o, &ctx()));
        assert_eq!(c.summary, format!("source added to {f}, package lists refreshed"));
        assert_eq!(c.result["sources_added"], json!([f]));
        let [Action::Put(p), Action::Script(s)] = c.actions.as_slice() else { panic!("{:?}", c.actions) };
        assert_eq!(p.body.to_vec(), b"deb http://a.b/x c main\n");
        assert!(s.contains("refresh any") && s.contains(&format!("rm -f -- {f}")), "{s}");
        sh_accepts(s);
        satisfied(m.decide(&then(o.clone(), &c), &ctx()));
        let m: AptRepository = bind("{repo: 'deb http://a.b/x c main', filename: mine, update_cache: false}");
        nothing(&mut o, &format!("{D}/mine.list"));
        let c = change(m.decide(&o, &ctx()));
        assert_eq!((c.actions.len(), c.summary), (1, format!("source added to {D}/mine.list")));
    }

    #[test]
    fn a_source_that_is_there_is_left_or_switched_on() {
        let m: AptRepository = bind("{repo: 'deb [a=b] http://a c main', update_cache: false}");
        satisfied(m.decide(&host(&[("/etc/apt/sources.list", "deb [ a=b ]  http://a c main # mine\n")]), &ctx()));
        let o = host(&[("/etc/apt/sources.list", "x\n#deb [a=b] http://a c main\n")]);
        let c = change(m.decide(&o, &ctx()));
        assert_eq!(c.diff[0].after.as_deref(), Some("x\ndeb [a=b] http://a c main\n"));
        satisfied(m.decide(&then(o, &c), &ctx()));
    }

    #[test]
    fn a_source_is_removed_and_with_the_last_its_file() {
        let m: AptRepository = bind("{repo: 'deb http://a c main', state: absent, update_cache: false}");
        satisfied(m.decide(&host(&[("/etc/apt/sources.list", "# deb http://a c main\n")]), &ctx()));
        let (one, two) = (format!("{D}/one.list"), format!("{D}/two.list"));
        let o = || host(&[(&one, "deb http://a c main\n"), (&two, "# x\ndeb http://a c main\ndeb http://b c main\n")]);
        let c = change(m.decide(&o(), &ctx()));
        assert_eq!(c.result["sources_removed"], json!([one]));
        assert_eq!(
            (c.diff[0].after.as_deref(), c.diff[1].after.as_deref()),
            (None, Some("# x\ndeb http://b c main\n"))
        );
        satisfied(m.decide(&then(o(), &c), &ctx()));
    }

    #[test]
    fn mistakes() {
        for (bad, word) in [
            ("{repo: 'ppa:x/y'}", "Launchpad"),
            ("{repo: nonsense}", "not a source"),
            ("{repo: '# deb http://a c main'}", "not a source"),
            ("{repo: 'deb http://a c main', filename: 'a b'}", "no file called"),
            ("{repo: 'deb http://a c main', filename: ../x}", "no file called"),
        ] {
            let e = try_bind::<AptRepository>(bad).unwrap_err();
            assert!(e.message.contains(word), "{bad}: {}", e.message);
        }
    }

    #[test]
    fn the_files_mode_is_as_it_says() {
        let m: AptRepository = bind("{repo: 'deb http://a.b/x c main', mode: '0600'}");
        let mut o = host(&[]);
        nothing(&mut o, &format!("{D}/a_b_x.list"));
        let c = change(m.decide(&o, &ctx()));
        assert!(matches!(&c.actions[0], Action::Put(p) if p.mode == 0o600), "{:?}", c.actions);
    }
}
