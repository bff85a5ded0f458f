//! Drops the memories of a key that was deleted, wherever the log is open: nobody can read them any more.

use super::vault::{escaped, open_log, wait};
use crate::cli::Failure;
use crate::cli::admin_client::AdminClient;
use crate::config::Config;
use crate::memory;

/// Afterwards they are in nobody's RAM, and in no file once the log is rewritten; an error says why they stay.
pub(crate) fn forget(config: &Config, vault: &str) -> Result<(), Failure> {
    if memory::is_held(&config.memory.path)
        && let Some(router) = AdminClient::find(config)?
    {
        // It refuses to forget what a key of its own names, and is to know that this one is gone.
        router.ask("POST", "/admin/v1/reload", "", b"")?;
        let target = format!("/admin/v1/vaults/{}", escaped(vault));
        return router.ask("DELETE", &target, "", b"").map(drop);
    }
    if !config.memory.path.exists() {
        return Ok(());
    }
    let store = open_log(config)?;
    let forgotten = store.forget_vaults(&|id| id != vault);
    let compacted = match forgotten {
        // Nobody else will before the next router runs.
        Ok(1..) => wait(store.compact())?,
        Ok(0) => Ok(()),
        Err(error) => Err(error),
    };
    store.close();
    compacted.map_err(Failure::failed)
}
