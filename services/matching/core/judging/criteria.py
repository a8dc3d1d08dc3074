"""Who a service is for: an expression of criteria, judged of a person as yes, no or unknown, and by which kinds of fact.

Kleene's logic: ``all`` is no as soon as one part is, ``any`` is yes as soon as one part is, and what can't be told otherwise is
unknown. So a fact that becomes known can turn an unknown into a yes or a no, and never a yes into a no or a no into a yes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Literal, NamedTuple, get_args

from referral_bus.contracts.criteria import NUMBERS, Criterion, Kind, Node
from referral_bus.contracts.facts import Facts
from referral_bus.contracts.services import ANY, Cost, ServiceDefinition
from services.matching.core.judging.letters import Letter, judge_language

KINDS: Final[tuple[str, ...]] = (*get_args(Kind), "cost")
"""The kinds of fact that criteria ask for, in the order they are told."""

_BIT: Final = {kind: 1 << place for place, kind in enumerate(KINDS)}
_MOST: Final = 1000
"""The largest number a fact can have."""

MOST_WAYS: Final = 2000
"""Ways of meeting criteria that are tried before they are taken to be such as can be met."""


class Circumstances(NamedTuple):
    """A person's facts as criteria ask for them; None where one is not stated. A trait or document that is in neither set is unknown."""

    age: int | None = None
    area: str | None = None
    languages: tuple[str, ...] | None = None
    household_size: int | None = None
    children: int | None = None
    income: int | None = None
    traits: frozenset[str] = frozenset()
    not_traits: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()
    not_documents: frozenset[str] = frozenset()


class Outcome(NamedTuple):
    """A verdict and the kinds of fact it comes from: those whose being otherwise could make it another."""

    letter: Letter
    kinds: tuple[str, ...]


class Step(NamedTuple):
    """A node made ready: a combination of the ``of`` results before it, or a judgement of the facts that ``bit`` stands for."""

    op: Literal["test", "all", "any", "not"]
    of: int
    bit: int
    judge: Callable[[Circumstances], Letter] | None


Program = tuple[Step, ...]
"""An expression made ready, in postfix order."""


class Tested(NamedTuple):
    """What criteria ask for: kinds of fact, and of traits and documents which."""

    kinds: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()

    def joined(self, other: Tested) -> Tested:
        """What either asks for."""
        return Tested(self.kinds | other.kinds, self.words | other.words)

    def of(self, person: Circumstances) -> Circumstances:
        """The person's circumstances, but for what is not asked for: who is alike in these is judged alike."""
        kinds, words = self
        return Circumstances(
            age=person.age if "age" in kinds else None,
            area=person.area if "area" in kinds else None,
            languages=person.languages if "language" in kinds else None,
            household_size=person.household_size if "household_size" in kinds else None,
            children=person.children if "children" in kinds else None,
            income=person.income if "income" in kinds else None,
            traits=person.traits & words,
            not_traits=person.not_traits & words,
            documents=person.documents & words,
            not_documents=person.not_documents & words,
        )


def circumstances_of(facts: Facts) -> Circumstances:
    """What of the facts criteria ask for."""
    return Circumstances(
        age=facts.age.value,
        area=facts.area.value,
        languages=tuple(language.lower() for language in facts.languages.values) or None,
        household_size=facts.household.size.value,
        children=facts.household.children.value,
        income=facts.household.income.value,
        traits=frozenset(one.trait for one in facts.traits if one.answer == "yes"),
        not_traits=frozenset(one.trait for one in facts.traits if one.answer == "no"),
        documents=frozenset(one.document for one in facts.documents if one.answer == "yes"),
        not_documents=frozenset(one.document for one in facts.documents if one.answer == "no"),
    )


def prepared(definition: ServiceDefinition) -> Program | None:
    """All that the service asks of a person beyond its own ages, areas and languages, ready to be judged; None where it asks nothing:
    its eligibility at the level that counts, its documents, and what it costs."""
    programs = [_compiled(part) for part in effective(definition)]
    programs += [_compiled([_test("document", document)]) for document in definition.documents]
    if definition.costs:
        programs.append((Step("test", 0, _BIT["cost"], _judge_of_cost(definition.costs)),))
    if not programs:
        return None
    joined = tuple(step for program in programs for step in program)
    return joined if len(programs) == 1 else (*joined, Step("all", len(programs), 0, None))


def tested(definition: ServiceDefinition) -> Tested:
    """What all of that asks for."""
    criteria = [node.test for part in effective(definition) for node in part if node.test is not None]
    words = {word for one in criteria if one.kind in ("trait", "document") for word in one.one_of}
    kinds = {one.kind for one in criteria} | ({"document"} if definition.documents else set())
    cost = {"cannot_pay"} if definition.costs else set()
    return Tested(frozenset(kinds), frozenset(words | set(definition.documents) | cost))


