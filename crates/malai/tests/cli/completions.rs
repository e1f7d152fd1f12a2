//! `malai completions`: in a real bash, and read by zsh and fish where they are installed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::World;

/// A cluster with machines, a group and a command entry.
fn world() -> World {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let path = world.cluster_file("company/cluster.toml");
    let id = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";
    let more = format!(
        "[machine.web01]\nid52 = \"{id}\"\nallow_from = \"admins\"\n\n[machine.web01.command.restart-nginx]\ncommand = \"systemctl restart nginx\"\n\n[group.admins]\nmembers = \"web01\"\n"
    );
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{more}")).unwrap();
    world.succeed(&["rescan", "--check"]);
    world
}

/// The shell's answer to a script; `None` if it is not installed, which is said.
fn shell(world: &World, shell: &[&str], script: &str) -> Option<String> {
    let program = shell
        .iter()
        .find(|word| ["bash", "zsh", "fish"].contains(word));
    let program = program.expect("a shell");
    let is_there = Command::new(program).arg("--version").output();
    if let Err(error) = is_there {
        eprintln!("LEFT OUT: {program} is not installed ({error})");
        return None;
    }
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .env("MALAI_HOME", world.home())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_completes_machines_commands_groups_and_verbs() {
    let world = world();
    let malai = env!("CARGO_BIN_EXE_malai");
    let script = world.succeed(&["completions", "bash"]);
    // Bash calls the function as `complete -p` says, with the line and where the cursor is in it.
    let driver = format!(
        r#"
        [[ -r /usr/share/bash-completion/bash_completion ]] && . /usr/share/bash-completion/bash_completion
        {script}
        COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'
        [[ $(complete -p malai) == *"-F _malai malai" ]] || echo "not registered"
        for COMP_LINE in "malai we" "malai web01.company rest" "malai @ad" "malai statu" "malai exec web" \
            "malai cluster remove company " "malai rescan --ch" "malai audit --cluster=co" "malai web01.company ls x" \
            "malai '@ad" 'malai "we' "malai cp web" "malai ssh web" "malai --exclude=we" "malai help clus"; do
            COMP_POINT=${{#COMP_LINE}} COMPREPLY=()
            _malai '{malai}'
            echo "$COMP_LINE -> ${{COMPREPLY[*]}}"
        done
        "#
    );
    let Some(said) = shell(&world, &["bash", "--norc"], &driver) else {
        return;
    };
    let expected = "\
malai we -> web01.company
malai web01.company rest -> restart-nginx
malai @ad -> @admins.company
malai statu -> status
malai exec web -> web01.company
malai cluster remove company  -> web01
malai rescan --ch -> --check
malai audit --cluster=co -> company
malai web01.company ls x -> 
malai '@ad -> @admins.company
malai \"we -> web01.company
malai cp web -> web01.company:
malai ssh web -> web01.company
malai --exclude=we -> web01.company
malai help clus -> cluster\n";
    assert_eq!(said, expected);
}

/// A line editor on a terminal of its own: what the Tab key makes of what was typed.
#[test]
fn zsh_completes_at_its_prompt() {
    let world = world();
    let zsh = world.succeed(&["completions", "zsh"]);
    let folder = world.home().join("zsh");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("_malai"), zsh).unwrap();
    let (functions, programs) = (folder.display(), Path::new(env!("CARGO_BIN_EXE_malai")));
    let programs = programs.parent().unwrap().display();
    // Only what Tab adds is drawn, so that is what is waited for.
    let driver = format!(
        r#"
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z "PS1= TERM=dumb PATH={programs}:\$PATH fpath=({functions} \$fpath); autoload -Uz compinit; compinit -u -D; print RE''ADY"
        zpty -r -m z said '*READY*' && print ready
        zpty -w -n z $'malai we\t'
        zpty -r -m z said '*b01.company*' && print a machine
        zpty -w -n z $'rest\t'
        zpty -r -m z said '*art-nginx*' && print a command
        zpty -d z
        "#
    );
    if let Some(said) = shell(&world, &["timeout", "60", "zsh", "-f"], &driver) {
        assert_eq!(said, "ready\na machine\na command\n");
    }
}

#[test]
fn fish_completes_too() {
    let world = world();
    let malai = env!("CARGO_BIN_EXE_malai");
    let fish = world.succeed(&["completions", "fish"]);
    let path = world.home().join("malai.fish");
    fs::write(&path, fish).unwrap();
    // Fish can be asked what it would offer.
    let folder = malai.strip_suffix("/malai").unwrap();
    let driver = format!(
        "set -x PATH {folder} $PATH\nsource {}\ncomplete -C 'malai web01.company rest'\ncomplete -C 'malai we'\n",
        path.display()
    );
    let config = world.home().join("config");
    let config = format!("set -x HOME {}\n{driver}", config.display());
    if let Some(said) = shell(&world, &["fish", "--no-config"], &config) {
        let expected =
            "restart-nginx\tcommand of web01.company\nweb01.company\tmachine of company\n";
        assert_eq!(said, expected);
    }
}

#[test]
fn a_broken_configuration_still_completes_what_it_can() {
    let world = world();
    fs::write(world.cluster_file("company/cluster.toml"), "[broken").unwrap();
    let found = world.succeed(&["completions", "--candidates", "--", "resc"]);
    assert!(found.starts_with("rescan\t"), "{found}");
    let found = world.succeed(&["completions", "--candidates", "--", "rescan", ""]);
    assert!(found.starts_with("company\tcluster\n"), "{found}");
}
