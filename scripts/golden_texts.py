"""The texts behind the golden vectors: ordinary ones and those that break tokenizers.

Letters of any language stand here as themselves; emoji and characters that an editor hides or
changes are spelled with escapes. Long texts are built by expressions.
"""

# Cyrillic, Greek and full-width letters are the point of some texts.
# ruff: noqa: RUF001

from __future__ import annotations

import base64
import hashlib
import unicodedata
from itertools import cycle, islice

# Each of these words is one token, so n of them make n + 2 tokens with [CLS] and [SEP].
_WORDS = (
    "river stone garden window music letter winter market silver forest bridge kitchen doctor "
    "engine island morning paper shadow ticket village yellow captain desert family history"
)

_VIETNAMESE = unicodedata.normalize(
    "NFC", "Tiếng Việt dùng nhiều dấu thanh; buổi sáng, chúng tôi uống cà phê sữa đá ở Đà Nẵng."
)

_MEETING = (
    "The weekly planning meeting moved to Thursday because the release slipped by two days. "
    "Marta will present the migration plan, and the support team brings the list of customers "
    "who still run the old client. Whoever cannot attend should leave comments in the shared "
    "document before noon.\n"
)

_CHINESE = "我们昨天讨论了记忆系统的设计\uff0c决定先保存原文\uff0c再计算向量。"


def _one_token_words(count: int) -> str:
    """Repeat the list of words up to ``count`` of them: ``3 -> "river stone garden"``."""
    return " ".join(islice(cycle(_WORDS.split()), count))


def _countdown(first: int) -> str:
    """Write numbered lines, no two alike: for 2, "Item 2 is done" then "Item 1 is done"."""
    return "".join(f"Item {number} is done.\n" for number in range(first, 0, -1))


BLANK = {
    "empty": "",
    "spaces-only": " \t \r\n  \n",
    "invisible-only": "\u200b\ufeff\u00ad\x00",
}

WORDS = {
    "word-memory": "memory",
    "word-cat": "cat",
    "word-the": "the",
    "word-letter": "a",
    "word-digit": "7",
    "word-pieces": "electroencephalographically",
}

QUERIES = {
    "query-where": "where did I park the car",
    "query-keywords": "postgres connection pool timeout",
    "query-question": "What did Anna say about the trip to Lisbon?",
    "query-name": "Dr. Okonkwo's phone number",
    "query-negation": "meals without peanuts",
}

SENTENCES = {
    "sentence-plain": "The cat slept on the warm windowsill all afternoon.",
    "sentence-paraphrase": "All afternoon the kitten was napping by the sunny window.",
    "sentence-opposite": "The cat did not sleep on the warm windowsill this afternoon.",
    "sentence-technical": "A B-tree keeps its keys sorted and splits a node when it overflows.",
    "sentence-dialogue": '"Don\'t wait for me," she said; "I\'ll be at the station by six."',
    "sentence-typographic": "“Don’t wait” – she said… then left—for good.",
    "sentence-typos": "teh quikc brwon fox jmups ovre teh lzay dgo",
    "sentence-rare-words": "The palimpsest's marginalia were written in a spidery chancery hand.",
}

PARAGRAPHS = {
    "paragraph-meeting": _MEETING,
    "paragraph-recipe": (
        "Rinse the lentils until the water runs clear, then simmer them with a bay leaf for "
        "twenty minutes. Meanwhile soften one onion in olive oil, add cumin and a spoon of "
        "tomato paste, and let it darken slightly. Combine everything, season with salt and a "
        "little vinegar, and serve with bread."
    ),
    "paragraph-science": (
        "Tides arise because the gravitational pull of the Moon is stronger on the near side "
        "of the Earth than on the far side. The difference stretches the oceans into two "
        "bulges, and as the planet turns beneath them most coasts see two high tides a day. "
        "The Sun adds a smaller effect of its own, so that tides are largest at new and full "
        "moon.\n\nThe shape of a bay can amplify them many times over."
    ),
    "paragraph-diary": (
        "Rain again. We stayed in, mended the blue tent, and argued about whether the map or "
        "the guide was wrong about the ford. In the evening Tom read aloud from the old "
        "expedition journal; nobody wanted to hear how it ended."
    ),
}

