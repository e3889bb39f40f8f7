//! Maps of a loaded object, by their names.

use std::os::fd::AsFd as _;

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};

use super::{KernelError, memory::Mapped};

/// An ABI value as aya wants map keys and values.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Raw<T>(pub T);

// SAFETY: the type is transparent over one that any bytes make.
unsafe impl<T: bytemuck::Pod> aya::Pod for Raw<T> {}

/// Takes maps of a loaded object by their names. The object keeps its own descriptors: programs that are loaded later name maps by these.
pub struct Take<'a>(pub &'a Ebpf);

impl Take<'_> {
    pub fn raw(&self, name: &'static str) -> Result<Map, KernelError> {
        let taken = self.0.map(name).and_then(data).ok_or(MapError::KeyNotFound).and_then(|data| {
            let descriptor = data.fd().as_fd().try_clone_to_owned()?;
            Map::from_map_data(MapData::from_fd(descriptor)?)
        });
        taken.map_err(|source| KernelError::Map { name, source })
    }

    pub fn array<T: bytemuck::Pod>(&self, name: &'static str, elements: u32) -> Result<Mapped<T>, KernelError> {
        Mapped::new(self.raw(name)?, name, elements)
    }

    pub fn map<M: TryFrom<Map, Error = MapError>>(&self, name: &'static str) -> Result<M, KernelError> {
        self.raw(name)?.try_into().map_err(|source| KernelError::Map { name, source })
    }
}

/// What is known of a map, if it is of a kind that the product has.
pub fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::RingBuf(data)
        | Map::PerCpuArray(data) => Some(data),
        _ => None,
    }
}
