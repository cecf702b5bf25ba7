//! What stands in a list of tasks besides tasks: blocks, files and roles taken in, and the flushing of handlers.

use super::keys::Reader;
use super::vocabulary::{BLOCK_LISTS as LISTS, INNER_ROLE_KEYS};
use super::{Become, Block, RoleUse, Shared, TaskItem};
use crate::source::{Diagnostic, Entry, Kind, Node, Source, nearest, yaml};
use crate::vars::Vars;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keys of a block besides its lists, and of whatever is taken in.
pub const KEYS: &[&str] = &[
    "name",
    "when",
    "tags",
    "become",
    "become_user",
    "vars",
    "environment",
    "ignore_errors",
    "no_log",
    "check_mode",
    "run_once",
    "delegate_to",
    "lock",
    "throttle",
    "budget",
    "evidence",
    "diagnosis",
];

const LATER: &[&str] = &[
    "loop",
    "loop_control",
    "register",
    "until",
    "retries",
    "apply",
    "args",
    "any_errors_fatal",
    "connection",
    "notify",
    "module_defaults",
    "collections",
    "delegate_facts",
    "ignore_unreachable",
    "debugger",
];

pub const FILES: &[&str] = &["import_tasks", "include_tasks"];
pub const ROLES: &[&str] = &["import_role", "include_role"];

fn bare(key: &str) -> &str {
    key.strip_prefix("ansible.builtin.").unwrap_or(key)
}

