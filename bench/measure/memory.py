"""What an idle daemon uses: alone, with more clusters, with many connected peers."""

import json
import re
import subprocess
import time

from .world import Malai, wait_for

#: Seconds after which a daemon counts as idle, and has given back the memory of a busy moment.
CALM = 35


def resident(pid):
    """Resident memory in MB, including the program's pages, even if several daemons share them."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) / 1024


def settled(pid, seconds=3):
    """Resident memory once it has settled: the minimum of the last readings."""
    looks = []
    while len(looks) < seconds * 4:
        looks.append(resident(pid))
        time.sleep(0.25)
    return min(looks[-4:])


def processor(pid, seconds=10):
    """The share of one processor that a process uses, in percent."""
    def ticks():
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / seconds  # A tick is 10 ms: one in a second is one percent.


def clusters(world, counts):
    """New daemons with these numbers of clusters, after some idle time. Returns count → MB."""
    homes = {count: Malai(world, f"clusters-{count}") for count in counts}
    for count, home in homes.items():
        for number in range(count):
            home.run("cluster", "init", f"c{number}")
        home.start()
    time.sleep(CALM)
    found = {count: settled(home.pid) for count, home in homes.items()}
    for home in homes.values():
        home.stop()
    return found


class Crowd:
    """Many machines of one cluster in one process, and their manager's daemon."""

    def __init__(self, world, name, host, count):
        self.world, self.count = world, count
        self.manager = Malai(world, name)
        said = self.manager.run("cluster", "init", "many")
        cluster = re.search(r"\b([0-9a-v]{52})\b", said)[1]
        folder = world.folder / f"{name}-machines"
        folder.mkdir()
        log = open(world.folder / f"{name}.log", "w+b")
        self.host = subprocess.Popen(
            [host, folder, str(count), cluster], stdin=subprocess.PIPE, stdout=log, stderr=log, env=world.env
        )
        world.on_exit(self.end)

        def said_yet(pattern):
            if self.host.poll() is not None:
                raise RuntimeError(f"{host} ended: {open(log.name).read()[-1000:]}")
            with open(log.name) as text:
                return re.search(pattern, text.read())

        self.said_yet = said_yet
        wait_for("the machines are there", lambda: said_yet(r"ready \d+ machines"), 120)
        configuration = self.manager.home / "clusters/many/cluster.toml"
        text = configuration.read_text() + (folder / "sections.toml").read_text()
        configuration.write_text(text)
        # With the default (512) a daemon closes connections to make room, so only half of the crowd, in turns, would be
        # connected. Two machines that dial each other at the same time briefly have two connections.
        (self.manager.home / "malai.toml").write_text(f"[limits]\nconnections = {max(512, 2 * count)}\n")

    def gather(self):
        """Starts the manager's daemon and waits until every machine has its configuration."""
        begun = time.monotonic()
        self.manager.start()
        wait_for("the configuration is everywhere", lambda: self.said_yet(r"revision \d+ everywhere"), 300)
        return time.monotonic() - begun

    def connected(self):
        """How many of the machines the daemon has a connection with."""
        cluster = json.loads(self.manager.run("status", "--json"))["daemon"]["clusters"][0]
        return sum(machine["state"] != "idle" for machine in cluster["machines"])

    def end(self):
        self.manager.stop()
        self.host.stdin.close()
        try:
            self.host.wait(20)
        except subprocess.TimeoutExpired:
            self.host.kill()
            self.host.wait()
