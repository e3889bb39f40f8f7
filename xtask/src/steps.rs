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
}

/// The steps so far.
pub struct Steps {
    start: Instant,
    ended: Vec<Step>,
    errors: Vec<String>,
}

impl Steps {
    /// Runs steps. Then prints the time of each and, as the last line, how many tests passed and failed.
    ///
    /// # Errors
    /// If a step failed, or if no test ran although steps counted tests.
    pub fn run(work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut steps = Self { start: Instant::now(), ended: Vec::new(), errors: Vec::new() };
        let result = work(&mut steps);
        result.and(steps.finish())
    }

    /// Runs a step that later steps need.
    ///
    /// # Errors
    /// If the step fails; the steps that need it cannot run.
    pub fn prepare(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = begin(name);
        let result = work();
        self.end(name, start, None);
        result
    }

    /// Runs a step that no other step needs. If it fails, the run fails after all other steps.
    pub fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        let start = begin(name);
        let result = work();
        self.end(name, start, None);
        self.record(name, result);
    }

    /// Runs a step that counts tests. The run fails after all other steps if a test fails.
    pub fn tests(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> Result<()>) {
        let start = begin(name);
        let mut counts = Counts::default();
        let result = work(&mut counts);
        self.end(name, start, Some(counts));
        self.record(name, result);
    }

    fn finish(self) -> Result<()> {
        let mut total = Counts::default();
        println!("\n{:<40}{:>8}", "step", "s");
        for step in &self.ended {
            let counts = step.counts.map(|counts| counts.to_string()).unwrap_or_default();
            println!("{:<40}{:>8.0}   {counts}", step.name, step.seconds);
            total += step.counts.unwrap_or_default();
        }
        println!("{:<40}{:>8.0}", "all", self.start.elapsed().as_secs_f64());
        let counts_tests = self.ended.iter().any(|step| step.counts.is_some());
        if counts_tests {
            println!("{total}");
        }
        if !self.errors.is_empty() {
            bail!("{}", self.errors.join("\n  "));
        }
        if counts_tests && total == Counts::default() {
            bail!("no test ran: no test's name contains the given words");
        }
        Ok(())
    }

    fn end(&mut self, name: &str, start: Instant, counts: Option<Counts>) {
        let seconds = start.elapsed().as_secs_f64();
        println!("== {name}: {seconds:.0} s");
        self.ended.push(Step { name: name.to_owned(), seconds, counts });
    }

    fn record(&mut self, name: &str, result: Result<()>) {
        self.errors.extend(result.err().map(|error| format!("{name}: {error:#}")));
    }
}

fn begin(name: &str) -> Instant {
    println!("== {name}");
    Instant::now()
}
