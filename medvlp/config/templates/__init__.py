"""Files of templates, and files that are checked key by key."""
