"""The blocks that need no administrator: README, and the tutorial except its production setup. The scenes follow the
page's order, each with computers in the state that the page assumes at that place."""

import os
import world
from world import Computer, check, edits, found, join, section, settled, wait_for

SCENES = []


def scene(function):
    SCENES.append(function)
    return function


def computers(*names):
    return [Computer(name) for name in names]


def asks_for(manager, terminal, *placeholders, alias="personal"):
    for placeholder in placeholders:
        terminal.ids[placeholder] = manager.cluster(alias)


@scene
def readme(readme, tutorial):
    boss, web = computers("boss", "web")
    found("company", boss, web01=web)
    boss.run(readme.take("malai web01.company ps aux"), {"ps aux": "ps aux"})
    boss.run(readme.take("cargo run --release"), {"demo": "Every step did what it says"})
    boss.run(readme.take("malai cluster init personal"), {"malai daemon": 1})
    asks_for(boss, web, "<the manager's id52>")
    [said, _] = web.run(readme.take("malai machine init"), {"init": "[machine.", "malai daemon": 1})
    with open(f"{boss.home}/clusters/personal/cluster.toml", "a") as file:
        file.write("\n" + section(said, "web01") + "\n")
    boss.run(readme.take("malai rescan personal"), {"rescan": "web01: updated", "whoami": "root"})
    return boss, web


@scene
def many_machines(readme, tutorial):
    boss, *machines = computers("crew", "crew1", "crew2", "crew3", "crew4")
    names = ("web01", "web02", "web03", "db1")
    found("company", boss, **dict(zip(names, machines)))
    with open(f"{boss.home}/clusters/company/cluster.toml", "a") as file:
        file.write('\n[group.web]\nmembers = "web01, web02, web03"\n')
    boss.malai("rescan", "company")
    [group, pattern, ranges, without, listed] = boss.run(readme.take("malai @web.company uptime"), {"--json": '"machine":"web02"'})
    for said, wanted in ((group, names[:3]), (pattern, names[:3]), (ranges, names), (without, names[:2])):
        check({line.split(":")[0] for line in said.splitlines()} == set(wanted), f"README.md: each line of {', '.join(wanted)} carries its machine's name", said)
    check(len(listed.splitlines()) == 3, "README.md: --json prints a line a machine", listed)
    return boss, *machines


@scene
def installation(readme, tutorial):
    [new] = computers("newcomer")
    new.run(tutorial.take("curl"), {"curl": ("is installed", ".malai/bin/malai")})
    check(os.access(f"{world.PLACE}/newcomer/.malai/bin/malai", os.X_OK), "the installed binary is where install.sh says")
    return (new,)


@scene
def quick_start(readme, tutorial):
    first, second = computers("first", "second")
    first.run(tutorial.take("malai cluster init personal"), {"status": ("RUNNING ✅", "👑 personal")})
    asks_for(first, second, "<cluster-manager-id52>")
    [said, _] = second.run(tutorial.take("malai machine init <cluster-manager-id52> personal"), {"init": "Machine created with ID: "})
    edits(section(said, "web01"))
    first.run(tutorial.take("$EDITOR $MALAI_HOME/clusters/personal"), {"rescan": "web01: updated"})
    first.run(tutorial.take("malai web01.personal ps aux"), {"ps aux": "ps aux", "whoami": "root", "systemctl": "nginx.service"})
    first.stops()
    first.run(tutorial.take("malai daemon --foreground"), {"malai status": "RUNNING ✅"})
    return first, second


@scene
def status(readme, tutorial):
    admin, other = computers("admin", "other")
    found("production", other)
    admin.malai("machine", "init", other.cluster("production"), "production")
    admin.malai("cluster", "init", "company")
    for number, name in enumerate(("web01", "web02", "db01")):
        [machine] = computers(f"m{number}")
        join(admin, "company", machine, name, starts=False)
        machine.away()
    admin.starts()
    admin.run(tutorial.take("malai status"))
    return admin, other


@scene
def configuration_management(readme, tutorial):
    here, boss = computers("here", "boss")
    found("production", boss)
    here.starts()
    asks_for(boss, here, "<cluster-id52>", alias="production")
    here.run(tutorial.take("malai cluster init staging"))
    shown = here.malai("status", code=None)
    check("👑 staging" in shown and "💻 production" in shown, "init commands tell the running daemon", shown)
    return here, boss


@scene
def adding_machines(readme, tutorial):
    boss, web = computers("boss", "web")
    boss.run(tutorial.take("malai cluster init company"))
    made = sorted(os.listdir(f"{boss.home}/clusters/company"))
    check(made == ["cluster.private-key", "cluster.toml"], "cluster init creates the two files that the page names", str(made))
    boss.starts()
    asks_for(boss, web, "<cluster-manager-id52>", alias="company")
    [said] = web.run(tutorial.take("malai machine init <cluster-manager-id52> company"), {"init": ("Machine created with ID: ", "📋 Next steps:", "1. Cluster admin should add this machine to cluster config:")})
    edits(section(said, "web01"))
    boss.run(tutorial.take("$EDITOR $MALAI_HOME/clusters/company"), {"rescan": "web01"})
    web.run(tutorial.take("malai daemon"))
    check(wait_for(lambda: "root" in boss.malai("web01.company", "whoami", code=None)), "and the machine obeys")
    return boss, web


