//! Gives memories their vectors: new ones after they were stored, all others once the model is another.
//!
//! Looks through the vaults in RAM for memories without a vector, asks for a batch at a time, and writes the vectors to
//! the index and, sealed, to the log. What a failing endpoint leaves out is asked for again later. A text that it
//! refuses stands in nobody's way: it is asked for by less and less of its beginning, and then passed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::change::Op;
use super::core::Core;
use super::dense::is_usable;
use super::embed::{BATCH_TIMEOUT, Embedder, ModelId, NoVectors, beginning};
use super::log::guarded;
use super::seal::Sealer;
use super::vault::Hot;

/// Texts in one call.
const BATCH: usize = 64;
/// Of a refused text no less than this is asked for: it is not its length that the endpoint minds.
const SHORTEST_BYTES: usize = 256;
/// What was loaded meanwhile is looked at this often.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// After a failure.
const BACK_OFF: Duration = Duration::from_secs(2);
/// Turns that end at about the same time share a call.
const GATHER: Duration = Duration::from_millis(50);

/// The thread's whole life.
pub(super) fn run(core: &Core) {
    let Some(embedder) = &core.embedder else {
        return;
    };
    let mut failing = false;
    while embedder.wait_for_work(LOOK_AROUND) && embedder.rest(GATHER) {
        match fill_all(core, embedder) {
            Ok(()) if failing => {
                failing = false;
                tracing::info!("memories get their vectors again");
            }
            Ok(()) => {}
            Err(reason) => {
                if !failing {
                    tracing::warn!(%reason, "memories get no vectors now; it is tried again");
                }
                failing = true;
                embedder.note();
                embedder.rest(BACK_OFF);
            }
        }
    }
}

fn fill_all(core: &Core, embedder: &Embedder) -> Result<(), String> {
    let mut broken = None;
    for hot in core.all_hot() {
        match guarded(|| Ok(fill(core, embedder, &hot))) {
            Ok(filled) => filled?,
            // A bug over one vault is none over the others.
            Err(error) => broken = Some(format!("vault {}: {error}", hot.sealer.id)),
        }
    }
    broken.map_or(Ok(()), Err)
}

/// Gives all of a vault's memories their vectors.
fn fill(core: &Core, embedder: &Embedder, hot: &Arc<Hot>) -> Result<(), String> {
    let mut refused = 0;
    loop {
        if core.ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let without: Vec<(u64, String)> = hot
            .read()
            .without_vector(BATCH)
            .map(|(seq, text)| (seq, beginning(text).to_owned()))
            .collect();
        let Some((last, _)) = without.last() else {
            if !hot.read().vectors_are_settled() {
                hot.write().settle_vectors();
            }
            break;
        };
        let texts: Vec<(u64, &str)> = without.iter().map(|(seq, text)| (*seq, &**text)).collect();
        let turned = hot.read().has_turned();
        refused += ask(core, embedder, hot, &texts, false)?;
        let mut vault = hot.write();
        // Else all others are to be asked for once more.
        if vault.has_turned() == turned {
            vault.looked_for_vectors(*last);
        }
    }
    if refused > 0 {
        let vault = &hot.sealer.id;
        tracing::warn!(%vault, memories = refused, "the embedding endpoint refuses some texts; they are found by their words alone");
    }
    Ok(())
}

/// Asks for the vectors of some memories, at once or, if it refuses one of them, in parts; returns for how many there
/// are none to be had. `works` says that it is known to take other texts.
fn ask(
    core: &Core,
    embedder: &Embedder,
    hot: &Arc<Hot>,
    texts: &[(u64, &str)],
    works: bool,
) -> Result<usize, String> {
    let only: Vec<&str> = texts.iter().map(|(_, text)| *text).collect();
    match embedder.vectors_of(&only) {
        Ok(vectors) => {
            let seqs = texts.iter().map(|(seq, _)| *seq);
            keep(core, embedder, hot, seqs.zip(vectors).collect());
            Ok(0)
        }
        Err(NoVectors::Failed(reason)) => Err(reason),
        Err(NoVectors::Refused(reason)) if !works && !embedder.takes_a_word(BATCH_TIMEOUT) => {
            Err(reason)
        }
        Err(NoVectors::Refused(_)) => match texts {
            [] => Ok(0),
            [(seq, text)] => {
                let half = &text[..text.floor_char_boundary(text.len() / 2)];
                match half.len() < SHORTEST_BYTES {
                    true => {
                        keep(core, embedder, hot, vec![(*seq, Vec::new())]);
                        Ok(1)
                    }
                    false => ask(core, embedder, hot, &[(*seq, half)], true),
                }
            }
            _ => {
                let (first, second) = texts.split_at(texts.len() / 2);
                let refused = ask(core, embedder, hot, first, true)?;
                Ok(refused + ask(core, embedder, hot, second, true)?)
            }
        },
    }
}

