"""The engine as a guest on the machine: forks, threads, processor time, memory, long texts."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import unmeasured
from tokenizers import Tokenizer

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.model_files import TOKENIZER_FILE
from cognitive_memory.core.resources import usable_cores
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.encoding import tokenization
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.tokenization import (
    CHARACTERS_AT_ONCE,
    PIECE_CHARACTERS,
    TextTokenizer,
)
from cognitive_memory.encoding.transformer_provider import TEXTS_IN_FLIGHT
from cognitive_memory.models.verify import TOLERANCE, GoldenSet

LIMIT = 256
"""Tokens of the model, two special ones included."""


def assert_same(found: Vector, expected: Vector) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0.0) <= TOLERANCE


def run(code: str, *arguments: object, timeout_seconds: int = 100) -> str:
    """What a Python process of its own prints; it must end well and silently."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_seconds, env=unmeasured()
    )
    assert (result.stderr, result.returncode) == ("", 0)
    return result.stdout


# Forks

FORKS = """
import os, signal, sys, threading, warnings
import numpy as np
from cognitive_memory.core.model_files import ModelFolder
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from pathlib import Path

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
folder, case = sys.argv[1:]
texts = ["We dropped Redis.", "river stone " * 40, "", "why?"] * 10
model = ModelFolder(lambda: Path(folder))
provider = ONNXEmbeddingProvider(model)
stop = threading.Event()
threads = []
signal.alarm(80)

def use(each):
    while not stop.is_set():
        provider.encode_batch(each)

if case == "before any use":
    model.begin_check(model.runtime_graph)
    model.begin_check("tokenizer/tokenizer.json")
elif case == "after a single text":
    provider.encode(texts[0])
elif case == "after many texts":
    provider.encode_batch(texts)
elif case == "while others encode":
    provider.encode(texts[0])
    provider.encode_batch(texts)
    threads = [
        threading.Thread(target=use, args=(each,))
        for each in (texts, texts[:1], texts[1:2], texts[3:4])
    ]
elif case == "closed":
    provider.encode(texts[0])
    provider.close()
for thread in threads:
    thread.start()

def outcome():
    try:
        single, bulk = provider.encode(texts[1]), provider.encode_batch(texts)
    except Exception as error:
        return str(error).encode()
    return np.concatenate([single[None], bulk]).tobytes()

def in_child():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(40)
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(outcome())
        sys.exit(0)  # as a worker ends, and not by os._exit
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"
    return content

children = [in_child() for _ in range(2)]
mine = outcome()
stop.set()
for thread in threads:
    thread.join()
if case == "closed":
    assert children == [mine] * 2
    print(mine.decode())
else:
    expected = np.frombuffer(mine, dtype=np.float32)
    for child in children:
        found = np.frombuffer(child, dtype=np.float32)
        assert found.shape == expected.shape == (41 * 384,), found.shape
        assert np.abs(found - expected).max() <= 1e-6
    provider.close()
    print("the same vectors")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "case",
    ["before any use", "after a single text", "after many texts", "while others encode", "closed"],
)
def test_the_child_of_a_fork_encodes_and_so_does_the_parent(model_dir: Path, case: str) -> None:
    expected = {"closed": "this provider is closed; create another one\n"}
    assert run(FORKS, model_dir, case) == expected.get(case, "the same vectors\n")


# Threads and processor time


def test_single_texts_from_32_threads(model_dir: Path, golden: GoldenSet) -> None:
    indices = [index for index, text in enumerate(golden.texts) if len(text) < 200] * 2
    texts = [golden.texts[index] for index in indices]
    barrier = threading.Barrier(32)
    with ONNXEmbeddingProvider(model_dir) as provider, ThreadPoolExecutor(32) as threads:

        def encode(first: int) -> list[Vector]:
            barrier.wait()
            return [provider.encode(text) for text in texts[first::32]]

        for first, vectors in enumerate(threads.map(encode, range(32))):
            mine = texts[first::32]
            assert_same(np.stack(vectors), provider.encode_batch(mine))
            assert_same(np.stack(vectors), golden.vectors[indices[first::32]])


def test_after_work_nothing_spins(model_dir: Path) -> None:
    """The least of some windows: what a collection of garbage takes in one is no spinning."""
    code = """
