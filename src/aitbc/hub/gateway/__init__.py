"""OpenAI's shape and seed 003's in front of the hub's jobs. docs/spec/gateway.md"""
