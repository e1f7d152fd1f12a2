//! The bytes of every frame, as `PROTOCOL.md` shows them. A change here is a change of the protocol.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use malai_cluster::{Asked, Claim, ClusterId, Hint, Invitation, signed_bytes};
use malai_wire::control::{
    self, Browse, ClientMessage, Exec, Exited, Forward, ForwardTo, Forwarded, Named, Ping, Reason,
    ReasonKind, Reply, Request, Rescan, RescanReport, Resolved, Stdin,
};
use malai_wire::frame::{HEAD, Tagged};
use malai_wire::peer::connect::{self, Destination};
use malai_wire::peer::exec::{
    Action, ExecRequest, Exit, FromClient, FromServer, Open, Signal, Size, Status, Term, Terminal,
};
use malai_wire::peer::hello::{Greeting, Hello};
use malai_wire::peer::sync::{Compare, Content, Fetch, Fetched};
use malai_wire::peer::{RequestKind, StreamKind, raw_head};
use malai_wire::version::{ALPN, PROBE_ALPN, Versions};
use malai_wire::{Refusal, RefusalCode};

use crate::fixture::{REVISION, header, seed, snapshot};

/// The page that describes the protocol.
const PAGE: &str = include_str!("../../../../PROTOCOL.md");

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A frame as length, tag and body.
fn shown<T: Tagged>(message: &T) -> String {
    let frame = message.to_frame();
    let (head, body) = frame.split_at(HEAD);
    let (length, tag) = head.split_at(4);
    format!("{} {} {}", hex(length), hex(tag), hex(body))
        .trim_end()
        .to_owned()
}

/// Shows each message by its name, and holds the lines against what is expected and against the page.
#[track_caller]
fn check<T: Tagged>(messages: &[(&str, T)], expected: &Expect) {
    let mut lines = String::new();
    for (name, message) in messages {
        let _ = writeln!(lines, "{name:<18} {}", shown(message));
    }
    check_lines(&lines, expected);
}

#[track_caller]
fn check_lines(lines: &str, expected: &Expect) {
    expected.assert_eq(lines);
    for line in lines.lines() {
        assert!(
            PAGE.lines().any(|of_page| of_page.trim_end() == line),
            "PROTOCOL.md does not have this line:\n{line}"
        );
    }
}

fn refusal() -> Refusal {
    Refusal::new(RefusalCode::NotAllowed, "no")
}

fn size() -> Size {
    Size {
        columns: 80,
        rows: 24,
        width_pixels: 0,
        height_pixels: 300,
    }
}

fn terminal() -> Terminal {
    Terminal {
        term: Term::parse("xterm").unwrap(),
        size: size(),
    }
}

/// An invitation to the cluster of the test vectors, and what a machine says with it.
fn invitation() -> Invitation {
    Invitation {
        cluster: ClusterId::new(seed().id()),
        secret: *b"0123456789abcdef",
        alias: "company".parse().ok(),
        hints: vec![Hint::Address("192.0.2.7:28772".parse().unwrap())],
    }
}

fn claim() -> Claim {
    let invitation = invitation();
    let asked = Asked {
        cluster: &invitation.cluster,
        machine: &seed().id(),
        binding: &[0xbb; 32],
        name: Some("web03"),
        host: "vm",
    };
    Claim {
        invitation: invitation.id(),
        name: asked.name.map(str::to_owned),
        host: asked.host.to_owned(),
        proof: invitation.prove(&asked),
    }
}

