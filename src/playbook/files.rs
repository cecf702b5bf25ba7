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

impl Reader<'_> {
    /// The files of variables that an `include_vars` can read, by the names it can call them by.
    pub fn files_of_variables(&mut self, args: &Node) -> Vec<(String, Arc<Vars>)> {
        let here = args.span.source.path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut roots = vec![];
        if let Some(tasks) = here.ancestors().find(|a| a.ends_with("tasks") || a.ends_with("handlers"))
            && let Some(role) = tasks.parent()
        {
            roots.extend([role.join("vars"), role.to_path_buf()]);
        }
        roots.extend([here.join("vars"), here]);
        let extensions = ["yml", "yaml", "json"];
        let (what, node) = match (args.get("file"), args.get("dir")) {
            (Some(n), _) => ("file", n),
            (None, Some(n)) => ("folder", n),
            (None, None) => return vec![],
        };
        let Some(name) = node.as_str().map(|s| s.trim_start_matches("./").trim_end_matches('/').to_string()) else {
            return vec![];
        };
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
