//! As much of HTTP as the stand-in needs: one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

pub struct Request {
    pub method: String,
    pub path: String,
    pub auth: String,
    pub body: String,
}

pub struct Response {
    pub status: u16,
    pub body: String,
}

pub fn answer(status: u16, body: impl Into<String>) -> Response {
    Response { status, body: body.into() }
}

fn message(stream: &TcpStream) -> std::io::Result<(String, String, String)> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut auth, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => auth = value.trim().to_string(),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((first.trim().to_string(), auth, String::from_utf8_lossy(&body).into_owned()))
}

/// Answers requests at an address for ever; a port in use is fatal, in the words of the real one.
pub fn serve(address: &str, handler: Arc<dyn Fn(Request) -> Response + Send + Sync>) {
    let listener = match TcpListener::bind(address) {
        Ok(l) => l,
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            crate::fatal(&format!("failed to listen: listen tcp {address}: bind: address already in use"))
        }
        Err(e) => crate::fatal(&format!("failed to listen: listen tcp {address}: {e}")),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = handler.clone();
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let Ok((first, auth, body)) = message(&stream) else { return };
                let mut words = first.split(' ').map(str::to_string);
                let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
                let r = handler(Request { method, path, auth, body });
                let mut stream = &stream;
                let _ = write!(
                    stream,
                    "HTTP/1.1 {} stand-in\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                    r.status,
                    r.body.len(),
                    r.body
                );
            });
        }
    });
}

/// Asks; an error is one of the connection.
pub fn ask(
    method: &str,
    url: &str,
    path: &str,
    auth: &str,
    body: &str,
    patience: Duration,
) -> Result<Response, String> {
    let place = url.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
    let go = || -> std::io::Result<Response> {
        let address = place.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {place}\r\nAuthorization: {auth}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let (first, _, body) = message(&stream)?;
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok(Response { status, body })
    };
    go().map_err(|e| format!("dial tcp {place}: {e}"))
}

/// The credentials of a user with a password, as the real ones put them (here without base64).
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {user}:{password}")
}
