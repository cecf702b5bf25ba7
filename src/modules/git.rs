//! `git`: a repository checked out at a version.

use super::args::{Bool, Text};
use super::copy::absolute;
use super::place::{beside, tidy};
use super::whole::Whole;
use super::{ArgError, Change, Ctx, Decision, Diff, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, Probe, Touches};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// Keeps a clone of a git repository at a version. The host fetches it, and needs git.
///
/// A new clone is made beside its place and moved there whole. Registers `before` and `after` (commit ids) and
/// `remote_url_changed`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// The repository: a URL, `host:path` or a path on the host. Also `name`.
    #[serde(alias = "name")]
    #[schemars(extend("x-aliases" = ["name"]))]
    repo: Text,
    /// Where the clone goes. Not needed with `clone: false`.
    dest: Option<Text>,
    /// A branch, a tag, or a commit's whole id. `HEAD`: the branch that is checked out, or of a new clone the
    /// repository's own choice.
    #[serde(default = "head")]
    version: Text,
    /// What the clone calls the repository.
    #[serde(default = "origin")]
    remote: Text,
    /// Something more to fetch, as `git fetch` takes it.
    refspec: Option<Text>,
    /// Throw away changes to files of the clone. Without it, they are an error.
    #[serde(default)]
    force: Bool,
    /// Fetch only so many commits.
    depth: Option<Whole>,
    /// `false`: make no clone where there is none; only look.
    #[serde(default = "yes")]
    clone: Bool,
    /// `false`: leave a clone that is there as it is.
    #[serde(default = "yes")]
    update: Bool,
    /// A clone without a work tree.
    #[serde(default)]
    bare: Bool,
    /// Submodules too.
    #[serde(default = "yes")]
    recursive: Bool,
    /// A new clone has the history of this one version only.
    #[serde(default)]
    single_branch: Bool,
    /// A repository on the host to borrow objects from.
    reference: Option<Text>,
    /// Fail unless the commit (or the tag) is signed by a key the task's user has.
    #[serde(default)]
    verify_commit: Bool,
    /// The umask to work with, in octal (`"0022"`).
    umask: Option<Text>,
    /// The git program, an absolute path.
    executable: Option<Text>,
    /// A private key on the host for ssh.
    key_file: Option<Text>,
    /// More options for ssh.
    ssh_opts: Option<Text>,
    /// Accept any host key: no protection against someone in between.
    #[serde(default)]
    accept_hostkey: Bool,
    /// Accept the key of a host not met before, never one that changed.
    #[serde(default)]
    accept_newhostkey: Bool,
    #[serde(skip)]
    #[schemars(skip)]
    words: Vec<String>,
}

fn yes() -> Bool {
    Bool(true)
}
fn head() -> Text {
    "HEAD".into()
}
fn origin() -> Text {
    "origin".into()
}

