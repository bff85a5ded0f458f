//! `memoryrouter check`: reads everything that a start would read, starts nothing, and tells what would run.

use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use serde::Serialize;

use super::table::count;
use super::{Failure, Global};
use crate::admin;
use crate::config::{BaseUrl, Config, Listen, Location, TlsFiles};
use crate::keys;
use crate::net::{TlsAcceptor, ca_file_roots};
use crate::usage;

/// Runs the command.
pub(crate) fn run(global: &Global) -> Result<(), Failure> {
    let location = global.location();
    let config = global.config()?;
    // What only the files beside it show to be wrong stands in no line of its own, but in this file.
    let wrong = |why| Failure::Config(format!("{}: {why}", location.file.display()));
    certificates(&config).map_err(wrong)?;
    places(&config).map_err(wrong)?;
    let snapshot = SnapshotRow::inspect(&config)?;
    admin_token(&config)?;
    global.show(
        || Report::new(&config, &location, &snapshot),
        || as_text(&config, &location, &snapshot),
    )
}

/// Certificates are named in the configuration, so a wrong one is a wrong configuration.
fn certificates(config: &Config) -> Result<(), String> {
    let pairs = [
        ("server.tls", &config.server.tls),
        ("admin.tls", &config.admin.tls),
    ];
    for (setting, files) in pairs {
        if let Some(files) = files {
            TlsAcceptor::from_files(&files.cert, &files.key)
                .map_err(|error| format!("{setting}: {error}"))?;
        }
    }
    for (_, provider) in config.providers.iter() {
        if let Some(ca) = &provider.ca {
            ca_file_roots(ca)
                .map_err(|error| format!("providers.{}.ca: {error}", provider.name))?;
        }
    }
    Ok(())
}

/// Whether sockets and stores can be where the configuration has them.
fn places(config: &Config) -> Result<(), String> {
    let listens = config.server.listen.iter();
    let listens = listens.map(|listen| ("server.listen", listen));
    let admin = config.admin.listen.iter();
    for (setting, listen) in listens.chain(admin.map(|listen| ("admin.listen", listen))) {
        let Listen::Unix(path) = listen else { continue };
        let is_socket = |found: &Metadata| found.file_type().is_socket();
        in_directory(path)
            .and_then(|()| match path.symlink_metadata() {
                Ok(found) if !is_socket(&found) => Err("it is there and is no socket".to_owned()),
                _ => Ok(()),
            })
            .map_err(|why| format!("{setting}: cannot listen on {listen}: {why}"))?;
    }
    // The port that is used where none is named is nobody's slip in the file's own words.
    if let Some(admin) = &config.admin.listen
        && config
            .server
            .listen
            .iter()
            .any(|listen| listen.overlaps(admin))
    {
        return Err(format!("admin.listen: {admin} is already in server.listen"));
    }
    let usage = usage::file(&config.dir);
    for (setting, path) in [("memory.path: ", &config.memory.path), ("", &usage)] {
        in_directory(path)
            .and_then(|()| match path.metadata() {
                Ok(found) if !found.is_file() => Err("is not a regular file".to_owned()),
                _ => Ok(()),
            })
            .map_err(|why| format!("{setting}{}: {why}", path.display()))?;
    }
    Ok(())
}

fn in_directory(path: &Path) -> Result<(), String> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(format!("there is no directory {}", parent.display()))
        }
        _ => Ok(()),
    }
}

/// Reads the admin token as a start would; where there is none, that makes one.
fn admin_token(config: &Config) -> Result<(), Failure> {
    let exists = config.dir.join(admin::TOKEN_FILE_NAME).exists();
    if config.admin.listen.is_some() && exists {
        admin::read_token(&config.dir).map_err(Failure::failed)?;
    }
    Ok(())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    config: String,
    dir: String,
    listen: Vec<String>,
    tls: bool,
    /// None where it is off.
    admin: Option<String>,
    admin_tls: bool,
    workers: usize,
    providers: Vec<ProviderRow<'a>>,
    routing: RoutingRow<'a>,
    snapshot: &'a SnapshotRow,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct ProviderRow<'a> {
    name: &'a str,
    kind: &'static str,
    dialects: Vec<&'static str>,
    base_urls: Vec<String>,
}

#[derive(Serialize)]
struct RoutingRow<'a> {
    default_provider: &'a str,
    fallback: Vec<&'a str>,
    attempts: u32,
}