def evaluate(program: Program, person: Circumstances) -> Outcome:
    """The verdict, and from which kinds of fact it comes."""
    results: list[tuple[Letter, int]] = []
    for op, of, bit, judge in program:
        if judge is not None:
            results.append((judge(person), bit))
            continue
        below = results[len(results) - of :]
        del results[len(results) - of :]
        results.append(_combined(op, below))
    ((letter, bits),) = results
    return Outcome(letter, tuple(kind for kind in KINDS if bits & _BIT[kind]))


def effective(definition: ServiceDefinition) -> list[list[Node]]:
    """The parts of the service's eligibility that count, narrowest level first; a person must meet all of them.

    A part of the program's or the organisation's level is passed over where a narrower level says anything of a kind of fact that the part
    tests. What the service says in its own ages, areas, languages and documents is of its narrowest level.
    """
    if definition.eligibility is None:
        return []
    said: set[str] = {
        kind
        for kind, value in (
            ("age", definition.ages),
            ("area", definition.areas or definition.polygons),
            ("language", definition.languages),
            ("document", definition.documents),
        )
        if value
    }
    eligibility = definition.eligibility
    counting: list[list[Node]] = [] if eligibility.service is None else _parts(eligibility.service.nodes)
    said.update(kind for part in counting for kind in _kinds(part))
    for level in (eligibility.program, eligibility.organisation):
        parts = [] if level is None else _parts(level.nodes)
        counting += [part for part in parts if said.isdisjoint(_kinds(part))]
        said.update(kind for part in parts for kind in _kinds(part))
    return counting


def unmeetable(definition: ServiceDefinition) -> bool:
    """Whether nobody can meet what the service asks, as where it is for people above 60 and below 50, or serves no area at all: an empty
    list is another thing than none, which says nothing.

    False where that can't be told within :data:`MOST_WAYS` ways of meeting it: then a person's facts will show.
    """
    if definition.languages == [] or (definition.areas == [] and not definition.polygons):
        return True
    parts = effective(definition) + [[_test("document", document)] for document in definition.documents]
    if definition.costs and all(cost.amount for cost in definition.costs):
        parts.append([_test("trait", "cannot_pay"), Node(op="not", of=1)])
    if definition.languages and ANY not in definition.languages:
        parts.append([_test("language", *definition.languages)])
    if definition.ages is not None:
        parts.append([_test("age", minimum=definition.ages.minimum, maximum=definition.ages.maximum)])
    if definition.areas and ANY not in definition.areas and not definition.polygons:
        parts.append([_test("area", *definition.areas)])
    if not parts:
        return False
    nodes = [node for part in parts for node in part] + [Node(op="all", of=len(parts))]
    tried = 0
    for way in islice(_ways(_tree(nodes), True), MOST_WAYS):
        tried += 1
        if _consistent(way):
            return False
    return tried < MOST_WAYS


def _combined(op: str, below: list[tuple[Letter, int]]) -> tuple[Letter, int]:
    if op == "not":
        ((letter, bits),) = below
        return ("n" if letter == "y" else "y" if letter == "n" else "u"), bits
    deciding: Letter = "n" if op == "all" else "y"
    otherwise: Letter = "y" if op == "all" else "n"
    letters = {letter for letter, _ in below}
    letter = deciding if deciding in letters else "u" if "u" in letters else otherwise
    bits = 0
    for one, of_one in below:
        if one == letter:
            bits |= of_one
    return letter, bits


def _compiled(nodes: Iterable[Node]) -> Program:
    return tuple(
        Step(node.op, node.of, 0, None)
        if node.test is None
        else Step("test", 0, _BIT[node.test.kind], _judge_of(node.test))
        for node in nodes
    )


def _judge_of(criterion: Criterion) -> Callable[[Circumstances], Letter]:
    kind = criterion.kind
    if kind in NUMBERS:
        return _judge_of_number(kind, criterion.minimum or 0, criterion.maximum)
    if kind in ("trait", "document"):
        return _judge_of_answers(kind, frozenset(criterion.one_of))
    if kind == "language":
        served = frozenset(language.lower() for language in criterion.one_of)
        return lambda person: judge_language(served, person.languages)
    areas = frozenset(criterion.one_of)
    return lambda person: "u" if person.area is None else "y" if person.area in areas else "n"


def _judge_of_number(kind: str, minimum: int, maximum: int | None) -> Callable[[Circumstances], Letter]:
    at = Circumstances._fields.index(kind)
    most = _MOST if maximum is None else maximum
    unstated: Letter = "y" if minimum == 0 and most >= _MOST else "u"

    def judge(person: Circumstances) -> Letter:
        value = person[at]
        if value is None:
            return unstated
        return "y" if minimum <= value <= most else "n"  # type: ignore[operator]

    return judge


