"""What the text of a choice says of a worker: "2CPU, 14.5Gi", "A100 40GB: 4 CPU, 16 GB RAM".

What can be read in two ways is not read: None.
"""

from __future__ import annotations

import re
from typing import TypeVar

T = TypeVar("T")

# No part of a longer number, and no end of a range ("1-4 CPU", "up to 4 CPU").
_ALONE = r"(?<![\w.])(?<!\d[,/–-])(?<!\d [–-] )(?<!\bto )"
_NUMBER = _ALONE + r"(\d+(?:\.\d+)?)"

_CORES = re.compile(
    rf"{_NUMBER}[ -]?(?:v?CPUs?|cores?)\b|\b(?:v?CPUs?|cores?) ?[:=] ?(\d+(?:\.\d+)?)\b", re.I
)
_AMOUNT = re.compile(rf"{_NUMBER}[ -]?([KMGT](?:iB|i|B)?|bytes)\b", re.I)

_CARD = (
    r"(?:(?:NVIDIA|AMD|Tesla|Quadro|Radeon)\b ?)*"
    r"(?:GPUs?|A10G?|A16|A30|A40|A100|B[12]00|GH?200|H[12]00|K80|L4|L40S?|MI\d{3}[AX]?|P100|T4|V100|"
    r"[RG]TX ?\w+|NVIDIA|Tesla|Quadro|Radeon)\b"
)
_CARDS = re.compile(rf"{_NUMBER} ?[x×]? ?{_CARD}|\b{_CARD} ?(?:[:=x×]) ?(\d+)\b", re.I)
_ANY_CARD = re.compile(rf"\b{_CARD}", re.I)
_NO_CARD = re.compile(r"\b(?:no|without(?: an?)?) GPUs?\b|\bCPU[ -]only\b", re.I)

_RAM_AFTER = re.compile(r" ?(?:of )?(?:RAM|memory|mem)\b", re.I)
_RAM_BEFORE = re.compile(r"\b(?:RAM|memory|mem) ?[:=]? ?\(?$", re.I)
# The memory of a card, or no memory at all.
_OTHER = rf"(?:VRAM|HBM\w*|disks?|SSD|HDD|storage|scratch|swap|{_CARD})"
_OTHER_AFTER = re.compile(rf" ?(?:of )?{_OTHER}", re.I)
_OTHER_BEFORE = re.compile(rf"\b{_OTHER}(?: (?:memory|mem|RAM))? ?[-:=(]? ?$", re.I)


def number(text: str) -> float | None:
    """Return the number that is all of a text."""
    return float(text) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text, re.ASCII) else None


def cores(text: str) -> float | None:
    """Return the cores that a text speaks of."""
    return _one({float(one or other) for one, other in _CORES.findall(text)})


def gpus(text: str) -> int:
    """Return the GPUs that a text speaks of; a card without a number is one."""
    if _NO_CARD.search(text):
        return 0
    if counted := [one or other for one, other in _CARDS.findall(text)]:
        return max(int(float(one)) for one in counted)
    return 1 if _ANY_CARD.search(text) else 0


def amount(text: str) -> str | None:
    """Return the amount of main memory, with its unit; not that of a card or a disk."""
    plain: set[str] = set()
    of_ram: set[str] = set()
    for found in _AMOUNT.finditer(text):
        before, after = text[: found.start()], text[found.end() :]
        if _OTHER_BEFORE.search(before) or _OTHER_AFTER.match(after):
            continue
        marked = _RAM_AFTER.match(after) or _RAM_BEFORE.search(before)
        (of_ram if marked else plain).add(found.group().replace("-", " "))
    return _one(of_ram or plain)


def _one(found: set[T]) -> T | None:
    return found.pop() if len(found) == 1 else None
