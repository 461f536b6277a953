//! A whole cluster.
