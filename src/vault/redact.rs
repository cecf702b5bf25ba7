//! Keeping secret values out of everything that is shown: by value, in every form they are likely to take.
//!
//! # What is redacted
//! Every string and number of at least [`MIN_CHARS`] characters found in decrypted data, without the white space
//! around it: as it is; as base64 (standard and URL-safe, whatever its alignment in a longer blob; of its own, also broken
//! at 64 or 76 columns); URL-encoded; escaped as in JSON, in YAML's and shells' quotes and in Rust's debug form; from [`MIN_CASED_CHARS`]
//! characters on, all in upper or all in lower case. Of a value with several lines, also each line of at least
//! [`MIN_LINE_CHARS`] characters (PEM's BEGIN and END lines excepted, which are public).
//!
//! # What is not
//! Values shorter than that, and words so common that redacting them would blank out the text while telling where they
//! stood (`true`, `root`, `password`, …; see [`Why::CommonWord`]). They are returned as [`Unredactable`], so that the
//! loader can warn or refuse. Booleans and null are no secrets. Nor is anything that a template makes of a secret beyond
//! the forms above (a hash, a part, a replacement, the base64 of a longer text whose lines break within it) or that a command on a host prints of its own: that is what `no_log`
//! is for. Redact before cutting text to length: half a secret is
//! not recognised.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// What stands in a secret's place.
pub const PLACEHOLDER: &str = "[redacted]";
/// The length, in characters, from which a value is redacted.
pub const MIN_CHARS: usize = 4;
/// The length, in characters, from which a value is also redacted in upper and in lower case. Below, that would hide
/// host names and ordinary words.
pub const MIN_CASED_CHARS: usize = 8;
/// The length, in characters, from which a line of a longer value is redacted on its own.
pub const MIN_LINE_CHARS: usize = 6;
/// The length, in characters, from which what a `no_log` task gives back is hidden wherever it stands; below, only as a
/// word of its own.
pub const MIN_TOLD_CHARS: usize = 12;
/// Of what `no_log` tasks give back, a text is known whole up to this length, in bytes.
pub const MAX_TOLD_BYTES: usize = 4096;
/// Of a longer one, or of one of many short lines, this many lines are known.
pub const MAX_TOLD_LINES: usize = 64;
/// Of all that `no_log` tasks give back, this many texts are known: the search grows with each.
pub const MAX_TOLD: usize = 1024;
/// The length, in characters, from which a line of a longer value counts for [`Redactor::contains_secret`].
const MIN_TELLING_LINE_CHARS: usize = 16;

/// Words that are never redacted, in lower case.
const COMMON_WORDS: &[&str] = &[
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "null",
    "none",
    "nil",
    "root",
    "admin",
    "administrator",
    "user",
    "username",
    "password",
    "passwd",
    "secret",
    "default",
    "localhost",
    "postgres",
    "redis",
    "redacted",
];

/// Words that results of tasks are full of: short texts of a `no_log` task that are not hidden elsewhere.
const STATUS_WORDS: &[&str] = &[
    "absent",
    "active",
    "already",
    "changed",
    "closed",
    "completed",
    "created",
    "dead",
    "directory",
    "disabled",
    "done",
    "enabled",
    "error",
    "exited",
    "failed",
    "file",
    "finished",
    "inactive",
    "installed",
    "latest",
    "link",
    "loaded",
    "missing",
    "online",
    "offline",
    "open",
    "present",
    "ready",
    "removed",
    "restarted",
    "running",
    "skipped",
    "started",
    "static",
    "stopped",
    "success",
    "unchanged",
    "unknown",
    "updated",
    "warning",
];

/// What is hidden of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Extent {
    /// A secret: everywhere, and its lines too.
    All,
    /// What a task keeps to itself: everywhere, and its lines of [`MIN_TOLD_CHARS`] characters.
    Told,
    /// A short one of these: only where it stands as a word of its own.
    Word,
}

/// A value and what is hidden of it.
type Value = (Zeroizing<String>, Extent);

/// Why a value cannot be redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has fewer than [`MIN_CHARS`] characters.
    TooShort,
    /// It is a word that ordinary text is full of.
    CommonWord,
}

/// A secret that cannot be hidden by value. It names the place, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unredactable {
    /// Where the value is, such as `vault.yml.age: db.users[0].pin`.
    pub at: String,
    /// Why it cannot be redacted.
    pub why: Why,
}

impl fmt::Display for Unredactable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::TooShort => {
                write!(f, "{}: a secret of fewer than {MIN_CHARS} characters cannot be kept out of logs", self.at)
            }
            Why::CommonWord => write!(f, "{}: a secret that is a common word cannot be kept out of logs", self.at),
        }
    }
}

/// A collection of secret values, on its way into a [`Redactor`]. Wiped when dropped.
#[derive(Default)]
pub struct Secrets {
    values: Vec<Value>,
    unredactable: Vec<Unredactable>,
}

impl Secrets {
    /// An empty collection.
    pub fn new() -> Secrets {
        Secrets::default()
    }

    /// Adds one value; `at` says where it is, for [`Secrets::unredactable`]. White space alone is no secret.
    pub fn add(&mut self, at: &str, value: &str) {
        let core = value.trim();
        let why = if core.is_empty() {
            return;
        } else if core.chars().count() < MIN_CHARS {
            Why::TooShort
        } else if is_common(core) {
            Why::CommonWord
        } else {
            self.values.push((Zeroizing::new(core.to_string()), Extent::All));
            return;
        };
        self.unredactable.push(Unredactable { at: at.to_string(), why });
    }

