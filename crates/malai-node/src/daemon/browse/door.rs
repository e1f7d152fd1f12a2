//! Which browsers are let in: one that came with the token of a link, which works once, has a cookie from then on.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::SysRng;

/// How long a link works.
const LINK: Duration = Duration::from_secs(60);

/// How many links wait to be opened, and how many browsers are known. The oldest make room.
const MOST_LINKS: usize = 64;
const MOST_BROWSERS: usize = 256;

/// A secret is kept as its hash: it is compared in a time that says nothing, and not in memory to be found.
type Hash = blake3::Hash;

/// What may be used, by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pass {
    /// The service's host name in links.
    pub host: String,
    /// The user of this computer whose browser it is.
    pub user: u32,
}

/// The links that were made, and the browsers that were let in.
#[derive(Debug, Default)]
pub(super) struct Door {
    links: VecDeque<(Hash, Pass, Instant)>,
    browsers: VecDeque<(Hash, Pass)>,
}

impl Door {
    /// The token of a new link.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub(super) fn link(&mut self, pass: Pass, now: Instant) -> io::Result<String> {
        let secret = secret()?;
        self.links.push_back((hash(&secret), pass, now));
        if self.links.len() > MOST_LINKS {
            self.links.pop_front();
        }
        Ok(secret)
    }

    /// Exchanges a token for a cookie; `None` if it is unknown, used, too old, or somebody else's.
    pub(super) fn enter(&mut self, token: &str, pass: &Pass, now: Instant) -> Option<String> {
        self.links
            .retain(|(_, _, made)| now.duration_since(*made) < LINK);
        let wanted = hash(token);
        let found = self.links.iter().position(|(link, _, _)| *link == wanted)?;
        if self.links[found].1 != *pass {
            return None;
        }
        let cookie = secret().ok()?;
        self.links.remove(found);
        self.browsers.push_back((hash(&cookie), pass.clone()));
        if self.browsers.len() > MOST_BROWSERS {
            self.browsers.pop_front();
        }
        Some(cookie)
    }

    /// Whether a cookie lets in.
    pub(super) fn admits(&self, cookie: &str, pass: &Pass) -> bool {
        let wanted = hash(cookie);
        let mut known = self.browsers.iter();
        known.any(|(browser, known)| *browser == wanted && known == pass)
    }
}

fn hash(secret: &str) -> Hash {
    blake3::hash(secret.as_bytes())
}

/// 256 random bits as text.
fn secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(io::Error::other)?;
    Ok(blake3::Hash::from_bytes(bytes).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(host: &str, user: u32) -> Pass {
        Pass {
            host: host.to_owned(),
            user,
        }
    }

    #[test]
    fn a_link_works_once_and_for_a_minute_and_for_its_user_and_service() {
        let (mut door, now) = (Door::default(), Instant::now());
        let (mine, other) = (pass("a.x.localhost", 1000), pass("b.x.localhost", 1000));
        let token = door.link(mine.clone(), now).unwrap();
        assert_eq!(door.enter("", &mine, now), None);
        assert_eq!(door.enter(&token, &other, now), None);
        assert_eq!(door.enter(&token, &pass("a.x.localhost", 1001), now), None);
        let cookie = door.enter(&token, &mine, now).unwrap();
        assert_eq!(door.enter(&token, &mine, now), None);
        assert!(door.admits(&cookie, &mine));
        assert!(!door.admits(&cookie, &other));
        assert!(!door.admits(&cookie, &pass("a.x.localhost", 1001)));
        assert!(!door.admits(&token, &mine));
        let late = door.link(mine.clone(), now).unwrap();
        assert_eq!(door.enter(&late, &mine, now + LINK), None);
    }

    #[test]
    fn the_oldest_make_room() {
        let (mut door, now) = (Door::default(), Instant::now());
        let mine = pass("a.x.localhost", 1000);
        let first = door.link(mine.clone(), now).unwrap();
        let mut last = String::new();
        for _ in 0..MOST_LINKS {
            last = door.link(mine.clone(), now).unwrap();
        }
        assert_eq!(door.enter(&first, &mine, now), None);
        assert!(door.enter(&last, &mine, now).is_some());
    }
}
