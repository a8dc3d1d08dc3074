"""By which codes of services a need is met: the need's own, those of narrower terms, and those another vocabulary has for it.

A need is met by a service coded with the same term, with a narrower one (a food pantry is help with food), or with another term that
means the same. A wider one doesn't meet it: who says "health" has not said "dental care". A crosswalk leads from the need's term, or from
one that meets it, to a term of another vocabulary, and from there to the narrower ones. Just one crosswalk is taken: what two would find
is two guesses deep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from referral_bus.contracts.vocabularies import SURE, Crosswalk, Taxonomy

_REMEMBERED: Final = 10_000
"""Needs whose codes are remembered: they are what anyone writes, and must not fill the memory."""


class Found(NamedTuple):
    """A code of services that meets a need: ``mapping`` is the crosswalk by which it does (``name@version``), None for the need's own
    code and narrower ones; ``confidence`` is in thousandths."""

    term: str
    mapping: str | None
    confidence: int


class _Tree:
    """A vocabulary: which terms are directly below each, and which mean the same."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._below: dict[str, list[str]] = {}
        self._same: dict[str, list[str]] = {}
        for term in taxonomy.terms:
            if term.parent is not None:
                self._below.setdefault(term.parent, []).append(term.code)
            if term.same_as is not None:
                self._same.setdefault(term.same_as, []).append(term.code)
                self._same.setdefault(term.code, []).append(term.same_as)

    def meeting(self, code: str) -> list[str]:
        """The term itself, those that mean the same, and all below any of them."""
        found = {code: None}
        ahead = [code]
        while ahead:
            at = ahead.pop()
            for other in (*self._same.get(at, ()), *self._below.get(at, ())):
                if other not in found:
                    found[other] = None
                    ahead.append(other)
        return list(found)


class Vocabularies:
    """The taxonomies and crosswalks a region has adopted, the latest version of each."""

    def __init__(self) -> None:
        self.taxonomies: dict[str, Taxonomy] = {}
        self.crosswalks: dict[str, Crosswalk] = {}
        self._trees: dict[str, _Tree] = {}
        self._leads: dict[tuple[str, str], list[tuple[str, str, Found]]] = {}
        self._known: dict[tuple[str, str], tuple[Found, ...]] = {}

    def put_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Take a vocabulary as it is from now on."""
        self.taxonomies[taxonomy.taxonomy] = taxonomy
        self._trees[taxonomy.taxonomy] = _Tree(taxonomy)
        self._known.clear()

    def put_crosswalk(self, crosswalk: Crosswalk) -> None:
        """Take a crosswalk as it is from now on."""
        self.crosswalks[crosswalk.crosswalk] = crosswalk
        self._leads.clear()
        for name in sorted(self.crosswalks):
            for source, target, confidence in _read(self.crosswalks[name]):
                label = f"{name}@{self.crosswalks[name].version}"
                found = Found(_key(*target), label, confidence)
                self._leads.setdefault(source, []).append((*target, found))
        self._known.clear()

    def finds(self, vocabulary: str, code: str) -> tuple[Found, ...]:
        """The codes of services that meet a need, each once by its surest mapping, in the order of the codes.

        Of mappings as sure as each other the need's own vocabulary comes first, then the one whose name does.
        """
        known = self._known.get((vocabulary, code))
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[vocabulary, code] = self._find(vocabulary, code)
        return known

    def _find(self, vocabulary: str, code: str) -> tuple[Found, ...]:
        meeting = self._meeting(vocabulary, code)
        best = {term: Found(term, None, SURE) for term in (_key(vocabulary, one) for one in meeting)}
        for term in meeting:
            for other, target, lead in self._leads.get((vocabulary, term), ()):
                for narrower in self._meeting(other, target):
                    found = lead._replace(term=_key(other, narrower))
                    former = best.get(found.term)
                    if former is None or _standing(found) < _standing(former):
                        best[found.term] = found
        return tuple(best[term] for term in sorted(best))

    def _meeting(self, vocabulary: str, code: str) -> Iterable[str]:
        tree = self._trees.get(vocabulary)
        return (code,) if tree is None else tree.meeting(code)


def _key(vocabulary: str, code: str) -> str:
    return f"{vocabulary} {code}"


def _standing(found: Found) -> tuple[int, str]:
    return -found.confidence, found.mapping or ""


def _read(crosswalk: Crosswalk) -> Iterator[tuple[tuple[str, str], tuple[str, str], int]]:
    """From which term to which and how surely; what is equal reads both ways."""
    for mapping in crosswalk.mappings:
        source, target = (crosswalk.source, mapping.source), (crosswalk.target, mapping.target)
        yield source, target, mapping.confidence
        if mapping.relation == "equal":
            yield target, source, mapping.confidence
