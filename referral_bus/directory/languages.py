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
aa aar|ae ave|ak aka|an arg|av ava|ay aym|ba bak|bi bis|bm bam|bo tib bod|br bre|ce che|ch cha|co cos|cr cre
cu chu|cv chv|dv div|ee ewe|ff ful|fj fij|fo fao|fy fry|gd gla|gl glg|gn grn|gv glv|ho hmo|hz her|ia ina|ie ile
ii iii|ik ipk|io ido|iu iku|jv jav|kg kon|ki kik|kj kua|kl kal|kr kau|ks kas|kv kom|kw cor|la lat|lb ltz|lg lug
li lim|lu lub|mh mah|mi mao mri|na nau|nb nob|nd nde|ng ndo|nn nno|nr nbl|ny nya|oc oci|oj oji|or ori|os oss
pi pli|qu que|rm roh|sa san|sc srd|se sme|sg sag|sh hbs|ss ssw|st sot|su sun|tn tsn|ts tso|tt tat|tw twi|ty tah
ug uig|ve ven|vo vol|wa wln|za zha
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
_WELL_FORMED: Final = re.compile(
    r"[a-z]{2,3}(?:-[a-z]{3}){0,3}(?:-[a-z]{4})?(?:-(?:[a-z]{2}|\d{3}))?(?:-(?:[a-z\d]{5,8}|\d[a-z\d]{3}))*"
    r"(?:-[a-wy-z\d](?:-[a-z\d]{2,8})+)*(?:-x(?:-[a-z\d]{1,8})+)?",
    re.IGNORECASE,
)
_NO_LANGUAGE: Final = frozenset({"mis", "mul", "und", "zxx"})
"""Codes of ISO 639 for what is not one language, or not known."""

_LONGEST: Final = 64
"""As long as what is said of a person's language can be."""

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


def code_tags(text: str) -> list[str]:
    """The BCP 47 tags that a language's code stands for: also of languages whose names the bus does not know, if the tag is well-formed."""
    tags, unknown = language_tags(text)
    if tags and not unknown:
        return tags
    code = text.replace("_", "-")
    if len(code) > _LONGEST or code.casefold() in _NO_LANGUAGE or _WELL_FORMED.fullmatch(code) is None:
        return []
    first, *rest = code.split("-")
    return ["-".join([_SPELLINGS.get(first.casefold(), first.lower()), *map(_subtag, rest)])]


def _subtag(part: str) -> str:
    """A script or region as it is written, so that the same tag is written alike."""
    if not part.isalpha():
        return part.lower()
    return part.title() if len(part) == 4 else part.upper() if len(part) == 2 else part.lower()


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
