use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// Skips a whole document, white space behind it included.
fn accepts(document: &str) -> bool {
    let bytes = document.as_bytes();
    skip_value(bytes, 0, 0).is_ok_and(|end| skip_space(bytes, end) == bytes.len())
}

#[test]
fn takes_every_form_of_value() {
    for document in [
        "0",
        "-0",
        "10",
        "-1.5",
        "1e9",
        "1E+9",
        "1.25e-300",
        "1e99999",
        "123456789012345678901234567890",
        "true",
        "false",
        "null",
        "\"\"",
        "\"é漢😀\"",
        r#""\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00""#,
        r#""\ud800""#,
        "[]",
        "{}",
        "[ ]",
        "{ }",
        " [ 1 , [ ] , { } , \"x\" ]\r\n\t ",
        "{\"a\":1,\"a\":{\"b\":[{}]}}",
        "\"\u{7f}\"",
    ] {
        assert!(accepts(document), "{document}");
    }
}

#[test]
fn refuses_everything_else() {
    for document in [
        "",
        " ",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "True",
        "tru",
        "nul",
        "truee",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u+123\"",
        "\"\\U1234\"",
        "\"\n\"",
        "\"\t\"",
        "\"\u{1f}\"",
        "\"a\u{0}\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "}",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1]",
        "{\"a\",1}",
        "1 2",
        "{} {}",
        "[] //",
        "/**/1",
        "\u{feff}1",
        "\u{a0}1",
        "\u{c}1",
        "[1\u{0}]",
        "'a'",
        "undefined",
    ] {
        assert!(!accepts(document), "{document}");
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(accepts(&nested(128)));
    assert!(!accepts(&nested(129)));
    assert!(!accepts(&"[".repeat(64 << 20)));
    assert!(!accepts(&"{\"a\":".repeat(1 << 20)));
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    assert!(accepts(&objects(128)));
    assert!(!accepts(&objects(129)));
    let full = nested(100);
    assert!(skip_value(full.as_bytes(), 0, 28).is_ok());
    assert!(skip_value(full.as_bytes(), 0, 29).is_err());
    assert!(skip_value(b"[]", 0, 1000).is_err());
    // Depth is how deep, not how many.
    assert!(accepts(&format!("[{}[]]", "[[]],".repeat(10_000))));
}

#[test]
fn strings_end_at_every_offset_of_a_word() {
    for before in 0..20 {
        for (middle, closed, has_escapes) in [
            ("", true, false),
            ("\\\"", true, true),
            ("\\\\", true, true),
            ("\\u0041", true, true),
            ("é漢😀", true, false),
            ("\u{80}\u{ff}\u{7ff}\u{10ffff}", true, false),
            ("\u{1f}", false, false),
            ("\u{0}", false, false),
            ("\n", false, false),
            ("\\", false, false),
            ("\\q", false, false),
            ("\\u004", false, false),
        ] {
            for behind in 0..10 {
                let text = format!(
                    "{}{middle}{}\" tail",
                    "x".repeat(before),
                    "y".repeat(behind)
                );
                let skipped = skip_string(text.as_bytes(), 0);
                // A backslash before the closing quote takes it for itself; so does a digit short of four.
                let expected = (closed).then_some((text.len() - 5, has_escapes));
                if middle == "\\" || middle == "\\u004" {
                    assert!(skipped.is_err(), "{text}");
                } else {
                    assert_eq!(skipped.ok(), expected, "{text}");
                }
            }
        }
    }
}

#[test]
fn escapes_at_every_place_of_a_block_are_decoded() {
    let escapes = [
        r"\n",
        r"\\",
        r"\\\\",
        r"\u00e9",
        r"\ud83d\ude00",
        r"\n\u0041\t",
        r#"\"\/\b\f\r"#,
        r"\udead",
    ];
    for before in 0..140 {
        for escape in escapes {
            for between in [0, 1, 40, 63] {
                let gap = "é".repeat(between / 2) + &"x".repeat(between % 2);
                let raw = "a".repeat(before) + &[escape, escape, ""].join(&gap) + &"z".repeat(130);
                let quoted = format!("\"{raw}\"");
                let expected = match escape {
                    // The other parser takes no half of a pair.
                    r"\udead" => raw.replace(escape, "\u{fffd}"),
                    _ => serde_json::from_str(&quoted).unwrap(),
                };
                assert_eq!(decode(raw.as_bytes(), true), expected, "{raw}");
            }
        }
    }
}

