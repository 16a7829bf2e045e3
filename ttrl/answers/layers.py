"""Where in a sample its answer was found, or why none was: one word for each sample."""

from __future__ import annotations

from enum import StrEnum


class Layer(StrEnum):
    """The part of a text by which it was read, or of `UNREAD` why it was not."""

    JSON = "json"
    YAML = "yaml"
    TAG = "tag"
    BOX = "box"
    MARK = "mark"
    """Behind "####"."""
    PHRASE = "phrase"
    """Behind "the answer is"."""
    BOLD = "bold"
    WHOLE_TEXT = "whole_text"
    LETTER = "letter"
    YES_NO = "yes_no"
    SENTENCE = "sentence"
    """In the sentences: the value of the last one, or a name."""
    MEANING = "meaning"
    VERIFIED = "verified"
    """A check says that it is right (see ttrl.verifiers), whatever can be read."""
    REFUTED = "refuted"
    """A check says that it is wrong."""
    COMES_TO = "comes_to"
    """By what it comes to, as a check found."""
    CUT_OFF = "cut_off"
    THOUGHTS_NOT_ENDED = "thoughts_not_ended"
    TOO_LONG = "too_long"
    EMPTY = "empty"
    DECLINED = "declined"
    """It does not know, or will not say."""
    NOTHING_FOUND = "nothing_found"
    FAILED = "failed"
    """Reading it took too long, or ended the process that reads."""


UNREAD = tuple(Layer)[tuple(Layer).index(Layer.CUT_OFF) :]
"""Why a sample has no answer."""
EXAMPLES, END = 3, 160
"""Samples that are shown of each kind, and characters of their ends."""
