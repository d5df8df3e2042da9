"""The provider: shapes and errors, threads, closing, and what it accepts as a model."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cognitive_memory.core.errors import (
    DimensionMismatchError,
    EmbeddingError,
    InvalidInputError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from cognitive_memory.core.model_files import CONFIG_FILE, TOKENIZER_FILE, ModelFolder
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.runtime import SILENCE, import_runtime
from cognitive_memory.encoding.sentence_bert import SentenceBERTProvider
from cognitive_memory.encoding.transformer_provider import TEXTS_IN_FLIGHT
from cognitive_memory.models.verify import TOLERANCE, GoldenSet

NAME = "all-MiniLM-L6-v2"
FIX = rf"run 'cognitive-memory model pull {NAME}' to replace it"
TEXTS = ["We dropped Redis.", "The cache hit rate was 3%.", "", "\u6211\u4eec\u6628\u5929"]

NOT_TEXTS: list[Any] = [3, None, b"bytes", ("a", "pair"), ["a", "pair"], ["a"], 1.5]


def assert_same(found: Vector, expected: Vector) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE


def edit_config(folder: Path, **values: object) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


# Shapes and types


def test_a_batch_is_one_unit_row_for_each_text(provider: ONNXEmbeddingProvider) -> None:
    vectors = provider.encode_batch(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_no_texts_are_no_rows(provider: ONNXEmbeddingProvider) -> None:
    vectors = provider.encode_batch([])
    assert vectors.shape == (0, 384)
    assert vectors.dtype == np.float32


def test_one_text_is_one_vector(provider: ONNXEmbeddingProvider) -> None:
    vector = provider.encode(TEXTS[0])
    assert vector.shape == (384,)
    assert vector.dtype == np.float32
    assert_same(vector, provider.encode_batch(TEXTS)[0])
    assert_same(vector, provider.encode_query(TEXTS[0]))


@pytest.mark.parametrize("texts", [tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object)])
def test_any_sequence_of_texts_will_do(
    provider: ONNXEmbeddingProvider, texts: Sequence[str]
) -> None:
    assert_same(provider.encode_batch(texts), provider.encode_batch(TEXTS))


def test_vectors_belong_to_the_caller(provider: ONNXEmbeddingProvider) -> None:
    first = provider.encode_batch(TEXTS)
    expected = first.copy()
    provider.encode_batch(["something", "else"])
    assert_same(first, expected)
    first[:] = 0
    assert_same(provider.encode_batch(TEXTS), expected)


def test_more_texts_than_are_tokenized_at_once(
    provider: ONNXEmbeddingProvider, golden: GoldenSet
) -> None:
    short = [index for index, text in enumerate(golden.texts) if len(text) < 30]
    indices = [short[position % len(short)] for position in range(TEXTS_IN_FLIGHT + 150)]
    indices[TEXTS_IN_FLIGHT - 1 : TEXTS_IN_FLIGHT + 1] = [22, 23]
    vectors = provider.encode_batch([golden.texts[index] for index in indices])
    assert_same(vectors, golden.vectors[indices])


def test_similarity_of_two_vectors(provider: ONNXEmbeddingProvider) -> None:
    query, related, other = provider.encode_batch(
        ["Where is the cat?", "The cat sleeps on the sofa.", "Interest rates rose again."]
    )
    assert provider.compute_similarity(query, query) == pytest.approx(1.0, abs=1e-6)
    assert provider.compute_similarity(query, related) == pytest.approx(
        float(np.dot(query, related)), abs=1e-6
    )
    scores = provider.compute_batch_similarity(query, np.stack([query, related, other]))
    assert scores.shape == (3,)
    assert scores.dtype == np.float32
    assert scores[0] > scores[1] > scores[2]
    with pytest.raises(DimensionMismatchError, match="got 384 dimensions to compare with 3"):
        provider.compute_similarity(query, query[:3])


def test_chunks_are_texts_that_are_not_cut(provider: ONNXEmbeddingProvider) -> None:
    long = " ".join(["river stone garden window"] * 100)
    short_spans, spans = provider.chunk_batch(["short", long])
    assert short_spans == [(0, 5)]
    assert len(spans) == 2
    chunks = [long[start:end] for start, end in spans]
    # What follows a chunk would change its vector, were it not cut off.
    assert_same(provider.encode(long[: spans[0][1] + 50]), provider.encode(chunks[0]))
    assert not np.allclose(provider.encode(chunks[0]), provider.encode(chunks[0][:-7]))


# Input that is refused


def test_a_string_is_not_a_batch(provider: ONNXEmbeddingProvider) -> None:
    message = "a sequence of texts is needed, not one text; for one there is encode"
    for use in (provider.encode_batch, provider.chunk_batch):
        with pytest.raises(TypeError, match=message):
            use("one text")


@pytest.mark.parametrize("wrong", NOT_TEXTS, ids=repr)
def test_what_is_no_string_is_refused_by_its_place(
    provider: ONNXEmbeddingProvider, wrong: Any
) -> None:
    message = rf"^text 2 is a {type(wrong).__name__}; expected a str$"
    for use in (provider.encode_batch, provider.chunk_batch):
        with pytest.raises(InvalidInputError, match=message):
            use(["fine", "fine", wrong])
    with pytest.raises(InvalidInputError, match=rf"^text 0 is a {type(wrong).__name__}"):
        provider.encode(wrong)


@pytest.mark.parametrize("surrogate", [0xD800, 0xDC80, 0xDFFF], ids=hex)
def test_a_lone_surrogate_is_refused_by_its_place(
    provider: ONNXEmbeddingProvider, surrogate: int
) -> None:
    message = (
        rf"text 1 is not valid Unicode: a lone surrogate '\\u{surrogate:x}' at character 3; "
        "decode it as UTF-8 first"
    )
    for use in (provider.encode_batch, provider.chunk_batch):
        with pytest.raises(InvalidInputError, match=message):
            use(["fine", f"abc{chr(surrogate)}", "fine"])


def test_texts_of_a_large_call_are_refused_by_their_place(provider: ONNXEmbeddingProvider) -> None:
    texts: list[Any] = ["a"] * (TEXTS_IN_FLIGHT + 8)
    texts[TEXTS_IN_FLIGHT + 5] = None
    with pytest.raises(InvalidInputError, match=f"text {TEXTS_IN_FLIGHT + 5} is a NoneType"):
        provider.encode_batch(texts)


# Many threads, and the end


def test_many_threads_get_the_same_vectors(model_dir: Path, golden: GoldenSet) -> None:
    indices = [index for index, text in enumerate(golden.texts) if len(text) < 100]
    barrier = threading.Barrier(8)

    with ONNXEmbeddingProvider(model_dir) as provider:

        def encode(offset: int) -> Vector:
            mine = indices[offset::8]
            barrier.wait()
            return provider.encode_batch([golden.texts[index] for index in mine])

        with ThreadPoolExecutor(8) as threads:
            for offset, vectors in enumerate(threads.map(encode, range(8))):
                assert_same(vectors, golden.vectors[indices[offset::8]])


def test_the_model_is_located_once_and_late(model_dir: Path) -> None:
    located = []

    def locate() -> Path:
        located.append(threading.get_ident())
        return model_dir

    provider = ONNXEmbeddingProvider(ModelFolder(locate))
    assert located == []
    barrier = threading.Barrier(6)

    def use(turn: int) -> str:
        barrier.wait()
        if turn % 3 == 0:
            provider.encode("one of many")
        return str(provider.model_path) if turn % 3 == 1 else provider.fingerprint

    # Those who load and those who ask for attributes must neither deadlock nor locate twice.
    with provider, ThreadPoolExecutor(6) as threads:
        found = set(threads.map(use, range(6)))
    assert found == {provider.fingerprint, str(model_dir / f"{NAME}.onnx")}
    assert len(located) == 1


def test_what_fails_to_locate_the_model_is_raised(tmp_path: Path) -> None:
    def locate() -> Path:
        raise ModelNotFoundError("no such model")

    with (
        ONNXEmbeddingProvider(ModelFolder(locate)) as provider,
        pytest.raises(ModelNotFoundError, match="no such model"),
    ):
        provider.encode("text")


def test_a_warm_provider_gives_the_same_vectors(model_dir: Path, golden: GoldenSet) -> None:
    with ONNXEmbeddingProvider(model_dir) as provider:
        provider.warm_up()
        assert_same(provider.encode_batch(golden.texts[:5]), golden.vectors[:5])


def test_what_goes_wrong_while_warming_up_is_raised_later(tmp_path: Path) -> None:
    with ONNXEmbeddingProvider(tmp_path / "nothing") as provider:
        provider.warm_up()
        with pytest.raises(ModelNotFoundError, match=r"no model in .*nothing"):
            provider.encode("text")


def test_a_closed_provider_says_so(model_dir: Path) -> None:
    with ONNXEmbeddingProvider(model_dir) as provider:
        provider.encode_batch(["a"] * 100)
    provider.close()
    for use in (provider.encode_batch, provider.chunk_batch):
        with pytest.raises(EmbeddingError, match="this provider is closed; create another one"):
            use(["text"])
    with pytest.raises(EmbeddingError, match="this provider is closed; create another one"):
        provider.encode_query("text")


def test_a_provider_can_be_closed_before_its_first_use(tmp_path: Path) -> None:
    provider = ONNXEmbeddingProvider(tmp_path / "nothing")
    provider.close()
    with pytest.raises(EmbeddingError, match="this provider is closed"):
        provider.encode("text")


def test_closing_while_others_encode_ends_in_vectors_or_an_error(
    model_dir: Path, golden: GoldenSet
) -> None:
    before = set(threading.enumerate())
    text = golden.texts.index("memory")
    provider = ONNXEmbeddingProvider(model_dir, batch_size=4, workers=2)
    barrier = threading.Barrier(3)

    def encode(_: int) -> Vector | EmbeddingError:
        provider.encode("ready")
        barrier.wait()
        try:
            return provider.encode_batch([golden.texts[text]] * (TEXTS_IN_FLIGHT * 2))
        except EmbeddingError as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        results = threads.map(encode, range(2))
        barrier.wait()
        provider.close()
        for result in results:
            if isinstance(result, EmbeddingError):
                assert str(result) == "this provider is closed; create another one"
            else:
                assert_same(result, np.repeat(golden.vectors[[text]], len(result), axis=0))
    assert set(threading.enumerate()) <= before


# What it says of itself


def test_info_is_json_and_complete(provider: ONNXEmbeddingProvider, model_dir: Path) -> None:
    provider.encode("text")  # which settles the device
    info = provider.get_model_info()
    assert json.loads(json.dumps(info)) == info
    assert info["workers"] >= 1
    assert info["threads"] >= 1
    assert info["tokens_cut"] >= info["texts_cut"] >= 0
    varying = {"workers", "threads", "tokens_cut", "texts_cut"}
    assert {name: info[name] for name in info if name not in varying} == {
        "name": NAME,
        "dimension": 384,
        "max_length": 256,
        "pooling": "mean",
        "precision": "fp32",
        "fingerprint": provider.fingerprint,
        "path": str(model_dir / f"{NAME}.onnx"),
        "device": "cpu",
        "optimization": "all",
        "overflow": "truncate",
    }
    assert provider.dimension == provider.get_embedding_dimension() == 384
    assert provider.model_path.is_file()


def test_fingerprint_is_the_one_that_stores_remember(
    provider: ONNXEmbeddingProvider, linked_model: Path
) -> None:
    # A store written by an earlier version must still be accepted: this value never changes.
    assert provider.fingerprint == "all-MiniLM-L6-v2/fp32/384/3c31f3abc7cb2f8f"
    edit_config(linked_model, converter="another", opset=18, onnxruntime="1.20.0")
    assert ONNXEmbeddingProvider(linked_model).fingerprint == provider.fingerprint
    edit_config(linked_model, max_length=128)
    assert ONNXEmbeddingProvider(linked_model).fingerprint != provider.fingerprint


def test_the_historic_name_is_the_same_class() -> None:
    assert SentenceBERTProvider is ONNXEmbeddingProvider


def test_nothing_is_reported_to_anyone(model_dir: Path, tmp_path: Path) -> None:
    # Left to itself, ONNX Runtime writes a device id, a session id and a queue of events, and
    # its native code opens sockets that no Python hook sees.
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", SILENCE)}
    places = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    for place in places.values():
        Path(place).mkdir()
    code = f"""
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider

