//! Playbook and inventory to a program: which tasks are meant, on which hosts, in which order.

use super::prepare::{Place, flag};
use super::{
    BlockUse, BudgetUse, Dynamic, HostPlan, Program, Refusal, RoleAt, Section, StepGraph, Taken, TaskUse, Turn, Turns,
    Within, edges, settled, turns,
};
use crate::inventory::{self, Inventory};
use crate::playbook::{Batch, Block, Condition, Include, Phase, Playbook, RoleUse, Said, Task, TaskItem, Text, count};
use crate::source::{Diagnostic, Diagnostics, Span, nearest};
use crate::template::Templates;
use crate::vars::Vars;
use crate::vault::Redactor;
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the command line says about what is to be done.
#[derive(Debug, Default, Clone)]
pub struct Options {
    pub limit: Option<String>,
    pub tags: Vec<String>,
    pub skip_tags: Vec<String>,
    /// Only these phases.
    pub phases: Vec<String>,
    /// The task to begin with: those above it are left out.
    pub start_at: Option<String>,
    pub extra: Vars,
    pub become_: bool,
    pub become_user: Option<String>,
    pub check_mode: bool,
    /// Only these phases of the playbook are laid out: what comes behind them is not known yet.
    pub stage: Option<std::ops::Range<usize>>,
    /// Nothing is run: all phases are laid out together, whatever groups and hosts there will be.
    pub checks_only: bool,
    /// A person may be asked for what a playbook wants to know (`vars_prompt`).
    pub asks: bool,
    /// All phases run their handlers whatever became of their tasks.
    pub force_handlers: bool,
    /// What nobody was asked for.
    pub asked_later: Vec<String>,
    pub inventory_dir: Option<String>,
    /// Variables of the command line could not be read.
    pub partial: bool,
    /// Knows the secrets: none may stand in a process's arguments.
    pub redactor: Redactor,
}

/// More tasks no phase comes to, and more steps no playbook: they would not fit into memory.
const MOST_TASKS: usize = 50_000;
const MOST_STEPS: usize = 2_000_000;

