//! HTTP.

pub mod guard;
