"""Handles on a record in Qdrant, for the tests beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_server import Server

from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.core.similarity import Vector
from cognitive_memory.storage.qdrant_changes import Changes
from cognitive_memory.storage.qdrant_connection import QdrantConnection, QdrantOptions
from cognitive_memory.storage.qdrant_filters import of_project
from cognitive_memory.storage.qdrant_project import QdrantProject
from cognitive_memory.storage.qdrant_record import QdrantRecord
from cognitive_memory.storage.qdrant_record_vectors import QdrantRecordVectors
from cognitive_memory.storage.qdrant_record_writes import plan_changes

FINGERPRINT = "record/4"
X, Y, Z, W = np.eye(4, dtype=np.float32)


@dataclass
class Handle:
    """What one process holds: a record and its vectors over one connection."""

    project: QdrantProject
    record: QdrantRecord
    vectors: QdrantRecordVectors

    def put(self, memory: CognitiveMemory, *rows: Vector) -> None:
        """Store a memory and its vectors as the system does."""
        with self.record.transaction():
            self.record.save_memories([memory])
            if rows:
                self.vectors.store_vectors([memory], [np.stack(rows)])

    def planned(self, memory: CognitiveMemory, *rows: Vector) -> list[Any]:
        """The operations of ``put``, none of them sent."""
        sent: list[Changes] = []
        self.project.transactions._send = sent.append
        self.put(memory, *rows)
        self.project.transactions._send = self.project._send
        requests = plan_changes(self.project.options, sent[0], self.project.stemmer.stems_of)
        return [operation for request in requests for operation in request]

    def states(self) -> set[tuple[str, int, int]]:
        """(id, chunk, chunks) of all points."""
        points = self.project.required_points()
        return {
            (each.payload["memory_id"], each.payload["chunk"], each.payload["chunks"])
            for each in points.scroll(
                of_project(self.project.options.project), ("memory_id", "chunk", "chunks")
            )
        }


def opened(url: str | None = None, **options: Any) -> Handle:
    """A handle without an embedding; without a URL on what lies in memory."""
    given = {"timeout_seconds": 120, **options}
    project = QdrantProject(QdrantConnection(QdrantOptions(url=url, **given)))
    return Handle(project, QdrantRecord(project), QdrantRecordVectors(project))


def bound(url: str | None = None, **options: Any) -> Handle:
    """A handle for four dimensions."""
    handle = opened(url, **options)
    handle.vectors.bind_embedding(FINGERPRINT, 4)
    return handle


def requests_of(server: Server) -> list[str]:
    """What was asked since this was last asked, by the last part of each address."""
    asked = [request.rpartition("/")[2] for request in server.requests]
    server.requests.clear()
    return asked
