//! Raw bytes of a client's connection: the verdict does not depend on where reads were
//! cut, and what was complete before a refusal passes alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_http_guard::{Guard, Refusal};

/// Feeds up to the first refusal; an upgrade that is asked for is refused.
fn verdict<'a>(reads: impl Iterator<Item = &'a [u8]>) -> Result<u64, Refusal> {
    let mut guard = Guard::default();
    for mut read in reads {
        while !read.is_empty() {
            let taken = guard.feed(read).map_err(|refused| refused.refusal)?;
            assert!(taken == read.len() || guard.is_undecided());
            guard.upgrade_refused();
            read = &read[taken..];
        }
    }
    Ok(guard.requests())
}

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let whole = verdict([bytes].into_iter());
    assert_eq!(verdict(bytes.chunks(usize::from(cut) + 1)), whole);
    assert_eq!(verdict(bytes.chunks(1)), whole);
    if let Err(refused) = Guard::default().feed(bytes) {
        let mut guard = Guard::default();
        assert_eq!(guard.feed(&bytes[..refused.complete]), Ok(refused.complete));
        assert!(!guard.is_in_body());
        assert!(refused.refusal.status().is_client_error());
    }
});
