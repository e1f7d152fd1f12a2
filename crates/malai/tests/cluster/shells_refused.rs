//! Shells are refused by a rule, or because the user whom commands run as has none. Also, who owns a terminal.

use crate::harness::{Cluster, Output};

fn shell(route: &crate::harness::Route<'_>) -> Output {
    route.run_with::<&str>(&[], b"echo in\n")
}

#[test]
fn a_shell_is_refused_by_its_own_rule_and_commands_are_not() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        // The user's own login files may write to standard error.
        let opened = shell(&route);
        assert_eq!(
            (opened.code, opened.out()),
            (0, "in\n"),
            "{}",
            opened.shown()
        );
    }
    cluster.edit(|text| {
        text.replace(
            "\nallow_from = \"*\"\n",
            "\nallow_from = \"*\"\nallow_shell = []\n",
        )
    });
    cluster.machine("laptop").start();
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();
    for route in cluster.routes() {
        assert_eq!(route.run(&["echo", "in"]).clean(), "in\n");
        let machine = route.target.trim_end_matches(".company");
        let rule = format!("machine.{machine}.allow_shell does not allow you to open a shell");
        shell(&route).refused(&rule);
        let insists = route.home.run(&["-tt", route.target]);
        insists.refused(&rule);
    }
    let record = cluster.machine("web01").succeed(&["audit"]);
    let of_shells: Vec<&str> = record
        .lines()
        .filter(|line| line.contains("(a shell)"))
        .collect();
    // Three routes lead to web01: on each, a shell is allowed, started and ended, then refused twice.
    for (what, times) in [("allowed", 3), ("started", 3), ("ended", 3), ("refused", 6)] {
        let found = of_shells
            .iter()
            .filter(|line| line.contains(&format!(" {what} ")))
            .count();
        assert_eq!(found, times, "{what} in\n{record}");
    }
}

/// Everything on web01 and laptop runs as this user.
fn running_as(user: &str) -> Option<Cluster> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may switch users");
        return None;
    }
    let cluster = Cluster::new(&["web01", "laptop"]);
    let allowed = "\nallow_from = \"*\"\n";
    cluster.edit(|text| text.replace(allowed, &format!("{allowed}username = \"{user}\"\n")));
    for home in [
        cluster.machine("web01"),
        cluster.machine("laptop"),
        &cluster.manager,
    ] {
        home.start();
    }
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();
    Some(cluster)
}

/// `nobody` has no shell on Debian. Commands still run as it, on a terminal that it owns.
#[test]
fn a_user_that_does_not_log_in_gets_no_shell() {
    let Some(cluster) = running_as("nobody") else {
        return;
    };
    for route in cluster.routes() {
        shell(&route).refused("user nobody has no login shell on that machine");
        route.home.run(&["-tt", route.target]).refused("nologin");
        let script = "stat -c '%U %a' \"$(tty)\"; echo x >/dev/tty";
        let own = route.home.run(&["-tt", route.target, "sh", "-c", script]);
        assert_eq!(
            (own.code, own.out()),
            (0, "nobody 620\r\nx\r\n"),
            "{}",
            own.shown()
        );
    }
}
