//! An explanation on paper: the verdict first, then hop by hop what was looked at.

use std::fmt;

use weir_authz::labelled;

use crate::explained::{About, Asked, At, Explained, Hop, ReachedBy, Routed, Verdict};

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        labelled(f, &self.verdict.to_string(), &self.reason)?;
        let identity = self.from.identity.as_deref().unwrap_or("no identity (plaintext)");
        let workload = self.from.workload.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        labelled(f, "from", &format!("{identity}, at {}{workload}", self.from.address))?;
        labelled(f, "to", &self.to.to_string())?;
        if let Some(request) = &self.request {
            labelled(f, "asks", request)?;
        }
        for note in &self.notes {
            labelled(f, "note", note)?;
        }
        for (at, hop) in self.hops.iter().enumerate() {
            writeln!(f)?;
            labelled(f, &format!("hop {}", at + 1), &hop.title())?;
            hop.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}, {}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Partly => "PARTLY",
            Self::Unknown => "UNKNOWN",
        })
    }
}

impl fmt::Display for About {
    /// The label of such a step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked",
            Self::Bound => "bound",
            Self::Next => "next",
            Self::Identity => "identity",
            Self::Token => "token",
            Self::Policy => "policy",
            Self::Route => "route",
            Self::Change => "changes",
            Self::Fault => "fault",
            Self::Limits => "limits",
            Self::Copies => "copies",
            Self::Answer => "answers",
            Self::Note => "note",
        })
    }
}

impl Hop {
    fn title(&self) -> String {
        let of = self.of.join(", ");
        let who = match self.at {
            At::Client => format!("the client's side, {of}"),
            At::Waypoint => format!("the waypoint {of}"),
            At::Destination => format!("the agent of {of}"),
        };
        // What a step says already is not said twice.
        match self.steps.iter().any(|step| step.says.ends_with(&self.reason)) {
            true => format!("{who}: {}", self.verdict),
            false => format!("{who}: {}, {}", self.verdict, self.reason),
        }
    }
}

impl fmt::Display for Hop {
    /// Without its title.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            labelled(f, &step.about.to_string(), &step.says)?;
            if step.about == About::Policy {
                self.policies.iter().try_for_each(|policy| policy.fmt(f))?;
            }
        }
        self.destinations.iter().try_for_each(|routed| routed.fmt(f))
    }
}

impl Routed {
    /// Its share of all, in words.
    pub(crate) fn share(&self) -> String {
        match self.total == u64::from(self.weight) {
            true => "all".to_owned(),
            false => format!("{} of {}", self.weight, self.total),
        }
    }
}

impl fmt::Display for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, verdict, reason, rule, .. } = self;
        let share = self.share();
        labelled(f, "sends", &format!("{share} to {to}: {verdict}, {reason}"))?;
        if let Some((name, place)) = rule {
            let place = place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            labelled(f, "", &format!("DestinationRule {name}{place}"))?;
        }
        if !self.policy.is_empty() {
            labelled(f, "", &self.policy.join("; "))?;
        }
        if !self.changes.is_empty() {
            labelled(f, "", &self.changes.join("; "))?;
        }
        for endpoint in &self.endpoints {
            labelled(f, "", &format!("- {endpoint}"))?;
        }
        match self.more {
            0 => Ok(()),
            more => labelled(f, "", &format!("- and {more} more")),
        }
    }
}

impl fmt::Display for ReachedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, address, ready, way } = self;
        let ready = if *ready { "ready" } else { "not ready" };
        write!(f, "{workload}, {address}, {ready}, {way}")
    }
}
