//! `pacman` and `apk`: packages of Arch Linux and of Alpine.

use super::args::{Bool, List, Text};
use super::packages::{Job, Manager, NEWER, Refresh, Seen, Wish, check_names};
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{Observed, Probe};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;

/// Installs, upgrades and removes packages of Arch Linux. Groups are not supported.
///
/// Registers `packages` (those that were touched).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pacman {
    /// Packages (`curl`, `curl=8.5.0-1`, `curl>=8`), or paths or URLs of package files. Also `package`, `pkg`.
    #[serde(default, alias = "package", alias = "pkg")]
    #[schemars(extend("x-aliases" = ["package", "pkg"]))]
    name: List,
    /// `present`, `latest` or `absent`.
    #[serde(default)]
    state: State,
    /// With `absent`: whatever needs it; with `update_cache`: even if the lists seem new.
    #[serde(default)]
    force: Bool,
    /// With `absent`: no copies of its settings.
    #[serde(default)]
    remove_nosave: Bool,
    /// The program.
    #[serde(default = "pacman")]
    executable: Text,
    /// More options for what is done with the packages.
    #[serde(default)]
    extra_args: Text,
    /// Refresh the package lists first.
    #[serde(default)]
    update_cache: Bool,
    /// More options for that.
    #[serde(default)]
    update_cache_extra_args: Text,
    /// Upgrade all packages.
    #[serde(default)]
    upgrade: Bool,
    /// More options for that.
    #[serde(default)]
    upgrade_extra_args: Text,
}

fn pacman() -> Text {
    "pacman".into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    #[serde(alias = "installed")]
    Present,
    #[serde(alias = "removed")]
    Absent,
    Latest,
}

impl State {
    fn wish(self) -> Wish {
        match self {
            State::Present => Wish::Present,
            State::Absent => Wish::Absent,
            State::Latest => Wish::Latest,
        }
    }
}

impl Module for Pacman {
    const NAME: &'static str = "pacman";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        check_names(&self.name)?;
        if self.name.is_empty() && !self.update_cache.0 && !self.upgrade.0 {
            return Err(ArgError::new("name", "`pacman` needs `name`, `update_cache` or `upgrade`"));
        }
        if !self.name.is_empty() && self.upgrade.0 {
            return Err(ArgError::new("upgrade", "`name` and `upgrade` exclude each other"));
        }
        let odd = |n: &&String| file(n).is_some() || n.contains(['<', '>', '=']);
        if let Some(n) = self.name.iter().find(odd).filter(|_| self.state == State::Absent) {
            return Err(ArgError::new("name", format!("`{n}`: what is to be absent has a name only"))
                .hint("leave out the version; of a file, name the package that is in it"));
        }
        for (param, t) in [
            ("extra_args", &self.extra_args),
            ("update_cache_extra_args", &self.update_cache_extra_args),
            ("upgrade_extra_args", &self.upgrade_extra_args),
        ] {
            super::split_words(t).map_err(|e| ArgError::new(param, e))?;
        }
        if self.executable.is_empty()
            || self.executable.starts_with('-')
            || self.executable.contains(char::is_whitespace)
        {
            return Err(ArgError::new("executable", "that is not a program"));
        }
        Ok(())
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.job().probes(self)
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        self.job().decide(self, seen)
    }
}

impl Pacman {
    fn job(&self) -> Job<'_> {
        Job {
            names: &self.name,
            wish: self.state.wish(),
            refresh: self.update_cache.0,
            all: self.upgrade.0,
            upgrade_only: false,
        }
    }
    fn run(&self, verb: &[&str], extra: &str, names: &[String]) -> String {
        let mut w: Vec<String> = vec![self.executable.0.clone(), "--noconfirm".into(), "--noprogressbar".into()];
        w.extend(verb.iter().map(|v| v.to_string()));
        w.extend(super::split_words(extra).unwrap_or_default());
        if !names.is_empty() {
            w.push("--".into());
        }
        w.extend(names.iter().cloned());
        shell_join(w)
    }
    fn ask(&self, flag: &str, names: &[String]) -> String {
        let mut w = vec![self.executable.0.clone(), flag.to_string()];
        if !names.is_empty() {
            w.push("--".into());
        }
        w.extend(names.iter().cloned());
        format!("{} </dev/null 2>/dev/null\n", shell_join(w))
    }
}

