//! copy, template, file, lineinfile, stat.

use crate::kit::Case;

tests!(
    copy,
    copy_sources,
    copy_validates_and_backs_up,
    copy_contents_of_all_kinds,
    template,
    template_jinja,
    file_folders_and_modes,
    file_links,
    file_touch_and_absent,
    lineinfile,
    lineinfile_regexp,
    lineinfile_validates,
    a_file_whose_owner_is_not_ours_to_give,
    stat,
);

fn copy() {
    let c = Case::new("copy").file("files/motd", "welcome\n").tasks(
        "
            - name: text
              copy: {content: \"hello\\nworld\\n\", dest: /etc/greeting, mode: '0640', owner: deploy, group: adm}
            - name: file
              copy: {src: motd, dest: /etc/motd.d/, mode: '0600'}
            - name: once
              copy: {content: first, dest: /etc/once, force: false}
            ",
    );
    c.on_node("mkdir -p /etc/motd.d").succeeds();
    c.converges(3);
    c.on_node("stat -c '%a %U %G' /etc/greeting; cat /etc/greeting").prints("640 deploy adm\nhello\nworld");
    c.on_node("stat -c '%a %U' /etc/motd.d/motd; cat /etc/motd.d/motd").prints("600 root\nwelcome");
    c.repairs("echo other > /etc/greeting", 1).diff_has("text", "-other");
    c.repairs("chmod 644 /etc/greeting; chown root /etc/greeting; rm /etc/motd.d/motd /etc/once", 3);
    c.repairs("rm /etc/greeting; mkdir -p /srv; echo hello > /srv/elsewhere; ln -s /srv/elsewhere /etc/greeting", 1);
    c.on_node("test ! -L /etc/greeting && cat /srv/elsewhere").prints("hello");
    c.ignores("echo changed > /etc/once");
    c.ignores("touch -d 2001-01-01 /etc/greeting");
    c.on_node("find /etc -name '.windlass*' -o -name '*.windlass*' | grep -v '^/etc/windlass'").prints("");
}

fn copy_sources() {
    let c = Case::new("copy-sources").file("files/tree/a.txt", "a\n").file("files/tree/sub/b.txt", "b\n").tasks(
        "
            - name: whole
              copy: {src: tree, dest: /opt/whole, mode: '0644', directory_mode: '0750'}
            - name: inside
              copy: {src: tree/, dest: /opt/inside}
            - name: remote
              copy: {src: /etc/hostname, dest: /opt/hostname, remote_src: true}
            - name: through
              copy: {content: new, dest: /opt/link, follow: true}
            ",
    );
    c.on_node("mkdir -p /opt/inside; echo old > /opt/target; ln -s target /opt/link").succeeds();
    c.converges(4);
    c.on_node("cd /opt && cat whole/tree/a.txt whole/tree/sub/b.txt inside/sub/b.txt").prints("a\nb\nb");
    c.on_node("stat -c %a /opt/whole/tree/sub /opt/whole/tree/a.txt").prints("750\n644");
    c.on_node("cmp /etc/hostname /opt/hostname && readlink /opt/link && cat /opt/target").prints("target\nnew");
    c.repairs("rm -r /opt/whole/tree/sub; echo x >> /opt/inside/a.txt", 2);
    c.repairs("echo x > /opt/hostname", 1);
    c.repairs("chmod 700 /opt/whole/tree/sub; chmod 600 /opt/whole/tree/a.txt", 1);
    c.ignores("touch /opt/whole/tree/extra");
}

fn copy_validates_and_backs_up() {
    let c = Case::new("copy-validate").tasks(
        "
        - name: sudoers
          copy:
            content: \"{{rule}}\\n\"
            dest: /etc/sudoers.d/ops
            mode: '0440'
            validate: visudo -cf %s
            backup: true
        ",
    );
    let good = "rule=ops ALL=(ALL) ALL";
    c.plan_with(&["-e", good]).changes(1);
    c.apply_with(&["-e", good]).changed(1);
    c.apply_with(&["-e", good]).changed(0);
    c.apply_with(&["-e", "rule=this is no rule"]).exits(1).has(1, "failed").says("syntax error");
    c.on_node("cat /etc/sudoers.d/ops; ls -A /etc/sudoers.d").prints("ops ALL=(ALL) ALL\nREADME\ndeploy\nops\nsudoer");
    c.apply_with(&["-e", "rule=ops ALL=(root) ALL"]).changed(1);
    c.on_node("cat /etc/sudoers.d/ops.*").prints("ops ALL=(ALL) ALL");
    c.on_node("stat -c %a /etc/sudoers.d/ops").prints("440");
}

fn copy_contents_of_all_kinds() {
    let mut big = Vec::with_capacity(5 << 20);
    let mut x: u32 = 12345;
    while big.len() < 5 << 20 {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        big.extend(x.to_le_bytes());
    }
    let binary: Vec<u8> = (0..=255).chain(0..=255).collect();
    let c = Case::new("copy-kinds")
        .file("files/big", &big)
        .file("files/binary", &binary)
        .file("files/empty", "")
        .file("files/open", "no newline at the end")
        .file("files/ends", "\n\n\n")
        .tasks(
            "
            - name: put
              copy: {src: '{{item}}', dest: '/srv/kinds/{{item}}'}
              loop: [big, binary, empty, open, ends]
            - name: name
              copy: {content: '{{item}}', dest: '/srv/kinds/{{item}}'}
              loop:
                - 'two words'
                - 'it''s \"quoted\"'
                - \"two\\nlines\"
                - 'grüße-日本'
                - '$HOME `id` \\ *?'
                - '-n'
                - '%s {} #'
            ",
        );
    c.on_node("mkdir -p /srv/kinds").succeeds();
    c.converges(2);
    c.on_node("cd /srv/kinds && sha256sum big binary | cut -c1-64").prints(&format!("{}\n{}", sha(&big), sha(&binary)));
    c.on_node("stat -c %s /srv/kinds/empty /srv/kinds/open /srv/kinds/ends").prints("0\n21\n3");
    c.on_node("cd /srv/kinds && cat './two words' './grüße-日本' ./-n './%s {} #'")
        .prints("two wordsgrüße-日本-n%s {} #");
    c.on_node("cd /srv/kinds && cat './it'\\''s \"quoted\"' './$HOME `id` \\ *?'")
        .prints("it's \"quoted\"$HOME `id` \\ *?");
    c.on_node("cd /srv/kinds && cat \"$(printf './two\\nlines')\"").prints("two\nlines");
    c.repairs("printf x >> /srv/kinds/big; printf x >> /srv/kinds/empty; : > '/srv/kinds/two words'", 2);
    c.repairs("printf '\\377' | dd of=/srv/kinds/binary bs=1 seek=7 conv=notrunc status=none", 1);
}

fn sha(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn template() {
    let c = Case::new("template")
        .inventory("port: 8080\nnames: [a, b]")
        .file(
            "templates/app.conf.hbs",
            "# on {{inventory_hostname}}\nport={{port}}\n{{#each names}}\nname={{this}} & <more>\n{{/each}}\n",
        )
        .tasks(
            "
            - name: render
              template: {src: app.conf.hbs, dest: /etc/app.conf, mode: 'u=rw,g=r,o=', group: adm}
            ",
        );
    let text = "# on node1\nport=8080\nname=a & <more>\nname=b & <more>";
    c.converges(1);
    c.on_node("cat /etc/app.conf").prints(text);
    c.on_node("stat -c '%a %U %G' /etc/app.conf").prints("640 root adm");
    c.repairs("sed -i s/8080/80/ /etc/app.conf", 1).diff_has("render", "+port=8080");
    c.repairs("chmod o+r /etc/app.conf", 1);
    c.repairs("chgrp root /etc/app.conf", 1);
    c.plan_with(&["-e", "port=9090"]).changes(1).diff_has("render", "+port=9090");
    c.plan_with(&["-e", "{\"names\": [x]}"]).changes(1);
    c.plan_with(&["-e", "names=x"]).exits(3).says("names");
    let c = c.file("templates/app.conf.hbs", "{{port\n");
    c.apply().exits(3).says("app.conf.hbs");
    let c = c.file("templates/app.conf.hbs", "{{prot}}\n");
    c.apply().exits(3).says("prot").says("port");
    c.on_node("cat /etc/app.conf").prints(text);
}

fn template_jinja() {
    let c = Case::new("template-jinja")
        .inventory("port: 8080\nnames: [a, b]\nsecure: true")
        .file(
            "roles/app/templates/app.conf.j2",
            "# {{ ansible_managed }}, on {{ inventory_hostname }}\n{% include 'part.inc' %}\n\
             {% for n in names %}\nname={{ n | upper }}{{ ' last' if loop.last else '' }}\n{% endfor %}\n\
             secure={{ secure }} {{ tls.cert | default('none') }}\nkernel={{ facts.kernel | regex_replace('^(\\d+).*', '\\\\1') | length > 0 }}\n",
        )
        .file("roles/app/templates/part.inc", "port={{ port }}\n\n")
        .file("roles/app/templates/id.j2", "{% if out.stdout == 'fresh' %}\nid {{ out.stdout }}\n{% endif %}\n")
        .file("roles/app/templates/odd.j2", "<% if secure %>\n  <# no #>\n  [[ port ]] {{ as it is }}\n<% endif %>\n")
        .file("roles/app/defaults/main.yml", "tls: {}\n")
        .file(
            "roles/app/tasks/main.yml",
            "- name: render\n  template: {src: app.conf.j2, dest: /etc/app.conf, mode: '0640', lstrip_blocks: true}\n\
             - name: ask\n  command: {cmd: cat /srv/id}\n  register: out\n  changed_when: false\n\
             - name: later\n  template: {src: id.j2, dest: /etc/id}\n\
             - name: odd\n  template: {src: odd.j2, dest: /etc/odd, variable_start_string: '[[', variable_end_string: ']]',\n    \
             block_start_string: '<%', block_end_string: '%>', comment_start_string: '<#', comment_end_string: '#>',\n    \
             trim_blocks: false, newline_sequence: '\\r\\n'}\n",
        )
        .playbook("- phase: app\n  hosts: all\n  become: true\n  roles: [app]\n");
    c.on_node("mkdir -p /srv; echo fresh > /srv/id").succeeds();
    // What a command says is known only after it.
    c.plan().has(1, "changed").ended("app : later", "known_after_apply");
    c.apply().changed(3);
    let text = "# Ansible managed, on node1\nport=8080\nname=A\nname=B last\nsecure=True none\nkernel=True";
    c.on_node("cat /etc/app.conf").prints(text);
    c.on_node("cat /etc/id").prints("id fresh");
    c.on_node("tr '\\r' '$' < /etc/odd").prints("$\n  $\n  8080 {{ as it is }}$");
    c.apply().changed(0);
    c.plan_with(&["-e", "port=9090"]).diff_has("app : render", "+port=9090");
    let c = c.file("roles/app/templates/part.inc", "port={{ prot }}\n");
    c.apply().exits(3).says("part.inc:1:9").says("did you mean `port`?");
}

fn file_folders_and_modes() {
    let c = Case::new("file").tasks(
        "
        - name: folders
          file: {path: /srv/a/b/c, state: directory, mode: '0750', owner: deploy}
        - name: tree
          file: {path: /srv/tree, state: directory, recurse: true, owner: deploy, group: adm, mode: 'u=rwX,g=rX,o='}
        - name: mode
          file: {path: /srv/tree/one, mode: '0400'}
        ",
    );
    c.on_node("mkdir -p /srv/tree/x; touch /srv/tree/one /srv/tree/x/two; ln -s /etc/passwd /srv/tree/link").succeeds();
    // Whether a tree is as it should be is a question to all of it, and a folder made before it clouds the answer.
    c.plan().exits(2).has(1, "changed").has(2, "unknown");
    c.apply().changed(3);
    c.on_node("stat -c '%n %a %U %G' /srv/a /srv/a/b/c /srv/tree/x /srv/tree/x/two /srv/tree/one /etc/passwd").prints(
        "/srv/a 750 deploy root\n/srv/a/b/c 750 deploy root\n/srv/tree/x 750 deploy adm\n/srv/tree/x/two 640 deploy adm\n\
         /srv/tree/one 400 deploy adm\n/etc/passwd 644 root root",
    );
    // `tree` and `mode` want different things of one file, so each run does both.
    let c = c.tasks(
        "
        - name: folders
          file: {path: /srv/a/b/c, state: directory, mode: '0750', owner: deploy}
        - name: tree
          file: {path: /srv/tree, state: directory, recurse: true, owner: deploy, group: adm}
        - name: mode
          file: {path: /srv/tree/one, mode: 'u+x,g-rwx'}
        ",
    );
    c.converges(1);
    c.on_node("stat -c %a /srv/tree/one").prints("500");
    c.mends("chown root /srv/tree/x/two", 1);
    c.mends("rm -r /srv/a/b", 1);
    c.mends("chmod 777 /srv/a/b/c; chmod g+r /srv/tree/one", 2);
    c.repairs("chmod g+r /srv/tree/one", 1);
    c.on_node("rm -r /srv/a/b/c; touch /srv/a/b/c").succeeds();
    c.plan().exits(1).has(1, "failed").says("/srv/a/b/c");
    c.apply().exits(1).has(1, "failed").has(2, "blocked");
}

fn file_links() {
    let c = Case::new("links").tasks(
        "
        - name: soft
          file: {src: /etc/hostname, dest: /srv/soft, state: link}
        - name: relative
          file: {src: ../etc/hostname, dest: /srv/relative, state: link}
        - name: nowhere
          file: {src: /no/such, dest: /srv/nowhere, state: link, force: true}
        - name: hard
          file: {src: /srv/one, dest: /srv/two, state: hard, force: true}
        ",
    );
    c.on_node("mkdir -p /srv; echo 1 > /srv/one").succeeds();
    c.converges(4);
    c.on_node("readlink /srv/soft /srv/relative /srv/nowhere; stat -c %h /srv/one")
        .prints("/etc/hostname\n../etc/hostname\n/no/such\n2");
    c.repairs("ln -sfn /etc/passwd /srv/soft; rm /srv/nowhere; rm /srv/two", 3);
    c.repairs("rm /srv/two; cp /srv/one /srv/two", 1);
    c.on_node("[ /srv/one -ef /srv/two ] && cat /etc/hostname | wc -l").prints("1");
    c.on_node("rm /srv/relative; mkdir /srv/relative; touch /srv/relative/x").succeeds();
    c.plan().exits(1).has(1, "failed");
}

fn file_touch_and_absent() {
    let c = Case::new("touch").tasks(
        "
        - name: mark
          file: {path: /srv/mark, state: touch, modification_time: preserve, access_time: preserve, mode: '0600'}
        - name: gone
          file: {path: '{{item}}', state: absent}
          loop: [/srv/gone, /srv/tree, /srv/dangling, /srv/never]
        ",
    );
    c.on_node("mkdir -p /srv/tree/x; touch /srv/gone '/srv/tree/x/a b'; ln -s /no /srv/dangling").succeeds();
    c.converges(2);
    c.on_node("ls /srv; stat -c '%a %s' /srv/mark").prints("mark\n600 0");
    c.repairs("ln -s /etc/passwd /srv/gone", 1);
    c.repairs("rm /srv/mark; mkdir /srv/never", 2);
    c.on_node("test -s /etc/passwd").succeeds();
    c.ignores("touch -d 2001-01-01 /srv/mark");
    let c = c.tasks("- file: {path: /srv/mark, state: touch}");
    c.plan().changes(1);
    c.apply().changed(1);
    c.on_node("find /srv/mark -newermt 2002-01-01").prints("/srv/mark");
    let c = c.tasks("- file: {path: /srv/none, state: file}");
    c.apply().exits(1).says("/srv/none");
}

fn lineinfile() {
    let c = Case::new("line").tasks(
        "
        - name: end
          lineinfile: {path: /etc/conf, line: 'last = 1'}
        - name: top
          lineinfile: {path: /etc/conf, line: '# top', insertbefore: BOF}
        - name: after
          lineinfile: {path: /etc/conf, line: 'two = 2', insertafter: '^one'}
        - name: before
          lineinfile: {path: /etc/conf, line: 'zero = 0', insertbefore: '^one'}
        - name: gone
          lineinfile: {path: /etc/conf, regexp: '^bad', state: absent}
        - name: made
          lineinfile: {path: /etc/made, line: here, create: true, mode: '0600'}
        ",
    );
    c.on_node("printf 'one = 1\\nbad = 1\\nthree = 3\\nbad = 2' > /etc/conf; chmod 640 /etc/conf").succeeds();
    c.converges(6);
    c.on_node("cat /etc/conf").prints("# top\nzero = 0\none = 1\ntwo = 2\nthree = 3\nlast = 1");
    c.on_node("stat -c %a /etc/conf /etc/made; cat /etc/made").prints("640\n600\nhere");
    c.repairs("sed -i /two/d /etc/conf; echo 'bad = 3' >> /etc/conf", 2);
    c.repairs("rm /etc/made", 1);
    c.repairs("chmod 644 /etc/made", 1);
    c.ignores("echo more >> /etc/conf");
}

fn lineinfile_regexp() {
    let c = Case::new("regexp").tasks(
        "
        - name: port
          lineinfile: {path: /etc/conf, regexp: '^#?\\s*Port\\b', line: Port 2222}
        - name: swap
          lineinfile: {path: /etc/conf, regexp: '^(\\w+)=old-(\\d+)$', line: '\\1=new-\\2', backrefs: true}
        - name: look
          lineinfile: {path: /etc/conf, regexp: '^Match(?! all)', state: absent}
        - name: plain
          lineinfile: {path: /etc/conf, search_string: 'a.b', line: 'x=a.b[1]'}
        - name: first
          lineinfile: {path: /etc/conf, regexp: '^dup', line: dup=0, firstmatch: true}
        ",
    );
    c.on_node(
        "printf '#Port 22\\nkey=old-7\\nMatch user\\nMatch all\\nx=aab\\nx=a.b\\ndup=1\\ndup=2\\n' > /etc/conf; rm -f /etc/l; \
         ln /etc/conf /etc/l",
    )
    .succeeds();
    c.converges(5);
    c.on_node("cat /etc/conf").prints("Port 2222\nkey=new-7\nMatch all\nx=aab\nx=a.b[1]\ndup=0\ndup=2");
    c.repairs("sed -i 's/Port 2222/  Port 1/;s/new-7/old-8/' /etc/conf", 2);
    c.on_node("head -n 3 /etc/conf").prints("Port 2222\nkey=new-8\nMatch all");
}

fn lineinfile_validates() {
    let c = Case::new("validate").tasks(
        "
        - name: sshd
          lineinfile:
            path: /etc/ssh/sshd_config
            regexp: '^#?PermitRootLogin'
            line: PermitRootLogin {{allow}}
            validate: /usr/sbin/sshd -t -f %s
            backup: true
        ",
    );
    c.apply_with(&["-e", "allow=perhaps"]).exits(1).says("PermitRootLogin");
    c.on_node("grep -c perhaps /etc/ssh/sshd_config").prints("0");
    c.apply_with(&["-e", "allow=prohibit-password"]).changed(1);
    c.apply_with(&["-e", "allow=prohibit-password"]).changed(0);
    c.on_node("grep '^PermitRootLogin' /etc/ssh/sshd_config; ls /etc/ssh/sshd_config.* | grep -vc sshd_config.d")
        .mentions("PermitRootLogin prohibit-password");
    let c = c.tasks("- lineinfile: {path: /etc/none, line: x}");
    c.plan().exits(1).says("/etc/none");
}

fn stat() {
    let c = Case::anywhere("stat").tasks(
        "
        - name: look
          stat: {path: '{{item}}', get_checksum: true}
          loop: [/etc/passwd, /etc, /srv/stat-link, /srv/stat-none]
          register: seen
        - name: tell
          debug:
            msg: >-
              {{seen.results.[0].stat.isreg}} {{seen.results.[0].stat.mode}} {{seen.results.[0].stat.pw_name}}
              {{seen.results.[1].stat.isdir}} {{seen.results.[2].stat.islnk}} {{seen.results.[2].stat.lnk_target}}
              {{seen.results.[3].stat.exists}}
        - name: sum
          stat: {path: /etc/hostname, checksum_algorithm: sha256}
          register: sum
        - name: show
          debug: {msg: '{{sum.stat.checksum}}'}
        ",
    );
    c.on_node("mkdir -p /srv; ln -sfn /etc/hostname /srv/stat-link; rm -f /srv/stat-none").succeeds();
    let sum = c.on_node("sha256sum < /etc/hostname | cut -c1-64").stdout();
    for ran in [c.plan().changes(0), c.apply().changed(0)] {
        ran.said("tell", "true 0644 root true true /etc/hostname false").said("show", &sum);
    }
}

fn a_file_whose_owner_is_not_ours_to_give() {
    let c = Case::new("edit-user").tasks(
        "
        - name: edit
          become: true
          become_user: writer
          lineinfile: {path: /srv/eu/conf, line: more}
        - name: shared
          become: true
          become_user: writer
          lineinfile: {path: /srv/eu/shared, line: more}
        - name: seen
          become: true
          become_user: writer
          lineinfile: {path: /srv/eu/conf, line: last}
        ",
    );
    c.on_node(
        "id writer >/dev/null 2>&1 || useradd -G adm writer; rm -rf /srv/eu; install -d -o writer /srv/eu; \
         echo a >/srv/eu/conf; echo a >/srv/eu/shared; chgrp adm /srv/eu/shared; chmod 4664 /srv/eu/*",
    )
    .succeeds();
    c.apply().changed(3);
    c.is_satisfied();
    c.on_node("cd /srv/eu; stat -c '%a %U %G' conf shared; cat conf")
        .prints("664 writer writer\n664 writer adm\na\nmore\nlast");
    let c = c.tasks("- {become: true, become_user: writer, lineinfile: {path: /srv/eu/conf, line: x, owner: root}}");
    c.apply().exits(1).says("chown");
}
