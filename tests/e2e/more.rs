//! fail, modprobe, reboot, wait_for_connection, uri, blockinfile, replace, ini_file,
//! getent, package_facts, service_facts, package, pause, find, mount, cron, alternatives, meta, ping, setup.

use crate::kit::Case;

tests!(
    fail,
    modprobe,
    reboot,
    reboot_as_another,
    reboot_in_vain,
    wait_for_connection,
    uri,
    editors,
    told,
    package,
    pause,
    find,
    mount,
    cron,
    alternatives,
    chosen,
    steered
);

fn fail() {
    let c = Case::anywhere("fail").tasks("- name: 'no'\n  fail: {msg: 'not on {{inventory_hostname}}'}");
    c.apply().exits(1).says("not on node1");
    c.plan().exits(1);
    let c = c.tasks("- name: 'no'\n  fail: {}\n  when: [eq 1 2]");
    c.apply().changed(0);
}

/// The lab's kernel may have no loadable modules at all: what is built in counts as loaded.
fn modprobe() {
    let c = Case::new("modprobe").tasks(
        "
        - name: net
          modprobe: {name: bridge, params: 'a=1', persistent: present}
        - name: gone
          modprobe: {name: no-such-module, state: absent, persistent: absent}
        ",
    );
    c.on_node("printf '# c\\nno_such_module\\n' > /etc/modules-load.d/old.conf").succeeds();
    c.converges(2);
    c.on_node("cat /etc/modules-load.d/bridge.conf /etc/modprobe.d/bridge.conf /etc/modules-load.d/old.conf")
        .prints("bridge\noptions bridge a=1\n# c\n# no_such_module");
    c.repairs("rm /etc/modules-load.d/bridge.conf", 1);
    c.repairs("echo 'options bridge a=2' > /etc/modprobe.d/bridge.conf", 1);
    c.ignores("mv /etc/modules-load.d/bridge.conf /etc/modules-load.d/all.conf");
    let c = c.tasks("- modprobe: {name: no-such-module}");
    c.plan().changes(1);
    c.apply().exits(1).says("no-such-module");
}

fn reboot() {
    let c = Case::new("reboot").inventory("greeting: hello").tasks(
        "
        - name: restart
          reboot: {reboot_timeout: 90, test_command: 'test \"$WANTED\" = yes && systemctl is-active ssh'}
          environment: {WANTED: 'yes'}
          register: r
          notify: told
        - debug: {msg: 'rebooted {{r.rebooted}}'}
          name: say
        - name: after
          command: cat /proc/sys/kernel/random/boot_id
          register: id
          changed_when: false
        ",
    );
    let id = "cat /proc/sys/kernel/random/boot_id";
    let before = c.on_node(id).stdout();
    c.on_node("touch /run/was-here").succeeds();
    let text = c.path().join("site.yml");
    let book =
        std::fs::read_to_string(&text).unwrap() + "  handlers:\n    - name: told\n      shell: echo x >> /srv/told\n";
    std::fs::write(&text, book).unwrap();
    c.plan().exits(2);
    c.on_node("test -e /run/was-here").succeeds();
    c.apply().changed(2).said("say", "rebooted true").ended("after", "satisfied");
    assert_ne!(c.on_node(id).stdout(), before);
    c.on_node("! test -e /run/was-here && cat /srv/told && systemctl is-active ssh").prints("x\nactive");
    // This machine is left alone.
    let c = c.file("hosts.yml", "all: {hosts: {here: {ansible_connection: local}}}");
    c.apply().exits(1).says("will not restart itself");
    c.plan().exits(1).says("will not restart itself");
}

