//! What is known of a host right now, and what a change makes unknown again.

use super::*;
use crate::modules::Stop;
use std::collections::HashMap;

/// The answers at hand. Asking for one that is not there asks the host for it: [`Stop::Need`].
#[derive(Debug, Default, Clone)]
pub struct Observed {
    answers: HashMap<Probe, Answer>,
    /// Answers about files of this side may be among them.
    ours: bool,
}

/// What a change may have altered on a host. Everything not named here is still known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Touches {
    pub everything: bool,
    /// Paths, each with all below it.
    pub paths: Vec<String>,
    /// Paths of which nothing below is touched: a file, or a folder that was not there.
    pub entries: Vec<String>,
    pub packages: bool,
    pub users: bool,
    pub units: bool,
    pub sysctls: bool,
    pub mounts: bool,
    /// Whether any kernel module is loaded, and at each start.
    pub modules: bool,
    /// Kernel modules that are not loaded yet may be afterwards.
    pub loads: bool,
    /// These kernel modules.
    pub named_modules: Vec<String>,
}

impl Touches {
    /// A change of which nothing is known.
    pub fn everything() -> Self {
        Touches { everything: true, ..Default::default() }
    }
    /// A change to one path (and what is below it).
    pub fn path(path: &str) -> Self {
        let below = |dirs: &[&str]| dirs.iter().any(|d| path.starts_with(d) || d.starts_with(path));
        Touches {
            paths: vec![path.to_string()],
            units: below(&[
                "/etc/systemd/",
                "/lib/systemd/",
                "/usr/lib/systemd/",
                "/usr/local/lib/systemd/",
                "/usr/share/systemd/",
                "/usr/local/share/systemd/",
                "/run/systemd/",
                "/etc/init.d/",
            ]),
            users: below(&["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/nsswitch.conf"]),
            packages: below(&["/var/lib/dpkg/"]),
            modules: below(&["/etc/modules", "/etc/modprobe.d/", "/lib/modules/"]),
            ..Default::default()
        }
    }
    /// A change to the entry at a path alone: nothing is below it, before or after.
    pub fn entry(path: &str) -> Self {
        let mut t = Touches::path(path);
        t.entries = std::mem::take(&mut t.paths);
        t
    }
    pub fn and(mut self, other: Touches) -> Self {
        self.everything |= other.everything;
        self.packages |= other.packages;
        self.users |= other.users;
        self.units |= other.units;
        self.sysctls |= other.sysctls;
        self.mounts |= other.mounts;
        self.modules |= other.modules;
        self.loads |= other.loads;
        self.named_modules.extend(other.named_modules);
        self.paths.extend(other.paths);
        self.entries.extend(other.entries);
        self
    }

    fn touches_path(&self, path: &str, canonical: &str) -> bool {
        let below = |a: &str, b: &str| {
            let (a, b) = (a.trim_end_matches('/'), b.trim_end_matches('/'));
            a == b || a.strip_prefix(b).is_some_and(|r| r.starts_with('/'))
        };
        // A folder above may have been made on the way, or looks different by its time.
        let around = |t: &str| [path, canonical].iter().any(|p| below(t, p));
        let within = |t: &str| [path, canonical].iter().any(|p| below(p, t));
        self.paths.iter().any(|t| around(t) || within(t)) || self.entries.iter().any(|t| around(t))
    }
}

macro_rules! getter {
    ($name:ident, $probe:ident, $answer:ty) => {
        pub fn $name(&self, target: &str) -> Result<&$answer, Stop> {
            let probe = Probe::$probe(target.to_string());
            match self.answers.get(&probe) {
                Some(Answer::$probe(a)) => Ok(a),
                _ => Err(Stop::Need(vec![probe])),
            }
        }
    };
}

impl Observed {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn insert(&mut self, probe: Probe, answer: Answer) {
        self.ours |= probe.is_of_our_files();
        self.answers.insert(probe, answer);
    }
    pub fn has(&self, probe: &Probe) -> bool {
        self.answers.contains_key(probe)
    }
    pub fn get(&self, probe: &Probe) -> Option<&Answer> {
        self.answers.get(probe)
    }

