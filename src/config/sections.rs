//! Each section of the file: its keys, their bounds, and each default with its reason.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;
use tracing::level_filters::LevelFilter;

use super::base_url::BaseUrl;
use super::embeddings;
use super::file::PRICES_FILE_NAME;
use super::own_files;
use super::providers::Providers;
use super::reader::{
    Problem, Report, Section, Value, Wrong, boolean, count, one_or_many, parsed, word,
};
use super::routing::Routing;
use super::units::{bytes, duration};
use super::{
    Admin, Config, Cors, Demo, ErrorFormat, Errors, Keys, Limits, Listen, Log, LogFormat, Memory,
    Metrics, Otlp, Server, Timeouts, TlsFiles, Usage,
};
use super::{STREAM_USAGE, StreamUsage};
use crate::catalogue::Catalogue;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// No wait is shorter: below it, an ordinary pause of a loaded machine would count as a failure.
const SHORTEST: Duration = Duration::from_millis(10);
/// No wait is longer: a connection that is silent for a week is gone.
const LONGEST: Duration = Duration::from_hours(7 * 24);

const LEVELS: &[(&str, LevelFilter)] = &[
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Reads the whole file. Where it is wrong the default stands in, and the problem is in the list.
pub(super) fn read(text: &str, dir: &Path) -> (Config, Vec<Problem>) {
    let report = Report::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = error.span().map_or(0, |span| span.start);
        report.add(place, String::new(), error.message());
    }
    // After an error of syntax the rest of the file is guesswork, and so would be what is said about it.
    let empty = DeTable::new();
    let table = if errors.is_empty() {
        document.get_ref()
    } else {
        &empty
    };
    let mut root = Section::root(&report, table);
    let config = read_root(&mut root, dir);
    root.finish();
    for clash in own_files::clashes(&config) {
        let settings = clash.settings.into_iter().flatten();
        let mut places = settings.map(|setting| (place_of(setting, table), setting));
        // One of the two stands in the file, or there would be no clash.
        if let Some((Some(place), setting)) = places.find(|(place, _)| place.is_some()) {
            report.add(place, setting.to_owned(), clash.what);
        }
    }
    (config, report.finish())
}

/// Where a setting stands, if it does.
fn place_of(setting: &str, table: &DeTable<'_>) -> Option<usize> {
    let (section, key) = setting.split_once('.')?;
    let (_, section) = table.iter().find(|(name, _)| name.get_ref() == section)?;
    let mut keys = section.get_ref().as_table()?.iter();
    let (name, _) = keys.find(|(name, _)| name.get_ref() == key)?;
    Some(name.span().start)
}

fn read_root(root: &mut Section<'_>, dir: &Path) -> Config {
    let server = root.section("server", |section| read_server(section, dir));
    let admin = root.section("admin", |section| read_admin(section, dir, &server));
    let demo = root.section("demo", |section| Demo {
        // A provider that invents answers: only where someone asked for it.
        enabled: section.value("enabled", false, boolean),
    });
    let mut providers = root.section("providers", |section| Providers::read(section, dir));
    if demo.enabled {
        providers.add_demo();
    }
    let routing = root.section("routing", |section| Routing::read(section, &providers));
    let mut config = Config {
        dir: dir.to_owned(),
        server,
        admin,
        keys: root.section("keys", |section| read_keys(section, dir)),
        limits: root.section("limits", read_limits),
        timeouts: root.section("timeouts", read_timeouts),
        providers,
        routing,
        memory: root.section("memory", |section| read_memory(section, dir)),
        usage: root.section("usage", |section| read_usage(section, dir)),
        metrics: root.section("metrics", |section| Metrics {
            // Thousands of keys would be thousands of series in whoever stores them.
            keys: section.value("keys", false, boolean),
        }),
        otlp: root.section("otlp", |section| Otlp {
            // Nothing is sent anywhere that nobody asked for.
            endpoint: section.optional("endpoint", parsed(collector)),
        }),
        errors: root.section("errors", |section| {
            const FORMATS: &[(&str, ErrorFormat)] = &[
                ("plain", ErrorFormat::Plain),
                ("dialect", ErrorFormat::Dialect),
            ];
            Errors {
                // One form on every endpoint, the shortest to read.
                format: section.value("format", ErrorFormat::Plain, word(FORMATS)),
            }
        }),
        cors: root.section("cors", |section| Cors {
            // Keys do not belong into web pages, so browsers are let in only by name.
            origins: section.value("origins", Vec::new(), one_or_many(parsed(web_origin))),
        }),
        log: root.section("log", read_log),
        demo,
        catalogue: Catalogue::default(),
        prices: Arc::default(),
    };
    // What is built in parses, and there is nothing else yet.
    config.catalogue = config.catalogue("").unwrap_or_default();
    config
}

