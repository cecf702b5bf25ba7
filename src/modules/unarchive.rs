//! `unarchive`: what is in an archive, as files on the host.

use super::args::{Bool, List, Mode, Text};
use super::copy::absolute;
use super::place::{Meta, UNKNOWN_ID, beside, chown_spec, folders, tidy, unchanged_folders};
use super::{ArgError, Change, Ctx, Decision, FileKind, Local, Module, Stop};
use crate::action::{Action, Put};
use crate::fetch::Download;
use crate::probe::{Answer, Entry, EntryKind, Listing, Observed, PathState, Probe, Touches};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Unpacks an archive (tar, also packed with gzip, bzip2, xz or zstd; zip) into a folder of the host. It comes from here,
/// from a URL (fetched here, once for all hosts), or lies on the host already. The archive's list is compared with what
/// is there: of every member the kind, of files size, time and (as root, unless `extra_opts` may change them) permissions, of links where
/// they lead; owners only if `owner` or `group` is given. If all is the same, nothing is unpacked and nothing sent;
/// if anything differs, all of it is unpacked beside its place and moved there file by file. A link in the place of one
/// of its folders gives way to a folder (of a tar archive, not with `extra_opts: [--keep-directory-symlink]`). It needs GNU tar (or unzip)
/// and the archive's packer where the archive is listed and where it is unpacked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unarchive {
    /// The archive: looked for in the role's files/ and beside the playbook; or a URL; with `remote_src`, its path on
    /// the host.
    src: Text,
    /// The folder it is unpacked into; it must be there.
    dest: Text,
    /// The archive lies on the host.
    #[serde(default)]
    remote_src: Bool,
    /// If this is there, nothing is looked at and nothing done.
    creates: Option<Text>,
    /// Permissions of all that is in the archive.
    mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
    /// More options for tar (`--strip-components=1`) or unzip.
    #[serde(default)]
    extra_opts: List,
    /// Only these members.
    #[serde(default)]
    include: List,
    /// Not these members.
    #[serde(default)]
    exclude: List,
    /// Register the members' names as `files`.
    #[serde(default)]
    list_files: Bool,
    /// A file that is newer than the archive's stays.
    #[serde(default)]
    keep_newer: Bool,
    /// `false`: any certificate of the server will do.
    #[serde(default = "yes")]
    validate_certs: Bool,
    #[serde(skip)]
    #[schemars(skip)]
    source: Option<Download>,
    #[serde(skip)]
    #[schemars(skip)]
    zip: bool,
}

fn yes() -> Bool {
    Bool(true)
}

/// One thing in an archive.
#[derive(Debug, Clone, PartialEq)]
struct Member {
    kind: EntryKind,
    mode: u32,
    uid: u32,
    gid: u32,
    /// A hard link's is not told.
    size: Option<u64>,
    mtime: i64,
    link: Option<String>,
}

/// By path below `dest`.
type Members = BTreeMap<String, Member>;

/// Members beyond which looking at each takes too long.
const MOST: usize = 50_000;

