//! Load balancing: which endpoint a connection or a request goes to.
//!
//! * [`choose`](mod@choose): the choice, from everything that is known of the endpoints
//! * [`power_of_two`]: the cheaper of two endpoints
//! * [`load`]: the cost of an endpoint, by latency and work in flight
//! * `rendezvous`: the same endpoint for the same key
//! * [`locality`]: endpoints that are near first
//! * [`slow_start`]: the share of endpoints that are new

pub mod choose;
pub mod load;
pub mod locality;
pub mod power_of_two;
mod rendezvous;
pub mod slow_start;

pub use choose::{EndpointView, choose};
pub use load::{Ewma, Load};
pub use power_of_two::power_of_two_choices;
pub use slow_start::slow_start_weight;
