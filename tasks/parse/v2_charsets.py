"""Character sets: what MSH-18 declares (HL7 table 0211), and what to do when the bytes disagree with it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from functools import lru_cache

_CODECS = {
    "": "",
    "ASCII": "ascii",
    "USASCII": "ascii",
    "ISOIR6": "ascii",
    "ISOIR14": "iso2022_jp_ext",
    "ISOIR87": "iso2022_jp_ext",
    "ISOIR159": "iso2022_jp_ext",
    "ISO2022JP": "iso2022_jp_ext",
    "ISO2022KR": "iso2022_kr",
    "SHIFTJIS": "cp932",
    "SJIS": "cp932",
    "MS932": "cp932",
    "EUCJP": "euc_jp",
    "UNICODE": "utf-8",
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
    "UNICODEUTF16": "utf-16",
    "UTF16": "utf-16",
    "UNICODEUTF32": "utf-32",
    "UTF32": "utf-32",
    "GB180302000": "gb18030",
    "GB18030": "gb18030",
    "GB2312": "gb18030",
    "GBK": "gb18030",
    "KSX1001": "cp949",
    "EUCKR": "cp949",
    "BIG5": "cp950",
    "WINDOWS1252": "cp1252",
    "CP1252": "cp1252",
    "ISOIR100": "iso8859-1",
    "ISOIR101": "iso8859-2",
    "ISOIR109": "iso8859-3",
    "ISOIR110": "iso8859-4",
    "ISOIR144": "iso8859-5",
    "ISOIR127": "iso8859-6",
    "ISOIR126": "iso8859-7",
    "ISOIR138": "iso8859-8",
    "ISOIR148": "iso8859-9",
    "ISOIR13": "cp932",
    "CNS116431992": "cp950",
    **{f"8859{n}": f"iso8859-{n}" for n in (*range(1, 12), 13, 14, 15, 16)},
    **{f"ISO8859{n}": f"iso8859-{n}" for n in (*range(1, 12), 13, 14, 15, 16)},
    **{f"WINDOWS125{n}": f"cp125{n}" for n in range(9) if n != 2},
}

_WIDE = ("gb18030", "cp949", "cp950", "cp932", "euc_jp")
_CERTAIN = 8
"""High bytes that must all be valid UTF-8 before a declared double-byte charset is not believed."""

CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What a FHIR string may not have (R4, datatypes.html#string); a NUL no store of text takes."""
_C1 = re.compile(rb"[\x80-\x9f]")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"M\0S\0H\0", "utf-16-le"),
    (b"\0M\0S\0H", "utf-16-be"),
)


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    """Decode what is no character of the charset as Windows-1252, or as Latin-1 where that has none either."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_windows(bytes((byte,))) for byte in bad), error.end


def _windows(byte: bytes) -> str:
    try:
        return byte.decode("cp1252")
    except UnicodeDecodeError:
        return byte.decode("latin-1")


codecs.register_error("sluice.windows", _as_windows)


def _beside(base: str) -> Callable[[UnicodeError], tuple[str, int]]:
    """Return the handler that reads, between shifted characters, the bytes of the message's own charset."""

    def as_base(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        return error.object[error.start : error.end].decode(base), error.end

    return as_base


_SHIFTED = {
    "iso2022_jp_ext": "iso2022_jp_ext",
    "cp932": "iso2022_jp_ext",
    "cp949": "iso2022_kr",
    "iso2022_kr": "iso2022_kr",
}
"""The codec with ISO 2022's escape sequences of a charset that has them."""

for _base in {*_CODECS.values()} - {""}:
    codecs.register_error(f"sluice.beside.{_base}", _beside(_base))


@lru_cache(maxsize=256)
def codec_of(declared: tuple[str, ...]) -> str | None:
    """Return the codec that the repetitions of MSH-18 declare: "" where they declare none, None where unknown.

    The first repetition is the charset of the message; a Japanese one among the others means ISO 2022.
    """
    names = _codecs(declared)
    if "iso2022_jp_ext" in names and names[0] in ("", "ascii", "iso2022_jp_ext"):
        return "iso2022_jp_ext"
    return names[0]


def _codecs(declared: tuple[str, ...]) -> list[str | None]:
    return [_CODECS.get(re.sub(r"[^A-Z0-9]", "", name.upper())) for name in declared] or [""]


@lru_cache(maxsize=256)
def _with_shifts(declared: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the codec that reads ISO 2022's escape sequences, and the charset between them; None where there is none.

    Without a declaration they are Japanese, whose senders leave it out.
    """
    names = _codecs(declared)
    found = next((shifted for name in names if name and (shifted := _SHIFTED.get(name))), None)
    if found is None:
        return ("iso2022_jp_ext", "ascii") if names[0] in ("", "ascii") else None
    return found, names[0] or "ascii"


def wide_encoding(data: bytes) -> str | None:
    """Return the Unicode codec that the first bytes of `data` give away, None for a charset that extends ASCII."""
    for mark, codec in _BOMS[1:]:
        if data.startswith(mark):
            return codec
    return None


def decode(data: bytes, declared: tuple[str, ...]) -> tuple[str, str, str | None]:
    """Return the text of `data`, the codec used, and the finding's code where it disagrees with MSH-18.

    Codes: `charset-disagrees` (the bytes are not what is declared), `charset-unknown` (the declared name is none).
    UTF-8 where the bytes are; else the declared charset, with Windows-1252 for the bytes that it does not have.
    """
    codec = codec_of(declared)
    if codec is None:
        return *_undeclared(data), "charset-unknown"
    if b"\x1b" in data and (shifts := _with_shifts(declared)):
        try:
            return data.decode(shifts[0], f"sluice.beside.{shifts[1]}"), shifts[0], None
        except UnicodeDecodeError:
            return data.decode("utf-8", "sluice.windows"), "cp1252", "charset-disagrees"
    if data.isascii():
        return _ascii(data, codec)
    if codec == "":
        text, used = _undeclared(data)
        return text, used, None if used == "utf-8" else "charset-disagrees"
    return _declared(data, codec)


def decode_bytes(data: bytes, codec: str) -> str:
    r"""Return the text of the bytes of an `\X…\` sequence, without control characters but tab and line ends."""
    try:
        text = data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        text = data.decode("utf-8", "sluice.windows")
    return CONTROLS.sub("", text)


def _ascii(data: bytes, codec: str) -> tuple[str, str, str | None]:
    if codec.startswith(("utf-16", "utf-32")):
        return data.decode("ascii"), "utf-8", "charset-disagrees"
    return data.decode("ascii"), codec or "utf-8", None


def _undeclared(data: bytes) -> tuple[str, str]:
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("utf-8", "sluice.windows"), "cp1252"


def _declared(data: bytes, codec: str) -> tuple[str, str, str | None]:
    if codec != "utf-8" and _is_utf8(data, codec):
        return data.decode("utf-8"), "utf-8", "charset-disagrees"
    if codec == "iso8859-1" and _C1.search(data):
        return data.decode("cp1252", "sluice.windows"), "cp1252", "charset-disagrees"
    try:
        return data.decode(codec), codec, None
    except UnicodeDecodeError:
        pass
    if codec in ("ascii", "utf-8", "utf-16", "utf-32"):
        return data.decode("utf-8", "sluice.windows"), "cp1252", "charset-disagrees"
    return data.decode(codec, "sluice.windows"), codec, "charset-disagrees"


def _is_utf8(data: bytes, codec: str) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return codec not in _WIDE or sum(byte > 0x7F for byte in data) >= _CERTAIN
