"""How long a command takes: warm, cold, and in a row of fifty cold ones."""

from .timing import Sample, interleaved

SLOW = "a command waits for a round trip, two process starts and the programs' own start"


def warm(world, rounds):
    """`true` over an open connection. Returns name → Sample."""
    candidates = {
        "malai": world.laptop.program("web01.bench", "true").run,
        "floor": world.floor_program.run,
    }
    if world.has_ssh:
        candidates["ssh"] = world.ssh_program("true", warm="ssh").run
    return interleaved(candidates, rounds, warm_up=5)


def cold(world, rounds):
    """`true` over a new connection. Returns name → Sample."""
    candidates = {"malai": world.desk.program("web01.bench", "true").run}
    if world.has_ssh:
        candidates["ssh"] = world.ssh_program("true").run
    return interleaved(candidates, rounds, warm_up=2)


def in_a_row(world, series, length=50):
    """Cold commands of one identity without a pause: does any wait for something that the previous one left?
    Returns the times by their place in the row, each a Sample over the series."""
    program = world.desk.program("web01.bench", "true")
    rows = [[program.run() for _ in range(length)] for _ in range(series)]
    return [Sample(times) for times in zip(*rows, strict=True)]