#[derive(Serialize)]
struct SnapshotRow {
    file: String,
    generation: u64,
    memory_keys: usize,
    provider_keys: usize,
}

impl SnapshotRow {
    /// Opens the snapshot like a start does. One that does not open is no fault of the configuration.
    fn inspect(config: &Config) -> Result<Self, Failure> {
        let file = config.keys.snapshot.display().to_string();
        let files = Global::key_files(config);
        let inspected = keys::inspect_for_use(&files, &files);
        let (header, contents) = inspected.map_err(|refusal| Failure::refused(&refusal, config))?;
        Ok(Self {
            file,
            generation: header.generation,
            memory_keys: contents.keys.len(),
            provider_keys: contents.provider_keys.values().map(Vec::len).sum(),
        })
    }
}

impl<'a> Report<'a> {
    fn new(config: &'a Config, location: &Location, snapshot: &'a SnapshotRow) -> Self {
        let name = |id| config.providers.get(id).name.as_str();
        let listen = config.server.listen.iter().map(ToString::to_string);
        let providers = config.providers.iter().map(|(_, provider)| ProviderRow {
            name: &provider.name,
            kind: provider.kind_name(),
            dialects: provider.dialect_names().collect(),
            base_urls: provider.base_urls.iter().map(BaseUrl::to_string).collect(),
        });
        Self {
            config: location.file.display().to_string(),
            dir: config.dir.display().to_string(),
            listen: listen.collect(),
            tls: config.server.tls.is_some(),
            admin: config.admin.listen.as_ref().map(ToString::to_string),
            admin_tls: config.admin.tls.is_some(),
            workers: config.server.workers_count(),
            providers: providers.collect(),
            routing: RoutingRow {
                default_provider: name(config.routing.default_provider),
                fallback: config.routing.fallback.iter().copied().map(name).collect(),
                attempts: config.routing.attempts,
            },
            snapshot,
            warnings: config.warnings(),
        }
    }
}

fn as_text(config: &Config, location: &Location, snapshot: &SnapshotRow) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<16}{value}");
    };
    let file = location.file.display().to_string();
    let absent = if location.file.exists() {
        ""
    } else {
        " (absent: everything at its default)"
    };
    row("configuration", &(file + absent));
    let shown = |listen: &Listen, tls: &Option<TlsFiles>| match (listen, tls) {
        (Listen::Tcp(address), Some(_)) => format!("{address} (TLS)"),
        _ => listen.to_string(),
    };
    for listen in &config.server.listen {
        row("listen", &shown(listen, &config.server.tls));
    }
    let admin = config.admin.listen.as_ref();
    let admin = admin.map(|listen| shown(listen, &config.admin.tls));
    row("admin port", admin.as_deref().unwrap_or("off"));
    row("workers", &config.server.workers_count().to_string());
    row(
        "key snapshot",
        &format!(
            "{}: generation {}, {}, {}",
            snapshot.file,
            snapshot.generation,
            count(snapshot.memory_keys as u64, "memory key", "memory keys"),
            count(
                snapshot.provider_keys as u64,
                "provider key",
                "provider keys"
            ),
        ),
    );
    for (_, provider) in config.providers.iter() {
        let urls: Vec<_> = provider.base_urls.iter().map(BaseUrl::to_string).collect();
        let urls = match urls.as_slice() {
            [] if provider.name == crate::config::DEMO => "built in, for trying out".to_owned(),
            [] => "without base_url, cannot be used".to_owned(),
            urls => urls.join(" "),
        };
        row("provider", &format!("{:<12}{urls}", provider.name));
    }
    let name = |id| config.providers.get(id).name.as_str();
    row("default", name(config.routing.default_provider));
    for fallback in &config.routing.fallback {
        row("fallback", name(*fallback));
    }
    for warning in config.warnings() {
        row("warning", &warning);
    }
    text.truncate(text.trim_end().len());
    text
}