    /// All that is known.
    pub fn iter(&self) -> impl Iterator<Item = (&Probe, &Answer)> {
        self.answers.iter()
    }

    getter!(path, Path, PathState);
    getter!(sha256, Sha256, Option<String>);
    getter!(content, Content, Content);
    getter!(package, Package, PackageState);
    getter!(unit, Unit, UnitState);
    getter!(user, User, Option<UserState>);
    getter!(shadow, Shadow, Option<String>);
    getter!(sysctl, Sysctl, SysctlState);
    getter!(script, Script, Output);
    getter!(kernel_module, KernelModule, KernelModuleState);

    pub fn groups(&self) -> Result<&[GroupState], Stop> {
        match self.answers.get(&Probe::Groups) {
            Some(Answer::Groups(g)) => Ok(g),
            _ => Err(Stop::Need(vec![Probe::Groups])),
        }
    }
    pub fn mounts(&self) -> Result<&[MountState], Stop> {
        match self.answers.get(&Probe::Mounts) {
            Some(Answer::Mounts(m)) => Ok(m),
            _ => Err(Stop::Need(vec![Probe::Mounts])),
        }
    }
    /// The running and the stored host name.
    pub fn hostname(&self) -> Result<(&str, Option<&str>), Stop> {
        match self.answers.get(&Probe::Hostname) {
            Some(Answer::Hostname { running, stored }) => Ok((running, stored.as_deref())),
            _ => Err(Stop::Need(vec![Probe::Hostname])),
        }
    }
    pub fn timezone(&self) -> Result<Option<&str>, Stop> {
        match self.answers.get(&Probe::Timezone) {
            Some(Answer::Timezone(z)) => Ok(z.as_deref()),
            _ => Err(Stop::Need(vec![Probe::Timezone])),
        }
    }
    /// A small text that this side fetches.
    pub fn text(&self, d: &Download) -> Result<&Result<String, FetchError>, Stop> {
        let probe = Probe::Text(d.clone());
        match self.answers.get(&probe) {
            Some(Answer::Text(r)) => Ok(r),
            _ => Err(Stop::Need(vec![probe])),
        }
    }
    /// A file that this side fetches.
    pub fn fetched(&self, d: &Download) -> Result<&Result<Fetched, FetchError>, Stop> {
        let probe = Probe::Fetched(d.clone());
        match self.answers.get(&probe) {
            Some(Answer::Fetched(r)) => Ok(r),
            _ => Err(Stop::Need(vec![probe])),
        }
    }
    /// The list of what is in an archive on this side.
    pub fn archive(&self, l: &Listing) -> Result<&Result<String, FetchError>, Stop> {
        let probe = Probe::Archive(l.clone());
        match self.answers.get(&probe) {
            Some(Answer::Archive(r)) => Ok(r),
            _ => Err(Stop::Need(vec![probe])),
        }
    }
    /// What is at a path of this side.
    pub fn here(&self, path: &std::path::Path) -> Result<&HereState, Stop> {
        let probe = Probe::Here(path.to_path_buf());
        match self.answers.get(&probe) {
            Some(Answer::Here(s)) => Ok(s),
            _ => Err(Stop::Need(vec![probe])),
        }
    }
    pub fn facts(&self) -> Result<&Value, Stop> {
        match self.answers.get(&Probe::Facts) {
            Some(Answer::Facts(f)) => Ok(f),
            _ => Err(Stop::Need(vec![Probe::Facts])),
        }
    }

    /// Throws away every answer that a change may have made untrue. Facts stay: they are of the run, not of a moment.
    pub fn forget(&mut self, touched: &Touches) {
        let stale: Vec<Probe> = self.answers.keys().filter(|p| self.is_touched(p, touched)).cloned().collect();
        for p in stale {
            self.answers.remove(&p);
        }
    }

    pub fn remove(&mut self, probe: &Probe) {
        self.answers.remove(probe);
    }

    /// Throws away what is known of this side's files: what is done by way of other hosts changes them too.
    pub fn forget_our_files(&mut self) {
        if std::mem::take(&mut self.ours) {
            self.answers.retain(|p, _| !p.is_of_our_files());
        }
    }