with ONNXEmbeddingProvider({str(model_dir)!r}) as provider:
    print(provider.encode("text").shape)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **places}, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("(384,)\n", "")
    assert [path for place in places.values() for path in Path(place).rglob("*")] == []


@pytest.mark.parametrize("value", ["0", "1"])
def test_who_wants_to_report_may(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(SILENCE, value)
    import_runtime()
    assert os.environ[SILENCE] == value


# Models that are accepted, and those that are not


def test_an_older_runtime_takes_the_portable_graph(linked_model: Path, golden: GoldenSet) -> None:
    edit_config(linked_model, onnxruntime="999.0.0")
    with ONNXEmbeddingProvider(linked_model) as provider:
        assert_same(provider.encode_batch(golden.texts), golden.vectors)


def test_a_newer_runtime_does_not_read_the_portable_graph(linked_model: Path) -> None:
    (linked_model / f"{NAME}.onnx").unlink()
    with ONNXEmbeddingProvider(linked_model) as provider:
        assert provider.encode("text").shape == (384,)


@pytest.mark.parametrize("name", [f"{NAME}.ort", f"{NAME}.onnx", TOKENIZER_FILE])
def test_an_altered_byte_is_found(
    linked_model: Path, alter_byte: Callable[[Path], None], name: str
) -> None:
    if name.endswith(".onnx"):
        edit_config(linked_model, onnxruntime="999.0.0")
    alter_byte(linked_model / name)
    message = rf"{linked_model / name} has SHA-256 \w{{12}}… instead of \w{{12}}…; {FIX}"
    with (
        ONNXEmbeddingProvider(linked_model) as provider,
        pytest.raises(ModelIntegrityError, match=message),
    ):
        provider.encode("text")


@pytest.mark.parametrize("name", [f"{NAME}.ort", TOKENIZER_FILE])
@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_file_is_found(linked_model: Path, name: str, size: int) -> None:
    path = linked_model / name
    with path.open("rb") as file:
        start = file.read(size)
    path.unlink()
    path.write_bytes(start)
    message = rf"{path} has {size:,} bytes instead of [\d,]{{7,}}; {FIX}"
    with (
        ONNXEmbeddingProvider(linked_model) as provider,
        pytest.raises(ModelIntegrityError, match=message),
    ):
        provider.encode("text")


@pytest.mark.parametrize("name", [f"{NAME}.ort", TOKENIZER_FILE])
def test_a_missing_file_is_found(linked_model: Path, name: str) -> None:
    (linked_model / name).unlink()
    message = rf"{linked_model / name} cannot be read \(No such file or directory\); {FIX}"
    with (
        ONNXEmbeddingProvider(linked_model) as provider,
        pytest.raises(ModelIntegrityError, match=message),
    ):
        provider.encode("text")


def test_without_a_prepared_graph_the_portable_one_runs(linked_model: Path) -> None:
    expected = encode(linked_model, "text")
    files = json.loads((linked_model / CONFIG_FILE).read_text("utf-8"))["files"]
    del files[f"{NAME}.ort"]
    edit_config(linked_model, files=files)
    (linked_model / f"{NAME}.ort").unlink()  # a link to the real one, which others have mapped
    (linked_model / f"{NAME}.ort").write_bytes(b"what is not listed is not read")
    np.testing.assert_allclose(encode(linked_model, "text"), expected, atol=1e-6)


def encode(folder: Path, text: str) -> Vector:
    with ONNXEmbeddingProvider(folder) as provider:
        return provider.encode(text)


@pytest.mark.parametrize("name", [f"{NAME}.onnx", TOKENIZER_FILE])
def test_a_file_that_is_not_listed_is_not_read(linked_model: Path, name: str) -> None:
    files = json.loads((linked_model / CONFIG_FILE).read_text("utf-8"))["files"]
    del files[name]
    files.pop(f"{NAME}.ort")
    edit_config(linked_model, files=files)
    with (
        ONNXEmbeddingProvider(linked_model) as provider,
        pytest.raises(ModelIntegrityError, match=rf"{CONFIG_FILE} does not list {name}; {FIX}"),
    ):
        provider.encode("text")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    provider = ONNXEmbeddingProvider(str(tmp_path))
    message = rf"no model in {tmp_path}; run 'cognitive-memory model pull'"
    with pytest.raises(ModelNotFoundError, match=message):
        provider.encode("text")
    with pytest.raises(ModelNotFoundError, match=message):
        assert provider.dimension


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"[]", b"{}", b'"text"', b"null", b"\xff\xfe\x00", b'{"files": 3}']
)
def test_a_description_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(content)
    message = (
        rf"{tmp_path / CONFIG_FILE} is not a model description of format 1; "
        "run 'cognitive-memory model pull' to replace it"
    )
    with pytest.raises(ModelIntegrityError, match=message):
        ONNXEmbeddingProvider(tmp_path).encode("text")


def test_a_description_of_another_format_is_named(linked_model: Path) -> None:
    edit_config(linked_model, format=2)
    with pytest.raises(ModelIntegrityError, match="has format 2, this version reads 1"):
        ONNXEmbeddingProvider(linked_model).encode("text")


def test_a_graph_that_the_runtime_refuses_is_named(linked_model: Path) -> None:
    # The bytes are as recorded, and still no graph.
    path = linked_model / f"{NAME}.ort"
    path.unlink()
    path.write_bytes(b"no graph at all")
    record = {
        "bytes": 15,
        "sha256": hashlib.sha256(b"no graph at all").hexdigest(),
    }
    files = json.loads((linked_model / CONFIG_FILE).read_text("utf-8"))["files"]
    edit_config(linked_model, files={**files, path.name: record})
    with pytest.raises(ModelIntegrityError, match=rf"{path} cannot be loaded: "):
        ONNXEmbeddingProvider(linked_model).encode("text")
