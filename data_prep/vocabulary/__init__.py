"""Knowledge that sources and stages share: licences, modalities, texts."""
