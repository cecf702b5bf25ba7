//! The cache of what was fetched, and the order in which a run's hosts come to it: one fetches, the others wait.
//!
//! A download has up to four files in the cache's folder: `.lock` (held while another process works on it), `.part` with
//! `.version` (what came so far, and of which version of the file it is), and the whole file with `.about`.

use super::http::{self, Failed, Reply, Version, Wanted};
use super::{Algorithm, Download, FetchError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A file on this side that is as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
    /// The server's status, if one was asked.
    pub status: Option<u16>,
}

/// All downloads of a run, and the cache behind them.
#[derive(Clone)]
pub struct Downloads(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    slots: Mutex<HashMap<(Download, bool), Slot>>,
    /// What archives hold, by their content and the script that lists it.
    lists: tokio::sync::Mutex<HashMap<(String, String), String>>,
    /// Transfers side by side.
    transfers: tokio::sync::Semaphore,
}

/// A download's last end; who holds it is at it.
type Slot = Arc<tokio::sync::Mutex<Option<Done>>>;

struct Done {
    at: Instant,
    result: Result<Fetched, FetchError>,
    /// A file of this side as it was when it was read.
    stamp: Option<Stamp>,
}

/// What changes with a file's content: the times of both, its size, which file it is.
type Stamp = (i64, i64, i64, i64, u64, u64, u64);

/// The stamp of a file that others may write, as those of the cache are not.
fn stamp(d: &Download) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let m = fs::metadata(d.local()?).ok()?;
    Some((m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.size(), m.dev(), m.ino()))
}

/// A list of sums and the like is not larger than this (bytes).
const SMALL: u64 = 1 << 20;
const SIDE_BY_SIDE: usize = 4;
/// Tries without any progress, and in all.
const VAIN: u32 = 4;
const TRIES: u32 = 40;

impl Default for Downloads {
    fn default() -> Self {
        Self::at(cache(&|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)))
    }
}

impl std::fmt::Debug for Downloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Downloads").field(&self.0.dir).finish()
    }
}

/// `WINDLASS_CACHE`, or `windlass/downloads` in the user's cache folder.
fn cache(var: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let own = || var("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(|| var("HOME").map(|h| h.join(".cache")));
    var("WINDLASS_CACHE")
        .unwrap_or_else(|| own().unwrap_or_else(|| PathBuf::from("/var/cache")).join("windlass/downloads"))
}

impl Downloads {
    /// With its cache in this folder, which is made when it is needed.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Downloads(Arc::new(Inner {
            dir: dir.into(),
            slots: Mutex::default(),
            lists: Default::default(),
            transfers: tokio::sync::Semaphore::new(SIDE_BY_SIDE),
        }))
    }

    /// The file, fetched if it is not here. A run fetches it once, whoever asks.
    pub async fn get(&self, d: &Download) -> Result<Fetched, FetchError> {
        self.once(d, None).await
    }

    /// A small text.
    pub async fn text(&self, d: &Download) -> Result<String, FetchError> {
        let file = self.once(d, Some(SMALL)).await?;
        let read = tokio::task::spawn_blocking(move || fs::read(&file.path).map_err(|e| unusable(&file.path, &e)));
        let bytes = read.await.unwrap_or_else(|_| Err(broken()))?;
        String::from_utf8(bytes)
            .map_err(|_| FetchError::new(format!("{} is not a text", d.shown()), "is it the right URL?"))
    }

    /// What a script of this side says of the file, which is its `$1`. The same of the same file is asked once.
    pub async fn list(&self, d: &Download, script: &str) -> Result<String, FetchError> {
        let file = self.get(d).await?;
        let key = (file.sha256, script.to_string());
        let mut lists = self.0.lists.lock().await;
        if let Some(l) = lists.get(&key) {
            return Ok(l.clone());
        }
        let mut sh = tokio::process::Command::new("sh");
        sh.args(["-c", script, "sh"]).arg(&file.path).env("LC_ALL", "C").env("TZ", "UTC0").env_remove("TAR_OPTIONS");
        let cannot =
            |why: &str| FetchError::new(format!("{}: {why}", d.shown()), "is it a whole archive of that kind?");
        let out = sh.stdin(std::process::Stdio::null()).output().await.map_err(|e| cannot(&e.to_string()))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            return Err(cannot(said.trim().lines().next().unwrap_or("it cannot be listed")));
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        lists.insert(key, text.clone());
        Ok(text)
    }

    /// Whether it can be had without a transfer.
    pub fn is_here(&self, d: &Download) -> bool {
        d.local().is_some() || Place::of(&self.0.dir, d).whole.exists()
    }

    async fn once(&self, d: &Download, limit: Option<u64>) -> Result<Fetched, FetchError> {
        let asked = Instant::now();
        let slot = {
            let mut slots = self.0.slots.lock().unwrap_or_else(|e| e.into_inner());
            slots.entry((d.clone(), limit.is_some())).or_default().clone()
        };
        let mut done = slot.lock().await;
        match done.as_ref() {
            Some(Done { result: Ok(f), stamp: then, .. }) if f.path.exists() && *then == stamp(d) => {
                return Ok(f.clone());
            }
            // It failed while this one waited for it. Who asks later has it tried again.
            Some(Done { result: Err(e), at, .. }) if *at >= asked => return Err(e.clone()),
            _ => {}
        }
        let permit = self.0.transfers.acquire().await;
        let (dir, wanted) = (self.0.dir.clone(), d.clone());
        // Taken before it is read: what is written meanwhile shows the next time.
        let stamp = stamp(d);
        let work = tokio::task::spawn_blocking(move || obtain(&dir, &wanted, limit));
        let result = work.await.unwrap_or_else(|_| Err(broken()));
        drop(permit);
        *done = Some(Done { at: Instant::now(), result: result.clone(), stamp });
        result
    }
}

