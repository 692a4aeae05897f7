"""The feed file: a partner's contract as one YAML file, `deployments/feeds/<partner>.<feed>.yaml`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mappings.engine.model import Profile
from mappings.engine.yamlfile import YamlFile, YamlMistake, nearest
from tasks import registry
from tasks.errors import ConfigError
from tasks.settings import PACKAGED_FEEDS

DURATION = re.compile(r"(\d+)(s|m|h|d)")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FORMATS_WITH_LOCAL_TIMES = ("hl7v2", "csv")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Identify(_Part):
    """Which identifier is a patient's key, and which authorities mean the same everywhere."""

    patient: tuple[str, ...] = ()
    shared_authorities: tuple[str, ...] = ()


class Rule(_Part):
    """One line of `route:`; the first that holds decides.

    - `only` are the resource types that go to `to`; with `go_on` the next rules are asked too: so a record is split.
    - `call` is a function under `sluice.actions` that chooses among `to`, or drops with a reason.
    """

    when: str | None = None
    to: tuple[str, ...] = ()
    drop: str | None = None
    only: tuple[str, ...] = ()
    go_on: bool = False
    call: str | None = None

    @field_validator("call")
    @classmethod
    def _known_action(cls, value: str | None) -> str | None:
        return _action(value)

    @model_validator(mode="after")
    def _one_action(self) -> Rule:
        if bool(self.to) == (self.drop is not None):
            raise ValueError("a rule says either `to:` with destinations or `drop:` with a reason")
        if self.drop is not None and (self.only or self.go_on or self.call):
            raise ValueError("`only:`, `go_on:` and `call:` go with `to:`, not with `drop:`")
        return self


class Enrichment(_Part):
    """One line of `enrich:`: what is added to what a record says.

    - `translate: Observation.code` adds the codings that lookup `with` has for it.
    - `fill: Location.name` says what the record does not say: `column` of the row of lookup `with` that `by` finds.
    - `call` lets a function under `sluice.actions` change resources (`on` a type), with `options`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    translate: str | None = Field(default=None, pattern=r"^[A-Z][A-Za-z]+\.[a-zA-Z.]+$")
    fill: str | None = Field(default=None, pattern=r"^[A-Z][A-Za-z]+\.[a-zA-Z]+$")
    call: str | None = None
    table: str | None = Field(default=None, alias="with")
    by: str | None = None
    column: str | None = None
    on: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("call")
    @classmethod
    def _known_action(cls, value: str | None) -> str | None:
        return _action(value)

    @model_validator(mode="after")
    def _one_step(self) -> Enrichment:
        if sum(one is not None for one in (self.translate, self.fill, self.call)) != 1:
            raise ValueError("a step says one of `translate:`, `fill:` and `call:`")
        if (self.call is None) != (self.table is not None):
            raise ValueError("`translate:` and `fill:` need `with:`, a lookup's name")
        if (self.fill is not None) != (self.by is not None and self.column is not None):
            raise ValueError("`fill:` needs `by:`, the element that finds the row, and `column:`")
        return self


def _action(value: str | None) -> str | None:
    if value is not None and value not in registry.names("actions"):
        raise ValueError(f"{value} is not an action{nearest(value, registry.names('actions'))}")
    return value


class Schedule(_Part):
    """When a feed is polled: every so often, or by a cron line in the feed's zone."""

    every: str | None = None
    cron: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Schedule:
        if (self.every is None) == (self.cron is None):
            raise ValueError("a schedule has either `every:` (30s, 5m, 2h, 1d) or `cron:`")
        if self.every is not None:
            seconds(self.every)
        return self


