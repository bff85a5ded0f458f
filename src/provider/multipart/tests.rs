use proptest::prelude::*;

use super::*;

const TYPE: &[u8] = b"multipart/form-data; boundary=XX";

/// Parts as (head, value), with boundary `XX`.
fn form(parts: &[(&str, &str)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(head, value)| format!("--XX\r\n{head}\r\n\r\n{value}\r\n"))
        .collect();
    parts + "--XX--\r\n"
}

fn field(name: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{name}\"")
}

fn models(body: &str) -> (Option<String>, Vec<String>) {
    let found = scan(body.as_bytes(), TYPE).unwrap();
    let text = |model: Text| model.decode(body.as_bytes()).into_owned();
    (
        found.model.map(text),
        found.model_repeats.into_iter().map(text).collect(),
    )
}

fn sent(body: &str, prefix: &str) -> String {
    let splices = scan(body.as_bytes(), TYPE)
        .unwrap()
        .edits(body.as_bytes(), prefix)
        .unwrap();
    String::from_utf8(splices.apply(body.as_bytes())).unwrap()
}

#[test]
fn the_model_part_is_found_whatever_stands_around_it() {
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a \\\"model\\\" b.wav\"\r\nContent-Type: audio/wav";
    for head in [
        field("model"),
        "content-disposition:form-data;name=model".to_owned(),
        "Content-Disposition: form-data; name = \"model\" ; filename=\"model.txt\"".to_owned(),
        "Content-Type: text/plain\r\nCONTENT-DISPOSITION: Form-Data; filename=\"name=x; y\"; NAME=\"mo\\del\"".replace("\\", ""),
    ] {
        let body = form(&[(file, "RIFF\r\n--X\r\n--XY\r\n\r\n"), (&head, "whisper-1"), (&field("prompt"), "model")]);
        assert_eq!(models(&body), (Some("whisper-1".to_owned()), vec![]), "{head}");
    }
    for body in [
        form(&[(&field("models"), "x")]),
        form(&[(file, "x")]),
        form(&[]),
        "--XX--".to_owned(),
    ] {
        assert_eq!(models(&body), (None, vec![]));
    }
    let twice = form(&[(&field("model"), "a"), (&field("model"), "b")]);
    assert_eq!(models(&twice), (Some("b".to_owned()), vec!["a".to_owned()]));
    assert_eq!(
        models(&form(&[(&field("model"), "")])),
        (Some(String::new()), vec![])
    );
}

#[test]
fn delimiters_may_have_company() {
    let model = field("model");
    let part = format!("{model}\r\n\r\nx\r\n");
    for body in [
        format!("preamble --XX\r\n--XX\r\n{part}--XX--epilogue\r\n--XX\r\n"),
        format!("\r\n--XX \t\r\n{part}--XX-- "),
        format!("--XXX\r\n\r\n--XX\r\n{part}--XX--"),
        format!(
            "--XX\r\n{model}\r\n\r\nx\r\n--XX\r\nContent-Disposition: form-data; name=y\r\n\r\n\r\n--XX--"
        ),
    ] {
        assert_eq!(models(&body).0.as_deref(), Some("x"), "{body}");
    }
    let longer = format!("--XX\r\n{model}\r\n\r\nx\r\n--XXY\r\n--XX");
    let body = longer.clone() + "--";
    assert_eq!(models(&body).0.as_deref(), Some("x\r\n--XXY"), "{body}");
    assert_eq!(scan(longer.as_bytes(), TYPE), Err(BodyError::InvalidForm));
}

#[test]
fn boundaries_are_read_from_the_content_type() {
    for (content_type, boundary) in [
        ("multipart/form-data; boundary=abc", "abc"),
        (
            "Multipart/Form-Data;charset=utf-8; Boundary=\"a b:c\"",
            "a b:c",
        ),
        ("multipart/form-data; boundary=\"a\\\"b\" ; x=y", "a\"b"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
        ("multipart/form-data;; x ; boundary=abc", "abc"),
    ] {
        assert!(is_form(content_type.as_bytes()));
        let body = form(&[(&field("model"), "m")]).replace("--XX", &format!("--{boundary}"));
        let found = scan(body.as_bytes(), content_type.as_bytes());
        assert!(
            found.is_ok_and(|found| found.model.is_some()),
            "{content_type}"
        );
    }
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"XX",
        "multipart/form-data; boundary=XX; boundary=YY",
        "multipart/form-data; boundary=XX; boundary=XX",
        "multipart/form-data; boundary=\"XX\"x",
        long.as_str(),
    ] {
        let body = form(&[(&field("model"), "m")]);
        let refused = scan(body.as_bytes(), content_type.as_bytes());
        assert_eq!(refused, Err(BodyError::InvalidForm), "{content_type}");
    }
    for other in [
        "",
        "application/json",
        "multipart/mixed; boundary=x",
        "multipart/form-datax; boundary=x",
    ] {
        assert!(!is_form(other.as_bytes()), "{other}");
    }
}

