//! As much of AMQP 0-9-1 as a client needs that publishes with confirms, and reads a queue empty.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;

/// Where and as whom to log in.
#[derive(Clone)]
pub struct Login {
    pub user: &'static str,
    pub password: &'static str,
    pub vhost: &'static str,
}

/// A connection with one channel.
pub struct Client {
    stream: TcpStream,
    published: u64,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

fn short(text: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(text.len()).unwrap()];
    out.extend(text.as_bytes());
    out
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

fn method(class: u16, id: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = class.to_be_bytes().to_vec();
    out.extend(id.to_be_bytes());
    parts.iter().for_each(|p| out.extend(*p));
    out
}

impl Client {
    pub fn connect(address: Ipv4Addr, login: &Login) -> io::Result<Self> {
        let patience = Duration::from_secs(3);
        let stream = TcpStream::connect_timeout(&SocketAddr::from((address, 5672)), Duration::from_secs(1))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let mut c = Client { stream, published: 0 };
        c.stream.write_all(b"AMQP\0\0\x09\x01")?;
        c.expect(10, 10)?;
        let answer = format!("\0{}\0{}", login.user, login.password);
        let start = method(10, 11, &[&long(b""), &short("PLAIN"), &long(answer.as_bytes()), &short("en_US")]);
        c.send(METHOD, 0, &start)?;
        let tune = c.expect(10, 30)?;
        // The limits as offered, no heartbeats.
        c.send(METHOD, 0, &method(10, 31, &[&tune[..6], &[0, 0]]))?;
        c.send(METHOD, 0, &method(10, 40, &[&short(login.vhost), &short(""), &[0]]))?;
        c.expect(10, 41)?;
        c.send(METHOD, 1, &method(20, 10, &[&short("")]))?;
        c.expect(20, 11)?;
        c.send(METHOD, 1, &method(85, 10, &[&[0]]))?;
        c.expect(85, 11)?;
        Ok(c)
    }

    /// Publishes to a queue. Returns when the broker has confirmed it; a message that no queue took is an error.
    pub fn publish(&mut self, queue: &str, body: &str) -> io::Result<()> {
        self.published += 1;
        self.send(METHOD, 1, &method(60, 40, &[&[0, 0], &short(""), &short(queue), &[1]]))?;
        let mut header = method(60, 0, &[&(body.len() as u64).to_be_bytes()]);
        // Persistent.
        header.extend([0x10, 0x00, 2]);
        self.send(HEADER, 1, &header)?;
        self.send(BODY, 1, body.as_bytes())?;
        loop {
            let (kind, payload) = self.receive()?;
            if kind != METHOD {
                continue;
            }
            match (word(&payload, 0), word(&payload, 2)) {
                (60, 80) if payload[4..12] == self.published.to_be_bytes() || payload[12] == 1 => return Ok(()),
                (60, 80) => {}
                (60, 120) => return Err(broken("refused")),
                (60, 50) => return Err(broken("no queue took it")),
                other => return Err(broken(format!("closed: {other:?}"))),
            }
        }
    }

    /// Takes one message out of a queue.
    pub fn get(&mut self, queue: &str) -> io::Result<Option<String>> {
        self.send(METHOD, 1, &method(60, 70, &[&[0, 0], &short(queue), &[1]]))?;
        let mut left: Option<usize> = None;
        let mut body = vec![];
        loop {
            let (kind, payload) = self.receive()?;
            match kind {
                METHOD => match (word(&payload, 0), word(&payload, 2)) {
                    (60, 72) => return Ok(None),
                    (60, 71) => {}
                    other => return Err(broken(format!("closed: {other:?}"))),
                },
                HEADER => {
                    let size =
                        payload[4..12].try_into().map(u64::from_be_bytes).map_err(|_| broken("a short header"))?;
                    left = usize::try_from(size).ok();
                }
                BODY => body.extend(payload),
                _ => {}
            }
            if left == Some(body.len()) {
                return String::from_utf8(body).map(Some).map_err(|_| broken("not text"));
            }
        }
    }

    fn send(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(long(payload));
        frame.push(END);
        self.stream.write_all(&frame)
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload)?;
        if payload.pop() != Some(END) {
            return Err(broken("not a frame"));
        }
        Ok((head[0], payload))
    }

    /// The arguments of the method that must come next.
    fn expect(&mut self, class: u16, id: u16) -> io::Result<Vec<u8>> {
        let (kind, payload) = self.receive()?;
        if kind == METHOD && (word(&payload, 0), word(&payload, 2)) == (class, id) {
            return Ok(payload[4..].to_vec());
        }
        Err(broken(format!("{class}.{id} was expected")))
    }
}

fn word(payload: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([payload[at], payload[at + 1]])
}

/// A client that publishes all the while, with confirms; it goes to the next node when one fails it.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(u64, Instant)>>,
}

impl Publisher {
    pub fn start(nodes: Vec<Ipv4Addr>, login: Login, queue: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let over = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut n, mut at, mut confirmed) = (0, 0, vec![]);
            let mut client = None;
            while !over.load(Ordering::Relaxed) {
                let Some(c) = &mut client else {
                    at += 1;
                    client = Client::connect(nodes[at % nodes.len()], &login).ok();
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                n += 1;
                match c.publish(queue, &n.to_string()) {
                    Ok(()) => confirmed.push((n, Instant::now())),
                    Err(_) => client = None,
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            confirmed
        });
        Publisher { stop, thread }
    }

    /// The numbers that were confirmed, and the longest time from one to the next.
    pub fn stop(self) -> (Vec<u64>, Duration) {
        let ended = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        let confirmed = self.thread.join().expect("the publisher");
        let longest = confirmed.windows(2).map(|w| w[1].1 - w[0].1).max().unwrap_or_default();
        let silent = confirmed.last().map_or(Duration::MAX, |l| ended.saturating_duration_since(l.1));
        (confirmed.into_iter().map(|c| c.0).collect(), longest.max(silent))
    }
}
