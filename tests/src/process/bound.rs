//! Children that don't outlive this process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a command that the kernel kills when this process ends.
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = Pid::this();
    let bind = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended just before.
        if getppid() == parent {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: the closure only makes the system calls prctl and getppid.
    unsafe { command.pre_exec(bind) };
    let (answer, child) = channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    spawner().send((command, answer)).map_err(|_| gone(()))?;
    child.recv().map_err(|_| gone(()))?
}

/// "Parent" in PR_SET_PDEATHSIG(2const) is the thread that forked, and tests run on
/// threads that end before what they started: a thread that never ends forks instead.
fn spawner() -> &'static Sender<Order> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (orders, receiver) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                // Nobody waits any more only when its thread panicked.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    })
}
