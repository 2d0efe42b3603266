"""``enlarger models``: lists the networks in the model folder."""

import argparse

from app.inference.zoo import load_zoo
from app.settings import Settings


def run(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="enlarger models", description="List the networks.").parse_args(arguments)
    zoo = load_zoo(Settings().models)
    print(f"{'model':<14}{'scale':>6}{'parameters':>12}{'kMAC/px':>9}{'Set5 dB':>9}{'Set14 dB':>10}{'strength':>10}")
    for spec in zoo:
        metrics = next(iter(spec.files.values())).metrics
        figures = [metrics.get(name, {}).get("psnr_y") for name in ("Set5", "Set14")]
        set5, set14 = ("-" if figure is None else f"{figure:.2f}" for figure in figures)
        strength = "0 to 1" if spec.strength else "-"
        name = spec.name + (" *" if spec.name == zoo.default else "")
        told = f"{set5:>9}{set14:>10}{strength:>10}"
        print(f"{name:<14}{spec.scale:>6}{spec.parameters:>12,}{spec.macs / 1000:>9.1f}{told}")
    print("* the default")
    return 0