def three_clusters(block, names, here, expect, daemon):
    """One computer that manages `personal` and is a member of two more clusters, given as placeholder → (alias, machine)."""
    managers, targets = [], []

    def elsewhere():
        if not daemon:
            here.starts()
        for (placeholder, (alias, machine)), manager in zip(names.items(), managers):
            own = section(here.machine_said[alias], "laptop")
            with open(f"{manager.home}/clusters/{alias}/cluster.toml", "a") as file:
                file.write("\n" + own + "\n")
            settled(manager, alias)
        target = Computer("web")
        targets.append(target)
        join(here, "personal", target, "web01")
        settled(here, "personal")

    for placeholder, (alias, machine) in names.items():
        manager, target = computers(f"{alias}-boss", machine)
        found(alias, manager, **{machine: target})
        here.ids[placeholder] = manager.cluster(alias)
        managers.append(manager)
        targets.append(target)
    here.machine_said = {}
    typed = here.type

    def remembering(command, **more):
        code, output = typed(command, **more)
        if command.startswith("malai machine init"):
            here.machine_said[command.split("#")[0].split()[-1]] = output
        return code, output

    here.type = remembering
    here.run(block, expect, {"malai web01": elsewhere})
    return here, *managers, *targets


@scene
def multi_cluster(readme, tutorial):
    [here] = computers("here")
    block = tutorial.take("malai cluster init personal")
    names = {"<work-cluster-id52>": ("work", "api"), "<client-cluster-id52>": ("client", "db")}
    return three_clusters(block, names, here, {"ps aux": "ps aux", "systemctl": "nginx.service", "pg_dump": "dump of mydb"}, daemon=True)


@scene
def troubleshooting(readme, tutorial):
    boss, web = computers("boss", "web")
    found("company", boss, web01=web)
    boss.dies()
    boss.run(tutorial.take("malai status"), {"malai status": (1, "CRASHED ❌"), "foreground": 0})
    boss.starts()
    web.type("malai status")
    boss.run(tutorial.take("malai status"), {"malai status": "RUNNING ✅", "echo": "test", "cat": "[machine.web01]"})
    boss.dies()
    boss.run(tutorial.take("malai status"), {"malai status": (1, "CRASHED ❌")})
    good = open(f"{boss.home}/clusters/company/cluster.toml").read()
    with open(f"{boss.home}/clusters/company/cluster.toml", "a") as file:
        file.write('\n[machine.web02]\nid52 = "no id"\nallow_frm = "*"\n')
    boss.run(tutorial.take("malai rescan --check company"), {"malai rescan --check": (1, "cluster.toml:", "allow_from")})
    with open(f"{boss.home}/clusters/company/cluster.toml", "w") as file:
        file.write(good)
    boss.stops()
    boss.run(tutorial.take("export RUST_LOG=malai=debug"), {"foreground": "DEBUG"})
    boss.type("unset RUST_LOG", silent=True)
    boss.run(tutorial.take("malai web01.company echo \"direct mode test\""), {"direct mode": "direct mode test", "daemon mode": "daemon mode test"})
    boss.run(tutorial.take("find $MALAI_HOME"), {"find": "clusters/company/cluster.toml", "clusters": "-rw-------", "malai.*": "malai.socket"})
    return boss, web


@scene
def selective(readme, tutorial):
    boss, web = computers("boss", "web")
    found("production", boss, web01=web)
    boss.run(tutorial.take("malai rescan production"), {"malai rescan production": "production"})
    return boss, web


@scene
def multi_environment(readme, tutorial):
    [here] = computers("here")
    block = tutorial.take("malai cluster init personal")
    names = {"<prod-id52>": ("prod", "api"), "<stage-id52>": ("stage", "db")}
    return three_clusters(block, names, here, {"ps aux": "ps aux", "systemctl": "State: running", "pg_dump": "dump of myapp"}, daemon=False)


@scene
def performance(readme, tutorial):
    boss, web = computers("boss", "web")
    found("company", boss, web01=web)
    boss.stops()
    # On the page these come after the backup, which is in production.py.
    boss.run(tutorial.take("malai daemon"), {"ps aux": "ps aux"})
    boss.run(tutorial.take("malai status"), {"malai status": "RESPONSIVE", "time": ("speed test", "real")})
    os.makedirs("/secure/backup", exist_ok=True)
    boss.run(tutorial.take("chmod 600"))
    kept = os.listdir("/secure/backup")
    check(len(kept) == 1, "the keys' archive is made", str(kept))
    return boss, web


def play(readme, tutorial):
    for one in SCENES:
        print(f"\n— {one.__name__.replace('_', ' ')} —")
        for computer in one(readme, tutorial):
            computer.away()


def skip(readme, tutorial):
    """Nothing to mark as taken: of blocks that start alike, the other part's come first."""
