"""The networks and their queue: model files, engine, scheduler. The only importer of ONNX Runtime."""
