//! A transaction of nf_tables: all of it happens, or nothing. When the kernel doesn't take it,
//! what it lacks is found out by trying, without end, what the refused message consists of.

use std::io::{self, Read, Write};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::{Feature, RedirectError};
use super::expression::Expression;
use super::message::{
    Message, acknowledgements, begin, create_chain, create_rule, create_table, end,
};
use super::rules::Chain;

/// The kernel answers at once, unless it loads modules first.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that the kernel may answer, the messages themselves among them.
const BUFFER: usize = 256 * 1024;

/// A message of a transaction.
#[derive(Clone, Debug)]
pub(super) struct Step {
    feature: Feature,
    message: Message,
    rule: Option<(Chain, Vec<Expression>)>,
}

impl Step {
    /// A message that needs a feature.
    pub(super) fn new(feature: Feature, message: Message) -> Self {
        Self {
            feature,
            message,
            rule: None,
        }
    }

    /// The message of a rule, which needs whatever its expressions need.
    pub(super) fn of_rule(chain: &Chain, rule: &[Expression], message: Message) -> Self {
        let chain = Chain {
            rules: Vec::new(),
            ..chain.clone()
        };
        Self {
            rule: Some((chain, rule.to_vec())),
            ..Self::new(Feature::BuiltIn, message)
        }
    }
}

/// The message that was refused, none for the transaction itself.
#[derive(Debug)]
struct Refused {
    step: Option<usize>,
    error: io::Error,
}

/// Does all of it, or nothing.
///
/// # Errors
/// What the kernel lacks, or what it doesn't allow.
pub(super) fn commit(steps: &[Step]) -> Result<(), RedirectError> {
    let messages: Vec<_> = steps.iter().map(|step| step.message.clone()).collect();
    let Some(refused) = send(&messages, true)? else {
        return Ok(());
    };
    let step = refused.step.and_then(|step| steps.get(step));
    let feature = match step {
        Some(Step {
            rule: Some((chain, rule)),
            ..
        }) => missing_expression(chain, rule)?,
        Some(step) => step.feature,
        None => Feature::NfTables,
    };
    Err(explain(feature, refused.error))
}

/// What the expression of a rule needs that the kernel doesn't have.
fn missing_expression(chain: &Chain, rule: &[Expression]) -> Result<Feature, RedirectError> {
    for (index, expression) in rule.iter().enumerate() {
        let rule = rule.get(..=index).unwrap_or_default();
        let messages = [
            create_table(),
            create_chain(chain),
            create_rule(chain, rule),
        ];
        if send(&messages, false)?.is_some() {
            return Ok(expression.feature());
        }
    }
    Ok(Feature::BuiltIn)
}

pub(super) fn explain(feature: Feature, error: io::Error) -> RedirectError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => RedirectError::Permission,
        Some(
            libc::ENOENT
            | libc::EOPNOTSUPP
            | libc::EAFNOSUPPORT
            | libc::EPROTONOSUPPORT
            | libc::ENOPROTOOPT,
        ) => RedirectError::Missing(feature),
        _ => RedirectError::Refused { feature, error },
    }
}

/// Sends messages as one transaction, which comes to nothing unless it is ended, and gives back
/// the first one that was refused.
fn send(messages: &[Message], is_ended: bool) -> Result<Option<Refused>, RedirectError> {
    let mut bytes = Vec::new();
    begin().append_to(&mut bytes, 0);
    for (sequence, message) in (1..).zip(messages) {
        message.append_to(&mut bytes, sequence);
    }
    if is_ended {
        end().append_to(&mut bytes, u32::MAX);
    }
    let socket = open(libc::NETLINK_NETFILTER).map_err(|error| explain(Feature::Netlink, error))?;
    (&socket).write_all(&bytes)?;
    let mut buffer = vec![0; BUFFER];
    let mut accepted = 0;
    while accepted < messages.len() {
        let length = (&socket).read(&mut buffer)?;
        for answer in acknowledgements(buffer.get(..length).unwrap_or_default()) {
            if answer.error != 0 {
                let step = usize::try_from(answer.sequence).ok();
                return Ok(Some(Refused {
                    step: step.and_then(|step| step.checked_sub(1)),
                    error: io::Error::from_raw_os_error(-answer.error),
                }));
            }
            accepted += 1;
        }
    }
    Ok(None)
}

/// A socket to that part of the kernel.
pub(super) fn open(family: libc::c_int) -> io::Result<Socket> {
    let kind = Type::RAW.cloexec();
    let protocol = Some(Protocol::from(family));
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), kind, protocol)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_recv_buffer_size(BUFFER)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_option_and_module() {
        let error = |number| io::Error::from_raw_os_error(number);
        let missing = explain(Feature::Redirect, error(libc::ENOENT)).to_string();
        assert!(missing.contains("CONFIG_NFT_REDIR"), "{missing}");
        assert!(missing.contains("modprobe nft_redir"), "{missing}");
        let missing = explain(Feature::Netlink, error(libc::EPROTONOSUPPORT)).to_string();
        assert!(missing.contains("CONFIG_NETFILTER_NETLINK"), "{missing}");
        let permission = explain(Feature::NfTables, error(libc::EPERM)).to_string();
        assert!(permission.contains("NET_ADMIN"), "{permission}");
        let other = explain(Feature::NatChain, error(libc::EINVAL)).to_string();
        assert!(other.contains("Invalid argument"), "{other}");
    }
}
