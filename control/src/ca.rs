//! The CA's life: where its data is, whose turn it is to change them, and what everybody does by them.
//!
//! Every replica signs and serves by the data it last read. Only the leader changes them, as [`CaSecret::step`] says, and tells the
//! namespaces which roots there are.

mod folder;
mod publish;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use weir_authority::{Authority, CaFiles, CaSecret, Step, Timing};
use weir_kube::{Client, Leadership};
use weir_model::{Namespace, TrustDomain};
use weir_rpc::{ServerTls, TlsFiles};
use zeroize::Zeroizing;

pub(crate) use publish::publish;

/// The CA's own Secret.
const OWN: &str = "weir-ca";
/// The operator's, as for Istio.
const PLUGGED: &str = "cacerts";
/// How often the data are read again: another replica may have changed them, or the operator.
const LOOK: Duration = Duration::from_secs(3);
/// How often those that are not there yet are looked for.
const LOOK_FIRST: Duration = Duration::from_millis(200);
/// How long the server's own certificate is valid.
const SERVING_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Where the CA's data are.
pub(crate) enum Storage {
    /// In a folder, of this process alone.
    Folder(PathBuf),
    /// In Secrets of this namespace.
    Secrets(Client, Namespace, Leadership),
}

/// What a CA is to be.
pub(crate) struct Settings {
    /// The trust domain of what it signs.
    pub(crate) trust_domain: TrustDomain,
    /// How long a certificate is valid at most.
    pub(crate) longest: Duration,
    /// The names of the server's own certificate.
    pub(crate) names: Vec<String>,
}

/// What everybody does by the CA's data, as they are now.
#[derive(Clone)]
pub(crate) struct Now {
    /// Who signs.
    pub(crate) authority: watch::Receiver<Arc<Authority>>,
    /// How the server shows itself.
    pub(crate) tls: watch::Receiver<Arc<ServerTls>>,
    /// The roots that are believed, PEM.
    pub(crate) bundle: watch::Receiver<Arc<str>>,
}

/// The data as they were read last.
#[derive(Clone)]
struct Held {
    secret: CaSecret,
    /// Which version of them, where they have one.
    version: Option<String>,
}

/// The CA, looked after.
pub(crate) struct Ca {
    storage: Storage,
    settings: Settings,
    held: Held,
    /// When the server needs another certificate.
    renew: SystemTime,
    /// The last thing that went wrong, said once.
    complaint: Option<String>,
    authority: watch::Sender<Arc<Authority>>,
    tls: watch::Sender<Arc<ServerTls>>,
    bundle: watch::Sender<Arc<str>>,
}

impl Ca {
    /// Reads the CA's data, or makes them if there are none.
    pub(crate) async fn open(storage: Storage, settings: Settings) -> anyhow::Result<(Self, Now)> {
        let held = storage.first(&settings).await?;
        let now = SystemTime::now();
        let authority = open(&held.secret, &settings, now)?;
        let (tls, renew) = serving(&authority, &held.secret, &settings, now)?;
        let (authority, signing) = watch::channel(Arc::new(authority));
        let (tls, showing) = watch::channel(Arc::new(tls));
        let (bundle, believed) = watch::channel(Arc::from(held.secret.bundle().pem()));
        let ca = Self { storage, settings, held, renew, complaint: None, authority, tls, bundle };
        Ok((ca, Now { authority: signing, tls: showing, bundle: believed }))
    }

    /// Looks after it until `ended`.
    pub(crate) async fn run(mut self, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = &mut ended => return,
                () = sleep_until(next) => {}
            }
            next = Instant::now() + LOOK;
            let complaint = self.look(SystemTime::now()).await.err().map(|error| format!("{error:#}"));
            if let Some(complaint) = complaint.as_ref().filter(|now| self.complaint.as_ref() != Some(now)) {
                tracing::error!(reason = complaint, "the CA goes on as it is");
            }
            self.complaint = complaint;
        }
    }

    /// Reads the data again, changes them if it is our turn, and does by them.
    async fn look(&mut self, now: SystemTime) -> anyhow::Result<()> {
        match self.storage.load().await? {
            Some(held) => {
                if held.secret.data() == self.held.secret.data() {
                    self.held.version = held.version;
                } else {
                    self.adopt(held, now)?;
                    tracing::info!("the CA's data have changed");
                }
            }
            // Deleted under us: every certificate out there was signed by what we hold.
            None if self.storage.is_ours() => {
                tracing::error!("the CA's data were deleted; they are put back");
                self.storage.replace(&Held { secret: self.held.secret.clone(), version: None }).await?;
                // Of which version they are now, the next look says.
                return Ok(());
            }
            None => bail!("the CA's data were deleted; the leader will put them back"),
        }
        if self.storage.is_ours() {
            self.step(now).await?;
        }
        if now >= self.renew {
            self.adopt(self.held.clone(), now)?;
        }
        Ok(())
    }

    async fn step(&mut self, now: SystemTime) -> anyhow::Result<()> {
        let plugged = self.storage.plugged().await?;
        let timing = Timing::of(self.settings.longest);
        match self.held.secret.step(plugged.as_ref(), timing, &self.settings.trust_domain, now)? {
            Step::Keep(_) => Ok(()),
            Step::Write(secret, change) => {
                let held = Held { secret: *secret, version: self.held.version.clone() };
                // What cannot sign must not be written.
                open(&held.secret, &self.settings, now)?;
                self.storage.replace(&held).await?;
                tracing::warn!(%change, "the CA changes");
                self.adopt(held, now)
            }
        }
    }

    /// Signs, serves and publishes by the data from now on, if they are good for that.
    fn adopt(&mut self, held: Held, now: SystemTime) -> anyhow::Result<()> {
        let authority = open(&held.secret, &self.settings, now)?;
        let (tls, renew) = serving(&authority, &held.secret, &self.settings, now)?;
        (self.held, self.renew) = (held, renew);
        self.authority.send_replace(Arc::new(authority));
        self.tls.send_replace(Arc::new(tls));
        let bundle: Arc<str> = self.held.secret.bundle().pem().into();
        self.bundle.send_if_modified(|old| {
            let news = *old != bundle;
            *old = bundle;
            news
        });
        Ok(())
    }
}