impl Module for Unarchive {
    const NAME: &'static str = "unarchive";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("dest", "The folder."),
        ("src", "The archive."),
        ("handler", "What unpacks it."),
        ("files", "With `list_files`: the names in it."),
    ];
    const EXAMPLE: &'static str = r#"- unarchive:
    src: https://example.org/app-1.2.tar.gz
    dest: /opt
    remote_src: true
    creates: /opt/app-1.2"#;

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        absolute("dest", &self.dest)?;
        self.dest.0 = tidy(&self.dest);
        if let Some(c) = &self.creates {
            absolute("creates", c)?;
        }
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "the archive's modes are kept if `mode` is not given"));
        }
        let name = self.src.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        self.zip = [".zip", ".jar", ".war"].iter().any(|e| name.ends_with(e));
        if self.src.contains("://") {
            let d = Download { any_certificate: !self.validate_certs.0, ..Download::new(&self.src) };
            if let Some(why) = d.mistake() {
                return Err(ArgError::new("src", why));
            }
            self.source = Some(d);
        } else if self.remote_src.0 {
            absolute("src", &self.src)?;
        } else {
            let path = local.find(FileKind::File, &self.src)?;
            let path =
                std::path::absolute(&path).map_err(|e| ArgError::new("src", format!("{}: {e}", path.display())))?;
            let Some(text) = path.to_str() else { return Err(ArgError::new("src", "its path is not UTF-8")) };
            self.source = Some(Download::new(text));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        match &self.creates {
            Some(c) => vec![Probe::Path(c.0.clone())],
            None => {
                let mut p = vec![Probe::Path(self.dest.0.clone())];
                p.extend(self.source.is_none().then(|| Probe::Script(self.host_list())));
                p
            }
        }
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let mut result = self.result();
        if let Some(c) = &self.creates
            && seen.path(c)?.entry.is_some()
        {
            result.insert("msg".into(), json!(format!("skipped, since {} exists", &**c)));
            return Ok(Decision::satisfied(result));
        }
        if seen.path(&self.dest)?.followed().is_none_or(|e| e.kind != EntryKind::Directory) {
            return Err(Stop::fail_hint(
                format!("{} is no folder on the host", &*self.dest),
                "make it first: `file` with `state: directory`",
            ));
        }
        let members = self.members(seen)?;
        if self.list_files.0 {
            result.insert("files".into(), json!(members.keys().collect::<Vec<_>>()));
        }
        let (temp, pack) = self.unfinished();
        let above = above(&members);
        let need: Vec<Probe> = members
            .keys()
            .map(String::as_str)
            .chain(above.iter().copied())
            .map(|m| self.below(m))
            .chain([temp.clone(), pack.clone()])
            .map(Probe::Path)
            .filter(|p| !seen.has(p))
            .collect();
        if !need.is_empty() {
            return Err(Stop::Need(need));
        }
        let (mut differ, mut fixes) = (vec![], vec![]);
        for (name, m) in &members {
            let path = self.below(name);
            let state = seen.path(&path)?;
            match self.compared(name, m, state, ctx) {
                None => differ.push(name.as_str()),
                // A link that stands for a folder stays whose it is.
                Some(_) if m.kind == EntryKind::Directory && is_link(state) => {}
                Some(e) => fixes.extend(self.meta(m, e.kind).fix(&path, e).map(|f| f.script)),
            }
        }
        for name in above {
            if is_link(seen.path(&self.below(name))?) && !self.keeps_link(name) {
                differ.push(name);
            }
        }
        let left = [&temp, &pack].into_iter().any(|p| seen.path(p).is_ok_and(|s| s.entry.is_some()));
        let after = || self.after(&members, seen, ctx);
        if !differ.is_empty() || left {
            let summary = match differ.as_slice() {
                [] => "what an earlier run left is cleared away".to_string(),
                d if d.len() == members.len() => format!("{} of the archive", count(d.len())),
                [one] => format!("1 of {} is missing or differs: {one}", count(members.len())),
                [first, ..] => {
                    format!("{} of {} are missing or differ: {first}, …", differ.len(), count(members.len()))
                }
            };
            let mut actions = vec![];
            if let Some(d) = &self.source {
                actions.push(Action::Put(Put {
                    path: pack.clone(),
                    body: d.clone().into(),
                    mode: 0o600,
                    owner: None,
                    group: None,
                    keeps: None,
                    validate: None,
                    backup: None,
                }));
            }
            actions.push(Action::Script(self.unpack(&members, &temp, &pack)));
            return Ok(Decision::Change(Change {
                actions,
                touches: Touches::path(&self.dest),
                after: after(),
                summary,
                result,
                ..Default::default()
            }));
        }
        if fixes.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        Ok(Decision::Change(Change {
            summary: format!("mode or owner of {}", count(fixes.len())),
            actions: vec![Action::Script(fixes.join(" && \\\n"))],
            touches: Touches::path(&self.dest),
            after: after(),
            result,
            ..Default::default()
        }))
    }
}

fn is_link(state: &PathState) -> bool {
    state.entry.as_ref().is_some_and(|e| e.kind == EntryKind::Link)
}

/// Folders that members lie in and that are no members themselves.
fn above(members: &Members) -> BTreeSet<&str> {
    members.keys().flat_map(|m| folders(m)).filter(|f| !members.contains_key(*f)).collect()
}

fn count(n: usize) -> String {
    format!("{n} member{}", if n == 1 { "" } else { "s" })
}

impl Unarchive {
    fn result(&self) -> Map<String, Value> {
        let mut r = Map::new();
        r.insert("dest".into(), json!(&*self.dest));
        r.insert("src".into(), json!(self.source.as_ref().map_or(self.src.0.clone(), Download::shown)));
        r.insert("state".into(), json!("directory"));
        r.insert("handler".into(), json!(if self.zip { "ZipArchive" } else { "TarArchive" }));
        r
    }

    fn below(&self, member: &str) -> String {
        format!("{}/{member}", self.dest.trim_end_matches('/'))
    }

    /// Where it is unpacked first, and where the archive lies meanwhile; always the same, to be found again after a kill.
    fn unfinished(&self) -> (String, String) {
        let here = beside(&self.below(&format!("x{}", &*self.src)));
        let name = here.rsplit('/').next().unwrap_or_default();
        (self.below(name), self.below(&format!("{name}.pack")))
    }

