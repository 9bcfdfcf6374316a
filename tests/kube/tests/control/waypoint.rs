//! A waypoint under a control plane: what is applied is served, what is not legal is said, and while nobody tells anything it goes on.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use weir_manifest::{ConfigKind, Kind};
use weir_tests_kube::{Backend, Control, PATIENCE, Plan, SERVING_NAME, Waypoint, eventually, things};

use crate::scene::Scene;

/// A service `web` of no pods, bound to the waypoint `gate`.
struct Stage {
    scene: Scene,
}

impl Stage {
    async fn new() -> Result<Self> {
        let scene = Scene::own().await?;
        let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
        let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gate"},
            "spec": {"gatewayClassName": "weir-waypoint", "listeners": [listener]}});
        things::make(&custom(&scene, ConfigKind::Gateway), gateway).await?;
        scene.pod("gate-1", "gate", 1, &["10.9.8.1"]).await?;
        scene.service("gate", "gate").await?;
        scene.service("web", "web").await?;
        scene.label(&scene.services(), "web", json!({"istio.io/use-waypoint": "gate"})).await?;
        Ok(Self { scene })
    }

    async fn control(&self) -> Result<(Plan, Control)> {
        let plan = self.scene.plan("weir-control", &[])?;
        let mut control = self.scene.start(&plan)?;
        control.ready().await?;
        Ok((plan, control))
    }

    async fn waypoint(&self, plan: &Plan) -> Result<Waypoint> {
        self.waypoint_for(plan, &format!("web.{}.svc.cluster.local:80", self.scene.space)).await
    }

    async fn waypoint_for(&self, plan: &Plan, service: &str) -> Result<Waypoint> {
        let (scene, folder) = (&self.scene, self.scene.folder.path());
        let (roots, token) = (folder.join("roots.pem"), folder.join("gate.token"));
        std::fs::write(&roots, scene.roots(&scene.space).await?)?;
        std::fs::write(&token, scene.token("gate", "gate-1").await?)?;
        let flags = [
            format!("--gateway={}/gate", scene.space),
            "--pod-name=gate-1".to_owned(),
            format!("--control=https://{}", plan.agents),
            format!("--control-name={SERVING_NAME}"),
            format!("--control-roots={}", roots.display()),
            format!("--ca-roots={}", roots.display()),
            format!("--token={}", token.display()),
        ];
        Waypoint::start(folder, service, &flags)
    }
}

fn custom(scene: &Scene, kind: ConfigKind) -> Api<DynamicObject> {
    things::custom(&scene.client(), Kind::Config(kind), &scene.space)
}

/// A VirtualService whose requests are answered at once.
fn answering(name: &str, host: &str, status: u16) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
        "spec": {"hosts": [host], "http": [{"directResponse": {"status": status}}]}})
}

/// A ServiceEntry of the host `NAME.example`, with one endpoint.
fn entry(name: &str, backend: &Backend) -> Value {
    let ports = json!([{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": Backend::PORT}]);
    let endpoints = json!([{"address": backend.address.to_string()}]);
    let spec =
        json!({"hosts": [format!("{name}.example")], "ports": ports, "resolution": "STATIC", "endpoints": endpoints});
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name}, "spec": spec})
}

async fn change(objects: &Api<DynamicObject>, name: &str, spec: Value) -> Result<DynamicObject> {
    Ok(objects.patch(name, &PatchParams::default(), &Patch::Merge(&json!({"spec": spec}))).await?)
}

fn now_answering(status: u16) -> Value {
    json!({"http": [{"directResponse": {"status": status}}]})
}

/// Waits until the condition of a list says so, of the object's present generation.
async fn until(
    objects: &Api<DynamicObject>,
    name: &str,
    list: &str,
    (kind, status, reason): (&str, &str, &str),
) -> Result<DynamicObject> {
    eventually(&format!("{name} says {kind}={status}/{reason}"), || async {
        let object = objects.get(name).await?;
        let generation = object.metadata.generation;
        let says = |one: &Value| {
            one["type"] == kind
                && one["status"] == status
                && one["reason"] == reason
                && one["observedGeneration"].as_i64() == generation
        };
        let conditions = object.data.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Some(object).filter(|_| conditions.iter().any(says)))
    })
    .await
}

const OWN: &str = "/status/conditions";

