"""Whatever goes wrong: one clear line, an exit code, no traceback, and what was stored is whole."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_process import COMMAND, HANG_SECONDS, Cli

from cognitive_memory.models.registry import load_registry

MODEL = "all-MiniLM-L6-v2"
KEPT = ["The key lies under the mat.", "The cat sleeps on the keyboard."]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Cli:
    """A store of two memories, which tests copy."""
    cli = Cli(tmp_path_factory.mktemp("filled"), model_dir.parent)
    for text in KEPT:
        cli.store_text(text, "-t", "kept")
    return cli


@pytest.fixture
def cli(filled: Cli, tmp_path: Path) -> Cli:
    """A store of two memories of its own."""
    shutil.copytree(filled.data, tmp_path / "data")
    return Cli(tmp_path, filled.models)


def assert_kept(cli: Cli, *others: str) -> None:
    """The two memories, and these, are there: in the file, every page of it, and by status."""
    with closing(sqlite3.connect(cli.store)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        texts = [text for (text,) in database.execute("SELECT content FROM memories ORDER BY pk")]
        bare = "SELECT count(*) FROM memories WHERE pk NOT IN (SELECT memory_pk FROM vectors)"
        assert database.execute(bare).fetchone() == (0,)
    assert texts == [*KEPT, *others]
    assert cli.json("status")["memory_counts"]["total"] == len(texts)


def assert_recalled(cli: Cli) -> None:
    results = cli.json("recall", "where is the key?")["results"]
    assert [each["content"] for each in results] == KEPT


@contextmanager
def database(cli: Cli) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(cli.store, isolation_level=None)) as connection:
        yield connection


# --- texts ---


@pytest.mark.parametrize("text", ["", " \t\n\u2003"])
def test_blank_text(cli: Cli, text: str) -> None:
    message = "text is blank; give at least one visible character"
    assert cli.error("store", text) == message
    assert cli.error("store", "-", stdin=text.encode()) == message
    assert_kept(cli)


def test_arguments_that_are_not_utf8(cli: Cli) -> None:
    reason = r"is not valid UTF-8 at character 3 ('\udce9'); convert it to UTF-8"
    assert cli.error("store", b"caf\xe9") == f"text {reason}"
    assert cli.error("recall", b"caf\xe9") == f"query {reason}"
    assert cli.error("store", "x", "-t", b"caf\xe9") == f"tag {reason}"
    assert_kept(cli)


def test_standard_input_that_is_not_utf8(cli: Cli) -> None:
    message = cli.error("store", "-", stdin=b"caf\xe9")
    assert message == "standard input is not valid UTF-8 at byte 3; convert it to UTF-8"
    assert_kept(cli)


def test_standard_input_of_ten_megabytes(cli: Cli) -> None:
    assert cli.error("store", "-", stdin=b"word " * 2_097_152) == (
        "text has 10,485,760 bytes, the limit is 1,048,576; split it, "
        "or raise COGNITIVE_MEMORY_MAX_TEXT_BYTES"
    )
    assert_kept(cli)


def test_text_at_the_limit_and_beyond(cli: Cli) -> None:
    env = {"COGNITIVE_MEMORY_MAX_TEXT_BYTES": "6"}
    assert cli.error("store", "ééé!", env=env).startswith("text has 7 bytes, the limit is 6; ")
    cli.run("store", "ééé", env=env)
    assert_kept(cli, "ééé")


def test_nul_in_standard_input(cli: Cli) -> None:
    message = cli.error("store", "-", stdin=b"abc\0def")
    assert message == "text holds a NUL character at position 3; remove it"
    assert_kept(cli)


def test_standard_input_that_is_closed(cli: Cli) -> None:
    result = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&-', *COMMAND, "store", "-"],
        env=cli.environment(),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "cognitive-memory: error: standard input is closed; give the text as an argument\n"
    )
    assert_kept(cli)


def test_attributes_out_of_range(cli: Cli) -> None:
    importance = "got importance_score 2.0; it must be from 0 to 1"
    assert cli.error("store", "x", "--importance", "2") == importance
    assert cli.error("store", "x", "-t", " ").startswith("tag is blank; ")
    assert_kept(cli)


def test_blank_query(cli: Cli) -> None:
    assert cli.error("recall", "  ") == "query is blank; give at least one visible character"
    assert_recalled(cli)


# --- sources ---


def test_path_that_does_not_exist(cli: Cli) -> None:
    (cli.folder / "good.txt").write_text("A good text.", encoding="utf-8")
    message = "missing.md does not exist; check the path; nothing was loaded"
    assert cli.error("load", "missing.md") == message
    assert cli.error("load", "good.txt", "missing.md") == message
    assert_kept(cli)


def test_path_whose_name_is_hostile(cli: Cli) -> None:
    (cli.folder / os.fsdecode(b"caf\xe9.txt")).write_text("A text.", encoding="utf-8")
    message = cli.error("load", b"caf\xe9.txt")
    assert message.startswith("the name of '")
    assert message.endswith(r"caf\udce9.txt' is not UTF-8; rename it")
    assert "\x1b" not in cli.error("load", "\x1b[31mred\nline")
    assert "File name too long" in cli.error("load", "x" * 300)
    assert_kept(cli)


def test_folder_with_nothing_to_load(cli: Cli) -> None:
    (cli.folder / "empty").mkdir()
    (cli.folder / "empty/image.png").write_bytes(b"\x89PNG")
    assert cli.error("load", "empty") == (
        "nothing to load at empty; known are .jsonl .markdown .md .mdown .mkd .text .txt "
        "and git repositories"
    )
    assert cli.error("load", "empty/image.png").startswith("nothing to load at empty/image.png; ")
    assert_kept(cli)


def test_a_file_that_is_not_utf8_among_good_ones(cli: Cli) -> None:
    """It is named and skipped, and the others are stored."""
    notes = cli.folder / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("The first good text.", encoding="utf-8")
    (notes / "b.txt").write_bytes(b"caf\xe9")
    (notes / "c.txt").write_text("The second good text.", encoding="utf-8")
    output = cli.run("load", "notes")
    assert "2 memories added" in output.stdout
    assert output.stdout.endswith(", 1 lines or files skipped\n")
    assert f"{notes.resolve() / 'b.txt'} is not UTF-8: byte 0xe9 at offset 3" in output.stderr
    assert cli.contents() == 4  # with the two that were there
    (notes / "b.txt").write_text("café", encoding="utf-8")
    assert cli.json("load", "notes")["added"] == 1
    assert cli.contents() == 5


def test_a_text_in_a_file_beyond_the_limit(cli: Cli) -> None:
    source = cli.folder / "long.txt"
    source.write_text("word " * 209_716, encoding="utf-8")
    message = cli.error("load", "long.txt")
    assert str(source.resolve()) in message
    assert "has 1,048,580 bytes, the limit is 1,048,576" in message
    assert_kept(cli)


# --- models ---


def test_unknown_model(cli: Cli) -> None:
    known = ", ".join(sorted(load_registry()))
    message = f"unknown model 'nope'; known: {known}; or give the folder of a converted model"
    env = {"COGNITIVE_MEMORY_EMBEDDING__MODEL": "nope"}
    assert cli.error("recall", "x", env=env) == message
    assert cli.error("store", "x", env=env) == message
    assert cli.error("model", "pull", "nope") == message
    assert_kept(cli)


def test_a_model_folder_that_does_not_exist(cli: Cli) -> None:
    env = {"COGNITIVE_MEMORY_EMBEDDING__MODEL": "/nowhere/model"}
    assert cli.error("store", "x", env=env) == (
        "no model in /nowhere/model; run 'cognitive-memory model pull'"
    )
    assert cli.error("model", "pull", env=env) == (
        f"/nowhere/model is a folder, and pull fills {cli.models}; give a model's name"
    )
    assert_kept(cli)


def remove(path: Path, _: Callable[[Path], None]) -> None:
    path.unlink()


def truncate(path: Path, _: Callable[[Path], None]) -> None:
    content = path.read_bytes()[:1000]
    path.unlink()
    path.write_bytes(content)


def alter(path: Path, alter_byte: Callable[[Path], None]) -> None:
    alter_byte(path)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        (f"{MODEL}.ort", remove, "cannot be read (No such file or directory)"),
        (f"{MODEL}.ort", truncate, "has 1,000 bytes instead of "),
        (f"{MODEL}.ort", alter, "has SHA-256 "),
        ("tokenizer/tokenizer.json", remove, "cannot be read (No such file or directory)"),
        ("tokenizer/tokenizer.json", truncate, "has 1,000 bytes instead of "),
        ("tokenizer/tokenizer.json", alter, "has SHA-256 "),
        ("model_config.json", truncate, "is not a model description of format 1"),
    ],
)
def test_damaged_model_file(
    cli: Cli,
    linked_model: Path,
    alter_byte: Callable[[Path], None],
    name: str,
    damage: Callable[[Path, Callable[[Path], None]], None],
    reason: str,
) -> None:
    if name == "model_config.json":
        (linked_model / name).write_text("{}" * 1000, encoding="utf-8")
    damage(linked_model / name, alter_byte)
    env = {"COGNITIVE_MEMORY_MODELS_DIR": str(linked_model.parent)}
    message = cli.error("store", "x", env=env)
    assert message.startswith(f"{linked_model / name} {reason}")
    assert "run 'cognitive-memory model pull" in message
    assert message.endswith("to replace it")
    assert cli.error("recall", "key", env=env) == message
    assert_kept(cli)


def test_offline_with_nothing_pulled(cli: Cli) -> None:
    models = cli.folder / "models"
    env = {"COGNITIVE_MEMORY_MODELS_DIR": str(models)}
    message = (
        f"{MODEL} is not in {models} and COGNITIVE_MEMORY_OFFLINE=1 forbids to fetch it; "
        "run 'cognitive-memory model pull --from DIR' with a copy of its files"
    )
    assert cli.error("store", "x", env=env) == message
    assert cli.error("recall", "x", env=env) == message
    assert cli.error("model", "pull", env=env) == message
    assert not models.exists()
    assert_kept(cli)
    assert_recalled(cli)


# --- stores ---


def test_store_of_another_model(cli: Cli) -> None:
    with database(cli) as store:
        store.execute("UPDATE embeddings SET fingerprint = 'other/fp32/384/00'")
    for command in (("store", "x"), ("recall", "key")):
        message = cli.error(*command)
        assert message.startswith(
            f"{cli.store} holds vectors of other/fp32/384/00, the configured model gives {MODEL}/"
        )
        assert message.endswith(
            "; run 'cognitive-memory reembed' to embed all memories anew, "
            "or set COGNITIVE_MEMORY_EMBEDDING__MODEL=other, "
            "or COGNITIVE_MEMORY_DATA_DIR to another folder"
        )
    doctor = cli.run("doctor", code=1).stdout.splitlines()
    assert doctor[1].startswith("ok     store: ")
    assert doctor[2].startswith("FAULT  embedding: the store holds vectors of other/fp32/384/00")
    assert_kept(cli)


def test_store_of_a_newer_schema(cli: Cli) -> None:
    with database(cli) as store:
        store.execute("PRAGMA user_version = 999")
    message = (
        f"{cli.store} has schema 999, this version reads up to 3; upgrade cognitive-memory-onnx"
    )
    for command in (("store", "x"), ("recall", "key"), ("status",), ("delete", "--tag", "kept")):
        assert cli.error(*command) == message
    with database(cli) as store:
        store.execute("PRAGMA user_version = 3")
    assert_kept(cli)


def other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda path: path.write_text("Dear diary, " * 500, encoding="utf-8"),
            (
                "is not a readable SQLite database (file is not a database); "
                "restore it from a backup, or set COGNITIVE_MEMORY_STORAGE__PATH to another file"
            ),
        ),
        (
            other_application,
            (
                "is a database of another application; "
                "set COGNITIVE_MEMORY_STORAGE__PATH to another file"
            ),
        ),
    ],
    ids=["text", "other application"],
)
def test_a_file_that_is_no_store(cli: Cli, make: Callable[[Path], None], reason: str) -> None:
    path = cli.folder / "other.db"
    make(path)
    content = path.read_bytes()
    env = {"COGNITIVE_MEMORY_STORAGE__PATH": str(path)}
    for command in (("store", "x"), ("recall", "key"), ("status",)):
        assert cli.error(*command, env=env) == f"{path} {reason}"
    assert path.read_bytes() == content
    assert_kept(cli)


def test_a_damaged_store_is_told_and_left_alone(cli: Cli) -> None:
    content = bytearray(cli.store.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    cli.store.write_bytes(content)
    assert cli.error("recall", "key").startswith(
        f"{cli.store} is not a readable SQLite database (database disk image is malformed)"
    )
    assert "FAULT  store: " in cli.run("doctor", code=1).stdout
    assert cli.store.read_bytes()[4096:] == content[4096:]


@pytest.fixture
def read_only(cli: Cli) -> Iterator[Cli]:
    """The store where nobody can write; permissions alone would not bind root."""
    cli.store.chmod(0o444)
    cli.data.chmod(0o555)
    mounted = False
    if os.access(cli.store, os.W_OK):
        mounted = _mount("--bind", str(cli.data), str(cli.data)) and _mount(
            "-o", "remount,ro,bind", str(cli.data)
        )
        if not mounted:
            subprocess.run(["umount", str(cli.data)], capture_output=True, check=False)
            pytest.skip("root here, and a read-only mount is not allowed")
    yield cli
    if mounted:
        subprocess.run(["umount", str(cli.data)], check=True)
    cli.data.chmod(0o755)
    cli.store.chmod(0o644)


def _mount(*arguments: str) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def test_read_only_store(read_only: Cli) -> None:
    message = (
        f"{read_only.store} cannot be written; check its permissions, or set "
        "COGNITIVE_MEMORY_DATA_DIR to a folder that can be written"
    )
    assert read_only.error("store", "x") == message
    assert read_only.error("delete", "--tag", "kept") == message
    assert_recalled(read_only)
    assert "schema 3, read-only)" in read_only.results("status")
    assert ", sound, read-only" in read_only.results("doctor")


@pytest.fixture
def small_disk(cli: Cli) -> Iterator[Cli]:
    """The store on a file system of one megabyte."""
    saved = cli.folder / "saved"
    cli.data.rename(saved)
    cli.data.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(cli.data)):
        pytest.skip("a small file system can be mounted by root only")
    shutil.copy(saved / "memories.db", cli.store)
    yield cli
    subprocess.run(["umount", str(cli.data)], check=True)


def test_full_disk(small_disk: Cli) -> None:
    cli = small_disk
    full = f"no space left for {cli.store}; free some and try again"
    # A word of more than 100 characters is one token: much to store, nothing to embed.
    assert cli.error("store", "-", stdin=b"x" * 1_000_000) == full
    assert_kept(cli)
    assert_recalled(cli)
    (cli.folder / "many.txt").write_text(
        "\n\n".join(f"{n} {'x' * 1500}" for n in range(600)), encoding="utf-8"
    )
    assert cli.error("load", "many.txt") == full
    assert_kept(cli)
    cli.run("store", "A short text has room again.")
    assert_kept(cli, "A short text has room again.")


def _as_stranger(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run as a user whom permissions bind, which root is not."""
    user = 65534 if os.geteuid() == 0 else None
    try:
        return subprocess.run(
            arguments, cwd="/", user=user, capture_output=True, text=True, check=False, **options
        )
    except PermissionError:
        pytest.skip("root here, and no other user can run this interpreter")


