//! Tests above single decisions and below whole daemons: services of one cluster in this process, on loopback.

mod accept;
mod audit;
mod commands;
mod connect;
mod dials;
mod distribution;
mod duplicates;
mod http;
mod http_passing;
mod invitations;
mod limits;
mod limits_of_member;
mod refusals;
mod streams;
mod users;

/// The user that the tests, and so their commands, run as.
fn own_user() -> String {
    let output = std::process::Command::new("id").arg("-un").output();
    let name = String::from_utf8(output.expect("id runs").stdout).unwrap();
    name.trim().to_owned()
}
