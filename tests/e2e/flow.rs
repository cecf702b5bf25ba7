//! The order of things on one host: conditions, loops, tries, failures, tags, facts.

use crate::kit::Case;

tests!(
    when_and_register,
    loops,
    until_and_retries,
    failures,
    changed_and_failed_when,
    tags,
    facts,
    check_mode,
    plan_shows_the_diff,
    round_trips,
);

fn when_and_register() {
    let c = Case::anywhere("when").inventory("role: server\ncount: 3").tasks(
        "
        - name: 'yes'
          debug: {msg: x}
          when: [eq role \"server\", gt count 2]
        - name: 'no'
          command: touch /srv/never-when
          when: or (eq role \"agent\") (not (gt count 2))
          register: nope
        - name: after
          debug: {msg: x}
          when: nope.skipped
        - name: undefined
          debug: {msg: x}
          when: defined nothing
        - name: look
          command: cat /etc/hostname
          register: look
          changed_when: false
        - name: seen
          debug: {msg: '{{look.stdout}} {{look.changed}} {{look.rc}}'}
          when: eq look.rc 0
        ",
    );
    c.on_node("rm -f /srv/never-when; hostname > /etc/hostname").succeeds();
    let host = c.on_node("cat /etc/hostname").stdout();
    let ran = c.apply().changed(0).ended("no", "skipped").ended("undefined", "skipped").ended("after", "satisfied");
    ran.ended("yes", "satisfied").said("seen", &format!("{host} false 0"));
    c.on_node("test ! -e /srv/never-when").succeeds();
}

fn loops() {
    let c = Case::anywhere("loops").inventory("ports: {http: 80, https: 443}").tasks(
        "
        - name: folders
          file: {path: '/srv/loops/{{item.name}}', state: directory, mode: '{{item.mode}}'}
          loop:
            - {name: a, mode: '0755'}
            - {name: b, mode: '0700'}
            - {name: c, mode: '0755'}
          loop_control: {label: '{{item.name}}'}
          when: ne item.name \"c\"
        - name: mapping
          copy: {content: '{{port.value}}', dest: '/srv/loops/{{port.key}}'}
          loop: '{{dict2items ports}}'
          loop_control: {loop_var: port, index_var: i}
          register: put
        - name: results
          debug: {msg: '{{length put.results}} {{put.results.[1].port.key}} {{put.changed}}'}
        - name: over results
          command: cat {{item.dest}}
          loop: '{{put.results}}'
          loop_control: {label: '{{item.port.key}}'}
          changed_when: false
          register: cat
        - name: empty
          command: touch /srv/never-loop
          loop: []
        - name: all
          debug: {msg: '{{join (map cat.results attribute=\"stdout\") \"+\"}}'}
        ",
    );
    c.on_node("rm -rf /srv/loops; mkdir -p /srv/loops").succeeds();
    c.plan().exits(2);
    let ran = c.apply().changed(2).said("results", "2 https true").said("all", "80+443").ended("empty", "skipped");
    assert_eq!(ran.step("folders")["parts"].as_array().map(Vec::len), Some(3), "{}", ran.text());
    assert_eq!(ran.step("folders")["parts"][2]["outcome"], "skipped");
    assert_eq!(ran.step("folders")["parts"][1]["label"], "b");
    c.on_node("ls /srv/loops; stat -c %a /srv/loops/b; cat /srv/loops/https").prints("a\nb\nhttp\nhttps\n700\n443");
    c.is_satisfied();
    let ran = c.repairs("chmod 755 /srv/loops/b; rm /srv/loops/http", 2);
    assert_eq!(ran.step("folders")["parts"][0]["outcome"], "satisfied");
    assert_eq!(ran.step("folders")["parts"][1]["outcome"], "changed");
}

fn until_and_retries() {
    let c = Case::anywhere("until").tasks(
        "
        - name: third time
          shell: echo x >> /srv/until; wc -l < /srv/until
          register: tries
          until: eq tries.stdout \"3\"
          retries: 5
          delay: 0
          changed_when: false
        - name: tell
          debug: {msg: '{{tries.attempts}}'}
        - name: never
          command: 'false'
          register: never
          until: eq never.rc 0
          retries: 2
          delay: 0
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/until").succeeds();
    let ran = c.apply().exits(1).said("tell", "3").says("still not `eq never.rc 0` after 3 tries");
    assert_eq!(ran.step("never")["parts"][0]["attempts"], 3);
}

fn failures() {
    let c = Case::anywhere("failures").tasks(
        "
        - name: ignored
          command: ls /no/such/thing
          ignore_errors: true
          register: ignored
        - name: goes on
          assert: {that: [ignored.failed, ne ignored.rc 0]}
        - name: stops
          shell: echo some output; echo the reason >&2; exit 4
        - name: blocked
          command: touch /srv/never-blocked
        ",
    );
    let ran = c.apply().exits(1).ended("ignored", "ignored").ended("stops", "failed").ended("blocked", "blocked");
    let ran = ran.has(1, "failed").has(1, "blocked").says("the reason").says("some output");
    let failure = &ran.step("stops")["parts"][0]["failure"];
    assert_eq!(
        (&failure["rc"], &failure["command"]),
        (&4.into(), &"echo some output; echo the reason >&2; exit 4".into())
    );
    assert_eq!(ran.step("stops")["place"], "site.yml:10");
    // For people, with the command that goes on from there.
    let text = c.windlass(&["apply", "site.yml", "-i", "hosts.yml"]).exits(1);
    for part in
        ["FAILED", "node1", "stops", "site.yml:10", "exit code 4", "the reason", "windlass apply site.yml -i hosts.yml"]
    {
        assert!(text.stdout.contains(part) || text.stdout.replace("  ", " ").contains(part), "{part}: {}", text.stdout);
    }
    c.on_node("test ! -e /srv/never-blocked").succeeds();
}

fn changed_and_failed_when() {
    let c = Case::anywhere("judged").tasks(
        "
        - name: said so
          shell: echo 'nothing to do'
          register: out
          changed_when: not (in \"nothing\" out.stdout)
        - name: did
          shell: echo 'did it'
          register: out
          changed_when: in \"did\" out.stdout
        - name: allowed
          shell: exit 2
          register: out
          failed_when: not (in out.rc two)
          vars: {two: [0, 2]}
        - name: not allowed
          shell: echo ERROR in text
          register: out
          failed_when: [in \"ERROR\" out.stdout, eq out.rc 0]
        ",
    );
    let ran = c.apply().exits(1).ended("said so", "satisfied").ended("did", "changed").ended("allowed", "changed");
    ran.ended("not allowed", "failed").says("failed_when").says("ERROR in text");
}

fn tags() {
    let c = Case::anywhere("tags").playbook(
        "
        - phase: one
          hosts: all
          tags: first
          tasks:
            - {name: a, command: 'true', tags: [x, y]}
            - {name: b, command: 'true', tags: y}
            - {name: always, command: 'true', tags: always}
            - {name: never, command: 'true', tags: [never, z]}
        - phase: two
          hosts: all
          tasks:
            - {name: c, command: 'true'}
        ",
    );
    let ran = |args: &[&str]| c.apply_with(args).exits(0).order("changed").join(" ");
    assert_eq!(ran(&[]), "a b always c");
    assert_eq!(ran(&["-t", "x"]), "a always");
    assert_eq!(ran(&["--tags", "first"]), "a b always never");
    assert_eq!(ran(&["--skip-tags", "y"]), "always c");
    assert_eq!(ran(&["-t", "z"]), "always never");
    assert_eq!(ran(&["--phase", "two"]), "c");
}

fn facts() {
    let c = Case::anywhere("hostfacts").tasks(
        "
        - name: file
          copy:
            content: '{{facts.hostname}} {{facts.os.id}} {{facts.os.major}} {{facts.arch}}'
            dest: /srv/hostfacts
        - name: where
          debug: {msg: 'yes'}
          when: and (eq facts.os.family \"Debian\") (gt facts.memory_mb 10)
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/hostfacts").succeeds();
    c.converges(1);
    let expected = c.on_node(". /etc/os-release; echo $(hostname) debian $VERSION_ID $(uname -m)").stdout();
    c.on_node("cat /srv/hostfacts").prints(&expected);
    c.apply().ended("where", "satisfied");
}

fn check_mode() {
    let c = Case::anywhere("check").tasks(
        "
        - name: asked anyway
          command: hostname
          check_mode: false
          changed_when: false
          register: asked
        - name: tell
          debug: {msg: '{{asked.stdout}} {{ansible_check_mode}}'}
        - name: file
          copy: {content: x, dest: /srv/check}
        - name: asked too late
          command: cat /srv/check
          check_mode: false
          changed_when: false
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/check").succeeds();
    let host = c.on_node("hostname").stdout();
    let plan = c.apply_with(&["--check"]).exits(2).said("tell", &format!("{host} true"));
    plan.ended("file", "changed").ended("asked too late", "known_after_apply");
    c.on_node("test ! -e /srv/check").succeeds();
    c.apply().changed(1).said("tell", &format!("{host} false"));
}

fn plan_shows_the_diff() {
    let c = Case::anywhere("diff").tasks("- name: file\n  copy: {content: \"one\\ntwo\\nthree\\n\", dest: /srv/diff}");
    c.on_node("mkdir -p /srv; printf 'one\\n2\\nthree\\n' > /srv/diff").succeeds();
    let text = c.windlass(&["plan", "site.yml", "-i", "hosts.yml", "--diff"]).exits(2);
    for line in ["--- /srv/diff", "+++ /srv/diff", "-2", "+two", " three"] {
        assert!(text.stdout.lines().any(|l| l.strip_prefix("    ") == Some(line)), "{line}: {}", text.stdout);
    }
    c.plan().changes(1).diff_has("file", "-2").diff_has("file", "+two");
    c.on_node("sed -n 2p /srv/diff").prints("2");
}

fn round_trips() {
    let tasks: String = (0..50)
        .map(|i| {
            format!("- copy: {{content: x, dest: /srv/trips/{i}}}\n- file: {{path: /srv/trips/{i}, mode: '0644'}}\n")
        })
        .collect();
    let c = Case::anywhere("trips").tasks(&tasks);
    c.on_node("rm -rf /srv/trips; mkdir -p /srv/trips").succeeds();
    c.converges(50);
    let ran = c.apply().changed(0);
    let trips = ran.events.last().unwrap()["hosts"]["node1"]["round_trips"].as_u64().unwrap();
    assert!((1..=5).contains(&trips), "{trips} round trips for 100 satisfied tasks");
}
