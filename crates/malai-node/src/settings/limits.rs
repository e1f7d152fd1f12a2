//! `[limits]` in `malai.toml`: how much of this computer others may use, and for how long.

use std::fmt::Write;
use std::time::Duration;

use malai_wire::{Refusal, RefusalCode};
use toml::Spanned;
use toml::de::DeValue;

use super::Reader;

/// One limit, as shown in the table of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Its key in `[limits]`.
    pub name: &'static str,
    /// The unit of its value.
    pub unit: &'static str,
    /// The value if the file does not set it.
    pub default: u32,
    /// The smallest value allowed.
    pub least: u32,
    /// The largest value allowed.
    pub most: u32,
    /// What it bounds, and what happens when it is reached.
    pub what: &'static str,
}

macro_rules! limits {
    ($($name:ident: $unit:literal = $default:expr, $least:expr => $most:expr; $what:literal)+) => {
        /// The limits in force. Each is documented, with its unit, in [`Limits::ALL`] and `docs/limits.md`.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = concat!($what, " Unit: ", $unit, ".")] pub $name: u32,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// All limits, in the order of the documentation.
            pub const ALL: &[Limit] = &[$(Limit {
                name: stringify!($name),
                unit: $unit,
                default: $default,
                least: $least,
                most: $most,
                what: $what,
            },)+];

            fn field(&mut self, name: &str) -> Option<&mut u32> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }
        }
    };
}

