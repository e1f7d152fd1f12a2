//! Who gets a slot, who is evicted, and that nothing stays counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use malai_cluster::SecretSeed;
use malai_wire::{RefusalCode, frame};

use super::{Bounds, Full, KeyedCounter, Limiter, Origin, Slot, SlotPool};

use crate::settings::limits::Limits;

fn limiter(change: impl FnOnce(&mut Limits)) -> Limiter {
    let mut limits = Limits::default();
    change(&mut limits);
    Limiter::new(limits)
}

fn bounds(all: usize, per_key: usize) -> Bounds {
    Bounds {
        all,
        per_key,
        min_age: Duration::ZERO,
    }
}

/// Whether a slot was evicted, and by which limit.
fn evicted<K>(slot: &Slot<K>) -> Option<Full> {
    slot.evicted_by()
}

#[test]
fn the_origin_that_fills_the_slots_loses_its_oldest() {
    let pool: Arc<SlotPool<char>> = Arc::default();
    let now = Instant::now();
    let enter = |key| pool.enter(key, bounds(6, 4), now).unwrap();
    let quiet = enter('q');
    let first = enter('a');
    let others: Vec<_> = (0..3).map(|_| enter('a')).collect();
    // The share of one key is full: its own oldest is evicted.
    let next = enter('a');
    assert_eq!(evicted(&first), Some(Full::PerKey));
    assert!(others.iter().all(|other| evicted(other).is_none()));
    // All slots are taken: the oldest of the key with most is evicted, not the oldest of all.
    let b = enter('b');
    let late = enter('c');
    assert_eq!(evicted(&others[0]), Some(Full::All));
    for kept in [&quiet, &b, &late, &next, &others[1]] {
        assert_eq!(evicted(kept), None);
    }
    drop((quiet, first, others, next, b, late));
    assert_eq!(pool.count(&'a'), (0, 0));
}

#[test]
fn what_is_pinned_or_has_just_begun_is_not_evicted() {
    let pool: Arc<SlotPool<()>> = Arc::default();
    let now = Instant::now();
    let min_age = Duration::from_secs(1);
    let enter = |now| {
        let bounds = Bounds {
            min_age,
            ..bounds(2, 9)
        };
        pool.enter((), bounds, now)
    };
    let (one, two) = (enter(now).unwrap(), enter(now).unwrap());
    one.pin();
    let no_slot = enter(now + min_age / 2).unwrap_err();
    assert_eq!(no_slot.evictable_at, Some(now + min_age));
    let third = enter(now + min_age).unwrap();
    assert!(evicted(&two).is_some() && evicted(&one).is_none());
    third.pin();
    let no_slot = enter(now + 9 * min_age).unwrap_err();
    assert_eq!((no_slot.by, no_slot.evictable_at), (Full::All, None));
}

#[tokio::test]
async fn a_slot_that_is_free_again_is_told_to_who_waits() {
    let pool: Arc<SlotPool<()>> = Arc::default();
    let now = Instant::now();
    let slot = pool.enter((), bounds(1, 1), now).unwrap();
    slot.pin();
    assert!(pool.enter((), bounds(1, 1), now).is_err());
    drop(slot);
    pool.freed().await;
    pool.enter((), bounds(1, 1), now).unwrap();
}

/// The second waits until the first has its least time; the third until a slot is free.
#[tokio::test]
async fn connections_wait_for_a_slot() {
    let limiter = limiter(|limits| limits.unauthenticated_connections_per_address = 1);
    let origin = Origin::Relay("one".to_owned());
    let first = limiter.unauthenticated(origin.clone()).unwrap();
    assert!(limiter.unauthenticated(origin.clone()).is_err());
    let second = limiter.wait_unauthenticated(&origin).await.unwrap();
    assert_eq!(evicted(&first), Some(Full::PerKey));
    second.pin();
    let third = limiter.wait_unauthenticated(&origin);
    tokio::pin!(third);
    assert!(at_once(third.as_mut()).await.is_none());
    drop(second);
    third.await.unwrap();
}

/// What a future gives at once.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    tokio::time::timeout(Duration::ZERO, future).await.ok()
}

