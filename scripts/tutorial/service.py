#!/usr/bin/env python3
"""Stands in for systemd where it is not init: starts a unit with its user, its view of the file system, no new
privileges, its notify socket and watchdog; reloads, restarts and stops it. Acts as `systemctl` and `journalctl`, for malai
only.

Enforces these settings of a unit: User, Group, Environment, Type (simple, notify), WatchdogSec, ExecStart, ExecReload,
Restart, RestartSec, NoNewPrivileges, ProtectSystem=strict, ProtectHome, PrivateTmp, ReadWritePaths, CapabilityBoundingSet
(a list), AmbientCapabilities. It ignores the rest (what systemd does with seccomp and cgroups), which `systemd-analyze`
checks.
"""

import os, re, select, signal, socket, subprocess, sys, time

STATE = "/run/units"
JOURNAL = "/run/journal"
FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")


class Unit:
    def __init__(self, name):
        self.name = name.removesuffix(".service")
        self.path = next((path for folder in FOLDERS if os.path.exists(path := f"{folder}/{self.name}.service")), None)
        if self.path is None:
            sys.exit(f"Unit {self.name}.service could not be found.")
        self.values = {}
        paths = [self.path]
        for folder in FOLDERS:
            if os.path.isdir(f"{folder}/{self.name}.service.d"):
                paths += sorted(f"{folder}/{self.name}.service.d/{name}" for name in os.listdir(f"{folder}/{self.name}.service.d"))
        for line in "\n".join(open(path).read() for path in paths).replace("\\\n", " ").splitlines():
            if pair := re.match(r"(\w+)=(.*)", line.strip()):
                self.values.setdefault(pair[1], []).append(pair[2].strip())

    def value(self, key, default=""):
        return self.values.get(key, [default])[-1]

    def on(self, key):
        return self.value(key, "no") in ("yes", "true", "1", "on")

    def seconds(self, key):
        found = re.fullmatch(r"(\d+)(s|sec|min|)", self.value(key, "0"))
        return int(found[1]) * (60 if found[2] == "min" else 1)

    def confined(self, command, env):
        """The command line that runs a command of this unit as systemd would."""
        script = ["set -e"]
        writable = " ".join(self.values.get("ReadWritePaths", [])).split()
        if self.value("ProtectSystem") == "strict":
            script += [f"mount --bind {path} {path}" for path in writable]
            spared = "|".join(["/dev", "/proc", "/sys", *writable])
            script += [
                'awk \'{ print $5 }\' /proc/self/mountinfo | while read -r at; do',
                f'  case $at in {"|".join(f"{path}|{path}/*" for path in spared.split("|"))}) ;;',
                '    *) mount -o remount,bind,ro "$at" 2>/dev/null || { [ ! -e "$at" ] || echo "cannot protect $at" >&2; } ;;',
                "  esac",
                "done",
            ]
        if self.on("PrivateTmp"):
            script += ["mount -t tmpfs -o mode=1777 tmp /tmp", "mount -t tmpfs -o mode=1777 tmp /var/tmp"]
        if self.on("ProtectHome"):
            script += [f"[ ! -d {path} ] || mount -t tmpfs -o ro,mode=000 none {path}" for path in ("/home", "/root", "/run/user")]
        script += ["cd /", 'exec "$@"']
        user, group = self.value("User", "root"), self.value("Group") or self.value("User", "root")
        def capabilities(key):
            names = [name.removeprefix("CAP_").lower() for name in self.value(key).split()]
            return ",".join(["-all", *(f"+{name}" for name in names)])

        privileges = ["setpriv", "--reuid", user, "--regid", group, "--init-groups"]
        privileges += [f"--inh-caps={capabilities('AmbientCapabilities')}", f"--ambient-caps={capabilities('AmbientCapabilities')}"]
        if self.on("NoNewPrivileges"):
            privileges.append("--no-new-privs")
        if "CapabilityBoundingSet" in self.values and "~" not in self.value("CapabilityBoundingSet"):
            privileges.append(f"--bounding-set={capabilities('CapabilityBoundingSet')}")
        given = [pair for line in self.values.get("Environment", []) for pair in line.split()]
        home = subprocess.run(["getent", "passwd", user], capture_output=True, text=True).stdout.split(":")[5]
        given += ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG=C.UTF-8", f"HOME={home}", f"USER={user}", f"LOGNAME={user}", *env]
        # Added by the tests: nothing may leave this computer.
        given.append("MALAI_NETWORK=loopback")
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script), "sh", *privileges, "env", "-i", *given, *command.split()]


def state(unit, **values):
    os.makedirs(STATE, exist_ok=True)
    if values:
        kept = state(unit) | values
        with open(f"{STATE}/{unit.name}.new", "w") as file:
            file.write("".join(f"{key}={value}\n" for key, value in kept.items()))
        os.rename(f"{STATE}/{unit.name}.new", f"{STATE}/{unit.name}")
        return kept
    if not os.path.exists(f"{STATE}/{unit.name}"):
        return {}
    return dict(line.rstrip("\n").split("=", 1) for line in open(f"{STATE}/{unit.name}"))