    /// Says which program is missing, before tar says it in its own words.
    fn needs(&self) -> String {
        let name = self.src.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|e| name.ends_with(e));
        let mut tools = if self.zip { vec!["unzip"] } else { vec!["tar"] };
        if ends(&[".gz", ".tgz"]) {
            tools.push("gzip");
        } else if ends(&[".bz2", ".tbz", ".tbz2"]) {
            tools.push("bzip2");
        } else if ends(&[".xz", ".txz"]) {
            tools.push("xz");
        } else if ends(&[".zst", ".tzst"]) {
            tools.push("zstd");
        }
        format!(
            "for c in {}; do command -v $c >/dev/null || {{ echo \"$c is needed for this archive and is not installed on $(uname -n)\" >&2; exit 127; }}; done\n",
            tools.join(" ")
        )
    }

    /// The options that choose and rename members.
    fn choice(&self) -> String {
        let mut words: Vec<String> = self.extra_opts.to_vec();
        if !self.zip {
            words.extend(self.exclude.iter().map(|e| format!("--exclude={e}")));
        }
        shell_join(words)
    }

    /// Lists `$1`.
    fn list(&self) -> String {
        let needs = self.needs();
        if self.zip {
            let mut names = self.include.to_vec();
            if !self.exclude.is_empty() {
                names.push("-x".into());
                names.extend(self.exclude.iter().cloned());
            }
            return format!("{needs}TZ=UTC0; export TZ\nunzip -Z -l -T -- \"$1\" {}", shell_join(names));
        }
        format!(
            "{needs}tar -tv --full-time --utc --numeric-owner --quoting-style=c --show-transformed-names {} -f \"$1\" -- {}",
            self.choice(),
            shell_join(self.include.iter())
        )
    }

    fn host_list(&self) -> String {
        let q = shell_quote(&self.src);
        format!(
            "set -- {q}\n[ -f \"$1\" ] || {{ printf '%s is no file on the host\\n' {q} >&2; exit 1; }}\n{}",
            self.list()
        )
    }

    fn members(&self, seen: &Observed) -> Result<Members, Stop> {
        let text = match &self.source {
            Some(d) => {
                let listing = Listing { of: d.clone(), script: self.list() };
                seen.archive(&listing)?.as_ref().map_err(Stop::from)?
            }
            None => {
                let out = seen.script(&self.host_list())?;
                if out.rc != 0 {
                    let said = out.stderr.trim().lines().next().unwrap_or("it cannot be listed");
                    return Err(Stop::fail(format!("{}: {said}", &*self.src)));
                }
                &out.stdout
            }
        };
        let members = if self.zip { zip_members(text) } else { tar_members(text) };
        let members = members.map_err(|why| Stop::fail(format!("{}: {why}", &*self.src)))?;
        if members.len() > MOST {
            return Err(Stop::fail_hint(
                format!("{} has more than {MOST} members", &*self.src),
                "leave out what is not needed with `exclude`, or unpack it with `command` and `creates`",
            ));
        }
        Ok(members)
    }

    fn meta(&self, m: &Member, kind: EntryKind) -> Meta<'_> {
        Meta {
            mode: self
                .mode
                .as_ref()
                .filter(|_| kind != EntryKind::Link)
                .map(|mode| mode.apply(m.mode, kind == EntryKind::Directory)),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
        }
    }

    /// Whether time, permissions and owner come from the archive as they are.
    fn plain(&self) -> bool {
        let names_only =
            ["--strip", "--exclude", "--transform", "--xform", "--wildcards", "--anchored", "--no-anchored"];
        self.extra_opts.iter().all(|o| names_only.iter().any(|n| o.starts_with(n)))
    }
    fn keeps_time(&self) -> bool {
        !self.extra_opts.iter().any(|o| {
            o == "--touch"
                || o.starts_with("--mtime")
                || (o.starts_with('-') && !o.starts_with("--") && o.contains('m'))
        })
    }

    /// Whether a link may stand for this folder of the archive. One below `dest` may be somebody else's and lead
    /// anywhere: as with tar, it gives way to a folder. Right below `/` only root makes links, as /lib is one.
    fn keeps_link(&self, name: &str) -> bool {
        self.keeps_links() || (&*self.dest == "/" && !name.contains('/'))
    }
    fn keeps_links(&self) -> bool {
        !self.zip && self.extra_opts.iter().any(|o| o == "--keep-directory-symlink")
    }

    /// What is there, if it is what the archive has; mode and owner as the task wants them are looked at elsewhere.
    fn compared<'a>(&self, name: &str, m: &Member, state: &'a PathState, ctx: &Ctx) -> Option<&'a Entry> {
        if m.kind == EntryKind::Directory {
            let e = if self.keeps_link(name) { state.followed() } else { state.entry.as_ref() };
            return e.filter(|e| e.kind == EntryKind::Directory);
        }
        let e = state.entry.as_ref().filter(|e| e.kind == m.kind)?;
        if m.kind == EntryKind::Link {
            return (state.link == m.link).then_some(e);
        }
        if m.kind == EntryKind::Other || (self.keep_newer.0 && e.mtime > m.mtime) {
            return Some(e);
        }
        // A zip's clock ticks every two seconds.
        let apart = (e.mtime - m.mtime).abs();
        let same_time = !self.keeps_time() || apart <= if self.zip { 2 } else { 0 };
        let same_size = m.size.is_none_or(|s| s == e.size);
        let same_mode =
            self.mode.is_some() || !self.plain() || self.zip || ctx.user != "root" || (m.mode ^ e.mode) & 0o777 == 0;
        (same_time && same_size && same_mode).then_some(e)
    }

    /// What will be there; only that of which all is certain.
    fn after(&self, members: &Members, seen: &Observed, ctx: &Ctx) -> Vec<(Probe, Answer)> {
        let mut after = unchanged_folders(&self.below("x"), seen);
        for (name, m) in members {
            let path = self.below(name);
            let Ok(state) = seen.path(&path) else { continue };
            // It leads elsewhere until it is unpacked.
            let replaced = |f: &str| !self.keeps_link(f) && seen.path(&self.below(f)).is_ok_and(is_link);
            if folders(name).chain((m.kind == EntryKind::Directory).then_some(name.as_str())).any(replaced) {
                continue;
            }
            let entry = match self.compared(name, m, state, ctx) {
                Some(e) => self.meta(m, e.kind).onto(e),
                None if self.plain() && !self.zip && ctx.user == "root" && m.size.is_some() => {
                    let id = |n: u32| (if n == 0 { "root".to_string() } else { n.to_string() }, n);
                    let ((owner, uid), (group, gid)) = (id(m.uid), id(m.gid));
                    let named = (m.uid == 0 || self.owner.is_some()) && (m.gid == 0 || self.group.is_some());
                    if !named {
                        continue;
                    }
                    let e = Entry {
                        kind: m.kind,
                        mode: m.mode,
                        uid,
                        gid,
                        owner,
                        group,
                        size: m.size.unwrap_or(0),
                        mtime: m.mtime,
                        links: 1,
                        inode: String::new(),
                        times: None,
                    };
                    let mut e = self.meta(m, m.kind).onto(&e);
                    for (id, name) in [(&mut e.uid, &self.owner), (&mut e.gid, &self.group)] {
                        if name.as_ref().is_some_and(|n| &**n != "root" && n.parse::<u32>().is_err()) {
                            *id = UNKNOWN_ID;
                        }
                    }
                    e
                }
                None => continue,
            };
            let new = match (entry.kind, &state.entry) {
                (EntryKind::Directory, Some(l)) if l.kind == EntryKind::Link => state.clone(),
                (EntryKind::Link, _) => match state.target {
                    Some(_) => state.clone(),
                    None => continue,
                },
                _ => PathState { entry: Some(entry), canonical: state.canonical.clone(), ..Default::default() },
            };
            after.push((Probe::Path(path), Answer::Path(new)));
        }
        let (temp, pack) = self.unfinished();
        for p in [temp, pack] {
            let gone = PathState { canonical: p.clone(), ..Default::default() };
            after.push((Probe::Path(p), Answer::Path(gone)));
        }
        after
    }

    /// Unpacks beside the place, sets what is to be set, and moves file by file.
    fn unpack(&self, members: &Members, temp: &str, pack: &str) -> String {
        let (t, d) = (shell_quote(temp), shell_quote(self.dest.trim_end_matches('/')));
        let from = if self.source.is_some() { pack } else { &self.src };
        let mut s = format!(
            "a={} t={t} d={d}\ntrap 'rm -rf -- \"$t\" {}' EXIT\n{}rm -rf -- \"$t\" && mkdir -m 0700 -- \"$t\" || exit 1\n",
            shell_quote(from),
            shell_quote(pack).replace('\'', "'\\''"),
            self.needs(),
        );
        if self.zip {
            let mut names = self.include.to_vec();
            if !self.exclude.is_empty() {
                names.push("-x".into());
                names.extend(self.exclude.iter().cloned());
            }
            let _ = writeln!(
                s,
                "TZ=UTC0; export TZ\nunzip -q -o {} -d \"$t\" -- \"$a\" {} || exit 1",
                self.choice(),
                shell_join(names)
            );
        } else {
            let _ = writeln!(
                s,
                "tar -x {} -C \"$t\" -f \"$a\" -- {} || exit 1",
                self.choice(),
                shell_join(self.include.iter())
            );
        }
        if let Some(spec) = chown_spec(self.owner.as_deref(), self.group.as_deref()) {
            let _ = writeln!(s, "find \"$t\" -mindepth 1 -exec chown -h -- {} {{}} + || exit 1", shell_quote(&spec));
        }
        if let Some(mode) = &self.mode {
            for (name, m) in members.iter().filter(|(_, m)| m.kind != EntryKind::Link) {
                let dir = m.kind == EntryKind::Directory;
                let q = shell_quote(name);
                let _ =
                    writeln!(s, "[ ! -e \"$t\"/{q} ] || chmod -- {:04o} \"$t\"/{q} || exit 1", mode.apply(m.mode, dir));
            }
        }
        let newer = if self.keep_newer.0 { "[ \"$0/$f\" -nt \"$f\" ] && continue; " } else { "" };
        // What is to be a folder.
        let there = match (self.keeps_links(), &*self.dest) {
            (true, _) => "[ -d \"$0/$f\" ] && continue;",
            (false, "/") => {
                "case $f in ./*/*) [ ! -L \"$0/$f\" ] || rm -f -- \"$0/$f\" || exit 1 ;; esac; [ -d \"$0/$f\" ] && continue;"
            }
            _ => "[ ! -L \"$0/$f\" ] || rm -f -- \"$0/$f\" || exit 1; [ -d \"$0/$f\" ] && continue;",
        };
        let _ = write!(
            s,
            "cd -- \"$t\" && find . -type f -exec sync -- {{}} + || exit 1\n\
             find . -mindepth 1 -type d -exec sh -c 'for f; do {there} \
             mkdir -- \"$0/$f\" && chown --reference=\"$f\" -- \"$0/$f\" && chmod --reference=\"$f\" -- \"$0/$f\" || exit 1; done' \"$d\" {{}} + || exit 1\n\
             find . ! -type d -exec sh -c 'for f; do {newer}mv -fT -- \"$f\" \"$0/$f\" || exit 1; done' \"$d\" {{}} + || exit 1\n"
        );
        // Folders that were there before.
        for (name, m) in members.iter().filter(|(_, m)| m.kind == EntryKind::Directory) {
            let q = shell_quote(name);
            if let Some(spec) = chown_spec(self.owner.as_deref(), self.group.as_deref()) {
                let _ = writeln!(s, "[ -L \"$d\"/{q} ] || chown -h -- {} \"$d\"/{q} || exit 1", shell_quote(&spec));
            }
            if let Some(mode) = &self.mode {
                let _ =
                    writeln!(s, "[ -L \"$d\"/{q} ] || chmod -- {:05o} \"$d\"/{q} || exit 1", mode.apply(m.mode, true));
            }
        }
        s.push_str("cd / && exit 0\n");
        s
    }
}

