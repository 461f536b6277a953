//! Flow control of HTTP/2 (RFC 9113 section 5.2), in either role.

/// RFC 9113 section 6.9.1.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// What a connection of HTTP/2 may have buffered here, on its way to somebody who doesn't read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Of one stream, in bytes.
    pub(crate) stream: u32,
    /// Streams that may be open at once.
    pub(crate) most_streams: u32,
}

impl Windows {
    /// Of the connection: room for the windows of all streams. Were it less, a few streams that
    /// nobody reads would hold up all the others, whoever they belong to.
    pub(crate) const fn connection(self) -> u32 {
        let all = self.stream.saturating_mul(self.most_streams);
        if all < LARGEST_WINDOW {
            all
        } else {
            LARGEST_WINDOW
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_room_for_all_streams_as_far_as_the_protocol_lets_it() {
        for (stream, most_streams, expected) in [
            (64, 100, 6400),
            (64 * 1024, 1, 64 * 1024),
            (1 << 20, 4096, LARGEST_WINDOW),
        ] {
            let windows = Windows {
                stream,
                most_streams,
            };
            assert_eq!(windows.connection(), expected);
        }
    }
}
