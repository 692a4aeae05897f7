import csv
import io
import json
import tracemalloc
from itertools import chain
from pathlib import Path

import pytest

from mappings.engine.model import Profile
from tasks.errors import BadRecord, ConfigError
from tasks.model import BEGIN, Frame, Position
from tasks.parse import csv_lines
from tasks.parse.csv import CsvFormat

COLUMNS = """
columns:
  id: {required: true}
  name: {}
  note: {}
resources:
  patient:
    type: Patient
    key: [$id]
    elements: {identifier: [{value: $id}], name: [{text: $name}], birthDate: 2000-01-01, language: $note}
"""


def made(folder: Path, file: str = "{}", columns: str = COLUMNS) -> CsvFormat:
    path = folder / "m.yaml"
    path.write_text(f"file: {file}\n{columns}")
    return CsvFormat(Profile("p", str(path), "UTC"))


def cells(form: CsvFormat, data: bytes, size: int = 1 << 20) -> list[list[list[str]]]:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return [form.parse(frame).content for frame in form.split(chunks)]


def codes(form: CsvFormat, frame: Frame) -> list[tuple[str, str]]:
    found = list(frame.findings)
    if not any(finding.severity == "error" for finding in found):
        try:
            form.parse(frame)
        except BadRecord as error:
            found += error.findings
    return [(finding.code, finding.location) for finding in found]


def test_a_row_is_a_frame_with_its_physical_line(tmp_path):
    form = made(tmp_path)
    frames = list(form.split([b'id,name,note\n1,a,x\n\n2,"b\nc ""d""","y,z"\r\n3,=1+1,\n']))
    assert [(frame.ordinal, frame.location) for frame in frames] == [(1, "line 2"), (2, "line 4"), (3, "line 6")]
    rows = [form.parse(frame).content for frame in frames]
    assert rows == [[["1", "a", "x"]], [["2", 'b\nc "d"', "y,z"]], [["3", "=1+1", ""]]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096])
def test_the_size_of_the_chunks_changes_nothing(tmp_path, size):
    data = 'id,name,note\n1,"a\n""b""",é\n2,,"x,\r\ny"\n3,ok,\n'.encode()
    assert cells(made(tmp_path), data, size) == cells(made(tmp_path), data)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "tab", "|"])
def test_encodings_line_ends_and_delimiters_give_the_same_cells_and_resume_anywhere(
    tmp_path, encoding, newline, delimiter
):
    sign = {"tab": "\t"}.get(delimiter, delimiter)
    wanted = [["1", "Müller, Ana; x|y\tz", 'say "hi"'], ["2", "ñandú", ""], ["3", "a" + newline + "b", "ç"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=sign, lineterminator=newline).writerows([["id", "name", "note"], *wanted])
    data = text.getvalue().encode(encoding)
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    form = made(tmp_path, f'{{delimiter: "{delimiter}", encoding: {declared}}}')
    frames = list(form.split([data[:5], data[5:]]))
    assert [form.parse(frame).content for frame in frames] == [[row] for row in wanted]
    for number, frame in enumerate(frames):
        position = Position(frame.next.offset, frame.next.ordinal, json.loads(json.dumps(dict(frame.next.context))))
        again = list(form.split([data[position.offset :]], position))
        assert again == frames[number + 1 :]


def test_a_byte_order_mark_overrules_the_declared_encoding(tmp_path):
    assert cells(made(tmp_path), "id,name,note\n1,é,\n".encode("utf-16")) == [[["1", "é", ""]]]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b"1,a", "csv-cell-count"),
        (b"1,a,b,c", "csv-cell-count"),
        (b'1,"a"b,c', "csv-stray-quote"),
        (b"1,\x00,c", "csv-nul-byte"),
        (b"1,\xff\xfe,c", "csv-not-utf-8"),
    ],
)
def test_a_row_that_cannot_be_read_stops_itself_alone(tmp_path, row, code):
    form = made(tmp_path)
    frames = list(form.split([b"id,name,note\n0,x,y\n" + row + b"\n2,x,y\n"]))
    assert [codes(form, frame) for frame in frames] == [[], [(code, "row")], []]


def test_a_quote_that_is_never_closed_stops_its_line_alone(tmp_path):
    form = made(tmp_path)
    frames = list(form.split([b'id,name,note\n1,"a,b\n2,x,y\n3,x,y\n']))
    assert [codes(form, frame) for frame in frames] == [[("csv-quote-not-closed", "row")], [], []]
    assert [frame.location for frame in frames] == ["line 2", "line 3", "line 4"]


def test_a_quote_inside_of_a_plain_cell_is_text(tmp_path):
    assert cells(made(tmp_path), b'id,name,note\n1,5" tube,x\n2,a,b\n') == [[["1", '5" tube', "x"]], [["2", "a", "b"]]]


