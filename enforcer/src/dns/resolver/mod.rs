//! Names that a policy has exactly are asked for ahead of their time, whether clients ask or not.

pub mod schedule;

use std::{future, sync::Arc, time::Instant};

use hickory_proto::op::ResponseCode;
use tokio::{task::JoinSet, time};

use super::{
    Answer, Name, RecordType,
    forwarder::{
        query::Query,
        upstream::{Transport, Upstreams},
    },
};
use schedule::{Next, Schedule};

/// Questions that are being asked at a time.
const MOST: usize = 64;

/// Asks as the schedule says until it is dropped. `learned` is given every answer with addresses, and once more, to be kept, when asking again tells of
/// none: with the time for which its addresses are to count.
pub async fn run(schedule: &mut Schedule, upstreams: &Arc<Upstreams>, learned: impl AsyncFn(&Answer, bool)) {
    let mut asking = JoinSet::new();
    loop {
        let next = if asking.len() < MOST { schedule.next(Instant::now()) } else { Next::Idle };
        let until = match next {
            Next::Ask(id, name, kind) => {
                let upstreams = Arc::clone(upstreams);
                asking.spawn(async move { (id, ask(&upstreams, &name, kind).await) });
                continue;
            }
            Next::Wait(until) => Some(until),
            Next::Idle => None,
        };
        let wait = async {
            match until {
                Some(until) => time::sleep_until(until.into()).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            Some(Ok((id, answer))) = asking.join_next() => {
                let (now, chance) = (Instant::now(), rand::random());
                match answer {
                    Some(answer) if schedule.takes(id, &answer, now) => {
                        if !answer.addresses.is_empty() {
                            learned(&answer, false).await;
                        }
                        schedule.answered(id, answer, now, chance);
                    }
                    _ => {
                        if let Some(kept) = schedule.failed(id, now, chance) {
                            learned(&kept, true).await;
                        }
                    }
                }
            }
            () = wait => {}
        }
    }
}

/// A whole answer that says that there are addresses, or that there are none; nothing if no upstream says either.
pub async fn ask(upstreams: &Upstreams, name: &Name, kind: RecordType) -> Option<Answer> {
    let query = Query::new(name, kind)?;
    let mut answer = Answer::read(&upstreams.ask(&query, Transport::Udp).await?).ok()?;
    if answer.truncated {
        answer = Answer::read(&upstreams.ask(&query, Transport::Tcp).await?).ok()?;
    }
    matches!(answer.rcode, ResponseCode::NoError | ResponseCode::NXDomain).then_some(answer)
}
