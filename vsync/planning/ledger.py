"""The fidelity ledger: what does not stay as it is, and whether the spec accepts what is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import Problem
from vsync.planning.steps import Change, Fidelity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.connectors.base import Loss
    from vsync.spec import Spec


def lines(losses: Sequence[Loss]) -> list[Fidelity]:
    """Write each loss as a line of the ledger, once."""
    return list(dict.fromkeys(Fidelity(loss.verdict, loss.address, loss.what) for loss in losses))


def not_accepted(spec: Spec, name: str, losses: Sequence[Loss]) -> Iterator[Problem]:
    """Name each harmful loss that the spec does not accept."""
    accepted = spec.collections[name].accept_loss or ()
    for loss in dict.fromkeys(losses):
        if loss.harmful and loss.address not in accepted:
            said = f"accept_loss: [{loss.address}]"
            hint = f"accept that for {name} under collections: {said} (vsync restore: --accept-loss {loss.address})"
            yield Problem(f"{loss.address} is not copied as it is: {loss.what}", spec.where("collections", name), hint)


def not_needed(spec: Spec, name: str, losses: Sequence[Loss]) -> Iterator[Change]:
    """Name what the spec accepts, and nothing loses."""
    lost = {loss.address for loss in losses if loss.harmful}
    for number, address in enumerate(spec.collections[name].accept_loss or ()):
        if address not in lost:
            what = "accept_loss is not needed any more: nothing is lost there"
            yield Change("warn", address, what, (), spec.where("collections", name, "accept_loss", number))
