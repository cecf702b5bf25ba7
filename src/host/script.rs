//! A request as shell: the actions of one step, then the probes of what comes next.

use crate::action::{Action, Body, Command, CommandLine, Put};
use crate::probe::{self, Asked, Probe};
use crate::quote::{shell_join, shell_quote};
use base64::Engine as _;
use std::collections::HashMap;
use std::fmt::Write as _;

/// What is sent to a host at once. The actions run in order, up to the first that fails; the probes always.
#[derive(Debug, Default)]
pub struct Request<'a> {
    pub actions: &'a [Action],
    pub probes: &'a [Probe],
    /// What was done for actions beforehand, by their index.
    pub staged: HashMap<usize, Staged>,
}

/// What was done for an action before its request.
#[derive(Debug, Clone, PartialEq)]
pub enum Staged {
    /// Its body is in this file of the host.
    File { path: String, size: u64, keep: bool },
    /// All of it.
    Done,
    /// It failed, with these words.
    Failed(String),
}

impl Request<'_> {
    /// The request as one group command (the shell runs nothing of it before it has all of it), and how to read
    /// the answers.
    pub fn script(&self, nonce: &str, sequence: u64) -> (String, Asked) {
        let mut s = String::from("{ w_ok=1\n");
        for (i, a) in self.actions.iter().enumerate() {
            let id = format!("{sequence}a{i}");
            let _ = writeln!(s, "if [ $w_ok = 1 ] && w_tmp; then");
            match a {
                Action::Put(p) => match (self.staged.get(&i), &p.body) {
                    (Some(Staged::Failed(why)), _) => failed(&mut s, why, &id),
                    (Some(Staged::File { path, size, .. }), _) => put_staged(&mut s, p, path, *size, &id),
                    (_, Body::Bytes(b)) => put(&mut s, p, b, nonce, &id),
                    (_, Body::Download(_)) => failed(&mut s, "the file was not brought over", &id),
                },
                Action::Fetch(_) => match self.staged.get(&i) {
                    Some(Staged::Done) => {
                        let _ = writeln!(s, ": >\"$w_dir/o{id}\" 2>\"$w_dir/e{id}\"");
                    }
                    Some(Staged::Failed(why)) => failed(&mut s, why, &id),
                    _ => failed(&mut s, "the file was not brought over", &id),
                },
                Action::Script(text) => {
                    let _ = writeln!(
                        s,
                        "(trap - PIPE HUP; exec 9>&-\n{text}\n) </dev/null >\"$w_dir/o{id}\" 2>\"$w_dir/e{id}\""
                    );
                }
                Action::Command(c) => command(&mut s, c, nonce, &id),
            }
            let _ = writeln!(s, "w_result {id} $?\nfi");
        }
        let ours = self.staged.values().filter_map(|s| match s {
            Staged::File { path, keep: false, .. } => Some(path),
            _ => None,
        });
        let ours: Vec<&String> = ours.collect();
        if !ours.is_empty() {
            let _ = writeln!(s, "rm -f -- {}", shell_join(ours));
        }
        let asked = probe::ask(self.probes, sequence, &mut s);
        let _ = writeln!(s, "w_m end {sequence}\n}} </dev/null");
        (s, asked)
    }
}

/// A script that ends a session's shell and all that it has started.
pub fn ending(process: u32) -> String {
    format!("w_root={process}\n{}", include_str!("ending.sh"))
}

/// The name a file has until it is complete. It is fixed, so that a run that was killed leaves at most one behind,
/// which the next run replaces.
fn unfinished(path: &str) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{dir}/.{name}.windlass~")
}

/// An action that came to nothing before its turn.
fn failed(s: &mut String, why: &str, id: &str) {
    let _ = writeln!(s, "{{ printf '%s\\n' {} >&2; false; }} >\"$w_dir/o{id}\" 2>\"$w_dir/e{id}\"", shell_quote(why));
}

/// What `chown` is told; nothing: the owner stays.
fn own(p: &Put) -> String {
    let spec = match (&p.owner, &p.group) {
        (None, None) => String::new(),
        (o, g) => format!("{}{}", o.as_deref().unwrap_or(""), g.as_ref().map(|g| format!(":{g}")).unwrap_or_default()),
    };
    shell_quote(&spec)
}

/// The same of what is only to be kept, if it can be.
fn keep(p: &Put) -> String {
    p.keeps.as_ref().map(|k| format!("w_keep={}; ", shell_quote(k))).unwrap_or_default()
}

fn put_staged(s: &mut String, p: &Put, from: &str, size: u64, id: &str) {
    let (path, new) = (shell_quote(&p.path), shell_quote(&unfinished(&p.path)));
    let from = shell_quote(from);
    let _ =
        writeln!(s, "( [ \"$(wc -c <{from})\" -eq {size} ] || {{ echo 'the file did not arrive whole' >&2; exit 1; }}");
    let _ = writeln!(s, "{}w_put {path} {new} {:04o} {} cat -- {from} </dev/null || exit 1", keep(p), p.mode, own(p));
    finish(s, p, &path, &new, id);
}