LIMIT = {
    "limit-254": _one_token_words(252),
    "limit-255": _one_token_words(253),
    "limit-256": _one_token_words(254),
    "limit-257": _one_token_words(255),
    # The last word that fits is cut between its pieces.
    "limit-split-word": _one_token_words(252) + " electroencephalographically",
}

OVER_LIMIT = {
    "over-300": " ".join(reversed(_one_token_words(298).split())),
    "over-500": " ".join(word.upper() + "!" for word in _one_token_words(249).split()),
    "over-5000": "Every lantern along the old harbor wall was lit before dusk once again. " * 357,
    "over-numbered": _countdown(120),
    "over-paragraphs": _MEETING * 12,
    "over-chinese": _CHINESE * 20,
}

MULTILINGUAL = {
    "german": "Die Größe der Straßenbahn überraschte die Fußgänger in Köln und Zürich.",
    "french": "L'élève a oublié son cœur à l'été dernier, près de la forêt où naît la rivière.",
    "spanish": "¿Dónde está el niño que soñaba con pingüinos? ¡Mañana vendrá!",
    "portuguese": "A decisão não foi fácil: a avó ficou com o pão e nós com as maçãs.",
    "polish": "Zażółć gęślą jaźń, powiedział źle wychowany żółw z Łodzi.",
    "czech": "Příliš tichý kůň čekal u řeky, než přišel déšť.",
    "turkish": "Isparta'da ılık bir ilkbahar günü İstanbul'dan gelen kızı ısırgan otu ısırdı.",
    "greek": "Η θάλασσα ήταν ήσυχη και ο ψαράς γύρισε νωρίς στο λιμάνι της Ύδρας.",
    "russian": "Ёжик собирал яблоки в саду, пока объявление об отъезде ещё висело на двери.",
    "ukrainian": "Їжак заховав ґудзик під ґанком, а є ще й інші схованки.",
    "arabic": "ذَهَبَ الطالب إلى المكتبة صباحًا ليقرأ كتابًا عن تاريخ العلوم.",
    "hebrew": "הילדה קראה סֵפֶר על הים לפני השינה, ואחר כך כיבתה את האור.",
    "hindi": "बारिश के बाद बच्चों ने गाँव के पुराने पेड़ के नीचे क्रिकेट खेला।",
    "bengali": "নদীর ধারে বসে সে পুরোনো চিঠিগুলো আবার পড়ল।",
    "thai": "เมื่อวานนี้ฝนตกหนักมากจนน้ำท่วมถนนหน้าบ้านของเรา",
    "thai-spaced": "แมว สีดำ นอน บน หลังคา บ้าน ใน วันที่ 5 มกราคม",
    "japanese": "昨日、東京タワーの近くでコーヒーを飲みながら、新しい本を読みました。",
    "japanese-widths": "\uff76\uff9e\uff77\uff78 \uff21\uff22\uff23\uff11\uff12 ガギグ ABC12",
    "korean": "어제 서울에서 친구를 만나 오래된 사진을 함께 보았습니다.",
    "chinese": _CHINESE,
    "vietnamese-nfc": _VIETNAMESE,
    "vietnamese-nfd": unicodedata.normalize("NFD", _VIETNAMESE),
    "mixed-scripts": "The 東京 office met Москва and Αθήνα; القاهرة joined by phone, 서울 later.",
}

EMOJI = {
    "emoji-single": "\N{GRINNING FACE}",
    "emoji-in-sentence": "Great news \N{PARTY POPPER} the tests pass \N{WHITE HEAVY CHECK MARK}!",
    "emoji-family": (
        "family: \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
        "\N{ZERO WIDTH JOINER}\N{BOY} at the beach"
    ),
    "emoji-flags": (
        "from \N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E} to "
        "\N{REGIONAL INDICATOR SYMBOL LETTER J}\N{REGIONAL INDICATOR SYMBOL LETTER P}"
    ),
    "emoji-skin-tones": (
        "thanks \N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-3} and "
        "\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-6}"
    ),
    "emoji-only": "\N{ROCKET} \N{FIRE} \N{SPARKLES} \N{PILE OF POO} \N{FACE WITH TEARS OF JOY}",
    "emoji-presentation": (
        "love \N{HEAVY BLACK HEART}\ufe0f, text \N{HEAVY BLACK HEART}\ufe0e, 1\ufe0f\u20e3"
    ),
}

