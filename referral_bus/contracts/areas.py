"""How areas are named, so that what a service says and what is said of a person are equal where they mean the same.

It is done where something comes in, by the importer and by intake, and never where it is decided: what is on a ledger stays as it was said.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from referral_bus.contracts.criteria import Criterion, Eligibility, Expression, Node
from referral_bus.contracts.facts import Facts
from referral_bus.contracts.services import ANY, ServiceDefinition

_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")


def area_code(text: str) -> str:
    """An area as the bus names it: a code with a digit, or of capitals, as it is (``00019``, ``NYC``); else a name, lower case with dashes,
    so that ``Cook County`` is ``cook-county``. Empty for what has no letter the bus can name it by."""
    plain = text.strip()
    if _CODE.fullmatch(plain):
        return plain if plain.isupper() or any(letter.isdigit() for letter in plain) else plain.lower()
    letters = [
        one for one in unicodedata.normalize("NFKD", plain.casefold()) if not unicodedata.combining(one)
    ]
    return re.sub(r"[^a-z0-9]+", "-", "".join(letters)).strip("-")


def facts_with_areas(facts: Facts) -> Facts:
    """A person's facts, with the area as the bus names it."""
    said = facts.area.value
    if said is None:
        return facts
    area = facts.area.model_copy(update={"value": area_code(said) or said})
    return facts.model_copy(update={"area": area})


def service_with_areas(definition: ServiceDefinition) -> ServiceDefinition:
    """A service, with each area it names as the bus names it."""
    changed: dict[str, object] = {}
    if definition.areas is not None:
        changed["areas"] = _codes(definition.areas)
    if (eligibility := definition.eligibility) is not None:
        levels = {name: getattr(eligibility, name) for name in Eligibility.model_fields}
        changed["eligibility"] = eligibility.model_copy(
            update={name: None if level is None else _expression(level) for name, level in levels.items()}
        )
    return definition.model_copy(update=changed)


def _codes(areas: list[str]) -> list[str]:
    return list(dict.fromkeys(area if area == ANY else area_code(area) or area for area in areas))


def _expression(said: Expression) -> Expression:
    return said.model_copy(update={"nodes": [_node(node) for node in said.nodes]})


def _node(node: Node) -> Node:
    return node if node.test is None else node.model_copy(update={"test": _criterion(node.test)})


def _criterion(test: Criterion) -> Criterion:
    return test if test.kind != "area" else test.model_copy(update={"one_of": _codes(test.one_of)})
