//! Why a file cannot be used, in words that follow its name.

use std::io;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum FileError {
    /// The system says so.
    Io(io::Error),
    /// A directory, a pipe, a device.
    NotRegular,
    /// It belongs to another user.
    Owner,
    /// Its group or others may read or write it.
    Permissions(u32),
    /// More bytes than such a file can have.
    TooLarge,
    /// It is there already, and would be overwritten.
    Exists,
    /// It cannot be made where there is no directory.
    NoDirectory,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("does not exist")
            }
            Self::Io(error) => write!(f, "{error}"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::Owner => f.write_str("belongs to another user"),
            Self::Permissions(mode) => {
                write!(
                    f,
                    "is open to its group or to others (mode {mode:o}); chmod 600 it"
                )
            }
            Self::TooLarge => f.write_str("is too large to be one"),
            Self::Exists => f.write_str("exists already"),
            Self::NoDirectory => f.write_str("cannot be made: its directory does not exist"),
        }
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io(error) => error,
            other => Self::other(other.to_string()),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::AlreadyExists {
            Self::Exists
        } else {
            Self::Io(error)
        }
    }
}
