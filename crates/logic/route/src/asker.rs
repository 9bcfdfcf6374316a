//! Who asks, and for what: only what was proven.

use weir_model::{Namespace, Port};

/// The name by which rules mean traffic within the mesh. Istio `VirtualService.spec.gateways`.
pub const MESH: &str = "mesh";

/// Who asks. A header never gets in here.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The namespace of its proven identity. None in plaintext.
    pub namespace: Option<&'a Namespace>,
    /// The labels of its workload. None when it is not known which that is.
    pub labels: Option<&'a [(&'a str, &'a str)]>,
    /// What it came in by: [`MESH`], or `namespace/name` of a gateway.
    pub gateway: &'a str,
    /// The port it asked for: the service's.
    pub port: Port,
}

/// What a match asks of who asks. What it does not ask for may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskerMatch {
    /// The port that was asked for.
    pub port: Option<Port>,
    /// Labels of the workload that asks, all of them. Istio `sourceLabels`.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The namespace of who asks. Istio `sourceNamespace`.
    pub namespace: Option<Namespace>,
    /// What it may have come in by; empty for anything.
    pub gateways: Vec<Box<str>>,
}

impl AskerMatch {
    /// Whether all it asks for is proven.
    pub fn holds(&self, asker: &Asker<'_>) -> bool {
        self.port.is_none_or(|port| port == asker.port)
            && self.namespace.as_ref().is_none_or(|namespace| asker.namespace == Some(namespace))
            && (self.gateways.is_empty() || self.gateways.iter().any(|gateway| &**gateway == asker.gateway))
            && self.labels.iter().all(|(key, value)| asker.has_label(key, value))
    }
}

impl Asker<'_> {
    /// Whether its workload is known and has this label.
    fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels.is_some_and(|labels| labels.contains(&(key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{anyone, port};

    #[test]
    fn only_what_is_proven_of_who_asks_counts() {
        let any = AskerMatch::default;
        let shop: Namespace = "shop".parse().unwrap();
        let other: Namespace = "other".parse().unwrap();
        let pairs = [("app", "web"), ("version", "v1")];
        let known = Asker { namespace: Some(&shop), labels: Some(&pairs), ..anyone() };
        let elsewhere =
            Asker { namespace: Some(&other), labels: Some(&pairs[1..]), gateway: "shop/edge", port: port(81) };
        let labelled = |pairs: &[(&str, &str)]| {
            let labels = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            AskerMatch { labels, ..any() }
        };
        let by = |gateways: &[&str]| AskerMatch { gateways: gateways.iter().map(|g| (*g).into()).collect(), ..any() };
        let from_shop = || AskerMatch { namespace: Some(shop.clone()), ..any() };
        assert!(any().holds(&anyone()));
        for (name, asked, yes, no) in [
            ("port", AskerMatch { port: Some(port(80)), ..any() }, known, elsewhere),
            ("sourceNamespace", from_shop(), known, elsewhere),
            ("sourceNamespace unproven", from_shop(), known, anyone()),
            ("sourceLabels", labelled(&pairs), known, elsewhere),
            ("sourceLabels unknown", labelled(&pairs[1..]), elsewhere, anyone()),
            (
                "sourceLabels with another value",
                labelled(&pairs[..1]),
                known,
                Asker { labels: Some(&[("app", "db")]), ..known },
            ),
            ("gateways", by(&[MESH]), known, elsewhere),
            ("gateways, several", by(&["shop/edge", "shop/other"]), elsewhere, known),
        ] {
            assert!(asked.holds(&yes), "{name}");
            assert!(!asked.holds(&no), "not {name}");
        }
        // It is part of what a match asks.
        let request = crate::testing::get("/");
        assert!(!crate::Match { asker: from_shop(), ..crate::Match::default() }.holds(&request, &anyone()));
    }
}
