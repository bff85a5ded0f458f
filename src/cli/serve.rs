//! `memoryrouter serve`: runs the router until a signal ends it.
//!
//! SIGTERM and SIGINT drain, a second one of them ends at once; SIGHUP reads key snapshot, configuration and
//! certificates anew; SIGUSR2 starts the program once more on the same sockets and drains once that accepts. Where
//! there is no data directory yet, one is made, with a memory key that is printed once and a command line that works as
//! it stands.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, process, thread};

use sd_notify::NotifyState;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::{Failure, Global, init};
use crate::admin::{self, Port};
use crate::audit::{self, Who};
use crate::config::{Config, Location};
use crate::demo;
use crate::keys::{self, KeyStore, NewKey, Reload, WatchGuard};
use crate::log::{self, LogGuard};
use crate::net::{self, BoundAddr};
use crate::secret::Secret;
use crate::server::{self, Control, Running, StartError};

/// How long a start waits for a descriptor, and between two looks for one.
const DESCRIPTORS_TIMEOUT: Duration = Duration::from_secs(5);
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(20);

/// The first run's key, and whose it is.
const FIRST_NAME: &str = "default";

/// Runs the command; returns when the router has ended.
pub(crate) fn run(global: &Global) -> Result<(), Failure> {
    // From here on a signal waits for us instead of ending the process half-way. A file that may not grow any more
    // (ulimit -f) is told by the failing write too.
    let wanted = [SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGXFSZ];
    let mut signals = Signals::new(wanted).map_err(Failure::failed)?;
    let mut location = global.location();
    let first_key = if location.dir.exists() || server::has_predecessor() {
        None
    } else {
        let config = init::create(&location, true)?;
        Some(mint(&config)?)
    };
    location.file_named |= server::predecessor_has_config_file();
    location = location.settled();
    let started = Config::load(&location).map_err(Failure::from);
    let started = started.and_then(start);
    if let Some(token) = &first_key {
        // Shown whatever came of the start: it is kept nowhere, and the next start finds the directory made.
        if let Err(failure) = greet(global, token, started.as_ref().ok()) {
            // The router is none the worse for it, and its log may not have been opened.
            let _ = writeln!(
                io::stderr(),
                "memoryrouter: {failure}; the first memory key is in use all the same, and lost: \
                 `memoryrouter keys create` makes another, `keys list` and `keys delete` take it away"
            );
        }
    }
    let router = started?;
    let control = router.running.control();
    let mut steering = Steering {
        control: control.clone(),
        keys: router.keys.clone(),
        location,
        config: router.config.clone(),
    };
    let signals = thread::Builder::new()
        .name("signals".into())
        .spawn(move || steering.obey(&mut signals));
    signals.map_err(Failure::failed)?;
    // Nothing that can fail stands behind this: the process before this one ends by it.
    router.running.tell_predecessor();
    notify(&[NotifyState::Ready]);
    router.running.wait().map_err(Failure::failed)?;
    if !control.draining() {
        // A router without workers must not look alive to whoever restarts it.
        return Err(Failure::failed("every worker has ended"));
    }
    tracing::info!("stopped");
    Ok(())
}

/// Tells the service manager, if one listens (sd_notify(3)); nobody is served worse if it does not hear.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

/// What signals work on.
struct Steering {
    control: Control,
    keys: KeyStore,
    location: Location,
    /// As it was at the start: what a reload cannot change is kept from it.
    config: Arc<Config>,
}

impl Steering {
    fn obey(&mut self, signals: &mut Signals) {
        let mut asked_to_end = false;
        // A successor takes its time to start, and signals are obeyed meanwhile.
        let mut handing_over: Option<HandingOver> = None;
        for signal in signals.forever() {
            match signal {
                SIGHUP => self.reload(),
                SIGUSR2 if handing_over.as_ref().is_some_and(HandingOver::runs) => {
                    tracing::warn!("the next process is being started already");
                }
                SIGUSR2 => handing_over = self.hand_over(),
                SIGXFSZ => {}
                // Asked twice: whoever asks does not want to wait.
                _ if asked_to_end => process::exit(1),
                _ => {
                    asked_to_end = true;
                    tracing::info!("draining");
                    self.control.refuse_successor();
                    // None is to be left behind, half started.
                    let _ = handing_over.take().map(|it| it.thread.join());
                    notify(&[NotifyState::Stopping]);
                    self.control.drain();
                }
            }
        }
    }

