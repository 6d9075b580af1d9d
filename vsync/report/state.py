"""What ``vsync state`` shows, as plain lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import many

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vsync.report.words import Line
    from vsync.state.doctor import Finding
    from vsync.state.listing import FileHeld, Held, Session, Shown

CHUNKS_SHOWN = 10
_LEVELS = {"ok": ("same", "  ="), "note": ("warn", "  !"), "wrong": ("destroy", "  -")}


def list_lines(found: Mapping[str, Sequence[Held]]) -> Iterator[Line]:
    """List what is known of each target."""
    if not found:
        yield "plain", "The state knows nothing yet."
    for target, items in found.items():
        yield "bold", f"Target {target}"
        width = min(48, max((len(h.address) for h in items), default=0))
        for held in items:
            yield ("copy" if held.done < held.chunks else "plain"), f"  {held.address:<{width}}   {_known(held)}"


def _known(held: Held) -> str:
    words = []
    if held.made is not None:
        words.append("made by vsync" if held.made else "not finished making it")
    if held.rows is not None:
        words.append(many(held.rows, "row") + (" left" if held.session else " done"))
    if held.chunks:
        doubt = f", {held.in_doubt} in doubt" if held.in_doubt else ""
        words.append(f"{held.done} / {many(held.chunks, 'chunk')}{doubt}")
    if held.session:
        words.append(f"session {held.session}, epoch {held.epoch}")
        words.append(f"applied {held.applied}" if held.applied else "not finished")
        words.append(f"{held.checked_how} checked {held.checked}" if held.checked else "never checked")
    return "   ".join(words)


def show_lines(shown: Shown) -> Iterator[Line]:
    """Show all that is known at an address."""
    held = shown.held
    yield "bold", held.address
    yield "plain", f"  target {held.target}"
    yield "plain", f"  {_known(held)}"
    if shown.collection_id is not None:
        yield "plain", f"  the collection's identity is {shown.collection_id}"
    for session in shown.sessions:
        yield "plain", f"  {_session(session)}"
    for file in shown.files:
        yield from _file(file)


def _session(s: Session) -> str:
    counts = f"held {_count(s.before)} before" + (f", {_count(s.left)} after" if s.ended else "")
    how = f"begun {s.begun}, " + (f"ended {s.ended}" if s.ended else "not ended")
    checked = f"; {s.checked_how} checked {s.checked}" if s.checked else ""
    skipped = "; skipped" if s.skipped else ""
    partial = "; not all of it is known" if s.partial else ""
    return f"session {s.session} (epoch {s.epoch}, {s.write}): {how}; {counts}{checked}{skipped}{partial}"


def _count(rows: int | None) -> str:
    return "an unknown number" if rows is None else f"{rows:,}"


def _file(f: FileHeld) -> Iterator[Line]:
    yield "plain", f"  {f.address}   {f.path}   {many(f.rows, 'row')}   content {f.content}   key {f.key}"
    doubt = f", {f.in_doubt} in doubt" if f.in_doubt else ""
    rejects = f"   {many(f.rejects, 'row')} rejected" if f.rejects else ""
    ranges = f"   {many(f.key_ranges, 'range')} of keys" if f.key_ranges else ""
    counts = f"{many(f.attempts, 'attempt')}   {many(f.digests, 'digest')}{ranges}{rejects}"
    yield "plain", f"    {f.done} / {many(f.chunks, 'chunk')} done{doubt}   {counts}"
    for chunk in f.left[:CHUNKS_SHOWN]:
        how = f"in doubt after {many(chunk.attempts, 'attempt')}" if chunk.state == "sent" else "not sent"
        error = f": {chunk.error}" if chunk.error else ""
        yield "warn", f"    chunk {chunk.n}, rows {chunk.lo}-{chunk.hi - 1}: {how}{error}"
    if len(f.left) > CHUNKS_SHOWN:
        yield "warn", f"    and {len(f.left) - CHUNKS_SHOWN:,} chunks more that are not done"


def finding_lines(found: Sequence[Finding]) -> Iterator[Line]:
    """Say what was looked at in a state."""
    for finding in found:
        style, symbol = _LEVELS[finding.level]
        yield style, f"{symbol} {finding.what}"
        if finding.hint:
            yield "dim", f"      {finding.hint}"
