//! `archive`: files of the host packed into one.

use super::args::{Bool, List, Mode, Text};
use super::copy::absolute;
use super::place::{Meta, beside, chown_spec, facts, new_entry, tidy, unchanged_folders};
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, EntryKind, Observed, PathState, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Packs files and folders of the host into an archive there. What would be packed now is compared with what is in the
/// archive, byte by byte with names, times, modes and owners: if it is the same, the archive stays. One file alone is
/// only compressed, unless `force_archive` is given or the format is tar. Zip is not made, only unpacked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// What is packed: absolute paths, with `*`, `?` and `[]`. What a folder's name with a slash at its end holds is packed
    /// without the folder.
    path: List,
    /// The archive.
    dest: Text,
    /// How it is packed.
    #[serde(default)]
    format: Format,
    /// Paths that are left out, each with all below it.
    #[serde(default)]
    exclude_path: List,
    /// Names that are left out, with `*` and `?`.
    #[serde(default)]
    exclusion_patterns: List,
    /// Make an archive of a single file too.
    #[serde(default)]
    force_archive: Bool,
    /// Take away what was packed.
    #[serde(default)]
    remove: Bool,
    /// The mode: `"0644"`, or `u=rw,g=r`; without it, as it is, or as the umask makes it.
    mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
    #[serde(skip)]
    #[schemars(skip)]
    root: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Gz,
    Bz2,
    Xz,
    Zst,
    Tar,
}

impl Format {
    /// The packer, and what it is told so that the same content gives the same file.
    fn tool(self) -> Option<(&'static str, &'static str)> {
        match self {
            Format::Gz => Some(("gzip", "gzip -nc")),
            Format::Bz2 => Some(("bzip2", "bzip2 -c")),
            Format::Xz => Some(("xz", "xz -c")),
            Format::Zst => Some(("zstd", "zstd -qc")),
            Format::Tar => None,
        }
    }
}

