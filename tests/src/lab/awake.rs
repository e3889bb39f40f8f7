//! A client that hears what the gateway's NIC sends back by itself.

use anyhow::Result;
use aya::programs::XdpMode;
use enforcer::{
    catalog::Catalogs,
    compile::{self, Limits},
    kernel::object::Object,
    policy::Policy,
};

use super::Namespace;
use crate::bench::measure::lab_net;

/// A program on an end of a cable, which passes everything. veth wakes the receiver of frames that the other end's `XDP_TX` sends only if it
/// has one; a real NIC needs none.
pub fn awake(namespace: &Namespace, interface: &str) -> Result<Object> {
    let policy =
        Policy::parse("p", "default = \"allow\"\nsources = \"any\"\nnon-ip = \"allow\"\n", &Catalogs::default())?;
    let image = compile::compile(&policy, &Limits::default(), 1)?;
    let mut object = Object::load(&image, &lab_net(image.words)?)?;
    namespace.enter(|| Ok(object.xdp("lan_xdp")?.attach(interface, XdpMode::Driver)?))?;
    Ok(object)
}
