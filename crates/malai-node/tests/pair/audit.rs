//! What is recorded about each command, and where.

use malai_testing::cluster::{Cluster, Machine, Plan, Running};
use malai_testing::peer::{Peer, stranger};
use malai_testing::{run, until};
use malai_wire::action::RecordedAction;
use malai_wire::argument::Argument;
use malai_wire::audit::{Decision, End, Event, Request};

/// The decision, start and end of the last command.
#[track_caller]
fn last_command(machine: &Machine) -> (Decision, Request, End) {
    let all = machine.records();
    let [decision, start, end] = &all[all.len().saturating_sub(3)..] else {
        panic!("{all:?}");
    };
    match (&decision.event, &start.event, &end.event) {
        (Event::Decision(decision), Event::Start(start), Event::End(end)) => {
            assert_eq!(decision.session, Some(start.session));
            assert_eq!((start.session, &start.user), (end.session, &end.user));
            assert_eq!(start.request, end.request);
            assert_eq!(start.request, decision.request);
            (decision.clone(), start.request.clone(), end.clone())
        }
        other => panic!("{other:?}"),
    }
}

/// Waits for the record of an end with this reason.
async fn ended(machine: &Machine, why: &str) -> End {
    let end = |event: &Event| match event {
        Event::End(end) if end.why.contains(why) => Some(end.clone()),
        _ => None,
    };
    let found = || {
        machine
            .records()
            .iter()
            .find_map(|record| end(&record.event))
    };
    until(why, || found().is_some()).await;
    found().expect("an end")
}

/// Starts a command that keeps running, and waits until it runs.
async fn begun(from: &Machine) -> Running {
    let mut running = from.begin("web01.company", &["sh", "-c", "echo on; exec sleep 600"]);
    assert_eq!(running.line().await, "on");
    running
}

fn text(argument: &str) -> Argument {
    Argument::Text(argument.to_owned())
}

#[test]
fn a_command_on_each_route_is_recorded_once_where_it_runs() {
    run(async {
        let cluster = Cluster::with_routes().await;
        let (boss, web01) = (cluster.manager(), cluster.machine("web01"));
        let laptop = cluster.machine("laptop");
        let count = || [boss, web01, laptop].map(|machine| machine.records().len());
        let script = "cat >/dev/null; echo out; echo worse >&2; exit 3";
        for route in cluster.routes() {
            let before: usize = count().iter().sum();
            let output = route.run_with(&["sh", "-c", script], b"12345").await;
            assert_eq!(output.code, 3, "{output:?}");
            let (target, _) = route.target.split_once('.').unwrap();
            let target = cluster.machine(target);
            until("the record of the end", || {
                let last = target.records().pop();
                matches!(last.map(|last| last.event), Some(Event::End(_)))
            })
            .await;
            let (decision, request, end) = last_command(target);
            assert!(decision.allowed && decision.reason.is_none());
            let rule = decision.rule.unwrap();
            assert!(rule.ends_with(".allow_from: *"), "{rule}");
            assert_eq!(decision.user.as_deref(), Some(&*super::own_user()));
            assert_eq!(request.cluster, "company");
            assert_eq!(request.cluster_id, cluster.id());
            assert_eq!(request.revision, Some(boss.revision()));
            let asked = (request.machine.as_deref(), request.peer);
            assert_eq!(asked, (Some(&*route.from.name), route.from.id()));
            let here = route.from.name == target.name;
            assert_eq!(request.from == "here", here, "{}", request.from);
            let by_address = ["127.0.0.1:", "[::1]:"].map(|of| request.from.starts_with(of));
            assert!(here || by_address.contains(&true), "{}", request.from);
            assert_eq!(request.action.argv(), ["sh", "-c", script].map(text));
            assert_eq!((end.exit, end.signal), (Some(3), None));
            assert_eq!(end.why, "the command ended");
            assert_eq!((end.bytes_in, end.bytes_out, end.bytes_err), (5, 4, 6));
            let after: usize = count().iter().sum();
            assert_eq!(after - before, 3, "{}", route.name);
        }
        // Each run of malai counts its sessions from zero, and records which run it was.
        let mut runs: Vec<_> = web01
            .records()
            .into_iter()
            .map(|record| record.instance)
            .collect();
        runs.dedup();
        assert_eq!(runs.len(), 1);
    });
}

