//! `enforcer openapi`.

use std::process::ExitCode;

use anyhow::Result;

use crate::api::routes;

pub fn run() -> Result<ExitCode> {
    let document = routes::document(routes::all());
    super::print(&(serde_json::to_string_pretty(&document)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
