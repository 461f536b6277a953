//! Objects that can't take effect because of others.

use weft_model::NamespacedName;
use weft_model::identity::InvalidIdentity;
use weft_model::route::RouteKey;

/// An object that can't take effect because of others.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Conflict {
    /// Two objects with the same name.
    #[error("{origin}: {object} is also in {first}; the one in {first} counts")]
    Duplicate {
        /// Kind, namespace and name.
        object: String,
        /// The file that is ignored for it.
        origin: String,
        /// The file that counts.
        first: String,
    },
    /// Two pods with the same address.
    #[error(
        "{}Pod {pod} has the address {address} of Pod {first}; Pod {pod} is left out",
        prefix(origin)
    )]
    Address {
        /// The pod that is left out.
        pod: NamespacedName,
        /// Its file.
        origin: String,
        /// The address.
        address: String,
        /// The pod that has it.
        first: NamespacedName,
    },
    /// Two pods with the same UID.
    #[error(
        "{}Pod {pod} has the UID {uid} of Pod {first}; Pod {pod} is left out",
        prefix(origin)
    )]
    Uid {
        /// The pod that is left out.
        pod: NamespacedName,
        /// Its file.
        origin: String,
        /// The UID.
        uid: String,
        /// The pod that has it.
        first: NamespacedName,
    },
    /// A namespace or service account that can't be part of an identity.
    #[error("{}Pod {pod}: {error}", prefix(origin))]
    Identity {
        /// The pod that is left out.
        pod: NamespacedName,
        /// Its file.
        origin: String,
        /// The reason.
        error: InvalidIdentity,
    },
    /// A TrafficPolicy that its Service doesn't follow.
    #[error("{}TrafficPolicy {policy}: {message}", prefix(origin))]
    Policy {
        /// The policy.
        policy: NamespacedName,
        /// Its file.
        origin: String,
        /// The reason.
        message: String,
    },
    /// A route that isn't in force where it should be, or sends to what isn't there.
    #[error("{}{} {}: {message}", prefix(origin), route.kind, route.name)]
    Route {
        /// The route.
        route: RouteKey,
        /// Its file.
        origin: String,
        /// The part of it that has no effect, and the reason.
        message: String,
    },
}

/// An API server's objects have no file.
fn prefix(origin: &str) -> String {
    if origin.is_empty() {
        String::new()
    } else {
        format!("{origin}: ")
    }
}