/// Builds the program. Findings are added; a program is returned even then, so that all checks can go on.
pub fn compile(
    playbook: Arc<Playbook>,
    inventory: Inventory,
    templates: Arc<Templates>,
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

    // Who takes part, phase by phase.
    let mut hosts: IndexSet<String> = IndexSet::new();
    let mut of_phase: Vec<Vec<usize>> = vec![];
    for (index, phase) in playbook.phases.iter().enumerate() {
        if options.stage.as_ref().is_some_and(|s| !s.contains(&index)) {
            of_phase.push(vec![]);
            continue;
        }
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
        let unmade = |n: &String| options.stage.is_some() && inventory.hosts.get(n).is_some_and(|h| h.to_be_made);
        if let Some(n) = names.iter().find(|n| wanted && unmade(n)) {
            let d = Diagnostic::warning(format!("the host {n} is not made yet, so what is done there is not planned"));
            found.push(d.at(&phase.hosts.span).hint("an apply makes it: what it is given is known only then"));
        }
        let names = names.into_iter().filter(|n| !unmade(n));
        let mine = names.filter(|n| wanted && limit.as_ref().is_none_or(|l| l.contains(n)));
        of_phase.push(mine.map(|n| hosts.insert_full(n).0).collect());
    }
    if limit.is_some() && hosts.is_empty() && !found.has_errors() {
        found.push(Diagnostic::warning("no host of the playbook is within --limit"));
    }
    let hosts: Vec<HostPlan> = hosts
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            let local = is_local(index, &name, &playbook, &of_phase, found);
            HostPlan::new(&name, local.unwrap_or(inventory.is_implicit_localhost(&name)), &inventory)
        })
        .collect();
    let groups = serde_json::to_value(inventory.groups_map()).unwrap_or_default();
    let mut program = Program {
        partial: options.partial || inventory.partial_vars,
        promised: playbook.sets(),
        setters: HashMap::new(),
        beforehand: Default::default(),
        of_hostvars: Default::default(),
        shares_facts: false,
        makes_hosts: false,
        playbook,
        inventory,
        templates,
        extra: options.extra.clone(),
        become_default: (options.become_, options.become_user.clone()),
        inventory_dir: options.inventory_dir.clone(),
        limit: options.limit.clone(),
        tags: [options.tags.clone(), options.skip_tags.clone()],
        hosts,
        tasks: vec![],
        graph: StepGraph::default(),
        blocks: vec![],
        budgets: vec![],
        roles: vec![],
        batches: vec![],
        asked_later: options.asked_later.clone(),
        checks_only: options.checks_only,
        check_mode: options.check_mode,
        redactor: options.redactor.clone(),
        groups,
    };

    let mut tasks: Vec<TaskUse> = vec![];
    let mut plan: Vec<edges::PhasePlan> = vec![];
    let mut all_tags: HashSet<String> = HashSet::new();
    let mut blocks: Vec<BlockUse> = vec![];
    let mut role_places: Vec<RoleAt> = vec![];
    // Where the run begins, once that task was met.
    let mut begins: Option<usize> = None;
    let mut steps = 0usize;
    let mut roles_of: Vec<(Vec<Arc<RoleUse>>, std::ops::Range<usize>)> = vec![];
    for ((index, phase), indices) in program.playbook.phases.iter().enumerate().zip(of_phase) {
        let first = tasks.len();
        let around = Around { when: phase.when.clone(), ..Default::default() };
        let mut flat = Flat {
            program: &program,
            hosts: &indices,
            phase: index,
            tags: &phase.tags,
            options,
            found,
            done: vec![],
            roles: vec![],
            in_tasks: true,
            shut: HashSet::new(),
            with_arguments: vec![],
            row: vec![],
            out: &mut tasks,
            blocks: &mut blocks,
        };
        // As in Ansible, handlers that are due are run before the roles, and before what comes after all others.
        flat.items(&phase.pre_tasks, &around);
        flat.flush_beside(&phase.pre_tasks);
        flat.in_tasks = false;
        phase.roles.iter().for_each(|r| flat.role(r, &around));
        flat.in_tasks = true;
        flat.items(&phase.tasks, &around);
        flat.flush_beside(&phase.post_tasks);
        flat.items(&phase.post_tasks, &around);
        let Flat { row, roles, shut, with_arguments, .. } = flat;
        for (used, around, at) in with_arguments {
            // Its place is that of any task of the phase.
            let Some(any) = tasks[first..].iter().find(|t| t.task.vars.is_empty()).or(tasks.get(first)) else { break };
            let place = TaskUse {
                role: Some(used.clone()),
                around: around.roles,
                within: around.within,
                outer_when: around.when,
                handler: false,
                ..handler(&any.task, index, None)
            };
            role_places.push(RoleAt { used, place, first: at.min(tasks.len() - 1) });
        }
        let handlers_from = tasks.len();
        // In Ansible's order: those of the phase's roles, its own, those of roles that its tasks take in.
        let mut rows: Vec<Vec<TaskUse>> = vec![];
        let of_role = |r: &RoleHere| {
            let one = |h| TaskUse { outer_when: r.when.clone(), ..handler(h, index, Some(r.used.clone())) };
            r.used.role.handlers.iter().map(one).collect()
        };
        rows.extend(roles.iter().filter(|r| !r.by_tasks).map(of_role));
        rows.push(phase.handlers.iter().map(|h| handler(h, index, None)).collect());
        rows.extend(roles.iter().filter(|r| r.by_tasks).map(of_role));
        tasks.extend(one_of_each_name(rows, found));
        let roles: Vec<Arc<RoleUse>> = roles.into_iter().map(|r| r.used).collect();
        let handlers: Vec<usize> = (handlers_from..tasks.len()).collect();
        all_tags.extend(tasks[first..handlers_from].iter().flat_map(|t| t.tags.iter().cloned()));
        let mut kept = vec![];
        let before = options.stage.as_ref().is_some_and(|s| index < s.start);
        let looked_at = before || !indices.is_empty();
        if let Some(wanted) = options.start_at.as_deref().filter(|_| begins.is_none() && looked_at) {
            begins = row.iter().filter_map(Row::task).find(|i| is_called(&tasks[*i], wanted));
        }
        let left_out = |i: usize| options.start_at.is_some() && begins.is_none_or(|b| i < b);
        for r in row {
            match r {
                Row::Task(i) => {
                    let wanted = |i: &usize| tasks[*i].begins.is_some() || selected(&tasks[*i].tags, options);
                    kept.extend(Some(i).filter(|i| !left_out(*i) && !shut.contains(i) && wanted(i)));
                }
                Row::Flush { tags, within } => {
                    let begun = options.start_at.is_none() || begins.is_some();
                    if begun && selected(&tags, options) {
                        for &h in &handlers {
                            kept.push(tasks.len());
                            let of = &tasks[h];
                            tasks.push(TaskUse {
                                within: within.clone(),
                                stands_for: Some(h),
                                outer_when: of.outer_when.clone(),
                                ..handler(&of.task, index, of.role.clone())
                            });
                        }
                    }
                }
            }
        }
        // What is to be taken in is looked for only where tags leave something of it, and then in any case.
        let inside = |look: &usize, t: &usize| tasks[*t].within.iter().any(|w| tasks[*look].begins == Some(w.id));
        let of_use: Vec<usize> = kept.iter().filter(|t| tasks[**t].begins.is_none()).copied().collect();
        kept.retain(|t| tasks[*t].begins.is_none() || of_use.iter().any(|o| inside(t, o)));
        steps = steps.saturating_add(kept.len().saturating_mul(indices.len()));
        if steps > MOST_STEPS {
            let d = Diagnostic::error(format!("the playbook comes to more than {MOST_STEPS} steps"));
            let here = format!("{} tasks on {} hosts here: make several playbooks of it", kept.len(), indices.len());
            found.push(d.at(&phase.hosts.span).hint(here));
            kept.clear();
        }
        // Where tags leave nothing of a `rescue`, nothing makes good what fails.
        for w in kept.iter().flat_map(|t| &tasks[*t].within).filter(|w| w.section == Section::Rescue) {
            blocks[w.id].rescued = true;
        }
        for w in tasks[first..].iter_mut().flat_map(|t| &mut t.within) {
            w.rescued = blocks[w.id].rescued;
        }
        roles_of.push((roles, first..tasks.len()));
        plan.push(edges::PhasePlan {
            batches: batches(&phase.serial, &indices),
            hosts: indices,
            tasks: kept,
            handlers,
        });
    }
    let mut budgets: Vec<BudgetUse> = vec![];
    for (index, phase) in program.playbook.phases.iter().enumerate() {
        // A budget is one thing for the whole run: a role of another phase may define it.
        let (own, range) = &roles_of[index];
        let roles: Vec<&Arc<RoleUse>> = own.iter().chain(roles_of.iter().flat_map(|(r, _)| r)).collect();
        budgets.extend(budgets_of(phase, index, &roles, &tasks[range.clone()], found));
    }
    if let Some(wanted) = options.start_at.as_deref().filter(|_| begins.is_none() && options.stage.is_none()) {
        let titles: Vec<String> = tasks.iter().flat_map(|t| [t.title(), t.task.title().to_string()]).collect();
        let d = Diagnostic::error(format!("--start-at {wanted}: no host has a task of that name"));
        found.push(match nearest(wanted, titles.iter().map(String::as_str)) {
            Some(n) => d.hint(format!("did you mean `{n}`?")),
            None => d.hint("give its name, `role : name`, its id, or FILE:LINE"),
        });
    }
    let skipped = options.skip_tags.iter().map(|t| ("--skip-tags", t));
    for (option, t) in options.tags.iter().map(|t| ("--tags", t)).chain(skipped) {
        let special = ["all", "tagged", "untagged", "always", "never"];
        if !all_tags.contains(t) && !special.contains(&t.as_str()) {
            let d = Diagnostic::warning(format!("{option} {t}: no task has this tag"));
            let mut known: Vec<&str> = all_tags.iter().map(String::as_str).collect();
            known.sort_unstable();
            found.push(d.suggest(t, known));
        }
    }
    program.batches = plan.iter().map(|p| p.batches.clone()).collect();
    let kept: HashSet<usize> = plan.iter().flat_map(|p| p.tasks.iter().chain(&p.handlers)).copied().collect();
    tasks.iter_mut().enumerate().for_each(|(i, t)| t.left_out = !kept.contains(&i));
    (program.tasks, program.blocks, program.budgets) = (tasks, blocks, budgets);
    program.roles = role_places;
    program.makes_hosts = program.playbook.stages().len() > 1;
    program.note_setters();
    check_notifies(&program, found);
    program.graph = edges::build(&program, &plan, found);
    program.shares_facts = program.graph.node_weights().any(|n| *n == super::Node::AllFacts);
    program
}

