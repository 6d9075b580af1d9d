"""What a check finds, in words: lines as rclone writes them, a balance of each destination, and how far it is."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING

from vsync.applying.events import Waiting
from vsync.checking import findings as f
from vsync.errors import many
from vsync.report.bars import Bars
from vsync.report.jsonl import say, say_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from rich.progress import TaskID

    from vsync.compare import Checked
    from vsync.report.words import Line

SHOWN = 20
"""Findings of a destination that are shown on a terminal."""

STYLES = {"+": "create", "-": "destroy", "*": "update", "2": "replace", "!": "warn"}
WORDS = {
    "counts": "as many in the target; keys and content were not compared",
    "keys": "the keys are the same",
    "content": "the content is the same",
    "sample": "drawn, the same in the target",
}


def finding_line(finding: f.Finding) -> str:
    """Write a finding as ``SYMBOL ADDRESS KEY [detail]``, the key as a JSON literal."""
    key = json.dumps(finding.key, ensure_ascii=False)
    return f"{finding.symbol} {finding.address} {key} {finding.detail}".rstrip()


def compared_line(c: f.Compared) -> str:
    """Say what became of a destination."""
    if c.left_out:
        return f"{c.address}: not compared: {c.left_out}"
    source = many(c.source, "row")
    if not c.differences:
        more = f"; {many(c.beyond, 'row')} of others" if c.one_way and c.beyond else ""
        return f"{c.address}: {source}, {WORDS[c.how]}{more}"
    if c.how == "counts":
        return f"{c.address}: {source} in the source, {c.target:,} in the target: {_off_by(c)}"
    found = ((c.missing, "missing"), (c.extra, "extra"), (c.changed, "changed"), (c.doubled, "doubled"))
    named = [f"{number:,} {word}" for number, word in (*found, (c.unreadable, "unreadable")) if number]
    target = "" if c.how == "sample" else f", {c.target:,} in the target"
    return f"{c.address}: {source} {'drawn' if c.how == 'sample' else 'in the source'}{target}: {', '.join(named)}"


def _off_by(c: f.Compared) -> str:
    return f"{abs(c.target - c.source):,} {'more' if c.target > c.source else 'fewer'}"


def checked_lines(checked: Checked, shown: Mapping[str, Sequence[f.Finding]]) -> Iterator[Line]:
    """Show the first findings of each destination, and its balance."""
    for c in checked.compared:
        first = shown.get(c.address, ())
        for finding in first:
            yield STYLES[finding.symbol], f"  {finding_line(finding)}"
        if c.how != "counts" and c.differences > len(first):
            yield "dim", f"    and {c.differences - len(first):,} more: --combined FILE lists them all"
        yield ("warn" if c.differences else "create"), f"{'!' if c.differences else '='} {compared_line(c)}"
    if checked.seed is not None:
        yield "dim", f"Drawn with --seed {checked.seed}"
    if not checked.compared:
        yield "warn", "Nothing was compared: no collection of the spec has data, or none was chosen."
        return
    verdict = f"Differences: {many(checked.differences, 'row')}." if checked.differences else "No differences."
    yield "bold", verdict


class CheckReport(Bars):
    """A report for :func:`vsync.check`: call it with events, between ``with``.

    Every finding goes into ``combined`` as it comes, and as JSON to stdout; ``shown`` keeps the first of each
    destination.
    """

    def __init__(self, every: float, combined: TextIO | None, *, as_json: bool) -> None:
        super().__init__(every, drawn=not as_json)
        self.shown: defaultdict[str, list[f.Finding]] = defaultdict(list)
        self._combined, self._as_json = combined, as_json
        self._lock = threading.Lock()
        self._rows = self._total = 0
        self._task: TaskID | None = None

    def __call__(self, event: f.Event | Waiting) -> None:
        """Take one event; called from any thread."""
        with self._lock:
            self._take(event)

    def _take(self, event: f.Event | Waiting) -> None:
        match event:
            case f.Found(findings):
                self._keep(findings)
            case f.CheckBegan(address, rows):
                self._rows, self._total = 0, rows
                if self._bars:
                    self._task = self._progress.add_task(address, total=rows, note="")
            case f.RowsRead(address, rows):
                self._advance(address, rows)
            case f.Compared():
                if self._task is not None:
                    self._progress.remove_task(self._task)
                    self._task = None
                if self._as_json:
                    say("compared", **asdict(event), differences=event.differences)
            case Waiting():
                if self._as_json:
                    say_event(event)
                else:
                    self._say_waiting(event)

    def _keep(self, findings: Sequence[f.Finding]) -> None:
        for finding in findings:
            if self._combined is not None:
                self._combined.write(finding_line(finding) + "\n")
            if self._as_json:
                told = {name: getattr(finding, name) for name in ("symbol", "address", "key", "detail")}
                say("difference", **told)
            if len(self.shown[finding.address]) < SHOWN:
                self.shown[finding.address].append(finding)

    def _advance(self, address: str, rows: int) -> None:
        self._rows += rows
        note = f"{self._rows:,} / {self._total:,} rows of both sides"
        if self._task is not None:
            self._progress.update(self._task, completed=self._rows, note=note)
        elif not self._as_json:
            self._say_sometimes(f"  {address}   {note}")
