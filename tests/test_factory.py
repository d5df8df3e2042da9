"""Settings to objects, third parties' included."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cognitive_memory import CognitiveMemorySystem, Settings, create_system
from cognitive_memory.core.errors import (
    ConfigurationError,
    InvalidInputError,
    ModelNotFoundError,
)
from cognitive_memory.core.memory import ConnectionType, MemoryConnection
from cognitive_memory.core.model_files import read_model_config
from cognitive_memory.diagnosis import Finding, diagnose
from cognitive_memory.encoding.cache import CachedEmbeddingProvider
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.factory import create_embedding_provider, create_loaders
from cognitive_memory.model_folders import model_folder, prepare_model
from cognitive_memory.providers import PROVIDER_GROUP
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.stores import VECTORS_GROUP

MODEL = "all-MiniLM-L6-v2"

PLUGIN = '''
import numpy as np

from cognitive_memory import EmbeddingProvider


class Lengths(EmbeddingProvider):
    """The length of a text on the first axis, the number of its words on the second."""

    dimension = 2
    fingerprint = "lengths/2"

    def __init__(self, settings):
        self.settings = settings

    def encode_batch(self, texts):
        rows = [[len(text), len(text.split()) or 1] for text in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(-1, 2)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
'''

Install = Callable[[str, dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with entry points of a group, and the module ``plugin``, on the path."""

    def install(group: str, points: dict[str, str]) -> None:
        folder = tmp_path / "site"
        record = folder / "memory_plugin-1.0.dist-info"
        record.mkdir(parents=True)
        metadata = "Metadata-Version: 2.1\nName: memory-plugin\nVersion: 1.0\n"
        (record / "METADATA").write_text(metadata, encoding="utf-8")
        lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (record / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        (folder / "memory_plugin_module.py").write_text(PLUGIN, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)

    return install


@pytest.mark.parametrize("name", ["onnx", "sentence-bert"])
def test_the_built_in_provider_has_two_names(name: str) -> None:
    with create_embedding_provider(Settings(embedding={"provider": name})) as provider:
        assert isinstance(provider, CachedEmbeddingProvider)
        assert type(provider.provider) is ONNXEmbeddingProvider


def test_without_a_cache_the_provider_is_bare() -> None:
    with create_embedding_provider(Settings(embedding={"cache_bytes": 0})) as provider:
        assert type(provider) is ONNXEmbeddingProvider


def test_the_cache_on_disk_serves_the_next_process(models_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "all-MiniLM-L6-v2").symlink_to(models_dir / "all-MiniLM-L6-v2")
    settings = Settings(models_dir=folder, embedding={"disk_cache_bytes": 1_000_000})
    hits = []
    for _ in range(2):
        with create_embedding_provider(settings) as provider:
            assert isinstance(provider, CachedEmbeddingProvider)
            provider.encode_batch(["one text", "another"])
            hits.append(provider.statistics.disk_hits)
    assert hits == [0, 2]


def test_settings_reach_the_provider_and_the_system(models_dir: Path) -> None:
    settings = Settings(
        models_dir=models_dir,
        embedding={"workers": 1, "threads": 1, "overflow": "chunk"},
        max_text_bytes=5,
    )
    with create_system(settings) as system:
        assert isinstance(system, CognitiveMemorySystem)
        assert isinstance(system.vectors, SQLiteVectorStorage)
        info = system.embedding_provider.get_model_info()
        assert [info[name] for name in ("workers", "threads", "overflow")] == [1, 1, "chunk"]
        with pytest.raises(ValueError, match="the limit is 5"):
            system.store_experience("123456")
        kinds = [loader.kind for loader in system.loaders]
        assert kinds == [loader.kind for loader in create_loaders()]
        assert kinds == ["markdown", "text", "conversation", "git"]


RETRIEVAL: dict[str, dict[str, float]] = {
    "nothing but meaning": dict.fromkeys(
        ("lexical_weight", "activation_weight", "speaker_weight", "importance_weight"), 0
    ),
    "everything": dict.fromkeys(("recency_weight", "access_weight", "dimensions_weight"), 0.1),
    "other factors": {
        "semantic_weight": 0.5,
        "lexical_weight": 0.25,
        "speaker_weight": 0.75,
        "importance_weight": 0.125,
    },
}


def test_settings_reach_the_ranking(models_dir: Path) -> None:
    found = {}
    for name, given in {"default": {}, **RETRIEVAL}.items():
        with create_system(Settings(models_dir=models_dir, retrieval=given)) as system:
            if name == "default":
                context = {"importance_score": 1.0, "speaker": "Ada"}
                system.store_experience("We dropped Redis.", context)
            (result,) = system.search("why did Ada drop redis?")
            found[name] = dict(result.parts)
    default = found["default"]
    assert list(default) == ["semantic", "lexical", "activation", "speaker", "importance"]
    assert (default["speaker"], default["importance"]) == (0.3, 0.05)
    assert found["nothing but meaning"] == {"semantic": default["semantic"], "lexical": 0.0}
    assert list(found["everything"]) == [*default, "recency", "access", "dimensions"]
    assert found["other factors"] == {
        "semantic": pytest.approx(0.5 * default["semantic"]),
        "lexical": pytest.approx(0.5 * default["lexical"]),
        "activation": 0.0,
        "speaker": 0.75,
        "importance": 0.125,
    }


@pytest.mark.parametrize(
    ("retrieval", "reached"),
    [
        ({}, []),
        ({"associative_weight": 0.5}, ["likes"]),
        ({"entity_weight": 0.5}, ["names"]),
        ({"associative_weight": 0.5, "entity_weight": 0.5}, ["likes", "names", "second"]),
        (
            {"associative_weight": 0.5, "entity_weight": 0.5, "activation_hops": 1},
            ["likes", "names"],
        ),
        ({"associative_weight": 0.5, "activation_hops": 0}, []),
        ({"associative_weight": 0.5, "activation_decay": 0}, []),
    ],
    ids=str,
)
def test_settings_say_which_edges_pass_activation_on(
    models_dir: Path, retrieval: dict[str, float], reached: list[str]
) -> None:
    texts = ["We dropped Redis.", "likes", "names", "second"]
    with create_system(Settings(models_dir=models_dir, retrieval=retrieval)) as system:
        assert isinstance(system, CognitiveMemorySystem)
        core, likes, names, second = system.store_experiences(texts)
        system.connections.add_connections(
            [
                MemoryConnection(core, likes, ConnectionType.ASSOCIATIVE),
                MemoryConnection(core, names, ConnectionType.ENTITY),
                MemoryConnection(likes, second, ConnectionType.ENTITY),
            ]
        )
        results = system.search("why was redis dropped?")
    gained = {result.memory.content for result in results if result.parts["activation"] > 0}
    assert sorted(gained - {texts[0]}) == reached


def test_a_system_reads_no_model_before_text_is_embedded(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path / "none", offline=True)
    with create_system(settings, warm_up=True) as system:
        assert system.get_memory_stats()["memory_counts"]["total"] == 0
        with pytest.raises(ModelNotFoundError, match="forbids to fetch it"):
            system.store_experience("text")
    assert not (tmp_path / "none").exists()


def test_an_unknown_provider_is_answered_with_the_known_ones(install: Install) -> None:
    settings = Settings(embedding={"provider": "openai"})
    with pytest.raises(ConfigurationError) as error:
        create_embedding_provider(settings)
    start = "COGNITIVE_MEMORY_EMBEDDING__PROVIDER='openai' is not known; known: "
    assert str(error.value) == f"{start}onnx, openvino, sentence-bert, static"
    install(PROVIDER_GROUP, {"lengths": "memory_plugin_module:Lengths"})
    with pytest.raises(ConfigurationError) as error:
        create_embedding_provider(settings)
    assert str(error.value) == f"{start}lengths, onnx, openvino, sentence-bert, static"


def test_an_unknown_vector_storage_is_answered_with_the_known_ones(
    install: Install, tmp_path: Path
) -> None:
    install(VECTORS_GROUP, {"mine": "memory_plugin_module:Lengths"})
    with pytest.raises(ConfigurationError) as error:
        create_system(Settings(storage={"vectors": "faiss"}))
    message = str(error.value)
    assert message.startswith("COGNITIVE_MEMORY_STORAGE__VECTORS='faiss' is not known; known: ")
    assert {"mine", "sqlite"} <= set(message.rpartition(": ")[2].split(", "))
    data = [path.name for path in (tmp_path / "data").iterdir()]
    assert data == ["memories.db"], "closed, or its log would be there"


def test_an_installed_provider_is_found_and_used(install: Install, tmp_path: Path) -> None:
    install(PROVIDER_GROUP, {"lengths": "memory_plugin_module:Lengths"})
    settings = Settings(embedding={"provider": "lengths"}, models_dir=tmp_path / "none")
    with create_system(settings) as system:
        assert isinstance(system, CognitiveMemorySystem)
        assert isinstance(system.embedding_provider, CachedEmbeddingProvider)
        provider = system.embedding_provider.provider
        assert type(provider).__module__ == "memory_plugin_module"
        assert getattr(provider, "settings", None) is settings
        system.store_experiences(["one two three", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"])
        assert system.search("six seven nine")[0].memory.content == "one two three"
        assert system.get_memory_stats()["storage_stats"]["fingerprint"] == "lengths/2"
    assert list(diagnose(settings)) == [
        Finding("model", True, "lengths/2 of provider lengths"),
        Finding("store", True, f"{settings.store_path}: 2 memories, sound, writable"),
        Finding("embedding", True, "store and model agree on lengths/2"),
    ]


def test_doctor_tells_of_memories_without_a_vector(install: Install) -> None:
    install(PROVIDER_GROUP, {"lengths": "memory_plugin_module:Lengths"})
    settings = Settings(embedding={"provider": "lengths"})
    with create_system(settings) as system:
        system.store_experiences(["one", "two"])
    with closing(sqlite3.connect(settings.store_path)) as store, store:
        store.execute("DELETE FROM vectors WHERE chunk = 0 AND memory_pk = 1")
    assert [each for each in diagnose(settings) if not each.sound] == [
        Finding(
            "store",
            False,
            f"{settings.store_path}: 1 memories have no vector; load or store them again",
        )
    ]


@pytest.mark.parametrize("value", ["no_such_module:Provider", "memory_plugin_module:NoSuchClass"])
def test_an_entry_point_that_cannot_be_imported(install: Install, value: str) -> None:
    install(PROVIDER_GROUP, {"broken": value})
    settings = Settings(embedding={"provider": "broken"})
    with pytest.raises(ConfigurationError) as error:
        create_embedding_provider(settings)
    assert str(error.value).startswith(
        f"COGNITIVE_MEMORY_EMBEDDING__PROVIDER='broken' stands for {value}, "
        "which cannot be imported: "
    )


def test_doctor_tells_of_unknown_names(tmp_path: Path) -> None:
    create_system().close()
    faults = [
        each.detail
        for each in diagnose(Settings(embedding={"provider": "x"}, storage={"vectors": "y"}))
        if not each.sound
    ]
    assert [detail.partition("=")[0] for detail in faults] == [
        "COGNITIVE_MEMORY_EMBEDDING__PROVIDER",
        "COGNITIVE_MEMORY_STORAGE__VECTORS",
    ]


def test_where_the_model_is_looked_for(
    tmp_path: Path, linked_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"

    def folder(model: str) -> Path:
        return model_folder(Settings(models_dir=models, embedding={"model": model}))

    assert folder(MODEL) == models / MODEL
    assert folder(f"sentence-transformers/{MODEL}") == models / MODEL
    assert folder(str(linked_model)) == linked_model
    assert folder("/nowhere/at/all") == Path("/nowhere/at/all")
    monkeypatch.chdir(linked_model.parent.parent)
    relative = linked_model.relative_to(linked_model.parent.parent)
    assert folder(str(relative)) == relative, "a folder that holds a model"
    for neither in (f"elsewhere/{MODEL}", "..", f"../{MODEL}"):
        with pytest.raises(InvalidInputError, match="got the model name"):
            folder(neither)
    assert model_folder(Settings(models_dir=models), "other") == models / "other"


@pytest.mark.parametrize(
    ("precision", "name"),
    [
        (None, MODEL),
        ("fp32", MODEL),
        ("bf16", MODEL),
        ("fp16", f"{MODEL}-fp16"),
        ("int8", f"{MODEL}-int8"),
    ],
)
def test_each_stored_precision_has_a_folder(
    tmp_path: Path, linked_model: Path, precision: str | None, name: str
) -> None:
    settings = Settings(models_dir=tmp_path, embedding={"precision": precision})
    assert model_folder(settings) == tmp_path / name
    assert model_folder(settings, MODEL) == tmp_path / MODEL, "named, so not the configured one"
    given = {"precision": precision, "model": str(linked_model)}
    assert model_folder(Settings(embedding=given)) == linked_model


def test_a_folder_given_as_the_model_has_the_precision_that_was_asked_for(
    linked_model: Path,
) -> None:
    for precision in (None, "fp32"):
        given = {"model": str(linked_model), "precision": precision}
        with create_embedding_provider(Settings(embedding=given)) as provider:
            assert provider.fingerprint.startswith(f"{MODEL}/fp32/384/")
    settings = Settings(embedding={"model": str(linked_model), "precision": "int8"})
    message = f"PRECISION='int8', but the model in {linked_model} is fp32; name another model"
    with (
        create_embedding_provider(settings) as provider,
        pytest.raises(ConfigurationError, match=message),
    ):
        provider.encode("text")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"precision": "bf16"}, "PRECISION='bf16' is computed by OpenVINO alone; set .*openvino"),
        (
            {"precision": "bf16", "device": "openvino"},
            "PRECISION='bf16' is computed by OpenVINO alone; set .*PROVIDER=openvino",
        ),
        (
            {"provider": "openvino", "precision": "int8"},
            "on the processor; got precision int8, device auto; set .*PROVIDER=onnx",
        ),
        ({"provider": "openvino", "device": "cuda"}, "got precision fp32, device cuda"),
        ({"device_memory_mb": 10, "device": "cpu"}, "limits cuda and tensorrt, not cpu"),
        ({"provider": "openvino", "device_memory_mb": 10}, "limits cuda and tensorrt, not cpu"),
    ],
)
def test_what_no_provider_computes_is_refused_at_once(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        create_embedding_provider(Settings(embedding=wanted))


def test_a_cut_embedding_is_another_one_to_the_doctor(linked_model: Path, tmp_path: Path) -> None:
    replace(read_model_config(linked_model), dimensions=(128,)).write(linked_model)
    whole = {"model": str(linked_model)}
    with create_system(Settings(embedding=whole)) as system:
        system.store_experience("We dropped Redis.")
    cut = Settings(embedding={**whole, "dimension": 128})
    faults = [each.detail for each in diagnose(cut) if each.check == "embedding"]
    assert "the configured model gives all-MiniLM-L6-v2/fp32/128/" in faults[0]


def test_a_model_given_as_a_folder_is_used_where_it_is(
    linked_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked_model.rename(linked_model.with_name("my-model"))
    monkeypatch.chdir(folder.parent)
    for model in (str(folder), "my-model", "./my-model"):
        settings = Settings(models_dir=tmp_path / "none", offline=True, embedding={"model": model})
        with create_embedding_provider(settings) as provider:
            assert provider.encode("text").shape == (384,)
            assert Path(provider.get_model_info()["path"]).parent.samefile(folder)
    assert not (tmp_path / "none").exists()


def test_a_model_is_prepared_once_it_is_missing(models_dir: Path, tmp_path: Path) -> None:
    told: list[str] = []
    assert prepare_model(Settings(models_dir=models_dir), told.append) == models_dir / MODEL
    with pytest.raises(
        ModelNotFoundError, match=r"unknown model 'nope'; known: .*all-MiniLM-L6-v2"
    ):
        prepare_model(Settings(models_dir=tmp_path, embedding={"model": "nope"}), told.append)
    assert told == []


def test_a_warm_system_gives_the_same_answers(models_dir: Path, tmp_path: Path) -> None:
    settings = Settings(models_dir=models_dir)
    with create_system(settings, warm_up=True) as system:
        memory_id = system.store_experience("The key lies under the mat.")
        assert system.search("key")[0].memory.id == memory_id
