"""What language a text is in, natural or of programming, as far as its letters and its commonest words show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[぀-ヿ㐀-鿿ｦ-ﾟ]|[^\W_]+(?:['’][^\W_]+)*")
_WIDE = re.compile(r"[぀-ヿ㐀-鿿ｦ-ﾟ]")


def words(text: str) -> list[str]:
    """Lower-case words; where a script writes none apart (Chinese, Japanese), its characters."""
    return _WORD.findall(text.lower())


def length(text: str) -> float:
    """A text's length in words; two characters of Chinese or Japanese count as one."""
    found = _WORD.findall(text)
    wide = sum(1 for word in found if _WIDE.match(word))
    return len(found) - wide / 2


@dataclass(frozen=True)
class Language:
    """A natural language.

    Attributes:
        name: In English, as prompts call it.
        common: Words that hardly a text of it lacks, and few texts of its neighbours have.
        called: What a file's or a column's name may call it, beside its code.
    """

    name: str
    common: frozenset[str] = frozenset()
    called: frozenset[str] = frozenset()


def _language(name: str, common: str = "", called: str = "") -> Language:
    return Language(name, frozenset(common.split()), frozenset([name.lower(), *called.split()]))


LANGUAGES: dict[str, Language] = {
    "en": _language(
        "English",
        "a an the of and to is was for that with are this you it not have be on i what at by from he she they his her",
        "eng englisch ingles anglais inglese",
    ),
    "de": _language(
        "German",
        "der die das und ist nicht ein eine ich mit den von zu es auf für im sich wie wir einem einen einer dem sie er",
        "deu ger deutsch aleman allemand tedesco",
    ),
    "fr": _language(
        "French",
        "le la les des et est une un dans pour que qui pas sur je vous du ce il au",
        "fra fre francais französisch frances francese",
    ),
    "es": _language(
        "Spanish",
        "el la los las de que y en un una por con para es no se del lo mi más",
        "spa espanol español spanisch espagnol spagnolo",
    ),
    "it": _language(
        "Italian",
        "il lo gli di che e la un una per non è con sono mi del della si ma ho",
        "ita italiano italienisch italien",
    ),
    "pt": _language(
        "Portuguese",
        "o os as de que e do da em um uma não para com é por no na eu se",
        "por portugues português portugiesisch",
    ),
    "nl": _language(
        "Dutch",
        "de het een van en ik is niet dat op te voor met zijn er aan maar ook naar je",
        "nld dut nederlands niederländisch",
    ),
    "sv": _language(
        "Swedish",
        "och att det som en är jag inte på för med till den av ett har de om men vi",
        "swe svenska schwedisch",
    ),
    "da": _language(
        "Danish",
        "og at det er en jeg ikke på til for af med den har de et der som men vi",
        "dan dansk",
    ),
    "no": _language(
        "Norwegian",
        "og det er en jeg ikke på til for av med den har de et som å men vi så",
        "nob nor norsk bokmål",
    ),
    "pl": _language(
        "Polish",
        "i w nie się na to że z jest do jak ale co po tak za od jestem być są",
        "pol polski polnisch",
    ),
    "cs": _language(
        "Czech",
        "a se na je to že v jsem s z do ale jak by za ve co si jsou pro",
        "ces cze česky tschechisch",
    ),
    "tr": _language(
        "Turkish",
        "bir ve bu için çok da de ne ile gibi ama o ben daha var değil mi olan kadar en",
        "tur türkçe türkisch",
    ),
    "fi": _language(
        "Finnish",
        "ja on ei se että oli en hän mutta niin kun mitä minä ovat tai kuin ole myös joka sen",
        "fin suomi finnisch",
    ),
    "hu": _language(
        "Hungarian",
        "a az és nem hogy is egy van ez meg de volt csak ki már mint el én be azt",
        "hun magyar ungarisch",
    ),
    "ro": _language(
        "Romanian",
        "și în de la nu că o este un cu pe mai se am pentru sunt din ce să fi",
        "ron rum română rumänisch",
    ),
    "id": _language(
        "Indonesian",
        "yang dan di itu dengan untuk ini tidak dari dalam akan pada saya ada adalah ke bisa kami juga anda",
        "ind indonesia",
    ),
    "vi": _language(
        "Vietnamese",
        "và là của không có một được cho trong người này các với tôi những đã khi đó để như",
        "vie tiếng",
    ),
    "ru": _language(
        "Russian",
        "и в не на я что с это как он по но мы все из у за так же вы",
        "rus russisch ruso русский",
    ),
    "uk": _language(
        "Ukrainian",
        "і в не на що я з це як та до але ми за є від його для або вона",
        "ukr українська",
    ),
    "bg": _language(
        "Bulgarian",
        "и на да не се в е за от с че ще си като по са но това има до",
        "bul български",
    ),
    "el": _language("Greek", called="ell gre griechisch"),
    "ar": _language("Arabic", called="ara arabisch"),
    "fa": _language("Persian", called="fas per farsi"),
    "he": _language("Hebrew", called="heb"),
    "hi": _language("Hindi", called="hin"),
    "bn": _language("Bengali", called="ben bangla"),
    "ta": _language("Tamil", called="tam"),
    "th": _language("Thai", called="tha"),
    "ja": _language("Japanese", called="jpn jap japanisch jp"),
    "ko": _language("Korean", called="kor koreanisch kr"),
    "zh": _language("Chinese", called="zho chi cmn chinesisch cn mandarin"),
}

