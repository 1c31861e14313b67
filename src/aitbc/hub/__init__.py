"""The hub: names a price, waits for the lock, finds a provider, checks what it delivers, attests and claims."""
