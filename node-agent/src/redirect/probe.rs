//! Finding out which of the programs work on this node, by attaching each for real.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixDatagram;

use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SkLookup, SockOps};
use nix::sched::{CloneFlags, unshare};

use super::capabilities::Capabilities;
use super::cgroup::{Cgroup, ScratchCgroup};
use super::error::RedirectError;
use super::object::program;
use super::programs;

/// Attaches every loaded program to a scratch cgroup or namespace, and takes it off again.
///
/// # Errors
/// [`RedirectError::Incapable`] with all that can't be attached.
pub(super) fn try_attaching(
    object: &mut Ebpf,
    cgroup: &Cgroup,
) -> Result<Capabilities, RedirectError> {
    let scratch = ScratchCgroup::create(cgroup)?;
    let action = "make a scratch network namespace";
    let namespace = scratch_namespace().map_err(|error| RedirectError::System { action, error })?;
    let mut capabilities = Capabilities::default();
    for name in programs::all() {
        let result = try_program(program(object, name)?, &scratch.cgroup, &namespace);
        capabilities.record(name, result.map_err(|error| chain(&error)));
    }
    match capabilities.is_complete() {
        true => Ok(capabilities),
        false => Err(RedirectError::Incapable(capabilities)),
    }
}

fn try_program(
    program: &mut Program,
    cgroup: &Cgroup,
    namespace: &File,
) -> Result<(), ProgramError> {
    let mode = CgroupAttachMode::Single;
    match program {
        Program::CgroupSockAddr(program) => {
            let link = CgroupSockAddr::attach(program, cgroup, mode)?;
            program.detach(link)
        }
        Program::SockOps(program) => {
            let link = SockOps::attach(program, cgroup, mode)?;
            program.detach(link)
        }
        Program::SkLookup(program) => {
            let link = SkLookup::attach(program, namespace)?;
            program.detach(link)
        }
        Program::SocketFilter(program) => {
            let (socket, _) = UnixDatagram::pair().map_err(ProgramError::IOError)?;
            program.attach(&socket)?;
            Ok(())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// A new network namespace that ends with its file.
fn scratch_namespace() -> io::Result<File> {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    });
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
