"""Short-lived addresses that hand an image over to the image AI, signed with a key of their own.

The signature is HMAC-SHA256 over meme, version and expiry. The address is a secret: never logged.
"""

import hashlib
import hmac
from datetime import datetime, timedelta
from uuid import UUID

from memepool_content.settings import AituboSettings


class SourceAddresses:
    """Makes and checks such addresses."""

    def __init__(self, settings: AituboSettings) -> None:
        self._base_url = settings.source_base_url.rstrip("/")
        self._key = settings.source_key.get_secret_value().encode()
        self._life = timedelta(seconds=settings.source_ttl_s)

    def make(self, content_id: UUID, version: int, now: datetime) -> str:
        """An address of this version's image, good for a few minutes from now."""
        expires = int((now + self._life).timestamp())
        signature = self._signature(content_id, version, expires)
        query = f"v={version}&expires={expires}&signature={signature}"
        return f"{self._base_url}/content/{content_id}/source?{query}"

    def valid(
        self, content_id: UUID, version: int, expires: int, signature: str, now: datetime
    ) -> bool:
        """Whether we made that address, and not too long ago."""
        fresh = now.timestamp() < expires <= (now + self._life).timestamp() + 1
        expected = self._signature(content_id, version, expires)
        return fresh and hmac.compare_digest(expected.encode(), signature.encode())

    def _signature(self, content_id: UUID, version: int, expires: int) -> str:
        message = f"memepool-source\n{content_id}\n{version}\n{expires}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
