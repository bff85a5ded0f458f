//! What the router stands on before its first thread starts, as the configuration has it: listeners, stores, what sends
//! spans. `start` calls in; `reload` reads the certificates again.

use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use super::handover::{self, Inherited};
use crate::config::{Config, Listen, TlsFiles};
use crate::memory::{EmbeddingSettings, MemorySettings, MemoryStore};
use crate::net::{
    BoundAddr, BoundListener, TlsAcceptor, TlsConnector, bind_patiently, system_roots,
};
use crate::secret::Secret;
use crate::traces::{Collector, Tracer};
use crate::upstream::Origin;
use crate::usage::{Carried, Settings, UsageStore};
use crate::worker::Shared;

/// The store of usage, which tells limits what was used before.
pub(super) fn open_usage(config: &Config, shared: &Arc<Shared>) -> io::Result<UsageStore> {
    let settings = Settings {
        compact_after: config.usage.compact_after,
        retention: config.usage.retention,
    };
    let shared = shared.clone();
    UsageStore::open(
        settings,
        &config.dir,
        config.prices.clone(),
        move |carried| {
            let Carried {
                key,
                minute,
                day,
                month,
            } = carried;
            let minute = minute.map(|minute| (minute.started, minute.requests, minute.tokens));
            shared.key_limits.carry(&key, minute, day, month);
        },
    )
}

/// What sends spans, where the configuration names a collector.
pub(super) fn tracer(config: &Config) -> Result<Option<Tracer>, StartError> {
    let Some(url) = &config.otlp.endpoint else {
        return Ok(None);
    };
    let tls = url.tls.then(|| TlsConnector::new(system_roots()));
    let tls = tls.transpose().map_err(StartError::Worker)?;
    let collector = Collector {
        origin: Origin {
            host: url.host.clone(),
            port: url.port,
            tls,
        },
        authority: url.authority.clone(),
        path: url.path.clone(),
    };
    let tracer = Tracer::start(collector).map_err(StartError::Worker)?;
    Ok(Some(tracer))
}

/// What is listened on.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) addrs: Vec<BoundAddr>,
    /// The sockets of each worker, handed in or bound here.
    pub(super) listeners: Vec<Vec<BoundListener>>,
    /// The files of Unix sockets that a router bound, this one or one before it: a service manager's are not ours.
    pub(super) own_files: Vec<PathBuf>,
}

pub(super) fn bind(config: &Config, workers: usize) -> Result<Bound, StartError> {
    let mut inherited = Inherited::take();
    let files_before = handover::files_of_predecessor();
    let mut bound = Bound::default();
    bound.listeners.resize_with(workers, Vec::new);
    for listen in &config.server.listen {
        let failed = |error| StartError::Listen(listen.to_string(), error);
        let claimed = inherited.claim(listen);
        let handed_in = !claimed.is_empty();
        let (addr, listeners) = match (claimed.first().and_then(BoundListener::addr), listen) {
            (Some(addr), _) => (addr, claimed),
            (None, Listen::Tcp(address)) => {
                bind_patiently(|| BoundListener::tcp(*address, workers)).map_err(failed)?
            }
            (None, Listen::Unix(path)) => {
                let (addr, listener) =
                    bind_patiently(|| BoundListener::unix(path)).map_err(failed)?;
                (addr, vec![listener])
            }
        };
        if let BoundAddr::Unix(path) = &addr
            && (!handed_in || files_before.contains(path))
        {
            bound.own_files.push(path.clone());
        }
        bound.addrs.push(addr);
        // Where there are fewer sockets than workers, those without one have callers passed to them.
        for (index, listener) in listeners.into_iter().enumerate() {
            bound.listeners[index % workers].push(listener);
        }
    }
    inherited.finish();
    Ok(bound)
}

pub(super) fn open_memory(config: &Config) -> io::Result<MemoryStore> {
    let memory = &config.memory;
    MemoryStore::open(MemorySettings {
        path: memory.path.clone(),
        hot_bytes: memory.hot_bytes,
        retention: memory.retention,
        embeddings: memory.embeddings.as_ref().map(|embeddings| {
            let key = embeddings.key_env.as_ref().and_then(std::env::var_os);
            EmbeddingSettings {
                base_url: embeddings.base_url.to_string(),
                model: embeddings.model.clone(),
                key: key.map(|key| Secret::new(key.into_vec())),
                deadline: embeddings.deadline,
            }
        }),
    })
}

pub(super) fn tls_of(
    setting: &'static str,
    files: &Option<TlsFiles>,
) -> Result<Option<TlsAcceptor>, StartError> {
    let acceptor = files
        .as_ref()
        .map(|files| TlsAcceptor::from_files(&files.cert, &files.key));
    acceptor
        .transpose()
        .map_err(|error| StartError::Tls(setting, error))
}
