//! What the programs take.

use aya::programs::loaded_programs;

use super::object::Object;
use crate::api::types::ProgramTime;

impl Object {
    /// How often and for how long each program ran; only those that did while the kernel counted that.
    #[must_use]
    pub fn program_times(&self) -> Vec<ProgramTime> {
        let time = |(name, program): (&str, &aya::programs::Program)| {
            // Those that were not loaded have none.
            let info = program.info().ok().filter(|info| info.run_count() > 0)?;
            let nanoseconds = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
            Some(ProgramTime { program: name.to_owned(), runs: info.run_count(), nanoseconds })
        };
        self.ebpf.programs().filter_map(time).collect()
    }
}

/// A program as people know it, by its number: with its name, where the right to see others' programs is.
pub(super) fn called(id: u32) -> String {
    let found = loaded_programs().map_while(Result::ok).find(|program| program.id() == id);
    let name = found.and_then(|program| Some(format!(" ({})", program.name_as_str()?)));
    format!("XDP program {id}{}", name.unwrap_or_default())
}
