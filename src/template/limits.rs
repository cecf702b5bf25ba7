//! How much one rendering may take. A template is a small program, and what it is given may be made to be large: every
//! value that is made, and every turn of a loop, is counted, and there is one sum that must do.

use serde_json::Value;
use std::cell::Cell;

/// Bytes of all values that one rendering makes or goes through; tests and fuzzing, which are slower, get there sooner.
const WORK: usize = match (cfg!(fuzzing), cfg!(test)) {
    (true, _) => 64 << 20,
    (_, true) => 192 << 20,
    _ => 1 << 30,
};
/// The longest text that one template or helper may give.
pub const LARGEST: usize = 64 << 20;
/// What a value costs beside its text.
const EACH: usize = 64;
/// What a turn of a loop costs.
pub const TURN: usize = 1024;
/// How deep values may stand in each other: what walks through them goes as deep.
const DEEPEST: usize = 128;

/// What is said when it is too much.
pub const TOO_MUCH: &str = "it makes or goes through more than 1 GiB of values";
/// What to do then.
pub const LESS: &str =
    "a loop in it goes over too much, or a value grows with every turn; make several templates of it";
/// What is said of a text that would be too long.
pub const TOO_LONG: &str = "the result would be larger than 64 MiB";
const TOO_DEEP: &str = "values stand more than 128 deep in each other";

thread_local! {
    /// What is left for the rendering that goes on, if one does.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs one rendering; what is rendered within it has the same sum.
pub fn bounded<T>(run: impl FnOnce() -> T) -> T {
    if LEFT.get().is_some() {
        return run();
    }
    LEFT.set(Some(WORK));
    let result = run();
    LEFT.set(None);
    result
}

/// Takes so many bytes off what is left.
pub fn charge(bytes: usize) -> Result<(), &'static str> {
    let Some(left) = LEFT.get() else { return Ok(()) };
    let rest = left.checked_sub(bytes);
    LEFT.set(Some(rest.unwrap_or(0)));
    rest.map(|_| ()).ok_or(TOO_MUCH)
}

/// Room for a text that is about to be made.
pub fn room(bytes: usize) -> Result<(), &'static str> {
    if bytes > LARGEST { Err(TOO_LONG) } else { charge(bytes) }
}

/// Room for so many copies of a value.
pub fn copies(v: &Value, times: usize) -> Result<(), &'static str> {
    charge(weight(v)?.saturating_mul(times))
}

/// Whether it is one of these limits that a message speaks of.
pub fn is_said(message: &str) -> bool {
    message.ends_with(TOO_MUCH) || message.ends_with(TOO_LONG)
}

/// What a value weighs.
pub fn weight(v: &Value) -> Result<usize, &'static str> {
    fn down(v: &Value, depth: usize) -> Result<usize, &'static str> {
        Ok(EACH
            + match v {
                _ if depth > DEEPEST => return Err(TOO_DEEP),
                Value::String(s) => s.len(),
                Value::Array(a) => a.iter().try_fold(0, |n, v| down(v, depth + 1).map(|w| n + w))?,
                Value::Object(o) => o.iter().try_fold(0, |n, (k, v)| down(v, depth + 1).map(|w| n + w + k.len()))?,
                _ => 0,
            })
    }
    down(v, 0)
}

/// Counts a value that was made.
pub fn made(v: &Value) -> Result<(), &'static str> {
    charge(weight(v)?)
}

/// Counts one value on its own, with a text of so many bytes.
pub fn one(text: usize) -> Result<(), &'static str> {
    charge(EACH + text)
}
