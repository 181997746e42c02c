"""What a column's or a file's name suggests: weak evidence, in many spellings and some languages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# A stem stands for itself; one that ends in `*` for all words that begin so.
ROLES: dict[str, str] = {
    "text": "text* body content* document* doc article* review* comment* message* mail email post tweet* sentence* "
    "utterance* passage paragraph* description* beschreibung inhalt nachricht* satz texte* contenu contenido mensaje* "
    "comentario* resena frase oracion descripcion testo commento messaggio recensione bericht* artikel* kommentar* "
    "rezension corpo texto mensagem tekst* story abstract feedback verbatim note* remark* complaint* beschwerde* "
    "anfrage freitext wortlaut src",
    "dialogue": "dialog* conversation chat* transcript* gesprach* unterhaltung conversacion messages turns",
    "label": "label* class classe klasse clase category categor* kategorie* rubrik* tag target* y topic* thema tema "
    "sujet intent* absicht emotion* sentiment* stimmung polarity polaritat toxic* gold truth ziel annotation* outcome "
    "verdict decision urteil etiqueta* etikett* etichett* type typ* tipo genre art queue department abteilung priority "
    "prioritat dringlichkeit severity spam is_* ground_truth code stance subjectivity acceptab* result ergebnis klass "
    "relation kat cat lbl urgency flag",
    "rating": "rating* star stars stern sterne score* overall grade* bewertung* punkte* wertung* puntuacion* "
    "puntaje calificacion* "
    "estrella* valoracion* etoile* punteggio voto nota note rate quality qualitat zufriedenheit satisfaction* nps "
    "similarity ahnlichkeit intensity strength polarity sterne cijfer waardering",
    "summary": "summar* zusammenfassung* resumen* resume* riassunto abstract highlight* tldr gist synopsis "
    "kurzfassung* "
    "samenvatting resumo short* condensed tl_dr key_point* digest",
    "title": "title* titel* titre* titolo titulo headline* subject* betreff* asunto objet oggetto uberschrift* kop "
    "schlagzeile* heading* caption* topic name_of",
    "keywords": "keyword* keyphrase* key_phrase* tag tags schlagwort* schlusselwort* stichwort* palabra* mot* topics "
    "descriptors subjects labels phrases uncontr contr",
    "question": "question* frage* pregunta* query queries quest* domanda* vraag pergunta* q goal problem* aufgabe* "
    "ask asks asked stem prompt request",
    "answer": "answer* antwort* respuesta* reponse* risposta* antwoord resposta* a response* reply replies solution* "
    "losung* gold completion* output* alias* resolution erwiderung ans expected",
    "context": "context* kontext passage* paragraph* background article document* evidence source_text support fact* "
    "story contexto contexte abschnitt knowledge reference_text",
    "choices": "choice* option* alternative* candidate* sol ending* distractor* answers antworten auswahl "
    "possible_answers opcion*",
    "instruction": "instruct* prompt* anweisung* command* instruccion* task aufgabe definition directive request",
    "input": "input* eingabe* entrada* context source src x given prompt",
    "output": "output* ausgabe* salida* response* completion* target* tgt generated chosen reply "
    "expected continuation ref* result",
    "source": "source src original orig input in from before noisy raw complex error* wrong incorrect quelle alt "
    "informal draft",
    "target": "target tgt corrected correct* output out to after clean simple* simplif* gold ref* ziel neu fixed "
    "formal "
    "rewrite rewritten edited paraphras* standard normal*",
    "premise": "premise* sentence_1 text_a context sent_1 sent_a s1 text_1 pramisse",
    "hypothesis": "hypothes* hypothese claim statement conclusion sentence_2 text_b sent_2 s2 text_2",
    "code": "code* function* snippet* program* implementation canonical_solution func quellcode solution source_code",
    "sql": "sql query queries statement",
    "rationale": "rationale* explan* reason* begrundung* cot chain_of_thought thought* steps justification erklarung* "
    "explicacion working",
    "id": "id ids idx index nr no num nummer number uuid guid key pk fname filename file docid rowid hash asin sku "
    "identifier kennung ref_id isbn doi matrikel",
    "person": "author* autor* user* name* reviewer* speaker* annotator* worker* customer kunde kunden kundenname "
    "sender* absender from "
    "recipient* empfanger agent* coder* usuario cliente nutzer benutzer* mitarbeiter* bearbeiter* owner username",
    "time": "date* datum fecha* time* zeit* hora* timestamp* created* updated* modified erstellt* geandert day* tag_* "
    "month monat* year* jahr* published* veroffentlicht* start* end* uhrzeit seit data_ora quando when",
    "meta": "lang* sprache idioma country land pais city stadt ort location region version season episode source "
    "quelle origin split set partition fold level batch page seite offset count* anzahl helpful* vote* likes "
    "retweet* price preis length len size format status url link filiale branch gender geschlecht age alter platform "
    "device channel kanal confidence model license lizenz db_id database domain grade_level template* variation",
    "split": "split partition fold set subset dataset_split",
    "entities": "entit* ner named_* tag tags ner_tags spans annotations slots entidades entitat* seq_out bio labels",
    "tokens": "token* words worter seq_in palabras mots",
    "data": "mr meaning_representation triple* table data facts attributes attribute* record structured meta tripleset "
    "mtriple features slots",
    "translation": "translation* ubersetzung* traduccion* traduction* traduzione vertaling",
}
_SPLIT_WORDS = {
    "train": "train training trn tr learn tune trainset entrenamiento ausbildung",
    "validation": "validation valid val dev devel development eval evaluation devset valset validierung entwicklung "
    "validacion",
    "test": "test tst testing tests heldout testset prueba",
}
SPLITS = {word: split for split, spellings in _SPLIT_WORDS.items() for word in spellings.split()}


def _plain(text: str) -> str:
    """Without accents: `Präferenz` and `praferenz` are one."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).replace("ß", "ss")