def test_without_quoting_a_quote_is_text(tmp_path):
    assert cells(made(tmp_path, "{quote: none}"), b'id,name,note\n1,"a,b\n') == [[["1", '"a', "b"]]]


def test_an_empty_file_is_refused_and_a_header_alone_is_no_record(tmp_path):
    form = made(tmp_path)
    with pytest.raises(BadRecord, match="csv-empty"):
        list(form.split([]))
    assert list(form.split([b"id,name,note\n"])) == []
    assert list(form.split([b"id,name,note"])) == []


def test_a_missing_required_column_refuses_the_file_by_name(tmp_path):
    with pytest.raises(BadRecord) as caught:
        list(made(tmp_path).split([b"identity,name,note\n1,a,b\n"]))
    found = {(finding.code, finding.location, finding.severity) for finding in caught.value.findings}
    assert ("csv-missing-column", "id", "error") in found
    assert ("csv-extra-column", "identity", "warning") in found


def test_missing_extra_renamed_and_reordered_columns_are_told_once_by_name(tmp_path):
    form = made(tmp_path)
    frames = list(form.split([b"more,Name,ID\nx,a,1\ny,b,2\n"]))
    assert [form.parse(frame).content for frame in frames] == [[["1", "a", ""]], [["2", "b", ""]]]
    found = {(finding.code, finding.location, finding.severity) for finding in frames[0].findings}
    assert (
        found
        == {
            ("csv-missing-column", "note", "warning"),
            ("csv-extra-column", "more", "warning"),
            ("csv-renamed-column", "id", "information"),
            ("csv-renamed-column", "name", "information"),
            ("csv-reordered-column", "id", "information"),
        }
        or ("csv-reordered-column", "name", "information") in found
    )
    assert frames[1].findings == ()


def test_a_file_without_header_names_no_value(tmp_path):
    with pytest.raises(BadRecord) as caught:
        list(made(tmp_path).split([b"1,Zzyzxmarker,b\n2,c,d\n"]))
    assert [(finding.code, finding.location) for finding in caught.value.findings] == [("csv-no-header", "line 1")]


def test_a_declared_absence_of_a_header_reads_by_position(tmp_path):
    assert cells(made(tmp_path, "{header: false}"), b"1,a,b\n") == [[["1", "a", "b"]]]


def test_rows_of_one_key_are_one_frame_and_a_broken_one_stands_alone(tmp_path):
    form = made(tmp_path, "{group: [id]}")
    data = b'id,name,note\n1,a,\n1,"b\nb",\n2,c,\n2\n2,d,\n1,e,\n'
    frames = list(form.split([data]))
    assert [frame.location for frame in frames] == ["lines 2 to 4", "line 5", "line 6", "line 7", "line 8"]
    assert form.parse(frames[0]).content == [["1", "a", ""], ["1", "b\nb", ""]]
    assert [codes(form, frame) for frame in frames] == [[], [], [("csv-cell-count", "row")], [], []]
    for number, frame in enumerate(frames):
        assert list(form.split([data[frame.next.offset :]], frame.next)) == frames[number + 1 :]


@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (b"#END,2\n", []),
        (b"#END,2", []),
        (b'"#END","2"\n', []),
        (b"#END,3\n", [("csv-trailer-count", "trailer")]),
        (b"", [("csv-trailer-missing", "file")]),
        (b"#END,2\n3,x,y\n", [("csv-after-trailer", "row")]),
    ],
)
@pytest.mark.parametrize("group", ["", ", group: [id]"])
def test_a_trailer_is_held_against_the_rows(tmp_path, end, wanted, group):
    form = made(tmp_path, f'{{trailer: {{starts: "#END", count: 2}}{group}}}')
    data = b"id,name,note\n1,a,b\n2,c,d\n" + end
    frames = list(form.split([data]))
    assert [code for frame in frames[2:] for code in codes(form, frame)] == wanted
    assert len(frames) == 2 + len(wanted)
    for number, frame in enumerate(frames):
        rest = data[frame.next.offset :]
        assert list(form.split([rest] if rest else [], frame.next)) == frames[number + 1 :]


def test_reading_begins_at_the_beginning_by_default(tmp_path):
    form = made(tmp_path)
    assert list(form.split([b"id,name,note\n1,a,b\n"], BEGIN)) == list(form.split([b"id,name,note\n1,a,b\n"]))


