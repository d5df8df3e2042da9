"""A Qdrant server on this machine: the part of its REST and gRPC interfaces that the store uses.

Bodies are parsed by the models and messages of the client, and answered by its local mode; so what
the store sends must be valid, and what it reads looks as it does on the wire.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, RLock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

qdrant_client = pytest.importorskip("qdrant_client")
models = qdrant_client.models

Answer = Callable[["Server", str, Any], Any]
"""(server, collection, parsed body) to a result."""


@dataclass
class Server:
    """What it holds, how it fails, and what it was asked."""

    api_key: str | None = None
    """If set, requests without it are refused."""
    status: int = 200
    """Answered instead of anything else unless it is 200, as Qdrant does."""
    page: bytes | None = None
    """Answered instead of anything else, as another web server would."""
    rounding: float = 0.0
    """By how much scores are off, each point by another part of it."""
    requests: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    created: dict[str, Any] = field(default_factory=dict)
    indexes: dict[str, dict[str, Any]] = field(default_factory=dict)
    url: str = ""
    grpc_port: int = 0
    client: Any = field(default_factory=lambda: _local_client())
    lock: RLock = field(default_factory=RLock)
    asking: Condition = field(default_factory=Condition)
    """Told of each request."""

    def reset(self) -> None:
        """Forget all that it holds, how it fails, and what it was asked."""
        self.lose_everything()
        fresh = Server(client=self.client)
        for each in ("api_key", "status", "page", "rounding", "requests", "bodies", "created"):
            setattr(self, each, getattr(fresh, each))

    def lose_everything(self) -> None:
        """As a server that comes back without its disk."""
        with self.lock:
            for each in self.client.get_collections().collections:
                self.client.delete_collection(each.name)
            self.client._client.aliases.clear()
            self.indexes.clear()

    def note(self, request: str) -> None:
        """Remember that it was asked."""
        with self.asking:
            self.requests.append(request)
            self.asking.notify_all()

    def await_requests(self, count: int, timeout_seconds: float) -> bool:
        """Wait until it was asked so many more; whether it was."""
        with self.asking:
            until = len(self.requests) + count
            return self.asking.wait_for(lambda: len(self.requests) >= until, timeout_seconds)

    def asked(self, part: str) -> int:
        """How many requests had this in their address."""
        return sum(part in request for request in self.requests)

    @contextmanager
    def serving(self) -> Iterator[Server]:
        """Answer HTTP at ``url`` and gRPC at ``grpc_port``."""
        server = _HTTPServer(self)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            with _serving_grpc(self):
                yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            self.client.close()

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The result of a request; raises ``LookupError`` for what is not known."""
        for pattern, known, parse, handler in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == known:
                # Names are quoted in a path.
                name = unquote(match.groupdict().get("name", ""))
                parsed = parse.model_validate_json(body) if parse else None
                with self.lock:
                    self.bodies.append(parsed)
                    return handler(self, name, parsed)
        raise LookupError(f"{method} {path}")

    def physical(self, name: str) -> str:
        """The collection that an alias stands for."""
        return str(self.client._client.aliases.get(name, name))

    def describe(self, name: str) -> Any:
        info = self.client.get_collection(name)
        info.payload_schema = {
            key: models.PayloadIndexInfo(
                data_type=models.PayloadSchemaType(schema.type.value), params=schema, points=0
            )
            for key, schema in self.indexes.get(self.physical(name), {}).items()
        }
        return info

    def create(self, name: str, body: Any) -> bool:
        self.created[name] = body
        return bool(
            self.client.create_collection(name, vectors_config=body.vectors, metadata=body.metadata)
        )

    def index(self, name: str, body: Any) -> Any:
        self.indexes.setdefault(self.physical(name), {})[body.field_name] = body.field_schema
        return _COMPLETED

    def update(self, name: str, body: Any) -> Any:
        self.client.batch_update_points(name, body.operations)
        return [_COMPLETED] * len(body.operations)

    def delete(self, name: str, body: Any) -> Any:
        self.client.delete(name, body)
        return _COMPLETED

    def query(self, name: str, body: Any) -> Any:
        # Told how to search, the local mode warns.
        searches = [search.model_copy(update={"params": None}) for search in body.searches]
        answers = self.client.query_batch_points(name, searches)
        for answer in answers:
            for place, point in enumerate(answer.points):
                point.score += self.rounding * (place % 3 - 1)
            answer.points.sort(key=lambda point: -point.score)
        return answers

    def scroll(self, name: str, body: Any) -> Any:
        points, after = self.client.scroll(
            name,
            scroll_filter=body.filter,
            limit=body.limit,
            offset=body.offset,
            with_payload=body.with_payload,
            with_vectors=body.with_vector,
        )
        return models.ScrollResult(points=points, next_page_offset=after)

    def facet(self, name: str, body: Any) -> Any:
        return self.client.facet(name, body.key, facet_filter=body.filter, limit=body.limit)

    def retrieve(self, name: str, body: Any) -> Any:
        return self.client.retrieve(
            name, body.ids, with_payload=body.with_payload, with_vectors=body.with_vector
        )


