//! `uri`: a request to a web service, made on the host with its curl.

use super::args::{Bool, Mode, Text};
use super::copy::absolute;
use super::place::tidy;
use super::whole::Whole;
use super::{ArgError, Change, Ctx, Decision, Failure, Local, Module, Read, Reader, Stop};
use crate::action::{Action, Command, CommandLine};
use crate::probe::{Observed, Output, Probe, Touches};
use crate::quote::shell_quote;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Sends a request to a web service, from the host. It needs curl there. A plan makes no request, unless the task has
/// `check_mode: false`.
///
/// Registers `status` (-1 where there was no answer), `url`, `redirected`, `elapsed`, `msg`, the answer's headers in small
/// letters with `_` for `-`, `cookies`, `content` (with `return_content`, or where the status is none of those wanted) and,
/// where the answer is JSON, `json`; with `dest`, `path`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uri {
    /// The address, `http://` or `https://`.
    url: Text,
    /// GET, POST, PUT, DELETE, HEAD, …
    #[serde(default = "get")]
    method: Text,
    /// What is sent: text, or data that `body_format` makes text of.
    body: Option<Value>,
    /// `raw`, `json`, `form-urlencoded`.
    #[serde(default)]
    body_format: Format,
    /// Headers to send.
    #[serde(default)]
    headers: Map<String, Value>,
    /// The status, or those, that count as success; -1: no answer.
    #[serde(default = "ok")]
    status_code: Value,
    /// Register the answer's text as `content`.
    #[serde(default)]
    return_content: Bool,
    /// Also `user`.
    #[serde(alias = "user")]
    #[schemars(extend("x-aliases" = ["user"]))]
    url_username: Option<Text>,
    /// Also `password`.
    #[serde(alias = "password")]
    #[schemars(extend("x-aliases" = ["password"]))]
    url_password: Option<Text>,
    /// Send name and password at once, not only when asked for them.
    #[serde(default)]
    force_basic_auth: Bool,
    /// Check the server's certificate.
    #[serde(default = "yes")]
    validate_certs: Bool,
    /// A file on the host with the certificates of the authorities to trust.
    ca_path: Option<Text>,
    /// A file on the host with a certificate (and its key) to show.
    client_cert: Option<Text>,
    /// A file on the host with that certificate's key.
    client_key: Option<Text>,
    /// `safe`: GET and HEAD follow a redirect; `all` or `yes`: all methods do; `none` or `no`: none does.
    #[serde(default)]
    follow_redirects: Follow,
    /// Seconds to wait for a connection, and for an answer that stands still.
    #[serde(default = "half_a_minute")]
    timeout: Whole,
    /// A socket on the host to speak through.
    unix_socket: Option<Text>,
    /// Use the proxies that the environment names.
    #[serde(default = "yes")]
    use_proxy: Bool,
    /// How we call ourselves.
    #[serde(default = "agent")]
    http_agent: Text,
    /// Do nothing if this path exists on the host.
    creates: Option<Text>,
    /// Do nothing unless this path exists on the host.
    removes: Option<Text>,
    /// A path on the host, a folder or a file, for the answer. Only if it differs is it written, and the task changed.
    dest: Option<Text>,
    /// Permissions of `dest`.
    mode: Option<Mode>,
    /// The user it belongs to.
    owner: Option<Text>,
    /// The group it belongs to.
    group: Option<Text>,
}

fn get() -> Text {
    "GET".into()
}
fn ok() -> Value {
    json!([200])
}
fn yes() -> Bool {
    Bool(true)
}
fn half_a_minute() -> Whole {
    Whole(30)
}
fn agent() -> Text {
    "windlass".into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Format {
    #[default]
    Raw,
    Json,
    FormUrlencoded,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(with = "String")]
enum Follow {
    All,
    None,
    #[default]
    Safe,
}

impl<'de> Deserialize<'de> for Follow {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let v = Value::deserialize(d)?;
        let text = v.as_str().map_or_else(|| v.to_string(), str::to_lowercase);
        match text.as_str() {
            "all" | "yes" | "true" => Ok(Follow::All),
            "none" | "no" | "false" => Ok(Follow::None),
            "safe" | "urllib2" => Ok(Follow::Safe),
            _ => Err(serde::de::Error::custom(format!("expected safe, all or none, found {v}"))),
        }
    }
}

/// How much of an answer is brought over, in bytes: of one that was asked for, and of one that only explains a failure.
const CONTENT: usize = 4 << 20;
const EXPLANATION: usize = 64 << 10;

