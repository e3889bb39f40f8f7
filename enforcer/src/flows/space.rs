//! The space of flows, and the first match in each part of it.

use std::{array, collections::HashMap};

use super::{
    TooMuch,
    addresses::{Addresses, Block},
    axis::Axis,
    clauses::{ANY, Clause, Side, numbered},
    ports::{PortLine, Ports},
    times::Times,
};
use crate::{
    compile::sets::SetId,
    policy::{Policy, Rules},
};

/// Steps before an analysis is given up: some ten seconds.
const MOST_STEPS: usize = 2_000_000_000;

/// The axes, by their place in [`Clause::sets`] and [`Cell`].
const DESTINATION: usize = 0;
const AXES: usize = 4;

/// How much may still be looked at.
pub struct Budget(usize);

impl Budget {
    /// Takes steps off.
    pub fn spend(&mut self, steps: usize) -> Result<(), TooMuch> {
        self.0 = self.0.checked_sub(steps).ok_or(TooMuch { what: "combinations", limit: MOST_STEPS })?;
        Ok(())
    }
}

/// A part of the space: for each axis a list of classes, as a number of the axis.
pub type Cell = [SetId; AXES];

/// What clauses ask of each axis.
pub type Sets = [u32; AXES];

/// The flows of one family.
pub struct Plane {
    axes: [Axis; AXES],
    destinations: Addresses,
    sources: Addresses,
    ports: PortLine,
    times: Times,
    /// The set of destinations that are judged as others: NAT64 prefixes.
    judged_elsewhere: Option<u32>,
    budget: Budget,
}

/// The flows of IPv4 and of IPv6, as the rules of several policies see them together.
pub struct Space<const N: usize> {
    /// The policies' clauses.
    pub sides: [Side; N],
    /// IPv4 and IPv6.
    pub planes: [Plane; 2],
}

impl<const N: usize> Space<N> {
    /// The space that some rules make.
    ///
    /// # Errors
    /// If it would be too large to look at.
    pub fn new(policies: [(&Policy, &Rules); N]) -> Result<Self, TooMuch> {
        let (sides, mut sets) = numbered(&policies);
        // Prefixes that all policies translate are none of the rules' destinations.
        let mut nat64 = policies.first().map_or_else(Vec::new, |(policy, _)| policy.nat64.clone());
        nat64.retain(|net| policies.iter().all(|(policy, _)| policy.nat64.contains(net)));
        let judged_elsewhere = (!nat64.is_empty()).then(|| {
            sets.destinations.push(nat64.into_iter().map(Into::into).collect());
            sets.destinations.len() as u32 - 1
        });
        let plane = |v6| {
            let (destinations, to) = Addresses::new(v6, &sets.destinations)?;
            let (sources, from) = Addresses::new(v6, &sets.sources)?;
            let (ports, port) = PortLine::new(v6, &sets.ports);
            let (times, time) = Times::new(&sets.times)?;
            let budget = Budget(MOST_STEPS);
            let axes = [to, from, port, time];
            Ok(Plane { axes, destinations, sources, ports, times, judged_elsewhere, budget })
        };
        let mut sides = sides.into_iter();
        Ok(Self { sides: array::from_fn(|_| sides.next().unwrap_or_default()), planes: [plane(false)?, plane(true)?] })
    }
}

impl Plane {
    /// The classes of destinations, each with the sets that it lies in.
    pub fn destinations(&self) -> Vec<(SetId, Vec<u32>)> {
        let axis = &self.axes[DESTINATION];
        let all = axis.classes.iter().map(|&class| (class, axis.sets(class).to_vec()));
        all.filter(|(_, sets)| self.judged_elsewhere.is_none_or(|other| !sets.contains(&other))).collect()
    }

    /// A destination class as a list of one.
    pub fn alone(&mut self, destination: SetId) -> SetId {
        self.axes[DESTINATION].lists.intern(&[destination])
    }

    /// The clauses that speak of a class of destinations, without those that an earlier one leaves nothing.
    ///
    /// # Errors
    /// If all of the work so far was too much.
    pub fn list(&mut self, side: &Side, sets: &[u32]) -> Result<Vec<u32>, TooMuch> {
        let list = side.list(sets);
        self.budget.spend(list.len() + 1)?;
        Ok(prune(&side.clauses, &list, DESTINATION + 1))
    }

