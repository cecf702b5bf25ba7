//! Who logs in, and who they become.

use crate::kit::Case;
use windlass::lab::SUDO_PASSWORD;

tests!(
    deploy_becomes_root,
    password_of_the_inventory,
    password_from_stdin,
    wrong_or_no_password,
    without_become,
    other_users,
    a_login_of_the_playbook,
    users_of_phases_blocks_and_roles,
    sudo_that_wants_a_terminal,
    banner_and_odd_profile,
    umask_of_the_login,
    locale_of_the_login,
    csh,
);

const WHO: &str = "
- name: who
  shell: id -un; echo $HOME
  register: who
  changed_when: false
- name: tell
  debug: {msg: '{{join who.stdout_lines \" \"}}'}
- name: root's
  copy: {content: x, dest: /etc/windlass-made, mode: '0600'}
";

fn deploy_becomes_root() {
    let c = Case::anywhere("deploy").inventory("ansible_user: deploy").tasks(WHO).args(&["-b"]);
    c.on_node("rm -f /etc/windlass-made").succeeds();
    c.plan().exits(2);
    c.apply().changed(1).said("tell", "root /root");
    c.is_satisfied();
    c.on_node("stat -c '%U %G' /etc/windlass-made").prints("root root");
    c.repairs("chown deploy /etc/windlass-made; rm /etc/windlass-made", 1);
}

fn password_of_the_inventory() {
    let vars = format!("ansible_user: sudoer\nansible_become: true\nansible_become_password: {SUDO_PASSWORD}");
    let c = Case::anywhere("sudoer").inventory(&vars).tasks(WHO);
    c.on_node("rm -f /etc/windlass-made").succeeds();
    let ran = c.apply().changed(1).said("tell", "root /root");
    ran.lacks(SUDO_PASSWORD);
    assert!(!c.traces().contains(SUDO_PASSWORD));
    c.is_satisfied();
}

fn password_from_stdin() {
    let c = Case::anywhere("stdin").inventory("ansible_user: sudoer").tasks(WHO).args(&["-b", "-K"]);
    let c = c.stdin(&format!("{SUDO_PASSWORD}\n"));
    c.on_node("rm -f /etc/windlass-made").succeeds();
    c.apply().changed(1).said("tell", "root /root").lacks(SUDO_PASSWORD);
    c.plan().changes(0);
}

fn wrong_or_no_password() {
    let c = Case::anywhere("wrong").inventory("ansible_user: sudoer").tasks(WHO).args(&["-b"]);
    c.apply().exits(4).says("sudo").says("password").has(3, "blocked");
    let c = c.args(&["-b", "-K"]).stdin("not-the-password\n");
    c.apply().exits(4).says("password").lacks("not-the-password");
    let c = c.inventory("ansible_user: daemon").args(&["-b"]);
    c.apply().exits(4);
}

fn without_become() {
    let c = Case::anywhere("plain").inventory("ansible_user: deploy").tasks(
        "
        - name: own
          copy: {content: x, dest: /home/deploy/own}
        - name: home
          file: {path: /home/deploy/folder, state: directory}
        - name: not ours
          copy: {content: x, dest: /etc/not-ours}
        ",
    );
    c.on_node("rm -rf /home/deploy/own /home/deploy/folder /etc/not-ours").succeeds();
    let ran = c.apply().exits(1).ended("own", "changed").ended("not ours", "failed").says("Permission denied");
    assert_eq!(ran.step("home")["outcome"], "changed", "{}", ran.text());
    c.on_node("stat -c %U /home/deploy/own /home/deploy/folder; ls -A /etc | grep -c not-ours")
        .prints("deploy\ndeploy\n0");
}

