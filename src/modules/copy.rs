//! `copy` and `template`: a file with a body that lies here.

use super::args::{Bool, Mode, Text, Validate};
use super::place::kept;
use super::place::{
    Meta, NewFolder, Wanted, beside, chown_spec, facts, folders, new_entry, through_link, tidy, unchanged_folders,
};
use super::{ArgError, Change, Ctx, Decision, FileKind, Local, Module, Stop, hex};
use crate::action::Action;
use crate::host::validating;
use crate::probe::{Answer, Entry, EntryKind, Observed, PathState, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Puts a file on the host, or a folder with all that is in it, from here or from the host itself; or a text as a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The file here, looked for in the role's files/ and beside the playbook. A folder is copied with all in it; with
    /// a trailing slash, only what is in it.
    src: Option<Text>,
    /// The file's text, instead of `src`.
    #[schemars(with = "Option<String>", extend("x-any" = true))]
    content: Option<Value>,
    /// Where the file goes. A folder, if it is one or ends in a slash: the file goes into it under its own name.
    dest: Text,
    /// Permissions of files; `preserve` for those of the source.
    mode: Option<Mode>,
    /// Permissions of folders that are made.
    directory_mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
    /// Keep the old file beside the new one.
    #[serde(default)]
    backup: Bool,
    /// `false`: only if there is no file yet.
    #[serde(default = "yes")]
    force: Bool,
    /// If `dest` is a link: change the file it leads to. Otherwise the link gives way to a file.
    #[serde(default)]
    follow: Bool,
    /// `src` is a file on the host.
    #[serde(default)]
    remote_src: Bool,
    /// The SHA-256 that the source must have.
    checksum: Option<Text>,
    /// A command that must accept the new file before it is moved into place; `%s` is its path. It is run without a shell.
    validate: Option<Validate>,
    #[serde(skip)]
    #[schemars(skip)]
    source: Source,
}

/// Where the body comes from.
#[derive(Debug)]
enum Source {
    Body {
        body: Arc<[u8]>,
        /// The name it gets in a folder.
        name: Option<String>,
    },
    Tree(Vec<Item>),
    Host(String),
}

impl Default for Source {
    fn default() -> Self {
        Source::Body { body: Arc::from([]), name: None }
    }
}

/// One thing of a folder that is copied.
#[derive(Debug)]
struct Item {
    path: String,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The folder that is copied: where it is there already, it stays as it is.
    Top,
    Folder,
    File {
        body: Arc<[u8]>,
        mode: Option<Mode>,
    },
    /// A link that leads nowhere, or to a folder it lies in: it stays a link.
    Link(String),
}

fn yes() -> Bool {
    Bool(true)
}

impl Module for Copy {
    const NAME: &'static str = "copy";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("dest", "The path on the host."),
        ("src", "Where it came from."),
        ("checksum", "The content's SHA-256."),
        ("backup_file", "The old file's copy, where one was kept."),
    ];
    const EXAMPLE: &'static str = r##"- name: A small file
  copy:
    content: "vm.swappiness = 10\n"
    dest: /etc/app.conf
    mode: "0644"
  notify: restart it"##;

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        absolute("dest", &self.dest)?;
        let checksum = match self.checksum.as_deref().map(str::to_ascii_lowercase) {
            Some(c) if c.len() != 64 || !c.bytes().all(|b| b.is_ascii_hexdigit()) => {
                return Err(ArgError::new("checksum", "expected a SHA-256: 64 hexadecimal digits"));
            }
            c => c,
        };
        self.checksum = checksum.map(Text);
        if self.directory_mode == Some(Mode::Preserve) {
            return Err(ArgError::new("directory_mode", "`preserve` has no meaning here"));
        }
        self.source = match (&self.src, &self.content) {
            (Some(_), Some(_)) => return Err(ArgError::new("content", "`src` and `content` exclude each other")),
            (None, None) => return Err(ArgError::new("", "`copy` needs `src` or `content`")),
            (None, Some(v)) => {
                if self.dest.ends_with('/') {
                    return Err(ArgError::new("dest", "with `content`, `dest` must name a file, not a folder"));
                }
                if self.remote_src.0 {
                    return Err(ArgError::new("remote_src", "`remote_src` goes with `src`"));
                }
                let text = match v {
                    Value::String(s) => s.clone(),
                    Value::Null => String::new(),
                    // As Ansible writes it.
                    Value::Bool(b) => if *b { "True" } else { "False" }.to_string(),
                    other => crate::template::python_json(other),
                };
                Source::Body { body: text.into_bytes().into(), name: None }
            }
            (Some(src), None) if self.remote_src.0 => {
                absolute("src", src)?;
                if src.ends_with('/') {
                    return Err(ArgError::new("src", "with `remote_src`, `src` must be a file")
                        .hint("for a folder: `command: cp -a …` with `creates`"));
                }
                Source::Host(tidy(src))
            }
            (Some(src), None) => {
                let path = local.find(FileKind::File, src)?;
                if path.is_dir() {
                    let mut items = vec![];
                    let name = src.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                    let into = match src.ends_with('/') {
                        true => tidy(&self.dest),
                        false => tidy(&format!("{}/{name}", &*self.dest)),
                    };
                    let mut parents = vec![];
                    walk(&path, &into, self.mode.as_ref(), local, &mut items, &mut parents)?;
                    Source::Tree(items)
                } else {
                    if self.mode == Some(Mode::Preserve) {
                        self.mode = bits_of(&path);
                    }
                    let name = src.rsplit('/').next().map(str::to_string);
                    Source::Body { body: local.read(&path)?.into(), name }
                }
            }
        };
        if let (Some(sum), source) = (&self.checksum, &self.source) {
            match source {
                Source::Body { body, .. } if hex(&Sha256::digest(body)) != **sum => {
                    return Err(ArgError::new("checksum", "the source has another SHA-256")
                        .hint(format!("it has {}", hex(&Sha256::digest(body)))));
                }
                Source::Tree(_) => return Err(ArgError::new("checksum", "a folder has no checksum")),
                _ => {}
            }
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        match &self.source {
            Source::Body { .. } => {
                let mut p = self.wanted(&self.guess()).probes();
                p.extend(self.folder().map(|f| Probe::Path(f.into())));
                p
            }
            Source::Host(src) => {
                let mut p = self.wanted(&self.guess()).probes();
                p.extend(self.folder().map(|f| Probe::Path(f.into())));
                p.extend([Probe::Path(src.clone()), Probe::Sha256(src.clone())]);
                p
            }
            Source::Tree(items) => {
                let mut p: Vec<Probe> =
                    items.first().iter().flat_map(|i| folders(&i.path)).map(|f| Probe::Path(f.into())).collect();
                for i in items {
                    p.push(Probe::Path(i.path.clone()));
                    if matches!(i.what, What::File { .. }) {
                        p.push(Probe::Sha256(i.path.clone()));
                    }
                }
                p
            }
        }
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let name = match &self.source {
            Source::Tree(items) => return self.tree(items, seen, ctx),
            Source::Body { name, .. } => name.as_deref(),
            Source::Host(src) => src.rsplit('/').next(),
        };
        let at = target(&self.guess(), name, self.follow, seen)?;
        let decision = match &self.source {
            Source::Host(src) => self.on_host(src, &at, seen, ctx),
            _ => decide(&self.wanted(&at.path), self.force, seen, ctx),
        };
        let mut decision = finish(decision?, &at);
        came_from(&mut decision, self.src.as_ref());
        if let (Decision::Change(c), Some(folder)) = (&mut decision, self.folder())
            && seen.path(folder)?.followed().is_none()
        {
            let new = self.new_folder(folder);
            c.actions.insert(0, Action::Script(new.script()));
            c.after.extend(new.after(seen, ctx));
        }
        Ok(decision)
    }
}

