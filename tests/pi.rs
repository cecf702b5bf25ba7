//! The role raspberry_pi on copies of what boards and systems look like: trees of /boot, /proc, /sys and /etc in
//! tests/fixtures/pi. `before` is the machine as it comes, `after` holds every file that is another one or a new one
//! when the role is through. Nothing outside the copy is read or written.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BOARDS: &[&str] = &[
    "cm4-ubuntu2510-64",
    "pc-debian12",
    "pi3b-debian12-64",
    "pi3b-raspios11-32",
    "pi3b-raspios11-old",
    "pi3b-ubuntu2404-64",
    "pi4b-debian12-64",
    "pi4b-raspios11-64",
    "pi4b-raspios12-32",
    "pi4b-ubuntu2204-64",
    "pi5-raspios12-64",
    "pi5-raspios13-64",
    "pi5-ubuntu2510-64",
    "rock5-debian12",
    "zero2-raspios12-64",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pi")
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq)]
enum Entry {
    File(Vec<u8>),
    Link(PathBuf),
}

type Tree = BTreeMap<PathBuf, Entry>;

fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                found.insert(name, Entry::Link(fs::read_link(path).unwrap()));
            } else {
                found.insert(name, Entry::File(fs::read(path).unwrap()));
            }
        }
    }
    found
}

/// The files as text, for messages.
fn shown(tree: &Tree) -> String {
    tree.iter()
        .map(|(path, entry)| match entry {
            Entry::File(body) => format!("{}: {:?}\n", path.display(), String::from_utf8_lossy(body)),
            Entry::Link(to) => format!("{} -> {}\n", path.display(), to.display()),
        })
        .collect()
}

/// A copy of a board's tree, and a project that applies the role to it.
struct Machine {
    dir: tempfile::TempDir,
}

/// What a run did.
struct Ran {
    code: i32,
    changed: u64,
    /// Handlers that changed something, in their order.
    handlers: Vec<String>,
    text: String,
}

impl Machine {
    fn of(board: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let m = Machine { dir };
        for (path, entry) in tree(&fixtures().join(board).join("before")) {
            m.put(&path, &entry);
        }
        fs::create_dir(m.path("playbooks")).unwrap();
        let playbook = "- phase: pi\n  hosts: all\n  connection: local\n  roles: [raspberry_pi]\n";
        fs::write(m.path("playbooks/pi.yml"), playbook).unwrap();
        fs::write(m.path("hosts.yml"), "all: {hosts: {pi: }}\n").unwrap();
        std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("roles"), m.path("roles")).unwrap();
        let own = fixtures().join(board).join("vars.yml");
        let own = fs::read_to_string(own).unwrap_or_default();
        fs::write(m.path("vars.yml"), format!("raspberry_pi_root: {}\n{own}", m.root().display())).unwrap();
        m
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn root(&self) -> PathBuf {
        self.path("root")
    }
    fn put(&self, path: &Path, entry: &Entry) {
        let to = self.root().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match entry {
            Entry::File(body) => fs::write(to, body).unwrap(),
            Entry::Link(target) => std::os::unix::fs::symlink(target, to).unwrap(),
        }
    }
    fn write(&self, path: &str, text: &str) {
        self.put(Path::new(path), &Entry::File(text.into()));
    }
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }
    fn run(&self, verb: &str, more: &[&str]) -> Ran {
        let out = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .args([verb, "playbooks/pi.yml", "-i", "hosts.yml", "--format", "json", "-e", "@vars.yml"])
            .args(more)
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("RUST_BACKTRACE", "0")
            .env_remove("WINDLASS_INVENTORY")
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let events: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let of = |kind: &'static str| events.iter().filter(move |e| e["event"] == kind);
        let handlers = of("step_ended").filter(|e| e["handler"] == true && e["outcome"] == "changed");
        Ran {
            code: out.status.code().unwrap_or(-1),
            changed: of("ended").filter_map(|e| e["hosts"]["pi"]["changed"].as_u64()).sum(),
            handlers: handlers.filter_map(|e| Some(e["task"].as_str()?.to_string())).collect(),
            text,
        }
    }
    fn apply(&self) -> Ran {
        self.run("apply", &[])
    }
}

impl Ran {
    #[track_caller]
    fn fine(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.text);
        self
    }
    #[track_caller]
    fn refuses(self, why: &str) {
        assert!(self.code == 1 && self.text.contains(why), "expected `{why}` in:\n{}", self.text);
    }
}

