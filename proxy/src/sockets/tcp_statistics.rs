//! What the kernel knows of a TCP connection: `struct tcp_info` (`linux/tcp.h`), which grows
//! with kernels and is never reordered.

use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::net::TcpStream;

/// Bytes of the structure that are asked for: all that is read here.
const SIZE: usize = 128;
/// Place of `tcpi_rtt`, in microseconds.
const SMOOTHED_RTT: usize = 68;
/// Place of `tcpi_total_retrans`.
const RETRANSMITS: usize = 100;
/// Place of `tcpi_bytes_acked` (Linux 4.1).
const BYTES_ACKED: usize = 120;

/// Statistics of one TCP connection, as its kernel keeps them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TcpStatistics {
    /// Smoothed round-trip time (RFC 6298); nothing where none was measured.
    pub(crate) smoothed_rtt: Option<Duration>,
    /// Segments that were sent more than once.
    pub(crate) retransmits: u32,
    /// Bytes that the peer's kernel has acknowledged. SYN and FIN count one each.
    pub(crate) delivered_bytes: u64,
}

impl TcpStatistics {
    /// The statistics of an open connection; nothing where the kernel tells too little. It costs
    /// one system call.
    pub(crate) fn of(stream: &TcpStream) -> Option<Self> {
        let mut information = [0_u8; SIZE];
        let length = get_tcp_info(stream, &mut information)?;
        Self::parse(information.get(..length)?)
    }

    /// The statistics in the beginning of a `struct tcp_info`; nothing where it is too short for
    /// them.
    pub(crate) fn parse(information: &[u8]) -> Option<Self> {
        let rtt = u32::from_ne_bytes(field(information, SMOOTHED_RTT)?);
        Some(Self {
            smoothed_rtt: (rtt > 0).then(|| Duration::from_micros(rtt.into())),
            retransmits: u32::from_ne_bytes(field(information, RETRANSMITS)?),
            delivered_bytes: u64::from_ne_bytes(field(information, BYTES_ACKED)?),
        })
    }
}

fn field<const N: usize>(information: &[u8], place: usize) -> Option<[u8; N]> {
    information.get(place..)?.first_chunk().copied()
}

/// Fills the beginning of `information`; gives how much of it.
fn get_tcp_info(stream: &TcpStream, information: &mut [u8; SIZE]) -> Option<usize> {
    let mut length = size_of_val(information) as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let value = information.as_mut_ptr().cast();
    // SAFETY: the descriptor is open while `stream` is borrowed, and the kernel writes at most
    // `length` bytes to `information`, which has as many.
    let result =
        unsafe { libc::getsockopt(stream.as_raw_fd(), level, name, value, &raw mut length) };
    match result {
        0 => usize::try_from(length).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_tells_what_was_delivered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far.unwrap().0);
        near.write_all(&[7; 1000]).await.unwrap();
        far.read_exact(&mut [0; 1000]).await.unwrap();
        // On loopback it is acknowledged as it is sent, or with what comes back.
        far.write_all(b"!").await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
        let statistics = TcpStatistics::of(&near).unwrap();
        let delivered = statistics.delivered_bytes;
        assert!((1000..=1001).contains(&delivered), "{delivered}");
        assert_eq!(statistics.retransmits, 0);
        let rtt = statistics.smoothed_rtt.unwrap();
        assert!(rtt > Duration::ZERO && rtt < Duration::from_secs(10));
    }

    #[test]
    fn a_structure_that_ends_before_the_statistics_has_none() {
        let mut information = vec![0; BYTES_ACKED + 8];
        information[SMOOTHED_RTT..SMOOTHED_RTT + 4].copy_from_slice(&250_u32.to_ne_bytes());
        information[RETRANSMITS..RETRANSMITS + 4].copy_from_slice(&3_u32.to_ne_bytes());
        information[BYTES_ACKED..].copy_from_slice(&77_u64.to_ne_bytes());
        let statistics = TcpStatistics {
            smoothed_rtt: Some(Duration::from_micros(250)),
            retransmits: 3,
            delivered_bytes: 77,
        };
        assert_eq!(TcpStatistics::parse(&information), Some(statistics));
        // Such as 2.6's, which has 104 bytes.
        assert_eq!(TcpStatistics::parse(&information[..104]), None);
        assert_eq!(TcpStatistics::parse(&information[..127]), None);
    }

    proptest! {
        #[test]
        fn any_length_is_read(information in prop::collection::vec(any::<u8>(), 0..300)) {
            let parsed = TcpStatistics::parse(&information);
            prop_assert_eq!(parsed.is_some(), information.len() >= BYTES_ACKED + 8);
        }
    }
}
