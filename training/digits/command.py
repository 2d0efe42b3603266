"""``python -m training digits``: train, judge, show the progress, export."""

import argparse
from pathlib import Path

import numpy as np

from app.settings import MODELS
from training.digits.data import load_split
from training.digits.export import export_digits
from training.digits.judge import draw, judge, load_judge, look
from training.digits.networks import to_tensor
from training.digits.recipe import load_digits_recipe
from training.digits.train import draw_progress, load_generator, train_digits

JUDGED = 10_000  # samples
JUDGE_SEED = 0


def add_commands(root: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    digits = root.add_parser("digits", help="digits drawn from noise")
    digits.add_argument("--pictures", type=Path, help="MNIST's folder, or one of that shape (default: DATA/mnist)")
    commands = digits.add_subparsers(required=True, metavar="COMMAND")
    for name, run, told in (
        ("train", run_train, "train a recipe, or go on with it"),
        ("judge", run_judge, "how sure, how varied and how near to real digits its samples are"),
        ("progress", run_progress, "the sample grids at steps 0, 400, 5,000 and 10,000 side by side"),
        ("export", run_export, "write the ONNX file and its manifest entry, with metrics"),
    ):
        command = commands.add_parser(name, help=told)
        command.add_argument("recipes", nargs="+", metavar="RECIPE")
        command.set_defaults(run=run)
        if name == "export":
            command.add_argument("--models", type=Path, default=MODELS)


def pictures_of(options: argparse.Namespace) -> Path:
    return options.pictures or options.data / "mnist"


def run_train(options: argparse.Namespace) -> None:
    data = load_split(pictures_of(options), "train")
    for name in options.recipes:
        train_digits(load_digits_recipe(name), data, options.runs)


def run_judge(options: argparse.Namespace) -> None:
    print(verdicts(options))


def verdicts(options: argparse.Namespace) -> str:
    """One line a recipe, and one for real digits: the first half of the test set against the second."""
    train, test = (load_split(pictures_of(options), split) for split in ("train", "t10k"))
    classifier, accuracy = load_judge(train, test, options.runs / "digits-judge.pt")
    real = to_tensor(np.array(test.pictures))
    order = np.random.default_rng(JUDGE_SEED).permutation(len(test))
    one, other = order[::2], order[1::2]
    features, _ = look(classifier, real)
    judged = {"real test digits, half against half": judge(classifier, real[one], features[other])}
    for name in options.recipes:
        recipe = load_digits_recipe(name)
        generator, _ = load_generator(recipe, options.runs)
        judged[name] = judge(classifier, draw(generator, recipe.latent, JUDGED, JUDGE_SEED), features)
    lines = [f"judge: {accuracy:.2%} right on {len(test):,} test pictures", "| samples | sure | Frechet | classes, % |"]
    lines.append("| --- | --- | --- | --- |")
    for name, one_judged in judged.items():
        classes = " ".join(f"{100 * share:.1f}" for share in one_judged.classes)
        lines.append(f"| {name} | {one_judged.sure:.1%} | {one_judged.frechet:.3f} | {classes} |")
    return "\n".join(lines)


def run_progress(options: argparse.Namespace) -> None:
    for name in options.recipes:
        print(draw_progress(load_digits_recipe(name), options.runs))


def run_export(options: argparse.Namespace) -> None:
    train, test = (load_split(pictures_of(options), split) for split in ("train", "t10k"))
    judged_by = load_judge(train, test, options.runs / "digits-judge.pt")
    for name in options.recipes:
        export_digits(load_digits_recipe(name), options.runs, options.models, judged_by, test)
