"""The stores that ``benchmark_stores.py`` compares, each by its own public face.

All hold the same unit vectors under the numbers 0, 1, 2, ... and may use as many threads. Imports
of the peers lie inside the methods: a worker process loads its own store and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from store_interface import Store, Vectors
from store_ours import IndexAlone, Ours, OursWithMemories

HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 16, 128, 64
"""usearch's defaults for connectivity, expansion on adding and on searching; for hnswlib, too."""


class BareProduct(Store):
    """One product of NumPy and the best of it: what any exact search must do."""

    packages = ("numpy",)

    def create(self) -> None:
        shape = (self.setup.size, self.setup.dimension)
        self.matrix: Vectors = np.empty(shape, dtype=np.float32)

    def open(self) -> None:
        self.matrix = np.load(self.folder / "matrix.npy", mmap_mode="r")

    def insert(self, held: Any) -> None:
        first, rows = held
        self.matrix[first : first + len(rows)] = rows

    def finish(self) -> None:
        np.save(self.folder / "matrix.npy", self.matrix)

    def search(self, query: Vectors, k: int) -> Any:
        return self._best(self.matrix @ query, k)

    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        return [self._best(scores, k) for scores in queries @ self.matrix.T]

    def _best(self, scores: Vectors, k: int) -> Any:
        best = np.argpartition(scores, -k)[-k:]
        return best[np.argsort(-scores[best])]

    def numbers(self, found: Any) -> list[int]:
        numbers: list[int] = found.tolist()
        return numbers

    def close(self) -> None:
        del self.matrix


class QdrantLocal(Store):
    """qdrant-client without a server: NumPy over a SQLite file of points, by cosine."""

    requires = ("qdrant_client",)
    packages = ("qdrant-client", "numpy")
    most = 20_000  # it warns beyond
    distance = "COSINE"

    def create(self) -> None:
        from qdrant_client import models

        self.open()
        distance = models.Distance[self.distance]
        params = models.VectorParams(size=self.setup.dimension, distance=distance)
        self.client.create_collection("vectors", vectors_config=params)

    def open(self) -> None:
        from qdrant_client import QdrantClient

        self.client = QdrantClient(path=str(self.folder))

    def insert(self, held: Any) -> None:
        from qdrant_client import models

        first, rows = held
        ids = list(range(first, first + len(rows)))
        self.client.upsert("vectors", models.Batch(ids=ids, vectors=rows.tolist()))

    def finish(self) -> None:
        """Nothing is left to do."""

    def search(self, query: Vectors, k: int) -> Any:
        return self.client.query_points("vectors", query=query, limit=k, with_payload=False)

    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        from qdrant_client import models

        requests = [models.QueryRequest(query=query, limit=k) for query in queries.tolist()]
        answers: Sequence[Any] = self.client.query_batch_points("vectors", requests)
        return answers

    def numbers(self, found: Any) -> list[int]:
        return [point.id for point in found.points]

    def close(self) -> None:
        self.client.close()


class QdrantLocalDot(QdrantLocal):
    """The same by dot product, which ranks unit vectors alike and does not measure lengths."""

    distance = "DOT"


class QdrantEdge(Store):
    """The Qdrant engine in this process, as it is before its optimizer has run: no graph."""

    requires = ("qdrant_edge",)
    packages = ("qdrant-edge-py",)

    def create(self) -> None:
        import qdrant_edge as edge

        threads = self.setup.threads
        hnsw = edge.HnswIndexConfig(  # the engine's defaults but for the threads
            m=16, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=threads
        )
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(self.setup.dimension, edge.Distance.Cosine),
            hnsw_config=hnsw,
            max_search_threads=threads,
        )
        self.shard = edge.EdgeShard.create(str(self.folder), config)

    def open(self) -> None:
        import qdrant_edge as edge

        self.shard = edge.EdgeShard.load(str(self.folder))

    def insert(self, held: Any) -> None:
        import qdrant_edge as edge

        first, rows = held
        points = [edge.Point(number, row) for number, row in enumerate(rows.tolist(), first)]
        self.shard.update(edge.UpdateOperation.upsert_points(points))

    def finish(self) -> None:
        self.shard.flush()

    def search(self, query: Vectors, k: int) -> Any:
        return self.shard.query(_edge_request(query.tolist(), k))

    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        import qdrant_edge as edge

        requests = [_edge_request(query, k) for query in queries.tolist()]
        answers: Sequence[Any] = self.shard.query_batch(edge.QueryBatchRequest(requests))
        return answers

    def numbers(self, found: Any) -> list[int]:
        return [point.id for point in found]

    def close(self) -> None:
        self.shard.close()


