"""What a server is told; tenants, aliases, and collections that others made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from qdrant_server import Server, models
from server_fixtures import empty_server, running_server

from cognitive_memory.core.errors import (
    DimensionMismatchError,
    FingerprintMismatchError,
    StorageError,
    StoreFormatError,
)
from cognitive_memory.core.memory import CognitiveMemory, MemoryFilter, VectorHit
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.storage.qdrant_connection import QdrantConnection, QdrantOptions
from cognitive_memory.storage.qdrant_filters import point_id
from cognitive_memory.storage.qdrant_storage import PointState, QdrantStorage
from cognitive_memory.testing import FILTER_CASES, FILTERED_MEMORIES, make_memory

X, Y, Z, W = np.eye(4, dtype=np.float32)[:, None]


class Opener:
    """Opens storages at one server, over HTTP unless told otherwise."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server = server
        self.stack = stack

    def __call__(self, **options: Any) -> QdrantStorage:
        given = {"url": self.server.url, "grpc_port": self.server.grpc_port, **options}
        return self.stack.enter_context(QdrantStorage(QdrantConnection(QdrantOptions(**given))))

    def bound(self, fingerprint: str = "first/4", **options: Any) -> QdrantStorage:
        storage = self(**options)
        storage.bind_embedding(fingerprint, 4)
        return storage


running, server = running_server, empty_server


@pytest.fixture
def opened(server: Server) -> Iterator[Opener]:
    with ExitStack() as stack:
        yield Opener(server, stack)


def body_of(server: Server, kind: Any) -> Any:
    """The last request of a kind."""
    return next(body for body in reversed(server.bodies) if isinstance(body, kind))


# What is made


def test_a_collection_is_made_as_the_options_say(server: Server, opened: Opener) -> None:
    opened.bound(
        collection="notes",
        shard_number=3,
        replication_factor=2,
        write_consistency_factor=2,
        on_disk=True,
        hnsw_m=8,
        hnsw_ef_construct=64,
        quantization="scalar",
    )
    ((name, made),) = server.created.items()
    assert name.startswith("notes-")
    assert server.client._client.aliases == {"notes@default": name}
    assert (made.shard_number, made.replication_factor, made.write_consistency_factor) == (3, 2, 2)
    assert made.on_disk_payload is True
    assert made.metadata == {
        "application": "cognitive_memory",
        "schema": 1,
        "fingerprint": "first/4",
        "dimension": 4,
    }
    (vector,) = made.vectors.values()
    assert (vector.size, vector.distance, vector.on_disk) == (4, models.Distance.COSINE, True)
    assert (vector.hnsw_config.m, vector.hnsw_config.ef_construct) == (8, 64)
    assert vector.quantization_config.scalar.type == models.ScalarType.INT8


def test_what_is_not_set_is_left_to_the_server(server: Server, opened: Opener) -> None:
    opened.bound()
    (made,) = server.created.values()
    sent = made.model_dump(exclude_none=True)
    assert set(sent) == {"vectors", "metadata"}
    assert sent["vectors"] == {"semantic": {"size": 4, "distance": models.Distance.COSINE}}


@pytest.mark.parametrize("quantization", ["binary", "product"])
def test_other_quantizations(quantization: str, server: Server, opened: Opener) -> None:
    storage = opened.bound(quantization=quantization)
    (made,) = server.created.values()
    assert getattr(made.vectors["semantic"].quantization_config, quantization).always_ram
    storage.search_similar(X[0], 1)
    params = body_of(server, models.QueryRequestBatch).searches[0].params
    assert (params.quantization.rescore, params.quantization.oversampling) == (True, 2.0)


