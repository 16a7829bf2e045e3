"""The demo's questions in other words, as a model that could rephrase them would say them."""

from __future__ import annotations

import re

from ttrl.demo import PHRASINGS


def phrasings(text: str) -> list[str]:
    """Return a question in the other phrasings that the demo's model knows."""
    for operation, templates in PHRASINGS.items():
        for template in templates:
            pattern = re.escape(template).replace(r"\{a\}", r"(?P<a>\d+)")
            if numbers := re.fullmatch(pattern.replace(r"\{b\}", r"(?P<b>\d+)"), text):
                return [other.format(**numbers.groupdict()) for other in PHRASINGS[operation]]
    return []
