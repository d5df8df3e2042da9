"""The workshop: where models come from, how they become ONNX graphs, and proof that they agree."""
