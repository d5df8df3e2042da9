"""The command line with Qdrant: what a person sees while it answers, and while it does not."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from qdrant_cli import QdrantCli, install_provider
from qdrant_server import Server
from server_fixtures import empty_server, proxy_before_server, running_server
from tcp_proxy import DROP, PASS, SILENCE, Proxy

from cognitive_memory.storage.database import Database

running, server, proxy = running_server, empty_server, proxy_before_server


@pytest.fixture
def cli(tmp_path: Path, proxy: Proxy) -> QdrantCli:
    install_provider(tmp_path / "site")
    return QdrantCli(tmp_path, tmp_path / "models", proxy.url)


def points(server: Server) -> int:
    return sum(
        server.client.count(each.name).count for each in server.client.get_collections().collections
    )


def test_what_is_stored_is_in_qdrant_when_the_command_ends(cli: QdrantCli, server: Server) -> None:
    first = cli.store_text("we dropped it")
    assert points(server) == 1
    told = cli.replica()
    assert (told["pending"], told["fault"]) == (0, None)
    assert told["target"].startswith(f"{cli.url} memories@default-")
    assert f"replica    {told['target']}, 0 pending\n" in cli.results("status")
    server.requests.clear()
    document = cli.json("recall", "we kept it")
    assert document["notices"] == []
    assert [each["id"] for each in document["results"]] == [first]
    assert any("/query" in request for request in server.requests)
    assert cli.doctor().endswith("1 memories compared, 0 missing, 0 outdated, 0 surplus")
    cli.run("delete", first)
    cli.store_text("another")
    assert points(server) == 1
    assert cli.doctor().endswith("1 memories compared, 0 missing, 0 outdated, 0 surplus")


def test_loading_a_changed_source_and_consolidating_reach_qdrant(
    cli: QdrantCli, server: Server
) -> None:
    notes = cli.folder / "notes.md"
    notes.write_text("# One\n\naa bb cc\n\n# Two\n\nlonger words here\n")
    cli.run("load", str(notes))
    notes.write_text("# One\n\naa bb ccc dddd\n\n# Three\n\nquite other words now\n")
    cli.run("load", str(notes))
    for _ in range(3):
        cli.store_text("it was like that on that day", "-t", "day")
    cli.run("consolidate")
    assert "0 missing, 0 outdated, 0 surplus" in cli.doctor()
    cli.run("consolidate", "--undo")
    cli.run("delete", "--tag", "day")
    cli.run("delete", "--source", str(notes))
    cli.store_text("the last one")
    assert points(server) == 1
    assert "1 memories compared, 0 missing, 0 outdated, 0 surplus" in cli.doctor()


def test_an_outage_is_told_and_the_next_command_makes_up_for_it(
    cli: QdrantCli, server: Server, proxy: Proxy
) -> None:
    first = cli.store_text("we dropped it")
    proxy.rest = DROP
    asked = proxy.connections
    output = cli.run("store", "we dropped it as well", "--json")
    second = json.loads(output.stdout)["id"]
    assert proxy.connections == asked + 1
    (logged,) = output.stderr.splitlines()
    told = cli.replica()
    assert logged == f"the derived index cannot be used: {told['fault']}"
    assert told["pending"] == 1
    assert "does not answer" in told["fault"]
    assert f"1 pending; {told['fault']}\n" in cli.results("status")
    assert proxy.connections == asked + 1
    output = cli.run("recall", "we dropped it", "--json")
    document = json.loads(output.stdout)
    assert output.stderr.splitlines() == [logged, f"cognitive-memory: {document['notices'][0]}"]
    assert document["notices"] == [
        f"degraded: {told['fault']}; the embedded index answers, 1 changes wait"
    ]
    assert [each["id"] for each in document["results"]] == [first, second]
    assert "does not answer" in cli.doctor(code=1)
    assert "does not answer" in cli.doctor("--repair", code=1)

    proxy.rest = PASS
    assert "0 missing, 0 outdated, 0 surplus, 1 pending; run 'cognitive-memory doctor" in (
        cli.doctor(code=1)
    )
    third = cli.store_text("and this")
    told = cli.replica()
    assert (told["pending"], told["fault"]) == (0, None)
    assert points(server) == 3
    found = cli.json("recall", "we dropped it")
    assert {each["id"] for each in found["results"]} == {first, second, third}


def test_a_recall_takes_up_what_an_earlier_command_left(
    cli: QdrantCli, server: Server, proxy: Proxy
) -> None:
    cli.store_text("we dropped it")
    proxy.rest = DROP
    second = json.loads(cli.run("store", "and that", "--json").stdout)["id"]
    proxy.rest = PASS
    document = cli.json("recall", "and that", "-k", "1")
    assert [each["id"] for each in document["results"]] == [second]
    assert cli.replica()["pending"] == 0
    assert points(server) == 2


def test_a_server_that_hangs_holds_a_command_for_the_flush_and_no_longer(
    cli: QdrantCli, server: Server, proxy: Proxy
) -> None:
    proxy.rest = SILENCE
    hanging = {
        "COGNITIVE_MEMORY_QDRANT__TIMEOUT_SECONDS": "3600",
        "COGNITIVE_MEMORY_QDRANT__FLUSH_SECONDS": "0",
    }
    output = cli.run("store", "we dropped it", env=hanging)
    assert output.stderr == ""
    assert proxy.connections <= 1
    assert cli.replica(env=hanging)["pending"] == 1
    proxy.rest = PASS
    cli.store_text("and this")
    assert points(server) == 2


def test_an_interrupted_command_leaves_what_was_not_sent(
    cli: QdrantCli, server: Server, proxy: Proxy
) -> None:
    proxy.rest = SILENCE
    process = cli.start("store", "we dropped it")
    while not proxy.connections:
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    proxy.rest = PASS
    assert cli.replica()["pending"] == 1
    cli.store_text("and this")
    assert points(server) == 2


def test_doctor_tells_and_repairs_what_a_server_lost(cli: QdrantCli, server: Server) -> None:
    for number in range(3):
        cli.store_text(f"text {number}")
    server.lose_everything()
    counts = "3 memories compared, 3 missing, 0 outdated, 0 surplus"
    assert f"{counts}, 0 pending; run 'cognitive-memory doctor --repair'" in cli.doctor(code=1)
    assert points(server) == 0
    assert cli.doctor("--repair").endswith(f"{counts}; 3 repaired")
    assert points(server) == 3
    assert cli.doctor("--repair").endswith(
        "3 memories compared, 0 missing, 0 outdated, 0 surplus; 0 repaired"
    )
    assert cli.json("recall", "text")["notices"] == []


def test_a_store_from_before_is_sent_by_doctor(cli: QdrantCli, server: Server) -> None:
    embedded = {"COGNITIVE_MEMORY_STORAGE__VECTORS": "sqlite"}
    for number in range(3):
        cli.run("store", f"text {number}", env=embedded)
    assert cli.replica()["pending"] == 3
    assert "3 missing" in cli.doctor(code=1)
    assert cli.doctor("--repair").endswith("3 missing, 0 outdated, 0 surplus; 3 repaired")
    assert cli.replica()["pending"] == 0
    assert points(server) == 3


def test_a_restored_backup_is_sent(cli: QdrantCli, server: Server) -> None:
    first = cli.store_text("text one")
    cli.run("backup", "backup.db")
    cli.store_text("text two")
    cli.run("delete", first)
    cli.run("restore", "backup.db")
    document = json.loads(cli.run("recall", "text one", "--json").stdout)
    assert [each["id"] for each in document["results"]] == [first]
    assert "1 memories compared, 0 missing, 0 outdated, 0 surplus" in cli.doctor("--repair")
    assert points(server) == 1


def test_reembed_moves_the_vectors_to_a_collection_of_their_own(
    cli: QdrantCli, server: Server
) -> None:
    for number in range(3):
        cli.store_text(f"text {number}")
    changed = {"COGNITIVE_MEMORY_EMBEDDING__MODEL": "another"}
    assert "reembed" in cli.error("recall", "text", env=changed)
    cli.run("reembed", env=changed)
    document = json.loads(cli.run("recall", "text", "--json", env=changed).stdout)
    assert len(document["results"]) == 3
    output = cli.run("doctor", "--repair", "--json", env=changed)
    assert "0 surplus" in output.stdout
    assert json.loads(cli.run("recall", "text", "--json", env=changed).stdout)["notices"] == []
    assert points(server) == 3
    assert len(server.client.get_collections().collections) == 2


def test_switching_back_to_the_embedded_index_keeps_what_is_stored(
    cli: QdrantCli, server: Server
) -> None:
    first = cli.store_text("text one")
    embedded = {"COGNITIVE_MEMORY_STORAGE__VECTORS": "sqlite"}
    second = cli.json("store", "text two", env=embedded)["id"]
    found = cli.json("recall", "text one", env=embedded)
    assert {each["id"] for each in found["results"]} == {first, second}
    assert cli.replica()["pending"] == 1
    cli.json("recall", "text one")
    assert cli.replica()["pending"] == 0
    assert points(server) == 2


@pytest.mark.parametrize("command", [("store", "text"), ("recall", "text"), ("status",)])
def test_qdrant_without_an_address_is_a_fault_of_the_settings(
    cli: QdrantCli, command: tuple[str, ...]
) -> None:
    Database(cli.store).close()
    nowhere = replace(cli, url="")
    assert nowhere.error(*command, code=2) == (
        "COGNITIVE_MEMORY_STORAGE__VECTORS='qdrant' needs a server: set "
        "COGNITIVE_MEMORY_QDRANT__URL, or COGNITIVE_MEMORY_QDRANT__PATH to a folder"
    )


def test_an_address_that_is_none_is_a_fault_of_the_settings(cli: QdrantCli) -> None:
    wrong = replace(cli, url="localhost:6333")
    assert "COGNITIVE_MEMORY_QDRANT__URL='localhost:6333': it must be like" in wrong.error(
        "store", "text", code=2
    )


def test_a_folder_serves_without_a_server(cli: QdrantCli) -> None:
    local = {
        "COGNITIVE_MEMORY_QDRANT__URL": "",
        "COGNITIVE_MEMORY_QDRANT__PATH": str(cli.folder / "qdrant"),
    }
    first = cli.json("store", "text one", env=local)["id"]
    document = cli.json("recall", "text one", env=local)
    assert document["notices"] == []
    assert [each["id"] for each in document["results"]] == [first]
    assert cli.replica(env=local)["pending"] == 0
