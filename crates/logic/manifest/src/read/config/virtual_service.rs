//! networking.istio.io/v1 VirtualService.
//!
//! What Istio's CustomResourceDefinition, its webhook and its reference refuse is refused here, and what `weir-route` cannot do as it is
//! written. Lists are bounded, and so are all texts of one object together, since an alias of YAML repeats a long text in few bytes.

mod headers;
mod http;
mod matching;
mod tcp;
mod value;

use weir_model::{Hostname, Namespace};
use weir_route::MESH;

use crate::{
    error::{Cause, Found},
    object::{VirtualHost, VirtualServiceSpec},
    read::{Meta, config::scalar::export_to},
    reader::{At, Fields, Reader},
};

/// Most of `hosts` and `gateways`.
const MAX_NAMES: usize = 1_024;
/// Most rules of a list.
const MAX_RULES: usize = 16_384;
/// Most matches of all rules of an object.
const MAX_MATCHES: usize = 65_536;
/// Most destinations of a rule, and copies of a request.
const MAX_ROUTES: usize = 256;
/// Most headers, parameters, labels and the like of one list. A request has at most 100 headers.
const MAX_ENTRIES: usize = 128;
/// Most regular expressions of an object: each takes some kilobytes compiled.
const MAX_PATTERNS: usize = 1_024;
/// Most bytes of a text that is neither a body nor a header's value.
const MAX_TEXT: usize = 4_096;
/// Most bytes of all texts of an object. One of etcd has 1.5 MiB.
const MAX_BYTES: usize = 4 << 20;

const HOST: &str = "a host name, \"*.\" and a host name, or an IP address";
const MESH_HOST: &str = "a host other than \"*\", since gateways is empty or has \"mesh\"";
const GATEWAY: &str = "\"mesh\", the name of a gateway, or its namespace and name as namespace/name";

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, meta: &Meta<'_>) -> Option<VirtualServiceSpec> {
    let fields = reader.fields(at, &["exportTo", "gateways", "hosts", "http", "tcp", "tls"])?;
    let mut reading = Reading { reader, own: meta.namespace.as_ref(), bytes: 0, patterns: 0, matches: 0 };
    let gateways = reading.gateways(fields.field("gateways"));
    let is_of_mesh = gateways.is_empty() || gateways.iter().any(|gateway| &**gateway == MESH);
    let hosts = reading.hosts(fields.field("hosts"), is_of_mesh);
    let export_to = export_to(reading.reader, &fields);
    let http = reading.rules(&fields, "http", Reading::http);
    let tcp = reading.rules(&fields, "tcp", Reading::tcp);
    let tls = reading.rules(&fields, "tls", Reading::tls);
    let empty = |name: &str| fields.field(name).is_none_or(|at| at.node.is_empty_list());
    if ["http", "tcp", "tls"].into_iter().all(empty) {
        reading.reader.fail(at, Cause::Missing { expected: "at least one rule in http, tcp or tls" });
    }
    if empty("hosts") {
        for name in ["gateways", "tcp", "tls"].into_iter().filter(|name| !empty(name)) {
            let cause = Cause::OnlyWith { other: "hosts: without them it is one that others delegate to" };
            reading.reader.fail_at(fields.path(name), fields.line(name), cause);
        }
    }
    Some(VirtualServiceSpec { hosts, gateways, export_to, http, tcp, tls })
}

/// A walk over one object.
struct Reading<'r> {
    reader: &'r mut Reader,
    /// The object's namespace, if it could be read.
    own: Option<&'r Namespace>,
    bytes: usize,
    patterns: usize,
    matches: usize,
}

/// How one item of a list is read.
type Read<'r, T> = fn(&mut Reading<'r>, &At<'_>) -> Option<T>;

impl<'r> Reading<'r> {
    fn rules<T>(&mut self, fields: &Fields<'_>, name: &str, read: Read<'r, T>) -> Vec<T> {
        let items = self.reader.few(fields.field(name), "rules", MAX_RULES);
        items.iter().filter_map(|at| read(self, at)).collect()
    }

    fn hosts(&mut self, at: Option<At<'_>>, is_of_mesh: bool) -> Vec<VirtualHost> {
        let items = self.reader.few(at, "hosts", MAX_NAMES);
        let mut hosts: Vec<(VirtualHost, &str)> = Vec::new();
        for at in &items {
            let Some(host) = self.host(at, is_of_mesh) else { continue };
            match hosts.iter().find(|(known, _)| *known == host) {
                Some((_, first)) => {
                    self.reader.fail(at, Cause::Repeated { what: "host", first: (*first).to_owned() });
                }
                None => hosts.push((host, &at.path)),
            }
        }
        hosts.into_iter().map(|(host, _)| host).collect()
    }

