//! What programs cost verifiers, side by side.

use std::{collections::BTreeMap, fmt};

/// How a test tells a program and the instructions that the verifier went through: `verified NAME COUNT`.
const WORD: &str = "verified ";

/// Instructions by program and kernel.
#[derive(Default)]
pub struct Costs {
    kernels: Vec<String>,
    programs: BTreeMap<String, Vec<String>>,
}

impl Costs {
    /// Those among a guest's lines.
    pub fn take(&mut self, kernel: &str, lines: &[String]) {
        let place = self.kernels.len();
        self.kernels.push(kernel.to_owned());
        for (program, count) in lines.iter().filter_map(|line| line.strip_prefix(WORD)?.split_once(' ')) {
            let row = self.programs.entry(program.to_owned()).or_default();
            row.resize(place, "-".to_owned());
            row.push(count.to_owned());
        }
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16}", "verified")?;
        self.kernels.iter().try_for_each(|kernel| write!(f, "{kernel:>12}"))?;
        for (program, counts) in &self.programs {
            write!(f, "\n{program:<16}")?;
            counts.iter().try_for_each(|count| write!(f, "{count:>12}"))?;
        }
        Ok(())
    }
}
