"""Who may see the page and push its buttons. Nothing of it is stored: all follows from the key."""

from __future__ import annotations

import hashlib
import hmac

SESSION_SECONDS = 12 * 3600.0


class Door:
    """Opened by the admin key; what it hands out is worth nothing under another one."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(key.encode()).digest()

    def opens(self, given: str) -> bool:
        """Whether this is the key."""
        return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), self._key)

    def session(self, now: float) -> str:
        """What the browser keeps: until when it is let in (Unix seconds), and that we say so."""
        until = str(int(now + SESSION_SECONDS))
        return f"{until}.{self._sign('session', until)}"

    def admits(self, session: str, now: float) -> bool:
        """Whether the browser brought a session of ours that still holds."""
        until, _, signature = session.partition(".")
        ours = hmac.compare_digest(signature.encode(), self._sign("session", until).encode())
        return ours and until.isdigit() and now < int(until)

    def token(self, session: str) -> str:
        """What each form of this session brings back: other sites cannot know it."""
        return self._sign("form", session)

    def takes(self, session: str, token: str) -> bool:
        """Whether a form is one of ours."""
        return hmac.compare_digest(token.encode(), self.token(session).encode())

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what} {text}".encode(), "sha256").hexdigest()
