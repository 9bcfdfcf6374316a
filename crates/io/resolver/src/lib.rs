//! Names of endpoints, resolved and kept fresh.
//!
//! In: which names are wanted, and servers of DNS. Out: the addresses of each, of both families, asked for again when they are no longer said to hold; those
//! that were known last, as long as nobody answers. It never gives out an address by which a name would lead back to who asks, or to the link it is on,
//! and knows nothing of ports, services or meshes.

mod ask;
mod error;
mod follow;
mod usable;

pub use ask::{Answer, Servers};
pub use error::Error;
pub use follow::{Follower, Names};
pub use usable::is_usable;
