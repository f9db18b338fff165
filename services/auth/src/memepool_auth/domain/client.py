"""What is kept of a client: a network prefix and the name of a device, no more."""

import hashlib
import ipaddress
from dataclasses import dataclass

IPV4_BITS = 32
IPV4_PREFIX_BITS = 24
IPV6_PREFIX_BITS = 64
ADDRESS_KEY_SIZE = 16
DEVICE_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request came from, as far as it is kept.

    Attributes:
        address_prefix: the network, for people to read.
        address_key: what limits count as one address.
        device: what the client calls itself.
    """

    address_prefix: str | None
    address_key: str
    device: str | None


def device_name(user_agent: str | None) -> str | None:
    """What a client calls itself, cut to a size and to what can be printed."""
    if user_agent is None:
        return None
    return "".join(filter(str.isprintable, user_agent))[:DEVICE_LENGTH_MAX] or None


def address_prefix(address: str | None) -> str | None:
    """The client's network, IPv4 /24 or IPv6 /64; None for what is no address."""
    return _network(address, IPV4_PREFIX_BITS)


def address_key(address: str | None, secret: bytes) -> str:
    """What limits count as one address: all of an IPv4 address, or the /64 of an IPv6 one.

    A keyed hash, because addresses are not kept: without the secret nobody finds one by trying.
    What is no address counts as one.
    """
    whole = _network(address, IPV4_BITS) or ""
    return hashlib.blake2b(whole.encode(), key=secret, digest_size=ADDRESS_KEY_SIZE).hexdigest()


def _network(address: str | None, ipv4_bits: int) -> str | None:
    if address is None:
        return None
    try:
        parsed = ipaddress.ip_address(address.strip().partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    known = mapped or parsed
    bits = ipv4_bits if known.version == 4 else IPV6_PREFIX_BITS
    return str(ipaddress.ip_network((known, bits), strict=False))


def forwarded_address(peer: str | None, forwarded_for: str, trusted_hops: int) -> str | None:
    """The address that the outermost proxy of ours saw: everything left of it is hearsay.

    Args:
        peer: who connected to us.
        forwarded_for: the X-Forwarded-For header, each proxy having appended its own peer.
        trusted_hops: how many proxies of ours stand in front.
    """
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    if trusted_hops == 0 or not hops:
        return peer
    return hops[-min(trusted_hops, len(hops))]
