"""How the contenders of scripts/bench take turns: each round on fresh servers, in an order that rotates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import bench_measure as bm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from bench_measure import Used
    from bench_report import Runs


@dataclass(frozen=True, slots=True)
class Rounds:
    """What they run ``on``: ``fresh`` gives the addresses of servers, the last of which is written to."""

    on: str
    fresh: Callable[[], AbstractContextManager[Sequence[str]]]
    repeat: int
    say: Callable[[str], None]

    def run(self, contenders: Mapping[str, Callable[..., Used]]) -> Runs:
        """Run all of them ``repeat`` times; what each wrote is dropped."""
        names = list(contenders)
        runs: Runs = {name: [] for name in names}
        for n in range(self.repeat):
            turn = n % len(names)
            with self.fresh() as uris:
                for name in names[turn:] + names[:turn]:
                    used = contenders[name](*uris)
                    runs[name].append(used)
                    self.say(f"{self.on} round {n + 1}: {name} {used.copy_seconds:.2f} s of {used.seconds:.2f} s")
                    bm.drop_all(uris[-1])
        return runs

    def best(self, numbers: Sequence[int], ceiling: Callable[..., Used]) -> int:
        """Try the ceiling, which takes it behind the addresses, with several in flight; the fastest number is taken."""
        if len(numbers) == 1:
            return numbers[0]
        least: dict[int, float] = {}
        with self.fresh() as uris:
            for in_flight in [*numbers] * min(2, self.repeat):
                spent = ceiling(*uris, in_flight).copy_seconds
                least[in_flight] = min(spent, least.get(in_flight, spent))
                bm.drop_all(uris[-1])
        self.say(f"{self.on}: best seconds of the ceiling by what is in flight: {least}")
        return min(least, key=lambda n: least[n])
