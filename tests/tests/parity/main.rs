//! Verdicts of the kernel programs and of exported rules, compared packet by packet with an independent model. Needs root.

mod captures;
mod differential;
mod draining;
mod exports_nftables;
mod shapes;
