"""Fields, escapes and charsets of one message."""

from __future__ import annotations

import pytest

from mappings.engine.model import Profile
from tasks.errors import BadRecord
from tasks.model import BEGIN, Frame
from tasks.parse.hl7v2 import CLEAR, Hl7v2Format, Message

FORMAT = Hl7v2Format(Profile("northside"))
HEAD = "MSH|^~\\&|LAB|WEST|EHR|WEST|20250314080910-0500||ORU^R01^ORU_R01|1|P|2.5.1"


def parse(*segments: str, head: str = HEAD, encoding: str = "utf-8") -> Message:
    return parse_bytes("\r".join((head, *segments, "")).encode(encoding))


def parse_bytes(data: bytes) -> Message:
    parsed = FORMAT.parse(Frame(1, "message 1", data, BEGIN))
    assert parsed.findings == parsed.content.findings
    message: Message = parsed.content
    return message


def declared(charset: str) -> str:
    return HEAD + "||||||" + charset


def codes(message: Message) -> list[tuple[str, str]]:
    return [(finding.code, finding.location) for finding in message.findings]


def text(value: str, head: str = HEAD, encoding: str = "utf-8") -> str:
    return parse(f"OBX|1|TX|A||{value}|mg", head=head, encoding=encoding).segments[1].value(5)


def test_the_header_says_what_the_message_is() -> None:
    message = parse()
    assert (message.code, message.trigger, message.structure, message.version) == ("ORU", "R01", "ORU_R01", "2.5.1")
    assert message.dictionary.version == "2.5.1"
    assert message.findings == ()


def test_msh_1_and_msh_2_are_read_by_their_place() -> None:
    header = parse().segments[0]
    assert header.value(1) == "|"
    assert header.field(2) == ((("^~\\&",),),)
    assert [header.value(3), header.value(9, comp=2), header.value(12)] == ["LAB", "R01", "2.5.1"]
    assert header.count == 12


def test_a_field_is_repetitions_of_components_of_subcomponents() -> None:
    pid = parse("PID|1||7^^^A&1.2&ISO^MR~8|||x").first("PID")
    assert pid is not None
    assert pid.field(3) == ((("7",), ("",), ("",), ("A", "1.2", "ISO"), ("MR",)), (("8",),))
    assert pid.value(3, comp=4, sub=2) == "1.2"
    assert pid.value(3, rep=2) == "8"
    assert pid.repetitions(3) == 2
    assert pid.count == 6
    assert pid.fields[1] == pid.field(1) == ((("1",),),)


def test_what_is_absent_or_empty_says_nothing() -> None:
    pid = parse("PID|1||7^").segments[1]
    assert not pid.field(2)
    assert not pid.field(99)
    assert pid.repetitions(2) == pid.repetitions(99) == 0
    assert {pid.value(2), pid.value(99), pid.value(3, rep=2), pid.value(3, comp=2), pid.value(3, comp=9)} == {""}


def test_the_null_is_told_apart_from_absent() -> None:
    pid = parse('PID|1||7|||""||a""').segments[1]
    assert pid.field(6) == (((CLEAR,),),)
    assert pid.value(5) != CLEAR
    assert pid.value(8) == 'a""'


def test_segments_know_their_place_and_their_number() -> None:
    message = parse("PID|1", "OBR|1", "OBX|1", "OBX|2")
    assert [(one.name, one.index, one.ordinal) for one in message.segments] == [
        ("MSH", 0, 1),
        ("PID", 1, 1),
        ("OBR", 2, 1),
        ("OBX", 3, 1),
        ("OBX", 4, 2),
    ]
    assert [one.index for one in message.all("OBX")] == [3, 4]
    assert message.first("OBX") is message.segments[3]
    assert message.first("ZZZ") is None
    assert message.all("ZZZ") == []


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("a\\P\\b", "a#b"),
        ("one\\.br\\two", "one\ntwo"),
        ("one\\.sp\\two\\.sp2\\three\\.sp 1\\", "one\ntwo\n\nthree\n"),
        ("\\.in+2\\a\\.ti 3\\b\\.in-2\\c", "  a   bc"),
        ("a\\.sk 2\\b\\.sk3\\c", "a  b   c"),
        ("\\.fi\\a\\.nf\\b\\.ce\\c", "ab\nc"),
        ("\\H\\bold\\N\\ plain", "bold plain"),
        ("\\XC3A9\\t\\X41\\", "étA"),
        ("\\XC3\\\\XA9\\", "é"),
        ("\\X0d0a\\", "\r\n"),
        ("\\X00\\a", "a"),
        ("\\Cxxyy\\ \\C1B24\\ \\M1B2450\\ \\Z7\\", "\\Cxxyy\\ \\C1B24\\ \\M1B2450\\ \\Z7\\"),
        ("C:\\temp\\ \\XZZ\\ \\X4\\", "C:\\temp\\ \\XZZ\\ \\X4\\"),
        ("a\\", "a\\"),
        ("\\", "\\"),
        ("\\temp\\F\\x", "\\temp|x"),
        ("\\E\\F\\E\\", "\\F\\"),
        ("\\f\\", "\\f\\"),
        ("\\.sp99999999999\\x", "\\.sp99999999999\\x"),
    ],
)
def test_escapes(sent: str, read: str) -> None:
    assert text(sent) == read


