//! What the compiler does not tell, because it makes no difference to what is served.

mod labels;
mod policies;
mod routes;
mod services;
mod shadow;

use crate::{Finding, compiled::Compiled, ground::Ground};

pub(crate) use labels::annotations;

/// All rules over all objects.
pub(crate) fn all(ground: &Ground<'_>, compiled: &Compiled, findings: &mut Vec<Finding>) {
    labels::all(ground, findings);
    services::all(ground, compiled, findings);
    policies::all(ground, findings);
    routes::all(ground, compiled, findings);
    shadow::all(ground, findings);
}
