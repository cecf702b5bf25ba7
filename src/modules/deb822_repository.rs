//! `deb822_repository`: a repository of apt, in the form with fields, with the key it is signed by.

use super::args::{Bool, List, Mode, Text};
use super::place::{NewFolder, Wanted, nothing_at};
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::{Action, Put};
use crate::fetch::Download;
use crate::probe::{Answer, Content, Entry, EntryKind, Observed, PathState, Probe, Touches};
use crate::quote::shell_quote;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Keeps a repository in a `.sources` file of apt. The package lists are not refreshed: `apt: {update_cache: true}`
/// does that, best as a handler.
///
/// Registers `repo` (the file's text), `dest` and `key_filename`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deb822Repository {
    /// What it is called; its files are called after it.
    name: Text,
    /// `present` or `absent` (with its key's file).
    #[serde(default)]
    state: State,
    /// `deb`, `deb-src` or both.
    #[serde(default = "deb")]
    types: List,
    /// Where it is.
    uris: Option<List>,
    /// The releases (`bookworm`), or paths that end in a slash.
    suites: Option<List>,
    /// Its parts (`main`).
    components: Option<List>,
    /// Only these architectures.
    architectures: Option<List>,
    /// The key it is signed by: a file on the host, a URL (fetched by this side, kept in `/etc/apt/keyrings`), an armored
    /// block, or fingerprints.
    signed_by: Option<Text>,
    /// Whether it counts.
    enabled: Option<Bool>,
    /// Use it whatever its signature.
    trusted: Option<Bool>,
    /// Use it even unsigned, with warnings.
    allow_insecure: Option<Bool>,
    /// Use it even with a weak signature, with warnings.
    allow_weak: Option<Bool>,
    /// Use it even if it was signed before and is not now.
    allow_downgrade_to_insecure: Option<Bool>,
    /// Fetch lists by their checksums.
    by_hash: Option<Bool>,
    /// Look at dates at all.
    check_date: Option<Bool>,
    /// Refuse lists that are too old.
    check_valid_until: Option<Bool>,
    /// How many seconds from the future a list may be.
    date_max_future: Option<super::whole::Whole>,
    /// Where its InRelease file is.
    inrelease_path: Option<Text>,
    /// Languages of descriptions.
    languages: Option<List>,
    /// Fetch only differences of lists.
    pdiffs: Option<Bool>,
    /// Which lists to fetch.
    targets: Option<List>,
    /// Permissions of the `.sources` file.
    #[serde(default = "open")]
    mode: Mode,
    /// Has no effect: nothing needs to be installed for this module.
    #[serde(default)]
    #[allow(dead_code)]
    install_python_debian: Bool,
}

