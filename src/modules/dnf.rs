//! `dnf` (and `yum`) and `zypper`: RPM packages.

use super::args::{Bool, List, Text};
use super::packages::{Job, Manager, NEWER, Refresh, Seen, Wish};
use super::rpm;
use super::{ArgError, Ctx, Decision, Local, Module, Stop};
use crate::probe::{Observed, Probe};
use crate::quote::shell_join;
use schemars::JsonSchema;
use serde::Deserialize;

/// Installs, upgrades and removes RPM packages with dnf. Groups (`@name`) and modules are not supported.
///
/// Tested with dnf 4; dnf 5 was not tried. Registers `packages` (those that were touched).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dnf {
    /// Packages (`curl`, `curl-7.76.1`, `curl >= 7.76`, `/usr/bin/curl`), paths of `.rpm` files, or URLs of them; with
    /// `absent` also patterns (`kernel-*`); `*` with `latest`: all packages. Also `pkg`.
    #[serde(default, alias = "pkg")]
    #[schemars(extend("x-aliases" = ["pkg"]))]
    name: List,
    /// `present`, `latest` or `absent`; without it `present`, with `autoremove` `absent`.
    state: Option<State>,
    /// Repositories to use besides.
    #[serde(default)]
    enablerepo: List,
    /// Repositories not to use (`*`: none).
    #[serde(default)]
    disablerepo: List,
    /// Another configuration file.
    conf_file: Option<Text>,
    /// Take packages whoever signed them.
    #[serde(default)]
    disable_gpg_check: Bool,
    /// Another release than the host's.
    releasever: Option<Text>,
    /// Packages to leave out.
    #[serde(default)]
    exclude: List,
    /// Leave out what cannot be had, instead of failing.
    #[serde(default)]
    skip_broken: Bool,
    /// Look for newer package lists first. Also `expire-cache`.
    #[serde(default, alias = "expire-cache")]
    #[schemars(extend("x-aliases" = ["expire-cache"]))]
    update_cache: Bool,
    /// With `latest`: upgrade what is there, install nothing.
    #[serde(default)]
    update_only: Bool,
    /// With `latest` and `*`: only what mends security.
    #[serde(default)]
    security: Bool,
    /// With `latest` and `*`: only what mends mistakes.
    #[serde(default)]
    bugfix: Bool,
    /// Remove packages nothing needs any more.
    #[serde(default)]
    autoremove: Bool,
    /// Let packages be removed that are in the way.
    #[serde(default)]
    allowerasing: Bool,
    /// `true`: the newest or nothing; `false`: what can be had.
    best: Option<Bool>,
    /// The opposite of `best`.
    nobest: Option<Bool>,
    /// Install weak dependencies too.
    #[serde(default = "yes")]
    install_weak_deps: Bool,
    /// Use only what was fetched before.
    #[serde(default)]
    cacheonly: Bool,
    /// Has no effect: dnf lets a version that is named be older.
    #[serde(default)]
    #[allow(dead_code)]
    allow_downgrade: Bool,
}

