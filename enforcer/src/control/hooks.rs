//! Which programs are on which interfaces.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::Path,
};

use anyhow::Result;

use super::Options;
use crate::{
    api::types::HookStatus,
    kernel::{
        KernelError,
        attach::{self, Attached},
        clsact::{Filter, Place},
        guard::{Guard, GuardError, Guarded, Rules},
        links::{self, OpenLinks},
        object::Object,
        others,
        pins::Pins,
        snoop,
    },
    net::{Facts, facts::Interface, image::Roles},
};

/// What lets nothing be forwarded by interfaces whose index no programs are on.
pub fn guard(options: &Options, facts: &Facts, is_hooked: impl Fn(u32) -> bool) -> Result<Rules, GuardError> {
    let interface = |name: &String| facts.named(name).filter(|interface| is_hooked(interface.index));
    let guarded = |name| (String::as_str(name), interface(name).map_or(0, |interface| interface.index));
    let lans: Vec<Guarded<'_>> = options.lans.iter().map(guarded).collect();
    let wans: Vec<Guarded<'_>> = options.wans.iter().map(guarded).collect();
    let bridged = options.lans.iter().any(|name| facts.named(name).is_some_and(|lan| lan.master.is_some()));
    Guard::of(&options.pins).rules(&lans, &wans, bridged)
}

/// Returns the configured interfaces that exist.
pub fn existing<'a>(options: &Options, facts: &'a Facts) -> Vec<&'a Interface> {
    options.lans.iter().chain(&options.wans).filter_map(|name| facts.named(name)).collect()
}

/// What came of following what others do.
#[derive(Default)]
pub struct Followed {
    /// Names of what programs have been attached to.
    pub attached: Vec<String>,
    /// Configured interfaces that do not exist, and get their programs when they appear.
    pub missing: Vec<String>,
    /// What could not be done.
    pub problems: Vec<anyhow::Error>,
}

/// Programs on the configured interfaces, by the index that the interface had when they were attached.
#[derive(Default)]
pub struct Hooks {
    lans: BTreeMap<u32, Vec<Attached>>,
    wans: BTreeMap<u32, Vec<Attached>>,
    /// Interfaces whose filters somebody has taken away, and that have not got them back: what comes in by a LAN is not judged.
    lost: BTreeSet<u32>,
    /// Names of interfaces that programs have been on.
    known: BTreeSet<String>,
}

impl Hooks {
    /// On all that exist, or on none: then what an earlier controller put on interfaces stays. Else
    /// the earlier one's programs are replaced, or taken off where none is to be any more. Also
    /// returns what is missing.
    pub fn attach(object: &mut Object, pins: &Pins, options: &Options, facts: &Facts) -> Result<(Self, Vec<String>)> {
        let (hooks, missing) = Self::take_over(object, pins, options, facts)?;
        for pin in fs::read_dir(pins.links())?.filter_map(|pin| Some(pin.ok()?.path())) {
            if !hooks.all().any(|hook| hook.is_at(&pin)) {
                fs::remove_file(&pin).unwrap_or_else(|error| left(&pin, &error));
            }
        }
        for filter in pins.filters().into_iter().filter(|filter| !hooks.filters().any(|(_, own)| own == filter)) {
            filter.remove().unwrap_or_else(|error| left(filter.mark(), &error));
        }
        Ok((hooks, missing))
    }

    fn take_over(object: &mut Object, pins: &Pins, options: &Options, facts: &Facts) -> Result<(Self, Vec<String>)> {
        let mut hooks = Self::default();
        links::forget_severed(pins);
        // What may fail comes first; a link that is there takes another program.
        let Followed { missing, problems, .. } = hooks.place(object, pins, options, facts);
        let replaced = problems.into_iter().next().map_or(Ok(()), Err).and_then(|()| {
            let mut taken = hooks.all_mut().filter(|hook| hook.is_taken());
            Ok(taken.try_for_each(|hook| hook.replace(object))?)
        });
        match replaced {
            Ok(()) => Ok((hooks, missing)),
            Err(error) => {
                hooks.into_all().for_each(|hook| hook.undo(pins));
                Err(error)
            }
        }
    }

