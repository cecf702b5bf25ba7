//! `apt`: Debian packages.

use super::args::{Bool, List, Text};
use super::whole::Whole;
use super::{ArgError, Change, Ctx, Decision, Local, Module, Stop};
use crate::action::Action;
use crate::probe::{Answer, Observed, Output, PackageState, Probe, Touches};
use crate::quote::{shell_join, shell_quote};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Installs, upgrades and removes Debian packages.
///
/// Registers `cache_updated` (whether the package lists are refreshed) besides `stdout` and `stderr` of apt.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apt {
    /// Packages: `curl`, `curl=7.88*`, `curl>=7.80`, `libc6:i386`, `linux-headers-*`.
    #[serde(default, alias = "pkg", alias = "package")]
    #[schemars(extend("x-aliases" = ["pkg", "package"]))]
    name: Option<List>,
    /// What becomes of them. `latest` also upgrades; `fixed` also mends broken dependencies; `build-dep` installs what it
    /// takes to build them.
    #[serde(default)]
    state: State,
    /// Refresh the package lists first. Packages that are all there already are left alone without it.
    #[serde(alias = "update-cache")]
    #[schemars(extend("x-aliases" = ["update-cache"]))]
    update_cache: Option<Bool>,
    /// Refresh only lists older than this many seconds; setting it implies `update_cache`.
    #[serde(default)]
    cache_valid_time: Whole,
    /// How often a failed refresh is tried again.
    #[serde(default = "five")]
    update_cache_retries: Whole,
    /// The longest pause between two tries of a refresh, in seconds.
    #[serde(default = "twelve")]
    update_cache_retry_max_delay: Whole,
    /// Install recommended packages too; without it apt's own configuration decides.
    #[serde(alias = "install-recommends")]
    #[schemars(extend("x-aliases" = ["install-recommends"]))]
    install_recommends: Option<Bool>,
    /// Remove configuration files too, with `state: absent` or `autoremove`.
    #[serde(default)]
    purge: Bool,
    /// Remove packages nothing needs any more.
    #[serde(default)]
    autoremove: Bool,
    /// Erase downloaded archives that can no longer be downloaded.
    #[serde(default)]
    autoclean: Bool,
    /// Erase all downloaded archives.
    #[serde(default)]
    clean: Bool,
    /// Upgrade all packages: `yes` and `safe` remove nothing, `full` and `dist` may.
    #[serde(default)]
    upgrade: Upgrade,
    /// A package file to install: a path on the host or a URL.
    deb: Option<Text>,
    /// Options for dpkg, without their dashes.
    #[serde(default = "keep_conffiles")]
    dpkg_options: List,
    /// Accept packages whose origin cannot be checked.
    #[serde(default, alias = "allow-unauthenticated")]
    #[schemars(extend("x-aliases" = ["allow-unauthenticated"]))]
    allow_unauthenticated: Bool,
    /// Let a version given in `name`, or `deb`, be older than the installed one.
    #[serde(default, alias = "allow-downgrade", alias = "allow_downgrades", alias = "allow-downgrades")]
    #[schemars(extend("x-aliases" = ["allow-downgrade", "allow_downgrades", "allow-downgrades"]))]
    allow_downgrade: Bool,
    /// Let packages on hold change.
    #[serde(default)]
    allow_change_held_packages: Bool,
    /// All three of `allow_unauthenticated`, `allow_downgrade` and `allow_change_held_packages`.
    #[serde(default)]
    force: Bool,
    /// The release to take packages from (`bookworm-backports`).
    #[serde(alias = "default-release")]
    #[schemars(extend("x-aliases" = ["default-release"]))]
    default_release: Option<Text>,
    /// Seconds to wait for another process to give its lock free.
    #[serde(default = "sixty")]
    lock_timeout: Whole,
    /// Exit code for policy-rc.d while packages are worked on; 101 keeps services from being started.
    policy_rc_d: Option<u8>,
    /// Upgrade what is installed, install nothing new.
    #[serde(default)]
    only_upgrade: Bool,
    /// Fail rather than remove any package.
    #[serde(default)]
    fail_on_autoremove: Bool,
    /// Has no effect: apt-get is always used.
    #[serde(default)]
    #[allow(dead_code)]
    force_apt_get: Bool,
    /// Has no effect: nothing needs to be installed for this module.
    #[serde(default)]
    #[allow(dead_code)]
    auto_install_module_deps: Bool,
}

fn five() -> Whole {
    Whole(5)
}
fn twelve() -> Whole {
    Whole(12)
}
fn sixty() -> Whole {
    Whole(60)
}
fn keep_conffiles() -> List {
    List(vec!["force-confdef".into(), "force-confold".into()])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    #[serde(alias = "installed")]
    Present,
    #[serde(alias = "removed")]
    Absent,
    Latest,
    Fixed,
    #[serde(rename = "build-dep")]
    BuildDep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Upgrade {
    #[default]
    No,
    Yes,
    Safe,
    Full,
    Dist,
}

impl<'de> Deserialize<'de> for Upgrade {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let v = Value::deserialize(d)?;
        match &v {
            Value::Bool(false) => Ok(Upgrade::No),
            Value::Bool(true) => Ok(Upgrade::Yes),
            Value::String(s) => match s.as_str() {
                "no" | "False" | "false" => Ok(Upgrade::No),
                "yes" | "True" | "true" => Ok(Upgrade::Yes),
                "safe" => Ok(Upgrade::Safe),
                "full" => Ok(Upgrade::Full),
                "dist" => Ok(Upgrade::Dist),
                _ => Err(()),
            },
            _ => Err(()),
        }
        .map_err(|()| serde::de::Error::custom(format!("expected no, yes, safe, full or dist, found {v}")))
    }
}

/// One entry of `name`, taken apart.
#[derive(Debug, Clone, PartialEq)]
struct Spec {
    /// `name`, `name:arch` or a pattern.
    name: String,
    want: Want,
}

#[derive(Debug, Clone, PartialEq)]
enum Want {
    Any,
    /// A version, wildcards allowed.
    Exactly(String),
    AtLeast(String),
}

impl Spec {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, want) = if let Some((n, v)) = text.split_once(">=") {
            (n, Want::AtLeast(v.trim().to_string()))
        } else if let Some((n, v)) = text.split_once('=') {
            (n, Want::Exactly(v.trim().to_string()))
        } else {
            (text, Want::Any)
        };
        let name = name.trim();
        let spec = Spec { name: name.to_string(), want };
        let version = match &spec.want {
            Want::Any => "0",
            Want::Exactly(v) | Want::AtLeast(v) => v,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "+.-:*?[]".contains(c);
        if name.is_empty()
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '*')
            || !name.chars().all(plain)
        {
            return Err(format!("`{text}` is not a package's name"));
        }
        if version.is_empty() || !version.chars().all(|c| c.is_ascii_alphanumeric() || "+.-:~*?[]".contains(c)) {
            return Err(format!("`{text}`: `{version}` is not a version"));
        }
        if spec.is_glob() && spec.want != Want::Any {
            return Err(format!("`{text}`: a name with wildcards cannot have a version"));
        }
        Ok(spec)
    }
    fn is_glob(&self) -> bool {
        self.name.contains(['*', '?', '['])
    }
    fn accepts(&self, version: &str) -> bool {
        match &self.want {
            Want::Any => true,
            Want::Exactly(v) => crate::glob::matches(v, version),
            Want::AtLeast(v) => compare_versions(version, v) != Ordering::Less,
        }
    }
    /// As apt-get takes it.
    fn word(&self) -> String {
        match &self.want {
            Want::Exactly(v) => format!("{}={v}", self.name),
            _ => self.name.clone(),
        }
    }
}

