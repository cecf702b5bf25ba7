//! The byte streams a connection can run over: TCP, a channel through another host, a command's pipes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

/// Any of them.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A TCP connection whose received data is acknowledged at once.
///
/// sshd leaves Nagle's algorithm on for commands without a terminal: its second small packet in a row (the first
/// channel after login, stderr after stdout) waits for our acknowledgement, which the kernel holds back up to 40 ms.
pub(super) struct Tcp(TcpStream);

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.0).poll_read(cx, buf);
        // The kernel forgets the wish now and then, so it is repeated. It only makes things faster: errors don't matter.
        #[cfg(target_os = "linux")]
        let _ = self.0.set_quickack(true);
        result
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A stream that gives up when nothing could be sent for a while. The connection writes before it looks at anything
/// else, keepalives included, so a peer that takes no data would hold it for ever.
pub(super) struct Guarded<S> {
    stream: S,
    limit: Duration,
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<S: ByteStream> Guarded<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Guarded { stream, limit, stalled: None }
    }
}

impl<S: ByteStream> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: ByteStream> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        std::task::ready!(stalled.as_mut().poll(cx));
        let text = format!("no data could be sent for {} s", limit.as_secs_f32());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How long an address may stay silent before the next one is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Connects to the first of a host's addresses that answers.
pub(super) async fn tcp(host: &str, port: u16) -> Result<Tcp, String> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| format!("cannot resolve {host:?}: {}", strip_os_text(&e)))?
        .collect();
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last: Option<io::Error> = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(last.map_or_else(|| format!("{host:?} has no address"), |e| connect_error(&e)));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(|e| e.to_string())?;
                    return Ok(Tcp(stream));
                }
                Ok(Err(e)) => last = Some(e),
                Err(e) => last = Some(io::Error::other(e)),
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if more => {}
        }
    }
}

fn connect_error(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => strip_os_text(e),
    }
}

/// An I/O error's text without "(os error 111)".
pub(super) fn strip_os_text(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// What a ProxyCommand last said on stderr, for messages; ready when its stderr is closed.
pub(super) type Said = tokio::task::JoinHandle<String>;

/// A ProxyCommand's pipes. The command is killed when the stream is dropped.
pub(super) struct ProxyStream {
    stdout: ChildStdout,
    stdin: ChildStdin,
    _child: Child,
}

/// Bytes of a ProxyCommand's stderr that are kept.
const SAID_LIMIT: usize = 1000;

/// Starts a ProxyCommand in the user's shell, as OpenSSH does.
pub(super) fn proxy(command: &str) -> Result<(ProxyStream, Said), String> {
    let shell = std::env::var_os("SHELL").filter(|s| !s.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let mut child = Command::new(&shell)
        .arg("-c")
        .arg(format!("exec {command}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("cannot start the ProxyCommand: {}", strip_os_text(&e)))?;
    let (Some(stdin), Some(stdout), Some(mut stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("cannot start the ProxyCommand: it has no pipes".into());
    };
    let said = tokio::spawn(async move {
        let (mut said, mut buf) = (String::new(), [0u8; 512]);
        while let Ok(n @ 1..) = stderr.read(&mut buf).await {
            said.push_str(&String::from_utf8_lossy(&buf[..n]));
            let mut cut = said.len().saturating_sub(SAID_LIMIT);
            while !said.is_char_boundary(cut) {
                cut += 1;
            }
            said.drain(..cut);
        }
        said
    });
    Ok((ProxyStream { stdout, stdin, _child: child }, said))
}

impl AsyncRead for ProxyStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for ProxyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_no_data_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut guarded = Guarded::new(ours, Duration::from_millis(30));
        let e = guarded.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_peer_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut guarded = Guarded::new(ours, Duration::from_millis(200));
        let reading = async {
            let mut buf = [0; 16];
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(30)).await;
                theirs.read_exact(&mut buf).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(guarded.write_all(&[0; 160]), reading);
        written.unwrap();
    }
}
