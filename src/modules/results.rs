//! What a registered result can have, for the check before a run: a field that no module of the task's kind gives back is
//! a mistake.

use super::{ModuleDef, pages};
use crate::template::Shape;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// What any result can have: how the task ended, and what a command that failed has printed.
const ANY: &[&str] = &[
    "ansible_job_id",
    "ansible_loop_var",
    "attempts",
    "changed",
    "elapsed",
    "failed",
    "false_condition",
    "finished",
    "item",
    "msg",
    "rc",
    "results_file",
    "skip_reason",
    "skipped",
    "started",
    "stderr",
    "stderr_lines",
    "stdout",
    "stdout_lines",
];

/// What modules that put or make files tell of them.
const OF_FILES: &[&str] = &["gid", "group", "mode", "owner", "path", "state", "uid"];

/// And some of them besides.
const OF_SOME_FILES: &[&str] = &["backup_file", "checksum", "dest", "size", "src"];

/// The modules of which it is known what they tell besides [`OF_FILES`].
const BESIDES: &[(&str, &[&str])] = &[
    ("archive", &[]),
    ("blockinfile", &["size"]),
    ("copy", &["md5sum", "size"]),
    ("ini_file", &["size"]),
    ("lineinfile", &["size"]),
    ("replace", &["size"]),
    ("template", &["md5sum", "size"]),
];

/// What a page does not tell of.
const UNTOLD: &[(&str, &[&str])] = &[
    ("add_host", &["add_host"]),
    ("authorized_key", &["comment", "exclusive", "key_options", "manage_dir", "path", "state", "user"]),
    ("blockinfile", &["backup_file"]),
    ("cron", &["backup_file"]),
    ("get_url", &["elapsed"]),
    ("group_by", &["add_group", "parent_groups"]),
    ("include_vars", &["ansible_facts", "ansible_included_var_files"]),
    ("ini_file", &["backup_file"]),
    ("known_hosts", &["path"]),
    ("mount", &["boot", "backup_file"]),
    ("package", &["packages", "cache_updated"]),
    ("pause", &["echo"]),
    ("raw", &["cmd", "start", "end", "delta"]),
    ("reboot", &["rebooted"]),
    ("replace", &["backup_file"]),
    ("script", &["cmd", "start", "end", "delta"]),
    ("setup", &["ansible_facts"]),
    ("gather_facts", &["ansible_facts"]),
    ("ping", &["ping"]),
    ("stat", &["stat"]),
    ("user", &["append", "create_home", "force", "move_home", "password", "remove"]),
];

/// Modules whose results have names of their own: the headers of an answer, the variable that is shown.
const OPEN: &[&str] = &["debug", "uri", "set_fact"];

const STAT: &[&str] = &[
    "atime",
    "checksum",
    "ctime",
    "executable",
    "exists",
    "gid",
    "gr_name",
    "inode",
    "isblk",
    "ischr",
    "isdir",
    "isfifo",
    "isgid",
    "islnk",
    "isreg",
    "issock",
    "isuid",
    "lnk_source",
    "lnk_target",
    "mode",
    "mtime",
    "nlink",
    "path",
    "pw_name",
    "readable",
    "size",
    "uid",
    "writeable",
];

/// The result of one run of a module: of a task without a loop, or of one item.
pub fn of(module: &ModuleDef) -> Shape {
    static KNOWN: LazyLock<Mutex<HashMap<&'static str, Shape>>> = LazyLock::new(Mutex::default);
    let Ok(mut known) = KNOWN.lock() else { return Shape::Any };
    known.entry(module.name).or_insert_with(|| made(module)).clone()
}

fn made(module: &ModuleDef) -> Shape {
    let own = own(module);
    if OPEN.contains(&module.name) || own.is_empty() {
        return Shape::Any;
    }
    let names = own.into_iter().chain(ANY.iter().map(|n| n.to_string()));
    Shape::fields(names.map(|n| {
        let is_stat = (module.name, n.as_str()) == ("stat", "stat");
        (n, if is_stat { Shape::names(STAT.iter().copied()) } else { Shape::Any })
    }))
}

/// The fields that its results have and not those of all modules; none where nothing is known of them.
fn own(module: &ModuleDef) -> Vec<String> {
    let mut names = pages::registers(module);
    let of = |table: &[(&str, &'static [&'static str])]| table.iter().find(|(n, _)| *n == module.name).map(|(_, f)| *f);
    let mut more: Vec<&str> = of(UNTOLD).unwrap_or_default().to_vec();
    if (!names.is_empty() || !more.is_empty()) && module.params().iter().any(|p| p == "mode") {
        more.extend(OF_FILES);
        more.extend(of(BESIDES).unwrap_or(OF_SOME_FILES));
    }
    names.extend(more.into_iter().map(str::to_string));
    names
}