def test_a_search_is_made_as_the_options_say(server: Server, opened: Opener) -> None:
    opened.bound(search_ef=77, search_exact=True).search_similar(X[0], 1)
    params = body_of(server, models.QueryRequestBatch).searches[0].params
    assert (params.hnsw_ef, params.exact, params.quantization) == (77, True, None)


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_filtered_fields_are_indexed_and_the_project_is_a_tenant(
    prefer_grpc: bool, server: Server, opened: Opener
) -> None:
    opened.bound(prefer_grpc=prefer_grpc)
    (indexes,) = server.indexes.values()
    kinds = {name: schema.type.value for name, schema in indexes.items()}
    assert kinds == {
        "project": "keyword",
        "memory_id": "keyword",
        "chunk": "integer",
        "hierarchy_level": "integer",
        "memory_type": "keyword",
        "tags": "keyword",
        "source_path": "keyword",
        "created_us": "integer",
    }
    assert [name for name, schema in indexes.items() if getattr(schema, "is_tenant", None)] == [
        "project"
    ]


def test_binding_again_makes_nothing(server: Server, opened: Opener) -> None:
    opened.bound()
    before = len(server.requests)
    opened.bound()
    assert {request.partition(" ")[0] for request in server.requests[before:]} == {"GET"}


def test_missing_indexes_are_made(server: Server, opened: Opener) -> None:
    opened.bound()
    (indexes,) = server.indexes.values()
    del indexes["tags"]
    opened.bound()
    assert "tags" in indexes


def test_points_carry_what_is_filtered_by_and_no_text(server: Server, opened: Opener) -> None:
    memory = make_memory(
        "a", "secret text", tags=("red",), source_path="/x", metadata={"speaker": "Ann"}
    )
    opened.bound().store_vectors([memory], [np.concatenate([X, Y])], lambda *_: "v7")
    points = body_of(server, models.UpdateOperations).operations[0].upsert.points
    assert [str(point.id) for point in points] == [
        point_id("default", "a", 0),
        point_id("default", "a", 1),
    ]
    assert points[1].payload == {
        "project": "default",
        "memory_id": "a",
        "chunk": 1,
        "chunks": 2,
        "hierarchy_level": 2,
        "memory_type": "episodic",
        "tags": ["red"],
        "source_path": "/x",
        "created_us": 1_767_268_800_000_000,
        "version": "v7",
    }


def test_ids_of_points_never_change_and_never_meet() -> None:
    assert point_id("default", "a", 0) == "5c2ccf97-c32e-5223-b443-78291cfb072b"
    parts = [("p", "a", 0), ("p", "a", 1), ("q", "a", 0), ("p", "a\x001", 0), ("p", "1\x00a", 1)]
    assert len({point_id(*each) for each in parts}) == len(parts)


def test_requests_are_split(server: Server, opened: Opener) -> None:
    storage = opened.bound(batch_size=3)
    memories = [make_memory(str(number)) for number in range(10)]
    storage.store_vectors(memories, [np.concatenate([X, Y])] * 10)
    sent = [body for body in server.bodies if isinstance(body, models.UpdateOperations)]
    sizes = [len(body.operations[0].upsert.points) for body in sent]
    assert sizes == [3, 3, 3, 3, 3, 3, 2]
    assert storage.count() == 20
    assert len(storage.get_vectors([str(number) for number in range(10)])) == 10
    assert storage.delete_vectors([str(number) for number in range(12)]) == 10
    assert storage.count() == 0


def test_wide_vectors_are_sent_fewer_at_a_time(server: Server, opened: Opener) -> None:
    storage = opened()
    storage.bind_embedding("wide/60000", 60_000)
    wide = np.zeros((20, 60_000), dtype=np.float32)
    wide[:, 0] = 1
    storage.store_vectors([make_memory("a")], [wide])
    sent = [body for body in server.bodies if isinstance(body, models.UpdateOperations)]
    assert [len(body.operations[0].upsert.points) for body in sent] == [16, 4]


def test_a_memory_without_chunks_has_no_points(opened: Opener) -> None:
    storage = opened.bound()
    storage.store_vectors([make_memory("a"), make_memory("b")], [X, Y])
    storage.store_vectors([make_memory("a")], [X[:0]])
    assert list(storage.get_vectors(["a", "b"])) == ["b"]


