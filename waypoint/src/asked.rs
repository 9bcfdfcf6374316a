//! `/debug/explain`: what becomes of a connection or a request, hop by hop, as this waypoint knows the mesh at this moment.

use std::{sync::Arc, time::SystemTime};

use rand::{SeedableRng, rngs::SmallRng};
use serde_json::Value;
use weir_explain::{FIELDS, Question, Scene, Served, explain};
use weir_manifest::KeySource;
use weir_model::{Namespace, WorkloadUid};
use weir_telemetry::Query;
use weir_token::{KeySet, Keys};
use weir_world::{Thing, World};

use crate::{cli::GatewayName, compiled::State};

/// What a waypoint knows when it is asked.
pub(crate) struct Known<'k, K> {
    pub(crate) state: Arc<State>,
    pub(crate) gateway: &'k GatewayName,
    pub(crate) keys: &'k K,
    pub(crate) trusted_hops: u32,
}

/// Answers.
///
/// # Errors
/// What is wrong with the question, or why it has no answer.
pub(crate) fn answer<K: Keys>(known: &Known<'_, K>, query: &Query) -> Result<Value, String> {
    let question = Question::read(query.fields(FIELDS)?).map_err(|error| error.to_string())?;
    // The same question gets the same answer.
    let explained = explain(known, &question, &mut SmallRng::seed_from_u64(0)).map_err(|error| error.to_string())?;
    serde_json::to_value(explained).map_err(|error| error.to_string())
}

impl<K: Keys> Keys for Known<'_, K> {
    fn keys(&self, source: &KeySource) -> Option<Arc<KeySet>> {
        self.keys.keys(source)
    }
}

impl<K: Keys> Scene for Known<'_, K> {
    fn world(&self) -> &World {
        &self.state.world
    }

    /// Its own alone.
    fn serving(&self, namespace: &Namespace, gateway: &str) -> Option<Served> {
        let is_own = *namespace == self.gateway.namespace && gateway == self.gateway.name.as_str();
        is_own.then(|| Served { serving: self.state.serving.clone(), notes: self.state.notes.to_vec() })
    }

    fn labels(&self, workload: &WorkloadUid) -> Option<Vec<(&str, &str)>> {
        let labels = self.state.labels.get(workload)?;
        Some(labels.iter().map(|(key, value)| (&**key, &**value)).collect())
    }

    /// Manifests are not kept.
    fn binding(&self, _thing: &Thing) -> Option<String> {
        None
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn trusted_hops(&self) -> u32 {
        self.trusted_hops
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use weir_compile::{Settings, WaypointName};
    use weir_manifest::{FileName, parse};

    use super::*;

    /// A service of two versions behind the waypoint `gate`, and another one behind the waypoint `far`.
    const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: gate}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIPs: [10.96.0.1, 'fd00:96::1'], selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop, labels: {istio.io/use-waypoint: far}}
spec: {clusterIPs: [10.96.0.2, 'fd00:96::2'], selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - match: [{headers: {x-a: {exact: two words}}}]
    directResponse: {status: 418}
  - route: [{destination: {host: cart, port: {number: 80}}}]
---
";

    fn waypoint(name: &str, octet: u8) -> String {
        let label = format!("gateway.networking.k8s.io/gateway-name: {name}");
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{gatewayClassName: weir-waypoint, \
             listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: \
             {{clusterIP: 10.96.1.{octet}, selector: {{{label}}}, ports: [{{port: 15008}}]}}\n---\n{}",
            pod(name, octet, &label)
        )
    }

    fn pod(name: &str, octet: u8, label: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{label}}}}}\nspec: {{serviceAccountName: {name}, nodeName: n, \
             containers: [{{name: c}}]}}\nstatus: {{phase: Running, podIPs: [{{ip: 10.0.0.{octet}}}, {{ip: 'fd00::{octet}'}}], conditions: [{{type: Ready, status: \
             'True'}}]}}\n---\n"
        )
    }

    fn ask(query: &str) -> Result<Value, String> {
        let text = [
            MESH,
            &waypoint("gate", 8),
            &waypoint("far", 9),
            &pod("cart-1", 1, "app: cart"),
            &pod("web", 2, "app: web"),
        ];
        let objects = parse(&[(FileName::new("f.yaml"), text.concat().as_str())]).unwrap_or_else(|e| panic!("{e:#?}"));
        let settings = Settings {
            trust_domain: "cluster.local".parse().unwrap(),
            cluster: "Kubernetes".parse().unwrap(),
            network: "".parse().unwrap(),
            node: None,
            cluster_domain: Default::default(),
            root_namespace: weir_compile::default_root_namespace(),
        };
        let name = WaypointName { namespace: "shop".parse().unwrap(), name: "gate".into() };
        let gateway: GatewayName = "shop/gate".parse().unwrap();
        let state = Arc::new(State::of(objects, &settings, &name));
        let keys: HashMap<KeySource, Arc<KeySet>> = HashMap::new();
        answer(&Known { state, gateway: &gateway, keys: &keys, trusted_hops: 0 }, &query.parse()?)
    }

    #[test]
    fn what_it_serves_itself_is_explained_to_the_end() {
        for (from, at) in [("shop/web", "10.96.0.1:80"), ("shop/web@fd00::2", "[fd00:96::1]:80")] {
            let answer = ask(&format!("from={from}&to=cart.shop:80&request=GET%20/")).unwrap();
            assert_eq!((&answer["verdict"], &answer["to"]["address"]), (&"ALLOW".into(), &at.into()), "{answer:#}");
            assert_eq!(answer["hops"][1]["destinations"][0]["endpoints"][0]["workload"], "shop/cart-1", "{answer:#}");
            let object = &answer["hops"][1]["steps"][1]["object"];
            assert_eq!((&object["name"], &object["place"]["line"]), (&"cart".into(), &24.into()), "{answer:#}");
        }
        let headers = "x-b%3A%201%0Ax-a%3A%20two%20words";
        let answer = ask(&format!("from=shop/web&to=cart.shop:80&request=GET%20/&headers={headers}")).unwrap();
        assert!(answer["reason"].as_str().unwrap().contains("418"), "{answer:#}");
    }

    #[test]
    fn what_another_one_serves_it_does_not_know() {
        let answer = ask("from=shop/web&to=stock.shop:80&request=GET%20/").unwrap();
        assert_eq!(answer["verdict"], "UNKNOWN", "{answer:#}");
        assert!(answer["reason"].as_str().unwrap().contains("shop/far"), "{answer:#}");
    }

    #[test]
    fn a_question_without_an_answer_says_what_is_missing() {
        for (query, part) in [
            ("", "expected ?from="),
            ("from=shop/web", "expected ?from="),
            ("from=web&to=cart.shop:80", "there is no '/'"),
            ("from=shop/web&to=cart.shop", "there is no port"),
            ("from=shop/web&to=cart.shop:80&request=GET", "expected METHOD /PATH"),
            ("from=shop/web&to=cart.shop:80&request=GET%20/&headers=x", "expected NAME: VALUE"),
            ("from=shop/web&to=card.shop:80", "did you mean cart.shop?"),
            ("from=shop/wed&to=cart.shop:80", "did you mean shop/web?"),
            ("from=shop/web&to=cart.shop:80&also=x", "there is: from, to, request, headers"),
        ] {
            let error = ask(query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }
}
