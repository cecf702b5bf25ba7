//! Which of several values counts, what waits for other hosts, and what is found where: as in Ansible.

use super::language_tests::wrote;
use super::tests::{HOSTS, project};
use crate::graph::{Node, Options, Program};
use crate::source::Diagnostics;

fn checked(files: &[(&str, &str)]) -> (Program, Diagnostics) {
    project(files, HOSTS, &Options::default())
}

/// A task that writes a line.
fn say(line: &str) -> String {
    format!("{{shell: 'echo \"{line}\" >> DIR/out'}}")
}

#[test]
fn what_is_given_to_roles_and_files_stands_above_what_tasks_set() {
    let site = format!(
        r#"
- phase: files
  hosts: a
  tasks:
  - set_fact: {{ta: fact, tb: fact, pc: fact, pd: fact}}
  - {{include_tasks: inc.yml, vars: {{ta: include, tb: include}}}}
  - {{import_tasks: inc.yml, vars: {{ta: import, tb: import}}}}
  - set_fact: {{ia: fact}}
  - include_vars: vars/one.yml
  - {}
  - set_fact: {{ib: fact}}
  - {}
  - include_vars: vars/two.yml
  - {}
- phase: roles
  hosts: a
  roles:
  - {{role: r, pa: direct, pc: direct, vars: {{pb: vars, pd: vars}}}}
  tasks:
  - {{include_role: {{name: inc}}, vars: {{qa: include}}}}
  - {{import_role: {{name: imp}}, vars: {{qa: import}}}}
"#,
        say("7 {{ia}} {{ib}} {{ic}}"),
        say("8 {{ia}} {{ib}} {{ic}}"),
        say("9 {{ia}} {{ib}} {{ic}}"),
    );
    let with = |task: &str, vars: &str| task.replacen('{', &format!("{{vars: {vars}, "), 1);
    let inc = format!("- {}\n", with(&say("inc {{ta}} {{tb}}"), "{tb: task}"));
    let of_role = format!(
        "- {}\n- block: [{}]\n  vars: {{pa: block, pb: block}}\n- set_fact: {{pa: fact, pb: fact}}\n- {}\n- {}\n",
        with(&say("1 {{pa}} {{pb}}"), "{pa: task, pb: task}"),
        say("2 {{pa}} {{pb}}"),
        say("3 {{pa}} {{pb}}"),
        say("4 {{pc}} {{pd}}"),
    );
    let taken = |n: &str| {
        format!(
            "- {}\n- set_fact: {{qa: fact}}\n- {}\n- {{include_tasks: more.yml, vars: {{qa: tasks_in_role}}}}\n",
            with(&say(&format!("{n} {{{{qa}}}}")), "{qa: task}"),
            say(&format!("{n} {{{{qa}}}}")),
        )
    };
    let more = format!("- {}\n", say("more {{qa}}"));
    let out = wrote(&[
        ("site.yml", &site),
        ("inc.yml", &inc),
        ("vars/one.yml", "{ia: file, ib: file, ic: file}\n"),
        ("vars/two.yml", "{ia: file2, ib: file2, ic: file2}\n"),
        ("roles/r/tasks/main.yml", &of_role),
        ("roles/r/vars/main.yml", "{pa: rv, pb: rv, pc: rv, pd: rv}\n"),
        ("roles/inc/tasks/main.yml", &taken("inc")),
        ("roles/inc/tasks/more.yml", &more),
        ("roles/imp/tasks/main.yml", &taken("imp")),
        ("roles/imp/tasks/more.yml", &more),
    ]);
    // Ansible 2.19 says the same.
    let as_there = [
        "inc include include",
        "inc fact fact",
        "7 fact file file",
        "8 fact fact file",
        "9 fact fact file2",
        "1 direct task",
        "2 direct block",
        "3 direct fact",
        "4 direct fact",
        "inc include",
        "inc include",
        "more tasks_in_role",
        "imp fact",
        "imp fact",
        "more tasks_in_role",
    ];
    assert_eq!(out, as_there);
}

#[test]
fn a_playbook_that_is_taken_in_gets_its_variables_and_finds_what_lies_beside_it() {
    let site = "- {import_playbook: sub/pb.yml, vars: {pv: import}}\n- import_playbook: sub/pb.yml\n";
    let pb =
        format!("- phase: child\n  hosts: a\n  vars: {{pv: own}}\n  roles: [near]\n  tasks: [{}]\n", say("{{pv}}"));
    let near = format!("- {}\n", say("near"));
    let files = [("site.yml", site), ("sub/pb.yml", &pb), ("sub/roles/near/tasks/main.yml", &near)];
    assert_eq!(wrote(&files), ["near", "import", "near", "own"]);
    let (program, _) = checked(&files);
    assert_eq!(program.playbook.phases.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["child", "child (2)"]);
    // Which of them is needed, nobody can say.
    let more = format!("{site}- {{phase: last, hosts: a, needs: [child], tasks: []}}\n");
    let (_, found) = checked(&[("site.yml", &more), files[1], files[2]]);
    assert!(found.iter().any(|d| d.message == "two phases are called `child`"), "{}", found.render(false));
}

