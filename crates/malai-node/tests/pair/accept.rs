//! What a computer's owner accepts, and what happens to running commands when that or the configuration changes.

use malai_testing::cluster::{Cluster, Machine, Running};
use malai_testing::{lives, run, until};

use super::own_user;

const FROM: &str = "malai.toml accept.company.from on that computer does not accept you";

/// A command that runs until something ends it, and the processes of its group.
struct Begun {
    running: Running,
    processes: Vec<u32>,
}

impl Begun {
    async fn on(from: &Machine, target: &str) -> Begun {
        let script = "sleep 3571 & echo $$ $!; wait";
        let mut running = from.begin(target, &["sh", "-c", script]);
        let line = running.line().await;
        let processes = line.split_whitespace().map(|pid| pid.parse().unwrap());
        let processes: Vec<u32> = processes.collect();
        assert_eq!(processes.len(), 2, "{line:?}");
        Begun { running, processes }
    }

    /// Asserts that it ends with this reason, and its process group with it. Its input stays open.
    async fn ended(self, reason: &str) {
        until("its end", || self.running.has_ended()).await;
        let output = self.running.finish().await;
        output.refused("ended because the configuration has changed");
        output.refused(reason);
        until("the process group's end", || {
            !self.processes.iter().any(|pid| lives(*pid))
        })
        .await;
    }

    /// Asserts that it was not ended, and ends it.
    async fn goes_on(self) {
        assert!(!self.running.has_ended());
        assert!(self.processes.iter().all(|pid| lives(*pid)));
        self.running.gone.cancel();
        until("the process group's end", || {
            !self.processes.iter().any(|pid| lives(*pid))
        })
        .await;
    }
}

#[test]
fn from_whom() {
    run(async {
        let mut cluster = Cluster::start(&["web01", "laptop"]).await;
        cluster
            .machine("web01")
            .apply("[accept.company]\nfrom = \"boss\"\n");
        let on = async |from: &Machine, target: &str| from.run(target, &["echo", "on"]).await;
        let (boss, web01) = (cluster.manager(), cluster.machine("web01"));
        let laptop = cluster.machine("laptop");
        on(laptop, "web01.company").await.refused(FROM);
        assert_eq!(on(boss, "web01.company").await.clean(), "on\n");
        // The refused member may still use other machines, and this computer still dials.
        assert_eq!(on(laptop, "boss.company").await.clean(), "on\n");
        assert_eq!(on(web01, "laptop.company").await.clean(), "on\n");

        web01.apply("[accept.company]\nfrom = [\"laptop\", \"web01\"]\n");
        on(boss, "web01.company").await.refused(FROM);
        assert_eq!(on(laptop, "web01.company").await.clean(), "on\n");
        assert_eq!(on(web01, "web01.company").await.clean(), "on\n");

        // It still dials, but accepts nothing.
        web01.apply("[accept.company]\nfrom = []\n");
        for from in [laptop, boss, web01] {
            on(from, "web01.company").await.refused(FROM);
        }
        assert_eq!(on(web01, "laptop.company").await.clean(), "on\n");
        // Configurations still reach it, with the next connection to a member that has a newer one.
        cluster.publish(|text| text + "\n[group.everybody]\nmembers = \"web01\"\n");
        let (boss, web01) = (cluster.manager(), cluster.machine("web01"));
        boss.service.peers.dial_new(web01.id()).await.unwrap();
        until("the new configuration", || {
            web01.revision() == boss.revision()
        })
        .await;

        web01.apply("");
        assert_eq!(
            on(cluster.machine("laptop"), "web01.company").await.clean(),
            "on\n"
        );
    });
}

#[test]
fn as_which_users_the_own_included() {
    run(async {
        let cluster = Cluster::with_routes().await;
        let own = own_user();
        for (users, accepted) in [("somebody-else", false), (own.as_str(), true), ("", false)] {
            let web01 = cluster.machine("web01");
            web01.apply(&format!("[accept.company]\nusers = \"{users}\"\n"));
            for route in &cluster.routes()[..3] {
                let output = route.run(&["echo", "on"]).await;
                match accepted {
                    true => assert_eq!(output.clean(), "on\n"),
                    false => output.refused(&format!(
                        "malai.toml accept.company.users on that computer does not accept commands that run as user `{own}`"
                    )),
                }
            }
        }
    });
}

#[test]
fn what_runs_already_is_judged_by_it_too() {
    run(async {
        let cluster = Cluster::start(&["web01", "laptop"]).await;
        let web01 = cluster.machine("web01");
        let taken = Begun::on(cluster.machine("laptop"), "web01.company").await;
        let kept = Begun::on(cluster.manager(), "web01.company").await;
        let here = Begun::on(web01, "web01.company").await;
        let narrow = "[accept.company]\nfrom = \"boss,web01\"\n";
        web01.apply(narrow);
        taken.ended(FROM).await;
        // Applying the same file again changes nothing, and the other commands keep running.
        web01.apply(narrow);
        kept.goes_on().await;
        web01.apply("[accept.company]\nusers = \"no-such-user\"\n");
        here.ended("malai.toml accept.company.users").await;
    });
}

#[test]
fn a_new_configuration_ends_what_it_does_not_allow() {
    run(async {
        let mut cluster = Cluster::with_routes().await;
        let [boss, laptop, here, _] = cluster.routes();
        let kept = Begun::on(boss.from, boss.target).await;
        let others = [
            Begun::on(laptop.from, laptop.target).await,
            Begun::on(here.from, here.target).await,
        ];
        let id = cluster.machine("web01").id();
        let section = |allowed: &str| format!("id52 = \"{id}\"\nallow_from = \"{allowed}\"");
        cluster.publish_everywhere(|text| text.replace(&section("*"), &section("boss")));
        for taken in others {
            taken.ended("machine.web01.allow_from").await;
        }
        // Another list with the same member, and the daemon's own user by name, change nothing.
        let own = own_user();
        cluster.publish_everywhere(|text| {
            let again = format!("{}\nusername = \"{own}\"", section("bosses"));
            let text = text.replace(&section("boss"), &again);
            format!("{text}\n[group.bosses]\nmembers = \"boss\"\n")
        });
        let answer = cluster.manager().run("web01.company", &["true"]).await;
        answer.clean();
        kept.goes_on().await;
    });
}
