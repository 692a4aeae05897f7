"""UCUM units brought to one unit a kind of quantity, exactly, so that numbers from several senders can be compared.

The grammar is UCUM 2.1, section 2: terms with `.` and `/`, prefixes, exponents, parentheses, annotations in braces.
Arbitrary units (`[iU]`, equivalents) stay a kind of their own, as section 4.5 of UCUM demands.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

Dimension = tuple[tuple[str, int], ...]

PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
    "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}  # fmt: skip
BASE = ("g", "m", "s", "mol", "K", "cd", "C", "rad", "[iU]", "eq", "osm", "B", "[pH]", "[CFU]", "[arb'U]")
METRIC = {
    "L": ("1", "dm3"), "l": ("1", "dm3"), "t": ("1000", "kg"), "J": ("1", "N.m"), "N": ("1", "kg.m/s2"),
    "Pa": ("1", "N/m2"), "bar": ("100000", "Pa"), "W": ("1", "J/s"), "Hz": ("1", "/s"), "U": ("1", "umol/min"),
    "kat": ("1", "mol/s"), "cal": ("4.184", "J"), "V": ("1", "J/C"), "A": ("1", "C/s"), "Ohm": ("1", "V/A"),
    "m[Hg]": ("133.3220", "kPa"), "m[H2O]": ("9.80665", "kPa"), "eV": ("160217.6487e-24", "J"), "Bq": ("1", "/s"),
    "Gy": ("1", "J/kg"), "Sv": ("1", "J/kg"), "u": ("1.6605402e-24", "g"), "[IU]": ("1", "[iU]"),
}  # fmt: skip
PLAIN = {
    "%": ("1", "10*-2"), "[ppth]": ("1", "10*-3"), "[ppm]": ("1", "10*-6"), "[ppb]": ("1", "10*-9"),
    "min": ("60", "s"), "h": ("60", "min"), "d": ("24", "h"), "wk": ("7", "d"), "mo": ("1", "a/12"),
    "a": ("365.25", "d"), "[in_i]": ("2.54", "cm"), "[ft_i]": ("12", "[in_i]"), "[lb_av]": ("7000", "[gr]"),
    "[oz_av]": ("1", "[lb_av]/16"), "[gr]": ("64.79891", "mg"), "[stone_av]": ("14", "[lb_av]"),
    "[foz_us]": ("1", "[gal_us]/128"), "[gal_us]": ("231", "[in_i]3"), "[degF]": ("5", "K/9"), "Cel": ("1", "K"),
    "deg": ("3.14159265358979", "rad/180"), "[pi]": ("3.14159265358979", "1"), "[dr_av]": ("1", "[oz_av]/16"),
    "[cup_us]": ("8", "[foz_us]"), "[tsp_us]": ("1", "[foz_us]/6"), "[tbs_us]": ("1", "[foz_us]/2"),
    "[drp]": ("1", "ml/20"), "[Cal]": ("1", "kcal"), "[psi]": ("6894.757293168361", "Pa"),
    "[HPF]": ("1", "1"), "[LPF]": ("1", "1"),
}  # fmt: skip
WANTED = (
    "kg", "cm", "cm2", "mL", "s", "Cel", "mm[Hg]", "mg/dL", "mmol/L", "10*9/L", "U/L", "[iU]/L", "eq/L",
    "mosm/kg", "mosm/L", "/min", "mL/min", "kg/m2", "mg", "mmol", "kcal", "g/mol", "mL/kg", "mg/kg", "mmol/kg",
    "[iU]", "g/d", "mmol/d", "[pH]", "[CFU]/mL", "mm/h", "V", "Bq", "Gy",
)  # fmt: skip
"""The unit of each kind of quantity that numbers are brought to; a kind that is not here keeps its own."""

OF_CELLS = {"fL": ("fL", "1"), "um3": ("fL", "1"), "fl": ("fL", "1"), "pg": ("pg", "1"), "fg": ("pg", "0.001")}
"""What is measured of single cells keeps a unit of its own: nobody reads it in millilitres or kilograms."""

SHARES = {"%": "1", "L/L": "100", "l/l": "100", "[ppth]": "0.1"}
"""Of numbers without a dimension these alone are shares; a ratio, an index or mg/g stays as it was sent."""

OFFSET = {"Cel": Fraction("273.15"), "[degF]": Fraction("459.67") * 5 / 9}
_TOKEN = re.compile(r"\{[^{}]*\}|[()./]|10\*[+-]?\d*|10\^[+-]?\d*|(?:\[[^\[\]]*\]|[A-Za-z%'\"_])+[+-]?\d*|\d+")
_SYMBOL = re.compile(r"((?:\[[^\[\]]*\]|[A-Za-z%'\"_])+)([+-]?\d*)")


@dataclass(frozen=True, slots=True)
class Normal:
    """Value in `unit` = value as sent * `factor` + `addend`."""

    unit: str
    factor: Decimal
    addend: Decimal


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a dimension's base units."""

    number: Fraction
    dimension: Dimension

    def times(self, other: Quantity, power: int = 1) -> Quantity:
        """Return the product with `other` to the power."""
        dimension = Counter(dict(self.dimension))
        for base, exponent in other.dimension:
            dimension[base] += exponent * power
        left = tuple(sorted((base, exponent) for base, exponent in dimension.items() if exponent))
        return Quantity(self.number * other.number**power, left)