fn deb() -> List {
    List(vec!["deb".into()])
}
fn open() -> Mode {
    Mode::Bits(0o644)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

const KEYRINGS: &str = "/etc/apt/keyrings";

impl Module for Deb822Repository {
    const NAME: &'static str = "deb822_repository";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.slug().is_empty() {
            return Err(ArgError::new("name", format!("of `{}` nothing is left for a file's name", self.name.0)));
        }
        if self.mode == Mode::Preserve {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        if let Some(t) = self.types.iter().find(|t| !matches!(t.as_str(), "deb" | "deb-src")) {
            return Err(ArgError::new("types", format!("`{t}` is neither `deb` nor `deb-src`")));
        }
        let lines = |t: &str| t.contains(['\n', '\r']);
        let lists = [
            ("uris", &self.uris),
            ("suites", &self.suites),
            ("components", &self.components),
            ("architectures", &self.architectures),
            ("languages", &self.languages),
            ("targets", &self.targets),
        ];
        for (param, l) in lists {
            if l.iter().flat_map(|l| l.iter()).any(|t| t.trim().is_empty() || lines(t)) {
                return Err(ArgError::new(param, "an entry is empty or has more than one line"));
            }
        }
        for (param, t) in [("name", Some(&self.name)), ("inrelease_path", self.inrelease_path.as_ref())] {
            if t.is_some_and(|t| lines(t)) {
                return Err(ArgError::new(param, format!("`{param}` has more than one line")));
            }
        }
        if self.state == State::Absent {
            return Ok(());
        }
        for (param, l) in [("uris", &self.uris), ("suites", &self.suites)] {
            if l.as_ref().is_none_or(|l| l.is_empty()) {
                return Err(ArgError::new(param, format!("`deb822_repository` needs `{param}`")));
            }
        }
        let paths = self.suites.iter().flat_map(|l| l.iter()).all(|s| s.ends_with('/'));
        let parts = self.components.as_ref().is_some_and(|c| !c.is_empty());
        if !paths && !parts {
            return Err(ArgError::new("components", "a suite needs `components`")
                .hint("a suite that is a path ends in a slash and has none"));
        }
        if let Some(mistake) = self.key().and_then(|d| d.mistake()) {
            return Err(ArgError::new("signed_by", mistake));
        }
        Ok(())
    }

    fn probes(&self, ctx: &Ctx) -> Vec<Probe> {
        let mut p = vec![Probe::Path(self.dest()), Probe::Sha256(self.dest())];
        let keys = [self.key_file("asc"), self.key_file("gpg")];
        match (self.state, self.key()) {
            (State::Absent, _) => {
                p.extend(keys.map(Probe::Path));
                if ctx.diff {
                    p.push(Probe::Content(self.dest()));
                }
            }
            (_, Some(d)) => {
                p.push(Probe::Text(d));
                p.push(Probe::Path(KEYRINGS.into()));
                p.extend(keys.into_iter().flat_map(|k| [Probe::Path(k.clone()), Probe::Sha256(k)]));
            }
            _ => {}
        }
        p
    }

    fn decide(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        if self.state == State::Absent {
            return self.absent(seen, ctx);
        }
        let (mut all, mut says) = (Change::default(), vec![]);
        let mut key_file = None;
        if let Some(d) = self.key() {
            let (path, decision) = self.put_key(d, seen, ctx)?;
            key_file = Some(path);
            if let Decision::Change(c) = decision {
                says.push(format!("key: {}", c.summary));
                if seen.path(KEYRINGS)?.followed().is_none() {
                    let new = NewFolder { path: KEYRINGS, mode: None, owner: None, group: None };
                    all.actions.push(Action::Script(new.script()));
                    all.after.extend(new.after(seen, ctx));
                }
                join(&mut all, c);
            }
        }
        let text = self.text(key_file.as_deref());
        let dest = self.dest();
        let file = Wanted {
            path: &dest,
            body: text.clone().into_bytes().into(),
            mode: Some(&self.mode),
            owner: None,
            group: None,
            validate: None,
            backup: false,
        };
        if let Decision::Change(c) = file.decide(seen, ctx)? {
            says.insert(0, c.summary.clone());
            join(&mut all, c);
        }
        let mut result = Map::new();
        result.insert("repo".into(), json!(text));
        result.insert("dest".into(), json!(dest));
        result.insert("key_filename".into(), json!(key_file));
        if all.actions.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        all.summary = says.join(", ");
        all.result = result;
        Ok(Decision::Change(all))
    }
}

fn join(all: &mut Change, c: Change) {
    all.actions.extend(c.actions);
    all.touches = std::mem::take(&mut all.touches).and(c.touches);
    all.after.extend(c.after);
    all.diff.extend(c.diff);
}

impl Deb822Repository {
    /// The name as files may have it.
    fn slug(&self) -> String {
        let mut slug = String::new();
        let mut gap = false;
        for c in self.name.to_lowercase().chars() {
            if c == '_' || c.is_whitespace() {
                gap = true;
                continue;
            }
            if std::mem::take(&mut gap) {
                slug.push('-');
            }
            if c.is_ascii_alphanumeric() || c == '-' {
                slug.push(c);
            }
        }
        slug
    }
    fn dest(&self) -> String {
        format!("/etc/apt/sources.list.d/{}.sources", self.slug())
    }
    fn key_file(&self, ending: &str) -> String {
        format!("{KEYRINGS}/{}.{ending}", self.slug())
    }
    /// The key, if it is to be fetched.
    fn key(&self) -> Option<Download> {
        let url = self.signed_by.as_deref().filter(|s| s.contains("://") && !s.contains("BEGIN PGP"))?;
        Some(Download::new(url))
    }

