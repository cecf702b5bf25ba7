//! Roles: finding their folders and reading what is in them.

use super::block::is_plain;
use super::keys::Reader;
use super::vocabulary::{META_KEYS, ROLE_USE_KEYS as USE_KEYS};
use super::{Block, Role, RoleUse, count};
use crate::source::{Diagnostic, Diagnostics, Node, Source, Span, nearest, yaml};
use crate::template::Templates;
use crate::vars::{self, SecretOpener, Vars};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The roles of a project, each read once.
pub struct Roles {
    /// Folders that hold roles, in the order in which they are searched.
    pub dirs: Vec<PathBuf>,
    read: HashMap<PathBuf, Arc<Role>>,
    /// The roles being read right now, to see a role that depends on itself.
    reading: Vec<(PathBuf, String)>,
}

impl Roles {
    /// Roles lie in `roles/` beside the playbook, or in the nearest folder above it that has one.
    pub fn beside(playbook_dir: &Path) -> Self {
        let mut dirs = vec![];
        for dir in playbook_dir.ancestors() {
            let roles = dir.join("roles");
            if roles.is_dir() {
                dirs.push(roles);
            }
            if dirs.len() == 2 {
                break;
            }
        }
        Roles { dirs, read: HashMap::new(), reading: vec![] }
    }

    /// Searches beside another playbook, too, and there first. What was searched before is given back.
    pub fn beside_too(&mut self, playbook_dir: &Path) -> Vec<PathBuf> {
        let mut dirs = Roles::beside(playbook_dir).dirs;
        dirs.extend(self.dirs.iter().filter(|d| !dirs.contains(d)).cloned().collect::<Vec<_>>());
        std::mem::replace(&mut self.dirs, dirs)
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|d| d.join(name)).find(|p| p.is_dir())
    }
    /// The role is being read right now.
    pub fn is_being_read(&self, name: &str) -> bool {
        self.find(name).is_some_and(|dir| self.reading.iter().any(|(d, _)| *d == dir))
    }
    pub fn names(&self) -> Vec<String> {
        let mut all = vec![];
        for d in &self.dirs {
            for e in std::fs::read_dir(d).into_iter().flatten().flatten() {
                if e.path().is_dir() {
                    all.push(e.file_name().to_string_lossy().into_owned());
                }
            }
        }
        all.sort();
        all
    }
}

/// The names of the roles that a playbook in this folder can use.
pub fn role_names(playbook_dir: &Path) -> Vec<String> {
    let mut names = Roles::beside(playbook_dir).names();
    names.dedup();
    names
}

/// The folder of a role.
pub fn role_dir(playbook_dir: &Path, name: &str) -> Option<PathBuf> {
    Roles::beside(playbook_dir).find(name)
}

/// Reads one role, as a playbook in this folder would.
pub fn load_role(
    playbook_dir: &Path,
    name: &str,
    templates: &Templates,
    opener: &dyn SecretOpener,
) -> (Option<Arc<Role>>, Diagnostics) {
    let roles = Roles::beside(playbook_dir);
    let mut reader = Reader {
        templates,
        opener,
        found: Diagnostics::default(),
        partial: false,
        roles,
        dir: playbook_dir.to_path_buf(),
        including: vec![],
        taken_in: 0,
    };
    let source = Source::new("the command line", name);
    let role = reader.role(name, &Span::new(&source, 0..name.len()));
    (role, reader.found)
}

/// Keys of tasks that a role's entry could be meant to have, and does not: never parameters of the role.
const NOT_OF_ROLES: &[&str] = &[
    "loop",
    "loop_control",
    "register",
    "until",
    "notify",
    "changed_when",
    "failed_when",
    "any_errors_fatal",
    "ignore_unreachable",
    "connection",
    "module_defaults",
    "become_method",
    "become_flags",
    "become_exe",
    "delegate_facts",
    "debugger",
];

/// More tasks no role comes to.
const MOST_TASKS: usize = 20_000;

