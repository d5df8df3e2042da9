"""From a transformer to static embeddings: one vector for each token, made without any training.

Every token goes through the model as a text of its own; principal components shorten the vectors,
and each is weighted by how rare its token is (Tulkens and van Dongen 2024, Model2Vec; the weights:
Arora et al. 2017, SIF). With texts of the user, the tokens are turned towards the directions that
bring the mean over each text closest to what the transformer says of it. ``docs/static.md`` has
what each step is worth.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..core.errors import ConversionError, InvalidInputError, ModelIntegrityError
from ..core.interfaces import Report
from ..core.model_files import STATIC, TOKENIZER_FILE, ModelConfig, ModelFolder, record_file
from ..core.resources import usable_cores
from ..core.similarity import Vector, normalize
from ..encoding.onnx_engine import ONNXEngine
from ..encoding.onnx_provider import ONNXEmbeddingProvider
from ..encoding.static_provider import TABLE_FILE
from ..encoding.tokenization import TextTokenizer
from .convert import check_replaceable, replacing
from .static_fit import fit_directions

METHOD = "static embeddings 1"
"""Another name for any change by which the same model would give other vectors."""

DIMENSION = 256
PREFIXES = (32, 64, 128, 192, 256)
"""Lengths to which vectors may be cut: principal components come in the order of their weight."""

RARITY = 3e-4
"""``a`` in SIF's weight a / (a + p) of a token of probability p."""

WHITENING = 0.5
"""Power of the components' standard deviations that is divided out: 0 none, 1 all of it."""

TOKENS_AT_ONCE = 128

_MARKER = re.compile(r"\[\w+\]|<\w+>|<\|\w+\|>")
"""Tokens that no text has: [PAD], [unused7], <s>."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that texts have, by id, which is also the order of their frequency."""

    size: int
    """Ids are below it, also those of tokens that no text has."""
    ids: NDArray[np.int64]
    """(tokens,) int64"""
    is_single: NDArray[np.bool_]
    """(tokens,): whether it is a single character."""
    frame: tuple[list[int], list[int]]
    """What the model expects before and after a text."""


def distill_model(
    teacher: Path,
    target: Path,
    *,
    name: str | None = None,
    dimension: int | None = None,
    texts: Sequence[str] = (),
    report: Report | None = None,
) -> ModelConfig:
    """Make the folder ``target`` of static embeddings from the converted model in ``teacher``.

    ``name`` is the teacher's by default, ``dimension`` 256, or the teacher's where that is less.
    Raises ``InvalidInputError`` for a dimension beyond the teacher's, too many texts or a
    ``target`` that holds other things than a model, ``ConversionError`` for a teacher that is
    static itself, and as reading a model does; ``target`` is then as it was.
    """
    model = ModelFolder(lambda: teacher)
    length = min(DIMENSION, model.config.dimension) if dimension is None else dimension
    _check_request(model.config, length)
    check_replaceable(target, name or model.config.name)
    prompt = model.config.prompts.get("document", "")
    vocabulary = read_vocabulary(model.checked(TOKENIZER_FILE), prompt)
    table = make_table(model, vocabulary, length, texts, report)
    return _write(model, target, name or model.config.name, table, texts)


def make_table(
    model: ModelFolder,
    vocabulary: Vocabulary,
    dimension: int,
    texts: Sequence[str] = (),
    report: Report | None = None,
) -> Vector:
    """(size + 1, dimension) float32, as ``static_provider.TABLE_FILE`` has it."""
    say = report or (lambda _: None)
    say(f"embedding the {len(vocabulary.ids):,} tokens of {model.config.name}, one by one")
    rows, blank = embed_tokens(model, vocabulary)
    center = rows.mean(axis=0)
    rows, blank = (rows - center) * rarity(vocabulary)[:, None], blank - center
    if texts:
        say(f"fitting them to {len(texts):,} texts")
        rows = _fit(model, vocabulary, rows, texts)
    axes = principal_axes(rows, dimension)
    table = np.zeros((vocabulary.size + 1, dimension), dtype=np.float32)
    table[vocabulary.ids] = rows @ axes
    table[-1] = normalize(blank @ axes)
    return table


