//! Redirection of a pod's connections to its proxy: one nf_tables table of our own, replaced as
//! a whole in one transaction of the kernel; with TPROXY one routing table of our own beside it.
//!
//! * [`rules`]: the table's chains and rules, as data (pure)
//! * [`expression`]: what a rule consists of, as the kernel reads it (pure)
//! * [`message`], [`attributes`]: messages of netlink (pure)
//! * [`transaction`]: sends them, and finds out what the kernel lacks
//! * [`routing`]: the way of marked packets back to the proxy

mod attributes;
mod error;
mod expression;
mod message;
mod routing;
mod rules;
mod transaction;

pub use self::error::{Feature, RedirectError};
pub use self::rules::{Capture, RedirectOptions};

use self::message::{create_chain, create_rule, create_table, delete_table};
use self::rules::{ChainKind, chains};
use self::transaction::{Step, commit};

/// Redirects the connections of this network namespace; what an earlier call did is replaced.
///
/// # Errors
/// When the kernel can't or may not; the message says what it lacks.
pub fn set_up(options: &RedirectOptions) -> Result<(), RedirectError> {
    // Before there are packets with the mark.
    match options.capture {
        Capture::Tproxy => routing::set_up()?,
        Capture::Redirect => routing::clean_up()?,
    }
    let mut steps = removal();
    steps.push(Step::new(Feature::NfTables, create_table()));
    for chain in chains(options) {
        let feature = match chain.kind {
            ChainKind::Translation => Feature::NatChain,
            ChainKind::Filter | ChainKind::Route => Feature::PacketChain,
        };
        steps.push(Step::new(feature, create_chain(&chain)));
        for rule in &chain.rules {
            let rule = rule.as_slice();
            steps.push(Step::of_rule(&chain, rule, create_rule(&chain, rule)));
        }
    }
    commit(&steps)
}

/// Redirects nothing any more. Connections that are open stay where they are.
///
/// # Errors
/// As [`set_up`].
pub fn clean_up() -> Result<(), RedirectError> {
    commit(&removal())?;
    routing::clean_up()
}

/// A table that isn't there can't be deleted, so that it is made first.
fn removal() -> Vec<Step> {
    let messages = [create_table(), delete_table()];
    messages
        .map(|message| Step::new(Feature::NfTables, message))
        .into()
}