#[test]
fn as_many_may_wait_as_there_are_slots() {
    let limiter = limiter(|limits| limits.unauthenticated_connections = 2);
    let waiting = (limiter.queue().unwrap(), limiter.queue().unwrap());
    assert!(limiter.queue().is_none());
    drop(waiting);
    assert!(limiter.queue().is_some());
}

#[test]
fn what_has_ended_is_counted_no_more() {
    let counted: Arc<KeyedCounter<u8>> = Arc::default();
    let one = counted.enter(1, 1, 3, 2).unwrap();
    let two = counted.enter(1, 1, 3, 2).unwrap();
    assert_eq!(counted.enter(1, 1, 3, 2).unwrap_err(), Full::PerKey);
    let three = counted.enter(2, 1, 3, 2).unwrap();
    assert_eq!(counted.enter(3, 1, 3, 2).unwrap_err(), Full::All);
    drop((one, two, three));
    assert_eq!(counted.count(&1), (0, 0));
}

#[test]
fn a_refusal_names_the_limit_and_where_it_is_written() {
    let limiter = limiter(|limits| {
        limits.sessions_per_peer = 1;
        limits.sessions = 2;
        limits.local_sessions = 1;
        limits.requests_per_peer = 1;
    });
    let [a, b, c] = [1, 2, 3].map(|byte| SecretSeed::from_bytes([byte; 32]).id());
    let _held = (limiter.session(a).unwrap(), limiter.session(b).unwrap());
    let _own = limiter.local_session().unwrap();
    let _request = limiter.request(a).unwrap();
    for (refused, name) in [
        (limiter.session(a).unwrap_err(), "sessions_per_peer = 1"),
        (limiter.session(c).unwrap_err(), "sessions = 2"),
        (limiter.local_session().unwrap_err(), "local_sessions = 1"),
        (limiter.request(a).unwrap_err(), "requests_per_peer = 1"),
    ] {
        assert_eq!(refused.known_code(), Some(RefusalCode::Busy));
        assert!(refused.message.contains(name), "{refused:?}");
        assert!(refused.message.contains("malai.toml"), "{refused:?}");
    }
    assert!(limiter.replace(Limits::default()) && !limiter.replace(Limits::default()));
    let _more = limiter.session(a).unwrap();
}

#[tokio::test]
async fn large_frames_wait_for_buffer_space_and_small_ones_do_not() {
    let limiter = limiter(|_| {});
    let [a, b, c, d] = [1, 2, 3, 4].map(|byte| SecretSeed::from_bytes([byte; 32]).id());
    let soon = || tokio::time::Instant::now() + Duration::from_millis(50);
    let reserve = |peer, length| limiter.reserve(peer, length, soon());
    let first = reserve(a, frame::OPEN).await.unwrap();
    let refused = reserve(a, frame::OPEN).await.unwrap_err();
    let name = "inflight_request_bytes_per_peer = ";
    assert!(refused.message.contains(name), "{refused:?}");
    reserve(a, frame::SMALL).await.unwrap();
    // One member's are no other's, until all are used.
    let others = (reserve(b, frame::OPEN).await, reserve(c, frame::OPEN).await);
    assert!(others.0.is_ok() && others.1.is_ok());
    let refused = reserve(d, frame::OPEN).await.unwrap_err();
    let name = "inflight_request_bytes = ";
    assert!(refused.message.contains(name), "{refused:?}");
    drop((first, others));
    reserve(a, frame::OPEN).await.unwrap();
    let _ = reserve(b, frame::SMALL + 1).await;
    assert!(limiter.inflight.lock().peers() <= 1);
}

#[test]
fn an_origin_is_what_one_owner_has() {
    let origin = |text: &str| Origin::from(iroh::endpoint::IncomingAddr::Ip(text.parse().unwrap()));
    assert_eq!(origin("10.0.0.1:1"), origin("[::ffff:10.0.0.1]:2"));
    assert_ne!(origin("10.0.0.1:1"), origin("10.0.0.2:1"));
    assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff:2]:1"));
    assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
}