impl Module for Git {
    const NAME: &'static str = "git";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let bad = |t: &str| t.is_empty() || t.starts_with('-') || t.chars().any(|c| c.is_control());
        if bad(&self.repo) {
            return Err(ArgError::new("repo", format!("`{}` is not a repository", self.repo.0)));
        }
        for (param, t) in [("version", &self.version), ("remote", &self.remote)] {
            if bad(t) || t.contains([' ', '~', '^', ':', '?', '*', '[', '\\']) || t.contains("..") {
                return Err(ArgError::new(param, format!("`{}` is not a name in git", t.0)));
            }
        }
        if self.refspec.as_deref().is_some_and(bad) {
            return Err(ArgError::new("refspec", "that is not a refspec of git"));
        }
        for (param, p) in [
            ("dest", &self.dest),
            ("reference", &self.reference),
            ("executable", &self.executable),
            ("key_file", &self.key_file),
        ] {
            p.as_deref().map_or(Ok(()), |p| absolute(param, p))?;
        }
        if let Some(d) = &mut self.dest {
            d.0 = tidy(d);
            if d.is_empty() || &**d == "/" {
                return Err(ArgError::new("dest", "`/` cannot be a clone"));
            }
        } else if self.clone.0 {
            return Err(ArgError::new("dest", "`git` needs a `dest`").hint("`clone: false` only looks"));
        }
        if self.depth == Some(Whole(0)) {
            return Err(ArgError::new("depth", "`depth` begins at 1"));
        }
        let octal = |u: &str| !u.is_empty() && u.len() <= 4 && u.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if self.umask.as_deref().is_some_and(|u| !octal(u)) {
            return Err(ArgError::new("umask", "expected an octal umask in quotes, like \"0022\""));
        }
        if let Some(o) = &self.ssh_opts {
            super::split_words(o).map_err(|e| ArgError::new("ssh_opts", e))?;
        }
        self.words = [Some(&self.repo), self.ssh_opts.as_ref()].into_iter().flatten().map(|t| t.0.clone()).collect();
        Ok(())
    }

    fn arguments(&self) -> (&[String], bool) {
        (&self.words, false)
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        vec![Probe::Script(match &self.dest {
            Some(d) => self.look(d),
            None => self.ask(None),
        })]
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let Some(dest) = self.dest.as_deref() else {
            let theirs = self.theirs(None, seen)?;
            let after = theirs.at(&self.version, None).map(|t| t.sha);
            return Ok(Decision::satisfied(result(None, after.as_deref(), false)));
        };
        let look = self.look(dest);
        let out = seen.script(&look)?;
        if out.rc == 127 {
            return Err(Stop::fail_hint("there is no git on the host", "install it first: `apt: {name: git}`"));
        }
        let field = |k: &str| {
            let found = out.stdout.lines().find_map(|l| l.strip_prefix(k)?.strip_prefix(' '));
            found.map(str::trim).filter(|v| !v.is_empty())
        };
        let empty = field("there") == Some("empty");
        let there = match field("there") {
            Some("none" | "empty") => false,
            Some("repo") => true,
            _ => {
                let why = out.stderr.trim();
                let why = if why.is_empty() { "it is not a clone, and not empty" } else { why };
                let hint = match why.contains("dubious ownership") {
                    true => {
                        "`become_user` with the folder's owner, or trust the folder: `git config --global --add safe.directory`"
                    }
                    false => "move it away, or choose another `dest`",
                };
                return Err(Stop::fail_hint(format!("{dest} cannot be used: {why}"), hint));
            }
        };
        let now = if self.bare.0 { field("local") } else { field("head") };
        if there && (field("bare") == Some("true")) != self.bare.0 {
            let (is, not) = if self.bare.0 { ("has a work tree", "`bare`") } else { ("is bare", "not `bare`") };
            return Err(Stop::fail(format!("{dest} {is}, the task's clone is {not}")));
        }
        if there && !self.update.0 {
            return Ok(Decision::satisfied(result(now, now, false)));
        }
        let branch = field("branch").filter(|_| there);
        let theirs = self.theirs(branch, seen)?;
        let Some(want) = theirs.at(&self.version, branch).or_else(|| self.by_id(field("local"))) else {
            return Err(if *self.version == *"HEAD" {
                Stop::fail(format!("{} has no HEAD: it is empty", self.repo.0))
            } else {
                Stop::fail_hint(
                    format!("{} has no branch and no tag `{}`", self.repo.0, self.version.0),
                    "a commit is named by its whole id, all 40 digits",
                )
            });
        };
        if !there && !self.clone.0 {
            return Ok(Decision::satisfied(result(None, Some(&want.sha), false)));
        }
        let url = field("url");
        let moved = there && url != Some(&*self.repo);
        let dirty = field("dirty").unwrap_or("0") != "0";
        if dirty && !self.force.0 {
            let files = out.stdout.lines().filter_map(|l| l.strip_prefix("file ")).collect::<Vec<_>>().join(", ");
            return Err(Stop::fail_hint(
                format!("{dest} has changes of its own: {files}"),
                "`force: true` throws them away",
            ));
        }
        let stale = self.recursive.0 && field("stale").unwrap_or("0") != "0";
        let switched = want.branch.as_deref().is_some_and(|b| Some(b) != branch) && !self.bare.0;
        if there && now == Some(&want.sha) && !moved && !dirty && !stale && !switched {
            return Ok(Decision::satisfied(result(now, now, false)));
        }
        let before = now.filter(|_| there);
        let mut says = vec![];
        if !there {
            says.push(format!("clones {} at {}", self.repo.0, short(&want.sha)));
        } else {
            if moved {
                says.push(format!("{} is now {}", self.remote.0, self.repo.0));
            }
            if before != Some(&want.sha) {
                says.push(format!("{} -> {}", before.map_or("nothing", short), short(&want.sha)));
            }
            if dirty {
                says.push("throws changes away".into());
            }
            if let (true, Some(b)) = (switched, &want.branch) {
                says.push(format!("on branch {b}"));
            }
            if stale {
                says.push("updates submodules".into());
            }
        }
        let script = match (there, empty) {
            (true, _) => self.renew(dest, &want),
            (false, true) => self.inside(dest, &want),
            (false, false) => self.fresh(dest, &want),
        };
        let line = |sha: &str| format!("{sha}\n");
        let mut after = vec![(
            Probe::Script(look),
            Answer::Script(Output { stdout: self.as_it_will_be(&want), ..Default::default() }),
        )];
        // Nothing was done to the repository itself.
        let branch_then = want.branch.as_deref();
        if let Some(a) = seen.get(&Probe::Script(self.ask(branch))) {
            after.push((Probe::Script(self.ask(branch_then)), a.clone()));
        }
        Ok(Decision::Change(Change {
            actions: vec![Action::Script(script)],
            touches: Touches::path(dest),
            after,
            diff: vec![Diff {
                what: dest.into(),
                before: before.map(line).or(there.then(String::new)),
                after: Some(line(&want.sha)),
            }],
            summary: says.join(", "),
            result: result(before, Some(&want.sha), moved),
            ..Default::default()
        }))
    }
}

