"""The command line as people and programs use it: results, exit codes, the two streams."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from cli_process import Cli
from tiny_onnx import Encoder, write_onnx

import cognitive_memory
from cognitive_memory.core.model_files import read_model_config
from cognitive_memory.storage.database import Database

MODEL = "all-MiniLM-L6-v2"
ALPS = "# Alps\n\nMont Blanc is the highest mountain of the Alps.\n"
PASTA = "# Kitchen\n\nIntro.\n\n## Pasta\n\nCook spaghetti for nine minutes in salted water.\n"
DIARY = "Today the cat slept on the warm keyboard.\n"
LONG = "\n".join([f"Line {n} about nothing in particular." for n in range(40)] + ["The zebra."])
COMMANDS = (
    ("store",),
    ("recall",),
    ("load",),
    ("status",),
    ("delete",),
    ("consolidate",),
    ("export",),
    ("import",),
    ("doctor",),
    ("model",),
    ("model", "pull"),
    ("model", "convert"),
    ("model", "add"),
    ("model", "distill"),
    ("model", "show"),
    ("model", "verify"),
    ("model", "remove"),
    ("model", "list"),
)


@pytest.fixture
def cli(tmp_path: Path, model_dir: Path) -> Cli:
    return Cli(tmp_path, model_dir.parent)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Cli:
    """A store that tests only read: notes in ``notes/``, a tagged text, a long text."""
    cli = Cli(tmp_path_factory.mktemp("loaded"), model_dir.parent)
    notes = cli.folder / "notes"
    notes.mkdir()
    (notes / "alps.md").write_text(ALPS, encoding="utf-8")
    (notes / "kitchen.md").write_text(PASTA, encoding="utf-8")
    (notes / "diary.txt").write_text(DIARY, encoding="utf-8")
    cli.run("load", "notes")
    cli.run("store", "Redis was dropped: the hit rate was 3%.", "-t", "adr", "-t", "cache")
    cli.run("store", "-", "--level", "0", "--importance", "0.5", stdin=LONG.encode())
    return cli


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        check=True,
    )


# --- store and recall ---


def test_store_an_argument_and_recall_it(cli: Cli) -> None:
    line = cli.results("store", "The key lies under the mat.", "-t", "home")
    word, memory_id = line.split()
    assert word == "stored"
    assert line == f"stored {memory_id}\n"
    (result,) = cli.json("recall", "where is the key?")["results"]
    assert (result["id"], result["content"]) == (memory_id, "The key lies under the mat.")


def test_store_standard_input(cli: Cli) -> None:
    text = "Ein Schlüssel 🔑\nunter der Matte\n"
    document = cli.json("store", "-", "--type", "semantic", stdin=text.encode())
    assert list(document) == ["id"]
    (result,) = cli.json("recall", "Schlüssel")["results"]
    assert result["id"] == document["id"]
    assert result["content"] == text
    assert result["memory_type"] == "semantic"


def test_a_text_that_begins_with_a_dash(cli: Cli) -> None:
    cli.run("store", "--", "-5 degrees at night")
    assert cli.json("recall", "degrees")["results"][0]["content"] == "-5 degrees at night"


def test_the_json_of_recall(loaded: Cli) -> None:
    document = loaded.json("recall", "why was Redis dropped?", "-k", "1")
    assert list(document) == ["query", "notices", "results"]
    assert document["query"] == "why was Redis dropped?"
    (result,) = document["results"]
    assert {name: type(value).__name__ for name, value in result.items()} == {
        "group": "str",
        "score": "float",
        "parts": "dict",
        "explanation": "str",
        "id": "str",
        "content": "str",
        "tags": "list",
        "hierarchy_level": "int",
        "memory_type": "str",
        "importance_score": "float",
        "source_path": "NoneType",
        "source_type": "str",
        "created_date": "str",
        "last_accessed": "str",
        "access_count": "int",
        "metadata": "dict",
    }
    assert result["group"] == "core"
    assert result["tags"] == ["adr", "cache"]
    assert (result["hierarchy_level"], result["memory_type"]) == (2, "episodic")
    assert (result["importance_score"], result["source_type"]) == (0.0, "cli")
    names = ["semantic", "lexical", "activation", "speaker", "importance"]
    assert list(result["parts"]) == names
    assert result["score"] == pytest.approx(sum(result["parts"].values()), abs=2e-6)
    for name in ("created_date", "last_accessed"):
        assert datetime.fromisoformat(result[name]).utcoffset() is not None


def test_recall_for_people(loaded: Cli) -> None:
    lines = loaded.results("recall", "how long does spaghetti cook?", "-k", "2").splitlines()
    heading, parts, *excerpt = lines[: lines.index("")]
    assert heading.startswith("1. ")
    assert heading.endswith("  kitchen.md > Pasta")
    assert parts.startswith("   core: semantic 0.")
    assert " + lexical 0.50" in parts
    assert "   Cook spaghetti for nine minutes in salted water." in excerpt
    assert any(line.startswith("2. ") for line in lines)
    assert not any(line.startswith("3. ") for line in lines)


def test_recall_finds_at_most_k(loaded: Cli) -> None:
    def ranked(*options: str) -> list[str]:
        results = loaded.json("recall", "the", *options)["results"]
        return [each["id"] for each in results if each["group"] != "bridge"]

    everything = ranked("-k", "100")
    assert len(everything) == loaded.json("status")["memory_counts"]["total"]
    assert ranked("-k", "2") == everything[:2]
    assert ranked() == everything[:5]


def test_recall_by_tag(loaded: Cli) -> None:
    results = loaded.json("recall", "mountain", "--tag", "nope", "-t", "cache")["results"]
    assert [each["tags"] for each in results] == [["adr", "cache"]]
    assert loaded.results("recall", "mountain", "--tag", "nope") == "nothing found\n"
    assert loaded.json("recall", "mountain", "--tag", "nope")["results"] == []


@pytest.mark.parametrize("spelling", ["notes/alps.md", "notes/../notes/alps.md", "~/notes/alps.md"])
def test_recall_by_source(loaded: Cli, spelling: str) -> None:
    results = loaded.json("recall", "cat", "--source", spelling)["results"]
    assert {each["source_path"] for each in results if each["group"] != "bridge"} == {
        str((loaded.folder / "notes/alps.md").resolve())
    }


def test_recall_shows_an_excerpt_or_the_full_text(loaded: Cli) -> None:
    excerpt = loaded.results("recall", "zebra", "-k", "1")
    assert "   The zebra.\n" in excerpt
    assert "   (38 more lines; --full shows them)\n" in excerpt
    assert "Line 0 " not in excerpt
    full = loaded.results("recall", "zebra", "-k", "1", "--full")
    assert [line[3:] for line in full.splitlines()[2:]] == LONG.splitlines()


def test_recall_from_a_folder_says_what_a_source_is(loaded: Cli) -> None:
    output = loaded.run("recall", "cat", "--source", "notes", "--json")
    notice = (
        f"nothing found from {(loaded.folder / 'notes').resolve()}, a folder: --source takes a "
        "file, or a repository whose history was loaded"
    )
    assert output.stderr == f"cognitive-memory: {notice}\n"
    document = json.loads(output.stdout)
    assert (document["results"], document["notices"]) == ([], [notice])


@pytest.mark.parametrize(
    "command",
    [("recall", "anything"), ("status",), ("delete", "--tag", "x"), ("consolidate",), ("export",)],
)
def test_only_what_stores_makes_a_store(cli: Cli, command: tuple[str, ...]) -> None:
    assert cli.error(*command) == (
        f"{cli.store} does not exist; the first store creates it: check COGNITIVE_MEMORY_DATA_DIR"
    )
    assert not cli.data.exists()


def test_recall_in_an_empty_store(cli: Cli) -> None:
    Database(cli.store).close()
    assert cli.results("recall", "anything") == "nothing found\n"
    assert cli.json("recall", "anything") == {"query": "anything", "notices": [], "results": []}


# --- load ---


def test_load_a_folder_then_an_edit_then_a_deletion(cli: Cli) -> None:
    notes = cli.folder / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "alps.md").write_text(ALPS, encoding="utf-8")
    (notes / "deep/kitchen.md").write_text(PASTA, encoding="utf-8")
    (notes / "diary.txt").write_text(DIARY, encoding="utf-8")
    first = cli.json("load", "notes")
    names = ["sources", "added", "updated", "unchanged", "deleted", "connections", "faults"]
    assert list(first) == names
    assert first == {
        "sources": 3,
        "added": 4,
        "updated": 0,
        "unchanged": 0,
        "deleted": 0,
        "connections": 2,
        "faults": [],
    }
    line = "3 sources: 0 memories added, 0 updated, 4 unchanged, 0 deleted\n"
    assert cli.results("load", "notes") == line
    assert cli.json("status")["memory_counts"]["total"] == 4

    ids = {each["content"]: each["id"] for each in cli.json("recall", "a", "-k", "9")["results"]}
    edited = PASTA.replace("nine minutes", "eleven minutes")
    (notes / "deep/kitchen.md").write_text(edited, encoding="utf-8")
    report = {**first, "added": 0, "updated": 1, "unchanged": 3}
    assert cli.json("load", "notes") == report, "only the edited section"
    results = cli.json("recall", "spaghetti", "-k", "9")["results"]
    assert "eleven minutes" in results[0]["content"]
    assert sorted(each["id"] for each in results) == sorted(ids.values())
    assert not any("nine minutes" in each["content"] for each in results)

    (notes / "deep/kitchen.md").write_text("# Kitchen\n\nIntro.\n", encoding="utf-8")
    assert cli.json("load", "notes")["deleted"] == 1
    assert cli.contents() == 3


def test_load_files_of_chosen_kinds(cli: Cli) -> None:
    (cli.folder / "alps.md").write_text(ALPS, encoding="utf-8")
    (cli.folder / "diary.txt").write_text(DIARY, encoding="utf-8")
    assert cli.json("load", "alps.md", "diary.txt")["sources"] == 2
    assert cli.json("load", ".", "--kind", "text")["sources"] == 1
    assert cli.json("load", ".", "--kind", "text", "--kind", "markdown")["unchanged"] == 2


def test_load_a_conversation_with_lines_that_are_none(cli: Cli) -> None:
    chat = cli.folder / "chat.jsonl"
    lines = ['{"speaker": "Ada", "text": "The key lies under the mat."}', "{", '{"text": "one"']
    chat.write_text("\n".join([*lines, '{"text": "Thanks!", "turn": 7}\n']), encoding="utf-8")
    reasons = [
        "2: not JSON: Expecting property name enclosed in double quotes at character 1",
        "3: not JSON: Expecting ',' delimiter at character 14",
    ]
    faults = [f"{chat.resolve()}:{each}; write one JSON object in a line" for each in reasons]
    output = cli.run("load", "chat.jsonl")
    assert output.stdout == (
        "1 sources: 2 memories added, 0 updated, 0 unchanged, 0 deleted, 2 lines or files skipped\n"
    )
    said = "".join(f"cognitive-memory: skipped {fault}\n" for fault in faults)
    assert output.stderr == said

    again = cli.run("load", ".", "--kind", "conversation", "--json")
    report = json.loads(again.stdout)
    assert (report["unchanged"], report["connections"], report["faults"]) == (2, 1, faults)
    assert again.stderr == said
    (best, *_) = cli.json("recall", "where is the key?")["results"]
    assert (best["content"], best["source_type"]) == (
        "Ada: The key lies under the mat.",
        "conversation",
    )
    assert best["metadata"]["speaker"] == "Ada"

    chat.write_text("{}\n", encoding="utf-8")
    assert cli.error("load", "chat.jsonl") == (
        f"no line of {chat.resolve()} can be taken as a part of a conversation; "
        f"{chat.resolve()}:1: no field 'text'; give one"
    )
    assert cli.contents() == 2


def test_load_a_git_repository(cli: Cli) -> None:
    repository = cli.folder / "project"
    repository.mkdir()
    git(repository, "init", "-q")
    (repository / "README.md").write_text(ALPS, encoding="utf-8")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Describe the mountains")
    first = cli.json("load", "project")
    assert (first["sources"], first["added"]) == (2, 2), "the file and the history"
    git(repository, "commit", "-q", "--allow-empty", "-m", "Drop the cache")
    second = cli.json("load", "project")
    assert (second["added"], second["updated"], second["unchanged"]) == (1, 0, 2)
    results = cli.json("recall", "who dropped the cache?", "--source", "project")["results"]
    assert results[0]["source_type"] == "git_commit"
    assert "by Ada on" in results[0]["content"]
    assert results[0]["metadata"]["title"] == "Drop the cache"


# --- status, delete, doctor ---


def test_status(loaded: Cli) -> None:
    stats = loaded.json("status")
    assert list(stats) == ["memory_counts", "storage_stats"]
    assert stats["memory_counts"] == {
        "total": 6,
        "level_0_concepts": 3,
        "level_1_contexts": 0,
        "level_2_episodes": 3,
    }
    storage = stats["storage_stats"]
    assert (storage["path"], storage["sources"]) == (str(loaded.store), 3)
    assert storage["fingerprint"].startswith(f"{MODEL}/fp32/384/")
    lines = loaded.results("status").splitlines()
    assert lines[0].startswith("6 memories (3 concepts, 0 contexts, 3 episodes), ")
    assert lines[1].startswith(f"store      {loaded.store} (0.")
    assert lines[2] == f"embedding  {storage['fingerprint']}"
    assert lines[3] == "sources    3"


def test_delete_by_id_tag_and_source(cli: Cli) -> None:
    (cli.folder / "diary.txt").write_text(DIARY, encoding="utf-8")
    cli.run("load", "diary.txt")
    one, two = (cli.store_text(text) for text in ("The first text.", "The second text."))
    cli.run("store", "The third text.", "-t", "x")
    cli.run("store", "The fourth text.", "-t", "x", "-t", "y")
    assert cli.results("delete", one, two) == "2 memories deleted\n"
    assert cli.json("delete", "--tag", "y", "--tag", "z") == {"deleted": 1}
    assert cli.error("delete", "--source", ".") == (
        f"no memory is from {cli.folder.resolve()}, a folder; name a file or repository "
        "that was loaded from it; nothing was deleted"
    )
    assert cli.json("delete", "--source", "./diary.txt") == {"deleted": 1}
    assert cli.json("delete", "--source", "./diary.txt") == {"deleted": 0}
    (left,) = cli.json("recall", "text", "-k", "9")["results"]
    assert left["content"] == "The third text."
    assert cli.json("delete", "--tag", "nope") == {"deleted": 0}
    assert cli.contents() == 1


def test_doctor(loaded: Cli) -> None:
    lines = loaded.results("doctor").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "ok     model",
        "ok     store",
        "ok     embedding",
    ]
    assert "golden vectors within" in lines[0]
    assert lines[1] == f"ok     store: {loaded.store}: 6 memories, sound, writable"
    fingerprint = loaded.json("status")["storage_stats"]["fingerprint"]
    assert lines[2] == f"ok     embedding: store and model agree on {fingerprint}"


def test_doctor_before_anything_is_here(cli: Cli) -> None:
    output = cli.run("doctor", code=1, env={"COGNITIVE_MEMORY_MODELS_DIR": str(cli.folder)})
    assert output.stderr == ""
    assert output.stdout.splitlines() == [
        f"FAULT  model: no model in {cli.folder / MODEL}; run 'cognitive-memory model pull'",
        f"ok     store: {cli.store} does not exist yet; the first store creates it",
        "ok     embedding: no store to compare with",
    ]
    assert not cli.data.exists(), "a look makes nothing"


def test_doctor_distills_nothing(cli: Cli, tmp_path: Path) -> None:
    env = {
        "COGNITIVE_MEMORY_MODELS_DIR": str(tmp_path / "models"),
        "COGNITIVE_MEMORY_EMBEDDING__PROVIDER": "static",
    }
    output = cli.run("doctor", code=1, env=env)
    path = tmp_path / "models" / f"{MODEL}-static"
    assert output.stdout.startswith(f"FAULT  model: no model in {path}; ")
    assert not (tmp_path / "models").exists()


# --- model ---


KNOWN = {
    "all-MiniLM-L6-v2": 384,
    "all-MiniLM-L12-v2": 384,
    "bge-small-en-v1.5": 384,
    "bge-base-en-v1.5": 768,
    "nomic-embed-text-v1.5": 768,
    "multilingual-e5-small": 384,
    "ruri-v3-30m": 256,
}


@pytest.fixture
def own(cli: Cli) -> Cli:
    """A models folder of its own, and an ONNX encoder in ``source``."""
    write_onnx(cli.folder / "source", Encoder().graph())
    (cli.folder / "models").mkdir()
    return Cli(cli.folder, cli.folder / "models")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


ADD = ("model", "add", "mine", "--from", "source", "--pooling", "mean", "--max-length", "16")


def test_model_list(loaded: Cli, linked_model: Path) -> None:
    # A folder of its own: that of the tests may hold more than one model.
    models = linked_model.parent
    env = {"COGNITIVE_MEMORY_MODELS_DIR": str(models)}
    first, *others = loaded.results("model", "list", env=env).splitlines()
    size = size_of(linked_model)
    assert first == (f"{MODEL}       here      fp32   384 dimensions  {size / 1e6:,.1f} MB")
    assert others[0] == "all-MiniLM-L12-v2      not here         384 dimensions"
    assert [line.split()[0] for line in (first, *others)] == list(KNOWN)
    document = loaded.json("model", "list", env=env)
    assert document["folder"] == str(models)
    assert document["models"].pop(MODEL) == {
        "here": True,
        "known": True,
        "bytes": size,
        "precision": "fp32",
        "dimension": 384,
    }
    assert document["models"] == {
        name: {"here": False, "known": True, "dimension": dimension}
        for name, dimension in KNOWN.items()
        if name != MODEL
    }
    linked_model.rename(models / f"{MODEL}-int8")
    last = loaded.results("model", "list", env=env).splitlines()[-1]
    assert last.startswith(f"{MODEL}-int8 ")
    assert last.endswith(f"  made from {MODEL}")


def test_model_verify(loaded: Cli) -> None:
    document = loaded.json("model", "verify")
    assert list(document) == ["path", "texts", "max_error"]
    assert document["path"] == str(loaded.models / MODEL)
    assert document["texts"] > 50
    assert document["max_error"] <= 1e-6
    assert loaded.json("model", "verify", MODEL) == document


def test_model_show(loaded: Cli) -> None:
    config = read_model_config(loaded.models / MODEL)
    document = loaded.json("model", "show")
    assert document["name"] == MODEL
    assert document["fingerprint"] == config.fingerprint
    assert document["source"] == config.source
    assert document["pinned"] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert document["files"][f"{MODEL}.ort"]["bytes"] == config.files[f"{MODEL}.ort"].bytes
    lines = loaded.results("model", "show", f"sentence-transformers/{MODEL}").splitlines()
    assert lines[:2] == [f"name: {MODEL}", "here: yes"]
    assert "  license: Apache-2.0" in lines


def test_model_show_of_a_model_that_is_not_here(loaded: Cli) -> None:
    assert loaded.json("model", "show", "bge-small-en-v1.5") == {
        "name": "bge-small-en-v1.5",
        "here": False,
        "repository": "BAAI/bge-small-en-v1.5",
        "license": "MIT",
        "pooling": "cls",
        "max_length": 512,
        "dimension": 384,
        "revision": "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
        "prompts": {"query": "Represent this sentence for searching relevant passages: "},
        "dimensions": [],
        "pinned": ["config.json", "model.safetensors", "tokenizer.json"],
        "commands": ["cognitive-memory model pull bge-small-en-v1.5"],
    }
    lines = loaded.results("model", "show", "bge-small-en-v1.5").splitlines()
    assert "  query: 'Represent this sentence for searching relevant passages: '" in lines


def test_a_model_from_its_addition_to_its_removal(own: Cli) -> None:
    path = own.models / "mine"
    document = own.json(*ADD, "--query-prompt", "q: ", "--dimensions", "4,2", "--license", "MIT")
    fingerprint = read_model_config(path).fingerprint
    assert document == {"path": str(path), "fingerprint": fingerprint, "dimension": 6}
    size = size_of(path)
    last = own.results("model", "list").splitlines()[-1]
    assert (
        last
        == f"mine                   here      fp32     6 dimensions  {size / 1e6:.1f} MB  added"
    )
    shown = own.json("model", "show", "mine")
    assert (shown["prompts"], shown["dimensions"]) == ({"query": "q: "}, [4, 2])
    assert shown["commands"] == [
        "cognitive-memory model verify mine",
        "cognitive-memory model remove mine",
        "COGNITIVE_MEMORY_EMBEDDING__MODEL=mine cognitive-memory recall ...",
    ]
    line = own.results("model", "verify", "mine")
    assert line == f"{path}: every byte as recorded; no golden vectors known\n"
    assert own.error(*ADD) == ("mine is there already; give --replace, or choose another name")
    assert own.results(*ADD, "--replace").splitlines()[-1] == (
        "to use it, set COGNITIVE_MEMORY_EMBEDDING__MODEL=mine"
    )
    assert own.json("model", "remove", "mine")["path"] == str(path)
    assert list(own.models.iterdir()) == []
    assert own.error("model", "remove", "mine") == (
        f"no model in {path}; see 'cognitive-memory model list'"
    )


def test_a_model_with_a_recipe_in_a_file(own: Cli) -> None:
    recipe = {"pooling": "cls", "max_length": 12, "prompts": {"query": "q: ", "document": "d: "}}
    (own.folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    arguments = ("model", "add", "mine", "--from", "source", "--recipe", "recipe.json")
    own.run(*arguments, "--max-length", "16", "--document-prompt", "e: ")
    config = read_model_config(own.models / "mine")
    assert (config.pooling, config.max_length) == ("cls", 16)
    assert config.prompts == {"query": "q: ", "document": "e: "}


def test_a_model_that_the_store_needs_is_kept(own: Cli) -> None:
    own.run(*ADD)
    env = {"COGNITIVE_MEMORY_EMBEDDING__MODEL": "mine"}
    own.run("store", "a cat", env=env)
    fingerprint = read_model_config(own.models / "mine").fingerprint
    assert own.error("model", "remove", "mine", env=env) == (
        f"the store holds vectors of {fingerprint}, which need mine for every query; run "
        "'cognitive-memory reembed' with another model first, or give --force"
    )
    own.run("model", "remove", "mine", "--force", env=env)
    assert not (own.models / "mine").exists()


@pytest.mark.parametrize("name", ["../source", "..", ".", "a/b", "/x/../y", ""])
@pytest.mark.parametrize("command", ["remove", "show", "verify"])
def test_names_that_lead_elsewhere_are_refused(own: Cli, command: str, name: str) -> None:
    message = own.error("model", command, name)
    assert message.startswith(("got the model name ", "no model in ", "unknown model "))
    assert (own.folder / "source" / "model.onnx").exists()


def test_a_folder_that_is_no_model_is_not_removed(own: Cli) -> None:
    (own.models / "mine").mkdir()
    (own.models / "mine" / "diary.txt").touch()
    assert own.error("model", "remove", "mine").startswith(f"no model in {own.models}/mine; ")
    assert (own.models / "mine" / "diary.txt").exists()


def test_a_damaged_description_is_listed_and_removed_by_force(own: Cli) -> None:
    own.run(*ADD)
    own.run("store", "a cat", env={"COGNITIVE_MEMORY_EMBEDDING__MODEL": "mine"})
    (own.models / "mine" / "model_config.json").write_text("{", encoding="utf-8")
    assert "damaged: " in own.results("model", "list").splitlines()[-1]
    assert "fault" in own.json("model", "list")["models"]["mine"]
    assert own.error("model", "remove", "mine").endswith("; or give --force to remove it")
    own.run("model", "remove", "mine", "--force")
    assert list(own.models.iterdir()) == []


def test_a_link_to_a_model_is_removed_and_not_the_model(own: Cli, cli: Cli) -> None:
    (own.models / MODEL).symlink_to(cli.models / MODEL)
    own.run("model", "remove", MODEL)
    assert list(own.models.iterdir()) == []
    assert (cli.models / MODEL / "model_config.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pooling", "mean"), "--max-length must be given, or stand in the file of --recipe"),
        ((), "--pooling and --max-length must be given, or stand in the file of --recipe"),
        (
            ("--recipe", "gone.json"),
            "the recipe gone.json cannot be read: [Errno 2] No such file or directory: 'gone.json'",
        ),
    ],
)
def test_a_model_without_its_recipe(own: Cli, arguments: tuple[str, ...], message: str) -> None:
    assert own.error("model", "add", "mine", "--from", "source", *arguments) == message
    assert list(own.models.iterdir()) == []


def test_model_verify_takes_the_historic_spelling(loaded: Cli) -> None:
    env = {"SENTENCE_BERT_MODEL": f"sentence-transformers/{MODEL}"}
    line = loaded.results("model", "verify", env=env)
    assert line.startswith(f"{loaded.models / MODEL}: every byte as recorded; ")


def test_model_pull_of_a_model_that_is_here(loaded: Cli) -> None:
    path = loaded.models / MODEL
    assert loaded.results("model", "pull") == f"ready: {path}\n"
    assert loaded.json("model", "pull", f"sentence-transformers/{MODEL}") == {"path": str(path)}


def test_model_pull_from_a_folder(cli: Cli) -> None:
    env = {"COGNITIVE_MEMORY_MODELS_DIR": str(cli.folder / "models")}
    assert cli.results("model", "list", env=env).startswith(f"{MODEL}       not here ")
    ready = cli.folder / "models" / MODEL
    output = cli.results("model", "pull", "--from", str(cli.models / MODEL), env=env)
    assert output == f"ready: {ready}\n"
    assert cli.json("model", "list", env=env)["models"][MODEL]["here"]


def test_model_convert(cli: Cli, source_dir: Path) -> None:
    document = cli.json("model", "convert", "--from", str(source_dir), "--out", "converted")
    fingerprint = read_model_config(cli.models / MODEL).fingerprint
    assert document == {"path": "converted", "fingerprint": fingerprint}
    assert read_model_config(cli.folder / "converted").fingerprint == fingerprint


# --- the program itself ---


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_help(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognitive_memory.cli import main

    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    captured = capsys.readouterr()
    assert end.value.code == 0
    assert captured.err == ""
    assert captured.out.startswith(f"usage: {' '.join(('cognitive-memory', *command))} ")
    names = {each[len(command)] for each in COMMANDS if each[:-1] == command}
    listed = {line.split()[0] for line in captured.out.splitlines() if line.startswith("    ")}
    assert names <= listed
    assert "==SUPPRESS==" not in captured.out


def test_version(loaded: Cli) -> None:
    assert loaded.results("--version") == f"cognitive-memory {cognitive_memory.__version__}\n"


def test_the_installed_command_is_this_one() -> None:
    from importlib.metadata import entry_points

    from cognitive_memory.cli import main

    (point,) = entry_points(group="console_scripts", name="cognitive-memory")
    assert point.load() is main


@pytest.mark.parametrize(
    "arguments",
    [("--debug", "recall", " "), ("recall", " ", "--debug"), ("recall", "--debug", " ")],
)
def test_debug_shows_the_traceback(loaded: Cli, arguments: tuple[str, ...]) -> None:
    output = loaded.run(*arguments, code=1, traceback=True)
    assert output.stdout == ""
    assert output.stderr.startswith("Traceback (most recent call last):\n")
    last = output.stderr.splitlines()[-1]
    assert last == "cognitive-memory: error: " + loaded.error("recall", " ")


def test_json_of_every_command_is_one_document_on_standard_output(cli: Cli) -> None:
    (cli.folder / "alps.md").write_text(ALPS, encoding="utf-8")
    for arguments in (
        ("load", "alps.md"),
        ("recall", "\x1b[31mÜber die Alpen"),
        ("delete", "--source", "alps.md"),
        ("doctor",),
    ):
        output = cli.run(*arguments, "--json")
        assert isinstance(json.loads(output.stdout), dict), arguments
        assert output.stderr == ""
        assert "\x1b" not in output.stdout
