//! What goes in comes out, and nothing that arrives makes a reader panic.

use malai_cluster::{Claim, ClusterId, Header, Invitation, MachineId, SecretSeed};
use malai_wire::control::{
    self, Browse, ClientMessage, Exec, Exited, Forward, ForwardTo, Forwarded, Named, Ping, Reason,
    ReasonKind, Reply, Request, Rescan, RescanReport, Resolved, Stdin,
};
use malai_wire::frame::{CONTENT, HEAD, Tagged, parse_head};
use malai_wire::peer::connect::{self, Destination};
use malai_wire::peer::exec::{
    Action, ExecRequest, Exit, FromClient, FromServer, Open, Signal, Size, Status, Term, Terminal,
};
use malai_wire::peer::hello::{Greeting, Hello};
use malai_wire::peer::sync::{Compare, Content, Fetch, Fetched};
use malai_wire::version::Versions;
use malai_wire::{FrameError, Refusal};
use proptest::collection::vec;
use proptest::prelude::*;

fn machine() -> impl Strategy<Value = MachineId> {
    any::<[u8; 32]>().prop_map(|seed| SecretSeed::from_bytes(seed).id())
}

fn header() -> impl Strategy<Value = Header> {
    (
        machine(),
        any::<u64>(),
        any::<[u8; 32]>(),
        any::<[[u8; 32]; 2]>(),
    )
        .prop_map(|(manager, revision, hash, halves)| {
            let mut signature = [0; 64];
            signature.copy_from_slice(&halves.concat());
            Header {
                cluster: ClusterId::new(manager),
                revision,
                hash,
                signature,
            }
        })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<u16>(), any::<String>()).prop_map(|(code, message)| Refusal { code, message })
}

fn argv() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..40), 0..6)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        argv().prop_map(Action::Exec),
        Just(Action::Shell),
        vec(any::<u8>(), 0..50).prop_map(Action::Line),
        any::<String>().prop_map(Action::Subsystem),
        any::<(String, String)>()
            .prop_map(|(folder, subsystem)| Action::Folder { folder, subsystem }),
    ]
}

fn size() -> impl Strategy<Value = Size> {
    any::<[u16; 4]>().prop_map(|[columns, rows, width_pixels, height_pixels]| Size {
        columns,
        rows,
        width_pixels,
        height_pixels,
    })
}

fn terminal() -> impl Strategy<Value = Option<Terminal>> {
    let names = ["dumb", "xterm-256color", "xterm+256color", "8", "a.b_c"];
    let term = prop::sample::select(names.to_vec());
    prop::option::of((term, size()).prop_map(|(term, size)| Terminal {
        term: Term::parse(term).unwrap(),
        size,
    }))
}

fn signal() -> impl Strategy<Value = Signal> {
    use Signal::{Hup, Int, Quit, Term, Usr1, Usr2};
    prop::sample::select(vec![Hup, Int, Quit, Term, Usr1, Usr2])
}

fn greeting() -> impl Strategy<Value = Greeting> {
    (
        any::<(u16, u16, [u8; 16], u64, bool)>(),
        prop::option::of(header()),
        prop::option::of(claim().prop_map(Box::new)),
    )
        .prop_map(
            |((lowest, highest, instance, age_ms, serves), header, claim)| {
                Greeting::Hello(Hello {
                    versions: Versions { lowest, highest },
                    instance,
                    age_ms,
                    serves,
                    header,
                    claim,
                })
            },
        )
}

fn claim() -> impl Strategy<Value = Claim> {
    let names = (prop::option::of(any::<String>()), any::<String>());
    (any::<[u8; 16]>(), names, any::<[u8; 32]>()).prop_map(|(secret, (name, host), half)| {
        let cluster = ClusterId::new(SecretSeed::from_bytes(half).id());
        let invitation = Invitation {
            cluster,
            secret,
            alias: None,
            hints: Vec::new(),
        };
        Claim {
            invitation: invitation.id(),
            name,
            host,
            proof: std::array::from_fn(|i| half[i % 32]),
        }
    })
}

fn request_of_exec() -> impl Strategy<Value = ExecRequest> {
    let env = vec((any::<String>(), vec(any::<u8>(), 0..20)), 0..4);
    let user = prop::option::of(any::<String>());
    (action(), user, env, any::<bool>()).prop_map(|(action, user, env, one_output)| ExecRequest {
        action,
        user,
        env,
        one_output,
    })
}

