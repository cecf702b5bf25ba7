//! Names and places that break careless shell.

use crate::kit::Case;

tests!(names, symlinked_places, nothing_is_left_behind, connection_cut, node_dies);

fn names() {
    let names =
        "['two words', \"it's\", 'a\"b', \"new\\nline\", 'grün', '$x `y`', '-rf', 'back\\slash', '*', 'tab\\there']";
    let c = Case::anywhere("names").tasks(&format!(
        "
        - name: folders
          file: {{path: '/srv/names/{{{{item}}}}', state: directory, mode: '0700'}}
          loop: {names}
        - name: files
          copy: {{content: '{{{{item}}}}', dest: '/srv/names/{{{{item}}}}/{{{{item}}}}', owner: deploy}}
          loop: {names}
        - name: links
          file: {{src: '{{{{item}}}}', dest: '/srv/names/{{{{item}}}}/link', state: link}}
          loop: {names}
        - name: lines
          lineinfile: {{path: '/srv/names/{{{{item}}}}/{{{{item}}}}', line: added}}
          loop: {names}
        - name: looks
          stat: {{path: '/srv/names/{{{{item}}}}/link', follow: true}}
          loop: {names}
          register: looks
          failed_when: not looks.stat.exists
        "
    ));
    c.on_node("rm -rf /srv/names; mkdir -p /srv/names").succeeds();
    c.apply().exits(0);
    c.on_node("find /srv/names -name added -o -type f -user deploy -printf x | wc -c").prints("10");
    c.on_node("cat \"/srv/names/$(printf 'new\\nline')/$(printf 'new\\nline')\"").prints("new\nline\nadded");
    c.on_node("cat '/srv/names/-rf/-rf'; cat '/srv/names/$x `y`/link'").prints("-rf\nadded\n$x `y`\nadded");
}

fn symlinked_places() {
    let c = Case::anywhere("linked").tasks(
        "
        - name: in a linked folder
          copy: {content: x, dest: /srv/l/link/file}
        - name: through a link
          lineinfile: {path: /srv/l/conf, line: added}
        - name: mode
          file: {path: /srv/l/link/file, mode: '0600'}
        ",
    );
    c.on_node("rm -rf /srv/l; mkdir -p /srv/l/real; ln -s real /srv/l/link; echo one > /srv/l/target; ln -s target /srv/l/conf")
        .succeeds();
    c.apply().changed(3);
    c.on_node("cat /srv/l/real/file /srv/l/target; readlink /srv/l/link; stat -c %a /srv/l/real/file")
        .mentions("xone\nadded\nreal\n600");
    c.on_node("test -L /srv/l/link").succeeds();
}

fn nothing_is_left_behind() {
    let c = Case::new("clean").tasks("- {name: file, copy: {content: x, dest: /srv/x}}\n- {name: cmd, shell: 'true'}");
    c.on_node("mkdir -p /srv; find / -xdev -newermt '-1 second' >/dev/null; touch /tmp/mark").succeeds();
    c.apply().changed(2);
    // No agent, no folder of ours, no process; only a lock file in /run/lock.
    c.on_node(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /run/systemd -o -path /var/log -o -path /run/log \\) -prune -o \
         -newer /tmp/mark -type f -print | grep -v -e '^/run/' -e '^/var/lib/systemd' -e '^/tmp/mark$'",
    )
    .prints("/srv/x");
    c.on_node("ls /tmp /root -A | grep -i -c windlass").prints("0");
    c.until("! pgrep -u root -f 'exec s[h]'");
}

fn connection_cut() {
    let c = Case::anywhere("cut").tasks(
        "
        - name: cut
          shell: touch /srv/cut; sleep 4712
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/cut").succeeds();
    let child = c.spawn("apply", &[]);
    c.until("test -e /srv/cut");
    c.on_node("pkill -f 'sshd: roo[t]'").succeeds();
    let ran = crate::kit::Ran::of(c.wait(child), "apply".into());
    ran.exits(4).says("connection was lost").says("whether it ran to its end is not known");
    c.on_node("pkill -f 'sleep 471[2]'; true").succeeds();
}

fn node_dies() {
    let c = Case::new("dies").tasks(
        "
        - name: file
          copy: {content: x, dest: /srv/file}
        - name: power
          shell: touch /srv/begun; while [ -e /srv/begun ]; do sleep 0.1; done
          args: {creates: /srv/done}
        ",
    );
    c.on_node("mkdir -p /srv").succeeds();
    let child = c.spawn("apply", &["-T", "5"]);
    c.until("test -e /srv/begun");
    c.power_cycle();
    let ran = crate::kit::Ran::of(c.wait(child), "apply".into()).exits(4);
    assert_eq!(ran.step("file")["outcome"], "changed");
    c.on_node("touch /srv/done").succeeds();
    c.apply().changed(0);
}