fn read_server(section: &mut Section<'_>, dir: &Path) -> Server {
    // Loopback, because nothing is reachable from outside before someone decides so.
    let local = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)));
    let server = Server {
        listen: section.value("listen", vec![local], |value| listen_list(value, dir)),
        // One per core: a worker never waits for another, and more of them would only share the cores.
        workers: section.value("workers", 0, count(0, 1024)),
        tls: None,
    };
    Server {
        tls: read_tls(section, dir),
        ..server
    }
}

fn read_tls(section: &mut Section<'_>, dir: &Path) -> Option<TlsFiles> {
    let tls = section.optional_section("tls", |section| {
        let file = parsed(|text| path(text, dir));
        let cert = section.optional("cert", &file);
        let key = section.optional("key", &file);
        if cert.is_none() || key.is_none() {
            section.wrong("needs both `cert` and `key`");
        }
        Some(TlsFiles {
            cert: cert?,
            key: key?,
        })
    });
    tls.flatten()
}

fn read_admin(section: &mut Section<'_>, dir: &Path, server: &Server) -> Admin {
    // Loopback, as it holds the operator's power.
    let local = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 9090)));
    let own = |text: &str| {
        if text == "off" {
            return Ok(None);
        }
        let listen = Listen::parse(text, dir)?;
        if let Some(other) = server.listen.iter().find(|other| other.overlaps(&listen)) {
            return Err(format!("{text} is already in server.listen, as {other}"));
        }
        Ok(Some(listen))
    };
    Admin {
        listen: section.value("listen", Some(local), parsed(own)),
        // A page of any other name that leads here is not the operator's.
        hosts: section.value("hosts", Vec::new(), one_or_many(parsed(host_name))),
        tls: read_tls(section, dir),
    }
}

fn read_keys(section: &mut Section<'_>, dir: &Path) -> Keys {
    let file = |text: &str| path(text, dir);
    Keys {
        // Both inside the data directory, so that a backup of it is whole.
        snapshot: section.value("snapshot", dir.join("keys.snapshot"), parsed(file)),
        master_key: section.value("master_key", dir.join("master.key"), parsed(file)),
    }
}

fn read_limits(section: &mut Section<'_>) -> Limits {
    Limits {
        // Twice what browsers and SDKs ever send with cookies and long tokens.
        head_bytes_max: section.value("head_bytes", 64 * KIB, bytes(KIB, MIB)),
        // SDKs send 15 to 25; proxies in front add some.
        headers_max: section.value("headers", 100, count(16, 1000)),
        // Paths are short; room for a query with a long pass-through key.
        target_bytes_max: section.value("target_bytes", 16 * KIB, bytes(256, MIB)),
        // Agents send whole histories with images: 30 MiB must pass.
        body_bytes_max: section.value("body_bytes", 32 * MIB, bytes(KIB, GIB)),
        // Each holds a body and two connections; beyond this a core is not serving but collecting.
        in_flight_max: section.value("in_flight", 16_384, count(1, 1_000_000)),
        // At under 1 KiB for an idle one, 64 MiB at the very most.
        connections_max: section.value("connections", 65_536, count(1, 10_000_000)),
        // Enough for a busy worker to never dial in a steady state.
        upstream_idle_per_origin_max: section.value("upstream_idle", 256, count(0, 65_536)),
        // An application with an old key retries a few times a minute; whoever guesses wants thousands.
        auth_failures_max: section.value("auth_failures", 60, count(0, 1_000_000)) as u32,
    }
}

fn read_timeouts(section: &mut Section<'_>) -> Timeouts {
    let secs = Duration::from_secs;
    let wait = || duration(SHORTEST, LONGEST);
    Timeouts {
        // A head is one packet; slower ones are mobile networks, or an attempt to hold connections open.
        head: section.value("head", secs(10), wait()),
        // A pause inside an upload; the whole may take as long as it needs.
        body_idle: section.value("body_idle", secs(30), wait()),
        // Above the minute after which most load balancers in front close, so that it is they who do.
        keepalive: section.value("keepalive", secs(75), wait()),
        // A provider that is up answers within one; a lost packet costs one or three more.
        connect: section.value("connect", secs(5), wait()),
        // Reasoning models think for minutes before the first byte; SDKs wait 10 minutes too.
        first_byte: section.value("first_byte", secs(600), wait()),
        // The same between two events of a stream.
        stream_idle: section.value("stream_idle", secs(600), wait()),
        // Long enough for most running answers, shorter than what service managers grant (90 s).
        drain: section.value("drain", secs(60), duration(Duration::ZERO, LONGEST)),
        // As long as an idle connection's keep-alive probes take to tell the same.
        unacknowledged: section.value("unacknowledged", secs(30), wait()),
        // Below what providers use (from 60 s on), so that it is we who close.
        upstream_idle: section.value("upstream_idle", secs(30), wait()),
    }
}

