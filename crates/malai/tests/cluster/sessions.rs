//! `malai sessions`: lists what runs here and elsewhere, and ends a session.

use serde_json::Value;

use crate::harness::{Cluster, Home, finish, lives, until};
use crate::signals::{MEEK, started};

fn listed(home: &Home, list: &str) -> Vec<Value> {
    let json: Value = serde_json::from_str(&home.succeed(&["sessions", "--json"])).unwrap();
    json[list].as_array().expect("a list").clone()
}

#[test]
fn each_session_is_listed_and_can_be_ended() {
    let cluster = Cluster::with_routes();
    let (web01, marker) = (cluster.machine("web01"), cluster.folder().join("marker"));
    assert_eq!(web01.succeed(&["sessions"]), "Nothing runs here.\n");
    let [daemon, direct, here, _] = cluster.routes();
    for (route, machine, path) in [
        (daemon, "boss", "direct"),
        (direct, "laptop", "direct"),
        (here, "web01", "here"),
    ] {
        let (child, ids) = started(&route, MEEK, &marker);
        let printed: u64 = ids.iter().map(|id| id.to_string().len() as u64 + 1).sum();
        until("its output to be counted, and its path to be known", || {
            let session = listed(web01, "here").remove(0);
            session["bytes_out"] == printed && session["path"] != "unknown"
        });
        let session = listed(web01, "here").remove(0);
        assert_eq!(session["machine"], machine, "{session}");
        assert_eq!(session["path"], path, "{session}");
        assert_eq!(session["address"].is_string(), path == "direct");
        assert_eq!(session["argv"][2], MEEK, "{session}");
        assert_eq!(session["rule"], "machine.web01.allow_from: *", "{session}");
        assert_eq!(session["cluster"], "company");
        let id = session["id"].to_string();
        let text = web01.succeed(&["sessions"]);
        assert!(
            text.contains(&format!("{machine}.company runs sh -c")),
            "{text}"
        );

        assert_eq!(web01.run(&["sessions", "end", "4711"]).code, 1);
        web01.succeed(&["sessions", "end", &id]);
        let output = finish(child, Vec::new());
        assert_eq!(output.code, 255, "{}", output.shown());
        let said = "malai: web01.company: ended by the administrator of web01\n";
        assert_eq!(output.stderr, said, "{}", route.name);
        until("the end of the group", || !ids.iter().any(|id| lives(*id)));
        until("the end of the list", || listed(web01, "here").is_empty());
        let audit = web01.succeed(&["audit", "-n", "1"]);
        assert!(
            audit.contains("ended by the administrator of web01"),
            "{audit}"
        );
        assert!(web01.log().contains("ended by hand"));
    }
}

#[test]
fn what_runs_elsewhere_is_listed_too_and_can_be_ended() {
    let cluster = Cluster::with_routes();
    let (boss, marker) = (&cluster.manager, cluster.folder().join("marker"));
    let (child, ids) = started(&cluster.routes()[0], MEEK, &marker);
    let session = listed(boss, "elsewhere").remove(0);
    assert_eq!(session["target"], "web01.company", "{session}");
    assert_eq!(session["path"], "direct", "{session}");
    assert!(listed(boss, "here").is_empty());
    boss.succeed(&["sessions", "end", &session["id"].to_string()]);
    let output = finish(child, Vec::new());
    assert_eq!(output.code, 255, "{}", output.shown());
    let said = "the command on web01.company was ended by the administrator of this computer";
    assert!(output.stderr.contains(said), "{}", output.shown());
    until("the end of the group", || !ids.iter().any(|id| lives(*id)));
    until("the end of the list", || {
        listed(boss, "elsewhere").is_empty()
    });
}

#[test]
fn without_a_daemon_nothing_is_known() {
    let cluster = Cluster::new(&[]);
    for words in [&["sessions"][..], &["sessions", "end", "1"]] {
        let output = cluster.manager.run(words);
        assert_eq!((output.code, output.out()), (1, ""));
        assert!(
            output.stderr.contains("no daemon is running here"),
            "{}",
            output.shown()
        );
    }
}
