"""Times all programs alike: posix_spawn, wait, a monotonic clock. Candidates take turns, so that noise affects all."""

import gc
import os
import statistics
import threading
import time

NULL = "/dev/null"


class Failed(Exception):
    """A program failed at the task for which it is measured."""


class Program:
    """A program with its arguments and environment, run any number of times."""

    def __init__(self, argv, env, log):
        self.argv = [str(word) for word in argv]
        self.env = env
        self.log = str(log)

    def actions(self):
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return [
            (os.POSIX_SPAWN_OPEN, 0, NULL, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, NULL, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.log, append, 0o600),
        ]

    def failed(self, status):
        with open(self.log, "rb") as log:
            said = log.read()[-2000:].decode(errors="replace")
        return Failed(f"{' '.join(self.argv)} ended with status {os.waitstatus_to_exitcode(status)}: {said}")

    def run(self):
        """Runs it once, without input and discarding its output. Returns seconds."""
        actions = self.actions()
        begun = time.perf_counter()
        pid = os.posix_spawn(self.argv[0], self.argv, self.env, file_actions=actions)
        status = os.waitpid(pid, 0)[1]
        took = time.perf_counter() - begun
        if status != 0:
            raise self.failed(status)
        return took

    def pump(self, source, size, expected):
        """Runs it once. Feeds it `size` bytes of the file `source` through a pipe, and reads its output, which must
        have `expected` bytes, through another. Returns seconds."""
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, in_read, 0),
            (os.POSIX_SPAWN_DUP2, out_write, 1),
            self.actions()[2],
        ]
        begun = time.perf_counter()
        pid = os.posix_spawn(self.argv[0], self.argv, self.env, file_actions=actions)
        os.close(in_read)
        os.close(out_write)
        feeder = threading.Thread(target=feed, args=(source, size, in_write))
        feeder.start()
        received = swallow(out_read)
        status = os.waitpid(pid, 0)[1]
        took = time.perf_counter() - begun
        feeder.join()
        if status != 0:
            raise self.failed(status)
        if received != expected:
            raise Failed(f"{' '.join(self.argv)} put out {received} bytes, not {expected}")
        return took


def feed(source, size, pipe):
    """Moves a file into a pipe without copying, so that mainly the program is timed."""
    try:
        with open(source, "rb") as file:
            left = size
            while left:
                moved = os.splice(file.fileno(), pipe, min(left, 1 << 20))
                if moved == 0:
                    break
                left -= moved
    except BrokenPipeError:
        pass
    finally:
        os.close(pipe)


def swallow(pipe):
    """Reads a pipe to its end, without copying. Returns the number of bytes."""
    received = 0
    with open(NULL, "wb", buffering=0) as null:
        while moved := os.splice(pipe, null.fileno(), 1 << 20):
            received += moved
    os.close(pipe)
    return received


class Sample:
    """Times of one candidate, in seconds."""

    def __init__(self, times):
        self.times = sorted(times)

    @property
    def median(self):
        return statistics.median(self.times)

    def quantile(self, part):
        return self.times[min(len(self.times) - 1, int(part * len(self.times)))]

    def spread(self):
        """The middle half in ms, as text."""
        return f"{self.quantile(0.25) * 1e3:.2f}–{self.quantile(0.75) * 1e3:.2f}"


def interleaved(candidates, rounds, warm_up=1):
    """Runs candidates (name → callable that returns seconds) in turn; each round starts with a different one.
    Returns name → Sample."""
    names = list(candidates)
    times = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-warm_up, rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                took = candidates[name]()
                if turn >= 0:
                    times[name].append(took)
    finally:
        gc.enable()
    return {name: Sample(of_name) for name, of_name in times.items()}