#[test]
fn files_are_found_by_folders_in_their_names_and_beside_the_role_and_the_playbook() {
    let main = r#"
- include_tasks: "{{role_path}}/tasks/plain.yml"
- import_tasks: "{{ role_path }}/tasks/plain.yml"
- include_tasks: "{{playbook_dir}}/beside.yml"
- include_vars: "{{role_path}}/vars/extra.yml"
- include_vars: "{{role_path}}/vars/{{which}}.yml"
- include_tasks: "{{item}}.yml"
  loop: [plain, sub/two]
- include_tasks: "{{role_path}}/tasks/sub/{{number}}.yml"
- include_tasks: sub/one.yml
"#;
    let one = "- include_tasks: sub/two.yml\n- include_tasks: plain.yml\n- include_tasks: beside.yml\n";
    let plain = format!("- {}\n", say("plain {{default extra 0}}"));
    let two = format!("- {}\n", say("two"));
    let out = wrote(&[
        ("site.yml", "- phase: p\n  hosts: a\n  vars: {which: more, number: two}\n  roles: [r]\n"),
        ("beside.yml", &format!("- {}\n", say("beside"))),
        ("roles/r/tasks/main.yml", main),
        ("roles/r/tasks/plain.yml", &plain),
        ("roles/r/tasks/sub/one.yml", one),
        ("roles/r/tasks/sub/two.yml", &two),
        ("roles/r/vars/extra.yml", "extra: 1\n"),
        ("roles/r/vars/more.yml", "extra: 2\n"),
    ]);
    assert_eq!(out, ["plain 0", "plain 0", "beside", "plain 2", "two", "two", "two", "plain 2", "beside"],);
}

/// Whether the step of one task on `b` waits for that of another on `a`.
fn waits(program: &Program) -> bool {
    let step = |host: &str, task: &str| {
        program.graph.node_indices().find(|n| match program.graph[*n] {
            Node::Step { task: t, host: h } => program.hosts[h].name == host && program.tasks[t].task.title() == task,
            _ => false,
        })
    };
    let (Some(from), Some(to)) = (step("a", "give"), step("b", "take")) else { panic!("no steps") };
    program.graph.find_edge(from, to).is_some()
}

/// Names and texts.
type Files<'a> = &'a [(&'a str, &'a str)];

