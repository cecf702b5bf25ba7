//! Inventories that a program prints, in the form Ansible's scripts have: `--list`, and `--host NAME` where there is no `_meta`.

use super::build::Builder;
use crate::source::{Diagnostic, Entry, Kind, Node, Source, Span, display_path, yaml};
use crate::vars::{self, Vars};
use serde_json::Value;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a program may take for one answer.
const LIMIT: Duration = Duration::from_secs(60);
/// What it may print, in bytes.
const MOST: u64 = 64 << 20;

/// Runs the program and reads what it prints.
pub fn read(path: &Path, b: &mut Builder) {
    let shown = display_path(path);
    let executable = std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
    if !executable {
        let d = Diagnostic::error(format!("{} is a program, and may not be executed", shown.display()));
        let hint =
            format!("if it prints an inventory: chmod +x {}; otherwise keep it in another folder", shown.display());
        b.found.push(d.hint(hint));
        return;
    }
    let root = match answer(path, &["--list"], LIMIT) {
        Ok(n) => n,
        Err(d) => return b.found.push(d),
    };
    let before: Vec<String> = b.inventory.hosts.keys().cloned().collect();
    groups(&root, b);
    if root.get("_meta").is_some() {
        return;
    }
    let named: Vec<String> = b.inventory.hosts.keys().filter(|h| !before.contains(h)).cloned().collect();
    for host in named {
        match answer(path, &["--host", &host], LIMIT) {
            Ok(n) => {
                let vars = vars::from_node(&n, &format!("what is printed for `{host}`"), b.opener, &mut b.found);
                b.set_host_vars(&host, vars);
            }
            // One that has no answer for a host has none for the next either.
            Err(d) => return b.found.push(d),
        }
    }
}

/// What a program prints, as data with places in it.
fn answer(path: &Path, args: &[&str], limit: Duration) -> Result<Node, Diagnostic> {
    let name = format!("{} {}", display_path(path).display(), args.join(" "));
    let text =
        run(path, args, limit).map_err(|(what, hint)| Diagnostic::error(format!("{name}: {what}")).hint(hint))?;
    let source = Source::new(&name, text);
    let value: Value = serde_json::from_str(&source.text).map_err(|e| {
        let at = source.offset(e.line().max(1), e.column().max(1));
        let d = Diagnostic::error(format!("{name} prints no JSON")).at(&Span::new(&source, at..at));
        d.hint("it must print one JSON object on standard output, and all else on standard error")
    })?;
    // Read as YAML it has places; what is JSON and no YAML has none.
    Ok(yaml::parse(&source).ok().filter(|n| n.to_value() == value).unwrap_or_else(|| without_places(&value, &source)))
}

fn without_places(v: &Value, source: &Arc<Source>) -> Node {
    let span = Span::new(source, 0..0);
    let kind = match v {
        Value::Null => Kind::Null,
        Value::Bool(x) => Kind::Bool(*x),
        Value::Number(n) => Kind::Number(n.clone()),
        Value::String(s) => Kind::Str(s.clone()),
        Value::Array(a) => Kind::Seq(a.iter().map(|v| without_places(v, source)).collect()),
        Value::Object(o) => Kind::Map(
            o.iter()
                .map(|(k, v)| Entry { key: k.clone(), key_span: span.clone(), value: without_places(v, source) })
                .collect(),
        ),
    };
    Node { span, tag: None, kind }
}

/// Standard output, or what went wrong and what to do.
fn run(path: &Path, args: &[&str], limit: Duration) -> Result<String, (String, String)> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let again = format!("see what it says: {} {}", display_path(path).display(), args.join(" "));
    let mut command = Command::new(absolute);
    // A group of its own: what it starts ends with it.
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command
        .spawn()
        .map_err(|e| (format!("cannot be run: {e}"), "is the program in its first line there?".into()))?;
    let group = rustix::process::Pid::from_child(&child);
    let reader = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut all = vec![];
            let _ = stream.map(|s| s.take(MOST + 1).read_to_end(&mut all));
            all
        })
    };
    let out = reader(child.stdout.take().map(|s| Box::new(s) as _));
    let err = reader(child.stderr.take().map(|s| Box::new(s) as _));
    let begun = Instant::now();
    let kill = || {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    };
    let status = loop {
        match child.try_wait() {
            // Its streams may be held open by what it left behind.
            Ok(Some(s)) if out.is_finished() && err.is_finished() => break s,
            Ok(Some(_) | None) if begun.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
            Ok(_) => {
                kill();
                let _ = child.wait();
                let said = last_lines(&err.join().unwrap_or_default());
                return Err((format!("no answer within {} s{said}", limit.as_secs()), again));
            }
            Err(e) => {
                kill();
                return Err((format!("cannot be waited for: {e}"), again));
            }
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if !status.success() {
        let how = status.code().map_or_else(|| "was killed".to_string(), |c| format!("ended with exit code {c}"));
        return Err((format!("{how}{}", last_lines(&err)), again));
    }
    if out.len() as u64 > MOST {
        return Err(("prints more than any inventory has".into(), again));
    }
    String::from_utf8(out).map_err(|_| ("prints what is not UTF-8 text".into(), again))
}

/// The end of standard error, to be added to a message.
fn last_lines(err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let text = console::strip_ansi_codes(text.trim());
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(6)..];
    if last.is_empty() { String::new() } else { format!("\n{}", last.join("\n")) }
}

