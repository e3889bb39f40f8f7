//! The steps of a run: how long each takes, and how many tests passed and failed.

use std::{fmt, ops::AddAssign, time::Instant};

use anyhow::{Result, bail};

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// One step that has ended.
struct Step {
    name: String,
    seconds: f64,
    counts: Option<Counts>,
    error: Option<String>,
}

/// The steps so far.
pub struct Steps {
    start: Instant,
    ended: Vec<Step>,
}

impl Steps {
    /// Runs steps. Then prints the time of each and, as the last line, how many tests passed and failed.
    ///
    /// # Errors
    /// If a step failed, or if no test ran although steps counted tests.
    pub fn run(work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut steps = Self { start: Instant::now(), ended: Vec::new() };
        // The error is that of a step, which the step has recorded.
        let _ = work(&mut steps);
        steps.finish()
    }

    /// Runs a step that later steps need.
    ///
    /// # Errors
    /// If the step fails; the steps that need it cannot run.
    pub fn prepare(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.step(name, |_| work(), false) { Ok(()) } else { bail!("{name} failed") }
    }

    /// Runs a step that no other step needs. If it fails, the run fails after all other steps.
    pub fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        self.step(name, |_| work(), false);
    }

    /// Runs a step that counts tests. If a test fails, the run fails after all other steps.
    pub fn tests(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> Result<()>) {
        self.step(name, work, true);
    }

    /// Runs a step and returns whether it succeeded.
    fn step(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> Result<()>, counts_tests: bool) -> bool {
        println!("== {name}");
        let start = Instant::now();
        let mut counts = Counts::default();
        let error = work(&mut counts).err().map(|error| format!("{error:#}"));
        if error.is_some() && counts.failed == 0 && counts_tests {
            // The step ended before it could name a test.
            counts.failed = 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("== {name}: {seconds:.0} s");
        let succeeded = error.is_none();
        self.ended.push(Step { name: name.to_owned(), seconds, counts: counts_tests.then_some(counts), error });
        succeeded
    }

    fn finish(self) -> Result<()> {
        let mut total = Counts::default();
        println!("\n{:<40}{:>8}", "step", "s");
        for Step { name, seconds, counts, error } in &self.ended {
            let counts_text = counts.map(|counts| counts.to_string()).unwrap_or_default();
            let mark = if error.is_some() { "FAILED" } else { "" };
            println!("{name:<40}{seconds:>8.0}   {counts_text:<24}{mark}");
            total += counts.unwrap_or_default();
        }
        println!("{:<40}{:>8.0}\n", "all", self.start.elapsed().as_secs_f64());
        let mut errors: Vec<String> = Vec::new();
        for step in &self.ended {
            errors.extend(step.error.iter().map(|error| format!("{}: {error}", step.name)));
        }
        let counts_tests = self.ended.iter().any(|step| step.counts.is_some());
        if counts_tests && total == Counts::default() {
            errors.push("no test ran: no selected test has one of the given words in its name".to_owned());
        }
        errors.iter().for_each(|error| println!("error: {error}"));
        if counts_tests {
            println!("{total}");
        }
        if errors.is_empty() { Ok(()) } else { bail!("{} of {} steps failed", errors.len(), self.ended.len()) }
    }
}
