//! Time. What is not of a given moment differs at every evaluation.

use super::args::{as_number, shown};
use super::{Args, Def, Fail, def};
use chrono::{DateTime, Local, Utc};
use serde_json::{Value, json};
use std::fmt::Write as _;

pub const ALL: &[Def] = &[
    def("strftime", "format [seconds]", "A moment in a form such as %Y-%m-%d: so many seconds after 1970, or now; utc=true in UTC and not this machine's zone.", (r#"{{strftime "%Y-%m-%d %H:%M" 86400 utc=true}}"#, r#""1970-01-02 00:00""#), |a| moment(a, a.text(0).as_ref(), 1))
        .named(&["utc"]),
    def("now", "[format]", "The moment, in ISO form or another; utc=true in UTC. It differs at every evaluation: a task that uses it changes every time.", (r#"{{length (now "%Y")}}"#, "4"), |a| {
        let format = a.either(0, "fmt").map(super::text).unwrap_or("%Y-%m-%dT%H:%M:%S%:z".into());
        moment(a, &format, 0)
    })
    .named(&["fmt", "utc"]),
];

fn moment(a: &Args, format: &str, place: usize) -> Result<Value, Fail> {
    let at = match a.get(place).filter(|_| place > 0) {
        None => Utc::now(),
        Some(v) => as_number(v).ok_or_else(|| format!("{} is no number of seconds", shown(v))).and_then(|s| {
            // The years 0 to 9999.
            let known = (-62_135_596_800.0..253_402_300_800.0).contains(&s);
            let at = DateTime::from_timestamp_millis((s * 1000.0) as i64).filter(|_| known);
            at.ok_or_else(|| format!("{} seconds from 1970 lead out of the calendar", shown(v)))
        })?,
    };
    // Parts of a second have six digits, and only `now` has them.
    let format = match (super::args::is_python(), place) {
        (true, 0) => format.replace("%f", "%6f"),
        (true, _) => format.replace("%f", "%%f"),
        _ => format.to_string(),
    };
    let mut out = String::new();
    let written = if a.flag("utc", false)? {
        write!(out, "{}", at.format(&format))
    } else {
        write!(out, "{}", at.with_timezone(&Local).format(&format))
    };
    written.map_err(|_| format!("`{format}` is no form of time; write it as %Y-%m-%d"))?;
    Ok(json!(out))
}
