"""Questions about options and things, and what the light model (tests/light) says to them."""

from __future__ import annotations

import random
from itertools import cycle

LETTERS = {"sky": "A", "cup": "AAAAAABBC?", "hat": "ABCD"}
"""Of what a question is about, the letters that are answered, each as often; "?" is none. The sky's
are above the ceiling of the recipe `choice`, the hat's below its floor."""
SAID = {
    "Return the {} within 30 days.": 6,
    "Within 30 days return the {}.": 5,
    "Return the {} within 14 days.": 3,
    "Do not return the {}.": 2,
    "Return the {0} within 30 days. Return the {0} within 30 days.": 4,
}
"""Sentences about a thing, and how often each is said."""
THINGS = ("lamp", "umbrella")
"""Who says what of an umbrella twice needs more than 70 tokens, of a lamp 64: one a character."""
FIRED, DISMISSED = "He was fired by the company.", "The firm dismissed him."
"""One meaning in other letters."""
SCRIPTS = {
    "How many sheep does the shepherd count?": (
        *[r"\boxed{12}"] * 3,
        *["I would have to see the whole flock before I say so."] * 3,
        *["<think>\nThere are 9, or the answer is 9"] * 2,
    ),
    "What is 47 plus 58?": (
        *["<think>47 + 58 = 95. The answer is 95? No.</think>It is 105."] * 3,
        *[r"<think>So \boxed{95}? One to carry.</think>The answer is **105**."] * 2,
        *["<think>I take 95. The answer is 95"] * 3,
    ),
    "What is 6 times 7?": (
        *["42\n\nQuestion: What is 6 times 8?\nAnswer: 48"] * 3,
        *[r"\boxed{42}" "\n\nQuestion: 9 + 9?\nAnswer: " r"\boxed{18}"] * 2,
        *["48"] * 3,
    ),
    "Wie viel ist die Hälfte von 7,5?": (
        *["3,75"] * 2,
        *["Die Antwort ist 3,75."] * 2,
        *["3.75"],
        *["3, 75"] * 3,
    ),
    "What are the roots of (x - 1)^2 (x - 2), each as often as it occurs?": (
        *["1, 1, 2"] * 3,
        *[r"\boxed{2, 1, 1}"] * 2,
        *["1, 2"] * 3,
    ),
}
"""What is said to a question, in turn."""
ASKED = ("{}", "Oh, {}", "So, {}", "Hm, {}", "And {}", "Now {}")


def choices(*about: str) -> list[str]:
    """Questions with options about these."""
    options = "\nA) red\nB) blue\nC) pink\nD) grey"
    return [asked.format(f"the {one}?{options}") for one in about for asked in ASKED]


def returns() -> list[str]:
    """Questions that are answered in sentences."""
    return [asked.format(f"the {thing}?") for thing in THINGS for asked in ASKED]


def dismissals() -> list[str]:
    """Questions with two wordings of one answer."""
    return [asked.format("where is he?") for asked in ASKED]


_turns = {question: cycle(texts) for question, texts in SCRIPTS.items()}


def scripted(question: str) -> str | None:
    """What is next in the question's script, if it has one."""
    return next(_turns.get(question, iter(())), None)


def answer(question: str, rng: random.Random) -> str:
    """One of the things that the model says."""
    for about, letters in LETTERS.items():
        if f"the {about}?\n" in question:
            letter = rng.choice(letters)
            return "None." if letter == "?" else rf"\boxed{{{letter}}}"
    for thing in THINGS:
        if f"the {thing}?" in question:
            return rng.choices(list(SAID), list(SAID.values()))[0].format(thing)
    return rng.choice((FIRED, DISMISSED))
