"""What comes in as a form and goes out as a page."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ttrl.times import utc

MAX_FORM = 64 * 1024


def nonce(request: Request) -> str:
    """What styles and scripts of this answer carry; no others are run."""
    if not hasattr(request.state, "nonce"):
        request.state.nonce = secrets.token_urlsafe(16)
    found: str = request.state.nonce
    return found


def page(request: Request, text: str, status: int) -> Response:
    """HTML that browsers let do nothing but what we wrote."""
    ours = nonce(request)
    return HTMLResponse(
        text,
        status,
        {
            "content-security-policy": (
                f"default-src 'none'; style-src 'nonce-{ours}'; script-src 'nonce-{ours}'; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "cache-control": "no-store",
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
        },
    )


async def form(request: Request) -> dict[str, str]:
    """A form's fields; nothing where there is none, or more than a form of ours can be."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
    except ValueError:  # more of them
        return {}
    return {name: values[-1] for name, values in fields.items()}


def environment() -> Environment:
    """Where pages are made, with the filters that they use."""
    found = Environment(
        loader=PackageLoader("serve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["time"] = lambda at: "-" if at is None else utc(at)
    found.filters["percent"] = lambda share: "-" if share is None else f"{share:.0%}"
    return found
