//! Tests of stored invitations.

use std::os::unix::fs::PermissionsExt;

use malai_cluster::{ClusterAlias, SecretSeed};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::home::Home;
use crate::home::init::init_cluster;

fn id(byte: u8) -> MachineId {
    SecretSeed::from_bytes([byte; 32]).id()
}

fn world() -> (TempDir, ClusterDir) {
    let folder = tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let alias = ClusterAlias::parse("company").unwrap();
    let made = init_cluster(&home, &alias).unwrap();
    (folder, made.dir)
}

fn invited(uses: u32) -> Invited {
    Invited {
        names: NamePattern::parse("web*").unwrap(),
        groups: vec![GroupName::parse("web").unwrap()],
        allow_from: vec!["admins".to_owned()],
        uses,
        created: Timestamp(1_000),
        expires: Timestamp(5_000),
        key: id(99),
        revoked: None,
        revoked_because: None,
        used: Vec::new(),
    }
}

fn using(byte: u8, at: u64) -> Use {
    Use {
        name: MachineName::parse(&format!("web{byte}")).unwrap(),
        id52: id(byte),
        at: Timestamp(at),
        from: "192.0.2.7:1".to_owned(),
        joined: false,
    }
}

#[test]
fn an_invitation_comes_back_as_it_was_stored() {
    let (_folder, dir) = world();
    let mut stored = invited(2);
    let id = create(&dir, &stored).unwrap();
    record_use(&dir, id, &using(1, 2_000)).unwrap().unwrap();
    stored.used.push(using(1, 2_000));
    assert_eq!(load(&dir, id).unwrap().unwrap(), stored);
    let path = dir.invitations().join(format!("{id}.toml"));
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&dir.invitations())), (0o600, 0o700));
    std::fs::write(&path, "uses = ").unwrap();
    load(&dir, id).unwrap_err();
    assert!(list(&dir).unwrap()[0].1.is_err());
}

#[test]
fn each_end_has_its_own_sentence() {
    let now = Timestamp(2_000);
    let said = |invited: &Invited, machine: u8, at: Timestamp| {
        invited.judge(&id(machine), at).unwrap_err().to_string()
    };
    assert_eq!(invited(1).judge(&id(1), now), Ok(None));
    assert!(said(&invited(1), 1, Timestamp(5_000)).contains("it expired at 1970-01-01T00:00:05Z"));
    let mut used = invited(1);
    used.used.push(using(1, 2_000));
    let of_thief = said(&used, 2, now);
    assert!(
        of_thief.contains("it was used already: by web1") && of_thief.contains(&id(1).to_string()),
        "{of_thief}"
    );
    let mut several = invited(2);
    several.used.extend([using(1, 2_000), using(2, 2_000)]);
    assert!(said(&several, 3, now).contains("for 2 machines, and all of them have used"));
    let mut revoked = invited(1);
    revoked.revoked = Some(Timestamp(3_000));
    assert!(said(&revoked, 1, now).contains("it was revoked at 1970-01-01T00:00:03Z"));
    revoked.revoked_because = Some(RESTORED.to_owned());
    assert!(said(&revoked, 1, now).contains("restored from a backup"));
}

/// The same key may finish what it has begun, and nothing more.
#[test]
fn a_use_is_finished_by_its_own_key_and_only_once() {
    let mut used = invited(1);
    used.used.push(using(1, 2_000));
    let late = Timestamp(9_000);
    assert_eq!(used.judge(&id(1), late).unwrap(), Some(&using(1, 2_000)));
    used.judge(&id(2), Timestamp(2_000)).unwrap_err();
    used.used[0].joined = true;
    let removed = used.judge(&id(1), Timestamp(2_000)).unwrap_err();
    assert!(matches!(removed, Unfit::Removed { .. }), "{removed}");
    used.used[0].joined = false;
    used.revoked = Some(Timestamp(2_000));
    used.judge(&id(1), Timestamp(2_000)).unwrap_err();
}

#[test]
fn of_many_that_come_at_once_no_more_get_in_than_are_invited() {
    let (_folder, dir) = world();
    let name = create(&dir, &invited(3)).unwrap();
    let admitted: usize = std::thread::scope(|scope| {
        let dir = &dir;
        let all: Vec<_> = (1..=8)
            .map(|byte| scope.spawn(move || record_use(dir, name, &using(byte, 2_000)).unwrap()))
            .collect();
        let all = all.into_iter().map(|one| one.join().unwrap());
        all.filter(Result::is_ok).count()
    });
    assert_eq!(admitted, 3);
    assert_eq!(load(&dir, name).unwrap().unwrap().left(), 0);
}

#[test]
fn a_noticed_restore_revokes_all() {
    let (_folder, dir) = world();
    let name = create(&dir, &invited(1)).unwrap();
    revoke_restored(&dir, Timestamp(3_000));
    let found = load(&dir, name).unwrap().unwrap();
    assert_eq!(found.revoked_because.as_deref(), Some(RESTORED));
    // The first reason and time stay.
    revoke(&dir, &name.to_string(), Timestamp(4_000), None).unwrap();
    assert_eq!(load(&dir, name).unwrap().unwrap(), found);
    revoke(&dir, "../x", Timestamp(4_000), None).unwrap_err();
}

#[test]
fn those_that_ended_long_ago_are_deleted() {
    let (_folder, dir) = world();
    create(&dir, &invited(1)).unwrap();
    let later = Invited {
        key: id(98),
        created: Timestamp(5_000 + KEPT_MS + 1),
        ..invited(1)
    };
    let kept = create(&dir, &later).unwrap();
    let all = list(&dir).unwrap();
    assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [kept]);
}