fn broken() -> FetchError {
    FetchError { message: "the download broke off".into(), hint: Some("this is a defect of Windlass".into()) }
}

/// A download's files in the cache.
struct Place {
    whole: PathBuf,
    part: PathBuf,
    version: PathBuf,
    about: PathBuf,
    lock: PathBuf,
}

impl Place {
    fn of(dir: &Path, d: &Download) -> Self {
        use sha2::Digest;
        let sum = d.sum.as_ref().map(ToString::to_string).unwrap_or_default();
        // Who may see a file decides what a server sends.
        let who = format!("{:?}{:?}", d.headers, d.who());
        let key = &crate::modules::hex(&sha2::Sha256::digest(format!("{}\n{sum}\n{who}", d.url)))[..24];
        let name = d.file_name().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = name.chars().filter(|c| plain(*c)).take(60).collect();
        let at = |end: &str| dir.join(format!("{key}-{name}{end}"));
        Place { whole: at(""), part: at(".part"), version: at(".version"), about: at(".about"), lock: at(".lock") }
    }
}

/// What is known of a whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct About {
    url: String,
    sha256: String,
    #[serde(flatten)]
    version: Version,
}

fn obtain(dir: &Path, d: &Download, limit: Option<u64>) -> Result<Fetched, FetchError> {
    if let Some(path) = d.local() {
        return local(d, path, limit);
    }
    let place = Place::of(dir, d);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| unusable(dir, &e))?;
    let lock = open(&place.lock, false).map_err(|e| unusable(&place.lock, &e))?;
    lock.lock().map_err(|e| unusable(&place.lock, &e))?;
    let known = known(&place, d);
    match &known {
        // What has the right sum is the file, whatever the server says today.
        Some((f, _)) if d.sum.is_some() => Ok(f.clone()),
        _ => transfer(&place, d, known.as_ref(), limit),
    }
}

fn local(d: &Download, path: PathBuf, limit: Option<u64>) -> Result<Fetched, FetchError> {
    let cannot = |why: String| FetchError::new(format!("{}: {why}", d.url), "the file must be on this machine");
    let meta = fs::metadata(&path).map_err(|e| cannot(e.to_string()))?;
    if !meta.is_file() {
        return Err(cannot("it is not a file".into()));
    }
    check_size(d, meta.len(), limit)?;
    let sha256 = Algorithm::Sha256.of_file(&path).map_err(|e| cannot(e.to_string()))?;
    match differs(d, &path, &sha256)? {
        Some(e) => Err(e),
        None => Ok(Fetched { size: meta.len(), sha256, path, status: None }),
    }
}

