//! The operator's port against careless scripts.

use crate::support::operator::{ask, good};
use crate::support::{Provider, Router};

fn router() -> (Provider, Router) {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    (provider, router)
}

/// The id of the router's only key.
fn key_of(router: &Router) -> String {
    let keys = good(ask(router, "GET", "/admin/v1/keys", ""), 200);
    keys["keys"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_selector_that_is_empty_deletes_nothing() {
    let (_provider, router) = router();
    let root = format!("/admin/v1/keys/{}/memories", key_of(&router));
    let lines = "{\"content\":\"one\"}\n{\"content\":\"two\",\"session_id\":\"s\"}\n";
    assert_eq!(
        ask(&router, "POST", &format!("{root}/import"), lines).status,
        200
    );
    let providers = "/admin/v1/accounts/default/providers/openai";
    let stored = ask(
        &router,
        "POST",
        providers,
        r#"{"key":"sk-more-0123456789"}"#,
    );
    assert_eq!(stored.status, 201);
    for (target, status) in [
        (format!("{root}?session="), 400),
        (format!("{root}?session"), 400),
        (format!("{root}?session=no%20such"), 400),
        (format!("{root}?session={}", "x".repeat(129)), 400),
        (format!("{root}?session=s&session=t"), 400),
        (format!("{root}?sesion=s"), 400),
        (format!("{root}/"), 404),
        (format!("{root}//"), 404),
        (format!("{providers}/"), 404),
        (format!("/admin/v1/keys/{}/", key_of(&router)), 404),
    ] {
        let reply = ask(&router, "DELETE", &target, "");
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
    }
    let import = format!("{root}/import?session=");
    assert_eq!(ask(&router, "POST", &import, lines).status, 400);
    let kept = good(ask(&router, "GET", &format!("{root}/?session="), ""), 200);
    assert_eq!(kept["stats"]["memories"], 2);
    let kept = good(
        ask(&router, "GET", "/admin/v1/accounts/default/providers", ""),
        200,
    );
    let openai = kept["providers"].as_array().unwrap().iter();
    let openai = openai.clone().find(|row| row["provider"] == "openai");
    assert_eq!(openai.unwrap()["keys"].as_array().unwrap().len(), 2);
    let one = good(
        ask(&router, "DELETE", &format!("{root}?session=s"), ""),
        200,
    );
    assert_eq!(one["deleted"], 1);
}