fn put(s: &mut String, p: &Put, bytes: &[u8], nonce: &str, id: &str) {
    let (path, new_q) = (shell_quote(&p.path), shell_quote(&unfinished(&p.path)));
    let as_text = std::str::from_utf8(bytes).ok().filter(|t| !t.contains('\0'));
    let (reader, body) = match as_text {
        Some(t) => (format!("head -c {}", t.len()), t.to_string()),
        None => {
            let mut lines = String::new();
            let coded = base64::engine::general_purpose::STANDARD.encode(bytes);
            for chunk in coded.as_bytes().chunks(1000) {
                lines.push_str(&String::from_utf8_lossy(chunk));
                lines.push('\n');
            }
            ("base64 -d".to_string(), lines)
        }
    };
    let reader = if bytes.is_empty() { "true".to_string() } else { reader };
    let _ = write!(
        s,
        "( {}w_put {path} {new_q} {:04o} {} {reader} <<'{nonce}'\n{body}\n{nonce}\n",
        keep(p),
        p.mode,
        own(p)
    );
    s.push_str("[ $? -eq 0 ] || exit 1\n");
    finish(s, p, &path, &new_q, id);
}

/// The new file is written beside its place: check it, keep the old one if wanted, move it there.
fn finish(s: &mut String, p: &Put, path: &str, new_q: &str, id: &str) {
    if let Some(v) = &p.validate {
        let _ = writeln!(s, "{} || {{ w_rc=$?; rm -f -- {new_q}; exit $w_rc; }}", validating(v, &unfinished(&p.path)));
    }
    if let Some(kept) = &p.backup {
        let kept = shell_quote(kept);
        let _ = writeln!(s, "cp -p --remove-destination -- {path} {kept} || {{ rm -f -- {new_q}; exit 1; }}");
    }
    let _ = writeln!(s, "w_place {path} {new_q}\n) >\"$w_dir/o{id}\" 2>\"$w_dir/e{id}\"");
}

fn command(s: &mut String, c: &Command, nonce: &str, id: &str) {
    s.push_str("(trap - PIPE HUP; exec 9>&-\n");
    if let Some(dir) = &c.chdir {
        let _ = writeln!(s, "cd -- {} || exit 1", expanding(dir));
    }
    for (k, v) in &c.environment {
        let _ = writeln!(s, "{k}={}; export {k}", shell_quote(v));
    }
    // A here-document always ends in a newline; one that must not is cut.
    let cut = c.stdin.as_ref().filter(|t| !t.is_empty() && !t.ends_with('\n'));
    match cut {
        Some(text) => {
            let _ = write!(s, "head -c {} <<'{nonce}0' | ", text.len());
        }
        None => s.push_str("exec "),
    }
    if let Some(t) = c.timeout {
        let _ = write!(s, "timeout -k 5 {t} ");
    }
    let mut heredocs = String::new();
    match &c.what {
        CommandLine::Words { words: all, expand } => s.push_str(&words(all, *expand)),
        CommandLine::Shell { script, shell } => {
            // On a descriptor: in an argument, every user of the host could read it.
            let _ = write!(s, "{} /dev/fd/3 3<<'{nonce}3'", shell_quote(shell));
            let _ = write!(heredocs, "{script}\n{nonce}3\n");
        }
    }
    match (&c.stdin, cut) {
        (Some(text), Some(_)) => heredocs.insert_str(0, &format!("{text}\n{nonce}0\n")),
        (Some(text), None) => {
            let _ = write!(s, " <<'{nonce}0'");
            let _ = writeln!(heredocs, "{text}{nonce}0");
        }
        (None, _) => s.push_str(" </dev/null"),
    }
    let _ = writeln!(s, "\n{heredocs}) >\"$w_dir/o{id}\" 2>\"$w_dir/e{id}\"");
}

/// Words as a line for a shell, expanded or as they are.
pub fn words(words: &[String], expand: bool) -> String {
    match expand {
        true => words.iter().map(|w| expanding(w)).collect::<Vec<_>>().join(" "),
        false => shell_join(words),
    }
}

/// A command that looks at a file before it is moved into place, and says so where it refuses it. Without a shell of
/// its own: what it is made of cannot break out of the request.
pub fn validating(words: &[String], file: &str) -> String {
    let (file, mut line) = (shell_quote(file), String::new());
    for word in words {
        let piece = |p: &str| if p.is_empty() { String::new() } else { expanding(&p.replace("%%", "%")) };
        let word = match word.is_empty() {
            true => "''".to_string(),
            false => word.split("%s").map(piece).collect::<Vec<_>>().join(&file),
        };
        line += &format!("{word} ");
    }
    let refused = "r=$?; echo \"\\`validate\\` refused the new file: exit code $r\" >&2; (exit $r);";
    format!("{{ (exec 9>&-; exec {line}) || {{ {refused} }}; }}")
}