impl Manager for Pacman {
    fn program(&self) -> &str {
        &self.executable
    }
    fn look(&self, names: &[String]) -> String {
        match self.state {
            // Only a package itself can be removed, not what it provides.
            State::Absent => names.iter().map(|n| gone(&self.executable, n)).collect(),
            // Prints what nothing that is installed satisfies.
            _ => self.ask("-T", &names.iter().map(|n| wanted(n)).collect::<Vec<_>>()),
        }
    }
    fn look_newer(&self, names: &[String]) -> String {
        self.ask("-Qu", names)
    }
    fn read(&self, said: &str, names: &[String]) -> Seen {
        let (gone, newer) = said.split_once(NEWER).unwrap_or((said, ""));
        let row = |l: &str| match l.split_whitespace().collect::<Vec<_>>().as_slice() {
            // One that is held back says so at the end of its line.
            [name, _, "->", version] => Some((name.to_string(), version.to_string())),
            _ => None,
        };
        Seen {
            missing: names.iter().filter(|n| gone.lines().any(|l| l.trim() == wanted(n))).cloned().collect(),
            newer: newer.lines().filter_map(row).collect(),
        }
    }
    fn said(&self, names: &[String], there: bool) -> String {
        if there { String::new() } else { names.iter().map(|n| format!("{}\n", wanted(n))).collect() }
    }
    fn list(&self) -> String {
        match self.name.is_empty() && !self.upgrade.0 {
            true => "cksum \"$(pacman-conf DBPath)\"/sync/*.db 2>/dev/null".into(),
            false => self.ask("-Q", &[]),
        }
    }
    fn lacking(&self, names: &[String]) -> Option<String> {
        Some(self.look(names))
    }
    fn refresh_counts(&self) -> Refresh {
        Refresh::Compared
    }
    fn refresh(&self) -> Option<String> {
        let verb = if self.force.0 { "-Syy" } else { "-Sy" };
        Some(self.run(&[verb], &self.update_cache_extra_args, &[]))
    }
    fn install(&self, names: &[String], _: bool) -> String {
        let (files, names): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|n| file(n).is_some());
        let with = |verb: &str, names: &[String]| {
            (!names.is_empty()).then(|| self.run(&["--needed", verb], &self.extra_args, names))
        };
        let lines: Vec<String> = with("-S", &names).into_iter().chain(with("-U", &files)).collect();
        lines.join(" </dev/null && ")
    }
    fn remove(&self, names: &[String]) -> String {
        let verb = if self.force.0 { "-Rdd" } else { "-R" };
        match self.remove_nosave.0 {
            true => self.run(&[verb, "--nosave"], &self.extra_args, names),
            false => self.run(&[verb], &self.extra_args, names),
        }
    }
    fn upgrade_all(&self) -> String {
        self.run(&["-Su"], &self.upgrade_extra_args, &[])
    }
}

/// Package and version of a package file, by the name that every such file has: `bird=1.0-1` of
/// `/srv/bird-1.0-1-any.pkg.tar.zst`.
fn file(name: &str) -> Option<String> {
    let (stem, _) = name.rsplit('/').next()?.split_once(".pkg.tar")?;
    let mut parts = stem.rsplitn(4, '-');
    let (_arch, release, version, package) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{package}={}-{release}", version.replace("%3A", ":")))
}

/// What must be satisfied for a package to be there.
fn wanted(name: &str) -> String {
    file(name).unwrap_or_else(|| name.to_string())
}

/// Prints the package's name when it is not there; asked for what a package provides, pacman answers with the package.
fn gone(pacman: &str, name: &str) -> String {
    let n = shell_quote(name);
    format!("[ \"$({} -Qq -- {n} 2>/dev/null </dev/null)\" = {n} ] || printf '%s\\n' {n}\n", shell_join([pacman]))
}

