//! Why a connection was ended that holds too much.

/// The connection was ended because it holds too much.
#[derive(Debug, thiserror::Error)]
#[error("the connection holds more memory than there is for it")]
pub(super) struct MemoryExceeded;