fn from_client() -> impl Strategy<Value = FromClient> {
    prop_oneof![
        (request_of_exec(), any::<bool>(), terminal()).prop_map(|(request, stdin, terminal)| {
            FromClient::Open(Open {
                request,
                stdin,
                terminal,
            })
        }),
        signal().prop_map(FromClient::Signal),
        size().prop_map(FromClient::Resize),
    ]
}

fn from_server() -> impl Strategy<Value = FromServer> {
    let status = prop_oneof![
        any::<u8>().prop_map(Status::Code),
        any::<u8>().prop_map(Status::Signal),
    ];
    prop_oneof![
        Just(FromServer::Accepted),
        refusal().prop_map(FromServer::Refused),
        any::<u64>().prop_map(FromServer::Input),
        (status, any::<u64>(), any::<u64>()).prop_map(|(status, stdout, stderr)| {
            FromServer::Exit(Exit {
                status,
                stdout,
                stderr,
            })
        }),
    ]
}

fn connect_open() -> impl Strategy<Value = connect::FromClient> {
    destination().prop_map(connect::FromClient::Open)
}

fn destination() -> impl Strategy<Value = Destination> {
    prop_oneof![
        any::<String>().prop_map(Destination::Service),
        any::<String>().prop_map(Destination::Tcp),
        any::<(String, Option<String>)>().prop_map(|(path, user)| Destination::Unix { path, user }),
    ]
}

fn forward_to() -> impl Strategy<Value = ForwardTo> {
    prop_oneof![
        Just(ForwardTo::Service),
        destination().prop_map(ForwardTo::Through),
        Just(ForwardTo::Socks),
    ]
}

fn connect_answer() -> impl Strategy<Value = connect::FromServer> {
    prop_oneof![
        Just(connect::FromServer::Accepted),
        refusal().prop_map(connect::FromServer::Refused),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        prop::option::of(header()).prop_map(Compare::Header),
        refusal().prop_map(Compare::Refused),
    ]
}

fn fetched() -> impl Strategy<Value = Fetched> {
    prop_oneof![
        (header(), any::<String>())
            .prop_map(|(header, content)| Fetched::Content(Content { header, content })),
        refusal().prop_map(Fetched::Refused),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let stdin = prop::sample::select(vec![Stdin::Fd, Stdin::Streamed, Stdin::Empty]);
    prop_oneof![
        Just(Request::Status),
        Just(Request::Stop),
        any::<String>().prop_map(Request::Resolve),
        Just(Request::Sessions),
        any::<u64>().prop_map(Request::EndSession),
        (any::<String>(), forward_to(), any::<bool>()).prop_map(|(target, to, listens)| {
            Request::Forward(Forward {
                target,
                to,
                listens,
            })
        }),
        any::<String>().prop_map(Request::Whois),
        any::<(String, u32)>().prop_map(|(target, user)| Request::Browse(Browse { target, user })),
        any::<(String, u16, u32)>().prop_map(|(target, count, timeout_ms)| Request::Ping(Ping {
            target,
            count,
            timeout_ms,
        })),
        any::<(Option<String>, bool)>().prop_map(|(cluster, publish_older)| Request::Rescan(
            Rescan {
                cluster,
                publish_older
            }
        )),
        (any::<String>(), request_of_exec(), stdin, terminal()).prop_map(
            |(target, request, stdin, terminal)| {
                Request::Exec(Exec {
                    target,
                    request,
                    stdin,
                    terminal,
                })
            }
        ),
    ]
}

fn from_command() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(ClientMessage::Input),
        signal().prop_map(ClientMessage::Signal),
        Just(ClientMessage::Pause),
        Just(ClientMessage::Resume),
        size().prop_map(ClientMessage::Resize),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let report = any::<(String, Vec<String>, bool)>().prop_map(|(alias, lines, ok)| RescanReport {
        alias,
        lines,
        ok,
    });
    prop_oneof![
        any::<String>().prop_map(Reply::Status),
        any::<String>().prop_map(Reply::Sessions),
        any::<String>().prop_map(Reply::Pinged),
        any::<String>().prop_map(Reply::Whois),
        any::<String>().prop_map(Reply::Browsing),
        any::<(u32, u64, Option<String>)>().prop_map(|(open, total, problem)| Reply::Forwarded(
            Forwarded {
                open,
                total,
                problem
            }
        )),
        vec(report, 0..3).prop_map(Reply::Rescanned),
        Just(Reply::Done),
        (
            vec(any::<(String, String)>(), 0..3),
            vec(any::<String>(), 0..3)
        )
            .prop_map(|(machines, notes)| {
                let named = |(machine, cluster)| Named { machine, cluster };
                let machines = machines.into_iter().map(named).collect();
                Reply::Resolved(Resolved { machines, notes })
            }),
        any::<String>().prop_map(Reply::Failed),
        Just(Reply::More),
        Just(Reply::Started),
        any::<(u8, Option<String>)>().prop_map(|(code, message)| {
            let reason = message.clone().map(|text| Reason {
                kind: ReasonKind::Other,
                text,
            });
            Reply::Exited(Exited {
                code,
                message,
                reason,
            })
        }),
    ]
}

