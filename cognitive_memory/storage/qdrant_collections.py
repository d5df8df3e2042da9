"""Collections by embedding, and the alias that says which one serves a project.

A collection ``memories-1a2b3c4d`` holds the vectors of one embedding, the last part being a hash
of its fingerprint, for all projects. The alias ``memories@default`` stands for the one that serves
the project ``default``: another embedding is made beside it, and moving the alias is one step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ..core.errors import DimensionMismatchError, StorageError, StoreFormatError
from .qdrant_connection import QdrantConnection, QdrantOptions
from .qdrant_errors import NoCollectionError
from .qdrant_filters import payload_indexes
from .qdrant_points import VECTOR

APPLICATION = "cognitive_memory"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Embedding:
    """What decides vectors, and the collection that holds them."""

    collection: str
    fingerprint: str
    dimension: int


class QdrantCollections:
    """Makes, finds and checks the collections of a connection."""

    def __init__(self, connection: QdrantConnection) -> None:
        self._connection = connection
        options = connection.options
        self.alias = f"{options.collection}@{options.project}"

    def name_of(self, fingerprint: str) -> str:
        """The collection of an embedding, whether or not it exists."""
        digest = hashlib.sha256(fingerprint.encode()).hexdigest()
        return f"{self._connection.options.collection}-{digest[:8]}"

    def serving(self) -> Embedding | None:
        """What the alias of the project stands for, ``None`` before it is first bound."""
        return self._find(self.alias)

    def find(self, fingerprint: str) -> Embedding | None:
        """The collection of an embedding, ``None`` if there is none."""
        return self._find(self.name_of(fingerprint))

    def ensure(self, fingerprint: str, dimension: int) -> Embedding:
        """The collection of an embedding, made if there is none, with its payload indexes.

        Raises ``DimensionMismatchError`` when it holds another dimension, and ``StorageError`` when
        one of its name was made by another program, which is left as it is.
        """
        name = self.name_of(fingerprint)
        found = self._find(name)
        if found is None:
            self._create(name, fingerprint, dimension)
            found = self._find(name)
        if found is None or found.fingerprint != fingerprint:
            raise StorageError(
                f"collection {name} of {self._connection.options.shown} holds vectors of "
                f"{found and found.fingerprint}, expected {fingerprint}; set "
                "COGNITIVE_MEMORY_QDRANT__COLLECTION to another name"
            )
        if found.dimension != dimension:
            raise DimensionMismatchError(
                f"got {dimension} dimensions of {fingerprint}, collection {name} holds "
                f"{found.dimension}; set COGNITIVE_MEMORY_QDRANT__COLLECTION to another name"
            )
        self._index(name)
        return found

    def serve(self, embedding: Embedding) -> None:
        """Let the alias of the project stand for this collection, in one step."""
        from qdrant_client import models

        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(
                collection_name=embedding.collection, alias_name=self.alias
            )
        )
        with self._connection.use() as client:
            client.update_collection_aliases([create])

    def _find(self, name: str) -> Embedding | None:
        info = self._describe(name)
        if info is None:
            return None
        shown = f"collection {name} of {self._connection.options.shown}"
        fix = "set COGNITIVE_MEMORY_QDRANT__COLLECTION to another name"
        marks = info.config.metadata or {}
        if marks.get("application") != APPLICATION:
            raise StorageError(
                f"{shown} was not made by this package, or by a server older than 1.16, which "
                f"keeps no metadata; {fix}"
            )
        if marks["schema"] > SCHEMA:
            raise StoreFormatError(
                f"{shown} has schema {marks['schema']}, this version knows up to {SCHEMA}; "
                f"upgrade cognitive-memory-onnx, or {fix}"
            )
        shape = _shape(info.config.params.vectors)
        expected = {VECTOR: (marks["dimension"], "Cosine")}
        if shape != expected:
            raise StorageError(f"{shown} holds vectors {shape}, expected {expected}; {fix}")
        return Embedding(
            self.name_of(marks["fingerprint"]), marks["fingerprint"], int(marks["dimension"])
        )

    def _describe(self, name: str) -> Any | None:
        try:
            with self._connection.use() as client:
                return client.get_collection(name)
        except NoCollectionError:
            return None

    def _create(self, name: str, fingerprint: str, dimension: int) -> None:
        options = self._connection.options
        metadata = {
            "application": APPLICATION,
            "schema": SCHEMA,
            "fingerprint": fingerprint,
            "dimension": dimension,
        }
        try:
            with self._connection.use() as client:
                client.create_collection(
                    name,
                    vectors_config={VECTOR: _vector_params(options, dimension)},
                    shard_number=options.shard_number,
                    replication_factor=options.replication_factor,
                    write_consistency_factor=options.write_consistency_factor,
                    on_disk_payload=options.on_disk or None,
                    metadata=metadata,
                )
        except StorageError:
            # Another process may have made it meanwhile.
            if self._describe(name) is None:
                raise

    def _index(self, name: str) -> None:
        # The local mode has no indexes, and prints a warning when it is given one.
        if self._connection.is_local:
            return
        with self._connection.use() as client:
            there = client.get_collection(name).payload_schema
            for field, schema in payload_indexes().items():
                if field not in there:
                    client.create_payload_index(name, field, field_schema=schema, wait=True)


def _shape(vectors: Any) -> dict[str, tuple[int, str]]:
    """{"semantic": (384, "Cosine")}; an unnamed vector has the empty name."""
    named = vectors if isinstance(vectors, dict) else {"": vectors} if vectors else {}
    return {name: (each.size, each.distance.value) for name, each in named.items()}


def _vector_params(options: QdrantOptions, dimension: int) -> Any:
    from qdrant_client import models

    hnsw = None
    if options.hnsw_m is not None or options.hnsw_ef_construct is not None:
        hnsw = models.HnswConfigDiff(m=options.hnsw_m, ef_construct=options.hnsw_ef_construct)
    quantizations = {
        "none": None,
        "scalar": models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(
                type=models.ScalarType.INT8, quantile=0.99, always_ram=True
            )
        ),
        "binary": models.BinaryQuantization(
            binary=models.BinaryQuantizationConfig(always_ram=True)
        ),
        "product": models.ProductQuantization(
            product=models.ProductQuantizationConfig(
                compression=models.CompressionRatio.X16, always_ram=True
            )
        ),
    }
    return models.VectorParams(
        size=dimension,
        distance=models.Distance.COSINE,
        on_disk=options.on_disk or None,
        hnsw_config=hnsw,
        quantization_config=quantizations[options.quantization],
    )
