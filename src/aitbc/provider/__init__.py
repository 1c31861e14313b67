"""The provider: runs engines in a child process, does a hub's tasks, signs receipts, earns.

The engine child is started as `python -m aitbc.provider.engine_host`, so this package imports nothing by itself.
"""
