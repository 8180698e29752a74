"""Saves cut into requests that stay below a size. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeVar

    AnySave = TypeVar("AnySave", bound="Save")

# What stands around key and value of one SET in the body: brackets, quotes, commas, EX, expiry.
AROUND = 40


class Save:
    """One order to be saved: its id and key, its text, and what `Unchanged` compares."""

    __slots__ = ("digest", "key", "order_id", "text")

    def __init__(self, order_id: str, key: str, text: str, digest: bytes) -> None:
        self.order_id = order_id
        self.key = key
        self.text = text
        self.digest = digest

    def size(self) -> int:
        """At most so many bytes in the body of a pipeline."""
        return AROUND + _as_json_string(self.key) + _as_json_string(self.text)


def cut(saves: Iterable[AnySave], most: int) -> Iterator[list[AnySave]]:
    """Cut saves into batches of at most so many bytes each; one that is larger goes alone."""
    batch: list[AnySave] = []
    size = 0
    for save in saves:
        more = save.size()
        if batch and size + more > most:
            yield batch
            batch, size = [], 0
        batch.append(save)
        size += more
    if batch:
        yield batch


def _as_json_string(text: str) -> int:
    # JSON text holds no bare control characters, so quotes and backslashes are what is escaped;
    # a key may hold some, at six bytes each.
    controls = 0 if text.isprintable() else sum(c < " " for c in text)
    return len(text.encode(errors="replace")) + text.count('"') + text.count("\\") + 5 * controls
