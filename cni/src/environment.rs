//! What the runtime says in variables: what to do, to which container, of which pod.

use std::{ffi::OsString, path::PathBuf};

use serde::Serialize;

use crate::error::Error;

/// The longest value of a variable, in bytes.
const BOUND: usize = 4096;

/// What to do. `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// The container. `CNI_CONTAINERID`, `CNI_NETNS`, `CNI_ARGS`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) container_id: String,
    pub(crate) netns: PathBuf,
    /// The pod it is the sandbox of; a container that Kubernetes did not ask for has none.
    pub(crate) pod: Option<PodName>,
}

/// A pod, as Kubernetes names it. `K8S_POD_*` of `CNI_ARGS`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PodName {
    #[serde(rename = "podNamespace")]
    pub(crate) namespace: String,
    #[serde(rename = "podName")]
    pub(crate) name: String,
    /// Old runtimes do not tell it.
    #[serde(rename = "podUid", skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<String>,
}

type Variable<'v> = &'v dyn Fn(&str) -> Option<OsString>;

impl Command {
    pub(crate) fn read(variable: Variable<'_>) -> Result<Self, Error> {
        match text(variable, "CNI_COMMAND")?.as_str() {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "STATUS" => Ok(Self::Status),
            "GC" => Ok(Self::Gc),
            "VERSION" => Ok(Self::Version),
            _ => Err(Error::Environment { name: "CNI_COMMAND", expected: "ADD, DEL, CHECK, STATUS, GC or VERSION" }),
        }
    }
}

impl Environment {
    pub(crate) fn read(variable: Variable<'_>) -> Result<Self, Error> {
        let container_id = text(variable, "CNI_CONTAINERID")?;
        if !is_container_id(&container_id) {
            let expected = "a letter or digit, then letters, digits, '_', '.' or '-'";
            return Err(Error::Environment { name: "CNI_CONTAINERID", expected });
        }
        let netns = PathBuf::from(text(variable, "CNI_NETNS")?);
        if !netns.is_absolute() {
            return Err(Error::Environment { name: "CNI_NETNS", expected: "an absolute path" });
        }
        if !is_interface(&text(variable, "CNI_IFNAME")?) {
            let expected = "the name of an interface, at most 15 bytes without '/', ':' and blanks";
            return Err(Error::Environment { name: "CNI_IFNAME", expected });
        }
        let pod = match variable("CNI_ARGS") {
            Some(_) => PodName::parse(&text(variable, "CNI_ARGS")?)?,
            None => None,
        };
        Ok(Self { container_id, netns, pod })
    }
}

impl PodName {
    fn parse(arguments: &str) -> Result<Option<Self>, Error> {
        let refused = |expected| Error::Environment { name: "CNI_ARGS", expected };
        let (mut namespace, mut name, mut uid) = (None, None, None);
        for pair in arguments.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| refused("KEY=VALUE pairs separated by ';'"))?;
            match key {
                "K8S_POD_NAMESPACE" => namespace = Some(value),
                "K8S_POD_NAME" => name = Some(value),
                "K8S_POD_UID" => uid = Some(value),
                _ => {}
            }
        }
        match (namespace, name) {
            (None, None) => Ok(None),
            (Some(namespace), Some(name)) if !namespace.is_empty() && !name.is_empty() => Ok(Some(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: uid.filter(|uid| !uid.is_empty()).map(str::to_owned),
            })),
            _ => Err(refused("both K8S_POD_NAMESPACE and K8S_POD_NAME, or neither")),
        }
    }
}

fn text(variable: Variable<'_>, name: &'static str) -> Result<String, Error> {
    let refused = |expected| Error::Environment { name, expected };
    let value = variable(name).ok_or_else(|| refused("it to be set"))?;
    let value = value.into_string().map_err(|_| refused("UTF-8"))?;
    if value.len() > BOUND { Err(refused("at most 4096 bytes")) } else { Ok(value) }
}

fn is_container_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_interface(text: &str) -> bool {
    let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
    fits && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("CNI_CONTAINERID", "abc-1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1"),
    ];

    fn read(change: (&str, Option<&str>)) -> Result<Environment, Error> {
        Environment::read(&|name| {
            let good = GOOD.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
            let value = if change.0 == name { change.1 } else { good };
            value.map(OsString::from)
        })
    }

    #[test]
    fn a_pod_is_named_by_the_arguments() {
        let pod = |arguments| read(("CNI_ARGS", arguments)).unwrap().pod;
        let web = |uid: Option<&str>| {
            Some(PodName { namespace: "shop".to_owned(), name: "web-0".to_owned(), uid: uid.map(str::to_owned) })
        };
        assert_eq!(pod(Some(GOOD[3].1)), web(Some("u-1")));
        assert_eq!(pod(Some("K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop")), web(None));
        assert_eq!(pod(Some("IgnoreUnknown=1")), None);
        assert_eq!(pod(Some("")), None);
        assert_eq!(pod(None), None);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        let long = "a".repeat(BOUND + 1);
        for (name, value) in [
            ("CNI_CONTAINERID", None),
            ("CNI_CONTAINERID", Some("")),
            ("CNI_CONTAINERID", Some("-a")),
            ("CNI_CONTAINERID", Some("a/b")),
            ("CNI_CONTAINERID", Some(&*long)),
            ("CNI_NETNS", None),
            ("CNI_NETNS", Some("run/netns/a")),
            ("CNI_IFNAME", None),
            ("CNI_IFNAME", Some("..")),
            ("CNI_IFNAME", Some("a/b")),
            ("CNI_IFNAME", Some("sixteen-bytes-xx")),
            ("CNI_ARGS", Some("K8S_POD_NAME")),
            ("CNI_ARGS", Some("K8S_POD_NAME=web-0")),
            ("CNI_ARGS", Some("K8S_POD_NAME=;K8S_POD_NAMESPACE=shop")),
        ] {
            let error = read((name, value)).unwrap_err();
            assert_eq!(error.code(), 4, "{name}={value:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
