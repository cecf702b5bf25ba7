//! `synchronize`: a folder of this side, the same on the host; only what differs travels.

use super::args::{Bool, List, Text};
use super::copy::absolute;
use super::place::{Meta, NewFolder, Wanted, folders, nothing_at, tidy};
use super::{ArgError, Change, Ctx, Decision, Diff, FileKind, Local, Module, Stop};
use crate::action::Action;
use crate::modules::args::Mode;
use crate::probe::{Answer, Entry, EntryKind, Observed, Output, PathState, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// Makes a folder (or a file) on the host what it is here: files that differ are sent, each put in place at once. No
/// rsync is needed, here or there.
///
/// Files are compared by what they hold, whatever `checksum` says; times are not carried over. What is new belongs to
/// the task's user. Registers `dest`, `src` and `stdout_lines`, a line for each thing that changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Synchronize {
    /// The folder here, looked for in the role's files/ and beside the playbook; with a trailing slash, what is in it.
    src: Text,
    /// Where it goes on the host.
    dest: Text,
    /// `push`, from here to the host. The other direction is not supported; `fetch` brings single files.
    #[serde(default)]
    mode: Direction,
    /// Remove what is in the folder on the host and not here. What is excluded stays.
    #[serde(default)]
    delete: Bool,
    /// Folders, links and permissions; `false` leaves only what is asked for below.
    #[serde(default = "yes")]
    archive: Bool,
    /// Folders with all that is in them; if not given, as `archive`.
    recursive: Option<Bool>,
    /// Links as links; if not given, as `archive`.
    links: Option<Bool>,
    /// What links lead to instead of links.
    #[serde(default)]
    copy_links: Bool,
    /// Permissions as here; if not given, as `archive`. Otherwise a file that is there keeps its own.
    perms: Option<Bool>,
    /// Only files that are there already.
    #[serde(default)]
    existing_only: Bool,
    /// `--exclude=PATTERN`, as rsync reads it: a name anywhere, or with a slash in front a path from the folder on.
    #[serde(default)]
    rsync_opts: List,
    /// Has no effect: files are always compared by what they hold.
    #[allow(dead_code)]
    checksum: Option<Bool>,
    /// Has no effect.
    #[allow(dead_code)]
    compress: Option<Bool>,
    /// Has no effect: nothing half-sent is ever kept.
    #[allow(dead_code)]
    partial: Option<Bool>,
    /// `true` is not supported: what is new belongs to the task's user.
    owner: Option<Bool>,
    /// `true` is not supported: what is new belongs to the task's user.
    group: Option<Bool>,
    /// `true` is not supported.
    times: Option<Bool>,
    /// Has no effect: the host's own connection is used.
    #[allow(dead_code)]
    set_remote_user: Option<Bool>,
    /// Has no effect: the host's own connection is used.
    #[allow(dead_code)]
    use_ssh_args: Option<Bool>,
    #[serde(skip)]
    #[schemars(skip)]
    items: Vec<Item>,
    #[serde(skip)]
    #[schemars(skip)]
    excluded: Vec<Pattern>,
    /// The folder on the host that becomes as here.
    #[serde(skip)]
    #[schemars(skip)]
    root: String,
}

fn yes() -> Bool {
    Bool(true)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Direction {
    #[default]
    Push,
    Pull,
}

/// One thing that is to be on the host.
#[derive(Debug)]
struct Item {
    path: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Folder(u32),
    File(Arc<[u8]>, u32),
    Link(String),
}

/// What stays out, as rsync's `--exclude` says it.
#[derive(Debug)]
struct Pattern {
    regex: fancy_regex::Regex,
    /// It is about whole paths from the folder on.
    whole: bool,
    folder_only: bool,
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        let (anchored, rest) = text.strip_prefix('/').map_or((false, text), |r| (true, r));
        let (folder_only, rest) = rest.strip_suffix('/').map_or((false, rest), |r| (true, r));
        let mut re = String::from(if anchored || !rest.contains('/') { "^" } else { "(^|.*/)" });
        let mut chars = rest.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => re.push_str(".*"),
                '*' => re.push_str("[^/]*"),
                '?' => re.push_str("[^/]"),
                '[' | ']' | '-' => re.push(c),
                c if c.is_alphanumeric() || "_/".contains(c) => re.push(c),
                c => {
                    re.push('\\');
                    re.push(c);
                }
            }
        }
        let regex = fancy_regex::Regex::new(&format!("{re}$")).ok().filter(|_| !rest.is_empty())?;
        Some(Pattern { regex, whole: anchored || rest.contains('/'), folder_only })
    }
    fn matches(&self, path: &str, is_folder: bool) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        (is_folder || !self.folder_only) && self.regex.is_match(if self.whole { path } else { name }).unwrap_or(false)
    }
}

