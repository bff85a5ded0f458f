//! A load generator: `generate URL [--connections N] [--threads N] [--seconds S] [--rate R] [--fresh] [--idle S]
//! [--body BYTES] [--agent] [--key TOKEN] [--model NAME] [--field 'NAME: VALUE']`. URL is `http://ADDRESS:PORT/PATH`;
//! anything that speaks HTTP/1.1 there can be measured. Connections are spread over threads; one is enough for a server
//! of one. Several are bound to a CPU each, so that a server hears of a connection on the same CPU all its life, as from
//! a network card with a queue for each.
//!
//! Closed loop: each of N connections sends its next request when its answer has come. With `--rate`, open loop:
//! requests are due at a fixed rate however slow answers are, and a request's time counts from when it was due, so a
//! stall shows in all requests that it held up (no coordinated omission). `--fresh` opens a connection per request.
//! `--idle S` sends one request per connection and then holds all of them open. The body is one message of that size;
//! with `--agent` the conversation of a coding agent at work. Prints one line of JSON; times are in microseconds. An
//! answer with events is taken apart: time to its first byte, and each event's delay behind the time that
//! `load/mock.rs` writes into it.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use memoryrouter::http::{ChunkScanner, Framing, HeadLimits, Method, head};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: head::FIELDS_CEILING,
    target_bytes_max: 0,
};

/// Of the loop's timer.
const TICK: Duration = Duration::from_millis(2);

struct Options {
    address: SocketAddr,
    connections: usize,
    threads: usize,
    seconds: f64,
    rate: f64,
    fresh: bool,
    idle: Option<f64>,
    request: Vec<u8>,
}