    /// Whether a change may have made what is known about this untrue.
    pub fn is_touched(&self, probe: &Probe, t: &Touches) -> bool {
        match self.answers.get(probe) {
            _ if matches!(probe, Probe::Facts) => return false,
            // What was fetched stays; what failed may go well the next time.
            Some(Answer::Text(r) | Answer::Archive(r)) => return t.everything && r.is_err(),
            Some(Answer::Fetched(r)) => return t.everything && r.is_err(),
            _ => {}
        }
        if t.everything {
            return true;
        }
        match probe {
            Probe::Path(p) | Probe::Sha256(p) | Probe::Content(p) => {
                let seen = match self.answers.get(&Probe::Path(p.clone())) {
                    Some(Answer::Path(s)) => Some(s),
                    _ => None,
                };
                // Without its canonical form a path may lead anywhere; a file with several names may be reached by another.
                !(t.paths.is_empty() && t.entries.is_empty())
                    && match seen {
                        None => true,
                        Some(s) => {
                            t.touches_path(p, &s.canonical)
                                || s.followed().is_some_and(|e| e.kind == EntryKind::File && e.links > 1)
                        }
                    }
            }
            Probe::Package(_) => t.packages,
            Probe::Unit(_) => t.units || t.packages,
            Probe::User(_) | Probe::Shadow(_) | Probe::Groups => t.users || t.packages,
            Probe::Sysctl(_) => t.sysctls || t.packages,
            Probe::KernelModule(name) => {
                let loaded = matches!(self.answers.get(probe), Some(Answer::KernelModule(s)) if s.loaded || s.built_in);
                t.modules || t.packages || (t.loads && !loaded) || t.named_modules.contains(name)
            }
            Probe::Mounts => t.mounts || t.units || t.packages,
            Probe::Hostname => t.touches_path("/etc/hostname", "/etc/hostname"),
            Probe::Timezone => t.touches_path("/etc/localtime", "/etc/localtime"),
            Probe::Script(_) => true,
            // What a step puts here it names as if it were there.
            Probe::Here(p) => {
                let p = p.to_string_lossy();
                t.touches_path(&p, &p)
            }
            Probe::Facts | Probe::Text(_) | Probe::Fetched(_) | Probe::Archive(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(paths: &[(&str, &str)]) -> Observed {
        let mut o = Observed::new();
        for (p, c) in paths {
            o.insert(
                Probe::Path(p.to_string()),
                Answer::Path(PathState { canonical: c.to_string(), ..Default::default() }),
            );
            o.insert(Probe::Sha256(p.to_string()), Answer::Sha256(None));
        }
        o
    }

    #[test]
    fn a_changed_path_leaves_the_others_known() {
        let mut o = seen(&[("/a/b", "/a/b"), ("/a/c", "/a/c"), ("/a", "/a"), ("/ab", "/ab")]);
        o.forget(&Touches::path("/a/b"));
        assert!(o.path("/a/b").is_err() && o.sha256("/a/b").is_err());
        assert!(o.path("/a/c").is_ok() && o.path("/ab").is_ok());
        assert!(o.path("/a").is_err(), "a directory may have been made on the way");
    }

    #[test]
    fn a_path_reached_through_a_link_is_forgotten() {
        let mut o = seen(&[("/var/run/x", "/run/x")]);
        o.forget(&Touches::path("/run/x"));
        assert!(o.path("/var/run/x").is_err());
    }

    #[test]
    fn unit_files_touch_units_and_a_script_is_always_forgotten() {
        let mut o = Observed::new();
        o.insert(Probe::Unit("a.service".into()), Answer::Unit(UnitState::default()));
        o.insert(Probe::Script("true".into()), Answer::Script(Output::default()));
        o.insert(Probe::Package("x".into()), Answer::Package(PackageState::default()));
        assert!(Touches::path("/usr/local/lib/systemd/system/a.service").units);
        o.forget(&Touches::path("/etc/systemd/system/a.service"));
        assert!(o.unit("a.service").is_err() && o.script("true").is_err() && o.package("x").is_ok());
        o.forget(&Touches::everything());
        assert!(o.package("x").is_err());
    }
}
