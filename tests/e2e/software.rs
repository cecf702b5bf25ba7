//! apt_repository, deb822_repository, locale_gen; and apk, which Debian does not have, by a stand-in.

use crate::kit::Case;

tests!(apt_repository, deb822_repository, locale_gen, apk);

/// A repository with one package, signed by a key made for it.
const REPOSITORY: &str = r#"
    set -e; apt-get -qq update; apt-get install -qqy gnupg >/dev/null 2>&1
    mkdir -p /srv/made/DEBIAN /srv/repo; cd /srv/repo
    printf 'Package: little\nVersion: 1.0\nArchitecture: all\nMaintainer: me <me@example.com>\nDescription: little\n' > /srv/made/DEBIAN/control
    dpkg-deb -b /srv/made little.deb >/dev/null
    { dpkg-deb -f little.deb; echo 'Filename: ./little.deb'; echo "Size: $(stat -c %s little.deb)"; echo "SHA256: $(sha256sum <little.deb | cut -d' ' -f1)"; } > Packages
    { echo 'Suite: x'; echo "Date: $(date -Ru)"; echo 'SHA256:'; echo " $(sha256sum <Packages | cut -d' ' -f1) $(stat -c %s Packages) Packages"; } > Release
    export GNUPGHOME=/srv/gpg; mkdir -m 700 $GNUPGHOME
    gpg -q --batch --passphrase '' --quick-gen-key me@example.com default default never 2>/dev/null
    gpg -q --clearsign -o InRelease Release
    gpg -q --armor --export > key.asc; gpg -q --export > key.gpg
    chmod -R a+rX /srv/repo"#;

fn apt_repository() {
    let c = Case::new("apt-repository").tasks(
        "
        - name: source
          apt_repository: {repo: 'deb [signed-by=/srv/repo/key.asc] file:/srv/repo ./', filename: mine, mode: '0640'}
        - name: package
          apt: {name: little}
        ",
    );
    c.on_node(REPOSITORY).succeeds();
    c.plan().exits(2);
    c.apply().changed(2);
    c.is_satisfied();
    let file = "/etc/apt/sources.list.d/mine.list";
    c.on_node(&format!("cat {file}; dpkg-query -W little; stat -c %a {file}"))
        .prints("deb [signed-by=/srv/repo/key.asc] file:/srv/repo ./\nlittle\t1.0\n640");
    c.mends(&format!("sed -i 's/^/# /' {file}"), 1);
    c.ignores(&format!("mv {file} /etc/apt/sources.list.d/other.list"));
    // What apt cannot use is taken back.
    let c = c.tasks("- apt_repository: {repo: 'deb file:/srv/none x main', update_cache_retries: 0}");
    c.plan().exits(2);
    c.apply().exits(1).says("the source was taken back");
    c.on_node("ls /etc/apt/sources.list.d; apt-get -q update >/dev/null && echo fine").prints("other.list\nfine");
    let c =
        c.tasks("- apt_repository: {repo: 'deb [ signed-by=/srv/repo/key.asc ] file:/srv/repo  ./', state: absent}");
    c.plan().exits(2);
    c.apply().changed(1);
    c.is_satisfied();
    c.on_node("ls /etc/apt/sources.list.d").prints("");
}

