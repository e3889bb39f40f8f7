//! The space of flows, and the first match in each part of it.

use std::{array, collections::BTreeMap};

use super::{
    TooMuch,
    addresses::{Addresses, Block},
    axis::Axis,
    clauses::{ANY, AXES, Clause, Numbered, Side, numbered},
    ports::{PortLine, Ports},
    shapes::Shapes,
    times::Times,
};
use crate::{
    compile::sets::SetId,
    policy::{Policy, Rules},
};

/// Steps before an analysis is given up: some ten seconds.
const MOST_STEPS: usize = 300_000_000;

/// Axes by their place in [`Clause::sets`] and [`Cell`].
const DESTINATION: usize = 0;
const PORTS: usize = 2;

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

/// Of which flows the first matches are asked for: all, or those that certain clauses speak of, by list and clause.
pub type Wanted<'a> = Option<&'a dyn Fn(usize, u32) -> bool>;

/// Whether flows that these lists speak of are wanted.
pub fn is_wanted(lists: &[Vec<u32>], wanted: Wanted<'_>) -> bool {
    let any = |wanted: &dyn Fn(usize, u32) -> bool| {
        lists.iter().enumerate().any(|(side, list)| list.iter().any(|&clause| wanted(side, clause)))
    };
    wanted.is_none_or(any)
}

/// The flows of one family.
pub struct Plane {
    axes: [Axis; AXES],
    destinations: Addresses,
    sources: Addresses,
    ports: PortLine,
    times: Times,
    shapes: Shapes,
    budget: Budget,
}

/// The flows as the rules of several policies see them together.
pub struct Space<const N: usize> {
    /// The policies' clauses.
    pub sides: [Side; N],
    sets: Numbered,
    shapes: Shapes,
}

impl<const N: usize> Space<N> {
    /// The space that some rules make.
    #[must_use]
    pub fn new(policies: [(&Policy, &Rules); N]) -> Self {
        let (sides, sets, shapes) = numbered(&policies);
        let mut sides = sides.into_iter();
        Self { sides: array::from_fn(|_| sides.next().unwrap_or_default()), sets, shapes }
    }

    /// The flows of IPv4 and of IPv6.
    ///
    /// # Errors
    /// If they would be too many to look at.
    pub fn planes(&self) -> Result<[Plane; 2], TooMuch> {
        let plane = |v6| {
            let (destinations, to) = Addresses::new(v6, &self.sets.destinations)?;
            let (sources, from) = Addresses::new(v6, &self.sets.sources)?;
            let (ports, port) = PortLine::new(v6, &self.sets.ports);
            let (times, time) = Times::new(&self.sets.times)?;
            Ok(Plane {
                axes: [to, from, port, time],
                destinations,
                sources,
                ports,
                times,
                shapes: self.shapes.clone(),
                budget: Budget(MOST_STEPS),
            })
        };
        Ok([plane(false)?, plane(true)?])
    }
}

impl Plane {
    /// The classes of destinations, each with the sets that it lies in.
    pub fn destinations(&self) -> Vec<(SetId, Vec<u32>)> {
        let axis = &self.axes[DESTINATION];
        axis.classes.iter().map(|&class| (class, axis.sets(class).to_vec())).collect()
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
        let mut list = side.list(sets);
        self.budget.spend(list.len() + 1)?;
        self.shapes.prune(&side.clauses, &mut list, DESTINATION + 1);
        Ok(list)
    }

    /// The parts of one destination's flows, as far as the clauses tell them apart, with the first clause of each list that matches there: of those
    /// that a `wanted` clause speaks of.
    ///
    /// # Errors
    /// If all of the work so far was too much.
    pub fn first_matches<const N: usize>(
        &mut self,
        clauses: [&[Clause]; N],
        lists: &[Vec<u32>; N],
        wanted: Wanted<'_>,
        found: &mut dyn FnMut(Cell, [Option<u32>; N]),
    ) -> Result<(), TooMuch> {
        self.refine(clauses, lists, DESTINATION + 1, [0; AXES], wanted, found)
    }

    fn refine<const N: usize>(
        &mut self,
        clauses: [&[Clause]; N],
        lists: &[Vec<u32>; N],
        axis: usize,
        cell: Cell,
        wanted: Wanted<'_>,
        found: &mut dyn FnMut(Cell, [Option<u32>; N]),
    ) -> Result<(), TooMuch> {
        if axis == AXES {
            found(cell, array::from_fn(|side| lists[side].first().copied()));
            return Ok(());
        }
        let by_set: [Vec<(u32, u32)>; N] = array::from_fn(|side| {
            let sets = lists[side].iter().map(|&clause| (clauses[side][clause as usize].sets[axis], clause));
            let mut sets: Vec<_> = sets.collect();
            sets.sort_unstable();
            sets
        });
        let mut named: Vec<u32> = by_set.iter().flatten().map(|(set, _)| *set).collect();
        named.sort_unstable();
        named.dedup();
        named.pop_if(|last| *last == ANY);
        let parts = self.axes[axis].split(&named, &mut self.budget)?;
        for part in parts.iter() {
            let mut further: [Vec<u32>; N] = array::from_fn(|side| {
                let pairs = &by_set[side];
                let mut list = Vec::new();
                for set in part.inside.iter().chain([&ANY]) {
                    let from = pairs.partition_point(|(other, _)| other < set);
                    list.extend(pairs[from..].iter().take_while(|(other, _)| other == set).map(|(_, clause)| clause));
                }
                list.sort_unstable();
                list
            });
            self.budget.spend(further.iter().map(Vec::len).sum::<usize>() + part.inside.len() + 1)?;
            for side in 0..N {
                self.shapes.prune(clauses[side], &mut further[side], axis + 1);
            }
            if is_wanted(&further, wanted) {
                let mut cell = cell;
                cell[axis] = part.classes;
                self.refine(clauses, &further, axis + 1, cell, wanted, found)?;
            }
        }
        Ok(())
    }

    /// The same cells in fewer: those that differ on one axis only are joined, axis by axis.
    pub fn join(&mut self, mut cells: Vec<Cell>) -> Vec<Cell> {
        for axis in (0..AXES).rev() {
            let mut alike: BTreeMap<Cell, Vec<SetId>> = BTreeMap::new();
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

    /// The port classes of a cell.
    #[must_use]
    pub fn ports(&self, cell: Cell) -> &[SetId] {
        self.axes[PORTS].lists.get(cell[PORTS])
    }

    /// A cell's destinations, ports and sources, and when: empty if always.
    pub fn words(&self, cell: Cell) -> (Vec<Block>, Ports, Vec<Block>, Vec<String>) {
        let [to, from, ports, time] = array::from_fn(|axis| self.axes[axis].lists.get(cell[axis]));
        (self.destinations.blocks(to), self.ports.words(ports), self.sources.blocks(from), self.times.words(time))
    }
}
