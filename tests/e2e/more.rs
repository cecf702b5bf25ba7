//! fail, modprobe, reboot, wait_for_connection, uri, blockinfile, replace, ini_file.

use crate::kit::Case;

tests!(fail, modprobe, reboot, reboot_in_vain, wait_for_connection, uri, editors);

fn fail() {
    let c = Case::anywhere("fail").tasks("- name: no\n  fail: {msg: 'not on {{inventory_hostname}}'}");
    c.apply().exits(1).says("not on node1");
    c.plan().exits(1);
    let c = c.tasks("- name: no\n  fail: {}\n  when: [eq 1 2]");
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
          environment: {WANTED: yes}
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
        std::fs::read_to_string(&text).unwrap() + "  handlers:\n    - name: told\n      shell: echo x >> /root/told\n";
    std::fs::write(&text, book).unwrap();
    c.plan().exits(2);
    c.on_node("test -e /run/was-here").succeeds();
    c.apply().changed(2).said("say", "rebooted true").ended("after", "satisfied");
    assert_ne!(c.on_node(id).stdout(), before);
    c.on_node("! test -e /run/was-here && cat /root/told && systemctl is-active ssh").prints("x\nactive");
    // This machine is left alone.
    let c = c.file("hosts.yml", "all: {hosts: {here: {ansible_connection: local}}}");
    c.apply().exits(1).says("will not restart itself");
    c.plan().exits(1).says("will not restart itself");
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
    c.on_node("systemctl stop ssh.socket ssh 2>/dev/null; systemd-run -q --on-active=4 systemctl start ssh").succeeds();
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
        - name: no
          uri: {url: 'http://127.0.0.1:8099/no', status_code: [200, 404]}
        - name: file
          uri: {url: 'http://127.0.0.1:8099/f', dest: /srv/f, mode: '0640'}
        ",
    );
    let c = c.file("server.pl", SERVER);
    c.on_node(&format!("cat > /root/s.pl <<'E'\n{SERVER}\nE\nsystemd-run -q --on-active=5 perl /root/s.pl")).succeeds();
    c.apply().changed(2).said("said", "0 yes 200 {\"got\": 0}").said("sent", "9").ended("ask", "satisfied");
    c.on_node("cat /srv/f; stat -c ' %a' /srv/f").prints("{\"got\": 0} 640");
    c.apply().changed(0);
    c.plan().ended("ask", "skipped").ended("file", "skipped");
    c.on_node("echo x > /srv/f").succeeds();
    c.apply().changed(1).ended("file", "changed");
    let c = c.tasks("- name: no\n  uri: {url: 'http://127.0.0.1:8099/no'}\n  check_mode: false");
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
