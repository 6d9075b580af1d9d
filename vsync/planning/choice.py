"""What the user chose for a plan."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from vsync.errors import UsageError

if TYPE_CHECKING:
    from vsync.spec import Spec


@dataclass(frozen=True, slots=True)
class Choice:
    """Addresses a plan is limited to, leaves out, may destroy, and copies again from the beginning."""

    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    allow_destroy: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def takes(self, address: str) -> bool:
        """Whether what is at an address takes part; a parent takes part where a child was chosen."""
        if any(_within(address, out) for out in self.leave_out):
            return False
        return not self.only or any(_within(address, o) or _within(o, address) for o in self.only)

    def takes_data(self, address: str, destination: str) -> bool:
        """Whether a data item takes part, by its own address or by that of the partition it goes to."""
        either = (address, destination)
        if any(_within(a, out) for a in either for out in self.leave_out):
            return False
        return not self.only or any(_within(a, o) for a in either for o in self.only)

    def may_destroy(self, address: str) -> bool:
        """Whether what is at an address, or below it, may be destroyed: a collection with its partitions."""
        return any(_within(address, allowed) for allowed in self.allow_destroy)

    def restarts(self, address: str, destination: str) -> bool:
        """Whether all rows of a data item are to be copied again, by its own address or by that of where it goes."""
        return any(_within(a, r) for a in (address, destination) for r in self.restart)


def refuse_unknown(choice: Choice, spec: Spec) -> None:
    """Raise UsageError where an address that was chosen, or left out, is of nothing in the spec."""
    for option, addresses in {"--only": choice.only, "--except": choice.leave_out}.items():
        for address in addresses:
            if not _is_there(address, spec):
                near = get_close_matches(address, [f"collection.{name}" for name in spec.collections], 1)
                hint = f"did you mean {near[0]}?" if near else "vsync plan shows the addresses"
                raise UsageError(f"{option} {address}: nothing in the spec has this address", hint=hint)


def _is_there(address: str, spec: Spec) -> bool:
    kind, _, rest = address.partition(".")
    name, _, below = rest.partition(".")
    if kind != "collection" or name not in spec.collections:
        return kind == "alias" and bool(rest)
    items = enumerate(spec.collections[name].data)
    return not below.startswith("data.") or below in {f"data.{item.name or n}" for n, item in items}


def _within(address: str, ancestor: str) -> bool:
    return address == ancestor or address.startswith(ancestor + ".")
