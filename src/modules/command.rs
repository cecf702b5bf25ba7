//! `command` and `shell`: whatever else must be run.

use super::args::{List, Text};
use super::copy::absolute;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Report, Stop};
use crate::action::{Action, Command as Run, CommandLine};
use crate::probe::{Observed, Probe, Touches};
use crate::quote::shell_join;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Runs a command without a shell.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The command and its arguments, in one line; quotes keep words together.
    cmd: Option<Text>,
    /// The command and its arguments, a list.
    argv: Option<List>,
    /// Do not run it if this path exists (a glob).
    creates: Option<Text>,
    /// Run it only if this path exists (a glob).
    removes: Option<Text>,
    /// The folder to run it in.
    chdir: Option<Text>,
    /// What it reads from standard input.
    stdin: Option<Text>,
    /// End the text of `stdin` with a newline.
    #[serde(default = "yes")]
    stdin_add_newline: super::args::Bool,
    /// Expand `$NAME` and `~` in the arguments.
    #[serde(default = "yes")]
    expand_argument_vars: super::args::Bool,
    #[serde(skip)]
    #[schemars(skip)]
    words: Vec<String>,
}

fn yes() -> super::args::Bool {
    super::args::Bool(true)
}

/// Runs a script of shell.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// The script.
    cmd: Text,
    /// Do not run it if this path exists (a glob).
    creates: Option<Text>,
    /// Run it only if this path exists (a glob).
    removes: Option<Text>,
    /// The folder to run it in.
    chdir: Option<Text>,
    /// What it reads from standard input.
    stdin: Option<Text>,
    /// End the text of `stdin` with a newline.
    #[serde(default = "yes")]
    stdin_add_newline: super::args::Bool,
    /// The shell, an absolute path.
    executable: Option<Text>,
}

impl Module for Command {
    const NAME: &'static str = "command";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("cmd", "The command, word by word."),
        ("rc", "Its exit code."),
        ("stdout, stdout_lines", "What it printed."),
        ("stderr, stderr_lines", "What it printed on standard error."),
        (
            "start, end, delta",
            "When it began and ended by the clock here (UTC), and how long that was, way there and back included.",
        ),
        ("msg", "Why it was not run, where `creates` or `removes` says so."),
    ];
    const EXAMPLE: &'static str = r#"- name: A new cluster, once
  command: initdb --data /srv/db
  args: {creates: /srv/db/PG_VERSION}"#;
    const FREE_FORM: Option<&'static str> = Some("cmd");

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        self.words = match (&self.cmd, &self.argv) {
            (Some(_), Some(_)) => return Err(ArgError::new("argv", "`cmd` and `argv` exclude each other")),
            (None, None) => return Err(ArgError::new("", "`command` needs `cmd` or `argv`")),
            (Some(c), None) => split(c).map_err(|e| ArgError::new("cmd", e))?,
            (None, Some(a)) => a.0.clone(),
        };
        if self.words.is_empty() {
            return Err(ArgError::new("cmd", "the command is empty"));
        }
        Ok(())
    }
    fn arguments(&self) -> (&[String], bool) {
        (&self.words, self.expand_argument_vars.0)
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        guards(self.creates.as_deref(), self.removes.as_deref(), self.chdir.as_deref())
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let chdir = self.chdir.as_deref();
        if let Some(d) = guarded(self.creates.as_deref(), self.removes.as_deref(), chdir, json!(self.words), seen)? {
            return Ok(d);
        }
        let expand = self.expand_argument_vars.0;
        let mut result = Map::new();
        result.insert("cmd".into(), json!(self.words));
        Ok(run(
            CommandLine::Words { words: self.words.clone(), expand },
            format!("runs {}", shell_join(&self.words)),
            chdir,
            stdin(self.stdin.as_deref(), self.stdin_add_newline.0),
            result,
        ))
    }
}

