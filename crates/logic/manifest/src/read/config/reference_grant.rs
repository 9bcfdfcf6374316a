//! gateway.networking.k8s.io/v1beta1 ReferenceGrant.

use super::references::{group, kind, name, optional};
use crate::{
    object::{GrantFrom, GrantTo, ReferenceGrantSpec},
    read::Meta,
    reader::{At, Fields, Reader},
};

const MAX_SIDE: usize = 16;

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<ReferenceGrantSpec> {
    let fields = reader.fields(at, &["from", "to"])?;
    let from = side(reader, &fields, "from").iter().filter_map(|at| grant_from(reader, at)).collect();
    let to = side(reader, &fields, "to").iter().filter_map(|at| grant_to(reader, at)).collect();
    Some(ReferenceGrantSpec { from, to })
}

fn side<'n>(reader: &mut Reader, fields: &Fields<'n>, name: &'static str) -> Vec<At<'n>> {
    let Some(at) = reader.required(fields, name, "a list of 1 to 16") else { return Vec::new() };
    let told = reader.told;
    let items = reader.few(Some(at.clone()), "entries", MAX_SIDE);
    if items.is_empty() && reader.told == told {
        reader.expected::<()>(&at, "a list of 1 to 16");
    }
    items
}

fn grant_from(reader: &mut Reader, at: &At<'_>) -> Option<GrantFrom> {
    let fields = reader.fields(at, &["group", "kind", "namespace"])?;
    let group = reader.required(&fields, "group", "the group of who refers").and_then(|at| group(reader, &at));
    let kind = reader.required(&fields, "kind", "the kind of who refers").and_then(|at| kind(reader, &at));
    let namespace = reader.required(&fields, "namespace", "the namespace of who refers");
    let namespace = namespace.and_then(|at| reader.name(&at));
    Some(GrantFrom { group: group?, kind: kind?, namespace: namespace? })
}

fn grant_to(reader: &mut Reader, at: &At<'_>) -> Option<GrantTo> {
    let fields = reader.fields(at, &["group", "kind", "name"])?;
    let group = reader.required(&fields, "group", "the group of what is referred to").and_then(|at| group(reader, &at));
    let kind = reader.required(&fields, "kind", "the kind of what is referred to").and_then(|at| kind(reader, &at));
    let name = optional(reader, &fields, "name", name);
    Some(GrantTo { group: group?, kind: kind?, name: name? })
}