impl Reader<'_> {
    /// An entry of `roles:` or of a role's dependencies.
    pub fn role_use(&mut self, node: &Node) -> Option<RoleUse> {
        if let Some(name) = node.as_str() {
            let role = self.role(name, &node.span)?;
            return Some(RoleUse {
                role,
                entry: None,
                entry_name: None,
                span: node.span.clone(),
                params: Vars::new(),
                given: Vars::new(),
                when: vec![],
                tags: vec![],
                become_: Default::default(),
                block: None,
                public: true,
            });
        }
        let entries = self.mapping(node, "a role")?;
        let Some(name_node) = node.get("role").or_else(|| node.get("name")) else {
            self.partial = true;
            self.error_hint(&node.span, "this entry names no role", "write `- role: NAME`");
            return None;
        };
        let name = self.string(name_node, "`role`")?;
        let role = self.role(&name, &name_node.span)?;
        let mut given = Vars::new();
        let params = node
            .get("vars")
            .map(|n| {
                self.templates_in(n);
                self.vars(n)
            })
            .unwrap_or_default();
        // Other keys are parameters of the role, as in Ansible; a mistyped key of ours is caught before that.
        for e in entries.iter().filter(|e| !USE_KEYS.contains(&e.key.as_str())) {
            if NOT_OF_ROLES.contains(&e.key.as_str()) {
                let d = Diagnostic::error(format!("`{}` is not supported on a role", e.key)).at(&e.key_span);
                self.found.push(d.hint("put it on the tasks inside; a variable of that name goes under `vars:`"));
                continue;
            }
            let known = role.defaults.contains_key(&e.key) || mentioned(&role.dir, &e.key, 0);
            if let Some(n) = nearest(&e.key, USE_KEYS.iter().copied()).filter(|_| !known) {
                let d = Diagnostic::error(format!("unknown key `{}` for a role", e.key)).at(&e.key_span);
                self.found.push(d.hint(format!("did you mean `{n}`? Parameters go under `vars:`")));
            } else {
                self.templates_in(&e.value);
                if let Some(value) = vars::open(&e.value, self.opener, &mut self.found) {
                    given.insert(e.key.clone(), vars::Var { value, span: e.value.span.clone() });
                }
            }
        }
        let used = RoleUse {
            role,
            entry: None,
            entry_name: None,
            span: node.span.clone(),
            params,
            given,
            when: node.get("when").map(|n| self.conditions(n, "`when`")).unwrap_or_default(),
            tags: node.get("tags").map(|n| self.words(n, "`tags`")).unwrap_or_default(),
            become_: self.become_(&|k| node.get(k)),
            block: self.block_of_role(node),
            public: true,
        };
        self.nearly_arguments(&used);
        Some(used)
    }

    /// What an entry says of all tasks of its role, besides what has a place of its own.
    fn block_of_role(&mut self, node: &Node) -> Option<Arc<Block>> {
        let all = self.block_of(node, None, vec![], None, None);
        let block =
            Block { name: None, when: vec![], tags: vec![], become_: Default::default(), vars: Vars::new(), ..all };
        (!is_plain(&block)).then(|| Arc::new(block))
    }

    pub fn role(&mut self, name: &str, at: &Span) -> Option<Arc<Role>> {
        let Some(dir) = self.roles.find(name) else {
            self.partial = true;
            let known = self.roles.names();
            let d = Diagnostic::error(format!("there is no role `{name}`")).at(at);
            self.found.push(match nearest(name, known.iter().map(String::as_str)) {
                Some(n) => d.hint(format!("did you mean `{n}`?")),
                None if self.roles.dirs.is_empty() => {
                    d.hint("roles lie in a folder `roles/` beside the playbook or above it")
                }
                None => d.hint(format!("searched in {}", shown(&self.roles.dirs))),
            });
            return None;
        };
        if let Some(r) = self.roles.read.get(&dir) {
            self.partial |= r.partial;
            return Some(r.clone());
        }
        if let Some(i) = self.roles.reading.iter().position(|(d, _)| *d == dir) {
            let mut path: Vec<&str> = self.roles.reading[i..].iter().map(|(_, n)| n.as_str()).collect();
            path.push(name);
            let message = format!("the role depends on itself: {}", path.join(" -> "));
            self.error_hint(at, message, "take one of these out of its `dependencies`");
            return None;
        }
        self.roles.reading.push((dir.clone(), name.to_string()));
        let before = std::mem::take(&mut self.partial);
        let mut role = self.read_role(name, at, &dir);
        let needed = role.dependencies.iter().fold(role.handlers.len(), |n, d| n.saturating_add(d.role.size));
        role.size = count(&role.tasks).saturating_add(needed);
        if role.size > MOST_TASKS {
            self.partial = true;
            let message = format!("the role `{name}` comes to more than {MOST_TASKS} tasks");
            self.error_hint(
                at,
                message,
                "let it take in fewer roles: those that take in several, which take in several themselves, are soon \
                 without number",
            );
            // Those that take it in have nothing more to go through.
            (role.tasks, role.dependencies, role.size) = (vec![], vec![], 0);
        }
        role.partial = self.partial;
        self.partial |= before;
        let role = Arc::new(role);
        self.roles.reading.pop();
        self.roles.read.insert(dir, role.clone());
        Some(role)
    }

    fn read_role(&mut self, name: &str, at: &Span, dir: &Path) -> Role {
        let mut role = Role {
            name: name.to_string(),
            dir: dir.to_path_buf(),
            defaults: self.role_vars(&dir.join("defaults")),
            vars: self.role_vars(&dir.join("vars")),
            tasks: vec![],
            handlers: vec![],
            dependencies: vec![],
            budgets: vec![],
            arguments: vec![],
            allow_duplicates: false,
            size: 0,
            partial: false,
        };
        if ["tasks", "handlers", "defaults", "vars", "meta"].iter().all(|d| main_file(&dir.join(d)).is_none()) {
            let d = Diagnostic::error(format!("there is nothing in the role `{name}`")).at(at);
            let other = std::fs::read_dir(dir.join("tasks")).into_iter().flatten().flatten().next();
            self.found.push(match other {
                Some(o) => d.hint(format!(
                    "its tasks are read from {}, not {}",
                    crate::source::display_path(&dir.join("tasks/main.yml")).display(),
                    o.file_name().to_string_lossy()
                )),
                None => d.hint(format!(
                    "write its tasks into {}",
                    crate::source::display_path(&dir.join("tasks/main.yml")).display()
                )),
            });
        }
        if let Some(n) = self.main(&dir.join("tasks")) {
            role.tasks = self.tasks(&n, "a file of tasks");
        }
        if let Some(n) = self.main(&dir.join("handlers")) {
            role.handlers = self.handlers(&n, "a file of handlers");
        }
        if let Some(n) = self.main(&dir.join("meta"))
            && let Some(entries) = self.mapping(&n, "a role's meta")
        {
            self.unknown_keys(entries, META_KEYS, &[], "a role's meta");
            role.allow_duplicates =
                n.get("allow_duplicates").and_then(|b| self.boolean(b, "`allow_duplicates`")).unwrap_or(false);
            if let Some(b) = n.get("budgets") {
                role.budgets = self.budgets(b).into_iter().map(Arc::new).collect();
            }
            if let Some(a) = n.get("arguments") {
                role.arguments.push(("main".into(), self.arguments(a)));
            }
            if let Some(a) = n.get("argument_specs") {
                role.arguments.extend(self.argument_specs(a));
            }
            if let Some(d) = n.get("dependencies") {
                role.dependencies =
                    self.list(d, "`dependencies`").iter().filter_map(|n| self.role_use(n)).map(Arc::new).collect();
            }
        }
        self.spec_file(dir, &mut role);
        self.take_defaults(&mut role);
        role
    }

    /// `meta/argument_specs.yml`, where Ansible's roles say what they take.
    fn spec_file(&mut self, dir: &Path, role: &mut Role) {
        let files = ["argument_specs.yml", "argument_specs.yaml"].map(|f| dir.join("meta").join(f));
        let Some(file) = files.iter().find(|f| f.is_file()) else { return };
        match Source::read(file).and_then(|s| yaml::parse(&s)) {
            Ok(n) => {
                let Some(entries) = self.mapping(&n, "a file of argument specs") else { return };
                self.unknown_keys(entries, &["argument_specs"], &[], "a file of argument specs");
                if let Some(a) = n.get("argument_specs") {
                    role.arguments.extend(self.argument_specs(a));
                }
            }
            Err(d) => self.found.push(d),
        }
    }

    /// A default of `arguments:` stands for one in `defaults/`. (In Ansible's specs a default only tells of the one there.)
    fn take_defaults(&mut self, role: &mut Role) {
        for (_, a) in &role.arguments {
            for o in a.options.iter().filter(|_| a.own) {
                let Some((value, span)) = &o.default else { continue };
                match role.defaults.get(&o.name) {
                    Some(other) if other.value != *value => {
                        let d = Diagnostic::error(format!("`{}` has two defaults that differ", o.name)).at(span);
                        self.found.push(d.also(&other.span, "the other").hint("take one of them out"));
                    }
                    Some(_) => {}
                    None => {
                        role.defaults.insert(o.name.clone(), vars::Var { value: value.clone(), span: span.clone() });
                    }
                }
            }
        }
    }

    /// Variables given to a role that are nearly, but not quite, one of its arguments. Of a role that does not say what
    /// it takes: one of its defaults, where no file of the role has the name.
    pub fn nearly_arguments(&mut self, used: &RoleUse) {
        let role = &used.role;
        let Some(arguments) = used.arguments() else {
            for (name, var) in used.values().filter(|(n, _)| !role.defaults.contains_key(*n)) {
                if !role.vars.contains_key(name)
                    && let Some(near) = nearest(name, role.defaults.keys().map(String::as_str))
                    && !mentioned(&role.dir, name, 0)
                {
                    let message = format!("nothing in the role `{}` asks for `{name}`", role.name);
                    let d = Diagnostic::warning(message).at(&var.span);
                    self.found.push(d.hint(format!("did you mean `{near}`?")));
                }
            }
            return;
        };
        let names: Vec<&str> = arguments.options.iter().map(|o| o.name.as_str()).collect();
        for (name, var) in used.values() {
            let other = [&used.role.defaults, &used.role.vars].iter().any(|v| v.contains_key(name));
            if !other
                && !names.contains(&name.as_str())
                && let Some(near) = nearest(name, names.iter().copied())
            {
                let message = format!("the role `{}` has no argument `{name}`", used.role.name);
                self.error_hint(&var.span, message, format!("did you mean `{near}`?"));
            }
        }
    }

    fn role_vars(&mut self, dir: &Path) -> Vars {
        let mut all = Vars::new();
        for file in vars::files_for(dir, "main") {
            all.extend(self.vars_file(&file));
        }
        vars::passed_over(dir, "main", &mut self.found);
        all
    }

    /// `main.yml` of one of a role's folders.
    fn main(&mut self, dir: &Path) -> Option<Node> {
        let file = main_file(dir).filter(|f| f.extension().is_some_and(|e| e != "age" && e != "json"))?;
        match Source::read(&file).and_then(|s| yaml::parse(&s)) {
            Ok(n) if n.is_null() => None,
            Ok(n) => Some(n),
            Err(d) => {
                self.partial = true;
                self.found.push(d);
                None
            }
        }
    }
}

fn main_file(dir: &Path) -> Option<PathBuf> {
    vars::files_for(dir, "main").into_iter().next()
}

fn shown(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|d| crate::source::display_path(d).display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether a file below a folder has a name in it. Used only where that is in doubt.
fn mentioned(dir: &Path, name: &str, depth: usize) -> bool {
    /// Deeper than roles go.
    const DEEPEST: usize = 8;
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|e| match e.file_type() {
        Ok(t) if t.is_dir() => depth < DEEPEST && mentioned(&e.path(), name, depth + 1),
        Ok(t) if t.is_file() => std::fs::read(e.path()).is_ok_and(|b| {
            let text = String::from_utf8_lossy(&b);
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == name)
        }),
        _ => false,
    })
}
