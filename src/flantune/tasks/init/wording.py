"""What a text, a label and a language are called in prompts: by the column's name, else by what stands in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flantune.tasks.init.columns import Column
from flantune.tasks.init.language import LANGUAGES
from flantune.tasks.init.names import parts

NOUNS = {
    "review": "review",
    "reviews": "review",
    "rezension": "review",
    "bewertung": "review",
    "resena": "review",
    "article": "article",
    "artikel": "article",
    "news": "article",
    "articulo": "article",
    "mail": "email",
    "email": "email",
    "message": "message",
    "messages": "message",
    "nachricht": "message",
    "mensaje": "message",
    "sms": "message",
    "tweet": "tweet",
    "tweets": "tweet",
    "comment": "comment",
    "comments": "comment",
    "kommentar": "comment",
    "comentario": "comment",
    "post": "post",
    "question": "question",
    "frage": "question",
    "pregunta": "question",
    "query": "query",
    "sentence": "sentence",
    "satz": "sentence",
    "utterance": "utterance",
    "abstract": "abstract",
    "abstr": "abstract",
    "document": "document",
    "dokument": "document",
    "paragraph": "paragraph",
    "ticket": "ticket",
    "anfrage": "inquiry",
    "complaint": "complaint",
    "beschwerde": "complaint",
    "dialogue": "conversation",
    "dialog": "conversation",
    "conversation": "conversation",
    "transcript": "transcript",
    "headline": "headline",
    "description": "description",
    "beschreibung": "description",
    "story": "story",
    "poem": "poem",
    "letter": "letter",
    "brief": "letter",
    "report": "report",
    "bericht": "report",
    "feedback": "feedback",
    "product": "product description",
    "job": "job posting",
    "recipe": "recipe",
}
_SAYS_NOTHING = frozenset(
    [
        "label",
        "labels",
        "target",
        "y",
        "class",
        "klasse",
        "klass",
        "clase",
        "classe",
        "gold",
        "truth",
        "answer",
        "output",
        "outputs",
        "result",
        "code",
        "column",
        "text",
        "value",
        "completion",
        "tag",
        "lbl",
        "kat",
        "cat",
        "feedback",
        "id",
        "int",
        "num",
    ]
)
_SENTIMENT = frozenset(
    [
        "positive",
        "negative",
        "neutral",
        "pos",
        "neg",
        "neu",
        "mixed",
        "positiv",
        "negativ",
        "positivo",
        "negativo",
        "positif",
        "negatif",
    ]
)
_EMOTION = frozenset(
    [
        "joy",
        "sadness",
        "anger",
        "fear",
        "disgust",
        "surprise",
        "love",
        "happy",
        "sad",
        "angry",
        "freude",
        "trauer",
        "wut",
        "angst",
    ]
)
SPEAKER_LINE = re.compile(r"^\s*[#\w][\w #.'-]{0,30}: ?\S", re.MULTILINE)


def noun_of(column: Column, *, named: bool) -> str:
    """What a text is, such as review, conversation or question."""
    if sum(len(SPEAKER_LINE.findall(text[:5000])) > 1 for text in column.few) > 0.6 * max(len(column.few), 1):
        return "conversation"
    words = parts(column.name) if named else []
    for word in reversed(words):
        if word in NOUNS:
            return NOUNS[word]
    if column.questions > 0.6:
        return "question"
    return "text"


def label_of(column: Column, kind: str, values: Sequence[str], *, named: bool) -> str:
    """What a label is, such as category, sentiment or rating."""
    words = [word for word in parts(column.name) if not word.isdigit()] if named else []
    if words and not set(words) <= _SAYS_NOTHING and kind != "rating":
        return " ".join(words)
    if kind == "rating":
        telling = [word for word in words if re.match(r"star|stern|score|grade|rating|bewertung|punkt", word)]
        return (
            {"star": "number of stars", "stars": "number of stars", "sterne": "number of stars"}.get(
                telling[0], telling[0]
            )
            if telling
            else "rating"
        )
    said = {value.lower() for value in values}
    if said and said <= _SENTIMENT:
        return "sentiment"
    if len(said & _EMOTION) > 2:
        return "emotion"
    return "category"


def language_name(column: Column, *, named: bool) -> str:
    """The English name of a column's language: that its name states, else that its texts show, else its own name."""
    for word in parts(column.name) if named else []:
        for code, language in LANGUAGES.items():
            if word == code or word in language.called:
                return language.name
    if column.language is not None:
        return LANGUAGES[column.language].name
    return column.name


def programming_name(column: Column, *, named: bool) -> str:
    """The name of a column's programming language."""
    known = {
        "java": "Java",
        "cs": "C#",
        "csharp": "C#",
        "py": "Python",
        "python": "Python",
        "js": "JavaScript",
        "javascript": "JavaScript",
        "ts": "TypeScript",
        "cpp": "C++",
        "c": "C",
        "go": "Go",
        "rb": "Ruby",
        "php": "PHP",
        "rs": "Rust",
        "rust": "Rust",
        "sql": "SQL",
        "kotlin": "Kotlin",
        "swift": "Swift",
        "scala": "Scala",
    }
    stated = [known[word] for word in parts(column.name) if word in known] if named else []
    return stated[-1] if stated else column.programming or column.name
