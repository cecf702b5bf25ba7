//! `locale_gen`: the locales a host has.

use super::args::List;
use super::edit::{Edit, utf8};
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Makes locales, or takes them away, with `/etc/locale.gen` and locale-gen (Debian, Ubuntu, Arch, Gentoo).
///
/// Registers `name` and `mechanism`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocaleGen {
    /// The locales: `de_DE.UTF-8`.
    name: List,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

const FILE: &str = "/etc/locale.gen";

/// A read-only script: which locales there are, and which there could be.
const LOOK: &str = "command -v locale-gen >/dev/null 2>&1 || exit 127\nlocale -a 2>/dev/null | sed 's/^/is /'\n\
                    sed -n 's/^[[:blank:]]*\\([^#[:blank:]][^[:blank:]]*\\)[[:blank:]].*/can &/p' /usr/share/i18n/SUPPORTED 2>/dev/null\nexit 0";

/// A locale's name as `locale -a` writes it: `de_DE.utf8`.
fn normal(name: &str) -> String {
    let Some((place, rest)) = name.split_once('.') else { return name.to_string() };
    let (charset, modifier) = match rest.split_once('@') {
        Some((c, m)) => (c, format!("@{m}")),
        None => (rest, String::new()),
    };
    let charset: String = charset.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    format!("{place}.{charset}{modifier}")
}

/// Locale and charset of a line, and whether it counts.
fn listed(line: &str) -> Option<(&str, &str, bool)> {
    let bare = line.trim().trim_start_matches(|c: char| c == '#' || c.is_whitespace());
    let mut words = bare.split_whitespace();
    let (name, charset) = (words.next()?, words.next()?);
    let it_is = words.next().is_none_or(|w| w.starts_with('#'))
        && charset.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    (it_is && (name.contains('_') || name.contains('.'))).then_some((name, charset, !line.trim().starts_with('#')))
}

impl Module for LocaleGen {
    const NAME: &'static str = "locale_gen";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.name.is_empty() {
            return Err(ArgError::new("name", "`locale_gen` needs a `name`"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-@".contains(c);
        match self.name.iter().find(|n| n.is_empty() || !n.chars().all(plain)) {
            Some(n) => Err(ArgError::new("name", format!("`{n}` is not a locale's name"))
                .hint("a language, a country and a charset: `de_DE.UTF-8`")),
            None => Ok(()),
        }
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::Script(LOOK.into())];
        p.extend(edit().probes());
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let out = seen.script(LOOK)?;
        if out.rc == 127 {
            return Err(Stop::fail_hint(
                "there is no locale-gen on the host",
                "install it first: `apt: {name: locales}`",
            ));
        }
        let old = match edit().old(seen)? {
            Some(b) => utf8(FILE, b)?,
            None => {
                return Err(Stop::fail(format!("there is no {FILE} on the host: it makes its locales in another way")));
            }
        };
        let is: Vec<&str> = out.stdout.lines().filter_map(|l| l.strip_prefix("is ")).collect();
        let has = |name: &str| is.iter().any(|i| normal(i) == normal(name));
        let wrong: Vec<&String> = self.name.iter().filter(|n| has(n) != (self.state == State::Present)).collect();
        let mut result = Map::new();
        result.insert("name".into(), json!(self.name.0));
        result.insert("mechanism".into(), json!("glibc"));
        if wrong.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let mut lines: Vec<String> = old.lines().map(str::to_string).collect();
        for name in &wrong {
            let same = |n: &str| normal(n) == normal(name);
            match self.state {
                State::Absent => {
                    for l in lines.iter_mut().filter(|l| listed(l).is_some_and(|(n, _, on)| on && same(n))) {
                        *l = format!("# {}", l.trim_start());
                    }
                }
                State::Present if lines.iter().any(|l| listed(l).is_some_and(|(n, _, on)| on && same(n))) => {}
                State::Present => {
                    if let Some(l) = lines.iter_mut().find(|l| listed(l).is_some_and(|(n, ..)| same(n))) {
                        *l = l.trim_start_matches(|c: char| c == '#' || c.is_whitespace()).to_string();
                        continue;
                    }
                    let could = out.stdout.lines().filter_map(|l| l.strip_prefix("can "));
                    let Some((n, charset, _)) = could.filter_map(listed).find(|(n, ..)| same(n)) else {
                        return Err(Stop::fail_hint(
                            format!("the host knows no locale {name}"),
                            "`less /usr/share/i18n/SUPPORTED` shows those it could make",
                        ));
                    };
                    lines.push(format!("{n} {charset}"));
                }
            }
        }
        let new: String = lines.iter().map(|l| format!("{l}\n")).collect();
        let mut c = match edit().decide(seen, ctx, new.into_bytes(), "", Map::new())? {
            Decision::Change(c) => c,
            // The file is right, the locale is not made yet.
            _ => super::Change::default(),
        };
        c.actions.push(Action::Script("LC_ALL=C locale-gen </dev/null".into()));
        c.touches = c.touches.and(Touches::path("/usr/lib/locale"));
        let mut said: String = out
            .stdout
            .lines()
            .filter(|l| l.strip_prefix("is ").is_none_or(|i| !wrong.iter().any(|w| normal(w) == normal(i))))
            .map(|l| format!("{l}\n"))
            .collect();
        if self.state == State::Present {
            wrong.iter().for_each(|w| said += &format!("is {}\n", normal(w)));
        }
        c.after.push((Probe::Script(LOOK.into()), Answer::Script(Output { stdout: said, ..Default::default() })));
        let names = wrong.iter().map(|w| w.as_str()).collect::<Vec<_>>().join(", ");
        c.summary = format!("{} {names}", if self.state == State::Present { "makes" } else { "takes away" });
        c.result = result;
        Ok(Decision::Change(c))
    }
}

