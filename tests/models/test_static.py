"""Distillation: the arithmetic on a tiny teacher, the worth of it on the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bert import (
    LETTERS,
    MAX_LENGTH,
    VOCABULARY,
    Weights,
    reference_vectors,
    tiny_config,
    tiny_weights,
    write_source,
)

from cognitive_memory import create_system
from cognitive_memory.cli import main
from cognitive_memory.core.config import Settings
from cognitive_memory.core.embedding import model_of
from cognitive_memory.core.errors import (
    ConfigurationError,
    ConversionError,
    InvalidInputError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from cognitive_memory.core.model_files import (
    TOKENIZER_FILE,
    ModelFolder,
    check_model_file,
    read_model_config,
)
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.static_provider import TABLE_FILE, StaticEmbeddingProvider
from cognitive_memory.encoding.tokenization import TextTokenizer
from cognitive_memory.factory import create_embedding_provider
from cognitive_memory.model_folders import static_folder
from cognitive_memory.models import static, static_fit
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.static import (
    RARITY,
    WHITENING,
    distill_model,
    embed_tokens,
    make_table,
    principal_axes,
    rarity,
    read_vocabulary,
)
from cognitive_memory.models.static_fit import fit_directions
from cognitive_memory.models.verify import verify_model

MODEL = "all-MiniLM-L6-v2"
CLS, SEP = 2, 3
TEXTS = ["abc de", "fg hij kl", "mno p", "qr stu", "vw xyz a", "b d f", "zz top", "cab"]


@dataclass(frozen=True)
class Teacher:
    path: Path
    config: dict[str, Any]
    weights: Weights


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    config = tiny_config()
    weights = tiny_weights(config)
    recipe = write_source(folder / "source", config, weights)
    convert_model(folder / "source", folder / "tiny", recipe)
    return Teacher(folder / "tiny", config, weights)


# --- the steps ---


def test_the_vocabulary_is_what_texts_are_made_of(teacher: Teacher) -> None:
    vocabulary = read_vocabulary(teacher.path / TOKENIZER_FILE)
    assert vocabulary.ids.tolist() == list(range(4, len(VOCABULARY)))
    assert vocabulary.size == len(VOCABULARY)
    assert vocabulary.is_single.all()
    assert vocabulary.frame == ([CLS], [SEP])


def test_a_prompt_stands_before_each_token(teacher: Teacher) -> None:
    vocabulary = read_vocabulary(teacher.path / TOKENIZER_FILE, "b d ")
    before = [VOCABULARY[token] for token in vocabulary.frame[0]]
    assert (before, vocabulary.frame[1]) == (["[CLS]", "b", "d"], [SEP])


def test_special_and_unused_tokens_of_a_published_vocabulary_are_left_out(model_dir: Path) -> None:
    vocabulary = read_vocabulary(model_dir / TOKENIZER_FILE)
    document = json.loads((model_dir / TOKENIZER_FILE).read_text(encoding="utf-8"))
    ids = document["model"]["vocab"]
    kept, singles = set(vocabulary.ids.tolist()), set(vocabulary.ids[vocabulary.is_single].tolist())
    left_out = {token for token, i in ids.items() if i not in kept}
    unused = {f"[unused{number}]" for number in range(994)}
    assert left_out == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *unused}
    single = [token for token, i in ids.items() if i in singles]
    assert {"a", "##a", "!", "日"} <= set(single)
    assert max(len(token.removeprefix("##")) for token in single) == 1


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelIntegrityError, match="is not a tokenizer"):
        read_vocabulary(path)


def test_each_token_is_embedded_as_a_text_of_its_own(teacher: Teacher) -> None:
    vocabulary = read_vocabulary(teacher.path / TOKENIZER_FILE)
    rows, blank = embed_tokens(ModelFolder(lambda: teacher.path), vocabulary)
    texts = [[CLS, token, SEP] for token in vocabulary.ids.tolist()]
    expected = reference_vectors(teacher.weights, teacher.config, [*texts, [CLS, SEP]])
    np.testing.assert_allclose(np.vstack([rows, blank]), expected, atol=1e-5)


def test_rare_tokens_weigh_more(model_dir: Path) -> None:
    vocabulary = read_vocabulary(model_dir / TOKENIZER_FILE)
    weights = rarity(vocabulary)
    for kind in (vocabulary.is_single, ~vocabulary.is_single):
        assert (np.diff(weights[kind]) > 0).all()
    singles = int(vocabulary.is_single.sum())
    others = len(weights) - singles
    total = sum(1 / rank for count in (singles, others) for rank in range(1, count + 1))
    assert weights[~vocabulary.is_single][9] == pytest.approx(RARITY / (RARITY + 0.1 / total))


def test_axes_are_principal_and_partly_whitened() -> None:
    random = np.random.default_rng(0)
    scales = np.array([9, 4, 1, 0.25])
    turn, _ = np.linalg.qr(random.standard_normal((4, 4)))
    rows = np.asarray(random.standard_normal((5000, 4)) * scales @ turn, dtype=np.float32)
    axes = principal_axes(rows, 3)
    np.testing.assert_allclose(np.abs(normalize(axes.T) @ turn.T), np.eye(3, 4), atol=0.03)
    deviations = (rows @ axes).std(axis=0)
    np.testing.assert_allclose(deviations, scales[:3] ** (1 - WHITENING), rtol=0.05)
    # The direction of an axis does not hang on the mood of the solver.
    np.testing.assert_array_equal(principal_axes(-rows, 3), axes)
    assert (axes.max(axis=0) == np.abs(axes).max(axis=0)).all()


# --- the fit ---


def fit_case(seed: int = 0) -> tuple[Vector, list[NDArray[np.int64]], Vector, Vector]:
    """Rows, texts, their targets, and the rows that would give these targets."""
    random = np.random.default_rng(seed)
    true = random.standard_normal((40, 12)).astype(np.float32)
    texts = [random.integers(0, 30, random.integers(1, 9)) for _ in range(200)]
    targets = normalize(np.stack([true[text].sum(axis=0) for text in texts]))
    rows = (true + random.standard_normal(true.shape)).astype(np.float32)
    return rows, texts, targets, true


def test_the_fit_turns_rows_to_where_the_targets_come_from() -> None:
    rows, texts, targets, true = fit_case()
    turned = fit_directions(rows, texts, targets)
    before, after = (
        (normalize(each[:30]) * normalize(true[:30])).sum(axis=1) for each in (rows, turned)
    )
    assert after.mean() > before.mean() + 0.08
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5
    )


def test_the_fit_leaves_tokens_that_no_text_holds_as_they_are() -> None:
    rows, texts, targets, _ = fit_case()
    np.testing.assert_allclose(fit_directions(rows, texts, targets)[30:], rows[30:], rtol=1e-5)


def test_the_fit_is_ridge_regression() -> None:
    rows, texts, targets, _ = fit_case()
    counts = np.stack([np.bincount(text, minlength=len(rows)) for text in texts])
    scaled = counts / np.linalg.norm(counts @ rows, axis=1, keepdims=True)
    wanted = targets - targets.mean(axis=0)
    sums = scaled @ rows
    level = (sums * wanted).sum() / (sums * sums).sum()
    eye = np.eye(len(rows)) * static_fit.RIDGE
    moves = np.linalg.solve(scaled.T @ scaled + eye, scaled.T @ (wanted - level * sums))
    expected = normalize(np.asarray(level * rows + moves, dtype=np.float32))
    turned = fit_directions(rows, texts, targets)
    np.testing.assert_allclose(normalize(turned), expected, atol=1e-4)


def test_the_fit_does_not_depend_on_how_many_tokens_are_counted_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, texts, targets, _ = fit_case()
    whole = fit_directions(rows, texts, targets)
    monkeypatch.setattr(static_fit, "COLUMNS", 7)
    np.testing.assert_allclose(fit_directions(rows, texts, targets), whole, atol=1e-5)


def test_texts_without_a_known_token_do_not_count() -> None:
    rows, texts, targets, _ = fit_case()
    nothing: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    more = np.concatenate([targets, targets[:1]])
    np.testing.assert_array_equal(
        fit_directions(rows, [*texts, nothing], more), fit_directions(rows, texts, targets)
    )
    with pytest.raises(InvalidInputError, match=r"got 1 texts that hold a token; give from 2 to"):
        fit_directions(rows, [texts[0], nothing], targets[:2])


def test_too_many_texts_are_refused() -> None:
    rows, texts, targets, _ = fit_case()
    with pytest.raises(InvalidInputError, match=r"got 5200 texts .* to 5,000"):
        fit_directions(rows, texts * 26, np.concatenate([targets] * 26))


# --- the whole ---


def test_a_folder_describes_itself(teacher: Teacher, tmp_path: Path) -> None:
    told: list[str] = []
    config = distill_model(teacher.path, tmp_path / "out", dimension=24, report=told.append)
    assert config == read_model_config(tmp_path / "out")
    assert (config.name, config.precision, config.architecture) == ("tiny", "static", "static")
    assert (config.dimension, config.max_length, config.dimensions) == (24, MAX_LENGTH, ())
    assert config.source["teacher"] == read_model_config(teacher.path).fingerprint
    assert config.fingerprint.startswith("tiny/static/24/")
    assert set(config.files) == {TABLE_FILE, TOKENIZER_FILE}
    assert told == ["embedding the 52 tokens of tiny, one by one"]
    assert verify_model(tmp_path / "out", config) is None


def test_the_table_is_made_of_the_steps(teacher: Teacher, tmp_path: Path) -> None:
    distill_model(teacher.path, tmp_path / "out", dimension=24)
    table = np.load(tmp_path / "out" / TABLE_FILE)
    vocabulary = read_vocabulary(teacher.path / TOKENIZER_FILE)
    rows, blank = embed_tokens(ModelFolder(lambda: teacher.path), vocabulary)
    weighted = (rows - rows.mean(axis=0)) * rarity(vocabulary)[:, None]
    axes = principal_axes(weighted, 24)
    np.testing.assert_allclose(table[4:-1], weighted @ axes, atol=1e-5)
    np.testing.assert_allclose(table[-1], normalize((blank - rows.mean(axis=0)) @ axes), atol=1e-5)
    assert not table[:4].any()


def test_the_same_teacher_gives_the_same_bytes(teacher: Teacher, tmp_path: Path) -> None:
    first = distill_model(teacher.path, tmp_path / "first", texts=TEXTS, dimension=24)
    again = distill_model(teacher.path, tmp_path / "again", texts=TEXTS, dimension=24)
    assert first == again


def test_what_decides_the_vectors_is_in_the_fingerprint(teacher: Teacher, tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {"dimension": 24},
        {"dimension": 16},
        {"dimension": 24, "texts": TEXTS},
        {"dimension": 24, "texts": TEXTS[1:]},
        {"dimension": 24, "name": "mine"},
    ]
    fingerprints = [
        distill_model(teacher.path, tmp_path / str(number), **each).fingerprint
        for number, each in enumerate(variants)
    ]
    assert len(set(fingerprints)) == len(variants)
    assert fingerprints[-1].startswith("mine/static/24/")


def test_texts_bring_the_vectors_closer_to_the_teacher(teacher: Teacher, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(list(LETTERS), 6)) for _ in range(400)]
    held = [" ".join(random.choice(list(LETTERS), 6)) for _ in range(50)]
    with ONNXEmbeddingProvider(teacher.path) as provider:
        wanted = provider.encode_batch(held)
    agreement = []
    for name, given in (("plain", []), ("fitted", texts)):
        distill_model(teacher.path, tmp_path / name, dimension=32, texts=given)
        with StaticEmbeddingProvider(tmp_path / name) as made:
            agreement.append(correlation(made.encode_batch(held), wanted))
    assert agreement[1] > agreement[0] + 0.05


def correlation(vectors: Vector, wanted: Vector) -> float:
    """Of the cosines of all pairs."""
    pairs = np.triu_indices(len(vectors), 1)
    return float(np.corrcoef((vectors @ vectors.T)[pairs], (wanted @ wanted.T)[pairs])[0, 1])


@pytest.mark.parametrize("dimension", [0, 33, -1])
def test_a_dimension_beyond_the_teacher_is_refused(
    teacher: Teacher, tmp_path: Path, dimension: int
) -> None:
    with pytest.raises(InvalidInputError, match=f"got dimension {dimension}; tiny .* 1 to 32"):
        distill_model(teacher.path, tmp_path / "out", dimension=dimension)
    assert not (tmp_path / "out").exists()


def test_only_a_transformer_can_teach(teacher: Teacher, tmp_path: Path) -> None:
    distill_model(teacher.path, tmp_path / "out", dimension=24)
    with pytest.raises(ConversionError, match="tiny is static itself"):
        distill_model(tmp_path / "out", tmp_path / "more", dimension=24)
    with pytest.raises(ModelNotFoundError):
        distill_model(tmp_path, tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_a_damaged_table_names_the_command_that_renews_it(teacher: Teacher, tmp_path: Path) -> None:
    config = distill_model(teacher.path, tmp_path / "out", dimension=24)
    (tmp_path / "out" / TABLE_FILE).write_bytes(b"")
    with pytest.raises(ModelIntegrityError, match="run 'cognitive-memory model distill tiny'"):
        check_model_file(tmp_path / "out", config, TABLE_FILE)


# --- settings and the command ---


def wanted(model: Path | str, **values: Any) -> Settings:
    return Settings(embedding={"provider": "static", "model": str(model), **values})


def link_teacher(teacher: Teacher, folder: Path) -> Path:
    """A folder of the teacher beside which others may be made."""
    folder.mkdir()
    for path in teacher.path.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def linked(teacher: Teacher, tmp_path: Path) -> Path:
    """The teacher in a folder beside which others may be made."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    for path in teacher.path.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def test_the_first_use_distills(linked: Path, tmp_path: Path) -> None:
    target = linked.with_name("tiny-static")
    told: list[str] = []
    settings = wanted(linked)
    with create_system(settings, told.append) as system:
        assert not target.exists()
        system.store_experience("a b")
        system.store_experience("x y")
        assert system.search("b a", k=1)[0].memory.content == "a b"
    assert static_folder(settings) == target
    assert told == ["embedding the 52 tokens of tiny, one by one"]
    with create_system(wanted(target), told.append) as system:  # the folder itself
        assert system.search("x", k=1)[0].memory.content == "x y"
    assert len(told) == 1


