//! What stands in a list of tasks besides tasks: blocks, files and roles taken in, and the flushing of handlers.

use super::files::{pattern, yaml_below};
use super::keys::Reader;
use super::vocabulary::{BLOCK_LISTS as LISTS, INNER_ROLE_KEYS};
use super::{Become, Block, Include, RoleUse, Shared, Task, TaskItem, Text, each_task};
use crate::source::{Diagnostic, Entry, Kind, Node, Source, nearest, yaml};
use crate::vars::Vars;
use std::path::Path;
use std::sync::Arc;

/// Keys of a block besides its lists, and of whatever is taken in.
pub const KEYS: &[&str] = &[
    "name",
    "when",
    "tags",
    "become",
    "become_user",
    "remote_user",
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
/// Besides, of those that can be taken in more than once.
const LOOPS: &[&str] = &["loop", "loop_control"];
/// Keys for the tasks alone, not for the taking in.
const APPLY: &[&str] = &[
    "tags",
    "become",
    "become_user",
    "remote_user",
    "environment",
    "ignore_errors",
    "no_log",
    "check_mode",
    "delegate_to",
];

fn bare(key: &str) -> &str {
    key.strip_prefix("ansible.builtin.").unwrap_or(key)
}

/// Taken in at its place in the run, and not while reading.
fn is_include(e: &Entry) -> bool {
    bare(&e.key).starts_with("include_")
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
        if let Some(e) = find(&["meta"])
            && let Some(kind @ ("flush_handlers" | "noop")) = e.value.as_str()
        {
            self.alone(entries, e);
            return (kind == "flush_handlers").then(|| TaskItem::Flush(e.value.span.clone()));
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
        Some(Arc::new(self.block_of(node, None, tasks, rescue, always)))
    }

    fn keys_of_block(&mut self, entries: &[Entry], own: &[&str], what: &str) {
        for e in entries.iter().filter(|e| !KEYS.contains(&e.key.as_str()) && !own.contains(&bare(&e.key))) {
            if LATER.contains(&e.key.as_str()) {
                let d = Diagnostic::error(format!("`{}` is not supported on {what}", e.key)).at(&e.key_span);
                self.found.push(match what.strip_prefix("`import_").filter(|_| LOOPS.contains(&e.key.as_str())) {
                    Some(kind) => d.hint(format!("write `include_{kind}")),
                    None => d.hint("put it on the tasks inside"),
                });
                continue;
            }
            let known: Vec<&str> = own.iter().chain(KEYS).copied().collect();
            self.found.push(super::keys::unknown_key(e, &known, what));
        }
    }

    /// A block with the keys that stand in a node, or below its `apply`.
    pub fn block_of(
        &mut self,
        node: &Node,
        apply: Option<&Node>,
        tasks: Vec<TaskItem>,
        rescue: Option<Vec<TaskItem>>,
        always: Option<Vec<TaskItem>>,
    ) -> Block {
        if let Some(a) = apply {
            let entries = self.mapping(a, "`apply`").unwrap_or_default();
            self.unknown_keys(entries, APPLY, &[], "`apply`");
        }
        let get = |key: &str| node.get(key).or_else(|| apply?.get(key));
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
            entry_tags: vec![],
            become_: self.become_(&get),
            vars: get("vars").map(|n| self.vars(n)).unwrap_or_default(),
            environment: get("environment").cloned(),
            keys: self.shared(&get),
            tasks,
            rescue,
            always,
            included: false,
        }
    }

    /// `import_tasks` and `include_tasks`.
    fn task_file(&mut self, node: &Node, entries: &[Entry], e: &Entry) -> Option<TaskItem> {
        let what = format!("`{}`", e.key);
        self.keys_of_taken(entries, FILES, e);
        let (file, apply) = match &e.value.kind {
            Kind::Map(inner) => {
                self.unknown_keys(inner, &["file", "apply"], &[], &what);
                (e.value.get("file"), e.value.get("apply"))
            }
            _ => (Some(&e.value), None),
        };
        let Some(file) = file else {
            self.error_hint(&e.value.span, format!("{what} names no file"), format!("{}: NAME.yml", e.key));
            return None;
        };
        let name = self.text(file, &what)?;
        let here = file.span.source.path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut candidates = vec![];
        let (text, files) = self.files_of_tasks(&name.text, &here, node);
        let name = Text { text, ..name };
        if !name.text.contains("{{") {
            for (found, path) in files {
                candidates.push((found, self.tasks_of_file(&path, file)?));
            }
        } else if self.is_import(e, file) {
            return None;
        } else {
            for (found, path) in files {
                // Whatever is being read already would take itself in.
                if !self.including.contains(&path) && !is_main(&found) && holds_tasks(&path) {
                    candidates.push((found, self.tasks_of_file(&path, file).unwrap_or_default()));
                }
            }
        }
        let mut block = self.block_around(node, apply, e);
        block.included = bare(&e.key) == "include_tasks";
        let vars = block.vars.clone();
        self.taken(node, e, block, vars, name, candidates)
    }

    /// What is imported is known by its name.
    fn is_import(&mut self, e: &Entry, name: &Node) -> bool {
        let import = !is_include(e);
        if import {
            self.partial = true;
            let hint = format!("write `{}`", e.key.replace("import_", "include_"));
            self.error_hint(&name.span, format!("`{}` with a template in the name", e.key), hint);
        }
        import
    }

    fn keys_of_taken(&mut self, entries: &[Entry], names: &[&str], e: &Entry) {
        let own: Vec<&str> = names.iter().chain(if is_include(e) { LOOPS } else { &[][..] }).copied().collect();
        self.keys_of_block(entries, &own, &format!("`{}`", e.key));
    }

    /// A block around what is taken in. As in Ansible, the tags of an `include_…` are its own, and those of its `apply` are
    /// the tasks'.
    fn block_around(&mut self, node: &Node, apply: Option<&Node>, e: &Entry) -> Block {
        let mut block = self.block_of(node, apply, vec![], None, None);
        if is_include(e) {
            let own = node.get("tags").map(|_| std::mem::take(&mut block.tags));
            block.entry_tags = own.unwrap_or_default();
            if !block.entry_tags.is_empty() {
                let of_tasks = apply.and_then(|a| a.get("tags"));
                block.tags = of_tasks.map(|n| self.words(n, "`tags`")).unwrap_or_default();
            }
        }
        block
    }

    /// What is taken in: as a block where that is settled now, else with a step that looks first. `vars` is what its own
    /// keys can read.
    fn taken(
        &mut self,
        node: &Node,
        e: &Entry,
        mut block: Block,
        vars: Vars,
        name: Text,
        mut candidates: Vec<(String, Vec<TaskItem>)>,
    ) -> Option<TaskItem> {
        let loop_ = match node.get("loop") {
            Some(n) => {
                self.templates_in(n);
                Some(self.loop_(n, node.get("loop_control"))?)
            }
            None => None,
        };
        // As an `include` in Ansible, its condition is asked once; where its tasks cannot change the answer, each can ask it.
        let mut sets = false;
        let mut asks = false;
        for (_, tasks) in &candidates {
            each_task(tasks, &mut |t| {
                sets |= !t.sets().is_empty();
                asks |= t.sets().iter().any(|n| block.when.iter().any(|c| c.compiled.roots().contains(n)));
            });
        }
        let fixed = loop_.is_none() && !name.text.contains("{{");
        let settled = fixed && (!is_include(e) || !sets || block.when.is_empty());
        if settled {
            block.tasks = candidates.pop()?.1;
            if is_plain(&block) && block.tasks.len() == 1 && matches!(block.tasks[0], TaskItem::Role(_)) {
                return block.tasks.pop();
            }
            return Some(TaskItem::Block(Arc::new(block)));
        }
        // Through a variable they could change it, too: which there are shows when all is laid out.
        let perhaps = (fixed && !asks).then(|| {
            let tasks = candidates.first().map(|(_, t)| t.clone()).unwrap_or_default();
            Arc::new(Block { tasks, ..block.clone() })
        });
        let among = candidates.iter().map(|(n, _)| text_node(n, &name.span)).collect();
        let among = Node { span: name.span.clone(), tag: None, kind: Kind::Seq(among) };
        let entry = |key: &str, value: Node| Entry { key: key.into(), key_span: e.key_span.clone(), value };
        let args = vec![entry("file", text_node(&name.text, &name.span)), entry("among", among)];
        let title = block
            .name
            .clone()
            .unwrap_or_else(|| Text { text: format!("{}: {}", bare(&e.key), name.text), span: name.span.clone() });
        let look = Task {
            name: Some(title),
            args: Node { span: name.span.clone(), tag: None, kind: Kind::Map(args) },
            when: std::mem::take(&mut block.when),
            loop_,
            tags: block.entry_tags.clone(),
            vars,
            keys: Shared {
                no_log: block.keys.no_log.clone(),
                run_once: block.keys.run_once.clone(),
                ..Shared::default()
            },
            ..Task::new(&node.span, &crate::modules::INCLUDE)
        };
        Some(TaskItem::Include(Arc::new(Include {
            block: Arc::new(block),
            look: Arc::new(look),
            candidates,
            settled: perhaps,
        })))
    }

    /// The tasks of a file that something names.
    fn tasks_of_file(&mut self, path: &Path, at: &Node) -> Option<Vec<TaskItem>> {
        let shown = crate::source::display_path(path);
        if !path.is_file() {
            self.partial = true;
            let d = Diagnostic::error(format!("there is no file {}", shown.display())).at(&at.span);
            let names = path.parent().map(|p| yaml_below(p, 0)).unwrap_or_default();
            let wanted = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.found.push(match nearest(&wanted, names.iter().map(String::as_str)) {
                Some(n) => d.hint(format!("did you mean `{n}`?")),
                None => {
                    d.hint("it is looked for beside this file, then in the role's `tasks/`, then beside the playbook")
                }
            });
            return None;
        }
        if self.including.contains(&path.to_path_buf()) {
            let message = format!("{} takes itself in", shown.display());
            self.error_hint(&at.span, message, "take one of these out: they would go on for ever");
            return None;
        }
        if !self.may_take_in(&at.span) {
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
        self.keys_of_taken(entries, ROLES, e);
        let inner = self.mapping(&e.value, &what)?;
        self.unknown_keys(inner, INNER_ROLE_KEYS, &["vars_from", "defaults_from", "handlers_from"], &what);
        let Some(name) = e.value.get("name").or_else(|| e.value.get("role")) else {
            self.error_hint(&e.value.span, format!("{what} names no role"), "write {name: ROLE}");
            return None;
        };
        let text = self.text(name, "a role's name")?;
        let params = node
            .get("vars")
            .map(|n| {
                self.templates_in(n);
                self.vars(n)
            })
            .unwrap_or_default();
        let names = match pattern(&text.text) {
            None => vec![text.text.clone()],
            Some(pattern) => {
                if self.is_import(e, name) {
                    return None;
                }
                let known = self.roles.names();
                known
                    .into_iter()
                    .filter(|n| pattern.is_match(n).unwrap_or(false) && !self.roles.is_being_read(n))
                    .collect()
            }
        };
        let public = match e.value.get("public") {
            Some(n) => self.boolean(n, "`public`").unwrap_or(false),
            None => !is_include(e),
        };
        let import = !is_include(e);
        let mut candidates = vec![];
        for n in names {
            let role = self.role(&n, &name.span)?;
            let (entry, entry_name) = match e.value.get("tasks_from") {
                Some(from) => {
                    let (tasks, name) = self.tasks_from(&role.dir, from)?;
                    (Some(Arc::new(tasks)), name)
                }
                None => (None, None),
            };
            let used = RoleUse {
                role,
                entry,
                entry_name,
                span: node.span.clone(),
                params: if import { params.clone() } else { Vars::new() },
                given: if import { Vars::new() } else { params.clone() },
                when: vec![],
                tags: vec![],
                become_: Become::default(),
                block: None,
                public,
            };
            self.nearly_arguments(&used);
            candidates.push((n, vec![TaskItem::Role(Arc::new(used))]));
        }
        // Its other keys are those of a block around the role; its variables are the role's own.
        let mut block = self.block_around(node, e.value.get("apply"), e);
        block.vars = Vars::new();
        self.taken(node, e, block, params, text, candidates)
    }

    /// The tasks of a role's other file, and its name without the ending.
    fn tasks_from(&mut self, role: &Path, from: &Node) -> Option<(Vec<TaskItem>, Option<String>)> {
        let file = self.string(from, "`tasks_from`")?;
        let dir = role.join("tasks");
        let path = [file.clone(), format!("{file}.yml"), format!("{file}.yaml")]
            .iter()
            .map(|f| dir.join(f))
            .find(|p| p.is_file())
            .unwrap_or_else(|| dir.join(format!("{file}.yml")));
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned());
        Some((self.tasks_of_file(&path, from)?, name))
    }

    /// What lays the graph out has no conditions.
    fn alone(&mut self, entries: &[Entry], e: &Entry) {
        for other in entries.iter().filter(|o| o.key != e.key && o.key != "name" && o.key != "tags") {
            // Where handlers are run is laid out before the run, and for all hosts.
            let flush = other.key == "when" && e.value.as_str() == Some("flush_handlers");
            let (message, hint) = match flush {
                true => (
                    "`meta: flush_handlers` has no conditions here: it is laid out for all hosts before the run".into(),
                    "take it out, and put the condition on the handlers, or on what notifies them",
                ),
                false => (format!("`{}` does nothing beside this `meta`", other.key), "take it out"),
            };
            self.found.push(Diagnostic::error(message).at(&other.key_span).hint(hint));
        }
    }
}

