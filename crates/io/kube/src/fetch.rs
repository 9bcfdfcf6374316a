//! One list page or one watch of one kind, as bytes within bounds, and what they say.
//!
//! The client library would read whole typed objects; here each becomes what the mesh reads while it arrives.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use http_body_util::BodyExt;
use kube::{
    Client,
    api::{ListParams, WatchParams},
    client::Body,
    core::{Request, Status},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use weir_manifest::{FileName, Kind, ManifestError, Object, ObjectKey, Sent};

use crate::Error;

/// Most a page may have, in bytes. A larger one is asked for in smaller pages.
pub(crate) const MAX_PAGE: usize = 64 << 20;
/// Most one event of a watch may have, in bytes: etcd holds 1.5 MiB, which escapes can stretch.
const MAX_EVENT: usize = 16 << 20;
/// Most an error's text may have, in bytes.
const MAX_STATUS: usize = 64 << 10;

/// The state of an object, as a number: another number is another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Of the object's uid: another one is another object of the same name.
    pub(crate) uid: u64,
    /// Of its resource version.
    pub(crate) state: u64,
}

/// An object as it came.
pub(crate) struct Item {
    pub(crate) key: ObjectKey,
    pub(crate) version: Version,
    pub(crate) object: Result<Object, Vec<ManifestError>>,
    /// What waypoints are told of it.
    pub(crate) document: Option<Arc<str>>,
}

/// Reads what a server says of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) kind: Kind,
    hashes: RandomState,
    file: FileName,
}

impl Reading {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, hashes: RandomState::new(), file: FileName::new("kubernetes") }
    }

    fn page(&self, bytes: &[u8], what: String) -> Result<Page, Error> {
        let mut text = serde_json::Deserializer::from_slice(bytes);
        let read = ReadPage(self).deserialize(&mut text).and_then(|page| text.end().map(|()| page));
        let (position, items) = match read {
            Ok(page) => page,
            Err(source) => return Err(Error::Malformed { what, source }),
        };
        let items: Result<Vec<_>, _> = items.into_iter().collect();
        let version = position.resource_version.filter(|version| !version.is_empty());
        let version = version.ok_or(Error::Incomplete { what, field: "metadata.resourceVersion" })?;
        let token = position.token.filter(|token| !token.is_empty());
        Ok(Page { items: items?, token, version })
    }

    fn item(&self, sent: &Sent) -> Result<Item, Error> {
        let missing = |field| Error::Incomplete { what: format!("read {}", self.kind.plural()), field };
        let key = sent.key(self.kind).ok_or_else(|| missing("metadata.name or metadata.namespace"))?;
        let state = sent.resource_version().ok_or_else(|| missing("metadata.resourceVersion"))?;
        let version =
            Version { uid: self.hashes.hash_one(sent.uid().unwrap_or_default()), state: self.hashes.hash_one(state) };
        Ok(Item { key, version, object: sent.read(self.kind, &self.file), document: sent.document(self.kind) })
    }
}

/// Reads a page. Each item becomes what is kept of it before the next is read: the trees of hundreds of objects at once would be
/// most of what reading them costs, in time and in memory.
struct ReadPage<'r>(&'r Reading);

type Items = Vec<Result<Item, Error>>;

impl<'de> DeserializeSeed<'de> for ReadPage<'_> {
    type Value = (RawPosition, Items);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReadPage<'_> {
    type Value = (RawPosition, Items);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut position, mut items) = (None, Items::new());
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match &*field {
                "metadata" => position = Some(map.next_value()?),
                "items" => items = map.next_value_seed(ReadItems(self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((position.ok_or_else(|| de::Error::missing_field("metadata"))?, items))
    }
}

/// Reads the items of a page, or null where there are none.
struct ReadItems<'r>(&'r Reading);

