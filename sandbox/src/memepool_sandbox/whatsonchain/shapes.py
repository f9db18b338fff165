"""The JSON shapes of blocks and transactions, from the node's own objects."""

from decimal import Decimal
from typing import Any

from memepool_chain.address import encode_p2pkh, p2pkh_script
from memepool_chain.header import target_of
from memepool_chain.network import Network
from memepool_chain.tx import Tx, TxIn, TxOut
from memepool_sandbox.chain.branches import Branches, Entry
from memepool_sandbox.chain.node import Node
from memepool_sandbox.chain.scripts import asm
from memepool_sandbox.chain.view import Known

_DIFFICULTY_ONE_BITS = 0x1D00FFFF
_P2PKH_PREFIX_BYTES = 3
_PUBKEY_HASH_BYTES = 20
_BLOCK_TXS_SHOWN = 1_000
_BLOCK_TXS_FIRST = 100
_PAGE_TXS = 50_000
_DATA_PREFIX = b"\x00\x6a"


def difficulty(bits: int) -> float:
    """How much harder than the easiest block of the main network."""
    return target_of(_DIFFICULTY_ONE_BITS) / target_of(bits)


def work_hex(chainwork: int) -> str:
    """Accumulated work as 64 hexadecimal digits."""
    return f"{chainwork:064x}"


def as_coins(sats: int) -> float:  # lint: the wire format has a float of whole coins here
    """Satoshis as the float of BSV that this API shows."""
    return float(Decimal(sats).scaleb(-8))


def header_json(branches: Branches, entry: Entry) -> dict[str, Any]:
    """A block's header and its place; a block off the chain has -1 confirmations."""
    header, tip = entry.block.header, branches.tip
    active = branches.is_active(entry)
    has_next = active and entry.height < tip.height
    return {
        "hash": entry.block.hash,
        "confirmations": tip.height - entry.height + 1 if active else -1,
        "size": entry.block.size_bytes,
        "height": entry.height,
        "version": header.version,
        "versionHex": f"{header.version & 0xFFFFFFFF:08x}",
        "merkleroot": header.merkle_root,
        "time": header.time,
        "mediantime": branches.median_time_s(entry),
        "nonce": header.nonce,
        "bits": f"{header.bits:08x}",
        "difficulty": difficulty(header.bits),
        "chainwork": work_hex(entry.chainwork),
        "previousblockhash": header.prev_hash if entry.height > 0 else "",
        "nextblockhash": branches.at(entry.height + 1).block.hash if has_next else "",
        "nTx": 0,
        "num_tx": len(entry.block.txs),
    }


def block_json(node: Node, entry: Entry) -> dict[str, Any]:
    """A block: its header, its transactions' ids (the first hundred of many), its coinbase."""
    txids = entry.block.txids
    paged = len(txids) > _BLOCK_TXS_SHOWN
    pages = -(-len(txids) // _PAGE_TXS)
    uris = [f"/block/hash/{entry.block.hash}/page/{n}" for n in range(1, pages + 1)]
    created = sum(out.satoshis for out in entry.block.txs[0].outputs)
    active = node.branches.is_active(entry)
    fees = sum(node.view.fee_sats(tx) for tx in entry.block.txs[1:]) if active else 0
    return {
        **header_json(node.branches, entry),
        "txcount": len(txids),
        "tx": txids[:_BLOCK_TXS_FIRST] if paged else txids,
        "coinbaseTx": tx_json(node, Known(entry.block.txs[0], 0, entry.height)),
        "totalFees": as_coins(fees),
        "miner": f"sandbox, {as_coins(created)} BSV",
        "pages": {"uri": uris, "size": _PAGE_TXS} if paged else None,
    }


def page_txids(entry: Entry, page: int) -> list[str]:
    """The ids on page `page`, counted from 1; empty beyond the last."""
    return entry.block.txids[(page - 1) * _PAGE_TXS : page * _PAGE_TXS]


def place_json(node: Node, known: Known) -> dict[str, Any]:
    """Where a transaction is confirmed; empty while it is not."""
    if known.height is None:
        return {}
    entry = node.branches.at(known.height)
    return {
        "blockhash": entry.block.hash,
        "blockheight": known.height,
        "blocktime": entry.block.header.time,
        "confirmations": node.branches.tip.height - known.height + 1,
    }


def tx_json(node: Node, known: Known, *, bulk: bool = False) -> dict[str, Any]:
    """A transaction in full.

    In the bulk call the leading 00 of an OP_FALSE OP_RETURN script is missing from its hex, as in
    the original: whoever needs the bytes asks for the transaction's own hex.
    """
    tx = known.tx
    place = place_json(node, known)
    time = {"time": place["blocktime"]} if place else {}
    return {
        "hex": "",
        "txid": tx.txid,
        "hash": tx.txid,
        "version": tx.version,
        "size": len(tx.serialize()),
        "locktime": tx.locktime,
        "vin": [_input_json(tx, source) for source in tx.inputs],
        "vout": [_output_json(node.network, n, out, bulk) for n, out in enumerate(tx.outputs)],
        **place,
        **time,
    }


def _input_json(tx: Tx, source: TxIn) -> dict[str, Any]:
    if tx.is_coinbase:
        return {
            "coinbase": source.script.hex(),
            "txid": "",
            "vout": 0,
            "scriptSig": {"asm": "", "hex": ""},
            "sequence": source.sequence,
        }
    return {
        "coinbase": "",
        "txid": source.prev_txid,
        "vout": source.prev_vout,
        "scriptSig": {"asm": asm(source.script), "hex": source.script.hex()},
        "sequence": source.sequence,
    }


def _output_json(network: Network, n: int, out: TxOut, bulk: bool) -> dict[str, Any]:
    is_data = out.script.startswith(_DATA_PREFIX)
    shown = out.script[1:] if bulk and is_data else out.script
    script: dict[str, Any] = {"asm": asm(out.script), "hex": shown.hex()}
    address = _address(out.script, network)
    if address is not None:
        script |= {"reqSigs": 1, "type": "pubkeyhash", "addresses": [address]}
    else:
        script["type"] = "nulldata" if is_data else "nonstandard"
    script |= {"opReturn": None, "isTruncated": False}
    return {"value": as_coins(out.satoshis), "n": n, "scriptPubKey": script}


def _address(script: bytes, network: Network) -> str | None:
    pubkey_hash = script[_P2PKH_PREFIX_BYTES : _P2PKH_PREFIX_BYTES + _PUBKEY_HASH_BYTES]
    if len(pubkey_hash) != _PUBKEY_HASH_BYTES or script != p2pkh_script(pubkey_hash):
        return None
    return encode_p2pkh(pubkey_hash, network)
