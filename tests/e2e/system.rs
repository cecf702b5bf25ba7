//! hostname, timezone, sysctl, systemd, service, wait_for.

use crate::kit::Case;

tests!(
    hostname,
    timezone,
    sysctl,
    sysctl_spellings,
    systemd,
    systemd_templates,
    systemd_restarts,
    systemd_fails,
    service,
    wait_for,
    wait_for_in_vain
);

fn hostname() {
    let c = Case::new("hostname").tasks("- name: name\n  hostname: {name: web-1}");
    c.converges(1);
    c.on_node("hostname; cat /etc/hostname; hostnamectl --static").prints("web-1\nweb-1\nweb-1");
    c.repairs("hostname other", 1);
    c.repairs("echo other > /etc/hostname", 1);
    c.on_node("hostname; cat /etc/hostname").prints("web-1\nweb-1");
}

fn timezone() {
    let c = Case::new("timezone").tasks("- name: zone\n  timezone: {name: Europe/Berlin}");
    c.converges(1);
    c.on_node("readlink -f /etc/localtime; TZ= date -d 2024-01-01T12:00Z >/dev/null; date -d 2024-01-01T12:00Z +%H%Z")
        .prints("/usr/share/zoneinfo/Europe/Berlin\n13CET");
    c.repairs("ln -sf /usr/share/zoneinfo/UTC /etc/localtime", 1);
    c.repairs("rm /etc/localtime", 1);
    let c = c.tasks("- timezone: {name: Europe/Nowhere}");
    c.apply().exits(1).says("Europe/Nowhere");
    c.on_node("date -d 2024-01-01T12:00Z +%H").prints("13");
}

fn sysctl() {
    let c = Case::new("sysctl").tasks(
        "
        - name: forward
          sysctl: {name: net.ipv4.ip_forward, value: '1', sysctl_file: /etc/sysctl.d/90-k.conf, sysctl_set: true}
        - name: keepalive
          sysctl: {name: net.ipv4.tcp_keepalive_time, value: 600, sysctl_file: /etc/sysctl.d/90-k.conf}
        - name: range
          sysctl: {name: net.ipv4.ip_local_port_range, value: '20000 60000', sysctl_file: /etc/sysctl.d/90-k.conf}
        - name: gone
          sysctl: {name: net.ipv4.conf.all.log_martians, state: absent, sysctl_file: /etc/sysctl.d/91-k.conf}
        ",
    );
    c.on_node(
        "echo 0 > /proc/sys/net/ipv4/ip_forward; printf '# c\\nnet.ipv4.conf.all.log_martians=0\\n' > /etc/sysctl.d/91-k.conf",
    )
    .succeeds();
    c.converges(4);
    c.on_node("cd /proc/sys/net/ipv4 && cat ip_forward tcp_keepalive_time; cat ip_local_port_range | tr '\\t' ' '")
        .prints("1\n600\n20000 60000");
    c.on_node("sort /etc/sysctl.d/90-k.conf | tr -d ' ' | head -n 1; cat /etc/sysctl.d/91-k.conf")
        .prints("net.ipv4.ip_forward=1\n# c");
    c.repairs("echo 0 > /proc/sys/net/ipv4/ip_forward", 1);
    c.repairs("echo 500 > /proc/sys/net/ipv4/tcp_keepalive_time", 1);
    c.repairs("sed -i /ip_forward/d /etc/sysctl.d/90-k.conf", 1);
    c.repairs("sed -i 's/20000/30000/' /etc/sysctl.d/90-k.conf", 1);
    c.ignores("echo '# c' >> /etc/sysctl.d/90-k.conf");
    let c = c.tasks("- sysctl: {name: net.ipv4.no_such_thing, value: 1, sysctl_set: true}");
    c.apply().exits(1).says("net.ipv4.no_such_thing");
    // The kernel changes redirects along with forwarding, so a plan makes no promise about them.
    let c = c.tasks(
        "
        - sysctl: {name: net.ipv4.ip_forward, value: 1}
        - sysctl: {name: net.ipv4.conf.all.accept_redirects, value: 0}
        ",
    );
    c.on_node("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/all/accept_redirects")
        .succeeds();
    c.plan().exits(2).has(1, "changed").has(1, "unknown");
    c.apply().changed(2);
    c.is_satisfied();
}