fn deb822_repository() {
    let c = Case::new("deb822");
    c.on_node(REPOSITORY).succeeds();
    let armored = c.on_node("cat /srv/repo/key.asc").stdout();
    let binary: Vec<u8> = {
        use base64::Engine as _;
        let text = c.on_node("base64 -w0 /srv/repo/key.gpg").stdout();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let c = c.file("key.asc", format!("{armored}\n")).file("key.gpg", binary);
    let tasks = |key: &str| {
        format!(
            "
            - name: source
              deb822_repository: {{name: My repo, uris: 'file:/srv/repo', suites: ./, signed_by: '{key}'}}
              register: d
              notify: lists
            - meta: flush_handlers
            - name: package
              apt: {{name: little}}
            - name: say
              debug: {{msg: '{{{{d.dest}}}} {{{{d.key_filename}}}}'}}
            "
        )
    };
    let book = |c: Case, key: &str| {
        let c = c.tasks(&tasks(key));
        let text = std::fs::read_to_string(c.path().join("site.yml")).unwrap();
        c.file("site.yml", text + "  handlers:\n    - name: lists\n      apt: {update_cache: true}\n")
    };
    let here = format!("file://{}", c.path().display());
    let c = book(c, &format!("{here}/key.asc"));
    c.plan().exits(2);
    c.apply().exits(0).said("say", "/etc/apt/sources.list.d/my-repo.sources /etc/apt/keyrings/my-repo.asc");
    c.is_satisfied();
    c.on_node("dpkg-query -W little; cat /etc/apt/sources.list.d/my-repo.sources").prints(
        "little\t1.0\nX-Repolib-Name: My repo\nSigned-By: /etc/apt/keyrings/my-repo.asc\nSuites: ./\nTypes: deb\nURIs: file:/srv/repo",
    );
    c.mends("echo x >> /etc/apt/keyrings/my-repo.asc; chmod 600 /etc/apt/sources.list.d/my-repo.sources", 2);
    let c = book(c, &format!("{here}/key.gpg"));
    c.plan().exits(2);
    c.apply().exits(0).said("say", "/etc/apt/sources.list.d/my-repo.sources /etc/apt/keyrings/my-repo.gpg");
    c.is_satisfied();
    c.on_node("apt-get -q update 2>&1 | grep -c '^[WE]:'; true").prints("0");
    let c = c.tasks("- name: gone\n  deb822_repository: {name: My repo, state: absent}");
    c.converges(1);
    c.on_node("ls /etc/apt/keyrings /etc/apt/sources.list.d | grep -c repo; true").prints("0");
}

fn locale_gen() {
    let c = Case::new("locale-gen").tasks("- name: l\n  locale_gen: {name: [de_AT.UTF-8, nb_NO.UTF-8]}");
    c.apply().exits(1).says("no locale-gen");
    c.on_node("apt-get -qq update; apt-get install -qqy locales >/dev/null 2>&1; command -v locale-gen").succeeds();
    c.converges(1);
    c.on_node("locale -a | grep -c 'de_AT.utf8\\|nb_NO.utf8'; grep -c '^de_AT.UTF-8 UTF-8' /etc/locale.gen")
        .prints("2\n1");
    c.repairs("sed -i 's/^nb_NO/# nb_NO/' /etc/locale.gen; locale-gen >/dev/null", 1);
    let c = c.tasks("- name: l\n  locale_gen: {name: de_AT.UTF-8, state: absent}");
    c.converges(1);
    c.on_node("locale -a | grep -c de_AT; true").prints("0");
    let c = c.tasks("- locale_gen: {name: xx_XX.UTF-8}");
    c.plan().exits(1).says("knows no locale xx_XX.UTF-8");
}

/// What a stand-in begins with: packages that are there and packages to be had, a line each, and the words after the options.
const SHARED: &str = r#"#!/bin/sh
db=/srv/pk/db repo=/srv/pk/repo
has() { grep "^$1 " $db; }
version() { sed -n "s/^$1 //p" "$2"; }
put() { grep "^$1 " $repo >/dev/null || return 1; grep -v "^$1 " $db > $db.new; grep "^$1 " $repo >> $db.new; sort $db.new > $db; }
take() { has "$1" >/dev/null || return 1; grep -v "^$1 " $db > $db.new; mv $db.new $db; }
newer() { while read -r n v; do w=$(version "$n" $repo); [ -z "$w" ] || [ "$v" = "$w" ] || echo "$n $v $w"; done < $db; }
echo "${0##*/} $*" >> /srv/pk/log
"#;

/// Puts stand-ins on the node: `bash 1` is there, `bash 2` and `tree 1` are to be had.
fn stand_in(c: &Case, programs: &[(&str, &str)]) {
    let mut s = String::from(
        "set -e; mkdir -p /srv/pk; cd /srv/pk; echo 'bash 1' > db; printf 'bash 2\\ntree 1\\n' > repo; : > log\n",
    );
    for (at, text) in programs {
        s += &format!("cat > {at} <<'STAND_IN'\n{SHARED}{text}STAND_IN\nchmod 755 {at}\n");
    }
    c.on_node(&s).succeeds();
}

/// Present, latest, absent, by name and by `package`.
fn converges_with(c: Case, module: &str, manager: &str) -> Case {
    let c = c.tasks(&format!("- name: p\n  {module}: {{name: [bash, tree]}}"));
    c.converges(1);
    c.on_node("cat /srv/pk/db").prints("bash 1\ntree 1");
    c.repairs("echo 'bash 1' > /srv/pk/db", 1);
    let c = c.tasks(&format!("- name: p\n  {module}: {{name: [bash, tree], state: latest}}"));
    c.converges(1);
    c.on_node("cat /srv/pk/db").prints("bash 2\ntree 1");
    let c = c.tasks(&format!("- name: p\n  package: {{name: tree, state: absent, use: {manager}}}"));
    c.converges(1);
    c.on_node("cat /srv/pk/db").prints("bash 2");
    let c = c.tasks(&format!("- name: p\n  package: {{name: nosuch, state: present, use: {manager}}}"));
    c.plan().changes(1);
    c.apply().exits(1).says("nosuch");
    c
}

fn apk() {
    let c = Case::new("apk");
    let program = r#"
case "$*" in
  "info -e "*) shift 2; for n; do has "$n" | cut -d' ' -f1; done ;;
  "info -v") sed 's/ /-/;s/$/-r0/' $db ;;
  "version -l <") echo 'Installed:   Available:'; newer | while read -r n v w; do echo "$n-$v-r0    < $w-r0 "; done ;;
  add*) shift; for n; do case $n in -*) ;; *) put "$n" || { echo "ERROR: unable to select packages: $n (no such package)" >&2; exit 1; } ;; esac; done ;;
  del*) shift; for n; do take "$n"; done ;;
  update) ;;
  upgrade*) for n in $(newer | cut -d' ' -f1); do put "$n"; done ;;
  *) echo "what is $*?" >&2; exit 2 ;;
esac
"#;
    stand_in(&c, &[("/sbin/apk", program)]);
    let c = converges_with(c, "apk", "apk");
    c.on_node("echo 'bash 1' > /srv/pk/db").succeeds();
    let c = c.tasks("- name: p\n  apk: {upgrade: true, update_cache: true}");
    c.plan().changes(1);
    c.apply().changed(1);
    c.apply().changed(0);
    c.on_node("cat /srv/pk/db").prints("bash 2");
}
