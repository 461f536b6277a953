//! How long state is remembered.

use std::time::Duration;

/// How long the state of a Service that nobody uses is remembered. Longer than any sensible
/// ejection, so that an endpoint doesn't come back by being forgotten.
pub(super) const RETENTION: Duration = Duration::from_secs(900);
