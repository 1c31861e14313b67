"""Records everything else is written in: amounts, addresses, transactions, blocks, receipts, votes."""
