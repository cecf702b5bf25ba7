//! One remote command on its own channel: stdin, stdout, stderr and how it ended.
//!
//! The connection hands every channel's messages out in order and stops reading the network when one channel's
//! queue is full. So each channel has a task that always drains it, into memory; a reader that falls behind costs
//! memory up to a cap, then its own channel, never the other channels.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot};

use crate::error::{Error, Result};

/// How a remote command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this exit code.
    Code(u32),
    /// A signal killed it; the name is without `SIG`, e.g. `TERM`.
    Signal(String),
}

impl ExitStatus {
    /// Whether the exit code was 0.
    pub fn success(&self) -> bool {
        *self == ExitStatus::Code(0)
    }

    /// The exit code as a shell shows it; 128 + n for the usual signals, 255 for others.
    pub fn code(&self) -> i32 {
        match self {
            ExitStatus::Code(code) => i32::try_from(*code).unwrap_or(255),
            ExitStatus::Signal(name) => match name.as_str() {
                "HUP" => 129,
                "INT" => 130,
                "QUIT" => 131,
                "ILL" => 132,
                "ABRT" => 134,
                "FPE" => 136,
                "KILL" => 137,
                "USR1" => 138,
                "SEGV" => 139,
                "PIPE" => 141,
                "ALRM" => 142,
                "TERM" => 143,
                _ => 255,
            },
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(name) => write!(f, "killed by SIG{name}"),
        }
    }
}

/// A running remote command. Dropping a part closes that part; dropping stdout, stderr and exit closes the channel.
#[derive(Debug)]
pub struct Exec {
    /// Writes end in `BrokenPipe` when the command is gone. Dropping it or shutting it down sends end-of-file.
    pub stdin: ExecStdin,
    pub stdout: ExecOutput,
    pub stderr: ExecOutput,
    /// Resolves as soon as the host reports the end; output may still follow on the streams.
    pub exit: Exit,
}

/// What the drain task needs of the connection it belongs to; kept alive as long as the command runs.
pub(super) trait Owner: Send + Sync + 'static {
    /// What happened to the connection, when a channel ends without its command having ended.
    fn loss(&self) -> impl Future<Output = Error> + Send;
    /// The host, for messages.
    fn place(&self) -> String;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Received and not yet read. Chunks are kept as they came, small ones are joined.
#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    waker: Option<Waker>,
    reader_gone: bool,
}

#[derive(Debug, Default)]
struct State {
    stdout: Queue,
    stderr: Queue,
    /// Bytes in both queues.
    unread: usize,
    /// No more data will come; the text is an error for readers.
    ended: Option<std::result::Result<(), String>>,
    /// The command or the channel is gone: writing is pointless.
    stdin_closed: bool,
    stdin_waker: Option<Waker>,
    stdin_dropped: bool,
    exit_gone: bool,
}

