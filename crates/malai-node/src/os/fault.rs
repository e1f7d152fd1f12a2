//! Places where a test kills this process, to see what a crash there leaves. A release has none.

/// Kills this process, as `kill -9` does, if the environment names this place.
pub(crate) fn point(place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("MALAI_TEST_KILL_AT").is_some_and(|wanted| wanted == place) {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}
