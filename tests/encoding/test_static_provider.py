"""Static embeddings by hand: a table of letters whose every vector can be read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from cognitive_memory.core.errors import (
    ConfigurationError,
    EmbeddingError,
    InvalidInputError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from cognitive_memory.core.model_files import STATIC, TOKENIZER_FILE, ModelConfig, record_file
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.static_provider import TABLE_FILE, StaticEmbeddingProvider
from cognitive_memory.encoding.tokenization import CHARACTERS_AT_ONCE, PIECE_CHARACTERS
from cognitive_memory.testing import EmbeddingProviderContract

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
MAX_LENGTH = 16


def write_tokenizer(path: Path) -> None:
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))


def write_static(folder: Path, table: Vector, **changes: Any) -> Path:
    """A folder with this table for the tokenizer of single letters."""
    (folder / TOKENIZER_FILE).parent.mkdir(parents=True)
    write_tokenizer(folder / TOKENIZER_FILE)
    np.save(folder / TABLE_FILE, table)
    return describe_static(folder, dimension=table.shape[-1], **changes)


def describe_static(folder: Path, **changes: Any) -> Path:
    """Write the description of the files as they are now."""
    values: dict[str, Any] = {
        "name": "letters",
        "max_length": MAX_LENGTH,
        "pooling": "mean",
        "precision": STATIC,
        "opset": 0,
        "converter": "by hand",
        "onnxruntime": "",
        "source": {"weights_sha256": "0" * 64, "tokenizer_sha256": "1" * 64},
        "files": {name: record_file(folder / name) for name in (TABLE_FILE, TOKENIZER_FILE)},
        **changes,
    }
    ModelConfig(**values).write(folder)
    return folder


def letter_table(dimension: int = 30) -> Vector:
    """Each letter alone lies on its own axis, ``a`` on the first; no letter: on the last.

    What follows a letter within a word weighs a half.
    """
    table = np.zeros((len(VOCABULARY) + 1, dimension), dtype=np.float32)
    for index, token in enumerate(VOCABULARY):
        letter = ord(token.removeprefix("##")[0]) - ord("a")
        if len(token.removeprefix("##")) == 1:
            table[index, letter] = 0.5 if token.startswith("##") else 1
    table[-1, -1] = 1
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_static(tmp_path_factory.mktemp("static") / "letters", letter_table())


@pytest.fixture
def letters(folder: Path) -> Iterator[StaticEmbeddingProvider]:
    with StaticEmbeddingProvider(folder) as provider:
        yield provider


class TestStaticProvider(EmbeddingProviderContract):
    @pytest.fixture
    def provider(self, letters: StaticEmbeddingProvider) -> StaticEmbeddingProvider:
        return letters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", {0: 1}),
        ("b", {1: 1}),
        ("a b", {0: 1, 1: 1}),
        ("A A b", {0: 2, 1: 1}),
        ("ab", {0: 1, 1: 0.5}),
        ("c 日 c", {2: 1}),  # what the table does not know weighs nothing beside what it does
        ("", {29: 1}),
        (" \n", {29: 1}),
        ("日本 7", {29: 1}),
        ("[UNK] [PAD]", {20: 1, 13: 0.5, 10: 0.5, 15: 1, 0: 0.5, 3: 0.5}),  # typed, not meant
    ],
)
def test_a_vector_is_the_direction_of_the_sum_of_its_tokens(
    letters: StaticEmbeddingProvider, text: str, expected: dict[int, float]
) -> None:
    wanted = np.zeros(30)
    wanted[list(expected)] = list(expected.values())
    np.testing.assert_allclose(letters.encode(text), wanted / np.linalg.norm(wanted), atol=1e-6)


def test_tokens_that_cancel_out_leave_the_vector_of_no_token(tmp_path: Path) -> None:
    table = letter_table()
    table[5] = -table[4]  # b points away from a
    with StaticEmbeddingProvider(write_static(tmp_path / "letters", table)) as provider:
        assert provider.encode("a b").tolist() == provider.encode("").tolist()
        assert provider.encode("b").tolist() == (-provider.encode("a")).tolist()


def test_a_vector_does_not_depend_on_the_batch_in_any_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = random.standard_normal(letter_table().shape).astype(np.float32)
    words = ["".join(random.choice(list("abcdefgh"), 5)) for _ in range(100)]
    texts = [" ".join(random.choice(words, random.integers(0, 40))) for _ in range(300)]
    texts[7] = " ".join(random.choice(words, PIECE_CHARACTERS))
    texts[8] = "".join(random.choice(words, CHARACTERS_AT_ONCE // 100))
    with StaticEmbeddingProvider(write_static(tmp_path / "random", table)) as provider:
        together = provider.encode_batch(texts)
        np.testing.assert_array_equal(together, np.stack([provider.encode(t) for t in texts]))
        np.testing.assert_array_equal(together[::-1], provider.encode_batch(texts[::-1]))


def test_nothing_of_a_long_text_is_cut(letters: StaticEmbeddingProvider) -> None:
    vector = letters.encode("a " * (3 * PIECE_CHARACTERS) + "b " * (3 * PIECE_CHARACTERS))
    assert vector[0] == vector[1] == pytest.approx(0.5**0.5)


def test_chunks_have_the_length_of_the_transformer(letters: StaticEmbeddingProvider) -> None:
    (spans,) = letters.chunk_batch(["a b " * 100])
    assert len(spans) > 10
    assert max(end - start for start, end in spans) <= 2 * 14


def test_a_shorter_length_is_the_beginning_of_the_vector(tmp_path: Path) -> None:
    table = letter_table()
    table[-1, 0] = 1
    folder = write_static(tmp_path / "letters", table, dimensions=(2, 8))
    with StaticEmbeddingProvider(folder, dimension=2) as provider:
        assert provider.dimension == provider.get_model_info()["dimension"] == 2
        assert provider.encode("b").tolist() == [0, 1]
        assert provider.fingerprint != StaticEmbeddingProvider(folder).fingerprint
    with pytest.raises(
        ConfigurationError,
        match=r"DIMENSION=3: letters gives 30, 2, 8 and no other length; set one",
    ):
        StaticEmbeddingProvider(folder, dimension=3).encode("a")
    with pytest.raises(InvalidInputError, match="got dimension 0"):
        StaticEmbeddingProvider(folder, dimension=0)


def test_a_text_beyond_the_cut_has_a_vector_all_the_same(tmp_path: Path) -> None:
    table = letter_table()
    table[-1, 0] = 1
    folder = write_static(tmp_path / "letters", table, dimensions=(2,))
    with StaticEmbeddingProvider(folder, dimension=2) as provider:
        assert provider.encode_batch(["z", ""]).tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("texts", "message"), [([1], "text 0 is a int"), (["a", "\ud800"], "text 1 is not valid")]
)
def test_what_is_no_text_is_refused(
    letters: StaticEmbeddingProvider, texts: list[str], message: str
) -> None:
    for use in (letters.encode_batch, letters.chunk_batch):
        with pytest.raises(InvalidInputError, match=message):
            use(texts)


def test_after_closing_nothing_is_encoded(folder: Path) -> None:
    provider = StaticEmbeddingProvider(folder)
    provider.encode("a")
    provider.close()
    with pytest.raises(EmbeddingError, match="closed"):
        provider.encode("a")


@pytest.mark.parametrize("name", [TABLE_FILE, TOKENIZER_FILE])
def test_an_altered_file_is_refused(
    tmp_path: Path, alter_byte: Callable[[Path], None], name: str
) -> None:
    folder = write_static(tmp_path / "letters", letter_table())
    alter_byte(folder / name)
    for warm in (False, True):
        provider = StaticEmbeddingProvider(folder)
        if warm:
            provider.warm_up()
        with pytest.raises(
            ModelIntegrityError, match=r"SHA-256 .* 'cognitive-memory model distill"
        ):
            provider.encode("a")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (letter_table().astype(np.float16), "no float32 table of 30 columns"),
        (letter_table()[:, :9], "no float32 table of 30 columns"),
        (letter_table()[0], "no float32 table of 30 columns"),
        (letter_table() * (np.arange(57) < 56)[:, None], "no vector for a text without tokens"),
        (letter_table()[:20], "has 56 tokens and vectors of 19"),
        (np.array([{}]), "is no table of vectors .*Python objects"),
    ],
    ids=["halves", "narrow", "flat", "without blank", "short", "pickled"],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, table: Vector, message: str) -> None:
    folder = write_static(tmp_path / "letters", letter_table())
    np.save(folder / TABLE_FILE, table, allow_pickle=True)
    describe_static(folder, dimension=30)
    with pytest.raises(ModelIntegrityError, match=message):
        StaticEmbeddingProvider(folder).encode("a")


def test_another_kind_of_model_is_refused(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is fp32, not static; run .*model distill"):
        StaticEmbeddingProvider(model_dir).encode("a")
    with pytest.raises(ModelNotFoundError):
        StaticEmbeddingProvider(tmp_path).encode("a")


SCRIPT = """
import os, sys
from cognitive_memory.core.config import Settings
from cognitive_memory.factory import create_embedding_provider

settings = Settings(embedding={"provider": "static", "model": sys.argv[1], "cache_bytes": 0})
with create_embedding_provider(settings, warm_up=True) as provider:
    expected = provider.encode_batch(["a b", "c"] * 50).tobytes()
    assert not {"onnxruntime", "onnx", "torch"} & set(sys.modules), sorted(sys.modules)
    child = os.fork()
    if child == 0:
        same = provider.encode_batch(["a b", "c"] * 50).tobytes() == expected
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_it_needs_no_runtime_and_works_after_a_fork(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