    fn reload(&mut self) {
        // What else it finds, the store tells itself.
        if matches!(self.keys.reload(), Reload::Unchanged) {
            tracing::info!("key snapshot unchanged");
        }
        let location = self.location.clone().settled();
        let mut config = match Config::load(&location) {
            Ok(config) => config,
            Err(error) => {
                return tracing::error!(%error, "configuration refused; the one before stays in use");
            }
        };
        for key in config.keep_what_needs_a_restart(&self.config) {
            tracing::warn!(key, "changed, but a change of this key needs a restart");
        }
        warn_of(&config);
        if let Err(error) = start_demo(&mut config) {
            return tracing::error!(%error, "not reloaded; what was before stays in use");
        }
        let log = config.log.clone();
        match self.control.reload(Arc::new(config)) {
            Ok(()) => {
                self.location = location;
                log::change(&log);
                tracing::info!("configuration and certificates read anew");
            }
            Err(error) => tracing::error!(%error, "not reloaded; what was before stays in use"),
        }
    }

    fn hand_over(&self) -> Option<HandingOver> {
        let control = self.control.clone();
        let config_file = self.location.file_named;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let hand_over = move || {
            let handed_over = control.hand_over(config_file);
            // Before it is told: whoever reads of it may ask again at once.
            is_over.store(true, Ordering::Release);
            match handed_over {
                Ok(mut successor) => {
                    tracing::info!(pid = successor.id(), "handed over; draining");
                    notify(&[NotifyState::MainPid(successor.id())]);
                    // Ends with this process at the latest; until then nobody else may collect its exit code.
                    thread::spawn(move || successor.wait());
                }
                Err(error) => {
                    tracing::error!(%error, "the next process did not start; this one goes on");
                }
            }
        };
        let thread = thread::Builder::new().name("handover".into());
        thread
            .spawn(hand_over)
            .inspect_err(|error| tracing::error!(%error, "the next process did not start"))
            .map(|thread| HandingOver { thread, over })
            .ok()
    }
}

/// A successor that is being started.
struct HandingOver {
    thread: JoinHandle<()>,
    /// Whether it serves, or never will.
    over: Arc<AtomicBool>,
}

impl HandingOver {
    fn runs(&self) -> bool {
        !self.over.load(Ordering::Acquire) && !self.thread.is_finished()
    }
}

/// A router that accepts, and what ends with it.
struct Router {
    running: Running,
    keys: KeyStore,
    config: Arc<Config>,
    _admin: Option<admin::Running>,
    _watch: WatchGuard,
    _log: LogGuard,
}

fn start(mut config: Config) -> Result<Router, Failure> {
    let log = log::init(&config.log);
    warn_of(&config);
    let keys = KeyStore::open(Global::key_files(&config))
        .map_err(|refusal| Failure::refused(&refusal, &config))?;
    start_demo(&mut config).map_err(Failure::failed)?;
    let mut port = admin::bind(&config).map_err(Failure::failed)?;
    let config = Arc::new(config);
    let running = server::start(config.clone(), keys.clone()).map_err(|error| match error {
        // What the configuration names: starting again would not help.
        StartError::Tls(..) | StartError::Plan(_) => Failure::Config(error.to_string()),
        StartError::Listen(..) | StartError::Worker(_) => Failure::failed(error),
    })?;
    for address in running.addrs() {
        tracing::info!("listening on {address}");
    }
    let control = running.control();
    let mut start_beside = || {
        let watch = control.watch(&keys)?;
        let admin = port
            .as_mut()
            .map(|port| start_admin(port, &control, &keys))
            .transpose()?;
        Ok::<_, io::Error>((watch, admin))
    };
    let (watch, admin) = match start_beside() {
        Ok(started) => started,
        Err(error) => {
            // Workers are running already, and nobody else would end them.
            let _ = running.abandon();
            return Err(Failure::failed(error));
        }
    };
    if let Some(addr) = admin.as_ref().and_then(admin::Running::addr) {
        let token = config.dir.join(admin::TOKEN_FILE_NAME);
        tracing::info!("admin port on {addr}, token in {}", token.display());
    }
    Ok(Router {
        running,
        keys,
        config,
        _admin: admin,
        _watch: watch,
        _log: log,
    })
}

