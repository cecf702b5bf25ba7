//! script, raw, git, known_hosts, synchronize.

use crate::kit::Case;

tests!(script, raw, git, git_in_a_folder_that_is_there, git_submodules, known_hosts, synchronize);

fn script() {
    let c = Case::anywhere("script")
        .file("files/hello.sh", "#!/bin/sh\nprintf '%s|' \"$@\" \"$PWD\" \"${0##*/}\" \"$TOLD\"\ncat\necho done >&2\n")
        .file("files/count.pl", "print scalar(@ARGV), qq(\\n);\n")
        .file("files/bad.sh", "echo half\nexit 7\n")
        .tasks(
            "
            - name: hello
              script: hello.sh one 'two words' $HOME
              args: {chdir: /srv}
              environment: {TOLD: 'yes'}
              register: hello
            - name: perl
              script: {cmd: count.pl a b c, executable: perl}
              register: perl
            - name: once
              script: {cmd: hello.sh, creates: /etc/hostname}
            - name: say
              debug: {msg: '{{hello.stdout}} {{hello.stderr}} {{perl.stdout}}'}
            ",
        );
    c.plan().exits(2).ended("hello", "changed");
    // Where nothing in /tmp may be run.
    c.on_node("mount -t tmpfs -o noexec tmpfs /tmp").succeeds();
    let ran = c.apply().changed(2);
    c.on_node("umount /tmp").succeeds();
    ran.said("say", "one|two words|$HOME|/srv|hello.sh|yes| done 3");
    let c = c.tasks("- name: bad\n  script: bad.sh");
    c.apply().exits(1).says("exit code 7").says("half");
    let c = c.tasks("- name: slow\n  script: slow.sh\n  timeout: 1").file("files/slow.sh", "sleep 30\n");
    c.apply().exits(1).says("did not end within 1 s");
    c.until("! ls -d /tmp/.windlass-script.* /var/tmp/.windlass-script.* 2>/dev/null");
    c.tasks("- script: none.sh").apply().exits(3).says("none.sh");
}

fn raw() {
    let c = Case::anywhere("raw").tasks(
        "
        - name: line
          raw: echo a | tr a b; exit 3
          register: r
          failed_when: ne r.rc 3
        - name: bash
          raw: {cmd: 'x=(a b); echo ${x[1]}', executable: /bin/bash}
          register: b
        - name: say
          debug: {msg: '{{r.stdout}} {{r.rc}} {{b.stdout}}'}
        ",
    );
    c.plan().exits(2);
    c.apply().changed(2).said("say", "b 3 b");
}

/// A repository with two branches and a tag, on the node itself.
const UPSTREAM: &str = "
    set -e; rm -rf /srv/up /srv/clone /srv/bare; git init -q -b main /srv/up; cd /srv/up
    git config user.email me@example.com; git config user.name me
    echo one > f; git add f; git commit -qm one; git tag v1; git tag -a -m noted v1.1
    git checkout -qb dev; echo dev > f; git commit -qam dev; git checkout -q main
    echo two > f; git commit -qam two";

