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
const OF_FILES: &[&str] = &[
    "backup_file",
    "checksum",
    "dest",
    "gid",
    "group",
    "md5sum",
    "mode",
    "owner",
    "path",
    "size",
    "src",
    "state",
    "uid",
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
    ("lineinfile", &["backup_file"]),
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
    "checksum",
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
    let told = pages::registers(module);
    let untold = UNTOLD.iter().find(|(n, _)| *n == module.name).map_or(&[][..], |(_, u)| u);
    if OPEN.contains(&module.name) || (told.is_empty() && untold.is_empty()) {
        return Shape::Any;
    }
    let mut names: Vec<&str> = ANY.to_vec();
    names.extend(told.iter().map(String::as_str));
    names.extend(untold);
    if module.params().iter().any(|p| p == "mode") {
        names.extend(OF_FILES);
    }
    Shape::fields(names.into_iter().map(|n| {
        let inside = if (module.name, n) == ("stat", "stat") { Shape::names(STAT.iter().copied()) } else { Shape::Any };
        (n.to_string(), inside)
    }))
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
        ] {
            assert!(has(module, path), "{module}: {path}");
        }
        for (module, path) in
            [("command", "stdot"), ("stat", "exists"), ("stat", "stat.exsits"), ("copy", "stat"), ("apt", "results")]
        {
            assert!(!has(module, path), "{module}: {path}");
        }
        let looped = of_loop(of(find("command").unwrap()));
        let miss = looped.miss(&["stdout".to_string()]).unwrap();
        assert!(miss.hint.unwrap().contains("each of its `results`"));
    }
}
