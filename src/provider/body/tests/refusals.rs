//! What is no body of ours, and how deep one may be.

use super::*;

#[test]
fn what_is_no_json_object_is_refused() {
    for body in [
        "",
        " ",
        "null",
        "[]",
        "\"model\"",
        "1",
        "{",
        "{}x",
        "{}{}",
        "{} ,",
        "\u{feff}{}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":\"\n\"}",
        "{\"messages\":[{\"a\":1,}]}",
        "{\"messages\":[{},]}",
        "{\"messages\":[{\"a\" 1}]}",
        "{\"messages\":[{}",
        "{\"messages\":[1 2]}",
        "{\"memory\":}",
        "{\"model\":\"\\x\"}",
        "{\"a\":tru}",
        "{\"a\":1 \"b\":2}",
        "{\"messages\":[{\"a\":1]}",
        "{\"messages\":[",
        "{\"contents\":[{\"a\"",
    ] {
        for dialect in DIALECTS {
            let refused = scan(body.as_bytes(), dialect);
            assert_eq!(refused, Err(BodyError::InvalidJson), "{body}");
        }
    }
    for body in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{\"a\":\"\xc3\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"\xff{}",
        b"{}\xc3",
    ] {
        assert_eq!(scan(body, Dialect::OpenAi), Err(BodyError::InvalidJson));
    }
}

#[test]
fn depth_counts_from_the_top_in_every_place() {
    let arrays = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for (open, around) in [
        ("{\"x\":#}", 1),
        ("{\"messages\":[#]}", 2),
        ("{\"messages\":[{\"x\":#}]}", 3),
        ("{\"requests\":[{\"x\":#}]}", 3),
        ("{\"generateContentRequest\":{\"x\":#}}", 2),
    ] {
        for dialect in DIALECTS {
            let nested = |depth: usize| open.replace('#', &arrays(depth - around));
            assert!(scan(nested(128).as_bytes(), dialect).is_ok(), "{open}");
            assert!(scan(nested(129).as_bytes(), dialect).is_err(), "{open}");
        }
    }
    for bomb in [
        "[",
        "{\"a\":",
        "{\"messages\":[",
        "{\"generateContentRequest\":",
    ] {
        let body = bomb.repeat((8 << 20) / bomb.len());
        assert!(scan(body.as_bytes(), Dialect::Gemini).is_err());
    }
}

#[test]
fn so_many_models_and_no_more() {
    for (dialect, before, each, behind) in [
        (Dialect::OpenAi, "{\"models\":[", "\"\"", "]}"),
        (Dialect::OpenAi, "{", "\"model\":\"a\"", "}"),
        (Dialect::OpenAi, "{", "\"MODEL\":\"a\"", "}"),
        (
            Dialect::Gemini,
            "{\"requests\":[",
            "{\"model\":\"models/a\"}",
            "]}",
        ),
    ] {
        for (count, taken) in [(MODELS_MAX, true), (MODELS_MAX + 1, false), (50_000, false)] {
            let body = [before, &vec![each; count].join(","), behind].concat();
            match scan(body.as_bytes(), dialect) {
                Ok(found) => {
                    let repeats = found.model_repeats.len() + found.models_besides.len();
                    let stated = repeats + usize::from(found.model.is_some());
                    assert!(taken && stated == count, "{each} {count}");
                }
                Err(error) => {
                    assert!(
                        !taken && error == BodyError::TooManyModels,
                        "{each} {count}"
                    );
                }
            }
        }
    }
}
