"""Entities by rules: what is found, what is not, and that no text takes long."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognitive_memory.retrieval.entities import (
    LONGEST,
    MAX_ENTITIES,
    SCANNED,
    Entity,
    Kind,
    find_entities,
)


def found(text: str) -> list[str]:
    return [f"{entity.kind} {entity.name}" for entity in find_entities(text)]


def names(text: str, kind: Kind) -> list[str]:
    return [entity.name for entity in find_entities(text) if entity.kind == kind]


def test_kinds_are_found_in_the_order_of_the_text() -> None:
    text = (
        "Ada Lovelace: the cache of SQLite broke find_entities() in core/memory.py on July 7th, "
        "2023, see ABC-123 at HTTPS://Example.ORG/Path, or ask ada@example.org about v1.2.3."
    )
    assert found(text) == [
        "name Ada Lovelace",
        "name SQLite",
        "identifier find_entities",
        "path core/memory.py",
        "date 2023-07-07",
        "identifier ABC-123",
        "url https://example.org/Path",
        "email ada@example.org",
        "identifier v1.2.3",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # amid a sentence, in a row, as a speaker, repeated
        ("yesterday Caroline met Mel.", ["Caroline", "Mel"]),
        ("We went to New York City with Jean-Luc O'Brien", ["New York City", "Jean-Luc O'Brien"]),
        ("Melanie Smith went out. Then she came back.", ["Melanie Smith"]),
        ("Caroline: I went out", ["Caroline"]),
        ("- **Ada Lovelace**: yes\n> Bob: no", ["Ada Lovelace", "Bob"]),
        ("Melanie paints. Melanie sings.", ["Melanie"]),
        ("Redis is fast. We like Redis.", ["Redis"]),
        ("Hey Mel! How are you, Caroline?", ["Mel", "Caroline"]),
        ("Thanks, Nate", ["Nate"]),
        ("What is Caroline's identity?", ["Caroline"]),
        ("the Beatles\u2019 and Ada\u2019s songs", ["Beatles", "Ada"]),
        ("Ask Dr. Smith, or J. R. Tolkien.", ["Smith", "Tolkien"]),
        ("in Zürich, Łódź und Ελλάδα", ["Zürich", "Łódź", "Ελλάδα"]),
        ('she read "Becoming Nicole" twice', ["Becoming Nicole"]),
        ("from Black Friday to Theresa May", ["Black Friday", "Theresa May"]),
        # acronyms, wherever they stand
        ("LGBTQ groups. HTTP over QUIC, AT&T", ["LGBTQ", "HTTP", "QUIC", "AT&T"]),
        ("SQLite and GPUs", ["SQLite", "GPU"]),
        ("the IBM Research lab", ["IBM", "Research"]),
        ("World War II", ["World War", "II"]),
        # what is none
        ("Painting is fun.", []),
        ("It was late! Painting? Fine: Cooking.\n- Cleaning\n\u201cSinging\u201d", []),
        ("Painting again. I like painting. Painting is fun.", []),
        ("I think I'm in. You'll see. Don't. Wow! Thanks! OK, BTW: Monday in July.", []),
        ("Note: this.\nTODO: that.\nWarning: both.", []),
        ("Today we go. Today I stay. The end. The start.", []),
        ("a T-shirt and an X-ray for A", []),
        ("WHY DO YOU SHOUT AT ADA", []),
        ("hello world", []),
        ("日本語のテキスト。中文。", []),
        ("Ada\nBob Builder", ["Bob Builder"]),
    ],
)
def test_names(text: str, expected: list[str]) -> None:
    assert names(text, "name") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call load_from_source with max_bytes", ["load_from_source", "max_bytes"]),
        ("camelCase, PascalCase and iPhone's eBay", ["camelCase", "PascalCase", "iPhone", "eBay"]),
        ("MAX_TEXT_BYTES and ERR_NETWORK", ["MAX_TEXT_BYTES", "ERR_NETWORK"]),
        ("os.path and numpy.linalg.norm(x)", ["os.path", "numpy.linalg.norm"]),
        ("main() or self.load(), not load (it)", ["main", "self.load"]),
        ("ABC-123, UTF-8, CVE-2021-44228.", ["ABC-123", "UTF-8", "CVE-2021-44228"]),
        (
            "v1.2.3, 1.2.3, v2, 2.0.0-rc.1 and 1.0.0b2.",
            ["v1.2.3", "1.2.3", "v2", "2.0.0-rc.1", "1.0.0b2"],
        ),
        ("E501, TS2304 and 0xDEADBEEF", ["E501", "TS2304", "0xDEADBEEF"]),
        ("__init__ _private_name _emphasis_ ___ a_", ["private_name"]),
        ("e.g. this, i.e. that, at 5 p.m. in the U.S.A, a Ph.D. or PhD", []),
        ("It was great.Thanks a lot. Well...so what", []),
        ("3.14 of 1,000 in 2023 at 10:30, 50%, 1st", []),
        ("größen_maß", ["größen_maß"]),
        ("(fooBar), [foo_bar]; `FooBaz`", ["fooBar", "foo_bar", "FooBaz"]),
    ],
)
def test_identifiers(text: str, expected: list[str]) -> None:
    assert names(text, "identifier") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in /etc/hosts, /tmp and ~/notes/a.md.", ["/etc/hosts", "/tmp", "~/notes/a.md"]),
        ("./run.sh or ../src/main.c:12", ["./run.sh", "../src/main.c"]),
        ("src/core/memory.py, `docs/read me.md`", ["src/core/memory.py", "me.md"]),
        (
            "README.md and archive.tar.gz; config.yaml!",
            ["README.md", "archive.tar.gz", "config.yaml"],
        ),
        (
            r"C:\Users\ada\notes.txt, \\server\share\a",
            [r"C:\Users\ada\notes.txt", r"\\server\share\a"],
        ),
        ("größe/maß.txt", ["größe/maß.txt"]),
        ("and/or, he/she, 24/7, 1/2.5, km/h, w/o, </div>, a / b, // c, ...", []),
        ("config.python and a.mdx and x.py-old", []),
    ],
)
def test_paths(text: str, expected: list[str]) -> None:
    assert names(text, "path") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(see https://a.org/b).", ["https://a.org/b"]),
        ("HTTP://WWW.Example.ORG:8080/Some?Q=A#B!", ["http://www.example.org:8080/Some?Q=A#B"]),
        ("https://en.wikipedia.org/wiki/A_(b)", ["https://en.wikipedia.org/wiki/A_(b)"]),
        ("[x](http://a.org/x) <http://b.org>", ["http://a.org/x", "http://b.org"]),
        ("git@GitHub.com:ada/notes.git", ["git@github.com:ada/notes.git"]),
        ("git://a.org/b.git, ssh://Ada@Host/x", ["git://a.org/b.git", "ssh://Ada@host/x"]),
        ("見よhttps://a.org/路。次", ["https://a.org/路"]),
        ("http:// and https://... or a://b", []),
        (f"https://a.org/{'x' * LONGEST}", []),
    ],
)
def test_urls(text: str, expected: list[str]) -> None:
    assert names(text, "url") == expected


def test_emails() -> None:
    text = "mail Ada.L+x@Mail.Example.org, <bob@b-c.de>. @ada a@b x@@y.z"
    assert names(text, "email") == ["Ada.L+x@Mail.Example.org", "bob@b-c.de"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on 2023-07-07.", ["2023-07-07"]),
        ("at 2023-07-07T12:30:00+02:00", ["2023-07-07"]),
        ("7 July, 2023 or the 8th of august 2023", ["2023-07-07", "2023-08-08"]),
        (
            "July 7th 2023; Sept. 1, 2023; Dec 31st, 1999",
            ["2023-07-07", "2023-09-01", "1999-12-31"],
        ),
        ("in July 2023, or May, 2024", ["2023-07", "2024-05"]),
        ("2023-07 is a month", ["2023-07"]),
        ("July 7 2023 is 2023-07-07", ["2023-07-07"]),
        ("29 February 2024", ["2024-02-29"]),
        ("29 February 2023, 2023-13-01, 2023-00, 31.12.2023", []),
        ("in July, in 2023, on July 7th, 12023-01-01, ab-2023-07-07", []),
    ],
)
def test_dates(text: str, expected: list[str]) -> None:
    assert names(text, "date") == expected


def test_a_span_belongs_to_one_kind() -> None:
    assert found("https://a.org/src/main.py?d=2023-07-07") == [
        "url https://a.org/src/main.py?d=2023-07-07"
    ]
    assert found("src/fooBar/2023-07-07.log") == ["path src/fooBar/2023-07-07.log"]
    assert found("we meet Caroline on July 7, 2023 Mel") == [
        "name Caroline",
        "date 2023-07-07",
        "name Mel",
    ]


def test_spellings_that_differ_in_case_are_one() -> None:
    assert found("see Foo_Bar, foo_bar and FOO_BAR") == ["identifier Foo_Bar"]
    assert Entity("name", "STRASSE").key == Entity("name", "straße").key
    assert Entity("name", "Ada").key != Entity("identifier", "ada").key


def test_there_are_at_most_so_many() -> None:
    words = [f"word_{number}" for number in range(100)]
    assert found(" ".join(words)) == [f"identifier {word}" for word in words[:MAX_ENTITIES]]


def test_a_long_text_is_read_from_its_beginning() -> None:
    filler = "word " * (SCANNED // 5)
    assert found(f"{filler[:-10]}foo_bar foo_baz_cut") == ["identifier foo_bar"]
    assert found(f"foo_bar {filler}\nfoo_baz") == ["identifier foo_bar"]
    assert found("x_" * SCANNED) == []


PIECES = [
    "a",
    "A",
    "1",
    ".",
    "/",
    "a.",
    "a/",
    "a_",
    "a-",
    "A-1",
    "1.",
    "(",
    ")",
    "\\",
    "C:\\a",
    "~",
]
PIECES += [" ", "\n", "'s ", "@", "a@", "a@a.", "://", "a://", "git@", "aA", "Ab ", "Ab. ", "AB "]
PIECES += ["\0", "é", "語", "July ", "7 ", "July 7 ", "2023-", "1 July, ", "v1.", "- ", "**", ":"]


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
def test_no_text_takes_long(piece: str) -> None:
    """Of a pattern that backtracks, this would not end."""
    for text in (piece * (1_000_000 // len(piece)), f"https://a.org/{piece * 100_000}"):
        find_entities(text)
        find_entities(f"a {text} a_b")


TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from([*PIECES, "Ada", "Bob: ", "foo_bar", "a.py", "https://A.b/c"])).map(
        "".join
    ),
)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_any_text_has_entities_that_stand_in_it(text: str) -> None:
    entities = find_entities(text)
    assert entities == find_entities(text)
    assert len({entity.key for entity in entities}) == len(entities) <= MAX_ENTITIES
    for entity in entities:
        assert entity.kind in get_args(Kind)
        assert 0 < len(entity.name) <= LONGEST
        assert entity.name == entity.name.strip()
        if entity.kind != "date":
            assert entity.name.casefold() in text.casefold()
