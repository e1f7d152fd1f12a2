//! Colors, and where there are none.

use crate::world::World;

#[test]
fn no_color_is_honored() {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    // A daemon that serves nothing exits at once; before that it warns of a part of RUST_LOG.
    std::fs::write(world.cluster_file("company/cluster.toml"), "bad").expect("written");
    for (variables, is_styled) in [
        (&[][..], false),
        (&[("CLICOLOR_FORCE", "1")], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
    ] {
        let mut command = world.command(&["daemon", "--foreground"]);
        command.env("RUST_LOG", "a[b");
        command.envs(variables.iter().copied());
        let output = command.output().expect("malai runs");
        let shown = String::from_utf8(output.stderr).expect("text");
        assert!(shown.contains("WARN"), "{shown}");
        assert_eq!(
            shown.contains("\x1b["),
            is_styled,
            "{variables:?}: {shown:?}"
        );
    }
}
