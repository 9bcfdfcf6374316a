//! Codes: Istio's where it has one that means the same, and ours.

use std::{fmt, str::FromStr};

/// How bad it is. The order is that of istioctl: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something does not do what it says.
    Warning,
    /// Something is refused, or refuses.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
        })
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err("expected info, warning or error".to_owned()),
        }
    }
}

/// What kind of finding it is. Those that begin with `IST` are Istio's analysis messages, with their names and levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// IST0101.
    ReferencedResourceNotFound,
    /// IST0102.
    NamespaceNotInjected,
    /// IST0106.
    SchemaValidationError,
    /// IST0107.
    MisplacedAnnotation,
    /// IST0108.
    UnknownAnnotation,
    /// IST0109.
    ConflictingMeshGatewayVirtualServiceHosts,
    /// IST0118.
    PortNameIsNotUnderNamingConvention,
    /// IST0123.
    NamespaceMultipleInjectionLabels,
    /// IST0127.
    NoMatchingWorkloadsFound,
    /// IST0130.
    VirtualServiceUnreachableRule,
    /// IST0131.
    VirtualServiceIneffectiveMatch,
    /// IST0166.
    IneffectiveSelector,
    /// IST0167.
    IneffectivePolicy,
    /// IST0173.
    DestinationRuleSubsetNotSelectPods,
    /// IST0174.
    UnknownDestinationRuleHost,
    /// WEIR0001: a policy, or a part of it, that nobody enforces.
    PolicyNotEnforced,
    /// WEIR0002: a field or an object without effect.
    NoEffect,
    /// WEIR0003: a host or port that nobody has.
    UnknownHost,
    /// WEIR0004: a label that names a waypoint that is not there.
    WaypointNotFound,
    /// WEIR0005: a label that names a Gateway that is no waypoint, or does not let itself be named from there.
    WaypointNotUsable,
    /// WEIR0006: something about requests where no waypoint reads requests.
    NoWaypoint,
    /// WEIR0007: another object counts in its place.
    Conflicted,
    /// WEIR0008: it may not refer to that: a ReferenceGrant or `exportTo` is missing.
    NotPermitted,
    /// WEIR0009: legal, and not done by this version.
    Unsupported,
    /// WEIR0010: a policy that is rejected as a whole, so that all it covers is denied.
    PolicyRejected,
    /// WEIR0011: a match of a route that an earlier one takes everything from.
    ShadowedMatch,
    /// WEIR0012: a label written almost like one of the mesh's.
    MisspeltLabel,
    /// WEIR0013: a policy all of whose pods are outside the mesh.
    PolicyOutsideMesh,
    /// WEIR0014: STRICT where pods outside the mesh cannot call any more.
    StrictShutsOut,
    /// WEIR0015: a delegate that is missing, or cannot be delegated to.
    BadDelegate,
    /// WEIR0016: a route or a Gateway that is not accepted.
    NotAccepted,
    /// WEIR0017: a service whose selector selects no pod.
    NoPods,
}