    /// Adds what a `no_log` task gives back. It need not be a secret, so of a short one only whole words are hidden, and no
    /// word that is in every report anyway; white space within does not matter. Of more than [`MAX_TOLD_BYTES`] only the
    /// first [`MAX_TOLD_LINES`] lines are known.
    pub fn add_told(&mut self, value: &str) {
        let long = |t: &str| t.chars().count() >= MIN_TOLD_CHARS;
        let core = value.trim();
        let lines = core.lines().map(str::trim).take(MAX_TOLD_LINES);
        if core.len() > MAX_TOLD_BYTES {
            let whole = lines.clone().filter(|l| long(l) && l.len() <= MAX_TOLD_BYTES && !is_common(l));
            self.values.extend(whole.map(|l| (Zeroizing::new(l.to_string()), Extent::Told)));
        } else if long(core) {
            self.values.push((Zeroizing::new(core.to_string()), Extent::Told));
        }
        for word in lines {
            let is_word = word.chars().count() >= MIN_CHARS && !long(word) && !word.contains(char::is_whitespace);
            let is_status = || STATUS_WORDS.iter().any(|w| word.eq_ignore_ascii_case(w));
            if is_word && !is_common(word) && !is_status() {
                self.values.push((Zeroizing::new(word.to_string()), Extent::Word));
            }
        }
    }

    /// Adds every string and number of a decrypted YAML document; keys are no secrets. `at` names the document.
    pub fn add_yaml(&mut self, at: &str, value: &serde_yaml::Value) {
        use serde_yaml::Value;
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(n) => self.add(at, &Zeroizing::new(n.to_string())),
            Value::String(s) => self.add(at, s),
            Value::Sequence(list) => {
                for (i, item) in list.iter().enumerate() {
                    self.add_yaml(&format!("{at}[{i}]"), item);
                }
            }
            Value::Mapping(map) => {
                for (key, item) in map {
                    let key = key.as_str().map_or_else(|| "?".to_string(), str::to_string);
                    self.add_yaml(&below(at, &key), item);
                }
            }
            Value::Tagged(tagged) => self.add_yaml(at, &tagged.value),
        }
    }

    /// Adds every string and number of a JSON value; keys are no secrets. `at` names the value.
    pub fn add_json(&mut self, at: &str, value: &serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(n) => self.add(at, &Zeroizing::new(n.to_string())),
            Value::String(s) => self.add(at, s),
            Value::Array(list) => {
                for (i, item) in list.iter().enumerate() {
                    self.add_json(&format!("{at}[{i}]"), item);
                }
            }
            Value::Object(map) => {
                for (key, item) in map {
                    self.add_json(&below(at, key), item);
                }
            }
        }
    }

    /// The values that cannot be redacted, in the order met.
    pub fn unredactable(&self) -> &[Unredactable] {
        &self.unredactable
    }

    /// How many values will be redacted.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no value will be redacted.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

fn below(at: &str, key: &str) -> String {
    // A document's name ends in `:`, so that what follows is a path within it.
    if at.is_empty() || at.ends_with([' ', ':']) { format!("{at}{key}") } else { format!("{at}.{key}") }
}

fn is_common(core: &str) -> bool {
    COMMON_WORDS.iter().any(|w| core.eq_ignore_ascii_case(w))
}

/// Replaces secrets in text. Clones share what they know, so a secret added during a run is hidden everywhere at once.
#[derive(Clone, Default)]
pub struct Redactor {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// All values known; its lock is held while a new state is made.
    values: Mutex<Values>,
    /// What readers use; swapped whole.
    state: RwLock<Arc<State>>,
    /// The state does not know all values yet: it is made anew for the next reader, since values come one by one.
    stale: AtomicBool,
}

#[derive(Default)]
struct Values {
    all: Vec<Value>,
    /// The same, as digests.
    known: HashSet<([u8; 32], Extent)>,
    /// How many of them are what tasks keep to themselves.
    told: usize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// A redactor that knows no secret yet.
    pub fn new() -> Redactor {
        Redactor::default()
    }

    /// Adds secrets. They are hidden in all text redacted from now on, by every clone. Should they be too many or too large
    /// to search for (gigabytes), all text is hidden.
    pub fn add(&self, secrets: &Secrets) {
        let mut values = self.shared.values.lock().unwrap_or_else(PoisonError::into_inner);
        for value in &secrets.values {
            let is_told = value.1 != Extent::All;
            if (is_told && values.told >= MAX_TOLD) || !values.known.insert((Sha256::digest(&*value.0).into(), value.1))
            {
                continue;
            }
            values.told += usize::from(is_told);
            values.all.push(value.clone());
            self.shared.stale.store(true, Ordering::Release);
        }
    }