fn other_users() {
    let c = Case::anywhere("users").inventory("ansible_user: deploy").tasks(
        "
        - name: nobody
          shell: id -un; cat
          args: {stdin: in}
          become: true
          become_user: nobody
          register: nobody
        - name: sudoer
          command: id -un
          become: true
          become_user: sudoer
          register: sudoer
        - name: self
          command: id -un
          become: true
          become_user: deploy
          register: self
        - name: root
          copy: {content: x, dest: /srv/users-file, owner: sudoer}
          become: true
        - name: theirs
          copy: {content: y, dest: /home/sudoer/theirs}
          become: true
          become_user: sudoer
        - name: tell
          debug: {msg: '{{join nobody.stdout_lines \" \"}} {{sudoer.stdout}} {{self.stdout}}'}
        ",
    );
    c.on_node("rm -f /srv/users-file /home/sudoer/theirs; mkdir -p /srv").succeeds();
    c.apply().exits(0).said("tell", "nobody in sudoer deploy");
    c.on_node("stat -c %U /srv/users-file /home/sudoer/theirs").prints("sudoer\nsudoer");
    let c = c.tasks("- {command: id, become: true, become_user: nosuchuser}");
    c.apply().exits(4).says("nosuchuser");
}

fn a_login_of_the_playbook() {
    let c = Case::anywhere("login");
    let hosts = |user: &str| {
        let (key, known) = (c.key(), c.known_hosts());
        format!(
            "all:\n  vars: {{ansible_ssh_private_key_file: {key:?}, windlass_known_hosts: {known:?}{user}}}\n  hosts: {{node1: {{ansible_host: {}}}}}\n",
            c.address(1)
        )
    };
    let (own, given) = (hosts(""), hosts(", ansible_user: root"));
    let c = c.file("hosts.yml", own).playbook(
        "
        - phase: one
          hosts: all
          remote_user: deploy
          tasks:
            - name: first
              debug: {msg: '{{facts.os.id}}'}
            - {name: of the phase, command: id -un, register: a, changed_when: false}
            - {name: of the task, command: id -un, register: b, changed_when: false, remote_user: '{{other}}', vars: {other: sudoer}}
            - remote_user: root
              block:
                - {name: of the block, command: id -un, register: c, changed_when: false}
                - {name: a file, copy: {content: x, dest: /etc/windlass-login, mode: '0600'}}
            - {name: becomes, command: id -un, register: d, changed_when: false, become: true}
            - name: tell
              debug: {msg: '{{a.stdout}} {{b.stdout}} {{c.stdout}} {{d.stdout}}'}
        ",
    );
    c.on_node("rm -f /etc/windlass-login").succeeds();
    c.apply().changed(1).said("tell", "deploy sudoer root root").said("first", "debian");
    c.is_satisfied();
    // As with Ansible, what the inventory says counts more.
    c.file("hosts.yml", given).apply().changed(0).said("tell", "root root root root");
}

/// Who a task becomes, said around it.
fn users_of_phases_blocks_and_roles() {
    let c = Case::anywhere("around")
        .inventory("ansible_user: deploy")
        .file("roles/who/tasks/main.yml", "- {name: in it, shell: id -un >> /srv/around/role}\n")
        .playbook(
            "
            - phase: one
              hosts: all
              become: true
              become_user: sudoer
              roles:
                - who
                - {role: who, become_user: nobody, vars: {n: 2}}
                - {role: who, become: false, vars: {n: 3}}
              tasks:
                - {name: phase, shell: id -un > /srv/around/phase}
                - become_user: nobody
                  block: [{name: block, shell: id -un > /srv/around/block}]
                - become: false
                  block:
                    - {name: as who logs in, shell: id -un > /srv/around/plain}
                    - {name: task, become: true, become_user: root, shell: id -un > /srv/around/task}
            ",
        );
    c.on_node("rm -rf /srv/around; mkdir -m 0777 -p /srv/around; touch /srv/around/role; chmod 666 /srv/around/role")
        .succeeds();
    c.apply().changed(7);
    c.on_node("cd /srv/around; cat role phase block plain task")
        .prints("sudoer\nnobody\ndeploy\nsudoer\nnobody\ndeploy\nroot");
}

