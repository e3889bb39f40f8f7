//! The addresses of one family in classes, and classes of them as prefixes again.

use std::{
    fmt::{self, Display, Formatter},
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use super::{TooMuch, axis::Axis};
use crate::compile::{
    prefixes::{self, Prefix},
    sets::{SetId, Sets},
};

/// Elements of all classes' sets together, at most: as the compiler's tables.
const MOST_ELEMENTS: usize = 32 * 1024 * 1024;

/// The class of what no prefix covers.
const OUTERMOST: SetId = 0;

/// A prefix without some parts of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Block {
    /// The prefix.
    pub prefix: IpNet,
    /// What is not meant; parts of these that are meant are blocks of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<IpNet>,
}

impl Display for Block {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        /// More exceptions are counted, not told.
        const MOST: usize = 8;
        write!(f, "{}", self.prefix)?;
        for (index, except) in self.except.iter().take(MOST).enumerate() {
            write!(f, "{}{except}", if index == 0 { " except " } else { " and " })?;
        }
        match self.except.len().checked_sub(MOST) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

/// Blocks as people read them: as many as they do, and how many more.
#[must_use]
pub fn blocks_text(blocks: &[Block]) -> String {
    const MOST: usize = 8;
    let whole = |v6| {
        move |block: &&Block| {
            block.prefix.prefix_len() == 0 && block.except.is_empty() && block.prefix.addr().is_ipv6() == v6
        }
    };
    if blocks.iter().any(|block| whole(false)(&block)) && blocks.iter().any(|block| whole(true)(&block)) {
        return "any".into();
    }
    let mut text = blocks.iter().take(MOST).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if blocks.len() > MOST {
        text += &format!(" and {} more", blocks.len() - MOST);
    }
    text
}

/// One family's prefixes, each after those that contain it, with their classes. IPv4 addresses are in the first 32 bits.
pub struct Addresses {
    nested: Vec<Prefix<u128>>,
    v6: bool,
    /// The prefix around each, by index; the last index and beyond is none.
    around: Vec<usize>,
    /// The prefixes right inside each; last, those that are in none.
    inside: Vec<Vec<usize>>,
    /// The prefixes of each class.
    of_class: Vec<Vec<usize>>,
}

impl Addresses {
    /// The prefixes of numbered sets, and the axis that they make.
    pub fn new(v6: bool, sets: &[Vec<IpNet>]) -> Result<(Self, Axis), TooMuch> {
        let mut prefixes = Vec::new();
        for (index, nets) in sets.iter().enumerate() {
            let of_family = nets.iter().filter(|net| net.addr().is_ipv6() == v6);
            prefixes.extend(of_family.map(|net| prefix(*net, index as u32)));
        }
        let mut classes = Sets::default();
        classes.intern(&[]);
        let nested = prefixes::nest(prefixes, OUTERMOST, &mut classes, MOST_ELEMENTS)
            .map_err(|_| TooMuch { what: "elements of overlapping prefix sets", limit: MOST_ELEMENTS })?;
        let occupied = occupied(&nested);
        let (mut around, mut inside) = (Vec::new(), vec![Vec::new(); nested.len() + 1]);
        let mut of_class = vec![Vec::new(); classes.len()];
        let mut open: Vec<usize> = Vec::new();
        for (index, part) in nested.iter().enumerate() {
            while open.pop_if(|outer| last(&nested[*outer]) < part.address).is_some() {}
            let outer = open.last().copied().unwrap_or(nested.len());
            around.push(outer);
            inside[outer].push(index);
            of_class[part.value as usize].push(index);
            open.push(index);
        }
        Ok((Self { nested, v6, around, inside, of_class }, Axis::new(classes, occupied)))
    }

    /// The addresses of some classes, sorted, in as few prefixes and exceptions as there can be.
    pub fn blocks(&self, classes: &[SetId]) -> Vec<Block> {
        let mut tree = Tree { nodes: Vec::new() };
        let changes = self.changes(classes);
        let root = tree.grow(&changes, 0, 0, colour(classes.binary_search(&OUTERMOST).is_ok()));
        let mut blocks = Vec::new();
        tree.tell(root, Place { address: 0, depth: 0 }, None, &mut |place, block| self.tell(place, block, &mut blocks));
        blocks
    }

    /// The prefixes that are of these classes where the one around is not, or the other way round; the value is the colour.
    fn changes(&self, classes: &[SetId]) -> Vec<Prefix<u128>> {
        let member = |index: usize| {
            let class = self.nested.get(index).map_or(OUTERMOST, |prefix| prefix.value);
            classes.binary_search(&class).is_ok()
        };
        let own = classes.iter().flat_map(|&class| &self.of_class[class as usize]);
        let whole = member(self.nested.len()).then_some(self.nested.len());
        let mut changed: Vec<usize> = Vec::new();
        for index in own.copied().chain(whole) {
            if index < self.nested.len() && !member(self.around[index]) {
                changed.push(index);
            }
            changed.extend(self.inside[index].iter().filter(|&&part| !member(part)));
        }
        changed.sort_unstable();
        changed.iter().map(|&index| Prefix { value: colour(member(index)).into(), ..self.nested[index] }).collect()
    }

