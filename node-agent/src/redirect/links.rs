//! Links: they hold a program to the cgroup or to a pod's namespace. A link ends with
//! its last descriptor, unless it is pinned.

use std::os::fd::AsFd;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError};
use aya::programs::{CgroupAttachMode, Program, ProgramError};
use weft_model::mtls::MtlsMode;

use super::cgroup::Cgroup;
use super::error::RedirectError;
use super::object::program;
use super::pins::{Pin, Pins};
use super::programs::{CGROUP_PROGRAMS, HOLD_PROGRAM, LOOKUP_PROGRAMS, lookup_pin_name};

/// A link, and its pin where there is one. Taken off when dropped, unless it is left
/// pinned.
#[derive(Debug)]
pub(super) enum ProgramLink {
    /// Ends with this process.
    Owned { _link: FdLink },
    /// Stays when this process ends without dropping it.
    Pinned { _link: FdLink, pin: Pin },
}

impl ProgramLink {
    pub(super) fn new(
        link: FdLink,
        name: &str,
        pins: Option<&Pins>,
    ) -> Result<Self, RedirectError> {
        let Some(pins) = pins else {
            return Ok(Self::Owned { _link: link });
        };
        let path = pins.link_path(name);
        // One that was left: the new one is attached already.
        if path.exists() {
            drop(Pin::new(path.clone()));
        }
        let pinned = link.pin(&path).map_err(|error| RedirectError::Pin {
            name: name.to_owned(),
            path: path.clone(),
            error,
        })?;
        Ok(Self::Pinned {
            _link: pinned.into(),
            pin: Pin::new(path),
        })
    }

    /// Lets go of the link without taking it off, where it is pinned.
    pub(super) fn leave(self) {
        if let Self::Pinned { pin, .. } = self {
            pin.leave();
        }
    }
}

/// Attaches the programs that all namespaces share.
pub(super) fn attach_cgroup(
    object: &mut Ebpf,
    cgroup: &Cgroup,
    pins: Option<&Pins>,
) -> Result<Vec<ProgramLink>, RedirectError> {
    let mut links = Vec::with_capacity(CGROUP_PROGRAMS.len());
    // Sockops first: a captured connection without it would lose its destination.
    for name in CGROUP_PROGRAMS.into_iter().rev() {
        let link =
            cgroup_link(program(object, name)?, cgroup).map_err(RedirectError::program(name))?;
        links.push(ProgramLink::new(link, name, pins)?);
    }
    Ok(links)
}

fn cgroup_link(program: &mut Program, cgroup: &Cgroup) -> Result<FdLink, ProgramError> {
    // Links always run beside those of others; asking for it is an error.
    let mode = CgroupAttachMode::Single;
    let link: Result<FdLink, LinkError> = match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    // Only kernels before 5.7 have no such links, and these have no SK_LOOKUP either.
    link.map_err(|_| ProgramError::UnexpectedProgramType)
}

/// Attaches the inbound program for a mode to a pod's namespace.
pub(super) fn attach_lookup(
    object: &mut Ebpf,
    namespace: impl AsFd,
    cookie: u64,
    mode: MtlsMode,
    pins: Option<&Pins>,
) -> Result<ProgramLink, RedirectError> {
    let [permissive, strict] = LOOKUP_PROGRAMS;
    let name = match mode {
        MtlsMode::Disabled | MtlsMode::Permissive => permissive,
        MtlsMode::Strict => strict,
    };
    let Program::SkLookup(lookup) = program(object, name)? else {
        return Err(RedirectError::program(name)(
            ProgramError::UnexpectedProgramType,
        ));
    };
    let attach = || {
        let id = lookup.attach(namespace)?;
        lookup.take_link(id)
    };
    let link = attach().map_err(RedirectError::program(name))?;
    ProgramLink::new(link.into(), &lookup_pin_name(cookie, name), pins)
}

/// Lets connections be held at a listener, for as long as that is open.
pub(super) fn attach_hold(object: &mut Ebpf, listener: impl AsFd) -> Result<(), RedirectError> {
    let failed = RedirectError::program(HOLD_PROGRAM);
    let Program::SocketFilter(hold) = program(object, HOLD_PROGRAM)? else {
        return Err(failed(ProgramError::UnexpectedProgramType));
    };
    let attached = hold.attach(listener);
    attached.map_err(failed)
}