def test_a_formatting_command_cannot_fill_the_memory() -> None:
    assert len(text("\\.sp999999999\\\\.in999999999\\")) <= 400


def test_kept_escapes_are_reported_where_they_stand() -> None:
    message = parse("PID|1||7||A\\Z01\\", "OBX|1|TX|||x\\C2842\\y", "OBX|2|TX|||\\F\\ \\Certain\\")
    assert codes(message) == [("escape-kept", "PID-5"), ("escape-kept", "OBX-5"), ("escape-unknown", "OBX[2]-5")]


def test_an_escape_character_that_begins_no_sequence_is_reported() -> None:
    message = parse("PID|1||7||C:\\temp", "OBX|1|TX|||an end that \\F is missing", "OBX|2|TX|||\\T\\ \\.br\\ \\E\\")
    assert codes(message) == [("escape-unknown", "PID-5"), ("escape-unknown", "OBX-5")]


def test_what_is_kept_is_written_with_the_standard_s_backslash() -> None:
    message = parse_bytes(b"MSH|^~!&|A|B|C|D|20240301||ADT^A08|M1|P|2.5.1\rPID|1||7||A!Z01!")
    assert message.segments[1].value(5) == "A\\Z01\\"


def test_control_characters_are_left_out() -> None:
    assert text("a\\X07\\b\\X1B\\c\\X09\\") == "abc\t"
    message = parse("PID|1||7||A\x07B\x7f")
    assert message.segments[1].value(5) == "AB"
    assert ("control-character", "MSH") in codes(message)


@pytest.mark.parametrize("encoding", ["!%$@", "!%$@?", "^~\\&", "^~\\&#"])
def test_separators_are_the_messages_own(encoding: str) -> None:
    component, repetition, escape, sub = encoding[:4]
    head = HEAD.replace("^~\\&", "\1").replace("^", component).replace("\1", encoding)
    field = f"a{component}b{sub}c{escape}T{escape}d{repetition}e"
    obx = parse(f"OBX|1|TX|||{field}", head=head).segments[1]
    assert obx.field(5) == ((("a",), ("b", f"c{sub}d")), (("e",),))


def test_the_field_separator_is_the_messages_own() -> None:
    message = parse("PID*1**7^^^A*x|y", head=HEAD.replace("|", "*"))
    assert message.segments[1].value(3, comp=4) == "A"
    assert message.segments[1].value(4) == "x|y"
    assert message.segments[0].value(1) == "*"


def test_separators_that_msh_2_leaves_out_are_text() -> None:
    obx = parse("OBX|1|TX|||a&b\\F\\c^d~e", head=HEAD.replace("^~\\&", "^~")).segments[1]
    assert obx.field(5) == ((("a&b\\F\\c",), ("d",)), (("e",),))


def test_a_truncation_character_is_escaped_like_the_others() -> None:
    assert text("x\\P\\y#", head=HEAD.replace("^~\\&", "^~\\&?")) == "x?y#"


@pytest.mark.parametrize("encoding", ["", "^^^^", "^~a&"])
def test_separators_that_cannot_be_are_reported(encoding: str) -> None:
    message = parse("PID|1||7", head=HEAD.replace("^~\\&", encoding))
    assert ("separators-odd", "MSH-2") in codes(message)
    assert message.segments[1].value(3) == "7"