fn git() {
    let c = Case::new("git").tasks("- name: clone\n  git: {repo: /srv/up, dest: /srv/clone}");
    c.apply().exits(1).says("no git").says("apt: {name: git}");
    c.on_node(&format!(
        "apt-get -qq update; apt-get install -o DPkg::Lock::Timeout=120 -qqy git >/dev/null; {UPSTREAM}"
    ))
    .succeeds();
    let c = c.tasks(
        "
        - name: clone
          git: {repo: /srv/up, dest: /srv/new/clone, umask: '0027'}
          register: g
        - name: tag
          git: {repo: /srv/up, dest: /srv/tag, version: v1.1, depth: 1}
        - name: bare
          git: {repo: /srv/up, dest: /srv/bare, bare: true}
        - name: look
          git: {repo: /srv/up, version: dev, clone: false}
          register: l
        - name: say
          debug: {msg: '{{g.after}} {{l.after}}'}
        ",
    );
    let ids = c.on_node("cd /srv/up; git rev-parse main dev").stdout().replace('\n', " ");
    c.plan().exits(2);
    c.apply().changed(3).said("say", &ids);
    c.is_satisfied();
    c.on_node("cat /srv/new/clone/f /srv/tag/f; git -C /srv/bare cat-file -p main:f; git -C /srv/new/clone rev-parse --abbrev-ref HEAD @{u}; stat -c %a /srv/new/clone/f; ls -A /srv/new")
        .prints("two\none\ntwo\nmain\norigin/main\n640\nclone");
    // Something new there.
    c.mends("cd /srv/up; echo three > f; git commit -qam three", 2);
    c.on_node("cat /srv/new/clone/f; git -C /srv/bare cat-file -p main:f").prints("three\nthree");
    c.ignores("echo x > /srv/new/clone/own");
    // Changes by hand are an error, or are thrown away.
    c.on_node("echo mine > /srv/new/clone/f").succeeds();
    c.plan().exits(1).says("changes of its own: f");
    let task =
        |more: &str| format!("- name: clone\n  git: {{repo: /srv/up, dest: /srv/new/clone{more}}}\n  register: g");
    let c = c.tasks(&task(", force: true"));
    c.converges(1);
    c.repairs("git -C /srv/new/clone checkout -q -b other HEAD~1; echo mine > /srv/new/clone/f", 1);
    let c = c.tasks(&task(", version: dev"));
    c.on_node("git -C /srv/new/clone checkout -q main").succeeds();
    c.converges(1).diff_has("clone", &format!("+{}", ids.split(' ').nth(1).unwrap()));
    let id = c.on_node("git -C /srv/up rev-parse v1").stdout();
    let c = c.tasks(&task(&format!(", version: {id}")));
    c.converges(1);
    let c = c.tasks(&task(", version: nope"));
    c.apply().exits(1).says("no branch and no tag `nope`");
    let c = c.tasks(&task("").replace("/srv/up", "/srv/none"));
    c.plan().exits(1).says("cannot be read");
    let c = c.tasks("- git: {repo: /srv/up, dest: /etc}");
    c.plan().exits(1).says("/etc cannot be used");
    let c = c.tasks(&task(", version: main").replace("repo: /srv/up", "repo: 'file:///srv/up'"));
    c.converges(1);
}

fn git_in_a_folder_that_is_there() {
    let c = Case::new("git-inside").tasks(
        "
        - name: own
          become: true
          become_user: cloner
          git: {repo: /srv/up, dest: /opt/cloner}
        - name: mounted
          git: {repo: /srv/up, dest: /mnt/clone}
        ",
    );
    c.on_node(&format!(
        "apt-get -qq update; apt-get install -o DPkg::Lock::Timeout=120 -qqy git >/dev/null; {UPSTREAM}
        id cloner >/dev/null 2>&1 || useradd cloner; git config --system --add safe.directory /srv/up/.git
        git config --system --add safe.directory /srv/up
        rm -rf /opt/cloner; install -d -o cloner -g cloner -m 0750 /opt/cloner
        mkdir -p /mnt/clone; mount -t tmpfs -o mode=0711 none /mnt/clone"
    ))
    .succeeds();
    c.apply().changed(2);
    c.is_satisfied();
    c.on_node("stat -c '%a %U %G' /opt/cloner; stat -c '%a %U' /mnt/clone; cat /opt/cloner/f /mnt/clone/f; ls -A /opt/cloner /mnt/clone; stat -c %U /opt/cloner/.git; umount /mnt/clone")
        .prints("750 cloner cloner\n711 root\ntwo\ntwo\n/mnt/clone:\n.git\nf\n\n/opt/cloner:\n.git\nf\ncloner");
}

