"""Who may ask for work without a lock of its own, and what that costs. docs/spec/accounts.md"""
