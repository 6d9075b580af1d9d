"""What scripts/bench prints: medians, ratios, and whether what must be reached is reached."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench_measure import MIB, Shape, Used

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Runs = dict[str, list[Used]]
"""What each contender took, a run after the other."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something to be reached: at least ``bound``, or at most where ``at_most``."""

    text: str
    value: float
    bound: float
    at_most: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        """Render as one line."""
        sign, word = ("<=" if self.at_most else ">="), ("ok" if self.reached else "MISSED")
        return f"  {word:<6}  {self.text}: {self.value:.2f}{self.unit} ({sign} {self.bound:.2f}{self.unit})"


def machine() -> str:
    """Say on what it ran: a line each."""
    cpu, memory = platform.machine(), 0
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        cpu = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), cpu)
        cores = sum(x.startswith("processor") for x in lines)
        memory = int(Path("/proc/meminfo").read_text("ascii").split()[1]) // MIB
    packages = ", ".join(f"{p} {version(p)}" for p in ("pymilvus", "milvus-lite", "grpcio", "pyarrow", "h5py"))
    return (
        f"{cores} x {cpu} ({platform.machine()}), {memory} GiB, Linux {platform.release()}; server and client on the "
        f"same machine\nPython {platform.python_version()}, {packages}"
    )


def table(name: str, shape: Shape, runs: Runs) -> str:
    """Render the medians of one server and shape as Markdown."""
    lines = [
        f"### {name}, {shape.rows:,} x {shape.dim} ({shape.nbytes / 1e6:.0f} MB), medians of {len(runs['vsync'])}",
        "",
        "| | copy s | rows/s | MB/s | CPU s/GB | process s | CPU s | anonymous MiB | RSS MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for contender, used in runs.items():
        copy = _of(used, "copy_seconds")
        cells = [
            f"{copy:.2f}",
            f"{shape.rows / copy:,.0f}",
            f"{shape.nbytes / copy / 1e6:.0f}",
            f"{_of(used, 'copy_cpu_seconds') / shape.nbytes * 1e9:.1f}",
            f"{_of(used, 'seconds'):.2f}",
            f"{_of(used, 'cpu_seconds'):.2f}",
            f"{max(u.anonymous for u in used) / MIB:.0f}",
            f"{max(u.resident for u in used) / MIB:.0f}",
        ]
        lines.append(f"| {contender} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{text}: {spread}" for text, spread in _spreads(runs))])


def _spreads(runs: Runs) -> Iterator[tuple[str, str]]:
    for contender, used in runs.items():
        yield f"copy seconds of {contender}, run by run", ", ".join(f"{u.copy_seconds:.2f}" for u in used)


def _of(used: Sequence[Used], what: str) -> float:
    values: list[float] = [getattr(u, what) for u in used]
    return median(values)


def targets(kind: str, shape: Shape, runs: Runs, bound_mib: float) -> Iterator[Target]:
    """Compare medians with what must be reached."""
    ours, ceiling, plain = runs["vsync"], runs["ceiling"], runs.get("plain")
    of = f"{kind} {shape}:"
    copy = _of(ours, "copy_seconds")
    yield Target(f"{of} copy phase / ceiling", _of(ceiling, "copy_seconds") / copy, 0.9)
    yield Target(f"{of} whole process / ceiling", _of(ceiling, "seconds") / _of(ours, "seconds"), 0.75)
    if plain:
        faster = {"milvus": 1.7, "lite": 0.95}[kind]
        yield Target(f"{of} copy phase / plain script", _of(plain, "copy_seconds") / copy, faster)
        less = _of(ours, "copy_cpu_seconds") / _of(plain, "copy_cpu_seconds")
        yield Target(f"{of} client CPU per GB copied / plain script", less, 1 / 3, at_most=True)
    share = median(u.said["journal_seconds"] / u.copy_seconds for u in ours)
    yield Target(f"{of} journal's share of the copy phase", 100 * share, 3, at_most=True, unit=" %")
    peak = max(u.anonymous for u in ours) / MIB
    yield Target(f"{of} anonymous memory", peak, bound_mib, at_most=True, unit=" MiB")
