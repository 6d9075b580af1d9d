"""``vsync`` by its command line, as a person runs it: to its end, or as a process that is killed on the way."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsync.cli import main

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

SECONDS = 240
COUNTED = {"chunk_acked", "step_began", "step_ended"}
"""The events that a kill may wait for."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it said; with ``--json``, ``said`` are its objects."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.said if one["type"] == kind]

    def balance(self, destination: str) -> dict[str, Any]:
        """Give what an apply settled at a destination."""
        found = [s for s in self.of("settled") if s["destination"] == destination]
        assert len(found) == 1, self
        return found[0]

    @property
    def problems(self) -> str:
        """Join what the last object says, where it is an error."""
        return "\n".join(str(p) for one in self.of("error") for p in one["problems"])


def vsync(folder: Path, *words: str) -> Done:
    """Run a command in the spec's folder, to its end: in this process, which has its imports behind it."""
    out, err = io.StringIO(), io.StringIO()
    before, arguments, code = Path.cwd(), sys.argv, 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.chdir(folder)
    sys.argv = ["vsync", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = arguments
        os.chdir(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    done = Done(code, out.getvalue(), err.getvalue())
    assert "Traceback" not in done.err, done.err
    return done


def apply(folder: Path, *words: str, code: int = 0) -> Done:
    """Apply the spec ``vsync.yaml`` of a folder, and look at the exit code."""
    done = vsync(folder, "apply", "--auto-approve", "--json", *words)
    assert done.code == code, (done.code, done.problems, done.err[-2000:], done.out[-2000:])
    return done


def plan(folder: Path, *words: str, code: int = 0) -> str:
    """Plan it as text, and look at the exit code; 2 means changes."""
    done = vsync(folder, "plan", "--detailed-exitcode", *words)
    assert done.code == code, (done.code, done.out, done.err)
    return done.out + done.err


def assert_no_changes(folder: Path, *words: str) -> None:
    assert "No changes." in plan(folder, *words)


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "vsync", *words]


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start an apply whose events can be read from its ``stdout``, unbuffered."""
    return begin(folder, "apply", "--auto-approve", "--json", *words)


def begin(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command whose events can be read from its ``stdout``, unbuffered."""
    given = command(words)
    return subprocess.Popen(given, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)


def events(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Give the objects that a process prints, each as soon as it is printed."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith(b"\n"):  # a killed process may leave half a line
            yield json.loads(line)


def kill_on_the_way(folder: Path, chance: random.Random, most_events: int, *words: str) -> bool:
    """Start an apply and SIGKILL it at a random moment: after some events, and some milliseconds or words more.

    Tells whether it was killed; ``False`` where it came to its end first, well.
    """
    after = chance.randrange(most_events + 1)
    process = start(folder, *words)
    assert process.stdout is not None
    seen = 0
    said: dict[str, Any] = {}
    if after:
        for said in events(process):
            seen += said["type"] in COUNTED
            if seen == after:
                break
    if seen == after:
        # Whatever comes first: a little time, or what it says next.
        select.select([process.stdout], [], [], chance.random() * (0.03 if after else 1.0))
        process.kill()
    code = process.wait(SECONDS)
    process.stdout.close()
    assert code in {0, -9}, f"the apply ended by itself with {code}: {said}"
    return code == -9


def killed_at(folder: Path, point: str, *words: str) -> None:
    """Apply in a process of its own, which dies at this fault point, ``NAME:N``."""
    given = command(["apply", "--auto-approve", *words])
    environ = {**os.environ, "VSYNC_FAULT": point}
    done = subprocess.run(given, cwd=folder, env=environ, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == -signal.SIGKILL, done


def apply_with_kills(folder: Path, seed: int, kills: int, most_events: int, *words: str) -> tuple[int, Done]:
    """Apply until it is finished, killed so many times on the way; gives the kills that hit, and the last run."""
    import random

    chance = random.Random(seed)
    hit = 0
    while hit < kills and kill_on_the_way(folder, chance, most_events, *words):
        hit += 1
    return hit, apply(folder, *words)
