//! The programs that take longer to start, or to compile.

use super::{SLOW, compare_servers};

#[test]
fn slow_programs_of_others_see_what_they_see_without_a_mesh() {
    compare_servers(&SLOW);
}
