"""From a trained or a foreign network to a verified ONNX file of the zoo, its int8 and fp16 forms, and the manifest."""
