//! `script` and `raw`: a script of this side, run on the host; and a line for the host's shell.

use super::args::Text;
use super::command::{guarded, guards, run, split};
use super::copy::absolute;
use super::{ArgError, Ctx, Decision, FileKind, Local, Module, Stop};
use crate::action::CommandLine;
use crate::probe::{Observed, Probe};
use crate::quote::{shell_join, shell_quote};
use base64::Engine as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use std::sync::Arc;

/// Runs a script that lies here, on the host. It is sent over, run and removed.
///
/// Registers `rc`, `stdout`, `stdout_lines`, `stderr`, `stderr_lines`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The script's file, looked for in the role's files/ and beside the playbook, and its arguments, in one line; quotes
    /// keep words together. `$NAME` is not expanded.
    #[serde(alias = "free_form")]
    #[schemars(extend("x-aliases" = ["free_form"]))]
    cmd: Text,
    /// Do not run it if this path exists (a glob).
    creates: Option<Text>,
    /// Run it only if this path exists (a glob).
    removes: Option<Text>,
    /// The folder to run it in.
    chdir: Option<Text>,
    /// What runs it (`python3`, `/bin/bash -e`), instead of its own first line.
    executable: Option<Text>,
    #[serde(skip)]
    #[schemars(skip)]
    words: Vec<String>,
    #[serde(skip)]
    #[schemars(skip)]
    with: Vec<String>,
    #[serde(skip)]
    #[schemars(skip)]
    body: Option<Arc<[u8]>>,
}

/// Runs a line in the host's shell, whatever it is. `shell` has more to offer; this needs less.
///
/// Registers `rc`, `stdout`, `stdout_lines`, `stderr`, `stderr_lines`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The line.
    #[serde(alias = "free_form")]
    #[schemars(extend("x-aliases" = ["free_form"]))]
    cmd: Text,
    /// The shell, an absolute path.
    executable: Option<Text>,
}

impl Module for Script {
    const NAME: &'static str = "script";
    const FREE_FORM: Option<&'static str> = Some("cmd");

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        self.words = split(&self.cmd).map_err(|e| ArgError::new("cmd", e))?;
        let Some(name) = self.words.first().filter(|w| !w.is_empty()) else {
            return Err(ArgError::new("cmd", "no script is named"));
        };
        if name.ends_with('/') {
            return Err(ArgError::new("cmd", format!("`{name}` is a folder")));
        }
        if let Some(e) = &self.executable {
            self.with = split(e).map_err(|e| ArgError::new("executable", e))?;
            if self.with.is_empty() {
                return Err(ArgError::new("executable", "no program is named"));
            }
        }
        let path = local.find(FileKind::File, name).map_err(|e| ArgError { param: vec!["cmd".into()], ..e })?;
        self.body = Some(local.read(&path).map_err(|e| ArgError { param: vec!["cmd".into()], ..e })?.into());
        Ok(())
    }
    fn arguments(&self) -> (&[String], bool) {
        (&self.words, false)
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        guards(self.creates.as_deref(), self.removes.as_deref(), self.chdir.as_deref())
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let chdir = self.chdir.as_deref();
        if let Some(d) = guarded(self.creates.as_deref(), self.removes.as_deref(), chdir, json!(self.cmd.0), seen)? {
            return Ok(d);
        }
        let Some((name, args)) = self.words.split_first() else { return Err(Stop::fail("`script` was not prepared")) };
        let mut result = Map::new();
        result.insert("cmd".into(), json!(self.cmd.0));
        Ok(run(
            CommandLine::Shell { script: self.sent(name, args), shell: "/bin/sh".into() },
            format!("runs {}", shell_join(&self.words)),
            chdir,
            None,
            result,
        ))
    }
}

impl Script {
    /// What puts the script into a folder of its own, runs it and takes the folder away, however it ends.
    fn sent(&self, name: &str, args: &[String]) -> String {
        let mut lines = String::new();
        let body = self.body.as_deref().unwrap_or_default();
        for chunk in base64::engine::general_purpose::STANDARD.encode(body).as_bytes().chunks(1000) {
            lines.push_str(&String::from_utf8_lossy(chunk));
            lines.push('\n');
        }
        let file = shell_quote(name.rsplit('/').next().unwrap_or(name));
        let with = if self.with.is_empty() { String::new() } else { format!("{} ", shell_join(&self.with)) };
        let args = if args.is_empty() { String::new() } else { format!(" {}", shell_join(args)) };
        // Some folders take files and let none of them be run.
        format!(
            r#"w=
trap '[ -z "$w" ] || rm -rf -- "$w"' EXIT
trap 'exit 143' TERM INT HUP
for p in "${{TMPDIR:-/tmp}}" /var/tmp "$HOME" /run; do
  w=$(umask 077; mktemp -d "$p/.windlass-script.XXXXXXXX" 2>/dev/null) || {{ w=; continue; }}
  printf '#!/bin/sh\n' >"$w/.try" && chmod 700 "$w/.try" && "$w/.try" 2>/dev/null && break
  rm -rf -- "$w"
  w=
done
[ -n "$w" ] || {{ echo 'no folder on this host lets a script be put there and run (full, read-only or noexec?)' >&2; exit 126; }}
rm -f -- "$w/.try"
base64 -d >"$w"/{file} <<'windlass-end' && chmod 700 -- "$w"/{file} || exit 126
{lines}windlass-end
{with}"$w"/{file}{args} 3<&-"#
        )
    }
}