fn yes() -> Bool {
    Bool(true)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
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

impl Module for Dnf {
    const NAME: &'static str = "dnf";
    const ALIASES: &'static [&'static str] = &["yum", "dnf5"];

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let absent = self.job().wish == Wish::Absent;
        rpm::take_names(&mut self.name, absent)?;
        if let Some(g) = self.name.iter().find(|n| n.starts_with('@')) {
            return Err(ArgError::new("name", format!("`{g}`: groups are not supported"))
                .hint("name the packages, or use `command: dnf -y group install …`"));
        }
        if self.name.is_empty() && !self.update_cache.0 && !self.autoremove.0 {
            return Err(ArgError::new("name", "`dnf` needs a `name`"));
        }
        if self.name.iter().any(|n| n == "*") && (self.name.len() > 1 || self.state != Some(State::Latest)) {
            return Err(ArgError::new("name", "`*` stands alone and with `state: latest`"));
        }
        if self.autoremove.0 && !matches!(self.state, None | Some(State::Absent)) {
            return Err(ArgError::new("autoremove", "`autoremove` goes with `state: absent`"));
        }
        if self.best.is_some() && self.nobest.is_some() {
            return Err(ArgError::new("nobest", "`best` and `nobest` exclude each other"));
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

impl Dnf {
    fn job(&self) -> Job<'_> {
        let all = self.name.iter().any(|n| n == "*") || (self.name.is_empty() && self.autoremove.0);
        let absent = if self.autoremove.0 { Wish::Absent } else { Wish::Present };
        Job {
            names: if all { &[] } else { &self.name },
            wish: self.state.map_or(absent, State::wish),
            refresh: self.update_cache.0,
            all,
            upgrade_only: self.update_only.0 && self.state == Some(State::Latest),
        }
    }
    fn dnf(&self, verb: &[&str], names: &[String]) -> String {
        let mut w: Vec<String> = vec!["dnf".into(), "-y".into()];
        w.extend(self.options());
        w.extend(verb.iter().map(|v| v.to_string()));
        if !names.is_empty() {
            w.push("--".into());
        }
        w.extend(names.iter().map(|n| rpm::spaced(n)));
        shell_join(w)
    }
    fn options(&self) -> Vec<String> {
        let mut w = vec![];
        let mut put = |flag: &str, value: &str| w.push(format!("--{flag}={value}"));
        self.disablerepo.iter().for_each(|r| put("disablerepo", r));
        self.enablerepo.iter().for_each(|r| put("enablerepo", r));
        self.exclude.iter().for_each(|r| put("exclude", r));
        self.conf_file.iter().for_each(|f| put("config", f));
        self.releasever.iter().for_each(|r| put("releasever", r));
        if !self.install_weak_deps.0 {
            put("setopt", "install_weak_deps=False");
        }
        if let Some(best) = self.best.map(|b| b.0).or(self.nobest.map(|b| !b.0)) {
            put("setopt", if best { "best=True" } else { "best=False" });
        }
        let flags = [
            (self.disable_gpg_check.0, "--nogpgcheck"),
            (self.allowerasing.0, "--allowerasing"),
            (self.skip_broken.0, "--skip-broken"),
            (self.cacheonly.0, "--cacheonly"),
        ];
        w.extend(flags.iter().filter(|f| f.0).map(|f| f.1.to_string()));
        w
    }
}

impl Manager for Dnf {
    fn program(&self) -> &str {
        "dnf"
    }
    fn look(&self, names: &[String]) -> String {
        rpm::look(names)
    }
    fn look_newer(&self, names: &[String]) -> String {
        if self.autoremove.0 {
            // What it would do it says in a table; nothing is done with --assumeno.
            return "w_o=$(dnf --assumeno autoremove </dev/null)\nw_c=$?\nprintf '%s\\n' \"$w_o\"\n\
                    [ $w_c = 0 ] || case $w_o in *'Transaction Summary'*) ;; *) exit 3 ;; esac\n"
                .into();
        }
        let asked = rpm::in_repositories(names);
        if asked.is_empty() && !names.is_empty() {
            return String::new();
        }
        let mut w: Vec<String> = vec!["dnf".into(), "-q".into()];
        w.extend(self.options().into_iter().filter(|o| o != "--allowerasing" && o != "--skip-broken"));
        w.extend(self.kind());
        w.push("check-update".into());
        w.extend(asked);
        // 100: there is something newer.
        format!("{} </dev/null || [ $? = 100 ] || exit 3\n", shell_join(w))
    }
    fn read(&self, said: &str, names: &[String]) -> Seen {
        let (there, newer) = said.split_once(NEWER).unwrap_or((said, ""));
        // Further down is what makes others obsolete.
        let rows = newer.lines().take_while(|l| !l.starts_with("Obsoleting"));
        let row = |l: &str| {
            let w: Vec<&str> = l.split_whitespace().collect();
            match (w.as_slice(), self.autoremove.0) {
                ([name, version, _repo], false) => {
                    let (n, _arch) = name.rsplit_once('.')?;
                    version.starts_with(|c: char| c.is_ascii_digit()).then(|| (n.to_string(), version.to_string()))
                }
                ([name, _arch, version, ..], true) if l.starts_with(' ') => {
                    version.starts_with(|c: char| c.is_ascii_digit()).then(|| (name.to_string(), version.to_string()))
                }
                _ => None,
            }
        };
        Seen { missing: rpm::missing(there, names), newer: rows.filter_map(row).collect() }
    }
    fn said(&self, names: &[String], there: bool) -> String {
        rpm::said(names, there)
    }
    fn list(&self) -> String {
        rpm::LIST.into()
    }
    fn lacking(&self, names: &[String]) -> Option<String> {
        (!self.skip_broken.0).then(|| rpm::lacking(names))
    }
    fn refresh(&self) -> Option<String> {
        Some(self.dnf(&["makecache", "--refresh"], &[]))
    }
    fn refresh_counts(&self) -> Refresh {
        Refresh::Never
    }
    fn install(&self, names: &[String], upgrade: bool) -> String {
        match upgrade {
            true => self.dnf(&["upgrade"], names),
            false => self.dnf(&["install"], names),
        }
    }
    fn remove(&self, names: &[String]) -> String {
        match self.autoremove.0 {
            true => self.dnf(&["autoremove"], names),
            false => self.dnf(&["remove"], names),
        }
    }
    fn upgrade_all(&self) -> String {
        if self.autoremove.0 {
            return self.dnf(&["autoremove"], &[]);
        }
        let kind = self.kind();
        let mut verb: Vec<&str> = kind.iter().map(String::as_str).collect();
        verb.push("upgrade");
        self.dnf(&verb, &[])
    }
}

impl Dnf {
    fn kind(&self) -> Vec<String> {
        let flags = [(self.security.0, "--security"), (self.bugfix.0, "--bugfix")];
        flags.iter().filter(|f| f.0).map(|f| f.1.to_string()).collect()
    }
}

/// Installs, upgrades and removes packages with zypper.
///
/// Registers `packages` (those that were touched).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zypper {
    /// Packages (`curl`, `curl-7.76.1`, `curl>=7.76`), or paths or URLs of `.rpm` files; with `absent` also patterns
    /// (`kernel-*`); `*` with `latest`: all packages. Also `pkg`.
    #[serde(default, alias = "pkg")]
    #[schemars(extend("x-aliases" = ["pkg"]))]
    name: List,
    /// `present`, `latest` or `absent`.
    #[serde(default = "present")]
    state: State,
    /// Take packages whoever signed them.
    #[serde(default)]
    disable_gpg_check: Bool,
    /// Leave recommended packages out.
    #[serde(default = "yes")]
    disable_recommends: Bool,
    /// Take a package in spite of conflicts.
    #[serde(default)]
    force: Bool,
    /// Let a version that is named be older.
    #[serde(default)]
    oldpackage: Bool,
    /// Let files of other packages be replaced.
    #[serde(default)]
    replacefiles: Bool,
    /// Refresh the package lists first. Also `refresh`.
    #[serde(default, alias = "refresh")]
    #[schemars(extend("x-aliases" = ["refresh"]))]
    update_cache: Bool,
    /// With `absent`: also what nothing needs any more.
    #[serde(default)]
    clean_deps: Bool,
    /// More options of zypper, before its verb.
    extra_args_precommand: Option<Text>,
    /// More options of its verb.
    extra_args: Option<Text>,
}

