//! Single steps of the path, for `benches/path.rs` (time) and `load/count.rs` (instructions).

use memoryrouter::http::{HeadLimits, head};
use memoryrouter::keys::{self, KeyFiles, KeyStore, MasterSource, NewKey};
use memoryrouter::provider::Dialect;
use memoryrouter::provider::body;
use memoryrouter::relay::SseScanner;

/// A step by its name, with the bytes that it looks at.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) bytes: usize,
    pub(crate) run: Box<dyn FnMut()>,
}

fn step(name: &str, bytes: usize, run: impl FnMut() + 'static) -> Step {
    Step {
        name: name.to_owned(),
        bytes,
        run: Box::new(run),
    }
}

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: 100,
    target_bytes_max: 8 * 1024,
};

const HEAD: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: router.test:8080\r\n\
    Authorization: Bearer mk_0123456789abcdefghijklmnopqrstuvwxyzABCDEF\r\nUser-Agent: OpenAI/Python 1.109.1\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nX-Stainless-Lang: python\r\n\
    X-Stainless-Runtime: CPython\r\nX-Stainless-Retry-Count: 0\r\nContent-Type: application/json\r\n\
    Content-Length: 1024\r\n\r\n";

fn chat(bytes: usize) -> Vec<u8> {
    let text = "The quick brown fox \\\"jumps\\\" over the lazy dog, once more and again.\\n";
    let message = format!(
        "{{\"role\":\"user\",\"content\":\"{}\"}},",
        text.repeat(512.min(bytes) / text.len() + 1)
    );
    let messages = message.repeat(bytes / message.len() + 1);
    let messages = messages.trim_end_matches(',');
    format!("{{\"memory\":\"auto\",\"model\":\"openai/gpt-4o\",\"messages\":[{messages}],\"stream\":false}}")
        .into_bytes()
}

/// Finds a key among `count`.
fn look_up(count: usize) -> Step {
    let dir = tempfile::tempdir().expect("a folder for keys");
    let files = KeyFiles {
        snapshot: dir.path().join("keys.snapshot"),
        master: MasterSource::File(dir.path().join("master.key")),
    };
    keys::init(&files).expect("new keys");
    let tokens = keys::edit(&files, |editor| {
        let mut tokens = Vec::new();
        for _ in 0..count {
            let new = NewKey {
                account: "default".into(),
                ..NewKey::default()
            };
            tokens.push(editor.add_key(new)?.1);
        }
        Ok(tokens)
    });
    let tokens = tokens.expect("keys");
    let store = KeyStore::open(files).expect("a snapshot");
    let mut reader = store.reader();
    let mut next = 0;
    step(&format!("look up one key of {count}"), 0, move || {
        next = (next + 7919) % tokens.len();
        let keys = reader.get();
        let record = keys.authenticate(tokens[next].expose(), 0);
        assert!(record.is_some());
    })
}

/// All steps; `keys` is how many the look-up is among.
pub(crate) fn steps(keys: usize) -> Vec<Step> {
    let mut all = vec![step("parse a head", HEAD.len(), || {
        assert!(matches!(head::request(HEAD, &mut 0, &LIMITS), Ok(Some(_))));
    })];
    for bytes in [1024, 64 * 1024, 512 * 1024] {
        let scanned = chat(bytes);
        let name = format!("scan a body of {} KiB", bytes / 1024);
        all.push(step(&name, scanned.len(), move || {
            assert!(body::scan(&scanned, Dialect::OpenAi).is_ok());
        }));
        let spliced = chat(bytes);
        let found = body::scan(&spliced, Dialect::OpenAi).expect("JSON");
        let name = format!("splice a body of {} KiB", bytes / 1024);
        all.push(step(&name, spliced.len(), move || {
            let splices = found.edits(&spliced, "openai/").expect("edits");
            assert!(splices.segments(&spliced).count() > 1);
        }));
    }
    let event =
        b"data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n";
    let mut scanner = SseScanner::default();
    all.push(step("scan an event of a stream", event.len(), move || {
        let mut events = 0;
        scanner.push(event, |_| events += 1);
        assert_eq!(events, 1);
    }));
    all.push(look_up(keys));
    all
}