/// Values that the kernel writes otherwise than the task does, and one that can only be written.
fn sysctl_spellings() {
    let c = Case::new("spellings").tasks(
        "
        - name: ports
          sysctl: {name: net.ipv4.ip_local_reserved_ports, value: '30000-32767,8080', sysctl_file: /etc/sysctl.d/90-s.conf}
        - name: octal
          sysctl: {name: net.ipv4.tcp_keepalive_probes, value: '010', sysctl_file: /etc/sysctl.d/90-s.conf, sysctl_set: true}
        ",
    );
    c.converges(2);
    c.on_node("cd /proc/sys/net/ipv4 && cat ip_local_reserved_ports tcp_keepalive_probes")
        .prints("8080,30000-32767\n8");
    c.repairs("echo 8080 > /proc/sys/net/ipv4/ip_local_reserved_ports", 1);
    let c = c.tasks(
        "- sysctl: {name: net.ipv4.route.flush, value: 1, sysctl_set: true, reload: false, sysctl_file: /etc/sysctl.d/91-s.conf}",
    );
    c.apply().changed(1);
    c.apply().changed(1);
}

const UNIT: &str = "[Unit]\nDescription=Busy\n[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/touch /run/reloaded\n\
                    [Install]\nWantedBy=multi-user.target\n";

fn systemd() {
    let c = Case::new("systemd").file("files/busy.service", UNIT).tasks(
        "
        - name: unit
          copy: {src: busy.service, dest: /etc/systemd/system/busy.service}
        - name: up
          systemd: {name: busy, state: started, enabled: true}
        - name: masked
          systemd: {name: e2scrub_all.service, masked: true}
        - name: 'off'
          systemd: {name: other, state: stopped, enabled: false}
        ",
    );
    c.on_node(
        "cd /etc/systemd/system; printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' \
         > other.service; systemctl daemon-reload; systemctl -q enable --now other",
    )
    .succeeds();
    c.plan().exits(2);
    c.apply().changed(4);
    c.is_satisfied();
    let state = "systemctl is-active busy other; systemctl is-enabled busy other e2scrub_all";
    let wanted = "active\ninactive\nenabled\ndisabled\nmasked";
    c.on_node(state).prints(wanted);
    // A unit may bring others along, so of the units after the first plan says nothing.
    c.mends("systemctl stop busy", 1);
    c.mends("systemctl -q disable busy", 1);
    c.repairs("systemctl start other", 1);
    c.mends("systemctl -q enable other; systemctl -q disable --now busy", 2);
    c.mends("systemctl kill -s KILL busy; while systemctl -q is-active busy; do sleep 0.05; done", 1);
    c.on_node(state).prints(wanted);
}

/// systemd tells nothing of a template, nor of what is asked for after it.
fn systemd_templates() {
    let c = Case::new("templates").file("files/busy.service", UNIT).tasks(
        "
        - name: template
          systemd: {name: getty@, enabled: true}
        - name: none
          systemd: {name: nosuch@, enabled: true}
          ignore_errors: true
        - name: other
          systemd: {name: other, state: stopped}
        - name: unit
          copy: {src: busy.service, dest: /usr/local/lib/systemd/system/busy.service}
        - name: up
          systemd: {name: busy, state: started}
        - name: facts
          service_facts: {}
        - name: alias
          assert: {that: ['eq services.[sshd.service].state \"active\"']}
        ",
    );
    c.on_node(
        "mkdir -p /usr/local/lib/systemd/system; printf '[Service]\\nExecStart=sleep infinity\\n' > /etc/systemd/system/other.service; \
         systemctl daemon-reload; systemctl start other",
    )
    .succeeds();
    c.apply().changed(3).says("nosuch@");
    c.on_node("systemctl is-active other busy").prints("inactive\nactive");
    c.apply().changed(0);
}

