//! `memoryrouter.toml`, read once into types that cannot be wrong.
//!
//! `cli` loads it; `server` and everything below see only these types, in which nothing is left to interpret: sizes
//! are bytes, times are `Duration`s, names of providers are indices into one table, paths are resolved against the
//! data directory. Every value has a default, and its reason stands beside it in `sections`. What a file says wrong
//! is reported all at once, each with line, key and the nearest valid name.

mod base_url;
mod embeddings;
mod file;
mod listen;
mod operator;
mod own_files;
mod providers;
mod reader;
mod routing;
mod sections;
mod units;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::Catalogue;
use crate::prices::Prices;
use crate::provider::Dialect;

pub use base_url::{BaseUrl, BaseUrlError};
pub use embeddings::Embeddings;
pub use file::{ConfigError, FILE_NAME, Location, template};
pub use listen::Listen;
pub use operator::{Admin, Log, LogFormat, Metrics, Otlp};
pub use providers::{Azure, DEMO, Provider, ProviderId, Providers};
pub use reader::nearest;
pub use routing::Routing;
pub use units::written;

/// Everything an operator can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data directory, which relative paths start from.
    pub dir: PathBuf,
    /// Where callers come in.
    pub server: Server,
    /// The operator's own port.
    pub admin: Admin,
    /// Where keys lie.
    pub keys: Keys,
    /// How much of anything.
    pub limits: Limits,
    /// How long for anything.
    pub timeouts: Timeouts,
    /// Who can be routed to.
    pub providers: Providers,
    /// Which model goes where.
    pub routing: Routing,
    /// Recall and storing.
    pub memory: Memory,
    /// Metering.
    pub usage: Usage,
    /// Counting.
    pub metrics: Metrics,
    /// Tracing.
    pub otlp: Otlp,
    /// The form of the router's own errors.
    pub errors: Errors,
    /// Browsers of other origins.
    pub cors: Cors,
    /// What is logged, and how.
    pub log: Log,
    /// The built-in provider for trying out.
    pub demo: Demo,
    /// The models that are listed.
    pub catalogue: Catalogue,
    /// What tokens cost.
    pub prices: Arc<Prices>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Addresses of the data port; never empty.
    pub listen: Vec<Listen>,
    /// Worker threads; 0 means one per core (`workers_count`).
    pub workers: usize,
    /// TLS on every TCP listener of the data port.
    pub tls: Option<TlsFiles>,
}

impl Server {
    /// Worker threads to start: what is configured, else one for each core this process may use.
    pub fn workers_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            workers => workers,
        }
    }
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// `[keys]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The sealed snapshot.
    pub snapshot: PathBuf,
    /// The key that opens it.
    pub master_key: PathBuf,
}

/// `[limits]`. The names of the keys are the fields' without `_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and fields together.
    pub head_bytes_max: usize,
    /// Field lines of one head.
    pub headers_max: usize,
    /// Path and query.
    pub target_bytes_max: usize,
    /// A request body, as sent and decoded.
    pub body_bytes_max: usize,
    /// Callers connected at once, over all workers.
    pub connections_max: usize,
    /// Requests with a provider at once, per worker.
    pub in_flight_max: usize,
    /// Idle upstream connections kept, per worker and origin (`upstream_idle`).
    pub upstream_idle_per_origin_max: usize,
    /// Wrong memory keys a minute from one address; 0 is any number.
    pub auth_failures_max: u32,
}

/// `[timeouts]`: lengths, each for one thing that can stall by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From a request's first byte to the end of its head.
    pub head: Duration,
    /// Between two reads of a request's body.
    pub body_idle: Duration,
    /// Between two requests of one connection.
    pub keepalive: Duration,
    /// Name, TCP and TLS toward a provider, together.
    pub connect: Duration,
    /// A provider whose machine acknowledges nothing sent to it for this long is gone.
    pub unacknowledged: Duration,
    /// From the request's last byte to the answer's first.
    pub first_byte: Duration,
    /// Between two reads of an answer, and a caller's stall in taking it.
    pub stream_idle: Duration,
    /// How long running exchanges may go on after the signal to stop; 0 cuts them at once.
    pub drain: Duration,
    /// How long an upstream connection is kept idle.
    pub upstream_idle: Duration,
}

/// `[memory]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Whether anything is recalled or stored at all.
    pub enabled: bool,
    /// The log of all vaults.
    pub path: PathBuf,
    /// RAM for the vaults in use.
    pub hot_bytes: usize,
    /// How long a request waits for a vault that is not in RAM.
    pub recall_timeout: Duration,
    /// How long memories are kept; none means until they are deleted.
    pub retention: Option<Duration>,
    /// How many tokens of memories one request gets at most.
    pub tokens_max: usize,
    /// How many memories one request gets, where it does not say.
    pub limit: usize,
    /// Where vectors come from.
    pub embeddings: Option<Embeddings>,
}

/// `[usage]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How long counts are kept.
    pub retention: Duration,
    /// After how long they are kept by the day instead of the hour.
    pub compact_after: Duration,
    /// The operator's own prices.
    pub prices: PathBuf,
    /// How tokens of streams are known whose callers do not ask for counts.
    pub stream: StreamUsage,
}

/// How the tokens of a stream are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// The provider is asked, and the caller sees nothing of it.
    Exact,
    /// By what the provider says without being asked, else by the length of the texts.
    Estimate,
}

/// The words for it.
const STREAM_USAGE: &[(&str, StreamUsage)] = &[
    ("exact", StreamUsage::Exact),
    ("estimate", StreamUsage::Estimate),
];