    /// Notes a new block, or an exception of one; returns the block's index.
    fn tell(&self, place: Place, exception_of: Option<usize>, blocks: &mut Vec<Block>) -> usize {
        let prefix = if self.v6 {
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(place.address), place.depth))
        } else {
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from((place.address >> 96) as u32), place.depth))
        };
        if let Some(block) = exception_of {
            blocks[block].except.push(prefix);
            return block;
        }
        blocks.push(Block { prefix, except: Vec::new() });
        blocks.len() - 1
    }
}

fn prefix(net: IpNet, value: u32) -> Prefix<u128> {
    match net {
        IpNet::V4(net) => {
            Prefix { address: u128::from(u32::from(net.network())) << 96, length: net.prefix_len(), value }
        }
        IpNet::V6(net) => Prefix { address: net.network().into(), length: net.prefix_len(), value },
    }
}

fn last(prefix: &Prefix<u128>) -> u128 {
    prefix.address | u128::MAX.checked_shr(prefix.length.into()).unwrap_or(0)
}

/// The classes that some address is of: of a prefix whose parts cover it as a whole, none is.
fn occupied(nested: &[Prefix<u128>]) -> Vec<SetId> {
    /// A prefix that later ones may be parts of; what lies between its parts is its own.
    struct Open {
        class: SetId,
        next: Option<u128>,
        last: u128,
    }
    let mut occupied = Vec::new();
    let mut open = vec![Open { class: OUTERMOST, next: Some(0), last: u128::MAX }];
    let mut close = |open: &Open| {
        if open.next.is_some_and(|next| next <= open.last) {
            occupied.push(open.class);
        }
    };
    for part in nested {
        while let Some(done) = open.pop_if(|outer| outer.last < part.address) {
            close(&done);
        }
        if let Some(outer) = open.last_mut() {
            close(&Open {
                last: part.address.saturating_sub(1),
                next: outer.next.filter(|&n| n < part.address),
                ..*outer
            });
            outer.next = last(part).checked_add(1);
        }
        open.push(Open { class: part.value, next: Some(part.address), last: last(part) });
    }
    open.iter().for_each(close);
    occupied
}

/// Bits for what an address is: outside or inside.
const fn colour(inside: bool) -> u8 {
    if inside { 2 } else { 1 }
}

/// A prefix on the way down.
#[derive(Clone, Copy)]
struct Place {
    address: u128,
    depth: u8,
}

/// The fewest prefixes that say the same by longest match (Draves and others, "Constructing optimal IP routing tables", 1999): from below, the
/// colours that a node had best inherit; from above, a prefix where it inherits another one.
struct Tree {
    nodes: Vec<Node>,
}

struct Node {
    colours: u8,
    children: Option<[usize; 2]>,
}

impl Tree {
    fn grow(&mut self, prefixes: &[Prefix<u128>], address: u128, depth: u8, around: u8) -> usize {
        let (own, below) = match prefixes {
            [first, rest @ ..] if first.length == depth => (first.value as u8, rest),
            _ => (around, prefixes),
        };
        let (colours, children) = if below.is_empty() {
            (own, None)
        } else {
            let middle = address | 1 << (127 - depth);
            let (low, high) = below.split_at(below.partition_point(|prefix| prefix.address < middle));
            let children = [self.grow(low, address, depth + 1, own), self.grow(high, middle, depth + 1, own)];
            let [low, high] = children.map(|child| self.nodes[child].colours);
            (if low & high == 0 { low | high } else { low & high }, Some(children))
        };
        self.nodes.push(Node { colours, children });
        self.nodes.len() - 1
    }

    /// Tells each place where the colour changes, with the block around it if it ends that one; `block` is the one that the node inherits.
    fn tell(
        &self,
        node: usize,
        place: Place,
        block: Option<usize>,
        told: &mut dyn FnMut(Place, Option<usize>) -> usize,
    ) {
        let Node { colours, children } = &self.nodes[node];
        let block = if colours & colour(block.is_some()) != 0 {
            block
        } else {
            let new = told(place, block);
            block.is_none().then_some(new)
        };
        if let Some([low, high]) = *children {
            let depth = place.depth + 1;
            self.tell(low, Place { depth, ..place }, block, told);
            self.tell(high, Place { address: place.address | 1 << (128 - depth), depth }, block, told);
        }
    }
}
