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
    pub validate: Option<&'a [String]>,
    pub backup: bool,
}

/// Where a file's old content is kept: beside it, named with the time and, as a second has room for several, with the
/// content's digest.
pub fn kept(path: &str, seen: &Observed, ctx: &Ctx) -> Result<String, Stop> {
    let digest = match seen.get(&Probe::Content(path.into())) {
        Some(Answer::Content(Content::Bytes(b))) => hex(&Sha256::digest(b)),
        _ => seen.sha256(path)?.clone().unwrap_or_default(),
    };
    Ok(format!("{path}.{}.{}~", ctx.now, digest.get(..8).unwrap_or("0")))
}

impl Wanted<'_> {
    /// What must be known before [`Wanted::decide`] can decide.
    pub fn probes(&self) -> Vec<Probe> {
        vec![Probe::Path(self.path.into()), Probe::Sha256(self.path.into())]
    }

    pub fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let state = seen.path(self.path)?;
        // The file is replaced, never written through: a link at its place gives way to a file, unless it leads to a
        // folder.
        let old = state.entry.as_ref();
        if state.followed().is_some_and(|e| e.kind == EntryKind::Directory) {
            return Err(Stop::fail(format!("{} is a directory", self.path)));
        }
        let is_file = old.is_some_and(|e| e.kind == EntryKind::File);
        let digest = hex(&Sha256::digest(&self.body));
        let same_body = is_file
            && match seen.get(&Probe::Content(self.path.into())) {
                Some(Answer::Content(Content::Bytes(b))) => b[..] == self.body[..],
                _ => seen.sha256(self.path)?.as_deref() == Some(digest.as_str()),
            };
        let now_mode = old.filter(|_| is_file).map(|e| e.mode);
        let mode = self.mode.map_or(now_mode.unwrap_or(0o644), |m| m.apply(now_mode.unwrap_or(0o644), false));
        let meta = Meta { mode: Some(mode), owner: self.owner, group: self.group };
        if same_body && let Some(old) = old {
            let result = self.result(&digest, &meta.onto(old));
            let Some(fix) = meta.fix(self.path, old) else {
                return Ok(Decision::Satisfied(Report { result, ..Default::default() }));
            };
            return Ok(Decision::Change(Change {
                actions: vec![Action::Script(fix.script)],
                touches: Touches::entry(self.path),
                after: [unchanged_folders(self.path, seen), meta.after(self.path, old, state)].concat(),
                diff: vec![],
                summary: fix.summary,
                result,
                ..Default::default()
            }));
        }

        let before = match (is_file, ctx.diff) {
            (false, _) => None,
            (true, false) => Some(String::new()),
            (true, true) => Some(text_of(seen.content(self.path)?)),
        };
        let kept = if self.backup && is_file { Some(kept(self.path, seen, ctx)?) } else { None };
        let put = Put {
            path: self.path.into(),
            body: self.body.clone().into(),
            mode,
            owner: self.owner.map(str::to_string),
            group: self.group.map(str::to_string),
            keeps: old.filter(|_| is_file).and_then(|e| meta.keeps(e)),
            validate: self.validate.map(<[String]>::to_vec),
            backup: kept.clone(),
        };
        let entry = Entry {
            kind: EntryKind::File,
            mode,
            uid: old.filter(|_| is_file).map_or(own_id(ctx), |e| e.uid),
            gid: old.filter(|_| is_file).map_or(own_id(ctx), |e| e.gid),
            owner: old.filter(|_| is_file).map_or(ctx.user.clone(), |e| e.owner.clone()),
            group: old.filter(|_| is_file).map_or(ctx.user.clone(), |e| e.group.clone()),
            size: self.body.len() as u64,
            mtime: ctx.now,
            links: 1,
            inode: String::new(),
            times: None,
        };
        let entry = Meta { mode: None, owner: self.owner, group: self.group }.onto(&entry);
        let mut result = self.result(&digest, &entry);
        result.insert("md5sum".into(), json!(hex(&md5::Md5::digest(&self.body))));
        if let Some(k) = kept {
            result.insert("backup_file".into(), json!(k));
        }
        let new = PathState { entry: Some(entry), canonical: state.canonical.clone(), ..Default::default() };
        let mut after = unchanged_folders(self.path, seen);
        // Whose the file will be is not certain where another's is written anew.
        let theirs = old.filter(|_| is_file).is_some_and(|e| e.owner != ctx.user);
        if ctx.user == "root" || self.owner.is_some() || !theirs {
            after.push((Probe::Path(self.path.into()), Answer::Path(new)));
        }
        after.push((Probe::Sha256(self.path.into()), Answer::Sha256(Some(digest))));
        after.push((Probe::Content(self.path.into()), Answer::Content(Content::Bytes(self.body.to_vec()))));
        Ok(Decision::Change(Change {
            summary: if is_file { "content changes".into() } else { "new file".into() },
            diff: if ctx.diff {
                vec![Diff { what: self.path.into(), before, after: Some(text(&self.body)) }]
            } else {
                vec![]
            },
            // In the place of a link to a folder, all that was below it goes out of sight.
            touches: if old.is_some() && !is_file { Touches::path(self.path) } else { Touches::entry(self.path) },
            after,
            actions: vec![Action::Put(put)],
            result,
            ..Default::default()
        }))
    }

    fn result(&self, digest: &str, entry: &Entry) -> Map<String, Value> {
        let mut r = facts(self.path, entry);
        r.insert("dest".into(), json!(self.path));
        r.insert("checksum".into(), json!(digest));
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
            let spec = chown_spec(owner, group).unwrap_or_default();
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
            // A folder keeps setuid and setgid unless the mode is written with five digits.
            let digits = if now.kind == EntryKind::Directory { 5 } else { 4 };
            script.push(format!("chmod -- {m:0digits$o} {q}"));
            if m != now.mode {
                summary.push(format!("mode {:04o} -> {m:04o}", now.mode));
            }
        }
        (!script.is_empty()).then(|| Fix { script: script.join(" && "), summary: summary.join(", ") })
    }

    /// What a new file in the place of `now` is to have of it: owner and group that are not given.
    pub fn keeps(&self, now: &Entry) -> Option<String> {
        match (self.owner, self.group) {
            (None, None) => Some(format!("{}:{}", now.owner, now.group)),
            (None, Some(_)) => Some(now.owner.clone()),
            (Some(_), None) => Some(format!(":{}", now.group)),
            (Some(_), Some(_)) => None,
        }
    }

    fn after(&self, path: &str, now: &Entry, state: &PathState) -> Vec<(Probe, Answer)> {
        vec![(Probe::Path(path.into()), Answer::Path(PathState { entry: Some(self.onto(now)), ..state.clone() }))]
    }

    /// The entry once it is right.
    pub fn onto(&self, now: &Entry) -> Entry {
        let mut e = now.clone();
        e.mode = self.mode.unwrap_or(e.mode);
        e.times = None;
        if let Some(o) = self.owner.filter(|o| **o != now.owner && **o != now.uid.to_string()) {
            e.uid = o.parse().unwrap_or(if o == "root" { 0 } else { UNKNOWN_ID });
            e.owner = o.to_string();
        }
        if let Some(g) = self.group.filter(|g| **g != now.group && **g != now.gid.to_string()) {
            e.gid = g.parse().unwrap_or(if g == "root" { 0 } else { UNKNOWN_ID });
            e.group = g.to_string();
        }
        e
    }
}

