//! Secrets on their way in: from stdin, a pipe or a person at a terminal, never from an argument.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::Failure;
use crate::secret::Secret;

/// The largest secret that is read, and then some.
const STDIN_BYTES_MAX: u64 = 64 * 1024;

/// Reads one secret, without the line break behind it. A person is asked for it, and what is typed is not shown.
pub(super) fn read_secret(what: &str) -> Result<Secret, Failure> {
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
    let secret = bytes.trim_ascii_end();
    if secret.is_empty() {
        return Err(Failure::Usage(format!(
            "the {what} is read from stdin, and nothing came"
        )));
    }
    Ok(Secret::new(secret))
}

/// The terminal shows nothing of what is typed for as long as this lives.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // What was typed before anybody asked has been shown, and is no secret.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