/// All in a folder here, folders first, by name.
fn walk(
    from: &Path,
    to: &str,
    mode: Option<&Mode>,
    local: &dyn Local,
    items: &mut Vec<Item>,
    parents: &mut Vec<PathBuf>,
) -> Result<(), ArgError> {
    let failed = |e: std::io::Error| ArgError::new("src", format!("{}: {e}", from.display()));
    if items.len() > 10_000 {
        return Err(ArgError::new("src", format!("{} holds more than 10000 files", from.display()))
            .hint("pack it and use `unarchive`"));
    }
    items.push(Item { path: to.to_string(), what: if parents.is_empty() { What::Top } else { What::Folder } });
    parents.push(std::fs::canonicalize(from).map_err(failed)?);
    let mut entries = std::fs::read_dir(from).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for e in entries {
        let path = e.path();
        let Some(name) = e.file_name().to_str().map(str::to_string) else {
            return Err(ArgError::new("src", format!("the name of {} is not UTF-8", path.display())));
        };
        let to = format!("{}/{name}", to.trim_end_matches('/'));
        let leads = std::fs::canonicalize(&path);
        if path.is_symlink() && leads.as_ref().map_or(true, |l| parents.contains(l)) {
            let link = std::fs::read_link(&path).map_err(failed)?;
            let Some(link) = link.to_str().map(str::to_string) else {
                return Err(ArgError::new("src", format!("what the link {} says is not UTF-8", path.display())));
            };
            items.push(Item { path: to, what: What::Link(link) });
        } else if path.is_dir() {
            walk(&path, &to, mode, local, items, parents)?;
        } else {
            let mode = match mode {
                Some(Mode::Preserve) => bits_of(&path),
                m => m.cloned(),
            };
            items.push(Item { path: to, what: What::File { body: local.read(&path)?.into(), mode } });
        }
    }
    parents.pop();
    Ok(())
}

fn bits_of(path: &Path) -> Option<Mode> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).map(|m| Mode::Bits(m.permissions().mode() & 0o7777)).ok()
}

/// Where a file goes, and the link that leads there if one is followed.
struct Target {
    path: String,
    link: Option<(String, PathState)>,
}

/// The file's own place: in `dest` if that is a folder, behind it if it is a link that is followed.
fn target(dest: &str, name: Option<&str>, follow: Bool, seen: &Observed) -> Result<Target, Stop> {
    let mut path = dest.to_string();
    let mut state = seen.path(dest)?;
    if state.followed().is_some_and(|e| e.kind == EntryKind::Directory)
        && let Some(name) = name
    {
        path = format!("{}/{name}", dest.trim_end_matches('/'));
        state = seen.path(&path)?;
    }
    if follow.0 && state.entry.as_ref().is_some_and(|e| e.kind == EntryKind::Link) {
        let link = Some((path, state.clone()));
        return Ok(Target { path: state.canonical.clone(), link });
    }
    Ok(Target { path, link: None })
}

fn finish(mut decision: Decision, at: &Target) -> Decision {
    if let (Decision::Change(c), Some((name, state))) = (&mut decision, &at.link) {
        through_link(&mut c.after, name, state);
    }
    decision
}

impl Copy {
    fn wanted<'a>(&'a self, path: &'a str) -> Wanted<'a> {
        Wanted {
            path,
            body: match &self.source {
                Source::Body { body, .. } => body.clone(),
                _ => Arc::from([]),
            },
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: self.validate.as_deref(),
            backup: self.backup.0,
        }
    }

    fn new_folder<'a>(&'a self, path: &'a str) -> NewFolder<'a> {
        NewFolder {
            path,
            mode: self.directory_mode.as_ref().map(|m| m.apply(0o755, true)),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
        }
    }

    /// The folder that `dest` names by its trailing slash.
    fn folder(&self) -> Option<&str> {
        self.dest.ends_with('/').then(|| self.dest.trim_end_matches('/')).filter(|f| !f.is_empty())
    }

