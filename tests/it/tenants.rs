//! Many callers over one pool: nobody gets another's key or another's answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use memoryrouter::keys::NewKey;

use crate::support::{Provider, Random, Setup, Then, count, json, request};

const TENANTS: usize = 10;

#[test]
fn interleaved_requests_a_fifth_of_them_aborted() {
    let requests = count("TENANT_REQUESTS", 1000);
    // Each answer holds the nonce of its request and the key that it was paid with.
    let provider = Provider::start(|request, wire| {
        let nonce = request
            .text()
            .split("nonce-")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned();
        let paid = request.fields.get("authorization").unwrap().to_owned();
        if nonce.len() % 3 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        if nonce.ends_with('7') {
            let event = format!("data: {{\"nonce\":\"{nonce}\",\"paid\":\"{paid}\"}}\n\n");
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in event.as_bytes().chunks(20) {
                wire.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            wire.send("0\r\n\r\n");
        } else {
            wire.send(json(
                200,
                &format!(r#"{{"nonce":"{nonce}","paid":"{paid}"}}"#),
            ));
        }
        Then::Keep
    });
    let mut setup = Setup::all(&provider).workers(2).without_stored();
    setup = setup.toml("limits.upstream_idle = 16");
    let router = setup.start();
    // Half of the tenants store their key, half pass it through.
    let tenants: Vec<(String, String)> = (0..TENANTS)
        .map(|tenant| {
            let account = format!("tenant-{tenant}");
            let paying = format!("sk-tenant-{tenant}-secret");
            if tenant % 2 == 0 {
                router.edit(|editor| {
                    editor.add_provider_key(
                        &account,
                        "openai",
                        &paying.clone().into_bytes().into_secret(),
                    )
                });
            }
            (
                router.mint(NewKey {
                    account,
                    ..NewKey::default()
                }),
                paying,
            )
        })
        .collect();
    let next = AtomicUsize::new(0);
    let answered = AtomicUsize::new(0);
    let paid = Mutex::new(std::collections::HashMap::new());
    thread::scope(|scope| {
        for thread in 0..8 {
            let (next, answered, paid, tenants, router) =
                (&next, &answered, &paid, &tenants, &router);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut caller = router.connect();
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= requests {
                        return;
                    }
                    let tenant = random.below(TENANTS as u64) as usize;
                    let (key, paying) = &tenants[tenant];
                    let passed = format!("Bearer {paying}");
                    let mut fields = vec![("X-Memory-Key", key.as_str())];
                    if tenant % 2 == 1 {
                        fields.push(("Authorization", &passed));
                    }
                    paid.lock()
                        .unwrap()
                        .insert(format!("{index}"), passed.clone());
                    let body = format!(r#"{{"model":"gpt-4o","messages":["nonce-{index}"]}}"#);
                    let bytes = request("POST", "/v1/chat/completions", &fields, body);
                    if random.below(5) == 0 {
                        // Leaves at some point: in the request, behind it, in the answer.
                        let sent = random.below(bytes.len() as u64 + 1) as usize;
                        caller.send(&bytes[..sent]);
                        if sent == bytes.len() && random.below(2) == 0 {
                            caller.bytes(random.below(40) as usize);
                        }
                        match random.below(2) {
                            0 => caller.reset(),
                            _ => drop(caller),
                        }
                        caller = router.connect();
                        continue;
                    }
                    let reply = caller.exchange(bytes);
                    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
                    let text = reply.text();
                    assert!(
                        text.contains(&format!(r#""nonce":"{index}""#)),
                        "{index}: {text}"
                    );
                    assert!(
                        text.contains(&format!(r#""paid":"{passed}""#)),
                        "{index}: {text}"
                    );
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(answered.load(Ordering::SeqCst) > requests / 2);
    let paid = paid.lock().unwrap();
    for request in provider.received() {
        let nonce = request
            .text()
            .split("nonce-")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(
            request.fields.get("authorization"),
            paid.get(nonce).map(String::as_str),
            "{nonce}"
        );
    }
    println!(
        "{requests} requests, {} answered with their own nonce, the others aborted; {} upstream connections",
        answered.load(Ordering::SeqCst),
        provider.accepted()
    );
    assert!(
        provider.accepted() < requests / 2,
        "connections were used again: {}",
        provider.accepted()
    );
}

trait IntoSecret {
    fn into_secret(self) -> memoryrouter::secret::Secret;
}

impl IntoSecret for Vec<u8> {
    fn into_secret(self) -> memoryrouter::secret::Secret {
        memoryrouter::secret::Secret::new(self)
    }
}
