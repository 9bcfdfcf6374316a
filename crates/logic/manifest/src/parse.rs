//! Files to objects: all of them, or every error there is.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use weir_model::{Namespace, Network, NetworkMode};

use crate::{
    document::{Telling, document},
    error::{Cause, FileName, ManifestError, ObjectRef, Origin},
    kind::{ReadKind, Scope, Treatment, treatment},
    known,
    object::{Ignored, Labels, ObjectKey, Objects},
    read::{self, cluster::Allotment, service::Allot},
    reader::{At, Fields, Reader},
    tree::{self, Node, Value},
};

/// Most a file may have, in bytes. Far above what etcd would hold in one object.
pub const MAX_FILE_BYTES: usize = 8 << 20;

/// Most documents all files together may have.
pub const MAX_DOCUMENTS: usize = 100_000;

/// Parses files of Kubernetes objects.
///
/// # Errors
/// Everything that is wrong with any of them, in the order of the files. Nothing is accepted beside an error.
pub fn parse(sources: &[(FileName, &str)]) -> Result<Objects, Vec<ManifestError>> {
    let parsing = Parsing::of(sources, Parsing::default());
    if parsing.errors.is_empty() { Ok(parsing.objects) } else { Err(parsing.errors) }
}

/// What files declare, as far as it can be read: for who looks at them, and never for who acts by them.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// What is legal. What another of its name or address contradicts is not.
    pub objects: Objects,
    /// Everything that is wrong with the rest, in the order of the files.
    pub errors: Vec<ManifestError>,
    /// The annotations of all objects of every kind that have any of Istio's or of ours, and where they are declared.
    pub annotations: BTreeMap<ObjectRef, (Origin, Labels)>,
}

/// Reads what can be read of files of Kubernetes objects.
pub fn survey(sources: &[(FileName, &str)]) -> Survey {
    let start = Parsing { annotations: Some(BTreeMap::new()), ..Parsing::default() };
    let Parsing { mut objects, errors, annotations, .. } = Parsing::of(sources, start);
    let bad: HashSet<&ObjectRef> = errors.iter().filter_map(|error| error.object.as_ref()).collect();
    let legal = |object: &ObjectRef| !bad.contains(object);
    if !bad.is_empty() {
        let cluster = |kind: &str, name: &str| ObjectRef { kind: kind.into(), namespace: None, name: name.into() };
        objects.namespaces.retain(|one| legal(&cluster("Namespace", one.name.as_str())));
        objects.nodes.retain(|one| legal(&cluster("Node", one.name.as_str())));
        objects.pods.retain(|one| legal(&one.object()));
        objects.services.retain(|one| legal(&one.object()));
        objects.endpoint_slices.retain(|one| legal(&one.object()));
        objects.policies.retain(|one| legal(&one.object()));
        objects.configs.retain(|one| legal(&one.object()));
    }
    Survey { objects, errors, annotations: annotations.unwrap_or_default() }
}

#[derive(Default)]
struct Parsing {
    objects: Objects,
    allotting: Vec<usize>,
    allotments: Vec<Allotment>,
    seen: HashMap<(String, ObjectRef), Origin>,
    /// Kept only if somebody asks.
    annotations: Option<BTreeMap<ObjectRef, (Origin, Labels)>>,
    errors: Vec<ManifestError>,
}

impl Parsing {
    fn of(sources: &[(FileName, &str)], start: Self) -> Self {
        let mut parsing = start;
        let mut left = MAX_DOCUMENTS;
        for (file, text) in sources {
            let whole = Reader::new(Origin { file: file.clone(), document: 1, line: 0 });
            if text.len() > MAX_FILE_BYTES {
                parsing.refuse(whole, Cause::FileTooLarge { len: text.len(), max: MAX_FILE_BYTES });
                continue;
            }
            let (documents, more) = tree::documents(text, left);
            left -= documents.len();
            for document in documents {
                let mut reader =
                    Reader::new(Origin { file: file.clone(), document: document.number, line: document.line });
                match document.root {
                    Ok(root) => parsing.document(reader, &root),
                    Err((line, cause)) => {
                        reader.origin.line = line;
                        parsing.refuse(reader, cause);
                    }
                }
            }
            if more {
                parsing.refuse(whole, Cause::TooManyDocuments { max: MAX_DOCUMENTS });
                break;
            }
        }
        parsing.finish();
        parsing
    }

