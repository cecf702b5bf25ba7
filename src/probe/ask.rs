//! One request for many probes: the script that asks, and the reading of what it prints.

use super::*;
use crate::host::Frame;
use crate::quote::shell_join;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Which probes were asked, in the order their answers come.
#[derive(Debug, Default)]
pub struct Asked {
    probes: Vec<Probe>,
    sequence: u64,
}

/// Appends the calls that answer all probes, one call a kind. `sequence` tells the request from others of a session.
pub fn ask(probes: &[Probe], sequence: u64, script: &mut String) -> Asked {
    // Most calls hand their targets on as arguments of one command, of which a system takes only so many.
    let mut call = |name: &str, targets: Vec<String>| {
        let mut rest = &targets[..];
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest.iter().take_while(|t| {
                size += t.len() + ARGUMENT_COST;
                size <= ARGUMENTS
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            let _ = writeln!(script, "{name} {}", shell_join(now));
            rest = later;
        }
    };
    let of = |pick: fn(&Probe) -> Option<&String>| -> Vec<String> { probes.iter().filter_map(pick).cloned().collect() };
    call("w_paths", of(|p| if let Probe::Path(t) = p { Some(t) } else { None }));
    call("w_sha", of(|p| if let Probe::Sha256(t) = p { Some(t) } else { None }));
    call("w_packages", of(|p| if let Probe::Package(t) = p { Some(t) } else { None }));
    call("w_units", of(|p| if let Probe::Unit(t) = p { Some(t).filter(|t| !is_template(t)) } else { None }));
    call("w_templates", of(|p| if let Probe::Unit(t) = p { Some(t).filter(|t| is_template(t)) } else { None }));
    call("w_users", of(|p| if let Probe::User(t) = p { Some(t) } else { None }));
    call("w_shadow", of(|p| if let Probe::Shadow(t) = p { Some(t) } else { None }));
    call(
        "w_sysctls",
        probes.iter().filter_map(|p| if let Probe::Sysctl(k) = p { Some(sysctl_path(k)) } else { None }).collect(),
    );
    for name in probes.iter().filter_map(|p| if let Probe::KernelModule(n) = p { Some(n) } else { None }) {
        let kernel = name.replace('-', "_");
        let pattern: String =
            name.chars().map(|c| if matches!(c, '-' | '_') { "[-_]".into() } else { c.to_string() }).collect();
        call("w_kmod", vec![name.clone(), kernel, pattern]);
    }
    // Its answers are numbered: one call, which hands nothing on.
    let contents = of(|p| if let Probe::Content(t) = p { Some(t) } else { None });
    if !contents.is_empty() {
        let _ = writeln!(script, "w_content {}", shell_join(&contents));
    }
    for (probe, name) in [
        (Probe::Groups, "w_groups"),
        (Probe::Mounts, "w_mounts"),
        (Probe::Hostname, "w_hostname"),
        (Probe::Timezone, "w_timezone"),
    ] {
        if probes.contains(&probe) {
            let _ = writeln!(script, "{name}");
        }
    }
    if probes.contains(&Probe::Facts) {
        script.push_str(super::facts::SCRIPT);
    }
    for (i, text) in scripts(probes).enumerate() {
        let id = format!("{sequence}p{i}");
        let _ = writeln!(
            script,
            "w_tmp && {{ (trap - PIPE HUP\n{text}\n) </dev/null >\"$w_dir/o{id}\" 2>\"$w_dir/e{id}\"\nw_result {id} $?; }}"
        );
    }
    Asked { probes: probes.to_vec(), sequence }
}

/// Whether a unit's name stands for others (`getty@.service`): it has a file and no state.
fn is_template(unit: &str) -> bool {
    unit.rsplit_once('.').is_some_and(|(name, _)| name.ends_with('@'))
}

/// What the arguments of one command may come to, in bytes; and what each costs besides its text.
const ARGUMENTS: usize = 256 << 10;
const ARGUMENT_COST: usize = 16;

fn scripts(probes: &[Probe]) -> impl Iterator<Item = &String> {
    probes.iter().filter_map(|p| if let Probe::Script(t) = p { Some(t) } else { None })
}

/// The file of a sysctl: dots part its levels, unless a slash came first (`net/ipv4/conf/eth0.1/forwarding`).
fn sysctl_path(key: &str) -> String {
    let first = key.find(['.', '/']).map(|i| key.as_bytes()[i]);
    let levels = if first == Some(b'/') {
        key.to_string()
    } else {
        key.chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect()
    };
    format!("/proc/sys/{levels}")
}

impl Asked {
    /// The answers in a reply's frames. A probe the host could not answer is answered by "nothing there".
    pub fn read(&self, frames: &[Frame<'_>]) -> Vec<(Probe, Answer)> {
        let mut named: HashMap<&str, Vec<&[u8]>> = HashMap::new();
        let mut ended: HashMap<&str, (i32, &[u8])> = HashMap::new();
        for f in frames {
            named.entry(f.head).or_default().push(f.body);
            if let ["rc", id, rc] = f.head.split(' ').collect::<Vec<_>>().as_slice() {
                ended.insert(id, (rc.parse().unwrap_or(255), f.body));
            }
        }
        let bodies = |head: &str| named.get(head).map_or(&[][..], |b| b.as_slice());
        // A call that was made several times gives one list.
        let body = |head: &str| bodies(head).concat();
        let text = |head: &str| String::from_utf8_lossy(&body(head)).into_owned();
        let entries = stats(&body("paths"));
        let targets = stats(&body("targets"));
        let links: HashMap<String, String> =
            fields(&body("links")).chunks_exact(2).map(|c| (c[0].clone(), c[1].clone())).collect();
        let mut canonical = fields(&body("canonical")).into_iter();
        let sums = sums(&body("sha256"));
        let packages = text("packages");
        let units = self.units(frames);
        let denied = fields(&body("denied"));
        let users = text("users");
        let shadow = text("shadow");
        let settings = sysctls(&text("sysctls"));
        let there = text("sysctls-there");
        let (mut contents, mut script) = (0, 0);

        let mut answers = Vec::with_capacity(self.probes.len());
        for probe in &self.probes {
            let answer = match probe {
                // No question to a host.
                Probe::Text(_) | Probe::Fetched(_) | Probe::Archive(_) | Probe::Here(_) => continue,
                Probe::Path(p) => Answer::Path(PathState {
                    entry: entries.get(p).cloned(),
                    target: targets.get(p).cloned(),
                    link: links.get(p).cloned(),
                    canonical: canonical.next().unwrap_or_else(|| p.clone()),
                    denied: denied.contains(p),
                }),
                Probe::Sha256(p) => Answer::Sha256(sums.get(p).cloned()),
                Probe::Content(_) => {
                    let i = contents;
                    contents += 1;
                    let of = |word: &str| bodies(&format!("{word} {i}")).first().copied();
                    Answer::Content(match (of("content"), of("absent")) {
                        (None, None) if of("denied").is_some() => Content::Denied,
                        (Some(b), _) if b.len() as u64 <= CONTENT_LIMIT => Content::Bytes(b.to_vec()),
                        (None, Some(_)) => Content::Absent,
                        _ => Content::Unavailable,
                    })
                }
                Probe::Package(name) => Answer::Package(package(name, &packages)),
                Probe::Unit(u) => Answer::Unit(units.get(u.as_str()).cloned().unwrap_or_default()),
                Probe::User(name) => Answer::User(user(name, &users)),
                Probe::Shadow(name) => Answer::Shadow(
                    shadow
                        .lines()
                        .map(|l| l.split(':').collect::<Vec<_>>())
                        .find(|f| f[0] == name && f.len() > 1)
                        .map(|f| f[1].to_string()),
                ),
                Probe::Groups => Answer::Groups(text("groups").lines().filter_map(group).collect()),
                Probe::Sysctl(key) => {
                    let path = sysctl_path(key);
                    Answer::Sysctl(match settings.get(&path) {
                        Some(v) => SysctlState::Value(v.clone()),
                        None if there.lines().any(|l| l == path) => SysctlState::Unreadable,
                        None => SysctlState::Absent,
                    })
                }
                Probe::Mounts => Answer::Mounts(text("mounts").lines().filter_map(mount).collect()),
                Probe::KernelModule(n) => Answer::KernelModule(kernel_module(&text(&format!("kmod {n}")))),
                Probe::Hostname => {
                    let t = text("hostname");
                    let mut lines = t.lines().map(|l| l.trim().to_string());
                    Answer::Hostname {
                        running: lines.next().unwrap_or_default(),
                        stored: lines.next().filter(|s| !s.is_empty()),
                    }
                }
                Probe::Timezone => {
                    let t = text("timezone");
                    Answer::Timezone(t.trim().split_once("zoneinfo/").map(|(_, z)| z.to_string()))
                }
                Probe::Facts => Answer::Facts(super::facts::read(&text)),
                Probe::Script(_) => {
                    let id = format!("{}p{script}", self.sequence);
                    script += 1;
                    let rc = ended.get(id.as_str());
                    let (rc, stdout) = rc.copied().unwrap_or((255, &[]));
                    Answer::Script(Output::new(rc, stdout, &body(&format!("err {id}"))))
                }
            };
            answers.push((probe.clone(), answer));
        }
        answers
    }

    /// Units by the names they were asked for: systemd answers for an alias with another. It shows them in order, and stops
    /// at one it refuses; then each has told of itself.
    fn units(&self, frames: &[Frame<'_>]) -> HashMap<&str, UnitState> {
        let all = self.probes.iter().filter_map(|p| if let Probe::Unit(u) = p { Some(u.as_str()) } else { None });
        let (templates, plain): (Vec<&str>, Vec<&str>) = all.partition(|u| is_template(u));
        let text = |f: &Frame<'_>| String::from_utf8_lossy(f.body).into_owned();
        let drop_ins: String = frames.iter().filter(|f| f.head == "dropins").map(text).collect();
        let mut found = HashMap::new();
        let mut rest = plain.as_slice();
        for f in frames {
            match f.head.split(' ').collect::<Vec<_>>().as_slice() {
                ["units", count] => {
                    let (now, later) = rest.split_at(count.parse().unwrap_or(0).min(rest.len()));
                    let states = units(&text(f), &drop_ins);
                    if states.len() == now.len() {
                        found.extend(now.iter().copied().zip(states));
                    }
                    rest = later;
                }
                ["unit", name] => {
                    if let Some(own) = plain.iter().find(|u| *u == name)
                        && let Some(state) = units(&text(f), &drop_ins).into_iter().next()
                    {
                        found.insert(own, state);
                    }
                }
                ["templates"] => {
                    let files = text(f);
                    if files.lines().next() == Some("systemd") {
                        found.extend(templates.iter().map(|t| (*t, template(t, &files))));
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// A template among the lines `name state preset`: it is never active itself.
fn template(name: &str, files: &str) -> UnitState {
    let file = files.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.split_whitespace().next());
    let load = match file {
        None => "not-found",
        Some(f) if f.starts_with("masked") => "masked",
        Some(_) => "loaded",
    };
    UnitState {
        load: load.into(),
        active: "inactive".into(),
        sub: "dead".into(),
        file: file.unwrap_or_default().into(),
        ..Default::default()
    }
}

/// Fields that end in NUL.
fn fields(bytes: &[u8]) -> Vec<String> {
    let mut v: Vec<String> = bytes.split(|b| *b == 0).map(|f| String::from_utf8_lossy(f).into_owned()).collect();
    v.pop();
    v
}

fn stats(bytes: &[u8]) -> HashMap<String, Entry> {
    fields(bytes)
        .chunks_exact(12)
        .filter_map(|f| {
            let raw = u32::from_str_radix(&f[1], 16).ok()?;
            let kind = match raw & 0o170000 {
                0o100000 => EntryKind::File,
                0o040000 => EntryKind::Directory,
                0o120000 => EntryKind::Link,
                _ => EntryKind::Other,
            };
            let entry = Entry {
                kind,
                mode: raw & 0o7777,
                uid: f[2].parse().ok()?,
                gid: f[3].parse().ok()?,
                owner: f[4].clone(),
                group: f[5].clone(),
                size: f[6].parse().ok()?,
                mtime: f[7].parse().ok()?,
                links: f[8].parse().ok()?,
                inode: f[9].clone(),
                times: Some(Box::new((f[10].parse().ok()?, f[11].parse().ok()?))),
            };
            Some((f[0].clone(), entry))
        })
        .collect()
}

fn sums(bytes: &[u8]) -> HashMap<String, String> {
    fields(bytes).into_iter().filter_map(|l| Some((l.get(66..)?.to_string(), l.get(..64)?.to_string()))).collect()
}

fn package(name: &str, lines: &str) -> PackageState {
    let (bare, arch) = name.split_once(':').map_or((name, None), |(n, a)| (n, Some(a)));
    let mut best = PackageState::default();
    for l in lines.lines() {
        let f: Vec<&str> = l.split('\t').collect();
        let [n, a, want, status, version] = f.as_slice() else { continue };
        if *n != bare || arch.is_some_and(|x| x != *a && x != "any") {
            continue;
        }
        let state = PackageState {
            installed: *status == "installed",
            config_files: *status == "config-files",
            held: *want == "hold",
            version: version.to_string(),
        };
        if state.installed || !best.installed {
            best = state;
        }
    }
    best
}

/// `drop_ins` are the files that are there. systemd looks for additions in folders it remembers, so that it does not see
/// one in a new folder until it reloads.
fn units(text: &str, drop_ins: &str) -> Vec<UnitState> {
    text.trim_matches('\n')
        .split("\n\n")
        .filter(|b| !b.trim().is_empty())
        .map(|block| {
            let get = |key: &str| {
                block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_string()
            };
            let folder = format!("/etc/systemd/system/{}.d/", get("Id"));
            let known = get("DropInPaths");
            let unseen =
                drop_ins.lines().any(|f| f.starts_with(&folder) && !known.split_whitespace().any(|known| known == f));
            UnitState {
                load: get("LoadState"),
                active: get("ActiveState"),
                sub: get("SubState"),
                file: get("UnitFileState"),
                needs_reload: get("NeedDaemonReload") == "yes" || (unseen && get("LoadState") == "loaded"),
                main_pid: get("MainPID").parse().unwrap_or(0),
                fragment: get("FragmentPath"),
            }
        })
        .collect()
}

fn user(name: &str, lines: &str) -> Option<UserState> {
    lines.lines().find_map(|l| {
        let f: Vec<&str> = l.split(':').collect();
        let [n, _, uid, gid, comment, home, shell] = f.as_slice() else { return None };
        // A number may have been asked for instead of a name.
        (*n == name || *uid == name).then(|| UserState {
            name: n.to_string(),
            uid: uid.parse().unwrap_or(0),
            gid: gid.parse().unwrap_or(0),
            comment: comment.to_string(),
            home: home.to_string(),
            shell: shell.to_string(),
        })
    })
}

fn group(line: &str) -> Option<GroupState> {
    let f: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = f.as_slice() else { return None };
    Some(GroupState {
        name: name.to_string(),
        gid: gid.parse().ok()?,
        members: members.split(',').filter(|m| !m.is_empty()).map(str::to_string).collect(),
    })
}

/// A line of mountinfo: number, parent, device, root, path, options, optional fields, `-`, type, source, options.
fn mount(line: &str) -> Option<MountState> {
    let (here, there) = line.split_once(" - ")?;
    let here: Vec<&str> = here.split(' ').collect();
    let [_, _, _, root, path, options, ..] = here[..] else { return None };
    let mut there = there.splitn(3, ' ');
    let (fstype, source) = (there.next()?, there.next()?);
    let all = options.split(',').chain(there.next().unwrap_or_default().split(','));
    Some(MountState {
        source: unescaped(source),
        root: unescaped(root),
        path: unescaped(path),
        fstype: fstype.to_string(),
        options: all.filter(|o| !o.is_empty()).map(str::to_string).collect(),
    })
}

/// Text of a mount table: blanks and the like are written as backslash and three octal digits.
pub fn unescaped(text: &str) -> String {
    let mut out = vec![];
    let mut rest = text.as_bytes();
    while let Some((b, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|d| *b == b'\\' && d.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*b);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn kernel_module(lines: &str) -> KernelModuleState {
    let mut s = KernelModuleState::default();
    for l in lines.lines() {
        let place = |t: &str| {
            let (file, line) = t.split_once(':')?;
            Some((file.to_string(), line.split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        match l {
            "loaded" => s.loaded = true,
            "builtin" => s.built_in = true,
            _ => {
                s.loads.extend(l.strip_prefix("load ").and_then(place));
                s.options.extend(l.strip_prefix("options ").and_then(place));
            }
        }
    }
    s
}

fn sysctls(lines: &str) -> HashMap<String, String> {
    let mut found: HashMap<String, String> = HashMap::new();
    for l in lines.lines() {
        if let Some((path, value)) = l.split_once(':') {
            let v = found.entry(path.to_string()).or_default();
            if !v.is_empty() {
                v.push('\n');
            }
            v.push_str(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_go_over_only_when_they_are_asked_for() {
        let asked = |p: &[Probe]| {
            let mut script = String::new();
            ask(p, 1, &mut script);
            script
        };
        assert!(!asked(&[Probe::Mounts]).contains("os-release"));
        assert!(asked(&[Probe::Mounts, Probe::Facts]).contains("os-release"));
        assert!(!include_str!("../host/prelude.sh").contains("os-release"), "sent with every session");
    }

    #[test]
    fn a_sysctl_is_found_by_either_notation() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn a_kernel_module_and_what_loads_it() {
        let s = kernel_module("builtin\nload /etc/modules:a  \noptions /etc/modprobe.d/a.conf:  options  a b=1\n");
        assert!(s.built_in && !s.loaded);
        assert_eq!(s.loads, [("/etc/modules".to_string(), "a".to_string())]);
        assert_eq!(s.options, [("/etc/modprobe.d/a.conf".to_string(), "options a b=1".to_string())]);
    }

    #[test]
    fn a_line_of_mountinfo() {
        let m = mount(r"36 35 98:0 /a /mnt/x\040y rw,noatime master:1 - ext3 /dev/root rw,errors=continue").unwrap();
        assert_eq!((m.source.as_str(), m.root.as_str(), m.path.as_str()), ("/dev/root", "/a", "/mnt/x y"));
        assert_eq!((m.fstype.as_str(), m.options.join(",").as_str()), ("ext3", "rw,noatime,rw,errors=continue"));
        assert_eq!((unescaped(r"a\134b\9"), mount("x")), (r"a\b\9".to_string(), None));
    }

    #[test]
    fn an_addition_systemd_has_not_seen_needs_a_reload() {
        let show = "Id=a.service\nLoadState=loaded\nNeedDaemonReload=no\nDropInPaths=/etc/systemd/system/a.service.d/1.conf\n\n\
                    Id=b.service\nLoadState=loaded\nNeedDaemonReload=no\nDropInPaths=\n";
        let reload = |files: &str| units(show, files).iter().map(|u| u.needs_reload).collect::<Vec<_>>();
        assert_eq!(reload("/etc/systemd/system/a.service.d/1.conf\n"), [false, false]);
        assert_eq!(reload("/etc/systemd/system/b.service.d/x.conf\n"), [false, true]);
    }

    #[test]
    fn units_are_read_by_name() {
        let unit = |n: &str| Probe::Unit(n.into());
        let probes =
            [unit("a.service"), unit("getty@.service"), unit("b.service"), unit("no@.service"), unit("c.service")];
        let mut script = String::new();
        let asked = ask(&probes, 1, &mut script);
        assert_eq!(script, "w_units a.service b.service c.service\nw_templates getty@.service no@.service\n");
        let frame = |head: &'static str, body: &'static str| Frame { head, body: body.as_bytes() };
        let loads = |frames: &[Frame<'_>]| -> Vec<String> {
            let of = |a: Answer| if let Answer::Unit(u) = a { format!("{} {}", u.load, u.file) } else { panic!() };
            asked.read(frames).into_iter().map(|(_, a)| of(a)).collect()
        };
        let templates = frame("templates", "systemd\ngetty@.service enabled enabled\n");
        // An alias has the name of another.
        let all =
            "Id=x.service\nLoadState=loaded\n\nId=b.service\nLoadState=masked\n\nId=c.service\nLoadState=not-found\n";
        assert_eq!(
            loads(&[frame("units 3", all), frame("dropins", ""), templates]),
            ["loaded ", "loaded enabled", "masked ", "not-found ", "not-found "]
        );
        let templates = frame("templates", "");
        let each = [
            frame("units 3", "Id=x.service\nLoadState=loaded\n"),
            frame("unit a.service", "Id=x.service\nLoadState=loaded\n"),
            frame("unit b.service", ""),
            frame("unit c.service", "Id=c.service\nLoadState=loaded\n"),
            templates,
        ];
        assert_eq!(loads(&each), ["loaded ", " ", " ", " ", "loaded "]);
    }

    #[test]
    fn a_half_installed_package_is_not_installed() {
        let lines = "a\tamd64\tinstall\tinstalled\t1.2\nb\tamd64\tinstall\thalf-configured\t1\nc\tamd64\tdeinstall\tconfig-files\t1\n";
        assert!(package("a", lines).installed && package("a:amd64", lines).installed);
        assert!(!package("a:arm64", lines).installed && !package("b", lines).installed);
        assert!(package("c", lines).config_files && !package("d", lines).installed);
    }
}