/// Installs, upgrades and removes packages of Alpine Linux.
///
/// Tested with recorded answers and a stand-in, not on a real host with apk. Registers `packages` (those that were
/// touched).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apk {
    /// Packages: `curl`, `curl=8.5.0-r0`.
    #[serde(default)]
    name: List,
    /// `present`, `latest` or `absent`.
    #[serde(default)]
    state: State,
    /// Refresh the package lists first.
    #[serde(default)]
    update_cache: Bool,
    /// Upgrade all packages.
    #[serde(default)]
    upgrade: Bool,
    /// With `upgrade`: take what the repositories have, even if it is older.
    #[serde(default)]
    available: Bool,
    /// Use these repositories only.
    #[serde(default)]
    repository: List,
    /// Keep no package files.
    #[serde(default)]
    no_cache: Bool,
}

impl Module for Apk {
    const NAME: &'static str = "apk";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        check_names(&self.name)?;
        if self.name.is_empty() && !self.update_cache.0 && !self.upgrade.0 {
            return Err(ArgError::new("name", "`apk` needs `name`, `update_cache` or `upgrade`"));
        }
        if !self.name.is_empty() && self.upgrade.0 {
            return Err(ArgError::new("upgrade", "`name` and `upgrade` exclude each other"));
        }
        match self.repository.iter().find(|r| r.is_empty() || r.starts_with('-')) {
            Some(r) => Err(ArgError::new("repository", format!("`{r}` is not a repository"))),
            None => Ok(()),
        }
    }
    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        self.job().probes(self)
    }
    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        self.job().decide(self, seen)
    }
}

/// A package's name without a version that is wanted of it.
fn bare(name: &str) -> &str {
    name.split(['=', '<', '>', '~', '@']).next().unwrap_or(name)
}

/// Name and version of `busybox-binsh-1.36.1-r5`.
fn parted(text: &str) -> Option<(&str, &str)> {
    let (rest, _) = text.rsplit_once("-r")?;
    let (name, _) = rest.rsplit_once('-')?;
    Some((name, &text[name.len() + 1..]))
}

impl Apk {
    fn job(&self) -> Job<'_> {
        Job {
            names: &self.name,
            wish: self.state.wish(),
            refresh: self.update_cache.0,
            all: self.upgrade.0,
            upgrade_only: false,
        }
    }
    fn run(&self, verb: &[&str], names: &[String]) -> String {
        let mut w: Vec<String> = vec!["apk".into()];
        w.extend(verb.iter().map(|v| v.to_string()));
        if self.no_cache.0 && !matches!(verb[0], "update" | "version") {
            w.push("--no-cache".into());
        }
        self.repository.iter().for_each(|r| w.extend(["--repository".to_string(), r.clone()]));
        if !self.repository.is_empty() {
            w.extend(["--repositories-file".to_string(), "/dev/null".into()]);
        }
        w.extend(names.iter().cloned());
        shell_join(w)
    }
}