fn result(before: Option<&str>, after: Option<&str>, moved: bool) -> Map<String, serde_json::Value> {
    let mut r = Map::new();
    r.insert("before".into(), json!(before));
    r.insert("after".into(), json!(after));
    r.insert("remote_url_changed".into(), json!(moved));
    r
}

fn short(sha: &str) -> &str {
    sha.get(..10).unwrap_or(sha)
}

/// What is to be checked out.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    sha: String,
    branch: Option<String>,
    tag: Option<String>,
}

/// What the repository says it has.
struct Theirs<'a> {
    refs: Vec<(&'a str, &'a str)>,
    /// The branch its HEAD is.
    head: Option<&'a str>,
}

impl<'a> Theirs<'a> {
    fn read(text: &'a str) -> Self {
        let mut t = Theirs { refs: vec![], head: None };
        for (what, name) in text.lines().filter_map(|l| l.split_once('\t')) {
            match what.strip_prefix("ref: refs/heads/") {
                Some(branch) if name == "HEAD" => t.head = Some(branch),
                _ => t.refs.push((name, what)),
            }
        }
        t
    }
    fn sha(&self, name: &str) -> Option<String> {
        self.refs.iter().find(|(n, _)| *n == name).map(|(_, s)| s.to_string())
    }
    fn at(&self, version: &str, current: Option<&str>) -> Option<Target> {
        let on = |b: &str| {
            let sha = self.sha(&format!("refs/heads/{b}"))?;
            Some(Target { sha, branch: Some(b.to_string()), tag: None })
        };
        if version == "HEAD" {
            let own = self.head.and_then(|b| Some((b, self.sha("HEAD")?)));
            let own = own.map(|(b, sha)| Target { sha, branch: Some(b.to_string()), tag: None });
            let loose = || Some(Target { sha: self.sha("HEAD")?, branch: None, tag: None });
            return current.and_then(on).or(own).or_else(loose);
        }
        let tag = version.strip_prefix("refs/tags/").unwrap_or(version);
        let tagged = || {
            let name = format!("refs/tags/{tag}");
            // An annotated tag is an object of its own; the commit is behind it.
            let sha = self.sha(&format!("{name}^{{}}")).or_else(|| self.sha(&name))?;
            Some(Target { sha, branch: None, tag: Some(tag.to_string()) })
        };
        on(version.strip_prefix("refs/heads/").unwrap_or(version)).or_else(tagged)
    }
}