/// Reads one frame as a reader of these messages does. A body that it owns makes no difference.
fn read<T: Tagged + PartialEq + std::fmt::Debug>(frame: &[u8]) -> Result<Option<T>, FrameError> {
    let Some(head) = frame.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let (tag, length) = parse_head(*head, CONTENT)?;
    match frame.get(HEAD..HEAD + length) {
        Some(body) => {
            let decoded = T::decode(tag, body);
            assert_eq!(T::decode_owned(tag, body.to_vec()), decoded);
            decoded
        }
        None => Ok(None),
    }
}

#[track_caller]
fn comes_back<T: Tagged + PartialEq + std::fmt::Debug>(message: T) {
    assert_eq!(read::<T>(&message.to_frame()), Ok(Some(message)));
}

/// Reads the bytes as every kind of message there is. What decodes must come back the same.
fn read_as_anything(frame: &[u8]) {
    fn as_one<T: Tagged + PartialEq + std::fmt::Debug>(frame: &[u8]) {
        if let Ok(Some(message)) = read::<T>(frame) {
            comes_back(message);
        }
    }
    as_one::<Greeting>(frame);
    as_one::<FromClient>(frame);
    as_one::<FromServer>(frame);
    as_one::<connect::FromClient>(frame);
    as_one::<connect::FromServer>(frame);
    as_one::<Compare>(frame);
    as_one::<Fetch>(frame);
    as_one::<Fetched>(frame);
    as_one::<Request>(frame);
    as_one::<ClientMessage>(frame);
    as_one::<Reply>(frame);
    if let Some(preamble) = frame.first_chunk() {
        let _ = control::parse_preamble(*preamble);
    }
}

/// A frame of any kind.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        greeting().prop_map(|message| message.to_frame()),
        from_client().prop_map(|message| message.to_frame()),
        from_server().prop_map(|message| message.to_frame()),
        connect_open().prop_map(|message| message.to_frame()),
        connect_answer().prop_map(|message| message.to_frame()),
        compare().prop_map(|message| message.to_frame()),
        any::<u64>().prop_map(|revision| Fetch::Revision(revision).to_frame()),
        fetched().prop_map(|message| message.to_frame()),
        request().prop_map(|message| message.to_frame()),
        from_command().prop_map(|message| message.to_frame()),
        reply().prop_map(|message| message.to_frame()),
    ]
}

proptest! {
    #[test]
    fn what_peers_say_comes_back(
        greeting in greeting(), client in from_client(), server in from_server(),
        compare in compare(), revision: u64, fetched in fetched(),
        open in connect_open(), answer in connect_answer(),
    ) {
        comes_back(greeting);
        comes_back(client);
        comes_back(server);
        comes_back(open);
        comes_back(answer);
        comes_back(compare);
        comes_back(Fetch::Revision(revision));
        comes_back(fetched);
    }

    #[test]
    fn what_the_socket_carries_comes_back(
        request in request(), command in from_command(), reply in reply(), version: u16,
    ) {
        comes_back(request);
        comes_back(command);
        comes_back(reply);
        prop_assert_eq!(control::parse_preamble(control::preamble(version)), Some(version));
    }

    #[test]
    fn damaged_frames_never_panic(
        frame in any_frame(),
        changes in vec(any::<(prop::sample::Index, u8)>(), 1..6),
        keep: prop::sample::Index,
        more in vec(any::<u8>(), 0..8),
    ) {
        let mut damaged = frame.clone();
        for (at, byte) in changes {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        read_as_anything(&damaged);
        damaged.truncate(keep.index(frame.len()));
        read_as_anything(&damaged);
        read_as_anything(&[&frame[..], &more].concat());
        // The same body under every other tag, and with bytes left over.
        let mut stretched = [&frame[..], &more].concat();
        let length = u32::try_from(stretched.len() - 4).unwrap();
        stretched[..4].copy_from_slice(&length.to_be_bytes());
        for tag in 0..=u8::MAX {
            stretched[4] = tag;
            read_as_anything(&stretched);
        }
    }

    #[test]
    fn noise_never_panics(noise in vec(any::<u8>(), 0..300)) {
        read_as_anything(&noise);
    }
}
