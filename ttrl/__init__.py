"""The method of test-time self-improvement, and the nouns everybody shares."""

from abc import ABC, abstractmethod
from typing import Self


class ReportedError(Exception):
    """An error whose message says all that an operator needs. It quotes no user and no model."""


class Closing(ABC):
    """What a `with` statement closes at its end."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
