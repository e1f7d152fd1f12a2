//! Which header fields are passed on: not those that concern one connection alone (RFC 9110 §7.6.1), and not those by
//! which a service knows its client.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

/// Fields of this prefix are malai's alone.
const OURS: &str = "malai-client-";

/// Fields that concern one connection, whether or not `Connection` names them.
const OF_ONE_CONNECTION: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    UPGRADE,
    TRANSFER_ENCODING,
];

/// Whether a service could take a field for one of malai's. Many read names as variables of the environment, in which
/// everything but letters and digits is an underscore.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let same = |(byte, wanted): (&u8, u8)| match wanted {
        b'-' => !byte.is_ascii_alphanumeric(),
        letter => byte.eq_ignore_ascii_case(&letter),
    };
    name.len() >= OURS.len() && name.iter().zip(OURS.bytes()).all(same)
}

/// Removes the fields that say who the client is, in any spelling.
pub(super) fn remove_ours(fields: &mut HeaderMap) {
    let forged: Vec<HeaderName> = fields
        .keys()
        .filter(|name| is_ours(name))
        .cloned()
        .collect();
    for name in forged {
        fields.remove(name);
    }
}

/// The words of a field that is a list, in lowercase.
fn words<'f>(fields: &'f HeaderMap, name: &'f HeaderName) -> impl Iterator<Item = String> + 'f {
    let values = fields.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_ascii_lowercase())
        .filter(|word| !word.is_empty())
}

/// What a message wants to switch to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// Nothing that is passed on.
    None,
    /// WebSocket (RFC 6455).
    WebSocket,
    /// HTTP/2 without TLS.
    Http2,
}

/// What the `Upgrade` of a message asks for, or agrees to.
pub(super) fn switch(fields: &HeaderMap) -> Switch {
    if words(fields, &UPGRADE).any(|word| word == "h2c") {
        return Switch::Http2;
    }
    let wants = words(fields, &CONNECTION).any(|word| word == "upgrade");
    match wants && words(fields, &UPGRADE).any(|word| word == "websocket") {
        true => Switch::WebSocket,
        false => Switch::None,
    }
}

/// Removes what concerns the connection that the message came on. A client could otherwise have the next one remove
/// what malai adds, by naming it in `Connection`.
pub(super) fn remove_of_connection(fields: &mut HeaderMap) {
    let named: Vec<String> = words(fields, &CONNECTION).collect();
    let takes_trailers = words(fields, &TE).any(|word| word == "trailers");
    fields.remove(CONNECTION);
    for name in named {
        // The length of a body is no matter of one connection, even if it is named there.
        if name != CONTENT_LENGTH.as_str() {
            fields.remove(name);
        }
    }
    for name in OF_ONE_CONNECTION {
        fields.remove(name);
    }
    fields.remove(TE);
    if takes_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Asks for a switch to WebSocket, or agrees to one.
pub(super) fn set_web_socket(fields: &mut HeaderMap) {
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// The fields that say who the client is.
pub(super) fn ours(id52: &str, machine: Option<&str>, cluster: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let all = [
        ("malai-client-id52", Some(id52)),
        ("malai-client-machine", machine),
        ("malai-client-cluster", Some(cluster)),
    ];
    for (name, value) in all {
        // Keys and names are letters, digits and hyphens.
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
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
    fn names_of_malai_in_any_spelling() {
        for name in [
            "malai-client-id52",
            "Malai-Client-Machine",
            "MALAI_CLIENT_ID52",
            "malai_client-cluster",
            "malai.client.id52",
            "malai~client^id52",
            "malai-client-anything",
            "malai-client-",
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert!(is_ours(&name), "{name}");
        }
        for name in [
            "malai-client",
            "x-malai-client-id52",
            "malaiclientid52",
            "host",
        ] {
            assert!(!is_ours(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut found = fields(&[
            ("connection", "keep-alive, X-Secret"),
            ("connection", "malai-client-id52, content-length"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("upgrade", "tls/1.0"),
            ("content-length", "3"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ]);
        remove_of_connection(&mut found);
        let kept = fields(&[
            ("content-length", "3"),
            ("te", "trailers"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ]);
        assert_eq!(found, kept);
    }

    #[test]
    fn only_a_web_socket_is_a_switch() {
        for (lines, expected) in [
            (&[("upgrade", "websocket")][..], Switch::None),
            (
                &[("connection", "Upgrade"), ("upgrade", "WebSocket")],
                Switch::WebSocket,
            ),
            (
                &[
                    ("connection", "keep-alive, upgrade"),
                    ("upgrade", "x, websocket"),
                ],
                Switch::WebSocket,
            ),
            (
                &[("connection", "upgrade"), ("upgrade", "TLS/1.0")],
                Switch::None,
            ),
            (
                &[
                    ("connection", "Upgrade, HTTP2-Settings"),
                    ("upgrade", "h2c"),
                ],
                Switch::Http2,
            ),
            (
                &[("connection", "upgrade"), ("upgrade", "websocket, H2C")],
                Switch::Http2,
            ),
        ] {
            assert_eq!(switch(&fields(lines)), expected, "{lines:?}");
        }
    }
}
