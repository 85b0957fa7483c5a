"""Models of transformers by folder or hub name: CLIP-like encoders, models of images and text, language models."""