    /// Attaches to interfaces that have come, or come back under another index, and forgets those that are gone.
    pub fn follow(&mut self, object: &mut Object, pins: &Pins, options: &Options, facts: &Facts) -> Followed {
        let mut followed = self.place(object, pins, options, facts);
        // A link that this controller did not know of, on what has come.
        for hook in self.all_mut().filter(|hook| followed.attached.contains(&hook.interface) && hook.is_taken()) {
            if let Err(error) = hook.replace(object) {
                followed.problems.push(error.into());
            }
        }
        followed
    }

    /// The same, where links that are there keep their programs yet.
    fn place(&mut self, object: &mut Object, pins: &Pins, options: &Options, facts: &Facts) -> Followed {
        let Followed { mut attached, mut missing, mut problems } = Followed::default();
        let links = OpenLinks::read();
        for hooks in [&mut self.lans, &mut self.wans] {
            let mut gone = Vec::new();
            for (&index, hooks) in hooks.iter_mut() {
                let Some(interface) = facts.indexed(index) else {
                    gone.push(index);
                    continue;
                };
                // One that was made anew under the same index has lost its programs, and a link may be cut off by itself: what works stays.
                let severed = hooks.iter_mut().filter(|hook| hook.is_severed(&links));
                let again: Result<Vec<()>, _> = severed.map(|hook| hook.again(object, pins, interface)).collect();
                match again {
                    Ok(again) if again.is_empty() => {}
                    Ok(_) => attached.push(interface.name.clone()),
                    // As if it had just come: in another way, if that may be.
                    Err(_) => gone.push(index),
                }
            }
            gone.iter().filter_map(|index| hooks.remove(index)).flatten().for_each(Attached::detach);
        }
        // WANs first: while only they are hooked, the gateway's own packets are judged, and clients' pass as before.
        for (names, is_lan) in [(&options.wans, false), (&options.lans, true)] {
            for name in names {
                let hooks = if is_lan { &mut self.lans } else { &mut self.wans };
                let Some(interface) = facts.named(name) else {
                    let renamed = hooks.iter().find(|(_, hooks)| hooks.iter().any(|hook| hook.interface == *name));
                    let now = renamed.and_then(|(&index, _)| facts.indexed(index)).map(|interface| &interface.name);
                    missing.push(match now {
                        Some(now) => {
                            format!(
                                "{name} is called {now} now, and judged as before: the next start wants it by that name"
                            )
                        }
                        None if self.known.contains(name) => {
                            format!("{name} is gone: its programs are attached again when it comes back")
                        }
                        None => {
                            format!("there is no interface {name} yet: its programs are attached when it appears")
                        }
                    });
                    continue;
                };
                if hooks.contains_key(&interface.index) {
                    continue;
                }
                let made = others::refuse(pins, interface).and_then(|()| match is_lan {
                    true => lan(object, pins, options, interface),
                    false => attach::wan(object, pins, interface, options.tc),
                });
                match made {
                    Ok(made) => {
                        hooks.insert(interface.index, made);
                        self.known.insert(name.clone());
                        attached.push(name.clone());
                    }
                    Err(error) => problems.push(error.into()),
                }
            }
        }
        Followed { attached, missing, problems }
    }

