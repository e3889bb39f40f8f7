//! Names: what DNS says of them, and the LAN's DNS server that learns it before its clients do.

pub mod address;
pub mod forwarder;
pub mod message;
pub mod name;
pub mod patterns;
pub mod policy;
pub mod resolver;

pub use hickory_proto::{
    op::ResponseCode,
    rr::{DNSClass, RecordType},
};

pub use address::is_public;
pub use message::{Answer, Question};
pub use name::Name;
pub use patterns::Patterns;
pub use policy::DnsPolicy;
