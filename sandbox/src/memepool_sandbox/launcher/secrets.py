"""Keys of one DATA folder: made once, readable by their owner only."""

import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from memepool_chain.bip32 import ExtendedPrivateKey
from memepool_chain.network import REGTEST

FILE = "secrets.json"


@dataclass(frozen=True)
class Secrets:
    """What production keeps in a secret store. All values are hexadecimal."""

    key_encryption_key: str
    deposit_seed: str
    aitubo_key: str
    player_seed: str

    @property
    def deposit_xpub(self) -> str:
        """The public branch that deposit addresses come from; payments gets no more than this."""
        return str(ExtendedPrivateKey.from_seed(bytes.fromhex(self.deposit_seed), REGTEST).neuter())

    @property
    def source_key(self) -> str:
        """Signs the addresses that hand images over to AITubo; derived, for that purpose only."""
        master = bytes.fromhex(self.key_encryption_key)
        return hmac.new(master, b"content source addresses", "sha256").hexdigest()


def load_or_make(data: Path) -> Secrets:
    """The folder's keys. A half-written file is impossible: it is renamed into place."""
    path = data / FILE
    if path.exists():
        return Secrets(**json.loads(path.read_text("utf-8")))
    made = Secrets(
        key_encryption_key=secrets.token_hex(32),
        deposit_seed=secrets.token_hex(64),
        aitubo_key=secrets.token_hex(16),
        player_seed=secrets.token_hex(16),
    )
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(made), file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    return made
