//! The loaded object's programs and maps, by their names.

use aya::Ebpf;
use aya::maps::{Map, MapError};
use aya::programs::Program;

use super::error::RedirectError;

/// A program of the object, by its name.
pub(super) fn program<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Program, RedirectError> {
    let missing = || RedirectError::Missing {
        kind: "program",
        name: name.to_owned(),
    };
    object.program_mut(name).ok_or_else(missing)
}

/// Takes a map out of the loaded object.
pub(super) fn take_map<T>(object: &mut Ebpf, name: &'static str) -> Result<T, RedirectError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let missing = || RedirectError::Missing {
        kind: "map",
        name: name.to_owned(),
    };
    let map = object.take_map(name).ok_or_else(missing)?;
    T::try_from(map).map_err(RedirectError::map(name, "find the expected types"))
}

/// Removing what isn't there is no failure.
pub(super) fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        result => result,
    }
}