#[test]
fn escapes_are_decoded_and_measured() {
    let raw = br"a\/b\u00e9\uD83D\uDE00\ud800x\udc00\n\uD83D\u0041";
    assert_eq!(decode(raw, true), "a/bé😀\u{fffd}x\u{fffd}\n\u{fffd}A");
    for (text_len, raw_len) in [
        (0, 0),
        (1, 1),
        (2, 3),
        (3, 4),
        (4, 10),
        (5, 10),
        (6, 22),
        (9, 22),
        (12, 28),
    ] {
        assert_eq!(
            raw_len_of_prefix(raw, true, text_len),
            raw_len,
            "{text_len}"
        );
    }
    assert_eq!(raw_len_of_prefix(raw, true, 1000), raw.len());
    assert_eq!(raw_len_of_prefix("é/x".as_bytes(), false, 3), 3);
    assert_eq!(raw_len_of_prefix(b"x", false, 3), 1);
    assert_eq!(decode("é漢😀".as_bytes(), true), "é漢😀");
    // Not strings at all, but nothing panics on them.
    for broken in [
        &b"\\"[..],
        b"\\u",
        b"\\u12",
        b"\xe9",
        b"\xf0\x9f",
        b"\\uD83D\\u",
    ] {
        decode(broken, true);
        raw_len_of_prefix(broken, true, 10);
    }
}

/// Text that is JSON, or nearly.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[\\[\\]{},:]",
        "[ \n\r\t]{0,3}",
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?",
        "\"([a-z é漢😀]|\\\\[\"\\\\/bfnrtu]|\\\\u[0-9a-fA-F]{4})*\"",
        "(true|false|null|\"a\":)",
        "[-+.0-9eE\"\\\\a-z\u{0}\u{1f}]",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?",
        "\"([a-z é漢😀]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4})*\"",
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let space = "[ \n\r\t]{0,2}";
        let elements = proptest::collection::vec((space, inner), 0..5);
        (elements, any::<bool>()).prop_map(|(elements, object)| {
            let name = if object { "\"n\" :" } else { "" };
            let joined: Vec<_> = elements
                .iter()
                .map(|(s, e)| format!("{s}{name}{s}{e}{s}"))
                .collect();
            let joined = joined.join(",");
            if object {
                format!("{{{joined}}}")
            } else {
                format!("[{joined}]")
            }
        })
    })
}

proptest! {
    #[test]
    fn agrees_with_another_parser(document in prop_oneof![nearly_json(), json()]) {
        let other = serde_json::from_str::<IgnoredAny>(&document).is_ok();
        prop_assert_eq!(accepts(&document), other, "{}", document);
    }

    #[test]
    fn agrees_on_damaged_documents(document in json(), at in any::<prop::sample::Index>(), byte in 0u8..128) {
        let mut bytes = document.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(document) = String::from_utf8(bytes) {
            let other = serde_json::from_str::<IgnoredAny>(&document).is_ok();
            prop_assert_eq!(accepts(&document), other, "{}", document);
        }
    }

    #[test]
    fn decodes_like_another_parser(
        text in "[a-z\"\\\\/é漢😀\n\u{1}]{0,60}|[a-z\n]{0,60}|([a-z ]{0,70}[\"\\\\\n\t\u{1}\u{8}]{1,3}){0,9}",
    ) {
        let quoted = serde_json::to_string(&text).unwrap();
        let (end, escaped) = skip_string(quoted.as_bytes(), 1).unwrap();
        prop_assert_eq!(end, quoted.len());
        let raw = &quoted.as_bytes()[1..end - 1];
        prop_assert_eq!(decode(raw, escaped), &*text);
        for (at, _) in text.char_indices() {
            let raw_len = raw_len_of_prefix(raw, escaped, at);
            prop_assert_eq!(decode(&raw[..raw_len], escaped), &text[..at]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0usize..80) {
        let _ = skip_value(&bytes, at, 0);
        let _ = skip_string(&bytes, at);
        decode(&bytes, true);
        raw_len_of_prefix(&bytes, true, at);
    }
}
