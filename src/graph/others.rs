//! What tasks read of other hosts: the names they take out of `hostvars`, in their own texts or through variables.

use super::prepare::find_file;
use super::{Program, TaskUse};
use crate::modules::FileKind;
use crate::playbook::Said;
use crate::probe::ansible_names;
use crate::source::Node;
use crate::vars::Vars;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What a program's tasks read of other hosts.
pub struct Others<'p> {
    program: &'p Program,
    /// By variable: what is taken out of `hostvars` where it is rendered, however far behind it.
    through: HashMap<String, HashSet<String>>,
    /// Templates that were read.
    texts: RefCell<HashMap<PathBuf, Option<Rc<str>>>>,
}

/// Whether a name in `hostvars` is a fact's.
pub fn is_fact(name: &str) -> bool {
    matches!(name, "facts" | "ansible_facts") || ansible_names::is_fact(name)
}

/// The names in a text; what is in quotes counts, as it can be a key.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

impl<'p> Others<'p> {
    pub fn of(program: &'p Program) -> Self {
        let mut made_of: HashMap<&str, HashSet<&str>> = HashMap::new();
        let mut through: HashMap<String, HashSet<String>> = HashMap::new();
        each_file(program, &mut |vars| {
            for (name, var) in vars {
                each_text(&var.value, &mut |text| {
                    if !text.contains("{{") && !text.contains("{%") {
                        return;
                    }
                    if text.contains("hostvars") {
                        through.entry(name.clone()).or_default().extend(names(text).map(str::to_string));
                    }
                    made_of.entry(name).or_default().extend(names(text));
                });
            }
        });
        // Each turn carries what is read one variable further; there are no more turns than variables.
        while !through.is_empty() {
            let mut more: Vec<(&str, HashSet<String>)> = vec![];
            for (name, of) in &made_of {
                let behind = of.iter().filter_map(|n| through.get(*n)).flatten();
                let known = through.get(*name);
                let new: HashSet<String> = behind.filter(|w| known.is_none_or(|k| !k.contains(*w))).cloned().collect();
                if !new.is_empty() {
                    more.push((name, new));
                }
            }
            if more.is_empty() {
                break;
            }
            more.into_iter().for_each(|(name, new)| through.entry(name.to_string()).or_default().extend(new));
        }
        Others { program, through, texts: RefCell::default() }
    }

    /// What a task can take out of `hostvars`, and perhaps more.
    pub fn read_by(&self, task: &TaskUse) -> HashSet<String> {
        let mut read = HashSet::new();
        let nested = Cell::new(false);
        let mut note = |text: &str| {
            if text.contains("hostvars") {
                read.extend(names(text).map(str::to_string));
            }
            if !self.through.is_empty() {
                read.extend(names(text).filter_map(|n| self.through.get(n)).flatten().cloned());
            }
            let renders = text.contains("{{") || text.contains("{%");
            nested.set(nested.get() || renders && names(text).any(|n| n == "template"));
        };
        let t = &task.task;
        let phase = &self.program.playbook.phases[task.phase];
        let blocks = || task.inherits().iter().map(|w| &w.block);
        let of_loop = t.loop_.iter().flat_map(|l| [Some(&l.over), l.pause.as_ref()]).flatten();
        let environments = blocks().map(|b| &b.environment).chain([&t.environment, &phase.environment]).flatten();
        let own = [Some(&t.args), t.retries.as_ref(), t.delay.as_ref(), task.evidence()].into_iter().flatten();
        for n in own.chain(of_loop).chain(environments) {
            n.walk(&mut |n| n.as_str().into_iter().for_each(&mut note));
        }
        let conditions = [&t.when, &task.outer_when, &t.until, &t.failed_when, &t.changed_when];
        conditions.into_iter().flatten().for_each(|c| note(&c.text));
        t.vars.values().for_each(|v| each_text(&v.value, &mut note));
        let texts = [t.name.as_ref(), task.delegate_to(), t.loop_.as_ref().and_then(|l| l.label.as_ref())];
        texts.into_iter().flatten().chain(&t.notify).for_each(|x| note(&x.text));
        task.diagnosis().for_each(|d| note(&d.say.text));
        let users = blocks().map(|b| &b.become_).chain([&t.become_, &phase.become_]);
        for b in users.chain(task.role.as_ref().map(|r| &r.become_)) {
            b.on.as_ref().and_then(template).into_iter().for_each(&mut note);
            b.user.iter().chain(&b.login).for_each(|x| note(&x.text));
        }
        for k in task.keys() {
            let flags = [&k.ignore_errors, &k.no_log, &k.check_mode, &k.run_once];
            flags.into_iter().flatten().filter_map(template).for_each(&mut note);
            k.hold.throttle.as_ref().and_then(template).into_iter().for_each(&mut note);
        }
        let background = t.background.iter().flat_map(|(limit, poll)| [limit, poll]);
        t.timeout.iter().chain(background).filter_map(template).for_each(&mut note);
        // Who is to be become is asked of variables, too.
        note("ansible_become ansible_become_user");
        if t.module.name == "template" || nested.get() {
            self.templates_of(task, nested.get()).iter().for_each(|text| note(text));
        }
        read
    }

