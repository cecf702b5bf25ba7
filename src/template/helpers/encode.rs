//! Formats, encodings, hashes.

use super::args::{as_text, as_truth, as_whole, is_python};
use super::yaml::{Style, dump};
use super::{Args, Def, Fail, def};
use crate::modules::hex;
use crate::template::limits;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Serialize as _;
use serde_json::{Value, json};
use sha2::Digest as _;
use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

pub const ALL: &[Def] = &[
    def("to_json", "value", "JSON on one line, as Python writes it; indent=, sort_keys=, ensure_ascii=.", (r#"{{to_json (dict a=1)}}"#, r#""{\"a\": 1}""#), |a| {
        to_json(a, None, false)
    })
    .named(&["indent", "sort_keys", "ensure_ascii"]),
    def("to_nice_json", "value", "JSON on many lines, keys in order; indent= (4), sort_keys=, ensure_ascii=.", ("{{to_nice_json (list)}}", r#""[]""#), |a| {
        to_json(a, Some(4), true)
    })
    .named(&["indent", "sort_keys", "ensure_ascii"]),
    def("json", "value", "JSON without any space.", ("{{json (dict a=1)}}", r#""{\"a\":1}""#), |a| {
        serde_json::to_string(&a[0]).map(Value::String).map_err(|e| e.to_string().into())
    }),
    def("from_json", "text", "The value of JSON text.", (r#"{{from_json "[1]"}}"#, "[1]"), |a| {
        serde_json::from_str(&a.text(0)).map_err(|e| Fail::Wrong(format!("not JSON: {e}")))
    }),
    def("to_yaml", "value", "YAML, simple collections on one line, keys in order; indent= (2), sort_keys=, default_flow_style=.", (r#"{{to_yaml (dict a=1)}}"#, r#""{a: 1}\n""#), |a| {
        to_yaml(a, 2, None)
    })
    .named(&["indent", "sort_keys", "default_flow_style", "explicit_start", "width", "allow_unicode"]),
    def("to_nice_yaml", "value", "YAML, an entry a line, keys in order; indent= (4), sort_keys=.", (r#"{{to_nice_yaml (dict a=1)}}"#, r#""a: 1\n""#), |a| {
        to_yaml(a, 4, Some(false))
    })
    .named(&["indent", "sort_keys", "default_flow_style", "explicit_start", "width", "allow_unicode"]),
    def("yaml", "value", "YAML with keys in their own order and no newline at the end.", (r#"{{yaml (dict "b" 1 "a" 2)}}"#, r#""b: 1\na: 2""#), |a| {
        let style = Style { indent: 2, sort_keys: false, flow: Some(false), explicit_start: false, python: None };
        Ok(json!(dump(&a[0], &style).trim_end_matches('\n')))
    }),
    def("from_yaml", "text", "The value of YAML text.", (r#"{{from_yaml "a: 1"}}"#, r#"{"a":1}"#), |a| {
        if matches!(a[0], Value::Array(_) | Value::Object(_)) {
            return Ok(a[0].clone());
        }
        if is_python() {
            if a[0].is_null() {
                return Ok(Value::Null);
            }
            let mut all = super::yaml11::read(&a.text(0))?;
            return match all.len() {
                0 | 1 => Ok(all.pop().unwrap_or_default()),
                _ => Err("it holds several documents: `from_yaml_all` reads them".into()),
            };
        }
        serde_yaml::from_str(&a.text(0)).map_err(|e| Fail::Wrong(format!("not YAML: {e}")))
    }),
    def("from_yaml_all", "text", "A list of the values of all documents in YAML text.", (r#"{{from_yaml_all "a: 1"}}"#, r#"[{"a":1}]"#), |a| {
        use serde::Deserialize as _;
        if is_python() {
            return super::yaml11::read(&a.text(0)).map(Value::Array);
        }
        serde_yaml::Deserializer::from_str(&a.text(0))
            .map(|d| Value::deserialize(d).map_err(|e| Fail::Wrong(format!("not YAML: {e}"))))
            .collect()
    }),
    def("b64encode", "text", "Base64; urlsafe=true in the alphabet for addresses; utf16=true of the text in UTF-16 (little end first), as PowerShell reads it.", (r#"{{b64encode "a"}}"#, r#""YQ==""#), |a| {
        let engine = if a.flag("urlsafe", false)? { &URL_SAFE } else { &STANDARD };
        if a.flag("utf16", false)? {
            let bytes: Vec<u8> = a.text(0).encode_utf16().flat_map(u16::to_le_bytes).collect();
            return Ok(json!(engine.encode(bytes)));
        }
        Ok(json!(engine.encode(a.text(0).as_bytes())))
    })
    .named(&["urlsafe", "utf16"]),
    def("b64decode", "text", "The text of base64; urlsafe=true for the other alphabet.", (r#"{{b64decode "YQ=="}}"#, r#""a""#), |a| {
        let engine = if a.flag("urlsafe", false)? { &URL_SAFE } else { &STANDARD };
        // Encoders break lines; what reads them back does not mind.
        let bare: String = a.text(0).split_whitespace().collect();
        let bytes = engine.decode(bare).map_err(|e| format!("not base64: {e}"))?;
        String::from_utf8(bytes).map(Value::String).map_err(|_| "the decoded bytes are not UTF-8 text".into())
    })
    .named(&["urlsafe"]),
    def("urlencode", "value", "Text for use in an address; a mapping becomes `a=1&b=2`.", (r#"{{urlencode "a b/c"}}"#, r#""a%20b/c""#), |a| {
        Ok(json!(match &a[0] {
            Value::Object(o) => o
                .iter()
                .map(|(k, v)| format!("{}={}", percent(k, ""), percent(&as_text(v), "")).replace("%20", "+"))
                .collect::<Vec<_>>()
                .join("&"),
            Value::Array(pairs) if is_python() => {
                let mut all = vec![];
                for p in pairs {
                    let [k, v] = p.as_array().map_or(&[][..], Vec::as_slice) else {
                        return Err("of a list it takes pairs".into());
                    };
                    let part = |v: &Value| percent(&as_text(v), "").replace("%20", "+");
                    all.push(format!("{}={}", part(k), part(v)));
                }
                all.join("&")
            }
            _ => percent(&a.text(0), "/"),
        }))
    }),
    def("urldecode", "text", "Text out of an address.", (r#"{{urldecode "a%20b"}}"#, r#""a b""#), |a| {
        let s = a.text(0).replace('+', " ");
        let (mut out, mut rest) = (vec![], s.as_bytes());
        while let Some((b, tail)) = rest.split_first() {
            let code = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
            match (b, code) {
                (b'%', Some(c)) => {
                    out.push(c);
                    rest = &tail[2..];
                }
                _ => {
                    out.push(*b);
                    rest = tail;
                }
            }
        }
        Ok(json!(String::from_utf8_lossy(&out)))
    }),
    def("urlsplit", "url [part]", "An address's parts, or one: scheme, netloc, hostname, port, username, password, path, query, fragment.", (r#"{{urlsplit "https://a:6443/x" "port"}}"#, "6443"), urlsplit),
    def("hash", "text [kind]", "The hash in hexadecimal digits: sha1 (unless said), md5, sha224, sha256, sha384, sha512.", (r#"{{hash "a" "sha1"}}"#, r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#), |a| {
        hash(&a.text(0), a.either(1, "hashtype").map(as_text).as_deref().unwrap_or("sha1"))
    })
    .named(&["hashtype"]),
    def("checksum", "text", "The SHA-1 hash.", (r#"{{checksum "a"}}"#, r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#), |a| hash(&a.text(0), "sha1")),
    def("sha1", "text", "The SHA-1 hash.", (r#"{{sha1 "a"}}"#, r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#), |a| hash(&a.text(0), "sha1")),
    def("sha256", "text", "The SHA-256 hash.", (r#"{{substr (sha256 "a") 0 8}}"#, r#""ca978112""#), |a| hash(&a.text(0), "sha256")),
    def("sha512", "text", "The SHA-512 hash.", (r#"{{substr (sha512 "a") 0 8}}"#, r#""1f40fc92""#), |a| hash(&a.text(0), "sha512")),
    def("md5", "text", "The MD5 hash.", (r#"{{md5 "a"}}"#, r#""0cc175b9c0f1b6a831c399e269772661""#), |a| hash(&a.text(0), "md5")),
    def(
        "password_hash",
        "password [kind] [salt]",
        "A hash for /etc/shadow: sha512 (unless said) or sha256; rounds= (656000, or 535000 for sha256). Without salt= it is another one at every run, and the account changes each time: give one.",
        (r#"{{password_hash "x" "sha256" "salt" rounds=5000}}"#, r#""$5$salt$eC8iHMk0B/acxRGi4idWiCK/.xXHLUsxovn4V591t3.""#),
        password_hash,
    )
    .named(&["hashtype", "salt", "salt_size", "rounds"]),
    def("to_uuid", "text", "A UUID that is always the same for the same text; namespace= chooses another than Ansible's.", (r#"{{to_uuid "a"}}"#, r#""9b6d1a0c-51b1-5093-93fc-cf09a700edff""#), |a| {
        let namespace = a.either(1, "namespace").map(as_text).unwrap_or("361E6D51-FAEC-444A-9079-341386DA8E2E".into());
        let digits: String = namespace.chars().filter(|c| *c != '-').collect();
        let space = u128::from_str_radix(&digits, 16).map_err(|_| format!("`{namespace}` is no UUID"))?;
        let mut all = space.to_be_bytes().to_vec();
        all.extend(a.text(0).as_bytes());
        let mut b = sha1::Sha1::digest(&all)[..16].to_vec();
        b[6] = b[6] & 0x0f | 0x50;
        b[8] = b[8] & 0x3f | 0x80;
        let h = hex(&b);
        Ok(json!(format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])))
    })
    .named(&["namespace"]),
];

/// How Python lays JSON out.
struct Python {
    indent: Option<usize>,
    depth: usize,
    full: bool,
    ascii: bool,
}

impl Python {
    fn line(&self, w: &mut (impl std::io::Write + ?Sized)) -> std::io::Result<()> {
        match self.indent {
            Some(n) => write!(w, "\n{}", " ".repeat(n * self.depth)),
            None => Ok(()),
        }
    }
    fn open(&mut self) {
        self.depth += 1;
        self.full = false;
    }
    fn close(&mut self, w: &mut (impl std::io::Write + ?Sized)) -> std::io::Result<()> {
        self.depth -= 1;
        if self.full { self.line(w) } else { Ok(()) }
    }
    fn next(&mut self, w: &mut (impl std::io::Write + ?Sized), first: bool) -> std::io::Result<()> {
        if !first {
            w.write_all(if self.indent.is_some() { b"," } else { b", " })?;
        }
        self.line(w)
    }
}

impl serde_json::ser::Formatter for Python {
    fn write_f64<W: std::io::Write + ?Sized>(&mut self, w: &mut W, f: f64) -> std::io::Result<()> {
        w.write_all(crate::template::jinja::float_text(f).as_bytes())
    }
    fn begin_array<W: std::io::Write + ?Sized>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.open();
        w.write_all(b"[")
    }
    fn end_array<W: std::io::Write + ?Sized>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.close(w)?;
        self.full = true;
        w.write_all(b"]")
    }
    fn begin_array_value<W: std::io::Write + ?Sized>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        self.next(w, first)
    }
    fn end_array_value<W: std::io::Write + ?Sized>(&mut self, _: &mut W) -> std::io::Result<()> {
        self.full = true;
        Ok(())
    }
    fn begin_object<W: std::io::Write + ?Sized>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.open();
        w.write_all(b"{")
    }
    fn end_object<W: std::io::Write + ?Sized>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.close(w)?;
        self.full = true;
        w.write_all(b"}")
    }
    fn begin_object_key<W: std::io::Write + ?Sized>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        self.next(w, first)
    }
    fn begin_object_value<W: std::io::Write + ?Sized>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
    fn end_object_value<W: std::io::Write + ?Sized>(&mut self, _: &mut W) -> std::io::Result<()> {
        self.full = true;
        Ok(())
    }
    fn write_string_fragment<W: std::io::Write + ?Sized>(&mut self, w: &mut W, s: &str) -> std::io::Result<()> {
        if !self.ascii || s.is_ascii() && !s.contains('\x7f') {
            return w.write_all(s.as_bytes());
        }
        for c in s.chars() {
            if c.is_ascii() && c != '\x7f' {
                write!(w, "{c}")?;
            } else {
                let mut pair = [0; 2];
                for unit in c.encode_utf16(&mut pair) {
                    write!(w, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

fn to_json(a: &Args, indent: Option<usize>, sort: bool) -> Result<Value, Fail> {
    let indent = match a.named("indent") {
        None => indent,
        Some(Value::Null) => None,
        Some(v) => match usize::try_from(as_whole(v)?) {
            Ok(n) if n > 100 => return Err("its indent is 100 at most".into()),
            n => Some(n.unwrap_or(0)),
        },
    };
    let mut sorted = a[0].clone();
    if a.flag("sort_keys", sort)? {
        sorted.sort_all_objects();
    }
    Ok(Value::String(written(&sorted, indent, a.flag("ensure_ascii", true)?)?))
}

fn written(value: &Value, indent: Option<usize>, ascii: bool) -> Result<String, String> {
    let mut out = vec![];
    let format = Python { indent, depth: 0, full: false, ascii };
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format)).map_err(|e| e.to_string())?;
    String::from_utf8(out).map_err(|e| e.to_string())
}

/// JSON on one line, as Python writes it.
pub fn python_json(value: &Value) -> String {
    written(value, None, true).unwrap_or_else(|_| value.to_string())
}

fn to_yaml(a: &Args, indent: usize, flow: Option<bool>) -> Result<Value, Fail> {
    let indent = a.named("indent").map_or(Ok(indent as i64), as_whole)?;
    let width = a.named("width").map_or(Ok(80), as_whole)?;
    let flow = match a.named("default_flow_style") {
        None => flow,
        Some(Value::Null) => None,
        Some(v) => Some(as_truth(v)?),
    };
    let style = Style {
        // What a writer of YAML cannot do it does by two.
        indent: usize::try_from(indent).ok().filter(|i| (2..10).contains(i)).unwrap_or(2),
        sort_keys: a.flag("sort_keys", true)?,
        flow,
        explicit_start: a.flag("explicit_start", false)?,
        python: is_python().then_some(usize::try_from(width).unwrap_or(80)),
    };
    Ok(json!(dump(&a[0], &style)))
}

fn percent(s: &str, also: &str) -> String {
    s.bytes().fold(String::new(), |mut out, b| {
        match b {
            b if b.is_ascii_alphanumeric() || b"_.-~".contains(&b) || also.as_bytes().contains(&b) => {
                out.push(b as char)
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

fn urlsplit(a: &Args) -> Result<Value, Fail> {
    let url = a.text(0);
    let (rest, fragment) = url.split_once('#').unwrap_or((&url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let scheme_end = rest.find(':').filter(|i| {
        let s = &rest[..*i];
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let (scheme, rest) = scheme_end.map_or(("", rest), |i| (&rest[..i], &rest[i + 1..]));
    let (netloc, path) = match rest.strip_prefix("//") {
        Some(r) => r.find('/').map_or((r, ""), |i| r.split_at(i)),
        None => ("", rest),
    };
    let (login, place) = netloc.rsplit_once('@').map_or((None, netloc), |(l, p)| (Some(l), p));
    let (username, password) = match login {
        None => (Value::Null, Value::Null),
        Some(l) => l.split_once(':').map_or((json!(l), Value::Null), |(u, p)| (json!(u), json!(p))),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        Some((h, p)) => (h, p.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(h, p)| (h, Some(p))),
    };
    let port = match port.filter(|p| !p.is_empty()) {
        None => Value::Null,
        Some(p) => json!(p.parse::<u16>().map_err(|_| format!("`{p}` is no port"))?),
    };
    let all = json!({
        "fragment": fragment,
        "hostname": if host.is_empty() { Value::Null } else { json!(host.to_lowercase()) },
        "netloc": netloc, "password": password, "path": path, "port": port, "query": query,
        "scheme": scheme.to_lowercase(), "username": username,
    });
    match a.get(1).map(as_text) {
        None => Ok(all),
        Some(p) => all.get(p.as_ref()).cloned().ok_or_else(|| {
            let names: Vec<&str> = all.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
            Fail::Wrong(format!("an address has no part `{p}`; there is: {}", names.join(", ")))
        }),
    }
}

fn hash(s: &str, kind: &str) -> Result<Value, Fail> {
    let s = s.as_bytes();
    Ok(json!(match kind {
        "sha1" => hex(&sha1::Sha1::digest(s)),
        "md5" => hex(&md5::Md5::digest(s)),
        "sha224" => hex(&sha2::Sha224::digest(s)),
        "sha256" => hex(&sha2::Sha256::digest(s)),
        "sha384" => hex(&sha2::Sha384::digest(s)),
        "sha512" => hex(&sha2::Sha512::digest(s)),
        other =>
            return Err(Fail::Wrong(format!("it knows md5, sha1, sha224, sha256, sha384 and sha512, not `{other}`"))),
    }))
}

fn password_hash(a: &Args) -> Result<Value, Fail> {
    let kind = a.either(1, "hashtype").map(as_text).unwrap_or("sha512".into());
    let large = match kind.as_ref() {
        "sha512" | "sha512_crypt" => true,
        "sha256" | "sha256_crypt" => false,
        other => return Err(Fail::Wrong(format!("it knows sha512 and sha256, not `{other}`"))),
    };
    let salt = match a.either(2, "salt").filter(|s| !s.is_null()) {
        Some(s) => as_text(s).into_owned(),
        None => {
            let size = a.named("salt_size").map_or(Ok(16), as_whole)?;
            super::random::token(usize::try_from(size).unwrap_or(16).clamp(1, 16), super::random::LETTERS_AND_DIGITS)?
        }
    };
    if !salt.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/') || salt.is_empty() || salt.len() > 16
    {
        return Err("its salt has 1 to 16 letters, digits, `.` and `/`".into());
    }
    // As many as Ansible takes.
    let usual = if large { 656_000 } else { 535_000 };
    let rounds = a.named("rounds").filter(|r| !r.is_null()).map_or(Ok(usual), as_whole)?;
    crypt(&a.text(0), large, &salt, rounds).map(Value::String)
}

/// Hashes that were made: every host asks for the same, and each takes a while. By what they were made of, hashed.
static MADE: LazyLock<RwLock<HashMap<Vec<u8>, String>>> = LazyLock::new(RwLock::default);

/// So many, then they begin anew.
const REMEMBERED: usize = 1000;
/// What a round costs: some seconds may pass, and no more.
const ROUND: usize = 16;

/// A hash of crypt(3): SHA-512, or else SHA-256.
pub fn crypt(password: &str, large: bool, salt: &str, rounds: i64) -> Result<String, Fail> {
    use sha_crypt::{Params, sha256_crypt, sha512_crypt};
    let params = u32::try_from(rounds)
        .ok()
        .filter(|r| (1000..=2_000_000).contains(r))
        .and_then(|r| Params::new(r).ok())
        .ok_or("its rounds are between 1000 and 2000000")?;
    let of = sha2::Sha256::digest(json!([password, large, salt, rounds]).to_string()).to_vec();
    if let Some(made) = MADE.read().ok().and_then(|m| m.get(&of).cloned()) {
        return Ok(made);
    }
    limits::charge(usize::try_from(rounds).unwrap_or(0) * ROUND)?;
    let salted = salt.as_bytes();
    let (mark, digest) = if large {
        ("$6$", crypt_digits(&sha512_crypt(password.as_bytes(), salted, params), [0, 21, 42], |[x, y, z]| [y, z, x]))
    } else {
        ("$5$", crypt_digits(&sha256_crypt(password.as_bytes(), salted, params), [0, 10, 20], |[x, y, z]| [z, x, y]))
    };
    // crypt(3)'s own number of rounds is left out.
    let rounds = if rounds == 5000 { String::new() } else { format!("rounds={rounds}$") };
    let made = format!("{mark}{rounds}{salt}${digest}");
    if let Ok(mut m) = MADE.write() {
        if m.len() >= REMEMBERED {
            m.clear();
        }
        m.insert(of, made.clone());
    }
    Ok(made)
}

/// A digest in crypt(3)'s digits: three bytes, each from another third, make four digits, the lowest first.
fn crypt_digits(digest: &[u8], first: [usize; 3], turn: fn([usize; 3]) -> [usize; 3]) -> String {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = String::new();
    let mut put = |bytes: &[u8]| {
        let mut n = bytes.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        for _ in 0..=bytes.len() {
            out.push(char::from(DIGITS[(n & 63) as usize]));
            n >>= 6;
        }
    };
    let mut places = first;
    for _ in 0..digest.len() / 3 {
        put(&places.map(|p| digest[p]));
        places = turn(places).map(|p| p + 1);
    }
    // What is left over: the last byte, or the last two in turned order.
    let rest: Vec<u8> = digest[digest.len() / 3 * 3..].iter().rev().copied().collect();
    put(&rest);
    out
}
