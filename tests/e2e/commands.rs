//! command, shell, set_fact, assert, debug.

use crate::kit::Case;

tests!(command, shell, creates_and_removes, circumstances, set_fact, assert, debug, timeout, own_variables);

fn command() {
    let c = Case::anywhere("command").tasks(
        r#"
        - name: line
          command: printf '%s|' one "two words" three\ more '$HOME; id' ~ "*"
          register: line
        - name: words
          command: {argv: [printf, '<%s>', '', 'a b', "new\nline", '$HOME']}
          register: words
        - name: plain
          command: {argv: [printf, '%s', '$HOME'], expand_argument_vars: false}
          register: plain
        - name: fails
          command: ls /no/such/path
          register: fails
          failed_when: eq fails.rc 0
          changed_when: false
        - name: tell
          debug: {msg: '{{line.stdout}} {{json words.stdout_lines}} {{plain.stdout}} {{fails.rc}} {{length fails.stderr_lines}}'}
        "#,
    );
    let ran = c.apply().changed(3).ended("fails", "satisfied");
    ran.said("tell", "one|two words|three more|/root; id|/root|*| [\"<><a b><new\",\"line></root>\"] $HOME 2 1");
    // What a command will say is not known before it has run, and a plan says so.
    c.plan().exits(2).ended("line", "changed");
    let c = c.tasks("- name: none\n  command: /no/such/program x");
    c.apply().exits(1).says("/no/such/program").has(1, "failed");
}

/// What only our own shell knows is no command's to see, and cannot be made to look like an answer.
fn own_variables() {
    let c = Case::anywhere("own variables").tasks(
        r#"
        - name: names
          command: echo $w_nonce ${w_dir} $w_ok $PPID $PS1 $N $W $HOME ~root
          register: names
        - name: loop
          command: {argv: [sh, -c, 'for i in 1 2; do w_nonce=$i; echo n=$w_nonce; done']}
          register: loop
        - name: guards
          command: {cmd: touch /no/such/file, creates: "$HOME/[!a]*"}
          register: guards
        - name: there
          command: {cmd: pwd, chdir: $HOME}
          register: there
        - name: own code
          command: sh -c 'exit 124'
          timeout: 60
          register: own
          ignore_errors: true
        - name: tell
          debug: {msg: '{{names.stdout}} | {{join loop.stdout_lines ","}} | {{guards.msg}} {{join guards.cmd " "}} | {{there.stdout}} {{length there.delta}}'}
        "#,
    );
    c.on_node("touch /root/made").succeeds();
    let ran = c.apply().says("the command ended with exit code 124");
    ran.said("tell", "$w_nonce ${w_dir} $w_ok $PPID $PS1 $N $W /root /root | n=1,n=2 | Did not run command since '$HOME/[!a]*' exists touch /no/such/file | /root 14");
}

fn shell() {
    let c = Case::anywhere("shell").tasks(
        r#"
        - name: pipe
          shell: |
            set -e
            for i in 1 2 3; do echo "line $i"; done | tac
            printf '%s\n' 'it''s "quoted" \back' >&2
          register: pipe
        - name: bash
          shell: {cmd: 'a=(x y); echo "${a[1]} $BASH_VERSION"', executable: /bin/bash}
          register: bash
        - name: input
          shell: {cmd: 'cat; read x || echo end', stdin: "from\nhere"}
          register: input
        - name: exact input
          shell: {cmd: 'cat | od -An -c; exit 3', stdin: no end, stdin_add_newline: false}
          register: exact
          failed_when: ne exact.rc 3
        - name: no input
          shell: cat | wc -c
          register: none
        - name: tell
          debug: {msg: '{{join pipe.stdout_lines ","}} {{pipe.stderr}} {{regex_search bash.stdout "^y \\d"}} {{input.stdout}} {{none.stdout}}'}
        - name: tell exact
          debug: {msg: '{{replace exact.stdout " " ""}}'}
        - name: code
          shell: exit 7
          register: code
          ignore_errors: true
        - name: see
          assert: {that: [eq code.rc 7, code.failed]}
        "#,
    );
    let ran = c.apply().said("tell exact", "noend").ended("code", "ignored").ended("see", "satisfied");
    ran.exits(0).said("tell", "line 3,line 2,line 1 its \"quoted\" \\back y 5 from\nhere\nend 0");
    let c = c.tasks("- name: talks\n  shell: echo to-out; echo to-err >&2; exit 3");
    c.apply().exits(1).says("to-out").says("to-err").says("exit code 3");
}

