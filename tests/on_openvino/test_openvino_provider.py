"""The OpenVINO provider against the contract, the golden vectors and ONNX Runtime."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import unmeasured

from cognitive_memory.core.config import Settings
from cognitive_memory.core.errors import (
    ConfigurationError,
    EmbeddingError,
    InvalidInputError,
    MissingExtraError,
    ModelIntegrityError,
)
from cognitive_memory.core.model_files import ModelFolder, read_model_config, record_file
from cognitive_memory.core.processor import Processor, detect_processor
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.openvino_provider import OpenVINOEmbeddingProvider, OpenVINOEngine
from cognitive_memory.factory import create_embedding_provider
from cognitive_memory.models.verify import TOLERANCE, GoldenSet
from cognitive_memory.testing import EmbeddingProviderContract

openvino = pytest.importorskip("openvino", reason="needs the extra 'openvino': make openvino")

NAME = "all-MiniLM-L6-v2"

needs_bfloat16 = pytest.mark.skipif(
    not detect_processor().has_bfloat16, reason="this processor has no bfloat16"
)


@pytest.fixture(scope="module")
def on_openvino(model_dir: Path) -> Iterator[OpenVINOEmbeddingProvider]:
    with OpenVINOEmbeddingProvider(model_dir) as provider:
        yield provider


def assert_same(found: Vector, expected: Vector) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0.0) <= TOLERANCE


class TestContract(EmbeddingProviderContract):
    @pytest.fixture
    def provider(self, on_openvino: OpenVINOEmbeddingProvider) -> OpenVINOEmbeddingProvider:
        return on_openvino


def test_golden_vectors_of_a_batch_and_one_by_one(
    on_openvino: OpenVINOEmbeddingProvider, golden: GoldenSet
) -> None:
    order = random.Random(7).sample(range(len(golden.texts)), len(golden.texts))
    vectors = on_openvino.encode_batch([golden.texts[index] for index in order])
    assert_same(vectors, golden.vectors[order])
    for index in order[:20]:
        assert_same(on_openvino.encode(golden.texts[index]), golden.vectors[index])


def test_fp32_has_the_fingerprint_of_the_other_provider(
    on_openvino: OpenVINOEmbeddingProvider, provider: ONNXEmbeddingProvider
) -> None:
    assert on_openvino.fingerprint == provider.fingerprint
    info = on_openvino.get_model_info()
    assert (info["precision"], info["device"]) == ("fp32", "cpu")
    assert info["path"].endswith(f"{NAME}.onnx")


def test_many_threads_get_the_same_vectors(
    on_openvino: OpenVINOEmbeddingProvider, golden: GoldenSet
) -> None:
    chosen = [index for index, text in enumerate(golden.texts) if len(text) < 200]
    with ThreadPoolExecutor(12) as threads:
        found = threads.map(on_openvino.encode, [golden.texts[index] for index in chosen])
        assert_same(np.stack(list(found)), golden.vectors[chosen])


@needs_bfloat16
def test_bf16_is_near_and_has_a_fingerprint_of_its_own(
    model_dir: Path, provider: ONNXEmbeddingProvider, golden: GoldenSet
) -> None:
    with OpenVINOEmbeddingProvider(model_dir, precision="bf16") as bf16:
        vectors = bf16.encode_batch(golden.texts)
        cosines = (vectors * golden.vectors).sum(axis=1)
        assert cosines.min() >= 0.9995
        assert np.abs(vectors - golden.vectors).max() > TOLERANCE, "or it were fp32"
        assert bf16.fingerprint.startswith(f"{NAME}/bf16/384/")
        assert bf16.fingerprint.rpartition("/")[2] != provider.fingerprint.rpartition("/")[2]
        assert bf16.get_model_info()["precision"] == "bf16"


def engine(model_dir: Path, features: str, precision: str = "bf16") -> OpenVINOEngine:
    return OpenVINOEngine(
        lambda: ModelFolder(lambda: model_dir),
        threads=1,
        workers=1,
        precision=precision,
        processor=lambda: Processor("x86_64", frozenset(features.split())),
    )


def test_bf16_is_refused_where_it_would_be_imitated(model_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="this processor does not multiply bfloat16"):
        engine(model_dir, "avx2 avx512f avx512_vnni").load()


def test_what_the_runtime_refuses_is_an_error(model_dir: Path) -> None:
    ids = np.zeros((1, 600), dtype=np.int64)  # the model knows 512 positions
    with pytest.raises(EmbeddingError, match=r"inference on \(1, 600\) tokens failed: "):
        engine(model_dir, "", "fp32").infer(ids, ids, True)


def test_settings_reach_the_provider(model_dir: Path) -> None:
    wanted = {"provider": "openvino", "cache_bytes": 0, "workers": 1, "overflow": "chunk"}
    settings = Settings(models_dir=model_dir.parent, embedding=wanted)
    with create_embedding_provider(settings, warm_up=True) as provider:
        assert type(provider) is OpenVINOEmbeddingProvider
        info = provider.get_model_info()
        assert (info["workers"], info["overflow"]) == (1, "chunk")
        assert provider.encode("text").shape == (384,)


def test_what_is_not_fp32_is_refused(linked_model: Path) -> None:
    replace(read_model_config(linked_model), precision="int8").write(linked_model)
    with (
        OpenVINOEmbeddingProvider(linked_model) as provider,
        pytest.raises(ConfigurationError, match=r"from an fp32 model; the one in .* is int8"),
    ):
        provider.encode("text")
    with pytest.raises(InvalidInputError, match="got precision 'fp16'; known: fp32, bf16"):
        OpenVINOEmbeddingProvider(linked_model, precision="fp16")


def test_a_graph_that_is_none_is_named(linked_model: Path) -> None:
    path = linked_model / f"{NAME}.onnx"
    path.unlink()
    path.write_bytes(b"no graph at all")
    config = read_model_config(linked_model)
    files = {**config.files, path.name: record_file(path)}
    replace(config, files=files).write(linked_model)
    with pytest.raises(ModelIntegrityError, match=rf"{path} cannot be loaded: "):
        OpenVINOEmbeddingProvider(linked_model).encode("text")


def test_a_closed_provider_says_so(model_dir: Path) -> None:
    with OpenVINOEmbeddingProvider(model_dir) as provider:
        provider.encode("text")
    with pytest.raises(EmbeddingError, match="this provider is closed; create another one"):
        provider.encode("text")


FORK = """
import os, signal, sys
import numpy as np
from cognitive_memory.encoding.openvino_provider import OpenVINOEmbeddingProvider

