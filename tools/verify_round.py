"""Recompute closed rounds from their published bundles, with nothing but Python.

    python tools/verify_round.py FILE...      (a file may be - for standard input)

A file is a bundle, GET /rounds/{id}/bundle, or an inclusion proof, GET /rounds/{id}/proofs/{leaf}.
From a bundle's votes, policy and carries this recomputes ranking, rewards and both roots, and
checks the headers' proof of work and links; it shares no code with the service. Compare roots and
SHA-256 with what the settlement transaction carries on the chain, and the closing block with it.
With the bundle of a round that left a carry, or that a proof belongs to, both must agree.

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
CURVES = ("linear", "sqrt")
EASIEST = {"main": 0xFFFF << 208, "test": 0xFFFF << 208, "regtest": 0x7FFFFF << 232}
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
    demand(type(value) is int, f"{value!r} is not an integer")
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
    parts = (text(round_id), number(index), text(recipient), text(reason), number(amount))
    return digest(b"\0", *parts)


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


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_headers(inputs: Document) -> None:
    """Each header is proven by work and follows the one before; the last closes the round."""
    opening, closing = inputs["openingBlock"], inputs["closingBlock"]
    easiest = EASIEST[inputs["network"]]
    demand(block_hash(opening["header"], easiest) == opening["hash"], "the opening hash is wrong")
    demand(str(abs(opening["height"])) == inputs["roundId"], "it is another round's opening block")
    before = None
    for height, header in enumerate(inputs["headers"], start=opening["height"]):
        previous = bytes.fromhex(header)[4:36][::-1].hex()
        demand(before in (None, previous), f"the header at {height} does not follow the last one")
        before = block_hash(header, easiest)
    demand(before == closing["hash"], "the headers do not lead to the closing block")
    last_height = opening["height"] + len(inputs["headers"]) - 1
    demand(last_height == closing["height"] > opening["height"], "the closing height is wrong")


def block_hash(header: str, easiest: int) -> str:
    """The hash of 80 bytes; WrongError unless it meets the target that they name."""
    raw = bytes.fromhex(header)
    demand(len(raw) == 80 and raw.hex() == header, "a header is not 80 bytes in hex")
    hashed = hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1]
    exponent, mantissa = raw[75], int.from_bytes(raw[72:75], "little")
    target = mantissa << 8 * (exponent - 3) if exponent > 3 else mantissa >> 8 * (3 - exponent)
    demand(mantissa < 1 << 23 and 0 < target <= easiest, "a header asks for too little work")
    demand(int.from_bytes(hashed, "big") <= target, f"no proof of work: {hashed.hex()}")
    return hashed.hex()


def check_policy(policy: Document) -> None:
    """The policy is one that rounds may have: shares fill the pot, tiers follow each other."""
    places, tiers = policy["placesBp"], policy["tiers"]
    shares = [policy["feeBp"], policy["creatorsBp"], *places, *(tier["bp"] for tier in tiers)]
    ends = [0, *(tier["last"] for tier in tiers)]
    demand(all(type(n) is int for n in (*shares, *ends, policy["minStake"])), "policy: no integers")
    demand(sum(shares) == 10_000 and min(shares) >= 0, "the policy's shares are not 10,000")
    demand(policy["creatorsBp"] not in range(1, 3_334), "creators share less than a third")
    demand(places == sorted(places, reverse=True), "a later place gets more than an earlier one")
    for tier, end in zip(tiers, ends, strict=False):
        demand(tier["first"] == end + 1 <= tier["last"], "the tiers do not follow each other")
    demand(policy["minStake"] > 0 and policy["curve"] in CURVES, "no such stake or curve")


def check_votes(inputs: Document) -> None:
    """Votes are in order, each once, for somebody else's meme of the round, and large enough."""
    creators = {each["contentId"]: each["creatorId"] for each in inputs["submissions"]}
    once = len(set(creators.values())) == len(creators) == len(inputs["submissions"])
    demand(once, "a meme or its creator is in the round twice")
    sequences = [0, *(vote["sequence"] for vote in inputs["votes"])]
    demand(sequences == sorted(set(sequences)), "the votes are not in their order")
    votes = {vote["voteId"]: vote["voterId"] for vote in inputs["votes"]}
    demand(len(votes) == len(inputs["votes"]), "a vote is counted twice")
    ids = {*creators, *creators.values(), *votes, *votes.values()}
    demand(all(str(UUID(each)) == each for each in ids), "an id is not a UUID in its usual form")
    for vote in inputs["votes"]:
        name = f"vote {vote['voteId']}"
        demand(vote["contentId"] in creators, f"{name} is for a meme that is not in the round")
        demand(creators[vote["contentId"]] != vote["voterId"], f"{name} is for the voter's own")
        demand(vote["amount"] >= inputs["policy"]["minStake"], f"{name} is below the least stake")
    carries = {int(each["roundId"]): each["amount"] for each in inputs["carrySources"]}
    once = len(carries) == len(inputs["carrySources"]) and int(inputs["roundId"]) not in carries
    demand(once, "a carry is taken twice, or is the round's own")
    demand(all(number(each) > bytes(8) for each in carries.values()), "a carry brings nothing")
    demand(bool(votes) or not carries, "a round without votes took a carry")


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
    ranking = []
    for place, meme in enumerate(order, start=1):
        row = {"contentId": meme, "creatorId": creators[meme], "rank": place}
        ranking.append(row | {"backers": len(totals[meme]), "stakes": sum(totals[meme].values())})
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
    roots = {"rewards": root_of(reward_leaves, sum_node), "votes": root_of(vote_leaves, vote_node)}
    rewards = [{"amount": a, "reason": why, "recipient": who} for who, why, a in lines]
    sums = {"carryOut": carry_out, "fee": fee, "pot": pot}
    return sums | {"ranking": ranking, "rewards": rewards, "roots": roots}