    /// The texts of the templates a task writes, with those that they take in; where a name is made only in the run, of
    /// all that it could be. `nested`: some text of the task names a template to be rendered inside it.
    fn templates_of(&self, task: &TaskUse, nested: bool) -> Vec<Rc<str>> {
        let dir = &self.program.playbook.phases[task.phase].dir;
        let roles = task.role.iter().chain(&task.around).map(|r| &r.role.dir);
        let mut folders: Vec<PathBuf> = roles.chain([dir]).map(|d| d.join("templates")).collect();
        let src = task.task.args.get("src").and_then(Node::as_str).filter(|_| task.task.module.name == "template");
        let found = |name: &str| find_file(self.program, task, FileKind::Template, name).ok().filter(|p| p.is_file());
        let mut open: Vec<PathBuf> = match src {
            Some(src) if !src.contains("{{") => found(src).into_iter().collect(),
            Some(_) => files_below(&folders),
            None => vec![],
        };
        if let (Some(parent), Some(src)) = (open.first().and_then(|p| p.parent()), src)
            && !src.contains("{{")
        {
            folders.push(parent.to_path_buf());
        }
        if nested {
            open.extend(files_below(&folders));
        }
        let mut seen: HashSet<PathBuf> = HashSet::new();
        let mut texts = vec![];
        while let Some(path) = open.pop() {
            if seen.len() >= MOST_FILES || !seen.insert(path.clone()) {
                continue;
            }
            let Some(text) = self.text_of(&path) else { continue };
            match taken_in(&text) {
                Some(named) => {
                    let role = task.role.as_ref().map(|r| r.role.dir.as_path());
                    let places = folders.iter().map(PathBuf::as_path).chain(role).chain([dir.as_path()]);
                    let places: Vec<&Path> = places.collect();
                    open.extend(named.iter().filter_map(|n| places.iter().map(|p| p.join(n)).find(|p| p.is_file())));
                }
                None => open.extend(files_below(&folders)),
            }
            texts.push(text);
        }
        texts
    }

    /// A template's text, read once for all tasks.
    fn text_of(&self, path: &Path) -> Option<Rc<str>> {
        let read = || {
            let small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
            small.then(|| std::fs::read_to_string(path).ok().map(Rc::from)).flatten()
        };
        self.texts.borrow_mut().entry(path.to_path_buf()).or_insert_with(read).clone()
    }
}

/// So many templates are looked at for one task.
const MOST_FILES: usize = 1000;
/// Of so many bytes each.
const LARGEST: u64 = 16 << 20;
/// How deep in folders.
const DEEPEST: usize = 8;

fn template<T>(said: &Said<T>) -> Option<&str> {
    match said {
        Said::Template(t) => Some(&t.text),
        Said::Plain(_) => None,
    }
}

/// All files in folders and below them.
fn files_below(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut open: Vec<(PathBuf, usize)> = folders.iter().map(|f| (f.clone(), 0)).collect();
    let mut files = vec![];
    while let Some((dir, depth)) = open.pop() {
        for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = e.path();
            if path.is_file() && files.len() < MOST_FILES {
                files.push(path);
            } else if path.is_dir() && depth < DEEPEST {
                open.push((path, depth + 1));
            }
        }
    }
    files
}

/// The names of templates that a template takes in; `None`: a name shows only in the run.
fn taken_in(text: &str) -> Option<Vec<String>> {
    // A first line can give tags another look.
    let any_tag = text.starts_with("#jinja2:");
    let mut named = vec![];
    for (at, word) in ["include", "import", "extends", "from"].iter().flat_map(|w| text.match_indices(w)) {
        let before = text[..at].trim_end_matches(['-', '+', ' ', '\t', '\n', '\r']);
        let behind = &text[at + word.len()..];
        if !(any_tag || before.ends_with("{%")) || !behind.starts_with([' ', '\t', '\n', '\r', '"', '\'', '[']) {
            continue;
        }
        let whole = &behind[..behind.find("%}").or_else(|| behind.find('\n')).unwrap_or(behind.len())];
        // What is behind `import` or `as` names nothing but parts.
        let end = [" import ", " as "].iter().filter_map(|w| whole.find(w)).min().unwrap_or(whole.len());
        let (mut names, mut rest) = (vec![], String::new());
        for (i, part) in whole[..end].split(['"', '\'']).enumerate() {
            if i % 2 == 1 { names.push(part.to_string()) } else { rest.push_str(part) }
        }
        let known = ["ignore", "missing", "with", "without", "context"];
        let sure = rest.split(|c: char| c.is_whitespace() || "[],()-+".contains(c));
        if !sure.filter(|w| !w.is_empty()).all(|w| known.contains(&w)) {
            return None;
        }
        named.extend(names);
    }
    Some(named)
}

/// Calls for every text in a value.
pub fn each_text<'v>(value: &'v Value, call: &mut impl FnMut(&'v str)) {
    let mut row = vec![value];
    while let Some(v) = row.pop() {
        match v {
            Value::String(s) => call(s),
            Value::Array(a) => row.extend(a),
            Value::Object(o) => row.extend(o.values()),
            _ => {}
        }
    }
}

/// Calls for everything that holds variables.
pub fn each_file<'p>(program: &'p Program, call: &mut impl FnMut(&'p Vars)) {
    call(&program.extra);
    program.inventory.all_vars().for_each(&mut *call);
    for phase in &program.playbook.phases {
        call(&phase.vars);
        phase.vars_files.iter().for_each(|(_, v)| call(v));
        phase.roles.iter().for_each(|r| of_role(r, call));
    }
    let mut seen: HashSet<*const crate::playbook::RoleUse> = HashSet::new();
    for t in &program.tasks {
        t.within.iter().for_each(|w| call(&w.block.vars));
        t.task.brings.iter().for_each(|(_, v)| call(v));
        for r in t.role.iter().chain(&t.around).filter(|r| seen.insert(std::sync::Arc::as_ptr(r))) {
            of_role(r, call);
        }
    }
}

pub fn of_role<'p>(used: &'p crate::playbook::RoleUse, call: &mut impl FnMut(&'p Vars)) {
    [&used.given, &used.params, &used.role.vars, &used.role.defaults].into_iter().for_each(&mut *call);
    used.role.dependencies.iter().for_each(|d| of_role(d, call));
}