/// The whole file that is here, if it is what it was when it came.
fn known(place: &Place, d: &Download) -> Option<(Fetched, Version)> {
    let size = fs::metadata(&place.whole).ok()?.len();
    let sha256 = Algorithm::Sha256.of_file(&place.whole).ok()?;
    let about: About = fs::read(&place.about).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let sound = match &d.sum {
        Some(_) => matches!(differs(d, &place.whole, &sha256), Ok(None)),
        None => about.sha256 == sha256,
    };
    if !sound {
        let _ = fs::remove_file(&place.whole);
        return None;
    }
    Some((Fetched { path: place.whole.clone(), size, sha256, status: None }, about.version))
}

/// What to say if a file is not what it should be.
fn differs(d: &Download, path: &Path, sha256: &str) -> Result<Option<FetchError>, FetchError> {
    let Some(sum) = &d.sum else { return Ok(None) };
    let is = match sum.algorithm {
        Algorithm::Sha256 => sha256.to_string(),
        other => other.of_file(path).map_err(|e| unusable(path, &e))?,
    };
    let name = sum.algorithm.name();
    Ok((is != sum.hex).then(|| {
        FetchError::new(
            format!("{}: the checksum differs: {name} is {is}, wanted is {}", d.shown(), sum.hex),
            "is it the sum of this version and architecture? if it is, what the server (or a proxy) hands out is not the \
             file it should be",
        )
    }))
}

fn check_size(d: &Download, size: u64, limit: Option<u64>) -> Result<(), FetchError> {
    match limit {
        Some(l) if size > l => Err(FetchError::new(
            format!("{} is larger than {} KiB", d.shown(), l >> 10),
            "a small text was expected, such as a list of checksums: is it the right URL?",
        )),
        _ => Ok(()),
    }
}

/// Fetches it, in as many pieces as the connection makes of it.
fn transfer(
    place: &Place,
    d: &Download,
    known: Option<&(Fetched, Version)>,
    limit: Option<u64>,
) -> Result<Fetched, FetchError> {
    let (mut vain, mut again) = (0, false);
    for _ in 0..TRIES {
        let before = size_of(&place.part);
        match attempt(place, d, known, limit) {
            Ok(None) => {
                if let Some((f, _)) = known {
                    return Ok(Fetched { status: Some(304), ..f.clone() });
                }
            }
            Ok(Some((status, version))) => {
                let sha256 = Algorithm::Sha256.of_file(&place.part).map_err(|e| unusable(&place.part, &e))?;
                if let Some(e) = differs(d, &place.part, &sha256)? {
                    discard(place);
                    // A part of an earlier version may have been in front.
                    if before > 0 && !std::mem::replace(&mut again, true) {
                        continue;
                    }
                    return Err(e);
                }
                return keep(place, d, status, version, sha256);
            }
            Err(f) if !f.passing => {
                return Err(f.error);
            }
            Err(f) => {
                vain = if size_of(&place.part) > before { 1 } else { vain + 1 };
                if vain >= VAIN {
                    return Err(FetchError { message: format!("{} ({VAIN} tries)", f.error.message), ..f.error });
                }
                std::thread::sleep(Duration::from_millis(400) * 2u32.pow(vain));
            }
        }
    }
    let hint = "what has come is kept: run again to go on, or use a mirror";
    Err(FetchError::new(format!("{}: the connection broke {TRIES} times", d.shown()), hint))
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

fn discard(place: &Place) {
    let _ = fs::remove_file(&place.part);
    let _ = fs::remove_file(&place.version);
}

/// One request, and as much of its answer as comes. Nothing: it has not changed.
fn attempt(
    place: &Place,
    d: &Download,
    known: Option<&(Fetched, Version)>,
    limit: Option<u64>,
) -> Result<Option<(u16, Version)>, Failed> {
    let here = |e: io::Error| Failed { error: unusable(&place.part, &e), passing: false };
    let part: Option<Version> = fs::read(&place.version).ok().and_then(|b| serde_json::from_slice(&b).ok());
    let has = size_of(&place.part);
    // Where the server cannot be held to the part's very version, only a sum tells whether the rest belongs to it.
    let part = part.filter(|v| has > 0 && (v.exact().is_some() || d.sum.is_some()));
    let wanted = Wanted { behind: part.as_ref().map(|v| (has, v)), unless: known.map(|(_, v)| v) };
    let reply = match http::ask(d, &wanted) {
        Err(f) if f.error.message.contains("status 416") => {
            discard(place);
            return Err(f);
        }
        r => r?,
    };
    let Reply::Body { whole, status, version, mut body } = reply else { return Ok(None) };
    let mut file = open(&place.part, !whole).map_err(here)?;
    let mut size = if whole { 0 } else { has };
    let version = if whole { version } else { part.unwrap_or(version) };
    if whole {
        file.set_len(0).map_err(here)?;
        let text = serde_json::to_vec(&version).unwrap_or_default();
        replace(&place.version, &text).map_err(here)?;
    }
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(http::explained(d, &ureq::Error::Io(e))),
        };
        size += n as u64;
        check_size(d, size, limit).map_err(|error| Failed { error, passing: false })?;
        file.write_all(&buffer[..n]).map_err(here)?;
    }
    file.sync_all().map_err(here)?;
    Ok(Some((status, version)))
}

