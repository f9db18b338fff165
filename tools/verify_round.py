"""Recompute closed rounds from their published bundles, with nothing but Python.

    python tools/verify_round.py FILE...      (a file may be - for standard input)

A file is a bundle, GET /rounds/{id}/bundle, or an inclusion proof, GET /rounds/{id}/proofs/{leaf}.
From a bundle's votes, policy and carries this recomputes ranking, rewards and both roots, and
checks the headers' proof of work and links; it shares no code with the service. Compare the printed
roots and SHA-256 with what the settlement transaction carries on the chain, and the closing block
with it. With the bundle of a round that left a carry, or that a proof belongs to, it checks that
they agree.

Exit code 0: everything holds. 1: something does not, and it says what. 2: cannot be read.
"""

import hashlib
import json
import sys
from collections import defaultdict
from math import isqrt
from pathlib import Path
from typing import Any
from uuid import UUID

Document = dict[str, Any]
FORMAT = "memepool-round-1"
EASIEST_BITS = {"main": 0x1D00FFFF, "test": 0x1D00FFFF, "regtest": 0x207FFFFF}
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class WrongError(Exception):
    """What the file says does not follow, or contradicts itself."""


def demand(condition: bool, message: str) -> None:
    """Raise WrongError unless the condition holds."""
    if not condition:
        raise WrongError(message)


def digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def text(value: str) -> bytes:
    """Text is hashed as UTF-8 after its length, numbers as 8 bytes big-endian."""
    encoded = value.encode()
    return number(len(encoded)) + encoded


def vote_leaf(round_id: str, vote: Document) -> bytes:
    ids = (round_id, vote["voteId"], vote["contentId"], vote["voterId"])
    return digest(b"\0", *map(text, ids), number(vote["amount"]), number(vote["sequence"]))


def reward_leaf(round_id: str, index: int, recipient: str, reason: str, amount: int) -> bytes:
    """The leaf of a line of the reward table; fee and carry-out are the first two."""
    head = (b"\0", text(round_id), number(index))
    return digest(*head, text(recipient), text(reason), number(amount))


def vote_node(left: tuple[int, bytes], right: tuple[int, bytes]) -> tuple[int, bytes]:
    """An inner node over votes; the sums are not hashed."""
    return left[0] + right[0], digest(b"\1", left[1], right[1])


def sum_node(left: tuple[int, bytes], right: tuple[int, bytes]) -> tuple[int, bytes]:
    hashed = digest(b"\1", number(left[0]), left[1], number(right[0]), right[1])
    return left[0] + right[0], hashed


def root_of(leaves: list[tuple[int, bytes]], node: Any) -> str:
    """The root over (amount, leaf); an odd node is promoted."""
    level = leaves or [(0, bytes(32))]
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [node(*pair) for pair in zip(level[::2], level[1::2], strict=False)] + odd
    return digest(b"\2", number(len(leaves)), number(level[0][0]), level[0][1]).hex()


def check_headers(inputs: Document) -> None:
    """Each header is proven by work and follows the one before; the last closes the round."""
    opening, closing = inputs["openingBlock"], inputs["closingBlock"]
    easiest = target_of(EASIEST_BITS[inputs["network"]])
    hashed = block_hash(opening["header"], easiest)
    demand(hashed == opening["hash"], "the opening block's header has another hash")
    demand(str(opening["height"]) == inputs["roundId"], "the opening block is another round's")
    before = None
    for height, header in enumerate(inputs["headers"], start=opening["height"]):
        previous = bytes.fromhex(header)[4:36][::-1].hex()
        demand(before in (None, previous), f"the header at {height} does not follow the last one")
        before = block_hash(header, easiest)
    demand(before == closing["hash"], "the headers do not lead to the closing block")
    last_height = opening["height"] + len(inputs["headers"]) - 1
    demand(last_height == closing["height"], "the closing block has another height")


def block_hash(header: str, easiest: int) -> str:
    """The hash of 80 bytes; WrongError unless it meets the target that they name."""
    raw = bytes.fromhex(header)
    demand(len(raw) == 80, "a header is not of 80 bytes")
    hashed = hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1]
    target = target_of(int.from_bytes(raw[72:76], "little"))
    demand(0 < target <= easiest, "a header asks for less work than the network does")
    demand(int.from_bytes(hashed, "big") <= target, f"no proof of work: {hashed.hex()}")
    return hashed.hex()


def target_of(bits: int) -> int:
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    return mantissa << 8 * (exponent - 3) if exponent > 3 else mantissa >> 8 * (3 - exponent)