impl Module for Uri {
    const NAME: &'static str = "uri";
    const EXAMPLE: &'static str = r#"- name: Until it is healthy
  uri: {url: "http://127.0.0.1:8080/health", return_content: true}
  register: answer
  until: eq answer.status 200
  retries: 30
  delay: 2"#;

    fn prepare(&mut self, _: &dyn Local) -> Result<(), ArgError> {
        let lower = self.url.to_ascii_lowercase();
        if !["http://", "https://"].iter().any(|s| lower.starts_with(s)) || self.url.chars().any(char::is_whitespace) {
            return Err(ArgError::new("url", "the address must begin with http:// or https:// and have no blanks"));
        }
        self.method.0 = self.method.to_ascii_uppercase();
        if self.method.is_empty() || !self.method.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(ArgError::new("method", format!("`{}` is not a method", self.method.0)));
        }
        for (name, value) in &self.headers {
            let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(ArgError::new("headers", format!("`{name}` is not the name of a header")));
            }
            match value {
                Value::Array(_) | Value::Object(_) => {
                    return Err(ArgError::new("headers", format!("the header `{name}` must be text")));
                }
                v if plain_text(v).contains(['\n', '\r']) => {
                    return Err(ArgError::new("headers", format!("the header `{name}` has more than one line")));
                }
                _ => {}
            }
        }
        for (name, p) in [("creates", &self.creates), ("removes", &self.removes), ("dest", &self.dest)] {
            p.as_deref().map_or(Ok(()), |p| absolute(name, p))?;
        }
        let files = [
            ("ca_path", &self.ca_path),
            ("client_cert", &self.client_cert),
            ("client_key", &self.client_key),
            ("unix_socket", &self.unix_socket),
        ];
        for (name, p) in files {
            p.as_deref().map_or(Ok(()), |p| absolute(name, p))?;
        }
        if self.mode == Some(Mode::Preserve) {
            return Err(ArgError::new("mode", "`preserve` has no meaning here: there is no source file"));
        }
        if self.mode.as_ref().is_some_and(|m| matches!(m, Mode::Symbolic(_))) {
            return Err(ArgError::new("mode", "the mode must be octal here").hint("as in \"0644\""));
        }
        if self.url_username.as_deref().is_some_and(|u| u.contains(':')) {
            return Err(ArgError::new("url_username", "a name for basic authentication cannot hold `:`"));
        }
        self.wanted()?;
        self.body()?;
        Ok(())
    }

    fn probes(&self, _: &Ctx) -> Vec<Probe> {
        [&self.creates, &self.removes].into_iter().flatten().map(|p| Probe::Path(tidy(p))).collect()
    }

    fn decide(&self, seen: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let there = |p: &Text| seen.path(&tidy(p)).map(|s| s.followed().is_some());
        let mut skipped = None;
        if let Some(c) = &self.creates
            && there(c)?
        {
            skipped = Some(format!("skipped, since '{}' exists", c.0));
        } else if let Some(r) = &self.removes
            && !there(r)?
        {
            skipped = Some(format!("skipped, since '{}' does not exist", r.0));
        }
        if let Some(msg) = skipped {
            let mut result = Map::new();
            result.insert("msg".into(), json!(msg));
            return Ok(Decision::satisfied(result));
        }
        let harmless = matches!(&*self.method, "GET" | "HEAD" | "OPTIONS");
        let touches = match (&self.dest, harmless) {
            (_, false) => Touches::everything(),
            (Some(d), true) => Touches::path(d),
            (None, true) => Touches::default(),
        };
        let me = Arc::new(self.clone());
        Ok(Decision::Change(Change {
            actions: vec![Action::Command(Command {
                what: CommandLine::Shell {
                    script: self.script().map_err(|e| Stop::fail(e.message))?,
                    shell: "/bin/sh".into(),
                },
                ..Default::default()
            })],
            touches,
            summary: format!("{} {}", self.method.0, self.url.0),
            reader: Some(Reader(Arc::new(move |o| me.read(o)))),
            ..Default::default()
        }))
    }
}

fn plain_text(v: &Value) -> String {
    v.as_str().map_or_else(|| if v.is_null() { String::new() } else { v.to_string() }, str::to_string)
}