_WRITES = ("/points/batch", "/points/delete", "/index")


def _check_waiting(waits: bool) -> None:
    """What nobody waits for may be lost without anyone knowing."""
    if not waits:
        raise ValueError("a write that nobody waits for")


def _local_client() -> Any:
    return qdrant_client.QdrantClient(":memory:", force_disable_check_same_thread=True)


_COMPLETED = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
_NAME = r"/collections/(?P<name>[^/]+)"
_ROUTES: list[tuple[str, str, Any, Answer]] = [
    (
        r"/collections/aliases",
        "POST",
        models.ChangeAliasesOperation,
        lambda server, _, body: server.client.update_collection_aliases(body.actions),
    ),
    (_NAME, "GET", None, lambda server, name, _: server.describe(name)),
    (_NAME, "PUT", models.CreateCollection, Server.create),
    (f"{_NAME}/facet", "POST", models.FacetRequest, Server.facet),
    (f"{_NAME}/index", "PUT", models.CreateFieldIndex, Server.index),
    (f"{_NAME}/points", "POST", models.PointRequest, Server.retrieve),
    (f"{_NAME}/points/batch", "POST", models.UpdateOperations, Server.update),
    (f"{_NAME}/points/delete", "POST", models.FilterSelector, Server.delete),
    (f"{_NAME}/points/query/batch", "POST", models.QueryRequestBatch, Server.query),
    (f"{_NAME}/points/scroll", "POST", models.ScrollRequest, Server.scroll),
    (
        f"{_NAME}/points/count",
        "POST",
        models.CountRequest,
        lambda server, name, body: server.client.count(name, body.filter),
    ),
]


