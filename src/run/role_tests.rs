//! Roles and what is taken in: whole runs on this machine, in the order in which Ansible does the same.

use super::Outcome;
use super::tests::{HOSTS, perform, project};
use crate::graph::{Dynamic, Options, Place, Prepared, prepare};

/// Runs a project whose tasks write words into `DIR/said`; gives back these words, and who was told a failure.
fn said_with(files: &[(&str, &str)], options: &Options) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let files: Vec<(&str, String)> = files.iter().map(|(n, t)| (*n, t.replace("DIR", &at))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let (program, found) = project(&files, HOSTS, options);
    assert!(!found.has_errors(), "{}", found.render(false));
    let (ended, _) = perform(program, 1, false, true, dir.path());
    let failed = ended.iter().filter(|(_, _, o)| *o == Outcome::Failed).map(|(_, t, _)| t.clone()).collect();
    let text = std::fs::read_to_string(dir.path().join("said")).unwrap_or_default();
    (text.split_whitespace().collect::<Vec<_>>().join(" "), failed)
}

fn said(files: &[(&str, &str)]) -> String {
    let (text, failed) = said_with(files, &Options::default());
    assert_eq!(failed, Vec::<String>::new());
    text
}

fn tags(only: &[&str], skip: &[&str]) -> Options {
    let own = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
    Options { tags: own(only), skip_tags: own(skip), ..Default::default() }
}

#[test]
fn what_an_entry_of_roles_says_holds_for_all_its_tasks_and_handlers() {
    let text = said(&[
        (
            "site.yml",
            r#"
- hosts: all
  roles:
    - {role: app, environment: {W: set}, run_once: true, ignore_errors: true}
    - {role: other, check_mode: true}
"#,
        ),
        (
            "roles/app/tasks/main.yml",
            r#"
- shell: "echo app-$W >> DIR/said"
  notify: told
- command: "false"
- shell: echo after >> DIR/said
"#,
        ),
        ("roles/app/handlers/main.yml", "- {name: told, shell: 'echo told-$W >> DIR/said'}\n"),
        ("roles/other/tasks/main.yml", "- shell: echo other >> DIR/said\n"),
    ]);
    // What is run once of a role is run once of its handlers, too: they are the host's that was told.
    assert_eq!(text, "app-set after told-set");
}

#[test]
fn nothing_is_told_of_a_role_that_says_no_log() {
    let (program, found) = project(
        &[
            ("site.yml", "- hosts: a\n  roles:\n    - {role: app, no_log: true}\n"),
            ("roles/app/tasks/main.yml", "- {name: one, command: 'true', notify: h}\n"),
            ("roles/app/handlers/main.yml", "- {name: h, command: 'true'}\n"),
        ],
        HOSTS,
        &Options::default(),
    );
    assert!(!found.has_errors(), "{}", found.render(false));
    assert!(program.tasks.iter().all(|t| t.no_log().count() == 1));
}

#[test]
fn handlers_that_are_due_are_run_before_the_roles_and_before_what_comes_last() {
    let echo = |w: &str| format!("shell: echo {w} >> DIR/said");
    let book = format!(
        "- hosts: a\n  pre_tasks:\n  - {{{}, notify: h}}\n  roles: [r]\n  tasks:\n  - {{{}, notify: h}}\n  post_tasks:\n  \
         - {{{}}}\n  handlers:\n  - {{name: h, {}}}\n",
        echo("pre"),
        echo("main"),
        echo("post"),
        echo("h")
    );
    let role = format!("- {{{}, notify: of role}}\n", echo("role"));
    let handlers = format!("- {{name: of role, {}}}\n", echo("hr"));
    let files =
        [("site.yml", book.as_str()), ("roles/r/tasks/main.yml", &role), ("roles/r/handlers/main.yml", &handlers)];
    assert_eq!(said(&files), "pre h role main hr h post");
}