def check_votes(inputs: Document) -> None:
    """Votes are in order, each once, for somebody else's meme of the round, and large enough."""
    creators = {each["contentId"]: each["creatorId"] for each in inputs["submissions"]}
    demand(len(creators) == len(inputs["submissions"]), "a meme is entered twice")
    demand(len(set(creators.values())) == len(creators), "a creator has two memes in the round")
    seen: set[str] = set()
    last = 0
    for vote in inputs["votes"]:
        name = f"vote {vote['voteId']}"
        demand(vote["sequence"] > last, f"{name} is out of order")
        last = vote["sequence"]
        demand(vote["voteId"] not in seen, f"{name} is counted twice")
        seen.add(vote["voteId"])
        demand(vote["contentId"] in creators, f"{name} is for a meme that is not in the round")
        demand(creators[vote["contentId"]] != vote["voterId"], f"{name} is for the voter's own")
        demand(vote["amount"] >= inputs["policy"]["minStake"], f"{name} is below the least stake")
    carries = {each["roundId"]: each["amount"] for each in inputs["carrySources"]}
    demand(len(carries) == len(inputs["carrySources"]), "a carry is taken twice")
    demand(all(amount > 0 for amount in carries.values()), "a carry brings nothing")
    demand(bool(seen) or not carries, "a round without votes took a carry")


def rank(inputs: Document) -> tuple[list[Document], list[str], dict[str, bytes]]:
    """Ranking, backers of the winner in order of their first vote, and the tie-breaks."""
    totals: defaultdict[str, dict[str, int]] = defaultdict(dict)  # in order of first votes
    for vote in inputs["votes"]:
        backings = totals[vote["contentId"]]
        backings[vote["voterId"]] = backings.get(vote["voterId"], 0) + vote["amount"]

    def score(meme: str) -> int:
        sats = totals[meme].values()
        root = inputs["policy"]["curve"] == "sqrt"
        return sum(isqrt(each * 10**6) for each in sats) if root else sum(sats)

    closing = bytes.fromhex(inputs["closingBlock"]["hash"])
    ties = {meme: digest(closing, UUID(meme).bytes) for meme in totals}
    order = sorted(totals, key=lambda meme: (-score(meme), -len(totals[meme]), ties[meme]))
    creators = {each["contentId"]: each["creatorId"] for each in inputs["submissions"]}
    ranking = [
        {
            "backers": len(totals[meme]),
            "contentId": meme,
            "creatorId": creators[meme],
            "rank": place,
            "stakes": sum(totals[meme].values()),
        }
        for place, meme in enumerate(order, start=1)
    ]
    return ranking, list(totals[order[0]]) if order else [], ties


