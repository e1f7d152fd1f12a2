//! Who uses a connection, when the peer was last heard on it, and whether to keep it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use malai_wire::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::net::endpoint::GIVE_UP;
use crate::peer::windows::WindowShare;
use crate::settings::limits::Limits;

/// How long after its last use a connection counts as busy and its peer is pinged.
const BUSY_WINDOW: Duration = Duration::from_secs(60);

/// How long a duplicate connection stays open unused.
const DUPLICATE_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// How much longer than QUIC's timeout the peer may be silent: the time that a connection may need to recover when the
/// network is back.
const RECOVERY: Duration = Duration::from_secs(4);

/// The uses of one connection, counted by guards.
#[derive(Debug)]
pub(crate) struct Activity {
    times: Mutex<Times>,
    sessions: watch::Sender<usize>,
    /// Commands of the peer whose end it has not been told yet.
    serving: watch::Sender<usize>,
    /// Running requests of either side.
    requests: AtomicUsize,
    /// Finished streams that the peer has not completely received.
    undelivered: TaskTracker,
    had_sessions: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    heard: Instant,
    used: Instant,
    used_locally: Instant,
}

/// What to do with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Keep it.
    Keep,
    /// Ping the peer.
    Ping,
    /// Close the connection, for this reason.
    Close(Refusal),
}

impl Activity {
    /// The activity of a new connection.
    pub(crate) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            times: Mutex::new(Times {
                heard: now,
                used: now,
                used_locally: now,
            }),
            sessions: watch::Sender::new(0),
            serving: watch::Sender::new(0),
            requests: AtomicUsize::new(0),
            undelivered: TaskTracker::new(),
            had_sessions: AtomicBool::new(false),
        })
    }

    /// What to do with the connection. `has_duplicate`: another connection leads to the same machine, and this is the one
    /// to close.
    pub(crate) fn verdict(&self, now: Instant, limits: &Limits, has_duplicate: bool) -> Verdict {
        let times = *self.times.lock();
        let idle = now.saturating_duration_since(times.used);
        let idle_locally = now.saturating_duration_since(times.used_locally);
        let most = limits.idle();
        let is_busy = self.sessions() > 0 || idle_locally < BUSY_WINDOW.min(most);
        if !self.is_occupied() {
            if !is_busy && idle > most {
                let why = "the connection was idle";
                return Verdict::Close(Refusal::new(RefusalCode::Idle, why));
            }
            if has_duplicate && idle > DUPLICATE_IDLE_TIMEOUT.min(most) {
                // A peer that has just sent a request over it sends it again over the other one: this code tells it that the
                // request was not looked at.
                let why = "another connection leads to the same machine";
                return Verdict::Close(Refusal::new(RefusalCode::Busy, why));
            }
        }
        if is_busy {
            Verdict::Ping
        } else {
            Verdict::Keep
        }
    }

    /// Whether the peer has been silent for so long that the connection is lost. QUIC's own timeout restarts with any
    /// packet, even a close from an unknown address.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.times.lock().heard) > GIVE_UP + RECOVERY
    }

    /// Records that something arrived from the peer.
    pub(crate) fn heard_now(&self) {
        self.times.lock().heard = Instant::now();
    }

    /// When the peer was last heard.
    pub(crate) fn heard(&self) -> Instant {
        self.times.lock().heard
    }

    /// Records a request of the peer other than a ping.
    pub(crate) fn used_by_peer(&self) {
        self.times.lock().used = Instant::now();
    }

    fn used_locally(&self) {
        let (now, mut times) = (Instant::now(), self.times.lock());
        (times.used, times.used_locally) = (now, now);
    }

    /// How long neither side has used the connection. Pings do not count.
    pub(crate) fn idle_for(&self) -> Duration {
        self.times.lock().used.elapsed()
    }

    /// The number of sessions that use the connection.
    pub(crate) fn sessions(&self) -> usize {
        *self.sessions.borrow()
    }

    /// Whether a session has ever used the connection.
    pub(crate) fn had_sessions(&self) -> bool {
        self.had_sessions.load(Ordering::Relaxed)
    }

    /// Whether a request of either side is running, a session uses the connection, or a stream is not yet delivered.
    pub(crate) fn is_occupied(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
            || self.sessions() > 0
            || !self.undelivered.is_empty()
    }

    /// Counts a session, which holds its share of the window.
    pub(crate) fn session(self: &Arc<Self>, share: Option<WindowShare>) -> InUse {
        self.sessions.send_modify(|sessions| *sessions += 1);
        self.had_sessions.store(true, Ordering::Relaxed);
        self.used_locally();
        InUse(self.clone(), share)
    }

    /// Counts a request of either side.
    pub(crate) fn request(self: &Arc<Self>) -> Occupied {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Occupied(self.clone())
    }

    /// Counts a command of the peer.
    pub(crate) fn serving(self: &Arc<Self>) -> Serving {
        self.serving.send_modify(|serving| *serving += 1);
        Serving(self.clone())
    }

    /// Counts a finished stream until the peer has received it or never can.
    pub(crate) fn deliver(&self, received: impl Future<Output = ()> + Send + 'static) {
        self.undelivered.spawn(received);
    }

    /// Waits until the peer has received all finished streams or never can.
    pub(crate) async fn delivered(&self) {
        self.undelivered.close();
        self.undelivered.wait().await;
    }

    /// Waits until no session uses the connection.
    pub(crate) async fn without_sessions(&self) {
        wait_for_zero(&self.sessions).await;
    }

    /// Waits until the peer has been told of the end of all its commands.
    pub(crate) async fn without_serving(&self) {
        wait_for_zero(&self.serving).await;
    }
}

