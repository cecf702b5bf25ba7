//! Putting a file with a given body, mode and owner in its place: what copy, template, lineinfile and others share.

use super::args::Mode;
use super::{Change, Ctx, Decision, Diff, Report, Stop, hex};
use crate::action::{Action, Put};
use crate::probe::{Answer, Content, Entry, EntryKind, Observed, PathState, Probe, Touches};
use crate::quote::shell_quote;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A file as it should be.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub path: &'a str,
    pub body: Arc<[u8]>,
    /// `None`: an existing file keeps its own, a new one gets 0644.
    pub mode: Option<&'a Mode>,
    pub owner: Option<&'a str>,
    pub group: Option<&'a str>,
    pub validate: Option<&'a str>,
    pub backup: bool,
}

impl Wanted<'_> {
    /// What must be known before [`Wanted::decide`] can decide.
    pub fn probes(&self) -> Vec<Probe> {
        vec![Probe::Path(self.path.into()), Probe::Sha256(self.path.into())]
    }

    pub fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let state = seen.path(self.path)?;
        // The file is replaced, never written through: a link at its place gives way to a file.
        let old = state.entry.as_ref();
        if old.is_some_and(|e| e.kind == EntryKind::Directory) {
            return Err(Stop::fail(format!("{} is a directory", self.path)));
        }
        let is_file = old.is_some_and(|e| e.kind == EntryKind::File);
        let digest = hex(&Sha256::digest(&self.body));
        let same_body = is_file && seen.sha256(self.path)?.as_deref() == Some(digest.as_str());
        let now_mode = old.filter(|_| is_file).map(|e| e.mode);
        let mode = self.mode.map_or(now_mode.unwrap_or(0o644), |m| m.apply(now_mode.unwrap_or(0o644), false));
        let meta = Meta { mode: Some(mode), owner: self.owner, group: self.group };
        let mut result = self.result(&digest, mode);

        if same_body && let Some(old) = old {
            let Some(fix) = meta.fix(self.path, old) else {
                return Ok(Decision::Satisfied(Report { result, ..Default::default() }));
            };
            return Ok(Decision::Change(Change {
                actions: vec![Action::Script(fix.script)],
                touches: Touches::path(self.path),
                after: meta.after(self.path, old, state),
                diff: vec![],
                summary: fix.summary,
                result,
                verdict: None,
            }));
        }

        let before = match (is_file, ctx.diff) {
            (false, _) => None,
            (true, false) => Some(String::new()),
            (true, true) => Some(text_of(seen.content(self.path)?)),
        };
        if self.backup && is_file {
            result.insert("backup_file".into(), json!(format!("{}.{}~", self.path, ctx.now)));
        }
        let keep = |wanted: Option<&str>, now: Option<&String>| wanted.map(str::to_string).or_else(|| now.cloned());
        let put = Put {
            path: self.path.into(),
            body: self.body.clone(),
            mode,
            owner: keep(self.owner, old.filter(|_| is_file).map(|e| &e.owner)),
            group: keep(self.group, old.filter(|_| is_file).map(|e| &e.group)),
            validate: self.validate.map(str::to_string),
            backup: self.backup && is_file,
        };
        let entry = Entry {
            kind: EntryKind::File,
            mode,
            uid: old.map_or(0, |e| e.uid),
            gid: old.map_or(0, |e| e.gid),
            owner: put.owner.clone().unwrap_or_else(|| ctx.user.clone()),
            group: put.group.clone().unwrap_or_else(|| ctx.user.clone()),
            size: self.body.len() as u64,
            mtime: ctx.now,
            links: 1,
            inode: String::new(),
        };
        Ok(Decision::Change(Change {
            summary: if is_file { "content changes".into() } else { "new file".into() },
            diff: if ctx.diff {
                vec![Diff { what: self.path.into(), before, after: Some(text(&self.body)) }]
            } else {
                vec![]
            },
            touches: Touches::path(self.path),
            after: vec![
                (
                    Probe::Path(self.path.into()),
                    Answer::Path(PathState {
                        entry: Some(entry),
                        canonical: state.canonical.clone(),
                        ..Default::default()
                    }),
                ),
                (Probe::Sha256(self.path.into()), Answer::Sha256(Some(digest))),
                (Probe::Content(self.path.into()), Answer::Content(Content::Bytes(self.body.to_vec()))),
            ],
            actions: vec![Action::Put(put)],
            result,
            verdict: None,
        }))
    }

    fn result(&self, digest: &str, mode: u32) -> Map<String, Value> {
        let mut r = Map::new();
        r.insert("dest".into(), json!(self.path));
        r.insert("path".into(), json!(self.path));
        r.insert("checksum".into(), json!(digest));
        r.insert("size".into(), json!(self.body.len()));
        r.insert("mode".into(), json!(format!("{mode:04o}")));
        r
    }
}

/// Mode and ownership as they should be; `None` leaves a thing as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meta<'a> {
    pub mode: Option<u32>,
    pub owner: Option<&'a str>,
    pub group: Option<&'a str>,
}

/// What puts mode and ownership right.
pub struct Fix {
    pub script: String,
    /// `mode 0644 -> 0600, owner root -> www`.
    pub summary: String,
}

impl Meta<'_> {
    /// The script that puts an entry right, or nothing if it is.
    pub fn fix(&self, path: &str, now: &Entry) -> Option<Fix> {
        let q = shell_quote(path);
        let (mut script, mut summary) = (vec![], vec![]);
        let owner = self.owner.filter(|o| **o != now.owner && **o != now.uid.to_string());
        let group = self.group.filter(|g| **g != now.group && **g != now.gid.to_string());
        if owner.is_some() || group.is_some() {
            let spec = format!("{}{}", owner.unwrap_or(""), group.map(|g| format!(":{g}")).unwrap_or_default());
            script.push(format!("chown -h -- {} {q}", shell_quote(&spec)));
        }
        if let Some(o) = owner {
            summary.push(format!("owner {} -> {o}", now.owner));
        }
        if let Some(g) = group {
            summary.push(format!("group {} -> {g}", now.group));
        }
        // chown clears setuid and setgid: the mode is set again after it where they matter.
        if let Some(m) = self.mode
            && (m != now.mode || (!script.is_empty() && m & 0o6000 != 0))
        {
            script.push(format!("chmod -- {m:04o} {q}"));
            if m != now.mode {
                summary.push(format!("mode {:04o} -> {m:04o}", now.mode));
            }
        }
        (!script.is_empty()).then(|| Fix { script: script.join(" && "), summary: summary.join(", ") })
    }

    fn after(&self, path: &str, now: &Entry, state: &PathState) -> Vec<(Probe, Answer)> {
        let mut e = now.clone();
        e.mode = self.mode.unwrap_or(e.mode);
        if let Some(o) = self.owner {
            e.owner = o.to_string();
        }
        if let Some(g) = self.group {
            e.group = g.to_string();
        }
        vec![(Probe::Path(path.into()), Answer::Path(PathState { entry: Some(e), ..state.clone() }))]
    }
}

/// Bytes as text for a diff; what is not text says so.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(t) if !t.contains('\0') => t.to_string(),
        _ => format!("(binary, {} bytes, sha256 {})\n", bytes.len(), hex(&Sha256::digest(bytes))),
    }
}

fn text_of(content: &Content) -> String {
    match content {
        Content::Absent => String::new(),
        Content::Bytes(b) => text(b),
        Content::Unavailable => "(too large to show)\n".into(),
    }
}