#[test]
fn router_parts_go_whole_and_prefixes_come_off() {
    let (model, memory, session, other) = (
        field("model"),
        field("memory"),
        field("session_id"),
        field("x"),
    );
    let all = form(&[
        (&memory, "off"),
        (&model, "openai/a"),
        (&session, "s"),
        (&other, "openai/"),
        (&memory, "on"),
    ]);
    assert_eq!(
        sent(&all, "openai/"),
        form(&[(&model, "a"), (&other, "openai/")])
    );
    assert_eq!(
        sent(&all, ""),
        form(&[(&model, "openai/a"), (&other, "openai/")])
    );
    assert_eq!(sent(&form(&[(&memory, "off")]), ""), "--XX--\r\n");
    let around = format!(
        "before\r\n{}after",
        form(&[(&memory, "off"), (&session, "")])
    );
    assert_eq!(sent(&around, ""), "before\r\n--XX--\r\nafter");
    let plain = form(&[(&model, "a"), (&other, "b")]);
    assert!(
        scan(plain.as_bytes(), TYPE)
            .unwrap()
            .edits(plain.as_bytes(), "openai/")
            .unwrap()
            .is_empty()
    );

    let settings = scan(all.as_bytes(), TYPE).unwrap().settings;
    assert_eq!(
        settings.get(RouterField::Memory),
        Some(&Setting::Value("on".to_owned()))
    );
    assert_eq!(
        settings.get(RouterField::SessionId),
        Some(&Setting::Value("s".to_owned()))
    );
    let long = form(&[(&session, &"s".repeat(257))]);
    let settings = scan(long.as_bytes(), TYPE).unwrap().settings;
    assert_eq!(
        settings.get(RouterField::SessionId),
        Some(&Setting::Unusable)
    );
}

#[test]
fn streams_are_asked_for_in_a_part() {
    for (value, expected) in [
        ("true", Some(true)),
        ("True", Some(true)),
        ("false", None),
        ("", None),
    ] {
        let body = form(&[(&field("stream"), value)]);
        assert_eq!(scan(body.as_bytes(), TYPE).unwrap().stream, expected);
    }
}

#[test]
fn what_parsers_could_split_differently_is_refused() {
    let model = field("model");
    let whole = form(&[(&model, "m"), (&field("file"), "data")]);
    for body in [
        String::new(),
        "x".to_owned(),
        "--XX".to_owned(),
        "--XX\r\n".to_owned(),
        "--XX\r\n--XX--".to_owned(),
        whole.replace("\r\n", "\n"),
        whole.replace("--XX--", "--XX"),
        whole.replace("--XX--\r\n", ""),
        form(&[("", "x")]),
        form(&[("Content-Type: text/plain", "x")]),
        form(&[("Content-Disposition: form-data", "x")]),
        form(&[("Content-Disposition: form-data; name=\"model", "x")]),
        form(&[("Content-Disposition: form-data; name=a; name=model", "x")]),
        form(&[("Content-Disposition: form-data; name=\"a\" model", "x")]),
        form(&[(&format!("{model}\r\n{model}"), "x")]),
        form(&[(&format!("{model}\r\nno colon"), "x")]),
        form(&[(
            &format!("X: {}\r\n{model}", "x".repeat(PART_HEAD_BYTES_MAX)),
            "x",
        )]),
        "--XX\r\n".to_owned() + &model,
        form(&vec![(model.as_str(), "m"); PARTS_MAX + 1]),
    ] {
        let refused = scan(body.as_bytes(), TYPE);
        assert_eq!(
            refused,
            Err(BodyError::InvalidForm),
            "{}",
            &body[..body.len().min(200)]
        );
    }
    let binary = b"--XX\r\nContent-Disposition: form-data; name=model\r\n\r\n\xff\r\n--XX--";
    assert_eq!(scan(binary, TYPE), Err(BodyError::InvalidForm));
    assert!(
        scan(
            form(&vec![(model.as_str(), "m"); PARTS_MAX]).as_bytes(),
            TYPE
        )
        .is_ok()
    );
}

#[test]
fn binary_files_pass() {
    let mut body =
        b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\xff.wav\"\r\n\r\n"
            .to_vec();
    body.extend((0..=255u8).cycle().take(1 << 20));
    body.extend(b"\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--XX--\r\n");
    let found = scan(&body, TYPE).unwrap();
    assert_eq!(found.model.unwrap().decode(&body), "whisper-1");
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        pieces in proptest::collection::vec(prop_oneof![
            Just("--XX"), Just("--XX--"), Just("\r\n"), Just("\r\n\r\n"), Just("\r\n--XX\r\n"), Just("--"), Just(" "),
            Just("Content-Disposition: form-data; name=\"model\""), Just("Content-Disposition:"), Just(";"), Just("\""),
            Just("name=memory"), Just("x"), Just("\\"), Just("="), Just(":"),
        ], 0..20),
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let text = pieces.concat();
        for body in [text.as_bytes(), &bytes] {
            if let Ok(found) = scan(body, TYPE) {
                let splices = found.edits(body, "x").unwrap();
                // What is left is a form again, without router parts.
                let again = scan(&splices.apply(body), TYPE);
                prop_assert!(again.is_ok_and(|again| again.cuts.is_empty()));
            }
            let _ = scan(b"--x--", body);
            let _ = scan(b"--x--", &[b"multipart/form-data;", body].concat());
        }
    }
}
