//! `weft-sidecar`: the proxy of one pod, in that pod.

use std::process::ExitCode;

use clap::Parser;
use weft_sidecar::run::{Arguments, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs before `main`, and so before the allocator has its first page.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = forgo_huge_pages;

/// The allocator asks for huge pages, of which a few that are hardly used would be half of an idle
/// sidecar (prctl(2), PR_SET_THP_DISABLE).
extern "C" fn forgo_huge_pages() {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: it reads its arguments alone, and changes nothing but how the kernel backs memory
    // from now on. A kernel that refuses leaves that as it is.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

/// The one place that writes to standard error directly: the log may not run yet.
#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}