/// What the phases a host takes part in say of `connection`. A host is reached one way in a run.
fn is_local(
    host: usize,
    name: &str,
    playbook: &Playbook,
    of_phase: &[Vec<usize>],
    found: &mut Diagnostics,
) -> Option<bool> {
    if playbook.phases.iter().all(|p| p.local.is_none()) {
        return None;
    }
    let phases = || playbook.phases.iter().zip(of_phase).filter(|(_, h)| h.contains(&host)).map(|(phase, _)| phase);
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
    /// All but the tasks.
    program: &'a Program,
    /// The phase's hosts.
    hosts: &'a [usize],
    found: &'a mut Diagnostics,
    phase: usize,
    tags: &'a [String],
    options: &'a Options,
    /// The roles of the phase that are in the row already.
    done: Vec<DoneRole>,
    /// All roles in the row, each with its handlers once.
    roles: Vec<RoleHere>,
    /// No longer at the phase's `roles`, or not yet.
    in_tasks: bool,
    /// Tasks in the row that are not taken in, by the tags of what would.
    shut: HashSet<usize>,
    /// Roles that say what they take, what is around them, and the task they begin with.
    with_arguments: Vec<(Arc<RoleUse>, Around, usize)>,
    row: Vec<Row>,
    out: &'a mut Vec<TaskUse>,
    blocks: &'a mut Vec<BlockUse>,
}