impl Git {
    /// A version that is a commit's own id.
    fn by_id(&self, local: Option<&str>) -> Option<Target> {
        let v = &*self.version;
        let hex = (7..=40).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_hexdigit());
        let sha = match local.filter(|l| l.starts_with(&v.to_ascii_lowercase())) {
            Some(l) => l.to_string(),
            None if v.len() == 40 => v.to_ascii_lowercase(),
            None => return None,
        };
        hex.then_some(Target { sha, branch: None, tag: None })
    }

    fn theirs<'a>(&self, branch: Option<&str>, seen: &'a Observed) -> Result<Theirs<'a>, Stop> {
        let out = seen.script(&self.ask(branch))?;
        match out.rc {
            0 => Ok(Theirs::read(&out.stdout)),
            127 => Err(Stop::fail_hint("there is no git on the host", "install it first: `apt: {name: git}`")),
            124 => Err(Stop::fail(format!("{} did not answer within 60 s", self.repo.0))),
            _ => {
                let said = out.stderr.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
                Err(Stop::fail_hint(
                    format!("{} cannot be read: {said}", self.repo.0),
                    "the host itself asks it, as the task's user: see `key_file` and `accept_newhostkey`",
                ))
            }
        }
    }

    /// What every script begins with: nothing asks a person, and nothing around the clone is taken for it.
    fn head(&self) -> String {
        let mut ssh = String::from("ssh -o BatchMode=yes");
        if let Some(k) = &self.key_file {
            ssh += &format!(" -o IdentitiesOnly=yes -i {}", shell_quote(k));
        }
        if self.accept_hostkey.0 {
            ssh += " -o StrictHostKeyChecking=no";
        } else if self.accept_newhostkey.0 {
            ssh += " -o StrictHostKeyChecking=accept-new";
        }
        if let Some(words) = self.ssh_opts.as_deref().and_then(|o| super::split_words(o).ok()) {
            ssh += &format!(" {}", shell_join(words));
        }
        let git = shell_quote(self.executable.as_deref().unwrap_or("git"));
        format!(
            "command -v {git} >/dev/null 2>&1 || exit 127\n\
             export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=true GIT_SSH_COMMAND={}\ng() {{ {git} \"$@\" </dev/null; }}\n",
            shell_quote(&ssh)
        )
    }

    /// A read-only script: what is at the clone's place.
    fn look(&self, dest: &str) -> String {
        let local = match &*self.version {
            "HEAD" => "HEAD".to_string(),
            v => shell_quote(&format!("{v}^{{commit}}")),
        };
        let remote = shell_quote(&format!("remote.{}.url", self.remote.0));
        format!(
            r#"{head}d={dest}
[ -e "$d" ] || [ -L "$d" ] || {{ echo 'there none'; exit 0; }}
[ -d "$d" ] || {{ echo 'there other'; exit 0; }}
[ -n "$(ls -A -- "$d")" ] || {{ echo 'there empty'; exit 0; }}
n=$d/{unfinished}
if [ -e "$n" ] || [ -e "$n.git" ]; then [ -e "$d/{last}" ] || {{ echo 'there empty'; exit 0; }}; fi
GIT_CEILING_DIRECTORIES=$(dirname -- "$(realpath -- "$d")")
export GIT_CEILING_DIRECTORIES
b=$(g -C "$d" rev-parse --is-bare-repository) || {{ echo 'there other'; exit 0; }}
echo 'there repo'
echo "bare $b"
echo "head $(g -C "$d" rev-parse -q --verify HEAD 2>/dev/null)"
echo "branch $(g -C "$d" symbolic-ref -q --short HEAD 2>/dev/null)"
echo "local $(g -C "$d" rev-parse -q --verify {local} 2>/dev/null)"
echo "url $(g -C "$d" config --get {remote})"
[ "$b" = false ] || exit 0
s=$(g --no-optional-locks -C "$d" status --porcelain --untracked-files=no --ignore-submodules=all)
[ -z "$s" ] || {{ echo "dirty 1"; printf '%s\n' "$s" | head -n 5 | sed 's/^.. /file /'; }}
[ ! -f "$d/.gitmodules" ] || echo "stale $(g -C "$d" submodule status --recursive 2>/dev/null | grep -c '^[-+U]')"
exit 0"#,
            head = self.head(),
            dest = shell_quote(dest),
            unfinished = unfinished(dest),
            last = self.last(),
        )
    }

    /// What the look says once a version is there.
    fn as_it_will_be(&self, want: &Target) -> String {
        let branch = want.branch.as_deref().unwrap_or_default();
        let local = match self.by_id(None).is_some() || self.bare.0 || *self.version == *"HEAD" || want.tag.is_some() {
            true => want.sha.as_str(),
            false => "",
        };
        format!(
            "there repo\nbare {}\nhead {sha}\nbranch {branch}\nlocal {local}\nurl {}\n",
            self.bare.0,
            self.repo.0,
            sha = want.sha
        )
    }

    /// A read-only script: what the repository has of the version.
    fn ask(&self, branch: Option<&str>) -> String {
        let mut refs = vec![];
        match &*self.version {
            "HEAD" => {
                refs.push("HEAD".to_string());
                refs.extend(branch.map(|b| format!("refs/heads/{b}")));
            }
            v => {
                let bare = v.strip_prefix("refs/heads/").or(v.strip_prefix("refs/tags/")).unwrap_or(v);
                refs.push(format!("refs/heads/{bare}"));
                refs.push(format!("refs/tags/{bare}"));
                refs.push(format!("refs/tags/{bare}^{{}}"));
            }
        }
        let git = shell_quote(self.executable.as_deref().unwrap_or("git"));
        format!(
            "{}timeout 60 {git} ls-remote --symref -- {} {} </dev/null",
            self.head(),
            shell_quote(&self.repo),
            shell_join(refs)
        )
    }

    fn begin(&self) -> String {
        let umask = self.umask.as_ref().map(|u| format!("umask {}\n", u.0)).unwrap_or_default();
        format!("{}{umask}set -e\n", self.head())
    }

    fn depth(&self) -> String {
        self.depth.map(|d| format!(" --depth {}", d.0)).unwrap_or_default()
    }

    /// The commit is fetched if it did not come by itself.
    fn bring(&self, want: &Target) -> String {
        let (remote, sha) = (shell_quote(&self.remote), shell_quote(&want.sha));
        let more = self
            .refspec
            .as_ref()
            .map(|r| format!("g -C \"$t\" fetch -q{} -- {remote} {}\n", self.depth(), shell_quote(r)));
        format!(
            "{}g -C \"$t\" cat-file -e {sha}^{{commit}} 2>/dev/null || g -C \"$t\" fetch -q{} -- {remote} {sha}\n",
            more.unwrap_or_default(),
            self.depth()
        )
    }

    fn verify(&self, want: &Target) -> String {
        match (self.verify_commit.0, &want.tag) {
            (false, _) => String::new(),
            (true, Some(t)) => format!("g -C \"$t\" verify-tag -- {}\n", shell_quote(t)),
            (true, None) => format!("g -C \"$t\" verify-commit {}\n", shell_quote(&want.sha)),
        }
    }

    fn check_out(&self, want: &Target, force: bool) -> String {
        if self.bare.0 {
            return String::new();
        }
        let mut s = String::new();
        let sha = shell_quote(&want.sha);
        let force = if force { " --force" } else { "" };
        match &want.branch {
            Some(b) => {
                let up = shell_quote(&format!("{}/{b}", self.remote.0));
                let b = shell_quote(b);
                s += &format!("g -C \"$t\" checkout -q{force} -B {b} {sha}\n");
                s += &format!("g -C \"$t\" branch -q --set-upstream-to={up} {b} 2>/dev/null || :\n");
            }
            None => s += &format!("g -C \"$t\" checkout -q{force} --detach {sha}\n"),
        }
        s
    }

    fn submodules(&self) -> String {
        if self.bare.0 || !self.recursive.0 {
            return String::new();
        }
        let force = if self.force.0 { " --force" } else { "" };
        format!(
            "[ ! -f \"$t/.gitmodules\" ] || {{ g -C \"$t\" submodule --quiet sync --recursive; g -C \"$t\" submodule --quiet update --init --recursive{force}{}; }}\n",
            self.depth()
        )
    }

    /// What makes a folder a clone: it comes last.
    fn last(&self) -> &'static str {
        if self.bare.0 { "HEAD" } else { ".git" }
    }

    /// What `git clone` is told, without the folder it makes; and what gives the repository its name afterwards.
    fn clone_words(&self, want: &Target) -> (Vec<String>, String) {
        let mut words = vec!["-q".to_string()];
        // Older versions know no other name for the origin of a bare clone.
        if !self.bare.0 {
            words.extend(["--origin".to_string(), self.remote.0.clone()]);
        }
        words.push(if self.bare.0 { "--bare" } else { "--no-checkout" }.into());
        if let Some(d) = self.depth {
            words.extend(["--depth".to_string(), d.0.to_string()]);
        }
        if self.single_branch.0 {
            words.push("--single-branch".into());
        }
        if let Some(r) = &self.reference {
            words.extend(["--reference".to_string(), r.0.clone()]);
        }
        if let Some(name) = want.branch.as_ref().or(want.tag.as_ref()) {
            words.extend(["--branch".to_string(), name.clone()]);
        }
        words.extend(["--".to_string(), self.repo.0.clone()]);
        let rename = match self.bare.0 && &*self.remote != "origin" {
            true => format!("g -C \"$t\" remote rename origin {} 2>/dev/null\n", shell_quote(&self.remote)),
            false => String::new(),
        };
        (words, rename)
    }

    /// A new clone in a folder that is there, which stays what it is: its mode and owner, a mount point, what a link leads to.
    /// Until the last rename a name of ours in it says that what else is there came from an attempt that was ended.
    fn inside(&self, dest: &str, want: &Target) -> String {
        let (words, rename) = self.clone_words(want);
        let begin = format!(
            "{}d={} n={}\n",
            self.begin(),
            shell_quote(dest),
            shell_quote(&format!("{dest}/{}", unfinished(dest)))
        );
        let clone = format!("rm -rf -- \"$n\"\ng clone {} \"$n\"\n", shell_join(words));
        if self.bare.0 {
            return format!(
                "{begin}trap 'rm -rf -- \"$n\"' EXIT\n{clone}t=$n\n{rename}{}{}trap - EXIT\n\
                 for f in \"$n\"/* \"$n\"/.[!.]* \"$n/HEAD\"; do\n\
                 [ -e \"$f\" ] || continue\n[ \"${{f##*/}}\" != HEAD ] || [ \"$(ls -A -- \"$n\")\" = HEAD ] || continue\n\
                 rm -rf -- \"$d/${{f##*/}}\"\nmv -T -- \"$f\" \"$d/${{f##*/}}\"\ndone\nrmdir -- \"$n\"\n",
                self.bring(want),
                self.verify(want),
            );
        }
        // What an earlier attempt has left keeps its mark; an empty folder is left empty by one that fails.
        format!(
            "{begin}trap 'rm -rf -- \"$n\"; [ \"$(ls -A -- \"$d\")\" != {}.git ] || rm -rf -- \"$n.git\"' EXIT\n\
             {clone}rm -rf -- \"$n.git\"\nmv -T -- \"$n/.git\" \"$n.git\"\nrmdir -- \"$n\"\n\
             GIT_DIR=$n.git GIT_WORK_TREE=$d t=$d\nexport GIT_DIR GIT_WORK_TREE\n{}{}{}\
             unset GIT_DIR GIT_WORK_TREE\nmv -T -- \"$n.git\" \"$d/.git\"\n{}",
            unfinished(dest),
            self.bring(want),
            self.verify(want),
            self.check_out(want, true),
            self.submodules(),
        )
    }

    /// A new clone where nothing is.
    fn fresh(&self, dest: &str, want: &Target) -> String {
        let (words, rename) = self.clone_words(want);
        let parent = dest.rsplit_once('/').map(|(d, _)| d).filter(|d| !d.is_empty()).unwrap_or("/");
        format!(
            "{}d={} t={}\nrm -rf -- \"$t\"\nmkdir -p -- {}\ntrap 'rm -rf -- \"$t\"' EXIT\n\
             g clone {} \"$t\"\n{rename}{}{}{}{}mv -T -- \"$t\" \"$d\"\n",
            self.begin(),
            shell_quote(dest),
            shell_quote(&beside(dest)),
            shell_quote(parent),
            shell_join(words),
            self.bring(want),
            self.verify(want),
            self.check_out(want, self.force.0),
            self.submodules(),
        )
    }

    /// A clone that is there, brought to another version.
    fn renew(&self, dest: &str, want: &Target) -> String {
        let remote = shell_quote(&self.remote);
        let repo = shell_quote(&self.repo);
        let fetch = match (&want.branch, &want.tag) {
            _ if self.bare.0 => "'+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'".to_string(),
            (Some(b), _) => shell_quote(&format!("+refs/heads/{b}:refs/remotes/{}/{b}", self.remote.0)),
            (_, Some(t)) => shell_quote(&format!("+refs/tags/{t}:refs/tags/{t}")),
            _ => String::new(),
        };
        let fetch = match fetch.is_empty() {
            true => String::new(),
            false => format!("g -C \"$t\" fetch -q --force{} -- {remote} {fetch}\n", self.depth()),
        };
        let reset = if self.force.0 && !self.bare.0 { "g -C \"$t\" reset -q --hard\n" } else { "" };
        format!(
            "{}t={}\nif g -C \"$t\" config --get {} >/dev/null; then g -C \"$t\" remote set-url {remote} {repo}\n\
             else g -C \"$t\" remote add {remote} {repo}; fi\n{fetch}{}{reset}{}{}{}",
            self.begin(),
            shell_quote(dest),
            shell_quote(&format!("remote.{}.url", self.remote.0)),
            self.bring(want),
            self.verify(want),
            self.check_out(want, self.force.0),
            self.submodules(),
        )
    }
}