fn sudo_that_wants_a_terminal() {
    let c = Case::new("requiretty").inventory("ansible_user: deploy").tasks(WHO).args(&["-b"]);
    c.on_node("printf 'Defaults requiretty, lecture=always\\nDefaults umask=0077\\n' > /etc/sudoers.d/tty").succeeds();
    c.apply().changed(1).said("tell", "root /root");
    c.is_satisfied();
    let c = c.inventory(&format!("ansible_user: sudoer\nansible_become_password: {SUDO_PASSWORD}")).args(&["-b"]);
    c.repairs("rm /etc/windlass-made", 1);
}

fn banner_and_odd_profile() {
    let c = Case::new("banner").inventory("ansible_user: deploy").tasks(WHO).args(&["-b"]);
    c.on_node(
        "cat > /tmp/rc <<'E'\necho 'Welcome! {\"rc\": 0}'\necho warning: disk >&2\nexport CDPATH=/etc GREP_OPTIONS=-v\nalias ls='ls -l'\nset -o noclobber\nE
         for u in /home/deploy /root; do cp /tmp/rc $u/.bashrc; cp /tmp/rc $u/.profile; done
         echo 'echo motd' > /etc/profile.d/x.sh; echo 'Authorized use only' > /etc/issue.net
         echo 'Banner /etc/issue.net' >> /etc/ssh/sshd_config; systemctl restart ssh",
    )
    .succeeds();
    c.apply().changed(1).said("tell", "root /root");
    c.is_satisfied();
    let c = c.args(&["-u", "root"]);
    c.is_satisfied();
}

fn umask_of_the_login() {
    let c = Case::new("umask").tasks(
        "
        - name: file
          copy: {content: x, dest: /srv/u/file}
        - name: folder
          file: {path: /srv/u/folder/sub, state: directory}
        - name: line
          lineinfile: {path: /srv/u/line, line: x, create: true}
        - name: script
          shell: touch /srv/u/script
          args: {creates: /srv/u/script}
        ",
    );
    c.on_node(
        "mkdir -p /srv/u; echo 'umask 077' | tee /etc/profile.d/u.sh >> /root/.bashrc
         sed -i 's/^UMASK.*/UMASK 077/' /etc/login.defs; echo 'session optional pam_umask.so umask=077' >> /etc/pam.d/common-session",
    )
    .succeeds();
    let planned = c.plan().changes(4);
    planned.is_what(&c.apply().changed(4));
    c.on_node("stat -c '%a %n' /srv/u/*")
        .prints("644 /srv/u/file\n755 /srv/u/folder\n644 /srv/u/line\n644 /srv/u/script");
    c.is_satisfied();
}

fn locale_of_the_login() {
    let c = Case::new("locale").tasks(
        "
        - name: error
          command: ls /no/such
          register: error
          failed_when: false
          changed_when: false
        - name: tell
          debug: {msg: '{{error.stderr}}'}
        - name: user
          user: {name: bob, comment: 'Bøb'}
        - name: package
          apt: {name: tzdata}
        - name: unit
          systemd: {name: ssh, state: started, enabled: true}
        - name: file
          copy: {content: 'ä', dest: '/srv/ä ö'}
        ",
    );
    c.on_node(
        "mkdir -p /srv; mkdir -p /usr/lib/locale; localedef -i tr_TR -f UTF-8 tr_TR.UTF-8 2>/dev/null
         printf 'LANG=tr_TR.UTF-8\\nLC_ALL=tr_TR.UTF-8\\nLANGUAGE=de\\n' > /etc/default/locale; cp /etc/default/locale /etc/environment",
    )
    .succeeds();
    c.converges(2);
    c.repairs("usermod -c other bob; echo x > '/srv/ä ö'", 2);
}

fn csh() {
    let c = Case::new("csh").inventory("ansible_user: deploy").tasks(WHO).args(&["-b"]);
    c.on_node("apt-get -q update && apt-get -qy install csh && usermod -s /bin/csh deploy && usermod -s /bin/csh root")
        .succeeds();
    c.on_node("echo 'echo hello from csh' > /home/deploy/.cshrc; cp /home/deploy/.cshrc /root").succeeds();
    c.apply().changed(1).said("tell", "root /root");
    c.is_satisfied();
    let c = c.args(&["-u", "root"]);
    c.repairs("rm /etc/windlass-made", 1);
}