def test_folders_that_nobody_may_enter(cli: Cli) -> None:
    locked = cli.folder / "locked"
    locked.mkdir()
    changes = {
        "COGNITIVE_MEMORY_DATA_DIR": str(locked / "data"),
        "COGNITIVE_MEMORY_MODELS_DIR": str(locked / "models"),
    }
    env = cli.environment(changes)
    if os.geteuid() == 0:
        # Nor could a stranger write what coverage measures.
        env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}
    locked.chmod(0)
    result = _as_stranger([*COMMAND, "doctor"], env=env, timeout=HANG_SECONDS)
    locked.chmod(0o700)
    assert (result.returncode, result.stderr) == (1, "")
    model = f"{locked}/models/{MODEL}/model_config.json cannot be read: Permission denied"
    store = (
        f"{locked}/data/memories.db cannot be reached: Permission denied; "
        "check the permissions of its folder"
    )
    assert result.stdout.splitlines() == [
        f"FAULT  model: {model}",
        f"FAULT  store: {store}",
        f"FAULT  embedding: {store}",
    ]
    assert_kept(cli)


def test_data_folder_that_is_a_file(cli: Cli) -> None:
    path = cli.folder / "file"
    path.write_text("precious", encoding="utf-8")
    for folder in (path, path / "below"):
        message = cli.error("store", "x", env={"COGNITIVE_MEMORY_DATA_DIR": str(folder)})
        assert message.startswith(f"cannot create {folder}: ")
        assert message.endswith("; set COGNITIVE_MEMORY_DATA_DIR to a folder that can be written")
    assert path.read_text(encoding="utf-8") == "precious"
    assert_kept(cli)