#[test]
fn a_name_means_one_handler_and_a_topic_all() {
    let role = |w: &str| {
        format!(
            "- {{name: restart x, shell: echo {w} >> DIR/said}}\n\
             - {{name: restart x, shell: echo second >> DIR/said}}\n\
             - {{name: of {w}, listen: topic, shell: echo topic-{w} >> DIR/said}}\n"
        )
    };
    let (ha, hb) = (role("ha"), role("hb"));
    let notify = "- {command: 'true', notify: [restart x, topic]}\n";
    let files = [
        ("site.yml", "- hosts: a\n  roles: [ha, hb]\n"),
        ("roles/ha/tasks/main.yml", notify),
        ("roles/hb/tasks/main.yml", "- {command: 'true', notify: 'ha : restart x'}\n"),
        ("roles/ha/handlers/main.yml", &ha),
        ("roles/hb/handlers/main.yml", &hb),
    ];
    assert_eq!(said(&files), "ha topic-ha hb topic-hb");
    let (_, found) = project(&files, HOSTS, &Options::default());
    let warned: Vec<&str> = found.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(warned, ["`restart x` means the handler of the role `hb`"]);
}

#[test]
fn a_role_that_is_used_twice_has_its_handlers_once() {
    let book = "- hosts: a\n  tasks:\n  - {include_role: {name: r}, vars: {v: 1}}\n  - {include_role: {name: r}, vars: {v: 2}}\n";
    let files = [
        ("site.yml", book),
        ("roles/r/tasks/main.yml", "- {command: 'true', notify: h}\n"),
        ("roles/r/handlers/main.yml", "- {name: h, shell: 'echo h{{v}} >> DIR/said'}\n"),
    ];
    assert_eq!(said(&files), "h2");
}

#[test]
fn the_condition_of_a_role_holds_for_its_handlers() {
    let files = [
        ("site.yml", "- hosts: a\n  vars: {off_: false}\n  roles: [ha, {role: hb, when: off_}]\n"),
        ("roles/ha/tasks/main.yml", "- {command: 'true', notify: topic}\n"),
        ("roles/hb/tasks/main.yml", "- debug: {msg: x}\n"),
        ("roles/ha/handlers/main.yml", "- {name: a, listen: topic, shell: echo a >> DIR/said}\n"),
        ("roles/hb/handlers/main.yml", "- {name: b, listen: topic, shell: echo b >> DIR/said}\n"),
    ];
    assert_eq!(said(&files), "a");
}

#[test]
fn the_tags_of_an_include_are_its_own() {
    let book = "- hosts: a\n  tasks:\n  - {include_tasks: {file: inc.yml, apply: {tags: [install]}}, tags: [always]}\n  \
                - {include_tasks: inc.yml, vars: {n: 2}, tags: [second]}\n  \
                - {include_tasks: inc.yml, vars: {n: 3}}\n  \
                - {import_tasks: inc.yml, vars: {n: 4}, tags: [fourth]}\n";
    let inc = "- {shell: 'echo plain{{default n 1}} >> DIR/said'}\n\
               - {shell: 'echo conf{{default n 1}} >> DIR/said', tags: conf}\n";
    let files = [("site.yml", book), ("inc.yml", inc)];
    let of = |only: &[&str], skip: &[&str]| said_with(&files, &tags(only, skip)).0;
    assert_eq!(of(&[], &[]), "plain1 conf1 plain2 conf2 plain3 conf3 plain4 conf4");
    // One with no tags of its own lets through what is asked for inside.
    assert_eq!(of(&["conf"], &[]), "conf1 conf3 conf4");
    assert_eq!(of(&["install"], &[]), "plain1 conf1");
    assert_eq!(of(&["second"], &[]), "");
    assert_eq!(of(&["second", "conf"], &[]), "conf1 conf2 conf3 conf4");
    assert_eq!(of(&["fourth"], &[]), "plain4 conf4");
    assert_eq!(of(&[], &["second", "install"]), "plain3 conf3 plain4 conf4");
}

#[test]
fn the_condition_of_an_include_is_asked_once() {
    let files = [
        (
            "site.yml",
            "- hosts: a\n  vars: {want: '2', outdated: '{{ne have.stdout want}}'}\n  tasks:\n  \
             - {command: echo 1, register: have}\n  - {include_tasks: upgrade.yml, when: outdated}\n  \
             - {include_role: {name: r}, when: outdated}\n  - {command: echo 1, register: have}\n  \
             - block:\n    - {include_tasks: upgrade.yml, when: old}\n    vars: {old: '{{ne have.stdout want}}'}\n",
        ),
        ("upgrade.yml", "- {command: echo 2, register: have}\n- {shell: echo restart >> DIR/said}\n"),
        ("roles/r/tasks/main.yml", "- {shell: echo never >> DIR/said}\n"),
    ];
    assert_eq!(said(&files), "restart restart");
}

