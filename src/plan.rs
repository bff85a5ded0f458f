//! The configuration turned into what a request asks for: which provider a model means, and where that provider is.
//!
//! `server` makes the connectors (reading certificate files) and a plan per core, anew with each reload; `exchange`
//! reads it. Origins are counted here, so that a connection pool can be an array.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{self, Config, Provider, ProviderId};
use crate::net::{TlsConnector, TlsFileError, ca_file_roots, system_roots};
use crate::provider::routing::Table;
use crate::provider::upstream_form::AzureForm;
use crate::upstream::{Origin, OriginId};

/// A provider setting that cannot work.
#[derive(Debug)]
pub enum PlanError {
    /// A CA file.
    CaFile(TlsFileError),
    /// TLS itself.
    Tls(io::Error),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaFile(error) => write!(f, "provider CA file {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
        }
    }
}

/// TLS toward providers: one connector for the system's roots, one for each configured CA file.
#[derive(Clone)]
pub struct Connectors {
    system: TlsConnector,
    by_ca: BTreeMap<PathBuf, TlsConnector>,
}

impl Connectors {
    /// Reads all certificates that the configuration names.
    pub fn new(config: &Config) -> Result<Self, PlanError> {
        let system = TlsConnector::new(system_roots()).map_err(PlanError::Tls)?;
        let mut by_ca = BTreeMap::new();
        for ca in config
            .providers
            .iter()
            .filter_map(|(_, provider)| provider.ca.as_ref())
        {
            let roots = ca_file_roots(ca).map_err(PlanError::CaFile)?;
            by_ca.insert(
                ca.clone(),
                TlsConnector::new(roots).map_err(PlanError::Tls)?,
            );
        }
        Ok(Self { system, by_ca })
    }

    fn of(&self, provider: &Provider) -> TlsConnector {
        let own = provider.ca.as_ref().and_then(|ca| self.by_ca.get(ca));
        own.unwrap_or(&self.system).clone()
    }
}

/// One address of a provider.
pub struct Base {
    /// Where to dial.
    pub origin: OriginId,
    /// For the Host field.
    pub authority: String,
    /// What stands before the endpoint's path.
    pub path: String,
}

/// One core's plan.
pub struct Plan {
    /// Model to provider.
    pub table: Table,
    names: Vec<Arc<str>>,
    azure: Vec<Option<Azure>>,
    origins: Rc<[Origin]>,
    bases: Vec<Bases>,
}

struct Bases {
    list: Vec<Base>,
    turn: Cell<usize>,
}

impl Plan {
    /// Lays the configuration out.
    pub fn new(config: &Config, connectors: &Connectors) -> Self {
        let mut origins = Vec::new();
        let mut bases = Vec::new();
        for (_, provider) in config.providers.iter() {
            let mut list = Vec::new();
            for url in &provider.base_urls {
                let tls = url.tls.then(|| connectors.of(provider));
                list.push(Base {
                    origin: OriginId(origins.len()),
                    authority: url.authority.clone(),
                    path: url.path.clone(),
                });
                origins.push(Origin {
                    host: url.host.clone(),
                    port: url.port,
                    tls,
                });
            }
            bases.push(Bases {
                list,
                turn: Cell::new(0),
            });
        }
        let azure = config
            .providers
            .iter()
            .map(|(_, provider)| provider.azure.as_ref().map(Azure::new))
            .collect();
        Self {
            table: config.routing.table(&config.providers),
            names: config
                .providers
                .iter()
                .map(|(_, provider)| provider.name.as_str().into())
                .collect(),
            azure,
            origins: origins.into(),
            bases,
        }
    }

    /// A provider's name, to be kept.
    pub fn name(&self, provider: ProviderId) -> Arc<str> {
        self.names[provider.0].clone()
    }

    /// What Azure's addresses hold besides the base.
    pub fn azure(&self, provider: ProviderId) -> Option<AzureForm<'_>> {
        self.azure[provider.0].as_ref().map(Azure::form)
    }

    /// Every origin, in the order of their ids.
    pub fn origins(&self) -> Rc<[Origin]> {
        self.origins.clone()
    }

    /// A provider's addresses, starting with the one whose turn it is; those that are down come last.
    pub fn bases_in_turn(
        &self,
        provider: ProviderId,
        is_down: impl Fn(OriginId) -> bool,
    ) -> InTurn<'_> {
        let Bases { list, turn } = &self.bases[provider.0];
        let first = turn.get();
        turn.set(if first + 1 < list.len() { first + 1 } else { 0 });
        // As they are now: one that fails while its turn is taken does not get another. Beyond 64 none is put last.
        let bits = list.iter().take(64).enumerate();
        let down = match list.len() {
            1 => 0,
            _ => bits.fold(0_u64, |down, (at, base)| {
                down | u64::from(is_down(base.origin)) << at
            }),
        };
        InTurn {
            list,
            first,
            down,
            passed: 0,
        }
    }
}

/// A provider's addresses in the order in which they are asked.
pub struct InTurn<'a> {
    list: &'a [Base],
    first: usize,
    /// A bit for each of the first 64.
    down: u64,
    /// How many were looked at: all of them for those that are up, then all for those that are down.
    passed: usize,
}

impl<'a> Iterator for InTurn<'a> {
    type Item = &'a Base;

    fn next(&mut self) -> Option<&'a Base> {
        let count = self.list.len();
        while self.passed < 2 * count {
            let last = self.passed >= count;
            let at = self.first + self.passed - if last { count } else { 0 };
            let at = at - if at >= count { count } else { 0 };
            self.passed += 1;
            if (self.down.checked_shr(at as u32).unwrap_or(0) & 1 == 1) == last {
                return Some(&self.list[at]);
            }
        }
        None
    }
}

struct Azure {
    deployments: Vec<(String, String)>,
    deployment: Option<String>,
    api_version: String,
}

impl Azure {
    fn new(configured: &config::Azure) -> Self {
        let deployments = configured.deployments.clone().into_iter().collect();
        let config::Azure {
            deployment,
            api_version,
            ..
        } = configured.clone();
        Self {
            deployments,
            deployment,
            api_version,
        }
    }

    fn form(&self) -> AzureForm<'_> {
        AzureForm {
            deployments: &self.deployments,
            deployment: self.deployment.as_deref(),
            api_version: &self.api_version,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn addresses_take_turns_and_those_that_are_down_come_last() {
        let dir = Path::new("/");
        let text = "providers.openai.base_url = [\"http://a\", \"http://b\", \"http://c\"]";
        let config = Config::parse(text, Path::new("t.toml"), dir).unwrap();
        let plan = Plan::new(&config, &Connectors::new(&config).unwrap());
        let provider = config.providers.find("openai").unwrap();
        let order = |down: &[&str]| {
            let origins = plan.origins();
            let is_down = |origin: OriginId| down.contains(&origins[origin.0].host.as_str());
            let bases = plan.bases_in_turn(provider, is_down);
            bases
                .map(|base| base.authority.as_str())
                .collect::<String>()
        };
        let turns: Vec<_> = (0..4).map(|_| order(&[])).collect();
        assert_eq!(turns, ["abc", "bca", "cab", "abc"]);
        let turns: Vec<_> = (0..3).map(|_| order(&["b"])).collect();
        assert_eq!(turns, ["cab", "cab", "acb"]);
        assert_eq!(order(&["a", "b", "c"]), "bca");
    }
}
