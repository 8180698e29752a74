"""Make iso8601.json again, next to this file: `python3.11 make_iso8601.py`.

The file says of some thousands of strings what Python 3.11.7's `datetime.fromisoformat` makes of
them: the `isoformat()` of the result, or null where it raises ValueError. A third each are forms
that ISO 8601 has or nearly has, sequences of pieces of such forms, and forms with one or two
characters changed; half of each third are read. A few more are what chance seldom makes.

All hold a "T", since no other string is ever asked about. None holds a NUL, where the standard
library's parser takes the text to end.
"""

from __future__ import annotations

import json
import random
import sys
from datetime import datetime
from pathlib import Path

DATES = [
    *("2025-12-01", "20251201", "2024-02-29", "20250229", "0001-01-01", "9999-12-31", "0000-01-01"),
    *("2025-W49-1", "2025W491", "2025-W49", "2025W49", "2026-W53-7", "2025W537", "2025-W00-1"),
    *("9999-W52-7", "0001-W01-1", "2025-W01-8", "2025-12", "2025", "2025-335", "2025-1201"),
]
TIMES = [
    *("11", "11:02", "1102", "11:02:28", "110228", "24:00", "23:59:60", "1:02", "11:0228", ""),
    *("11:02:28.9", "11:02:28,905136", "110228.905", "11:02:28.905136789", "110228905136"),
    *("11.5", "11:02,25", "11:02:28:905", "110228:905", "1102289", "11:02:28."),
]
ZONES = [
    *("", "", "", "Z", "z", "+01:00", "-0130", "+01", "+00:00", "-00:00", "+23:59:59.999999"),
    *(
        "+00:00:00.5",
        "+24:00",
        "+22:99",
        "+01:02:03",
        "+010203.5",
        "+0102031",
        "+1",
        "+",
        "Z+01:00",
        " +01:00",
    ),
]
ODDITIES = [
    *("2025W49-1T11", "2025-W491T11", "2025-12-01 11:02:28T+01:00", "20251201\ud80011T+01:00"),
    *("2025-12-01T11:02:28.12345x+01:00", "2025-12-01T11:02:28.123456xyz+01:00"),
    *("20251201T11x+0100", "20251201T11é+0100", "20251201T11\ud800+0100", "20251201T1102é+0100"),
    *("2024-02-290110228T+01:02:03", "20251201011T+01:00", "2025-12-01\n11T+01:00"),
    *("2024-12-24T00:00:00", "2024-12-24T24:00:00", "20241224T240000Z", "2025W13T24:00"),
    *("20251201T110228.123456é\n+0100", "20251201T110228.123456\ud800+0100", "20251201T11\n+01"),
]
PIECES = ["2025", "12", "01", "1", "W", "-", ":", ".", ",", "+", "Z", " ", "T"]
CHARACTERS = "0123456789TtWZz-:+., é\ud800\u0661/_"


def form(choice: random.Random) -> str:
    return choice.choice(DATES) + "T" + choice.choice(TIMES) + choice.choice(ZONES)


def sequence(choice: random.Random) -> str:
    pieces = "".join(choice.choices(PIECES, k=choice.randint(1, 6)))
    return choice.choice([f"2025-12-01T{pieces}", f"2025-12-01T11{pieces}", f"2025{pieces}T11"])


def variation(choice: random.Random) -> str:
    characters = list(form(choice))
    for _ in range(choice.randint(1, 2)):
        position = choice.randrange(len(characters))
        characters[position : position + choice.randint(0, 1)] = choice.choice(["", *CHARACTERS])
    return "".join(characters)


def asked(text: str) -> str | None:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        return None


def main() -> None:
    if sys.version_info[:2] != (3, 11):
        raise SystemExit("Python 3.11 says what is right, so make this file with it")
    choice = random.Random(8601)
    corpus: dict[str, str | None] = {}
    for make in (form, sequence, variation):
        read: dict[str, str | None] = {}
        unread: dict[str, str | None] = {}
        while len(read) < 600 or len(unread) < 600:
            text = make(choice)
            iso = asked(text)
            results = unread if iso is None else read
            if "T" in text and len(results) < 600:
                results[text] = iso
        corpus |= read | unread
    corpus |= {text: asked(text) for text in ODDITIES}
    target = Path(__file__).with_name("iso8601.json")
    target.write_text(json.dumps(corpus, indent=0, sort_keys=True) + "\n")
    print(f"{len(corpus)} strings, {sum(iso is not None for iso in corpus.values())} of them dates")


if __name__ == "__main__":
    main()
