"""ED and RP as Attachment: Base64 as it is, hexadecimal and plain text turned into it (HL7 v2.9 chapter 2A.3)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from mappings.engine.keys import text_of
from mappings.engine.primitives import base64_binary
from mappings.engine.protocols import CLEAR, Components
from mappings.engine.registry import composite
from mappings.engine.systems import universal

if TYPE_CHECKING:
    from mappings.engine.run import Run


@composite("attachment", "Attachment")
def attachment_of(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """An ED as Attachment: Base64 as it is, hexadecimal and plain text turned into it."""
    kind, subtype, encoding = (text_of(c, comp) for comp in (2, 3, 4))
    data = "^".join("&".join(subs) for subs in c[4:5])
    value: dict[str, Any] = {}
    content_type = media_type(kind, subtype)
    if content_type:
        value["contentType"] = content_type
    packed = _packed(data, encoding, run, f"{at}.5") if data and data != CLEAR else None
    if packed:
        value["data"] = packed
    if text_of(c, 1):
        value["title"] = text_of(c, 1)
    return value if packed else None


def _packed(data: str, encoding: str, run: Run, at: str) -> str | None:
    if encoding.lower() == "base64":
        packed: str | None = base64_binary(data, run, at)
        return packed
    if encoding.lower() == "hex":
        try:
            return base64.b64encode(binascii.unhexlify("".join(data.split()))).decode()
        except (binascii.Error, ValueError):
            return run.find("not-hexadecimal", at)
    return base64.b64encode(data.encode()).decode()


_MEDIA = {
    "PDF": "application/pdf", "RTF": "application/rtf", "HTML": "text/html", "TXT": "text/plain", "TEXT": "text/plain",
    "XML": "application/xml", "JPEG": "image/jpeg", "JPG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif",
    "TIFF": "image/tiff", "TIF": "image/tiff", "DICOM": "application/dicom", "WAV": "audio/wav", "BASIC": "audio/basic",
    "X-HL7-CDA-LEVEL-ONE": "application/hl7-cda-level-one+xml", "SGML": "text/sgml",
    "OCTET-STREAM": "application/octet-stream",
    "FAX": "image/tiff", "PICT": "image/pict", "POSTSCRIPT": "application/postscript", "MSWORD": "application/msword",
}  # fmt: skip
_TYPES = {
    "AP": "application", "AU": "audio", "FT": "text", "IM": "image", "multipart": "multipart", "NS": "image",
    "SD": "image", "SI": "image", "TEXT": "text", "TX": "text",
}  # fmt: skip


def media_type(kind: str, subtype: str) -> str | None:
    """Return the MIME type of HL7's type of data (table 0191) and subtype (table 0291)."""
    if "/" in subtype:
        return subtype
    if subtype.upper() in _MEDIA:
        return _MEDIA[subtype.upper()]
    if "/" in kind:
        return kind
    if kind.upper() in _MEDIA and not subtype:
        return _MEDIA[kind.upper()]
    main = _TYPES.get(kind, kind).lower()
    if subtype and main:
        return f"{main}/{subtype.lower()}"
    return "text/plain" if main == "text" else None


@composite("pointer", "Attachment")
def pointer_of(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """An RP as Attachment: RP.1 at the application RP.2 is the address; RP.3 and RP.4 the type."""
    address = text_of(c, 1)
    if not address:
        return None
    value: dict[str, Any] = {"url": address if ":" in address else _address(c, run, address)}
    content_type = media_type(text_of(c, 3), text_of(c, 4))
    if content_type:
        value["contentType"] = content_type
    return value


def _address(c: Components, run: Run, address: str) -> str:
    space, uid, kind = (text_of(c, 2, sub) for sub in (1, 2, 3))
    base = (universal(uid, kind) if uid else None) or run.local_system(space or "pointer")
    return f"{base}:{'%20'.join(address.split())}"
