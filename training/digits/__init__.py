"""Digits drawn from noise: the source's dense GAN and a convolutional one, their judge and their ONNX face."""