import sys, time
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider

with ONNXEmbeddingProvider(sys.argv[1]) as provider:
    provider.encode_batch(["river stone garden"] * 200)
    provider.encode("river stone garden")
    taken = []
    for _ in range(3):
        before = time.process_time()
        time.sleep(1)
        taken.append(time.process_time() - before)
        if taken[-1] < 0.1:
            break
print(min(taken) < 0.1 or taken)
"""
    assert run(code, model_dir) == "True\n"


# Settings of the engine


@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
def test_every_optimization_gives_the_golden_vectors(
    model_dir: Path, golden: GoldenSet, optimization: str
) -> None:
    chosen = slice(None, None, 4)
    with ONNXEmbeddingProvider(model_dir, optimization=optimization) as provider:
        assert_same(provider.encode_batch(golden.texts[chosen]), golden.vectors[chosen])
        assert_same(provider.encode(golden.texts[0]), golden.vectors[0])
        assert provider.get_model_info()["optimization"] == optimization


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"optimization": "fast"},
            "^got optimization 'fast'; known: none, basic, extended, all$",
        ),
        ({"optimization": ""}, "^got optimization ''; known: none, basic, extended, all$"),
        ({"overflow": "drop"}, "^got overflow 'drop'; known: truncate, error, chunk$"),
        ({"token_budget": 0}, "^got token_budget 0; it must be at least 1$"),
        ({"token_budget": -512}, "^got token_budget -512; it must be at least 1$"),
        ({"batch_size": 0}, "^got batch_size 0; it must be at least 1$"),
        ({"batch_size": -1}, "^got batch_size -1; it must be at least 1$"),
        ({"workers": -1}, "^got workers -1; it must be at least 0$"),
        ({"threads": -2}, "^got threads -2; it must be at least 0$"),
    ],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ONNXEmbeddingProvider(tmp_path, **arguments)


@pytest.mark.parametrize("asked", [0, 1, 10_000])
def test_workers_and_threads_are_bounded_by_the_cores(model_dir: Path, asked: int) -> None:
    expected = min(asked, usable_cores()) or usable_cores()
    with ONNXEmbeddingProvider(model_dir, workers=asked, threads=asked) as provider:
        info = provider.get_model_info()
        assert (info["workers"], info["threads"]) == (expected, expected)
        vectors = provider.encode_batch(["short"] * 100)
        assert_same(vectors, np.repeat(vectors[:1], 100, axis=0))


# Texts that are too long

LONG = " ".join(["river"] * 300)
"""302 tokens: 46 too many."""


@pytest.mark.parametrize("overflow", ["truncate", "error", "chunk"])
def test_texts_that_fit_are_the_same_in_every_mode(
    model_dir: Path, golden: GoldenSet, caplog: pytest.LogCaptureFixture, overflow: str
) -> None:
    chosen = [index for index, text in enumerate(golden.texts) if len(text) < LIMIT - 2]
    just_fits = " ".join(["river"] * (LIMIT - 2))
    with ONNXEmbeddingProvider(model_dir, overflow=overflow) as provider:
        vectors = provider.encode_batch([golden.texts[index] for index in chosen])
        assert_same(vectors, golden.vectors[chosen])
        assert provider.encode(just_fits).shape == (384,)
        info = provider.get_model_info()
    assert (info["overflow"], info["texts_cut"], info["tokens_cut"]) == (overflow, 0, 0)
    assert caplog.records == []


def test_the_first_cut_is_logged_and_all_are_counted(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longer = " ".join(["river"] * 1300)
    with ONNXEmbeddingProvider(model_dir) as provider:
        vectors = provider.encode_batch(["short", LONG, longer])
        [record] = caplog.records
        assert (record.levelno, record.getMessage()) == (
            logging.WARNING,
            (
                "2 of 3 texts were cut to 256 tokens, 1092 tokens are not in their vectors; "
                "further cuts are counted in get_model_info()"
            ),
        )
        assert_same(vectors[1], vectors[2])
        assert_same(vectors[1], provider.encode(" ".join(["river"] * (LIMIT - 2))))
        info = provider.get_model_info()
        assert (info["texts_cut"], info["tokens_cut"]) == (2, 46 + 1046)
        provider.encode(LONG)
        provider.encode_batch(["short"] * TEXTS_IN_FLIGHT + [LONG] * 2)
        info = provider.get_model_info()
    assert (info["texts_cut"], info["tokens_cut"]) == (5, 4 * 46 + 1046)
    assert json.loads(json.dumps(info)) == info
    assert len(caplog.records) == 1


def test_cuts_are_counted_in_many_threads(model_dir: Path) -> None:
    with ONNXEmbeddingProvider(model_dir) as provider, ThreadPoolExecutor(8) as threads:
        list(threads.map(provider.encode, [LONG] * 40))
        info = provider.get_model_info()
    assert (info["texts_cut"], info["tokens_cut"]) == (40, 40 * 46)


@pytest.mark.parametrize("place", [0, 2, TEXTS_IN_FLIGHT + 3])
def test_an_error_names_the_text_its_length_and_the_setting(model_dir: Path, place: int) -> None:
    texts = ["short"] * (place + 2)
    texts[place] = LONG
    message = (
        rf"^text {place} has 302 tokens, the limit is 256; split it, or set "
        r"COGNITIVE_MEMORY_EMBEDDING__OVERFLOW to truncate or chunk$"
    )
    with ONNXEmbeddingProvider(model_dir, overflow="error") as provider:
        with pytest.raises(InvalidInputError, match=message):
            provider.encode_batch(texts)
        assert provider.encode_batch(["short"] * 3).shape == (3, 384)
        assert provider.get_model_info()["texts_cut"] == 0


def test_an_error_tells_large_numbers_legibly(model_dir: Path) -> None:
    with (
        ONNXEmbeddingProvider(model_dir, overflow="error") as provider,
        pytest.raises(InvalidInputError, match=r"^text 0 has 30,002 tokens, the limit is 256; "),
    ):
        provider.encode("river " * 30_000)


def test_chunks_are_averaged_into_one_unit_vector(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["river", "stone", "garden", "window", "music", "letter", "winter", "market"]
    longs = [" ".join(words[number:] * (60 + 50 * number)) for number in range(3)]
    texts = ["short", longs[0], "", longs[1], longs[2], "why?"]
    with ONNXEmbeddingProvider(model_dir, overflow="chunk") as provider:
        vectors = provider.encode_batch(texts)
        for vector, text, spans in zip(vectors, texts, provider.chunk_batch(texts), strict=True):
            parts = provider.encode_batch([text[start:end] for start, end in spans])
            assert (len(parts) > 2) == (text in longs)
            assert_same(vector, normalize(parts.sum(axis=0)))
            assert_same(vector, provider.encode(text))
        assert vectors.dtype == np.float32
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
        assert provider.encode_batch([]).shape == (0, 384)
        info = provider.get_model_info()
    assert (info["texts_cut"], info["tokens_cut"]) == (0, 0)
    assert caplog.records == []


# Texts that are very long: in pieces, and nobody notices


def reference(model_dir: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(model_dir / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


VERY_LONG = {
    "words": "We dropped Redis; the cache hit rate was 3%.\n" * 1500,
    "words around the cut": "x" * (PIECE_CHARACTERS - 3) + " words here" * 900,
    "a wide gap": "word " * 3270 + " \n\t\u3000\u00a0" * 5000 + "and more " * 100,
    "chinese": "\u6211\u4eec\u6628\u5929\u8ba8\u8bba\u4e86\u8bb0\u5fc6\u7cfb\u7edf\u3002" * 3000,
    "japanese": "\u8a18\u61b6\u306e\u30b7\u30b9\u30c6\u30e0\u3092\u8a71\u3057\u305f" * 3000,
    "base64": "aB3d/Qz9+w==" * 4000,
    "special tokens": "[SEP][MASK]" * 4000,
    "one word": "x" * (3 * PIECE_CHARACTERS),
    "control characters that are no spaces": "long\x1c\x85\x0b" * 9000,
    "combining marks": "e\u0301a\u0308 " * 9000,
    "emoji": "\U0001f469\u200d\U0001f4bb" * 9000,
}


@pytest.mark.parametrize("text", VERY_LONG.values(), ids=VERY_LONG.keys())
def test_a_very_long_text_has_the_ids_and_the_cut_of_the_reference(
    model_dir: Path, text: str
) -> None:
    assert len(text) > PIECE_CHARACTERS
    ids = reference(model_dir).encode(text).ids
    unlimited = TextTokenizer(model_dir / TOKENIZER_FILE, 1 << 30)
    assert unlimited.tokenize([text]).rows == [ids]
    assert unlimited.tokenize([text]).cut == [0]
    tokens = TextTokenizer(model_dir / TOKENIZER_FILE, LIMIT).tokenize(["short", text, text])
    row = ids if len(ids) <= LIMIT else [*ids[: LIMIT - 1], ids[-1]]
    assert tokens.rows[1:] == [row, row]
    assert tokens.cut == [0, *[max(0, len(ids) - LIMIT)] * 2]


@given(
    text=st.lists(
        st.one_of(
            st.text(max_size=8),
            st.sampled_from(
                [" ", "word", "[SEP]", "a/b", "\u6211\u4eec", "\x1c", "e\u0301", "x" * 50]
            ),
        ),
        max_size=60,
    ).map("".join)
)
def test_pieces_of_any_text_have_the_ids_of_the_whole(model_dir: Path, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "PIECE_CHARACTERS", 20)
        patch.setattr(tokenization, "_CONTEXT", 12)
        tokens = TextTokenizer(model_dir / TOKENIZER_FILE, 1 << 30).tokenize([text])
    assert tokens.rows == [reference(model_dir).encode(text).ids]


@pytest.mark.parametrize("text", VERY_LONG.values(), ids=VERY_LONG.keys())
def test_chunks_of_a_very_long_text_fit_and_cover_it(model_dir: Path, text: str) -> None:
    tokenizer = TextTokenizer(model_dir / TOKENIZER_FILE, LIMIT)
    [[whole], spans] = tokenizer.chunk_spans(["short", text])
    assert whole == (0, 5)
    assert (spans[0][0], spans[-1][1]) == (0, len(text))
    starts, ends = zip(*spans, strict=True)
    assert list(starts) == sorted(set(starts))
    assert list(ends) == sorted(ends)
    assert all(start <= end for start, end in zip(starts[1:], ends[:-1], strict=True))
    encodings = reference(model_dir).encode_batch([text[start:end] for start, end in spans])
    assert max(map(len, encodings)) <= LIMIT


def test_many_long_texts_are_not_tokenized_at_once(model_dir: Path) -> None:
    tokenizer = TextTokenizer(model_dir / TOKENIZER_FILE, LIMIT)
    texts = ["one", "river stone " * (CHARACTERS_AT_ONCE // 50), "", "two words"] * 10
    assert sum(map(len, texts)) > 2 * CHARACTERS_AT_ONCE
    expected = [tokenizer.tokenize([text]) for text in texts]
    tokens = tokenizer.tokenize(texts)
    assert tokens.rows == [row for each in expected for row in each.rows]
    assert tokens.cut == [cut for each in expected for cut in each.cut]
    spans = [tokenizer.chunk_spans([text])[0] for text in texts]
    assert tokenizer.chunk_spans(texts) == spans


# Streams


def test_a_stream_equals_the_batch(provider: ONNXEmbeddingProvider, golden: GoldenSet) -> None:
    texts = [text for text in golden.texts if len(text) < 100]
    expected = provider.encode_batch(texts)
    for window in (1, 7, 1024):
        stream = provider.encode_stream((text for text in texts), window=window)
        assert_same(np.stack(list(stream)), expected)
    assert_same(np.stack(list(provider.encode_stream(texts))), expected)


def test_a_stream_of_nothing_is_empty(provider: ONNXEmbeddingProvider) -> None:
    nothing: list[str] = []
    assert list(provider.encode_stream(nothing)) == []
    assert list(provider.encode_stream(iter(nothing))) == []


def test_a_stream_takes_no_more_than_a_window_ahead(provider: ONNXEmbeddingProvider) -> None:
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    stream = provider.encode_stream(texts(), window=10)
    assert taken == 0
    for number in range(25):
        assert next(stream).shape == (384,)
        assert taken == 10 * (number // 10 + 1)


def test_a_fault_in_a_stream_comes_when_its_window_is_reached(
    provider: ONNXEmbeddingProvider,
) -> None:
    texts: list[Any] = ["fine"] * 4 + [None]
    stream = provider.encode_stream(texts, window=4)
    for _ in range(4):
        next(stream)
    with pytest.raises(InvalidInputError, match=r"^text 0 is a NoneType; expected a str$"):
        next(stream)


# Memory

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")

MEMORY = """
import gc, logging, sys
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider

