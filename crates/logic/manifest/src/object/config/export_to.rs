//! `exportTo`: the namespaces that an object is seen in.

use std::collections::BTreeSet;

use weir_model::Namespace;

/// The namespaces that an object is seen in. Istio `exportTo`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ExportTo {
    /// All: `*`, or nothing is said.
    #[default]
    Everywhere,
    /// These; of none: nowhere, `~`.
    Only {
        /// `.`: its own.
        own: bool,
        /// By name.
        others: BTreeSet<Namespace>,
    },
}

impl ExportTo {
    /// Whether an object of the namespace `from` is seen in the namespace `there`.
    pub fn reaches(&self, from: &Namespace, there: &Namespace) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Only { own, others } => (*own && from == there) || others.contains(there),
        }
    }
}
