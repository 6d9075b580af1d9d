"""Rows as Arrow: their form for each field type, mapping columns onto fields, checking values, digests.

============  ========================================================================================
``forms``     ``arrow_type``, ``arrow_schema``: what a field's rows look like
``mapping``   ``Mapped`` and its origins, ``map_rows``, ``take_rows``: a source's batch into that form
``casting``   ``cast_of``: may this column feed this field, what becomes of its values; ``constant``
``dynamic``   keys of the dynamic field, out of it and into it
``infer``     ``infer_field``: the field that holds a column
``checks``    ``Rules``, ``find_bad_rows``: what the field or the server would refuse
``filter``    an expression over rows that no server holds; ``predicates`` what it asks of them
``losers``    rows that lost a collision of keys
``bad``       ``BadRow``, ``bad_rows_error``, ``hint_for``: how a bad row is named
``digest``    ``digest``: the content of rows in 128 bits
``route``     the shape of a way from a column into a field; the ways are in
              ``scalars``, ``text``, ``vectors``, ``sparse``, ``moments`` and ``places``
``buffers``   Arrow's buffers as NumPy arrays and back
============  ========================================================================================

Pure functions: nothing is read, nothing kept. Numbers and vectors never become Python objects, only what is
shown of a bad row does. The usual order is ``take_rows(batch, first_row, mapping, rules)``, then either
``raise bad_rows_error(taken.bad)`` or going on with ``taken.rows``, whose numbers are ``taken.numbers``.
"""

from vsync.rows.bad import BadRow, bad_rows_error, hint_for
from vsync.rows.casting import cast_of, constant
from vsync.rows.checks import Rules, find_bad_rows
from vsync.rows.digest import digest
from vsync.rows.forms import arrow_schema, arrow_type, default_of
from vsync.rows.infer import infer_field
from vsync.rows.mapping import (
    Constant,
    DynamicKey,
    FromColumn,
    Mapped,
    Mapping,
    Origin,
    RowNumber,
    Taken,
    WithKeys,
    columns_of,
    keys_in_source,
    map_rows,
    origin_columns,
    source_keys,
    take_rows,
    without_prefix,
)
from vsync.rows.route import Cast

__all__ = [
    "BadRow",
    "Cast",
    "Constant",
    "DynamicKey",
    "FromColumn",
    "Mapped",
    "Mapping",
    "Origin",
    "RowNumber",
    "Rules",
    "Taken",
    "WithKeys",
    "arrow_schema",
    "arrow_type",
    "bad_rows_error",
    "cast_of",
    "columns_of",
    "constant",
    "default_of",
    "digest",
    "find_bad_rows",
    "hint_for",
    "infer_field",
    "keys_in_source",
    "map_rows",
    "origin_columns",
    "source_keys",
    "take_rows",
    "without_prefix",
]
