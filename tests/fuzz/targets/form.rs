//! Forms and coded bodies: no input panics, edits stay inside, and decoding stays under its limit.
#![no_main]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use memoryrouter::provider::coding::Codings;
use memoryrouter::provider::multipart;

const LIMIT: usize = 64 * 1024;

fn at_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (content_type, coding, body) = input;
    for content_type in [content_type, "multipart/form-data; boundary=XYZ"] {
        if multipart::is_form(content_type.as_bytes())
            && let Ok(scanned) = multipart::scan(body, content_type.as_bytes())
        {
            let edits = scanned.edits(body, "").expect("edits of one scan overlap");
            assert_eq!(edits.apply(body).len(), edits.len_after(body.len()));
            assert!(edits.len_after(body.len()) <= body.len());
        }
    }
    for coding in [coding, "gzip", "zstd", "br", "zstd, gzip"] {
        if let Ok(codings) = Codings::parse(coding.as_bytes())
            && let Poll::Ready(Ok(plain)) = at_once(codings.decode(body, LIMIT, async || {}))
        {
            assert!(plain.len() <= LIMIT || codings.is_identity());
        }
    }
});
