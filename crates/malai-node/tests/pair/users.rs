//! Which user a command runs as, and what a forced command does with the requested one.

use malai_testing::cluster::{Cluster, Plan};
use malai_testing::{lives, run, until};
use malai_wire::peer::exec::Action;

/// Whether this test can run; if not, says why.
fn is_root() -> bool {
    let root = super::own_user() == "root";
    if !root {
        eprintln!("skipped: only root may switch users");
    }
    root
}

/// Everything runs as this user.
fn runs_as(text: &str, user: &str) -> String {
    let allowed = "\nallow_from = \"*\"\n";
    text.replace(allowed, &format!("{allowed}username = \"{user}\"\n"))
}

#[test]
fn a_commands_own_user_comes_before_the_machines() {
    if !is_root() {
        return;
    }
    run(async {
        let commands = "
[machine.web01.command.whoami]
username = \"daemon\"
[machine.web01.command.mine]
command = \"id -un\"
[machine.web01.command.own]
command = \"id -un\"
username = \"root\"
";
        let plan = Plan::new(&["web01"]).config(|text| runs_as(&text, "nobody") + commands);
        let cluster = plan.start().await;
        for (words, user) in [
            (&["whoami"][..], "daemon\n"),
            (&["mine"], "nobody\n"),
            (&["own"], "root\n"),
            (&["id", "-un"], "nobody\n"),
        ] {
            let output = cluster.manager().run("web01.company", words).await;
            assert_eq!(output.clean(), user, "{words:?}");
        }
    });
}

#[test]
fn a_user_that_is_not_there_runs_nothing() {
    run(async {
        let plan = Plan::new(&["web01", "laptop"]).idle("laptop");
        let plan = plan.config(|text| runs_as(&text, "no-such-user"));
        let cluster = plan.start().await;
        let marker = cluster.file("marker");
        for route in cluster.routes() {
            let output = route.run(&["touch", marker.to_str().unwrap()]).await;
            output.refused("user `no-such-user`");
            output.refused("this machine has no user `no-such-user`, as whom the configuration has this run; nothing was run");
        }
        assert!(!marker.exists());
    });
}

#[test]
fn another_user_under_a_new_configuration_ends_what_runs() {
    if !is_root() {
        return;
    }
    run(async {
        let plan = Plan::new(&["web01"]).config(|text| runs_as(&text, "nobody"));
        let mut cluster = plan.start().await;
        let script = ["sh", "-c", "sleep 3572 & echo $$ $!; wait"];
        let mut running = cluster.manager().begin("web01.company", &script);
        let line = running.line().await;
        let ids: Vec<u32> = line.split(' ').map(|id| id.parse().unwrap()).collect();
        assert!(ids.len() == 2 && ids.iter().all(|id| lives(*id)), "{line}");
        cluster.publish_everywhere(|text| text.replace("\"nobody\"", "\"daemon\""));
        let output = running.finish().await;
        output.refused("it would run as user `daemon` now");
        // Root may signal what belongs to another user.
        until("the process group's end", || {
            !ids.iter().any(|id| lives(*id))
        })
        .await;
    });
}

#[test]
fn a_forced_command_runs_whatever_is_asked_for() {
    run(async {
        let forced = "
[machine.web01.command.serve]
command = \"sh -c 'echo \\\"forced: $SSH_ORIGINAL_COMMAND\\\"'\"
forced = true
";
        let cluster: Cluster = Plan::new(&["web01"])
            .config(|text| text + forced)
            .start()
            .await;
        let exec = |words: &[&str]| {
            Action::Exec(words.iter().map(|word| word.as_bytes().to_vec()).collect())
        };
        for (action, expected) in [
            (
                exec(&["borg", "serve", "a b"]),
                "forced: borg serve 'a b'\n",
            ),
            (
                exec(&["rm", "-rf", "/nothing"]),
                "forced: rm -rf /nothing\n",
            ),
            (Action::Shell, "forced: \n"),
        ] {
            let output = cluster
                .manager()
                .ask("web01.company", action)
                .finish()
                .await;
            assert_eq!(output.clean(), expected);
        }
    });
}
