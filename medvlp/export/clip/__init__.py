"""CLIP models as folders for stock transformers and for onnxruntime: what is written, and the test that it computes the same."""