/// Puts vectors to their memories, in the index and in the log. Where one is no use that is noted there as well: it is
/// paid for once.
fn keep(core: &Core, embedder: &Embedder, hot: &Arc<Hot>, vectors: Vec<(u64, Vec<f32>)>) {
    let mut vault = hot.write();
    let mut ops = Vec::new();
    for (seq, vector) in vectors {
        let is_usable = is_usable(&vector);
        if is_usable && vault.is_of_other_length(&vector) {
            if !embedder.told_length.swap(true, Ordering::Relaxed) {
                let parts = vector.len();
                tracing::warn!(
                    parts,
                    "the embedding model gives vectors of another length; all are made anew"
                );
            }
            // Beyond the first time, what is of another length is left out for as long as the vault is in RAM.
            if !vault.turn_to_other_length() {
                continue;
            }
        }
        // It may have been removed meanwhile.
        let is_there = match is_usable {
            true => vault.set_vector(seq, &vector),
            false => vault.give_up_vector(seq),
        };
        let record = match is_usable {
            true => encode(embedder.model, &vector),
            false => Some(embedder.model.to_vec()),
        };
        ops.extend(record.filter(|_| is_there).map(|record| Op::Vector {
            sealer: hot.sealer.clone(),
            seq,
            record,
        }));
    }
    // Under the lock, so that no removal gets in between.
    let ticket = core.queue.push(ops, None);
    hot.ticket.store(ticket, Ordering::Release);
    let bytes = vault.ram_bytes();
    drop(vault);
    core.recount(hot, bytes);
}

/// A vector as it is sealed: the model, and a byte for each part.
fn encode(model: ModelId, vector: &[f32]) -> Option<Vec<u8>> {
    let largest = vector
        .iter()
        .fold(0.0_f32, |largest, part| largest.max(part.abs()));
    let part = |part: &f32| ((part / largest * 127.0).round() as i8).cast_unsigned();
    largest
        .is_normal()
        .then(|| model.into_iter().chain(vector.iter().map(part)).collect())
}

/// What `encode` wrote, if it is of this model; empty where there was none to be had.
pub(super) fn decode(model: ModelId, record: &[u8]) -> Option<Vec<f32>> {
    let parts = record.strip_prefix(&model)?;
    Some(
        parts
            .iter()
            .map(|part| f32::from(part.cast_signed()))
            .collect(),
    )
}

/// Takes a vault's vectors out of the log.
pub(super) fn load(core: &Core, sealer: &Sealer, mut set: impl FnMut(u64, &[f32])) {
    let Some(embedder) = &core.embedder else {
        return;
    };
    // Without them they are made anew.
    let _ = core.log.read_vectors(&sealer.tag, |seq, sealed| {
        let plain = sealer.open(super::seal::Place::Vector { seq }, sealed);
        if let Some(vector) = plain.and_then(|plain| decode(embedder.model, &plain)) {
            set(seq, &vector);
        }
    });
    embedder.note();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_for_its_model_only() {
        let record = encode([1; 8], &[0.5, -1.0, 0.0]).expect("it points somewhere");
        assert_eq!(decode([1; 8], &record), Some(vec![64.0, -127.0, 0.0]));
        assert_eq!(decode([2; 8], &record), None);
        assert_eq!(decode([1; 8], &record[..7]), None);
        for bad in [&[][..], &[0.0, 0.0], &[f32::INFINITY]] {
            assert_eq!(encode([1; 8], bad), None);
        }
    }
}
