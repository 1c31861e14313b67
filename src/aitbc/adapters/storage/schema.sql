CREATE TABLE accounts (
	address VARCHAR NOT NULL,
	idx BIGINT NOT NULL,
	balance BIGINT NOT NULL,
	nonce BIGINT NOT NULL,
	pubkey BLOB NOT NULL,
	PRIMARY KEY (address)
);

CREATE TABLE blocks (
	height INTEGER NOT NULL,
	id TEXT NOT NULL,
	parent_id VARCHAR NOT NULL,
	timestamp BIGINT NOT NULL,
	proposer VARCHAR NOT NULL,
	tx_count INTEGER NOT NULL,
	hash VARCHAR NOT NULL,
	state_root VARCHAR NOT NULL,
	sig VARCHAR NOT NULL,
	raw BLOB NOT NULL,
	PRIMARY KEY (height),
	UNIQUE (id)
);

CREATE TABLE meta (
	"key" VARCHAR NOT NULL,
	value BLOB NOT NULL,
	PRIMARY KEY ("key")
);

CREATE TABLE params (
	"key" VARCHAR NOT NULL,
	idx BIGINT NOT NULL,
	value VARCHAR NOT NULL,
	PRIMARY KEY ("key")
);

CREATE TABLE peers (
	node_id VARCHAR NOT NULL,
	addr VARCHAR NOT NULL,
	last_seen BIGINT NOT NULL,
	score INTEGER NOT NULL,
	PRIMARY KEY (node_id)
);

CREATE TABLE receipts (
	receipt_id VARCHAR NOT NULL,
	idx BIGINT NOT NULL,
	job_id VARCHAR NOT NULL,
	client_addr VARCHAR NOT NULL,
	miner_addr VARCHAR NOT NULL,
	compute_units BIGINT NOT NULL,
	price BIGINT NOT NULL,
	output_hash VARCHAR NOT NULL,
	miner_sig VARCHAR NOT NULL,
	status VARCHAR NOT NULL,
	raw VARCHAR NOT NULL,
	PRIMARY KEY (receipt_id)
);

CREATE INDEX ix_receipts_client_addr ON receipts (client_addr);

CREATE INDEX ix_receipts_job_id ON receipts (job_id);

CREATE INDEX ix_receipts_miner_addr ON receipts (miner_addr);

CREATE TABLE records (
	store VARCHAR NOT NULL,
	"key" VARCHAR NOT NULL,
	idx BIGINT NOT NULL,
	raw VARCHAR NOT NULL,
	PRIMARY KEY (store, "key")
);

CREATE TABLE tx (
	id VARCHAR NOT NULL,
	block_id VARCHAR NOT NULL,
	height INTEGER NOT NULL,
	position INTEGER NOT NULL,
	type VARCHAR NOT NULL,
	payload_json VARCHAR NOT NULL,
	sender VARCHAR NOT NULL,
	nonce BIGINT NOT NULL,
	fee BIGINT NOT NULL,
	sig VARCHAR NOT NULL,
	hash VARCHAR NOT NULL,
	status VARCHAR NOT NULL,
	raw BLOB NOT NULL,
	PRIMARY KEY (id)
);

CREATE INDEX ix_tx_height ON tx (height);

CREATE INDEX ix_tx_sender ON tx (sender);