#[test]
fn whatever_key_reads_of_another_host_waits_for_it() {
    let of = "{{hostvars.a.r.stdout}}";
    let template = "template: {src: t.j2, dest: /tmp/windlass-none}";
    let cases: &[(&str, &str, Files<'_>)] = &[
        ("debug: {msg: x}, environment: {X: \"OF\"}", "", &[]),
        ("debug: {msg: x}", "environment: {X: \"OF\"}", &[]),
        ("block: [{name: take, debug: {msg: x}}], environment: {X: \"OF\"}", "", &[]),
        ("command: ls, until: eq 1 1, retries: \"OF\"", "", &[]),
        ("command: ls, until: eq 1 1, delay: \"OF\"", "", &[]),
        ("command: ls, timeout: \"OF\"", "", &[]),
        ("command: ls, throttle: \"OF\"", "", &[]),
        ("command: ls, become: true, become_user: \"OF\"", "", &[]),
        ("command: ls", "become: true, become_user: \"OF\"", &[]),
        ("command: ls, ignore_errors: \"OF\"", "", &[]),
        (template, "", &[("templates/t.j2", "{% include 'part.j2' %}"), ("templates/part.j2", of)]),
        (template, "", &[("templates/t.j2", "{%- import 'x/m.j2' as m -%}"), ("templates/x/m.j2", of)]),
        (
            template,
            "",
            &[
                ("templates/t.j2", "{% extends \"base.j2\" %}"),
                ("templates/base.j2", "{% include [ 'gone.j2', 'deep.j2' ] ignore missing %}"),
                ("templates/deep.j2", of),
            ],
        ),
        (template, "vars: {n: a}", &[("templates/t.j2", "{% include n ~ '.j2' %}"), ("templates/sub/a.j2", of)]),
        ("template: {src: \"sub/{{n}}.j2\", dest: /tmp/windlass-none}", "vars: {n: a}", &[("templates/sub/a.j2", of)]),
        ("debug: {msg: \"{{template 'a.j2'}}\"}", "", &[("templates/a.j2", of)]),
    ];
    for (task, phase, files) in cases {
        let all = |of: &str| {
            let give = "{name: give, command: echo 5, register: r, when: eq inventory_hostname \"a\"}";
            let phase = if phase.is_empty() { String::new() } else { format!(", {phase}") };
            let site = format!("- {{phase: p, hosts: [a, b]{phase}, tasks: [{give}, {{name: take, {task}}}]}}\n");
            let mut all = vec![("site.yml".to_string(), site.replace("OF", of))];
            all.extend(files.iter().map(|(n, t)| (n.to_string(), t.replace("{{hostvars.a.r.stdout}}", of))));
            all
        };
        let program = |of: &str| {
            let own = all(of);
            let files: Vec<(&str, &str)> = own.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
            // Templates are looked for while the graph is made: their folder must still be there.
            checked(&files).0
        };
        assert!(waits(&program(of)), "{task} {phase} {files:?}");
        assert!(!waits(&program("{{inventory_hostname}}")), "{task} {phase} {files:?}");
    }
}

#[test]
fn a_check_says_the_same_each_time() {
    let (mut sets, mut reads) = (String::new(), String::new());
    for i in 0..60 {
        // Some conditions ask for what the next task gives, and it for theirs.
        let next = (i + 1) % 60;
        sets += &format!("  - {{set_fact: {{y{i}: 1}}, when: ['eq inventory_hostname \"a\"', 'defined y{next}']}}\n");
        sets += &format!("  - {{set_fact: {{z{i}: 1}}, when: 'eq inventory_hostname \"a\"'}}\n");
        reads += &format!("  - {{debug: {{msg: \"{{{{y{i}}}}} {{{{z{i}}}}}\"}}}}\n").repeat(2);
    }
    let site = format!("- phase: p\n  hosts: all\n  tasks:\n{sets}{reads}");
    let said = || checked(&[("site.yml", &site)]).1.iter().map(|d| d.message.clone()).collect::<Vec<_>>();
    let first = said();
    assert!(first.iter().any(|m| m == "undefined variable `y7`"), "{first:?}");
    for _ in 0..15 {
        assert_eq!(said(), first);
    }
}

#[test]
fn parameters_of_a_role_that_are_nearly_keys() {
    let said = |param: &str, tasks: &str| {
        let site = format!("- {{phase: p, hosts: a, roles: [{{role: r, {param}: 1}}]}}\n");
        let (_, found) = checked(&[("site.yml", &site), ("roles/r/tasks/main.yml", tasks)]);
        found.iter().map(|d| d.message.clone()).collect::<Vec<_>>()
    };
    for param in ["rule", "rules", "node", "mode", "names", "tag", "wheel", "roles"] {
        assert_eq!(said(param, &format!("- debug: {{msg: \"{{{{{param}}}}}\"}}\n")), [""; 0], "{param}");
    }
    assert_eq!(said("tag", "- {debug: {msg: x}, tags: x}\n"), ["unknown key `tag` for a role"]);
    assert_eq!(said("whem", "- {debug: {msg: x}, when: true}\n"), ["unknown key `whem` for a role"]);
}

#[test]
fn names_that_ansible_gives() {
    let out = wrote(&[
        (
            "site.yml",
            &format!(
                "- phase: p\n  hosts: [a, b]\n  serial: [1, 0]\n  roles: [r]\n  tasks: [{}]\n",
                say("{{join ansible_play_batch \"+\"}} {{join ansible_run_tags}} {{length ansible_skip_tags}} \
                     {{join ansible_play_role_names}} {{defined ansible_limit}}")
            ),
        ),
        ("roles/r/tasks/main.yml", &format!("- {}\n", say("{{ansible_role_name}}"))),
    ]);
    assert_eq!(out, ["r", "a all 0 r false", "r", "b all 0 r false"]);
}

#[test]
fn variables_that_are_called_like_helpers() {
    let task = say("{{list}} {{dict.a}} {{#if list}}yes{{/if}}");
    let site = format!("- {{phase: p, hosts: a, vars: {{list: [1, 2], dict: {{a: 1}}}}, tasks: [{task}]}}\n");
    assert_eq!(wrote(&[("site.yml", &site)]), ["[1, 2] 1 yes"]);
}

#[test]
fn words_for_true_and_false_are_no_text() {
    let said = |task: &str| {
        let site = format!("- {{phase: p, hosts: a, tasks: [{task}]}}\n");
        let (_, found) = checked(&[("site.yml", &site)]);
        found.iter().map(|d| (d.message.clone(), d.hint.clone().unwrap_or_default())).collect::<Vec<_>>()
    };
    let line = |value: &str| said(&format!("{{ini_file: {{path: /x, section: a, option: b, value: {value}}}}}"));
    assert_eq!(line("\"on\""), []);
    assert_eq!(line("true"), []);
    // As in Ansible, this one is 1.
    assert_eq!(said("{sysctl: {name: a.b, value: on}}"), []);
    assert_eq!(said("{command: ls, changed_when: no, become: yes}"), []);
    assert_eq!(said("{file: {path: /tmp/x, state: directory, recurse: yes}}"), []);
    assert_eq!(said("{set_fact: {x: yes}}"), []);
    let (message, hint) = line("on").pop().unwrap();
    assert_eq!(message, "`on` without quotes is true in YAML, and no text");
    assert_eq!(hint, "value: \"on\"");
}