class QdrantEdgeHnsw(QdrantEdge):
    """The same with the graph that its optimizer builds from about 20,000 KB of vectors on."""

    def finish(self) -> None:
        self.shard.optimize()
        self.shard.flush()


class Usearch(Store):
    """An HNSW graph in a file that is mapped into memory."""

    requires = ("usearch.index",)
    packages = ("usearch", "numpy")

    def create(self) -> None:
        from usearch.index import Index

        self.index = Index(
            ndim=self.setup.dimension,
            metric="ip",
            dtype="f32",
            connectivity=HNSW_LINKS,
            expansion_add=HNSW_BUILD,
            expansion_search=HNSW_SEARCH,
        )

    def open(self) -> None:
        from usearch.index import Index

        self.index = Index.restore(str(self.folder / "index"), view=True)

    def insert(self, held: Any) -> None:
        first, rows = held
        keys = np.arange(first, first + len(rows))
        self.index.add(keys, rows, threads=self.setup.threads)

    def finish(self) -> None:
        self.index.save(str(self.folder / "index"))

    def search(self, query: Vectors, k: int) -> Any:
        return self.index.search(query, k).keys

    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        keys: Sequence[Any] = self.index.search(queries, k, threads=self.setup.threads).keys
        return keys

    def numbers(self, found: Any) -> list[int]:
        numbers: list[int] = found.tolist()
        return numbers

    def close(self) -> None:
        self.index.reset()


class Hnswlib(Store):
    """An HNSW graph in a file that is read as a whole."""

    requires = ("hnswlib",)
    packages = ("hnswlib", "numpy")

    def create(self) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip", self.setup.dimension)
        self.index.init_index(self.setup.size, M=HNSW_LINKS, ef_construction=HNSW_BUILD)
        self.index.set_num_threads(self.setup.threads)

    def open(self) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip", self.setup.dimension)
        self.index.load_index(str(self.folder / "index"))
        self.index.set_num_threads(self.setup.threads)
        self.index.set_ef(HNSW_SEARCH)

    def insert(self, held: Any) -> None:
        first, rows = held
        self.index.add_items(rows, np.arange(first, first + len(rows)))

    def finish(self) -> None:
        self.index.save_index(str(self.folder / "index"))

    def search(self, query: Vectors, k: int) -> Any:
        return self.index.knn_query(query, k)[0][0]

    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        labels: Sequence[Any] = self.index.knn_query(queries, k)[0]
        return labels

    def numbers(self, found: Any) -> list[int]:
        numbers: list[int] = found.tolist()
        return numbers

    def close(self) -> None:
        del self.index


def _edge_request(query: list[float], k: int) -> Any:
    import qdrant_edge as edge

    return edge.QueryRequest(limit=k, query=edge.Query.Nearest(query), with_payload=False)


OURS, WITH_MEMORIES = "this store", "this store with memories"
BARE = "bare NumPy product"
LOCAL, LOCAL_DOT = "qdrant-client local", "qdrant-client local dot"

STORES: dict[str, type[Store]] = {
    OURS: Ours,
    WITH_MEMORIES: OursWithMemories,
    "its index alone": IndexAlone,
    BARE: BareProduct,
    LOCAL: QdrantLocal,
    LOCAL_DOT: QdrantLocalDot,
    "qdrant-edge flat": QdrantEdge,
    "qdrant-edge HNSW": QdrantEdgeHnsw,
    "usearch HNSW": Usearch,
    "hnswlib HNSW": Hnswlib,
}