/// In an answer that a plan foresees: the number of a user or group of which only the name is certain.
pub const UNKNOWN_ID: u32 = u32::MAX;

/// What `register` gets of an entry, as Ansible names it.
pub fn facts(path: &str, e: &Entry) -> Map<String, Value> {
    let mut r = Map::new();
    r.insert("path".into(), json!(path));
    r.insert("state".into(), json!(state_name(e)));
    r.insert("mode".into(), json!(format!("{:04o}", e.mode)));
    r.insert("owner".into(), json!(e.owner));
    r.insert("group".into(), json!(e.group));
    for (name, id) in [("uid", e.uid), ("gid", e.gid)] {
        if id != UNKNOWN_ID {
            r.insert(name.into(), json!(id));
        }
    }
    r.insert("size".into(), json!(e.size));
    r
}

/// `file`, `directory`, `link` or `hard`.
pub fn state_name(e: &Entry) -> &'static str {
    match e.kind {
        EntryKind::Directory => "directory",
        EntryKind::Link => "link",
        EntryKind::File if e.links > 1 => "hard",
        EntryKind::File | EntryKind::Other => "file",
    }
}

/// What is at a path is not told to the task's user.
pub fn may_not_look(ctx: &Ctx, path: &str) -> Stop {
    Stop::fail_hint(format!("{} may not look at {path}", ctx.user), "`become: true` looks as root")
}

/// The path without doubled or trailing slashes and single dots.
pub fn tidy(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    format!("{}{}", if path.starts_with('/') { "/" } else { "" }, parts.join("/"))
}

/// The folders a path lies in, the nearest first, without `/`.
pub fn folders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(path.rsplit_once('/').map(|(d, _)| d), |d| d.rsplit_once('/').map(|(d, _)| d))
        .filter(|d| !d.is_empty())
}

