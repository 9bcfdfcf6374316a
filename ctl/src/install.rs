//! `weirctl install` and `uninstall`: the manifests of `deploy/`, as this version of the program has them, made on a cluster and taken away.

mod bundle;
mod remove;
mod wait;

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weir_kube::{AnyKind, AnyName, Applying, Client, Error, Others, Run, object_apply, object_get};

use bundle::Bundle;
use wait::{Waiting, is_ready};

/// As whom fields are applied.
const MANAGER: &str = "weirctl";
/// What is ours, of what belongs to no namespace of ours.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "weir");
/// Where everything runs.
pub(crate) const NAMESPACE: &str = "weir-system";
/// By which API servers ask weir-control about objects, and refuse some while it does not answer.
const ADMISSION: &str = "ValidatingWebhookConfiguration";
/// How the definitions of the Gateway API come: they are its own, and other programs of the cluster may need a certain version.
const GATEWAY_API: &str =
    "kubectl apply -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.4.0/standard-install.yaml";

/// Arguments of `weirctl install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Which mesh: with waypoints, with a control plane that outlives a node, or at layer 4 alone.
    #[arg(long, value_enum, default_value = "default", value_name = "default|ha|minimal")]
    overlay: Overlay,

    /// Another place or version of the images: image.registry=REGISTRY or image.tag=TAG; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Ask the API server what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,

    /// Print the manifests, and ask nobody.
    #[arg(long, short = 'o', value_enum, value_name = "yaml")]
    output: Option<Printed>,

    /// How long everything may take to be ready; 0s does not wait.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = duration)]
    timeout: Duration,

    /// The cluster.
    #[command(flatten)]
    cluster: Cluster,
}

/// Arguments of `weirctl uninstall`.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Take the definitions of Istio's kinds away, too, if Weir brought them: and with them every policy and route on the cluster.
    #[arg(long)]
    purge: bool,

    /// How long agents, and what they put on nodes, may take to go.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = duration)]
    timeout: Duration,

    /// The cluster.
    #[command(flatten)]
    cluster: Cluster,
}

/// Which cluster.
#[derive(Debug, Args)]
struct Cluster {
    /// The file that says where the cluster is; that of kubectl when absent.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// An overlay of `deploy/overlays`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlay {
    /// With waypoints.
    Default,
    /// As default, with three control planes.
    Ha,
    /// At layer 4 alone.
    Minimal,
}

/// How manifests are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Printed {
    /// As they would be applied.
    Yaml,
}

/// A number with `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 90s, 5m or 1h".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(expected()),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(expected)
}

impl Cluster {
    async fn client(&self) -> Result<Client> {
        let advice = "--kubeconfig names the file that says where the cluster is";
        weir_kube::connect(self.kubeconfig.as_deref()).await.context(advice)
    }
}

/// Installs, and says each step as it is done; the answer is what is left to say.
pub(crate) fn install(asked: &Install) -> Result<String> {
    let bundle = Bundle::of(asked.overlay, &asked.set)?;
    if asked.output.is_some() {
        return Ok(bundle.text().to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = asked.cluster.client().await?;
        let objects = bundle.objects()?;
        needs_gateway_api(&client, &objects).await?;
        let run = if asked.dry_run { Run::Dry } else { Run::Real };
        let mut installing = Installing { client: &client, run, namespace_is_there: true };
        let (asking, others): (Vec<Value>, Vec<Value>) =
            objects.into_iter().partition(|object| object["kind"] == ADMISSION);
        for object in &others {
            say(&installing.apply(object).await?);
        }
        let waiting = (!asked.timeout.is_zero() && !asked.dry_run).then(|| Waiting::new(&client, asked.timeout));
        if let Some(waiting) = &waiting {
            waiting.until_ready("Deployment", &others).await?;
        }
        // Only now that somebody answers.
        for object in &asking {
            say(&installing.admit(object, &others).await?);
        }
        if asked.dry_run {
            return Ok("nothing was done: --dry-run\n".to_owned());
        }
        if let Some(waiting) = &waiting {
            waiting.until_trusted(&asking).await?;
            waiting.until_ready("DaemonSet", &others).await?;
        }
        Ok("the mesh is there. A namespace joins it with: kubectl label namespace NAME istio.io/dataplane-mode=ambient\n"
            .to_owned())
    })
}

/// Uninstalls, and says each step as it is done; the answer is what stays.
pub(crate) fn uninstall(asked: &Uninstall) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = asked.cluster.client().await?;
        remove::all(&client, asked.purge, asked.timeout).await
    })
}

/// One line of progress. Who has closed the pipe does not want to know.
fn say(line: &str) {
    let _said = writeln!(std::io::stdout(), "{line}").is_ok();
}