impl Module for Apt {
    const NAME: &'static str = "apt";
    const EXAMPLE: &'static str = r#"- name: Packages, from lists of at most a day
  apt:
    name: [curl, "nginx=1.22*"]
    update_cache: true
    cache_valid_time: 86400"#;
    const FREE_FORM: Option<&'static str> = None;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        if self.state == State::BuildDep
            && (self.name.is_none() || self.specs().iter().any(|s| s.is_glob() || s.want != Want::Any))
        {
            return Err(ArgError::new("name", "`build-dep` needs source packages in `name`, without versions"));
        }
        for n in self.name.iter().flat_map(|l| l.iter()) {
            if n.ends_with(".deb") {
                return Err(ArgError::new("name", format!("`{n}` is a package file")).hint("give it as `deb`"));
            }
            Spec::parse(n).map_err(|e| ArgError::new("name", e))?;
        }
        let ways =
            [("name", self.name.is_some()), ("deb", self.deb.is_some()), ("upgrade", self.upgrade != Upgrade::No)];
        let given: Vec<&str> = ways.iter().filter(|w| w.1).map(|w| w.0).collect();
        if given.len() > 1 {
            return Err(ArgError::new(given[1], format!("`{}` and `{}` exclude each other", given[0], given[1])));
        }
        if given.is_empty()
            && self.update_cache.is_none()
            && self.cache_valid_time.0 == 0
            && !(self.autoremove.0 || self.autoclean.0 || self.clean.0)
            && self.state != State::Fixed
        {
            return Err(ArgError::new(
                "",
                "`apt` needs `name`, `deb`, `upgrade`, `update_cache`, `autoremove`, `autoclean` or `clean`",
            ));
        }
        if self.specs().iter().any(|s| s.name == "*") && (self.specs().len() > 1 || self.state != State::Latest) {
            return Err(ArgError::new("name", "`*` stands alone and with `state: latest`"));
        }
        if let Some(d) =
            self.dpkg_options.iter().find(|o| !o.chars().all(|c| c.is_ascii_alphanumeric() || "-_=/.".contains(c)))
        {
            return Err(ArgError::new("dpkg_options", format!("`{d}` is not an option of dpkg")));
        }
        if self.deb.is_some() && self.state != State::Present {
            return Err(ArgError::new("state", "`deb` installs: it goes with `state: present` alone")
                .hint("to remove a package, give its `name`"));
        }
        if let Some(d) = self.deb.as_ref().filter(|d| !is_url(d) && !d.starts_with('/')) {
            return Err(ArgError::new("deb", format!("`{}` is neither an absolute path nor a URL", d.0)));
        }
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        let specs = self.specs();
        let mut probes: Vec<Probe> = self.cleaning().map(|u| Probe::Script(u.look)).into_iter().collect();
        if let Some(d) = &self.deb {
            probes.push(Probe::Script(deb_script(d)));
            return probes;
        }
        if self.state == State::BuildDep {
            probes.push(Probe::Script(self.simulate(&self.build_dep_words())));
            return probes;
        }
        if self.upgrade_all() != Upgrade::No {
            probes.push(Probe::Script(self.simulate(self.upgrade_words())));
        } else {
            probes.extend(specs.iter().map(|s| match s.is_glob() {
                true => Probe::Script(glob_script(&s.name)),
                false => Probe::Package(s.name.clone()),
            }));
            if self.state == State::Latest && !specs.is_empty() && specs.iter().all(|s| !s.is_glob()) {
                probes.push(Probe::Script(self.policy_script(specs.iter().map(|s| s.name.as_str()))));
            }
        }
        if self.name.is_none() && self.upgrade == Upgrade::No {
            probes.extend(self.upkeep().into_iter().map(|u| Probe::Script(u.look)));
        }
        let asks_age = self.name.is_none() || self.state == State::Latest;
        if asks_age && self.wants_refresh() && self.cache_valid_time.0 > 0 {
            probes.push(Probe::Script(AGE.into()));
        }
        probes
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let decision = self.packages(seen)?;
        match self.cleaning() {
            Some(u) => self.cleaned(u, decision, seen),
            None => Ok(decision),
        }
    }
}

impl Apt {
    /// What becomes of the packages, or without any, of the rest.
    fn packages(&self, seen: &Observed) -> Result<Decision, Stop> {
        if let Some(d) = &self.deb {
            return self.decide_deb(d, seen);
        }
        if self.upgrade_all() != Upgrade::No {
            return self.decide_upgrade(seen);
        }
        if self.name.is_none() {
            return self.decide_upkeep(seen);
        }
        match self.state {
            State::BuildDep => self.decide_build_dep(seen),
            State::Absent => self.decide_absent(seen),
            _ => self.decide_install(seen),
        }
    }
}

/// A package as it is wanted and as it is.
struct Item {
    spec: Spec,
    now: PackageState,
}

/// What apt knows of packages: their candidates, and which names are only provided by others that are installed.
struct Known {
    candidates: Vec<(String, String)>,
    provided: BTreeSet<String>,
}

impl Known {
    fn candidate(&self, name: &str) -> Option<&str> {
        let bare = name.split(':').next().unwrap_or(name);
        self.candidates
            .iter()
            .find(|(n, _)| n == name)
            .or_else(|| self.candidates.iter().find(|(n, _)| n == bare))
            .map(|(_, c)| c.as_str())
            .filter(|c| *c != "(none)")
    }
    /// The name is no package of its own, and an installed one provides it.
    fn is_provided(&self, name: &str) -> bool {
        self.candidate(name).is_none() && self.provided.contains(name.split(':').next().unwrap_or(name))
    }
}

/// A chore that needs no package named.
struct Upkeep {
    /// Prints a line a thing to do.
    look: String,
    act: String,
    says: &'static str,
}

