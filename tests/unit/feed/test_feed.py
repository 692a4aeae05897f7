from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.feed import PACKAGED_FEEDS, Rule, feed_files, good_feeds, load, read, seconds

GOOD = "source: {kind: memory}\nformat: fhir-ndjson\n"


def write(folder: Path, text: str, name: str = "some.feed.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        read(write(folder, text))
    return error.value.problems


def test_name_and_partner_come_from_the_files_name(tmp_path: Path) -> None:
    feed = read(write(tmp_path, GOOD, "northside.lab-results.yaml"))
    assert (feed.name, feed.partner) == ("northside.lab-results", "northside")


def test_what_is_not_said_has_no_effect(tmp_path: Path) -> None:
    feed = read(write(tmp_path, GOOD))
    assert (feed.merge, feed.snapshot, feed.on_correction, feed.checks) == ("patch", "changes", "replace", None)
    assert feed.route == (Rule(to=("warehouse",)),)
    assert feed.destinations == ()
    assert feed.quarantine.hold_above_percent == 100
    assert feed.profile.mapping == "v2"


def test_what_may_vanish_is_said_of_full_deliveries_of_files_alone(tmp_path: Path) -> None:
    feed = read(write(tmp_path, GOOD + "snapshot: full\nvanished: {hold_above_percent: 5}\n"))
    assert (feed.snapshot, feed.vanished.hold_above_percent) == ("full", 5)
    assert "belongs to `snapshot: full`" in problems(tmp_path, GOOD + "vanished: {hold_above_percent: 5}\n")[0]
    http = "source: {kind: http, open: true}\nformat: fhir-ndjson\nsnapshot: full\n"
    assert "needs a source of files" in problems(tmp_path, http)[0]


def test_destinations_are_named_once_and_without_the_warehouse(tmp_path: Path) -> None:
    rules = "route: [{when: a = b, to: [ehr, warehouse]}, {when: c = d, drop: why}, {to: [warehouse, lab, ehr]}]\n"
    assert read(write(tmp_path, GOOD + rules)).destinations == ("ehr", "lab")


def test_the_profile_says_what_converters_need(tmp_path: Path) -> None:
    text = "source: {kind: memory}\nformat: hl7v2\ntimezone: Asia/Kathmandu\nmerge: replace\n"
    text += "identify: {patient: [MR@A, PI], shared_authorities: [X]}\n"
    profile = read(write(tmp_path, text)).profile
    assert (profile.partner, profile.timezone, profile.merge) == ("some", "Asia/Kathmandu", "replace")
    assert (profile.patient, profile.shared_authorities) == (("MR@A", "PI"), ("X",))


@pytest.mark.parametrize("key", ["on", "off", "yes", "no", "5", "null", "2026-01-01"])
def test_a_key_is_the_text_that_stands_there(tmp_path: Path, key: str) -> None:
    assert problems(tmp_path, f"{GOOD}{key}: x\n")[0].startswith(f"some.feed.yaml:3: `{key}` is not a key here")


def test_on_is_a_word_and_no_truth_value(tmp_path: Path) -> None:
    feed = read(write(tmp_path, GOOD + "timezone: UTC\nexpect: {by: 06:00, on: weekdays}\n"))
    assert feed.expect
    assert (feed.expect.by, feed.expect.on) == ("06:00", "weekdays")


def test_mistakes_come_in_the_order_of_their_lines(tmp_path: Path) -> None:
    said = problems(
        tmp_path, "mergee: x\nsource: {kind: memory, pth: y}\nformat: csv\nsnapshot: ful\ntimezone: Nowhere\n"
    )
    assert [line.split(":")[1] for line in said] == ["1", "2", "4", "5"]


@pytest.mark.parametrize("format_name", ["hl7v2", "csv"])
def test_a_feed_of_local_times_needs_its_zone(tmp_path: Path, format_name: str) -> None:
    said = problems(tmp_path, f"source: {{kind: memory}}\nformat: {format_name}\n")
    assert said == (f"some.feed.yaml:1: `timezone:` is missing: {format_name} may carry times without an offset",)


@pytest.mark.parametrize("rule", ["{}", "{to: []}", "{to: [a], drop: b}", "{when: a = b}"])
def test_a_rule_sends_or_drops(tmp_path: Path, rule: str) -> None:
    assert "a rule says either `to:` with destinations or `drop:`" in problems(tmp_path, f"{GOOD}route: [{rule}]\n")[0]


@pytest.mark.parametrize(
    "schedule", ["{}", "{every: 5m, cron: '* * * * *'}", "{every: 5}", "{every: m}", "{every: 5w}"]
)
def test_a_schedule_has_one_form(tmp_path: Path, schedule: str) -> None:
    assert problems(tmp_path, f"{GOOD}schedule: {schedule}\n")[0].startswith("some.feed.yaml:3: `schedule")


@pytest.mark.parametrize(("text", "expected"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("0s", 0)])
def test_a_duration_is_a_number_and_a_unit(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "5min", "-5m", "1.5h", "5m "])
def test_another_form_of_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is a number and one of s, m, h, d"):
        seconds(text)


@pytest.mark.parametrize("name", ["some.yaml", "a.b.c.yaml", "some.feed.x.yaml"])
def test_a_file_is_named_partner_and_feed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"is named <partner>\.<feed>\.yaml"):
        read(write(tmp_path, GOOD, name))


def test_feeds_are_found_in_the_folders_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD, "b.two.yaml")
    monkeypatch.setenv("SLUICE_FEEDS", f"{tmp_path}:{PACKAGED_FEEDS}")
    assert {"b.two", "northside.hl7"} <= set(feed_files())
    assert load("b.two").partner == "b"
    with pytest.raises(ConfigError, match=r"feed b\.tow: there is no such file \(did you mean b\.two\?\)"):
        load("b.tow")
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="is no folder"):
        feed_files()


def test_every_packaged_feed_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_FEEDS", raising=False)
    assert {"northside.hl7", "eastlab.results", "eastlab.roster", "county.registry"} <= set(feed_files())
    for name in feed_files():
        assert load(name).name == name


def test_a_feed_file_with_a_mistake_keeps_no_other_feed_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, GOOD, "north.good.yaml")
    write(tmp_path, "nonsense: [", "north.bad.yaml")
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path))
    told: list[str] = []
    assert [feed.name for feed in good_feeds(lambda name, _error: told.append(name))] == ["north.good"]
    assert told == ["north.bad"]