    /// The parts of one destination's flows, as far as the clauses tell them apart, with the first clause of each list that matches there. `dull` is
    /// asked for lists that need no closer look: of which no part is of interest.
    ///
    /// # Errors
    /// If all of the work so far was too much.
    pub fn first_matches<const N: usize>(
        &mut self,
        clauses: [&[Clause]; N],
        lists: [Vec<u32>; N],
        dull: &dyn Fn(&[Vec<u32>; N], usize) -> bool,
        found: &mut dyn FnMut(Cell, [Option<u32>; N]),
    ) -> Result<(), TooMuch> {
        self.refine(clauses, &lists, DESTINATION + 1, [0; AXES], dull, found)
    }

    fn refine<const N: usize>(
        &mut self,
        clauses: [&[Clause]; N],
        lists: &[Vec<u32>; N],
        axis: usize,
        cell: Cell,
        dull: &dyn Fn(&[Vec<u32>; N], usize) -> bool,
        found: &mut dyn FnMut(Cell, [Option<u32>; N]),
    ) -> Result<(), TooMuch> {
        if dull(lists, axis) {
            return Ok(());
        }
        if axis == AXES {
            found(cell, array::from_fn(|side| lists[side].first().copied()));
            return Ok(());
        }
        let set = |side: usize, clause: u32| clauses[side][clause as usize].sets[axis];
        let mut named: Vec<u32> = (0..N).flat_map(|side| lists[side].iter().map(move |&c| set(side, c))).collect();
        named.sort_unstable();
        named.dedup();
        named.pop_if(|last| *last == ANY);
        let parts = self.axes[axis].split(&named, &mut self.budget)?;
        for part in parts.iter() {
            self.budget.spend(lists.iter().map(Vec::len).sum::<usize>() + 1)?;
            let inside = |set: u32| set == ANY || part.inside.binary_search(&set).is_ok();
            let lists = array::from_fn(|side| {
                let list: Vec<u32> = lists[side].iter().copied().filter(|&clause| inside(set(side, clause))).collect();
                prune(clauses[side], &list, axis + 1)
            });
            let mut cell = cell;
            cell[axis] = part.classes;
            self.refine(clauses, &lists, axis + 1, cell, dull, found)?;
        }
        Ok(())
    }

    /// The same cells in fewer: those that differ on one axis only are joined, axis by axis.
    pub fn join(&mut self, mut cells: Vec<Cell>) -> Vec<Cell> {
        for axis in (0..AXES).rev() {
            let mut alike: HashMap<Cell, Vec<SetId>> = HashMap::new();
            for cell in cells {
                let mut rest = cell;
                rest[axis] = 0;
                alike.entry(rest).or_default().push(cell[axis]);
            }
            cells = alike
                .into_iter()
                .map(|(mut cell, lists)| {
                    cell[axis] = self.axes[axis].join(&lists);
                    cell
                })
                .collect();
        }
        cells.sort_unstable();
        cells
    }

    /// A cell's destinations, ports and sources, and when: empty if always.
    pub fn words(&self, cell: Cell) -> (Vec<Block>, Ports, Vec<Block>, Vec<String>) {
        let [to, from, ports, time] = array::from_fn(|axis| self.axes[axis].lists.get(cell[axis]));
        (self.destinations.blocks(to), self.ports.words(ports), self.sources.blocks(from), self.times.words(time))
    }
}

/// A list without the clauses that an earlier one leaves nothing, on this axis and those behind it.
fn prune(clauses: &[Clause], list: &[u32], axis: usize) -> Vec<u32> {
    let mut seen: std::collections::HashSet<Sets> = std::collections::HashSet::new();
    let mut kept = Vec::with_capacity(list.len());
    for &index in list {
        let mut sets = clauses[index as usize].sets;
        sets[..axis].fill(ANY);
        // Everything that is as wide or wider: each axis as it is, or any.
        let wider = |mask: u32| -> Sets { array::from_fn(|axis| if mask >> axis & 1 == 1 { ANY } else { sets[axis] }) };
        if (0..1 << AXES).any(|mask| seen.contains(&wider(mask))) {
            continue;
        }
        seen.insert(sets);
        kept.push(index);
        if sets == [ANY; AXES] {
            break;
        }
    }
    kept
}