#[tokio::test]
async fn what_is_applied_is_served_and_goes_on_without_the_control_plane_on_our_own_server() -> Result<()> {
    let stage = Stage::new().await?;
    let scene = &stage.scene;
    let (plan, mut control) = stage.control().await?;
    let mut waypoint = stage.waypoint(&plan).await?;
    waypoint.ready().await?;
    assert_eq!(waypoint.ask("/").await?.0, 503, "nobody is behind it");
    let dump = waypoint.dump().await?;
    assert_eq!(dump["certificates"][0]["identity"], scene.spiffe("gate"), "{dump}");
    assert_eq!(dump["control"]["connected"], true, "{dump}");

    let services = custom(scene, ConfigKind::VirtualService);
    things::make(&services, answering("v", "web", 418)).await?;
    waypoint.answers("/", 418).await?;
    until(&services, "v", OWN, ("Reconciled", "True", "AsWritten")).await?;
    change(&services, "v", now_answering(419)).await?;
    waypoint.answers("/", 419).await?;

    // A policy denies.
    let policies = things::custom(&scene.client(), Kind::AuthorizationPolicy, &scene.space);
    let target = json!({"group": "", "kind": "Service", "name": "web"});
    let rule = json!({"to": [{"operation": {"paths": ["/secret"]}}]});
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "no"},
        "spec": {"targetRefs": [target], "action": "DENY", "rules": [rule]}});
    things::make(&policies, policy).await?;
    waypoint.answers("/secret", 403).await?;
    assert_eq!(waypoint.ask("/").await?.0, 419);

    // What is not legal is said, and what it was is served; until it is legal again.
    change(&services, "v", json!({"hosts": 7, "http": [{"directResponse": {"status": 500}}]})).await?;
    let said = until(&services, "v", OWN, ("Reconciled", "False", "Invalid")).await?;
    let message = said.data["status"]["conditions"][0]["message"].as_str().context("a message")?;
    assert!(message.contains("spec.hosts") && message.ends_with("what it was before stays in force"), "{message}");
    let told = format!("{}/v: ", scene.space);
    eventually("the waypoint says so, too", || async {
        Ok(waypoint.dump().await?["config"]["findings"].to_string().contains(&told).then_some(()))
    })
    .await?;
    assert_eq!(waypoint.ask("/").await?.0, 419);

    // Nobody is there to tell anything: all goes on, and then catches up.
    control.kill()?;
    eventually("the waypoint notices", || async {
        Ok((waypoint.dump().await?["control"]["connected"] == false).then_some(()))
    })
    .await?;
    assert_eq!((waypoint.ask("/").await?.0, waypoint.ask("/secret").await?.0), (419, 403));
    assert_eq!(waypoint.readiness().await, Some(200));
    change(&services, "v", json!({"hosts": ["web"], "http": [{"directResponse": {"status": 420}}]})).await?;
    let mut control = scene.start(&plan)?;
    control.ready().await?;
    waypoint.answers("/", 420).await?;
    assert_eq!(waypoint.ask("/secret").await?.0, 403);
    until(&services, "v", OWN, ("Reconciled", "True", "AsWritten")).await?;

    things::delete(&policies, "no").await?;
    waypoint.answers("/secret", 420).await?;
    things::delete(&services, "v").await?;
    waypoint.answers("/", 503).await?;

    // And through to somebody: an endpoint that comes with the mesh, and another one.
    let entries = custom(scene, ConfigKind::ServiceEntry);
    let (one, other) = (Backend::start("one").await?, Backend::start("other").await?);
    things::make(&entries, entry("far", &one)).await?;
    let mut through = answering("v", "web", 0);
    through["spec"]["http"] = json!([{"route": [{"destination": {"host": "far.example", "port": {"number": 80}}}]}]);
    things::make(&services, through).await?;
    let says = |word: &'static str| {
        let waypoint = &waypoint;
        async move {
            let asked = eventually(word, || async {
                Ok(waypoint.ask("/").await.ok().filter(|answer| *answer == (200, word.to_owned())))
            });
            asked.await.with_context(|| waypoint.log())
        }
    };
    says("one").await?;
    change(&entries, "far", entry("far", &other)["spec"].take()).await?;
    says("other").await?;
    drop(waypoint);
    stage.scene.clean(control).await
}

/// Its policies are of a namespace that the waypoint never asked for before.
#[tokio::test]
async fn what_begins_to_be_served_never_is_without_its_policies_on_our_own_server() -> Result<()> {
    let mut stage = Stage::new().await?;
    let elsewhere = stage.scene.ground.namespace().await?;
    let (plan, control) = stage.control().await?;
    let mut waypoint = stage.waypoint_for(&plan, "late.example:80").await?;
    waypoint.ready().await?;
    let client = stage.scene.client();
    let target = json!({"group": "networking.istio.io", "kind": "ServiceEntry", "name": "late"});
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "no"},
        "spec": {"targetRefs": [target], "action": "DENY", "rules": [{}]}});
    things::make(&things::custom(&client, Kind::AuthorizationPolicy, &elsewhere), policy).await?;
    let backend = Backend::start("late").await?;
    let entries = things::custom(&client, Kind::Config(ConfigKind::ServiceEntry), &elsewhere);
    things::make(&entries, entry("late", &backend)).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waypoint.ask("/").await?.0 {
            403 => break,
            status => ensure!(status == 503 && Instant::now() < deadline, "{status}:\n{}", waypoint.log()),
        }
    }
    drop(waypoint);
    stage.scene.clean(control).await
}