    /// Where the file goes as far as it can be said without a look.
    fn guess(&self) -> String {
        let name = match &self.source {
            Source::Body { name, .. } => name.as_deref(),
            Source::Host(src) => src.rsplit('/').next(),
            Source::Tree(_) => None,
        };
        match name.filter(|_| self.dest.ends_with('/')) {
            Some(n) => format!("{}{n}", &*self.dest),
            None => self.dest.0.clone(),
        }
    }

    fn tree(&self, items: &[Item], seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let (mut all, mut needs) = (Change::default(), vec![]);
        let (mut files, mut made, mut own) = (0, 0, vec![]);
        for i in items {
            let one = match &i.what {
                What::Top => self.tree_folder(&i.path, true, seen, ctx, &mut made),
                What::Folder => self.tree_folder(&i.path, false, seen, ctx, &mut made),
                What::Link(to) => self.tree_link(&i.path, to, seen, ctx),
                What::File { body, mode } => {
                    let wanted = Wanted { body: body.clone(), mode: mode.as_ref(), ..self.wanted(&i.path) };
                    decide(&wanted, self.force, seen, ctx)
                }
            };
            match one {
                Ok(Decision::Change(c)) => {
                    files += usize::from(matches!(i.what, What::File { .. } | What::Link(_)));
                    let named = |p: &Probe| matches!(p, Probe::Path(p) if *p == i.path);
                    own.extend(c.after.iter().rfind(|(p, _)| named(p)).cloned());
                    all.actions.extend(c.actions);
                    all.touches = all.touches.and(c.touches);
                    all.after.extend(c.after);
                    all.diff.extend(c.diff);
                }
                Ok(_) => {}
                Err(Stop::Need(n)) => needs.extend(n),
                Err(e) => return Err(e),
            }
        }
        if !needs.is_empty() {
            return Err(Stop::Need(needs));
        }
        let mut result = serde_json::Map::new();
        result.insert("dest".into(), self.dest.0.clone().into());
        result.insert("src".into(), self.src.as_deref().unwrap_or_default().into());
        if all.actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        all.summary = match (files, made) {
            (n, 0) => count(n, "file"),
            (0, n) => count(n, "folder"),
            (f, d) => format!("{}, {}", count(f, "file"), count(d, "folder")),
        };
        all.result = result;
        // What was there before and is not touched by name stays known, but for the folders between.
        let again: Vec<_> = items
            .iter()
            .filter(|i| !all.after.iter().any(|(p, _)| matches!(p, Probe::Path(p) if *p == i.path)))
            .flat_map(|i| [Probe::Path(i.path.clone()), Probe::Sha256(i.path.clone())])
            .filter_map(|p| seen.get(&p).map(|a| (p.clone(), a.clone())))
            .collect();
        all.after.extend(again);
        // What a step says of the folders above it is older than what those folders' own steps say.
        all.after.extend(own);
        Ok(Decision::Change(all))
    }