signal.alarm(90)
texts = ["We dropped Redis.", "river stone " * 40, "why?"] * 20
provider = OpenVINOEmbeddingProvider(sys.argv[1])
expected = provider.encode_batch(texts), provider.encode(texts[0])
child = os.fork()
found = provider.encode_batch(texts), provider.encode(texts[0])
for one, other in zip(found, expected):
    assert np.abs(one - other).max() <= 1e-6
provider.close()
if child == 0:
    sys.exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_child_of_a_fork_encodes_and_so_does_the_parent(model_dir: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(model_dir)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=unmeasured())
    assert (result.stdout, result.stderr) == ("0\n", "")


SILENT = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        print(event, arguments)

sys.addaudithook(refuse)
from cognitive_memory.encoding.openvino_provider import OpenVINOEmbeddingProvider

with OpenVINOEmbeddingProvider(sys.argv[1]) as provider:
    print(provider.encode("text").shape)
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""


def test_nothing_is_reported_to_anyone(model_dir: Path, tmp_path: Path) -> None:
    # Left to itself, importing OpenVINO sends an event and leaves a client id in ~/intel, but not
    # where it takes the variable CI to mean that nobody is there.
    kept = {name: value for name, value in unmeasured().items() if name != "CI"}
    places = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    for place in places.values():
        Path(place).mkdir()
    result = subprocess.run(
        [sys.executable, "-c", SILENT, str(model_dir)],
        env={**kept, **places},
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("(384,)\n[]\n", "")
    assert [path for place in places.values() for path in Path(place).rglob("*")] == []


def test_what_is_abandoned_is_never_destroyed(model_dir: Path) -> None:
    ours = engine(model_dir, "", "fp32")
    ids = np.ones((1, 3), dtype=np.int64)
    ours.infer(ids, ids, True)
    held = [ours._core, ours._compiled[True], ours._requests[True][0]]
    before = [sys.getrefcount(each) for each in held]
    ours.abandon()
    assert [sys.getrefcount(each) for each in held] == [count + 1 for count in before]
    ours.close()


def test_without_the_package_the_extra_is_named(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with OpenVINOEmbeddingProvider(model_dir) as provider:
        provider.warm_up()
        message = r"pip install 'cognitive-memory-onnx\[openvino\]'"
        with pytest.raises(MissingExtraError, match=message):
            provider.encode("text")
