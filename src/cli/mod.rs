//! The command line: what each command is called, and what the process answers with.
//!
//! `main` calls `run` and nothing else. Exit codes: 0 good, 1 failed, 2 wrong usage, 78 bad configuration. What a
//! command was asked for goes to stdout, as text or with `--json` as one JSON value; what went wrong goes to stderr.
//! No secret is ever read from an argument, because every user of the machine can read those.

mod admin_client;
mod check;
mod init;
mod keys;
mod memory;
mod providers;
mod secret_input;
mod serve;
mod snapshot;
mod table;
mod usage;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::config::{Config, ConfigError, Location};
use crate::keys::{self as key_files, EditError, KeyFiles, MasterSource, Refusal};
use crate::log;
use crate::secret::is_memory_key;

/// What sysexits.h calls `EX_CONFIG`; service managers can be told not to restart on it.
const EXIT_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(name = "memoryrouter", version, about, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Args)]
pub(crate) struct Global {
    /// Data directory [default: ./data, or where the file of --config is] [variable: MEMORYROUTER_DIR, where neither
    /// --dir nor --config is given]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration file [default: DIR/memoryrouter.toml] [variable: MEMORYROUTER_CONFIG, where neither --dir nor
    /// --config is given]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make a data directory: configuration, master key, empty key snapshot
    Init(init::InitArgs),
    /// Run the router; makes the data directory and a first memory key if there is none yet
    Serve,
    /// Check the configuration and the key snapshot, and tell what would run
    Check,
    /// Make, list and change memory keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Look into, move and empty the memory of a key
    #[command(subcommand)]
    Memory(memory::MemoryCommand),
    /// Store, list and remove provider keys
    #[command(subcommand)]
    Providers(providers::ProvidersCommand),
    /// Check, re-key and move the sealed file
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Show what keys have used: requests, tokens, cost, latency
    Usage(usage::UsageCommand),
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done.
    Failed(String),
    /// It was asked for in a way that makes no sense.
    Usage(String),
    /// The configuration cannot be used.
    Config(String),
}

impl Failure {
    /// It could not be done, for this reason.
    pub(crate) fn failed(reason: impl fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }

    /// The key snapshot cannot be used.
    pub(crate) fn refused(refusal: &Refusal, config: &Config) -> Self {
        let file = &config.keys.snapshot;
        let hint = if file.exists() {
            ""
        } else {
            "; `memoryrouter init` makes one"
        };
        Self::failed(format!("{refusal} ({}){hint}", file.display()))
    }

    /// A change was not made. What was asked for in a form that nothing could have is wrong usage.
    pub(crate) fn not_made(error: EditError, config: &Config) -> Self {
        match error {
            EditError::Invalid(_) | EditError::Token(_) => Self::Usage(error.to_string()),
            EditError::Refused(refusal) => Self::refused(&refusal, config),
            EditError::File(_, error) if !config.keys.snapshot.exists() => {
                Self::refused(&Refusal::File(error), config)
            }
            error => Self::failed(error),
        }
    }

    /// A token in a key's place goes no further: neither to a router nor onto the screen.
    pub(crate) fn unless_id(id: &str) -> Result<(), Self> {
        match is_memory_key(id.as_bytes()) {
            true => Err(Self::failed(format!(
                "no such key: {}",
                key_files::told_id(id)
            ))),
            false => Ok(()),
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => EXIT_CONFIG,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(reason) | Self::Usage(reason) | Self::Config(reason)) = self;
        f.write_str(reason)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl Global {
    /// The data directory and the configuration file.
    pub(crate) fn location(&self) -> Location {
        Location::resolve(self.dir.clone(), self.config.clone(), |name| {
            std::env::var_os(name)
        })
    }

    /// The configuration as it stands in its file.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.location())?)
    }

    /// Where that configuration's keys lie.
    pub(crate) fn key_files(config: &Config) -> KeyFiles {
        KeyFiles {
            snapshot: config.keys.snapshot.clone(),
            master: MasterSource::find(&config.keys.master_key),
        }
    }

    /// Prints a result in the form that was asked for: one JSON value, or a text without its last line break.
    pub(crate) fn show<T: Serialize>(
        &self,
        json: impl FnOnce() -> T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        print(&self.form(json, text)?)
    }

    /// The same for what cannot be shown again: a reader that has gone does not have it.
    pub(crate) fn show_once<T: Serialize>(
        &self,
        json: impl FnOnce() -> T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        write_line(&self.form(json, text)?).map_err(not_written)
    }

    fn form<T: Serialize>(
        &self,
        json: impl FnOnce() -> T,
        text: impl FnOnce() -> String,
    ) -> Result<String, Failure> {
        match self.json {
            true => sonic_rs::to_string(&json()).map_err(Failure::failed),
            false => Ok(text()),
        }
    }
}

/// Writes one text and a line break to stdout. A reader that has gone (`| head`) has what it wanted.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match write_line(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(not_written(error)),
        _ => Ok(()),
    }
}