def check_bundle(raw: bytes, bundle: Document) -> None:
    demand(canonical(bundle) == raw, "this is not canonical JSON")
    inputs = bundle["inputs"]
    check_policy(inputs["policy"])
    check_headers(inputs)
    check_votes(inputs)
    expected = recompute(inputs)
    for name in expected.keys() | bundle["results"].keys():
        same = canonical(bundle["results"].get(name)) == canonical(expected.get(name))
        demand(same, f"{name} is not what follows from the votes")


def check_proof(proof: Document, bundles: dict[str, Document]) -> None:
    """That the leaf and its path lead to the root, and that the root is the bundle's, if given."""
    round_id, index = proof["roundId"], proof["index"]
    if proof["tree"] == "votes":
        node, line, other = vote_node, proof["vote"], proof["reward"]
        leaf = vote_leaf(round_id, line)
    else:
        node, line, other = sum_node, proof["reward"], proof["vote"]
        leaf = reward_leaf(round_id, index, line["recipient"], line["reason"], line["amount"])
    demand(other is None, "this would prove two lines at once")
    place, path, at, width = (line["amount"], leaf), list(proof["path"]), index, proof["count"]
    while width > 1:
        if at % 2 or at < width - 1:  # else it is promoted
            step, side = path.pop(0), "left" if at % 2 else "right"
            demand(step["side"] == side, "the path is not that of the leaf's place")
            sibling = (step["sum"] or 0, bytes.fromhex(step["hash"]))
            place = node(sibling, place) if side == "left" else node(place, sibling)
        at, width = at // 2, (width + 1) // 2
    demand(0 <= index < proof["count"] and not path, "the leaf has no such place")
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
        left = bundles.get(source["roundId"])
        agree = left is None or left["results"]["carryOut"] == source["amount"]
        demand(agree, f"round {source['roundId']} left another carry")
    closing = inputs["closingBlock"]
    print(f"{name}: round {inputs['roundId']} holds: {len(inputs['votes'])} votes")
    print(f"  closed by block {closing['height']} of {inputs['network']}, {closing['hash']}")
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
