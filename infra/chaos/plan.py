"""The plan of a chaos run: which process is killed or frozen when, drawn from a seed, so that it can be done again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from infra.chaos.workload import Feed, Round, rounds
from tasks.failpoints import POINTS, Point

Victim = Literal["flow", "runner", "both", "listener", "postgres", "prefect", "fhir"]
Way = Literal["kill", "freeze"]
Return = Literal["retry from the UI", "retry from the command line", "next schedule"]
RETURNS: tuple[Return, ...] = get_args(Return)

LISTENER: tuple[Point, ...] = ("fsynced", "landed", "acknowledged")
DRAIN: tuple[Point, ...] = ("parsed", "converted", "staged", "gated", "before-commit", "after-commit")
DELIVER: tuple[Point, ...] = ("outbox-claimed", "sent-unconfirmed")
FILES: tuple[Point, ...] = tuple(point for point in POINTS if point != "acknowledged")
POLLED: tuple[Victim, ...] = ("flow", "flow", "flow", "flow", "flow", "flow", "postgres", "fhir")
LISTENED: tuple[Victim, ...] = ("listener", "listener", "listener", "listener", "flow", "flow", "postgres")
ORCHESTRATED: tuple[Victim, ...] = ("flow", "flow", "runner", "both", "prefect")
"""Who is drawn how often."""
RANDOM_SECONDS = 1.5
"""A run of a round takes about that long: a moment at random falls into it, and sometimes behind it."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One kill or freeze, and the round in which it happens.

    - `point` is where, None for a moment at random, `seconds` after the run began; `passes` is how often it is let by.
    - `orchestrated`: the run is a deployment's, through Prefect's server and worker; it comes back by `comes_back`.
    """

    number: int
    round: Round
    victim: Victim
    way: Way
    point: Point | None
    passes: int
    seconds: float
    orchestrated: bool
    comes_back: Return = "next schedule"

    def __str__(self) -> str:
        where = self.point or f"{self.seconds:.2f} s"
        prefect = f", through Prefect, {self.comes_back}" if self.orchestrated else ""
        return f"{self.number} {self.way} {self.victim} at {where} of {self.round.feed}{prefect}"


def plan(seed: int, kills: int, orchestrated: int) -> list[Disturbance]:
    """Return so many disturbances, some of them of runs through Prefect: those are evenly spread."""
    dice = random.Random(f"plan {seed}")  # noqa: S311 - a plan that can be repeated, no secret
    work = rounds(seed)
    places = set(dice.sample(range(kills), min(orchestrated, kills)))
    order = _points(dice)
    found = []
    for number in range(kills):
        one = next(work)
        if number in places:
            while one.messages:
                one = next(work)
            found.append(_orchestrated(dice, order, number + 1, one))
        else:
            found.append(_plain(dice, order, number + 1, one))
    return found


def summary(found: list[Disturbance]) -> dict[str, dict[str, int]]:
    """Return how many disturbances there are by victim and way, by point, through Prefect."""
    return {
        "victims": dict(Counter(f"{one.way} {one.victim}" for one in found)),
        "points": dict(Counter(one.point or "random" for one in found)),
        "orchestrated": dict(Counter(one.comes_back for one in found if one.orchestrated)),
    }


def _plain(dice: random.Random, order: dict[str, Iterator[Point]], number: int, one: Round) -> Disturbance:
    victims = LISTENED if one.messages else POLLED
    return _one(dice, order, number, one, dice.choice(victims), orchestrated=False)


def _orchestrated(dice: random.Random, order: dict[str, Iterator[Point]], number: int, one: Round) -> Disturbance:
    return _one(dice, order, number, one, dice.choice(ORCHESTRATED), orchestrated=True)


def _one(
    dice: random.Random,
    order: dict[str, Iterator[Point]],
    number: int,
    one: Round,
    victim: Victim,
    *,
    orchestrated: bool,
) -> Disturbance:
    kind = {"listener": "listener", "fhir": "deliver"}.get(victim, "drain" if one.messages else "files")
    point = next(order[kind]) if dice.random() < 0.75 else None
    freezable = victim in get_args(Literal["flow", "listener"])
    return Disturbance(
        number,
        one,
        victim,
        "freeze" if freezable and dice.random() < 0.3 else "kill",
        point,
        dice.choice((0, 0, 0, 1, 2)) if point in {"parsed", "converted", "staged", "gated", "before-commit"} else 0,
        dice.uniform(0, 8 if orchestrated else RANDOM_SECONDS),
        orchestrated,
        dice.choice(RETURNS) if orchestrated else "next schedule",
    )


def _points(dice: random.Random) -> dict[str, Iterator[Point]]:
    """Every point comes once before any comes again."""

    def endless(points: tuple[Point, ...]) -> Iterator[Point]:
        while True:
            yield from dice.sample(points, len(points))

    return {
        "files": endless(FILES),
        "drain": endless((*DRAIN, *DELIVER)),
        "deliver": endless(DELIVER),
        "listener": endless(LISTENER),
    }


def feeds_of(found: list[Disturbance]) -> set[Feed]:
    """Return the feeds that the rounds of a plan need."""
    return {one.round.feed for one in found}
