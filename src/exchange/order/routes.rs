//! Who can serve an order: the provider that its model means and those to fall back to, as far as the key allows them.

use super::super::Tenant;
use super::MODEL_BYTES_MAX;
use crate::config::ProviderId;
use crate::error::Fault;
use crate::keys::model_allowed;
use crate::provider::Dialect;
use crate::provider::body::RequestBody;
use crate::provider::routing::Misroute;
use crate::worker::Worker;

/// A provider that can serve the order.
#[derive(Clone, Copy)]
pub(in crate::exchange) struct Route {
    pub(in crate::exchange) provider: ProviderId,
    /// How much comes off the front of the model for it.
    prefix_len: usize,
}

impl Route {
    /// The model's prefix, and the model as it is known there.
    pub(in crate::exchange) fn split<'m>(&self, model: &'m str) -> (&'m str, &'m str) {
        model
            .split_at_checked(self.prefix_len)
            .unwrap_or(("", model))
    }
}

/// The provider that the model means, then those to fall back to.
pub(in crate::exchange) struct Routes {
    pub(in crate::exchange) first: Route,
    fallback: Vec<Route>,
}

impl Routes {
    /// By its place, from the best on.
    pub(in crate::exchange) fn get(&self, place: usize) -> Option<&Route> {
        match place.checked_sub(1) {
            None => Some(&self.first),
            Some(place) => self.fallback.get(place),
        }
    }

    /// Best first.
    pub(in crate::exchange) fn iter(&self) -> impl Iterator<Item = &Route> {
        std::iter::once(&self.first).chain(&self.fallback)
    }
}

/// The provider that the model means, then those to fall back to, as far as they speak the dialect and the key allows
/// the model there. An `unnamed` model is left to OpenAI, which has one of its own for such requests.
pub(super) fn routes(
    model: &str,
    unnamed: bool,
    dialect: Dialect,
    tenant: &Tenant,
    worker: &Worker,
) -> Result<Routes, Fault> {
    let providers = &worker.config.providers;
    let table = &worker.plan.table;
    let misroute = |misroute| match misroute {
        Misroute::OtherDialect(provider) => {
            Fault::WrongDialect(providers.get(ProviderId(provider)).name.clone())
        }
        Misroute::NoProvider => Fault::MissingField("model"),
    };
    let first = if unnamed {
        let openai = providers.find("openai").map(|provider| provider.0);
        let provider = table.without_model(openai).map_err(misroute)?;
        Route {
            provider: ProviderId(provider),
            prefix_len: 0,
        }
    } else {
        let choice = table.choose(model, dialect).map_err(misroute)?;
        Route {
            provider: ProviderId(choice.provider),
            prefix_len: choice.prefix.len(),
        }
    };
    let allowed = |route: &Route| {
        let name = route.split(model).1;
        model_allowed(&tenant.key, &table.prefixes, route.provider.0, name)
    };
    if !allowed(&first) {
        return Err(Fault::ModelNotAllowed {
            model: model.to_owned(),
            allowed: tenant.key.grant.models.clone(),
        });
    }
    let mut fallback = Vec::new();
    for provider in &worker.config.routing.fallback {
        if *provider == first.provider || !providers.get(*provider).speaks(dialect) {
            continue;
        }
        // An aggregator knows models by vendor and name, as the caller wrote them; a vendor by name alone.
        let prefix_len = match *provider == worker.config.routing.default_provider {
            true => 0,
            false => first.prefix_len,
        };
        let route = Route {
            provider: *provider,
            prefix_len,
        };
        if allowed(&route) {
            fallback.push(route);
        }
    }
    Ok(Routes { first, fallback })
}

/// A parser that takes the first of two models would act on the other one, so the key must allow each that is stated;
/// where the path names the model, the body's too.
pub(super) fn check_repeats(
    body: &RequestBody,
    bytes: &[u8],
    model: &str,
    route: &Route,
    tenant: &Tenant,
    worker: &Worker,
) -> Result<(), Fault> {
    if tenant.key.grant.models.is_empty() {
        return Ok(());
    }
    let names = &worker.plan.table.prefixes;
    let others = body.model_repeats.iter().chain(&body.models_besides);
    for repeat in others.chain(&body.model) {
        let stated = repeat.decode(bytes);
        let stated = stated.strip_prefix("models/").unwrap_or(&stated);
        let name = match stated.split_at_checked(route.prefix_len) {
            Some((prefix, name)) if prefix.eq_ignore_ascii_case(route.split(model).0) => name,
            _ => stated,
        };
        if stated != model && !model_allowed(&tenant.key, names, route.provider.0, name) {
            let allowed = tenant.key.grant.models.clone();
            let model = stated.chars().take(MODEL_BYTES_MAX).collect();
            return Err(Fault::ModelNotAllowed { model, allowed });
        }
    }
    Ok(())
}
