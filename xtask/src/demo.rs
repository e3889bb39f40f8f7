//! The demo: the product in a lab, with real connections.

use anyhow::Result;

use crate::run::{as_root, build_product, build_tools, tool};

/// Builds the product and the demo, and runs it.
pub fn run() -> Result<()> {
    build_product()?;
    build_tools()?;
    as_root(&tool("demo")?, &[])
}
