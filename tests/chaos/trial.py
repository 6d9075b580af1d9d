"""A scenario on trial: its apply is interrupted, run again, interrupted again, and what it leaves is looked at."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import reader
from chaos import content, forked
from chaos.interruption import LOSS, Interruption, Passed, Recorded
from chaos.scenario import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from pathlib import Path

    from chaos.content import Compared
    from chaos.proxy import Proxy
    from chaos.scenario import Scenario
    from servers import Server

SECONDS = 240.0
"""No apply of so few rows takes longer: one that does hangs."""
AWAY_SECONDS = 1.0
APPLY = ("apply", "--auto-approve", "--json", "--max-downtime", "3m")
REFUSED, REJECTED, SERVER_AWAY, KILLED = 1, 3, 5, -9
LEFT_OVER = re.compile(r"File exists: '(.+?)'.* remove it, and apply again")
MOST_LOST = 10
READY_SECONDS = 120.0
"""A server that was killed and started again may be not ready for so long: until then an apply ends with that."""


class WrongError(Exception):
    """A scenario did not come to the end that it must come to."""


@dataclass(slots=True)
class Trial:
    """One scenario, with its server and the proxy before it (None for an embedded Lite)."""

    scenario: Scenario
    forks: ForkServerContext
    server: Server | None
    proxy: Proxy | None
    so_far: Passed = field(default_factory=Passed)
    passed: list[str] = field(default_factory=list)
    """The points that were passed, in all runs."""
    tried: list[Interruption] = field(default_factory=list)
    finished: bool = False
    late: float | None = None
    """A request is held back that the next run is to meet, after so many seconds."""
    _runs: int = 0
    _mended: bool = False
    _started_again: bool = False

    def prepare(self) -> None:
        """Write what is there before, the files and the spec."""
        self.scenario.write_before()
        self.scenario.write_files()

    def run(self, interruption: Interruption | None = None) -> bool:
        """Apply once; tells whether it was interrupted. Raises WrongError where it ends as it must not."""
        self._runs += 1
        faults = {"VSYNC_FAULT_LOG": str(self._file("passed"))}
        if interruption is not None:
            self.tried.append(interruption)
            if interruption.kind == "point":
                faults["VSYNC_FAULT"] = interruption.at
            self._arm(interruption)
        cuts = self.proxy.cuts if self.proxy else 0
        process = self._start([*APPLY, *self.scenario.words], faults)
        self._let_go(process)
        disturbed = interruption is not None and self._disturb(process, interruption)
        code = self._end_of(process)
        passed = Passed.read(self._file("passed"))
        self.so_far.follow(passed)
        self.passed += passed.planning + passed.working
        if self.proxy:
            self.proxy.disarm()
            disturbed = disturbed or self.proxy.cuts > cuts
        self._judge(code, disturbed=disturbed)
        return disturbed or code == KILLED

    def done(self) -> list[tuple[str, int, int, list[list[int]]]]:
        """List the chunks that are done: path, bounds, the keys that the server made. Read from the state by SQL."""
        path = self.scenario.folder / ".vsync" / "vsync.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as state:
            if not state.execute("SELECT 1 FROM sqlite_master WHERE name = 'chunks'").fetchone():
                return []  # the first apply was killed before it had made its tables
            rows = state.execute(
                "SELECT u.path, c.lo, c.hi, c.key_ranges FROM chunks c JOIN units u ON u.key = c.unit"
                " WHERE c.state = 'acked' AND c.written > 0 ORDER BY c.acked"
            ).fetchall()
        return [(unit, lo, hi, json.loads(ranges)) for unit, lo, hi, ranges in rows]

    def take_away(self, loss: Interruption) -> bool:
        """Remove some rows of a chunk that is done, if one is: a killed server may lose what it acknowledged."""
        self.tried.append(loss)
        done = self.done()
        if not done:
            return False
        path, lo, hi, ranges = done[int(float(loss.at) * len(done))]
        with reader.client_of(self.scenario.target) as client:
            if self.scenario.shape.key == "auto_id":
                keys = list(range(ranges[0][0], ranges[0][1] + 1))[:MOST_LOST]
            else:
                keys = self.scenario.written(path, lo, hi)[:MOST_LOST]
            field = {"auto_id": "key", "varchar": "word", "int64": "id"}[self.scenario.shape.key]
            # Not ids=: pymilvus writes texts into its expression as they are, quotes and all.
            client.delete(NAME, filter=f"{field} in [{', '.join(map(reader.quoted, keys))}]")
            client.flush(NAME)  # on Lite an insert takes back what is only in memory of a deletion
        return True

    def run_to_the_end(self) -> None:
        """Apply without interruptions until it is done.

        That is at once, but where the user has to mend the spec, and where a server that was killed is not ready yet.
        """
        until = time.monotonic() + READY_SECONDS
        while not self.finished:
            if time.monotonic() > until:
                if not self._start_again():
                    raise WrongError(f"not done after {READY_SECONDS:.0f} s of runs that nothing interrupted")
                until = time.monotonic() + READY_SECONDS
            self.run()

    def record(self) -> Recorded:
        """Apply without interruptions, and note what that does."""
        began, passed = time.monotonic(), self.proxy.passed if self.proxy else 0
        self.run_to_the_end()
        return Recorded(self.so_far, time.monotonic() - began, self.proxy.passed - passed if self.proxy else 0)

    def look(self) -> tuple[Compared, list[str]]:
        """Compare what is there with what must be there; gives what is wrong beside rows, too."""
        from pymilvus import MilvusException

        try:
            return self._look()
        except MilvusException:
            if not self._start_again():
                raise
            return self._look()

    def _look(self) -> tuple[Compared, list[str]]:
        scenario, wrong = self.scenario, []
        self._runs += 1
        code = self._end_of(self._start(["plan", "--detailed-exitcode"], {}))
        said = self._file("out").read_text()
        if code != 0 or "No changes." not in said:
            wrong.append(f"a plan after all was done ended with {code}:\n{said}")
        if self._rejected() != scenario.rejects:
            wrong.append(f"the rejects file has {self._rejected()}, the bad rows are {scenario.rejects}")
        with reader.client_of(scenario.target) as client:
            if scenario.alias:
                leads_to = client.describe_collection(scenario.alias)["collection_name"]
                wrong += [f"the alias leads to {leads_to}"] if leads_to != NAME else []
            return content.compare(client, NAME, scenario.told_apart_by, scenario.expected()), wrong

    def _file(self, what: str) -> Path:
        return self.scenario.folder / f"{self._runs:02}.{what}"

    def _start(self, words: Sequence[str], faults: dict[str, str]) -> ForkServerProcess:
        return forked.start(self.forks, self.scenario.folder, words, self._file("out"), faults)

    def _end_of(self, process: ForkServerProcess) -> int:
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise WrongError(f"it was still running after {SECONDS:.0f} s: {self._file('out')}")
        return process.exitcode

    def _arm(self, interruption: Interruption) -> None:
        """Tell the proxy beforehand what it is to do."""
        if self.proxy is None:
            return
        nbytes, _, seconds = interruption.at.partition(":")
        if interruption.kind == "cut":
            self.proxy.cut_after(int(nbytes))
        elif interruption.kind == "half":
            self.proxy.cut_half_way_after(int(nbytes))
        elif interruption.kind == "late":
            self.proxy.hold_after(int(nbytes))
            self.late = float(seconds)

    def _let_go(self, process: ForkServerProcess) -> None:
        if self.late is not None and self.proxy is not None and self.proxy.held.is_set():
            process.join(self.late)
            self.proxy.let_go()
            self.late = None

    def _disturb(self, process: ForkServerProcess, interruption: Interruption) -> bool:
        """Do what is done while it runs; tells whether that met it alive."""
        if interruption.kind in {"point", "cut", "half"}:
            return False
        if interruption.kind == "late":
            assert self.proxy is not None
            while process.is_alive() and not self.proxy.held.wait(0.02):
                pass
        else:
            process.join(float(interruption.at))
        if not process.is_alive():
            return False
        if interruption.kind == "server":
            assert self.server is not None
            self.server.kill()
            self.server.start()
            self._load_again()
        elif interruption.kind == "away":
            assert self.proxy is not None
            with self.proxy.away():
                process.join(AWAY_SECONDS)
        else:
            process.kill()
            return False  # its exit code tells whether that came in time
        return True

    def _start_again(self) -> bool:
        """Start a server again, once, that was killed and started, and is ill; tells whether it did.

        Milvus 2.3.5 at times has no root coordinator any more, for good, once the lease of the killed one has ended.
        """
        if self._started_again or self.server is None or not self._killed_server:
            return False
        self._started_again = True
        self.server.restart()
        return True

    @property
    def _lost(self) -> bool:
        return any(one.kind == LOSS for one in self.tried)

    @property
    def _killed_server(self) -> bool:
        return any(one.kind == "server" for one in self.tried)

    def _load_again(self) -> None:
        """Load what was loaded: Milvus Lite 2.5 forgets that when it is killed, and counts nothing then."""
        if self.scenario.target.database or not self.scenario.shape.load:
            return
        with reader.client_of(self.scenario.target) as client:
            if client.has_collection(NAME) and client.list_indexes(NAME):
                client.load_collection(NAME)

    def _judge(self, code: int, *, disturbed: bool) -> None:
        """Take the exit code for what it means here."""
        if code == KILLED or (code == SERVER_AWAY and (disturbed or self._killed_server)):
            return
        error = self._last_said()
        bad = self.scenario.shape.bad
        if code == REFUSED and bad == "refused" and not self._mended and "row " in error:
            self._mended = True
            self.scenario.write_spec(mended=True)
        elif code == REJECTED and "fewer than" in error and (self._killed_server or self._lost):
            return  # the next run brings them: also what a server had acknowledged when it was killed
        elif code == REFUSED and (left := LEFT_OVER.search(error)):
            shutil.rmtree(left[1])  # as the hint says: Milvus Lite was killed while it made the collection
        elif code == REJECTED and self._killed_server and "its last count was not" in error:
            return  # loaded again it is counted: Milvus Lite 2.5 is not, for a moment
        elif code == 0 or (code == REJECTED and bad and "did not fit, skipped" in error):
            self.finished = True
        else:
            raise WrongError(f"apply ended with {code}: {error}")

    def _last_said(self) -> str:
        lines = self._file("out").read_text().splitlines()
        try:
            said: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            return "\n".join(lines[-20:])
        return "\n".join(str(problem) for problem in said.get("problems", []))

    def _rejected(self) -> set[tuple[str, int]]:
        path = self.scenario.folder / ".vsync" / "vsync.rejects.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {(one["path"], one["row"]) for one in map(json.loads, lines)}