enum Row {
    Task(usize),
    /// Here the handlers that are due are run.
    Flush {
        tags: Vec<String>,
        within: Vec<Within>,
    },
}

impl Row {
    fn task(&self) -> Option<usize> {
        match self {
            Row::Task(i) => Some(*i),
            Row::Flush { .. } => None,
        }
    }
}

/// Whether a person means this task: by its name, `role : name`, its id or its place.
pub fn is_called(t: &TaskUse, wanted: &str) -> bool {
    t.title() == wanted || t.task.title() == wanted || t.task.id.as_deref() == Some(wanted) || t.span().line() == wanted
}

/// What is around a task.
#[derive(Clone, Default)]
struct Around {
    /// The innermost first.
    roles: Vec<Arc<RoleUse>>,
    when: Vec<Condition>,
    tags: Vec<String>,
    within: Vec<Within>,
    /// The tags of the command line leave out an `include_…` around it.
    shut: bool,
}

/// A role in the row, for its handlers.
struct RoleHere {
    used: Arc<RoleUse>,
    when: Vec<Condition>,
    /// A task took it in, or one that such a role depends on.
    by_tasks: bool,
}

/// A role in the row, with what lets it through.
struct DoneRole {
    role: Arc<RoleUse>,
    outer_when: Vec<String>,
    tags: Vec<String>,
}

/// The same role with the same parameters.
fn same_role(a: &RoleUse, b: &RoleUse) -> bool {
    Arc::ptr_eq(&a.role, &b.role) && a.values().map(|(k, v)| (k, &v.value)).eq(b.values().map(|(k, v)| (k, &v.value)))
}

