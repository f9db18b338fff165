"""BRC-100: what `createSignature` of a wallet returns, made for anyone to verify.

The wallet signs SHA-256 of the data with a child of its identity key (BRC-42). The child depends on
protocol and key id, so a signature for one purpose is worth nothing for another.
"""

from dataclasses import dataclass

from memepool_chain.address import decode_p2pkh
from memepool_chain.brc42 import ANYONE, derive_private_key, derive_public_key, invoice_number
from memepool_chain.hashing import sha256
from memepool_chain.keys import PrivateKey, compressed, verify_der
from memepool_chain.message import SignatureError, Signer, signer_of
from memepool_chain.network import Network

COUNTERPARTY = "anyone"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a wallet is asked to sign for: its `protocolID` and `keyID`."""

    security_level: int
    protocol: str
    key_id: str

    @property
    def invoice(self) -> str:
        """The text that the key is derived from."""
        return invoice_number(self.security_level, self.protocol, self.key_id)


def sign_brc100(message: str, purpose: Purpose, key: PrivateKey) -> bytes:
    """Sign as wallets do: DER, low S."""
    child = derive_private_key(key, ANYONE.public_key, purpose.invoice)
    return child.sign_digest(sha256(message.encode("utf-8")))


def verify_brc100(
    message: str,
    signature: bytes,
    purpose: Purpose,
    identity_key: bytes,
    address: str,
    network: Network,
) -> Signer:
    """Return the signer if the identity key is behind this address and signed this for that.

    Args:
        message: the text; its UTF-8 bytes are the data of `createSignature`.
        signature: DER.
        purpose: protocol and key id, and so which child of the identity key must have signed.
        identity_key: 33 or 65 bytes; a point of the curve.
        address: P2PKH of the identity key, compressed or not.
        network: of the address.

    Raises:
        SignatureError: `malformed_signature`, `signature_mismatch`.
        AddressError: not an address of this network.
        ValueError: the identity key is none.
    """
    signer = signer_of_identity(identity_key, address, network)
    check_child(message, signature, signer.public_key, purpose.invoice)
    return signer


def signer_of_identity(identity_key: bytes, address: str, network: Network) -> Signer:
    """Return whom an identity key stands for, if the address is its own."""
    return signer_of(compressed(identity_key), decode_p2pkh(address, network), network)


def check_child(message: str, signature: bytes, identity_key: bytes, invoice: str) -> None:
    """Raise SignatureError unless the child of this key for anyone and this text signed."""
    child = derive_public_key(identity_key, ANYONE, invoice)
    try:
        good = verify_der(sha256(message.encode("utf-8")), signature, child)
    except ValueError:
        raise SignatureError("malformed_signature", "the signature is not DER") from None
    if not good:
        raise SignatureError(
            "signature_mismatch", "the signature is not by this key over this message"
        )
