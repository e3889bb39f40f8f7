//! What a start goes on with: the policy, and the counts of what an earlier controller has left in force.

use anyhow::Result;
use jiff::Timestamp;

use super::{
    Options,
    history::{Current, History},
    inforce::InForce,
    predecessor::Predecessor,
};
use crate::{
    api::policies::Reason,
    compile::Image,
    kernel::{object::Object, pins::Pins},
    policy::Bundle,
};

/// The policy that was applied last, unless its file has changed since: then the file's. A file with mistakes is no reason to stop what is in force.
pub fn in_force(options: &Options, history: &History) -> Result<(InForce, Image)> {
    let kept = history.current().and_then(|current| Some((history.bundle(current.number)?, current)));
    let file = Bundle::load(&options.policy);
    if let Some((bundle, Current { number, file_sha256 })) = kept {
        let stays = match &file {
            Ok((file, _)) => file_sha256.as_deref() == Some(&file.sha256()),
            Err(error) => {
                tracing::warn!("the policy that was in force before goes on, as its file is of no use now: {error}");
                true
            }
        };
        if stays {
            let (in_force, image) = InForce::new(bundle, options.learns())?;
            return Ok((InForce { number: Some(number), ..in_force }, image));
        }
    }
    InForce::new(file?.0, options.learns())
}

/// Keeps the policy in the history, if it is not one of there, and gives its number. A full disk is no reason not to start.
pub fn keep(history: &History, in_force: &InForce) -> Option<u32> {
    if in_force.number.is_some() {
        return in_force.number;
    }
    let same = |number: &u32| history.bundle(*number).as_ref() == Some(&in_force.bundle);
    if let Some(number) = history.entries().last().map(|entry| entry.number).filter(same) {
        return Some(number);
    }
    let kept = history.add(&in_force.bundle, Reason::Started, Timestamp::now());
    kept.inspect_err(|error| tracing::warn!("the policy is not kept on disk, for `enforcer rollback`: {error}")).ok()
}

/// Lets the next start go on with it, now that it is in force.
pub fn keep_current(options: &Options, history: &History, in_force: &InForce) {
    let Some(number) = in_force.number else { return };
    let file_sha256 = Bundle::load(&options.policy).ok().map(|(file, _)| file.sha256());
    // One that was there before has the hash of the file of then.
    let current = history.current().filter(|current| current.number == number && file_sha256.is_none());
    let current = current.unwrap_or(Current { number, file_sha256 });
    if let Err(error) = history.set_current(&current) {
        tracing::warn!("which policy is in force is not kept on disk: {error}");
    }
}

/// What an earlier controller has left in force, whose counts go on.
pub fn predecessor(pins: &Pins, object: &Object) -> Option<Predecessor> {
    let found = Predecessor::pinned(pins, object);
    let predecessor = found.unwrap_or_else(|error| {
        tracing::warn!("counters begin at zero, as those of the version before cannot be read: {error}");
        None
    })?;
    predecessor.carry_to(object.counters());
    Some(predecessor)
}
