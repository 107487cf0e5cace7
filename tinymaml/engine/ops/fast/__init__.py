"""What runs in place of the plain forms: blocks that fit the cache, and steps fused in one pass."""
