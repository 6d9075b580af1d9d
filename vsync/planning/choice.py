"""What the user chose for a plan."""

from __future__ import annotations

from dataclasses import dataclass


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

    def restarts(self, address: str, destination: str) -> bool:
        """Whether all rows of a data item are to be copied again, by its own address or by that of where it goes."""
        return any(_within(a, r) for a in (address, destination) for r in self.restart)


def _within(address: str, ancestor: str) -> bool:
    return address == ancestor or address.startswith(ancestor + ".")
