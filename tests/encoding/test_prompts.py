"""Prompts before texts, and vectors that are cut: by the real model, described otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from cognitive_memory.core.errors import ConfigurationError, ModelIntegrityError
from cognitive_memory.core.model_files import TOKENIZER_FILE, ModelFolder, read_model_config
from cognitive_memory.core.processor import Processor
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.encoding.cache import CachedEmbeddingProvider
from cognitive_memory.encoding.disk_cache import DiskCache
from cognitive_memory.encoding.onnx_engine import ONNXEngine
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.runtime import OPTIMIZATION_LEVELS
from cognitive_memory.models.verify import TOLERANCE

PROMPTS = {"query": "search_query: ", "document": "search_document: "}
TEXTS = ["We dropped Redis.", "", "why?", "river stone garden window " * 20]
LONG = "river stone garden window music letter " * 100

Describe = Callable[..., Path]


@pytest.fixture
def describe(linked_model: Path) -> Describe:
    """Gives the folder of the real model with other values in its description."""

    def describe(**values: object) -> Path:
        replace(read_model_config(linked_model), **values).write(linked_model)  # type: ignore[arg-type]
        return linked_model

    return describe


@pytest.fixture
def prompted(describe: Describe) -> Iterator[ONNXEmbeddingProvider]:
    with ONNXEmbeddingProvider(describe(prompts=PROMPTS), overflow="chunk") as provider:
        yield provider


def assert_same(found: Vector, expected: Vector) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0.0) <= TOLERANCE


def test_prompts_are_those_put_before_by_hand(
    prompted: ONNXEmbeddingProvider, provider: ONNXEmbeddingProvider
) -> None:
    documents = provider.encode_batch([PROMPTS["document"] + text for text in TEXTS])
    assert_same(prompted.encode_batch(TEXTS), documents)
    assert_same(prompted.encode(TEXTS[0]), documents[0])
    assert_same(np.stack(list(prompted.encode_stream(TEXTS, 2))), documents)
    for text in TEXTS:
        assert_same(prompted.encode_query(text), provider.encode(PROMPTS["query"] + text))
    assert not np.allclose(prompted.encode_query("why?"), prompted.encode("why?"))


def test_one_prompt_leaves_the_other_texts_alone(
    describe: Describe, provider: ONNXEmbeddingProvider
) -> None:
    prompts = {"query": "Represent this sentence: ", "document": ""}
    with ONNXEmbeddingProvider(describe(prompts=prompts)) as prompted:
        assert_same(prompted.encode_batch(TEXTS), provider.encode_batch(TEXTS))
        expected = provider.encode(f"{prompts['query']}why?")
        assert_same(prompted.encode_query("why?"), expected)


@pytest.mark.parametrize("document", [PROMPTS["document"], "word", "[SEP] \u8bb0\u5fc6"])
def test_a_chunk_fits_with_its_prompt(describe: Describe, document: str, model_dir: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model_dir / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = [LONG, "short", "x" * 40_000, LONG * 10]
    with ONNXEmbeddingProvider(describe(prompts={"document": document})) as provider:
        for text, spans in zip(texts, provider.chunk_batch(texts), strict=True):
            assert (spans[0][0], spans[-1][1]) == (0, len(text))
            assert all(start <= end for (_, end), (start, _) in zip(spans[1:], spans, strict=False))
            for start, end in spans:
                assert len(tokenizer.encode(document + text[start:end])) <= 256
        (spans,) = provider.chunk_batch([LONG])
        lengths = [len(tokenizer.encode(document + LONG[start:end])) for start, end in spans[:-1]]
        assert min(lengths) > 200, "and not much less"


def test_chunks_are_averaged_each_with_its_prompt(
    prompted: ONNXEmbeddingProvider, provider: ONNXEmbeddingProvider
) -> None:
    (spans,) = prompted.chunk_batch([LONG])
    assert len(spans) > 2
    chunks = [PROMPTS["document"] + LONG[start:end] for start, end in spans]
    expected = normalize(provider.encode_batch(chunks).sum(axis=0))
    assert_same(prompted.encode(LONG), expected)
    assert prompted.encode_query(LONG).shape == (384,)
    assert prompted.get_model_info()["texts_cut"] == 0


def test_a_prompt_without_room_for_text_is_refused(describe: Describe) -> None:
    folder = describe(prompts={"document": "river " * 300})
    with (
        ONNXEmbeddingProvider(folder) as provider,
        pytest.raises(ModelIntegrityError, match=r"has 300 tokens, the limit is 254 with the text"),
    ):
        provider.chunk_batch(["text"])


def test_a_cache_keeps_queries_and_documents_apart(
    prompted: ONNXEmbeddingProvider, provider: ONNXEmbeddingProvider, tmp_path: Path
) -> None:
    document = provider.encode(f"{PROMPTS['document']}why?")
    query = provider.encode(f"{PROMPTS['query']}why?")
    for memory_bytes in (1_000_000, 0):  # the second time from disk
        disk = DiskCache(tmp_path / "cache.db", 1_000_000)
        cached = CachedEmbeddingProvider(prompted, memory_bytes=memory_bytes, disk=disk)
        for _ in range(2):
            assert_same(cached.encode("why?"), document)
            assert_same(cached.encode_query("why?"), query)
            assert_same(cached.encode_batch(["why?"])[0], document)
        found = cached.statistics
        assert found.misses == (2 if memory_bytes else 0)
        disk.close()


def test_another_prompt_is_another_embedding(
    describe: Describe, provider: ONNXEmbeddingProvider
) -> None:
    fingerprints = {
        ONNXEmbeddingProvider(describe(prompts=prompts)).fingerprint
        for prompts in (PROMPTS, {"query": "search_query: "}, {"document": "search_query: "})
    }
    assert len(fingerprints | {provider.fingerprint}) == 4


# Cut vectors


def test_cut_vectors_are_the_first_values_normalized(
    describe: Describe, provider: ONNXEmbeddingProvider
) -> None:
    expected = normalize(provider.encode_batch(TEXTS)[:, :128])
    with ONNXEmbeddingProvider(describe(dimensions=(256, 128)), dimension=128) as cut:
        assert cut.dimension == cut.get_model_info()["dimension"] == 128
        assert_same(cut.encode_batch(TEXTS), expected)
        assert_same(cut.encode_query(TEXTS[0]), expected[0])
        assert cut.encode_batch([]).shape == (0, 128)
        assert cut.encode_batch(TEXTS).dtype == np.float32


def test_each_length_has_a_fingerprint(describe: Describe, provider: ONNXEmbeddingProvider) -> None:
    folder = describe(dimensions=(256, 128))
    found = [
        ONNXEmbeddingProvider(folder, dimension=length).fingerprint
        for length in (None, 384, 256, 128)
    ]
    assert found[:2] == [provider.fingerprint] * 2
    assert found[2:] == [provider.fingerprint.replace("/384/", f"/{n}/") for n in (256, 128)]


@pytest.mark.parametrize(("dimensions", "known"), [((), "384"), ((256, 128), "384, 256, 128")])
def test_a_length_that_the_model_is_not_trained_for_is_refused(
    describe: Describe, dimensions: tuple[int, ...], known: str
) -> None:
    message = (
        f"^COGNITIVE_MEMORY_EMBEDDING__DIMENSION=100: all-MiniLM-L6-v2 gives {known} and no other "
        "length; set one of them, or none$"
    )
    with ONNXEmbeddingProvider(describe(dimensions=dimensions), dimension=100) as provider:
        for use in (lambda: provider.dimension, lambda: provider.encode("text")):
            with pytest.raises(ConfigurationError, match=message):
                use()


# Precision


def test_a_folder_of_another_precision_is_refused(describe: Describe) -> None:
    folder = describe(precision="int8")
    message = f"PRECISION='fp32', but the model in {folder} is int8; name another model"
    with ONNXEmbeddingProvider(folder, precision="fp32") as provider:
        with pytest.raises(ConfigurationError, match=message):
            provider.encode("text")
        with pytest.raises(ConfigurationError, match=message):
            provider.fingerprint  # noqa: B018
    for precision in (None, "int8"):
        with ONNXEmbeddingProvider(folder, precision=precision) as provider:
            assert provider.get_model_info()["precision"] == "int8"


def test_bf16_is_refused_with_the_provider_that_has_it() -> None:
    message = "PRECISION='bf16' is computed by OpenVINO alone; set .*PROVIDER=openvino"
    with pytest.raises(ConfigurationError, match=message):
        ONNXEmbeddingProvider("nowhere", precision="bf16")


@pytest.mark.parametrize("optimization", OPTIMIZATION_LEVELS)
def test_int8_where_products_may_saturate_runs_the_portable_graph(
    describe: Describe,
    provider: ONNXEmbeddingProvider,
    caplog: pytest.LogCaptureFixture,
    optimization: str,
) -> None:
    folder = describe(precision="int8")
    (folder / "all-MiniLM-L6-v2.ort").unlink()
    engine = ONNXEngine(
        lambda: ModelFolder(lambda: folder),
        threads=2,
        optimization=optimization,
        device="cpu",
        memory_mb=0,
        processor=lambda: Processor("x86_64", frozenset({"avx2"})),
    )
    ids = np.array([[101, 2339, 1029, 102]])
    for alone in (True, False):
        assert_same(engine.infer(ids, np.ones_like(ids), alone)[0], provider.encode("why?"))
    (message,) = caplog.messages
    assert "has no 8-bit VNNI" in message
    engine.close()


@pytest.mark.parametrize("kind", ["query", "document"])
def test_a_prompt_that_leaves_no_room_is_refused(describe: Describe, kind: str) -> None:
    folder = describe(prompts={kind: "word " * 300})
    message = "has 300 tokens, the limit is 254 with the text; shorten it"
    with (
        ONNXEmbeddingProvider(folder) as provider,
        pytest.raises(ModelIntegrityError, match=message),
    ):
        provider.encode_query("any")