struct Installing<'a> {
    client: &'a Client,
    run: Run,
    /// Whether what is in the namespace can be tried: where nothing is done there may be none.
    namespace_is_there: bool,
}

impl Installing<'_> {
    /// Applies what lets API servers ask, unless who would answer is known not to run: then what they ask about would be refused.
    async fn admit(&mut self, object: &Value, others: &[Value]) -> Result<String> {
        let name = AnyName::of(object).context("a manifest has a kind and a name")?;
        if self.run == Run::Real {
            for answers in others.iter().filter(|one| one["kind"] == "Deployment").filter_map(AnyName::of) {
                let there = object_get(self.client, &answers).await.map_err(|error| allowed(error, &answers, "get"))?;
                if !is_ready(&there.unwrap_or_default()) {
                    return Ok(format!("later      {name}: {answers} is not ready; weirctl install again makes it"));
                }
            }
        }
        self.apply(object).await
    }

    /// Applies an object, unless it is somebody else's; answers with what was done.
    async fn apply(&mut self, object: &Value) -> Result<String> {
        let name = AnyName::of(object).context("a manifest has a kind and a name")?;
        let before = object_get(self.client, &name).await.map_err(|error| allowed(error, &name, "get"))?;
        if let Some(before) = &before
            && is_others(&name, before)
        {
            return Ok(format!("kept       {name}: it is there already, and not Weir's"));
        }
        if before.is_none() && self.run == Run::Dry {
            if name.kind.kind == "Namespace" {
                self.namespace_is_there = false;
            } else if name.namespace.is_some() && !self.namespace_is_there {
                return Ok(format!("would make {name}"));
            }
        }
        let how = Applying { manager: MANAGER, others: Others::Taken, run: self.run };
        let after = object_apply(self.client, object, how).await;
        let after = after.map_err(|error| allowed(error, &name, "create and patch"))?;
        Ok(match (before, self.run) {
            (None, Run::Real) => format!("made       {name}"),
            (None, Run::Dry) => format!("would make {name}"),
            (Some(before), _) if same(&before, &after) => format!("unchanged  {name}"),
            (Some(_), Run::Real) => format!("changed    {name}"),
            (Some(_), Run::Dry) => format!("would change {name}"),
        })
    }
}

/// Whether an object is as it was, but for what the server counts.
fn same(before: &Value, after: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        for field in ["managedFields", "resourceVersion", "generation"] {
            object["metadata"][field] = json!(null);
        }
        object["status"] = json!(null);
        object
    };
    bare(before) == bare(after)
}

/// Whether an object that all of the cluster share was made by somebody else: definitions and classes of Istio.
fn is_others(name: &AnyName, object: &Value) -> bool {
    let shared = matches!(name.kind.kind.as_str(), "CustomResourceDefinition" | "GatewayClass");
    shared && object["metadata"]["labels"][PART_OF.0] != PART_OF.1
}

/// Where the server forbids something: which verb on which resource has to be allowed.
fn allowed(error: Error, name: &AnyName, verbs: &str) -> anyhow::Error {
    let forbidden = matches!(error.status(), Some(401 | 403));
    let error = anyhow::Error::new(error);
    if !forbidden {
        return error;
    }
    let place = name.namespace.as_ref().map_or_else(|| "at cluster scope".to_owned(), |one| format!("in {one}"));
    error.context(format!(
        "not allowed: {verbs} of {} {place}; ask who runs the cluster for it",
        name.kind.resource_name()
    ))
}

/// Fails where classes of Gateways are asked for and the API that has them is not there.
async fn needs_gateway_api(client: &Client, objects: &[Value]) -> Result<()> {
    if !objects.iter().any(|object| object["kind"] == "GatewayClass") {
        return Ok(());
    }
    let mut missing = Vec::new();
    for plural in ["gatewayclasses", "gateways", "httproutes"] {
        let definition = AnyKind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        let name = definition.named(None, &format!("{plural}.gateway.networking.k8s.io"));
        if object_get(client, &name).await.map_err(|error| allowed(error, &name, "get"))?.is_none() {
            missing.push(name.name);
        }
    }
    ensure!(
        missing.is_empty(),
        "waypoints need the Gateway API, of which the cluster lacks {}:\n  {GATEWAY_API}\nbrings it; --overlay minimal does without",
        missing.join(", ")
    );
    Ok(())
}

/// Splits `KEY=VALUE`.
fn setting(text: &str) -> Result<(&str, &str)> {
    match text.split_once('=') {
        Some((key, value)) if !value.is_empty() => Ok((key, value)),
        Some(_) | None => bail!("--set {text}: expected KEY=VALUE"),
    }
}