/// Callers come already, and may hold every descriptor until those beyond the limit have been turned away.
fn start_admin(port: &mut Port, control: &Control, keys: &KeyStore) -> io::Result<admin::Running> {
    let began = Instant::now();
    loop {
        match admin::start(port, control, keys) {
            Err(error)
                if net::is_out_of_descriptors(&error) && began.elapsed() < DESCRIPTORS_TIMEOUT =>
            {
                thread::sleep(DESCRIPTORS_PAUSE);
            }
            started => return started,
        }
    }
}

fn warn_of(config: &Config) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}

fn start_demo(config: &mut Config) -> io::Result<()> {
    if config.demo.enabled {
        config.providers.set_demo_address(demo::address()?);
    }
    Ok(())
}

fn mint(config: &Config) -> Result<Secret, Failure> {
    let new = NewKey {
        name: FIRST_NAME.to_owned(),
        account: FIRST_NAME.to_owned(),
        ..NewKey::default()
    };
    let minted = keys::edit(&Global::key_files(config), |editor| editor.add_key(new));
    let (record, token) = minted.map_err(Failure::failed)?;
    audit::append(&config.dir, &Who::Cli, "key made", &[("key", &record.id)]);
    Ok(token)
}

/// What a first run prints with `--json`.
#[derive(Serialize)]
struct Greeting {
    token: String,
    /// Absent if the router did not start or has no demo provider.
    curl: Option<String>,
}

fn greet(global: &Global, token: &Secret, router: Option<&Router>) -> Result<(), Failure> {
    let token = String::from_utf8_lossy(token.expose()).into_owned();
    let curl = router
        .filter(|router| router.config.demo.enabled)
        .and_then(|router| {
            let tls = router.config.server.tls.is_some();
            Some(curl_line(router.running.addrs().first()?, tls, &token))
        });
    let mut text = format!("Your memory key, shown only now:\n\n    {token}\n");
    if let Some(curl) = &curl {
        text += &format!(
            "\nTry it (the built-in demo model answers; for real ones: memoryrouter providers set):\n\n{curl}"
        );
    }
    global.show_once(|| Greeting { token, curl }, || text)
}

/// A command that asks the demo model, at the address that is really listened on.
fn curl_line(address: &BoundAddr, tls: bool, token: &str) -> String {
    let place = match address {
        BoundAddr::Tcp(address) => {
            let mut address = *address;
            // Every interface is no place to connect to.
            if address.ip().is_unspecified() {
                address.set_ip(match address {
                    std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            format!("http{}://{address}", if tls { "s" } else { "" })
        }
        BoundAddr::Unix(path) => format!("--unix-socket {} http://localhost", path.display()),
    };
    format!(
        "curl {place}/v1/chat/completions -H \"Authorization: Bearer {token}\" \
         -H \"Content-Type: application/json\" \
         -d '{{\"model\":\"demo/echo\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curl_line_names_the_address_that_is_listened_on() {
        let line =
            |address: &str| curl_line(&BoundAddr::Tcp(address.parse().unwrap()), false, "mk_x");
        let expected = "curl http://127.0.0.1:8080/v1/chat/completions -H \"Authorization: Bearer mk_x\" \
            -H \"Content-Type: application/json\" \
            -d '{\"model\":\"demo/echo\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'";
        assert_eq!(line("127.0.0.1:8080"), expected);
        assert_eq!(line("0.0.0.0:8080"), expected);
        assert!(line("[::]:1").starts_with("curl http://[::1]:1/v1/"));
        let tls = curl_line(&BoundAddr::Tcp("[::]:1".parse().unwrap()), true, "mk_x");
        assert!(tls.starts_with("curl https://[::1]:1/v1/"));
        let unix = curl_line(&BoundAddr::Unix("/run/mr".into()), true, "mk_x");
        assert!(unix.starts_with("curl --unix-socket /run/mr http://localhost/v1/"));
    }
}