impl Flat<'_> {
    /// A role of the phase, or one that another depends on.
    fn role(&mut self, r: &Arc<RoleUse>, around: &Around) {
        let texts = |when: &[Condition]| when.iter().map(|c| c.text.clone()).collect::<Vec<_>>();
        let outer = texts(&around.when);
        let mut inside = around.clone();
        inside.when.extend(r.when.iter().cloned());
        inside.tags.extend(r.tags.iter().cloned());
        let own_tags = inside.tags.clone();
        // As in Ansible: the same role with the same parameters, conditions and tags is done once a phase. But only one
        // that is done wherever this one would be, whatever role brought it along, stands for it.
        let stands_for = |d: &DoneRole| {
            same_role(&d.role, r)
                && texts(&d.role.when) == texts(&r.when)
                && d.role.tags == r.tags
                && d.outer_when.iter().all(|w| outer.contains(w))
                && (d.tags == inside.tags || selected(&[self.tags, &d.tags].concat(), self.options))
        };
        if !r.role.allow_duplicates && self.done.iter().any(stands_for) {
            return;
        }
        if let Some(block) = &r.block {
            inside = self.around_taken(block, Turns::One, &inside);
        }
        // A role it depends on sees what this one has.
        let outside = inside.clone();
        inside.roles.insert(0, r.clone());
        for d in &r.role.dependencies {
            self.role(d, &inside);
        }
        self.done.push(DoneRole { role: r.clone(), outer_when: outer, tags: own_tags });
        self.has(r, &inside);
        self.takes(r, &outside);
        self.items(&r.role.tasks, &inside);
    }

    /// Notes a role with the conditions that hold for its handlers, too: those of each place where it is used.
    fn has(&mut self, r: &Arc<RoleUse>, around: &Around) {
        match self.roles.iter_mut().find(|o| same_role(&o.used, r)) {
            Some(o) => {
                if !o.when.iter().map(|c| &c.text).eq(around.when.iter().map(|c| &c.text)) {
                    o.when.clear();
                }
            }
            None => self.roles.push(RoleHere { used: r.clone(), when: around.when.clone(), by_tasks: self.in_tasks }),
        }
    }

    fn takes(&mut self, r: &Arc<RoleUse>, around: &Around) {
        if r.arguments().is_some() {
            self.with_arguments.push((r.clone(), around.clone(), self.out.len()));
        }
    }

    /// Where there are such tasks, the handlers that are due have a place of their own here, whatever tags are asked for.
    fn flush_beside(&mut self, tasks: &[TaskItem]) {
        if !tasks.is_empty() {
            self.row.push(Row::Flush { tags: vec!["always".into()], within: vec![] });
        }
    }

    fn items(&mut self, items: &[TaskItem], around: &Around) {
        for i in items {
            match i {
                TaskItem::Task(t) => self.task(t, around),
                TaskItem::Block(b) => self.block(b, around),
                TaskItem::Role(r) => {
                    let mut inside = around.clone();
                    inside.roles.insert(0, r.clone());
                    for d in &r.role.dependencies {
                        self.role(d, &inside);
                    }
                    self.has(r, around);
                    self.takes(r, around);
                    let entry = r.entry.as_ref().map_or(&r.role.tasks, |e| e);
                    self.items(entry, &inside);
                }
                TaskItem::Include(i) => self.include(i, around),
                TaskItem::Flush(_) if around.shut => {}
                TaskItem::Flush(_) => {
                    self.row.push(Row::Flush { tags: self.all_tags(&around.tags), within: around.within.clone() })
                }
            }
        }
    }

    fn block(&mut self, b: &Arc<Block>, around: &Around) {
        let id = self.blocks.len();
        self.blocks.push(BlockUse {
            block: b.clone(),
            phase: self.phase,
            role: around.roles.first().cloned(),
            within: around.within.clone(),
            rescued: false,
            turns: Arc::default(),
        });
        let mut inside = around.clone();
        inside.shut |= self.shuts(&b.entry_tags, around);
        inside.when.extend(b.when.iter().cloned());
        inside.tags.extend(b.tags.iter().cloned());
        let sections = [
            (Section::Main, Some(&b.tasks)),
            (Section::Rescue, b.rescue.as_ref()),
            (Section::Always, b.always.as_ref()),
        ];
        for (section, list) in sections {
            inside.within.truncate(around.within.len());
            inside.within.push(Within { block: b.clone(), id, section, rescued: false, turns: Arc::default() });
            self.items(list.map_or(&[][..], |l| l), &inside);
        }
    }

    /// A block around what is taken in; gives back what is around its tasks.
    fn around_taken(&mut self, block: &Arc<Block>, turns: Turns, around: &Around) -> Around {
        let id = self.blocks.len();
        let turns = Arc::new(turns);
        let (role, within) = (around.roles.first().cloned(), around.within.clone());
        let used =
            BlockUse { block: block.clone(), phase: self.phase, role, within, rescued: false, turns: turns.clone() };
        self.blocks.push(used);
        let mut inside = around.clone();
        inside.tags.extend(block.tags.iter().cloned());
        inside.within.push(Within { block: block.clone(), id, section: Section::Main, rescued: false, turns });
        inside
    }

    /// Whether the command line's tags leave out what has these tags of its own to be taken in by. One that has none lets
    /// through whatever is asked for inside.
    fn shuts(&self, entry_tags: &[String], around: &Around) -> bool {
        let all = || self.all_tags(&[around.tags.as_slice(), entry_tags].concat());
        !entry_tags.is_empty() && !selected(&all(), self.options)
    }

    fn include(&mut self, i: &Arc<Include>, around: &Around) {
        if let Some(block) = &i.settled
            && !settled::can_change(self.program, i, &around.roles, &around.within)
        {
            return self.block(block, around);
        }
        let around = &Around { shut: around.shut || self.shuts(&i.block.entry_tags, around), ..around.clone() };
        let look = self.use_of(&i.look, around);
        // By host, what is known of it before the run.
        let mut known: HashMap<usize, Vec<Turn>> = HashMap::new();
        for &host in self.hosts {
            match turns::known(self.program, host, &look, &self.program.promised) {
                Ok(turns) => drop(known.insert(host, turns)),
                Err(Refusal::Unknown { .. }) => break,
                Err(Refusal::Wrong(d)) => {
                    d.into_iter().for_each(|d| self.found.push(d));
                    known.insert(host, vec![]);
                }
            }
        }
        if known.len() < self.hosts.len() {
            return self.include_later(i, look, around);
        }
        let most = known.values().map(Vec::len).max().unwrap_or(0);
        let each = i.candidates.iter().map(|(_, tasks)| count(tasks)).max().unwrap_or(0);
        if self.out.len().saturating_add(most.saturating_mul(each)) > MOST_TASKS {
            let d = Diagnostic::error(format!("with what is taken in here the phase has more than {MOST_TASKS} tasks"));
            self.found.push(
                d.at(&i.look.args.span)
                    .hint(format!("it is taken in {most} times; let a task of its own loop instead")),
            );
            return;
        }
        for turn in 0..most {
            for (name, tasks) in &i.candidates {
                let here =
                    known.iter().filter_map(|(h, turns)| Some((h, turns.get(turn).filter(|t| t.name == *name)?)));
                let hosts: HashMap<_, _> =
                    here.map(|(h, t)| (self.program.hosts[*h].name.clone(), t.variables.clone())).collect();
                if !hosts.is_empty() {
                    let inside = self.around_taken(&i.block, Turns::Known(hosts), around);
                    self.items(tasks, &inside);
                }
            }
        }
    }

    /// What is taken in is found out by a step of its own.
    fn include_later(&mut self, i: &Arc<Include>, look: TaskUse, around: &Around) {
        let (index, id) = (self.out.len(), self.blocks.len());
        self.row.push(Row::Task(index));
        self.shut.extend(Some(index).filter(|_| around.shut));
        self.out.push(TaskUse { begins: Some(id), ..look });
        let variables = i.look.loop_.iter().flat_map(|l| l.variables());
        let turns = Turns::Later { look: index, variables: variables.collect() };
        let inside = self.around_taken(&i.block, turns, around);
        for (name, tasks) in &i.candidates {
            let plain = Arc::new(Block::plain(&i.block.span));
            let inside = self.around_taken(
                &plain,
                Turns::Candidate { name: name.clone(), sure: i.candidates.len() == 1 },
                &inside,
            );
            self.items(tasks, &inside);
        }
        let once = |t: &TaskUse| t.run_once() && t.within.iter().any(|w| w.id == id);
        if !self.out[index].run_once()
            && let Some(t) = self.out[index..].iter().find(|t| once(t))
        {
            let message = "`run_once` inside what is taken in as often as is known only in the run";
            let d = Diagnostic::error(message).at(t.span()).also(&i.look.span, "taken in here");
            self.found.push(d.hint("put `run_once` where the tasks are taken in, or the loop over the tasks"));
        }
    }

    fn all_tags(&self, tags: &[String]) -> Vec<String> {
        let all: IndexSet<&String> = self.tags.iter().chain(tags).collect();
        all.into_iter().cloned().collect()
    }

    fn task(&mut self, t: &Arc<Task>, around: &Around) {
        self.row.push(Row::Task(self.out.len()));
        self.shut.extend(Some(self.out.len()).filter(|_| around.shut));
        let used = self.use_of(t, around);
        self.out.push(used);
    }

    fn use_of(&mut self, t: &Arc<Task>, around: &Around) -> TaskUse {
        let mut used = TaskUse {
            task: t.clone(),
            phase: self.phase,
            role: around.roles.first().cloned(),
            around: around.roles.iter().skip(1).cloned().collect(),
            within: around.within.clone(),
            outer_when: around.when.clone(),
            tags: self.all_tags(&[around.tags.as_slice(), &t.tags].concat()),
            handler: false,
            left_out: false,
            once: false,
            begins: None,
            stands_for: None,
            taken: Taken::Nothing,
        };
        if let Some(Said::Template(text)) = used.said(|k| k.run_once.as_ref()) {
            used.once = self.once(&used, text);
        }
        used
    }

    /// What a template in `run_once` comes to: the same for all hosts, and known before the run, as the graph is made of it.
    fn once(&mut self, used: &TaskUse, text: &Text) -> bool {
        let dynamic = Dynamic::default();
        let mut first: Option<bool> = None;
        for &host in self.hosts {
            let place =
                Place { program: self.program, host, task: used, dynamic: &dynamic, pending: &self.program.promised };
            let said = Said::Template(text.clone());
            let hint = "run_once: true, or a template of variables that are the same for all hosts before the run";
            let (message, of) = match (flag(&said, "run_once", &place.scope(Default::default())), first) {
                (Ok(once), None) => {
                    first = Some(once);
                    continue;
                }
                (Ok(once), Some(f)) if once == f => continue,
                (Ok(_), Some(_)) => ("`run_once` is not the same for all hosts".to_string(), None),
                (Err(Refusal::Unknown { why, .. }), _) => ("`run_once` must be known before the run".into(), Some(why)),
                // Its step says so in the check.
                (Err(Refusal::Wrong(d)), _) => {
                    d.into_iter().for_each(|d| self.found.push(d));
                    break;
                }
            };
            let d = Diagnostic::error(message).at(&text.span).hint(hint);
            self.found.push(match of {
                Some(why) => d.label(why),
                None => d,
            });
            break;
        }
        first.unwrap_or(false)
    }
}

