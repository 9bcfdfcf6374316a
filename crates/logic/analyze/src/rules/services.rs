//! Services: what their ports speak, and whether anything stands behind them.

use weir_manifest::Backing;
use weir_model::{AppProtocol, Hostname};

use crate::{
    Code, Finding,
    compiled::Compiled,
    ground::{GATEWAY_NAME, Ground, written},
};

pub(super) fn all(ground: &Ground<'_>, compiled: &Compiled, findings: &mut Vec<Finding>) {
    let services = compiled.services();
    for one in &ground.objects.services {
        let is_waypoint = ground.gateways.contains(&(&one.namespace, &*one.name));
        let host = format!("{}.{}.svc.{}", one.name, one.namespace, ground.settings.cluster_domain);
        let known = host.parse::<Hostname>().ok().and_then(|host| services.get(&host).copied());
        // Only a waypoint looks at what is spoken.
        for port in known.iter().filter(|known| known.waypoint.is_some() && !is_waypoint).flat_map(|known| &known.ports)
        {
            let index = one.ports.iter().position(|own| own.port == port.port);
            if let (AppProtocol::Unknown, Some(index)) = (port.protocol, index) {
                let message = format!(
                    "port {} named {:?} does not say what it speaks: the waypoint finds out by the first bytes",
                    port.port, port.name
                );
                let (field, code) = (format!("spec.ports[{index}].name"), Code::PortNameIsNotUnderNamingConvention);
                findings.push(Finding::new(one.object(), field, code, message, Some(one.origin.clone())));
            }
        }
        let is_selecting = !one.selector.is_empty() && one.backing == Backing::Endpoints;
        if !is_selecting || one.selector.contains_key(GATEWAY_NAME) || !ground.knows_pods(&one.namespace) {
            continue;
        }
        if ground.selected(&one.namespace, &one.selector).next().is_none() {
            let message = format!("no pod of {} has the labels {}", one.namespace, written(&one.selector));
            findings.push(Finding::new(one.object(), "spec.selector", Code::NoPods, message, Some(one.origin.clone())));
        }
    }
}
