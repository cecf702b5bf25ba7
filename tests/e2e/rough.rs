//! What goes wrong on real machines: no room, no rights, kills, noise, locks.

use crate::kit::{Case, Ran};

tests!(
    no_room_on_the_disk,
    read_only_place,
    killed_while_writing,
    interrupted,
    loud_commands,
    left_in_the_background,
    large_arguments,
    login_without_a_shell,
    large_text_files,
    text_of_all_kinds,
    failing_handler,
    fail_fast,
    apt_lock,
    units_of_all_kinds,
    file_corners,
    structured_content,
);

fn no_room_on_the_disk() {
    let c = Case::anywhere("full").file("files/big", vec![b'x'; 2 << 20]).tasks(
        "
        - name: big
          copy: {src: big, dest: /srv/full/file}
        ",
    );
    c.on_node("umount /srv/full 2>/dev/null; mkdir -p /srv/full; mount -t tmpfs -o size=1m none /srv/full; echo old > /srv/full/file")
        .succeeds();
    c.apply().exits(1).says("No space left").has(1, "failed");
    c.on_node("cat /srv/full/file; ls -A /srv/full").prints("old\nfile");
    c.on_node("mount -o remount,size=9m /srv/full").succeeds();
    c.apply().changed(1);
    c.on_node("stat -c %s /srv/full/file; umount /srv/full").prints("2097152");
}

fn read_only_place() {
    let c = Case::anywhere("readonly").tasks(
        "
        - name: file
          copy: {content: x, dest: /srv/ro/file}
          ignore_errors: true
        - name: line
          lineinfile: {path: /srv/ro/conf, line: x}
          ignore_errors: true
        - name: folder
          file: {path: /srv/ro/folder, state: directory}
        ",
    );
    c.on_node("umount /srv/ro 2>/dev/null; mkdir -p /srv/ro; mount -t tmpfs none /srv/ro; echo a > /srv/ro/conf; mount -o remount,ro /srv/ro")
        .succeeds();
    let ran = c.apply().exits(1).ended("file", "ignored").ended("line", "ignored").ended("folder", "failed");
    for task in ["file", "line", "folder"] {
        let message = ran.step(task)["parts"][0]["failure"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("Read-only file system"), "{task}: {message}");
    }
    c.on_node("umount /srv/ro").succeeds();
}

fn killed_while_writing() {
    let c = Case::anywhere("halfway").file("files/new", "new\n").tasks(
        "
        - name: file
          copy: {src: new, dest: /srv/halfway/file, validate: /srv/halfway/check %s}
        ",
    );
    c.on_node(
        "rm -rf /srv/halfway; mkdir -p /srv/halfway; cd /srv/halfway; echo old > file
         printf '#!/bin/sh\\ntouch /srv/halfway/begun; while [ -e /srv/halfway/begun ]; do sleep 0.05; done\\n' > check; chmod +x check",
    )
    .succeeds();
    let mut child = c.spawn("apply", &[]);
    c.until("test -e /srv/halfway/begun");
    c.on_node("cat /srv/halfway/file").prints("old");
    child.kill().expect("a running apply");
    child.wait().expect("a dead apply");
    c.on_node("cat /srv/halfway/file").prints("old");
    c.on_node("cd /srv/halfway; printf '#!/bin/sh\\n' > check; rm begun").succeeds();
    c.until("flock -n /run/windlass.lock true");
    c.apply().exits(0);
    c.on_node("cd /srv/halfway; cat file; ls -A").prints("new\ncheck\nfile");
    c.plan().changes(0);
}

