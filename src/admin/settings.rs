//! The configuration as it runs, and what can be changed of it while it runs: what is logged.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use sonic_rs::{Value, json};
use tracing::level_filters::LevelFilter;

use super::answer::{Answer, Denial};
use super::desk::Desk;
use super::request::Request;
use crate::audit::{self, Who};
use crate::config::{Config, ErrorFormat, Log, LogFormat, StreamUsage, written};
use crate::log;

/// `GET /config`. Paths stand in it; secrets do not even stand in the configuration.
pub(super) fn config(desk: &Desk) -> Answer {
    Answer::json(&shown(&desk.config()))
}

fn stream_usage_name(usage: StreamUsage) -> &'static str {
    match usage {
        StreamUsage::Exact => "exact",
        StreamUsage::Estimate => "estimate",
    }
}

fn texts(all: impl IntoIterator<Item = impl Display>) -> Vec<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

/// The file's sections, each with its keys.
fn shown(config: &Config) -> Value {
    let (limits, timeouts, memory) = (&config.limits, &config.timeouts, &config.memory);
    let name_of = |id| config.providers.get(id).name.clone();
    let mut providers = Value::new_object();
    for (_, provider) in config.providers.iter() {
        let mut about = json!({
            "kind": provider.kind_name(),
            "base_url": texts(&provider.base_urls),
            "dialects": texts(provider.dialect_names()),
            "aliases": provider.aliases.clone(),
            "usage": stream_usage_name(provider.usage),
            "ca": provider.ca.as_ref().map(|ca| ca.display().to_string()),
        });
        if let Some(azure) = &provider.azure {
            about["deployment"] = json!(azure.deployment.clone());
            about["deployments"] = json!(azure.deployments.clone());
            about["api_version"] = json!(azure.api_version.clone());
        }
        providers[provider.name.as_str()] = about;
    }
    let off = || "off".to_owned();
    json!({
        "dir": config.dir.display().to_string(),
        "sections": {
            "server": {
                "listen": texts(&config.server.listen),
                "workers": config.server.workers_count(),
                "tls": config.server.tls.is_some(),
            },
            "admin": {
                "listen": config.admin.listen.as_ref().map_or_else(off, ToString::to_string),
                "hosts": config.admin.hosts.clone(),
                "tls": config.admin.tls.is_some(),
            },
            "keys": {
                "snapshot": config.keys.snapshot.display().to_string(),
                "master_key": config.keys.master_key.display().to_string(),
            },
            "limits": {
                "head_bytes": limits.head_bytes_max,
                "headers": limits.headers_max,
                "target_bytes": limits.target_bytes_max,
                "body_bytes": limits.body_bytes_max,
                "connections": limits.connections_max,
                "in_flight": limits.in_flight_max,
                "auth_failures": limits.auth_failures_max,
                "upstream_idle": limits.upstream_idle_per_origin_max,
            },
            "timeouts": {
                "head": written(timeouts.head),
                "body_idle": written(timeouts.body_idle),
                "keepalive": written(timeouts.keepalive),
                "connect": written(timeouts.connect),
                "first_byte": written(timeouts.first_byte),
                "unacknowledged": written(timeouts.unacknowledged),
                "stream_idle": written(timeouts.stream_idle),
                "drain": written(timeouts.drain),
                "upstream_idle": written(timeouts.upstream_idle),
            },
            "providers": providers,
            "routing": {
                "default_provider": name_of(config.routing.default_provider),
                "fallback": config.routing.fallback.iter().map(|id| name_of(*id)).collect::<Vec<_>>(),
                "attempts": config.routing.attempts,
                // In their order: the first match wins.
                "patterns": config.routing.patterns.iter()
                    .map(|(pattern, id)| format!("{pattern} = {}", name_of(*id))).collect::<Vec<_>>(),
            },
            "memory": {
                "enabled": memory.enabled,
                "path": memory.path.display().to_string(),
                "hot_bytes": memory.hot_bytes,
                "recall_timeout": written(memory.recall_timeout),
                "retention": memory.retention.map(written),
                "tokens_max": memory.tokens_max,
                "limit": memory.limit,
                "embeddings": memory.embeddings.as_ref().map(|it| json!({
                    "base_url": it.base_url.to_string(),
                    "model": it.model.clone(),
                    "key_env": it.key_env.clone(),
                    "deadline": written(it.deadline),
                })),
            },
            "usage": {
                "retention": written(config.usage.retention),
                "compact_after": written(config.usage.compact_after),
                "prices": config.usage.prices.display().to_string(),
                "stream": stream_usage_name(config.usage.stream),
            },
            "errors": {
                "format": match config.errors.format {
                    ErrorFormat::Plain => "plain",
                    ErrorFormat::Dialect => "dialect",
                },
            },
            "cors": { "origins": config.cors.origins.clone() },
            "otlp": { "endpoint": config.otlp.endpoint.as_ref().map(ToString::to_string) },
            "metrics": { "keys": config.metrics.keys },
            "demo": { "enabled": config.demo.enabled },
        },
    })
}

