"""vsync: declarative sync for Milvus.

The house, from the door inwards::

    cli/           argv and the environment; errors to exit codes
    api, compare,  load_spec, plan, apply, status, check, destroy: what the commands do, as functions
    destruction
    init, backups  the specs that vsync init, backup and restore make
    convert/       a configuration of MilvusDM -> the spec that does what it did
    opening        both ends of a spec opened: its target, and the sources of its data
    spec/          YAML text -> Spec; every problem at once, with file:line:column
    observing/     the facts of sources, target and journal: all reading of a plan
    planning/      pure: the difference as ordered steps; the Plan and its JSON
    applying/      the one loop that carries a plan out, its workers, retry
    state/         what was done and what is in doubt: the journal (SQLite), its backup, the lock
    checking/      comparing what the data says with what the target holds
    rows/          rows as Arrow: the form of each field type, mapping, checks, digests
    connectors/    base (the contract of sources and targets), then one place per system
    report/        plans, events and errors as text or JSON lines
    schema, schema_json, errors, faults, times
                   what everybody may use

Use it as a library::

    import vsync

    spec = vsync.load_spec("vsync.yaml")
    plan = vsync.plan(spec)
    print(plan.to_json())
    result = vsync.apply(plan)

Names are imported when they are first asked for: ``import vsync`` loads no vendor library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsync.api import Refreshed, Result, Status, apply, plan, refresh, status
    from vsync.applying.settings import Settings, Stop
    from vsync.compare import Checked, check
    from vsync.destruction import destroy
    from vsync.planning.choice import Choice
    from vsync.planning.steps import Plan
    from vsync.spec import Spec, load_spec, parse_spec

__all__ = [
    "Checked",
    "Choice",
    "Plan",
    "Refreshed",
    "Result",
    "Settings",
    "Spec",
    "Status",
    "Stop",
    "apply",
    "check",
    "destroy",
    "load_spec",
    "parse_spec",
    "plan",
    "refresh",
    "status",
]

_HOMES = {
    "Checked": "vsync.compare",
    "Choice": "vsync.planning.choice",
    "Plan": "vsync.planning.steps",
    "Settings": "vsync.applying.settings",
    "Spec": "vsync.spec",
    "Stop": "vsync.applying.settings",
    "check": "vsync.compare",
    "destroy": "vsync.destruction",
    "load_spec": "vsync.spec",
    "parse_spec": "vsync.spec",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home at first use."""
    if name not in __all__:
        raise AttributeError(f"module 'vsync' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "vsync.api")), name)
