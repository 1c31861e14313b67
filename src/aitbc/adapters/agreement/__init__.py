"""What a validator must not forget, on disk: the write-ahead log and the signer guard."""
