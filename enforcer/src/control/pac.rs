//! The PAC file of the policy in force.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::{Controller, inforce::InForce};
use crate::export;

/// The file that was made last.
#[derive(Default)]
pub struct Made(Mutex<Option<File>>);

/// What a policy's file is.
struct File {
    of: Arc<InForce>,
    /// Which of its schedules applied.
    moment: usize,
    /// Nothing if it names no proxies.
    text: Option<Arc<str>>,
}

impl Controller {
    /// The file as it is now; nothing if the policy names no proxies. It is made anew only where it may be another one.
    pub fn pac(&self) -> Option<Arc<str>> {
        let in_force = self.in_force();
        let moment = in_force.schedule.moment();
        let mut made = self.pac.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*made
            && Arc::ptr_eq(&file.of, &in_force)
            && file.moment == moment
        {
            return file.text.clone();
        }
        let policy = export::at(&in_force.policy, Some(Timestamp::now())).ok();
        let text = policy.and_then(|policy| export::pac::pac(&policy).ok()).map(|export| Arc::from(export.text));
        *made = Some(File { of: in_force, moment, text: text.clone() });
        text
    }
}
