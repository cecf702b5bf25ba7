//! A task's keys.

use super::keys::{Reader, argument_diagnostic, instead_of, is_template, unknown_key};
use super::vocabulary::{DIAGNOSIS_KEYS, LOOP_CONTROL_KEYS, TASK_KEYS as KEYS};
use super::{Diagnosis, Hold, Loop, Said, Shared, Task, TaskItem, TaskNeed};
use crate::modules::{self, ModuleDef};
use crate::source::{Diagnostic, Diagnostics, Entry, Kind, Node, Span, nearest};
use crate::vars;
use std::sync::Arc;

const LATER: &[&str] = &[
    "delegate_facts",
    "any_errors_fatal",
    "become_method",
    "connection",
    "diff",
    "action",
    "local_action",
    "debugger",
    "ignore_unreachable",
    "module_defaults",
    "collections",
    "first_found",
];

/// Parameters people write into the text of a command.
const OF_COMMAND: &[&str] = &["creates", "removes", "chdir"];

/// Names no task can set.
const RESERVED: &[&str] = &[
    "hostvars",
    "groups",
    "group_names",
    "inventory_hostname",
    "facts",
    "playbook_dir",
    "inventory_dir",
    "role_path",
    "role_name",
    "omit",
];

/// `a=1 b=2` as a mapping, to be shown as what to write.
fn key_equals_value(text: &str) -> Option<String> {
    let words: Option<Vec<String>> = text
        .split_whitespace()
        .map(|w| {
            let (k, v) = w.split_once('=')?;
            let quoted = k == "mode" || v.contains(['{', ':', ',']);
            Some(if quoted { format!("{k}: \"{v}\"") } else { format!("{k}: {v}") })
        })
        .collect();
    words.filter(|w| !w.is_empty()).map(|w| format!("{{{}}}", w.join(", ")))
}

/// 0 stands for no limit.
fn not_zero(n: &Said<u64>) -> bool {
    !matches!(n, Said::Plain(0))
}

fn has_template(node: &Node) -> bool {
    let mut has = false;
    node.walk(&mut |n| has |= n.tag.is_some() || n.as_str().is_some_and(|s| s.contains("{{")));
    has
}

