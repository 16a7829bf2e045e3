"""Which questions are held out: drawn by a key of the store's own, so that no user can choose."""

from __future__ import annotations

import hmac
import secrets

import sqlalchemy as sa

from ttrl.store.schema import facts


def secret(connection: sa.Connection) -> bytes:
    """This store's own key, made at first use."""
    found = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "holdout_key"))
    if found is None:
        found = secrets.token_hex(32)
        connection.execute(facts.insert().values(name="holdout_key", value=found))
    return bytes.fromhex(found)


def drawn(cluster: str, key: bytes, share: float) -> bool:
    """Whether a cluster is among the share of them that is held out."""
    keyed = hmac.digest(key, cluster.encode(), "sha256")
    return int.from_bytes(keyed[:8]) < share * 2**64
