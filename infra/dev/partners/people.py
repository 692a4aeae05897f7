"""Synthetic people, and measurements that could be theirs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from infra.dev.partners import vocabulary as words
from infra.dev.partners.model import ZONE


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who does not exist."""

    number: str
    family: str
    given: str
    middle: str
    sex: str
    born: date
    street: str
    city: tuple[str, str, str]
    phone: str
    mobile: str
    email: str
    race: tuple[str, str]
    language: tuple[str, str]
    ssn: str


def person(dice: random.Random, number: str) -> Person:
    """Draw a person whose local record number is `number`."""
    sex = dice.choice("FM")
    givens = words.GIVEN_F if sex == "F" else words.GIVEN_M
    return Person(
        number=number,
        family=dice.choice(words.FAMILIES),
        given=dice.choice(givens),
        middle=dice.choice((*"ABCDEJKLMR", "", "")),
        sex=sex,
        born=date(1930, 1, 1) + timedelta(days=dice.randrange(33_000)),
        street=f"{dice.randrange(1, 9900)} {dice.choice(words.STREETS)}",
        city=dice.choice(words.CITIES),
        phone=f"555{dice.randrange(10_000_000):07d}",
        mobile=f"555{dice.randrange(10_000_000):07d}",
        email=f"p{number.lower()}@example.org",
        race=dice.choice(words.RACES),
        language=dice.choice(words.LANGUAGES),
        ssn=f"9{dice.randrange(100_000_000):08d}",
    )


def measure(dice: random.Random, test: words.Test) -> tuple[str, str]:
    """Draw a value and its abnormal flag (`N`, `L`, `H`); about one in six lies outside of the range."""
    span = test.high - test.low
    value = dice.uniform(test.low, test.high)
    where = dice.random()
    if where < 0.08:
        value = max(test.low - dice.uniform(0.05, 0.4) * span, test.low * 0.4)
    elif where < 0.17:
        value = test.high + dice.uniform(0.05, 0.8) * span
    text = f"{value:.{test.digits}f}"
    number = Decimal(text)
    flag = "L" if number < Decimal(str(test.low)) else "H" if number > Decimal(str(test.high)) else "N"
    return text, flag


def moment(day: date, minute: float) -> datetime:
    """Return the instant `minute` minutes of elapsed time after local midnight; safe on days of 23 and 25 hours."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZONE)
    return datetime.fromtimestamp(midnight.timestamp() + 60 * minute, ZONE)


def later(when: datetime, minutes: float) -> datetime:
    """Return the instant so many minutes of elapsed time later; plain addition would move the wall clock instead."""
    return datetime.fromtimestamp(when.timestamp() + 60 * minutes, ZONE)