fn read_memory(section: &mut Section<'_>, dir: &Path) -> Memory {
    const DAY: Duration = Duration::from_hours(24);
    let file = |text: &str| path(text, dir);
    Memory {
        // The reason why the product exists.
        enabled: section.value("enabled", true, boolean),
        // Beside the keys, so that a backup of the directory is whole.
        path: section.value("path", dir.join("memory.redb"), parsed(file)),
        // Some 300,000 memories of a few sentences: more than are asked for at once on most machines.
        hot_bytes: section.value("hot_bytes", 256 * MIB, bytes(MIB, 1024 * GIB)),
        // A vault of 10,000 memories loads in a third of that; nobody notices it before an answer of seconds.
        recall_timeout: section.value(
            "recall_timeout",
            Duration::from_millis(150),
            duration(SHORTEST, Duration::from_mins(1)),
        ),
        // What somebody said stays until somebody says otherwise.
        retention: section.optional("retention", duration(DAY, 36_500 * DAY)),
        // What a model reads without being led away from the question, at a price that nobody notices.
        tokens_max: section.value("tokens_max", 1000, count(0, 100_000)),
        // More than these never fit into the tokens above.
        limit: section.value("limit", 30, count(0, 1000)),
        // Nothing leaves the machine before somebody says where to.
        embeddings: section
            .optional_section("embeddings", embeddings::read)
            .flatten(),
    }
}

fn read_usage(section: &mut Section<'_>, dir: &Path) -> Usage {
    const DAY: Duration = Duration::from_hours(24);
    Usage {
        // A year's comparison with the month before it.
        retention: section.value("retention", 400 * DAY, duration(DAY, 36_500 * DAY)),
        // A week by the hour is what one looks at after an incident; beyond that a row a day is enough.
        compact_after: section.value("compact_after", 7 * DAY, duration(DAY, 400 * DAY)),
        // What is billed must be what was used.
        stream: section.value("stream", StreamUsage::Exact, word(STREAM_USAGE)),
        // Beside the configuration, since both are the operator's to write.
        prices: section.value(
            "prices",
            dir.join(PRICES_FILE_NAME),
            parsed(|text| path(text, dir)),
        ),
    }
}

fn read_log(section: &mut Section<'_>) -> Log {
    const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        // The first reader is a person at a terminal.
        format: section.value("format", LogFormat::Text, word(FORMATS)),
        // What an operator acts on; `debug` is for hunting.
        level: section.value("level", LevelFilter::INFO, word(LEVELS)),
        // Without it nothing tells what a caller met.
        access: section.value("access", true, boolean),
        // Every one; who serves thousands a second may want fewer. What failed always has its line.
        sample: section.value("sample", 1, count(1, 1_000_000)),
    }
}

/// A file or directory; relative ones start from the data directory.
pub(super) fn path(text: &str, dir: &Path) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("expected the path of a file".into());
    }
    Ok(dir.join(text))
}

fn listen_list<'a>(value: &'a Value<'a>, dir: &Path) -> Result<Vec<Listen>, Wrong> {
    let all = one_or_many(parsed(|text| Listen::parse(text, dir)))(value)?;
    if all.is_empty() {
        return Err("needs at least one address".into());
    }
    for (index, listen) in all.iter().enumerate() {
        let mut before = all[..index].iter();
        if let Some(other) = before.find(|other| other.overlaps(listen)) {
            return Err(format!("{listen} stands here twice, as {other}").into());
        }
    }
    Ok(all)
}

/// A collector's address.
fn collector(text: &str) -> Result<BaseUrl, String> {
    BaseUrl::parse(text)
        .map_err(|_| format!("{text:?} is no address; write \"http://127.0.0.1:4318\""))
}

/// A host without port, or an IPv6 address without brackets.
fn host_name(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(address.to_string());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(format!(
            "{text:?} is no host; write \"router.example.com\", without scheme and port"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// An origin as browsers send it in `Origin`: scheme, host in lower case, port unless it is the scheme's own.
fn web_origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let wrong = || format!("{text:?} is no origin; write \"https://app.example.com\" or \"*\"");
    let url = BaseUrl::parse(text).map_err(|_| wrong())?;
    if !url.path.is_empty() || text.ends_with('/') {
        return Err(wrong());
    }
    Ok(url.to_string())
}