#[test]
fn a_role_that_another_needs_sees_what_that_one_has() {
    let files = [
        (
            "site.yml",
            "- hosts: a\n  roles: [{role: outer, given: g}]\n  tasks:\n  - {include_role: {name: outer}, vars: {given: i}}\n",
        ),
        ("roles/outer/defaults/main.yml", "od: d\n"),
        ("roles/outer/meta/main.yml", "dependencies: [dep]\n"),
        ("roles/outer/tasks/main.yml", "- {shell: 'echo outer >> DIR/said'}\n"),
        ("roles/dep/meta/main.yml", "allow_duplicates: true\n"),
        ("roles/dep/tasks/main.yml", "- {shell: 'echo {{od}}{{given}} >> DIR/said'}\n"),
    ];
    assert_eq!(said(&files), "dg outer di outer");
}

#[test]
fn become_of_a_role_holds_for_those_it_needs_and_takes_in() {
    let files = [
        ("site.yml", "- hosts: a\n  roles: [{role: outer, become: true, become_user: nobody}]\n"),
        ("roles/outer/meta/main.yml", "dependencies: [dep]\n"),
        ("roles/outer/tasks/main.yml", "- {command: id}\n- {include_role: {name: inner}}\n"),
        ("roles/dep/tasks/main.yml", "- {command: id}\n"),
        ("roles/inner/tasks/main.yml", "- {command: id}\n"),
    ];
    let (program, found) = project(&files, HOSTS, &Options::default());
    assert!(!found.has_errors(), "{}", found.render(false));
    let (dynamic, pending) = (Dynamic::default(), Default::default());
    for task in &program.tasks {
        let place = Place { program: &program, host: 0, task, dynamic: &dynamic, pending: &pending };
        let Ok(Prepared::Parts { parts, .. }) = prepare(place) else { panic!("{}", task.title()) };
        let users: Vec<_> = parts.iter().map(|p| p.item.as_ref().ok().and_then(|i| i.become_user.clone())).collect();
        assert_eq!(users, [Some("nobody".to_string())], "{}", task.title());
    }
}

#[test]
fn a_public_role_s_variables_are_seen_by_the_whole_phase() {
    let files = [
        (
            "site.yml",
            "- hosts: a\n  tasks:\n  - {import_role: {name: r}}\n  - {include_role: {name: s, public: true}}\n  \
             - {shell: 'echo {{vx}} {{dx}} {{sx}} >> DIR/said'}\n",
        ),
        ("roles/r/vars/main.yml", "vx: v\n"),
        ("roles/r/defaults/main.yml", "dx: d\n"),
        ("roles/r/tasks/main.yml", "- debug: {msg: x}\n"),
        ("roles/s/vars/main.yml", "sx: s\n"),
        ("roles/s/tasks/main.yml", "- debug: {msg: x}\n"),
    ];
    assert_eq!(said(&files), "v d s");
}

#[test]
fn what_is_given_to_an_included_role_is_seen_by_its_name_and_loop() {
    let files = [
        (
            "site.yml",
            "- hosts: a\n  tasks:\n  - include_role: {name: '{{rn}}'}\n    vars: {rn: r, all: [1, 2]}\n    loop: '{{all}}'\n",
        ),
        ("roles/r/tasks/main.yml", "- {shell: 'echo {{rn}}{{item}} >> DIR/said'}\n"),
    ];
    assert_eq!(said(&files), "r1 r2");
}

#[test]
fn a_key_that_a_role_s_entry_cannot_have_is_no_variable() {
    let book = "- hosts: a\n  roles: [{role: r, loop: [1, 2], any_errors_fatal: true}]\n";
    let (_, found) =
        project(&[("site.yml", book), ("roles/r/tasks/main.yml", "- debug: {msg: x}\n")], HOSTS, &Options::default());
    let all: Vec<&str> = found.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(all, ["`loop` is not supported on a role", "`any_errors_fatal` is not supported on a role"]);
}
