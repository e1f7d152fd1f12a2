"""Sets up what is measured: malai's daemons, sshd with a warm connection, the floor; all in one temporary folder."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .timing import Program

PORT = 2222
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CIPHERS = {"ssh": None, "ssh aes128-gcm": "aes128-gcm@openssh.com"}


def wait_for(what, met, seconds=20):
    """Waits until `met()` is true."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


class Malai:
    """One home, with or without a daemon."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.home = world.folder / name
        self.env = world.env | {"MALAI_HOME": str(self.home)}

    def run(self, *words):
        """Runs malai in this home and returns its output."""
        done = subprocess.run(
            [self.world.malai, *words], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"malai {' '.join(words)} in {self.name}: {done.stdout}{done.stderr}")
        return done.stdout

    def init_machine(self, cluster, alias="bench"):
        """Joins a cluster; returns this machine's id52."""
        said = self.run("machine", "init", cluster, alias)
        return re.search(r'id52 = "([0-9a-v]{52})"', said)[1]

    def start(self):
        self.run("daemon")
        self.world.on_exit(self.stop)

    def stop(self):
        if (self.home / "malai.lock").exists():
            subprocess.run([self.world.malai, "stop"], env=self.env, capture_output=True)

    @property
    def pid(self):
        return int((self.home / "malai.lock").read_text())

    def program(self, *words):
        return Program([self.world.malai, *words], self.env, self.world.folder / "malai.log")


class World:
    """A temporary folder and every process started in it."""

    def __init__(self, malai, folder):
        self.malai, self.folder = Path(malai).resolve(), Path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.env = {"PATH": PATH, "HOME": str(self.folder), "LANG": "C.UTF-8", "MALAI_NETWORK": "public"}
        self.exits = []
        self.web01_settings = None

    def on_exit(self, action):
        self.exits.append(action)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.exits:
            try:
                self.exits.pop()()
            except (OSError, subprocess.SubprocessError) as error:
                print(f"while ending: {error}")

    def spawn(self, argv, env=None):
        """Starts a process that ends with this world."""
        log = open(self.folder / "processes.log", "ab")
        child = subprocess.Popen(
            [str(word) for word in argv], env=env or self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()

        def end():
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

        self.on_exit(end)
        return child

    # malai: a manager with a daemon, a machine with a daemon, and a member without one.
    def start_malai(self):
        self.laptop, self.web01, self.desk = (Malai(self, name) for name in ("laptop", "web01", "desk"))
        said = self.laptop.run("cluster", "init", "bench")
        self.cluster = re.search(r"\b([0-9a-v]{52})\b", said)[1]
        self.laptop.start()
        for machine in (self.web01, self.desk):
            key = machine.init_machine(self.cluster)
            if machine is self.web01 and self.web01_settings:
                (machine.home / "malai.toml").write_text(self.web01_settings)
            self.laptop.run("cluster", "add", "bench", machine.name, key, "--allow-from", "*")
            machine.start()
            configuration = machine.home / "clusters/bench/machine.toml"
            wait_for(f"{machine.name} has the configuration", configuration.exists)
        self.desk.stop()
        for caller in (self.laptop, self.desk):
            caller.run("web01.bench", "true")

    # The floor.
    def start_floor(self):
        self.floor = self.folder / "floor"
        source = Path(__file__).parent.parent / "floor.c"
        subprocess.run(["cc", "-O2", "-o", self.floor, source], check=True)
        socket = self.folder / "floor.socket"
        self.spawn([self.floor, "serve", socket])
        wait_for("the floor's socket", socket.exists)
        self.floor_program = Program([self.floor, "ask", socket], self.env, self.folder / "floor.log")

    # OpenSSH: a server with its own keys, configuration and home, and connections that stay open.
    def start_ssh(self):
        self.ssh = shutil.which("ssh", path=PATH)
        sshd = shutil.which("sshd", path=PATH)
        if not (self.ssh and sshd):
            return False
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"]
        for key in ("host", "user"):
            subprocess.run([*keygen, self.folder / key], check=True)
        public = (self.folder / "host.pub").read_text()
        (self.folder / "known").write_text(f"* {public}")
        shutil.copy(self.folder / "user.pub", self.folder / "authorized")
        Path("/run/sshd").mkdir(exist_ok=True)
        (self.folder / "sshd_config").write_text(
            f"Port {PORT}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\nPrintMotd no\n"
            "UseDNS no\nMaxStartups 1000\nMaxSessions 1000\nLogLevel ERROR\nSubsystem sftp internal-sftp\n"
        )
        (self.folder / "ssh_config").write_text(
            f"Host *\n HostName 127.0.0.1\n Port {PORT}\n User {pwd.getpwuid(os.getuid()).pw_name}\n"
            f" IdentityFile {self.folder}/user\n IdentitiesOnly yes\n UserKnownHostsFile {self.folder}/known\n"
            " StrictHostKeyChecking yes\n HostKeyAlias target\n LogLevel ERROR\n"
        )
        # The account's own startup files must not count: an empty folder is mounted over its home.
        home = pwd.getpwuid(os.getuid()).pw_dir
        (self.folder / "empty").mkdir()
        hide = 'mount --bind "$1" "$2" && exec "$3" -D -e -f "$4"'
        self.spawn(
            ["unshare", "--mount", "sh", "-c", hide, "sh", self.folder / "empty", home, sshd, self.folder / "sshd_config"]
        )
        wait_for("sshd answers", lambda: subprocess.run(self.ssh_argv("true"), capture_output=True).returncode == 0)
        for name in CIPHERS:
            self.start_master(name)
        return True

    def start_master(self, name, host="target"):
        """Opens a connection with its own cipher that stays open."""
        socket = self.master(name)
        cipher = ["-c", CIPHERS[name]] if CIPHERS.get(name) else []
        child = self.spawn([self.ssh, "-F", self.folder / "ssh_config", *cipher, "-M", "-S", socket, "-N", host])
        wait_for("a warm ssh connection", lambda: socket.exists() or child.poll() is not None)
        if child.poll() is not None:
            raise RuntimeError("ssh's warm connection was not made")

    def master(self, name):
        return self.folder / f"master-{name.replace(' ', '-')}"

    def ssh_argv(self, *words, warm=None, cipher=None, host="target"):
        through = ["-S", self.master(warm)] if warm else ["-S", "none"]
        with_cipher = ["-c", cipher] if cipher else []
        return [self.ssh, "-F", str(self.folder / "ssh_config"), *map(str, through), *with_cipher, host, *words]

    def ssh_program(self, *words, **how):
        return Program(self.ssh_argv(*words, **how), self.env, self.folder / "ssh.log")
