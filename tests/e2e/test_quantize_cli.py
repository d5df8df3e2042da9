"""``model quantize`` as a process, and a store whose precision is changed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import HANG_SECONDS, Cli

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from tiny_bert import LETTERS, tiny_config, tiny_weights, write_source

from cognitive_memory.core.model_files import read_model_config
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.foreign import add_model

MODEL = "all-MiniLM-L6-v2"
WORDS = [f"{a}{b} {b}{a}" for a in LETTERS[:8] for b in LETTERS[::5]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a tiny model of one's own."""
    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_config()
    recipe = write_source(folder / "source", config, tiny_weights(config))
    convert_model(folder / "source", folder / "models" / "tiny", recipe)
    return folder / "models"


@pytest.fixture
def cli(made: Path, tmp_path: Path) -> Cli:
    """A copy of it, with calibration and held texts beside it."""
    shutil.copytree(made, tmp_path / "models")
    (tmp_path / "texts.txt").write_text("\n".join(WORDS[20:]), encoding="utf-8")
    pairs = [json.dumps({"query": word, "text": f"{word} a"}) for word in WORDS[:20]]
    (tmp_path / "held.jsonl").write_text("\n".join(pairs), encoding="utf-8")
    return Cli(tmp_path, tmp_path / "models")


QUANTIZE = ("model", "quantize", "tiny", "--texts", "texts.txt", "--held", "held.jsonl")


def models(cli: Cli) -> dict[str, bytes]:
    return {
        str(path.relative_to(cli.models)): path.read_bytes()
        for path in sorted(cli.models.rglob("*"))
        if path.is_file()
    }


def test_a_model_is_made_and_can_be_used(cli: Cli) -> None:
    output = cli.run(*QUANTIZE, "--json")
    document = json.loads(output.stdout)
    target = cli.models / "tiny-int8"
    assert document["path"] == str(target)
    assert document["fingerprint"] == read_model_config(target).fingerprint
    assert document["precision_map"] == {"default": "int8"}
    assert document["quality"]["mean_cosine"] >= document["gate"]["mean_cosine"] == 0.995
    assert document["quality"]["retention"] >= document["gate"]["retention"] == 0.99
    progress = output.stderr.splitlines()
    assert progress[0] == "cognitive-memory: calibrating tiny with 28 texts"
    assert progress[1].startswith("cognitive-memory: tiny in int8: mean cosine 0.99")
    env = {"COGNITIVE_MEMORY_EMBEDDING__MODEL": "tiny"}
    env["COGNITIVE_MEMORY_EMBEDDING__PRECISION"] = "int8"
    cli.run("store", "abc def", env=env)
    results = cli.json("recall", "abc def", env=env)["results"]
    assert [each["content"] for each in results] == ["abc def"]
    assert "every byte as recorded" in cli.results("model", "verify", "tiny-int8")
    assert cli.json("model", "list")["models"]["tiny-int8"]["precision"] == "int8"


def test_it_says_how_the_result_is_used(cli: Cli) -> None:
    lines = cli.run(*QUANTIZE).stdout.splitlines()
    assert lines[0].startswith(f"quantized and measured: {cli.models / 'tiny-int8'} (tiny/int8/32/")
    assert lines[1] == (
        "to use it, set COGNITIVE_MEMORY_EMBEDDING__MODEL=tiny "
        "COGNITIVE_MEMORY_EMBEDDING__PRECISION=int8"
    )
    lines = cli.run(*QUANTIZE, "--out", "elsewhere").stdout.splitlines()
    setting = f"COGNITIVE_MEMORY_EMBEDDING__MODEL={cli.folder.resolve() / 'elsewhere'}"
    assert lines[1] == f"to use it, set {setting}"
    name, _, value = setting.partition("=")
    cli.run("store", "abc", env={name: value})
    env = {"COGNITIVE_MEMORY_EMBEDDING__MODEL": "tiny"}
    lines = cli.run(*QUANTIZE[:2], *QUANTIZE[3:], env=env).stdout.splitlines()
    assert lines[1] == "to use it, set COGNITIVE_MEMORY_EMBEDDING__PRECISION=int8"