impl Module for Shell {
    const NAME: &'static str = "shell";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("cmd", "The command, word by word."),
        ("rc", "Its exit code."),
        ("stdout, stdout_lines", "What it printed."),
        ("stderr, stderr_lines", "What it printed on standard error."),
        (
            "start, end, delta",
            "When it began and ended by the clock here (UTC), and how long that was, way there and back included.",
        ),
        ("msg", "Why it was not run, where `creates` or `removes` says so."),
    ];
    const EXAMPLE: &'static str = r#"- name: The newest backup
  shell: ls -1t /var/backups/*.gz | head -n 1
  register: newest
  changed_when: false"#;
    const FREE_FORM: Option<&'static str> = Some("cmd");

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.cmd.trim().is_empty() {
            return Err(ArgError::new("cmd", "the script is empty"));
        }
        self.executable.as_deref().map_or(Ok(()), |e| absolute("executable", e))
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        guards(self.creates.as_deref(), self.removes.as_deref(), self.chdir.as_deref())
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let chdir = self.chdir.as_deref();
        if let Some(d) = guarded(self.creates.as_deref(), self.removes.as_deref(), chdir, json!(self.cmd.0), seen)? {
            return Ok(d);
        }
        let shell = self.executable.as_deref().unwrap_or("/bin/sh").to_string();
        let first = self.cmd.trim().lines().next().unwrap_or_default().to_string();
        let mut result = Map::new();
        result.insert("cmd".into(), json!(self.cmd.0));
        Ok(run(
            CommandLine::Shell { script: self.cmd.0.clone(), shell },
            format!("runs {first}"),
            chdir,
            stdin(self.stdin.as_deref(), self.stdin_add_newline.0),
            result,
        ))
    }
}

fn stdin(text: Option<&str>, newline: bool) -> Option<String> {
    text.map(|t| if newline && !t.ends_with('\n') { format!("{t}\n") } else { t.to_string() })
}

/// `creates` and `removes` may hold wildcards and variables, and be relative to `chdir`: a script looks.
fn guard(pattern: &str, chdir: Option<&str>) -> Probe {
    if pattern.starts_with('/') && !pattern.contains(['*', '?', '[', '$']) {
        return Probe::Path(pattern.to_string());
    }
    let cd = chdir.map_or(String::new(), |c| format!("cd -- {} && ", crate::host::word(c)));
    Probe::Script(format!(
        "{cd}for f in {}; do [ -e \"$f\" ] || [ -L \"$f\" ] && exit 0; done; exit 1",
        wildcards(pattern)
    ))
}

/// A pattern as a word of a shell: all is quoted but the wildcards themselves, `$NAME` and a leading `~`.
fn wildcards(pattern: &str) -> String {
    let mut word = String::new();
    let mut plain = String::new();
    let flush = |word: &mut String, plain: &mut String| {
        let text = std::mem::take(plain);
        // Only the pattern's own beginning is a home.
        match text.strip_prefix('~').filter(|_| !word.is_empty()) {
            _ if text.is_empty() => {}
            Some(rest) => {
                word.push_str(&format!("'~'{}", if rest.is_empty() { String::new() } else { crate::host::word(rest) }))
            }
            None => word.push_str(&crate::host::word(&text)),
        }
    };
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let set = (c == '[').then(|| set_of(rest)).flatten();
        match (c, set) {
            ('*' | '?', _) => {
                flush(&mut word, &mut plain);
                word.push(c);
            }
            (_, Some((not, inside))) => {
                flush(&mut word, &mut plain);
                word.push_str(if not { "[!" } else { "[" });
                for c in inside.chars() {
                    match c.is_ascii_alphanumeric() || "-_.".contains(c) {
                        true => word.push(c),
                        false => word.push_str(&format!("\"{}{c}\"", if "\"\\$`".contains(c) { "\\" } else { "" })),
                    }
                }
                word.push(']');
                rest = &rest[usize::from(not) + inside.len() + 1..];
            }
            _ => plain.push(c),
        }
    }
    flush(&mut word, &mut plain);
    word
}

/// What stands behind a `[` up to its `]`: whether it begins with `!`, and the signs.
fn set_of(rest: &str) -> Option<(bool, &str)> {
    let inside = rest.strip_prefix('!').unwrap_or(rest);
    let end = 1 + inside.get(1..)?.find(']')?;
    (!inside[..end].contains('/')).then_some((rest.len() > inside.len(), &inside[..end]))
}

pub(super) fn guards(creates: Option<&str>, removes: Option<&str>, chdir: Option<&str>) -> Vec<Probe> {
    creates.iter().chain(removes.iter()).map(|p| guard(p, chdir)).collect()
}

fn exists(pattern: &str, chdir: Option<&str>, seen: &Observed) -> Result<bool, Stop> {
    match guard(pattern, chdir) {
        // A link that leads nowhere is there too.
        Probe::Path(p) => Ok(seen.path(&p)?.entry.is_some()),
        Probe::Script(s) => Ok(seen.script(&s)?.rc == 0),
        _ => Ok(false),
    }
}

pub(super) fn guarded(
    creates: Option<&str>,
    removes: Option<&str>,
    chdir: Option<&str>,
    cmd: serde_json::Value,
    seen: &Observed,
) -> Result<Option<Decision>, Stop> {
    let (path, why) = match (creates, removes) {
        (Some(c), _) if exists(c, chdir, seen)? => (c, "exists"),
        (_, Some(r)) if !exists(r, chdir, seen)? => (r, "does not exist"),
        _ => return Ok(None),
    };
    let mut result = Map::new();
    result.insert("cmd".into(), cmd);
    result.insert("msg".into(), json!(format!("Did not run command since '{path}' {why}")));
    for when in ["start", "end", "delta"] {
        result.insert(when.into(), json!(null));
    }
    let why = format!("{path} {why}");
    result.insert("rc".into(), json!(0));
    result.insert("stdout".into(), json!(format!("skipped, since {why}")));
    result.insert("stdout_lines".into(), json!([format!("skipped, since {why}")]));
    result.insert("stderr".into(), json!(""));
    result.insert("stderr_lines".into(), json!([]));
    Ok(Some(Decision::Satisfied(Report { result, ..Default::default() })))
}

pub(super) fn run(
    what: CommandLine,
    summary: String,
    chdir: Option<&str>,
    stdin: Option<String>,
    result: Map<String, serde_json::Value>,
) -> Decision {
    Decision::Change(Change {
        actions: vec![Action::Command(Run { what, chdir: chdir.map(str::to_string), stdin, ..Default::default() })],
        touches: Touches::everything(),
        summary,
        result,
        ..Default::default()
    })
}

/// Splits a line into words as a POSIX shell would, without expanding anything.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let w = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => w.push(c),
                        None => return Err("a single quote is not closed".into()),
                    }
                }
            }
            '"' => {
                let w = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => w.push(c),
                            Some('\n') => {}
                            Some(c) => {
                                w.push('\\');
                                w.push(c);
                            }
                            None => return Err("a double quote is not closed".into()),
                        },
                        Some(c) => w.push(c),
                        None => return Err("a double quote is not closed".into()),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => word.get_or_insert_default().push('\\'),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::EntryKind;

    #[test]
    fn runs_and_touches_everything() {
        let m: Command = bind("{cmd: 'touch \"/a b\" x'}");
        let c = change(m.decide(&seen([]), &ctx()));
        assert!(c.touches.everything);
        let [Action::Command(r)] = c.actions.as_slice() else { panic!() };
        assert_eq!(r.what, CommandLine::Words { words: vec!["touch".into(), "/a b".into(), "x".into()], expand: true });
    }

    #[test]
    fn creates_and_removes_decide_without_running() {
        let m: Command = bind("{cmd: touch /m, creates: /m}");
        assert_eq!(m.probes(&ctx()), [Probe::Path("/m".into())]);
        satisfied(m.decide(&seen([at("/m", Some(entry(EntryKind::File, 0o644)))]), &ctx()));
        change(m.decide(&seen([at("/m", None)]), &ctx()));
        let m: Shell = bind("{cmd: rm /m, removes: /m}");
        satisfied(m.decide(&seen([at("/m", None)]), &ctx()));
    }

    #[test]
    fn creates_and_removes_take_variables_wildcards_and_dangling_links() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().display().to_string();
        for name in ["b", "$x", "~", "a]b", "it's"] {
            std::fs::write(t.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", t.path().join("dangling")).unwrap();
        let is_there = |pattern: &str| match guard(pattern, None) {
            Probe::Script(s) => {
                let mut sh = std::process::Command::new("sh");
                sh.args(["-c", &s]).env("HOME", &d).env("SUB", "b").env_remove("NOPE");
                sh.status().unwrap().success()
            }
            p => exists(pattern, None, &look([p])).unwrap(),
        };
        let yes = [
            "$HOME/b",
            "${HOME}/$SUB",
            "~/b",
            "D/dangling",
            "D/[!a]",
            "D/[b]",
            "D/$x",
            "D/*]b",
            "D/?t's",
            "D/*ngling",
            "D/?",
        ];
        for p in yes {
            let p = p.replace('D', &d);
            assert!(is_there(&p), "{p}: {:?}", guard(&p, None));
        }
        for p in ["$HOME/c", "D/[!b~]", "D/[!b]b", "D/$NOPE", "D/x*", "D/[b", "D/[", "~/*x/~"] {
            let p = p.replace('D', &d);
            assert!(!is_there(&p), "{p}: {:?}", guard(&p, None));
        }
        let m: Command = bind(&format!("{{cmd: 'a b', creates: {d}/b}}"));
        let r = satisfied(m.decide(&look(m.probes(&ctx())), &ctx())).result;
        assert_eq!(
            (&r["cmd"], &r["msg"]),
            (&json!(["a", "b"]), &json!(format!("Did not run command since '{d}/b' exists")))
        );
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(split(r#"a 'b c' "d \"e" f\ g ''"#).unwrap(), ["a", "b c", "d \"e", "f g", ""]);
        assert!(split("a 'b").is_err());
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Command>("{}").unwrap_err().message.contains("needs `cmd`"));
        assert!(try_bind::<Command>("{cmd: \"a 'b\"}").unwrap_err().message.contains("not closed"));
        assert!(try_bind::<Shell>("{cmd: ' '}").unwrap_err().message.contains("empty"));
    }
}
