"""The table of transaction types. A new type is a file here and a line in `TYPES`."""

from aitbc.core.ledger.transactions import faucet, job_lock, receipt_claim, refund, register, transfer
from aitbc.core.ledger.transactions.interface import TransactionType

TYPES: dict[str, TransactionType] = {
    kind.name: kind
    for kind in (
        transfer.TRANSFER,
        job_lock.JOB_LOCK,
        receipt_claim.RECEIPT_CLAIM,
        refund.REFUND,
        register.REGISTER,
        faucet.FAUCET,
    )
}
