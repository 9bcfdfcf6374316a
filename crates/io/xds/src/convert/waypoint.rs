//! Waypoints, and who takes a workload's tunnels.

use weir_model::{Port, ServiceName, Termination, WaypointAddress, WaypointDestination, canonical_ip};
use weir_world::HBONE_PORT;

use super::{Beyond, ConvertError, Named, UNSUPPORTED, octets};
use crate::{proto, texts::Texts};

/// The waypoint as it is sent; what is not reached has one that nobody has, under a name nobody can have (RFC 6761 §6.4).
pub(super) fn waypoint_to(waypoint: Option<&WaypointAddress>, reached: bool) -> Option<proto::GatewayAddress> {
    let address = |waypoint: &WaypointAddress| match &waypoint.destination {
        WaypointDestination::Service(name) => {
            let (namespace, hostname) = (name.namespace.to_string(), name.hostname.to_string());
            let hostname = Some(proto::NamespacedHostname { namespace, hostname });
            proto::GatewayAddress { hostname, address: None, hbone_mtls_port: waypoint.port.number().into() }
        }
        WaypointDestination::Address(network, ip) => {
            let address = proto::NetworkAddress { network: network.to_string(), address: octets(*ip), length: None };
            let hbone_mtls_port = waypoint.port.number().into();
            proto::GatewayAddress { hostname: None, address: Some(address), hbone_mtls_port }
        }
    };
    if reached { waypoint.map(address) } else { Some(nowhere()) }
}

fn nowhere() -> proto::GatewayAddress {
    let (namespace, hostname) = ("weir-system".to_owned(), "unsupported.invalid".to_owned());
    let hostname = Some(proto::NamespacedHostname { namespace, hostname });
    proto::GatewayAddress { hostname, address: None, hbone_mtls_port: HBONE_PORT.into() }
}

/// The waypoint in a message, if it is not there only for those who do not know an extension that says more.
pub(super) fn waypoint_from(
    resource: Named<'_>,
    texts: &mut Texts,
    wire: Option<proto::GatewayAddress>,
    extensions: &[proto::Extension],
    beyond: &mut Beyond,
) -> Result<Option<WaypointAddress>, ConvertError> {
    let said = || extensions.iter().any(|extension| extension.name == UNSUPPORTED);
    let Some(wire) = wire.filter(|wire| !(*wire == nowhere() && said())) else { return Ok(None) };
    let destination = match (wire.hostname, wire.address) {
        (Some(name), None) => WaypointDestination::Service(ServiceName {
            namespace: texts.name(&name.namespace).map_err(resource.bad("waypoint.hostname.namespace"))?,
            hostname: texts.name(&name.hostname).map_err(resource.bad("waypoint.hostname.hostname"))?,
        }),
        (None, Some(at)) => {
            let network = texts.name(&at.network).map_err(resource.bad("waypoint.address.network"))?;
            let ip = resource.address("waypoint.address.address", &at.address)?;
            let whole = if ip.is_ipv4() { 32 } else { 128 };
            if at.length.is_some_and(|length| length != whole) {
                beyond.note(true, "a waypoint by a range of addresses");
            }
            WaypointDestination::Address(network, canonical_ip(ip))
        }
        (None, None) | (Some(_), Some(_)) => {
            beyond.note(true, "waypoint");
            return Ok(None);
        }
    };
    let port = if wire.hbone_mtls_port == 0 { HBONE_PORT.into() } else { wire.hbone_mtls_port };
    Ok(Some(WaypointAddress { destination, port: resource.port("waypoint.hbone_mtls_port", port)? }))
}

/// Who takes the tunnels, as it is sent: `native_tunnel` and `application_tunnel`.
pub(super) fn termination_to(termination: Termination) -> (bool, Option<proto::ApplicationTunnel>) {
    match termination {
        Termination::Agent => (false, None),
        Termination::Own => (true, None),
        Termination::Proxy(port) => {
            (false, Some(proto::ApplicationTunnel { protocol: PROXY, port: port.number().into() }))
        }
    }
}

/// `ApplicationTunnel.Protocol`.
const PROXY: i32 = 1;

/// Who takes the tunnels. What is both or something else is beyond this version.
pub(super) fn termination_from(wire: &proto::Workload, beyond: &mut Beyond) -> Termination {
    let tunnel = wire.application_tunnel.as_ref().filter(|tunnel| tunnel.protocol != 0);
    match (wire.native_tunnel, tunnel) {
        (false, None) => Termination::Agent,
        (true, None) => Termination::Own,
        (true, Some(_)) => {
            beyond.note(true, "native_tunnel with application_tunnel");
            Termination::Agent
        }
        (false, Some(tunnel)) => {
            let port = u16::try_from(tunnel.port).ok().and_then(Port::new);
            port.filter(|_| tunnel.protocol == PROXY).map(Termination::Proxy).unwrap_or_else(|| {
                beyond.note(true, "application_tunnel");
                Termination::Agent
            })
        }
    }
}
