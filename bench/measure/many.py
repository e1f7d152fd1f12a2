"""One command on 10, 50 and 200 machines, compared with clush over warm ssh."""

import shutil
import subprocess

from .memory import Crowd
from .report import number, table
from .timing import Program, interleaved
from .world import PATH

COUNTS = [10, 50, 200]


def warm_connections(world, count):
    """Gives one sshd `count` names, each with its own warm connection, like as many machines."""
    with open(world.folder / "ssh_config", "a") as config:
        config.write(f" ControlPath {world.folder}/m-%n\n")
    for number_ in range(1, count + 1):
        # Connects one at a time: concurrent connections would only wait for one another.
        host = f"m{number_:03}"
        subprocess.run(
            [world.ssh, "-F", world.folder / "ssh_config", "-M", "-o", "ControlPersist=600", "-N", "-f", host],
            env=world.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
        )

        def end(host=host):
            subprocess.run([world.ssh, "-F", world.folder / "ssh_config", "-O", "exit", host], capture_output=True)

        world.on_exit(end)


def many(report, rounds, world_of, examples):
    counts = COUNTS[:2] if rounds.quick else COUNTS
    clush = shutil.which("clush", path=PATH)
    rows = []
    with world_of("many") as world:
        world.has_ssh = bool(clush) and world.start_ssh()
        if not world.has_ssh:
            print("-- clush or sshd is not there: what is measured beside them is left out")
        crowd = Crowd(world, "crowd", examples / "bench-machines", counts[-1])
        crowd.gather()
        if world.has_ssh:
            warm_connections(world, counts[-1])
        for count in counts:
            targets = ",".join(f"m{n:03}.many" for n in range(1, count + 1))
            candidates = {"malai": crowd.manager.program(targets, "true").run}
            if world.has_ssh:
                words = ["-f", str(count), "-w", f"m[001-{count:03}]", "-o", f"-F {world.folder}/ssh_config", "true"]
                candidates["clush"] = Program([clush, *words], world.env, world.folder / "clush.log").run
            rows.append((count, interleaved(candidates, rounds.many)))
    if world.has_ssh:
        count, last = rows[-1]
        report.bar(f"one command on {count} machines ÷ `clush` over warm ssh", 0.25, [last["malai"].median / last["clush"].median])
    names = list(rows[0][1])
    lines = [
        [count, *(f"{run[name].median * 1e3:.0f} ({run[name].spread()})" for name in names),
         number(run["malai"].median / run["clush"].median) if "clush" in run else ""]
        for count, run in rows
    ]
    report.section(
        "One command on many machines",
        "`true`, in ms, with the middle half. malai's machines are services of one process; clush's are names for one sshd, "
        "each with a warm connection, and clush may use as many at once as there are.",
        table(["machines", *names, "÷ clush"], lines),
    )