def test_store_path_that_is_a_folder(cli: Cli) -> None:
    message = cli.error("store", "x", env={"SQLITE_PATH": str(cli.folder)})
    assert message.startswith(f"{cli.folder} cannot be opened for writing (")
    assert "check that it is a file" in message
    assert_kept(cli)


def test_store_that_another_process_writes(cli: Cli) -> None:
    env = {"COGNITIVE_MEMORY_STORAGE__BUSY_TIMEOUT_SECONDS": "0.1"}
    with database(cli) as other:
        other.execute("BEGIN IMMEDIATE")
        message = (
            f"{cli.store} was held by another process for 0.1 s; try again, "
            "or raise COGNITIVE_MEMORY_STORAGE__BUSY_TIMEOUT_SECONDS"
        )
        assert cli.error("store", "x", env=env) == message
        assert cli.error("delete", "--tag", "kept", env=env) == message
        assert cli.json("status", env=env)["memory_counts"]["total"] == len(KEPT)
        other.execute("ROLLBACK")
    cli.run("store", "Now it can be written.", env=env)
    assert_kept(cli, "Now it can be written.")


# --- settings and usage ---


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "COGNITIVE_MEMORY_EMBEDDING__BATCH_SIZE",
            "0",
            "COGNITIVE_MEMORY_EMBEDDING__BATCH_SIZE='0': it must be at least 1",
        ),
        (
            "COGNITIVE_MEMORY_DATADIR",
            "/x",
            (
                "unknown setting COGNITIVE_MEMORY_DATADIR in the environment; "
                "did you mean COGNITIVE_MEMORY_DATA_DIR?"
            ),
        ),
        (
            "COGNITIVE_MEMORY_EMBEDDING__PROVIDER",
            "openai",
            (
                "COGNITIVE_MEMORY_EMBEDDING__PROVIDER='openai' is not known; "
                "known: onnx, openvino, sentence-bert, static"
            ),
        ),
        (
            "COGNITIVE_MEMORY_STORAGE__VECTORS",
            "faiss",
            "COGNITIVE_MEMORY_STORAGE__VECTORS='faiss' is not known; known: ",
        ),
    ],
)
def test_setting_that_is_invalid(cli: Cli, name: str, value: str, message: str) -> None:
    assert cli.error("store", "x", code=2, env={name: value}).startswith(message)
    assert_kept(cli)


