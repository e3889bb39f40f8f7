//! Array maps in this process's memory (`BPF_F_MMAPABLE`).
//!
//! A system call per cell would take minutes for a million prefixes, and copies a value with `memcpy`; in mapped memory a cell is one store, which
//! a running program sees whole or not at all.

use std::{
    marker::PhantomData,
    mem::offset_of,
    os::fd::{AsFd, AsRawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::{Map, MapData};
use bytemuck::Pod;
use enforcer_ebpf::abi::{Net, POLICIES, Root};

use super::KernelError;

/// Elements of a mapped array map whose values are `T`, or of an array in its one value.
pub struct Mapped<T> {
    /// Where the mapping begins, and its length.
    whole: (NonNull<u8>, usize),
    /// The first element that is wanted of it.
    start: NonNull<T>,
    elements: usize,
    // Keeps the map, though the mapping alone would do.
    _map: MapData,
    values: PhantomData<T>,
}

// SAFETY: the mapping is owned, and is written through `&mut self` or by atomic stores only.
unsafe impl<T: Send> Send for Mapped<T> {}
// SAFETY: as above; reads through `&self` are copies of plain data.
unsafe impl<T: Sync> Sync for Mapped<T> {}

impl Mapped<Root> {
    /// The policies' roots, in the one value of `NET`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn roots(net: Map) -> Result<Self, KernelError> {
        Self::within(net, "NET", offset_of!(Net, roots), POLICIES as u32)
    }
}

impl<T: Pod> Mapped<T> {
    /// Maps an array map with `elements` values.
    ///
    /// # Errors
    /// If the map is no array, or the kernel refuses the mapping.
    ///
    /// # Panics
    /// Never for the ABI's types: their sizes are multiples of 8, which the kernel's element size is rounded up to.
    pub fn new(map: Map, name: &'static str, elements: u32) -> Result<Self, KernelError> {
        Self::within(map, name, 0, elements)
    }

    /// Maps `elements` values that begin so many bytes behind the start of an array map: a field of its one value.
    ///
    /// # Errors
    /// As [`Self::new`].
    ///
    /// # Panics
    /// If they would not begin at a multiple of eight bytes, as cells of that size are stored whole.
    fn within(map: Map, name: &'static str, offset: usize, elements: u32) -> Result<Self, KernelError> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        assert!(offset.is_multiple_of(align_of::<T>().max(8)), "values at {offset}");
        let Map::Array(data) = map else {
            return Err(KernelError::Map { name, source: aya::maps::MapError::InvalidMapType { map_type: 0 } });
        };
        let bytes = offset + elements as usize * size_of::<T>();
        // SAFETY: a new shared mapping of a file descriptor that is open; the kernel checks its length against the map.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                data.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(KernelError::Memory { name, bytes, source: std::io::Error::last_os_error() });
        }
        let whole: NonNull<u8> = NonNull::new(start.cast()).ok_or_else(|| KernelError::Memory {
            name,
            bytes,
            source: std::io::Error::from_raw_os_error(libc::ENOMEM),
        })?;
        // SAFETY: the mapping is so long.
        let start = unsafe { whole.add(offset) }.cast();
        Ok(Self { whole: (whole, bytes), start, elements: elements as usize, _map: data, values: PhantomData })
    }

    /// Copies values into the first elements, before any program uses them.
    ///
    /// # Panics
    /// If there are more values than elements: sizes come from the same image.
    pub fn fill(&mut self, values: &[T]) {
        assert!(values.len() <= self.elements, "{} values for {} elements", values.len(), self.elements);
        // SAFETY: the mapping has room for them, and cannot overlap with a Rust slice; `T` is plain data.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.as_ptr(), values.len()) };
    }

    /// Stores the words of a value's field, given by its byte offset, that differ; the others are not dirtied.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn store_changed(&self, offset: usize, words: &[u32]) {
        assert!(
            offset.is_multiple_of(4) && offset + words.len() * 4 <= self.bytes(),
            "{} words at {offset}",
            words.len()
        );
        for (index, &word) in words.iter().enumerate() {
            let cell = self.word(offset / 4 + index);
            if cell.load(Ordering::Relaxed) != word {
                cell.store(word, Ordering::Release);
            }
        }
    }

    /// Likewise where fields of eight bytes are among them, each of which is stored whole.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn store_changed_cells(&self, offset: usize, cells: &[u64]) {
        for (index, &value) in cells.iter().enumerate() {
            let cell = self.cell(offset + index * 8);
            if cell.load(Ordering::Relaxed) != value {
                cell.store(value, Ordering::Release);
            }
        }
    }

    /// Stores eight bytes at once, given by their byte offset.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn store_cell(&self, offset: usize, value: u64) {
        self.cell(offset).store(value, Ordering::Release);
    }

    fn cell(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes(), "a cell at {offset}");
        // SAFETY: within the mapping, as just checked, and a multiple of 8 from its start, which is one, too; concurrent accesses are atomic or by the kernel.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().cast::<u64>().add(offset / 8)) }
    }

    /// An element where it is; only of maps to which no program stores.
    ///
    /// # Panics
    /// If there is no such element.
    #[must_use]
    pub fn get(&self, index: usize) -> &T {
        assert!(index < self.elements, "element {index} of {}", self.elements);
        // SAFETY: within the mapping, as just checked; any bytes make a `T`, and whoever stores to it holds the only reference to this value.
        unsafe { self.start.add(index).as_ref() }
    }

    /// How many elements there are.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.elements
    }

    /// An element as it is now. Each of its words is read whole; programs may store to the next one meanwhile.
    ///
    /// # Panics
    /// If there is no such element.
    #[must_use]
    pub fn read(&self, index: usize) -> T {
        assert!(index < self.elements, "element {index} of {}", self.elements);
        // SAFETY: within the mapping, as just checked; any bytes make a `T`, so that one being written is no worse than a mix of old and new words.
        unsafe { self.start.as_ptr().add(index).read_volatile() }
    }

    /// Bytes of the elements.
    const fn bytes(&self) -> usize {
        self.elements * size_of::<T>()
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the callers have checked the bounds; elements begin a multiple of 8 behind a page; concurrent accesses are atomic or by the kernel.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().cast::<u32>().add(index)) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives it.
        unsafe { libc::munmap(self.whole.0.as_ptr().cast(), self.whole.1) };
    }
}
