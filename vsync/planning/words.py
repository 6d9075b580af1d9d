"""A step in words: what a person reads of an ordered plan, and while it is carried out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vsync.planning.steps import CopyChunk, CreateIndex, DeleteRows, Recount, RewriteRows, SetProperties

if TYPE_CHECKING:
    from vsync.connectors.base import KeyRange
    from vsync.planning.steps import Plan, Step

LISTED = 20
"""How many rows of a step are named."""


def describe(step: Step, plan: Plan) -> str:
    """Say a step in words: ``create-index words vector HNSW COSINE M=16``."""
    return f"{step.kind} {_subject(step, plan)}".rstrip()


def _subject(step: Step, plan: Plan) -> str:
    match step:
        case CopyChunk():
            unit = plan.units[step.unit]
            rows = f"rows {step.lo}-{step.hi - 1}" if step.keys is None else f"keys {_keys(step.keys)}"
            text = f"{unit.address} {unit.path} chunk {step.n} of {unit.chunks} {rows}"
        case CreateIndex():
            text = f"{step.collection} {step.index.field} {step.index}"
        case SetProperties():
            text = f"{step.collection} " + " ".join(f"{k}={v}" for k, v in step.properties)
        case RewriteRows():
            unit = plan.units[step.unit]
            which = [json.dumps(key, ensure_ascii=False) for key in step.keys] or [_range(*r) for r in step.rows]
            text = f"{unit.address} {unit.path} {'keys' if step.keys else 'rows'} {_listed(which)}"
        case DeleteRows():
            text = f"{step.destination} {_listed([json.dumps(key, ensure_ascii=False) for key in step.keys])}"
        case Recount():
            text = f"{step.destination} {step.rows}"
        case _:
            names = [name for name in type(step).__dataclass_fields__ if name != "kind"]
            text = " ".join(getattr(step, name) for name in names)
    return text


def _keys(keys: KeyRange) -> str:
    """Say a range of keys: ``from 5 to before 9``; an open end is left out."""
    first = "" if keys.lo is None else f"from {json.dumps(keys.lo, ensure_ascii=False)}"
    last = "" if keys.hi is None else f"to before {json.dumps(keys.hi, ensure_ascii=False)}"
    return " ".join(filter(None, (first, last))) or "all"


def _range(lo: int, hi: int) -> str:
    return f"{lo}-{hi - 1}" if hi - lo > 1 else f"{lo}"


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - LISTED:,} more" if len(words) > LISTED else ""
    return ", ".join(words[:LISTED]) + more
