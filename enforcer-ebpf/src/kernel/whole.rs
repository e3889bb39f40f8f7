//! The whole parser with the verdict behind it.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::debug;

use super::Tables;
use crate::{
    abi::Verdict,
    address::Address,
    parse::{Malformed, Packet, Sink},
    verdict::{Judge, Origin},
};

/// What judges what the whole parser finds.
#[inline(always)]
pub fn judge<C: EbpfContext>(ctx: &C, tables: &Tables<false>, origin: Origin) -> impl Sink<Output = Verdict> {
    Diagnosed {
        ctx,
        sink: Judge { maps: tables, net: tables.0, origin, believed: false, admitted: false, replies: true },
    }
}

/// Tells why a frame is malformed while somebody looks for the cause; not in the program at all unless the log level asks for it.
struct Diagnosed<'a, C, S> {
    ctx: &'a C,
    sink: S,
}

impl<C: EbpfContext, S: Sink<Output = Verdict>> Sink for Diagnosed<'_, C, S> {
    type Output = Verdict;

    #[inline(always)]
    fn ip<A: Address>(self, packet: &Packet<A>) -> Verdict {
        self.sink.ip(packet)
    }

    #[inline(always)]
    fn non_ip(self, kind: u16) -> Verdict {
        self.sink.non_ip(kind)
    }

    #[inline(always)]
    fn malformed(self, reason: Malformed) -> Verdict {
        debug!(self.ctx, "{}", reason as u8);
        self.sink.malformed(reason)
    }
}
