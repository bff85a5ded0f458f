//! `memoryrouter init`: makes a data directory. `serve` uses the same for a first run.
//!
//! Nothing that exists is ever overwritten; what an earlier run has left unfinished is completed. The directory is its
//! owner's alone, and what is in it 0600 besides.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{Failure, Global};
use crate::admin;
use crate::config::{self, Config, Location};
use crate::files;
use crate::keys::{self, MasterSource};

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Do nothing, and do it well, where there is a key snapshot already
    #[arg(long)]
    if_missing: bool,
}

/// What the command made.
#[derive(Serialize)]
struct Made {
    dir: String,
    config: String,
    master_key: String,
    snapshot: String,
    admin_token: String,
}

/// Runs the command.
pub(crate) fn run(args: &InitArgs, global: &Global) -> Result<(), Failure> {
    if global.config.is_some() {
        let reason = "init makes a directory with a file of its own; name it with --dir";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let location = global.location();
    if args.if_missing && planned(&location)?.keys.snapshot.exists() {
        return Ok(());
    }
    let config = create(&location, false)?;
    let made = Made {
        dir: config.dir.display().to_string(),
        config: location.file.display().to_string(),
        master_key: Global::key_files(&config).master.to_string(),
        snapshot: config.keys.snapshot.display().to_string(),
        admin_token: config
            .dir
            .join(admin::TOKEN_FILE_NAME)
            .display()
            .to_string(),
    };
    // A file of another name or place, which a variable has named, is not found by the directory.
    let config_file = match location.file_named {
        true => format!(" --config {}", made.config),
        false => String::new(),
    };
    let place = format!("--dir {}{config_file}", made.dir);
    let text = format!(
        "configuration   {}\nmaster key      {}\nkey snapshot    {}\nadmin token     {}\n\n\
         Next: memoryrouter keys create {place}, then memoryrouter serve {place}",
        made.config, made.master_key, made.snapshot, made.admin_token,
    );
    global.show(|| made, || text)
}

/// Makes what is missing for a start at `location`: the configuration file and a master key unless they are there, and
/// an empty snapshot, which comes last and says that all is made. With `demo` the file that it writes enables the
/// built-in provider.
pub(crate) fn create(location: &Location, demo: bool) -> Result<Config, Failure> {
    // Checked before anything is written, so that a refusal leaves nothing behind.
    let planned = planned(location)?;
    if planned.keys.snapshot.exists() {
        let path = planned.keys.snapshot.display();
        let reason = format!("{path} exists already; nothing was changed");
        return Err(Failure::failed(reason));
    }
    let key_files = Global::key_files(&planned);
    keys::check_init(&key_files).map_err(Failure::failed)?;
    let mut wanted = vec![&location.file, &planned.keys.snapshot];
    if let MasterSource::File(file) = &key_files.master {
        wanted.push(file);
    }
    for file in wanted {
        check_place(file, &location.dir)?;
    }
    make_dir(&location.dir)?;
    if !location.file.exists() {
        files::create_private(&location.file, config::template(demo).as_bytes())
            .map_err(|error| Failure::failed(format!("{} {error}", location.file.display())))?;
    }
    admin::ensure_token(&location.dir).map_err(Failure::failed)?;
    keys::init(&key_files).map_err(Failure::failed)?;
    Ok(Config::load(location)?)
}

/// The configuration that is there, or will be.
fn planned(location: &Location) -> Result<Config, Failure> {
    if location.file.exists() {
        return Ok(Config::load(location)?);
    }
    Ok(Config::defaults(&location.dir))
}

/// Whether the directory of `file` is there, or will be once `dir` is made.
fn check_place(file: &Path, dir: &Path) -> Result<(), Failure> {
    let parent = file.parent().unwrap_or(Path::new(""));
    if parent.as_os_str().is_empty() || parent.is_dir() || dir.starts_with(parent) {
        return Ok(());
    }
    let (file, parent) = (file.display(), parent.display());
    let reason = format!("cannot make {file}: there is no directory {parent}; nothing was made");
    Err(Failure::failed(reason))
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| cannot("make", dir, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}: {error}", path.display()))
}
