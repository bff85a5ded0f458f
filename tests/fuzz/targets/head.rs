//! Heads: no input panics, a head has one reading whatever the pieces it comes in, and a body has one length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memoryrouter::http::head::{self, HeadError};
use memoryrouter::http::{Framing, HeadLimits, Method};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    fields_max: 64,
    target_bytes_max: 1024,
};

fuzz_target!(|input: (Vec<u8>, u16)| {
    let (bytes, split) = input;
    let at = usize::from(split) % (bytes.len() + 1);
    let whole = head::request(&bytes, &mut 0, &LIMITS);
    let mut scanned = 0;
    let first = head::request(&bytes[..at], &mut scanned, &LIMITS);
    let second = match &first {
        Ok(None) => Some(head::request(&bytes, &mut scanned, &LIMITS)),
        _ => None,
    };
    match (&whole, &first, &second) {
        (Ok(Some(whole)), Ok(Some(first)), _) => assert_eq!(whole.end, first.end),
        (Ok(Some(whole)), Ok(None), Some(Ok(Some(second)))) => assert_eq!(whole.end, second.end),
        (Ok(Some(_)), _, _) => panic!("one reading whole, another in pieces"),
        (Err(_), Ok(Some(_)), _) | (Err(_), _, Some(Ok(Some(_)))) => {
            panic!("refused whole, taken in pieces")
        }
        _ => {}
    }
    if let Ok(Some(head)) = &whole {
        assert!(head.end <= bytes.len() && head.end <= LIMITS.head_bytes_max + 2);
        assert!(bytes[..head.end].ends_with(b"\r\n\r\n"));
        if let Ok(framing) = Framing::of_request(head, &bytes) {
            assert_ne!(framing, Framing::UntilClose);
        }
        for field in &head.fields {
            assert!(
                !field
                    .value(&bytes)
                    .iter()
                    .any(|byte| matches!(byte, b'\r' | b'\n' | 0))
            );
        }
    }
    if let Err(HeadError::TooLarge) = whole {
        assert!(bytes.len() > LIMITS.head_bytes_max);
    }
    if let Ok(Some(head)) = head::response(&bytes, &mut 0, &LIMITS) {
        assert!((100..1000).contains(&head.line.status));
        let _ = Framing::of_response(&head, &bytes, Method::Post);
    }
});