impl Reader<'_> {
    /// One entry of a list of tasks.
    pub fn item(&mut self, node: &Node) -> Option<TaskItem> {
        let entries = node.as_map().unwrap_or_default();
        let find = |keys: &[&str]| entries.iter().find(|e| keys.contains(&bare(&e.key)));
        if find(LISTS).is_some() {
            return self.block(node, entries).map(TaskItem::Block);
        }
        if let Some(e) = find(FILES) {
            return self.task_file(node, entries, e);
        }
        if let Some(e) = find(ROLES) {
            return self.inner_role(node, entries, e);
        }
        if let Some(e) = find(&["meta"]) {
            return self.meta(entries, e);
        }
        self.plain_task(node)
    }

    fn block(&mut self, node: &Node, entries: &[Entry]) -> Option<Arc<Block>> {
        self.keys_of_block(entries, LISTS, "a block");
        let Some(main) = node.get("block") else {
            self.error_hint(&node.span, "`rescue` and `always` stand beside a `block`", "block: [the tasks]");
            return None;
        };
        let tasks = self.tasks(main, "`block`");
        let rescue = node.get("rescue").map(|n| self.tasks(n, "`rescue`"));
        let always = node.get("always").map(|n| self.tasks(n, "`always`"));
        Some(Arc::new(self.block_of(node, tasks, rescue, always)))
    }

    fn keys_of_block(&mut self, entries: &[Entry], own: &[&str], what: &str) {
        for e in entries.iter().filter(|e| !KEYS.contains(&e.key.as_str()) && !own.contains(&bare(&e.key))) {
            if LATER.contains(&e.key.as_str()) {
                let d = Diagnostic::error(format!("`{}` is not supported on {what}", e.key)).at(&e.key_span);
                self.found.push(d.hint("put it on the tasks inside"));
                continue;
            }
            let known: Vec<&str> = own.iter().chain(KEYS).copied().collect();
            self.found.push(super::keys::unknown_key(e, &known, what));
        }
    }

    /// A block with the keys that stand in a node.
    fn block_of(
        &mut self,
        node: &Node,
        tasks: Vec<TaskItem>,
        rescue: Option<Vec<TaskItem>>,
        always: Option<Vec<TaskItem>>,
    ) -> Block {
        let get = |key: &str| node.get(key);
        for key in ["vars", "environment"] {
            if let Some(n) = get(key) {
                self.templates_in(n);
            }
        }
        Block {
            name: get("name").and_then(|n| self.text(n, "`name`")),
            span: node.span.clone(),
            when: get("when").map(|n| self.conditions(n, "`when`")).unwrap_or_default(),
            tags: get("tags").map(|n| self.words(n, "`tags`")).unwrap_or_default(),
            become_: self.become_(get("become"), get("become_user")),
            vars: get("vars").map(|n| self.vars(n)).unwrap_or_default(),
            environment: get("environment").cloned(),
            keys: self.shared(&get),
            tasks,
            rescue,
            always,
        }
    }

    /// `import_tasks` and `include_tasks`: the file's tasks as a block.
    fn task_file(&mut self, node: &Node, entries: &[Entry], e: &Entry) -> Option<TaskItem> {
        let what = format!("`{}`", e.key);
        self.keys_of_block(entries, FILES, &what);
        let file = match &e.value.kind {
            Kind::Map(inner) => {
                self.unknown_keys(inner, &["file"], &["apply"], &what);
                e.value.get("file")
            }
            _ => Some(&e.value),
        };
        let Some(file) = file else {
            self.error_hint(&e.value.span, format!("{what} names no file"), format!("{}: NAME.yml", e.key));
            return None;
        };
        let name = self.string(file, &what)?;
        if name.contains("{{") {
            self.partial = true;
            let hint = "write one entry for each file, with a `when`";
            self.error_hint(&file.span, format!("{what} with a template in the name is not supported"), hint);
            return None;
        }
        let here = file.span.source.path.parent().map(Path::to_path_buf).unwrap_or_default();
        let list = self.tasks_of_file(&here.join(&name), file)?;
        Some(TaskItem::Block(Arc::new(self.block_of(node, list, None, None))))
    }

    /// The tasks of a file that something names.
    fn tasks_of_file(&mut self, path: &Path, at: &Node) -> Option<Vec<TaskItem>> {
        let shown = crate::source::display_path(path);
        if !path.is_file() {
            self.partial = true;
            let d = Diagnostic::error(format!("there is no file {}", shown.display())).at(&at.span);
            let names = yaml_files(path.parent());
            let wanted = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.found.push(match nearest(&wanted, names.iter().map(String::as_str)) {
                Some(n) => d.hint(format!("did you mean `{n}`?")),
                None => d.hint("the path is taken from the folder of this file"),
            });
            return None;
        }
        if self.including.contains(&path.to_path_buf()) {
            let message = format!("{} takes itself in", shown.display());
            self.error_hint(&at.span, message, "take one of these out: they would go on for ever");
            return None;
        }
        match Source::read(path).and_then(|s| yaml::parse(&s)) {
            Ok(n) => {
                self.including.push(path.to_path_buf());
                let list = self.tasks(&n, "a file of tasks");
                self.including.pop();
                Some(list)
            }
            Err(d) => {
                self.partial = true;
                self.found.push(d);
                None
            }
        }
    }

    /// `import_role` and `include_role`.
    fn inner_role(&mut self, node: &Node, entries: &[Entry], e: &Entry) -> Option<TaskItem> {
        let what = format!("`{}`", e.key);
        self.keys_of_block(entries, ROLES, &what);
        let inner = self.mapping(&e.value, &what)?;
        self.unknown_keys(inner, INNER_ROLE_KEYS, &["apply", "vars_from", "defaults_from", "handlers_from"], &what);
        let Some(name) = e.value.get("name").or_else(|| e.value.get("role")) else {
            self.error_hint(&e.value.span, format!("{what} names no role"), "write {name: ROLE}");
            return None;
        };
        let text = self.string(name, "a role's name")?;
        let role = self.role(&text, &name.span)?;
        let (mut entry, mut entry_name) = (None, None);
        if let Some(from) = e.value.get("tasks_from") {
            let file = self.string(from, "`tasks_from`")?;
            let dir = role.dir.join("tasks");
            let path = [file.clone(), format!("{file}.yml"), format!("{file}.yaml")]
                .iter()
                .map(|f| dir.join(f))
                .find(|p| p.is_file())
                .unwrap_or_else(|| dir.join(format!("{file}.yml")));
            entry = Some(Arc::new(self.tasks_of_file(&path, from)?));
            entry_name = path.file_stem().map(|s| s.to_string_lossy().into_owned());
        }
        let params = node
            .get("vars")
            .map(|n| {
                self.templates_in(n);
                self.vars(n)
            })
            .unwrap_or_default();
        let used = RoleUse {
            role,
            entry,
            entry_name,
            span: node.span.clone(),
            params,
            when: vec![],
            tags: vec![],
            become_: Become::default(),
        };
        self.nearly_arguments(&used);
        let list = vec![TaskItem::Role(Arc::new(used))];
        // Its other keys are those of a block around the role; its variables are the role's own.
        let mut block = self.block_of(node, list, None, None);
        block.vars = Vars::new();
        let plain = block.when.is_empty()
            && block.tags.is_empty()
            && block.environment.is_none()
            && block.become_.on.is_none()
            && block.become_.user.is_none()
            && is_plain(&block.keys);
        if plain {
            return block.tasks.pop();
        }
        Some(TaskItem::Block(Arc::new(block)))
    }

    fn meta(&mut self, entries: &[Entry], e: &Entry) -> Option<TaskItem> {
        for other in entries.iter().filter(|o| o.key != e.key && o.key != "name" && o.key != "tags") {
            let d = Diagnostic::error(format!("`{}` does nothing beside `meta`", other.key)).at(&other.key_span);
            self.found.push(d.hint("take it out"));
        }
        match e.value.as_str() {
            Some("flush_handlers") => Some(TaskItem::Flush(e.value.span.clone())),
            Some("noop") => None,
            _ => {
                let hint = "`meta: flush_handlers` is there: it runs the handlers that are due";
                self.error_hint(&e.value.span, format!("`meta: {}` is not supported", e.value.to_value()), hint);
                None
            }
        }
    }
}

fn is_plain(keys: &Shared) -> bool {
    let Shared { ignore_errors, no_log, check_mode, run_once, delegate_to, hold, evidence, diagnosis } = keys;
    ignore_errors.is_none()
        && no_log.is_none()
        && check_mode.is_none()
        && run_once.is_none()
        && delegate_to.is_none()
        && hold.is_empty()
        && evidence.is_none()
        && diagnosis.is_empty()
}

fn yaml_files(dir: Option<&Path>) -> Vec<String> {
    let Some(dir) = dir else { return vec![] };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let yaml = |p: &PathBuf| p.extension().is_some_and(|e| e == "yml" || e == "yaml");
    all.filter(yaml).filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect()
}