fn handler(t: &Arc<Task>, phase: usize, role: Option<Arc<RoleUse>>) -> TaskUse {
    TaskUse {
        task: t.clone(),
        phase,
        role,
        around: vec![],
        within: vec![],
        outer_when: vec![],
        tags: vec![],
        handler: true,
        left_out: false,
        once: false,
        begins: None,
        stands_for: None,
        taken: Taken::Nothing,
    }
}

/// The handlers of a phase in rows, each a role's or the phase's. As in Ansible, a name means that of the last row which has
/// it, and the first there.
fn one_of_each_name(rows: Vec<Vec<TaskUse>>, found: &mut Diagnostics) -> Vec<TaskUse> {
    let mut bare: HashMap<String, Span> = HashMap::new();
    let mut full: HashSet<String> = HashSet::new();
    let mut all: Vec<Vec<TaskUse>> = vec![];
    for row in rows.into_iter().rev() {
        let mut kept = vec![];
        for mut h in row {
            let (name, title) = (h.task.title().to_string(), h.title());
            // What a template comes to shows in the run.
            if h.task.name.is_some() && !name.contains("{{") {
                let of_role = h.role.is_some();
                h.taken = match (bare.get(&name), full.contains(&title)) {
                    (_, true) => Taken::Both,
                    (Some(_), false) if of_role => Taken::Bare,
                    (Some(_), false) => Taken::Both,
                    (None, false) => Taken::Nothing,
                };
                if let Some(other) = bare.get(&name).filter(|_| !of_role && h.task.listen.is_empty()) {
                    let d = Diagnostic::warning(format!("the handler `{name}` is never run")).at(h.span());
                    found.push(d.also(other, "another of that name is").hint("give it a name of its own"));
                }
                bare.entry(name).or_insert_with(|| h.span().clone());
                full.insert(title);
            }
            if h.taken != Taken::Both || !h.task.listen.is_empty() {
                kept.push(h);
            }
        }
        all.push(kept);
    }
    all.into_iter().rev().flatten().collect()
}

