//! Answers what helpers ask of the world outside their template.

use super::helpers::{Ask, hashed, salt, token};
use super::{Found, Lookup, TemplateError, Templates, Trouble};
use serde_json::{Value, json};
use std::cell::Cell;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Why there is no answer.
pub enum No {
    /// Nothing is there: `default` may mend it.
    Thing(String),
    Trouble(Trouble),
}

fn error(message: String, hint: &str) -> No {
    No::Trouble(Trouble::Error(TemplateError::new(message).hint(hint)))
}

/// The answer to what was asked.
pub fn answer(ask: &Ask, templates: &Templates, lookup: &dyn Lookup) -> Result<Value, No> {
    match ask {
        Ask::Variable(name) => match lookup.get(name, &[]) {
            Found::Value(v) => Ok(v),
            Found::Undefined => Err(No::Thing(format!("there is no variable `{name}`"))),
            Found::Unknown(why) => Err(No::Trouble(Trouble::Unknown(why))),
            Found::Broken(e) => Err(No::Trouble(Trouble::Error(e))),
        },
        Ask::File(path) => Ok(json!(read(&find(path, "files", lookup)?)?)),
        Ask::Template(path) => {
            let text = read(&find(path, "templates", lookup)?)?;
            nested(path, || templates.render_file(Path::new(path), &text, &vec![], lookup))
        }
        Ask::FirstFound(paths) => paths
            .iter()
            .find_map(|p| find(p, "files", lookup).or_else(|_| find(p, "templates", lookup)).ok())
            .map(|p| json!(p.display().to_string()))
            .ok_or_else(|| No::Thing(format!("none of these files is there: {}", paths.join(", ")))),
        Ask::Glob(pattern) => Ok(json!(glob(pattern, lookup))),
        Ask::Password { .. } => password(ask, lookup),
    }
}

/// The folders in which a relative path is searched, the first first.
pub fn folders(kind: &str, lookup: &dyn Lookup) -> Vec<PathBuf> {
    let mut all = vec![];
    for name in ["role_path", "playbook_dir"] {
        if let Found::Value(Value::String(dir)) = lookup.get(name, &[]) {
            all.push(Path::new(&dir).join(kind));
            all.push(PathBuf::from(dir));
        }
    }
    all
}

fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn find(path: &str, kind: &str, lookup: &dyn Lookup) -> Result<PathBuf, No> {
    let given = home(path);
    if given.is_absolute() {
        return if given.is_file() {
            Ok(given)
        } else {
            Err(No::Thing(format!("there is no file `{path}` on this machine")))
        };
    }
    let folders = folders(kind, lookup);
    folders.iter().map(|f| f.join(&given)).find(|p| p.is_file()).ok_or_else(|| {
        let places: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        No::Thing(format!("there is no file `{path}` in {}", places.join(", ")))
    })
}

/// More than a template can use; a device would never end.
const LARGEST: u64 = 16 << 20;