@pytest.mark.parametrize(
    ("name", "codec", "value"),
    [
        ("ASCII", "ascii", "Mueller"),
        ("8859/1", "iso8859-1", "Müller"),
        ("8859/2", "iso8859-2", "Łódź"),
        ("8859/3", "iso8859-3", "Ġorġ"),
        ("8859/4", "iso8859-4", "Ādaži"),
        ("8859/5", "iso8859-5", "Анна"),
        ("8859/6", "iso8859-6", "سارة"),
        ("8859/7", "iso8859-7", "Ελένη"),
        ("8859/8", "iso8859-8", "שרה"),
        ("8859/9", "iso8859-9", "Gülşah"),
        ("8859/15", "iso8859-15", "Œuvre €"),
        ("UNICODE UTF-8", "utf-8", "Zoë Анна 花子"),
        ("UNICODE", "utf-8", "Zoë 花子"),
        ("GB 18030-2000", "gb18030", "王小明"),
        ("KS X 1001", "cp949", "김영희"),
        ("BIG-5", "cp950", "陳大文"),
        ("~ISO IR87", "iso2022_jp_ext", "山田^太郎"),
        ("ISO IR6~ISO IR87~ISO IR159", "iso2022_jp_ext", "山田"),
    ],
)
def test_declared_charsets(name: str, codec: str, value: str) -> None:
    message = parse(f"PID|1||7||{value}", head=declared(name), encoding=codec)
    assert "^".join(part[0] for part in message.segments[1].field(5)[0]) == value
    assert message.charset == codec
    assert message.findings == ()


def test_latin_1_declared_as_such_equals_its_utf_8_twin() -> None:
    line = "PID|1||7||Müller^Zoë||19800102|F||||\\XE9\\"
    latin = parse(line, head=declared("8859/1"), encoding="latin-1")
    twin = parse(line.replace("E9", "C3A9"), head=declared("UNICODE UTF-8"))
    assert latin.segments[1].fields == twin.segments[1].fields


@pytest.mark.parametrize(
    ("name", "codec", "used"),
    [
        ("ASCII", "utf-8", "utf-8"),
        ("ASCII", "latin-1", "cp1252"),
        ("8859/1", "utf-8", "utf-8"),
        ("8859/5", "utf-8", "utf-8"),
        ("UNICODE UTF-8", "latin-1", "cp1252"),
        ("UNICODE UTF-8", "cp1252", "cp1252"),
        ("", "latin-1", "cp1252"),
        ("UNICODE UTF-16", "utf-8", "utf-8"),
    ],
)
def test_bytes_that_disagree_with_msh_18_are_found_and_read_all_the_same(name: str, codec: str, used: str) -> None:
    message = parse("PID|1||7||Müller^Zoë", head=declared(name), encoding=codec)
    assert message.segments[1].field(5) == ((("Müller",), ("Zoë",)),)
    assert codes(message) == [("charset-disagrees", "MSH-18")]
    assert message.charset == used


def test_windows_quotes_under_the_name_of_latin_1_are_read() -> None:
    message = parse("PID|1||7||O’Neil – Zoë", head=declared("8859/1"), encoding="cp1252")
    assert message.segments[1].value(5) == "O’Neil – Zoë"
    assert codes(message) == [("charset-disagrees", "MSH-18")]


def test_one_bad_byte_does_not_garble_the_others() -> None:
    data = "\r".join((declared("UNICODE UTF-8"), "PID|1||7||Zoë 花子 @")).encode().replace(b"@", b"\xe9")
    assert parse_bytes(data).segments[1].value(5) == "Zoë 花子 é"


def test_utf_8_without_a_declaration_is_read_without_a_finding() -> None:
    message = parse("PID|1||7||Zoë 花子")
    assert message.segments[1].value(5) == "Zoë 花子"
    assert message.findings == ()


def test_a_charset_that_nobody_knows_is_reported() -> None:
    message = parse("PID|1||7||Zoë", head=declared("MARTIAN"))
    assert message.segments[1].value(5) == "Zoë"
    assert codes(message) == [("charset-unknown", "MSH-18")]


def test_shift_jis_whose_second_bytes_look_like_separators_is_read_whole() -> None:
    # In Shift-JIS 表 ends with 5C, the escape character, and ポ with 7C, the field separator.
    message = parse("PID|1||7||表ポ^太郎", head=declared("SHIFT_JIS"), encoding="cp932")
    assert message.segments[1].field(5) == ((("表ポ",), ("太郎",)),)


def test_a_nul_is_left_out_and_reported() -> None:
    message = parse("PID|1||7\0||A")
    assert message.segments[1].value(3) == "7"
    assert codes(message) == [("control-character", "MSH")]


