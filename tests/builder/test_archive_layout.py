"""Placing members: pure arithmetic, checked against the rules of docs/format.md."""

import random

import pytest

from llamafile_build.archive.layout import Planned, place
from llamafile_build.archive.records import local_header_size


def test_data_starts_on_its_alignment_and_nothing_overlaps() -> None:
    random.seed(7)
    for _ in range(300):
        members = [
            Planned(f"m/{i}-{'x' * random.randrange(60)}", random.randrange(200_000), alignment)
            for i, alignment in enumerate(random.choices([1, 4096, 65536], k=8))
        ]
        end = 65536
        for spot, member in zip(place(members, 65536), members, strict=True):
            assert spot.data_offset % member.alignment == 0
            assert spot.header_offset >= end
            assert spot.data_offset - spot.header_offset == local_header_size(
                member.name, member.size
            )
            end = spot.end


def test_alignment_wastes_less_than_one_unit() -> None:
    for size in range(65500, 65560):
        first, second = place([Planned("a", size), Planned("b", 1, 65536)], 0)
        assert second.header_offset - first.end < 65536


def test_large_member_gets_a_zip64_header() -> None:
    small, large = local_header_size("m", 0xFFFF_FFFE), local_header_size("m", 0xFFFF_FFFF)
    assert large - small == 20


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        place([Planned("a", 1), Planned("a", 2)], 0)