def test_a_name_is_looked_up_in_the_models_folder(linked: Path, tmp_path: Path) -> None:
    distill_model(linked, linked.with_name("mine-static"), name="mine", dimension=16)
    settings = wanted("mine", dimension=None)
    there = Settings(models_dir=linked.parent, offline=True, embedding=settings.embedding)
    with create_embedding_provider(there) as provider:
        assert provider.fingerprint.startswith("mine/static/16/")
    elsewhere = Settings(models_dir=tmp_path / "none", offline=True, embedding=settings.embedding)
    with (
        create_embedding_provider(elsewhere) as provider,
        pytest.raises(ModelNotFoundError, match="unknown model 'mine'"),
    ):
        provider.encode("a")


@pytest.mark.parametrize("values", [{"precision": "int8"}, {"device": "cuda"}])
def test_static_embeddings_have_no_precision_and_no_device(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="the provider static has no precisions"):
        create_embedding_provider(wanted(MODEL, **values))


def test_what_brings_back_the_other_vectors_is_the_provider() -> None:
    table, exact = f"{MODEL}/static/256/aa", f"{MODEL}/fp32/384/bb"
    assert model_of(table, exact) == "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=static"
    assert model_of(exact, table) == "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"


@pytest.fixture
def command(
    linked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs ``model distill`` on the teacher."""
    monkeypatch.setenv("COGNITIVE_MEMORY_MODELS_DIR", str(linked.parent))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["model", "distill", "--from", str(linked), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_command_makes_the_folder_that_the_settings_use(
    command: Callable[..., tuple[int, str, str]], linked: Path
) -> None:
    code, out, err = command("--json")
    target = linked.with_name("tiny-static")
    config = read_model_config(target)
    expected = {"path": str(target), "fingerprint": config.fingerprint, "dimension": 32}
    assert (code, json.loads(out)) == (0, expected)
    assert "embedding the 52 tokens of tiny" in err
    code, out, _ = command()
    assert code == 0
    assert f"PROVIDER=static COGNITIVE_MEMORY_EMBEDDING__MODEL={linked}\n" in out


def test_the_command_takes_a_name_texts_and_a_folder(
    command: Callable[..., tuple[int, str, str]], linked: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(TEXTS), encoding="utf-8")
    code, out, err = command("mine", "--dimension", "16", "--texts", str(texts))
    assert (code, "fitting them to 8 texts" in err) == (0, True)
    config = read_model_config(linked.with_name("mine-static"))
    assert config.fingerprint.startswith("mine/static/16/")
    code, out, _ = command("mine", "--out", str(tmp_path / "here"), "--dimension", "16")
    assert code == 0
    assert f"__MODEL={tmp_path / 'here'}\n" in out
    # Without the texts it is another model.
    assert read_model_config(tmp_path / "here").fingerprint != config.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds no text; give one in each line"),
        (b" \n\n", "holds no text"),
        (b"\xff", "is not UTF-8 (byte 0)"),
        (b"a b\n", "got 1 texts that hold a token"),
    ],
)
def test_unusable_texts_are_refused(
    command: Callable[..., tuple[int, str, str]],
    linked: Path,
    tmp_path: Path,
    content: bytes | None,
    message: str,
) -> None:
    if content is not None:
        (tmp_path / "texts.txt").write_bytes(content)
    code, out, err = command("--texts", str(tmp_path / "texts.txt"))
    assert (code, out) == (1, "")
    assert message in err
    assert not linked.with_name("tiny-static").exists()


# --- the real model ---


PAIRS = [
    ("The cat sleeps on the sofa.", "A kitten naps on the couch."),
    ("Our database crashed last night.", "The server lost its data yesterday evening."),
    ("She plays the violin in an orchestra.", "He is a musician and practices the cello."),
    ("The train to Paris was late.", "Delays on the railway to France."),
    ("Bake the bread for forty minutes.", "The oven makes a crisp loaf."),
    ("The doctor prescribed antibiotics.", "Medicine for the infection from the hospital."),
]
"""Two texts of one meaning, with hardly a word in common."""


@pytest.fixture(scope="module")
def real(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distilled from the real model, for the tokens of the pairs and a thousand others.

    All thirty thousand take too long for a test.
    """
    whole = read_vocabulary(model_dir / TOKENIZER_FILE)
    tokenizer = TextTokenizer(model_dir / TOKENIZER_FILE, 256)
    texts = [text for pair in PAIRS for text in pair]
    needed = np.concatenate([ids for _, ids in tokenizer.stream(texts)])
    kept = np.isin(whole.ids, needed)
    kept[::28] = True
    part = replace(whole, ids=whole.ids[kept], is_single=whole.is_single[kept])
    model = ModelFolder(lambda: model_dir)
    folder = tmp_path_factory.mktemp("real") / f"{MODEL}-static"
    static._write(model, folder, MODEL, make_table(model, part, 256), [])
    return folder


def test_texts_of_one_meaning_are_closest(real: Path) -> None:
    with StaticEmbeddingProvider(real) as provider:
        first, second = (provider.encode_batch(texts) for texts in zip(*PAIRS, strict=True))
    assert (first @ second.T).argmax(axis=1).tolist() == list(range(len(PAIRS)))


def test_the_real_model_agrees_with_its_teacher(
    real: Path, provider: ONNXEmbeddingProvider
) -> None:
    texts = [text for pair in PAIRS for text in pair]
    with StaticEmbeddingProvider(real) as static_provider:
        vectors = static_provider.encode_batch(texts)
        assert static_provider.encode("").tolist() == static_provider.encode("\u200b").tolist()
    assert correlation(vectors, provider.encode_batch(texts)) > 0.6
