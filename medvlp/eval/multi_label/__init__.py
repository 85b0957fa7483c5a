"""Several labels an item: findings that an image shows or does not."""
