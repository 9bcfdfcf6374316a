//! One root after another, without one failed handshake: the new root is believed, then it signs, then the old one is forgotten.
//!
//! A plain function from what the Secret holds, what the operator plugged in, and the time, to what the Secret is to hold. One replica calls
//! it again and again and writes what it says; all replicas sign and publish what is written.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use weir_model::TrustDomain;

use crate::{
    Authority, AuthorityError, Bundle, CaFiles, CaSecret,
    authority::only,
    bundle::{parse, validity},
    secret::{Origin, Signer},
};

/// A root of our own making is followed by the next when only this part of its life is left.
const LAST_PART: u32 = 3;
/// How long the steps of a rotation are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From publishing a bundle until everybody has it.
    pub spread: Duration,
    /// From a signer's last certificate until that has expired.
    pub retire: Duration,
}

impl Timing {
    /// A replica that has not read the Secret for this long must not sign: another may have gone on, and drop the root this one signs by.
    pub const STALE: Duration = Duration::from_secs(3600);

    /// For a CA whose certificates are valid for at most `longest`. An agent that gets its roots with its certificates alone, as ztunnel
    /// does, has had a new one by then.
    pub fn of(longest: Duration) -> Self {
        Self { spread: longest, retire: longest + Self::STALE }
    }
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Step {
    /// Nothing, until then; or until something changes.
    Keep(Option<SystemTime>),
    /// Write this into the Secret, then publish its bundle and sign by it.
    Write(Box<CaSecret>, Change),
}

/// Why the Secret is written, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There is a next signer. Its root is published, and it signs when all have that.
    Announced,
    /// The next signer signs.
    Switched,
    /// The operator took back the next signer.
    Withdrawn,
    /// Roots were added, or the chain was replaced; the signer is the same.
    Replaced,
    /// Roots that nobody signs by wait for the last certificate they signed to expire.
    Leaving,
    /// They are no longer believed.
    Retired,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Announced => "the next CA's root is published, the old CA signs until all believe it",
            Self::Switched => "the next CA signs",
            Self::Withdrawn => "the next CA was taken back",
            Self::Replaced => "roots or chain of the CA were replaced",
            Self::Leaving => "the old CA's last certificates are waited for",
            Self::Retired => "the old root is no longer believed",
        })
    }
}

/// Who is to sign, and what is to be believed then.
struct Goal<'a> {
    signer: Cow<'a, Signer>,
    wanted: Bundle,
}

impl CaSecret {
    /// What to do at `now`, when `plugged` is what the operator's Secret `cacerts` holds. If that is gone, what was copied from it goes on.
    ///
    /// # Errors
    /// What is plugged in is no CA, or a root cannot be made. What is written stays as it is.
    pub fn step(
        &self,
        plugged: Option<&CaFiles>,
        timing: Timing,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Step, AuthorityError> {
        let Goal { signer, wanted } = self.goal(plugged, trust_domain, now)?;
        let mut after = self.clone();
        let grows = !self.bundle.has_all_of(&wanted);
        if grows {
            after.bundle = self.bundle.and(&wanted)?;
            after.grown = now;
        }
        let change = match same(&signer.files, &self.current.files)? {
            false => after.follow(signer.into_owned(), timing, now)?,
            true if self.next.is_some() => {
                after.next = None;
                Some(Change::Withdrawn)
            }
            true if grows || signer.files.chain != self.current.files.chain || signer.origin != self.current.origin => {
                after.current = signer.into_owned();
                Some(Change::Replaced)
            }
            true => after.forget(wanted, timing, now),
        };
        let waits = if after.next.is_some() { Some(after.grown + timing.spread) } else { None };
        Ok(match change {
            Some(change) => Step::Write(Box::new(after.with_roots_written()), change),
            None => Step::Keep(waits.or(self.leaving.map(|leaving| leaving + timing.retire))),
        })
    }

    fn goal(
        &self,
        plugged: Option<&CaFiles>,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Goal<'_>, AuthorityError> {
        if let Some(files) = plugged {
            Authority::open(files, trust_domain, Duration::ZERO, now)?;
            let wanted = Bundle::parse("root-cert.pem", &files.roots)?;
            return Ok(Goal { signer: Cow::Owned(Signer { files: files.clone(), origin: Origin::PluggedIn }), wanted });
        }
        if let Some(next) = &self.next {
            Authority::open(&next.files, trust_domain, Duration::ZERO, now)?;
            let wanted = Bundle::parse("next-root-cert.pem", &next.files.roots)?;
            return Ok(Goal { signer: Cow::Borrowed(next), wanted });
        }
        match self.current.origin {
            Origin::PluggedIn => Ok(Goal { signer: Cow::Borrowed(&self.current), wanted: self.bundle.clone() }),
            Origin::Made => {
                let (from, until) = lifetime(&self.current.files)?;
                let left = until.duration_since(now).unwrap_or_default();
                let whole = until.duration_since(from).unwrap_or_default();
                let signer = match left > whole / LAST_PART {
                    true => Cow::Borrowed(&self.current),
                    false => Cow::Owned(Signer { files: CaFiles::make(trust_domain, now)?, origin: Origin::Made }),
                };
                let wanted = Bundle::parse("ca-cert.pem", &signer.files.certificate)?;
                Ok(Goal { signer, wanted })
            }
        }
    }

    /// Makes `signer` the one that signs, now if all believe its root, else as soon as they do.
    fn follow(&mut self, signer: Signer, timing: Timing, now: SystemTime) -> Result<Option<Change>, AuthorityError> {
        let (_, until) = lifetime(&self.current.files)?;
        self.leaving = None;
        // With an expired signer nothing works already.
        if now >= self.grown + timing.spread || now >= until {
            (self.current, self.next) = (signer, None);
            return Ok(Some(Change::Switched));
        }
        if let Some(next) = &self.next
            && same(&next.files, &signer.files)?
            && next.files.chain == signer.files.chain
            && next.files.roots == signer.files.roots
        {
            return Ok(None);
        }
        self.next = Some(signer);
        Ok(Some(Change::Announced))
    }

    /// Lets go of roots that are no longer `wanted`, once nothing they signed is valid.
    fn forget(&mut self, wanted: Bundle, timing: Timing, now: SystemTime) -> Option<Change> {
        if self.bundle == wanted {
            return self.leaving.take().map(|_| Change::Replaced);
        }
        match self.leaving {
            None => {
                self.leaving = Some(now);
                Some(Change::Leaving)
            }
            Some(leaving) if now >= leaving + timing.retire => {
                (self.bundle, self.leaving) = (wanted, None);
                Some(Change::Retired)
            }
            Some(_) => None,
        }
    }
}

/// Whether both are the same certificate, however it is written.
fn same(one: &CaFiles, other: &CaFiles) -> Result<bool, AuthorityError> {
    Ok(only("ca-cert.pem", &one.certificate)? == only("ca-cert.pem", &other.certificate)?)
}

fn lifetime(files: &CaFiles) -> Result<(SystemTime, SystemTime), AuthorityError> {
    let der = only("ca-cert.pem", &files.certificate)?;
    Ok(validity(&parse("ca-cert.pem", &der)?))
}
