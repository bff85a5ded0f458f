//! A key's vault, through a running router or from the log itself.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Line;
use crate::audit::{self, Who};
use crate::cli::admin_client::AdminClient;
use crate::cli::{Failure, Global};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::keys;
use crate::memory::{
    self, Delete, MemorySettings, MemoryStore, NewMemory, StoreState, VaultRef, VaultStats,
};
use crate::net;

const JSON_LINES: &str = "application/jsonl";
/// How long a log is waited for that another process may be letting go of.
const OPEN_PATIENCE: Duration = Duration::from_secs(8);
const OPEN_LOOK: Duration = Duration::from_millis(10);

/// A key's vault, wherever its log is open.
pub(super) enum Vault {
    Running {
        router: AdminClient,
        key: String,
    },
    Here {
        store: MemoryStore,
        vault: VaultRef,
        key: String,
    },
}

#[derive(Deserialize, Serialize)]
pub(super) struct Stats {
    pub(super) memories: u64,
    pub(super) total_tokens: u64,
    pub(super) oldest: Option<String>,
    pub(super) newest: Option<String>,
    pub(super) sessions: u64,
    pub(super) bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) stats: Stats,
}

#[derive(Deserialize)]
struct Ended {
    stats: Option<Added>,
    error: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
pub(super) struct Added {
    pub(super) total: u64,
    pub(super) stored: u64,
    pub(super) duplicates: u64,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Deleted {
    pub(super) deleted: u64,
}

/// The log, where no router has it.
pub(super) fn open_log(config: &Config) -> Result<MemoryStore, Failure> {
    let store = MemoryStore::open(MemorySettings {
        path: config.memory.path.clone(),
        hot_bytes: config.memory.hot_bytes,
        retention: None,
        // Vectors are the running router's to make.
        embeddings: None,
    })
    .map_err(Failure::failed)?;
    let started = Instant::now();
    loop {
        match store.status().state {
            StoreState::Open => return Ok(store),
            StoreState::Failed(reason) => {
                let path = config.memory.path.display();
                // A router that is to be asked by nobody has it.
                let hint = match memory::is_held(&config.memory.path) {
                    true if config.admin.listen.is_none() => "; admin.listen is off",
                    _ => "",
                };
                return Err(Failure::failed(format!(
                    "the memory log {path} cannot be used: {reason}{hint}"
                )));
            }
            _ if started.elapsed() > OPEN_PATIENCE => {
                return Err(Failure::failed("the memory log did not open in time"));
            }
            _ => std::thread::sleep(OPEN_LOOK),
        }
    }
}

impl Vault {
    pub(super) fn find(config: &Config, key: String) -> Result<Self, Failure> {
        Failure::unless_id(&key)?;
        // Whoever listens on the admin port is asked only if a router has the log.
        if memory::is_held(&config.memory.path)
            && let Some(router) = AdminClient::find(config)?
        {
            // Keys that were made or deleted just now count: the router finds out by itself only after a moment.
            router.ask("POST", "/admin/v1/reload", "", b"")?;
            return Ok(Self::Running { router, key });
        }
        let (_, contents) = keys::inspect(&Global::key_files(config))
            .map_err(|refusal| Failure::refused(&refusal, config))?;
        let record = contents.keys.iter().find(|record| *record.id == *key);
        let record = record
            .ok_or_else(|| Failure::failed(format!("no such key: {}", keys::told_id(&key))))?;
        let vault = VaultRef::new(&record.vault, record.vault_key);
        let store = open_log(config)?;
        Ok(Self::Here { store, vault, key })
    }

    pub(super) fn target(key: &str) -> String {
        format!("/admin/v1/keys/{}/memories", escaped(key))
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Self::Running { key, .. } | Self::Here { key, .. } => key,
        }
    }

    pub(super) fn add(&self, memories: Vec<NewMemory>) -> Result<Added, Failure> {
        match self {
            Self::Running { router, key } => {
                let bytes: String = memories
                    .iter()
                    .map(Line::of_new)
                    .collect::<Result<_, _>>()?;
                let target = format!("{}/import", Self::target(key));
                let told = router.ask("POST", &target, JSON_LINES, bytes.as_bytes())?;
                // Lines about the progress, and then how it ended.
                let last = told.trim_ascii().rsplit(|byte| *byte == b'\n').next();
                match read(last.unwrap_or_default())? {
                    Ended {
                        stats: Some(added), ..
                    } => Ok(added),
                    Ended { error, .. } => Err(Failure::failed(error.unwrap_or_default())),
                }
            }
            Self::Here { store, vault, .. } => {
                let total = memories.len() as u64;
                let added = wait(store.add(vault, memories))?.map_err(Failure::failed)?;
                Ok(Added {
                    total,
                    stored: added.stored,
                    duplicates: added.duplicates,
                })
            }
        }
    }

    pub(super) fn delete(&self, which: &Delete) -> Result<Deleted, Failure> {
        match self {
            Self::Running { router, key } => {
                let target = Self::target(key);
                let target = match which {
                    Delete::All => target,
                    Delete::One(id) => format!("{target}/{id}"),
                    Delete::Session(session) => format!("{target}?session={}", escaped(session)),
                };
                read(&router.ask("DELETE", &target, "", b"")?)
            }
            Self::Here { store, vault, .. } => {
                let deleted = wait(store.delete(vault, which.clone()))?;
                let deleted = deleted.map_err(Failure::failed)?;
                // Nobody else will before the next router runs.
                if deleted > 0 {
                    wait(store.compact())?.map_err(Failure::failed)?;
                }
                Ok(Deleted { deleted })
            }
        }
    }
}

impl Vault {
    /// Writes down what was changed here. A running router has done so itself.
    pub(super) fn write_down(&self, dir: &Path, what: &str, about: &[(&str, String)]) {
        if let Self::Here { key, .. } = self {
            let about = about.iter().map(|(name, value)| (*name, value.as_str()));
            let all: Vec<_> = std::iter::once(("key", key.as_str()))
                .chain(about)
                .collect();
            audit::append(dir, &Who::Cli, what, &all);
        }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if let Self::Here { store, .. } = self {
            store.close();
        }
    }
}

pub(super) fn wait<F: Future>(future: F) -> Result<F::Output, Failure> {
    net::run(future).map_err(Failure::failed)
}

pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    sonic_rs::from_slice(body)
        .map_err(|_| Failure::failed("the router's admin port answered oddly"))
}

/// For a path's segment or a query's value.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let piece = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(piece).collect()
}

impl From<VaultStats> for Stats {
    fn from(stats: VaultStats) -> Self {
        let time = |at_ms: i64| rfc3339(at_ms.div_euclid(1000));
        Self {
            memories: stats.memories,
            total_tokens: stats.total_tokens,
            oldest: stats.oldest_ms.map(time),
            newest: stats.newest_ms.map(time),
            sessions: stats.sessions,
            bytes: stats.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_escaped() {
        assert_eq!(escaped("key_1.a~b-c"), "key_1.a~b-c");
        assert_eq!(escaped("a/b?c d"), "a%2Fb%3Fc%20d");
    }
}
