//! user, group, authorized_key.

use crate::kit::Case;

tests!(user, user_groups, user_password, user_goes, user_keys, group, authorized_key);

fn user() {
    let c = Case::new("user").tasks(
        "
        - name: ops
          user: {name: ops, uid: 2001, comment: 'Ops, here', shell: /bin/sh, home: /srv/ops}
        - name: daemon
          user: {name: daemond, system: true, create_home: false, shell: /usr/sbin/nologin}
        ",
    );
    c.converges(2);
    c.on_node("getent passwd ops; stat -c '%U %a' /srv/ops")
        .mentions("ops:x:2001:2001:Ops, here:/srv/ops:/bin/sh\nops 7");
    c.on_node("test $(id -u daemond) -lt 1000 && ! test -e /home/daemond && getent passwd daemond | cut -d: -f7")
        .prints("/usr/sbin/nologin");
    c.repairs("usermod -s /bin/bash -c other ops", 1);
    c.repairs("usermod -u 2002 ops", 1);
    c.repairs("userdel daemond", 1);
    c.ignores("usermod -e 2099-01-01 ops");
    c.on_node("getent passwd ops").prints("ops:x:2001:2001:Ops, here:/srv/ops:/bin/sh");
}

fn user_groups() {
    let c = Case::new("groups").tasks(
        "
        - name: groups
          group: {name: '{{item}}'}
          loop: [g1, g2, g3]
        - name: exact
          user: {name: alice, groups: [g1, g2]}
        - name: added
          user: {name: bob, group: g1, groups: g2, append: true}
        ",
    );
    let sorted = |u: &str| format!("id -nG {u} | tr ' ' '\\n' | sort | tr '\\n' ' '");
    c.converges(3);
    c.on_node(&sorted("alice")).prints("alice g1 g2 ");
    c.on_node("id -ng bob; id -nG bob").prints("g1\ng1 g2");
    c.ignores("gpasswd -a bob g3");
    c.repairs("gpasswd -a alice g3; gpasswd -d bob g2", 2);
    c.on_node(&sorted("alice")).prints("alice g1 g2 ");
    c.on_node(&sorted("bob")).prints("g1 g2 g3 ");
    c.repairs("gpasswd -d alice g1", 1);
    let c = c.tasks("- user: {name: alice, groups: ''}");
    c.converges(1);
    c.on_node("id -nG alice").prints("alice");
    let c = c.tasks("- user: {name: alice, groups: nosuch}");
    c.apply().exits(1).says("nosuch");
}

fn user_password() {
    let one = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/";
    let two = "$6$other$6k9dZwQyzEXAMPLEHASHEXAMPLEHASHEXAMPLEHASHEXAMPLEHASHEXAMPLEHASHEXAMPLEHASHEXAMPLEHASH0";
    let c = Case::new("password").tasks(&format!(
        "
        - name: always
          user: {{name: alice, password: '{one}'}}
        - name: once
          user: {{name: bob, password: '{one}', update_password: on_create}}
        - name: locked
          user: {{name: carol, password_lock: true}}
        "
    ));
    let ran = c.converges(3);
    assert!(!ran.stdout.contains("qFmFH"), "the password's hash is shown");
    c.on_node("getent shadow alice | cut -d: -f2").prints(one);
    c.on_node("getent shadow carol | cut -d: -f2 | cut -c1").prints("!");
    c.repairs(&format!("usermod -p '{two}' alice"), 1);
    c.ignores(&format!("usermod -p '{two}' bob"));
    c.on_node("getent shadow bob | cut -d: -f2").prints(two);
}

fn user_goes() {
    let c = Case::new("goes").tasks(
        "
        - name: kept
          user: {name: alice, state: absent}
        - name: all
          user: {name: bob, state: absent, remove: true}
        ",
    );
    c.on_node("useradd -m alice; useradd -m bob").succeeds();
    c.converges(2);
    c.on_node("ls /home | grep -v -e deploy -e sudoer; getent passwd alice bob").prints("alice");
    c.repairs("useradd alice; useradd -m bob", 2);
    c.on_node("test ! -e /home/bob").succeeds();
}

