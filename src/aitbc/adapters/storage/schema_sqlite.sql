CREATE TABLE meta (
    "key" TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY ("key")
);

CREATE TABLE blocks (
    height INTEGER NOT NULL,
    id BLOB NOT NULL,
    parent_id BLOB NOT NULL,
    timestamp INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    proposer TEXT NOT NULL,
    tx_count INTEGER NOT NULL,
    hash BLOB NOT NULL,
    state_root BLOB NOT NULL,
    sig BLOB NOT NULL,
    raw BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (height),
    UNIQUE (id)
);

CREATE TABLE tx (
    height INTEGER NOT NULL,
    position INTEGER NOT NULL,
    id BLOB NOT NULL,
    block_id BLOB NOT NULL,
    type TEXT NOT NULL,
    payload_json TEXT NOT NULL,
    sender TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    fee INTEGER NOT NULL,
    sig BLOB NOT NULL,
    hash BLOB NOT NULL,
    status TEXT NOT NULL,
    raw BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (height, position),
    UNIQUE (id)
);

CREATE TABLE account_tx (
    address TEXT NOT NULL,
    height INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (address, height, position)
)
 WITHOUT ROWID;

CREATE TABLE accounts (
    address TEXT NOT NULL,
    idx INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    pubkey BLOB NOT NULL,
    PRIMARY KEY (address)
)
 WITHOUT ROWID;

CREATE TABLE params (
    "key" TEXT NOT NULL,
    idx INTEGER NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY ("key")
);

CREATE TABLE records (
    store TEXT NOT NULL,
    "key" TEXT NOT NULL,
    idx INTEGER NOT NULL,
    raw TEXT NOT NULL,
    PRIMARY KEY (store, "key")
);

CREATE TABLE receipts (
    height INTEGER NOT NULL,
    position INTEGER NOT NULL,
    place INTEGER NOT NULL,
    receipt_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    client_addr TEXT NOT NULL,
    miner_addr TEXT NOT NULL,
    compute_units INTEGER NOT NULL,
    price INTEGER NOT NULL,
    output_hash TEXT NOT NULL,
    miner_sig TEXT NOT NULL,
    status TEXT NOT NULL,
    hub TEXT NOT NULL,
    minted INTEGER NOT NULL,
    lock TEXT NOT NULL,
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (height, position, place)
);

CREATE INDEX ix_receipts_client ON receipts (client_addr, height, position, place);

CREATE INDEX ix_receipts_job ON receipts (job_id, height, position, place);

CREATE INDEX ix_receipts_miner ON receipts (miner_addr, height, position, place);

CREATE INDEX ix_receipts_receipt_id ON receipts (receipt_id);

CREATE TABLE history_nodes (
    level INTEGER NOT NULL,
    position INTEGER NOT NULL,
    hash BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (level, position)
)
 WITHOUT ROWID;

CREATE TABLE undo (
    height INTEGER NOT NULL,
    raw BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (height)
);

CREATE TABLE validator_sets (
    hash BLOB NOT NULL,
    raw BLOB NOT NULL,
    PRIMARY KEY (hash)
);

CREATE TABLE waiting (
    position INTEGER NOT NULL,
    raw BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (position)
);

CREATE TABLE peers (
    node_id TEXT NOT NULL,
    addr TEXT NOT NULL,
    last_seen INTEGER NOT NULL,
    score INTEGER NOT NULL,
    PRIMARY KEY (node_id)
);
