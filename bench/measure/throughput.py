"""How fast bytes pass through a command: in, out, and both at once."""

from .timing import interleaved

GIB = 1 << 30


def words(way, size):
    """The command, and how many bytes it reads and writes."""
    return {
        "cat": (["cat"], size, size),
        "in": (["sh", "-c", "cat >/dev/null"], size, 0),
        "out": (["head", "-c", str(size), "/dev/zero"], 0, size),
    }[way]


def make_source(world, size):
    """A file of this size in the world's folder."""
    source = world.folder / f"source-{size}"
    if not source.exists():
        piece = bytes(range(256)) * 4096
        with open(source, "wb") as file:
            for _ in range(size // len(piece)):
                file.write(piece)
            file.write(piece[: size % len(piece)])
    return source


def through(world, way, rounds, size=GIB, only=None):
    """Passes `size` bytes through each candidate. Returns name → Sample, in seconds."""
    command, given, expected = words(way, size)
    source = make_source(world, size)
    programs = {
        "malai": world.laptop.program("web01.bench", *command),
        "malai without a daemon": world.desk.program("web01.bench", *command),
    }
    if world.has_ssh:
        line = command if way != "in" else ["cat >/dev/null"]
        programs["ssh"] = world.ssh_program(*line, warm="ssh")
        programs["ssh aes128-gcm"] = world.ssh_program(*line, warm="ssh aes128-gcm")
    candidates = {
        name: (lambda program=program: program.pump(source, given, expected))
        for name, program in programs.items()
        if only is None or name in only
    }
    return interleaved(candidates, rounds, warm_up=0)
