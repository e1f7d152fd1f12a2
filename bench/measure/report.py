"""Turns figures into a page: the bars first, then everything that was measured."""

import os
import platform
import re
import subprocess
import time


# Twice the bar, and a tenth for computers that differ: the same binary was at 0.48 and at 0.51 of ssh on two of them.
GUARD = 2.2


class Bar:
    """A figure with a limit, its bar. `at_least`: more is better."""

    def __init__(self, what, limit, values, at_least=False, unit=""):
        self.what, self.limit, self.values, self.at_least, self.unit = what, limit, list(values), at_least, unit

    @property
    def value(self):
        """The median of the runs."""
        return sorted(self.values)[len(self.values) // 2]

    @property
    def best(self):
        return max(self.values) if self.at_least else min(self.values)

    @property
    def met(self):
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def missed_by_far(self):
        """Whether even the best run is worse than GUARD times the bar."""
        return self.best < self.limit / GUARD if self.at_least else self.best > self.limit * GUARD

    def row(self):
        sign = "≥" if self.at_least else "≤"
        runs = ", ".join(number(value) for value in self.values) if len(self.values) > 1 else ""
        return [
            self.what,
            f"{sign} {number(self.limit)}{self.unit}",
            f"**{number(self.value)}{self.unit}**",
            runs,
            "yes" if self.met else "**no**",
        ]


def number(value):
    """Formats a number with its significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 0.1:
        return f"{value:.2f}"
    return f"{value:.3f}"


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def bars_of_text(values, width=40):
    """A text plot of a row of figures."""
    most = max(values) or 1
    return ["█" * max(1, round(width * value / most)) for value in values]


class Report:
    def __init__(self):
        self.bars, self.sections = [], []

    def bar(self, *args, **named):
        bar = Bar(*args, **named)
        self.bars.append(bar)
        print(f"  {' '.join(bar.row()[:3])}{'' if bar.met else '   MISSED'}", flush=True)

    def section(self, title, *parts):
        self.sections.append((title, parts))
        for part in parts:
            print(part, flush=True)

    def page(self, facts, command):
        head = ["what", "bar", "measured", "the runs", "met"]
        lines = [
            "# What malai costs, measured",
            "",
            f"Written by `{command}`, not by hand; [README.md](README.md) says how it is measured, and what was tried.",
            "",
            table(["", ""], facts),
            "",
            "## The bars",
            "",
            table(head, [bar.row() for bar in self.bars]),
        ]
        for title, parts in self.sections:
            lines += ["", f"## {title}"]
            for part in parts:
                lines += ["", part]
        return "\n".join(lines) + "\n"


def first_line(argv, stream="stdout"):
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except OSError:
        return "not there"
    return (done.stdout + done.stderr).strip().splitlines()[0]


def facts(malai, root, load):
    """The machine, the versions and the time."""
    with open("/proc/cpuinfo") as info:
        text = info.read()
    model = re.search(r"model name\s*: (.*)", text)
    flags = re.search(r"(?:flags|Features)\s*: (.*)", text)
    wanted = {"aes", "vaes", "avx2", "sha_ni"}
    present = " ".join(sorted(wanted & set(flags[1].split()))) if flags else "unknown"
    with open("/proc/meminfo") as info:
        memory = int(re.search(r"MemTotal:\s+(\d+)", info.read())[1]) / (1 << 20)
    commit = first_line(["git", "-C", str(root), "describe", "--always", "--dirty"])
    return [
        ["when", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())],
        ["processor", f"{os.cpu_count()} × {model[1] if model else platform.machine()} ({present})"],
        ["memory", f"{memory:.0f} GB"],
        ["kernel", platform.release()],
        ["load before", f"{load:.2f}"],
        ["malai", f"{first_line([malai, '--version'])}, commit {commit}, {os.path.getsize(malai) / 1e6:.1f} MB"],
        ["Rust", first_line(["rustc", "--version"])],
        ["OpenSSH", first_line(["ssh", "-V"])],
        ["clush", first_line(["clush", "--version"])],
        ["reach", "`public`, in a network namespace that has nothing but its loopback"],
    ]
