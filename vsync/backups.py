"""The specs of ``vsync backup`` and ``vsync restore``: a copy into a repository, and one out of it."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vsync.errors import UsageError
from vsync.spec import MilvusTarget, Spec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Said = dict[str, Any]
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def backup_spec(
    repo: str,
    source: Said,
    folder: Path,
    *,
    choice: Mapping[str, Any],
    chunk_bytes: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Spec:
    """Write the spec that backs a Milvus up; ``source`` is its connection, ``choice`` says what of it.

    Snapshots are named after the source, so that a repository takes those of several. Paths are relative to ``folder``.
    """
    name = _place(source, folder)
    chosen = {key: value for key, value in choice.items() if value}
    made: Said = {
        "version": 1,
        "target": {"backup": {"path": repo, "name": name}},
        **_defaults(chunk_bytes),
        "copy": [{"from": {"milvus": {"at": source, **chosen}}}],
    }
    return _parsed(made, f"backup-{_slug(repo, name)}", folder, environ)


def source_of(spec: Spec) -> tuple[Said, list[str]]:
    """Give the connection of a spec's target, which is to be backed up, and the collections that the spec names."""
    if not isinstance(spec.target, MilvusTarget):
        raise UsageError("the target of this spec is no Milvus", hint="name one: vsync backup --from URI REPO")
    return spec.target.milvus.long(), list(spec.collections)


def restore_spec(
    repo: str,
    snapshot: str | None,
    target: Said,
    folder: Path,
    *,
    choice: Mapping[str, Any],
    copy: Mapping[str, Any],
    accept_loss: Sequence[str] = (),
    chunk_bytes: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Spec:
    """Write the spec that brings a snapshot into a Milvus; ``copy`` is what else holds for every collection."""
    source = {"repo": repo, **({"snapshot": snapshot} if snapshot else {})}
    chosen = {key: value for key, value in choice.items() if value}
    made: Said = {
        "version": 1,
        "target": {"milvus": target},
        **_defaults(chunk_bytes),
        "copy": [{"from": {"backup": {**source, **chosen}}, **{k: v for k, v in copy.items() if v is not None}}],
    }
    accepted: dict[str, Said] = {}
    for address in accept_loss:
        kind, _, rest = address.partition(".")
        if kind != "collection" or not rest:
            raise UsageError(
                f"--accept-loss {address}: this is no address of a collection", hint="collection.NAME.field.F"
            )
        accepted.setdefault(rest.split(".")[0], {"accept_loss": []})["accept_loss"].append(address)
    if accepted:
        made["collections"] = accepted
    return _parsed(made, f"restore-{_slug(repo, str(snapshot), _place(target, folder))}", folder, environ)


def _defaults(chunk_bytes: str | None) -> Said:
    return {"defaults": {"chunk_bytes": chunk_bytes}} if chunk_bytes else {}


def _place(connection: Said, folder: Path) -> str:
    """Name a database for people: its address and the database, without what lets one in.

    Others may back up theirs into the same repository: what is only said of this machine or folder is said in full.
    """
    uri = connection["uri"]
    address = re.sub(r"^https?://", "", uri).rstrip("/") if "://" in uri else str((folder / uri).absolute())
    if urlsplit(uri).hostname in _LOOPBACK:
        address = f"{socket.gethostname()}/{address}"
    return "/".join(filter(None, (address, connection.get("database"))))


def _slug(*words: str) -> str:
    """Make a name of a state file that is the same for the same words."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", words[0]).strip("-")[-40:]
    return f"{readable}-{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]}"


def _parsed(made: Said, name: str, folder: Path, environ: Mapping[str, str] | None) -> Spec:
    text = json.dumps(made, ensure_ascii=False).replace("${", "$${")
    shown = parse_spec(text, name=f"{name}.yaml", folder=folder, environ=environ).to_yaml()
    # Read again as it is shown: what is wrong with it then has its line there.
    return parse_spec(shown, name=f"{name}.yaml", folder=folder, environ=environ)
