//! Paths: what is sent on is sent on as it is the next time, climbs nowhere, and is one that
//! rules have been asked about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_model::route::path::{PathNormalization, normalized_path};

fuzz_target!(|path: &str| {
    for normalization in PathNormalization::ALL {
        let Ok(once) = normalization.forwarded_path(path) else {
            continue;
        };
        assert_eq!(normalization.forwarded_path(&once).as_deref(), Ok(&*once));
        let rewrites = !matches!(normalization, PathNormalization::Strict | PathNormalization::None);
        if rewrites && path.starts_with('/') {
            assert!(once.starts_with('/'));
            assert!(!once.split('/').any(|segment| matches!(segment, "." | "..")));
        }
    }
    let normalized = normalized_path(path);
    assert_eq!(normalized.starts_with('/'), path.starts_with('/'));
});