@pytest.mark.parametrize(
    ("options", "folder", "kept"),
    [
        (["--precision", "fp16"], "tiny-fp16", {"default": "fp16"}),
        (["--map", "int8,output=fp32"], "tiny-int8", {"default": "int8", "output": "fp32"}),
        (["--map", "map.json"], "tiny-int8", {"layer.1": "int8"}),
        (["--map", "fp16,embeddings=fp32"], "tiny-fp16", {"default": "fp16", "embeddings": "fp32"}),
        (["--method", "dynamic"], "tiny-int8", {"default": "int8"}),
        (["--search"], "tiny-int8", {"default": "int8", "embeddings": "int8"}),
    ],
)
def test_precisions_maps_and_methods(
    cli: Cli, options: list[str], folder: str, kept: dict[str, str]
) -> None:
    (cli.folder / "map.json").write_text('{"layer.1": "int8"}', encoding="utf-8")
    document = json.loads(cli.run(*QUANTIZE, *options, "--json").stdout)
    assert document["path"] == str(cli.models / folder)
    assert document["precision_map"] == kept
    config = read_model_config(cli.models / folder)
    assert config.precision_map == kept
    assert config.converter.endswith("(dynamic)") == ("dynamic" in options)


# --- bad input: one line, an exit code, nothing written ---


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--map", "int9"], "precision map: default='int9' is not known; known: fp32, fp16, int8"),
        (["--map", ""], "precision map: default='' is not known; known: fp32, fp16, int8"),
        (
            ["--map", "int8,head=fp32"],
            "precision map: 'head' is no part of a model; known: default",
        ),
        (["--map", "int8,layer.01=fp32"], "precision map: 'layer.01' is no part of a model; known"),
        (
            ["--map", "int8,layer.2=fp32"],
            "precision map: layer.2 does not exist; the model has the",
        ),
        (["--map", "fp32"], "the precision map keeps everything in fp32: nothing to do"),
        (["--map", "none.json"], "none.json cannot be read as a precision map: "),
        (["--map", "list.json"], "list.json is no precision map: a JSON object of names and"),
        (["--map", "int8", "--search"], "--map gives the map that --search looks for; use one of"),
        (["--texts", "empty"], "empty holds no text; give some that are like your own"),
        (["--texts", "latin"], "latin cannot be read: 'utf-8' codec can't decode byte 0xe9"),
        (["--texts", "none"], "none cannot be read: [Errno 2] No such file or directory"),
        (["--texts", "half.jsonl"], "half.jsonl line 1 is no JSON of valid Unicode: "),
        (["--held", "empty"], "empty holds no text; give some that are like your own"),
        (["--held", "half.jsonl"], "half.jsonl line 1 is no JSON of valid Unicode: "),
        (["--held", "query"], "query line 1: an object with 'query' and 'text' is expected"),
        (["--min-cosine", "2"], "--min-cosine 2.0: it must be between 0 and 1"),
        (["--min-cosine", "nan"], "--min-cosine nan: it must be between 0 and 1"),
        (["--min-retention", "-0.1"], "--min-retention -0.1: it must be between 0 and 1"),
        (["--out", "models/tiny"], "models/tiny is the fp32 model itself; give another folder"),
        (["--map", "int8", "--precision", "fp16"], "--precision is that of all parts"),
        (["--search", "--precision", "int8"], "--precision is that of all parts"),
        (["--out", "models"], "models holds other things than a model; give a folder of its own"),
        (["--out", "empty/x"], "cannot write "),
    ],
    ids=" ".join,
)
def test_what_does_not_fit_is_refused_before_anything_is_done(
    cli: Cli, options: list[str], reason: str
) -> None:
    (cli.folder / "empty").write_text(" \n\n\t", encoding="utf-8")
    (cli.folder / "latin").write_bytes(b"caf\xe9\n")
    (cli.folder / "half.jsonl").write_text('"\\ud800"\n', encoding="utf-8")
    (cli.folder / "list.json").write_text('["int8"]', encoding="utf-8")
    (cli.folder / "query").write_text('{"text": "t"}', encoding="utf-8")
    before = models(cli)
    assert cli.error(*QUANTIZE, *options).startswith(reason)
    assert models(cli) == before
    assert [path.name for path in cli.models.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    "options", [["--precision", "int4"], ["--method", "magic"], ["--min-cosine", "much"]]
)
def test_wrong_usage(cli: Cli, options: list[str]) -> None:
    line = cli.usage_error(*QUANTIZE, *options)
    assert f"argument {options[0]}: invalid" in line
    assert repr(options[1]) in line


@pytest.mark.parametrize("there", [False, True], ids=["new", "replacing"])
def test_below_the_gate_nothing_is_written(cli: Cli, there: bool) -> None:
    if there:
        cli.run(*QUANTIZE)
    before = models(cli)
    output = cli.run(*QUANTIZE, "--method", "dynamic", "--min-cosine", "0.99999", code=1)
    assert output.stdout == ""
    last = output.stderr.splitlines()[-1]
    assert last.startswith(
        "cognitive-memory: error: tiny in int8 is below the gate and was not written: mean cosine "
    )
    assert "; needed are mean cosine 0.99999 and retention 99.0%; keep more of it in fp32" in last
    assert models(cli) == before
    assert sorted(path.name for path in cli.models.iterdir()) == ["tiny", "tiny-int8"][: 1 + there]


