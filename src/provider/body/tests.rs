use super::*;

fn sent(body: &str, dialect: Dialect, prefix: &str) -> String {
    let found = scan(body.as_bytes(), dialect).unwrap_or_else(|e| panic!("{body}: {e:?}"));
    let splices = found.edits(body.as_bytes(), prefix).unwrap();
    String::from_utf8(splices.apply(body.as_bytes())).unwrap()
}

/// Cut on OpenAI's paths, with no prefix.
fn cut(body: &str) -> String {
    sent(body, Dialect::OpenAi, "")
}

#[test]
fn router_members_go_with_one_comma_wherever_they_stand() {
    for (body, expected) in [
        (r#"{"memory":1}"#, r#"{}"#),
        (r#"{ "memory" : {"x":[1,2]} }"#, r#"{  }"#),
        (r#"{"memory":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":2,"memory":1}"#, r#"{"a":2}"#),
        (r#"{"a":2, "memory":1 , "b":3}"#, r#"{"a":2 , "b":3}"#),
        (r#"{ "memory": 1, "b": 3 }"#, r#"{ "b": 3 }"#),
        (r#"{"memory":1,"session_id":"s"}"#, r#"{}"#),
        (r#"{"memory":1,"session_id":"s","a":0}"#, r#"{"a":0}"#),
        (r#"{"a":0,"memory":1,"session_id":"s"}"#, r#"{"a":0}"#),
        (
            r#"{"memory":1,"a":0,"memory":2,"memory_limit":3,"b":1,"memory":9}"#,
            r#"{"a":0,"b":1}"#,
        ),
        ("{\n  \"memory\": 1,\n  \"a\": 2\n}", "{\n  \"a\": 2\n}"),
        ("{\n  \"a\": 2,\n  \"memory\": 1\n}", "{\n  \"a\": 2\n}"),
    ] {
        assert_eq!(cut(body), expected, "{body}");
    }
}
