use aes_gcm_siv::aead::Payload;

use super::*;

fn master(seed: u8) -> MasterKey {
    MasterKey::new(Zeroizing::new(std::array::from_fn(|at| {
        (at as u8).wrapping_mul(7) ^ seed
    })))
    .unwrap()
}

fn sealed() -> Vec<u8> {
    let header = Header {
        key_id: [9; 8],
        generation: 5,
        created_at: 17,
        shrinks: false,
        kdf: None,
    };
    seal(&header, &master(0), [3; 12], b"some contents").unwrap()
}

fn open(bytes: &[u8], master: &MasterKey) -> Result<Vec<u8>, SealError> {
    let masters = vec![master.clone()];
    let (_, contents) = Sealed::parse(bytes.to_vec())?.open(masters)?;
    Ok(contents.to_vec())
}

#[test]
fn what_is_sealed_opens_with_its_header() {
    let bytes = sealed();
    let parsed = Sealed::parse(bytes.clone()).unwrap();
    assert_eq!(
        (
            parsed.header.generation,
            parsed.header.created_at,
            parsed.header.key_id
        ),
        (5, 17, [9; 8])
    );
    assert_eq!(open(&bytes, &master(0)), Ok(b"some contents".to_vec()));
    assert_eq!(open(&bytes, &master(1)), Err(SealError::WrongKey));
    assert!(!bytes.windows(4).any(|window| window == b"some"));
}

#[test]
fn every_flipped_bit_is_refused() {
    let good = sealed();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(open(&bad, &master(0)).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn every_cut_and_every_surplus_is_refused() {
    let good = sealed();
    for end in 0..good.len() {
        assert!(open(&good[..end], &master(0)).is_err(), "{end}");
    }
    for surplus in 0..=255 {
        assert_eq!(
            open(&[&good[..], &[surplus]].concat(), &master(0)),
            Err(SealError::Length)
        );
    }
}

#[test]
fn costs_are_checked_before_any_work() {
    let kdf = Some(KdfParams {
        memory_kib: 2 << 20,
        passes: 3,
        salt: [1; 16],
    });
    let header = Header {
        key_id: [9; 8],
        generation: 5,
        created_at: 17,
        shrinks: true,
        kdf,
    };
    let bytes = seal(&header, &master(0), [3; 12], b"x").unwrap();
    assert_eq!(Sealed::parse(bytes).err(), Some(SealError::Header));
}

#[test]
fn provider_keys_open_at_their_place_only() {
    let place = |account, provider| Place { account, provider };
    let sealed = seal_for(&place("ab", "c"), &master(0), [1; 12], b"sk-secret").unwrap();
    let open = |account, provider, seed| {
        open_for(&place(account, provider), &master(seed), &sealed).map(|key| key.to_vec())
    };
    assert_eq!(open("ab", "c", 0), Some(b"sk-secret".to_vec()));
    assert_eq!(
        (
            open("a", "bc", 0),
            open("abc", "", 0),
            open("ab", "d", 0),
            open("ab", "c", 1)
        ),
        (None, None, None, None)
    );
    for end in 0..sealed.len() {
        assert!(open_for(&place("ab", "c"), &master(0), &sealed[..end]).is_none());
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// RFC 8452, appendix C.2 (AEAD_AES_256_GCM_SIV): plaintext, additional data, result.
#[test]
fn rfc_8452_vectors() {
    let mut key = [0; 32];
    key[0] = 1;
    let mut nonce = [0; 12];
    nonce[0] = 3;
    let cipher = Aes256GcmSiv::new(&key.into());
    for (plain, aad, result) in [
        ("", "", "07f5f4169bbf55a8400cd47ea6fd400f"),
        (
            "0100000000000000",
            "",
            "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28",
        ),
        (
            "010000000000000000000000",
            "",
            "9aab2aeb3faa0a34aea8e2b18ca50da9ae6559e48fd10f6e5c9ca17e",
        ),
        (
            "01000000000000000000000000000000",
            "",
            "85a01b63025ba19b7fd3ddfc033b3e76c9eac6fa700942702e90862383c6c366",
        ),
        (
            "0200000000000000",
            "01",
            "1de22967237a813291213f267e3b452f02d01ae33e4ec854",
        ),
    ] {
        let (plain, aad, result) = (hex(plain), hex(aad), hex(result));
        let payload = Payload {
            msg: &plain,
            aad: &aad,
        };
        assert_eq!(
            cipher.encrypt(&Nonce::from(nonce), payload).unwrap(),
            result
        );
        let payload = Payload {
            msg: &result,
            aad: &aad,
        };
        assert_eq!(cipher.decrypt(&Nonce::from(nonce), payload).unwrap(), plain);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_it(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        assert!(open(&bytes, &master(0)).is_err());
        bytes.splice(0..0, *b"MRKEYS\r\n\x01\x00\x01");
        assert!(open(&bytes, &master(0)).is_err());
    }
}
