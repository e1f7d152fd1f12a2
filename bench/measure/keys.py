"""How long it takes to see a key: typed on the local terminal, echoed by the remote one."""

import os
import pty
import select
import signal
import time

from .report import table
from .timing import Failed, interleaved


class Typist:
    """A program on its own terminal, which runs a command that reads what is typed."""

    def __init__(self, argv, env):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, env)
        self.read_until(b"ready")

    def read_until(self, wanted, seconds=10):
        seen, deadline = b"", time.monotonic() + seconds
        while wanted not in seen:
            if not select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Failed(f"{wanted} was not seen on the terminal, but {seen}")
            try:
                seen += os.read(self.terminal, 4096)
            except OSError as error:
                raise Failed(f"the terminal was closed after {seen}") from error
        return seen

    def key(self):
        begun = time.perf_counter()
        os.write(self.terminal, b"x")
        self.read_until(b"x")
        return time.perf_counter() - begun

    def end(self):
        os.write(self.terminal, b"\n\x04")
        os.close(self.terminal)
        # `ssh -tt` sometimes outlives its terminal.
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def keystrokes(report, rounds, world_of, _examples):
    command = ["sh", "-c", "echo ready; exec cat >/dev/null"]
    with world_of("keys") as world:
        world.start_malai()
        world.has_ssh = world.start_ssh()
        term = {"TERM": "xterm"}
        argv = {
            "malai": ([str(world.malai), "-t", "web01.bench", *command], world.laptop.env | term),
            "malai without a daemon": ([str(world.malai), "-t", "web01.bench", *command], world.desk.env | term),
        }
        if world.has_ssh:
            line = "echo ready; exec cat >/dev/null"
            for name, warm in (("ssh through ControlMaster", "ssh"), ("ssh, a connection of its own", None)):
                plain = world.ssh_argv(line, warm=warm)
                argv[name] = ([plain[0], "-tt", *plain[1:]], world.env | term)
        typists = {name: Typist(*how) for name, how in argv.items()}
        seen = interleaved({name: typist.key for name, typist in typists.items()}, rounds.warm, warm_up=5)
        for typist in typists.values():
            typist.end()
    lines = [
        [name, f"{sample.median * 1e3:.3f}", f"{sample.quantile(0.25) * 1e3:.3f}–{sample.quantile(0.75) * 1e3:.3f}", f"{sample.quantile(0.95) * 1e3:.3f}"]
        for name, sample in seen.items()
    ]
    report.section(
        "A key, typed and seen",
        "One key at a time, from the terminal here to the echo of the terminal there and back, in ms.",
        table(["", "median", "middle half", "95 %"], lines),
    )