    fn put_key(&self, d: Download, seen: &Observed, ctx: &Ctx) -> Result<(String, Decision), Stop> {
        let mode = Mode::Bits(0o644);
        let wanted = |path: &str, body: Vec<u8>| {
            let w = Wanted {
                path,
                body: body.into(),
                mode: Some(&mode),
                owner: None,
                group: None,
                validate: None,
                backup: false,
            };
            w.decide(seen, ctx)
        };
        match seen.text(&d)? {
            Ok(t) => {
                let path =
                    self.key_file(if t.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") { "asc" } else { "gpg" });
                let decision = wanted(&path, t.clone().into_bytes())?;
                return Ok((path, decision));
            }
            // A key that is not armored.
            Err(e) if e.message.ends_with("is not a text") => {}
            Err(e) => return Err(e.into()),
        }
        let fetched = match seen.fetched(&d)? {
            Ok(f) => f,
            Err(e) => return Err(e.into()),
        };
        let path = self.key_file("gpg");
        let state = seen.path(&path)?;
        let old = state.entry.as_ref().filter(|e| e.kind == EntryKind::File);
        if let (Some(e), Some(sum)) = (old, seen.sha256(&path)?)
            && *sum == fetched.sha256
            && e.mode == 0o644
        {
            return Ok((path, Decision::satisfied(Map::new())));
        }
        let own = |id: Option<u32>| id.unwrap_or(0);
        let entry = Entry {
            kind: EntryKind::File,
            mode: 0o644,
            uid: own(old.map(|e| e.uid)),
            gid: own(old.map(|e| e.gid)),
            owner: old.map_or("root".into(), |e| e.owner.clone()),
            group: old.map_or("root".into(), |e| e.group.clone()),
            size: fetched.size,
            mtime: ctx.now,
            links: 1,
            inode: String::new(),
            times: None,
        };
        let put = Put {
            path: path.clone(),
            body: d.into(),
            mode: 0o644,
            owner: None,
            group: None,
            keeps: None,
            validate: None,
            backup: None,
        };
        let there = PathState { entry: Some(entry), canonical: state.canonical.clone(), ..Default::default() };
        let change = Change {
            actions: vec![Action::Put(put)],
            touches: Touches::entry(&path),
            after: vec![
                (Probe::Path(path.clone()), Answer::Path(there)),
                (Probe::Sha256(path.clone()), Answer::Sha256(Some(fetched.sha256.clone()))),
            ],
            summary: if old.is_some() { "content changes".into() } else { "new file".into() },
            ..Default::default()
        };
        Ok((path, Decision::Change(change)))
    }

    /// The file's text: the fields in the order in which Ansible writes them, so that its files stay as they are.
    fn text(&self, key_file: Option<&str>) -> String {
        let yes = |b: &Option<Bool>| b.map(|b| if b.0 { "yes" } else { "no" }.to_string());
        let list = |l: &Option<List>| l.as_ref().map(|l| l.join(" "));
        let signed = key_file.map(str::to_string).or_else(|| self.signed_by.as_ref().map(|s| s.0.clone()));
        let fields = [
            ("Allow-Downgrade-To-Insecure", yes(&self.allow_downgrade_to_insecure)),
            ("Allow-Insecure", yes(&self.allow_insecure)),
            ("Allow-Weak", yes(&self.allow_weak)),
            ("Architectures", list(&self.architectures)),
            ("By-Hash", yes(&self.by_hash)),
            ("Check-Date", yes(&self.check_date)),
            ("Check-Valid-Until", yes(&self.check_valid_until)),
            ("Components", list(&self.components)),
            ("Date-Max-Future", self.date_max_future.map(|n| n.0.to_string())),
            ("Enabled", yes(&self.enabled)),
            ("Inrelease-Path", self.inrelease_path.as_ref().map(|t| t.0.clone())),
            ("Languages", list(&self.languages)),
            ("X-Repolib-Name", Some(self.name.0.clone())),
            ("Pdiffs", yes(&self.pdiffs)),
            ("Signed-By", signed),
            ("Suites", list(&self.suites)),
            ("Targets", list(&self.targets)),
            ("Trusted", yes(&self.trusted)),
            ("Types", Some(self.types.join(" "))),
            ("URIs", list(&self.uris)),
        ];
        let mut out = String::new();
        for (name, value) in fields {
            let Some(value) = value else { continue };
            if value.trim_end().contains('\n') {
                out += &format!("{name}:\n");
                for l in value.trim().lines() {
                    let l = l.trim();
                    out += &format!("    {}\n", if l.is_empty() { "." } else { l });
                }
            } else {
                out += &format!("{name}: {}\n", value.trim_end());
            }
        }
        out
    }

    fn absent(&self, seen: &Observed, ctx: &Ctx) -> Result<Decision, Stop> {
        let dest = self.dest();
        let mut c = Change::default();
        let mut gone = vec![];
        for path in [dest.clone(), self.key_file("asc"), self.key_file("gpg")] {
            let state = seen.path(&path)?;
            match state.entry.as_ref().map(|e| e.kind) {
                None => continue,
                Some(EntryKind::Directory) => return Err(Stop::fail(format!("{path} is a folder"))),
                Some(_) => {}
            }
            if ctx.diff && path == dest {
                let before = match seen.content(&path)? {
                    Content::Bytes(b) => super::place::text(b),
                    _ => String::new(),
                };
                c.diff.push(Diff { what: path.clone(), before: Some(before), after: None });
            }
            c.touches = c.touches.and(Touches::entry(&path));
            c.after.extend(nothing_at(&path, &state.canonical));
            gone.push(path);
        }
        let mut result = Map::new();
        result.insert("repo".into(), json!(null));
        result.insert("dest".into(), json!(dest));
        result.insert("key_filename".into(), json!(gone.iter().find(|p| p.starts_with(KEYRINGS))));
        if gone.is_empty() {
            return Ok(Decision::satisfied(result));
        }
        let all: Vec<String> = gone.iter().map(|p| shell_quote(p)).collect();
        c.actions = vec![Action::Script(format!("rm -f -- {}", all.join(" ")))];
        c.summary = format!("removes {}", gone.join(", "));
        c.result = result;
        Ok(Decision::Change(c))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::fetch::{FetchError, Fetched};

    const F: &str = "/etc/apt/sources.list.d/my-repo-1.sources";
    const BASE: &str = "name: My_repo (1), uris: http://a/x, suites: c, components: [main, more]";

    fn bare(path: &str) -> Vec<(Probe, Answer)> {
        nothing_at(path, path)
    }

    #[test]
    fn a_file_with_fields() {
        let m: Deb822Repository = bind(&format!("{{{}}}", BASE.replace("My_repo (1)", "'My_repo _1'")));
        assert_eq!(m.dest(), F);
        let c = change(m.decide(&seen(bare(F)), &ctx()));
        let want = "Components: main more\nX-Repolib-Name: My_repo _1\nSuites: c\nTypes: deb\nURIs: http://a/x\n";
        assert_eq!(c.diff[0].after.as_deref(), Some(want));
        assert_eq!(c.result["repo"], json!(want));
        satisfied(m.decide(&then(seen(bare(F)), &c), &ctx()));
        let m: Deb822Repository = bind(
            "{name: x, uris: [a, b], suites: ./, enabled: no, types: 'deb,deb-src', signed_by: \"-----BEGIN\\n\\n x\\n\"}",
        );
        assert_eq!(
            m.text(None),
            "Enabled: no\nX-Repolib-Name: x\nSigned-By:\n    -----BEGIN\n    .\n    x\nSuites: ./\nTypes: deb deb-src\nURIs: a b\n"
        );
    }

    #[test]
    fn a_key_is_fetched_and_named() {
        let m: Deb822Repository = bind("{name: x, uris: a, suites: ./, signed_by: 'https://h/k'}");
        let d = m.key().unwrap();
        let armored = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n".to_string();
        let files = ["asc", "gpg"].iter().flat_map(|e| bare(&m.key_file(e))).chain(bare(&m.dest()));
        let mut o = seen(files.chain([at(KEYRINGS, None), at("/etc/apt", None)]));
        o.insert(Probe::Text(d.clone()), Answer::Text(Ok(armored)));
        let c = change(m.decide(&o, &ctx()));
        assert_eq!((c.actions.len(), &c.result["key_filename"]), (3, &json!("/etc/apt/keyrings/x.asc")));
        assert!(c.result["repo"].as_str().unwrap().contains("Signed-By: /etc/apt/keyrings/x.asc\n"));
        satisfied(m.decide(&then(o.clone(), &c), &ctx()));

        let no_text = FetchError { message: "https://h/k is not a text".into(), hint: None };
        o.insert(Probe::Text(d.clone()), Answer::Text(Err(no_text)));
        let f = Fetched { path: "/c".into(), size: 3, sha256: "ab".repeat(32), status: None };
        o.insert(Probe::Fetched(d.clone()), Answer::Fetched(Ok(f)));
        let c = change(m.decide(&o, &ctx()));
        assert_eq!(c.result["key_filename"], json!("/etc/apt/keyrings/x.gpg"));
        satisfied(m.decide(&then(o.clone(), &c), &ctx()));

        o.insert(Probe::Text(d), Answer::Text(Err(FetchError { message: "404".into(), hint: None })));
        assert!(matches!(m.decide(&o, &ctx()), Err(Stop::Fail(_))));
    }

    #[test]
    fn all_its_files_go() {
        let m: Deb822Repository = bind("{name: x, state: absent}");
        let (d, k) = (m.dest(), m.key_file("asc"));
        let o = || {
            let mut o = seen(bare(&m.key_file("gpg")));
            for p in [&d, &k] {
                let (q, a) = at(p, Some(entry(EntryKind::File, 0o644)));
                o.insert(q, a);
            }
            o.insert(Probe::Content(d.clone()), Answer::Content(Content::Bytes(b"old\n".to_vec())));
            o
        };
        let c = change(m.decide(&o(), &ctx()));
        assert_eq!(c.summary, format!("removes {d}, {k}"));
        satisfied(m.decide(&then(o(), &c), &ctx()));
    }

    #[test]
    fn mistakes() {
        for (bad, word) in [
            ("{name: '()', state: absent}", "nothing is left"),
            ("{name: x, suites: c}", "needs `uris`"),
            ("{name: x, uris: a}", "needs `suites`"),
            ("{name: x, uris: a, suites: c}", "`components`"),
            ("{name: x, uris: a, suites: c, components: m, types: rpm}", "neither"),
            ("{name: x, uris: a, suites: ./, signed_by: 'ftp://x/y'}", "cannot be fetched"),
        ] {
            let e = try_bind::<Deb822Repository>(bad).unwrap_err();
            assert!(e.message.contains(word), "{bad}: {}", e.message);
        }
    }

    #[test]
    fn every_field_under_its_name() {
        let m: Deb822Repository = bind(
            "{name: x, uris: a, suites: s, components: c, architectures: [amd64, arm64], trusted: no, allow_insecure: yes, \
             allow_weak: yes, allow_downgrade_to_insecure: no, by_hash: no, check_date: yes, check_valid_until: no, \
             date_max_future: 60, inrelease_path: in/Release, languages: [en, none], pdiffs: yes, targets: [deb-src]}",
        );
        assert_eq!(
            m.text(None),
            "Allow-Downgrade-To-Insecure: no\nAllow-Insecure: yes\nAllow-Weak: yes\nArchitectures: amd64 arm64\n\
             By-Hash: no\nCheck-Date: yes\nCheck-Valid-Until: no\nComponents: c\nDate-Max-Future: 60\n\
             Inrelease-Path: in/Release\nLanguages: en none\nX-Repolib-Name: x\nPdiffs: yes\nSuites: s\n\
             Targets: deb-src\nTrusted: no\nTypes: deb\nURIs: a\n"
        );
        let m: Deb822Repository = bind("{name: x, uris: a, suites: ./, mode: '0600'}");
        let file = seen(bare(&m.dest()));
        let c = change(m.decide(&file, &ctx()));
        let Some(Action::Put(p)) = c.actions.iter().find(|a| matches!(a, Action::Put(_))) else { panic!("{c:?}") };
        assert_eq!(p.mode, 0o600);
    }
}