impl Manager for Apk {
    fn program(&self) -> &str {
        "apk"
    }
    fn look(&self, names: &[String]) -> String {
        format!("apk info -e {} </dev/null 2>/dev/null\n", shell_join(names))
    }
    fn look_newer(&self, _: &[String]) -> String {
        // What is taken even if it is older counts too.
        let which = if self.available.0 && self.upgrade.0 { "<>" } else { "<" };
        format!("{} </dev/null 2>/dev/null\n", self.run(&["version", "-l", which], &[]))
    }
    fn read(&self, said: &str, names: &[String]) -> Seen {
        let (is, newer) = said.split_once(NEWER).unwrap_or((said, ""));
        let there = |n: &str| is.lines().any(|l| bare(l.trim()) == bare(n));
        let row = |l: &str| {
            let (now, version) = l.split_once(" < ").or_else(|| l.split_once(" > "))?;
            let (name, _) = parted(now.trim())?;
            Some((name.to_string(), version.trim().to_string()))
        };
        let wanted = |(n, _): &(String, String)| names.is_empty() || names.iter().any(|x| bare(x) == n);
        Seen {
            missing: names.iter().filter(|n| !there(n)).cloned().collect(),
            newer: newer.lines().filter_map(row).filter(wanted).collect(),
        }
    }
    fn said(&self, names: &[String], there: bool) -> String {
        if there { names.iter().map(|n| format!("{}\n", bare(n))).collect() } else { String::new() }
    }
    fn list(&self) -> String {
        "apk info -v 2>/dev/null </dev/null | sort".into()
    }
    fn refresh(&self) -> Option<String> {
        Some(self.run(&["update"], &[]))
    }
    fn refresh_counts(&self) -> Refresh {
        Refresh::Always
    }
    fn install(&self, names: &[String], upgrade: bool) -> String {
        self.run(if upgrade { &["add", "--upgrade"] } else { &["add"] }, names)
    }
    fn remove(&self, names: &[String]) -> String {
        let bare: Vec<String> = names.iter().map(|n| bare(n).to_string()).collect();
        self.run(&["del"], &bare)
    }
    fn upgrade_all(&self) -> String {
        self.run(if self.available.0 { &["upgrade", "--available"] } else { &["upgrade"] }, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::probe::{Answer, Output};

    fn host(m: &impl Module, said: &str) -> Observed {
        let Some(Probe::Script(look)) = m.probes(&ctx()).pop() else { panic!() };
        sh_accepts(&look);
        seen([(Probe::Script(look), Answer::Script(Output { stdout: said.into(), ..Default::default() }))])
    }
    fn done(m: &impl Module, said: &str) -> (String, Vec<String>) {
        let c = change(m.decide(&host(m, said), &ctx()));
        satisfied(m.decide(&then(host(m, said), &c), &ctx()));
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        sh_accepts(s);
        let lines = s.lines().filter_map(|l| l.strip_suffix(" </dev/null || exit"));
        (c.summary, lines.map(str::to_string).collect())
    }

    #[test]
    fn pacman_does_it() {
        const P: &str = "pacman --noconfirm --noprogressbar";
        let m: Pacman = bind("{name: [tree, bash]}");
        assert_eq!(done(&m, "tree\n"), ("installs tree".into(), vec![format!("{P} --needed -S -- tree")]));
        satisfied(m.decide(&host(&m, ""), &ctx()));
        let m: Pacman = bind("{name: [tree, bash], state: absent, extra_args: --recursive, remove_nosave: true}");
        assert_eq!(done(&m, "tree\n").1, [format!("{P} -R --nosave --recursive -- bash")]);
        let m: Pacman = bind("{name: [tree, bash], state: latest}");
        let (says, lines) = done(&m, "tree\n== newer\nbash 5.2.026-2 -> 5.2.032-1\n");
        assert_eq!(says, "installs tree, upgrades bash -> 5.2.032-1");
        assert_eq!(lines.len(), 2);
        let m: Pacman = bind("{upgrade: true}");
        let all = "== newer\nlinux 6.9 -> 6.10 [ignored]\nvim 1 -> 2\n";
        assert_eq!(done(&m, all), ("upgrades vim -> 2".into(), vec![format!("{P} -Su")]));
        let m: Pacman = bind("{update_cache: true}");
        let c = change(m.decide(&host(&m, ""), &ctx()));
        assert!(!c.verdict.unwrap()(&[Output::default()]) && c.summary == "refreshes the package lists");
    }

    #[test]
    fn pacman_takes_files() {
        assert_eq!(file("/srv/a-b-1%3A2.0-1-any.pkg.tar.zst").as_deref(), Some("a-b=1:2.0-1"));
        assert_eq!((file("a-b"), file("x.pkg.tar.zst")), (None, None));
        let m: Pacman = bind("{name: [tree, /srv/bash-5-1-any.pkg.tar.zst]}");
        let (_, lines) = done(&m, "tree\nbash=5-1\n");
        assert_eq!(
            lines,
            ["pacman --noconfirm --noprogressbar --needed -S -- tree </dev/null && \
              pacman --noconfirm --noprogressbar --needed -U -- /srv/bash-5-1-any.pkg.tar.zst"]
        );
        assert!(try_bind::<Pacman>("{name: bash>=5, state: absent}").is_err());
    }

    #[test]
    fn apk_does_it() {
        let m: Apk = bind("{name: ['curl=8.5.0-r0', bash], no_cache: true}");
        assert_eq!(
            done(&m, "bash\n"),
            ("installs curl=8.5.0-r0".into(), vec!["apk add --no-cache curl=8.5.0-r0".into()])
        );
        satisfied(m.decide(&host(&m, "curl\nbash\n"), &ctx()));
        let m: Apk = bind("{name: [curl, busybox], state: latest}");
        let newer = "busybox\n== newer\nInstalled:                                Available:\nbusybox-1.36.1-r5                       < 1.36.1-r7 \nmusl-1.2.4-r2                           < 1.2.4-r3 \n";
        let (says, lines) = done(&m, newer);
        assert_eq!(says, "installs curl, upgrades busybox -> 1.36.1-r7");
        assert_eq!(lines, ["apk add curl", "apk add --upgrade busybox"]);
        let m: Apk = bind("{name: [curl, bash], state: absent}");
        assert_eq!(done(&m, "bash\n").1, ["apk del bash"]);
        let m: Apk = bind("{upgrade: true, available: true, repository: http://r}");
        assert_eq!(done(&m, newer).1, ["apk upgrade --available --repository http://r --repositories-file /dev/null"]);
        let said = format!("{:?}", m.probes(&ctx()));
        assert!(said.contains("apk version -l '<>' --repository http://r --repositories-file /dev/null"), "{said}");
        let older = "== newer\nInstalled:   Available:\nmusl-1.2.4-r2        > 1.2.3-r9 \n";
        assert_eq!(done(&m, older).0, "upgrades musl -> 1.2.3-r9");
        let m: Apk = bind("{name: musl, state: latest, no_cache: true, available: true}");
        let said = format!("{:?}", m.probes(&ctx()));
        assert!(said.contains("apk version -l '<' </dev/null"), "{said}");
        assert_eq!(parted("a-b-1.2_p3-r0"), Some(("a-b", "1.2_p3-r0")));
    }

    #[test]
    fn mistakes() {
        for bad in ["{}", "{name: a, upgrade: true}", "{name: 'a b'}", "{name: a, state: newest}"] {
            assert!(try_bind::<Pacman>(bad).is_err() && try_bind::<Apk>(bad).is_err(), "{bad}");
        }
        assert!(try_bind::<Apk>("{name: a, repository: '-x'}").is_err());
        assert!(try_bind::<Pacman>("{name: a, executable: 'a b'}").is_err());
    }

    #[test]
    fn more_words_for_pacman_and_apk() {
        const P: &str = "pacman --noconfirm --noprogressbar";
        let lines = |yaml: &str, said: &str| done(&bind::<Pacman>(yaml), said).1;
        assert_eq!(lines("{name: tree, state: absent, force: true}", ""), [format!("{P} -Rdd -- tree")]);
        let all = "== newer\nvim 1 -> 2\n";
        assert_eq!(
            lines("{upgrade: true, upgrade_extra_args: --ignore linux}", all),
            [format!("{P} -Su --ignore linux")]
        );
        let m: Pacman = bind("{update_cache: true, update_cache_extra_args: --dbonly}");
        let c = change(m.decide(&host(&m, ""), &ctx()));
        assert!(format!("{:?}", c.actions).contains("-Sy --dbonly"), "{:?}", c.actions);
        let m: Apk = bind("{update_cache: true}");
        let c = change(m.decide(&host(&m, ""), &ctx()));
        assert!(format!("{:?}", c.actions).contains("apk update"), "{:?}", c.actions);
    }
}