/// Who logs in may not restart the host; whom the task becomes may. Two hosts are away at once.
fn reboot_as_another() {
    let c = Case::nodes(2, "reboot-as-another").inventory("ansible_user: deploy").args(&["-b"]).tasks(
        "
        - name: restart
          reboot: {reboot_timeout: 90, pre_reboot_delay: 1, post_reboot_delay: 1, connect_timeout: 3}
        - name: after
          copy: {content: x, dest: /srv/after}
        ",
    );
    let id = "cat /proc/sys/kernel/random/boot_id; rm -f /srv/after";
    let before = [c.on(1, id).stdout(), c.on(2, id).stdout()];
    c.apply().changed(4);
    for (n, b) in before.iter().enumerate() {
        assert_ne!(c.on(n + 1, "cat /proc/sys/kernel/random/boot_id").stdout(), *b);
    }
    c.on(2, "cat /srv/after; ls /run/windlass.lock 2>&1 | wc -l").prints("x1");
    let c = c.args(&[]).tasks("- name: restart\n  reboot: {reboot_timeout: 5}");
    c.apply().exits(1);
    c.on_node("cat /srv/after").prints("x");
}

fn reboot_in_vain() {
    let c = Case::anywhere("reboot-in-vain").tasks("- name: r\n  reboot: {reboot_command: 'true', reboot_timeout: 4}");
    c.apply().exits(1).says("did not restart within 4 s").says("it answers and has not gone down");
    let c = c.tasks("- name: r\n  reboot: {reboot_command: 'echo never >&2; exit 7'}");
    c.apply().exits(1).says("refuses to restart: never");
    let c = c.tasks("- name: r\n  reboot: {boot_time_command: 'exit 3'}");
    c.apply().exits(1).says("boot_time_command");
}

fn wait_for_connection() {
    let c = Case::anywhere("wait-for-connection").tasks(
        "- name: w\n  wait_for_connection: {timeout: 60, sleep: 1}\n  register: w\n- name: x\n  command: 'true'",
    );
    c.apply().changed(1).ended("w", "satisfied");
    c.plan().ended("w", "skipped");
    // It comes back while it is waited for.
    c.on_node("systemctl stop ssh.socket ssh 2>/dev/null; systemd-run -q --on-active=4 --timer-property=AccuracySec=100ms systemctl start ssh").succeeds();
    c.apply().changed(1).ended("w", "satisfied");
    let c = c
        .tasks("- name: w\n  wait_for_connection: {timeout: 2, connect_timeout: 1}")
        .file("hosts.yml", "all: {hosts: {nobody: {ansible_host: 127.0.0.1, ansible_port: 9}}}");
    c.apply().exits(1).says("could not be reached within 2 s");
}

/// A web server for one node, in Perl: JSON on every path but `/no`; it tells the body's length.
const SERVER: &str = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1:8099', Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) {
    my ($first, $n) = (scalar(<$c>), 0);
    while (my $l = <$c>) { $n = $1 if $l =~ /^Content-Length: (\d+)/i; last if $l =~ /^\r?$/ }
    read($c, my $body, $n) if $n;
    my $b = "{\"got\": $n}";
    my $status = $first =~ m,^GET /no, ? '404 Not Found' : '200 OK';
    print $c "HTTP/1.0 $status\r\nContent-Type: application/json\r\nX-Is-It: yes\r\n\r\n$b";
    close $c;
}
"#;

fn uri() {
    let c = Case::new("uri").tasks("- name: ask\n  uri: {url: 'http://127.0.0.1:8099/'}");
    c.apply().exits(1).says("no curl").says("apt: {name: curl}");
    let c = c.tasks(
        "
        - apt: {name: curl}
        - name: ask
          uri: {url: 'http://127.0.0.1:8099/x', return_content: true}
          register: r
          retries: 20
          delay: 1
          until: [eq r.status 200]
        - name: said
          debug: {msg: '{{r.json.got}} {{r.x_is_it}} {{r.status}} {{r.content}}'}
          when: [r.json]
        - name: send
          uri: {url: 'http://127.0.0.1:8099/x', method: POST, body: {a: b}, body_format: json}
          register: p
        - name: sent
          debug: {msg: '{{p.json.got}}'}
        - name: 'no'
          uri: {url: 'http://127.0.0.1:8099/no', status_code: [200, 404]}
        - name: file
          uri: {url: 'http://127.0.0.1:8099/f', dest: /srv/f, mode: '0640'}
        ",
    );
    let c = c.file("server.pl", SERVER);
    c.on_node(&format!("cat > /srv/s.pl <<'E'\n{SERVER}\nE\nsystemd-run -q --on-active=5 --timer-property=AccuracySec=100ms perl /srv/s.pl")).succeeds();
    c.apply().changed(2).said("said", "0 yes 200 {\"got\": 0}").said("sent", "9").ended("ask", "satisfied");
    c.on_node("cat /srv/f; stat -c ' %a' /srv/f").prints("{\"got\": 0} 640");
    c.apply().changed(0);
    c.plan().ended("ask", "skipped").ended("file", "skipped");
    c.on_node("echo x > /srv/f").succeeds();
    c.apply().changed(1).ended("file", "changed");
    let c = c.tasks("- name: 'no'\n  uri: {url: 'http://127.0.0.1:8099/no'}\n  check_mode: false");
    c.plan().exits(1).says("404 and not [200]");
    c.apply().exits(1).says("404 and not [200]");
}

