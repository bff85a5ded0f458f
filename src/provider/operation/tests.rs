use super::*;

fn read(path: &str) -> Option<Operation<'_>> {
    Operation::gemini("/v1beta", path)
}

#[test]
fn models_are_decoded_and_found_in_place() {
    for (path, raw, name) in [
        (
            "/models/gemini-pro:generateContent",
            "gemini-pro",
            "gemini-pro",
        ),
        (
            "/models/gemini-pro%3AgenerateContent",
            "gemini-pro",
            "gemini-pro",
        ),
        (
            "/models/gemini-pro%3agenerateContent",
            "gemini-pro",
            "gemini-pro",
        ),
        (
            "/models%2Fgemini-pro:generateContent",
            "gemini-pro",
            "gemini-pro",
        ),
        (
            "/models%2fgemini-pro%3agenerateContent",
            "gemini-pro",
            "gemini-pro",
        ),
        (
            "/models/demo/echo:generateContent",
            "demo/echo",
            "demo/echo",
        ),
        (
            "/models/demo%2Fecho:generateContent",
            "demo%2Fecho",
            "demo/echo",
        ),
        (
            "/models/ollama/llama3:8b:generateContent",
            "ollama/llama3:8b",
            "ollama/llama3:8b",
        ),
        (
            "/models/ollama/llama3%3A8b:generateContent",
            "ollama/llama3%3A8b",
            "ollama/llama3:8b",
        ),
        (
            "/models/a.b_c~d@e+f-1:generateContent",
            "a.b_c~d@e+f-1",
            "a.b_c~d@e+f-1",
        ),
    ] {
        let operation = read(path).unwrap();
        let model = operation.model.unwrap();
        assert_eq!(&path[model.range], raw);
        assert_eq!(model.name, name);
    }
}

#[test]
fn a_prefix_comes_off_and_the_rest_stays_as_written() {
    for (path, prefix, expected) in [
        (
            "/models/demo/echo:generateContent",
            "demo/",
            "/models/echo:generateContent",
        ),
        (
            "/models/demo%2Fecho:generateContent",
            "demo/",
            "/models/echo:generateContent",
        ),
        (
            "/models/%64emo%2fe%63ho%3AgenerateContent",
            "demo/",
            "/models/e%63ho%3AgenerateContent",
        ),
        (
            "/models%2Fdemo%2Fecho:generateContent",
            "demo/",
            "/models%2Fecho:generateContent",
        ),
        (
            "/models/demo/a/b:generateContent",
            "demo/",
            "/models/a/b:generateContent",
        ),
        (
            "/models/echo:generateContent",
            "demo/",
            "/models/echo:generateContent",
        ),
        (
            "/models/e%63ho:generateContent",
            "",
            "/models/e%63ho:generateContent",
        ),
    ] {
        assert_eq!(read(path).unwrap().path_without(prefix), expected);
    }
}

#[test]
fn forms_are_taken_where_files_are_sent() {
    assert!(Task::Audio.takes_form() && Task::Images.takes_form());
    assert!(!Task::ChatCompletions.takes_form() && !Task::Responses.takes_form());
}
