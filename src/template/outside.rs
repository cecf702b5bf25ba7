//! Answers what helpers ask of the world outside their template.

use super::helpers::{Ask, token};
use super::{Found, Lookup, TemplateError, Templates, Trouble};
use serde_json::{Value, json};
use std::cell::Cell;
use std::io::Write as _;
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
        Ask::Password { path, length, chars } => password(path, *length, chars, lookup),
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

fn password(path: &str, length: usize, chars: &str, lookup: &dyn Lookup) -> Result<Value, No> {
    let given = home(path);
    let full = match lookup.get("playbook_dir", &[]) {
        Found::Value(Value::String(dir)) if !given.is_absolute() => Path::new(&dir).join(given),
        _ => given,
    };
    let shown = full.display().to_string();
    let unwritable = |e: &dyn std::fmt::Display| {
        error(format!("cannot keep a password in `{shown}`: {e}"), "name a file in a folder that you may write to")
    };
    let _one = MAKING.lock();
    let secret = if full.exists() {
        let text = read(&full)?;
        let line = text.lines().next().unwrap_or_default();
        // Ansible keeps the salt of a hash behind it.
        line.split_once(" salt=").map_or(line, |(p, _)| p).to_string()
    } else {
        if let Found::Value(Value::Bool(true)) = lookup.get("ansible_check_mode", &[]) {
            return Err(No::Trouble(Trouble::Unknown(format!("the password in `{shown}` is made by apply"))));
        }
        let made = token(length, chars).map_err(|_| unwritable(&"this machine gives no random bytes"))?;
        let folder = full.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(|e| unwritable(&e))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| unwritable(&e))?;
        writeln!(file, "{made}").and_then(|()| file.as_file().sync_all()).map_err(|e| unwritable(&e))?;
        match file.persist_noclobber(&full) {
            Ok(_) => made,
            // Somebody else was faster.
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => read(&full)?.trim_end().to_string(),
            Err(e) => return Err(unwritable(&e.error)),
        }
    };
    if secret.is_empty() {
        return Err(error(format!("the password in `{shown}` is empty"), "write one into it, or remove the file"));
    }
    lookup.learn(&shown, &secret);
    Ok(json!(secret))
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
    }

    #[test]
    fn globs() {
        assert!(matches("*.txt", "a.txt") && matches("a?c*", "abc") && matches("*", "x") && !matches("*", ".x"));
        assert!(!matches("*.txt", "a.txt~") && matches("*a*a", "xaya") && !matches("a", "b"));
    }
}
