"""Finds the command blocks of README.md and the tutorial. They are taken in order; each line is run or in the table."""

import functools, re, subprocess


class Stand:
    """A replacement for something that is not possible in a test. Each is listed, and each must be used."""

    def __init__(self, kind, what, instead):
        self.kind, self.what, self.instead, self.used = kind, what, instead, 0


# Lines: (pattern of the whole line, what happens instead). world.py implements them; this explains them.
LINES = {
    "interrupted": Stand("line", r"malai daemon --foreground|sudo journalctl -u malai -f", "runs until Ctrl-C: interrupted (SIGINT) once the daemon is ready, or the log has a line"),
    "editor": Stand("line", r'\[machine\.web01\]|id52 = "abc123\.\.\.xyz789"|allow_from = "\*"', "text for the editor, not for the shell: $EDITOR has written it, with the real id52"),
    "archive": Stand("line", r"cd / && tar -xzf malai-backup-20241201\.tar\.gz", "run as it is, after the backup made above it was moved to that name in /"),
    "itself": Stand("line", r"scripts/test", "not run: it is what runs this test"),
}
# Words in a line that are replaced.
PLACEHOLDERS = Stand("words", r"<[a-z' -]*id52>", "the id52 of the cluster that the scene is about")
PROMPT = Stand("words", r"^\$ ", "a prompt: the line is run, what follows it is what it must print")
# Programs in /usr/local/bin of the tests' own file system.
PROGRAMS = {
    "curl": Stand("program", "curl", "https://malai.sh/… is this checkout's install.sh and an archive by packaging/release"),
    "git": Stand("program", "git clone", "a link to this checkout"),
    "cargo": Stand("program", "cargo", "`build --bin malai` and `run --release --`: the binary under test (a cold build takes minutes)"),
    "editor": Stand("program", "$EDITOR", "appends the section that `machine init` printed, named as the tutorial names it"),
    "sudo": Stand("program", "sudo", "root already: `-u` changes the user, nothing else"),
    "systemctl": Stand("program", "systemctl", "service.py: starts the unit with its restrictions; nginx is a name that it knows"),
    "journalctl": Stand("program", "journalctl", "what service.py has caught of the unit's standard error"),
    "pg_dump": Stand("program", "pg_dump", "prints a line"),
}
ALL = [*LINES.values(), PLACEHOLDERS, PROMPT, *PROGRAMS.values()]


class Block:
    def __init__(self, page, heading, number):
        self.page, self.heading, self.number, self.lines, self.taken = page, heading, number, [], False

    def __str__(self):
        return f"{self.page}:{self.number} ({self.heading})"

    @functools.cached_property
    def commands(self):
        """Each command with its line number and, after a prompt, the output that the page shows."""
        found, buffer, end, prompted = [], [], None, False
        for number, line in enumerate(self.lines, self.number + 1):
            if prompted and not line.startswith("$ "):
                found[-1][2].append(line)
                continue
            if line.startswith("$ "):
                PROMPT.used += 1
                prompted = True
                found.append((number, line[2:], []))
                continue
            if not buffer and (not line.strip() or line.startswith("#")):
                continue
            buffer.append(line)
            here = re.search(r"<<-? *'?(\w+)'?$", buffer[0])
            whole = line == here.group(1) if here else not subprocess.run(["bash", "-n", "-c", re.sub(PLACEHOLDERS.what, "id52", "\n".join(buffer))], capture_output=True).returncode
            if whole:
                found.append((number - len(buffer) + 1, "\n".join(buffer).rstrip(), []))
                buffer = []
        if buffer:
            raise SyntaxError(f"{self}: not a whole command: {buffer}")
        return found


class Page:
    def __init__(self, root, name):
        self.name, self.blocks = name, []
        heading, block = "", None
        for number, line in enumerate(open(f"{root}/{name}").read().splitlines(), 1):
            if block is not None:
                if line.startswith("```"):
                    block = None
                else:
                    block.lines.append(line)
            elif line.startswith("```"):
                block = Block(name, heading, number)
                if line == "```bash":
                    self.blocks.append(block)
            elif line.startswith("#") or re.match(r"\*\*.*:\*\*$", line):
                heading = line.strip("#*: ")

    def take(self, first):
        """Takes the first block not taken yet that starts with this command."""
        for block in self.blocks:
            if not block.taken and block.commands and block.commands[0][1].startswith(first):
                block.taken = True
                return block
        raise LookupError(f"{self.name}: no block (left) that begins with `{first}`")

    def left(self):
        return [str(block) for block in self.blocks if not block.taken]


def line_stand_in(command):
    for name, stand in LINES.items():
        if re.fullmatch(rf"({stand.what})( *#.*)?", command):
            stand.used += 1
            return name
    return None
