//! Lines as they come out, and those that do not.

use std::sync::Mutex;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;

use super::*;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn logged(log: &Log, events: impl FnOnce()) -> String {
    let memory = Memory::default();
    let (lines, guard) = start(memory.clone(), log.format, 100);
    tracing::subscriber::with_default(subscriber(log, lines).0, events);
    drop(guard);
    memory.text()
}

fn log(format: LogFormat, level: LevelFilter, access: bool) -> Log {
    Log {
        format,
        level,
        access,
        sample: 1,
    }
}

#[test]
fn text_lines() {
    let text = logged(&log(LogFormat::Text, LevelFilter::INFO, true), || {
        tracing::info!(port = 1, "hello");
        tracing::debug!("quiet");
        tracing::info!(target: ACCESS_LINES, status = 200);
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("INFO") && lines[0].contains("hello port=1"));
    assert!(lines[1].contains("access: status=200"), "{text}");
    assert!(!text.contains('\x1b'));
}

#[test]
fn json_lines() {
    let text = logged(&log(LogFormat::Json, LevelFilter::INFO, true), || {
        tracing::info!(port = 1, "hello \"you\"");
    });
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["message"], "hello \"you\"");
    assert_eq!(line["port"], 1);
    assert_eq!(line["level"], "INFO");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_bug_is_a_line_like_any_other_and_quotes_nothing() {
    let hook = std::panic::take_hook();
    let text = logged(&log(LogFormat::Json, LevelFilter::INFO, true), || {
        bugs::tell();
        let broken = || assert!(std::hint::black_box(false), "{}", "a canary");
        for _ in 0..3 {
            assert!(std::panic::catch_unwind(broken).is_err());
        }
    });
    std::panic::set_hook(hook);
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["place"]
            .as_str()
            .unwrap()
            .contains("src/log/tests.rs:")
    );
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn settings_change_while_lines_are_written() {
    let memory = Memory::default();
    let (lines, guard) = start(memory.clone(), LogFormat::Text, 100);
    let quiet = log(LogFormat::Text, LevelFilter::INFO, false);
    let (subscriber, filter) = subscriber(&quiet, lines);
    tracing::subscriber::with_default(subscriber, || {
        for word in ["before", "after"] {
            tracing::debug!(word);
            tracing::info!(target: ACCESS_LINES, word);
            let all = log(LogFormat::Text, LevelFilter::DEBUG, true);
            filter.reload(targets(&all)).unwrap();
        }
    });
    drop(guard);
    let text = memory.text();
    assert_eq!(text.matches("after").count(), 2, "{text}");
    assert!(!text.contains("before"), "{text}");
}

#[test]
fn access_lines_and_levels_can_be_turned_off() {
    let events = || {
        tracing::info!(target: ACCESS_LINES, status = 200);
        tracing::error!("broken");
    };
    let text = logged(&log(LogFormat::Text, LevelFilter::INFO, false), events);
    assert!(!text.contains("status"), "{text}");
    assert!(text.contains("broken"), "{text}");
    let text = logged(&log(LogFormat::Text, LevelFilter::OFF, true), events);
    assert_eq!(text, "");
}

/// A reader of stderr that takes nothing until it is told to.
struct Stuck(Receiver<()>, Sender<()>, Memory);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.1.send(());
        let _ = self.0.recv();
        self.2.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_costs_lines_and_never_time() {
    let (release, released) = channel();
    let (stuck, is_stuck) = channel();
    let memory = Memory::default();
    let sink = Stuck(released, stuck, memory.clone());
    let (lines, guard) = start(sink, LogFormat::Text, 10);
    let line = |text: &str| (&lines).write_all(text.as_bytes()).unwrap();
    line("first\n");
    is_stuck.recv().unwrap();
    let started = Instant::now();
    for _ in 0..30 {
        line("x\n");
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    drop(release);
    drop(guard);
    let text = memory.text();
    assert_eq!(text.matches("x\n").count(), 10, "{text}");
    assert!(text.contains("20 lines dropped"), "{text}");
}

/// A stderr that takes so many bytes, and then nothing until there is room again.
struct Full(Arc<AtomicU64>, Sender<()>, Memory);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.0.load(Ordering::Relaxed).min(bytes.len() as u64);
        if room == 0 {
            let _ = self.1.send(());
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.fetch_sub(room, Ordering::Relaxed);
        self.2.write(&bytes[..room as usize])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_could_not_be_written_are_counted_and_told_of() {
    let (failed, has_failed) = channel();
    let (room, memory) = (Arc::new(AtomicU64::new(9)), Memory::default());
    let sink = Full(room.clone(), failed, memory.clone());
    let (lines, guard) = start(sink, LogFormat::Text, 100);
    let line = |text: &str| (&lines).write_all(text.as_bytes()).unwrap();
    // The first is taken; then half of one, none, and none of what would have told of these.
    line("first\n");
    for _ in 0..3 {
        line("lost\n");
        has_failed.recv().unwrap();
    }
    room.store(u64::MAX, Ordering::Relaxed);
    line("last\n");
    let ever = lines.dropped.clone();
    drop(guard);
    let text = memory.text();
    assert!(text.starts_with("first\nlos"), "{text}");
    assert!(text.contains("last\nWARN log: 3 lines dropped"), "{text}");
    assert_eq!(ever.ever.load(Ordering::Relaxed), 3);
}

#[test]
fn the_end_does_not_wait_for_a_stuck_reader_forever() {
    let (_release, released) = channel();
    let (stuck, is_stuck) = channel();
    let sink = Stuck(released, stuck, Memory::default());
    let (lines, guard) = start(sink, LogFormat::Text, 1);
    (&lines).write_all(b"first\n").unwrap();
    is_stuck.recv().unwrap();
    (&lines).write_all(b"second\n").unwrap();
    let started = Instant::now();
    drop(guard);
    assert!(started.elapsed() < FLUSH_TIMEOUT + Duration::from_secs(3));
}