/// The hosts of a phase, cut into the batches that `serial` asks for.
fn batches(serial: &[Batch], hosts: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![];
    let mut rest = hosts;
    let mut sizes = serial.iter();
    let mut size = hosts.len();
    while !rest.is_empty() {
        if let Some(s) = sizes.next() {
            size = match *s {
                Batch::Hosts(n) => n,
                Batch::Percent(p) => ((hosts.len() as f64 * p / 100.0) as usize).max(1),
            };
        }
        let (batch, more) = rest.split_at(size.clamp(1, rest.len()));
        all.push(batch.to_vec());
        rest = more;
    }
    if all.is_empty() {
        all.push(vec![]);
    }
    all
}

/// The budgets the tasks of a phase name, from wherever in the playbook they are defined.
fn budgets_of(
    phase: &Phase,
    index: usize,
    roles: &[&Arc<RoleUse>],
    tasks: &[TaskUse],
    found: &mut Diagnostics,
) -> Vec<BudgetUse> {
    let mut all: Vec<BudgetUse> = vec![];
    let defined = phase.budgets.iter().map(|b| (b, None));
    let of_roles = roles.iter().flat_map(|r| r.role.budgets.iter().map(move |b| (b, Some((*r).clone()))));
    for (budget, role) in defined.chain(of_roles) {
        match all.iter().find(|b| b.budget.name == budget.name) {
            // The phase's own word comes before that of a role.
            Some(twin) if twin.place.role.is_some() && !Arc::ptr_eq(&twin.budget, budget) => {
                let d = Diagnostic::error(format!("two roles define the budget `{}`", budget.name)).at(&budget.span);
                let hint = "give one of them another name, or define it under `budgets:` of the phase";
                found.push(d.also(&twin.budget.span, "the first").hint(hint));
            }
            Some(_) => {}
            None => {
                // Its place is that of any task of the phase, with the defining role's variables.
                let Some(t) = tasks.first() else { continue };
                let place = TaskUse {
                    around: t.role.iter().chain(&t.around).cloned().collect(),
                    ..handler(&t.task, index, role)
                };
                all.push(BudgetUse { budget: budget.clone(), place });
            }
        }
    }
    let holds = tasks
        .iter()
        .flat_map(|t| t.within.iter().map(|w| &w.block.keys.hold).chain([&t.task.keys.hold]).flat_map(|h| &h.budgets));
    let mut said: Vec<&crate::source::Span> = vec![];
    for (name, span) in holds {
        if all.iter().any(|b| b.budget.name == *name) || phase.partial || said.contains(&span) {
            continue;
        }
        said.push(span);
        let d = Diagnostic::error(format!("there is no budget `{name}` in this phase")).at(span);
        found.push(match nearest(name, all.iter().map(|b| b.budget.name.as_str())) {
            Some(n) => d.hint(format!("did you mean `{n}`?")),
            None => d.hint("define it under `budgets:` of the phase, or in meta/main.yml of a role it uses"),
        });
    }
    all
}

