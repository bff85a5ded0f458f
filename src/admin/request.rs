//! A request to the admin port, taken apart: decoded path segments, decoded query, fields by name, a JSON body.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;

use super::answer::Denial;
use crate::depth;
use crate::error::json_reason;
use crate::exchange::is_session_id;
use crate::http::Method;
use crate::http::head::{Head, RequestLine};
use crate::provider::query::percent_decode;

/// What a request says.
pub(super) struct Request {
    pub(super) method: Method,
    /// As it was sent.
    pub(super) path: String,
    query: Vec<(String, String)>,
    fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Who asks; none over a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// Whether it came over TLS.
    pub(super) secure: bool,
}

impl Request {
    /// Without its body, which comes later.
    pub(super) fn new(
        head: &Head<RequestLine>,
        bytes: &[u8],
        peer: Option<SocketAddr>,
        secure: bool,
    ) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let query = head.query(bytes).unwrap_or_default();
        let query = query.split('&').filter(|pair| !pair.is_empty());
        let query = query.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (text(&percent_decode(name)), text(&percent_decode(value)))
        });
        let fields = head.fields.iter().map(|field| {
            let name = text(field.spelled(bytes)).to_ascii_lowercase();
            (name, text(field.value(bytes)))
        });
        Self {
            method: head.line.method,
            path: head.path(bytes).to_owned(),
            query: query.collect(),
            fields: fields.collect(),
            body: Vec::new(),
            peer,
            secure,
        }
    }

    /// The value of a field; none if it is absent, or there twice, because then it says nothing for certain.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut of_name = self.fields.iter().filter(|(known, _)| known == name);
        let (_, value) = of_name.next()?;
        of_name.next().is_none().then_some(value)
    }

    /// Whether a field is there at all.
    pub(super) fn has_field(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    /// A parameter of the query; empty ones count as absent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The session that the query names. Of a request that changes something an empty name is refused: an unset variable
    /// of a script would reach the whole vault.
    pub(super) fn session(&self) -> Result<Option<&str>, Denial> {
        let mut named = self.query.iter().filter(|(name, _)| name == "session");
        let reading = matches!(self.method, Method::Get | Method::Head);
        match (named.next(), named.next()) {
            (None, _) => Ok(None),
            (Some((_, session)), _) if reading => {
                Ok(Some(session.as_str()).filter(|s| !s.is_empty()))
            }
            (Some((_, session)), None) if is_session_id(session) => Ok(Some(session)),
            _ => Err(Denial::odd(
                "session: one, 1 to 128 of A-Z a-z 0-9 . _ : @ -",
            )),
        }
    }

    /// Refuses other parameters than these, where one that is misspelt would widen what is asked for.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Denial> {
        let odd = self
            .query
            .iter()
            .any(|(name, _)| !known.contains(&name.as_str()));
        match (odd, known) {
            (false, _) => Ok(()),
            (true, []) => Err(Denial::odd("There are no parameters here")),
            (true, known) => Err(Denial::odd(format!(
                "Parameters here: {}",
                known.join(", ")
            ))),
        }
    }

    /// A number from the query, from 1 to `most`.
    pub(super) fn count(&self, name: &str, default: usize, most: usize) -> Result<usize, Denial> {
        let Some(text) = self.parameter(name) else {
            return Ok(default);
        };
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Denial::odd(format!("{name}: a number from 1 to {most}")))
    }

    /// The path's segments behind `root`, decoded; none if it does not start there. What deletes has no slash at its
    /// end: there, the id of the one thing that is meant is missing.
    pub(super) fn segments(&self, root: &str) -> Option<Vec<String>> {
        let rest = self.path.strip_prefix(root)?.strip_prefix('/')?;
        let rest = match self.method {
            Method::Delete => rest,
            _ => rest.strip_suffix('/').unwrap_or(rest),
        };
        // A plus sign is itself in a path.
        let decoded = rest.split('/').map(|segment| {
            let segment = segment.replace('+', "%2B");
            String::from_utf8_lossy(&percent_decode(&segment)).into_owned()
        });
        Some(decoded.collect())
    }

    /// The body as a JSON object of known members; an empty body is an empty object.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Denial> {
        let body = if self.body.trim_ascii().is_empty() {
            b"{}"
        } else {
            self.body.as_slice()
        };
        // A list would do as well, for the parser: its members in their order.
        if !body.trim_ascii().starts_with(b"{") {
            return Err(Denial::odd("Invalid JSON body").hint("One JSON object"));
        }
        if !depth::fits(body) {
            return Err(Denial::odd("Invalid JSON body").hint("It nests too deep"));
        }
        sonic_rs::from_slice(body).map_err(|error| {
            let denial = Denial::odd("Invalid JSON body");
            match json_reason::<T>(body, &error) {
                Some(reason) => denial.hint(reason),
                None => denial,
            }
        })
    }
}
