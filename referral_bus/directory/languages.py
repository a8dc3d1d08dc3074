"""Languages as directories write them (names, ISO 639 codes of two or three letters), as BCP 47 tags (RFC
5646)."""

from __future__ import annotations

import re
from typing import Final

_NAMES: Final = """
ab Abkhaz abk|af Afrikaans afr|sq Albanian alb sqi|am Amharic amh|ar Arabic ara|hy Armenian arm hye
as Assamese asm|az Azerbaijani aze|eu Basque baq eus|be Belarusian bel|bn Bengali Bangla ben
bs Bosnian bos|bg Bulgarian bul|my Burmese bur mya|ca Catalan cat|zh Chinese chi zho|hr Croatian hrv
cs Czech cze ces|da Danish dan|nl Dutch dut nld|dz Dzongkha dzo|en English eng|eo Esperanto epo
et Estonian est|fil Filipino fil|fi Finnish fin|fr French fre fra|ka Georgian geo kat
de German ger deu|el Greek gre ell|gu Gujarati guj|ht Haitian hat|ha Hausa hau|he Hebrew heb
hi Hindi hin|hmn Hmong hmn|hu Hungarian hun|is Icelandic ice isl|ig Igbo ibo|id Indonesian ind
ga Irish gle|it Italian ita|ja Japanese jpn|kn Kannada kan|kk Kazakh kaz|km Khmer Cambodian khm
rw Kinyarwanda kin|rn Kirundi run|ko Korean kor|ku Kurdish kur|ky Kyrgyz kir|lo Lao Laotian lao
lv Latvian lav|ln Lingala lin|lt Lithuanian lit|mk Macedonian mac mkd|mg Malagasy mlg
ms Malay may msa|ml Malayalam mal|mt Maltese mlt|mr Marathi mar|mn Mongolian mon|nv Navajo nav
ne Nepali nep|no Norwegian nor|om Oromo orm|ps Pashto pus|fa Persian Farsi per fas|pl Polish pol
pt Portuguese por|pa Punjabi Panjabi pan|ro Romanian rum ron|ru Russian rus|sm Samoan smo
sr Serbian srp|sn Shona sna|sd Sindhi snd|si Sinhala sin|sk Slovak slo slk|sl Slovenian slv
so Somali som|es Spanish Castilian spa|sw Swahili Kiswahili swa|sv Swedish swe|tl Tagalog tgl
tg Tajik tgk|ta Tamil tam|te Telugu tel|th Thai tha|ti Tigrinya tir|to Tongan ton|tr Turkish tur
tk Turkmen tuk|uk Ukrainian ukr|ur Urdu urd|uz Uzbek uzb|vi Vietnamese vie|cy Welsh wel cym
wo Wolof wol|xh Xhosa xho|yi Yiddish yid|yo Yoruba yor|zu Zulu zul|yue Cantonese yue
cmn Mandarin cmn|ase ASL ase|prs Dari prs|kar Karen kar|quc Quiche quc
"""
_PHRASES: Final = {
    "american sign language": "ase",
    "sign language": "sgn",
    "haitian creole": "ht",
    "mandarin chinese": "cmn",
    "cantonese chinese": "yue",
    "simplified chinese": "zh-Hans",
    "traditional chinese": "zh-Hant",
}
_TAG: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|\d{3}))?")
_SEPARATORS: Final = re.compile(r"\s*(?:[,;/|&]|\band\b)\s*")


def _spellings() -> dict[str, str]:
    found = dict(_PHRASES)
    for entry in re.split(r"[|\n]", _NAMES.strip()):
        tag, *names = entry.split()
        found |= {name.casefold(): tag for name in (tag, *names)}
    return found


_SPELLINGS: Final = _spellings()


def language_tags(text: str) -> tuple[list[str], list[str]]:
    """The BCP 47 tags of the languages in a text (one, or several with commas or "and" between), and the
    parts that name none."""
    tags, unknown = [], []
    for part in _SEPARATORS.split(text):
        if not part:
            continue
        tag = _tag(part)
        if tag is None:
            unknown.append(part)
        elif tag not in tags:
            tags.append(tag)
    return tags, unknown


def _tag(text: str) -> str | None:
    plain = " ".join(text.casefold().split())
    known = _SPELLINGS.get(plain) or _SPELLINGS.get(plain.removesuffix(" language"))
    if known is not None:
        return known
    if _TAG.fullmatch(text) is None:
        return None
    first, *rest = text.replace("_", "-").split("-")
    language = _SPELLINGS.get(first.casefold())
    if language is None:
        return first.lower() if len(first) == 2 and not rest else None
    return "-".join([language, *(part.title() if len(part) == 4 else part.upper() for part in rest)])
