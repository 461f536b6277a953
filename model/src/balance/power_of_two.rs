//! The "power of two choices" (Mitzenmacher 2001): the cheaper of two endpoints that are
//! drawn at random.

/// Index of one of `count` endpoints, `None` when there are none: two different ones are
/// drawn, and the cheaper one is taken. `random` gives random bits.
pub fn power_of_two_choices(
    count: usize,
    cost: impl Fn(usize) -> f64,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    match count {
        0 => None,
        1 => Some(0),
        _ => {
            let first = number_below(count, random());
            let other = number_below(count - 1, random());
            let second = if other >= first { other + 1 } else { other };
            Some(match cost(second) < cost(first) {
                true => second,
                false => first,
            })
        }
    }
}

/// A number below `count` from random bits.
pub(crate) fn number_below(count: usize, bits: u64) -> usize {
    // The upper half of the product is even enough: `count` is far below 2^64.
    ((u128::from(bits) * count as u128) >> 64) as usize
}
