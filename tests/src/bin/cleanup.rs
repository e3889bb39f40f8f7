//! Removes network namespaces with their processes, and folders, of tests that were killed.

use std::process::ExitCode;

fn main() -> ExitCode {
    let left = enforcer_tests::lab::remove_orphans();
    for path in &left {
        eprintln!("cannot remove {}, which a killed test has left", path.display());
    }
    if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