    /// `text` with every secret replaced by [`PLACEHOLDER`]; borrowed when there is none.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.state().redact(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Secrets are whole characters, so what remains is UTF-8; nothing is lost here.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// As [`Redactor::redact`], for all texts and numbers of a value; it stays what it is, JSON.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(s) => {
                if let Cow::Owned(clean) = self.redact(s) {
                    *s = clean;
                }
            }
            Value::Number(n) => {
                if let Cow::Owned(clean) = self.redact(&n.to_string()) {
                    *value = Value::String(clean);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|v| self.redact_json(v)),
            Value::Object(map) => map.values_mut().for_each(|v| self.redact_json(v)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// As [`Redactor::redact`], for output that may not be UTF-8.
    pub fn redact_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        self.state().redact(bytes)
    }

    /// Whether `text` holds a whole secret in any form, or a line of one that is long enough to be telling (16
    /// characters). For refusing text where redaction comes too late, such as a remote command line.
    pub fn contains_secret(&self, text: &str) -> bool {
        let state = self.state();
        let Some(search) = &state.search else { return state.hides_all };
        search
            .find_overlapping_iter(text)
            .any(|m| state.forms.get(m.pattern().as_usize()).is_some_and(|form| form.telling))
    }

    /// A writer that redacts what passes through it.
    pub fn writer<W: Write>(&self, inner: W) -> RedactingWriter<W> {
        RedactingWriter::new(inner, self.clone())
    }

    fn state(&self) -> Arc<State> {
        if self.shared.stale.load(Ordering::Acquire) {
            let values = self.shared.values.lock().unwrap_or_else(PoisonError::into_inner);
            // Another reader may have been first.
            if self.shared.stale.load(Ordering::Acquire) {
                let state = State::new(&values.all).unwrap_or(State { hides_all: true, ..State::default() });
                *self.shared.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
                self.shared.stale.store(false, Ordering::Release);
            }
        }
        Arc::clone(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is searched for. The search automaton holds copies of the secrets that the library offers no way to wipe; the
/// values and forms themselves are wiped.
#[derive(Default)]
struct State {
    search: Option<AhoCorasick>,
    /// One for each pattern of the search.
    forms: Vec<Form>,
    /// The patterns that span lines.
    multiline: Vec<Zeroizing<String>>,
    /// The longest pattern, in bytes.
    longest: usize,
    /// What there is to hide is not known: everything is hidden.
    hides_all: bool,
}

/// What is known of one pattern.
#[derive(Clone, Copy)]
struct Form {
    /// Bits of the secret spill into the base64 character before, or after.
    spills_left: bool,
    spills_right: bool,
    /// It shows enough of a secret to refuse the text it is in.
    telling: bool,
    /// It counts only where no letter, digit or `_` stands beside it.
    word: bool,
}

impl State {
    fn new(values: &[Value]) -> Result<State, aho_corasick::BuildError> {
        let mut patterns = Patterns::default();
        for (value, extent) in values {
            match extent {
                Extent::All => patterns.add_value(value, MIN_LINE_CHARS),
                Extent::Told => patterns.add_value(value, MIN_TOLD_CHARS),
                Extent::Word => patterns.add_word(value),
            }
        }
        let Patterns { mut found } = patterns;
        found.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.telling.cmp(&a.1.telling)));
        found.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1.spills_left |= later.1.spills_left;
                kept.1.spills_right |= later.1.spills_right;
                kept.1.word &= later.1.word;
            }
            same
        });
        let search = AhoCorasick::new(found.iter().map(|(text, _)| text.as_bytes()))?;
        Ok(State {
            search: Some(search),
            forms: found.iter().map(|(_, form)| *form).collect(),
            longest: found.iter().map(|(text, _)| text.len()).max().unwrap_or(0),
            multiline: found.into_iter().map(|(text, _)| text).filter(|t| t.contains('\n')).collect(),
            hides_all: false,
        })
    }

    /// The parts of `text` to hide: sorted, apart from each other. Overlapping secrets are hidden as one, so no rest
    /// of either remains.
    fn ranges(&self, text: &[u8]) -> Vec<(usize, usize)> {
        if self.hides_all && !text.is_empty() {
            return vec![(0, text.len())];
        }
        let Some(search) = &self.search else { return Vec::new() };
        let is_base64 = |i: usize| text.get(i).is_some_and(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(b));
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for found in search.find_overlapping_iter(text) {
            let (mut start, mut end) = (found.start(), found.end());
            if let Some(form) = self.forms.get(found.pattern().as_usize()) {
                if form.word && !stands_alone(text, start, end) {
                    continue;
                }
                if form.spills_left && start > 0 && is_base64(start - 1) {
                    start -= 1;
                }
                if form.spills_right && is_base64(end) {
                    end += 1;
                    while text.get(end) == Some(&b'=') {
                        end += 1;
                    }
                }
            }
            ranges.push((start, end));
        }
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let joined = next.0 <= kept.1;
            if joined {
                kept.1 = kept.1.max(next.1);
            }
            joined
        });
        ranges
    }

    fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let ranges = self.ranges(text);
        if ranges.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(hide(text, &ranges)) }
    }

    /// Where a secret of several lines may have begun in `lines`, which ends with a line end.
    fn open_from(&self, lines: &[u8]) -> Option<usize> {
        let mut longest = 0;
        for pattern in &self.multiline {
            let pattern = pattern.as_bytes();
            for (i, _) in pattern.iter().enumerate().filter(|(i, b)| **b == b'\n' && i + 1 < pattern.len()) {
                if pattern.get(..=i).is_some_and(|begun| lines.ends_with(begun)) {
                    longest = longest.max(i + 1);
                }
            }
        }
        (longest > 0).then(|| lines.len() - longest)
    }
}

/// Whether no letter, digit or `_` goes on beyond either end.
fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let is_word = |i: usize| text.get(i).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80);
    let before = start.checked_sub(1).is_some_and(|b| is_word(b) && is_word(start));
    let after = end.checked_sub(1).is_some_and(|last| is_word(last) && is_word(end));
    !before && !after
}