impl Module for Archive {
    const NAME: &'static str = "archive";
    const RETURNS: &'static [(&'static str, &'static str)] = &[
        ("dest", "The archive."),
        ("dest_state", "What is there afterwards."),
        ("archived", "The paths that are in it."),
        ("arcroot", "The folder that names in it are seen from."),
        ("expanded_paths", "The paths that the patterns came to."),
    ];
    const EXAMPLE: &'static str = r#"- name: A copy of the configuration
  archive:
    path: /etc/app/
    dest: /var/backups/app.tar.gz
    exclude_path: [/etc/app/cache]
    mode: "0600""#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        absolute("dest", &self.dest)?;
        self.dest.0 = tidy(&self.dest);
        if self.path.is_empty() {
            return Err(ArgError::new("path", "it names nothing to pack"));
        }
        for p in self.path.iter().chain(self.exclude_path.iter()) {
            absolute("path", p)?;
        }
        let is_within = |inner: &str, outer: &str| {
            let o = tidy(outer);
            inner == o || inner.strip_prefix(&o).is_some_and(|r| r.starts_with('/'))
        };
        if let Some(p) = self.path.iter().find(|p| !is_glob(p) && is_within(&self.dest, p)) {
            return Err(ArgError::new("dest", format!("{} lies in {p}, which it is to hold", &*self.dest)));
        }
        let leaves_out = !self.exclude_path.is_empty() || !self.exclusion_patterns.is_empty();
        if self.remove.0 && (leaves_out || self.path.iter().any(|p| p.ends_with('/'))) {
            return Err(ArgError::new(
                "remove",
                "with exclusions or a trailing slash, name what is to go in a task with `file`",
            ));
        }
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here"));
        }
        self.root = root(&self.path);
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Path(self.dest.0.clone()), Probe::Script(self.compare())]
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let dest = &*self.dest;
        let state = seen.path(dest)?;
        if state.followed().is_some_and(|e| e.kind == EntryKind::Directory) {
            return Err(Stop::fail(format!("{dest} is a folder")));
        }
        let out = seen.script(&self.compare())?;
        if out.rc != 0 {
            let said = out.stderr.trim().lines().last().unwrap_or("it cannot be packed");
            return Err(Stop::fail(format!("{dest}: {said}")));
        }
        let mut lines = out.stdout.lines();
        let verdict = lines.next().unwrap_or_default();
        let packed: Vec<String> = lines.map(|n| tidy(&format!("{}/{n}", self.root))).collect();
        let mut result = self.result(&packed);
        let old = state.entry.as_ref().filter(|e| e.kind == EntryKind::File);
        if packed.is_empty() {
            let Some(e) = old else {
                return Err(Stop::fail_hint(
                    format!("there is nothing at {}", self.path.join(", ")),
                    "check `path`; a pattern must match something",
                ));
            };
            result.extend(facts(dest, e));
            return Ok(Decision::satisfied(result));
        }
        let base = old.map_or(0o644, |e| e.mode);
        let mode = self.mode.as_ref().map_or(base, |m| m.apply(base, false));
        let meta = Meta { mode: Some(mode), owner: self.owner.as_deref(), group: self.group.as_deref() };
        let mut touches = Touches::entry(dest);
        if let (Some(e), "same") = (old, verdict) {
            result.extend(facts(dest, &meta.onto(e)));
            let fix = meta.fix(dest, e);
            let mut scripts: Vec<String> = fix.iter().map(|f| f.script.clone()).collect();
            let mut words: Vec<String> = fix.iter().map(|f| f.summary.clone()).collect();
            if self.remove.0 {
                scripts.push(self.rest());
                words.push("what was packed is removed".into());
                packed.iter().for_each(|p| touches.paths.push(p.clone()));
            }
            if scripts.is_empty() {
                return Ok(Decision::satisfied(result));
            }
            let mut after = unchanged_folders(dest, seen);
            let entry = Some(meta.onto(e));
            after.push((Probe::Path(dest.into()), Answer::Path(PathState { entry, ..state.clone() })));
            return Ok(Decision::Change(Change {
                actions: scripts.into_iter().map(Action::Script).collect(),
                touches,
                after: if self.remove.0 { vec![] } else { after },
                summary: words.join(", "),
                result,
                ..Default::default()
            }));
        }
        if self.remove.0 {
            packed.iter().for_each(|p| touches.paths.push(p.clone()));
        }
        let fresh = new_entry(EntryKind::File, mode, 0, (self.owner.as_deref(), self.group.as_deref()), ctx);
        result.extend(facts(dest, &old.map_or(fresh, |e| meta.onto(e))));
        // How large it will be is not known.
        result.shift_remove("size");
        let owner = self.owner.as_deref().or(old.map(|e| e.owner.as_str()));
        let group = self.group.as_deref().or(old.map(|e| e.group.as_str()));
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(self.pack(mode, chown_spec(owner, group)))],
            touches,
            after: unchanged_folders(dest, seen),
            summary: if old.is_some() { "packed anew: what is there is not what was packed" } else { "new archive" }
                .into(),
            result,
            ..Default::default()
        }))
    }
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The folder that names in the archive are seen from: the nearest that holds all that is packed.
fn root(paths: &[String]) -> String {
    let folder = |p: &String| -> Vec<String> {
        let fixed: Vec<String> = p.split('/').filter(|c| !c.is_empty() && *c != ".").map(str::to_string).collect();
        let plain = fixed.iter().take_while(|c| !is_glob(c)).count();
        let end = if plain < fixed.len() || p.ends_with('/') { plain } else { plain.saturating_sub(1) };
        fixed[..end].to_vec()
    };
    let mut common = paths.first().map(folder).unwrap_or_default();
    for p in paths {
        let f = folder(p);
        let same = common.iter().zip(&f).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    format!("/{}", common.join("/"))
}

/// A path as a pattern of tar that means nothing but it.
fn literal(path: &str) -> String {
    path.chars().flat_map(|c| "\\*?[".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// A path in which the shell expands `*`, `?` and `[]`, and nothing else.
fn pattern(path: &str) -> String {
    let mut out = String::new();
    let mut plain = String::new();
    for c in path.chars() {
        if "*?[]".contains(c) {
            if !plain.is_empty() {
                out.push_str(&shell_quote(&std::mem::take(&mut plain)));
            }
            out.push(c);
        } else {
            plain.push(c);
        }
    }
    if !plain.is_empty() {
        out.push_str(&shell_quote(&plain));
    }
    out
}

impl Archive {
    /// Goes to the root and makes what is packed the arguments; `stream` then gives what will be compressed.
    fn head(&self) -> String {
        let below = |p: &str| {
            let t = tidy(p);
            let rest = t.strip_prefix(self.root.trim_end_matches('/'));
            match rest.map(|r| (r, r.strip_prefix('/').unwrap_or_default())) {
                Some(("" | "/", _)) => ".".to_string(),
                Some((_, r)) if !r.is_empty() => format!("./{r}"),
                // Not below the root: no name in the archive.
                _ => t,
            }
        };
        let words: Vec<String> = self
            .path
            .iter()
            .map(|p| {
                let b = below(p);
                if is_glob(&b) { pattern(&b) } else { shell_quote(&b) }
            })
            .collect();
        let mut exclude: Vec<String> = self.exclude_path.iter().map(|p| format!("--exclude={}", below(p))).collect();
        let own = [below(&self.dest), below(&beside(&self.dest))];
        exclude.extend(own.iter().map(|p| format!("--exclude={}", literal(p))));
        let mut options = vec!["--anchored".to_string()];
        options.extend(exclude);
        options.push("--no-anchored".into());
        options.extend(self.exclusion_patterns.iter().map(|p| format!("--exclude={p}")));
        let tool = self.format.tool().map(|(t, _)| format!(" {t}")).unwrap_or_default();
        let single =
            if self.force_archive.0 || self.format == Format::Tar { "false" } else { "[ $# -eq 1 ] && [ -f \"$1\" ]" };
        let [dest, temp] = own.map(|p| shell_quote(&p));
        let folder = shell_quote(self.dest.rsplit_once('/').map_or("/", |(d, _)| if d.is_empty() { "/" } else { d }));
        // The archive is never packed into itself, and so never removed with what it holds.
        format!(
            "for c in tar{tool}; do command -v $c >/dev/null || {{ echo \"$c is needed and is not installed on $(uname -n)\" >&2; exit 127; }}; done\n\
             cd -- {root} || exit 1\nset -- {words}\nn=$#\n\
             while [ $n -gt 0 ]; do f=$1; shift; n=$((n - 1))\n\
             case $f in {dest}|{temp}) continue ;; esac\n\
             if [ ! -L \"$f\" ] && [ \"$f\" -ef {dest} ]; then continue; fi\n\
             {{ [ -e \"$f\" ] || [ -L \"$f\" ]; }} && set -- \"$@\" \"$f\"; done\n\
             d=$(cd -P -- {folder} 2>/dev/null && pwd -P)\n\
             for f; do [ -d \"$f\" ] && [ ! -L \"$f\" ] && [ -n \"$d\" ] || continue\n\
             case $d/ in \"$(cd -P -- \"$f\" && pwd -P)\"/*) printf '%s\\n' \"the archive lies in $f, which it is to hold\" >&2; exit 1 ;; esac; done\n\
             stream() {{ if {single}; then cat -- \"$1\" || return 2; else tar -c --sort=name --format=gnu {options} -- \"$@\"; fi; }}\n",
            root = shell_quote(&self.root),
            words = words.join(" "),
            options = options.iter().map(|o| shell_quote(o)).collect::<Vec<_>>().join(" "),
        )
    }

    /// Says whether the archive holds what it would hold now, then what is packed.
    fn compare(&self) -> String {
        let q = shell_quote(&self.dest);
        let unpack = self.format.tool().map_or("cat".to_string(), |(t, _)| format!("{t} -dc"));
        format!(
            "if [ ! -d {root} ]; then echo none; exit 0; fi\n{head}\
             if [ $# -eq 0 ]; then echo none; exit 0; fi\n\
             v=differs\n\
             if [ -f {q} ]; then\na=$({{ {unpack} <{q} 2>/dev/null || echo damaged; }} | sha256sum)\nb=$(stream \"$@\" | sha256sum)\n[ \"$a\" != \"$b\" ] || v=same\nfi\n\
             printf '%s\\n' $v \"$@\"\n",
            root = shell_quote(&self.root),
            head = self.head(),
        )
    }

    fn pack(&self, mode: u32, owner: Option<String>) -> String {
        let (q, temp) = (shell_quote(&self.dest), shell_quote(&beside(&self.dest)));
        let packer = self.format.tool().map_or("cat", |(_, how)| how);
        let own = owner.map(|o| format!("chown -- {} \"$t\" || exit 1\n", shell_quote(&o))).unwrap_or_default();
        let rest = if self.remove.0 { "rm -rf -- \"$@\" || exit 1\n" } else { "" };
        // tar ends with 1 where a file was written to while it was read.
        let torn = match self.remove.0 {
            true => "1) echo 'what is packed was written to meanwhile: nothing is removed' >&2; exit 1",
            false => "1)",
        };
        format!(
            "{}t={temp}\ntrap 'rm -f -- \"$t\"' EXIT\numask 077\nrm -f -- \"$t\" && (set -C; : >\"$t\") || exit 1\n\
             r=$({{ {{ stream \"$@\"; echo $? >&3; }} | {packer} >\"$t\"; }} 3>&1) || exit 1\n\
             case $r in 0) ;; {torn} ;; *) exit 1 ;; esac\n{own}chmod -- {mode:04o} \"$t\" || exit 1\n\
             sync -- \"$t\" && mv -fT -- \"$t\" {q} || exit 1\n{rest}exit 0\n",
            self.head(),
        )
    }

    /// Takes away what was packed.
    fn rest(&self) -> String {
        format!("{}[ $# -eq 0 ] || rm -rf -- \"$@\"\n", self.head())
    }

    fn result(&self, packed: &[String]) -> Map<String, Value> {
        let mut r = Map::new();
        r.insert("dest".into(), json!(&*self.dest));
        r.insert("dest_state".into(), json!("archive"));
        r.insert("archived".into(), json!(packed));
        r.insert("expanded_paths".into(), json!(packed));
        r.insert("arcroot".into(), json!(self.root));
        r
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use std::path::Path;

    fn sh(dir: &Path, script: &str) -> String {
        let out = std::process::Command::new("sh").arg("-c").arg(script).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim_end().to_string()
    }
    fn on_disk(m: &Archive) -> Result<Decision, Stop> {
        m.decide(&look(m.probes(&ctx())), &ctx())
    }

    #[test]
    fn packed_once_and_again_when_something_changed() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        sh(dir, "mkdir -p in/sub; echo 1 > 'in/a b'; echo 2 > in/sub/x.log; echo 3 > in/sub/y");
        for (format, list) in [("gz", "tar -tzf"), ("xz", "tar -tJf"), ("tar", "tar -tf")] {
            let m: Archive = bind(&format!(
                "{{path: {0}/in, dest: {0}/out.{format}, format: {format}, exclusion_patterns: ['*.log'], mode: '0600'}}",
                dir.display()
            ));
            let c = change(on_disk(&m));
            run(&c);
            let names = sh(dir, &format!("{list} out.{format}; stat -c %a out.{format}"));
            assert_eq!(names, "./in/\n./in/a b\n./in/sub/\n./in/sub/y\n600", "{format}");
            satisfied(on_disk(&m));
            for disturbance in ["echo 4 > in/sub/z", "rm in/sub/z", "echo broken > out.FORMAT", "rm out.FORMAT"] {
                sh(dir, &disturbance.replace("FORMAT", format));
                run(&change(on_disk(&m)));
                satisfied(on_disk(&m));
            }
            sh(dir, "echo 5 > in/sub/other.log; touch -r in/a* in/sub");
            sh(dir, &format!("chmod 644 out.{format}"));
            run(&change(on_disk(&m)));
            satisfied(on_disk(&m));
        }
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 4, "nothing unfinished is left");
    }

    #[test]
    fn single_files_patterns_and_removal() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        sh(dir, "mkdir in; echo 1 > in/one; echo 2 > in/two; echo 3 > 'in/$(x) three'");
        let d = dir.display();
        let m: Archive = bind(&format!("{{path: {d}/in/one, dest: {d}/one.gz}}"));
        run(&change(on_disk(&m)));
        assert_eq!(sh(dir, "gzip -dc one.gz"), "1");
        satisfied(on_disk(&m));
        let m: Archive =
            bind(&format!("{{path: ['{d}/in/t*', '{d}/in/*three', '{d}/in/none'], dest: {d}/t.tgz, remove: true}}"));
        let c = change(on_disk(&m));
        assert_eq!(c.result["arcroot"], json!(format!("{d}/in")));
        run(&c);
        assert_eq!(sh(dir, "tar -tzf t.tgz; ls in"), "./two\n./$(x) three\none");
        satisfied(on_disk(&m));
        let m: Archive = bind(&format!("{{path: {d}/nowhere/x, dest: {d}/n.tgz}}"));
        assert!(matches!(on_disk(&m), Err(Stop::Fail(f)) if f.message.contains("nothing at")));
    }

    #[test]
    fn the_archive_itself_is_neither_packed_nor_removed() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        let d = dir.display();
        sh(dir, "mkdir 'l[g]' one sub sub/in; echo 1 > 'l[g]/a.log'; echo 2 > 'l[g]/b.log'; echo 1 > one/a");
        let m: Archive = bind(&format!("{{path: '{d}/l*/*', dest: '{d}/l[g]/old*.tgz', remove: true}}"));
        for n in 0..2 {
            run(&change(on_disk(&m)));
            for _ in 0..2 {
                assert_eq!(sh(dir, "ls 'l[g]'"), "old*.tgz");
                satisfied(on_disk(&m));
            }
            assert_eq!(
                sh(dir, "tar -tzf 'l[g]/old*.tgz'"),
                ["./l[g]/a.log\n./l[g]/b.log", "./l[g]/c.log\n./l[g]/d.log"][n]
            );
            sh(dir, "echo 3 > 'l[g]/c.log'; echo 4 > 'l[g]/d.log'");
        }
        // One file beside it stays one file.
        let m: Archive = bind(&format!("{{path: '{d}/one/*', dest: '{d}/one/old.gz'}}"));
        for _ in 0..2 {
            if let Decision::Change(c) = on_disk(&m).unwrap() {
                run(&c);
            }
            assert_eq!(sh(dir, "gzip -dc one/old.gz"), "1");
        }
        satisfied(on_disk(&m));
        // By another name of the folder, and in a folder that is packed.
        let m: Archive = bind(&format!("{{path: '{d}/sub/../one/*', dest: '{d}/one/old.gz'}}"));
        assert_eq!(change_or_same(&on_disk(&m).unwrap()), [format!("{d}/sub/../one/a")]);
        let m: Archive = bind(&format!("{{path: '{d}/s*', dest: '{d}/sub/in/x.tgz', remove: true}}"));
        assert!(matches!(on_disk(&m), Err(Stop::Fail(f)) if f.message.contains("lies in ./sub")));
        // A name that only begins as the folder's does is another.
        sh(dir, "mkdir -p two/x; echo 1 > two/x/y");
        let m: Archive = bind(&format!("{{path: ['{d}/two/x'], dest: '{d}/twox/y'}}"));
        assert!(!m.head().contains("./x/y"), "{}", m.head());
    }
    fn change_or_same(d: &Decision) -> Vec<&str> {
        let r = match d {
            Decision::Change(c) => &c.result,
            Decision::Satisfied(r) => &r.result,
            _ => panic!(),
        };
        r["archived"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
    }

    /// tar says 1 where a file is written to while it is read.
    #[test]
    fn a_file_that_is_written_to_is_packed_but_not_removed() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        sh(
            dir,
            "mkdir in bin; echo 1 > in/a; echo 2 > in/b; printf '#!/bin/sh\n/bin/tar \"$@\"; exit 1\n' > bin/tar; chmod +x bin/tar",
        );
        let d = dir.display();
        let script = |remove: bool| {
            let m: Archive = bind(&format!("{{path: '{d}/in/*', dest: {d}/o.tgz, remove: {remove}}}"));
            let [Action::Script(s)] = &change(on_disk(&m)).actions[..] else { panic!() };
            std::process::Command::new("sh").arg("-c").arg(format!("PATH={d}/bin:$PATH\n{s}")).output().unwrap()
        };
        let out = script(true);
        assert!(String::from_utf8_lossy(&out.stderr).contains("nothing is removed") && !out.status.success());
        assert_eq!(sh(dir, "ls in; ls -A"), "a\nb\nbin\nin");
        assert!(script(false).status.success());
        assert_eq!(sh(dir, "tar -tzf o.tgz"), "./a\n./b");
    }

    #[test]
    fn roots() {
        let of = |paths: &[&str]| root(&paths.iter().map(|p| p.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&["/a/b/c"]), "/a/b");
        assert_eq!(of(&["/a/b/c/"]), "/a/b/c");
        assert_eq!(of(&["/a/b/*.c", "/a/d"]), "/a");
        assert_eq!(of(&["/a", "/b"]), "/");
    }

    #[test]
    fn mistakes() {
        assert!(try_bind::<Archive>("{path: /a, dest: /a/b.tgz}").unwrap_err().message.contains("lies in"));
        assert!(try_bind::<Archive>("{path: a, dest: /b.tgz}").is_err());
        assert!(try_bind::<Archive>("{path: /a, dest: /b.zip, format: zip}").is_err());
        assert!(try_bind::<Archive>("{path: /a, dest: /b.tgz, remove: true, exclude_path: [/a/x]}").is_err());
    }

    #[test]
    fn a_single_file_is_packed_as_an_archive_where_that_is_asked_for() {
        let t = tempfile::tempdir().unwrap();
        let dir = t.path();
        sh(dir, "echo 1 > one");
        let m = |more: &str| -> Archive {
            let d = dir.display();
            bind(&format!("{{path: {d}/one, dest: {d}/one.tgz, force_archive: true{more}}}"))
        };
        run(&change(on_disk(&m(""))));
        assert_eq!(sh(dir, "tar -tzf one.tgz"), "./one");
        satisfied(on_disk(&m("")));
        // Whose it is is told and not tried: that takes root.
        let said = format!("{:?}", change(on_disk(&m(", owner: nobody, group: nogroup"))).actions);
        assert!(said.contains("nobody:nogroup"), "{said}");
    }
}