/// A block that says nothing of its tasks.
pub fn is_plain(block: &Block) -> bool {
    let Shared { ignore_errors, no_log, check_mode, run_once, delegate_to, hold, evidence, diagnosis } = &block.keys;
    block.when.is_empty()
        && block.tags.is_empty()
        && block.entry_tags.is_empty()
        && block.environment.is_none()
        && block.become_.on.is_none()
        && block.become_.user.is_none()
        && block.become_.login.is_none()
        && ignore_errors.is_none()
        && no_log.is_none()
        && check_mode.is_none()
        && run_once.is_none()
        && delegate_to.is_none()
        && hold.is_empty()
        && evidence.is_none()
        && diagnosis.is_empty()
}

fn text_node(text: &str, span: &crate::source::Span) -> Node {
    Node { span: span.clone(), tag: None, kind: Kind::Str(text.to_string()) }
}

/// Whether a file can be meant where a template names one: a list, and no playbook. One that cannot be read is meant, too:
/// what is wrong with it is to be said.
fn holds_tasks(path: &Path) -> bool {
    let Ok(node) = Source::read(path).and_then(|s| yaml::parse(&s)) else { return true };
    let of_playbook = |n: &Node| ["hosts", "phase", "import_playbook"].iter().any(|k| n.get(k).is_some());
    node.as_seq().is_some_and(|items| !items.iter().any(of_playbook))
}

/// A role's own list of tasks takes in the others, and is not taken in by them.
fn is_main(file: &str) -> bool {
    matches!(file, "main.yml" | "main.yaml")
}