impl Reader<'_> {
    /// A list of tasks, blocks and what is included.
    pub fn tasks(&mut self, node: &Node, what: &str) -> Vec<TaskItem> {
        self.list(node, what).iter().filter_map(|n| self.item(n)).collect()
    }

    /// A task that is no handler.
    pub fn plain_task(&mut self, node: &Node) -> Option<TaskItem> {
        let task = self.task(node)?;
        if !task.listen.is_empty() {
            self.error_hint(&task.span, "a task has a `listen`: only handlers are notified", "move it to `handlers:`");
        }
        Some(TaskItem::Task(Arc::new(task)))
    }

    /// Handlers: tasks with a name to call them by.
    pub fn handlers(&mut self, node: &Node, what: &str) -> Vec<Arc<Task>> {
        let handlers: Vec<Arc<Task>> =
            self.list(node, what).iter().filter_map(|n| self.task(n)).map(Arc::new).collect();
        for h in handlers.iter().filter(|h| h.name.is_none() && h.listen.is_empty() && !h.broken) {
            self.error_hint(&h.span, "a handler without a name: nobody can notify it", "give it a `name:`");
        }
        handlers
    }

    fn task(&mut self, node: &Node) -> Option<Task> {
        let Some(entries) = self.mapping(node, "a task") else {
            self.partial = true;
            return None;
        };
        // A key that is nearly right is reported, and read as if it were right: what it sets is not missing then.
        let nearly = |key: &str| {
            let meant = |e: &&Entry| !KEYS.contains(&e.key.as_str()) && modules::find(&e.key).is_none();
            entries.iter().filter(meant).find(|e| nearest(&e.key, KEYS.iter().copied()) == Some(key)).map(|e| &e.value)
        };
        let get = |key: &str| node.get(key).or_else(|| nearly(key));
        let (module, mut args, mut broken) = self.module(node, entries);
        if let Some(extra) = node.get("args") {
            self.add_args(&mut args, extra);
        }
        let mut unbound = false;
        if !broken {
            unbound = self.module_params(module, &mut args);
        }
        self.templates_in(&args);
        let mut found = Diagnostics::default();
        args.walk(&mut |n| {
            if n.tag.is_some() {
                found.push(
                    Diagnostic::error("a `!age` value stands in a task")
                        .at(&n.span)
                        .hint("put it into a variable, and write \"{{name}}\" here"),
                );
            }
        });
        self.found.extend(found);
        let brings = if module.name == "include_vars" && !broken { self.files_of_variables(&args) } else { vec![] };
        let vars = get("vars").map(|n| self.vars(n)).unwrap_or_default();
        let loop_ = get("loop").and_then(|n| self.loop_(n, node.get("loop_control")));
        broken |= get("loop").is_some() && loop_.is_none();

        let mut task = Task {
            name: get("name").and_then(|n| self.text(n, "`name`")),
            span: node.span.clone(),
            id: get("id").and_then(|n| self.string(n, "`id`")),
            needs: get("needs").map(|n| self.task_needs(n)),
            module,
            args,
            when: get("when").map(|n| self.conditions(n, "`when`")).unwrap_or_default(),
            loop_,
            register: get("register").and_then(|n| self.name(n, "`register`")),
            background: self.background(node, module),
            brings,
            notify: vec![],
            listen: get("listen").map(|n| self.one_or_more(n, "`listen`")).unwrap_or_default(),
            tags: get("tags").map(|n| self.words(n, "`tags`")).unwrap_or_default(),
            become_: self.become_(&get),
            vars,
            environment: get("environment").cloned(),
            timeout: get("timeout").and_then(|n| self.number(n, "`timeout`")).filter(not_zero),
            changed_when: get("changed_when").map(|n| self.conditions(n, "`changed_when`")).unwrap_or_default(),
            failed_when: get("failed_when").map(|n| self.conditions(n, "`failed_when`")).unwrap_or_default(),
            keys: self.shared(&get),
            until: get("until").map(|n| self.conditions(n, "`until`")).unwrap_or_default(),
            retries: get("retries").and_then(|n| self.whole_or_template(n, "`retries`")),
            delay: get("delay").and_then(|n| self.whole_or_template(n, "`delay`")),
            broken,
            unbound,
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
            self.error_hint(&e.key_span, "`loop_control` without a `loop`", "add a `loop:`, or take it out");
        }
        if let Some(id) = &task.id
            && id.contains("{{")
            && let Some(n) = get("id")
        {
            self.error_hint(&n.span, "an id is plain text, without templates", "`needs` names it as it is written");
        }
        if let Some(l) = &task.loop_ {
            let taken = [("register", &task.register), ("index_var", &l.index_var)];
            for (key, _) in taken.into_iter().filter(|(_, n)| n.as_ref() == Some(&l.var)) {
                let at = if key == "register" { get(key) } else { node.get("loop_control").and_then(|c| c.get(key)) };
                let at = at.map_or(&node.span, |n| &n.span);
                self.error_hint(
                    at,
                    format!("`{key}` takes the name of the loop's variable, `{}`", l.var),
                    "take another name",
                );
            }
        }
        if get("retries").is_none()
            && get("until").is_none()
            && let Some(e) = node.entry("delay")
        {
            let hint = "say when it is done: until: eq result.rc 0";
            self.error_hint(&e.key_span, "`delay` without an `until` or `retries`", hint);
        }
        Some(task)
    }

    /// `async` and `poll`.
    fn background(&mut self, node: &Node, module: &ModuleDef) -> Option<(Said<u64>, Said<u64>)> {
        let Some(limit) = node.entry("async") else {
            if let Some(e) = node.entry("poll") {
                self.error_hint(&e.key_span, "`poll` without an `async`", "say how long it may run: async: 600");
            }
            return None;
        };
        if !matches!(module.name, "command" | "shell") {
            let message = format!("`async` goes with command and shell, not with {}", module.name);
            let hint = "take it out; with `needs: []` a task does not keep others waiting";
            self.error_hint(&limit.key_span, message, hint);
            return None;
        }
        let limit = self.number(&limit.value, "`async`")?;
        let poll = node.get("poll").map_or(Some(Said::Plain(10)), |n| self.number(n, "`poll`"))?;
        Some(limit).filter(not_zero).map(|l| (l, poll))
    }

    fn whole_or_template(&mut self, node: &Node, what: &str) -> Option<Node> {
        if is_template(node) {
            self.templates_in(node);
        } else {
            self.whole(node, what)?;
        }
        Some(node.clone())
    }

    /// A number of seconds, parts of one too, or a template that comes to it.
    fn seconds(&mut self, node: &Node, what: &str) -> Option<Node> {
        if is_template(node) {
            self.templates_in(node);
        } else if super::seconds(&node.to_value()).is_none() {
            let message = format!("{what} must be a number of seconds, not {}", node.what());
            self.error_hint(&node.span, message, "write a number, 0 or more, or a template");
            return None;
        }
        Some(node.clone())
    }

    /// The keys a task and a block have in common.
    pub fn shared<'n>(&mut self, get: &impl Fn(&str) -> Option<&'n Node>) -> Shared {
        let mut flag = |key: &str| get(key).and_then(|n| self.flag(n, &format!("`{key}`")));
        let (ignore_errors, no_log) = (flag("ignore_errors"), flag("no_log"));
        let (check_mode, run_once) = (flag("check_mode"), flag("run_once"));
        let locks: Vec<String> = get("lock").map(|n| self.one_or_more(n, "`lock`")).unwrap_or_default();
        if let (Some(n), true) = (get("lock"), locks.iter().any(|l| l.contains("{{"))) {
            self.error_hint(
                &n.span,
                "a lock's name takes no template",
                "give it a plain name: it is the same on all hosts",
            );
        }
        let mut hold = Hold {
            locks,
            throttle: get("throttle").and_then(|n| self.number(n, "`throttle`")).filter(not_zero),
            budgets: vec![],
        };
        if let Some(n) = get("budget") {
            let items: Vec<&Node> = n.as_seq().map_or_else(|| vec![n], |s| s.iter().collect());
            hold.budgets =
                items.into_iter().filter_map(|i| Some((self.string(i, "`budget`")?, i.span.clone()))).collect();
        }
        Shared {
            ignore_errors,
            no_log,
            check_mode,
            run_once,
            delegate_to: get("delegate_to").and_then(|n| self.text(n, "`delegate_to`")),
            hold,
            evidence: get("evidence").and_then(|n| self.evidence(n)),
            diagnosis: get("diagnosis").map(|n| self.diagnosis(n)).unwrap_or_default(),
        }
    }

    /// Scripts by title, or a template that comes to that.
    pub fn evidence(&mut self, node: &Node) -> Option<Node> {
        if !matches!(node.kind, Kind::Map(_)) && node.as_str().is_none_or(|s| !s.contains("{{")) {
            let message = format!("`evidence` takes scripts by title, not {}", node.what());
            self.error_hint(&node.span, message, "evidence: {journal: journalctl -u NAME -n 40 --no-pager}");
            return None;
        }
        self.templates_in(node);
        Some(node.clone())
    }

    pub fn diagnosis(&mut self, node: &Node) -> Vec<Diagnosis> {
        let mut all = vec![];
        for n in self.list(node, "`diagnosis`") {
            let Some(entries) = self.mapping(n, "an entry of `diagnosis`") else { continue };
            self.unknown_keys(entries, DIAGNOSIS_KEYS, &[], "an entry of `diagnosis`");
            let (Some(pattern), Some(say)) = (n.get("match"), n.get("say")) else {
                let hint = "write {match: REGEX, say: WHAT IT MEANS}";
                self.error_hint(&n.span, "an entry of `diagnosis` has a `match` and a `say`", hint);
                continue;
            };
            let text = self.string(pattern, "`match`").unwrap_or_default();
            match fancy_regex::Regex::new(&text) {
                Err(e) => {
                    let hint = "close what is open, and put `\\` before a sign that stands for itself";
                    self.error_hint(&pattern.span, format!("not a regular expression: {e}"), hint);
                }
                Ok(re) => {
                    if let Some(say) = self.text(say, "`say`") {
                        let within = n.get("in").and_then(|n| self.string(n, "`in`"));
                        all.push(Diagnosis { pattern: Arc::new(re), within, say });
                    }
                }
            }
        }
        all
    }

    /// The one key that is a module; what else is there must be a task's key. `true`: no task can be made of it, and
    /// that has been said.
    fn module(&mut self, node: &Node, entries: &[Entry]) -> (&'static ModuleDef, Node, bool) {
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
        let mut broken = !has_module;
        let said = !unknown.is_empty();
        let beside: Vec<&Entry> = match known.first() {
            Some((_, m)) => {
                unknown.iter().copied().filter(|e| !m.params().is_empty() && m.refuses(&e.key).is_none()).collect()
            }
            None => vec![],
        };
        if let ([first, rest @ ..], Some((m, _))) = (beside.as_slice(), known.first()) {
            let words: Vec<String> = beside.iter().map(|e| format!("`{}`", e.key)).collect();
            let is = if rest.is_empty() { "is a parameter" } else { "are parameters" };
            let message = format!("{} {is} of `{}`, not of the task", words.join(", "), m.key);
            self.error_hint(&first.key_span, message, format!("indent below `{}:`", m.key));
            broken = true;
        }
        for e in unknown.into_iter().filter(|e| !beside.iter().any(|b| b.key == e.key)) {
            let d = if LATER.contains(&e.key.as_str()) {
                Diagnostic::error(format!("`{}` is not supported yet", e.key)).at(&e.key_span).hint(instead_of(&e.key))
            } else if let Some(rest) = e.key.strip_prefix("with_") {
                broken = true;
                Diagnostic::error(format!("unknown key `{}` in a task", e.key)).at(&e.key_span).hint(loop_for(rest))
            } else if has_module {
                unknown_key(e, KEYS, "a task")
            } else {
                let bare = e.key.rsplit('.').next().unwrap_or(&e.key);
                match (nearest(bare, modules::names()), nearest(&e.key, KEYS.iter().copied())) {
                    // Nothing says that it was meant as a module.
                    (None, Some(_)) => unknown_key(e, KEYS, "a task"),
                    (near, _) => {
                        let d = Diagnostic::error(format!("unknown module `{}`", e.key)).at(&e.key_span);
                        match near {
                            Some(n) => d.hint(format!("did you mean `{n}`?")),
                            None => d.hint("`windlass modules` lists them"),
                        }
                    }
                }
            };
            self.found.push(d);
        }
        let nothing = Node { span: node.span.clone(), tag: None, kind: Kind::Map(vec![]) };
        let Some((entry, def)) = known.first() else {
            if !said {
                let hint = "write a module and its parameters: `copy: {src: a, dest: /a}`";
                self.error_hint(&node.span, "this task names no module", hint);
            }
            // Something must stand there; it is never run.
            return (&modules::MODULES[0], nothing, true);
        };
        match self.free_form(entry, def) {
            Some(args) => (def, args, broken),
            None => (def, nothing, true),
        }
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
            _ => {
                let message = format!("`{}` takes a mapping of parameters, not {}", def.name, value.what());
                let hint = value.as_str().and_then(key_equals_value).unwrap_or_else(|| "{name: value}".into());
                self.error_hint(&value.span, message, format!("write `{}: {hint}`", entry.key));
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
                        self.found.push(d.also(&twin.key_span, "first here").hint("take one of them out"));
                    }
                    None => m.push(e.clone()),
                }
            }
        }
    }

    /// Parameters the module does not have, those it lacks, and values of the wrong type. What a template comes to is
    /// checked once it is rendered.
    /// `true`: some are gone, and the rest cannot be judged as a whole.
    fn module_params(&mut self, def: &'static ModuleDef, args: &mut Node) -> bool {
        for e in args.as_map().unwrap_or_default() {
            if let Some(known) = def.refuses(&e.key) {
                let d = Diagnostic::error(format!("`{}` has no parameter `{}`", def.name, e.key)).at(&e.key_span);
                self.found.push(match nearest(&e.key, known.iter().map(String::as_str)) {
                    Some(n) => d.hint(format!("did you mean `{n}`?")),
                    None => d.hint(format!("it has: {}", known.join(", "))),
                });
            }
        }
        // What was refused stands in for what was meant: it is not missing as well.
        let mut given: Vec<String> = args.as_map().unwrap_or_default().iter().map(|e| e.key.clone()).collect();
        for e in args.as_map().unwrap_or_default().iter().filter(|e| def.refuses(&e.key).is_some()) {
            let params = def.params();
            given.extend(nearest(&e.key, params.iter().map(String::as_str)).map(str::to_string));
        }
        let mut refused = false;
        if let Kind::Map(m) = &mut args.kind {
            let before = m.len();
            m.retain(|e| def.refuses(&e.key).is_none());
            refused = m.len() < before;
        }
        for e in def.lacks(&given) {
            self.found.push(argument_diagnostic(&e, def, args));
        }
        if matches!(def.name, "command" | "shell") {
            self.no_shell(def, args);
        }
        for e in args.as_map().unwrap_or_default().iter().filter(|e| !has_template(&e.value)) {
            if let Some(d) = word_for_text(def, e) {
                self.found.push(d);
            } else if !def.expressions.contains(&e.key.as_str())
                && let Err(wrong) = (def.typed)(&e.key, e.value.to_value())
            {
                self.found.push(argument_diagnostic(&wrong, def, args));
            }
        }
        refused
    }

    /// What only a shell understands, in a command that has none.
    fn no_shell(&mut self, def: &ModuleDef, args: &Node) {
        let Some(node) = args.get("cmd") else { return };
        let (Some(text), span) = (node.as_str(), &node.span) else { return };
        let bare = |at: usize| text[..at].matches('"').count() % 2 == 0 && text[..at].matches('\'').count() % 2 == 0;
        let mut at = 0;
        for word in text.split(' ') {
            let here = at;
            at += word.len() + 1;
            let place = || {
                let place = span.text().find(text).map(|i| span.range.start + i + here);
                place.map_or(span.clone(), |p| Span::new(&span.source, p..p + word.len()))
            };
            if matches!(word, "|" | "||" | "&&" | ">" | ">>" | "2>&1" | "2>/dev/null" | ">/dev/null")
                && def.name == "command"
                && bare(here)
            {
                let message = format!("`command` runs without a shell: `{word}` would be an argument");
                self.error_hint(&place(), message, "use `shell`, or write the words as `argv`");
                return;
            }
            if let Some((param, _)) = word.split_once('=').filter(|(k, _)| OF_COMMAND.contains(k)) {
                let message = format!("`{param}` is a parameter, and stands in the command");
                let rest: Vec<&str> = text.split(' ').filter(|w| *w != word).collect();
                let value = &word[param.len() + 1..];
                let hint = format!("write `{}: {{cmd: {}, {param}: {value}}}`", def.name, rest.join(" "));
                self.error_hint(&place(), message, hint);
                return;
            }
        }
    }

    pub fn loop_(&mut self, over: &Node, control: Option<&Node>) -> Option<Loop> {
        if !matches!(over.kind, Kind::Seq(_) | Kind::Str(_)) {
            let hint = match &over.kind {
                Kind::Map(_) => "for a mapping: loop: \"{{dict2items name}}\"",
                Kind::Number(_) => "for numbers: loop: \"{{range 0 3}}\"",
                _ => "write it as a list: loop: [a, b]",
            };
            self.error_hint(&over.span, format!("`loop` takes a list, not {}", over.what()), hint);
            return None;
        }
        let mut l = Loop {
            over: over.clone(),
            var: "item".into(),
            index_var: None,
            label: None,
            pause: None,
            extended: false,
            all_items: true,
        };
        if let Some(c) = control {
            let entries = self.mapping(c, "`loop_control`")?;
            self.unknown_keys(entries, LOOP_CONTROL_KEYS, &["break_when"], "`loop_control`");
            if let Some(n) = c.get("loop_var") {
                l.var = self.name(n, "`loop_var`")?;
            }
            l.index_var = c.get("index_var").and_then(|n| self.name(n, "`index_var`"));
            l.label = c.get("label").and_then(|n| self.text(n, "`label`"));
            l.pause = c.get("pause").and_then(|n| self.seconds(n, "`pause`"));
            l.extended = c.get("extended").and_then(|n| self.boolean(n, "`extended`")).unwrap_or(false);
            let all = c.get("extended_allitems").and_then(|n| self.boolean(n, "`extended_allitems`"));
            l.all_items = all.unwrap_or(true);
        }
        Some(l)
    }

    pub fn name(&mut self, node: &Node, what: &str) -> Option<String> {
        let s = self.string(node, what)?;
        if RESERVED.contains(&s.as_str()) {
            let message = format!("{what} cannot be `{s}`: Windlass sets it itself");
            self.error_hint(&node.span, message, "take another name");
            return None;
        }
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

    pub fn one_or_more(&mut self, node: &Node, what: &str) -> Vec<String> {
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
                r.error_hint(&n.span, "an entry of `needs` says which `task`", "needs: [{task: ID, hosts: all}]");
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

/// What stands for `with_…`.
fn loop_for(with: &str) -> &'static str {
    match with {
        "items" => "write `loop:` instead; for a list of lists: loop: \"{{flatten list 1}}\"",
        "list" => "write `loop:` instead",
        "dict" => "write loop: \"{{dict2items mapping}}\"",
        "nested" | "cartesian" => "write loop: \"{{product list other}}\"",
        "together" => "write loop: \"{{zip list other}}\"",
        "sequence" => "write loop: \"{{range 1 4}}\": the last number is not part of it",
        "subelements" => "write loop: \"{{subelements list 'key'}}\"",
        "flattened" => "write loop: \"{{flatten list}}\"",
        "indexed_items" => "write `loop:` with `loop_control: {index_var: i}`",
        "fileglob" => "write loop: \"{{fileglob 'files/*.conf'}}\"",
        "first_found" => "write loop: [\"{{first_found 'a' 'b'}}\"]",
        "inventory_hostnames" => "write loop: \"{{groups.all}}\"",
        _ => "write it as a `loop:` over a list",
    }
}

/// `yes` and its like without quotes where text is wanted: YAML makes a truth of it, and not the word.
fn word_for_text(def: &crate::modules::ModuleDef, e: &Entry) -> Option<Diagnostic> {
    use serde_json::json;
    let word = e.value.span.text();
    let takes = |v: serde_json::Value| (def.typed)(&e.key, v).is_ok();
    let is_word = matches!(&e.value.kind, Kind::Bool(_)) && !word.eq_ignore_ascii_case(&e.value.to_value().to_string());
    // The kernel's own truths are 1 and 0, however they are said.
    let of_kernel = def.name == "sysctl" && e.key == "value";
    if !is_word || of_kernel || !takes(json!(true)) || !takes(json!("any word")) || takes(json!([])) {
        return None;
    }
    let d = Diagnostic::error(format!("`{word}` without quotes is {} in YAML, and no text", e.value.to_value()));
    Some(d.at(&e.value.span).hint(format!("{}: \"{word}\"", e.key)))
}
