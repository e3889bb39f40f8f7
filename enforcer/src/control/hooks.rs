//! Which programs are on which interfaces.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Options;
use crate::{
    api::types::HookStatus,
    kernel::{
        KernelError,
        attach::{self, Attached},
        object::Object,
        snoop,
    },
    net::{Facts, image::Roles},
};

/// Programs on the configured interfaces, by the index that the interface had when they were attached.
#[derive(Default)]
pub struct Hooks {
    lans: BTreeMap<u32, Vec<Attached>>,
    wans: BTreeMap<u32, Vec<Attached>>,
}

impl Hooks {
    /// On all of them, or on none.
    pub fn attach(object: &mut Object, options: &Options, facts: &Facts) -> Result<Self> {
        let mut hooks = Self::default();
        hooks.follow(object, options, facts).into_iter().next().map_or(Ok(hooks), Err)
    }

    /// Attaches to interfaces that have come, or come back under another index, and forgets those that are gone. Gives what could not be done.
    pub fn follow(&mut self, object: &mut Object, options: &Options, facts: &Facts) -> Vec<anyhow::Error> {
        let mut problems = Vec::new();
        self.lans.retain(|&index, _| facts.indexed(index).is_some());
        self.wans.retain(|&index, _| facts.indexed(index).is_some());
        // WANs first: while only they are hooked, the gateway's own packets are judged, and clients' pass as before.
        for (names, is_lan) in [(&options.wans, false), (&options.lans, true)] {
            for name in names {
                let hooks = if is_lan { &mut self.lans } else { &mut self.wans };
                let Some(interface) = facts.named(name) else {
                    // Renamed is not gone.
                    if !hooks.values().flatten().any(|hook| hook.interface == *name) {
                        problems.push(anyhow::anyhow!(
                            "{name} is gone: its programs are attached again when it comes back"
                        ));
                    }
                    continue;
                };
                if hooks.contains_key(&interface.index) {
                    continue;
                }
                let attached = match is_lan {
                    true => lan(object, options, name, interface.layer3),
                    false => attach::wan(object, name),
                };
                match attached {
                    Ok(attached) => drop(hooks.insert(interface.index, attached)),
                    Err(error) => problems.push(error.into()),
                }
            }
        }
        problems
    }

    pub fn roles(&self) -> Roles {
        Roles { lans: self.lans.keys().copied().collect(), wans: self.wans.keys().copied().collect() }
    }

    pub fn status(&self) -> Vec<HookStatus> {
        let wans = self.wans.values().flatten().map(|hook| ("wan", hook));
        let lans = self.lans.values().flatten().map(|hook| ("lan", hook));
        wans.chain(lans)
            .map(|(role, hook)| HookStatus {
                interface: hook.interface.clone(),
                role: if snoop::PROGRAMS.contains(&hook.program) { "snoop".into() } else { role.into() },
                hook: hook.hook.to_string(),
            })
            .collect()
    }

    pub fn detach(&mut self) {
        self.lans.clear();
        self.wans.clear();
    }
}

fn lan(object: &mut Object, options: &Options, name: &str, layer3: bool) -> Result<Vec<Attached>, KernelError> {
    let mut attached = if options.dns_snoop.is_empty() { Vec::new() } else { attach::snoop(object, name)? };
    attached.extend(attach::lan(object, name, layer3, options.xdp)?);
    Ok(attached)
}
