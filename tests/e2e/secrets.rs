//! A secret is seen nowhere but where it belongs.

use crate::kit::{Case, Ran};
use std::process::{Command, Stdio};

tests!(never_shown, never_in_a_process_list, refused_in_arguments, no_log);

const SECRET: &str = "Tr0ub4dor&3-correct-horse";

/// A case whose variable `db_password` is the secret, encrypted.
fn case(title: &str) -> Case {
    let c = Case::anywhere(title);
    let key = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(c.path().join("id"))
        .stdin(Stdio::null())
        .status()
        .expect("ssh-keygen");
    assert!(key.success());
    let public = std::fs::read_to_string(c.path().join("id.pub")).unwrap();
    let c = c.file("group_vars/all.yml", format!("db_password: {SECRET}\n"));
    c.windlass(&["vault", "encrypt", "group_vars/all.yml", "-r", public.trim()]).exits(0);
    c.args(&["--identity", "id"])
}

fn everything(c: &Case, ran: &Ran) -> String {
    format!("{}{}{}", ran.stdout, ran.stderr, c.traces())
}

#[track_caller]
fn is_clean(c: &Case, ran: &Ran) {
    let all = everything(c, ran);
    let base64 = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(SECRET)
    };
    for form in [SECRET, "correct-horse", &base64, &SECRET.replace('&', "\\u0026"), &SECRET.replace('&', "%26")] {
        assert!(!all.contains(form), "{form} is shown in\n{all}");
    }
}

fn never_shown() {
    let c =
        case("secret").file("templates/app.hbs", "password={{db_password}}\nb64={{b64encode db_password}}\n").tasks(
            "
        - name: template for {{db_password}}
          template: {src: app.hbs, dest: /srv/s/app.conf, mode: '0600'}
        - name: copy
          copy: {content: 'x {{db_password}} y', dest: /srv/s/copy, mode: '0600'}
        - name: line
          lineinfile: {path: /srv/s/line, line: 'pw {{db_password}}', create: true}
        - name: shell
          shell: |
            echo \"out {{db_password}}\"; echo 'err {{db_password}}' >&2
          register: said
        - name: tell
          debug: {msg: '{{said.stdout}} {{db_password}}'}
        - name: loop
          shell: cat {{quote item}} > /dev/null; printf '%s' {{quote item}} | base64
          loop: ['{{db_password}}']
          failed_when: false
        - name: condition
          assert: {that: 'eq db_password \"nothing\"', fail_msg: 'it is {{db_password}}'}
          ignore_errors: true
        - name: fails
          shell: echo {{quote db_password}}; cat /srv/s/copy; cat /no/{{quote db_password}}; exit 1
        ",
        );
    c.on_node("rm -rf /srv/s; mkdir -p /srv/s").succeeds();
    is_clean(&c, &c.plan_with(&["-vvv"]).exits(2));
    let ran = c.apply_with(&["-vvv"]).exits(1).has(1, "failed");
    is_clean(&c, &ran);
    assert!(ran.stdout.contains("\"diff\""), "{}", ran.text());
    c.on_node("cat /srv/s/copy; head -n 1 /srv/s/app.conf").prints(&format!("x {SECRET} ypassword={SECRET}"));
    // Changed secrets are in the diff's old text too.
    c.on_node(&format!("echo 'old {SECRET}' > /srv/s/copy")).succeeds();
    is_clean(&c, &c.apply().exits(1));
    // And for people.
    let text = c.windlass(&["apply", "site.yml", "-i", "hosts.yml", "--identity", "id", "-D", "-v"]).exits(1);
    is_clean(&c, &text);
    is_clean(&c, &c.windlass(&["check", "site.yml", "-i", "hosts.yml", "--identity", "id"]));
    // Without the key nothing is begun.
    c.windlass(&["apply", "site.yml", "-i", "hosts.yml"]).exits(3);
}

fn never_in_a_process_list() {
    let c = case("ps").tasks(
        "
        - name: shell
          shell: cat /proc/[0-9]*/cmdline | tr '\\\\0' '\\\\n' > /srv/s/ps1; echo {{quote db_password}} > /srv/s/value
        - name: file
          copy:
            content: '{{db_password}}'
            dest: /srv/s/file
            validate: sh -c 'cat /proc/[0-9]*/cmdline > /srv/s/ps2' %s
        - name: environment
          command: sh -c 'cat /proc/[0-9]*/cmdline > /srv/s/ps3; test -n \"$PW\"'
          args: {expand_argument_vars: false}
          environment: {PW: '{{db_password}}'}
        - name: stdin
          command: sh -c 'cat /proc/[0-9]*/cmdline > /srv/s/ps4; cat'
          args: {stdin: '{{db_password}}'}
        ",
    );
    c.on_node("rm -rf /srv/s; mkdir -p /srv/s").succeeds();
    let ran = c.apply().exits(0);
    assert_eq!(ran.order("changed"), ["shell", "file", "environment", "stdin"], "{}", ran.text());
    is_clean(&c, &ran);
    c.on_node("ls /srv/s; cat /srv/s/value; grep -c -a -F correct-horse /srv/s/ps?").prints(&format!(
        "file\nps1\nps2\nps3\nps4\nvalue\n{SECRET}\n/srv/s/ps1:0\n/srv/s/ps2:0\n/srv/s/ps3:0\n/srv/s/ps4:0"
    ));
}

fn refused_in_arguments() {
    let c = case("arguments").tasks("- command: echo {{db_password}}");
    is_clean(&c, &c.apply().exits(3).says("`environment:` or `stdin:`"));
    let c = case("expanded").tasks("- command: echo ${PW}\n  environment: {PW: '{{db_password}}'}");
    is_clean(&c, &c.apply().exits(3).says("expand_argument_vars"));
}

fn no_log() {
    let c = Case::anywhere("no-log").tasks(
        "
        - name: quiet
          shell: echo hidden-word; exit 1
          no_log: true
          ignore_errors: true
        - name: file
          copy: {content: hidden-word, dest: /srv/no-log}
          no_log: true
        - name: items
          debug: {msg: '{{item}}'}
          loop: [hidden-word]
          no_log: true
        ",
    );
    c.on_node("rm -f /srv/no-log; mkdir -p /srv").succeeds();
    let ran = c.apply_with(&["-vv"]).changed(1).lacks("hidden-word").ended("quiet", "ignored");
    assert!(!c.traces().contains("hidden-word"), "{}", ran.text());
    c.plan().lacks("hidden-word");
}
