//! Disks that take nothing.

use crate::kit::{DONE, FAILED, Project, take};

tests!(a_full_disk, a_read_only_file_system);

fn a_full_disk() {
    let [n, m] = take();
    let p = Project::new(
        &(n.host("") + &m.host("")),
        "tasks:\n- name: small\n  copy: {src: small, dest: /opt/full/file}\n- name: big\n  copy: {src: big, dest: /opt/full/file}\n- name: last\n  stat: {path: /}\n",
    );
    p.write("files/small", "small\n");
    p.write("files/big", &"0123456789abcde\n".repeat(20_000));
    m.run("mkdir -p /opt/full");
    n.run("mkdir -p /opt/full && mount -t tmpfs -o size=64k none /opt/full");
    let r = p.apply(&[]);
    r.exits(FAILED)
        .says(&[
            n.name(),
            "big (copy, site.yml:6)",
            "cannot put /opt/full/file in place",
            "df -h /opt/full",
            "No space left on device",
            "again",
            "--limit",
        ])
        .counts(n.name(), [0, 1, 1, 1, 0])
        .counts(m.name(), [1, 2, 0, 0, 0])
        .within(20);
    assert_eq!(n.run("cat /opt/full/file; ls -A /opt/full"), "small\nfile\n");
    // With room again, the same command goes on.
    n.run("mount -o remount,size=4m /opt/full");
    p.apply(&["--limit", n.name()]).exits(DONE);
    n.run("umount /opt/full");
}

fn a_read_only_file_system() {
    let [n, m] = take();
    let p = Project::new(
        &(n.host("") + &m.host("")),
        "tasks:\n- name: unwritable\n  copy: {content: new, dest: /opt/fixed/file}\n- name: last\n  stat: {path: /}\n",
    );
    m.run("mkdir -p /opt/fixed");
    n.run("mkdir -p /opt/fixed && mount -t tmpfs none /opt/fixed && echo old >/opt/fixed/file && mount -o remount,ro /opt/fixed");
    p.apply(&[])
        .exits(FAILED)
        .says(&[
            n.name(),
            "unwritable (copy, site.yml:4)",
            "cannot put /opt/fixed/file in place",
            "Read-only file system",
            "findmnt",
            "again",
        ])
        .counts(n.name(), [0, 0, 1, 1, 0])
        .counts(m.name(), [1, 1, 0, 0, 0])
        .within(20);
    assert_eq!(n.run("cat /opt/fixed/file; ls -A /opt/fixed"), "old\nfile\n");
    n.run("umount /opt/fixed");
}
