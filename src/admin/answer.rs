//! What the admin port answers with: JSON mostly, errors in the data port's form, files of the dashboard.

use futures_channel::mpsc::{Receiver, Sender, channel};
use serde::Serialize;

use crate::error::Fault;
use crate::keys::EditError;
use crate::net::{Reader, Writer};

/// The body that an answer has.
pub(super) enum Reply {
    /// All of it is here.
    Whole(Answer),
    /// Piece by piece, as they are made.
    Pieces(Answer, Receiver<Piece>),
    /// What another connection answers, byte by byte; the caller's connection ends with it.
    Relayed(Box<(Reader, Writer)>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Whole(answer)
    }
}

/// A status, fields and a body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) media: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

/// A part of a body.
pub(super) type Piece = Result<Vec<u8>, Broken>;

/// The rest of a body will not come, and its reader has to see that.
#[derive(Debug)]
pub(super) struct Broken;

/// Where pieces are put in, one waiting at a time.
pub(super) struct Pieces(Sender<Piece>);

impl Pieces {
    pub(super) fn new() -> (Self, Receiver<Piece>) {
        let (sender, receiver) = channel(0);
        (Self(sender), receiver)
    }

    /// Waits until there is room; fails when the caller has left.
    pub(super) async fn send(&mut self, piece: Piece) -> Result<(), Broken> {
        let room = std::future::poll_fn(|cx| self.0.poll_ready(cx)).await;
        room.map_err(|_| Broken)?;
        self.0.start_send(piece).map_err(|_| Broken)
    }
}

pub(super) const JSON_LINES: &str = "application/x-ndjson";
pub(super) const JSON: &str = "application/json";

impl Answer {
    /// A JSON value.
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::with_status(200, value)
    }

    /// A JSON value under another status than 200.
    pub(super) fn with_status(status: u16, value: &impl Serialize) -> Self {
        match sonic_rs::to_vec(value) {
            Ok(body) => Self::of(status, JSON, body),
            Err(_) => Denial::new(500, "The answer cannot be written").into_answer(),
        }
    }

    /// Bytes of a kind.
    pub(super) fn of(status: u16, media: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            media,
            fields: Vec::new(),
            body,
        }
    }

    /// The same with one more field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) status: u16,
    error: String,
    hint: Option<String>,
    fields: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct DenialBody<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Denial {
    pub(super) fn new(status: u16, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            hint: None,
            fields: Vec::new(),
        }
    }

    /// Nothing there by that name.
    pub(super) fn not_found() -> Self {
        Self::new(404, "Not Found")
    }

    /// A request that cannot be understood, and why.
    pub(super) fn odd(error: impl Into<String>) -> Self {
        Self::new(400, error)
    }

    /// With what the caller can do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With one more field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(super) fn into_answer(self) -> Answer {
        let body = DenialBody {
            error: &self.error,
            hint: self.hint.as_deref(),
        };
        // A text and a text cannot fail to be written.
        let body = sonic_rs::to_vec(&body).unwrap_or_default();
        let mut answer = Answer::of(self.status, JSON, body);
        answer.fields = self.fields;
        answer
    }
}

impl From<EditError> for Denial {
    fn from(error: EditError) -> Self {
        let status = match &error {
            EditError::NotFound(_) => 404,
            EditError::Token(_) | EditError::Invalid(_) => 400,
            EditError::TokenExists => 409,
            EditError::Refused(_)
            | EditError::File(..)
            | EditError::Seal(_)
            | EditError::Master(_)
            | EditError::Random
            | EditError::Full => 500,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Fault> for Denial {
    fn from(fault: Fault) -> Self {
        let denial = Self::new(fault.status(), fault.error());
        match fault.hint() {
            Some(hint) => denial.hint(hint),
            None => denial,
        }
    }
}

/// The reason phrases of the statuses that are used here.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}
