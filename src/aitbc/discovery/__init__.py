"""`aitbc discovery`: where nodes find their first peers. Signed records that expire, each checked by calling back.

It is told and asked over HTTP and trusted by nobody: what it says is a hint among others. docs/spec/discovery.md
"""
