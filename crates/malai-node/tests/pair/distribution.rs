//! Revisions that members get from each other, and the decisions based on them.

use malai_testing::cluster::{Cluster, Plan};
use malai_testing::{run, until};

/// Nobody may run anything until [`allow_all`].
fn allow_none(text: String) -> String {
    let text = text.replace("allow_from = \"*\"", "allow_from = \"nobody-yet\"");
    format!("{text}\n[group.nobody-yet]\nmembers = []\n")
}

fn allow_all(text: String) -> String {
    text.replace("allow_from = \"nobody-yet\"", "allow_from = \"*\"")
}

/// The first member that a machine meets brings it up to date before it decides. Here the other member sends the command.
#[test]
fn a_machine_that_missed_an_update_gets_it_from_a_member_that_commands_it() {
    for commander in ["web01", "laptop"] {
        run(async {
            let plan = Plan::new(&["web01", "laptop", "sleeper"]).idle("laptop");
            let mut cluster = plan.config(allow_none).start().await;
            let newer = cluster.seal(allow_all);
            let from = cluster.machine(commander);
            from.install(&newer);
            let sleeper = cluster.machine("sleeper");
            let commanded = from.run("sleeper.company", &["echo", "awake"]).await;
            assert_eq!(commanded.clean(), "awake\n", "{commander}");
            assert_eq!(sleeper.revision(), from.revision());
        });
    }
}

/// Here the machine sends the command itself, to a member that has the update.
#[test]
fn a_machine_that_missed_an_update_gets_it_from_a_member_that_it_commands() {
    run(async {
        let plan = Plan::new(&["web01", "sleeper"]).config(allow_none);
        let mut cluster = plan.start().await;
        let newer = cluster.seal(allow_all);
        let (web01, sleeper) = (cluster.machine("web01"), cluster.machine("sleeper"));
        web01.install(&newer);
        let commanding = sleeper.run("web01.company", &["echo", "met"]).await;
        assert_eq!(commanding.clean(), "met\n");
        // The command may end while the update is still on its way back.
        until("the update", || sleeper.revision() == web01.revision()).await;
        let here = sleeper.run("sleeper.company", &["echo", "me"]).await;
        assert_eq!(here.clean(), "me\n");
    });
}

#[test]
fn a_machine_that_was_removed_commands_no_machine_any_more() {
    run(async {
        let mut cluster = Cluster::start(&["web01", "laptop"]).await;
        let on = async |cluster: &Cluster| {
            let laptop = cluster.machine("laptop");
            laptop.run("web01.company", &["echo", "on"]).await
        };
        assert_eq!(on(&cluster).await.clean(), "on\n");
        let newer = cluster.seal(|text| {
            let (before, after) = text.split_once("[machine.laptop]").unwrap();
            let rest = after.find("\n[").map_or("", |at| &after[at..]);
            format!("{before}{rest}")
        });
        cluster.manager().install(&newer);
        cluster.machine("web01").install(&newer);
        let refused = on(&cluster).await;
        assert_eq!((refused.code, refused.out()), (255, ""), "{refused:?}");
        let unknown = cluster.manager().run("laptop.company", &["true"]).await;
        unknown.refused("unknown machine `laptop`");
    });
}