fn editors() {
    let c = Case::anywhere("editors").tasks(
        "
        - name: block
          blockinfile: {path: /etc/ed.conf, create: true, mode: '0640', block: \"a 1\\nb 2\", marker: '# {mark} one'}
        - name: second
          blockinfile: {path: /etc/ed.conf, block: c 3, marker: '# {mark} two', insertbefore: BOF}
        - name: replaced
          replace: {path: /etc/ed.conf, regexp: '^(a) \\d$', replace: '\\1 1', validate: 'grep -q a %s'}
        - name: option
          ini_file: {path: /etc/new/ed.ini, section: main, option: key, value: 5, mode: '0600'}
        - name: other
          ini_file: {path: /etc/new/ed.ini, section: main, option: old, state: absent}
        ",
    );
    c.on_node("rm -rf /etc/ed.conf /etc/new").succeeds();
    c.converges(3);
    c.on_node("cat /etc/ed.conf; stat -c %a /etc/ed.conf; cat /etc/new/ed.ini; stat -c %a /etc/new/ed.ini")
        .prints("# BEGIN two\nc 3\n# END two\n# BEGIN one\na 1\nb 2\n# END one\n640\n[main]\nkey = 5\n600");
    c.repairs("sed -i 's/b 2/b 3/' /etc/ed.conf", 1);
    c.repairs("sed -i 's/key = 5/key = 6/' /etc/new/ed.ini; echo old=1 >> /etc/new/ed.ini", 2);
    c.repairs("echo 'a 7' >> /etc/ed.conf; chmod 600 /etc/ed.conf", 2);
    c.ignores("echo '# more' >> /etc/ed.conf; printf '[x]\\ny=1\\n' >> /etc/new/ed.ini");
    let c = c.tasks("- replace: {path: /etc/ed.conf, regexp: '^c 3$', replace: 'c 4', validate: 'false %s'}");
    c.apply().exits(1);
    c.on_node("grep -c 'c 3' /etc/ed.conf").prints("1");
}

fn told() {
    let c = Case::anywhere("told").tasks(
        "
        - getent: {database: passwd, key: root}
        - package_facts: {}
        - service_facts: {}
          register: s
        - name: say
          debug:
            msg: '{{getent_passwd.root.[5]}} {{packages.dash.[0].name}} {{lookup services \"ssh.service\" \"state\"}}'
        - name: 'no'
          getent: {database: passwd, key: nobody-of-this-name}
          ignore_errors: true
        ",
    );
    let book = std::fs::read_to_string(c.path().join("site.yml")).unwrap();
    let book =
        book.replace("{{lookup services \"ssh.service\" \"state\"}}", "{{ansible_facts.services.[ssh.service].state}}");
    let c = c.file("site.yml", book);
    c.apply().changed(0).said("say", "/bin/bash dash running").ended("no", "ignored");
    c.plan().said("say", "/bin/bash dash running");
}

fn package() {
    let c = Case::new("package").tasks("- name: p\n  package: {name: [tree, less], state: present}");
    c.converges(1);
    c.on_node("which tree").prints("/usr/bin/tree");
    c.repairs("dpkg --purge tree >/dev/null", 1);
    let c = c.tasks("- name: p\n  package: {name: tree, state: absent}");
    c.converges(1);
}

fn pause() {
    let c = Case::anywhere("pause")
        .tasks("- name: p\n  pause: {seconds: 2}\n  register: r\n- name: s\n  debug: {msg: '{{r.delta}}'}");
    let began = std::time::Instant::now();
    c.apply().changed(0).ended("p", "satisfied");
    assert!(began.elapsed().as_secs() >= 2);
    let began = std::time::Instant::now();
    c.plan().ended("p", "skipped");
    assert!(began.elapsed().as_secs() < 2);
    let c = c.tasks("- pause: {prompt: sure?}");
    c.apply().exits(1).says("nobody is there to answer");
    let c =
        c.tasks("- pause: {prompt: sure?, answer: 'yes'}\n  register: r\n- assert: {that: [eq r.user_input 'yes']}");
    c.apply().changed(0);
}

fn find() {
    let c = Case::anywhere("find").tasks(
        "
        - name: logs
          find: {paths: [/srv/find], patterns: ['*.log'], recurse: true, get_checksum: true}
          register: l
        - name: say
          debug: {msg: '{{l.matched}} {{l.examined}} {{l.files.[0].path}} {{l.files.[0].size}} {{l.files.[0].mode}}'}
        - name: inside
          find: {paths: [/srv/find, /srv/none], contains: 'b.*', file_type: file, recurse: true}
          register: i
        - name: say inside
          debug: {msg: '{{i.matched}} {{i.files.[0].path}}'}
        ",
    );
    c.on_node("rm -rf /srv/find; mkdir -p /srv/find/d; cd /srv/find; echo abc > a.log; echo bcd > d/b.log; touch c; chmod 640 a.log")
        .succeeds();
    c.apply().changed(0).said("say", "2 4 /srv/find/a.log 4 0640").said("say inside", "1 /srv/find/d/b.log");
    c.plan().said("say", "2 4 /srv/find/a.log 4 0640");
}

fn mount() {
    let c = Case::new("mount").tasks(
        "
        - name: data
          mount: {path: /mnt/my data, src: tmpfs, fstype: tmpfs, opts: 'size=1m,noatime', state: mounted}
        - name: now
          mount: {path: /mnt/now, src: tmpfs, fstype: tmpfs, state: ephemeral}
        - name: later
          mount: {path: /mnt/later, src: /dev/none, fstype: ext4, opts: nofail, state: present, passno: 2}
        - name: gone
          mount: {path: /mnt/old, state: absent}
        ",
    );
    c.on_node("mkdir -p /mnt/old; mount -t tmpfs tmpfs /mnt/old; printf '# c\\ntmpfs /mnt/old tmpfs defaults 0 0\\n' > /etc/fstab")
        .succeeds();
    c.plan().exits(2);
    c.apply().changed(4);
    c.is_satisfied();
    c.on_node("cat /etc/fstab; test -e /mnt/old || echo gone")
        .prints("# c\ntmpfs /mnt/my\\040data tmpfs size=1m,noatime 0 0\n/dev/none /mnt/later ext4 nofail 0 2\ngone");
    c.on_node("findmnt -no FSTYPE '/mnt/my data'; findmnt -no FSTYPE /mnt/now").prints("tmpfs\ntmpfs");
    c.mends("umount '/mnt/my data'", 1);
    c.mends("sed -i 's/noatime/ro/' /etc/fstab", 1);
    c.on_node("grep -c noatime /etc/fstab; findmnt -no OPTIONS '/mnt/my data' | grep -c noatime").prints("1\n1");
    c.mends("umount /mnt/now; sed -i '/later/d' /etc/fstab", 2);
    c.ignores("echo '# more' >> /etc/fstab");
    let c = c.tasks("- mount: {path: /mnt/bad, src: /dev/none, fstype: ext4, state: mounted}");
    c.apply().exits(1);
    c.on_node("grep -c bad /etc/fstab; true").prints("0");
    let c = c.tasks(
        "
        - mount: {path: /mnt/my data, state: absent}
        - mount: {path: /mnt/now, state: unmounted}
        ",
    );
    c.plan().exits(2);
    c.apply().changed(2);
    c.is_satisfied();
}

fn cron() {
    let c = Case::new("cron").tasks(
        "
        - name: job
          cron: {name: save, minute: 5, hour: 2, job: /usr/bin/save --all}
        - name: variable
          cron: {name: MAILTO, env: true, job: root}
        - name: file
          cron: {name: sweep, special_time: daily, user: deploy, job: sweep, cron_file: sweep}
        ",
    );
    c.apply().exits(1).says("apt: {name: cron}");
    c.on_node("apt-get install -qqy cron >/dev/null 2>&1 && command -v crontab >/dev/null").succeeds();
    c.plan().exits(2);
    c.apply().changed(3);
    c.is_satisfied();
    c.on_node("crontab -l; cat /etc/cron.d/sweep")
        .prints("MAILTO=\"root\"\n#Ansible: save\n5 2 * * * /usr/bin/save --all\n#Ansible: sweep\n@daily deploy sweep");
    c.mends("crontab -l | sed 's/5 2/6 2/' | crontab -", 1);
    c.repairs("rm /etc/cron.d/sweep", 1);
    c.mends("crontab -r", 2);
    let c = c.tasks("- cron: {name: save, state: absent}\n- cron: {name: sweep, state: absent, cron_file: sweep}");
    c.plan().exits(2);
    c.apply().changed(2);
    c.is_satisfied();
    c.on_node("crontab -l; ls /etc/cron.d/sweep 2>&1 | grep -c cannot").prints("MAILTO=\"root\"\n1");
    // What is there without a mark gets one; what is no UTF-8 stays as it is.
    c.on_node("printf '# caf\\351\\n5 3 * * * /bin/true\\n' | crontab -").succeeds();
    let c = c.tasks("- cron: {name: mine, minute: 5, hour: 3, job: \"/bin/true\\n\"}");
    c.converges(1);
    c.on_node("crontab -l | od -An -c | tr -d ' \\n'").prints(r"#caf351\n#Ansible:mine\n53***/bin/true\n");
}

fn alternatives() {
    let c = Case::new("alternatives").tasks(
        "
        - name: mine
          alternatives: {name: tool, path: /opt/tool-a, link: /usr/local/bin/tool, priority: 5}
        - name: pager
          alternatives: {name: pager, path: /bin/more}
        ",
    );
    c.on_node("for t in a b; do printf '#!/bin/sh\\n' > /opt/tool-$t; chmod +x /opt/tool-$t; done").succeeds();
    c.plan().exits(2);
    c.apply().changed(2);
    c.is_satisfied();
    c.on_node("readlink /etc/alternatives/tool /etc/alternatives/pager").prints("/opt/tool-a\n/bin/more");
    c.mends("update-alternatives --install /usr/local/bin/tool tool /opt/tool-b 9; update-alternatives --set tool /opt/tool-b", 1);
    c.on_node("readlink /etc/alternatives/tool").prints("/opt/tool-a");
}

/// What the host has chosen is in the result of the run that made it.
fn chosen() {
    let c = Case::new("chosen").tasks(
        "
        - group: {name: carol-group}
          register: g
        - user: {name: carol, group: carol-group}
          register: u
        - shell: '[ $(id -u carol) = {{u.uid}} ] && [ $(id -g carol) = {{g.gid}} ] && [ {{u.group}} = {{g.gid}} ] && [ -n {{u.home}} ]'
          changed_when: false
        ",
    );
    c.plan().exits(2).says("is set by a task that has not run yet");
    c.apply().changed(2);
    c.is_satisfied();
}

fn steered() {
    let c = Case::new("steered").tasks(
        "
        - ping: {}
          register: p
        - setup: {gather_subset: [min]}
          register: s
        - assert: {that: [eq p.ping 'pong', eq s.ansible_facts.ansible_distribution 'Debian', eq facts.hostname s.ansible_facts.ansible_hostname]}
        - command: hostname elsewhere
        - setup: {filter: ansible_hostname}
          register: s
        - assert: {that: [eq s.ansible_facts.ansible_hostname 'elsewhere', eq facts.hostname 'elsewhere']}
        - shell: usermod -aG games root; ! id -nG | grep -qw games
        - meta: reset_connection
        - shell: id -nG | grep -qw games
          changed_when: false
        - meta: end_host
        - fail: {}
        ",
    );
    c.apply().changed(2);
    c.plan().changes(2);
}
