//! What policies over requests mean.

mod allocations;
mod fields;
mod golden;
mod laws;
mod naive;
mod order;
mod scene;
mod spellings;
