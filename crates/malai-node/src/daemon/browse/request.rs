//! What a request of a browser says about where it comes from, and malai's cookie in it.

use hyper::header::{COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN, SET_COOKIE};

/// malai's cookie.
const COOKIE_NAME: &str = "malai-browse";

/// The path of a link, before its token.
pub(super) const LINK_PATH: &str = "/malai-browse/";

/// The end of the host names: every browser knows that they are this computer (RFC 6761).
const SUFFIX: &str = ".localhost";

/// A request that is not for a browser that malai has let in, as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// Another name for this computer: a page of elsewhere may have had it resolve to here.
    #[error("this address is not one that `malai browse` opens")]
    Host,
    /// A page of another origin has sent it.
    #[error("a page of another address has sent this request; open the service by `malai browse`")]
    Origin,
}

/// The host name of a service.
pub(super) fn host(service: &str, cluster: &str) -> String {
    format!("{service}.{cluster}{SUFFIX}")
}

/// The service and its cluster that a host name means.
pub(super) fn service_of(host: &str) -> Option<(&str, &str)> {
    host.strip_suffix(SUFFIX)?.split_once('.')
}

/// Checks where a request comes from; returns its host name.
///
/// # Errors
///
/// It is not for a page that malai has opened, or not from one.
pub(super) fn check(fields: &HeaderMap, port: u16) -> Result<&str, Foreign> {
    let mut hosts = fields.get_all(HOST).into_iter();
    let (Some(written), None) = (hosts.next(), hosts.next()) else {
        return Err(Foreign::Host);
    };
    let written = written.to_str().map_err(|_| Foreign::Host)?;
    let name = written.strip_suffix(&format!(":{port}"));
    let name = name.ok_or(Foreign::Host)?;
    if service_of(name).is_none() {
        return Err(Foreign::Host);
    }
    let own = format!("http://{written}");
    if fields
        .get_all(ORIGIN)
        .iter()
        .any(|origin| origin.as_bytes() != own.as_bytes())
    {
        return Err(Foreign::Origin);
    }
    // Typed or opened from outside, or sent by the service's own page. Other services of the cluster are other pages.
    let mut sites = fields.get_all("sec-fetch-site").into_iter();
    let own = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    match sites.all(own) {
        true => Ok(name),
        false => Err(Foreign::Origin),
    }
}

/// Takes malai's cookies out of a request, which keeps the service's own.
pub(super) fn take_cookies(fields: &mut HeaderMap) -> Vec<String> {
    let mut taken = Vec::new();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for written in fields.get_all(COOKIE) {
        for pair in written.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (&b""[..], pair),
            };
            if name
                .trim_ascii()
                .eq_ignore_ascii_case(COOKIE_NAME.as_bytes())
            {
                taken.push(String::from_utf8_lossy(value).trim().to_owned());
            } else if !pair.is_empty() {
                kept.push(pair.to_vec());
            }
        }
    }
    fields.remove(COOKIE);
    if let Ok(kept) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
        && !kept.is_empty()
    {
        fields.insert(COOKIE, kept);
    }
    taken
}

/// The field that gives a browser its cookie. It has no `Domain`, so it is sent to this host alone.
pub(super) fn set_cookie(secret: &str) -> String {
    format!("{COOKIE_NAME}={secret}; Path=/; HttpOnly; SameSite=Strict")
}

/// Removes fields of an answer that would replace malai's cookie.
pub(super) fn keep_cookie(fields: &mut HeaderMap) {
    let sets_ours = |value: &HeaderValue| {
        let name = value
            .as_bytes()
            .split(|byte| *byte == b'=' || *byte == b';')
            .next();
        name.is_some_and(|name| {
            name.trim_ascii()
                .eq_ignore_ascii_case(COOKIE_NAME.as_bytes())
        })
    };
    let all: Vec<HeaderValue> = fields.get_all(SET_COOKIE).iter().cloned().collect();
    if all.iter().any(sets_ours) {
        fields.remove(SET_COOKIE);
        for value in all.into_iter().filter(|value| !sets_ours(value)) {
            fields.append(SET_COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    #[test]
    fn only_a_page_of_its_own_may_ask() {
        let host = ("host", "grafana.company.localhost:8000");
        let own = "http://grafana.company.localhost:8000";
        for (more, expected) in [
            (&[host][..], Ok("grafana.company.localhost")),
            (
                &[host, ("origin", own), ("sec-fetch-site", "same-origin")],
                Ok("grafana.company.localhost"),
            ),
            (
                &[host, ("sec-fetch-site", "none")],
                Ok("grafana.company.localhost"),
            ),
            (&[], Err(Foreign::Host)),
            (&[host, host], Err(Foreign::Host)),
            (&[("host", "grafana.company.localhost")], Err(Foreign::Host)),
            (
                &[("host", "grafana.company.localhost:80001")],
                Err(Foreign::Host),
            ),
            (&[("host", "localhost:8000")], Err(Foreign::Host)),
            (&[("host", "company.localhost:8000")], Err(Foreign::Host)),
            (&[("host", "127.0.0.1:8000")], Err(Foreign::Host)),
            (&[("host", "evil.example:8000")], Err(Foreign::Host)),
            (
                &[("host", "grafana.company.localhost.evil.example:8000")],
                Err(Foreign::Host),
            ),
            (
                &[host, ("origin", "http://evil.example")],
                Err(Foreign::Origin),
            ),
            (&[host, ("origin", "null")], Err(Foreign::Origin)),
            (
                &[host, ("origin", "https://grafana.company.localhost:8000")],
                Err(Foreign::Origin),
            ),
            (
                &[host, ("origin", "http://other.company.localhost:8000")],
                Err(Foreign::Origin),
            ),
            (
                &[host, ("origin", own), ("origin", "http://evil.example")],
                Err(Foreign::Origin),
            ),
            (
                &[host, ("sec-fetch-site", "cross-site")],
                Err(Foreign::Origin),
            ),
            (
                &[host, ("sec-fetch-site", "same-site")],
                Err(Foreign::Origin),
            ),
        ] {
            assert_eq!(check(&fields(more), 8000), expected, "{more:?}");
        }
    }

    #[test]
    fn the_service_gets_its_own_cookies_and_not_malais() {
        for (lines, taken, kept) in [
            (
                &[("cookie", "a=1; malai-browse=x; b=2")][..],
                &["x"][..],
                Some("a=1; b=2"),
            ),
            (&[("cookie", "malai-browse=x")], &["x"], None),
            (
                &[("cookie", "a=1"), ("cookie", "MALAI-BROWSE = y;b")],
                &["y"],
                Some("a=1; b"),
            ),
            (
                &[("cookie", "a=malai-browse=x")],
                &[],
                Some("a=malai-browse=x"),
            ),
            (&[], &[], None),
        ] {
            let mut fields = fields(lines);
            assert_eq!(take_cookies(&mut fields), taken, "{lines:?}");
            let left = fields.get(COOKIE).map(|value| value.to_str().unwrap());
            assert_eq!(left, kept, "{lines:?}");
        }
        let mut answer = fields(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "Malai-Browse=; Max-Age=0"),
            ("set-cookie", "b=2"),
        ]);
        keep_cookie(&mut answer);
        assert_eq!(
            answer,
            fields(&[("set-cookie", "a=1"), ("set-cookie", "b=2")])
        );
    }
}
