//! Spans as OTLP's JSON (opentelemetry-proto, `ExportTraceServiceRequest`): ids in hexadecimal, 64-bit numbers as texts.

use serde::Serialize;

use super::{Span, Value};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: [Attribute<'a>; 2],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Number(String),
    #[serde(rename = "boolValue")]
    Flag(bool),
}

/// `SPAN_KIND_SERVER` and `SPAN_KIND_CLIENT`.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// `STATUS_CODE_UNSET` and `STATUS_CODE_ERROR`.
const UNSET: u8 = 0;
const ERROR: u8 = 2;

/// The body of one request to the collector.
pub(super) fn body(spans: &[Span]) -> Vec<u8> {
    let text = |key, text| Attribute {
        key,
        value: AnyValue::Text(text),
    };
    let request = Request {
        resource_spans: [ResourceSpans {
            resource: Resource {
                attributes: [
                    text("service.name", "memoryrouter"),
                    text("service.version", env!("CARGO_PKG_VERSION")),
                ],
            },
            scope_spans: [ScopeSpans {
                scope: Scope {
                    name: "memoryrouter",
                    version: env!("CARGO_PKG_VERSION"),
                },
                spans: spans.iter().map(shown).collect(),
            }],
        }],
    };
    // Texts and numbers can be written.
    sonic_rs::to_vec(&request).unwrap_or_default()
}

fn shown(span: &Span) -> Shown<'_> {
    let attributes = span.attributes.iter().map(|(key, value)| Attribute {
        key,
        value: match value {
            Value::Text(text) => AnyValue::Text(text),
            Value::Number(number) => AnyValue::Number(number.to_string()),
            Value::Flag(flag) => AnyValue::Flag(*flag),
        },
    });
    Shown {
        trace_id: format!("{:032x}", span.trace),
        span_id: format!("{:016x}", span.id),
        parent_span_id: span.parent.map(|parent| format!("{parent:016x}")),
        name: &span.name,
        kind: if span.client { CLIENT } else { SERVER },
        start_time_unix_nano: span.start_ns.to_string(),
        end_time_unix_nano: span.end_ns.to_string(),
        attributes: attributes.collect(),
        status: Status {
            code: if span.failed { ERROR } else { UNSET },
        },
    }
}