fn hide(text: &[u8], ranges: &[(usize, usize)]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    let mut at = 0;
    for &(start, end) in ranges {
        shown.extend_from_slice(text.get(at..start).unwrap_or_default());
        shown.extend_from_slice(PLACEHOLDER.as_bytes());
        at = end;
    }
    shown.extend_from_slice(text.get(at..).unwrap_or_default());
    shown
}

/// The forms of all values, gathered.
#[derive(Default)]
struct Patterns {
    found: Vec<(Zeroizing<String>, Form)>,
}

impl Patterns {
    fn push(&mut self, text: String, telling: bool) {
        let form = Form { spills_left: false, spills_right: false, telling, word: false };
        self.found.push((Zeroizing::new(text), form));
    }

    /// A value that is hidden only as a word of its own.
    fn add_word(&mut self, value: &str) {
        let known = self.found.len();
        self.add_text_forms(value, false);
        self.found.iter_mut().skip(known).for_each(|(_, form)| form.word = true);
    }

    /// A value that is hidden everywhere, and its lines of this length.
    fn add_value(&mut self, value: &str, line_chars: usize) {
        self.add_text_forms(value, true);
        self.add_base64_forms(value.as_bytes());
        if value.chars().count() >= MIN_CASED_CHARS {
            self.push(value.to_uppercase(), true);
            self.push(value.to_lowercase(), true);
        }
        if !value.contains('\n') {
            return;
        }
        if !value.contains('\r') {
            // What a terminal makes of it.
            self.push(value.replace('\n', "\r\n"), true);
        }
        for line in value.lines().map(str::trim) {
            let length = line.chars().count();
            let is_pem_border = line.starts_with("-----") && line.ends_with("-----");
            if length >= line_chars && !is_pem_border && !is_common(line) {
                self.add_text_forms(line, length >= MIN_TELLING_LINE_CHARS);
            }
        }
    }

    /// The value as text, plain and escaped.
    fn add_text_forms(&mut self, value: &str, telling: bool) {
        let json = Zeroizing::new(serde_json::Value::from(value).to_string());
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
        let debug = Zeroizing::new(format!("{value:?}"));
        let debug = debug.get(1..debug.len().saturating_sub(1)).unwrap_or_default();
        let forms = [
            value.to_string(),
            json.to_string(),
            json.replace('/', "\\/"),
            // Go's encoder.
            json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"),
            ascii_json(json),
            debug.to_string(),
            // Within '…', as sh and as Python's shlex write it.
            value.replace('\'', "'\\''"),
            value.replace('\'', "'\"'\"'"),
            // Within '…' in YAML.
            value.replace('\'', "''"),
            backslashed(value, |c| matches!(c, '$' | '`' | '"' | '\\')),
            backslashed(value, |c| unsafe_in_shell(c, "_-./:@%+,=\n")),
            // As bash's printf %q.
            backslashed(value, |c| unsafe_in_shell(c, "_-./:@%+=~#\n")),
        ];
        for form in forms {
            self.push(form, telling);
        }
        // RFC 3986, encodeURIComponent, a path or user info, and a form.
        for unreserved in ["-_.~", "-_.~!*'()", "-_.~!*'()$&+,;=:@", "-_.~!*'()$&+,;=:@/?#"] {
            for upper in [true, false] {
                self.push(percent(value, unreserved, upper), telling);
            }
        }
        for upper in [true, false] {
            self.push(percent(value, "-_.* ", upper).replace(' ', "+"), telling);
            self.push(percent(value, "-_.~ ", upper).replace(' ', "+"), telling);
        }
    }

    /// The characters of base64 that are wholly made of the value, for each alignment it can have in a blob.
    fn add_base64_forms(&mut self, value: &[u8]) {
        for before in 0..3usize {
            let mut blob = Zeroizing::new(vec![0; before]);
            blob.reserve_exact(value.len());
            blob.extend_from_slice(value);
            let bits = 8 * blob.len();
            let own = (8 * before).div_ceil(6)..bits / 6;
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                let mut encoded = engine.encode(&*blob);
                if let Some(own) = encoded.get(own.clone()) {
                    let form =
                        Form { spills_left: before != 0, spills_right: bits % 6 != 0, telling: true, word: false };
                    self.found.push((Zeroizing::new(own.to_string()), form));
                }
                encoded.zeroize();
            }
        }
        let whole = Zeroizing::new(BASE64_STANDARD.encode(value));
        for columns in [64, 76] {
            if whole.len() <= columns {
                continue;
            }
            let lines: Vec<&str> =
                (0..whole.len()).step_by(columns).filter_map(|i| whole.get(i..whole.len().min(i + columns))).collect();
            self.push(lines.join("\n"), true);
            for line in lines.iter().filter(|l| l.len() >= MIN_LINE_CHARS) {
                self.push(line.to_string(), true);
            }
        }
    }
}

/// JSON text with everything beyond ASCII written as `\uXXXX`.
fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