impl Options {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut words = std::env::args().skip(1);
        let url = words.next().ok_or("generate URL [--connections N] …")?;
        let rest = url.strip_prefix("http://").ok_or("a URL of http://")?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let address = std::net::ToSocketAddrs::to_socket_addrs(authority)?
            .next()
            .ok_or("the host has no address")?;
        let (mut connections, mut threads, mut seconds, mut rate) = (64, 1, 3.0, 0.0);
        let (mut fresh, mut idle, mut body, mut key) = (false, None, 1000, String::new());
        let mut agent = false;
        let mut model = "gpt-4o".to_owned();
        let mut fields = String::new();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or("an option wants a value");
            match word.as_str() {
                "--fresh" => fresh = true,
                "--agent" => agent = true,
                "--connections" => connections = value()?.parse()?,
                "--threads" => threads = value()?.parse::<usize>()?.max(1),
                "--seconds" => seconds = value()?.parse()?,
                "--rate" => rate = value()?.parse()?,
                "--idle" => idle = Some(value()?.parse()?),
                "--body" => body = value()?.parse()?,
                "--key" => key = value()?,
                "--model" => model = value()?,
                "--field" => fields += &(value()? + "\r\n"),
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        let stream = if path.contains("stream") {
            ",\"stream\":true"
        } else {
            ""
        };
        let messages = match agent {
            true => steps_of_agent(body),
            false => format!("{{\"role\":\"user\",\"content\":\"{}\"}}", chat(body)),
        };
        let body = format!("{{\"model\":\"{model}\",\"messages\":[{messages}]{stream}}}");
        let credential = match key.as_str() {
            "" => String::new(),
            key => format!("Authorization: Bearer {key}\r\n"),
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: generate\r\nAccept: */*\r\n{credential}{fields}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Self {
            address,
            connections,
            threads,
            seconds,
            rate,
            fresh,
            idle,
            request: request.into_bytes(),
        })
    }
}

/// Text like a chat's, as JSON has it: lines and quotes.
fn chat(bytes: usize) -> String {
    let text = "The quick brown fox \\\"jumps\\\" over the lazy dog, once more and again.\\n";
    text.repeat(bytes / text.len() + 1)
}

/// A conversation of so many bytes: instructions, what the user wants, and then what the model called and got back, a
/// few kilobytes of code at a time.
fn steps_of_agent(bytes: usize) -> String {
    let line = "    let total = items.iter().map(|item| item.price * f64::from(item.count)).sum(); // \\\"net\\\"\\n";
    let mut messages = format!(
        "{{\"role\":\"system\",\"content\":\"{}\"}},{{\"role\":\"user\",\"content\":\"{}\"}}",
        chat(bytes / 16),
        chat(1000)
    );
    while messages.len() < bytes {
        let call = messages.len();
        let _ = write!(
            messages,
            ",{{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"id\":\"call_{call}\",\"type\":\"function\",\
             \"function\":{{\"name\":\"read_file\",\"arguments\":\"{{\\\"path\\\":\\\"src/part_{call}.rs\\\"}}\"}}}}]}},\
             {{\"role\":\"tool\",\"tool_call_id\":\"call_{call}\",\"content\":\"{}\"}}",
            line.repeat(60)
        );
    }
    messages
}

/// What all connections found together.
struct Found {
    requests: u64,
    failures: u64,
    bytes: u64,
    total: Histogram<u64>,
    first_byte: Histogram<u64>,
    event_delay: Histogram<u64>,
}

impl Found {
    fn new() -> Result<Self, hdrhistogram::CreationError> {
        let histogram = || Histogram::new_with_max(60_000_000, 3);
        Ok(Self {
            requests: 0,
            failures: 0,
            bytes: 0,
            total: histogram()?,
            first_byte: histogram()?,
            event_delay: histogram()?,
        })
    }

    fn add(&mut self, other: &Self) -> Result<(), hdrhistogram::AdditionError> {
        self.requests += other.requests;
        self.failures += other.failures;
        self.bytes += other.bytes;
        self.total.add(&other.total)?;
        self.first_byte.add(&other.first_byte)?;
        self.event_delay.add(&other.event_delay)
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_addr(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Sends a request and reads its answer to the end. Any other status than 200 is a failure.
    async fn exchange(
        &mut self,
        request: &mut Vec<u8>,
        due: Instant,
        found: &RefCell<Found>,
    ) -> Option<()> {
        let (result, sent) = self.stream.write_all(std::mem::take(request)).await;
        *request = sent;
        result.ok()?;
        let mut received = Vec::with_capacity(4096);
        let (mut scanned, mut first) = (0, None);
        let head = loop {
            let (read, buffer) = self.stream.read(std::mem::take(&mut self.buffer)).await;
            self.buffer = buffer;
            let count = read.ok().filter(|count| *count > 0)?;
            first.get_or_insert_with(|| due.elapsed());
            received.extend_from_slice(&self.buffer[..count]);
            if let Some(head) = head::response(&received, &mut scanned, &LIMITS).ok()? {
                break head;
            }
        };
        if head.line.status != 200 {
            return None;
        }
        let mut body = received.split_off(head.end);
        let mut scanner = ChunkScanner::default();
        let mut left = match Framing::of_response(&head, &received, Method::Post).ok()? {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
            _ => return None,
        };
        loop {
            let done = match &mut left {
                Some(left) => {
                    *left = left.checked_sub(body.len() as u64)?;
                    *left == 0
                }
                None => {
                    let now = SystemTime::now()
                        .duration_since(UNIX_EPOCH)
                        .ok()?
                        .as_nanos();
                    let note = |range: std::ops::Range<usize>| events(&body[range], now, found);
                    if scanner.scan(&body, note).ok()? < body.len() {
                        return None;
                    }
                    scanner.done()
                }
            };
            found.borrow_mut().bytes += body.len() as u64;
            if done {
                break;
            }
            let (read, buffer) = self.stream.read(std::mem::take(&mut self.buffer)).await;
            self.buffer = buffer;
            let count = read.ok().filter(|count| *count > 0)?;
            body.clear();
            body.extend_from_slice(&self.buffer[..count]);
        }
        let mut found = found.borrow_mut();
        found.requests += 1;
        found.total.saturating_record(micros(due.elapsed()));
        found.first_byte.saturating_record(micros(first?));
        Some(())
    }
}

/// Takes the time that an event was sent at out of its text.
fn events(content: &[u8], now: u128, found: &RefCell<Found>) {
    for at in memchr::memmem::find_iter(content, b"\"sent\":") {
        let digits = content[at + 7..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        let sent = digits.fold(0u128, |sent, digit| sent * 10 + u128::from(digit - b'0'));
        let delay = u64::try_from(now.saturating_sub(sent) / 1000).unwrap_or(u64::MAX);
        found.borrow_mut().event_delay.saturating_record(delay);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn keep_busy(number: usize, options: Arc<Options>, found: Rc<RefCell<Found>>) {
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(options.seconds);
    let mut request = options.request.clone();
    let mut open: Option<Connection> = None;
    // In an open loop each connection has its share of the due times.
    let interval = options.connections as f64 / options.rate.max(1e-9);
    let mut turn = number as f64 / options.connections as f64;
    loop {
        let due = if options.rate > 0.0 {
            let due = started + Duration::from_secs_f64(turn * interval);
            turn += 1.0;
            match due.checked_duration_since(Instant::now()) {
                // The timer ticks once a millisecond: what it wakes late is not the server's.
                Some(early) => {
                    monoio::time::sleep(early).await;
                    due + due.elapsed().min(TICK)
                }
                None => due,
            }
        } else {
            Instant::now()
        };
        if due >= end {
            break;
        }
        if options.fresh {
            open = None;
        }
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => match Connection::open(options.address).await {
                Ok(connection) => connection,
                Err(_) => {
                    found.borrow_mut().failures += 1;
                    monoio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        match connection.exchange(&mut request, due, &found).await {
            Some(()) => open = Some(connection),
            None => {
                found.borrow_mut().failures += 1;
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if options.idle.is_some() {
            break;
        }
    }
    if let Some(seconds) = options.idle {
        monoio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
    drop(open);
}

fn quantiles(out: &mut String, name: &str, histogram: &Histogram<u64>) {
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        ",\"{name}\":{{\"count\":{},\"p50\":{},\"p90\":{},\"p99\":{},\"p999\":{},\"max\":{}}}",
        histogram.len(),
        histogram.value_at_quantile(0.5),
        histogram.value_at_quantile(0.9),
        histogram.value_at_quantile(0.99),
        histogram.value_at_quantile(0.999),
        histogram.max()
    );
}

/// One thread's connections, to their end: every so many'th of all, from `first` on.
fn run(options: &Arc<Options>, first: usize) -> Result<Found, Box<dyn Error + Send + Sync>> {
    if options.threads > 1 {
        // Where there are fewer CPUs the rest goes unbound.
        let _ = memoryrouter::net::pin_to_core(first);
    }
    let found = Rc::new(RefCell::new(Found::new()?));
    memoryrouter::net::run(async {
        let mut tasks = Vec::new();
        for number in (first..options.connections).step_by(options.threads) {
            tasks.push(monoio::spawn(keep_busy(
                number,
                options.clone(),
                found.clone(),
            )));
            // A few at a time: what a burst leaves behind is no idle connection's memory.
            if options.idle.is_some() && number % 64 == 63 {
                monoio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        for task in tasks {
            task.await;
        }
    })?;
    let mut all = Found::new()?;
    all.add(&found.borrow())?;
    Ok(all)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Arc::new(Options::read()?);
    let started = Instant::now();
    // As callers from several places would: none of them finds a server that only the other one uses.
    let all_there = Arc::new(Barrier::new(options.threads));
    let threads: Vec<_> = (0..options.threads)
        .map(|first| {
            let (options, all_there) = (options.clone(), all_there.clone());
            thread::spawn(move || {
                all_there.wait();
                run(&options, first)
            })
        })
        .collect();
    let mut found = Found::new()?;
    for thread in threads {
        let of_thread = thread.join().map_err(|_| "a thread panicked")?;
        found.add(&of_thread.map_err(|error| error as Box<dyn Error>)?)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut out = format!(
        "{{\"requests\":{},\"failures\":{},\"bytes\":{},\"seconds\":{seconds:.3},\"per_second\":{:.1}",
        found.requests,
        found.failures,
        found.bytes,
        found.requests as f64 / seconds
    );
    quantiles(&mut out, "total", &found.total);
    quantiles(&mut out, "first_byte", &found.first_byte);
    quantiles(&mut out, "event_delay", &found.event_delay);
    println!("{out}}}");
    Ok(())
}