/// Variables of a session's shell that no command sees.
fn is_shells_own(name: &str) -> bool {
    const OWN: &[&str] = &[
        "BASH",
        "BASHOPTS",
        "BASHPID",
        "BASH_VERSION",
        "EPOCHSECONDS",
        "EUID",
        "GROUPS",
        "HOSTTYPE",
        "IFS",
        "LINENO",
        "MACHTYPE",
        "OPTIND",
        "OSTYPE",
        "PPID",
        "PS1",
        "PS2",
        "PS4",
        "RANDOM",
        "SECONDS",
        "SHELLOPTS",
        "SRANDOM",
        "UID",
        "_",
    ];
    name.starts_with("w_") || OWN.contains(&name)
}

/// One word with what is in it expanded.
pub fn word(text: &str) -> String {
    expanding(text)
}

/// One word with `$NAME`, `${NAME}` and a leading `~` or `~user` expanded by the shell; a name that is not set stays as it is.
fn expanding(word: &str) -> String {
    let mut out = String::new();
    let mut literal = String::new();
    let mut rest = word;
    if word == "~" || word.starts_with("~/") {
        out.push_str("\"$HOME\"");
        rest = &word[1..];
    } else if word.starts_with('~') {
        let end = word.find('/').map_or(word.len(), |s| s + 1);
        if word[1..end].trim_end_matches('/').chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
            out.push_str(&word[..end]);
            rest = &word[end..];
        }
    }
    let flush = |out: &mut String, literal: &mut String| {
        if !literal.is_empty() {
            out.push_str(&shell_quote(literal));
            literal.clear();
        }
    };
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (name, used) = match tail.strip_prefix('{') {
            Some(t) => match t.find('}') {
                Some(end) => (&t[..end], end + 2),
                None => ("", 0),
            },
            None => {
                let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                (&tail[..end], end)
            }
        };
        if crate::vars::is_name(name) && !is_shells_own(name) {
            flush(&mut out, &mut literal);
            let whole = &rest[at..at + 1 + used];
            let _ = write!(out, "\"${{{name}-{}}}\"", whole.replace('$', "\\$").replace('}', "\\}"));
            rest = &rest[at + 1 + used..];
        } else {
            literal.push('$');
            rest = tail;
        }
    }
    literal.push_str(rest);
    flush(&mut out, &mut literal);
    if out.is_empty() { "''".into() } else { out }
}

/// The names of variables that the shell will put into words.
pub fn expanded_names(words: &[String]) -> impl Iterator<Item = &str> {
    words.iter().flat_map(|w| w.split('$').skip(1)).filter_map(|after| {
        let name = after.strip_prefix('{').unwrap_or(after);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        crate::vars::is_name(&name[..end]).then_some(&name[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_session_knows_stays_as_it_is() {
        let names = ["w_nonce", "w_dir", "w_ok", "PPID", "PS1", "PS2", "PS4", "IFS", "OPTIND"];
        let script: String = names
            .iter()
            .map(|n| format!("w_ok=1 w_dir=/x w_nonce=y\nprintf '%s|' {}\n", expanding(&format!("${n}"))))
            .collect();
        let out = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let want: String = names.iter().map(|n| format!("${n}|")).collect();
        assert_eq!(String::from_utf8_lossy(&out.stdout), want, "{script}");
    }

    #[test]
    fn a_validating_command_is_words_and_no_shell() {
        let t = tempfile::tempdir().unwrap();
        let file = t.path().join("a 'b");
        std::fs::write(&file, "x\n").unwrap();
        let judge = |validate: &str| {
            let words = crate::modules::split_words(validate).unwrap();
            let line = validating(&words, &file.display().to_string());
            let script = format!("( {line} || {{ echo rc $?; exit 1; }}\necho in place\n)");
            let out = std::process::Command::new("sh").arg("-c").arg(&script).env("WANT", "x").output().unwrap();
            (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned())
        };
        assert_eq!(judge("grep -q x %s").0, "in place\n");
        assert_eq!(judge("grep -q $WANT %s\n").0, "in place\n");
        assert_eq!(
            judge("sh -c 'exit 3' %s"),
            ("rc 3\n".into(), "`validate` refused the new file: exit code 3\n".into())
        );
        assert_eq!(judge("sh -c 'grep -q \"$1\" \"$2\"' '' x %s").0, "in place\n");
        assert_eq!(judge("test 5%% = '5%' -a -f %s").0, "in place\n");
        for no in ["grep -q y %s # look", "exit 0; %s", "true; grep y %s", "grep y %s || true"] {
            assert!(judge(no).0.starts_with("rc "), "{no}");
        }
    }

    #[test]
    fn words_expand_as_set_and_stay_as_they_are_when_not() {
        let script = [
            "a b",
            "$HOME/x",
            "${NOPE}",
            "it's $NOPE",
            "~/y",
            "~root",
            "~root/$HOME",
            "~no-one/x",
            "5$",
            "$(id)",
            "a}b",
        ]
        .iter()
        .map(|w| format!("printf '%s|' {}\n", expanding(w)))
        .collect::<String>();
        let out = std::process::Command::new("sh")
            .arg("-c")
            .arg(&script)
            .env("HOME", "/h o")
            .env_remove("NOPE")
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            "a b|/h o/x|${NOPE}|it's $NOPE|/h o/y|/root|/root//h o|~no-one/x|5$|$(id)|a}b|",
            "{script}"
        );
    }
}
