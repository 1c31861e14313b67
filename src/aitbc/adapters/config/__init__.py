"""What an operator can set, wherever it is written: one loader for node and hub. docs/howto/configure.md"""