# Reading


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_vectors_come_back_to_the_last_bit_but_one(prefer_grpc: bool, opened: Opener) -> None:
    storage = opened(prefer_grpc=prefer_grpc)
    storage.bind_embedding("wide/384", 384)
    generator = np.random.default_rng(3)
    rows = normalize(generator.standard_normal((50, 384)).astype(np.float32))
    storage.store_vectors([make_memory("a")], [rows])
    found = storage.get_vectors(["a"])["a"]
    np.testing.assert_array_max_ulp(found, rows, maxulp=2)


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_states_are_listed_for_a_reconciler(prefer_grpc: bool, opened: Opener) -> None:
    storage = opened.bound(batch_size=2, prefer_grpc=prefer_grpc)
    assert list(storage.list_points()) == []
    memories = [make_memory(name) for name in "abc"]

    def version_of(memory: CognitiveMemory, vectors: Vector) -> str:
        return f"{memory.id}{len(vectors)}"

    storage.store_vectors(memories[:2], [np.concatenate([X, Y]), Z], version_of)
    storage.store_vectors(memories[2:], [W])
    expected = {
        PointState("a", 0, 2, "a2"),
        PointState("a", 1, 2, "a2"),
        PointState("b", 0, 1, "b1"),
        PointState("c", 0, 1, None),
    }
    assert set(storage.list_points()) == expected
    assert set(storage.list_points_of(["c", "a", "none"])) == {
        state for state in expected if state.memory_id != "b"
    }


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_scores_that_are_off_by_rounding_are_computed_again(
    prefer_grpc: bool, server: Server, opened: Opener
) -> None:
    storage = opened.bound(batch_size=7, prefer_grpc=prefer_grpc)
    names = [f"{number:02}" for number in range(40)]
    memories = [make_memory(name) for name in names[::-1]]
    half = np.full((1, 4), 0.5, dtype=np.float32)
    storage.store_vectors(memories, [np.concatenate([Y, half, half])] * 40)
    server.rounding = 1e-7
    hits = storage.search_similar(X[0], 5)
    assert hits == [VectorHit(name, 0.5, 1) for name in names[:5]]


def test_more_is_asked_for_until_nothing_left_out_could_matter(
    server: Server, opened: Opener
) -> None:
    storage = opened.bound()
    names = [f"{number:03}" for number in range(100)]
    storage.store_vectors([make_memory(name) for name in names[::-1]], [X] * 100)
    assert [hit.memory_id for hit in storage.search_similar(X[0], 2)] == ["000", "001"]
    limits = [
        body.searches[0].limit
        for body in server.bodies
        if isinstance(body, models.QueryRequestBatch)
    ]
    assert limits == [18, 72, 288]


def test_a_huge_k_asks_for_no_more_than_there_is(server: Server, opened: Opener) -> None:
    storage = opened.bound()
    storage.store_vectors([make_memory("a"), make_memory("b")], [X, Y])
    assert len(storage.search_similar(X[0], 1_000_000)) == 2
    assert body_of(server, models.QueryRequestBatch).searches[0].limit == 3


@pytest.mark.parametrize("levels", [(10**30,), (2, -(10**30))])
def test_levels_beyond_64_bits_match_nothing(levels: tuple[int, ...], opened: Opener) -> None:
    storage = opened.bound()
    storage.store_vectors([make_memory("a")], [X])
    found = storage.search_similar(X[0], 1, MemoryFilter(hierarchy_levels=levels))
    assert [hit.memory_id for hit in found] == (["a"] if 2 in levels else [])


# Tenants


def test_projects_share_a_collection_and_never_meet(server: Server, opened: Opener) -> None:
    ours, theirs = opened.bound(project="ours"), opened.bound(project="theirs")
    assert len(server.created) == 1
    ours.store_vectors(FILTERED_MEMORIES, [X, Y, Z, W])
    theirs.store_vectors([make_memory("concept"), make_memory("their own")], [W, X])
    for case, (filters, expected) in FILTER_CASES.items():
        found = {hit.memory_id for hit in ours.search_similar(X[0], 10, filters)}
        assert (case, found) == (case, expected)
    assert ours.count() == 4
    assert set(ours.get_vectors(["concept", "their own"])) == {"concept"}
    assert ours.delete_vectors(["their own"]) == 0
    assert {state.memory_id for state in theirs.list_points()} == {"concept", "their own"}
    assert ours.delete_project() == 4
    assert (ours.count(), theirs.count()) == (0, 2)
    assert theirs.search_similar(W[0], 1) == [VectorHit("concept", 1.0, 0)]