impl State {
    fn queue(&mut self, stream: Stream) -> &mut Queue {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn abandoned(&self) -> bool {
        self.stdout.reader_gone && self.stderr.reader_gone && self.exit_gone
    }

    fn wake_all(&mut self) {
        let wakers = [self.stdout.waker.take(), self.stderr.waker.take(), self.stdin_waker.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A part was dropped; the drain task looks what follows from it.
    dropped: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks smaller than this are joined with the one before, so that a byte-wise writer costs no more than its bytes.
const SMALL: usize = 2048;

/// Starts the drain task of a channel whose command has been asked for. `limit` is in bytes, over stdout and stderr.
pub(super) fn start<O: Owner>(
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    owner: O,
    limit: usize,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Exec {
    let shared = Arc::new(Shared::default());
    let (exit_sender, exit_receiver) = oneshot::channel();
    let inner = Box::pin(write.make_writer());
    tokio::spawn(drain(read, write, owner, limit, shared.clone(), exit_sender, permit));
    Exec {
        stdin: ExecStdin { inner, shared: shared.clone(), done: false },
        stdout: ExecOutput { stream: Stream::Stdout, shared: shared.clone() },
        stderr: ExecOutput { stream: Stream::Stderr, shared: shared.clone() },
        exit: Exit { receiver: exit_receiver, shared },
    }
}

async fn drain<O: Owner>(
    mut read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    owner: O,
    limit: usize,
    shared: Arc<Shared>,
    exit: oneshot::Sender<Result<ExitStatus>>,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let write = Arc::new(write);
    let mut exit = Some(exit);
    let mut eof_sent = false;
    let end = loop {
        let message = tokio::select! {
            message = read.wait() => message,
            () = shared.dropped.notified() => {
                let (stdin_dropped, abandoned) = { let s = shared.lock(); (s.stdin_dropped, s.abandoned()) };
                if abandoned {
                    break End::Ours(None);
                }
                if stdin_dropped && !eof_sent {
                    eof_sent = true;
                    // Not awaited here: a full queue towards the connection must not stop the draining.
                    let write = write.clone();
                    tokio::spawn(async move { write.eof().await });
                }
                continue;
            }
        };
        let (stream, data) = match message {
            Some(ChannelMsg::Data { data }) => (Stream::Stdout, data),
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => (Stream::Stderr, data),
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                resolve(&mut exit, Ok(ExitStatus::Code(exit_status)));
                continue;
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                let name = match signal_name {
                    Sig::Custom(name) => name,
                    other => format!("{other:?}"),
                };
                resolve(&mut exit, Ok(ExitStatus::Signal(name)));
                continue;
            }
            Some(ChannelMsg::Failure) => break End::Ours(Some("the server refuses to run commands".into())),
            Some(ChannelMsg::Close) => break End::Theirs,
            Some(_) => continue,
            None => break End::Lost,
        };
        if !deliver(&shared, stream, data, limit) {
            break End::Ours(Some(format!(
                "more than {} MiB of output were waiting to be read; the channel was closed",
                limit / (1024 * 1024)
            )));
        }
    };
    let problem = match end {
        End::Theirs => None,
        End::Ours(problem) => {
            // Once we have closed it, the connection tells us no more of this channel, not even its end. The place
            // it takes is given back when the message is on its way.
            tokio::spawn(async move {
                let _ = write.close().await;
                drop(permit);
            });
            let problem = problem.map(|p| Error::failed(format!("{}: {p}", owner.place())));
            let text = problem.as_ref().map(Error::to_string);
            if let Some(problem) = problem {
                resolve(&mut exit, Err(problem));
            }
            text
        }
        End::Lost => {
            let error = owner.loss().await;
            let text = error.to_string();
            resolve(&mut exit, Err(error));
            Some(text)
        }
    };
    resolve(&mut exit, Err(Error::failed(format!("{}: the command ended without an exit status", owner.place()))));
    let mut state = shared.lock();
    state.stdin_closed = true;
    state.ended = Some(problem.map_or(Ok(()), Err));
    state.wake_all();
}

/// How a channel came to its end.
enum End {
    /// The server closed it: in order.
    Theirs,
    /// We close it, for this reason, or because nobody wants it any more.
    Ours(Option<String>),
    /// The connection went.
    Lost,
}

fn resolve(exit: &mut Option<oneshot::Sender<Result<ExitStatus>>>, result: Result<ExitStatus>) {
    if let Some(sender) = exit.take() {
        // Nobody may be waiting for it.
        let _ = sender.send(result);
    }
}

/// Queues data for its reader; false when that would exceed the limit.
fn deliver(shared: &Shared, stream: Stream, data: Bytes, limit: usize) -> bool {
    let mut state = shared.lock();
    if state.queue(stream).reader_gone || data.is_empty() {
        return true;
    }
    if state.unread + data.len() > limit {
        return false;
    }
    state.unread += data.len();
    let queue = state.queue(stream);
    match queue.chunks.pop_back() {
        Some(last) if last.len() + data.len() <= SMALL => {
            // Unshared and with room to spare, so that joining costs no allocation per message.
            let mut joined = last.try_into_mut().unwrap_or_else(|last| {
                let mut fresh = bytes::BytesMut::with_capacity(2 * SMALL);
                fresh.extend_from_slice(&last);
                fresh
            });
            joined.extend_from_slice(&data);
            queue.chunks.push_back(joined.freeze());
        }
        last => {
            queue.chunks.extend(last);
            // A slice of a network packet would keep the whole packet alive.
            queue.chunks.push_back(if data.len() < SMALL { Bytes::copy_from_slice(&data) } else { data });
        }
    }
    if let Some(waker) = queue.waker.take() {
        waker.wake();
    }
    true
}

/// One of a command's output streams.
#[derive(Debug)]
pub struct ExecOutput {
    stream: Stream,
    shared: Arc<Shared>,
}

impl AsyncRead for ExecOutput {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let queue = state.queue(self.stream);
        let mut taken = 0;
        while buf.remaining() > 0 {
            let Some(chunk) = queue.chunks.front_mut() else { break };
            let n = chunk.len().min(buf.remaining());
            buf.put_slice(&chunk[..n]);
            chunk.advance(n);
            taken += n;
            if chunk.is_empty() {
                queue.chunks.pop_front();
            }
        }
        if taken > 0 {
            state.unread -= taken;
            return Poll::Ready(Ok(()));
        }
        match &state.ended {
            Some(Ok(())) => Poll::Ready(Ok(())),
            Some(Err(text)) => Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, text.clone()))),
            None => {
                state.queue(self.stream).waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for ExecOutput {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let queue = state.queue(self.stream);
        queue.reader_gone = true;
        let freed: usize = queue.chunks.drain(..).map(|c| c.len()).sum();
        state.unread -= freed;
        drop(state);
        self.shared.dropped.notify_one();
    }
}

/// A command's stdin.
pub struct ExecStdin {
    inner: Pin<Box<dyn AsyncWrite + Send>>,
    shared: Arc<Shared>,
    /// End-of-file was sent, or is known to be pointless.
    done: bool,
}

impl fmt::Debug for ExecStdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecStdin").field("done", &self.done).finish_non_exhaustive()
    }
}

impl ExecStdin {
    /// Fails when the channel is gone, else sees to it that its end wakes the writer: waiting for room alone never
    /// returns once the command has gone.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.stdin_closed {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the remote command has ended"));
        }
        state.stdin_waker = Some(cx.waker().clone());
        Ok(())
    }
}

impl AsyncWrite for ExecStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.done {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "stdin was shut down")));
        }
        if let Err(e) = self.check(cx) {
            return Poll::Ready(Err(e));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.inner.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Writes are handed to the connection at once; there is nothing of ours to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.done || self.check(cx).is_err() {
            self.done = true;
            return Poll::Ready(Ok(()));
        }
        let result = self.inner.as_mut().poll_shutdown(cx);
        self.done = result.is_ready();
        result
    }
}

impl Drop for ExecStdin {
    fn drop(&mut self) {
        if !self.done {
            self.shared.lock().stdin_dropped = true;
            self.shared.dropped.notify_one();
        }
    }
}

/// A future of how the command ended. An error says why that is not known: the connection was lost, the server
/// refused to run it, or too much output was left unread.
#[derive(Debug)]
pub struct Exit {
    receiver: oneshot::Receiver<Result<ExitStatus>>,
    shared: Arc<Shared>,
}

impl Future for Exit {
    type Output = Result<ExitStatus>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(cx)
            .map(|r| r.unwrap_or_else(|_| Err(Error::internal("the end of a remote command was asked for twice"))))
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.shared.lock().exit_gone = true;
        self.shared.dropped.notify_one();
    }
}