/// A member's name below the folder: no leading slash, no way out of it.
fn name_of(raw: &str) -> Result<Option<String>, String> {
    let parts: Vec<&str> = raw.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("its member {raw} leads out of the folder"));
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

fn time(date: &str, clock: &str) -> Option<i64> {
    let clock = clock.split('.').next()?;
    let t = chrono::NaiveDateTime::parse_from_str(&format!("{date} {clock}"), "%Y-%m-%d %H:%M:%S").ok()?;
    Some(t.and_utc().timestamp())
}

/// The permission bits of `rwsr-xr-x`.
fn bits(text: &str) -> u32 {
    let mut mode = 0;
    for (i, c) in text.chars().take(9).enumerate() {
        let bit = 1 << (8 - i);
        let special = [0o4000, 0o2000, 0o1000][i / 3];
        mode |= match c {
            'r' | 'w' | 'x' => bit,
            's' | 't' => bit | special,
            'S' | 'T' => special,
            _ => 0,
        };
    }
    mode
}

/// What `tar -tv` prints: type and mode, owner/group, size, date, time, name in quotes, and for links where they lead.
fn tar_members(text: &str) -> Result<Members, String> {
    let mut all = Members::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let bad = || format!("tar lists what is not understood: {line}");
        let at = line.find('"').ok_or_else(bad)?;
        let words: Vec<&str> = line[..at].split_ascii_whitespace().collect();
        let [mode, ids, size, date, clock] = words.as_slice() else { return Err(bad()) };
        let (raw, rest) = c_string(&line[at..]).ok_or_else(bad)?;
        let raw = String::from_utf8(raw).map_err(|e| odd_name(e.as_bytes()))?;
        let kind = match mode.chars().next() {
            Some('-' | 'h' | 'C') => EntryKind::File,
            Some('d') => EntryKind::Directory,
            Some('l') => EntryKind::Link,
            _ => EntryKind::Other,
        };
        let link = match rest.strip_prefix(" -> ") {
            Some(l) => Some(String::from_utf8(c_string(l).ok_or_else(bad)?.0).map_err(|_| odd_name(raw.as_bytes()))?),
            None => None,
        };
        let (uid, gid) = ids.split_once('/').ok_or_else(bad)?;
        let member = Member {
            kind,
            mode: bits(mode.get(1..).unwrap_or_default()),
            uid: uid.parse().unwrap_or(UNKNOWN_ID),
            gid: gid.parse().unwrap_or(UNKNOWN_ID),
            size: (!mode.starts_with('h')).then(|| size.parse().ok()).flatten(),
            mtime: time(date, clock).ok_or_else(bad)?,
            link,
        };
        if let Some(name) = name_of(&raw)? {
            all.insert(name, member);
        }
    }
    Ok(all)
}

