//! Why frames are refused.

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Malformed {
    /// A header is cut off by the end of the frame or of its packet.
    Truncated,
    /// A length field contradicts the frame or another one.
    Length,
    /// A version or header length that cannot be.
    Header,
    /// More than two VLAN tags or six IPv6 extension headers.
    TooDeep,
    /// An IPv4 source route or an IPv6 routing header: the sender would choose the way.
    SourceRoute,
    /// A fragment too small, too far out or with a gap.
    Fragment,
    /// Neighbour discovery from beyond the link (hop limit below 255).
    HopLimit,
}

impl Malformed {
    /// The reason with a number, in words.
    #[must_use]
    pub const fn explain(number: u8) -> Option<&'static str> {
        const WORDS: [&str; 7] = [
            "a header is cut off",
            "a length contradicts the frame or another length",
            "an impossible version or header length",
            "too many VLAN tags or extension headers",
            "a source route or routing header",
            "a fragment that is too small or too far out",
            "neighbour discovery from beyond the link",
        ];
        const { assert!(WORDS.len() == Self::HopLimit as usize + 1) };
        if (number as usize) < WORDS.len() { Some(WORDS[number as usize]) } else { None }
    }
}
