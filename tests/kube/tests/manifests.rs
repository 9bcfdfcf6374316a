//! What `deploy/` says fits what reads it: the API server's types, field by field, and the programs, flag by flag and port by port.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::{
        admissionregistration::v1::ValidatingWebhookConfiguration,
        apps::v1::{DaemonSet, Deployment},
        core::v1::{Namespace, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use weir_manifest::Kind;

const OVERLAYS: [&str; 3] = ["minimal", "default", "ha"];

/// The objects of a file of `deploy/rendered`.
fn rendered(name: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rendered").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.split("---\n").map(|text| Ok(serde_saphyr::from_str(text)?)).collect()
}

/// Fails unless the type has every field of the object: one that it does not know would be missing when it is written again.
fn fits<K: DeserializeOwned + Serialize>(object: &Value) -> Result<()> {
    let typed: K = serde_json::from_value(object.clone())?;
    let mut lost = Vec::new();
    missing(object, &serde_json::to_value(typed)?, "", &mut lost);
    ensure!(lost.is_empty(), "no such fields: {lost:?}");
    Ok(())
}

/// Where a value has what another has not.
fn missing(value: &Value, other: &Value, path: &str, lost: &mut Vec<String>) {
    match (value, other) {
        (Value::Object(fields), Value::Object(others)) => {
            for (key, value) in fields {
                match others.get(key) {
                    Some(other) => missing(value, other, &format!("{path}.{key}"), lost),
                    None => lost.push(format!("{path}.{key}")),
                }
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (at, (value, other)) in items.iter().zip(others).enumerate() {
                missing(value, other, &format!("{path}[{at}]"), lost);
            }
        }
        (value, other) if value == other => {}
        (value, other) if value.is_number() && value.as_f64() == other.as_f64() => {}
        (value, other) => lost.push(format!("{path}: {value} is {other}")),
    }
}

fn known(object: &Value) -> Result<()> {
    match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => fits::<Namespace>(object),
        "ServiceAccount" => fits::<ServiceAccount>(object),
        "Service" => fits::<Service>(object),
        "Deployment" => fits::<Deployment>(object),
        "DaemonSet" => fits::<DaemonSet>(object),
        "NetworkPolicy" => fits::<NetworkPolicy>(object),
        "PodDisruptionBudget" => fits::<PodDisruptionBudget>(object),
        "ClusterRole" => fits::<ClusterRole>(object),
        "ClusterRoleBinding" => fits::<ClusterRoleBinding>(object),
        "ValidatingWebhookConfiguration" => fits::<ValidatingWebhookConfiguration>(object),
        "Role" => fits::<Role>(object),
        "RoleBinding" => fits::<RoleBinding>(object),
        "CustomResourceDefinition" => fits::<CustomResourceDefinition>(object),
        // Its types are the Gateway API's own.
        "GatewayClass" => {
            let fields: BTreeSet<&String> = object["spec"].as_object().context("a spec")?.keys().collect();
            ensure!(fields.iter().all(|one| ["controllerName", "description"].contains(&one.as_str())), "{fields:?}");
            Ok(())
        }
        other => anyhow::bail!("nobody knows what a {other} may say"),
    }
}

#[test]
fn every_field_of_every_manifest_is_one_that_the_api_server_knows() -> Result<()> {
    for file in OVERLAYS.iter().chain(&["crds"]) {
        for object in rendered(file)? {
            known(&object).with_context(|| format!("{file}: {} {}", object["kind"], object["metadata"]["name"]))?;
        }
    }
    let mut misspelt = rendered("minimal")?.into_iter().find(|one| one["kind"] == "DaemonSet").context("an agent")?;
    misspelt["spec"]["template"]["spec"]["hostPid"] = json!(false);
    let why = known(&misspelt).err().context("a field that is none was taken")?;
    ensure!(why.to_string().contains("spec.hostPid"), "{why}");
    Ok(())
}

/// The pods of a file, each with the name of its program.
fn pods(file: &str) -> Result<Vec<(String, Value)>> {
    let runs = |one: &Value| matches!(one["kind"].as_str(), Some("Deployment" | "DaemonSet"));
    let named = |one: Value| {
        Ok((one["metadata"]["name"].as_str().context("a name")?.to_owned(), one["spec"]["template"]["spec"].clone()))
    };
    rendered(file)?.into_iter().filter(runs).map(named).collect()
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| Some(item[field].as_str()?.to_owned())).collect()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The program as its container runs it, with what a cluster would fill in.
fn command(program: &str, container: &Value) -> Result<Command> {
    let mut command = Command::new(weir_testbed::binary(program)?);
    command.env_clear().args(strings(&container["args"]));
    for one in container["env"].as_array().into_iter().flatten() {
        command.env(one["name"].as_str().context("a name")?, one["value"].as_str().unwrap_or("filled-in"));
    }
    Ok(command)
}

/// Flags are read before a level of logging that is none, and that before anything is done.
fn takes_its_flags(program: &str, container: &Value) -> Result<()> {
    let output = command(program, container)?.arg("--log-level=weir=[").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("--log-level"), "{program}: {}: {said}", output.status);
    let output = command(program, container)?.arg("--no-such-flag").output()?;
    ensure!(output.status.code() == Some(2), "{program} takes any flag");
    Ok(())
}