impl Module for Raw {
    const NAME: &'static str = "raw";
    const FREE_FORM: Option<&'static str> = Some("cmd");

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.cmd.trim().is_empty() {
            return Err(ArgError::new("cmd", "the line is empty"));
        }
        self.executable.as_deref().map_or(Ok(()), |e| absolute("executable", e))
    }
    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let shell = self.executable.as_deref().unwrap_or("/bin/sh").to_string();
        let first = self.cmd.trim().lines().next().unwrap_or_default().to_string();
        let mut result = Map::new();
        result.insert("cmd".into(), json!(self.cmd.0));
        Ok(run(CommandLine::Shell { script: self.cmd.0.clone(), shell }, format!("runs {first}"), None, None, result))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::probe::EntryKind;

    fn sent(m: &Script) -> String {
        let c = change(m.decide(&seen([at("/m", None)]), &ctx()));
        assert!(c.touches.everything);
        let [Action::Command(r)] = c.actions.as_slice() else { panic!() };
        let CommandLine::Shell { script, .. } = &r.what else { panic!() };
        script.clone()
    }

    #[test]
    fn the_script_runs_with_its_arguments_and_leaves_nothing() {
        let mut m: Script = bind("cmd: '\"sub/a b.sh\" \"one two\" $HOME'");
        assert_eq!(m.words, ["sub/a b.sh", "one two", "$HOME"]);
        m.body = Some(Arc::from(&b"#!/bin/sh\nfor a; do echo \"<$a>\"; done; echo \"$0\" >&2; exit 5\n"[..]));
        let dir = tempfile::tempdir().unwrap();
        let s = sent(&m);
        sh_accepts(&s);
        let out = std::process::Command::new("sh").arg("-c").arg(&s).env("TMPDIR", dir.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "<one two>\n<$HOME>\n");
        assert!(String::from_utf8_lossy(&out.stderr).trim().ends_with("/a b.sh"));
        assert_eq!(out.status.code(), Some(5));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_program_may_run_it_and_bytes_stay_bytes() {
        let mut m: Script = bind("{cmd: x, executable: 'cat -A'}");
        m.body = Some(Arc::from(&b"\xff\0\n'windlass-end'\n"[..]));
        let out = std::process::Command::new("sh").arg("-c").arg(sent(&m)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "M-^?^@$\n'windlass-end'$\n");
    }

    #[test]
    fn creates_and_removes_decide_without_running() {
        let m: Script = bind("{cmd: x, creates: /m}");
        assert_eq!(m.probes(&ctx()), [Probe::Path("/m".into())]);
        satisfied(m.decide(&seen([at("/m", Some(entry(EntryKind::File, 0o644)))]), &ctx()));
        let m: Script = bind("{cmd: x, removes: /m}");
        satisfied(m.decide(&seen([at("/m", None)]), &ctx()));
    }

    #[test]
    fn raw_is_a_line_for_a_shell() {
        let m: Raw = bind("{cmd: 'a | b; c', executable: /bin/bash}");
        let c = change(m.decide(&seen([]), &ctx()));
        let [Action::Command(r)] = c.actions.as_slice() else { panic!() };
        assert_eq!(r.what, CommandLine::Shell { script: "a | b; c".into(), shell: "/bin/bash".into() });
        assert_eq!(c.summary, "runs a | b; c");
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Script>("{cmd: ''}").unwrap_err().message.contains("no script"));
        assert!(try_bind::<Script>("{cmd: \"a 'b\"}").unwrap_err().message.contains("not closed"));
        assert!(try_bind::<Script>("{cmd: d/}").unwrap_err().message.contains("folder"));
        assert!(try_bind::<Raw>("{cmd: ' '}").unwrap_err().message.contains("empty"));
        assert!(try_bind::<Raw>("{cmd: a, executable: bash}").unwrap_err().message.contains("absolute"));
    }
}
