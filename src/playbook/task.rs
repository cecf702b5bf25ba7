//! A task's keys.

use super::keys::Reader;
use super::{Loop, Task, TaskNeed};
use crate::modules::{self, ModuleDef};
use crate::source::{Diagnostic, Entry, Kind, Node, nearest};
use crate::vars;
use std::sync::Arc;

const KEYS: &[&str] = &[
    "name",
    "id",
    "needs",
    "when",
    "loop",
    "loop_control",
    "register",
    "notify",
    "listen",
    "tags",
    "become",
    "become_user",
    "vars",
    "environment",
    "timeout",
    "ignore_errors",
    "changed_when",
    "failed_when",
    "no_log",
    "check_mode",
    "until",
    "retries",
    "delay",
    "args",
];

const LATER: &[&str] = &[
    "block",
    "rescue",
    "always",
    "include_tasks",
    "import_tasks",
    "include_role",
    "import_role",
    "run_once",
    "delegate_to",
    "delegate_facts",
    "lock",
    "budget",
    "throttle",
    "any_errors_fatal",
    "become_method",
    "connection",
    "async",
    "poll",
    "diff",
    "action",
    "local_action",
    "debugger",
    "ignore_unreachable",
    "module_defaults",
    "collections",
    "first_found",
    "include_vars",
];

