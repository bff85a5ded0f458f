//! From the file's bytes to its contents: read with suspicion, opened with whichever master key fits, decoded.
//!
//! There may be 256 MiB of them and a million records, and nothing is held twice: contents are decrypted where they lie,
//! and a record that is in use already is taken from there.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::contents::{Contents, KeyRecord};
use super::master::{MasterKey, MasterSource};
use super::seal::{self, Header, SealError, Sealed};
use super::snapshot::Snapshot;
use super::store::{KeyFiles, Refusal};
use crate::files::{self, FileError};

/// A file that opened, not yet judged against what came before.
pub(super) struct Opened {
    pub(super) header: Header,
    pub(super) contents: Contents,
    pub(super) master: MasterKey,
    pub(super) file_hash: [u8; 32],
    pub(super) file_bytes: usize,
}

/// The file's bytes, not yet opened.
pub(super) struct Closed {
    bytes: Vec<u8>,
    pub(super) hash: [u8; 32],
}

impl Closed {
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = files::read_private(path, seal::FILE_BYTES_MAX)?;
        let hash = Sha256::digest(&bytes).into();
        Ok(Self { bytes, hash })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Opens and decodes it. What it has in common with the keys in `used`, if there are any, is not held twice.
    pub(super) fn open(
        self,
        source: &MasterSource,
        used: Option<&Snapshot>,
    ) -> Result<Opened, Refusal> {
        let file_bytes = self.bytes.len();
        let sealed = Sealed::parse(self.bytes).map_err(Refusal::Seal)?;
        let header = sealed.header.clone();
        let masters = source.load(&header).map_err(Refusal::Master)?;
        let (master, plain) = sealed.open(masters).map_err(|error| match error {
            SealError::WrongKey if source.is_credential() => Refusal::StaleCredential,
            error => Refusal::Seal(error),
        })?;
        let known = |record: &KeyRecord| used?.known(record);
        let contents = Contents::decode_beside(&plain, known).map_err(Refusal::Contents)?;
        Ok(Opened {
            header,
            contents,
            master,
            file_hash: self.hash,
            file_bytes,
        })
    }
}

/// Reads, opens and decodes the file.
pub(super) fn open_file(files: &KeyFiles, used: Option<&Snapshot>) -> Result<Opened, Refusal> {
    let closed = Closed::read(&files.snapshot).map_err(Refusal::File)?;
    closed.open(&files.master, used)
}
