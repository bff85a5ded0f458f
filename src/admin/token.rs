//! The admin token: in a file of the data directory that only its owner may read, made when there is none.

use std::io;
use std::path::Path;

use crate::files::{FileError, create_private, read_private};
use crate::net;
use crate::secret::Secret;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "admin.token";

const FILE_BYTES_MAX: usize = 4096;
/// What a person might think up is too easy to guess.
const TOKEN_BYTES_MIN: usize = 24;
/// Of the tokens that are made here: over 250 bits.
const TOKEN_CHARACTERS: usize = 43;

/// Reads the token; makes one if there is no file.
pub fn ensure(dir: &Path) -> io::Result<Secret> {
    let path = dir.join(FILE_NAME);
    if !path.exists() {
        match create_private(&path, [mint()?.expose(), b"\n"].concat().as_slice()) {
            // Somebody else made it just now.
            Ok(()) | Err(FileError::Exists) => {}
            Err(error) => return Err(failed(&path, error)),
        }
    }
    read(dir)
}

/// Reads the token.
pub fn read(dir: &Path) -> io::Result<Secret> {
    let path = dir.join(FILE_NAME);
    let bytes = read_private(&path, FILE_BYTES_MAX).map_err(|error| failed(&path, error))?;
    let token = bytes.trim_ascii();
    if token.len() < TOKEN_BYTES_MIN || !token.iter().all(u8::is_ascii_graphic) {
        return Err(io::Error::other(format!(
            "{} holds no token: one line of at least {TOKEN_BYTES_MIN} visible ASCII characters",
            path.display()
        )));
    }
    Ok(Secret::new(token))
}

/// Names the file; but whoever starts waits for descriptors, and knows their want by the system's own word.
fn failed(path: &Path, error: FileError) -> io::Error {
    match error {
        FileError::Io(error) if net::is_out_of_descriptors(&error) => error,
        error => io::Error::other(format!("{} {error}", path.display())),
    }
}

fn mint() -> io::Result<Secret> {
    random_text(TOKEN_CHARACTERS).map(|text| Secret::new(text.into_bytes()))
}

/// Random characters of `A-Z a-z 0-9`, each as likely as the others.
pub(super) fn random_text(length: usize) -> io::Result<String> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        // 248 is the largest multiple of 62 in a byte.
        let usable = bytes.iter().filter(|byte| **byte < 248);
        let left = length - text.len();
        text.extend(
            usable
                .map(|byte| char::from(ALPHABET[usize::from(byte % 62)]))
                .take(left),
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path()).unwrap();
        assert_eq!(first.expose().len(), TOKEN_CHARACTERS);
        assert_eq!(first, ensure(dir.path()).unwrap());
        let path = dir.path().join(FILE_NAME);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ensure(dir.path()).is_err());
    }

    #[test]
    fn a_token_that_can_be_guessed_is_none() {
        for token in ["", "secret\n", "two words of which one is long"] {
            let dir = tempfile::tempdir().unwrap();
            create_private(&dir.path().join(FILE_NAME), token.as_bytes()).unwrap();
            assert!(ensure(dir.path()).is_err(), "{token}");
        }
    }
}
