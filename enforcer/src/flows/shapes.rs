//! Which clauses leave which others nothing.

use std::{array, collections::HashMap};

use super::clauses::{ANY, AXES, Clause, Sets};

/// What clauses ask of the axes from one on, in numbers: for each axis but the first, which others hold all that one holds.
#[derive(Clone, Default)]
pub struct Shapes {
    /// Itself and the wider ones, by shape; each is as another or any on every axis.
    wider: [Vec<Box<[u32]>>; AXES],
    /// The list in which a shape was seen last.
    seen: [Vec<u32>; AXES],
    list: u32,
}

impl Shapes {
    /// Numbers the shapes of all clauses.
    pub fn number<'a>(clauses: impl Iterator<Item = &'a mut Clause>) -> Self {
        let mut numbers: [HashMap<Sets, u32>; AXES] = array::from_fn(|_| HashMap::new());
        for clause in clauses {
            let mut sets = clause.sets;
            for axis in 0..AXES {
                sets[..axis].fill(ANY);
                let next = numbers[axis].len() as u32;
                clause.shapes[axis] = *numbers[axis].entry(sets).or_insert(next);
            }
        }
        let mut shapes = Self::default();
        for (axis, numbers) in numbers.iter().enumerate() {
            shapes.wider[axis] = vec![Box::default(); numbers.len()];
            shapes.seen[axis] = vec![0; numbers.len()];
            for (sets, &number) in numbers {
                let wider = (0..1_u32 << AXES).filter_map(|mask| {
                    let wider: Sets = array::from_fn(|axis| if mask >> axis & 1 == 1 { ANY } else { sets[axis] });
                    numbers.get(&wider).copied()
                });
                let mut wider: Vec<u32> = wider.collect();
                wider.sort_unstable();
                wider.dedup();
                shapes.wider[axis][number as usize] = wider.into();
            }
        }
        shapes
    }

    /// Takes clauses out of a list that an earlier one leaves nothing, on this axis and those behind it.
    pub fn prune(&mut self, clauses: &[Clause], list: &mut Vec<u32>, axis: usize) {
        if axis == AXES {
            list.truncate(1);
            return;
        }
        self.list += 1;
        let seen = &mut self.seen[axis];
        list.retain(|&index| {
            let shape = clauses[index as usize].shapes[axis] as usize;
            let taken = self.wider[axis][shape].iter().any(|&wider| seen[wider as usize] == self.list);
            seen[shape] = self.list;
            !taken
        });
    }
}
