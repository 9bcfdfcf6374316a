//! A source, listened to: its events as short lines, in order, with a deadline.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use kube::Client;
use tokio::time::timeout;
use weir_kube::{Event, Options, Source};
use weir_manifest::{Kind, Object, ObjectKey};

/// How long anything may take to be heard.
const PATIENCE: Duration = Duration::from_secs(30);

/// A source, and the namespace whose events count: a real server has others.
pub struct Heard {
    source: Source,
    namespace: String,
    /// The last object that was set.
    pub last: Option<Object>,
    /// What a consumer knows by now.
    pub state: BTreeMap<ObjectKey, Object>,
    /// Events that said nothing new.
    pub doubled: Vec<String>,
}

/// Options that do not make a test wait.
pub fn quick(kinds: &[Kind]) -> Options {
    Options {
        kinds: kinds.to_vec(),
        absent: Duration::from_millis(100),
        backoff: (Duration::from_millis(10), Duration::from_millis(100)),
        ..Options::default()
    }
}

impl Heard {
    /// Listens for what happens in a namespace.
    pub fn start(client: Client, namespace: &str, options: Options) -> Self {
        Self {
            source: Source::start(client, options),
            namespace: namespace.to_owned(),
            last: None,
            state: BTreeMap::new(),
            doubled: Vec::new(),
        }
    }

    fn line(&mut self, event: Event) -> Option<String> {
        let mine = |key: &ObjectKey, namespace: &str| match &key.namespace {
            Some(other) => other.as_str() == namespace,
            None => &*key.name == namespace,
        };
        let object = |verb: &str, key: &ObjectKey, namespace: &str| {
            mine(key, namespace).then(|| format!("{verb} {} {}", key.kind, key.name))
        };
        match event {
            Event::Set { object: set, .. } => {
                let set = *set;
                let line = object("set", &set.key(), &self.namespace);
                if let Some(line) = &line {
                    self.last = Some(set.clone());
                    if self.state.insert(set.key(), set) == self.last {
                        self.doubled.push(line.clone());
                    }
                }
                line
            }
            Event::Removed(key) => {
                let line = object("removed", &key, &self.namespace);
                if let Some(line) = &line
                    && self.state.remove(&key).is_none()
                {
                    self.doubled.push(line.clone());
                }
                line
            }
            Event::Refused { key, .. } => object("refused", &key, &self.namespace),
            Event::Synced => Some("synced".to_owned()),
            Event::Lost { kind, .. } => Some(format!("lost {kind}")),
            Event::Back { kind } => Some(format!("back {kind}")),
        }
    }

    /// The next line.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn next(&mut self) -> Result<String> {
        let line = async {
            loop {
                let event = self.source.next().await;
                if let Some(line) = self.line(event) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, line).await.context("nothing was heard in time")
    }

    /// Exactly these lines, in this order.
    ///
    /// # Errors
    /// At the first that is another.
    pub async fn hears(&mut self, lines: &[&str]) -> Result<()> {
        for (i, want) in lines.iter().enumerate() {
            let line = self.next().await.with_context(|| format!("instead of {want:?}"))?;
            ensure!(line == *want, "heard {line:?} instead of {want:?}, after {:?}", &lines[..i]);
        }
        Ok(())
    }

    /// Everything up to a line, without it.
    ///
    /// # Errors
    /// When that line does not come in time.
    pub async fn until(&mut self, last: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.next().await.with_context(|| format!("no {last:?} after {lines:?}"))?;
            if line == last {
                return Ok(lines);
            }
            lines.push(line);
        }
    }
}