fn is_backup(path: &Path) -> bool {
    path.to_string_lossy().ends_with('~')
}

/// Applies the role, and again; the tree must be exactly what the fixture says, with a backup of every file of /boot and
/// of fstab that was edited.
#[track_caller]
fn becomes_what_it_should(board: &str, handlers: &[&str]) {
    let m = Machine::of(board);
    let before = tree(&m.root());
    let plan = m.run("plan", &[]);
    assert_eq!(tree(&m.root()), before, "{board}: a plan changed something");

    let first = m.apply().fine();
    let mut expected = before.clone();
    let after = tree(&fixtures().join(board).join("after"));
    expected.extend(after.clone());
    let now = tree(&m.root());
    let (backups, files): (Tree, Tree) = now.clone().into_iter().partition(|(p, _)| is_backup(p));
    assert!(files == expected, "{board} is\n{}\nand should be\n{}", shown(&files), shown(&expected));

    let edited = |p: &Path| p.starts_with("boot") || p.ends_with("fstab");
    for (path, _) in after.iter().filter(|(p, _)| before.contains_key(*p) && edited(p)) {
        let named = |b: &Path| b.to_string_lossy().starts_with(&format!("{}.", path.display()));
        let kept: Vec<&Entry> = backups.iter().filter(|(b, _)| named(b)).map(|(_, e)| e).collect();
        assert_eq!(kept, [&before[path]], "{board}: the backup of {}", path.display());
    }
    let named: Vec<String> = handlers.iter().map(|h| format!("raspberry_pi : {h}")).collect();
    assert_eq!(first.handlers, named, "{board}: {}", first.text);
    assert_eq!(plan.code, if first.changed > 0 { 2 } else { 0 }, "{}", plan.text);

    assert_eq!(m.apply().fine().changed, 0, "{board}: a second run changed something");
    assert_eq!(tree(&m.root()), now, "{board}");
}

const NOTE: &str = "Note that a reboot is due";