/// The name, in a folder that was empty, of a clone that is not whole yet.
fn unfinished(dest: &str) -> String {
    beside(dest).rsplit('/').next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

    fn said(text: &str) -> Answer {
        Answer::Script(Output { stdout: text.into(), ..Default::default() })
    }
    fn refs() -> String {
        format!(
            "ref: refs/heads/main\tHEAD\n{B}\tHEAD\n{B}\trefs/heads/main\n{C}\trefs/tags/v1\n{A}\trefs/tags/v1^{{}}\n"
        )
    }
    fn here(m: &Git, head: &str, branch: &str, more: &str) -> (Probe, Answer) {
        let d = m.dest.as_deref().unwrap();
        let t = format!("there repo\nbare false\nhead {head}\nbranch {branch}\nlocal \nurl u\n{more}");
        (Probe::Script(m.look(d)), said(&t))
    }
    fn ask(m: &Git, branch: Option<&str>) -> (Probe, Answer) {
        (Probe::Script(m.ask(branch)), said(&refs()))
    }
    fn script(c: &Change) -> String {
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        sh_accepts(s);
        s.clone()
    }

    #[test]
    fn a_new_clone() {
        let m: Git = bind("{repo: u, dest: /srv/x/}");
        let none = (Probe::Script(m.look("/srv/x")), said("there none\n"));
        assert!(matches!(m.decide(&seen([none.clone()]), &ctx()), Err(Stop::Need(_))));
        let c = change(m.decide(&seen([none.clone(), ask(&m, None)]), &ctx()));
        assert_eq!(c.summary, "clones u at bbbbbbbbbb");
        assert_eq!((&c.result["before"], &c.result["after"]), (&json!(null), &json!(B)));
        let s = script(&c);
        assert!(s.contains("--branch main -- u") && s.contains(&format!("checkout -q -B main {B}")), "{s}");
        assert!(s.trim_end().ends_with("mv -T -- \"$t\" \"$d\""));
        satisfied(m.decide(&then(seen([none, ask(&m, None)]), &c), &ctx()));
        let m: Git = bind("{repo: u, dest: /srv/x, clone: false}");
        let r = satisfied(
            m.decide(&seen([(Probe::Script(m.look("/srv/x")), said("there none\n")), ask(&m, None)]), &ctx()),
        );
        assert_eq!(r.result["after"], json!(B));
    }

    /// With the real program, in folders of the test's own.
    #[test]
    fn a_folder_that_is_there_and_empty_stays_what_it_is() {
        use std::os::unix::fs::PermissionsExt;
        use std::process::Command;
        let t = tempfile::tempdir().unwrap();
        let sh = |script: &str| {
            let out = Command::new("sh").args(["-ec", script]).current_dir(t.path()).output().unwrap();
            assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stdout).trim().to_string()
        };
        if Command::new("git").arg("--version").output().is_err() {
            return;
        }
        let git = "git -c user.name=a -c user.email=a@b -c init.defaultBranch=main -c protocol.file.allow=always";
        sh(&format!(
            "{git} init -q sub && cd sub && echo s >s && git add s && {git} commit -qm s && cd .. && {git} init -q repo && cd repo && \
             mkdir x && echo one >x/one && echo dot >.dot && git add . && {git} submodule --quiet add ../sub sub && {git} commit -qm one"
        ));
        let bound = |dest: &str, more: &str| -> Git {
            let (repo, dest) = (t.path().join("repo"), t.path().join(dest));
            bind(&format!("{{repo: {}, dest: {}{more}}}", repo.display(), dest.display()))
        };
        let decided = |m: &Git| {
            let mut o = look(m.probes(&ctx()));
            loop {
                match m.decide(&o, &ctx()) {
                    Err(Stop::Need(p)) => look(p).iter().for_each(|(p, a)| o.insert(p.clone(), a.clone())),
                    d => return d,
                }
            }
        };
        let script = |m: &Git| {
            script(&change(decided(m))).replacen(
                "set -e\n",
                "set -e\nexport GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always\n",
                1,
            )
        };
        let run = |s: &str| Command::new("sh").args(["-c", s]).output().unwrap();
        sh("mkdir -m 0750 app real bare && ln -s real link && mkdir none-but-parent");
        for dest in ["app", "link", "none-but-parent/new"] {
            let m = bound(dest, "");
            let out = run(&script(&m));
            assert!(out.status.success(), "{dest}: {}", String::from_utf8_lossy(&out.stderr));
            satisfied(decided(&m));
            assert_eq!(
                sh(&format!("cat {dest}/x/one {dest}/sub/s {dest}/.dot; git -C {dest} status --short")),
                "one\ns\ndot"
            );
            assert_eq!(sh(&format!("ls -A {dest} | tr '\\n' ' '")), ".dot .git .gitmodules sub x");
        }
        let mode = |p: &str| std::fs::symlink_metadata(t.path().join(p)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("app"), mode("real")), (0o750, 0o750));
        assert!(t.path().join("link").is_symlink());
        let m = bound("bare", ", bare: true");
        assert!(run(&script(&m)).status.success());
        satisfied(decided(&m));
        assert!(!sh("ls -A bare").contains("windlass") && mode("bare") == 0o750);
        // Ended at any of its commands, a second attempt does all of it.
        for (more, kept) in [("", "one"), (", bare: true", "")] {
            let whole = {
                sh("rm -rf k && mkdir -m 0711 k");
                script(&bound("k", more))
            };
            for at in 1..whole.lines().count() {
                sh("rm -rf k && mkdir -m 0711 k");
                let cut = format!("{}\nkill -9 $$\n", whole.lines().take(at).collect::<Vec<_>>().join("\n"));
                if !Command::new("sh").args(["-n", "-c", &cut]).output().unwrap().status.success() {
                    continue;
                }
                run(&cut);
                let m = bound("k", more);
                if let Ok(Decision::Change(_)) = decided(&m) {
                    let out = run(&script(&m));
                    assert!(out.status.success(), "{at}: {cut}{}", String::from_utf8_lossy(&out.stderr));
                }
                satisfied(decided(&m));
                assert_eq!(sh("cat k/x/one 2>/dev/null || :"), kept, "{at}");
                assert_eq!(mode("k"), 0o711);
            }
        }
        // What cannot be verified leaves the folder as empty as it was.
        sh("rm -rf k && mkdir k");
        assert!(!run(&script(&bound("k", ", verify_commit: true"))).status.success());
        assert_eq!(sh("ls -A k"), "");
    }

    #[test]
    fn a_version_is_a_branch_a_tag_or_an_id() {
        let t = refs();
        let theirs = Theirs::read(&t);
        assert_eq!(theirs.at("main", None).unwrap().sha, B);
        assert_eq!(theirs.at("v1", None).unwrap().sha, A);
        assert_eq!(theirs.at("HEAD", Some("gone")).unwrap().branch.as_deref(), Some("main"));
        assert_eq!(theirs.at("nope", None), None);
        let m: Git = bind(&format!("{{repo: u, dest: /x, version: {C}}}"));
        assert_eq!(m.by_id(None).unwrap().sha, C);
        let m: Git = bind("{repo: u, dest: /x, version: ccccccc}");
        assert_eq!((m.by_id(None), m.by_id(Some(C)).unwrap().sha.as_str()), (None, C));
        let o = seen([here(&m, A, "main", ""), (Probe::Script(m.ask(Some("main"))), said(""))]);
        let Err(Stop::Fail(f)) = m.decide(&o, &ctx()) else { panic!() };
        assert!(f.message.contains("no branch and no tag"));
    }

    #[test]
    fn what_is_there_is_brought_up_to_date() {
        let m: Git = bind("{repo: u, dest: /x, version: main}");
        satisfied(m.decide(&seen([here(&m, B, "main", ""), ask(&m, Some("main"))]), &ctx()));
        let o = || seen([here(&m, A, "main", ""), ask(&m, Some("main"))]);
        let c = change(m.decide(&o(), &ctx()));
        assert_eq!(c.summary, "aaaaaaaaaa -> bbbbbbbbbb");
        assert!(script(&c).contains("+refs/heads/main:refs/remotes/origin/main"));
        satisfied(m.decide(&then(o(), &c), &ctx()));
        let c = change(m.decide(&seen([here(&m, B, "", ""), ask(&m, None)]), &ctx()));
        assert_eq!(c.summary, "on branch main");
        let m: Git = bind("{repo: u, dest: /x, version: v1}");
        satisfied(m.decide(&seen([here(&m, A, "", ""), ask(&m, None)]), &ctx()));
        let c = change(m.decide(&seen([here(&m, B, "main", ""), ask(&m, Some("main"))]), &ctx()));
        assert!(script(&c).contains(&format!("checkout -q --detach {A}")));
        let m: Git = bind("{repo: v, dest: /x}");
        let c = change(m.decide(&seen([here(&m, B, "main", ""), ask(&m, Some("main"))]), &ctx()));
        assert_eq!((c.summary.as_str(), &c.result["remote_url_changed"]), ("origin is now v", &json!(true)));
        let m: Git = bind("{repo: u, dest: /x, update: false}");
        satisfied(m.decide(&seen([here(&m, A, "main", "")]), &ctx()));
    }

    #[test]
    fn changes_by_hand_are_kept_unless_told() {
        let dirty = "dirty 1\nfile a.txt\n";
        let m: Git = bind("{repo: u, dest: /x}");
        let Err(Stop::Fail(f)) = m.decide(&seen([here(&m, B, "main", dirty), ask(&m, Some("main"))]), &ctx()) else {
            panic!()
        };
        assert!(f.message.contains("a.txt") && f.hint.unwrap().contains("force"));
        let m: Git = bind("{repo: u, dest: /x, force: true}");
        let c = change(m.decide(&seen([here(&m, B, "main", dirty), ask(&m, Some("main"))]), &ctx()));
        assert_eq!(c.summary, "throws changes away");
        assert!(script(&c).contains("reset -q --hard"));
        let c = change(m.decide(&seen([here(&m, B, "main", "stale 1\n"), ask(&m, Some("main"))]), &ctx()));
        assert_eq!(c.summary, "updates submodules");
    }

    #[test]
    fn what_cannot_be() {
        let m: Git = bind("{repo: u, dest: /x, key_file: /k, accept_newhostkey: true, ssh_opts: '-p 22'}");
        assert!(m.head().contains("-o IdentitiesOnly=yes -i /k -o StrictHostKeyChecking=accept-new -p 22"));
        for (rc, text, word) in [(127, "", "no git"), (0, "there other\n", "cannot be used")] {
            let out = Output { rc, stdout: text.into(), ..Default::default() };
            let o = seen([(Probe::Script(m.look("/x")), Answer::Script(out))]);
            let Err(Stop::Fail(f)) = m.decide(&o, &ctx()) else { panic!() };
            assert!(f.message.contains(word), "{}", f.message);
        }
        let none = (Probe::Script(m.look("/x")), said("there none\n"));
        let no = Output { rc: 128, stderr: "fatal: no\n".into(), ..Default::default() };
        let o = seen([none, (Probe::Script(m.ask(None)), Answer::Script(no))]);
        let Err(Stop::Fail(f)) = m.decide(&o, &ctx()) else { panic!() };
        assert!(f.message.contains("cannot be read: fatal: no"), "{}", f.message);
        for bad in [
            "{repo: -x, dest: /x}",
            "{repo: u}",
            "{repo: u, dest: x}",
            "{repo: u, dest: /x, version: 'a b'}",
            "{repo: u, dest: /x, depth: 0}",
            "{repo: u, dest: /x, umask: '9'}",
            "{repo: u, dest: /}",
        ] {
            assert!(try_bind::<Git>(bad).is_err(), "{bad}");
        }
        sh_accepts(&m.look("/x"));
        sh_accepts(&m.ask(Some("b")));
    }

    #[test]
    fn what_a_clone_is_told() {
        let clone = |more: &str| {
            let m: Git = bind(&format!("{{repo: u, dest: /srv/x, {more}}}"));
            let none = (Probe::Script(m.look("/srv/x")), said("there none\n"));
            script(&change(m.decide(&seen([none, ask(&m, None)]), &ctx())))
        };
        let plain = clone("depth: 1");
        assert!(plain.contains("--depth 1 ") && plain.contains("submodule"), "{plain}");
        for (more, there) in [
            ("remote: up", "--origin up "),
            ("remote: up", "--set-upstream-to=up/main"),
            ("refspec: 'refs/pull/1/head'", "fetch -q -- origin refs/pull/1/head"),
            ("bare: true", "--bare "),
            ("single_branch: true", "--single-branch "),
            ("reference: /srv/near", "--reference /srv/near "),
            ("verify_commit: true", &format!("verify-commit {B}")),
            ("executable: /opt/git", "command -v /opt/git "),
            ("accept_hostkey: true", "StrictHostKeyChecking=no"),
        ] {
            let s = clone(more);
            assert!(s.contains(there), "{more}: {s}");
            assert!(!plain.contains(there), "{more}");
        }
        assert!(!clone("recursive: false").contains("submodule"));
    }
}
