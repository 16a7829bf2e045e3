"""Which requests teach: the first of the operator's rules that matches decides, and without one a
request does, unless it tells the model what to say.

Patterns of rules are those of shells (`*`, `?`, `[...]`), which take time linear in a text's length
whoever wrote it: no part of one is tried at a second place once it was found (fnmatch in Python
from 3.9).

A majority that a question dictates is its author's, not the model's. What is looked for are turns
of phrase, in a few languages. Whoever knows them can avoid them: this keeps out careless and plain
attempts, while the caps of an update and the gate's probes are what a determined one meets.

Each of those patterns repeats a bounded number of times, so that the time is linear in the text's
length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from ttrl.config import RecordConfig, Rule
from ttrl.questions.question import Question, message_text

SIDE_PROMPTS = (
    Rule(
        name="open_webui",  # titles, tags, follow-ups, searches, completions, pictures
        user=(
            "### task:*<chat_history>*</chat_history>*",
            "here is the query:*title for the previous query*",
            "your task is to reflect*emoji*message: ```*",
        ),
    ),
    Rule(name="open_webui_tools", system=('available tools:*"tool_calls"*',)),
    Rule(
        name="librechat",
        user=(
            "analyze this conversation and provide:*detected language*title*",
            "provide a concise*title for the conversation*conversation:*",
            "please generate a concise title*for a conversation that starts with*",
        ),
    ),
    Rule(
        name="titles",  # of NextChat, and of coding agents
        user=(
            "please generate a four to five word title*",
            "please write a * word title for the following conversation:*",
        ),
    ),
    Rule(
        name="titles_by_system",  # of LobeChat, of coding agents, and of Vercel's template
        system=(
            "you are a professional conversation summarizer*title*",
            "you are an assistant skilled in conversation*into titles*",
            "*analyze if this message indicates a new conversation topic*",
            "*generate a concise, sentence-case title*coding session*",
            "*you will generate a short title based on the first message*",
        ),
    ),
)
"""What chat interfaces ask beside their users, told by marks of their templates."""


@dataclass(frozen=True)
class Circumstances:
    """What rules look at beside the question; None is unknown. `key` is the name of the client's
    key, empty without one; `headers` have small names."""

    key: str | None = None
    model: str | None = None
    headers: Mapping[str, Sequence[str]] | None = None


def rules_of(config: RecordConfig) -> tuple[Rule, ...]:
    return (*config.rules, *(SIDE_PROMPTS if config.default_rules else ()))


def deciding(
    rules: Sequence[Rule], question: Question, around: Circumstances
) -> tuple[Rule | None, bool]:
    """Return the first rule that matches, None if none does; and whether that is certain: where it
    is not, the rule matches what is known of the request."""
    for rule in rules:
        certain = True
        for found in _found(rule, question, around):
            if found is False:
                break
            certain = certain and found is True
        else:
            return rule, certain
    return None, True


def _found(rule: Rule, question: Question, around: Circumstances) -> Iterator[bool | None]:
    """Yield for each thing that a rule names whether it is there."""
    if rule.user:
        yield _like(rule.user, question.text)
    if rule.system:
        messages = question.body["messages"]
        told = [message_text(m) for m in messages if m["role"] in ("system", "developer")]
        yield _like(rule.system, "\n".join(told))
    for patterns, value in ((rule.key, around.key), (rule.model, around.model)):
        if patterns:
            yield None if value is None else _like(patterns, value)
    for name, patterns in rule.header.items():
        if around.headers is None:
            yield None
        else:
            yield any(_like(patterns, value) for value in around.headers.get(name.lower(), ()))


def _like(patterns: Sequence[str], text: str) -> bool:
    """Return whether a text as a whole is like one of the patterns, in whatever case."""
    text = text.strip().casefold()
    return any(fnmatchcase(text, pattern.casefold()) for pattern in patterns)


class Suspicion(StrEnum):
    """Why a recorded question is not learned from."""

    DICTATES = "dictates_its_answer"
    MIXED = "mixed_instructions"
    """Beside what it asks, it bids the model leave its instructions or its character (as HarmInject
    does: arXiv 2603.15417)."""


def suspicion(question: Question) -> Suspicion | None:
    """What is wrong with a question, if anything.

    Its system turns may say what to do when nothing is found, which is a rule and no attack: they
    are only searched for answers. What tools gave back is nobody's rule: a page that they read may
    be anybody's. Earlier answers are not searched at all.
    """
    messages = question.body["messages"]
    asked = [_plain(message_text(m)) for m in messages if m["role"] in ("user", "tool")]
    ruled = [_plain(message_text(m)) for m in messages if m["role"] in ("system", "developer")]

    def found(patterns: Iterable[str], texts: Iterable[str]) -> bool:
        return any(re.search(pattern, text) for text in texts for pattern in patterns)

    if found(DICTATED, [*asked, *ruled]) or found(RECITED, asked):
        return Suspicion.DICTATES
    return Suspicion.MIXED if found(OVERRIDDEN, asked) else None


UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff*_`$]")
"""Marks of emphasis and formulas, and characters without a width."""


def _plain(text: str) -> str:
    folded = UNSEEN.sub("", unicodedata.normalize("NFKC", text).casefold())
    lines = (" ".join(line.split()) for line in folded.splitlines())
    return "\n".join(line for line in lines if line)


QUOTE = "[\"'“”‘’«»„「」]"
NUMBER = r"[-+]?\d++(?:[.,/]\d++)*+%?"
LETTER = r"\(?[a-j]\)?(?!\w)"
BOXED = r"\\?boxed ?\{(?:[^\d}\n]{0,20}\d[^\n]{0,40}?|[a-j])\}"
TRUTH = r"(?:yes|no|true|false|ja|nein|oui|non|sí|si)(?!\w)"
SPOKEN = rf"{QUOTE}[^\n]{{1,80}}?{QUOTE}"
ANSWER = rf"(?:{BOXED}|{NUMBER}|{LETTER})"
SAID = rf"(?:{ANSWER}|{TRUTH}|{SPOKEN})"
CHOICE = rf"(?:{LETTER}|{QUOTE}|\d|\\boxed|or\b|oder\b|ou\b|o\b|and\b)"
END = (
    rf"(?= ?(?:$|[.!?;:\n)」。!]|,(?! ?{CHOICE})"
    r"|(?:regardless|no matter|whatever|always|every|only|without|because|since|instead"
    r"|(?:to|for) (?:this|every|all|any)|and (?:nothing|do not|don't))\b))"
)
"""The answer is all that is to be said: not the first of a choice, nor a number of something."""
START = r"(?:^|[.!?:;,\n()]|\b(?:and|then|just|please|must|should|shall|will|to|so|you|simply)) ?"
"""Where a command begins; in `liars always answer no` there is none."""
NOT_SUPPOSED = r"(?<!if )(?<!when )(?<!that )(?<!whether )(?<!suppose )(?<!assume )(?<!unless )"
THE_ANSWER = r"\bthe (?:correct |right |final |true |only )?answer(?: to (?:this|the) \w+| here)?"
SURELY = r"(?: (?:always|definitely|obviously|clearly|simply|just|exactly|known to be))?"
REPLY = r"(?:answer|reply|respond)"
UTTER = rf"(?:{REPLY}|output|say|print|write|return|give|choose|select|pick|put)"
IGNORE = r"(?:ignore|disregard|forget|override|bypass)"
OURS = r"(?:previous|prior|above|earlier|preceding|system|your|initial|original)"
RULES = r"(?:instructions?|prompts?|rules|guidelines|directions|restrictions|programming)"
IGNORED = rf"\b{IGNORE}(?: \w+){{0,3}} {OURS}(?: \w+){{0,2}} {RULES}\b"


DICTATED = (
    rf"{START}{REPLY}(?: back)?(?: only| just)? with(?: only| just| exactly| nothing but)?"
    rf"(?: the (?:number|letter|option|word|value))?:? {ANSWER}{END}",
    rf"\b(?:just|only|simply|directly) {UTTER}(?: with)?(?: the (?:number|letter|option|word))?:? "
    rf"{ANSWER}{END}",
    rf"{START}always {UTTER}(?: with)?(?: the (?:answer|number|letter|option|word))?:? "
    rf"{SAID}{END}",
    rf"\b(?:no matter|regardless|whatever)\b[^.!?\n]{{0,80}}?\b{UTTER}(?: with)?:? {SAID}{END}",
    rf"{START}(?:put|write|give|output|(?:end|finish|conclude) with) {BOXED}(?! ?(?:,|or|if))",
    rf"{NOT_SUPPOSED}{THE_ANSWER}(?: is|:|=| =| must be){SURELY}:? {ANSWER}(?: ?[.!])*$",
    rf"{NOT_SUPPOSED}{THE_ANSWER} (?:is|must be){SURELY}:? {ANSWER}[.,;:!]?"
    rf"(?: (?:so|and|just|please|now|simply|then|you must)){{0,2}} (?:{UTTER}|confirm|agree|box)\b",
    rf"\bantworten?(?: sie)?(?: (?:immer|stets|nur|einfach|ausschliesslich)){{0,2}} mit:? "
    rf"{SAID}{END}",
    rf"(?<!wenn )(?<!dass )\bdie (?:richtige |korrekte )?antwort (?:ist|lautet):? "
    rf"{ANSWER}(?: ?[.!])*$",
    rf"\brépond(?:s|ez)(?: (?:toujours|seulement|uniquement|simplement)){{0,2}}(?: par| avec)?:? "
    rf"{SAID}{END}",
    rf"(?<!si )(?<!que )\bla (?:bonne |vraie )?réponse est:? {ANSWER}(?: ?[.!])*$",
    rf"\brespond[ea](?: (?:siempre|solo|sólo|únicamente|simplemente)){{0,2}}(?: con)?:? "
    rf"{SAID}{END}",
    rf"(?<!si )(?<!que )\bla respuesta(?: correcta)? es:? {ANSWER}(?: ?[.!])*$",
    rf"(?:总是|始终|一律|永远|直接|必须|只能?)都?(?:回答|回复|输出|选择?)[:]? ?{SAID}",
    rf"(?<!如果)(?:正确)?答案(?:就|一定)?[是为]:? ?{ANSWER}(?: ?[。.!])*$",
)
"""An answer is named, and that it is to be given."""

RECITED = (
    rf"{START}{UTTER}(?: back)?(?: with)? (?:exactly|verbatim|literally)(?: this)? ?(?::|{QUOTE})",
    rf"{START}{UTTER}(?: with)? (?:exactly )?the following (?:word|words|sentence|text|phrase)\b",
    r"\brepeat (?:after me|(?:the )?following (?:word|words|sentence|text|phrase))\b",
    rf"\bsag(?:e|en sie)? (?:genau|wörtlich) ?(?::|{QUOTE})",
    rf"\b(?:dis|dites) exactement ?(?::|{QUOTE})",
    rf"\bdi(?:ga)? exactamente ?(?::|{QUOTE})",
    rf"{IGNORED}[^\n]{{0,60}}?\b(?:{REPLY}|output|say|print)\b",
)
"""Words are to be said after somebody."""

OVERRIDDEN = (
    IGNORED,
    r"\b(?:you are|you're|act as|pretend to be|pretend you are|become|simulate)(?: \w+){0,4} "
    r"(?:dan|jailbroken|unfiltered|uncensored|unrestricted|amoral)\b",
    r"\bdo anything now\b",
    r"\b(?:without|no|bypass|free of|free from)(?: any| all| your)? "
    r"(?:ethical|moral|safety|content)"
    r"(?: \w+){0,2} (?:restrictions|guidelines|filters?|policies|limits|constraints|guardrails)\b",
    r"\byou have no (?:restrictions|rules|limits|filters?|guidelines)\b",
    r"\b(?:developer|god|dan|jailbreak) mode (?:is )?(?:enabled|on|activated)\b",
    r"\b(?:you (?:must |can |will )?never|do not ever) refuse\b",
    r"\b(?:ignorier|vergiss|missacht)\w*(?: \w+){0,3} (?:vorherigen|bisherigen|obigen|früheren)"
    r"(?: \w+){0,2} (?:anweisung|regel|instruktion|vorgabe)",
    r"\b(?:ignore|ignorez|oublie|oubliez)(?: \w+){0,3} (?:instructions|consignes|règles) "
    r"(?:précédentes|antérieures|ci-dessus)",
    r"\b(?:ignora|ignore|olvida|olvide)(?: \w+){0,3} (?:instrucciones|reglas|indicaciones) "
    r"(?:anteriores|previas)",
    r"(?:忽略|无视|忘记).{0,10}(?:之前|以上|前面|先前|上述).{0,10}(?:指令|指示|说明|规则|提示)",
)
"""Instructions or character are to be left."""