fn interrupted() {
    let c = Case::anywhere("interrupted").tasks(
        "
        - name: slow
          shell: touch /srv/slow; while [ -e /srv/slow ]; do sleep 0.05; done; touch /srv/slow-done
        - name: next
          command: touch /srv/slow-next
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/slow*").succeeds();
    let child = c.spawn("apply", &[]);
    c.until("test -e /srv/slow");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a running apply");
    // It is on disk before the step goes on.
    let log = || c.traces();
    let began = std::time::Instant::now();
    while !log().contains("stopping") {
        assert!(began.elapsed().as_secs() < 20, "the interrupt was not seen");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    c.on_node("rm /srv/slow").succeeds();
    let ran = Ran::of(c.wait(child), "apply".into()).exits(130).ended("slow", "changed").ended("next", "blocked");
    assert_eq!(ran.events.last().unwrap()["interrupted"], true);
    c.on_node("test -e /srv/slow-done && test ! -e /srv/slow-next").succeeds();
}

fn loud_commands() {
    let c = Case::anywhere("loud").tasks(
        "
        - name: long
          shell: seq 1 300000; seq 1 300000 >&2
          register: long
        - name: bytes
          shell: printf 'a\\377\\000b\\033[31mred\\r\\nend'; printf '\\377' >&2
          register: bytes
        - name: tell
          debug: {msg: '{{length long.stdout_lines}} {{last long.stderr_lines}} {{length bytes.stdout_lines}}'}
        - name: protocol
          shell: |
            echo windlass end 1; echo '} </dev/null'; printf '\\036\\001\\n'
            exit 3
          register: protocol
          failed_when: ne protocol.rc 3
        ",
    );
    c.apply().changed(3).said("tell", "300000 300000 2");
}

fn left_in_the_background() {
    let c = Case::anywhere("background").tasks(
        "
        - name: start
          shell: sleep 4713 & echo started
          register: start
        - name: tell
          debug: {msg: '{{start.stdout}}'}
        ",
    );
    let began = std::time::Instant::now();
    c.apply().changed(1).said("tell", "started");
    assert!(began.elapsed().as_secs() < 15);
    c.on_node("pkill -f 'sleep 471[3]'").succeeds();
}

fn large_arguments() {
    let script: String = (0..20_000).map(|i| format!("            x{i}=value-{i}\n")).collect();
    let c = Case::anywhere("large").tasks(&format!(
        "
        - name: script
          shell: |
{script}            echo $x19999
          register: script
        - name: tell
          debug: {{msg: '{{{{script.stdout}}}}'}}
        - name: stdin
          shell: {{cmd: wc -l, stdin: '{{{{join (range 0 100000) nl}}}}'}}
          vars: {{nl: \"\\n\"}}
          register: stdin
        - name: lines
          debug: {{msg: '{{{{stdin.stdout}}}}'}}
        - name: files
          copy: {{content: '{{{{item}}}}', dest: '/srv/large/{{{{item}}}}'}}
          loop: '{{{{range 0 300}}}}'
        "
    ));
    c.on_node("rm -rf /srv/large; mkdir -p /srv/large").succeeds();
    c.apply().changed(3).said("tell", "value-19999").said("lines", "100000");
    c.on_node("ls /srv/large | wc -l; cat /srv/large/299").prints("300\n299");
}

fn login_without_a_shell() {
    let c = Case::anywhere("nologin").tasks("- {name: one, command: 'true'}");
    let key = std::fs::read_to_string(c.key().with_extension("pub")).unwrap();
    for (user, shell) in [("closed", "/usr/sbin/nologin"), ("false", "/bin/false"), ("gone", "/no/such/shell")] {
        c.on_node(&format!(
            "id {user} >/dev/null 2>&1 || useradd -m -s {shell} -p '*' {user}; mkdir -p /home/{user}/.ssh
             echo '{}' > /home/{user}/.ssh/authorized_keys; chown -R {user} /home/{user}",
            key.trim()
        ))
        .succeeds();
        c.apply_with(&["-u", user]).exits(4).has(1, "blocked");
    }
    c.apply_with(&["-u", "nosuchuser"]).exits(4).says("nosuchuser");
}

fn large_text_files() {
    let c = Case::anywhere("long-file")
        .tasks("- name: line\n  lineinfile: {path: /srv/long, regexp: '^line 77777$', line: other 77777}");
    c.on_node("mkdir -p /srv; seq -f 'line %.0f' 1 80000 > /srv/long").succeeds();
    c.converges(1);
    c.on_node("sed -n 77777p /srv/long; wc -l < /srv/long").prints("other 77777\n80000");
    // Beyond what is brought over there is a plain word, and the file stays.
    c.on_node("seq -f 'line %.0f' 1 400000 > /srv/long; sha256sum < /srv/long > /srv/long.sum").succeeds();
    c.apply().exits(1).says("/srv/long").has(1, "failed");
    c.on_node("sha256sum < /srv/long | cmp - /srv/long.sum").succeeds();
}

fn text_of_all_kinds() {
    let c = Case::anywhere("kinds").tasks(
        "
        - name: crlf
          lineinfile: {path: /srv/k/crlf, regexp: '^b=', line: b=2}
        - name: open
          lineinfile: {path: /srv/k/open, line: added}
        - name: empty
          lineinfile: {path: /srv/k/empty, line: '  two spaces, \"quotes\" & $x \\1'}
        - name: utf8
          lineinfile: {path: /srv/k/utf8, regexp: '^größe\\b', line: größe=2}
        ",
    );
    c.on_node(
        "rm -rf /srv/k; mkdir -p /srv/k; cd /srv/k; printf 'a=1\\r\\nb=1\\r\\nc=1\\r\\n' > crlf; printf 'no end' > open; : > empty
         printf 'größe=1\\nx\\n' > utf8",
    )
    .succeeds();
    c.converges(4);
    c.on_node("cd /srv/k; cat open empty utf8; grep -c a=1 crlf")
        .prints("no end\nadded\n  two spaces, \"quotes\" & $x \\1\ngröße=2\nx\n1");
    c.on_node("cd /srv/k; grep -c '^b=2' crlf").prints("1");
}

fn failing_handler() {
    let c = Case::anywhere("handler").playbook(
        "
        - phase: main
          hosts: all
          tasks:
            - {name: change, copy: {content: a, dest: /srv/handler}, notify: restart}
          handlers:
            - {name: restart, command: test ! -e /srv/handler-broken}
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/handler; touch /srv/handler-broken").succeeds();
    c.apply().exits(1).ended("restart", "failed");
    c.apply().exits(1).ended("change", "satisfied").ended("restart", "failed");
    c.on_node("rm /srv/handler-broken").succeeds();
    c.apply().changed(1).ended("restart", "changed");
    c.apply().changed(0);
}

fn fail_fast() {
    let c = Case::nodes(2, "fast").tasks(
        "
        - name: breaks
          shell: '[ {{inventory_hostname}} != node1 ]'
        - name: waits
          shell: 'for i in $(seq 100); do sleep 0.1; [ ! -e /srv/fast ] || break; done'
        - name: last
          command: 'true'
        ",
    );
    c.on(2, "mkdir -p /srv; touch /srv/fast").succeeds();
    let ran = c.apply().exits(1).has(1, "failed");
    assert_eq!(ran.steps("last").iter().filter(|e| e["outcome"] == "changed").count(), 1, "{}", ran.text());
    c.on(2, "rm /srv/fast").succeeds();
    let child = c.spawn("apply", &["--fail-fast"]);
    let ran = Ran::of(c.wait(child), "apply".into()).exits(1).has(1, "failed");
    assert_eq!(ran.steps("last").iter().filter(|e| e["outcome"] == "changed").count(), 0, "{}", ran.text());
}

fn apt_lock() {
    let c = Case::new("apt-lock")
        .tasks("- name: ed\n  apt: {name: ed, state: present, update_cache: true, lock_timeout: 1}");
    c.on_node(
        "apt-get -q update && mkdir -p /srv/slow/DEBIAN && cd /srv &&
         printf 'Package: slow\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n' > slow/DEBIAN/control &&
         printf '#!/bin/sh\\ntouch /srv/held; while [ -e /srv/held ]; do sleep 0.05; done\\n' > slow/DEBIAN/preinst &&
         chmod 755 slow/DEBIAN/preinst && dpkg-deb -b slow slow.deb && (dpkg -i slow.deb >/srv/dpkg.log 2>&1 &)",
    )
    .succeeds();
    c.until("test -e /srv/held");
    let ran = c.apply().exits(1).has(1, "failed");
    assert!(ran.stdout.to_lowercase().contains("lock"), "{}", ran.text());
    c.on_node("rm -f /srv/held").succeeds();
    c.until("dpkg-query -W -f '${Status}' slow | grep -q 'ok installed'");
    c.until("! pgrep -x dpkg");
    c.apply().exits(0);
    c.is_satisfied();
}

fn units_of_all_kinds() {
    let c = Case::new("units").tasks(
        "
        - name: timer
          systemd: {name: tick.timer, state: started, enabled: true}
        - name: instance
          systemd: {name: 'many@one', state: started, enabled: true}
        - name: static
          systemd: {name: tick, state: stopped}
        ",
    );
    c.on_node(
        "cd /etc/systemd/system
         printf '[Service]\\nType=oneshot\\nExecStart=true\\n' > tick.service
         printf '[Timer]\\nOnCalendar=yearly\\n[Install]\\nWantedBy=timers.target\\n' > tick.timer
         printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' > many@.service
         systemctl daemon-reload",
    )
    .succeeds();
    c.plan().exits(2);
    c.apply().changed(2);
    c.is_satisfied();
    c.on_node("systemctl is-active tick.timer many@one; systemctl is-enabled tick.timer many@one")
        .prints("active\nactive\nenabled\nenabled");
    c.mends("systemctl stop many@one", 1);
    let c = c.tasks("- name: masked\n  systemd: {name: many@one, masked: true, state: stopped, enabled: false}");
    c.apply().exits(0);
    c.is_satisfied();
    c.on_node("systemctl is-active many@one; systemctl is-enabled many@one").prints("inactive\nmasked");
    let c = c.tasks("- name: start\n  systemd: {name: many@one, state: started}");
    c.apply().exits(1).says("masked");
    let c = c.tasks("- name: free\n  systemd: {name: many@one, masked: false, state: started}");
    c.apply().changed(1);
    c.is_satisfied();
}

fn file_corners() {
    let c = Case::new("corners").tasks(
        "
        - name: special bits
          file: {path: /srv/c/shared, state: directory, mode: '2775', group: adm}
        - name: sticky
          file: {path: /srv/c/drop, state: directory, mode: '1777'}
        - name: suid
          copy: {content: \"#!/bin/sh\\n\", dest: /srv/c/tool, mode: '4755', owner: deploy}
        - name: plain
          file: {path: /srv/c/plain, state: directory, mode: '0755'}
        - name: numbers
          file: {path: /srv/c/shared, owner: '1000', group: 4}
        - name: linked folder
          file: {path: /srv/c/linked, state: directory, mode: '0711'}
        - name: slash
          file: {path: /srv/c/slash/, state: directory}
        ",
    );
    c.on_node("mkdir -p /srv/c/target; ln -s target /srv/c/linked").succeeds();
    c.apply().exits(0);
    c.is_satisfied();
    c.on_node("cd /srv/c; stat -c '%n %a %U %G' shared drop tool target; test -L linked; echo $?")
        .prints("shared 2775 deploy adm\ndrop 1777 root root\ntool 4755 deploy root\ntarget 711 root root\n0");
    c.repairs("chmod g-s /srv/c/shared", 1);
    c.repairs("chmod g+s /srv/c/plain", 1);
    c.on_node("stat -c %a /srv/c/plain").prints("755");
    c.repairs("chown root /srv/c/tool", 1);
    c.on_node("stat -c %a /srv/c/tool").prints("4755");
}

fn structured_content() {
    let c = Case::anywhere("structured").inventory("conf: {a: 1, list: [x, true, 'null']}").tasks(
        "
        - name: json
          copy: {content: '{{conf}}', dest: /srv/structured.json}
        - name: yaml
          copy: {content: '{{yaml conf}}', dest: /srv/structured.yaml}
        - name: number
          copy: {content: 42, dest: /srv/structured.txt}
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/structured.*").succeeds();
    c.converges(3);
    c.on_node("tr -d ' \\n' < /srv/structured.json; echo; cat /srv/structured.yaml; cat /srv/structured.txt")
        .prints("{\"a\":1,\"list\":[\"x\",true,\"null\"]}\na: 1\nlist:\n- x\n- true\n- 'null'42");
}
