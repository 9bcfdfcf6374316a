//! Kubernetes as the source of the mesh's state, and what is written back to it.
