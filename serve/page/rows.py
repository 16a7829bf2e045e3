"""The ids of rows, as addresses have them: `{id:row}` in a path, and `row_id` for a parameter."""

from __future__ import annotations

import re

from starlette.convertors import IntegerConvertor, register_url_convertor


class _Row(IntegerConvertor):
    """As many digits as Python and every database can read."""

    regex = "[0-9]{1,18}"


register_url_convertor("row", _Row())


def row_id(text: str) -> int | None:
    """The id that was asked for, if it is one."""
    return int(text) if re.fullmatch(_Row.regex, text) else None
