use super::*;
use proptest::prelude::*;

pub(crate) fn sample() -> Contents {
    let mut contents = Contents::new([7; 32]);
    let stored = StoredKey {
        id: "1".into(),
        sealed: vec![1, 2, 3],
        last4: "abcd".into(),
        created_at: 5,
    };
    contents
        .provider_keys
        .insert(("default".into(), "openai".into()), vec![stored]);
    for number in 0..3u8 {
        let token = TokenEntry {
            digest: [number; 32],
            last4: Last4::of("wxyz"),
            valid_until: None,
        };
        let grant = Grant {
            account: "default".into(),
            models: vec!["openai/*".into()],
            limits: Limits {
                requests_per_minute: Some(1),
                tokens_per_minute: None,
                concurrent: Some(2),
                token_budget: Some((9, Period::Month)),
            },
            manage_keys: number == 0,
        };
        contents.keys.push(Arc::new(KeyRecord {
            id: format!("k{number}").into(),
            name: "näme".into(),
            vault: format!("v{number}").into(),
            vault_key: [number; 32],
            created_at: 1_700_000_000,
            expires_at: (number == 1).then_some(9),
            state: if number == 2 {
                KeyState::Revoked
            } else {
                KeyState::Active
            },
            tokens: Tokens::from_iter([token]),
            grant: Arc::new(grant),
        }));
    }
    contents
}

#[test]
fn what_is_written_is_read() {
    let contents = sample();
    assert_eq!(Contents::decode(&contents.encode()), Ok(contents));
}

#[test]
fn a_tokens_end_that_is_longer_than_it_should_be_is_cut() {
    let bytes = sample().encode();
    let at = bytes.windows(6).position(|end| end == b"\x04\0wxyz");
    let mut longer = bytes.to_vec();
    longer.splice(at.unwrap()..at.unwrap() + 2, *b"\x07\0abc");
    assert_eq!(Contents::decode(&longer), Ok(sample()));
}

#[test]
fn every_cut_and_every_surplus_is_refused() {
    let bytes = sample().encode();
    for end in 0..bytes.len() {
        assert!(Contents::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert_eq!(
        Contents::decode(&[&bytes[..], &[0]].concat()),
        Err(ContentsError::Length)
    );
}

#[test]
fn duplicates_are_refused() {
    let mut twice = sample();
    Arc::make_mut(&mut twice.keys[1]).tokens[0].digest = [0; 32];
    assert_eq!(
        Contents::decode(&twice.encode()),
        Err(ContentsError::Duplicate)
    );
    let mut twice = sample();
    Arc::make_mut(&mut twice.keys[1]).id = "k0".into();
    assert_eq!(
        Contents::decode(&twice.encode()),
        Err(ContentsError::Duplicate)
    );
}

proptest! {
    #[test]
    fn no_bytes_break_it(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), flip in 0usize..3000) {
        let _ = Contents::decode(&bytes);
        bytes.splice(0..0, ENCODING.to_le_bytes());
        let _ = Contents::decode(&bytes);
        let mut good = sample().encode().to_vec();
        let at = flip / 8 % good.len();
        good[at] ^= 1 << (flip % 8);
        let _ = Contents::decode(&good);
    }
}
