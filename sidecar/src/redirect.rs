//! Redirection of a pod's connections to its proxy: one nf_tables table of our own, replaced as
//! a whole in one transaction of the kernel.
//!
//! * [`rules`]: the table's chains and rules, as data (pure)
//! * [`expression`]: what a rule consists of, as the kernel reads it (pure)
//! * [`message`], [`attributes`]: messages of netlink (pure)
//! * [`transaction`]: sends them, and finds out what the kernel lacks

mod attributes;
mod error;
mod expression;
mod message;
mod rules;
mod transaction;

pub use self::error::{Feature, RedirectError};
pub use self::rules::RedirectOptions;

use self::message::{create_chain, create_rule, create_table, delete_table};
use self::rules::chains;
use self::transaction::{Step, commit};

/// Redirects the connections of this network namespace; what an earlier call did is replaced.
///
/// # Errors
/// When the kernel can't or may not; the message says what it lacks.
pub fn set_up(options: &RedirectOptions) -> Result<(), RedirectError> {
    let mut steps = removal();
    steps.push(Step::new(Feature::NfTables, create_table()));
    for chain in chains(options) {
        steps.push(Step::new(Feature::NatChain, create_chain(&chain)));
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
    commit(&removal())
}

/// A table that isn't there can't be deleted, so that it is made first.
fn removal() -> Vec<Step> {
    let messages = [create_table(), delete_table()];
    messages
        .map(|message| Step::new(Feature::NfTables, message))
        .into()
}