limits! {
    unauthenticated_connections: "connections" = 256, 8 => 65_536;
        "Connections, over all clusters, that are in their handshake or whose peer is not yet known to be a member. When all slots are taken, the oldest connection of the address that has the most is closed, unless it is younger than 100 ms; a new connection then waits for a slot, up to 2 s."
    unauthenticated_connections_per_address: "connections" = 64, 4 => 65_536;
        "The same, per source address (IPv6: per /64; relayed: per relay). Once half of them are taken, an address has to prove itself first (a QUIC retry)."
    handshake_seconds: "seconds" = 5, 1 => 60;
        "The longest time for a handshake."
    greeting_seconds: "seconds" = 3, 1 => 60;
        "The longest time for the hello after the handshake. A member, and a machine that was dialed, may be slow and have 30 s, as for any silence."
    connections: "connections" = 2_048, 8 => 65_536;
        "Connections with members, per cluster. At the limit, the one unused for longest is closed; if all are in use, the new one is refused. A manager has up to two with each machine."
    connections_per_peer: "connections" = 64, 2 => 65_536;
        "The same, per member. A command without a daemon has its own connection."
    requests_per_peer: "streams" = 256, 8 => 16_384;
        "Requests (commands, comparisons, liveness pings, but not connections to services) that one member may have open here, over all its connections. Further requests are refused."
    sessions: "commands" = 512, 1 => 65_536;
        "Commands of other machines that run here, over all clusters. Further ones are refused."
    sessions_per_peer: "commands" = 128, 1 => 65_536;
        "The same, per member."
    local_sessions: "commands" = 2_048, 1 => 65_536;
        "Commands that this computer's own command lines run through the daemon. Further ones are refused. `malai --parallel` starts up to 512 at once."
    forwards: "connections" = 4_096, 1 => 65_536;
        "Connections of other machines to services of this one, over all clusters. Further ones are refused."
    forwards_per_peer: "connections" = 1_024, 1 => 16_384;
        "The same, per member."
    local_forwards: "connections" = 4_096, 1 => 65_536;
        "Connections that `malai forward` of this computer passes on through the daemon. Further ones are closed."
    http_header_bytes: "bytes" = 65_536, 8_192 => 1_048_576;
        "The longest header of a request to an HTTP service, and of its answer. A longer one is answered with 431 or 502. It has at most 100 lines."
    http_header_seconds: "seconds" = 60, 1 => 3_600;
        "The longest time until the header of a request to an HTTP service is complete, from the start of its connection or the end of the answer before. Then the connection is closed."
    browser_connections: "connections" = 256, 8 => 65_536;
        "Connections of browsers to this computer's `malai browse`. Further ones are closed. What they ask for counts as `local_forwards`."
    control_connections: "connections" = 1_024, 4 => 65_536;
        "Command lines connected to the control socket without a running command. At the limit, one that has been silent for a second is closed with an error; if there is none, a new one waits for at most a second and is then refused."
    argument_bytes: "bytes" = 6_291_456, 1_024 => 6_291_456;
        "The largest argument list that is accepted, as encoded (the arguments and a few bytes for each). A longer one is refused."
    inflight_request_bytes: "bytes" = 25_165_824, 8_388_608 => 1_073_741_824;
        "Memory for argument lists over 16 KiB that are being received. Further ones wait for at most `opening_seconds` and are then refused."
    inflight_request_bytes_per_peer: "bytes" = 8_388_608, 6_307_840 => 1_073_741_824;
        "The same, per member."
    receive_bytes: "bytes" = 268_435_456, 4_194_304 => 4_294_967_295;
        "Input in flight to commands and services of other machines, sent but not yet read by them: 2 MiB per command or connection to a service while less than half of this is in use, then 128 KiB per command and 16 KiB per connection; 64 KiB per terminal. Further commands with an input and further connections are refused."
    receive_bytes_per_peer: "bytes" = 50_331_648, 2_097_152 => 4_294_967_295;
        "The same, per member, over all its connections: 12 commands with 2 MiB and 192 more with 128 KiB, or 768 terminals. Credit that a connection was granted for commands that have ended counts until it is used."
    send_bytes: "bytes" = 268_435_456, 2_097_152 => 4_294_967_295;
        "Output of commands in flight to members, sent but not yet acknowledged by them: 2 MiB per connection that had a command. Commands on further connections are refused."
    send_bytes_per_peer: "bytes" = 67_108_864, 2_097_152 => 4_294_967_295;
        "The same, per member: 32 connections with commands. A daemon has one connection for all its commands; a command without a daemon has its own."
    requests_per_second_per_peer: "requests" = 500, 10 => 1_000_000;
        "Requests of one member that are started per second, over all its connections, after an initial burst of as many. Further ones wait; other members do not."
    connections_per_second_per_peer: "connections" = 100, 5 => 1_000_000;
        "New connections of one key per second, after an initial burst of as many. Further ones are closed."
    opening_seconds: "seconds" = 10, 1 => 120;
        "The longest time for a member to send the request on a stream, including its argument list."
    fetches: "downloads" = 2, 1 => 64;
        "Configurations fetched from members in parallel (each up to 16 MiB), plus one from peers that are not known to be members."
    deliveries_per_minute: "connections" = 30, 1 => 10_000;
        "Connections of unknown keys, over all clusters, that are kept because they announce a newer configuration with the manager's signature, after an initial burst of as many. Further ones are closed."
    idle_seconds: "seconds" = 600, 5 => 86_400;
        "A connection that this side keeps for reuse is closed after this time without use."
    pending_joins: "keys" = 32, 0 => 1_024;
        "Keys that a manager lists as asking to join. The oldest are kept."
    pending_joins_per_address: "keys" = 4, 1 => 1_024;
        "The same, per address."
    concurrent_pushes: "machines" = 64, 1 => 1_024;
        "How many machines a manager pushes a new configuration to in parallel."
}

impl Limits {
    /// The longest time for a handshake.
    pub fn handshake(&self) -> Duration {
        seconds(self.handshake_seconds)
    }

    /// The longest time for a hello.
    pub fn greeting(&self) -> Duration {
        seconds(self.greeting_seconds)
    }

    /// The longest time for the request at the start of a stream.
    pub fn opening(&self) -> Duration {
        seconds(self.opening_seconds)
    }

    /// The time after which an unused connection is closed.
    pub fn idle(&self) -> Duration {
        seconds(self.idle_seconds)
    }

