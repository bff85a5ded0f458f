//! Listening sockets that come from another process, and those that go to one.
//!
//! A service manager hands sockets in (`LISTEN_FDS`, sd_listen_fds(3)); a running router hands its own to its successor
//! in the same way. Both accept from the same queues until the old one stops, so no caller in them is lost. The
//! successor says that it accepts over its standard input, which is a socket to its predecessor.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use listenfd::ListenFd;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};

use crate::config::Listen;
use crate::net::{BoundAddr, BoundListener, is_deserted};

/// Set for a process whose standard input leads to its predecessor: the files of the Unix sockets that go with the
/// last of them, as in PATH.
const PREDECESSOR_VARIABLE: &str = "MEMORYROUTER_PREDECESSOR";
/// Set for a successor if its predecessor runs with a configuration file.
const CONFIG_FILE_VARIABLE: &str = "MEMORYROUTER_PREDECESSOR_CONFIG_FILE";
const READY: &[u8] = b"ready";
/// A start takes a tenth of a second; a large snapshot under a passphrase a few.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A predecessor closes its sockets within milliseconds of hearing that this process accepts.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(5);
const LEAVING_PAUSE: Duration = Duration::from_millis(50);

/// How many places are tried for descriptors that a successor inherits.
const ROWS_TRIED: usize = 32;

/// Sockets that were handed in, not yet claimed by an address.
pub(super) struct Inherited(Vec<BoundListener>);

impl Inherited {
    /// Takes them from the environment, which no longer names them afterwards.
    pub(super) fn take() -> Self {
        let mut handed = ListenFd::from_env();
        let mut all = Vec::new();
        for index in 0..handed.len() {
            if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
                all.push(BoundListener::Tcp(listener));
            } else if let Ok(Some(listener)) = handed.take_unix_listener(index) {
                all.push(BoundListener::Unix(listener));
            }
        }
        Self(all)
    }

    /// Those that listen on `wanted`, of which port 0 is any.
    pub(super) fn claim(&mut self, wanted: &Listen) -> Vec<BoundListener> {
        let claimed = self
            .0
            .extract_if(.., |listener| match (listener.addr(), wanted) {
                (Some(BoundAddr::Tcp(has)), Listen::Tcp(wants)) => {
                    has == *wants || (wants.port() == 0 && has.ip() == wants.ip())
                }
                (Some(BoundAddr::Unix(has)), Listen::Unix(wants)) => has == *wants,
                _ => false,
            });
        claimed.collect()
    }

    /// Tells of those that the configuration has no address for; they are closed.
    pub(super) fn finish(self) {
        for listener in self.0 {
            let addr = listener.addr().map(|addr| addr.to_string());
            tracing::warn!(
                addr,
                "a socket was handed in that server.listen does not name"
            );
        }
    }
}

/// A successor that is being started, and whoever no longer wants it.
#[derive(Default)]
pub(super) struct Attempt(Mutex<Awaited>);

#[derive(Default)]
struct Awaited {
    given_up: bool,
    /// Where its word is waited for.
    ours: Option<UnixStream>,
}

impl Attempt {
    /// Ends the wait, now or as soon as it begins.
    pub(super) fn give_up(&self) {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.given_up = true;
        if let Some(ours) = &awaited.ours {
            let _ = ours.shutdown(Shutdown::Both);
        }
    }

    fn begin(&self, ours: &UnixStream) -> io::Result<()> {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if awaited.given_up {
            return Err(io::Error::other("the router is ending"));
        }
        awaited.ours = Some(ours.try_clone()?);
        Ok(())
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ours = None;
    }
}

/// What goes to a successor.
pub(super) struct Lot<'a> {
    pub(super) listeners: &'a [BoundListener],
    /// Of Unix sockets: its to remove from then on.
    pub(super) own_files: Vec<PathBuf>,
    /// Whether it has to find a configuration file.
    pub(super) config_file: bool,
}

/// Starts this program once more, with the same arguments and `lot`, and waits until it accepts.
pub(super) fn start_successor(lot: &Lot<'_>, attempt: &Attempt) -> io::Result<Child> {
    let (mut ours, theirs) = UnixStream::pair()?;
    attempt.begin(&ours)?;
    let lent = Lent::new(lot.listeners)?;
    let program = program()?;
    let mut command = Command::new(program);
    command
        .args(env::args_os().skip(1))
        .env("LISTEN_FDS", lent.count.to_string())
        .env("LISTEN_FDS_FIRST_FD", lent.first.to_string())
        .env_remove("LISTEN_PID")
        .env(PREDECESSOR_VARIABLE, joined(&lot.own_files))
        .env(CONFIG_FILE_VARIABLE, if lot.config_file { "1" } else { "" })
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    let spawned = command.spawn();
    let mut child = spawned
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
    drop(command);
    drop(lent);
    ours.set_read_timeout(Some(START_TIMEOUT))?;
    let mut said = [0; READY.len()];
    let read = ours.read_exact(&mut said);
    attempt.end();
    let why = match read {
        Ok(()) if said == READY => return Ok(child),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            format!("it does not accept after {} s", START_TIMEOUT.as_secs())
        }
        _ => "it ended, or is not wanted any more".to_owned(),
    };
    let _ = child.kill();
    let ended = child.wait();
    let ended = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
    Err(io::Error::other(format!(
        "{}: {why} ({ended})",
        program.display()
    )))
}

