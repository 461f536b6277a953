//! A server, and what clients do with it.

use std::time::Duration;

/// A program, or the folder of a library, and the package of Debian's that has it.
pub(crate) type Program = (&'static str, &'static str);

/// A program that serves, in each of the pods that have servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// Its name, also of its Service.
    pub(crate) name: &'static str,
    /// What the names of its Service's ports begin with: the protocol that they declare.
    pub(crate) protocol: &'static str,
    /// The ports of the Service; clients have the first one in `$PORT`.
    pub(crate) ports: &'static [u16],
    /// Bash that runs once before the servers start, in the folder of the suite's files.
    pub(crate) prepare: &'static str,
    /// Bash that becomes the server. It runs in a folder of its own, has the pod's address in
    /// `$ADDRESS`, and the suite's files in `$FILES`.
    pub(crate) start: &'static str,
    /// Bash that succeeds in the pod when the server serves.
    pub(crate) ready: &'static str,
    /// What it and its clients need beside Bash and Debian's essential packages.
    pub(crate) programs: &'static [Program],
    /// Programs that are built from the Go modules of `tests/kube`, such as `h2spec/h2spec`:
    /// `$FILES/h2spec-h2spec`.
    pub(crate) modules: &'static [&'static str],
    /// What clients do with it.
    pub(crate) cases: &'static [Case],
}

/// The usual condition for [`Server::ready`].
pub(crate) const CONNECTS: &str = "exec 3<>/dev/tcp/127.0.0.1/$PORT";

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: &'static str,
    /// The case in words, for the manual.
    pub(crate) text: &'static str,
    /// Bash, with the address that is dialled in `$SERVER`, its pod's own one in `$CLIENT`, and
    /// an empty folder. What it writes and how it ends is compared.
    pub(crate) client: &'static str,
    /// Lines with the case's name that the server's log gets.
    pub(crate) logged: usize,
    /// How much longer, or shorter, it may take in the mesh, where the case is about time.
    pub(crate) margin: Option<Duration>,
    /// Whether the addresses are of IPv6, else of IPv4.
    pub(crate) is_ipv6: bool,
}

/// A case of which the server logs nothing.
pub(crate) const fn case(name: &'static str, text: &'static str, client: &'static str) -> Case {
    Case {
        name,
        text,
        client,
        logged: 0,
        margin: None,
        is_ipv6: false,
    }
}

impl Case {
    /// The same, of which the server logs that many lines.
    pub(crate) const fn logged(mut self, lines: usize) -> Self {
        self.logged = lines;
        self
    }

    /// The same over IPv6.
    pub(crate) const fn over_ipv6(mut self) -> Self {
        self.is_ipv6 = true;
        self
    }

    /// The same, whose duration counts.
    pub(crate) const fn within(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }
}