/// Whether the tags on the command line let a task with these tags through.
pub fn selected(tags: &[String], options: &Options) -> bool {
    let has = |t: &str| tags.iter().any(|x| x == t);
    let meets = |wanted: &[String]| wanted.iter().any(|w| has(w) || w == "untagged" && tags.is_empty());
    let says = |wanted: &[String], word: &str| wanted.iter().any(|w| w == word);
    let (only, skip) = (&options.tags, &options.skip_tags);
    let plain = !has("never") && (only.is_empty() || says(only, "all") || says(only, "tagged") && !tags.is_empty());
    let run = has("always") || plain || meets(only);
    let skipped = match says(skip, "all") {
        true => !has("always") || says(skip, "always"),
        false => meets(skip) || says(skip, "tagged") && !tags.is_empty(),
    };
    run && !skipped
}

/// A handler nobody has is a mistake; one whose name is a template is looked for when it is known.
fn check_notifies(program: &Program, found: &mut Diagnostics) {
    for t in &program.tasks {
        for n in t.task.notify.iter().filter(|n| !n.text.contains("{{")) {
            check_notify(program, t, &n.text, &n.span, found);
        }
    }
    // What is wrong otherwise may be why.
    if found.has_errors() {
        return;
    }
    meant_elsewhere(program, found);
    for h in program.tasks.iter().filter(|h| h.handler && h.role.is_none() && h.stands_for.is_none()) {
        let mut notifies = program.tasks.iter().filter(|t| t.phase == h.phase).flat_map(|t| &t.task.notify);
        let called = |n: &Text| n.text.contains("{{") || hears(h, &n.text);
        let unsure = h.task.broken
            || h.taken != Taken::Nothing
            || h.task.title().contains("{{")
            || program.playbook.phases[h.phase].partial;
        if !unsure && !notifies.any(called) {
            let d = Diagnostic::warning(format!("nothing notifies the handler `{}`", h.task.title())).at(h.span());
            found.push(d.hint("a task with `notify:` and its name does, or one of those it listens to"));
        }
    }
}

/// A role that notifies a handler of its own by a name that means another role's.
fn meant_elsewhere(program: &Program, found: &mut Diagnostics) {
    let handlers = || program.tasks.iter().filter(|h| h.handler && h.stands_for.is_none());
    let mut said: HashSet<(String, String)> = HashSet::new();
    for t in &program.tasks {
        let Some(role) = &t.role else { continue };
        for n in &t.task.notify {
            let of_name = |h: &&TaskUse| h.phase == t.phase && h.task.title() == n.text;
            let own = |h: &&TaskUse| h.role.as_ref().is_some_and(|r| Arc::ptr_eq(&r.role, &role.role));
            let Some(meant) = handlers().find(|h| of_name(h) && h.taken == Taken::Nothing) else { continue };
            let hidden = handlers().any(|h| of_name(&h) && own(&h) && h.taken == Taken::Bare);
            let (true, Some(other)) = (hidden && !own(&meant), &meant.role) else { continue };
            if said.insert((role.role.name.clone(), n.text.clone())) {
                let d =
                    Diagnostic::warning(format!("`{}` means the handler of the role `{}`", n.text, other.role.name));
                let d = d.at(&n.span).also(meant.span(), "this one, which comes last");
                found.push(d.hint(format!("for its own: `notify: \"{} : {}\"`", role.role.name, n.text)));
            }
        }
    }
}

/// The same for one name.
pub fn check_notify(program: &Program, t: &TaskUse, name: &str, span: &Span, found: &mut Diagnostics) {
    let heard = |h: &TaskUse| h.handler && h.phase == t.phase && hears(h, name);
    if program.tasks.iter().any(heard) || program.playbook.phases[t.phase].partial {
        return;
    }
    let names: Vec<&str> = program
        .tasks
        .iter()
        .filter(|h| h.handler && h.stands_for.is_none() && h.phase == t.phase)
        .flat_map(|h| std::iter::once(h.task.title()).chain(h.task.listen.iter().map(String::as_str)))
        .collect();
    let d = Diagnostic::error(format!("no handler `{name}` in this phase")).at(span);
    found.push(match nearest(name, names.iter().copied()) {
        Some(near) => d.hint(format!("did you mean `{near}`?")),
        None if names.is_empty() => d.hint("the phase and its roles have no `handlers:`"),
        None => d.hint(format!("there is: {}", names.join(", "))),
    });
}

/// Whether a handler answers to a name.
pub fn hears(handler: &TaskUse, name: &str) -> bool {
    let named = match handler.taken {
        Taken::Nothing => handler.task.title() == name || handler.title() == name,
        Taken::Bare => handler.title() == name,
        Taken::Both => false,
    };
    named || handler.task.listen.iter().any(|l| l == name)
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
        assert!(run(&["always", "never"], &[], &["all"]) && !run(&["a"], &[], &["all"]) && !run(&[], &[], &["all"]));
        assert!(!run(&["a"], &[], &["a"]) && run(&["a"], &["tagged"], &[]) && run(&[], &["untagged"], &[]));
    }
}
