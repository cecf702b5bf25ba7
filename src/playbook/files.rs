//! Files that tasks name, also by templates: all they can come to is read before the run.

use super::keys::{Reader, argument_diagnostic};
use crate::modules::ArgError;
use crate::source::{Node, nearest};
use crate::vars::Vars;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a name with templates in it can come to; `None`: there are none.
pub fn pattern(name: &str) -> Option<fancy_regex::Regex> {
    let mut rest = name.strip_prefix("./").unwrap_or(name);
    let mut pattern = String::from("^");
    while let Some((before, after)) = rest.split_once("{{") {
        pattern += &fancy_regex::escape(before);
        pattern += ".*";
        rest = after.split_once("}}")?.1;
    }
    if pattern.len() == 1 {
        return None;
    }
    fancy_regex::Regex::new(&format!("{pattern}{}$", fancy_regex::escape(rest))).ok()
}

/// YAML files in a folder and so many levels below it, as they are seen from there.
pub fn yaml_below(dir: &Path, levels: usize) -> Vec<String> {
    files_below(dir, levels, &["yml", "yaml"])
}

fn files_below(dir: &Path, levels: usize, extensions: &[&str]) -> Vec<String> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let mut all = vec![];
    for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (e.path(), e.file_name().to_string_lossy().into_owned());
        if path.is_dir() && levels > 0 {
            all.extend(files_below(&path, levels - 1, extensions).into_iter().map(|f| format!("{name}/{f}")));
        } else if path.is_file()
            && Path::new(name.trim_end_matches(".age")).extension().is_some_and(|e| extensions.iter().any(|x| e == *x))
        {
            all.push(name);
        }
    }
    all.sort();
    all
}

/// Deeper folders than these hold no variables.
const DEEPEST: usize = 8;

/// The role that a file of tasks is of: the folder above its `tasks` or `handlers`.
fn role_of(here: &Path) -> Option<PathBuf> {
    let tasks = here.ancestors().find(|a| a.ends_with("tasks") || a.ends_with("handlers"))?;
    let role = tasks.parent()?;
    let own = ["tasks", "handlers", "defaults", "vars", "meta"].iter().any(|d| role.join(d).is_dir());
    own.then(|| std::path::absolute(role).unwrap_or_else(|_| role.to_path_buf()))
}

/// Puts folders in the place of their variables.
fn placed(text: &str, folders: &[(&str, &Path)]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, (inside, after))) = rest.split_once("{{").and_then(|(b, r)| Some((b, r.split_once("}}")?)))
    {
        out += before;
        match folders.iter().find(|(name, _)| *name == inside.trim()) {
            Some((_, dir)) => out += &dir.display().to_string(),
            None => out += &format!("{{{{{inside}}}}}"),
        }
        rest = after;
    }
    out + rest
}

/// How many folders deep the texts in a value lead.
fn levels(node: Option<&Node>) -> usize {
    let mut most = 0;
    if let Some(n) = node {
        n.walk(&mut |n| most = most.max(n.as_str().map_or(0, |s| s.matches('/').count())));
    }
    most.min(DEEPEST)
}

