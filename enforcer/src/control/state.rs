//! What is in the kernel, and what follows the network's changes there.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::task::AbortHandle;

use super::{
    Fail, Options,
    dns::Inside,
    hooks::{self, Followed, Hooks},
    inforce::InForce,
    learning::Learning,
    predecessor::Predecessor,
};
use crate::{
    clients::{Admissions, Clock},
    kernel::{guard::Guard, object::Object, others, pins::Pins},
    net::{self, Facts, NetImage, facts::Interface, watch::Told},
};

/// All that changes under a lock.
pub struct State {
    pub object: Object,
    /// The set before, for as long as it may still count.
    pub predecessor: Option<Predecessor>,
    pub hooks: Hooks,
    /// What names stand for, if they are learned.
    pub learning: Option<Learning>,
    /// Who the portal has admitted.
    pub admissions: Admissions,
    /// When their ends were last in line with the wall's clock.
    pub clock: Clock,
    /// Names of interfaces by index.
    pub interfaces: Arc<HashMap<u32, String>>,
    /// The network as it was last told.
    pub facts: Facts,
    /// Who takes down the kernel's events.
    pub reader: Option<AbortHandle>,
    /// What of the network's last change could not be followed.
    pub warnings: Vec<String>,
    /// What of the network that is enforced may not be meant.
    pub doubts: Vec<String>,
    /// Links are not pinned any more.
    pub pins_lost: bool,
    /// What of the filters that others took away could not be put back.
    pub filters_lost: Vec<String>,
    /// For how long filters have been away by now.
    pub filters_away: Duration,
    /// Which of the filters are not the first that packets meet.
    pub filters_overtaken: Vec<String>,
    /// For how long interfaces that came back, or whose filters others took away, were there without programs.
    pub unhooked: Duration,
    /// Where clients are served DNS.
    pub inside: Arc<Inside>,
}

impl State {
    /// Attaches the programs to all interfaces that exist, or to none. The guard knows of those
    /// that an earlier controller has attached, until it is renewed.
    pub fn attach(&mut self, pins: &Pins, options: &Options, facts: &Facts) -> Result<()> {
        let earlier = pins.interfaces();
        let existing = hooks::existing(options, facts);
        refuse_renamed(&earlier, &existing, options, facts)?;
        // Nothing of this one's is to be in the way of another enforcer.
        existing.into_iter().try_for_each(|interface| others::refuse(pins, interface))?;
        pins.are_here()?;
        if options.fail == Fail::Closed {
            hooks::guard(options, facts, |index| earlier.contains(&index))?.install()?;
        }
        (self.hooks, self.warnings) = Hooks::attach(&mut self.object, pins, options, facts)?;
        self.warnings.iter().for_each(|missing| tracing::warn!("{missing}"));
        if options.fail == Fail::Open {
            Guard::of(&options.pins).remove().unwrap_or_else(|error| tracing::warn!("{error}"));
        }
        self.hooks.weaker().iter().for_each(|weaker| tracing::warn!("{weaker}"));
        let has_come = |name: &&String| facts.named(name).is_some_and(|found| !earlier.contains(&found.index));
        for name in options.lans.iter().chain(&options.wans).filter(has_come).filter(|_| !earlier.is_empty()) {
            tracing::warn!(
                "{name} has come since the controller before ended: no program was on it, for {} s at most",
                pins.since_signed().as_secs_f64().ceil()
            );
        }
        Ok(())
    }

    /// Tells, once, which filters are not the first that packets meet.
    pub fn overtaken(&mut self, overtaken: Vec<String>) {
        overtaken
            .iter()
            .filter(|told| !self.filters_overtaken.contains(told))
            .for_each(|told| tracing::warn!("{told}"));
        self.filters_overtaken = overtaken;
    }