def _judge_of_answers(kind: str, wanted: frozenset[str]) -> Callable[[Circumstances], Letter]:
    def judge(person: Circumstances) -> Letter:
        has, has_not = (
            (person.traits, person.not_traits)
            if kind == "trait"
            else (person.documents, person.not_documents)
        )
        if not wanted.isdisjoint(has):
            return "y"
        return "n" if wanted <= has_not else "u"

    return judge


def _judge_of_cost(costs: Iterable[Cost]) -> Callable[[Circumstances], Letter]:
    """What costs nothing suits everybody; who can't pay is served only by what is free, and may be by what is free for some."""
    free = [cost for cost in costs if cost.amount == 0]
    if any(cost.condition is None for cost in free):
        return lambda _: "y"
    to_who_cannot: Letter = "u" if free else "n"

    def judge(person: Circumstances) -> Letter:
        if "cannot_pay" in person.traits:
            return to_who_cannot
        return "y" if "cannot_pay" in person.not_traits else "u"

    return judge


def _test(kind: Kind, *one_of: str, minimum: int | None = None, maximum: int | None = None) -> Node:
    # Unchecked: a service may name more areas than a criterion that is published.
    criterion = Criterion.model_construct(kind=kind, one_of=list(one_of), minimum=minimum, maximum=maximum)
    return Node(op="test", test=criterion)


def _kinds(part: Iterable[Node]) -> set[str]:
    return {node.test.kind for node in part if node.test is not None}


def _parts(nodes: list[Node]) -> list[list[Node]]:
    """What the outermost ``all`` combines, or else the whole."""
    if nodes[-1].op != "all":
        return [nodes]
    parts: list[list[Node]] = []
    for node in nodes[:-1]:
        below = parts[len(parts) - node.of :] if node.of else []
        del parts[len(parts) - len(below) :]
        parts.append([*(one for part in below for one in part), node])
    return parts


class _Tree(NamedTuple):
    node: Node
    below: tuple[_Tree, ...]


class _Literal(NamedTuple):
    criterion: Criterion
    met: bool


def _tree(nodes: Iterable[Node]) -> _Tree:
    found: list[_Tree] = []
    for node in nodes:
        below = tuple(found[len(found) - node.of :]) if node.of else ()
        del found[len(found) - len(below) :]
        found.append(_Tree(node, below))
    return found[0]


def _ways(tree: _Tree, met: bool) -> Iterator[tuple[_Literal, ...]]:
    """Which criteria to meet and which not to, so that the whole is met (or is not): one way after the other."""
    node, below = tree
    if node.test is not None:
        yield (_Literal(node.test, met),)
    elif node.op == "not":
        yield from _ways(below[0], not met)
    elif (node.op == "any") == met:
        for part in below:
            yield from _ways(part, met)
    else:
        yield from _ways_of_all(below, met)


def _ways_of_all(parts: tuple[_Tree, ...], met: bool) -> Iterator[tuple[_Literal, ...]]:
    if not parts:
        yield ()
        return
    for way in _ways(parts[0], met):
        for rest in _ways_of_all(parts[1:], met):
            yield (*way, *rest)


def _consistent(way: Iterable[_Literal]) -> bool:
    """Whether one person can do all of it."""
    by_kind: dict[str, list[_Literal]] = {}
    for literal in way:
        by_kind.setdefault(literal.criterion.kind, []).append(literal)
    numbers = {kind: _numbers(by_kind.get(kind, ())) for kind in NUMBERS}
    if not all(numbers.values()) or min(numbers["children"]) > max(numbers["household_size"]):
        return False
    return all(_some_choice(kind, literals) for kind, literals in by_kind.items() if kind not in NUMBERS)


def _numbers(literals: Iterable[_Literal]) -> set[int]:
    left = set(range(_MOST + 1))
    for criterion, met in literals:
        most = _MOST if criterion.maximum is None else criterion.maximum
        within = set(range(criterion.minimum or 0, most + 1))
        left = left & within if met else left - within
    return left


def _some_choice(kind: str, literals: Iterable[_Literal]) -> bool:
    """A person lives in one area, and has as many of the others as they like."""
    never = {code for criterion, met in literals if not met for code in _codes(criterion)}
    wanted = [set(_codes(criterion)) - never for criterion, met in literals if met]
    if kind == "area" and wanted:
        return bool(set.intersection(*wanted))
    return all(wanted)


def _codes(criterion: Criterion) -> list[str]:
    """The codes of which one is enough, as they are compared."""
    return [code.lower() for code in criterion.one_of] if criterion.kind == "language" else criterion.one_of
