"""One row per format, from which everything else about it is derived."""

import tracemalloc
from itertools import combinations

import pytest
from PIL import Image

from app.images.encoders import BY_SUFFIX, FORMATS
from app.images.formats import INPUTS, SUFFIXES, sniff
from app.images.formats.base import PIECE, joined
from app.upscale.parameters import UpscaleParameters
from harness.files import SMALL_FILES
from tests.support.formats import DOCUMENT, with_tables


def test_each_small_file_is_of_one_format() -> None:
    for name, data in SMALL_FILES.items():
        matching = [each.name for each in INPUTS.values() if each.matches(data)]
        assert matching == [sniff(data).name], name


def test_a_format_that_is_read_and_written_has_the_same_suffixes() -> None:
    for name in set(INPUTS) & set(FORMATS):
        assert INPUTS[name].suffixes == FORMATS[name].suffixes


def test_no_suffix_and_no_media_type_stands_for_two_formats() -> None:
    for formats in (INPUTS.values(), FORMATS.values()):
        for one, other in combinations(formats, 2):
            assert not set(one.suffixes) & set(other.suffixes)
    assert len({each.media_type for each in FORMATS.values()}) == len(FORMATS)
    assert set(BY_SUFFIX) <= SUFFIXES


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".heic", ".heif", ".hif"}))  # of a library beside Pillow
def test_suffixes_are_those_that_pillow_knows(suffix: str) -> None:
    (own,) = (each for each in INPUTS.values() if suffix in each.suffixes)
    assert getattr(own.plugin, "format", None) == Image.registered_extensions()[suffix]


@pytest.mark.parametrize("suffix", sorted(BY_SUFFIX))
def test_a_suffix_may_be_given_for_the_formats_name(suffix: str) -> None:
    for asked in (suffix[1:], suffix[1:].upper()):
        assert UpscaleParameters(format=asked).format == BY_SUFFIX[suffix]


def test_the_documentation_has_the_tables_of_the_rows() -> None:
    document = DOCUMENT.read_text()
    assert document == with_tables(document), "run python -m tests.support.formats"


def test_parts_are_joined_and_read_without_another_copy() -> None:
    parts = [b"", b"a" * PIECE, memoryview(b"b" * (3 * PIECE + 7)), b"c"]
    with joined(parts) as stream:
        tracemalloc.start()
        whole = stream.read()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert whole == b"".join(parts)
    assert peak < PIECE