# Ends of the Unicode blocks that matter, in order, and the script of each.
_SCRIPTS = (
    (0x40, ""), (0x250, "Latin"), (0x370, ""), (0x400, "Greek"), (0x530, "Cyrillic"), (0x590, ""), (0x600, "Hebrew"),
    (0x780, "Arabic"), (0x900, ""), (0x980, "Devanagari"), (0xA00, "Bengali"), (0xB80, ""), (0xC00, "Tamil"),
    (0xE00, ""), (0xE80, "Thai"), (0x1100, ""), (0x1200, "Hangul"), (0x1E00, ""), (0x1F00, "Latin"), (0x2000, "Greek"),
    (0x3040, ""), (0x3100, "Kana"), (0x3400, ""), (0xA000, "Han"), (0xAC00, ""), (0xD7B0, "Hangul"),
)  # fmt: skip
_BY_SCRIPT = {"Greek": "el", "Hebrew": "he", "Devanagari": "hi", "Bengali": "bn", "Tamil": "ta", "Thai": "th",
              "Hangul": "ko", "Kana": "ja", "Han": "zh"}  # fmt: skip
CHARACTERS_LOOKED_AT = 20_000


def scripts(texts: Iterable[str]) -> Counter[str]:
    """How many letters of each script the texts have, of their first ones."""
    counts: Counter[str] = Counter()
    for character, times in Counter("".join(texts)[:CHARACTERS_LOOKED_AT]).items():
        if character.isalpha():
            counts[next((name for end, name in _SCRIPTS if ord(character) < end), "")] += times
    return counts


def language_of(texts: Sequence[str]) -> str | None:
    """The code of the language that the texts are in; None where they do not show it."""
    found = scripts(texts)
    if not found:
        return None
    if found["Kana"] > 0.1 * found.total():
        return "ja"
    script = found.most_common(1)[0][0]
    if script == "Arabic":
        return "fa" if any(letter in text for text in texts for letter in "پچگژ") else "ar"
    return _BY_SCRIPT.get(script) or _by_common_words(texts)


def _by_common_words(texts: Sequence[str]) -> str | None:
    counts = Counter(word for text in texts for word in words(text[:2000]))
    total = counts.total()
    shares = {
        code: sum(counts[word] for word in language.common) / max(total, 1)
        for code, language in LANGUAGES.items()
        if language.common
    }
    best, second = sorted(shares, key=shares.__getitem__, reverse=True)[:2]
    return best if shares[best] >= 0.06 and shares[best] > 1.1 * shares[second] else None


# A mark of each language that others lack, most telling first.
_PROGRAMMING = {
    "Python": r"^\s*(def \w+\(.*\).*:|import \w+|from \w[\w.]* import |elif |"
    r"class \w+.*:$|(for \w.* in|if|while) .*:$|return .*[)\]]$)|\bself\.|print\(",
    "SQL": r"(?i)^\s*(select\b.+\bfrom\b|insert into |"
    r"update \w+ set |delete from |with \w+ as \(|create (table|view) )",
    "C#": r"\b(public|private|internal|protected) (override|virtual|static|async)? ?\w+[<\w>\[\]]* [A-Z]\w*\s*\(|"
    r"\busing System|\bnamespace [A-Z]|\bstring\.\w+|\bvar \w+ = new ",
    "Java": r"\b(public|private|protected) (static |final |synchronized )*(<\w+>\s*)?[\w<>\[\], ]+ [a-z]\w*\s*\(|"
    r"System\.out\.|\bimport java|\bthrows \w+",
    "JavaScript": r"\b(const|let) \w+ ?=|\bfunction\s*\w*\s*\(|=>\s*[{(\w]|console\.log|\bdocument\.",
    "C++": r"#include <\w+>|\bstd::|\bcout\b|\btemplate ?<",
    "C": r"#include <\w+\.h>|\bprintf\(|\bmalloc\(|\bint main\(|\bchar \*",
    "Go": r"\bfunc (\(\w+ \*?\w+\) )?\w+\(|:= |\bpackage \w+$|\bfmt\.",
    "Rust": r"\bfn \w+|\blet mut |\bimpl |\bpub (fn|struct)|println!",
    "PHP": r"<\?php|\$\w+ = |\becho ",
    "Ruby": r"^\s*(def \w+$|end$|puts |require ')",
    "Bash": r"^\s*(#!/bin/|sudo |grep |echo |cd |ls |curl |git |find |awk |sed |cat |docker |kubectl )",
    "HTML": r"(?i)<(html|div|body|head|p|table|ul|span|a|h\d)[\s>]",
    "CSS": r"[.#]?[\w-]+\s*\{\s*[\w-]+\s*:[^}]+;",
}  # fmt: skip
_PROGRAMMING_MARKS = {name: re.compile(marks, re.MULTILINE) for name, marks in _PROGRAMMING.items()}
_SYMBOLS = frozenset("{}()[];=<>")


def programming_language(texts: Sequence[str]) -> str | None:
    """The language that most of the texts are written in; None where that is not code, or not told."""
    if not texts:
        return None
    found = {name: sum(1 for text in texts if mark.search(text)) for name, mark in _PROGRAMMING_MARKS.items()}
    best = max(found, key=found.__getitem__)
    return best if found[best] >= 0.4 * len(texts) else None


def looks_like_code(text: str) -> bool:
    """Whether a text is mostly code: many of the symbols that prose lacks, and a mark of some language."""
    symbols = sum(1 for character in text if character in _SYMBOLS) / max(len(text), 1)
    statements = "(" in text and (";" in text or "{" in text)
    return symbols > 0.02 and (
        (symbols > 0.06 and statements) or any(mark.search(text) for mark in _PROGRAMMING_MARKS.values())
    )
