//! The network of a cluster: where it is shown, and a machine that is told of a relay.

use std::fs;

use expect_test::expect;

use crate::world::World;

const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
const RELAY: &str =
    "https://10.0.0.5:7843#00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn relays_are_shown_as_they_are_written() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let config = world.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = format!("{text}\n[network]\nrelays = [\"{RELAY}\"]\npublic = false\n");
    fs::write(&config, text).unwrap();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        company: managed here
        🆔 Manager: [ID52]
        🛰️  Relay: https://10.0.0.5:7843#00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
        🔒 Nothing public is used (public = false)

        No machines yet: malai cluster add <alias> <name> <id52>
    "#]].assert_eq(&world.picture(&["cluster", "show", "company"]));
    let json = world.picture(&["cluster", "show", "company", "--json"]);
    assert!(
        json.contains("\"public\": false") && json.contains(RELAY),
        "{json}"
    );
}

#[test]
fn a_machine_keeps_the_relay_that_it_was_given() {
    let world = World::new();
    world.succeed(&["machine", "init", ID, "company", "--relay", RELAY]);
    let file = fs::read_to_string(world.cluster_file("company/manager")).unwrap();
    assert_eq!(file, format!("{ID}\n{RELAY}\n"));
    let refused = world.picture(&["machine", "init", ID, "work", "--relay", "relay.example"]);
    assert!(
        refused.contains("does not start with `https://`"),
        "{refused}"
    );
}