/// Whether a document has the form that Ansible's scripts print: hosts in lists, variables in `_meta`.
pub fn is_printed(root: &Node) -> bool {
    let list = |n: Option<&Node>| n.is_some_and(|n| n.as_seq().is_some());
    root.as_map().unwrap_or_default().iter().any(|e| {
        e.key == "_meta" || list(Some(&e.value)) || list(e.value.get("hosts")) || list(e.value.get("children"))
    })
}

/// Reads groups and hosts in that form.
pub fn groups(root: &Node, b: &mut Builder) {
    let Some(entries) = root.as_map() else {
        let d = Diagnostic::error(format!("an inventory is a mapping of groups, not {}", root.what())).at(&root.span);
        return b.found.push(d.hint("print {\"GROUP\": {\"hosts\": [\"NAME\"]}, \"_meta\": {\"hostvars\": {}}}"));
    };
    for e in entries.iter().filter(|e| e.key != "_meta") {
        group(e, b);
    }
    let Some(of_hosts) = root.get("_meta").and_then(|m| m.get("hostvars")) else { return };
    let Some(entries) = of_hosts.as_map() else {
        let d = Diagnostic::error(format!("`hostvars` must be a mapping of hosts, not {}", of_hosts.what()));
        return b.found.push(d.at(&of_hosts.span).hint("print {\"HOST\": {\"NAME\": \"VALUE\"}}"));
    };
    for e in entries {
        let vars = vars::from_node(&e.value, &format!("the host `{}`", e.key), b.opener, &mut b.found);
        // As in Ansible, one that no group names is none.
        b.set_host_vars(&e.key, vars);
    }
}

fn group(e: &Entry, b: &mut Builder) {
    if !b.declare_group(&e.key, &e.key_span) {
        return;
    }
    let parts = ["hosts", "children", "vars"];
    match &e.value.kind {
        Kind::Null => {}
        Kind::Seq(_) => hosts(&e.key, &e.value, b),
        Kind::Map(m) if m.is_empty() => {}
        Kind::Map(m) if m.iter().any(|x| parts.contains(&x.key.as_str())) => {
            if let Some(n) = e.value.get("hosts") {
                hosts(&e.key, n, b);
            }
            if let Some(n) = e.value.get("children") {
                for (child, span) in names(n, "`children`", b) {
                    if b.declare_group(&child, &span) {
                        b.add_child(&e.key, &child, &span);
                    }
                }
            }
            if let Some(n) = e.value.get("vars") {
                let vars = vars::from_node(n, &format!("`vars` of the group `{}`", e.key), b.opener, &mut b.found);
                b.set_group_vars(&e.key, vars);
            }
        }
        // The oldest form: one host of that name, with its variables.
        Kind::Map(_) => {
            let vars = vars::from_node(&e.value, &format!("the host `{}`", e.key), b.opener, &mut b.found);
            b.add_hosts(&e.key, &e.key, &e.key_span, vars);
        }
        _ => {
            let d =
                Diagnostic::error(format!("the group `{}` must be a mapping or a list, not {}", e.key, e.value.what()));
            b.found.push(d.at(&e.value.span).hint("a group has `hosts`, `children` and `vars`"));
        }
    }
}

fn hosts(group: &str, node: &Node, b: &mut Builder) {
    for (name, span) in names(node, "`hosts`", b) {
        b.add_hosts(group, &name, &span, Vars::new());
    }
}

/// Names in a list (or the keys of a mapping), each with its place.
fn names(node: &Node, what: &str, b: &mut Builder) -> Vec<(String, Span)> {
    let mut all = vec![];
    match &node.kind {
        Kind::Null => {}
        Kind::Map(m) => all.extend(m.iter().map(|e| (e.key.clone(), e.key_span.clone()))),
        Kind::Seq(items) => {
            for i in items {
                match i.as_str() {
                    Some(s) => all.push((s.to_string(), i.span.clone())),
                    None => b.found.push(
                        Diagnostic::error(format!("{what} is a list of names, and {} stands in it", i.what()))
                            .at(&i.span)
                            .hint("put quotes round each name"),
                    ),
                }
            }
        }
        _ => b.found.push(
            Diagnostic::error(format!("{what} must be a list of names, not {}", node.what()))
                .at(&node.span)
                .hint("write [\"one\", \"two\"]"),
        ),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(dir: &tempfile::TempDir, body: &str) -> std::path::PathBuf {
        let path = dir.path().join("inventory");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn one_that_hangs_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let path = script(&dir, &format!("echo why >&2\n(sleep 3; touch {}) & wait", mark.display()));
        let begun = Instant::now();
        let (what, _) = run(&path, &["--list"], Duration::from_millis(300)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert!(what.starts_with("no answer within 0 s") && what.ends_with("why"), "{what}");
        std::thread::sleep(Duration::from_millis(3200));
        assert!(!mark.exists());
    }

    #[test]
    fn what_it_says_of_its_failure_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(&dir, "echo no credentials >&2; exit 3");
        let (what, _) = run(&path, &["--list"], LIMIT).unwrap_err();
        assert_eq!(what, "ended with exit code 3\nno credentials");
    }

    #[test]
    fn much_output_does_not_stop_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(&dir, "head -c 300000 /dev/zero | tr '\\0' x >&2; head -c 300000 /dev/zero | tr '\\0' y");
        assert_eq!(run(&path, &[], LIMIT).unwrap().len(), 300_000);
    }

    #[test]
    fn json_that_is_no_yaml_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(&dir, "printf '{\\n\\t\"web\": {\"hosts\": [\"a\\\\/b\"]}\\n}'");
        let n = answer(&path, &[], LIMIT).unwrap();
        assert_eq!(n.get("web").unwrap().get("hosts").unwrap().to_value(), serde_json::json!(["a/b"]));
    }
}
