"""Where things are: the address of a Milvus (a URL, or the path of Milvus Lite), and the paths of files."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from vsync.spec.values import show, text, wrong
from vsync.spec.variables import Filled

LITE_SUFFIX = ".db"


def check_address(value: Any) -> str:
    """Take an address; raises what a validator raises. Nothing that may hold a password is repeated."""
    address = text(value)
    secret = "@" in address
    shown = "this" if secret and not isinstance(value, Filled) else show(value)
    if any(ord(c) < ord(" ") for c in address):
        raise wrong("an address has no control characters")
    if "://" in address:
        return _check_url(address, shown)
    if not address.endswith(LITE_SUFFIX) or address.rpartition("/")[2] == LITE_SUFFIX:
        hint = "write http://HOST:19530 for a server; the path of a Milvus Lite file ends in .db: ./NAME.db"
        raise wrong(f"{shown} is not the address of a Milvus", hint)
    if address.startswith("~"):
        raise wrong("~ is not your home folder here", 'write "${HOME}/NAME.db"')
    return address


def _check_url(address: str, shown: str) -> str:
    hint = "write http://HOST:19530 or https://HOST:19530"
    try:
        url = urlsplit(address)
        port_fits = url.port is None or url.port > 0
    except ValueError:
        raise wrong(f"{shown} is not the address of a Milvus", hint) from None
    if "@" in address:
        raise wrong("an address holds no user and password", "give them with token: {env: NAME}, as user:password")
    if url.scheme not in {"http", "https"}:
        raise wrong(f"{shown} is not the address of a Milvus", hint)
    if not url.hostname or not port_fits or " " in address:
        raise wrong(f"{shown} names no host", hint)
    if url.path.strip("/") or url.query or url.fragment:
        raise wrong("an address ends with its port", "name the database with database: NAME")
    return address


def without_credentials(address: str) -> str:
    """Take user and password out of an address, where somebody got them in."""
    scheme, mark, rest = address.partition("://")
    return scheme + mark + rest.rpartition("@")[2] if mark else address


def check_place(value: Any) -> str:
    """Take the path of a folder, or ``s3://BUCKET/PREFIX``; raises what a validator raises."""
    place = text(value)
    if not place.startswith("s3://"):
        return check_path(value)
    hint = "write s3://BUCKET or s3://BUCKET/PREFIX"
    if "@" in place:
        raise wrong("a URL holds no key and secret", "they are had from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not place.removeprefix("s3://").split("/")[0] or any(c in place for c in " ?#"):
        raise wrong(f"{show(value)} names no bucket", hint)
    return place


def check_path(value: Any) -> str:
    """Take the path of a file, glob or folder; raises what a validator raises."""
    path = text(value)
    shown = show(value)
    if not path.strip():
        raise wrong("the path is empty", "write the path of a file, glob or folder")
    if any(ord(c) < ord(" ") for c in path):
        raise wrong("a path has no control characters")
    if "://" in path:
        raise wrong(f"{shown} is not a path of this machine", "this release reads files of this machine only")
    if path.startswith("~"):
        raise wrong("~ is not your home folder here", 'write "${HOME}/..."')
    return path
