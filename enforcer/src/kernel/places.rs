//! What packets are told by of the gateway's interfaces, addresses and routes, in the kernel.

use std::{mem::offset_of, ops::Range};

use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use enforcer_ebpf::abi::{Block, NET_BLOCKS, Net, POLICIES, Root, Words6};

use super::{KernelError, memory::Mapped};
use crate::net::image::{NetError, NetImage};

/// Blocks of each half of the network's tries.
const HALF: usize = NET_BLOCKS / 2;
/// Own addresses and routes of IPv6 beyond /64.
pub(super) const PLACES6: u32 = 4096;

/// The maps that follow netlink.
pub(super) struct Places {
    pub net: Mapped<Net>,
    pub places6: LpmTrie<MapData, Words6, u32>,
    /// Which half of the blocks the next update may fill.
    pub spare_half: usize,
    /// As [`Net::generation`].
    pub generation: u32,
    pub epoch: u16,
}

impl Places {
    /// Longer prefixes and new blocks first, the blocks in the half that no root cell points into. Runs of sources that change are taken back before
    /// the root cells are stored one by one, and are last: a run says no more than the trie, which decides meanwhile.
    pub fn update(&mut self, net: &NetImage) -> Result<(), KernelError> {
        let first = self.spare_half * HALF;
        let mut root = net.at(first, HALF)?;
        root.epoch = self.epoch.into();
        root.generation = self.generation;
        let refused = |source| KernelError::Map { name: "PLACES6", source };
        let wanted: Vec<(Key<Words6>, u32)> = net
            .long6()
            .map(|(address, length, value)| {
                let words = [96, 64, 32, 0].map(|shift| ((address >> shift) as u32).to_be());
                (Key::new(u32::from(length), words), value)
            })
            .collect();
        // New ones come before old ones go.
        if wanted.len() > PLACES6 as usize / 2 {
            return Err(NetError::TooManyLong(wanted.len(), PLACES6 as usize / 2).into());
        }
        for (key, value) in &wanted {
            self.places6.insert(key, value, 0).map_err(refused)?;
        }
        let all: &[u64] = bytemuck::cast_slice(std::slice::from_ref(&*root));
        let store =
            |bytes: Range<usize>| self.net.store_changed_cells(bytes.start, &all[bytes.start / 8..bytes.end / 8]);
        let words = offset_of!(Net, words);
        let half = words + first * size_of::<Block>();
        store(half..half + HALF * size_of::<Block>());
        for (zone, &run) in root.sources4.iter().enumerate() {
            if self.net.get(0).sources4[zone] != run {
                self.net.store_cell(offset_of!(Net, sources4) + zone * 8, 0);
            }
        }
        // The roots between are the policies' ([`super::hosts::Memory`]), and never stored from here.
        const { assert!(offset_of!(Net, roots) + size_of::<[Root; POLICIES]>() == offset_of!(Net, words)) };
        store(words + size_of_val(&root.words)..size_of::<Net>());
        store(0..offset_of!(Net, roots));
        self.spare_half ^= 1;
        let same = |a: &Key<Words6>, b: &Key<Words6>| a.prefix_len() == b.prefix_len() && a.data() == b.data();
        let present: Vec<_> = self.places6.keys().filter_map(Result::ok).collect();
        for key in present.iter().filter(|key| !wanted.iter().any(|(wanted, _)| same(wanted, key))) {
            self.places6.remove(key).map_err(refused)?;
        }
        Ok(())
    }

    /// Begins an epoch.
    pub fn set_epoch(&mut self, epoch: u16) {
        self.epoch = epoch;
        self.net.store_changed(offset_of!(Net, epoch), &[epoch.into()]);
    }
}
