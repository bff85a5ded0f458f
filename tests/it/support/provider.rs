//! A provider that does what a test says and keeps every byte that it gets.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

use super::message::{BodyEnd, Broken, Fields, body_end, parse_head, read_body, read_head};
use super::{PATIENCE, eventually};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which connection it came over, counted from 0.
    pub connection: usize,
    /// Path and query.
    pub target: String,
    pub fields: Fields,
    /// The content, framing taken off.
    pub body: Vec<u8>,
    /// All bytes: head and body as they came.
    pub raw: Vec<u8>,
}

impl Received {
    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// What becomes of the connection after an answer.
pub enum Then {
    Keep,
    Close,
    Reset,
}

/// Something to wait for between a test and its provider.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    /// Lets one waiter through.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    /// Waits until it is open, and takes that opening.
    #[track_caller]
    pub fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        let started = Instant::now();
        while *open == 0 {
            assert!(started.elapsed() < PATIENCE, "the gate never opened");
            open = self
                .0
                .1
                .wait_timeout(open, Duration::from_millis(100))
                .unwrap()
                .0;
        }
        *open -= 1;
    }
}

trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

/// The connection, in the hands of the script.
pub struct Wire {
    stream: BufReader<Box<dyn Both>>,
    socket: TcpStream,
}

impl Wire {
    /// Sends; a caller that is gone is no failure of the provider's.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let stream = self.stream.get_mut();
        stream
            .write_all(bytes.as_ref())
            .and_then(|()| stream.flush())
            .is_ok()
    }

    /// Waits until all that was sent is in the other side's hands, or the connection at its end: the kernel queues nothing.
    #[track_caller]
    pub fn acknowledged(&self) {
        let ports = [self.socket.local_addr(), self.socket.peer_addr()];
        let [own, other] = ports.map(|addr| addr.map_or(0, |addr| addr.port()));
        let open = format!(": 0100007F:{own:04X} 0100007F:{other:04X} 01 ");
        eventually("an acknowledgement", || {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let queue = sockets.split_once(&open).map(|(_, rest)| rest);
            queue.is_none_or(|queue| queue.starts_with("00000000:"))
        });
    }

    /// Waits until the other side closes, and says how long that took.
    #[track_caller]
    pub fn closed_after(&mut self) -> Duration {
        let started = Instant::now();
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {}
            other => panic!("the connection stays open: {other:?}"),
        }
        started.elapsed()
    }
}

/// Status line, fields and body with its length.
fn respond(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 {status} Status\r\n");
    for (name, value) in fields {
        out += &format!("{name}: {value}\r\n");
    }
    if status != 204 {
        out += &format!("Content-Length: {}\r\n", body.len());
    }
    out += "\r\n";
    [out.as_bytes(), body].concat()
}

/// A JSON answer.
pub fn json(status: u16, body: &str) -> Vec<u8> {
    respond(status, &[("Content-Type", "application/json")], body)
}

type Script = dyn Fn(&Received, &mut Wire) -> Then + Send + Sync;

struct Shared {
    script: Box<Script>,
    tls: Option<Arc<rustls::ServerConfig>>,
    received: Mutex<Vec<Received>>,
    /// What came without being a whole request.
    fragments: Mutex<Vec<Vec<u8>>>,
    doubtful: Mutex<Vec<String>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    sockets: Mutex<HashMap<usize, TcpStream>>,
    stopping: AtomicBool,
    /// Requests are counted and not kept.
    forgets: AtomicBool,
}

/// The provider; it ends with the test.
pub struct Provider {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Provider {
    /// Answers each request by `script`.
    pub fn start(script: impl Fn(&Received, &mut Wire) -> Then + Send + Sync + 'static) -> Self {
        Self::with(None, script)
    }

    /// The same over TLS.
    pub fn start_tls(
        tls: Arc<rustls::ServerConfig>,
        script: impl Fn(&Received, &mut Wire) -> Then + Send + Sync + 'static,
    ) -> Self {
        Self::with(Some(tls), script)
    }

    /// Answers everything with 200 and an empty object.
    pub fn plain() -> Self {
        Self::answering(json(200, "{}"))
    }

