//! A SYN arrives at the proxy's outbound listener: it is dropped, and the proxy told, where
//! nobody knows yet whether the destination answers. The proxy sends the SYN once more when
//! it does, and an ICMP error when it doesn't.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skb_load_bytes};
use aya_ebpf::programs::SkBuffContext;
use weft_ebpf_common::{
    Attempt, Connection, HeldConnection, HeldKey, HoldRate, NamespaceEntry, SocketAddress,
};

use crate::{maps, packet};

/// The whole packet goes on.
const KEEP: i64 = -1;
/// As if it had never arrived.
const DROP: i64 = 0;

/// Offsets in a TCP header, and its flags (RFC 9293 section 3.1).
const DATA_OFFSET: u32 = 12;
const FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const SHORTEST: u32 = 20;
const WORD: usize = 4;

/// Cookie of a captured pod's outbound listener; zero where connections can't be held there.
#[inline(always)]
pub fn listener(entry: &NamespaceEntry, is_v4: bool) -> [u8; 8] {
    match is_v4 {
        true => entry.outbound_v4,
        false => entry.outbound_v6,
    }
}

/// Decides about a segment that arrives at the listener.
#[inline(always)]
pub fn hold(context: &SkBuffContext) -> i64 {
    let Some(flags) = tcp::<u8>(context, FLAGS) else {
        return KEEP;
    };
    if flags & (SYN | RST | ACK) != SYN {
        return KEEP;
    }
    let Some(connection) = connection(context) else {
        return KEEP;
    };
    let key = HeldKey {
        // SAFETY: the helper takes the hook's context.
        listener: unsafe { bpf_get_socket_cookie(context.as_ptr()) }.to_ne_bytes(),
        connection,
    };
    let Some(held) = maps::HELD.get_ptr_mut(key) else {
        return KEEP;
    };
    // SAFETY: the value is aligned and lives for the whole run; the segments of one
    // connection come one after the other.
    let held = unsafe { &mut *held };
    let HeldConnection {
        namespace,
        destination,
        began,
        is_told,
        ..
    } = *held;
    held.is_told = 1;
    let goes_on_waiting = match is_told {
        0 if is_over_rate(key.listener) => false,
        0 => tell(context, key, namespace, destination).is_some(),
        _ => is_within_limit(u64::from_ne_bytes(began)),
    };
    if goes_on_waiting {
        return DROP;
    }
    let _ = maps::HELD.remove(key);
    KEEP
}

/// Whether a pod has had its share of this interval. Of two CPUs that count at the same time one
/// may be lost, which changes nothing.
#[inline(always)]
fn is_over_rate(listener: [u8; 8]) -> bool {
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let first = HoldRate {
        began: now.to_ne_bytes(),
        held: 1u32.to_ne_bytes(),
    };
    let Some(rate) = maps::HOLD_RATES.get_ptr_mut(listener) else {
        let _ = maps::HOLD_RATES.insert(listener, first, 0);
        return false;
    };
    // SAFETY: the value is aligned and lives for the whole run.
    let rate = unsafe { &mut *rate };
    if now.saturating_sub(u64::from_ne_bytes(rate.began)) >= HoldRate::INTERVAL {
        *rate = first;
        return false;
    }
    let held = u32::from_ne_bytes(rate.held);
    if held >= HoldRate::MOST {
        return true;
    }
    rate.held = (held + 1).to_ne_bytes();
    false
}

/// Whether its answer may still come.
#[inline(always)]
fn is_within_limit(began: u64) -> bool {
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    now.saturating_sub(began) < HeldConnection::LONGEST
}

/// Tells the proxy; `None` when it has too much to read already.
#[inline(always)]
fn tell(
    context: &SkBuffContext,
    key: HeldKey,
    namespace: [u8; 8],
    destination: SocketAddress,
) -> Option<()> {
    let offset = tcp::<u8>(context, DATA_OFFSET)?;
    // In words, in the upper half.
    let length = u32::from(offset >> 4) * WORD as u32;
    if !(SHORTEST..=Attempt::LONGEST as u32).contains(&length) {
        return None;
    }
    let mut entry = maps::ATTEMPTS.reserve::<Attempt>(0)?;
    entry.write(Attempt {
        namespace,
        key,
        destination,
        length: length.to_ne_bytes(),
        segment: [0; Attempt::LONGEST],
    });
    // SAFETY: the entry was just written.
    let segment = unsafe { &mut (*entry.as_mut_ptr()).segment };
    // Word by word: how much is read is a constant to the verifier, and to every compiler.
    for word in 0..Attempt::LONGEST / WORD {
        let at = word * WORD;
        if at >= length as usize {
            break;
        }
        // SAFETY: the segment has room for a word there, and outlives the call.
        let loaded = unsafe {
            bpf_skb_load_bytes(
                context.as_ptr(),
                at as u32,
                segment.as_mut_ptr().add(at).cast(),
                WORD as u32,
            )
        };
        if loaded < 0 {
            entry.discard(0);
            return None;
        }
    }
    entry.submit(0);
    Some(())
}

/// A field of the TCP header, where the data of a listener's packets begins.
#[inline(always)]
fn tcp<T>(context: &SkBuffContext, offset: u32) -> Option<T> {
    context.load(offset as usize).ok()
}

/// Both ends, the sender's as the source.
#[inline(always)]
fn connection(context: &SkBuffContext) -> Option<Connection> {
    let from = tcp::<[u8; 2]>(context, 0)?;
    let to = tcp::<[u8; 2]>(context, 2)?;
    packet::connection(context, from, to)
}
