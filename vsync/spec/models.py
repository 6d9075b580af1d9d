"""A spec in its long form: frozen values, with the words of the language as their names.

What is ``None`` was not said, and what is not said is not managed. The descriptions
are those of the JSON Schema.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vsync import schema
from vsync.spec import values
from vsync.spec.base import Model, to_long
from vsync.spec.sources import AnyCollections, AnySource, OneCollection
from vsync.spec.values import AsText, Plain, Scalar, Size, Text, Truth, Type, Whole

Write = Annotated[
    Literal["append", "upsert", "skip", "overwrite", "mirror"],
    values.word("append", "upsert", "skip", "overwrite", "mirror"),
]
Consistency = Annotated[
    Literal["strong", "bounded", "session", "eventually"],
    values.word("strong", "bounded", "session", "eventually"),
]
MAX_DELETE = "10%"
OnCollision = Annotated[
    Literal["error", "first", "last", "prefix", "renumber"],
    values.word("error", "first", "last", "prefix", "renumber"),
]
MaxDelete = Annotated[int | str, BeforeValidator(values.bound)]
OnBadRow = Annotated[Literal["error", "skip"], values.word("error", "skip")]


class Defaults(Model):
    """What holds for every collection."""

    chunk_bytes: Size = Field(
        16 * 2**20,
        ge=1,
        le=2**30,
        description="About how many bytes are sent at a time: 16MiB, 16MB or 16777216",
    )

    def long(self) -> dict[str, Any]:
        """Write the size in the largest unit that is exact."""
        return {key: values.show_size(count) for key, count in super().long().items()}


class FieldSpec(Model):
    """One field of a collection."""

    type: Type = Field(description="The type of the field, in Milvus's words")
    primary: Truth = Field(default=False, description="Whether it is the key that tells rows apart")
    auto_id: Truth = Field(default=False, description="Whether the server makes the key")
    dim: Whole | None = Field(None, ge=1, le=262_144, description="Dimensions of a vector; bits of a binary one")
    max_length: Whole | None = Field(None, ge=1, le=schema.MAX_LENGTH, description="The most bytes a varchar takes")
    element: Type | None = Field(None, description="The type of what an array holds")
    max_capacity: Whole | None = Field(None, ge=1, le=4096, description="The most elements an array takes")
    nullable: Truth = Field(default=False, description="Whether a row may have no value here")
    default: Plain = Field(None, description="The value of rows that bring none")
    partition_key: Truth = Field(
        default=False, description="Whether the server spreads rows over partitions by this field"
    )
    clustering_key: Truth = Field(default=False, description="Whether the server sorts rows by this field")
    description: Text | None = Field(None, description="What it is, for people")

    @field_validator("default", mode="before")
    @classmethod
    def _fit(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        kind = info.data.get("type")
        return values.plain(value) if kind is None else values.default(value, kind, info.data.get("max_length"))

    def to_field(self, name: str) -> schema.Field:
        """Say it in the words of :mod:`vsync.schema`."""
        return schema.Field(name=name, **{key: getattr(self, key) for key in type(self).model_fields})


class IndexSpec(Model):
    """The index of one field."""

    type: Text = Field("AUTOINDEX", description="The type of index, in Milvus's words", examples=["HNSW", "IVF_FLAT"])
    metric: Annotated[str, BeforeValidator(lambda v: values.text(v).upper())] | None = Field(
        None, description="How near two vectors are: COSINE, L2, IP, HAMMING, JACCARD, ..."
    )
    params: dict[str, Scalar] = Field({}, description="The index's own parameters", examples=[{"M": 16}])

    def long(self) -> dict[str, Any]:
        """Write the type always: an empty index says nothing to a reader."""
        return {"type": to_long(self.type), **super().long()}

    def to_index(self, field: str) -> schema.Index:
        """Say it in the words of :mod:`vsync.schema`, the parameters as sorted pairs of strings."""
        params = sorted((key, values.as_text(value)) for key, value in self.params.items())
        return schema.Index(field, self.type, self.metric, tuple(params))


class PartitionSpec(Model):
    """One partition of a collection."""

    write: Write | None = Field(None, description="What data does to its rows, where it differs from the collection's")


class MapFrom(Model):
    """Where the values of a field are had: exactly one of what is named here.

    ``key`` is one of the source's dynamic field; ``keys`` are what is put into the target's.
    """

    column: Text | None = None
    row: Literal[True] | None = None
    key: Text | None = None
    keys: dict[str, "MapFrom"] | None = None
    const: Plain = None

    @model_validator(mode="after")
    def _one(self) -> "MapFrom":
        said = sum(getattr(self, name) is not None for name in type(self).model_fields)
        if said > 1 or (not said and "const" not in self.model_fields_set):
            raise values.wrong("a field is had from one place", "write a column's name, $row, or {const: VALUE}")
        return self

    def long(self) -> Any:
        """Write the short words that the language has for it."""
        if self.column is not None:
            return to_long(self.column)
        if self.keys is not None:
            return to_long(self.keys)
        if self.key is not None:
            return to_long(f"{schema.DYNAMIC_FIELD}.{self.key}")
        return "$row" if self.row else {"const": to_long(self.const)}


@dataclass(frozen=True, slots=True)
class ByValue:
    """How the value of a field makes the name of a partition: with what stands before and after it."""

    before: str
    field: str
    after: str

    def name(self, value: Any) -> str:
        """Give the name of the partition that rows with this value go into."""
        return f"{self.before}{value}{self.after}"

    def value(self, name: str) -> str | None:
        """Give the text of the value that makes this name, ``None`` where none does."""
        fits = len(name) >= len(self.before + self.after) and name.startswith(self.before) and name.endswith(self.after)
        return name[len(self.before) : len(name) - len(self.after)] if fits else None


class DataSpec(Model):
    """One body of rows and where it goes."""

    name: Text | None = Field(None, description="Its name in plans and addresses; its position where there is none")
    source: AnySource = Field(
        alias="from",
        description="A file, glob or folder: a path, or {KIND: PATH}; or a collection: {milvus: ...} or {backup: ...}",
    )
    map: dict[str, MapFrom] | None = Field(
        None,
        description="For each field its column, $row (the row number), $meta.KEY (of the dynamic field) or "
        "{const: VALUE}; $meta: {KEY: COLUMN} fills the dynamic field",
    )
    into: Annotated[str, BeforeValidator(values.into)] | None = Field(
        None,
        description="The partition that the rows go into; {FIELD} in it stands for the value of a field",
        examples=["y{year}"],
    )

    @property
    def into_one(self) -> str | None:
        """The one partition that all rows go into."""
        return None if self.into_by else self.into

    @property
    def into_by(self) -> ByValue | None:
        """How rows find their partition by the value of a field."""
        before, brace, rest = (self.into or "").partition("{")
        field, _, after = rest.partition("}")
        return ByValue(before, field, after) if brace else None

    @property
    def prefix(self) -> str | None:
        """What ``on_collision: prefix`` puts before its keys: its name, or else that of its collection, and a colon."""
        name = self.name or (self.source.collection if isinstance(self.source, OneCollection) else None)
        return f"{name}:" if name and schema.NAME.match(name) else None


class CollectionSpec(Model):
    """A collection, and the data that belongs in it. What is not written is not managed."""

    description: Text | None = Field(None, description="What it is, for people")
    fields: dict[str, FieldSpec] | None = Field(
        None, description="Its fields by name; found from the data where they are not written"
    )
    dynamic: Truth | None = Field(None, description="Whether rows may bring fields that are not declared")
    shards: Whole | None = Field(None, ge=1, description="How many shards it is made with")
    num_partitions: Whole | None = Field(None, ge=1, description="How many partitions a partition key spreads over")
    consistency: Consistency | None = Field(None, description="How fresh reads are where they do not say")
    properties: dict[str, AsText] | None = Field(None, description="Milvus's properties of a collection")
    partitions: dict[str, PartitionSpec] | None = Field(None, description="Its partitions: by name, or a list of names")
    indexes: dict[str, IndexSpec] | None = Field(None, description="Its indexes, by the name of their field")
    aliases: list[Text] | None = Field(None, description="Other names that it is to have")
    load: Truth | None = Field(None, description="Whether it is to be loaded")
    write: Write = Field("append", description="What data does to the rows that are there")
    strict: Truth = Field(default=False, description="Whether append refuses rows whose key is there already")
    on_collision: OnCollision = Field("error", description="What becomes of two rows of the data with one key")
    on_bad_row: OnBadRow = Field("error", description="What becomes of a row that does not fit")
    exclusive: Truth = Field(default=True, description="Whether nobody else writes to it while it is applied")
    max_delete: MaxDelete = Field(
        MAX_DELETE, description="The most that mirror deletes: a percent of what is there, or a number of rows"
    )
    scope: Annotated[str, BeforeValidator(values.some_text)] | None = Field(
        None, description="Which rows of the collection are this data's, for mirror: an expression of Milvus"
    )
    accept_loss: list[Text] | None = Field(
        None, description="Addresses of what may be lost on the way", examples=[["collection.docs.field.note"]]
    )
    data: list[DataSpec] = Field([], description="Where its rows come from")

    def long(self) -> dict[str, Any]:
        """Write how rows are written wherever there are any: no reader should have to know the default."""
        written: dict[str, Any] = super().long()
        if not self.data or "write" in written:
            return written
        last = ("strict", "on_collision", "on_bad_row", "exclusive", "max_delete", "scope", "accept_loss", "data")
        after: dict[str, Any] = {key: written.pop(key) for key in last if key in written}
        return {**written, "write": self.write, **after}

    def said(self) -> dict[str, Any]:
        """Write exactly what was said, as it is by default or not: what wins over a copy."""
        said = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return {name: to_long(value) for name, value in said.items() if value is not None}

    @property
    def writes(self) -> set[str]:
        """Every way of writing that any of its rows are written in."""
        return {self.write, *(p.write for p in (self.partitions or {}).values() if p.write)}

    def write_into(self, partition: str | None) -> Write:
        """Say how rows are written into a partition: as it says itself, or else as its collection does."""
        said = (self.partitions or {}).get(partition or "")
        return (said.write if said else None) or self.write

    def may_delete(self, held: int) -> int:
        """Tell how many of the rows that are held mirror may delete: ``max_delete`` of them, rounded down."""
        return values.part(self.max_delete, held)


class CopySpec(Model):
    """Many collections as they are, and what holds for each of them."""

    source: AnyCollections = Field(
        alias="from", description="Where they are: {milvus: {at: ..., collections: ...}}, or {backup: {repo: ...}}"
    )
    rename: Annotated[str, BeforeValidator(values.rename)] = Field(
        values.SAME_NAME, description="What each is called here", examples=["{collection}_v2"]
    )
    shards: Whole | None = Field(None, ge=1, description="How many shards each is made with")
    consistency: Consistency | None = Field(None, description="How fresh reads are where they do not say")
    properties: dict[str, AsText] | None = Field(None, description="Milvus's properties of each collection")
    aliases: Annotated[list[Text], BeforeValidator(values.none_of_them)] | None = Field(
        None, max_length=0, description="[] leaves out the aliases that they have there"
    )
    load: Truth | None = Field(None, description="Whether each is to be loaded")
    write: Write = Field("append", description="What the rows do to those that are there")
    strict: Truth = Field(default=False, description="Whether append refuses rows whose key is there already")
    on_collision: OnCollision = Field("error", description="What becomes of two rows with one key")
    on_bad_row: OnBadRow = Field("error", description="What becomes of a row that does not fit")
    exclusive: Truth = Field(default=True, description="Whether nobody else writes to them while they are applied")
    max_delete: MaxDelete = Field(MAX_DELETE, description="The most that mirror deletes of each, as in a collection")

    def renamed(self, collection: str) -> str:
        """Tell what a collection of the source is called here."""
        return self.rename.replace(values.SAME_NAME, collection)

    def collection(self, name: str, *, data: str | None) -> CollectionSpec:
        """Make what it says of one collection of the source; ``data`` is the name of its one item."""
        said = {key: getattr(self, key) for key in CollectionSpec.model_fields if key in self.model_fields_set}
        item = DataSpec(name=data, source=self.source.one(name))
        return CollectionSpec(**said, data=[item])

    def long(self) -> dict[str, Any]:
        """Write how rows are written always: no reader should have to know the default."""
        written: dict[str, Any] = super().long()
        first: dict[str, Any] = {key: written.pop(key) for key in ("from", "rename") if key in written}
        return {**first, "write": written.pop("write", self.write), **written}