    /// Programs that [`Self::replace`] attaches.
    pub fn programs(&self, object: &Object) -> Vec<&'static str> {
        // The judge by its other name, where drivers want that.
        let frags = object.has_loaded(links::XDP[1]).then_some(links::XDP[1]);
        self.all().map(|hook| hook.program).chain(frags).collect()
    }

    /// Puts another set's programs in the place of all; on an error, the old ones are where they were.
    pub fn replace(&mut self, old: &mut Object, new: &mut Object) -> Result<(), KernelError> {
        let mut replaced = 0;
        let refused = self.all_mut().try_for_each(|hook| hook.replace(new).map(|()| replaced += 1));
        refused.inspect_err(|_| {
            for hook in self.all_mut().take(replaced) {
                if let Err(error) = hook.replace(old) {
                    tracing::warn!("{}: the policy before is not back in force: {error}", hook.interface);
                }
            }
        })
    }

    pub fn detach(&mut self) {
        std::mem::take(self).into_all().for_each(Attached::detach);
    }

    pub fn roles(&self) -> Roles {
        let judged = self.lans.keys().copied().filter(|index| !self.lost.contains(index));
        Roles { lans: judged.collect(), wans: self.wans.keys().copied().collect() }
    }

    /// Whether all programs that are to be on an interface are.
    pub fn has(&self, index: u32) -> bool {
        (self.lans.contains_key(&index) || self.wans.contains_key(&index)) && !self.lost.contains(&index)
    }

    /// Whether programs have been on an interface of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// Whether an interface has gone that links are on, or somebody has cut one off.
    pub fn are_severed(&self) -> bool {
        let links = OpenLinks::read();
        self.all().any(|hook| hook.is_severed(&links))
    }

    /// Whether all would outlive this process.
    pub fn are_pinned(&self) -> bool {
        self.all().all(Attached::is_pinned)
    }

    /// Filters that programs are in, with their interfaces' names.
    pub fn filters(&self) -> impl Iterator<Item = (&str, &Filter)> {
        self.all().filter_map(|hook| Some((hook.interface.as_str(), hook.filter()?)))
    }

    /// Makes filters anew that somebody has taken away.
    pub fn put_back(&mut self, object: &mut Object) -> Followed {
        let (mut put_back, mut lost) = (Followed::default(), BTreeSet::new());
        let hooks = self.wans.iter_mut().chain(&mut self.lans);
        let hooks = hooks.flat_map(|(&index, hooks)| hooks.iter_mut().map(move |hook| (index, hook)));
        // One that cannot be told to be gone is taken to be there.
        let is_gone = |hook: &Attached| hook.filter().is_some_and(|filter| matches!(filter.place(), Ok(Place::Gone)));
        for (index, hook) in hooks.filter(|(_, hook)| is_gone(hook)) {
            let named = format!("{} of {} ({})", hook.program, hook.interface, hook.hook);
            match hook.replace(object) {
                Ok(()) => put_back.attached.push(named),
                // Netlink tells of it.
                Err(error) if attach::is_gone(&error) => {}
                Err(error) => {
                    let error = anyhow::Error::new(error).context(format!("{named} was taken away, and is not back"));
                    put_back.problems.push(error);
                    lost.insert(index);
                }
            }
        }
        self.lost = lost;
        put_back
    }

    /// What is less about filters than about links, if there are any.
    pub fn weaker(&self) -> Option<String> {
        let mut interfaces: Vec<&str> =
            self.all().filter(|hook| hook.filter().is_some()).map(|hook| &*hook.interface).collect();
        interfaces.dedup();
        (!interfaces.is_empty()).then(|| {
            format!(
                "programs of {} are in filters of the clsact qdisc, which are no links: whoever runs `tc` can take them away, until they are missed a second later",
                interfaces.join(", ")
            )
        })
    }

    /// By the names that interfaces have now.
    pub fn status(&self, names: &HashMap<u32, String>) -> Vec<HookStatus> {
        let wans = self.wans.iter().map(|(index, hooks)| ("wan", index, hooks));
        let lans = self.lans.iter().map(|(index, hooks)| ("lan", index, hooks));
        let each = wans.chain(lans).flat_map(|(role, index, hooks)| hooks.iter().map(move |hook| (role, index, hook)));
        each.map(|(role, index, hook)| HookStatus {
            interface: names.get(index).unwrap_or(&hook.interface).clone(),
            role: if snoop::PROGRAMS.contains(&hook.program) { "snoop".into() } else { role.into() },
            hook: hook.hook.to_string(),
        })
        .collect()
    }

    fn all(&self) -> impl Iterator<Item = &Attached> {
        self.wans.values().chain(self.lans.values()).flatten()
    }

    fn into_all(self) -> impl Iterator<Item = Attached> {
        let Self { lans, wans, .. } = self;
        lans.into_values().chain(wans.into_values()).flatten()
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Attached> {
        self.wans.values_mut().chain(self.lans.values_mut()).flatten()
    }
}

/// All else is in force by then: what is left over is no reason to end.
fn left(pin: &Path, error: &io::Error) {
    tracing::error!("what the controller before had on an interface is not off it ({}): {error}", pin.display());
}

fn lan(object: &mut Object, pins: &Pins, options: &Options, on: &Interface) -> Result<Vec<Attached>, KernelError> {
    let mut attached =
        if options.dns_snoop.is_empty() { Vec::new() } else { attach::snoop(object, pins, on, options.tc)? };
    match attach::lan(object, pins, on, options.xdp, options.tc) {
        Ok(more) => attached.extend(more),
        Err(error) => {
            attached.into_iter().for_each(|hook| hook.undo(pins));
            return Err(error);
        }
    }
    Ok(attached)
}