pub fn read(path: &Path) -> Result<String, No> {
    let shown = path.display();
    if path.extension().is_some_and(|e| e == "age") {
        return Err(error(
            format!("`{shown}` is encrypted"),
            "give its content as a variable in a file of variables that ends in .age: that is opened, and never shown",
        ));
    }
    match std::fs::metadata(path) {
        Ok(m) if m.len() > LARGEST => {
            return Err(error(format!("`{shown}` is larger than 16 MiB"), "copy it with the module `copy`"));
        }
        _ => {}
    }
    let bytes = crate::source::read_regular(path)
        .map_err(|e| error(format!("cannot read `{shown}`: {e}"), "look at its rights"))?;
    String::from_utf8(bytes)
        .map_err(|_| error(format!("`{shown}` is not UTF-8 text"), "copy it with the module `copy`"))
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Renders a template within a template, not without end.
fn nested(path: &str, render: impl FnOnce() -> Result<String, Trouble>) -> Result<Value, No> {
    if DEPTH.get() >= 8 {
        return Err(error(format!("`{path}` leads to itself"), "a template cannot hold itself"));
    }
    DEPTH.set(DEPTH.get() + 1);
    let result = render();
    DEPTH.set(DEPTH.get() - 1);
    result.map(|s| json!(s)).map_err(|t| {
        No::Trouble(match t {
            Trouble::Error(mut e) => {
                e.message = format!("{} (in the template `{path}`)", e.message);
                (e.at, e.len) = (None, None);
                Trouble::Error(e)
            }
            later => later,
        })
    })
}

fn glob(pattern: &str, lookup: &dyn Lookup) -> Vec<String> {
    let given = home(pattern);
    let name = given.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = given.parent().unwrap_or(Path::new(""));
    let places = if given.is_absolute() {
        vec![parent.to_path_buf()]
    } else {
        folders("files", lookup).iter().map(|f| f.join(parent)).collect()
    };
    for place in places {
        let entries = std::fs::read_dir(&place).into_iter().flatten().flatten();
        let mut found: Vec<String> = entries
            .filter(|e| e.path().is_file() && matches(&name, &e.file_name().to_string_lossy()))
            .map(|e| e.path().display().to_string())
            .collect();
        if !found.is_empty() {
            found.sort();
            return found;
        }
    }
    vec![]
}

/// A name that begins with a dot is matched by a pattern that does.
fn matches(pattern: &str, name: &str) -> bool {
    (!name.starts_with('.') || pattern.starts_with('.')) && crate::glob::matches(pattern, name)
}

/// One at a time: all hosts that ask for the same password must get the same.
static MAKING: Mutex<()> = Mutex::new(());

/// A password as a file keeps it: with the salt of its hash behind it, if it is handed on as one.
struct Kept {
    plain: String,
    salt: Option<String>,
}

impl Kept {
    fn of(text: &str) -> Kept {
        let line = text.lines().next().unwrap_or_default();
        match line.rsplit_once(" salt=") {
            Some((plain, salt)) => Kept { plain: plain.into(), salt: Some(salt.into()) },
            None => Kept { plain: line.into(), salt: None },
        }
    }
}

fn password(ask: &Ask, lookup: &dyn Lookup) -> Result<Value, No> {
    let Ask::Password { path, length, chars, encrypt, seed } = ask else { return Ok(Value::Null) };
    let given = home(path);
    let full = match lookup.get("playbook_dir", &[]) {
        Found::Value(Value::String(dir)) if !given.is_absolute() => Path::new(&dir).join(given),
        _ => given,
    };
    let shown = full.display().to_string();
    let unwritable = |e: &dyn std::fmt::Display| {
        error(format!("cannot keep a password in `{shown}`: {e}"), "name a file in a folder that you may write to")
    };
    let chance = |_| unwritable(&"this machine gives no random bytes");
    // Ansible's way to say that it is not kept; the device itself is left alone.
    let keeps = full != Path::new("/dev/null");
    let _one = MAKING.lock();
    let old = if keeps && full.exists() { Some(Kept::of(&read(&full)?)) } else { None };
    let lacks = old.as_ref().is_none_or(|k| encrypt.is_some() && k.salt.is_none());
    // What a seed gives without any salt is no matter of chance.
    let certain = !keeps && seed.is_some() && encrypt.is_none();
    if lacks && !certain && !matches!(lookup.get("ansible_check_mode", &[]), Found::Value(Value::Bool(false))) {
        return Err(No::Trouble(Trouble::Unknown(format!("the password in `{shown}` is made by apply"))));
    }
    let exists = old.is_some();
    let mut kept = match old {
        Some(k) => k,
        None => Kept { plain: token(*length, chars, seed.as_deref()).map_err(chance)?, salt: None },
    };
    if encrypt.is_some() && kept.salt.is_none() {
        kept.salt = Some(salt().map_err(chance)?);
    }
    if kept.plain.is_empty() {
        return Err(error(format!("the password in `{shown}` is empty"), "write one into it, or remove the file"));
    }
    if lacks && keeps {
        let folder = full.parent().unwrap_or(Path::new("/"));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| unwritable(&e))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| unwritable(&e))?;
        let text = match &kept.salt {
            Some(salt) => format!("{} salt={salt}", kept.plain),
            None => kept.plain.clone(),
        };
        writeln!(file, "{text}").and_then(|()| file.as_file().sync_all()).map_err(|e| unwritable(&e))?;
        let put = if exists { file.persist(&full) } else { file.persist_noclobber(&full) };
        match put {
            Ok(_) => {}
            // Somebody else was faster.
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => kept = Kept::of(&read(&full)?),
            Err(e) => return Err(unwritable(&e.error)),
        }
    }
    lookup.learn(&shown, &kept.plain);
    let (Some(kind), Some(salt)) = (encrypt, &kept.salt) else { return Ok(json!(kept.plain)) };
    let hash = hashed(&kept.plain, kind, salt)
        .map_err(|e| error(format!("cannot hash the password in `{shown}`: {e}"), "look at what is kept in it"))?;
    lookup.learn(&shown, &hash);
    Ok(json!(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(PathBuf, bool);

    impl Lookup for At {
        fn get(&self, name: &str, _: &[String]) -> Found {
            match name {
                "playbook_dir" => Found::Value(json!(self.0.display().to_string())),
                "role_path" => Found::Value(json!(self.0.join("role").display().to_string())),
                "ansible_check_mode" => Found::Value(json!(self.1)),
                "port_x" => Found::Value(json!(7)),
                "later" => Found::Unknown("later".into()),
                _ => Found::Undefined,
            }
        }
        fn known(&self) -> Vec<String> {
            vec![]
        }
    }

    fn eval(t: &str, at: &At) -> Result<Value, Trouble> {
        let e = Templates::new();
        let c = e.compile(t).map_err(Trouble::Error)?;
        e.value(&c, at)
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |p: &str, s: &str| {
            let p = dir.path().join(p);
            std::fs::create_dir_all(p.parent().unwrap()).unwrap();
            std::fs::write(p, s).unwrap();
        };
        write("role/files/a.txt", "of the role\n\n");
        write("files/a.txt", "of the playbook\n");
        write("files/b.txt", "b {{x}}\n");
        write("role/templates/t.hbs", "port {{port_x}}");
        write("role/templates/self.hbs", "{{template \"self.hbs\"}}");
        write("files/k.age", "x");
        dir
    }

    #[test]
    fn files_are_found_where_ansible_finds_them() {
        let dir = project();
        let at = At(dir.path().into(), false);
        assert_eq!(eval("{{file 'a.txt'}}", &at), Ok(json!("of the role")));
        assert_eq!(eval("{{file 'a.txt' rstrip=false}}", &at), Ok(json!("of the role\n\n")));
        assert_eq!(eval("{{file 'b.txt'}}-{{file 'a.txt'}}", &at), Ok(json!("b {{x}}-of the role")));
        assert_eq!(eval("{{basename (first_found 'no' (list 'b.txt' 'a.txt'))}}", &at), Ok(json!("b.txt")));
        assert_eq!(eval("{{map (fileglob '*.txt') 'basename'}}", &at), Ok(json!(["a.txt"])));
        assert_eq!(eval("{{template 't.hbs'}}", &at), Ok(json!("port 7")));
        assert_eq!(eval("{{vars (concat 'port_' 'x')}}", &at), Ok(json!(7)));
        assert_eq!(eval("{{vars 'later'}}", &at), Err(Trouble::Unknown("later".into())));
        let message = |t: &str| format!("{:?}", eval(t, &at));
        assert!(message("{{file 'no'}}").contains("there is no file `no` in "));
        assert!(message("{{template 'self.hbs'}}").contains("leads to itself"));
        assert!(message("{{file 'k.age'}}").contains("is encrypted"));
    }

    #[test]
    fn a_password_is_made_once_and_never_by_a_plan() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = project();
        let t = "{{password 'secrets/db' length=12 chars='ab'}}";
        let planned = eval(t, &At(dir.path().into(), true));
        assert!(matches!(planned, Err(Trouble::Unknown(_))), "{planned:?}");
        assert!(!dir.path().join("secrets").exists());
        let made = eval(t, &At(dir.path().into(), false)).unwrap();
        assert_eq!(made.as_str().unwrap().len(), 12);
        assert_eq!(eval(t, &At(dir.path().into(), true)), Ok(made));
        let mode = std::fs::metadata(dir.path().join("secrets/db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mode = std::fs::metadata(dir.path().join("secrets")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_password_is_handed_on_as_a_hash_with_the_salt_that_is_kept() {
        let dir = project();
        let (plan, apply) = (At(dir.path().into(), true), At(dir.path().into(), false));
        std::fs::write(dir.path().join("pw"), "open\n").unwrap();
        let t = "{{password 'pw' encrypt='sha256_crypt'}}";
        assert!(matches!(eval(t, &plan), Err(Trouble::Unknown(_))));
        let hash = eval(t, &apply).unwrap();
        let kept = std::fs::read_to_string(dir.path().join("pw")).unwrap();
        let (plain, salt) = kept.trim_end().split_once(" salt=").unwrap();
        assert_eq!((plain, salt.len()), ("open", 16));
        assert!(hash.as_str().unwrap().starts_with(&format!("$5$rounds=535000${salt}$")), "{hash}");
        assert_eq!(eval(t, &plan), Ok(hash));
        assert_eq!(eval("{{password 'pw'}}", &plan), Ok(json!("open")));
        assert!(format!("{:?}", eval("{{password 'pw' encrypt='bcrypt'}}", &apply)).contains("sha512_crypt or"));
        // Ansible's own: random.Random("x") over its letters.
        let seeded = "{{password '/dev/null' length=8 chars='abcdefgh' seed='x'}}";
        assert_eq!(eval(seeded, &plan), eval(seeded, &apply));
        let free = "{{password '/dev/null' length=8}}";
        assert!(matches!(eval(free, &plan), Err(Trouble::Unknown(_))));
        assert_ne!(eval(free, &apply), eval(free, &apply));
    }

    #[test]
    fn globs() {
        assert!(matches("*.txt", "a.txt") && matches("a?c*", "abc") && matches("*", "x") && !matches("*", ".x"));
        assert!(!matches("*.txt", "a.txt~") && matches("*a*a", "xaya") && !matches("a", "b"));
    }
}