/// The part has become the file.
fn keep(place: &Place, d: &Download, status: u16, version: Version, sha256: String) -> Result<Fetched, FetchError> {
    let size = size_of(&place.part);
    let about = About { url: d.shown(), sha256: sha256.clone(), version };
    fs::rename(&place.part, &place.whole).map_err(|e| unusable(&place.whole, &e))?;
    let _ = fs::remove_file(&place.version);
    let text = serde_json::to_vec_pretty(&about).unwrap_or_default();
    replace(&place.about, &text).map_err(|e| unusable(&place.about, &e))?;
    Ok(Fetched { path: place.whole.clone(), size, sha256, status: Some(status) })
}

/// Opens a file only we can read, making it if need be.
fn open(path: &Path, append: bool) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).append(append).truncate(false).mode(0o600).open(path)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push("~");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn unusable(path: &Path, e: &io::Error) -> FetchError {
    let hint = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or name a folder in WINDLASS_CACHE"
        }
        _ => "the cache must be writable; WINDLASS_CACHE can name another folder",
    };
    FetchError::new(format!("{}: {e}", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use super::super::Sum;
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};

    /// A web server of one file. It keeps the head of every request, and breaks off where it is told to.
    struct Server {
        url: String,
        heads: Arc<Mutex<Vec<String>>>,
    }

    fn server(answer: impl Fn(usize, &str, &mut TcpStream) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/dir/file.bin", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(vec![]));
        let kept = heads.clone();
        std::thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let mut head = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                while lines.read_line(&mut head).is_ok_and(|n| n > 2) {}
                kept.lock().unwrap().push(head.to_ascii_lowercase());
                answer(i, &head.to_ascii_lowercase(), &mut stream);
            }
        });
        Server { url, heads }
    }

    impl Server {
        fn heads(&self) -> Vec<String> {
            self.heads.lock().unwrap().clone()
        }
    }

    fn send(s: &mut TcpStream, head: &str, body: &[u8]) {
        let _ = s.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
        let _ = s.write_all(body);
    }

    fn body() -> Vec<u8> {
        (0..300_000u32).flat_map(|i| i.to_le_bytes()).collect()
    }
    fn sum(bytes: &[u8]) -> Option<Sum> {
        use sha2::Digest;
        Some(Sum::new(Algorithm::Sha256, &crate::modules::hex(&sha2::Sha256::digest(bytes))).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_ask_and_one_transfer_is_made() {
        let s = server(|_, _, s| send(s, &format!("200 OK\r\nContent-Length: {}", body().len()), &body()));
        let dir = tempfile::tempdir().unwrap();
        let all = Downloads::at(dir.path());
        let d = Download { sum: sum(&body()), ..Download::new(&s.url) };
        assert!(!all.is_here(&d));
        let asks: Vec<_> = (0..5)
            .map(|_| {
                let (all, d) = (all.clone(), d.clone());
                tokio::spawn(async move { all.get(&d).await.unwrap() })
            })
            .collect();
        for a in asks {
            assert_eq!(fs::read(a.await.unwrap().path).unwrap(), body());
        }
        assert_eq!(s.heads().len(), 1);
        assert!(all.is_here(&d));
        // Another run finds it in the cache; one that was damaged there is fetched anew.
        let f = Downloads::at(dir.path()).get(&d).await.unwrap();
        assert_eq!(s.heads().len(), 1);
        fs::write(&f.path, "damaged").unwrap();
        Downloads::at(dir.path()).get(&d).await.unwrap();
        assert_eq!((s.heads().len(), fs::read(&f.path).unwrap()), (2, body()));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&f.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broken_transfer_goes_on_where_it_broke() {
        for tagged in [true, false] {
            let s = server(move |i, head, s| {
                let (all, tag) = (body(), if tagged { "\r\nETag: \"v1\"" } else { "" });
                let from = head.lines().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
                match from {
                    None => send(s, &format!("200 OK\r\nContent-Length: {}{tag}", all.len()), &all[..700_000]),
                    Some(n) if i == 1 => {
                        let rest: &[u8] = &all[n..];
                        send(
                            s,
                            &format!(
                                "206 Partial\r\nContent-Length: {}\r\nContent-Range: bytes {n}-{}/{}{tag}",
                                rest.len(),
                                all.len() - 1,
                                all.len()
                            ),
                            &rest[..100],
                        )
                    }
                    Some(n) => send(
                        s,
                        &format!(
                            "206 Partial\r\nContent-Length: {}\r\nContent-Range: bytes {n}-{}/{}{tag}",
                            all.len() - n,
                            all.len() - 1,
                            all.len()
                        ),
                        &all[n..],
                    ),
                }
            });
            let dir = tempfile::tempdir().unwrap();
            let d = Download { sum: sum(&body()).filter(|_| !tagged), ..Download::new(&s.url) };
            let f = Downloads::at(dir.path()).get(&d).await.unwrap();
            assert_eq!(fs::read(&f.path).unwrap(), body());
            let heads = s.heads();
            assert_eq!(heads.len(), 3, "{heads:?}");
            assert_eq!(heads[2].contains("if-range: \"v1\""), tagged, "{heads:?}");
            assert!(fs::read_dir(dir.path()).unwrap().all(|e| !e.unwrap().path().to_string_lossy().ends_with(".part")));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_part_of_an_uncertain_version_is_not_gone_on_with() {
        // A weak tag does not promise the same bytes: the first connection breaks, and then it is another file.
        let s = server(|i, head, s| {
            let from =
                head.lines().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            let tag = "ETag: W/\"v\"";
            match (i, from) {
                (0, _) => send(s, &format!("200 OK\r\nContent-Length: 600000\r\n{tag}"), &vec![b'a'; 300_000]),
                (_, None) => send(s, &format!("200 OK\r\nContent-Length: 600000\r\n{tag}"), &vec![b'b'; 600_000]),
                (_, Some(n)) => send(
                    s,
                    &format!(
                        "206 Partial\r\nContent-Length: {}\r\nContent-Range: bytes {n}-599999/600000\r\n{tag}",
                        600_000 - n
                    ),
                    &vec![b'b'; 600_000 - n],
                ),
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let f = Downloads::at(dir.path()).get(&Download::new(&s.url)).await.unwrap();
        assert!(fs::read(&f.path).unwrap() == vec![b'b'; 600_000], "two versions in one file");
        assert!(!s.heads().concat().contains("range:"), "{:?}", s.heads());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_of_this_side_that_was_written_again_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let f = dir.path().join("f");
        let all = Downloads::at(dir.path().join("cache"));
        let d = Download::new(f.to_str().unwrap());
        for body in ["one", "two", "three"] {
            // A new file in its place, and the same one with the same size.
            match body {
                "two" => fs::write(&f, body).unwrap(),
                _ => {
                    fs::write(dir.path().join("new"), body).unwrap();
                    fs::rename(dir.path().join("new"), &f).unwrap();
                }
            }
            assert_eq!(all.get(&d).await.unwrap().sha256, sum(body.as_bytes()).unwrap().hex);
            // The clock of a file system is coarse.
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_sum_the_server_is_asked_whether_it_changed() {
        let s = server(|i, head, s| match (i, head.contains("if-none-match: \"v1\"")) {
            (0, _) => send(s, "200 OK\r\nContent-Length: 3\r\nETag: \"v1\"", b"one"),
            (1, true) => send(s, "304 Not Modified\r\nETag: \"v1\"", b""),
            _ => send(s, "200 OK\r\nContent-Length: 3\r\nETag: \"v2\"", b"two"),
        });
        let dir = tempfile::tempdir().unwrap();
        let d = Download::new(&s.url);
        for want in ["one", "one", "two"] {
            assert_eq!(Downloads::at(dir.path()).text(&d).await.unwrap(), want);
        }
        assert_eq!(s.heads().len(), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_in_trouble_is_asked_again_and_a_refusal_is_final() {
        let s = server(|i, _, s| match i {
            0 => send(s, "503 Busy\r\nContent-Length: 0", b""),
            _ => send(s, "200 OK\r\nContent-Length: 2", b"ok"),
        });
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Downloads::at(dir.path()).text(&Download::new(&s.url)).await.unwrap(), "ok");
        assert_eq!(s.heads().len(), 2);
        let s = server(|_, _, s| send(s, "404 Not Found\r\nContent-Length: 0", b""));
        let e = Downloads::at(dir.path()).get(&Download::new(&s.url)).await.unwrap_err();
        assert!(e.message.contains("status 404") && e.message.contains(&s.url), "{e:?}");
        assert_eq!(s.heads().len(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_the_file_is_refused_and_not_kept() {
        let s = server(|_, _, s| send(s, "200 OK\r\nContent-Length: 3", b"bad"));
        let dir = tempfile::tempdir().unwrap();
        let d = Download { sum: sum(b"good"), ..Download::new(&s.url) };
        let e = Downloads::at(dir.path()).get(&d).await.unwrap_err();
        for part in [&sum(b"good").unwrap().hex, &sum(b"bad").unwrap().hex, &s.url] {
            assert!(e.message.contains(part), "{e:?}");
        }
        assert!(!Downloads::at(dir.path()).is_here(&d));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn logins_headers_and_large_lists() {
        let s = server(|_, _, s| send(s, "200 OK\r\nContent-Length: 2000000", &vec![b'x'; 2_000_000]));
        let dir = tempfile::tempdir().unwrap();
        let d = Download {
            headers: vec![("X-Token".into(), "t".into())],
            url: s.url.replace("//", "//me:pw@"),
            ..Default::default()
        };
        let e = Downloads::at(dir.path()).text(&d).await.unwrap_err();
        assert!(e.message.contains("larger than") && !e.message.contains("pw"), "{e:?}");
        let head = &s.heads()[0];
        assert!(head.contains("authorization: basic bwu6chc=") && head.contains("x-token: t"), "{head}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_of_this_side_and_no_server() {
        let dir = tempfile::tempdir().unwrap();
        let f = dir.path().join("a b");
        fs::write(&f, "hello").unwrap();
        let all = Downloads::at(dir.path().join("cache"));
        let path = f.to_str().unwrap();
        for url in [path.to_string(), format!("file://{}", path.replace(' ', "%20"))] {
            let d = Download { sum: sum(b"hello"), url, ..Default::default() };
            assert_eq!(
                all.get(&d).await.unwrap(),
                Fetched { path: f.clone(), size: 5, sha256: d.sum.unwrap().hex, status: None }
            );
        }
        assert!(!dir.path().join("cache").exists(), "nothing is copied");
        let e = all.get(&Download { sum: sum(b"other"), ..Download::new(path) }).await.unwrap_err();
        assert!(e.message.contains("the checksum differs"), "{e:?}");
        // A port nobody listens on.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let e = all.get(&Download::new(&format!("http://127.0.0.1:{port}/x"))).await.unwrap_err();
        assert!(e.message.contains("4 tries") && e.hint.unwrap().contains("https_proxy"), "{}", e.message);
    }

    #[test]
    fn where_the_cache_is() {
        let of = |vars: &[(&str, &str)]| cache(&|n| vars.iter().find(|(k, _)| *k == n).map(|(_, v)| v.into()));
        assert_eq!(of(&[("WINDLASS_CACHE", "/c"), ("HOME", "/h")]), Path::new("/c"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Path::new("/x/windlass/downloads"));
        assert_eq!(of(&[("HOME", "/h")]), Path::new("/h/.cache/windlass/downloads"));
    }
}
