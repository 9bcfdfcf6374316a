//! A cluster with a node or two, their agents, and everything a control plane of it needs.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use weir_manifest::Kind;
use weir_tests_kube::{Agent, ApiServer, Control, Ground, Plan, SERVING_NAME, eventually, things};
use weir_xds::Mode;

const ROLES: &str = include_str!("../../../../deploy/base/control-rbac.yaml");
/// The ConfigMap the roots are published in.
pub(crate) const ROOTS: &str = "istio-ca-root-cert";

/// Control planes of one cluster publish into every namespace: on a real server one case runs at a time.
static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) struct Scene {
    pub(crate) ground: Ground,
    /// For files that go with the case.
    pub(crate) folder: tempfile::TempDir,
    /// Where the control plane runs.
    pub(crate) home: String,
    /// Where pods run, those of agents too.
    pub(crate) space: String,
    kubeconfig: PathBuf,
    /// Where there were roots before: on a real server others may publish theirs.
    published: BTreeSet<String>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Scene {
    /// On the server `WEIR_TEST_KUBECONFIG` names, else on our own.
    pub(crate) async fn new() -> Result<Self> {
        let Some(kubeconfig) = std::env::var_os("WEIR_TEST_KUBECONFIG") else { return Self::own().await };
        let turn = TURN.lock().await;
        let mut ground = Ground::new().await?;
        let home = ground.namespace().await?;
        Self::furnish(ground, home, kubeconfig.into(), Some(turn)).await
    }

    /// On a server of our own, under the roles that are deployed.
    pub(crate) async fn own() -> Result<Self> {
        let scene = Self::without_definitions().await?;
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_custom()) {
            things::define(&scene.ground.client, kind).await?;
        }
        Ok(scene)
    }

    /// The same, where nobody has installed the kinds of Istio.
    pub(crate) async fn without_definitions() -> Result<Self> {
        let ground = Ground::own().await?;
        deploy(&ground.client, ROLES).await?;
        let token = things::token(&ground.client, "weir-system", "weir-control", "", None).await?;
        let kubeconfig = ground.server.as_ref().context("it is ours")?.kubeconfig();
        let mut file: Value = serde_json::from_slice(&fs::read(&kubeconfig)?)?;
        file["users"][0]["user"]["token"] = json!(token);
        let own = kubeconfig.with_file_name("kubeconfig-control");
        fs::write(&own, file.to_string())?;
        Self::furnish(ground, "weir-system".to_owned(), own, None).await
    }

    async fn furnish(
        mut ground: Ground,
        home: String,
        kubeconfig: PathBuf,
        turn: Option<MutexGuard<'static, ()>>,
    ) -> Result<Self> {
        let space = ground.namespace().await?;
        let folder = tempfile::tempdir()?;
        let published = where_published(&ground.client).await?;
        let scene = Self { ground, folder, home, space, kubeconfig, published, _turn: turn };
        for n in [1, 2] {
            let labels = json!({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": format!("z{n}")});
            things::make(&scene.nodes(), json!({"metadata": {"name": scene.node(n), "labels": labels}})).await?;
            scene.pod(&format!("agent-{n}"), "agent", n, &[&format!("10.9.0.{n}")]).await?;
        }
        Ok(scene)
    }

    /// Ends what runs, and takes everything away.
    pub(crate) async fn clean(self, running: impl Sized) -> Result<()> {
        // First, for it would publish again.
        drop(running);
        for namespace in where_published(&self.client()).await?.difference(&self.published) {
            things::delete(&self.maps(namespace), ROOTS).await?;
        }
        for n in [1, 2] {
            things::delete(&self.nodes(), &self.node(n)).await?;
        }
        self.ground.clean().await
    }

    pub(crate) fn client(&self) -> Client {
        self.ground.client.clone()
    }

    pub(crate) fn server(&self) -> Result<&ApiServer> {
        self.ground.server.as_ref().context("it is ours")
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client(), &self.space)
    }

    pub(crate) fn services(&self) -> Api<Service> {
        Api::namespaced(self.client(), &self.space)
    }

    pub(crate) fn maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client(), namespace)
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client(), &self.home)
    }

    /// The name of a node. Nodes have no namespace: on a real server each case needs its own.
    pub(crate) fn node(&self, n: usize) -> String {
        format!("{}-n{n}", self.space)
    }

    /// How the mesh calls a pod.
    pub(crate) fn uid(&self, pod: &str) -> String {
        format!("Kubernetes//v1/Pod/{}/{pod}", self.space)
    }

    /// How the mesh calls a service.
    pub(crate) fn host(&self, service: &str) -> String {
        format!("{0}/{service}.{0}.svc.cluster.local", self.space)
    }

    /// An identity of this namespace.
    pub(crate) fn spiffe(&self, account: &str) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{account}", self.space)
    }

    /// A ready pod of an account on a node.
    pub(crate) async fn pod(&self, name: &str, account: &str, node: usize, addresses: &[&str]) -> Result<()> {
        self.pod_in(&self.space, name, account, &self.node(node), addresses).await
    }

    pub(crate) async fn pod_in(
        &self,
        namespace: &str,
        name: &str,
        account: &str,
        node: &str,
        addresses: &[&str],
    ) -> Result<()> {
        let accounts = Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(self.client(), namespace);
        if accounts.get_opt(account).await?.is_none() {
            things::account(&self.client(), namespace, account).await?;
        }
        let pods = Api::<Pod>::namespaced(self.client(), namespace);
        let spec = json!({"serviceAccountName": account, "automountServiceAccountToken": false, "nodeName": node,
            "containers": [{"name": "c", "image": "none", "ports": [{"name": "web", "containerPort": 8080}]}]});
        things::make(&pods, json!({"metadata": {"name": name, "labels": {"app": account}}, "spec": spec})).await?;
        let ips: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let status = json!({"status": {"phase": "Running", "podIP": addresses.first(), "podIPs": ips,
            "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// A service for the pods of an account. On a real server its address is the server's choice.
    pub(crate) async fn service(&self, name: &str, account: &str) -> Result<Service> {
        let ports = json!([{"name": "http", "port": 80, "targetPort": "web"}]);
        let spec = json!({"selector": {"app": account}, "ports": ports});
        things::make(&self.services(), json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// Labels something; `null` takes a label away.
    pub(crate) async fn label<K>(&self, api: &Api<K>, name: &str, labels: Value) -> Result<()>
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        api.patch(name, &PatchParams::default(), &Patch::Merge(&json!({"metadata": {"labels": labels}}))).await?;
        Ok(())
    }

    /// Enrols the namespace, or not any more.
    pub(crate) async fn enrol(&self, mode: Option<&str>) -> Result<()> {
        let spaces = Api::<Namespace>::all(self.client());
        self.label(&spaces, &self.space, json!({"istio.io/dataplane-mode": mode})).await
    }

    /// A plan of a replica that has the name.
    pub(crate) fn plan(&self, replica: &str, more: &[&str]) -> Result<Plan> {
        let mut flags = vec![
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--namespace={}", self.home),
            format!("--trusted-node-accounts={}/agent", self.space),
            format!("--serving-name={SERVING_NAME}"),
            format!("--replica={replica}"),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        Plan::new(flags)
    }

    /// Starts a plan.
    pub(crate) fn start(&self, plan: &Plan) -> Result<Control> {
        plan.start(self.folder.path())
    }

    /// A replica that is ready.
    pub(crate) async fn control(&self, more: &[&str]) -> Result<Control> {
        let mut control = self.start(&self.plan("weir-control", more)?)?;
        control.ready().await?;
        Ok(control)
    }

    /// The roots as they are published in a namespace, once they are.
    pub(crate) async fn roots(&self, namespace: &str) -> Result<String> {
        let maps = self.maps(namespace);
        eventually("roots in a namespace", || async {
            let map = maps.get_opt(ROOTS).await?;
            Ok(map.and_then(|map| map.data).and_then(|mut data| data.remove("root-cert.pem")))
        })
        .await
    }

    /// A token of a pod for the CA.
    pub(crate) async fn token(&self, account: &str, pod: &str) -> Result<String> {
        things::token(&self.client(), &self.space, account, "istio-ca", Some(pod)).await
    }

    /// The agent of a node.
    pub(crate) async fn agent(&self, node: usize, control: &Control, mode: Mode) -> Result<Agent> {
        let token = self.token("agent", &format!("agent-{node}")).await?;
        self.agent_with(control, &token, mode).await
    }

    /// Somebody who comes with a token.
    pub(crate) async fn agent_with(&self, control: &Control, token: &str, mode: Mode) -> Result<Agent> {
        let roots = self.roots(&self.space).await?;
        Agent::new(self.folder.path(), control.plan.agents, &roots, token, mode)
    }
}

/// Where there are roots.
async fn where_published(client: &Client) -> Result<BTreeSet<String>> {
    let named = ListParams::default().fields(&format!("metadata.name={ROOTS}"));
    let maps = Api::<ConfigMap>::all(client.clone()).list(&named).await?;
    Ok(maps.items.into_iter().filter_map(|map| map.metadata.namespace).collect())
}

/// Makes everything the roles' file declares.
/// Makes everything a file declares.
pub(crate) async fn deploy(client: &Client, file: &str) -> Result<()> {
    for document in file.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document)?;
        let text = |field: &str| object[field].as_str().with_context(|| format!("no {field}")).map(str::to_owned);
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let objects: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        objects.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    Ok(())
}

/// Runs openssl, and answers with what it printed.
pub(crate) fn openssl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("openssl").args(arguments).output().context("openssl is needed")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
