"""What pymilvus, gRPC and Milvus say when something fails, in vsync's words: translated here alone."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from pymilvus.exceptions import MilvusException

from vsync.errors import StalePlanError, TargetError, TooLargeError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION_NOT_FOUND, NOT_LOADED, PARTITION_NOT_FOUND, INDEX_NOT_FOUND = 100, 101, 200, 700

# Milvus refused before doing anything: out of memory, too many requests, out of disk, rate limits, closed for writing.
_REFUSED_FOR_NOW = {3, 4, 7, 8, 9}
_TOO_FAST = {4, 8, 49}
# Service unavailable, time tick delay, not fully loaded, replicas, channels, segments and nodes on the move
# (after a restart for half a minute), its object store away.
_ON_THE_MOVE = {2, 11, 12, 103, 202, 400, 401, *range(500, 504), *range(600, 604), *range(901, 906), 1001}
# The same in the enum of older servers (``Status.error_code``).
_OLD_REFUSED_FOR_NOW = {48, 49, 53, 54}
_OLD_ON_THE_MOVE = {45, 46, 47, 50, 55, 56, 57, 100, 1000}
_WORDS_ON_THE_MOVE = ("segment not loaded", "node not found", "not ready", "no available", "channel not")
_WORDS_TOO_LARGE = ("larger than max", "message too large", "results exceed the")
_GONE = {COLLECTION_NOT_FOUND: "collection", PARTITION_NOT_FOUND: "partition", INDEX_NOT_FOUND: "index"}
_WORDS_GONE = re.compile(r"\b(collection|partition)( name \S+)? not found")
_NO_RIGHTS = {1400, 1401, 1800}

RIGHTS_HINT = 'check the token of the connection ("user:password", or an API key) and what its user may do'
SMALLER_HINT = "write smaller chunks: `chunk_bytes`"
QUOTA_HINT = "the server takes no more for now: it is out of memory or disk, or closed for writing"
RATE_HINT = "the server limits rates: raise its limits (quotaAndLimits), or stay below them with --bwlimit"
GONE_HINT = "somebody changed it meanwhile: look with vsync plan, and run the same command again"
LOAD_HINT = "it was released meanwhile: load it, or have it loaded (`load: true`), and run the same command again"


class RefusedError(TargetError):
    """Milvus refused; ``code`` is its own number, for those in this package who know what to make of it."""

    def __init__(self, what: str, *, code: int, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.code = code


class GoneError(RefusedError, StalePlanError):
    """What a request is about is not there, or not loaded: it was when the plan was made."""


class UnknownRequestError(TargetError):
    """The server does not know a request: another version, or no Milvus at all."""


@contextmanager
def translated(where: str, doing: str) -> Iterator[None]:
    """Raise vsync's errors for the vendors' ones. ``where`` names the server, ``doing`` the request."""
    try:
        yield
    except (grpc.RpcError, grpc.FutureTimeoutError, MilvusException) as error:
        raise translate(error, where, doing) from error


def translate(error: BaseException, where: str, doing: str) -> TargetError:
    """Make a vsync error of a vendor's exception."""
    cause = error.__cause__
    if isinstance(error, MilvusException):
        if isinstance(cause, grpc.RpcError):  # a refused connection is wrapped
            return translate(cause, where, doing)
        return from_code(error.code, error.compatible_code, error.message, where, doing)
    if isinstance(error, grpc.RpcError):
        return _from_grpc(error, where, doing)
    return TransientError(f"{doing}: no answer in time", where=where)


def check(status: Any, where: str, doing: str) -> None:
    """Raise what a ``common.Status`` says, if it says that something failed."""
    if status.code or status.error_code:
        raise from_code(status.code, status.error_code, status.reason, where, doing)


def from_code(code: Any, old_code: int, reason: str, where: str, doing: str) -> TargetError:
    """Make a vsync error of Milvus's code, the same in its older enum, and its reason."""
    number = code if isinstance(code, int) else 0
    plain = _plain(reason)
    text = f"{doing}: {plain} (code {number or old_code})"
    if any(words in reason.lower() for words in _WORDS_TOO_LARGE):
        return TooLargeError(text, where=where, hint=SMALLER_HINT)
    if number in _REFUSED_FOR_NOW or old_code in _OLD_REFUSED_FOR_NOW:
        slower = RATE_HINT if (number or old_code) in _TOO_FAST else QUOTA_HINT
        return TransientError(text, where=where, hint=slower, in_doubt=False)
    on_the_move = any(words in reason.lower() for words in _WORDS_ON_THE_MOVE)
    if number in _ON_THE_MOVE or (not number and old_code in _OLD_ON_THE_MOVE) or on_the_move:
        return TransientError(text, where=where, hint="the server is starting or moving data")
    if number in _NO_RIGHTS or "auth check" in reason or "PermissionDenied" in reason:
        return RefusedError(text, code=number, where=where, hint=RIGHTS_HINT)
    if NOT_LOADED in {number, old_code}:
        return GoneError(text, code=NOT_LOADED, where=where, hint=LOAD_HINT)
    gone = number in _GONE or _WORDS_GONE.search(reason) is not None
    if gone and " " not in plain:  # Lite says the name alone
        text = f"{doing}: {_GONE[number]} not found: {plain} (code {number})"
    kind, hint = (GoneError, GONE_HINT) if gone else (RefusedError, None)
    return kind(text, code=number or old_code, where=where, hint=hint)


def _from_grpc(error: Any, where: str, doing: str) -> TargetError:
    code = error.code() if callable(getattr(error, "code", None)) else None
    details = _plain(str(error.details() if callable(getattr(error, "details", None)) else error))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in details:
            return TooLargeError(f"{doing}: {details}", where=where, hint=SMALLER_HINT)
        return TransientError(f"{doing}: {details}", where=where, hint=QUOTA_HINT, in_doubt=False)
    kind, what, hint = _GRPC.get(code, (TargetError, "the server failed", None))
    if code is grpc.StatusCode.UNAUTHENTICATED and "missing authorization" in details:
        what, hint = "the server wants a token", "name one: token: {env: NAME} of its connection, or --token-env NAME"
    if kind is TargetError and any(word in details for word in _BROKEN):
        kind, what = TransientError, "the connection broke off"
    return kind(f"{doing}: {what} ({details})", where=where, hint=hint)


_CODES = grpc.StatusCode
_REACH = "check that the server runs, its host and port, and http or https"
_PORT = "is this Milvus's own port (19530), and a version that docs/servers.md lists?"
_GRPC: dict[Any, tuple[type[TargetError], str, str | None]] = {
    _CODES.UNAVAILABLE: (TransientError, "the server cannot be reached", _REACH),
    _CODES.DEADLINE_EXCEEDED: (TransientError, "no answer in time", "the server is busy or hangs"),
    _CODES.CANCELLED: (TransientError, "the connection broke off", None),
    _CODES.ABORTED: (TransientError, "the connection broke off", None),
    _CODES.UNAUTHENTICATED: (TargetError, "the token is not accepted", RIGHTS_HINT),
    _CODES.PERMISSION_DENIED: (TargetError, "the token does not allow it", RIGHTS_HINT),
    _CODES.UNIMPLEMENTED: (UnknownRequestError, "this server does not know that request", _PORT),
}
_BROKEN = ("RST_STREAM", "GOAWAY", "onnection reset", "ocket closed")


def _plain(reason: str) -> str:
    """Take the first line, without the call stacks that servers append."""
    lines = reason.strip().splitlines()
    text = lines[0] if lines else "no reason given"
    return text if len(text) <= 400 else text[:400] + " ..."  # noqa: PLR2004  # a line or three on a terminal
