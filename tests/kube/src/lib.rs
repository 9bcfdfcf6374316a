//! The Kubernetes suite, and a small honest API server for it.
