//! Where log lines go: to stderr, by a thread of their own, so that no worker ever waits for a terminal, a pipe or a
//! disk.
//!
//! `cli` opens it once. Lines pass through a bounded channel; when whoever reads stderr is too slow, or takes nothing any
//! more, lines are dropped and counted, and the count is the next line that gets through. Dropping the guard writes what
//! is left.

mod bugs;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::config::{Log, LogFormat};
use crate::record::{self, TARGET as ACCESS_LINES};

/// Lines waiting to be written: some megabytes at most, and a second of a busy core's access lines.
const LINES_WAITING_MAX: usize = 16 * 1024;
/// How much is put together for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// How long the end of the process waits for a stderr that does not take what is left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The log of this process, once it is open: there is one subscriber for all threads, and so one of these.
static OPEN: OnceLock<Open> = OnceLock::new();

struct Open {
    filter: Filter,
    dropped: Arc<Dropped>,
    settings: Mutex<Log>,
}

type Filter = reload::Handle<Targets, Registry>;

/// Starts logging for the process. Lines written after the guard is dropped are lost.
pub fn init(log: &Log) -> LogGuard {
    let (lines, guard) = start(io::stderr(), log.format, LINES_WAITING_MAX);
    let dropped = lines.dropped.clone();
    let (subscriber, filter) = subscriber(log, lines);
    // Only a second call fails, and then the first one's settings stay.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        bugs::tell();
        record::set_sample(log.sample);
        let _ = OPEN.set(Open {
            filter,
            dropped,
            settings: Mutex::new(log.clone()),
        });
    }
    guard
}

/// Warnings of a command that ends soon, for whoever typed it.
pub fn init_for_command() {
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_max_level(LevelFilter::WARN)
        .with_writer(io::stderr)
        .finish();
    // Only a second call fails, and then the first one's settings stay.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// What is logged now; none in a process whose log is not this one.
pub fn settings() -> Option<Log> {
    let open = OPEN.get()?;
    let settings = open.settings.lock();
    Some(settings.unwrap_or_else(PoisonError::into_inner).clone())
}

/// Lines dropped since the start.
pub fn dropped() -> u64 {
    OPEN.get()
        .map_or(0, |open| open.dropped.ever.load(Ordering::Relaxed))
}

/// Goes on with other settings, from the next line on. The form of a line stays.
pub fn change(log: &Log) {
    let Some(open) = OPEN.get() else { return };
    let mut settings = open.settings.lock().unwrap_or_else(PoisonError::into_inner);
    // Fails only when the subscriber is gone, and then so is the log.
    let _ = open.filter.reload(targets(log));
    record::set_sample(log.sample);
    *settings = Log {
        format: settings.format,
        ..log.clone()
    };
}

fn targets(log: &Log) -> Targets {
    let access = if log.access {
        log.level
    } else {
        LevelFilter::OFF
    };
    Targets::new()
        .with_default(log.level)
        .with_target(ACCESS_LINES, access)
}

fn subscriber(log: &Log, lines: Lines) -> (impl Subscriber + Send + Sync + use<>, Filter) {
    let (filter, handle) = reload::Layer::new(targets(log));
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(lines);
    let layer = match log.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    (Registry::default().with(layer.with_filter(filter)), handle)
}

/// The writing end that every thread shares.
#[derive(Clone)]
struct Lines {
    sender: SyncSender<Message>,
    dropped: Arc<Dropped>,
}

/// Lines that were not written.
#[derive(Default)]
struct Dropped {
    /// Since the last line that says so.
    untold: AtomicU64,
    ever: AtomicU64,
}

impl Dropped {
    fn add(&self, lines: u64) {
        self.untold.fetch_add(lines, Ordering::Relaxed);
        self.ever.fetch_add(lines, Ordering::Relaxed);
    }
}

enum Message {
    Line(Vec<u8>),
    End,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// One call is one line: the layer formats a line whole before it writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.add(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends logging when it is dropped, after what waits was written.
pub struct LogGuard {
    sender: SyncSender<Message>,
    ended: Receiver<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let mut end = Message::End;
        while let Err(TrySendError::Full(back)) = self.sender.try_send(end) {
            if Instant::now() >= deadline {
                return;
            }
            end = back;
            thread::sleep(Duration::from_millis(5));
        }
        // Either the thread has ended, or stderr takes nothing any more.
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.ended.recv_timeout(left);
    }
}

fn start(
    sink: impl Write + Send + 'static,
    format: LogFormat,
    waiting_max: usize,
) -> (Lines, LogGuard) {
    let (sender, receiver) = sync_channel(waiting_max);
    let (end, ended) = sync_channel(1);
    let dropped = Arc::<Dropped>::default();
    let lines = Lines {
        sender: sender.clone(),
        dropped: dropped.clone(),
    };
    let write = move || {
        write_lines(sink, &receiver, &dropped, format);
        // Nobody may be waiting.
        let _ = end.send(());
    };
    // Without the thread the receiver is gone: every line is dropped and counted, and nothing else changes.
    let _ = thread::Builder::new().name("log".into()).spawn(write);
    (lines, LogGuard { sender, ended })
}

fn write_lines(
    mut sink: impl Write,
    lines: &Receiver<Message>,
    dropped: &Dropped,
    format: LogFormat,
) {
    let mut out = Vec::with_capacity(WRITE_BYTES);
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        let mut ended = false;
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => out.extend_from_slice(&line),
                Message::End => ended = true,
            }
            if !ended && out.len() < WRITE_BYTES {
                next = lines.try_recv().ok();
            }
        }
        let lost = dropped.untold.swap(0, Ordering::Relaxed);
        if lost > 0 {
            out.extend_from_slice(lost_line(lost, format).as_bytes());
        }
        // A stderr that takes nothing is no reason to stop serving.
        let written = write_as_much(&mut sink, &out);
        let unwritten = count_lines(&out[written..]);
        if lost > 0 && unwritten > 0 {
            // The last of them is the one that tells of others, which it has yet to do.
            dropped.add(unwritten - 1);
            dropped.untold.fetch_add(lost, Ordering::Relaxed);
        } else {
            dropped.add(unwritten);
        }
        out.clear();
        if ended {
            return;
        }
    }
}

/// How many bytes were taken.
fn write_as_much(sink: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = sink.flush();
    written
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// What stands in for lines that were dropped. No time stands in it: the lines around it carry theirs.
fn lost_line(lost: u64, format: LogFormat) -> String {
    match format {
        LogFormat::Text => {
            format!("WARN log: {lost} lines dropped, stderr was too slow or failed\n")
        }
        LogFormat::Json => format!(
            "{{\"level\":\"WARN\",\"target\":\"log\",\"message\":\"lines dropped, stderr was too slow or failed\",\"lines\":{lost}}}\n"
        ),
    }
}

#[cfg(test)]
mod tests;
