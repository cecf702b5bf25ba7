//! One request to a web server: what is asked, what comes back, and which failures may pass.

use super::{Download, FetchError};
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Error as Http, Proxy};

/// What a server says of a file's version.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Version {
    #[serde(default)]
    pub etag: Option<String>,
    #[serde(default)]
    pub modified: Option<String>,
}

impl Version {
    /// What `If-Range` takes: a strong tag, or a date.
    pub fn exact(&self) -> Option<&str> {
        self.etag.as_deref().filter(|t| !t.starts_with("W/")).or(self.modified.as_deref())
    }
}

/// What is asked for besides the file itself.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// Only what comes behind this many bytes of that version.
    pub behind: Option<(u64, &'a Version)>,
    /// Nothing, if it is still this version.
    pub unless: Option<&'a Version>,
}

pub enum Reply {
    /// It is still the version that is here.
    Same,
    Body {
        /// From the beginning, not behind what is here.
        whole: bool,
        status: u16,
        version: Version,
        body: Box<dyn Read>,
    },
}

/// A failed attempt.
#[derive(Debug)]
pub struct Failed {
    pub error: FetchError,
    /// It may pass: a server's own trouble, or a connection's.
    pub passing: bool,
}

const CONNECT: Duration = Duration::from_secs(20);
/// Silence after which a transfer is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// Asks the server.
pub fn ask(d: &Download, wanted: &Wanted<'_>) -> Result<Reply, Failed> {
    let agent = agent(d);
    let url = d.shown();
    let mut request = agent.get(&url);
    for (k, v) in &d.headers {
        request = request.header(k, v);
    }
    if let Some((user, password)) = d.who()
        && !d.headers.iter().any(|(k, _)| k.eq_ignore_ascii_case("authorization"))
    {
        use base64::Engine as _;
        let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        request = request.header("Authorization", format!("Basic {both}"));
    }
    if let Some((n, version)) = &wanted.behind {
        request = request.header("Range", format!("bytes={n}-"));
        if let Some(v) = version.exact() {
            request = request.header("If-Range", v);
        }
    } else if let Some(v) = wanted.unless {
        if let Some(t) = &v.etag {
            request = request.header("If-None-Match", t);
        } else if let Some(m) = &v.modified {
            request = request.header("If-Modified-Since", m);
        }
    }
    let response = request.call().map_err(|e| explained(d, &e))?;
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
    let version = Version { etag: header("etag"), modified: header("last-modified") };
    let whole = match status {
        304 if wanted.unless.is_some() => return Ok(Reply::Same),
        206 => {
            let start = wanted.behind.map(|(n, _)| format!("bytes {n}-"));
            let range = header("content-range").unwrap_or_default();
            if start.is_none_or(|s| !range.starts_with(&s)) {
                let hint = "the server, or a proxy in between, is at fault: try another mirror";
                let error = FetchError::new(format!("{url}: the server sent another part than was asked for"), hint);
                return Err(Failed { error, passing: true });
            }
            false
        }
        200..=299 => true,
        _ => return Err(refused(&url, status, response.status().canonical_reason())),
    };
    let body = response.into_body().into_with_config().limit(u64::MAX).reader();
    Ok(Reply::Body { whole, status, version, body: Box::new(body) })
}

fn agent(d: &Download) -> ureq::Agent {
    // The system knows the authorities of a site's own; where it knows none at all, the public ones are built in.
    let system = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|v| std::env::var_os(v).is_some())
        || ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
            .iter()
            .any(|p| Path::new(p).exists())
        || !cfg!(target_os = "linux");
    let roots = if system { RootCerts::PlatformVerifier } else { RootCerts::WebPki };
    let silence = if d.timeout == 0 { SILENCE } else { Duration::from_secs(d.timeout) };
    ureq::Agent::config_builder()
        .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .http_status_as_error(false)
        .proxy(proxy(d.url.starts_with("https:"), &|name| std::env::var(name).ok()))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(silence.max(CONNECT)))
        .timeout_per_read(Some(silence))
        .tls_config(TlsConfig::builder().root_certs(roots).disable_verification(d.any_certificate).build())
        .build()
        .new_agent()
}