fn open(secret: &CaSecret, settings: &Settings, now: SystemTime) -> anyhow::Result<Authority> {
    Authority::open(secret.files(), &settings.trust_domain, settings.longest, now).context("the CA's data")
}

/// The server's certificate, and when it needs another one.
fn serving(
    authority: &Authority,
    secret: &CaSecret,
    settings: &Settings,
    now: SystemTime,
) -> anyhow::Result<(ServerTls, SystemTime)> {
    let serving = authority.serve(&settings.names, SERVING_LIFETIME, now).context("the server's certificate")?;
    let roots = secret.bundle().pem();
    let files = TlsFiles { chain: serving.chain.as_bytes(), key: serving.key.as_bytes(), roots: roots.as_bytes() };
    let tls = ServerTls::new(files, &settings.trust_domain).context("the server's certificate")?;
    let left = serving.not_after.duration_since(now).unwrap_or_default();
    Ok((tls, now + left / 2))
}

impl Storage {
    /// Whether it is our turn to change the data.
    fn is_ours(&self) -> bool {
        match self {
            Self::Folder(_) => true,
            Self::Secrets(_, _, leadership) => leadership.is_leader(),
        }
    }

    async fn load(&self) -> anyhow::Result<Option<Held>> {
        let (data, version) = match self {
            Self::Folder(dir) => (folder::load(dir)?, None),
            Self::Secrets(client, namespace, _) => {
                match weir_kube::secret_read(client, namespace, OWN).await.context("the CA's Secret")? {
                    Some((data, version)) => (data, Some(version)),
                    None => return Ok(None),
                }
            }
        };
        if data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Held { secret: CaSecret::read(&data).with_context(|| self.place())?, version }))
    }

    /// The data; and if there are none, the first ones, once it is our turn to make them: a replica that starts while somebody has
    /// deleted them waits until the leader has put them back.
    async fn first(&self, settings: &Settings) -> anyhow::Result<Held> {
        let mut said = None;
        loop {
            let why = match self.load().await {
                Ok(Some(held)) => return Ok(held),
                Ok(None) if self.is_ours() => return self.make(settings, SystemTime::now()).await,
                Ok(None) => "there is no CA yet; the leader makes it".to_owned(),
                Err(error) if is_away(&error) => format!("{error:#}"),
                Err(error) => return Err(error),
            };
            if said.as_ref() != Some(&why) {
                tracing::info!(reason = why, "waiting for the CA's data");
                said = Some(why);
            }
            sleep(LOOK_FIRST).await;
        }
    }

    /// The first data. Of several replicas that make some at once one wins, and all use that.
    async fn make(&self, settings: &Settings, now: SystemTime) -> anyhow::Result<Held> {
        let secret = match self.plugged().await? {
            Some(files) => CaSecret::plugged_in(&files, &settings.trust_domain, now)?,
            None => CaSecret::make(&settings.trust_domain, now)?,
        };
        match self {
            Self::Folder(dir) => {
                folder::store(dir, &secret.data())?;
                Ok(Held { secret, version: None })
            }
            Self::Secrets(client, namespace, _) => {
                let made = weir_kube::secret_make(client, namespace, OWN, bytes(&secret)).await?;
                let (data, version) = made.object();
                Ok(Held { secret: CaSecret::read(&data).with_context(|| self.place())?, version: Some(version) })
            }
        }
    }

    /// Writes the data over those of the version they were made from.
    async fn replace(&self, held: &Held) -> anyhow::Result<()> {
        match (self, &held.version) {
            (Self::Folder(dir), _) => folder::store(dir, &held.secret.data()),
            (Self::Secrets(client, namespace, _), Some(version)) => {
                weir_kube::secret_replace(client, namespace, OWN, version, bytes(&held.secret)).await?;
                Ok(())
            }
            (Self::Secrets(client, namespace, _), None) => {
                weir_kube::secret_make(client, namespace, OWN, bytes(&held.secret)).await?;
                Ok(())
            }
        }
    }

    /// What the operator plugged in.
    async fn plugged(&self) -> anyhow::Result<Option<CaFiles>> {
        let Self::Secrets(client, namespace, _) = self else { return Ok(None) };
        let Some((mut data, _)) = weir_kube::secret_read(client, namespace, PLUGGED).await? else { return Ok(None) };
        let mut file = |name: &str| data.remove(name).unwrap_or_default();
        Ok(Some(CaFiles {
            certificate: file("ca-cert.pem"),
            key: Zeroizing::new(file("ca-key.pem")),
            roots: file("root-cert.pem"),
            chain: file("cert-chain.pem"),
        }))
    }

    fn place(&self) -> String {
        match self {
            Self::Folder(dir) => dir.display().to_string(),
            Self::Secrets(_, namespace, _) => format!("Secret {namespace}/{OWN}"),
        }
    }
}

/// Whether the API server did not answer, or had too much to do.
fn is_away(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<weir_kube::Error>()
        .is_some_and(|error| error.status().is_none_or(|code| code == 429 || code >= 500))
}

fn bytes(secret: &CaSecret) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    secret.data().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}
