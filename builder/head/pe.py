"""Reads and changes the headers of a PE32+ program ("PE Format" specification, Microsoft).

Only what the polyglot head needs: where the headers end, where the sections' bytes lie, and the
fields that have to change when those bytes move. Everything is checked, because a program that
Windows refuses says no more than "not a valid application".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from llamafile_build.errors import BuilderError

DOS_MAGIC = b"MZ"
E_LFANEW_OFFSET = 0x3C  # "MS-DOS Stub": file offset of the PE signature
DOS_HEADER_SIZE = 0x40
PE_SIGNATURE = b"PE\0\0"  # "Signature (Image Only)"
MACHINE_AMD64 = 0x8664  # "Machine Types"
PE32_PLUS = 0x20B  # "Optional Header (Image Only)"
SUBSYSTEM_CONSOLE = 3  # "Windows Subsystem"
DEBUG_DIRECTORY = 6  # "Optional Header Data Directories"
CERTIFICATE_DIRECTORY = 4

_COFF = struct.Struct("<HHIIIHH")  # "COFF File Header"
_COFF_TIMESTAMP_OFFSET = 4
_OPTIONAL = struct.Struct("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII")  # "Optional Header", PE32+
_DATA_DIRECTORY = struct.Struct("<II")
_SECTION = struct.Struct("<8sIIIIIIHHI")  # "Section Table (Section Headers)"
_SECTION_RAW_POINTER_OFFSET = 20


class PeError(BuilderError):
    """The launcher program is not a PE file of the expected kind."""


@dataclass(frozen=True)
class Section:
    """One row of the section table; `header` is the row's own file offset."""

    header: int
    name: str
    virtual_address: int
    virtual_size: int
    raw_pointer: int
    raw_size: int


@dataclass(frozen=True)
class Image:
    """A parsed PE32+ image. All offsets are file offsets in bytes."""

    pe_offset: int
    timestamp_offset: int
    directories_offset: int
    headers_end: int
    size_of_headers: int
    file_alignment: int
    section_alignment: int
    entry_point: int
    subsystem: int
    directories: tuple[tuple[int, int], ...]
    sections: tuple[Section, ...]

    def directory_offset(self, index: int) -> int:
        """Where the data directory `index` is written."""
        return self.directories_offset + index * _DATA_DIRECTORY.size

    @property
    def raw_start(self) -> int:
        """Where the first section's bytes begin."""
        return min(s.raw_pointer for s in self.sections if s.raw_size)

    @property
    def raw_end(self) -> int:
        """Where the last section's bytes end."""
        return max(s.raw_pointer + s.raw_size for s in self.sections if s.raw_size)


def _unpack(layout: struct.Struct, data: bytes, offset: int, what: str) -> tuple[int, ...]:
    if offset < 0 or offset + layout.size > len(data):
        raise PeError(f"the Windows launcher is cut short: its {what} lies outside the file")
    return layout.unpack_from(data, offset)


def _sections(data: bytes, table: int, count: int) -> tuple[Section, ...]:
    rows = []
    for index in range(count):
        header = table + index * _SECTION.size
        row = _unpack(_SECTION, data, header, "section table")
        name = data[header : header + 8].rstrip(b"\0").decode("ascii", "replace")
        section = Section(header, name, row[2], row[1], row[4], row[3])
        if section.raw_size and section.raw_pointer + section.raw_size > len(data):
            raise PeError(f"the Windows launcher is cut short: section {name} is not whole")
        rows.append(section)
    return tuple(rows)


