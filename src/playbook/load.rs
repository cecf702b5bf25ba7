//! Reading a playbook with its roles and variable files.

use super::keys::{Reader, has_template, template_diagnostic};
use super::role::Roles;
use super::vocabulary::{IMPORT_KEYS, PHASE_KEYS as KEYS, PROMPT_KEYS};
use super::{Batch, Phase, PhaseKey, PhaseNeed, Playbook, Share, Text, VarPrompt, public_roles};
use crate::source::{Diagnostic, Diagnostics, Kind, Node, Source, Span, yaml};
use crate::template::Templates;
use crate::vars::{self, SecretOpener, Vars};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LATER: &[&str] = &[
    "strategy",
    "throttle",
    "port",
    "become_method",
    "ignore_errors",
    "ignore_unreachable",
    "run_once",
    "order",
    "module_defaults",
    "collections",
    "no_log",
    "check_mode",
    "diff",
    "timeout",
];

/// Reads a playbook and all it names. What is wrong goes into the findings; what could be read is returned.
pub fn load(path: &Path, templates: &Templates, opener: &dyn SecretOpener) -> (Option<Playbook>, Diagnostics) {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let roles = Roles::beside(absolute.parent().unwrap_or(Path::new("/")));
    let mut reader = Reader {
        templates,
        opener,
        found: Diagnostics::default(),
        partial: false,
        roles,
        dir: absolute.parent().map(Path::to_path_buf).unwrap_or_default(),
        including: vec![],
        taken_in: 0,
    };
    let playbook = reader.playbook(path);
    (playbook, reader.found)
}

