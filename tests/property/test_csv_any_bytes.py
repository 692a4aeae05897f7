import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.engine.model import Profile
from tasks.convert.csv import CsvConverter
from tasks.errors import BadRecord
from tasks.parse.csv import CsvFormat

PROFILES = [Profile("p", name, "America/New_York") for name in ("eastlab-results", "eastlab-roster")]
FORMATS = {profile.mapping: CsvFormat(profile) for profile in PROFILES}
CONVERTERS = {profile.mapping: CsvConverter(profile) for profile in PROFILES}
PIECES = st.sampled_from(
    [b'"', b",", b";", b"\n", b"\r", b"\r\n", b"\x00", b"#END", b"\xff", b"1", b"2026-02-30", b" "]
)
NOISE = st.lists(st.one_of(PIECES, st.binary(max_size=6)), max_size=60).map(b"".join)


def header(mapping: str) -> bytes:
    layout = FORMATS[mapping].layout
    return layout.delimiter.join(column.name for column in layout.columns).encode() + b"\n"


@pytest.mark.parametrize("mapping", FORMATS)
@settings(max_examples=300, deadline=None)
@given(noise=NOISE, headed=st.booleans(), cut=st.integers(1, 50))
def test_any_bytes_become_frames_that_cover_the_file_once_and_never_a_crash(mapping, noise, headed, cut):
    form, converter = FORMATS[mapping], CONVERTERS[mapping]
    data = (header(mapping) if headed else b"") + noise
    chunks = [data[at : at + cut] for at in range(0, len(data), cut)]
    try:
        frames = list(form.split(chunks))
    except BadRecord:
        return
    assert frames == list(form.split([data]))
    at = 0
    for number, frame in enumerate(frames):
        assert frame.ordinal == number + 1
        assert at <= frame.next.offset <= len(data)
        at = frame.next.offset
        assert list(form.split([data[at:]], frame.next)) == frames[number + 1 :]
        if any(finding.severity == "error" for finding in frame.findings):
            continue
        try:
            made = converter.convert(form.parse(frame))
        except BadRecord:
            continue
        assert made.entries or any(finding.severity == "error" for finding in made.findings)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs",)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(CELL, min_size=22, max_size=22), max_size=5),
    newline=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_a_writer_of_csv_wrote_is_read_again(rows, newline, quoting):
    # Python's writer leaves a bare CR unquoted, where no reader can tell it from a line's end.
    bare = quoting == csv.QUOTE_MINIMAL
    rows = [["#" + row[0], *row[1:]] for row in rows]
    rows = [[cell.replace("\r", " ") if bare else cell for cell in row] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=newline, quoting=quoting).writerows(rows)
    form = FORMATS["eastlab-results"]
    data = header("eastlab-results").replace(b"\n", newline.encode()) + text.getvalue().encode()
    assert [form.parse(frame).content for frame in form.split([data])] == [[row] for row in rows]