    /// The table of all limits, in Markdown.
    pub fn table() -> String {
        let mut table =
            "| name | default | min | max | unit | meaning |\n|---|---|---|---|---|---|\n"
                .to_owned();
        for limit in Self::ALL {
            let Limit {
                name,
                unit,
                default,
                least,
                most,
                what,
            } = limit;
            let _ = writeln!(
                table,
                "| `{name}` | {default} | {least} | {most} | {unit} | {what} |"
            );
        }
        table
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// The message when a limit is reached: its name, its value, and where to change it.
pub(crate) fn reached(name: &str, value: u32) -> String {
    debug_assert!(Limits::ALL.iter().any(|limit| limit.name == name));
    format!(
        "a limit of this machine is reached: {name} = {value}; its owner can change it under [limits] in malai.toml"
    )
}

/// The refusal when a limit is reached.
pub(crate) fn busy(name: &str, value: u32) -> Refusal {
    Refusal::new(RefusalCode::Busy, reached(name, value))
}

impl Reader<'_> {
    /// `[limits]`.
    pub(super) fn limits(&mut self, value: &Spanned<DeValue<'_>>) -> Limits {
        let mut limits = Limits::default();
        for (key, value) in self.table(value, "limits").into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let (Some(limit), Some(field)) = (
                Limits::ALL.iter().find(|limit| limit.name == name),
                limits.field(name),
            ) else {
                let known: Vec<_> = Limits::ALL.iter().map(|limit| limit.name).collect();
                self.unknown(key, "[limits]", &known);
                continue;
            };
            let Some(number) = value.get_ref().as_integer() else {
                let help = format!("write it without quotes, as in {name} = {}", limit.default);
                self.wrong_type(value, name, "a whole number", &help);
                continue;
            };
            let number = i64::from_str_radix(number.as_str(), number.radix());
            match number.ok().and_then(|number| u32::try_from(number).ok()) {
                Some(number) if (limit.least..=limit.most).contains(&number) => *field = number,
                _ => {
                    let (least, most, unit) = (limit.least, limit.most, limit.unit);
                    self.problem(
                        value.span(),
                        format!("{name} is a number from {least} to {most} ({unit})"),
                        Some(format!("the default is {}", limit.default)),
                    );
                }
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::Settings;

    fn problems(source: &str) -> Vec<(usize, usize, String)> {
        let problems = Settings::parse("malai.toml", source).expect_err("accepted");
        let shown = problems.into_iter().map(|problem| {
            let help = problem.help.unwrap_or_default();
            (
                problem.line,
                problem.column,
                format!("{} | {help}", problem.message),
            )
        });
        shown.collect()
    }

    #[test]
    fn defaults_are_in_their_ranges_and_every_limit_can_be_written() {
        for limit in Limits::ALL {
            assert!(
                (limit.least..=limit.most).contains(&limit.default),
                "{limit:?}"
            );
            for number in [limit.least, limit.most] {
                let source = format!("[limits]\n{} = {number}\n", limit.name);
                let mut limits = Settings::parse("malai.toml", &source).unwrap().limits;
                assert_eq!(*limits.field(limit.name).unwrap(), number, "{limit:?}");
                *limits.field(limit.name).unwrap() = limit.default;
                assert_eq!(limits, Limits::default());
            }
            for number in [i64::from(limit.least) - 1, i64::from(limit.most) + 1] {
                let found = problems(&format!("[limits]\n{} = {number}\n", limit.name));
                assert_eq!((found.len(), found[0].0), (1, 2), "{found:?}");
                assert!(found[0].2.contains(limit.name), "{found:?}");
            }
        }
    }

    #[test]
    fn mistakes_are_shown_where_they_stand() {
        let found = problems(
            "[limits]\nsesions = 3\nsessions = \"3\"\npending_joins = 99999999999\ncontrol_connections = 1\n",
        );
        let places: Vec<_> = found
            .iter()
            .map(|(line, column, _)| (*line, *column))
            .collect();
        assert_eq!(places, [(2, 1), (3, 12), (4, 17), (5, 23)], "{found:#?}");
        assert!(found[0].2.contains("did you mean sessions?"), "{found:#?}");
        assert!(found[1].2.contains("a whole number"), "{found:#?}");
        assert!(found[2].2.contains("from 0 to 1024 (keys)"), "{found:#?}");
        assert!(found[3].2.contains("from 4 to 65536"), "{found:#?}");
        assert_eq!(problems("limits = 3\n").len(), 1);
    }

    #[test]
    fn the_page_shows_the_limits_of_the_code() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
        let text = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(
            text.contains(&Limits::table()),
            "{} does not have the table of the code:\n\n{}",
            page.display(),
            Limits::table()
        );
    }
}