def test_one_project_may_have_another_embedding(opened: Opener) -> None:
    ours, theirs = (
        opened.bound("first/4", project="ours"),
        opened.bound("second/4", project="theirs"),
    )
    ours.store_vectors([make_memory("a")], [X])
    theirs.store_vectors([make_memory("a")], [Y])
    ours.check_embedding("first/4")
    theirs.check_embedding("second/4")
    with pytest.raises(FingerprintMismatchError) as caught:
        ours.check_embedding("second/4")
    assert "project 'ours' in Qdrant at http://127.0.0.1" in str(caught.value)
    assert "holds vectors of first/4, the configured model gives second/4" in str(caught.value)
    assert "COGNITIVE_MEMORY_EMBEDDING__MODEL=first," in str(caught.value)


# Aliases


def test_another_embedding_is_built_beside_and_switched_to(opened: Opener) -> None:
    old = opened.bound("first/4")
    memories = [make_memory("a"), make_memory("b")]
    old.store_vectors(memories, [X, Y])
    fresh = old.building("second/3", 3)
    thin = np.eye(3, dtype=np.float32)[:, None]
    fresh.store_vectors(memories, [thin[1], thin[0]])
    reader = opened()
    assert reader.search_similar(X[0], 1) == [VectorHit("a", 1.0, 0)]
    reader.check_embedding("first/4")
    fresh.switch_alias()
    assert reader.search_similar(thin[0][0], 1) == [VectorHit("b", 1.0, 0)]
    with pytest.raises(FingerprintMismatchError, match="second/3"):
        reader.check_embedding("first/4")
    with pytest.raises(DimensionMismatchError, match="holds 3 dimensions"):
        reader.search_similar(X[0], 1)
    assert old.search_similar(X[0], 1) == [VectorHit("a", 1.0, 0)], "who is bound stays there"
    assert old.delete_project() == 2
    assert reader.count() == 2


def test_a_write_never_goes_to_the_collection_of_another_embedding(opened: Opener) -> None:
    writer = opened.bound("first/4")
    opened().building("second/4", 4).switch_alias()
    writer.store_vectors([make_memory("a")], [X])
    assert opened().count() == 0
    assert opened().existing("first/4").count() == 1


def test_what_was_never_built_does_not_exist(opened: Opener) -> None:
    with pytest.raises(StorageError, match=r"has no collection memories-[0-9a-f]{8}; run"):
        opened().existing("first/4")


def test_an_empty_project_takes_any_embedding(opened: Opener) -> None:
    storage = opened.bound("first/4")
    storage.store_vectors([make_memory("a")], [X])
    storage.delete_vectors(["a"])
    storage.check_embedding("second/4")
    storage.bind_embedding("second/4", 4)
    assert storage.count() == 0
    storage.store_vectors([make_memory("b")], [X])
    assert opened().search_similar(X[0], 1) == [VectorHit("b", 1.0, 0)]
    opened().check_embedding("second/4")


def test_an_unbound_store_is_empty_and_takes_no_vectors(server: Server, opened: Opener) -> None:
    storage = opened()
    storage.check_embedding("any/4")
    assert storage.search_similar(X[0], 1) == []
    assert storage.search_similar_batch(np.concatenate([X, Y]), 1) == [[], []]
    assert storage.get_vectors(["a"]) == {}
    assert storage.delete_vectors(["a"]) == storage.delete_project() == storage.count() == 0
    assert list(storage.list_points()) == list(storage.list_points_of(["a"])) == []
    with pytest.raises(StorageError, match="call bind_embedding first"):
        storage.store_vectors([make_memory("a")], [X])
    with pytest.raises(StorageError, match="call bind_embedding first"):
        storage.switch_alias()
    assert server.created == {}


def test_what_serves_is_written_to_by_who_did_not_bind(opened: Opener) -> None:
    opened.bound()
    opened().store_vectors([make_memory("a")], [X])
    assert opened().count() == 1