CONTROLS = {
    "control-tab-newline": "first\tsecond\nthird\r\nfourth\rfifth",
    "control-vertical": "page one\x0cpage two\x0bline\x1cfile\x1dgroup\x1erecord\x1funit",
    "control-nul": "before\x00after and \x00 alone",
    "control-bell-escape": "ring\x07 back\x08space \x1b[31mred\x1b[0m delete\x7f",
    "control-zero-width": "zero\u200bwidth\u200cjoin\u200ders and word\u2060joiner",
    "control-bom": "\ufeffA text that begins with a byte order mark",
    "control-soft-hyphen": "an ex\u00adtra\u00ador\u00addi\u00adnary word",
    "control-bidi": "left \u200fright\u200e \u202eoverride\u202c and \u2067isolate\u2069 end",
    "control-c1": "next\u0085line, padding\u0080, command\u009bcsi",
    "control-replacement": "broken \ufffd bytes \ufffd\ufffd here",
    "control-private-use": "logo \ue000 and \uf8ff and \U000f0001 end",
    "control-noncharacter": "not \ufffe a \U0001ffff character",
    "control-separators": "line\u2028separator paragraph\u2029separator",
    "control-combining": "Z\u0351\u036b\u0343\u032aa\u0321\u030al\u0334g\u0361o\u0489 text",
}

CODE = {
    "code-python": (
        "def mean(values: list[float]) -> float:\n"
        "    if not values:\n"
        '        raise ValueError("mean of nothing")\n'
        "    return sum(values) / len(values)\n"
    ),
    "code-sql": (
        "SELECT u.name, COUNT(*) AS n FROM users u LEFT JOIN orders o ON o.user_id = u.id\n"
        "WHERE o.created_at >= '2024-01-01' GROUP BY u.name HAVING COUNT(*) > 3 ORDER BY n DESC;"
    ),
    "code-c": (
        "#include <stdio.h>\n\nint main(int argc, char **argv) {\n"
        '    for (int i = 0; i < argc; ++i) printf("%d: %s\\n", i, argv[i]);\n'
        "    return 0;\n}\n"
    ),
    "code-json": '{"id": 42, "tags": ["a", "b"], "nested": {"ok": true, "r": 1.5e-3, "x": null}}',
    "code-shell": "find . -name '*.py' -print0 | xargs -0 grep -nE \"TODO|FIXME\" | sort -u > out",
    "code-diff": (
        "--- a/store.py\n+++ b/store.py\n@@ -10,3 +10,3 @@ def close(self):\n"
        "-    self.handle = None\n+    self.handle.close()\n     return None\n"
    ),
    "code-traceback": (
        "Traceback (most recent call last):\n"
        '  File "app/jobs.py", line 88, in run\n    result = task(payload)\n'
        '  File "app/tasks.py", line 17, in resize\n    ratio = width / height\n'
        "ZeroDivisionError: division by zero"
    ),
    "code-regex": r"^(?P<user>[\w.+-]+)@(?P<host>(?:[a-z0-9-]+\.)+[a-z]{2,})(?<!\.local)$",
    "code-log-line": (
        '192.0.2.7 - - [03/Mar/2024:14:05:09 +0000] "GET https://example.com/a/b%20c?q=x&page=2'
        '#top HTTP/1.1" 404 512 "https://example.org/?ref=home" "Client/2.0"'
    ),
    "code-base64": base64.encodebytes(_MEETING[:150].encode()).decode(),
    "code-hash": hashlib.sha256(b"golden").hexdigest(),
    # WordPiece gives up on words of more than 100 characters: one [UNK] for all of it.
    "code-word-100": "abcdefghij" * 10,
    "code-word-101": "abcdefghij" * 10 + "k",
    "code-word-150": "loremipsumdolor" * 10,
    "code-identifiers": "getUserByID get_user_by_id GET-USER-BY-ID kMaxRetryCount __init__ $HOME",
}

MARKDOWN = {
    "markdown-table": (
        "## Results\n\n| engine | texts/s | error |\n|:---|---:|---:|\n| A | 117 | 0 |\n"
        "| **B** | 206 | `2.6e-7` |\n\n- [x] measured\n- [ ] [published](https://example.com)\n"
    ),
    "markdown-fence": "Run this:\n\n```bash\nmake test  # all\n```\n\n> It takes *one* minute.\n",
    "markdown-html": '<p class="note">Fish &amp; chips &lt; 5&nbsp;&euro; <br/> caf&eacute;</p>',
}