    fn refuse(&mut self, mut reader: Reader, cause: Cause) {
        reader.fail_at(String::new(), reader.origin.line, cause);
        self.errors.append(&mut reader.errors);
    }

    fn document(&mut self, mut reader: Reader, root: &Node) {
        if matches!(root.value, Value::Null) {
            return;
        }
        self.object(&mut reader, &At { node: root, path: String::new() }, Nesting::Document);
        self.errors.append(&mut reader.errors);
    }

    /// One object. In a list each stands for itself, with its own line.
    fn object(&mut self, reader: &mut Reader, at: &At<'_>, nesting: Nesting) -> Option<()> {
        let Value::Map(_) = &at.node.value else { return reader.expected(at, "a Kubernetes object") };
        // Which fields it may have depends on its kind, so the first look is a quiet one.
        let mut quiet = Reader::new(reader.origin.clone());
        let quiet_fields = quiet.fields(at, &[])?;
        let api_version = reader.required(&quiet_fields, "apiVersion", "the version of the object's kind");
        let kind = reader.required(&quiet_fields, "kind", "the object's kind");
        let (api_version, kind_at) = (api_version?, kind?);
        let (api_version, kind) = (reader.text(&api_version)?, reader.text(&kind_at)?);
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let treatment = treatment(group, kind);
        let namespaced = match treatment {
            Some(Treatment::Read(kind, _)) => kind.scope() == Scope::Namespaced,
            Some(Treatment::Ignore(scope, _)) => scope == Scope::Namespaced,
            None => true,
            Some(Treatment::List) => false,
        };
        let object = read::object_ref(kind, namespaced, &quiet_fields, &mut quiet);
        reader.object = Some(object.clone());
        if let Some(all) = &mut self.annotations
            && let Some(own) = read::annotations(&quiet_fields, &mut quiet)
        {
            all.insert(object.clone(), (reader.origin.clone(), own));
        }
        match treatment {
            Some(Treatment::List) if nesting == Nesting::Document => return self.list(reader, at),
            Some(Treatment::List) => reader.expected::<()>(at, "no list within a list")?,
            Some(Treatment::Ignore(_, why)) => {
                self.unique(reader, at, group, &object);
                self.objects.ignored.push(Ignored { origin: reader.origin.clone(), object, field: "", why });
            }
            Some(Treatment::Read(kind, versions)) if versions.contains(&api_version) => {
                self.unique(reader, at, group, &object);
                self.read(reader, at, kind, api_version);
            }
            Some(Treatment::Read(_, versions)) => {
                let expected = versions.first().copied().unwrap_or_default();
                let (kind, found) = (kind.to_owned(), api_version.to_owned());
                reader.fail(at, Cause::ApiVersion { kind, expected, found });
            }
            None => {
                let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
                reader.fail(&kind_at, Cause::UnknownKind { api_version, kind });
            }
        }
        Some(())
    }

    fn list(&mut self, reader: &mut Reader, at: &At<'_>) -> Option<()> {
        let fields = reader.fields(at, known::LIST)?;
        for item in reader.items(fields.field("items")) {
            let mut own = Reader::new(Origin { line: item.node.line, ..reader.origin.clone() });
            // The path starts at the object, which the line finds; `items[3].` in front would help nobody.
            self.object(&mut own, &At { node: item.node, path: String::new() }, Nesting::List);
            self.errors.append(&mut own.errors);
        }
        Some(())
    }

    fn unique(&mut self, reader: &mut Reader, at: &At<'_>, group: &str, object: &ObjectRef) {
        if object.name.is_empty() {
            return;
        }
        let key = (group.to_owned(), object.clone());
        match self.seen.get(&key) {
            Some(first) => reader.fail(at, Cause::DuplicateObject { first: first.clone() }),
            None => {
                self.seen.insert(key, reader.origin.clone());
            }
        }
    }

