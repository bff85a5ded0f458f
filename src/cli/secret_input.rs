//! Secrets on their way in: from stdin, a pipe or a person at a terminal, never from an argument.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use zeroize::Zeroizing;

use super::Failure;
use crate::secret::Secret;

/// The largest secret that is read, and then some.
const STDIN_BYTES_MAX: u64 = 64 * 1024;

/// Reads one secret, without what is white behind it: no key ends so. A person is asked for it, and what is typed is not
/// shown.
pub(super) fn read_secret(what: &str) -> Result<Secret, Failure> {
    let bytes = read(what)?;
    secret_of(what, bytes.trim_ascii_end())
}

/// The same for a passphrase, which may end in blanks: without the line break behind it, as in a file of passphrases.
pub(super) fn read_passphrase(what: &str) -> Result<Secret, Failure> {
    let bytes = read(what)?;
    secret_of(what, without_line_break(&bytes))
}

fn without_line_break(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn secret_of(what: &str, bytes: &[u8]) -> Result<Secret, Failure> {
    if bytes.is_empty() {
        return Err(Failure::Usage(format!(
            "the {what} is read from stdin, and nothing came"
        )));
    }
    Ok(Secret::new(bytes))
}

fn read(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut stdin = io::stdin().lock().take(STDIN_BYTES_MAX);
    let read = if io::stdin().is_terminal() {
        Hidden::new().and_then(|_hidden| {
            let _ = write!(io::stderr(), "{what}: ");
            let read = stdin.read_until(b'\n', &mut bytes);
            // The one that ended the line was not shown either.
            let _ = writeln!(io::stderr());
            read
        })
    } else {
        stdin.read_to_end(&mut bytes)
    };
    read.map_err(|error| Failure::failed(format!("cannot read the {what} from stdin: {error}")))?;
    Ok(bytes)
}

/// The terminal shows nothing of what is typed for as long as this lives.
struct Hidden(Arc<Before>);

/// The terminal as it was, until it is so again.
struct Before(Mutex<Option<Termios>>);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        let hidden = Self(Arc::new(Before(Mutex::new(Some(before)))));
        restore_when_ended(hidden.0.clone())?;
        // What was typed before anybody asked has been shown, and is no secret.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(hidden)
    }
}

impl Before {
    fn restore(&self) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.restore();
    }
}

/// Lets a signal that ends this process restore the terminal first: not every shell does so itself. The thread stays
/// for the rest of the command, because the system ends nobody any more by a signal that was waited for once.
fn restore_when_ended(before: Arc<Before>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGQUIT])?;
    let wait = move || {
        for signal in signals.forever() {
            before.restore();
            let _ = emulate_default_handler(signal);
        }
    };
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(wait).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_passphrase_one_line_break_goes() {
        for (typed, passphrase) in [
            ("a b ", "a b "),
            ("a b \n", "a b "),
            ("a b\t\r\n", "a b\t"),
            ("a b\n\n", "a b\n"),
            ("\n", ""),
        ] {
            assert_eq!(without_line_break(typed.as_bytes()), passphrase.as_bytes());
        }
    }
}
