//! The objects as rules ask them: by name, by namespace, and where each of their fields stands.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use weir_compile::Settings;
use weir_manifest::{
    ConfigObject, ConfigSpec, DataplaneMode, Labels, NamespaceObject, ObjectRef, Objects, Origin, PodObject,
    PolicySpec, ServiceObject, Sidecar, WhyIgnored,
};
use weir_model::{Namespace, NetworkMode};

/// The label of a waypoint's own pods, which names its Gateway. Gateway API.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Objects, and what rules look up in them.
pub(crate) struct Ground<'o> {
    pub(crate) objects: &'o Objects,
    pub(crate) settings: &'o Settings,
    pub(crate) namespaces: BTreeMap<&'o Namespace, &'o NamespaceObject>,
    pub(crate) services: HashMap<(&'o Namespace, &'o str), &'o ServiceObject>,
    pub(crate) gateways: BTreeSet<(&'o Namespace, &'o str)>,
    pods: BTreeMap<&'o Namespace, Vec<&'o PodObject>>,
    /// The same by each of their labels.
    labelled: HashMap<(&'o Namespace, &'o str, &'o str), Vec<&'o PodObject>>,
    /// Namespaces with objects that make pods which are not among the objects.
    makers: BTreeSet<Arc<str>>,
    places: HashMap<ObjectRef, Place<'o>>,
}

/// Where an object stands, and its rules.
struct Place<'o> {
    origin: &'o Origin,
    rules: Rules<'o>,
}

enum Rules<'o> {
    None,
    Config(&'o ConfigObject),
    Policy(&'o PolicySpec),
}

impl<'o> Ground<'o> {
    pub(crate) fn new(objects: &'o Objects, settings: &'o Settings) -> Self {
        let mut pods: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut labelled: HashMap<_, Vec<_>> = HashMap::new();
        for pod in objects.pods.iter().filter(|pod| !pod.is_over()) {
            pods.entry(&pod.namespace).or_default().push(pod);
            for (key, value) in &pod.labels {
                labelled.entry((&pod.namespace, &**key, &**value)).or_default().push(pod);
            }
        }
        let made = objects.ignored.iter().filter(|one| one.why == WhyIgnored::PodsOnly);
        Self {
            objects,
            settings,
            namespaces: objects.namespaces.iter().map(|one| (&one.name, one)).collect(),
            services: objects.services.iter().map(|one| ((&one.namespace, &*one.name), one)).collect(),
            gateways: objects
                .configs
                .iter()
                .filter(|one| matches!(one.spec, ConfigSpec::Gateway(_)))
                .map(|one| (&one.namespace, &*one.name))
                .collect(),
            pods,
            labelled,
            makers: made.filter_map(|one| one.object.namespace.clone()).collect(),
            places: places(objects),
        }
    }

    /// The pods of a namespace that have not ended.
    pub(crate) fn pods(&self, namespace: &Namespace) -> &[&'o PodObject] {
        self.pods.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// Those of them that a selector selects.
    pub(crate) fn selected<'s>(
        &'s self,
        namespace: &'s Namespace,
        selector: &'s Labels,
    ) -> impl Iterator<Item = &'o PodObject> + use<'s, 'o> {
        let by = |(key, value)| self.labelled.get(&(namespace, key, value)).map_or(&[][..], Vec::as_slice);
        let narrowest = selector.iter().map(|(key, value)| by((&**key, &**value))).min_by_key(|pods| pods.len());
        let pods = narrowest.unwrap_or_else(|| self.pods(namespace));
        pods.iter().copied().filter(move |pod| selects(selector, &pod.labels))
    }

    /// Whether all pods of a namespace are known, as far as anybody can tell: some are, and nothing makes others.
    pub(crate) fn knows_pods(&self, namespace: &Namespace) -> bool {
        !self.pods(namespace).is_empty() && !self.makers.contains(namespace.as_str())
    }

    /// Whether a pod is in the mesh.
    pub(crate) fn is_enrolled(&self, pod: &PodObject) -> bool {
        let own = pod.mode.or_else(|| self.namespaces.get(&pod.namespace).and_then(|one| one.mode));
        own == Some(DataplaneMode::Ambient)
            && pod.network_mode == NetworkMode::Standard
            && pod.sidecar == Sidecar::Absent
    }

    /// File and line of a field, or of its object.
    pub(crate) fn place(&self, object: &ObjectRef, field: &str) -> Option<Origin> {
        let place = self.places.get(object)?;
        let line = place.rules.line(field).filter(|line| *line > 0);
        Some(Origin { line: line.unwrap_or(place.origin.line), ..place.origin.clone() })
    }
}

/// Whether labels have all that a selector asks for.
pub(crate) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Labels as a person writes them.
pub(crate) fn written(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

impl Rules<'_> {
    /// The line of the rule that a field is in.
    fn line(&self, field: &str) -> Option<usize> {
        let of = |list: &str| index(field, list);
        match self {
            Self::None => None,
            Self::Config(config) => match &config.spec {
                ConfigSpec::VirtualService(spec) => of("spec.http[")
                    .and_then(|at| spec.http.get(at).map(|rule| rule.line))
                    .or_else(|| of("spec.tcp[").and_then(|at| spec.tcp.get(at).map(|rule| rule.line)))
                    .or_else(|| of("spec.tls[").and_then(|at| spec.tls.get(at).map(|rule| rule.line))),
                ConfigSpec::Route(spec) => of("spec.rules[").and_then(|at| spec.rules.get(at).map(|rule| rule.line)),
                ConfigSpec::DestinationRule(_)
                | ConfigSpec::ServiceEntry(_)
                | ConfigSpec::Telemetry(_)
                | ConfigSpec::Gateway(_)
                | ConfigSpec::ReferenceGrant(_)
                | ConfigSpec::Rejected(_) => None,
            },
            Self::Policy(PolicySpec::Authorization(spec)) => {
                of("spec.rules[").and_then(|at| spec.rules.get(at).map(|rule| rule.line))
            }
            Self::Policy(PolicySpec::RequestAuthentication(spec)) => {
                of("spec.jwtRules[").and_then(|at| spec.rules.get(at).map(|rule| rule.line))
            }
            Self::Policy(PolicySpec::PeerAuthentication(_) | PolicySpec::Rejected(_)) => None,
        }
    }
}

/// The index in a field that begins with the path of a list.
fn index(field: &str, list: &str) -> Option<usize> {
    field.strip_prefix(list)?.split(']').next()?.parse().ok()
}

fn places(objects: &Objects) -> HashMap<ObjectRef, Place<'_>> {
    let plain = |origin| Place { origin, rules: Rules::None };
    let mut all: HashMap<ObjectRef, Place<'_>> = HashMap::new();
    all.extend(objects.namespaces.iter().map(|one| (namespace(&one.name), plain(&one.origin))));
    all.extend(objects.pods.iter().map(|one| (one.object(), plain(&one.origin))));
    all.extend(objects.services.iter().map(|one| (one.object(), plain(&one.origin))));
    all.extend(objects.policies.iter().map(|one| {
        let place = Place { origin: &one.origin, rules: Rules::Policy(&one.spec) };
        (one.object(), place)
    }));
    all.extend(objects.configs.iter().map(|one| {
        let place = Place { origin: &one.origin, rules: Rules::Config(one) };
        (one.object(), place)
    }));
    all
}

/// A Namespace as an object.
pub(crate) fn namespace(name: &Namespace) -> ObjectRef {
    ObjectRef { kind: "Namespace".into(), namespace: None, name: name.as_str().into() }
}
