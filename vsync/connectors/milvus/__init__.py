"""Milvus, standalone or embedded, as target and source; pymilvus, grpc and milvus-lite are imported nowhere else.

``wire`` touches what is private to them, ``failures`` translates their errors, ``client`` is one database
reached, ``capabilities`` and ``conflicts`` say what each server holds, ``describe`` and ``ddl`` are its
collections, ``live`` what is there, ``loads`` has it loaded while it is read, ``clear`` empties it, ``codec``,
``answers`` and ``decode`` are rows between Arrow and the wire, ``keys`` questions about primary keys,
``write``, ``read``, ``source`` and ``target`` what the rest of vsync sees.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when grpc is first imported: its lines would go to stderr

from vsync.connectors.milvus.client import Client
from vsync.connectors.milvus.target import MilvusTarget


def open_target(uri: str, token: str | None, database: str | None) -> MilvusTarget:
    """Open a Milvus database: ``http(s)://host:port``, or the absolute path of a Lite folder, ``.db``.

    A Lite folder that is not there is made when something is created in it; until then it reads as an empty
    database. Raises :class:`vsync.errors.TransientError` where the server is away,
    :class:`vsync.errors.TargetError` where it does not let us in, :class:`vsync.errors.LockedError` where
    another process has the folder open.
    """
    return MilvusTarget(Client(uri, token, database))