fn systemd_restarts() {
    let c = Case::new("restarts").file("files/busy.service", UNIT).tasks(
        "
        - name: restart
          systemd: {name: busy, state: restarted}
        - name: reload
          systemd: {name: busy, state: reloaded}
        ",
    );
    c.on_node(&format!("printf '%s' '{UNIT}' > /etc/systemd/system/busy.service; systemctl daemon-reload")).succeeds();
    c.apply().changed(2);
    let pid = c.on_node("systemctl show -P MainPID busy").stdout();
    assert_ne!(pid, "0");
    c.on_node("rm /run/reloaded").succeeds();
    c.plan().changes(2).is_what(&c.apply().changed(2));
    let next = c.on_node("test -e /run/reloaded && systemctl show -P MainPID busy").stdout();
    assert!(next != pid && next != "0" && !next.is_empty(), "{pid} then {next}");
    // A unit file that is newer than what systemd knows is read again without being asked for.
    c.on_node("sed -i 's/infinity/1d/' /etc/systemd/system/busy.service").succeeds();
    c.apply().changed(2);
    c.on_node(
        "systemctl show -P NeedDaemonReload busy; tr '\\0' ' ' < /proc/$(systemctl show -P MainPID busy)/cmdline",
    )
    .prints("no\n/bin/sleep 1d ");
    let c = c.tasks("- systemd: {daemon_reload: true}");
    c.apply().exits(0);
}

fn systemd_fails() {
    let c = Case::new("fails").tasks("- name: broken\n  systemd: {name: broken, state: started}");
    c.on_node(
        "printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo cannot find the moon; exit 3\"\\n' \
         > /etc/systemd/system/broken.service; systemctl daemon-reload",
    )
    .succeeds();
    c.apply().exits(1).has(1, "failed").says("cannot find the moon").says("broken");
    let c = c.tasks("- name: none\n  systemd: {name: nosuchunit, state: started}");
    c.apply().exits(1).says("nosuchunit");
    c.plan().exits(1).says("nosuchunit");
}

fn service() {
    let c = Case::new("service").tasks("- name: other\n  service: {name: other, state: started, enabled: yes}");
    c.on_node(
        "cd /etc/systemd/system; printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' \
         > other.service; systemctl daemon-reload",
    )
    .succeeds();
    c.converges(1);
    c.on_node("systemctl is-active other; systemctl is-enabled other").prints("active\nenabled");
    c.repairs("systemctl -q disable --now other", 1);
}

fn wait_for() {
    let c = Case::anywhere("wait").tasks(
        "
        - name: ssh
          wait_for: {port: 22, timeout: 5}
        - name: later
          shell: (sleep 1; echo 'it is ready 42' > /srv/ready) >/dev/null 2>&1 &
        - name: file
          wait_for: {path: /srv/ready, search_regex: 'ready (\\d+)', timeout: 20}
          register: ready
        - name: tell
          debug: {msg: '{{ready.match_groups.[0]}}'}
        - name: closed
          wait_for: {port: 4, state: stopped, timeout: 5}
        - name: gone
          wait_for: {path: /srv/never, state: absent, timeout: 5}
        ",
    );
    c.on_node("mkdir -p /srv; rm -f /srv/ready /srv/never").succeeds();
    c.apply().changed(1).said("tell", "42");
}

fn wait_for_in_vain() {
    let c = Case::anywhere("in-vain").tasks(
        "
        - name: port
          wait_for: {port: 4, timeout: 1, msg: nobody is there}
          ignore_errors: true
          register: port
        - name: file
          wait_for: {path: /srv/never-made, timeout: 1}
        ",
    );
    let ran = c.apply().exits(1).ended("port", "ignored").ended("file", "failed").says("nobody is there");
    ran.says("/srv/never-made");
    // A plan does not wait.
    c.plan().exits(0);
}