def parts(name: str) -> list[str]:
    """The words that a name is made of, in lower case: `reviewText` is review, text; `sol1` is sol, 1."""
    return [part for part in re.split(r"[\W_]+", _SEAM.sub("_", _plain(name)).lower()) if part]


_SEAM = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")


def _compiled(stems: str) -> re.Pattern[str]:
    """A long stem may end a compound: `kundenbewertung` is a bewertung."""
    return re.compile(
        "|".join(
            (r"\w*" if len(stem) > 5 else "") + re.escape(stem.rstrip("*")) + (r"\w*" if stem.endswith("*") else "")
            for stem in stems.split()
        )
    )


_PATTERNS = {role: _compiled(stems) for role, stems in ROLES.items()}


def suggests(name: str, role: str) -> float:
    """How much a name suggests a role: 1 for its whole or its last word, 0.6 for another word, 0 for none."""
    pattern, found = _PATTERNS[role], parts(name)
    while len(found) > 1 and found[-1].isdigit():
        found.pop()
    if not found:
        return 0.0
    if pattern.fullmatch("_".join(found)) or pattern.fullmatch(found[-1]):
        return 1.0
    return 0.6 if any(pattern.fullmatch(part) for part in found) else 0.0


def split_of(name_parts: Iterable[str]) -> str | None:
    """The split that words of a file's name state, the last of them that does; None where none does."""
    found = [SPLITS[part] for part in name_parts if part in SPLITS]
    return found[-1] if found else None


def family(name: str) -> tuple[str, str] | None:
    """A numbered or lettered name as (family, mark): `sol1` is sol, 1; `#2 String` is string, 2; `A` is "", a."""
    found = parts(name)
    for mark, rest in ((found[-1], found[:-1]), (found[0], found[1:])) if found else ():
        if re.fullmatch(r"\d{1,2}|[a-h]|i{1,3}|iv|one|two|three|four|five", mark):
            return "_".join(rest), mark
    return None
