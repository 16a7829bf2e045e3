"""The child process in which answers are held against a JSON schema, which a client may have
written so that it takes for ever: both as JSON in, a list of booleans out."""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from jsonschema_rs import validator_for

MEMORY_BYTES = 1 << 30


def fits(schema: Any, answers: list[str]) -> list[bool]:
    def refuse(uri: str) -> Any:
        raise ValueError(f"{uri} is elsewhere")

    validator = validator_for(schema, retriever=refuse)
    return [_fits(validator, answer) for answer in answers]


def _fits(validator: Any, answer: str) -> bool:
    try:
        return bool(validator.is_valid(json.loads(answer)))
    except (ValueError, RecursionError):
        return False


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))  # which ends it, wherever it is
    given = json.load(sys.stdin)
    print(json.dumps(fits(given["schema"], given["answers"])))  # noqa: T201
