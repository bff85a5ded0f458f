//! What an operator looks through: the admin port, the log, metrics, traces.

use tracing::level_filters::LevelFilter;

use super::base_url::BaseUrl;
use super::{Listen, TlsFiles};

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The operator's port: never one of the data port's; none where it is off.
    pub listen: Option<Listen>,
    /// Names, besides loopback and the address itself, under which browsers and scripts reach it.
    pub hosts: Vec<String>,
    /// TLS on it, where it is TCP.
    pub tls: Option<TlsFiles>,
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether requests are counted by key id too.
    pub keys: bool,
}

/// `[otlp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The collector that spans go to; none where nothing is traced.
    pub endpoint: Option<BaseUrl>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LevelFilter,
    /// One line per exchange.
    pub access: bool,
    /// Of exchanges that went well, one in so many has its line.
    pub sample: usize,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
