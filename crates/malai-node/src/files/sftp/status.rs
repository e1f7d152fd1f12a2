//! How a request ended: the codes that OpenSSH's server has for the system's errors.

use malai_wire::sftp::{Response, StatusCode};
use rustix::io::Errno;

/// The answer, or the code of the error.
pub(super) type Done = Result<Response, StatusCode>;

/// The answer to what has no result.
pub(super) fn done(result: Result<(), Errno>) -> Done {
    match result {
        Ok(()) => Ok(Response::Status(StatusCode::Ok)),
        Err(error) => Err(status(error)),
    }
}

/// The code that OpenSSH's server has for an error of the system's.
pub(super) fn status(error: Errno) -> StatusCode {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => StatusCode::NoSuchFile,
        Errno::PERM | Errno::ACCESS | Errno::FAULT => StatusCode::PermissionDenied,
        Errno::NAMETOOLONG | Errno::INVAL => StatusCode::BadMessage,
        Errno::NOSYS => StatusCode::Unsupported,
        _ => StatusCode::Failure,
    }
}

/// As [`status`], for an error of the standard library.
pub(super) fn io_status(error: &std::io::Error) -> StatusCode {
    error.raw_os_error().map_or(StatusCode::Failure, |number| {
        status(Errno::from_raw_os_error(number))
    })
}
