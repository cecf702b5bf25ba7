//! A project in text, written into a folder of its own and run.
//!
//! ```text
//! === name                          a case begins
//! args: -e x=1                      more arguments; `@DIR` is the project's folder
//! playbook: site                    instead of `site.yml`
//! only: apply                       only this verb
//! without: place hint               its messages have no place, or no hint
//! --- roles/web/tasks/main.yml      a file begins
//! --- vault.yml.age (encrypted)     its text is encrypted before it is written
//! --- dir/ (folder)                 an empty folder
//! --- logo.png (hex)                bytes as hexadecimal digits
//! --- hosts.sh (executable)         a program
//! ```
//! `@PORT` stands for the port at which the test listens in place of the host, `@AGE` for an encrypted `hunter2`, `@BOUND` for
//! one that belongs to `password`, `@PUBLIC` and `@STRANGER` for the project's public key and a stranger's. Without
//! an inventory of its own a case has `hosts.yml` with one host, `web1`; its playbook is `site.yml`.

use base64::Engine as _;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use windlass::vault::bound::seal;
use windlass::vault::note::Place;
use windlass::vault::{Recipient, Recipients, encrypt_value, keygen};

const HOSTS: &str = "all:\n  hosts:\n    web1: {ansible_host: 127.0.0.1, ansible_port: @PORT}\n";

pub struct Case {
    pub name: String,
    /// One mistake is one message.
    pub one: bool,
    args: Vec<String>,
    playbook: String,
    only: Option<String>,
    without: Vec<String>,
    files: Vec<(String, String)>,
}

pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// Connections the host saw.
    pub contacts: usize,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken/cases")
}

/// The names of the files of cases.
pub fn areas() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    entries.map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// The cases of a file.
pub fn read(area: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join(format!("{area}.txt"))).unwrap();
    let cases: Vec<Case> = text.split("=== ").skip(1).map(|t| parse(t, area)).collect();
    for (i, c) in cases.iter().enumerate() {
        assert!(!cases[..i].iter().any(|d| d.name == c.name), "{area}: two cases are called {}", c.name);
    }
    cases
}

fn parse(text: &str, area: &str) -> Case {
    let (name, rest) = text.split_once('\n').unwrap();
    let one = area != "several";
    let mut case = Case {
        name: name.into(),
        one,
        args: vec![],
        playbook: "site.yml".into(),
        only: None,
        without: vec![],
        files: vec![],
    };
    for line in rest.split_inclusive('\n') {
        let words = |t: &str| t.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        if let Some(file) = line.strip_prefix("--- ") {
            case.files.push((file.trim_end().into(), String::new()));
        } else if let Some((_, body)) = case.files.last_mut() {
            body.push_str(line);
        } else if let Some(a) = line.strip_prefix("args: ") {
            case.args = words(a);
        } else if let Some(p) = line.strip_prefix("playbook: ") {
            case.playbook = p.trim().into();
        } else if let Some(v) = line.strip_prefix("only: ") {
            case.only = Some(v.trim().into());
        } else if let Some(w) = line.strip_prefix("without: ") {
            case.without = words(w);
        } else {
            assert!(line.trim().is_empty(), "{area}, {name}: what is `{line}`?");
        }
    }
    // A blank line before the next case belongs to nobody.
    if let Some((_, body)) = case.files.last_mut()
        && body.ends_with("\n\n")
    {
        body.pop();
    }
    case
}

/// Keys for the whole test: the project's, and a stranger's.
struct Keys {
    dir: tempfile::TempDir,
    ours: Recipients,
    age: String,
    bound: String,
    public: String,
    stranger: String,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let public = keygen(&dir.path().join("ours.txt")).unwrap();
        let stranger = keygen(&dir.path().join("other.txt")).unwrap();
        let ours = Recipients::new([Recipient::parse(&public).unwrap()]).unwrap();
        let age = encrypt_value("hunter2", &ours).unwrap();
        let bound = seal("hunter2", &ours, &Place { file: None, key: "password".into() }).unwrap();
        Keys { dir, ours, age, bound, public, stranger }
    })
}

impl Case {
    pub fn verbs(&self) -> Vec<&str> {
        self.only.as_deref().map_or_else(|| vec!["check", "apply"], |v| vec![v])
    }

    pub fn expects(&self, what: &str) -> bool {
        !self.without.iter().any(|w| w == what)
    }

