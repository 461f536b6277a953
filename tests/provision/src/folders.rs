//! Where programs are kept that take minutes to build.

use std::env;
use std::path::{Path, PathBuf};

/// `weft` in the user's cache, so that every checkout shares what is there: below
/// XDG_CACHE_HOME, else in `~/.cache`
/// (<https://specifications.freedesktop.org/basedir-spec/latest/>). `None` where neither
/// that variable nor HOME is set.
pub fn cache() -> Option<PathBuf> {
    let home = || {
        let home = env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(".cache"))
    };
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|cache| cache.is_absolute()).or_else(home)?;
    Some(cache.join("weft"))
}
