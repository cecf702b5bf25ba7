//! apt.

use crate::kit::Case;

tests!(apt, apt_versions, apt_mends);

/// Small packages without dependencies that the nodes do not have.
fn apt() {
    let c = Case::new("apt").tasks(
        "
        - name: lists
          apt: {update_cache: true, cache_valid_time: 86400}
        - name: gone
          apt: {name: less, state: absent, purge: true}
        - name: packages
          apt: {name: [tree, 'ed'], state: present}
        ",
    );
    c.plan().exits(2);
    c.apply().exits(0).ended("packages", "changed").ended("gone", "changed");
    c.is_satisfied();
    let state = "dpkg-query -W -f '${Package} ${Status}\\n' tree ed less 2>/dev/null | grep -v not-installed";
    c.on_node(state).prints("ed install ok installed\ntree install ok installed");
    c.repairs("dpkg -P ed", 1);
    c.repairs("dpkg --force-all -r tree", 1);
    c.on_node(state).prints("ed install ok installed\ntree install ok installed");
    let c = c.tasks("- name: none\n  apt: {name: no-such-package-anywhere}");
    c.apply().exits(1).says("no-such-package-anywhere");
    let c = c.tasks(
        "
        - name: latest
          apt: {name: tree, state: latest}
        - name: removed
          apt: {name: ed, state: absent}
        ",
    );
    c.converges(1);
}

fn apt_versions() {
    let c = Case::new("versions");
    c.on_node("apt-get -q update && apt-get -qy download ed && mv ed_*.deb /srv/ed.deb").succeeds();
    let version = c.on_node("dpkg-deb -f /srv/ed.deb Version").stdout();
    let c = c.tasks(&format!("- name: exact\n  apt: {{name: 'ed={version}'}}"));
    c.converges(1);
    c.repairs("dpkg -P ed", 1);
    c.on_node("dpkg-query -W -f '${Version}' ed").prints(&version);
    let c = c.tasks("- apt: {name: 'ed=0.0.1-nosuch'}");
    c.apply().exits(1).says("ed");
    let c = c.tasks("- name: file\n  apt: {deb: /srv/ed.deb}");
    c.on_node("dpkg -P ed").succeeds();
    c.converges(1);
    c.repairs("dpkg -P ed", 1);
}

fn apt_mends() {
    let c = Case::new("mends").tasks("- name: tree\n  apt: {name: tree, update_cache: true, cache_valid_time: 86400}");
    c.on_node("apt-get -q update && apt-get -qy download ed && mv ed_*.deb /srv/ed.deb").succeeds();
    // A dpkg that was stopped between unpacking and configuring.
    c.on_node("dpkg --unpack /srv/ed.deb; dpkg-query -W -f '${Status}' ed").mentions("install ok unpacked");
    c.apply().changed(1);
    c.is_satisfied();
    c.on_node("dpkg-query -W -f '${Status}\\n' ed tree").prints("install ok installed\ninstall ok installed");
    c.on_node("dpkg --unpack /srv/ed.deb").succeeds();
    let c = c.tasks("- name: ed\n  apt: {name: ed}");
    c.plan().changes(1);
    c.apply().changed(1);
    c.is_satisfied();
}