/// `[errors]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// The form of the router's own errors.
    pub format: ErrorFormat,
}

/// The form of the router's own errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorFormat {
    /// `{"error": …, "hint": …}` everywhere.
    Plain,
    /// The envelope of the endpoint's dialect.
    Dialect,
}

/// `[cors]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins whose scripts may read answers, as browsers send them; `*` is everyone; empty is off.
    pub origins: Vec<String>,
}

/// `[demo]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demo {
    /// Whether the provider `demo` exists.
    pub enabled: bool,
}

impl Config {
    /// What an empty file says.
    pub fn defaults(dir: &Path) -> Self {
        sections::read("", dir).0
    }

    /// Reads `text`, the contents of `file`, for the data directory `dir`. Pure: no file is looked at.
    pub fn parse(text: &str, file: &Path, dir: &Path) -> Result<Self, ConfigError> {
        let (config, problems) = sections::read(text, dir);
        if problems.is_empty() {
            return Ok(config);
        }
        Err(ConfigError::wrong(file, problems))
    }

    /// Takes over from `running` what is bound or opened once, at the start, and names the keys in which they differ.
    pub fn keep_what_needs_a_restart(&mut self, running: &Self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        fn keep<T: Clone + PartialEq>(
            key: &'static str,
            new: &mut T,
            running: &T,
            changed: &mut Vec<&'static str>,
        ) {
            if new != running {
                changed.push(key);
                *new = running.clone();
            }
        }
        let (server, was) = (&mut self.server, &running.server);
        keep(
            "server.listen",
            &mut server.listen,
            &was.listen,
            &mut changed,
        );
        keep(
            "server.workers",
            &mut server.workers,
            &was.workers,
            &mut changed,
        );
        keep("admin", &mut self.admin, &running.admin, &mut changed);
        keep("keys", &mut self.keys, &running.keys, &mut changed);
        let (usage, was) = (&mut self.usage, &running.usage);
        keep(
            "usage.retention",
            &mut usage.retention,
            &was.retention,
            &mut changed,
        );
        keep(
            "usage.compact_after",
            &mut usage.compact_after,
            &was.compact_after,
            &mut changed,
        );
        let (memory, was) = (&mut self.memory, &running.memory);
        keep("memory.path", &mut memory.path, &was.path, &mut changed);
        keep(
            "memory.hot_bytes",
            &mut memory.hot_bytes,
            &was.hot_bytes,
            &mut changed,
        );
        keep(
            "memory.retention",
            &mut memory.retention,
            &was.retention,
            &mut changed,
        );
        let (vectors, was) = (&mut memory.embeddings, &was.embeddings);
        keep("memory.embeddings", vectors, was, &mut changed);
        let (log, was) = (&mut self.log, &running.log);
        keep("log.format", &mut log.format, &was.format, &mut changed);
        keep("otlp", &mut self.otlp, &running.otlp, &mut changed);
        changed
    }

    /// The known models under this configuration's routing, with the operator's own lists.
    fn catalogue(&self, own: &str) -> Result<Catalogue, toml::de::Error> {
        let table = self.routing.table(&self.providers);
        let leads_to = |model: &str| {
            let choice = table.choose(model, Dialect::OpenAi).ok()?;
            let provider = self.providers.get(ProviderId(choice.provider));
            choice.prefix.is_empty().then(|| provider.name.clone())
        };
        // A deployment that somebody configured is a model that somebody uses.
        let deployed = self.providers.iter().flat_map(|(_, provider)| {
            let deployments = provider
                .azure
                .iter()
                .flat_map(|azure| azure.deployments.keys());
            deployments.map(|model| (provider.name.as_str(), model.as_str()))
        });
        Catalogue::new(own, deployed, leads_to)
    }

    /// What works but deserves a second look, for `check` and for the log of a start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (_, provider) in self.providers.iter() {
            for url in &provider.base_urls {
                if !url.tls && !url.is_loopback() {
                    warnings.push(format!(
                        "providers.{}.base_url: {url} sends keys and texts unencrypted over the network",
                        provider.name
                    ));
                }
            }
        }
        let exposed = |listen: &&Listen| matches!(listen, Listen::Tcp(a) if !a.ip().is_loopback());
        if self.server.tls.is_none() {
            for listen in self.server.listen.iter().filter(exposed) {
                warnings.push(format!(
                    "server.listen: {listen} is reachable from outside without TLS; \
                     set server.tls or put a TLS terminator in front"
                ));
            }
        }
        if let Some(listen) = self.admin.listen.as_ref().filter(exposed) {
            let tls = if self.admin.tls.is_none() {
                " without TLS; set admin.tls or put a TLS terminator in front"
            } else {
                ""
            };
            warnings.push(format!(
                "admin.listen: {listen} is reachable from outside{tls}"
            ));
        }
        if self.cors.origins.iter().any(|origin| origin == "*") {
            warnings.push("cors.origins: `*` lets every web page read answers".into());
        }
        let key_env = self.memory.embeddings.as_ref();
        let key_env = key_env.and_then(|embeddings| embeddings.key_env.as_ref());
        if let Some(name) = key_env.filter(|name| std::env::var_os(name).is_none()) {
            warnings.push(format!(
                "memory.embeddings.key_env: {name} is not set; requests go without a key"
            ));
        }
        if self.demo.enabled {
            warnings.push("demo.enabled: the built-in demo provider is for trying out".into());
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
