//! Playbook and inventory to a program: which tasks are meant, on which hosts, in which order.

use super::{HostPlan, Program, StepGraph, TaskUse, edges};
use crate::inventory::{self, Inventory};
use crate::playbook::{Condition, Playbook, RoleUse, Task};
use crate::source::{Diagnostic, Diagnostics, nearest};
use crate::template::Templates;
use crate::vars::Vars;
use crate::vault::Redactor;
use indexmap::IndexSet;
use std::collections::HashSet;
use std::sync::Arc;

/// What the command line says about what is to be done.
#[derive(Debug, Default, Clone)]
pub struct Options {
    pub limit: Option<String>,
    pub tags: Vec<String>,
    pub skip_tags: Vec<String>,
    /// Only these phases.
    pub phases: Vec<String>,
    pub extra: Vars,
    pub become_: bool,
    pub become_user: Option<String>,
    pub check_mode: bool,
    pub inventory_dir: Option<String>,
    /// Variables of the command line could not be read.
    pub partial: bool,
    /// Knows the secrets: none may stand in a process's arguments.
    pub redactor: Redactor,
}

/// Builds the program. Findings are added; a program is returned even then, so that all checks can go on.
pub fn compile(
    playbook: Playbook,
    inventory: Inventory,
    templates: Templates,
    options: &Options,
    found: &mut Diagnostics,
) -> Program {
    let limit = options.limit.as_ref().and_then(|l| match inventory::select_limit(&inventory, l) {
        Ok(hosts) => Some(hosts.into_iter().map(str::to_string).collect::<HashSet<_>>()),
        Err(_) if inventory.partial_hosts => None,
        Err(e) => {
            let d = Diagnostic::error(format!("--limit {l}: {e}"));
            found.push(match e.hint {
                Some(h) => d.hint(h),
                None => d,
            });
            None
        }
    });
    for p in &options.phases {
        if !playbook.phases.iter().any(|q| q.name == *p) {
            let d = Diagnostic::error(format!("--phase {p}: the playbook has no such phase"));
            found.push(match nearest(p, playbook.phases.iter().map(|q| q.name.as_str())) {
                Some(n) => d.hint(format!("did you mean `{n}`?")),
                None => d.hint(format!(
                    "it has: {}",
                    playbook.phases.iter().map(|q| q.name.as_str()).collect::<Vec<_>>().join(", ")
                )),
            });
        }
    }

    let mut hosts: IndexSet<String> = IndexSet::new();
    let mut tasks: Vec<TaskUse> = vec![];
    let mut plan: Vec<edges::PhasePlan> = vec![];
    let mut all_tags: HashSet<String> = HashSet::new();
    for (index, phase) in playbook.phases.iter().enumerate() {
        let wanted = options.phases.is_empty() || options.phases.contains(&phase.name);
        let names: Vec<String> = match inventory::select(&inventory, &phase.hosts.text) {
            Ok(h) => h.into_iter().map(str::to_string).collect(),
            Err(e) => {
                if !inventory.partial_hosts {
                    found.push(e.diagnostic(&phase.hosts.span));
                }
                vec![]
            }
        };
        let first = tasks.len();
        let mut flat = Flat { phase: index, tags: &phase.tags, options, done: vec![], out: &mut tasks };
        phase.pre_tasks.iter().for_each(|t| flat.task(t, None, &[]));
        phase.roles.iter().for_each(|r| flat.role(r, &[], &[]));
        phase.tasks.iter().chain(&phase.post_tasks).for_each(|t| flat.task(t, None, &[]));
        let mut roles: Vec<Arc<RoleUse>> = vec![];
        for d in &flat.done {
            if !roles.iter().any(|r| same_role(r, &d.role)) {
                roles.push(d.role.clone());
            }
        }
        let handlers_from = tasks.len();
        for h in &phase.handlers {
            tasks.push(handler(h, index, None));
        }
        for r in &roles {
            for h in &r.role.handlers {
                tasks.push(handler(h, index, Some(r.clone())));
            }
        }
        all_tags.extend(tasks[first..handlers_from].iter().flat_map(|t| t.tags.iter().cloned()));
        let mine = if wanted {
            names.into_iter().filter(|n| limit.as_ref().is_none_or(|l| l.contains(n))).collect()
        } else {
            vec![]
        };
        let indices = mine.iter().map(|n: &String| hosts.insert_full(n.clone()).0).collect();
        let kept = (first..handlers_from).filter(|i| selected(&tasks[*i].tags, options)).collect();
        plan.push(edges::PhasePlan { hosts: indices, tasks: kept, handlers: (handlers_from..tasks.len()).collect() });
    }
    for t in &options.tags {
        let special = ["all", "tagged", "untagged", "always", "never"];
        if !all_tags.contains(t) && !special.contains(&t.as_str()) {
            let d = Diagnostic::warning(format!("--tags {t}: no task has this tag"));
            let mut known: Vec<&str> = all_tags.iter().map(String::as_str).collect();
            known.sort_unstable();
            found.push(d.suggest(t, known));
        }
    }
    if limit.is_some() && hosts.is_empty() && !found.has_errors() {
        found.push(Diagnostic::warning("no host of the playbook is within --limit"));
    }

    let hosts: Vec<HostPlan> = hosts
        .into_iter()
        .enumerate()
        .map(|(index, name)| HostPlan {
            local: is_local(index, &name, &playbook, &plan, found).unwrap_or(inventory.is_implicit_localhost(&name)),
            group_names: inventory.groups_of(&name).into_iter().map(str::to_string).collect(),
            name,
        })
        .collect();
    let groups = serde_json::to_value(inventory.groups_map()).unwrap_or_default();
    let promised = promised(&tasks);
    let partial = options.partial || inventory.partial_vars;
    let mut program = Program {
        partial,
        playbook,
        inventory,
        templates,
        extra: options.extra.clone(),
        become_default: (options.become_, options.become_user.clone()),
        inventory_dir: options.inventory_dir.clone(),
        hosts,
        tasks,
        graph: StepGraph::default(),
        promised,
        check_mode: options.check_mode,
        redactor: options.redactor.clone(),
        groups,
    };
    check_notifies(&program, found);
    program.graph = edges::build(&program, &plan, found);
    program
}