impl Apt {
    fn specs(&self) -> Vec<Spec> {
        self.name.iter().flat_map(|l| l.iter()).filter_map(|n| Spec::parse(n).ok()).collect()
    }
    fn upgrade_all(&self) -> Upgrade {
        match self.specs().as_slice() {
            [s] if s.name == "*" => Upgrade::Yes,
            _ => self.upgrade,
        }
    }
    fn upgrade_words(&self) -> &'static [&'static str] {
        match self.upgrade_all() {
            Upgrade::Full | Upgrade::Dist => &["dist-upgrade"],
            _ => &["--with-new-pkgs", "upgrade"],
        }
    }
    fn wants_refresh(&self) -> bool {
        self.update_cache.map_or(self.cache_valid_time.0 > 0, |b| b.0)
    }
    /// Whether the package lists are to be refreshed now.
    fn refresh_due(&self, seen: &Observed) -> Result<bool, Stop> {
        if !self.wants_refresh() {
            return Ok(false);
        }
        if self.cache_valid_time.0 == 0 {
            return Ok(true);
        }
        let age = seen.script(AGE)?.stdout.trim().parse::<i64>();
        Ok(age.map_or(true, |a| u64::try_from(a).is_ok_and(|a| a > self.cache_valid_time.0)))
    }

    /// The packages meant, patterns expanded.
    fn items(&self, seen: &Observed, installed_only: bool) -> Result<Vec<Item>, Stop> {
        let mut items = vec![];
        let mut need = vec![];
        for spec in self.specs() {
            if !spec.is_glob() {
                match seen.package(&spec.name) {
                    Ok(p) => items.push(Item { now: p.clone(), spec }),
                    Err(Stop::Need(p)) => need.extend(p),
                    Err(e) => return Err(e),
                }
                continue;
            }
            let out = match seen.script(&glob_script(&spec.name)) {
                Ok(o) => o,
                Err(Stop::Need(p)) => {
                    need.extend(p);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let found = expand(&out.stdout, installed_only);
            if found.is_empty() && !installed_only {
                return Err(Stop::fail_hint(
                    format!("no package matches {}", spec.name),
                    "if the package lists are old or empty, refresh them first: `apt: {update_cache: true}`",
                ));
            }
            items.extend(found.into_iter().map(|(name, now)| Item { spec: Spec { name, want: Want::Any }, now }));
        }
        if need.is_empty() { Ok(items) } else { Err(Stop::Need(need)) }
    }

    fn known<'a>(&self, seen: &Observed, names: impl Iterator<Item = &'a str>) -> Result<(Known, String), Stop> {
        let script = self.policy_script(names);
        Ok((read_policy(&seen.script(&script)?.stdout), script))
    }

    fn decide_install(&self, seen: &Observed) -> Result<Decision, Stop> {
        let items = self.items(seen, false)?;
        let latest = self.state == State::Latest;
        let right = |i: &Item| i.now.installed && i.spec.accepts(&i.now.version);
        let mut wrong: Vec<&Item> = items.iter().filter(|i| !right(i)).collect();
        if self.only_upgrade.0 {
            wrong.retain(|i| i.now.installed);
        }
        if items.is_empty() || (wrong.is_empty() && !latest) {
            return Ok(self.satisfied());
        }
        let refresh = latest && self.refresh_due(seen)?;
        // `latest` asks about all of them at once, beforehand; `present` only about what is missing.
        let asked: Vec<&str> = match latest {
            true => items.iter().map(|i| i.spec.name.as_str()).collect(),
            false => wrong.iter().map(|i| i.spec.name.as_str()).collect(),
        };
        let (known, script) = self.known(seen, asked.into_iter())?;
        wrong.retain(|i| i.now.installed || i.spec.want != Want::Any || !known.is_provided(&i.spec.name));
        let mut upgraded: Vec<&Item> = vec![];
        if latest {
            let newer = |i: &&Item| {
                known.candidate(&i.spec.name).is_some_and(|c| compare_versions(c, &i.now.version) == Ordering::Greater)
            };
            let there = items.iter().filter(|i| right(i) && i.spec.want == Want::Any);
            upgraded = match refresh {
                true => there.collect(),
                false => there.filter(newer).collect(),
            };
        }
        if wrong.is_empty() && upgraded.is_empty() {
            return Ok(self.satisfied());
        }
        let refresh = refresh || (!latest && self.refresh_due(seen)?);

        for i in wrong.iter().filter(|_| !refresh) {
            if let (Want::AtLeast(v), Some(c)) = (&i.spec.want, known.candidate(&i.spec.name))
                && !i.spec.accepts(c)
            {
                return Err(Stop::fail_hint(
                    format!("the newest {} to be had is {c}, which is older than {v}", i.spec.name),
                    "if the package lists are old, refresh them: `update_cache: true`",
                ));
            }
        }
        let mut says = vec![];
        if refresh {
            says.push("refreshes the package lists".to_string());
        }
        if !wrong.is_empty() {
            says.push(format!("installs {}", listed(wrong.iter().map(|i| shown(&i.spec)))));
        }
        if !upgraded.is_empty() {
            let arrow = |i: &&Item| match known.candidate(&i.spec.name).filter(|_| !refresh) {
                Some(c) => format!("{} {} -> {c}", i.spec.name, i.now.version),
                None => i.spec.name.clone(),
            };
            says.push(format!(
                "upgrades {}{}",
                listed(upgraded.iter().map(arrow)),
                if refresh { " as far as there is something newer" } else { "" }
            ));
        }

        let all: Vec<&Item> = wrong.iter().chain(&upgraded).copied().collect();
        let words: Vec<String> = all.iter().map(|i| i.spec.word()).collect();
        let mut body = String::new();
        if refresh {
            body += "refresh any\n";
        }
        for i in all.iter().filter(|_| refresh) {
            if let Want::AtLeast(v) = &i.spec.want {
                body += &self.too_old(&i.spec.name, v);
            }
        }
        body += &format!(
            "get {} {}\n",
            shell_quote(&format!("install {}", words.join(", "))),
            shell_join(self.install_words(&words))
        );
        for i in &all {
            if let Want::AtLeast(v) = &i.spec.want {
                let (n, v) = (shell_quote(&i.spec.name), shell_quote(v));
                body += &format!(
                    "dpkg --compare-versions \"$(dpkg-query -W -f '${{Version}}' {n})\" ge {v} || {{ printf '%s\\n' 'the newest '{n}' to be had is older than '{v} >&2; exit 100; }}\n"
                );
            }
        }
        let mut after: Vec<(Probe, Answer)> = all
            .iter()
            .filter(|i| i.now.installed || !known.provided.contains(&i.spec.name))
            .map(|i| {
                let version = match &i.spec.want {
                    Want::Exactly(v) if !v.contains(['*', '?', '[']) => v.clone(),
                    Want::Any if !refresh => known.candidate(&i.spec.name).unwrap_or_default().to_string(),
                    // Not known before; it is one that is accepted.
                    Want::Exactly(v) => v.replace(['*', '?'], ""),
                    Want::AtLeast(v) => v.clone(),
                    Want::Any => String::new(),
                };
                let now = PackageState { installed: true, version, held: i.now.held, ..Default::default() };
                (Probe::Package(i.spec.name.clone()), Answer::Package(now))
            })
            .collect();
        if refresh {
            after.push(fresh());
        } else if let Some(answer) = seen.get(&Probe::Script(script.clone())) {
            after.push((Probe::Script(script), answer.clone()));
        }
        Ok(self.change(body, says.join(", "), after, refresh))
    }

    fn decide_absent(&self, seen: &Observed) -> Result<Decision, Stop> {
        let items = self.items(seen, true)?;
        // A package that is neither installed nor only configuration but has a version was left half-way.
        let there = |p: &PackageState| p.installed || (!p.config_files && !p.version.is_empty());
        let gone: Vec<&Item> = items
            .iter()
            .filter(|i| (there(&i.now) && i.spec.accepts(&i.now.version)) || (self.purge.0 && i.now.config_files))
            .collect();
        if gone.is_empty() {
            return Ok(self.satisfied());
        }
        let names: Vec<&str> = gone.iter().map(|i| i.spec.name.as_str()).collect();
        let mut words = self.options();
        words.extend(["-y".to_string(), "-q".into()]);
        if self.purge.0 {
            words.push("--purge".into());
        }
        if self.autoremove.0 {
            words.push("--auto-remove".into());
        }
        words.push("remove".into());
        words.extend(names.iter().map(|n| n.to_string()));
        let body = format!("get {} {}\n", shell_quote(&format!("remove {}", names.join(", "))), shell_join(&words));
        let after = names
            .iter()
            .map(|n| {
                let now = PackageState { config_files: !self.purge.0, ..Default::default() };
                (Probe::Package(n.to_string()), Answer::Package(now))
            })
            .collect();
        let verb = if self.purge.0 { "purges" } else { "removes" };
        Ok(self.change(body, format!("{verb} {}", listed(names.iter().map(|n| n.to_string()))), after, false))
    }

    fn build_dep_words(&self) -> Vec<&str> {
        let names = self.name.iter().flat_map(|l| l.iter()).map(String::as_str);
        std::iter::once("build-dep").chain(names).collect()
    }

    /// What is needed to build packages, as the lists of sources (`deb-src`) say.
    fn decide_build_dep(&self, seen: &Observed) -> Result<Decision, Stop> {
        let look = self.simulate(&self.build_dep_words());
        let out = seen.script(&look)?;
        let todo = simulated(&out.stdout);
        let refresh = self.refresh_due(seen)?;
        if out.rc != 0 && !refresh {
            let why = out.stderr.trim().lines().find(|l| l.starts_with("E: ")).unwrap_or("apt-get cannot say");
            return Err(Stop::fail_hint(
                format!("what it takes to build them is not known: {why}"),
                "that needs sources of the kind `deb-src`, and fresh lists: `update_cache: true`",
            ));
        }
        if out.rc == 0 && todo.is_empty() {
            return Ok(self.satisfied());
        }
        let mut words = self.options();
        words.extend(["-y".to_string(), "-q".into()]);
        words.extend(self.build_dep_words().iter().map(|w| w.to_string()));
        let body = format!(
            "{}get 'install what it takes to build them' {}\n",
            if refresh { "refresh any\n" } else { "" },
            shell_join(&words)
        );
        let says = match (refresh, todo.is_empty()) {
            (true, _) => "refreshes the package lists, installs what it takes to build them".to_string(),
            _ => format!("installs {}", listed(todo.into_iter())),
        };
        let mut after = vec![nothing_left(look)];
        after.extend(refresh.then(fresh));
        Ok(self.change(body, says, after, refresh))
    }

    fn decide_upgrade(&self, seen: &Observed) -> Result<Decision, Stop> {
        let refresh = self.refresh_due(seen)?;
        let look = self.simulate(self.upgrade_words());
        let out = seen.script(&look)?;
        let todo = simulated(&out.stdout);
        if !refresh && out.rc == 0 && todo.is_empty() {
            return Ok(self.satisfied());
        }
        let mut words = self.options();
        words.extend(["-y".to_string(), "-q".into()]);
        words.extend(self.upgrade_words().iter().map(|w| w.to_string()));
        if self.autoremove.0 {
            words.push("--auto-remove".into());
        }
        let body =
            format!("{}get 'upgrade packages' {}\n", if refresh { "refresh any\n" } else { "" }, shell_join(&words));
        let (says, mut after) = match refresh {
            true => ("refreshes the package lists, upgrades all packages".to_string(), vec![fresh()]),
            false if todo.is_empty() => ("upgrades all packages".to_string(), vec![]),
            false => (format!("upgrades {}", listed(todo.into_iter())), vec![]),
        };
        if !refresh {
            after.push(nothing_left(look));
        }
        Ok(self.change(body, says, after, refresh))
    }

    /// With packages, what `clean` erases is erased before them, and as Ansible has it that is no change.
    fn cleaning(&self) -> Option<Upkeep> {
        let packages = self.name.is_some() || self.deb.is_some() || self.upgrade != Upgrade::No;
        (self.clean.0 && packages).then(clean)
    }

    fn cleaned(&self, clean: Upkeep, decision: Decision, seen: &Observed) -> Result<Decision, Stop> {
        let out = seen.script(&clean.look)?;
        if out.rc == 0 && out.stdout.trim().is_empty() {
            return Ok(decision);
        }
        let change = self.change(clean.act, clean.says.into(), vec![nothing_left(clean.look)], false);
        Ok(match (change, decision) {
            (Decision::Change(mut erase), Decision::Change(mut c)) => {
                erase.actions.append(&mut c.actions);
                c.actions = erase.actions;
                c.summary = format!("{}, {}", clean.says, c.summary);
                // What is fetched for the packages is there afterwards.
                Decision::Change(c)
            }
            (Decision::Change(mut erase), Decision::Satisfied(r)) => {
                erase.result = r.result;
                erase.touches = Touches::default();
                (erase.verdict, erase.uncounted) = (None, true);
                Decision::Change(erase)
            }
            (_, decision) => decision,
        })
    }

    fn upkeep(&self) -> Vec<Upkeep> {
        let mut out = vec![];
        if self.state == State::Fixed {
            out.push(Upkeep {
                look: self.simulate(&["--fix-broken", "install"]),
                act: format!(
                    "get 'mend broken dependencies' {}\n",
                    shell_join(self.options().iter().map(String::as_str).chain([
                        "-y",
                        "-q",
                        "--fix-broken",
                        "install"
                    ]))
                ),
                says: "mends broken dependencies",
            });
        }
        if self.clean.0 {
            out.push(clean());
        }
        if self.autoclean.0 {
            out.push(Upkeep {
                look: "LC_ALL=C apt-get -s -q autoclean </dev/null | grep '^Del ' || :".into(),
                act: "get 'erase outdated archives' -q autoclean\n".into(),
                says: "erases outdated archives",
            });
        }
        if self.autoremove.0 {
            let purge = self.purge.0.then_some("--purge");
            out.push(Upkeep {
                look: self.simulate(&["autoremove"]),
                act: format!(
                    "get 'remove packages no longer needed' {}\n",
                    shell_join(
                        self.options()
                            .iter()
                            .map(String::as_str)
                            .chain(["-y", "-q"])
                            .chain(purge)
                            .chain(["autoremove"])
                    )
                ),
                says: "removes packages no longer needed",
            });
        }
        out
    }

    fn decide_upkeep(&self, seen: &Observed) -> Result<Decision, Stop> {
        let refresh = self.refresh_due(seen)?;
        let (mut body, mut says, mut after) = (String::new(), vec![], vec![]);
        if refresh {
            body += "refresh any\n";
            says.push("refreshes the package lists".to_string());
            after.push(fresh());
        }
        for u in self.upkeep() {
            let out = seen.script(&u.look)?;
            if out.rc == 0 && out.stdout.trim().is_empty() {
                continue;
            }
            body += &u.act;
            let names = simulated(&out.stdout);
            says.push(if names.is_empty() {
                u.says.to_string()
            } else {
                format!("{} ({})", u.says, listed(names.into_iter()))
            });
            after.push(nothing_left(u.look));
        }
        if says.is_empty() {
            return Ok(self.satisfied());
        }
        let mut d = self.change(body, says.join(", "), after, refresh);
        if let Decision::Change(c) = &mut d {
            c.verdict = None;
        }
        Ok(d)
    }

    fn decide_deb(&self, deb: &str, seen: &Observed) -> Result<Decision, Stop> {
        let out = seen.script(&deb_script(deb))?;
        if out.rc != 0 {
            let why = out.stderr.trim().lines().last().unwrap_or("it could not be read").to_string();
            return Err(Stop::fail(format!("{deb}: {why}")));
        }
        let field = |k: &str| out.stdout.lines().find_map(|l| l.strip_prefix(k)).map(str::trim).unwrap_or_default();
        let (name, version, now) = (field("Package:"), field("Version:"), field("Now:"));
        if now == format!("installed {version}") {
            return Ok(self.satisfied());
        }
        if let Some(newer) = now.strip_prefix("installed ")
            && compare_versions(newer, version) == Ordering::Greater
            && !(self.allow_downgrade.0 || self.force.0)
        {
            return Err(Stop::fail_hint(
                format!("{name} {newer} is installed, which is newer than {version} in {deb}"),
                "`allow_downgrade: true` takes the older one",
            ));
        }
        let refresh = self.refresh_due(seen)?;
        let (get, file) = match is_url(deb) {
            true => (
                format!("{}|| fail 'the package file could not be downloaded'\n", download(deb)),
                "\"$dir/package.deb\"".to_string(),
            ),
            false => (String::new(), shell_quote(deb)),
        };
        let body = format!(
            "{get}{}get {} {} {file}\n",
            if refresh { "refresh any\n" } else { "" },
            shell_quote(&format!("install {deb}")),
            shell_join(self.install_words(&[])),
        );
        let pkg = PackageState { installed: true, version: version.to_string(), ..Default::default() };
        let mut after = vec![(Probe::Package(name.to_string()), Answer::Package(pkg))];
        let stdout = format!("Package: {name}\nVersion: {version}\nNow: installed {version}\n");
        after.push((Probe::Script(deb_script(deb)), Answer::Script(Output { stdout, ..Default::default() })));
        Ok(self.change(body, format!("installs {name} {version}"), after, refresh))
    }

    /// apt-get's words for an installation of these packages.
    fn install_words(&self, packages: &[String]) -> Vec<String> {
        let mut words = self.options();
        words.extend(["-y".to_string(), "-q".into()]);
        if let Some(r) = self.install_recommends {
            words.extend(["-o".to_string(), format!("APT::Install-Recommends={}", if r.0 { "yes" } else { "no" })]);
        }
        if self.only_upgrade.0 {
            words.push("--only-upgrade".into());
        }
        if self.autoremove.0 {
            words.push("--auto-remove".into());
        }
        if self.state == State::Fixed {
            words.push("--fix-broken".into());
        }
        words.push("install".into());
        words.extend(packages.iter().cloned());
        words
    }

    /// Options of apt-get that go with every verb.
    fn options(&self) -> Vec<String> {
        let mut o = vec![
            "-o".to_string(),
            "Dpkg::Use-Pty=0".into(),
            "-o".into(),
            format!("DPkg::Lock::Timeout={}", self.lock_timeout.0),
        ];
        for d in self.dpkg_options.iter() {
            o.extend(["-o".to_string(), format!("Dpkg::Options::=--{}", d.trim_start_matches('-'))]);
        }
        if let Some(r) = &self.default_release {
            o.extend(["-t".to_string(), r.0.clone()]);
        }
        let flags = [
            (self.allow_unauthenticated, "--allow-unauthenticated"),
            (self.allow_downgrade, "--allow-downgrades"),
            (self.allow_change_held_packages, "--allow-change-held-packages"),
        ];
        o.extend(flags.iter().filter(|f| f.0.0 || self.force.0).map(|f| f.1.to_string()));
        if self.fail_on_autoremove.0 {
            o.push("--no-remove".into());
        }
        o
    }

    /// A read-only script that prints what apt-get would do.
    fn simulate(&self, words: &[&str]) -> String {
        let mut all = vec!["-s".to_string(), "-q".into()];
        all.extend(self.default_release.iter().flat_map(|r| ["-t".to_string(), r.0.clone()]));
        all.extend(words.iter().map(|w| w.to_string()));
        format!(
            "out=$(LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get {} 2>&1 </dev/null) || {{ printf '%s\\n' \"$out\" >&2; exit 1; }}\nprintf '%s\\n' \"$out\" | grep -E '^(Inst|Remv|Conf) ' || :",
            shell_join(&all)
        )
    }

    /// A read-only script: the candidates of packages, and which of their names installed packages provide.
    fn policy_script<'a>(&self, names: impl Iterator<Item = &'a str>) -> String {
        let names: Vec<&str> = names.collect();
        let release = self.default_release.as_ref().map(|r| format!("-t {} ", shell_quote(r))).unwrap_or_default();
        let wanted = names.iter().map(|n| format!("-e {}", shell_quote(n.split(':').next().unwrap_or(n))));
        format!(
            "export LC_ALL=C\napt-cache {release}policy {} 2>/dev/null </dev/null\necho ---\ndpkg-query -W -f '${{db:Status-Status}} ${{Provides}}\\n' 2>/dev/null | grep '^installed .' | grep -F {} | sed 's/^installed //'\nexit 0",
            shell_join(&names),
            wanted.collect::<Vec<_>>().join(" ")
        )
    }

    /// Ends the script where the newest version that can be had is older than the one that is wanted.
    fn too_old(&self, name: &str, version: &str) -> String {
        let release = self.default_release.as_ref().map(|r| format!("-t {} ", shell_quote(r))).unwrap_or_default();
        let (n, v) = (shell_quote(name), shell_quote(version));
        format!(
            "c=$(apt-cache {release}policy {n} 2>/dev/null </dev/null | sed -n 's/^  Candidate: //p' | head -n 1)\n\
             case $c in ''|'(none)') ;; *) dpkg --compare-versions \"$c\" ge {v} || {{ printf 'the newest %s to be had is %s, which is older than %s\\n' {n} \"$c\" {v} >&2; exit 100; }} ;; esac\n"
        )
    }

    fn satisfied(&self) -> Decision {
        let mut r = Map::new();
        r.insert("cache_updated".into(), json!(false));
        Decision::satisfied(r)
    }

    fn change(&self, body: String, summary: String, after: Vec<(Probe, Answer)>, refresh: bool) -> Decision {
        let mut result = Map::new();
        result.insert("cache_updated".into(), json!(refresh));
        Decision::Change(Change {
            actions: vec![Action::Script(self.script(&body))],
            touches: Touches::everything(),
            after,
            summary,
            result,
            verdict: Some(something_done),
            ..Default::default()
        })
    }

    /// The whole script round a body of `refresh` and `get` calls.
    fn script(&self, body: &str) -> String {
        let force = self
            .dpkg_options
            .iter()
            .map(|o| format!("--{} ", o.trim_start_matches('-')))
            .filter(|o| o.starts_with("--force-"))
            .collect::<String>();
        let mut s = PRELUDE
            .replace("@LOCK@", &self.lock_timeout.0.to_string())
            .replace("@RETRIES@", &self.update_cache_retries.0.to_string())
            .replace("@PAUSE@", &self.update_cache_retry_max_delay.0.to_string())
            .replace("@FORCE@", &force);
        if let Some(code) = self.policy_rc_d {
            s += &POLICY.replace("@CODE@", &code.to_string());
        }
        s += "repair\n";
        s += body;
        s
    }
}

