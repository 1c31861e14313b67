"""The table of transaction types. A new type is a file here and a line in `TYPES`."""

from aitbc.core.ledger.transactions import (
    evidence,
    faucet,
    job_lock,
    key_rotate,
    param_update,
    receipt_batch,
    receipt_claim,
    refund,
    register,
    settle,
    stake,
    transfer,
    unstake,
    withdraw,
)
from aitbc.core.ledger.transactions.interface import TransactionType

TYPES: dict[str, TransactionType] = {
    kind.name: kind
    for kind in (
        transfer.TRANSFER,
        job_lock.JOB_LOCK,
        receipt_claim.RECEIPT_CLAIM,
        receipt_batch.RECEIPT_BATCH,
        settle.SETTLE,
        refund.REFUND,
        register.REGISTER,
        stake.STAKE,
        unstake.UNSTAKE,
        withdraw.WITHDRAW,
        param_update.PARAM_UPDATE,
        faucet.FAUCET,
        key_rotate.KEY_ROTATE,
        evidence.EVIDENCE,
    )
}