async fn wait_for_zero(count: &watch::Sender<usize>) {
    // The sender lives as long as this borrow, so waiting cannot fail.
    let _ = count.subscribe().wait_for(|count| *count == 0).await;
}

/// A session that uses the connection.
#[derive(Debug)]
pub struct InUse(
    Arc<Activity>,
    #[expect(dead_code, reason = "held")] Option<WindowShare>,
);

/// A running request. While it exists, the connection is not closed to make room for others.
#[derive(Debug)]
pub(crate) struct Occupied(Arc<Activity>);

/// A command of the peer that runs here, or whose end it has not been told yet.
#[derive(Debug)]
pub(crate) struct Serving(Arc<Activity>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.sessions.send_modify(|sessions| *sessions -= 1);
        self.0.used_locally();
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.send_modify(|serving| *serving -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use malai_wire::RefusalCode::{Busy, Idle};

    use super::{Activity, Times, Verdict};
    use crate::net::endpoint::GIVE_UP;
    use crate::settings::limits::Limits;

    /// Long after a connection's beginning, with nothing in use.
    fn later() -> (Arc<Activity>, Instant) {
        let began = Instant::now();
        (Activity::new(began), began + Duration::from_secs(100_000))
    }

    /// Sets how long ago the connection was used, by either side and by this one.
    fn set_idle(activity: &Activity, now: Instant, seconds: u64, seconds_locally: u64) {
        *activity.times.lock() = Times {
            heard: now,
            used: now - Duration::from_secs(seconds),
            used_locally: now - Duration::from_secs(seconds_locally),
        };
    }

    /// The verdict in a word: what to do, or why it is closed.
    fn in_a_word(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Keep => "keep",
            Verdict::Ping => "ping",
            Verdict::Close(refusal) if refusal.code == Idle as u16 => "idle",
            Verdict::Close(refusal) if refusal.code == Busy as u16 => "duplicate",
            Verdict::Close(refusal) => panic!("{refusal:?}"),
        }
    }

    #[test]
    fn what_becomes_of_a_connection_follows_from_its_use() {
        let (limit, after) = (300, 301);
        let limits = Limits {
            idle_seconds: limit,
            ..Limits::default()
        };
        // Seconds since its last use, and since that by this side; with a session, with a request, with neither.
        let only = [
            (0, 0, ["ping", "ping", "ping"]),
            (59, 59, ["ping", "ping", "ping"]),
            (60, 60, ["ping", "keep", "keep"]),
            // The peer uses it.
            (0, after, ["ping", "keep", "keep"]),
            (300, 300, ["ping", "keep", "keep"]),
            (after, after, ["ping", "keep", "idle"]),
        ];
        let beside_another = [
            (0, 0, ["ping", "ping", "ping"]),
            (1, 1, ["ping", "ping", "ping"]),
            (2, 2, ["ping", "ping", "duplicate"]),
            // The peer uses it.
            (1, after, ["ping", "keep", "keep"]),
            (after, after, ["ping", "keep", "idle"]),
        ];
        let rows = only.map(|row| (row, false)).into_iter();
        for ((idle, idle_locally, expected), duplicate) in
            rows.chain(beside_another.map(|row| (row, true)))
        {
            let verdicts =
                [(true, false), (false, true), (false, false)].map(|(session, request)| {
                    let (activity, now) = later();
                    let _session = session.then(|| activity.session(None));
                    let _request = request.then(|| activity.request());
                    set_idle(&activity, now, idle, idle_locally);
                    in_a_word(activity.verdict(now, &limits, duplicate))
                });
            assert_eq!(
                verdicts, expected,
                "idle for {idle} s, {idle_locally} s locally, duplicate: {duplicate}"
            );
        }
    }

    #[test]
    fn a_short_idle_limit_also_ends_the_time_in_which_a_connection_counts_as_busy() {
        let limits = Limits {
            idle_seconds: 5,
            ..Limits::default()
        };
        for (idle, expected) in [(4, "ping"), (5, "keep"), (6, "idle")] {
            let (activity, now) = later();
            set_idle(&activity, now, idle, idle);
            assert_eq!(in_a_word(activity.verdict(now, &limits, false)), expected);
        }
    }

    #[test]
    fn a_peer_is_given_up_some_seconds_after_quic_would() {
        let (activity, heard) = later();
        set_idle(&activity, heard, 0, 0);
        let seconds = Duration::from_secs;
        assert!(!activity.is_lost(heard + GIVE_UP + seconds(4)));
        assert!(activity.is_lost(heard + GIVE_UP + seconds(5)));
    }

    #[tokio::test]
    async fn guards_count_until_they_are_dropped() {
        let activity = Activity::new(Instant::now());
        let (session, request, serving) = (
            activity.session(None),
            activity.request(),
            activity.serving(),
        );
        assert!(activity.is_occupied());
        drop(session);
        assert!(activity.is_occupied());
        activity.without_sessions().await;
        drop(request);
        assert!(!activity.is_occupied());
        let told = activity.clone();
        let told = tokio::spawn(async move { told.without_serving().await });
        drop(serving);
        told.await.unwrap();
    }
}
