//! VirtualServices, to routes.

use std::{collections::BTreeMap, sync::Arc};

use weir_model::Hostname;
use weir_serving::Destinations;

use super::{Configs, Ground, Routes};

/// What VirtualServices say of each host.
pub(super) fn compile(
    _ground: &Ground<'_>,
    _configs: &Configs,
    _destinations: &BTreeMap<Hostname, Arc<Destinations>>,
) -> Routes {
    Routes::default()
}
