from __future__ import annotations

import pytest

from referral_bus.directory.languages import language_tags


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("Spanish", ["es"]),
        ("spa", ["es"]),
        ("ES", ["es"]),
        ("es-mx", ["es-MX"]),
        ("zh-hant", ["zh-Hant"]),
        ("American Sign Language", ["ase"]),
        ("Haitian Creole", ["ht"]),
        ("English, Spanish and Polish", ["en", "es", "pl"]),
        ("Farsi/Persian", ["fa"]),
        ("Thai & Lao", ["th", "lo"]),
    ],
)
def test_names_and_codes_become_bcp_47_tags(text: str, tags: list[str]) -> None:
    assert language_tags(text) == (tags, [])


def test_parts_that_name_no_language_are_given_back() -> None:
    assert language_tags("Spanish, by appointment") == (["es"], ["by appointment"])
