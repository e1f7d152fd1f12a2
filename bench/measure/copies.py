"""How long copies take: one large file, and many small ones."""

import os
import shutil

from . import throughput
from .report import number, table
from .timing import Failed, Program, interleaved

FILES = 20_000
FOLDERS = 100


def make_files(world, count):
    """A tree of files of 1 to 20 KB."""
    top = world.folder / "many"
    piece = bytes(range(256)) * 80
    for number_ in range(count):
        folder = top / f"folder-{number_ % FOLDERS:02}"
        folder.mkdir(parents=True, exist_ok=True)
        size = 1024 + number_ * 7919 % 19457
        (folder / f"file-{number_:05}").write_bytes(piece[:size])
    return top


def total(path):
    """The number of files and bytes below a path."""
    if path.is_file():
        return 1, path.stat().st_size
    sizes = [os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names]
    return len(sizes), sum(sizes)


def candidates(world, source, target):
    """Each way to copy the source to the target's name, which does not exist before."""
    programs = {"malai cp": world.laptop.program("cp", "-r", source, f"web01.bench:{target}")}
    rsync, scp = (shutil.which(name) for name in ("rsync", "scp"))
    # A slash behind a folder, so that rsync too gives its content the target's name.
    slash = "/" if source.is_dir() else ""
    if rsync:
        through = f"{world.malai} ssh"
        argv = [rsync, "-r", "-e", through, f"{source}{slash}", f"web01.bench:{target}{slash}"]
        programs["rsync over malai ssh"] = Program(argv, world.laptop.env, world.folder / "rsync.log")
    if world.has_ssh:
        config = ["-F", str(world.folder / "ssh_config"), "-o", f"ControlPath={world.master('ssh')}"]
        if rsync:
            through = " ".join([world.ssh, *config])
            argv = [rsync, "-r", "-e", through, f"{source}{slash}", f"target:{target}{slash}"]
            programs["rsync over ssh"] = Program(argv, world.env, world.folder / "rsync.log")
        if scp:
            argv = [scp, "-q", "-r", *config, source, f"target:{target}"]
            programs["scp"] = Program(argv, world.env, world.folder / "scp.log")
    return programs


def copied(program, source, target):
    """Times one copy to where nothing is, on a disk that has nothing left to write."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    os.sync()
    took = program.run()
    if total(target) != total(source):
        raise Failed(f"{' '.join(program.argv)} copied {total(target)} of {total(source)}")
    return took


def copies(report, rounds, ready, world_of):
    """`malai cp` beside rsync and scp."""
    with ready(world_of("copies")) as world:
        target = world.folder / "target"
        turns = 1 if rounds.quick else 3
        size, count = rounds.size, FILES // 10 if rounds.quick else FILES
        one, many = throughput.make_source(world, size), make_files(world, count)
        samples = {}
        for name, source in (("one", one), ("many", many)):
            programs = candidates(world, source, target)
            runs = {
                of: (lambda program=program, source=source: copied(program, source, target))
                for of, program in programs.items()
            }
            if name == "one":
                cat = world.laptop.program("web01.bench", "cat")
                runs["malai <target> cat"] = lambda: cat.pump(one, size, size)
            samples[name] = interleaved(runs, turns, warm_up=0)
    what = "1 GiB" if size == throughput.GIB else f"{size >> 20} MiB"
    large, small = samples["one"], samples["many"]
    own = large["malai cp"].median
    report.bar(f"{what} by `malai cp`: rate ÷ `malai <target> cat`", 1.0, [large["malai <target> cat"].median / own], at_least=True)
    for other, limit in (("rsync over ssh", 0.5), ("scp", 0.2)):
        if other in small:
            text = f"{count:,} files of 1–20 KB by `malai cp` ÷ {other}"
            report.bar(text, limit, [small["malai cp"].median / small[other].median])
    lines = [
        [name, f"{large[name].median:.2f}", f"{size / large[name].median / 1e6:.0f}", shown(small.get(name))]
        for name in large
    ]
    report.section(
        "Copies",
        f"The median of {turns} interleaved rounds each, to a target that does not exist, all writes of the round before "
        "finished. `malai cp` verifies every file by its hash and waits until it is on the disk; the others do neither.",
        table(["", f"{what}, s", "MB/s", f"{count:,} files of 1–20 KB, s"], lines),
    )


def shown(sample):
    return number(sample.median) if sample else ""