fn write_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}

fn not_written(error: io::Error) -> Failure {
    Failure::failed(format!("cannot write to stdout: {error}"))
}

/// Reads the arguments, runs the command, and tells how it went.
pub fn run() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // Nothing is left to do if the terminal is gone. Help and version come this way too, with code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let Err(failure) = dispatch(line) else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "memoryrouter: {failure}");
    ExitCode::from(failure.exit_code())
}

fn dispatch(line: CommandLine) -> Result<(), Failure> {
    let CommandLine { global, command } = line;
    if !matches!(command, Some(Command::Serve)) {
        log::init_for_command();
    }
    harden();
    match command {
        None => print(CommandLine::command().render_help().to_string().trim_end()),
        Some(Command::Init(args)) => init::run(&args, &global),
        Some(Command::Serve) => serve::run(&global),
        Some(Command::Check) => check::run(&global),
        Some(Command::Keys(command)) => keys::run(command, &global),
        Some(Command::Memory(command)) => memory::run(command, &global),
        Some(Command::Providers(command)) => providers::run(command, &global),
        Some(Command::Snapshot(command)) => snapshot::run(command, &global),
        Some(Command::Usage(command)) => usage::run(&command, &global),
    }
}

/// Keys are in this process's memory: no core file, no debugger of the same user. A proxy needs two descriptors a
/// connection, and io_uring locked memory for each core, which is more than the usual soft limits. And huge pages, for which the allocator asks, would make an idle
/// router of 3 MiB one of 17. None of it can fail on a system that this runs on, and where it does, going on without is
/// better than not going on.
fn harden() {
    let raise = |limit| getrlimit(limit).and_then(|(_, hard)| setrlimit(limit, hard, hard));
    let limits = [
        setrlimit(Resource::RLIMIT_CORE, 0, 0),
        nix::sys::prctl::set_dumpable(false),
        nix::sys::prctl::set_thp_disable(true),
        raise(Resource::RLIMIT_NOFILE),
        raise(Resource::RLIMIT_MEMLOCK),
    ];
    for error in limits.into_iter().filter_map(Result::err) {
        // The log may not be open yet.
        let _ = writeln!(
            io::stderr(),
            "memoryrouter: a limit could not be set: {error}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn places_can_stand_before_and_behind_the_command() {
        for line in [
            ["memoryrouter", "--dir", "/d", "check"],
            ["memoryrouter", "check", "--dir", "/d"],
        ] {
            let parsed = CommandLine::try_parse_from(line).unwrap();
            assert_eq!(parsed.global.location().dir, PathBuf::from("/d"));
        }
    }

    #[test]
    fn exit_codes() {
        assert_eq!(Failure::failed("x").exit_code(), 1);
        assert_eq!(Failure::Usage("x".into()).exit_code(), 2);
        assert_eq!(Failure::Config("x".into()).exit_code(), 78);
        let wrong = CommandLine::try_parse_from(["memoryrouter", "nope"]);
        assert_eq!(wrong.err().map(|error| error.exit_code()), Some(2));
    }
}
