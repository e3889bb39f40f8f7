//! Counters of a set of tables, and how the next set goes on counting where they end.

use std::{collections::HashMap, path::Path};

use aya::maps::{Map, MapData, MapError};
use enforcer_ebpf::abi::Counter;
use sha2::{Digest as _, Sha256};

use super::{KernelError, memory::Mapped};

/// The maps' names, by which they are pinned.
pub(super) const COUNTERS: &str = "COUNTERS";
pub(super) const IDENTITIES: &str = "IDENTITIES";

/// The packets and bytes of one set: a part for each CPU, and one for what was carried over from the set before.
pub struct Counters {
    cells: Mapped<Counter>,
    /// What each counter counts; 0 is nothing.
    identities: Mapped<u64>,
    /// Counters of one part.
    part: usize,
}

impl Counters {
    pub(super) const fn new(cells: Mapped<Counter>, identities: Mapped<u64>) -> Self {
        let part = identities.elements();
        Self { cells, identities, part }
    }

    /// Those of a set that is pinned, whoever loaded it.
    ///
    /// # Errors
    /// If they are not there, or not laid out as here.
    pub fn pinned(set: &Path) -> Result<Self, KernelError> {
        Ok(Self::new(open(set, COUNTERS)?, open(set, IDENTITIES)?))
    }

    /// Packets and bytes by counter; those behind the last rule's mean nothing.
    #[must_use]
    pub fn sums(&self) -> Vec<Counter> {
        let mut sums = vec![Counter::default(); self.part];
        for index in 0..self.cells.elements() {
            let counter = self.cells.read(index);
            let sum = &mut sums[index % self.part];
            sum.packets += counter.packets;
            sum.bytes += counter.bytes;
        }
        sums
    }

    /// The counters of another set that count the same as here, as pairs of an index there and one here.
    #[must_use]
    pub fn same(&self, other: &Self) -> Vec<(usize, usize)> {
        let there: HashMap<u64, usize> = (0..other.part).map(|index| (other.identities.read(index), index)).collect();
        let here = (0..self.part).map(|index| (self.identities.read(index), index));
        here.filter(|(identity, _)| *identity != 0)
            .filter_map(|(identity, index)| Some((*there.get(&identity)?, index)))
            .collect()
    }

    /// Stores what another set has counted as carried over, in place of what was: however often this is done, nothing counts twice.
    pub fn carry(&self, other: &Self, same: &[(usize, usize)]) {
        let sums = other.sums();
        let carried = self.cells.elements() - self.part;
        for &(there, here) in same {
            let offset = (carried + here) * size_of::<Counter>();
            self.cells.store_cell(offset, sums[there].packets);
            self.cells.store_cell(offset + 8, sums[there].bytes);
        }
    }
}

/// A number for what a counter counts, the same in all policies and versions.
#[must_use]
pub fn identity(words: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word);
        hash.update([0]);
    }
    // Zero is no identity.
    bytemuck::pod_read_unaligned::<u64>(&hash.finalize()[..8]).max(1)
}

fn open<T: bytemuck::Pod>(set: &Path, name: &'static str) -> Result<Mapped<T>, KernelError> {
    let refused = |source| KernelError::Map { name, source };
    let data = MapData::from_pin(set.join(name)).map_err(refused)?;
    let info = data.info().map_err(refused)?;
    if info.value_size() as usize != size_of::<T>() {
        return Err(refused(MapError::InvalidValueSize { size: info.value_size() as usize, expected: size_of::<T>() }));
    }
    let elements = info.max_entries();
    Mapped::new(Map::from_map_data(data).map_err(refused)?, name, elements)
}