def test_a_search_that_finds_nothing_writes_nothing(cli: Cli) -> None:
    output = cli.run(*QUANTIZE, "--search", "--min-cosine", "1", code=1)
    last = output.stderr.splitlines()[-1]
    assert last.startswith(
        "cognitive-memory: error: no precision map passes the gate: with the emb"
    )
    assert [path.name for path in cli.models.iterdir()] == ["tiny"]


def test_sources_that_cannot_be_quantized(cli: Cli, alter_byte: Callable[[Path], None]) -> None:
    cli.run(*QUANTIZE)
    assert cli.error("model", "quantize", "tiny-int8") == (
        f"{cli.models / 'tiny-int8'} is in int8; only an fp32 model can be quantized"
    )
    foreign = cli.folder / "foreign"
    foreign.mkdir()
    shutil.copyfile(cli.models / "tiny" / "tiny.onnx", foreign / "model.onnx")
    shutil.copyfile(cli.models / "tiny/tokenizer/tokenizer.json", foreign / "tokenizer.json")
    add_model("mine", foreign, cli.models, {"pooling": "mean", "max_length": 16})
    assert cli.error("model", "quantize", "mine").startswith(
        f"{cli.models / 'mine'} has no config.json, so its graph cannot be written anew: it was "
        "added as an ONNX file, or converted by an earlier version"
    )
    assert cli.error("model", "quantize", "nope").startswith("unknown model 'nope'; known: ")
    assert cli.error("model", "quantize", "/nowhere").startswith("no model in /nowhere; run ")
    alter_byte(cli.models / "tiny" / "config.json")
    before = models(cli)
    assert "config.json has SHA-256 " in cli.error(*QUANTIZE)
    assert models(cli) == before


def test_an_interrupt_leaves_no_file_behind(cli: Cli) -> None:
    # So many that the signal finds it at work.
    lines = "\n".join(f"{first} {second}" for first in WORDS for second in WORDS)
    (cli.folder / "many.txt").write_text(lines * 20, encoding="utf-8")
    process = cli.start(*QUANTIZE, "--texts", "many.txt", stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"cognitive-memory: calibrating tiny with ")
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, message.count(b"\n")) == (130, 1)
    assert [path.name for path in cli.models.iterdir()] == ["tiny"]


def test_two_processes_make_the_same_target(cli: Cli) -> None:
    processes = [
        cli.start(*QUANTIZE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [process.wait(HANG_SECONDS) for process in processes] == [0, 0, 0]
    assert sorted(path.name for path in cli.models.iterdir()) == ["tiny", "tiny-int8"]
    assert "every byte as recorded" in cli.results("model", "verify", "tiny-int8")


# --- the real model, as a user meets it ---


def test_first_use_quantizes_and_a_store_keeps_its_precision(
    model_dir: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, tmp_path / "models")
    cli.models.mkdir()
    (cli.models / MODEL).symlink_to(model_dir)
    int8 = {"COGNITIVE_MEMORY_EMBEDDING__PRECISION": "int8"}
    fp32 = {"COGNITIVE_MEMORY_EMBEDDING__PRECISION": "fp32"}
    text = "The key lies under the mat."
    progress = cli.run("store", text, env=int8).stderr.splitlines()
    assert progress[0] == f"cognitive-memory: calibrating {MODEL} with 248 texts"
    assert progress[1].startswith(f"cognitive-memory: {MODEL} in int8: mean cosine 0.99")
    assert len(progress) == 2
    assert sorted(path.name for path in cli.models.iterdir()) == [MODEL, f"{MODEL}-int8"]
    assert cli.json("recall", "where is the key?", env=int8)["results"][0]["content"] == text
    for command in (("recall", "where is the key?"), ("store", "another")):
        message = cli.error(*command, env=fp32)
        assert f"holds vectors of {MODEL}/int8/384/" in message
        assert f"the configured model gives {MODEL}/fp32/384/" in message
        assert "run 'cognitive-memory reembed' to embed all memories anew, or set " in message
        assert "COGNITIVE_MEMORY_EMBEDDING__PRECISION=int8" in message
    assert "1 of 1 memories embedded now" in cli.run("reembed", env=fp32).stdout
    assert cli.json("recall", "where is the key?", env=fp32)["results"][0]["content"] == text
    assert f"holds vectors of {MODEL}/fp32/384/" in cli.error("recall", "key", env=int8)
    assert "golden vectors, max error" in cli.results("model", "verify", f"{MODEL}-int8")
