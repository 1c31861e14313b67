"""Every error code in words: the chain's reasons, the hub's, the command line's. A test keeps it complete."""

from typing import NamedTuple


class Explanation(NamedTuple):
    meaning: str
    fix: str


_RETRY = "Build the transaction again; `aitbc` does it right by itself."
_REPORT = "Please report it, with the block's height: an honest node never makes such a block."
_RESEND = "Send again: `aitbc` asks the node for the right value."
_ASK_PROVIDER = "Ask the provider for the receipt as it signed it."
_ASK_HUB = "Ask the hub for its attestation of exactly this receipt."
_REFUND = "Try again; the escrow comes back after its deadline: aitbc refund LOCK --from NAME."
_PROVIDER_BUG = "The job goes to another provider; who runs this one should look at its log."
_UPGRADE = "Run the same version of aitbc on both sides."

EXPLANATIONS: dict[str, Explanation] = {
    # form of bytes and JSON
    "malformed": Explanation("The bytes are not JSON or msgpack of the expected form.", _RETRY),
    "duplicate_key": Explanation(
        "A JSON object has a key twice, or a list an entry twice.", "Remove one of them."
    ),
    "unknown_field": Explanation(
        "A field that this type does not have.", "Remove it, or check its spelling."
    ),
    "float_not_allowed": Explanation("Numbers are integers: amounts in base units.", "1.5 AIT is 1500000."),
    "out_of_range": Explanation(
        "A number or a text is too small, too large or too long.", "Stay in the range."
    ),
    "wrong_type": Explanation("A value has another type than the field.", "Compare with docs/spec."),
    "missing_field": Explanation("A field that must be there is not.", "Add it."),
    "not_canonical": Explanation(
        "The value is right but its bytes are not the one form it must have (RFC 8785, defaults left out).",
        _RETRY,
    ),
    "too_large": Explanation("The bytes exceed the limit for their kind.", "Send less at once."),
    "bad_address": Explanation("Not an ait1… address, or its checksum is wrong.", "Copy the address again."),
    "bad_hex": Explanation("Not lower-case hexadecimal of the right length.", "Copy it again, without 0x."),
    "unknown_type": Explanation("No transaction type has this name.", "See docs/spec/transactions.md."),
    "unknown_scheme": Explanation(
        "The key names no known signature scheme, or one that no member of a multisig may have.",
        "Use a scheme of docs/spec/keys.md: Ed25519 when in doubt.",
    ),
    "bad_key": Explanation(
        "The key has a length of its scheme and is none: no point of the curve, an even modulus, or members of a "
        "multisig that are not in ascending order.",
        "Take the key from whoever made it again, or make a new one.",
    ),
    "unexpected_witness": Explanation("This transaction type carries no witness.", "Leave the witness out."),
    # transaction as such
    "bad_signature": Explanation(
        "The signature is not good for these bytes, this key and this chain.",
        "Sign again, with the genesis hash of this very chain.",
    ),
    "wrong_key": Explanation("The key is not the sender's.", "Sign with the key of the sender's address."),
    "pubkey_required": Explanation(
        "The chain does not know this account's key yet.", "Send the pubkey along."
    ),
    "bad_nonce": Explanation("A transaction of this account with this nonce is in a block already.", _RESEND),
    "nonce_gap": Explanation("An earlier nonce of this account is missing.", "Send the earlier ones first."),
    "fee_too_low": Explanation("The fee is below base_fee + fee_per_kib x payload.", "Leave --fee out."),
    "fee_not_covered": Explanation(
        "The account cannot pay the fee.", "Get coins first: aitbc faucet on a devnet."
    ),
    "replacement_fee_too_low": Explanation(
        "Another transaction waits with this nonce and at least this fee.", "Wait for it, or raise --fee."
    ),
    "already_known": Explanation("The node has this transaction already.", "Nothing: look with aitbc tx ID."),
    "mempool_full": Explanation(
        "The node holds as many waiting transactions as it may.", "Try again in a moment."
    ),
    "too_many_pending": Explanation(
        "Too many transactions of this account wait.", "Wait until some are final."
    ),
    "rotation_waits": Explanation(
        "A key rotation of this account waits; what follows must be signed with the new key.",
        "Wait until it is final, then sign and send again.",
    ),
    "in_block": Explanation(
        "The transaction it would replace is in the block being made.",
        "Wait a moment, then look: aitbc tx ID.",
    ),
    "waited_too_long": Explanation("No block took the transaction for three hours.", _RESEND),
    "cannot_include": Explanation(
        "This node makes no blocks and cannot pass transactions on.", "Name a node that does with --rpc."
    ),
    "too_busy": Explanation(
        "The node serves as many requests of this kind as it may.", "Try again in a second."
    ),
    "node_stopped": Explanation(
        "The node has stopped itself and will not answer before it is started again.",
        "Name another node with --rpc; its operator finds the cause in the log.",
    ),
    # what the state says
    "insufficient_balance": Explanation(
        "The account holds less than the amount.", "See: aitbc balance NAME."
    ),
    "supply_exhausted": Explanation(
        "The total supply would exceed its limit.", "Nothing can be minted any more."
    ),
    "not_devnet": Explanation(
        "This exists on a devnet genesis only: faucet, synthetic claims, well-known keys.",
        "Run aitbc devnet, or use a key of your own.",
    ),
    "not_faucet": Explanation(
        "Only the genesis' faucet key may sign FAUCET.", "Use: aitbc faucet NAME AMOUNT."
    ),
    "faucet_limit": Explanation(
        "More than one FAUCET transaction may create.", "Ask for less, or several times."
    ),
    "unknown_hub": Explanation("The lock names a hub that nobody registered or listed.", "Use another hub."),
    "unknown_provider": Explanation(
        "The provider is not registered on the chain.", "It must REGISTER first."
    ),
    "deadline_passed": Explanation("The deadline lies before the block's time.", "Ask for a new quote."),
    "deadline_too_far": Explanation(
        "The lock would last longer than max_lock_ms.", "Choose an earlier deadline."
    ),
    "unknown_lock": Explanation("No lock has this id.", "A lock's id is the id of its JOB_LOCK transaction."),
    "lock_closed": Explanation("The lock has been settled or refunded.", "Nothing is left in it."),
    "refund_too_early": Explanation(
        "Until claim_until_ms the hub or the provider may still claim what was earned.",
        "Try again after that time.",
    ),
    "claim_too_late": Explanation(
        "Claims count until the lock's claim_until_ms.", "The client can have a refund."
    ),
    "unknown_task": Explanation("The lock pays for fewer tasks.", _ASK_PROVIDER),
    "task_already_paid": Explanation("This task of the lock has been paid.", "Nothing: each task pays once."),
    "receipt_already_claimed": Explanation(
        "This receipt has been claimed.", "Nothing: each receipt pays once."
    ),
    "receipt_id_mismatch": Explanation(
        "receipt_id is not the hash of the receipt on this chain.", _ASK_PROVIDER
    ),
    "bad_provider_signature": Explanation(
        "miner_sig is not the provider's over this receipt.", _ASK_PROVIDER
    ),
    "attestation_missing": Explanation("A claim must carry the hub's signed attestation.", _ASK_HUB),
    "attestation_mismatch": Explanation("The attestation is for another receipt.", _ASK_HUB),
    "bad_attestation_signature": Explanation("The attestation is not signed by the hub it names.", _ASK_HUB),
    "units_above_attested": Explanation(
        "More compute units are claimed than the hub attested.", _ASK_PROVIDER
    ),
    "price_above_escrow": Explanation("The price is more than what is left in the lock.", _ASK_PROVIDER),
    "wrong_client": Explanation("The receipt names another client than the lock.", _ASK_PROVIDER),
    "wrong_hub": Explanation("The attestation is by another hub than the lock names.", _ASK_HUB),
    "wrong_job": Explanation("The receipt names another job than the lock.", _ASK_PROVIDER),
    "synthetic_not_allowed": Explanation(
        "Claims without an escrow exist on a devnet genesis only.", "Claim with a lock, or run aitbc devnet."
    ),
    "unknown_synthetic_job": Explanation("Synthetic jobs are 1 to 1,000,000.", "Use a job id in that range."),
    "bad_countersignature": Explanation(
        "The hub's word for this provider is not a listed hub's signature.", "Ask the hub to sign again."
    ),
    "not_active": Explanation(
        "A type, field or key scheme that a later protocol version brings.",
        "Wait for the upgrade, or do without.",
    ),
    "jailed": Explanation(
        "The hub signed two different things about one attempt and is jailed.", "Choose another hub."
    ),
    "unknown_batch": Explanation(
        "No RECEIPT_BATCH has this id, or it has left the state.",
        "Check the id; claim the receipts one by one.",
    ),
    "batch_expired": Explanation(
        "The batch is older than a lock can be.", "Claim what is still payable one by one."
    ),
    "nothing_to_settle": Explanation(
        "No receipt of the range can be paid.", "Look at the reason of the first one in the message."
    ),
    "insufficient_stake": Explanation("Less is staked in this role.", "Unstake less."),
    "too_many_unbonding": Explanation(
        "16 parts of the stake are on their way out.", "WITHDRAW what is free first."
    ),
    "leaving_too_fast": Explanation(
        "More than a third of the voting stake would leave in one epoch.",
        "Take less, or wait for the next epoch.",
    ),
    "nothing_to_withdraw": Explanation(
        "No part of the stake is free yet.", "Wait until the time in the message."
    ),
    "bad_key_proof": Explanation(
        "The new key did not sign its own rotation, or is the old one.", "Sign the rotation with the new key."
    ),
    "too_many_rotations": Explanation(
        "The account has had eight keys that open locks may still need.",
        "Wait until the block time in the message.",
    ),
    "unknown_param": Explanation("No parameter of this name can be updated.", "Use a name of params.md."),
    "wrong_update_number": Explanation(
        "Not one more than the last update's number.", "Take the next number and have it signed again."
    ),
    "too_many_queued": Explanation("16 updates wait for the boundary.", "Wait for the next epoch."),
    "not_enough_approvals": Explanation(
        "Fewer authorities signed than are needed; or no witness (invalid).", "Collect more signatures."
    ),
    "bad_approval": Explanation(
        "An approval is not signed by its authority, or does not fit the set.",
        "Sign this very payload again.",
    ),
    "bad_update": Explanation("The update contradicts the chain's state.", "Mend what the message names."),
    "no_conflict": Explanation(
        "The two messages do not contradict each other in a way that is punished, or the block's transaction is "
        "valid in itself.",
        "Send a pair of evidence.md, in its order.",
    ),
    "bad_evidence_signature": Explanation(
        "One of the messages, or the block's candidate, is not signed by the accused.",
        "Nothing: this is no evidence.",
    ),
    "evidence_too_old": Explanation("The offence is too long ago, or lies in the future.", "Nothing."),
    "unknown_validator": Explanation("The chain knows no such validator.", "Check the address; stake first."),
    "already_punished": Explanation("This offence has been punished.", "Nothing."),
    "calibration_over": Explanation("Calibration's budget is spent or its time is over.", "Take paid jobs."),
    "wrong_calibration": Explanation(
        "Not the job that the chain drew for this provider and epoch.", "Do the job of the running epoch."
    ),
    "already_calibrated": Explanation(
        "The provider has had its calibration receipt of this epoch.", "Wait for the next epoch."
    ),
    # blocks, proofs, certificates
    "wrong_version": Explanation("A block version that this node does not know.", "Upgrade the node."),
    "wrong_chain": Explanation("It belongs to another chain.", "Compare: aitbc head, and the hub's /v1/hub."),
    "wrong_height": Explanation("The block is not the next one.", _REPORT),
    "not_enough_work": Explanation(
        "A header's hash is above its target, or a branch shows less work than the chain that it would replace.",
        _REPORT,
    ),
    "empty_block": Explanation("A block without transactions, on a chain that has none.", _REPORT),
    "invalid_parent": Explanation("A block that builds on one that was found invalid.", _REPORT),
    "below_final": Explanation(
        "A branch that leaves the chain below what is final here.",
        "Two networks have grown apart for longer than finality takes: ask others which one is theirs.",
    ),
    "wrong_parent": Explanation("The block does not follow the head.", _REPORT),
    "wrong_proposer": Explanation("Someone proposed out of turn.", _REPORT),
    "bad_timestamp": Explanation(
        "The block is not later than its parent, or is in the future.", "Check the clock."
    ),
    "root_mismatch": Explanation("Executing the block gives another result than it says.", _REPORT),
    "bad_proof": Explanation(
        "A path does not lead from the leaf to the root.", "Ask another node for the proof."
    ),
    "bad_certificate": Explanation(
        "Not enough authorities signed this block.", "Ask another node for the proof."
    ),
    "duplicate_transaction": Explanation(
        "The transaction is in the chain already.", "Nothing: it happens once."
    ),
    "damaged": Explanation(
        "Stored data is not what was written.",
        "Keep the damaged file and restore a copy beside it: no other node may have these blocks.",
    ),
    "bad_genesis": Explanation(
        "genesis.json contradicts itself.", "Make it again; the message names the field."
    ),
    # not found
    "unknown_transaction": Explanation(
        "This node has no transaction with this id.", "Check the id; a refused transaction leaves no trace."
    ),
    "unknown_block": Explanation("This node has no such block.", "See the newest one: aitbc head."),
    "no_certificate": Explanation(
        "No certificate covers this block nearby.",
        "Ask for a later block, and prove this one as its ancestor.",
    ),
    "unknown_receipt": Explanation(
        "Nobody has claimed this receipt.", "Claim it: aitbc claim FILE --from NAME."
    ),
    "unknown_job": Explanation("The hub has no such job, or the token is another's.", "Ask for a new quote."),
    "unknown_key": Explanation("No key has this name.", "See: aitbc keys list."),
    "promise_broken": Explanation(
        "A simulated run broke a promise of agreement.",
        "Run the command that was printed and read the story from its end; keep the seed as a test.",
    ),
    "unknown_code": Explanation("No error has this code.", "See all: aitbc explain."),
    # asking a hub for a quote, starting a job
    "bad_request": Explanation("The request is not possible as it is.", "Change what the message names."),
    "unknown_kind": Explanation("The hub knows no such kind of job.", "Ask for chat, image or embedding."),
    "unknown_model": Explanation("The hub knows no such model.", "Leave --model out, or see GET /v1/models."),
    "no_provider": Explanation("Nobody serves this model now.", "Start one: aitbc provider, or try later."),
    "rate_limited": Explanation("Too many requests from you.", "Wait a second and try again."),
    "too_many_quotes": Explanation("The hub holds as many open quotes as it may.", "Try again in a minute."),
    "queue_full": Explanation("The hub has as many jobs as it may.", "Try again; the escrow stays good."),
    "hub_stopping": Explanation("The hub is about to stop.", "Try again when it is back."),
    "chain_unreachable": Explanation("The hub cannot reach its node.", "Try again soon."),
    "bad_token": Explanation(
        "The token is not this job's, or not the ADMIN_TOKEN that the node (its faucet too) asks for.",
        "Use the job_token of its quote; call the node's admin route with Authorization: Bearer <ADMIN_TOKEN>.",
    ),
    "quote_expired": Explanation("The quote is too old.", "Ask again; refund an escrow made for it."),
    "not_final": Explanation(
        "It is not in the chain, or not under so many blocks.", "Wait for more blocks, then ask again."
    ),
    "lock_not_final": Explanation(
        "A hub dispatches nothing before the escrow is final.", "Wait for a block."
    ),
    "lock_failed": Explanation("The escrow's transaction has failed.", "See why: aitbc tx LOCK."),
    "lock_mismatch": Explanation("The escrow is not the one of the quote.", "Sign the quote's lock."),
    "too_late": Explanation("The job cannot be done before its deadline.", "Refund the escrow after it."),
    "not_delivered": Explanation("The job has no result yet.", "Wait for it to be delivered."),
    "too_many_followers": Explanation("The hub streams to as many clients as it may.", "Try again soon."),
    "job_over": Explanation("The job has ended.", "Ask for a new quote."),
    # asking a hub with an account
    "invalid_api_key": Explanation(
        "The hub has no such key, or it is over.", "Ask its operator: aitbc hub key new."
    ),
    "bad_request_signature": Explanation(
        "The request's signature is not good for this hub, chain and moment.",
        "Sign it again; check the clock.",
    ),
    "replayed": Explanation(
        "This signed request was sent before.", "Sign every request with a nonce of its own."
    ),
    "payment_required": Explanation(
        "Neither the account's balance nor its sessions cover the worst case.",
        "Pay in a way that `terms` names.",
    ),
    "budget_exceeded": Explanation("The key's budget does not cover the worst case.", "Use a key with more."),
    "no_session": Explanation(
        "The hub has no lock of its own that could pay for this now.",
        "Try again soon; its operator sees to its balance.",
    ),
    "model_not_allowed": Explanation("The key may not ask for this model.", "Choose another model or key."),
    "idempotency_mismatch": Explanation(
        "The Idempotency-Key was used for another request.", "Use a new one."
    ),
    "content_policy": Explanation("The hub's policy refuses the request.", "Ask for something else."),
    "unsupported_parameter": Explanation("No engine here has this parameter.", "Leave it out."),
    "deposit_mismatch": Explanation(
        "The transaction pays this account nothing at this hub.",
        "Send a TRANSFER or a session JOB_LOCK to it.",
    ),
    "unknown_api_key": Explanation("The hub has no such API key.", "See: aitbc hub key list."),
    "not_admin": Explanation(
        "An admin route was asked without the admin token.", "Use the admin.token in the hub's folder."
    ),
    # how a job ended
    "canceled": Explanation("The client has canceled the job.", "Refund the escrow after its deadline."),
    "expired": Explanation("The job's time is over.", "Refund the escrow after its deadline."),
    "provider_gone": Explanation("The provider's connection broke in the middle.", _REFUND),
    "provider_silent": Explanation("The provider stopped answering.", _REFUND),
    "provider_refused": Explanation("The provider did not take the job.", _REFUND),
    "engine_failed": Explanation("The provider's engine ended without a result.", _REFUND),
    "out_of_memory": Explanation("The provider's machine has too little memory.", "Ask for less."),
    "deadline_missed": Explanation("Nobody delivered before the deadline.", _REFUND),
    "check_failed": Explanation(
        "The work was done again elsewhere and is not what was delivered.",
        "The job goes on with another provider.",
    ),
    "calibration_failed": Explanation(
        "A calibration job is not what the reference made of it.",
        "Look at the engine; the next epoch draws another.",
    ),
    "hedged": Explanation("Another provider delivered this part first.", "Nothing."),
    "infeasible": Explanation(
        "No connected provider could ever do this request.", "Ask for what the message names instead."
    ),
    "claim_lapsed": Explanation("The hub did not claim in time.", "The client can have a refund."),
    "hub_restarted": Explanation("The hub was restarted while the job ran.", _REFUND),
    "hub_error": Explanation("Something in the hub broke.", _REFUND),
    # a delivery that a hub refuses
    "wrong_task": Explanation("A delivery for a task of another provider.", _PROVIDER_BUG),
    "forged_signature": Explanation("The delivery is not signed by its provider.", _PROVIDER_BUG),
    "details_mismatch": Explanation("The receipt's details are not those of the job.", _PROVIDER_BUG),
    "output_hash_mismatch": Explanation("The output does not hash to what the receipt says.", _PROVIDER_BUG),
    "output_too_large": Explanation("The output is larger than allowed.", _PROVIDER_BUG),
    "bad_output": Explanation("The output is not of the kind that was asked for.", _PROVIDER_BUG),
    "counts_mismatch": Explanation("The counts do not fit the request.", _PROVIDER_BUG),
    "units_mismatch": Explanation("The units do not follow from the counts.", _PROVIDER_BUG),
    "units_above_offer": Explanation("More units than were offered.", _PROVIDER_BUG),
    "price_mismatch": Explanation("The price does not follow from the units.", _PROVIDER_BUG),
    "stream_mismatch": Explanation("The streamed text is not the delivered one.", _PROVIDER_BUG),
    # the link between provider and hub
    "bad_frame": Explanation("A message on the provider link is not of its form.", _UPGRADE),
    "frame_too_large": Explanation("A message on the provider link is too large.", _UPGRADE),
    "unexpected_message": Explanation("A message on the provider link came out of order.", _UPGRADE),
    "not_authenticated": Explanation("The provider did not prove who it is.", "Check the provider's key."),
    "wrong_network": Explanation("Provider and hub are on different chains.", "Compare their --rpc."),
    "not_registered": Explanation("The provider is not on the chain yet.", "It registers when it starts."),
    "too_many_providers": Explanation("The hub has as many providers as it may.", "Use another hub."),
    "too_many_errors": Explanation("The provider made too many mistakes.", "See its log."),
    "replaced": Explanation("The same provider connected again.", "Run it once for each key."),
    "busy": Explanation("The provider has no free place.", "The hub asks another one."),
    "price_too_low": Explanation("The job pays less than the provider asks.", "Get a new quote."),
    # following a node
    "too_slow": Explanation(
        "More waited than this connection took in time.", "Read faster, follow less, or send it all at once."
    ),
    "too_many_mistakes": Explanation(
        "Too many orders of this reader were refused.", "See docs/spec/rpc.md for what may be said."
    ),
    # discovery
    "wrong_id": Explanation("The path names another node than the record.", "Use the record's node_key."),
    "record_expired": Explanation("The node record is too old.", "Sign a new one; check the node's clock."),
    "record_from_future": Explanation("The node record is from the future.", "Set the node's clock."),
    "record_lives_too_long": Explanation(
        "A node record lives two hours at most.", "Let it expire sooner and publish again."
    ),
    "bad_endpoint": Explanation(
        "An endpoint is no numeric address in its usual spelling.", "Give it like 203.0.113.7:7070."
    ),
    "private_endpoint": Explanation(
        "An endpoint cannot be reached in public.",
        "Announce a public address; on a local network: aitbc discovery --allow-private.",
    ),
    "record_forged": Explanation(
        "A node record is not signed by its record key.", "Publish from the node itself."
    ),
    "not_owner": Explanation(
        "Another record key has published this node.", "Use that key, or wait two hours."
    ),
    "stale_sequence": Explanation(
        "The service knows a newer record or removal of this node.", "Sign again; check the node's clock."
    ),
    "unknown_node": Explanation("The service does not know this node.", "Nothing has to be removed."),
    "group_full": Explanation(
        "The service lists enough nodes of this network or address.", "Use another discovery service."
    ),
    "directory_full": Explanation("The service lists as many nodes as it can.", "Try again later."),
    "node_unreachable": Explanation(
        "The service called the node back, and nobody with its node key answered on its chain.",
        "Open its port; check --announce, --p2p-host and --p2p-port.",
    ),
    "not_vouched": Explanation(
        "The node answered the service, but the record is not signed by the key that it names.",
        "Publish from the node itself: aitbc node start --announce.",
    ),
    "asked_too_often": Explanation("Too many requests from you to this service.", "Wait a minute."),
    "too_many_checks": Explanation("The service calls as many nodes as it can.", "Try again in a minute."),
    # client
    "bad_quote": Explanation(
        "The hub's quote is not for what was asked; nothing was paid.", "Use another hub."
    ),
    "too_expensive": Explanation(
        "The quote is above --max-price; nothing was paid.", "Allow more, or ask for less."
    ),
    "fee_too_high": Explanation(
        "The node asks more for a transaction than --max-fee; nothing was signed.",
        "Use another node with --rpc, or allow more.",
    ),
    "not_started": Explanation("The job was paid for and never started.", _REFUND),
    "stopped": Explanation("You stopped it in the middle.", "Do what the message says."),
    "result_rejected": Explanation(
        "The delivered result does not hold what its receipt says; it was thrown away.",
        "Take the escrow back after its deadline: aitbc refund LOCK --from NAME.",
    ),
    "dropped": Explanation("The node dropped the transaction before it was in a block.", "Send it again."),
    "loopback_only": Explanation("Admin routes answer on the node's own machine only.", "Call from there."),
    "admin_token_unset": Explanation(
        "Away from a devnet a node's admin routes answer only with its ADMIN_TOKEN, and this node was given none.",
        "Start the node with ADMIN_TOKEN set, then send Authorization: Bearer <ADMIN_TOKEN>.",
    ),
    "no_browsers": Explanation("This route does not answer pages of other places.", "Use the command line."),
    "bad_answer": Explanation("The server's answer is not what its interface promises.", "Check the URL."),
    "proof_missing": Explanation("The node does not prove this transaction.", "Ask another node with --rpc."),
    "unreachable": Explanation("Nothing answered at the URL.", "Start a devnet, or set --rpc and --hub."),
    "timed_out": Explanation("It was not done in the time that you gave.", "Look later, or allow more time."),
    # command line and keys
    "usage": Explanation(
        "The command line is not understood; nothing was done.", "See: aitbc COMMAND --help."
    ),
    "failed": Explanation("The command did not succeed.", "The message says why."),
    "file_error": Explanation("A file or folder cannot be used.", "Check the path and its permissions."),
    "not_a_devnet": Explanation("The folder holds something else.", "Give an empty folder with --data."),
    "folder_in_use": Explanation("A program works on the folder.", "Stop it, or choose another folder."),
    "bad_config": Explanation(
        "A setting cannot be what it is, or contradicts the genesis document.",
        "Mend what the message names; `aitbc config show --origin` says where each setting comes from.",
    ),
    "program_stopped": Explanation("A program of the devnet ended.", "The message says why; see its log."),
    "bad_file": Explanation("The file is not what the command reads.", "Give the .receipt.json file."),
    "bad_receipt": Explanation(
        "The receipt does not hold, so claiming it would only cost a fee.", _ASK_PROVIDER
    ),
    "missing_extra": Explanation(
        "An optional package is not installed.", "Run the command that the message names."
    ),
    "missing_package": Explanation("A package that aitbc needs is not installed.", "Install aitbc again."),
    "password_needed": Explanation(
        "A key is locked and there is no terminal.", "Name a file with the password in AITBC_PASSWORD_FILE."
    ),
    "key_exists": Explanation("The name is taken.", "Choose another name."),
    "bad_key_name": Explanation("A name has 1 to 32 of a-z, 0-9, - and _.", "Choose another name."),
    "weak_password": Explanation("The password is too short.", "Use at least 8 characters."),
    "wrong_password": Explanation("The password does not open this key.", "Try again; nobody can reset it."),
    "key_file_truncated": Explanation(
        "The wallet file is cut off.", "Restore a copy or import its words again."
    ),
    "key_file_tampered": Explanation(
        "The wallet file was changed.", "Restore a copy or import its words again."
    ),
    "key_file_unreadable": Explanation(
        "The system does not let us use the file.", "Check owner and permissions."
    ),
    "key_file_unknown": Explanation("The wallet file is of a newer version.", "Use a newer aitbc."),
    "bad_secret": Explanation(
        "These are no words or key that aitbc knows.", "12 to 24 English words, or 64 hex."
    ),
    # wallet
    "chain_changed": Explanation(
        "A node, or a file, names another chain than the one that is remembered for it. Nothing was signed: a signature"
        " for the wrong chain could move your coins there.",
        "Ask another node with --rpc; see `aitbc chain list`, and `aitbc chain forget` if the change is right.",
    ),
    "other_chain": Explanation(
        "The node is on another chain than the one that was named.", "Ask a node of your chain with --rpc."
    ),
    "unknown_chain": Explanation("No such chain or node is remembered.", "See: aitbc chain list."),
    "no_key_here": Explanation(
        "The account's key is not in this keystore, or it takes several.",
        "Write the transaction to a file with --unsigned FILE and sign it where the key is: aitbc tx sign FILE.",
    ),
    "not_a_signer": Explanation(
        "This key is neither the account's nor a member of its multisig.",
        "See who may sign: aitbc tx decode FILE.",
    ),
    "signatures_missing": Explanation(
        "Not enough owners have signed.",
        "aitbc tx sign FILE --key NAME, and aitbc tx combine for several copies.",
    ),
    "other_transaction": Explanation(
        "The files are not copies of the same transaction.", "Begin again from one unsigned file."
    ),
    "bad_envelope": Explanation(
        "The file is no transaction to sign, was changed, or has a signature that is not good.",
        "Make it again with --unsigned FILE.",
    ),
    "bad_account_file": Explanation(
        "A file of a watched or multisig account cannot be read.", "Remove it, and add the account again."
    ),
    "file_is_open": Explanation(
        "A file with a secret can be read by others on this machine.",
        "chmod 600 FILE, and think who has read it.",
    ),
    # a node's HTTP routes
    "bad_parameter": Explanation("A parameter of the URL has the wrong form.", "See the route at /docs."),
    "bad_peer": Explanation("A peer is named by something that cannot be dialled.", "Give address and port."),
    "internal_error": Explanation("The server met a bug of ours.", "Report it with the server's log."),
    "method_not_allowed": Explanation("The path exists, with another method.", "See the route at /docs."),
    "no_network": Explanation(
        "The node talks to no others.", "Start it with --p2p-port, --peer or --bootstrap."
    ),
    "not_authority": Explanation(
        "The node's key is not in the running validator set.", "Ask the node of a validator."
    ),
    "discovery_only": Explanation(
        "The node tells others where nodes are, and has no chain.",
        "Ask another node, or name it in BOOTSTRAP_PEERS.",
    ),
    "not_found": Explanation("The server has no such path.", "See /docs for what there is."),
    "storage_damaged": Explanation(
        "What is on the node's disk cannot be trusted or read.", "Its operator restores a copy."
    ),
    "too_many_connections": Explanation("The server has as many as it takes.", "Try again in a moment."),
    "too_old": Explanation(
        "What a follower asked for again is not held any more.", "Read blocks or the account's history."
    ),
}
