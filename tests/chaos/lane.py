"""One server of the chaos suite, and the scenarios that are interrupted there, one after the other."""

from __future__ import annotations

import random
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import reader
from chaos.content import Compared
from chaos.interruption import EMBEDDED, FAILED, LASTING, LOSS, REOPENED, SERVED, Interruption, Recorded, choose
from chaos.proxy import Proxy
from chaos.scenario import SHAPES, Shape, make
from chaos.tally import Tally
from chaos.trial import Trial, WrongError
from conftest import Endpoint
from grpc import RpcError
from pymilvus import MilvusException
from servers import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

SERVER_KILLS = 5
"""In every so many-th scenario the server is killed."""
LOSSES = 4
"""In every so many-th scenario rows are taken away between two runs, and in each with keys of the server's making."""
MANY, FEW = (8, 15), (2, 5)
"""Interruptions that are tried on a scenario, where it does not end before; few, where its server dies too."""


@dataclass(slots=True)
class Result:
    """How a scenario came out; ``wrong`` says what is wrong beside rows. Of the interruptions tried some hit."""

    name: str
    tried: list[Interruption] = field(default_factory=list)
    hit: list[Interruption] = field(default_factory=list)
    compared: Compared = field(default_factory=Compared)
    wrong: str = ""
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        return self.compared.right and not self.wrong

    def __str__(self) -> str:
        how = "right" if self.right else f"WRONG {self.wrong}"
        tried = f"{len(self.hit)} of {len(self.tried)} interruptions"
        return f"{self.name}: {tried}, {self.compared}, {how} ({self.seconds:.1f} s)"


