CREATE TABLE meta (
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY (key)
);

CREATE TABLE blocks (
    height BIGINT NOT NULL,
    id BYTEA NOT NULL,
    parent_id BYTEA NOT NULL,
    timestamp BIGINT NOT NULL,
    timestamp_ms BIGINT NOT NULL,
    proposer TEXT COLLATE "C" NOT NULL,
    tx_count BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    state_root BYTEA NOT NULL,
    sig BYTEA NOT NULL,
    raw BYTEA NOT NULL,
    checksum BYTEA NOT NULL,
    PRIMARY KEY (height),
    UNIQUE (id)
);

CREATE TABLE tx (
    height BIGINT NOT NULL,
    position BIGINT NOT NULL,
    id BYTEA NOT NULL,
    block_id BYTEA NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    payload_json TEXT COLLATE "C" NOT NULL,
    sender TEXT COLLATE "C" NOT NULL,
    nonce BIGINT NOT NULL,
    fee BIGINT NOT NULL,
    sig BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    raw BYTEA NOT NULL,
    checksum BYTEA NOT NULL,
    PRIMARY KEY (height, position),
    UNIQUE (id)
);

CREATE TABLE account_tx (
    address TEXT COLLATE "C" NOT NULL,
    height BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (address, height, position)
);

CREATE TABLE accounts (
    address TEXT COLLATE "C" NOT NULL,
    idx BIGINT NOT NULL,
    balance BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    pubkey BYTEA NOT NULL,
    PRIMARY KEY (address)
);

CREATE TABLE params (
    key TEXT COLLATE "C" NOT NULL,
    idx BIGINT NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (key)
);

CREATE TABLE records (
    store TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    idx BIGINT NOT NULL,
    raw TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (store, key)
);

CREATE TABLE receipts (
    height BIGINT NOT NULL,
    position BIGINT NOT NULL,
    place BIGINT NOT NULL,
    receipt_id TEXT COLLATE "C" NOT NULL,
    job_id TEXT COLLATE "C" NOT NULL,
    client_addr TEXT COLLATE "C" NOT NULL,
    miner_addr TEXT COLLATE "C" NOT NULL,
    compute_units BIGINT NOT NULL,
    price BIGINT NOT NULL,
    output_hash TEXT COLLATE "C" NOT NULL,
    miner_sig TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    hub TEXT COLLATE "C" NOT NULL,
    minted BIGINT NOT NULL,
    lock TEXT COLLATE "C" NOT NULL,
    task BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    timestamp_ms BIGINT NOT NULL,
    checksum BYTEA NOT NULL,
    PRIMARY KEY (height, position, place)
);

CREATE INDEX ix_receipts_client ON receipts (client_addr, height, position, place);

CREATE INDEX ix_receipts_job ON receipts (job_id, height, position, place);

CREATE INDEX ix_receipts_miner ON receipts (miner_addr, height, position, place);

CREATE INDEX ix_receipts_receipt_id ON receipts (receipt_id);

CREATE TABLE history_nodes (
    level BIGINT NOT NULL,
    position BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    checksum BYTEA NOT NULL,
    PRIMARY KEY (level, position)
);

CREATE TABLE undo (
    height BIGINT NOT NULL,
    raw BYTEA NOT NULL,
    checksum BYTEA NOT NULL,
    PRIMARY KEY (height)
);

CREATE TABLE validator_sets (
    hash BYTEA NOT NULL,
    raw BYTEA NOT NULL,
    PRIMARY KEY (hash)
);

CREATE TABLE waiting (
    position BIGINT NOT NULL,
    raw BYTEA NOT NULL,
    checksum BYTEA NOT NULL,
    PRIMARY KEY (position)
);

CREATE TABLE peers (
    node_id TEXT COLLATE "C" NOT NULL,
    addr TEXT COLLATE "C" NOT NULL,
    last_seen BIGINT NOT NULL,
    score BIGINT NOT NULL,
    PRIMARY KEY (node_id)
);