ONE = Quantity(Fraction(1), ())


@lru_cache(maxsize=4096)
def normal(unit: str) -> Normal | None:
    """Return how numbers in `unit` are brought to the unit of their kind; None where it is not a unit of UCUM."""
    try:
        quantity = _Reader(unit).read()
    except (ValueError, RecursionError):
        return None
    if unit in OF_CELLS:
        return Normal(OF_CELLS[unit][0], Decimal(OF_CELLS[unit][1]), Decimal(0))
    if not quantity.dimension:
        return Normal("%" if unit in SHARES else unit, Decimal(SHARES.get(unit, "1")), Decimal(0))
    wanted = _wanted().get(quantity.dimension)
    if wanted is None or (quantity.dimension == (("K", 1),) and unit not in {*OFFSET, "K"}):
        return Normal(unit, Decimal(1), Decimal(0))
    factor = quantity.number / wanted[1].number
    addend = Fraction(0)
    if wanted[0] == "Cel":
        addend = OFFSET.get(unit, Fraction(0)) - OFFSET["Cel"]
    return Normal(wanted[0], _decimal(factor), _decimal(addend))


@lru_cache(maxsize=1)
def _wanted() -> dict[Dimension, tuple[str, Quantity]]:
    kinds: dict[Dimension, tuple[str, Quantity]] = {}
    for unit in WANTED:
        quantity = _Reader(unit).read()
        kinds.setdefault(quantity.dimension, (unit, quantity))
    return kinds


def _decimal(value: Fraction) -> Decimal:
    with localcontext() as context:
        context.prec = 28
        return Decimal(value.numerator) / Decimal(value.denominator)


class _Reader:
    """Reads one unit; raises `ValueError` for what is not one."""

    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        if not text or len(text) > 100 or "".join(self.tokens) != text:
            raise ValueError("not a unit")
        self.at = 0

    def read(self) -> Quantity:
        """Return the whole term's quantity."""
        quantity = self._term()
        if self.at != len(self.tokens):
            raise ValueError("not a unit")
        return quantity

    def _take(self) -> str:
        if self.at >= len(self.tokens):
            raise ValueError("not a unit")
        self.at += 1
        return str(self.tokens[self.at - 1])

    def _peek(self) -> str:
        return str(self.tokens[self.at]) if self.at < len(self.tokens) else ""

    def _term(self) -> Quantity:
        quantity = ONE if self._peek() == "/" else self._component()
        while self._peek() in {".", "/"}:
            power = 1 if self._take() == "." else -1
            quantity = quantity.times(self._component(), power)
        return quantity

    def _component(self) -> Quantity:
        part = self._take()
        if part == "(":
            quantity = self._term()
            if self._take() != ")":
                raise ValueError("not a unit")
            return quantity
        quantity = ONE if part.startswith("{") else _simple(part)
        if self._peek().startswith("{"):
            self._take()
        return quantity


@lru_cache(maxsize=4096)
def _simple(token: str) -> Quantity:
    if token.isdigit():
        return Quantity(Fraction(int(token)), ())
    if token.startswith(("10*", "10^")):
        return Quantity(Fraction(10) ** _exponent(token[3:]), ())
    found = _SYMBOL.fullmatch(token)
    if found is None:
        raise ValueError("not a unit")
    return ONE.times(_symbol(found[1]), _exponent(found[2]))


def _exponent(text: str) -> int:
    exponent = int(text) if text else 1
    if abs(exponent) > 30:
        raise ValueError("not a unit")
    return exponent


def _symbol(symbol: str) -> Quantity:
    whole = _atom(symbol)
    if whole is not None:
        return whole
    for length in (1, 2):
        prefix, atom = symbol[:length], symbol[length:]
        if prefix in PREFIXES and atom and (atom in METRIC or (atom in BASE and atom != "[pH]")):
            inner = _atom(atom)
            assert inner is not None  # noqa: S101 - it is in one of the tables
            return Quantity(inner.number * Fraction(10) ** PREFIXES[prefix], inner.dimension)
    raise ValueError("not a unit")


def _atom(symbol: str) -> Quantity | None:
    if symbol in BASE:
        return Quantity(Fraction(1), ((symbol, 1),))
    defined = METRIC.get(symbol) or PLAIN.get(symbol)
    if defined is None:
        return None
    return Quantity(Fraction(defined[0]), ()).times(_Reader(defined[1]).read())
