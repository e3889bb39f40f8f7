//! What the programs take, and what others' are called.

use std::{collections::HashMap, sync::OnceLock};

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

/// Names of the kernel's programs by their numbers, as they were when they could be asked for.
static NAMES: OnceLock<HashMap<u32, String>> = OnceLock::new();

/// Notes what the kernel's programs are called, while that may be known: it takes CAP_SYS_ADMIN, which a controller gives up.
pub fn note_names() {
    NAMES.get_or_init(|| {
        let programs = loaded_programs().filter_map(Result::ok);
        programs.filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned()))).collect()
    });
}

/// An XDP program as people know it, by its number: with its name, if that was noted.
pub(super) fn called(id: u32) -> String {
    match NAMES.get().and_then(|names| names.get(&id)) {
        Some(name) => format!("XDP program {id} ({name})"),
        None => format!("XDP program {id} (`enforcer doctor` knows its name)"),
    }
}