fn backslashed(value: &str, special: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(value.len() * 2);
    for c in value.chars() {
        if special(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn unsafe_in_shell(c: char, plain: &str) -> bool {
    c.is_ascii() && !c.is_ascii_alphanumeric() && !plain.contains(c)
}

fn percent(value: &str, unreserved: &str, upper: bool) -> String {
    let mut out = String::with_capacity(value.len() * 3);
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || unreserved.as_bytes().contains(&b) {
            out.push(char::from(b));
        } else if upper {
            out.push_str(&format!("%{b:02X}"));
        } else {
            out.push_str(&format!("%{b:02x}"));
        }
    }
    out
}

/// A line longer than this, in bytes, is passed on in parts.
const LONG_LINE: usize = 64 * 1024;

/// A writer that redacts line by line, so that a secret cut by two writes is still seen. A line that may be the
/// beginning of a secret of several lines is held until the next one tells. [`Write::flush`] does not release an
/// unfinished line; [`RedactingWriter::finish`] and dropping do.
pub struct RedactingWriter<W: Write> {
    /// Taken by `finish`.
    inner: Option<W>,
    redactor: Redactor,
    pending: Zeroizing<Vec<u8>>,
    /// Where the last whole line in `pending` ends.
    lines_end: usize,
}

impl<W: Write> RedactingWriter<W> {
    /// Redacts with `redactor` what is written to `inner`.
    pub fn new(inner: W, redactor: Redactor) -> Self {
        RedactingWriter { inner: Some(inner), redactor, pending: Zeroizing::default(), lines_end: 0 }
    }

    /// Writes what is held, redacted, flushes, and gives the writer back.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> io::Result<W> {
        self.drain(true)?;
        let mut inner = self.inner.take().ok_or_else(|| io::Error::other("the writer is finished"))?;
        inner.flush()?;
        Ok(inner)
    }

    fn drain(&mut self, all: bool) -> io::Result<()> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let pending: &[u8] = &self.pending;
        let is_long = pending.len() - self.lines_end > LONG_LINE;
        let state = self.redactor.state();
        let ranges = state.ranges(pending);
        let mut cut = if all {
            pending.len()
        } else if is_long {
            // Any secret still growing lies in the part kept; two more for base64's neighbours.
            pending.len().saturating_sub(state.longest + 2)
        } else {
            let lines = pending.get(..self.lines_end).unwrap_or_default();
            state.open_from(lines).unwrap_or(self.lines_end)
        };
        if let Some(&(start, end)) = ranges.iter().find(|(start, end)| *start < cut && cut < *end) {
            // Never cut a secret. One that is longer than a long line goes out as far as it is known.
            cut = if start == 0 && is_long { end } else { start };
        }
        if cut == 0 {
            return Ok(());
        }
        let within = ranges.partition_point(|(_, end)| *end <= cut);
        let shown = hide(pending.get(..cut).unwrap_or_default(), ranges.get(..within).unwrap_or_default());
        inner.write_all(&shown)?;
        let rest = pending.len() - cut;
        self.pending.copy_within(cut.., 0);
        if let Some(stale) = self.pending.get_mut(rest..) {
            stale.zeroize();
        }
        self.pending.truncate(rest);
        self.lines_end = self.lines_end.saturating_sub(cut);
        Ok(())
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line_end = bytes.iter().rposition(|b| *b == b'\n');
        if let Some(i) = line_end {
            self.lines_end = self.pending.len() + i + 1;
        }
        self.pending.extend_from_slice(bytes);
        if line_end.is_some() || self.pending.len() - self.lines_end > LONG_LINE {
            self.drain(false)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Some(inner) => inner.flush(),
            None => Ok(()),
        }
    }
}

impl<W: Write> Drop for RedactingWriter<W> {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; `finish` tells.
        if self.drain(true).is_ok() {
            let _ = self.flush();
        }
    }
}

