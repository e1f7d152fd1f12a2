"""The parts of the measurement, in the order of the page."""

from . import copies, growth, latency, throughput
from .keys import keystrokes
from .many import many
from .small import small
from .report import bars_of_text, number, table

#: Programs other than malai, with the crates of which they are examples.
EXAMPLES = [("malai-cluster", "bench-decisions"), ("malai-testing", "bench-machines")]


def spread_row(name, sample, of=None):
    against = number(sample.median / of.median) if of else ""
    return [name, f"{sample.median * 1e3:.2f}", sample.spread(), f"{sample.quantile(0.95) * 1e3:.2f}", against]


def ready(world):
    """Starts malai, the floor and sshd."""
    world.start_malai()
    world.start_floor()
    world.has_ssh = world.start_ssh()
    if not world.has_ssh:
        print("-- sshd or ssh is not there: everything beside it is left out")
    return world


def three(report, rounds, world_of, _examples):
    """The most important figures, in separate runs, each with its own daemons, sshd, keys and connections."""
    warm, cold, bytes_ = [], [], []
    for run in range(rounds.runs):
        with ready(world_of(f"run-{run}")) as world:
            warm.append(latency.warm(world, rounds.warm))
            cold.append(latency.cold(world, rounds.cold))
            bytes_.append(throughput.through(world, "cat", rounds.bytes, rounds.size))
            if run == rounds.runs - 1:
                rows = {way: throughput.through(world, way, rounds.bytes, rounds.size) for way in ("in", "out")}
                row = latency.in_a_row(world, rounds.series)
    size = "1 GiB" if rounds.size == throughput.GIB else f"{rounds.size >> 20} MiB"
    ratio = lambda runs, one, other: [run[one].median / run[other].median for run in runs]
    if "ssh" in warm[0]:
        report.bar("`malai <target> true` ÷ `ssh` through ControlMaster", 0.25, ratio(warm, "malai", "ssh"))
    report.bar("the same ÷ the floor", 1.25, ratio(warm, "malai", "floor"))
    if "ssh" in warm[0]:
        report.bar("`malai <target> true` without a daemon ÷ `ssh`, new connection", 0.10, ratio(cold, "malai", "ssh"))
        for name, limit in (("ssh", 1.5), ("ssh aes128-gcm", 1.0)):
            for route in ("malai", "malai without a daemon"):
                what = f"{size} through `malai <target> cat`{route.removeprefix('malai')}: rate ÷ `{name}`"
                report.bar(what, limit, ratio(bytes_, name, route), at_least=True)
    later = sorted(place.median for place in row[1:])
    report.bar("50 without a daemon in a row: the later ones' median ÷ the first", 1.1, [later[len(later) // 2] / row[0].median])

    head = ["run", "", "median, ms", "middle half, ms", "95 %, ms", "÷ ssh"]
    lines = []
    for title, runs in (("warm", warm), ("cold", cold)):
        for number_, run in enumerate(runs, 1):
            lines += [[f"{title} {number_}", *spread_row(name, sample, run.get("ssh"))] for name, sample in run.items()]
    report.section(
        "A command",
        f"`true`, {rounds.warm} rounds warm and {rounds.cold} cold in each run, interleaved. The floor is `floor.c`: "
        "a client, a Unix socket, a daemon that spawns `true`.",
        table(head, lines),
    )
    rate = lambda sample: rounds.size / sample.median / 1e6
    head = ["", *bytes_[0]]
    lines = [[f"`cat`, run {i}", *(f"{rate(sample):.0f}" for sample in run.values())] for i, run in enumerate(bytes_, 1)]
    lines += [[f"{way} only", *(f"{rate(sample):.0f}" for sample in run.values())] for way, run in rows.items()]
    report.section(
        size, f"MB/s, the median of {rounds.bytes} interleaved rounds each, from and to pipes.", table(head, lines)
    )
    places = [0, 1, 2, 4, 9, 19, 29, 39, 49]
    bars = bars_of_text([row[place].median for place in places])
    report.section(
        "50 commands in a row without a daemon",
        f"The median of {rounds.series} rows, by the place in the row. The slowest of all took "
        f"{max(place.times[-1] for place in row) * 1e3:.1f} ms.",
        table(["place", "ms", ""], [[p + 1, f"{row[p].median * 1e3:.2f}", bar] for p, bar in zip(places, bars, strict=True)]),
    )


def copies_(report, rounds, world_of, _examples):
    """Files."""
    copies.copies(report, rounds, ready, world_of)


PARTS = {
    "three": three,
    "copies": copies_,
    "keys": keystrokes,
    "many": many,
    "memory": growth.memory,
    "machines": growth.machines,
    "sessions": growth.sessions,
    "bytes": growth.bytes_,
    "small": small,
}