def parse(data: bytes) -> Image:
    """Parses a PE32+ x64 program.

    Raises PeError when it is something else, is cut short, or contradicts itself.
    """
    if data[:2] != DOS_MAGIC:
        raise PeError("the Windows launcher is not a program: it does not begin with MZ")
    (pe_offset,) = _unpack(struct.Struct("<I"), data, E_LFANEW_OFFSET, "DOS header")
    if data[pe_offset : pe_offset + 4] != PE_SIGNATURE:
        raise PeError("the Windows launcher has no PE signature")
    coff = pe_offset + len(PE_SIGNATURE)
    machine, count, _, _, _, optional_size, _ = _unpack(_COFF, data, coff, "COFF header")
    if machine != MACHINE_AMD64:
        raise PeError(f"the Windows launcher is for machine 0x{machine:x}, not for x64")
    optional = coff + _COFF.size
    fields = _unpack(_OPTIONAL, data, optional, "optional header")
    if fields[0] != PE32_PLUS:
        raise PeError("the Windows launcher is not a PE32+ program")
    directory_count = fields[-1]
    if _OPTIONAL.size + directory_count * _DATA_DIRECTORY.size > optional_size:
        raise PeError("the Windows launcher's data directories do not fit its optional header")
    table = optional + optional_size
    sections = _sections(data, table, count)  # the table's end vouches for what lies before it
    directories = optional + _OPTIONAL.size
    image = Image(
        pe_offset=pe_offset,
        timestamp_offset=coff + _COFF_TIMESTAMP_OFFSET,
        directories_offset=directories,
        headers_end=table + count * _SECTION.size,
        size_of_headers=fields[19],
        file_alignment=fields[10],
        section_alignment=fields[9],
        entry_point=fields[6],
        subsystem=fields[21],
        directories=tuple(
            (pair[0], pair[1])
            for pair in _DATA_DIRECTORY.iter_unpack(
                data[directories : directories + directory_count * _DATA_DIRECTORY.size]
            )
        ),
        sections=sections,
    )
    _check(image)
    return image


def _check(image: Image) -> None:
    """The rules of the specification that moving sections could break."""
    if not image.sections or not any(s.raw_size for s in image.sections):
        raise PeError("the Windows launcher has no sections")
    if image.file_alignment not in (1 << power for power in range(9, 17)):
        raise PeError("the Windows launcher's FileAlignment is none that Windows knows")
    if image.headers_end > image.size_of_headers:
        raise PeError("the Windows launcher's headers are longer than its SizeOfHeaders")
    if image.size_of_headers % image.file_alignment:
        raise PeError("the Windows launcher's SizeOfHeaders is no multiple of its FileAlignment")
    if image.size_of_headers > image.raw_start:
        raise PeError("the Windows launcher's headers overlap its first section")
    if image.size_of_headers > min(s.virtual_address for s in image.sections):
        raise PeError("the Windows launcher's headers do not fit before its first section")
    for section in image.sections:
        if section.raw_size and section.raw_pointer % image.file_alignment:
            raise PeError(f"the Windows launcher's section {section.name} is not aligned")


def canonical(data: bytes) -> bytes:
    """The same program without what differs between links or is wrong after a move.

    The link time goes, and so does the debug directory: its entries hold file offsets.
    """
    image = parse(data)
    changed = bytearray(data)
    struct.pack_into("<I", changed, image.timestamp_offset, 0)
    if len(image.directories) > DEBUG_DIRECTORY:
        _DATA_DIRECTORY.pack_into(changed, image.directory_offset(DEBUG_DIRECTORY), 0, 0)
    return bytes(changed)


def moved(data: bytes, shift: int) -> bytearray:
    """The headers of `data` as they must be when all sections' bytes move `shift` bytes up.

    Returns SizeOfHeaders bytes. No virtual address changes, so nothing inside the sections does.
    """
    image = parse(data)
    if shift % image.file_alignment:
        raise PeError("sections of the Windows launcher can only move by its FileAlignment")
    for index in (CERTIFICATE_DIRECTORY, DEBUG_DIRECTORY):
        if image.directories[index : index + 1] not in ((), ((0, 0),)):
            raise PeError(
                "the Windows launcher has a signature or debug data, whose file offsets "
                "a move would break"
            )
    headers = bytearray(data[: image.size_of_headers])
    for section in image.sections:
        if section.raw_size:
            at = section.header + _SECTION_RAW_POINTER_OFFSET
            struct.pack_into("<I", headers, at, section.raw_pointer + shift)
    return headers
