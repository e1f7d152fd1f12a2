//! Tests of invitations.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LINE_SEED: [u8; SECRET_BYTES] = [7; SECRET_BYTES];

fn id(byte: u8) -> MachineId {
    SecretSeed::from_bytes([byte; 32]).id()
}

fn invitation() -> Invitation {
    Invitation {
        cluster: ClusterId::new(id(1)),
        secret: LINE_SEED,
        alias: ClusterAlias::parse("company").ok(),
        hints: vec![
            Hint::Address("192.0.2.7:28772".parse().unwrap()),
            Hint::Address("[2001:db8::1]:1".parse().unwrap()),
            Hint::Relay("https://relay.example.org".to_owned()),
        ],
    }
}

#[test]
fn a_line_comes_back_whole() {
    let line = invitation().to_line();
    assert_eq!(Invitation::parse(&line).unwrap(), invitation());
    let typed = format!("  {}\n", line.to_uppercase());
    assert_eq!(Invitation::parse(&typed).unwrap(), invitation());
    let bare = Invitation {
        alias: None,
        hints: Vec::new(),
        ..invitation()
    };
    assert_eq!(Invitation::parse(&bare.to_line()).unwrap(), bare);
}

#[test]
fn hints_are_bounded() {
    let many = Invitation {
        hints: (1..100)
            .map(|port| Hint::Address(SocketAddr::new([10, 0, 0, 1].into(), port)))
            .collect(),
        ..invitation()
    };
    let read = Invitation::parse(&many.to_line()).unwrap();
    assert_eq!(read.hints, many.hints[..MAX_HINTS]);
    let long = Invitation {
        hints: vec![Hint::Relay("x".repeat(300))],
        ..invitation()
    };
    assert_eq!(Invitation::parse(&long.to_line()).unwrap().hints, []);
}

#[test]
fn a_cut_or_mistyped_line_is_told_as_such() {
    let line = invitation().to_line();
    for end in 6..line.len() {
        let error = Invitation::parse(&line[..end]).unwrap_err();
        let is_cut = matches!(error, InvitationError::Cut { .. });
        assert!(is_cut, "{end}: {error}");
    }
    let longer = Invitation::parse(&format!("{line}a")).unwrap_err();
    assert!(matches!(longer, InvitationError::TooLong { .. }));
    for at in 6..line.len() {
        for other in ["0", "v"] {
            let mut changed = line.clone();
            changed.replace_range(at..=at, other);
            if changed != line {
                Invitation::parse(&changed).unwrap_err();
            }
        }
    }
    let mut swapped = line.clone().into_bytes();
    let at = (20..).find(|at| swapped[*at] != swapped[at + 1]).unwrap();
    swapped.swap(at, at + 1);
    let swapped = String::from_utf8(swapped).unwrap();
    assert_eq!(
        Invitation::parse(&swapped).unwrap_err(),
        InvitationError::Checksum
    );
    let id52 = id(9).to_string();
    assert_eq!(Invitation::parse(&id52).unwrap_err(), InvitationError::Id52);
    assert_eq!(
        Invitation::parse("hello").unwrap_err(),
        InvitationError::Other
    );
    assert_eq!(
        Invitation::parse(&format!("{}-", &line[..20])).unwrap_err(),
        InvitationError::Character {
            character: '-',
            position: 21
        }
    );
}

#[test]
fn a_proof_holds_for_one_machine_on_one_connection() {
    let invitation = invitation();
    let (machine, other) = (id(2), id(3));
    let asked = Asked {
        cluster: &invitation.cluster,
        machine: &machine,
        binding: &[5; 32],
        name: Some("web"),
        host: "03",
    };
    let proof = invitation.prove(&asked);
    let key = invitation.key();
    assert!(asked.is_proven(&key, &proof));
    let elsewhere = ClusterId::new(other);
    for changed in [
        Asked {
            machine: &other,
            ..asked
        },
        Asked {
            cluster: &elsewhere,
            ..asked
        },
        Asked {
            binding: &[6; 32],
            ..asked
        },
        Asked {
            name: Some("web0"),
            host: "3",
            ..asked
        },
    ] {
        assert!(!changed.is_proven(&key, &proof), "{changed:?}");
    }
    assert!(!asked.is_proven(&other, &proof));
}

#[test]
fn an_id_is_read_as_it_is_written() {
    let id = invitation().id();
    assert_eq!(InvitationId::parse(&id.to_string()), Some(id));
    assert_eq!(id.to_string().len(), 8);
    for bad in ["", "7", "../../..", "aaaaaaaaa", "AAAAAAAA"] {
        assert_eq!(InvitationId::parse(bad), None, "{bad}");
    }
    // Neither the id nor the key shows the secret.
    let shown = format!("{:?}", invitation());
    assert!(!shown.contains("7, 7"), "{shown}");
}

#[test]
fn a_machine_gets_a_name() {
    let name = |text: &str| MachineName::parse(text).unwrap();
    let pattern = |text: &str| NamePattern::parse(text).unwrap();
    let taken = |name: &MachineName| name.as_str() == "web01";
    let choose = |of: &str, insisted: Option<&str>, host: &str| {
        let insisted = insisted.map(name);
        choose_name(&pattern(of), insisted.as_ref(), &name(host), taken)
            .map(|name| name.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(choose("web*", None, "web03").unwrap(), "web03");
    assert_eq!(choose("web*", Some("web4"), "laptop").unwrap(), "web4");
    assert_eq!(choose("db", None, "laptop").unwrap(), "db");
    let error = choose("web*", None, "laptop").unwrap_err();
    assert!(error.contains("names like web*, not for laptop"), "{error}");
    let error = choose("db", Some("db2"), "laptop").unwrap_err();
    assert!(error.contains("the name db, not for db2"), "{error}");
    let error = choose("web*", None, "web01").unwrap_err();
    assert!(error.contains("--name"), "{error}");
    let error = choose("web01", None, "laptop").unwrap_err();
    assert!(error.contains("another invitation"), "{error}");
    for bad in ["", "Web", "web.*", "-web", "a b", &"*".repeat(64)] {
        NamePattern::parse(bad).unwrap_err();
    }
}

proptest! {
    /// Whatever a line has behind cluster and secret, with a right length and checksum: never a panic, never too much.
    #[test]
    fn any_items_are_read_or_skipped(items in vec(any::<u8>(), 0..=200)) {
        let mut bytes = vec![0];
        bytes.extend(id(1).as_bytes());
        bytes.extend([9; SECRET_BYTES]);
        bytes.extend(items);
        bytes[0] = u8::try_from(bytes.len() + 4).unwrap();
        bytes.extend(line::checksum(&bytes));
        let text = format!("{}{}", line::PREFIX, BASE32_DNSSEC.encode(&bytes));
        if let Ok(read) = Invitation::parse(&text) {
            prop_assert!(read.hints.len() <= MAX_HINTS);
            prop_assert_eq!(Invitation::parse(&read.to_line()), Ok(read));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(malai1)?[0-9a-zA-Z -]{0,300}") {
        let _ = Invitation::parse(&text);
    }
}
