"""What every ``ConnectionGraph`` must do."""

# ruff: noqa: D102  (the name of a test says what it is for)

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest

from ..core.errors import InvalidInputError
from ..core.interfaces import ConnectionGraph
from ..core.memory import LOADED_TYPES, CognitiveMemory, ConnectionType, MemoryConnection
from .examples import make_memory


class ConnectionGraphContract(ABC):
    """Define the fixture ``graph``, and ``save_memories`` for the memories to connect."""

    @abstractmethod
    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Put memories into the record that the graph connects."""

    @pytest.fixture(autouse=True)
    def _saved(self, graph: ConnectionGraph) -> None:  # noqa: ARG002  (it opens the record)
        self.save_memories([make_memory(name) for name in ("a", "b", "c", "größe 🦊")])

    def test_an_edge_is_found_from_both_ends(self, graph: ConnectionGraph) -> None:
        edge = MemoryConnection("a", "größe 🦊", ConnectionType.HIERARCHICAL, 0.1 + 0.2)
        graph.add_connections([edge])
        for ends in (["a"], ["größe 🦊"], ["a", "größe 🦊"], ["unknown", "a"]):
            assert graph.get_connections(ends) == [edge]
        assert graph.get_connections(["b"]) == []

    def test_the_strongest_come_first(self, graph: ConnectionGraph) -> None:
        weak, strong = MemoryConnection("a", "b", strength=0.2), MemoryConnection("a", "c")
        middle = MemoryConnection("c", "a", strength=0.5)
        graph.add_connections([weak, middle, strong])
        assert graph.get_connections(["a"]) == [strong, middle, weak]

    def test_empty_calls_are_no_error(self, graph: ConnectionGraph) -> None:
        edge = MemoryConnection("a", "b")
        graph.add_connections([edge])
        graph.add_connections([])
        graph.replace_connections([], [])
        assert graph.get_connections([]) == []
        assert graph.get_connections(["a"]) == [edge]

    def test_the_same_ends_and_type_are_one_edge(self, graph: ConnectionGraph) -> None:
        first = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL, 0.9)
        second = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL, 0.4)
        other_type = MemoryConnection("a", "b", ConnectionType.EXPLICIT, 0.3)
        back = MemoryConnection("b", "a", ConnectionType.SEQUENTIAL, 0.2)
        graph.add_connections([first, other_type, back])
        graph.add_connections([second])
        assert graph.get_connections(["a", "b"]) == [second, other_type, back]

    @pytest.mark.parametrize("ends", [("a", "unknown"), ("unknown", "a")])
    def test_an_unknown_end_is_refused(self, graph: ConnectionGraph, ends: tuple[str, str]) -> None:
        with pytest.raises(InvalidInputError, match=r"'unknown'.*does not exist; store it first"):
            graph.add_connections([MemoryConnection("a", "b"), MemoryConnection(*ends)])
        assert graph.get_connections(["a"]) == []

    @pytest.mark.parametrize("strength", [0.0, -0.5, 1.001, math.inf, math.nan])
    def test_strength_out_of_range_is_refused(
        self, graph: ConnectionGraph, strength: float
    ) -> None:
        edges = [MemoryConnection("a", "b"), MemoryConnection("a", "c", strength=strength)]
        with pytest.raises(InvalidInputError, match=str(strength)):
            graph.add_connections(edges)
        assert graph.get_connections(["a"]) == []

    def test_strength_may_be_anything_above_zero_up_to_one(self, graph: ConnectionGraph) -> None:
        edges = [
            MemoryConnection("a", "b", strength=1.0),
            MemoryConnection("b", "c", strength=1e-9),
        ]
        graph.add_connections(edges)
        assert graph.get_connections(["b"]) == edges

    def test_replacing_drops_what_begins_there(self, graph: ConnectionGraph) -> None:
        outgoing = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL, 0.9)
        made_by_hand = MemoryConnection("a", "b", ConnectionType.EXPLICIT, 0.8)
        incoming = MemoryConnection("c", "a", ConnectionType.SEQUENTIAL, 0.7)
        elsewhere = MemoryConnection("b", "c", ConnectionType.HIERARCHICAL, 0.6)
        new = MemoryConnection("a", "c", ConnectionType.SEQUENTIAL, 0.5)
        graph.add_connections([outgoing, made_by_hand, incoming, elsewhere])
        graph.replace_connections(["a", "unknown"], [new])
        assert graph.get_connections(["a", "b", "c"]) == [made_by_hand, incoming, elsewhere, new]

    def test_replacing_drops_only_what_loaders_draw(self, graph: ConnectionGraph) -> None:
        edges = [
            MemoryConnection("a", "b", kind, 0.9 - 0.1 * number)
            for number, kind in enumerate(ConnectionType)
        ]
        graph.add_connections(edges)
        graph.replace_connections(["a"], [])
        kept = [edge for edge in edges if edge.connection_type not in LOADED_TYPES]
        assert graph.get_connections(["a"]) == kept

    def test_replacing_drops_the_kinds_asked_for(self, graph: ConnectionGraph) -> None:
        kinds = (ConnectionType.ASSOCIATIVE, ConnectionType.EXPLICIT)
        edges = [
            MemoryConnection("a", "b", kind, 0.9 - 0.1 * number)
            for number, kind in enumerate(ConnectionType)
        ]
        new = MemoryConnection("a", "c", ConnectionType.SEQUENTIAL, 0.1)
        graph.add_connections(edges)
        graph.replace_connections(["a"], [new], kinds)
        kept = [edge for edge in edges if edge.connection_type not in kinds]
        assert graph.get_connections(["a"]) == [*kept, new]
        graph.replace_connections(["a"], [], ())
        assert graph.get_connections(["a"]) == [*kept, new]

    def test_a_failed_replacement_drops_nothing(self, graph: ConnectionGraph) -> None:
        edge = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL)
        graph.add_connections([edge])
        with pytest.raises(InvalidInputError, match="'unknown'"):
            graph.replace_connections(["a"], [MemoryConnection("a", "unknown")])
        assert graph.get_connections(["a"]) == [edge]

    def test_saving_a_memory_again_keeps_its_edges(self, graph: ConnectionGraph) -> None:
        edges = [MemoryConnection("a", "b", strength=0.9), MemoryConnection("c", "a", strength=0.8)]
        graph.add_connections(edges)
        self.save_memories([make_memory("a", "changed")])
        assert graph.get_connections(["a"]) == edges
