//! The program that refuses what arrives at pods that nobody has told of, without any help of an
//! agent's. Attached only when [`UnknownPods::Refuse`] is chosen: the kernel runs it for each packet
//! that arrives at a socket of a pod.

use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};

use super::cgroup::Cgroup;
use super::error::RedirectError;
use super::links::ProgramLink;
use super::object::program;
use super::options::UnknownPods;
use super::pins::Pins;
use super::programs::INGRESS_PROGRAM;

/// Attaches the program to a cgroup with all pods below it. On a kernel that can't,
/// `None`: the agent then refuses pods as it finds them.
///
/// # Errors
/// When this process lacks rights or memory, or the link can't be pinned.
pub(super) fn attach(
    object: &mut Ebpf,
    cgroup: &Cgroup,
    unknown_pods: UnknownPods,
    pins: Option<&Pins>,
) -> Result<Option<ProgramLink>, RedirectError> {
    if unknown_pods == UnknownPods::Allow {
        return Ok(None);
    }
    match try_attaching(object, cgroup, pins) {
        Ok(link) => Ok(Some(link)),
        Err(error @ RedirectError::Program { .. }) if !error.is_of_process() => {
            tracing::warn!(%error, "this kernel can't refuse by itself what arrives at pods that nobody has told of: they are refused once this agent has found them, 50 ms after their first process at the latest, and not while no agent runs");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn try_attaching(
    object: &mut Ebpf,
    cgroup: &Cgroup,
    pins: Option<&Pins>,
) -> Result<ProgramLink, RedirectError> {
    let failed = RedirectError::program(INGRESS_PROGRAM);
    let Program::CgroupSkb(ingress) = program(object, INGRESS_PROGRAM)? else {
        return Err(failed(ProgramError::UnexpectedProgramType));
    };
    let mut attach = || {
        ingress.load()?;
        let mode = CgroupAttachMode::Single;
        let id = ingress.attach(cgroup, CgroupSkbAttachType::Ingress, mode)?;
        let link = ingress.take_link(id)?.try_into();
        // As for the other programs of cgroups.
        link.map_err(|_| ProgramError::UnexpectedProgramType)
    };
    let link = attach().map_err(failed)?;
    ProgramLink::new(link, INGRESS_PROGRAM, pins)
}
