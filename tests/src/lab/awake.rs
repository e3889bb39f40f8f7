//! A client that hears what the gateway's NIC sends back by itself.

use anyhow::Result;
use enforcer::{
    catalog::Catalogs,
    compile::{self, Limits},
    kernel::{
        attach::{self, Attached, XdpMode},
        object::Object,
    },
    policy::Policy,
};

use super::Namespace;
use crate::bench::measure::lab_net;

/// A program on the client's end of the cable, which passes everything. veth wakes the receiver of frames that the other end's `XDP_TX` sends only if it
/// has one; a real NIC needs none.
pub fn awake(client: &Namespace) -> Result<(Object, Vec<Attached>)> {
    let policy =
        Policy::parse("p", "default = \"allow\"\nsources = \"any\"\nnon-ip = \"allow\"\n", &Catalogs::default())?;
    let image = compile::compile(&policy, &Limits::default(), 1)?;
    let mut object = Object::load(&image, &lab_net(image.words)?)?;
    let attached = client.enter(|| Ok(attach::lan(&mut object, "eth0", false, XdpMode::Native)?))?;
    Ok((object, attached))
}