    /// A link that stays one.
    fn tree_link(&self, path: &str, to: &str, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let state = seen.path(path)?;
        let (owner, group) = (self.owner.as_deref(), self.group.as_deref());
        let meta = Meta { mode: None, owner, group };
        let there = |entry: Entry| {
            let canonical = match to.starts_with('/') {
                true => tidy(to),
                false => tidy(&format!("{}/{to}", path.rsplit_once('/').map_or("", |(d, _)| d))),
            };
            let link =
                PathState { entry: Some(entry), link: Some(to.to_string()), canonical, target: None, denied: false };
            vec![(Probe::Path(path.into()), Answer::Path(link))]
        };
        let (script, summary, after) = match &state.entry {
            Some(e) if e.kind == EntryKind::Directory => return Err(Stop::fail(format!("{path} is a directory"))),
            Some(_) if !self.force.0 => return Ok(Decision::satisfied(Default::default())),
            Some(e) if e.kind == EntryKind::Link && state.link.as_deref() == Some(to) => match meta.fix(path, e) {
                None => return Ok(Decision::satisfied(Default::default())),
                Some(fix) => (fix.script, fix.summary, there(meta.onto(e))),
            },
            _ => {
                let (q, temp) = (shell_quote(path), shell_quote(&beside(path)));
                let own = chown_spec(owner, group).map(|o| format!(" && chown -h -- {} {temp}", shell_quote(&o)));
                let own = own.unwrap_or_default();
                let script =
                    format!("rm -f -- {temp} && ln -s -- {} {temp}{own} && mv -fT -- {temp} {q}", shell_quote(to));
                let new = new_entry(EntryKind::Link, 0o777, to.len() as u64, (owner, group), ctx);
                (script, "new link".to_string(), there(new))
            }
        };
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches: Touches::path(path),
            after: [unchanged_folders(path, seen), after].concat(),
            summary,
            ..Default::default()
        }))
    }

    fn tree_folder(
        &self,
        path: &str,
        is_top: bool,
        seen: &Observed,
        ctx: &Ctx,
        made: &mut usize,
    ) -> Result<Decision, Stop> {
        let state = seen.path(path)?;
        match state.followed() {
            // What was there before may be anybody's: `/etc`.
            Some(e) if e.kind == EntryKind::Directory && is_top => Ok(Decision::satisfied(Default::default())),
            Some(e) if e.kind == EntryKind::Directory => {
                let mode = self.directory_mode.as_ref().map(|m| m.apply(e.mode, true));
                let meta = Meta { mode, owner: self.owner.as_deref(), group: self.group.as_deref() };
                let Some(fix) = meta.fix(&state.canonical, e) else {
                    return Ok(Decision::satisfied(Default::default()));
                };
                *made += 1;
                let mut after = state.clone();
                let place = if after.target.is_some() { &mut after.target } else { &mut after.entry };
                *place = Some(meta.onto(e));
                // Only the folder itself changes, but what is in it is named with it: all of it is told again.
                Ok(Decision::Change(Change {
                    actions: vec![Action::Script(fix.script)],
                    touches: Touches::path(&state.canonical),
                    after: vec![(Probe::Path(path.into()), Answer::Path(after))],
                    ..Default::default()
                }))
            }
            Some(_) => Err(Stop::fail(format!("{path} is not a folder"))),
            None => {
                *made += 1;
                let new = self.new_folder(path);
                Ok(Decision::Change(Change {
                    actions: vec![Action::Script(new.script())],
                    touches: Touches::entry(path),
                    after: new.after(seen, ctx),
                    ..Default::default()
                }))
            }
        }
    }

    /// A file of the host copied on the host.
    fn on_host(&self, src: &str, at: &Target, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let path = &at.path;
        let from = seen.path(src)?;
        match from.followed().map(|e| e.kind) {
            Some(EntryKind::File) => {}
            Some(EntryKind::Directory) => {
                return Err(Stop::fail_hint(
                    format!("{src} is a folder: `remote_src` copies one file"),
                    "for a folder: `command: cp -a …` with `creates`",
                ));
            }
            Some(_) => return Err(Stop::fail(format!("{src} is not a regular file"))),
            None => return Err(Stop::fail(format!("{src} does not exist on the host"))),
        }
        let Some(sum) = seen.sha256(src)?.clone() else { return Err(Stop::fail(format!("{src} cannot be read"))) };
        if let Some(want) = self.checksum.as_deref().filter(|c| **c != sum) {
            return Err(Stop::fail(format!("{src} has the SHA-256 {sum}, not {want}")));
        }
        let state = seen.path(path)?;
        if !self.force.0
            && let Some(e) = &state.entry
        {
            let mut result = stays(path, e);
            result.insert("src".into(), src.into());
            return Ok(Decision::satisfied(result));
        }
        if state.followed().is_some_and(|e| e.kind == EntryKind::Directory) {
            return Err(Stop::fail(format!("{path} is a directory")));
        }
        let old = state.entry.as_ref().filter(|e| e.kind == EntryKind::File);
        let preserved = from.followed().map_or(0o644, |e| e.mode);
        let base = old.map_or(0o644, |e| e.mode);
        let mode = match &self.mode {
            Some(Mode::Preserve) => preserved,
            Some(m) => m.apply(base, false),
            None => base,
        };
        let meta = Meta { mode: Some(mode), owner: self.owner.as_deref(), group: self.group.as_deref() };
        let own = (meta.owner, meta.group);
        let size = from.followed().map_or(0, |e| e.size);
        let entry = match old {
            Some(e) => Entry { size, mtime: ctx.now, inode: String::new(), times: None, ..meta.onto(e) },
            None => new_entry(EntryKind::File, mode, size, own, ctx),
        };
        let mut result = facts(path, &entry);
        result.insert("dest".into(), path.clone().into());
        result.insert("src".into(), src.into());
        result.insert("checksum".into(), sum.clone().into());
        let there = |entry: Entry| {
            let state = PathState { entry: Some(entry), canonical: state.canonical.clone(), ..Default::default() };
            (Probe::Path(path.clone()), Answer::Path(state))
        };
        let digest = (Probe::Sha256(path.clone()), Answer::Sha256(Some(sum.clone())));
        if let Some(e) = old
            && seen.sha256(path)?.as_deref() == Some(&sum)
        {
            let Some(fix) = meta.fix(path, e) else { return Ok(Decision::satisfied(result)) };
            return Ok(Decision::Change(Change {
                actions: vec![Action::Script(fix.script)],
                touches: Touches::path(path),
                after: vec![there(meta.onto(e)), digest],
                summary: fix.summary,
                result,
                ..Default::default()
            }));
        }
        let (q, temp) = (shell_quote(path), shell_quote(&beside(path)));
        let mut steps = vec![format!("rm -f -- {temp}"), format!("(umask 077; cp -- {} {temp})", shell_quote(src))];
        let left = format!("trap 'rm -f -- \"$t\"' EXIT; t={temp}\n");
        let owner = meta.owner.or(old.map(|e| e.owner.as_str()));
        let group = meta.group.or(old.map(|e| e.group.as_str()));
        if let Some(spec) = chown_spec(owner, group) {
            steps.push(format!("chown -- {} {temp}", shell_quote(&spec)));
        }
        steps.push(format!("chmod -- {mode:04o} {temp}"));
        if let Some(v) = self.validate.as_deref() {
            steps.push(validating(v, &beside(path)));
        }
        if self.backup.0 && old.is_some() {
            let kept = kept(path, seen, ctx)?;
            steps.push(format!("cp -p --remove-destination -- {q} {}", shell_quote(&kept)));
            result.insert("backup_file".into(), kept.into());
        }
        steps.push(format!("sync -- {temp}"));
        steps.push(format!("mv -fT -- {temp} {q}"));
        let mut after = vec![there(entry), digest];
        after.extend(unchanged_folders(path, seen));
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(left + &steps.join(" && "))],
            touches: Touches::path(path),
            after,
            summary: if old.is_some() { "content changes".into() } else { "new file".into() },
            result,
            ..Default::default()
        }))
    }
}