def test_memory_does_not_grow_with_the_file(tmp_path):
    form = made(tmp_path)

    def peak(rows: int) -> int:
        chunks = (b"%d,name,note\n" % number * 100 for number in range(rows // 100))
        tracemalloc.start()
        try:
            count = sum(1 for _ in form.split(chain((b"id,name,note\n",), chunks)))
            assert count == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(40_000) < peak(4_000) + 100_000


def test_a_column_is_found_under_its_alias_without_a_word(tmp_path):
    form = made(tmp_path, columns=COLUMNS.replace("name: {}", "name: {aliases: [full name]}"))
    frames = list(form.split([b"id,full name,note\n1,a,b\n"]))
    assert form.parse(frames[0]).content == [["1", "a", "b"]]
    assert frames[0].findings == ()


def test_a_column_that_stands_twice_refuses_the_file(tmp_path):
    with pytest.raises(BadRecord, match="csv-repeated-column at name"):
        list(made(tmp_path).split([b"id,name,name,note\n1,a,b,c\n"]))


def test_a_quoted_text_of_many_lines_is_one_cell_and_costs_no_more_than_its_length(tmp_path):
    form = made(tmp_path)
    lines = 300_000
    frames = list(form.split([b'id,name,note\n1,"' + b'a ""b"" c\n' * lines + b'",x\n2,y,z\n']))
    assert [frame.location for frame in frames] == ["line 2", f"line {lines + 3}"]
    assert form.parse(frames[0]).content[0][1] == 'a "b" c\n' * lines


def test_a_cell_closes_and_the_next_one_opens_on_a_line(tmp_path):
    data = b'id,name,note\n1,"a\nb","c\nd"\n2,"e\n""f""\n","g"\n'
    assert cells(made(tmp_path), data) == [[["1", "a\nb", "c\nd"]], [["2", 'e\n"f"\n', "g"]]]


@pytest.mark.parametrize("size", [1, 3, 4096])
def test_what_is_escaped_inside_of_quotes_is_itself(tmp_path, size):
    form = made(tmp_path, "{escape: '\\'}")
    data = b'id,name,note\n1,"a \\"b\\" \\\\","x\n\\"y"\n2,"\\\\","z ""w"""\n3,a\\b,\n'
    assert cells(form, data, size) == [
        [["1", 'a "b" \\', 'x\n"y']],
        [["2", "\\", 'z "w"']],
        [["3", "a\\b", ""]],
    ]


@pytest.mark.parametrize("escape", ["\\\\", "a", ",", '"'])
def test_an_escape_that_cannot_be_one_is_told_when_the_map_is_loaded(tmp_path, escape):
    with pytest.raises(ConfigError, match="escape"):
        made(tmp_path, "{escape: '" + escape + "'}")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("utf-8-sig", "utf-8-sig"),
        ("UTF_8", "utf-8"),
        ("ISO-8859-1", "latin-1"),
        ("windows-1252", "cp1252"),
        ("iso-8859-15", "iso-8859-15"),
        ("cp850", "cp850"),
        ("utf16", "utf-16"),
    ],
)
def test_encodings_are_known_by_the_names_that_people_write(tmp_path, name, codec):
    data = "id,name,note\n1,é,ß\n".encode(codec)
    assert cells(made(tmp_path, f"{{encoding: {name}}}"), data) == [[["1", "é", "ß"]]]


@pytest.mark.parametrize(
    ("per", "wanted"), [("per: record", ["csv-key-again"]), ("per: record\n    living: true", []), ("", [])]
)
def test_rows_of_one_key_that_stand_apart_do_not_replace_the_first_ones_in_silence(tmp_path, per, wanted):
    columns = COLUMNS.replace("    key: [$id]", f"    key: [$id]\n    {per}")
    form = made(tmp_path, "{group: [id]}", columns)
    frames = list(form.split([b"id,name,note\n1,a,\n1,b,\n2,c,\n1,d,\n3,e,\n"]))
    assert [frame.location for frame in frames] == ["lines 2 to 3", "line 4", "line 5", "line 6"]
    assert [[finding.code for finding in frame.findings] for frame in frames] == [[], [], wanted, []]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("file", ["{}", "{quote: none}"])
def test_a_line_without_an_end_is_not_held_and_its_neighbours_are_read(tmp_path, monkeypatch, encoding, file):
    monkeypatch.setattr(csv_lines, "LONGEST_LINE", 10_000)
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    form = made(tmp_path, file)

    def text():
        yield f"{mark}id,name,note\n1,Ada,x\n2,".encode(encoding)
        for _ in range(4_000):
            yield ("n" * 500).encode(encoding)
        yield "\n3,Bob,y\n".encode(encoding)

    tracemalloc.start()
    frames = list(form.split(text()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [codes(form, frame) for frame in frames] == [[], [("csv-line-too-long", "row")], []]
    assert peak < 300_000
    whole = b"".join(text())
    after = frames[1].next
    assert [frame.data for frame in form.split([whole[after.offset :]], after)] == [frames[2].data]


def test_a_last_line_without_an_end_ends_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_lines, "LONGEST_LINE", 1_000)
    form = made(tmp_path)
    data = b"id,name,note\n1,Ada,x\n" + b"z" * 9_000
    frames = list(form.split([data[at : at + 500] for at in range(0, len(data), 500)]))
    assert [codes(form, frame) for frame in frames] == [[], [("csv-line-too-long", "row")]]
    assert frames[1].next.offset == len(data)
