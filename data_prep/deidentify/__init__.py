"""Taking out what identifies a person: from tags, from pixels, and from text."""
