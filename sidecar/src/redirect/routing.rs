//! The way of packets that have our mark: to this host itself, whatever address they are for. A
//! routing table of our own with one route, and a rule that leads there, for each family
//! (`linux/rtnetlink.h`, `linux/fib_rules.h`).

use std::io::{self, Read, Write};

use nix::net::if_::if_nametoindex;

use super::attributes::Attributes;
use super::error::{Feature, RedirectError};
use super::message::{Message, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, acknowledgements};
use super::rules::MARK;
use super::transaction::{explain, open};

/// Our table, and the place of the rule among others, before the main table's.
const TABLE: u32 = 1337;
const PRIORITY: u32 = 1337;
const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

/// `enum rtnetlink` message types.
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
/// RTN_LOCAL, RT_SCOPE_HOST, RTPROT_STATIC, FR_ACT_TO_TBL.
const LOCAL: u8 = 2;
const SCOPE_HOST: u8 = 254;
const STATIC: u8 = 4;
const TO_TABLE: u8 = 1;
/// `RTA_OIF`, `RTA_TABLE`.
const OUTPUT_INTERFACE: u16 = 4;
const ROUTE_TABLE: u16 = 15;
/// `FRA_PRIORITY`, `FRA_FWMARK`, `FRA_TABLE`.
const RULE_PRIORITY: u16 = 6;
const RULE_MARK: u16 = 10;
const RULE_TABLE: u16 = 15;
/// Bytes of an answer.
const ANSWER: usize = 4096;

/// Leads marked packets to this host; done again, it changes nothing.
///
/// # Errors
/// When the kernel can't or may not. A family that it doesn't have needs none.
pub(super) fn set_up() -> Result<(), RedirectError> {
    let loopback = if_nametoindex("lo").map_err(io::Error::from)?;
    for family in FAMILIES {
        let replaced = NLM_F_CREATE | NLM_F_REPLACE;
        let steps = [
            (route(NEW_ROUTE, replaced, family, loopback), None),
            (
                rule(NEW_RULE, NLM_F_CREATE | NLM_F_EXCL, family),
                Some(libc::EEXIST),
            ),
        ];
        for (message, fine) in steps {
            match send(&message) {
                Err(error) if error.raw_os_error() == fine && fine.is_some() => {}
                Err(error) if lacks_family(family, &error) => {}
                result => result.map_err(|error| explain(Feature::PolicyRouting, error))?,
            }
        }
    }
    Ok(())
}

/// Leads nothing any more. Done again, it changes nothing.
///
/// # Errors
/// When the kernel doesn't allow it.
pub(super) fn clean_up() -> Result<(), RedirectError> {
    let loopback = if_nametoindex("lo").map_err(io::Error::from)?;
    for family in FAMILIES {
        for message in [
            rule(DELETE_RULE, 0, family),
            route(DELETE_ROUTE, 0, family, loopback),
        ] {
            match send(&message) {
                Err(error) if is_nothing_there(family, &error) => {}
                result => result.map_err(|error| explain(Feature::PolicyRouting, error))?,
            }
        }
    }
    Ok(())
}

/// A kernel without the family, or one that it is switched off in.
fn lacks_family(family: u8, error: &io::Error) -> bool {
    let absent = [
        libc::EAFNOSUPPORT,
        libc::EOPNOTSUPP,
        libc::ENODEV,
        libc::EACCES,
    ];
    family == libc::AF_INET6 as u8
        && error
            .raw_os_error()
            .is_some_and(|number| absent.contains(&number))
}

fn is_nothing_there(family: u8, error: &io::Error) -> bool {
    let absent = [
        libc::ENOENT,
        libc::ESRCH,
        libc::EAFNOSUPPORT,
        libc::EOPNOTSUPP,
    ];
    let is_absent = |number| absent.contains(&number);
    error.raw_os_error().is_some_and(is_absent) || lacks_family(family, error)
}

/// `struct rtmsg`: every destination of that family.
fn route(kind: u16, flags: u16, family: u8, loopback: u32) -> Message {
    let general = [family, 0, 0, 0, 0, STATIC, SCOPE_HOST, LOCAL, 0, 0, 0, 0];
    let attributes = Attributes::new()
        .native_number(OUTPUT_INTERFACE, loopback)
        .native_number(ROUTE_TABLE, TABLE);
    Message::of_routing(kind, flags, &general, attributes)
}

/// `struct fib_rule_hdr`: every packet of that family with our mark.
fn rule(kind: u16, flags: u16, family: u8) -> Message {
    let general = [family, 0, 0, 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let attributes = Attributes::new()
        .native_number(RULE_PRIORITY, PRIORITY)
        .native_number(RULE_MARK, MARK)
        .native_number(RULE_TABLE, TABLE);
    Message::of_routing(kind, flags, &general, attributes)
}

fn send(message: &Message) -> io::Result<()> {
    let mut bytes = Vec::new();
    message.append_to(&mut bytes, 1);
    let socket = open(libc::NETLINK_ROUTE)?;
    (&socket).write_all(&bytes)?;
    let mut answer = [0; ANSWER];
    loop {
        let length = (&socket).read(&mut answer)?;
        let answers = acknowledgements(answer.get(..length).unwrap_or_default());
        match answers.first().map(|answer| answer.error) {
            Some(0) => return Ok(()),
            Some(error) => return Err(io::Error::from_raw_os_error(-error)),
            None => {}
        }
    }
}