NUMBERS = {
    "number-dates": "Due 2024-02-29, moved to 3/14/25, then to 1 May 2026 at 09:30 UTC+02:00.",
    "number-units": "5 km/h, 12.5 mm², 37 °C, 1,000,000 rows, 3.3 V ±5 %, 10 µs, ½ cup, x³",
    "number-money": "$1,299.99 or €1.199,00 or £999 or ¥150000 or ₹89,000",
    "number-long": "3.14159265358979323846264338327950288419716939937510",
    "number-scripts": "Ⅳ ④ ٣٤٥ ४५६ \uff17\uff18\uff19 ²³",
    "number-phone": "Call +1 (202) 555-0142 ext. 42 or +44 20 7946 0018.",
}

PUNCTUATION = {
    "punctuation-ascii": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "punctuation-dots": "... --- ... ?!?! *** ///",
    "punctuation-unicode": "«»„‚‹›¡¿§¶†‡•‰′″※⁂、。「」《》",
    "punctuation-math": "∀x ∈ ℝ: x² ≥ 0 ∧ ∑ aᵢ ≠ ∞ ⇒ ∂f/∂x → 0",
    "punctuation-dot": ".",
}

REPEATED = {
    "repeated-word": "again " * 60,
    "repeated-letters": "nooooooooooooooooo wayyyyyyyyyy hahahahahahaha",
    "repeated-phrase": "row, row, row your boat; " * 5,
}

WHITESPACE = {
    "whitespace-heavy": "   far \t\t apart \n\n\n\n words      here   \n ",
    "whitespace-unicode": "no\u00a0break thin\u2009space wide\u3000space ogham\u1680mark",
    "whitespace-indented": "\n        deeply\n            indented\n                text\n",
}

CASE = {
    "case-lower": "the quick brown fox visits new york",
    "case-upper": "THE QUICK BROWN FOX VISITS NEW YORK",
    "case-mixed": "tHe QuIcK bRoWn FoX rEsTs In PaRiS",
    "case-unicode": "STRASSE Straße ǅungla ﬁne OFFICE ΣΊΣΥΦΟΣ İı",
}

# The tokenizer reads the exact upper-case spelling as the special token itself.
SPECIAL_TOKENS = {
    "special-literal": "[CLS] the capital of France is [MASK] . [SEP] [PAD] [PAD]",
    "special-only": "[MASK]",
    "special-lower-case": "[cls] the capital of france is [mask] . [sep] [pad]",
    "special-unknown": "an [UNK] word",
    "special-pieces": "##ing ##ed un ##break ##able",
    "special-other-models": "<s> hello </s> <|endoftext|> <pad> [unused1] [INST] hi [/INST]",
}

TEXTS: dict[str, dict[str, str]] = {
    "blank": BLANK,
    "word": WORDS,
    "query": QUERIES,
    "sentence": SENTENCES,
    "paragraph": PARAGRAPHS,
    "limit": LIMIT,
    "over-limit": OVER_LIMIT,
    "multilingual": MULTILINGUAL,
    "emoji": EMOJI,
    "control": CONTROLS,
    "code": CODE,
    "markdown": MARKDOWN,
    "number": NUMBERS,
    "punctuation": PUNCTUATION,
    "repeated": REPEATED,
    "whitespace": WHITESPACE,
    "case": CASE,
    "special": SPECIAL_TOKENS,
}
"""Category -> name -> text. Names are unique over all categories."""

UNCUT_TOKENS = {
    "empty": 2,
    "word-memory": 3,
    "limit-254": 254,
    "limit-255": 255,
    "limit-256": 256,
    "limit-257": 257,
    "over-300": 300,
    "over-500": 500,
    "over-5000": 5000,
}
"""Name -> tokens before truncation, special ones included, of texts that are about length."""

SAME_TOKENS: set[frozenset[str]] = {
    frozenset({"empty", "spaces-only", "invisible-only"}),
    frozenset({"limit-256", "limit-257"}),
    frozenset({"vietnamese-nfc", "vietnamese-nfd"}),
    frozenset({"case-lower", "case-upper"}),
    # All of these are one [UNK]: outside the vocabulary, or too long a word.
    frozenset({"emoji-single", "thai", "code-word-101", "code-word-150"}),
}
"""Names of different texts that the tokenizer makes equal, and whose vectors are equal too."""