fn clean() -> Upkeep {
    Upkeep {
        look: "eval \"$(apt-config shell d Dir::Cache::archives/d)\"\nls -d \"${d:-/var/cache/apt/archives/}\"*.deb \"${d:-/var/cache/apt/archives/}\"partial/* 2>/dev/null\nexit 0".into(),
        act: "get 'erase downloaded archives' clean\n".into(),
        says: "erases downloaded archives",
    }
}

/// Seconds since the package lists were refreshed; nothing if there are none.
const AGE: &str = "\
[ -n \"$(find /var/lib/apt/lists -maxdepth 1 -type f -size +0 ! -name lock 2>/dev/null | head -n 1)\" ] || exit 0
t=$(stat -c %Y /var/lib/apt/lists 2>/dev/null) || exit 0
s=$(stat -c %Y /var/lib/apt/periodic/update-success-stamp 2>/dev/null) && [ \"$s\" -gt \"$t\" ] && t=$s
echo $(($(date +%s) - t))";

/// What every changing script begins with. apt writes to a file, not to us: it goes on to its end if we are cut off.
const PRELUDE: &str = r#"umask 022
export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical APT_LISTCHANGES_FRONTEND=none LC_ALL=C LANGUAGE=C
log=$(mktemp) || exit 1
dir= fresh= policy=
leave() { rm -f "$log"; [ -z "$dir" ] || rm -rf "$dir"; [ -z "$policy" ] || policy_off; }
trap leave EXIT
# Runs a command; while another process holds a lock, again.
locked() {
  end=$(($(date +%s) + @LOCK@))
  while :; do
    "$@" >"$log" 2>&1 </dev/null && return 0 || rc=$?
    grep -Eq '^E: (Could not get lock|Unable to lock|Unable to acquire)|lock was locked by another process' "$log" || return "$rc"
    grep -q 'Permission denied' "$log" && return "$rc"
    [ "$(date +%s)" -lt "$end" ] || return "$rc"
    sleep 2
  done
}
fail() {
  cat "$log"
  { printf '%s\n' "$1"; grep -E '^(E: |W: |Err|dpkg: error| trying to overwrite)' "$log" || tail -n 20 "$log"; } >&2
  exit "${2:-100}"
}
refresh() {
  n=0 pause=1
  until locked apt-get -q ${1:+-o APT::Update::Error-Mode="$1"} -o DPkg::Lock::Timeout=@LOCK@ update; do
    n=$((n + 1))
    [ "$n" -le @RETRIES@ ] || fail 'the package lists could not be refreshed'
    sleep "$pause"
    pause=$((pause * 2))
    [ "$pause" -le @PAUSE@ ] || pause=@PAUSE@
  done
  cat "$log"
  touch /var/lib/apt/lists
  fresh=1
}
# What an interrupted dpkg left behind.
repair() {
  dpkg-query -W -f '${db:Status-Status}\n' 2>/dev/null | grep -Eqx 'half-installed|unpacked|half-configured|triggers-awaited|triggers-pending' ||
    [ -n "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ] || return 0
  locked dpkg @FORCE@--configure -a || :
  cat "$log"
}
get() {
  what=$1
  shift
  locked apt-get "$@" && { cat "$log"; return 0; } || rc=$?
  if [ -z "$fresh" ] && grep -Eq '^E: (Unable to locate package|Version .* was not found|Package .* has no installation candidate|Couldn.t find any package|Failed to fetch|Unable to fetch some archives|The value .* is invalid for APT::Default-Release)' "$log"; then
    cat "$log"
    refresh
    locked apt-get "$@" && { cat "$log"; return 0; } || rc=$?
  fi
  fail "apt-get could not $what" "$rc"
}
"#;

/// A policy-rc.d for the time of this script. It lapses by itself when the script is gone.
const POLICY: &str = r#"policy_off() {
  [ -e /usr/sbin/policy-rc.d ] && grep -q '^# windlass:' /usr/sbin/policy-rc.d || return 0
  if [ -e /usr/sbin/policy-rc.d.windlass ]; then
    mv -f /usr/sbin/policy-rc.d.windlass /usr/sbin/policy-rc.d
  else
    rm -f /usr/sbin/policy-rc.d
  fi
}
policy_off
[ ! -e /usr/sbin/policy-rc.d ] || cp -p /usr/sbin/policy-rc.d /usr/sbin/policy-rc.d.windlass || exit 1
cat >/usr/sbin/.policy-rc.d.windlass <<END || exit 1
#!/bin/sh
# windlass: for the time of one run of apt
kill -0 $$ 2>/dev/null && exit @CODE@
[ -x /usr/sbin/policy-rc.d.windlass ] && exec /usr/sbin/policy-rc.d.windlass "\$@"
exit 0
END
chmod 755 /usr/sbin/.policy-rc.d.windlass && mv -f /usr/sbin/.policy-rc.d.windlass /usr/sbin/policy-rc.d || exit 1
policy=1
"#;

fn fresh() -> (Probe, Answer) {
    (Probe::Script(AGE.into()), Answer::Script(Output { stdout: "0\n".into(), ..Default::default() }))
}

fn nothing_left(look: String) -> (Probe, Answer) {
    (Probe::Script(look), Answer::Script(Output::default()))
}

/// Whether dpkg did anything, from its own words.
fn something_done(outputs: &[Output]) -> bool {
    const DONE: [&str; 5] = ["Setting up ", "Unpacking ", "Removing ", "Purging configuration files ", "Purging "];
    outputs.iter().flat_map(|o| o.stdout.lines()).any(|l| DONE.iter().any(|d| l.starts_with(d)))
}

/// The packages a simulation names.
fn simulated(stdout: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    stdout
        .lines()
        .filter_map(|l| l.strip_prefix("Inst ").or_else(|| l.strip_prefix("Remv ")))
        .filter_map(|l| l.split_whitespace().next())
        .filter(|n| seen.insert(n.to_string()))
        .map(str::to_string)
        .collect()
}

fn shown(spec: &Spec) -> String {
    match &spec.want {
        Want::AtLeast(v) => format!("{}>={v}", spec.name),
        _ => spec.word(),
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.len() {
        0..=8 => names.join(", "),
        n => format!("{} and {} more", names[..8].join(", "), n - 8),
    }
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// Brings a package file to `$dir/package.deb`.
fn download(url: &str) -> String {
    format!(
        "dir=$(mktemp -d) && chmod 755 \"$dir\" && /usr/lib/apt/apt-helper download-file {} \"$dir/package.deb\" >\"${{log:-/dev/null}}\" 2>&1 </dev/null ",
        shell_quote(url)
    )
}

/// A read-only script: what a package file holds, and what is installed of it.
fn deb_script(deb: &str) -> String {
    let get = match is_url(deb) {
        true => format!(
            "dir=\ntrap '[ -z \"$dir\" ] || rm -rf \"$dir\"' EXIT\n{}|| {{ echo 'it could not be downloaded' >&2; exit 1; }}\nf=$dir/package.deb",
            download(deb)
        ),
        false => format!("f={}\n[ -e \"$f\" ] || {{ echo 'there is no such file' >&2; exit 1; }}", shell_quote(deb)),
    };
    format!(
        "{get}\nexport LC_ALL=C\ninfo=$(dpkg-deb -f \"$f\" Package Version Architecture) || exit 1\nprintf '%s\\n' \"$info\"\np=$(dpkg-deb -f \"$f\" Package)\na=$(dpkg-deb -f \"$f\" Architecture)\n[ \"$a\" = all ] || p=$p:$a\nprintf 'Now: %s\\n' \"$(dpkg-query -W -f '${{db:Status-Status}} ${{Version}}' \"$p\" 2>/dev/null)\""
    )
}

/// A read-only script: the packages a pattern stands for, and what is installed of them.
fn glob_script(pattern: &str) -> String {
    let prefix: String = pattern.chars().take_while(|c| !"*?[".contains(*c)).collect();
    let prefix = if prefix.is_empty() { String::new() } else { format!(" {}", shell_quote(&prefix)) };
    // The characters of a package's name need no quotes in a pattern, and the wildcards must have none.
    format!(
        "export LC_ALL=C\nfor p in $(apt-cache pkgnames{prefix} 2>/dev/null </dev/null); do case $p in {pattern}) echo \"available $p\" ;; esac; done\ndpkg-query -W -f '${{db:Status-Status}} ${{Package}} ${{Version}}\\n' {} 2>/dev/null\nexit 0",
        shell_quote(pattern)
    )
}

/// The packages of a [`glob_script`]'s answer.
fn expand(stdout: &str, installed_only: bool) -> Vec<(String, PackageState)> {
    let mut found = std::collections::BTreeMap::<String, PackageState>::new();
    for line in stdout.lines() {
        let mut words = line.split(' ');
        let (Some(state), Some(name)) = (words.next(), words.next()) else { continue };
        if state == "available" && installed_only {
            continue;
        }
        let p = found.entry(name.to_string()).or_default();
        match state {
            "available" | "not-installed" => {}
            "installed" => p.installed = true,
            "config-files" => p.config_files = true,
            _ => {}
        }
        if state != "available" && state != "not-installed" {
            p.version = words.next().unwrap_or_default().to_string();
        }
    }
    found.into_iter().collect()
}

fn read_policy(stdout: &str) -> Known {
    let (policy, provides) = stdout.split_once("---\n").unwrap_or((stdout, ""));
    let mut known = Known { candidates: vec![], provided: BTreeSet::new() };
    let mut name = String::new();
    for line in policy.lines() {
        if !line.starts_with(' ') {
            name = line.trim_end_matches(':').to_string();
        } else if let Some(c) = line.trim().strip_prefix("Candidate:") {
            known.candidates.push((name.clone(), c.trim().to_string()));
        }
    }
    for line in provides.lines() {
        for p in line.split(',').filter_map(|p| p.split_whitespace().next()) {
            known.provided.insert(p.split(':').next().unwrap_or(p).to_string());
        }
    }
    known
}

/// The order of two Debian versions.
fn compare_versions(a: &str, b: &str) -> Ordering {
    fn parts(v: &str) -> (u64, &str, &str) {
        let (epoch, rest) = v.split_once(':').map_or((0, v), |(e, r)| (e.parse().unwrap_or(0), r));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch, upstream, revision)
    }
    let (a, b) = (parts(a), parts(b));
    a.0.cmp(&b.0).then_with(|| compare_part(a.1, b.1)).then_with(|| compare_part(a.2, b.2))
}

/// Runs of other characters and runs of digits in turn; `~` sorts before everything, letters before the rest.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    fn weight(c: Option<char>) -> u32 {
        match c {
            Some('~') => 0,
            None => 1,
            Some(c) if c.is_ascii_alphabetic() => 2 + c as u32,
            Some(c) => 1000 + c as u32,
        }
    }
    fn take<'a>(s: &mut &'a str, digits: bool) -> &'a str {
        let end = s.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(s.len());
        let (head, tail) = s.split_at(end);
        *s = tail;
        head
    }
    while !a.is_empty() || !b.is_empty() {
        let (x, y) = (take(&mut a, false), take(&mut b, false));
        let (mut xs, mut ys) = (x.chars(), y.chars());
        loop {
            let (c, d) = (xs.next(), ys.next());
            match weight(c).cmp(&weight(d)) {
                Ordering::Equal if c.is_none() => break,
                Ordering::Equal => {}
                other => return other,
            }
        }
        let number = |s: &str| s.trim_start_matches('0').to_string();
        let (m, n) = (number(take(&mut a, true)), number(take(&mut b, true)));
        match m.len().cmp(&n.len()).then_with(|| m.cmp(&n)) {
            Ordering::Equal => {}
            other => return other,
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    fn package(name: &str, version: &str) -> (Probe, Answer) {
        let installed = !version.is_empty();
        let p = PackageState { installed, version: version.into(), ..Default::default() };
        (Probe::Package(name.into()), Answer::Package(p))
    }
    fn answer(script: String, stdout: &str) -> (Probe, Answer) {
        (Probe::Script(script), Answer::Script(Output { stdout: stdout.into(), ..Default::default() }))
    }
    fn policy(m: &Apt, names: &[&str], stdout: &str) -> (Probe, Answer) {
        answer(m.policy_script(names.iter().copied()), stdout)
    }
    fn body(c: &Change) -> String {
        let [Action::Script(s)] = c.actions.as_slice() else { panic!("{c:?}") };
        sh_accepts(s);
        s.split_once("\nrepair\n").unwrap().1.to_string()
    }

    #[test]
    fn installed_packages_need_nothing_but_dpkg() {
        let m: Apt = bind("{name: [curl, cron], update_cache: true, cache_valid_time: 3600}");
        assert_eq!(m.probes(&ctx()), [Probe::Package("curl".into()), Probe::Package("cron".into())]);
        satisfied(m.decide(&seen([package("curl", "7.88"), package("cron", "3.0")]), &ctx()));
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        let m: Apt = bind("{pkg: 'curl, cron', install_recommends: no}");
        let facts = [package("curl", "7.88"), package("cron", "")];
        assert_eq!(
            m.decide(&seen(facts.clone()), &ctx()).unwrap_err(),
            Stop::Need(vec![Probe::Script(m.policy_script(["cron"].into_iter()))])
        );
        let mut o = seen(facts);
        let (p, a) = policy(&m, &["cron"], "cron:\n  Installed: (none)\n  Candidate: 3.0pl1-162\n---\n");
        o.insert(p, a);
        let c = change(m.decide(&o, &ctx()));
        assert_eq!(c.summary, "installs cron");
        assert!(c.touches.everything);
        let b = body(&c);
        assert!(b.ends_with("-y -q -o APT::Install-Recommends=no install cron\n"), "{b}");
        assert!(b.contains("--force-confold") && b.contains("DPkg::Lock::Timeout=60"));
        o.forget(&c.touches);
        c.after.into_iter().for_each(|(p, a)| o.insert(p, a));
        assert_eq!(o.package("cron").unwrap().version, "3.0pl1-162");
    }

    #[test]
    fn what_a_plan_says_holds_afterwards() {
        for yaml in [
            "{name: cron}",
            "{name: cron=3.0*}",
            "{name: cron>=2.9, update_cache: true}",
            "{name: cron, state: latest}",
        ] {
            let m: Apt = bind(yaml);
            let o = seen([package("cron", ""), policy(&m, &["cron"], "cron:\n  Candidate: 3.0\n---\n")]);
            let c = change(m.decide(&o, &ctx()));
            body(&c);
            satisfied(m.decide(&seen(c.after), &ctx()));
        }
    }

    #[test]
    fn a_version_is_part_of_being_there() {
        let m: Apt = bind("{name: 'curl=7.88*', allow_downgrade: true}");
        satisfied(m.decide(&seen([package("curl", "7.88.1-10")]), &ctx()));
        let c = change(m.decide(&seen([package("curl", "8.0"), policy(&m, &["curl"], "---\n")]), &ctx()));
        assert!(body(&c).ends_with("--allow-downgrades -y -q install 'curl=7.88*'\n"));
        let m: Apt = bind("{name: 'curl>=7.88'}");
        satisfied(m.decide(&seen([package("curl", "8.0")]), &ctx()));
        change(m.decide(&seen([package("curl", "7.9"), policy(&m, &["curl"], "---\n")]), &ctx()));
    }

    #[test]
    fn a_name_that_an_installed_package_provides_is_there() {
        let m: Apt = bind("{name: default-mta}");
        let provided =
            "default-mta:\n  Installed: (none)\n  Candidate: (none)\n---\nmail-transport-agent, default-mta\n";
        satisfied(m.decide(&seen([package("default-mta", ""), policy(&m, &["default-mta"], provided)]), &ctx()));
        // A package of its own is installed even if another one provides its name.
        let own = "default-mta:\n  Candidate: 4.96\n---\ndefault-mta\n";
        change(m.decide(&seen([package("default-mta", ""), policy(&m, &["default-mta"], own)]), &ctx()));
        let said = |s: &str| [Output { stdout: s.into(), ..Default::default() }];
        assert!(!something_done(&said("exim4 is already the newest version\n0 upgraded, 0 newly installed\n")));
        assert!(something_done(&said("Setting up curl (7.88) ...\n")));
    }

    #[test]
    fn latest_upgrades_what_has_a_newer_candidate() {
        let m: Apt = bind("{name: [curl, cron], state: latest}");
        assert_eq!(m.probes(&ctx()).len(), 3);
        let now = |curl: &str| {
            let p = "curl:\n  Installed: 1\n  Candidate: 7.88.1\ncron:\n  Candidate: 3.0\n---\n";
            seen([package("curl", curl), package("cron", "3.0"), policy(&m, &["curl", "cron"], p)])
        };
        satisfied(m.decide(&now("7.88.1"), &ctx()));
        let c = change(m.decide(&now("7.88.0"), &ctx()));
        assert_eq!(c.summary, "upgrades curl 7.88.0 -> 7.88.1");
        assert!(body(&c).ends_with(" install curl\n"));
        let mut o = now("7.88.0");
        o.forget(&c.touches);
        o.insert(package("cron", "3.0").0, package("cron", "3.0").1);
        c.after.into_iter().for_each(|(p, a)| o.insert(p, a));
        satisfied(m.decide(&o, &ctx()));
    }

    #[test]
    fn latest_refreshes_old_lists_first() {
        let m: Apt = bind("{name: curl, state: latest, cache_valid_time: 3600}");
        let now = |age: &str| {
            seen([package("curl", "1"), policy(&m, &["curl"], "curl:\n  Candidate: 1\n---\n"), answer(AGE.into(), age)])
        };
        satisfied(m.decide(&now("60\n"), &ctx()));
        let c = change(m.decide(&now("9999\n"), &ctx()));
        assert!(body(&c).starts_with("refresh any\n"));
        assert_eq!(c.result["cache_updated"], json!(true));
    }

    #[test]
    fn absent_and_purge() {
        let m: Apt = bind("{name: [curl, cron], state: absent}");
        satisfied(m.decide(&seen([package("curl", ""), package("cron", "")]), &ctx()));
        let c = change(m.decide(&seen([package("curl", "1"), package("cron", "")]), &ctx()));
        assert_eq!(c.summary, "removes curl");
        assert!(body(&c).ends_with("-y -q remove curl\n"));
        let left = PackageState { config_files: true, version: "1".into(), ..Default::default() };
        let o = || seen([(Probe::Package("curl".into()), Answer::Package(left.clone()))]);
        satisfied(bind::<Apt>("{name: curl, state: absent}").decide(&o(), &ctx()));
        let m: Apt = bind("{name: curl, state: absent, purge: true, autoremove: true}");
        let c = change(m.decide(&o(), &ctx()));
        assert!(body(&c).ends_with("--purge --auto-remove remove curl\n"));
        satisfied(m.decide(&seen(c.after), &ctx()));
    }

    #[test]
    fn wildcards_are_expanded_on_the_host() {
        let m: Apt = bind("{name: 'lib?z-*', state: absent}");
        let script = glob_script("lib?z-*");
        sh_accepts(&script);
        assert_eq!(m.probes(&ctx()), [Probe::Script(script.clone())]);
        let out = "available libaz-dev\navailable libaz-x\ninstalled libaz-dev 1.0\n";
        let c = change(m.decide(&seen([answer(script.clone(), out)]), &ctx()));
        assert_eq!(c.summary, "removes libaz-dev");
        let m: Apt = bind("{name: 'lib?z-*'}");
        let c = change(m.decide(&seen([answer(script.clone(), out), policy(&m, &["libaz-x"], "---\n")]), &ctx()));
        assert_eq!(c.summary, "installs libaz-x");
        let Err(Stop::Fail(f)) = m.decide(&seen([answer(script, "")]), &ctx()) else { panic!() };
        assert!(f.message.contains("lib?z-*"));
    }

    #[test]
    fn lists_alone() {
        let m: Apt = bind("{update_cache: true}");
        assert_eq!(m.probes(&ctx()), []);
        let c = change(m.decide(&seen([]), &ctx()));
        assert_eq!((c.summary.as_str(), body(&c).as_str()), ("refreshes the package lists", "refresh any\n"));
        let m: Apt = bind("{cache_valid_time: 3600}");
        assert_eq!(m.probes(&ctx()), [Probe::Script(AGE.into())]);
        satisfied(m.decide(&seen([answer(AGE.into(), "60\n")]), &ctx()));
        let c = change(m.decide(&seen([answer(AGE.into(), "")]), &ctx()));
        satisfied(m.decide(&seen(c.after), &ctx()));
        sh_accepts(AGE);
    }

    #[test]
    fn upgrades_of_everything() {
        for yaml in ["{upgrade: dist}", "{name: '*', state: latest}", "{upgrade: yes}"] {
            let m: Apt = bind(yaml);
            let Some(Probe::Script(look)) = m.probes(&ctx()).pop() else { panic!() };
            sh_accepts(&look);
            satisfied(m.decide(&seen([answer(look.clone(), "")]), &ctx()));
            let c = change(m.decide(&seen([answer(look, "Inst curl [1] (2 Debian:12 [amd64])\nConf curl\n")]), &ctx()));
            assert_eq!(c.summary, "upgrades curl");
            body(&c);
            satisfied(m.decide(&seen(c.after), &ctx()));
        }
    }

    #[test]
    fn upkeep() {
        let m: Apt = bind("{autoremove: yes, autoclean: yes, clean: yes, purge: yes}");
        let looks: Vec<String> = m.upkeep().into_iter().map(|u| u.look).collect();
        looks.iter().for_each(|l| sh_accepts(l));
        satisfied(m.decide(&seen(looks.iter().map(|l| answer(l.clone(), ""))), &ctx()));
        let o =
            seen(looks.iter().map(|l| answer(l.clone(), if l.contains("autoremove") { "Remv x [1]\n" } else { "" })));
        let c = change(m.decide(&o, &ctx()));
        assert_eq!(c.summary, "removes packages no longer needed (x)");
        assert!(body(&c).ends_with("-y -q --purge autoremove\n"));
    }

    #[test]
    fn package_files() {
        for deb in ["/tmp/a b.deb", "https://x.test/a.deb"] {
            let m: Apt = bind(&format!("{{deb: '{deb}'}}"));
            let script = deb_script(deb);
            sh_accepts(&script);
            let info = |now: &str| answer(script.clone(), &format!("Package: a\nVersion: 1.0\nNow: {now}\n"));
            satisfied(m.decide(&seen([info("installed 1.0")]), &ctx()));
            let c = change(m.decide(&seen([info("")]), &ctx()));
            assert_eq!(c.summary, "installs a 1.0");
            body(&c);
            satisfied(m.decide(&seen(c.after), &ctx()));
            let newer = || seen([info("installed 1.0.1")]);
            let Err(Stop::Fail(f)) = m.decide(&newer(), &ctx()) else { panic!() };
            assert!(f.message.contains("a 1.0.1 is installed, which is newer than 1.0"), "{}", f.message);
            change(bind::<Apt>(&format!("{{deb: '{deb}', allow_downgrade: true}}")).decide(&newer(), &ctx()));
            let missing = Output { rc: 1, stderr: "there is no such file\n".into(), ..Default::default() };
            let o = seen([(Probe::Script(script.clone()), Answer::Script(missing))]);
            assert!(matches!(m.decide(&o, &ctx()), Err(Stop::Fail(f)) if f.message.contains("no such file")));
        }
    }

    #[test]
    fn a_version_that_cannot_be_had_changes_nothing() {
        let m: Apt = bind("{name: 'curl>=99'}");
        let o = || seen([package("curl", ""), policy(&m, &["curl"], "curl:\n  Candidate: 7.88\n---\n")]);
        let Err(Stop::Fail(f)) = m.decide(&o(), &ctx()) else { panic!() };
        assert_eq!(f.message, "the newest curl to be had is 7.88, which is older than 99");
        // After a refresh it is looked at again, before anything is installed.
        let m: Apt = bind("{name: 'curl>=99', update_cache: true}");
        let b = body(&change(m.decide(&o(), &ctx())));
        let (refresh, test, get) = (b.find("refresh any"), b.find("apt-cache policy curl"), b.find("get 'install"));
        assert!(refresh < test && test < get, "{b}");
        let script = |candidate: &str| {
            let s = m.too_old("curl", "99").replace("apt-cache", "apt_cache");
            let stub = format!(
                "apt_cache() {{ printf '  Candidate: %s\\n' '{candidate}'; }}\ndpkg() {{ [ \"$2\" = 100 ]; }}\n{s}"
            );
            std::process::Command::new("sh").args(["-c", &stub]).output().unwrap()
        };
        assert!(script("100").status.success() && script("(none)").status.success());
        assert!(String::from_utf8_lossy(&script("98").stderr).contains("is 98, which is older than 99"));
    }

    #[test]
    fn clean_goes_with_packages_too() {
        let m: Apt = bind("{name: dash, clean: true}");
        let o = |left: &str| seen([package("dash", "1"), answer(clean().look, left)]);
        assert!(m.probes(&ctx()).contains(&Probe::Script(clean().look)));
        satisfied(m.decide(&o(""), &ctx()));
        let c = change(m.decide(&o("/var/cache/apt/archives/x.deb\n"), &ctx()));
        assert!(c.uncounted && body(&c).ends_with(" clean\n"));
        satisfied(m.decide(&then(o("x"), &c), &ctx()));
        let missing = [package("dash", ""), answer(clean().look, "x\n"), policy(&m, &["dash"], "---\n")];
        let c = change(m.decide(&seen(missing), &ctx()));
        assert_eq!(
            (c.actions.len(), c.summary.as_str(), c.uncounted),
            (2, "erases downloaded archives, installs dash", false)
        );
    }

    #[test]
    fn a_policy_for_services_lapses() {
        let m: Apt = bind("{name: cron, policy_rc_d: 101}");
        let c = change(m.decide(&seen([package("cron", ""), policy(&m, &["cron"], "---\n")]), &ctx()));
        body(&c);
        let [Action::Script(s)] = c.actions.as_slice() else { panic!() };
        assert!(s.contains("&& exit 101"));
    }

    #[test]
    fn versions_have_debians_order() {
        for (a, b) in [
            ("1.0", "1.1"),
            ("1.9", "1.10"),
            ("1.0~rc1", "1.0"),
            ("2.0", "1:0.1"),
            ("1.0-1", "1.0-2"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+b"),
            ("1.0-1~bpo", "1.0-1"),
        ] {
            assert_eq!(compare_versions(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(compare_versions(b, a), Ordering::Greater, "{b} {a}");
        }
        assert_eq!(compare_versions("1.0", "0:1.00-0"), Ordering::Equal);
        assert!(
            crate::glob::matches("1.2*", "1.2.3-1")
                && !crate::glob::matches("1.2", "1.2.3")
                && crate::glob::matches("[0-9].?", "3.x")
        );
    }

    #[test]
    fn what_it_takes_to_build_a_package() {
        let m: Apt = bind("{name: little, state: build-dep}");
        let [Probe::Script(look)] = &m.probes(&ctx())[..] else { panic!() };
        assert!(look.contains("build-dep little"), "{look}");
        let said = |rc, stdout: &str, stderr: &str| {
            let out = Output { rc, stdout: stdout.into(), stderr: stderr.into() };
            seen([(Probe::Script(look.clone()), Answer::Script(out))])
        };
        satisfied(m.decide(&said(0, "", ""), &ctx()));
        let c = change(m.decide(&said(0, "Inst tree (2.1 Debian:12/stable [amd64])\n", ""), &ctx()));
        assert_eq!(c.summary, "installs tree");
        satisfied(m.decide(&then(said(1, "", ""), &c), &ctx()));
        let Err(Stop::Fail(f)) = m.decide(&said(1, "", "E: Unable to find a source package for little\n"), &ctx())
        else {
            panic!()
        };
        assert!(f.message.contains("Unable to find a source package") && f.hint.unwrap().contains("deb-src"));
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Apt>(y).unwrap_err().message;
        assert!(err("{}").contains("needs `name`"));
        assert!(err("{name: a, upgrade: dist}").contains("exclude each other"));
        assert!(err("{name: a=1, state: build-dep}").contains("without versions"));
        assert!(err("{name: [a, '-y']}").contains("not a package's name"));
        assert!(err("{name: 'a; rm'}").contains("not a package's name"));
        assert!(err("{name: /tmp/x.deb}").contains("package file"));
        assert!(err("{name: a, state: new}").contains("unknown variant"));
        assert!(err("{nmae: a}").contains("unknown field"));
        assert!(err("{deb: /x.deb, state: absent}").contains("`deb` installs"));
        assert!(err("{deb: x.deb}").contains("absolute path"));
        assert!(err("{upgrade: some}").contains("safe, full or dist"));
    }

    /// Each parameter that is an option of apt-get arrives there, and nothing else of it.
    #[test]
    fn options_of_apt_get() {
        let script = |more: &str| {
            let m: Apt = bind(&format!("{{name: cron, {more}}}"));
            let o = seen([package("cron", ""), policy(&m, &["cron"], "cron:\n  Candidate: 3.0\n---\n")]);
            let c = change(m.decide(&o, &ctx()));
            let [Action::Script(s)] = c.actions.as_slice() else { panic!("{c:?}") };
            sh_accepts(s);
            s.clone()
        };
        let plain = script("update_cache: true");
        for (more, there) in [
            ("allow_unauthenticated: true", "--allow-unauthenticated"),
            ("allow_change_held_packages: true", "--allow-change-held-packages"),
            ("force: true", "--allow-downgrades"),
            ("force: true", "--allow-unauthenticated"),
            ("fail_on_autoremove: true", "--no-remove"),
            ("lock_timeout: 7", "DPkg::Lock::Timeout=7"),
            ("dpkg_options: force-confnew", "Dpkg::Options::=--force-confnew"),
            ("default_release: bookworm-backports", "-t bookworm-backports"),
        ] {
            let s = script(more);
            assert!(s.contains(there), "{more}: {s}");
            assert!(!plain.contains(there), "{more}");
        }
        let m: Apt = bind("{name: cron, default_release: stable}");
        assert!(m.policy_script(["cron"].into_iter()).contains("apt-cache -t stable policy"));
        let retries = script("update_cache: true, update_cache_retries: 47, update_cache_retry_max_delay: 53");
        assert!(retries.contains("47") && retries.contains("53"), "{retries}");
        assert!(!plain.contains("47") && !plain.contains("53"));
        // What is not there is not installed.
        let m: Apt = bind("{name: cron, only_upgrade: true}");
        satisfied(m.decide(&seen([package("cron", "")]), &ctx()));
    }
}