/// What was known of the folders above a changed path and stays true.
pub fn unchanged_folders(path: &str, seen: &Observed) -> Vec<(Probe, Answer)> {
    folders(path)
        .filter_map(|d| {
            let probe = Probe::Path(d.into());
            match seen.get(&probe) {
                Some(Answer::Path(s)) if s.entry.is_some() => Some((probe.clone(), Answer::Path(s.clone()))),
                _ => None,
            }
        })
        .collect()
}

/// Nothing is at the path any more.
pub fn nothing_at(path: &str, canonical: &str) -> Vec<(Probe, Answer)> {
    vec![
        (Probe::Path(path.into()), Answer::Path(PathState { canonical: canonical.to_string(), ..Default::default() })),
        (Probe::Sha256(path.into()), Answer::Sha256(None)),
        (Probe::Content(path.into()), Answer::Content(Content::Absent)),
    ]
}

/// What is seen through a link changes with the file it leads to.
pub fn through_link(after: &mut Vec<(Probe, Answer)>, name: &str, link: &PathState) {
    let at = |p: &Probe, n: &str| matches!(p, Probe::Path(x) | Probe::Sha256(x) | Probe::Content(x) if x == n);
    let seen: Vec<_> = after.iter().filter(|(p, _)| at(p, &link.canonical)).cloned().collect();
    for (p, a) in seen {
        after.push(match (p, a) {
            (Probe::Path(_), Answer::Path(s)) => {
                (Probe::Path(name.into()), Answer::Path(PathState { target: s.entry, ..link.clone() }))
            }
            (Probe::Sha256(_), a) => (Probe::Sha256(name.into()), a),
            (_, a) => (Probe::Content(name.into()), a),
        });
    }
}

/// A name beside `path` for something unfinished; always the same, so that a second attempt clears up after the first.
pub fn beside(path: &str) -> String {
    let dir = path.rsplit_once('/').map_or("", |(d, _)| d);
    format!("{dir}/.windlass-{}", &hex(&Sha256::digest(path))[..12])
}

/// Shell: `new_file FROM NEW MODE OWNER` makes NEW with what FROM holds. All is done to the file that was opened, not to its
/// name: whoever may write in the folder can put a link to another file in its place. The session's own `w_put` is not
/// known where a command runs.
pub const NEW_FILE: &str = r#"new_file() {
  rm -f -- "$2" || return 1
  (
    umask 077; set -C
    exec 8>"$2" || exit 1
    it=/proc/self/fd/8
    [ -e "$it" ] || it=$2
    [ -f "$it" ] || { echo "someone put something else in the place of $2" >&2; exit 1; }
    cat -- "$1" >&8 && sync -- "$it" || exit 1
    { [ -z "$4" ] || chown -- "$4" "$it"; } && chmod -- "$3" "$it"
  ) || { rm -f -- "$2"; return 1; }
}
"#;

/// A folder as it should be made, with every folder above it that is missing.
#[derive(Debug, Clone, Copy)]
pub struct NewFolder<'a> {
    pub path: &'a str,
    /// Of every folder that is made; `None`: 0755.
    pub mode: Option<u32>,
    pub owner: Option<&'a str>,
    pub group: Option<&'a str>,
}

