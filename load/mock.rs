//! A provider that costs as little as possible, for measuring what stands in front of it.
//!
//! `mock PORT [--tls CA_FILE] [--delay MS] [--events N] [--pause MS] [--threads N]`: about 1 KB of JSON for every
//! request, after the delay; a request whose target holds `stream` gets so many events with a pause before each, and
//! each says when it was sent, in nanoseconds since 1970. With `--tls` it makes a certificate for 127.0.0.1 on the
//! spot and writes its authority to the file. Several threads are bound to a CPU each.

use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memoryrouter::http::{HeadLimits, Name, head};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::TcpListener;
use socket2::{Domain, Socket, Type};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: head::FIELDS_CEILING,
    target_bytes_max: 8 * 1024,
};

struct Options {
    port: u16,
    tls: Option<String>,
    delay: Duration,
    events: usize,
    pause: Duration,
    threads: usize,
}

impl Options {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut words = std::env::args().skip(1);
        let port = words.next().ok_or("mock PORT [--tls CA_FILE] …")?.parse()?;
        let mut options = Self {
            port,
            tls: None,
            delay: Duration::ZERO,
            events: 200,
            pause: Duration::from_millis(1),
            threads: 1,
        };
        while let Some(word) = words.next() {
            let value = words.next().ok_or("an option wants a value")?;
            match word.as_str() {
                "--tls" => options.tls = Some(value),
                "--delay" => options.delay = Duration::from_millis(value.parse()?),
                "--events" => options.events = value.parse()?,
                "--pause" => options.pause = Duration::from_millis(value.parse()?),
                "--threads" => options.threads = value.parse()?,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

fn plain() -> Vec<u8> {
    let text = "word ".repeat(160);
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":11,"completion_tokens":160,"total_tokens":171}}}}"#
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// The first request in `bytes`: whether it wants a stream, and where it ends, here or further on.
fn request(bytes: &[u8]) -> Option<(bool, usize)> {
    let head = head::request(bytes, &mut 0, &LIMITS).ok()??;
    let length = head.first(Name::ContentLength, bytes);
    let length = length.and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    let streams = head.path(bytes).contains("stream")
        || head
            .query(bytes)
            .is_some_and(|query| query.contains("stream"));
    Some((streams, head.end + length.unwrap_or(0)))
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

async fn serve<S: AsyncReadRent + AsyncWriteRent>(
    mut stream: S,
    plain: Rc<Vec<u8>>,
    options: Rc<Options>,
) -> std::io::Result<()> {
    let mut received = Vec::with_capacity(16 * 1024);
    let mut buffer = vec![0; 256 * 1024];
    // Of a request whose end is not here yet, the head is read once, and its body only counted.
    let mut missing: Option<(bool, usize)> = None;
    loop {
        let (read, returned) = stream.read(buffer).await;
        buffer = returned;
        let count = read?;
        if count == 0 {
            return Ok(());
        }
        let mut arrived = &buffer[..count];
        if let Some((streams, left)) = missing {
            if count < left {
                missing = Some((streams, left - count));
                continue;
            }
            missing = None;
            arrived = &buffer[left..count];
            answer(&mut stream, streams, &plain, &options).await?;
        }
        received.extend_from_slice(arrived);
        while let Some((streams, end)) = request(&received) {
            if received.len() < end {
                missing = Some((streams, end - received.len()));
                received.clear();
                break;
            }
            received.drain(..end);
            answer(&mut stream, streams, &plain, &options).await?;
        }
    }
}

async fn answer<S: AsyncWriteRent>(
    stream: &mut S,
    streams: bool,
    plain: &[u8],
    options: &Options,
) -> std::io::Result<()> {
    if !options.delay.is_zero() {
        monoio::time::sleep(options.delay).await;
    }
    if !streams {
        return stream.write_all(plain.to_vec()).await.0.map(drop);
    }
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes().to_vec()).await.0?;
    for _ in 0..options.events {
        // Each event is its own packet, as a model's tokens are.
        monoio::time::sleep(options.pause).await;
        let sent = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let event = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word \"}}}}],\"sent\":{sent}}}\n\n"
        );
        stream.write_all(chunk(&event)).await.0?;
    }
    let end = [chunk("data: [DONE]\n\n"), b"0\r\n\r\n".to_vec()].concat();
    stream.write_all(end).await.0.map(drop)
}

/// A certificate for 127.0.0.1, its authority written to `file`.
fn acceptor(file: &str) -> Result<monoio_rustls::TlsAcceptor, Box<dyn Error>> {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".into(), "localhost".into()])?;
    std::fs::write(file, certified.cert.pem())?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    Ok(std::sync::Arc::new(config).into())
}

fn run(
    index: usize,
    options: Options,
    tls: Option<monoio_rustls::TlsAcceptor>,
) -> std::io::Result<()> {
    memoryrouter::net::run(async move {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(memoryrouter::net::driver_name() == "epoll")?;
        // Several threads: each takes whom its CPU hears of.
        if options.threads > 1
            && let Ok(cpu) = memoryrouter::net::pin_to_core(index)
        {
            socket.set_cpu_affinity(cpu)?;
        }
        let address: SocketAddr = ([127, 0, 0, 1], options.port).into();
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        let listener = TcpListener::from_std(socket.into())?;
        let plain = Rc::new(plain());
        let options = Rc::new(options);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (plain, options, tls) = (plain.clone(), options.clone(), tls.clone());
            // A connection that breaks is the other side's affair.
            monoio::spawn(async move {
                match tls {
                    None => drop(serve(stream, plain, options).await),
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            drop(serve(stream, plain, options).await);
                        }
                    }
                }
            });
        }
    })?
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read()?;
    let tls = options.tls.as_deref().map(acceptor).transpose()?;
    let mut threads = Vec::new();
    for index in 0..options.threads.max(1) {
        let tls = tls.clone();
        let options = Options::read()?;
        threads.push(std::thread::spawn(move || run(index, options, tls)));
    }
    for thread in threads {
        thread.join().map_err(|_| "a thread of the mock ended")??;
    }
    Ok(())
}
