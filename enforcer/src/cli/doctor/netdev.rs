//! The kernel's `netdev` family: what of XDP a driver can. There since Linux 6.3.

use futures_util::{StreamExt as _, pin_mut};
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _, NlasIterator,
    Parseable as _, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

/// `NETDEV_CMD_DEV_GET`.
const GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX` and `NETDEV_A_DEV_XDP_FEATURES`.
const INDEX: u16 = 1;
const FEATURES: u16 = 3;

/// A question about a device, or the answer.
#[derive(Clone, Debug)]
struct Device(Vec<DefaultNla>);

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.0.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(bytes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        NlasIterator::new(bytes).map(|attribute| DefaultNla::parse(&attribute?)).collect::<Result<_, _>>().map(Self)
    }
}

/// The bits of `xdp-act` of an interface; nothing if the kernel does not tell.
pub async fn xdp_features(index: u32) -> Option<u64> {
    let (connection, mut handle, _) = genetlink::new_connection().ok()?;
    tokio::spawn(connection);
    let question = Device(vec![DefaultNla::new(INDEX, index.to_ne_bytes().to_vec())]);
    let mut message = NetlinkMessage::from(GenlMessage::from_payload(question));
    message.header.flags = NLM_F_REQUEST;
    let answers = handle.request(message).await.ok()?;
    pin_mut!(answers);
    let NetlinkPayload::InnerMessage(answer) = answers.next().await?.ok()?.payload else { return None };
    let features = answer.payload.0.iter().find(|attribute| attribute.kind() == FEATURES)?;
    let mut bits = [0; 8];
    (features.value_len() == bits.len()).then(|| features.emit_value(&mut bits))?;
    Some(u64::from_ne_bytes(bits))
}