#[tokio::test]
async fn what_objects_refer_to_is_asked_for_as_long_as_they_do_on_our_own_server() -> Result<()> {
    let mut stage = Stage::new().await?;
    let elsewhere = stage.scene.ground.namespace().await?;
    let (plan, control) = stage.control().await?;
    let mut waypoint = stage.waypoint(&plan).await?;
    waypoint.ready().await?;
    let scene = &stage.scene;
    let services = custom(scene, ConfigKind::VirtualService);
    let far = things::custom(&scene.client(), Kind::Config(ConfigKind::VirtualService), &elsewhere);
    let delegating = json!({"hosts": ["web"], "http": [{"delegate": {"name": "part", "namespace": elsewhere}}]});
    let part = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "part"},
        "spec": {"http": [{"directResponse": {"status": 422}}]}});
    things::make(&far, part).await?;
    let mut main = answering("v", "web", 418);
    main["spec"] = delegating;
    things::make(&services, main).await?;
    waypoint.answers("/", 422).await?;
    // And not any more when nothing refers to it.
    things::delete(&services, "v").await?;
    waypoint.answers("/", 503).await?;
    let page = eventually("it asks for no more than it needs", || async {
        let page = control.page("/debug/syncz").await?;
        let kind = &page[0]["types"]["type.googleapis.com/weir.dev.v1.Object"];
        Ok((kind["subscribed"] == 2).then(|| page.clone()))
    })
    .await?;
    ensure!(page.as_array().is_some_and(|all| all.len() == 1), "{page}");
    drop(waypoint);
    stage.scene.clean(control).await
}

#[tokio::test]
async fn routes_and_waypoints_are_told_what_became_of_them_once_on_our_own_server() -> Result<()> {
    let stage = Stage::new().await?;
    let scene = &stage.scene;
    let (routes, gateways) = (custom(scene, ConfigKind::HttpRoute), custom(scene, ConfigKind::Gateway));
    let route = |name: &str, spec: Value| json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec});
    let web = json!({"group": "", "kind": "Service", "name": "web", "port": 80});
    let foreign = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "ingress"});
    let backend = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    things::make(&routes, route("r", json!({"parentRefs": [foreign, web], "rules": backend}))).await?;
    let theirs = json!({"parentRef": foreign, "controllerName": "example.com/ingress", "conditions": []});
    let status = json!({"status": {"parents": [theirs]}});
    routes.patch_status("r", &PatchParams::default(), &Patch::Merge(&status)).await?;
    let (_, control) = stage.control().await?;

    let taken = until(&routes, "r", "/status/parents/1/conditions", ("Accepted", "True", "Accepted")).await?;
    let parents = &taken.data["status"]["parents"];
    assert_eq!((&parents[0], parents.as_array().map(Vec::len)), (&theirs, Some(2)), "{parents}");
    assert_eq!(parents[1]["controllerName"], "weir.dev/waypoint-controller", "{parents}");
    assert_eq!(parents[1]["parentRef"], web, "{parents}");
    let gate = until(&gateways, "gate", OWN, ("Programmed", "True", "Programmed")).await?;
    let listener = &gate.data["status"]["listeners"][0];
    assert_eq!((&listener["name"], &listener["attachedRoutes"]), (&json!("mesh"), &json!(0)), "{listener}");

    // A backend that is not there, and then a route that cannot be read.
    let nobody = json!({"rules": [{"backendRefs": [{"name": "nobody", "port": 80}]}]});
    change(&routes, "r", nobody).await?;
    until(&routes, "r", "/status/parents/1/conditions", ("ResolvedRefs", "False", "BackendNotFound")).await?;
    change(&routes, "r", json!({"rules": 7})).await?;
    until(&routes, "r", "/status/parents/1/conditions", ("Accepted", "False", "UnsupportedValue")).await?;
    change(&routes, "r", json!({"rules": backend})).await?;
    let taken = until(&routes, "r", "/status/parents/1/conditions", ("ResolvedRefs", "True", "ResolvedRefs")).await?;

    // Said once: neither other changes nor another leader write it again.
    control.stop().await?;
    let (_, control) = stage.control().await?;
    things::make(&routes, route("s", json!({"parentRefs": [web], "rules": backend}))).await?;
    until(&routes, "s", "/status/parents/0/conditions", ("Accepted", "True", "Accepted")).await?;
    assert_eq!(routes.get("r").await?.resource_version(), taken.resource_version());
    assert_eq!(gateways.get("gate").await?.resource_version(), gate.resource_version());
    stage.scene.clean(control).await
}