    fn read(&mut self, reader: &mut Reader, at: &At<'_>, kind: ReadKind, version: &str) -> Option<()> {
        let known = match kind {
            ReadKind::EndpointSlice => known::ENDPOINT_SLICE,
            ReadKind::Namespace
            | ReadKind::Pod
            | ReadKind::Service
            | ReadKind::Node
            | ReadKind::IpAddress
            | ReadKind::Policy(_)
            | ReadKind::Config(_) => known::OBJECT,
        };
        let fields: Fields<'_> = reader.fields(at, known)?;
        let meta = read::metadata(reader, &fields)?;
        self.note(reader, &fields, kind, version);
        match kind {
            ReadKind::Namespace => self.objects.namespaces.push(read::cluster::namespace(reader, &fields, &meta)?),
            ReadKind::Node => self.objects.nodes.push(read::cluster::node(reader, &fields, &meta)?),
            ReadKind::Pod => self.objects.pods.push(read::pod::pod(reader, &fields, &meta)?),
            ReadKind::EndpointSlice => self.objects.endpoint_slices.push(read::slice::slice(reader, &fields, &meta)?),
            ReadKind::IpAddress => self.allotments.push(read::cluster::ip_address(reader, &fields, &meta)?),
            ReadKind::Policy(which) => {
                self.objects.policies.push(read::policy::policy(reader, &fields, &meta, which)?);
            }
            ReadKind::Config(kind) => self.objects.configs.push(read::config::config(reader, &fields, &meta, kind)?),
            ReadKind::Service => {
                let (service, allot) = read::service::service(reader, &fields, &meta)?;
                if allot == Allot::Yes {
                    self.allotting.push(self.objects.services.len());
                }
                self.objects.services.push(service);
            }
        }
        Some(())
    }

    /// Keeps what waypoints are told of it.
    fn note(&mut self, reader: &Reader, fields: &Fields<'_>, kind: ReadKind, version: &str) {
        let telling = match kind {
            ReadKind::Policy(which) => which.into(),
            ReadKind::Config(config) => config.into(),
            ReadKind::Pod => Telling::Labels,
            ReadKind::Namespace
            | ReadKind::Service
            | ReadKind::EndpointSlice
            | ReadKind::Node
            | ReadKind::IpAddress => Telling::Nothing,
        };
        let Some(ObjectRef { kind, namespace, name }) = reader.object.clone() else { return };
        let namespace = namespace.unwrap_or_default();
        let document = document(fields, &kind, version, &namespace, telling);
        if let (Some(document), Ok(namespace)) = (document, namespace.parse()) {
            self.objects.documents.push((ObjectKey { kind, namespace: Some(namespace), name }, document));
        }
    }

    fn finish(&mut self) {
        self.allot();
        self.shared_pod_addresses();
        self.shared_service_addresses();
    }

    /// Gives services without a cluster address those that IPAddress objects note for them.
    fn allot(&mut self) {
        let mut given: BTreeMap<(&Namespace, &Arc<str>), Vec<IpAddr>> = BTreeMap::new();
        for allotment in &self.allotments {
            given.entry((&allotment.namespace, &allotment.service)).or_default().push(allotment.address);
        }
        for &i in &self.allotting {
            let service = &mut self.objects.services[i];
            if let Some(ips) = given.get(&(&service.namespace, &service.name)) {
                service.cluster_ips.clone_from(ips);
            }
        }
    }

    fn shared_pod_addresses(&mut self) {
        let mut seen: HashMap<(Option<&Network>, IpAddr), usize> = HashMap::new();
        let pods = &self.objects.pods;
        for (i, pod) in pods.iter().enumerate() {
            if pod.is_over() || pod.network_mode == NetworkMode::HostNetwork {
                continue;
            }
            for &address in &pod.addresses {
                if let Some(&other) = seen.get(&(pod.network.as_ref(), address)) {
                    let first = pods[other].origin.clone();
                    let cause = Cause::SharedPodAddress { address, other: Box::new(pods[other].object()), first };
                    self.errors.push(whole(pod.object(), &pod.origin, "status.podIPs", cause));
                } else {
                    seen.insert((pod.network.as_ref(), address), i);
                }
            }
        }
    }

    fn shared_service_addresses(&mut self) {
        let mut seen: HashMap<IpAddr, usize> = HashMap::new();
        let services = &self.objects.services;
        for (i, service) in services.iter().enumerate() {
            for &address in &service.cluster_ips {
                if let Some(&other) = seen.get(&address) {
                    let (other, first) = (services[other].object(), services[other].origin.clone());
                    let cause = Cause::SharedServiceAddress { address, other: Box::new(other), first };
                    self.errors.push(whole(service.object(), &service.origin, "spec.clusterIPs", cause));
                } else {
                    seen.insert(address, i);
                }
            }
        }
    }
}

/// Whether an object may be a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Document,
    List,
}

fn whole(object: ObjectRef, origin: &Origin, field: &str, cause: Cause) -> ManifestError {
    ManifestError { origin: origin.clone(), object: Some(object), field: field.to_owned(), cause }
}

#[cfg(test)]
#[path = "parse/tests.rs"]
mod tests;
