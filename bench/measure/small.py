"""A daemon on a small computer: one processor and 512 MB, the tutorial's minimum."""

import os
import subprocess
import time
from pathlib import Path

from . import throughput
from .memory import processor, resident, settled
from .report import number, table
from .world import Malai, wait_for

LIMIT = 512 << 20
SESSIONS = 50


class Box:
    """Limits its processes to 512 MB and one processor, with a control group or else an address space limit."""

    def __init__(self, world):
        self.group, self.how = None, "prlimit --as and taskset (no control group could be made)"
        for make in (self.version_1, self.version_2):
            try:
                self.group = make()
                world.on_exit(self.remove)
                self.how = f"a control group ({self.group.parts[4]}) and taskset"
                break
            except (OSError, StopIteration, IndexError):
                continue

    @staticmethod
    def own(controller):
        with open("/proc/self/cgroup") as lines:
            return next(line.strip().split(":", 2)[2] for line in lines if controller in line.split(":")[1].split(","))

    def version_1(self):
        group = Path("/sys/fs/cgroup/memory" + self.own("memory")) / f"malai-bench-{os.getpid()}"
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
        return group

    def version_2(self):
        group = Path("/sys/fs/cgroup" + self.own("")) / f"malai-bench-{os.getpid()}"
        group.mkdir()
        try:
            (group / "memory.max").write_text(str(LIMIT))
        except OSError:
            group.rmdir()
            raise
        return group

    def remove(self):
        wait_for("the control group is empty", lambda: not (self.group / "cgroup.procs").read_text().strip())
        self.group.rmdir()

    def inside(self, argv):
        enter = f'echo $$ > "{self.group}/cgroup.procs"' if self.group else f"ulimit -v {LIMIT >> 10}"
        return ["sh", "-c", f'{enter} && exec taskset -c 0 "$@"', "sh", *map(str, argv)]

    def killed(self):
        for name in ("memory.oom_control", "memory.events"):
            file = self.group / name if self.group else None
            if file and file.exists():
                return sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill "))
        return 0

    def most(self):
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            file = self.group / name if self.group else None
            if file and file.exists():
                return f"{int(file.read_text()) / (1 << 20):.0f} MB"
        return "unknown"


def small(report, rounds, world_of, _examples):
    """The serving daemon is in the box, its callers are not."""
    with world_of("small") as world:
        world.has_ssh = False
        world.start_malai()
        serving = world.web01
        serving.stop()
        box = Box(world)
        done = subprocess.run(box.inside([world.malai, "daemon"]), env=serving.env, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"the daemon does not start in the box: {done.stdout}{done.stderr}")
        world.on_exit(serving.stop)
        pid = serving.pid
        world.laptop.run("web01.bench", "true")
        rows = [["idle: memory", f"{settled(pid):.1f} MB"], ["idle: processor", f"{processor(pid, 5 if rounds.quick else 20):.2f} %"]]
        held = [
            subprocess.Popen(
                [world.malai, "web01.bench", "sh", "-c", "echo here; cat >/dev/null"],
                env=world.laptop.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for _ in range(SESSIONS)
        ]
        begun = time.perf_counter()
        there = sum(session.stdout.readline() == b"here\n" for session in held)
        rows.append([f"{SESSIONS} sessions at once: all there after", f"{(time.perf_counter() - begun) * 1e3:.0f} ms"])
        rows.append([f"{SESSIONS} sessions at once: memory of the daemon", f"{resident(pid):.1f} MB"])
        ended = 0
        for session in held:
            session.stdin.close()
            session.stdout.close()
            ended += session.wait(30) == 0
        rows.append([f"{SESSIONS} sessions at once: ended well", f"{ended} of {SESSIONS}"])
        moved = throughput.through(world, "cat", 1, only=["malai"])["malai"]
        rows.append(["1 GiB through `cat`", f"{throughput.GIB / moved.median / 1e6:.0f} MB/s"])
        rows.append(["afterwards: memory of the daemon", f"{settled(pid):.1f} MB"])
        rows.append(["the most that daemon and commands took together", box.most()])
        rows.append(["killed", str(box.killed())])
        alive = serving.pid == pid and os.path.exists(f"/proc/{pid}")
        if not (alive and there == ended == SESSIONS and box.killed() == 0):
            raise RuntimeError(f"the daemon did not hold out: alive {alive}, {there} there, {ended} ended, {box.killed()} killed")
        report.section("A small computer", f"The serving daemon and its commands in 512 MB on one processor: {box.how}.", table(["", ""], rows))