/// The result of a whole loop.
pub fn of_loop(one: Shape) -> Shape {
    let mut fields = vec![("results".to_string(), one.each())];
    fields.extend(
        ["changed", "failed", "skipped", "skip_reason", "skipped_reason", "false_condition", "msg"]
            .map(|n| (n.to_string(), Shape::Any)),
    );
    Shape::fields(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;

    fn has(module: &str, path: &str) -> bool {
        let keys: Vec<String> = path.split('.').map(str::to_string).collect();
        of(find(module).unwrap()).miss(&keys).is_none()
    }

    /// Every field that the check before a run lets pass is in a result, of one run or the other.
    #[test]
    fn what_is_promised_is_given() {
        use crate::modules::kit::{bind, ctx, look, run};
        use crate::modules::{Decision, Module, Stop};
        fn given<M: Module>(params: &[serde_json::Value]) {
            let mut names: Vec<String> = vec![];
            for p in params {
                let m: M = bind(&p.to_string());
                let mut probes = m.probes(&ctx());
                let decision = loop {
                    match m.decide(&look(probes.clone()), &ctx()) {
                        Err(Stop::Need(more)) => probes.extend(more),
                        d => break d.unwrap(),
                    }
                };
                let told = match decision {
                    Decision::Change(c) => {
                        if !matches!(c.actions[..], [crate::action::Action::Command(_)]) {
                            run(&c);
                        } else {
                            names.extend(["start", "end", "delta"].map(str::to_string));
                        }
                        c.result.keys().cloned().collect::<Vec<_>>()
                    }
                    Decision::Satisfied(r) => r.result.keys().cloned().collect(),
                    _ => vec![],
                };
                names.extend(told);
            }
            let owed = own(find(M::NAME).unwrap());
            let never: Vec<&String> =
                owed.iter().filter(|n| !names.contains(n) && !ANY.contains(&n.as_str())).collect();
            assert!(!owed.is_empty() && never.is_empty(), "{}: {never:?} of {names:?}", M::NAME);
        }
        use serde_json::json;
        let t = tempfile::tempdir().unwrap();
        let at = |name: &str| t.path().join(name).display().to_string();
        std::fs::write(at("old"), "a\n").unwrap();
        for name in ["c", "t", "b", "l", "r", "i", "z"] {
            std::fs::write(at(name), "a\n").unwrap();
        }
        use crate::modules as m;
        given::<m::copy::Copy>(&[json!({"src": "a", "dest": at("c"), "backup": true})]);
        given::<m::copy::Copy>(&[
            json!({"src": "a", "dest": at("c2"), "mode": "0600"}),
            json!({"src": at("old"), "remote_src": true, "dest": at("c"), "backup": true}),
        ]);
        given::<m::copy::Template>(&[json!({"src": "a", "dest": at("t"), "backup": true})]);
        given::<m::blockinfile::BlockInFile>(&[json!({"path": at("b"), "block": "x", "backup": true})]);
        given::<m::lineinfile::LineInFile>(&[
            json!({"path": at("l"), "line": "x", "backup": true}),
            json!({"path": at("l"), "line": "x", "state": "absent"}),
        ]);
        given::<m::replace::Replace>(&[json!({"path": at("r"), "regexp": "a", "replace": "b", "backup": true})]);
        given::<m::ini_file::IniFile>(&[json!({"path": at("i"), "option": "x", "value": "1", "backup": true})]);
        given::<m::archive::Archive>(&[json!({"path": at("old"), "dest": at("o.gz")})]);
        given::<m::command::Command>(&[json!({"cmd": "true"}), json!({"cmd": "true", "creates": at("old")})]);
        given::<m::command::Shell>(&[json!({"cmd": "true"}), json!({"cmd": "true", "creates": at("old")})]);
        // Where nothing has to change, a file is told of too.
        for p in [json!({"src": "a", "dest": at("c2")}), json!({"src": "a", "dest": at("old"), "force": false})] {
            let m: m::copy::Copy = bind(&p.to_string());
            let Ok(Decision::Satisfied(r)) = m.decide(&look(m.probes(&ctx())), &ctx()) else { panic!() };
            for field in OF_FILES.iter().chain(&["dest", "src", "size"]) {
                assert!(r.result.contains_key(*field), "{field}");
            }
        }
    }

    #[test]
    fn what_modules_give_back() {
        for (module, path) in [
            ("command", "stdout_lines"),
            ("shell", "rc"),
            ("stat", "stat.exists"),
            ("stat", "stat.pw_name"),
            ("user", "ssh_public_key"),
            ("user", "uid"),
            ("apt", "cache_updated"),
            ("systemd", "status.ActiveState"),
            ("wait_for", "match_groupdict.x"),
            ("find", "files"),
            ("template", "backup_file"),
            ("uri", "content_type"),
            ("async_status", "finished"),
            ("command", "delta"),
            ("shell", "start"),
            ("copy", "md5sum"),
        ] {
            assert!(has(module, path), "{module}: {path}");
        }
        for (module, path) in [
            ("command", "stdot"),
            ("stat", "exists"),
            ("stat", "stat.exsits"),
            ("copy", "stat"),
            ("apt", "results"),
            ("blockinfile", "src"),
        ] {
            assert!(!has(module, path), "{module}: {path}");
        }
        let looped = of_loop(of(find("command").unwrap()));
        let miss = looped.miss(&["stdout".to_string()]).unwrap();
        assert!(miss.hint.unwrap().contains("each of its `results`"));
    }
}
