//! What other systems have, the real programs on a Debian node: dnf, zypper, pacman, OpenRC, SELinux's tools.

use crate::kit::Case;

tests!(rpm_managers, pacman, openrc, selinux, seboolean);

/// A node with these Debian packages.
fn with(title: &str, packages: &str) -> Case {
    let c = Case::new(title);
    c.on_node(&format!(
        "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && \
         apt-get -o Dpkg::Options::=--force-unsafe-io install -qqy --no-install-recommends {packages} >/dev/null 2>&1"
    ))
    .succeeds();
    c
}

/// bird 1.0 and 2.0, the same with a long name, nest (which needs both) and lone. Debian's rpm has its database elsewhere than
/// zypper has it.
const RPMS: &str = r#"
    set -e; mkdir -p /etc/rpm /srv/spec /srv/repo /etc/yum.repos.d /etc/zypp/repos.d; cd /srv/spec
    echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros
    made() {
        printf 'Name: %s\nVersion: %s\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%s\n%%description\nx\n%%files\n' "$@" > spec
        rpmbuild --quiet -bb --define '_rpmdir /srv/spec/out' --define '_topdir /srv/spec' spec
    }
    long=bird-with-a-name-so-long-that-no-column-of-any-table-holds-it
    for v in 1.0 2.0; do made bird $v "Provides: singer = $v"; made $long $v ''; done
    made nest 1.0 "Requires: bird, $long"; made lone 1.0 ''
    mv out/*/*.rpm /srv/repo; createrepo_c -q /srv/repo
    printf '[mine]\nname=mine\nbaseurl=file:///srv/repo\ngpgcheck=0\nautorefresh=1\n' | tee /etc/yum.repos.d/mine.repo > /etc/zypp/repos.d/mine.repo"#;

const LONG: &str = "bird-with-a-name-so-long-that-no-column-of-any-table-holds-it";

fn rpm_managers() {
    let c = with("rpm", "rpm createrepo-c dnf zypper");
    c.on_node(RPMS).succeeds();
    let c = dnf(c);
    c.on_node("rpm -qa | xargs -r rpm -e 2>/dev/null; rpm -qa").prints("");
    zypper(c);
}

const RPM: &str = "rpm -qa --qf '%{NAME} %{VERSION}\\n' | sort";

fn dnf(c: Case) -> Case {
    let c = c.tasks(&format!("- name: p\n  yum: {{name: [bird-1.0, {LONG}-1.0, lone]}}"));
    c.converges(1);
    c.on_node(RPM).prints(&format!("bird 1.0\n{LONG} 1.0\nlone 1.0"));
    c.repairs("rpm -e lone 2>/dev/null", 1);
    // A file is the newest there is; it is no reason to upgrade the others.
    let c = c.tasks("- name: p\n  dnf: {name: /srv/repo/lone-1.0-1.noarch.rpm, state: latest}");
    c.is_satisfied();
    c.repairs("rpm -e lone 2>/dev/null", 1);
    c.on_node(RPM).prints(&format!("bird 1.0\n{LONG} 1.0\nlone 1.0"));
    let c = c.tasks(&format!(
        "- name: p\n  dnf: {{name: [bird, {LONG}, nest], state: latest, update_only: true, disablerepo: '*', enablerepo: mine}}"
    ));
    c.repairs("true", 1);
    c.on_node(RPM).prints(&format!("bird 2.0\n{LONG} 2.0\nlone 1.0"));
    let c = c.tasks("- name: p\n  dnf: {name: ['bird >= 2.0', singer]}");
    c.is_satisfied();
    let c = c.tasks("- name: p\n  dnf: {name: 'bird < 2.0'}");
    c.repairs("true", 1);
    c.on_node("rpm -q bird").prints("bird-1.0-1.noarch");
    let c = c.tasks("- name: p\n  dnf: {name: '*', state: latest}");
    c.repairs("true", 1);
    c.on_node("rpm -q bird").prints("bird-2.0-1.noarch");
    let c = c.tasks("- name: p\n  dnf: {update_cache: true}");
    c.plan().changes(0);
    c.apply().changed(0);
    // What nothing needs any more.
    let c = c.tasks("- name: p\n  dnf: {autoremove: true}");
    c.on_node("dnf -qy remove bird* lone; dnf -qy install nest; rpm -e nest").succeeds();
    c.repairs("true", 1).says(LONG);
    c.on_node(RPM).prints("");
    let c = c.tasks("- name: p\n  package: {name: singer, state: absent, use: dnf}");
    c.repairs(&format!("dnf -qy install bird {LONG}"), 1);
    let c = c.tasks("- name: p\n  dnf: {name: 'bird*', state: absent}");
    c.repairs("true", 1);
    let c = c.tasks("- name: p\n  package: {name: [lone, nosuch], state: present, use: dnf}");
    c.plan().changes(1);
    c.apply().exits(1).says("Unable to find a match: nosuch");
    let c = c.tasks("- name: p\n  dnf: {name: bird, state: latest, enablerepo: none}");
    c.plan().exits(1).says("dnf cannot tell what there is: Error: Unknown repo: 'none'");
    // A Debian host stays one.
    let c = c.tasks(
        "
        - package: {name: tree, state: present}
        - package_facts: {manager: rpm}
        - name: say
          debug: {msg: '{{facts.package_manager}} {{packages.lone.[0].version}} {{packages.lone.[0].source}}'}
        ",
    );
    c.on_node("dnf -qy install lone").succeeds();
    c.apply().changed(1).said("say", "apt 1.0 rpm");
    c.on_node("dpkg-query -W -f '${Status}' tree").prints("install ok installed");
    c
}

fn zypper(c: Case) {
    let c = c.tasks(&format!("- name: p\n  zypper: {{name: [bird=1.0, {LONG}-1.0, lone]}}"));
    c.converges(1);
    c.on_node(RPM).prints(&format!("bird 1.0\n{LONG} 1.0\nlone 1.0"));
    let c = c.tasks(&format!("- name: p\n  zypper: {{name: [bird, {LONG}], state: latest}}"));
    c.repairs("true", 1);
    c.on_node(RPM).prints(&format!("bird 2.0\n{LONG} 2.0\nlone 1.0"));
    // zypper takes nothing older, and calls that a success.
    let c = c.tasks("- name: p\n  zypper: {name: bird=1.0}");
    c.apply().exits(1).says("zypper says it is done, but this is not there: bird=1.0");
    let c = c.tasks("- name: p\n  zypper: {name: bird=1.0, oldpackage: true}");
    c.repairs("true", 1);
    let c = c.tasks("- name: p\n  zypper: {name: '*', state: latest, update_cache: true}");
    c.apply().changed(1);
    c.apply().changed(0);
    c.on_node("rpm -q bird").prints("bird-2.0-1.noarch");
    // Another zypper is waited for.
    let c = c.tasks("- name: p\n  package: {name: singer, state: absent, use: zypper}");
    c.repairs("(sleep 4 | zypper shell >/dev/null 2>&1) & sleep 0.5", 1);
    c.on_node(RPM).prints(&format!("{LONG} 2.0\nlone 1.0"));
    let c = c.tasks("- name: p\n  package: {name: nosuch, state: present, use: zypper}");
    c.plan().changes(1);
    c.apply().exits(1).says("No provider of 'nosuch' found");
}

/// bird 1.0 (2.0 is there, and not in the repository yet), nest (which needs it) and lone.
const ARCH: &str = r#"
    set -e; mkdir -p /srv/repo; cd /srv/repo
    made() {
        d=/srv/made/$1; mkdir -p $d/opt; echo "$2" > $d/opt/$1
        printf 'pkgname = %s\npkgver = %s-1\npkgdesc = x\nbuilddate = 1\nsize = 4\narch = any\n%s\n' "$@" > $d/.PKGINFO
        tar -C $d -czf $1-$2-1-any.pkg.tar.gz .PKGINFO opt
    }
    for v in 1.0 2.0; do made bird $v "provides = singer=$v"; done; made nest 1.0 'depend = bird'; made lone 1.0 ''
    repo-add -q mine.db.tar.gz bird-1* nest* lone*; touch -d '1 hour ago' mine.db.tar.gz
    printf '[options]\nArchitecture = auto\nSigLevel = Never\n[mine]\nServer = file:///srv/repo\n' > /etc/pacman.conf"#;

fn pacman() {
    let c = with("pacman", "pacman-package-manager makepkg libarchive-tools");
    c.on_node(ARCH).succeeds();
    let c = c.tasks("- name: p\n  pacman: {name: [bird, lone], update_cache: true}");
    c.converges(1);
    c.on_node("pacman -Q").prints("bird 1.0-1\nlone 1.0-1");
    c.repairs("pacman --noconfirm -R lone >/dev/null", 1);
    let c = c.tasks("- name: lists\n  pacman: {update_cache: true}");
    c.apply().changed(0);
    c.on_node("cd /srv/repo; repo-add -q mine.db.tar.gz bird-2*").succeeds();
    c.apply().changed(1);
    let c = c.tasks("- name: p\n  pacman: {name: [lone, bird, nest], state: latest}");
    c.repairs("true", 1);
    c.on_node("pacman -Q").prints("bird 2.0-1\nlone 1.0-1\nnest 1.0-1");
    // Files and versions.
    let c = c.tasks("- name: p\n  pacman: {name: /srv/repo/bird-1.0-1-any.pkg.tar.gz}");
    c.repairs("true", 1);
    let c = c.tasks("- name: p\n  pacman: {name: ['bird>=2.0', singer]}");
    c.repairs("true", 1);
    let c = c.tasks("- name: p\n  pacman: {name: bird=1.0}");
    c.apply().exits(1).says("target not found: bird=1.0");
    let c = c.tasks("- name: p\n  pacman: {upgrade: true}");
    c.is_satisfied();
    c.repairs("pacman --noconfirm -U /srv/repo/bird-1.0-1-any.pkg.tar.gz >/dev/null", 1);
    // bird provides it, and stays; nest needs bird.
    let c = c.tasks("- name: p\n  package: {name: [singer, lone], state: absent, use: pacman}");
    c.repairs("true", 1);
    c.on_node("pacman -Q").prints("bird 2.0-1\nnest 1.0-1");
    let c = c.tasks("- name: p\n  pacman: {name: bird, state: absent}");
    c.apply().exits(1).says("breaks dependency 'bird' required by nest");
    let c = c.tasks("- name: p\n  pacman: {name: bird, state: absent, force: true}");
    c.repairs("true", 1);
    let c = c.tasks("- name: p\n  package: {name: nosuch, state: present, use: pacman}");
    c.plan().changes(1);
    c.apply().exits(1).says("target not found: nosuch");
    let c = c.tasks(
        "
        - package_facts: {manager: pacman}
        - name: say
          debug: {msg: '{{packages.nest.[0].version}} {{packages.nest.[0].source}}'}
        ",
    );
    c.apply().said("say", "1.0-1 pacman");
}

/// Debian's OpenRC beside systemd: it takes the boot for done when there is a run level.
const OPENRC: &str = r#"
    set -e; mkdir -p /run/openrc; touch /run/openrc/softlevel
    printf '#!/sbin/openrc-run\ncommand=/bin/sleep\ncommand_args=1000\ncommand_background=true\npidfile=/run/sleeper.pid\nextra_started_commands=reload\nreload() { echo again >> /run/reloaded; }\n' > /etc/init.d/sleeper
    chmod 755 /etc/init.d/sleeper"#;

fn openrc() {
    let c = Case::new("openrc").tasks("- name: s\n  service: {name: x, state: started, use: openrc}");
    c.apply().exits(1).says("neither systemd nor OpenRC");
    c.on_node("apt-get -qq update; apt-get install -qqy --no-install-recommends openrc >/dev/null 2>&1").succeeds();
    c.on_node(OPENRC).succeeds();
    let running = "kill -0 $(cat /run/sleeper.pid) && ls /etc/runlevels/default | grep -c sleeper";
    let c = c.tasks("- name: s\n  service: {name: sleeper, state: started, enabled: true, use: openrc}");
    c.converges(1);
    c.on_node(running).prints("1");
    c.repairs("rc-service -q sleeper stop; rc-update -q del sleeper default", 1);
    // Its process died: OpenRC says so where its own program started it, and starts it no more. Debian's does not note it.
    c.repairs(
        "kill $(cat /run/sleeper.pid); mkdir -p /run/openrc/daemons/sleeper; \
         printf 'exec=/bin/sleep\\npidfile=/run/sleeper.pid\\n' > /run/openrc/daemons/sleeper/001; \
         sleep 0.2; ! rc-service sleeper status >/dev/null 2>&1",
        1,
    );
    c.on_node(running).prints("1");
    let c = c.tasks("- name: s\n  service: {name: sleeper, state: restarted, sleep: 1, use: openrc}");
    let old = c.on_node("cat /run/sleeper.pid").stdout();
    c.apply().changed(1);
    c.on_node(&format!("{running}; ! kill -0 {old} 2>/dev/null")).prints("1");
    let c = c.tasks("- name: s\n  service: {name: sleeper, state: reloaded, use: openrc}");
    c.apply().changed(1);
    c.on_node("cat /run/reloaded").prints("again");
    let c = c.tasks("- name: s\n  service: {name: sleeper, state: stopped, enabled: false, use: openrc}");
    c.converges(1);
    c.on_node("ls /etc/runlevels/default | grep -c sleeper; kill -0 $(cat /run/sleeper.pid) 2>/dev/null || echo gone")
        .prints("0\ngone");
    let c = c.tasks("- service: {name: nosuch, state: started, use: openrc}");
    c.plan().exits(1).says("no service nosuch");
    let c = c.tasks("- service: {name: sleeper, enabled: true, runlevel: none, use: openrc}");
    c.apply().exits(1).says("`none' is not a valid runlevel");
}

/// The kernel of the nodes has SELinux off: what is kept for its next start is all that can be seen.
fn selinux() {
    let c = with("selinux", "selinux-utils");
    let c = c.tasks(
        "
        - name: s
          selinux: {state: enforcing, policy: default}
          register: s
        - name: say
          debug: {msg: '{{s.reboot_required}}'}
        ",
    );
    c.on_node(
        "printf '# SELINUX= can be\\nSELINUX=permissive\\nSELINUXTYPE=mls\\nSETLOCALDEFS=0\\n' > /etc/selinux/config",
    )
    .succeeds();
    c.converges(1).said("say", "true");
    c.on_node("getenforce; cat /etc/selinux/config")
        .prints("Disabled\n# SELINUX= can be\nSELINUX=enforcing\nSELINUXTYPE=default\nSETLOCALDEFS=0");
    c.repairs("sed -i /^SELINUX=/d /etc/selinux/config", 1);
    let c = c.tasks(
        "
        - name: s
          selinux: {state: disabled}
          register: s
        - name: say
          debug: {msg: '{{s.reboot_required}}'}
        ",
    );
    c.converges(1).said("say", "false");
}

/// The smallest policy with a switch.
const POLICY: &str = r#"
    set -e; mkdir -p /etc/selinux/little/policy /etc/selinux/little/contexts/files /var/lib/selinux/little
    printf 'SELINUX=permissive\nSELINUXTYPE=little\n' > /etc/selinux/config
    cat > /srv/base.cil <<'CIL'
(handleunknown allow) (mls true) (sid kernel) (sidorder (kernel)) (class file (read)) (classorder (file))
(sensitivity s0) (sensitivityorder (s0)) (category c0) (categoryorder (c0)) (sensitivitycategory s0 (c0))
(user system_u) (role object_r) (role system_r) (type t) (roletype object_r t) (roletype system_r t)
(userrole system_u object_r) (userrole system_u system_r) (userlevel system_u (s0)) (userrange system_u ((s0) (s0)))
(sidcontext kernel (system_u object_r t ((s0) (s0)))) (allow t self (file (read)))
(boolean can_fly false) (booleanif can_fly (true (allow t t (file (read)))))
CIL
    semodule -N -s little -i /srv/base.cil"#;

fn seboolean() {
    let c = with("seboolean", "selinux-utils policycoreutils");
    c.on_node(POLICY).succeeds();
    let c = c.tasks("- name: b\n  seboolean: {name: can_fly, state: true, persistent: true}");
    c.plan().exits(1).says("SELinux is not on");
    let c =
        c.tasks("- name: b\n  seboolean: {name: can_fly, state: true, persistent: true, ignore_selinux_state: true}");
    c.converges(1);
    let kept = "grep can_fly /var/lib/selinux/little/active/booleans.local";
    c.on_node(kept).prints("can_fly=1");
    c.repairs("setsebool -P -N can_fly off", 1);
    c.on_node(kept).prints("can_fly=1");
    let c =
        c.tasks("- name: b\n  seboolean: {name: can_swim, state: true, persistent: true, ignore_selinux_state: true}");
    c.apply().exits(1).says("can_swim is not defined");
}
