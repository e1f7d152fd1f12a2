//! What people type who know other programs: each is answered with what malai has instead.

use crate::world::World;

#[test]
fn a_home_that_knows_nothing_names_itself() {
    let world = World::new();
    let home = world.home().display().to_string();
    for line in [
        "web01.company true",
        "web01",
        "why laptop web01.company ls",
        "ping web01.company",
        "list",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = world.output(&words);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(&home), "malai {line}: {said}");
    }
}

#[test]
fn what_people_type_is_answered_with_what_malai_has() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let id = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";
    world.succeed(&[
        "cluster",
        "add",
        "company",
        "web01",
        id,
        "--allow-from",
        "*",
    ]);
    for (line, code, said) in [
        ("ann@web01 uptime", 255, "did you mean web01.company?"),
        ("web01 uptime", 2, "did you mean web01.company?"),
        ("Web01.Company uptime", 255, "did you mean web01.company?"),
        ("WEB01 uptime", 2, "did you mean web01.company?"),
        ("web01.company:22 uptime", 255, "needs no port"),
        ("web01:22 uptime", 2, "did you mean web01.company?"),
        (
            "web01.company:/etc/motd .",
            255,
            "malai cp web01.company:/etc/motd .",
        ),
        (
            "ssh://ann@web01.company:22 true",
            255,
            "did you mean web01.company?",
        ),
        (
            "exec web01@company true",
            255,
            "did you mean web01.company?",
        ),
        ("-p 22 web01.company uptime", 2, "malai needs no port"),
        ("-l root web01.company id", 2, "malai root@web01.company id"),
        ("-v web01.company id", 2, "malai logs -f"),
        ("web01.company -t htop", 255, "malai -t web01.company"),
        ("web01.company -p 22 true", 255, "malai needs no port"),
        ("web01.company -- true", 255, "malai web01.company true ("),
        ("web01.company --help", 255, "malai --help"),
        (
            "exec web01.company -n true",
            255,
            "before the target: malai exec -n web01.company true (",
        ),
        ("reload", 2, "malai rescan"),
        ("ls", 2, "malai list"),
        ("start", 2, "malai daemon"),
        ("cluster create company", 2, "malai cluster init"),
        ("cluster ls", 2, "malai cluster list"),
        ("machine list", 2, "malai list"),
        ("daemon stop", 2, "malai stop"),
        ("daemon restart", 2, "malai restart"),
        ("sessions list", 2, "malai sessions"),
        ("LIST", 2, "did you mean `malai list`?"),
        ("ping WEB01", 1, "did you mean web01.company?"),
        ("ping Web01.Company", 1, "names are lowercase"),
        ("why web01 web01 ls", 2, "did you mean web01.company?"),
        (
            "web01,web01.company uptime",
            255,
            "did you mean web01.company?",
        ),
        ("@company uptime", 255, "'*.company' is all its machines"),
        (
            "-x web01 *.company uptime",
            255,
            "did you mean web01.company?",
        ),
        ("ssh Web01.Company true", 255, "did you mean web01.company?"),
        ("sessions end x", 2, "write a whole number"),
        ("--parallel 0 web01.company true", 2, "from 1 to 512"),
        ("company", 2, "is a cluster"),
        ("help reload", 2, "malai rescan"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = world.output(&words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(said), "malai {line}: {text}");
        assert!(text.starts_with("malai: "), "malai {line}: {text}");
        assert_eq!(output.status.code(), Some(code), "malai {line}: {text}");
    }
}
