//! Maps of a loaded object, by their names.

use aya::{Ebpf, maps::Map};

use super::{KernelError, memory::Mapped};

/// An ABI value as aya wants map keys and values.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Raw<T>(pub T);

// SAFETY: the type is transparent over one that any bytes make.
unsafe impl<T: bytemuck::Pod> aya::Pod for Raw<T> {}

/// Takes maps out of a loaded object by their names.
pub struct Take<'a>(pub &'a mut Ebpf);

impl Take<'_> {
    pub fn raw(&mut self, name: &'static str) -> Result<Map, KernelError> {
        self.0.take_map(name).ok_or(KernelError::Map { name, source: aya::maps::MapError::KeyNotFound })
    }

    pub fn array<T: bytemuck::Pod>(&mut self, name: &'static str, elements: u32) -> Result<Mapped<T>, KernelError> {
        Mapped::new(self.raw(name)?, name, elements)
    }

    pub fn map<M: TryFrom<Map, Error = aya::maps::MapError>>(&mut self, name: &'static str) -> Result<M, KernelError> {
        self.raw(name)?.try_into().map_err(|source| KernelError::Map { name, source })
    }
}