macro_rules! boards {
    ($($test:ident: $board:literal $handlers:expr;)*) => {
        $(#[test] fn $test() { becomes_what_it_should($board, &$handlers); })*
        const TESTED: &[&str] = &[$($board),*];
    };
}

boards! {
    raspberry_pi_os_11_of_32_bits: "pi3b-raspios11-32" [NOTE];
    raspberry_pi_os_11_of_64_bits_with_a_fan_and_a_watchdog: "pi4b-raspios11-64" [NOTE];
    raspberry_pi_os_12_of_32_bits: "pi4b-raspios12-32" [NOTE];
    raspberry_pi_os_12_on_a_pi_5_with_nvme: "pi5-raspios12-64" [NOTE];
    raspberry_pi_os_12_with_a_command_line_of_its_own: "zero2-raspios12-64" [NOTE];
    // The controller is in cgroup.controllers and not in /proc/cgroups: the command line is left alone, nobody reboots.
    raspberry_pi_os_13_has_the_controller: "pi5-raspios13-64" [];
    // Known by /proc/cpuinfo; control groups of the first version.
    raspberry_pi_os_11_with_an_old_kernel: "pi3b-raspios11-old" [NOTE];
    debian_writes_its_boot_files_anew: "pi4b-debian12-64" [NOTE];
    debian_with_the_controller_switched_off_by_hand: "pi3b-debian12-64" [NOTE];
    ubuntu_22_04_on_control_groups_v1: "pi4b-ubuntu2204-64" [NOTE];
    ubuntu_24_04: "pi3b-ubuntu2404-64" [NOTE];
    ubuntu_25_10_boots_by_trial: "pi5-ubuntu2510-64" [NOTE];
    ubuntu_25_10_without_its_folder: "cm4-ubuntu2510-64" [NOTE];
    a_computer: "pc-debian12" [];
    another_board: "rock5-debian12" [];
}

#[test]
fn every_board_is_tested() {
    let mut there: Vec<String> =
        fs::read_dir(fixtures()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    assert_eq!(there, BOARDS);
    let mut tested = TESTED.to_vec();
    tested.sort();
    assert_eq!(tested, BOARDS);
}

#[test]
fn the_edited_line_stays_one_line_and_has_its_words_last() {
    for board in BOARDS {
        let (before, after) =
            (tree(&fixtures().join(board).join("before")), tree(&fixtures().join(board).join("after")));
        for (path, now) in after.iter().filter(|(p, _)| p.starts_with("boot") && !p.ends_with("config.txt")) {
            let (Entry::File(old), Entry::File(new)) = (&before[path], now) else { panic!("{board}: {path:?}") };
            let (old, new) = (String::from_utf8_lossy(old).into_owned(), String::from_utf8_lossy(new).into_owned());
            assert_eq!(new.ends_with('\n'), old.ends_with('\n'), "{board}");
            assert_eq!(new.trim_end_matches('\n').lines().count(), 1, "{board}: {new}");
            assert!(new.starts_with(old.trim_end_matches('\n')), "{board}: {new}");
            let enabled = new.rfind("cgroup_enable=memory");
            assert!(new.rfind("cgroup_disable=memory") <= enabled, "{board}: {new}");
        }
    }
}

#[test]
fn a_module_package_only_where_the_kernel_needs_one() {
    for (version, wanted) in [
        ("20.04", "[]"),
        ("20.10", "[\"linux-modules-extra-raspi\"]"),
        ("22.04", "[\"linux-modules-extra-raspi\"]"),
        ("23.10", "[\"linux-modules-extra-raspi\"]"),
        ("24.04", "[]"),
    ] {
        let m = Machine::of("pi4b-ubuntu2204-64");
        m.write("etc/os-release", &format!("ID=ubuntu\nVERSION_ID=\"{version}\"\n"));
        let playbook = fs::read_to_string(m.path("playbooks/pi.yml")).unwrap();
        let look = "  tasks:\n    - debug: {msg: 'packages {{json raspberry_pi_is.packages}}'}\n";
        fs::write(m.path("playbooks/pi.yml"), playbook + look).unwrap();
        let ran = m.apply().fine();
        let says: Vec<Value> = ran.text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let said = says.iter().any(|e| e["parts"][0]["say"] == format!("packages {wanted}"));
        assert!(said, "{version}: {}", ran.text);
    }
}

#[test]
fn words_that_were_taken_out_come_back_and_nothing_else_changes() {
    let m = Machine::of("pi4b-raspios12-32");
    m.apply().fine();
    let files = || -> Tree { tree(&m.root()).into_iter().filter(|(p, _)| !is_backup(p)).collect() };
    let wanted = files();
    let line = m.read("boot/firmware/cmdline.txt");
    m.write("boot/firmware/cmdline.txt", &line.replace(" cgroup_enable=memory", ""));
    assert_eq!(m.apply().fine().changed, 1);
    assert!(files() == wanted, "{}", shown(&files()));
}

#[test]
fn after_the_reboot_there_is_nothing_left_to_do() {
    let m = Machine::of("pi4b-raspios12-32");
    m.apply().fine();
    // Somebody takes the note away without a reboot: it is due all the same.
    fs::remove_file(m.root().join("run/reboot-required")).unwrap();
    assert_eq!(m.apply().fine().handlers, [format!("raspberry_pi : {NOTE}")]);
    fs::remove_file(m.root().join("run/reboot-required")).unwrap();
    m.write("proc/cmdline", &m.read("boot/firmware/cmdline.txt"));
    m.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    assert_eq!(m.apply().fine().changed, 0);
    assert!(!m.root().join("run/reboot-required").exists());
}

#[test]
fn bad_ground_is_refused_before_anything_is_changed() {
    let m = Machine::of("pi3b-ubuntu2404-64");
    m.write("boot/firmware/cmdline.txt", "console=tty1 root=LABEL=writable\nrootwait\n");
    let before = tree(&m.root());
    m.apply().refuses("the boot command line must be one line: put /boot/firmware/cmdline.txt right by hand");
    assert_eq!(tree(&m.root()), before);

    fs::remove_file(m.root().join("boot/firmware/cmdline.txt")).unwrap();
    m.apply().refuses("no cmdline.txt was found: is the boot partition mounted?");

    let m = Machine::of("pi4b-raspios12-32");
    let before = tree(&m.root());
    let vars = r#"{"raspberry_pi_boot_from": ["usb", "nvme"]}"#;
    m.run("apply", &["-e", vars]).refuses("the root file system is on /dev/mmcblk0p2 (sd)");
    assert_eq!(tree(&m.root()), before);
}