impl Code {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 32] = [
        Self::ReferencedResourceNotFound,
        Self::NamespaceNotInjected,
        Self::SchemaValidationError,
        Self::MisplacedAnnotation,
        Self::UnknownAnnotation,
        Self::ConflictingMeshGatewayVirtualServiceHosts,
        Self::PortNameIsNotUnderNamingConvention,
        Self::NamespaceMultipleInjectionLabels,
        Self::NoMatchingWorkloadsFound,
        Self::VirtualServiceUnreachableRule,
        Self::VirtualServiceIneffectiveMatch,
        Self::IneffectiveSelector,
        Self::IneffectivePolicy,
        Self::DestinationRuleSubsetNotSelectPods,
        Self::UnknownDestinationRuleHost,
        Self::PolicyNotEnforced,
        Self::NoEffect,
        Self::UnknownHost,
        Self::WaypointNotFound,
        Self::WaypointNotUsable,
        Self::NoWaypoint,
        Self::Conflicted,
        Self::NotPermitted,
        Self::Unsupported,
        Self::PolicyRejected,
        Self::ShadowedMatch,
        Self::MisspeltLabel,
        Self::PolicyOutsideMesh,
        Self::StrictShutsOut,
        Self::BadDelegate,
        Self::NotAccepted,
        Self::NoPods,
    ];

    /// As it is written, such as `IST0101`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReferencedResourceNotFound => "IST0101",
            Self::NamespaceNotInjected => "IST0102",
            Self::SchemaValidationError => "IST0106",
            Self::MisplacedAnnotation => "IST0107",
            Self::UnknownAnnotation => "IST0108",
            Self::ConflictingMeshGatewayVirtualServiceHosts => "IST0109",
            Self::PortNameIsNotUnderNamingConvention => "IST0118",
            Self::NamespaceMultipleInjectionLabels => "IST0123",
            Self::NoMatchingWorkloadsFound => "IST0127",
            Self::VirtualServiceUnreachableRule => "IST0130",
            Self::VirtualServiceIneffectiveMatch => "IST0131",
            Self::IneffectiveSelector => "IST0166",
            Self::IneffectivePolicy => "IST0167",
            Self::DestinationRuleSubsetNotSelectPods => "IST0173",
            Self::UnknownDestinationRuleHost => "IST0174",
            Self::PolicyNotEnforced => "WEIR0001",
            Self::NoEffect => "WEIR0002",
            Self::UnknownHost => "WEIR0003",
            Self::WaypointNotFound => "WEIR0004",
            Self::WaypointNotUsable => "WEIR0005",
            Self::NoWaypoint => "WEIR0006",
            Self::Conflicted => "WEIR0007",
            Self::NotPermitted => "WEIR0008",
            Self::Unsupported => "WEIR0009",
            Self::PolicyRejected => "WEIR0010",
            Self::ShadowedMatch => "WEIR0011",
            Self::MisspeltLabel => "WEIR0012",
            Self::PolicyOutsideMesh => "WEIR0013",
            Self::StrictShutsOut => "WEIR0014",
            Self::BadDelegate => "WEIR0015",
            Self::NotAccepted => "WEIR0016",
            Self::NoPods => "WEIR0017",
        }
    }

    /// How bad it is. Of Istio's codes as Istio has it.
    pub fn severity(self) -> Severity {
        match self {
            Self::ReferencedResourceNotFound
            | Self::SchemaValidationError
            | Self::ConflictingMeshGatewayVirtualServiceHosts
            | Self::DestinationRuleSubsetNotSelectPods
            | Self::WaypointNotFound
            | Self::WaypointNotUsable
            | Self::NotPermitted
            | Self::PolicyRejected
            | Self::BadDelegate
            | Self::NotAccepted => Severity::Error,
            Self::MisplacedAnnotation
            | Self::UnknownAnnotation
            | Self::NamespaceMultipleInjectionLabels
            | Self::NoMatchingWorkloadsFound
            | Self::VirtualServiceUnreachableRule
            | Self::IneffectiveSelector
            | Self::IneffectivePolicy
            | Self::UnknownDestinationRuleHost
            | Self::PolicyNotEnforced
            | Self::NoEffect
            | Self::UnknownHost
            | Self::NoWaypoint
            | Self::Conflicted
            | Self::Unsupported
            | Self::ShadowedMatch
            | Self::MisspeltLabel
            | Self::PolicyOutsideMesh => Severity::Warning,
            Self::NamespaceNotInjected
            | Self::PortNameIsNotUnderNamingConvention
            | Self::VirtualServiceIneffectiveMatch
            | Self::StrictShutsOut
            | Self::NoPods => Severity::Info,
        }
    }

    /// Whether an object that this is said of is refused when it is applied: it would be rejected later.
    pub fn refuses(self) -> bool {
        matches!(self, Self::SchemaValidationError | Self::PolicyRejected)
    }

    /// Whether it says that something is not there. What could not be read may be just that.
    pub(crate) fn is_of_absence(self) -> bool {
        matches!(
            self,
            Self::ReferencedResourceNotFound
                | Self::NamespaceNotInjected
                | Self::NoMatchingWorkloadsFound
                | Self::DestinationRuleSubsetNotSelectPods
                | Self::UnknownDestinationRuleHost
                | Self::PolicyNotEnforced
                | Self::UnknownHost
                | Self::WaypointNotFound
                | Self::NoWaypoint
                | Self::NotPermitted
                | Self::BadDelegate
                | Self::NotAccepted
                | Self::NoPods
                | Self::NoEffect
        )
    }

    /// What to do about it.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::ReferencedResourceNotFound | Self::UnknownHost | Self::UnknownDestinationRuleHost => {
                "correct the name, or apply what it names as well"
            }
            Self::NamespaceNotInjected => {
                "label it istio.io/dataplane-mode=ambient, or =none to say that it is meant so"
            }
            Self::SchemaValidationError => "correct the field; nothing of the object is in force until then",
            Self::MisplacedAnnotation => "write it where it is read",
            Self::UnknownAnnotation => "correct its name, or take it away",
            Self::ConflictingMeshGatewayVirtualServiceHosts => "merge them into one object",
            Self::PortNameIsNotUnderNamingConvention => {
                "set appProtocol, or begin the port's name with what it speaks, as in http-web"
            }
            Self::NamespaceMultipleInjectionLabels => "keep one of the labels",
            Self::NoMatchingWorkloadsFound | Self::DestinationRuleSubsetNotSelectPods | Self::NoPods => {
                "compare the labels with those of the pods"
            }
            Self::VirtualServiceUnreachableRule | Self::VirtualServiceIneffectiveMatch | Self::ShadowedMatch => {
                "move it before the other, or take it away"
            }
            Self::IneffectiveSelector => "use targetRefs to attach it to the waypoint",
            Self::IneffectivePolicy => "take it away, or say the same with a VirtualService, a Telemetry or a policy",
            Self::PolicyNotEnforced => {
                "attach it with targetRefs to something that has a waypoint, or write it without requests"
            }
            Self::NoEffect => "take it away, or correct what keeps it from having one",
            Self::WaypointNotFound => "correct the label, or create the waypoint",
            Self::WaypointNotUsable => "correct the label, or the Gateway that it names",
            Self::NoWaypoint => {
                "label the service or its namespace istio.io/use-waypoint, or write it without requests"
            }
            Self::Conflicted => "keep one of the two",
            Self::NotPermitted => "create a ReferenceGrant there, or widen exportTo",
            Self::Unsupported => "take it away, or rely on what is done instead",
            Self::PolicyRejected => "correct it: until then everything it covers is denied",
            Self::MisspeltLabel => "correct its name",
            Self::PolicyOutsideMesh => "enrol the pods with istio.io/dataplane-mode=ambient",
            Self::StrictShutsOut => "enrol those pods, or make the ports they call PERMISSIVE",
            Self::BadDelegate => "correct the name of the delegate, or the delegate",
            Self::NotAccepted => "correct what it names, or what it is attached to",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("{text:?} is no code of a finding, expected one such as IST0101 or WEIR0001"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_it_is_written_and_documented() {
        let document = include_str!("../../../../docs/analyze.md");
        for (at, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.to_string().parse(), Ok(code));
            assert!(Code::ALL.iter().take(at).all(|before| before.as_str() < code.as_str()), "{code} is out of order");
            let head = format!("### {code} ({})", code.severity());
            assert!(document.contains(&head), "docs/analyze.md has no section {head:?}");
        }
        assert!("IST9999".parse::<Code>().is_err());
        let sections = document.lines().filter(|line| line.starts_with("### ")).count();
        assert_eq!(sections, Code::ALL.len(), "a section of docs/analyze.md is of no code");
    }

    #[test]
    fn the_worst_is_the_greatest_and_read_in_any_case() {
        assert!(Severity::Error > Severity::Warning && Severity::Warning > Severity::Info);
        for severity in [Severity::Info, Severity::Warning, Severity::Error] {
            assert_eq!(severity.to_string().parse(), Ok(severity));
        }
        assert!("fatal".parse::<Severity>().is_err());
    }
}