def test_dotenv_that_is_not_utf8(cli: Cli) -> None:
    (cli.folder / ".env").write_bytes(b"COGNITIVE_MEMORY_DATA_DIR=/caf\xe9\n")
    message = cli.error("store", "x", code=2)
    assert message.startswith(f"{cli.folder / '.env'} cannot be read: ")
    (cli.folder / ".env").unlink()
    assert_kept(cli)


def test_wrong_usage(cli: Cli) -> None:
    count = "argument -k: got {!r}; it must be a whole number from 1 to 1,000,000"
    cases: dict[tuple[str, ...], str] = {
        (): "the following arguments are required: COMMAND",
        ("remember", "x"): "invalid choice: 'remember'",
        ("recall", "key", "-k", "0"): count.format("0"),
        ("recall", "key", "-k", "x"): count.format("x"),
        ("recall", "key", "-k", "9" * 30): count.format("9" * 30),
        ("recall", "key", "--source", ""): "argument --source: got ''; '' is not a path",
        ("recall", "key", "--source", "~no-such-user/x"): "got '~no-such-user/x'; ",
        ("store", "x", "--level", "7"): "argument --level: invalid choice: ",
        ("store", "x", "--importance", "high"): "invalid float value: 'high'",
        ("load",): "the following arguments are required: PATH",
        ("load", "notes", "--kind", "pdf"): "argument --kind: invalid choice: 'pdf'",
        ("delete",): "give ids, or --tag, or --source",
        ("delete", "some-id", "--tag", "kept"): "give ids, or --tag, or --source",
        ("model",): "the following arguments are required: ACTION",
        ("status", "--nope"): "unrecognized arguments: --nope",
    }
    for arguments, message in cases.items():
        assert message in cli.usage_error(*arguments), arguments
    assert_kept(cli)