def test_a_collection_that_was_deleted_is_named(server: Server, opened: Opener) -> None:
    storage = opened.bound()
    (name,) = server.created
    server.client.delete_collection(name)
    with pytest.raises(StorageError, match=f"failed: Not found: Collection {name} not found"):
        storage.search_similar(X[0], 1)


# What others made


def name_of(server: Server, opened: Opener) -> str:
    """The collection that binding would make."""
    opened.bound()
    (name,) = server.created
    server.client.delete_collection(name)
    return str(name)


COSINE = {"semantic": models.VectorParams(size=4, distance=models.Distance.COSINE)}
OURS = {"application": "cognitive_memory", "schema": 1, "fingerprint": "first/4", "dimension": 4}


@pytest.mark.parametrize(
    ("vectors", "metadata", "kind", "found"),
    [
        (COSINE, None, StorageError, "was not made by this package"),
        (COSINE, {"application": "other"}, StorageError, "was not made by this package"),
        (
            COSINE,
            {**OURS, "schema": 2},
            StoreFormatError,
            "has schema 2, this version knows up to 1",
        ),
        (COSINE, {**OURS, "fingerprint": "x/4"}, StorageError, "holds vectors of x/4"),
        (
            {"semantic": models.VectorParams(size=5, distance=models.Distance.COSINE)},
            {**OURS, "dimension": 5},
            DimensionMismatchError,
            "got 4 dimensions of first/4, collection NAME holds 5",
        ),
        (
            {"semantic": models.VectorParams(size=5, distance=models.Distance.COSINE)},
            OURS,
            StorageError,
            "holds vectors {'semantic': (5, 'Cosine')}, expected {'semantic': (4, 'Cosine')}",
        ),
        (
            {"semantic": models.VectorParams(size=4, distance=models.Distance.DOT)},
            OURS,
            StorageError,
            "holds vectors {'semantic': (4, 'Dot')}",
        ),
        (
            {"title": models.VectorParams(size=4, distance=models.Distance.COSINE)},
            OURS,
            StorageError,
            "holds vectors {'title': (4, 'Cosine')}",
        ),
        (
            models.VectorParams(size=4, distance=models.Distance.COSINE),
            OURS,
            StorageError,
            "holds vectors {'': (4, 'Cosine')}",
        ),
        ({}, OURS, StorageError, "holds vectors {}, expected"),
    ],
)
def test_a_collection_of_another_shape_is_left_as_it_is(
    vectors: Any, metadata: Any, kind: type[Exception], found: str, server: Server, opened: Opener
) -> None:
    name = name_of(server, opened)
    server.indexes.clear()
    server.client.create_collection(name, vectors, metadata=metadata)
    before = server.client.get_collection(name)
    with pytest.raises(kind) as caught:
        opened.bound()
    assert found.replace("NAME", name) in str(caught.value)
    assert "set COGNITIVE_MEMORY_QDRANT__COLLECTION to another name" in str(caught.value)
    assert server.client.get_collection(name) == before
    assert server.indexes == {}
    assert server.client._client.aliases == {}


def test_a_collection_of_the_name_of_our_alias_is_left_as_it_is(
    server: Server, opened: Opener
) -> None:
    server.client.create_collection("memories@default", COSINE)
    for attempt in (opened.bound, opened().count, lambda: opened().check_embedding("first/4")):
        with pytest.raises(StorageError, match=r"memories@default .* was not made by this package"):
            attempt()
    assert [each.name for each in server.client.get_collections().collections] == [
        "memories@default"
    ]


def test_two_that_bind_at_once_share_what_one_made(
    server: Server, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = server.client.create_collection

    def create_after_another(name: str, **given: Any) -> bool:
        create(name, **given)
        return bool(create(name, **given))

    monkeypatch.setattr(server.client, "create_collection", create_after_another)
    opened.bound().store_vectors([make_memory("a")], [X])
    assert opened.bound().count() == 1


def test_what_cannot_be_made_is_an_error(
    server: Server, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, **given: Any) -> bool:
        raise ValueError("too many collections")

    monkeypatch.setattr(server.client, "create_collection", refuse)
    with pytest.raises(StorageError, match="failed: 400: too many collections"):
        opened.bound()
