"""A second ledger, written from docs/spec/ and from nothing else. README.md"""