#[test]
fn programs_take_the_flags_that_manifests_give_them() -> Result<()> {
    for file in OVERLAYS {
        for (program, pod) in pods(file)? {
            takes_its_flags(&program, &pod["containers"][0]).context(file)?;
        }
    }
    Ok(())
}

#[test]
fn ports_and_probes_are_those_that_programs_listen_on() -> Result<()> {
    for (program, pod) in pods("ha")? {
        let container = &pod["containers"][0];
        let help = String::from_utf8(command(&program, container)?.arg("--help").output()?.stdout)?;
        let mut ports = BTreeMap::new();
        for port in container["ports"].as_array().context("ports")? {
            let number = port["containerPort"].as_u64().context("a number")?;
            let said = strings(&container["args"]).iter().any(|one| one.ends_with(&format!("-addr=[::]:{number}")));
            ensure!(
                said || help.contains(&format!("[default: [::]:{number}]")),
                "{program} does not listen on {number}"
            );
            ports.insert(port["name"].as_str().context("a name")?, number);
        }
        for probe in ["startupProbe", "readinessProbe"] {
            let asked = &container[probe]["httpGet"];
            let (path, port) = (asked["path"].as_str().context("a path")?, asked["port"].as_str().context("a port")?);
            let number = ports.get(port).with_context(|| format!("{probe} of {program}: no port {port}"))?;
            let at =
                help.find(&format!("Where {path} is served")).with_context(|| format!("{program} has no {path}"))?;
            ensure!(
                help[at..].find(&format!("[default: [::]:{number}]")).is_some_and(|far| far < 120),
                "{path} is elsewhere"
            );
        }
        let alive = container["livenessProbe"]["tcpSocket"]["port"].as_str().context("a port")?;
        ensure!(ports.contains_key(alive), "{program}: {alive}");
    }
    // Services lead to ports that are there.
    let objects = rendered("ha")?;
    for service in objects.iter().filter(|one| one["kind"] == "Service") {
        let name = service["metadata"]["name"].as_str().context("a name")?;
        let (_, pod) = pods("ha")?.into_iter().find(|(program, _)| program == name).context("its pods")?;
        let there = texts(&pod["containers"][0]["ports"], "name");
        let led = texts(&service["spec"]["ports"], "targetPort");
        ensure!(!led.is_empty() && led.iter().all(|one| there.contains(one)), "{name}: {led:?}");
    }
    Ok(())
}

/// The group and plural of all that rules name.
fn named(rules: &Value) -> BTreeSet<(&str, &str)> {
    let mut all = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        for group in strings(&rule["apiGroups"]) {
            all.extend(strings(&rule["resources"]).into_iter().map(|one| (group, one)));
        }
    }
    all
}

