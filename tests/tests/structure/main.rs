//! The rules of the house, read off the sources: they need no root, no network and no
//! build but that of this test.
//!
//! * [`circles`]: no circle of modules, file by file
//! * [`imports`]: who may use what, a table
//! * [`lengths`]: files up to 400 lines before their tests, functions up to 60
//! * [`locks`]: the fuzz targets' lock file is current
//! * [`purity`]: `model` has no randomness, no clock, no locks, nothing asynchronous
//! * [`compilation`]: no dependency is compiled twice for programs and tests
//!
//! [`packages`], [`modules`] and [`names`] are how the sources are read.

// Helpers of tests: what fails there fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod circles;
mod compilation;
mod imports;
mod lengths;
mod locks;
mod modules;
mod names;
mod packages;
mod purity;