impl<W: Write> fmt::Debug for RedactingWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedactingWriter")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn knowing(values: &[&str]) -> Redactor {
        let mut secrets = Secrets::new();
        for value in values {
            secrets.add("x", value);
        }
        assert!(secrets.unredactable().is_empty(), "{:?}", secrets.unredactable());
        let redactor = Redactor::new();
        redactor.add(&secrets);
        redactor
    }

    #[test]
    fn values_are_replaced_and_other_text_is_borrowed() {
        let r = knowing(&["hunter2", "correct horse"]);
        assert_eq!(r.redact("login hunter2, then correct horse."), "login [redacted], then [redacted].");
        assert!(matches!(r.redact("nothing to hide: hunter"), Cow::Borrowed(_)));
        assert!(matches!(Redactor::new().redact("hunter2"), Cow::Borrowed(_)));
        assert_eq!(*r.redact_bytes(b"\xff hunter2"), *b"\xff [redacted]");
    }

    #[test]
    fn overlapping_and_nested_secrets_leave_no_rest() {
        let r = knowing(&["abcdEF", "EFGHij", "abcdEFGHijkl"]);
        assert_eq!(r.redact("<abcdEFGHij>"), "<[redacted]>");
        assert_eq!(r.redact("<abcdEFGHijkl>"), "<[redacted]>");
        assert_eq!(r.redact("<abcdEF>"), "<[redacted]>");
    }

    #[test]
    fn every_encoded_form_is_replaced() {
        let secret = "p@ss'w\"o$r d/ü&<\\";
        let r = knowing(&[secret]);
        for form in [
            serde_json::to_string(secret).unwrap(),
            r#"p@ss'w\"o$r d/\u00fc&<\\"#.to_string(),
            r#"p@ss'w\"o$r d/ü\u0026\u003c\\"#.to_string(),
            r#"p@ss'w\"o$r d\/ü&<\\"#.to_string(),
            format!("{secret:?}"),
            r#"'p@ss''w"o$r d/ü&<\'"#.to_string(),
            r#"'p@ss'\''w"o$r d/ü&<\'"#.to_string(),
            r#"'p@ss'"'"'w"o$r d/ü&<\'"#.to_string(),
            r#""p@ss'w\"o\$r d/ü&<\\""#.to_string(),
            r#"p@ss\'w\"o\$r\ d/ü\&\<\\"#.to_string(),
            "p%40ss%27w%22o%24r%20d%2F%C3%BC%26%3C%5C".to_string(),
            "p%40ss%27w%22o%24r%20d%2f%c3%bc%26%3c%5c".to_string(),
            "p%40ss'w%22o%24r%20d%2F%C3%BC%26%3C%5C".to_string(),
            "p@ss'w%22o$r%20d%2F%C3%BC&%3C%5C".to_string(),
            "p%40ss%27w%22o%24r+d%2F%C3%BC%26%3C%5C".to_string(),
        ] {
            let shown = r.redact(&form).into_owned();
            assert!(shown.trim_matches(['"', '\'']) == PLACEHOLDER, "{form} gave {shown}");
            assert!(r.contains_secret(&form), "{form}");
        }
    }

    #[test]
    fn base64_is_replaced_at_every_alignment_with_its_edges() {
        let secret = "s3cr3t-token?>";
        let r = knowing(&[secret]);
        for before in 0..4 {
            for after in 0..4 {
                let blob = format!("{}{secret}{}", &"user"[..before], &":end"[..after]);
                for text in [BASE64_STANDARD.encode(&blob), BASE64_URL_SAFE_NO_PAD.encode(&blob)] {
                    let shown = r.redact(&text).into_owned();
                    assert!(shown.contains(PLACEHOLDER), "{blob}: {text}");
                    // What is left decodes to nothing but what stood around the secret.
                    let left = shown.replace('=', "").replace(PLACEHOLDER, "");
                    assert!(left.len() * 6 <= (before + after) * 8 + 12, "{blob}: {shown}");
                }
            }
        }
        assert_eq!(r.redact(&BASE64_STANDARD.encode(secret)), PLACEHOLDER, "padding goes too");
    }

    #[test]
    fn wrapped_base64_of_a_long_secret_is_replaced() {
        let secret: String = (0..200u8).map(|i| char::from(b'!' + i % 90)).collect();
        let r = knowing(&[&secret]);
        for columns in [64, 76] {
            let encoded = BASE64_STANDARD.encode(&secret);
            let wrapped: Vec<_> = encoded.as_bytes().chunks(columns).map(String::from_utf8_lossy).collect();
            assert_eq!(r.redact(&wrapped.join("\n")), PLACEHOLDER);
            assert!(wrapped.iter().take(2).all(|line| r.redact(line) == PLACEHOLDER));
        }
    }

    #[test]
    fn lines_of_a_key_are_replaced_alone_and_its_borders_stay() {
        let key = "-----BEGIN KEY-----\nAAAAbbbbCCCCddddEEEE\n  indented line\nshort\n-----END KEY-----\n";
        let r = knowing(&[key]);
        assert_eq!(r.redact(&format!("[{key}]")), "[[redacted]\n]");
        assert_eq!(r.redact(&key.replace('\n', "\r\n")), "[redacted]\r\n");
        assert_eq!(r.redact(key.trim_end().replace('\n', "\\n").as_str()), PLACEHOLDER);
        assert_eq!(
            r.redact("-----BEGIN KEY-----\n      AAAAbbbbCCCCddddEEEE\n      indented line\n"),
            "-----BEGIN KEY-----\n      [redacted]\n      [redacted]\n"
        );
        assert!(matches!(r.redact("a short word"), Cow::Borrowed(_)));
        assert!(r.contains_secret("echo AAAAbbbbCCCCddddEEEE"));
        assert!(!r.contains_secret("an indented line"), "a short line alone is no reason to refuse");
    }

    #[test]
    fn documents_are_collected_by_path() {
        let yaml = "db: {password: s3cr3t, port: 54321, pin: 12, on: true, none: null}\n\
                    users: [{name: root}, plain-text]\nage: !age tagged-value\n3: numeric-key\nblank: ' '\n";
        let mut secrets = Secrets::new();
        secrets.add_yaml("vault.yml: ", &serde_yaml::from_str(yaml).unwrap());
        let found: Vec<String> = secrets.unredactable().iter().map(|u| format!("{} {:?}", u.at, u.why)).collect();
        assert_eq!(found, ["vault.yml: db.pin TooShort", "vault.yml: users[0].name CommonWord"]);
        assert!(secrets.unredactable()[0].to_string().contains("fewer than 4 characters"));
        secrets.add_json("uri", &serde_json::json!({"token": ["json-secret", 98765, false, null, 7]}));
        assert_eq!(secrets.unredactable()[2].at, "uri.token[4]");
        assert_eq!(secrets.len(), 7);
        let r = Redactor::new();
        r.add(&secrets);
        for value in ["s3cr3t", "54321", "plain-text", "tagged-value", "numeric-key", "json-secret", "98765"] {
            assert_eq!(r.redact(value), PLACEHOLDER);
        }
        assert_eq!(r.redact("password port true root null 12"), "password port true root null 12");
    }

    #[test]
    fn what_a_task_keeps_to_itself_is_hidden_as_a_word() {
        let mut secrets = Secrets::new();
        for told in
            ["x9y8z7", "two words that are long", "active", "ok", "line of some length\nab12\nshort one", "a'b\"c"]
        {
            secrets.add_told(told);
        }
        let r = Redactor::new();
        r.add(&secrets);
        for (text, expected) in [
            ("x9y8z7", "[redacted]"),
            ("pw=x9y8z7, x9y8z7-b", "pw=[redacted], [redacted]-b"),
            ("ax9y8z7 x9y8z7b x9y8z7_ ü", "ax9y8z7 x9y8z7b x9y8z7_ ü"),
            ("say two words that are long.", "say [redacted]."),
            ("two words", "two words"),
            ("active ok", "active ok"),
            ("line of some length", "[redacted]"),
            ("ab12 but not ab123, short one", "[redacted] but not ab123, short one"),
            ("{\"k\":\"a'b\\\"c\"}", "{\"k\":\"[redacted]\"}"),
        ] {
            assert_eq!(r.redact(text), expected);
        }
        assert!(!r.contains_secret("echo x9y8z7"), "a word may be anything: no command is refused for it");
        // A secret is hidden everywhere, whatever else is known of it.
        let mut more = Secrets::new();
        more.add("x", "x9y8z7");
        r.add(&more);
        assert_eq!(r.redact("ax9y8z7b"), "a[redacted]b");
    }

    #[test]
    fn what_tasks_keep_to_themselves_is_bounded() {
        let long: String = (0..2000).map(|i| format!("line number {i} of many\n")).collect();
        let mut secrets = Secrets::new();
        secrets.add_told(&long);
        assert_eq!(secrets.len(), MAX_TOLD_LINES);
        let r = Redactor::new();
        r.add(&secrets);
        assert_eq!(r.redact("line number 63 of many, line number 64 of many"), "[redacted], line number 64 of many");
        let since = std::time::Instant::now();
        for i in 0..40 {
            let mut more = Secrets::new();
            (0..50).for_each(|j| more.add_told(&format!("token-{i}-{j}-x9y8z7")));
            r.add(&more);
        }
        let took = since.elapsed();
        let known = r.shared.values.lock().unwrap().all.len();
        assert!(known <= MAX_TOLD && known > 900, "{known}");
        assert!(took.as_secs() < 60, "{took:?}");
        // A secret is known all the same.
        let mut more = Secrets::new();
        more.add("x", "one-more-secret");
        r.add(&more);
        assert_eq!(r.redact("one-more-secret"), PLACEHOLDER);
    }

    #[test]
    fn secrets_added_later_are_hidden_by_every_clone() {
        let r = knowing(&["first-secret"]);
        let clone = r.clone();
        let thread = std::thread::spawn(move || {
            let mut more = Secrets::new();
            more.add("register", "second-secret");
            more.add("register", "first-secret");
            clone.add(&more);
        });
        thread.join().unwrap();
        assert_eq!(r.redact("first-secret second-secret"), "[redacted] [redacted]");
    }

    #[test]
    fn many_secrets_learned_one_by_one_are_searched_for_once() {
        let r = Redactor::new();
        let since = std::time::Instant::now();
        for i in 0..3000 {
            let mut one = Secrets::new();
            one.add("x", &format!("secret-{i}-x9y8z7"));
            r.add(&one);
        }
        assert_eq!(r.redact("secret-0-x9y8z7 secret-2999-x9y8z7"), "[redacted] [redacted]");
        assert!(since.elapsed().as_secs() < 60, "{:?}", since.elapsed());
    }

    #[test]
    fn what_cannot_be_searched_for_hides_all() {
        let state = State { hides_all: true, ..State::default() };
        assert_eq!(*state.redact(b"any text"), *PLACEHOLDER.as_bytes());
        assert!(state.redact(b"").is_empty());
    }

    #[test]
    fn a_value_stays_json() {
        let r = knowing(&["hunter2", "123456"]);
        let mut value = serde_json::json!({"a": ["hunter2", 123456, 7, null, true], "b": {"c": "x hunter2"}});
        r.redact_json(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"a": ["[redacted]", "[redacted]", 7, null, true], "b": {"c": "x [redacted]"}})
        );
    }

    #[test]
    fn case_does_not_bring_a_secret_to_light() {
        let r = knowing(&["Correct-Horse1", "Node1"]);
        assert_eq!(r.redact("CORRECT-HORSE1 correct-horse1"), "[redacted] [redacted]");
        assert!(r.contains_secret("echo CORRECT-HORSE1"));
        assert_eq!(r.redact("node1 Node1"), "node1 [redacted]", "a short one in another case is an ordinary word");
    }

    #[test]
    fn debug_shows_nothing() {
        let mut secrets = Secrets::new();
        secrets.add("x", "hunter2");
        let r = knowing(&["hunter2"]);
        let mut w = r.writer(Vec::new());
        w.write_all(b"hunter2").unwrap();
        assert!(!format!("{secrets:?} {r:?} {w:?}").contains("hunter2"));
    }

    #[test]
    fn a_writer_keeps_unfinished_lines_until_the_end() {
        let r = knowing(&["hunter2"]);
        let mut out = Vec::new();
        let mut w = r.writer(&mut out);
        for part in ["pass: hun", "ter2\nnext ", "hun"] {
            w.write_all(part.as_bytes()).unwrap();
            w.flush().unwrap();
        }
        drop(w);
        assert_eq!(String::from_utf8(out).unwrap(), "pass: [redacted]\nnext hun");
    }

    #[test]
    fn a_writer_passes_lines_on_at_once() {
        let r = knowing(&["hunter2", "line one\nab\ncd"]);
        let mut w = r.writer(Vec::new());
        w.write_all(b"hello\nwor").unwrap();
        assert_eq!(w.inner.as_deref(), Some(&b"hello\n"[..]));
        w.write_all(b"ld\nline one\n").unwrap();
        assert_eq!(w.inner.as_deref(), Some(&b"hello\nworld\n"[..]), "this may become a secret");
        w.write_all(b"ab\nc").unwrap();
        w.write_all(b"d\nline one\nelse\n").unwrap();
        assert_eq!(String::from_utf8(w.finish().unwrap()).unwrap(), "hello\nworld\n[redacted]\n[redacted]\nelse\n");
    }

    #[test]
    fn a_writer_bounds_what_it_holds() {
        let r = knowing(&["hunter2"]);
        let mut w = r.writer(Vec::new());
        let mut sent = String::new();
        for i in 0..30_000 {
            let part = format!("{i} hunter2 ");
            sent.push_str(&part);
            for half in part.as_bytes().chunks(9) {
                w.write_all(half).unwrap();
                assert!(w.pending.len() <= LONG_LINE + 64);
            }
            if i == 10_000 {
                // A run of secrets without a gap.
                for _ in 0..20_000 {
                    w.write_all(b"hunter2").unwrap();
                    assert!(w.pending.len() <= LONG_LINE + 64);
                }
            }
        }
        let shown = String::from_utf8(w.finish().unwrap()).unwrap();
        assert!(!shown.contains("hunter2") && shown.ends_with("29999 [redacted] "));
    }

    /// A secret: anything printable, some of it awkward, long enough and not made of one character.
    fn secret() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9]{6,24}",
            "[ -~]{6,40}",
            "[a-zü€😀'\"\\\\$%&+/= ]{6,20}",
            "[!-~]{8,70}\n[a-z ]{1,5}\n[ -~]{7,90}",
        ]
        .prop_filter("long enough", |s: &String| s.trim().chars().count() >= 6 && !is_common(s.trim()))
    }

    fn forms(secret: &str) -> Vec<String> {
        let core = secret.trim();
        let json = serde_json::to_string(core).unwrap();
        vec![
            core.to_string(),
            json[1..json.len() - 1].to_string(),
            core.replace('\'', "'\\''"),
            core.replace('\'', "''"),
            backslashed(core, |c| unsafe_in_shell(c, "_-./:@%+=~#\n")),
            percent(core, "-_.~", true),
            percent(core, "-_.~", false),
            percent(core, "-_.!~*'()", true),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_form_of_a_secret_survives(
            secrets in prop::collection::vec(secret(), 1..4), before in "\\PC{0,30}", after in "\\PC{0,30}", pick in 0..8usize,
        ) {
            let r = knowing(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            for secret in &secrets {
                let form = &forms(secret)[pick];
                let text = format!("{before}{form}{after}");
                let shown = r.redact(&text).into_owned();
                prop_assert!(shown.contains(PLACEHOLDER));
                prop_assert!(!shown.contains(form.as_str()), "{form:?} in {shown:?}");
                prop_assert!(r.contains_secret(&text));
            }
        }

        #[test]
        fn no_base64_of_a_secret_survives(secret in secret(), before in "[ -~]{0,9}", after in "[ -~]{0,9}", url in any::<bool>()) {
            let r = knowing(&[&secret]);
            let blob = format!("{before}{}{after}", secret.trim());
            let encoded = if url { BASE64_URL_SAFE_NO_PAD.encode(&blob) } else { BASE64_STANDARD.encode(&blob) };
            let shown = r.redact(&format!("data: {encoded}\n")).into_owned();
            let left = shown.replace('=', "").replace(PLACEHOLDER, "").len() - "data: \n".len();
            prop_assert!(left * 6 <= (before.len() + after.len()) * 8 + 12, "{left} characters left: {shown}");
        }

        #[test]
        fn text_without_secrets_is_borrowed(secrets in prop::collection::vec("[A-Z]{8,20}", 1..5), text in "[^A-Z%]{0,80}") {
            let r = knowing(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            // Base64 of capitals always has a capital or a digit of its own; short texts cannot hold a whole one.
            prop_assert!(matches!(r.redact(&text), Cow::Borrowed(t) if t == text));
            prop_assert!(!r.contains_secret(&text));
        }

        #[test]
        fn a_writer_says_what_redact_says(
            secrets in prop::collection::vec(secret(), 1..3), texts in prop::collection::vec("[a-z \n]{0,12}", 4), cuts in prop::collection::vec(1..9usize, 1..60),
        ) {
            let r = knowing(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            let whole: String = texts.iter().zip(secrets.iter().cycle()).map(|(t, s)| format!("{t}{}", s.trim())).collect();
            let mut w = r.writer(Vec::new());
            let mut rest = whole.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                w.write_all(now).unwrap();
                rest = later;
            }
            let shown = String::from_utf8(w.finish().unwrap()).unwrap();
            for secret in &secrets {
                prop_assert!(!shown.contains(secret.trim()), "{secret:?} in {shown:?}");
            }
            prop_assert_eq!(shown, r.redact(&whole));
        }
    }
}