#[derive(Serialize)]
struct ShownLog {
    level: String,
    access: bool,
    sample: usize,
    format: &'static str,
    dropped: u64,
}

/// What is logged; where nothing is, because this process keeps no log of its own, that it is off.
fn current() -> ShownLog {
    let settings = log::settings();
    let settings = settings.as_ref();
    ShownLog {
        level: settings.map_or_else(|| "off".to_owned(), |log| log.level.to_string()),
        access: settings.is_some_and(|log| log.access),
        sample: settings.map_or(1, |log| log.sample),
        format: match settings.map(|log| log.format) {
            Some(LogFormat::Json) => "json",
            _ => "text",
        },
        dropped: log::dropped(),
    }
}

/// `GET /log`.
pub(super) fn log() -> Answer {
    Answer::json(&current())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    level: Option<String>,
    access: Option<bool>,
    sample: Option<usize>,
}

/// `PUT /log`: until the next start, or the next reading of the configuration.
pub(super) async fn set_log(desk: &Desk, request: &Request, who: Who) -> Result<Answer, Denial> {
    const SAMPLE_MAX: usize = 1_000_000;
    let wish: Wish = request.json()?;
    let before = log::settings().unwrap_or_else(|| desk.config().log.clone());
    let level = match wish.level {
        None => before.level,
        Some(word) => level(&word)?,
    };
    let sample = wish.sample.unwrap_or(before.sample);
    if !(1..=SAMPLE_MAX).contains(&sample) {
        return Err(Denial::odd(format!("sample: from 1 to {SAMPLE_MAX}")));
    }
    let access = wish.access.unwrap_or(before.access);
    log::change(&Log {
        level,
        sample,
        access,
        ..before
    });
    let dir = desk.config().dir.clone();
    let (level, access, sample) = (level.to_string(), access.to_string(), sample.to_string());
    let write = move || {
        let about = [
            ("level", &*level),
            ("access", &*access),
            ("sample", &*sample),
        ];
        audit::append(&dir, &who, "log changed", &about);
    };
    desk.blocking.run(write).await?;
    Ok(log())
}

fn level(word: &str) -> Result<LevelFilter, Denial> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = levels.contains(&word).then(|| word.parse().ok()).flatten();
    known.ok_or_else(|| Denial::odd(format!("level: one of {}", levels.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sonic_rs::JsonValueTrait as _;

    use super::*;

    #[test]
    fn what_steers_requests_is_shown() {
        let text = "[providers.mine]\nbase_url = \"https://mine.example/v1\"\naliases = [\"my\"]\nca = \"mine.pem\"\n\
            [providers.azure]\nbase_url = \"https://me.openai.azure.com\"\ndeployments = { \"gpt-4o\" = \"four\" }\n\
            [routing.patterns]\n\"my-*\" = \"mine\"\n";
        let config = Config::parse(text, Path::new("mr.toml"), Path::new("/data")).unwrap();
        let shown = shown(&config);
        let sections = &shown["sections"];
        let mine = &sections["providers"]["mine"];
        assert_eq!(mine["aliases"], ["my"]);
        assert_eq!(mine["dialects"], ["openai"]);
        assert_eq!(mine["ca"], "/data/mine.pem");
        let azure = &sections["providers"]["azure"];
        assert_eq!(azure["deployments"]["gpt-4o"], "four");
        assert!(!azure["api_version"].as_str().unwrap().is_empty());
        let patterns = &sections["routing"]["patterns"];
        assert_eq!(patterns[0], "my-* = mine");
        assert!(patterns.to_string().contains("\"claude* = anthropic\""));
    }
}
