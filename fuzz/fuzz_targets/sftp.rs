//! Any bytes from a client of the sftp subsystem, and from the process that serves it: never a panic, and never more
//! names than bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use malai_wire::file_report::FileReport;
use malai_wire::sftp::Request;

fuzz_target!(|bytes: &[u8]| {
    if let Err(bad) = Request::decode(bytes) {
        // Packets that have an id keep it, so that they can be answered.
        assert_eq!(bad.id.is_some(), bytes.len() >= 5 && bytes[0] != 1);
    }
    if let Some(report) = FileReport::decode(bytes) {
        if let Some(encoded) = report.encode() {
            assert_eq!(FileReport::decode(&encoded[4..]), Some(report));
        }
    }
});
