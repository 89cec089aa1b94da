"""What a sentence asks for: the topic whose keywords it mentions most, in plain English.

It compares words and nothing more. It is no language model, and an agent that has one replaces just this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

_CHANNEL = re.compile(r"\b(?:guide\b|pillar:[A-Za-z0-9_]+)")
_ADDRESSEE = re.compile(r"\b(?:ask|forward(?: (?:this|it|me))? to)(?: the)? (?:pillar:)?([a-z_]+)")
_WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> list[str]:
    """The words of a sentence in lower case, plurals made singular, in their order."""
    return [_singular(word) for word in _WORD.findall(text.lower())]


def keywords(text: str) -> frozenset[str]:
    """Words to be recognised, in the form in which `words_of` gives them."""
    return frozenset(words_of(text))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


FILLERS = keywords(
    "a about all an and any are as ask at be by can could did do does for forward from give has have hello"
    " hi i in is it its me my of on or please s show tell than that the them there these they this to was we"
    " were what when where which will with would you your"
)
"""Words that say nothing about what is meant."""


class Keyed(Protocol):
    """Something that is asked for by keywords."""

    @property
    def keywords(self) -> frozenset[str]: ...


Choice = TypeVar("Choice", bound=Keyed)


def choose(choices: Iterable[Choice], text: str) -> Choice | None:
    """The first of those choices that the sentence mentions most; ``None`` if it mentions none."""
    words = set(words_of(text))
    best, most = None, 0
    for choice in choices:
        mentioned = len(words & choice.keywords)
        if mentioned > most:
            best, most = choice, mentioned
    return best


def subject_of(text: str, known: frozenset[str]) -> list[str]:
    """The words that are left when known ones and fillers are taken away: what to look for."""
    return [word for word in words_of(text) if word not in known and word not in FILLERS]


def channel_in(text: str) -> str:
    """The channel that a sentence names; empty if it names none."""
    found = _CHANNEL.search(text.lower())
    return found[0] if found else ""


def addressee_in(text: str) -> str:
    """Whom a sentence asks to ask: ``insights`` in "ask insights how fast we are"; empty if nobody."""
    found = _ADDRESSEE.search(text.lower())
    return found[1] if found else ""