class Expect(_Part):
    """What should have come by when."""

    by: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    on: Literal["daily", "weekdays"] = "daily"
    holidays: str | None = None
    records: tuple[int, int] | None = None

    @field_validator("holidays")
    @classmethod
    def _known_holidays(cls, value: str | None) -> str | None:
        if value is not None:
            calendar(value)
        return value

    @field_validator("records")
    @classmethod
    def _in_order(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError("`records` is [least, most], as [100, 50000] is")
        return value


class ReceiptOptions(_Part):
    """Where the partner finds what was taken and what was not."""

    path: str


class QuarantineOptions(_Part):
    """When too many bad records hold a delivery, who owns them, and whether a mended map releases them by itself."""

    hold_above_percent: float = Field(default=100, ge=0, le=100)
    owner: str | None = None
    auto_release: bool = False


class VanishedOptions(_Part):
    """How much of what a feed says may be missing from a full delivery before it is held."""

    hold_above_percent: float = Field(default=10, ge=0, le=100)


class Feed(_Part):
    """One feed, checked; `source` holds the options of its own kind."""

    name: str
    partner: str
    source: Any
    format: str
    mapping: str = ""
    timezone: str | None = None
    fhir_version: Literal["4.0.1", "5.0.0"] = "4.0.1"
    identify: Identify = Identify()
    snapshot: Literal["changes", "full"] = "changes"
    on_correction: Literal["replace", "add"] = "replace"
    merge: Literal["patch", "replace"] = "patch"
    checks: str | None = None
    route: tuple[Rule, ...] = (Rule(to=("warehouse",)),)
    enrich: tuple[Enrichment, ...] = ()
    schedule: Schedule | None = None
    expect: Expect | None = None
    receipt: ReceiptOptions | None = None
    quarantine: QuarantineOptions = QuarantineOptions()
    vanished: VanishedOptions = VanishedOptions()

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in registry.names("formats"):
            raise ValueError(f"{value} is not a format{nearest(value, registry.names('formats'))}")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        try:
            return value and ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value} is not an IANA time zone, as America/New_York is") from None

    @model_validator(mode="after")
    def _zone_where_times_are_local(self) -> Feed:
        if self.format in FORMATS_WITH_LOCAL_TIMES and not self.timezone:
            raise ValueError(f"`timezone:` is missing: {self.format} may carry times without an offset")
        return self

    @model_validator(mode="after")
    def _vanished_from_full_ones(self) -> Feed:
        if "vanished" in self.model_fields_set and self.snapshot != "full":
            raise ValueError("`vanished:` belongs to `snapshot: full`: of changes nothing can be missing")
        return self

    @model_validator(mode="after")
    def _zone_where_time_is_expected(self) -> Feed:
        if self.expect and not self.timezone:
            raise ValueError("`timezone:` is missing: `expect.by` is a time of day there")
        return self

    @property
    def profile(self) -> Profile:
        """What the converters need to know of the partner."""
        return Profile(
            partner=self.partner,
            mapping=self.mapping or "v2",
            timezone=self.timezone,
            patient=self.identify.patient,
            shared_authorities=self.identify.shared_authorities,
            merge=self.merge,
            fhir_version=self.fhir_version,
        )

    @property
    def destinations(self) -> tuple[str, ...]:
        """Every destination that a rule names, except the warehouse itself."""
        named = dict.fromkeys(name for rule in self.route for name in rule.to)
        return tuple(name for name in named if name != "warehouse")


@lru_cache(maxsize=64)
def calendar(place: str) -> Container[date]:
    """Return the public holidays of a country (`US`) or of a part of it (`US-NY`); raises `ValueError`."""
    import holidays

    country, _, part = place.partition("-")
    known = holidays.list_supported_countries()
    if country not in known:
        raise ValueError(f"{country} is no ISO 3166 code of a country with known holidays, as US or US-NY is")
    if part and part not in known[country]:
        raise ValueError(f"{part} is not a part of {country} with holidays of its own{nearest(part, known[country])}")
    found: Container[date] = holidays.country_holidays(country, subdiv=part or None)
    return found


def seconds(duration: str) -> int:
    """Return the seconds of a duration such as 30s, 5m, 2h, 1d; raises `ValueError` for another form."""
    match = DURATION.fullmatch(duration)
    if not match:
        raise ValueError("a duration is a number and one of s, m, h, d, as 5m is")
    return int(match[1]) * UNITS[match[2]]


def folders() -> list[Path]:
    """Return where feed files lie: the folders of `SLUICE_FEEDS` (colon separated), or the project's own.

    Raises `ConfigError` where one of them is no folder.
    """
    own = [Path(part) for part in os.environ.get("SLUICE_FEEDS", "").split(":") if part]
    for folder in own:
        if not folder.is_dir():
            raise ConfigError(f"SLUICE_FEEDS: {folder} is no folder")
    return own or [PACKAGED_FEEDS]


