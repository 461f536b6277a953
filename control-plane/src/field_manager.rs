//! The writer that the API server knows us by.

use kube::api::PatchParams;

/// The name of what the control plane writes, in `metadata.managedFields` and in Events.
pub(crate) const FIELD_MANAGER: &str = "weft-control-plane";

/// A patch that changes only the fields it names.
pub(crate) fn merge() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    }
}

/// A server-side apply of fields that are nobody else's to have.
pub(crate) fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}
