"""Records of the evaluation, as a run would have measured them."""

from dataclasses import replace

from training.report.records import Record, Speed

BICUBIC = Record(
    name="bicubic",
    scale=4,
    precision="fp32",
    sha256="b",
    architecture="interpolation",
    parameters=0,
    macs=3600,
    metrics={"Set5": {"psnr_y": 28.421, "ssim_y": 0.81044, "psnr_rgb": 26.7}},
    speed=None,
)


FAST = replace(
    BICUBIC,
    name="fast",
    sha256="f",
    parameters=70_256,
    macs=69_984,
    metrics={
        "Set5": {"psnr_y": 31.156, "ssim_y": 0.87881, "psnr_rgb": 29.26, "lpips_vgg": 0.21449},
        "B100": {"psnr_y": 26.996, "ssim_y": 0.7, "psnr_rgb": 25.0},
    },
    speed=Speed(2.4049, "2 cores of a CPU"),
)


FAST_INT8 = replace(FAST, precision="int8", sha256="i", metrics={"Set5": {"psnr_y": 31.1}}, speed=None)