impl Reader<'_> {
    /// A name of a file, with the folders in it that are known before the run.
    fn placed(&self, name: &str, here: &Path) -> String {
        let role = role_of(here);
        let mut folders = vec![("playbook_dir", self.dir.as_path())];
        folders.extend(role.as_deref().map(|r| ("role_path", r)));
        placed(name, &folders)
    }

    /// The name of a file of tasks, and the files that it can mean, each by the name it is called by. `node` is what takes it
    /// in. Where no template is left in the name, there is one.
    pub fn files_of_tasks(&self, name: &str, here: &Path, node: &Node) -> (String, Vec<(String, PathBuf)>) {
        let name = self.placed(name, here);
        let mut roots = vec![std::path::absolute(here).unwrap_or_else(|_| here.to_path_buf())];
        if let Some(role) = role_of(here) {
            roots.extend([role.join("tasks"), role]);
        }
        roots.push(self.dir.clone());
        let Some(pattern) = pattern(&name) else {
            let all: Vec<PathBuf> = roots.iter().map(|r| r.join(&name)).collect();
            let path = all.iter().find(|p| p.is_file()).or(all.first()).cloned().unwrap_or_default();
            return (name.clone(), vec![(name.trim_start_matches("./").to_string(), path)]);
        };
        let deep = levels(node.get("loop")).max(levels(node.get("vars")));
        // What is there before any template, when it leads to a folder of its own.
        let fixed = name.split("{{").next().and_then(|f| f.rsplit_once('/')).map_or("", |(dir, _)| dir);
        if Path::new(fixed).is_absolute() {
            roots = vec![PathBuf::from(fixed)];
        }
        let meant = |root: &PathBuf| -> Vec<(String, PathBuf)> {
            let whole = |f: String| if Path::new(fixed).is_absolute() { format!("{fixed}/{f}") } else { f };
            let below = match Path::new(fixed).is_absolute() {
                true => name[fixed.len() + 1..].matches('/').count(),
                false => name.matches('/').count(),
            };
            let all = yaml_below(root, below + deep).into_iter();
            let all = all.map(|f| (whole(f.clone()), root.join(f)));
            all.filter(|(n, _)| pattern.is_match(n).unwrap_or(false)).collect()
        };
        let found = roots.iter().map(meant).find(|f| !f.is_empty()).unwrap_or_default();
        (name, found)
    }

    /// The files of variables that an `include_vars` can read, by the names it can call them by.
    pub fn files_of_variables(&mut self, args: &Node) -> Vec<(String, Arc<Vars>)> {
        let here = args.span.source.path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut roots = vec![];
        if let Some(tasks) = here.ancestors().find(|a| a.ends_with("tasks") || a.ends_with("handlers"))
            && let Some(role) = tasks.parent()
        {
            roots.extend([role.join("vars"), role.to_path_buf()]);
        }
        roots.extend([here.join("vars"), here.clone()]);
        if std::path::absolute(&here).is_ok_and(|h| h != self.dir) {
            roots.extend([self.dir.join("vars"), self.dir.clone()]);
        }
        let extensions = ["yml", "yaml", "json"];
        let (what, node) = match (args.get("file"), args.get("dir")) {
            (Some(n), _) => ("file", n),
            (None, Some(n)) => ("folder", n),
            (None, None) => return vec![],
        };
        let Some(name) = node.as_str().map(|s| self.placed(s, &here)) else { return vec![] };
        let name = name.trim_start_matches("./").trim_end_matches('/').to_string();
        let fixed = name.split("{{").next().and_then(|f| f.rsplit_once('/')).map_or("", |(dir, _)| dir).to_string();
        let absolute = Path::new(&fixed).is_absolute() && name.contains("{{");
        if absolute {
            roots = vec![PathBuf::from(&fixed)];
        }
        let found: Vec<(String, PathBuf)> = match pattern(&name) {
            None if what == "file" => {
                let paths = roots.iter().map(|r| r.join(&name));
                paths.filter(|p| p.is_file()).take(1).map(|p| (name.clone(), p)).collect()
            }
            None => {
                let dirs = roots.iter().map(|r| r.join(&name));
                let Some(dir) = dirs.into_iter().find(|d| d.is_dir()) else {
                    return self.no_such(what, &name, args, &roots);
                };
                let files = files_below(&dir, DEEPEST, &extensions);
                return files.into_iter().map(|f| (format!("{name}/{f}"), self.read_variables(&dir.join(f)))).collect();
            }
            Some(pattern) => {
                let mut all: Vec<(String, PathBuf)> = vec![];
                for r in &roots {
                    for f in files_below(
                        r,
                        DEEPEST.min(name.matches('/').count() + usize::from(what == "folder")),
                        &extensions,
                    ) {
                        let f = if absolute { format!("{fixed}/{f}") } else { f };
                        let whole = if what == "file" { f.as_str() } else { f.rsplit_once('/').map_or("", |(d, _)| d) };
                        let meant = pattern.is_match(whole).unwrap_or(false) && !is_list(&r.join(&f));
                        if meant && !all.iter().any(|(n, _)| *n == f) {
                            all.push((f.clone(), r.join(&f)));
                        }
                    }
                    // What lies in `vars` is meant before what lies beside it.
                    if !all.is_empty() {
                        break;
                    }
                }
                all
            }
        };
        if found.is_empty() && !name.contains("{{") {
            return self.no_such(what, &name, args, &roots);
        }
        found.into_iter().map(|(n, p)| (n, self.read_variables(&p))).collect()
    }

    fn read_variables(&mut self, path: &Path) -> Arc<Vars> {
        Arc::new(self.vars_file(path))
    }

    fn no_such(&mut self, what: &str, name: &str, args: &Node, roots: &[PathBuf]) -> Vec<(String, Arc<Vars>)> {
        self.partial = true;
        let param = if what == "file" { "file" } else { "dir" };
        let there: Vec<String> = roots.iter().flat_map(|r| files_below(r, 0, &["yml", "yaml", "json"])).collect();
        let e = ArgError::new(param, format!("there is no {what} `{name}`"));
        let shown: Vec<String> =
            roots.iter().map(|r| crate::source::display_path(&r.join(name)).display().to_string()).collect();
        let sealed = format!("{name}.age");
        let e = match nearest(name, there.iter().map(String::as_str)) {
            _ if roots.iter().any(|r| r.join(&sealed).is_file()) => {
                e.hint(format!("it is there encrypted: write `{sealed}`"))
            }
            Some(n) => e.hint(format!("did you mean `{n}`?")),
            None => e.hint(format!("looked for {}", shown.join(", "))),
        };
        if let Some(def) = crate::modules::find("include_vars") {
            self.found.push(argument_diagnostic(&e, def, args));
        }
        vec![]
    }
}

/// Whether a file is a list, as playbooks and tasks are: then it holds no variables, though a pattern may fit its name.
fn is_list(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#') && !l.starts_with("---"));
    lines.next().is_some_and(|l| l.trim_start() == "-" || l.trim_start().starts_with("- "))
}