fn edit() -> Edit<'static> {
    Edit { path: FILE, create: false, mode: None, owner: None, group: None, validate: None, backup: false }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::{Content, EntryKind};

    fn host(is: &str, file: &str) -> Observed {
        let is: String = is.split_whitespace().map(|i| format!("is {i}\n")).collect();
        let stdout = format!("{is}can de_AT.UTF-8 UTF-8\ncan nb_NO ISO-8859-1\n");
        seen([
            (Probe::Script(LOOK.into()), Answer::Script(Output { stdout, ..Default::default() })),
            at(FILE, Some(entry(EntryKind::File, 0o644))),
            (Probe::Content(FILE.into()), Answer::Content(Content::Bytes(file.into()))),
        ])
    }
    fn after(params: &str, is: &str, file: &str) -> String {
        let m: LocaleGen = bind(params);
        match m.decide(&host(is, file), &ctx()) {
            Ok(Decision::Change(c)) => {
                assert!(matches!(c.actions.last(), Some(Action::Script(s)) if s.contains("locale-gen")));
                satisfied(m.decide(&then(host(is, file), &c), &ctx()));
                c.diff.first().map_or("as it was".into(), |d| d.after.clone().unwrap())
            }
            Ok(Decision::Satisfied(_)) => "same".into(),
            Err(Stop::Fail(f)) => f.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn locales_are_made() {
        let file = "# This is a comment_of a kind\n# de_DE.UTF-8 UTF-8\n#en_US.UTF-8 UTF-8\n";
        assert_eq!(after("{name: de_DE.UTF-8}", "C POSIX", file), file.replace("# de_DE", "de_DE"));
        assert_eq!(after("{name: [de_DE.utf8, en_US.UTF-8]}", "C de_DE.utf8", file), file.replace("#en_US", "en_US"));
        assert_eq!(after("{name: de_AT.UTF-8}", "C", file), format!("{file}de_AT.UTF-8 UTF-8\n"));
        assert_eq!(after("{name: de_DE.UTF-8}", "de_DE.utf8", ""), "same");
        assert_eq!(after("{name: de_DE.UTF-8}", "C", "de_DE.UTF-8 UTF-8\n"), "as it was");
        assert_eq!(after("{name: xx_XX.UTF-8}", "C", file), "the host knows no locale xx_XX.UTF-8");
    }

    #[test]
    fn locales_are_taken_away() {
        let file = "de_DE.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n";
        assert_eq!(after("{name: de_DE.UTF-8, state: absent}", "de_DE.utf8 en_US.utf8", file), format!("# {file}"));
        assert_eq!(after("{name: de_DE.UTF-8, state: absent}", "en_US.utf8", file), "same");
    }

    #[test]
    fn names() {
        assert_eq!(normal("de_DE.UTF-8@euro"), "de_DE.utf8@euro");
        assert_eq!(listed("# nb_NO.UTF-8 UTF-8  "), Some(("nb_NO.UTF-8", "UTF-8", false)));
        assert_eq!(listed("# a comment of it"), None);
        sh_accepts(LOOK);
        assert!(try_bind::<LocaleGen>("{name: []}").is_err() && try_bind::<LocaleGen>("{name: 'a b;'}").is_err());
    }
}
