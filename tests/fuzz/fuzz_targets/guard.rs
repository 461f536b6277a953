//! Raw bytes of a client's connection: what the guard says does not depend on where reads
//! were cut, and what was complete before a refusal passes alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_http_guard::{Guard, Refusal};

/// Inspects up to the first refusal; an upgrade that is asked for is denied.
fn inspect<'a>(reads: impl Iterator<Item = &'a [u8]>) -> Result<u64, Refusal> {
    let mut guard = Guard::default();
    for mut read in reads {
        while !read.is_empty() {
            let taken = guard.inspect(read).map_err(|refused| refused.refusal)?;
            assert!(taken == read.len() || guard.awaits_upgrade());
            guard.deny_upgrade();
            read = &read[taken..];
        }
    }
    Ok(guard.requests())
}

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let whole = inspect([bytes].into_iter());
    assert_eq!(inspect(bytes.chunks(usize::from(cut) + 1)), whole);
    assert_eq!(inspect(bytes.chunks(1)), whole);
    if let Err(refused) = Guard::default().inspect(bytes) {
        let mut guard = Guard::default();
        let complete = &bytes[..refused.complete];
        assert_eq!(guard.inspect(complete), Ok(complete.len()));
        assert!(!guard.is_in_body());
        assert!(refused.refusal.status().is_client_error());
    }
});
