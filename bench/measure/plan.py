"""Decides which parts are measured, in which order, with how many rounds."""

import os
import shutil
import subprocess
import tempfile
import time
import traceback
from pathlib import Path

from . import guard, parts
from .report import Report, facts
from .world import World


class Rounds:
    """How much is measured: a full run, or a few minutes."""

    def __init__(self, quick):
        self.runs = 1 if quick else 3
        self.warm = 60 if quick else 200
        self.cold = 10 if quick else 25
        self.series = 2 if quick else 6
        self.bytes = 1 if quick else 2
        self.size = (256 << 20) if quick else (1 << 30)
        self.many = 3 if quick else 7
        self.quick = quick


def build(root):
    """Builds release versions of the binary and of the other programs."""
    cargo = shutil.which("cargo")
    if not cargo:
        raise SystemExit("bench/run: cargo is not there; --no-build measures what was built before")
    build = [cargo, "build", "--locked", "--release", "--quiet", "--manifest-path", root / "Cargo.toml"]
    subprocess.run([*build, "-p", "malai"], check=True)
    for package, example in parts.EXAMPLES:
        subprocess.run([*build, "-p", package, "--example", example], check=True)


def run(chosen, here):
    root = here.parent
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    malai = Path(chosen.malai) if chosen.malai else target / "release/malai"
    if not (chosen.malai or chosen.no_build or chosen.guard):
        build(root)
    if not malai.exists():
        raise SystemExit(f"bench/run: {malai} is not there; build it first: cargo build --locked --release -p malai")
    folder = Path(tempfile.mkdtemp(prefix="malai-bench-"))
    try:
        if chosen.guard:
            return guard.run(malai, folder)
        return measure(chosen, root, malai, target / "release/examples", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(chosen, root, malai, examples, folder):
    begun, load = time.monotonic(), os.getloadavg()[0]
    report, rounds = Report(), Rounds(chosen.quick)
    wanted = chosen.only or list(parts.PARTS)
    failed = []
    unknown = set(wanted) - set(parts.PARTS)
    if unknown:
        raise SystemExit(f"bench/run: there is no part {', '.join(unknown)}; there are {', '.join(parts.PARTS)}")
    for name in wanted:
        print(f"== {name} ({time.monotonic() - begun:.0f} s)", flush=True)
        try:
            parts.PARTS[name](report, rounds, lambda part=name: World(malai, folder / part), examples)
        except Exception as error:  # The other parts are still useful.
            traceback.print_exc()
            report.section(f"{name}: not measured", f"`{type(error).__name__}: {str(error)[:300]}`")
            failed.append(name)
    page = report.page(facts(malai, root, load), "bench/run" + (" --quick" if chosen.quick else ""))
    if chosen.only:
        print("-- only a part was measured: RESULTS.md stays as it is")
    else:
        (root / "bench/RESULTS.md").write_text(page)
        print(f"bench/RESULTS.md is written, after {time.monotonic() - begun:.0f} s")
    missed = [bar.what for bar in report.bars if not bar.met]
    for what in missed:
        print(f"missed: {what}")
    for name in failed:
        print(f"not measured: {name}")
    return 1 if failed else 0