@pytest.mark.parametrize(
    ("line", "name", "last"),
    [
        ("NTE|1||first\nsecond", "NTE", "first\nsecond"),
        ("OBX|1|TX|||first\nsecond\n\nthird", "OBX", "first\nsecond\nthird"),
        ("OBX|1|TX|||12\nmg", "OBX", "12\nmg"),
    ],
)
def test_a_line_end_inside_a_field_is_joined_and_reported(line: str, name: str, last: str) -> None:
    segment = parse(line).segments[1]
    assert segment.value(segment.count) == last
    assert codes(parse(line))[0] == ("stray-line", name)


def test_a_line_end_in_the_middle_of_a_segment_keeps_the_fields_after_it() -> None:
    obx = parse("OBX|1|TX|A||first\nsecond line|||N|||F", "OBX|2").segments[1]
    assert (obx.value(5), obx.value(8), obx.value(11)) == ("first\nsecond line", "N", "F")


def test_a_line_that_is_a_broken_segment_garbles_no_other() -> None:
    message = parse("PIDX|1||7", "PID|1||8")
    assert message.segments[0].value(12) == "2.5.1"
    assert [segment.name for segment in message.segments] == ["MSH", "PID"]
    assert codes(message)[0] == ("segment-name-invalid", "MSH")


def test_indented_and_bare_segments_are_segments() -> None:
    message = parse("  PID|1||7", "DSC", "OBR")
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "DSC", "OBR"]
    assert message.segments[1].value(3) == "7"
    assert message.segments[2].count == 0


@pytest.mark.parametrize(
    ("data", "location"),
    [
        (b"", "MSH"),
        (b"hello", "MSH"),
        (b"MSH", "MSH"),
        (b"MSHx", "MSH"),
        (b"MSH\rPID|1", "MSH"),
        (b"MSH|", "MSH-9"),
        (b"MSH|^~\\&", "MSH-9"),
        (b"MSH|^~\\&|A|B\rPID|1", "MSH-9"),
        (b"\xff\xfe\x00", "MSH"),
    ],
)
def test_what_has_no_readable_header_is_refused(data: bytes, location: str) -> None:
    with pytest.raises(BadRecord) as refused:
        parse_bytes(data)
    assert [(one.code, one.location, one.severity) for one in refused.value.findings] == [
        ("not-hl7v2", location, "error")
    ]


def test_blocks_and_marks_around_a_message_are_left_out() -> None:
    plain = parse("PID|1||7")
    for data in (b"\x0b%s\x1c\r", b"\xef\xbb\xbf%s", b"\r\n%s\r\n\r\n"):
        found = parse_bytes(data % f"{HEAD}\rPID|1||7\r".encode())
        assert [one.fields for one in found.segments] == [one.fields for one in plain.segments]


def test_a_very_long_value_is_read_whole() -> None:
    value = "QUJD" * 2_500_000
    assert text(value) == value
    assert len(text("\\F\\" * 1_000_000)) == 1_000_000


@pytest.mark.parametrize(
    ("kind", "version", "structure"),
    [
        ("ADT^A04", "2.5.1", "ADT_A01"),
        ("ADT^A08^ADT_A01", "2.3", "ADT_A01"),
        ("ADT^A04^ADT_A04", "2.5", "ADT_A01"),
        ("ADT^A28", "2.5.1", "ADT_A05"),
        ("ADT^A28", "2.3", "ADT_A01"),
        ("ADT^A40", "2.3.1", "ADT_A39"),
        ("ADT^A44", "2.4", "ADT_A43"),
        ("ADT^A44", "2.8", "ADT_A44"),
        ("ADT^A23", "2.5", "ADT_A21"),
        ("SIU^S15", "2.5.1", "SIU_S12"),
        ("MDM^T08", "2.6", "MDM_T02"),
        ("ORU", "2.2", "ORU_R01"),
        ("RDE^O01", "2.3", "RDE_O01"),
        ("RDE^O01", "2.5", "RDE_O11"),
        ("ACK^A01", "2.5", "ACK"),
        ("ORU^R01^BOGUS", "2.5", "ORU_R01"),
        ("ZZZ^Z01", "2.5", "ZZZ_Z01"),
        ("ADT^A40^ADT_A01", "2.5.1", "ADT_A39"),
        ("adt^a03^adt_a03", "2.5.1", "ADT_A03"),
    ],
)
def test_the_structure_is_declared_or_derived(kind: str, version: str, structure: str) -> None:
    message = parse(head=HEAD.replace("ORU^R01^ORU_R01", kind).replace("2.5.1", version))
    assert message.structure == structure