def feed_files() -> dict[str, Path]:
    """Return every feed's name and file, sorted by name."""
    return {path.stem: path for folder in folders() for path in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Path:
    """Return the file of the feed of that name, or of a path to a feed file; raises `ConfigError` where none is."""
    path = Path(name) if name.endswith(".yaml") else feed_files().get(name)
    if path is None:
        raise ConfigError(f"feed {name}: there is no such file{nearest(name, feed_files())}")
    return path


def load(name: str) -> Feed:
    """Return the feed of that name, or of a path to a feed file; raises `ConfigError` with every mistake in it."""
    return read(find(name))


def good_feeds(tell: Callable[[str, ConfigError], object]) -> list[Feed]:
    """Return the feeds whose file is right; of the others `tell` gets name and mistakes, and nobody waits for them."""
    found = []
    for name in feed_files():
        try:
            found.append(load(name))
        except ConfigError as error:
            tell(name, error)
    return found


def read(path: Path) -> Feed:
    """Read one feed file; raises `ConfigError`, one line a mistake: file, line, what is wrong, nearest valid word."""
    if path.is_dir():
        raise ConfigError(f"{path.name} is a folder; a feed is one YAML file")
    try:
        file = YamlFile(path)
    except YamlMistake as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{path.name}: it cannot be read ({error.strerror})") from None
    if path.stem.count(".") != 1:
        raise ConfigError(f"{path.name}: a feed file is named <partner>.<feed>.yaml")
    problems = list(_problems(file))
    try:
        body = {key: value for key, value in file.data.items() if key not in {"name", "partner"}}
        feed = Feed(**body, name=path.stem, partner=path.stem.split(".")[0])
    except ValidationError as error:
        problems += [_explain(file, item) for item in error.errors(include_input=False, include_url=False)]
    if problems:
        raise ConfigError(problems[0], tuple(sorted(problems, key=_line_of)))
    return feed.model_copy(update={"source": source_options(file.data["source"])})


def source_options(block: Mapping[str, Any]) -> Any:
    """Return a source block as its kind's own options; raises `ConfigError` or pydantic's `ValidationError`."""
    return registry.find("sources", str(block.get("kind"))).Options(**block)


def _problems(file: YamlFile) -> Iterator[str]:
    for key in ("name", "partner"):
        if key in file.data:
            yield file.mistake([key], f"`{key}` follows from the file's name and is not written here")
    block = file.data.get("source")
    if not isinstance(block, dict) or "kind" not in block:
        yield file.mistake(["source"], f"`source:` needs a `kind`{nearest('', registry.names('sources'))}")
        return
    try:
        options = source_options(block)
        if isinstance(file.data.get("receipt"), dict) and (
            wrong := _no_place(block["kind"], options, file.data["receipt"])
        ):
            yield file.mistake(["receipt"], wrong)
        if file.data.get("snapshot") == "full" and not hasattr(registry.find("sources", block["kind"]), "put"):
            wrong = f"needs a source of files, each of which says everything; {block['kind']} brings changes"
            yield file.mistake(["snapshot"], f"`snapshot: full` {wrong}")
        for place, wrong in options.mistakes(file.data):
            yield file.mistake(place, wrong)
    except ConfigError as error:
        yield file.mistake(["source", "kind"], str(error))
    except ValidationError as error:
        options = registry.find("sources", block["kind"]).Options
        for item in error.errors(include_input=False, include_url=False):
            yield _explain(file, item, ("source",), options)


def _no_place(kind: str, source: Any, receipt: Mapping[str, Any]) -> str | None:
    """Say why receipts cannot go where the feed says: what is written there must never be taken for a delivery."""
    if not hasattr(registry.find("sources", kind), "put"):
        return f"`receipt:` needs a source that takes files; {kind} answers its partner in its own way"
    folder, path = (f"{str(place).strip('/')}/".lstrip("/") for place in (source.path, receipt.get("path", "")))
    globs = (source.match,) if isinstance(source.match, str) else source.match
    if path == folder or (path.startswith(folder) and any("/" in glob for glob in globs)):
        return "`receipt.path`: the source reads there: name a folder in which it does not look for deliveries"
    return None


def _explain(file: YamlFile, item: Any, prefix: tuple[str | int, ...] = (), model: type[BaseModel] = Feed) -> str:
    path = (*prefix, *item["loc"])
    if item["type"] == "extra_forbidden":
        return file.mistake(path, f"`{path[-1]}` is not a key here{nearest(str(path[-1]), _keys(model, item['loc']))}")
    if item["type"] == "missing":
        return file.mistake(path, f"`{'.'.join(map(str, path))}` is missing")
    message = item["msg"].removeprefix("Value error, ")
    where = f"`{'.'.join(map(str, path))}`: " if path else ""
    return file.mistake(path, where + message)


def _keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that are valid beside the one at `location`."""
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        found = [kind for kind in _inside(annotation) if issubclass(kind, BaseModel)]
        if not found:
            break
        model = found[0]
    return [key for key in model.model_fields if model is not Feed or key not in {"name", "partner"}]


def _inside(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _inside(part)


def _line_of(problem: str) -> int:
    return int(problem.split(":")[1])
