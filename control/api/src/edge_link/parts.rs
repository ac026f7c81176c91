//! A snapshot cut into messages of bounded size, and put together again.

use crate::snapshot::{RouteSnapshot, SNAPSHOT_BYTES_MAX};

use super::PART_BYTES_MAX;

/// One message's share of a snapshot's JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPart {
    /// The snapshot's generation.
    pub generation: u64,
    /// Position, from 0.
    pub index: u32,
    /// Parts of this snapshot.
    pub count: u32,
    /// The bytes.
    pub body: Vec<u8>,
}

/// The parts do not make a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A part is missing, repeated or of another snapshot; assembly starts over at the next index 0.
    #[error("part {index} of {count} of generation {generation} came where another was due")]
    OutOfOrder {
        /// Its generation.
        generation: u64,
        /// Its position.
        index: u32,
        /// How many there should be.
        count: u32,
    },
    /// The snapshot is larger than [`SNAPSHOT_BYTES_MAX`].
    #[error("the snapshot is larger than {SNAPSHOT_BYTES_MAX} bytes")]
    TooLarge,
    /// The parts name another generation than the snapshot inside.
    #[error("the parts are of generation {parts}, the snapshot inside is {inside}")]
    Generation {
        /// According to the parts.
        parts: u64,
        /// According to the snapshot.
        inside: u64,
    },
    /// The assembled bytes are not a snapshot.
    #[error("the snapshot is not valid JSON of its kind")]
    Json(#[from] serde_json::Error),
}

/// Cuts a snapshot into parts of at most [`PART_BYTES_MAX`].
///
/// # Errors
/// [`PartError::TooLarge`]; [`PartError::Json`] if it cannot be written, which its types rule out.
pub fn split_snapshot(snapshot: &RouteSnapshot) -> Result<Vec<SnapshotPart>, PartError> {
    let body = serde_json::to_vec(snapshot)?;
    if body.len() > SNAPSHOT_BYTES_MAX {
        return Err(PartError::TooLarge);
    }
    let count = u32::try_from(body.len().div_ceil(PART_BYTES_MAX)).map_err(|_| PartError::TooLarge)?;
    Ok((0..count)
        .zip(body.chunks(PART_BYTES_MAX))
        .map(|(index, bytes)| SnapshotPart {
            generation: snapshot.generation,
            index,
            count,
            body: bytes.to_vec(),
        })
        .collect())
}

/// Collects the parts of one snapshot at a time.
///
/// Index 0 always starts over, so a sender that gave up half-way does no harm.
#[derive(Debug, Default)]
pub struct SnapshotAssembly {
    generation: u64,
    count: u32,
    next: u32,
    body: Vec<u8>,
}

impl SnapshotAssembly {
    /// Takes the next part; returns the snapshot with the last one.
    ///
    /// # Errors
    /// Any [`PartError`]; what was collected so far is dropped then.
    pub fn handle_part(&mut self, part: &SnapshotPart) -> Result<Option<RouteSnapshot>, PartError> {
        if part.index == 0 {
            *self = Self {
                generation: part.generation,
                count: part.count,
                next: 0,
                body: Vec::new(),
            };
        }
        let due = part.generation == self.generation && part.count == self.count && part.index == self.next;
        if !due || part.index >= part.count {
            *self = Self::default();
            return Err(PartError::OutOfOrder {
                generation: part.generation,
                index: part.index,
                count: part.count,
            });
        }
        if self.body.len() + part.body.len() > SNAPSHOT_BYTES_MAX {
            *self = Self::default();
            return Err(PartError::TooLarge);
        }
        self.body.extend_from_slice(&part.body);
        self.next += 1;
        if self.next < self.count {
            return Ok(None);
        }
        let whole = std::mem::take(self);
        let snapshot: RouteSnapshot = serde_json::from_slice(&whole.body)?;
        if snapshot.generation != whole.generation {
            return Err(PartError::Generation {
                parts: whole.generation,
                inside: snapshot.generation,
            });
        }
        Ok(Some(snapshot))
    }
}
