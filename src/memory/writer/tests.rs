//! When the writer tries again.

use super::*;
use crate::memory::MemorySettings;

#[test]
fn a_compaction_that_failed_is_made_later() {
    let dir = tempfile::tempdir().unwrap();
    let core = Core::new(MemorySettings {
        path: dir.path().join("memory.redb"),
        hot_bytes: 1 << 20,
        retention: None,
        embeddings: None,
    });
    let mut writer = Writer::new(&core);
    writer.removed_bytes = 2 << 20;
    assert!(writer.compaction_due());
    writer.give_up_compaction(&LogError::new("no space left"));
    assert!(!writer.compaction_due());
    writer.compacted_at -= Duration::from_mins(1);
    assert!(writer.compaction_due());
}