/// A member that cannot be compared: its name, or where it leads as a link, is not UTF-8.
fn odd_name(raw: &[u8]) -> String {
    let shown = raw.escape_ascii();
    let pattern = String::from_utf8_lossy(raw).replace('\u{fffd}', "?");
    format!(
        "the name of its member {shown} (or where it leads) is not UTF-8; leave it out with `exclude: ['{pattern}']`"
    )
}

/// A text in C's notation at the front of `text`, and what follows it.
fn c_string(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut out = vec![];
    let bytes = text.strip_prefix('"')?.as_bytes();
    let mut i = 0;
    loop {
        match *bytes.get(i)? {
            b'"' => {
                let rest = text.get(i + 2..)?;
                return Some((out, rest));
            }
            b'\\' => {
                let c = *bytes.get(i + 1)?;
                i += 2;
                match c {
                    b'0'..=b'7' => {
                        let octal = std::str::from_utf8(bytes.get(i - 1..i + 2)?).ok()?;
                        out.push(u8::from_str_radix(octal, 8).ok()?);
                        i += 2;
                    }
                    b'n' => out.push(b'\n'),
                    b't' => out.push(b'\t'),
                    b'r' => out.push(b'\r'),
                    b'a' => out.push(7),
                    b'b' => out.push(8),
                    b'v' => out.push(11),
                    b'f' => out.push(12),
                    other => out.push(other),
                }
            }
            b => {
                out.push(b);
                i += 1;
            }
        }
    }
}