impl Module for Synchronize {
    const NAME: &'static str = "synchronize";

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        absolute("dest", &self.dest)?;
        if self.mode == Direction::Pull {
            return Err(ArgError::new("mode", "`pull` is not supported").hint("`fetch` brings files from the host"));
        }
        for (param, b) in [("owner", self.owner), ("group", self.group), ("times", self.times)] {
            if b == Some(Bool(true)) {
                return Err(ArgError::new(param, format!("`{param}: true` is not supported"))
                    .hint("`file` with `recurse: true` sets owner and group"));
            }
        }
        let recursive = self.recursive.unwrap_or(self.archive).0;
        if self.delete.0 && !recursive {
            return Err(ArgError::new("delete", "`delete` needs `recursive`"));
        }
        for o in self.rsync_opts.iter() {
            let pattern = o.strip_prefix("--exclude=").or_else(|| o.strip_prefix("--exclude ")).map(str::trim);
            match pattern.map(|p| p.trim_matches(['\'', '"'])).and_then(Pattern::read) {
                Some(p) => self.excluded.push(p),
                None => {
                    return Err(ArgError::new("rsync_opts", format!("`{o}` is not supported"))
                        .hint("only `--exclude=PATTERN` is"));
                }
            }
        }
        let here = local.find(FileKind::File, &self.src)?;
        let name = self.src.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let folder = here.is_dir();
        // A file goes into a folder where `dest` says that it is one.
        self.root = match self.src.ends_with('/') || (!folder && !self.dest.ends_with('/')) {
            true => tidy(&self.dest),
            false => tidy(&format!("{}/{name}", &*self.dest)),
        };
        if folder && !recursive {
            return Err(ArgError::new("src", format!("`{}` is a folder, and `recursive` is false", self.src.0)));
        }
        let mut items = vec![];
        self.walk(&here, "", local, &mut items)?;
        self.items = items;
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let mut p: Vec<Probe> = folders(&self.root).map(|f| Probe::Path(f.into())).collect();
        for i in &self.items {
            p.push(Probe::Path(i.path.clone()));
            if matches!(i.what, What::File(..)) {
                p.push(Probe::Sha256(i.path.clone()));
            }
        }
        p.extend(self.delete.0.then(|| Probe::Script(self.list())));
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let perms = self.perms.unwrap_or(self.archive).0;
        let (mut all, mut lines, mut needs) = (Change::default(), vec![], vec![]);
        let mut again: Vec<(Probe, Answer)> = vec![];
        // Links to folders that folders take the place of: what is seen below them is elsewhere.
        let mut replaced: Vec<&str> = vec![];
        for i in &self.items {
            let hidden = folders(&i.path).any(|f| replaced.contains(&f));
            let nothing = PathState { canonical: i.path.clone(), ..Default::default() };
            let state = match seen.path(&i.path) {
                Ok(_) if hidden => &nothing,
                Ok(s) => s,
                Err(Stop::Need(p)) => {
                    needs.extend(p);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let now = state.entry.as_ref();
            let kind = now.map(|e| e.kind);
            let rel = self.relative(&i.path);
            // What is of another kind gives way.
            let (right, in_the_way) = match &i.what {
                What::Folder(_) => (kind == Some(EntryKind::Directory), now.is_some()),
                What::File(..) => (kind == Some(EntryKind::File), kind == Some(EntryKind::Directory)),
                What::Link(_) => (kind == Some(EntryKind::Link), kind == Some(EntryKind::Directory)),
            };
            // A link to the folder itself counts as one: it may be where the data are to go.
            let to_folder = matches!(i.what, What::Folder(_))
                && kind == Some(EntryKind::Link)
                && state.followed().is_some_and(|e| e.kind == EntryKind::Directory);
            let through = to_folder && (i.path == self.root || self.existing_only.0);
            if self.existing_only.0 && now.is_none() {
                continue;
            }
            if in_the_way && !right && !through {
                if to_folder {
                    replaced.push(&i.path);
                } else if !self.delete.0 {
                    return Err(Stop::fail_hint(
                        format!("{} is something else on the host", i.path),
                        "`delete: true` removes what is in the way",
                    ));
                }
                all.actions.push(Action::Script(format!("rm -rf -- {}", shell_quote(&i.path))));
                all.touches = all.touches.and(Touches::path(&i.path));
                all.after.extend(nothing_at(&i.path, &i.path));
            }
            match &i.what {
                What::Folder(mode) => {
                    if right || through {
                        let meta = Meta { mode: perms.then_some(*mode), owner: None, group: None };
                        let Some(fix) = now.filter(|_| right).and_then(|e| Some((meta.fix(&i.path, e)?, e))) else {
                            continue;
                        };
                        let there = PathState { entry: Some(meta.onto(fix.1)), ..state.clone() };
                        all.actions.push(Action::Script(fix.0.script));
                        all.touches = all.touches.and(Touches::entry(&i.path));
                        again.push((Probe::Path(i.path.clone()), Answer::Path(there)));
                        lines.push(format!("{rel}/ {}", fix.0.summary));
                        continue;
                    }
                    let mode = perms.then_some(*mode);
                    let new = NewFolder { path: &i.path, mode, owner: None, group: None };
                    all.actions.push(Action::Script(new.script()));
                    all.touches = all.touches.and(Touches::entry(&i.path));
                    let mut bare = Observed::new();
                    nothing_at(&i.path, &i.path).into_iter().for_each(|(p, a)| bare.insert(p, a));
                    again.extend(new.after(&bare, ctx).into_iter().filter(|(p, _)| *p == Probe::Path(i.path.clone())));
                    lines.push(format!("{rel}/ new folder"));
                }
                What::File(body, mode) => {
                    let mode = Mode::Bits(*mode);
                    let wanted = Wanted {
                        path: &i.path,
                        body: body.clone(),
                        mode: (perms || now.is_none()).then_some(&mode),
                        owner: None,
                        group: None,
                        validate: None,
                        backup: false,
                    };
                    let mut bare = Observed::new();
                    let anew = hidden || (in_the_way && !right);
                    if anew {
                        nothing_at(&i.path, &state.canonical).into_iter().for_each(|(p, a)| bare.insert(p, a));
                    }
                    match wanted.decide(if anew { &bare } else { seen }, ctx) {
                        Ok(Decision::Change(c)) => {
                            lines.push(format!("{rel} {}", c.summary));
                            let own = |p: &Probe| matches!(p, Probe::Path(p) | Probe::Sha256(p) | Probe::Content(p) if *p == i.path);
                            again.extend(c.after.iter().filter(|(p, _)| own(p)).cloned());
                            all.actions.extend(c.actions);
                            all.touches = all.touches.and(c.touches);
                            all.diff.extend(c.diff);
                        }
                        Ok(_) => {}
                        Err(Stop::Need(p)) => needs.extend(p),
                        Err(e) => return Err(e),
                    }
                }
                What::Link(to) => {
                    if right && state.link.as_deref() == Some(to) {
                        continue;
                    }
                    let (q, t) = (shell_quote(&i.path), shell_quote(&super::place::beside(&i.path)));
                    all.actions.push(Action::Script(format!(
                        "rm -f -- {t} && ln -s -- {} {t} && mv -fT -- {t} {q}",
                        shell_quote(to)
                    )));
                    all.touches = all.touches.and(Touches::path(&i.path));
                    let entry: Entry =
                        super::place::new_entry(EntryKind::Link, 0o777, to.len() as u64, (None, None), ctx);
                    let there = PathState { entry: Some(entry), link: Some(to.clone()), ..state.clone() };
                    again.push((Probe::Path(i.path.clone()), Answer::Path(there)));
                    lines.push(format!("{rel} -> {to}"));
                }
            }
        }
        if !needs.is_empty() {
            return Err(Stop::Need(needs));
        }
        if self.delete.0 {
            self.remove(seen, ctx, &mut all, &mut lines)?;
        }
        let mut result = Map::new();
        result.insert("dest".into(), json!(self.dest.0));
        result.insert("src".into(), json!(self.src.0));
        result.insert("stdout_lines".into(), json!(lines));
        if all.actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        all.summary = match lines.as_slice() {
            [one] => one.clone(),
            several => format!("{} things: {}", several.len(), shortened(several)),
        };
        all.result = result;
        // What was there and is as it should be stays known.
        let kept: Vec<_> = self
            .items
            .iter()
            .flat_map(|i| [Probe::Path(i.path.clone()), Probe::Sha256(i.path.clone())])
            .chain(folders(&self.root).map(|f| Probe::Path(f.into())))
            .filter_map(|p| seen.get(&p).map(|a| (p.clone(), a.clone())))
            .filter(|(_, a)| !matches!(a, Answer::Path(s) if s.entry.is_none()) && !matches!(a, Answer::Sha256(None)))
            .collect();
        all.after.splice(0..0, kept);
        all.after.extend(again);
        Ok(Decision::Change(all))
    }
}

fn shortened(lines: &[String]) -> String {
    let first = lines.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
    if lines.len() > 4 { format!("{first}, …") } else { first }
}

impl Synchronize {
    fn relative<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.root.as_str()).map(|r| r.trim_start_matches('/')) {
            Some("") | None => path,
            Some(r) => r,
        }
    }

    /// All of a folder here, folders before what is in them, by name.
    fn walk(&self, from: &Path, rel: &str, local: &dyn Local, items: &mut Vec<Item>) -> Result<(), ArgError> {
        let failed = |e: std::io::Error| ArgError::new("src", format!("{}: {e}", from.display()));
        if items.len() > 10_000 {
            return Err(ArgError::new("src", format!("`{}` holds more than 10000 files", self.src.0))
                .hint("pack it and use `unarchive`"));
        }
        let path = if rel.is_empty() { self.root.clone() } else { format!("{}/{rel}", self.root) };
        let links = self.links.unwrap_or(self.archive).0;
        let meta = std::fs::symlink_metadata(from);
        // In tests the only files are made up.
        let is_link = meta.as_ref().is_ok_and(|m| m.is_symlink()) && !rel.is_empty();
        if is_link && !self.copy_links.0 {
            if links {
                let to = std::fs::read_link(from).map_err(failed)?;
                let Some(to) = to.to_str() else {
                    return Err(ArgError::new("src", format!("where {} leads is not UTF-8", from.display())));
                };
                items.push(Item { path, what: What::Link(to.into()) });
            }
            return Ok(());
        }
        let mode = std::fs::metadata(from).map_or(0o644, |m| m.permissions().mode() & 0o7777);
        if meta.is_ok() && !from.is_dir() && !from.is_file() {
            return Err(ArgError::new("src", format!("{} is neither a file nor a folder", from.display()))
                .hint("leave it out with `rsync_opts: ['--exclude=NAME']`"));
        }
        if !from.is_dir() {
            items.push(Item { path, what: What::File(local.read(from)?.into(), mode) });
            return Ok(());
        }
        items.push(Item { path, what: What::Folder(mode) });
        let mut entries = std::fs::read_dir(from).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for e in entries {
            let Some(name) = e.file_name().to_str().map(str::to_string) else {
                return Err(ArgError::new("src", format!("the name of {} is not UTF-8", e.path().display())));
            };
            let rel = if rel.is_empty() { name } else { format!("{rel}/{name}") };
            let is_folder = e.file_type().is_ok_and(|t| t.is_dir());
            if !self.excluded.iter().any(|p| p.matches(&rel, is_folder)) {
                self.walk(&e.path(), &rel, local, items)?;
            }
        }
        Ok(())
    }

    /// A read-only script: all that is in the folder on the host.
    fn list(&self) -> String {
        let root = shell_quote(&self.root);
        format!("[ -d {root} ] || exit 0\nfind {root}/ -mindepth 1 -printf '%y %P\\0'")
    }

    /// What is there and not here is removed, but for what is excluded and the folders that lead to it.
    fn remove(&self, seen: &Observed, ctx: &Ctx, all: &mut Change, lines: &mut Vec<String>) -> Result<(), Stop> {
        let list = self.list();
        let out = seen.script(&list)?;
        if out.rc != 0 {
            return Err(Stop::fail(format!("{} cannot be listed: {}", self.root, out.stderr.trim())));
        }
        let there = out.stdout.split('\0').filter_map(|l| l.split_once(' ')).map(|(k, p)| (k == "d", p));
        let wanted: std::collections::HashSet<&str> = self.items.iter().map(|i| self.relative(&i.path)).collect();
        // What is in a folder that gives way to a file or a link goes with it.
        let flat: std::collections::HashSet<&str> =
            self.items.iter().filter(|i| !matches!(i.what, What::Folder(_))).map(|i| self.relative(&i.path)).collect();
        let mut gone: Vec<(bool, &str)> = vec![];
        let mut kept: Vec<&str> = vec![];
        for (is_folder, path) in there {
            let mut above = path.match_indices('/').map(|(at, _)| (true, &path[..at])).chain([(is_folder, path)]);
            if above.any(|(f, p)| self.excluded.iter().any(|x| x.matches(p, f))) {
                kept.push(path);
            } else if !wanted.contains(path) && !path.match_indices('/').any(|(at, _)| flat.contains(&path[..at])) {
                gone.push((is_folder, path));
            }
        }
        let leads = |p: &str| kept.iter().any(|k| k.strip_prefix(p).is_some_and(|r| r.starts_with('/')));
        gone.retain(|(f, p)| !(*f && leads(p)));
        // With a folder all that is in it goes, if all of it may.
        let tops: Vec<&(bool, &str)> = gone
            .iter()
            .filter(|(_, p)| !p.match_indices('/').any(|(at, _)| gone.iter().any(|(f, g)| *f && *g == &p[..at])))
            .collect();
        for (is_folder, path) in &tops {
            if path.contains('\u{fffd}') {
                return Err(Stop::fail_hint(
                    format!("{}/{path} is to be removed, and its name is not UTF-8", self.root),
                    "remove it by hand, or leave it with `rsync_opts: ['--exclude=PATTERN']`",
                ));
            }
            let full = format!("{}/{path}", self.root);
            all.actions.push(Action::Script(format!("rm -rf -- {}", shell_quote(&full))));
            all.touches = std::mem::take(&mut all.touches).and(Touches::path(&full));
            all.after.extend(nothing_at(&full, &full));
            let slash = if *is_folder { "/" } else { "" };
            lines.push(format!("{path}{slash} removed"));
            if ctx.diff {
                all.diff.push(Diff { what: full, before: Some(String::new()), after: None });
            }
        }
        let mut then: String = kept.iter().map(|k| format!("f {k}\0")).collect();
        self.items.iter().map(|i| self.relative(&i.path)).for_each(|p| then += &format!("f {p}\0"));
        all.after.push((Probe::Script(list), Answer::Script(Output { stdout: then, ..Default::default() })));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A folder here and a place for it, both real.
    fn folders_of_two() -> (tempfile::TempDir, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let (src, dest) = (dir.path().join("src"), dir.path().join("dest"));
        fs::create_dir_all(src.join("sub")).unwrap();
        fs::write(src.join("a"), "one").unwrap();
        fs::write(src.join("sub/b.log"), "two").unwrap();
        symlink("a", src.join("l")).unwrap();
        let text = |p: std::path::PathBuf| p.to_str().unwrap().to_string();
        (dir, text(src), text(dest))
    }
    struct Real;
    impl Local for Real {
        fn find(&self, _: FileKind, name: &str) -> Result<std::path::PathBuf, ArgError> {
            Ok(name.into())
        }
        fn read(&self, path: &Path) -> Result<Vec<u8>, ArgError> {
            fs::read(path).map_err(|e| ArgError::new("src", e.to_string()))
        }
        fn render(&self, _: &Path, text: &str, _: &crate::template::Settings) -> Result<String, ArgError> {
            Ok(text.into())
        }
        fn host(&self) -> &str {
            "node"
        }
        fn folder(&self) -> std::path::PathBuf {
            "/".into()
        }
    }
    fn made(src: &str, dest: &str, more: &str) -> Synchronize {
        let node = crate::source::yaml::parse(&crate::source::Source::new(
            "t.yml",
            format!("{{src: {src}, dest: {dest}{more}}}"),
        ))
        .unwrap();
        let mut m: Synchronize = serde_json::from_value(node.to_value()).unwrap();
        m.prepare(&Real).unwrap();
        m
    }
    fn once(m: &Synchronize) -> Vec<String> {
        let mut asked = m.probes(&ctx());
        let (o, c) = loop {
            let o = look(asked.clone());
            match m.decide(&o, &ctx()) {
                Err(Stop::Need(more)) => asked.extend(more),
                Ok(Decision::Change(c)) => break (o, c),
                d => {
                    satisfied(d);
                    return vec![];
                }
            }
        };
        // What a plan foresees is what there is afterwards.
        satisfied(m.decide(&then(o, &c), &ctx()));
        run(&c);
        for (p, a) in c.diff.iter().map(|d| (&d.what, &d.after)) {
            assert_eq!(fs::read_to_string(p).ok().is_some(), a.is_some(), "{p}");
        }
        c.result["stdout_lines"].as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_string()).collect()
    }

    #[test]
    fn only_what_differs_travels() {
        let (dir, src, dest) = folders_of_two();
        let m = made(&format!("{src}/"), &dest, "");
        let all = once(&m);
        assert_eq!(
            all,
            [&format!("{dest}/ new folder"), "a new file", "l -> a", "sub/ new folder", "sub/b.log new file"]
        );
        // The kit writes files without their modes.
        for f in ["a", "sub/b.log"] {
            fs::set_permissions(format!("{dest}/{f}"), fs::metadata(format!("{src}/{f}")).unwrap().permissions())
                .unwrap();
        }
        assert!(once(&m).is_empty());
        fs::write(format!("{dest}/a"), "1").unwrap();
        fs::set_permissions(format!("{dest}/sub"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(format!("{dest}/more"), "").unwrap();
        assert_eq!(once(&m), ["a content changes", "sub/ mode 0700 -> 0755"]);
        // Without a slash, the folder itself goes there.
        assert_eq!(made(&src, &dest, "").root, format!("{dest}/src"));
        drop(dir);
    }

    #[test]
    fn what_is_not_here_is_removed_if_wanted() {
        let (_dir, src, dest) = folders_of_two();
        fs::create_dir_all(format!("{dest}/old/deep")).unwrap();
        fs::create_dir_all(format!("{dest}/keep/it")).unwrap();
        fs::write(format!("{dest}/keep/it/x.log"), "").unwrap();
        fs::write(format!("{dest}/keep/y"), "").unwrap();
        fs::create_dir_all(format!("{dest}/a/in-the-way")).unwrap();
        let m = made(&format!("{src}/"), &dest, ", perms: false, delete: true, rsync_opts: ['--exclude=*.log']");
        let mut lines = once(&m);
        lines.sort();
        assert_eq!(lines, ["a new file", "keep/y removed", "l -> a", "old/ removed", "sub/ new folder"]);
        assert!(fs::read_to_string(format!("{dest}/keep/it/x.log")).is_ok());
        assert_eq!(fs::read_to_string(format!("{dest}/a")).unwrap(), "one");
        assert!(once(&m).is_empty());
        let m = made(&format!("{src}/"), &dest, ", perms: false");
        assert_eq!(once(&m), ["sub/b.log new file"]);
    }

    #[test]
    fn what_is_in_the_way_is_an_error_without_delete() {
        let (_dir, src, dest) = folders_of_two();
        fs::create_dir_all(format!("{dest}/a")).unwrap();
        let m = made(&format!("{src}/"), &dest, "");
        let Err(Stop::Fail(f)) = m.decide(&look(m.probes(&ctx())), &ctx()) else { panic!() };
        assert!(f.message.contains("something else"), "{}", f.message);
    }

    #[test]
    fn a_link_below_the_folder_is_not_written_through() {
        let (dir, src, dest) = folders_of_two();
        let victim = dir.path().join("victim");
        fs::create_dir_all(&victim).unwrap();
        fs::write(victim.join("own"), "1").unwrap();
        fs::write(victim.join("b.log"), "two").unwrap();
        fs::create_dir_all(dir.path().join("real")).unwrap();
        // The folder itself may be one.
        symlink("real", &dest).unwrap();
        symlink("../victim", dir.path().join("real/sub")).unwrap();
        let m = made(&format!("{src}/"), &dest, ", perms: false");
        assert_eq!(once(&m), ["a new file", "l -> a", "sub/ new folder", "sub/b.log new file"]);
        assert!(once(&m).is_empty());
        assert!(fs::symlink_metadata(&dest).unwrap().is_symlink());
        assert!(fs::symlink_metadata(format!("{dest}/sub")).unwrap().is_dir());
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 2);
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_not_read() {
        let (_dir, src, dest) = folders_of_two();
        rustix::fs::mkfifoat(rustix::fs::CWD, format!("{src}/pipe"), rustix::fs::Mode::RUSR).unwrap();
        let text = |o: &str| {
            let node = crate::source::yaml::parse(&crate::source::Source::new(
                "t.yml",
                format!("{{src: {src}/, dest: {dest}{o}}}"),
            ))
            .unwrap();
            let mut m: Synchronize = serde_json::from_value(node.to_value()).unwrap();
            m.prepare(&Real)
        };
        assert!(text("").unwrap_err().message.contains("pipe is neither a file nor a folder"));
        text(", rsync_opts: ['--exclude=pipe']").unwrap();
    }

    #[test]
    fn a_name_that_is_not_text_is_not_said_to_be_removed() {
        use std::os::unix::ffi::OsStrExt;
        let (_dir, src, dest) = folders_of_two();
        fs::create_dir_all(format!("{dest}/old")).unwrap();
        let odd = |d: &str| Path::new(d).join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        fs::write(odd(&format!("{dest}/old")), "").unwrap();
        let m = made(&format!("{src}/"), &dest, ", perms: false, delete: true");
        assert!(once(&m).contains(&"old/ removed".to_string()));
        fs::write(odd(&dest), "").unwrap();
        let Err(Stop::Fail(f)) = m.decide(&look(m.probes(&ctx())), &ctx()) else { panic!() };
        assert!(f.message.contains("not UTF-8"), "{}", f.message);
    }

    #[test]
    fn links_and_single_files() {
        let (_dir, src, dest) = folders_of_two();
        let m = made(&format!("{src}/"), &dest, ", copy_links: true, existing_only: true, perms: false");
        assert!(once(&m).is_empty());
        assert!(m.items.iter().any(|i| i.path.ends_with("/l") && matches!(i.what, What::File(..))));
        let m = made(&format!("{src}/"), &dest, ", links: false");
        assert!(!m.items.iter().any(|i| i.path.ends_with("/l")));
        assert_eq!(made(&format!("{src}/a"), &dest, "").root, dest);
        assert_eq!(made(&format!("{src}/a"), &format!("{dest}/"), "").root, format!("{dest}/a"));
    }

    #[test]
    fn patterns_are_those_of_rsync() {
        let hit = |p: &str, path: &str| Pattern::read(p).unwrap().matches(path, false);
        assert!(hit("*.log", "a/b.log") && !hit("*.log", "a/b.logs") && hit("b?", "x/b1"));
        assert!(hit("/a", "a") && !hit("/a", "x/a") && hit("a/b", "x/a/b") && hit("a/**", "a/b/c"));
        assert!(!hit("d/", "d") && Pattern::read("d/").unwrap().matches("x/d", true));
        assert!(hit(".git", "x/.git") && !hit(".git", "xgit"));
    }

    #[test]
    fn mistakes() {
        for (bad, word) in [
            ("{src: a, dest: b}", "absolute"),
            ("{src: a, dest: /b, mode: pull}", "not supported"),
            ("{src: a, dest: /b, owner: true}", "not supported"),
            ("{src: a, dest: /b, rsync_opts: ['--bwlimit=1']}", "`--bwlimit=1`"),
            ("{src: a, dest: /b, delete: true, recursive: false}", "needs `recursive`"),
        ] {
            let e = try_bind::<Synchronize>(bad).unwrap_err();
            assert!(e.message.contains(word), "{bad}: {}", e.message);
        }
    }
}
