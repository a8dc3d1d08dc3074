from __future__ import annotations

import pytest

from referral_bus.directory.languages import code_tags, language_tags


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


@pytest.mark.parametrize(
    ("code", "tags"),
    [
        ("tlh", ["tlh"]),
        ("TLH", ["tlh"]),
        ("eng", ["en"]),
        ("twi", ["tw"]),
        ("spa-mx", ["es-MX"]),
        ("nan-hant-tw", ["nan-Hant-TW"]),
        ("sl-rozaj-biske", ["sl-rozaj-biske"]),
        ("en_us", ["en-US"]),
        ("es, pl", ["es", "pl"]),
        ("und", []),
        ("mul", []),
        ("klingonish", []),
        ("", []),
    ],
)
def test_a_code_is_any_well_formed_tag_of_one_language(code: str, tags: list[str]) -> None:
    assert code_tags(code) == tags


def test_a_word_is_no_code() -> None:
    assert language_tags("tlh") == ([], ["tlh"])
