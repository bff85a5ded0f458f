//! Where the file is, and what is said when it cannot be used.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Config;
use super::reader::Problem;
use crate::files::{FileError, read_settings};
use crate::prices::Prices;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "memoryrouter.toml";

/// The operator's own lists of models, in the data directory.
const MODELS_FILE_NAME: &str = "models.toml";
/// Where the operator's prices are looked for, and may be absent, if the configuration does not say where they are.
pub(super) const PRICES_FILE_NAME: &str = "prices.toml";

const TEMPLATE: &str = include_str!("memoryrouter.toml");
const TEMPLATE_DEMO: &str = include_str!("demo.toml");

/// What `init` writes: every key at its default, with what it is for. A first run enables the demo provider.
pub fn template(demo: bool) -> String {
    let enabled = format!("enabled = {demo}");
    format!(
        "{TEMPLATE}\n{}",
        TEMPLATE_DEMO.replace("enabled = false", &enabled)
    )
}

/// Where everything is without a word from the operator.
const DEFAULT_DIR: &str = "./data";

/// The data directory and the file that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Where relative paths start from.
    pub dir: PathBuf,
    /// The configuration file.
    pub file: PathBuf,
    /// Whether the operator named the file, and so it has to be there.
    pub file_named: bool,
}

impl Location {
    /// From `--dir` and `--config`; without either, from the variables `MEMORYROUTER_DIR` and
    /// `MEMORYROUTER_CONFIG`; without those, `./data`. A file without a directory brings its own. An option and a
    /// variable never go together: whoever names another place is not to meet the keys of the one that is set.
    pub fn resolve(
        dir: Option<PathBuf>,
        config: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let (mut dir, mut config) = (dir, config);
        if dir.is_none() && config.is_none() {
            let path = |name| {
                variable(name)
                    .filter(|it| !it.is_empty())
                    .map(PathBuf::from)
            };
            dir = path("MEMORYROUTER_DIR");
            config = path("MEMORYROUTER_CONFIG");
        }
        match (dir, config) {
            (dir, Some(file)) => Self {
                dir: dir.unwrap_or_else(|| parent(&file)),
                file,
                file_named: true,
            },
            (dir, None) => {
                let dir = dir.unwrap_or_else(|| PathBuf::from(DEFAULT_DIR));
                Self {
                    file: dir.join(FILE_NAME),
                    dir,
                    file_named: false,
                }
            }
        }
    }

    /// Itself for as long as a router runs: a file that is there now has to be there whenever it is read again. Were it
    /// missing, the defaults would send stored keys to hosts that the operator never chose.
    pub fn settled(mut self) -> Self {
        self.file_named |= fs::symlink_metadata(&self.file).is_ok();
        self
    }
}

/// The directory of a file; of a bare name it is the current one.
fn parent(file: &Path) -> PathBuf {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unreadable(FileError),
    NotText,
    Wrong(Vec<Problem>),
    /// The lists of models or of prices, in the parser's own words.
    Lists(String),
}

impl ConfigError {
    pub(super) fn wrong(file: &Path, problems: Vec<Problem>) -> Self {
        Self {
            file: file.to_owned(),
            reason: Reason::Wrong(problems),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.reason {
            Reason::Unreadable(error) => write!(f, "{file}: cannot be read: {error}"),
            Reason::NotText => write!(f, "{file}: cannot be read: is not text in UTF-8"),
            Reason::Lists(error) => write!(f, "{file}: {}", error.trim_end()),
            Reason::Wrong(problems) => {
                for (index, Problem { line, key, what }) in problems.iter().enumerate() {
                    let end = if index == 0 { "" } else { "\n" };
                    let colon = if key.is_empty() { "" } else { ": " };
                    write!(f, "{end}{file}:{line}: {key}{colon}{what}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file of `location` and the operator's lists of models and prices. A file that nobody named may be
    /// absent: then everything is at its default.
    pub fn load(location: &Location) -> Result<Self, ConfigError> {
        let missing = |file| ConfigError {
            file,
            reason: Reason::Unreadable(io::Error::from(io::ErrorKind::NotFound).into()),
        };
        let mut config = match read(&location.file)? {
            Some(text) => Self::parse(&text, &location.file, &location.dir)?,
            None if !location.file_named => Self::defaults(&location.dir),
            None => return Err(missing(location.file.clone())),
        };
        let models = location.dir.join(MODELS_FILE_NAME);
        if let Some(text) = read(&models)? {
            config.catalogue = config.catalogue(&text).map_err(|error| ConfigError {
                file: models,
                reason: Reason::Lists(error.to_string()),
            })?;
        }
        let prices = config.usage.prices.clone();
        match read(&prices)? {
            Some(text) => {
                let parsed = Prices::parse(&text).map_err(|error| ConfigError {
                    file: prices,
                    reason: Reason::Lists(error),
                })?;
                config.prices = Arc::new(parsed);
            }
            // The one that nobody named may be absent.
            None if prices == location.dir.join(PRICES_FILE_NAME) => {}
            None => return Err(missing(prices)),
        }
        Ok(config)
    }
}

/// A file's text; none where it does not exist.
fn read(file: &Path) -> Result<Option<String>, ConfigError> {
    let wrong = |reason| ConfigError {
        file: file.to_owned(),
        reason,
    };
    match read_settings(file) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(wrong(Reason::NotText)),
        },
        Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(Reason::Unreadable(error))),
    }
}
