"""How each cost grows: with machines in the configuration, connected peers, sessions at once, bytes."""

import os
import re
import subprocess
import time

from . import latency, throughput
from .memory import Crowd, clusters, processor, resident, settled
from .report import bars_of_text, number, table
from .timing import Program, Sample, interleaved
from .world import Malai


def bend(counts, costs, factor=1.5):
    """Where a cost stops being linear: where each further one costs half as much again as before."""
    steps = [
        (b_cost - a_cost) / (b - a)
        for (a, a_cost), (b, b_cost) in zip(zip(counts, costs), zip(counts[1:], costs[1:]))
    ]
    for place in range(1, len(steps)):
        if steps[place - 1] > 0 and steps[place] > factor * steps[place - 1]:
            return f"from {counts[place]} on each further one costs more ({number(steps[place] / steps[place - 1])} ×)"
    return f"linear or better up to {counts[-1]}"


def machines(report, rounds, world_of, examples):
    """10 to 10,000 machines in cluster.toml: check and decision in memory, check and status as a person types them."""
    done = subprocess.run([examples / "bench-decisions"], capture_output=True, text=True, check=True)
    found = {
        int(line[1]): (float(line[2]), float(line[3]))
        for line in re.finditer(r"^ *(\d+) +\d+ +\d+ KB +([\d.]+) ms +(\d+) ns", done.stdout, re.M)
    }
    report.bar("10,000 machines in cluster.toml: check", 200, [found[10_000][0]], unit=" ms")
    report.bar("10,000 machines in cluster.toml: one decision", 2, [found[10_000][1] / 1e3], unit=" µs")
    counts, rows = sorted(found), []
    with world_of("machines") as world:
        for count in counts:
            home = Malai(world, f"of-{count}")
            said = home.run("cluster", "init", "big")
            identities = ids(world, count)
            configuration = home.home / "clusters/big/cluster.toml"
            sections = (f'\n[machine.m{n}]\nid52 = "{key}"\nallow_from = "*"\n' for n, key in enumerate(identities))
            configuration.write_text(configuration.read_text() + "".join(sections))
            check, status = home.program("rescan", "--check"), home.program("status", "--json")
            took = interleaved({"check": check.run}, 3)
            rows.append([count, *found[count], took["check"].median * 1e3])
            del said, status
    lines = [[f"{n:,}", number(check), number(nanos), number(typed)] for n, check, nanos, typed in rows]
    report.section(
        "Growth: machines in the configuration",
        "`check` and one decision in memory; `malai rescan --check` as it is typed.",
        table(["machines", "check, ms", "decision, ns", "`rescan --check`, ms"], lines),
        f"Check: {bend([row[0] for row in rows], [row[1] for row in rows])}.",
    )


def ids(world, count):
    """So many public keys: any 32 bytes that are a point of the curve. Made once, by joining nothing."""
    from .keys import public_keys

    return public_keys(count)