fn user_keys() {
    let c = Case::new("keys").tasks(
        "
        - name: key
          user: {name: alice, generate_ssh_key: true, ssh_key_type: ed25519, ssh_key_comment: alice@here}
          register: made
        - name: tell
          debug: {msg: '{{made.ssh_public_key}}'}
          when: defined made.ssh_public_key
        ",
    );
    c.plan().changes(1);
    let ran = c.apply().changed(1);
    let public = c.on_node("cat /home/alice/.ssh/id_ed25519.pub").succeeds().stdout();
    assert!(public.ends_with(" alice@here"), "{public}\n{}", ran.text());
    c.on_node("stat -c '%U %a' /home/alice/.ssh /home/alice/.ssh/id_ed25519").prints("alice 700\nalice 600");
    c.is_satisfied();
    c.apply().said("tell", &public);
    c.repairs("rm /home/alice/.ssh/id_ed25519*", 1);
}

fn group() {
    let c = Case::new("group").tasks(
        "
        - name: plain
          group: {name: plain}
        - name: numbered
          group: {name: numbered, gid: 3003}
        - name: system
          group: {name: sysgroup, system: true}
        - name: gone
          group: {name: gone, state: absent}
        ",
    );
    c.on_node("groupadd gone").succeeds();
    c.converges(4);
    c.on_node(
        "getent group numbered | cut -d: -f3; test $(getent group sysgroup | cut -d: -f3) -lt 1000 && echo system",
    )
    .prints("3003\nsystem");
    c.repairs("groupmod -g 3004 numbered; groupdel plain; groupadd gone", 3);
    c.on_node("getent group numbered | cut -d: -f3; getent group gone").prints("3003");
}

fn authorized_key() {
    let key = |n: char| format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} {n}", n.to_string().repeat(43));
    let (a, b, o) = (key('A'), key('B'), key('O'));
    let c = Case::new("authorized").tasks(&format!(
        "
        - name: one
          authorized_key: {{user: deploy, key: '{a}'}}
        - name: options
          authorized_key: {{user: deploy, key: '{b}', key_options: 'no-pty,command=\"echo \\\"hi\\\"\"', comment: b now}}
        - name: old
          authorized_key: {{user: deploy, key: '{o}', state: absent}}
        - name: new
          authorized_key: {{user: daemon, key: '{a}', path: /srv/keys/daemon, manage_dir: true}}
        "
    ));
    let file = "/home/deploy/.ssh/authorized_keys";
    c.on_node(&format!("echo '{o}' >> {file}; echo '# mine' >> {file}; wc -l < {file}")).succeeds();
    c.converges(4);
    c.on_node(&format!("grep -c OOOOOO {file}; grep -c '# mine' {file}; grep -F 'no-pty' {file}"))
        .mentions("0\n1\nno-pty,command=\"echo \\\"hi\\\"\" ssh-ed25519 ")
        .mentions(" b now");
    c.on_node(&format!("stat -c '%U %a' {file} /home/deploy/.ssh")).prints("deploy 600\ndeploy 700");
    // The lab's own key is still there, or nobody could log in.
    let c = c.args(&["-u", "deploy", "-b"]);
    c.repairs(&format!("sed -i '/ A$/d' {file}; echo '{o}' >> {file}"), 2);
    c.repairs(&format!("sed -i 's/no-pty,//' {file}"), 1);
    c.ignores(&format!("echo '# more' >> {file}"));
    let lab = std::fs::read_to_string(c.key().with_extension("pub")).unwrap();
    let c = c.tasks(&format!("- authorized_key: {{user: deploy, key: '{}', exclusive: true}}", lab.trim()));
    c.converges(1);
    c.on_node(&format!("grep -c ssh-ed25519 {file}")).prints("1");
    let c = c.tasks("- authorized_key: {user: deploy, key: this is no key}");
    c.apply().exits(3);
}
