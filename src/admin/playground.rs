//! Requests of the dashboard's own, as one of the keys: through the product's own exchange, from its first byte on.
//!
//! The admin thread serves one end of a socket pair like any caller's connection and speaks HTTP at the other. Nobody
//! needs the key's token for that, and nobody could know it: the request comes with one made for it alone.

use std::rc::Rc;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::answer::{Answer, Denial, JSON, Reply};
use super::desk::Desk;
use super::memory;
use super::request::Request;
use super::token::random_text;
use crate::audit::Who;
use crate::clock::unix_seconds;
use crate::connection;
use crate::exchange::models_of;
use crate::keys::{KeyRecord, state_of};
use crate::net;
use crate::provider::Dialect;
use crate::secret::Secret;

/// What a request of the playground may set; credentials are not among it.
const FIELDS: [&str; 6] = [
    "x-session-id",
    "x-context-limit",
    "x-debug",
    "anthropic-version",
    "anthropic-beta",
    "accept",
];
const FIELD_STARTS: [&str; 2] = ["x-memory-", "x-store-"];
const TOKEN_CHARACTERS: usize = 43;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    key_id: String,
    path: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[expect(
        dead_code,
        reason = "taken as it was written, from the request's own bytes"
    )]
    body: IgnoredAny,
}

/// `POST /playground`.
pub(super) async fn run(desk: &Rc<Desk>, request: &Request, who: Who) -> Result<Reply, Denial> {
    let wish: Wish = request.json().map_err(refused)?;
    let body = sonic_rs::get(request.body.as_slice(), ["body"])
        .map_err(|_| refused(Denial::odd("body: the request's JSON")))?;
    let mut fields = String::new();
    for (name, value) in &wish.headers {
        let lower = name.to_ascii_lowercase();
        let known = FIELDS.contains(&lower.as_str())
            || (FIELD_STARTS.iter().any(|start| lower.starts_with(start))
                && lower != "x-memory-key"
                && lower
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        if !known || !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(refused(Denial::odd(format!(
                "headers: {name} cannot be set here"
            ))));
        }
        fields += &format!("{name}: {value}\r\n");
    }
    fields += &format!(
        "content-type: application/json\r\ncontent-length: {}\r\n",
        body.as_raw_str().len()
    );
    // What changes keys is to be written down as done by whoever does it, not as done by the key.
    let path = wish.path.split('?').next().unwrap_or_default();
    if path.split('/').any(|segment| segment == "keys") {
        let denial = Denial::odd("path: keys are managed under /admin/v1/keys");
        return Err(refused(denial));
    }
    let record = desk.record(&wish.key_id).map_err(refused)?;
    if path.split('/').any(|segment| segment == "memory") {
        let about = vec![("key", wish.key_id.clone()), ("path", path.to_owned())];
        memory::write_down(desk, who, "memory endpoint used as a key", about).await?;
    }
    let answer = ask(desk, record, &wish.path, &fields, body.as_raw_str()).await;
    answer.map_err(refused)
}

/// `GET /models?key=`: what the key is told there, but nothing that it asked for and is counted.
pub(super) fn models(desk: &Desk, request: &Request) -> Result<Answer, Denial> {
    let id = request.parameter("key");
    let id = id.ok_or_else(|| Denial::odd("key: the id of a memory key"))?;
    let (keys, record) = (desk.keys.current(), desk.record(id)?);
    let models = models_of(&desk.worker(), &keys, &record, Dialect::OpenAi);
    Ok(Answer::of(200, JSON, models.into_bytes()))
}

/// Tells an answer of the playground itself from one of the request that it was to make.
pub(super) fn refused(denial: Denial) -> Denial {
    denial.with("x-mr-playground", "refused")
}

async fn ask(
    desk: &Rc<Desk>,
    record: Arc<KeyRecord>,
    target: &str,
    fields: &str,
    body: &str,
) -> Result<Reply, Denial> {
    if !target.starts_with("/v1") || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Denial::odd(
            "path: one of the data port's, such as /v1/chat/completions",
        ));
    }
    let state = state_of(&record, unix_seconds());
    if state != "active" {
        return Err(Denial::new(403, format!("This key is {state}")));
    }
    let failed = |error: std::io::Error| {
        tracing::warn!(%error, "a request of the playground could not be made");
        Denial::new(503, "The request could not be made")
    };
    let token = format!("mk_{}", random_text(TOKEN_CHARACTERS).map_err(failed)?);
    let (ours, theirs) = net::pair().map_err(failed)?;
    let worker = desk.worker();
    worker.let_in(Secret::new(token.as_bytes()), record);
    net::spawn(async move {
        if net::isolate(Box::pin(connection::serve(theirs, None, worker)))
            .await
            .is_err()
        {
            tracing::error!("a request of the playground was lost to a bug");
        }
    });
    let (reader, mut writer, _) = ours.split();
    let mut message = format!(
        "POST {target} HTTP/1.1\r\nhost: localhost\r\nx-memory-key: {token}\r\nconnection: close\r\n{fields}\r\n"
    )
    .into_bytes();
    message.extend_from_slice(body.as_bytes());
    let (sent, _) = writer.write_all(message).await;
    sent.map_err(failed)?;
    Ok(Reply::Relayed(Box::new((reader, writer))))
}
