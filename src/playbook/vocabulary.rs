//! The keys of playbooks, tasks and roles, each with what it takes and what it does. The loader knows keys from here alone,
//! and so does the schema for editors.

/// A key.
#[derive(Debug)]
pub struct Word {
    pub name: &'static str,
    pub shape: Shape,
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One value; templates may stand in it where the loader says so.
    Text,
    Bool,
    /// The same, or a template.
    BoolOrTemplate,
    /// A whole number, 0 or more.
    Whole,
    /// The same, or a template.
    WholeOrTemplate,
    /// A number, 0 or more, or a template.
    NumberOrTemplate,
    /// An expression, or a list of which all must hold.
    Expression,
    /// A list of words, or one text with commas.
    Words,
    /// One text, or a list of texts.
    OneOrMore,
    /// A variable's name.
    Name,
    /// Variables by name.
    Vars,
    /// A mapping, or a template that comes to one.
    Mapping,
    /// Anything.
    Any,
    /// Exactly one of these words.
    OneOf(&'static [&'static str]),
    /// What another part of the schema describes.
    Ref(&'static str),
    /// A list of what another part of the schema describes.
    List(&'static str),
    /// A mapping of names to what another part of the schema describes.
    Map(&'static str),
}

/// A table of words, and its names alone.
macro_rules! words {
    ($(#[$doc:meta])* $table:ident, $names:ident: $($name:literal $shape:expr, $text:literal;)*) => {
        $(#[$doc])*
        pub const $table: &[Word] = &[$(Word { name: $name, shape: $shape, doc: $text }),*];
        /// The same, the names alone.
        pub const $names: &[&str] = &[$($name),*];
    };
}

use Shape::*;

words! {
    /// A phase of a playbook.
    PHASE, PHASE_KEYS:
    "phase" Text, "The phase's name; `needs` calls it by this.";
    "name" Text, "The same as `phase`.";
    "hosts" OneOrMore, "The hosts: a group, a host or a pattern such as `web:&prod:!old`, `db[0]`, `*.lan`.";
    "needs" Ref("phase_needs"), "The phases it waits for, in place of the one above; `[]`: none.";
    "become" BoolOrTemplate, "Become another user (root) for all of it.";
    "become_user" Text, "The user to become.";
    "remote_user" Text, "Who logs in, where `ansible_user` does not say.";
    "vars" Vars, "Variables for this phase.";
    "vars_files" OneOrMore, "Files of variables, from the playbook's folder.";
    "tags" Words, "Tags of all that is in it.";
    "environment" Mapping, "Environment variables for all its tasks.";
    "pre_tasks" Ref("tasks"), "Tasks before the roles.";
    "roles" List("role_use"), "Roles, in this order.";
    "tasks" Ref("tasks"), "Tasks after the roles.";
    "post_tasks" Ref("tasks"), "Tasks after all others.";
    "handlers" Ref("handlers"), "Tasks that are done at the end, once, if something notified them.";
    "gather_facts" BoolOrTemplate, "Taken for Ansible's sake: facts are gathered when something asks for them.";
    "connection" OneOf(&["ssh", "local", "smart", "paramiko"]), "How the hosts are reached; `local`: this machine.";
    "gather" Any, "Taken and not needed: facts are gathered when something asks for them.";
    "when" Expression, "Conditions for all that is in it.";
    "serial" Ref("serial"), "The hosts are done in batches of this size: a number, a share, or a list of them.";
    "max_fail_percentage" Ref("share"), "More failed hosts of a batch than this, in per cent, end the phase.";
    "any_errors_fatal" BoolOrTemplate, "One failed host ends the phase for all.";
    "force_handlers" BoolOrTemplate, "Handlers that are due are run also on hosts where a task failed.";
    "vars_prompt" List("prompt"), "Variables a person is asked for before anything is done.";
    "budgets" Map("budget"), "How many members of something may be away at once.";
}

words! {
    /// An entry that takes in another playbook.
    IMPORT, IMPORT_KEYS:
    "import_playbook" Text, "Another playbook, from the folder of this one: its phases stand here.";
    "name" Text, "For the reader.";
    "when" Expression, "Conditions for all its phases.";
    "tags" Words, "Tags for all its phases.";
    "vars" Vars, "Variables for its phases, above their own.";
}

words! {
    /// A task, and (as far as [`BLOCK_KEYS`] has them) a block.
    TASK, TASK_KEYS:
    "name" Text, "What it is called in reports; a handler is notified by it.";
    "id" Text, "What `needs` of other tasks calls it.";
    "needs" Ref("task_needs"), "The tasks it waits for, in place of the one above; `[]`: none.";
    "when" Expression, "Only if this holds; a list means AND.";
    "loop" Ref("loop"), "Done once for each item of a list; the item is `item`.";
    "loop_control" Ref("loop_control"), "The loop's variable, index and label.";
    "register" Name, "The variable that gets its result.";
    "notify" OneOrMore, "Handlers that are due when it changes something.";
    "listen" OneOrMore, "For a handler: other names it hears.";
    "tags" Words, "For `--tags` and `--skip-tags`; `always` and `never` are special.";
    "become" BoolOrTemplate, "Become another user (root).";
    "become_user" Text, "The user to become.";
    "remote_user" Text, "Who logs in, where `ansible_user` does not say.";
    "vars" Vars, "Variables for it alone.";
    "environment" Mapping, "Environment variables.";
    "timeout" WholeOrTemplate, "Seconds for the whole task.";
    "async" WholeOrTemplate, "Seconds a command may run in the background.";
    "poll" WholeOrTemplate, "Seconds between two looks at it (10); 0: it is not waited for.";
    "ignore_errors" BoolOrTemplate, "Go on when it fails.";
    "changed_when" Expression, "What counts as a change.";
    "failed_when" Expression, "What counts as a failure.";
    "no_log" BoolOrTemplate, "Say nothing of what it does.";
    "check_mode" BoolOrTemplate, "`true`: only look what would change, in an apply too; `false`: act in a plan, too.";
    "until" Expression, "Try again until this holds.";
    "retries" WholeOrTemplate, "Further tries (3).";
    "delay" WholeOrTemplate, "Seconds between two tries (5).";
    "args" Ref("args"), "More parameters of the module.";
    "run_once" BoolOrTemplate, "The first host does it, all know the result.";
    "delegate_to" Text, "The host it is done on, with this host's variables.";
    "lock" OneOrMore, "Names of locks: of all hosts, one at a time changes something under it.";
    "throttle" WholeOrTemplate, "So many hosts at a time.";
    "budget" OneOrMore, "Budgets: a place in each is taken before the first change.";
    "evidence" Mapping, "Scripts, by title, whose output comes with a failure.";
    "diagnosis" List("diagnosis"), "Known causes that the evidence points to.";
}

words! {
    /// The lists of a block.
    BLOCK, BLOCK_LISTS:
    "block" Ref("tasks"), "The tasks.";
    "rescue" Ref("tasks"), "What is done when one of them fails.";
    "always" Ref("tasks"), "What is done after them, whatever came of them.";
}

words! {
    /// An entry of `roles:` or of a role's dependencies. Other keys are variables for the role.
    ROLE_USE, ROLE_USE_KEYS:
    "role" Text, "The role's name: a folder of `roles/`.";
    "name" Text, "The same as `role`.";
    "when" Expression, "Only if this holds.";
    "tags" Words, "Tags of all its tasks.";
    "vars" Vars, "Variables for the role.";
    "become" BoolOrTemplate, "Become another user (root) for all of it.";
    "become_user" Text, "The user to become.";
    "remote_user" Text, "Who logs in, where `ansible_user` does not say.";
    "environment" Mapping, "Environment variables for all its tasks.";
    "ignore_errors" BoolOrTemplate, "Go on when one of them fails.";
    "no_log" BoolOrTemplate, "Say nothing of what they do.";
    "check_mode" BoolOrTemplate, "`true`: only look what would change, in an apply too; `false`: act in a plan, too.";
    "run_once" BoolOrTemplate, "The first host does it all.";
    "delegate_to" Text, "The host it is done on.";
    "lock" OneOrMore, "Locks that are held from its first change to its end.";
    "throttle" WholeOrTemplate, "So many hosts at a time.";
    "budget" OneOrMore, "Budgets: a place in each is held from its first change to its end.";
    "evidence" Mapping, "Scripts, by title, whose output comes with a failure.";
    "diagnosis" List("diagnosis"), "Known causes that the evidence points to.";
}

words! {
    /// `meta/main.yml` of a role.
    META, META_KEYS:
    "dependencies" List("role_use"), "Roles that are done before it.";
    "allow_duplicates" Bool, "Done each time it is named, also with the same variables.";
    "budgets" Map("budget"), "How many members of something may be away at once.";
    "arguments" Ref("arguments"), "The variables it takes, checked before any host is contacted.";
    "argument_specs" Map("argument_spec"), "The same in Ansible's form, by file of tasks.";
    "galaxy_info" Any, "For Ansible Galaxy.";
    "collections" Any, "For Ansible.";
}

words! {
    /// An argument of a role.
    ARGUMENT, ARGUMENT_KEYS:
    "name" Text, "The variable.";
    "type" OneOf(&[
        "str", "int", "float", "bool", "list", "dict", "path", "raw", "json", "jsonarg", "bytes", "bits", "string", "text",
        "integer", "number", "boolean", "mapping", "any"
    ]), "Its type; without one, anything.";
    "required" Bool, "The role cannot do without it.";
    "default" Any, "Its value where nobody gives one. (In an Ansible spec: the one that `defaults/` has.)";
    "choices" Ref("list"), "The values it can have.";
    "description" Ref("text_or_list"), "What it is for.";
    "elements" OneOf(&["str", "int", "float", "bool", "list", "dict", "path", "raw", "json"]), "The type of a list's items.";
    "options" Map("argument"), "The keys of a mapping, or of the mappings of a list.";
    "version_added" Any, "Since when it is there.";
    "no_log" Bool, "For Ansible.";
    "apply_defaults" Bool, "For Ansible.";
    "mutually_exclusive" Ref("list"), "Not more than one of these.";
    "required_together" Ref("list"), "All of these or none.";
    "required_one_of" Ref("list"), "One of these at least.";
    "required_if" Ref("list"), "[NAME, VALUE, [NAMES]]: with this value, these are needed.";
    "required_by" Any, "With this name, these are needed.";
}

words! {
    /// An entry of Ansible's argument specs.
    SPEC, SPEC_KEYS:
    "short_description" Text, "What the role does, in a line.";
    "description" Ref("text_or_list"), "What it does.";
    "author" Any, "Who wrote it.";
    "version_added" Any, "Since when it is there.";
    "options" Map("argument"), "Its arguments.";
    "seealso" Any, "What else to read.";
    "notes" Any, "Notes.";
    "examples" Any, "Examples.";
    "mutually_exclusive" Ref("list"), "Not more than one of these.";
    "required_together" Ref("list"), "All of these or none.";
    "required_one_of" Ref("list"), "One of these at least.";
    "required_if" Ref("list"), "[NAME, VALUE, [NAMES]]: with this value, these are needed.";
    "required_by" Any, "With this name, these are needed.";
}

words! {
    /// A budget.
    BUDGET, BUDGET_KEYS:
    "hosts" OneOrMore, "Its members: a pattern or a list.";
    "size" Any, "How many may be away at once: a number, a share (`\"25%\"`) or `quorum`.";
    "before" Text, "A script on the host that is about to go: exit code 0, the others can do without it.";
    "after" Text, "A script on that host when its work is done: exit code 0, it is back and all is well.";
    "environment" Mapping, "Environment variables for the two.";
    "timeout" Whole, "Seconds for each of the two to come true (300).";
    "every" Whole, "Seconds between two looks (2).";
    "evidence" Mapping, "Scripts, by title, whose output comes with a failure.";
    "diagnosis" List("diagnosis"), "Known causes that the evidence points to.";
}

words! {
    /// An entry of `vars_prompt`.
    PROMPT, PROMPT_KEYS:
    "name" Text, "The variable.";
    "prompt" Text, "The question.";
    "private" Bool, "What is typed is not shown (true).";
    "default" Text, "For an empty answer.";
}

words! {
    /// `loop_control`.
    LOOP_CONTROL, LOOP_CONTROL_KEYS:
    "loop_var" Name, "The variable in place of `item`.";
    "index_var" Name, "A variable that gets the item's number, from 0.";
    "label" Text, "What an item is called in reports.";
    "pause" NumberOrTemplate, "Seconds between two items, where the first of them did something.";
    "extended" Bool, "Items get `ansible_loop`: index, index0, first, last, length, revindex, revindex0, previtem, nextitem, allitems.";
    "extended_allitems" Bool, "`false`: without `allitems`, which a long list has once for each item.";
}

words! {
    /// An entry of `diagnosis`.
    DIAGNOSIS, DIAGNOSIS_KEYS:
    "match" Text, "A regular expression.";
    "in" Text, "The evidence's title; without it, any.";
    "say" Text, "What it means.";
}

words! {
    /// `include_role` and `import_role`.
    INNER_ROLE, INNER_ROLE_KEYS:
    "name" Text, "The role's name: a folder of `roles/`.";
    "role" Text, "The same as `name`.";
    "tasks_from" Text, "A file of its tasks other than `main`.";
    "public" Bool, "The whole phase sees the role's variables and defaults; `import_role` does so unless this says no.";
    "allow_duplicates" Bool, "For Ansible: it is done each time it is named.";
    "apply" Mapping, "Keys of a block for its tasks.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_says_what_it_does_once() {
        let tables = [
            PHASE,
            IMPORT,
            TASK,
            BLOCK,
            ROLE_USE,
            META,
            ARGUMENT,
            SPEC,
            BUDGET,
            PROMPT,
            LOOP_CONTROL,
            DIAGNOSIS,
            INNER_ROLE,
        ];
        for table in tables {
            for (i, w) in table.iter().enumerate() {
                assert!(w.doc.ends_with(['.', ')']) && w.doc.len() > 5, "{}: {}", w.name, w.doc);
                assert!(!table[..i].iter().any(|o| o.name == w.name), "{} stands twice", w.name);
            }
        }
    }

    #[test]
    fn a_block_has_keys_of_a_task() {
        for k in crate::playbook::block::KEYS {
            assert!(TASK_KEYS.contains(k), "{k}: say in TASK what it does");
        }
    }
}