def supervise(unit, started):
    """The service manager: runs the unit, again if Restart says so. Writes to `started` once the first run is up."""
    os.makedirs(JOURNAL, exist_ok=True)
    journal = open(f"{JOURNAL}/{unit.name}", "ab")
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    notifies = unit.value("Type", "simple") == "notify"
    patience = unit.seconds("WatchdogSec")
    restarts = 0
    while True:
        env, ear = [], None
        if notifies:
            at = f"{STATE}/{unit.name}.notify"
            if os.path.exists(at):
                os.remove(at)
            ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            ear.bind(at)
            os.chmod(at, 0o666)
            ear.settimeout(0.05)
            env = [f"NOTIFY_SOCKET={at}"] + ([f"WATCHDOG_USEC={patience * 1000000}"] if patience else [])
        process = subprocess.Popen(unit.confined(unit.value("ExecStart"), env), stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, start_new_session=True)
        state(unit, active="activating" if notifies else "active", pid=process.pid, restarts=restarts, watchdogs=0, supervisor=os.getpid(), told="")
        if started and not notifies:
            started = os.write(started, b"up") and None
        barked, told = time.monotonic(), []
        while process.poll() is None:
            if asked and asked[0]:
                process.terminate()
                asked[0] = False
            if not ear:
                time.sleep(0.05)
                continue
            try:
                words = ear.recv(4096).decode().split("\n")
            except TimeoutError:
                words = []
            for word in words:
                if word == "WATCHDOG=1":
                    barked = time.monotonic()
                    state(unit, watchdogs=int(state(unit)["watchdogs"]) + 1)
                elif word:
                    told.append(word)
                    state(unit, told=" ".join(told))
                if word == "READY=1":
                    state(unit, active="active")
                    if started:
                        started = os.write(started, b"up") and None
            if patience and time.monotonic() - barked > patience:
                journal.write(f"{unit.name}.service: Watchdog timeout\n".encode())
                process.kill()
        if started:
            started = os.write(started, b"failed") and None
        if asked or unit.value("Restart", "no") != "always":
            state(unit, active="inactive" if process.returncode == 0 else "failed", code=process.returncode, pid=0)
            return
        state(unit, active="activating", pid=0)
        until = time.monotonic() + unit.seconds("RestartSec")
        while time.monotonic() < until and not asked:
            time.sleep(0.05)
        restarts += 1


def start(unit):
    if state(unit).get("active") == "active":
        return 0
    heard, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(heard)
        nowhere = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        supervise(unit, tell)
        os._exit(0)
    os.close(tell)
    if not select.select([heard], [], [], 60)[0]:
        stop(unit)
    if os.read(heard, 16) != b"up":
        print(f"Job for {unit.name}.service failed. See journalctl -u {unit.name}.", file=sys.stderr)
        return 1
    return 0


def stop(unit):
    kept = state(unit)
    if kept.get("active") in ("active", "activating"):
        os.kill(int(kept["supervisor"]), signal.SIGTERM)
        until = time.monotonic() + 90
        while state(unit)["active"] in ("active", "activating"):
            if time.monotonic() > until:
                return 1
            time.sleep(0.05)
    return 0


def systemctl(words):
    words = [word for word in words if not word.startswith("-")]
    verb, units = words[0], words[1:]
    if verb == "daemon-reload":
        return 0
    if verb == "status" and not units:
        print("● this computer (stand-in)\n    State: running")
        return 0
    if units[0].removesuffix(".service") == "nginx":
        print("● nginx.service - a web server (stand-in)\n     Active: active (running)")
        return 0
    unit = Unit(units[0])
    if verb == "is-active":
        return 0 if state(unit).get("active") == "active" else 3
    if verb in ("enable", "disable"):
        at = f"/etc/systemd/system/multi-user.target.wants/{unit.name}.service"
        if verb == "enable" and not os.path.lexists(at):
            os.makedirs(os.path.dirname(at), exist_ok=True)
            os.symlink(unit.path, at)
            print(f"Created symlink {at} → {unit.path}.")
        return 0
    if verb == "start":
        return start(unit)
    if verb == "stop":
        return stop(unit)
    if verb == "restart":
        return stop(unit) or start(unit)
    if verb == "reload":
        done = subprocess.run(unit.confined(unit.value("ExecReload"), []), stdin=subprocess.DEVNULL, capture_output=True)
        os.makedirs(JOURNAL, exist_ok=True)
        with open(f"{JOURNAL}/{unit.name}", "ab") as journal:
            journal.write(done.stdout + done.stderr)
        return done.returncode and 1
    if verb == "status":
        kept = state(unit)
        running = kept.get("active") == "active"
        print(f"{'●' if running else '○'} {unit.name}.service - {unit.value('Description')}\n     Loaded: loaded ({unit.path})\n     Active: {kept.get('active', 'inactive')}\n   Main PID: {kept.get('pid', 0)}")
        return 0 if running else 3
    sys.exit(f"service.py: no stand-in for systemctl {verb}")


def main():
    if sys.argv[1:2] != ["--as"]:
        sys.exit(__doc__)
    name = sys.argv.pop(2)
    if name == "journalctl":
        unit = sys.argv[sys.argv.index("-u") + 1]
        follow = ["-f"] if "-f" in sys.argv else []
        os.execvp("tail", ["tail", "-n", "50", *follow, f"{JOURNAL}/{unit}"])
    sys.exit(systemctl(sys.argv[2:]))


if __name__ == "__main__":
    main()
