"""Amounts in a gateway's texts: what "2CPU, 14.5Gi" says of a worker, and memory as it wants it.

What can be read in two ways is not read: None.
"""

from __future__ import annotations

import re

from dask_claim.claim.memory import Memory

# No part of a longer number, and no end of a range ("1-4 CPU", "up to 4 CPU").
_NUMBER = r"(?<![\w.])(?<!\d[,/–-])(?<!\d [–-] )(?<!\bto )(\d+(?:\.\d+)?)"

_CORES = re.compile(
    rf"{_NUMBER}[ -]?(?:v?CPUs?|cores?)\b|\b(?:v?CPUs?|cores?) ?[:=] ?(\d+(?:\.\d+)?)\b", re.I
)
_AMOUNT = re.compile(rf"{_NUMBER}[ -]?([KMGT](?:iB|i|B)?)\b", re.I)

_CARD = (
    r"(?:GPUs?|A\d{2,3}G?|B[12]00|GH?200|H[12]00|K80|L40?S?|MI\d{3}[AX]?|P100|T4|V100"
    r"|[RG]TX ?\w+|NVIDIA|Tesla|Quadro|Radeon)\b"
)
_CARDS = re.compile(
    rf"{_NUMBER} ?[x×]? ?(?:NVIDIA |AMD |Tesla )?{_CARD}|\b{_CARD} ?(?:[:=x×]) ?(\d+)\b", re.I
)
_ANY_CARD = re.compile(rf"\b{_CARD}", re.I)
_NO_CARD = re.compile(r"\b(?:no|without(?: an?)?) GPUs?\b|\bCPU[ -]only\b", re.I)

_RAM_AFTER = re.compile(r" ?(?:of )?(?:RAM|memory|mem)\b", re.I)
_RAM_BEFORE = re.compile(r"\b(?:RAM|memory|mem) ?[:=]? ?\(?$", re.I)
# The memory of a card, or no memory at all.
_OTHER = rf"(?:VRAM|HBM\w*|disks?|SSD|HDD|storage|scratch|swap|{_CARD})"
_OTHER_AFTER = re.compile(rf" ?(?:of )?{_OTHER}", re.I)
_OTHER_BEFORE = re.compile(rf"\b{_OTHER}(?: (?:memory|mem|RAM))? ?[-:=(]? ?$", re.I)

# A label's word for a unit. As in Dask Gateway's own texts a letter alone is a power of 1024.
_UNIT = re.compile(r"([kmgt])(i?b?|(?:ilo|ega|iga|era)bytes?|[ei]bibytes?)|b|bytes?", re.I)
_FORM = re.compile(r"\s*\d+(?:\.\d+)?( ?)([KMGTkmgt])(iB|i|B|b|)\s*", re.ASCII)


def is_memory(field: str) -> bool:
    """Whether a field of a claim or a cluster is an amount of memory."""
    return "memory" in field


def number_in(text: str) -> float | None:
    """Return the number that is all of a text."""
    return float(text) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text, re.ASCII) else None


def cores_in(text: str) -> float | None:
    """Return the cores that a text speaks of."""
    cores = {float(one or other) for one, other in _CORES.findall(text)}
    return cores.pop() if len(cores) == 1 else None


def gpus_in(text: str) -> int:
    """Return the GPUs that a text speaks of; a card without a number is one."""
    if _NO_CARD.search(text):
        return 0
    if counted := [one or other for one, other in _CARDS.findall(text)]:
        return max(int(float(one)) for one in counted)
    return 1 if _ANY_CARD.search(text) else 0


def memory_in(text: str) -> Memory | None:
    """Return the main memory that a text speaks of, not that of a card or a disk."""
    plain: set[str] = set()
    of_ram: set[str] = set()
    for amount in _AMOUNT.finditer(text):
        before, after = text[: amount.start()], text[amount.end() :]
        if _OTHER_BEFORE.search(before) or _OTHER_AFTER.match(after):
            continue
        is_ram = _RAM_AFTER.match(after) or _RAM_BEFORE.search(before)
        (of_ram if is_ram else plain).add(f"{amount[1]} {amount[2]}")
    sizes = of_ram or plain
    try:
        return Memory(sizes.pop()) if len(sizes) == 1 else None
    except ValueError:
        return None  # such as Gb, which would be bits


def written(amount: int, like: str = "") -> str:
    """Write bytes as a gateway's own default is written, else as Dask Gateway's server reads them.

    In the largest unit of which they are a whole number; else exactly, in K.
    """
    form = _FORM.fullmatch(like)
    space, suffix = (form[1], form[3]) if form else (" ", "")
    base = 1000 if suffix in ("B", "b") else 1024
    text = f"{amount / base!r}{space}K"
    for power, letter in ((1, "K"), (2, "M"), (3, "G")):
        if amount % base**power == 0:
            text = f"{amount // base**power}{space}{letter}"
    return (text.lower() if form and form[2].islower() else text) + suffix


def unit_of(word: str) -> str | None:
    """Return the unit that a word of a label names, such as `GiB` for `gibibytes`."""
    unit = _UNIT.fullmatch(word)
    if unit is None or unit[1] is None:
        return "bytes" if unit else None
    is_decimal = unit[2].lower().startswith(("b", "ilo", "ega", "iga", "era"))
    return unit[1].upper() + ("B" if is_decimal else "iB")