class Lane:
    """A server (None: each scenario has an embedded Lite of its own) behind a proxy.

    ``n`` is a scenario's number: with the seed and the server it says all of it, but for the interruptions.
    """

    def __init__(self, kind: str, server: Server | None, folder: Path, seed: int, forks: ForkServerContext) -> None:
        self.tally = Tally(kind)
        self._kind = kind
        self._server = server
        self._proxy = Proxy(server.port) if server else None
        self._folder = folder
        self._seed = seed
        self._forks = forks
        self._recorded: dict[Shape, Recorded] = {}

    def shape(self, n: int) -> Shape:
        """Give the shape of a scenario: each has its turn, in an order that is chance's."""
        deck = [shape for shape in SHAPES if self._kind != "lite25" or not _beyond_lite25(shape)]
        self._chance(f"deck {n // len(deck)}").shuffle(deck)
        return deck[n % len(deck)]

    def interrupt(self, n: int, until: float = float("inf"), shape: Shape | None = None) -> Result:
        """Interrupt a scenario as chance will, until it is done or time is over, and look at what it leaves."""
        return self._result(n, shape or self.shape(n), None, until)

    def repeat(self, n: int, interruptions: Sequence[Interruption], shape: Shape | None = None) -> Result:
        """Interrupt a scenario as it was before."""
        return self._result(n, shape or self.shape(n), interruptions, float("inf"))

    def record(self, n: int, shape: Shape) -> Recorded:
        """Let a scenario of this shape run without interruptions, once."""
        if shape not in self._recorded:
            with self._trial(n, shape, "-recorded") as trial:
                self._recorded[shape] = trial.record()
            shutil.rmtree(trial.scenario.folder)
        return self._recorded[shape]

    def _result(self, n: int, shape: Shape, given: Sequence[Interruption] | None, until: float) -> Result:
        began = time.monotonic()
        result = Result(f"{self._kind} {n} {shape}")
        try:
            recorded = self.record(n, shape) if given is None else None
            with self._trial(n, shape, "") as trial:
                result.name, result.tried = f"{self._kind} {n} {trial.scenario}", trial.tried
                for one in given or ():
                    self._tell(trial, one, result)
                if recorded is not None:
                    self._as_chance_will(n, trial, recorded, until, result)
                trial.run_to_the_end()
                result.compared, wrong = trial.look()
                result.wrong = "; ".join(wrong)
                self.tally.passed.update(trial.passed)
        except (WrongError, ServerError, MilvusException, RpcError, AssertionError) as error:
            result.wrong = f"{type(error).__name__}: {error}"
        if result.right:
            shutil.rmtree(trial.scenario.folder)
        result.seconds = time.monotonic() - began
        self.tally.scenarios += 1
        self.tally.compared += result.compared
        self.tally.seconds += result.seconds
        return result

    def _as_chance_will(self, n: int, trial: Trial, recorded: Recorded, until: float, result: Result) -> None:
        """Interrupt it some times as chance will, in the end in a way that its run may bear."""
        chance, shape = self._chance(f"interruptions {n}"), trial.scenario.shape
        loses = _bears_loss(shape) and (shape.key == "auto_id" or n % LOSSES == 0)
        kills_server = self._server is not None and n % SERVER_KILLS == SERVER_KILLS - 1
        first = list(FAILED) if shape.bad == "refused" else []
        times = chance.randrange(*(FEW if kills_server else MANY))
        for last in [False] * times + [True]:
            if loses and trial.done():
                self._tell(trial, Interruption(LOSS, f"{chance.random():.3f}"), result)
                first, loses = list(REOPENED) if shape.key == "auto_id" else [], False
            odds = self._odds(trial)
            if last:
                odds = {"server": 1.0} if kills_server else {kind: odds[kind] for kind in LASTING if kind in odds}
            if trial.finished or time.monotonic() > until or not odds:
                return
            one = choose(odds, recorded, trial.so_far, self.tally, chance)
            self._tell(trial, Interruption("point", f"{first.pop(0)}:1") if first else one, result)

    def _odds(self, trial: Trial) -> dict[str, float]:
        odds = EMBEDDED if self._proxy is None else SERVED
        return {kind: n for kind, n in odds.items() if kind != "late" or self._bears_late(trial)}

    def _tell(self, trial: Trial, one: Interruption, result: Result) -> None:
        if not trial.finished and (trial.take_away(one) if one.kind == LOSS else trial.run(one)):
            result.hit.append(one)
            self.tally.count(one)

    def _bears_late(self, trial: Trial) -> bool:
        """Tell whether a request that comes late does no harm.

        It does none where it writes rows under keys of the data's own. It would where it removes or drops what a later
        run has made, or where the server makes its keys: nothing tells those apart.
        """
        shape = trial.scenario.shape
        removes = shape.write == "upsert" and shape.before and self._kind != "milvus"
        harmless = shape.key != "auto_id" and shape.write != "overwrite" and shape.load and not removes
        return self._proxy is not None and harmless and shape.before in {"", "others"} and trial.late is None

    @contextmanager
    def _trial(self, n: int, shape: Shape, what: str) -> Iterator[Trial]:
        """Set up a scenario; in the end its collections leave the server, its files stay."""
        folder = self._folder / f"{self._kind}-{n}{what}"
        folder.mkdir(parents=True)
        database = "" if self._kind == "lite25" else folder.name.replace("-", "_")
        target = Endpoint(str(folder / "lite.db"), database, "lite")
        if self._proxy is not None:
            target = Endpoint(self._proxy.uri, database, self._kind)
        trial = Trial(
            make(shape, folder, target, self._chance(f"scenario {n}")), self._forks, self._server, self._proxy
        )
        try:
            trial.prepare()
            yield trial
        finally:
            if self._server is not None:
                if not self._server.running:
                    self._server.start()
                for place in [target, *([trial.scenario.source] if shape.source else [])]:
                    with suppress(MilvusException):  # one that came out wrong may not even have made its database
                        _empty(place)

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self._seed} {self._kind} {what}")


def _empty(target: Endpoint) -> None:
    with reader.client_of(target) as client:
        for name in client.list_collections():
            # Not list_aliases: Milvus 2.3.5 looks for them in the default database only.
            for alias in client.describe_collection(name)["aliases"] if target.database else ():
                client.drop_alias(alias)
            client.drop_collection(name)
    if target.database:
        with reader.client_of(target._replace(database="")) as client:
            client.drop_database(target.database)


def _beyond_lite25(shape: Shape) -> bool:
    """Tell whether a shape is nothing for Milvus Lite 2.5: it sets no properties, and has one database alone."""
    return shape.before == "properties" or bool(shape.source)


def _bears_loss(shape: Shape) -> bool:
    """Tell whether rows that are gone show in the counts: not where nothing is counted, or upserts take rows away."""
    return shape.load and not (shape.write == "upsert" and shape.before)
