//! The configuration on standard input: one network configuration of a list, and the result of the plugin before.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::Error;

/// What a runtime passes. Keys of the specification that have no meaning here are not named; runtimes may add others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConfig {
    cni_version: Option<String>,
    agent_socket: Option<PathBuf>,
    timeout: Option<u64>,
    exclude_namespaces: Option<BTreeSet<String>>,
    prev_result: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RawResult {
    #[serde(default)]
    ips: Vec<RawIp>,
}

#[derive(Deserialize)]
struct RawIp {
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVersion {
    cni_version: String,
}

/// What the plugin is to do.
#[derive(Debug)]
pub struct Config {
    /// The agent's socket.
    pub(crate) agent_socket: PathBuf,
    /// How long the agent may take.
    pub(crate) timeout: Duration,
    /// Namespaces whose pods start without the agent being asked.
    pub(crate) exclude_namespaces: BTreeSet<String>,
    previous: Option<Box<RawValue>>,
}

/// What the plugin before answered.
pub(crate) struct Previous<'c> {
    /// Every byte of it.
    pub(crate) text: &'c RawValue,
    /// The pod's addresses.
    pub(crate) ips: Vec<IpAddr>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// If it is not JSON, of a version that is not spoken, or one of this plugin's keys has a value that it cannot have.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let raw: RawConfig = serde_json::from_slice(text).map_err(Error::Decode)?;
        let version = raw.cni_version.unwrap_or_default();
        if !crate::VERSIONS.contains(&version.as_str()) {
            return Err(Error::Version(version));
        }
        let agent_socket = raw.agent_socket.unwrap_or_else(|| PathBuf::from("/run/weir/cni.sock"));
        if !agent_socket.is_absolute() {
            return Err(Error::Config { key: "agentSocket", expected: "an absolute path" });
        }
        let timeout = raw.timeout.unwrap_or(20);
        if !(1..=120).contains(&timeout) {
            return Err(Error::Config { key: "timeout", expected: "a number of seconds from 1 to 120" });
        }
        let default = || ["kube-system", "weir-system"].map(str::to_owned).into();
        Ok(Self {
            agent_socket,
            timeout: Duration::from_secs(timeout),
            exclude_namespaces: raw.exclude_namespaces.unwrap_or_else(default),
            previous: raw.prev_result,
        })
    }

    /// What the plugin before answered.
    ///
    /// # Errors
    /// If there is none, or its addresses cannot be read.
    pub(crate) fn previous(&self) -> Result<Previous<'_>, Error> {
        let text = self.previous.as_deref().ok_or(Error::Config {
            key: "prevResult",
            expected: "the result of the plugin before, since this one only works in a chain",
        })?;
        let raw: RawResult = serde_json::from_str(text.get()).map_err(Error::Decode)?;
        let ips = raw.ips.iter().map(|ip| address(&ip.address)).collect::<Result<_, _>>()?;
        Ok(Previous { text, ips })
    }
}

/// The version in `text`, if that is at all readable and spoken: errors are written in the version of who reads them.
pub(crate) fn version(text: &[u8]) -> Option<String> {
    let raw: RawVersion = serde_json::from_slice(text).ok()?;
    crate::VERSIONS.contains(&raw.cni_version.as_str()).then_some(raw.cni_version)
}

/// The address of an address with the length of its network's prefix.
fn address(text: &str) -> Result<IpAddr, Error> {
    let refused = Error::Config { key: "prevResult.ips", expected: "addresses such as 10.0.0.7/24" };
    let Some((address, prefix)) = text.split_once('/') else { return Err(refused) };
    match (address.parse::<IpAddr>(), prefix.parse::<u8>()) {
        (Ok(address), Ok(prefix)) if prefix <= if address.is_ipv4() { 32 } else { 128 } => Ok(address),
        _ => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        let config = Config::parse(br#"{"cniVersion": "1.1.0", "name": "n", "type": "weir-cni", "dns": {}}"#).unwrap();
        assert_eq!(config.agent_socket, PathBuf::from("/run/weir/cni.sock"));
        assert_eq!(config.timeout, Duration::from_secs(20));
        assert_eq!(config.exclude_namespaces.iter().collect::<Vec<_>>(), ["kube-system", "weir-system"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_code() {
        for (text, code) in [
            ("", 6),
            ("{", 6),
            ("[]", 6),
            (r#"{"cniVersion": 1}"#, 6),
            (r"{}", 1),
            (r#"{"cniVersion": "0.2.0"}"#, 1),
            (r#"{"cniVersion": "2.0.0"}"#, 1),
            (r#"{"cniVersion": "1.0.0", "agentSocket": "cni.sock"}"#, 7),
            (r#"{"cniVersion": "1.0.0", "timeout": 0}"#, 7),
            (r#"{"cniVersion": "1.0.0", "timeout": 121}"#, 7),
            (r#"{"cniVersion": "1.0.0", "timeout": -1}"#, 6),
            (r#"{"cniVersion": "1.0.0", "excludeNamespaces": "a"}"#, 6),
        ] {
            assert_eq!(Config::parse(text.as_bytes()).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn a_previous_result_has_addresses_of_both_families_or_none_that_is_wrong() {
        let previous = |ips: &str| {
            let text = format!(r#"{{"cniVersion": "1.0.0", "prevResult": {{"ips": [{ips}]}}}}"#);
            Config::parse(text.as_bytes()).unwrap().previous().map(|previous| previous.ips)
        };
        let both = previous(r#"{"address": "10.0.0.7/24"}, {"address": "fd00::7/64"}"#).unwrap();
        assert_eq!(both, ["10.0.0.7", "fd00::7"].map(|text| text.parse::<IpAddr>().unwrap()));
        for bad in ["10.0.0.7", "10.0.0.7/33", "fd00::7/129", "x/1", "10.0.0.7/", ""] {
            assert_eq!(previous(&format!(r#"{{"address": "{bad}"}}"#)).unwrap_err().code(), 7, "{bad:?}");
        }
    }
}