    /// Puts filters back that somebody has taken away; they were looked for that long ago. Where that fails, what comes in is not taken for judged any more.
    pub fn put_back(&mut self, since: Duration, in_force: &InForce) {
        let judged = self.hooks.roles();
        let Followed { attached, problems, .. } = self.hooks.put_back(&mut self.object);
        if !(attached.is_empty() && problems.is_empty()) {
            self.unhooked += since;
            self.filters_away += since;
        }
        for named in attached {
            tracing::warn!(
                "{named} was taken away, and is put back: for {} ms at most, it was not there",
                self.filters_away.as_millis()
            );
        }
        if problems.is_empty() {
            self.filters_away = Duration::ZERO;
        }
        let problems: Vec<String> = problems.iter().map(|problem| format!("{problem:#}")).collect();
        problems
            .iter()
            .filter(|problem| !self.filters_lost.contains(problem))
            .for_each(|problem| tracing::error!("{problem}"));
        self.filters_lost = problems;
        if self.hooks.roles() != judged
            && let Err(error) = self.update_net(&self.facts.clone(), in_force)
        {
            tracing::error!("which interfaces are judged is not told: {error:#}");
        }
    }

    fn update_net(&mut self, facts: &Facts, in_force: &InForce) -> Result<()> {
        let net = NetImage::new(facts, &self.hooks.roles(), in_force.words)?;
        self.object.update_net(&net)?;
        for doubt in net.warnings.iter().filter(|doubt| !self.doubts.contains(doubt)) {
            tracing::warn!("{doubt}");
        }
        self.doubts = net.warnings;
        Ok(())
    }

    /// Tells once if what is enforced would not outlive this process any more.
    pub fn look_at_pins(&mut self, pins: &Path) {
        let lost = !self.hooks.are_pinned();
        if lost && !self.pins_lost {
            tracing::warn!("{}", pins_lost(pins));
        }
        self.pins_lost = lost;
    }

    /// Programs first, then the tables that trust what they have judged.
    pub fn follow(&mut self, pins: &Pins, Told { facts, since }: Told, options: &Options, in_force: &InForce) {
        self.interfaces = Arc::new(names_of(&facts));
        let mut warnings: Vec<String> = Vec::new();
        let news: Vec<&String> =
            options.lans.iter().chain(&options.wans).filter(|name| !self.hooks.knows(name)).collect();
        let Followed { attached, missing, problems } = self.hooks.follow(&mut self.object, pins, options, &facts);
        for name in attached {
            let unhooked = since.elapsed();
            self.unhooked += unhooked;
            let word = if news.contains(&&name) { "has appeared" } else { "is back" };
            tracing::warn!("{name} {word}: for {} ms, no program was on it", unhooked.as_millis());
        }
        warnings.extend(missing);
        warnings.extend(problems.iter().map(|problem| format!("{problem:#}")));
        warnings.extend(net::image::problems(&facts, &self.hooks.roles()).iter().map(ToString::to_string));
        if let Err(error) = self.update_net(&facts, in_force) {
            warnings.push(format!("a change of addresses or routes is not followed: {error}"));
        }
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.warnings = warnings;
        self.inside.follow(options, &facts);
        self.facts = facts;
    }
}

/// Refuses a start that would take programs off an interface that may have been renamed.
fn refuse_renamed(earlier: &BTreeSet<u32>, existing: &[&Interface], options: &Options, facts: &Facts) -> Result<()> {
    let missing = options.lans.iter().chain(&options.wans).find(|name| facts.named(name).is_none());
    let is_named = |index: u32| existing.iter().any(|interface| interface.index == index);
    let unnamed = earlier.iter().filter(|&&index| !is_named(index)).find_map(|&index| facts.indexed(index));
    let (Some(missing), Some(Interface { name, .. })) = (missing, unnamed) else { return Ok(()) };
    bail!(
        "there is no interface {missing}, and {name}, which is not named, has the programs of the controller \
         before: name {name} if it is {missing} renamed, else `enforcer detach` first"
    )
}

/// What is wrong when the BPF file system is gone.
pub fn pins_lost(pins: &Path) -> String {
    format!(
        "the pins in {} are gone: the kernel enforces only for as long as this controller runs; mount the BPF file system and start it again",
        pins.display()
    )
}

/// Names of interfaces by index.
pub fn names_of(facts: &Facts) -> HashMap<u32, String> {
    facts.interfaces.iter().map(|interface| (interface.index, interface.name.clone())).collect()
}