fn git_submodules() {
    let c = Case::new("git-submodules").tasks("- name: clone\n  git: {repo: /srv/up, dest: /srv/clone, version: main}");
    c.on_node(&format!(
        "apt-get -qq update; apt-get install -o DPkg::Lock::Timeout=120 -qqy git >/dev/null; {UPSTREAM}
        git config --global protocol.file.allow always; rm -rf /srv/sub; git clone -q /srv/up /srv/sub
        cd /srv/up; git submodule --quiet add /srv/sub sub; git commit -qm sub"
    ))
    .succeeds();
    c.converges(1);
    c.on_node("cat /srv/clone/sub/f").prints("two");
    c.repairs("git -C /srv/clone/sub checkout -q HEAD~1", 1);
    c.on_node("cat /srv/clone/sub/f").prints("two");
}

fn known_hosts() {
    let (one, two) = (
        "AAAAC3NzaC1lZDI1NTE5AAAAIFialEnvO0r1vq0OFJ+UmdYAUxlaO1lEmUYmML+eQyEV",
        "AAAAC3NzaC1lZDI1NTE5AAAAIDEOh9mejSora+Bm2UwCONy/VHjlrm3l/igXoO1etnNN",
    );
    let c = Case::new("known-hosts").inventory("ansible_user: deploy").tasks(&format!(
        "
        - name: own
          known_hosts: {{name: git.lan, key: 'git.lan ssh-ed25519 {one}'}}
        - name: hashed
          known_hosts: {{name: '[git.lan]:2222', key: '[git.lan]:2222 ssh-ed25519 {two}', hash_host: true}}
        - name: all
          known_hosts: {{name: old.lan, state: absent, path: /etc/ssh/ssh_known_hosts}}
          become: true
        "
    ));
    c.on_node(&format!("printf 'old.lan,b.lan ssh-ed25519 {one}\\n' > /etc/ssh/ssh_known_hosts")).succeeds();
    c.converges(3);
    c.on_node("cd ~deploy/.ssh; stat -c '%a %U' . known_hosts; head -n1 known_hosts; ssh-keygen -F '[git.lan]:2222' -f known_hosts | grep -c '^|1|'; cat /etc/ssh/ssh_known_hosts")
        .prints(&format!("700 deploy\n644 deploy\ngit.lan ssh-ed25519 {one}\n1\nb.lan ssh-ed25519 {one}"));
    c.repairs("sed -i s/IFialEnv/IFialEnw/ ~deploy/.ssh/known_hosts", 1);
    c.repairs("rm ~deploy/.ssh/known_hosts", 2);
    c.ignores("echo '# more' >> ~deploy/.ssh/known_hosts");
}

fn synchronize() {
    let c = Case::anywhere("synchronize")
        .file("files/tree/a", "one\n")
        .file("files/tree/sub/b", [0u8, 255, 10])
        .file("files/tree/sub/x.log", "log")
        .file("files/tree/.git/HEAD", "head")
        .tasks(
            "
            - name: tree
              synchronize: {src: tree/, dest: /srv/sync, delete: true, rsync_opts: ['--exclude=.git', '--exclude=*.log']}
              register: s
            - name: say
              debug: {msg: '{{length s.stdout_lines}}'}
            ",
        );
    std::os::unix::fs::symlink("a", c.path().join("files/tree/l")).unwrap();
    c.on_node("rm -rf /srv/sync").succeeds();
    c.converges(1).said("say", "5");
    c.on_node("cd /srv/sync; find . | sort | tr '\\n' ' '; readlink l; od -An -tx1 sub/b")
        .prints(". ./a ./l ./sub ./sub/b a\n 00 ff 0a");
    // Only what differs travels: the other file keeps its time.
    c.on_node("touch -d 2001-01-01 /srv/sync/a").succeeds();
    c.repairs("echo x > /srv/sync/sub/b; mkdir /srv/sync/old; echo > /srv/sync/old/f; echo > /srv/sync/old.log; chmod 600 /srv/sync/sub/b", 1)
        .said("say", "2");
    c.on_node("cd /srv/sync; stat -c %y a | cut -c1-4; ls").prints("2001\na\nl\nold.log\nsub");
    c.repairs("cd /srv/sync; rm l; mkdir l; rm -r sub; echo > sub", 1);
    c.on_node("cd /srv/sync; readlink l; ls sub").prints("a\nb");
}