/// Seconds that zypper waits for another one to end; by itself it does not.
const ZYPP_WAITS: &str = "ZYPP_LOCK_TIMEOUT=120";

fn present() -> State {
    State::Present
}

impl Module for Zypper {
    const NAME: &'static str = "zypper";

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        rpm::take_names(&mut self.name, self.state == State::Absent)?;
        if self.name.is_empty() && !self.update_cache.0 {
            return Err(ArgError::new("name", "`zypper` needs a `name`"));
        }
        if self.name.iter().any(|n| n == "*") && (self.name.len() > 1 || self.state != State::Latest) {
            return Err(ArgError::new("name", "`*` stands alone and with `state: latest`"));
        }
        for (param, t) in [("extra_args", &self.extra_args), ("extra_args_precommand", &self.extra_args_precommand)] {
            t.as_deref().map_or(Ok(vec![]), super::split_words).map_err(|e| ArgError::new(param, e))?;
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

impl Zypper {
    fn job(&self) -> Job<'_> {
        let all = self.name.iter().any(|n| n == "*");
        Job {
            names: if all { &[] } else { &self.name },
            wish: self.state.wish(),
            refresh: self.update_cache.0,
            all,
            upgrade_only: false,
        }
    }
    fn zypper(&self, verb: &[&str], names: &[String]) -> String {
        let mut w: Vec<String> = vec!["zypper".into(), "--non-interactive".into()];
        let extra = |t: &Option<Text>| t.as_deref().and_then(|t| super::split_words(t).ok()).unwrap_or_default();
        if self.disable_gpg_check.0 {
            w.push("--no-gpg-checks".into());
        }
        w.extend(extra(&self.extra_args_precommand));
        w.extend(verb.iter().map(|v| v.to_string()));
        if !names.is_empty() {
            w.extend(extra(&self.extra_args));
            w.push("--".into());
        }
        w.extend(names.iter().cloned());
        // 102 and 103: done, and the host or a service should be restarted; 106: without a repository that is out of reach.
        format!(
            "{{ {ZYPP_WAITS} {} || {{ w_c=$?; case $w_c in 102|103|106) ;; *) exit $w_c ;; esac; }}; }}",
            shell_join(w)
        )
    }
}

impl Manager for Zypper {
    fn program(&self) -> &str {
        "zypper"
    }
    fn look(&self, names: &[String]) -> String {
        rpm::look(names)
    }
    fn look_newer(&self, _: &[String]) -> String {
        // 6: there are no repositories.
        format!(
            "{ZYPP_WAITS} zypper --non-interactive --quiet list-updates </dev/null || case $? in 6|106) ;; *) exit 3 ;; esac\n"
        )
    }
    fn read(&self, said: &str, names: &[String]) -> Seen {
        let (there, newer) = said.split_once(NEWER).unwrap_or((said, ""));
        let row = |l: &str| {
            let w: Vec<&str> = l.split('|').map(str::trim).collect();
            match w.as_slice() {
                ["v", _repo, name, _now, version, ..] => Some((name.to_string(), version.to_string())),
                _ => None,
            }
        };
        let wanted = |(n, _): &(String, String)| names.is_empty() || names.contains(n);
        Seen { missing: rpm::missing(there, names), newer: newer.lines().filter_map(row).filter(wanted).collect() }
    }
    fn said(&self, names: &[String], there: bool) -> String {
        rpm::said(names, there)
    }
    fn list(&self) -> String {
        rpm::LIST.into()
    }
    fn lacking(&self, names: &[String]) -> Option<String> {
        Some(rpm::lacking(names))
    }
    fn refresh(&self) -> Option<String> {
        Some(self.zypper(&["refresh"], &[]))
    }
    fn refresh_counts(&self) -> Refresh {
        Refresh::Never
    }
    fn install(&self, names: &[String], _: bool) -> String {
        let mut verb = vec!["install", "--auto-agree-with-licenses"];
        let flags = [
            (self.disable_recommends.0, "--no-recommends"),
            (self.force.0, "--force"),
            (self.oldpackage.0, "--oldpackage"),
            (self.replacefiles.0, "--replacefiles"),
        ];
        verb.extend(flags.iter().filter(|f| f.0).map(|f| f.1));
        self.zypper(&verb, names)
    }
    fn remove(&self, names: &[String]) -> String {
        let verb: &[&str] = if self.clean_deps.0 { &["remove", "--clean-deps"] } else { &["remove"] };
        self.zypper(verb, names)
    }
    fn upgrade_all(&self) -> String {
        self.zypper(&["update", "--auto-agree-with-licenses"], &[])
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use crate::action::Action;
    use crate::modules::Change;
    use crate::probe::{Answer, Output};

    fn host(m: &impl Module, said: &str) -> Observed {
        let Some(Probe::Script(look)) = m.probes(&ctx()).pop() else { panic!() };
        sh_accepts(&look);
        seen([(Probe::Script(look), Answer::Script(Output { stdout: said.into(), ..Default::default() }))])
    }
    /// The commands of a change that leaves nothing to do.
    fn done(m: &impl Module, said: &str) -> (String, Vec<String>) {
        let c: Change = change(m.decide(&host(m, said), &ctx()));
        satisfied(m.decide(&then(host(m, said), &c), &ctx()));
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        sh_accepts(s);
        let lines = s.lines().filter_map(|l| l.strip_suffix(" </dev/null || exit"));
        (c.summary, lines.map(str::to_string).collect())
    }

    // As rpm 4.16 and dnf 4.14 print it.
    const ONE: &str =
        "bash-5.1.8-9.el9.x86_64\npackage tree is not installed\nbash-5.1.8-9.el9.x86_64\nno package provides tree\n";
    const UPDATES: &str = "== newer\n\nbash.x86_64                 5.2.1-1.el9                 baseos\nObsoleting Packages\ngrub2-tools.x86_64    1:2.06-1    baseos\n";

    #[test]
    fn dnf_installs_what_is_missing() {
        let m: Dnf = bind("{name: [bash, tree], disablerepo: '*', enablerepo: mine, install_weak_deps: no}");
        let (says, lines) = done(&m, ONE);
        assert_eq!(says, "installs tree");
        assert_eq!(
            lines,
            ["dnf -y '--disablerepo=*' --enablerepo=mine --setopt=install_weak_deps=False install -- tree"]
        );
        satisfied(m.decide(&host(&m, "bash-5\ntree-1\nbash-5\ntree-1\n"), &ctx()));
        // Known by what it provides.
        satisfied(m.decide(&host(&m, "package bash is not installed\ntree-1\nx-1\ntree-1\n"), &ctx()));
        let m: Dnf = bind("{name: /srv/x.rpm, disable_gpg_check: true}");
        assert_eq!(done(&m, "not there: /srv/x.rpm\n").1, ["dnf -y --nogpgcheck install -- /srv/x.rpm"]);
    }

    #[test]
    fn dnf_removes_and_upgrades() {
        let m: Dnf = bind("{name: [bash, tree], state: absent}");
        assert_eq!(done(&m, ONE).1, ["dnf -y remove -- bash"]);
        let m: Dnf = bind("{name: [bash, tree], state: latest}");
        let (says, lines) = done(&m, &format!("{ONE}{UPDATES}"));
        assert_eq!(says, "installs tree, upgrades bash -> 5.2.1-1.el9");
        assert_eq!(lines, ["dnf -y install -- tree", "dnf -y upgrade -- bash"]);
        let m: Dnf = bind("{name: '*', state: latest, security: true}");
        assert_eq!(done(&m, UPDATES).1, ["dnf -y --security upgrade"]);
        satisfied(m.decide(&host(&m, "== newer\n"), &ctx()));
        let m: Dnf = bind("{name: bash, state: latest, update_cache: true}");
        let c = change(m.decide(&host(&m, "== newer\n"), &ctx()));
        assert_eq!(c.summary, "refreshes the package lists, upgrades bash as far as there is something newer");
        assert!(!c.verdict.unwrap()(&[Output::default()]));
    }

    #[test]
    fn dnf_autoremove() {
        let m: Dnf = bind("{autoremove: true}");
        let table = "== newer\nRemoving:\n tree      x86_64     1.8.0-10.el9     @appstream     113 k\n\nTransaction Summary\nRemove  1 Package\n";
        assert_eq!(done(&m, table), ("removes tree".into(), vec!["dnf -y autoremove".to_string()]));
        satisfied(m.decide(&host(&m, "== newer\nNothing to do.\n"), &ctx()));
    }

    #[test]
    fn zypper_likewise() {
        let m: Zypper = bind("{name: [bash, tree], state: latest}");
        let table = "== newer\nS | Repository | Name | Current Version | Available Version | Arch\n--+---\nv | Main | bash | 5.1-1 | 5.2-1 | x86_64\nv | Main | vim | 1 | 2 | x86_64\n";
        let (says, lines) = done(&m, &format!("{ONE}{table}"));
        assert_eq!(says, "installs tree, upgrades bash -> 5.2-1");
        assert!(
            lines[0].starts_with(
                "{ ZYPP_LOCK_TIMEOUT=120 zypper --non-interactive install --auto-agree-with-licenses --no-recommends -- tree ||"
            )
        );
        let m: Zypper = bind("{name: bash, state: absent, clean_deps: true}");
        assert!(done(&m, ONE).1[0].contains("remove --clean-deps -- bash"));
        let m: Zypper = bind("{name: tree}");
        let out = Output { rc: 127, ..Default::default() };
        let o = seen([(m.probes(&ctx()).remove(0), Answer::Script(out))]);
        assert!(matches!(m.decide(&o, &ctx()), Err(Stop::Fail(_))));
    }

    #[test]
    fn mistakes() {
        for bad in [
            "{}",
            "{name: '-x'}",
            "{name: 'a;b'}",
            "{name: '@web'}",
            "{name: '*'}",
            "{name: a, state: there}",
            "{name: a, autoremove: true, state: latest}",
        ] {
            assert!(try_bind::<Dnf>(bad).is_err(), "{bad}");
        }
        assert!(try_bind::<Zypper>("{}").is_err() && try_bind::<Zypper>("{name: a, extra_args: \"'\"}").is_err());
    }

    #[test]
    fn options_of_dnf() {
        let line = |more: &str| {
            let m: Dnf = bind(&format!("{{name: [bash, tree], {more}}}"));
            done(&m, &format!("{ONE}{UPDATES}")).1.join("; ")
        };
        for (more, there) in [
            ("conf_file: /etc/my.conf", "--config=/etc/my.conf"),
            ("releasever: 9", "--releasever=9"),
            ("exclude: kernel*", "'--exclude=kernel*'"),
            ("best: true", "--setopt=best=True"),
            ("best: false", "--setopt=best=False"),
            ("nobest: true", "--setopt=best=False"),
            ("allowerasing: true", "--allowerasing"),
            ("skip_broken: true", "--skip-broken"),
            ("cacheonly: true", "--cacheonly"),
        ] {
            assert_eq!(line(more), format!("dnf -y {there} install -- tree"));
        }
        assert_eq!(line("state: latest, update_only: true"), "dnf -y upgrade -- bash");
        let m: Dnf = bind("{name: '*', state: latest, bugfix: true}");
        assert_eq!(done(&m, UPDATES).1, ["dnf -y --bugfix upgrade"]);
    }

    #[test]
    fn options_of_zypper() {
        let line = |more: &str| {
            let m: Zypper = bind(&format!("{{name: tree, {more}}}"));
            done(&m, "package tree is not installed\nno package provides tree\n").1.remove(0)
        };
        let start = "{ ZYPP_LOCK_TIMEOUT=120 zypper --non-interactive";
        for (more, there) in [
            ("disable_gpg_check: true", "--no-gpg-checks install --auto-agree-with-licenses --no-recommends -- tree"),
            ("disable_recommends: false", "install --auto-agree-with-licenses -- tree"),
            ("force: true", "install --auto-agree-with-licenses --no-recommends --force -- tree"),
            ("oldpackage: true", "install --auto-agree-with-licenses --no-recommends --oldpackage -- tree"),
            ("replacefiles: true", "install --auto-agree-with-licenses --no-recommends --replacefiles -- tree"),
            ("extra_args: --no-x", "install --auto-agree-with-licenses --no-recommends --no-x -- tree"),
            (
                "extra_args_precommand: --root /m",
                "--root /m install --auto-agree-with-licenses --no-recommends -- tree",
            ),
        ] {
            let l = line(more);
            assert!(l.starts_with(&format!("{start} {there} ||")), "{more}: {l}");
        }
        let l = line("update_cache: true");
        assert!(l.starts_with(&format!("{start} refresh ||")), "{l}");
    }
}
