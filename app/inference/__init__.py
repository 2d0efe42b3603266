"""The networks, and whose windows run when: model files, engine, scheduler. The only importer of ONNX Runtime."""
