//! How large the product's programs are, to the verifier and to the CPU.

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use enforcer::{
    compile::{self, Limits},
    kernel::object::{Extras, Object},
    policy::Policy,
};
use serde::Serialize;

use super::measure::lab_net;

/// What the benchmark's `--only` calls it.
pub const NAME: &str = "programs";

const XDP: [&str; 2] = ["lan_xdp", "lan_xdp_frags"];
const TC: [&str; 6] = ["lan_ingress", "lan_egress", "wan_ingress", "wan_egress", "snoop_queries", "snoop_answers"];

/// A program's size.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Its name.
    pub program: &'static str,
    /// Instructions that the verifier went through: it gives up after a million.
    pub verified: u32,
    /// Bytes as the kernel has rewritten it, eight for each instruction.
    pub translated: u32,
    /// Bytes of machine code.
    pub jitted: u32,
}

/// All programs' sizes.
///
/// # Errors
/// If the kernel refuses one, or does not tell.
pub fn sizes() -> Result<Vec<Size>> {
    let image = compile::compile(&Policy::default(), &Limits::default(), 0)?;
    let extras = Extras { resolvers: &["10.1.0.1".parse()?], ..Extras::default() };
    let (mut object, _told) = Object::load_with(&image, &lab_net(image.words)?, extras)?;
    let xdp = XDP.map(|name| Ok((name, object.xdp(name)?.info()?)));
    let tc = TC.map(|name| Ok((name, object.classifier(name)?.info()?)));
    xdp.into_iter().chain(tc).map(|info| info.and_then(|(name, info)| size(name, &info))).collect()
}

fn size(program: &'static str, info: &ProgramInfo) -> Result<Size> {
    Ok(Size {
        program,
        verified: info.verified_instruction_count().context("the kernel does not tell what it has verified")?,
        translated: info.size_translated().context("the kernel does not tell a program's size")?,
        jitted: info.size_jitted(),
    })
}

/// Prints them.
pub fn print(sizes: &[Size]) {
    println!("\n{:<34} {:>12} {:>12} {:>12}", "programs", "verified", "xlated bytes", "JIT bytes");
    for Size { program, verified, translated, jitted } in sizes {
        println!("{program:<34} {verified:>12} {translated:>12} {jitted:>12}");
    }
}
