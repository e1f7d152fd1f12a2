//! How a request ended: the codes with which OpenSSH's server reports the system's errors.

use malai_wire::sftp::{Response, StatusCode};
use rustix::io::Errno;

/// The answer, or the code of the error.
pub(super) type Done = Result<Response, StatusCode>;

/// The answer to a request without a result.
pub(super) fn done(result: Result<(), Errno>) -> Done {
    match result {
        Ok(()) => Ok(Response::Status(StatusCode::Ok)),
        Err(error) => Err(status(error)),
    }
}

/// The code with which OpenSSH's server reports a system error.
pub(super) fn status(error: Errno) -> StatusCode {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => StatusCode::NoSuchFile,
        Errno::PERM | Errno::ACCESS | Errno::FAULT => StatusCode::PermissionDenied,
        Errno::NAMETOOLONG | Errno::INVAL => StatusCode::BadMessage,
        Errno::NOSYS => StatusCode::Unsupported,
        _ => StatusCode::Failure,
    }
}

/// Like [`status`], for an error of the standard library.
pub(super) fn io_status(error: &std::io::Error) -> StatusCode {
    error.raw_os_error().map_or(StatusCode::Failure, |number| {
        status(Errno::from_raw_os_error(number))
    })
}
