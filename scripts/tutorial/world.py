"""Computers, each with its own home and terminal, and what is typed on them."""

import os, re, select, shutil, signal, subprocess, time

from pages import LINES, PLACEHOLDERS, line_stand_in

COUNTS = {True: 0, False: 0}
PLACE = "/srv"
MARK = "\x01"


def check(good, what, detail=""):
    COUNTS[bool(good)] += 1
    print(("ok " if good else "FAILED ") + what + (f" — {detail}" if detail and not good else ""), flush=True)
    return good


def show(who, command, output, most=24):
    lines = output.splitlines()
    if len(lines) > most:
        lines[most - 4 : -3] = [f"… {len(lines) - most + 1} more lines …"]
    print("\n".join([f"{who}$ {command}", *(f"    {line}" for line in lines)]), flush=True)


def wait_for(what, patience=20.0):
    begun = time.monotonic()
    while not (answer := what()):
        if time.monotonic() - begun > patience:
            return answer
        time.sleep(0.05)
    return answer


class Terminal:
    """A bash that keeps running, so that `cd`, `export` and jobs work as they do for a person."""

    def __init__(self, name, env, folder, become):
        self.name, self.ids = name, {}
        os.makedirs(folder, exist_ok=True)
        self.script = f"{PLACE}/{name}.typed"
        self.bash = subprocess.Popen([*become, "bash", "--noprofile", "--norc"], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def type(self, command, patience=60.0, silent=False):
        with open(self.script, "w") as file:
            file.write(command + "\n")
        self.bash.stdin.write(f". {self.script} </dev/null; printf '{MARK}%d{MARK}' $?\n".encode())
        self.bash.stdin.flush()
        heard, until = "", time.monotonic() + patience
        while not (end := re.search(f"{MARK}(\\d+){MARK}", heard)):
            if not select.select([self.bash.stdout], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError(f"{self.name}: `{command}` took more than {patience} s: {heard}")
            piece = os.read(self.bash.stdout.fileno(), 65536)
            if not piece:
                raise EOFError(f"{self.name}: the shell ended at `{command}`: {heard}")
            heard += piece.decode(errors="replace")
        code, output = int(end.group(1)), heard[: end.start()]
        if not silent:
            show(self.name, command, output)
        return code, output

    def interrupted(self, command, ready):
        """Runs the command in the foreground until `ready` succeeds, then presses Ctrl-C."""
        return self.type(f"""set -m
( {command.split("#")[0]} ) >{self.script}.said 2>&1 & job=$!
for _ in $(seq 400); do {ready} && break; sleep 0.05; done
kill -INT -- -$job; wait $job 2>/dev/null; code=$?; set +m; cat {self.script}.said; (exit $code)""", silent=True)

    def run(self, block, expect=None, before=None):
        """Types the lines of a block. `expect`: part of a line → its exit code, or text in its output, or both; other lines
        must exit with 0. `before`: part of a line → a function to call before the first such line."""
        expect, before, outputs, seen = dict(expect or {}), dict(before or {}), [], set()
        for number, line, shown in block.commands:
            for part in [part for part in before if part in line]:
                before.pop(part)()
            command = line
            for placeholder in re.findall(PLACEHOLDERS.what, line):
                PLACEHOLDERS.used += 1
                command = command.replace(placeholder, self.ids[placeholder])
            stand_in = line_stand_in(line)
            if stand_in in ("editor", "itself"):
                print(f"{self.name}$ {line}\n    ({LINES[stand_in].instead})")
                continue
            if stand_in == "interrupted":
                ready = f"[ -s {self.script}.said ]" if "journalctl" in line else f'malai status >/dev/null 2>&1 && {{ [ "$RUST_LOG" != malai=debug ] || grep -q DEBUG {self.script}.said; }}'
                code, output = self.interrupted(command, ready)
                show(self.name, f"{line}\n^C", output)
            else:
                code, output = self.type(command)
            wanted_code, wanted = 0, []
            for part in [part for part in expect if part in line]:
                for one in expect[part] if isinstance(expect[part], tuple) else (expect[part],):
                    if isinstance(one, int):
                        wanted_code = one
                    else:
                        wanted.append(one)
                seen.add(part)
            if stand_in == "interrupted" and "journalctl" in line:
                wanted_code = code
            missing = [text for text in wanted if text not in output]
            check(code == wanted_code and not missing, f"{block.page}:{number}: {line.splitlines()[0]}", f"exit code {code}, expected {wanted_code}; missing {missing}")
            if shown:
                self.compare(block, number, shown, output)
            outputs.append(output)
        for part in (*(expect.keys() - seen), *before):
            check(False, f"{block}: has a line with {part!r}")
        return outputs

    def compare(self, block, number, shown, output):
        """Checks that the output has each line shown on the page, in order; malai may print more between them."""
        rest, example = output.splitlines(), "/Users/admin/.malai"
        for line in (line.replace(example, self.home) for line in shown if line.strip()):
            at = next((at for at, real in enumerate(rest) if real.rstrip().startswith(line.rstrip())), None)
            check(at is not None, f"{block.page}:{number}: prints `{line.strip()}`", output)
            rest = rest[at + 1 :] if at is not None else rest


class Computer(Terminal):
    def __init__(self, name, home=None, become=()):
        folder = f"{PLACE}/{name}"
        self.home = home or f"{folder}/.malai"
        env = {key: os.environ[key] for key in ("LANG", "CARGO_HOME", "RUSTUP_HOME") if key in os.environ}
        super().__init__(name, env | {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": folder, "USER": "root", "TERM": "dumb",
            "MALAI_HOME": self.home, "MALAI_NETWORK": "loopback", "EDITOR": "editor", "LC_ALL": "C.UTF-8"}, folder, become)

    def malai(self, *words, code=0):
        done, output = self.type("malai " + " ".join(f"'{word}'" for word in words), silent=True)
        if code is not None and done != code:
            raise RuntimeError(f"{self.name}: malai {' '.join(words)}: exit code {done}: {output}")
        return output

    def cluster(self, alias):
        """The id52 of a cluster that this computer manages."""
        file = open(f"{self.home}/clusters/{alias}/cluster.toml").read()
        return re.search(r'id52 = "([a-z0-9]{52})"', file).group(1)

    def starts(self):
        self.malai("daemon")

    def stops(self):
        self.malai("stop", code=None)

    def dies(self):
        """Ends the daemon as a power failure would: nothing is cleaned up."""
        pid = int(open(f"{self.home}/malai.lock").read().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.type("malai status", silent=True)[0] != 0)

    def away(self):
        self.stops()
        self.bash.stdin.close()
        self.bash.wait()
        shutil.rmtree(f"{PLACE}/{self.name}", ignore_errors=True)


def section(said, name=None):
    """The section to add that `machine init` printed."""
    lines = said.splitlines()
    start = next(at for at, line in enumerate(lines) if line.strip().startswith("[machine."))
    text = "\n".join(line.strip() for line in lines[start : start + 3])
    return re.sub(r"\[machine\..*\]", f"[machine.{name}]", text) if name else text


def edits(text):
    """Sets the text that the stand-in for $EDITOR will append."""
    with open(f"{PLACE}/to-be-typed", "w") as file:
        file.write("\n" + text + "\n")


def join(manager, alias, machine, name, starts=True, own=None):
    """Makes a computer a machine of a cluster that another one manages."""
    said = machine.malai("machine", "init", manager.cluster(alias), own or alias)
    with open(f"{manager.home}/clusters/{alias}/cluster.toml", "a") as file:
        file.write("\n" + section(said, name) + "\n")
    if starts:
        machine.starts()


def found(alias, manager, **machines):
    """Starts a cluster: its manager, and machines that have its configuration."""
    manager.malai("cluster", "init", alias)
    for name, machine in machines.items():
        join(manager, alias, machine, name)
    manager.starts()
    settled(manager, alias)


def settled(manager, alias):
    manager.malai("rescan", alias)
    if not wait_for(lambda: "unreachable" not in manager.malai("rescan", alias)):
        raise RuntimeError(f"not all machines of {alias} are reached")