impl<'de> DeserializeSeed<'de> for ReadItems<'_> {
    type Value = Items;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Items, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadItems<'_> {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a list")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Items, E> {
        Ok(Items::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
        let mut items = Items::new();
        while let Some(sent) = seq.next_element::<Sent>()? {
            items.push(self.0.item(&sent));
        }
        Ok(items)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPosition {
    #[serde(rename = "continue")]
    token: Option<String>,
    resource_version: Option<String>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct RawBookmark {
    metadata: RawPosition,
}

/// One page of a list.
pub(crate) struct Page {
    pub(crate) items: Vec<Item>,
    /// For the next page, if there is one.
    pub(crate) token: Option<String>,
    /// Where a watch goes on from.
    pub(crate) version: String,
}

/// What a watch says.
pub(crate) enum Change {
    Set(Box<Item>),
    Removed(ObjectKey),
    /// Nothing, but that the watch goes on from here.
    Bookmark,
}

/// Every request of one kind.
#[derive(Clone)]
pub(crate) struct Fetch {
    pub(crate) client: Client,
    pub(crate) reading: Reading,
    /// How long a page, or the beginning of a watch, may take.
    pub(crate) answer: Duration,
    /// How long a watch may be silent.
    pub(crate) silence: Duration,
}

impl Fetch {
    fn what(&self, verb: &str) -> String {
        format!("{verb} {}", self.reading.kind.plural())
    }

    fn resource(&self) -> Request {
        let kind = self.reading.kind;
        Request::new(match kind.group() {
            "" => format!("/api/{}/{}", kind.version(), kind.plural()),
            group => format!("/apis/{group}/{}/{}", kind.version(), kind.plural()),
        })
    }

    /// A page of at most `limit` objects.
    pub(crate) async fn page(&self, limit: u32, token: Option<&str>) -> Result<Page, Error> {
        let what = self.what("list");
        let mut params = ListParams::default().limit(limit);
        params.continue_token = token.map(str::to_owned);
        let request = self.resource().list(&params);
        let request = request.map_err(|error| Error::of(&what, kube::Error::BuildRequest(error)))?;
        let deadline = Instant::now() + self.answer;
        let mut body = self.open("list", request, deadline).await?;
        let bytes = self.rest("list", &mut body, MAX_PAGE, deadline).await?;
        let reading = self.reading.clone();
        // Hundreds of objects are more than a task may read at once.
        match tokio::task::spawn_blocking(move || reading.page(&bytes, what)).await {
            Ok(page) => page,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is being shut down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// A watch from a version on.
    pub(crate) async fn watch(&self, version: &str) -> Result<Watch<'_>, Error> {
        // Not all at once, though all began at once.
        let lifetime = rand::random_range(240..290);
        let params = WatchParams::default().timeout(lifetime);
        let request = self.resource().watch(&params, version);
        let request = request.map_err(|error| Error::of(self.what("watch"), kube::Error::BuildRequest(error)))?;
        let body = self.open("watch", request, Instant::now() + self.answer).await?;
        Ok(Watch { fetch: self, body, buffer: Vec::new(), searched: 0, version: version.to_owned() })
    }

    /// The body of an answer that is not an error.
    async fn open(&self, verb: &str, request: http::Request<Vec<u8>>, deadline: Instant) -> Result<Body, Error> {
        let answer = timeout_at(deadline, self.client.send(request.map(Body::from))).await;
        let answer = answer.map_err(|_| Error::Slow { what: self.what(verb), within: self.answer })?;
        let answer = answer.map_err(|error| Error::of(self.what(verb), error))?;
        let status = answer.status();
        let mut body = answer.into_body();
        if status == StatusCode::OK {
            return Ok(body);
        }
        let text = self.rest(verb, &mut body, MAX_STATUS, deadline).await?;
        let message = match serde_json::from_slice::<Status>(&text) {
            Ok(status) => status.message,
            Err(_) => String::from_utf8_lossy(&text).trim().chars().take(200).collect(),
        };
        Err(Error::Status { what: self.what(verb), code: status.as_u16(), message })
    }

    async fn rest(&self, verb: &str, body: &mut Body, max: usize, deadline: Instant) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        loop {
            let frame = timeout_at(deadline, body.frame()).await;
            match frame.map_err(|_| Error::Slow { what: self.what(verb), within: self.answer })? {
                None => return Ok(bytes),
                Some(frame) => {
                    let frame = frame.map_err(|error| Error::of(self.what(verb), error))?;
                    bytes.extend_from_slice(frame.data_ref().map_or(&[], |part| part));
                }
            }
            if bytes.len() > max {
                return Err(Error::TooLarge { what: self.what(verb), max });
            }
        }
    }
}

/// A watch under way.
pub(crate) struct Watch<'f> {
    fetch: &'f Fetch,
    body: Body,
    buffer: Vec<u8>,
    /// Bytes of the buffer known to have no end of a line.
    searched: usize,
    /// Where a next watch goes on from.
    pub(crate) version: String,
}

impl Watch<'_> {
    /// The next change; nothing when the server has ended the watch. A line that was cut off is not lost: a next watch gets it whole.
    pub(crate) async fn next(&mut self) -> Result<Option<Change>, Error> {
        loop {
            let line = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = line.map(|end| self.searched + end) {
                let change = self.line(end);
                self.buffer.drain(..=end);
                self.searched = 0;
                return change.map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_EVENT {
                return Err(Error::TooLarge { what: self.fetch.what("watch"), max: MAX_EVENT });
            }
            let silence = self.fetch.silence;
            let frame = tokio::time::timeout(silence, self.body.frame()).await;
            match frame.map_err(|_| Error::Slow { what: self.fetch.what("watch"), within: silence })? {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(|error| Error::of(self.fetch.what("watch"), error))?;
                    self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |part| part));
                }
            }
        }
    }

    fn line(&mut self, end: usize) -> Result<Change, Error> {
        let what = || self.fetch.what("watch");
        let malformed = |source| Error::Malformed { what: what(), source };
        let event: RawEvent<'_> = serde_json::from_slice(&self.buffer[..end]).map_err(malformed)?;
        let object = event.object.get();
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_str(object).map_err(malformed)?;
            return Err(Error::Status { what: what(), code: status.code, message: status.message });
        }
        let missing = || Error::Incomplete { what: what(), field: "metadata.resourceVersion" };
        if event.kind == "BOOKMARK" {
            let bookmark: RawBookmark = serde_json::from_str(object).map_err(malformed)?;
            self.version = bookmark.metadata.resource_version.ok_or_else(missing)?;
            return Ok(Change::Bookmark);
        }
        let sent: Sent = serde_json::from_str(object).map_err(malformed)?;
        let item = self.fetch.reading.item(&sent)?;
        let version = sent.resource_version().ok_or_else(missing)?.to_owned();
        let change = match event.kind {
            "ADDED" | "MODIFIED" => Change::Set(Box::new(item)),
            "DELETED" => Change::Removed(item.key),
            _ => return Err(Error::Incomplete { what: what(), field: "type that is known" }),
        };
        self.version = version;
        Ok(change)
    }
}