impl Reader<'_> {
    pub fn tasks(&mut self, node: &Node, what: &str) -> Vec<Arc<Task>> {
        self.list(node, what).iter().filter_map(|n| self.task(n)).map(Arc::new).collect()
    }

    fn task(&mut self, node: &Node) -> Option<Task> {
        let entries = self.mapping(node, "a task")?;
        let get = |key: &str| node.get(key);
        let (module, mut args) = self.module(node, entries)?;
        if let Some(extra) = node.get("args") {
            self.add_args(&mut args, extra);
        }
        self.module_params(module, &args);
        self.templates_in(&args);

        let mut task = Task {
            name: get("name").and_then(|n| self.text(n, "`name`")),
            span: node.span.clone(),
            id: get("id").and_then(|n| self.string(n, "`id`")),
            needs: get("needs").map(|n| self.task_needs(n)),
            module,
            args,
            when: get("when").map(|n| self.conditions(n, "`when`")).unwrap_or_default(),
            loop_: get("loop").and_then(|n| self.loop_(n, node.get("loop_control"))),
            register: get("register").and_then(|n| self.name(n, "`register`")),
            notify: vec![],
            listen: get("listen").map(|n| self.one_or_more(n, "`listen`")).unwrap_or_default(),
            tags: get("tags").map(|n| self.words(n, "`tags`")).unwrap_or_default(),
            become_: self.become_(get("become"), get("become_user")),
            vars: get("vars").map(|n| vars::from_node(n, "`vars`", self.opener, &mut self.found)).unwrap_or_default(),
            environment: get("environment").cloned(),
            timeout: get("timeout").and_then(|n| self.whole(n, "`timeout`")).filter(|t| *t > 0),
            ignore_errors: get("ignore_errors").and_then(|n| self.boolean(n, "`ignore_errors`")).unwrap_or(false),
            changed_when: get("changed_when").map(|n| self.conditions(n, "`changed_when`")).unwrap_or_default(),
            failed_when: get("failed_when").map(|n| self.conditions(n, "`failed_when`")).unwrap_or_default(),
            no_log: get("no_log").and_then(|n| self.boolean(n, "`no_log`")).unwrap_or(false),
            check_mode: get("check_mode").and_then(|n| self.boolean(n, "`check_mode`")),
            until: get("until").map(|n| self.conditions(n, "`until`")).unwrap_or_default(),
            retries: get("retries").and_then(|n| self.whole(n, "`retries`")).map_or(3, |n| n.min(100_000) as u32),
            delay: get("delay").and_then(|n| self.whole(n, "`delay`")).unwrap_or(5),
        };
        if let Some(n) = get("notify") {
            let items: Vec<&Node> = n.as_seq().map_or_else(|| vec![n], |s| s.iter().collect());
            task.notify = items.into_iter().filter_map(|i| self.text(i, "`notify`")).collect();
        }
        for key in ["vars", "environment", "loop"] {
            if let Some(n) = get(key) {
                self.templates_in(n);
            }
        }
        if get("loop").is_none()
            && let Some(e) = node.entry("loop_control")
        {
            self.error(&e.key_span, "`loop_control` without a `loop`");
        }
        Some(task)
    }

    /// The one key that is a module; what else is there must be a task's key.
    fn module(&mut self, node: &Node, entries: &[Entry]) -> Option<(&'static ModuleDef, Node)> {
        let others: Vec<&Entry> = entries.iter().filter(|e| !KEYS.contains(&e.key.as_str())).collect();
        let (mut known, mut unknown) = (vec![], vec![]);
        for e in others {
            match modules::find(&e.key) {
                Some(m) => known.push((e, m)),
                None => unknown.push(e),
            }
        }
        if let [_, (second, _), ..] = known.as_slice() {
            let d = Diagnostic::error(format!("a second module, `{}`, in one task", second.key)).at(&second.key_span);
            self.found.push(d.also(&known[0].0.key_span, "the first").hint("give each module a task of its own"));
        }
        let has_module = !known.is_empty();
        for e in unknown {
            let d = if LATER.contains(&e.key.as_str()) {
                Diagnostic::error(format!("`{}` is not supported yet", e.key)).at(&e.key_span)
            } else if let Some(rest) = e.key.strip_prefix("with_") {
                Diagnostic::error(format!("unknown key `{}` in a task", e.key))
                    .at(&e.key_span)
                    .hint(if rest == "items" { "write `loop:` instead" } else { "write it as a `loop:` over a list" })
            } else if has_module {
                Diagnostic::error(format!("unknown key `{}` in a task", e.key))
                    .at(&e.key_span)
                    .suggest(&e.key, KEYS.iter().copied())
            } else {
                let bare = e.key.rsplit('.').next().unwrap_or(&e.key);
                let near = nearest(bare, modules::names()).or_else(|| nearest(&e.key, KEYS.iter().copied()));
                let d = Diagnostic::error(format!("unknown module `{}`", e.key)).at(&e.key_span);
                match near {
                    Some(n) => d.hint(format!("did you mean `{n}`?")),
                    None => d.hint("`windlass modules` lists all modules"),
                }
            };
            self.found.push(d);
        }
        let had_unknown = self.found.has_errors();
        let Some((entry, def)) = known.first() else {
            if !had_unknown || entries.iter().all(|e| KEYS.contains(&e.key.as_str())) {
                self.error(&node.span, "this task names no module");
            }
            return None;
        };
        let args = self.free_form(entry, def)?;
        Some((def, args))
    }

    /// `module: text` stands for one parameter where the module has such a one.
    fn free_form(&mut self, entry: &Entry, def: &'static ModuleDef) -> Option<Node> {
        let value = &entry.value;
        match (&value.kind, def.free_form) {
            (Kind::Map(_), _) => Some(value.clone()),
            (Kind::Null, _) => Some(Node { span: entry.key_span.clone(), tag: None, kind: Kind::Map(vec![]) }),
            (Kind::Str(_) | Kind::Number(_), Some(param)) => {
                let e = Entry { key: param.to_string(), key_span: entry.key_span.clone(), value: value.clone() };
                Some(Node { span: value.span.clone(), tag: None, kind: Kind::Map(vec![e]) })
            }
            (Kind::Str(_), None) => {
                self.error_hint(
                    &value.span,
                    format!("`{}` takes a mapping of parameters, not text", def.name),
                    format!("write `{}: {{name: value}}`", def.name),
                );
                None
            }
            _ => {
                self.error(&value.span, format!("`{}` takes a mapping of parameters, not {}", def.name, value.what()));
                None
            }
        }
    }

    fn add_args(&mut self, args: &mut Node, extra: &Node) {
        let Some(more) = self.mapping(extra, "`args`") else { return };
        if let Kind::Map(m) = &mut args.kind {
            for e in more {
                match m.iter().find(|x| x.key == e.key) {
                    Some(twin) => {
                        let d = Diagnostic::error(format!("the parameter `{}` is given twice", e.key)).at(&e.key_span);
                        self.found.push(d.also(&twin.key_span, "first here"));
                    }
                    None => m.push(e.clone()),
                }
            }
        }
    }

    /// Parameters the module does not have. What a value must be is checked once it is rendered.
    fn module_params(&mut self, def: &'static ModuleDef, args: &Node) {
        for e in args.as_map().unwrap_or_default() {
            if let Some(known) = def.refuses(&e.key) {
                let d = Diagnostic::error(format!("`{}` has no parameter `{}`", def.name, e.key)).at(&e.key_span);
                self.found.push(match nearest(&e.key, known.iter().map(String::as_str)) {
                    Some(n) => d.hint(format!("did you mean `{n}`?")),
                    None => d.hint(format!("it has: {}", known.join(", "))),
                });
            }
        }
    }

    fn loop_(&mut self, over: &Node, control: Option<&Node>) -> Option<Loop> {
        if !matches!(over.kind, Kind::Seq(_) | Kind::Str(_)) {
            self.error_hint(
                &over.span,
                format!("`loop` takes a list, not {}", over.what()),
                "for a mapping: loop: \"{{dict2items name}}\"",
            );
            return None;
        }
        let mut l = Loop { over: over.clone(), var: "item".into(), index_var: None, label: None };
        if let Some(c) = control {
            let entries = self.mapping(c, "`loop_control`")?;
            self.unknown_keys(
                entries,
                &["loop_var", "index_var", "label"],
                &["pause", "extended", "break_when"],
                "`loop_control`",
            );
            if let Some(n) = c.get("loop_var") {
                l.var = self.name(n, "`loop_var`")?;
            }
            l.index_var = c.get("index_var").and_then(|n| self.name(n, "`index_var`"));
            l.label = c.get("label").and_then(|n| self.text(n, "`label`"));
        }
        Some(l)
    }

    fn name(&mut self, node: &Node, what: &str) -> Option<String> {
        let s = self.string(node, what)?;
        if vars::is_name(&s) {
            return Some(s);
        }
        self.error_hint(
            &node.span,
            format!("`{s}` cannot be a variable's name"),
            "a name has letters, digits and underscores",
        );
        None
    }

    fn one_or_more(&mut self, node: &Node, what: &str) -> Vec<String> {
        match node.as_seq() {
            Some(s) => s.iter().filter_map(|n| self.string(n, what)).collect(),
            None => self.string(node, what).into_iter().collect(),
        }
    }

    fn task_needs(&mut self, node: &Node) -> Vec<TaskNeed> {
        let one = |n: &Node, r: &mut Self| -> Option<TaskNeed> {
            if let Some(id) = n.as_str() {
                return Some(TaskNeed { id: id.to_string(), hosts: None, span: n.span.clone() });
            }
            let entries = r.mapping(n, "an entry of `needs`")?;
            r.unknown_keys(entries, &["task", "hosts"], &[], "`needs`");
            let Some(task) = n.get("task") else {
                r.error(&n.span, "an entry of `needs` says which `task`");
                return None;
            };
            Some(TaskNeed {
                id: r.string(task, "`task`")?,
                hosts: n.get("hosts").and_then(|h| r.string(h, "`hosts`")),
                span: task.span.clone(),
            })
        };
        match &node.kind {
            Kind::Seq(s) => s.iter().filter_map(|n| one(n, self)).collect(),
            Kind::Null => vec![],
            _ => one(node, self).into_iter().collect(),
        }
    }
}
