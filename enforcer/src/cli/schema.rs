//! `enforcer schema`.

use std::process::ExitCode;

use anyhow::Result;

use crate::policy::schema::SCHEMA;

pub fn run() -> Result<ExitCode> {
    super::print(SCHEMA)?;
    Ok(ExitCode::SUCCESS)
}