def test_delete_of_an_unknown_id_among_known_ones(cli: Cli) -> None:
    known = [each["id"] for each in cli.json("recall", "key")["results"]]
    message = cli.error("delete", known[0], "no-such-id", known[1])
    assert message == "no memory has the id no-such-id; nothing was deleted"
    assert_kept(cli)


def test_a_fault_of_an_installed_provider(cli: Cli) -> None:
    site = cli.folder / "site"
    record = site / "broken-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(
        "[cognitive_memory.embedding_providers]\nbroken = broken_provider:make\n"
    )
    (site / "broken_provider.py").write_text("def make(settings):\n    return 1 / 0\n")
    env = {"PYTHONPATH": str(site), "COGNITIVE_MEMORY_EMBEDDING__PROVIDER": "broken"}
    message = "internal error: ZeroDivisionError: division by zero; --debug shows where"
    assert cli.error("store", "x", env=env) == message
    shown = cli.run("store", "x", "--debug", env=env, code=1, traceback=True).stderr
    assert "broken_provider.py" in shown
    assert shown.endswith(f"error: {message}\n")
    assert_kept(cli)


# --- streams and signals ---


def test_reader_that_leaves_early(cli: Cli) -> None:
    with cli.start(
        "recall", "key", "--full", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.wait(HANG_SECONDS) == 1
        assert run.stderr.read() == b""
    assert_kept(cli)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_standard_output_on_a_full_disk(cli: Cli) -> None:
    with Path("/dev/full").open("wb") as full:
        run = cli.start("status", stdout=full, stderr=subprocess.PIPE)
        _, stderr = run.communicate(timeout=HANG_SECONDS)
    assert run.returncode == 1
    assert stderr.decode() == (
        "cognitive-memory: error: cannot write to standard output: No space left on device; "
        "the command itself is done\n"
    )
    assert_kept(cli)


def test_interrupted_load(cli: Cli) -> None:
    notes = cli.folder / "notes"
    notes.mkdir()
    for number in range(2000):
        (notes / f"{number}.txt").write_text(f"Note {number}.", encoding="utf-8")
    terminal, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 100))  # in a terminal of no width there is no bar
    with cli.start("load", "notes", stdout=subprocess.PIPE, stderr=side) as run:
        os.close(side)
        # The bar counts what is stored; its first number other than 0 ends the wait.
        shown = b""
        while b"/2000" not in shown:
            shown += os.read(terminal, 4096)
        run.send_signal(signal.SIGINT)
        shown += _rest(terminal)
        assert run.stdout is not None
        assert run.stdout.read() == b""
        assert run.wait(HANG_SECONDS) == 130
    assert b"Traceback" not in shown
    assert shown.splitlines()[-1] == (
        b"cognitive-memory: interrupted; what was reported as stored is stored"
    )
    stored = cli.contents() - len(KEPT)
    assert 0 < stored < 2000
    report = cli.json("load", "notes")
    assert (report["added"], report["unchanged"]) == (2000 - stored, stored)


def _rest(terminal: int) -> bytes:
    """What a terminal shows until the process at its other end closes it."""
    shown = b""
    with os.fdopen(terminal, "rb", buffering=0) as stream:
        try:
            while piece := stream.read(4096):
                shown += piece
        except OSError:  # how Linux tells the end
            pass
    return shown


def test_json_is_not_printed_for_a_failure(cli: Cli) -> None:
    assert cli.error("recall", " ", "--json").startswith("query is blank")
    output = cli.run("doctor", "--json", code=1, env={"COGNITIVE_MEMORY_MODELS_DIR": "/nowhere"})
    findings = json.loads(output.stdout)["findings"]
    assert [(each["check"], each["sound"]) for each in findings] == [
        ("model", False),
        ("store", True),
        ("embedding", True),
    ]
    assert [sorted(each) for each in findings] == [["check", "detail", "sound"]] * 3