fn creates_and_removes() {
    let c = Case::anywhere("creates").tasks(
        "
        - name: make
          shell: {cmd: date > /srv/created, creates: /srv/created}
        - name: glob
          shell: {cmd: 'touch many-1.x', chdir: /srv, creates: 'many-*.x'}
        - name: clean
          command: {cmd: rm /srv/old, removes: /srv/old}
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/created /srv/many-*; touch /srv/old").succeeds();
    // What the first command will do to the others' conditions, nobody can say beforehand.
    c.plan().exits(2).has(1, "changed").has(2, "unknown");
    c.apply().changed(3);
    c.is_satisfied();
    c.repairs("touch /srv/old", 1);
    c.on_node("rm /srv/many-1.x").succeeds();
    c.plan().exits(2).has(1, "changed").has(1, "unknown");
    c.apply().changed(1);
    c.on_node("ls /srv/created /srv/many-1.x; test ! -e /srv/old").succeeds();
}

fn circumstances() {
    let c = Case::anywhere("circumstances").playbook(
        r#"
        - phase: main
          hosts: all
          environment: {OUTER: phase, BOTH: phase}
          tasks:
            - name: environment
              shell: echo "$OUTER $BOTH $OWN"
              environment: {BOTH: task, OWN: "it's {{inventory_hostname}}"}
              register: env
            - name: folder
              command: {cmd: pwd, chdir: /srv/some folder}
              register: folder
            - name: kept apart
              shell: 'echo "${OWN-unset} $PWD $(umask) ${LC_ALL-unset}"; cd /; umask 0; export OWN=left'
              register: apart
            - name: still apart
              shell: 'echo "${OWN-unset} $(umask)"'
              register: still
            - name: tell
              debug: {msg: '{{env.stdout}}; {{folder.stdout}}; {{apart.stdout}}; {{still.stdout}}'}
            - name: no folder
              command: {cmd: pwd, chdir: /no/such}
              ignore_errors: true
        "#,
    );
    c.on_node("mkdir -p '/srv/some folder'").succeeds();
    let ran = c.apply().exits(0).ended("no folder", "ignored");
    let said = ran.step("tell")["parts"][0]["say"].as_str().unwrap_or_default();
    assert!(said.starts_with("phase task it's node1; /srv/some folder; unset /root 0022 "), "{said}");
    assert!(said.ends_with("; unset 0022"), "{said}");
}

fn set_fact() {
    let c = Case::anywhere("facts").tasks(
        "
        - name: set
          set_fact: {port: 80, names: [a, b], made: '{{inventory_hostname}}-x'}
        - name: more
          set_fact: {port: '{{add port 1}}', nested: {deep: '{{names}}'}}
        - name: tell
          debug: {msg: '{{port}} {{made}} {{json nested}}'}
        - name: write
          copy: {content: '{{made}} {{port}}', dest: /srv/set-fact}
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/set-fact").succeeds();
    c.plan().changes(1).said("tell", "81 node1-x {\"deep\":[\"a\",\"b\"]}");
    c.converges(1);
    c.on_node("cat /srv/set-fact").prints("node1-x 81");
}

fn assert() {
    let c = Case::anywhere("assert").tasks(
        "
        - name: holds
          assert: {that: [eq x \"1\", 'in \"a\" words'], success_msg: 'x is {{x}}'}
        ",
    );
    let words = "{\"words\": [\"a\", \"b\"]}";
    c.apply_with(&["-e", "x=1", "-e", words]).changed(0).says("x is 1");
    c.plan_with(&["-e", "x=1", "-e", words]).changes(0);
    c.apply_with(&["-e", "x=2", "-e", words]).exits(3).says("eq x \"1\"").says("no host was contacted");
    let c = c.tasks("- assert: {that: 'false', fail_msg: 'never mind {{inventory_hostname}}'}");
    c.apply().exits(1).says("never mind node1");
}

fn debug() {
    let c = Case::anywhere("debug").inventory("thing: {a: [1, 2], b: text}").tasks(
        "
        - name: message
          debug: {msg: 'on {{inventory_hostname}}: {{thing.b}}'}
        - name: list
          debug: {msg: [one, '{{thing.b}}']}
        - name: variable
          debug: {var: thing.a}
        ",
    );
    let ran = c.apply().changed(0).said("message", "on node1: text");
    ran.says("one").step("variable")["parts"][0]["say"]
        .as_str()
        .filter(|s| s.contains('1') && s.contains('2'))
        .expect("its value");
}

fn timeout() {
    let c = Case::anywhere("timeout").tasks(
        "
        - name: slow
          shell: sleep 4711 & sleep 4711
          timeout: 1
        ",
    );
    c.apply().exits(1).says("did not end within 1 s");
    c.until("! pgrep -f 'sleep 471[1]'");
}
