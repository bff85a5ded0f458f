use super::*;

/// The message, and the lengths of its sends, the caller's own bytes marked.
fn laid_out(body: &[u8], splices: &Splices) -> (Vec<u8>, Vec<(bool, usize)>) {
    let buffer = [b"HEAD", body].concat();
    let (mut message, rest) = lay_out(b"head ".to_vec(), splices, body, 4);
    let mut sends = vec![(false, message.len())];
    for part in rest {
        let (as_it_lies, bytes) = match part {
            Part::Own(own) => (false, own),
            Part::Body(range) => (true, buffer[range].to_vec()),
        };
        sends.push((as_it_lies, bytes.len()));
        message.extend(bytes);
    }
    (message, sends)
}

#[test]
fn small_pieces_are_sent_together() {
    let small = "aba".repeat(1000);
    let large = "x".repeat(ASSEMBLED_BYTES_MAX + 1);
    // Every `a` goes.
    for (body, sends) in [
        (small.clone(), vec![(false, 1005)]),
        (
            [&*large, &small].concat(),
            vec![(false, 5), (true, large.len()), (false, 1000)],
        ),
        (
            [&*small, &large, "a", &small, &large].concat(),
            vec![
                (false, 1005),
                (true, large.len()),
                (false, 1000),
                (true, large.len()),
            ],
        ),
        (
            small.repeat(50),
            vec![
                (false, 5 + 2 * ASSEMBLED_BYTES_MAX),
                (false, 50_000 - 2 * ASSEMBLED_BYTES_MAX),
            ],
        ),
    ] {
        let mut splices = Splices::new();
        for (at, _) in body.match_indices('a') {
            splices.remove(at..at + 1).unwrap();
        }
        let (message, found) = laid_out(body.as_bytes(), &splices);
        assert_eq!(found, sends);
        assert!(message == format!("head {}", body.replace('a', "")).into_bytes());
    }
    let mut block = Splices::new();
    block.insert(large.len() - 3, *b"block").unwrap();
    let (_, sends) = laid_out(large.as_bytes(), &block);
    assert_eq!(sends, [(false, 5 + large.len() + 5)]);
}