    /// Answers everything with these bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |_, wire| {
            wire.send(&answer);
            Then::Keep
        })
    }

    fn with(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&Received, &mut Wire) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            tls,
            received: Mutex::default(),
            fragments: Mutex::default(),
            doubtful: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            sockets: Mutex::default(),
            stopping: AtomicBool::new(false),
            forgets: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                if accepting.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, socket) = (accepting.clone(), socket.unwrap());
                let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
                shared.open.fetch_add(1, Ordering::SeqCst);
                let copy = socket.try_clone().unwrap();
                shared.sockets.lock().unwrap().insert(connection, copy);
                let serve = move || {
                    shared.serve(connection, socket);
                    shared.sockets.lock().unwrap().remove(&connection);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                };
                thread::Builder::new()
                    .stack_size(512 * 1024)
                    .spawn(serve)
                    .unwrap();
            }
        });
        Self { addr, shared }
    }

    /// Keeps no request from now on, for tests that send gigabytes.
    pub fn forgetful(self) -> Self {
        self.shared.forgets.store(true, Ordering::SeqCst);
        self
    }

    /// Where it is, with a path.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://localhost:{}{path}", self.addr.port())
    }

    /// Every whole request so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// How many whole requests came so far.
    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// The only request.
    #[track_caller]
    pub fn only(&self) -> Received {
        let all = self.received();
        assert_eq!(all.len(), 1, "requests: {all:#?}");
        all.into_iter().next().unwrap()
    }

    /// The latest request.
    #[track_caller]
    pub fn last(&self) -> Received {
        self.received().pop().expect("no request came")
    }

    /// Everything that ever came in, whole requests and fragments.
    pub fn all_bytes(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self
            .received()
            .into_iter()
            .flat_map(|request| request.raw)
            .collect();
        all.extend(self.shared.fragments.lock().unwrap().iter().flatten());
        all
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        eventually("requests at the provider", || self.count() >= count);
    }

    /// The machine vanishes: from now on the kernel drops whatever comes over the connections there are, unanswered.
    pub fn vanish(&self) {
        // BPF: return 0, which is "no byte of this packet".
        let drop_all = [socket2::SockFilter::new(0x06, 0, 0, 0)];
        for socket in self.shared.sockets.lock().unwrap().values() {
            socket2::SockRef::from(socket)
                .attach_filter(&drop_all)
                .unwrap();
        }
    }

    /// Takes no new connections from now on; those that there are stay.
    pub fn refuse_new(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        eventually("new connections are refused", || {
            TcpStream::connect(self.addr).is_err()
        });
    }

    /// Closes every connection, by FIN or by RST.
    pub fn close_all(&self, reset: bool) {
        for (_, socket) in self.shared.sockets.lock().unwrap().drain() {
            if reset {
                let socket = socket2::SockRef::from(&socket);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
            let _ = socket.shutdown(if reset {
                Shutdown::Read
            } else {
                Shutdown::Both
            });
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        self.close_all(false);
        if !thread::panicking() {
            let doubtful = self.shared.doubtful.lock().unwrap();
            assert!(
                doubtful.is_empty(),
                "the router sent what parsers read differently: {doubtful:?}"
            );
        }
    }
}

impl Shared {
    fn serve(&self, connection: usize, socket: TcpStream) {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        let Some(stream) = self.secure(socket.try_clone().unwrap()) else {
            return;
        };
        let mut wire = Wire {
            stream: BufReader::new(stream),
            socket,
        };
        while let Some(received) = self.receive(connection, &mut wire) {
            if !self.forgets.load(Ordering::SeqCst) {
                self.received.lock().unwrap().push(received.clone());
            }
            match (self.script)(&received, &mut wire) {
                Then::Keep => {}
                Then::Close => break,
                Then::Reset => {
                    socket2::SockRef::from(&wire.socket)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                    // Only the last descriptor of a socket resets it.
                    self.sockets.lock().unwrap().remove(&connection);
                    return;
                }
            }
        }
        let _ = wire.socket.shutdown(Shutdown::Both);
    }

    fn secure(&self, socket: TcpStream) -> Option<Box<dyn Both>> {
        let Some(config) = &self.tls else {
            return Some(Box::new(socket));
        };
        let mut connection = ServerConnection::new(config.clone()).unwrap();
        let mut socket = socket;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).ok()?;
        }
        Some(Box::new(StreamOwned::new(connection, socket)))
    }

    fn receive(&self, connection: usize, wire: &mut Wire) -> Option<Received> {
        let head = match read_head(&mut wire.stream) {
            Ok(head) => head,
            Err(Broken::Doubtful(what)) => {
                self.doubtful.lock().unwrap().push(what);
                return None;
            }
            Err(Broken::End(0) | Broken::Reset) => return None,
            Err(Broken::End(read)) => {
                self.fragments
                    .lock()
                    .unwrap()
                    .push(format!("{read} bytes of a head").into());
                return None;
            }
        };
        let parsed = parse_head(&head).and_then(|(start, fields)| {
            let end = body_end(&fields)?.unwrap_or(BodyEnd::Length(0));
            match (
                &start.split(' ').collect::<Vec<_>>()[..],
                fields.all("host").len(),
            ) {
                (["GET" | "POST", target, "HTTP/1.1"], 1) => {
                    Ok(((*target).to_owned(), fields, end))
                }
                _ => Err(Broken::Doubtful(format!("{start:?} {fields:?}"))),
            }
        });
        let (target, fields, end) = match parsed {
            Ok(parsed) => parsed,
            Err(why) => {
                self.doubtful.lock().unwrap().push(format!("{why:?}"));
                return None;
            }
        };
        let (raw_body, body, result) = read_body(&mut wire.stream, end);
        let raw = [head, raw_body].concat();
        match result {
            Ok(()) => Some(Received {
                connection,
                target,
                fields,
                body,
                raw,
            }),
            Err(why) => {
                self.fragments.lock().unwrap().push(raw);
                if let Broken::Doubtful(what) = why {
                    self.doubtful.lock().unwrap().push(what);
                }
                None
            }
        }
    }
}