/// Puts a file on the host, rendered from a template here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The template here (`.hbs`, or Jinja's `.j2`), looked for in the role's templates/ and beside the playbook.
    src: Text,
    /// Where the file goes; with a trailing slash, the folder it goes into.
    dest: Text,
    /// The mode: `"0644"`, or `u=rw,g=r`; without it, as it is, or as the umask makes it.
    mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
    /// Keep the old file beside the new one.
    #[serde(default)]
    backup: Bool,
    /// `false`: only if there is no file yet.
    #[serde(default = "yes")]
    force: Bool,
    /// If `dest` is a link: change the file it leads to. Otherwise the link gives way to a file.
    #[serde(default)]
    follow: Bool,
    /// The end of a line: `\n` (the default), `\r\n` or `\r`.
    newline_sequence: Option<Text>,
    /// A command that must accept the new file before it is moved into place; `%s` is its path. It is run without a shell.
    validate: Option<Validate>,
    /// In a `.j2` file: the newline behind a block's tag goes (the default).
    trim_blocks: Option<Bool>,
    /// In a `.j2` file: the white space before a block's tag goes.
    lstrip_blocks: Option<Bool>,
    /// In a `.j2` file: how a variable begins (`{{`).
    variable_start_string: Option<Text>,
    /// In a `.j2` file: how a variable ends (`}}`).
    variable_end_string: Option<Text>,
    /// In a `.j2` file: how a block's tag begins (`{%`).
    block_start_string: Option<Text>,
    /// In a `.j2` file: how a block's tag ends (`%}`).
    block_end_string: Option<Text>,
    /// In a `.j2` file: how a comment begins (`{#`).
    comment_start_string: Option<Text>,
    /// In a `.j2` file: how a comment ends (`#}`).
    comment_end_string: Option<Text>,
    #[serde(skip)]
    #[schemars(skip)]
    body: Arc<[u8]>,
}

/// Says how a template is written, as its task's parameters do.
pub fn settings(params: &serde_json::Map<String, serde_json::Value>) -> crate::template::Settings {
    let known = |k: &str| k.ends_with("_start_string") || k.ends_with("_end_string") || k.ends_with("_blocks");
    let said = |v: &serde_json::Value| match crate::template::truthy(v) {
        Some(true) => "True".to_string(),
        Some(false) => "False".to_string(),
        None => crate::template::text(v),
    };
    params
        .iter()
        .filter(|(k, v)| known(k) && !v.is_null())
        .map(|(k, v)| (k.clone(), if k.ends_with("_blocks") { said(v) } else { crate::template::text(v) }))
        .collect()
}

impl Module for Template {
    const NAME: &'static str = "template";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("dest", "The path on the host."),
        ("src", "Where it came from."),
        ("checksum", "The content's SHA-256."),
        ("backup_file", "The old file's copy, where one was kept."),
    ];
    const EXAMPLE: &'static str = r##"- name: The configuration, looked at before it is put in place
  template:
    src: app.conf.hbs
    dest: /etc/app.conf
    mode: "0640"
    validate: app --check %s
  notify: restart it"##;

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        let path = local.find(FileKind::Template, &self.src)?;
        let text = String::from_utf8(local.read(&path)?)
            .map_err(|_| ArgError::new("src", format!("{} is not UTF-8 text", path.display())))?;
        let end = match self.newline_sequence.as_deref() {
            None | Some("\n" | "\\n") => "\n",
            Some("\r\n" | "\\r\\n") => "\r\n",
            Some("\r" | "\\r") => "\r",
            Some(_) => return Err(ArgError::new("newline_sequence", "expected \\n, \\r\\n or \\r")),
        };
        let mut body = local.render(&path, &text, &self.settings())?;
        if end != "\n" {
            body = body.replace("\r\n", "\n").replace('\n', end);
        }
        self.body = body.into_bytes().into();
        if self.dest.ends_with('/') {
            let name = self.file_name();
            self.dest.0.push_str(&name);
        }
        absolute("dest", &self.dest)
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.wanted(&self.dest).probes()
    }
    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let at = target(&self.dest, Some(&self.file_name()), self.follow, seen)?;
        let mut decision = finish(decide(&self.wanted(&at.path), self.force, seen, ctx)?, &at);
        came_from(&mut decision, Some(&self.src));
        Ok(decision)
    }
}

impl Template {
    fn settings(&self) -> crate::template::Settings {
        let flags = [("trim_blocks", self.trim_blocks), ("lstrip_blocks", self.lstrip_blocks)];
        let texts = [
            ("variable_start_string", &self.variable_start_string),
            ("variable_end_string", &self.variable_end_string),
            ("block_start_string", &self.block_start_string),
            ("block_end_string", &self.block_end_string),
            ("comment_start_string", &self.comment_start_string),
            ("comment_end_string", &self.comment_end_string),
        ];
        let flags = flags.into_iter().filter_map(|(k, v)| Some((k.into(), if v?.0 { "True" } else { "False" }.into())));
        flags.chain(texts.into_iter().filter_map(|(k, v)| Some((k.into(), v.as_ref()?.0.clone())))).collect()
    }

    /// The file's name in a folder: the template's, without what marks it as one.
    fn file_name(&self) -> String {
        let name = self.src.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".hbs").unwrap_or(name).to_string()
    }

    fn wanted<'a>(&'a self, path: &'a str) -> Wanted<'a> {
        Wanted {
            path,
            body: self.body.clone(),
            mode: self.mode.as_ref(),
            owner: self.owner.as_deref(),
            group: self.group.as_deref(),
            validate: self.validate.as_deref(),
            backup: self.backup.0,
        }
    }
}

/// Of a file that is there and is not to be replaced.
fn stays(path: &str, e: &Entry) -> Map<String, Value> {
    let mut result = facts(path, e);
    result.insert("dest".into(), path.into());
    result
}

/// The result tells where the file came from.
fn came_from(decision: &mut Decision, src: Option<&Text>) {
    let result = match decision {
        Decision::Change(c) => &mut c.result,
        Decision::Satisfied(r) => &mut r.result,
        _ => return,
    };
    if let Some(src) = src {
        result.insert("src".into(), src.0.clone().into());
    }
}

fn decide(wanted: &Wanted<'_>, force: Bool, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
    if !force.0
        && let Some(e) = &seen.path(wanted.path)?.entry
    {
        return Ok(Decision::satisfied(stays(wanted.path, e)));
    }
    wanted.decide(seen, ctx)
}