/// A value in curl's configuration.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Text as it stands in a form's body.
fn form(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(b as char),
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

impl Uri {
    /// The statuses that count as success.
    fn wanted(&self) -> Result<Vec<i64>, ArgError> {
        let one = |v: &Value| v.as_i64().or_else(|| v.as_str()?.trim().parse().ok());
        let found: Option<Vec<i64>> = match &self.status_code {
            Value::Array(a) => a.iter().map(one).collect(),
            Value::String(s) => s.split(',').map(|p| p.trim().parse().ok()).collect(),
            v => one(v).map(|n| vec![n]),
        };
        found
            .filter(|f| !f.is_empty() && f.iter().all(|n| *n == -1 || (100..600).contains(n)))
            .ok_or_else(|| ArgError::new("status_code", "expected a status, such as 200, or a list of them"))
    }

    /// What is sent.
    fn body(&self) -> Result<Option<String>, ArgError> {
        let Some(body) = &self.body else { return Ok(None) };
        let text = match (self.body_format, body) {
            // Text is taken to be JSON already.
            (Format::Json | Format::Raw, Value::String(s)) => s.clone(),
            (Format::Json, v) => v.to_string(),
            (Format::FormUrlencoded, Value::String(s)) => s.clone(),
            (Format::FormUrlencoded, Value::Object(o)) => {
                let pairs = o.iter().flat_map(|(k, v)| match v {
                    Value::Array(a) => a.iter().map(|v| (k, plain_text(v))).collect(),
                    v => vec![(k, plain_text(v))],
                });
                pairs.map(|(k, v)| format!("{}={}", form(k), form(&v))).collect::<Vec<_>>().join("&")
            }
            (Format::FormUrlencoded, _) => {
                return Err(ArgError::new("body", "a form's body is text or a mapping"));
            }
            (Format::Raw, Value::Object(_) | Value::Array(_)) => {
                return Err(
                    ArgError::new("body", "a body that is no text needs a `body_format`").hint("`body_format: json`")
                );
            }
            (Format::Raw, v) => plain_text(v),
        };
        Ok(Some(text))
    }

    /// curl's configuration, which it reads from standard input: nothing of it stands in its arguments.
    fn config(&self, has_body: bool) -> String {
        let mut c = format!("url = {}\n", quoted(&self.url));
        let mut say = |name: &str, value: &str| c += &format!("{name} = {}\n", quoted(value));
        say("user-agent", &self.http_agent);
        let given = |n: &str| self.headers.keys().any(|k| k.eq_ignore_ascii_case(n));
        let kind = match self.body_format {
            Format::Json => Some("application/json"),
            Format::FormUrlencoded => Some("application/x-www-form-urlencoded"),
            Format::Raw => None,
        };
        if let Some(k) = kind.filter(|_| !given("content-type")) {
            say("header", &format!("Content-Type: {k}"));
        }
        if !given("expect") {
            say("header", "Expect:");
        }
        for (name, value) in &self.headers {
            let v = plain_text(value);
            say("header", &if v.is_empty() { format!("{name};") } else { format!("{name}: {v}") });
        }
        if let Some(u) = &self.url_username {
            say("user", &format!("{}:{}", u.0, self.url_password.as_deref().unwrap_or_default()));
        }
        for (name, v) in [
            ("cacert", &self.ca_path),
            ("cert", &self.client_cert),
            ("key", &self.client_key),
            ("unix-socket", &self.unix_socket),
        ] {
            if let Some(v) = v {
                say(name, v);
            }
        }
        if !self.use_proxy.0 {
            say("noproxy", "*");
        }
        let seconds = self.timeout.0.max(1).to_string();
        say("connect-timeout", &seconds);
        say("speed-time", &seconds);
        say("speed-limit", "1");
        say("max-redirs", "10");
        say("proto", "=http,https");
        match (&*self.method, has_body) {
            ("HEAD", _) => c += "head\n",
            ("GET", false) => {}
            // Then a redirect may turn it into a GET, as it should.
            ("POST", _) => {}
            (m, _) => c += &format!("request = {}\n", quoted(m)),
        }
        if self.url_username.is_some() {
            c += if self.force_basic_auth.0 { "basic\n" } else { "anyauth\n" };
        }
        if !self.validate_certs.0 {
            c += "insecure\n";
        }
        let follows = match self.follow_redirects {
            Follow::All => true,
            Follow::Safe => matches!(&*self.method, "GET" | "HEAD"),
            Follow::None => false,
        };
        if follows {
            c += "location\n";
        }
        c += "silent\nshow-error\ngloboff\n";
        c
    }

    /// The request, and what came of it in lines: curl's exit code, what it has to say, whether `dest` changed, its path,
    /// and the answer's headers and content in base64.
    fn script(&self) -> Result<String, ArgError> {
        let body = self.body()?.or_else(|| (*self.method == *"POST").then(String::new));
        let config = self.config(body.is_some());
        let mut s = String::from(
            "command -v curl >/dev/null 2>&1 || { echo nocurl; exit 0; }\n\
             t=$(umask 077; mktemp -d) || exit 1\ntrap 'rm -rf -- \"$t\" \"$new\"' EXIT\nnew= o=$t/c\n",
        );
        if self.dest.is_some() {
            s += super::place::NEW_FILE;
        }
        if let Some(d) = &self.dest {
            let last = self.url.split(['?', '#']).next().and_then(|u| u.splitn(4, '/').nth(3)).unwrap_or_default();
            let name =
                last.rsplit('/').next().filter(|n| !n.is_empty() && *n != ".." && *n != ".").unwrap_or("index.html");
            s += &format!(
                "dest={}\n[ ! -d \"$dest\" ] || dest=$dest/{}\nnew=${{dest%/*}}/.${{dest##*/}}.windlass~\n",
                shell_quote(&tidy(d)),
                shell_quote(name)
            );
        }
        let mut with_body = "";
        if let Some(b) = &body {
            let coded = STANDARD.encode(b);
            let lines: String =
                coded.as_bytes().chunks(1000).map(|c| format!("{}\n", String::from_utf8_lossy(c))).collect();
            s += &format!("base64 -d >\"$t/b\" <<'windlass-body' || exit 1\n{lines}windlass-body\n");
            with_body = " --data-binary \"@$t/b\"";
        }
        s += &format!(
            "w=$(curl -q --config - --dump-header \"$t/h\" --output \"$o\"{with_body} \
             --write-out '%{{http_code}} %{{num_redirects}} %{{time_total}} %{{size_download}} %{{url_effective}}' 2>\"$t/e\" \
             <<'windlass-config'\n{config}windlass-config\n)\nr=$?\ncode=${{w%% *}}\n[ $r -eq 0 ] || code=-1\n"
        );
        let wanted = self.wanted()?.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        s += &format!("case ' {wanted} ' in *\" $code \"*) good=1 ;; *) good= ;; esac\n");
        s += "printf '%s\\n' \"$r\" \"$w\"\nhead -n 3 \"$t/e\" | tr '\\n' ' '; echo\nchanged=no\n";
        if self.dest.is_some() {
            let spec = super::place::chown_spec(self.owner.as_deref(), self.group.as_deref());
            let own = shell_quote(spec.as_deref().unwrap_or_default());
            let mode = match &self.mode {
                Some(Mode::Bits(b)) => format!("{b:04o}"),
                _ => "0644".into(),
            };
            let there = "[ -f \"$dest\" ] && ! [ -L \"$dest\" ]";
            let keep = match self.mode {
                Some(_) => String::new(),
                None => format!("if {there}; then m=$(stat -c %a -- \"$dest\"); fi\n"),
            };
            // What is there already gets its mode and owner where it is opened: its name may lead elsewhere by then.
            let same = match self.mode.is_some() || spec.is_some() {
                false => ":".to_string(),
                true => format!(
                    "if {there}; then\nexec 9<\"$dest\" || exit 1\nit=/proc/self/fd/9\n[ -e \"$it\" ] || it=$dest\n\
                     id() {{ stat -Lc \"$1\" -- \"$it\"; }}\n\
                     [ \"$(id %d:%i)\" = \"$(stat -c %d:%i -- \"$dest\")\" ] || {{ echo \"someone put something else in the place of $dest\" >&2; exit 1; }}\n\
                     was=$(id '%a %u %g')\n{}chmod -- \"$m\" \"$it\" || exit 1\n\
                     [ \"$(id '%a %u %g')\" = \"$was\" ] || changed=yes\nexec 9<&-\nfi",
                    if spec.is_some() { format!("chown -- {own} \"$it\" || exit 1\n") } else { String::new() }
                ),
            };
            s += &format!(
                "if [ -n \"$good\" ] && [ $r -eq 0 ]; then\nm={mode}\n{keep}if cmp -s -- \"$o\" \"$dest\"; then\n{same}\nelse\n\
                 new_file \"$o\" \"$new\" \"$m\" {own} && mv -fT -- \"$new\" \"$dest\" || exit 1\nchanged=yes\nfi\nfi\n"
            );
        }
        s += "printf '%s\\n' \"$changed\" \"$dest\"\nbase64 -w 0 \"$t/h\" 2>/dev/null; echo\nn=0\n";
        if self.return_content.0 {
            s += &format!("n={CONTENT}\n");
        } else {
            s += &format!(
                "[ -n \"$good\" ] || n={EXPLANATION}\n\
                 tr -d '\\r' <\"$t/h\" 2>/dev/null | grep -qi '^content-type:.*j\\(son\\|avascript\\)' && n={CONTENT}\n"
            );
        }
        s += "[ $n -eq 0 ] || ! [ -f \"$o\" ] || head -c $n -- \"$o\" | base64 -w 0\necho\nexit 0\n";
        Ok(s)
    }

    /// What came of it.
    fn read(&self, outputs: &[Output]) -> Result<Read, Failure> {
        let out = outputs.first().cloned().unwrap_or_default();
        let fail = |message: String, result: Map<String, Value>| Failure { message, hint: None, result };
        let mut lines = out.stdout.split('\n');
        let mut line = || lines.next().unwrap_or_default();
        let rc = line();
        if rc == "nocurl" {
            return Err(Failure {
                hint: Some("install it there before: `apt: {name: curl}`".into()),
                ..fail("there is no curl on the host, which `uri` needs".into(), Map::new())
            });
        }
        if out.rc != 0 {
            let said = out.stderr.lines().last().unwrap_or("it failed").to_string();
            return Err(fail(format!("the request's script failed: {said}"), Map::new()));
        }
        let told: Vec<&str> = line().splitn(5, ' ').collect();
        let [code, redirects, time, size, url] = told.as_slice() else {
            return Err(fail("curl gave no account of the request".into(), Map::new()));
        };
        let error = line().trim().to_string();
        let changed = line() == "yes";
        let path = line();
        let decode = |t: &str| STANDARD.decode(t).unwrap_or_default();
        let headers = String::from_utf8_lossy(&decode(line())).into_owned();
        let content = decode(line());

        let mut r = headers_of(&headers);
        let status: i64 = if rc == "0" { code.parse().unwrap_or(-1) } else { -1 };
        let status = if status == 0 { -1 } else { status };
        r.insert("status".into(), json!(status));
        r.insert("url".into(), json!(if url.is_empty() { &self.url.0 } else { *url }));
        r.insert("redirected".into(), json!(redirects.parse::<u32>().unwrap_or(0) > 0));
        r.insert("elapsed".into(), json!(time.parse::<f64>().unwrap_or(0.0) as u64));
        if self.dest.is_some() {
            r.insert("path".into(), json!(path));
        }
        let good = self.wanted().is_ok_and(|w| w.contains(&status));
        let text = String::from_utf8_lossy(&content).into_owned();
        let kind = r.get("content_type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        if (kind.contains("json") || kind.contains("javascript"))
            && let Ok(v) = serde_json::from_slice::<Value>(&content)
        {
            r.insert("json".into(), v);
        }
        if self.return_content.0 || (!good && status != -1) {
            r.insert("content".into(), json!(text));
        }
        let reason = headers.lines().rfind(|l| l.starts_with("HTTP/")).and_then(|l| l.trim().splitn(3, ' ').nth(2));
        let msg = match status {
            -1 => {
                format!("Status code was -1 and not {:?}: Request failed: {error}", self.wanted().unwrap_or_default())
            }
            s if good => format!("{} ({size} bytes)", reason.filter(|_| s >= 100).unwrap_or("OK")),
            s => format!(
                "Status code was {s} and not {:?}: HTTP Error {s}: {}",
                self.wanted().unwrap_or_default(),
                reason.unwrap_or("")
            ),
        };
        r.insert("msg".into(), json!(msg.trim_end_matches([':', ' '])));
        if !good {
            return Err(fail(format!("{} {}: {}", self.method.0, self.url.0, msg.trim_end_matches([':', ' '])), r));
        }
        Ok(Read { result: r, changed, ..Default::default() })
    }
}

/// The headers of the last answer (redirects come before it), as Ansible names them.
fn headers_of(text: &str) -> Map<String, Value> {
    let mut r = Map::new();
    let (mut cookies, mut pairs) = (Map::new(), vec![]);
    for l in text.lines().map(|l| l.trim_end_matches('\r')) {
        if l.starts_with("HTTP/") {
            r.clear();
            continue;
        }
        let Some((name, value)) = l.split_once(':') else { continue };
        let (name, value) = (name.trim().to_ascii_lowercase().replace('-', "_"), value.trim());
        if name == "set_cookie"
            && let Some((k, v)) = value.split(';').next().and_then(|c| c.split_once('='))
        {
            cookies.insert(k.trim().into(), json!(v.trim()));
            pairs.push(format!("{}={}", k.trim(), v.trim()));
        }
        let value = match r.get(&name).and_then(Value::as_str) {
            Some(before) => format!("{before}, {value}"),
            None => value.to_string(),
        };
        r.insert(name, json!(value));
    }
    r.insert("cookies".into(), Value::Object(cookies));
    r.insert("cookies_string".into(), json!(pairs.join("; ")));
    r
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;
    use std::io::{Read as _, Write as _};

    fn command(c: &Change) -> String {
        match &c.actions[..] {
            [Action::Command(Command { what: CommandLine::Shell { script, .. }, .. })] => script.clone(),
            other => panic!("{other:?}"),
        }
    }
    /// Runs the request here and reads what came of it.
    fn sent(m: &Uri) -> (Result<Read, Failure>, String) {
        let script = command(&change(m.decide(&seen([]), &ctx())));
        let out = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let o = Output {
            rc: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr: String::from_utf8(out.stderr).unwrap(),
        };
        (m.read(&[o]), script)
    }
    /// A server on loopback that gives these answers, one a connection, and hands back what it was sent.
    fn serve(answers: Vec<String>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
        let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = l.local_addr().unwrap().port();
        let t = std::thread::spawn(move || {
            let mut got = vec![];
            for a in answers {
                let (mut s, _) = l.accept().unwrap();
                s.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
                let (mut all, mut b) = (vec![], [0; 4096]);
                while let Ok(n) = s.read(&mut b) {
                    if n == 0 {
                        break;
                    }
                    all.extend_from_slice(&b[..n]);
                    let t = String::from_utf8_lossy(&all);
                    let Some((head, body)) = t.split_once("\r\n\r\n") else { continue };
                    let length =
                        head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
                    if body.len() >= length {
                        break;
                    }
                }
                got.push(String::from_utf8_lossy(&all).into_owned());
                s.write_all(a.as_bytes()).unwrap();
            }
            got
        });
        (port, t)
    }
    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
    }
    fn has_curl() -> bool {
        std::process::Command::new("curl").arg("--version").output().is_ok_and(|o| o.status.success())
    }

    #[test]
    fn a_request_and_its_answer() {
        if !has_curl() {
            return;
        }
        let (port, server) = serve(vec![answer(
            "201 Created",
            "Content-Type: application/json\r\nX-One-Two: a\r\nSet-Cookie: k=v; Path=/\r\n",
            r#"{"a": [1]}"#,
        )]);
        let m: Uri = bind(&format!(
            "{{url: 'http://127.0.0.1:{port}/x?[1]', method: post, body: {{n: \"it's \\\"q\\\"\"}}, body_format: json,\
             status_code: [200, 201], headers: {{X-Token: 'a\"b\\c'}}, user: u, password: 'p:\"w', force_basic_auth: true}}"
        ));
        let (read, script) = sent(&m);
        sh_accepts(&script);
        let r = read.unwrap();
        assert!(!r.changed);
        assert_eq!((&r.result["status"], &r.result["json"]), (&json!(201), &json!({"a": [1]})));
        assert_eq!((&r.result["x_one_two"], &r.result["cookies"]), (&json!("a"), &json!({"k": "v"})));
        assert_eq!((&r.result["redirected"], r.result.get("content")), (&json!(false), None));
        assert!(r.result["msg"].as_str().unwrap().starts_with("Created ("), "{}", r.result["msg"]);
        let sent = server.join().unwrap().remove(0);
        assert!(sent.starts_with("POST /x?[1] HTTP/1.1\r\n"), "{sent}");
        let token = sent.lines().find(|l| l.starts_with("X-Token")).unwrap();
        assert_eq!(token, "X-Token: a\"b\\c");
        assert!(
            sent.contains("Content-Type: application/json\r\n") && sent.ends_with(r#"{"n":"it's \"q\""}"#),
            "{sent}"
        );
        assert!(sent.contains(&format!("Authorization: Basic {}", STANDARD.encode("u:p:\"w"))), "{sent}");
    }

    #[test]
    fn another_status_fails_and_explains() {
        if !has_curl() {
            return;
        }
        let (port, server) = serve(vec![answer("503 Service Unavailable", "", "starting")]);
        let m: Uri = bind(&format!("{{url: 'http://127.0.0.1:{port}/'}}"));
        let f = sent(&m).0.unwrap_err();
        server.join().unwrap();
        assert_eq!((&f.result["status"], &f.result["content"]), (&json!(503), &json!("starting")));
        assert!(f.message.contains("503 and not [200]: HTTP Error 503: Service Unavailable"), "{}", f.message);
        // The server is gone.
        let f = sent(&m).0.unwrap_err();
        assert_eq!(f.result["status"], -1);
        assert!(f.message.contains("-1 and not [200]") && f.message.contains("onnect"), "{}", f.message);
        let m: Uri = bind(&format!("{{url: 'http://127.0.0.1:{port}/', status_code: -1}}"));
        assert_eq!(sent(&m).0.unwrap().result["status"], -1);
    }

    #[test]
    fn redirects() {
        if !has_curl() {
            return;
        }
        let there = || answer("302 Found", "Location: /two\r\n", "");
        let (port, server) = serve(vec![there(), answer("200 OK", "X-A: 2\r\n", "hello")]);
        let m: Uri = bind(&format!("{{url: 'http://127.0.0.1:{port}/one', return_content: true}}"));
        let r = sent(&m).0.unwrap().result;
        assert_eq!((&r["redirected"], &r["content"], &r["x_a"]), (&json!(true), &json!("hello"), &json!("2")));
        assert_eq!(r["url"], json!(format!("http://127.0.0.1:{port}/two")));
        assert_eq!(server.join().unwrap().len(), 2);
        let (port, server) = serve(vec![there()]);
        let m: Uri =
            bind(&format!("{{url: 'http://127.0.0.1:{port}/one', follow_redirects: no, status_code: '200, 302'}}"));
        assert_eq!(sent(&m).0.unwrap().result["location"], "/two");
        server.join().unwrap();
    }

    #[test]
    fn an_answer_goes_to_a_file_once() {
        if !has_curl() {
            return;
        }
        let t = tempfile::tempdir().unwrap();
        let ok = || answer("200 OK", "", "data\n");
        let (port, server) = serve(vec![ok(), ok(), answer("404 Not Found", "", "no")]);
        let m: Uri = bind(&format!(
            "{{url: 'http://127.0.0.1:{port}/a/f.txt?x=/', dest: {}, mode: '0600'}}",
            t.path().display()
        ));
        let r = sent(&m).0.unwrap();
        let file = t.path().join("f.txt");
        assert!(r.changed);
        assert_eq!(r.result["path"], json!(file));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "data\n");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!sent(&m).0.unwrap().changed);
        sent(&m).0.unwrap_err();
        server.join().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "data\n");
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 1);
    }

    /// A folder of programs that run this before `program` of the same name does its work.
    fn first(program: &str, script: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt;
        let t = tempfile::tempdir().unwrap();
        let shim = t.path().join(program);
        std::fs::write(
            &shim,
            format!("#!/bin/sh\n{script}\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec {program} \"$@\"\n"),
        )
        .unwrap();
        std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        t
    }
    fn sent_with(m: &Uri, programs: &tempfile::TempDir) -> Result<Read, Failure> {
        let script = command(&change(m.decide(&seen([]), &ctx())));
        let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
        let out = std::process::Command::new("sh").arg("-c").arg(&script).env("PATH", path).output().unwrap();
        m.read(&[Output {
            rc: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr: String::from_utf8(out.stderr).unwrap(),
        }])
    }

    #[test]
    fn a_link_put_over_the_unfinished_file_is_not_followed() {
        use std::os::unix::fs::PermissionsExt;
        if !has_curl() {
            return;
        }
        for program in ["curl", "chmod"] {
            let t = tempfile::tempdir().unwrap();
            let (victim, d) = (t.path().join("victim"), t.path().display());
            std::fs::write(&victim, "own\n").unwrap();
            std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o600)).unwrap();
            let programs = first(program, &format!("ln -sfn {d}/victim {d}/.f.windlass~"));
            let (port, server) = serve(vec![answer("200 OK", "", "data\n")]);
            let m: Uri = bind(&format!("{{url: 'http://127.0.0.1:{port}/', dest: {d}/f, mode: '0666'}}"));
            let _ = sent_with(&m, &programs);
            server.join().unwrap();
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "own\n", "{program}");
            assert_eq!(victim.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{program}");
        }
    }

    #[test]
    fn the_mode_of_a_file_that_has_the_answer_already() {
        use std::os::unix::fs::PermissionsExt;
        if !has_curl() {
            return;
        }
        let t = tempfile::tempdir().unwrap();
        let file = t.path().join("f");
        let ok = || answer("200 OK", "", "data\n");
        let (port, server) = serve(vec![ok(), ok(), ok(), ok()]);
        let m = |more: &str| -> Uri {
            bind(&format!("{{url: 'http://127.0.0.1:{port}/', dest: {}{more}}}", file.display()))
        };
        let mode = || file.metadata().unwrap().permissions().mode() & 0o777;
        assert!(sent(&m("")).0.unwrap().changed);
        assert!(sent(&m(", mode: '0600'")).0.unwrap().changed && mode() == 0o600);
        assert!(!sent(&m(", mode: '0600'")).0.unwrap().changed);
        assert!(!sent(&m("")).0.unwrap().changed && mode() == 0o600);
        server.join().unwrap();
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_of_it_stands_in_an_argument() {
        let m: Uri =
            bind("{url: 'https://u:geheim1@h/', password: geheim2, user: u, headers: {A: geheim3}, body: geheim4}");
        let script = m.script().unwrap();
        for l in script.lines().filter(|l| l.contains("curl ")) {
            assert!(!l.contains("geheim"), "{l}");
        }
        let config = script.split("<<'windlass-config'\n").nth(1).unwrap();
        assert!(config.contains("geheim2") && config.contains("geheim3") && config.contains("geheim1"));
    }

    #[test]
    fn creates_and_removes() {
        use crate::probe::EntryKind;
        let m: Uri = bind("{url: 'http://h/', creates: /x}");
        let full = || seen([at("/x", Some(entry(EntryKind::File, 0o644)))]);
        assert!(satisfied(m.decide(&full(), &ctx())).result["msg"].as_str().unwrap().contains("exists"));
        change(m.decide(&seen([at("/x", None)]), &ctx()));
        let m: Uri = bind("{url: 'http://h/', removes: /x}");
        satisfied(m.decide(&seen([at("/x", None)]), &ctx()));
        change(m.decide(&full(), &ctx()));
    }

    #[test]
    fn bodies() {
        let body = |y: &str| bind::<Uri>(&format!("{{url: 'http://h/', {y}}}")).body().unwrap().unwrap();
        assert_eq!(body("body: {a: 'x y', b: [1, 'ü&']}, body_format: form-urlencoded"), "a=x+y&b=1&b=%C3%BC%26");
        assert_eq!(body("body: [1, {a: null}], body_format: json"), r#"[1,{"a":null}]"#);
        assert_eq!(body("body: '{\"a\": 1}', body_format: json"), r#"{"a": 1}"#);
        assert_eq!(body("body: 5"), "5");
    }

    #[test]
    fn mistakes() {
        let err = |y: &str| try_bind::<Uri>(y).unwrap_err().message;
        assert!(err("{url: 'ftp://x'}").contains("http://"));
        assert!(err("{url: 'http://x', status_code: many}").contains("status"));
        assert!(err("{url: 'http://x', body: {a: 1}}").contains("body_format"));
        assert!(err("{url: 'http://x', headers: {'a b': c}}").contains("a b"));
        assert!(err("{url: 'http://x', headers: {a: \"b\\nc: d\"}}").contains("line"));
        assert!(err("{url: 'http://x', method: 'GET -o'}").contains("method"));
        assert!(err("{url: 'http://x', creates: rel}").contains("rel"));
    }

    /// Whatever a server cannot tell us: what curl is told.
    #[test]
    fn what_curl_is_told() {
        let config = |more: &str| bind::<Uri>(&format!("{{url: 'http://h/'{more}}}")).config(false);
        let plain = config("");
        for (more, line) in [
            ("validate_certs: no", "insecure"),
            ("ca_path: /etc/ca.pem", "cacert = \"/etc/ca.pem\""),
            ("client_cert: /etc/c.pem", "cert = \"/etc/c.pem\""),
            ("client_cert: /etc/c.pem, client_key: /etc/k.pem", "key = \"/etc/k.pem\""),
            ("unix_socket: /run/x.sock", "unix-socket = \"/run/x.sock\""),
            ("use_proxy: no", "noproxy = \"*\""),
            ("http_agent: me", "user-agent = \"me\""),
            ("timeout: 7", "connect-timeout = \"7\""),
        ] {
            assert!(
                config(&format!(", {more}")).lines().any(|l| l == line),
                "{more}: {}",
                config(&format!(", {more}"))
            );
            assert!(!plain.lines().any(|l| l == line), "{more}");
        }
        let m: Uri = bind("{url: 'http://h/', dest: /srv/x, owner: me, group: us}");
        let s = m.script().unwrap();
        sh_accepts(&s);
        assert!(s.contains("new_file \"$o\" \"$new\" \"$m\" me:us ") && s.contains("chown -- me:us \"$it\""), "{s}");
    }
}