#[test]
fn who_is_asked_about_objects_listens_there_and_nothing_that_a_cluster_lives_by_waits_for_it() -> Result<()> {
    let read: BTreeSet<_> =
        Kind::ALL.iter().filter(|kind| kind.is_custom()).map(|kind| (kind.group(), kind.plural())).collect();
    for file in OVERLAYS {
        let objects = rendered(file)?;
        let asking = objects.last().filter(|one| one["kind"] == "ValidatingWebhookConfiguration");
        let asking = asking.with_context(|| format!("{file}: it is not the last that is made"))?;
        let (_, pod) = pods(file)?.into_iter().find(|(program, _)| program == "weir-control").context("its pods")?;
        let container = &pod["containers"][0];
        let mut held = BTreeSet::new();
        for webhook in asking["webhooks"].as_array().context("webhooks")? {
            let asked = &webhook["clientConfig"]["service"];
            let meta = |one: &&Value| one["kind"] == "Service" && one["metadata"]["name"] == asked["name"];
            let service = objects.iter().find(meta).context("its Service")?;
            ensure!(service["metadata"]["namespace"] == asked["namespace"] && asked["path"] == "/validate", "{asked}");
            let ports = service["spec"]["ports"].as_array().context("ports")?;
            let port = ports.iter().find(|one| one["port"] == asked["port"]).context("its port")?;
            let there = container["ports"].as_array().context("ports")?;
            let there = there.iter().find(|one| one["name"] == port["targetPort"]).context("the port of its pods")?;
            let flag = format!("--webhook-addr=[::]:{}", there["containerPort"]);
            ensure!(strings(&container["args"]).contains(&flag.as_str()), "{file}: no {flag}");
            // Who applies the file again would take them away.
            ensure!(webhook["clientConfig"]["caBundle"].is_null(), "the roots are written by who leads");
            let but = &webhook["namespaceSelector"]["matchExpressions"][0];
            ensure!(but["operator"] == "NotIn" && but["key"] == "kubernetes.io/metadata.name", "{but}");
            let but = strings(&but["values"]);
            ensure!(["kube-system", "kube-node-lease", "weir-system"].iter().all(|one| but.contains(one)), "{but:?}");
            if webhook["failurePolicy"] != "Ignore" {
                held.extend(named(&webhook["rules"]));
            }
        }
        ensure!(held == read, "{file}: held up while nobody answers: {held:?}, read: {read:?}");
        let may = objects.iter().find(|one| one["metadata"]["name"] == "weir-control-webhook").context("its role")?;
        ensure!(may["rules"][0]["resourceNames"] == json!([asking["metadata"]["name"]]), "{may}");
    }
    // Who comes in at all, comes in there.
    let policies = rendered("default")?
        .into_iter()
        .find(|one| one["kind"] == "NetworkPolicy" && one["metadata"]["name"] == "weir-control");
    let open = texts(&policies.context("a policy")?["spec"]["ingress"][0]["ports"], "port");
    ensure!(open.iter().any(|port| port == "https-webhook"), "{open:?}");
    Ok(())
}

#[test]
fn folders_that_programs_are_told_of_are_mounted_and_no_others() -> Result<()> {
    for (program, pod) in pods("default")? {
        let container = &pod["containers"][0];
        let mounts = texts(&container["volumeMounts"], "mountPath");
        let (mounted, volumes) = (texts(&container["volumeMounts"], "name"), texts(&pod["volumes"], "name"));
        ensure!(
            mounted.iter().collect::<BTreeSet<_>>() == volumes.iter().collect::<BTreeSet<_>>(),
            "{program}: {mounted:?}, {volumes:?}"
        );
        for argument in strings(&container["args"]) {
            let Some((_, path)) = argument.split_once('=').filter(|(_, value)| value.starts_with('/')) else {
                continue;
            };
            // The plugin is in the image.
            let is_there = path == "/weir-cni" || mounts.iter().any(|mount| path.starts_with(mount.as_str()));
            ensure!(is_there, "{program}: {argument} is in no volume");
        }
        if program == "weir-agent" {
            let help = String::from_utf8(command(&program, container)?.arg("--help").output()?.stdout)?;
            for default in
                ["/var/run/secrets/istio/root-cert.pem", "/var/run/secrets/tokens/istio-token", "/sys/fs/bpf/weir"]
            {
                ensure!(help.contains(&format!("[default: {default}]")), "{default} is not the default any more");
                ensure!(mounts.iter().any(|mount| default.starts_with(mount.as_str())), "{default} is in no volume");
            }
        }
    }
    Ok(())
}

#[test]
fn nothing_runs_with_more_than_it_needs() -> Result<()> {
    for (program, pod) in OVERLAYS.iter().map(|file| pods(file)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        let rights = &pod["containers"][0]["securityContext"];
        ensure!(
            rights["readOnlyRootFilesystem"] == true && rights["allowPrivilegeEscalation"] == false,
            "{program}: {rights}"
        );
        ensure!(
            rights["privileged"] != true && rights["capabilities"]["drop"] == json!(["ALL"]),
            "{program}: {rights}"
        );
        ensure!(pod["hostPID"] != true && pod["hostIPC"] != true, "{program}");
        let profile = [&pod["securityContext"], rights].map(|one| one["seccompProfile"]["type"].clone());
        ensure!(profile.contains(&json!("RuntimeDefault")), "{program}: {profile:?}");
        let added = strings(&rights["capabilities"]["add"]);
        let allowed: &[&str] =
            if program == "weir-agent" { &["SYS_ADMIN", "NET_ADMIN", "BPF", "SYS_PTRACE"] } else { &[] };
        ensure!(added == allowed, "{program}: {added:?}");
    }
    for object in rendered("ha")? {
        for rule in object["rules"].as_array().into_iter().flatten() {
            let said: Vec<&str> =
                ["apiGroups", "resources", "verbs"].iter().flat_map(|one| strings(&rule[one])).collect();
            ensure!(!said.contains(&"*"), "{}: {rule}", object["metadata"]["name"]);
        }
    }
    Ok(())
}