@pytest.mark.parametrize(
    ("kind", "event", "trigger", "found"),
    [
        ("ADT", "A03", "A03", [("trigger-missing", "MSH-9.2")]),
        ("ADT^", "a03", "A03", [("trigger-missing", "MSH-9.2")]),
        ('ADT^""', "A03", "A03", [("trigger-missing", "MSH-9.2")]),
        ("BAR", "P05", "P05", [("trigger-missing", "MSH-9.2")]),
        (" adt ^a03^ADT_A03", "A03", "A03", []),
        ("ADT^A03", "A01", "A03", [("event-disagrees", "EVN-1")]),
        ("ADT^A40^ADT_A01", "A40", "A40", [("structure-disagrees", "MSH-9.3")]),
        ("ADT^A03^BOGUS", "A03", "A03", [("structure-disagrees", "MSH-9.3")]),
        ("ADT^A04^ADT_A04", "", "A04", []),
    ],
)
def test_the_event_is_that_of_the_header_else_that_of_evn(
    kind: str, event: str, trigger: str, found: list[tuple[str, str]]
) -> None:
    message = parse(f"EVN|{event}", head=HEAD.replace("ORU^R01^ORU_R01", kind))
    assert message.trigger == trigger
    assert message.segments[0].value(9, 1, 2) == trigger
    assert message.segments[0].value(9) == message.code
    assert codes(message) == found


@pytest.mark.parametrize(("sent", "near"), [("2.9", "2.8.2"), ("2.5.2", "2.5.1"), ("", "2.5.1"), ("x", "2.5.1")])
def test_a_version_that_nobody_knows_is_read_with_the_nearest(sent: str, near: str) -> None:
    message = parse("PID|1", head=HEAD.removesuffix("2.5.1") + sent)
    assert message.version == sent
    assert message.dictionary.version == near
    assert codes(message) == [("version-unknown", "MSH-12")]


def test_no_finding_and_no_error_holds_a_value() -> None:
    message = parse("PID|1||SECRET||A\\Z01\\", "PIDX|SECRET", "NTE|1||a\nSECRET", head=declared("SECRET"))
    assert len(message.findings) >= 4
    assert "SECRET" not in repr(message.findings)
    with pytest.raises(BadRecord) as refused:
        parse_bytes(b"MSH|^~\\&|SECRET")
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize(
    ("declared_as", "encoding", "name"),
    [
        ("8859/2", "iso8859-2", "Łuczak Żaneta"),
        ("8859/5", "iso8859-5", "Иванов Пётр"),
        ("8859/6", "iso8859-6", "محمد علي"),
        ("8859/7", "iso8859-7", "Γιώργος"),
        ("8859/8", "iso8859-8", "כהן דוד"),
        ("8859/9", "iso8859-9", "Şahin İbrahim"),
        ("8859/15", "iso8859-15", "Šœur €"),
        ("UNICODE UTF-16", "utf-16", "山田 Zoë"),
        ("ISO IR87", "iso2022_jp", "山田 太郎"),
        ("~ISO IR159", "iso2022_jp_2", "丂 太郎"),
        ("8859/1~ISO IR87", "iso2022_jp", "山田 太郎"),
        ("ISO IR13", "shift_jis", "ﾔﾏﾀﾞ"),
        ("ISO IR13~ISO IR87", "iso2022_jp_ext", "ﾔﾏﾀﾞ 太郎"),
        ("GB 18030-2000", "gb18030", "王小明㐀"),
        ("KS X 1001", "euc_kr", "김희중"),
        ("KS X 1001", "iso2022_kr", "김희중"),
        ("BIG-5", "big5", "許功蓋"),
        ("CNS 11643-1992", "big5", "王小明"),
    ],
)
def test_names_in_the_charset_that_is_declared(declared_as: str, encoding: str, name: str) -> None:
    message = parse(f"PID|1||7||{name}||19700101|F", head=declared(declared_as), encoding=encoding)
    assert (message.segments[1].value(5), message.segments[1].value(8)) == (name, "F")
    assert message.findings == ()


def test_between_shifted_characters_stand_those_of_the_message_s_own_charset() -> None:
    data = f"{declared('8859/1~ISO IR87')}\rPID|1||7||Müller".encode("latin-1") + b"=" + "山田".encode("iso2022_jp")
    assert parse_bytes(data).segments[1].value(5) == "Müller=山田"
