//! A case: a client and a server that see the same with and without the mesh.

use std::time::Duration;

/// A client and a server of `programs.py`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Name of both.
    pub(crate) name: &'static str,
    /// Whether the Services declare its port as HTTP.
    pub(crate) is_http: bool,
    /// Lines that the server says of it.
    pub(crate) events: usize,
    /// The case in words, for the manual.
    pub(crate) text: &'static str,
    /// How many more seconds its client may say in the mesh, where the case is about time.
    pub(crate) margin: Duration,
}

pub(crate) const fn connection(name: &'static str, events: usize, text: &'static str) -> Case {
    let is_http = false;
    Case {
        name,
        is_http,
        events,
        text,
        margin: Duration::ZERO,
    }
}

pub(crate) const fn requests(name: &'static str, events: usize, text: &'static str) -> Case {
    let is_http = true;
    Case {
        name,
        is_http,
        events,
        text,
        margin: Duration::ZERO,
    }
}

impl Case {
    /// The same, whose client may say that much more of `seconds`.
    pub(crate) const fn within(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }
}