/// What `unzip -Z -l -T` prints: mode, version, system, size, …, `YYYYMMDD.HHMMSS`, name.
fn zip_members(text: &str) -> Result<Members, String> {
    let mut all = Members::new();
    for line in text.lines() {
        let stamp = |w: &str| {
            let (d, t) = w.split_once('.')?;
            (d.len() == 8 && t.len() == 6 && d.bytes().chain(t.bytes()).all(|b| b.is_ascii_digit())).then(|| {
                let date = format!("{}-{}-{}", &d[..4], &d[4..6], &d[6..]);
                time(&date, &format!("{}:{}:{}", &t[..2], &t[2..4], &t[4..]))
            })?
        };
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some((n, mtime)) = words.iter().take(9).enumerate().find_map(|(i, w)| Some((i, stamp(w)?))) else {
            continue;
        };
        let Some(size) = words.get(3).and_then(|w| w.parse().ok()).filter(|_| n >= 6) else { continue };
        let after = line.find(words[n]).map_or("", |at| &line[at + words[n].len()..]);
        let raw = after.strip_prefix(' ').unwrap_or(after);
        let kind = match (words[0].chars().next(), raw.ends_with('/')) {
            (Some('d'), _) | (_, true) => EntryKind::Directory,
            (Some('l'), _) => EntryKind::Other,
            _ => EntryKind::File,
        };
        let mode = bits(words[0].get(1..).unwrap_or_default());
        let m = Member { kind, mode, uid: UNKNOWN_ID, gid: UNKNOWN_ID, size: Some(size), mtime, link: None };
        // What is a link in a zip only unpacking shows.
        if let Some(name) = name_of(raw)?
            && kind != EntryKind::Other
        {
            all.insert(name, m);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    fn sh(dir: &Path, script: &str) {
        let out = Command::new("sh").arg("-c").arg(script).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Asks this machine until there is a decision.
    fn decide(m: &Unarchive, c: &Ctx) -> Result<Decision, Stop> {
        let mut asked = m.probes(c);
        for _ in 0..8 {
            match m.decide(&look(asked.clone()), c) {
                Err(Stop::Need(more)) => asked.extend(more),
                other => return other,
            }
        }
        panic!("it asks and asks: {asked:?}")
    }

    fn me() -> Ctx {
        let root = rustix::process::geteuid().is_root();
        Ctx { user: if root { "root".into() } else { "me".into() }, ..ctx() }
    }

    #[test]
    fn unpacked_once_and_put_right_when_disturbed() {
        for (pack, ext) in [
            ("tar -cf ../x.tar .", "tar"),
            ("tar -czf ../x.tar.gz .", "tar.gz"),
            ("tar -cJf ../x.tar.xz .", "tar.xz"),
            ("command -v zip >/dev/null || exit 0; zip -qry ../x.zip .", "zip"),
        ] {
            let t = tempfile::tempdir().unwrap();
            let dir = t.path();
            sh(
                dir,
                &format!(
                    "mkdir in out out/sub in/sub; echo hi > 'in/a b'; printf '#!/bin/sh\n' > in/sub/run; chmod 755 in/sub/run; chmod 644 'in/a b'; \
                 echo own > out/own; touch -d '2024-01-02 03:04:06Z' in/sub/run 'in/a b'; cd in; {pack}"
                ),
            );
            let archive = dir.join(format!("x.{ext}"));
            if !archive.exists() {
                continue;
            }
            let out = dir.join("out");
            let m: Unarchive =
                bind(&format!("{{src: {}, dest: {}, remote_src: true}}", archive.display(), out.display()));
            let c = change(decide(&m, &me()));
            run(&c);
            assert_eq!(std::fs::read_to_string(out.join("a b")).unwrap(), "hi\n", "{ext}");
            assert_eq!(std::fs::metadata(out.join("sub/run")).unwrap().permissions().mode() & 0o777, 0o755);
            satisfied(decide(&m, &me()));
            let left = std::fs::read_dir(&out).unwrap().count();
            assert_eq!(left, 3, "{ext}: nothing else is left there");
            for disturbance in
                ["echo ho > 'out/a b'", "rm out/sub/run", "touch out/sub/run", "rm -r out/sub", "mkdir out/.windlass-x"]
            {
                if disturbance.contains(".windlass-x") {
                    let (temp, _) = m.unfinished();
                    std::fs::create_dir(temp).unwrap();
                } else {
                    sh(dir, disturbance);
                }
                let c = change(decide(&m, &me()));
                run(&c);
                satisfied(decide(&m, &me()));
            }
            assert_eq!(std::fs::read_to_string(out.join("own")).unwrap(), "own\n");
        }
    }

    #[test]
    fn options_choose_and_rename() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        sh(
            dir,
            "mkdir -p top/sub out; echo 1 > top/one; echo 2 > top/sub/two; echo 3 > top/sub/three; ln -s one top/l; tar -czf x.tgz top",
        );
        let m: Unarchive = bind(&format!(
            "{{src: {0}/x.tgz, dest: {0}/out, remote_src: true, extra_opts: [--strip-components=1], exclude: ['*three'], \
             list_files: true, mode: 'u=rwX,go='}}",
            dir.display()
        ));
        let c = change(decide(&m, &me()));
        assert_eq!(c.result["files"], json!(["l", "one", "sub", "sub/two"]));
        run(&c);
        satisfied(decide(&m, &me()));
        let mode = |p: &str| std::fs::metadata(dir.join("out").join(p)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("one"), mode("sub"), dir.join("out/sub/three").exists()), (0o600, 0o700, false));
        sh(dir, "chmod 644 out/one; chmod 755 out/sub");
        let c = change(decide(&m, &me()));
        assert_eq!(c.summary, "mode or owner of 2 members");
        run(&c);
        satisfied(decide(&m, &me()));
        sh(dir, "ln -sfn two out/l");
        let c = change(decide(&m, &me()));
        assert!(c.summary.starts_with("1 of 4 members is missing or differs: l"), "{}", c.summary);
    }

    #[test]
    fn a_newer_file_stays_if_it_may() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        sh(
            dir,
            "mkdir in out; echo 1 > in/f; echo 1 > in/g; touch -d 2024-01-01 in/f in/g; tar -cf x.tar -C in .; echo new > out/f",
        );
        let m: Unarchive =
            bind(&format!("{{src: {0}/x.tar, dest: {0}/out, remote_src: true, keep_newer: true}}", dir.display()));
        run(&change(decide(&m, &me())));
        assert_eq!(std::fs::read_to_string(dir.join("out/f")).unwrap(), "new\n");
        satisfied(decide(&m, &me()));
    }

    #[test]
    fn the_lists_of_tar() {
        let text = "drwxr-xr-x 0/0               0 2024-01-02 03:04:05 \"./d\"/\n\
                    -rwsr-xr-x 1000/50           3 2024-01-02 03:04:05.123 \"d/q\\\"'\\\\\\303\\274\\nn\"\n\
                    lrwxrwxrwx 0/0               0 2024-01-02 03:04:05 \"d/s -> t\" -> \"a b\"\n\
                    hrw-r--r-- 0/0               0 2024-01-02 03:04:05 \"/d/hard\" link to \"d/a\"\n\
                    drwxr-xr-x 0/0               0 2024-01-02 03:04:05 \"\"/\n";
        let m = tar_members(text).unwrap();
        assert_eq!(m.keys().collect::<Vec<_>>(), ["d", "d/hard", "d/q\"'\\ü\nn", "d/s -> t"]);
        let f = &m["d/q\"'\\ü\nn"];
        assert_eq!((f.mode, f.uid, f.gid, f.size, f.mtime), (0o4755, 1000, 50, Some(3), 1_704_164_645));
        assert_eq!((m["d/s -> t"].link.as_deref(), m["d/hard"].size), (Some("a b"), None));
        assert!(tar_members("-rw-r--r-- 0/0 1 2024-01-02 03:04:05 \"a/../../x\"\n").unwrap_err().contains("leads out"));
        assert!(tar_members("garbage\n").is_err());
        let odd = tar_members("-rw-r--r-- 0/0 1 2024-01-02 03:04:05 \"d/caf\\351\"\n").unwrap_err();
        assert!(odd.contains(r"d/caf\xe9") && odd.contains("exclude: ['d/caf?']"), "{odd}");
    }

    #[test]
    fn from_here_it_is_sent_only_if_needed() {
        let m: Unarchive = bind("{src: https://host/x.tgz, dest: /opt}");
        let dir = at("/opt", Some(entry(EntryKind::Directory, 0o755)));
        let mut o = seen([dir]);
        let Err(Stop::Need(p)) = m.decide(&o, &ctx()) else { panic!() };
        assert!(matches!(&p[0], Probe::Archive(l) if l.of.url == "https://host/x.tgz"), "{p:?}");
        o.insert(p[0].clone(), Answer::Archive(Ok("-rw-r--r-- 0/0 3 2023-11-14 22:13:20 \"f\"\n".into())));
        let Err(Stop::Need(p)) = m.decide(&o, &ctx()) else { panic!() };
        for p in p {
            let Probe::Path(p) = p else { panic!() };
            let (k, a) = at(&p, None);
            o.insert(k, a);
        }
        let c = change(m.decide(&o, &ctx()));
        let [Action::Put(put), Action::Script(s)] = c.actions.as_slice() else { panic!("{c:?}") };
        sh_accepts(s);
        assert!(put.path.starts_with("/opt/.windlass-") && put.mode == 0o600);
        satisfied(m.decide(&then(o, &c), &ctx()));
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Unarchive>("{src: x.tgz, dest: opt}").is_err());
        assert!(try_bind::<Unarchive>("{src: x.tgz, dest: /opt, remote_src: true}").is_err());
        assert!(try_bind::<Unarchive>("{src: 'ftp://h/x.tgz', dest: /opt}").is_err());
        let m: Unarchive = bind("{src: /x.tgz, dest: /opt, creates: /opt/f}");
        satisfied(m.decide(&seen([at("/opt/f", Some(entry(EntryKind::File, 0o644)))]), &ctx()));
        let m: Unarchive = bind("{src: /x.tgz, dest: /opt}");
        assert!(matches!(m.decide(&seen([at("/opt", None)]), &ctx()), Err(Stop::Fail(_))));
    }

    #[test]
    fn a_link_below_dest_is_not_followed() {
        // With and without a member for the folder itself.
        for (of, names_only) in [("d", ""), ("d/f", ""), ("d", ", extra_opts: [--keep-directory-symlink]")] {
            let t = tempfile::tempdir().unwrap();
            let dir = t.path();
            sh(
                dir,
                &format!(
                    "mkdir -p in/d out victim; chmod 755 victim; echo 1 > in/d/f; chmod 644 in/d/f; tar -cf x.tar -C in {of}; \
                     cp -p in/d/f victim/f; echo 2 > victim/own; ln -s ../victim out/d"
                ),
            );
            let m: Unarchive = bind(&format!(
                "{{src: {0}/x.tar, dest: {0}/out, remote_src: true, mode: 'u=rwx,go='{names_only}}}",
                dir.display()
            ));
            let victim = |p: &str| std::fs::metadata(dir.join("victim").join(p)).unwrap().permissions().mode() & 0o777;
            let c = change(decide(&m, &me()));
            assert!(!format!("{:?}", c.actions).contains("chown -- "));
            run(&c);
            let out = dir.join("out/d");
            if names_only.is_empty() {
                assert!(!out.is_symlink() && out.join("f").exists() && !out.join("own").exists(), "{of}");
                assert_eq!((victim("."), victim("f")), (0o755, 0o644), "{of}");
            } else {
                assert!(out.is_symlink());
                assert_eq!((victim("."), victim("f")), (0o755, 0o700));
            }
            satisfied(decide(&m, &me()));
        }
    }

    #[test]
    fn links_right_below_the_root_are_the_systems() {
        let m: Unarchive = bind("{src: /x.tar, dest: /, remote_src: true}");
        assert!(m.keeps_link("lib") && !m.keeps_link("srv/d"));
        let s = m.unpack(&Members::new(), "/.t", "/.p");
        sh_accepts(&s);
        assert!(s.contains("case $f in ./*/*)"));
        assert!(!bind::<Unarchive>("{src: /x.tar, dest: /opt, remote_src: true}").keeps_link("lib"));
    }

    #[test]
    fn only_what_is_asked_for_is_unpacked() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        sh(dir, "mkdir -p top/sub out; echo 1 > top/one; echo 2 > top/sub/two; tar -czf x.tgz top");
        let m = |more: &str| -> Unarchive {
            let d = dir.display();
            bind(&format!("{{src: {d}/x.tgz, dest: {d}/out, remote_src: true, include: [top/sub]{more}}}"))
        };
        run(&change(decide(&m(""), &me())));
        satisfied(decide(&m(""), &me()));
        assert!(dir.join("out/top/sub/two").exists() && !dir.join("out/top/one").exists());
        // Whose they are is told and not tried: that takes root.
        let c = change(decide(&m(", owner: nobody, group: nogroup"), &me()));
        let said = format!("{:?}", c.actions);
        assert!(said.contains("nobody:nogroup") && said.contains("top/sub/two"), "{said}");
    }
}