impl Reader<'_> {
    fn playbook(&mut self, path: &Path) -> Option<Playbook> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let dir = absolute.parent().map(Path::to_path_buf).unwrap_or_default();
        self.including.push(absolute);
        let mut phases = self.phases(path, &dir)?;
        // Nobody named them: they are told apart by numbers.
        for i in 0..phases.len() {
            if phases[i].named {
                continue;
            }
            let name = phases[i].name.clone();
            let taken = |n: &str| phases.iter().enumerate().any(|(j, p)| p.name == n && (j < i || p.named));
            let free = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name} ({n})"))).find(|n| !taken(n));
            phases[i].name = free.unwrap_or(name);
        }
        // Of those that come from several files, or from one that is taken in again, none is meant alone.
        for i in 0..phases.len() {
            let p = &phases[i];
            let needed = phases.iter().flat_map(|q| q.needs.iter().flatten()).any(|n| n.phase == p.name);
            let far = |q: &&Phase| q.name == p.name && !Arc::ptr_eq(&q.span.source, &p.span.source);
            if needed || !p.named || phases[..i].iter().find(|q| q.name == p.name).filter(far).is_none() {
                continue;
            }
            let taken = |n: &str| phases.iter().any(|q| q.name == n);
            let name = (2..).map(|n| format!("{} ({n})", p.name)).find(|n| !taken(n));
            phases[i].name = name.unwrap_or_default();
        }
        for (i, p) in phases.iter().enumerate() {
            if let Some(twin) = phases[..i].iter().find(|q| q.name == p.name) {
                let d = Diagnostic::error(format!("two phases are called `{}`", p.name)).at(&p.span);
                self.found.push(d.also(&twin.span, "the first").hint("give one of them another name"));
            }
        }
        Some(Playbook { path: path.to_path_buf(), dir, phases, partial: self.partial })
    }

    /// The phases of a playbook's file, with those of the playbooks it takes in.
    fn phases(&mut self, path: &Path, dir: &Path) -> Option<Vec<Phase>> {
        let node = match Source::read(path).and_then(|s| yaml::parse(&s)) {
            Ok(n) => n,
            Err(d) => {
                self.partial = true;
                self.found.push(d);
                return None;
            }
        };
        let Kind::Seq(items) = &node.kind else {
            self.error_hint(
                &node.span,
                format!("a playbook is a list of phases, not {}", node.what()),
                "start it with `- phase: NAME`",
            );
            return None;
        };
        if items.is_empty() {
            self.error_hint(&node.span, "the playbook has no phases", "start it with `- phase: NAME`");
        }
        let mut phases = vec![];
        for n in items {
            match n.entry("import_playbook").or_else(|| n.entry("ansible.builtin.import_playbook")) {
                Some(e) => phases.extend(self.imported(n, &e.value, dir)),
                None => phases.extend(self.one_phase(n, dir)),
            }
        }
        Some(phases)
    }

    /// `import_playbook`: the other file's phases in place of the entry.
    fn imported(&mut self, node: &Node, file: &Node, dir: &Path) -> Vec<Phase> {
        self.unknown_keys(node.as_map().unwrap_or_default(), IMPORT_KEYS, &[], "an imported playbook");
        let Some(name) = self.string(file, "`import_playbook`") else { return vec![] };
        let path = dir.join(&name);
        let shown = crate::source::display_path(&path);
        if !path.is_file() {
            self.partial = true;
            let d = Diagnostic::error(format!("there is no playbook {}", shown.display())).at(&file.span);
            self.found.push(d.hint("the path is taken from the folder of this playbook"));
            return vec![];
        }
        if self.including.contains(&path) {
            let message = format!("{} takes itself in", shown.display());
            self.error_hint(&file.span, message, "take one of these out: they would go on for ever");
            return vec![];
        }
        if !self.may_take_in(&file.span) {
            return vec![];
        }
        let when = node.get("when").map(|n| self.conditions(n, "`when`")).unwrap_or_default();
        let tags = node.get("tags").map(|n| self.words(n, "`tags`")).unwrap_or_default();
        let vars = node.get("vars").map(|n| self.vars(n)).unwrap_or_default();
        self.including.push(path.clone());
        let inner = path.parent().map(Path::to_path_buf).unwrap_or_default();
        // Its roles are searched beside it first.
        let outer = (self.roles.beside_too(&inner), std::mem::replace(&mut self.dir, inner.clone()));
        let mut phases = self.phases(&shown, &inner).unwrap_or_default();
        (self.roles.dirs, self.dir) = outer;
        self.including.pop();
        for p in &mut phases {
            p.when.splice(0..0, when.iter().cloned());
            p.tags.extend(tags.iter().cloned());
            // As in Ansible, what takes it in has the last word.
            p.vars.extend(vars.clone());
        }
        phases
    }

    /// A phase, and whether all of it could be read.
    fn one_phase(&mut self, node: &Node, dir: &Path) -> Option<Phase> {
        let before = std::mem::take(&mut self.partial);
        let phase = self.phase(node, dir).map(|p| Phase { partial: self.partial, ..p });
        self.partial |= before;
        phase
    }

    fn phase(&mut self, node: &Node, dir: &Path) -> Option<Phase> {
        let entries = self.mapping(node, "a phase")?;
        self.unknown_keys(entries, KEYS, LATER, "a phase");
        let get = |k: &str| node.get(k);
        let Some(hosts_node) = get("hosts") else {
            self.partial = true;
            self.error_hint(&node.span, "this phase does not say on which `hosts`", "hosts: all");
            return None;
        };
        let pattern = match hosts_node.as_seq() {
            Some(s) => s.iter().filter_map(|n| self.string(n, "`hosts`")).collect::<Vec<_>>().join(","),
            None => match self.string(hosts_node, "`hosts`") {
                Some(h) => h,
                None => {
                    self.partial = true;
                    return None;
                }
            },
        };
        let mut later = vec![];
        let known =
            [("hosts", hosts_node)].into_iter().chain(PhaseKey::NAMES.iter().filter_map(|k| Some((*k, get(k)?))));
        for (key, node) in known {
            if let Some(k) = PhaseKey::of(key).filter(|_| has_template(node)) {
                self.templates_in(node);
                later.push((k, node.clone()));
            }
        }
        // What a template comes to is put in its place before anything is laid out.
        let get = |k: &str| node.get(k).filter(|_| PhaseKey::of(k).is_none_or(|k| !later.iter().any(|(l, _)| *l == k)));
        let named = get("phase").or_else(|| get("name"));
        let name = named.and_then(|n| self.string(n, "a phase's name")).unwrap_or_else(|| pattern.clone());
        let span = named.map_or(&node.span, |n| &n.span).clone();
        if name.trim().is_empty() {
            self.error_hint(
                &span,
                "a phase's name is empty",
                "write one, or take the key out: the phase is called like its hosts",
            );
        }
        if let Some(n) = get("gather_facts") {
            self.flag(n, "`gather_facts`");
        }
        for key in ["vars", "environment"] {
            if let Some(n) = get(key) {
                self.templates_in(n);
            }
        }
        let mut tasks = |key: &str| get(key).map(|n| self.tasks(n, &format!("`{key}`"))).unwrap_or_default();
        let (pre_tasks, main, post_tasks) = (tasks("pre_tasks"), tasks("tasks"), tasks("post_tasks"));
        let handlers = get("handlers").map(|n| self.handlers(n, "`handlers`")).unwrap_or_default();
        let public = [&pre_tasks, &main, &post_tasks].into_iter().flat_map(|l| public_roles(l)).collect();
        let role_uses = get("roles").map(|n| self.list(n, "`roles`")).unwrap_or_default();
        Some(Phase {
            name,
            named: named.is_some(),
            span,
            hosts: Text { text: pattern, span: hosts_node.span.clone() },
            dir: dir.to_path_buf(),
            when: get("when").map(|n| self.conditions(n, "`when`")).unwrap_or_default(),
            serial: get("serial").map(|n| self.serial(n)).unwrap_or_default(),
            max_fail: self.max_fail(&get),
            force_handlers: get("force_handlers").and_then(|n| self.boolean(n, "`force_handlers`")) == Some(true),
            prompts: get("vars_prompt").map(|n| self.prompts(n)).unwrap_or_default(),
            budgets: get("budgets").map(|n| self.budgets(n)).unwrap_or_default().into_iter().map(Arc::new).collect(),
            needs: get("needs").map(|n| self.phase_needs(n)),
            become_: self.become_(&get),
            local: get("connection").and_then(|n| self.connection(n)),
            vars: get("vars").map(|n| self.vars(n)).unwrap_or_default(),
            vars_files: get("vars_files").map(|n| self.vars_files(n, dir)).unwrap_or_default(),
            tags: get("tags").map(|n| self.words(n, "`tags`")).unwrap_or_default(),
            environment: get("environment").cloned(),
            later,
            pre_tasks,
            roles: role_uses.iter().filter_map(|n| self.role_use(n)).map(Arc::new).collect(),
            public,
            tasks: main,
            post_tasks,
            handlers,
            partial: false,
        })
    }

    fn serial(&mut self, node: &Node) -> Vec<Batch> {
        let items: Vec<&Node> = node.as_seq().map_or_else(|| vec![node], |s| s.iter().collect());
        let mut sizes = vec![];
        for n in items {
            match Batch::read(&n.to_value()) {
                Some(s) => sizes.push(s),
                None => self.error_hint(&n.span, Batch::NONE, Batch::HINT),
            }
        }
        sizes
    }

    /// `any_errors_fatal` is a limit of nothing.
    fn max_fail<'n>(&mut self, get: &impl Fn(&str) -> Option<&'n Node>) -> Option<f64> {
        let fatal = get("any_errors_fatal").and_then(|n| self.boolean(n, "`any_errors_fatal`"));
        let limit = get("max_fail_percentage").and_then(|n| {
            let share = match &n.kind {
                Kind::Number(n) => n.as_f64().filter(Share::is_one),
                _ => n.as_str().and_then(Share::of),
            };
            if share.is_none() {
                let is = match &n.kind {
                    Kind::Number(n) => n.to_string(),
                    _ => n.what().to_string(),
                };
                let message = format!("`max_fail_percentage` must be a number, 0 or more, not {is}");
                self.error_hint(&n.span, message, "write digits, or a template");
            }
            share
        });
        if fatal == Some(true) { Some(0.0) } else { limit }
    }

    fn prompts(&mut self, node: &Node) -> Vec<VarPrompt> {
        let mut all = vec![];
        for n in self.list(node, "`vars_prompt`") {
            let Some(entries) = self.mapping(n, "an entry of `vars_prompt`") else { continue };
            let later = ["confirm", "encrypt", "salt", "salt_size", "unsafe"];
            self.unknown_keys(entries, PROMPT_KEYS, &later, "an entry of `vars_prompt`");
            let Some(name) = n.get("name") else {
                self.error_hint(&n.span, "an entry of `vars_prompt` has no `name`", "name: VARIABLE");
                continue;
            };
            let Some(name) = self.name(name, "`name`") else { continue };
            all.push(VarPrompt {
                question: n.get("prompt").and_then(|q| self.string(q, "`prompt`")).unwrap_or_else(|| name.clone()),
                name,
                // As in Ansible: what is typed is not shown unless the entry says so.
                private: n.get("private").and_then(|p| self.boolean(p, "`private`")).unwrap_or(true),
                default: n.get("default").and_then(|d| self.string(d, "`default`")),
                span: n.span.clone(),
            });
        }
        all
    }

    fn connection(&mut self, node: &Node) -> Option<(bool, Span)> {
        let local = match self.string(node, "`connection`")?.as_str() {
            "local" => true,
            "ssh" | "smart" | "paramiko" => false,
            other => {
                self.error_hint(&node.span, format!("`{other}` is not a connection"), "it is `ssh` or `local`");
                return None;
            }
        };
        Some((local, node.span.clone()))
    }

    fn phase_needs(&mut self, node: &Node) -> Vec<PhaseNeed> {
        let items: Vec<&Node> = node.as_seq().map_or_else(|| vec![node], |s| s.iter().collect());
        let mut needs = vec![];
        for n in items.into_iter().filter(|n| !n.is_null()) {
            if let Some(phase) = n.as_str() {
                needs.push(PhaseNeed { phase: phase.to_string(), same_host: false, span: n.span.clone() });
                continue;
            }
            let Some(entries) = n.as_map() else {
                let message = format!("an entry of `needs` is a phase's name, not {}", n.what());
                self.error_hint(&n.span, message, "needs: [NAME], or needs: [{phase: NAME, scope: host}]");
                continue;
            };
            self.unknown_keys(entries, &["phase", "scope"], &[], "`needs`");
            let Some(phase) = n.get("phase").and_then(|p| self.string(p, "`phase`")) else {
                self.error_hint(
                    &n.span,
                    "an entry of `needs` says which `phase`",
                    "needs: [{phase: NAME, scope: host}]",
                );
                continue;
            };
            let same_host = match n.get("scope").map(|s| (s, s.as_str())) {
                None | Some((_, Some("all"))) => false,
                Some((_, Some("host"))) => true,
                Some((s, _)) => {
                    self.error_hint(
                        &s.span,
                        "`scope` is `host` or `all`",
                        "`host` waits for the phase on the same host only, `all` for its end on all hosts",
                    );
                    false
                }
            };
            needs.push(PhaseNeed { phase, same_host, span: n.span.clone() });
        }
        needs
    }

    fn vars_files(&mut self, node: &Node, dir: &Path) -> Vec<(PathBuf, Vars)> {
        let mut files = vec![];
        // One alone needs no list.
        let one = node.as_str().map(|_| std::slice::from_ref(node));
        for n in one.unwrap_or_else(|| self.list(node, "`vars_files`")) {
            let Some(name) = self.string(n, "a file of variables") else { continue };
            let path = dir.join(&name);
            if !path.is_file() {
                self.partial = true;
                let io = std::io::Error::from(std::io::ErrorKind::NotFound);
                let d = crate::source::unreadable(&crate::source::display_path(&path), &io).at(&n.span);
                let d = if name.contains("{{") { d.hint("no template can stand in the path") } else { d };
                let lone = d.hint.as_deref().is_some_and(|h| h.starts_with("check"));
                self.found.push(if lone { d.hint("the path is taken from the playbook's folder") } else { d });
                continue;
            }
            let vars = self.vars_file(&path);
            files.push((path, vars));
        }
        files
    }

    /// Variables of a mapping, their templates checked.
    pub fn vars(&mut self, node: &Node) -> Vars {
        let mut found = Diagnostics::default();
        let vars = vars::from_node(node, "`vars`", self.opener, &mut found);
        self.take(found);
        vars
    }

    /// Variables of a file, their templates checked.
    pub fn vars_file(&mut self, path: &Path) -> Vars {
        let mut found = Diagnostics::default();
        let vars = vars::load_file(path, self.opener, &mut found);
        self.take(found);
        templates_in_vars(&vars, self.templates, &mut self.found);
        vars
    }

    /// Findings about variables: where they are errors, some variables are missing.
    fn take(&mut self, found: Diagnostics) {
        self.partial |= found.has_errors();
        self.found.extend(found);
    }
}

/// Checks the syntax of templates in variables.
pub fn templates_in_vars(vars: &Vars, templates: &Templates, found: &mut Diagnostics) {
    for v in vars.values() {
        for text in strings(&v.value) {
            if let Err(e) = templates.compile(text) {
                let node = Node { span: v.span.clone(), tag: None, kind: Kind::Str(text.to_string()) };
                found.push(template_diagnostic(&e, &node));
            }
        }
    }
}

fn strings(v: &serde_json::Value) -> Vec<&str> {
    match v {
        serde_json::Value::String(s) => vec![s],
        serde_json::Value::Array(a) => a.iter().flat_map(strings).collect(),
        serde_json::Value::Object(o) => o.values().flat_map(strings).collect(),
        _ => vec![],
    }
}