/// Refuses a path on the host that depends on where we happen to be.
pub fn absolute(param: &str, path: &str) -> Result<(), ArgError> {
    if path.starts_with('/') { Ok(()) } else { Err(ArgError::new(param, format!("`{path}` is not an absolute path"))) }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::probe::Content;
    use serde_json::json;

    const P: &str = "/etc/x.conf";

    #[test]
    fn what_is_kept_within_one_second_has_names_of_its_own() {
        let name = |old: &str| kept(P, &seen(file(old, 0o644)), &ctx()).unwrap();
        assert_eq!(name("a"), "/etc/x.conf.1800000000.ca978112~");
        assert_ne!(name("a"), name("b"));
    }

    fn file(body: &str, mode: u32) -> Vec<(Probe, Answer)> {
        vec![
            at(P, Some(entry(EntryKind::File, mode))),
            (Probe::Sha256(P.into()), Answer::Sha256(Some(hex(&Sha256::digest(body))))),
            (Probe::Content(P.into()), Answer::Content(Content::Bytes(body.into()))),
        ]
    }

    #[test]
    fn a_missing_file_is_put_there() {
        let m: Copy = bind("{content: \"a\\n\", dest: /etc/x.conf}");
        let c = change(m.decide(&seen([at(P, None)]), &ctx()));
        let [Action::Put(p)] = c.actions.as_slice() else { panic!("{c:?}") };
        assert_eq!((p.mode, p.body.bytes(), p.owner.as_deref()), (0o644, b"a\n".as_slice(), None));
        assert_eq!(c.diff[0].before, None);
    }

    #[test]
    fn the_same_body_and_mode_is_satisfied() {
        let m: Copy = bind("{content: \"a\\n\", dest: /etc/x.conf, mode: '0600', owner: root}");
        satisfied(m.decide(&seen(file("a\n", 0o600)), &ctx()));
    }

    #[test]
    fn a_wrong_mode_alone_is_put_right_without_sending_the_file() {
        let m: Copy = bind("{content: \"a\\n\", dest: /etc/x.conf, mode: '0600'}");
        let c = change(m.decide(&seen(file("a\n", 0o644)), &ctx()));
        assert_eq!(c.actions, [Action::Script("chmod -- 0600 /etc/x.conf".into())]);
        assert_eq!(c.summary, "mode 0644 -> 0600");
    }

    #[test]
    fn an_existing_file_keeps_its_mode_when_none_is_given() {
        let m: Copy = bind("{content: \"b\\n\", dest: /etc/x.conf}");
        let c = change(m.decide(&seen(file("a\n", 0o640)), &ctx()));
        let [Action::Put(p)] = c.actions.as_slice() else { panic!("{c:?}") };
        assert_eq!((p.mode, p.owner.as_deref(), p.keeps.as_deref()), (0o640, None, Some("root:root")));
        assert_eq!(c.diff[0].before.as_deref(), Some("a\n"));
    }

    #[test]
    fn what_a_plan_says_holds_afterwards() {
        let m: Copy = bind("{content: \"b\\n\", dest: /etc/x.conf, mode: '0600'}");
        let c = change(m.decide(&seen(file("a\n", 0o644)), &ctx()));
        satisfied(m.decide(&seen(c.after), &ctx()));
    }

    #[test]
    fn force_false_leaves_an_existing_file() {
        let m: Copy = bind("{content: \"b\\n\", dest: /etc/x.conf, force: false}");
        satisfied(m.decide(&seen(file("a\n", 0o644)), &ctx()));
    }

    #[test]
    fn a_dest_folder_takes_the_file_under_its_name() {
        let m: Template = bind("{src: sub/motd.hbs, dest: /etc/}");
        assert_eq!(&*m.dest, "/etc/motd");
    }

    #[test]
    fn a_folder_that_is_there_takes_the_file_under_its_name() {
        let m: Copy = bind("{src: sub/motd, dest: /etc}");
        let o = seen([at("/etc", Some(entry(EntryKind::Directory, 0o755)))]);
        assert_eq!(m.decide(&o, &ctx()).unwrap_err(), Stop::Need(vec![Probe::Path("/etc/motd".into())]));
        let o = seen([at("/etc", Some(entry(EntryKind::Directory, 0o755))), at("/etc/motd", None)]);
        let c = change(m.decide(&o, &ctx()));
        assert!(matches!(&c.actions[..], [Action::Put(p)] if p.path == "/etc/motd"));
        satisfied(m.decide(&then(o, &c), &ctx()));
    }

    #[test]
    fn a_folder_named_by_a_slash_is_made() {
        let m: Copy = bind("{src: sub/motd, dest: /srv/new/, directory_mode: '0700', owner: www}");
        let o = || seen([at("/srv/new", None), at("/srv/new/motd", None)]);
        let c = change(m.decide(&o(), &ctx()));
        let [Action::Script(s), Action::Put(p)] = &c.actions[..] else { panic!("{c:?}") };
        assert!(s.contains("p=/srv/new") && s.contains("00700") && p.path == "/srv/new/motd");
        satisfied(m.decide(&then(o(), &c), &ctx()));
    }

    #[test]
    fn a_link_gives_way_or_is_followed() {
        let t = tempfile::tempdir().unwrap();
        let (f, l) = (t.path().join("f"), t.path().join("l"));
        std::fs::write(&f, "old\n").unwrap();
        std::os::unix::fs::symlink("f", &l).unwrap();
        let m: Copy = bind(&json!({"content": "new\n", "dest": l, "follow": true}).to_string());
        let Err(Stop::Need(more)) = m.decide(&look(m.probes(&ctx())), &ctx()) else { panic!() };
        let more: Vec<Probe> = more.into_iter().chain([Probe::Sha256(f.display().to_string())]).collect();
        let o = look(m.probes(&ctx()).into_iter().chain(more));
        let mut c = ctx();
        c.diff = false;
        let c = change(m.decide(&o, &c));
        satisfied(m.decide(&then(o, &c), &ctx()));
        run(&c);
        assert!(l.is_symlink() && std::fs::read_to_string(&f).unwrap() == "new\n");
        let m: Copy = bind(&json!({"content": "x\n", "dest": l}).to_string());
        let c = change(m.decide(&look(m.probes(&ctx())), &ctx()));
        assert!(matches!(&c.actions[..], [Action::Put(p)] if p.path == l.display().to_string()));
    }

    #[test]
    fn a_whole_folder() {
        use std::os::unix::fs::PermissionsExt;
        let t = tempfile::tempdir().unwrap();
        let (from, to) = (t.path().join("from"), t.path().join("to"));
        std::fs::create_dir_all(from.join("a b/empty")).unwrap();
        std::fs::write(from.join("x"), "").unwrap();
        std::fs::write(from.join("a b/-y"), "").unwrap();
        std::fs::set_permissions(from.join("x"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let yaml =
            |src: String| json!({"src": src, "dest": to, "mode": "preserve", "directory_mode": "0750"}).to_string();
        let m: Copy = bind(&yaml(format!("{}/", from.display())));
        let o = look(m.probes(&ctx()));
        let c = change(m.decide(&o, &ctx()));
        assert_eq!(c.summary, "2 files, 3 folders");
        satisfied(m.decide(&then(o, &c), &ctx()));
        run(&c);
        assert_eq!(
            std::fs::read_to_string(to.join("x")).unwrap(),
            format!("content of {}\n", from.join("x").display())
        );
        assert!(to.join("a b/empty").is_dir() && to.join("a b/-y").is_file());
        assert!(c.actions.iter().any(|a| matches!(a, Action::Put(p) if p.mode == 0o755 && p.path.ends_with("/x"))));
        std::fs::set_permissions(to.join("x"), std::fs::Permissions::from_mode(0o755)).unwrap();
        satisfied(m.decide(&look(m.probes(&ctx())), &ctx()));
        let m: Copy = bind(&yaml(from.display().to_string()));
        let o = look(m.probes(&ctx()));
        let c = change(m.decide(&o, &ctx()));
        run(&c);
        assert!(to.join("from/a b/empty").is_dir());
    }

    #[test]
    fn a_folder_that_is_there_stays_whose_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let t = tempfile::tempdir().unwrap();
        let (from, to) = (t.path().join("from"), t.path().join("to"));
        for d in [from.join("sub"), to.join("sub")] {
            std::fs::create_dir_all(d).unwrap();
        }
        let mode = |p: &Path, m| std::fs::set_permissions(p, std::fs::Permissions::from_mode(m)).unwrap();
        mode(&to, 0o751);
        mode(&to.join("sub"), 0o755);
        let m: Copy = bind(
            &json!({"src": format!("{}/", from.display()), "dest": to, "directory_mode": "0700", "owner": "bob"})
                .to_string(),
        );
        let o = look(m.probes(&ctx()));
        let c = change(m.decide(&o, &ctx()));
        let [Action::Script(s)] = &c.actions[..] else { panic!("{c:?}") };
        assert!(s.contains("/to/sub") && s.contains("00700") && !s.contains("/to &&"), "{s}");
        satisfied(m.decide(&then(o, &c), &ctx()));
    }

    #[test]
    fn links_that_lead_nowhere_or_back_stay_links() {
        let t = tempfile::tempdir().unwrap();
        let (from, to) = (t.path().join("from"), t.path().join("to"));
        std::fs::create_dir_all(from.join("sub")).unwrap();
        std::fs::write(from.join("real"), "").unwrap();
        for (at, leads) in [("broken", "no where"), ("loop", "loop"), ("sub/up", ".."), ("good", "real")] {
            std::os::unix::fs::symlink(leads, from.join(at)).unwrap();
        }
        let m: Copy = bind(&json!({"src": format!("{}/", from.display()), "dest": to}).to_string());
        let o = look(m.probes(&ctx()));
        let c = change(m.decide(&o, &ctx()));
        satisfied(m.decide(&then(o, &c), &ctx()));
        run(&c);
        satisfied(m.decide(&look(m.probes(&ctx())), &ctx()));
        for (at, leads) in [("broken", "no where"), ("loop", "loop"), ("sub/up", "..")] {
            assert_eq!(std::fs::read_link(to.join(at)).unwrap(), Path::new(leads));
        }
        assert!(!to.join("good").is_symlink());
        std::fs::remove_file(to.join("loop")).unwrap();
        std::os::unix::fs::symlink("else", to.join("loop")).unwrap();
        run(&change(m.decide(&look(m.probes(&ctx())), &ctx())));
        satisfied(m.decide(&look(m.probes(&ctx())), &ctx()));
    }

    #[test]
    fn a_source_on_the_host_that_is_refused_leaves_nothing() {
        let t = tempfile::tempdir().unwrap();
        let (a, b) = (t.path().join("a"), t.path().join("b"));
        std::fs::write(&a, "A\n").unwrap();
        let m: Copy = bind(&json!({"src": a, "dest": b, "remote_src": true, "validate": "grep -q B %s"}).to_string());
        let c = change(m.decide(&look(m.probes(&ctx())), &ctx()));
        let [Action::Script(s)] = &c.actions[..] else { panic!() };
        let out = std::process::Command::new("sh").args(["-c", s]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said == "`validate` refused the new file: exit code 1\n", "{said}");
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 1);
    }

    #[test]
    fn data_as_content_is_written_as_python_does() {
        let body = |content: &str| {
            let m: Copy = bind(&format!("{{content: {content}, dest: /x}}"));
            let Source::Body { body, .. } = m.source else { panic!() };
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert_eq!(body("{a: 1, b: [x, é]}"), r#"{"a": 1, "b": ["x", "\u00e9"]}"#);
        assert_eq!((body("true"), body("12"), body("3.0")), ("True".into(), "12".into(), "3.0".into()));
    }

    #[test]
    fn content_does_not_replace_a_link_to_a_folder() {
        let t = tempfile::tempdir().unwrap();
        std::fs::create_dir(t.path().join("d")).unwrap();
        std::os::unix::fs::symlink("d", t.path().join("l")).unwrap();
        let m: Copy = bind(&json!({"content": "x", "dest": t.path().join("l")}).to_string());
        let Err(Stop::Fail(f)) = m.decide(&look(m.probes(&ctx())), &ctx()) else { panic!() };
        assert!(f.message.contains("is a directory"), "{}", f.message);
    }

    #[test]
    fn a_file_of_the_host() {
        let t = tempfile::tempdir().unwrap();
        let (a, b) = (t.path().join("-a 'x"), t.path().join("b"));
        std::fs::write(&a, "A\n").unwrap();
        let yaml = json!({"src": a, "dest": b, "remote_src": true, "mode": "0600", "validate": "grep -q A %s"});
        let m: Copy = bind(&yaml.to_string());
        let o = look(m.probes(&ctx()));
        let c = change(m.decide(&o, &ctx()));
        satisfied(m.decide(&then(o, &c), &ctx()));
        run(&c);
        assert_eq!(std::fs::read_to_string(&b).unwrap(), "A\n");
        satisfied(m.decide(&look(m.probes(&ctx())), &ctx()));
        std::fs::write(&b, "B\n").unwrap();
        run(&change(m.decide(&look(m.probes(&ctx())), &ctx())));
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 2);
        std::fs::remove_file(&a).unwrap();
        assert!(matches!(m.decide(&look(m.probes(&ctx())), &ctx()), Err(Stop::Fail(_))));
    }

    #[test]
    fn checksums_are_checked() {
        let sum = hex(&Sha256::digest("a"));
        bind::<Copy>(&format!("{{content: a, dest: /x, checksum: {sum}}}"));
        let e = try_bind::<Copy>(&format!("{{content: b, dest: /x, checksum: {sum}}}")).unwrap_err();
        assert!(e.message.contains("another SHA-256"));
        assert!(try_bind::<Copy>("{content: b, dest: /x, checksum: da39a3}").unwrap_err().message.contains("64"));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Copy>(y).unwrap_err().message;
        assert!(err("{dest: /x}").contains("needs `src` or `content`"));
        assert!(err("{dest: /x, src: a, content: b}").contains("exclude"));
        assert!(err("{dest: x, content: b}").contains("absolute"));
        assert!(err("{dest: /x, content: b, mode: 644}").contains("\"0644\""));
    }

    #[test]
    fn the_file_is_put_there_as_it_is_told() {
        fn put<M: Module>(params: &str) -> crate::action::Put {
            let m: M = bind(params);
            let c = change(m.decide(&seen(file("old\n", 0o644)), &ctx()));
            match c.actions.into_iter().last() {
                Some(Action::Put(p)) => p,
                other => panic!("{other:?}"),
            }
        }
        let told = "dest: /etc/x.conf, mode: '0600', owner: me, group: us, backup: yes, validate: 'try %s'";
        let was = "dest: /etc/x.conf";
        for (p, now) in [
            (put::<Copy>(&format!("{{content: b, {told}}}")), put::<Copy>(&format!("{{content: b, {was}}}"))),
            (put::<Template>(&format!("{{src: b, {told}}}")), put::<Template>(&format!("{{src: b, {was}}}"))),
        ] {
            assert_eq!((p.mode, p.owner.as_deref(), p.group.as_deref()), (0o600, Some("me"), Some("us")));
            assert!(p.backup.unwrap().starts_with("/etc/x.conf.1800000000."));
            assert_eq!(p.validate.unwrap(), ["try", "%s"]);
            assert_eq!((p.keeps, now.keeps.as_deref()), (None, Some("root:root")));
            assert_eq!((now.mode, now.owner, now.group), (0o644, None, None));
            assert_eq!((now.backup, now.validate), (None, None));
        }
        let m: Template = bind("{src: b, dest: /etc/x.conf, newline_sequence: '\\r\\n'}");
        assert_eq!(&*m.body, b"content of b\r\n");
        let m: Template = bind("{src: b, dest: /etc/x.conf, force: no}");
        satisfied(m.decide(&seen(file("old\n", 0o644)), &ctx()));
    }

    /// How a template is written reaches whoever renders it.
    #[test]
    fn a_template_is_read_as_its_task_says() {
        struct Asked;
        impl Local for Asked {
            fn find(&self, _: FileKind, name: &str) -> Result<std::path::PathBuf, ArgError> {
                Ok(name.into())
            }
            fn read(&self, _: &std::path::Path) -> Result<Vec<u8>, ArgError> {
                Ok(vec![])
            }
            fn render(
                &self,
                _: &std::path::Path,
                _: &str,
                settings: &crate::template::Settings,
            ) -> Result<String, ArgError> {
                let mut all: Vec<String> = settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
                all.sort();
                Ok(all.join(" "))
            }
            fn host(&self) -> &str {
                "node"
            }
            fn folder(&self) -> std::path::PathBuf {
                "/".into()
            }
        }
        let params = json!({
            "src": "a.j2", "dest": "/a", "trim_blocks": false, "lstrip_blocks": "yes", "variable_start_string": "[[",
            "variable_end_string": "]]", "block_start_string": "<%", "block_end_string": "%>",
            "comment_start_string": "<#", "comment_end_string": "#>",
        });
        let mut m: Template = crate::modules::parameters(params.clone()).unwrap();
        m.prepare(&Asked).unwrap();
        let all = "block_end_string=%> block_start_string=<% comment_end_string=#> comment_start_string=<# \
                   lstrip_blocks=True trim_blocks=False variable_end_string=]] variable_start_string=[[";
        assert_eq!(String::from_utf8_lossy(&m.body), all);
        // The check before the run reads it in the same way.
        assert_eq!(settings(params.as_object().unwrap()), m.settings());
    }
}