impl NewFolder<'_> {
    /// Makes the missing folders under another name and moves them into place at once, so that no folder is ever seen
    /// with a mode or owner it should not have.
    pub fn script(&self) -> String {
        // Behind `x/..` there is nothing while there is no `x`: it is made as well.
        let before = std::iter::once(self.path).chain(folders(self.path)).filter_map(|p| p.strip_suffix("/.."));
        let mut all: Vec<&str> = before.filter(|p| !p.is_empty()).collect();
        all.reverse();
        all.push(self.path);
        all.into_iter().map(|path| NewFolder { path, ..*self }.one()).collect::<Vec<_>>().join(" && ")
    }

    fn one(&self) -> String {
        let mut set = String::new();
        if let Some(spec) = chown_spec(self.owner, self.group) {
            set.push_str(&format!("chown -- {} \"$d\" || exit 1; ", shell_quote(&spec)));
        }
        // Four digits leave the setgid bit that a folder inherits, five take it away.
        let mode = self.mode.map_or("0755".to_string(), |m| format!("{m:05o}"));
        set.push_str(&format!("chmod -- {mode} \"$d\" || exit 1"));
        format!(
            r#"(
p={path}; t=$p
[ -d "$p" ] && exit 0
while u=${{t%/*}}; [ -n "$u" ] && [ ! -e "$u" ] && [ ! -L "$u" ]; do t=$u; done
n=${{t%/*}}/{temp}; r=${{p#"$t"}}; d=$n
trap 'rm -rf -- "$n"' EXIT
rm -rf -- "$n" && mkdir -- "$n" || exit 1
while :; do
  {set}
  [ -n "$r" ] || break
  r=${{r#/}}; d=$d/${{r%%/*}}
  case $r in */*) r=/${{r#*/}};; *) r=;; esac
  mkdir -- "$d" || exit 1
done
mv -T -- "$n" "$t"
)"#,
            path = shell_quote(self.path),
            temp = beside(self.path).rsplit('/').next().unwrap_or_default(),
        )
    }

    /// What will be at the path and at the folders above it. Of the folders above only those are told whose state is known.
    pub fn after(&self, seen: &Observed, ctx: &Ctx) -> Vec<(Probe, Answer)> {
        let mut out = vec![];
        let known = |p: &str| match seen.get(&Probe::Path(p.into())) {
            Some(Answer::Path(s)) => Some(s.clone()),
            _ => None,
        };
        let mut inherited: Option<(u32, String, u32)> = None;
        let mut chain: Vec<&str> = folders(self.path).collect();
        chain.reverse();
        chain.push(self.path);
        for p in chain {
            let Some(state) = known(p) else { continue };
            if let Some(e) = state.followed() {
                inherited = (e.mode & 0o2000 != 0).then(|| (0o2000, e.group.clone(), e.gid));
                out.push((Probe::Path(p.into()), Answer::Path(state)));
                continue;
            }
            let (bit, group, gid) = inherited.clone().unwrap_or((0, ctx.user.clone(), own_id(ctx)));
            let made = Entry {
                kind: EntryKind::Directory,
                mode: 0o755 | bit,
                uid: own_id(ctx),
                gid,
                owner: ctx.user.clone(),
                group,
                size: 4096,
                mtime: ctx.now,
                links: 2,
                inode: String::new(),
                times: None,
            };
            let entry = Meta { mode: self.mode, owner: self.owner, group: self.group }.onto(&made);
            let state = PathState { entry: Some(entry), canonical: state.canonical, ..Default::default() };
            out.push((Probe::Path(p.into()), Answer::Path(state)));
        }
        out
    }
}

/// An entry made by the task's user, with the owner and group that are wanted.
pub fn new_entry(
    kind: EntryKind,
    mode: u32,
    size: u64,
    (owner, group): (Option<&str>, Option<&str>),
    ctx: &Ctx,
) -> Entry {
    let e = Entry {
        kind,
        mode,
        uid: own_id(ctx),
        gid: own_id(ctx),
        owner: ctx.user.clone(),
        group: ctx.user.clone(),
        size,
        mtime: ctx.now,
        links: 1,
        inode: String::new(),
        times: None,
    };
    Meta { mode: None, owner, group }.onto(&e)
}

fn own_id(ctx: &Ctx) -> u32 {
    if ctx.user == "root" { 0 } else { UNKNOWN_ID }
}

/// What `chown` is told: `owner`, `owner:group` or `:group`.
pub fn chown_spec(owner: Option<&str>, group: Option<&str>) -> Option<String> {
    (owner.is_some() || group.is_some())
        .then(|| format!("{}{}", owner.unwrap_or(""), group.map(|g| format!(":{g}")).unwrap_or_default()))
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
        Content::Unavailable | Content::Denied => "(too large to show)\n".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::sh_accepts;
    use super::*;

    fn make(path: &str, owner: Option<&str>) -> bool {
        let s = NewFolder { path, mode: Some(0o750), owner, group: None }.script();
        sh_accepts(&s);
        std::process::Command::new("sh").arg("-c").arg(&s).output().unwrap().status.success()
    }

    #[test]
    fn a_folder_that_cannot_be_made_leaves_nothing_behind() {
        let t = tempfile::tempdir().unwrap();
        let left = || std::fs::read_dir(t.path()).unwrap().count();
        let at = |p: &str| t.path().join(p).to_string_lossy().into_owned();
        assert!(!make(&at("a/b"), Some("nosuchone")));
        assert_eq!(left(), 0);
        assert!(make(&at("a/b"), None));
        assert_eq!(left(), 1);
        // Both are made.
        assert!(make(&at("d/../e/f"), None));
        assert!(t.path().join("d").is_dir() && t.path().join("e/f").is_dir());
        assert_eq!(left(), 3);
        assert!(make(&at("g/h/../.."), None), "{}", at("g/h/../.."));
        assert_eq!(left(), 4);
    }

    #[test]
    fn an_owner_is_asked_for_or_kept() {
        let e = super::super::kit::entry(EntryKind::File, 0o644);
        let keeps = |owner, group| Meta { mode: None, owner, group }.keeps(&e);
        assert_eq!(keeps(None, None).as_deref(), Some("root:root"));
        assert_eq!(keeps(Some("x"), None).as_deref(), Some(":root"));
        assert_eq!(keeps(None, Some("x")).as_deref(), Some("root"));
        assert_eq!(keeps(Some("x"), Some("x")), None);
    }
}