    fn host(&mut self, at: &At<'_>, is_of_mesh: bool) -> Option<VirtualHost> {
        let text = self.text(at)?;
        if text == "*" {
            return if is_of_mesh { self.reader.expected(at, MESH_HOST) } else { Some(VirtualHost::Any) };
        }
        if let Ok(address) = text.parse() {
            return Some(VirtualHost::Address(address));
        }
        match (text.parse::<Hostname>(), text.strip_prefix('*')) {
            (Ok(_), Some(suffix)) => Some(VirtualHost::Below(suffix.into())),
            (Ok(_), None) => Some(VirtualHost::Name(text.into())),
            (Err(_), _) => self.reader.expected(at, HOST),
        }
    }

    /// Names of gateways, each with its namespace.
    fn gateways(&mut self, at: Option<At<'_>>) -> Vec<Box<str>> {
        let items = self.reader.few(at, "gateways", MAX_NAMES);
        items.iter().filter_map(|at| self.gateway(at)).collect()
    }

    fn gateway(&mut self, at: &At<'_>) -> Option<Box<str>> {
        let text = self.text(at)?;
        let is_name = |name: &str| name.parse::<Hostname>().is_ok() && !name.starts_with('*');
        match (text.split_once('/'), self.own) {
            (None, _) if text == MESH => Some(MESH.into()),
            (None, Some(own)) if is_name(text) => Some(format!("{own}/{text}").into()),
            (None, None) if is_name(text) => None,
            (Some((namespace, name)), _) if namespace.parse::<Namespace>().is_ok() && is_name(name) => {
                Some(text.into())
            }
            (Some(_) | None, _) => self.reader.expected(at, GATEWAY),
        }
    }

    /// A text of any length, counted.
    fn long_text<'n>(&mut self, at: &At<'n>) -> Option<&'n str> {
        let text = self.reader.text(at)?;
        let before = self.bytes;
        self.bytes += text.len();
        self.within(at, [before, self.bytes], "bytes of texts in one object", MAX_BYTES)?;
        Some(text)
    }

    /// A text, counted.
    fn text<'n>(&mut self, at: &At<'n>) -> Option<&'n str> {
        let text = self.long_text(at)?;
        if text.len() > MAX_TEXT { self.reader.expected(at, "a text of at most 4096 bytes") } else { Some(text) }
    }

    /// A text that people read, if there is one.
    fn label(&mut self, at: Option<At<'_>>) -> Option<Box<str>> {
        let (_, at) = self.reader.some_text(at)?;
        match self.text(&at)? {
            text if text.chars().any(char::is_control) => self.reader.expected(&at, "text without control characters"),
            text => Some(text.into()),
        }
    }

    /// Says that a count went over its bound, once: what follows is over it as well.
    fn within(&mut self, at: &At<'_>, [before, after]: [usize; 2], what: &'static str, max: usize) -> Option<()> {
        if after <= max {
            return Some(());
        }
        if before <= max {
            self.reader.fail(at, Cause::Exceeds { what, max });
        }
        None
    }

    /// What its own parser made of a value.
    fn usable<T, E: std::error::Error>(&mut self, at: &At<'_>, made: Result<T, E>) -> Option<T> {
        made.map_err(|error| self.reader.fail(at, Cause::Illegal { reason: words(&error) })).ok()
    }

    /// The entries of a map of at most so many.
    fn entries<'n>(&mut self, at: Option<At<'n>>) -> Vec<(&'n str, At<'n>)> {
        let Some(at) = at else { return Vec::new() };
        let Some(map) = self.reader.map(&at) else { return Vec::new() };
        if map.len() > MAX_ENTRIES {
            self.reader.fail(&at, Cause::Exceeds { what: "entries", max: MAX_ENTRIES });
            return Vec::new();
        }
        map.all().collect()
    }

    /// Notes that a key of a map is not what it should be.
    fn bad_key<T>(&mut self, at: &At<'_>, key: &str, expected: &'static str) -> Option<T> {
        self.reader.fail(at, Cause::Expected { expected, found: Found::text(key) });
        None
    }
}

/// An error and its causes in one line; of a cause that draws a picture, the line that says it.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let said = one.to_string();
        text.push_str(": ");
        text.push_str(said.lines().last().unwrap_or_default());
        cause = one.source();
    }
    text
}

#[cfg(test)]
mod tests;
