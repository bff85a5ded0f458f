//! What a key may give to those that it makes, and how limits change.

use std::sync::Arc;

use super::super::contents::tests::sample;
use super::super::models::tests::names;
use super::*;

fn granted(minter: &KeyRecord, wish: &str) -> Result<NewKey, String> {
    let wish: KeyWish = sonic_rs::from_str(wish).map_err(|error| error.to_string())?;
    wish.granted(minter, &names(), 1_000)
}

#[test]
fn a_change_of_limits_changes_what_it_names() {
    let before = Limits {
        requests_per_minute: Some(10),
        token_budget: Some((100, Period::Day)),
        ..Limits::default()
    };
    let after = |patch: &str| {
        let patch: LimitsPatch = sonic_rs::from_str(patch).map_err(|error| error.to_string())?;
        patch.applied_to(&before)
    };
    let more = Limits {
        tokens_per_minute: Some(u64::MAX),
        ..before
    };
    let budget = |budget| Limits {
        token_budget: budget,
        ..before
    };
    for (patch, expected) in [
        ("{}", before),
        (r#"{"tpm":18446744073709551615}"#, more),
        (
            r#"{"rpm":null}"#,
            Limits {
                requests_per_minute: None,
                ..before
            },
        ),
        (r#"{"budget_tokens":5}"#, budget(Some((5, Period::Day)))),
        (
            r#"{"budget_period":"month"}"#,
            budget(Some((100, Period::Month))),
        ),
        (r#"{"budget_tokens":null}"#, budget(None)),
        (
            r#"{"budget_tokens":null,"budget_period":null}"#,
            budget(None),
        ),
    ] {
        assert_eq!(after(patch), Ok(expected), "{patch}");
    }
    for wrong in [
        r#"{"rpm":0}"#,
        r#"{"budget_period":null}"#,
        r#"{"budget_tokens":null,"budget_period":"day"}"#,
        r#"{"rpm":"9"}"#,
        r#"{"rmp":9}"#,
    ] {
        assert!(after(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_key_can_give_what_it_has_and_no_more() {
    let mut minter = (*sample().keys[0]).clone();
    let grant = Arc::make_mut(&mut minter.grant);
    grant.limits = Limits {
        requests_per_minute: Some(10),
        token_budget: Some((100, Period::Day)),
        ..Limits::default()
    };
    grant.models = vec!["openai/*".into(), "gpt-4*".into()];
    minter.expires_at = Some(5_000);
    let plain = granted(&minter, "{}").unwrap();
    assert_eq!(
        (plain.limits, &plain.models, plain.expires_at),
        (minter.grant.limits, &minter.grant.models, Some(5_000))
    );
    assert_eq!(
        (plain.account.as_str(), plain.manage_keys),
        ("default", false)
    );
    let less = r#"{"name":"n","limits":{"rpm":5,"tpm":7,"budget_tokens":50,"budget_period":"day"},
        "models":["openai/gpt-*","gpt-4","groq/gpt-4o*"],"expires_in_s":60,"manage_keys":true}"#;
    let less = granted(&minter, less).unwrap();
    assert_eq!(less.limits.requests_per_minute, Some(5));
    assert_eq!(
        (less.limits.tokens_per_minute, less.expires_at),
        (Some(7), Some(1_060))
    );
    assert!(less.manage_keys);
    for (wish, word) in [
        (r#"{"limits":{"rpm":11}}"#, "rpm"),
        (r#"{"limits":{"rpm":0}}"#, "at least 1"),
        (
            r#"{"limits":{"budget_tokens":101,"budget_period":"day"}}"#,
            "budget",
        ),
        (
            r#"{"limits":{"budget_tokens":10,"budget_period":"month"}}"#,
            "budget",
        ),
        (r#"{"limits":{"budget_tokens":10}}"#, "together"),
        (r#"{"models":["claude*"]}"#, "models"),
        (r#"{"models":["gpt-*"]}"#, "models"),
        (r#"{"models":["*"]}"#, "models"),
        (r#"{"models":["*/gpt-*"]}"#, "models"),
        (r#"{"models":[" "]}"#, "models"),
        (r#"{"account":"other"}"#, "account"),
        (r#"{"token":"mk_mine"}"#, "token"),
    ] {
        let error = granted(&minter, wish).err().unwrap();
        assert!(error.contains(word), "{wish}: {error}");
    }
    Arc::make_mut(&mut minter.grant).manage_keys = false;
    assert!(granted(&minter, r#"{"manage_keys":true}"#).is_err());
}
