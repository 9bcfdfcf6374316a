//! What is asked of a connection: its proven facts, made ready once for all rules.

use std::net::IpAddr;

use weir_model::{Port, SpiffeId, canonical_ip};

use crate::peer::{Destination, Peer};

/// The longest principal, in bytes: a trust domain of 255, a namespace of 63, a service account of 253, and what stands between.
const LONGEST: usize = 255 + "/ns/".len() + 63 + "/sa/".len() + 253;

/// Where a principal is written, so that it needs no allocation.
pub(crate) struct Room([u8; LONGEST]);

impl Default for Room {
    fn default() -> Self {
        Self([0; LONGEST])
    }
}

/// The facts of a connection.
pub(crate) struct Facts<'f> {
    /// Who its certificate says it is.
    pub(crate) identity: Option<&'f SpiffeId>,
    /// The same as policies write it: `<trust domain>/ns/<namespace>/sa/<service account>`.
    pub(crate) principal: Option<&'f str>,
    /// Where it comes from, canonical.
    pub(crate) source: IpAddr,
    /// Where it goes, canonical.
    pub(crate) destination: IpAddr,
    /// Which port it goes to.
    pub(crate) port: Port,
}

impl<'f> Facts<'f> {
    /// The facts, with the principal written into the room.
    pub(crate) fn new(peer: &Peer<'f>, destination: &Destination, room: &'f mut Room) -> Self {
        Self {
            identity: peer.identity,
            principal: peer.identity.map(|identity| principal(identity, room)),
            source: canonical_ip(peer.address),
            destination: canonical_ip(destination.address),
            port: destination.port,
        }
    }
}

fn principal<'r>(identity: &SpiffeId, Room(room): &'r mut Room) -> &'r str {
    let mut len = 0;
    for part in [
        identity.trust_domain().as_str(),
        "/ns/",
        identity.namespace().as_str(),
        "/sa/",
        identity.service_account().as_str(),
    ] {
        room[len..len + part.len()].copy_from_slice(part.as_bytes());
        len += part.len();
    }
    std::str::from_utf8(&room[..len]).expect("texts in a row are a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_identity_has_room() {
        let label = "a".repeat(63);
        let account = [label.as_str(), &label, &label, &"a".repeat(61)].join(".");
        let text = format!("spiffe://{}/ns/{label}/sa/{account}", "a".repeat(255));
        let identity: SpiffeId = text.parse().unwrap();
        assert_eq!(Some(principal(&identity, &mut Room::default())), text.strip_prefix("spiffe://"));
        assert_eq!(text.len(), "spiffe://".len() + LONGEST);
    }
}