class _HTTPServer(ThreadingHTTPServer):
    def __init__(self, server: Server) -> None:
        self.qdrant = server
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: _HTTPServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _respond(self) -> None:
        qdrant = self.server.qdrant
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        qdrant.note(f"{self.command} {path}")
        if qdrant.page is not None:
            self._send(qdrant.status, qdrant.page, "text/html")
        elif qdrant.status != 200:
            self._fail(qdrant.status, "Service internal error: it was told to fail")
        elif qdrant.api_key is not None and self.headers.get("api-key") != qdrant.api_key:
            self._send(
                401, b"Must provide an API key or an Authorization bearer token", "text/plain"
            )
        else:
            try:
                if path.endswith(_WRITES):
                    _check_waiting("wait=true" in query)
                result = qdrant.answer(self.command, path, body)
            except LookupError as error:
                self._fail(500, f"this server does not know {error}")
            except ValueError as error:
                missing = "not found" in str(error)
                self._fail(404 if missing else 400, f"{'Not found: ' * missing}{error}")
            else:
                self._send(
                    200, json.dumps({"result": _jsonable(result), "status": "ok", "time": 0.1})
                )

    def _fail(self, status: int, reason: str) -> None:
        self._send(status, json.dumps({"status": {"error": reason}, "time": 0.1}))

    def _send(self, status: int, content: str | bytes, kind: str = "application/json") -> None:
        data = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _jsonable(value: Any) -> Any:
    if isinstance(value, list):
        return [_jsonable(each) for each in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


# --- gRPC: the same answers, by way of the client's own conversions ---


def _grpc_handlers(server: Server) -> dict[str, dict[str, tuple[Any, Callable[[Any], Any]]]]:
    from qdrant_client import grpc
    from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

    client = server.client

    def get(request: Any) -> Any:
        info = server.describe(request.collection_name)
        return grpc.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def create(request: Any) -> Any:
        body = models.CreateCollection(
            vectors=GrpcToRest.convert_vectors_config(request.vectors_config),
            metadata=GrpcToRest.convert_payload(request.metadata),
        )
        return grpc.CollectionOperationResponse(result=server.create(request.collection_name, body))

    def aliases(request: Any) -> Any:
        actions = [GrpcToRest.convert_alias_operations(each) for each in request.actions]
        return grpc.CollectionOperationResponse(result=client.update_collection_aliases(actions))

    def index(request: Any) -> Any:
        _check_waiting(request.wait)
        params = GrpcToRest.convert_payload_schema_params(request.field_index_params)
        body = models.CreateFieldIndex(field_name=request.field_name, field_schema=params)
        result = RestToGrpc.convert_update_result(server.index(request.collection_name, body))
        return grpc.PointsOperationResponse(result=result)

    def update(request: Any) -> Any:
        _check_waiting(request.wait)
        operations = [
            GrpcToRest.convert_points_update_operation(each) for each in request.operations
        ]
        results = server.update(
            request.collection_name, models.UpdateOperations(operations=operations)
        )
        return grpc.UpdateBatchResponse(result=map(RestToGrpc.convert_update_result, results))

    def delete(request: Any) -> Any:
        _check_waiting(request.wait)
        selector = GrpcToRest.convert_points_selector(request.points)
        result = server.delete(request.collection_name, selector)
        return grpc.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))

    def query(request: Any) -> Any:
        searches = [GrpcToRest.convert_query_points(each) for each in request.query_points]
        body = models.QueryRequestBatch(searches=searches)
        return grpc.QueryBatchResponse(
            result=[
                grpc.BatchResult(result=map(RestToGrpc.convert_scored_point, answer.points))
                for answer in server.query(request.collection_name, body)
            ]
        )

    def scroll(request: Any) -> Any:
        body = models.ScrollRequest(
            filter=GrpcToRest.convert_filter(request.filter),
            limit=request.limit,
            offset=(
                GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
            ),
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            with_vector=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        found = server.scroll(request.collection_name, body)
        after = found.next_page_offset
        return grpc.ScrollResponse(
            result=map(RestToGrpc.convert_record, found.points),
            next_page_offset=RestToGrpc.convert_extended_point_id(after) if after else None,
        )

    def retrieve(request: Any) -> Any:
        body = models.PointRequest(
            ids=[GrpcToRest.convert_point_id(each) for each in request.ids],
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            with_vector=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        records = server.retrieve(request.collection_name, body)
        for record in records:
            record.payload = record.payload or {}  # the message has no way to say none
        return grpc.GetResponse(result=map(RestToGrpc.convert_record, records))

    def count(request: Any) -> Any:
        found = client.count(request.collection_name, GrpcToRest.convert_filter(request.filter))
        return grpc.CountResponse(result=grpc.CountResult(count=found.count))

    def facet(request: Any) -> Any:
        body = models.FacetRequest(
            key=request.key, filter=GrpcToRest.convert_filter(request.filter), limit=request.limit
        )
        hits = server.facet(request.collection_name, body).hits
        return grpc.FacetResponse(hits=map(RestToGrpc.convert_facet_value_hit, hits))

    return {
        "qdrant.Collections": {
            "Get": (grpc.GetCollectionInfoRequest, get),
            "Create": (grpc.CreateCollection, create),
            "UpdateAliases": (grpc.ChangeAliases, aliases),
        },
        "qdrant.Points": {
            "CreateFieldIndex": (grpc.CreateFieldIndexCollection, index),
            "UpdateBatch": (grpc.UpdateBatchPoints, update),
            "Delete": (grpc.DeletePoints, delete),
            "QueryBatch": (grpc.QueryBatchPoints, query),
            "Scroll": (grpc.ScrollPoints, scroll),
            "Get": (grpc.GetPoints, retrieve),
            "Count": (grpc.CountPoints, count),
            "Facet": (grpc.FacetCounts, facet),
        },
    }


@contextmanager
def _serving_grpc(server: Server) -> Iterator[None]:
    import grpc

    def guarded(name: str, handler: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: Any) -> Any:
            server.note(f"gRPC {name}")
            given = dict(context.invocation_metadata())
            if server.api_key is not None and given.get("api-key") != server.api_key:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key")
            if server.status != 200:
                context.abort(grpc.StatusCode.INTERNAL, "it was told to fail")
            try:
                with server.lock:
                    return handler(request)
            except ValueError as error:
                missing = "not found" in str(error)
                code = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.INVALID_ARGUMENT
                context.abort(code, str(error))

        return call

    with ThreadPoolExecutor(8) as pool:
        running = grpc.server(pool)
        running.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    service,
                    {
                        name: grpc.unary_unary_rpc_method_handler(
                            guarded(name, handler),
                            request_deserializer=request.FromString,
                            response_serializer=lambda response: response.SerializeToString(),
                        )
                        for name, (request, handler) in methods.items()
                    },
                )
                for service, methods in _grpc_handlers(server).items()
            )
        )
        server.grpc_port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        try:
            yield
        finally:
            running.stop(None).wait()