def recompute(inputs: Document) -> Document:
    """The results that follow from the inputs."""
    policy, round_id = inputs["policy"], inputs["roundId"]
    ranking, backers, ties = rank(inputs)
    stakes = sum(meme["stakes"] for meme in ranking)
    pot = stakes + sum(each["amount"] for each in inputs["carrySources"])
    bucket = pot * policy["creatorsBp"] // 10_000
    shares = {meme["contentId"]: bucket * meme["stakes"] // stakes for meme in ranking}
    remainders = [(-(bucket * m["stakes"] % stakes), ties[m["contentId"]], m) for m in ranking]
    for _, _, meme in sorted(remainders)[: bucket - sum(shares.values()) if ranking else 0]:
        shares[meme["contentId"]] += 1
    lines = [(meme["creatorId"], "creator", shares[meme["contentId"]]) for meme in ranking]
    for meme, points in zip(ranking, policy["placesBp"], strict=False):
        lines.append((meme["creatorId"], f"place:{meme['rank']}", pot * points // 10_000))
    for tier in policy["tiers"]:
        takers = backers[tier["first"] - 1 : tier["last"]]
        share, spare = divmod(pot * tier["bp"] // 10_000, len(takers) or 1)
        reason = f"backers:{tier['first']}-{tier['last']}"
        lines += [(who, reason, share + (place < spare)) for place, who in enumerate(takers)]
    lines = [line for line in lines if line[2]]
    fee = pot * policy["feeBp"] // 10_000
    carry_out = pot - fee - sum(amount for _, _, amount in lines)
    demand(carry_out >= 0, "the policy gives away more than the pot")
    table = [("", "fee", fee), ("", "carryOut", carry_out), *lines]
    reward_leaves = [(line[2], reward_leaf(round_id, i, *line)) for i, line in enumerate(table)]
    vote_leaves = [(vote["amount"], vote_leaf(round_id, vote)) for vote in inputs["votes"]]
    rewards_root, votes_root = root_of(reward_leaves, sum_node), root_of(vote_leaves, vote_node)
    return {
        "carryOut": carry_out,
        "fee": fee,
        "pot": pot,
        "ranking": ranking,
        "rewards": [{"amount": a, "reason": why, "recipient": who} for who, why, a in lines],
        "roots": {"rewards": rewards_root, "votes": votes_root},
    }


def check_bundle(raw: bytes, bundle: Document) -> None:
    canonical = json.dumps(bundle, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    demand(canonical.encode() == raw, "this is not canonical JSON")
    inputs, policy = bundle["inputs"], bundle["inputs"]["policy"]
    shares = [policy["feeBp"], policy["creatorsBp"], *policy["placesBp"]]
    shares += [tier["bp"] for tier in policy["tiers"]]
    demand(sum(shares) == 10_000 and min(shares) >= 0, "the policy's shares are not 10,000")
    check_headers(inputs)
    check_votes(inputs)
    expected = recompute(inputs)
    for name in expected.keys() | bundle["results"].keys():
        same = bundle["results"].get(name) == expected.get(name)
        demand(same, f"{name} is not what follows from the votes")


def check_proof(proof: Document, bundles: dict[str, Document]) -> None:
    """That the leaf and its path lead to the root, and that the root is the bundle's, if given."""
    round_id, index = proof["roundId"], proof["index"]
    if proof["tree"] == "votes":
        node, line = vote_node, proof["vote"]
        place = (line["amount"], vote_leaf(round_id, line))
    else:
        node, line = sum_node, proof["reward"]
        fields = (line["recipient"], line["reason"], line["amount"])
        place = (line["amount"], reward_leaf(round_id, index, *fields))
    at, width = index, proof["count"]
    for step in proof["path"]:
        while width > 1 and at == width - 1 and not at % 2:  # promoted
            at, width = at // 2, (width + 1) // 2
        side = "left" if at % 2 else "right"
        demand(step["side"] == side, "the path is not that of the leaf's place")
        at, width = at // 2, (width + 1) // 2
        sibling = (step["sum"] or 0, bytes.fromhex(step["hash"]))
        place = node(sibling, place) if side == "left" else node(place, sibling)
    root = digest(b"\2", number(proof["count"]), number(proof["sum"]), place[1]).hex()
    demand(root == proof["root"], "the path leads to another root")
    demand(node is vote_node or place[0] == proof["sum"], "the sums do not add up")
    if round_id in bundles:
        published = bundles[round_id]["results"]["roots"][proof["tree"]]
        demand(root == published, "the root is not the one in the round's bundle")


def verify(files: dict[str, bytes]) -> bool:
    """Check all files, say what holds, return whether all of it does."""
    documents = {name: json.loads(raw) for name, raw in files.items()}
    known = [d for d in documents.values() if isinstance(d, dict) and d.get("format") == FORMAT]
    bundles = {each["inputs"]["roundId"]: each for each in known}
    good = True
    for name, document in documents.items():
        try:
            if document.get("format") == FORMAT:
                check_bundle(files[name], document)
                tell_bundle(name, files[name], document, bundles)
            else:
                check_proof(document, bundles)
                leaf = f"leaf {document['index']} of round {document['roundId']}"
                print(f"{name}: {leaf} holds: the {document['tree']} root {document['root']}")
        except (WrongError, *MALFORMED) as error:
            good = False
            reason = error if isinstance(error, WrongError) else f"malformed: {error!r}"
            print(f"{name}: WRONG: {reason}")
    return good


def tell_bundle(name: str, raw: bytes, bundle: Document, bundles: dict[str, Document]) -> None:
    """Print a round that holds; WrongError if another bundle says that it left another carry."""
    inputs, results = bundle["inputs"], bundle["results"]
    for source in inputs["carrySources"]:
        round_id, amount = source["roundId"], source["amount"]
        left = bundles.get(round_id, {}).get("results", {"carryOut": amount})
        demand(left["carryOut"] == amount, f"round {round_id} left another carry")
    closing = inputs["closingBlock"]
    print(f"{name}: round {inputs['roundId']} holds: {len(inputs['votes'])} votes")
    print(f"  closed by block {closing['height']} {closing['hash']}")
    print(f"  pot {results['pot']}, of which fee {results['fee']}, carry-out {results['carryOut']}")
    print(f"  votes root   {results['roots']['votes']}")
    print(f"  rewards root {results['roots']['rewards']}")
    print(f"  bundle       {hashlib.sha256(raw).hexdigest()}")


def main(names: list[str]) -> int:
    if not names:
        print(__doc__)
        return 2
    try:
        files = {n: sys.stdin.buffer.read() if n == "-" else Path(n).read_bytes() for n in names}
        return 0 if verify(files) else 1
    except (OSError, RecursionError, *MALFORMED) as error:
        print(f"cannot be read: {error!r}")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
