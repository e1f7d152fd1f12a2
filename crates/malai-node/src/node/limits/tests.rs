//! Who gets a place, who gives way, and that nothing stays counted.

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::SecretSeed;
use malai_wire::{RefusalCode, frame};
use tokio::time::timeout;

use super::{Full, KeyedCounter, Limiter, Origin, SlotPool};

use crate::settings::limits::Limits;

fn limiter(change: impl FnOnce(&mut Limits)) -> Limiter {
    let mut limits = Limits::default();
    change(&mut limits);
    Limiter::new(limits)
}

#[test]
fn whoever_fills_the_places_gives_way_and_nobody_else() {
    let crowd: Arc<SlotPool<char>> = Arc::default();
    let enter = |key| crowd.enter(key, 6, 4).0.unwrap();
    let quiet = enter('q');
    let first = enter('a');
    let others: Vec<_> = (0..3).map(|_| enter('a')).collect();
    // The share of one key is full: its own oldest gives way.
    let next = enter('a');
    assert!(first.gives_way.is_cancelled());
    assert!(!others.iter().any(|other| other.gives_way.is_cancelled()));
    // All places are taken: the oldest of the key with most gives way, not the oldest of all.
    let b = enter('b');
    let late = enter('c');
    assert!(others[0].gives_way.is_cancelled());
    for kept in [&quiet, &b, &late, &next, &others[1]] {
        assert!(!kept.gives_way.is_cancelled());
    }
    drop((quiet, first, others, next, b, late));
    assert_eq!(crowd.count(&'a'), (0, 0));
}

#[test]
fn who_stays_does_not_give_way() {
    let crowd: Arc<SlotPool<()>> = Arc::default();
    let slots: Vec<_> = (0..2).map(|_| crowd.enter((), 2, 9).0.unwrap()).collect();
    slots[0].stays();
    let third = crowd.enter((), 2, 9).0.unwrap();
    assert!(slots[1].gives_way.is_cancelled() && !slots[0].gives_way.is_cancelled());
    third.stays();
    assert!(crowd.enter((), 2, 9).0.is_none());
}

#[test]
fn what_has_ended_is_counted_no_more() {
    let counted: Arc<KeyedCounter<u8>> = Arc::default();
    let one = counted.enter(1, 3, 2).unwrap();
    let two = counted.enter(1, 3, 2).unwrap();
    assert_eq!(counted.enter(1, 3, 2).unwrap_err(), Full::PerKey);
    let three = counted.enter(2, 3, 2).unwrap();
    assert_eq!(counted.enter(3, 3, 2).unwrap_err(), Full::All);
    drop((one, two, three));
    let inner = counted.0.lock();
    assert!(inner.0 == 0 && inner.1.is_empty());
}

#[test]
fn a_refusal_names_the_limit_and_where_it_is_written() {
    let limiter = limiter(|limits| {
        limits.sessions_per_peer = 1;
        limits.sessions = 2;
        limits.own_sessions = 1;
        limits.requests_per_peer = 1;
    });
    let [a, b, c] = [1, 2, 3].map(|byte| SecretSeed::from_bytes([byte; 32]).id());
    let _held = (limiter.session(a).unwrap(), limiter.session(b).unwrap());
    let _own = limiter.own_session().unwrap();
    let _request = limiter.request(a).unwrap();
    for (refused, name) in [
        (limiter.session(a).unwrap_err(), "sessions_per_peer = 1"),
        (limiter.session(c).unwrap_err(), "sessions = 2"),
        (limiter.own_session().unwrap_err(), "own_sessions = 1"),
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
async fn large_frames_wait_for_room_and_small_ones_do_not() {
    let limiter = limiter(|_| {});
    let [a, b] = [1, 2].map(|byte| SecretSeed::from_bytes([byte; 32]).id());
    let first = limiter.room(a, frame::OPEN).await;
    let soon = Duration::from_millis(50);
    assert!(timeout(soon, limiter.room(a, frame::OPEN)).await.is_err());
    timeout(soon, limiter.room(a, frame::SMALL)).await.unwrap();
    // One member's are no other's.
    let other = timeout(soon, limiter.room(b, frame::OPEN)).await.unwrap();
    drop(first);
    let again = timeout(soon, limiter.room(a, frame::OPEN)).await.unwrap();
    drop((again, other));
    let _ = limiter.room(b, frame::SMALL + 1).await;
    assert!(limiter.arriving.lock().of_peer.len() <= 1);
}

#[test]
fn an_origin_is_what_one_owner_has() {
    let origin = |text: &str| Origin::from(iroh::endpoint::IncomingAddr::Ip(text.parse().unwrap()));
    assert_eq!(origin("10.0.0.1:1"), origin("[::ffff:10.0.0.1]:2"));
    assert_ne!(origin("10.0.0.1:1"), origin("10.0.0.2:1"));
    assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff:2]:1"));
    assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
}