def kilobytes(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))

logging.disable()  # of what is cut
provider = ONNXEmbeddingProvider(sys.argv[1])
provider.encode_batch(["short", "river stone garden"] * 500)
provider.encode("short")
provider.chunk_batch(["short"])
"""


@needs_proc
def test_memory_does_not_grow_with_the_number_of_texts(model_dir: Path) -> None:
    code = f"""{MEMORY}
def stream(count):
    for vector in provider.encode_stream(f"note {{number}}" for number in range(count)):
        assert vector.shape == (384,)
    return kilobytes("VmHWM:")

print(stream(1_000), stream(20_000))
"""
    few, many = map(int, run(code, model_dir).split())
    assert many <= 1.3 * few


LONG_TEXTS = {
    "english": "'We dropped Redis; the hit rate was 3%. ' * 125_000",
    "chinese": "'\\u6211\\u4eec\\u6628\\u5929\\u8ba8\\u8bba\\u4e86\\u7cfb\\u7edf' * 180_000",
}


@needs_proc
@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS.keys())
def test_one_long_text_among_short_ones_adds_little(model_dir: Path, text: str) -> None:
    code = f"""{MEMORY}
text = {text}
assert len(text.encode()) > 4_500_000
before = kilobytes("VmHWM:")
provider.encode_batch(["short"] * 50 + [text] + ["short"] * 50)
provider.chunk_batch(["short", text])
print(kilobytes("VmHWM:") - before)
"""
    assert int(run(code, model_dir)) < 100_000


@needs_proc
def test_many_texts_of_some_pages_add_little(model_dir: Path) -> None:
    """6 MB in all, which a call that tokenized them at once would hold as 140 MB of tokens."""
    code = f"""{MEMORY}
texts = ["river stone window " * 850] * 350
before = kilobytes("VmHWM:")
provider.chunk_batch(texts)
print(kilobytes("VmHWM:") - before)
"""
    assert int(run(code, model_dir)) < 100_000


@needs_proc
def test_closing_releases_the_memory(model_dir: Path) -> None:
    code = f"""{MEMORY}
before = kilobytes("VmRSS:")
provider.close()
gc.collect()
print(before - kilobytes("VmRSS:"))
"""
    assert int(run(code, model_dir)) > 30_000
