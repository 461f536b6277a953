//! The programs' names, and those of their pins.

/// Programs on the cgroup, by their names in the object.
pub(super) const CGROUP_PROGRAMS: [&str; 7] = [
    "connect4",
    "connect6",
    "getpeername4",
    "getpeername6",
    "getsockname4",
    "getsockname6",
    "socket_events",
];
/// Programs on a pod's network namespace: permissive, strict.
pub(super) const LOOKUP_PROGRAMS: [&str; 2] = ["lookup_permissive", "lookup_strict"];
/// The program on the cgroup of pods, where unknown ones are refused.
pub(super) const INGRESS_PROGRAM: &str = "ingress";
/// The program on the proxy's outbound listeners.
pub(super) const HOLD_PROGRAM: &str = "hold";

/// The names of the programs without which nothing can be captured.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let namespaced = CGROUP_PROGRAMS.into_iter().chain(LOOKUP_PROGRAMS);
    namespaced.chain([HOLD_PROGRAM])
}

/// The pin of a namespace's inbound program.
pub(super) fn lookup_pin_name(cookie: u64, program: &str) -> String {
    format!("{program}-{cookie}")
}

/// The namespace whose inbound program a pin holds.
pub(super) fn namespace_of_lookup_pin(name: &str) -> Option<u64> {
    let (program, cookie) = name.rsplit_once('-')?;
    LOOKUP_PROGRAMS
        .contains(&program)
        .then(|| cookie.parse().ok())
        .flatten()
}