/// One with a colon in its name stays behind, and is replaced by who binds it next.
fn joined(files: &[PathBuf]) -> OsString {
    let plain = files.iter().filter(|file| env::join_paths([file]).is_ok());
    env::join_paths(plain).unwrap_or_default()
}

/// Whether a router started this process to hand over to it.
pub fn has_predecessor() -> bool {
    env::var_os(PREDECESSOR_VARIABLE).is_some()
}

/// Whether that router runs with a configuration file, which this process then has to find too.
pub fn predecessor_has_config_file() -> bool {
    env::var_os(CONFIG_FILE_VARIABLE).is_some_and(|value| !value.is_empty())
}

/// The files of Unix sockets that became this process's to remove.
pub(super) fn files_of_predecessor() -> Vec<PathBuf> {
    let files = env::var_os(PREDECESSOR_VARIABLE).unwrap_or_default();
    env::split_paths(&files).collect()
}

/// Removes the files of sockets that the process before this one had and that nobody needs any more, as soon as it has
/// left them. One that somebody else listens on by then stays.
pub(super) fn remove_once_deserted(mut files: Vec<PathBuf>) {
    let look = move || {
        let began = Instant::now();
        while !files.is_empty() && began.elapsed() < LEAVING_TIMEOUT {
            files.retain(|file| {
                let removed = is_deserted(file) && fs::remove_file(file).is_ok();
                !removed && file.exists()
            });
            thread::sleep(LEAVING_PAUSE);
        }
    };
    let thread = thread::Builder::new().name("files".into());
    if let Err(error) = thread.spawn(look) {
        tracing::warn!(%error, "files of sockets stay behind");
    }
}

/// Tells the predecessor, if there is one, that this process accepts.
pub(super) fn tell_predecessor() {
    if !has_predecessor() {
        return;
    }
    let told = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| UnixStream::from(fd).write_all(READY));
    if let Err(error) = told {
        tracing::warn!(%error, "cannot tell the process before this one");
    }
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Keeps the place that this program was started from. To be called early: once the file has been moved away for a newer
/// one, the system names only where it went.
pub(super) fn keep_program() {
    let _ = program();
}

/// What a successor runs: whatever stands now where this program was started from.
fn program() -> io::Result<&'static Path> {
    if let Some(path) = PROGRAM.get() {
        return Ok(path);
    }
    let runs = fs::read_link("/proc/self/exe")?;
    // The kernel says so of a file that was replaced since.
    let runs = match runs.to_string_lossy().strip_suffix(" (deleted)") {
        Some(file) => file.into(),
        None => runs,
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let name = env::args_os().next().unwrap_or_default();
    Ok(PROGRAM.get_or_init(|| called_by(Path::new(&name), &path, &runs)))
}

/// The name that the program `runs` was called by, which may be a link that leads to another release tomorrow.
fn called_by(name: &Path, path: &OsStr, runs: &Path) -> PathBuf {
    let named = |file: &PathBuf| fs::canonicalize(file).is_ok_and(|leads_to| leads_to == runs);
    let found = if name.as_os_str().as_bytes().contains(&b'/') {
        Some(name.to_owned()).filter(named)
    } else {
        env::split_paths(path).map(|dir| dir.join(name)).find(named)
    };
    found
        .and_then(|file| std::path::absolute(file).ok())
        .unwrap_or_else(|| runs.to_owned())
}

/// Duplicates in a row, high up where nothing else is, that a child inherits; closed here when dropped.
struct Lent {
    first: RawFd,
    count: usize,
}

impl Lent {
    fn new(listeners: &[BoundListener]) -> io::Result<Self> {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let room = listeners.len() as RawFd + 16;
        let mut first = RawFd::try_from(soft).unwrap_or(RawFd::MAX).min(1 << 20);
        // What this process was handed itself stands in a row up there already: then one further down.
        for _ in 0..ROWS_TRIED {
            first = (first - room).max(0);
            if let Some(lent) = Self::in_a_row(listeners, first)? {
                return Ok(lent);
            }
        }
        Err(io::Error::other("no row of free descriptors"))
    }

    fn in_a_row(listeners: &[BoundListener], first: RawFd) -> io::Result<Option<Self>> {
        let mut lent = Self { first, count: 0 };
        for listener in listeners {
            let wanted = first + lent.count as RawFd;
            let got = fcntl(listener, FcntlArg::F_DUPFD(wanted))?;
            if got != wanted {
                let _ = nix::unistd::close(got);
                return Ok(None);
            }
            lent.count += 1;
        }
        Ok(Some(lent))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for offset in 0..self.count {
            let _ = nix::unistd::close(self.first + offset as RawFd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_the_name_that_it_was_called_by() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        for release in ["1", "2"] {
            fs::create_dir(dir.join(release)).unwrap();
            fs::write(dir.join(release).join("router"), release).unwrap();
        }
        let current = dir.join("current");
        std::os::unix::fs::symlink("1", &current).unwrap();
        let runs = dir.join("1/router");
        let path = env::join_paths([&dir.join("2"), &current]).unwrap();
        for (name, expected) in [
            (current.join("router"), current.join("router")),
            ("router".into(), current.join("router")),
            (runs.clone(), runs.clone()),
            // Called by a name that leads elsewhere, or nowhere.
            (dir.join("2/router"), runs.clone()),
            ("shown-in-lists".into(), runs.clone()),
        ] {
            assert_eq!(called_by(&name, &path, &runs), expected, "{name:?}");
        }
    }
}
