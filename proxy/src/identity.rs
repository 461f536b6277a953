//! Who the proxy speaks as: the certificates of the pods that it serves.
//!
//! * [`certificate`], [`store`]: the live certificate of each identity, for the data path
//! * [`manager`]: obtains and renews them
//! * [`signing`], [`request`], [`issued`]: one certificate request, its parts

mod certificate;
pub mod issued;
mod manager;
pub mod request;
mod signing;
mod store;

pub use self::certificate::Certificate;
pub use self::manager::{CertificateManager, IdentityInUse};
pub use self::store::CertificateStore;
