//! AdmissionReviews: answered, whatever they say; a pod gets nothing twice.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Err(reason) = weft_control_plane::check_review(body) {
        panic!("{reason}");
    }
});