#[test]
fn each_kind_of_end_is_recorded() {
    run(async {
        let mut cluster = Cluster::start(&["web01"]).await;
        let (boss, web01) = (cluster.manager(), cluster.machine("web01"));
        // A client that disconnects.
        begun(boss).await.gone.cancel();
        ended(web01, "the client went before the end").await;
        // A program that does not exist, and an argument that is not text.
        let words = [&b"no-such-program"[..], b"a\xffb\n"];
        assert_eq!(boss.run("web01.company", &words).await.code, 127);
        let end = ended(web01, "could not be started").await;
        assert_eq!(end.exit, Some(127));
        let hex = "61ff620a".to_owned();
        let argument = &end.request.action.argv()[1];
        assert_eq!(*argument, Argument::Bytes { hex, of: None });
        // A signal.
        let killed = boss
            .run("web01.company", &["sh", "-c", "kill -KILL $$"])
            .await;
        assert_eq!(killed.code, 137);
        until("the record of the signal", || {
            let last = web01.records().pop().map(|last| last.event);
            matches!(last, Some(Event::End(end)) if end.signal == Some(9))
        })
        .await;
        // A configuration that no longer allows it.
        let running = begun(cluster.manager()).await;
        cluster.publish_everywhere(|text| {
            text.replace("allow_from = \"*\"", "allow_from = \"web01\"")
        });
        assert_eq!(running.finish().await.code, 255);
        let why = "the configuration has changed: machine.web01.allow_from does not allow you";
        ended(cluster.machine("web01"), why).await;
    });
}

#[test]
fn refusals_are_recorded_and_unknown_keys_are_counted() {
    run(async {
        let plan = Plan::new(&["web01"]).config(|text| {
            let (before, after) = text.split_once("[machine.web01]").unwrap();
            format!(
                "{before}[machine.web01]{}",
                after.replace("\"*\"", "\"web01\"")
            )
        });
        let cluster = plan.start().await;
        let web01 = cluster.machine("web01");
        let refused = cluster
            .manager()
            .run("web01.company", &["echo", "a\nb"])
            .await;
        refused.refused("machine.web01.allow_from does not allow you");
        match web01.records().pop().unwrap().event {
            Event::Decision(decision) => {
                assert!(!decision.allowed && decision.session.is_none());
                let reason = decision.reason.unwrap();
                assert!(reason.contains("machine.web01.allow_from does not allow"));
                assert_eq!(decision.request.machine.as_deref(), Some("boss"));
                assert_eq!(decision.request.action.argv(), ["echo", "a\nb"].map(text));
            }
            other => panic!("{other:?}"),
        }
        let before = web01.records().len();
        for _ in 0..3 {
            let peer = Peer::connect(&stranger(), &web01.id()).await;
            peer.greet(None).await;
            peer.closed_by_peer().await;
        }
        assert_eq!(web01.records().len(), before, "not one by one");
        web01.service.cluster_state.node.audit.counted();
        let last = web01.records().pop().unwrap().event;
        assert!(
            matches!(&last, Event::Strangers(all) if all.refused >= 3 && all.cluster == "company"),
            "{last:?}"
        );
    });
}

#[test]
fn arguments_can_be_kept_out() {
    run(async {
        let plan = Plan::new(&["web01"]).settings("web01", "audit_arguments = false\n");
        let cluster = plan.start().await;
        let words = ["echo", "-psecret", "word"];
        let output = cluster.manager().run("web01.company", &words).await;
        assert_eq!(output.clean(), "-psecret word\n");
        let web01 = cluster.machine("web01");
        ended(web01, "the command ended").await;
        let (_, request, _) = last_command(web01);
        let argv = vec![text("echo")];
        let argv_left_out = 2;
        assert_eq!(
            request.action,
            RecordedAction::Exec {
                argv,
                argv_left_out
            }
        );
    });
}
