"""``enlarger models``: lists the networks in the model folder."""

import argparse

from app.inference.zoo import load_zoo
from app.settings import Settings
from app.upscale.auto import AUTO, KINDS, candidates


def run(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="enlarger models", description="List the networks.").parse_args(arguments)
    settings = Settings()
    zoo = load_zoo(settings.models)
    print(f"{'model':<14}{'scale':>6}{'parameters':>12}{'kMAC/px':>9}{'Set5 dB':>9}{'Set14 dB':>10}{'strength':>10}")
    for spec in zoo:
        metrics = next(iter(spec.files.values())).metrics
        figures = [metrics.get(name, {}).get("psnr_y") for name in ("Set5", "Set14")]
        set5, set14 = ("-" if figure is None else f"{figure:.2f}" for figure in figures)
        strength = "0 to 1" if spec.strength else "-"
        name = spec.name + (" *" if spec.name == zoo.default else "")
        told = f"{set5:>9}{set14:>10}{strength:>10}"
        print(f"{name:<14}{spec.scale:>6}{spec.parameters:>12,}{spec.macs / 1000:>9.1f}{told}")
    print("* the default network")
    taken = ", ".join(f"{name} for {KINDS[kind]}" for kind, name in candidates(zoo).items())
    print(f"auto{' (the default)' if settings.default_model == AUTO else ''} looks at each image: {taken}")
    if settings.default_model != AUTO:
        print(f"{settings.default_model} is used if no model is named (ENLARGER_DEFAULT_MODEL)")
    return 0