/// What the phases a host takes part in say of `connection`. A host is reached one way in a run.
fn is_local(
    host: usize,
    name: &str,
    playbook: &Playbook,
    plan: &[edges::PhasePlan],
    found: &mut Diagnostics,
) -> Option<bool> {
    let phases = || playbook.phases.iter().zip(plan).filter(|(_, p)| p.hosts.contains(&host)).map(|(phase, _)| phase);
    let (local, span) = phases().find_map(|p| p.local.as_ref())?;
    if let Some(other) = phases().find(|p| p.local.as_ref().map(|l| l.0) != Some(*local)) {
        let d = Diagnostic::error(format!("{name} is reached in two ways in one playbook")).at(span);
        found.push(
            d.also(&other.span, "differently here")
                .hint("say `connection` in both phases, or set `ansible_connection` for the host"),
        );
    }
    Some(*local)
}

/// Puts roles and tasks of a phase in one row.
struct Flat<'a> {
    phase: usize,
    tags: &'a [String],
    options: &'a Options,
    /// The roles that are in the row already.
    done: Vec<DoneRole>,
    out: &'a mut Vec<TaskUse>,
}

/// A role in the row, with what lets it through.
struct DoneRole {
    role: Arc<RoleUse>,
    outer_when: Vec<String>,
    tags: Vec<String>,
}

/// The same role with the same parameters.
fn same_role(a: &RoleUse, b: &RoleUse) -> bool {
    Arc::ptr_eq(&a.role, &b.role)
        && a.params.iter().map(|(k, v)| (k, &v.value)).eq(b.params.iter().map(|(k, v)| (k, &v.value)))
}

impl Flat<'_> {
    fn role(&mut self, r: &Arc<RoleUse>, outer_when: &[Condition], outer_tags: &[String]) {
        let texts = |when: &[Condition]| when.iter().map(|c| c.text.clone()).collect::<Vec<_>>();
        let outer = texts(outer_when);
        let when: Vec<Condition> = outer_when.iter().chain(&r.when).cloned().collect();
        let tags: Vec<String> = outer_tags.iter().chain(&r.tags).cloned().collect();
        // As in Ansible: the same role with the same parameters, conditions and tags is done once a phase. But only one
        // that is done wherever this one would be, whatever role brought it along, stands for it.
        let stands_for = |d: &DoneRole| {
            same_role(&d.role, r)
                && texts(&d.role.when) == texts(&r.when)
                && d.role.tags == r.tags
                && d.outer_when.iter().all(|w| outer.contains(w))
                && (d.tags == tags || selected(&[self.tags, &d.tags].concat(), self.options))
        };
        if !r.role.allow_duplicates && self.done.iter().any(stands_for) {
            return;
        }
        for d in &r.role.dependencies {
            self.role(d, &when, &tags);
        }
        self.done.push(DoneRole { role: r.clone(), outer_when: outer, tags: tags.clone() });
        for t in &r.role.tasks {
            self.push(t, Some(r.clone()), &when, &tags);
        }
    }
    fn task(&mut self, t: &Arc<Task>, role: Option<Arc<RoleUse>>, when: &[Condition]) {
        self.push(t, role, when, &[]);
    }
    fn push(&mut self, t: &Arc<Task>, role: Option<Arc<RoleUse>>, when: &[Condition], tags: &[String]) {
        let mut all: IndexSet<String> = self.tags.iter().cloned().collect();
        all.extend(tags.iter().chain(&t.tags).cloned());
        self.out.push(TaskUse {
            task: t.clone(),
            phase: self.phase,
            role,
            outer_when: when.to_vec(),
            tags: all.into_iter().collect(),
            handler: false,
        });
    }
}

