//! Resources for agents, as they go over the wire. Knows no objects: changes of the mesh
//! come in, responses go out.
//!
//! * [`resources`]: every resource with its version, and the journal of the latest changes
//! * [`cursor`]: how far one agent's stream has come, and what it is sent next
//! * [`view`]: the part of all that one stream is told; `audience`: the proxies that are told of
//!   an AuthorizationPolicy

mod audience;
pub(crate) mod cursor;
pub(crate) mod resources;
pub(crate) mod view;

pub(crate) use cursor::{Cursor, Next};
pub(crate) use resources::Resources;
pub(crate) use view::View;