#[test]
fn the_invitation() {
    let invitation = invitation();
    let lines = format!(
        "secret             {}\nkey                {}\nid                 {}\nline               {}\n",
        hex(&invitation.secret),
        invitation.key(),
        invitation.id(),
        invitation.to_line()
    );
    check_lines(
        &lines,
        &expect![[r#"
        secret             30313233343536373839616263646566
        key                47q2akv597lvej68dnhrtmdqgikg7kmogsb57pm9r7dnc2vv8tkg
        id                 lmg1d5cq
        line               malai18q8opv0kd2lukn2pdlsrlhlfd9f4i6r55bjsuvdtvpgaao4djkj8oc1h68pj8d9m6ss3iob2cdi6apg10thmurbgc5n7i106o00041rgcgcm2dgc
    "#]],
    );
}

fn hello(header: Option<malai_cluster::Header>, claim: Option<Claim>) -> Greeting {
    Greeting::Hello(Hello {
        versions: Versions::OURS,
        instance: std::array::from_fn(|i| i as u8),
        age_ms: 300,
        serves: true,
        header,
        claim: claim.map(Box::new),
    })
}

#[test]
fn names_and_beginnings() {
    let mut lines = String::new();
    for alpn in [ALPN, PROBE_ALPN] {
        let _ = writeln!(lines, "ALPN {}", String::from_utf8_lossy(alpn));
    }
    for kind in [
        RequestKind::Exec,
        RequestKind::Fetch,
        RequestKind::Compare,
        RequestKind::Ping,
        RequestKind::Connect,
    ] {
        assert_eq!(RequestKind::from_byte(kind as u8), Some(kind));
        let _ = writeln!(lines, "{:<18} {:02x}", format!("{kind:?}"), kind as u8);
    }
    for kind in [
        StreamKind::Hello,
        StreamKind::Stdin,
        StreamKind::Stdout,
        StreamKind::Stderr,
    ] {
        assert_eq!(StreamKind::from_byte(kind as u8), Some(kind));
        let _ = writeln!(lines, "{:<18} {:02x}", format!("{kind:?}"), kind as u8);
    }
    let head = hex(&raw_head(StreamKind::Stdout, 4));
    let _ = writeln!(lines, "Stdout of 4        {head}");
    let preamble = hex(&control::preamble(control::VERSION));
    let _ = writeln!(lines, "preamble           {preamble}");
    check_lines(
        &lines,
        &expect![[r#"
            ALPN malai/1
            ALPN malai-probe/1
            Exec               01
            Fetch              02
            Compare            03
            Ping               04
            Connect            05
            Hello              10
            Stdin              11
            Stdout             12
            Stderr             13
            Stdout of 4        120000000000000004
            preamble           6d616c61692f0001
        "#]],
    );
}

#[test]
fn the_hello() {
    check(
        &[
            ("Hello, no header", hello(None, None)),
            ("Hello", hello(Some(header()), None)),
            ("Hello, claim", hello(None, Some(claim()))),
        ],
        &expect![[r#"
            Hello, no header   00000018 01 0101000102030405060708090a0b0c0d0e0fac02010000
            Hello              0000009d 01 0101000102030405060708090a0b0c0d0e0fac020101918cfc1468abea5c596d79bac6af6a5e491b652ae7cf7dbdfe60a5608d9d268c80e2cfaa062bd672a3995a193bfdde225d87a4885c32d630918e7023a67b03a6d413eb916930662a93fee1c692e71d3dfc88c15f2b298aa1d1434ff14de4b9474fdc6e8b9c7132a2d2f7bee8a91daec2493dc7b0570614e3c07f7446e3524df84b93f3800800
            Hello, claim       00000067 01 0101000102030405060708090a0b0c0d0e0fac02010001ada016959a0105776562303302766dab660965b4d6f37d838326b38122f2a84f41fbe0dc2a3d149313815c5a061cdb8043e092dec63f6cf1a5ab7bfe6d68b6972715e4d60b9f59e075262e6be72800
        "#]],
    );
}

#[test]
fn a_command() {
    let open = |argv: &[&[u8]], stdin| {
        FromClient::Open(Open {
            request: Action::Exec(argv.iter().map(|word| word.to_vec()).collect()).into(),
            stdin,
            terminal: None,
        })
    };
    let shell = |terminal| {
        FromClient::Open(Open {
            request: Action::Shell.into(),
            stdin: true,
            terminal,
        })
    };
    check(
        &[
            ("Open", open(&[b"ps", b"aux"], true)),
            ("Open, no stdin", open(&[b"a\xff"], false)),
            ("Open, shell", shell(None)),
            ("Open, terminal", shell(Some(terminal()))),
            (
                "Open, line",
                FromClient::Open(Open {
                    request: ExecRequest {
                        action: Action::Line(b"ls *".to_vec()),
                        user: Some("web".into()),
                        env: vec![("LANG".into(), b"C".to_vec())],
                        one_output: true,
                    },
                    stdin: false,
                    terminal: None,
                }),
            ),
            (
                "Open, subsystem",
                FromClient::Open(Open {
                    request: Action::Subsystem("sftp".into()).into(),
                    stdin: true,
                    terminal: None,
                }),
            ),
            (
                "Open, folder",
                FromClient::Open(Open {
                    request: Action::Folder {
                        folder: "logs".into(),
                        subsystem: "sftp".into(),
                    }
                    .into(),
                    stdin: true,
                    terminal: None,
                }),
            ),
            ("Signal Hup", FromClient::Signal(Signal::Hup)),
            ("Signal Int", FromClient::Signal(Signal::Int)),
            ("Signal Quit", FromClient::Signal(Signal::Quit)),
            ("Signal Term", FromClient::Signal(Signal::Term)),
            ("Signal Usr1", FromClient::Signal(Signal::Usr1)),
            ("Signal Usr2", FromClient::Signal(Signal::Usr2)),
            ("Resize", FromClient::Resize(size())),
        ],
        &expect![[r#"
            Open               0000000f 01 0002027073036175780000000100
            Open, no stdin     0000000b 01 00010261ff0000000000
            Open, shell        00000007 01 010000000100
            Open, terminal     00000012 01 01000000010105787465726d501800ac02
            Open, line         00000017 01 02046c73202a010377656201044c414e470143010000
            Open, subsystem    0000000c 01 0304736674700000000100
            Open, folder       00000011 01 04046c6f677304736674700000000100
            Signal Hup         00000002 02 00
            Signal Int         00000002 02 01
            Signal Quit        00000002 02 02
            Signal Term        00000002 02 03
            Signal Usr1        00000002 02 04
            Signal Usr2        00000002 02 05
            Resize             00000006 03 501800ac02
        "#]],
    );
    let exit = |status| {
        FromServer::Exit(Exit {
            status,
            stdout: 300,
            stderr: 0,
        })
    };
    check(
        &[
            ("Accepted", FromServer::Accepted),
            ("Refused", FromServer::Refused(refusal())),
            ("Exit code 7", exit(Status::Code(7))),
            ("Exit signal 9", exit(Status::Signal(9))),
            ("Input", FromServer::Input(131_072)),
        ],
        &expect![[r#"
            Accepted           00000001 01
            Refused            00000005 02 02026e6f
            Exit code 7        00000006 03 0007ac0200
            Exit signal 9      00000006 03 0109ac0200
            Input              00000004 81 808008
        "#]],
    );
}

#[test]
fn configurations() {
    check(
        &[
            ("Compare nothing", Compare::Header(None)),
            ("Compare", Compare::Header(Some(header()))),
            ("Compare refused", Compare::Refused(refusal())),
        ],
        &expect![[r#"
            Compare nothing    00000002 01 00
            Compare            00000087 01 01918cfc1468abea5c596d79bac6af6a5e491b652ae7cf7dbdfe60a5608d9d268c80e2cfaa062bd672a3995a193bfdde225d87a4885c32d630918e7023a67b03a6d413eb916930662a93fee1c692e71d3dfc88c15f2b298aa1d1434ff14de4b9474fdc6e8b9c7132a2d2f7bee8a91daec2493dc7b0570614e3c07f7446e3524df84b93f38008
            Compare refused    00000005 02 02026e6f
        "#]],
    );
    check(
        &[("Fetch", Fetch::Revision(REVISION))],
        &expect![[r#"
        Fetch              00000006 01 80e2cfaa06
    "#]],
    );
    let short = Content {
        header: header(),
        content: "format = 1\n".to_owned(),
    };
    check(
        &[
            ("Content", Fetched::Content(short)),
            ("Fetch refused", Fetched::Refused(refusal())),
        ],
        &expect![[r#"
            Content            00000092 01 918cfc1468abea5c596d79bac6af6a5e491b652ae7cf7dbdfe60a5608d9d268c80e2cfaa062bd672a3995a193bfdde225d87a4885c32d630918e7023a67b03a6d413eb916930662a93fee1c692e71d3dfc88c15f2b298aa1d1434ff14de4b9474fdc6e8b9c7132a2d2f7bee8a91daec2493dc7b0570614e3c07f7446e3524df84b93f380080b666f726d6174203d20310a
            Fetch refused      00000005 02 02026e6f
        "#]],
    );
}

#[test]
fn the_control_socket() {
    let exec = |stdin| {
        Request::Exec(Exec {
            target: "web01.demo".to_owned(),
            request: Action::Exec(vec![b"true".to_vec()]).into(),
            stdin,
            terminal: None,
        })
    };
    let shell = Request::Exec(Exec {
        target: "web01.demo".to_owned(),
        request: Action::Shell.into(),
        stdin: Stdin::Streamed,
        terminal: Some(terminal()),
    });
    let rescan = |cluster: Option<&str>| {
        Request::Rescan(Rescan {
            cluster: cluster.map(str::to_owned),
            publish_older: true,
        })
    };
    let browse = Request::Browse(Browse {
        target: "db.demo".to_owned(),
        user: 1000,
    });
    let forward = Request::Forward(Forward {
        target: "db.demo".to_owned(),
        to: ForwardTo::Service,
        listens: true,
    });
    let through = |to| {
        Request::Forward(Forward {
            target: "web01.demo".to_owned(),
            to,
            listens: true,
        })
    };
    let tcp = ForwardTo::Through(Destination::Tcp("[::1]:80".to_owned()));
    let ping = Request::Ping(Ping {
        target: "web01.demo".to_owned(),
        count: 3,
        timeout_ms: 5000,
    });
    check(
        &[
            ("ask Status", Request::Status),
            ("ask Rescan, all", rescan(None)),
            ("ask Rescan demo", rescan(Some("demo"))),
            ("ask Stop", Request::Stop),
            ("ask Exec", exec(Stdin::Fd)),
            ("ask Exec, streamed", exec(Stdin::Streamed)),
            ("ask Exec, no stdin", exec(Stdin::Empty)),
            ("ask Sessions", Request::Sessions),
            ("ask EndSession", Request::EndSession(300)),
            ("ask Exec, shell", shell),
            ("ask Resolve", Request::Resolve("@web.demo".to_owned())),
            ("ask Ping", ping),
            ("ask Forward", forward),
            ("ask Forward, tcp", through(tcp)),
            ("ask Forward, socks", through(ForwardTo::Socks)),
            ("ask Whois", Request::Whois("[::1]:1".to_owned())),
            ("ask Browse", browse),
        ],
        &expect![[r#"
            ask Status         00000001 01
            ask Rescan, all    00000003 02 0001
            ask Rescan demo    00000008 02 010464656d6f01
            ask Stop           00000001 03
            ask Exec           00000018 04 0a77656230312e64656d6f000104747275650000000000
            ask Exec, streamed 00000018 04 0a77656230312e64656d6f000104747275650000000100
            ask Exec, no stdin 00000018 04 0a77656230312e64656d6f000104747275650000000200
            ask Sessions       00000001 06
            ask EndSession     00000003 07 ac02
            ask Exec, shell    0000001d 04 0a77656230312e64656d6f01000000010105787465726d501800ac02
            ask Resolve        0000000b 05 09407765622e64656d6f
            ask Ping           0000000f 08 0a77656230312e64656d6f038827
            ask Forward        0000000b 09 0764622e64656d6f0001
            ask Forward, tcp   00000018 09 0a77656230312e64656d6f0101085b3a3a315d3a383001
            ask Forward, socks 0000000e 09 0a77656230312e64656d6f0201
            ask Whois          00000009 0a 075b3a3a315d3a31
            ask Browse         0000000b 0b 0764622e64656d6fe807
        "#]],
    );
    check(
        &[
            ("Input", ClientMessage::Input(b"hi".to_vec())),
            ("Input, the end", ClientMessage::Input(Vec::new())),
            ("pass Signal Int", ClientMessage::Signal(Signal::Int)),
            ("Pause", ClientMessage::Pause),
            ("Resume", ClientMessage::Resume),
            ("pass Resize", ClientMessage::Resize(size())),
        ],
        &expect![[r#"
            Input              00000004 01 026869
            Input, the end     00000002 01 00
            pass Signal Int    00000002 02 01
            Pause              00000001 03
            Resume             00000001 04
            pass Resize        00000006 05 501800ac02
        "#]],
    );
    let resolved = Resolved {
        machines: vec![Named {
            machine: "web01".to_owned(),
            cluster: "demo".to_owned(),
        }],
        notes: vec!["no".to_owned()],
    };
    let report = RescanReport {
        alias: "demo".to_owned(),
        lines: vec!["ok".to_owned()],
        ok: true,
    };
    let forwarded = Reply::Forwarded(Forwarded {
        open: 1,
        total: 300,
        problem: Some("no".to_owned()),
    });
    let exited = |reason: Option<ReasonKind>| {
        Reply::Exited(Exited {
            code: 255,
            message: reason.map(|_| "web01: no".to_owned()),
            reason: reason.map(|kind| Reason {
                kind,
                text: "no".to_owned(),
            }),
        })
    };
    check(
        &[
            ("answer Status", Reply::Status("{}".to_owned())),
            ("answer Rescanned", Reply::Rescanned(vec![report])),
            ("answer Done", Reply::Done),
            ("answer Failed", Reply::Failed("no".to_owned())),
            ("answer More", Reply::More),
            ("answer Started", Reply::Started),
            ("answer Exited", exited(None)),
            ("answer Exited, why", exited(Some(ReasonKind::Refused))),
            ("answer Resolved", Reply::Resolved(resolved)),
            ("answer Sessions", Reply::Sessions("{}".to_owned())),
            ("answer Pinged", Reply::Pinged("{}".to_owned())),
            ("answer Forwarded", forwarded),
            ("answer Whois", Reply::Whois("{}".to_owned())),
            ("answer Browsing", Reply::Browsing("x".to_owned())),
        ],
        &expect![[r#"
            answer Status      00000004 01 027b7d
            answer Rescanned   0000000c 02 010464656d6f01026f6b01
            answer Done        00000001 03
            answer Failed      00000004 04 026e6f
            answer More        00000001 05
            answer Started     00000001 06
            answer Exited      00000004 07 ff0000
            answer Exited, why 00000012 07 ff010977656230313a206e6f0101026e6f
            answer Resolved    00000011 08 010577656230310464656d6f01026e6f
            answer Sessions    00000004 09 027b7d
            answer Pinged      00000004 0a 027b7d
            answer Forwarded   00000008 0b 01ac0201026e6f
            answer Whois       00000004 0c 027b7d
            answer Browsing    00000003 0d 0178
        "#]],
    );
}

#[test]
fn what_a_manager_signs_and_a_machine_keeps() {
    let header = header();
    assert!(header.verify(&header.cluster).is_ok());
    let signed = signed_bytes(&header.cluster, header.revision, &header.hash);
    let lines = format!(
        "seed               {}\nsigned bytes       {}\nsignature          {}\n",
        hex(&seed().to_bytes()),
        hex(&signed),
        hex(&header.signature),
    );
    check_lines(
        &lines,
        &expect![[r#"
        seed               100d7e23f222267ba0be43855a262461b8a7718572edf58c56db912156d2bc25
        signed bytes       6d616c61692d736e617073686f742d3100918cfc1468abea5c596d79bac6af6a5e491b652ae7cf7dbdfe60a5608d9d268c000000006553f1002bd672a3995a193bfdde225d87a4885c32d630918e7023a67b03a6d413eb9169
        signature          30662a93fee1c692e71d3dfc88c15f2b298aa1d1434ff14de4b9474fdc6e8b9c7132a2d2f7bee8a91daec2493dc7b0570614e3c07f7446e3524df84b93f38008
    "#]],
    );
    check_lines(
        &snapshot().to_file(),
        &expect![[r##"
        # malai snapshot: revision 1700000000, signature 30662a93fee1c692e71d3dfc88c15f2b298aa1d1434ff14de4b9474fdc6e8b9c7132a2d2f7bee8a91daec2493dc7b0570614e3c07f7446e3524df84b93f38008; written by malai, edits are not obeyed
        format = 1

        [cluster_manager]
        cluster_name = "company"
        id52 = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60"

        [machine.web01]
        allow_from = ["*"]
        id52 = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80"
    "##]],
    );
}

#[test]
fn a_connection_to_a_service() {
    let open = |to| connect::FromClient::Open(to);
    let unix = Destination::Unix {
        path: "/x".to_owned(),
        user: Some("web".to_owned()),
    };
    check(
        &[
            ("Connect", open(Destination::Service("db".to_owned()))),
            (
                "Connect, tcp",
                open(Destination::Tcp("[::1]:80".to_owned())),
            ),
            ("Connect, unix", open(unix)),
        ],
        &expect![[r#"
            Connect            00000005 01 00026462
            Connect, tcp       0000000b 01 01085b3a3a315d3a3830
            Connect, unix      0000000a 01 02022f780103776562
        "#]],
    );
    check(
        &[
            ("Connect accepted", connect::FromServer::Accepted),
            ("Connect refused", connect::FromServer::Refused(refusal())),
        ],
        &expect![[r#"
            Connect accepted   00000001 01
            Connect refused    00000005 02 02026e6f
        "#]],
    );
}
