"""The judge of scripts and signatures is the official SDK, not our own library."""

from collections.abc import Sequence

from bsv.script.script import (
    Script,
)
from bsv.script.spend import Spend
from bsv.transaction_input import (
    TransactionInput,
)
from bsv.transaction_output import (
    TransactionOutput,
)

from memepool_chain.tx import Tx, TxOut


class ScriptRefusedError(Exception):
    """An input's unlocking script does not satisfy the output it spends; says which and why."""


def check_scripts(tx: Tx, spent: Sequence[TxOut]) -> None:
    """Run every input's scripts against `spent`, the outputs they spend, in input order.

    Raises ScriptRefusedError for the first input that fails.
    """
    try:
        outputs = [TransactionOutput(Script(out.script), out.satoshis) for out in tx.outputs]
        inputs = [_sdk_input(tx, index, out) for index, out in enumerate(spent)]
    except Exception as error:  # the SDK has no common error for odd scripts
        raise ScriptRefusedError(f"Script could not be parsed: {_reason(error)}") from error
    for index, source in enumerate(tx.inputs):
        spend = Spend(
            {
                "sourceTXID": source.prev_txid,
                "sourceOutputIndex": source.prev_vout,
                "sourceSatoshis": spent[index].satoshis,
                "lockingScript": inputs[index].locking_script,
                "transactionVersion": tx.version,
                "otherInputs": inputs[:index] + inputs[index + 1 :],
                "outputs": outputs,
                "inputIndex": index,
                "unlockingScript": inputs[index].unlocking_script,
                "inputSequence": source.sequence,
                "lockTime": tx.locktime,
            }
        )
        try:
            valid = spend.validate()
        except Exception as error:  # RuntimeError mostly, others for odd bytes
            raise ScriptRefusedError(f"input {index}: {_reason(error)}") from error
        if not valid:
            raise ScriptRefusedError(f"input {index}: Script evaluated without error but false")


def _sdk_input(tx: Tx, index: int, spent: TxOut) -> TransactionInput:
    source = tx.inputs[index]
    sdk_input = TransactionInput(
        source_txid=source.prev_txid,
        source_output_index=source.prev_vout,
        unlocking_script=Script(source.script),
        sequence=source.sequence,
    )
    sdk_input.locking_script = Script(spent.script)
    sdk_input.satoshis = spent.satoshis
    return sdk_input


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].removeprefix("Script evaluation error: ") if lines else type(error).__name__


def asm(script: bytes) -> str:
    """The script in words, as the node shows it; "[error]" when it cannot be parsed."""
    try:
        return str(Script(script).to_asm())
    except Exception:  # noqa: BLE001  # as above
        return "[error]"