def read_vocabulary(path: Path, prompt: str = "") -> Vocabulary:
    """What ``tokenizer.json`` makes of texts; ``prompt`` is what stands before each of them.

    Raises ``ModelIntegrityError`` if it is no tokenizer, or knows no tokens.
    """
    try:
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelIntegrityError(f"{path} is not a tokenizer: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    probe = tokenizer.encode(f"{prompt}a")
    place = max((i for i, mark in enumerate(probe.special_tokens_mask) if not mark), default=0)
    frame = probe.ids[:place], probe.ids[place + 1 :]
    left_out = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    left_out.update(i for i, mark in zip(probe.ids, probe.special_tokens_mask, strict=True) if mark)
    tokens = {
        i: token
        for token, i in tokenizer.get_vocab().items()
        if i not in left_out and not _MARKER.fullmatch(token)
    }
    if len(tokens) < 2:
        raise ModelIntegrityError(f"{path} is the tokenizer of {len(tokens)} tokens")
    ids = sorted(tokens)
    is_single = [len(tokens[i].removeprefix("##")) == 1 for i in ids]
    return Vocabulary(
        max(tokenizer.get_vocab().values()) + 1, np.array(ids), np.array(is_single), frame
    )


def embed_tokens(model: ModelFolder, vocabulary: Vocabulary) -> tuple[Vector, Vector]:
    """The teacher's (tokens, dim) unit rows for each token alone, and its vector of no token."""
    cores = usable_cores()
    engine = ONNXEngine(lambda: model, threads=cores, optimization="all", device="cpu", memory_mb=0)
    before, after = vocabulary.frame

    def embed(ids: NDArray[np.int64]) -> Vector:
        rows = np.empty((len(ids), len(before) + 1 + len(after)), dtype=np.int64)
        rows[:, : len(before)] = before
        rows[:, len(before)] = ids
        rows[:, len(before) + 1 :] = after
        return engine.infer(rows, np.ones_like(rows), alone=False)

    parts = [
        vocabulary.ids[start : start + TOKENS_AT_ONCE]
        for start in range(0, len(vocabulary.ids), TOKENS_AT_ONCE)
    ]
    with ThreadPoolExecutor(cores) as pool:
        rows = np.concatenate(list(pool.map(embed, parts)))
    nothing = np.array([[*before, *after]], dtype=np.int64)
    blank = engine.infer(nothing, np.ones_like(nothing), alone=True)[0]
    engine.close()
    return rows, blank


def rarity(vocabulary: Vocabulary) -> Vector:
    """(tokens,) float32 SIF weights, of frequencies by rank (Zipf's law).

    Single characters are ranked by themselves: vocabularies of BERT begin with all of them.
    """
    is_single = vocabulary.is_single
    ranks = np.where(is_single, np.cumsum(is_single), np.cumsum(~is_single))
    probabilities = 1 / ranks
    probabilities /= probabilities.sum()
    return np.asarray(RARITY / (RARITY + probabilities), dtype=np.float32)


def principal_axes(rows: Vector, dimension: int) -> Vector:
    """(dim, dimension) float32: ``rows @ axes`` are principal components, partly whitened.

    An axis points to where its largest loading is positive, so the same rows give the same axes.
    """
    wide = rows.astype(np.float64)
    variances, vectors = np.linalg.eigh(np.cov(wide, rowvar=False))
    order = np.argsort(-variances, kind="stable")[:dimension]
    variances, vectors = np.maximum(variances[order], 1e-12), vectors[:, order]
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return np.asarray(vectors * signs / variances ** (WHITENING / 2), dtype=np.float32)


def _check_request(config: ModelConfig, dimension: int) -> None:
    if config.precision == STATIC:
        raise ConversionError(
            f"{config.name} is static itself; distill the transformer that it was made from"
        )
    if not 1 <= dimension <= config.dimension:
        raise InvalidInputError(
            f"got dimension {dimension}; {config.name} has vectors of {config.dimension}, so give "
            f"1 to {config.dimension}"
        )


def _fit(model: ModelFolder, vocabulary: Vocabulary, rows: Vector, texts: Sequence[str]) -> Vector:
    places = np.full(vocabulary.size, -1)
    places[vocabulary.ids] = np.arange(len(vocabulary.ids))
    # Cut as the teacher cuts them: it says nothing of the rest.
    tokenizer = TextTokenizer(model.checked(TOKENIZER_FILE), model.config.max_length)
    held = [places[np.array(row)] for row in tokenizer.tokenize(texts).rows]
    with ONNXEmbeddingProvider(model, device="cpu") as teacher:
        targets = teacher.encode_batch(texts)
    return fit_directions(rows, [row[row >= 0] for row in held], targets)


def _write(
    model: ModelFolder, target: Path, name: str, table: Vector, texts: Sequence[str]
) -> ModelConfig:
    teacher = model.config
    # Not of the table itself: its last bits depend on the machine, and the vectors do not.
    recipe = [METHOD, teacher.fingerprint, *texts]
    with replacing(target) as folder:
        np.save(folder / TABLE_FILE, table, allow_pickle=False)
        (folder / TOKENIZER_FILE).parent.mkdir()
        shutil.copyfile(model.checked(TOKENIZER_FILE), folder / TOKENIZER_FILE)
        config = replace(
            teacher,
            name=name,
            architecture=STATIC,
            precision=STATIC,
            pooling="mean",
            dimension=table.shape[1],
            dimensions=tuple(length for length in PREFIXES if length < table.shape[1]),
            prompts={},
            converter=METHOD,
            opset=0,
            onnxruntime="",
            source={**teacher.source, "teacher": teacher.fingerprint},
            files={file: record_file(folder / file) for file in (TABLE_FILE, TOKENIZER_FILE)},
            parameters_sha256=hashlib.sha256("\0".join(recipe).encode()).hexdigest(),
            precision_map={},
            quality={},
        )
        config.write(folder)
    return config
