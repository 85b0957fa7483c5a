"""Order, decoding and batches: from shards to tensors."""