fn handler(t: &Arc<Task>, phase: usize, role: Option<Arc<RoleUse>>) -> TaskUse {
    TaskUse { task: t.clone(), phase, role, outer_when: vec![], tags: vec![], handler: true }
}

/// Whether the tags on the command line let a task with these tags through.
fn selected(tags: &[String], options: &Options) -> bool {
    let has = |t: &str| tags.iter().any(|x| x == t);
    let matches = |wanted: &[String]| {
        wanted.iter().any(|w| match w.as_str() {
            "all" => !has("never"),
            "tagged" => !tags.is_empty(),
            "untagged" => tags.is_empty(),
            w => has(w),
        })
    };
    let named = tags.iter().any(|t| t != "never" && options.tags.contains(t))
        || options.tags.iter().any(|t| t == "never" && has("never"));
    if has("never") && !named {
        return false;
    }
    let mut run = options.tags.is_empty() || matches(&options.tags);
    if !run && has("always") {
        run = true;
    }
    run && !matches(&options.skip_tags)
}

fn promised(tasks: &[TaskUse]) -> HashSet<String> {
    let mut names = HashSet::new();
    for t in tasks {
        names.extend(sets(&t.task));
    }
    names
}

/// The variables a task gives its host.
pub fn sets(task: &Task) -> Vec<String> {
    let mut names: Vec<String> = task.register.iter().cloned().collect();
    if task.module.name == "set_fact" {
        names.extend(task.args.as_map().unwrap_or_default().iter().map(|e| e.key.clone()));
    }
    match task.module.name {
        "package_facts" => names.push("packages".into()),
        "service_facts" => names.push("services".into()),
        "getent" => {
            let database = task.args.get("database").and_then(|n| n.to_value().as_str().map(str::to_string));
            names.extend(database.map(|d| format!("getent_{d}")));
        }
        _ => {}
    }
    names
}

/// A handler nobody has is a mistake; one whose name is a template is looked for when it is known.
fn check_notifies(program: &Program, found: &mut Diagnostics) {
    for t in &program.tasks {
        for n in t.task.notify.iter().filter(|n| !n.text.contains("{{")) {
            let heard = |h: &TaskUse| h.handler && h.phase == t.phase && hears(h, &n.text);
            if !program.tasks.iter().any(heard) && !program.playbook.phases[t.phase].partial {
                let names: Vec<&str> = program
                    .tasks
                    .iter()
                    .filter(|h| h.handler && h.phase == t.phase)
                    .flat_map(|h| std::iter::once(h.task.title()).chain(h.task.listen.iter().map(String::as_str)))
                    .collect();
                let d = Diagnostic::error(format!("no handler `{}` in this phase", n.text)).at(&n.span);
                found.push(match nearest(&n.text, names.iter().copied()) {
                    Some(near) => d.hint(format!("did you mean `{near}`?")),
                    None if names.is_empty() => d.hint("the phase and its roles have no `handlers:`"),
                    None => d.hint(format!("there is: {}", names.join(", "))),
                });
            }
        }
    }
}

/// Whether a handler answers to a name.
pub fn hears(handler: &TaskUse, name: &str) -> bool {
    handler.task.title() == name || handler.title() == name || handler.task.listen.iter().any(|l| l == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tags: &[&str], only: &[&str], skip: &[&str]) -> bool {
        let own = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        selected(&own(tags), &Options { tags: own(only), skip_tags: own(skip), ..Default::default() })
    }

    #[test]
    fn tags_select_as_in_ansible() {
        assert!(run(&[], &[], &[]) && run(&["a"], &[], &[]) && !run(&["never"], &[], &[]));
        assert!(run(&["a"], &["a"], &[]) && !run(&["b"], &["a"], &[]) && !run(&[], &["a"], &[]));
        assert!(run(&["always"], &["a"], &[]) && !run(&["always"], &["a"], &["always"]));
        assert!(run(&["never", "a"], &["a"], &[]) && !run(&["never", "a"], &["b"], &[]));
        assert!(!run(&["a"], &[], &["a"]) && run(&["a"], &["tagged"], &[]) && run(&[], &["untagged"], &[]));
    }
}