/// The proxy the environment names for this kind of URL. `HTTP_PROXY` in capitals counts too.
fn proxy(https: bool, var: &dyn Fn(&str) -> Option<String>) -> Option<Proxy> {
    let names: &[&str] = match https {
        true => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        false => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let given = names.iter().find_map(|n| var(n).filter(|v| !v.is_empty()))?;
    let p = Proxy::new(&given).ok()?;
    let mut b = Proxy::builder(p.protocol()).host(p.host()).port(p.port());
    if let Some(u) = p.username() {
        b = b.username(u);
    }
    if let Some(w) = p.password() {
        b = b.password(w);
    }
    let not = ["no_proxy", "NO_PROXY"].iter().find_map(|n| var(n)).unwrap_or_default();
    for host in not.split(',').map(str::trim).filter(|h| !h.is_empty()) {
        b = b.no_proxy(host);
    }
    b.build().ok()
}

fn refused(url: &str, status: u16, reason: Option<&str>) -> Failed {
    let hint = match status {
        401 | 403 => "the server wants a login or a token: `url_username` and `url_password`, or `headers`",
        404 | 410 => "there is no such file: check the version and the name in the URL",
        407 => "the proxy wants a login: https_proxy=http://USER:PASSWORD@PROXY:PORT",
        416 => "the file on the server has become shorter",
        408 | 429 | 500.. => "the server is in trouble or too busy: try again later, or use a mirror",
        _ => "open the URL by hand to see what the server means",
    };
    let reason = reason.map(|r| format!(" ({r})")).unwrap_or_default();
    let error = FetchError::new(format!("{url}: the server answered with status {status}{reason}"), hint);
    Failed { error, passing: matches!(status, 408 | 416 | 429 | 500..=599) }
}

/// What a transport's error means and what helps.
pub fn explained(d: &Download, e: &Http) -> Failed {
    const OFFLINE: &str = "can this machine reach it? For a proxy set https_proxy; without the internet, give a mirror's URL \
                           or the path of the file on this machine";
    let (passing, hint) = match e {
        Http::Rustls(_) | Http::Tls(_) | Http::Pem(_) => (
            false,
            "if the server's authority is your own, add it to this machine's certificates (or name its file in \
             SSL_CERT_FILE); is this machine's clock right?",
        ),
        Http::BadUri(_) | Http::Http(_) => (false, "check the URL"),
        Http::InvalidProxyUrl | Http::ConnectProxyFailed(_) => (true, "check https_proxy, http_proxy and no_proxy"),
        Http::TooManyRedirects | Http::RedirectFailed => (false, "open the URL by hand to see where it leads"),
        Http::HostNotFound => (true, OFFLINE),
        // A certificate's refusal comes wrapped.
        Http::Io(e) if e.to_string().contains("certificate") => return explained(d, &Http::Tls("certificate")).said(e),
        _ => (true, OFFLINE),
    };
    let said = match e {
        Http::HostNotFound => "the server's name is not known".to_string(),
        Http::Timeout(_) => "the server was silent for too long".to_string(),
        Http::Io(e) => e.to_string(),
        e => e.to_string(),
    };
    let through = proxy(d.url.starts_with("https:"), &|name| std::env::var(name).ok())
        .filter(|p| d.shown().parse().is_ok_and(|u| !p.is_no_proxy(&u)))
        .map(|p| format!(" (through the proxy {}:{})", p.host(), p.port()))
        .unwrap_or_default();
    let said = format!("{said}{through}");
    Failed { error: FetchError::new(format!("{}: {said}", d.shown()), hint), passing }
}

impl Failed {
    fn said(mut self, e: &std::io::Error) -> Self {
        self.error.message = self.error.message.replace("certificate", &e.to_string());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_the_environment() {
        let of = |https: bool, vars: &[(&str, &str)]| {
            proxy(https, &|n| vars.iter().find(|(k, _)| *k == n).map(|(_, v)| v.to_string()))
        };
        assert!(of(true, &[("http_proxy", "http://p:1")]).is_none());
        assert_eq!(of(true, &[("HTTPS_PROXY", "http://p:3128")]).unwrap().port(), 3128);
        let p = of(false, &[("http_proxy", "http://me:pw@p:1"), ("no_proxy", "localhost, .lan")]).unwrap();
        assert_eq!((p.host(), p.username(), p.password()), ("p", Some("me"), Some("pw")));
        assert!(p.is_no_proxy(&"http://a.lan/x".parse().unwrap()));
        assert!(!p.is_no_proxy(&"http://a.org/x".parse().unwrap()));
        assert!(of(true, &[("https_proxy", "")]).is_none());
    }
}
