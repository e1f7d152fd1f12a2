"""How costs grow with machines in the configuration, connected peers, concurrent sessions and bytes."""

import re
import subprocess
import time

from . import throughput
from .memory import CALM, Crowd, clusters, processor, resident, settled
from .report import bars_of_text, number, table
from .timing import Sample, interleaved
from .world import Malai


def bend(counts, costs, factor=1.5):
    """Where a cost stops being linear: the point from which each further one costs more than `factor` times as much."""
    pairs = list(zip(counts, costs, strict=True))
    steps = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(pairs, pairs[1:])]
    for place in range(1, len(steps)):
        if steps[place - 1] > 0 and steps[place] > factor * steps[place - 1]:
            return f"from {counts[place]:,} on each further one costs {number(steps[place] / steps[place - 1])} × as much as before"
    return f"no worse than linear up to {counts[-1]:,}"


def machines(report, rounds, world_of, examples):
    """10 to 10,000 machines in cluster.toml: in memory, and with the commands that people type."""
    counts = [10, 100, 1_000, 10_000]
    program = examples / "bench-decisions"
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    pure = {
        int(line[1]): (float(line[2]), float(line[3]))
        for line in re.finditer(r"^ *(\d+) +\d+ +\d+ KB +([\d.]+) ms +(\d+) ns", done.stdout, re.M)
    }
    report.bar("10,000 machines in cluster.toml: check", 200, [pure[10_000][0]], unit=" ms")
    report.bar("10,000 machines in cluster.toml: one decision", 2, [pure[10_000][1] / 1e3], unit=" µs")
    rows = []
    with world_of("machines") as world:
        for count in counts:
            home = Malai(world, f"of-{count}")
            home.run("cluster", "init", "big")
            sections = subprocess.run([program, "sections", str(count)], capture_output=True, text=True, check=True)
            configuration = home.home / "clusters/big/cluster.toml"
            configuration.write_text(configuration.read_text() + sections.stdout)
            check = interleaved({"check": home.program("rescan", "--check").run}, 3)["check"].median
            home.start()
            status = interleaved({"status": home.program("status", "--json").run}, 3)["status"].median
            rows.append([count, check * 1e3, status * 1e3, settled(home.pid, 2)])
            home.stop()
    in_memory = {count: [number(cell) for cell in pure.get(count, ())] or ["", ""] for count in counts}
    lines = [[f"{row[0]:,}", *in_memory[row[0]], *map(number, row[1:])] for row in rows]
    report.section(
        "Growth: machines in the configuration",
        "Check and one decision in memory (with 1,000 groups, 50 deep); then as typed, and the manager's daemon.",
        table(["machines", "check, ms", "decision, ns", "`rescan --check`, ms", "`status`, ms", "daemon, MB"], lines),
        f"`rescan --check`: {bend(counts, [row[1] for row in rows])}. Memory: {bend(counts, [row[3] for row in rows])}.",
    )


def memory(report, rounds, world_of, examples):
    """An idle daemon: alone, with more clusters, with connected peers."""
    with world_of("memory") as world:
        counts = [1, 2, 6, 11] if rounds.quick else [1, 2, 6, 11, 31]
        found = clusters(world, counts)
        further = (found[counts[-1]] - found[1]) / (counts[-1] - 1)
        report.bar("resident memory: daemon with one cluster, idle", 20, [found[1]], unit=" MB")
        report.bar("resident memory: each further cluster", 1, [further], unit=" MB")
        crowds = [10, 100] if rounds.quick else [10, 100, 1_000]
        rows = []
        for count in crowds:
            crowd = Crowd(world, f"crowd-{count}", examples / "bench-machines", count)
            took = crowd.gather()
            time.sleep(CALM)
            pid = crowd.manager.pid
            calm, connected = settled(pid), crowd.connected()
            target = crowd.manager.program("m001.many", "true")
            warm = interleaved({"warm": target.run}, 20, warm_up=3)["warm"].median
            rows.append([count, took, calm, processor(pid, 5), warm * 1e3, connected])
            crowd.end()
        base = found[1]
        # Counts only connected peers, since others cost next to nothing.
        each = (rows[-1][2] - base) / max(1, rows[-1][5])
        report.bar(f"resident memory: each idle peer, of {crowds[-1]:,}", 0.15, [each], unit=" MB")
    bars = bars_of_text(list(found.values()))
    report.section(
        "Growth: clusters of one daemon",
        table(["clusters", "idle, MB", ""], [[n, number(mb), bar] for (n, mb), bar in zip(found.items(), bars, strict=True)]),
        f"Memory: {bend(counts, list(found.values()))}.",
    )
    bars = bars_of_text([row[2] for row in rows])
    report.section(
        "Growth: connected peers",
        "A manager that has just brought so many machines their configuration; they stay connected and idle. They live in one "
        "process of one thread on the same computer, which is part of the time and of a command's.",
        table(
            ["peers", "all have it after, s", "daemon, MB", "idle processor, %", "a warm command, ms", "connected", "memory"],
            [[f"{row[0]:,}", *map(number, row[1:5]), f"{row[5]:,}", bar] for row, bar in zip(rows, bars, strict=True)],
        ),
        f"Memory: {bend(crowds, [row[2] for row in rows])}.",
    )


def sessions(report, rounds, world_of, _examples):
    """Many commands at once, all on one machine."""
    counts = [1, 10, 50, 100, 200]
    rows = []
    with world_of("sessions") as world:
        world.web01_settings = "[limits]\nrequests_per_peer = 1024\nsessions_per_peer = 512\n"
        world.start_malai()
        for count in counts:
            times, most = [], 0
            for _ in range(3):
                begun = time.perf_counter()
                held = [
                    subprocess.Popen(
                        [world.malai, "web01.bench", "sh", "-c", "echo here; cat >/dev/null"],
                        env=world.laptop.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    )
                    for _ in range(count)
                ]
                assert all(session.stdout.readline() == b"here\n" for session in held)
                times.append(time.perf_counter() - begun)
                most = max(most, resident(world.web01.pid))
                for session in held:
                    session.stdin.close()
                    session.stdout.close()
                    assert session.wait(60) == 0
            rows.append([count, Sample(times).median * 1e3, most])
    bars = bars_of_text([row[1] for row in rows])
    report.section(
        "Growth: sessions at once",
        "From the first start of a command line until the last of the commands has said a word; the serving daemon's memory.",
        table(["sessions", "all there, ms", "daemon, MB", ""], [[row[0], number(row[1]), number(row[2]), bar] for row, bar in zip(rows, bars, strict=True)]),
        f"Time: {bend(counts, [row[1] for row in rows])}.",
    )


def bytes_(report, rounds, world_of, _examples):
    """1 MiB to 1 GiB through `cat`, over a warm connection."""
    sizes = [1, 16, 128, 512] if rounds.quick else [1, 16, 128, 1024]
    rows = []
    with world_of("bytes") as world:
        world.has_ssh = False
        world.start_malai()
        for size in sizes:
            took = throughput.through(world, "cat", 3 if size < 512 else 1, size << 20, only=["malai"])["malai"].median
            rows.append([size, took * 1e3, (size << 20) / took / 1e6])
        calm = settled(world.web01.pid, 2)
    report.section(
        "Growth: bytes",
        "Through `cat` with the daemon.",
        table(["MiB", "ms", "MB/s"], [[f"{row[0]:,}", number(row[1]), number(row[2])] for row in rows]),
        f"Time: {bend(sizes, [row[1] for row in rows])}. Afterwards the serving daemon has {calm:.1f} MB.",
    )