    /// Runs a verb on the project.
    pub fn run(&self, verb: &str) -> Outcome {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let host = listener();
        let port = host.local_addr().unwrap().port().to_string();
        let has = |p: &str| self.files.iter().any(|(f, _)| f.split(' ').next() == Some(p));
        let inventory = !has("hosts.yml") && !has("hosts.ini") && !self.args.iter().any(|a| a == "-i");
        if inventory {
            write(&root, "hosts.yml", HOSTS, &port);
        }
        self.files.iter().for_each(|(f, body)| write(&root, f, body, &port));
        let mut c = Command::new(env!("CARGO_BIN_EXE_windlass"));
        c.current_dir(&root)
            .env_clear()
            .env("HOME", root.join("home"))
            .env("NO_COLOR", "1")
            .args([verb, &self.playbook]);
        if !self.args.iter().any(|a| a == "-i" || a == "--without-inventory") {
            c.args(["-i", if has("hosts.ini") { "hosts.ini" } else { "hosts.yml" }]);
        }
        for a in self.args.iter().filter(|a| *a != "--without-inventory") {
            let keys = keys().dir.path().display().to_string();
            c.arg(a.replace("@DIR", &root.display().to_string()).replace("@KEYS", &keys).replace("@PORT", &port));
        }
        let out = c.stdin(Stdio::null()).output().unwrap();
        let tidy = |b: Vec<u8>| {
            String::from_utf8(b)
                .unwrap()
                .replace(&format!("{}/", root.display()), "")
                .replace(&root.display().to_string(), "@DIR")
                .replace(&keys().dir.path().display().to_string(), "@KEYS")
                .replace(&port, "@PORT")
                .split_inclusive("age1")
                .enumerate()
                .map(|(i, t)| {
                    if i == 0 {
                        t.to_string()
                    } else {
                        t.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).into()
                    }
                })
                .collect::<String>()
        };
        let contacts = std::iter::from_fn(|| match host.accept() {
            Ok(_) => Some(()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => panic!("{e}"),
        });
        let contacts = contacts.count();
        Outcome { code: out.status.code().unwrap_or(-1), stdout: tidy(out.stdout), stderr: tidy(out.stderr), contacts }
    }
}

/// Someone at the host's address, at a port of as many digits as `@PORT` has letters.
fn listener() -> TcpListener {
    loop {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        if l.local_addr().unwrap().port() >= 10_000 {
            l.set_nonblocking(true).unwrap();
            return l;
        }
    }
}

fn write(root: &Path, file: &str, body: &str, port: &str) {
    let (name, how) = file.split_once(' ').unwrap_or((file, ""));
    let path = root.join(name);
    if how == "(folder)" {
        return std::fs::create_dir_all(path).unwrap();
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let age = |indent: &str| keys().age.trim_end().replace('\n', &format!("\n{indent}"));
    let bound = keys().bound.trim_end().replace('\n', "\n  ");
    let mut text = body
        .replace("@PORT", port)
        .replace("  @AGE", &format!("  {}", age("  ")))
        .replace("  @BOUND", &format!("  {bound}"))
        .replace("@PUBLIC", &keys().public)
        .replace("@STRANGER", &keys().stranger);
    match how {
        "" => {}
        "(executable)" => {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::write(&path, text).unwrap();
            return std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        "(encrypted)" => text = encrypt_value(&text, &keys().ours).unwrap(),
        "(truncated)" => {
            let whole = encrypt_value(&text, &keys().ours).unwrap();
            text = whole.lines().take(3).map(|l| format!("{l}\n")).collect();
        }
        "(damaged)" => {
            let whole = encrypt_value(&text, &keys().ours).unwrap();
            let lines: Vec<&str> = whole.trim_end().lines().collect();
            let coder = base64::engine::general_purpose::STANDARD;
            let mut body = coder.decode(lines[1..lines.len() - 1].concat()).unwrap();
            // The last byte belongs to the sum over the content: armor and header stay whole.
            *body.last_mut().unwrap() ^= 1;
            let coded = coder.encode(body);
            let wrapped = coded.as_bytes().chunks(64).map(|c| String::from_utf8_lossy(c).into_owned());
            let all: Vec<String> =
                [lines[0].to_string()].into_iter().chain(wrapped).chain([lines[lines.len() - 1].to_string()]).collect();
            text = all.join("\n") + "\n";
        }
        "(hex)" => {
            let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
            let byte = |c: &[char]| u8::from_str_radix(&c.iter().collect::<String>(), 16).unwrap();
            return std::fs::write(path, digits.chunks(2).map(byte).collect::<Vec<_>>()).unwrap();
        }
        other => panic!("what is {other}?"),
    }
    std::fs::write(path, text).unwrap();
}
