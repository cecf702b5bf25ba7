//! The shape of registered results: Ansible's.

use crate::probe::Output;
use serde_json::{Map, Value, json};

/// A command's output: `rc`, `stdout`, `stdout_lines`, `stderr`, `stderr_lines`, without the last newline.
pub fn add_output(result: &mut Value, o: &Output) {
    let Some(r) = result.as_object_mut() else { return };
    let lines = |t: &str| t.lines().map(str::to_string).collect::<Vec<_>>();
    let (out, err) = (o.stdout.trim_end_matches(['\n', '\r']), o.stderr.trim_end_matches(['\n', '\r']));
    r.insert("rc".into(), json!(o.rc));
    r.insert("stdout".into(), json!(out));
    r.insert("stdout_lines".into(), json!(lines(out)));
    r.insert("stderr".into(), json!(err));
    r.insert("stderr_lines".into(), json!(lines(err)));
}

/// When a command began and how long it took, in Ansible's forms.
pub fn add_times(result: &mut Value, began: chrono::DateTime<chrono::Utc>, took: std::time::Duration) {
    let Some(r) = result.as_object_mut() else { return };
    let shown = |t: chrono::DateTime<chrono::Utc>| t.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    let s = took.as_secs();
    r.insert("start".into(), json!(shown(began)));
    r.insert("end".into(), json!(shown(began + took)));
    r.insert(
        "delta".into(),
        json!(format!("{}:{:02}:{:02}.{:06}", s / 3600, s / 60 % 60, s % 60, took.subsec_micros())),
    );
}

/// A loop's result tells which item it is of.
pub fn add_item(result: &mut Value, locals: &Map<String, Value>) {
    if let Some(r) = result.as_object_mut() {
        r.extend(locals.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
}

/// The result of a step or item whose condition does not hold.
pub fn skipped(condition: &str) -> Value {
    json!({
        "changed": false,
        "failed": false,
        "skipped": true,
        "skip_reason": "Conditional result was False",
        "false_condition": condition,
    })
}

/// The result of a whole loop.
pub fn of_loop(results: Vec<Value>) -> Value {
    if results.is_empty() {
        let reason = "No items in the list";
        return json!({"results": [], "changed": false, "failed": false, "skipped": true, "skipped_reason": reason});
    }
    let any = |key: &str| results.iter().any(|r| r[key] == json!(true));
    let skipped = results.iter().all(|r| r["skipped"] == json!(true));
    let (changed, failed) = (any("changed"), any("failed"));
    let msg = match (failed, skipped) {
        (true, _) => "One or more items failed",
        (_, true) => "All items skipped",
        _ => "All items completed",
    };
    json!({"results": results, "changed": changed, "failed": failed, "skipped": skipped, "msg": msg})
}
