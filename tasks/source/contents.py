"""What is inside a delivery: gzip, zip, tar and OpenPGP, nested, as streams, within limits.

What something is, its first bytes say, not its name. Nothing here touches the network or leaves plaintext on disk.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator

from tasks.source import contents_tar, contents_zip
from tasks.source.contents_limits import Budget, Limits, Reader, bad
from tasks.source.files_names import readable, safe

__all__ = ["Decrypt", "Limits", "unwrap"]

Decrypt = Callable[[Iterable[bytes]], Iterator[bytes]]
"""From an OpenPGP message to its verified plaintext; the last word on it comes after its last byte."""

CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ARMOR = b"-----BEGIN PGP MESSAGE-----"
_PGP_NAMES = (".pgp", ".gpg", ".asc")
_UNSUPPORTED = re.compile(rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|\xfd7zXZ\0|BZh[1-9]1AY&SY|\x28\xb5\x2f\xfd")
"""7-Zip, RAR, xz, bzip2, Zstandard."""


def unwrap(
    name: str, chunks: Iterable[bytes], limits: Limits, decrypt: Decrypt | None = None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and bytes of every file that a delivery holds, of a plain one itself.

    - A member is to be read before the next one is asked for; what is left of it is read then, for its checksum.
    - With `decrypt`, every file must have been in an OpenPGP message: itself, or an archive around it.
    - Nothing of a delivery may be taken for good before the iteration has ended without an error: checksums and
      signatures stand at the end.

    Raises `BadRecord` with `archive-bomb`, `archive-too-deep`, `archive-too-many-members`,
    `archive-path-traversal`, `archive-special-member`, `archive-encrypted`, `archive-unsupported`,
    `archive-corrupt`, `pgp-not-encrypted`, `pgp-no-key`, and what `decrypt` raises. Locations are `archive` or
    `member[n]`, never a name.
    """
    budget = Budget(limits)
    opener = _Opener(budget, decrypt)
    for inner, body in opener.open(name, Reader(budget.delivered(chunks)), depth=0, where="", trusted=decrypt is None):
        yield inner, body
        for _ in body:
            pass


class _Opener:
    """Opens layer after layer; `where` is the path of member numbers, `trusted` whether OpenPGP vouched for it."""

    def __init__(self, budget: Budget, decrypt: Decrypt | None) -> None:
        self._budget, self._decrypt = budget, decrypt

    def open(
        self, name: str, reader: Reader, *, depth: int, where: str, trusted: bool
    ) -> Iterator[tuple[str, Iterator[bytes]]]:
        head, place = reader.peek(contents_tar.BLOCK), where.rstrip("/") or "archive"
        kind = self._kind(name, head, trusted)
        if kind is None:
            if not trusted:
                raise bad("pgp-not-encrypted", place)
            yield name, reader.rest()
            return
        self._budget.deeper(depth + 1, place)
        if kind in ("zip", "tar"):
            found = _members(kind, reader, self._budget, place)
            yield from self._archive(name, found, depth=depth, where=where, trusted=trusted)
            return
        trusted = trusted or kind == "pgp"
        inner = Reader(self._gunzip(reader, place) if kind == "gzip" else self._plain(reader, place))
        yield from self.open(_stripped(name, kind), inner, depth=depth + 1, where=where, trusted=trusted)
        for _ in inner.rest():
            pass

    def _kind(self, name: str, head: bytes, trusted: bool) -> str | None:
        if head.startswith(_GZIP):
            return "gzip"
        if contents_zip.is_zip(head):
            return "zip"
        if contents_tar.is_tar(head):
            return "tar"
        if _UNSUPPORTED.match(head):
            raise bad("archive-unsupported", "archive")
        return "pgp" if self._is_pgp(name, head, trusted) else None

    def _is_pgp(self, name: str, head: bytes, trusted: bool) -> bool:
        """An armored message is one everywhere; a binary one where one is expected, or its name says so."""
        binary = bool(head) and head[0] >= 0x80
        expected = not trusted or name.lower().endswith(_PGP_NAMES)
        return head.lstrip().startswith(_ARMOR) or (binary and expected)

    def _archive(
        self, name: str, found: Iterator[tuple[str, Iterator[bytes]]], *, depth: int, where: str, trusted: bool
    ) -> Iterator[tuple[str, Iterator[bytes]]]:
        for number, (member, body) in enumerate(found, 1):
            inner = f"{where}member[{number}]"
            self._budget.member(inner)
            if not (within := _within(member)):
                raise bad("archive-path-traversal", inner)
            counted = self._counted(body, inner)
            yield from self.open(
                f"{name}/{within}", Reader(counted), depth=depth + 1, where=f"{inner}/", trusted=trusted
            )
            for _ in counted:
                pass

    def _counted(self, body: Iterator[bytes], where: str) -> Iterator[bytes]:
        for piece in body:
            self._budget.unpacked(len(piece), where)
            yield piece

    def _plain(self, reader: Reader, where: str) -> Iterator[bytes]:
        if self._decrypt is None:
            raise bad("pgp-no-key", where)
        yield from self._counted(self._decrypt(self._bounded(reader, where)), where)

    def _bounded(self, reader: Reader, where: str) -> Iterator[bytes]:
        total = 0
        for piece in reader.rest():
            total += len(piece)
            if total > self._budget.limits.pgp:
                raise bad("pgp-too-large", where)
            yield piece

    def _gunzip(self, reader: Reader, where: str) -> Iterator[bytes]:
        """Unpack one or several gzip members (RFC 1952 section 2.2); zeros may pad the end, as tapes leave them."""
        while head := reader.peek(2):
            if not head.strip(b"\0"):
                if any(piece.strip(b"\0") for piece in reader.rest()):
                    raise bad("archive-corrupt", where)
                return
            yield from self._gunzip_member(reader, where)

    def _gunzip_member(self, reader: Reader, where: str) -> Iterator[bytes]:
        unpack = zlib.decompressobj(wbits=31)
        for piece in reader.rest():
            yield from self._inflate(unpack, piece, where)
            if unpack.eof:
                reader.put_back(unpack.unused_data)
                return
        raise bad("archive-corrupt", where)

    def _inflate(self, unpack: zlib._Decompress, data: bytes, where: str) -> Iterator[bytes]:
        """Yield what a piece unpacks to, in pieces of CHUNK: the last one is shorter."""
        out = bytes(CHUNK)
        while not unpack.eof and (data or len(out) == CHUNK):
            try:
                out = unpack.decompress(data, CHUNK)
            except zlib.error:
                raise bad("archive-corrupt", where) from None
            data = unpack.unconsumed_tail
            self._budget.unpacked(len(out), where)
            if out:
                yield out


def _members(kind: str, reader: Reader, budget: Budget, where: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    return contents_zip.members(reader, budget, where) if kind == "zip" else contents_tar.members(reader, where)


def _within(member: str) -> str:
    """Return a member's name without `.` segments, as text; empty where it would lead out of its archive."""
    name = readable(member.replace("\\", "/").encode("utf-8", "surrogateescape"))
    if re.match("[A-Za-z]:/", name):
        return ""
    name = "/".join(part for part in name.split("/") if part != ".")
    return name if safe(name) else ""


def _stripped(name: str, kind: str) -> str:
    """Return the name that a file has without its layer."""
    stem, dot, ending = name.rpartition(".")
    if kind == "gzip" and ending.lower() == "tgz":
        return f"{stem}.tar"
    endings = {"gzip": ("gz", "gzip"), "pgp": ("pgp", "gpg", "asc")}[kind]
    return stem if dot and ending.lower() in endings else name
